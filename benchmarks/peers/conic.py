"""Interior-point solvers for cones: Clarabel and Moreau on raw matrices, and Clarabel through cvxpy."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import scipy.sparse as sp

from ..instances import Instance
from . import lp as programs
from .base import Answer, Solve


def clarabel(instance: Instance) -> Solve:
    """Clarabel's own interface, at its default tolerances of 1e-8."""
    import clarabel as solver

    form = programs.conic(programs.primal(instance))
    nothing = sp.csc_matrix((len(form.cost), len(form.cost)))

    def solve() -> Answer:
        settings: Any = solver.DefaultSettings()  # type: ignore[attr-defined]
        settings.verbose = False
        cones = [solver.ZeroConeT(form.zeros), solver.NonnegativeConeT(len(form.right) - form.zeros)]  # type: ignore[attr-defined]
        run = solver.DefaultSolver(nothing, form.cost, form.matrix, form.right, cones, settings)  # type: ignore[attr-defined]
        solution = run.solve()
        details = {"iterations": int(solution.iterations), "said": str(solution.status)}
        return Answer(np.array(solution.x)[: instance.assets], details=details)

    return solve


def moreau(instance: Instance) -> Solve:
    """Moreau's own interface on the CPU, at its default tolerances of 1e-8."""
    solver: Any = importlib.import_module("moreau")
    form = programs.conic(programs.primal(instance))
    nothing, matrix = sp.csr_array((len(form.cost), len(form.cost))), sp.csr_array(form.matrix)
    cones = solver.Cones(num_zero_cones=form.zeros, num_nonneg_cones=len(form.right) - form.zeros)

    def solve() -> Answer:
        run = solver.Solver(nothing, form.cost, matrix, form.right, cones=cones, settings=solver.Settings(device="cpu"))
        solution = run.solve()
        details = {"iterations": int(run.info.iterations), "said": str(run.info.status)}
        return Answer(np.array(solution.x)[: instance.assets], details=details)

    return solve


def cvxpy(instance: Instance) -> Solve:
    """Clarabel through cvxpy, canonicalised anew each time, as its users call it."""
    import cvxpy as cp

    s, n = instance.scenarios, instance.assets

    def solve() -> Answer:
        w, t, excess = cp.Variable(n), cp.Variable(), cp.Variable(s, nonneg=True)
        risk = t + cp.sum(excess) / ((1.0 - instance.beta) * s)
        gain = instance.mean @ w
        constraints: list[Any] = [excess >= -instance.returns @ w - t, cp.sum(w) == 1, w >= 0, w <= instance.cap]
        if instance.sector_cap is not None:
            constraints.append(instance.sector_rows @ w <= instance.sector_cap)
        if instance.turnover is not None:
            constraints.append(cp.norm1(w - instance.holdings) <= instance.turnover)
        if instance.target is not None:
            constraints.append(gain >= instance.target)
        if instance.cvar_limit is not None:
            constraints.append(risk <= instance.cvar_limit)
        problem = cp.Problem(cp.Maximize(instance.reward * gain - instance.aversion * risk), constraints)
        problem.solve(solver=cp.CLARABEL)
        return Answer(np.asarray(w.value, dtype=np.float64), details={"said": str(problem.status)})

    return solve

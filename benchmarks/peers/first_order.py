"""First-order methods: cvqp (ADMM for a CVaR limit) and MPAX (restarted primal-dual hybrid gradient), in 64 bits."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp

from ..instances import Instance
from . import lp as programs
from .base import Answer, Solve


def cvqp(tolerance: float | None = None) -> Callable[[Instance], Solve]:
    """cvqp at its default tolerances (1e-4 absolute, 1e-3 relative), or at `tolerance` for both.

    It knows CVaR as a limit only: where CVaR is in the objective, a column t is charged for it and the limit is
    CVaR(-R w - t) <= 0. A turnover limit takes N more columns.
    """

    def prepare(instance: Instance) -> Solve:
        solver: Any = importlib.import_module("cvqp")
        n, scale = instance.assets, programs.unit(instance)
        mean = instance.mean * scale
        level = 0 if instance.cvar_limit is not None else 1
        trades = n if instance.turnover is not None else 0
        losses = np.hstack([-instance.returns * scale, np.full((instance.scenarios, level), -1.0)])
        losses = np.hstack([losses, np.zeros((instance.scenarios, trades))])
        blank, eye = sp.csr_matrix((n, level)), sp.eye(n)
        rows: list[Any] = [sp.csr_matrix(np.ones((1, n))), eye]
        lower, upper = [np.ones(1), np.zeros(n)], [np.ones(1), np.full(n, instance.cap)]
        if instance.sector_cap is not None:
            rows.append(sp.csr_matrix(instance.sector_rows))
            lower.append(np.full(len(instance.sector_cap), -np.inf))
            upper.append(instance.sector_cap)
        if instance.target is not None:
            rows.append(sp.csr_matrix(mean[None]))
            lower.append(np.array([instance.target * scale]))
            upper.append(np.array([np.inf]))
        held = sp.vstack(rows)
        limits = sp.hstack([held, sp.csr_matrix((int(held.shape[0]), level + trades))])  # type: ignore[index]
        if instance.turnover is not None and instance.holdings is not None:
            total = sp.hstack([sp.csr_matrix((1, n + level)), np.ones((1, n))])
            limits = sp.vstack([limits, sp.hstack([-eye, blank, eye]), sp.hstack([eye, blank, eye]), total])
            lower += [-instance.holdings, instance.holdings, np.array([-np.inf])]
            upper += [np.full(2 * n, np.inf), np.array([instance.turnover])]
        cost = np.concatenate([-instance.reward * mean, np.full(level, instance.aversion), np.zeros(trades)])
        limit = 0.0 if instance.cvar_limit is None else instance.cvar_limit * scale
        least, most, matrix = np.concatenate(lower), np.concatenate(upper), sp.csr_matrix(limits)
        settings = solver.Settings()
        if tolerance is not None:
            # its adaptive step never settles at such tolerances on some of the instances; a fixed one does
            settings = solver.Settings(
                abstol=tolerance, reltol=tolerance, max_iter=10**8, adaptive_rho=False, rho=10.0, time_limit=np.inf
            )

        def solve() -> Answer:
            r = solver.solve(None, cost, losses, matrix, least, most, instance.beta, limit, settings=settings)
            return Answer(np.array(r.x)[:n], details={"iterations": int(r.iterations), "said": str(r.status)})

        return solve

    return prepare


def mpax(tolerance: float) -> Callable[[Instance], Solve]:
    """MPAX's raPDHG on the sparse primal program, compiled ahead; its default tolerance is 1e-4."""

    def prepare(instance: Instance) -> Solve:
        import jax
        from jax.experimental import sparse

        module: Any = importlib.import_module("mpax")
        lp = programs.primal(instance)
        rows = programs.standard(lp)
        with jax.enable_x64(True):
            numbers = [jax.numpy.asarray(a) for a in (lp.cost, rows.equal_to, rows.above_from, lp.lower, lp.upper)]
            cost, equal_to, above_from, lower, upper = numbers
            equal, above = (sparse.BCOO.from_scipy_sparse(matrix) for matrix in (rows.equal, rows.above))
            problem = module.create_lp(cost, equal, equal_to, above, above_from, lower, upper)
            solver = module.raPDHG(eps_abs=tolerance, eps_rel=tolerance)
            start = time.perf_counter()
            compiled = jax.jit(solver.optimize).lower(problem).compile()
            compile_seconds = time.perf_counter() - start

        def solve() -> Answer:
            with jax.enable_x64(True):
                output = compiled(problem)
                weights = np.asarray(output.primal_solution)[: instance.assets]
            details = {"iterations": int(output.iteration_count), "compiled_ahead_seconds": compile_seconds}
            return Answer(np.array(weights, dtype=np.float64), details=details)

        return solve

    return prepare

"""The solvers under test, each as: prepare once (not timed), then solve (timed) and hand back the weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

import portfolioopt as po

from .instances import FloatArray, Instance

Solve = Callable[[], FloatArray]


def portfolioopt(instance: Instance) -> Solve:
    """This library, from a checked problem to a certified result; compiled before it is timed."""
    n = instance.returns.shape[1]
    assets = [f"A{i:04d}" for i in range(n)]
    problem = po.Problem(
        po.ScenarioSet(pd.DataFrame(instance.returns, columns=assets)),
        po.ExpectedReturn(pd.Series(instance.mean, assets)) - instance.aversion * po.CVaR(instance.beta),
        [po.Budget(), po.Bounds(0.0, instance.cap)],
    )
    return lambda: po.optimize(problem).weights.to_numpy()  # type: ignore[union-attr]


def highs_dual(instance: Instance) -> Solve:
    """HiGHS dual simplex on the dual LP (Ogryczak & Sliwinski, 2011): N rows and S bounded columns.

    max y - cap 1'z over 0 <= q <= aversion / ((1 - beta) S), sum q = aversion, z >= 0, y free, with
    y - z_i <= -mean_i - (R'q)_i; the weights are the row duals.
    """
    import highspy

    s, n = instance.returns.shape
    scale = 1.0 / float(np.abs(instance.returns).mean())  # HiGHS works with absolute tolerances
    returns, mean = instance.returns * scale, instance.mean * scale
    ceiling = instance.aversion / ((1.0 - instance.beta) * s)
    columns = s + 1 + n
    # column-wise: every q column has its N returns and a one in the sum row, then y, then the z
    starts = np.concatenate([np.arange(s + 1) * (n + 1), s * (n + 1) + n + np.arange(n + 1)])
    indices = np.concatenate([np.tile(np.arange(n + 1), s), np.arange(n), np.arange(n)])
    values = np.concatenate([np.hstack([returns, np.ones((s, 1))]).ravel(), np.ones(n), -np.ones(n)])

    def solve() -> FloatArray:
        model: Any = highspy.HighsLp()
        model.num_col_, model.num_row_ = columns, n + 1
        model.col_cost_ = np.concatenate([np.zeros(s), [-1.0], np.full(n, instance.cap)])
        model.col_lower_ = np.concatenate([np.zeros(s), [-np.inf], np.zeros(n)])
        model.col_upper_ = np.concatenate([np.full(s, ceiling), [np.inf], np.full(n, np.inf)])
        model.row_lower_ = np.append(np.full(n, -np.inf), instance.aversion)
        model.row_upper_ = np.append(-mean, instance.aversion)
        model.a_matrix_.format_ = highspy.MatrixFormat.kColwise
        model.a_matrix_.start_, model.a_matrix_.index_, model.a_matrix_.value_ = starts, indices, values
        solver = highspy.Highs()
        solver.setOptionValue("output_flag", False)
        solver.setOptionValue("solver", "simplex")
        solver.setOptionValue("primal_feasibility_tolerance", 1e-9)
        solver.setOptionValue("dual_feasibility_tolerance", 1e-9)
        solver.passModel(model)
        solver.run()
        return -np.array(solver.getSolution().row_dual)[:n]

    return solve


def cvxpy_clarabel(instance: Instance) -> Solve:
    """Clarabel through cvxpy on the Rockafellar-Uryasev LP, canonicalised anew each time, as its users call it."""
    import cvxpy as cp

    s, n = instance.returns.shape

    def solve() -> FloatArray:
        w, t, excess = cp.Variable(n), cp.Variable(), cp.Variable(s, nonneg=True)
        risk = t + cp.sum(excess) / ((1.0 - instance.beta) * s)
        problem = cp.Problem(
            cp.Maximize(instance.mean @ w - instance.aversion * risk),
            [excess >= -instance.returns @ w - t, cp.sum(w) == 1, w >= 0, w <= instance.cap],
        )
        problem.solve(solver=cp.CLARABEL)
        return np.asarray(w.value, dtype=np.float64)

    return solve


SOLVERS: dict[str, Callable[[Instance], Solve]] = {
    "portfolioopt": portfolioopt,
    "HiGHS dual LP": highs_dual,
    "cvxpy + Clarabel": cvxpy_clarabel,
}

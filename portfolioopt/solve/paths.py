r"""Drawdowns exactly: a linear program with a running peak for every period, for HiGHS.

With :math:`C_t = C_{t-1} + r_t'w` and peaks :math:`m_t \ge m_{t-1},\, m_t \ge C_t`, drawdowns are
:math:`m_t - C_t`, and their tail mean or maximum is linear in variables that a linear program minimises over (Chekhlov,
Uryasev & Zabarankin, 2005). Any tail distribution q over periods, carried back to earlier peaks by a flow
:math:`W_t \ge 0` through period t with :math:`W_t \le W_{t+1} + q_t`, gives a tangent without a constant,
:math:`f(w) \ge -\sum_t W_t r_t'w`. The multipliers of the linear program are such a pair to rounding, just that which
supports the optimum; they are made one exactly before use, so that the tangent holds whatever they were.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from portfolioopt.problem import Compiled, ConditionalDrawdown, MaxDrawdown
from portfolioopt_kernels import HingeProgram

FloatArray: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PathSolution:
    """Columns of the optimum, and gradients (N,) by the number of the curve, where the measure has a price."""

    columns: FloatArray
    gradients: dict[int, FloatArray]


class _Rows:
    """Sparse inequalities ``rows <= right`` and equations, over columns that grow."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.lower: list[FloatArray] = []
        self.upper: list[FloatArray] = []
        self.cost: dict[int, float] = {}
        self.at_most: list[tuple[Any, Any, Any, FloatArray]] = []  # row, column, value, right
        self.equal: list[tuple[Any, Any, Any, FloatArray]] = []

    def add(self, count: int, lower: float, upper: float) -> npt.NDArray[np.intp]:
        """New columns with bounds."""
        self.lower.append(np.full(count, lower))
        self.upper.append(np.full(count, upper))
        self.columns += count
        return np.arange(self.columns - count, self.columns)


def solve_with_paths(compiled: Compiled, program: HingeProgram) -> PathSolution | None:
    """The optimum of a program, with every drawdown measure of the problem exact; None where there is none.

    Parameters
    ----------
    program
        The problem's, perhaps with tangents of other curves as rows; its returns in memory.
    """
    from scipy.optimize import linprog  # slow to import, and few problems need it
    from scipy.sparse import coo_array, csr_array, vstack

    p = program
    _, n, m, a, _ = p.shape
    lp = _Rows(n)
    cost = [p.linear]
    inequalities: list[Any] = []
    right: list[FloatArray] = []
    equations: list[Any] = []

    def put(parts: list[tuple[Any, Any]], limit: FloatArray, into: list[Any]) -> int:
        """Rows from pieces: (columns, matrix). Returns the number of the first of them, if they are inequalities."""
        into.append(parts)
        if into is inequalities:
            right.append(limit)
        return sum(map(len, right)) - len(limit)

    for low, high, row in zip(p.row_lower, p.row_upper, p.rows, strict=True):
        if np.isfinite(high):
            put([(np.arange(n), row[None])], np.array([high]), inequalities)
        if np.isfinite(low):
            put([(np.arange(n), -row[None])], np.array([-low]), inequalities)
    for b in range(m):
        live = np.flatnonzero(p.cvar_density[b] > 0)
        t, z = lp.add(1, -np.inf, np.inf), lp.add(len(live), 0.0, np.inf)
        minus = csr_array(-np.ones((len(live), 1)))
        put(
            [(np.arange(n), -p.returns[live]), (t, minus), (z, _eye(len(live), -1.0))],
            np.zeros(len(live)),
            inequalities,
        )
        cost += [p.cvar_weight[b] * np.array([p.cvar_level[b]]), p.cvar_weight[b] * p.cvar_density[b, live]]
        cost[0] = cost[0] + p.cvar_weight[b] * p.cvar_linear[b]
        if np.isfinite(p.cvar_cap[b]):
            pieces = [(np.arange(n), p.cvar_linear[b][None]), (t, np.array([[p.cvar_level[b]]]))]
            put([*pieces, (z, p.cvar_density[b, live][None])], np.array([p.cvar_cap[b]]), inequalities)
    for b in range(a):
        used = np.flatnonzero(p.l1_rate[b] > 0)
        d = lp.add(len(used), 0.0, np.inf)
        pick = csr_array((np.ones(len(used)), (np.arange(len(used)), used)), shape=(len(used), n))
        reference = p.l1_reference[b, used]
        put([(np.arange(n), pick), (d, _eye(len(used), -1.0))], reference, inequalities)
        put([(np.arange(n), -pick), (d, _eye(len(used), -1.0))], -reference, inequalities)
        cost.append(p.l1_weight[b] * p.l1_rate[b, used])
        cost[0] = cost[0] + p.l1_weight[b] * p.l1_linear[b]
        if np.isfinite(p.l1_cap[b]):
            pieces = [(np.arange(n), p.l1_linear[b][None]), (d, p.l1_rate[b, used][None])]
            put(pieces, np.array([p.l1_cap[b]]), inequalities)

    paths: dict[int, tuple[int, int, float, FloatArray]] = {}  # first equation, first tail row, largest q, returns
    rows_so_far = 0
    for number, curve in enumerate(compiled.curves):
        term = curve.measure
        if not isinstance(term, ConditionalDrawdown | MaxDrawdown):
            continue
        chosen = compiled.scenarios if term.path is None else term.path
        returns = np.asarray(chosen.source.rows(np.arange(chosen.n_scenarios)))
        count = len(returns)
        c, peak = lp.add(count, -np.inf, np.inf), lp.add(count, 0.0, np.inf)
        cost += [np.zeros(count), np.zeros(count)]
        back = csr_array((-np.ones(count - 1), (np.arange(1, count), np.arange(count - 1))), shape=(count, count))
        step = _eye(count) + back
        put([(np.arange(compiled.n_assets), -returns), (c, step)], np.zeros(count), equations)
        put([(c, _eye(count)), (peak, _eye(count, -1.0))], np.zeros(count), inequalities)
        put([(peak[:-1], _eye(count - 1)), (peak[1:], _eye(count - 1, -1.0))], np.zeros(count - 1), inequalities)
        u = np.array([curve.column])
        if isinstance(term, MaxDrawdown):
            sides = [(peak, _eye(count)), (c, _eye(count, -1.0)), (u, csr_array(np.full((count, 1), -curve.scale)))]
            tails, most = put(sides, np.zeros(count), inequalities), 1.0
        else:
            alpha = lp.add(1, -np.inf if term.beta else 0.0, np.inf if term.beta else 0.0)
            excess = lp.add(count, 0.0, np.inf)
            cost += [np.zeros(1), np.zeros(count)]
            sides = [(peak, _eye(count)), (c, _eye(count, -1.0)), (alpha, csr_array(-np.ones((count, 1))))]
            tails = put([*sides, (excess, _eye(count, -1.0))], np.zeros(count), inequalities)
            most = 1.0 / (count * (1.0 - term.beta))
            share = np.full((1, count), most)
            put([(alpha, np.ones((1, 1))), (excess, share), (u, np.array([[-curve.scale]]))], np.zeros(1), inequalities)
        paths[number] = rows_so_far, tails, most, returns
        rows_so_far += count

    width = lp.columns

    def matrix(blocks: list[Any]) -> Any:
        built = []
        for parts in blocks:
            total = None
            for columns, block in parts:
                sparse: Any = coo_array(block)
                place = sparse.row, np.asarray(columns)[sparse.col]
                wide = coo_array((sparse.data, place), (sparse.shape[0], width))
                total = wide if total is None else total + wide
            built.append(total)
        return vstack(built).tocsr()

    lower = np.concatenate([p.lower, *lp.lower])
    upper = np.concatenate([p.upper, *lp.upper])
    outcome = linprog(
        np.concatenate(cost),
        A_ub=matrix(inequalities),
        b_ub=np.concatenate(right),
        A_eq=matrix(equations),
        b_eq=np.zeros(rows_so_far),
        bounds=np.column_stack([lower, upper]),
        method="highs",
    )
    if outcome.x is None or outcome.status != 0:
        return None
    gradients: dict[int, FloatArray] = {}
    for number, (first, tails, most, returns) in paths.items():
        within = slice(tails, tails + len(returns)), slice(first, first + len(returns))
        flow = _flow(-outcome.ineqlin.marginals[within[0]], np.abs(outcome.eqlin.marginals[within[1]]), most)
        if flow is not None:
            gradients[number] = -flow @ returns
    return PathSolution(np.asarray(outcome.x[:n]), gradients)


def _flow(tail: FloatArray, flow: FloatArray, most: float) -> FloatArray | None:
    """A flow W (T,) of a tail distribution with at most so much in a period, near to multipliers of both.

    None where they are too small to tell anything.
    """
    q = np.maximum(tail, 0.0)
    total = float(q.sum())
    if total <= 1e-9 or not np.isfinite(flow).all():
        return None
    q, flow = np.minimum(q / total, most), np.maximum(flow / total, 0.0)
    room = most - q
    missing = 1.0 - float(q.sum())  # spread over what has room; no flow comes from there, which is allowed
    if missing > 0.0:
        q = q + room * min(missing / float(room.sum()), 1.0)
    after = 0.0
    for t in range(len(q) - 1, -1, -1):
        flow[t] = after = min(float(flow[t]), after + float(q[t]))
    return flow


def _eye(count: int, value: float = 1.0) -> Any:
    from scipy.sparse import dia_array

    return dia_array((np.full((1, count), value), [0]), shape=(count, count)).tocsr()

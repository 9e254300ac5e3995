"""Independent answers to a problem: two solvers fed from its public properties, and a judge of certificates.

Nothing here looks at the arrays the library compiles a problem to. Both references see returns divided by their root
mean square and an objective divided by its largest coefficient: their tolerances are absolute, and returns of 1e-6
would be zero to them.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp
from scipy.optimize import linprog

import portfolioopt as po
from portfolioopt.problem.constraints import Constraint

from .instances import weighted_cvar

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]


class Reference(NamedTuple):
    """What an oracle found."""

    optimum: float
    """Optimal value of the maximised objective, as the oracle's own model counts it."""
    accuracy: float
    """What the oracle's tolerances amount to in units of the objective: all it can say where the optimum is zero."""
    weights: pd.Series


class Flat(NamedTuple):
    """A problem with its labels stripped: everything aligned to the order of the assets, nothing scaled."""

    returns: FloatArray
    probabilities: FloatArray
    holdings: FloatArray
    gains: list[tuple[float, FloatArray]]
    """Coefficient and mean of every return term."""
    risks: list[tuple[float, float]]
    """Positive weight and level of every CVaR term."""
    costs: list[tuple[float, FloatArray]]
    """Positive weight and rates of every cost term."""


def flatten(problem: po.Problem) -> Flat:
    """Read a problem's public properties."""
    scenarios = problem.scenarios
    assets = scenarios.assets
    returns = scenarios.returns.to_numpy()
    probabilities = np.asarray(scenarios.probabilities)
    gains, risks, costs = [], [], []
    for coefficient, term in problem.objective.parts:
        if isinstance(term, po.ExpectedReturn):
            mean = probabilities @ returns if term.mean is None else spread(term.mean, assets)
            gains.append((coefficient, mean))
        elif isinstance(term, po.CVaR):
            risks.append((-coefficient, term.beta))
        else:
            assert isinstance(term, po.ProportionalCost)
            costs.append((-coefficient, spread(term.bps, assets) / 1e4))
    holdings = problem.holdings
    held = np.zeros(len(assets)) if holdings is None else spread(holdings, assets)
    return Flat(returns, probabilities, held, gains, risks, costs)


def spread(value: float | pd.Series | Mapping[str, float], assets: pd.Index) -> FloatArray:
    """One number per asset from a scalar, a Series or a mapping."""
    if isinstance(value, pd.Series | Mapping):
        return np.array([float(value[asset]) for asset in assets])
    return np.full(len(assets), float(value))


def groups_of(limit: po.GroupLimit, assets: pd.Index) -> dict[str, tuple[FloatArray, float, float]]:
    """Membership vector, lower and upper limit by label."""
    lower, upper = limit.lower or {}, limit.upper or {}
    own = np.array([limit.labels[asset] for asset in assets], dtype=object)
    return {
        label: ((own == label).astype(float), lower.get(label, -np.inf), upper.get(label, np.inf))
        for label in {**lower, **upper}
    }


def target_mean(target: po.ReturnTarget, flat: Flat, assets: pd.Index) -> FloatArray:
    """Forecast that a return target speaks about."""
    return flat.probabilities @ flat.returns if target.mean is None else spread(target.mean, assets)


def units(flat: Flat) -> tuple[float, float]:
    """Size of the returns, and size of the objective in units of it."""
    unit = float(np.sqrt(np.mean(flat.returns**2))) or 1.0
    sizes = [abs(c) * float(np.abs(mean).max()) / unit for c, mean in flat.gains]
    sizes += [weight for weight, _ in flat.risks]
    sizes += [weight * float(rates.max()) / unit for weight, rates in flat.costs]
    return unit, max(sizes, default=0.0) or 1.0


# -- reference one: a conic model ------------------------------------------------------------------------------------
def solve_conic(problem: po.Problem) -> Reference | None:
    """Model the problem in cvxpy and solve it with Clarabel; None where Clarabel itself reports a loose answer.

    That happens to it, rarely, with many collinear assets and nothing but a turnover limit around them.
    """
    import cvxpy as cp

    flat = flatten(problem)
    assets = problem.scenarios.assets
    unit, size = units(flat)
    live = flat.probabilities > 0
    returns, probabilities = flat.returns[live] / unit, flat.probabilities[live]
    w = cp.Variable(len(assets))
    rules: list[Any] = []

    def cvar(beta: float) -> Any:
        """Smallest t + E(loss - t)+ / (1 - beta), with variables of its own for every mention of it."""
        t, beyond = cp.Variable(), cp.Variable(int(live.sum()), nonneg=True)
        rules.append(beyond >= -returns @ w - t)
        return t + (probabilities / (1.0 - beta)) @ beyond

    value: Any = 0.0
    for coefficient, mean in flat.gains:
        value = value + (coefficient * mean / unit / size) @ w
    for weight, beta in flat.risks:
        value = value - (weight / size) * cvar(beta)
    for weight, rates in flat.costs:
        value = value - (weight * rates / unit / size) @ cp.abs(w - flat.holdings)

    for c in problem.constraints:
        match c:
            case po.Budget():
                rules.append(cp.sum(w) == c.total)
            case po.Bounds():
                lower, upper = spread(c.lower, assets), spread(c.upper, assets)
                has_lower, has_upper = np.flatnonzero(np.isfinite(lower)), np.flatnonzero(np.isfinite(upper))
                if len(has_lower):
                    rules.append(w[has_lower] >= lower[has_lower])
                if len(has_upper):
                    rules.append(w[has_upper] <= upper[has_upper])
            case po.GroupLimit():
                for member, low, high in groups_of(c, assets).values():
                    if np.isfinite(low):
                        rules.append(member @ w >= low)
                    if np.isfinite(high):
                        rules.append(member @ w <= high)
            case po.Turnover():
                rules.append(cp.norm1(w - flat.holdings) <= c.limit)
            case po.TradeLimit():
                rules.append(cp.abs(w - flat.holdings) <= spread(c.limit, assets))
            case po.ReturnTarget():
                mean = target_mean(c, flat, assets)
                scale = float(np.abs(mean).max()) or 1.0
                rules.append((mean / scale) @ w >= c.target / scale)
            case po.CVaRLimit():
                rules.append(cvar(c.beta) <= c.limit / unit)

    model = cp.Problem(cp.Maximize(value), rules)
    for tolerance in (1e-10, 1e-9, 1e-8, 1e-7):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns where it stops short, which the status says as well
            model.solve(
                solver=cp.CLARABEL, tol_gap_abs=tolerance, tol_gap_rel=tolerance, tol_feas=tolerance, max_iter=200
            )
        if model.status == cp.OPTIMAL:
            assert w.value is not None
            return Reference(
                float(model.value) * unit * size, 1e-9 * unit * size, pd.Series(np.asarray(w.value), index=assets)
            )
    assert model.status == cp.OPTIMAL_INACCURATE, f"Clarabel says {model.status}"
    return None


# -- reference two: the linear program by hand -----------------------------------------------------------------------
class _LinearProgram:
    """A linear program in w, t, excess losses and trades, put together column by column and row by row.

    Where it is elastic every limit may be exceeded by one common amount, its last word being how small that can be.
    """

    def __init__(self, problem: po.Problem, *, elastic: bool = False) -> None:
        self.flat = flatten(problem)
        self.assets = problem.scenarios.assets
        self.unit, self.size = units(self.flat)
        live = self.flat.probabilities > 0
        self.returns = self.flat.returns[live] / self.unit
        self.probabilities = self.flat.probabilities[live]
        self.cost: list[FloatArray] = []
        self.low: list[FloatArray] = []
        self.high: list[FloatArray] = []
        self.columns = 0
        self.entries: list[tuple[IntArray, IntArray, FloatArray]] = []
        self.sides: list[FloatArray] = []
        self.equal: list[npt.NDArray[np.bool_]] = []
        self.rows = 0
        self.w = self.add_columns(np.zeros(len(self.assets)), -np.inf, np.inf)
        self.slack = self.add_columns(np.ones(1), 0.0, np.inf) if elastic else None

    # -- bricks ----------------------------------------------------------------------------------------------
    def add_columns(self, cost: FloatArray, low: float, high: float) -> IntArray:
        first, self.columns = self.columns, self.columns + len(cost)
        self.cost.append(cost)
        self.low.append(np.full(len(cost), low))
        self.high.append(np.full(len(cost), high))
        return np.arange(first, self.columns)

    def add_rows(self, blocks: list[tuple[IntArray, Any]], sides: FloatArray, *, equal: bool = False) -> None:
        """Rows block @ x[columns] + ... <= sides (or ==); a block is a matrix, or one number for a diagonal."""
        count = len(sides)
        for columns, block in blocks:
            if np.ndim(block) == 0:
                i, j, values = np.arange(count), np.arange(count), np.full(count, float(block))
            else:
                i, j = np.nonzero(block)
                values = np.asarray(block)[i, j]
            self.entries.append((self.rows + i, columns[j], values))
        self.rows += count
        self.sides.append(sides)
        self.equal.append(np.full(count, equal))

    def add_limit(self, columns: IntArray, matrix: FloatArray, sides: FloatArray, *, equal: bool = False) -> None:
        """Rows that state a limit of the problem, and give way where the program is elastic."""
        if self.slack is None:
            self.add_rows([(columns, matrix)], sides, equal=equal)
            return
        relief = -np.ones((len(sides), 1))
        self.add_rows([(columns, matrix), (self.slack, relief)], sides)
        if equal:
            self.add_rows([(columns, -matrix), (self.slack, relief)], -sides)

    def add_cvar(self, beta: float, weight: float) -> tuple[IntArray, FloatArray]:
        """Columns of t and of the excesses, with their coefficients in the CVaR; `weight` of it is minimised."""
        t = self.add_columns(np.array([weight]), -np.inf, np.inf)
        density = self.probabilities / (1.0 - beta)
        excess = self.add_columns(weight * density, 0.0, np.inf)
        count = len(density)
        self.add_rows([(self.w, -self.returns), (np.full(count, t[0]), -1.0), (excess, -1.0)], np.zeros(count))
        return np.append(t, excess), np.append(1.0, density)

    def add_trades(self, cost: FloatArray) -> IntArray:
        """Columns no smaller than |w - holdings|, asset by asset."""
        trade = self.add_columns(cost, 0.0, np.inf)
        self.add_rows([(self.w, 1.0), (trade, -1.0)], self.flat.holdings)
        self.add_rows([(self.w, -1.0), (trade, -1.0)], -self.flat.holdings)
        return trade

    # -- the problem -----------------------------------------------------------------------------------------
    def add_objective(self) -> None:
        flat, scale = self.flat, self.unit * self.size
        for coefficient, mean in flat.gains:
            self.cost[0] = self.cost[0] - coefficient * mean / scale
        for weight, beta in flat.risks:
            self.add_cvar(beta, weight / self.size)
        for weight, rates in flat.costs:
            self.add_trades(weight * rates / scale)

    def add_constraint(self, c: Constraint) -> None:
        w, flat = self.w, self.flat
        eye = np.eye(len(w))
        match c:
            case po.Budget():
                self.add_limit(w, np.ones((1, len(w))), np.array([c.total]), equal=True)
            case po.Bounds():
                lower, upper = spread(c.lower, self.assets), spread(c.upper, self.assets)
                self.add_limit(w, -eye[np.isfinite(lower)], -lower[np.isfinite(lower)])
                self.add_limit(w, eye[np.isfinite(upper)], upper[np.isfinite(upper)])
            case po.GroupLimit():
                for member, low, high in groups_of(c, self.assets).values():
                    if np.isfinite(low):
                        self.add_limit(w, -member[None], np.array([-low]))
                    if np.isfinite(high):
                        self.add_limit(w, member[None], np.array([high]))
            case po.Turnover():
                trade = self.add_trades(np.zeros(len(w)))
                self.add_limit(trade, np.ones((1, len(w))), np.array([c.limit]))
            case po.TradeLimit():
                limit = spread(c.limit, self.assets)
                self.add_limit(w, eye, flat.holdings + limit)
                self.add_limit(w, -eye, limit - flat.holdings)
            case po.ReturnTarget():
                mean = target_mean(c, flat, self.assets)
                scale = float(np.abs(mean).max()) or 1.0
                self.add_limit(w, -mean[None] / scale, np.array([-c.target / scale]))
            case po.CVaRLimit():
                columns, row = self.add_cvar(c.beta, 0.0)
                self.add_limit(columns, row[None], np.array([c.limit / self.unit]))

    def solve(self) -> tuple[float, FloatArray]:
        """Least cost, and the weights."""
        i, j, values = (np.concatenate(part) for part in zip(*self.entries, strict=True))
        matrix = sp.csr_array((values, (i, j)), shape=(self.rows, self.columns))
        sides, equal = np.concatenate(self.sides), np.concatenate(self.equal)
        bounds = np.column_stack([np.concatenate(self.low), np.concatenate(self.high)])
        for method, tolerance in (("highs-ds", 1e-10), ("highs-ds", 1e-9), ("highs-ipm", 1e-9)):
            found = linprog(
                np.concatenate(self.cost),
                A_ub=matrix[~equal],
                b_ub=sides[~equal],
                A_eq=matrix[equal],
                b_eq=sides[equal],
                bounds=bounds,
                method=method,
                options={
                    "primal_feasibility_tolerance": tolerance,
                    "dual_feasibility_tolerance": tolerance,
                    "time_limit": 60.0,  # the simplex method has been seen to cycle on a set without interior
                },
            )
            if found.status == 0:
                return float(found.fun), found.x[self.w]
        raise AssertionError(f"HiGHS says: {found.message}")


def solve_linear(problem: po.Problem) -> Reference:
    """Write the problem out as a linear program and solve it with HiGHS."""
    lp = _LinearProgram(problem)
    lp.add_objective()
    for c in problem.constraints:
        lp.add_constraint(c)
    least, weights = lp.solve()
    scale = lp.unit * lp.size
    return Reference(-least * scale, 1e-9 * scale, pd.Series(weights, index=lp.assets))


def least_violation(problem: po.Problem, names: Iterable[str]) -> float:
    """The smallest amount by which some portfolio exceeds the worst of the named constraints; 0 where all can hold.

    In weights, in units of the largest mean for return targets, and of the size of returns for CVaR limits.
    """
    wanted = set(names)
    lp = _LinearProgram(problem, elastic=True)
    chosen = [c for c in problem.constraints if c.name in wanted]
    assert len(chosen) == len(wanted), f"{wanted} are not all names of constraints"
    if not chosen:
        return 0.0
    for c in chosen:
        lp.add_constraint(c)
    return lp.solve()[0]


# -- the judge -------------------------------------------------------------------------------------------------------
def objective_of(problem: po.Problem, weights: pd.Series) -> tuple[float, float]:
    """Objective at the weights, and the largest single term of it."""
    flat = flatten(problem)
    w = spread(weights, problem.scenarios.assets)
    parts = [coefficient * float(mean @ w) for coefficient, mean in flat.gains]
    parts += [-weight * weighted_cvar(-flat.returns @ w, flat.probabilities, beta) for weight, beta in flat.risks]
    parts += [-weight * float(rates @ np.abs(w - flat.holdings)) for weight, rates in flat.costs]
    return sum(parts), max(map(abs, parts), default=0.0)


def violations(problem: po.Problem, weights: pd.Series) -> dict[str, float]:
    """By how much every constraint is violated, relative to its limit or largest coefficient; negative is room."""
    flat = flatten(problem)
    assets = problem.scenarios.assets
    w = spread(weights, assets)
    worst: dict[str, float] = {}
    for c in problem.constraints:
        match c:
            case po.Budget():
                worst[c.name] = abs(float(w.sum()) - c.total) / max(1.0, abs(c.total))
            case po.Bounds():
                below, above = spread(c.lower, assets) - w, w - spread(c.upper, assets)
                worst[c.name] = float(np.maximum(below, above).max())
            case po.GroupLimit():
                for label, (member, low, high) in groups_of(c, assets).items():
                    worst[f"{c.name}[{label}]"] = max(low - float(member @ w), float(member @ w) - high)
            case po.Turnover():
                over = float(np.abs(w - flat.holdings).sum()) - c.limit
                worst[c.name] = over / max(1.0, c.limit)
            case po.TradeLimit():
                worst[c.name] = float((np.abs(w - flat.holdings) - spread(c.limit, assets)).max())
            case po.ReturnTarget():
                mean = target_mean(c, flat, assets)
                short = c.target - float(mean @ w)
                worst[c.name] = short / (max(abs(c.target), float(np.abs(mean).max())) or 1.0)
            case po.CVaRLimit():
                over = weighted_cvar(-flat.returns @ w, flat.probabilities, c.beta) - c.limit
                worst[c.name] = over / (max(abs(c.limit), float(np.sqrt(np.mean(flat.returns**2)))) or 1.0)
    return worst


def check_certificate(result: po.Result, *references: Reference, tolerance: float = 1e-8) -> None:
    """Whether everything a certificate says is true, as far as that can be checked without the library.

    The objective and every violation are recomputed from the weights. The bound may not lie below the objective of
    any portfolio that meets the constraints: not the result's own, and none that an oracle found.
    """
    c = result.certificate
    assert c is not None
    assert result.weights is not None
    problem = result.problem
    assert np.isfinite(result.weights.to_numpy()).all()
    objective, largest = objective_of(problem, result.weights)
    assert c.scale >= max(abs(objective), largest) * (1.0 - 1e-9)
    unit, size = units(flatten(problem))
    # sums of terms that cancel to nothing are rounded relative to the terms
    rounding = 1e-12 * c.scale + 1e-15 * unit * size
    assert abs(c.objective - objective) <= rounding
    assert result.objective == c.objective

    recomputed = max(violations(problem, result.weights).values(), default=0.0)
    assert recomputed <= tolerance
    # the two measure a violation in slightly different units: a factor of two between them is allowed
    assert recomputed <= 2.0 * c.max_violation + 1e-13
    assert (c.worst_constraint is None) == (c.max_violation == 0.0)

    # violated limits may lift the objective over the bound by what the violation is worth
    lines = result.constraints
    worth = float((-lines["slack"]).clip(lower=0.0) @ lines["shadow_price"].abs()) / 100.0
    assert c.bound >= objective - 1e-7 * c.scale - rounding - 2.0 * worth
    if c.scale > 0:
        assert abs(c.gap - (c.bound - c.objective) / c.scale) <= 1e-15 + 1e-9 * abs(c.gap)
    else:
        assert c.gap == 0.0
    dearest = float(lines["shadow_price"].abs().max()) / 100.0 if len(lines) else 0.0
    for reference in references:
        worth = 2.0 * dearest * sum(max(v, 0.0) for v in violations(problem, reference.weights).values())
        assert c.bound >= reference.optimum - 1e-7 * c.scale - reference.accuracy - worth, "an oracle beats the bound"

r"""What the answers of many points are worth, as arrays: :mod:`certificate` for R points at once.

Definitions are those of :mod:`certificate` and :mod:`portfolioopt.scenarios.tail`, point by point; sums are taken in
another order. Measures that have no formula for arrays are evaluated one portfolio after the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from portfolioopt.blas import quiet_blas
from portfolioopt.problem import (
    ActiveShare,
    BorrowCost,
    CVaR,
    ExpectedReturn,
    GrossExposure,
    LongExposure,
    MeanUncertainty,
    NetExposure,
    ProportionalCost,
    ShortExposure,
    TradedAmount,
)
from portfolioopt.problem.measures import members
from portfolioopt.problem.terms import Term, View, ordered
from portfolioopt.scenarios import ScenarioSet
from portfolioopt_kernels import Solution

from .certificate import RADIUS
from .pieces import Batch, IntArray
from .points_box import implied_boxes
from .result import BINDING

FloatArray: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Standing:
    """Certificates and figures of K portfolios; units are those of `Certificate` and `Result`."""

    objective: FloatArray  # (K,)
    bound: FloatArray
    gap: FloatArray
    max_violation: FloatArray
    worst_constraint: list[str | None]
    expected_return: FloatArray
    volatility: FloatArray
    var: dict[float, FloatArray]
    cvar: dict[float, FloatArray]
    binding: dict[str, IntArray]
    """How many lines of each constraint bind; inequalities only."""


class Portfolios:
    """K portfolios on one scenario set, and measures of them; losses and tails are found once."""

    def __init__(
        self, scenarios: ScenarioSet, mean: FloatArray, holdings: FloatArray | None, weights: FloatArray
    ) -> None:
        self.scenarios = scenarios
        self.mean = mean
        self.holdings = holdings
        self.weights = weights
        matrix = scenarios.source.matrix
        assert matrix is not None
        with quiet_blas.hold():
            self.losses = -(weights @ np.asarray(matrix, dtype=np.float64).T)
        self._tails: dict[tuple[int, float], tuple[FloatArray, FloatArray]] = {}

    def tail(self, beta: float, scenarios: ScenarioSet | None = None) -> tuple[FloatArray, FloatArray]:
        """Value-at-risk and CVaR (K,) at a level, over a set that shares the matrix."""
        chosen = self.scenarios if scenarios is None else scenarios
        key = id(chosen), beta
        if key not in self._tails:
            self._tails[key] = tails(self.losses, chosen.probabilities, beta)
        return self._tails[key]

    def value(self, term: Term) -> FloatArray:
        """A measure of each portfolio (K,)."""
        w, assets = self.weights, self.scenarios.assets
        match term:
            case ExpectedReturn():
                return w @ (self.mean if term.mean is None else ordered(term, "mean", assets))
            case CVaR() if term.benchmark is None and self._shares_matrix(term.scenarios):
                return self.tail(term.beta, term.scenarios)[1]
            case ProportionalCost():
                buy = ordered(term, "bps", assets) / 1e4
                sell = buy if term.sell is None else ordered(term, "sell", assets) / 1e4
                trades = self.trades()
                return np.maximum(trades, 0.0) @ buy + np.maximum(-trades, 0.0) @ sell
            case TradedAmount():
                trades = self.trades()
                sign = {"both": np.abs(trades), "buy": np.maximum(trades, 0.0), "sell": np.maximum(-trades, 0.0)}
                return sign[term.side].sum(axis=1)
            case BorrowCost():
                return np.maximum(-w, 0.0) @ (ordered(term, "bps", assets) / 1e4)
            case GrossExposure() | LongExposure() | ShortExposure() | NetExposure():
                chosen = members(term.assets, assets, type(term).__name__)
                absolute, linear = term.sides
                return absolute * (np.abs(w) @ chosen) + linear * (w @ chosen)
            case ActiveShare():
                return 0.5 * np.abs(w - ordered(term, "benchmark", assets)).sum(axis=1)
            case MeanUncertainty():
                return np.abs(w) @ ordered(term, "box", assets)
            case _:
                return np.array([term.value(self.view(i)) for i in range(len(w))])

    def trades(self) -> FloatArray:
        """Weights minus holdings (K, N)."""
        assert self.holdings is not None
        return self.weights - self.holdings

    def view(self, i: int) -> View:
        """One of them, for measures that take one at a time."""
        held = None if self.holdings is None else self.holdings[i if len(self.holdings) > 1 else 0]
        return View(self.scenarios, self.mean, held, self.weights[i])

    def _shares_matrix(self, scenarios: ScenarioSet | None) -> bool:
        return scenarios is None or scenarios.source is self.scenarios.source


def tails(losses: FloatArray, probabilities: FloatArray, beta: float) -> tuple[FloatArray, FloatArray]:
    """Value-at-risk and CVaR (K,) of losses (K, S), as :func:`portfolioopt.scenarios.tail.tail` defines them."""
    alpha = 1.0 - beta
    live = probabilities > 0
    if not live.all():
        losses, probabilities = losses[:, live], probabilities[live]
    count = len(probabilities)
    enough = alpha * (1.0 - 1e-12)
    if probabilities.min() == probabilities.max():
        held = np.cumsum(probabilities[: int(min(alpha / probabilities[0] * 1.001 + 2, count))])
        last = count - 1 - min(int(np.searchsorted(held, enough)), count - 1)
        var = np.partition(losses, last, axis=1)[:, last]
    else:
        order = np.argsort(-losses, axis=1, kind="stable")
        held = np.cumsum(probabilities[order], axis=1)
        place = np.minimum((held < enough).sum(axis=1), count - 1)
        rows = np.arange(len(losses))
        var = losses[rows, order[rows, place]]
    beyond = np.maximum(losses - var[:, None], 0.0) @ probabilities
    return var, var + beyond / alpha


def stand(batch: Batch, rows: IntArray, columns: FloatArray, solution: Solution) -> Standing:
    """Recompute objective, risk and constraints of some points of a batch, and bound their optima.

    They have one scenario set and the same levels. `columns` are weights and auxiliary variables (K, N + ...),
    `solution` has the multipliers, both with a leading axis.
    """
    base, k, n = batch.base, len(rows), batch.base.n_assets
    scenarios: ScenarioSet = _only(batch, "scenarios", rows)
    levels: tuple[tuple[float, int], ...] = _only(batch, "levels", rows)
    held = batch.at("holdings", rows) if "holdings" in batch.columns else None
    seen = Portfolios(scenarios, scenarios.mean_array(), held, columns[:, :n])

    values, sizes = (
        zip(*(_line(batch, rows, seen, i) for i in range(len(base.lines))), strict=True) if base.lines else ((), ())
    )
    objective, largest = np.zeros(k), np.zeros(k)
    for j, term in enumerate(base.terms):
        value = np.zeros(k) if term.measure is None else _measured(batch, rows, seen, f"measure.{j}")
        for i in term.lines:
            value = value + _excess(base.lines[i].sense, values[i] - batch.at(f"limit.{i}", rows)).sum(axis=1)
        part = batch.at(f"coefficient.{j}", rows) * value
        objective, largest = objective + part, np.maximum(largest, np.abs(part))
    bound = _dual_bound(batch, rows, columns, solution, seen) - batch.at("constant", rows)
    scale = np.maximum(np.maximum(np.abs(objective), largest), 1e-6 * _typical_size(batch, rows, scenarios))
    scale = np.where(scale > 0, scale, 1.0)

    worst, culprit = np.zeros(k), np.full(k, -1)
    names: list[str] = []
    binding: dict[str, IntArray] = {}
    for i, group in enumerate(base.lines):
        difference = values[i] - batch.at(f"limit.{i}", rows)
        if not group.soft and len(group.names):
            excess = _excess(group.sense, difference) / sizes[i]
            place = excess.argmax(axis=1)
            most = excess[np.arange(k), place]
            culprit = np.where(most > worst, len(names) + place, culprit)
            worst = np.maximum(worst, most)
            names += group.names
        if group.sense != "==":
            slack = -difference if group.sense == "<=" else difference
            count = np.count_nonzero(slack <= BINDING * sizes[i], axis=1)
            binding[group.constraint] = binding.get(group.constraint, np.zeros(k, np.intp)) + count
    p = scenarios.probabilities
    mean = seen.losses @ p
    shown = [beta for beta, _ in levels] or [0.95]
    return Standing(
        objective=objective,
        bound=bound,
        gap=(bound - objective) / scale,
        max_violation=worst,
        worst_constraint=[names[i] if i >= 0 else None for i in culprit],
        expected_return=-mean,
        volatility=np.sqrt((seen.losses - mean[:, None]) ** 2 @ p),
        var={beta: seen.tail(beta)[0] for beta in shown},
        cvar={beta: seen.tail(beta)[1] for beta in shown},
        binding=binding,
    )


def _only(batch: Batch, name: str, rows: IntArray) -> Any:
    """A piece that all of the points agree on."""
    column = batch.columns[name]
    return column.pool[column.number(rows[:1])[0]]


def _measured(batch: Batch, rows: IntArray, seen: Portfolios, name: str) -> FloatArray:
    """A measure, or an expression of measures, of each point (K,)."""
    column = batch.columns[name]
    number = column.number(rows)
    found = np.zeros(len(rows))
    for v in np.unique(number):
        total = sum(c * seen.value(term) for c, term in column.pool[v].parts)
        found = np.where(number == v, total, found)
    return found


def _line(batch: Batch, rows: IntArray, seen: Portfolios, i: int) -> tuple[FloatArray, FloatArray]:
    """Value of each line of a group, and what its slack is relative to: both (K, L)."""
    group, n = batch.base.lines[i], batch.base.n_assets
    limit = batch.at(f"limit.{i}", rows)
    if group.measure is not None:
        column = batch.columns[f"limited.{i}"]
        view = seen.view(0)
        typical = np.array([sum(abs(c) * term.size(view) for c, term in one.parts) for one in column.pool])
        value, size = _measured(batch, rows, seen, f"limited.{i}")[:, None], typical[column.number(rows)][:, None]
    elif group.kind == "row":
        lines = batch.field("rows", rows)[:, group.index, :n]
        value = np.einsum("kln,kn->kl", np.broadcast_to(lines, (len(rows), *lines.shape[1:])), seen.weights)
        size = np.abs(lines).max(axis=2)
    else:
        value = (np.abs(seen.trades()) if group.kind == "trade" else seen.weights)[:, group.index]
        size = np.ones_like(limit)
    size = np.maximum(np.abs(limit), size)
    return value, np.where(size > 0, size, 1.0)


def _excess(sense: str, difference: FloatArray) -> FloatArray:
    return np.abs(difference) if sense == "==" else np.maximum(difference if sense == "<=" else -difference, 0.0)


def _dual_bound(batch: Batch, rows: IntArray, columns: FloatArray, solution: Solution, seen: Portfolios) -> FloatArray:
    """Lagrangian bound (K,) on the negated objective of the program, from multipliers repaired to feasibility."""

    def field(name: str) -> FloatArray:
        return batch.field(name, rows)

    eta_cvar = np.where(np.isfinite(field("cvar_cap")), np.maximum(solution.cvar_cap_dual, 0.0), 0.0)
    eta_l1 = np.where(np.isfinite(field("l1_cap")), np.maximum(solution.l1_cap_dual, 0.0), 0.0)
    level_cvar, level_l1 = field("cvar_weight") + eta_cvar, field("l1_weight") + eta_l1
    q = repaired_measures(
        np.asarray(solution.scenario_dual),
        level_cvar[..., None] * field("cvar_density"),
        level_cvar * field("cvar_level"),
    )
    y = np.where(np.isfinite(field("row_upper")), solution.row_dual, np.minimum(solution.row_dual, 0.0))
    y = np.where(np.isfinite(field("row_lower")), y, np.maximum(y, 0.0))

    reduced = field("linear") + _product(level_cvar, field("cvar_linear"))
    reduced = reduced + _product(level_l1, field("l1_linear")) + _product(y, field("rows"))
    matrix = np.asarray(seen.scenarios.source.matrix, dtype=np.float64)
    with quiet_blas.hold():
        reduced[:, : matrix.shape[1]] -= q.sum(axis=1) @ matrix
    price = level_l1[..., None] * field("l1_rate")
    low, high = _box(batch, rows)
    reach = np.maximum(RADIUS, RADIUS * np.abs(columns).max(axis=1, initial=0.0))[:, None]
    low, high = np.where(np.isfinite(low), low, -reach), np.where(np.isfinite(high), high, reach)

    reference = field("l1_reference")
    corners = np.concatenate([low[:, None], high[:, None], np.clip(reference, low[:, None], high[:, None])], axis=1)
    inner = reduced[:, None] * corners
    for block in range(reference.shape[1]):
        inner += price[:, block, None] * np.abs(corners - reference[:, block, None])
    side = np.where(y > 0, field("row_upper"), field("row_lower"))
    least = inner.min(axis=1).sum(axis=1) - _paid(y, side)
    least -= _paid(eta_cvar, field("cvar_cap")) + _paid(eta_l1, field("l1_cap"))
    return -least


def repaired_measures(raw: FloatArray, ceiling: FloatArray, total: FloatArray) -> FloatArray:
    """:func:`certificate.repair_measure` for measures (K, M, S) with totals (K, M)."""
    q = np.clip(np.where(np.isfinite(raw), raw, 0.0), 0.0, ceiling)
    held = q.sum(axis=-1)
    missing = total - held
    room = ceiling - q
    space = room.sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        more = np.where((missing > 0) & (space > 0), np.minimum(missing / space, 1.0), 0.0)
        less = np.where(missing < 0, total / held, 1.0)
    return q * less[..., None] + more[..., None] * room


def _product(levels: FloatArray, blocks: FloatArray) -> FloatArray:
    """Sum of blocks (K or 1, B, N) under levels (K, B): (K, N)."""
    return np.matmul(levels[:, None], blocks)[:, 0]


def _paid(price: FloatArray, limit: FloatArray) -> FloatArray:
    """Prices times limits; limits without a price may be infinite."""
    return np.sum(price * np.where(price != 0.0, limit, 0.0), axis=1)


def _box(batch: Batch, rows: IntArray) -> tuple[FloatArray, FloatArray]:
    """Bounds that hold for each column: its own, and where one is missing what all constraints imply.

    Its own may be looser than implied ones, which makes no difference with the multipliers of an optimum.
    """
    low, high = batch.field("lower", rows), batch.field("upper", rows)
    if np.isfinite(low).all() and np.isfinite(high).all():
        return low, high
    return implied_boxes(batch, rows)


def _typical_size(batch: Batch, rows: IntArray, scenarios: ScenarioSet) -> FloatArray:
    """What the objective's terms amount to with a weight of one on a typical asset (K or 1,)."""
    risk = batch.field("cvar_weight", rows).sum(axis=1) * scenarios.source.root_mean_square
    cost = (batch.field("l1_weight", rows)[..., None] * batch.field("l1_rate", rows)).max(axis=(1, 2), initial=0.0)
    linear = np.abs(batch.field("linear", rows)[:, : batch.base.n_assets]).max(axis=1, initial=0.0)
    return np.maximum(np.maximum(linear, risk), cost)

"""Random portfolio problems, one per seed: feasible by construction and bounded.

Every instance is built around a random portfolio that all its limits let through, most with some room, some with
none at all. Sizes come from a short ladder, because each new padded shape costs seconds of compiling.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

import portfolioopt as po
from portfolioopt.problem.constraints import Constraint

FloatArray = npt.NDArray[np.float64]


class Shape(NamedTuple):
    """Sizes that share one compiled kernel: the ranges lie inside one padding bucket."""

    scenarios: tuple[int, int]
    assets: tuple[int, int]
    levels: int
    """Distinct confidence levels of the CVaR terms and limits."""
    trading: int
    """Turnover limits, plus one if there are costs."""
    rows: tuple[int, int] = (1, 4)
    """Linear rows: budget, group limits and return targets."""


# The first five are small; the default test run uses only these. Those of 20 scenarios occur in other tests as well.
SHAPES = (
    Shape((20, 20), (5, 5), 1, 1),
    Shape((20, 20), (5, 5), 2, 1),
    Shape((20, 20), (6, 6), 1, 0),
    Shape((63, 64), (8, 8), 3, 2),
    Shape((249, 256), (16, 16), 1, 1),
    Shape((20, 20), (2, 2), 1, 2),
    Shape((25, 25), (3, 3), 2, 0),
    Shape((36, 36), (6, 6), 0, 1),
    Shape((121, 124), (10, 10), 2, 1),
    Shape((45, 46), (4, 4), 3, 2, (0, 0)),
    Shape((63, 64), (8, 8), 4, 1),
    Shape((97, 100), (12, 12), 2, 2, (5, 8)),
    Shape((177, 184), (20, 20), 1, 1),
    Shape((249, 256), (16, 16), 3, 0),
    Shape((337, 352), (25, 25), 2, 1),
    Shape((497, 512), (31, 31), 1, 2),
    Shape((497, 512), (39, 40), 2, 1),
    Shape((961, 992), (30, 30), 1, 1),
    Shape((993, 1024), (49, 50), 2, 2),
    Shape((1985, 2048), (20, 20), 2, 1),
    Shape((2945, 3000), (59, 60), 1, 1),
)
QUICK_SHAPES = 5
QUICK = range(60)
SLOW = range(60, 270)

MODES = ("long", "long_short", "neutral", "loose", "half_open", "open", "trade_only")
FAMILIES = ("normal", "student", "bootstrap", "history", "rounded", "crash")
SCALES = (1e-4, 1e-2, 1.0, 1e2, 1e4)


@dataclass(frozen=True)
class Instance:
    """A problem, a portfolio that meets its constraints, and what is special about it."""

    seed: int
    problem: po.Problem
    feasible: pd.Series
    features: frozenset[str]

    def __str__(self) -> str:
        s, n = self.problem.scenarios.n_scenarios, self.problem.scenarios.n_assets
        return f"seed {self.seed}: {s} x {n}, {', '.join(sorted(self.features))}"


def shape_of(seed: int) -> Shape:
    """The ladder step of a seed."""
    return SHAPES[seed % QUICK_SHAPES] if seed in QUICK else SHAPES[seed % len(SHAPES)]


def instance(seed: int) -> Instance:
    """Problem number `seed`; the same one every time."""
    return _Maker(seed).make()


def weighted_cvar(losses: FloatArray, probabilities: FloatArray, beta: float) -> float:
    """Mean of the worst 1 - beta of probability: sort, then fill the tail from the worst loss down."""
    order = np.argsort(losses)[::-1]
    tail = 1.0 - beta
    before = np.concatenate([[0.0], np.cumsum(probabilities[order])[:-1]])
    share = np.clip(tail - before, 0.0, probabilities[order])
    return float(share @ losses[order]) / tail


@cache
def history() -> FloatArray:
    """Simple daily returns of the bundled prices (8312 x 20)."""
    return po.data.sample_prices().pct_change().iloc[1:].to_numpy()


class _Maker:
    """Draws one instance."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.rng = np.random.default_rng([7_041_776, seed])
        self.shape = shape_of(seed)
        self.features: set[str] = set()
        self.s = self.between(self.shape.scenarios)
        self.n = self.between(self.shape.assets)
        self.assets = pd.Index([f"A{i:02d}" for i in range(self.n)])
        self.tight_left = int(self.chance(0.35))
        self.constraints: list[Constraint] = []

    # -- dice ------------------------------------------------------------------------------------------------
    def between(self, ends: tuple[int, int]) -> int:
        return int(self.rng.integers(ends[0], ends[1] + 1))

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def pick(self, options: tuple[str, ...]) -> str:
        chosen = options[int(self.rng.integers(len(options)))]
        self.features.add(chosen)
        return chosen

    def room(self, size: float) -> float:
        """How far a limit stays away from the known portfolio: nothing at all for at most one limit."""
        if self.tight_left and self.chance(0.5):
            self.tight_left -= 1
            self.features.add("tight")
            return 0.0
        return size * float(self.rng.uniform(0.02, 0.5))

    def series(self, values: FloatArray) -> pd.Series:
        return pd.Series(values, index=self.assets)

    # -- scenarios -------------------------------------------------------------------------------------------
    def returns(self) -> FloatArray:
        rng, s, n = self.rng, self.s, self.n
        match self.pick(FAMILIES):
            case "normal":
                factors = rng.normal(size=(s, 2)) @ rng.normal(size=(2, n))
                matrix = 0.006 * factors + 0.006 * rng.normal(size=(s, n)) + 0.001 * rng.normal(size=n)
            case "student":
                matrix = 0.01 * rng.standard_t(2.5, size=(s, n)) + 0.002 * rng.normal(size=n)
            case "bootstrap":
                base = 0.01 * rng.normal(size=(s // 5 + 3, n)) + 0.001
                matrix = base[rng.integers(len(base), size=s)]
            case "history":
                matrix = self.slice_of_history()
            case "rounded":
                matrix = np.round(0.01 * rng.normal(size=(s, n)), 3 if self.chance(0.5) else 2)
            case _:
                # a small premium nearly always, and now and then a large loss
                matrix = np.where(rng.random((s, n)) < 0.05, -0.1 * rng.random((s, n)), 0.002)
        if self.chance(0.25) and n > 2:
            self.features.add("collinear")
            # a copy of another asset, and a basket of two
            matrix[:, 1] = matrix[:, 0]
            matrix[:, n - 1] = 0.4 * matrix[:, 0] + 0.6 * matrix[:, n // 2]
        if self.chance(0.25):
            self.features.add("cash")
            matrix[:, int(rng.integers(n))] = 0.0 if self.chance(0.5) else 1e-4
        scale = SCALES[int(rng.choice(5, p=[0.125, 0.125, 0.5, 0.125, 0.125]))]
        self.features.add(f"scale {scale:g}")
        self.scale = scale
        return matrix * scale

    def slice_of_history(self) -> FloatArray:
        sample = history()
        first = int(self.rng.integers(len(sample) - self.s))
        own = min(self.n, sample.shape[1])
        names = self.rng.choice(sample.shape[1], size=own, replace=False)
        matrix = sample[first : first + self.s, names]
        # there are 20 names: whatever is wanted beyond them are baskets
        baskets = self.rng.dirichlet(np.ones(own), size=self.n - own)
        return np.hstack([matrix, matrix @ baskets.T])

    def probabilities(self) -> FloatArray | None:
        if self.chance(0.5):
            return None
        raw = self.rng.dirichlet(np.ones(self.s))
        self.features.add("probabilities")
        if self.chance(0.5):
            self.features.add("zero probabilities")
            raw[self.rng.random(self.s) < 0.3] = 0.0
        return raw / raw.sum()

    def draw_levels(self) -> list[float]:
        usual = [0.5, 0.75, 0.9, 0.95, 0.975, 0.99]
        drawn: list[float] = []
        while len(drawn) < self.shape.levels:
            beta = float(self.rng.choice(usual)) if self.chance(0.6) else float(self.rng.uniform(0.2, 0.995))
            if beta not in drawn:
                drawn.append(beta)
            tail = (1.0 - beta) * self.s
            if abs(tail - round(tail)) > 1e-6:
                self.features.add("fractional tail")
        return drawn

    # -- the known portfolio and the book --------------------------------------------------------------------
    def portfolio(self, mode: str) -> FloatArray:
        rng, n = self.rng, self.n
        match mode:
            case "long" | "half_open":
                return rng.dirichlet(np.full(n, 1.0 if self.chance(0.7) else 0.2))
            case "long_short":
                return 1.3 * rng.dirichlet(np.ones(n)) - 0.3 * rng.dirichlet(np.ones(n))
            case "neutral":
                raw = rng.normal(size=n)
                raw -= raw.mean()
                return raw * (rng.uniform(0.5, 2.0) / max(float(np.abs(raw).sum()), 0.1))
            case _:
                return rng.normal(size=n) * rng.uniform(0.2, 1.5) / n

    def book(self, mode: str) -> FloatArray:
        draw = self.rng.random()
        if draw < 0.1:
            self.features.add("from cash")
            return np.zeros(self.n)
        if draw < 0.2:
            return self.known.copy()
        if draw < 0.6:
            return self.known + 0.1 * self.rng.normal(size=self.n) / self.n
        other = self.portfolio(mode)
        return 0.9 * other if draw < 0.8 else other

    # -- constraints -----------------------------------------------------------------------------------------
    def add_bounds(self, mode: str) -> None:
        known, rng = self.known, self.rng
        if mode in ("open", "trade_only"):
            return
        if mode == "half_open":
            self.constraints.append(po.Bounds(0.0, np.inf))
            return
        if self.chance(0.5):
            lowest = 0.0 if mode == "long" else float(known.min()) - self.room(0.3)
            self.constraints.append(po.Bounds(lowest, float(known.max()) + self.room(0.3)))
            return
        self.features.add("bounds per asset")
        lower = known - rng.uniform(0.0, 0.3, self.n)
        if mode == "long":
            lower = np.maximum(lower, 0.0)
        upper = known + rng.uniform(0.0, 0.4, self.n)
        if self.chance(0.4):
            self.features.add("fixed assets")
            fixed = rng.choice(self.n, size=1 + self.n // 6, replace=False)
            lower[fixed] = upper[fixed] = known[fixed]
        believable = bool(upper.max() <= 1.5)
        by_asset = dict(zip(self.assets, upper, strict=True))
        self.constraints.append(po.Bounds(self.series(lower), by_asset, unit_check=believable))
        if self.chance(0.2):
            self.features.add("two bounds")
            self.constraints.append(po.Bounds(-np.inf, float(known.max()) + self.room(0.2), name="Single name cap"))

    def add_groups(self, count: int) -> None:
        """Limits on `count` groups of the assets, one of which may be empty of limits."""
        rng = self.rng
        kinds = np.array([f"G{j}" for j in range(count)])
        # every label is carried by an asset
        codes = np.concatenate([np.arange(min(count, self.n)), rng.integers(count + 1, size=max(self.n - count, 0))])
        names = np.append(kinds, "rest")[rng.permutation(codes)]
        lower: dict[str, float] = {}
        upper: dict[str, float] = {}
        for kind in kinds:
            held = float(self.known[names == kind].sum())
            side = rng.random()
            if side < 0.7:
                upper[kind] = held + self.room(0.2)
            if side > 0.4:
                lower[kind] = held - self.room(0.2)
            if kind in upper and kind in lower and self.chance(0.1):
                self.features.add("fixed group")
                upper[kind] = lower[kind] = held
        labels = pd.Series(names, index=self.assets)
        self.features.add("groups")
        if self.chance(0.5):
            self.constraints.append(po.GroupLimit(labels, lower=lower, upper=upper))
        else:
            self.constraints.append(po.GroupLimit(labels.to_dict(), lower=lower or None, upper=upper or None))

    def add_rows(self, mode: str) -> None:
        rows = self.between(self.shape.rows)
        has_budget = rows > 0 and mode in ("long", "long_short", "neutral", "half_open")
        if has_budget or (rows and mode in ("open", "trade_only") and self.chance(0.5)):
            self.constraints.append(po.Budget(round(float(self.known.sum()), 12)))
            self.features.add("budget")
            rows -= 1
        if rows and self.chance(0.5):
            self.add_target()
            rows -= 1
        while rows:
            count = min(rows, self.n, self.between((1, 3)))
            if any(isinstance(c, po.GroupLimit) for c in self.constraints):
                break
            self.add_groups(count)
            rows -= count
        if rows or not self.has_row():
            # what is left over is spent on return targets from other forecasts
            for j in range(rows):
                self.add_target(name=f"Forecast {j}")

    def has_row(self) -> bool:
        return any(isinstance(c, po.Budget | po.GroupLimit | po.ReturnTarget) for c in self.constraints)

    def add_target(self, name: str = "ReturnTarget") -> None:
        mean = self.mean
        forecast = None
        if name != "ReturnTarget" or self.chance(0.3):
            mean = self.mean + 0.003 * self.scale * self.rng.normal(size=self.n)
            forecast = self.series(mean)
        target = float(mean @ self.known) - self.room(float(np.abs(mean).max()))
        self.constraints.append(po.ReturnTarget(target, mean=forecast, name=name))
        self.features.add("return target")

    def add_trading(self, mode: str) -> po.Objective | po.ProportionalCost | None:
        """Turnover limits and the cost term: as many as the shape wants, a limit first where nothing else bounds."""
        left = self.shape.trading
        cost = None
        distance = float(np.abs(self.known - self.held).sum())
        needs_limit = mode == "open"
        if (left and not needs_limit and self.chance(0.6)) or (left == 2 and needs_limit):
            left -= 1
            size = min(self.scale, 100.0) if self.chance(0.5) else 1.0
            self.features.add("cost")
            if self.chance(0.5):
                cost = po.ProportionalCost(bps=float(self.rng.uniform(1.0, 30.0)) * size)
            else:
                self.features.add("cost per asset")
                bps = self.rng.uniform(0.0, 40.0, self.n) * size
                bps[int(self.rng.integers(self.n))] = 0.0
                bps[0] = max(bps[0], size)  # at least one asset costs something, or the block would vanish
                cost = po.ProportionalCost(bps=self.series(bps))
        for j in range(left):
            self.features.add("turnover")
            limit = distance + self.room(max(distance, 0.1))
            self.constraints.append(po.Turnover(limit, name="Turnover" if j == 0 else "Second turnover limit"))
        if mode == "trade_only" or self.chance(0.15):
            self.features.add("trade limit")
            trade = np.abs(self.known - self.held)
            if self.chance(0.5):
                limit = float(trade.max()) + self.room(0.1)
                self.constraints.append(po.TradeLimit(limit, unit_check=limit <= 1.5))
            else:
                room = self.rng.uniform(0.01, 0.2, self.n)
                self.constraints.append(po.TradeLimit(self.series(trade + room), unit_check=False))
        return cost

    def add_risk(self) -> list[po.Objective]:
        """Terms and limits at the levels of the shape."""
        terms: list[po.Objective] = []
        losses = -self.matrix @ self.known
        size = float(np.sqrt(np.mean(self.matrix**2))) * float(np.abs(self.known).max())
        for beta in self.draw_levels():
            role = self.rng.random()
            if role < 0.7:
                terms.append(float(self.rng.choice([0.3, 1.0, 3.0, 20.0])) * po.CVaR(beta))
                self.features.add("CVaR term")
            if role > 0.5:
                limit = weighted_cvar(losses, self.weights, beta) + self.room(size)
                self.constraints.append(po.CVaRLimit(beta, limit, unit_check=limit < 1.0))
                self.features.add("CVaR limit")
                if role < 0.7:
                    self.features.add("term and limit at one level")
                if self.chance(0.15):
                    self.features.add("two limits at one level")
                    wider = po.CVaRLimit(beta, limit + size, unit_check=False, name=f"Wider {beta:g}")
                    self.constraints.append(wider)
        if len(terms) > 1:
            self.features.add("several CVaR terms")
        return terms

    # -- all of it -------------------------------------------------------------------------------------------
    def make(self) -> Instance:
        self.matrix = self.returns()
        probabilities = self.probabilities()
        scenarios = po.ScenarioSet(pd.DataFrame(self.matrix, columns=self.assets), probabilities)
        self.weights = scenarios.probabilities
        self.mean = self.weights @ self.matrix

        bounded = tuple(m for m in MODES if m != "open" or self.shape.trading)
        bounded = tuple(m for m in bounded if m != "half_open" or self.shape.rows[1])
        mode = self.pick(bounded)
        self.known = self.portfolio(mode)
        self.held = self.book(mode)
        self.add_bounds(mode)
        self.add_rows(mode)
        cost = self.add_trading(mode)
        risks = self.add_risk()

        forecast = self.series(0.5 * self.mean) if self.chance(0.2) else None
        objective: po.Objective = float(self.rng.choice([0.5, 1.0, 2.0])) * po.ExpectedReturn(forecast)
        if risks and self.chance(0.3):
            self.features.add("risk only")
            objective = -risks[0]
            risks = risks[1:]
        for risk in risks:
            objective = objective - risk
        if cost is not None:
            objective = objective - float(self.rng.choice([0.2, 1.0])) * cost
        order = self.rng.permutation(len(self.constraints))
        problem = po.Problem(
            scenarios,
            objective,
            [self.constraints[i] for i in order],
            holdings=self.series(self.held) if self.needs_book(cost) or self.chance(0.3) else None,
        )
        return Instance(self.seed, problem, self.series(self.known), frozenset(self.features))

    def needs_book(self, cost: object) -> bool:
        return cost is not None or any(isinstance(c, po.Turnover | po.TradeLimit) for c in self.constraints)

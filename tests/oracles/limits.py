"""Limits of every kind modelled in cvxpy from their textbook definitions, and a random market to set them in.

Nothing here looks at the arrays the library compiles a problem to.
"""

from __future__ import annotations

import warnings
from typing import Any

import cvxpy as cp
import numpy as np
import pandas as pd

import portfolioopt as po

S, N = 24, 6
NAMES = [f"A{i}" for i in range(N)]
SECTORS = pd.Series(list("xxxyyy"), NAMES)
UNIT = 0.01  # what risks are counted in by the model, so that its tolerances mean the same everywhere
POSITIONS = (po.GrossExposure, po.LongExposure, po.ShortExposure, po.NetExposure, po.ActiveShare, po.TradedAmount)


class Market:
    """Random scenarios, a stressed set, holdings and a benchmark."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        returns = 0.01 * rng.normal(size=(S, N)) + 0.004 * rng.normal(size=(S, 1)) + 0.001 * rng.normal(size=N)
        index = pd.bdate_range("2020", periods=S)
        self.data = po.ScenarioSet(pd.DataFrame(returns, index, NAMES), rng.dirichlet(np.full(S, 5.0)))
        self.stressed = po.ScenarioSet(pd.DataFrame(2.0 * returns[: S // 2] - 0.002, columns=NAMES))
        self.held = pd.Series(rng.dirichlet(np.full(N, 5.0)), NAMES)
        self.benchmark = pd.Series(rng.dirichlet(np.full(N, 2.0)), NAMES)


class Model:
    """The limits of a problem in cvxpy: what each exceeds, in its own unit; never more than zero where it is met."""

    def __init__(self, problem: po.Problem) -> None:
        self.problem = problem
        self.scenarios = problem.scenarios
        self.w = cp.Variable(N)
        self.rules: list[Any] = []
        held = problem.holdings
        self.h = np.zeros(N) if held is None else held.to_numpy()
        self.excess: dict[str, list[tuple[Any, float]]] = {}
        for constraint in problem.constraints:
            if not isinstance(constraint, po.Soft | po.MaxHoldings):
                self.excess[constraint.name] = self.lines(constraint)

    def cvar(self, losses: Any, p: np.ndarray, beta: float) -> Any:
        t = cp.Variable()
        return UNIT * (t + (p / (1.0 - beta)) @ cp.pos(losses / UNIT - t))

    def measure(self, term: Any) -> Any:
        """The textbook definition."""
        data = getattr(term, "scenarios", None) or self.scenarios
        R, p, w = data.matrix, data.probabilities, self.w
        match term:
            case po.ExpectedReturn():
                return (p @ R) @ w
            case po.CVaR():
                return self.cvar(-R @ w, p, term.beta)
            case po.SpectralRisk():
                return sum(share * self.cvar(-R @ w, p, beta) for beta, share in term.weights.items())
            case po.WorstLoss():
                return cp.max(-R @ w)
            case po.WorstCase():
                return cp.maximum(*[self.measure(one) for one in term.measures])
            case po.MeanAbsoluteDeviation():
                return p @ cp.abs((R - p @ R) @ w)
            case po.ExpectedShortfallBelow():
                return p @ cp.pos(term.target - R @ w)
            case po.Volatility():
                return cp.norm(cp.multiply(np.sqrt(p), (R - p @ R) @ w))
            case po.TrackingError():
                return cp.norm(cp.multiply(np.sqrt(p), (R - p @ R) @ (w - term.benchmark.to_numpy())))
            case po.ConditionalDrawdown():
                peak, value = cp.Variable(S + 1), cp.cumsum(R @ w)
                self.rules += [peak[0] == 0, peak[1:] >= peak[:-1], peak[1:] >= value]
                return self.cvar(peak[1:] - value, np.full(S, 1 / S), term.beta)
            case po.GrossExposure() | po.LongExposure() | po.ShortExposure() | po.NetExposure():
                kind = {po.GrossExposure: cp.abs, po.LongExposure: cp.pos, po.ShortExposure: cp.neg}.get(type(term))
                chosen = w if term.assets is None else w[[NAMES.index(name) for name in term.assets]]
                return cp.sum(chosen if kind is None else kind(chosen))
            case po.ActiveShare():
                return 0.5 * cp.norm1(w - term.benchmark.to_numpy())
            case po.TradedAmount():
                kind = {"both": cp.abs, "buy": cp.pos, "sell": cp.neg}[term.side]
                return cp.sum(kind(w - self.h))
            case po.ProportionalCost():
                return float(term.bps) / 1e4 * cp.norm1(w - self.h)
        raise AssertionError(f"no definition of {term!r}")

    def lines(self, c: Any) -> list[tuple[Any, float]]:
        """What a constraint exceeds, and in which unit the model counts it."""
        w = self.w
        match c:
            case po.Budget():
                low, high = c.sides
                return self.between(cp.sum(w), low, high)
            case po.Bounds():
                return [*self.between(w, c.lower, np.inf), *self.between(w, -np.inf, c.upper)]
            case po.GroupLimit():
                found = []
                for g in dict.fromkeys([*c.lower, *c.upper]):  # type: ignore[misc]
                    member = (np.asarray(c.labels) == g).astype(float)
                    held = member @ (cp.abs(w) if c.gross else w)
                    held = held if c.benchmark is None else held - float(member @ c.benchmark.to_numpy())
                    found += self.between(held, c.lower.get(g, -np.inf), c.upper.get(g, np.inf))
                return found
            case po.Turnover():
                return self.between(self.measure(po.TradedAmount(c.side)), -np.inf, c.limit)
            case po.TradeLimit():
                return self.between(cp.abs(w - self.h), -np.inf, c.limit)
            case po.ReturnTarget():
                mean = self.scenarios.mean() if c.mean is None else c.mean
                return self.between(mean.to_numpy() @ w, c.target, np.inf, 0.1 * UNIT)
            case po.CVaRLimit():
                return self.between(self.measure(po.CVaR(c.beta)), -np.inf, c.limit, UNIT)
            case po.Limit():
                unit = 1.0 if any(isinstance(t, POSITIONS) for _, t in c.measure.parts) else UNIT
                value = sum(a * self.measure(t) for a, t in c.measure.parts)
                low, high = (-np.inf if c.lower is None else c.lower), (np.inf if c.upper is None else c.upper)
                return self.between(value, low, high, unit)
            case po.LinearLimit():
                found = []
                for line in c.parsed:
                    row = np.array([line.coefficients.get(name, 0.0) for name in NAMES])
                    found += self.between(row @ w, line.lower, line.upper)
                return found
            case po.FactorExposure():
                found = []
                for factor in dict.fromkeys([*c.lower, *c.upper]):  # type: ignore[misc]
                    value = c.exposures[factor].to_numpy() @ w
                    found += self.between(value, c.lower.get(factor, -np.inf), c.upper.get(factor, np.inf))
                return found
            case po.NoTrade():
                index = [NAMES.index(name) for name in c.assets]
                return self.between(cp.abs(w - self.h)[index], -np.inf, 0.0)
            case po.MustHold():
                index = [NAMES.index(name) for name in c.minimum]
                return self.between(w[index], np.array(list(c.minimum.values())), np.inf)
            case po.Liquidity():
                room = c.volume.to_numpy() * c.participation * c.days / c.nav
                return self.between(cp.abs(w - self.h if c.of == "trades" else w), -np.inf, room)
        raise AssertionError(f"no definition of {c!r}")

    def between(self, value: Any, low: Any, high: Any, unit: float = 1.0) -> list[tuple[Any, float]]:
        low, high = np.asarray(low, dtype=float), np.asarray(high, dtype=float)
        found = [((low - value), unit)] if np.isfinite(low).all() else []
        return found + ([((value - high), unit)] if np.isfinite(high).all() else [])

    def solve(self, cost: Any, rules: list[Any]) -> float:
        program = cp.Problem(cp.Minimize(cost), [*rules, *self.rules])
        for tolerance in (1e-10, 1e-9, 1e-8):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the status says it as well
                program.solve(cp.CLARABEL, tol_gap_abs=tolerance, tol_gap_rel=tolerance, tol_feas=tolerance)
            if program.status == cp.OPTIMAL:
                break
        if program.status in (cp.INFEASIBLE, cp.INFEASIBLE_INACCURATE):
            return np.inf
        assert program.status in (cp.OPTIMAL, cp.OPTIMAL_INACCURATE), program.status
        return float(program.value)  # type: ignore[arg-type]

    def hard(self, names: list[str]) -> list[Any]:
        return [excess / unit <= 0 for name in names for excess, unit in self.excess[name]]

    def clash(self, names: list[str]) -> float:
        """The least total violation of some constraints, in the model's units; the others are left out."""
        return self.solve(sum(cp.sum(cp.pos(e / unit)) for name in names for e, unit in self.excess[name]), [])

    def least(self, expression: Any, names: list[str], unit: float) -> float:
        """The least value under some constraints."""
        return unit * self.solve(expression / unit, self.hard(names))

    def alone(self, name: str, others: list[str]) -> float:
        """The least total violation of one constraint, in its own unit, with others met."""
        unit = self.excess[name][0][1]
        return unit * self.solve(sum(cp.sum(cp.pos(e / unit)) for e, _ in self.excess[name]), self.hard(others))

    def nearest(self) -> float:
        """The least total violation of all constraints, each in its own unit."""
        return UNIT * self.solve(sum(cp.sum(cp.pos(e / UNIT)) for lines in self.excess.values() for e, _ in lines), [])

    def violated(self, weights: pd.Series) -> float:
        """The total violation by some weights."""
        self.w.value = weights.to_numpy()
        fixed = [self.w == weights.to_numpy()]
        return UNIT * self.solve(
            sum(cp.sum(cp.pos(e / UNIT)) for lines in self.excess.values() for e, _ in lines), fixed
        )

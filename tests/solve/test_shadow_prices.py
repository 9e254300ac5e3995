r"""Shadow prices against what the optimum does when a limit is moved, in a model that knows nothing of multipliers.

The optimal value v(s) is concave in how far s a limit is loosened, so that its price p lies between the difference
quotients on both sides: :math:`(v(s) - v(0))/s \le p \le (v(0) - v(-s))/s`. So it does for an equality whose right-hand
side is raised by s.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import portfolioopt as po
from portfolioopt.problem.constraints import Constraint
from tests.oracles.limits import NAMES, SECTORS, UNIT, Market, Model, N

GAIN, RISK = po.ExpectedReturn(), po.CVaR(0.9)
BASE: list[Constraint] = [po.Budget(), po.Bounds(-0.2, 0.6)]


def loosened(c: Any, line: str, sense: str, by: float) -> Any:
    """A constraint with one of its lines moved outwards; an equality raised."""
    inner = line[len(c.name) + 1 : -1]
    match c:
        case po.Budget() | po.Limit() if sense != "==":
            return replace(c, **({"lower": c.lower - by} if sense == ">=" else {"upper": c.upper + by}))  # type: ignore[operator]
        case po.Budget():
            return replace(c, total=c.total + by)
        case po.Bounds():
            lower, upper = pd.Series(c.lower, NAMES), pd.Series(c.upper, NAMES)
            side = lower if sense == ">=" else upper
            side[inner] += -by if sense == ">=" else by
            return po.Bounds(lower, upper, name=c.name)
        case po.GroupLimit() | po.FactorExposure():
            lower, upper = dict(c.lower), dict(c.upper)
            side = lower if sense == ">=" else upper
            side[inner] += -by if sense == ">=" else by
            return replace(c, lower=lower or None, upper=upper or None)
        case po.TradeLimit():
            limit = pd.Series(c.limit, NAMES)
            limit[inner] += by
            return replace(c, limit=limit)
        case po.MustHold():
            return replace(c, minimum={**c.minimum, inner: c.minimum[inner] - by})
        case po.ReturnTarget():
            return replace(c, target=c.target - by)
        case po.LinearLimit():
            (text,) = c.text
            sides = text.split(sense)
            return replace(c, text=f"{sides[0]} {sense} {float(sides[1]) + (by if sense == '<=' else -by)!r}")
        case po.Liquidity():
            volume = c.volume.copy()
            volume[inner] += by * c.nav / (c.participation * c.days)
            return replace(c, volume=volume)
    return replace(c, limit=c.limit + by)


class Setting(Market):
    """A market, with the value of the best portfolio by cvxpy."""

    def problem(self, constraints: list[Constraint], objective: Any) -> po.Problem:
        return po.Problem(self.data, objective, constraints, holdings=self.held)

    def optimum(self, constraints: list[Constraint], objective: Any) -> float:
        model = Model(self.problem(constraints, objective))
        value = sum(c * model.measure(term) for c, term in objective.parts)
        return -model.least(-value, list(model.excess), 0.1 * UNIT)

    def attained(self, measure: Any, share: float, others: list[Constraint]) -> float:
        """Between the least of a measure, and what it is without a limit."""
        model = Model(self.problem(others, GAIN - 0.5 * RISK))
        value = sum(c * model.measure(term) for c, term in measure.parts)
        least = model.least(value, list(model.excess), UNIT)
        model.least(-model.measure(GAIN) + 0.5 * model.measure(RISK), list(model.excess), 0.1 * UNIT)
        there = UNIT * model.solve(value / UNIT, [model.w == model.w.value])
        return least + share * (there - least)


@dataclass(frozen=True)
class Kind:
    """A constraint that binds, by name."""

    name: str
    objective: Any = GAIN - 0.5 * RISK

    def constraints(self, m: Setting) -> list[Constraint]:
        exposures = pd.DataFrame({"beta": np.linspace(0.5, 1.5, N), "size": np.linspace(1, -1, N)}, NAMES)
        wide: list[Constraint] = [po.Budget(), po.Bounds(-0.5, 0.9)]
        volume = pd.Series(1e6, NAMES)

        def below(measure: Any, share: float = 0.4, others: list[Constraint] = wide) -> list[Constraint]:
            return [*others, po.Limit(measure, upper=m.attained(measure, share, others), name=self.name)]

        match self.name:
            case "Budget":
                return [po.Budget(0.9), po.Bounds(-0.2, 0.6)]
            case "Budget range":
                return [po.Budget(lower=0.95, upper=1.05, name=self.name), po.Bounds(-0.2, 0.6)]
            case "Bounds":
                return [po.Budget(), po.Bounds(-0.1, 0.4)]
            case "GroupLimit":
                best = m.data.mean().groupby(SECTORS).mean().idxmax()
                other = "y" if best == "x" else "x"
                return [*wide, po.GroupLimit(SECTORS, upper={best: 0.4}, lower={other: 0.3})]
            case "GroupLimit gross":
                return [*wide, po.GroupLimit(SECTORS, upper={"x": 0.5, "y": 0.6}, gross=True, name=self.name)]
            case "GroupLimit relative":
                low = {"x": -0.05, "y": -0.05}
                return [*wide, po.GroupLimit(SECTORS, upper={"x": 0.05, "y": 0.05}, lower=low, benchmark=m.benchmark)]
            case "LinearLimit":
                best, worst = m.data.mean().idxmax(), m.data.mean().idxmin()
                return [*wide, po.LinearLimit(f"{best} - {worst} <= 0.3")]
            case "FactorExposure":
                return [*wide, po.FactorExposure(exposures, upper={"beta": 1.0, "size": 0.1}, lower={"size": -0.1})]
            case "Turnover" | "Turnover buy" | "Turnover sell":
                side: Any = self.name.removeprefix("Turnover").strip() or "both"
                return [*wide, po.Turnover(0.3, side=side, name=self.name)]
            case "TradeLimit":
                return [*wide, po.TradeLimit(0.1)]
            case "MustHold":
                return [*wide, po.MustHold({m.data.mean().idxmin(): 0.1})]
            case "Liquidity":
                return [*wide, po.Liquidity(volume, 1e6, of="trades")]
            case "ReturnTarget":
                model = Model(m.problem(BASE, GAIN))
                most = -model.least(-model.measure(GAIN), list(model.excess), 0.1 * UNIT)
                return [*BASE, po.ReturnTarget(most - 0.1 * UNIT * 0.05)]
            case "CVaRLimit":
                return [*wide, po.CVaRLimit(0.95, m.attained(po.CVaR(0.95), 0.4, wide))]
            case "shared level":
                return below(po.CVaR(0.9))
            case "SpectralRisk":
                return below(po.SpectralRisk({0.8: 0.5, 0.95: 0.5}))
            case "MeanAbsoluteDeviation":
                return below(po.MeanAbsoluteDeviation())
            case "half a deviation":
                return below(0.5 * po.MeanAbsoluteDeviation())
            case "ExpectedShortfallBelow":
                return below(po.ExpectedShortfallBelow(0.001))
            case "WorstLoss":
                return below(po.WorstLoss())
            case "WorstCase":
                return below(po.WorstCase(po.CVaR(0.95), po.CVaR(0.8, scenarios=m.stressed)))
            case "sum":
                return below(2.0 * po.CVaR(0.95) + 0.01 * po.GrossExposure() - po.ExpectedReturn())
            case "GrossExposure":
                return [*wide, po.Limit(po.GrossExposure(), upper=1.3, name=self.name)]
            case "LongExposure":
                return [*wide, po.Limit(po.LongExposure(), upper=1.2, name=self.name)]
            case "ShortExposure":
                return [*wide, po.Limit(po.ShortExposure(), upper=0.1, name=self.name)]
            case "NetExposure":
                return [
                    po.Budget(),
                    po.Bounds(-0.5, 0.9),
                    po.Limit(po.NetExposure(["A0", "A1"]), 0.1, 0.05, name="Net"),
                ]
            case "twice gross":
                return [*wide, po.Limit(2.0 * po.GrossExposure(), upper=2.6, name=self.name)]
            case "reward":
                measure = GAIN - 0.5 * po.CVaR(0.95)
                least = -m.attained(-1.0 * measure, 0.3, wide)
                return [*wide, po.Limit(measure, lower=least, name=self.name)]
            case "ProportionalCost":
                return [*wide, po.Limit(po.ProportionalCost(10), upper=0.0003, name=self.name)]
            case "ActiveShare":
                return [*wide, po.Limit(po.ActiveShare(m.benchmark), upper=0.2, name=self.name)]
            case "Volatility":
                return below(po.Volatility())
            case "TrackingError":
                return below(po.TrackingError(benchmark=m.benchmark))
        raise AssertionError(self.name)


KINDS = (
    "Budget",
    "Budget range",
    "Bounds",
    "GroupLimit",
    "GroupLimit gross",
    "GroupLimit relative",
    "LinearLimit",
    "FactorExposure",
    "Turnover",
    "Turnover buy",
    "Turnover sell",
    "TradeLimit",
    "MustHold",
    "Liquidity",
    "ReturnTarget",
    "CVaRLimit",
    "shared level",
    "SpectralRisk",
    "MeanAbsoluteDeviation",
    "half a deviation",
    "ExpectedShortfallBelow",
    "WorstLoss",
    "WorstCase",
    "sum",
    "GrossExposure",
    "LongExposure",
    "ShortExposure",
    "NetExposure",
    "twice gross",
    "reward",
    "ProportionalCost",
    "ActiveShare",
    "Volatility",
    "TrackingError",
)
DEFAULT = {"Bounds", "GroupLimit", "CVaRLimit"}
CASES = [
    pytest.param(kind, seed, marks=() if kind in DEFAULT and seed == 0 else pytest.mark.slow, id=f"{kind}-{seed}")
    for kind in KINDS
    for seed in range(3)
]


@pytest.mark.parametrize(("kind", "seed"), CASES)
def test_prices_lie_between_the_quotients(kind: str, seed: int) -> None:
    m = Setting(np.random.default_rng([17, seed]))
    one = Kind(kind, -RISK) if kind == "ReturnTarget" else Kind(kind)
    constraints = one.constraints(m)
    result = po.optimize(m.problem(constraints, one.objective))
    lines = result.constraints
    assert lines[lines["constraint"] == constraints[-1].name]["binding"].any() or kind in ("Budget", "NetExposure")
    here = m.optimum(constraints, one.objective)
    assert result.objective == pytest.approx(here, rel=1e-6, abs=1e-10)
    for line in lines[lines["binding"]].itertuples():
        position = next(i for i, c in enumerate(constraints) if c.name == line.constraint)
        measured = isinstance(constraints[position], po.CVaRLimit | po.Limit | po.ReturnTarget)
        step = 1e-3 * max(abs(line.limit), 1e-4) if measured else 1e-3  # type: ignore[operator, arg-type]

        def moved(by: float, at: int = position, line: Any = line) -> float:
            looser = loosened(constraints[at], line.name, line.sense, by)
            return m.optimum([*constraints[:at], looser, *constraints[at + 1 :]], one.objective)

        gain = (moved(step) - here) / step
        loss = (here - moved(-step)) / step
        price = float(line.shadow_price) / 100.0  # type: ignore[arg-type]
        slack = 1e-5 * max(abs(gain), abs(loss if np.isfinite(loss) else 0.0), 1e-3) + 3e-10 / step
        assert gain - slack <= price <= loss + slack, (line.name, line.sense, gain, price, loss)


def test_a_limit_that_does_not_bind_has_no_price() -> None:
    m = Setting(np.random.default_rng(1))
    result = po.optimize(m.problem([po.Budget(), po.Bounds(-0.1, 0.4), po.ReturnTarget(-1.0)], GAIN - 0.5 * RISK))
    lines = result.constraints
    assert (lines.loc[~lines["binding"], "shadow_price"] == 0.0).all()
    assert not lines.loc["ReturnTarget", "binding"]

"""Conflicts between limits of every kind, against a model of the same limits in cvxpy.

Each family builds a problem whose limits miss each other by some room, or barely meet. What the diagnosis says is
checked against the model: the conflict clashes, no member of it is there without need, the moves that would resolve it
do and nothing smaller does, and no portfolio violates less than the nearest one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest

import portfolioopt as po
from portfolioopt.problem.constraints import Constraint
from portfolioopt.solve.diagnose import Diagnosis, crossed_limits, diagnose
from tests.oracles.limits import NAMES, SECTORS, UNIT, Market, Model, N

MISSES = (0.2, 0.03, 1e-3, 1e-4)  # relative to the size of the limit that is missed
MEETS = 1e-6


def seeds(count: int) -> list[Any]:
    """The first two by default, the others where the slow tests are run."""
    return [*range(2), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, count))]


# -- families --------------------------------------------------------------------------------------------------------
@dataclass
class Case:
    """The same problem twice: without any allowed portfolio, and with hardly any."""

    infeasible: po.Problem
    barely: po.Problem
    culprits: set[str]


class Twins(Market):
    """A market, and pairs of problems in it."""

    def twins(self, build: Callable[[float], list[Constraint]], culprits: set[str], size: float = 1.0) -> Case:
        """Two problems from limits as a function of their room, with bystanders among them, in any order."""
        bystanders: list[Constraint] = [
            po.ReturnTarget(-1.0, name="Bystander"),
            po.Limit(po.GrossExposure(), upper=9.0, name="Wide", unit_check=False),
            po.Soft(po.Bounds(0.1, 0.11, name="Wish"), 1e-3),
        ]

        def problem(room: float) -> po.Problem:
            constraints = [*bystanders, *build(room * size)]
            order = self.rng.permutation(len(constraints))
            objective = po.ExpectedReturn() - po.CVaR(0.9)
            return po.Problem(self.data, objective, [constraints[i] for i in order], holdings=self.held)

        return Case(problem(-float(self.rng.choice(MISSES))), problem(MEETS), culprits)

    def out_of_reach(
        self, measure: Any, others: list[Constraint], culprits: set[str], *, sense: int = 1, size: float = UNIT
    ) -> Case:
        """A limit on a measure beyond what the others allow; sense -1 for one from below."""
        probe = po.Limit(measure, upper=0.0) if sense > 0 else po.Limit(measure, lower=0.0)
        model = Model(po.Problem(self.data, po.ExpectedReturn(), [probe, *others], holdings=self.held))
        best = model.least(model.excess[probe.name][0][0], [c.name for c in others], size)

        def build(room: float) -> list[Constraint]:
            limit = sense * (best + room)
            named = "Target"
            if sense > 0:
                return [po.Limit(measure, upper=limit, name=named), *others]
            return [po.Limit(measure, lower=limit, name=named), *others]

        return self.twins(build, {"Target"} | culprits, size)


LONG: list[Constraint] = [po.Budget(), po.Bounds(0.0, 0.6)]


def spectral(m: Twins) -> Case:
    return m.out_of_reach(po.SpectralRisk({0.8: 0.5, 0.95: 0.5}), LONG, {"Budget"})


def deviation(m: Twins) -> Case:
    return m.out_of_reach(po.MeanAbsoluteDeviation(), LONG, {"Budget"})


def worst_loss(m: Twins) -> Case:
    return m.out_of_reach(po.WorstLoss(), LONG, {"Budget"})


def worst_case(m: Twins) -> Case:
    measure = po.WorstCase(po.CVaR(0.9), po.CVaR(0.8, scenarios=m.stressed), po.MeanAbsoluteDeviation())
    return m.out_of_reach(measure, LONG, {"Budget"})


def sum_of_risks(m: Twins) -> Case:
    return m.out_of_reach(po.CVaR(0.9) + 0.5 * po.MeanAbsoluteDeviation() - po.ExpectedReturn(), LONG, {"Budget"})


def shortfall(m: Twins) -> Case:
    return m.out_of_reach(po.ExpectedShortfallBelow(0.02), LONG, set(), size=0.1 * UNIT)


def volatility(m: Twins) -> Case:
    return m.out_of_reach(po.Volatility(), LONG, {"Budget"})


def tracking(m: Twins) -> Case:
    others = [po.GroupLimit(SECTORS, lower={"x": 0.1}, benchmark=m.benchmark, name="Active")]
    return m.out_of_reach(po.TrackingError(benchmark=m.benchmark), [*LONG, *others], set())


def drawdown(m: Twins) -> Case:
    return m.out_of_reach(po.ConditionalDrawdown(0.8), LONG, {"Budget"})


def reward_over_risk(m: Twins) -> Case:
    return m.out_of_reach(po.ExpectedReturn() - 0.5 * po.CVaR(0.9), LONG, {"Budget"}, sense=-1)


def target_against_risk(m: Twins) -> Case:
    """A return that only portfolios riskier than allowed have."""
    best = m.data.mean().nlargest(2)
    target = float(0.4 * best.iloc[0] + 0.6 * best.iloc[1])
    others = [*LONG, po.ReturnTarget(target)]
    return m.out_of_reach(po.CVaR(0.9), others, set())


def gross(m: Twins) -> Case:
    return m.twins(
        lambda room: [po.Budget(), po.Bounds(-1, 1), po.Limit(po.GrossExposure(), upper=1 + room, name="Gross")],
        {"Budget", "Gross"},
    )


def short(m: Twins) -> Case:
    """Assets that have to be short, by more than shorts may be."""
    text = [f"A0 + A1 <= {-0.2:g}", "A3 >= 10%"]

    def build(room: float) -> list[Constraint]:
        return [po.Bounds(-1, 1), po.LinearLimit(text), po.Limit(po.ShortExposure(), upper=0.2 + room, name="Shorts")]

    return m.twins(build, {"LinearLimit", "Shorts"})


def spread(m: Twins) -> Case:
    def build(room: float) -> list[Constraint]:
        return [po.Budget(), po.Bounds(0.0, 0.4), po.LinearLimit([f"A0 - A1 >= {0.4 - room!r}", "A2 <= 30%"])]

    return m.twins(build, {"Bounds", "LinearLimit"})


def factor(m: Twins) -> Case:
    exposures = pd.DataFrame({"beta": m.rng.uniform(0.5, 1.5, N), "size": m.rng.normal(size=N)}, NAMES)
    top = exposures["beta"].nlargest(2)
    most = float(0.6 * top.iloc[0] + 0.4 * top.iloc[1])

    def build(room: float) -> list[Constraint]:
        band = po.FactorExposure(exposures, lower={"beta": most - room, "size": -5.0}, upper={"size": 5.0})
        return [*LONG, band]

    return m.twins(build, {"Budget", "Bounds", "FactorExposure"})


def must_hold(m: Twins) -> Case:
    def build(room: float) -> list[Constraint]:
        groups = po.GroupLimit(SECTORS, upper={"x": 0.5 + room, "y": 0.9}, name="Sectors")
        return [po.Bounds(0.0, 1.0), po.MustHold({"A0": 0.3, "A1": 0.2}), groups]

    return m.twins(build, {"MustHold", "Sectors", "Bounds"})


def no_trade(m: Twins) -> Case:
    cap = float(m.held["A2"])
    return m.twins(lambda room: [po.Bounds(-1.0, cap + 0.3 * room), po.NoTrade(["A2"])], {"NoTrade", "Bounds"})


def liquidity(m: Twins) -> Case:
    volume = pd.Series(m.rng.uniform(1e6, 5e6, N), NAMES)
    nav = float(volume.sum() * 0.1 * 2)

    def build(room: float) -> list[Constraint]:
        return [
            po.Budget(lower=1.0 - room),
            po.Bounds(-1, 1),
            po.Liquidity(volume, nav, participation=0.1, days=2, of="positions"),
        ]

    return m.twins(build, {"Budget", "Liquidity"})


def buying(m: Twins) -> Case:
    least = float(m.held["A1"]) + 0.2

    def build(room: float) -> list[Constraint]:
        return [po.Budget(), po.Bounds(), po.MustHold({"A1": least}), po.Turnover(0.2 + room, side="buy")]

    return m.twins(build, {"MustHold", "Turnover"})


def costs(m: Twins) -> Case:
    least = float(m.held["A4"]) + 0.3
    paid = 0.001 * 0.6  # 30 % bought and as much sold

    def build(room: float) -> list[Constraint]:
        cap = po.Limit(po.ProportionalCost(10), upper=paid + room, name="Costs")
        return [po.Budget(), po.Bounds(), po.MustHold({"A4": least}), cap]

    return m.twins(build, {"MustHold", "Costs", "Budget"}, paid)


def gross_groups(m: Twins) -> Case:
    def build(room: float) -> list[Constraint]:
        limit = po.GroupLimit(SECTORS, upper={"x": 0.5 + room}, gross=True, name="GrossSectors")
        return [po.Bounds(-1, 1), po.LinearLimit(["A0 >= 0.3", "A1 <= -0.2"]), limit]

    return m.twins(build, {"GrossSectors", "LinearLimit"})


def active_share(m: Twins) -> Case:
    top = m.benchmark.idxmax()
    away = float(m.benchmark[top]) * 0.5

    def build(room: float) -> list[Constraint]:
        near = po.Limit(po.ActiveShare(m.benchmark), upper=away + room, name="Share")
        return [po.Budget(), po.Bounds(0, 1), po.LinearLimit(f"{top} <= {float(m.benchmark[top]) - away!r}"), near]

    return m.twins(build, {"Share"})


FAMILIES = (
    spectral,
    deviation,
    worst_loss,
    worst_case,
    sum_of_risks,
    shortfall,
    volatility,
    tracking,
    drawdown,
    reward_over_risk,
    target_against_risk,
    gross,
    short,
    spread,
    factor,
    must_hold,
    no_trade,
    liquidity,
    buying,
    costs,
    gross_groups,
    active_share,
)
CURVED = (volatility, tracking, drawdown)
every_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)


@cache
def case_of(family: Callable[[Twins], Case], seed: int) -> Case:
    return family(Twins(np.random.default_rng([FAMILIES.index(family), seed])))


@cache
def diagnosed(family: Callable[[Twins], Case], seed: int) -> Diagnosis:
    problem = case_of(family, seed).infeasible
    found = crossed_limits(problem) or diagnose(problem)
    assert found is not None
    return found


# -- infeasible ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", seeds(25))
@every_family
def test_the_conflict_is_one_and_is_minimal(family: Callable[[Twins], Case], seed: int) -> None:
    case, found = case_of(family, seed), diagnosed(family, seed)
    model = Model(case.infeasible)
    assert found.status is po.Status.infeasible
    assert found.message.startswith("infeasible: ")
    assert len(set(found.conflict)) == len(found.conflict)
    assert case.culprits <= set(found.conflict)
    assert not {"Bystander", "Wide", "Wish"} & set(found.conflict)
    for name in found.conflict:
        assert name in found.message
    together = model.clash(list(found.conflict))
    assert together > 1e-7
    for name in found.conflict:
        rest = [other for other in found.conflict if other != name]
        assert not rest or model.clash(rest) < max(1e-3 * together, 1e-8), f"{rest} clash without {name}"


@pytest.mark.parametrize("seed", seeds(5))
@every_family
def test_the_moves_are_the_least_that_resolve_it(family: Callable[[Twins], Case], seed: int) -> None:
    problem, found = case_of(family, seed).infeasible, diagnosed(family, seed)
    model, moves = Model(problem), found.relaxations
    assert moves is not None
    for name in found.conflict:
        moved = moves[moves["constraint"] == name]
        assert len(moved)
        np.testing.assert_allclose(moved["needed"] - moved["limit"], moved["change"], rtol=1e-9, atol=1e-15)
        looser = np.where(moved["sense"] == ">=", moved["change"] < 0, moved["change"] > 0)
        assert (looser | (moved["sense"] == "==")).all()
        others = [other for other in model.excess if other != name]
        needed = model.alone(name, others)
        if not moved["enough"].all():
            assert not np.isfinite(needed)
            needed = model.alone(name, [other for other in found.conflict if other != name])
        unit = model.excess[name][0][1]
        assert moved["change"].abs().sum() == pytest.approx(needed, rel=1e-4, abs=2e-7 * unit)


@pytest.mark.parametrize("seed", seeds(5))
@every_family
def test_no_portfolio_violates_less_than_the_nearest(family: Callable[[Twins], Case], seed: int) -> None:
    problem, found = case_of(family, seed).infeasible, diagnosed(family, seed)
    model = Model(problem)
    assert found.nearest is not None
    assert found.nearest.index.equals(problem.scenarios.assets)
    least = model.nearest()
    assert model.violated(found.nearest) == pytest.approx(least, rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("seed", seeds(25))
@every_family
def test_hardly_any_room_is_no_conflict(family: Callable[[Twins], Case], seed: int) -> None:
    problem = case_of(family, seed).barely
    assert crossed_limits(problem) is None
    assert diagnose(problem) is None


# -- particulars -----------------------------------------------------------------------------------------------------
def some_market(seed: int = 0) -> Twins:
    return Twins(np.random.default_rng([99, seed]))


def problem_of(m: Market, *constraints: Constraint, objective: Any = None) -> po.Problem:
    return po.Problem(m.data, objective or po.ExpectedReturn() - po.CVaR(0.9), list(constraints), holdings=m.held)


def test_two_conflicts_at_once_are_told_apart() -> None:
    m = some_market()
    first = [
        po.Bounds(0.0, 1.0),
        po.LinearLimit("A0 + A1 >= 0.5", name="One"),
        po.LinearLimit("A0 + A1 <= 0.4", name="Two"),
    ]
    second = [po.LinearLimit("A4 >= 0.3", name="Three"), po.LinearLimit("A4 <= 0.2", name="Four")]
    found = diagnose(problem_of(m, *first, *second))
    assert found is not None
    assert found.relaxations is not None
    assert set(found.conflict) in ({"One", "Two"}, {"Three", "Four"})
    assert not found.relaxations["enough"].any()
    assert "other limits clash as well" in found.message
    # the moves resolve the conflict that is named
    assert found.relaxations["change"].abs().to_numpy() == pytest.approx(0.1)


def test_a_soft_limit_takes_no_part() -> None:
    m = some_market()
    soft = po.Soft(po.LinearLimit("A0 >= 0.9", name="Wish"), 1.0)
    assert diagnose(problem_of(m, po.Budget(), po.Bounds(0.0, 0.4), soft)) is None
    found = diagnose(problem_of(m, po.Budget(), po.Bounds(0.0, 0.1), soft))
    assert found is not None
    assert set(found.conflict) == {"Budget", "Bounds"}


def test_integer_constraints_are_left_out() -> None:
    m = some_market()
    few = po.MaxHoldings(2)
    assert diagnose(problem_of(m, po.Budget(), po.Bounds(0.0, 0.4), few)) is None  # though two cannot make a whole
    found = diagnose(problem_of(m, po.Budget(), po.Bounds(0.0, 0.1), few))
    assert found is not None
    assert set(found.conflict) == {"Budget", "Bounds"}
    assert "even without MaxHoldings" in found.message


def test_no_turnover_at_all_is_a_limit_like_others() -> None:
    m = some_market()
    least = float(m.held["A0"]) + 0.1
    still = po.Turnover(0.0)
    problem = problem_of(m, po.Budget(), po.Bounds(), still, po.MustHold({"A0": least}))
    found = crossed_limits(problem) or diagnose(problem)
    assert found is not None
    assert set(found.conflict) == {"Turnover", "MustHold"}
    assert found.relaxations is not None
    assert found.relaxations.loc["Turnover", "needed"] == pytest.approx(0.2)  # bought, and sold again elsewhere
    assert found.relaxations.loc["MustHold[A0]", "needed"] == pytest.approx(least - 0.1)


def test_numbers_that_hardly_differ_are_shown_to_differ() -> None:
    m = some_market()
    one, two = po.LinearLimit("A0 >= 0.5", name="One"), po.LinearLimit("A0 <= 0.49999995", name="Two")
    found = diagnose(problem_of(m, po.Bounds(-1, 1), one, two))
    # too little to be called a conflict with any certainty, relative to the limits' size of one
    assert found is None
    found = diagnose(problem_of(m, po.Bounds(-1, 1), one, po.LinearLimit("A0 <= 0.4999995", name="Two")))
    assert found is not None
    assert "One >= 0.4999995 instead of 0.5" in found.message


@pytest.mark.parametrize("level", [0.0, 0.9])
def test_many_scenarios_are_looked_at_in_part(level: float) -> None:
    """Thousands of scenarios come as cuts; what is said is as exact as if all were written out."""
    rng = np.random.default_rng(5)
    returns = 0.01 * rng.standard_t(4, size=(4000, N)) + 0.003 * rng.normal(size=(4000, 1))
    data = po.ScenarioSet(pd.DataFrame(returns, columns=NAMES))
    measure = po.MeanAbsoluteDeviation() if level == 0.0 else po.CVaR(level)
    held = pd.Series(1 / N, NAMES)
    problem = po.Problem(
        data, po.ExpectedReturn(), [*LONG, po.Limit(measure, upper=0.0005, name="Target")], holdings=held
    )
    found = diagnose(problem)
    assert found is not None
    assert found.relaxations is not None
    assert set(found.conflict) == {"Target", "Budget"}
    model = Model(problem)
    assert found.relaxations.loc["Target", "change"] == pytest.approx(
        model.alone("Target", ["Budget", "Bounds"]), rel=1e-6
    )
    assert found.relaxations.loc["Budget", "change"] == pytest.approx(
        -model.alone("Budget", ["Target", "Bounds"]), rel=1e-6
    )


def test_where_a_solver_gave_up_changes_nothing() -> None:
    case = case_of(worst_case, 0)
    columns = case.infeasible.compiled.program.shape[1]
    one, other = diagnose(case.infeasible), diagnose(case.infeasible, np.full(columns, 0.3))
    assert one is not None
    assert other is not None
    assert one.conflict == other.conflict
    assert one.relaxations is not None
    pd.testing.assert_frame_equal(one.relaxations, other.relaxations, rtol=1e-6)  # type: ignore[arg-type]


# -- directions ------------------------------------------------------------------------------------------------------
FREE = [po.Budget()]


@pytest.mark.parametrize(
    "ends",
    [po.Variance(), po.Ridge(0.01), po.PowerCost(0.01), 2.0 * po.Volatility(), po.EntropicVaR(0.9), po.GrossExposure()],
    ids=repr,
)
def test_what_bends_upwards_ends_every_direction(ends: Any) -> None:
    m = some_market()
    assert diagnose(problem_of(m, *FREE, objective=po.ExpectedReturn() - ends)) is None
    assert diagnose(problem_of(m, *FREE, objective=po.ExpectedReturn())).status is po.Status.unbounded  # type: ignore[union-attr]


def test_a_curved_limit_ends_the_directions_it_measures() -> None:
    m = some_market()
    two = po.Volatility(pd.DataFrame(np.diag([1.0, 1.0, 1.0, 1.0, 0.0, 0.0]) * 1e-4, NAMES, NAMES))
    found = diagnose(problem_of(m, *FREE, po.Limit(two, upper=0.01, name="Four"), objective=po.ExpectedReturn()))
    assert found is not None
    assert found.status is po.Status.unbounded
    assert found.direction is not None
    d = found.direction
    assert d[["A0", "A1", "A2", "A3"]].abs().max() < 1e-6 * d.abs().max()
    assert d["A4"] == pytest.approx(-d["A5"], rel=1e-6)
    assert m.data.mean() @ d > 0
    both = po.Limit(po.Volatility(), upper=0.02, name="All")
    assert diagnose(problem_of(m, *FREE, both, objective=po.ExpectedReturn())) is None


def test_growth_ends_where_a_scenario_would_lose_everything() -> None:
    m = some_market()
    assert diagnose(problem_of(m, *FREE, objective=po.LogGrowth())) is None


# -- through the front door ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "family",
    [
        gross,
        *(
            pytest.param(family, marks=pytest.mark.slow)
            for family in (worst_case, volatility, drawdown, costs, deviation)
        ),
    ],
    ids=lambda family: family.__name__,
)
def test_what_optimize_says(family: Callable[[Twins], Case]) -> None:
    case = case_of(family, 1)
    with pytest.raises(po.InfeasibleError) as caught:
        po.optimize(case.infeasible)
    assert set(caught.value.conflict) == set(diagnosed(family, 1).conflict)
    assert "The nearest portfolio breaks" in str(caught.value)
    assert po.optimize(case.barely, raise_on_failure=False).status is not po.Status.infeasible

"""The whole language against general solvers fed by `portfolioopt.reference`, and against NumPy from the weights."""

from __future__ import annotations

from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

import portfolioopt as po
from portfolioopt import problem as language
from portfolioopt.problem.constraints import CONSTRAINT_TYPES
from portfolioopt.reference import solve
from portfolioopt.reference.constraints import lines
from portfolioopt.reference.measures import translate

from .language_instances import CONCAVE, MEASURES, RULES, Market, Measured, Ruled, measured_limit

LIMIT = {"time_limit": 20.0}  # HiGHS has been seen to cycle on a set without interior; Clarabel then answers


class Draw(NamedTuple):
    """A problem, and what it is made of."""

    market: Market
    problem: po.Problem
    parts: list[tuple[float, Measured]]
    rules: list[Ruled]
    soft: list[tuple[float, Ruled]]


def draw(market: Market, parts: list[tuple[float, Measured]], rules: list[Ruled], soft: Any = ()) -> Draw:
    objective = po.Objective(tuple((c, one.term) for c, one in parts))
    charged = [po.Soft(one.constraint, price) for price, one in soft]
    constraints = [*market.base(), *(one.constraint for one in rules), *charged]
    return Draw(market, market.problem(objective, constraints), parts, rules, list(soft))


def expected(market: Market, mean: np.ndarray | None = None) -> Measured:
    if mean is None:
        return Measured(po.ExpectedReturn(), lambda w: float(market.mu @ w))
    return Measured(po.ExpectedReturn(market.series(mean)), lambda w: float(mean @ w))


def sign(name: str) -> float:
    return 1.0 if name in CONCAVE else -1.0


def check(case: Draw, *, linear: bool = False, rel: float = 1e-6) -> po.Result:
    """Certified, as good as a general solver's answer, and all it reports true by NumPy."""
    result = po.optimize(case.problem)
    c = result.certificate
    assert c is not None
    assert result.weights is not None
    assert result.status is po.Status.optimal
    assert c.gap <= 1e-6
    assert c.max_violation <= 1e-8
    w = result.weights.to_numpy()

    # terms: each by its definition
    own = [(factor, one.value(w)) for factor, one in case.parts]
    own += [(-price, one.violation(w)) for price, one in case.soft]
    terms = result.terms
    assert len(terms) == len(own)
    np.testing.assert_allclose(terms["coefficient"].to_numpy(), [factor for factor, _ in own], rtol=1e-12)
    np.testing.assert_allclose(terms["value"].to_numpy(), [value for _, value in own], rtol=1e-7, atol=1e-10)
    objective = sum(factor * value for factor, value in own)
    assert result.objective == pytest.approx(objective, rel=1e-7, abs=1e-7 * c.scale + 1e-12)
    # constraints: all hold, and the report's slack says so
    for violation in [*(one.violation for one in case.rules), *case.market.own_base()]:
        assert violation(w) <= 2e-8
    hard = result.constraints[~result.constraints["constraint"].isin([s.constraint.name for _, s in case.soft])]
    assert (hard["slack"] >= -2e-8).all()

    other = solve(case.problem, **(LIMIT if linear else {}))
    assert other.status == "optimal", other.message
    accuracy = max(other.tolerance, 2e-7 * (other.solver != "HIGHS"))  # what Clarabel's cones are good for
    assert c.bound >= other.objective - accuracy * c.scale - 1e-10, "a general solver beats the bound"
    assert result.objective == pytest.approx(other.objective, rel=0, abs=rel * c.scale + 1e-10)
    return result


def seeds(quick: int, slow: int) -> list[Any]:
    return [*range(quick), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(quick, slow))]


# -- the tables are complete -----------------------------------------------------------------------------------------
def test_every_measure_and_constraint_is_here_and_translates() -> None:
    m = Market(0)
    drawn = {type(make(m).term) for make in MEASURES.values()}
    terms = {t for t in vars(language).values() if isinstance(t, type) and issubclass(t, language.terms.Term)}
    assert terms - drawn <= {po.ExpectedReturn, po.NetExposure}  # linear: in every objective, and among the rules
    assert {t for t in terms if translate.dispatch(t) is translate.dispatch(object)} == set()
    integer = (po.MaxHoldings, po.MinPosition, po.MinTrade, po.RoundLots)
    limited = {type(make(m).constraint) for make in RULES.values()}
    assert set(CONSTRAINT_TYPES) - limited == {po.Soft, *integer}
    special = (po.Soft, *integer)
    assert {t for t in CONSTRAINT_TYPES if lines.dispatch(t) is lines.dispatch(object)} == set(special)


# -- values and translations at given weights ------------------------------------------------------------------------
@pytest.mark.parametrize("seed", seeds(1, 4))
@pytest.mark.parametrize("name", MEASURES)
def test_a_measure_at_given_weights(name: str, seed: int) -> None:
    """The library's value, NumPy's and cvxpy's agree anywhere, not only at an optimum."""
    m = Market(seed, short=True)
    one = MEASURES[name](m)
    problem = m.problem(sign(name) * one.term, [po.Budget()])
    for trial in range(3):
        w = m.rng.dirichlet(np.ones(m.N)) + (0.0 if trial == 0 else 0.2 * m.rng.normal(size=m.N))
        w += (1.0 - w.sum()) / m.N
        value = one.value(w)
        assert one.term.value(problem.compiled.view(w)) == pytest.approx(value, rel=1e-8, abs=1e-13)
        if trial == 1:
            fixed = solve(problem, extra_constraints=lambda x, w=w: [x == w])
            assert fixed.status == "optimal"
            assert sign(name) * fixed.objective == pytest.approx(value, rel=2e-6, abs=1e-9)


@pytest.mark.parametrize("seed", seeds(2, 10))
@pytest.mark.parametrize("name", RULES)
def test_a_constraint_at_given_weights(name: str, seed: int) -> None:
    """The reported slack is right wherever the weights are: violated by what NumPy says, or held."""
    from portfolioopt.solve.certificate import line_values

    m = Market(seed)
    one = RULES[name](m)
    problem = m.problem(po.ExpectedReturn(), [one.constraint])
    compiled = problem.compiled
    for w in (m.anchor, m.h, m.anchor + 0.3 * m.rng.normal(size=m.N)):
        over = 0.0
        for group, value in zip(compiled.lines, line_values(compiled, compiled.view(w)), strict=True):
            off = value - group.limit
            over += float(np.sum({"<=": np.maximum(off, 0), ">=": np.maximum(-off, 0), "==": np.abs(off)}[group.sense]))
        assert over == pytest.approx(one.violation(w), rel=1e-9, abs=1e-12)
    assert one.violation(m.anchor) <= 1e-12


# -- optima ----------------------------------------------------------------------------------------------------------
# what no other file weighs against an oracle
OWN = [
    "cvar stressed", "cvar reweighted", "worst case of bent ones", "mean absolute deviation stressed", "short",
    "gross of some", "sells", "borrowing", "variance stressed", "volatility of factors", "tracking error",
    "conditional drawdown of a path", "impact", "length", "growth stressed",
]  # fmt: skip


def names(quick: set[str], table: Any) -> list[Any]:
    return [pytest.param(name, marks=() if name in quick else pytest.mark.slow) for name in table]


@pytest.mark.parametrize("name", names({"worst case of bent ones", "borrowing", "growth stressed"}, OWN))
def test_a_measure_in_the_objective(name: str) -> None:
    for seed in range(11, 15):
        m = Market(seed)
        one = MEASURES[name](m)
        check(draw(m, [(1.0, expected(m)), (sign(name) * one.price, one)], []))


@pytest.mark.parametrize("name", names({"cvar reweighted", "tracking error"}, OWN))
def test_a_measure_as_a_limit(name: str) -> None:
    for seed in range(21, 25):
        m = Market(seed)
        rule = measured_limit(m, name, 0.1)
        check(draw(m, [(1.0, expected(m))], [rule]))


DUAL = [
    "cvar", "worst case", "mean absolute deviation", "variance", "tracking error of a covariance", "entropic",
    "semi-deviation", "largest drawdown", "robust, norm 2", "active share",
]  # fmt: skip


@pytest.mark.parametrize("name", names({"cvar", "variance"}, DUAL))
def test_the_least_risk_as_a_limit_gives_the_return_back(name: str) -> None:
    """Two ways to one point of the frontier."""
    m = Market(31, short=False)
    one, mu = MEASURES[name](m), expected(m)
    least = po.optimize(draw(m, [(-one.price, one)], []).problem)
    most = po.optimize(draw(m, [(1.0, mu)], []).problem)
    low, high = mu.value(least.weights.to_numpy()), most.objective
    target = 0.5 * (low + high)
    safest = po.optimize(m.problem(-one.price * one.term, [*m.base(), po.ReturnTarget(target)]))
    risk = one.value(safest.weights.to_numpy())
    if risk <= one.value(least.weights.to_numpy()) * (1.0 + 1e-4) + 1e-7:
        pytest.skip("the return costs nothing here")
    back = po.optimize(m.problem(po.ExpectedReturn(), [*m.base(), one.term <= risk]))
    # one unit of risk is worth so much return: the gap of the first problem carries over
    slope = (high - low) / (risk - one.value(least.weights.to_numpy()))
    assert back.objective == pytest.approx(target, rel=1e-6, abs=2e-6 * risk * abs(slope) + 1e-9)
    assert back.constraints["binding"].iloc[-1]


@pytest.mark.parametrize("name", names({"gross groups", "text", "factors", "growth"}, RULES))
def test_a_constraint(name: str) -> None:
    for seed in (41, 42, 43):
        m = Market(seed)
        rule = RULES[name](m)
        mean = m.mu + 0.002 * m.rng.normal(size=m.N)  # away from the anchor
        check(draw(m, [(1.0, expected(m, mean)), (-0.1, MEASURES["cvar"](m))], [rule]))


@pytest.mark.parametrize("name", names({"gross groups", "no trade"}, RULES))
def test_a_soft_constraint(name: str) -> None:
    """At prices from where it is ignored to where it is met."""
    for seed, factor in ((51, 0.05), (52, 0.5), (53, 20.0)):
        m = Market(seed)
        rule = RULES[name](m)
        mean = m.mu + 0.002 * m.rng.normal(size=m.N)
        parts = [(1.0, expected(m, mean)), (-0.1, MEASURES["cvar"](m))]
        check(draw(m, parts, [], [(factor * rule.penalty, rule)]))


@pytest.mark.parametrize("name", names({"cvar"}, ["cvar", "volatility", "semi-deviation", "largest drawdown", "gross"]))
def test_a_ratio(name: str) -> None:
    for seed in (61, 62):
        m = Market(seed, short=False)
        mean, one = m.mu + 0.002, MEASURES[name](m)
        reward = po.ExpectedReturn(m.series(mean))
        problem = m.problem(reward / one.term, [*m.base(), RULES["groups"](m).constraint])
        result = po.optimize(problem)
        assert result.certificate.gap <= 1e-6
        w = result.weights.to_numpy()
        assert result.objective == pytest.approx(float(mean @ w) / one.value(w), rel=1e-9)
        other = solve(problem)
        assert result.objective == pytest.approx(other.objective, rel=1e-6)
        assert result.certificate.bound >= other.objective * (1.0 - 2e-7)


# -- mixes -----------------------------------------------------------------------------------------------------------
KINDS, DRAWS = 16, 20  # few make-ups, many problems of each: every make-up is another shape to compile


def mix(seed: int) -> Draw:
    """Three measures, some weighed and one limited, next to constraints, one of them soft; all of them occur."""
    number = seed // DRAWS
    order = np.random.default_rng(8)
    chosen = [str(name) for name in order.permutation(list(MEASURES))[number::KINDS]]
    picked = sorted((str(name) for name in order.permutation(list(RULES))[number::KINDS]), key="no trade".__ne__)
    m = Market(1000 + seed, small=bool(number % 2))
    rules = [RULES[name](m) for name in picked]  # "no trade" moves the anchor and comes first
    soft: list[tuple[float, Ruled]] = []
    if number % 3 == 0:
        one = rules.pop()
        soft = [(float(one.penalty * m.rng.choice([0.1, 1.0, 10.0])), one)]
    if number % 4 != 1:
        rules.append(measured_limit(m, chosen.pop(number % len(chosen)), float(m.rng.choice([0.02, 0.1, 0.4]))))
    mean = m.mu + 0.001 * m.rng.normal(size=m.N)
    parts = [(1.0, expected(m, mean if m.rng.random() < 0.5 else None))]
    for name in chosen:
        one = MEASURES[name](m)
        parts.append((sign(name) * one.price * float(np.exp(m.rng.uniform(-2.0, 1.0))), one))
    return draw(m, parts, rules, soft)


FEW = (0, 1, 2, 3, 4, 20, 21, 22, 23, 24)


@pytest.mark.parametrize(
    "seed", [pytest.param(i, marks=() if i in FEW else pytest.mark.slow) for i in range(KINDS * DRAWS)]
)
def test_a_mix(seed: int) -> None:
    check(mix(seed), linear=True)


# -- integers --------------------------------------------------------------------------------------------------------
INTEGER: dict[str, Any] = {
    "few": lambda m: [po.MaxHoldings(2 + int(m.rng.integers(2)))],
    "no dust": lambda m: [po.MinPosition(float(m.rng.uniform(0.1, 0.3)))],
    "no dust by asset": lambda m: [po.MinPosition(m.series(m.rng.uniform(0.0, 0.3, m.N)))],
    "no small trades": lambda m: [po.MinTrade(float(m.rng.uniform(0.05, 0.2)))],
    "whole lots": lambda m: [po.RoundLots(0.05)],
    "few and no dust": lambda m: [po.MaxHoldings(3), po.MinPosition(0.15)],
    "lots and no small trades": lambda m: [po.RoundLots(0.05), po.MinPosition(0.1), po.MaxHoldings(4)],
}


@pytest.mark.parametrize("name", names({"no dust by asset", "whole lots"}, INTEGER))
def test_integer_constraints(name: str) -> None:
    for seed in (71, 72, 73):
        m = Market(seed)
        objective = po.ExpectedReturn() - 0.3 * po.CVaR(0.9) - 0.5 * po.ProportionalCost(10.0)
        budget = [po.Budget(), po.Bounds(m.low, 0.6)]
        problem = m.problem(objective, [*budget, *INTEGER[name](m)])
        other = solve(problem, **LIMIT)
        result = po.optimize(problem)
        c = result.certificate
        assert c.gap <= 1e-6
        assert c.max_violation <= 1e-8
        assert result.objective == pytest.approx(other.objective, rel=0, abs=2e-6 * c.scale)
        assert c.bound >= other.objective - 1e-8 * c.scale
        for w in (result.weights.to_numpy(), other.weights):
            assert w is not None
            assert w.sum() == pytest.approx(1.0, abs=1e-8)
            assert (w >= m.low - 1e-8).all()
            assert (w <= 0.6 + 1e-8).all()
            for constraint in problem.constraints:
                assert whole(constraint, w, m)


def whole(constraint: Any, w: np.ndarray, m: Market) -> bool:
    held, trades = np.abs(w) > 1e-9, np.abs(w - m.h) > 1e-9
    match constraint:
        case po.MaxHoldings():
            return int(held.sum()) <= constraint.count
        case po.MinPosition():
            size = pd.Series(constraint.size, m.names).reindex(m.names).to_numpy(dtype=float)
            return bool((np.abs(w)[held] >= size[held] - 1e-8).all())
        case po.MinTrade():
            return bool((np.abs(w - m.h)[trades] >= constraint.size - 1e-8).all())
        case po.RoundLots():
            return bool((np.abs(w / constraint.lot - np.round(w / constraint.lot)) <= 1e-7).all())
        case _:
            return True


def test_the_reference_for_integers_against_all_supports() -> None:
    """Branch and bound against one continuous problem for each choice of three assets."""
    m = Market(74)
    budget = [po.Budget(), po.Bounds(m.low, 0.6)]
    objective = po.ExpectedReturn() - 0.3 * po.CVaR(0.9)
    best = -np.inf
    for kept in combinations(range(m.N), 3):
        high = np.where(np.isin(np.arange(m.N), kept), 0.6, 0.0)
        low = np.where(high > 0, m.low, 0.0)
        one = solve(m.problem(objective, [po.Budget(), po.Bounds(m.series(low), m.series(high))]))
        best = max(best, one.objective if one.status == "optimal" else -np.inf)
    found = solve(m.problem(objective, [*budget, po.MaxHoldings(3)]))
    assert found.objective == pytest.approx(best, rel=1e-8)
    assert found.bound is not None
    assert found.bound == pytest.approx(best, rel=1e-7)


# -- real returns ----------------------------------------------------------------------------------------------------
REAL = ["tails, costs and sectors", "bent measures", "a path"]


@pytest.mark.slow
@pytest.mark.parametrize("name", MEASURES)
def test_a_measure_of_real_returns(name: str) -> None:
    for seed in range(61, 64):
        m = Market(seed, real=True)
        one = MEASURES[name](m)
        check(draw(m, [(1.0, expected(m)), (sign(name) * one.price, one)], []))


@pytest.mark.slow
@pytest.mark.parametrize("name", RULES)
def test_a_constraint_on_real_returns(name: str) -> None:
    for seed in range(71, 74):
        m = Market(seed, real=True)
        rule = RULES[name](m)
        mean = m.mu + 0.002 * m.rng.normal(size=m.N)
        check(draw(m, [(1.0, expected(m, mean)), (-0.1, MEASURES["cvar"](m))], [rule]))


@pytest.mark.parametrize("name", REAL)
def test_real_returns(name: str) -> None:
    returns = po.data.sample_prices().pct_change().iloc[-500:]
    sectors = po.data.sample_sectors()
    scenarios = po.ScenarioSet(returns)
    even = pd.Series(1.0 / returns.shape[1], returns.columns)
    R, p = returns.to_numpy(), np.full(len(returns), 1.0 / len(returns))
    label = sectors.loc["AAPL"]
    base = [po.Budget(), po.Bounds(0.0, 0.2), po.GroupLimit(sectors, upper={label: 0.25})]
    objective, more = {
        "tails, costs and sectors": (
            po.ExpectedReturn() - 0.5 * po.CVaR(0.95) - 0.2 * po.ProportionalCost(10.0),
            [po.CVaRLimit(0.99, 0.035), po.Turnover(0.8)],
        ),
        "bent measures": (
            po.ExpectedReturn() - 2.0 * po.Variance() - 0.02 * po.EntropicVaR(0.95),
            [po.TrackingError(benchmark=even) <= 0.004, po.MeanAbsoluteDeviation() <= 0.011],
        ),
        "a path": (
            po.ExpectedReturn() - 0.01 * po.ConditionalDrawdown(0.9) - 0.001 * po.PowerCost(0.01),
            [po.MaxDrawdown() <= 0.35, po.LinearLimit("AAPL + MSFT <= 15%")],
        ),
    }[name]
    problem = po.Problem(scenarios, objective, [*base, *more], holdings=even)
    result, other = po.optimize(problem), solve(problem)
    c = result.certificate
    assert other.status == "optimal"
    assert c.gap <= 1e-6
    assert c.max_violation <= 1e-8
    assert result.objective == pytest.approx(other.objective, rel=0, abs=1e-6 * c.scale)
    assert c.bound >= other.objective - 2e-7 * c.scale
    w = result.weights.to_numpy()
    assert w.sum() == pytest.approx(1.0, abs=1e-9)
    assert w[(sectors.reindex(returns.columns) == label).to_numpy()].sum() <= 0.25 + 1e-9
    assert result.expected_return == pytest.approx(float(p @ R @ w), rel=1e-10)

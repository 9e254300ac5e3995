"""The optimiser against two independent solvers, instance by instance, and against published figures."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest

import portfolioopt as po
from portfolioopt_kernels.padding import padded_shape
from tests.oracles.instances import QUICK, SLOW, Instance, instance, weighted_cvar
from tests.oracles.references import (
    Reference,
    check_certificate,
    objective_of,
    solve_conic,
    solve_linear,
    violations,
)

SEEDS = [*QUICK, *(pytest.param(seed, marks=pytest.mark.slow) for seed in SLOW)]


@cache
def solved(seed: int) -> tuple[Instance, po.Result]:
    made = instance(seed)
    return made, po.optimize(made.problem)


@cache
def references(seed: int) -> tuple[Reference, Reference | None]:
    problem = instance(seed).problem
    return solve_linear(problem), solve_conic(problem)


def agree(result: po.Result, reference: Reference, tolerance: float = 1e-8) -> None:
    certificate = result.certificate
    assert certificate is not None
    allowed = tolerance * certificate.scale + reference.accuracy
    assert result.objective == pytest.approx(reference.optimum, rel=0.0, abs=allowed)


# -- random instances ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", SEEDS)
def test_it_finds_what_both_references_find(seed: int) -> None:
    made, result = solved(seed)
    certificate = result.certificate
    assert result.status is po.Status.optimal, str(made)
    assert certificate is not None
    assert result.weights is not None
    assert certificate.gap <= 1e-6
    assert certificate.max_violation <= 1e-8
    assert np.isfinite(result.weights.to_numpy()).all()
    assert result.weights.index.equals(made.problem.scenarios.assets)
    for c in made.problem.constraints:
        if isinstance(c, po.Bounds):  # to the last bit: the weights are clipped to them
            lower, upper = pd.Series(c.lower, result.weights.index), pd.Series(c.upper, result.weights.index)
            assert (result.weights >= lower).all()
            assert (result.weights <= upper).all()

    linear, conic = references(seed)
    agree(result, linear)
    if conic is not None:
        agree(result, conic, 1e-6)  # an interior point of its own accuracy, where the other reference ends at a vertex
    check_certificate(result, linear, *([] if conic is None else [conic]))
    # the portfolio that the instance was built around meets the limits, so it cannot beat the bound either
    known, _ = objective_of(made.problem, made.feasible)
    assert known <= certificate.bound + 1e-9 * certificate.scale + linear.accuracy


def summary(seeds: range) -> tuple[np.ndarray, int]:
    """Gaps, and how often the conic reference had nothing to say."""
    gaps = [result.certificate.gap for _, result in map(solved, seeds) if result.certificate is not None]
    return np.array(gaps), sum(references(seed)[1] is None for seed in seeds)


def test_gaps_are_usually_far_below_the_tolerance() -> None:
    gaps, _ = summary(QUICK)
    assert np.median(gaps) <= 1e-8
    assert gaps.min() >= -1e-9


@pytest.mark.slow
def test_gaps_are_usually_far_below_the_tolerance_on_large_problems_too() -> None:
    gaps, silent = summary(SLOW)
    assert np.median(gaps) <= 1e-8
    assert np.quantile(gaps, 0.9) <= 1e-8
    assert silent <= 0.05 * len(SLOW)


def test_the_instances_cover_the_problem_language() -> None:
    features: Counter[str] = Counter()
    shapes = set()
    kinds: Counter[type] = Counter()
    for seed in [*QUICK, *SLOW]:
        made = instance(seed)
        features.update(made.features)
        kinds.update({type(c) for c in made.problem.constraints})
        s, n, m, a, c = made.problem.compiled.program.shape
        shapes.add((*padded_shape(s, n, c), m, a))
        assert max(violations(made.problem, made.feasible).values(), default=0.0) <= 1e-12, str(made)
    assert len(QUICK) + len(SLOW) >= 240
    assert len(shapes) <= 40
    assert set(kinds) == {
        po.Budget, po.Bounds, po.GroupLimit, po.Turnover, po.TradeLimit, po.ReturnTarget, po.CVaRLimit,
    }  # fmt: skip
    assert min(kinds.values()) >= 30
    rare = {name: count for name, count in features.items() if count < 5}
    assert not rare
    assert len(features) >= 40


def test_an_instance_is_the_same_every_time() -> None:
    first, second = instance(3), instance(3)
    pd.testing.assert_frame_equal(first.problem.scenarios.returns, second.problem.scenarios.returns)
    assert repr(first.problem) == repr(second.problem)
    assert str(first) == str(second)


# -- corners of the language -----------------------------------------------------------------------------------------
def _corner_scenarios(s: int = 20, n: int = 5) -> po.ScenarioSet:
    rng = np.random.default_rng(3)
    returns = 0.01 * rng.normal(size=(s, n)) + 0.001
    return po.ScenarioSet(pd.DataFrame(returns, columns=[f"A{i}" for i in range(n)]))


FIVE = _corner_scenarios()
HELD = pd.Series([0.3, 0.2, 0.1, 0.2, 0.2], FIVE.assets)
CASH = 0.0 * HELD
HALVES = {"A0": "x", "A1": "x", "A2": "y", "A3": "y", "A4": "y"}
BOX = [po.Budget(), po.Bounds()]
GAIN, RISK, COST = po.ExpectedReturn(), po.CVaR(0.9), po.ProportionalCost(5)
NET = GAIN - RISK - COST
LARGEST_MEAN = float(FIVE.mean().max())

# All of one padded shape: 20 x 5, one CVaR level, one L1 block, one to four rows.
CORNERS: dict[str, po.Problem] = {
    "nothing to maximise": po.Problem(FIVE, 0 * GAIN - 0 * RISK - 0 * COST, [*BOX, po.Turnover(0.5)], holdings=HELD),
    "costs only": po.Problem(FIVE, 0 * RISK - COST, BOX, holdings=HELD),
    "costs dwarf returns": po.Problem(FIVE, 1e-6 * GAIN - 0 * RISK - po.ProportionalCost(500), BOX, holdings=HELD),
    "every weight fixed": po.Problem(FIVE, NET, [po.Budget(), po.Bounds(HELD, HELD)], holdings=HELD),
    "no turnover allowed": po.Problem(FIVE, GAIN - RISK, [*BOX, po.Turnover(0.0)], holdings=HELD),
    "no trade allowed": po.Problem(FIVE, NET, [*BOX, po.TradeLimit(0.0)], holdings=HELD),
    "caps leave one portfolio": po.Problem(FIVE, NET, [po.Budget(), po.Bounds(0.0, 0.2)], holdings=HELD),
    "groups add up to the budget": po.Problem(
        FIVE, NET, [*BOX, po.GroupLimit(HALVES, upper={"x": 0.4, "y": 0.6})], holdings=HELD
    ),
    "from cash with just enough turnover": po.Problem(FIVE, GAIN - RISK, [*BOX, po.Turnover(1.0)], holdings=CASH),
    "cash to be spent with just enough turnover": po.Problem(
        FIVE, GAIN - RISK, [*BOX, po.Turnover(0.1)], holdings=0.9 * HELD
    ),
    "the target leaves one asset": po.Problem(FIVE, -RISK - COST, [*BOX, po.ReturnTarget(LARGEST_MEAN)], holdings=HELD),
    "an empty budget over long positions": po.Problem(FIVE, NET, [po.Budget(0.0), po.Bounds()], holdings=HELD),
    "the same budget twice": po.Problem(FIVE, NET, [*BOX, po.Budget(1.0, name="Again")], holdings=HELD),
    "the mean as a tail": po.Problem(FIVE, GAIN - po.CVaR(1e-6) - COST, BOX, holdings=HELD),
    "the worst case as a tail": po.Problem(FIVE, GAIN - po.CVaR(1 - 1e-9) - COST, BOX, holdings=HELD),
    "hardly any risk aversion": po.Problem(FIVE, GAIN - 1e-9 * RISK - COST, BOX, holdings=HELD),
    "hardly anything but risk aversion": po.Problem(FIVE, GAIN - 1e6 * RISK - COST, BOX, holdings=HELD),
    "nothing ever moves": po.Problem(po.ScenarioSet(0.0 * FIVE.returns), NET, BOX, holdings=HELD),
    "sure returns": po.Problem(po.ScenarioSet(0.0 * FIVE.returns + 0.01), NET, BOX, holdings=HELD),
    "nearly all probability on one scenario": po.Problem(
        po.ScenarioSet(FIVE.returns, np.array([1.0 - 19e-12, *[1e-12] * 19])), NET, BOX, holdings=HELD
    ),
    "very wide bounds": po.Problem(
        FIVE, NET, [po.Budget(), po.Bounds(-1e6, 1e6, unit_check=False)], holdings=HELD
    ),
}  # fmt: skip


@pytest.mark.parametrize("corner", CORNERS)
def test_corners(corner: str) -> None:
    result = po.optimize(CORNERS[corner])
    linear = solve_linear(CORNERS[corner])
    agree(result, linear)
    check_certificate(result, linear)


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 2])
def test_the_smallest_problems(n: int) -> None:
    problem = po.Problem(_corner_scenarios(2, n), GAIN - RISK, [po.Bounds(-1.0, 1.0)])
    result = po.optimize(problem)
    linear = solve_linear(problem)
    agree(result, linear)
    check_certificate(result, linear)


# -- standing still --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("rule", ["turnover", "trade limit", "bounds"])
def test_rounding_in_the_limits_is_not_blown_up(rule: str) -> None:
    """Three hundred weights that sum to one but for rounding, and may not move: implied bounds must let them through.

    The certificate trusts these bounds. Crossed ones make it claim too much, and sound problems look infeasible.
    """
    rng = np.random.default_rng(0)
    n = 300
    data = _corner_scenarios(4, n)
    held = pd.Series(rng.dirichlet(np.ones(n)), data.assets)
    still = {"turnover": po.Turnover(0.0), "trade limit": po.TradeLimit(0.0), "bounds": po.Bounds(held, held)}[rule]
    problem = po.Problem(data, NET, [po.Budget(), still], holdings=held)
    compiled = problem.compiled
    assert (compiled.box_lower <= held + 1e-9).all()
    assert (compiled.box_upper >= held - 1e-9).all()
    assert (compiled.box_lower <= compiled.box_upper).all()


def test_implied_bounds_let_every_known_portfolio_through() -> None:
    for seed in [*QUICK, *SLOW, 705, 2266, 2582]:
        made = instance(seed)
        compiled = made.problem.compiled
        assert (compiled.box_lower <= made.feasible + 1e-8).all(), str(made)
        assert (compiled.box_upper >= made.feasible - 1e-8).all(), str(made)


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["turnover", "trade limit", "bounds"])
def test_standing_still_is_optimal_where_nothing_may_move(rule: str) -> None:
    rng = np.random.default_rng(0)
    n = 300
    data = _corner_scenarios(400, n)
    held = pd.Series(rng.dirichlet(np.ones(n)), data.assets)
    still = {"turnover": po.Turnover(0.0), "trade limit": po.TradeLimit(0.0), "bounds": po.Bounds(held, held)}[rule]
    result = po.optimize(po.Problem(data, GAIN - RISK, [po.Budget(), still], holdings=held))
    check_certificate(result)
    assert result.weights is not None
    np.testing.assert_allclose(result.weights, held, rtol=0, atol=1e-9)


# Instances at which earlier versions stalled or saw a contradiction: an optimum of exactly zero where doing nothing
# is best, and limits that leave a single portfolio.
@pytest.mark.slow
@pytest.mark.parametrize("seed", [559, 665, 705, 833, 1841, 2266, 2351, 2494])
def test_instances_that_were_hard(seed: int) -> None:
    _, result = solved(seed)
    linear = solve_linear(result.problem)
    agree(result, linear)
    check_certificate(result, linear)


# -- published figures -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("beta", "published"), [(0.95, 0.0225343258496), (0.99, 0.0371595423856)])
def test_the_published_minimum_cvar_of_twenty_large_companies(beta: float, published: float) -> None:
    """Long-only, fully invested, 8312 daily returns: figures known to twelve digits from other solvers."""
    returns = po.data.sample_prices().pct_change().iloc[1:]
    assert returns.shape == (8312, 20)
    result = po.optimize(po.Problem(po.ScenarioSet(returns), -po.CVaR(beta), [po.Budget(), po.Bounds()]))
    assert -result.objective == pytest.approx(published, rel=1e-9, abs=1e-10)
    assert result.weights is not None
    exact = weighted_cvar(-returns.to_numpy() @ result.weights.to_numpy(), np.full(8312, 1 / 8312), beta)
    assert exact == pytest.approx(published, rel=1e-9, abs=1e-10)
    check_certificate(result)


# -- the references themselves ---------------------------------------------------------------------------------------
def test_the_exact_cvar_by_hand() -> None:
    losses = np.array([1.0, 3.0, 2.0, 4.0, 0.0])
    probabilities = np.array([0.3, 0.1, 0.15, 0.05, 0.4])
    # a tail of 0.2: all of the worst two, and a third of the next
    assert weighted_cvar(losses, probabilities, 0.8) == pytest.approx((4 * 0.05 + 3 * 0.1 + 2 * 0.05) / 0.2)
    assert weighted_cvar(losses, probabilities, 0.99) == 4.0


@pytest.mark.parametrize(
    "lie",
    [
        {"bound": -1.0},
        {"objective": 0.0},
        {"gap": 0.5},
        {"scale": 1e-9},
        {"worst_constraint": "Budget", "max_violation": 0.0},
    ],
)
def test_the_judge_notices_a_false_certificate(lie: dict[str, float | str]) -> None:
    problem = CORNERS["cash to be spent with just enough turnover"]
    result, linear = po.optimize(problem), solve_linear(problem)
    assert result.certificate is not None
    check_certificate(result, linear)
    result.certificate = replace(result.certificate, **lie)  # type: ignore[arg-type]
    with pytest.raises(AssertionError):
        check_certificate(result, linear)

"""The gap to the true optimum, where the true one is known: normal returns, whose CVaR is mean and volatility."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import portfolioopt as po
from portfolioopt.confidence import optimality_gap

ASSETS = list("ABCDE")
MEAN = pd.Series([2e-4, 4e-4, 6e-4, 8e-4, 1e-3], ASSETS)
_ROOT = np.random.default_rng(41).normal(size=(5, 5)) * 0.004 + np.diag([0.006, 0.008, 0.01, 0.012, 0.015])
COVARIANCE = pd.DataFrame(_ROOT @ _ROOT.T, ASSETS, ASSETS)
LIMITS = [po.Budget(), po.Bounds(0.0, 0.5)]
AVERSION, BETA = 0.15, 0.9
FACTOR = stats.norm.pdf(stats.norm.ppf(BETA)) / (1 - BETA)


def draw(seed: int, s: int = 300) -> po.ScenarioSet:
    normal = np.random.default_rng(seed).standard_normal((s, 5))
    return po.ScenarioSet(normal @ _ROOT.T + MEAN.to_numpy(), assets=ASSETS)


def problem(of: po.ScenarioSet) -> po.Problem:
    return po.Problem(of, po.ExpectedReturn() - AVERSION * po.CVaR(BETA), LIMITS)


def true_value(weights: pd.Series) -> float:
    w = weights.to_numpy()
    risk = -float(MEAN @ w) + FACTOR * float(np.sqrt(w @ COVARIANCE.to_numpy() @ w))
    return float(float(MEAN @ w) - AVERSION * risk)


@pytest.fixture(scope="module")
def optimum() -> float:
    exact = po.Problem(
        po.ScenarioSet.from_moments(MEAN, COVARIANCE),
        (1 + AVERSION) * po.ExpectedReturn() - AVERSION * FACTOR * po.Volatility(),
        LIMITS,
    )
    return po.optimize(exact).objective


@pytest.fixture(scope="module")
def candidate() -> po.Result:
    return po.optimize(problem(draw(1)))


def test_bounds_enclose_the_true_optimum_and_the_true_gap(candidate: po.Result, optimum: float) -> None:
    found = optimality_gap(candidate, draw, replications=60)
    truth = optimum - true_value(candidate.weights)
    assert truth > 0
    upper, lower = found.frame["estimate"][["upper bound", "candidate"]]
    error = found.frame["standard_error"]
    assert upper > optimum - 2 * error["upper bound"]  # too good on average
    assert lower < true_value(candidate.weights) + 2.5 * error["candidate"]
    assert found.optimum[0] < optimum < found.optimum[1]
    assert truth < found.gap_limit
    assert found.gap == pytest.approx(upper - lower)
    assert (found.replicas["gap"] >= -1e-12).all()
    # common random numbers: the gap is known far better than its two ends
    assert error["gap"] < 0.5 * np.hypot(error["upper bound"], error["candidate"])


@pytest.mark.slow
def test_larger_samples_tighten_the_gap_of_a_good_portfolio(candidate: po.Result) -> None:
    small = optimality_gap(candidate, lambda seed: draw(seed, 150), replications=12)
    large = optimality_gap(candidate, lambda seed: draw(seed, 2400), replications=12)
    assert large.gap < 0.6 * small.gap


def test_one_and_two_replications_estimate_their_error_within(candidate: po.Result, optimum: float) -> None:
    truth = optimum - true_value(candidate.weights)
    one = optimality_gap(candidate, draw, replications=1)
    two = optimality_gap(candidate, draw, replications=2)
    for found in (one, two):
        assert found.gap_limit > truth
        assert found.frame["standard_error"]["gap"] > 0
    assert two.frame["standard_error"]["gap"] < one.frame["standard_error"]["gap"]
    row = one.replicas.iloc[0]
    assert one.gap_limit == pytest.approx(row["gap"] + stats.norm.ppf(0.95) * row["gap_error"])
    # the error within a sample, from the paired differences of both portfolios
    fresh = draw(int(row["seed"]))
    best = po.optimize(problem(fresh)).weights
    parts = []
    for weights, var in ((best, fresh.tail(best, BETA).var), (candidate.weights, candidate.risk["var"][BETA])):
        losses = fresh.losses(weights)
        parts.append(-losses - AVERSION * (var + np.maximum(losses - var, 0) / (1 - BETA)))
    assert row["gap_error"] == pytest.approx(stats.sem(parts[0] - parts[1]), rel=1e-6)
    assert row["gap"] == pytest.approx(parts[0].mean() - parts[1].mean(), rel=1e-6)


def test_same_seed_same_answer_and_a_problem_is_solved_first(candidate: po.Result) -> None:
    one = optimality_gap(candidate, draw, replications=3, seed=5)
    again = optimality_gap(candidate.problem, draw, replications=3, seed=5)
    pd.testing.assert_frame_equal(one.frame, again.frame)
    assert not one.frame.equals(optimality_gap(candidate, draw, replications=3, seed=6).frame)
    assert one.title.startswith("with 95 % confidence the portfolio falls short of the best one by at most")
    assert "<table" in one._repr_html_()
    assert one.notes == ()


@pytest.mark.slow
def test_approximate_bounds_say_so() -> None:
    capped = problem(draw(1)).replace(constraints=[*LIMITS, po.CVaRLimit(BETA, 0.018)])
    found = optimality_gap(capped, draw, replications=4)
    assert "CVaRLimit(0.9) say something else" in repr(found)
    worst = po.Problem(draw(1), -po.WorstLoss(), LIMITS)
    found = optimality_gap(worst, draw, replications=3)
    assert "no expectation" in repr(found)
    assert found.replicas["gap_error"].isna().all()
    with pytest.raises(po.InputError, match="fewer than 3 replications"):
        optimality_gap(worst, draw, replications=2)


def test_refusals(candidate: po.Result) -> None:
    with pytest.raises(po.InputError, match="same scenarios for two seeds"):
        optimality_gap(candidate, lambda seed: draw(3), replications=2)
    with pytest.raises(po.InputError, match="function from a seed"):
        optimality_gap(candidate, draw(1))
    with pytest.raises(po.InputError, match=r"fresh\(\d+\) must be a ScenarioSet"):
        optimality_gap(candidate, lambda seed: draw(seed).returns)
    with pytest.raises(po.InputError, match="other assets"):
        optimality_gap(candidate, lambda seed: po.ScenarioSet(draw(seed).matrix, assets=list("ABCDX")))
    with pytest.raises(po.InputError, match="at least 1"):
        optimality_gap(candidate, draw, replications=0)
    with pytest.raises(po.InputError, match="takes a Result or a Problem"):
        optimality_gap(candidate.weights, draw)
    moments = po.ScenarioSet.from_moments(MEAN, COVARIANCE)
    with pytest.raises(po.InputError, match="mean and covariance alone"):
        optimality_gap(po.Problem(moments, -po.Volatility(), LIMITS), draw)


@pytest.mark.slow
def test_a_sample_without_an_optimum_is_named(candidate: po.Result) -> None:
    hopeless = candidate.problem.replace(constraints=[*LIMITS, po.ReturnTarget(0.0009)])
    with pytest.raises(po.InfeasibleError, match="fresh sample of seed"):
        optimality_gap(hopeless, lambda seed: draw(seed, 30), replications=20)


@pytest.mark.slow
def test_the_limit_on_the_gap_holds_as_often_as_it_says(optimum: float) -> None:
    """60 candidates, each judged by ten samples, by one and by two."""
    held = {1: 0, 2: 0, 10: 0}
    inside = 0
    for i in range(60):
        one = po.optimize(problem(draw(10_000 + i)))
        truth = optimum - true_value(one.weights)
        for count in held:
            found = optimality_gap(one, draw, replications=count, seed=i)
            held[count] += truth <= found.gap_limit
            inside += count == 10 and found.optimum[0] <= optimum <= found.optimum[1]
    assert held[10] >= 56
    assert min(held[1], held[2]) >= 52
    assert inside >= 54

"""Differences on common scenarios, and in sample against out of it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import portfolioopt as po
from portfolioopt.confidence import NeweyWest, compare, evaluate_on, sampling_error

ASSETS = [f"A{i}" for i in range(6)]
LOADINGS = np.random.default_rng(21).normal(size=(3, 6))


def scenarios(seed: int, s: int = 100) -> po.ScenarioSet:
    rng = np.random.default_rng([22, seed])
    returns = 0.006 * rng.standard_normal((s, 3)) @ LOADINGS + 0.008 * rng.standard_normal((s, 6))
    return po.ScenarioSet(returns + np.linspace(-5e-4, 2e-3, 6), assets=ASSETS)


def problem(of: po.ScenarioSet, aversion: float = 0.5, *more: object) -> po.Problem:
    limits = [po.Budget(), po.Bounds(0.0, 0.6), *more]
    return po.Problem(of, po.ExpectedReturn() - aversion * po.CVaR(0.9), limits)


@pytest.fixture(scope="module")
def pair() -> tuple[po.Result, po.Result]:
    return po.optimize(problem(scenarios(0))), po.optimize(problem(scenarios(0), 0.4))


def test_error_of_a_difference_is_what_fresh_scenarios_show(pair: tuple[po.Result, po.Result]) -> None:
    said = pd.concat([compare(*pair, scenarios(i, 2000)).frame["standard_error"] for i in range(1, 41)], axis=1).mean(
        axis=1
    )
    goal = pair[0].problem.objective
    found = []
    for i in range(1, 401):
        of = scenarios(i, 2000)
        one, two = (of.losses(r.weights) for r in pair)
        tails = [of.tail(r.weights, 0.9).cvar for r in pair]
        row = {"expected return": one.mean() - two.mean(), "volatility": two.std() - one.std()}
        row["CVaR 90%"] = tails[1] - tails[0]
        row["objective"] = row["expected return"] + goal.parts[1][0] * row["CVaR 90%"]
        found.append(row)
    spread = pd.DataFrame(found).std()
    for name, value in spread.items():
        assert said[name] == pytest.approx(value, rel=0.12), name


def test_common_scenarios_take_most_of_the_error_away(pair: tuple[po.Result, po.Result]) -> None:
    frame = compare(*pair).frame
    apart = [sampling_error(result).frame["standard_error"] for result in pair]
    for name in ("expected return", "volatility", "CVaR 90%"):
        separate = np.hypot(apart[0][name], apart[1][name])
        assert frame["standard_error"][name] < separate / 3
        assert frame["variance_reduction"][name] == pytest.approx((separate / frame["standard_error"][name]) ** 2)
    assert frame["difference"]["CVaR 90%"] == pytest.approx(pair[1].risk["cvar"][0.9] - pair[0].risk["cvar"][0.9])
    assert frame["difference"]["objective"] <= 0.0  # the first is the best for its own objective


def test_a_portfolio_does_not_differ_from_itself(pair: tuple[po.Result, po.Result]) -> None:
    frame = compare(pair[0], pair[0]).frame
    assert (frame[["difference", "standard_error", "lower", "upper"]] == 0.0).all(axis=None)
    there, back = compare(*pair, dependence=NeweyWest(2)).frame, compare(*pair[::-1], dependence=NeweyWest(2)).frame
    for name in ("expected return", "CVaR 90%"):
        assert there["difference"][name] == pytest.approx(-back["difference"][name])
        assert there["standard_error"][name] == pytest.approx(back["standard_error"][name])


def test_results_on_other_scenarios_need_a_common_set(pair: tuple[po.Result, po.Result]) -> None:
    other = po.optimize(problem(scenarios(1)))
    with pytest.raises(po.InputError, match="scenarios="):
        compare(pair[0], other)
    frame = compare(pair[0], other, scenarios(2)).frame
    assert frame["first"]["CVaR 90%"] == pytest.approx(scenarios(2).tail(pair[0].weights, 0.9).cvar)
    assert frame["second"]["CVaR 90%"] == pytest.approx(scenarios(2).tail(other.weights, 0.9).cvar)
    assert compare(pair[0], po.optimize(problem(scenarios(0), 0.4))).scenarios == 100  # the same, made twice
    with pytest.raises(po.InputError, match="two results"):
        compare(pair[0], pair[1].weights)
    with pytest.raises(po.InputError, match="other assets"):
        compare(*pair, po.ScenarioSet(np.zeros((5, 2)) + 0.1, assets=["A0", "B"]))
    printed = compare(*pair)
    assert "variance reduction" in repr(printed)
    assert "<table" in printed._repr_html_()


# -- out of sample -----------------------------------------------------------------------------------------------
def test_out_of_sample_figures_are_those_of_the_other_set(pair: tuple[po.Result, po.Result]) -> None:
    fresh = scenarios(5, 700)
    found = evaluate_on(pair[0], fresh)
    tail = fresh.tail(pair[0].weights, 0.9)
    frame = found.frame
    assert frame["out_of_sample"]["CVaR 90%"] == pytest.approx(tail.cvar)
    assert frame["out_of_sample"]["VaR 90%"] == pytest.approx(tail.var)
    assert frame["in_sample"]["CVaR 90%"] == pytest.approx(pair[0].risk["cvar"][0.9])
    assert frame["in_sample"]["objective"] == pytest.approx(pair[0].objective)
    objective = float(fresh.mean() @ pair[0].weights) - 0.5 * tail.cvar
    assert frame["out_of_sample"]["objective"] == pytest.approx(objective)
    assert found.optimism == pytest.approx(pair[0].objective - objective)
    errors = [sampling_error((of, pair[0].weights), 0.9).frame["standard_error"] for of in (scenarios(0), fresh)]
    for name in ("expected return", "VaR 90%", "CVaR 90%"):
        assert frame["standard_error"][name] == pytest.approx(np.hypot(errors[0][name], errors[1][name]))
    assert found.limits.empty
    assert "in sample than out of it" in repr(found)


def test_optimised_weights_are_flattered_by_their_own_sample() -> None:
    """Few scenarios for six assets: the optimism is positive on average, and clearly so."""
    optimism = []
    before = None
    for i in range(30):
        before = po.optimize(problem(scenarios(100 + i)), warm_start=before)
        optimism.append(evaluate_on(before, scenarios(500, 20_000)).optimism)
    assert np.mean(optimism) > 3 * np.std(optimism) / np.sqrt(30)


def test_limits_that_only_held_in_sample_are_named() -> None:
    of = scenarios(7)
    free = po.optimize(problem(of))
    tight = po.CVaRLimit(0.9, float(free.risk["cvar"][0.9]) * 0.97)
    result = po.optimize(problem(of, 0.5, tight, po.ReturnTarget(1e-4)))
    wild = po.ScenarioSet(2.0 * scenarios(8, 300).matrix, assets=ASSETS)
    found = evaluate_on(result, wild)
    row = found.limits.loc["CVaRLimit(0.9)"].to_dict()
    assert not row["held"]
    assert row["in_sample"] <= row["limit"] * (1 + 1e-8)
    assert row["out_of_sample"] == pytest.approx(wild.tail(result.weights, 0.9).cvar)
    assert "not held out of sample: CVaRLimit(0.9)" in repr(found)
    assert found.limits.loc["ReturnTarget", "out_of_sample"] == pytest.approx(float(wild.mean() @ result.weights))


def test_out_of_sample_refusals(pair: tuple[po.Result, po.Result]) -> None:
    with pytest.raises(po.InputError, match="weights were chosen on"):
        evaluate_on(pair[0], pair[0].problem.scenarios)
    with pytest.raises(po.InputError, match="takes a Result"):
        evaluate_on(pair[0].weights, scenarios(1))
    with pytest.raises(po.InputError, match="must be a ScenarioSet"):
        evaluate_on(pair[0], scenarios(1).returns)


@pytest.mark.slow
def test_an_objective_without_an_error_is_left_out() -> None:
    worst = po.optimize(po.Problem(scenarios(0), -po.WorstLoss(), [po.Budget(), po.Bounds()]))
    found = evaluate_on(worst, scenarios(1))
    assert "objective" not in found.frame.index
    assert np.isnan(found.optimism)
    assert "not normal" in repr(found)

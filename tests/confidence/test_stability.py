"""Resampled weights: every point against the same problem solved alone, and the figures against their definitions."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

import portfolioopt as po
from portfolioopt.confidence import stability, weight_stability

ASSETS = [f"A{i}" for i in range(6)]


def scenarios(seed: int = 0, s: int = 120) -> po.ScenarioSet:
    rng = np.random.default_rng([51, seed])
    returns = 0.008 * rng.standard_normal((s, 2)) @ np.ones((2, 6)) + 0.01 * rng.standard_normal((s, 6))
    return po.ScenarioSet(returns + np.linspace(0, 1e-3, 6), assets=ASSETS)


def problem(of: po.ScenarioSet) -> po.Problem:
    return po.Problem(of, po.ExpectedReturn() - 0.3 * po.CVaR(0.9), [po.Budget(), po.Bounds(0.0, 0.5)])


@pytest.fixture(scope="module")
def bootstrap() -> stability.WeightStability:
    return weight_stability(problem(scenarios()), repeats=40)


@pytest.mark.parametrize("method", ["bootstrap", "bayesian", "subsample"])
def test_every_repeat_is_the_problem_on_its_own_probabilities(method: str) -> None:
    base = problem(scenarios())
    found = weight_stability(base, repeats=6, method=method, seed=3, share=0.6)
    p = base.scenarios.probabilities
    for i in range(6):
        drawn = stability._resampled(p, method, np.random.default_rng([3, i]), 120, 1, 0.6)
        assert drawn.sum() == pytest.approx(1.0)
        if method == "bootstrap":
            assert np.allclose(120 * drawn, np.round(120 * drawn))
        if method == "subsample":
            assert np.count_nonzero(drawn) == 72
        alone = po.optimize(base.replace(scenarios=base.scenarios.reweighted(drawn)))
        row = found.points.loc[i].to_dict()
        assert row["objective"] == pytest.approx(alone.objective, abs=1e-9)
        assert row["expected_return"] == pytest.approx(alone.expected_return, abs=1e-6)
        assert row["cvar[0.9]"] == pytest.approx(alone.risk["cvar"][0.9], abs=1e-6)
        np.testing.assert_allclose(found.weights.loc[i], alone.weights, atol=1e-5)


def test_figures_are_what_they_say(bootstrap: stability.WeightStability) -> None:
    weights = bootstrap.weights.to_numpy()
    pairs = [np.abs(a - b).sum() for a, b in itertools.combinations(weights, 2)]
    assert bootstrap.turnover == pytest.approx(np.mean(pairs))
    assert bootstrap.distance == pytest.approx(np.abs(weights - bootstrap.original.to_numpy()).sum(axis=1).mean())
    summary = bootstrap.summary
    np.testing.assert_allclose(summary["mean"], weights.mean(axis=0))
    np.testing.assert_allclose(summary["std"], weights.std(axis=0, ddof=1))
    np.testing.assert_allclose(summary["q95"], np.quantile(weights, 0.95, axis=0))
    np.testing.assert_allclose(summary["held"], (np.abs(weights) > 1e-6).mean(axis=0))
    assert (bootstrap.points["shortfall"] >= -1e-10).all()  # the original is the best on its own scenarios
    base = problem(scenarios())
    value = float(base.scenarios.mean() @ weights[3]) - 0.3 * base.scenarios.tail(bootstrap.weights.loc[3], 0.9).cvar
    best = po.optimize(base).objective
    assert bootstrap.points["shortfall"][3] == pytest.approx(best - value, abs=1e-9)
    assert bootstrap.spread.loc["objective", "std"] == pytest.approx(bootstrap.points["objective"].std())
    assert "40 of 40 resamples solved" in repr(bootstrap)
    assert "<table" in bootstrap._repr_html_()


def test_average_portfolio_meets_the_limits_and_is_less_extreme(bootstrap: stability.WeightStability) -> None:
    average = bootstrap.average
    assert average.sum() == pytest.approx(1.0)
    assert average.min() >= 0.0
    assert average.max() <= 0.5 + 1e-9
    assert (average**2).sum() < (bootstrap.weights**2).sum(axis=1).mean()
    # risk is convex: the average has no more of it than the portfolios it averages
    of = scenarios()
    risks = [of.tail(row, 0.9).cvar for _, row in bootstrap.weights.iterrows()]
    assert of.tail(average, 0.9).cvar <= np.mean(risks)


def test_seed_says_which_resamples(bootstrap: stability.WeightStability) -> None:
    again = weight_stability(po.optimize(problem(scenarios())), repeats=40)
    np.testing.assert_allclose(again.weights, bootstrap.weights, atol=1e-9)
    more = weight_stability(problem(scenarios()), repeats=5)
    np.testing.assert_allclose(more.weights, bootstrap.weights.iloc[:5], atol=1e-5)
    other = weight_stability(problem(scenarios()), repeats=5, seed=1)
    assert not np.allclose(other.weights, more.weights, atol=1e-3)


def test_resamples_in_parts_are_the_same(bootstrap: stability.WeightStability, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stability, "_NUMBERS", 120 * 16)
    parts = weight_stability(problem(scenarios()), repeats=40)
    np.testing.assert_allclose(parts.points["objective"], bootstrap.points["objective"], atol=1e-9)
    assert parts.weights.index.tolist() == list(range(40))


@pytest.mark.slow
def test_more_scenarios_hold_the_weights_still() -> None:
    few = weight_stability(problem(scenarios(1, 120)), repeats=30)
    fresh = weight_stability(problem(scenarios(1, 120)), repeats=15, method=lambda seed: scenarios(seed, 120))
    many = weight_stability(problem(scenarios(1, 120)), repeats=15, method=lambda seed: scenarios(seed, 2000))
    assert many.turnover < 0.6 * fresh.turnover
    assert 0.5 < few.turnover / fresh.turnover < 2.0  # the bootstrap stands in for new samples
    assert many.points["cvar[0.9]"].std() < 0.5 * fresh.points["cvar[0.9]"].std()


def test_blocks_keep_neighbours_together() -> None:
    p = np.full(90, 1 / 90)
    drawn = stability._resampled(p, "bootstrap", np.random.default_rng(1), 90, 30, 0.5)
    counts = np.round(90 * drawn)
    assert counts.sum() == 90
    assert np.count_nonzero(np.diff(np.append(counts, counts[0]))) <= 6  # three blocks have six ends at most
    found = weight_stability(problem(scenarios()), repeats=4, block_length=10)
    assert (found.points["status"] == "optimal").all()


def test_repeats_without_a_portfolio_are_counted_and_left_out() -> None:
    base = problem(scenarios())
    best = float(base.scenarios.mean().nlargest(2).mean())
    tight = base.replace(constraints=[*base.constraints, po.ReturnTarget(best * 0.95)])
    found = weight_stability(tight, repeats=20)
    good = found.points["status"] == "optimal"
    assert 0 < good.sum() < 20
    assert found.weights[~good].isna().all(axis=None)
    assert found.summary["held"].max() <= 1.0
    assert np.isfinite(found.turnover)
    assert "ReturnTarget move with the resamples" in repr(found)
    assert f"{good.sum()} of 20" in repr(found)


def test_refusals() -> None:
    base = problem(scenarios())
    with pytest.raises(po.InputError, match="'bootstrap', 'bayesian', 'subsample'"):
        weight_stability(base, method="jackknife")
    with pytest.raises(po.InputError, match="at least 2"):
        weight_stability(base, repeats=1)
    with pytest.raises(po.InputError, match="share must be below 1"):
        weight_stability(base, method="subsample", share=1.0)
    with pytest.raises(po.InputError, match="block_length is for the bootstrap"):
        weight_stability(base, method="bayesian", block_length=5)
    with pytest.raises(po.InputError, match="block_length is 500"):
        weight_stability(base, block_length=500)
    with pytest.raises(po.InputError, match="takes a Problem or a Result"):
        weight_stability(base.scenarios)
    with pytest.raises(po.InputError, match="other assets"):
        weight_stability(base, method=lambda seed: po.ScenarioSet(np.eye(6), assets=list("ABCDEF")))
    moments = po.ScenarioSet.from_moments(None, pd.DataFrame(np.eye(6) * 1e-4, ASSETS, ASSETS))
    with pytest.raises(po.InputError, match="mean and covariance alone"):
        weight_stability(po.Problem(moments, -po.Volatility(), [po.Budget(), po.Bounds()]))

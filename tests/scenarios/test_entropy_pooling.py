"""Entropy pooling: against cvxpy and SciPy, by closed forms, and what it refuses."""

from __future__ import annotations

import math
from typing import Any

import cvxpy as cp
import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

from portfolioopt.errors import InputError, UnknownNameError
from portfolioopt.scenarios import (
    CorrelationView,
    CVaRView,
    MeanView,
    RankView,
    ScenarioSet,
    VaRView,
    View,
    VolatilityView,
    entropy_pooling,
    pooled,
    tail,
)

ASSETS = list("ABCD")


def scenarios(seed: int, count: int = 400, *, equal: bool = False) -> ScenarioSet:
    """Correlated fat-tailed returns with a prior that is not uniform."""
    generator = np.random.default_rng(seed)
    returns = 0.004 + 0.03 * generator.standard_t(5, (count, 4)) @ (np.eye(4) + 0.3)
    prior = generator.gamma(2.0, size=count)
    return ScenarioSet(returns, None if equal else prior / prior.sum(), assets=ASSETS)


def moments(returns: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    mean = p @ returns
    covariance = (returns - mean).T @ ((returns - mean) * p[:, None])
    std = np.sqrt(np.diag(covariance))
    return mean, std, covariance / np.outer(std, std)


def mixed(given: ScenarioSet) -> list[View]:
    """Views of every linear kind, some way from the prior."""
    mean, std, correlation = moments(np.asarray(given.matrix), given.probabilities)
    return [
        MeanView("A", mean[0] + 0.2 * std[0]),
        VolatilityView("A", 1.1 * std[0]),
        CorrelationView("A", "B", correlation[0, 1] - 0.2),
        RankView(["C", "D"]),
        MeanView({"C": 1.0, "B": -1.0}, 0.1 * std[2], ">="),
        MeanView("D", mean[3] + 0.5 * std[3], "<="),
        VaRView("D", 0.9, 1.5 * std[3]),
    ]


def by_cvxpy(prior: np.ndarray, conditions: Any, tolerance: float = 1e-8) -> tuple[np.ndarray, float]:
    p = cp.Variable(len(prior))
    problem = cp.Problem(cp.Minimize(cp.sum(cp.rel_entr(p, prior))), [cp.sum(p) == 1.0, *conditions(p)])
    problem.solve(solver="CLARABEL", tol_gap_abs=tolerance, tol_gap_rel=tolerance, tol_feas=tolerance)
    if p.value is None or problem.status not in ("optimal", "optimal_inaccurate"):
        return np.empty(0), math.inf
    return p.value, float(problem.value)


# -- against other solvers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_views_of_every_kind_against_a_conic_solver(seed: int) -> None:
    given = scenarios(seed)
    r, q = np.asarray(given.matrix), given.probabilities
    mean, std, correlation = moments(r, q)
    first = mean[0] + 0.2 * std[0]
    spread = 1.1 * std[0]
    away = r[:, 0] - first, r[:, 1] - mean[1]
    # the mean of B is a part of a view, so it is held at what the views on means imply
    means = by_cvxpy(
        q,
        lambda p: [
            r[:, 0] @ p == first,
            (r[:, 2] - r[:, 3]) @ p >= 0.0,
            (r[:, 2] - r[:, 1]) @ p >= 0.1 * std[2],
            r[:, 3] @ p <= mean[3] + 0.5 * std[3],
        ],
    )[0]
    result = pooled(given, mixed(given))
    held = float(result.probabilities @ r[:, 1])
    assert held == pytest.approx(float(means @ r[:, 1]), abs=1e-6)
    away = r[:, 0] - first, r[:, 1] - held
    expected, entropy = by_cvxpy(
        q,
        lambda p: [
            r[:, 0] @ p == first,
            r[:, 1] @ p == held,
            (away[0] / std[0]) ** 2 @ p == (spread / std[0]) ** 2,
            (away[1] / std[1]) ** 2 @ p == 1.0,
            (away[0] * away[1] / (spread * std[1])) @ p == correlation[0, 1] - 0.2,
            (r[:, 2] - r[:, 3]) @ p >= 0.0,
            (r[:, 2] - r[:, 1]) @ p >= 0.1 * std[2],
            r[:, 3] @ p <= mean[3] + 0.5 * std[3],
            (r[:, 3] <= -1.5 * std[3]).astype(float) @ p == 0.1,
        ],
        tolerance=1e-11,
    )
    np.testing.assert_allclose(result.probabilities, expected, atol=2e-6)
    assert result.relative_entropy == pytest.approx(entropy, abs=1e-7)
    assert abs(result.gap) < 1e-11


@pytest.mark.parametrize("seed", range(4))
def test_the_dual_against_scipy(seed: int) -> None:
    given = scenarios(seed, 1000)
    r, q = np.asarray(given.matrix), given.probabilities
    target = q @ r + np.array([0.1, -0.1, 0.15, 0.0]) * r.std(axis=0)
    inequality = np.array([False, False, True, True])
    views = [MeanView(a, t, ">=" if i else "==") for a, t, i in zip(ASSETS, target, inequality, strict=True)]
    columns = (r - target) / r.std(axis=0)

    def dual(theta: np.ndarray) -> tuple[float, np.ndarray]:
        weight = q * np.exp(columns @ theta)
        return np.log(weight.sum()), weight @ columns / weight.sum()

    bounds = [(0.0 if i else None, None) for i in inequality]
    found = minimize(dual, np.zeros(4), jac=True, bounds=bounds, options={"ftol": 1e-15, "gtol": 1e-10})
    weight = q * np.exp(columns @ found.x)
    result = pooled(given, views)
    np.testing.assert_allclose(result.probabilities, weight / weight.sum(), rtol=1e-5)
    np.testing.assert_allclose(result.multipliers, found.x / r.std(axis=0), rtol=1e-5, atol=1e-6)
    assert result.relative_entropy == pytest.approx(-found.fun, rel=1e-9)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("factor", [0.75, 1.3])
@pytest.mark.parametrize("more", [[], [MeanView("B", 0.01)]])
def test_cvar_against_a_conic_solver_at_every_level(seed: int, factor: float, more: list[MeanView]) -> None:
    given = scenarios(seed, 40)
    r, q = np.asarray(given.matrix), given.probabilities
    losses, beta = -r[:, 0], 0.8
    value = factor * tail(losses, q, beta).cvar

    def at(t: float) -> float:
        return by_cvxpy(
            q,
            lambda p: [
                np.maximum(losses - t, 0.0) @ p == (1.0 - beta) * (value - t),
                (losses >= t).astype(float) @ p >= 1.0 - beta,
                (losses > t).astype(float) @ p <= 1.0 - beta,
                *(r[:, 1] @ p == view.value for view in more),
            ],
        )[1]

    result = pooled(given, [CVaRView("A", beta, value), *more])
    assert tail(losses, result.probabilities, beta).cvar == pytest.approx(value, rel=1e-10)
    assert result.relative_entropy == pytest.approx(min(at(t) for t in losses[losses < value]), abs=1e-6)


def test_several_cvar_views_beside_others() -> None:
    given = scenarios(5, 2000)
    r = np.asarray(given.matrix)
    views = [CVaRView("A", 0.95, 0.12), CVaRView("B", 0.9, 0.06), MeanView("C", 0.01), RankView(["D", "A"])]
    result = pooled(given, views)
    p = result.probabilities
    assert tail(-r[:, 0], p, 0.95).cvar == pytest.approx(0.12, rel=1e-10)
    assert tail(-r[:, 1], p, 0.9).cvar == pytest.approx(0.06, rel=1e-10)
    assert p @ r[:, 2] == pytest.approx(0.01, rel=1e-10)
    assert p @ (r[:, 3] - r[:, 0]) >= -1e-12
    reordered = pooled(given, views[::-1])
    assert reordered.relative_entropy == pytest.approx(result.relative_entropy, rel=1e-6)


# -- by hand, and properties ---------------------------------------------------------------------------------


def test_two_scenarios_and_one_mean() -> None:
    given = ScenarioSet([[0.0], [1.0]], [0.7, 0.3], assets=["A"])
    result = pooled(given, [MeanView("A", 0.4)])
    np.testing.assert_allclose(result.probabilities, [0.6, 0.4], rtol=1e-12)
    entropy = 0.6 * math.log(0.6 / 0.7) + 0.4 * math.log(0.4 / 0.3)
    assert result.relative_entropy == pytest.approx(entropy, rel=1e-12)
    assert result.multipliers["E[A] == 0.4"] == pytest.approx(math.log(0.4 / 0.3) - math.log(0.6 / 0.7), rel=1e-12)
    assert result.effective_scenarios == pytest.approx(math.exp(-0.6 * math.log(0.6) - 0.4 * math.log(0.4)), rel=1e-12)


def test_a_probability_view_scales_both_sides() -> None:
    given = scenarios(0)
    losses = -np.asarray(given.matrix)[:, 0]
    inside = losses >= 0.05
    p = pooled(given, [VaRView("A", 0.9, 0.05)]).probabilities
    q = given.probabilities
    expected = np.where(inside, 0.1 * q / q[inside].sum(), 0.9 * q / q[~inside].sum())
    np.testing.assert_allclose(p, expected, rtol=1e-10)
    assert tail(losses, p, 0.9).var == losses[inside].min()


@pytest.mark.parametrize("seed", range(4))
def test_views_are_met(seed: int) -> None:
    given = scenarios(seed, 2000)
    r, q = np.asarray(given.matrix), given.probabilities
    mean, std, correlation = moments(r, q)
    result = pooled(given, mixed(given))
    p = result.probabilities
    new, spread, together = moments(r, p)
    assert p.sum() == pytest.approx(1.0, abs=1e-14)
    assert p.min() > 0.0
    assert new[0] == pytest.approx(mean[0] + 0.2 * std[0], abs=1e-10 * std[0])
    assert spread[0] == pytest.approx(1.1 * std[0], rel=1e-10)
    assert spread[1] == pytest.approx(std[1], rel=1e-10)
    assert together[0, 1] == pytest.approx(correlation[0, 1] - 0.2, abs=1e-10)
    assert new[2] - new[3] >= -1e-10 * std[2]
    assert new[2] - new[1] >= (0.1 - 1e-10) * std[2]
    assert new[3] <= mean[3] + (0.5 + 1e-10) * std[3]
    assert p[r[:, 3] <= -1.5 * std[3]].sum() == pytest.approx(0.1, abs=1e-10)
    assert result.violation <= 1e-10
    assert abs(result.gap) <= 1e-10 * max(1.0, result.relative_entropy)


def test_views_that_hold_already_leave_the_prior() -> None:
    given = scenarios(1)
    r, q = np.asarray(given.matrix), given.probabilities
    mean, std, correlation = moments(r, q)
    best, worst = (ASSETS[i] for i in (mean.argmax(), mean.argmin()))
    loose = [MeanView("A", mean[0] - 0.01, ">="), MeanView("B", mean[1] + 0.01, "<="), RankView([best, worst])]
    result = pooled(given, loose)
    np.testing.assert_array_equal(result.probabilities, q)
    assert (result.relative_entropy, result.gap, result.violation) == (0.0, 0.0, 0.0)
    assert not result.multipliers.any()
    exact = [MeanView("A", mean[0]), VolatilityView("B", std[1]), CorrelationView("A", "B", correlation[0, 1])]
    for views in ([], exact, [CVaRView("A", 0.9, tail(-r[:, 0], q, 0.9).cvar)]):
        np.testing.assert_allclose(pooled(given, views).probabilities, q, rtol=1e-9)


def test_the_order_of_scenarios_and_views_does_not_matter() -> None:
    given = scenarios(2)
    views = [*mixed(given), CVaRView("C", 0.9, 0.07)]
    expected = pooled(given, views)
    shuffle = np.random.default_rng(0).permutation(given.n_scenarios)
    other = ScenarioSet(given.returns.iloc[shuffle, ::-1], given.probabilities[shuffle])
    for change in (pooled(other, views), pooled(other, views[::-1])):
        np.testing.assert_allclose(change.probabilities, expected.probabilities[shuffle], rtol=1e-7)
        assert change.relative_entropy == pytest.approx(expected.relative_entropy, rel=1e-9)


def test_an_active_inequality_is_an_equality_and_an_inactive_one_is_nothing() -> None:
    given = scenarios(3)
    mean = given.mean()
    equal = pooled(given, [MeanView("A", mean["A"] + 0.01)])
    active = pooled(given, [MeanView("A", mean["A"] + 0.01, ">="), MeanView("A", mean["A"] + 0.02, "<=")])
    np.testing.assert_allclose(active.probabilities, equal.probabilities, rtol=1e-9)
    assert active.multipliers.iloc[0] == pytest.approx(equal.multipliers.iloc[0], rel=1e-8)
    assert active.multipliers.iloc[1] == 0.0
    falling = pooled(given, [MeanView("B", mean["B"] - 0.01, "<=")])
    assert falling.multipliers.iloc[0] < 0.0
    mirrored = pooled(given, [MeanView({"B": -1.0}, 0.01 - mean["B"], ">=")])
    np.testing.assert_allclose(mirrored.probabilities, falling.probabilities, rtol=1e-9)
    assert mirrored.multipliers.iloc[0] == pytest.approx(-falling.multipliers.iloc[0], rel=1e-9)


def test_a_ranking_is_its_pairs() -> None:
    given = scenarios(4)
    order = list(given.mean().sort_values().index)
    chain = pooled(given, [RankView(order)])
    pairs = pooled(given, [RankView(order[i : i + 2]) for i in range(3)])
    np.testing.assert_allclose(chain.probabilities, pairs.probabilities, rtol=1e-9)
    np.testing.assert_allclose(chain.probabilities @ np.asarray(given.matrix), np.full(4, 0.004), atol=0.02)
    assert list(chain.multipliers.index) == [f"{RankView(order)} ({step})" for step in (1, 2, 3)]


def test_a_multiplier_is_what_the_entropy_rises_by() -> None:
    given = scenarios(5)

    def entropy(mean: float, spread: float) -> float:
        return pooled(given, [MeanView("A", mean), VolatilityView("A", spread)]).relative_entropy

    slopes = pooled(given, [MeanView("A", 0.02), VolatilityView("A", 0.05)]).multipliers
    step = 1e-5
    variance = (entropy(0.02, math.sqrt(0.05**2 + step * 0.1)) - entropy(0.02, math.sqrt(0.05**2 - step * 0.1))) / (
        0.2 * step
    )
    assert variance == pytest.approx(slopes["volatility of A == 0.05"], rel=1e-4)
    shifted = pooled(given, [MeanView("B", 0.02)])
    rise = pooled(given, [MeanView("B", 0.02 + step)]).relative_entropy - shifted.relative_entropy
    assert rise / step == pytest.approx(shifted.multipliers.iloc[0], rel=1e-2)


def test_confidence_blends_the_probabilities() -> None:
    given = scenarios(6)
    views = [MeanView("A", 0.03)]
    prior, posterior = given.probabilities, pooled(given, views).probabilities
    np.testing.assert_allclose(entropy_pooling(given, views).probabilities, posterior, rtol=1e-14)
    np.testing.assert_allclose(entropy_pooling(given, views, confidence=0.0).probabilities, prior, rtol=1e-14)
    half = entropy_pooling(given, views, confidence=0.5)
    np.testing.assert_allclose(half.probabilities, 0.5 * (prior + posterior), rtol=1e-13)
    assert half.mean()["A"] == pytest.approx(0.5 * (given.mean()["A"] + 0.03), rel=1e-12)
    assert half.matrix is given.matrix


def test_a_scenario_without_probability_stays_without() -> None:
    given = scenarios(7)
    prior = given.probabilities.copy()
    prior[::3] = 0.0
    thinned = given.reweighted(prior / prior.sum())
    views = [MeanView("A", 0.02), CVaRView("B", 0.9, 0.1)]
    result = pooled(thinned, views)
    assert not result.probabilities[::3].any()
    kept = prior > 0
    without = ScenarioSet(given.returns[kept], prior[kept] / prior.sum())
    np.testing.assert_allclose(result.probabilities[kept], pooled(without, views).probabilities, rtol=1e-9)


def test_redundant_views_do_no_harm() -> None:
    given = scenarios(8)
    views = [MeanView("A", 0.02), MeanView("B", 0.01)]
    result = pooled(given, [*views, MeanView("A", 0.02), MeanView({"A": 1.0, "B": -1.0}, 0.01), RankView(["A", "B"])])
    np.testing.assert_allclose(result.probabilities, pooled(given, views).probabilities, rtol=1e-9)


def test_a_view_at_the_end_of_the_range_takes_the_scenarios_there() -> None:
    given = scenarios(9, 50)
    best = int(np.asarray(given.matrix)[:, 0].argmax())
    result = pooled(given, [MeanView("A", given.matrix[best, 0])])
    assert result.probabilities[best] == pytest.approx(1.0, abs=1e-9)
    assert result.relative_entropy == pytest.approx(-math.log(given.probabilities[best]), rel=1e-8)


def test_means_are_held_where_views_on_means_leave_them() -> None:
    given = scenarios(10)
    mean = given.mean()
    plain = pooled(given, [VolatilityView("A", 0.06)])
    assert plain.probabilities @ given.returns["A"].to_numpy() == pytest.approx(mean["A"], rel=1e-10)
    floor = [MeanView("A", mean["A"] + 0.01, ">=")]
    result = pooled(given, [*floor, VolatilityView("A", 0.06)])
    np.testing.assert_allclose(result.probabilities @ given.returns["A"].to_numpy(), mean["A"] + 0.01, rtol=1e-10)
    assert "E[A] held" in result.multipliers.index
    stated = pooled(given, [MeanView("A", mean["A"] + 0.01), VolatilityView("A", 0.06)])
    np.testing.assert_allclose(result.probabilities, stated.probabilities, rtol=1e-8)


def test_single_precision_scenarios() -> None:
    given = scenarios(11)
    rounded = ScenarioSet(given.returns, given.probabilities, dtype="float32")
    result = pooled(rounded, [MeanView("A", 0.02), VolatilityView("B", 0.06)])
    assert result.violation <= 1e-10


# -- what is refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("views", "words"),
    [
        ([MeanView("A", 9.0)], r"E\[A\] == 9 is out of reach .* its return lies between -0\.\d+ and 0\.\d+"),
        ([MeanView("A", 9.0, ">=")], r"E\[A\] >= 9 is out of reach"),
        ([VolatilityView("A", 9.0)], "its distance from its mean, held at .* lies between"),
        ([VaRView("A", 0.9, 9.0)], r"VaR\(0.9\) of A == 9 is out of reach .* its loss lies between"),
        ([CVaRView("A", 0.9, 9.0)], r"CVaR\(0.9\) of A == 9 is out of reach .* its loss lies between"),
        ([RankView(["A", {"A": 1.0, "cash": 1.0}])], r"the return of A less A \+ cash lies between -1 and -1"),
        ([CorrelationView("A", "cash", 0.5)], "has no volatility in the scenarios"),
        ([MeanView("A", float("nan"))], "value of MeanView must be a finite number, was nan"),
        ([MeanView("A", "x")], "value of MeanView must be a number, was 'x'"),
        ([MeanView({"A": float("inf")}, 0.0)], "coefficient of 'A' in MeanView must be a finite number"),
        ([MeanView({"A": 0.0}, 0.0)], "MeanView needs a coefficient that is not zero"),
        ([MeanView(["A"], 0.0)], "MeanView takes an asset or a mapping from asset to coefficient"),
        ([MeanView("A", 0.0, "<")], "sense of MeanView must be '==', '>=' or '<=', was '<'"),
        ([VolatilityView("A", 0.0)], "value of VolatilityView must be above zero"),
        ([CorrelationView("A", "B", 1.1)], r"value of CorrelationView must lie in \[-1, 1\]"),
        ([CorrelationView("A", "A", 0.5)], "CorrelationView names A twice"),
        ([RankView("AB")], "RankView needs a list of two or more assets"),
        ([RankView(["A", "B", "A"])], "RankView names A twice"),
        ([VaRView("A", 95, 0.1)], "beta must lie strictly between 0 and 1"),
        (["A >= B"], r"views\[0\] must be a MeanView"),
        (MeanView("A", 0.0), "views must be a list of views"),
    ],
)
def test_views_that_cannot_be_meant(views: Any, words: str) -> None:
    given = scenarios(0)
    with_cash = ScenarioSet(given.returns.assign(cash=1.0), given.probabilities)
    with pytest.raises(InputError, match=words):
        pooled(with_cash, views)


def test_unknown_assets_come_with_close_matches() -> None:
    given = ScenarioSet(np.eye(3), assets=["AAPL", "MSFT", "NVDA"])
    for view in (MeanView("APPL", 0.1), RankView(["MSFT", "APPL"]), CVaRView({"APPL": 1.0}, 0.9, 0.1)):
        with pytest.raises(UnknownNameError, match=r"unknown asset in \w+: 'APPL' \(did you mean 'AAPL'\?\)"):
            pooled(given, [view])


@pytest.mark.parametrize(
    ("conflict", "others"),
    [
        ([MeanView("A", 0.01), MeanView("A", 0.02)], [MeanView("B", 0.0), RankView(["C", "D"])]),
        ([MeanView("A", 0.02, ">="), MeanView("B", 0.01, "<="), RankView(["B", "A"])], [MeanView("C", 0.01)]),
        ([VaRView("A", 0.95, 0.05), VaRView("A", 0.9, 0.06)], [VolatilityView("B", 0.05)]),
        ([MeanView("A", 0.01), MeanView({"A": 2.0}, 0.03)], [VolatilityView("A", 0.05)]),
        ([MeanView("A", 0.01, "<="), MeanView("A", 0.02, ">=")], [VolatilityView("B", 0.05)]),
        ([CVaRView("A", 0.9, 0.02), VaRView("A", 0.9, 0.06)], [MeanView("B", 0.01)]),
    ],
)
def test_contradictory_views_are_named(conflict: list[View], others: list[View]) -> None:
    for views in (conflict + others, others + conflict[::-1]):
        with pytest.raises(InputError, match="views together") as caught:
            pooled(scenarios(0), views)
        text = str(caught.value)
        assert all(str(view) in text for view in conflict)
        assert not any(str(view) in text for view in others)


def test_a_view_that_contradicts_what_is_held() -> None:
    with pytest.raises(InputError, match=r"the view correlation of A and B == 1 \(with E\[A\] held, .*\); move"):
        pooled(scenarios(0), [CorrelationView("A", "B", 1.0), MeanView("C", 0.01)])


def test_scenarios_that_are_not_in_memory() -> None:
    streamed = ScenarioSet.generated(lambda _: np.random.default_rng(0).normal(size=(20, 2)), 20, ["A", "B"])
    with pytest.raises(InputError, match=r"entropy pooling needs scenarios in memory.* load them with"):
        entropy_pooling(streamed, [MeanView("A", 0.0)])
    rows = np.concatenate([rows for _, rows in streamed.source.blocks()])
    loaded = ScenarioSet(rows, streamed.probabilities, assets=streamed.assets)
    assert entropy_pooling(loaded, [MeanView("A", 0.0)]).mean()["A"] == pytest.approx(0.0, abs=1e-10)


@pytest.mark.parametrize("confidence", [-0.1, 1.1, float("nan"), "much"])
def test_a_confidence_that_is_none(confidence: Any) -> None:
    with pytest.raises(InputError, match="confidence must"):
        entropy_pooling(scenarios(0), [], confidence=confidence)


def test_something_that_is_no_scenario_set() -> None:
    with pytest.raises(InputError, match="scenarios must be a ScenarioSet, was DataFrame"):
        pooled(pd.DataFrame(np.eye(2)), [])


# -- size ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_many_scenarios_and_fifty_views() -> None:
    generator = np.random.default_rng(1)
    count, n = 100_000, 50
    loadings = generator.normal(1.0, 0.3, (n, 5))
    returns = 0.02 * generator.standard_normal((count, 5)) @ loadings.T + 0.02 * generator.standard_t(6, (count, n))
    names = [f"A{i:02d}" for i in range(n)]
    given = ScenarioSet(returns, assets=names)
    mean, std = returns.mean(axis=0), returns.std(axis=0)
    shift = generator.normal(size=n)
    views: list[View] = [MeanView(names[i], mean[i] + 0.1 * std[i] * shift[i]) for i in range(25)]
    views += [VolatilityView(names[i], std[i] * (1.0 + 0.1 * shift[25 + i])) for i in range(25)]
    result = pooled(given, views)
    new, spread, _ = moments(returns, result.probabilities)
    np.testing.assert_allclose((new - mean)[:25] / std[:25], 0.1 * shift[:25], atol=1e-10)
    np.testing.assert_allclose(spread[:25] / std[:25], 1.0 + 0.1 * shift[25:], rtol=1e-10)
    assert abs(result.gap) < 1e-11
    assert 1000.0 < result.effective_scenarios < count

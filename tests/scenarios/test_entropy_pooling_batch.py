"""Many sets of views at once: each as on its own, and as a conic solver has it."""

from __future__ import annotations

import math
from typing import Any

import cvxpy as cp
import numpy as np
import pandas as pd
import pytest

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
    entropy_pooling_batch,
    pooled,
)
from portfolioopt.scenarios.pooling import dual

ASSETS = list("ABCD")


def scenarios(seed: int, count: int = 500) -> ScenarioSet:
    rng = np.random.default_rng(seed)
    returns = 0.004 + 0.03 * rng.standard_t(5, (count, 4)) @ (np.eye(4) + 0.3)
    prior = rng.gamma(2.0, size=count)
    return ScenarioSet(returns, prior / prior.sum(), assets=ASSETS)


def views(shift: float) -> list[View]:
    return [
        MeanView("A", 0.004 + 0.01 * shift),
        VolatilityView("A", 0.05 * (1.0 + 0.1 * shift)),
        CorrelationView("A", "B", 0.4 + 0.1 * shift),
        RankView(["C", "D"]),
        MeanView({"C": 1.0, "B": -1.0}, 0.001 * shift, ">="),
    ]


def different() -> dict[str, list[View]]:
    """Sets that share little: other assets, other kinds, none at all."""
    return {
        "base": views(0.0),
        "more": views(1.0),
        "tail": [VaRView("D", 0.9, 0.06), CVaRView("B", 0.9, 0.09)],
        "none": [],
        "two tails": [CVaRView("A", 0.9, 0.1), CVaRView({"A": 0.5, "B": 0.5}, 0.95, 0.1)],
        "less": views(-0.7),
    }


def test_each_set_is_as_on_its_own() -> None:
    given, sets = scenarios(0), different()
    batch = entropy_pooling_batch(given, sets)
    assert len(batch) == 6
    assert batch.probabilities.shape == (6, 500)
    np.testing.assert_allclose(batch.probabilities.sum(axis=1), 1.0, rtol=1e-13)
    for i, (name, one) in enumerate(sets.items()):
        alone = pooled(given, one)
        np.testing.assert_allclose(batch.probabilities[i], alone.probabilities, rtol=1e-8, err_msg=name)
        both = batch.posteriors[i].multipliers, alone.multipliers
        pd.testing.assert_series_equal(*both, rtol=1e-6, atol=1e-8)
    summary = batch.summary()
    assert list(summary.index) == list(sets)
    assert summary["violation"].max() <= 1e-10
    assert summary["gap"].abs().max() <= 1e-10
    assert summary.loc["none", "relative_entropy"] == 0.0


def test_against_a_conic_solver() -> None:
    given = scenarios(1, 300)
    r, q = np.asarray(given.matrix), given.probabilities
    targets = [0.0, 0.02, 0.04]
    batch = entropy_pooling_batch(given, [[MeanView("A", t), MeanView("B", 0.01, "<=")] for t in targets])
    for target, found in zip(targets, batch.posteriors, strict=True):
        p = cp.Variable(300)
        limits = [cp.sum(p) == 1.0, r[:, 0] @ p == target, r[:, 1] @ p <= 0.01]
        problem = cp.Problem(cp.Minimize(cp.sum(cp.rel_entr(p, q))), limits)
        problem.solve(solver="CLARABEL", tol_gap_abs=1e-9, tol_gap_rel=1e-9, tol_feas=1e-9)
        assert p.value is not None
        np.testing.assert_allclose(found.probabilities, p.value, atol=1e-6)
        assert found.relative_entropy == pytest.approx(problem.value, abs=1e-8)


def test_every_set_has_its_own_confidence() -> None:
    given = scenarios(2)
    sets = [views(0.0), views(0.5), views(1.0)]
    batch = entropy_pooling_batch(given, sets, confidence=[0.0, 0.3, 1.0])
    np.testing.assert_allclose(batch.probabilities[0], given.probabilities, rtol=1e-14)
    for made, one, c in zip(batch.scenario_sets(), sets, (0.0, 0.3, 1.0), strict=True):
        assert made.matrix is given.matrix
        alone = entropy_pooling(given, one, confidence=c)
        np.testing.assert_allclose(made.probabilities, alone.probabilities, rtol=1e-8)
    assert (batch.posteriors[1].probabilities != batch.probabilities[1]).any()
    whole = entropy_pooling_batch(given, sets, confidence=0.5)
    np.testing.assert_allclose(
        whole.probabilities[2], 0.5 * (given.probabilities + pooled(given, sets[2]).probabilities), rtol=1e-8
    )


def test_samples_only_give_a_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """With many scenarios the answer is the one found without samples, for heavy tails and sorted scenarios as well."""
    rng = np.random.default_rng(3)
    returns = 0.02 * rng.standard_t(3, (12_000, 4)) @ (np.eye(4) + 0.2)
    returns = returns[returns[:, 0].argsort()]
    given = ScenarioSet(returns, assets=ASSETS)
    sets = [[MeanView("A", m), VolatilityView("B", 0.05), RankView(["D", "C"])] for m in (0.002, 0.006, -0.02)]
    sets.append([MeanView("A", 0.002), VaRView("C", 0.999, 0.15)])
    monkeypatch.setattr(dual, "_SAMPLE", 10**9)
    plain = entropy_pooling_batch(given, sets)
    monkeypatch.setattr(dual, "_SAMPLE", 512)
    sampled = entropy_pooling_batch(given, sets)
    np.testing.assert_allclose(sampled.probabilities, plain.probabilities, rtol=1e-8, atol=1e-16)
    assert sampled.summary()["violation"].max() <= 1e-10
    for i, target in enumerate((0.002, 0.006, -0.02)):
        assert sampled.probabilities[i] @ returns[:, 0] == pytest.approx(target, abs=1e-11)


def test_the_order_of_sets_does_not_matter() -> None:
    given, sets = scenarios(4), different()
    one = entropy_pooling_batch(given, sets)
    other = entropy_pooling_batch(given, dict(reversed(sets.items())))
    np.testing.assert_allclose(other.probabilities[::-1], one.probabilities, rtol=1e-8)


def test_a_constant_or_a_two_valued_asset() -> None:
    """Squares that a mean fixes, or nearly so: what is redundant does no harm, what is impossible is named."""
    rng = np.random.default_rng(5)
    coin = rng.choice([-0.1, 0.1], 200)
    given = ScenarioSet(np.column_stack([coin, rng.normal(size=200), np.full(200, 0.01)]), assets=["coin", "x", "cash"])
    up = 0.5 * (1.0 + 0.02 / 0.1)
    spread = math.sqrt(0.01 - 0.02**2)
    found = pooled(given, [MeanView("coin", 0.02), VolatilityView("coin", spread), MeanView("cash", 0.01)])
    assert found.probabilities[coin > 0].sum() == pytest.approx(up, abs=1e-9)
    with pytest.raises(InputError, match=r"views together: .*; volatility of coin"):
        pooled(given, [MeanView("coin", 0.02), VolatilityView("coin", 0.08)])


@pytest.mark.parametrize(
    ("sets", "confidence", "words"),
    [
        ([], 1.0, "views must be one or more sets of views"),
        ("ab", 1.0, "views must be one or more sets of views"),
        ([MeanView("A", 0.0)], 1.0, r"views\[0\] must be a list of views"),
        ([[MeanView("A", 0.0)]], [1.0, 1.0], "confidence has 2 numbers for 1 sets of views"),
        ({"x": [MeanView("A", 0.0)]}, [2.0], r"confidence of views\['x'\] must lie between 0 .* and 1"),
        ({"x": ["A"]}, 1.0, r"views\['x'\]\[0\] must be a MeanView"),
        (
            {"x": [MeanView("A", 0.0)], "y": [MeanView("A", 0.01), MeanView("A", 0.02), MeanView("B", 0.0)]},
            1.0,
            r"^views\['y'\]: no probabilities of these scenarios meet these views together: "
            r"E\[A\] == 0\.01; E\[A\] == 0\.02; without",
        ),
    ],
)
def test_what_is_refused(sets: Any, confidence: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        entropy_pooling_batch(scenarios(0), sets, confidence=confidence)


def test_errors_say_which_set() -> None:
    with pytest.raises(UnknownNameError, match="unknown asset in MeanView: 'Z'") as caught:
        entropy_pooling_batch(scenarios(0), {"x": [], "y": [MeanView("Z", 0.0)]})
    assert caught.value.__notes__ == ["in views['y']"]


@pytest.mark.slow
def test_many_scenarios_and_sets_of_fifty_views() -> None:
    rng = np.random.default_rng(1)
    count, n = 100_000, 50
    loadings = rng.normal(1.0, 0.3, (n, 5))
    returns = 0.02 * rng.standard_normal((count, 5)) @ loadings.T + 0.02 * rng.standard_t(6, (count, n))
    names = [f"A{i:02d}" for i in range(n)]
    given = ScenarioSet(returns, assets=names)
    mean, std = returns.mean(axis=0), returns.std(axis=0)
    shift = 0.1 * rng.normal(size=(8, n))
    sets = [
        [MeanView(names[i], mean[i] + std[i] * row[i]) for i in range(25)]
        + [VolatilityView(names[i], std[i] * (1.0 + row[25 + i])) for i in range(25)]
        for row in shift
    ]
    batch = entropy_pooling_batch(given, sets)
    for p, row in zip(batch.probabilities, shift, strict=True):
        new = p @ returns[:, :25]
        np.testing.assert_allclose((new - mean[:25]) / std[:25], row[:25], atol=1e-10)
        spread = np.sqrt(p @ (returns[:, :25] - new) ** 2)
        np.testing.assert_allclose(spread / std[:25] - 1.0, row[25:], atol=1e-10)
    assert batch.summary()["gap"].abs().max() < 1e-11

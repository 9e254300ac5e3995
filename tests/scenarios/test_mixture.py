"""Mixtures of sets and of regimes: moments by the law of total variance, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from portfolioopt.errors import InputError, UnknownNameError
from portfolioopt.scenarios import ScenarioSet, mixture, regime_mixture

DATES = pd.date_range("2020-01-01", periods=400, name="date")
CALM = np.arange(400) % 4 > 0
STATES = pd.Series(np.where(CALM, "calm", "crisis"), DATES)
WEIGHTS = {"calm": 0.3, "crisis": 0.7}


def history() -> pd.DataFrame:
    noise = np.random.default_rng(0).normal(size=(400, 3)) @ np.array(
        [[1.0, 0.5, 0.0], [0.0, 1.0, 0.2], [0.0, 0.0, 1.0]]
    )
    return pd.DataFrame(np.where(CALM[:, None], 0.001 + 0.01 * noise, -0.01 + 0.03 * noise), DATES, list("ABC"))


def expected() -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of the mixture, from those of its parts (dividing by the number of rows)."""
    parts = [history()[CALM], history()[~CALM]]
    shares = np.array([0.3, 0.7])
    means = np.array([part.mean() for part in parts])
    mean = shares @ means
    within = sum(p * np.cov(part.to_numpy().T, ddof=0) for p, part in zip(shares, parts, strict=True))
    return mean, within + (means - mean).T @ ((means - mean) * shares[:, None])


def test_the_history_reweighted_has_the_moments_of_the_mixture() -> None:
    scenarios = regime_mixture(history(), STATES, WEIGHTS)
    mean, covariance = expected()
    np.testing.assert_allclose(scenarios.mean(), mean, atol=1e-15)
    np.testing.assert_allclose(scenarios.covariance(), covariance, atol=1e-15)
    np.testing.assert_allclose(scenarios.probabilities[~CALM], 0.7 / 100)
    pd.testing.assert_index_equal(scenarios.index, DATES)


@pytest.mark.parametrize("law", ["historical", "gaussian"])
def test_drawn_scenarios_have_the_moments_of_the_mixture(law: Any) -> None:
    count = 200_000
    drawn = regime_mixture(history(), STATES, WEIGHTS, n_scenarios=count, seed=1, law=law).matrix
    mean, covariance = expected()
    assert (np.abs(drawn.mean(axis=0) - mean) < 4.0 * drawn.std(axis=0) / np.sqrt(count)).all()
    for i in range(3):
        for j in range(3):
            product = (drawn[:, i] - mean[i]) * (drawn[:, j] - mean[j])
            assert abs(product.mean() - covariance[i, j]) < 4.0 * product.std() / np.sqrt(count)
    if law == "historical":
        assert np.isin(drawn[:, 0], history()["A"]).all()


def test_probabilities_of_regimes_and_sure_regimes_agree() -> None:
    sure = pd.DataFrame({"calm": CALM.astype(float), "crisis": 1.0 - CALM}, DATES)
    one, other = (regime_mixture(history(), states, WEIGHTS) for states in (STATES, sure))
    np.testing.assert_allclose(one.probabilities, other.probabilities)
    # without knowledge of the regime, weights change nothing
    vague = pd.DataFrame(0.5, DATES, ["calm", "crisis"])
    np.testing.assert_allclose(regime_mixture(history(), vague, WEIGHTS).probabilities, 1 / 400)


def test_seeds() -> None:
    first, again, other = (
        regime_mixture(history(), STATES, WEIGHTS, n_scenarios=50, seed=seed, law="gaussian").matrix
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).all()


def test_a_mixture_of_sets() -> None:
    calm, crisis = ScenarioSet(history()[CALM]), ScenarioSet(history()[~CALM][["C", "A", "B"]])
    mixed = mixture({"calm": calm, "crisis": crisis}, WEIGHTS)
    mean, covariance = expected()
    np.testing.assert_allclose(mixed.mean(), mean, atol=1e-15)
    np.testing.assert_allclose(mixed.covariance(), covariance, atol=1e-15)
    assert mixed.assets.tolist() == ["A", "B", "C"]
    assert mixed.returns.loc["crisis"].index.equals(crisis.index)
    # what is certain: the tail of the mixture is at least as far out as its weighted parts are, for losses beyond both
    weights = {"A": 0.5, "B": 0.25, "C": 0.25}
    losses = np.concatenate([calm.losses(weights), crisis.losses(weights)])
    for level in (0.0, 0.02):
        share = 0.3 * (calm.losses(weights) > level).mean() + 0.7 * (crisis.losses(weights) > level).mean()
        assert mixed.probabilities[losses > level].sum() == pytest.approx(share)


def test_sets_without_weight_are_left_out() -> None:
    sets = {"calm": ScenarioSet(history()[CALM]), "crisis": ScenarioSet(history()[~CALM])}
    mixed = mixture(sets, {"calm": 1.0, "crisis": 0.0})
    assert mixed.n_scenarios == 300
    np.testing.assert_allclose(mixed.probabilities, 1 / 300)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weights": {"calm": 0.5, "crisis": 0.4}}, "weights sum to 0.9, not to one"),
        ({"weights": {"calm": 1.5, "crisis": -0.5}}, "weights is negative for 'crisis'"),
        ({"weights": {"calm": 0.5, "crsis": 0.5}}, "did you mean 'crisis'"),
        ({"weights": [0.5, 0.5]}, "weights must be a Series or mapping"),
        ({"weights": {"calm": 1.0}}, "weights says nothing about 'crisis'"),
        ({"regimes": STATES.iloc[1:]}, "labelled differently from the rows"),
        ({"regimes": STATES.where(CALM)}, "regimes is missing for"),
        ({"regimes": STATES.to_numpy()}, "regimes must be a Series or frame"),
        ({"regimes": pd.DataFrame(0.6, DATES, ["calm", "crisis"])}, "not non-negative and summing to one"),
        (
            {"regimes": pd.DataFrame({"calm": 1.0, "crisis": 0.0}, DATES)},
            "'crisis' has weight, but no row of the history is in it",
        ),
        ({"law": "normal"}, "law must be 'historical' or 'gaussian'"),
        ({"law": "gaussian"}, "say how many to draw"),
        ({"n_scenarios": 10}, "seed must be a whole number"),
        ({"n_scenarios": 1, "seed": 0}, "n_scenarios must be a whole number, at least 2"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        regime_mixture(**{"returns": history(), "regimes": STATES, "weights": WEIGHTS, **changes})


def test_a_regime_of_one_row_has_no_covariance() -> None:
    states = STATES.where(np.arange(400) != 7, "crash")
    weights = {"calm": 0.5, "crisis": 0.4, "crash": 0.1}
    with pytest.raises(InputError, match="'crash' has fewer than two effective rows"):
        regime_mixture(history(), states, weights, n_scenarios=10, seed=0, law="gaussian")
    assert regime_mixture(history(), states, weights).probabilities[7] == pytest.approx(0.1)


def test_sets_that_do_not_fit_together() -> None:
    one = ScenarioSet(history(), horizon="1 day")
    with pytest.raises(UnknownNameError, match="'D'"):
        mixture(
            {"a": one, "b": ScenarioSet(history().rename(columns={"C": "D"}), horizon="1 day")}, {"a": 0.5, "b": 0.5}
        )
    with pytest.raises(InputError, match="set 'b' has no returns for 'C'"):
        mixture({"a": one, "b": ScenarioSet(history()[["A", "B"]], horizon="1 day")}, {"a": 0.5, "b": 0.5})
    with pytest.raises(InputError, match="different horizons: '1 day', '1 month'"):
        mixture({"a": one, "b": ScenarioSet(history(), horizon="1 month")}, {"a": 0.5, "b": 0.5})
    with pytest.raises(InputError, match="takes scenario sets by name"):
        mixture([one, one], {"a": 0.5, "b": 0.5})  # type: ignore[arg-type]
    with pytest.raises(InputError, match="did you mean 'a'"):
        mixture({"a": one, "b": one}, {"A": 0.5, "b": 0.5})

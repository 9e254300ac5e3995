"""Factor Monte Carlo in memory: its moments, that it is the streamed sampler, and mirrored pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from portfolioopt.errors import InputError
from portfolioopt.scenarios import ScenarioSet, factor_model, factor_monte_carlo

ASSETS, FACTORS = pd.Index(["A", "B", "C", "D"]), pd.Index(["market", "rates"])
EXPOSURES = pd.DataFrame([[1.0, 0.2], [0.8, -0.5], [1.2, 0.0], [0.0, 1.0]], index=ASSETS, columns=FACTORS)
COVARIANCE = pd.DataFrame([[4e-4, -1e-4], [-1e-4, 1e-4]], index=FACTORS, columns=FACTORS)
VARIANCE = pd.Series([1e-4, 4e-4, 2.5e-5, 0.0], index=ASSETS)
MEAN = pd.Series([0.001, -0.002, 0.003, 0.0], index=ASSETS)
EXPECTED = EXPOSURES.to_numpy() @ COVARIANCE.to_numpy() @ EXPOSURES.to_numpy().T + np.diag(VARIANCE.to_numpy())


def draw(count: int = 100_000, **changes: Any) -> ScenarioSet:
    arguments = {"exposures": EXPOSURES, "factor_covariance": COVARIANCE, "idiosyncratic_variance": VARIANCE}
    return factor_monte_carlo(**{**arguments, "n_scenarios": count, "seed": 3, "mean": MEAN, **changes})


@pytest.mark.parametrize("antithetic", [False, True])
@pytest.mark.parametrize("freedom", [None, 8.0])
def test_moments(freedom: float | None, antithetic: bool) -> None:
    scenarios = draw(freedom=freedom, antithetic=antithetic)
    std = np.sqrt(np.diag(EXPECTED))
    drawn = scenarios.n_scenarios / (2 if antithetic else 1)
    error = 1e-15 if antithetic else 4.0 * std / np.sqrt(drawn)
    np.testing.assert_array_less(np.abs(scenarios.mean() - MEAN), error)
    kurtosis = 3.0 if freedom is None else 3.0 * (freedom - 2.0) / (freedom - 4.0)
    bound = 4.0 * np.sqrt(kurtosis / drawn) * np.outer(std, std)
    np.testing.assert_array_less(np.abs(scenarios.covariance() - EXPECTED), bound)


@pytest.mark.parametrize("freedom", [None, 5.0])
def test_the_scenarios_are_those_of_the_streamed_model(freedom: float | None) -> None:
    count = 150_001  # several chunks, the last one cut off
    kept = draw(count, freedom=freedom)
    streamed = factor_model(
        EXPOSURES,
        COVARIANCE,
        np.sqrt(VARIANCE),
        n_scenarios=count,
        seed=3,
        means=MEAN,
        degrees_of_freedom=freedom,
    )
    np.testing.assert_array_equal(kept.matrix, np.concatenate([rows for _, rows in streamed.source.blocks()]))
    pd.testing.assert_index_equal(kept.index, streamed.index)
    pd.testing.assert_index_equal(kept.assets, streamed.assets)


def test_the_same_seed_gives_the_same_scenarios() -> None:
    first = draw(1000)
    np.testing.assert_array_equal(draw(1000).matrix, first.matrix)
    np.testing.assert_array_equal(draw(2000).matrix[:1000], first.matrix)
    assert not np.isin(draw(1000, seed=4).matrix, first.matrix).any()


def test_antithetic_scenarios_mirror_the_first_half() -> None:
    scenarios = draw(1000, antithetic=True)
    np.testing.assert_array_equal(scenarios.matrix[:500], draw(500).matrix)
    np.testing.assert_allclose(scenarios.matrix[:500] + scenarios.matrix[500:], [2.0 * MEAN] * 500, atol=1e-16)


def test_without_a_mean_it_is_zero() -> None:
    np.testing.assert_array_equal(draw(100, mean=None).matrix, draw(100, mean=0.0).matrix)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"idiosyncratic_variance": -VARIANCE}, "idiosyncratic_variance is negative for 'A', 'B', 'C'"),
        ({"mean": np.nan}, "mean must be a finite number"),
        ({"freedom": 2.0}, "freedom must be above 2"),
        ({"seed": -1}, "seed must be a whole number, at least 0"),
        ({"n_scenarios": 1}, "n_scenarios must be a whole number, at least 2"),
        ({"n_scenarios": 5, "antithetic": True}, "n_scenarios must be even where antithetic, was 5"),
        ({"factor_covariance": COVARIANCE.iloc[::-1]}, "must have the factors of exposures on both axes"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        draw(**changes)

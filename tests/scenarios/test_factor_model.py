"""Factor Monte Carlo: moments and tails against closed forms, streams per chunk, and what it refuses."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from portfolioopt.errors import InputError
from portfolioopt.scenarios import ScenarioSet, factor_model

ASSETS, FACTORS = pd.Index(["A", "B", "C", "D"]), pd.Index(["market", "rates"])
EXPOSURES = pd.DataFrame([[1.0, 0.2], [0.8, -0.5], [1.2, 0.0], [0.0, 1.0]], index=ASSETS, columns=FACTORS)
COVARIANCE = pd.DataFrame([[4e-4, -1e-4], [-1e-4, 1e-4]], index=FACTORS, columns=FACTORS)
STD = pd.Series([0.01, 0.02, 0.005, 0.0], index=ASSETS)
MEANS = pd.Series([0.001, -0.002, 0.003, 0.0], index=ASSETS)
EXPECTED = EXPOSURES.to_numpy() @ COVARIANCE.to_numpy() @ EXPOSURES.to_numpy().T + np.diag(STD.to_numpy() ** 2)


def draw(**changes: Any) -> ScenarioSet:
    arguments = {"exposures": EXPOSURES, "factor_covariance": COVARIANCE, "idiosyncratic_std": STD, "means": MEANS}
    return factor_model(**{**arguments, "n_scenarios": 200_000, "seed": 3, **changes})


@pytest.mark.parametrize("freedom", [None, 8.0])
def test_moments(freedom: float | None) -> None:
    scenarios = draw(degrees_of_freedom=freedom)
    std = np.sqrt(np.diag(EXPECTED))
    error = 4.0 * std / np.sqrt(scenarios.n_scenarios)
    np.testing.assert_array_less(np.abs(scenarios.mean() - MEANS), error)
    # the variance of a product of two Student t numbers is at most 3 (nu - 2) / (nu - 4) times that of their scales
    kurtosis = 3.0 if freedom is None else 3.0 * (freedom - 2.0) / (freedom - 4.0)
    bound = 4.0 * np.sqrt(kurtosis / scenarios.n_scenarios) * np.outer(std, std)
    np.testing.assert_array_less(np.abs(scenarios.covariance() - EXPECTED), bound)


@pytest.mark.parametrize("freedom", [None, 4.0])
def test_any_portfolio_has_the_quantiles_of_the_distribution(freedom: float | None) -> None:
    weights = np.array([0.4, 0.3, -0.2, 0.5])
    spread = np.sqrt(weights @ EXPECTED @ weights)
    scenarios = draw(degrees_of_freedom=freedom)
    z = (-scenarios.source.losses(weights) - weights @ MEANS.to_numpy()) / spread
    law = stats.norm() if freedom is None else stats.t(freedom, scale=np.sqrt((freedom - 2.0) / freedom))
    assert stats.kstest(z, law.cdf).pvalue > 1e-3


def test_extremes_come_together_in_a_student_t() -> None:
    independent = EXPOSURES * 0.0
    together = []
    for freedom in (None, 3.0):
        scenarios = draw(exposures=independent, idiosyncratic_std=0.01, degrees_of_freedom=freedom, means=0.0)
        rows = np.concatenate([rows for _, rows in scenarios.source.blocks()])
        worst = rows < np.quantile(rows, 0.01, axis=0)
        together.append((worst[:, 0] & worst[:, 1]).mean())
    assert together[0] == pytest.approx(1e-4, abs=1e-4)
    assert together[1] > 10.0 * together[0]


def test_the_same_seed_gives_the_same_scenarios_in_any_order() -> None:
    first = draw(n_scenarios=200_001, degrees_of_freedom=5.0)
    picks = [199_999, 0, 70_000]
    for other in (draw(n_scenarios=250_000, degrees_of_freedom=5.0, workers=2), pickle.loads(pickle.dumps(first))):
        np.testing.assert_array_equal(other.source.rows(picks), first.source.rows(picks))
    assert not np.isin(draw(seed=4).source.rows(picks), first.source.rows(picks)).any()
    every = np.concatenate([rows[:, 0] for _, rows in first.source.blocks()])
    assert len(np.unique(every)) == len(every)  # no chunk repeats another


def test_a_singular_covariance_will_do() -> None:
    flat = pd.DataFrame(1e-4, index=FACTORS, columns=FACTORS)
    scenarios = draw(factor_covariance=flat, idiosyncratic_std=0.0, means=0.0)
    rows = scenarios.source.rows(range(10))
    np.testing.assert_allclose(rows / rows[:, :1], np.broadcast_to(EXPOSURES.sum(axis=1) / 1.2, (10, 4)), rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"exposures": EXPOSURES.to_numpy()}, "exposures must be a labelled frame, was ndarray"),
        ({"exposures": EXPOSURES.replace(0.8, np.nan)}, "exposures is missing or infinite for 'B' in columns 'market'"),
        ({"exposures": EXPOSURES.astype(object).replace(0.8, "x")}, "exposures must hold numbers, but"),
        ({"exposures": EXPOSURES.rename({"B": "A"})}, "exposures has assets that occur twice: 'A'"),
        ({"factor_covariance": COVARIANCE.iloc[::-1]}, "must have the factors of exposures on both axes"),
        ({"factor_covariance": COVARIANCE + np.array([[0.0, 1e-4], [0.0, 0.0]])}, "is not symmetric"),
        ({"factor_covariance": -COVARIANCE}, "has a negative eigenvalue"),
        ({"idiosyncratic_std": -STD}, "idiosyncratic_std is negative for 'A', 'B', 'C'"),
        ({"idiosyncratic_std": {"A": 1.0}}, "idiosyncratic_std says nothing about 'B'"),
        ({"means": np.nan}, "means must be a finite number"),
        ({"degrees_of_freedom": 2.0}, "degrees_of_freedom must be above 2"),
        ({"seed": -1}, "seed must be a whole number, at least 0"),
        ({"n_scenarios": 1}, "n_scenarios must be a whole number, at least 2"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        draw(**changes)

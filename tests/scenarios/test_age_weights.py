"""Historical scenarios whose probabilities fall with age."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from portfolioopt.errors import InputError
from portfolioopt.scenarios import historical


def history(rows: int = 100) -> pd.DataFrame:
    values = np.random.default_rng(0).normal(0.0, 0.01, (rows, 2))
    return pd.DataFrame(values, pd.date_range("2020-01-01", periods=rows), ["A", "B"])


def test_a_probability_is_half_as_large_a_half_life_before() -> None:
    p = historical(history(), halflife=20).probabilities
    np.testing.assert_allclose(p[20:] / p[:-20], 2.0)
    assert p.sum() == pytest.approx(1.0)
    assert p.argmax() == 99


def test_weights_are_those_of_the_hybrid_approach() -> None:
    # Boudoukh, Richardson & Whitelaw (1998): the latest of K returns has the weight (1 - lambda) / (1 - lambda^K)
    decay, rows = 0.98, 100
    p = historical(history(), halflife=np.log(0.5) / np.log(decay)).probabilities
    np.testing.assert_allclose(p[::-1], (1 - decay) / (1 - decay**rows) * decay ** np.arange(rows))


def test_moments_are_exponentially_weighted_ones() -> None:
    scenarios = historical(history(), halflife=15)
    weighted = history().ewm(halflife=15)
    np.testing.assert_allclose(scenarios.mean(), weighted.mean().iloc[-1], atol=1e-15)
    np.testing.assert_allclose(scenarios.covariance(), weighted.cov(bias=True).iloc[-2:], atol=1e-15)


def test_a_window_forgets_the_rest() -> None:
    windowed = historical(history(), window=30, halflife=15)
    np.testing.assert_allclose(windowed.probabilities, historical(history().tail(30), halflife=15).probabilities)


def test_long_half_lives_weigh_all_alike() -> None:
    np.testing.assert_allclose(historical(history(), halflife=1e12).probabilities, 0.01, rtol=1e-9)


@pytest.mark.parametrize("halflife", [0.0, -1.0, np.nan, np.inf, "long"])
def test_what_is_refused(halflife: object) -> None:
    with pytest.raises(InputError, match="halflife must be"):
        historical(history(), halflife=halflife)

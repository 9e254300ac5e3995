"""Volatility targets: the volatility itself, root finding, explicit sums over the past, and no look ahead."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import brentq

import portfolioopt as po
from portfolioopt.allocation import equal_weight, inverse_volatility
from portfolioopt.allocation.volatility_target import volatility_scaled, volatility_target
from portfolioopt.estimate import LedoitWolf, StatisticalFactors

RETURNS = po.data.simple_returns(po.data.sample_prices()).iloc[-400:, :10]
COVARIANCE = LedoitWolf().fit(RETURNS)
MIXED = pd.Series(np.linspace(-0.2, 0.4, 10), RETURNS.columns)


@pytest.mark.parametrize("target", [0.002, 0.02])
@pytest.mark.parametrize("covariance", [COVARIANCE, StatisticalFactors(2).fit(RETURNS), po.ScenarioSet(RETURNS)])
def test_the_target_is_met(covariance: Any, target: float) -> None:
    result = volatility_target(MIXED, covariance, target, max_leverage=20.0)
    assert result.volatility == pytest.approx(target, rel=1e-10)
    assert result.weights is not None
    np.testing.assert_allclose(result.weights, result.details["scale"] * MIXED, rtol=1e-12)
    assert result.details["cash"] == pytest.approx(1.0 - result.weights.sum(), rel=1e-12)
    assert not result.details["capped"]
    assert result.status.name == "optimal"


def test_by_hand() -> None:
    covariance = pd.DataFrame([[0.04, 0.01], [0.01, 0.09]], ["A", "B"], ["A", "B"])
    result = volatility_target({"A": 0.5, "B": 0.5}, covariance, 0.1)
    # the variance of the halves is (4 + 2 + 9) / 4 %
    assert result.details["scale"] == pytest.approx(0.1 / np.sqrt(0.0375), rel=1e-14)
    assert result.details["volatility_before"] == pytest.approx(np.sqrt(0.0375), rel=1e-14)


@pytest.mark.parametrize("allocator", [equal_weight, inverse_volatility])
def test_results_of_allocators(allocator: Any) -> None:
    before = allocator(po.ScenarioSet(RETURNS))
    after = volatility_target(before, None, 0.5 * before.volatility)
    np.testing.assert_allclose(after.weights, 0.5 * before.weights, rtol=1e-10)
    assert after.details["volatility_before"] == pytest.approx(before.volatility, rel=1e-12)
    assert after.details["cash"] == pytest.approx(0.5, rel=1e-10)


def test_leverage_is_limited() -> None:
    result = volatility_target(MIXED, COVARIANCE, 0.5, max_leverage=1.7)
    assert result.weights is not None
    assert result.weights.abs().sum() == pytest.approx(1.7, rel=1e-12)
    assert result.details["capped"]
    assert result.volatility < 0.5
    assert result.constraints.loc["max_leverage", "binding"]


@pytest.mark.parametrize("bill_volatility", [0.0, 0.001])
def test_a_cash_asset_takes_the_rest(bill_volatility: float) -> None:
    random = np.random.default_rng(0)
    bills = 0.0001 + bill_volatility * random.normal(size=len(RETURNS))
    scenarios = po.ScenarioSet(RETURNS.assign(BILLS=bills))
    weights = pd.concat([MIXED, pd.Series({"BILLS": 0.3})])
    result = volatility_target(weights, scenarios, 0.008, max_leverage=10.0, cash="BILLS")
    assert result.weights is not None
    assert result.weights.sum() == pytest.approx(1.0, rel=1e-12)
    assert result.volatility == pytest.approx(0.008, rel=1e-10)

    def volatility(scale: float) -> float:
        return float((RETURNS @ (scale * MIXED) + (1.0 - scale * MIXED.sum()) * bills).std(ddof=0))

    scale = brentq(lambda k: volatility(k) - 0.008, 0.1, 10.0, xtol=1e-14)
    assert result.details["scale"] == pytest.approx(scale, rel=1e-8)
    np.testing.assert_allclose(result.weights[MIXED.index], scale * MIXED, rtol=1e-8)


def test_the_unit_of_returns() -> None:
    one = volatility_target(MIXED, COVARIANCE, 0.01, max_leverage=50.0)
    percent = volatility_target(MIXED, 1e4 * COVARIANCE, 1.0, max_leverage=50.0)
    np.testing.assert_allclose(one.weights, percent.weights, rtol=1e-12)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"target": 0.0}, "target must be above 0"),
        ({"max_leverage": -1.0}, "max_leverage must be above 0"),
        ({"portfolio": 0.0 * MIXED}, "no risk"),
        ({"portfolio": MIXED.iloc[1:]}, "says nothing about"),
        ({"portfolio": "AAPL"}, "weights by asset or a Result"),
        ({"covariance": None}, "pass a covariance"),
        ({"covariance": RETURNS}, "takes a covariance"),
        ({"cash": "CASH"}, "unknown asset: 'CASH'"),
        ({"cash": RETURNS.columns[0], "target": 1e-4}, "above the target"),
    ],
)
def test_what_is_refused(given: dict[str, Any], words: str) -> None:
    arguments: dict[str, Any] = {"portfolio": MIXED, "covariance": COVARIANCE, "target": 0.01} | given
    with pytest.raises(po.InputError, match=words):
        volatility_target(**arguments)


# -- over time ---------------------------------------------------------------------------------------------------
SERIES = RETURNS.iloc[:, 0]


@pytest.mark.parametrize("lag", [1, 3])
def test_against_sums_over_the_past(lag: int) -> None:
    found = volatility_scaled(SERIES, 0.01, halflife=12.5, max_leverage=1.5, lag=lag, cash_rate=0.0001)
    assert found.index.equals(SERIES.index[12 + lag :])  # 13 returns are known first
    for date in found.index[[0, 7, -1]]:
        at = SERIES.index.get_loc(date)
        known = SERIES.to_numpy()[: at - lag + 1]  # type: ignore[operator]
        share = 0.5 ** (np.arange(len(known))[::-1] / 12.5)
        volatility = np.sqrt(share @ known**2 / share.sum())
        leverage = min(0.01 / volatility, 1.5)
        expected = [volatility, leverage, leverage * SERIES[date] + (1.0 - leverage) * 0.0001]
        np.testing.assert_allclose(found.loc[date], expected, rtol=1e-10)


def test_the_future_does_not_move_the_past() -> None:
    changed = SERIES.copy()
    changed.iloc[200:] *= 7.0
    one, other = (volatility_scaled(series, 0.01, halflife=20) for series in (SERIES, changed))
    cut = SERIES.index[200]
    pd.testing.assert_frame_equal(one.loc[one.index < cut], other.loc[other.index < cut])
    # nor is the leverage of a day moved by its own return
    assert other["leverage"][cut] == one["leverage"][cut]
    np.testing.assert_array_less(other["leverage"].iloc[-50:], one["leverage"].iloc[-50:])


def test_volatility_comes_out_steadier() -> None:
    """Calm and wild years by turns: the scaled series has the target in each, up to the lag of the forecast."""
    random = np.random.default_rng(0)
    level = np.repeat(np.tile([0.005, 0.02], 4), 500)
    series = pd.Series(level * random.normal(size=len(level)))
    found = volatility_scaled(series, 0.01, halflife=20, max_leverage=5.0)
    after = found["return"].groupby(level[found.index]).std()
    np.testing.assert_allclose(after, 0.01, rtol=0.12)
    assert found["return"].std() == pytest.approx(0.01, rel=0.1)


def test_a_series_that_does_not_move_is_held_at_the_limit() -> None:
    found = volatility_scaled(pd.Series(np.zeros(30)), 0.01, halflife=5, max_leverage=2.0, cash_rate=0.001)
    np.testing.assert_array_equal(found["leverage"], 2.0)
    np.testing.assert_allclose(found["return"], -0.001)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"lag": 0}, "lag must be a whole number, at least 1"),
        ({"halflife": 0.0}, "halflife must be above 0"),
        ({"returns": SERIES.iloc[:10]}, "needs at least 21 rows"),
        ({"returns": SERIES[::-1]}, "not in increasing order"),
        ({"returns": SERIES.where(SERIES.index != SERIES.index[5])}, "missing or infinite"),
        ({"returns": RETURNS}, "must be a Series"),
    ],
)
def test_what_is_refused_over_time(given: dict[str, Any], words: str) -> None:
    arguments: dict[str, Any] = {"returns": SERIES, "target": 0.01, "halflife": 20.0} | given
    with pytest.raises(po.InputError, match=words):
        volatility_scaled(**arguments)

"""Regimes by rule: against arch, brute force with nothing but the past, and series whose regime is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from arch.unitroot import VarianceRatio
from scipy.stats import norm

import portfolioopt as po
from portfolioopt.data import sample_prices, simple_returns
from portfolioopt.estimate import MarketRegime, MarketRegimes, VolatilityStates, regime_moments

ALL = simple_returns(sample_prices()).iloc[-1500:]
MARKET = ALL.mean(axis=1).rename("market")
QUICK = MarketRegimes(window=20, trend=0.25, memory=60, history=50)


def dated(values: np.ndarray | list[float]) -> pd.Series:
    return pd.Series(values, pd.date_range("2020-01-01", periods=len(values), freq="B", name="date"))


# -- volatility states -------------------------------------------------------------------------------------------
def test_volatility_states_are_counts_of_quantiles_of_the_past() -> None:
    found = VolatilityStates((0.25, 0.5, 0.9), window=20, history=100).fit(MARKET)
    assert found.index.equals(MARKET.index[118:])
    for date in found.index[::97]:
        past = MARKET.loc[:date].rolling(20).std().dropna()
        expected = int((past.iloc[-1] > past.quantile([0.25, 0.5, 0.9])).sum())
        assert found[date] == expected
    assert set(found.unique()) == {0, 1, 2, 3}


def test_calm_then_wild_is_low_then_high() -> None:
    rng = np.random.default_rng(0)
    series = dated(np.concatenate([0.005 * rng.normal(size=400), 0.05 * rng.normal(size=60)]))
    found = VolatilityStates(window=21, history=252).fit(series)
    assert (found.iloc[-30:] == 2).all()
    assert len(set(found.iloc[:100])) > 1


# -- what the market regimes look at -----------------------------------------------------------------------------
def test_the_variance_ratio_is_that_of_arch() -> None:
    evidence = QUICK.evidence(MARKET)
    log = np.log1p(MARKET)
    for date in evidence.index[::217]:
        level = np.concatenate([[0.0], log.loc[:date].tail(60).cumsum()])
        peer = VarianceRatio(level, lags=5, robust=True, debiased=True, overlap=True)
        seen = evidence.loc[date].to_dict()
        assert seen["variance_ratio"] == pytest.approx(peer.vr, rel=1e-9)
        assert seen["z"] == pytest.approx(peer.stat, rel=1e-9)


def test_efficiency_ratio_and_rank_by_brute_force() -> None:
    evidence = QUICK.evidence(MARKET)
    prices = (1.0 + MARKET).cumprod()
    for date in evidence.index[::217]:
        path = np.log(np.concatenate([[1.0], prices.loc[:date]]))[-21:]
        seen = evidence.loc[date].to_dict()
        assert seen["efficiency_ratio"] == pytest.approx(
            abs(path[-1] - path[0]) / np.abs(np.diff(path)).sum(), rel=1e-9
        )
        past = np.log1p(MARKET.loc[:date]).rolling(20).std().dropna()
        assert seen["volatility_rank"] == pytest.approx((past <= past.iloc[-1]).mean(), rel=1e-12)


def test_a_random_walk_behaves_as_the_thresholds_suppose() -> None:
    evidence = MarketRegimes().evidence(dated(0.01 * np.random.default_rng(5).normal(size=20_000)))
    assert evidence["efficiency_ratio"].mean() == pytest.approx(1 / np.sqrt(60), rel=0.06)
    assert (evidence["efficiency_ratio"] >= 0.3).mean() == pytest.approx(
        2 * norm.sf(0.3 / np.sqrt(np.pi / 120)), abs=0.02
    )
    assert evidence["variance_ratio"].mean() == pytest.approx(1.0, abs=0.02)
    assert evidence["z"].std() == pytest.approx(1.0, abs=0.15)
    assert evidence["volatility_rank"].mean() == pytest.approx(0.5, abs=0.05)


# -- the five ----------------------------------------------------------------------------------------------------
def test_series_whose_regime_is_known() -> None:
    rng = np.random.default_rng(1)
    before = 0.01 * rng.normal(size=300)

    def last(tail: np.ndarray) -> MarketRegime:
        return QUICK.fit(dated(np.concatenate([before, tail]))).iloc[-1]

    assert last(np.full(60, 0.004) + 0.002 * rng.normal(size=60)) is MarketRegime.TRENDING
    assert last(-0.02 + 0.03 * rng.normal(size=60)) is MarketRegime.VOLATILE_TRENDING
    back_and_forth = 0.01 * np.array([1.0, -1.0] * 30) + 0.001 * rng.normal(size=60)
    assert last(back_and_forth) is MarketRegime.MEAN_REVERTING
    noise = rng.permutation(np.tile([-2.0, -1.0, 0.0, 1.0, 2.0], 12))
    shuffled = [rng.permutation(noise) for _ in range(200)]
    calm = [abs(x[-20:].sum()) / np.abs(x[-20:]).sum() < 0.1 for x in shuffled]
    drawn = [x for x, ok in zip(shuffled, calm, strict=True) if ok]
    assert MarketRegime.CHOPPY in [last(0.007 * x) for x in drawn[:10]]
    assert MarketRegime.QUIET_CHOPPY in [last(0.001 * x) for x in drawn[:10]]


def test_regimes_are_the_rules_applied_to_the_evidence() -> None:
    found, evidence = QUICK.fit(MARKET), QUICK.evidence(MARKET)
    assert set(found) == set(MarketRegime)
    for date, regime in found.items():
        e = evidence.loc[date]
        if e["efficiency_ratio"] >= 0.25:
            assert regime is (MarketRegime.VOLATILE_TRENDING if e["volatility_rank"] >= 0.75 else MarketRegime.TRENDING)
        elif e["z"] <= -1.645:
            assert regime is MarketRegime.MEAN_REVERTING
        else:
            assert regime is (MarketRegime.QUIET_CHOPPY if e["volatility_rank"] <= 0.25 else MarketRegime.CHOPPY)
    assert [str(regime) for regime in MarketRegime] == [
        "trending", "volatile trending", "mean-reverting", "choppy", "quiet choppy"
    ]  # fmt: skip


def test_the_unit_of_small_returns_hardly_matters_and_a_still_market_is_quiet() -> None:
    small = 1e-4 * MARKET
    assert (QUICK.fit(small) == QUICK.fit(0.5 * small)).mean() > 0.99
    still = dated(np.concatenate([0.01 * np.random.default_rng(2).normal(size=200), np.zeros(80)]))
    assert QUICK.fit(still).iloc[-1] is MarketRegime.QUIET_CHOPPY


# -- moments by regime -------------------------------------------------------------------------------------------
def test_moments_are_those_of_the_returns_that_followed() -> None:
    regimes = QUICK.fit(MARKET)
    for lag in (0, 1, 5):
        moments = regime_moments(ALL, regimes, lag=lag)
        shifted = regimes.reindex(ALL.index).shift(lag)
        assert moments.observations.sum() == shifted.notna().sum()
        for regime in MarketRegime:
            own = ALL[shifted == regime]
            np.testing.assert_allclose(moments.mean.loc[[regime]], own.mean().to_frame().T, rtol=1e-10)
            np.testing.assert_allclose(moments.covariances[regime], own.cov(), rtol=1e-9, atol=1e-18)
            assert moments.observations[regime] == len(own)


def test_a_regime_without_returns_is_an_error_unless_it_is_not_asked_for() -> None:
    regimes = QUICK.fit(MARKET)
    none = regimes.where(regimes != MarketRegime.CHOPPY, MarketRegime.TRENDING)
    with pytest.raises(po.InputError, match=r"regime 'choppy' has 0 returns, and a covariance takes 2.*only="):
        regime_moments(ALL, none)
    moments = regime_moments(ALL, none, only=[MarketRegime.TRENDING])
    assert moments.mean.index.tolist() == [MarketRegime.TRENDING]
    assert regime_moments(ALL, VolatilityStates().fit(MARKET)).mean.index.tolist() == [0, 1, 2]
    kinds = pd.Series(pd.Categorical(["a"] * 1499 + ["b"], categories=["a", "b", "c"]), ALL.index)
    with pytest.raises(po.InputError, match="regime 'b' has 0 returns"):
        regime_moments(ALL, kinds)
    with pytest.raises(po.InputError, match="regime 'b' has 1 return, and"):
        regime_moments(ALL, kinds, lag=0)
    assert regime_moments(ALL, kinds, only=["a"]).observations["a"] == 1499
    with pytest.raises(po.UnknownNameError, match="unknown regime: 'd'"):
        regime_moments(ALL, kinds, only=["d"])


# -- bad input ---------------------------------------------------------------------------------------------------
def test_bad_input() -> None:
    with pytest.raises(po.InputError, match=r"quiet \(0.8\) must be below volatile \(0.75\)"):
        MarketRegimes(quiet=0.8)
    with pytest.raises(po.InputError, match="memory must be a whole number, at least 50"):
        MarketRegimes(memory=40)
    with pytest.raises(po.InputError, match="quantiles must increase"):
        VolatilityStates(quantiles=(0.5, 0.5))
    with pytest.raises(po.InputError, match="needs at least 311 rows of returns"):
        MarketRegimes().fit(MARKET.iloc[:310])
    with pytest.raises(po.InputError, match="needs at least 272 rows of returns"):
        VolatilityStates().fit(MARKET.iloc[:271])
    with pytest.raises(po.InputError, match="must be a Series by period, was DataFrame; pass one column"):
        MarketRegimes().fit(ALL)
    with pytest.raises(po.InputError, match="the return on 2022-12-28 is -3"):
        MarketRegimes().fit(MARKET.where(MARKET.index != MARKET.index[-1], -3.0))
    with pytest.raises(po.InputError, match="missing or infinite for market"):
        MarketRegimes().fit(MARKET.where(MARKET.index != MARKET.index[-1]))
    with pytest.raises(po.InputError, match="no date in common"):
        regime_moments(ALL, pd.Series(["a", "b"]))
    with pytest.raises(po.InputError, match="regimes has duplicate dates"):
        regime_moments(ALL, pd.concat([QUICK.fit(MARKET)] * 2))

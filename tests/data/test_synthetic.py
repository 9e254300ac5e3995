"""Synthetic markets against the truth they carry: moments, tails, regimes, comings and goings, and their past."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from portfolioopt.data import REGIMES, MarketData, Regime, SyntheticMarket, synthetic_market
from portfolioopt.errors import InputError, UnknownNameError


@cache
def long() -> SyntheticMarket:
    """A century without comings and goings, for moments."""
    return synthetic_market(12, 25_000, seed=11, factors=3, listed_at_start=1.0, delisting_rate=0.0)


@cache
def lively() -> SyntheticMarket:
    """Three years in which many come and go."""
    return synthetic_market(600, 800, seed=5, factors=4, listed_at_start=0.5, listing_years=2.0, delisting_rate=0.3)


@pytest.mark.parametrize("regime", [regime.name for regime in REGIMES])
def test_days_of_a_regime_have_its_covariance(regime: str) -> None:
    """Scaled by the truth, sample covariances are near the identity: within six standard errors, allowing for tails."""
    days = long().regimes == regime
    sample = long().returns[days].iloc[1:].dropna()
    truth = long().covariance(regime)
    root = np.linalg.cholesky(truth.to_numpy())
    white = np.linalg.solve(root, sample.cov().to_numpy())
    white = np.linalg.solve(root, white.T)
    error = np.sqrt(8.0 / len(sample))  # of a variance with the kurtosis of a Student t with 5 degrees of freedom
    assert len(sample) > 2000
    np.testing.assert_allclose(white, np.eye(12), atol=6 * error + 0.02)
    drift = (sample.mean() - long().mean(regime)) / np.sqrt(np.diag(truth) / len(sample))
    assert np.abs(drift).max() < 5.0


def test_covariance_is_made_of_its_parts() -> None:
    name = REGIMES[1].name
    factor = long().factor_covariance(name)
    assert np.sqrt(np.diag(factor))[0] == pytest.approx(REGIMES[1].volatility * 0.16 / np.sqrt(252))
    assert factor.iloc[0, 1] / np.sqrt(factor.iloc[0, 0] * factor.iloc[1, 1]) == pytest.approx(REGIMES[1].correlation)
    whole, some = long().covariance(name), long().covariance(name, long().exposures.index[3:5])
    pd.testing.assert_frame_equal(some, whole.iloc[3:5, 3:5])
    assert np.linalg.eigvalsh(whole)[0] > 0
    with pytest.raises(UnknownNameError, match="did you mean 'trending'"):
        long().covariance("trendin")
    with pytest.raises(UnknownNameError, match="asset"):
        long().covariance(name, pd.Index(["XYZ"]))


def test_what_came_before_does_not_change_the_covariance() -> None:
    """Two regimes that alternate every other day, with strong memory and strong correlation."""
    regimes = [
        Regime("up", drift=0.0, volatility=1.0, correlation=0.7, autocorrelation=0.6, duration=2),
        Regime("down", drift=0.0, volatility=3.0, correlation=0.1, autocorrelation=-0.6, duration=2),
    ]
    drawn = synthetic_market(1, 20_000, seed=4, factors=3, regimes=regimes, degrees_of_freedom=30.0)
    factors = drawn.market.factors
    assert factors is not None
    for regime in regimes:
        truth = drawn.factor_covariance(regime.name).to_numpy()
        sample = factors[(drawn.regimes == regime.name).to_numpy()].cov().to_numpy()
        scale = np.sqrt(np.diag(truth))
        np.testing.assert_allclose(sample / np.outer(scale, scale), truth / np.outer(scale, scale), atol=0.1)


def test_residuals_are_student_t() -> None:
    factors = long().market.factors
    assert factors is not None
    rest = long().returns.iloc[1:] - factors.iloc[1:].to_numpy() @ long().exposures.to_numpy().T
    scaled = rest / np.sqrt(long().idiosyncratic_variance)
    t = stats.t(5, scale=np.sqrt(3 / 5))
    assert stats.kstest(scaled.iloc[:, :5].to_numpy().ravel()[::5], t.cdf).pvalue > 1e-4
    assert np.abs(np.corrcoef(scaled.to_numpy().T) - np.eye(12)).max() < 0.05


def test_regimes_last_as_long_as_they_say() -> None:
    names = long().regimes.to_numpy()
    change = np.flatnonzero(names[1:] != names[:-1]) + 1
    spells = pd.DataFrame({"name": names[change[:-1]], "days": np.diff(change)})
    for regime in REGIMES:
        days = spells.loc[spells["name"] == regime.name, "days"]
        assert abs(days.mean() - regime.duration) < 5 * regime.duration / np.sqrt(len(days))


def test_factors_trend_and_revert_as_their_regime_says() -> None:
    factors = long().market.factors
    assert factors is not None
    factor = factors["Size"].to_numpy()
    names = long().regimes.to_numpy()
    for regime in REGIMES:
        inside = (names[1:] == regime.name) & (names[:-1] == regime.name)
        found = np.corrcoef(factor[1:][inside], factor[:-1][inside])[0, 1]
        assert found == pytest.approx(regime.autocorrelation, abs=6 / np.sqrt(inside.sum()))


# -- comings and goings --------------------------------------------------------------------------------------------
def test_assets_come_and_go() -> None:
    market = lively().market
    prices = market.prices[lively().returns.columns]
    starts = market.universe.spells["start"]
    assert 0.4 < (starts == market.dates[0]).sum() / 600 < 0.6
    gone = market.delistings
    life = prices.notna().sum().sum() / 252
    assert abs(len(gone) - 0.3 * life) < 5 * np.sqrt(0.3 * life)
    assert 0.5 < (gone["return"] >= 0).mean() < 0.8
    assert gone["return"].between(-1.0, 0.2).all()
    for event in gone.head(20).itertuples():
        assert prices.loc[event.date :, event.asset].isna().all()
        assert lively().returns.loc[event.date, event.asset] == event._3
    members = market.universe.mask(market.dates, prices.columns[prices.notna().any()])
    assert members.equals(prices[members.columns].notna())


def test_prices_compound_the_returns() -> None:
    prices = lively().market.prices[lively().returns.columns]
    expected = prices.pct_change(fill_method=None)
    trading = expected.notna()
    np.testing.assert_allclose(lively().returns.to_numpy()[trading], expected.to_numpy()[trading], atol=1e-12)


def test_earnings_are_late_and_revised() -> None:
    table = lively().market.publications("earnings")
    rows = lively().market.dates
    lag = rows.get_indexer(table["known_at"]) - rows.get_indexer(table["period"])
    revised = table.duplicated(["asset", "period"])
    assert lag[~revised].min() >= 15
    assert lag[~revised].max() <= 60
    assert (lag[revised] > 30).all()
    assert 0.04 < revised.mean() < 0.15
    period = table["period"].iloc[0]
    assert period not in lively().market.as_of(period).field("earnings").index


def test_characteristics_say_something_about_exposures() -> None:
    book = np.log(lively().market.latest("book_to_market")).dropna()
    assert np.corrcoef(book, lively().exposures["Value"].loc[book.index])[0, 1] > 0.8


# -- the same seed -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("assets", "days"), [(300, 200), (600, 430), (7, 800), (256, 64)])
def test_more_days_and_more_assets_leave_the_rest_as_it_is(assets: int, days: int) -> None:
    small = synthetic_market(
        assets, days, seed=5, factors=4, listed_at_start=0.5, listing_years=2.0, delisting_rate=0.3
    )
    corner = lively().returns.iloc[:days, :assets]
    pd.testing.assert_frame_equal(small.returns, corner, check_exact=True, check_freq=False)
    pd.testing.assert_series_equal(small.regimes, lively().regimes.iloc[:days], check_freq=False)
    pd.testing.assert_frame_equal(small.exposures, lively().exposures.iloc[:assets], check_exact=True)
    t = small.market.dates[-1]
    view = lively().market.as_of(t)
    for name in ("prices", "volumes"):
        both = view.assets.intersection(small.market.assets)
        assert len(both) > 0.4 * assets
        assert getattr(small.market, name)[both].equals(getattr(view, name)[both])
    known = view.publications("earnings")
    mine = known[known["asset"].isin(small.exposures.index)].sort_values(["asset", "known_at", "period"])
    own = small.market.publications("earnings").sort_values(["asset", "known_at", "period"])
    assert own.reset_index(drop=True).equals(mine.reset_index(drop=True))
    events = view.delistings[view.delistings["asset"].isin(small.exposures.index)]
    assert small.market.delistings.sort_values("asset", ignore_index=True).equals(
        events.sort_values("asset", ignore_index=True)
    )


def test_seeds_differ_and_repeat() -> None:
    first, again, other = (synthetic_market(20, 100, seed=seed).returns for seed in (1, 1, 2))
    assert first.equals(again)
    assert not first.equals(other)


def test_regimes_may_be_ones_own() -> None:
    only = Regime("calm", drift=0.0, volatility=1.0, correlation=0.0, autocorrelation=0.0, duration=10)
    market = synthetic_market(3, 50, seed=0, factors=1, regimes=[only])
    assert set(market.regimes) == {"calm"}
    assert list(market.exposures.columns) == ["Market"]
    assert isinstance(market.market, MarketData)
    assert "3 assets, 50 days" in repr(market)
    with pytest.raises(InputError, match="share the names calm"):
        synthetic_market(3, 50, seed=0, regimes=[only, only])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"assets": 0}, "assets must be a whole number"),
        ({"days": 1}, "days must be a whole number, at least 2"),
        ({"seed": -1}, "seed"),
        ({"degrees_of_freedom": 2.0}, "above 2"),
        ({"listed_at_start": 1.5}, "probability"),
        ({"delisting_rate": -0.1}, "delisting_rate"),
        ({"regimes": []}, "at least one Regime"),
        ({"start": "soon"}, "start must be a date"),
    ],
)
def test_markets_that_cannot_be_meant_are_refused(arguments: dict, text: str) -> None:
    with pytest.raises(InputError, match=text):
        synthetic_market(**{"assets": 3, "days": 10, "seed": 0, **arguments})


@pytest.mark.parametrize("field", ["volatility", "correlation", "autocorrelation", "duration"])
def test_regimes_that_cannot_be_meant_are_refused(field: str) -> None:
    good = {"drift": 0.0, "volatility": 1.0, "correlation": 0.0, "autocorrelation": 0.0, "duration": 10.0}
    bad = {"volatility": 0.0, "correlation": 1.0, "autocorrelation": -1.0, "duration": 1.0}
    with pytest.raises(InputError, match=f"Regime 'x': {field}"):
        Regime("x", **{**good, field: bad[field]})


@pytest.mark.slow
def test_ten_thousand_assets_take_seconds() -> None:
    import time

    begin = time.perf_counter()
    drawn = synthetic_market(10_000, 2_500, seed=1)
    assert time.perf_counter() - begin < 30.0
    begin = time.perf_counter()
    steps = sum(1 for _ in drawn.market.walk(every=21))
    assert (time.perf_counter() - begin) / steps < 0.05

"""Quality of estimates: forecasts that are right or wrong by a known factor, statsmodels, and the matrix itself."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats

import portfolioopt as po
from portfolioopt.data import sample_prices, simple_returns
from portfolioopt.estimate import (
    ExponentialCovariance,
    LedoitWolf,
    SampleCovariance,
    StatisticalFactors,
    bias_statistic,
    compare,
    condition_number,
    quality,
    rolling_covariances,
    volatility_forecast_quality,
)

DATES = pd.date_range("2020-01-01", periods=600, freq="B", name="date")
RNG = np.random.default_rng(11)
VOLATILITY = pd.DataFrame(np.exp(RNG.normal(size=(600, 3)) * 0.5 - 4.0), DATES, ["right", "low", "high"])
RETURNS = VOLATILITY * RNG.normal(size=(600, 3))
FORECAST = VOLATILITY * [1.0, 0.5, 2.0]
STOCKS = simple_returns(sample_prices()).iloc[-400:, :8]


# -- bias --------------------------------------------------------------------------------------------------------
def test_bias_is_one_for_right_forecasts_and_the_factor_for_wrong_ones() -> None:
    found = bias_statistic(FORECAST, RETURNS)
    np.testing.assert_allclose(found.statistic, [1.0, 2.0, 0.5], rtol=0.08)
    assert found.within.tolist() == [True, False, False]
    assert (found.lower, found.upper) == pytest.approx((1 - np.sqrt(2 / 600), 1 + np.sqrt(2 / 600)))


def test_the_interval_holds_right_forecasts_19_times_in_20() -> None:
    z = pd.DataFrame(np.random.default_rng(0).normal(size=(250, 4000)))
    found = bias_statistic(z * 0 + 1.0, z)
    assert found.within.mean() == pytest.approx(2 * stats.norm.cdf(2.0) - 1, abs=0.015)


def test_the_rolling_statistic_and_its_deviation_are_those_of_pandas() -> None:
    found = bias_statistic(FORECAST, RETURNS, window=20)
    rolling = (RETURNS / FORECAST).rolling(20).std().dropna()
    pd.testing.assert_frame_equal(found.rolling, rolling, check_freq=False)
    pd.testing.assert_series_equal(found.deviation, (rolling - 1).abs().mean(), check_names=False)
    one = bias_statistic(FORECAST["low"], RETURNS["low"], window=20)
    assert one.statistic["low"] == pytest.approx(found.statistic["low"])


# -- forecasts of volatility -------------------------------------------------------------------------------------
def test_mincer_zarnowitz_is_that_of_statsmodels() -> None:
    found = volatility_forecast_quality(FORECAST, RETURNS)
    for name in RETURNS:
        peer = sm.OLS((RETURNS[name] ** 2).to_numpy(), sm.add_constant((FORECAST[name] ** 2).to_numpy())).fit()
        np.testing.assert_allclose(found.loc[name, ["intercept", "slope"]].astype(float), peer.params, rtol=1e-7)
        assert found.loc[name, "r_squared"] == pytest.approx(peer.rsquared, rel=1e-8)


def test_qlike_is_least_at_the_truth_and_so_is_the_likelihood() -> None:
    factors = np.exp(np.linspace(-1, 1, 41))
    qlike = [volatility_forecast_quality(k * VOLATILITY["right"], RETURNS["right"])["qlike"].iloc[0] for k in factors]
    assert factors[int(np.argmin(qlike))] == pytest.approx(1.0, abs=0.1)
    density = stats.norm.logpdf(RETURNS["right"], scale=FORECAST["right"]).mean()
    one = volatility_forecast_quality(FORECAST["right"], RETURNS["right"])
    assert one["qlike"].iloc[0] == pytest.approx(-2 * density - np.log(2 * np.pi), rel=1e-12)


def test_a_better_measure_of_what_came_takes_the_place_of_squares() -> None:
    found = volatility_forecast_quality(FORECAST, RETURNS, realised_volatility=VOLATILITY)
    np.testing.assert_allclose(found["slope"], [1.0, 4.0, 0.25], rtol=1e-9)
    np.testing.assert_allclose(found["r_squared"], 1.0, rtol=1e-9)
    np.testing.assert_allclose(found["ratio"], [1.0, 2.0, 0.5], rtol=1e-9)
    flat = volatility_forecast_quality(0 * FORECAST + 0.02, RETURNS)
    assert flat["slope"].isna().all()
    assert flat["qlike"].notna().all()


# -- condition number --------------------------------------------------------------------------------------------
def test_condition_number_is_that_of_numpy() -> None:
    matrix = SampleCovariance().fit(STOCKS)
    assert condition_number(matrix) == pytest.approx(np.linalg.cond(matrix), rel=1e-9)
    assert condition_number(StatisticalFactors(2).fit(STOCKS)) == pytest.approx(
        np.linalg.cond(StatisticalFactors(2).fit(STOCKS).dense()), rel=1e-9
    )
    assert condition_number(SampleCovariance().fit(STOCKS.iloc[:5])) == np.inf
    with pytest.raises(po.InputError, match="no positive eigenvalue"):
        condition_number(0 * matrix)


def test_a_factored_covariance_is_not_formed(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    n = 40
    exposures = pd.DataFrame(rng.normal(size=(n, 3)))
    model = po.FactorCovariance(exposures, pd.DataFrame(np.diag([4.0, 2.0, 1.0])), pd.Series(rng.uniform(0.1, 2, n)))
    expected = np.linalg.cond(model.dense())
    monkeypatch.setattr(quality, "LARGE", 10)
    monkeypatch.setattr(po.FactorCovariance, "dense", None)
    assert condition_number(model) == pytest.approx(expected, rel=1e-10)


def test_many_assets_take_no_memory() -> None:
    n = 20_000  # the matrix would take 3 GB
    model = po.FactorCovariance(pd.DataFrame(np.ones((n, 1))), pd.DataFrame([[1.0]]), 0.5)
    assert condition_number(model) == pytest.approx((n + 0.5) / 0.5, rel=1e-9)


# -- comparisons -------------------------------------------------------------------------------------------------
def test_a_comparison_is_what_its_parts_say() -> None:
    portfolios = pd.DataFrame({"equal": 1 / 8, "first": np.eye(8)[0]}, STOCKS.columns[::-1])
    found = compare(
        {"sample": SampleCovariance(), "shrunk": LedoitWolf()}, STOCKS, window=100, every=25, portfolios=portfolios
    )
    rolling = rolling_covariances(STOCKS, 100, every=25)
    forecast = rolling.volatility(portfolios).reindex(STOCKS.index).shift(1).ffill().iloc[100:]
    realised = (STOCKS @ portfolios.loc[STOCKS.columns]).iloc[100:]
    bias = bias_statistic(forecast, realised).statistic
    line = found.loc["sample"].to_dict()
    assert line["bias_statistic"] == pytest.approx(bias.mean(), rel=1e-9)
    assert line["bias_deviation"] == pytest.approx((bias - 1).abs().mean(), rel=1e-9)
    assert line["qlike"] == pytest.approx(volatility_forecast_quality(forecast, realised)["qlike"].mean(), rel=1e-9)
    earned = []
    for start in range(100, 400, 25):
        past = STOCKS.iloc[start - 100 : start]
        raw = np.linalg.solve(past.cov(), np.ones(8))
        earned.append(STOCKS.iloc[start : start + 25] @ (raw / raw.sum()))
    assert line["minimum_variance_volatility"] == pytest.approx(pd.concat(earned).std(), rel=1e-8)
    assert line["condition_number"] == pytest.approx(
        np.median([np.linalg.cond(STOCKS.iloc[s - 100 : s].cov()) for s in range(100, 400, 25)]), rel=1e-6
    )
    assert found["fits"].tolist() == [12, 12]
    assert found.loc["shrunk"].to_dict()["condition_number"] < line["condition_number"]


def test_shrinkage_beats_the_sample_where_there_are_few_rows() -> None:
    rng = np.random.default_rng(4)
    truth = rng.normal(size=(30, 3)) * 0.01
    returns = pd.DataFrame(rng.normal(size=(400, 3)) @ truth.T + 0.02 * rng.normal(size=(400, 30)))
    found = compare(
        {"sample": SampleCovariance(), "shrunk": LedoitWolf(), "factors": StatisticalFactors(3)},
        returns,
        window=40,
        every=40,
    )
    risk = found["minimum_variance_volatility"]
    assert risk["factors"] < risk["shrunk"] < risk["sample"]
    few = compare({"sample": SampleCovariance()}, returns, window=20, every=100)
    assert few["minimum_variance_volatility"].isna().all()
    assert np.isinf(few["condition_number"]).all()


def test_returns_are_judged_by_forecasts_that_have_not_seen_them() -> None:
    estimators = {"fast": ExponentialCovariance(20.0)}
    last = STOCKS.copy()
    last.iloc[350:] *= 10.0  # rows after the last fit
    before, after = (compare(estimators, r, window=100, every=50).loc["fast"].to_dict() for r in (STOCKS, last))
    assert after["condition_number"] == before["condition_number"]
    assert after["bias_statistic"] > 2.0 * before["bias_statistic"]


# -- bad input ---------------------------------------------------------------------------------------------------
def test_bad_input() -> None:
    with pytest.raises(po.InputError, match="forecast_volatility is not positive for 'low'"):
        bias_statistic(FORECAST.assign(low=0.0), RETURNS)
    with pytest.raises(po.InputError, match="forecast_volatility has other dates than realised_returns"):
        bias_statistic(FORECAST.iloc[1:], RETURNS)
    with pytest.raises(po.InputError, match="forecast_volatility is for 'right', 'low', and the returns are of"):
        bias_statistic(FORECAST[["right", "low"]], RETURNS)
    with pytest.raises(po.InputError, match="missing or infinite for right on 2020-01-01"):
        bias_statistic(FORECAST.shift(1), RETURNS)
    with pytest.raises(po.InputError, match="needs at least 12 rows"):
        bias_statistic(FORECAST.iloc[:5], RETURNS.iloc[:5])
    with pytest.raises(po.InputError, match="realised_volatility is negative"):
        volatility_forecast_quality(FORECAST, RETURNS, realised_volatility=-VOLATILITY)
    with pytest.raises(po.InputError, match="compare: 'sample': covariance must be an estimator"):
        compare({"sample": SampleCovariance}, STOCKS, window=100, every=25)
    with pytest.raises(po.InputError, match="one or more"):
        compare({}, STOCKS, window=100, every=25)
    with pytest.raises(po.InputError, match="needs at least 402 rows"):
        compare({"sample": SampleCovariance()}, STOCKS, window=400, every=25)
    with pytest.raises(po.InputError, match=r"'pca' on the window to 2021-10-.*needs at least 9 assets"):
        compare({"pca": StatisticalFactors(9)}, STOCKS, window=100, every=25)

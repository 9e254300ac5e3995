"""Rolling covariances and factor models: against pandas, the estimators on each window, and statsmodels."""

from __future__ import annotations

import jax
import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

import portfolioopt as po
from portfolioopt.data import sample_prices, simple_returns
from portfolioopt.estimate import (
    ExponentialCovariance,
    RegressionFactors,
    RollingCovariances,
    SampleCovariance,
    rolling_covariances,
    rolling_factor_model,
)
from portfolioopt_kernels.covariance import rolling_covariances as kernel

RETURNS = simple_returns(sample_prices()).iloc[-150:, :6]
FACTORS = pd.DataFrame({"market": RETURNS.mean(axis=1), "tilt": 100 * (RETURNS["AMD"] - RETURNS["BAC"])})
WINDOW = 40
PORTFOLIOS = pd.DataFrame({"equal": 1 / 6, "long short": [0.5, -0.5, 0.2, 0.8, -0.3, 0.3]}, index=RETURNS.columns[::-1])


def exactly(found: object, expected: object, tolerance: float = 1e-12) -> None:
    """The same to `tolerance` of the largest number of each matrix."""
    a, b = np.asarray(found), np.asarray(expected)
    np.testing.assert_allclose(a, b, rtol=0.0, atol=tolerance * np.abs(b).max())


# -- covariances -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("every", [1, 5, 7, 40, 55])
def test_every_window_is_that_of_pandas(every: int) -> None:
    rolling = rolling_covariances(RETURNS, WINDOW, every=every)
    peer = RETURNS.rolling(WINDOW).cov()
    assert rolling.dates.equals(RETURNS.index[WINDOW - 1 :: every])
    assert len(rolling) == len(rolling.matrices)
    for date, matrix in zip(rolling.dates, rolling.matrices, strict=True):
        exactly(matrix, np.cov(RETURNS.loc[:date].tail(WINDOW), rowvar=False))
        exactly(matrix, peer.loc[date], 1e-11)  # running sums, which lose some digits


@pytest.mark.parametrize("halflife", [3.0, 20.0, 1e6])
def test_exponential_weights_are_those_of_the_estimator(halflife: float) -> None:
    rolling = rolling_covariances(RETURNS, WINDOW, every=7, halflife=halflife)
    for date in rolling.dates:
        expected = ExponentialCovariance(halflife).fit(RETURNS.loc[:date].tail(WINDOW))
        exactly(rolling.at(date), expected)


def test_what_has_left_the_window_is_forgotten_to_the_last_digit() -> None:
    shocked = RETURNS.copy()
    shocked.iloc[45] = 1e8
    calm, after = rolling_covariances(RETURNS, WINDOW), rolling_covariances(shocked, WINDOW)
    np.testing.assert_array_equal(after.matrices[46:], calm.matrices[46:])
    np.testing.assert_array_equal(after.matrices[:6], calm.matrices[:6])
    assert after.matrices[6].max() > 1e12


@pytest.mark.parametrize("level", [1.0, -1e4])
def test_a_level_far_from_zero_costs_no_digits(level: float) -> None:
    shifted = RETURNS + level
    rolling = rolling_covariances(shifted, WINDOW)
    for date in rolling.dates[::20]:
        exactly(rolling.at(date), SampleCovariance().fit(shifted.loc[:date].tail(WINDOW)), 1e-11)


def test_order_and_unit_of_assets_do_not_matter() -> None:
    other = RETURNS.columns[::-1]
    turned = rolling_covariances(100 * RETURNS[other], WINDOW)
    exactly(turned.matrices[:, ::-1, ::-1], 1e4 * rolling_covariances(RETURNS, WINDOW).matrices)


def test_one_row_per_window_start_and_matrices_are_covariances() -> None:
    rolling = rolling_covariances(RETURNS, 3)
    np.testing.assert_allclose(rolling.matrices, rolling.matrices.transpose(0, 2, 1), rtol=1e-12)
    values = np.linalg.eigvalsh(rolling.matrices)
    assert (values[:, 0] >= -1e-12 * values[:, -1]).all()  # of rank two, three rows less their mean


def test_volatility_of_portfolios() -> None:
    rolling = rolling_covariances(RETURNS, WINDOW, every=7)
    found = rolling.volatility(PORTFOLIOS)
    expected = (RETURNS @ PORTFOLIOS.loc[RETURNS.columns]).rolling(WINDOW).std().loc[rolling.dates]
    pd.testing.assert_frame_equal(found, expected, rtol=1e-9)
    one = rolling.volatility(PORTFOLIOS["equal"])
    pd.testing.assert_frame_equal(one, found[["equal"]], rtol=1e-12)


def test_the_date_is_the_last_that_is_known() -> None:
    rolling = rolling_covariances(RETURNS, WINDOW, every=7)
    first, second = rolling.dates[:2]
    pd.testing.assert_frame_equal(rolling.at(second - pd.Timedelta(days=1)), rolling.at(first))
    pd.testing.assert_frame_equal(rolling.at(str(second.date())), rolling.at(second))
    pd.testing.assert_frame_equal(rolling.at("2100-01-01"), rolling.at(rolling.dates[-1]))
    with pytest.raises(po.InputError, match="nothing is known on 2000-01-03; the first date is"):
        rolling.at("2000-01-03")
    with pytest.raises(po.InputError, match="cannot be a date"):
        rolling.at("yesterday, or so")
    assert isinstance(rolling, RollingCovariances)
    assert repr(rolling) == f"RollingCovariances({len(rolling)} dates, 6 assets)"


def test_a_later_row_leaves_what_was_there() -> None:
    whole, part = (rolling_covariances(r, WINDOW, every=7) for r in (RETURNS, RETURNS.iloc[:-20]))
    assert part.dates.equals(whole.dates[: len(part)])
    np.testing.assert_allclose(part.matrices, whole.matrices[: len(part)], rtol=1e-13, atol=1e-18)


def test_the_kernel_leaves_jax_as_it_was_and_needs_no_more_rows_than_windows() -> None:
    assert not jax.config.jax_enable_x64
    with jax.enable_x64(True):
        found = np.asarray(kernel(RETURNS.to_numpy()[:WINDOW], np.float64(1.0), window=WINDOW, every=1))
    exactly(found[0], np.cov(RETURNS.iloc[:WINDOW], rowvar=False))


# -- factor models -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("every", [1, 7])
def test_every_model_is_the_regression_on_its_window(every: int) -> None:
    rolling = rolling_factor_model(RETURNS, FACTORS, WINDOW, every=every)
    assert rolling.dates.equals(RETURNS.index[WINDOW - 1 :: every])
    for date in rolling.dates[::3]:
        expected = RegressionFactors().fit(RETURNS.loc[:date].tail(WINDOW), FACTORS)
        found = rolling.at(date)
        exactly(found.exposures, expected.exposures, 1e-11)
        exactly(found.factor_covariance, expected.factor_covariance)
        exactly(found.idiosyncratic, expected.idiosyncratic, 1e-11)
        assert found.exposures.columns.equals(FACTORS.columns)


def test_weighted_models_are_those_of_statsmodels() -> None:
    halflife = 15.0
    rolling = rolling_factor_model(RETURNS, FACTORS, WINDOW, every=7, halflife=halflife)
    for date in rolling.dates[::5]:
        y, x = RETURNS.loc[:date].tail(WINDOW), FACTORS.loc[:date].tail(WINDOW)
        p = 0.5 ** (np.arange(WINDOW)[::-1] / halflife)
        p /= p.sum()
        n = 1.0 / (p @ p)
        found = rolling.at(date)
        for asset in RETURNS:
            peer = sm.WLS(y[asset].to_numpy(), sm.add_constant(x.to_numpy()), weights=p).fit()
            np.testing.assert_allclose(found.exposures.loc[asset], peer.params[1:], rtol=1e-9, atol=1e-12)
            expected = n / (n - 3) * (p @ np.asarray(peer.resid) ** 2)
            assert found.idiosyncratic[asset] == pytest.approx(expected, rel=1e-9)


def test_volatility_needs_no_matrix_by_asset_and_is_that_of_it() -> None:
    rolling = rolling_factor_model(RETURNS, FACTORS, WINDOW, every=7)
    found = rolling.volatility(PORTFOLIOS)
    weights = PORTFOLIOS.loc[RETURNS.columns].to_numpy()
    for date in rolling.dates[::3]:
        matrix = rolling.at(date).dense().to_numpy()
        np.testing.assert_allclose(found.loc[date] ** 2, np.diag(weights.T @ matrix @ weights), rtol=1e-11)


def test_the_unit_of_a_factor_does_not_matter() -> None:
    one = rolling_factor_model(RETURNS, FACTORS, WINDOW, every=7)
    other = rolling_factor_model(RETURNS, FACTORS * [1e7, 1e-5], WINDOW, every=7)
    exactly(other.volatility(PORTFOLIOS), one.volatility(PORTFOLIOS), 1e-11)


# -- bad input ---------------------------------------------------------------------------------------------------
def test_settings_that_cannot_be_met() -> None:
    with pytest.raises(po.InputError, match="window must be a whole number, at least 2"):
        rolling_covariances(RETURNS, 1)
    with pytest.raises(po.InputError, match="every must be a whole number, at least 1"):
        rolling_covariances(RETURNS, WINDOW, every=0)
    with pytest.raises(po.InputError, match="needs at least 151 rows of returns"):
        rolling_covariances(RETURNS, 151)
    with pytest.raises(po.InputError, match="halflife must be above 0"):
        rolling_covariances(RETURNS, WINDOW, halflife=0.0)
    with pytest.raises(po.InputError, match="the last row has all the weight"):
        rolling_covariances(RETURNS, WINDOW, halflife=0.01)
    with pytest.raises(po.InputError, match="missing or infinite for BAC"):
        rolling_covariances(RETURNS.where(RETURNS.ne(RETURNS["BAC"].iloc[3])), WINDOW)
    with pytest.raises(po.InputError, match="window must be a whole number, at least 4"):
        rolling_factor_model(RETURNS, FACTORS, 3)
    with pytest.raises(po.InputError, match=r"has the evidence of 2\.7 rows, and 2 factors take more than 3"):
        rolling_factor_model(RETURNS, FACTORS, WINDOW, halflife=0.9)


def test_factors_that_are_collinear_somewhere() -> None:
    still = FACTORS.assign(rate=np.where(np.arange(150) < 50, 0.01, RETURNS["CVX"]))
    with pytest.raises(po.InputError, match="factor 'rate' does not vary in the window that ends on 2022-07-"):
        rolling_factor_model(RETURNS, still, WINDOW)
    copied = FACTORS.assign(copy=np.where(np.arange(150) < 90, 2 * FACTORS["market"], RETURNS["CVX"]))
    with pytest.raises(po.InputError, match="one of the factors 'market', 'copy' is a combination of the others"):
        rolling_factor_model(RETURNS, copied, WINDOW, every=7)


def test_weights_that_cannot_be_meant() -> None:
    rolling = rolling_covariances(RETURNS, WINDOW, every=7)
    with pytest.raises(po.UnknownNameError, match="unknown asset in weights: 'AAPL2'"):
        rolling.volatility(PORTFOLIOS.rename(index={"AAPL": "AAPL2"}))
    with pytest.raises(po.InputError, match="weights says nothing about 'AAPL'"):
        rolling.volatility(PORTFOLIOS.drop(index="AAPL"))
    with pytest.raises(po.InputError, match="weights must be a Series"):
        rolling.volatility(np.ones(6))
    with pytest.raises(po.InputError, match="missing or infinite for 'equal'"):
        rolling.volatility(PORTFOLIOS.replace(1 / 6, np.nan))
    with pytest.raises(po.InputError, match="duplicate portfolios: 'equal'"):
        rolling.volatility(PORTFOLIOS[["equal", "equal"]])

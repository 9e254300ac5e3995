"""Factor regressions beside statsmodels, on the bundled factors; windows beside whole fits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from statsmodels.regression.rolling import RollingOLS

import portfolioopt as po
from portfolioopt.attribution import factor_regression, rolling_factor_regression
from portfolioopt.confidence import NeweyWest

FACTORS = po.data.sample_factors()
MARKET = FACTORS[["Mkt-RF", "SMB", "HML"]]


def monthly() -> pd.DataFrame:
    """Monthly returns of three companies, stamped as the factors are."""
    prices = po.data.sample_prices()[["AAPL", "JNJ", "XOM"]]
    months = prices.groupby(prices.index.to_period("M")).last()
    months.index = months.index.to_timestamp(how="end").normalize()
    return months.pct_change().iloc[1:].loc["1995":"2015"]


RETURNS = monthly()
RISK_FREE = FACTORS["RF"]


@pytest.mark.parametrize(
    ("errors", "kind", "options"),
    [
        ("classical", "nonrobust", {}),
        ("HC0", "HC0", {}),
        ("HC1", "HC1", {}),
        ("HC2", "HC2", {}),
        ("HC3", "HC3", {}),
        (NeweyWest(6), "HAC", {"maxlags": 6}),
        (NeweyWest(), "HAC", {"maxlags": 4}),
        (NeweyWest(0), "HC0", {}),
    ],
)
def test_coefficients_and_errors_are_those_of_statsmodels(errors: Any, kind: str, options: dict[str, int]) -> None:
    found = factor_regression(RETURNS, MARKET, risk_free=RISK_FREE, errors=errors)
    x = sm.add_constant(MARKET.loc[RETURNS.index])
    for name in RETURNS:
        y = RETURNS[name] - RISK_FREE.loc[RETURNS.index]
        fit = sm.OLS(y, x).fit(cov_type=kind, cov_kwds=options, use_t=True)
        np.testing.assert_allclose(found.coefficients.loc[name], fit.params, rtol=1e-10, atol=1e-13)
        np.testing.assert_allclose(found.standard_errors.loc[name], fit.bse, rtol=1e-10)
        np.testing.assert_allclose(found.t_statistics.loc[name], fit.tvalues, rtol=1e-9)
        np.testing.assert_allclose(found.p_values.loc[name], fit.pvalues, rtol=1e-8, atol=1e-14)
        np.testing.assert_allclose(found.residuals[name], fit.resid, atol=1e-14)
        assert found.r_squared[name] == pytest.approx(fit.rsquared, rel=1e-11)
        assert found.adjusted_r_squared[name] == pytest.approx(fit.rsquared_adj, rel=1e-11)
        assert found.residual_volatility[name] == pytest.approx(np.sqrt(fit.mse_resid), rel=1e-11)
    assert found.observations == len(RETURNS)


def test_alpha_is_annual_and_parts_sum_to_the_mean() -> None:
    found = factor_regression(RETURNS["JNJ"], MARKET, risk_free=RISK_FREE, periods_per_year=12)
    assert float(found.alpha_annual["JNJ"]) == pytest.approx(12 * found.coefficients.loc["JNJ", "alpha"])
    excess = RETURNS["JNJ"] - RISK_FREE.loc[RETURNS.index]
    assert float(found.contributions.loc["JNJ"].sum()) == pytest.approx(excess.mean(), rel=1e-12)


def test_units_of_a_factor_do_not_matter_to_t() -> None:
    found = factor_regression(RETURNS, MARKET)
    percent = factor_regression(RETURNS, MARKET * [1.0, 100.0, 1e-6])
    np.testing.assert_allclose(percent.t_statistics, found.t_statistics, rtol=1e-9)
    np.testing.assert_allclose(percent.coefficients["SMB"] * 100.0, found.coefficients["SMB"], rtol=1e-9)


def test_rolling_windows_are_those_of_statsmodels() -> None:
    found = rolling_factor_regression(RETURNS, MARKET, 60, errors="HC0")
    x = sm.add_constant(MARKET.loc[RETURNS.index])
    theirs = RollingOLS(RETURNS["XOM"], x, window=60).fit(cov_type="HC0")
    own = found.coefficients.xs("XOM", level=1)
    np.testing.assert_allclose(own, theirs.params.dropna(), rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(found.standard_errors.xs("XOM", level=1), theirs.bse.dropna(), rtol=1e-8)
    assert own.index[0] == RETURNS.index[59]
    assert own.index[-1] == RETURNS.index[-1]


def test_a_window_is_a_fit_and_the_future_does_not_move_the_past() -> None:
    found = rolling_factor_regression(RETURNS, MARKET, 48, every=7, risk_free=RISK_FREE)
    date = found.r_squared.index[5]
    window = RETURNS.loc[:date].tail(48)
    alone = factor_regression(window, MARKET, risk_free=RISK_FREE)
    np.testing.assert_allclose(found.coefficients.loc[date], alone.coefficients, rtol=1e-10)
    np.testing.assert_allclose(found.standard_errors.loc[date], alone.standard_errors, rtol=1e-10)
    np.testing.assert_allclose(found.r_squared.loc[date], alone.r_squared, rtol=1e-10)
    past = rolling_factor_regression(RETURNS.loc[:date], MARKET, 48, every=7, risk_free=RISK_FREE)
    pd.testing.assert_frame_equal(past.coefficients, found.coefficients.loc[:date])


def test_a_perfect_fit_has_no_errors() -> None:
    made = (0.001 + MARKET @ [1.2, -0.3, 0.5]).rename("made")
    found = factor_regression(made, MARKET)
    np.testing.assert_allclose(found.coefficients.loc["made"], [0.001, 1.2, -0.3, 0.5], rtol=1e-11)
    assert float(found.r_squared["made"]) == pytest.approx(1.0)


def test_regressions_that_are_refused() -> None:
    with pytest.raises(po.InputError, match="factors has no row for"):
        factor_regression(RETURNS, MARKET.iloc[:100])
    with pytest.raises(po.InputError, match="'both' is a constant or a combination"):
        factor_regression(RETURNS, MARKET.assign(both=MARKET["SMB"] - 2 * MARKET["HML"]))
    with pytest.raises(po.InputError, match="'flat' is a constant or a combination"):
        factor_regression(RETURNS, MARKET.assign(flat=0.01))
    with pytest.raises(po.InputError, match="missing or infinite for Mom on 2018"):
        factor_regression(MARKET[["SMB"]].loc["2018":], FACTORS[["Mom"]])
    with pytest.raises(po.InputError, match="errors must be NeweyWest"):
        factor_regression(RETURNS, MARKET, errors="HC9")  # type: ignore[arg-type]
    with pytest.raises(po.InputError, match="a factor is called 'alpha'"):
        factor_regression(RETURNS, MARKET.rename(columns={"SMB": "alpha"}))
    with pytest.raises(po.InputError, match="longer than"):
        rolling_factor_regression(RETURNS, MARKET, 1000)
    with pytest.raises(po.InputError, match="risk_free has no value"):
        factor_regression(RETURNS, MARKET, risk_free=RISK_FREE.iloc[:5])

"""Factors from characteristics: against statsmodels and the optimality conditions, and models that are known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats

import portfolioopt as po
from portfolioopt.estimate import CrossSectionalFactors, ExponentialCovariance, LedoitWolf, StatisticalFactors

DATES = pd.date_range("2024-01-01", periods=60, freq="B", name="date")
ASSETS = pd.Index([f"A{i:02d}" for i in range(40)], name="asset")
RNG = np.random.default_rng(7)
INDUSTRIES = pd.Series(np.array(["banks", "mines", "shops"])[np.arange(40) % 3], ASSETS)
CAPS = pd.DataFrame(np.exp(RNG.normal(size=(60, 40)) + 3.0), DATES, ASSETS)
RETURNS = pd.DataFrame(0.02 * RNG.standard_t(4, size=(60, 40)), DATES, ASSETS)
PANEL = {
    "value": pd.DataFrame(RNG.normal(size=(60, 40)), DATES, ASSETS),
    "size": np.log(CAPS),
}
PLAIN = CrossSectionalFactors(winsorize=None)


def standardised(x: pd.Series, cap: pd.Series) -> pd.Series:
    return (x - np.average(x, weights=cap)) / x.std(ddof=0)


def with_name(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return {"value": frame}


# -- the regressions ---------------------------------------------------------------------------------------------
def test_each_date_is_the_weighted_regression_of_statsmodels() -> None:
    fit = PLAIN.fit(RETURNS, PANEL, capitalisation=CAPS)
    assert fit.factor_returns.columns.tolist() == ["market", "value", "size"]
    assert fit.factor_returns.index.equals(DATES[1:])
    for before, date in zip(DATES[:-1:7], DATES[1::7], strict=False):
        cap = CAPS.loc[before]
        x = pd.DataFrame({name: standardised(frame.loc[before], cap) for name, frame in PANEL.items()})
        peer = sm.WLS(RETURNS.loc[date].to_numpy(), sm.add_constant(x.to_numpy()), weights=np.sqrt(cap)).fit()
        np.testing.assert_allclose(fit.factor_returns.loc[date], peer.params, rtol=1e-9, atol=1e-15)
        np.testing.assert_allclose(fit.t_statistics.loc[date], peer.tvalues, rtol=1e-9, atol=1e-12)
        assert fit.r_squared[date] == pytest.approx(peer.rsquared, rel=1e-10)
        np.testing.assert_allclose(fit.residuals.loc[date], peer.resid, rtol=1e-9, atol=1e-15)


def test_industries_are_the_constrained_least_squares() -> None:
    fit = PLAIN.fit(RETURNS, PANEL, industries=INDUSTRIES, capitalisation=CAPS)
    names = ["banks", "mines", "shops"]
    assert fit.factor_returns.columns.tolist() == ["market", "value", "size", *names]
    for before, date in zip(DATES[:-1:7], DATES[1::7], strict=False):
        cap = CAPS.loc[before]
        x = pd.DataFrame({"market": 1.0}, ASSETS)
        x = x.assign(**{name: standardised(frame.loc[before], cap) for name, frame in PANEL.items()})
        x = x.assign(**{name: (name == INDUSTRIES).astype(float) for name in names}).to_numpy()
        share = np.array([cap[name == INDUSTRIES].sum() for name in names]) / cap.sum()
        # the conditions of the least squares under share'f = 0 with its multiplier
        w = np.sqrt(cap.to_numpy())
        row = np.concatenate([np.zeros(3), share])
        system = np.block([[x.T @ (w[:, None] * x), row[:, None]], [row[None, :], np.zeros((1, 1))]])
        f = np.linalg.solve(system, np.append(x.T @ (w * RETURNS.loc[date].to_numpy()), 0.0))[:-1]
        np.testing.assert_allclose(fit.factor_returns.loc[date], f, rtol=1e-8, atol=1e-14)
        assert abs(share @ fit.factor_returns.loc[date, names]) < 1e-15


def test_t_statistics_do_not_depend_on_which_industry_comes_last() -> None:
    fit = PLAIN.fit(RETURNS, PANEL, industries=INDUSTRIES, capitalisation=CAPS)
    renamed = INDUSTRIES.replace({"banks": "zoos"})  # names are sorted
    other = PLAIN.fit(RETURNS, PANEL, industries=renamed, capitalisation=CAPS)
    for name in ("factor_returns", "t_statistics"):
        a = getattr(fit, name)
        b = getattr(other, name).rename(columns={"zoos": "banks"})[a.columns]
        pd.testing.assert_frame_equal(a, b, rtol=1e-8, atol=1e-13)


def test_weights_of_its_own() -> None:
    weights = pd.Series(RNG.uniform(1, 2, 40), ASSETS)
    fit = PLAIN.fit(RETURNS, PANEL, capitalisation=CAPS, weights=weights)
    cap = CAPS.iloc[-2]
    x = np.column_stack([standardised(frame.iloc[-2], cap) for frame in PANEL.values()])
    peer = sm.WLS(RETURNS.iloc[-1].to_numpy(), sm.add_constant(x), weights=weights.to_numpy()).fit()
    np.testing.assert_allclose(fit.factor_returns.iloc[-1], peer.params, rtol=1e-9)


def test_the_market_has_no_exposure_to_characteristics() -> None:
    fit = CrossSectionalFactors(winsorize=1.5).fit(RETURNS, PANEL, industries=INDUSTRIES, capitalisation=CAPS)
    exposures = fit.covariance.exposures
    share = CAPS.iloc[-1] / CAPS.iloc[-1].sum()
    np.testing.assert_allclose(share @ exposures[["value", "size"]], 0.0, atol=1e-14)
    np.testing.assert_allclose(exposures[["value", "size"]].std(ddof=0), 1.0, rtol=1e-12)
    spread = PLAIN.fit(RETURNS, PANEL, capitalisation=CAPS).covariance.exposures["value"]
    assert np.ptp(exposures["value"]) < np.ptp(spread)
    assert (exposures[["banks", "mines", "shops"]].sum(axis=1) == 1.0).all()
    assert (exposures["market"] == 1.0).all()


def test_an_outlier_counts_no_more_than_the_bound() -> None:
    bounded = CrossSectionalFactors(winsorize=2.0)
    found = []
    for size in (1e3, 1e9):
        wild = PANEL["value"].copy()
        wild.iloc[:, 0] = size
        found.append(bounded.fit(RETURNS, {"value": wild}))
    pd.testing.assert_frame_equal(found[0].factor_returns, found[1].factor_returns)
    x = wild.iloc[-1]
    reach = 2.0 * stats.median_abs_deviation(x, scale="normal")
    inside = x.clip(x.median() - reach, x.median() + reach)
    expected = (inside - inside.mean()) / inside.std(ddof=0)
    np.testing.assert_allclose(found[1].covariance.exposures["value"], expected, rtol=1e-6)


# -- the model ---------------------------------------------------------------------------------------------------
def test_it_finds_the_model_that_made_the_returns() -> None:
    rng = np.random.default_rng(1)
    rows, n = 1500, 60
    dates, assets = pd.RangeIndex(rows), pd.Index([f"A{i}" for i in range(n)])
    industries = pd.Series(np.array(["x", "y"])[np.arange(n) % 2], assets)
    raw = rng.normal(size=(rows, n, 2))
    x = (raw - raw.mean(axis=1, keepdims=True)) / raw.std(axis=1, keepdims=True)
    truth = np.array([[1.0, 0.3, 0.0], [0.3, 0.5, -0.1], [0.0, -0.1, 0.2]]) * 1e-4
    f = rng.multivariate_normal([5e-4, 2e-4, 0.0], truth, size=rows)
    industry = 0.005 * rng.normal(size=rows)
    specific = rng.uniform(0.01, 0.03, n)
    returns = np.zeros((rows, n))
    returns[1:] = f[1:, :1] + np.einsum("tnk,tk->tn", x[:-1], f[1:, 1:])
    returns[1:] += np.where(np.arange(n) % 2 == 0, 1.0, -1.0) * industry[1:, None]
    returns += specific * rng.normal(size=(rows, n))
    fit = PLAIN.fit(
        pd.DataFrame(returns, dates, assets),
        {name: pd.DataFrame(raw[:, :, k], dates, assets) for k, name in enumerate(["a", "b"])},
        industries=industries,
    )
    found = fit.factor_returns[["market", "a", "b"]]
    error = 0.02 / np.sqrt(n)  # standard error of a factor return
    assert np.abs(found.to_numpy() - f[1:]).std() == pytest.approx(error, rel=0.8)
    np.testing.assert_allclose(found.cov(), truth + np.eye(3) * error**2, rtol=0.15, atol=6e-6)
    np.testing.assert_allclose(fit.factor_returns["x"], industry[1:], atol=6 * error)
    np.testing.assert_allclose(np.sqrt(fit.covariance.idiosyncratic), specific, rtol=0.12)
    premia = fit.premia
    assert premia.loc["market", "t_statistic"] == pytest.approx(
        np.sqrt(rows - 1) * found["market"].mean() / found["market"].std()
    )
    pd.testing.assert_series_equal(fit.mean, fit.covariance.exposures @ premia["mean"], check_names=False)


def test_the_covariance_of_factors_is_that_of_the_estimator_and_serves_a_problem() -> None:
    for estimator in (ExponentialCovariance(20.0), LedoitWolf(), StatisticalFactors(2)):
        fit = CrossSectionalFactors(estimator).fit(RETURNS, PANEL)
        fitted = estimator.fit(fit.factor_returns)
        expected = fitted.dense() if isinstance(fitted, po.FactorCovariance) else fitted
        pd.testing.assert_frame_equal(fit.covariance.factor_covariance, expected)
    problem = po.Problem(po.ScenarioSet(RETURNS), -po.Variance(fit.covariance), [po.Budget(), po.Bounds()])
    assert problem is not None


def test_specific_variances_shrink_towards_their_average() -> None:
    plain = PLAIN.fit(RETURNS, PANEL).covariance.idiosyncratic
    np.testing.assert_allclose(plain, (PLAIN.fit(RETURNS, PANEL).residuals ** 2).mean(), rtol=1e-12)
    half = CrossSectionalFactors(winsorize=None, shrinkage=0.5).fit(RETURNS, PANEL).covariance.idiosyncratic
    np.testing.assert_allclose(half, 0.5 * plain + 0.5 * plain.mean(), rtol=1e-12)


# -- what is known when ------------------------------------------------------------------------------------------
def test_characteristics_of_a_date_count_from_the_next_return_on() -> None:
    fit = PLAIN.fit(RETURNS, PANEL)
    changed = {name: frame.copy() for name, frame in PANEL.items()}
    changed["value"].iloc[-1] = RNG.normal(size=40)
    other = PLAIN.fit(RETURNS, changed)
    pd.testing.assert_frame_equal(fit.factor_returns, other.factor_returns)
    assert not np.allclose(fit.covariance.exposures["value"], other.covariance.exposures["value"])
    later = {
        name: pd.concat([f, f.iloc[[-1]].set_axis([DATES[-1] + pd.Timedelta(days=1)]) * 9])
        for name, f in changed.items()
    }
    pd.testing.assert_frame_equal(PLAIN.fit(RETURNS, later).covariance.dense(), other.covariance.dense())


def test_characteristics_may_come_seldom() -> None:
    seldom = {name: frame.iloc[::10] for name, frame in PANEL.items()}
    filled = {name: frame.reindex(DATES, method="ffill") for name, frame in seldom.items()}
    fit, peer = PLAIN.fit(RETURNS, seldom), PLAIN.fit(RETURNS, filled)
    pd.testing.assert_frame_equal(fit.factor_returns, peer.factor_returns)
    pd.testing.assert_frame_equal(fit.covariance.exposures, peer.covariance.exposures)


def test_one_long_frame_is_the_same_and_the_order_of_assets_does_not_matter() -> None:
    long = pd.concat({name: frame.stack() for name, frame in PANEL.items()}, axis=1)  # noqa: PD013
    fit = PLAIN.fit(RETURNS, PANEL, industries=INDUSTRIES, capitalisation=CAPS)
    other = PLAIN.fit(
        RETURNS[ASSETS[::-1]], long, industries=INDUSTRIES.sample(frac=1.0, random_state=0), capitalisation=CAPS
    )
    pd.testing.assert_frame_equal(fit.factor_returns, other.factor_returns, rtol=1e-9, atol=1e-15)
    pd.testing.assert_frame_equal(fit.covariance.dense(), other.covariance.dense().loc[ASSETS, ASSETS], rtol=1e-9)


# -- missing data ------------------------------------------------------------------------------------------------
def test_an_asset_that_is_not_listed_yet_is_as_if_it_were_not_there() -> None:
    young, gone = ASSETS[:3], ASSETS[3:5]
    returns = RETURNS.copy()
    characteristics = {name: frame.copy() for name, frame in PANEL.items()}
    for frame in characteristics.values():
        frame.iloc[:45, :3] = np.nan
        frame.iloc[50:, 3:5] = np.nan
    returns.iloc[51:, 3:5] = np.nan
    fit = CrossSectionalFactors(winsorize=None, missing="leave_out").fit(returns, characteristics)
    others = ASSETS.difference([*young, *gone])
    peer = PLAIN.fit(RETURNS[others], {name: frame[others] for name, frame in PANEL.items()})
    early = PLAIN.fit(RETURNS[ASSETS[3:]], {name: frame[ASSETS[3:]] for name, frame in PANEL.items()})
    pd.testing.assert_frame_equal(fit.factor_returns.iloc[:44], early.factor_returns.iloc[:44], rtol=1e-9, atol=1e-15)
    assert not np.allclose(fit.factor_returns.iloc[-5:], peer.factor_returns.iloc[-5:])
    assert fit.covariance.assets.equals(ASSETS[5:])
    assert fit.left_out[young].eq("fewer than 20 residuals").all()
    assert fit.left_out[gone].eq("no characteristics on the last date").all()
    assert fit.residuals.loc[:, young].iloc[:45].isna().all(axis=None)
    assert (
        CrossSectionalFactors(winsorize=None, missing="leave_out", fewest=10)
        .fit(returns, characteristics)
        .covariance.assets.equals(ASSETS[[0, 1, 2, *range(5, 40)]])
    )


def test_missing_data_are_refused_unless_left_out() -> None:
    hole = RETURNS.where(RETURNS.iloc[9, 2] != RETURNS)
    with pytest.raises(po.InputError, match="returns is missing or infinite for A02 on 2024-01-12"):
        PLAIN.fit(hole, PANEL)
    some = {**PANEL, "size": PANEL["size"].where(CAPS.iloc[9, 2] != CAPS)}
    with pytest.raises(po.InputError, match=r"'size' is missing for 'A02' on 2024-01-12.*missing='leave_out'"):
        PLAIN.fit(RETURNS, some)
    with pytest.raises(po.InputError, match="'capitalisation' is missing for 'A02' on 2024-01-12"):
        PLAIN.fit(RETURNS, PANEL, capitalisation=CAPS.where(CAPS.iloc[9, 2] != CAPS))


# -- bad input ---------------------------------------------------------------------------------------------------
def test_collinear_characteristics_are_named() -> None:
    copy = {**PANEL, "copy": 3 * PANEL["value"] + 1}
    with pytest.raises(po.InputError, match="on 2024-01-02: one of 'value', 'copy' is a combination of the others"):
        PLAIN.fit(RETURNS, copy)
    flat = {**PANEL, "flat": 0 * PANEL["value"] + 4}
    with pytest.raises(po.InputError, match="'flat' is the same for all assets on 2024-01-01; leave it out"):
        PLAIN.fit(RETURNS, flat)
    dummy = {"bank": 0 * RETURNS + (INDUSTRIES == "banks").astype(float)}
    with pytest.raises(po.InputError, match=r"one of .*'bank', 'banks'.* is a combination of the others"):
        PLAIN.fit(RETURNS, dummy, industries=INDUSTRIES)


def test_labels_that_do_not_fit() -> None:
    with pytest.raises(
        po.UnknownNameError, match="unknown asset in CrossSectionalFactors: characteristic 'value': 'B00'"
    ):
        PLAIN.fit(RETURNS, with_name(PANEL["value"].rename(columns={"A00": "B00"})))
    with pytest.raises(po.InputError, match="says nothing about 'A00'; give all assets, NaN for those not listed"):
        PLAIN.fit(RETURNS, with_name(PANEL["value"].drop(columns="A00")))
    with pytest.raises(po.InputError, match="'size' has other dates than 'value'"):
        PLAIN.fit(RETURNS, {**PANEL, "size": PANEL["size"].iloc[1:]})
    with pytest.raises(po.InputError, match="distinct dates in increasing order"):
        PLAIN.fit(RETURNS, with_name(PANEL["value"].iloc[::-1]))
    with pytest.raises(po.InputError, match="the factors 'market' have one name"):
        PLAIN.fit(RETURNS, {"market": PANEL["value"]})
    with pytest.raises(po.InputError, match="two levels of rows, date and asset"):
        PLAIN.fit(RETURNS, PANEL["value"])
    with pytest.raises(po.InputError, match="must be frames of dates x assets by name"):
        PLAIN.fit(RETURNS, {})
    with pytest.raises(po.InputError, match="cannot be compared; give both the same kind of index"):
        PLAIN.fit(RETURNS, with_name(PANEL["value"].set_axis(range(60))))
    with pytest.raises(po.InputError, match="industries says nothing about 'A00'"):
        PLAIN.fit(RETURNS, PANEL, industries=INDUSTRIES.where(INDUSTRIES.index != "A00"))
    with pytest.raises(po.InputError, match="all assets are in 'all', which is the market"):
        PLAIN.fit(RETURNS, PANEL, industries=dict.fromkeys(ASSETS, "all"))
    with pytest.raises(po.InputError, match="capitalisation is not positive and finite for 'A01'"):
        PLAIN.fit(RETURNS, PANEL, capitalisation=CAPS.assign(A01=0.0))
    with pytest.raises(po.InputError, match="value' is infinite for 'A01' on 2024-01-01"):
        PLAIN.fit(RETURNS, with_name(PANEL["value"].assign(A01=np.inf)))


def test_too_little_data() -> None:
    with pytest.raises(po.InputError, match="needs at least 20 dates of returns with characteristics before them, but"):
        PLAIN.fit(RETURNS, with_name(PANEL["value"].iloc[45:]))
    few = ASSETS[:3]
    with pytest.raises(po.InputError, match="there are 3 assets with returns for 3 factors"):
        PLAIN.fit(RETURNS[few], {name: frame[few] for name, frame in PANEL.items()})
    with pytest.raises(po.InputError, match="capitalisation has no date before 2024-01-02"):
        PLAIN.fit(RETURNS, PANEL, capitalisation=CAPS.iloc[5:])
    late = RETURNS.copy()
    late.loc[DATES[30], ASSETS[INDUSTRIES == "shops"]] = np.nan
    with pytest.raises(po.InputError, match="no asset with a return is in 'shops'; leave it out, or merge it"):
        CrossSectionalFactors(missing="leave_out").fit(late, PANEL, industries=INDUSTRIES)


def test_settings_that_cannot_be_meant() -> None:
    with pytest.raises(po.InputError, match="missing must be 'error' or 'leave_out'"):
        CrossSectionalFactors(missing="zero")
    with pytest.raises(po.InputError, match="shrinkage must be at most 1"):
        CrossSectionalFactors(shrinkage=1.5)
    with pytest.raises(po.InputError, match="winsorize must be above 0"):
        CrossSectionalFactors(winsorize=0.0)
    with pytest.raises(po.InputError, match="covariance must be an estimator"):
        CrossSectionalFactors(covariance=LedoitWolf)

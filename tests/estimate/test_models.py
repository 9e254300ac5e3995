"""Factor models from returns: against scikit-learn and least squares, and what a factored covariance can do."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import portfolioopt as po
from portfolioopt.data import sample_prices, simple_returns
from portfolioopt.estimate import RegressionFactors, SampleCovariance, StatisticalFactors, nearest_covariance

RETURNS = simple_returns(sample_prices()).iloc[-400:]
MARKET = pd.DataFrame(
    {
        "market": RETURNS.mean(axis=1),
        "tilt": 100 * (RETURNS.iloc[:, :5].mean(axis=1) - RETURNS.iloc[:, 5:].mean(axis=1)),
    }
)


def normal(rows: int, columns: int, seed: int = 0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    values = random.normal(size=(rows, columns)) + 2 * random.normal(size=(rows, 2)) @ random.normal(size=(2, columns))
    return pd.DataFrame(0.01 * values, columns=[f"A{i}" for i in range(columns)])


# -- the factored form -------------------------------------------------------------------------------------------
def test_dense_and_volatility() -> None:
    exposures = pd.DataFrame({"f": [1.0, 0.5], "g": [0.0, 2.0]}, index=["A", "B"])
    factors = pd.DataFrame([[4.0, 1.0], [1.0, 9.0]], index=["g", "f"], columns=["g", "f"])
    model = po.FactorCovariance(exposures, factors, {"B": 2.0, "A": 1.0})
    pd.testing.assert_frame_equal(model.factor_covariance, factors.loc[["f", "g"], ["f", "g"]])
    b, f = exposures.to_numpy(), model.factor_covariance.to_numpy()
    np.testing.assert_allclose(model.dense(), b @ f @ b.T + np.diag([1.0, 2.0]), rtol=1e-12)
    np.testing.assert_allclose(model.volatility(), np.sqrt(np.diag(model.dense())), rtol=1e-12)
    assert model.assets.tolist() == model.dense().columns.tolist() == model.volatility().index.tolist() == ["A", "B"]
    assert repr(model) == "FactorCovariance(2 assets, 2 factors)"


def test_the_volatility_of_many_assets_needs_no_matrix() -> None:
    n = 200_000  # the matrix would take 320 GB
    exposures = pd.DataFrame(np.ones((n, 2)), columns=["f", "g"])
    model = po.FactorCovariance(exposures, pd.DataFrame(np.eye(2), ["f", "g"], ["f", "g"]), 2.0)
    np.testing.assert_allclose(model.volatility(), 2.0)


def test_repeated_labels_are_refused() -> None:
    exposures = pd.DataFrame(np.ones((2, 1)), ["A", "A"], ["f"])
    factors = pd.DataFrame(np.eye(1), ["f"], ["f"])
    with pytest.raises(po.InputError, match="duplicate assets in exposures: 'A'"):
        po.FactorCovariance(exposures, factors, 1.0)
    with pytest.raises(po.InputError, match="duplicate factors in exposures: 'f'"):
        po.FactorCovariance(pd.concat([exposures.iloc[:1]] * 2, axis=1), factors, 1.0)
    with pytest.raises(po.InputError, match="exposures must hold numbers"):
        po.FactorCovariance(exposures.iloc[:1].astype(str) + "x", factors, 1.0)


def test_one_class_under_all_its_names() -> None:
    assert po.FactorCovariance is po.problem.FactorCovariance is po.estimate.FactorCovariance
    assert po.problem.nearest_covariance is nearest_covariance


# -- principal components ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("returns", [RETURNS, normal(30, 80), normal(25, 25)], ids=["tall", "wide", "square"])
@pytest.mark.parametrize("count", [1, 5])
def test_components_are_those_of_scikit_learn(returns: pd.DataFrame, count: int) -> None:
    decomposition = pytest.importorskip("sklearn.decomposition")
    peer = decomposition.PCA(n_components=count, svd_solver="full").fit(returns.to_numpy())
    model = StatisticalFactors(count).fit(returns)
    np.testing.assert_allclose(np.diag(model.factor_covariance), peer.explained_variance_, rtol=1e-8)
    overlap = model.exposures.T.to_numpy() @ peer.components_.T
    np.testing.assert_allclose(np.abs(overlap), np.eye(count), atol=1e-7)
    assert (model.exposures.sum() >= 0).all()
    assert model.exposures.columns.tolist() == [f"PC{k}" for k in range(1, count + 1)]


@pytest.mark.parametrize("returns", [RETURNS, normal(30, 80)], ids=["tall", "wide"])
def test_variances_are_those_of_the_sample(returns: pd.DataFrame) -> None:
    model = StatisticalFactors(3).fit(returns)
    np.testing.assert_allclose(model.volatility(), returns.std(), rtol=1e-10)
    assert (model.idiosyncratic >= 0).all()


def test_all_components_are_the_sample_covariance() -> None:
    model = StatisticalFactors(RETURNS.shape[1]).fit(RETURNS)
    np.testing.assert_allclose(model.dense(), SampleCovariance().fit(RETURNS), rtol=1e-9, atol=1e-16)


def test_the_first_components_are_the_best_of_their_rank() -> None:
    sample = SampleCovariance().fit(RETURNS).to_numpy()
    model = StatisticalFactors(4).fit(RETURNS)
    common = model.dense().to_numpy() - np.diag(model.idiosyncratic)
    rest = np.linalg.eigvalsh(sample)[:-4]
    assert np.linalg.norm(sample - common) == pytest.approx(np.linalg.norm(rest), rel=1e-8)


def test_the_order_and_unit_of_assets_do_not_matter() -> None:
    other = RETURNS.columns[::-1]
    model, turned = StatisticalFactors(2).fit(RETURNS), StatisticalFactors(2).fit(100 * RETURNS[other])
    np.testing.assert_allclose(turned.dense(), 1e4 * model.dense().loc[other, other], rtol=1e-9, atol=1e-12)


def test_a_model_serves_as_covariance_of_a_problem() -> None:
    model = StatisticalFactors(3).fit(RETURNS)
    constraints = [po.Budget(), po.Bounds()]
    scenarios = po.ScenarioSet(RETURNS)
    factored = po.optimize(po.Problem(scenarios, -po.Variance(model), constraints))
    dense = po.optimize(po.Problem(scenarios, -po.Variance(model.dense()), constraints))
    assert factored.objective == pytest.approx(dense.objective, rel=1e-5)


# -- regression --------------------------------------------------------------------------------------------------
def test_regression_is_least_squares() -> None:
    model = RegressionFactors().fit(RETURNS, MARKET)
    design = np.column_stack([np.ones(len(MARKET)), MARKET])
    slopes, squares, *_ = np.linalg.lstsq(design, RETURNS.to_numpy(), rcond=None)
    np.testing.assert_allclose(model.exposures, slopes[1:].T, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(model.idiosyncratic, squares / (len(MARKET) - 3), rtol=1e-10)
    np.testing.assert_allclose(model.factor_covariance, MARKET.cov(), rtol=1e-10, atol=1e-18)


def test_regression_is_that_of_scikit_learn() -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    peer = linear.LinearRegression().fit(MARKET.to_numpy(), RETURNS.to_numpy())
    model = RegressionFactors().fit(RETURNS, MARKET)
    np.testing.assert_allclose(model.exposures, peer.coef_, rtol=1e-8, atol=1e-10)


def test_regression_finds_the_model_that_made_the_returns() -> None:
    random = np.random.default_rng(0)
    factors = pd.DataFrame(random.normal(size=(20_000, 2)), columns=["f", "g"])
    exposures = np.array([[1.0, 0.0], [0.5, -1.0], [0.0, 2.0]])
    noise = random.normal(size=(20_000, 3)) * [0.5, 1.0, 1.5]
    returns = pd.DataFrame(0.1 + factors.to_numpy() @ exposures.T + noise, columns=list("ABC"))
    model = RegressionFactors().fit(returns, factors)
    np.testing.assert_allclose(model.exposures, exposures, atol=0.05)
    np.testing.assert_allclose(np.sqrt(model.idiosyncratic), [0.5, 1.0, 1.5], rtol=0.03)


def test_the_unit_of_a_factor_does_not_matter_and_further_dates_are_not_looked_at() -> None:
    model = RegressionFactors().fit(RETURNS, MARKET)
    scaled = RegressionFactors().fit(RETURNS, MARKET * [1.0, 1e-6])
    np.testing.assert_allclose(scaled.dense(), model.dense(), rtol=1e-9)
    later = pd.concat([MARKET, MARKET.iloc[[-1]].set_axis(MARKET.index[[-1]] + pd.Timedelta(days=1)) * np.nan])
    np.testing.assert_array_equal(RegressionFactors().fit(RETURNS, later).dense(), model.dense())


# -- bad input ---------------------------------------------------------------------------------------------------
def test_counts_that_cannot_be_met() -> None:
    for wrong in (0, -1, 1.5, True, "2"):
        with pytest.raises(po.InputError, match="count must be a whole number, at least 1"):
            StatisticalFactors(wrong)
    with pytest.raises(po.InputError, match=r"StatisticalFactors\(count=5\) needs at least 6 rows"):
        StatisticalFactors(5).fit(RETURNS.iloc[:5])
    with pytest.raises(po.InputError, match="needs at least 21 assets, but there are 20"):
        StatisticalFactors(21).fit(RETURNS)
    with pytest.raises(po.InputError, match="vary in 1 direction only"):
        StatisticalFactors(2).fit(pd.DataFrame({"A": MARKET["market"], "B": 2 * MARKET["market"]}))
    with pytest.raises(po.InputError, match="vary in 0 directions only"):
        StatisticalFactors(1).fit(0.0 * RETURNS)


def test_factors_that_cannot_be_meant() -> None:
    fit = RegressionFactors().fit
    with pytest.raises(po.InputError, match="factors must be a frame"):
        fit(RETURNS, MARKET["market"])
    with pytest.raises(po.InputError, match="at least 4 rows of returns"):
        fit(RETURNS.iloc[:3], MARKET)
    with pytest.raises(po.InputError, match=r"no row for 2 of the 400 dates of returns.*intersection"):
        fit(RETURNS, MARKET.iloc[2:])
    with pytest.raises(po.InputError, match="factors has duplicate dates"):
        fit(RETURNS, pd.concat([MARKET, MARKET.iloc[[-1]]]))
    with pytest.raises(po.InputError, match="factors is missing or infinite for market on"):
        fit(RETURNS, MARKET.where(MARKET.ne(MARKET.iloc[3, 0])))
    with pytest.raises(po.InputError, match="'rate' never does"):
        fit(RETURNS, MARKET.assign(rate=0.01))
    with pytest.raises(po.InputError, match="one of the factors 'market', 'copy' is a combination"):
        fit(RETURNS, MARKET.assign(copy=3 * MARKET["market"]))
    with pytest.raises(po.InputError, match="factors has no columns"):
        fit(RETURNS, MARKET.iloc[:, :0])


# -- the returns of factors --------------------------------------------------------------------------------------
def test_a_model_splits_returns_into_factors_and_the_rest() -> None:
    for model in (StatisticalFactors(3).decompose(RETURNS), RegressionFactors().decompose(RETURNS, MARKET)):
        b = model.covariance.exposures
        whole = model.factors @ b.T + model.intercept + model.residuals
        pd.testing.assert_frame_equal(whole, RETURNS)
        pd.testing.assert_series_equal(model.mean, RETURNS.mean())
        np.testing.assert_allclose(model.factors.cov(), model.covariance.factor_covariance, rtol=1e-8, atol=1e-16)
        np.testing.assert_allclose(model.residuals.mean(), 0.0, atol=1e-16)


def test_the_rest_is_unrelated_to_the_factors_and_has_the_specific_variance() -> None:
    model = RegressionFactors().decompose(RETURNS, MARKET)
    pd.testing.assert_frame_equal(model.factors, MARKET)
    np.testing.assert_allclose((model.residuals.T @ (MARKET - MARKET.mean())) / len(MARKET), 0.0, atol=1e-14)
    variance = (model.residuals**2).sum() / (len(MARKET) - 3)
    np.testing.assert_allclose(variance, model.covariance.idiosyncratic, rtol=1e-10)
    components = StatisticalFactors(3).decompose(RETURNS)
    np.testing.assert_allclose(components.residuals.var(), components.covariance.idiosyncratic, rtol=1e-9)


def test_factor_returns_are_those_of_scikit_learn() -> None:
    decomposition = pytest.importorskip("sklearn.decomposition")
    scores = decomposition.PCA(n_components=2, svd_solver="full").fit_transform(RETURNS.to_numpy())
    factors = StatisticalFactors(2).decompose(RETURNS).factors
    np.testing.assert_allclose(np.abs(factors - factors.mean()), np.abs(scores), rtol=1e-6, atol=1e-9)

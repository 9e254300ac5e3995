"""Expected returns: other libraries where definitions agree, closed forms, and what shrinkage is for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import portfolioopt as po
from portfolioopt.data import sample_prices, simple_returns
from portfolioopt.estimate import (
    BayesStein,
    EquilibriumMean,
    ExponentialMean,
    JamesStein,
    LedoitWolf,
    SampleCovariance,
    SampleMean,
    StatisticalFactors,
)

RETURNS = simple_returns(sample_prices()).iloc[-400:]
EQUAL = pd.Series(1.0 / RETURNS.shape[1], RETURNS.columns)
ALL = [SampleMean(), ExponentialMean(60.0), JamesStein(), BayesStein(), EquilibriumMean(EQUAL)]
names = [type(estimator).__name__ for estimator in ALL]
every = pytest.mark.parametrize("estimator", ALL, ids=names)
shrinking = pytest.mark.parametrize("estimator", [JamesStein(), BayesStein(), BayesStein(LedoitWolf())], ids=repr)


def normal(rows: int, columns: int, seed: int = 0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    values = random.normal(size=(rows, columns)) @ random.normal(size=(columns, columns)) / np.sqrt(columns)
    return pd.DataFrame(0.01 * values, columns=[f"A{i}" for i in range(columns)])


# -- what all have in common -------------------------------------------------------------------------------------
@every
def test_by_asset_in_any_order(estimator: Any) -> None:
    other = RETURNS.columns[np.random.default_rng(0).permutation(RETURNS.shape[1])]
    fitted = estimator.fit(RETURNS)
    assert fitted.index.equals(RETURNS.columns)
    np.testing.assert_allclose(estimator.fit(RETURNS[other]), fitted[other], rtol=1e-8)


@every
@pytest.mark.parametrize("unit", [1e-3, 100.0])
def test_the_unit_of_returns(estimator: Any, unit: float) -> None:
    power = 2 if isinstance(estimator, EquilibriumMean) else 1
    np.testing.assert_allclose(estimator.fit(unit * RETURNS), unit**power * estimator.fit(RETURNS), rtol=1e-8)


@pytest.mark.parametrize("estimator", ALL[:-1], ids=names[:-1])
def test_a_constant_added_to_returns_is_added_to_means(estimator: Any) -> None:
    np.testing.assert_allclose(estimator.fit(RETURNS + 0.01), estimator.fit(RETURNS) + 0.01, rtol=1e-9)


# -- sample ------------------------------------------------------------------------------------------------------
def test_sample_is_the_mean() -> None:
    np.testing.assert_allclose(SampleMean().fit(RETURNS), RETURNS.mean(), rtol=1e-12)


@pytest.mark.parametrize("halflife", [0.5, 20.0, 1000.0])
def test_exponential_is_that_of_pandas(halflife: float) -> None:
    expected = RETURNS.ewm(halflife=halflife).mean().iloc[-1]
    np.testing.assert_allclose(ExponentialMean(halflife).fit(RETURNS), expected, rtol=1e-9)


def test_exponential_by_hand() -> None:
    fitted = ExponentialMean(1.0).fit(pd.DataFrame({"A": [7.0, 14.0, 28.0]}))
    assert fitted["A"] == pytest.approx((7 + 2 * 14 + 4 * 28) / 7)


# -- shrinkage ---------------------------------------------------------------------------------------------------
@shrinking
@given(rows=st.integers(10, 60), columns=st.integers(2, 7), seed=st.integers(0, 1000))
def test_intensities_lie_between_zero_and_one(estimator: Any, rows: int, columns: int, seed: int) -> None:
    returns = normal(rows, columns, seed)
    intensity = estimator.shrinkage(returns)
    assert 0.0 <= intensity <= 1.0
    mean = returns.mean()
    fitted = estimator.fit(returns)
    # All move by the same share towards one number.
    np.testing.assert_allclose(fitted - fitted.mean(), (1 - intensity) * (mean - mean.mean()), rtol=1e-7, atol=1e-12)


def test_james_stein_of_equal_variances_is_that_of_efron_and_morris() -> None:
    n, rows = 8, 64
    # Orthogonal columns of one variance, each shifted by its own mean.
    x = np.array([[(-1.0) ** bin(i & j).count("1") for j in range(1, n + 1)] for i in range(rows)])
    means = np.linspace(-0.5, 0.5, n)
    returns = pd.DataFrame(x + means, columns=list("ABCDEFGH"))
    variance = rows / (rows - 1)
    expected = (n - 3) * variance / rows / np.sum((means - means.mean()) ** 2)
    assert JamesStein().shrinkage(returns) == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(JamesStein().fit(returns), (1 - expected) * means, atol=1e-12)


def test_james_stein_leaves_three_assets_as_they_are() -> None:
    returns = normal(50, 3)
    assert JamesStein().shrinkage(returns) == 0.0
    np.testing.assert_allclose(JamesStein().fit(returns), returns.mean(), rtol=1e-12)


@shrinking
@pytest.mark.parametrize("market", [0.0, 0.3])
def test_shrinkage_lowers_the_squared_error_about_the_average(estimator: Any, market: float) -> None:
    random = np.random.default_rng(0)
    true = 0.02 * random.normal(size=10)
    before, after = [], []
    for _ in range(200):
        values = true + 0.2 * random.normal(size=(40, 10)) + market * random.normal(size=(40, 1))
        returns = pd.DataFrame(values, columns=list("ABCDEFGHIJ"))
        before.append(np.var(returns.mean() - true))
        after.append(np.var(estimator.fit(returns) - true))
    assert np.mean(after) < 0.8 * np.mean(before)


def test_bayes_stein_is_that_of_skfolio() -> None:
    expected_returns = pytest.importorskip("skfolio.moments.expected_returns")
    peer = expected_returns.ShrunkMu(method=expected_returns.ShrunkMuMethods.BAYES_STEIN, vol_weighted_target=True).fit(
        RETURNS
    )
    estimator = BayesStein(SampleCovariance())
    np.testing.assert_allclose(estimator.fit(RETURNS), peer.mu_, rtol=1e-9)
    assert estimator.shrinkage(RETURNS) == pytest.approx(peer.beta_, rel=1e-9)


def test_bayes_stein_of_the_paper_by_hand() -> None:
    rows, n = RETURNS.shape
    inverse = np.linalg.inv(RETURNS.cov() * (rows - 1) / (rows - n - 2))
    mean = RETURNS.mean().to_numpy()
    target = inverse.sum(axis=0) @ mean / inverse.sum()
    intensity = (n + 2) / (n + 2 + rows * (mean - target) @ inverse @ (mean - target))
    np.testing.assert_allclose(BayesStein().fit(RETURNS), (1 - intensity) * mean + intensity * target, rtol=1e-9)
    assert BayesStein().shrinkage(RETURNS) == pytest.approx(intensity, rel=1e-9)


def test_bayes_stein_takes_a_factor_model_and_wide_data() -> None:
    wide = normal(30, 50)
    assert 0 < BayesStein(StatisticalFactors(3)).shrinkage(wide) < 1
    assert 0 < BayesStein(LedoitWolf()).shrinkage(wide) < 1


# -- equilibrium -------------------------------------------------------------------------------------------------
def test_equilibrium_by_hand_and_in_reverse() -> None:
    weights = pd.Series(np.arange(1.0, RETURNS.shape[1] + 1), RETURNS.columns)
    weights /= weights.sum()
    covariance = LedoitWolf().fit(RETURNS)
    mean = EquilibriumMean(weights[::-1], 3.0, LedoitWolf()).fit(RETURNS)
    np.testing.assert_allclose(mean, 3.0 * covariance @ weights, rtol=1e-12)
    np.testing.assert_allclose(np.linalg.solve(covariance, mean) / 3.0, weights, rtol=1e-8)


def test_equilibrium_keeps_factors_apart() -> None:
    model = StatisticalFactors(3)
    mean = EquilibriumMean(EQUAL.to_dict(), 2.0, model).fit(RETURNS)
    np.testing.assert_allclose(mean, 2.0 * model.fit(RETURNS).dense() @ EQUAL, rtol=1e-10)


# -- bad input ---------------------------------------------------------------------------------------------------
@every
def test_returns_that_cannot_be_meant(estimator: Any) -> None:
    for spoilt, text in (
        (RETURNS.mask(RETURNS > 0.05), "missing or infinite"),
        (RETURNS["AAPL"], "to_frame"),
        (pd.concat([RETURNS, RETURNS.iloc[[-1]]]), "duplicate dates"),
        (RETURNS.iloc[:0], "at least"),
    ):
        with pytest.raises(po.InputError, match=text):
            estimator.fit(spoilt)


def test_bayes_stein_says_how_many_rows_it_needs() -> None:
    with pytest.raises(po.InputError, match=r"BayesStein needs at least 23 rows of returns for 20 columns.*are 22"):
        BayesStein().fit(RETURNS.iloc[:22])
    assert np.isfinite(BayesStein().fit(RETURNS.iloc[:23])).all()


def test_bayes_stein_names_what_makes_the_covariance_singular() -> None:
    copied = RETURNS.assign(copy=2.0 * RETURNS["AAPL"])
    with pytest.raises(po.InputError, match=r"singular over 'AAPL', 'copy'; .*covariance=LedoitWolf\(\)"):
        BayesStein().fit(copied)
    BayesStein(LedoitWolf()).fit(copied)
    with pytest.raises(po.InputError, match="'copy' never does"):
        BayesStein().fit(RETURNS.assign(copy=0.0))
    with pytest.raises(po.InputError, match="variance is zero for 'copy'"):
        BayesStein(SampleCovariance()).fit(RETURNS.assign(copy=0.0))
    with pytest.raises(po.InputError, match="singular"):
        BayesStein(SampleCovariance()).fit(RETURNS.iloc[:15])


def test_settings_that_cannot_be_meant() -> None:
    with pytest.raises(po.InputError, match="halflife must be above 0"):
        ExponentialMean(0.0)
    with pytest.raises(po.InputError, match="risk_aversion must be above 0"):
        EquilibriumMean(EQUAL, 0.0)
    with pytest.raises(po.InputError, match="weights must give the weight of every asset"):
        EquilibriumMean(EQUAL.to_numpy())
    with pytest.raises(po.InputError, match="says nothing about 'AAPL'"):
        EquilibriumMean(EQUAL.drop("AAPL")).fit(RETURNS)
    for build in (JamesStein, BayesStein, lambda c: EquilibriumMean(EQUAL, 1.0, c)):
        with pytest.raises(po.InputError, match=r"must be an estimator.*was the class LedoitWolf"):
            build(LedoitWolf)
        with pytest.raises(po.InputError, match=r"must be an estimator.*was DataFrame"):
            build(RETURNS.cov())

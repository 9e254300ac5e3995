"""Sharpe ratios: published examples, statsmodels' long-run covariance, skfolio, and Monte Carlo."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from skfolio import measures
from statsmodels.stats.sandwich_covariance import S_hac_simple

import portfolioopt as po
from portfolioopt.backtest.comparison import sharpe_difference
from portfolioopt.backtest.sharpe import (
    deflated_sharpe,
    effective_trials,
    expected_maximum_sharpe,
    minimum_track_record,
    probabilistic_sharpe,
    probabilistic_sharpe_from_moments,
    sharpe_ratio,
    sharpe_standard_error,
)
from portfolioopt.confidence import NeweyWest
from portfolioopt.errors import InputError

RETURNS = po.data.sample_prices()[["AAPL", "JNJ", "XOM"]].loc["2012":].pct_change().iloc[1:]
FREE = pd.Series(0.0001 + 0.00005 * np.sin(np.arange(len(RETURNS)) / 50.0), RETURNS.index)


def with_moments(count: int, mean: float, deviation: float) -> pd.Series:
    """Near-normal returns with exactly this mean and standard deviation."""
    z = stats.norm.ppf((np.arange(count) + 0.5) / count)
    return pd.Series(mean + deviation * z / z.std(ddof=1))


def test_the_published_track_record_of_the_efficient_frontier() -> None:
    """Bailey & López de Prado (2012): 24 months at an annual 1.59; skewness -2.448, kurtosis 10.164."""
    monthly = 0.458
    assert monthly * np.sqrt(12) == pytest.approx(1.59, abs=0.005)
    normal = probabilistic_sharpe_from_moments(monthly, observations=24)
    skewed = probabilistic_sharpe_from_moments(monthly, observations=24, skewness=-2.448, kurtosis=10.164)
    assert normal == pytest.approx(0.982, abs=0.0005)
    assert skewed == pytest.approx(0.913, abs=0.0005)


def test_the_published_length_of_a_track_record() -> None:
    """Same article: an annual 2 on daily normal returns needs 2.73 years to be above 1 with 95 % confidence."""
    returns = with_moments(20_000, 2.0 / 250, 1.0 / np.sqrt(250))
    needed = minimum_track_record(returns, against=1.0, periods_per_year=250)
    assert needed / 250 == pytest.approx(2.73, abs=0.01)


def test_the_published_deflated_ratio() -> None:
    """Bailey & López de Prado (2014): 1250 days at an annual 2.5, skewness -3, kurtosis 10; 100 trials."""
    luck = expected_maximum_sharpe(100, np.sqrt(0.5))
    assert luck / np.sqrt(250) == pytest.approx(0.1132, abs=0.00005)
    ratio = {"sharpe": 2.5 / np.sqrt(250), "observations": 1250, "skewness": -3.0, "kurtosis": 10.0}
    assert probabilistic_sharpe_from_moments(**ratio, against=luck / np.sqrt(250)) == pytest.approx(0.9004, abs=0.0001)
    fewer = expected_maximum_sharpe(46, np.sqrt(0.5)) / np.sqrt(250)
    assert probabilistic_sharpe_from_moments(**ratio, against=fewer) == pytest.approx(0.9505, abs=0.0001)


@pytest.mark.parametrize("trials", [1, 2, 5, 30, 1000, 17.5])
def test_the_expected_maximum_is_that_of_skfolio_and_near_the_exact_one(trials: float) -> None:
    found = expected_maximum_sharpe(trials, 0.3)
    if trials > 2:
        assert found == pytest.approx(measures.expected_max_sharpe_ratio(trials, 0.3), rel=1e-12)
        grid = np.linspace(-10, 10, 40_001)
        density = trials * stats.norm.pdf(grid) * stats.norm.cdf(grid) ** (trials - 1)
        assert found == pytest.approx(0.3 * np.trapezoid(grid * density, grid), rel=0.05)
    assert expected_maximum_sharpe(trials, 0.0) == 0.0
    assert (found > 0) == (trials > 1)


def test_from_returns_as_from_their_moments_and_as_skfolio() -> None:
    for name in RETURNS:
        r = RETURNS[name]
        by_hand = probabilistic_sharpe_from_moments(
            r.mean() / r.std(), observations=len(r), skewness=stats.skew(r), kurtosis=stats.kurtosis(r, fisher=False),
            against=0.5 / np.sqrt(252),
        )  # fmt: skip
        found = probabilistic_sharpe(r, against=0.5)
        assert found == pytest.approx(by_hand, rel=1e-10)
        assert found == pytest.approx(measures.probabilistic_sharpe_ratio(r, 0.5 / np.sqrt(252)), rel=1e-10)
    frame = probabilistic_sharpe(RETURNS, against=0.5)
    assert frame["XOM"] == pytest.approx(probabilistic_sharpe(RETURNS["XOM"], against=0.5), rel=1e-12)
    trials = np.array([0.01, 0.03, -0.02, 0.05, 0.04])
    spread = np.sqrt(252) * trials.std(ddof=1)
    np.testing.assert_allclose(
        deflated_sharpe(RETURNS, trials=5, spread=spread),
        measures.deflated_sharpe_ratio(RETURNS.to_numpy(), trials),
        rtol=1e-10,
    )


def test_the_minimum_is_where_confidence_is_reached() -> None:
    r = RETURNS["AAPL"]
    needed = minimum_track_record(r, against=0.1, level=0.9)
    s = {"skewness": stats.skew(r), "kurtosis": stats.kurtosis(r, fisher=False), "against": 0.1 / np.sqrt(252)}
    at = probabilistic_sharpe_from_moments(r.mean() / r.std(), observations=needed, **s)
    assert at == pytest.approx(0.9, abs=1e-10)
    assert minimum_track_record(r, against=5.0) == np.inf
    both = minimum_track_record(RETURNS.assign(still=0.0), against=0.1, level=0.9)
    assert both["AAPL"] == pytest.approx(needed)
    assert np.isnan(both["still"])


def gradient(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Deviations of mean and second moment (T, 2), and the derivative of the Sharpe ratio by them."""
    mean, second = x.mean(), np.mean(x**2)
    deviations = np.column_stack([x - mean, x**2 - second])
    variance = second - mean**2
    return deviations, np.array([second / variance**1.5, -0.5 * mean / variance**1.5])


@pytest.mark.parametrize("lag", [0, 1, 7, None])
def test_errors_are_the_delta_method_with_the_long_run_covariance_of_statsmodels(lag: int | None) -> None:
    x = (RETURNS["JNJ"] - FREE).to_numpy()
    count = len(x)
    used = int(4 * (count / 100) ** (2 / 9)) if lag is None else lag
    deviations, slope = gradient(x)
    long_run = S_hac_simple(deviations, nlags=used) / count
    expected = np.sqrt(252 * slope @ long_run @ slope / (count - 1))
    dependence = None if lag == 0 else NeweyWest(lag)
    found = sharpe_standard_error(RETURNS["JNJ"], risk_free=FREE, dependence=dependence)
    assert found == pytest.approx(expected, rel=2e-4)  # ratio and moments divide by T there, by T - 1 here

    y = (RETURNS["XOM"] - FREE).to_numpy()
    other, steep = gradient(y)
    long_run = S_hac_simple(np.column_stack([deviations, other]), nlags=used) / count
    both = np.concatenate([slope, -steep])
    pair = sharpe_difference(RETURNS["JNJ"], RETURNS["XOM"], risk_free=FREE, dependence=dependence)
    assert pair.standard_error == pytest.approx(np.sqrt(252 * both @ long_run @ both / (count - 1)), rel=2e-4)
    assert pair.difference == pytest.approx(
        sharpe_ratio(RETURNS["JNJ"], risk_free=FREE) - sharpe_ratio(RETURNS["XOM"], risk_free=FREE)
    )
    assert pair.p_value == pytest.approx(2 * stats.norm.sf(abs(pair.difference) / pair.standard_error), rel=1e-9)
    assert pair.upper - pair.difference == pytest.approx(stats.norm.ppf(0.975) * pair.standard_error)


def test_errors_hold_in_repeated_samples() -> None:
    """Skewed returns, independent and with autocorrelation: how far Sharpe ratios scatter is what the errors say."""
    generator = np.random.default_rng(5)
    count, samples = 600, 3000
    e = (generator.chisquare(4, size=(count + 50, samples)) - 4) / np.sqrt(8)
    independent = pd.DataFrame(0.002 - 0.01 * e[50:])
    y = np.zeros_like(e)
    for t in range(1, len(e)):
        y[t] = 0.35 * y[t - 1] + e[t]
    dependent = pd.DataFrame(0.002 - 0.01 * y[50:])
    scatter = sharpe_ratio(independent).std()
    assert sharpe_standard_error(independent).mean() == pytest.approx(scatter, rel=0.04)
    lo = np.sqrt(252 * (1 + sharpe_ratio(independent).mean() ** 2 / 252 / 2) / count)
    assert lo < 0.97 * scatter  # what the normal distribution would say
    scatter = sharpe_ratio(dependent).std()
    assert sharpe_standard_error(dependent).mean() < 0.8 * scatter
    assert sharpe_standard_error(dependent, dependence=NeweyWest(10)).mean() == pytest.approx(scatter, rel=0.06)


def test_two_equal_ratios_are_told_apart_as_often_as_the_level_says() -> None:
    generator = np.random.default_rng(11)
    count, samples = 500, 400
    normal = generator.multivariate_normal([0.001, 0.0005], [[1e-4, 3e-5], [3e-5, 2.5e-5]], size=(samples, count))
    pairs = [sharpe_difference(pd.Series(s[:, 0]), pd.Series(s[:, 1]), dependence=None) for s in normal]
    rejected = np.mean([pair.p_value < 0.05 for pair in pairs])
    assert abs(rejected - 0.05) < 3 * np.sqrt(0.05 * 0.95 / samples)
    # Memmel (2003): variance of the difference for normal returns with Sharpe ratios s and correlation rho.
    s, rho = 0.1, 0.6
    memmel = (2 - 2 * rho + 0.5 * (2 * s**2 - 2 * s**2 * rho**2)) / count
    assert np.mean([pair.standard_error for pair in pairs]) == pytest.approx(np.sqrt(252 * memmel), rel=0.02)


def test_runs_that_resemble_each_other_are_fewer() -> None:
    generator = np.random.default_rng(2)
    common, own = generator.normal(size=(3000, 1)), generator.normal(size=(3000, 50))
    values = pd.DataFrame(0.01 * (np.sqrt(0.6) * common + np.sqrt(0.4) * own))
    correlation = values.corr().to_numpy()
    mean = (correlation.sum() - 50) / (50 * 49)
    assert effective_trials(values) == pytest.approx(mean + (1 - mean) * 50, rel=1e-10)
    assert effective_trials(pd.concat([values[[0]]] * 3, axis=1, keys=["a", "b", "c"])) == pytest.approx(1.0)
    assert effective_trials(pd.DataFrame({"a": [0.1, -0.1, 0.0], "b": [-0.1, 0.1, 0.0]})) == 2.0
    assert effective_trials(values[[0]]) == 1.0


def test_what_cannot_be_compared_is_refused() -> None:
    a, b = RETURNS["AAPL"], RETURNS["XOM"]
    with pytest.raises(InputError, match="same dates"):
        sharpe_difference(a, b.iloc[1:])
    with pytest.raises(InputError, match="without variation"):
        sharpe_difference(a, 0.0 * b)
    with pytest.raises(InputError, match="pass one column"):
        sharpe_difference(RETURNS, b)
    with pytest.raises(InputError, match="NeweyWest"):
        sharpe_standard_error(a, dependence=5)
    with pytest.raises(InputError, match="at least 1"):
        expected_maximum_sharpe(0.5, 1.0)
    with pytest.raises(InputError, match="at least 1 \\+ skewness"):
        probabilistic_sharpe_from_moments(0.1, observations=50, kurtosis=0.0)
    with pytest.raises(InputError, match="at least 2 rows"):
        sharpe_ratio(a.iloc[:1])
    with pytest.raises(InputError, match="frame of periods x runs"):
        effective_trials(a)
    same = sharpe_difference(a, a)
    assert same.difference == 0.0
    assert same.standard_error == 0.0
    assert np.isnan(same.p_value)

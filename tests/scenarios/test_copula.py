"""Copulas: fits against scipy, and what is drawn against the law it was drawn from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, stats

import portfolioopt as po
from portfolioopt.errors import InputError
from portfolioopt.scenarios import Copula, ScenarioSet, copula, fit_copula
from portfolioopt.scenarios.margins import LocationScale

ASSETS = ["A", "B", "C"]
CORRELATION = np.array([[1.0, 0.6, -0.3], [0.6, 1.0, 0.1], [-0.3, 0.1, 1.0]])


def history(freedom: float = 4.0, rows: int = 4000, seed: int = 1) -> pd.DataFrame:
    """Multivariate Student t returns with margins of other shapes than their copula."""
    drawn = stats.multivariate_t(shape=CORRELATION, df=freedom, seed=seed).rvs(rows)
    uniform = stats.t(freedom).cdf(drawn)
    margins = [stats.norm(0.001, 0.01), stats.laplace(0.0, 0.02), stats.gumbel_l(0.0, 0.01)]
    values = np.column_stack([margin.ppf(column) for margin, column in zip(margins, uniform.T, strict=True)])
    return pd.DataFrame(values, columns=ASSETS)


def draw(count: int = 200_000, **changes: Any) -> ScenarioSet:
    return copula(history(), count, **{"seed": 5, **changes})


def test_kendall_is_that_of_scipy_with_ties_too() -> None:
    returns = history(rows=300).round(2)
    fitted = fit_copula(returns, family="gaussian").correlation.to_numpy()
    for i in range(3):
        for j in range(3):
            tau = stats.kendalltau(returns.iloc[:, i], returns.iloc[:, j]).statistic
            assert fitted[i, j] == pytest.approx(np.sin(0.5 * np.pi * tau), abs=1e-12)


def test_spearman_is_that_of_scipy() -> None:
    returns = history(rows=300)
    rho = stats.spearmanr(returns).statistic
    fitted = fit_copula(returns, family="gaussian", dependence="spearman").correlation
    np.testing.assert_allclose(fitted, 2.0 * np.sin(np.pi * rho / 6.0), atol=1e-12)


@pytest.mark.parametrize("freedom", [3.0, 8.0])
def test_correlation_and_degrees_of_freedom_are_recovered(freedom: float) -> None:
    fitted = fit_copula(history(freedom, rows=8000))
    np.testing.assert_allclose(fitted.correlation, CORRELATION, atol=0.04)
    assert fitted.freedom == pytest.approx(freedom, rel=0.15)


def test_the_fitted_freedom_is_the_likeliest_by_the_density_of_scipy() -> None:
    returns = history(rows=500)
    fitted = fit_copula(returns)
    assert fitted.freedom is not None
    uniform = stats.rankdata(returns, axis=0) / 501.0

    def likelihood(freedom: float) -> float:
        x = stats.t(freedom).ppf(uniform)
        joint = stats.multivariate_t(shape=fitted.correlation.to_numpy(), df=freedom).logpdf(x)
        return float((joint - stats.t(freedom).logpdf(x).sum(axis=1)).sum())

    at = likelihood(fitted.freedom)
    assert all(at >= likelihood(fitted.freedom * factor) for factor in (0.5, 0.9, 0.99, 1.01, 1.1, 2.0))


def test_an_unlikely_freedom_ends_at_the_normal_end() -> None:
    normal = np.random.default_rng(0).multivariate_normal(np.zeros(3), CORRELATION, 4000)
    freedom = fit_copula(pd.DataFrame(normal, columns=ASSETS)).freedom
    assert freedom is not None
    assert freedom > 40.0


def test_tail_dependence_is_the_limit_of_conditional_probabilities() -> None:
    # P(both beyond the quantile) / P(one beyond it) of a bivariate Student t, by integration far out in the tail
    freedom, rho = 4.0, 0.5
    fitted = Copula(pd.DataFrame([[1.0, rho], [rho, 1.0]], ["A", "B"], ["A", "B"]), freedom, ())
    far = float(stats.t(freedom).ppf(1e-7))

    def given(x: float) -> float:
        scale = np.sqrt((freedom + x**2) / (freedom + 1.0) * (1.0 - rho**2))
        return float(stats.t(freedom).pdf(x) * stats.t(freedom + 1.0).cdf((far - rho * x) / scale))

    both = sum(integrate.quad(given, far * 10.0 ** (k + 1), far * 10.0**k)[0] for k in range(6))
    assert fitted.tail_dependence().loc["A", "B"] == pytest.approx(both / 1e-7, rel=1e-3)
    assert fitted.tail_dependence().loc["A", "A"] == 1.0
    gaussian = Copula(fitted.correlation, None, ()).tail_dependence()
    np.testing.assert_array_equal(gaussian, np.eye(2))


def test_what_is_drawn_has_the_copula_of_the_fit() -> None:
    drawn = draw(family="t", freedom=4.0).returns
    again = fit_copula(drawn.iloc[:8000])
    np.testing.assert_allclose(again.correlation, fit_copula(history()).correlation, atol=0.04)
    assert again.freedom == pytest.approx(4.0, rel=0.15)
    # losses beyond the first percentile that come together, by scipy's bivariate distribution
    rho = float(fit_copula(history()).correlation.loc["A", "B"])
    point = float(stats.t(4.0).ppf(0.01))
    expected = float(stats.multivariate_t(shape=[[1.0, rho], [rho, 1.0]], df=4.0, seed=0).cdf([point, point]))
    low = drawn[["A", "B"]] < drawn[["A", "B"]].quantile(0.01)
    assert low.all(axis=1).mean() == pytest.approx(expected, abs=4.0 * np.sqrt(expected / len(drawn)))


def test_a_gaussian_copula_with_normal_margins_is_a_normal_distribution() -> None:
    drawn = draw(family="gaussian", margins="normal")
    weights = np.array([0.5, -0.2, 0.7])
    std, mean = history().std(ddof=0).to_numpy(), history().mean().to_numpy()
    covariance = fit_copula(history(), family="gaussian").correlation.to_numpy() * np.outer(std, std)
    law = stats.norm(weights @ mean, np.sqrt(weights @ covariance @ weights))
    assert stats.kstest(-drawn.source.losses(weights), law.cdf).pvalue > 1e-3


def test_empirical_margins_are_the_history() -> None:
    returns = history(rows=50)
    drawn = copula(returns, 50_000, seed=1, margins="empirical").matrix
    for column, past in zip(drawn.T, returns.to_numpy().T, strict=True):
        values, counts = np.unique(column, return_counts=True)
        np.testing.assert_array_equal(values, np.sort(past))
        assert np.abs(counts - 1000.0).max() < 5.0 * np.sqrt(1000.0)


@pytest.mark.parametrize("margins", ["smoothed", "student_t", "pareto"])
def test_margins_follow_the_history(margins: Any) -> None:
    drawn = draw(margins=margins).matrix
    if margins == "student_t":
        drawn = drawn[:, :2]  # the third is skewed
    for column, past in zip(drawn.T, history().to_numpy().T, strict=False):
        # as far from the sample as the sample may be from its own law
        assert stats.ks_2samp(column, past).statistic < 1.7 / np.sqrt(4000)


def test_pareto_tails_go_on_where_history_ends() -> None:
    rows = 5000
    past = stats.t(3.0).ppf((np.arange(rows) + 0.5) / rows)
    other = np.random.default_rng(0).permutation(past)
    returns = pd.DataFrame({"A": 0.01 * past, "B": 0.01 * other})
    drawn = copula(returns, 400_000, seed=2, family="gaussian", margins="pareto").matrix[:, 0]
    for level in (1e-3, 1e-4):
        exact = 0.01 * stats.t(3.0).ppf(level)
        assert np.quantile(drawn, level) == pytest.approx(exact, rel=0.25)
        assert np.quantile(drawn, 1.0 - level) == pytest.approx(-exact, rel=0.25)
    assert drawn.min() < returns["A"].min()


def test_student_margins_are_those_that_scipy_fits() -> None:
    past = pd.DataFrame({"A": stats.t(4.0, 0.001, 0.01).rvs(2000, random_state=0), "B": np.arange(2000.0)})
    margin = fit_copula(past, margins="student_t").margins[0]
    assert isinstance(margin, LocationScale)
    theirs = stats.t.fit(past["A"] * 100.0)
    ours = stats.t(margin.freedom, margin.centre, margin.scale).logpdf(past["A"]).sum()
    assert ours >= stats.t(theirs[0], theirs[1] / 100.0, theirs[2] / 100.0).logpdf(past["A"]).sum() - 1e-3


def test_seeds_and_numbers_of_scenarios() -> None:
    fitted = fit_copula(history())
    first = fitted.scenarios(100_000, seed=1).matrix
    np.testing.assert_array_equal(fitted.scenarios(1000, seed=1).matrix, first[:1000])
    assert (fitted.scenarios(1000, seed=2).matrix != first[:1000]).mean() > 0.99  # ends of the history come twice


def test_real_returns() -> None:
    returns = po.data.simple_returns(po.data.sample_prices()).tail(750)
    fitted = fit_copula(returns)
    assert fitted.freedom is not None
    assert 4.0 < fitted.freedom < 20.0
    drawn = fitted.scenarios(20_000, seed=0)
    np.testing.assert_allclose(drawn.returns.std(), returns.std(), rtol=0.05)
    np.testing.assert_allclose(drawn.returns.corr("spearman"), returns.corr("spearman"), atol=0.08)


def test_correlations_that_are_none_are_repaired_where_that_is_asked_for() -> None:
    # assets seen through few rows of ties: tau by pair need not fit together
    rng = np.random.default_rng(3)
    returns = pd.DataFrame(rng.normal(size=(30, 40)) + 3.0 * rng.normal(size=(30, 1)))
    with pytest.raises(InputError, match="pass repair=True for the nearest one"):
        fit_copula(returns, family="gaussian")
    fixed = fit_copula(returns, family="gaussian", repair=True).correlation.to_numpy()
    np.testing.assert_allclose(np.diag(fixed), 1.0)
    assert np.linalg.eigvalsh(fixed)[0] > -1e-12
    assert copula(returns, 100, seed=0, family="gaussian", repair=True).n_assets == 40


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"family": "clayton"}, "family must be 'gaussian' or 't', was 'clayton'"),
        ({"margins": "uniform"}, "margins must be one of 'empirical'"),
        ({"dependence": "spearman"}, "or for family='gaussian' 'spearman'"),
        ({"freedom": 2.0}, "freedom must be above 2"),
        ({"family": "gaussian", "freedom": 4.0}, "a Gaussian copula has no degrees of freedom"),
        ({"n_scenarios": 1}, "n_scenarios must be a whole number, at least 2"),
        ({"seed": -1}, "seed must be a whole number, at least 0"),
        ({"returns": history(rows=29)}, "copula needs at least 30 rows"),
        ({"returns": history().assign(C=0.0)}, "'C' never does"),
        ({"returns": history().where(lambda frame: frame < 0.05)}, "is missing or infinite"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        copula(**{"returns": history(), "n_scenarios": 10, "seed": 0, **changes})

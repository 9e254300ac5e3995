"""Risk by factor, and diversification: additivity, finite differences, closed forms, brute force over rotations."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ortho_group

import portfolioopt as po
from portfolioopt.attribution import (
    VaR,
    diversification,
    effective_bets,
    factor_contributions,
    factor_scenario_contributions,
    minimum_torsion,
)

ASSETS, FACTORS = list("ABCDE"), ["market", "size"]


def model(seed: int = 0) -> po.FactorCovariance:
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(2, 2)) * 0.04
    return po.FactorCovariance(
        pd.DataFrame(rng.normal(1.0, 0.4, (5, 2)), ASSETS, FACTORS),
        pd.DataFrame(root @ root.T + 1e-4 * np.eye(2), FACTORS, FACTORS),
        pd.Series(rng.uniform(1e-4, 1e-3, 5), ASSETS),
    )


WEIGHTS = pd.Series([0.4, 0.3, 0.2, 0.3, -0.2], ASSETS)


def test_factor_parts_sum_to_the_volatility_of_the_dense_matrix() -> None:
    frame = factor_contributions(model(), WEIGHTS)
    sigma = float(np.sqrt(WEIGHTS @ model().dense() @ WEIGHTS))
    assert frame["factor"].tolist() == [*FACTORS, "specific"]
    assert frame["contribution"].sum() == pytest.approx(sigma, rel=1e-13)
    assert frame["share"].sum() == pytest.approx(1.0, rel=1e-13)
    np.testing.assert_allclose(frame["stand_alone"] * frame["correlation"], frame["contribution"], rtol=1e-12)
    assert frame["correlation"].abs().max() <= 1.0 + 1e-12


def test_marginal_risk_of_an_exposure_by_finite_differences() -> None:
    covariance, h = model(), 1e-6
    x = covariance.exposures.T @ WEIGHTS
    rest = float(WEIGHTS**2 @ covariance.idiosyncratic)

    def volatility(exposure: pd.Series) -> float:
        return float(np.sqrt(exposure @ covariance.factor_covariance @ exposure + rest))

    frame = factor_contributions(covariance, WEIGHTS).set_index("factor")
    for k in FACTORS:
        step = pd.Series(0.0, FACTORS)
        step[k] = h
        slope = (volatility(x + step) - volatility(x - step)) / (2 * h)
        assert float(frame.loc[k, "marginal"]) == pytest.approx(slope, rel=1e-8)


def test_many_portfolios_are_each_alone_and_a_benchmark_makes_them_active() -> None:
    many = pd.DataFrame({"p": WEIGHTS, "q": WEIGHTS[::-1].to_numpy()}, ASSETS)
    both = factor_contributions(model(), many, benchmark=pd.Series(0.2, ASSETS))
    for name in many:
        own = factor_contributions(model(), many[name] - 0.2)
        pd.testing.assert_frame_equal(
            both[both["portfolio"] == name].drop(columns="portfolio").reset_index(drop=True), own
        )


def test_a_portfolio_without_risk() -> None:
    frame = factor_contributions(model(), 0.0 * WEIGHTS)
    assert (frame[["contribution", "share", "stand_alone"]] == 0.0).all(axis=None)


def history() -> tuple[pd.DataFrame, pd.DataFrame]:
    dates = pd.date_range("2015-01-31", periods=120, freq="ME")
    rng = np.random.default_rng(5)
    factors = pd.DataFrame(rng.standard_t(4, (120, 2)) * 0.03, dates, FACTORS)
    own = pd.DataFrame(rng.normal(0.003, 0.02, (120, 5)), dates, ASSETS)
    return factors @ model().exposures.T + own, factors


def test_tail_risk_by_factor_is_what_the_tail_scenarios_say() -> None:
    returns, factors = history()
    fitted = po.estimate.RegressionFactors().decompose(returns, factors)
    scenarios = po.ScenarioSet(returns)
    b = fitted.covariance.exposures
    frame = factor_scenario_contributions(
        scenarios, WEIGHTS, b, factors, measures=(po.CVaR(0.9), po.Volatility(), VaR(0.9), po.MaxDrawdown())
    )
    worst = scenarios.losses(WEIGHTS).nlargest(12).index  # a tenth of 120 rows, whole
    expected = -(factors.loc[worst] * (b.T @ WEIGHTS)).mean()
    cvar = frame[frame["measure"] == "CVaR 90%"].set_index("factor")["contribution"]
    np.testing.assert_allclose(cvar[FACTORS], expected, rtol=1e-12)
    specific = -((fitted.residuals + fitted.intercept).loc[worst] @ WEIGHTS).mean()
    assert float(cvar["specific"]) == pytest.approx(specific, rel=1e-11)
    assert cvar.sum() == pytest.approx(scenarios.tail(WEIGHTS, 0.9).cvar, rel=1e-13)
    # the fit splits the variance of the history into the same parts as its covariance, but for degrees of freedom
    volatility = frame[frame["measure"] == "volatility"]["contribution"].sum()
    assert volatility == pytest.approx(float((returns @ WEIGHTS).std(ddof=0)), rel=1e-12)
    path = (returns @ WEIGHTS).cumsum()
    depth = (path.cummax().clip(lower=0.0) - path).max()
    assert frame[frame["measure"] == "maximum drawdown"]["contribution"].sum() == pytest.approx(depth, rel=1e-12)


def test_factor_arguments_that_are_refused() -> None:
    returns, factors = history()
    scenarios, b = po.ScenarioSet(returns), model().exposures
    with pytest.raises(po.InputError, match="must be a FactorCovariance, was DataFrame"):
        factor_contributions(model().dense(), WEIGHTS)  # type: ignore[arg-type]
    with pytest.raises(po.InputError, match=r"factor_returns has no row for scenario .*2024-12-31"):
        factor_scenario_contributions(scenarios, WEIGHTS, b, factors.iloc[:-1])
    with pytest.raises(po.UnknownNameError, match="unknown factor in exposures: 'size'"):
        factor_scenario_contributions(scenarios, WEIGHTS, b, factors[["market"]])
    measures = (po.Volatility(covariance=model()),)
    with pytest.raises(po.InputError, match="volatility must look at these scenarios"):
        factor_scenario_contributions(scenarios, WEIGHTS, b, factors, measures=measures)
    renamed = {"size": "specific"}
    with pytest.raises(po.InputError, match="a factor is called 'specific'"):
        factor_scenario_contributions(scenarios, WEIGHTS, b.rename(columns=renamed), factors.rename(columns=renamed))
    with pytest.raises(po.InputError, match="factor_returns is missing or infinite"):
        factor_scenario_contributions(scenarios, WEIGHTS, b, factors.replace(factors.iloc[3, 0], np.nan))


# -- diversification -----------------------------------------------------------------------------------------


def test_diversification_of_uncorrelated_equals_is_their_number() -> None:
    covariance = pd.DataFrame(np.eye(5) * 0.04, ASSETS, ASSETS)
    found = diversification(covariance, pd.Series(0.2, ASSETS))
    np.testing.assert_allclose(found, [0.2, 5.0, np.sqrt(5.0), 5.0], rtol=1e-12)
    for bets in ("minimum torsion", "principal components"):
        equal = effective_bets(covariance, pd.Series(0.2, ASSETS), bets=bets)  # type: ignore[arg-type]
        assert float(equal["effective_number"]) == pytest.approx(5.0)
    single = pd.Series([1.0, 0, 0, 0, 0], ASSETS)
    np.testing.assert_allclose(diversification(covariance, single), 1.0, rtol=1e-12)


def test_effective_contributions_of_a_hedged_portfolio_are_unknown() -> None:
    covariance = pd.DataFrame([[0.04, 0.03], [0.03, 0.04]], ["A", "B"], ["A", "B"])
    assert np.isnan(diversification(covariance, {"A": 1.0, "B": -0.2})["effective_contributions"])


def test_torsion_bets_are_uncorrelated_and_nothing_is_nearer() -> None:
    covariance = model(3).dense()
    matrix = covariance.to_numpy()
    torsion = minimum_torsion(covariance).to_numpy()
    after = torsion @ matrix @ torsion.T
    size = np.sqrt(np.diagonal(after))
    np.testing.assert_allclose(after / np.outer(size, size), np.eye(5), atol=1e-10)

    spread = np.sqrt(np.diagonal(matrix))

    def distance(t: np.ndarray) -> float:
        away = (t - np.eye(5)) @ matrix @ (t - np.eye(5)).T
        return float((np.diagonal(away) / spread**2).sum())

    best = distance(torsion)
    white = torsion / size[:, None]  # any other uncorrelated bets are sizes times a rotation of these
    rng = np.random.default_rng(0)
    for turn in [np.eye(5), *ortho_group.rvs(5, size=300, random_state=1)]:
        near = np.linalg.qr(np.eye(5) + 0.05 * rng.normal(size=(5, 5)))[0]
        near = near * np.sign(np.diagonal(near))
        for rotation in (turn, near):
            rotated = rotation @ white
            own = np.einsum("ij,jk,ik->i", rotated, matrix, np.eye(5))  # the best size of each, by least squares
            assert distance(own[:, None] * rotated) >= best - 1e-12


def test_bets_share_out_the_variance_whatever_the_units() -> None:
    covariance = model(4).dense()
    scale = pd.Series([1.0, 2.0, 0.5, 3.0, 1.5], ASSETS)
    scaled = covariance.mul(scale, axis=0).mul(scale, axis=1)
    found = effective_bets(covariance, WEIGHTS)
    again = effective_bets(scaled, WEIGHTS / scale)
    np.testing.assert_allclose(again, found, rtol=1e-8, atol=1e-12)
    assert float(found.drop("effective_number").sum()) == pytest.approx(1.0, rel=1e-12)
    shuffled = covariance.loc[ASSETS[::-1], ASSETS[::-1]]
    np.testing.assert_allclose(effective_bets(shuffled, WEIGHTS)[found.index], found, rtol=1e-8, atol=1e-12)


def test_many_portfolios_and_a_factored_covariance() -> None:
    many = pd.DataFrame({"p": WEIGHTS, "q": 0.2}, ASSETS)
    frame = diversification(model(), many)
    dense = model().dense()
    for name in many:
        np.testing.assert_allclose(frame.loc[name], diversification(dense, many[name]), rtol=1e-11)
        np.testing.assert_allclose(
            effective_bets(model(), many).loc[name], effective_bets(dense, many[name]), rtol=1e-9, atol=1e-12
        )


def test_diversification_that_is_refused() -> None:
    dense = model().dense()
    with pytest.raises(po.InputError, match="without positions"):
        diversification(dense, 0.0 * WEIGHTS)
    with pytest.raises(po.InputError, match="covariance is singular"):
        minimum_torsion(pd.DataFrame(np.ones((2, 2)), ["A", "B"], ["A", "B"]))
    with pytest.raises(po.InputError, match="bets must be"):
        effective_bets(dense, WEIGHTS, bets="torsion")  # type: ignore[arg-type]

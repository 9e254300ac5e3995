"""Black-Litterman: the tables of the papers, PyPortfolioOpt, Gaussian conditioning, and what views are for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from pypfopt import BlackLittermanModel

import portfolioopt as po
from portfolioopt.allocation.black_litterman import black_litterman, posterior_scenarios
from portfolioopt.estimate import FactorCovariance, LedoitWolf, StatisticalFactors
from portfolioopt.estimate.black_litterman import BlackLitterman, black_litterman_posterior, implied_risk_aversion
from portfolioopt.estimate.return_views import (
    AbsoluteView,
    RelativeView,
    ViewMatrix,
    view_confidence,
    view_uncertainty,
)

# -- He & Litterman (1999), "The intuition behind Black-Litterman model portfolios", tables 1 and 2: annual ------
COUNTRIES = pd.Index(["Australia", "Canada", "France", "Germany", "Japan", "UK", "USA"])
CORRELATIONS = """
1 .488 .478 .515 .439 .512 .491
.488 1 .664 .655 .310 .608 .779
.478 .664 1 .861 .355 .783 .668
.515 .655 .861 1 .354 .777 .653
.439 .310 .355 .354 1 .405 .306
.512 .608 .783 .777 .405 1 .652
.491 .779 .668 .653 .306 .652 1
"""
STD = np.array([0.160, 0.203, 0.248, 0.271, 0.210, 0.200, 0.187])
COUNTRY_COV = pd.DataFrame(
    np.array(CORRELATIONS.split(), dtype=float).reshape(7, 7) * np.outer(STD, STD), COUNTRIES, COUNTRIES
)
EQUILIBRIUM = pd.Series([0.016, 0.022, 0.052, 0.055, 0.116, 0.124, 0.615], COUNTRIES)
EUROPE = {"France": 0.052 / 0.176, "UK": 0.124 / 0.176}  # by capitalisation


def germany(confidence: float = 0.5) -> RelativeView:
    return RelativeView("Germany", EUROPE, 0.05, confidence, name="Germany")


def canada(value: float) -> RelativeView:
    return RelativeView("Canada", "USA", value, 0.5, name="Canada")


# table: views, posterior means (%), optimal weights (%), weight of each view's portfolio
HE_LITTERMAN: dict[str, tuple[list[Any], list[float], list[float], list[float]]] = {
    "4": ([germany()], [4.3, 7.6, 9.3, 11.0, 4.5, 7.0, 8.1], [1.5, 2.1, -4.0, 35.4, 11.0, -9.5, 58.6], [0.317]),
    "5": (
        [germany(), canada(0.03)],
        [4.4, 8.7, 9.5, 11.2, 4.6, 7.0, 7.5],
        [1.5, 41.9, -3.4, 33.6, 11.0, -8.2, 18.8],
        [0.298, 0.418],
    ),
    "6": (
        [germany(), canada(0.04)],
        [4.4, 9.1, 9.5, 11.3, 4.6, 7.0, 7.3],
        [1.5, 53.3, -3.3, 33.1, 11.0, -7.8, 7.3],
        [0.292, 0.538],
    ),
    "7": (  # the first view is held half as firmly: its variance doubles, so that its confidence is a third
        [germany(1 / 3), canada(0.04)],
        [4.3, 8.9, 9.3, 10.6, 4.6, 6.9, 7.2],
        [1.5, 53.9, -0.5, 23.6, 11.0, -1.1, 6.8],
        [0.193, 0.544],
    ),
}


def test_he_litterman_equilibrium() -> None:
    posterior = black_litterman_posterior(COUNTRY_COV, market_weights=EQUILIBRIUM, risk_aversion=2.5)
    np.testing.assert_allclose(100 * posterior.prior_mean, [3.9, 6.9, 8.4, 9.0, 4.3, 6.8, 7.6], atol=0.06)


@pytest.mark.parametrize("table", HE_LITTERMAN)
def test_he_litterman_tables(table: str) -> None:
    views, means, weights, tilts = HE_LITTERMAN[table]
    result = black_litterman(
        COUNTRY_COV, views, market_weights=EQUILIBRIUM, risk_aversion=2.5, tau=0.05, constraints=[], tolerance=1e-9
    )
    np.testing.assert_allclose(100 * result.details["posterior_mean"], means, atol=0.06)
    np.testing.assert_allclose(100 * result.weights, weights, atol=0.12)
    np.testing.assert_allclose(result.details["views"]["tilt"], tilts, atol=1.2e-3)
    assert result.status.name == "optimal"
    # the same weights, from the tilts, without a solver
    np.testing.assert_allclose(result.details["unconstrained"], result.weights, atol=1e-5)
    assert result.weights is not None
    beyond = result.weights * 1.05 - EQUILIBRIUM
    found = np.linalg.lstsq(result.details["posterior"].picks.T, beyond, rcond=None)[0]
    np.testing.assert_allclose(found, tilts, atol=1.2e-3)


def test_a_view_that_the_others_imply_is_not_tilted_to() -> None:
    """Table 8: a view on what is expected already changes nothing. Printed as 4.12 %; rounded inputs give 4.29 %."""
    views = HE_LITTERMAN["7"][0]
    settings: dict[str, Any] = {"market_weights": EQUILIBRIUM, "risk_aversion": 2.5, "tau": 0.05}
    two = black_litterman_posterior(COUNTRY_COV, views, **settings)
    expected = float(two.mean["Canada"] - two.mean["Japan"])
    three = black_litterman_posterior(COUNTRY_COV, [*views, RelativeView("Canada", "Japan", expected)], **settings)
    np.testing.assert_allclose(three.mean, two.mean, rtol=1e-10)
    assert three.tilts("prior").iloc[2] == pytest.approx(0.0, abs=1e-12)
    # to the posterior covariance the view adds certainty, and by the printed figure its weight is zero all the same
    printed = black_litterman_posterior(COUNTRY_COV, [*views, RelativeView("Canada", "Japan", 0.0412)], **settings)
    np.testing.assert_allclose(printed.tilts("posterior"), [0.193, 0.544, 0.0], atol=1.2e-3)
    np.testing.assert_allclose(100 * printed.mean, [4.3, 8.9, 9.3, 10.6, 4.6, 6.9, 7.2], atol=0.1)


# -- Idzorek (2005), "A step-by-step guide to the Black-Litterman model": per year -------------------------------
CLASSES = pd.Index(
    ["US Bonds", "Intl Bonds", "Large Growth", "Large Value", "Small Growth", "Small Value", "Developed", "Emerging"]
)
LOWER = """
.001005
.001328 .007277
-.000579 -.001307 .059852
-.000675 -.000610 .027588 .029609
.000121 -.002237 .063497 .026572 .102488
.000128 -.000989 .023036 .021465 .042744 .032056
-.000445 .001442 .032967 .020697 .039943 .019881 .028355
-.000437 -.001535 .048039 .029854 .065994 .032235 .035064 .079958
"""
TRIANGLE = np.zeros((8, 8))
TRIANGLE[np.tril_indices(8)] = np.array(LOWER.split(), dtype=float)
CLASS_COV = pd.DataFrame(TRIANGLE + np.tril(TRIANGLE, -1).T, CLASSES, CLASSES)
MARKET = pd.Series([0.1934, 0.2613, 0.1209, 0.1209, 0.0134, 0.0134, 0.2418, 0.0349], CLASSES)


def idzorek_views(confidences: tuple[float, float, float] = (0.5, 0.5, 0.5)) -> list[Any]:
    growth = {"Large Growth": 0.9, "Small Growth": 0.1}
    value = {"Large Value": 0.9, "Small Value": 0.1}
    return [
        AbsoluteView("Developed", 0.0525, confidences[0]),
        RelativeView("Intl Bonds", "US Bonds", 0.0025, confidences[1]),
        RelativeView(growth, value, 0.02, confidences[2], name="growth"),
    ]


def idzorek(*confidences: float, **changes: Any) -> Any:
    aversion = implied_risk_aversion(CLASS_COV, MARKET, premium=0.03)
    settings: dict[str, Any] = {"market_weights": MARKET, "risk_aversion": aversion, "tau": 0.025} | changes
    return black_litterman_posterior(CLASS_COV, idzorek_views(*confidences), **settings)  # type: ignore[arg-type]


def test_idzorek_prior_and_views() -> None:
    aversion = implied_risk_aversion(CLASS_COV, MARKET, premium=0.03)
    assert aversion == pytest.approx(3.07, abs=0.005)
    sharpe = 0.03 / np.sqrt(MARKET @ CLASS_COV @ MARKET)
    assert implied_risk_aversion(CLASS_COV, MARKET, sharpe=sharpe) == pytest.approx(aversion, rel=1e-12)
    posterior = idzorek()
    np.testing.assert_allclose(100 * posterior.prior_mean, [0.08, 0.67, 6.41, 4.08, 7.43, 3.70, 4.80, 6.60], atol=0.006)
    np.testing.assert_allclose(posterior.views["uncertainty"], [0.000709, 0.000141, 0.000866], atol=6e-7)


def test_idzorek_weights() -> None:
    posterior = idzorek()
    np.testing.assert_allclose(100 * posterior.mean, [0.07, 0.50, 6.50, 4.32, 7.59, 3.94, 4.93, 6.84], atol=0.006)
    weights = posterior.unconstrained_weights("prior")
    np.testing.assert_allclose(100 * weights, [29.88, 15.59, 9.35, 14.82, 1.04, 1.65, 27.81, 3.49], atol=0.011)
    np.testing.assert_allclose(weights, np.linalg.solve(posterior.risk_aversion * CLASS_COV, posterior.mean), rtol=1e-9)
    assert weights @ CLASS_COV @ weights == pytest.approx(0.01012, abs=7e-6)
    active = weights - MARKET
    assert np.sqrt(active @ CLASS_COV @ active) == pytest.approx(0.00913, abs=2e-5)


def test_idzorek_implied_confidence_and_certain_views() -> None:
    np.testing.assert_allclose(100 * idzorek().views["implied_confidence"], [32.94, 43.06, 33.02], atol=0.01)
    certain = idzorek((1.0, 1.0, 1.0))
    np.testing.assert_allclose(
        100 * certain.unconstrained_weights("prior"), [43.82, 1.65, 3.81, 20.37, 0.42, 2.26, 35.21, 3.49], atol=0.015
    )
    np.testing.assert_allclose(certain.views["posterior"], [0.0525, 0.0025, 0.02], rtol=1e-12)
    np.testing.assert_allclose(certain.views["implied_confidence"], 1.0, rtol=1e-12)
    # nothing is left to know about what certain views are about
    left = certain.picks @ (certain.covariance - CLASS_COV) @ certain.picks.T
    np.testing.assert_allclose(left, 0.0, atol=1e-15)


@pytest.mark.parametrize("confidence", [0.25, 0.5, 0.65])
@pytest.mark.parametrize("view", range(3))
def test_a_view_alone_tilts_by_its_confidence(view: int, confidence: float) -> None:
    """Idzorek's steps 1 to 6 look for the omega with which the tilt is so large; found here by inverting matrices."""
    settings: dict[str, Any] = {"market_weights": MARKET, "risk_aversion": 3.0, "tau": 0.025}
    alone = [
        black_litterman_posterior(CLASS_COV, idzorek_views((c, c, c))[view], **settings) for c in (confidence, 1.0)
    ]
    some, whole = (np.linalg.solve(3.0 * CLASS_COV, p.mean) - MARKET for p in alone)
    np.testing.assert_allclose(some, confidence * whole, atol=1e-12)
    assert alone[0].views["implied_confidence"].iloc[0] == pytest.approx(confidence, rel=1e-12)
    variance = float(0.025 * (alone[0].picks @ CLASS_COV @ alone[0].picks.T).iloc[0, 0])
    omega = view_uncertainty(variance, confidence)
    assert alone[0].views["uncertainty"].iloc[0] == pytest.approx(omega, rel=1e-12)
    assert view_confidence(variance, omega) == pytest.approx(confidence, rel=1e-12)


def test_the_ends_of_confidence() -> None:
    assert view_uncertainty(0.01, 1.0) == 0.0
    assert view_uncertainty(0.01, 0.0) == np.inf
    assert view_confidence(0.01, np.inf) == 0.0
    assert view_confidence(0.01, 0.0) == 1.0


# -- other routes to the same posterior --------------------------------------------------------------------------
def test_conditioning_of_a_joint_normal_distribution() -> None:
    """Information adds up: the textbook form, with the inverses that the library does without."""
    posterior, tau = idzorek((0.25, 0.5, 0.65)), 0.025
    p, q = posterior.picks.to_numpy(), posterior.views["value"].to_numpy()
    omega = np.diag(posterior.views["uncertainty"])
    precision = np.linalg.inv(tau * CLASS_COV) + p.T @ np.linalg.inv(omega) @ p
    mean = np.linalg.solve(
        precision, np.linalg.solve(tau * CLASS_COV, posterior.prior_mean) + p.T @ np.linalg.solve(omega, q)
    )
    np.testing.assert_allclose(posterior.mean, mean, rtol=1e-9)
    np.testing.assert_allclose(posterior.covariance, CLASS_COV + np.linalg.inv(precision), rtol=1e-9, atol=1e-15)


def test_errors_of_views_may_be_correlated() -> None:
    posterior = idzorek()
    views = [view.__class__(**(vars(view) | {"confidence": None})) for view in idzorek_views()]
    root = np.random.default_rng(3).normal(size=(3, 3)) * 0.02
    omega = pd.DataFrame(root @ root.T, posterior.views.index, posterior.views.index)
    found = black_litterman_posterior(CLASS_COV, views, prior_mean=posterior.prior_mean, tau=0.025, omega=omega)
    shared = 0.025 * CLASS_COV.to_numpy() @ found.picks.to_numpy().T
    gain = shared @ np.linalg.inv(found.picks.to_numpy() @ shared + omega.to_numpy())
    np.testing.assert_allclose(found.mean, found.prior_mean + gain @ (found.views["value"] - found.views["prior"]))


RETURNS = po.data.simple_returns(po.data.sample_prices()).iloc[
    -500:, :7
]  # as many as the countries: one kernel for all
NAMES = RETURNS.columns
DAILY = LedoitWolf().fit(RETURNS)
EQUAL = pd.Series(1.0 / 7, NAMES)
CHOSEN = [
    AbsoluteView(NAMES[0], 0.001),
    RelativeView(NAMES[1], [NAMES[2], NAMES[3]], 0.0005),
    AbsoluteView({NAMES[4]: 0.7, NAMES[5]: 0.3}, -0.0002),
]


@pytest.mark.parametrize("confidences", [None, [0.3, 0.6, 0.9]])
def test_against_pyportfolioopt(confidences: list[float] | None) -> None:
    ours = black_litterman_posterior(DAILY, CHOSEN, market_weights=EQUAL, tau=0.03)
    p, q = ours.picks, ours.views["value"]
    more: dict[str, Any] = {}
    if confidences is not None:
        more = {"omega": "idzorek", "view_confidences": np.array(confidences)}
        matrix = ViewMatrix(p, q, pd.Series(confidences, p.index))
        ours = black_litterman_posterior(DAILY, matrix, market_weights=EQUAL, tau=0.03)
    theirs = BlackLittermanModel(DAILY, pi=ours.prior_mean, P=p.to_numpy(), Q=q.to_numpy(), tau=0.03, **more)
    np.testing.assert_allclose(ours.mean, theirs.bl_returns(), rtol=1e-7)
    np.testing.assert_allclose(ours.covariance, theirs.bl_cov(), rtol=1e-7, atol=1e-14)


# -- properties --------------------------------------------------------------------------------------------------
def test_without_views_the_prior_comes_back() -> None:
    prior = pd.Series(np.linspace(-0.1, 0.2, 8), CLASSES)
    posterior = black_litterman_posterior(CLASS_COV, prior_mean=prior, tau=0.1)
    assert (posterior.mean == prior).all()
    np.testing.assert_allclose(posterior.covariance, 1.1 * CLASS_COV, rtol=1e-14)
    silent = idzorek((0.0, 0.0, 0.0))
    assert (silent.mean == silent.prior_mean).all()
    assert (silent.views[["confidence", "implied_confidence", "tilt"]] == 0.0).all(axis=None)
    result = black_litterman(COUNTRY_COV, market_weights=EQUILIBRIUM, risk_aversion=3.0, uses="prior", tolerance=1e-9)
    np.testing.assert_allclose(result.weights, EQUILIBRIUM, atol=1e-5)


def test_a_view_without_confidence_is_left_out() -> None:
    kept = black_litterman_posterior(CLASS_COV, idzorek_views()[:2], market_weights=MARKET)
    silent = black_litterman_posterior(CLASS_COV, idzorek_views((0.5, 0.5, 0.0)), market_weights=MARKET)
    assert (kept.mean == silent.mean).all()
    np.testing.assert_array_equal(kept.covariance, silent.covariance)
    np.testing.assert_allclose(silent.tilts("posterior").iloc[:2], kept.tilts("posterior"), rtol=1e-12)
    omega = silent.views["uncertainty"]
    assert omega.iloc[2] == np.inf
    views = [view.__class__(**(vars(view) | {"confidence": None})) for view in idzorek_views()]
    again = black_litterman_posterior(CLASS_COV, views, market_weights=MARKET, omega=omega)
    assert (again.mean == silent.mean).all()


def test_the_order_of_assets_and_views_does_not_matter() -> None:
    order = CLASSES[np.random.default_rng(0).permutation(8)]
    views = idzorek_views((0.2, 0.9, 1.0))
    one = black_litterman_posterior(CLASS_COV, views, market_weights=MARKET)
    other = black_litterman_posterior(CLASS_COV.loc[order, order], views[::-1], market_weights=MARKET)
    np.testing.assert_allclose(other.mean[CLASSES], one.mean, rtol=1e-12)
    np.testing.assert_allclose(other.covariance.loc[CLASSES, CLASSES], one.covariance, rtol=1e-10, atol=1e-16)


def test_more_confidence_goes_further() -> None:
    gaps = [abs(idzorek((c, c, c)).views.eval("value - posterior")).to_numpy() for c in (0.1, 0.4, 0.8, 1.0)]
    assert (np.diff(gaps, axis=0) < 0).all()


def test_an_estimator_of_the_mean() -> None:
    estimator = BlackLitterman(CHOSEN, EQUAL, covariance=LedoitWolf())
    np.testing.assert_array_equal(
        estimator.fit(RETURNS), black_litterman_posterior(DAILY, CHOSEN, market_weights=EQUAL).mean
    )


# -- factor models -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("uses", ["posterior", "prior"])
def test_a_factor_model_gives_what_its_matrix_gives(uses: Any) -> None:
    model = StatisticalFactors(3).fit(RETURNS)
    views = [*CHOSEN, RelativeView(NAMES[1], NAMES[6], 0.0003, 1.0)]
    one = black_litterman_posterior(model, views, market_weights=EQUAL)
    two = black_litterman_posterior(model.dense(), views, market_weights=EQUAL)
    np.testing.assert_allclose(one.mean, two.mean, rtol=1e-10)
    assert isinstance(one.covariance, FactorCovariance)
    np.testing.assert_allclose(one.covariance.dense(), two.covariance, rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(one.unconstrained_weights(uses), two.unconstrained_weights(uses), rtol=1e-8, atol=1e-12)
    expected = np.linalg.solve(2.5 * (two.covariance if uses == "posterior" else model.dense()), two.mean)
    np.testing.assert_allclose(one.unconstrained_weights(uses), expected, rtol=1e-7)


def large_model(n: int, k: int) -> FactorCovariance:
    random = np.random.default_rng(5)
    assets, factors = pd.Index([f"A{i}" for i in range(n)]), pd.Index([f"F{j}" for j in range(k)])
    exposures = pd.DataFrame(random.normal(size=(n, k)) / np.sqrt(k), assets, factors)
    own = pd.Series(random.uniform(0.01, 0.09, n), assets)
    return FactorCovariance(exposures, pd.DataFrame(0.04 * np.eye(k), factors, factors), own)


def test_thousands_of_assets_without_their_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    n = 1500
    model = large_model(n, 20)
    market = pd.Series(np.random.default_rng(1).dirichlet(np.ones(n)), model.assets)
    views = [RelativeView(f"A{i}", f"A{i + 50}", 0.01 * (i % 5), 0.6) for i in range(40)]
    views.append(AbsoluteView({f"A{i}": 1 / n for i in range(n)}, 0.0001, 0.3))  # type: ignore[arg-type]
    dense = model.dense().to_numpy()
    with monkeypatch.context() as patch:
        patch.setattr(FactorCovariance, "dense", lambda self: pytest.fail("the matrix was formed"))
        posterior = black_litterman_posterior(model, views, market_weights=market)
    p = posterior.picks.to_numpy()
    shared = 0.05 * dense @ p.T
    gain = np.linalg.solve(p @ shared + np.diag(posterior.views["uncertainty"]), posterior.views.eval("value - prior"))
    np.testing.assert_allclose(posterior.mean, 2.5 * dense @ market + shared @ gain, rtol=1e-8, atol=1e-14)


@pytest.mark.parametrize("covariance", [po.ScenarioSet(RETURNS), StatisticalFactors(3).fit(RETURNS)])
def test_long_only_weights_by_their_conditions(covariance: Any) -> None:
    """What is held promises the same at the margin, and nothing else promises more."""
    result = black_litterman(covariance, CHOSEN, market_weights=EQUAL, tau=0.05, tolerance=1e-10)
    assert result.weights is not None
    posterior = result.details["posterior_covariance"]
    matrix = posterior.dense() if isinstance(posterior, FactorCovariance) else posterior
    prior = covariance.dense() if isinstance(covariance, FactorCovariance) else covariance.covariance()
    np.testing.assert_allclose(result.details["prior_mean"], 2.5 * prior @ EQUAL, rtol=1e-9)
    margin = result.details["posterior_mean"] - 2.5 * matrix @ result.weights
    held = result.weights > 1e-6
    assert 1 < held.sum() < 7
    np.testing.assert_allclose(margin[held], margin.max(), rtol=1e-4)
    assert (margin[~held] <= margin.max() * (1 + 1e-4)).all()


# -- scenarios ---------------------------------------------------------------------------------------------------
def test_scenarios_with_the_posterior_mean() -> None:
    random = np.random.default_rng(0)
    scenarios = po.ScenarioSet(RETURNS, random.dirichlet(np.full(len(RETURNS), 5.0)), horizon="1 day")
    posterior = black_litterman_posterior(DAILY, CHOSEN, market_weights=EQUAL)
    moved = posterior_scenarios(scenarios, posterior, cash_rate=0.0001)
    np.testing.assert_allclose(moved.mean(), posterior.mean + 0.0001, rtol=1e-9)
    np.testing.assert_allclose(moved.covariance(), scenarios.covariance(), rtol=1e-9, atol=1e-15)
    assert moved.index.equals(RETURNS.index)
    # CVaR of a sum with a constant is CVaR less the constant
    shift = float((posterior.mean + 0.0001 - scenarios.mean()) @ EQUAL)
    assert moved.tail(EQUAL, 0.95).cvar == pytest.approx(scenarios.tail(EQUAL, 0.95).cvar - shift, rel=1e-10)
    scaled = posterior_scenarios(scenarios, posterior, covariance="posterior")
    np.testing.assert_allclose(scaled.mean(), posterior.mean, rtol=1e-9)
    np.testing.assert_allclose(scaled.covariance(), posterior.covariance, rtol=1e-8, atol=1e-13)


def test_views_move_a_mean_cvar_portfolio() -> None:
    scenarios = po.ScenarioSet(RETURNS)

    def held(value: float) -> float:
        view = AbsoluteView(NAMES[0], value, 0.9)
        posterior = black_litterman_posterior(DAILY, view, market_weights=EQUAL)
        problem = po.Problem(
            posterior_scenarios(scenarios, posterior),
            po.ExpectedReturn() - 0.05 * po.CVaR(0.95),
            [po.Budget(1.0), po.Bounds(0.0, 0.5)],
        )
        weights = po.optimize(problem).weights
        assert weights is not None
        return float(weights[NAMES[0]])

    assert held(-0.003) == pytest.approx(0.0, abs=1e-9)
    assert held(0.003) == pytest.approx(0.5, abs=1e-9)


# -- what is refused ---------------------------------------------------------------------------------------------
def test_contradictory_certain_views_are_named() -> None:
    views = [
        AbsoluteView("Developed", 0.05, 1.0, name="bull"),
        AbsoluteView("Emerging", 0.06, 1.0, name="calm"),
        AbsoluteView("Developed", 0.02, 1.0, name="bear"),
    ]
    with pytest.raises(po.InputError, match=r"views 'bull', 'bear' are certain and contradict"):
        black_litterman_posterior(CLASS_COV, views, market_weights=MARKET)
    # saying the same thing twice is no contradiction
    views[2] = AbsoluteView("Developed", 0.05, 1.0, name="bull again")
    posterior = black_litterman_posterior(CLASS_COV, views, market_weights=MARKET)
    np.testing.assert_allclose(posterior.mean[["Developed", "Emerging"]], [0.05, 0.06], rtol=1e-10)
    # nor is it one where a view is not certain
    views[2] = AbsoluteView("Developed", 0.02, 0.99, name="bear")
    posterior = black_litterman_posterior(CLASS_COV, views, market_weights=MARKET)
    np.testing.assert_allclose(posterior.mean["Developed"], 0.05, rtol=1e-9)
    assert posterior.views["implied_confidence"].isna().all()


def test_names_are_checked() -> None:
    with pytest.raises(po.UnknownNameError, match="did you mean 'Developed'"):
        black_litterman_posterior(CLASS_COV, AbsoluteView("Develloped", 0.05), market_weights=MARKET)
    with pytest.raises(po.UnknownNameError, match="view in omega"):
        black_litterman_posterior(
            CLASS_COV, AbsoluteView("Developed", 0.05), market_weights=MARKET, omega={"Emerging": 0.1}
        )
    picks = pd.DataFrame([[1.0]], ["one"], ["Gold"])
    with pytest.raises(po.UnknownNameError, match="asset in views"):
        black_litterman_posterior(CLASS_COV, ViewMatrix(picks, {"one": 0.1}), market_weights=MARKET)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"views": AbsoluteView("Developed", 0.05, 1.5)}, "between 0"),
        ({"views": AbsoluteView("Developed", 0.05, -0.1)}, "at least 0"),
        ({"views": AbsoluteView("Developed", float("nan"))}, "finite"),
        ({"views": AbsoluteView({"Developed": 0.6, "Emerging": 0.6}, 0.05)}, "have to sum to one"),
        ({"views": AbsoluteView([], 0.05)}, "names no asset"),
        ({"views": RelativeView("Developed", "Developed", 0.05)}, "about nothing"),
        ({"views": ["Developed"]}, "AbsoluteView"),
        ({"views": ViewMatrix(pd.DataFrame([[0.0]], ["v"], ["Developed"]), {"v": 0.1})}, "zero throughout"),
        ({"views": ViewMatrix(pd.DataFrame([[np.nan]], ["v"], ["Developed"]), {"v": 0.1})}, "not finite"),
        ({"market_weights": 100 * MARKET}, "sum to 100"),
        ({"market_weights": MARKET.iloc[1:]}, "says nothing about 'US Bonds'"),
        ({"market_weights": None}, "either market_weights or prior_mean"),
        ({"prior_mean": MARKET}, "either market_weights or prior_mean"),
        ({"tau": 0.0}, "tau must be above 0"),
        ({"risk_aversion": -1.0}, "risk_aversion must be above 0"),
        ({"omega": {"Developed": -1.0}}, "negative"),
        ({"views": AbsoluteView("Developed", 0.05, 0.5), "omega": {"Developed": 1.0}}, "give one of them"),
        ({"covariance": CLASS_COV.iloc[:, ::-1]}, "same labels"),
        ({"covariance": CLASS_COV + np.tril(np.ones((8, 8)), -1)}, "not symmetric"),
    ],
)
def test_what_cannot_be_meant(change: dict[str, Any], words: str) -> None:
    given = {"covariance": CLASS_COV, "views": AbsoluteView("Developed", 0.05), "market_weights": MARKET} | change
    with pytest.raises(po.InputError, match=words):
        black_litterman_posterior(**given)  # type: ignore[arg-type]


def test_a_view_on_what_does_not_vary() -> None:
    covariance = CLASS_COV.copy()
    covariance.loc["US Bonds"] = covariance["US Bonds"] = 0.0
    with pytest.raises(po.InputError, match="'US Bonds' is about what has no variance"):
        black_litterman_posterior(covariance, AbsoluteView("US Bonds", 0.01), market_weights=MARKET)
    same = black_litterman_posterior(covariance, AbsoluteView("US Bonds", 0.0), market_weights=MARKET)
    assert (same.mean == same.prior_mean).all()


def test_other_refusals() -> None:
    posterior = black_litterman_posterior(CLASS_COV, prior_mean=MARKET)
    with pytest.raises(po.InputError, match="prior mean was given without"):
        posterior.unconstrained_weights()
    with pytest.raises(po.InputError, match="'posterior' or 'prior'"):
        black_litterman(CLASS_COV, market_weights=MARKET, uses="both")  # type: ignore[arg-type]
    few = po.ScenarioSet(RETURNS.iloc[:6])
    equal = black_litterman_posterior(DAILY, market_weights=EQUAL)
    with pytest.raises(po.InputError, match="do not vary in every direction"):
        posterior_scenarios(few, equal, covariance="posterior")
    with pytest.raises(po.InputError, match="one of the two"):
        implied_risk_aversion(CLASS_COV, MARKET)

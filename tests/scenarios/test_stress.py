"""Shocks, stress tests and reverse stress tests: by closed forms, by regression on draws, by optimisation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.optimize import minimize

from portfolioopt.errors import InputError, UnknownNameError
from portfolioopt.estimate import FactorCovariance
from portfolioopt.scenarios import (
    ScenarioSet,
    Stress,
    asset_shock,
    factor_shock,
    reverse_stress,
    stress_test,
    with_stress,
)

ASSETS = list("ABCDE")
FACTORS = ["Market", "Value", "Size"]
WEIGHTS = pd.Series([0.4, 0.3, 0.2, 0.2, -0.1], ASSETS)


def model(seed: int = 0) -> FactorCovariance:
    rng = np.random.default_rng(seed)
    root = 0.05 * rng.normal(size=(3, 3))
    return FactorCovariance(
        pd.DataFrame(rng.normal(0.5, 0.7, (5, 3)), ASSETS, FACTORS),
        pd.DataFrame(root @ root.T, FACTORS, FACTORS),
        pd.Series(rng.uniform(1e-4, 1e-3, 5), ASSETS),
    )


def draws(count: int = 400_000) -> tuple[np.ndarray, np.ndarray, FactorCovariance]:
    given, rng = model(), np.random.default_rng(1)
    f = rng.normal(size=(count, given.root.shape[1])) @ given.root.T
    e = rng.normal(size=(count, 5)) * np.sqrt(given.idiosyncratic.to_numpy())
    return f, f @ given.exposures.to_numpy().T + e, given


# -- shocks --------------------------------------------------------------------------------------------------


def test_a_propagated_factor_shock_is_the_regression_on_the_shocked_factors() -> None:
    f, r, given = draws()
    shocks = {"Size": 0.03, "Market": -0.2}
    found = factor_shock(given, shocks)
    assert found.factors is not None
    on = f[:, [2, 0]]
    slopes, *_ = np.linalg.lstsq(on, np.column_stack([f, r]), rcond=None)
    expected = np.array([0.03, -0.2]) @ slopes
    np.testing.assert_allclose(found.factors, expected[:3], atol=2e-3)
    np.testing.assert_allclose(found.returns, expected[3:], atol=5e-3)
    left = np.cov((r - on @ slopes[:, 3:]).T)
    scale = np.sqrt(np.outer(left.diagonal(), left.diagonal()))
    assert isinstance(found.remaining, FactorCovariance)
    np.testing.assert_allclose(found.remaining.dense() / scale, left / scale, atol=1e-2)
    assert found.name == "Size +3 %, Market -20 %"
    assert (found.factors["Market"], found.factors["Size"]) == (-0.2, 0.03)


def test_without_propagation_only_what_was_named_moves() -> None:
    given = model()
    found = factor_shock(given, pd.Series({"Value": 0.1}), propagate=False, name="mine")
    assert found.name == "mine"
    np.testing.assert_array_equal(found.factors, [0.0, 0.1, 0.0])
    np.testing.assert_allclose(found.returns, 0.1 * given.exposures["Value"])
    others = FactorCovariance(
        given.exposures[["Market", "Size"]],
        given.factor_covariance.loc[["Market", "Size"], ["Market", "Size"]],
        given.idiosyncratic,
    )
    np.testing.assert_allclose(found.remaining.dense(), others.dense(), atol=1e-15)
    alone = asset_shock(given.dense(), {"B": -0.1}, propagate=False)
    np.testing.assert_array_equal(alone.returns, [0.0, -0.1, 0.0, 0.0, 0.0])
    assert asset_shock(given, {"B": -0.1}, propagate=False).returns.to_list() == alone.returns.to_list()


def test_an_asset_shock_in_factors_is_that_of_the_dense_covariance() -> None:
    given = model()
    dense = given.dense().to_numpy()
    shocks = {"D": -0.3, "A": 0.1}
    at, rest, size = [3, 0], [1, 2, 4], np.array([-0.3, 0.1])
    expected = dense[:, at] @ np.linalg.solve(dense[np.ix_(at, at)], size)
    left = dense[np.ix_(rest, rest)] - dense[np.ix_(rest, at)] @ np.linalg.solve(
        dense[np.ix_(at, at)], dense[np.ix_(at, rest)]
    )
    whole = np.zeros((5, 5))
    whole[np.ix_(rest, rest)] = left
    for found in (asset_shock(given, shocks), asset_shock(given.dense(), shocks)):
        np.testing.assert_allclose(found.returns, expected, atol=1e-13)
        remaining = found.remaining.dense() if isinstance(found.remaining, FactorCovariance) else found.remaining
        np.testing.assert_allclose(remaining, whole, atol=1e-15)


def test_shocking_every_factor_leaves_the_specific_risk() -> None:
    given = model()
    found = factor_shock(given, {"Market": -0.1, "Value": 0.0, "Size": 0.05})
    np.testing.assert_allclose(found.returns, given.exposures @ [-0.1, 0.0, 0.05])
    np.testing.assert_allclose(found.remaining.dense(), np.diag(given.idiosyncratic), atol=1e-17)


# -- reverse -------------------------------------------------------------------------------------------------


def test_the_most_likely_scenario_against_an_optimiser() -> None:
    given = model().dense()
    mean = pd.Series([0.01, 0.0, 0.02, -0.01, 0.0], ASSETS)
    found = reverse_stress(given, WEIGHTS, 0.15, mean=mean)
    inverse = np.linalg.inv(given.to_numpy())
    w = WEIGHTS.to_numpy()

    def far(r: np.ndarray) -> tuple[float, np.ndarray]:
        off = r - mean.to_numpy()
        return float(off @ inverse @ off), 2.0 * inverse @ off

    limits = {"type": "eq", "fun": lambda r: w @ r + 0.15, "jac": lambda r: w}
    best = minimize(far, np.zeros(5), jac=True, method="SLSQP", constraints=[limits], options={"ftol": 1e-15})
    np.testing.assert_allclose(found.stress.returns, best.x, atol=1e-6)
    assert found.distance == pytest.approx(best.fun**0.5, rel=1e-6)
    assert -(w @ found.stress.returns) == pytest.approx(0.15, rel=1e-12)
    assert found.probability == pytest.approx(stats.norm.sf(0.15, -(w @ mean), (w @ given @ w) ** 0.5), rel=1e-10)


def test_reverse_stress_in_factors_is_that_of_the_dense_covariance() -> None:
    given = model()
    one, other = (reverse_stress(m, WEIGHTS, 0.05, freedom=5.0) for m in (given, given.dense()))
    np.testing.assert_allclose(one.stress.returns, other.stress.returns, rtol=1e-10)
    assert one.distance == pytest.approx(other.distance, rel=1e-12)
    # the factors are those expected under the returns: the regression of factors on the loss
    own = given.exposures.T.to_numpy() @ WEIGHTS.to_numpy()
    f = given.factor_covariance.to_numpy() @ own
    spread = WEIGHTS @ given.dense() @ WEIGHTS
    np.testing.assert_allclose(one.stress.factors, -0.05 * f / spread, rtol=1e-10)
    rng = np.random.default_rng(3)
    sample = rng.standard_t(5.0, 2_000_000) * (spread * 3.0 / 5.0) ** 0.5
    assert one.probability == pytest.approx((sample > 0.05).mean(), rel=0.02)
    below = reverse_stress(given, WEIGHTS, -0.1)
    assert below.probability > 0.5
    assert below.distance > 0.0


def test_pooled_scenarios_lose_what_was_asked_on_average() -> None:
    _, r, given = draws(4000)
    scenarios = ScenarioSet(r, assets=ASSETS)
    found = reverse_stress(scenarios, WEIGHTS, 0.035)
    assert found.scenarios is not None
    assert found.scenarios.probabilities @ scenarios.losses(WEIGHTS) == pytest.approx(0.035, abs=1e-10)
    np.testing.assert_allclose(found.stress.returns, found.scenarios.mean(), rtol=1e-12)
    assert -(WEIGHTS @ found.stress.returns) == pytest.approx(0.035, abs=1e-10)
    # for normal returns tilting moves the mean along Sigma w, as the elliptical formula does
    exact = reverse_stress(given, WEIGHTS, 0.035)
    np.testing.assert_allclose(found.stress.returns, exact.stress.returns, atol=0.01)
    assert found.distance == pytest.approx(exact.distance, rel=0.1)
    assert found.relative_entropy == pytest.approx(0.5 * exact.distance**2, rel=0.1)
    assert found.probability == pytest.approx(exact.probability, rel=0.25)


def test_the_nearest_scenario_by_looking_at_all() -> None:
    _, r, _ = draws(2000)
    scenarios = ScenarioSet(r, assets=ASSETS)
    found = reverse_stress(scenarios, WEIGHTS, 0.05, how="nearest")
    off = r - r.mean(axis=0)
    away = np.sqrt(np.einsum("si,ij,sj->s", off, np.linalg.inv(np.cov(r.T, bias=True)), off))
    losing = -r @ WEIGHTS.to_numpy() >= 0.05
    best = int(np.flatnonzero(losing)[away[losing].argmin()])
    np.testing.assert_array_equal(found.stress.returns, r[best])
    assert found.stress.name == str(best)
    assert found.distance == pytest.approx(away[best], rel=1e-9)
    assert found.probability == pytest.approx(losing.mean(), rel=1e-12)
    assert found.loss >= 0.05


# -- stress tests --------------------------------------------------------------------------------------------


def test_contributions_sum_to_losses_and_portfolios_are_independent() -> None:
    given, rng = model(), np.random.default_rng(5)
    books = pd.DataFrame(rng.normal(size=(4, 5)), index=list("wxyz"), columns=ASSETS)
    stresses = [
        factor_shock(given, {"Market": -0.2}, name="fall"),
        asset_shock(given, {"C": -0.5}, name="default"),
        Stress("plain", pd.Series(0.01, ASSETS)),
    ]
    found = stress_test(books, stresses)
    assert list(found.losses.index) == ["fall", "default", "plain"]
    np.testing.assert_allclose(found.losses.loc["fall"], -(books @ stresses[0].returns), rtol=1e-12)
    np.testing.assert_allclose(found.by_asset.sum(axis=1), found.losses.to_numpy().ravel(), rtol=1e-12)
    assert found.by_factor is not None
    assert list(found.by_factor.columns) == [*FACTORS, "specific"]
    np.testing.assert_allclose(found.by_factor.sum(axis=1), found.losses.iloc[:2].to_numpy().ravel(), rtol=1e-12)
    np.testing.assert_allclose(found.by_factor.loc["fall", "specific"], 0.0, atol=1e-14)
    own = stresses[1].returns["C"] - given.exposures.loc["C"] @ stresses[1].factors
    np.testing.assert_allclose(found.by_factor.loc["default", "specific"], -books["C"] * own, rtol=1e-10)
    alone = stress_test(books.loc["y", ASSETS[::-1]], stresses[::-1])
    np.testing.assert_allclose(alone.losses["portfolio"][::-1], found.losses["y"], rtol=1e-12)
    assert stress_test(books, {"plain": dict.fromkeys(ASSETS, 0.01)}).by_factor is None
    frame = pd.DataFrame([[0.01] * 5], index=["plain"], columns=ASSETS)
    np.testing.assert_allclose(stress_test(books, frame).losses.loc["plain"], found.losses.loc["plain"])


def test_a_stress_among_the_scenarios() -> None:
    given = ScenarioSet(
        pd.DataFrame(np.random.default_rng(6).normal(0, 0.02, (50, 5)), pd.date_range("2020", periods=50), ASSETS)
    )
    stress = factor_shock(model(), {"Market": -0.2}, name="fall")
    found = with_stress(given, [stress, Stress("flat", pd.Series(0.0, ASSETS))], 0.02)
    assert found.n_scenarios == 52
    assert list(found.index[-2:]) == ["fall", "flat"]
    np.testing.assert_allclose(found.probabilities[-2:], 0.01)
    np.testing.assert_allclose(found.mean(), 0.98 * given.mean() + 0.01 * stress.returns, atol=1e-16)
    each = with_stress(given, {"one": stress.returns, "two": stress.returns}, {"two": 0.03, "one": 0.01})
    np.testing.assert_allclose(each.probabilities[-2:], [0.01, 0.03])
    with pytest.raises(InputError, match="scenarios are already called 'fall'"):
        with_stress(found, [stress], 0.01)
    with pytest.raises(InputError, match="says nothing about 'E'"):
        with_stress(given, {"x": stress.returns.drop("E")}, 0.01)
    for wrong in (1.0, -0.1, float("nan")):
        with pytest.raises(InputError, match="probability must"):
            with_stress(given, [stress], wrong)


# -- what is refused -----------------------------------------------------------------------------------------


def test_factors_that_depend_on_each_other_cannot_be_shocked_together() -> None:
    twin = pd.DataFrame([[0.04, 0.02, 0.04], [0.02, 0.09, 0.02], [0.04, 0.02, 0.04]], FACTORS, FACTORS)
    given = FactorCovariance(pd.DataFrame(1.0, ASSETS, FACTORS), twin, 1e-4)
    with pytest.raises(InputError, match="shocked factors 'Market', 'Size' depend on each other"):
        factor_shock(given, {"Market": -0.1, "Value": 0.0, "Size": 0.2})
    alone = factor_shock(given, {"Market": -0.1})
    both = factor_shock(given, {"Market": -0.1, "Size": 0.2}, propagate=False)
    assert alone.factors is not None
    assert both.factors is not None
    assert alone.factors["Size"] == pytest.approx(-0.1)
    assert both.factors["Size"] == 0.2
    still = twin.copy()
    still.loc["Value"] = still["Value"] = 0.0
    with pytest.raises(InputError, match="shocked factors 'Value' never move"):
        factor_shock(FactorCovariance(given.exposures, still, 1e-4), {"Value": -0.1})
    same = pd.DataFrame(0.04, ASSETS[:2], ASSETS[:2])
    with pytest.raises(InputError, match="shocked assets 'A', 'B' depend on each other"):
        asset_shock(same, {"A": 0.1, "B": 0.1})


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: factor_shock(model(), {"Markt": -0.1}), r"unknown factor: 'Markt' \(did you mean 'Market'\?\)"),
        (lambda: asset_shock(model(), {"F": -0.1}), "unknown asset: 'F'"),
        (lambda: asset_shock(model().dense(), {"F": -0.1}), "unknown asset: 'F'"),
        (lambda: factor_shock(model(), {}), "there are no shocks"),
        (lambda: factor_shock(model(), {"Market": np.nan}), "shocks is not finite for 'Market'"),
        (lambda: factor_shock(model(), -0.1), "shocks must be a mapping"),
        (lambda: factor_shock(model().dense(), {"Market": -0.1}), "needs a FactorCovariance"),
        (lambda: stress_test({"F": 1.0}, [factor_shock(model(), {"Market": -0.1})]), "unknown asset in stress"),
        (lambda: stress_test({"A": np.nan}, {"x": {"A": 0.0}}), "weights is not finite for 'A'"),
        (lambda: stress_test({}, {"x": {"A": 0.0}}), "weights is empty"),
        (lambda: stress_test({"A": 1.0}, {}), "there are no stresses"),
        (lambda: stress_test({"A": 1.0}, {"x": {"A": np.nan}}), "stress 'x' is not finite for 'A'"),
        (lambda: stress_test({"A": 1.0}, {"x": 0.1}), "stress 'x' must be returns by asset"),
        (lambda: stress_test({"A": 1.0}, [0.1]), "stresses must be of class Stress"),
        (lambda: reverse_stress(model(), 0.0 * WEIGHTS, 0.1), "the portfolio has no risk"),
        (lambda: reverse_stress(model(), WEIGHTS, np.nan), "loss must be a finite number"),
        (lambda: reverse_stress(model(), WEIGHTS, 0.1, freedom=2.0), "freedom must be above 2"),
        (lambda: reverse_stress(model(), WEIGHTS.drop("A"), 0.1), "weights says nothing about 'A'"),
    ],
)
def test_what_cannot_be_meant(call: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        call()


def test_losses_that_no_scenario_reaches() -> None:
    scenarios = ScenarioSet(np.eye(3) - 0.5, assets=list("ABC"))
    with pytest.raises(InputError, match=r"no scenario loses 0\.7: the worst loses 0\.5"):
        reverse_stress(scenarios, {"A": 1.0, "B": 0.0, "C": 0.0}, 0.7)
    with pytest.raises(InputError, match="how must be"):
        reverse_stress(scenarios, {"A": 1.0, "B": 0.0, "C": 0.0}, 0.1, how="likely")
    with pytest.raises(UnknownNameError):
        reverse_stress(scenarios, {"A": 1.0, "B": 0.0, "D": 0.0}, 0.1)

"""Derivatives of the optimal objective, against solving again."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import portfolioopt as po
from portfolioopt.gradient import sensitivities

S, N = 60, 5
ASSETS = pd.Index(["Ash", "Elm", "Fir", "Oak", "Yew"])


def make(**changes: object) -> po.Problem:
    rng = np.random.default_rng(8)
    returns = 0.01 * rng.standard_t(5, (S, N)) + np.linspace(0.001, 0.004, N)
    p = rng.uniform(0.5, 1.5, S)
    given = {
        "returns": returns,
        "probabilities": p / p.sum(),
        "aversion": 0.3,
        "reward": 1.0,
        "bps": 10.0,
        "turnover": 0.5,
        "upper": 0.37,
        "cvar": 0.0150,
        "holdings": np.array([0.30, 0.25, 0.20, 0.15, 0.10]),
    } | changes
    return po.Problem(
        po.ScenarioSet(pd.DataFrame(given["returns"], columns=ASSETS), given["probabilities"]),
        given["reward"] * po.ExpectedReturn() - given["aversion"] * po.CVaR(0.9) - po.ProportionalCost(given["bps"]),
        [
            po.Budget(),
            po.Bounds(0.0, given["upper"]),
            po.Turnover(given["turnover"]),
            po.CVaRLimit(0.95, given["cvar"]),
        ],
        holdings=pd.Series(given["holdings"], ASSETS),
    )


def slope(name: str, base: object, direction: object, step: float) -> float:
    def at(k: float) -> float:
        return po.optimize(make(**{name: base + k * step * np.asarray(direction)}), tolerance=1e-9).objective

    return (at(1.0) - at(-1.0)) / (2.0 * step)


@pytest.fixture(scope="module")
def result() -> po.Result:
    return po.optimize(make())


def test_term_weights(result: po.Result) -> None:
    found = sensitivities(result).terms
    assert found["CVaR(beta=0.9)"] == pytest.approx(slope("aversion", 0.3, 1.0, 1e-5), rel=1e-6)
    assert found["ExpectedReturn()"] == pytest.approx(slope("reward", 1.0, 1.0, 1e-5), rel=1e-6)


@pytest.mark.parametrize(("name", "line", "base"), [("turnover", "Turnover", 0.5), ("cvar", "CVaRLimit(0.95)", 0.0150)])
def test_limits(name: str, line: str, base: float, result: po.Result) -> None:
    expected = slope(name, base, 1.0, 1e-6 * base)
    assert sensitivities(result).limits[line] == pytest.approx(expected, rel=1e-5, abs=1e-9)


def test_at_least_one_limit_has_a_price(result: po.Result) -> None:
    assert (sensitivities(result).limits.drop("Budget").abs() > 1e-6).any()


def test_holdings(result: po.Result) -> None:
    direction = np.array([1.0, -0.5, 0.3, 0.2, -1.0])
    holdings = make().holdings
    assert holdings is not None
    expected = slope("holdings", holdings.to_numpy(), direction, 1e-6)
    found = sensitivities(result).holdings
    assert found is not None
    assert float(found.to_numpy() @ direction) == pytest.approx(expected, rel=1e-5, abs=1e-9)


def test_returns_and_probabilities(result: po.Result) -> None:
    rng = np.random.default_rng(1)
    scenarios = result.problem.scenarios
    matrix = np.asarray(scenarios.source.matrix)
    direction = rng.normal(size=matrix.shape)
    found = sensitivities(result)
    expected = slope("returns", matrix, direction, 1e-7)
    assert float(np.sum(found.returns.to_numpy() * direction)) == pytest.approx(expected, rel=1e-5)
    along = rng.normal(size=S) * scenarios.probabilities
    along -= along.sum() * scenarios.probabilities
    expected = slope("probabilities", scenarios.probabilities, along, 1e-6)
    assert float(found.probabilities.to_numpy() @ along) == pytest.approx(expected, rel=1e-5)


def test_mean_is_that_of_the_objective(result: po.Result) -> None:
    pd.testing.assert_series_equal(sensitivities(result).mean, result.weights.rename("objective"), rtol=1e-12)


def test_without_a_portfolio_there_is_nothing() -> None:
    failed = po.optimize(make(cvar=1e-6), raise_on_failure=False)
    with pytest.raises(po.InputError, match="no portfolio"):
        sensitivities(failed)

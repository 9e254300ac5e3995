"""Risk budgeting: contributions, invariances, CVaR, groups, constraints, batches, and bad input."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import portfolioopt as po


def draw(n: int, seed: int, factors: int = 3) -> po.estimate.FactorCovariance:
    g = np.random.default_rng(seed)
    assets = pd.Index([f"A{i}" for i in range(n)])
    names = pd.Index([f"F{k}" for k in range(factors)])
    exposures = pd.DataFrame(g.normal(size=(n, factors)), assets, names)
    exposures["F0"] = 1.0 + 0.3 * g.normal(size=n)
    covariance = pd.DataFrame(np.diag(0.04 * 0.3 ** np.arange(factors)), names, names)
    return po.estimate.FactorCovariance(exposures, covariance, pd.Series(g.uniform(0.01, 0.1, n), assets))


def shares_of_risk(weights: pd.Series, covariance: pd.DataFrame) -> pd.Series:
    part = weights * (covariance @ weights)
    return part / part.sum()


@pytest.mark.parametrize("n", [2, 7, 60])
@pytest.mark.parametrize("factored", [True, False])
def test_contributions_equal_budgets(n: int, factored: bool) -> None:
    model = draw(n, n)
    g = np.random.default_rng(n + 1)
    budgets = pd.Series(g.dirichlet(np.ones(n)) + 1e-3, model.assets)
    given = model if factored else model.dense()
    result = po.allocation.risk_parity(given, budgets)
    share = shares_of_risk(result.weights, model.dense())
    np.testing.assert_allclose(share, budgets / budgets.sum(), rtol=1e-10)
    assert result.certificate.gap <= 1e-10
    assert result.weights.sum() == pytest.approx(1.0, abs=1e-14)


def test_factored_and_dense_agree_on_many_assets() -> None:
    model = draw(400, 5)
    one, other = po.allocation.risk_parity(model), po.allocation.risk_parity(model.dense())
    np.testing.assert_allclose(one.weights, other.weights, rtol=1e-9)


def test_order_and_units_do_not_matter() -> None:
    sigma = draw(12, 3).dense()
    weights = po.allocation.risk_parity(sigma).weights
    shuffled = sigma.sample(frac=1.0, random_state=1).index
    again = po.allocation.risk_parity(1e6 * sigma.loc[shuffled, shuffled]).weights
    np.testing.assert_allclose(again[weights.index], weights, rtol=1e-10)


def test_two_assets_in_closed_form() -> None:
    sigma = pd.DataFrame([[0.04, -0.018], [-0.018, 0.09]], ["A", "B"], ["A", "B"])
    np.testing.assert_allclose(po.allocation.risk_parity(sigma).weights, [0.6, 0.4], rtol=1e-12)


def test_target_volatility_scales() -> None:
    model = draw(9, 4)
    plain, sized = po.allocation.risk_parity(model), po.allocation.risk_parity(model, target_volatility=0.1)
    assert sized.volatility == pytest.approx(0.1, rel=1e-12)
    np.testing.assert_allclose(sized.weights / sized.weights.sum(), plain.weights, rtol=1e-12)


def test_budgets_of_groups() -> None:
    model = draw(6, 8)
    groups = {"A0": "x", "A1": "x", "A2": "x", "A3": "x", "A4": "y", "A5": "y"}
    result = po.allocation.risk_parity(model, {"x": 3.0, "y": 1.0}, groups=groups)
    share = shares_of_risk(result.weights, model.dense())
    np.testing.assert_allclose(share.groupby(pd.Series(groups)).sum()[["x", "y"]], [0.75, 0.25], rtol=1e-10)
    np.testing.assert_allclose(share[["A0", "A1", "A2", "A3"]], 0.75 / 4, rtol=1e-10)


def test_contributions_to_cvar() -> None:
    returns = po.data.simple_returns(po.data.sample_prices()).iloc[-500:, :8]
    scenarios = po.ScenarioSet(returns)
    result = po.allocation.risk_parity(scenarios, measure=po.CVaR(0.9))
    q = result.details["tail"].to_numpy()
    part = -result.weights.to_numpy() * (q @ returns.to_numpy())
    np.testing.assert_allclose(part / part.sum(), 1 / 8, rtol=1e-5)
    # the tail is one: it attains the CVaR, computed from sorted losses
    losses = np.sort(-(returns.to_numpy() @ result.weights.to_numpy()))[::-1]
    assert part.sum() == pytest.approx(losses[:50].mean(), rel=1e-9)
    assert (q <= 1 / 500 / 0.1 * (1 + 1e-9)).all()
    # parity of volatility is another portfolio
    assert (result.weights - po.allocation.risk_parity(scenarios).weights).abs().max() > 1e-3


def test_constraints_that_do_not_bind_change_nothing() -> None:
    model = draw(8, 9)
    free = po.allocation.risk_parity(model)
    wide = po.allocation.risk_parity(model, constraints=[po.Bounds(0.0, 0.9)])
    np.testing.assert_allclose(wide.weights, free.weights, rtol=1e-6)


def test_group_limits_hold_and_the_rest_shares_evenly() -> None:
    model = draw(8, 9)
    groups = pd.Series(["x", "x", "y", "y", "y", "y", "y", "y"], model.assets)
    free = po.allocation.risk_parity(model).weights
    most = 0.5 * float(free.iloc[:2].sum())
    result = po.allocation.risk_parity(model, constraints=[po.GroupLimit(groups, upper={"x": most})])
    assert result.weights.iloc[:2].sum() == pytest.approx(most, abs=1e-9)
    rest = result.details["contributions"].iloc[2:]
    np.testing.assert_allclose(rest, rest.mean(), rtol=1e-5)


def test_batch_is_a_loop() -> None:
    covariances = {seed: draw(10, seed).dense() for seed in range(20)}
    weights = po.allocation.risk_parity_batch(covariances)
    for seed, sigma in covariances.items():
        np.testing.assert_allclose(weights.loc[seed], po.allocation.risk_parity(sigma).weights, rtol=1e-9)


def test_bad_input() -> None:
    model = draw(4, 1)
    sigma = model.dense()
    with pytest.raises(po.InputError, match=r"budgets must be positive.*A1"):
        po.allocation.risk_parity(model, {"A0": 1, "A1": 0, "A2": 1, "A3": 1})
    with pytest.raises(po.InputError, match="says nothing about 'A3'"):
        po.allocation.risk_parity(model, {"A0": 1, "A1": 1, "A2": 1})
    with pytest.raises(po.UnknownNameError, match="group in budgets"):
        po.allocation.risk_parity(model, {"z": 1.0}, groups=dict.fromkeys(model.assets, "x"))
    riskless = sigma.copy()
    riskless.loc["A2"] = 0.0
    riskless["A2"] = 0.0
    with pytest.raises(po.InputError, match="'A2' has none"):
        po.allocation.risk_parity(riskless)
    with pytest.raises(po.InputError, match="next to no risk"):
        po.allocation.risk_parity(pd.DataFrame([[1.0, -1.0], [-1.0, 1.0]], ["A", "B"], ["A", "B"]))
    with pytest.raises(po.InputError, match="need scenarios"):
        po.allocation.risk_parity(model, measure=po.CVaR(0.9))
    with pytest.raises(po.InputError, match="takes a covariance"):
        po.allocation.risk_parity(po.data.simple_returns(po.data.sample_prices()))
    with pytest.raises(po.InfeasibleError):
        po.allocation.risk_parity(model, constraints=[po.Bounds(0.0, 0.2)])

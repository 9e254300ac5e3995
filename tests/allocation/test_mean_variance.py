"""Mean-variance portfolios against cvxpy and closed forms, dense and in factored form."""

from __future__ import annotations

import cvxpy as cp
import numpy as np
import pandas as pd
import pytest

import portfolioopt as po

KINDS = ["risk_aversion", "target_return", "target_volatility", "risk_free", "minimum"]


def draw(n: int, seed: int, factors: int = 4) -> tuple[pd.Series, po.estimate.FactorCovariance]:
    g = np.random.default_rng(seed)
    assets = pd.Index([f"A{i}" for i in range(n)])
    names = pd.Index([f"F{k}" for k in range(factors)])
    exposures = pd.DataFrame(0.3 * g.normal(size=(n, factors)), assets, names)
    exposures["F0"] = 1.0 + 0.3 * g.normal(size=n)
    covariance = pd.DataFrame(np.diag(0.03 * 0.6 ** np.arange(factors)), names, names)
    model = po.estimate.FactorCovariance(exposures, covariance, pd.Series(g.uniform(0.01, 0.1, n), assets))
    return pd.Series(0.05 + 0.04 * g.normal(size=n), assets), model


def by_cvxpy(kind: str, mean: np.ndarray, root: np.ndarray, value: float, most: float) -> float:
    """The optimal value of what is maximised."""
    w = cp.Variable(len(mean))
    risk, limits = cp.norm2(root.T @ w), [cp.sum(w) == 1, w >= 0, w <= most]
    if kind == "risk_free":  # homogeneous: y = w / (excess return)
        k = cp.Variable()
        excess = mean - value
        problem = cp.Problem(cp.Minimize(risk), [excess @ w == 1, w >= 0, w <= most * k, cp.sum(w) == k])
        problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-9, tol_gap_rel=1e-9, tol_feas=1e-9)
        return 1.0 / float(problem.value)
    goal = {
        "risk_aversion": mean @ w - 0.5 * value * cp.sum_squares(root.T @ w),
        "target_return": -cp.sum_squares(root.T @ w),
        "target_volatility": mean @ w,
        "minimum": -cp.sum_squares(root.T @ w),
    }[kind]
    if kind == "target_return":
        limits.append(mean @ w >= value)
    if kind == "target_volatility":
        limits.append(risk <= value)
    problem = cp.Problem(cp.Maximize(goal), limits)
    problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-9, tol_gap_rel=1e-9, tol_feas=1e-9)
    return float(problem.value)


@pytest.mark.parametrize("factored", [True, False])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", [0, 1])
def test_against_cvxpy(kind: str, factored: bool, seed: int) -> None:
    mean, model = draw(40, seed)
    sigma = model.dense()
    given = model if factored else sigma
    limits = [po.Budget(1.0), po.Bounds(0.0, 0.15)]
    least = po.allocation.minimum_variance(given, constraints=limits)
    target = float(0.5 * (mean @ least.weights) + 0.5 * mean.nlargest(7).mean())
    value = {
        "risk_aversion": 4.0,
        "target_return": target,
        "target_volatility": 1.2 * least.volatility,
        "risk_free": 0.01,
        "minimum": 0.0,
    }[kind]
    if kind == "minimum":
        result = least
    else:
        result = po.allocation.mean_variance(mean, given, constraints=limits, **{kind: value})
    expected = by_cvxpy(kind, mean.to_numpy(), np.linalg.cholesky(sigma.to_numpy()), value, 0.15)
    assert result.status.name == "optimal"
    assert result.objective == pytest.approx(expected, rel=2e-6)
    assert result.certificate.bound >= expected - 1e-8 * abs(expected)
    assert result.certificate.max_violation <= 1e-8
    w = result.weights.to_numpy()
    assert result.volatility == pytest.approx(float(np.sqrt(w @ sigma.to_numpy() @ w)), rel=1e-10)


def test_closed_form_without_bounds() -> None:
    mean, model = draw(15, 3)
    sigma = model.dense()
    limits = [po.Budget(1.0), po.Bounds(-50.0, 50.0, unit_check=False)]
    inverse = np.linalg.inv(sigma.to_numpy())
    one = np.ones(15)
    least = po.allocation.minimum_variance(sigma, constraints=limits)
    np.testing.assert_allclose(least.weights, inverse @ one / (one @ inverse @ one), atol=1e-6)
    tangency = inverse @ mean.to_numpy()
    best = po.allocation.mean_variance(mean, sigma, risk_free=0.0, constraints=limits)
    assert best.objective == pytest.approx(float(np.sqrt(mean @ tangency)), rel=1e-6)


def test_shadow_prices_are_slopes() -> None:
    """What the utility gains when a cap is loosened, against solving again."""
    mean, model = draw(20, 5)

    def solve(most: float) -> po.Result:
        return po.allocation.mean_variance(
            mean, model, risk_aversion=3.0, constraints=[po.Budget(1.0), po.Bounds(0.0, most)], tolerance=1e-10
        )

    here = solve(0.15)
    prices = here.constraints[here.constraints["binding"] & (here.constraints["sense"] == "<=")]["shadow_price"]
    step = 1e-4
    slope = (solve(0.15 + step).objective - solve(0.15 - step).objective) / (2 * step)
    assert prices.sum() == pytest.approx(slope * 100.0, rel=1e-3)  # basis points for each percentage point


def test_turnover_and_costs_count() -> None:
    mean, model = draw(20, 6)
    held = pd.Series(0.05, model.assets)
    limits = [po.Budget(1.0), po.Bounds(0.0, 0.2)]
    far = po.allocation.mean_variance(mean, model, risk_aversion=3.0, constraints=limits)
    near = po.allocation.mean_variance(
        mean, model, risk_aversion=3.0, constraints=[*limits, po.Turnover(0.3)], holdings=held
    )
    dear = po.allocation.mean_variance(
        mean, model, risk_aversion=3.0, constraints=limits, holdings=held, costs=po.ProportionalCost(bps=300.0)
    )
    assert (near.weights - held).abs().sum() == pytest.approx(0.3, abs=1e-7)
    assert (dear.weights - held).abs().sum() < (far.weights - held).abs().sum()


def test_frontier_runs_from_least_risk_to_greatest_return() -> None:
    mean, model = draw(20, 7)
    sweep = po.allocation.efficient_frontier(mean, model, points=6)
    volatility = [sweep.result_at(i).volatility for i in range(6)]
    gain = [sweep.result_at(i).expected_return for i in range(6)]
    assert np.all(np.diff(volatility) > 0)
    assert np.all(np.diff(gain) > 0)
    assert gain[-1] == pytest.approx(mean.max(), rel=1e-6)
    assert volatility[0] == pytest.approx(po.allocation.minimum_variance(model).volatility, rel=1e-5)


def test_scenarios_give_their_own_covariance() -> None:
    returns = po.data.simple_returns(po.data.sample_prices()).iloc[-300:, :6]
    mean = returns.mean()
    sigma = returns.cov(ddof=0)
    one = po.allocation.mean_variance(mean, po.ScenarioSet(returns), risk_aversion=5.0)
    other = po.allocation.mean_variance(mean, sigma, risk_aversion=5.0)
    assert one.objective == pytest.approx(other.objective, rel=1e-6)
    assert len(one.risk) == 1  # scenarios know their tails
    assert len(other.risk) == 0


def test_what_moments_cannot_answer_is_refused() -> None:
    mean, model = draw(5, 1)
    moments = po.ScenarioSet.from_moments(mean, model)
    limits = [po.Budget(1.0), po.Bounds(0.0, 1.0)]
    for term in (po.CVaR(0.9), po.SemiDeviation(), po.MeanAbsoluteDeviation(), po.EntropicVaR(0.9), po.WorstLoss()):
        with pytest.raises(po.InputError, match="mean and covariance alone"):
            po.Problem(moments, po.ExpectedReturn() - term, limits)
    with pytest.raises(po.InputError, match="mean and covariance alone"):
        _ = moments.returns
    with pytest.raises(po.InputError, match="mean and covariance alone"):
        moments.tail(pd.Series(0.2, model.assets), 0.9)
    result = po.optimize(po.Problem(moments, -po.Variance(), limits))
    with pytest.raises(po.InputError, match="alone"):
        result.tail_scenarios()
    assert np.isnan(po.allocation.minimum_variance(model).expected_return)
    np.testing.assert_allclose(moments.covariance(), model.dense())


def test_bad_input() -> None:
    mean, model = draw(5, 1)
    with pytest.raises(po.InputError, match="none was given"):
        po.allocation.mean_variance(mean, model)
    with pytest.raises(po.InputError, match="risk_aversion and risk_free were given"):
        po.allocation.mean_variance(mean, model, risk_aversion=1.0, risk_free=0.0)
    with pytest.raises(po.InputError, match="risk_aversion must be above 0"):
        po.allocation.mean_variance(mean, model, risk_aversion=0.0)
    with pytest.raises(po.InputError, match="mean says nothing about 'A4'"):
        po.allocation.mean_variance(mean.iloc[:4], model, risk_aversion=1.0)
    with pytest.raises(po.InputError, match="not positive semidefinite"):
        po.allocation.minimum_variance(pd.DataFrame([[1.0, 2.0], [2.0, 1.0]], ["A", "B"], ["A", "B"]))
    with pytest.raises(po.InfeasibleError):
        po.allocation.mean_variance(mean, model, target_return=float(mean.max()) + 0.01)


def test_rules() -> None:
    returns = po.data.simple_returns(po.data.sample_prices())
    equal = po.allocation.equal_weight(returns)
    np.testing.assert_allclose(equal.weights, 0.05)
    inverse = po.allocation.inverse_volatility(returns.cov())
    np.testing.assert_allclose(inverse.weights * returns.std(), (inverse.weights * returns.std()).mean(), rtol=1e-12)
    assert inverse.certificate.gap <= 1e-14
    assert "inverse volatility, met to" in repr(inverse)
    assert isinstance(equal, po.Result)

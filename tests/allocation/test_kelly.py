"""Kelly portfolios: closed forms, cvxpy, finite differences, and the drawdowns of simulated wealth."""

from __future__ import annotations

from typing import Any

import cvxpy as cp
import numpy as np
import pandas as pd
import pytest
from scipy.optimize import brentq, minimize, minimize_scalar

import portfolioopt as po
from portfolioopt.allocation.kelly import (
    CertaintyEquivalentGrowth,
    DrawdownCap,
    gaussian_kelly,
    kelly,
    kelly_bet,
)
from portfolioopt.estimate import FactorCovariance, StatisticalFactors

RETURNS = po.data.simple_returns(po.data.sample_prices()).iloc[-600:, [0, 1, 4, 7]]
SCENARIOS = po.ScenarioSet(RETURNS)
NAMES = RETURNS.columns


def growth(weights: Any, scenarios: po.ScenarioSet = SCENARIOS, cash: float = 0.0) -> float:
    w = np.asarray(weights)
    return float(scenarios.probabilities @ np.log1p(cash + (scenarios.matrix - cash) @ w))


def bets(*odds: tuple[float, float, float]) -> po.ScenarioSet:
    """Independent bets: probability of winning, won and lost per unit.

    Outcomes are repeated until there are as many as days in the returns, nearly, so that one kernel serves both.
    """
    outcomes, chances = np.zeros((1, 0)), np.ones(1)
    for p, won, lost in odds:
        outcomes = np.vstack([np.c_[outcomes, np.full(len(outcomes), x)] for x in (won, -lost)])
        chances = np.concatenate([p * chances, (1.0 - p) * chances])
    again = len(RETURNS) // len(outcomes)
    outcomes, chances = np.tile(outcomes, (again, 1)), np.tile(chances / again, again)
    return po.ScenarioSet(outcomes, chances, assets=[f"B{i}" for i in range(len(odds))])


FOUR = bets((0.6, 1.0, 1.0), (0.5, 1.4, 1.0), (0.4, 2.0, 1.0), (0.3, 1.0, 1.0))


# -- one bet -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("p", "b", "a", "share"),
    [
        (0.6, 1.0, 1.0, 0.2),  # Kelly's own: a coin that comes up heads six times in ten, at even odds
        (0.5, 1.0, 1.0, 0.0),
        (0.5, 2.0, 1.0, 0.25),
        (0.4, 1.0, 1.0, 0.0),
        (0.55, 0.2, 0.1, 3.25),  # a stock that wins 20 % or loses 10 %
        (1.0, 1.0, 0.5, 2.0),
    ],
)
def test_one_bet(p: float, b: float, a: float, share: float) -> None:
    assert kelly_bet(p, b, loss=a) == pytest.approx(share, abs=1e-12)
    if share > 0.0 and p < 1.0:
        found = minimize_scalar(
            lambda f: -p * np.log1p(b * f) - (1 - p) * np.log1p(-a * f), bounds=(0, 1 / a - 1e-9), method="bounded"
        )
        assert kelly_bet(p, b, loss=a) == pytest.approx(found.x, abs=1e-5)


def test_the_kelly_bet_wins_in_the_long_run() -> None:
    """Of gamblers who stake shares of the same throws, the one with Kelly's share ends richest in most games."""
    random = np.random.default_rng(0)
    won = random.binomial(20_000, 0.6, size=200)
    shares = np.array([0.05, 0.1, 0.15, kelly_bet(0.6, 1.0), 0.25, 0.3, 0.4])
    wealth = won[:, None] * np.log1p(shares) + (20_000 - won[:, None]) * np.log1p(-shares)
    best = wealth.argmax(axis=1)
    assert np.mean(best == 3) > 0.95
    # twice the share grows by about nothing, and more than that goes broke
    assert np.median(wealth[:, -1]) < 0.0 < np.median(wealth[:, 3])


# -- portfolios --------------------------------------------------------------------------------------------------
def test_no_other_portfolio_grows_more() -> None:
    result = kelly(SCENARIOS)
    assert result.weights is not None
    assert result.details["growth"] == pytest.approx(growth(result.weights), rel=1e-12)
    random = np.random.default_rng(0)
    others = random.dirichlet(np.full(5, 0.5), size=3000)[:, :4]
    near = np.clip(result.weights.to_numpy() + 0.02 * random.normal(size=(3000, 4)), 0, None)
    near /= np.maximum(near.sum(axis=1, keepdims=True), 1.0)
    best = max(growth(w) for w in np.vstack([others, near]))
    assert best <= result.details["growth"] + 1e-6 * abs(result.details["growth"])
    assert best >= 0.98 * result.details["growth"]


def test_a_simplex_of_bets_by_cvxpy() -> None:
    result = kelly(FOUR, tolerance=1e-9)
    w = cp.Variable(4, nonneg=True)
    problem = cp.Problem(cp.Maximize(FOUR.probabilities @ cp.log(1 + FOUR.matrix @ w)), [cp.sum(w) <= 1])
    problem.solve(cp.CLARABEL)
    assert w.value is not None
    np.testing.assert_allclose(result.weights, w.value, atol=2e-5)
    assert result.details["growth"] >= problem.value - 1e-8
    assert result.weights is not None
    assert result.weights["B3"] == pytest.approx(0.0, abs=1e-8)  # it loses on average


def test_cash_earns() -> None:
    """Growth over cash is growth of discounted returns over a cash of nothing."""
    cash = 0.0004
    found = kelly(SCENARIOS, cash_rate=cash, tolerance=1e-9)
    discounted = po.ScenarioSet((RETURNS - cash) / (1.0 + cash))
    expected = kelly(discounted, tolerance=1e-9)
    np.testing.assert_allclose(found.weights, expected.weights, atol=1e-4)
    assert found.details["growth"] == pytest.approx(expected.details["growth"] + np.log1p(cash), rel=1e-8)
    assert found.details["growth"] == pytest.approx(growth(found.weights, cash=cash), rel=1e-12)
    everything = kelly(SCENARIOS, cash_rate=0.05)
    assert everything.details["cash"] == pytest.approx(1.0, abs=1e-8)
    assert everything.details["growth"] == pytest.approx(np.log1p(0.05), rel=1e-7)


def test_a_fraction_of_the_weights() -> None:
    full, half = kelly(SCENARIOS), kelly(SCENARIOS, fraction=0.5)
    np.testing.assert_allclose(half.weights, 0.5 * full.weights, rtol=1e-12)
    assert half.details["cash"] == pytest.approx(0.5 + 0.5 * full.details["cash"], abs=1e-12)
    assert half.details["growth"] == pytest.approx(growth(0.5 * full.weights), rel=1e-12)
    assert half.details["growth"] < full.details["growth"]
    assert half.status.name == "optimal"
    assert full.certificate is not None
    assert half.certificate is not None
    assert half.certificate.gap == pytest.approx(max(full.certificate.gap, 0.0), abs=1e-12)


# -- terms -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("cash", [0.0, 0.01])
@pytest.mark.parametrize("aversion", [0.0, 3.0])
def test_derivatives_by_differences(aversion: float, cash: float) -> None:
    p = np.random.default_rng(1).dirichlet(np.ones(len(RETURNS)))
    p[3] = 0.0
    scenarios = po.ScenarioSet(10.0 * RETURNS, p / p.sum())
    term = CertaintyEquivalentGrowth(aversion, cash)
    compiled = po.Problem(scenarios, term, [po.Bounds(-1, 1)]).compiled
    w = np.array([0.3, -0.2, 0.4, 0.1])
    value, gradient = term.tangent(compiled.view(w))
    wealth = 1 + cash + (scenarios.matrix - cash) @ w
    q = scenarios.probabilities
    by_hand = q @ np.log(wealth) if aversion == 0 else -np.log(q @ wealth**-aversion) / aversion
    assert term.value(compiled.view(w)) == pytest.approx(by_hand, rel=1e-12)
    assert value == -term.value(compiled.view(w))
    steps = 1e-5 * np.eye(4)
    sides = [(term.tangent(compiled.view(w + s)), term.tangent(compiled.view(w - s))) for s in steps]
    np.testing.assert_allclose(gradient, [(up[0] - down[0]) / 2e-5 for up, down in sides], rtol=1e-6)
    bend = np.array([(up[1] - down[1]) / 2e-5 for up, down in sides])
    np.testing.assert_allclose(term.hessian(compiled.view(w)), bend, rtol=1e-6, atol=1e-10)
    assert term.value(compiled.view(np.array([50.0, 0.0, 0.0, 0.0]))) == -np.inf


# -- drawdowns ---------------------------------------------------------------------------------------------------
def chance_of_falling(scenarios: po.ScenarioSet, weights: Any, share: float, seed: int = 0) -> float:
    """Of 4,000 gamblers, how many fall below a share of what they began with in 1,500 rounds."""
    random = np.random.default_rng(seed)
    logs = np.log1p(scenarios.matrix @ np.asarray(weights))
    level, low = np.zeros(4000), np.zeros(4000)
    for _ in range(1500):
        level += logs[random.choice(len(logs), size=4000, p=scenarios.probabilities)]
        np.minimum(low, level, out=low)
    return float(np.mean(low < np.log(share)))


def test_a_capped_bet_by_root_finding() -> None:
    """One good bet among bad ones, which are left alone."""
    scenarios = bets((0.6, 1.0, 1.0), *[(0.3, 1.0, 1.0)] * 3)
    cap = DrawdownCap(0.7, 0.1)
    assert cap.risk_aversion == pytest.approx(np.log(0.1) / np.log(0.7), rel=1e-15)
    result = kelly(scenarios, drawdown_cap=cap)
    a = cap.risk_aversion
    share = brentq(lambda f: 0.6 * (1 + f) ** -a + 0.4 * (1 - f) ** -a - 1, 1e-3, 0.5, xtol=1e-14)
    assert result.weights is not None
    assert result.weights["B0"] == pytest.approx(share, rel=1e-5)
    assert result.details["moment"] == pytest.approx(1.0, abs=1e-6)
    np.testing.assert_allclose(result.weights.iloc[1:], 0.0, atol=1e-8)
    assert share < kelly_bet(0.6, 1.0)
    assert result.constraints.loc["DrawdownCap", "binding"]


def test_simulated_wealth_keeps_to_the_cap() -> None:
    full, capped = kelly(FOUR), kelly(FOUR, drawdown_cap=DrawdownCap(0.7, 0.1))
    chances = [chance_of_falling(FOUR, result.weights, 0.7) for result in (full, capped)]
    assert chances[1] < 0.1 < chances[0]
    assert chances[1] > 0.02  # the cap is not empty
    assert 0.0 < capped.details["growth"] < full.details["growth"]


def test_a_capped_portfolio_by_another_solver() -> None:
    """Sequential quadratic programming by SciPy: Clarabel through cvxpy gives up on 600 logarithms so close to zero."""
    cap = DrawdownCap(0.9, 0.05)
    result = kelly(SCENARIOS, drawdown_cap=cap)

    def moment(w: Any) -> float:
        return float(np.mean((1 + SCENARIOS.matrix @ w) ** -cap.risk_aversion))

    best = minimize(
        lambda w: -1e4 * growth(w),
        np.full(4, 0.05),
        method="SLSQP",
        bounds=[(0.0, 1.0)] * 4,
        constraints=[
            {"type": "ineq", "fun": lambda w: 1.0 - w.sum()},
            {"type": "ineq", "fun": lambda w: 1e3 * (1.0 - moment(w))},
        ],
        options={"ftol": 1e-12, "maxiter": 500},
    )
    assert best.success
    assert result.details["growth"] == pytest.approx(-1e-4 * best.fun, rel=1e-5)
    np.testing.assert_allclose(result.weights, best.x, atol=2e-3)
    assert result.certificate is not None
    assert result.certificate.gap <= 1e-6
    assert result.details["moment"] == pytest.approx(moment(result.weights), rel=1e-12)
    assert result.details["moment"] <= 1.0 + 1e-9
    # over steps as small as a day's the bound is all but reached; 0.0035 is the standard error of 4,000 games
    assert 0.05 - 4 * 0.0035 < chance_of_falling(SCENARIOS, result.weights, 0.9) < 0.05 + 3 * 0.0035


def test_capped_bets_by_cvxpy() -> None:
    cap = DrawdownCap(0.6, 0.2)
    result = kelly(FOUR, drawdown_cap=cap, tolerance=1e-8)
    w = cp.Variable(4, nonneg=True)
    p, logs = FOUR.probabilities, cp.log(1 + FOUR.matrix @ w)
    problem = cp.Problem(
        cp.Maximize(p @ logs), [cp.sum(w) <= 1, cp.log_sum_exp(np.log(p) - cap.risk_aversion * logs) <= 0]
    )
    problem.solve(cp.CLARABEL)
    assert w.value is not None
    np.testing.assert_allclose(result.weights, w.value, atol=1e-5)


def test_a_cap_that_does_not_bind() -> None:
    free, capped = kelly(SCENARIOS), kelly(SCENARIOS, drawdown_cap=DrawdownCap(0.1, 0.9))
    np.testing.assert_allclose(capped.weights, free.weights, atol=1e-3)
    assert capped.details["growth"] == pytest.approx(free.details["growth"], rel=2e-6)


# -- normal returns ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("factors", [False, True])
def test_gaussian_weights(factors: bool) -> None:
    covariance = StatisticalFactors(2).fit(RETURNS) if factors else RETURNS.cov()
    dense = covariance.dense() if isinstance(covariance, FactorCovariance) else covariance
    result = gaussian_kelly(RETURNS.mean(), covariance, cash_rate=0.0001)
    np.testing.assert_allclose(result.weights, np.linalg.solve(dense, RETURNS.mean() - 0.0001), rtol=1e-9)
    assert result.weights is not None
    w = result.weights
    rate = 0.0001 + (RETURNS.mean() - 0.0001) @ w - 0.5 * w @ dense @ w
    assert result.details["growth"] == pytest.approx(rate, rel=1e-9)
    assert result.details["cash"] == pytest.approx(1.0 - w.sum(), rel=1e-12)
    assert result.status.name == "optimal"


def test_gaussian_weights_are_those_of_many_small_steps() -> None:
    """Over short steps of geometric Brownian motion returns are nearly normal, and mu / sigma^2 grows most."""
    mean, std, steps = 0.06, 0.2, 10_000
    nodes, chances = np.polynomial.hermite_e.hermegauss(20)
    chances = chances / chances.sum()
    returns = np.expm1((mean - 0.5 * std**2) / steps + std * nodes / np.sqrt(steps))
    found = minimize_scalar(lambda f: -chances @ np.log1p(f * returns), bounds=(0, 5), method="bounded")
    one = gaussian_kelly({"A": mean}, pd.DataFrame([[std**2]], ["A"], ["A"]))
    assert one.weights is not None
    assert one.weights["A"] == pytest.approx(1.5, rel=1e-12)
    assert found.x == pytest.approx(1.5, rel=1e-3)
    # and there half the weights are the optimum of an investor with twice the aversion; for large steps they are not
    power = minimize_scalar(lambda f: chances @ (1 + f * returns) ** -1.0, bounds=(0, 5), method="bounded")
    assert power.x == pytest.approx(0.75, rel=2e-3)


def test_half_of_a_lottery_ticket_is_not_power_utility() -> None:
    """One chance in fifty to win sixtyfold: the averse investor holds far less than half of the Kelly share."""
    p, b = 0.02, 60.0
    power = minimize_scalar(lambda f: p / (1 + b * f) + (1 - p) / (1 - f), bounds=(0, 0.5), method="bounded")
    whole = kelly_bet(p, b)
    assert whole == pytest.approx(0.02 - 0.98 / 60, rel=1e-12)
    assert abs(power.x / whole - 0.5) > 0.02


def test_a_singular_covariance_is_refused() -> None:
    doubled = RETURNS.assign(AGAIN=RETURNS.iloc[:, 0])
    with pytest.raises(po.InputError, match="and it is singular"):
        gaussian_kelly(doubled.mean(), doubled.cov())


# -- what is refused ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"fraction": 0.0}, "fraction must be above 0"),
        ({"fraction": 2.0}, "at most 1"),
        ({"fraction": 0.5, "drawdown_cap": DrawdownCap(0.7, 0.1)}, "give one of them"),
        ({"drawdown_cap": (0.7, 0.1)}, "must be a DrawdownCap"),
        ({"cash_rate": -1.5}, "cash_rate must be above -1"),
        ({"returns": RETURNS.to_numpy()}, "frame of returns"),
        ({"returns": po.ScenarioSet.from_moments(None, RETURNS.cov())}, "mean and covariance alone"),
    ],
)
def test_what_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(po.InputError, match=words):
        kelly(**({"returns": RETURNS} | given))


def test_numbers_that_are_refused() -> None:
    for wealth, probability in ((1.0, 0.1), (0.5, 0.0), (0.0, 0.5)):
        with pytest.raises(po.InputError, match="DrawdownCap"):
            DrawdownCap(wealth, probability)
    with pytest.raises(po.InputError, match="at most 1"):
        kelly_bet(1.2, 1.0)
    with pytest.raises(po.InputError, match="odds must be above 0"):
        kelly_bet(0.5, 0.0)

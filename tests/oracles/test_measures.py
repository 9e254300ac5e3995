"""Every measure, weighed and capped, alone and with others, against cvxpy and Clarabel from its textbook definition."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import cvxpy as cp
import numpy as np
import pandas as pd
import pytest

import portfolioopt as po

S, N = 120, 6
NAMES = [f"A{i}" for i in range(N)]
BASE = [po.Budget(), po.Bounds(-0.3, 0.6)]


class Market:
    """Random scenarios with probabilities, a stressed set, holdings and a benchmark; and cvxpy's variable."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        factors = 0.008 * rng.standard_t(4, size=(S, 2))
        self.R = factors @ rng.normal(1.0, 0.5, (2, N)) + 0.01 * rng.standard_t(4, size=(S, N))
        self.R += 0.0005 * rng.normal(size=N)
        self.p = rng.dirichlet(np.full(S, 3.0))
        self.mu = self.p @ self.R
        self.stress = 2.0 * self.R[: S // 2] - 0.005
        self.h, self.b = rng.dirichlet(np.ones(N)), rng.dirichlet(np.full(N, 3.0))
        root = 0.1 * rng.normal(size=(N, N))
        self.cov = 1e-3 * (root @ root.T + 0.05 * np.eye(N))
        self.exposures = rng.normal(1.0, 0.5, (N, 2))
        self.scenarios = po.ScenarioSet(pd.DataFrame(self.R, pd.bdate_range("2020", periods=S), NAMES), self.p)
        self.stressed = po.ScenarioSet(pd.DataFrame(self.stress, columns=NAMES))
        self.w = cp.Variable(N)
        self.more: list[Any] = []

    def series(self, values: np.ndarray) -> pd.Series:
        return pd.Series(values, NAMES)

    @property
    def covariance(self) -> pd.DataFrame:
        return pd.DataFrame(self.cov, NAMES, NAMES)

    def factors(self) -> po.FactorCovariance:
        frame = pd.DataFrame(self.exposures, NAMES, ["f", "g"])
        return po.FactorCovariance(frame, pd.DataFrame(1e-4 * np.eye(2), ["f", "g"], ["f", "g"]), 5e-5)

    def cvar(self, losses: Any, p: np.ndarray, beta: float) -> Any:
        t = cp.Variable()
        return t + (p / (1.0 - beta)) @ cp.pos(losses - t)

    def path(self) -> Any:
        peak, value = cp.Variable(S + 1), cp.cumsum(self.R @ self.w)
        self.more += [peak[0] == 0, peak[1:] >= peak[:-1], peak[1:] >= value]
        return peak[1:] - value

    def entropic(self, beta: float) -> Any:
        z, t, v = cp.Variable(), cp.Variable(), cp.Variable(S)
        unit = np.ones(S)
        self.more += [cp.ExpCone(-100.0 * self.R @ self.w - t, cp.multiply(unit, z), v), self.p @ v <= z]
        return (t - z * np.log(1.0 - beta)) / 100.0

    def deviation(self) -> Any:
        return cp.multiply(np.sqrt(self.p), (self.R - self.mu) @ self.w)


Pair = tuple[Callable[[Market], Any], Callable[[Market], Any]]
EVEN = np.full(S, 1.0 / S)
MEASURES: dict[str, Pair] = {
    "two levels": (
        lambda m: 0.5 * po.CVaR(0.9) + 0.5 * po.CVaR(0.99),
        lambda m: 0.5 * m.cvar(-m.R @ m.w, m.p, 0.9) + 0.5 * m.cvar(-m.R @ m.w, m.p, 0.99),
    ),
    "stressed set": (
        lambda m: po.CVaR(0.9, scenarios=m.stressed) + po.CVaR(0.95),
        lambda m: m.cvar(-m.stress @ m.w, EVEN[: S // 2] * 2, 0.9) + m.cvar(-m.R @ m.w, m.p, 0.95),
    ),
    "active": (
        lambda m: po.CVaR(0.9, benchmark=m.series(m.b)),
        lambda m: m.cvar(-m.R @ (m.w - m.b), m.p, 0.9),
    ),
    "spectral": (
        lambda m: po.SpectralRisk({0.9: 0.3, 0.99: 0.7}),
        lambda m: 0.3 * m.cvar(-m.R @ m.w, m.p, 0.9) + 0.7 * m.cvar(-m.R @ m.w, m.p, 0.99),
    ),
    "worst loss": (lambda m: po.WorstLoss(), lambda m: cp.max(-m.R @ m.w)),
    "worst case": (
        lambda m: po.WorstCase(po.CVaR(0.95), po.CVaR(0.9, scenarios=m.stressed), po.MeanAbsoluteDeviation()),
        lambda m: cp.maximum(
            m.cvar(-m.R @ m.w, m.p, 0.95),
            m.cvar(-m.stress @ m.w, EVEN[: S // 2] * 2, 0.9),
            m.p @ cp.abs(m.R @ m.w - m.mu @ m.w),
        ),
    ),
    "mean absolute deviation": (
        lambda m: po.MeanAbsoluteDeviation(),
        lambda m: m.p @ cp.abs(m.R @ m.w - m.mu @ m.w),
    ),
    "shortfall": (lambda m: po.ExpectedShortfallBelow(0.001), lambda m: m.p @ cp.pos(0.001 - m.R @ m.w)),
    "gross": (
        lambda m: 0.01 * po.GrossExposure() + po.CVaR(0.9),
        lambda m: 0.01 * cp.norm1(m.w) + m.cvar(-m.R @ m.w, m.p, 0.9),
    ),
    "long": (
        lambda m: 0.01 * po.LongExposure() + po.CVaR(0.9),
        lambda m: 0.01 * cp.sum(cp.pos(m.w)) + m.cvar(-m.R @ m.w, m.p, 0.9),
    ),
    "costs": (
        lambda m: po.ProportionalCost(bps=30, sell=10) + po.CVaR(0.9) + po.BorrowCost(20),
        lambda m: (
            0.003 * cp.sum(cp.pos(m.w - m.h))
            + 0.001 * cp.sum(cp.pos(m.h - m.w))
            + m.cvar(-m.R @ m.w, m.p, 0.9)
            + 0.002 * cp.sum(cp.neg(m.w))
        ),
    ),
    "buys": (
        lambda m: 0.01 * po.TradedAmount("buy") + po.CVaR(0.9),
        lambda m: 0.01 * cp.sum(cp.pos(m.w - m.h)) + m.cvar(-m.R @ m.w, m.p, 0.9),
    ),
    "active share": (
        lambda m: 0.01 * po.ActiveShare(m.series(m.b)) + po.CVaR(0.9),
        lambda m: 0.005 * cp.norm1(m.w - m.b) + m.cvar(-m.R @ m.w, m.p, 0.9),
    ),
    "robust, norm 1": (
        lambda m: po.RobustCVaR(0.9, 0.001, norm=1),
        lambda m: m.cvar(-m.R @ m.w, m.p, 0.9) + 0.01 * cp.norm_inf(m.w),
    ),
    "robust, norm inf": (
        lambda m: po.RobustCVaR(0.9, 0.001, norm="inf"),
        lambda m: m.cvar(-m.R @ m.w, m.p, 0.9) + 0.01 * cp.norm1(m.w),
    ),
    "robust, norm 2": (
        lambda m: po.RobustCVaR(0.9, 0.001),
        lambda m: m.cvar(-m.R @ m.w, m.p, 0.9) + 0.01 * cp.norm(m.w),
    ),
    "box": (
        lambda m: po.MeanUncertainty(0.001) + po.CVaR(0.9),
        lambda m: m.cvar(-m.R @ m.w, m.p, 0.9) + 0.001 * cp.norm1(m.w),
    ),
    "ellipsoid": (
        lambda m: po.EllipsoidUncertainty(m.covariance, 0.3) + po.CVaR(0.9),
        lambda m: m.cvar(-m.R @ m.w, m.p, 0.9) + 0.3 * cp.norm(np.linalg.cholesky(m.cov).T @ m.w),
    ),
    "variance": (lambda m: 50.0 * po.Variance(), lambda m: 50.0 * cp.sum_squares(m.deviation())),
    "variance of a covariance": (
        lambda m: 50.0 * po.Variance(m.covariance),
        lambda m: 50.0 * cp.sum_squares(np.linalg.cholesky(m.cov).T @ m.w),
    ),
    "variance of factors": (
        lambda m: 50.0 * po.Variance(m.factors()),
        lambda m: 50.0 * (1e-4 * cp.sum_squares(m.exposures.T @ m.w) + 5e-5 * cp.sum_squares(m.w)),
    ),
    "volatility": (lambda m: po.Volatility(), lambda m: cp.norm(m.deviation())),
    "tracking error": (
        lambda m: po.TrackingError(covariance=m.covariance, benchmark=m.series(m.b)),
        lambda m: cp.norm(np.linalg.cholesky(m.cov).T @ (m.w - m.b)),
    ),
    "semi-deviation": (
        lambda m: po.SemiDeviation(),
        lambda m: cp.norm(cp.multiply(np.sqrt(m.p), cp.pos(-(m.R - m.mu) @ m.w))),
    ),
    "semi-deviation below a target": (
        lambda m: po.SemiDeviation(0.001),
        lambda m: cp.norm(cp.multiply(np.sqrt(m.p), cp.pos(0.001 - m.R @ m.w))),
    ),
    "entropic": (lambda m: po.EntropicVaR(0.9), lambda m: m.entropic(0.9)),
    "conditional drawdown": (lambda m: po.ConditionalDrawdown(0.9), lambda m: m.cvar(m.path(), EVEN, 0.9)),
    "mean drawdown": (lambda m: po.ConditionalDrawdown(0.0), lambda m: cp.sum(m.path()) / S),
    "largest drawdown": (lambda m: po.MaxDrawdown(), lambda m: cp.max(m.path())),
    "impact": (
        lambda m: po.PowerCost(0.01) + po.CVaR(0.9),
        lambda m: 0.01 * cp.sum(cp.power(cp.abs(m.w - m.h), 1.5)) + m.cvar(-m.R @ m.w, m.p, 0.9),
    ),
    "quadratic cost": (
        lambda m: po.PowerCost(0.01, exponent=2) + po.CVaR(0.9),
        lambda m: 0.01 * cp.sum_squares(m.w - m.h) + m.cvar(-m.R @ m.w, m.p, 0.9),
    ),
    "ridge": (
        lambda m: po.Ridge(0.01, centre=m.series(m.b)) + po.CVaR(0.9),
        lambda m: 0.01 * cp.sum_squares(m.w - m.b) + m.cvar(-m.R @ m.w, m.p, 0.9),
    ),
    "growth": (lambda m: -1.0 * po.LogGrowth(), lambda m: -m.p @ cp.log(1.0 + m.R @ m.w)),
    "variance and CVaR": (
        lambda m: 20.0 * po.Variance() + po.CVaR(0.95),
        lambda m: 20.0 * cp.sum_squares(m.deviation()) + m.cvar(-m.R @ m.w, m.p, 0.95),
    ),
}


def market(seed: int) -> Market:
    return Market(seed)


def best(m: Market, gain: Any, limits: list[Any]) -> float:
    problem = cp.Problem(cp.Maximize(gain), [cp.sum(m.w) == 1, m.w >= -0.3, m.w <= 0.6, *limits, *m.more])
    solve(problem)
    assert problem.status in ("optimal", "optimal_inaccurate")
    return float(problem.value)


def solve(problem: cp.Problem) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # tighter than it can promise; `agrees` allows for that
        problem.solve(solver="CLARABEL", warm_start=False, tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)


def agrees(result: po.Result, optimum: float) -> None:
    c = result.certificate
    assert c is not None
    assert result.status is po.Status.optimal
    assert c.gap <= 1e-6
    assert c.max_violation <= 1e-8
    # Clarabel's own accuracy on cones is some 1e-7
    assert result.objective == pytest.approx(optimum, rel=0, abs=1e-6 * c.scale + 1e-9)
    assert c.bound >= optimum - 2e-7 * c.scale - 1e-9


@cache
def smallest(name: str, seed: int) -> float:
    m = market(seed)
    ours, _ = MEASURES[name]
    least = po.optimize(po.Problem(m.scenarios, -1.0 * ours(m), BASE, holdings=m.series(m.h)))
    return -least.objective


SEEDS = [pytest.param(0), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 3))]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", MEASURES)
def test_a_measure_in_the_objective(name: str, seed: int) -> None:
    m = market(seed)
    ours, theirs = MEASURES[name]
    result = po.optimize(po.Problem(m.scenarios, po.ExpectedReturn() - ours(m), BASE, holdings=m.series(m.h)))
    agrees(result, best(m, m.mu @ m.w - theirs(m), []))
    # what the report says of the terms is what the definitions give at the weights
    weights = result.weights.to_numpy()
    m.more = []  # auxiliaries of the first problem would float freely in this one, which Clarabel minds
    measured = theirs(m)
    value = cp.Problem(cp.Minimize(measured), [m.w == weights, *m.more])
    solve(value)
    assert result.objective == pytest.approx(float(m.mu @ weights) - value.value, rel=1e-6, abs=1e-8)


QUICK = ("spectral", "mean absolute deviation", "volatility", "conditional drawdown", "costs", "growth")


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in MEASURES]
)
def test_a_measure_as_a_limit(name: str, seed: int) -> None:
    m = market(seed)
    ours, theirs = MEASURES[name]
    least = smallest(name, seed)
    limit = least + 0.3 * abs(least) + 1e-7
    problem = po.Problem(m.scenarios, po.ExpectedReturn(), [*BASE, ours(m) <= limit], holdings=m.series(m.h))
    result = po.optimize(problem)
    agrees(result, best(m, m.mu @ m.w, [theirs(m) <= limit]))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("risk", "oracle"),
    [
        (po.CVaR(0.95), lambda m, y: m.cvar(-m.R @ y, m.p, 0.95)),
        (po.Volatility(), lambda m, y: cp.norm(cp.multiply(np.sqrt(m.p), (m.R - m.mu) @ y))),
        (po.MeanAbsoluteDeviation(), lambda m, y: m.p @ cp.abs((m.R - m.mu) @ y)),
    ],
)
def test_a_largest_ratio(risk: Any, oracle: Callable[[Market, Any], Any], seed: int) -> None:
    """By Charnes & Cooper (1962): the largest reward of portfolios of any size with a risk of one."""
    m = market(seed)
    mean = m.mu + 0.002  # so that a reward exists
    y, size = cp.Variable(N), cp.Variable(nonneg=True)
    limits = [cp.sum(y) == size, y >= 0, y <= 0.4 * size, 100.0 * oracle(m, y) <= 1.0]
    homogenised = cp.Problem(cp.Maximize(mean @ y), limits)
    solve(homogenised)
    reward = po.ExpectedReturn(m.series(mean))
    result = po.optimize(po.Problem(m.scenarios, reward / risk, [po.Budget(), po.Bounds(0.0, 0.4)]))
    assert result.certificate.gap <= 1e-6
    assert result.objective == pytest.approx(100.0 * homogenised.value, rel=1e-6)
    assert result.certificate.bound >= 100.0 * homogenised.value * (1.0 - 1e-6)


def test_a_ratio_without_a_reward_or_without_a_risk() -> None:
    m = market(0)
    poor = m.series(np.full(N, -0.001))
    with pytest.raises(po.InfeasibleError, match="no allowed portfolio has a positive"):
        po.optimize(po.Problem(m.scenarios, po.ExpectedReturn(poor) / po.CVaR(0.9), [po.Budget(), po.Bounds()]))
    with pytest.raises(po.UnboundedError, match="must be positive"):
        po.optimize(
            po.Problem(
                m.scenarios,
                po.ExpectedReturn() / po.TrackingError(benchmark=m.series(m.b)),
                [po.Budget(), po.Bounds()],
            )
        )

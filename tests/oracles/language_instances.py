"""Random problems over the whole language, with every measure and constraint also written down in NumPy.

A `Measured` is a term with its value, a `Ruled` a constraint with its violation; both functions take plain weights and
look at nothing of the library's. Every constraint is drawn so that one known portfolio, the anchor, meets it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

import portfolioopt as po
from portfolioopt.problem.curved import EuclideanNorm

from .instances import weighted_cvar

FloatArray: TypeAlias = npt.NDArray[np.float64]
Number: TypeAlias = Callable[[FloatArray], float]


class Measured(NamedTuple):
    """A term, its value at weights, and a coefficient with which it matters next to a daily return."""

    term: Any
    value: Number
    price: float = 0.5


class Ruled(NamedTuple):
    """A constraint that the anchor meets, the sum of its lines' violations, and what a violation may cost."""

    constraint: Any
    violation: Number
    penalty: float = 0.02


class Market:
    """Scenarios with probabilities, a stressed set, holdings, a benchmark, covariances, sectors and an anchor."""

    def __init__(self, seed: int, *, short: bool | None = None, small: bool = False, real: bool = False) -> None:
        self.rng = rng = np.random.default_rng([20_240_517, seed])
        self.S, self.N = S, N = (60, 5) if small else (110, 7)  # few sizes: every shape of a program is compiled
        self.names = [f"A{i}" for i in range(N)]
        loadings = rng.normal(1.0, 0.6, (2, N))
        self.R = 0.008 * rng.standard_t(4, size=(S, 2)) @ loadings + 0.01 * rng.standard_t(4, size=(S, N))
        self.R += 0.001 * rng.normal(size=N)
        if real:  # some of the bundled shares, for some months
            history = po.data.simple_returns(po.data.sample_prices()).to_numpy()
            first = int(rng.integers(len(history) - S))
            self.R = history[first : first + S, rng.choice(history.shape[1], N, replace=False)]
        self.p = np.full(S, 1.0 / S) if seed % 2 else rng.dirichlet(np.full(S, 2.0))
        if seed % 4 == 2:
            self.p[rng.choice(S, 5, replace=False)] = 0.0
            self.p /= self.p.sum()
        self.stress = 2.0 * self.R[: S // 2] - 0.003
        self.scenarios = po.ScenarioSet(pd.DataFrame(self.R, pd.bdate_range("2020", periods=S), self.names), self.p)
        self.p = np.asarray(self.scenarios.probabilities)
        self.stressed = po.ScenarioSet(pd.DataFrame(self.stress, columns=self.names))
        self.q = np.full(len(self.stress), 1.0 / len(self.stress))
        self.mu = self.p @ self.R
        self.h, self.b = rng.dirichlet(np.ones(N)), rng.dirichlet(np.full(N, 3.0))
        root = rng.normal(size=(N, N))
        self.cov = 2e-5 * (root @ root.T + 0.1 * np.eye(N))
        self.exposures = rng.normal(1.0, 0.5, (N, 2))
        factor_root = rng.normal(size=(2, 2))
        self.factor_cov = 1e-4 * (factor_root @ factor_root.T)
        self.idiosyncratic = rng.uniform(1e-5, 1e-4, N)
        self.sectors = np.array(["x", "y", "z"])[np.arange(N) % 3]
        self.low = -0.25 if (seed % 5 < 2 if short is None else short) else 0.0
        self.anchor = rng.dirichlet(np.full(N, 2.0))

    # -- labels --------------------------------------------------------------------------------------------------
    def series(self, values: FloatArray) -> pd.Series:
        """Values by asset, in an order that is not that of the scenarios."""
        return pd.Series(values, self.names).iloc[::-1]

    @property
    def covariance(self) -> pd.DataFrame:
        return pd.DataFrame(self.cov, self.names, self.names).iloc[::-1, ::-1]

    def factors(self) -> po.FactorCovariance:
        exposures = pd.DataFrame(self.exposures, self.names, ["f", "g"]).iloc[::-1]
        cov = pd.DataFrame(self.factor_cov, ["f", "g"], ["f", "g"]).iloc[::-1, ::-1]
        return po.FactorCovariance(exposures, cov, self.series(self.idiosyncratic))

    @property
    def factored(self) -> FloatArray:
        return self.exposures @ self.factor_cov @ self.exposures.T + np.diag(self.idiosyncratic)

    def base(self) -> list[Any]:
        return [po.Budget(), po.Bounds(self.low, 0.6 if self.anchor.max() < 0.6 else 1.0)]

    def own_base(self) -> list[Number]:
        high = 0.6 if self.anchor.max() < 0.6 else 1.0
        return [
            lambda w: abs(w.sum() - 1.0),
            lambda w: float(np.maximum(self.low - w, w - high).clip(min=0.0).max()),
        ]

    def problem(self, objective: Any, constraints: list[Any]) -> po.Problem:
        return po.Problem(self.scenarios, objective, constraints, holdings=self.series(self.h))

    def beta(self) -> float:
        return float(self.rng.choice([0.75, 0.9, 0.95, 0.97]))


# -- values ----------------------------------------------------------------------------------------------------------
def entropic(losses: FloatArray, p: FloatArray, beta: float) -> float:
    losses, p = losses[p > 0], p[p > 0]

    def at(log_z: float) -> float:
        z = np.exp(log_z)
        return float(z * (logsumexp(losses / z, b=p) - np.log1p(-beta)))

    grid = np.linspace(-14.0, 3.0, 120)
    start = float(grid[int(np.argmin([at(x) for x in grid]))])
    found = minimize_scalar(at, bounds=(start - 0.3, start + 0.3), method="bounded", options={"xatol": 1e-9})
    return min(float(found.fun), float(losses.max()))


def drawdowns(returns: FloatArray) -> FloatArray:
    total, peak, found = 0.0, 0.0, []
    for r in returns:
        total += r
        peak = max(peak, total)
        found.append(peak - total)
    return np.array(found)


def deviation(x: FloatArray, p: FloatArray) -> float:
    return float(np.sqrt(p @ (x - p @ x) ** 2))


# -- measures --------------------------------------------------------------------------------------------------------
MEASURES: dict[str, Callable[[Market], Measured]] = {}
CONCAVE = ("growth", "growth stressed")


def measure(name: str) -> Callable[[Callable[[Market], Measured]], Callable[[Market], Measured]]:
    def keep(make: Callable[[Market], Measured]) -> Callable[[Market], Measured]:
        MEASURES[name] = make
        return make

    return keep


@measure("cvar")
def _(m: Market) -> Measured:
    beta = m.beta()
    return Measured(po.CVaR(beta), lambda w: weighted_cvar(-m.R @ w, m.p, beta))


@measure("cvar stressed")
def _(m: Market) -> Measured:
    beta = m.beta()
    return Measured(po.CVaR(beta, scenarios=m.stressed), lambda w: weighted_cvar(-m.stress @ w, m.q, beta))


@measure("cvar reweighted")
def _(m: Market) -> Measured:
    p = m.rng.dirichlet(np.full(m.S, 1.0))
    return Measured(po.CVaR(0.9, scenarios=m.scenarios.reweighted(p)), lambda w: weighted_cvar(-m.R @ w, p, 0.9))


@measure("cvar active")
def _(m: Market) -> Measured:
    return Measured(
        po.CVaR(0.9, benchmark=m.series(m.b)), lambda w: weighted_cvar(-m.R @ (w - m.b), m.p, 0.9), price=1.0
    )


@measure("spectral")
def _(m: Market) -> Measured:
    a = float(m.rng.uniform(0.2, 0.8))
    return Measured(
        po.SpectralRisk({0.8: a, 0.95: 1.0 - a}),
        lambda w: a * weighted_cvar(-m.R @ w, m.p, 0.8) + (1.0 - a) * weighted_cvar(-m.R @ w, m.p, 0.95),
    )


@measure("worst loss")
def _(m: Market) -> Measured:
    return Measured(po.WorstLoss(), lambda w: float((-m.R @ w)[m.p > 0].max()), price=0.3)


@measure("worst case")
def _(m: Market) -> Measured:
    return Measured(
        po.WorstCase(po.CVaR(0.95), po.CVaR(0.75, scenarios=m.stressed), po.MeanAbsoluteDeviation()),
        lambda w: max(
            weighted_cvar(-m.R @ w, m.p, 0.95),
            weighted_cvar(-m.stress @ w, m.q, 0.75),
            float(m.p @ np.abs((m.R - m.mu) @ w)),
        ),
    )


@measure("worst case of bent ones")
def _(m: Market) -> Measured:
    return Measured(
        po.WorstCase(po.Volatility(), po.Volatility(m.covariance), po.ExpectedShortfallBelow(0.0)),
        lambda w: max(deviation(m.R @ w, m.p), float(np.sqrt(w @ m.cov @ w)), float(m.p @ np.maximum(-m.R @ w, 0.0))),
        price=1.0,
    )


@measure("mean absolute deviation")
def _(m: Market) -> Measured:
    return Measured(po.MeanAbsoluteDeviation(), lambda w: float(m.p @ np.abs((m.R - m.mu) @ w)), price=1.0)


@measure("mean absolute deviation stressed")
def _(m: Market) -> Measured:
    centred = m.stress - m.q @ m.stress
    return Measured(po.MeanAbsoluteDeviation(m.stressed), lambda w: float(m.q @ np.abs(centred @ w)), price=1.0)


@measure("shortfall")
def _(m: Market) -> Measured:
    target = float(m.rng.normal(0.0, 0.003))
    return Measured(
        po.ExpectedShortfallBelow(target), lambda w: float(m.p @ np.maximum(target - m.R @ w, 0.0)), price=1.0
    )


@measure("gross")
def _(m: Market) -> Measured:
    return Measured(po.GrossExposure(), lambda w: float(np.abs(w).sum()), price=0.002)


@measure("gross of some")
def _(m: Market) -> Measured:
    return Measured(po.GrossExposure(m.names[1:3]), lambda w: float(np.abs(w[1:3]).sum()), price=0.002)


@measure("long")
def _(m: Market) -> Measured:
    return Measured(po.LongExposure(m.names[:3]), lambda w: float(w[:3].clip(min=0.0).sum()), price=0.002)


@measure("short")
def _(m: Market) -> Measured:
    return Measured(po.ShortExposure(), lambda w: float((-w).clip(min=0.0).sum()), price=0.002)


@measure("active share")
def _(m: Market) -> Measured:
    return Measured(po.ActiveShare(m.series(m.b)), lambda w: 0.5 * float(np.abs(w - m.b).sum()), price=0.004)


@measure("box of means")
def _(m: Market) -> Measured:
    width = m.rng.uniform(0.0, 0.002, m.N)
    return Measured(po.MeanUncertainty(m.series(width)), lambda w: float(width @ np.abs(w)), price=1.0)


@measure("costs")
def _(m: Market) -> Measured:
    buy, sell = m.rng.uniform(0.0, 40.0, m.N), m.rng.uniform(0.0, 40.0, m.N)
    return Measured(
        po.ProportionalCost(m.series(buy), sell=m.series(sell)),
        lambda w: float(buy @ (w - m.h).clip(min=0.0) + sell @ (m.h - w).clip(min=0.0)) / 1e4,
        price=1.0,
    )


@measure("cost")
def _(m: Market) -> Measured:
    return Measured(po.ProportionalCost(20.0), lambda w: 0.002 * float(np.abs(w - m.h).sum()), price=1.0)


@measure("borrowing")
def _(m: Market) -> Measured:
    bps = m.rng.uniform(0.0, 30.0, m.N)
    return Measured(po.BorrowCost(m.series(bps)), lambda w: float(bps @ (-w).clip(min=0.0)) / 1e4, price=1.0)


@measure("trades")
def _(m: Market) -> Measured:
    return Measured(po.TradedAmount(), lambda w: float(np.abs(w - m.h).sum()), price=0.002)


@measure("buys")
def _(m: Market) -> Measured:
    return Measured(po.TradedAmount("buy"), lambda w: float((w - m.h).clip(min=0.0).sum()), price=0.002)


@measure("sells")
def _(m: Market) -> Measured:
    return Measured(po.TradedAmount("sell"), lambda w: float((m.h - w).clip(min=0.0).sum()), price=0.002)


@measure("variance")
def _(m: Market) -> Measured:
    return Measured(po.Variance(), lambda w: deviation(m.R @ w, m.p) ** 2, price=30.0)


@measure("variance stressed")
def _(m: Market) -> Measured:
    return Measured(po.Variance(scenarios=m.stressed), lambda w: deviation(m.stress @ w, m.q) ** 2, price=10.0)


@measure("variance of a covariance")
def _(m: Market) -> Measured:
    return Measured(po.Variance(m.covariance), lambda w: float(w @ m.cov @ w), price=30.0)


@measure("variance of factors")
def _(m: Market) -> Measured:
    return Measured(po.Variance(m.factors()), lambda w: float(w @ m.factored @ w), price=30.0)


@measure("volatility")
def _(m: Market) -> Measured:
    return Measured(po.Volatility(), lambda w: deviation(m.R @ w, m.p))


@measure("volatility of factors")
def _(m: Market) -> Measured:
    return Measured(po.Volatility(m.factors()), lambda w: float(np.sqrt(w @ m.factored @ w)))


@measure("tracking error")
def _(m: Market) -> Measured:
    return Measured(po.TrackingError(benchmark=m.series(m.b)), lambda w: deviation(m.R @ (w - m.b), m.p))


@measure("tracking error of a covariance")
def _(m: Market) -> Measured:
    return Measured(
        po.TrackingError(covariance=m.covariance, benchmark=m.series(m.b)),
        lambda w: float(np.sqrt((w - m.b) @ m.cov @ (w - m.b))),
    )


@measure("active variance")
def _(m: Market) -> Measured:
    return Measured(
        po.ActiveVariance(m.series(m.b), m.covariance), lambda w: float((w - m.b) @ m.cov @ (w - m.b)), price=30.0
    )


@measure("ellipsoid of means")
def _(m: Market) -> Measured:
    omega = m.cov / 20.0
    frame = pd.DataFrame(omega, m.names, m.names)
    return Measured(po.EllipsoidUncertainty(frame, 1.5), lambda w: 1.5 * float(np.sqrt(w @ omega @ w)), price=1.0)


@measure("semi-deviation")
def _(m: Market) -> Measured:
    return Measured(
        po.SemiDeviation(), lambda w: float(np.sqrt(m.p @ np.maximum((m.mu - m.R) @ w, 0.0) ** 2)), price=1.0
    )


@measure("semi-deviation below a target")
def _(m: Market) -> Measured:
    target = float(m.rng.normal(0.0, 0.002))
    return Measured(
        po.SemiDeviation(target), lambda w: float(np.sqrt(m.p @ np.maximum(target - m.R @ w, 0.0) ** 2)), price=1.0
    )


@measure("entropic")
def _(m: Market) -> Measured:
    beta = float(m.rng.choice([0.8, 0.9, 0.95]))
    return Measured(po.EntropicVaR(beta), lambda w: entropic(-m.R @ w, m.p, beta), price=0.3)


@measure("conditional drawdown")
def _(m: Market) -> Measured:
    beta, even = float(m.rng.choice([0.0, 0.8, 0.9])), np.full(m.S, 1.0 / m.S)
    return Measured(
        po.ConditionalDrawdown(beta),
        lambda w: weighted_cvar(drawdowns(m.R @ w), even, beta) if beta else float(drawdowns(m.R @ w).mean()),
        price=0.1,
    )


@measure("conditional drawdown of a path")
def _(m: Market) -> Measured:
    return Measured(
        po.ConditionalDrawdown(0.8, path=m.stressed),
        lambda w: weighted_cvar(drawdowns(m.stress @ w), m.q, 0.8),
        price=0.05,
    )


@measure("largest drawdown")
def _(m: Market) -> Measured:
    return Measured(po.MaxDrawdown(), lambda w: float(drawdowns(m.R @ w).max()), price=0.1)


@measure("impact")
def _(m: Market) -> Measured:
    rate, a = m.rng.uniform(0.002, 0.02, m.N), float(m.rng.choice([1.25, 1.5, 1.6, 2.0]))
    return Measured(po.PowerCost(m.series(rate), exponent=a), lambda w: float(rate @ np.abs(w - m.h) ** a), price=1.0)


@measure("ridge")
def _(m: Market) -> Measured:
    rate = m.rng.uniform(0.002, 0.02, m.N)
    return Measured(po.Ridge(m.series(rate), centre=m.series(m.b)), lambda w: float(rate @ (w - m.b) ** 2), price=1.0)


@measure("length")
def _(m: Market) -> Measured:
    return Measured(EuclideanNorm(), lambda w: float(np.linalg.norm(w)), price=0.005)


@measure("growth")
def _(m: Market) -> Measured:
    return Measured(po.LogGrowth(), lambda w: float(m.p @ np.log1p(m.R @ w)), price=1.0)


@measure("growth stressed")
def _(m: Market) -> Measured:
    return Measured(po.LogGrowth(m.stressed), lambda w: float(m.q @ np.log1p(m.stress @ w)), price=1.0)


def _robust(norm: int | str, order: Any) -> None:
    @measure(f"robust, norm {norm}")
    def _(m: Market) -> Measured:
        beta, radius = float(m.rng.choice([0.8, 0.9])), float(m.rng.uniform(1e-4, 1e-3))
        return Measured(
            po.RobustCVaR(beta, radius, norm=norm),
            lambda w: weighted_cvar(-m.R @ w, m.p, beta) + radius / (1.0 - beta) * float(np.linalg.norm(w, order)),
        )


for _norm, _order in ((1, np.inf), (2, 2), ("inf", 1)):
    _robust(_norm, _order)


# -- constraints -----------------------------------------------------------------------------------------------------
RULES: dict[str, Callable[[Market], Ruled]] = {}


def rule(name: str) -> Callable[[Callable[[Market], Ruled]], Callable[[Market], Ruled]]:
    def keep(make: Callable[[Market], Ruled]) -> Callable[[Market], Ruled]:
        RULES[name] = make
        return make

    return keep


def over(value: float, limit: float) -> float:
    return max(value - limit, 0.0)


def slack(m: Market, size: float) -> float:
    """How far a limit is from the anchor: sometimes hardly at all."""
    return float(size * m.rng.choice([0.02, 0.2, 0.6]))


@rule("budget range")
def _(m: Market) -> Ruled:
    return Ruled(po.Budget(lower=0.9, upper=1.1, name="Invested"), lambda w: over(0.9, w.sum()) + over(w.sum(), 1.1))


@rule("bounds by asset")
def _(m: Market) -> Ruled:
    lower, upper = m.anchor - slack(m, 0.3), m.anchor + slack(m, 0.3)
    upper[0] = np.inf
    return Ruled(
        po.Bounds(m.series(lower), m.series(upper), name="Box"),
        lambda w: float((lower - w).clip(min=0.0).sum() + (w - upper).clip(min=0.0).sum()),
    )


@rule("groups")
def _(m: Market) -> Ruled:
    x, z = m.sectors == "x", m.sectors == "z"
    high, low = m.anchor[x].sum() + slack(m, 0.2), m.anchor[z].sum() - slack(m, 0.2)
    labels = pd.Series(m.sectors, m.names).iloc[::-1]
    return Ruled(
        po.GroupLimit(labels, upper={"x": high}, lower={"z": low}),
        lambda w: over(w[x].sum(), high) + over(low, w[z].sum()),
    )


@rule("gross groups")
def _(m: Market) -> Ruled:
    y = m.sectors == "y"
    high = np.abs(m.anchor[y]).sum() + slack(m, 0.2)
    labels = dict(zip(m.names, m.sectors, strict=True))
    return Ruled(
        po.GroupLimit(labels, upper={"y": high}, gross=True, name="Gross"), lambda w: over(np.abs(w[y]).sum(), high)
    )


@rule("groups and a benchmark")
def _(m: Market) -> Ruled:
    x = m.sectors == "x"
    off = float((m.anchor - m.b)[x].sum())
    low, high = off - slack(m, 0.2), off + slack(m, 0.2)
    return Ruled(
        po.GroupLimit(
            pd.Series(m.sectors, m.names), lower={"x": low}, upper={"x": high}, benchmark=m.series(m.b), name="Active"
        ),
        lambda w: over(low, (w - m.b)[x].sum()) + over((w - m.b)[x].sum(), high),
    )


@rule("turnover")
def _(m: Market) -> Ruled:
    limit = float(np.abs(m.anchor - m.h).sum()) + slack(m, 0.3)
    return Ruled(po.Turnover(limit), lambda w: over(np.abs(w - m.h).sum(), limit))


@rule("buys")
def _(m: Market) -> Ruled:
    limit = float((m.anchor - m.h).clip(min=0.0).sum()) + slack(m, 0.3)
    return Ruled(po.Turnover(limit, side="buy", name="Buys"), lambda w: over((w - m.h).clip(min=0.0).sum(), limit))


@rule("sells")
def _(m: Market) -> Ruled:
    limit = float((m.h - m.anchor).clip(min=0.0).sum()) + slack(m, 0.3)
    return Ruled(po.Turnover(limit, side="sell", name="Sells"), lambda w: over((m.h - w).clip(min=0.0).sum(), limit))


@rule("trades")
def _(m: Market) -> Ruled:
    limit = np.abs(m.anchor - m.h) + slack(m, 0.2)
    return Ruled(po.TradeLimit(m.series(limit)), lambda w: float((np.abs(w - m.h) - limit).clip(min=0.0).sum()))


@rule("return")
def _(m: Market) -> Ruled:
    target = float(m.mu @ m.anchor) - slack(m, 5e-4)
    return Ruled(po.ReturnTarget(target), lambda w: over(target, m.mu @ w), penalty=0.7)


@rule("return of other means")
def _(m: Market) -> Ruled:
    mean = m.mu + 5e-4 * m.rng.normal(size=m.N)
    target = float(mean @ m.anchor) - slack(m, 5e-4)
    return Ruled(
        po.ReturnTarget(target, mean=m.series(mean), name="Views"), lambda w: over(target, mean @ w), penalty=0.7
    )


@rule("cvar")
def _(m: Market) -> Ruled:
    limit = weighted_cvar(-m.R @ m.anchor, m.p, 0.9) + slack(m, 0.004)
    return Ruled(po.CVaRLimit(0.9, limit), lambda w: over(weighted_cvar(-m.R @ w, m.p, 0.9), limit), penalty=0.4)


@rule("a sum of measures")
def _(m: Market) -> Ruled:
    def value(w: FloatArray) -> float:
        return weighted_cvar(-m.R @ w, m.p, 0.8) + 0.5 * float(m.p @ np.abs((m.R - m.mu) @ w)) - float(m.mu @ w)

    limit = value(m.anchor) + slack(m, 0.004)
    measured = po.CVaR(0.8) + 0.5 * po.MeanAbsoluteDeviation() - po.ExpectedReturn()
    return Ruled(measured <= limit, lambda w: over(value(w), limit), penalty=0.4)


@rule("two sides")
def _(m: Market) -> Ruled:
    tilt = m.rng.normal(size=m.N) * 0.001
    centre = float(tilt @ m.anchor)
    low, high = centre - slack(m, 5e-4), centre + slack(m, 5e-4)
    return Ruled(
        po.Limit(po.ExpectedReturn(m.series(tilt)) + 0.0 * po.NetExposure(), lower=low, upper=high, name="Tilt"),
        lambda w: over(low, tilt @ w) + over(tilt @ w, high),
        penalty=0.7,
    )


@rule("net of some")
def _(m: Market) -> Ruled:
    low = float(m.anchor[:2].sum()) - slack(m, 0.3)
    return Ruled(po.NetExposure(m.names[:2]) >= low, lambda w: over(low, w[:2].sum()))


@rule("volatility")
def _(m: Market) -> Ruled:
    limit = deviation(m.R @ m.anchor, m.p) + slack(m, 0.004)
    return Ruled(po.Volatility() <= limit, lambda w: over(deviation(m.R @ w, m.p), limit), penalty=0.4)


@rule("tracking error")
def _(m: Market) -> Ruled:
    limit = deviation(m.R @ (m.anchor - m.b), m.p) + slack(m, 0.004)
    tracked = po.TrackingError(benchmark=m.series(m.b))
    return Ruled(tracked <= limit, lambda w: over(deviation(m.R @ (w - m.b), m.p), limit), penalty=0.4)


@rule("growth")
def _(m: Market) -> Ruled:
    limit = float(m.p @ np.log1p(m.R @ m.anchor)) - slack(m, 5e-4)
    return Ruled(po.LogGrowth() >= limit, lambda w: over(limit, m.p @ np.log1p(m.R @ w)), penalty=0.5)


@rule("text")
def _(m: Market) -> Ruled:
    x = float(m.anchor[m.sectors == "x"].sum() - 0.5 * m.anchor[0])
    y = float(m.anchor[m.sectors == "y"].sum())
    high, low = round(x + slack(m, 0.2) + 1e-6, 6), round(y - slack(m, 0.2) - 1e-6, 6)
    text = [f"x - 0.5 * A0 <= {high:.6f}", f"{100 * low:.6f}% <= y <= 2" if low > 0 else f"y >= {low:.6f}"]
    return Ruled(
        po.LinearLimit(text, pd.Series(m.sectors, m.names)),
        lambda w: (
            over(w[m.sectors == "x"].sum() - 0.5 * w[0], high)
            + over(low, w[m.sectors == "y"].sum())
            + (over(w[m.sectors == "y"].sum(), 2.0) if low > 0 else 0.0)
        ),
    )


@rule("factors")
def _(m: Market) -> Ruled:
    at = m.exposures.T @ (m.anchor - m.b)
    high, low = float(at[0]) + slack(m, 0.2), float(at[1]) - slack(m, 0.2)
    frame = pd.DataFrame(m.exposures, m.names, ["f", "g"]).iloc[::-1]
    return Ruled(
        po.FactorExposure(frame, upper={"f": high}, lower={"g": low}, benchmark=m.series(m.b)),
        lambda w: over(m.exposures[:, 0] @ (w - m.b), high) + over(low, m.exposures[:, 1] @ (w - m.b)),
    )


@rule("no trade")
def _(m: Market) -> Ruled:
    m.anchor = m.anchor.copy()
    m.anchor[1] = m.h[1]
    rest = np.arange(m.N) != 1
    m.anchor[rest] *= (1.0 - m.h[1]) / m.anchor[rest].sum()
    return Ruled(po.NoTrade(["A1"]), lambda w: abs(float(w[1] - m.h[1])))


@rule("must hold")
def _(m: Market) -> Ruled:
    least = float(m.anchor[2]) - slack(m, 0.1)
    return Ruled(po.MustHold({"A2": least}), lambda w: over(least, w[2]))


@rule("liquidity of trades")
def _(m: Market) -> Ruled:
    room = np.abs(m.anchor - m.h) + slack(m, 0.2)
    limit = po.Liquidity(m.series(room * 1e7 / (0.2 * 3.0)), 1e7, participation=0.2, days=3.0)
    return Ruled(limit, lambda w: float((np.abs(w - m.h) - room).clip(min=0.0).sum()))


@rule("liquidity of positions")
def _(m: Market) -> Ruled:
    room = np.abs(m.anchor) + slack(m, 0.2)
    limit = po.Liquidity(m.series(room * 5e6 / 0.1), 5e6, of="positions", name="Sellable")
    return Ruled(limit, lambda w: float((np.abs(w) - room).clip(min=0.0).sum()))


def measured_limit(m: Market, name: str, room: float) -> Ruled:
    """A limit on a measure that the anchor meets with some room, relative to the measure there."""
    one = MEASURES[name](m)
    at = one.value(m.anchor)
    if name in CONCAVE:
        least = at - room * abs(at)
        return Ruled(one.term >= least, lambda w: over(least, one.value(w)), penalty=0.8 * one.price)
    most = at + room * abs(at)
    return Ruled(one.term <= most, lambda w: over(one.value(w), most), penalty=0.8 * one.price)

"""Backtests that are quick to make and known in every number."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.stats import norm

import portfolioopt as po
from portfolioopt.backtest import Backtest, BacktestGrid
from portfolioopt.costs import ProportionalCosts

ASSETS = ["AAA", "<b>BBB</b>", "CCC & sons", "DDD"]
SECTORS = pd.Series(["one", "two", "one", "three"], index=ASSETS, name="sector")
NASTY = "</script><script>alert('x')</script>"


def prices(sessions: int = 520, seed: int = 1, start: str = "2019-06-03", count: int = 4) -> pd.DataFrame:
    """Prices of independent walks."""
    rng = np.random.default_rng(seed)
    dates = pd.bdate_range(start, periods=sessions)
    returns = rng.normal(0.0004, 0.01, size=(sessions, count)) * np.linspace(0.6, 1.4, count)
    names = ASSETS if count == 4 else [f"A{i:02d}" for i in range(count)]
    return pd.DataFrame(100.0 * np.cumprod(1.0 + returns, axis=0), dates, names)


def fixed(weights: list[float]) -> po.Strategy:
    """The same weights at each decision."""
    return po.strategies.FixedWeights(pd.Series(weights, index=ASSETS))


def book(
    weights: list[float] | None = None,
    *,
    data: pd.DataFrame | None = None,
    every: str = "monthly",
    bps: float = 10.0,
    benchmark: bool = True,
    flows: dict[object, float] | None = None,
    rate: float = 0.0,
) -> Backtest:
    """A book of fixed weights, with costs, cash and a short position unless told otherwise."""
    market = prices() if data is None else data
    against = market.mean(axis=1) if benchmark else None
    found = po.backtest(
        fixed([0.5, 0.3, -0.2, 0.3] if weights is None else weights),
        market,
        every=every,
        costs=ProportionalCosts(bps=bps),
        benchmark=against,
        flows=flows,
        cash_rate=rate,
    )
    assert isinstance(found, Backtest)
    return found


def forecast(
    backtest: Backtest, volatility: float, *, horizon: int = 21, beta: float = 0.95, mean: float = 0.0
) -> Backtest:
    """The same book as if its decisions had predicted a normal return of this volatility per session."""
    sigma = volatility * np.sqrt(horizon)
    quantile = norm.ppf(beta)
    said = {
        "volatility": sigma,
        "var": sigma * quantile - mean * horizon,
        "cvar": sigma * norm.pdf(quantile) / (1.0 - beta) - mean * horizon,
        "beta": beta,
        "horizon": float(horizon),
        "max_violation": 1e-12,
        "binding": "Bounds (2); Turnover",
        "status": "optimal",
    }
    return Backtest(replace(backtest._record, timeline=[line | said for line in backtest._record.timeline]))


@dataclass(frozen=True)
class Tilted(po.Strategy):
    """Two weights, and the rest in cash."""

    first: float = 0.2
    second: float = 0.2

    def target(self, moment: po.Moment) -> pd.Series:
        return pd.Series([self.first, self.second, 0.0, 0.0], index=ASSETS)


def grid(histories: int = 0) -> BacktestGrid:
    """Four runs over two parameters, or histories of two strategies."""
    data = prices(160)
    if histories:
        return po.backtest(
            {"equal": po.strategies.EqualWeight(), "some": fixed([0.2, 0.2, 0.2, 0.2])},
            data,
            histories=po.BootstrapHistories(histories),
        )
    return po.backtest(
        Tilted(), data, over={"first": [0.1, 0.5], "second": [0.05, 0.4]}, costs=ProportionalCosts(bps=5)
    )

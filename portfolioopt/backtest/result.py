"""What a backtest leaves behind: net asset values, trades, costs, decisions, and what follows from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.labels import FloatArray

from .metrics import performance

IntArray = npt.NDArray[np.intp]

YEAR = 365.25  # days, for annual figures from dates
_MEASURED = 3  # sessions from which a run has a performance


@dataclass(frozen=True, eq=False)
class Record:
    """One run as arrays over T sessions and N assets; units are kept where they changed only."""

    name: str
    dates: pd.DatetimeIndex
    assets: pd.Index
    prices: FloatArray  # (T, N) what positions are valued at: the last known prices
    changed: IntArray  # (E,) increasing sessions after whose close the units are those of a row of `units`
    units: FloatArray  # (E, N)
    cash: FloatArray  # (T,)
    flows: FloatArray  # (T,)
    costs: Mapping[str, FloatArray]  # part -> (T,)
    income: Mapping[str, FloatArray]  # dividends, interest -> (T,)
    turnover: FloatArray  # (T,)
    trades: Mapping[str, Any]  # column -> values, one per trade
    timeline: list[dict[str, Any]]
    targets: list[tuple[int, FloatArray]]  # session of the decision, weights (N,)
    benchmark: FloatArray | None = None
    risk_free: FloatArray | None = None  # (T,) simple return of cash
    capital: float = 1_000_000.0
    settings: Mapping[str, Any] = field(default_factory=dict)


class Backtest:
    """One strategy's book through time. Every figure follows from its trades, the prices and the cash.

    Money is in account currency. A session is a date with prices; figures of a session are those after its close.
    """

    def __init__(self, record: Record) -> None:
        self._record = record
        self.name = record.name
        """What the run is called."""
        self.settings: dict[str, Any] = dict(record.settings)
        """What the run depended on, name to value."""

    # -- the book ------------------------------------------------------------------------------------------------
    @cached_property
    def positions(self) -> pd.DataFrame:
        """Units held after the close, by session and asset (T x N)."""
        r = self._record
        place = np.searchsorted(r.changed, np.arange(len(r.dates)), side="right") - 1
        held = np.where((place >= 0)[:, None], r.units[np.maximum(place, 0)] if len(r.units) else 0.0, 0.0)
        return pd.DataFrame(held, r.dates, r.assets)

    @property
    def prices(self) -> pd.DataFrame:
        """What one unit was valued at: the last known price (T x N); NaN before the first."""
        return pd.DataFrame(self._record.prices, self._record.dates, self._record.assets, copy=True)

    @cached_property
    def _values(self) -> FloatArray:
        units = self.positions.to_numpy()
        return np.where(units == 0.0, 0.0, units * np.nan_to_num(self._record.prices))

    @property
    def values(self) -> pd.DataFrame:
        """Positions in account currency after the close (T x N)."""
        return pd.DataFrame(self._values, self._record.dates, self._record.assets)

    @property
    def cash(self) -> pd.Series:
        """Cash after the close (T,)."""
        return pd.Series(self._record.cash, self._record.dates, name="cash")

    @cached_property
    def nav(self) -> pd.Series:
        """Net asset value after the close (T,): cash and positions."""
        return pd.Series(self._record.cash + self._values.sum(axis=1), self._record.dates, name="nav")

    @cached_property
    def weights(self) -> pd.DataFrame:
        """Positions as fractions of NAV after the close (T x N); what is left of one is cash. Zero in a closed book."""
        nav = self.nav.to_numpy()[:, None]
        return pd.DataFrame(self._values / np.where(nav > 0.0, nav, np.inf), self._record.dates, self._record.assets)

    @property
    def flows(self) -> pd.Series:
        """Money paid in (positive) and out at the close (T,)."""
        return pd.Series(self._record.flows, self._record.dates, name="flow")

    @property
    def costs(self) -> pd.DataFrame:
        """Costs by part and session (T x parts), positive where paid."""
        return pd.DataFrame(dict(self._record.costs), self._record.dates, dtype=np.float64)

    @property
    def income(self) -> pd.DataFrame:
        """Dividends and interest by session (T x 2), negative where paid."""
        return pd.DataFrame(dict(self._record.income), self._record.dates, dtype=np.float64)

    @property
    def turnover(self) -> pd.Series:
        """Sum of the absolute values traded over NAV before the trades (T,): two-way, 2 for a book that is replaced."""
        return pd.Series(self._record.turnover, self._record.dates, name="turnover")

    @cached_property
    def trades(self) -> pd.DataFrame:
        """One row per trade: date, asset, units and value (negative for sells), price, cost, reason."""
        frame = pd.DataFrame(dict(self._record.trades))
        frame.insert(0, "date", self._record.dates[frame.pop("session").to_numpy(dtype=np.intp)])
        frame["asset"] = self._record.assets[frame["asset"].to_numpy(dtype=np.intp)]
        return frame

    # -- performance ---------------------------------------------------------------------------------------------
    @cached_property
    def returns(self) -> pd.Series:
        r"""Simple returns by session (T,), :math:`(\mathrm{NAV}_t - f_t)/\mathrm{NAV}_{t-1} - 1`.

        Money that comes in or goes out at the close, f, is no return. The first is what trades on the first session
        cost; after a loss of everything returns are zero.
        """
        nav = self.nav.to_numpy()
        before = np.append(self._record.capital, nav[:-1])
        alive = before > 0.0
        found = np.zeros(len(nav))
        found[alive] = (nav[alive] - self._record.flows[alive]) / before[alive] - 1.0
        return pd.Series(found, self._record.dates, name="return")

    @property
    def risk_free(self) -> pd.Series | None:
        """Simple return of cash by session (T,); None where it is not known."""
        found = self._record.risk_free
        return None if found is None else pd.Series(found, self._record.dates, name="risk_free")

    @property
    def measured_returns(self) -> pd.Series:
        """:attr:`returns` from the second session on, for performance figures.

        What the first session cost is part of the first of them, and what was lost beyond everything is not counted.
        """
        found = self.returns.iloc[1:].copy()
        found.iloc[0] = (1.0 + found.iloc[0]) * (1.0 + self.returns.iloc[0]) - 1.0
        return found.clip(lower=-1.0)

    @property
    def benchmark(self) -> pd.Series | None:
        """Worth of the benchmark, as if the capital had been put in it on the first session; None without one."""
        found = self._record.benchmark
        return None if found is None else pd.Series(found, self._record.dates, name="benchmark")

    @property
    def periods_per_year(self) -> float:
        """Sessions per year of the run, by which figures are annualised."""
        return sessions_per_year(self._record.dates)

    @cached_property
    def metrics(self) -> pd.Series:
        """Performance by name; see :data:`portfolioopt.backtest.METRICS` for units and definitions."""
        r = self._record
        if len(r.dates) < _MEASURED:
            raise InputError(f"a backtest of {len(r.dates)} sessions has no performance to measure")
        before = np.append(r.capital, self.nav.to_numpy()[:-1])
        benchmark = None if r.benchmark is None else self.benchmark.pct_change().iloc[1:]  # pyright: ignore
        free = 0.0 if r.risk_free is None else pd.Series(r.risk_free[1:], r.dates[1:])
        found = performance(
            self.measured_returns,
            benchmark=benchmark,
            risk_free=free,
            periods_per_year=self.periods_per_year,
            turnover=self.turnover.iloc[1:],
            costs=(self.costs.sum(axis=1) / np.where(before > 0.0, before, np.inf)).iloc[1:],
        )
        assert isinstance(found, pd.Series)
        found.name = self.name
        return found

    # -- decisions -----------------------------------------------------------------------------------------------
    @cached_property
    def timeline(self) -> pd.DataFrame:
        """One row per decision, by the session at whose close it was made.

        ``traded`` (session of its trades, NaT where there were none), ``rebalanced``, ``status``, ``fallback``,
        ``reason``, ``message``, what the solver certified (``objective``, ``gap``, ``max_violation``), what it expected
        per scenario horizon (``expected_return``, ``volatility``, ``var``, ``cvar`` at level ``beta``; ``horizon`` in
        sessions), ``binding`` constraints, ``turnover``, ``cost`` and ``seconds``.
        """
        frame = pd.DataFrame(self._record.timeline, columns=pd.Index(TIMELINE))
        for name in ("decided", "traded"):
            sessions = frame[name].to_numpy(dtype=np.intp)
            dates = self._record.dates[np.maximum(sessions, 0)].to_numpy().copy()
            dates[sessions < 0] = np.datetime64("NaT")
            frame[name] = dates
        return frame.set_index("decided")

    @cached_property
    def targets(self) -> pd.DataFrame:
        """Target weights by the session they were decided on (D x N); what is left of one is cash."""
        r = self._record
        rows = np.array([w for _, w in r.targets]).reshape(len(r.targets), len(r.assets))
        dates = r.dates[np.array([t for t, _ in r.targets], dtype=np.intp)]
        return pd.DataFrame(rows, pd.DatetimeIndex(dates, name="decided"), r.assets)

    @property
    def failures(self) -> pd.DataFrame:
        """The decisions for which the strategy had no answer, and what was done instead."""
        return self.timeline[self.timeline["fallback"] != ""]

    def __repr__(self) -> str:
        dates, failed = self._record.dates, len(self.failures)
        text = f"{self.name}: {dates[0]:%Y-%m-%d} to {dates[-1]:%Y-%m-%d}, {len(self.timeline)} decisions"
        if failed:
            text += f" ({failed} failed)"
        if len(dates) >= _MEASURED:
            m = self.metrics
            text += f", CAGR {m['cagr']:.2%}, volatility {m['volatility']:.2%}, Sharpe {m['sharpe']:.2f}, "
            text += f"worst drawdown {m['max_drawdown']:.2%}"
        return f"Backtest({text})"


TIMELINE = (
    "decided",
    "traded",
    "rebalanced",
    "status",
    "fallback",
    "reason",
    "message",
    "objective",
    "gap",
    "max_violation",
    "expected_return",
    "volatility",
    "var",
    "cvar",
    "beta",
    "horizon",
    "binding",
    "turnover",
    "cost",
    "seconds",
)


def sessions_per_year(dates: pd.DatetimeIndex) -> float:
    """Dates per year of 365.25 days."""
    days = (dates[-1] - dates[0]).days
    return (len(dates) - 1) / days * YEAR if days > 0 else 252.0

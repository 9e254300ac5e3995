"""What the market does to a book, session by session: the arrays that a backtest plays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd

from portfolioopt.data import MarketData
from portfolioopt.data.checks import date_text, timestamp
from portfolioopt.errors import InputError, unknown_names
from portfolioopt.labels import FloatArray, checked_number, some

BoolArray = npt.NDArray[np.bool_]

_LOOKBACK = 21  # sessions over which volume and volatility are measured for the cost model
_YEAR = 365.0  # days of a year of interest


@dataclass(frozen=True, eq=False)
class Tape:
    """Arrays over the sessions of a run (T) and all assets of the market (N).

    Row t is the close of session t. Nothing in row t depends on later rows, but for `paid_out`, which is looked up on
    the date of the delisting only.
    """

    dates: pd.DatetimeIndex
    assets: pd.Index
    prices: FloatArray
    """Last known prices (T, N), NaN before the first."""
    stale: npt.NDArray[np.int64]
    """Sessions since there was a price (T, N)."""
    days: FloatArray
    """Calendar days since the session before (T,), zero for the first."""
    dividends: FloatArray | None
    """Cash per unit (T, N)."""
    splits: FloatArray | None
    """New units per old unit (T, N), one where nothing was split."""
    paid_out: dict[int, list[tuple[int, float]]]
    """By session: delisted assets, and what a unit of each was worth."""
    closed: BoolArray
    """Which assets have been delisted, from that session on, until they are members again (T, N)."""
    rate: FloatArray
    """Simple return of cash since the session before (T,)."""
    flows: FloatArray
    """Money paid in or out at the close (T,)."""
    market: dict[str, FloatArray]
    """What the cost model looks at, beside the price, by name (T, N)."""

    @cached_property
    def eventful(self) -> BoolArray:
        """Sessions that begin with more than interest (T,): splits, dividends, delistings, money in or out."""
        found = self.flows != 0.0
        if self.splits is not None:
            found = found | (self.splits != 1.0).any(axis=1)
        if self.dividends is not None:
            found = found | (self.dividends != 0.0).any(axis=1)
        found[list(self.paid_out)] = True
        return found

    @cached_property
    def longest(self) -> npt.NDArray[np.int64]:
        """The most sessions that any asset has been without a price (T,)."""
        return self.stale.max(axis=1)

    @cached_property
    def quoted(self) -> BoolArray:
        """Which assets can be traded in each session: they have a price of their own, and are not delisted (T, N)."""
        return (self.stale == 0) & ~np.isnan(self.prices) & ~self.closed

    def quotes(self, t: int, books: int = 1, cash: str | None = None) -> tuple[pd.DataFrame, pd.Index]:
        """What a cost model looks at in session t, a row per book and asset, and the assets of the rows.

        With a name for cash, a row of it comes last in each book.
        """
        columns = {"price": np.nan_to_num(self.prices[t], nan=0.0)}
        columns |= {name: values[t] for name, values in self.market.items()}
        labels = self.assets
        if cash is not None:
            ones = {"price": 1.0}
            columns = {name: np.append(values, ones.get(name, np.nan)) for name, values in columns.items()}
            labels = labels.append(pd.Index([cash]))
        if books > 1:
            columns = {name: np.tile(values, books) for name, values in columns.items()}
            labels = pd.Index(np.tile(labels.to_numpy(), books))
        return pd.DataFrame(columns, copy=False), labels


def make_tape(
    market: MarketData,
    first: int,
    last: int,
    *,
    traded: str | None,
    dividends: str | None,
    splits: str | None,
    cash_rate: float | pd.Series,
    flows: pd.Series | Mapping[object, float] | None,
) -> Tape:
    """The tape of a market from row `first` to row `last`, both included."""
    dates = market.dates[first : last + 1]
    assets = market.assets
    known = _known(market, traded)
    window = slice(first, last + 1)
    ratios = _events(market, splits, market.dates, 1.0)
    prices, stale = _carried(known, ratios)
    return Tape(
        dates=dates,
        assets=assets,
        prices=prices[window],
        stale=stale[window],
        days=np.append(0.0, np.diff(dates.to_numpy()) / np.timedelta64(1, "D")),
        dividends=_events(market, dividends, dates, 0.0),
        splits=None if ratios is None else ratios[window],
        paid_out=_delistings(market, prices, first, last),
        closed=_closed(market)[window],
        rate=_interest(cash_rate, dates),
        flows=_flows(flows, dates),
        market=_quotes(market, window),
    )


def _known(market: MarketData, traded: str | None) -> FloatArray:
    """Prices that the book trades at (all sessions, N), NaN where there are none."""
    if traded is None:
        return market.prices.to_numpy()
    if traded not in market.fields:
        raise unknown_names("field", [traded], market.fields)
    frame = market.field(traded)
    values = frame.reindex(market.dates).to_numpy(dtype=np.float64)
    bad = ~np.isnan(values) & ~((values > 0.0) & np.isfinite(values))
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise InputError(
            f"{traded} has {values[row, column]:g} for {market.assets[column]} on {date_text(market.dates[row])}; "
            "prices are positive"
        )
    return values


def _carried(known: FloatArray, splits: FloatArray | None) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """The last known price of every cell, and how many rows ago it was; splits since then are taken into account."""
    there = ~np.isnan(known)
    rows = np.arange(len(known))[:, None]
    latest = np.maximum.accumulate(np.where(there, rows, -1), axis=0)
    place = np.maximum(latest, 0)
    prices = np.where(latest >= 0, np.take_along_axis(known, place, axis=0), np.nan)
    if splits is not None:
        units = np.cumprod(splits, axis=0)
        prices = prices * np.where(there, 1.0, np.take_along_axis(units, place, axis=0) / units)
    return prices, np.where(latest >= 0, rows - latest, 0)


def _events(market: MarketData, name: str | None, dates: pd.DatetimeIndex, nothing: float) -> FloatArray | None:
    """A field of what happens on dates, `nothing` elsewhere; None where there is no field or nothing happens."""
    if name is None:
        return None
    if name not in market.fields:
        raise unknown_names("field", [name], market.fields)
    frame = market.field(name)
    inside = frame.index[(frame.index >= dates[0]) & (frame.index <= dates[-1])]
    strange = inside.difference(dates)
    if len(strange) and frame.loc[strange].notna().to_numpy().any():
        raise InputError(
            f"{name} has entries on {some(pd.Index([date_text(d) for d in strange]))}, which are no sessions; date "
            "them to sessions"
        )
    values = frame.reindex(dates).to_numpy(dtype=np.float64)
    values = np.where(np.isnan(values), nothing, values)
    if not np.isfinite(values).all() or (nothing == 1.0 and (values <= 0.0).any()):
        raise InputError(f"{name} must be finite{' and positive' if nothing == 1.0 else ''} where it is given")
    return values if (values != nothing).any() else None


def _delistings(market: MarketData, prices: FloatArray, first: int, last: int) -> dict[int, list[tuple[int, float]]]:
    found: dict[int, list[tuple[int, float]]] = {}
    rows, columns, fractions = _ends(market)
    for row, column, fraction in zip(rows, columns, fractions, strict=True):
        if first <= row <= last:
            worth = float(prices[row, column]) * (1.0 + float(fraction))
            found.setdefault(int(row) - first, []).append((int(column), worth))
    return found


def _ends(market: MarketData) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], FloatArray]:
    known = market.delistings
    columns = market.assets.get_indexer(pd.Index(known["asset"]))
    return market.dates.get_indexer(pd.DatetimeIndex(known["date"])), columns, known["return"].to_numpy(np.float64)


def _closed(market: MarketData) -> BoolArray:
    """Which assets are delisted at each close of the market's dates."""
    closed = np.zeros((len(market.dates), len(market.assets)), dtype=bool)
    spells = None if market.universe is None else market.universe.spells
    for row, column, _ in zip(*_ends(market), strict=True):
        until = len(closed)
        if spells is not None:
            own = pd.DatetimeIndex(spells.loc[spells["asset"] == market.assets[column], "start"])
            later = own[own > market.dates[row]]
            until = int(market.dates.searchsorted(later.min())) if len(later) else until
        closed[row:until, column] = True
    return closed


def _interest(cash_rate: float | pd.Series, dates: pd.DatetimeIndex) -> FloatArray:
    """Simple return of cash since the session before: the rate known then, by calendar days (ACT/365)."""
    days = np.append(0.0, np.diff(dates.to_numpy()) / np.timedelta64(1, "D"))
    if not isinstance(cash_rate, pd.Series):
        return checked_number(cash_rate, "cash_rate", least=-1.0) * days / _YEAR
    if not isinstance(cash_rate.index, pd.DatetimeIndex) or not cash_rate.index.is_monotonic_increasing:
        raise InputError("cash_rate must be a number, or a Series by date in increasing order")
    known = cash_rate.reindex(cash_rate.index.union(dates)).ffill().reindex(dates).to_numpy(dtype=np.float64)
    before = np.append(known[:1], known[:-1])
    if np.isnan(before).any():
        raise InputError(f"cash_rate says nothing about {date_text(dates[int(np.argmax(np.isnan(before)))])}")
    return before * days / _YEAR


def _flows(flows: pd.Series | Mapping[object, float] | None, dates: pd.DatetimeIndex) -> FloatArray:
    money = np.zeros(len(dates))
    if flows is None:
        return money
    for day, amount in flows.items():
        date = timestamp(day, "flows", dates.tz)
        place = int(dates.get_indexer(pd.DatetimeIndex([date]))[0])
        if place < 0:
            raise InputError(f"flows has money on {date_text(date)}, which is no session of the run")
        if place == 0:
            raise InputError("flows has money on the first session; that is what the capital is for")
        money[place] += checked_number(amount, f"the flow of {date_text(date)}")
    return money


def _quotes(market: MarketData, window: slice) -> dict[str, FloatArray]:
    """Average daily volume and volatility over the last 21 sessions, today's included, and spreads where given."""
    found: dict[str, FloatArray] = {}
    returns = market.prices.pct_change(fill_method=None)
    found["volatility"] = returns.rolling(_LOOKBACK, min_periods=2).std().to_numpy()[window]
    volumes = market.volumes
    if volumes is not None:
        daily = pd.DataFrame(volumes.reindex(market.dates).to_numpy(dtype=np.float64))
        found["volume"] = daily.rolling(_LOOKBACK, min_periods=1).mean().to_numpy()[window]
    if "spread" in market.fields:
        spread = market.field("spread").reindex(market.dates).ffill()
        found["spread"] = spread.to_numpy(dtype=np.float64)[window]
    return found

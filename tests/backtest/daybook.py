"""A book kept by hand, one day after the other, in plain Python: the oracle of the backtest.

It shares no code and no way of computing with the library: lists, dictionaries and floats, one asset after the other,
so that every line can be checked with a pencil. The order of a day: splits, dividends, interest and borrow fees,
delistings, money from outside, the trade that is due, the value, the decision.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import TypeAlias

Target: TypeAlias = Mapping[str, float]
Row: TypeAlias = Sequence[float | None]

NOTHING = 1e-12
"""Amounts up to this part of NAV are rounding: no trade, no fee."""


@dataclass(frozen=True)
class Standing:
    """What a decision may look at: the book at the close of a session, after what was traded on it."""

    session: int
    day: date
    nav: float
    cash: float
    weights: dict[str, float]
    """Fractions of NAV; the rest is cash."""
    prices: dict[str, float | None]
    """Last known prices, None where there was none yet."""


Decide: TypeAlias = Callable[[Standing], Target | None]


@dataclass(frozen=True)
class Fill:
    """One trade."""

    session: int
    asset: str
    units: float
    price: float
    value: float
    cost: float


@dataclass
class Book:
    """The days of a book: one entry per session in each list."""

    nav: list[float] = field(default_factory=list)
    cash: list[float] = field(default_factory=list)
    units: list[dict[str, float]] = field(default_factory=list)
    prices: list[dict[str, float | None]] = field(default_factory=list)
    returns: list[float] = field(default_factory=list)
    turnover: list[float] = field(default_factory=list)
    commission: list[float] = field(default_factory=list)
    borrow: list[float] = field(default_factory=list)
    dividends: list[float] = field(default_factory=list)
    interest: list[float] = field(default_factory=list)
    fills: list[Fill] = field(default_factory=list)
    ends: list[Fill] = field(default_factory=list)
    """What was held of assets when they were delisted, at what holders got for it."""


@dataclass(frozen=True)
class Fees:
    """What trades and short positions cost."""

    bps: float | Mapping[str, float] = 0.0
    sell_bps: float | Mapping[str, float] | None = None
    """Where selling costs something else than buying."""
    per_share: float = 0.0
    fixed: float = 0.0
    minimum: float = 0.0
    """Least charge of a trade, not counting `fixed`."""
    borrow_bps: float | Mapping[str, float] = 0.0
    """Per year of 360 days, of the value that is short."""

    def of_trade(self, asset: str, amount: float, price: float) -> float:
        """Money for one trade that buys (or sells, below zero) for this amount."""
        if amount == 0.0:
            return 0.0
        rate = self.bps if amount > 0.0 or self.sell_bps is None else self.sell_bps
        variable = _for(rate, asset) / 10_000 * abs(amount) + self.per_share * abs(amount) / price
        return self.fixed + max(self.minimum, variable)


def simulate(
    dates: Sequence[date],
    prices: Mapping[str, Row],
    targets: Mapping[int, Target] | Decide,
    *,
    lag: int = 1,
    capital: float = 1_000_000.0,
    fees: Fees | None = None,
    cash_rate: float | Mapping[date, float] = 0.0,
    dividends: Mapping[str, Row] | None = None,
    splits: Mapping[str, Row] | None = None,
    delistings: Mapping[str, tuple[int, float]] | None = None,
    flows: Mapping[int, float] | None = None,
    tradable: Mapping[str, Sequence[bool]] | None = None,
    credit: bool = False,
) -> Book:
    """Keep the book.

    Parameters
    ----------
    dates
        Sessions.
    prices
        By asset, one for each session, None where there is none.
    targets
        Weights by session on which they are decided, or a function of the standing on every session that says what
        is wanted, and None where nothing is. Assets that are left out are sold.
    lag
        Sessions from the decision to the trade.
    capital
        Cash on the first session.
    fees
        Costs.
    cash_rate
        Simple interest per year of 365 days; or by day, that last known at the close before.
    dividends
        By asset, cash for each unit.
    splits
        By asset, new units for each old one.
    delistings
        By asset, on which session and with which return from the last price on.
    flows
        Money paid in (out, below zero) by session.
    tradable
        By asset, whether it may be traded on each session; all that has a price where None.
    credit
        Whether buys may be paid with money that is not there, because what was to be sold could not be; they are cut
        in proportion otherwise.
    """
    fees = fees or Fees()
    assets = list(prices)
    cash = capital
    units = dict.fromkeys(assets, 0.0)
    last: dict[str, float | None] = dict.fromkeys(assets, None)
    due: dict[int, Target] = {}
    book = Book()
    for t, day in enumerate(dates):
        interest = borrow = paid = 0.0
        if t > 0:
            span = (day - dates[t - 1]).days
            interest = cash * _rate(cash_rate, dates[t - 1]) * span / 365
            for asset in assets:
                if units[asset] < 0.0:
                    borrow += -units[asset] * _price(last, asset) * _for(fees.borrow_bps, asset) / 10_000 * span / 360
        for asset in assets:  # splits: twice the units at half the price are worth the same
            ratio = _at(splits, asset, t)
            if ratio is not None:
                units[asset] *= ratio
                known = last[asset]
                last[asset] = None if known is None else known / ratio
        for asset in assets:  # dividends, which a short position pays
            paid += units[asset] * (_at(dividends, asset, t) or 0.0)
        cash += paid
        cash += interest
        cash -= borrow
        for asset, (session, fraction) in (delistings or {}).items():
            if session == t and units[asset] != 0.0:
                worth = _price(last, asset) * (1.0 + fraction)
                cash += units[asset] * worth
                book.ends.append(Fill(t, asset, -units[asset], worth, -units[asset] * worth, 0.0))
                units[asset] = 0.0
        flow = (flows or {}).get(t, 0.0)
        cash += flow
        for asset in assets:
            now = prices[asset][t]
            if now is not None:
                last[asset] = now
        open_now = [
            asset
            for asset in assets
            if prices[asset][t] is not None
            and (tradable is None or tradable[asset][t])
            and not (delistings and asset in delistings and t >= delistings[asset][0])
        ]
        commission, traded, before = 0.0, 0.0, 1.0
        wanted = [due.pop(t)] if t in due else []
        for stage in ("due", "decide"):
            if _worth(cash, units, last) <= 0.0:
                break  # the account is bust: it is not asked any more, and trades nothing
            if stage == "decide":
                standing = _standing(t, day, cash, units, last)
                decided = targets(standing) if callable(targets) else targets.get(t)
                wanted = []
                if decided is not None and lag == 0:
                    wanted = [decided]
                elif decided is not None:
                    due[t + lag] = dict(decided)
            for target in wanted:
                before = _worth(cash, units, last)
                fills = _trades(t, target, before, units, last, open_now, fees)
                if not credit:
                    fills = _paid(fills, cash, before, fees)
                for fill in fills:
                    units[fill.asset] += fill.units
                    if abs(units[fill.asset] * fill.price) <= NOTHING * before:
                        units[fill.asset] = 0.0
                    cash -= fill.value + fill.cost
                    commission += fill.cost
                    traded += abs(fill.value)
                    book.fills.append(fill)
        nav = _worth(cash, units, last)
        base = book.nav[-1] if book.nav else capital
        book.returns.append((nav - flow) / base - 1.0 if base else math.nan)
        book.nav.append(nav)
        book.cash.append(cash)
        book.units.append(dict(units))
        book.prices.append(dict(last))
        book.turnover.append(traded / before)
        book.commission.append(commission)
        book.borrow.append(borrow)
        book.dividends.append(paid)
        book.interest.append(interest)
    return book


def _trades(
    t: int,
    target: Target,
    nav: float,
    units: Mapping[str, float],
    last: Mapping[str, float | None],
    open_now: Sequence[str],
    fees: Fees,
) -> list[Fill]:
    """Trades to the weights in the NAV that their fees leave, found by trying again with the last fees."""
    total = 0.0
    for _ in range(1000):
        fills = []
        for asset in open_now:
            price = _price(last, asset)
            amount = target.get(asset, 0.0) * (nav - total) - units[asset] * price
            if abs(amount) > NOTHING * nav:
                fills.append(Fill(t, asset, amount / price, price, amount, fees.of_trade(asset, amount, price)))
        again = sum(fill.cost for fill in fills)
        if abs(again - total) <= 1e-15 * nav:
            return fills
        total = again
    raise AssertionError(f"the fees of session {t} do not settle")


def _paid(fills: list[Fill], cash: float, nav: float, fees: Fees) -> list[Fill]:
    """The trades, with as large a part of every buy as can be paid."""
    if cash - sum(fill.value + fill.cost for fill in fills) >= -NOTHING * nav:
        return fills
    low, high = 0.0, 1.0
    for _ in range(200):
        share = 0.5 * (low + high)
        left = cash - sum(fill.value + fill.cost for fill in _cut(fills, share, fees))
        low, high = (share, high) if left >= 0.0 else (low, share)
    return [fill for fill in _cut(fills, low, fees) if abs(fill.value) > NOTHING * nav]


def _cut(fills: list[Fill], share: float, fees: Fees) -> list[Fill]:
    made = [fill for fill in fills if fill.value < 0.0]
    for fill in fills:
        if fill.value > 0.0:
            value = share * fill.value
            cost = fees.of_trade(fill.asset, value, fill.price)
            made.append(Fill(fill.session, fill.asset, value / fill.price, fill.price, value, cost))
    return made


def _standing(t: int, day: date, cash: float, units: Mapping[str, float], last: Mapping[str, float | None]) -> Standing:
    nav = _worth(cash, units, last)
    weights = {asset: units[asset] * (last[asset] or 0.0) / nav for asset in units}
    return Standing(t, day, nav, cash, weights, dict(last))


def _worth(cash: float, units: Mapping[str, float], last: Mapping[str, float | None]) -> float:
    return cash + sum(units[asset] * _price(last, asset) for asset in units if units[asset] != 0.0)


def _price(last: Mapping[str, float | None], asset: str) -> float:
    known = last[asset]
    assert known is not None, f"{asset} is held or traded before its first price"
    return known


def _at(table: Mapping[str, Row] | None, asset: str, t: int) -> float | None:
    return table[asset][t] if table is not None and asset in table else None


def _for(value: float | Mapping[str, float], asset: str) -> float:
    return value[asset] if isinstance(value, Mapping) else value


def _rate(rate: float | Mapping[date, float], day: date) -> float:
    """The rate in force at the close of a day."""
    if not isinstance(rate, Mapping):
        return rate
    return rate[max(known for known in rate if known <= day)]

r"""Trades of many books at the prices of one close, fees paid out of what is traded.

With position values :math:`v_i`, target weights :math:`w_i` and the cost :math:`F` of the trades, the amounts solve

.. math:: a_i = w_i\,(\mathrm{NAV} - F) - v_i, \qquad F = \sum_i f_i(a_i) ,

so that the book has its target weights after the costs have left it. Where something cannot be traded the buys are cut
in proportion to the cash there is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from portfolioopt.costs import CostModel
from portfolioopt.costs.quotes import Quotes
from portfolioopt.errors import InputError
from portfolioopt.labels import FloatArray
from portfolioopt.rebalance import OrderRules, create_orders
from portfolioopt.rebalance.order_rules import Fees

from .tape import BoolArray, Tape

CENTLESS = 1e-12  # amounts that are smaller than this as fractions of NAV are rounding, and not worth a fee
_ROUNDS = 200
_SMALL, _LARGE = 1e-6, 1e9  # values of trades, account currency, between which fixed fees, minimums and impact show


@dataclass(frozen=True, eq=False)
class Trades:
    """What was traded in R books over N assets."""

    units: FloatArray  # (R, N), negative for sells
    cost: FloatArray  # (R, N) money
    parts: dict[str, FloatArray]  # part -> (R,) money
    reasons: dict[tuple[int, int], str]
    skipped: dict[int, list[str]]  # book -> why something was not traded


def trade(
    tape: Tape,
    t: int,
    units: FloatArray,
    cash: FloatArray,
    targets: FloatArray,
    *,
    costs: CostModel | None,
    credit: bool,
) -> Trades:
    """Bring books (R, N) to target weights (R, N) at the close of session t, in any fractions of units."""
    targets = np.where(np.abs(targets) <= CENTLESS, 0.0, targets)
    prices = tape.prices[t]
    price = np.nan_to_num(prices, nan=1.0)
    held = np.where(units == 0.0, 0.0, units * price)
    nav = cash + held.sum(axis=1)
    open_today = tape.quoted[t] & ~np.isnan(prices)
    skipped = _missing(tape, targets, held, open_today)

    def sized(fees: FloatArray, share: FloatArray) -> FloatArray:
        amount = np.where(open_today, targets * (nav - fees)[:, None] - held, 0.0)
        amount = np.where(amount > 0.0, amount * share[:, None], amount)
        return np.where(np.abs(amount) <= CENTLESS * nav[:, None], 0.0, amount)

    fees, whole = np.zeros(len(cash)), np.ones(len(cash))
    charge = _Charge(tape, t, costs, price)
    amount = sized(fees, whole)
    if costs is not None:
        for _ in range(_ROUNDS):
            paid = charge.total(amount)
            settled = np.abs(paid - fees) <= 1e-14 * nav
            fees = paid
            amount = sized(fees, whole)
            if settled.all():
                break
        _refuse_ruin(nav, fees)
    if not credit:
        amount = _paid_for(amount, cash, nav, charge)
    # a position that is closed is closed to the last unit, unless there was no money for all of it
    closes = (targets == 0.0) & (amount != 0.0) & (np.abs(amount + held) <= CENTLESS * nav[:, None])
    bought = np.where(closes, -units, amount / price)
    each, parts = charge.parts(bought)
    return Trades(bought, each, parts, {}, skipped)


def _paid_for(amount: FloatArray, cash: FloatArray, nav: FloatArray, charge: _Charge) -> FloatArray:
    """Amounts of which the buys are cut where they and the costs would need credit."""
    short = -(cash - amount.sum(axis=1) - charge.total(amount))
    if not (short > 1e-10 * nav).any():
        return amount
    low, high = np.zeros(len(cash)), np.where(short > 1e-10 * nav, 1.0, 0.0)
    for _ in range(60):
        middle = 0.5 * (low + high)
        cut = np.where(amount > 0.0, amount * (1.0 - middle)[:, None], amount)
        lacking = cash - cut.sum(axis=1) - charge.total(cut) < 0.0
        low, high = np.where(lacking, middle, low), np.where(lacking, high, middle)
    cut = np.where(amount > 0.0, amount * (1.0 - high)[:, None], amount)
    return np.where(np.abs(cut) <= CENTLESS * nav[:, None], 0.0, cut)


def _missing(tape: Tape, targets: FloatArray, held: FloatArray, open_today: BoolArray) -> dict[int, list[str]]:
    if open_today.all():
        return {}
    wanted = ~open_today & ((targets != 0.0) | (held != 0.0))
    return {
        int(r): [f"{tape.assets[j]} has no price and was not traded" for j in np.flatnonzero(wanted[r]).tolist()]
        for r in np.flatnonzero(wanted.any(axis=1)).tolist()
    }


def _refuse_ruin(nav: FloatArray, fees: FloatArray) -> None:
    if (fees >= nav).any():
        r = int(np.flatnonzero(fees >= nav)[0])
        raise InputError(
            f"the costs of the trades, {fees[r]:,.2f}, exceed the net asset value of {nav[r]:,.2f}; start with more "
            "capital, or look at the units of the cost model"
        )


class _Charge:
    """What a cost model charges for amounts traded (R, N)."""

    def __init__(self, tape: Tape, t: int, costs: CostModel | None, price: FloatArray) -> None:
        self._tape, self._t, self._costs, self._price = tape, t, costs, price
        self._rows: tuple[int, pd.DataFrame, pd.Index] | None = None

    def parts(self, units: FloatArray) -> tuple[FloatArray, dict[str, FloatArray]]:
        """Money by trade (R, N), and by part and book (R,)."""
        total = np.zeros(units.shape)
        if self._costs is None or not units.any():
            return total, {}
        if self._rows is None or self._rows[0] != len(units):
            self._rows = (len(units), *self._tape.quotes(self._t, len(units)))
        flat = units.ravel()
        quotes = Quotes(self._rows[1], self._rows[2], flat != 0.0)
        found = {}
        for name, money in self._costs.traded(quotes, flat).items():
            by_book = np.asarray(money, dtype=np.float64).reshape(units.shape)
            total += by_book
            found[name] = by_book.sum(axis=1)
        return total, found

    def total(self, amount: FloatArray) -> FloatArray:
        """Money by book (R,)."""
        return self.parts(amount / self._price)[0].sum(axis=1)


def trade_by_orders(
    tape: Tape,
    t: int,
    units: FloatArray,
    cash: FloatArray,
    targets: FloatArray,
    *,
    costs: CostModel | None,
    rules: OrderRules,
) -> Trades:
    """The same by orders that keep an account's rules: lots, minimums, assets not to be traded."""
    bought = np.zeros(units.shape)
    reasons: dict[tuple[int, int], str] = {}
    skipped: dict[int, list[str]] = {}
    prices = tape.prices[t]
    known = ~np.isnan(prices)
    closed = tuple(tape.assets[known & ~tape.quoted[t]])
    rules = replace(rules, no_trade=(*rules.no_trade, *closed), fees=_fees(tape, t, costs))
    labels = tape.assets[known]
    places = np.flatnonzero(known)
    for r in range(len(units)):
        plan = create_orders(
            pd.Series(np.where(tape.quoted[t], targets[r], 0.0)[known], index=labels),
            pd.Series(units[r][known], index=labels),
            pd.Series(prices[known], index=labels),
            cash=float(cash[r]),
            rules=rules,
            untargeted="sell",
        )
        for order in plan.orders:
            j = int(places[labels.get_loc(order.asset)])
            bought[r, j] += order.units
            reasons[r, j] = order.reason
        if len(plan.skipped):
            skipped[r] = [f"{name}: {row.reason}" for name, row in plan.skipped.iterrows()]
    price = np.nan_to_num(prices, nan=1.0)
    each, parts = _Charge(tape, t, costs, price).parts(bought)
    return Trades(bought, each, parts, reasons, skipped)


def _fees(tape: Tape, t: int, costs: CostModel | None) -> Fees:
    """What a cost model charges, as the rules of orders have it."""
    if costs is None:
        return 0.0
    frame, labels = tape.quotes(t)
    price = frame["price"].to_numpy()
    traded = tape.quoted[t]
    quotes = Quotes(frame, labels, traded)

    def total(value: float) -> FloatArray:
        quantity = np.where(traded, value / np.where(traded, price, 1.0), 0.0)
        return np.sum(list(costs.traded(quotes, quantity).values()), axis=0)

    # where a trade of next to nothing costs the same share of it as a very large one, a rate says it all
    rates = [np.where(traded, total(value) / abs(value), 0.0) for value in (_SMALL, _LARGE, -_SMALL, -_LARGE)]
    buys, sells = (np.allclose(a, b, rtol=1e-9, atol=0.0) for a, b in (rates[:2], rates[2:]))
    if buys and sells:
        if np.allclose(rates[0], rates[2], rtol=1e-12, atol=0.0):
            return pd.Series(1e4 * rates[0], index=labels)
        by_side = {
            asset: (buy, sell) for asset, buy, sell in zip(labels, rates[0].tolist(), rates[2].tolist(), strict=True)
        }
        return lambda asset, units, price: abs(units) * price * by_side[asset][0 if units > 0 else 1]
    single = {asset: Quotes(frame.iloc[[j]], labels[[j]], np.ones(1, bool)) for j, asset in enumerate(labels)}

    def fee(asset: str, units: float, price: float) -> float:
        return float(sum(money[0] for money in costs.traded(single[asset], np.array([units])).values()))

    return fee

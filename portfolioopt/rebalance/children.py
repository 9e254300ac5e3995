"""Child orders: whole lots that add up to the order, what they cost, and buys that wait for cash."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.labels import FloatArray, some

from .rounding import nearest_lots

_WHOLE: Final = 1e-9  # a quantity that is off a whole number of lots by less is taken for whole
_HALVINGS: Final = 60


@dataclass(frozen=True, eq=False)
class Execution:
    """Prices at the decision, and how trades move them; all by asset (N,)."""

    price: FloatArray
    permanent: FloatArray
    """Move of the price for good, per unit traded."""
    temporary: FloatArray
    """Move of the price while it trades, per unit traded in a period."""
    half_spread: FloatArray

    def costs(self, units: FloatArray) -> FloatArray:
        """What trades (periods, N), buys positive, are expected to cost beyond the prices at the decision."""
        before = np.cumsum(units, axis=0) - units
        return units * self.permanent * before + self.of_period(units)

    def of_period(self, units: FloatArray) -> FloatArray:
        """Spread and temporary impact of trades (..., N)."""
        return self.half_spread * np.abs(units) + self.temporary * units**2


def whole_lots(
    ideal: FloatArray, total: FloatArray, lots: FloatArray, caps: FloatArray, assets: pd.Index
) -> FloatArray:
    """Trades (periods, N) in whole lots by largest remainders, which sum to the totals (N,) and keep to the caps.

    The odd rest of an order, below a lot, goes with its last child that has room for it. Without a lot, trades stay as
    they are, and their sum is that of the order up to rounding.
    """
    units = ideal.copy()
    for i in range(len(total)):
        side, size, lot = np.sign(total[i]), abs(total[i]), lots[i]
        if lot == 0.0:
            units[np.argmax(np.abs(units[:, i])), i] += total[i] - units[:, i].sum()
            continue
        count = np.floor(size / lot + _WHOLE)
        rest = size - count * lot
        rest = 0.0 if abs(rest) <= _WHOLE * lot else rest
        room = np.floor(caps[:, i] / lot + _WHOLE)
        wanted = side * ideal[:, i] * (count / size)  # in lots
        children = np.clip(np.floor(wanted + _WHOLE), -room, room)
        missing = int(count - children.sum())
        by_remainder = np.argsort(children - wanted, kind="stable")
        while missing > 0:
            given = by_remainder[children[by_remainder] < room[by_remainder]][:missing]
            if not len(given):
                raise InputError(f"schedule_orders: lots of {lot:g} of {assets[i]} do not fit under the participation")
            children[given] += 1.0
            missing -= len(given)
        sizes = children * lot
        if rest > 0.0:
            fits = np.flatnonzero(sizes + rest <= caps[:, i] * (1.0 + _WHOLE))
            if not len(fits):
                raise InputError(
                    f"schedule_orders: the odd rest of {rest:g} of {assets[i]} does not fit under the participation; "
                    "round the order to whole lots, or give more periods"
                )
            busy = fits[sizes[fits] > 0.0]
            sizes[(busy if len(busy) else fits)[-1]] += rest
        units[:, i] = side * sizes
    return units


def paced(
    units: FloatArray,
    execution: Execution,
    lots: FloatArray,
    cap: Callable[[int], FloatArray],
    cash: float,
    longest: int,
    assets: pd.Index,
) -> FloatArray:
    """Trades (periods or more, N) of which the buys wait until sells and cash have paid for them, costs included.

    In every period sells come first. Buys that are due then share the cash in proportion to what they want; the rest
    waits for the next period.
    """
    sells, due = np.minimum(units, 0.0), np.maximum(units, 0.0)
    order = due.sum(axis=0)
    done, sold = np.zeros(len(order)), np.zeros(len(order))
    rows: list[FloatArray] = []
    money, k = cash, 0
    while k < len(units) or (done < order).any():
        if k == longest:
            _refuse(order - done, execution, assets, money, longest)
        out = sells[k] if k < len(units) else np.zeros(len(order))
        money -= float((out * (execution.price + execution.permanent * sold) + execution.of_period(out)).sum())
        if money < 0.0 and out.any():
            raise InputError("schedule_orders: sells cost more than they bring, and there is no cash for it")
        sold = sold + out
        schedule = np.minimum(due[: k + 1].sum(axis=0), order) if k < len(units) else order
        most = cap(k)
        want = np.where(schedule - done <= most * (1.0 + _WHOLE), schedule - done, _down(most, lots))
        bought = _affordable(want, execution, done, lots, money)
        before = done
        done = np.where(bought >= (order - done) * (1.0 - 1e-12), order, done + bought)
        spent = float((bought * (execution.price + execution.permanent * before)).sum())
        spent += float(execution.of_period(bought).sum())
        if k >= len(units) and not bought.any():
            _refuse(order - done, execution, assets, money, None)
        money -= spent
        rows.append(out + bought)
        k += 1
    return np.array(rows)


def _down(units: FloatArray, lots: FloatArray) -> FloatArray:
    whole = np.where(lots > 0.0, lots, 1.0)
    return np.where(lots > 0.0, np.floor(np.minimum(units / whole, 1e300) + _WHOLE) * whole, units)


def _affordable(want: FloatArray, execution: Execution, done: FloatArray, lots: FloatArray, money: float) -> FloatArray:
    """What of the buys wanted (N,) the money pays for, in equal parts and whole lots."""
    price = execution.price + execution.permanent * done

    def cost(units: FloatArray) -> float:
        return float((units * price + execution.of_period(units)).sum())

    if not want.any() or money <= 0.0:
        return np.zeros_like(want)
    if cost(want) <= money:
        return want
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if cost(middle * want) <= money else (low, middle)
    if not lots.any():
        return low * want

    def one(i: int, quantity: float) -> float:
        single = quantity * (price[i] + execution.half_spread[i]) + execution.temporary[i] * quantity**2
        return float(single)

    return np.minimum(nearest_lots(low * want, want * price, price, lots, money, one), want)


def _refuse(left: FloatArray, execution: Execution, assets: pd.Index, money: float, periods: int | None) -> None:
    missing = float((left * execution.price).sum())
    names = some(assets[left > 0.0])
    if periods is None:
        raise InputError(
            f"schedule_orders: all sells are done and {money:,.2f} of cash is left, but {names} still cost "
            f"{missing:,.2f} and more; buy less, or give more cash"
        )
    raise InputError(
        f"schedule_orders: after {periods} periods {names} are not bought, for {missing:,.2f} and costs, since buys "
        "wait for cash; sell sooner, give more cash, or pass extend=True"
    )

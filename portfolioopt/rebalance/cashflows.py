r"""Cash that comes in, and cash that has to go out, without a rebalance.

What comes in buys what is below its target, :math:`s_i = (t_i \mathrm{NAV} - v_i)_+`; what goes out is sold of what
is above it. Either in proportion to :math:`s_i`, or the furthest first,

.. math:: x_i = (s_i - \lambda)_+, \qquad \sum_i x_i = \text{amount},

which lowers the largest distance until it meets the next, then both: the least sum of squared distances that the
amount can buy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.labels import FloatArray, checked_number

from .order_rules import CENTLESS, OrderPlan, OrderRules
from .orders import book_and_targets
from .settlement import Settlement, Wanted
from .valuation import Valuation

Method = Literal["furthest", "pro rata"]


def invest_cash(
    amount: float,
    targets: pd.Series | Mapping[str, float],
    holdings: pd.Series | Mapping[str, float],
    prices: pd.Series | Mapping[str, float],
    *,
    cash: float = 0.0,
    method: Method = "furthest",
    rules: OrderRules | None = None,
    untargeted: Literal["refuse", "sell"] = "refuse",
) -> OrderPlan:
    """Buy what is below its target with cash that has come in. Nothing is sold.

    Fees are paid out of the amount. What the targets leave in cash stays there, so not all of the amount need be
    spent.

    Parameters
    ----------
    amount
        What has come in, in account currency. Below ``rules.minimum_investment`` nothing is done, and the plan's note
        says so.
    targets, holdings, prices, rules, untargeted
        See :func:`create_orders`.
    cash
        What was there before the amount came in; it is left alone.
    method
        ``"furthest"`` below target first, or ``"pro rata"``.
    """
    rules = OrderRules() if rules is None else rules
    inflow = checked_number(amount, "amount", least=0.0)
    _check(method)
    before = checked_number(cash, "cash")
    book, wanted = book_and_targets(targets, holdings, prices, before + inflow, untargeted)
    settlement = Settlement(book, rules)
    if inflow < rules.minimum_investment:
        plan = settlement.plan(Wanted(np.zeros(len(wanted)), wanted))
        return replace(plan, note=f"{inflow:,.2f} is below the minimum investment of {rules.minimum_investment:g}")
    short = np.maximum(wanted * book.nav - book.positions, 0.0)
    short[book.assets.isin(rules.no_trade)] = 0.0
    bought = _shared(short, inflow, method)
    return settlement.plan(Wanted(bought, (book.positions + bought) / book.nav, spend=inflow))


def raise_cash(
    amount: float,
    targets: pd.Series | Mapping[str, float],
    holdings: pd.Series | Mapping[str, float],
    prices: pd.Series | Mapping[str, float],
    *,
    cash: float = 0.0,
    method: Method = "furthest",
    rules: OrderRules | None = None,
    untargeted: Literal["refuse", "sell"] = "refuse",
) -> OrderPlan:
    """Sell what is above its target until an amount can be paid out. Nothing is bought, nothing sold short.

    The cash there is counts, and what it does not cover is raised with the fees on top, rounded up to whole lots. The
    targets are those of the book after the amount has left; where nothing is above them any more, all positions are
    sold in proportion.

    Parameters
    ----------
    amount
        What has to be there in cash, above the reserve, in account currency.
    targets, holdings, prices, cash, method, rules, untargeted
        See :func:`invest_cash`.

    Raises
    ------
    InputError
        Where the positions that may be traded do not bring the amount.
    """
    rules = OrderRules() if rules is None else rules
    needed = checked_number(amount, "amount", least=0.0) + rules.reserve
    _check(method)
    book, wanted = book_and_targets(targets, holdings, prices, cash, untargeted)
    free = np.where(book.assets.isin(rules.no_trade), 0.0, np.maximum(book.positions, 0.0))
    excess = np.clip(book.positions - wanted * max(book.nav - needed, 0.0), 0.0, free)
    gross = needed - book.cash
    if gross <= 0.0:
        return Settlement(book, rules).plan(Wanted(np.zeros(len(wanted)), wanted))
    plan = _sold(book, rules, excess, free, gross, method)
    for _ in range(50):
        missing = needed - plan.cash
        if missing <= CENTLESS * book.nav:
            return plan
        if gross >= free.sum():
            break
        # What fees, and orders too small to be made, have kept back comes on top.
        gross = min(gross + missing, float(free.sum()))
        plan = _sold(book, rules, excess, free, gross, method)
    raise InputError(
        f"selling all that may be sold brings cash to {plan.cash:,.2f}, short of the {needed:,.2f} wanted; lower the "
        "amount or shorten the no-trade list"
    )


def _sold(
    book: Valuation, rules: OrderRules, excess: FloatArray, free: FloatArray, gross: float, method: Method
) -> OrderPlan:
    sold = _shared(excess, gross, method)
    rest = free - sold
    left = min(gross - sold.sum(), rest.sum())
    if left > 0.0:
        sold = np.minimum(sold + rest * (left / rest.sum()), free)
    after = np.where(sold >= book.positions * (1.0 - 1e-12), 0.0, book.positions - sold)
    weight = np.where(sold > 0.0, after, book.positions) / book.nav
    return Settlement(book, rules).plan(Wanted(-sold, weight, round_up=True))


def _shared(distance: FloatArray, amount: float, method: Method) -> FloatArray:
    """Shares (N,) of an amount, none above its distance; all distances where the amount covers them."""
    total = float(distance.sum())
    if total <= amount:
        return distance.copy()
    if method == "pro rata":
        return distance * (amount / total)
    falling = np.sort(distance)[::-1]
    level = (np.cumsum(falling) - amount) / np.arange(1, len(falling) + 1)
    # The level rises with every asset that is lifted, and falls again once one is counted that lies below it.
    return np.maximum(distance - level.max(), 0.0)


def _check(method: str) -> None:
    if method not in ("furthest", "pro rata"):
        raise InputError(f"method must be 'furthest' or 'pro rata', was {method!r}")

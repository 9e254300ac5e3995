r"""From target weights to orders: the trades that lead to the targets after the fees are paid.

With position values :math:`v_i`, target weights :math:`w_i` and fees :math:`f(\cdot)`, the amounts to trade solve

.. math:: a_i = w_i\,(\mathrm{NAV} - F) - v_i, \qquad F = \sum_i f(a_i) ,

so that the book has its target weights once the fees have left it. Rounding, minimum orders and the cash that is there
then cut the amounts down.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.labels import FloatArray

from .order_rules import OrderPlan, OrderRules
from .settlement import Settlement, Wanted
from .valuation import Valuation, joined, value_book

_CREDIT = 1e-6  # targets may sum to this much more than one before they are taken for a book on credit


def create_orders(
    targets: pd.Series | Mapping[str, float],
    holdings: pd.Series | Mapping[str, float],
    prices: pd.Series | Mapping[str, float],
    *,
    cash: float = 0.0,
    rules: OrderRules | None = None,
    untargeted: Literal["refuse", "sell"] = "refuse",
) -> OrderPlan:
    """Orders that bring a book to target weights, sells before buys, without ever needing credit.

    Sells are rounded to the nearest lot, never beyond the position where the target is not short. Buys share the cash
    there is in proportion to what they want, and are rounded up or down to whole lots so that they stay nearest to
    the targets (see :mod:`portfolioopt.rebalance.rounding`). Orders below the minimum are left out, the smallest
    first.

    Parameters
    ----------
    targets
        Fractions of NAV (N,), summing to one or less; what is left is cash.
    holdings
        Units by asset, negative for short positions.
    prices
        Price of one unit in account currency, for everything that is held or has a target.
    cash
        In account currency. Where it is negative, sells are rounded up to repay it.
    rules
        What the account allows; fractions of shares, no fees, orders from 1 on by default.
    untargeted
        What to do about positions without a target: refuse, or sell.

    Raises
    ------
    InputError
        For targets that need credit, prices that are missing, a net asset value that is not positive, fees that would
        eat it up, and cash that stays negative after all sells.
    """
    rules = OrderRules() if rules is None else rules
    book, wanted = book_and_targets(targets, holdings, prices, cash, untargeted)
    settlement = Settlement(book, rules)
    frozen = book.assets.isin(rules.no_trade)
    positions, nav = book.positions, book.nav
    after = nav
    for _ in range(100):
        amount = np.where(frozen, 0.0, wanted * after - positions)
        paid = nav - settlement.fees(amount)
        if paid <= 0.0:
            raise InputError(f"the fees of the rebalance, {nav - paid:,.2f}, exceed the net asset value of {nav:,.2f}")
        if abs(paid - after) <= 1e-14 * nav:
            break
        after = paid
    return settlement.plan(Wanted(wanted * after - positions, wanted, round_up=book.cash < 0.0))


def book_and_targets(
    targets: pd.Series | Mapping[str, float],
    holdings: pd.Series | Mapping[str, float],
    prices: pd.Series | Mapping[str, float],
    cash: float,
    untargeted: Literal["refuse", "sell"],
) -> tuple[Valuation, FloatArray]:
    """A book over the assets of the targets and holdings, and the targets (N,) in its order."""
    given = targets if isinstance(targets, pd.Series) else pd.Series(dict(targets), dtype=np.float64)
    assets, _, wanted = joined(holdings, given, untargeted=untargeted)
    total = float(wanted.sum())
    if total > 1.0 + _CREDIT:
        raise InputError(
            f"the targets sum to {total:.6g}, so that {total - 1.0:.2%} of NAV would have to be borrowed; orders are "
            "paid with cash, so scale the targets, for example with targets / targets.sum()"
        )
    book = value_book(holdings, prices, cash=cash, also=assets[wanted != 0.0])
    places = book.assets.get_indexer(assets)
    there = places >= 0
    units = np.where(there, book.units[places], 0.0) if len(book.assets) else np.zeros(len(assets))
    price = np.where(there, book.prices[places], np.nan) if len(book.assets) else np.full(len(assets), np.nan)
    return Valuation(assets, units, price, book.cash), wanted

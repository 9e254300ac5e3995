"""From amounts of money to orders that can be paid: sells first, buys from what is there, in whole lots."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError, unknown_names
from portfolioopt.labels import FloatArray

from .order_rules import CENTLESS, Order, OrderPlan, OrderRules, execute
from .rounding import floor_lots, nearest_lots
from .valuation import Valuation


@dataclass(frozen=True, eq=False)
class Wanted:
    """Trades wanted of a book, over its assets (N,)."""

    amount: FloatArray
    """In account currency, signed; negative to sell."""
    weight: FloatArray
    """Weight that it leads to, as a fraction of NAV."""
    spend: float = np.inf
    """Most that buys and their fees may use, in account currency."""
    round_up: bool = False
    """Whether sells are rounded up to lots, to bring at least what is wanted."""


class Settlement:
    """Turns wanted trades of a book into orders, one plan per object."""

    def __init__(self, book: Valuation, rules: OrderRules) -> None:
        unknown = pd.Index(rules.no_trade).difference(book.assets)
        if len(unknown):
            raise unknown_names("asset in no_trade", list(unknown), book.assets)
        self.book = book
        self.rules = rules
        self.lot = rules.lots(book.assets)
        rules.check_fees(book.assets)
        self.nav = book.nav
        self.positions = book.positions
        self.cash = book.cash
        self.orders: list[Order] = []
        self.skipped: list[tuple[str, str, float, str]] = []

    def fees(self, amount: FloatArray) -> float:
        """Fees of trading these amounts (N,), in account currency, without those too small to be made."""
        made = np.flatnonzero(self.tradable(amount))
        units = amount[made] / self.book.prices[made]
        return float(sum(self._fee(int(i), float(q)) for i, q in zip(made, units, strict=True)))

    def tradable(self, amount: FloatArray) -> np.ndarray:
        """Which amounts (N,) are worth an order."""
        size = np.abs(amount)
        return (size > CENTLESS * self.nav) & (size >= self.rules.minimum_value - CENTLESS * self.nav)

    def plan(self, wanted: Wanted) -> OrderPlan:
        """The orders."""
        amount = np.where(np.abs(wanted.amount) <= CENTLESS * self.nav, 0.0, wanted.amount)
        frozen = self.book.assets.isin(self.rules.no_trade)
        for i in np.flatnonzero(frozen & (amount != 0.0)):
            self._skip(int(i), amount, "on the no-trade list")
        amount[frozen] = 0.0
        self._sell(amount, wanted)
        if self.cash < -CENTLESS * self.nav:
            raise InputError(
                f"cash is {self.book.cash:,.2f} and the sells leave it at {self.cash:,.2f}: the account would need "
                "credit; lower the targets, shorten the no-trade list, or pay cash in"
            )
        self._buy(amount, wanted)
        columns = pd.Index(["asset", "side", "value", "reason"])
        units = pd.Series(self.book.units, index=self.book.assets, name="units")
        holdings, cash = execute(self.orders, units, self.book.cash)
        return OrderPlan(
            tuple(self.orders),
            pd.DataFrame(self.skipped, columns=columns).set_index("asset"),
            holdings,
            0.0 if abs(cash) <= CENTLESS * self.nav else cash,
            self.nav,
        )

    def _sell(self, amount: FloatArray, wanted: Wanted) -> None:
        for i in _larger_first(-amount):
            held, lot, price = self.book.units[i], self.lot[i], self.book.prices[i]
            quantity = -amount[i] / price
            closes = held > 0.0 and quantity >= held * (1.0 - 1e-12) and wanted.weight[i] == 0.0
            rounded = ""
            if closes:
                quantity = held
            elif lot > 0.0:
                exact, quantity = quantity, self._whole(quantity, lot, up=wanted.round_up)
                if held > 0.0 and wanted.weight[i] >= 0.0 and quantity > held:
                    quantity = held if wanted.round_up else float(floor_lots(np.array([held]), np.array([lot]))[0])
                rounded = "" if abs(quantity - exact) <= 1e-9 * lot else ", in whole lots"
            value = quantity * price
            fee = self._fee(i, -quantity)
            if quantity == 0.0:
                self._skip(i, amount, "less than half a lot")
            elif value < self.rules.minimum_value - CENTLESS * self.nav:
                self._skip(i, amount, f"below the minimum order of {self.rules.minimum_value:g}")
            elif value < fee and self.cash + value - fee < 0.0:
                self._skip(i, amount, "its fee is more than it brings, and there is no cash for it")
            else:
                self._order(i, "sell", quantity, fee, self._reason(i, wanted, rounded))

    def _buy(self, amount: FloatArray, wanted: Wanted) -> None:
        floor = self.rules.reserve
        money = min(self.cash - floor, wanted.spend)
        chosen = np.array(_larger_first(amount), dtype=np.intp)
        small = ~self.tradable(amount[chosen])
        for i in chosen[small]:
            self._skip(int(i), amount, f"below the minimum order of {self.rules.minimum_value:g}")
        chosen = chosen[~small]
        share = 1.0
        while len(chosen):
            share = self._affordable(chosen, amount, money)
            small = ~self.tradable(amount[chosen] * share)
            if not small.any():
                break
            # Dropping the smallest alone leaves the others as much as there is.
            self._skip(int(chosen[-1]), amount, "there is not enough cash for it")
            chosen = chosen[:-1]
        if not len(chosen):
            return
        prices, lot = self.book.prices[chosen], self.lot[chosen].copy()
        units = amount[chosen] * share / prices
        covers = np.zeros(len(chosen), dtype=bool)
        if share == 1.0:
            # A short position that is covered whole is covered with its odd rest.
            covers = (wanted.weight[chosen] == 0.0) & (self.book.units[chosen] < 0.0)
            units = np.where(covers, -self.book.units[chosen], units)
            lot[covers] = 0.0
        final = nearest_lots(
            units, amount[chosen], prices, lot, money, lambda k, q: q * prices[k] + self._fee(int(chosen[k]), q)
        )
        limit = self.cash - money
        for k, i in enumerate(chosen):
            exact = bool(covers[k] or lot[k] > 0.0)
            quantity, fee = self._within(int(i), float(final[k]), float(lot[k]), limit, exact=exact)
            if quantity == 0.0:
                self._skip(int(i), amount, "less than a lot, or not enough cash for one")
            elif quantity * prices[k] < self.rules.minimum_value - 1e-9 * self.rules.minimum_value:
                self._skip(int(i), amount, f"below the minimum order of {self.rules.minimum_value:g}")
            else:
                cut = ", cut to the cash there is" if share < 1.0 - 1e-12 else ""
                whole = ", in whole lots" if abs(quantity - units[k]) > 1e-9 * max(lot[k], units[k]) else ""
                self._order(int(i), "buy", quantity, fee, self._reason(int(i), wanted, cut + whole))

    def _affordable(self, chosen: np.ndarray, amount: FloatArray, money: float) -> float:
        """The largest share of the amounts, up to one, that the money pays for with all fees."""

        def cost(share: float) -> float:
            money_each = share * amount[chosen]
            units = money_each / self.book.prices[chosen]
            return float(money_each.sum()) + sum(
                self._fee(int(i), float(q)) for i, q in zip(chosen, units, strict=True)
            )

        if money <= 0.0:
            return 0.0
        whole = cost(1.0)
        if whole <= money + CENTLESS * self.nav:
            return 1.0
        if not callable(self.rules.fees):
            return money / whole
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if cost(middle) <= money else (low, middle)
        return low

    def _within(self, i: int, quantity: float, lot: float, limit: float, *, exact: bool) -> tuple[float, float]:
        """A quantity, and its fee, that leaves cash at the limit or above; smaller by rounding, or by whole lots.

        An exact quantity is not given up for cash that is short by rounding alone.
        """
        shrink = 2.0**-52
        while quantity > 0.0:
            fee = self._fee(i, quantity)
            short = limit - (self.cash - quantity * self.book.prices[i] - fee)
            if short <= (CENTLESS * self.nav if exact else 0.0):
                return quantity, fee
            quantity = max(quantity - lot, 0.0) if lot > 0.0 else quantity * (1.0 - shrink)
            shrink = min(2.0 * shrink, 1.0)
        return 0.0, 0.0

    def _order(self, i: int, side: str, quantity: float, fee: float, reason: str) -> None:
        price = float(self.book.prices[i])
        order = Order(
            len(self.orders) + 1,
            self.book.assets[i],
            "sell" if side == "sell" else "buy",
            float(quantity),
            price,
            float(quantity) * price,
            fee,
            reason,
        )
        self.orders.append(order)
        self.cash += order.cash_flow

    def _skip(self, i: int, amount: FloatArray, reason: str) -> None:
        value = float(amount[i])
        self.skipped.append((self.book.assets[i], "sell" if value < 0.0 else "buy", abs(value), reason))

    def _reason(self, i: int, wanted: Wanted, more: str) -> str:
        before = self.positions[i] / self.nav
        return f"from {before:.2%} to {wanted.weight[i]:.2%} of NAV{more}"

    def _fee(self, i: int, units: float) -> float:
        return self.rules.fee(self.book.assets[i], float(units), float(self.book.prices[i]))

    @staticmethod
    def _whole(quantity: float, lot: float, *, up: bool) -> float:
        ratio = quantity / lot
        return float(np.ceil(ratio - 1e-9) if up else np.ceil(ratio - 0.5 - 1e-9)) * lot


def _larger_first(amount: FloatArray) -> list[int]:
    """Places of the positive amounts, the larger first, ties in the order of the assets."""
    places = np.flatnonzero(amount > 0.0)
    return [int(i) for i in places[np.argsort(-amount[places], kind="stable")]]

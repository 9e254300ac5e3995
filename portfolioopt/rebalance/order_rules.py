"""Orders, the rules that they keep, and what executing them does to a book."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.labels import FloatArray, PerAsset, align, checked_number, per_asset, some

Fees: TypeAlias = PerAsset | Callable[[str, float, float], float]

CENTLESS: Final = 1e-12  # sums of money that are this close to zero, as fractions of NAV, are rounding
_BPS: Final = 5000.0  # fees beyond this are taken for a mistake in the unit


@dataclass(frozen=True)
class Order:
    """One order, to be executed after all with a smaller sequence."""

    sequence: int
    """1 to n."""
    asset: str
    side: Literal["sell", "buy"]
    quantity: float
    """Units, positive on both sides."""
    price: float
    """Price of one unit in account currency that it was planned at."""
    value: float
    """Quantity times price, positive on both sides."""
    fee: float
    """In account currency, never negative."""
    reason: str
    """Why, in words."""

    @property
    def cash_flow(self) -> float:
        """What it does to cash at this price, fee included: positive for most sells."""
        return (self.value if self.side == "sell" else -self.value) - self.fee

    @property
    def units(self) -> float:
        """What it does to the position: negative for sells."""
        return -self.quantity if self.side == "sell" else self.quantity


@dataclass(frozen=True, eq=False)
class OrderRules:
    """What an account allows.

    Parameters
    ----------
    minimum_value
        Smallest order, in account currency; an order of exactly this value is made.
    minimum_investment
        Smallest amount of new cash worth investing, in account currency.
    lot
        Quantities are whole multiples of it: 0 for any fraction, 1 for whole shares, 100 for round lots, 1e-9 where a
        broker keeps nine decimals. One number, or one per asset. A position that is closed is closed with its odd rest.
    no_trade
        Assets that are left as they are.
    reserve
        Cash that buys leave untouched, in account currency.
    fees
        Basis points of the value traded (5 means 0.05 %), one number or one per asset; or a function of (asset, signed
        units, price) that gives money, not negative, and never falls when more is traded.
    """

    minimum_value: float = 1.0
    minimum_investment: float = 10.0
    lot: PerAsset = 0.0
    no_trade: tuple[str, ...] = ()
    reserve: float = 0.0
    fees: Fees = 0.0

    def __post_init__(self) -> None:
        for name in ("minimum_value", "minimum_investment", "reserve"):
            checked_number(getattr(self, name), name, least=0.0)
        if isinstance(self.no_trade, str):
            raise InputError(f"no_trade must be a tuple of assets, was the text {self.no_trade!r}")

    def lots(self, assets: pd.Index) -> FloatArray:
        """Lot of every asset (N,)."""
        lot = _per_asset(self.lot, assets, "lot")
        if (lot < 0.0).any():
            raise InputError(f"lot is negative for {some(assets[lot < 0.0])}")
        return lot

    def fee(self, asset: str, units: float, price: float) -> float:
        """Fee of trading so many units of an asset, in account currency."""
        if units == 0.0:
            return 0.0
        if callable(self.fees):
            fee = checked_number(self.fees(asset, units, price), f"the fee of {asset}", least=0.0)
        else:
            bps = self.fees[asset] if isinstance(self.fees, pd.Series | Mapping) else self.fees
            fee = abs(units) * price * float(bps) / 1e4
        return fee

    def check_fees(self, assets: pd.Index) -> None:
        """Refuse fees in basis points that are missing, negative, or look like another unit."""
        if callable(self.fees):
            return
        bps = _per_asset(self.fees, assets, "fees")
        wrong = (bps < 0.0) | (bps > _BPS)
        if wrong.any():
            raise InputError(f"fees is not between 0 and {_BPS:g} basis points for {some(assets[wrong])}")


@dataclass(frozen=True, eq=False)
class OrderPlan:
    """Orders in their sequence, what was left out and why, and the book they lead to at the prices planned with."""

    orders: tuple[Order, ...]
    skipped: pd.DataFrame
    """Trades that were wanted and not made: side, value and reason, by asset."""
    holdings: pd.Series
    """Units after all orders."""
    cash: float
    """Cash after all orders and fees, in account currency."""
    nav: float
    """Net asset value before, in account currency; after, it is smaller by the fees."""
    note: str = ""
    """Why there are no orders at all, where a rule forbids them."""

    @property
    def fees(self) -> float:
        """All fees, in account currency."""
        return float(sum(order.fee for order in self.orders))

    @property
    def frame(self) -> pd.DataFrame:
        """One row per order, in its sequence, with the cash after it."""
        columns = ["asset", "side", "quantity", "price", "value", "fee", "cash_after", "reason"]
        flows = [order.cash_flow for order in self.orders]
        after = self.cash - sum(flows) + np.cumsum(flows)
        after = np.where(np.abs(after) <= CENTLESS * self.nav, 0.0, after)
        rows = [
            (o.asset, o.side, o.quantity, o.price, o.value, o.fee, cash, o.reason)
            for o, cash in zip(self.orders, after, strict=True)
        ]
        index = pd.Index([order.sequence for order in self.orders], name="sequence", dtype=np.int64)
        return pd.DataFrame(rows, columns=pd.Index(columns), index=index)


def execute(orders: Iterable[Order], holdings: pd.Series, cash: float) -> tuple[pd.Series, float]:
    """Units and cash after orders were filled at their prices, one by one.

    At those prices positions, cash and the fees paid add up to the net asset value before.
    """
    units, money = holdings.astype(np.float64), checked_number(cash, "cash")
    for order in orders:
        units[order.asset] = units.get(order.asset, 0.0) + order.units
        money += order.cash_flow
    return units, money


def _per_asset(value: PerAsset, assets: pd.Index, what: str) -> FloatArray:
    """One number for all, or labelled numbers of which only those for `assets` are looked at."""
    if not isinstance(value, pd.Series | Mapping):
        return per_asset(value, assets, what=what)
    series = value if isinstance(value, pd.Series) else pd.Series(dict(value), dtype=object)
    return align(series[series.index.isin(assets)], assets, what=what)

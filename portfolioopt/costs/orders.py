"""Orders and fills: facts about what was asked for and what was done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.labels import checked_number

Side = Literal["buy", "sell"]


@dataclass(frozen=True)
class Order:
    """An order as it went out, with the market it met.

    Parameters
    ----------
    order_id
        Its name.
    asset
        What is traded.
    side
        ``"buy"`` or ``"sell"``.
    quantity
        Units, positive.
    decision_price
        Price of a unit when the trade was decided, account currency.
    arrival_price
        Mid price of a unit when the order went out.
    time
        When that was; without a time zone it is UTC.
    spread
        Ask less bid then, in basis points of the price.
    volume
        Units the market trades per day.
    volatility
        Standard deviation of the daily return, a fraction.
    venue
        Where it was sent.
    """

    order_id: str
    asset: str
    side: Side
    quantity: float
    decision_price: float
    arrival_price: float
    time: pd.Timestamp
    spread: float
    volume: float
    volatility: float
    venue: str = ""

    def __post_init__(self) -> None:
        who = f"order {self.order_id!r}"
        for name in ("order_id", "asset"):
            _check_name(getattr(self, name), f"{who}: {name}")
        if not isinstance(self.venue, str):
            raise InputError(f"{who}: venue must be a name, was {self.venue!r}")
        if self.side not in ("buy", "sell"):
            raise InputError(f"{who}: side must be 'buy' or 'sell', was {self.side!r}")
        for name in ("quantity", "decision_price", "arrival_price", "volume"):
            object.__setattr__(self, name, checked_number(getattr(self, name), f"{who}: {name}", above=0.0))
        spread = checked_number(self.spread, f"{who}: spread", least=0.0)
        if spread > 5000.0:
            raise InputError(f"{who}: a spread of {spread:g} basis points is {spread / 1e4:.0%} of the price")
        object.__setattr__(self, "spread", spread)
        volatility = checked_number(self.volatility, f"{who}: volatility", above=0.0)
        if volatility > 2.0:
            raise InputError(f"{who}: a daily volatility of {volatility:.0%} looks like another unit; it is a fraction")
        object.__setattr__(self, "volatility", volatility)
        object.__setattr__(self, "time", _in_utc(self.time, f"{who}: time"))

    @property
    def sign(self) -> float:
        """1 for buys, -1 for sells."""
        return 1.0 if self.side == "buy" else -1.0


@dataclass(frozen=True)
class Fill:
    """A part of an order that was done.

    Parameters
    ----------
    fill_id
        Its name, by which a repeated report is known.
    order_id
        The order it belongs to.
    quantity
        Units, positive.
    price
        Paid or received per unit, account currency.
    time
        When it was done, whenever the report comes; without a time zone it is UTC.
    commission
        Fees and taxes, account currency.
    """

    fill_id: str
    order_id: str
    quantity: float
    price: float
    time: pd.Timestamp
    commission: float = 0.0

    def __post_init__(self) -> None:
        who = f"fill {self.fill_id!r}"
        for name in ("fill_id", "order_id"):
            _check_name(getattr(self, name), f"{who}: {name}")
        for name in ("quantity", "price"):
            object.__setattr__(self, name, checked_number(getattr(self, name), f"{who}: {name}", above=0.0))
        object.__setattr__(self, "commission", checked_number(self.commission, f"{who}: commission", least=0.0))
        object.__setattr__(self, "time", _in_utc(self.time, f"{who}: time"))


@dataclass(frozen=True)
class Close:
    """The end of an order: nothing is done after it.

    Parameters
    ----------
    order_id
        The order.
    price
        Mid price then, account currency: what was not done is valued at it.
    time
        When that was; without a time zone it is UTC.
    """

    order_id: str
    price: float
    time: pd.Timestamp

    def __post_init__(self) -> None:
        who = f"close of order {self.order_id!r}"
        _check_name(self.order_id, f"{who}: order_id")
        object.__setattr__(self, "price", checked_number(self.price, f"{who}: price", above=0.0))
        object.__setattr__(self, "time", _in_utc(self.time, f"{who}: time"))


def _check_name(name: object, what: str) -> None:
    if not isinstance(name, str) or not name:
        raise InputError(f"{what} must be a name (a string), was {name!r}")


def _in_utc(time: object, what: str) -> pd.Timestamp:
    try:
        stamp = pd.Timestamp(time).as_unit("ns")  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise InputError(f"{what} must be a time, was {time!r}") from error
    if not isinstance(stamp, pd.Timestamp) or pd.isna(stamp):
        raise InputError(f"{what} is missing")
    return stamp.tz_localize("UTC") if stamp.tzinfo is None else stamp.tz_convert("UTC")

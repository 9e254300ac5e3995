"""What is known about each asset when it trades: the rows of a frame, checked where they are needed and not before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.labels import FloatArray, PerAsset, numbers, per_asset, some

BoolArray = npt.NDArray[np.bool_]

_UNITS = {
    "price": "in account currency per unit",
    "volume": "in units per day",
    "volatility": "the standard deviation of the daily return, a fraction",
    "spread": "ask less bid, in basis points of the price",
}
_LARGEST = {"volatility": 2.0, "spread": 5000.0}  # more is taken for a mistake in the unit


class RefusedTradeError(InputError):
    """A trade cannot be priced, because the market it would meet is not known.

    A cost that is not known is not zero. Give the missing figures, or leave the trade out; ``assets`` names whose.

    Parameters
    ----------
    message
        The text of the error.
    assets
        The assets that cannot be traded as asked.
    """

    def __init__(self, message: str, *, assets: Iterable[object] = ()) -> None:
        super().__init__(message)
        self.assets: tuple[object, ...] = tuple(assets)


@dataclass(frozen=True, eq=False)
class Quotes:
    """Figures about the assets of trades, positions or a market, one row each (R,)."""

    frame: pd.DataFrame
    assets: pd.Index
    needed: BoolArray  # rows with something to charge; what is missing elsewhere does no harm

    def __len__(self) -> int:
        return len(self.assets)

    def column(self, name: str, who: str) -> FloatArray:
        """A column (R,), known and possible where it is needed, and one elsewhere."""
        if name not in self.frame.columns:
            if not self.needed.any():
                return np.ones(len(self))
            raise RefusedTradeError(
                f"{who} needs the {name} of every trade ({_UNITS[name]}), and there is no column {name!r}; without it "
                f"{some(self._refused(self.needed))} cannot be priced",
                assets=self._refused(self.needed),
            )
        values = numbers(self.frame[name], name)
        positive = name in ("price", "volume")
        bad = self.needed & ~(np.isfinite(values) & (values > 0.0 if positive else values >= 0.0))
        if bad.any():
            refused = self._refused(bad)
            raise RefusedTradeError(
                f"{who}: the {name} is missing, infinite, or not {'positive' if positive else 'zero or more'} for "
                f"{some(refused)}; give it ({_UNITS[name]}), or leave the trade out",
                assets=refused,
            )
        large = self.needed & (values > _LARGEST.get(name, np.inf))
        if large.any():
            raise InputError(
                f"{who}: a {name} of {values[large].max():g} for {some(self._refused(large))} looks like another unit; "
                f"it is {_UNITS[name]}"
            )
        return np.where(self.needed, values, 1.0)

    def rates(self, value: PerAsset, what: str) -> FloatArray:
        """One number for all, or labelled numbers looked up for every row that needs one (R,)."""
        if not isinstance(value, pd.Series | Mapping):
            return per_asset(value, self.assets, what=what)
        series = value if isinstance(value, pd.Series) else pd.Series(dict(value), dtype=object)
        if series.index.has_duplicates:
            raise InputError(f"{what} has duplicate assets: {some(series.index[series.index.duplicated()].unique())}")
        found = numbers(series.reindex(self.assets), what)
        bad = self.needed & ~np.isfinite(found)
        if bad.any():
            raise RefusedTradeError(
                f"{what} says nothing about {some(self._refused(bad))}; give a value to all that is traded or held",
                assets=self._refused(bad),
            )
        return np.where(self.needed, found, 0.0)

    def _refused(self, rows: BoolArray) -> pd.Index:
        return pd.Index(self.assets[rows].unique())


def read_quantities(frame: object, what: str, who: str) -> tuple[Quotes, FloatArray]:
    """The rows of trades or positions, and their signed quantities (R,): finite, none missing."""
    quotes = _read(frame, what, who)
    if "quantity" not in quotes.frame.columns:
        raise InputError(f"{who}: {what} has no column 'quantity' (units, negative where sold or short)")
    quantity = numbers(quotes.frame["quantity"], f"the quantity in {what}")
    bad = ~np.isfinite(quantity)
    if bad.any():
        raise InputError(f"{who}: the quantity in {what} is missing or infinite for {some(quotes.assets[bad])}")
    return Quotes(quotes.frame, quotes.assets, quantity != 0.0), quantity


def read_market(market: object, who: str) -> Quotes:
    """What is known of every asset before it trades: a frame by asset, or a Series of prices."""
    frame = market.to_frame("price") if isinstance(market, pd.Series) else market
    quotes = _read(frame, "market", who)
    if quotes.assets.has_duplicates:
        repeated = quotes.assets[quotes.assets.duplicated()].unique()
        raise InputError(f"{who}: market has duplicate assets: {some(repeated)}; keep one row for each")
    return quotes


def _read(frame: object, what: str, who: str) -> Quotes:
    if not isinstance(frame, pd.DataFrame):
        raise InputError(f"{who}: {what} must be a frame with one row per asset, was {type(frame).__name__}")
    if frame.columns.has_duplicates:
        raise InputError(f"{who}: {what} has duplicate columns: {some(frame.columns[frame.columns.duplicated()])}")
    assets = pd.Index(frame["asset"]) if "asset" in frame.columns else frame.index
    if assets.hasnans:
        raise InputError(f"{who}: {what} has {np.count_nonzero(assets.isna())} rows without an asset; drop them")
    return Quotes(frame, assets, np.ones(len(frame), dtype=bool))

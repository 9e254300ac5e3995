r"""What a book is worth, and what prices did to its weights.

With units :math:`q_i`, prices :math:`p_i` and cash :math:`c`,

.. math:: \mathrm{NAV} = c + \sum_i q_i p_i, \qquad w_i = \frac{q_i p_i}{\mathrm{NAV}}, \qquad
          w_i' = \frac{w_i (1 + r_i)}{1 + \sum_j w_j r_j + (1 - \sum_j w_j) r_c} .
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.labels import FloatArray, align, checked_number, numbers, some


@dataclass(frozen=True, eq=False)
class Valuation:
    """A book at prices: arrays over the same assets (N,), and the cash beside them."""

    assets: pd.Index
    units: FloatArray
    """Units held; short positions are negative."""
    prices: FloatArray
    """Price of one unit in account currency; NaN where it is neither held nor asked for."""
    cash: float
    """In account currency."""

    @property
    def positions(self) -> FloatArray:
        """Position values (N,) in account currency; zero where nothing is held, whatever the price."""
        return np.where(self.units == 0.0, 0.0, self.units * np.nan_to_num(self.prices))

    @property
    def nav(self) -> float:
        """Positions and cash, in account currency."""
        return float(self.positions.sum() + self.cash)

    @property
    def weights(self) -> pd.Series:
        """Positions as fractions of NAV; what is left of one is cash."""
        return pd.Series(self.positions / self.nav, index=self.assets, name="weight")


def value_book(
    holdings: pd.Series | Mapping[str, float],
    prices: pd.Series | Mapping[str, float],
    *,
    cash: float = 0.0,
    also: pd.Index | None = None,
) -> Valuation:
    """Value units at prices.

    Parameters
    ----------
    holdings
        Units of every asset, negative for short positions. An empty Series is a book of cash.
    prices
        Price of one unit in account currency. Prices of further assets are ignored; a missing price is refused for
        every asset that is held or named in `also`.
    cash
        In account currency; negative where it is owed.
    also
        Assets to be in the book with zero units where they are not held, such as those that may be bought.

    Raises
    ------
    InputError
        For duplicates, units that are not finite, prices that are missing or not positive, each naming the assets, and
        a net asset value that is not positive.
    """
    units = _series(holdings, "holdings")
    assets = units.index if also is None else units.index.union(also, sort=False)
    held = align(units.reindex(assets, fill_value=0.0), assets, what="holdings")
    quoted = _series(prices, "prices").reindex(assets)
    price = numbers(quoted, "prices") if len(assets) else np.empty(0)
    needed = (held != 0.0) | (np.zeros(len(assets), dtype=bool) if also is None else assets.isin(also))
    missing = needed & ~np.isfinite(price)
    if missing.any():
        raise InputError(
            f"prices has no price for {some(assets[missing])}; a book with a position that has no price has no net "
            "asset value, so supply one, or write the position off at a price that you choose"
        )
    if (needed & (price <= 0.0)).any():
        raise InputError(f"prices is not positive for {some(assets[needed & (price <= 0.0)])}")
    book = Valuation(
        pd.Index(assets, name=assets.name or "asset"),
        held,
        np.where(needed, price, np.nan),
        checked_number(cash, "cash"),
    )
    if book.nav <= 0.0:
        raise InputError(
            f"the book is worth {book.nav:g}: without a positive net asset value there are no weights to judge; add "
            "cash or close the account by hand"
        )
    return book


def drifted(
    weights: pd.Series | Mapping[str, float],
    returns: pd.Series | Mapping[str, float] | pd.DataFrame,
    *,
    cash_return: float = 0.0,
) -> pd.Series:
    """Weights after prices have moved and nobody has traded.

    Parameters
    ----------
    weights
        Fractions of NAV before (N,); what is left of one is cash.
    returns
        Simple returns by asset over one period (N,), or of T periods in a row (T x N), which are compounded. Returns
        of further assets are ignored.
    cash_return
        Simple return of cash per period; of credit where cash is negative.

    Returns
    -------
    Series
        Fractions of NAV after, in the order of `weights`.

    Raises
    ------
    InputError
        For an asset with a weight and no return, returns below -1, and a book whose net asset value was lost.
    """
    before = _series(weights, "weights")
    held = align(before, before.index, what="weights")
    table = returns if isinstance(returns, pd.DataFrame) else _series(returns, "returns").to_frame().T
    if table.columns.has_duplicates:
        raise InputError(f"returns has duplicate assets: {some(table.columns[table.columns.duplicated()].unique())}")
    moves = numbers(table.reindex(columns=before.index), "returns")
    moves[:, held == 0.0] = 0.0
    absent = ~np.isfinite(moves).all(axis=0)
    if absent.any():
        culprits = some(before.index[np.flatnonzero(absent)])
        raise InputError(f"returns is missing or not finite for {culprits}, which the book holds")
    below = np.flatnonzero((moves < -1.0).any(axis=0))
    if len(below):
        raise InputError(f"returns is below -1 for {some(before.index[below])}; use fractions")
    values = held.copy()
    cash = 1.0 - held.sum()
    rate = checked_number(cash_return, "cash_return", least=-1.0)
    for row in moves:
        values *= 1.0 + row
        cash *= 1.0 + rate
        if values.sum() + cash <= 0.0:
            raise InputError("the book lost its whole net asset value on the way: there are no weights after that")
    return pd.Series(values / (values.sum() + cash), index=before.index, name="weight")


def joined(
    weights: pd.Series | Mapping[str, float],
    targets: pd.Series | Mapping[str, float],
    *,
    untargeted: str = "refuse",
) -> tuple[pd.Index, FloatArray, FloatArray]:
    """Weights and targets over the same assets: those of the targets, then those that are only held.

    An asset that is not held has weight zero. What is held without a target is refused, or under ``"sell"`` has
    target zero.
    """
    if untargeted not in ("refuse", "sell"):
        raise InputError(f"untargeted must be 'refuse' or 'sell', was {untargeted!r}")
    wanted, held = _series(targets, "targets"), _series(weights, "weights")
    for series, what in ((wanted, "targets"), (held, "weights")):
        bad = ~np.isfinite(series.to_numpy())
        if bad.any():
            raise InputError(f"{what} is not finite for {some(series.index[bad])}")
    if held.index.equals(wanted.index):  # judged day after day, most books have nothing to align
        return wanted.index.rename(wanted.index.name or "asset"), held.to_numpy().copy(), wanted.to_numpy().copy()
    extra = held.index[held.to_numpy() != 0.0].difference(wanted.index, sort=False)
    if len(extra) and untargeted == "refuse":
        raise InputError(
            f"targets says nothing about {some(extra)}, held in the book; give a target of 0 to sell, or pass "
            "untargeted='sell'"
        )
    assets = pd.Index(wanted.index.append(extra), name=wanted.index.name or "asset")
    return (
        assets,
        held.reindex(assets, fill_value=0.0).to_numpy(),
        wanted.reindex(assets, fill_value=0.0).to_numpy(),
    )


def _series(values: pd.Series | Mapping[str, float], what: str) -> pd.Series:
    if not isinstance(values, pd.Series | Mapping):
        raise InputError(f"{what} must be a Series or mapping from asset to number, was {type(values).__name__}")
    series = values if isinstance(values, pd.Series) else pd.Series(dict(values), dtype=np.float64)
    if series.index.has_duplicates:
        raise InputError(f"{what} has duplicate assets: {some(series.index[series.index.duplicated()].unique())}")
    return pd.Series(numbers(series, what), index=series.index) if len(series) else pd.Series(dtype=np.float64)

"""What holders got when an asset ceased to trade."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from portfolioopt.errors import InputError, unknown_names
from portfolioopt.labels import FloatArray

from .checks import date_text, some
from .returns import forward_filled
from .universe import Universe

IntArray = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Delistings:
    r"""Delistings in order of time: on its delisting date an asset is worth its last price times :math:`1 + d`.

    Leaving them out is a well known way to look too good: Shumway (1997), "The delisting bias in CRSP data", Journal of
    Finance 52. Between the last price and the delisting date the asset is worth the last price, so that the return on
    the delisting date exists however long trading had been halted.

    Parameters
    ----------
    row
        Row of the delisting date in the prices (E,), increasing.
    column
        Column of the asset (E,).
    last
        Row of the last price at or before it (E,).
    fraction
        d (E,), at least -1.
    """

    row: IntArray
    column: IntArray
    last: IntArray
    fraction: FloatArray

    def until(self, rows: int) -> Self:
        """Those of the first `rows` rows."""
        count = int(self.row.searchsorted(rows))
        return type(self)(self.row[:count], self.column[:count], self.last[:count], self.fraction[:count])

    def worth(
        self, prices: FloatArray, first: int, columns: IntArray, fill: int
    ) -> tuple[FloatArray, list[tuple[int, int]]]:
        """What assets were worth from row `first` on (R, n), and the cells (row, column) in it at which one ended.

        Gaps of up to `fill` rows are filled, also from the rows before `first`, and never beyond an end.
        """
        lead = min(first, fill)
        given = prices[first - lead :, columns]
        block = given.copy() if len(self.row) else given
        ends = self._write(block, prices, first - lead, columns)
        filled = forward_filled(block, fill)
        if fill:
            for row, j in ends:  # until there is a price again
                known = ~np.isnan(block[row + 1 : row + 1 + fill, j])
                stop = int(np.argmax(known)) if known.any() else len(known)
                filled[row + 1 : row + 1 + stop, j] = np.nan
        return filled[lead:], [(row - lead, j) for row, j in ends if row >= lead]

    def _write(self, block: FloatArray, prices: FloatArray, first: int, columns: IntArray) -> list[tuple[int, int]]:
        """Write what delisted assets were worth into `block`, a copy of prices[first:, columns]."""
        low, high = self.row.searchsorted([first, first + len(block)])
        if low == high:
            return []
        place = np.full(prices.shape[1], -1, dtype=np.intp)
        place[columns] = np.arange(len(columns))
        ends = []
        for event in range(low, high):
            j = int(place[self.column[event]])
            if j < 0:
                continue
            row, last = int(self.row[event]) - first, int(self.last[event])
            price = prices[last, self.column[event]]
            block[max(last + 1 - first, 0) : row, j] = price
            block[row, j] = price * (1.0 + self.fraction[event])
            ends.append((row, j))
        return ends


def find_delistings(
    prices: FloatArray,
    dates: pd.DatetimeIndex,
    assets: pd.Index,
    universe: Universe | None,
    by_asset: pd.Series | Mapping[str, float] | None,
) -> Delistings:
    """Delistings of the spells of a universe, and of returns by asset, dated to the first row after the last price."""
    rows: list[int] = []
    columns: list[int] = []
    fractions: list[float] = []
    if universe is not None:
        spells = universe.spells.dropna(subset=["delisting_return"])
        rows += dates.searchsorted(pd.DatetimeIndex(spells["end"])).tolist()
        columns += assets.get_indexer(pd.Index(spells["asset"])).tolist()
        fractions += spells["delisting_return"].tolist()
    if by_asset is not None:
        values = _checked(by_asset, assets, {assets[j] for j in columns})
        places = assets.get_indexer(values.index)
        after = len(prices) - np.argmax(~np.isnan(prices[::-1][:, places]), axis=0)
        alive = after >= len(prices)
        if alive.any():
            raise InputError(
                f"delisting_returns names {some(values.index[alive])}, with a price on the last date "
                f"({date_text(dates[-1])}) or none at all; the delisting is dated to the first date without one"
            )
        rows += after.tolist()
        columns += places.tolist()
        fractions += values.tolist()
    last = [_last_price(prices, row, column) for row, column in zip(rows, columns, strict=True)]
    # A delisting after the last row has not happened yet, and one without any price before it has no base.
    kept = [e for e in range(len(rows)) if rows[e] < len(prices) and last[e] >= 0]
    kept.sort(key=lambda e: rows[e])
    return Delistings(
        np.array([rows[e] for e in kept], dtype=np.intp),
        np.array([columns[e] for e in kept], dtype=np.intp),
        np.array([last[e] for e in kept], dtype=np.intp),
        np.array([fractions[e] for e in kept], dtype=np.float64),
    )


def _last_price(prices: FloatArray, row: int, column: int) -> int:
    """Row of the last price at or before `row`, -1 for none."""
    known = np.flatnonzero(~np.isnan(prices[: row + 1, column]))
    return int(known[-1]) if len(known) else -1


def _checked(by_asset: pd.Series | Mapping[str, float], assets: pd.Index, taken: set[object]) -> pd.Series:
    if not isinstance(by_asset, pd.Series | Mapping):
        raise InputError(
            f"delisting_returns must be a Series or mapping from asset to fraction, was {type(by_asset).__name__}"
        )
    values = pd.Series(by_asset, dtype=np.float64)
    if values.index.has_duplicates:
        raise InputError(
            f"delisting_returns names {some(values.index[values.index.duplicated()].unique())} twice; an asset with "
            "several delistings needs a Universe with its spells"
        )
    unknown = values.index.difference(assets, sort=False)
    if len(unknown):
        raise unknown_names("asset in delisting_returns", unknown, assets)
    bad = ~(values >= -1.0) | np.isinf(values)
    if bad.any():
        raise InputError(
            f"delisting_returns must be fractions of at least -1, but is not for {some(values.index[bad])}"
        )
    twice = [name for name in values.index if name in taken]
    if twice:
        raise InputError(f"delisting_returns and the universe both have a delisting of {some(twice)}; keep one")
    return values

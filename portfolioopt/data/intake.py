"""What a market takes in: checks of its tables, and the order in which assets became known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from portfolioopt.errors import InputError, unknown_names
from portfolioopt.labels import FloatArray

from .checks import BoolArray, check_columns, check_dates, check_timestamps, check_zone, numbers_of, owned, some
from .universe import Universe
from .vintages import Vintages

_NEVER: Final = np.datetime64(np.iinfo(np.int64).max, "ns")


def named(tables: Mapping[str, pd.DataFrame] | None) -> Iterable[tuple[str, pd.DataFrame]]:
    """The tables with their names, none where None."""
    if tables is None:
        return ()
    if not isinstance(tables, Mapping):
        raise InputError(f"fields and vintages are mappings from name to frame, not {type(tables).__name__}")
    return tables.items()


def checked_field(table: pd.DataFrame, what: str, dates: pd.DatetimeIndex, assets: pd.Index) -> pd.DataFrame:
    """A wide frame on dates of its own, by assets of the market."""
    check_columns(table, what)
    check_dates(table.index, what)
    check_zone(check_timestamps(table.index, what).tz, dates.tz, what, "prices")
    unknown = table.columns.difference(assets, sort=False)
    if len(unknown):
        raise unknown_names(f"asset in {what}", unknown, assets)
    return table


def checked_volumes(volumes: pd.DataFrame, dates: pd.DatetimeIndex, assets: pd.Index) -> pd.DataFrame:
    """Volumes on the dates of the prices, not negative."""
    checked_field(volumes, "volumes", dates, assets)
    if not volumes.index.equals(dates):
        raise InputError("volumes must have the dates of prices; use volumes.reindex(prices.index)")
    values = numbers_of(volumes, "volumes")
    negative: BoolArray = np.less(values, 0.0)
    if negative.any():
        raise InputError(f"volumes are negative for {some(volumes.columns[np.any(negative, axis=0)])}; correct them")
    return volumes


def check_universe(universe: Universe, dates: pd.DatetimeIndex, assets: pd.Index) -> None:
    """Refuse members without a column of prices."""
    if not isinstance(universe, Universe):
        raise InputError(
            f"universe must be a Universe, was {type(universe).__name__}; make one from spells, or with "
            "Universe.from_mask"
        )
    check_zone(universe.zone, dates.tz, "universe", "prices")
    unknown = universe.assets.difference(assets, sort=False)
    if len(unknown):
        raise unknown_names("asset in universe", unknown, assets)


def first_seen(
    prices: FloatArray,
    dates: pd.DatetimeIndex,
    assets: pd.Index,
    fields: Mapping[str, pd.DataFrame],
    vintages: Mapping[str, Vintages],
    universe: Universe | None,
) -> npt.NDArray[np.datetime64]:
    """When each asset became known (N,), in UTC; the end of time for those that never did."""
    seen = _first_row(~np.isnan(prices), dates)
    for table in fields.values():
        places = assets.get_indexer(table.columns)
        index = pd.DatetimeIndex(table.index)
        seen[places] = np.minimum(seen[places], _first_row(table.notna().to_numpy(), index))
    for late in vintages.values():
        seen = np.fmin(seen, late.first_known)
    if universe is not None:
        spells = universe.spells.drop_duplicates("asset")  # in order of their start
        places = assets.get_indexer(pd.Index(spells["asset"]))
        seen[places] = np.minimum(seen[places], _utc(pd.DatetimeIndex(spells["start"])))
    return seen


def _first_row(known: npt.NDArray[np.bool_], dates: pd.DatetimeIndex) -> np.ndarray:
    if not len(known):
        return np.full(known.shape[1], _NEVER)
    return np.where(known.any(axis=0), _utc(dates)[np.argmax(known, axis=0)], _NEVER)


def _utc(dates: pd.DatetimeIndex) -> npt.NDArray[np.datetime64]:
    plain = dates if dates.tz is None else dates.tz_convert("UTC").tz_localize(None)
    return plain.to_numpy("datetime64[ns]")


def in_order(table: pd.DataFrame, assets: pd.Index) -> pd.DataFrame:
    """The columns of all assets in their order, numbers out of reach of whoever gave the table."""
    places = table.columns.get_indexer(assets)
    if not all(isinstance(dtype, np.dtype) and dtype.kind in "iuf" for dtype in table.dtypes.unique()):
        return table.reindex(columns=assets).copy()
    return pd.DataFrame(taken(numbers_of(table), places), table.index, assets, copy=False)


def taken(values: FloatArray, places: npt.NDArray[np.intp]) -> FloatArray:
    """Columns of `values` (T, N) in the order of `places`, NaN where that is -1, read-only."""
    if np.array_equal(places, np.arange(values.shape[1])):
        return owned(values)
    chosen = np.take(values, places, axis=1)
    if (places < 0).any():
        chosen[:, places < 0] = np.nan
    chosen.setflags(write=False)
    return chosen

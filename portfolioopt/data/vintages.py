"""Numbers that are published late and revised: which of them was known when."""

from __future__ import annotations

from typing import Final, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from portfolioopt.errors import InputError, unknown_names

from .checks import check_zone, date_text, some

_COLUMNS: Final = ("asset", "period", "known_at", "value")
_NANOSECONDS: Final = "datetime64[ns]"


class Vintages:
    r"""A table of values by asset and period, each with the time at which it became known; immutable.

    With :math:`k` the time at which a value became known, the value of asset i for period p seen at t is the one with
    the largest :math:`k \le t`: later publications and later revisions do not exist yet. A value that is missing takes
    back what was known before. Croushore & Stark (2001), "A real-time data set for macroeconomists", Journal of
    Econometrics 105.

    Parameters
    ----------
    table
        One row per publication, in any order, with columns ``asset``, ``period`` (or ``date``: what the value is
        about, for example the end of a quarter), ``known_at`` and ``value``.
    assets
        The assets of the market; others are refused.
    name
        For messages.
    zone
        Time zone of the market, in which ``known_at`` must be.
    """

    __slots__ = ("_codes", "_known", "_periods", "_values", "_zone", "first_known", "name")

    def __init__(self, table: pd.DataFrame, assets: pd.Index, *, name: str, zone: object) -> None:
        what = f"vintages[{name!r}]"
        table = _checked_table(table, what)
        unknown = pd.Index(table["asset"].unique()).difference(assets, sort=False)
        if len(unknown):
            raise unknown_names(f"asset in {what}", unknown, assets)
        known = pd.DatetimeIndex(table["known_at"])
        check_zone(known.tz, zone, f"the column known_at of {what}", "the market")
        stamps = known if known.tz is None else known.tz_convert("UTC").tz_localize(None)
        order = np.argsort(stamps.to_numpy(_NANOSECONDS), kind="stable")
        self.name: str = name
        self._zone = zone
        self._known = stamps.to_numpy(_NANOSECONDS)[order]
        self._codes = assets.get_indexer(pd.Index(table["asset"]))[order]
        self._periods = pd.Index(table["period"])[order]
        value = table["value"]
        number = pd.api.types.is_any_real_numeric_dtype(value.dtype)
        self._values: np.ndarray = (
            value.to_numpy(np.float64, na_value=np.nan)[order] if number else value.to_numpy(dtype=object)[order]
        )
        first = np.full(len(assets), np.datetime64("NaT", "ns"))
        codes, rows = np.unique(self._codes, return_index=True)
        first[codes] = self._known[rows]
        self.first_known: npt.NDArray[np.datetime64] = first
        """When the first value of each asset became known (N,), NaT where there is none."""

    def reordered(self, places: npt.NDArray[np.intp]) -> Self:
        """The same table for assets in another order: `places` (N,) is where each of them goes."""
        return self._like(len(self._known), places[self._codes])

    def as_of(self, t: np.datetime64) -> Self:
        """What was known at `t`, inclusive."""
        return self._like(int(self._known.searchsorted(t, side="right")), self._codes)

    def table(self, assets: pd.Index) -> pd.DataFrame:
        """All publications in order of time: asset, period, known_at, value."""
        known = pd.DatetimeIndex(self._known)
        if self._zone is not None:
            known = known.tz_localize("UTC").tz_convert(self._zone)  # pyright: ignore[reportArgumentType]
        return pd.DataFrame(
            {"asset": assets[self._codes], "period": self._periods, "known_at": known, "value": self._values}
        )

    def frame(self, assets: pd.Index) -> pd.DataFrame:
        """The last value known for each period and asset (periods x N), missing where there is none."""
        if not len(self._codes):
            return pd.DataFrame(index=self._periods, columns=assets, dtype=self._values.dtype)
        rows, periods = pd.factorize(self._periods, sort=True)
        missing = np.nan if self._values.dtype == np.float64 else None
        grid = np.full((len(periods), len(assets)), missing, dtype=self._values.dtype)
        # Publications are in order of time, and of several writes to one cell the last one stays.
        grid[rows, self._codes] = self._values
        return pd.DataFrame(grid, index=pd.Index(periods, name="period"), columns=assets)

    def _like(self, count: int, codes: npt.NDArray[np.intp]) -> Self:
        view = type(self).__new__(type(self))
        view.name, view.first_known, view._zone = self.name, self.first_known, self._zone
        view._known, view._codes = self._known[:count], codes[:count]
        view._periods, view._values = self._periods[:count], self._values[:count]
        return view


def _checked_table(table: pd.DataFrame, what: str) -> pd.DataFrame:
    if not isinstance(table, pd.DataFrame):
        raise InputError(f"{what} must be a frame with columns {', '.join(_COLUMNS)}, was {type(table).__name__}")
    if "period" not in table.columns and "date" in table.columns:
        table = table.rename(columns={"date": "period"})
    absent = [name for name in _COLUMNS if name not in table.columns]
    if absent:
        raise InputError(f"{what} lacks the columns {some(absent)}; one row is one publication of one value")
    table = table[list(_COLUMNS)]
    if not isinstance(table["known_at"].dtype, pd.DatetimeTZDtype) and not pd.api.types.is_datetime64_any_dtype(
        table["known_at"].dtype
    ):
        raise InputError(
            f"the column known_at of {what} must hold timestamps of one time zone, not {table['known_at'].dtype}; "
            "convert with pd.to_datetime"
        )
    for column in _COLUMNS[:3]:
        if table[column].isna().any():
            raise InputError(f"{what} has {int(table[column].isna().sum())} rows without {column}; fill or drop them")
    repeated = table[table.duplicated(list(_COLUMNS[:3]))]
    if len(repeated):
        cells = some(f"{r.asset} for {date_text(r.period)} at {date_text(r.known_at)}" for r in repeated.itertuples())
        raise InputError(f"{what} has two values at the same time: {cells}; keep the one that counts")
    return table

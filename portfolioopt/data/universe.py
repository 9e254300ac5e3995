"""Who belonged when: point-in-time membership, so that a test of the past holds what could be held then."""

from __future__ import annotations

from typing import Final, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from portfolioopt.errors import InputError, unknown_names

from .checks import check_dates, check_timestamps, check_zone, date_text, some, timestamp

_NANOSECONDS: Final = "datetime64[ns]"
_OPEN: Final = np.datetime64(np.iinfo(np.int64).max, "ns")  # the end of a spell that has not ended


class Universe:
    r"""Members of a market or index over time, from spells of membership; immutable.

    Asset i is a member at t where one of its spells has :math:`start \le t < end`. Thus `end` is the first date on
    which it is no longer one (the date on which it was delisted or removed); tables whose last column is the last day
    *inside* are shifted first, with ``table.assign(end=table["end"] + pd.Timedelta(days=1))``.

    Parameters
    ----------
    spells
        One row per spell, in any order, with columns ``asset``, ``start``, ``end`` (missing while it lasts) and, if
        wanted, ``delisting_return``: what holders earned from the last price on, as a fraction, at least -1, missing
        where the spell did not end in a delisting. An asset may have several spells; one may begin where another ends.

    Raises
    ------
    InputError
        For columns that are missing or unknown, spells without asset or start, spells that end before or when they
        begin, spells of one asset that overlap, and delisting returns that are below -1, infinite, or come without an
        end.
    """

    __slots__ = ("_assets", "_codes", "_delisting", "_end", "_start", "_zone")

    def __init__(self, spells: pd.DataFrame) -> None:
        table, zone = _checked_spells(spells)
        start = table["start"].to_numpy(_NANOSECONDS)
        # In order of the first start, so that what was known at a date is a prefix of everything.
        order = np.argsort(start, kind="stable")
        codes, assets = pd.factorize(table["asset"].array[order])
        end = table["end"].to_numpy(_NANOSECONDS)[order]
        self._keep(
            pd.Index(assets, name="asset"),
            codes,
            start[order],
            np.where(np.isnat(end), _OPEN, end),
            table["delisting_return"].to_numpy(np.float64)[order],
            zone,
        )

    def _keep(
        self,
        assets: pd.Index,
        codes: npt.NDArray[np.intp],
        start: npt.NDArray[np.datetime64],
        end: npt.NDArray[np.datetime64],
        delisting: npt.NDArray[np.float64],
        zone: object,
    ) -> None:
        self._assets = assets
        self._codes = codes
        self._start = start
        self._end = end
        self._delisting = delisting
        self._zone = zone

    @classmethod
    def from_mask(cls, mask: pd.DataFrame) -> Self:
        """Membership from a boolean frame of dates by assets, each row holding until the next one.

        A spell begins on its first True and ends on the next False. Those that are True in the last row last. Assets
        that are never members are left out.

        Raises InputError for cells that are not True or False, and for dates that are repeated or not in order.
        """
        if not isinstance(mask, pd.DataFrame):
            raise InputError(f"mask must be a frame of dates by assets, was {type(mask).__name__}")
        if mask.columns.has_duplicates:
            raise InputError(f"mask has repeated columns: {some(mask.columns[mask.columns.duplicated()].unique())}")
        check_dates(mask.index, "mask")
        dates = check_timestamps(mask.index, "mask")
        wrong = [name for name, dtype in mask.dtypes.items() if not pd.api.types.is_bool_dtype(dtype)]
        if wrong or mask.isna().any(axis=None):
            what = f"but {some(wrong)} does not" if wrong else "but some cells are missing"
            raise InputError(f"mask must hold True or False, {what}; decide with mask.fillna(False).astype(bool)")
        inside = np.zeros((len(mask) + 2, mask.shape[1]), dtype=np.int8)
        inside[1:-1] = mask.to_numpy(dtype=bool)
        change = np.diff(inside, axis=0).T
        columns, first = np.nonzero(change == 1)
        _, last = np.nonzero(change == -1)
        end = dates[np.minimum(last, len(dates) - 1)]
        return cls(
            pd.DataFrame(
                {
                    "asset": mask.columns[columns],
                    "start": dates[first],
                    "end": end.where(last < len(dates)),
                }
            )
        )

    # -- what it holds -------------------------------------------------------------------------------------------
    @property
    def assets(self) -> pd.Index:
        """Everybody who ever was a member, in order of their first spell."""
        return self._assets

    @property
    def spells(self) -> pd.DataFrame:
        """The spells in order of their start: asset, start, end (NaT while it lasts), delisting_return."""
        return pd.DataFrame(
            {
                "asset": self._assets[self._codes],
                "start": self._stamps(self._start),
                "end": self._stamps(np.where(self._end == _OPEN, np.datetime64("NaT", "ns"), self._end)),
                "delisting_return": self._delisting,
            }
        )

    @property
    def zone(self) -> object:
        """Time zone of the dates, None where they have none."""
        return self._zone

    # -- questions -----------------------------------------------------------------------------------------------
    def members(self, t: object) -> pd.Index:
        """Members at the close of `t`, in order of their first spell."""
        date = self._date(t)
        inside = (self._start <= date) & (date < self._end)
        return self._assets[np.sort(self._codes[inside])]

    def mask(self, dates: pd.DatetimeIndex, assets: pd.Index | None = None) -> pd.DataFrame:
        """Membership on each of `dates` (T x N), boolean; `assets` are the columns, everybody where None.

        Raises InputError for dates that are repeated or out of order, UnknownNameError for assets never heard of.
        """
        index = pd.DatetimeIndex(dates)
        check_dates(index, "dates")
        check_zone(index.tz, self._zone, "dates", "the universe")
        places = pd.Index(self._assets if assets is None else assets).get_indexer(self._assets)[self._codes]
        columns = self._assets if assets is None else pd.Index(assets)
        unknown = columns.difference(self._assets, sort=False)
        if len(unknown):
            raise unknown_names("asset", unknown, self._assets)
        stamps = index.tz_convert("UTC").tz_localize(None) if index.tz is not None else index
        values = stamps.to_numpy(_NANOSECONDS)
        change = np.zeros((len(values) + 1, len(columns)), dtype=np.int8)
        wanted = places >= 0
        np.add.at(change, (values.searchsorted(self._start[wanted]), places[wanted]), 1)
        np.add.at(change, (values.searchsorted(self._end[wanted]), places[wanted]), -1)
        np.cumsum(change, axis=0, out=change)
        return pd.DataFrame(change[:-1].view(np.bool_), index=index, columns=columns)

    def as_of(self, t: object) -> Self:
        """What was known at the close of `t`: spells that begin later are gone, ends that come later are open."""
        date = self._date(t)
        count = int(self._start.searchsorted(date, side="right"))
        codes, end = self._codes[:count], self._end[:count]
        known = end <= date
        view = type(self).__new__(type(self))
        view._keep(
            self._assets[: int(codes.max(initial=-1)) + 1],
            codes,
            self._start[:count],
            np.where(known, end, _OPEN),
            np.where(known, self._delisting[:count], np.nan),
            self._zone,
        )
        return view

    def __repr__(self) -> str:
        lasting = int(np.count_nonzero(self._end == _OPEN))
        return f"Universe({len(self._assets)} assets, {len(self._codes)} spells, {lasting} of them lasting)"

    def _date(self, t: object) -> np.datetime64:
        return timestamp(t, "t", self._zone).as_unit("ns").to_datetime64()

    def _stamps(self, values: npt.NDArray[np.datetime64]) -> pd.DatetimeIndex:
        stamps = pd.DatetimeIndex(values)
        return stamps if self._zone is None else stamps.tz_localize("UTC").tz_convert(self._zone)  # pyright: ignore[reportArgumentType]


def _checked_spells(spells: pd.DataFrame) -> tuple[pd.DataFrame, object]:
    """The spells with naive timestamps (UTC where they have a zone), and their zone."""
    if not isinstance(spells, pd.DataFrame):
        raise InputError(
            f"Universe takes a frame with columns asset, start and end, not {type(spells).__name__}; membership as "
            "True and False goes into Universe.from_mask"
        )
    known = ["asset", "start", "end", "delisting_return"]
    unknown = [name for name in spells.columns if name not in known]
    if unknown:
        raise unknown_names("column of spells", unknown, known)
    absent = [name for name in known[:3] if name not in spells.columns]
    if absent:
        raise InputError(f"spells lacks the columns {some(absent)}; one row is one spell of one asset")
    start, zone = _stamps_of(spells["start"], "start")
    end, other = _stamps_of(spells["end"], "end")
    if not end.isna().all():
        check_zone(other, zone, "the column end of spells", "the column start")
    table = pd.DataFrame({"asset": spells["asset"].array, "start": start.array, "end": end.array})
    for column in ("asset", "start"):
        if table[column].isna().any():
            raise InputError(f"spells has {int(table[column].isna().sum())} rows without {column}; fill or drop them")
    table["delisting_return"] = _delistings_of(spells, table)
    reversed_ = table[table["end"] <= table["start"]]
    if len(reversed_):
        raise InputError(f"spells end before or when they begin: {_described(reversed_)}; correct or drop them")
    ordered = table.sort_values(["asset", "start"], kind="stable")
    same = ordered["asset"].eq(ordered["asset"].shift())
    before = ordered["end"].shift()
    overlaps = ordered[same & (before.isna() | (before > ordered["start"]))]
    if len(overlaps):
        raise InputError(
            f"spells overlap with an earlier one of the same asset: {_described(overlaps)}; merge them into one, or "
            "end the earlier one first"
        )
    return table, zone


def _stamps_of(column: pd.Series, name: str) -> tuple[pd.Series, object]:
    """Naive timestamps, in UTC where they have a zone, and the zone."""
    if column.isna().all():
        return pd.Series(pd.NaT, index=column.index, dtype=_NANOSECONDS), None
    if not isinstance(column.dtype, pd.DatetimeTZDtype) and not pd.api.types.is_datetime64_any_dtype(column.dtype):
        raise InputError(
            f"the column {name} of spells must hold timestamps of one time zone, not {column.dtype}; convert with "
            "pd.to_datetime"
        )
    zone = column.dt.tz
    plain = column if zone is None else column.dt.tz_convert("UTC").dt.tz_localize(None)
    return plain.astype(_NANOSECONDS), zone


def _delistings_of(spells: pd.DataFrame, table: pd.DataFrame) -> npt.NDArray[np.float64]:
    if "delisting_return" not in spells.columns:
        return np.full(len(table), np.nan)
    try:
        values = spells["delisting_return"].to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise InputError(f"the column delisting_return of spells must hold numbers, but {error}") from error
    bad = (values < -1.0) | np.isinf(values)
    if bad.any():
        raise InputError(
            f"delisting returns must be fractions of at least -1, but are not for {some(table['asset'][bad])}"
        )
    early = ~np.isnan(values) & table["end"].isna().to_numpy()
    if early.any():
        raise InputError(f"spells has a delisting return but no end for {some(table['asset'][early])}; give its date")
    return values


def _described(rows: pd.DataFrame) -> str:
    return some(
        f"{asset} from {date_text(start)} to {'now' if end is pd.NaT else date_text(end)}"
        for asset, start, end in zip(rows["asset"], rows["start"], rows["end"], strict=True)
    )

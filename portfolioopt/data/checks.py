"""What every table of prices must be: distinct assets, distinct dates in order, numbers."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.labels import FloatArray

BoolArray = npt.NDArray[np.bool_]

_LISTED: Final = 5  # culprits spelt out in a message before it turns to a count


def check_labels(table: pd.DataFrame, what: str = "prices") -> None:
    """Refuse anything but a frame with distinct columns and distinct dates in increasing order."""
    check_columns(table, what)
    check_dates(table.index, what)


def check_columns(table: pd.DataFrame, what: str) -> None:
    """Refuse anything but a frame with distinct columns."""
    if not isinstance(table, pd.DataFrame):
        hint = f"; for one asset pass {what}.to_frame()" if isinstance(table, pd.Series) else ""
        raise InputError(f"{what} must be a DataFrame of dates by assets, not {type(table).__name__}{hint}")
    columns = table.columns
    if columns.empty:
        raise InputError(f"{what} has no columns; pass one column per asset")
    if not columns.is_unique:
        repeated = columns[columns.duplicated()].unique()
        raise InputError(f"{what} has repeated columns: {some(repeated)}; keep one column per asset")


def check_dates(dates: pd.Index, what: str) -> None:
    """Refuse anything but distinct dates, or whatever else increases, in increasing order."""
    check_kind_of_dates(dates, what)
    if not dates.is_unique:
        repeated = dates[dates.duplicated()].unique()
        raise InputError(
            f"{what} has repeated dates: {some([date_text(date) for date in repeated])}; keep one row per date, "
            f"for example with {what}[~{what}.index.duplicated(keep='last')]"
        )
    if not dates.is_monotonic_increasing:
        later = next(t for t in range(1, len(dates)) if dates[t] < dates[t - 1])
        raise InputError(
            f"the dates of {what} are not in increasing order: {date_text(dates[later])} comes after "
            f"{date_text(dates[later - 1])}; sort them with {what}.sort_index()"
        )


def check_kind_of_dates(dates: pd.Index, what: str) -> None:
    """Refuse an index of text, of several levels, of several time zones, or with missing dates."""
    if dates.dtype == object:
        zones = {str(date.tzinfo) for date in dates if isinstance(date, pd.Timestamp)}
        if len(zones) > 1:
            raise InputError(
                f"the dates of {what} mix time zones ({', '.join(sorted(zones))}); bring them into one with "
                f"{what}.index = pd.to_datetime({what}.index, utc=True)"
            )
    if isinstance(dates, pd.MultiIndex) or pd.api.types.is_string_dtype(dates.dtype):
        raise InputError(
            f"{what} must be indexed by dates, not by text or several levels; convert with "
            f"{what}.index = pd.to_datetime({what}.index)"
        )
    if dates.hasnans:
        raise InputError(
            f"{np.count_nonzero(dates.isna())} of the {len(dates)} dates of {what} are missing (NaT); drop "
            f"those rows with {what}[{what}.index.notna()]"
        )


def check_timestamps(dates: pd.Index, what: str) -> pd.DatetimeIndex:
    """The dates as timestamps, which can be compared with any other date; refuses every other index."""
    if not isinstance(dates, pd.DatetimeIndex):
        hint = f"{what}.to_timestamp()" if isinstance(dates, pd.PeriodIndex) else f"pd.to_datetime({what}.index)"
        raise InputError(f"{what} must be indexed by timestamps, not by {dates.dtype}; convert with {hint}")
    return dates


def check_zone(zone: object, expected: object, what: str, other: str) -> None:
    """Refuse dates in one time zone that are to be compared with dates in another."""
    if str(zone) != str(expected):
        raise InputError(
            f"{what} is in time zone {zone or 'none'}, but {other} in {expected or 'none'}; bring them into one with "
            f"tz_localize or tz_convert"
        )


def timestamp(date: object, what: str, zone: object) -> pd.Timestamp:
    """A date as a timestamp in the time zone `zone` of the data, None for none."""
    try:
        stamp = pd.Timestamp(date)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError) as error:
        raise InputError(f"{what} must be a date, was {date!r}") from error
    if not isinstance(stamp, pd.Timestamp):
        raise InputError(f"{what} must be a date, was {date!r}")
    if (stamp.tzinfo is None) != (zone is None):
        raise InputError(
            f"{what} is {'without' if stamp.tzinfo is None else 'in'} a time zone, the data "
            f"{'without' if zone is None else f'in {zone}'}; use tz_localize"
        )
    return stamp if stamp.tzinfo is None else stamp.tz_convert(zone)  # pyright: ignore[reportArgumentType]


def numbers_of(table: pd.DataFrame, what: str = "prices") -> FloatArray:
    """The cells of a frame as float64 (T, N), NaN where missing, or the refusal of columns that hold no numbers."""
    wrong = [
        name
        for name, dtype in table.dtypes.items()
        if not pd.api.types.is_numeric_dtype(dtype)
        or pd.api.types.is_bool_dtype(dtype)
        or pd.api.types.is_complex_dtype(dtype)
    ]
    if wrong:
        raise InputError(
            f"{what} has columns that do not hold numbers: {some(wrong)}; convert them with pd.to_numeric, "
            f"or move dates into the index with {what}.set_index(...)"
        )
    return table.to_numpy(dtype=np.float64, na_value=np.nan)


def check_positive(values: FloatArray, dates: pd.Index, columns: pd.Index) -> None:
    """Refuse prices (T, N) that are zero, negative or infinite; missing ones pass."""
    # Two reductions without temporaries settle the usual case.
    if not values.size or (np.fmin.reduce(values, axis=None) > 0.0 and np.fmax.reduce(values, axis=None) < np.inf):
        return
    impossible = (values <= 0.0) | np.isinf(values)
    if impossible.any():
        raise InputError(
            f"{cells(dates, columns, impossible, values)} not positive and finite; a return needs positive "
            f"prices, so correct them, or set them to NaN and choose a policy with missing="
        )


def whole_number(value: object, what: str, *, least: int) -> int:
    """A whole number of rows, at least something."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise InputError(f"{what} must be a whole number of rows, at least {least}, but is {value!r}")
    return int(value)


def owned(values: FloatArray) -> FloatArray:
    """The same numbers, row after row in memory, where nobody can write; shared if they are so already."""
    root = values
    while isinstance(root.base, np.ndarray):
        root = root.base
    if root.flags.writeable or not values.flags.c_contiguous:
        values = np.array(values, dtype=np.float64, order="C")
        values.setflags(write=False)
    return values


def cells(dates: pd.Index, columns: pd.Index, mask: BoolArray, values: FloatArray | None = None) -> str:
    """Describe the marked cells by asset and date, in order of date: the first few and the count."""
    rows, places = np.nonzero(mask)
    named = []
    for row, column in zip(rows[:_LISTED], places[:_LISTED], strict=True):
        value = "" if values is None else f" ({values[row, column]:g})"
        named.append(f"{columns[column]} on {date_text(dates[row])}{value}")
    more = len(rows) - len(named)
    tail = f" and {more} more" if more else ""
    noun, verb = ("price", "is") if len(rows) == 1 else ("prices", "are")
    return f"{len(rows)} {noun} ({', '.join(named)}{tail}) {verb}"


def date_text(label: object) -> str:
    """Write a date without the time when the time is midnight."""
    if isinstance(label, pd.Timestamp) and label == label.normalize():
        return label.strftime("%Y-%m-%d")
    return str(label)


def some(names: Iterable[object]) -> str:
    """List the first few names and count the rest."""
    texts = [str(name) for name in names]
    more = len(texts) - _LISTED
    return ", ".join(texts[:_LISTED]) + (f" and {more} more" if more > 0 else "")

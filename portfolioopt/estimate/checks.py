"""What every estimator asks of its data and of its settings."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.labels import LISTED, FloatArray, some


def checked_returns(returns: pd.DataFrame, who: str, *, rows: int, what: str = "returns") -> FloatArray:
    """The numbers of a frame of returns (T, N): finite, distinct assets, distinct periods in order, `rows` or more.

    `who` needs them, and `what` they are; both go into messages.
    """
    if not isinstance(returns, pd.DataFrame):
        hint = f"; for one series pass {what}.to_frame()" if isinstance(returns, pd.Series) else ""
        raise InputError(f"{who}: {what} must be a frame of periods x assets, was {type(returns).__name__}{hint}")
    columns, dates = returns.columns, returns.index
    if columns.empty:
        raise InputError(f"{who}: {what} has no columns; pass one for each asset")
    if columns.has_duplicates:
        raise InputError(
            f"{who}: {what} has duplicate columns: {some(columns[columns.duplicated()].unique())}; keep one for each, "
            f"for example with {what}.loc[:, ~{what}.columns.duplicated()]"
        )
    if dates.hasnans:
        raise InputError(
            f"{who}: {np.count_nonzero(dates.isna())} of the {len(dates)} dates of {what} are missing; drop those rows "
            f"with {what}[{what}.index.notna()]"
        )
    if dates.has_duplicates:
        repeated = [written(date) for date in dates[dates.duplicated()].unique()[:LISTED]]
        raise InputError(
            f"{who}: {what} has duplicate dates: {', '.join(repeated)}; keep one row for each, for example with "
            f"{what}[~{what}.index.duplicated(keep='last')]"
        )
    if isinstance(dates, pd.DatetimeIndex | pd.PeriodIndex) and not dates.is_monotonic_increasing:
        raise InputError(f"{who}: the dates of {what} are not in increasing order; sort them with {what}.sort_index()")
    wrong = [not pd.api.types.is_any_real_numeric_dtype(dtype) for dtype in returns.dtypes]
    if any(wrong):
        raise InputError(
            f"{who}: {what} does not hold numbers for {some(columns[wrong])}; convert with pd.to_numeric, or leave out"
        )
    values = returns.to_numpy(dtype=np.float64, na_value=np.nan)
    bad = ~np.isfinite(values)
    if bad.any():
        cells = [f"{columns[j]} on {written(dates[i])}" for i, j in np.argwhere(bad)[:LISTED]]
        more = int(bad.sum()) - len(cells)
        raise InputError(
            f"{who}: {what} is missing or infinite for {', '.join(cells)}{f' and {more} more' if more else ''}; leave "
            f"out those rows with {what}.dropna() or those columns with {what}.dropna(axis='columns')"
        )
    if len(values) < rows:
        raise InputError(
            f"{who} needs at least {rows} row{'s' if rows > 1 else ''} of {what} for {len(columns)} "
            f"column{'s' if len(columns) > 1 else ''}, but there {'is' if len(values) == 1 else 'are'} {len(values)}; "
            "pass a longer history"
        )
    return values


def checked_factors(returns: pd.DataFrame, factors: object, who: str) -> FloatArray:
    """The numbers of a frame of factors (T, K) on the dates of `returns`, all there and finite."""
    if not isinstance(factors, pd.DataFrame):
        raise InputError(f"{who}: factors must be a frame of periods x factors, was {type(factors).__name__}")
    needed = factors.shape[1] + 2
    checked_returns(returns, who, rows=needed)
    if factors.index.has_duplicates:
        checked_returns(factors, who, rows=0, what="factors")
    absent = returns.index.difference(factors.index, sort=False)
    if len(absent):
        raise InputError(
            f"{who}: factors has no row for {len(absent)} of the {len(returns)} dates of returns ({some(absent)}); "
            "keep those of both with returns.loc[returns.index.intersection(factors.index)]"
        )
    return checked_returns(factors.loc[returns.index], who, rows=needed, what="factors")


def checked_variation(values: FloatArray, labels: pd.Index, who: str) -> None:
    """Refuse columns of `values` (T, N) that never change."""
    constant = np.ptp(values, axis=0) == 0.0
    if constant.any():
        raise InputError(f"{who} needs series that vary, and {some(labels[constant])} never does; leave it out")


def dependent(vectors: FloatArray, labels: pd.Index) -> str:
    """The labels that take part in the directions without variance, the columns of `vectors` (N, r)."""
    return some(labels[(vectors**2).sum(axis=1) > 1e-8])


def checked_series(series: object, who: str, *, rows: int, what: str = "returns") -> FloatArray:
    """The numbers of one series (T,), of which is asked what `checked_returns` asks of a frame."""
    if not isinstance(series, pd.Series):
        hint = "; pass one column of it" if isinstance(series, pd.DataFrame) else ""
        raise InputError(f"{who}: {what} must be a Series by period, was {type(series).__name__}{hint}")
    name = what if series.name is None else series.name
    return checked_returns(series.to_frame(name), who, rows=rows, what=what)[:, 0]


def as_of(date: Any, dates: pd.Index, who: str) -> int:
    """The place of a date, or of the last one before it."""
    try:
        label = pd.Timestamp(date) if isinstance(dates, pd.DatetimeIndex) else date
        place = int(dates.get_indexer(pd.Index([label]))[0])
        if place < 0 and dates.is_monotonic_increasing:
            place = int(dates.searchsorted(label, side="right")) - 1
    except (TypeError, ValueError) as error:
        raise InputError(f"{who}: {date!r} cannot be a date among {some(dates)}") from error
    if place < 0:
        raise InputError(f"{who}: nothing is known on {written(date)}; the first date is {written(dates[0])}")
    return place


def checked_count(value: object, what: str, *, least: int) -> int:
    """A whole number, at least something."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise InputError(f"{what} must be a whole number, at least {least}, was {value!r}")
    return int(value)


def written(label: object) -> str:
    """A date without the time where the time is midnight."""
    if isinstance(label, pd.Timestamp) and label == label.normalize():
        return label.strftime("%Y-%m-%d")
    return str(label)


def check_estimator(value: object, who: str) -> None:
    """Refuse what has no ``fit``, and classes where an instance is meant."""
    if isinstance(value, type) or not callable(getattr(value, "fit", None)):
        name = f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__
        raise InputError(f"{who}: covariance must be an estimator, for example LedoitWolf(), was {name}")

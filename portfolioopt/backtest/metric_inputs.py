"""What every measure of a run asks of its returns, and of what they are compared with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.estimate.checks import checked_returns, checked_series, written
from portfolioopt.labels import FloatArray, checked_number, some


@dataclass(frozen=True, eq=False)
class Runs:
    """Simple returns of one or more runs over the same periods.

    Parameters
    ----------
    matrix
        R x T, a run after the other in memory.
    dates, names
        Their labels.
    single
        Whether they came as one series.
    """

    matrix: FloatArray
    dates: pd.Index
    names: pd.Index
    single: bool

    def labelled(self, columns: dict[str, FloatArray]) -> pd.DataFrame:
        """Numbers by run (R,) as a frame, runs x names."""
        return pd.DataFrame(columns, index=self.names)


def checked_runs(returns: object, who: str, *, rows: int = 1) -> Runs:
    """One series of returns, or a frame of periods x runs: finite, in order of time, no loss above everything."""
    single = isinstance(returns, pd.Series)
    if single:
        values = checked_series(returns, who, rows=rows)[:, None]
        names = pd.Index(["returns" if returns.name is None else returns.name])
    elif isinstance(returns, pd.DataFrame):
        values, names = checked_returns(returns, who, rows=rows), returns.columns
    else:
        raise InputError(
            f"{who}: returns must be a Series by period, or a frame of periods x runs, was {type(returns).__name__}"
        )
    check_losses(values, returns.index, who, "returns")
    return Runs(np.ascontiguousarray(values.T), returns.index, names, single)


def check_losses(values: FloatArray, dates: pd.Index, who: str, what: str) -> None:
    """Refuse simple returns (T, R) below -1, which cannot be compounded."""
    below = values < -1.0
    if below.any():
        row = int(np.argwhere(below)[0, 0])
        raise InputError(
            f"{who}: {what} lose more than everything on {written(dates[row])} ({values[row][below[row]][0]:g}), which "
            "cannot be compounded; are they per cent, log returns, or a worth that fell below zero?"
        )


def by_date(series: object, dates: pd.Index, who: str, what: str) -> FloatArray:
    """The numbers of a series on all of `dates` (T,), where it may have more."""
    if not isinstance(series, pd.Series):
        raise InputError(f"{who}: {what} must be a Series by period, was {type(series).__name__}")
    if series.index.has_duplicates:
        checked_series(series, who, rows=0, what=what)
    absent = dates.difference(series.index, sort=False)
    if len(absent):
        raise InputError(
            f"{who}: {what} has no value on {len(absent)} of the {len(dates)} dates of returns "
            f"({some(pd.Index([written(date) for date in absent]))}); keep the dates of both with "
            f"returns.loc[returns.index.intersection({what}.index)]"
        )
    return checked_series(series.loc[dates], who, rows=0, what=what)


def per_period(risk_free: float | pd.Series, dates: pd.Index, year: float, who: str) -> FloatArray:
    """Risk-free rate of each period (T,): that of a series, or a simple rate per year in equal parts."""
    if isinstance(risk_free, pd.Series):
        return by_date(risk_free, dates, who, "risk_free")
    return np.full(len(dates), checked_number(risk_free, f"{who}: risk_free", above=-1.0) / year)


def by_run(table: object, runs: Runs, who: str, what: str) -> FloatArray:
    """Fractions of NAV like the returns (R, T): a series for one run, else a frame with the same runs."""
    if runs.single:
        values = by_date(table, runs.dates, who, what)[:, None]
    else:
        if not isinstance(table, pd.DataFrame):
            raise InputError(
                f"{who}: {what} must be a frame of periods x runs like returns, was {type(table).__name__}"
            )
        if not table.index.equals(runs.dates) or not table.columns.equals(runs.names):
            raise InputError(
                f"{who}: {what} must have the dates and the columns of returns; bring it there with "
                f"{what}.reindex_like(returns)"
            )
        values = checked_returns(table, who, rows=0, what=what)
    return np.ascontiguousarray(values.T)

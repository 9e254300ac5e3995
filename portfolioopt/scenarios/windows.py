"""Named windows of market history, and the returns in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, overload

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError, unknown_names
from portfolioopt.labels import FloatArray, numbers, some

from .historical import check_time_order
from .scenario_set import ScenarioSet

_WIDEST = pd.Timedelta(days=7)  # between two trading days: New York was closed from 11 to 16 September 2001


@dataclass(frozen=True)
class Window:
    """A stretch of history: what happened from the close of `start` to the close of `end`.

    Parameters
    ----------
    start
        Date of the peak, "YYYY-MM-DD": the first return is that of the trading day after it.
    end
        Date of the trough, whose return is the last.
    description
        What it was.
    """

    start: str
    end: str
    description: str = ""


_WINDOWS = {
    "crash_1987": Window("1987-08-25", "1987-12-04", "Crash of 19 October 1987"),
    "dotcom_2000": Window("2000-03-24", "2002-10-09", "Fall of technology shares, and the recession after it"),
    "crisis_2008": Window("2007-10-09", "2009-03-09", "Banking crisis"),
    "covid_2020": Window("2020-02-19", "2020-03-23", "Outbreak of COVID-19"),
    "rates_2022": Window("2022-01-03", "2022-10-12", "Inflation and the rise of interest rates"),
}


def historical_windows() -> pd.DataFrame:
    """The windows that have names: start, end and description, from peak to trough of the S&P 500 at the close."""
    rows = [(pd.Timestamp(w.start), pd.Timestamp(w.end), w.description) for w in _WINDOWS.values()]
    return pd.DataFrame(rows, index=pd.Index(list(_WINDOWS), name="window"), columns=["start", "end", "description"])


@overload
def stress_window(
    history: pd.DataFrame,
    window: str | Window,
    *,
    mode: Literal["daily"] = ...,
    prices: bool = ...,
    exposures: pd.DataFrame | None = ...,
    factor_returns: pd.DataFrame | None = ...,
) -> ScenarioSet: ...


@overload
def stress_window(
    history: pd.DataFrame,
    window: str | Window,
    *,
    mode: Literal["cumulative"],
    prices: bool = ...,
    exposures: pd.DataFrame | None = ...,
    factor_returns: pd.DataFrame | None = ...,
) -> pd.Series: ...


def stress_window(
    history: pd.DataFrame,
    window: str | Window,
    *,
    mode: Literal["daily", "cumulative"] = "daily",
    prices: bool = False,
    exposures: pd.DataFrame | None = None,
    factor_returns: pd.DataFrame | None = None,
) -> ScenarioSet | pd.Series:
    r"""Returns of a window of history: each day of it as a scenario, or what it came to in all.

    An asset that has no history there can take part through a factor model: its return on a day is its exposures times
    the returns of the factors on it, :math:`\hat r_t = B f_t`, without whatever was its own.

    Parameters
    ----------
    history
        Simple daily returns as fractions (dates x assets), or prices. It has to cover the window without gaps of more
        than a week.
    window
        A name of :func:`historical_windows`, or a :class:`Window`.
    mode
        ``"daily"`` for a scenario per day, equally likely; ``"cumulative"`` for
        :math:`\prod_t (1 + r_t) - 1` by asset.
    prices
        Whether `history` holds prices rather than returns.
    exposures
        B (assets x factors) of assets to be completed: those that are not in `history`, or not for the whole window.
        Assets that have returns for all of it keep them.
    factor_returns
        Simple returns of the factors on the dates of the window.

    Returns
    -------
    ScenarioSet or Series
        By asset: those of `history`, then those that only `exposures` knows.

    Raises
    ------
    InputError
        Where the data do not cover the window, saying what they cover; for assets without returns in it (naming them)
        and no exposures; and for numbers that are missing or impossible.
    UnknownNameError
        For windows and factors that do not exist.
    """
    if mode not in ("daily", "cumulative"):
        raise InputError(f"mode must be 'daily' or 'cumulative', was {mode!r}")
    name, at = _found(window)
    start, end = _dates(at)
    rows = _within(history, start, end, name, "history", prices=prices)
    if prices:
        levels = numbers(rows, "history")
        with np.errstate(invalid="ignore"):
            if (levels <= 0).any():
                raise InputError(f"prices must be above zero: {some(rows.columns[np.any(levels <= 0, axis=0)])}")
        values, dates = levels[1:] / levels[:-1] - 1.0, rows.index[1:]
    else:
        values, dates = numbers(rows, "history"), rows.index
        _check_returns(values, rows.columns, "history")
    frame = pd.DataFrame(values, index=dates, columns=rows.columns)
    if exposures is not None or factor_returns is not None:
        frame = _completed(frame, exposures, factor_returns, start, end, name)
    lacking = frame.isna().any(axis=0).to_numpy()
    if lacking.any():
        raise InputError(
            f"{some(frame.columns[lacking])} has no returns for all of {name} ({at.start} to {at.end}); leave it out, "
            "or pass exposures and factor_returns to complete it by a factor model"
        )
    if mode == "cumulative":
        return pd.Series(np.prod(1.0 + frame.to_numpy(), axis=0) - 1.0, index=frame.columns, name=name)
    return ScenarioSet(frame, horizon="1 day")


def _found(window: str | Window) -> tuple[str, Window]:
    if isinstance(window, Window):
        return window.description or f"{window.start} to {window.end}", window
    if window not in _WINDOWS:
        raise unknown_names("window", [window], _WINDOWS)
    return window, _WINDOWS[window]


def _dates(window: Window) -> tuple[pd.Timestamp, pd.Timestamp]:
    try:
        start, end = pd.Timestamp(window.start), pd.Timestamp(window.end)
    except ValueError as error:
        raise InputError(f"the dates of a window must read YYYY-MM-DD: {error}") from error
    if not start < end:
        raise InputError(f"a window must end after it starts, and {window.end} is not after {window.start}")
    return start, end


def _within(
    history: pd.DataFrame, start: pd.Timestamp, end: pd.Timestamp, name: str, what: str, *, prices: bool
) -> pd.DataFrame:
    """The rows of a window; with prices also the last one before it."""
    check_time_order(history)
    dates = history.index
    if not isinstance(dates, pd.DatetimeIndex):
        raise InputError(f"{what} must be indexed by date, was {type(dates).__name__}; use pd.to_datetime on its index")
    if dates.has_duplicates:
        raise InputError(f"{what} has dates twice; keep one row for each")
    if dates.tz is not None:
        dates = dates.tz_localize(None)
    days = dates.normalize()
    first = start if prices else start + pd.offsets.BDay()  # a peak needs no return of its own
    if not len(days) or days[0] > first or days[-1] < end:
        span = f"reaches from {days[0]:%Y-%m-%d} to {days[-1]:%Y-%m-%d}" if len(days) else "has no rows"
        raise InputError(
            f"{name} goes from {start:%Y-%m-%d} to {end:%Y-%m-%d}, and {what} {span}; pass data that cover it"
        )
    low = days.searchsorted(start, side="right")
    high = days.searchsorted(end, side="right")
    inside = days[low:high]
    edges = pd.DatetimeIndex([start, *inside, end])
    gaps = np.diff(edges)
    if (gaps > _WIDEST).any():
        worst = int(gaps.argmax())
        raise InputError(
            f"{what} has nothing between {edges[worst]:%Y-%m-%d} and {edges[worst + 1]:%Y-%m-%d}; {name} needs daily "
            "data"
        )
    return history.iloc[low - 1 if prices else low : high]


def _check_returns(values: FloatArray, columns: pd.Index, what: str) -> None:
    bad = np.any(np.isinf(values) | (values < -1.0), axis=0)
    if bad.any():
        raise InputError(f"{what} is infinite or below -1 for {some(columns[bad])}: returns are fractions")
    if np.nanmin(values, initial=np.inf) > 0.0:
        raise InputError(f"every number in {what} is above zero within the window; pass prices=True if they are prices")


def _completed(
    frame: pd.DataFrame,
    exposures: pd.DataFrame | None,
    factor_returns: pd.DataFrame | None,
    start: pd.Timestamp,
    end: pd.Timestamp,
    name: str,
) -> pd.DataFrame:
    """Returns of the window with those that a factor model gives to assets without history."""
    if exposures is None or factor_returns is None:
        raise InputError("completing assets by a factor model takes both exposures and factor_returns")
    if exposures.index.has_duplicates or exposures.columns.has_duplicates:
        raise InputError("exposures has assets or factors twice; keep one of each")
    unknown = [factor for factor in exposures.columns if factor not in factor_returns.columns]
    if unknown:
        raise unknown_names("factor", unknown, factor_returns.columns)
    lacking = [asset for asset, gap in frame.isna().any(axis=0).items() if gap]
    needed = [asset for asset in exposures.index if asset in lacking or asset not in frame.columns]
    if not needed:
        return frame
    factors = _within(factor_returns[exposures.columns], start, end, name, "factor_returns", prices=False)
    missing = frame.index.difference(factors.index)
    if len(missing):
        raise InputError(f"factor_returns lacks {len(missing)} days of {name}, the first {missing[0]:%Y-%m-%d}")
    f = numbers(factors.reindex(frame.index), "factor_returns")
    loadings = numbers(exposures.loc[needed], "exposures")
    for array, labels, what in ((f.T, factors.columns, "factor_returns"), (loadings, pd.Index(needed), "exposures")):
        bad = np.any(~np.isfinite(array), axis=1)
        if bad.any():
            raise InputError(f"{what} is missing or infinite for {some(labels[bad])}")
    proxy = pd.DataFrame(f @ loadings.T, index=frame.index, columns=pd.Index(needed))
    names = [*frame.columns, *(asset for asset in needed if asset not in frame.columns)]
    return pd.concat([frame.drop(columns=[asset for asset in lacking if asset in needed]), proxy], axis=1)[names]

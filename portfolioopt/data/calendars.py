"""Trading days: the sessions of exchanges, prices laid onto them, and dates to rebalance on.

Sessions come from the package exchange-calendars, an optional extra. What ends a week or month among given dates needs
no calendar.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError, unknown_names

from .checks import check_dates, check_labels, check_timestamps, date_text, some, timestamp

if TYPE_CHECKING:
    from exchange_calendars import ExchangeCalendar

Period = Literal["week", "month", "quarter", "year"]

_PERIODS: Final = {"week": "W-SUN", "month": "M", "quarter": "Q", "year": "Y"}


def sessions(exchange: str, start: object, end: object) -> pd.DatetimeIndex:
    """Trading days of an exchange from `start` to `end`, both included, as dates without time and zone.

    Parameters
    ----------
    exchange
        Market identifier code (ISO 10383), such as ``"XNYS"``, ``"XLON"``, ``"XETR"``, ``"XTKS"``, or another name that
        exchange-calendars knows.
    start, end
        Dates.

    Raises
    ------
    InputError
        Where exchange-calendars is not installed, for an end before the start, for dates that the calendar does not
        reach; UnknownNameError for an exchange it does not know.
    """
    first, last = timestamp(start, "start", None).normalize(), timestamp(end, "end", None).normalize()
    if last < first:
        raise InputError(f"end ({date_text(last)}) is before start ({date_text(first)})")
    found = pd.DatetimeIndex(_calendar(exchange, first, last).sessions)
    chosen = found[(found >= first) & (found <= last)]
    return pd.DatetimeIndex(chosen.to_numpy(), name="date")  # without the frequency that an index of sessions carries


def missing_sessions(prices: pd.DataFrame, exchange: str) -> pd.DatetimeIndex:
    """Trading days between the first and the last date of `prices` that have no row, or a row without any price."""
    dates = _days(prices)
    there = dates[prices.notna().any(axis="columns").to_numpy()]
    return sessions(exchange, dates[0], dates[-1]).difference(there)


def align_to_sessions(
    prices: pd.DataFrame, exchange: str, *, others: Literal["error", "drop"] = "error"
) -> pd.DataFrame:
    """Prices with one row for each trading day from their first to their last date, NaN in rows that were missing.

    Nothing is filled: pass the result on with a policy for missing prices (see :func:`simple_returns`).

    Parameters
    ----------
    prices
        T x N by dates without time and zone.
    exchange
        See :func:`sessions`.
    others
        What to do about rows on days that are no sessions: refuse them, or leave them out (weekends of assets that
        trade on them, holidays that a vendor filled).

    Raises
    ------
    InputError
        For such rows under ``"error"``, for dates with times or zones, and what :func:`sessions` refuses.
    """
    if others not in ("error", "drop"):
        raise InputError(f"others must be 'error' or 'drop', was {others!r}")
    dates = _days(prices)
    open_days = sessions(exchange, dates[0], dates[-1])
    closed = dates.difference(open_days)
    if len(closed) and others == "error":
        raise InputError(
            f"prices has rows on {len(closed)} days on which {exchange} did not trade: "
            f"{some(date_text(day) for day in closed)}; pass others='drop' to leave them out, or another "
            "exchange"
        )
    return prices.reindex(open_days.as_unit(dates.unit).rename(prices.index.name))


def period_ends(dates: pd.DatetimeIndex, period: Period = "month") -> pd.DatetimeIndex:
    """The last date of each week (Monday to Sunday), month, quarter or year among `dates`, as dates to rebalance on.

    The last of all dates counts only if the next weekday belongs to another period: a month that is still going on has
    no end yet, and history that is cut off in it does not make one up. So the dates up to t do not depend on what comes
    after it, unless a period ends with a holiday.

    Parameters
    ----------
    dates
        Trading days in increasing order, such as ``market.dates`` or :func:`sessions`.
    period
        ``"week"``, ``"month"``, ``"quarter"`` or ``"year"``.
    """
    if period not in _PERIODS:
        raise unknown_names("period", [period], _PERIODS)
    check_dates(pd.Index(dates), "dates")
    days = check_timestamps(pd.Index(dates), "dates")
    if not len(days):
        return days
    following = (days[-1] + pd.offsets.BusinessDay()).normalize()
    plain = pd.DatetimeIndex(days.append(pd.DatetimeIndex([following]))).tz_localize(None)
    codes = plain.to_period(_PERIODS[period]).asi8
    return days[np.flatnonzero(np.diff(codes) != 0)]


def month_ends(dates: pd.DatetimeIndex) -> pd.DatetimeIndex:
    """The last date of each month among `dates`; see :func:`period_ends`."""
    return period_ends(dates, "month")


def _calendar(exchange: str, first: pd.Timestamp, last: pd.Timestamp) -> ExchangeCalendar:
    try:
        import exchange_calendars
        from exchange_calendars.errors import InvalidCalendarName
    except ImportError as error:
        raise InputError(
            'sessions of exchanges need the package exchange-calendars; pip install "portfolioopt[calendars]"'
        ) from error
    # A calendar needs a few days to have a session in; what is beyond the range is cut off by the caller.
    margin = pd.Timedelta(days=30)
    try:
        with warnings.catch_warnings():
            # Older releases of it use what newer ones of pandas deprecate: no affair of the caller's.
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", FutureWarning)
            return exchange_calendars.get_calendar(exchange, start=first - margin, end=last + margin)
    except InvalidCalendarName as error:
        raise unknown_names("exchange", [exchange], exchange_calendars.get_calendar_names()) from error
    except ValueError as error:
        raise InputError(
            f"the calendar of {exchange} does not reach from {first.date()} to {last.date()}: {error}"
        ) from error


def _days(prices: pd.DataFrame) -> pd.DatetimeIndex:
    """The dates of daily prices, refusing times of day and zones: a session is a date."""
    check_labels(prices)
    dates = check_timestamps(prices.index, "prices")
    if not len(dates):
        raise InputError("prices has no rows; pass at least one date")
    if dates.tz is not None or not dates.equals(dates.normalize()):
        raise InputError(
            "prices must be indexed by dates without time and time zone to be compared with trading days; use "
            "prices.index = prices.index.tz_localize(None).normalize()"
        )
    return dates

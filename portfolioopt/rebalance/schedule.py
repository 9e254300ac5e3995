"""Days on which to rebalance: the calendar trigger, and the days of rest after a rebalance."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from numbers import Integral
from typing import Final, Literal

import numpy as np
import pandas as pd

from portfolioopt.data import sessions
from portfolioopt.data.checks import check_dates, check_timestamps, date_text
from portfolioopt.errors import InputError, unknown_names

from .decisions import BoolArray, Decision, Panel, Situation, Trigger

Frequency = Literal["daily", "weekly", "monthly", "quarterly", "yearly"]

_PERIODS: Final = {"weekly": "W-SUN", "monthly": "M", "quarterly": "M", "yearly": "M"}
_MONTHS: Final = {"quarterly": (3, 6, 9, 12), "yearly": (12,)}
_FIRST_MONTHS: Final = {"quarterly": (1, 4, 7, 10), "yearly": (1,)}
_MONTH = pd.Timedelta(days=31)  # longer than exchanges are closed


@dataclass(frozen=True, eq=False)
class CalendarTrigger(Trigger):
    """Calls for a rebalance on the days of a calendar.

    A day that does not exist (the 31st of April) or is no session counts as the session before it, which may lie in
    the month before.

    Parameters
    ----------
    frequency
        ``"daily"``, ``"weekly"``, ``"monthly"``, ``"quarterly"`` or ``"yearly"``.
    day
        ``"last"`` session of the period, ``"first"``, or a number: the day of the month, in a week 1 for Monday to 7
        for Sunday. Daily takes none.
    calendar
        Code of an exchange for its real sessions (see :func:`portfolioopt.data.sessions`), or the sessions themselves,
        after the last of which weekdays count; every weekday where None.
    months
        Months of a quarterly or yearly date. By default the first and the last session are those of the quarter or
        year, and a number counts in its last month.
    late
        Whether a date on which nobody rebalanced (a cooldown, a day without data) is made up for on the first day
        judged after it. Needs a last rebalance to count from.
    """

    frequency: Frequency = "monthly"
    day: int | Literal["last", "first"] = "last"
    calendar: str | pd.DatetimeIndex | None = None
    months: tuple[int, ...] | None = None
    late: bool = True
    _due: dict[int, pd.DatetimeIndex] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.frequency != "daily" and self.frequency not in _PERIODS:
            raise unknown_names("frequency", [self.frequency], ["daily", *_PERIODS])
        most = 7 if self.frequency == "weekly" else 31
        numbered = isinstance(self.day, Integral) and not isinstance(self.day, bool)
        if self.day not in ("last", "first") and not (numbered and 1 <= int(self.day) <= most):
            raise InputError(f"day must be 'last', 'first' or a number from 1 to {most}, was {self.day!r}")
        if self.months is not None:
            if self.frequency not in _MONTHS:
                raise InputError(f"months are for quarterly and yearly dates, not for {self.frequency} ones")
            if not self.months or not set(self.months) <= set(range(1, 13)):
                raise InputError(f"months must be numbers from 1 to 12, was {self.months!r}")
        if isinstance(self.calendar, pd.DatetimeIndex):
            check_dates(self.calendar, "calendar")
        elif self.calendar is not None and not isinstance(self.calendar, str):
            raise InputError(f"calendar must be the code of an exchange or its sessions, was {self.calendar!r}")

    def last_due(self, date: pd.Timestamp) -> pd.Timestamp | None:
        """The latest day up to `date` on which the calendar calls for a rebalance; None where there is none."""
        for year in (date.year, date.year - 1):
            due = self._due_in(year)
            place = int(due.searchsorted(date, side="right"))
            if place:
                return due[place - 1]
        return None

    def judge(self, situation: Situation) -> Decision:
        """On the day itself, or late."""
        date, last = situation.date, situation.last_rebalance
        due = self.last_due(date)
        if due is not None and due == date and last != date:
            return Decision(True, (f"calendar: {date_text(date)} is a {self.frequency} rebalancing day",))
        if self.late and due is not None and last is not None and last < due:
            text = f"calendar: the {self.frequency} rebalancing day {date_text(due)} has passed without a rebalance"
            return Decision(True, (text,))
        return Decision(False, (f"calendar: {date_text(date)} is not a {self.frequency} rebalancing day",))

    def possible(self, panel: Panel) -> BoolArray:
        """On the day itself, and late."""
        due = self.last_due(panel.date)
        if due is None:
            return np.zeros(len(panel.weights), dtype=bool)
        if due == panel.date:
            return super().possible(panel)
        return np.array([self.late and last is not None and last < due for last in panel.last])

    def _due_in(self, year: int) -> pd.DatetimeIndex:
        """Days in a year on which the calendar calls for a rebalance; those of periods that begin after it included."""
        if year not in self._due:
            first, last = pd.Timestamp(year, 1, 1), pd.Timestamp(year, 12, 31)
            days = open_days(self.calendar, first - _MONTH, last + 2 * _MONTH)
            if self.frequency == "daily":
                due = days
            else:
                months = self.months or (_FIRST_MONTHS if self.day == "first" else _MONTHS).get(self.frequency)
                span = pd.period_range(first, last + _MONTH, freq=_PERIODS[self.frequency])
                found = [self._day_of(period, days) for period in span if months is None or period.month in months]
                due = pd.DatetimeIndex(sorted({day for day in found if day is not None}))
            self._due[year] = due[(due >= first) & (due <= last)]
        return self._due[year]

    def _day_of(self, period: pd.Period, days: pd.DatetimeIndex) -> pd.Timestamp | None:
        first, last = period.start_time.normalize(), period.end_time.normalize()
        if self.day == "first":
            place = int(days.searchsorted(first, side="left"))
            return days[place] if place < len(days) else None
        nominal = last if self.day == "last" else min(first + pd.Timedelta(days=int(self.day) - 1), last)
        place = int(days.searchsorted(nominal, side="right")) - 1
        return days[place] if place >= 0 else None


@dataclass(frozen=True, eq=False)
class Cooldown:
    """Days of rest after a rebalance: a rebalance on day 0 with a length of 7 leaves days 1 to 6 out.

    Parameters
    ----------
    length
        Days until the next rebalance may happen; zero for none.
    unit
        ``"days"`` of the calendar, weekends and holidays included, or ``"sessions"``.
    calendar
        What sessions are; see :class:`CalendarTrigger`.
    """

    length: int = 7
    unit: Literal["days", "sessions"] = "days"
    calendar: str | pd.DatetimeIndex | None = None

    def __post_init__(self) -> None:
        if isinstance(self.length, bool) or not isinstance(self.length, Integral) or self.length < 0:
            raise InputError(f"the length of a cooldown must be a whole number, at least 0, was {self.length!r}")
        if self.unit not in ("days", "sessions"):
            raise InputError(f"unit must be 'days' or 'sessions', was {self.unit!r}")

    def passed(self, last: pd.Timestamp, date: pd.Timestamp) -> int:
        """Days, or sessions, after `last` up to and including `date`."""
        if self.unit == "days":
            return (date - last).days
        days = open_days(self.calendar, last, date)
        return int(np.count_nonzero(days > last))

    def blocks(self, situation: Situation) -> str | None:
        """Why there may be no rebalance yet, or None."""
        last = situation.last_rebalance
        if last is None or (passed := self.passed(last, situation.date)) >= self.length:
            return None
        return f"cooldown: {passed} of {self.length} {self.unit} have passed since the rebalance of {date_text(last)}"


def open_days(calendar: str | pd.DatetimeIndex | None, first: pd.Timestamp, last: pd.Timestamp) -> pd.DatetimeIndex:
    """Sessions from `first` to `last`, both included: of an exchange, among given days, or weekdays."""
    if calendar is None:
        return pd.bdate_range(first, last)
    if isinstance(calendar, str):
        years = [_sessions_of_year(calendar, year) for year in range(first.year, last.year + 1)]
        days = pd.DatetimeIndex(np.concatenate([year.to_numpy() for year in years]))
    else:
        given = check_timestamps(calendar, "calendar")
        later = pd.bdate_range(given[-1] + pd.Timedelta(days=1), last) if len(given) else pd.bdate_range(first, last)
        days = pd.DatetimeIndex(given.append(later))
    return days[(days >= first) & (days <= last)]


@functools.lru_cache(maxsize=256)
def _sessions_of_year(exchange: str, year: int) -> pd.DatetimeIndex:
    # Building the calendar of an exchange takes far longer than judging a day, and a backtest judges thousands.
    return sessions(exchange, f"{year}-01-01", f"{year}-12-31")

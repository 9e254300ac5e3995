r"""Which dates to learn from and which to test on: windows that walk forward, and combinations of purged groups.

A row whose outcome reaches h rows into the future (a return over h sessions, a position held for h) shares its outcome
with the h - 1 rows on either side. Training rows within `purge` rows of a test row, before *and* after, are left out,
and those within a further `embargo` rows after it, for what decays more slowly than outcomes overlap. López de Prado
(2018), "Advances in financial machine learning", chapters 7 (purging, embargo) and 12 (combinatorial purged
cross-validation).
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
from pandas.tseries.frequencies import to_offset

from portfolioopt.errors import InputError
from portfolioopt.estimate.checks import checked_count, written

IntArray: TypeAlias = npt.NDArray[np.int64]
Span: TypeAlias = int | str | pd.offsets.BaseOffset | dt.timedelta

_MOST_SPLITS: Final = 100_000
_UNITS: Final = {"D": ("days", 1), "W": ("weeks", 1), "M": ("months", 1), "Q": ("months", 3), "Y": ("years", 1)}


@dataclass(frozen=True, eq=False)
class Split:
    """Rows to learn from and rows to test on.

    Parameters
    ----------
    train, test
        Row numbers, increasing.
    train_dates, test_dates
        The dates of these rows.
    """

    train: IntArray
    test: IntArray
    train_dates: pd.Index
    test_dates: pd.Index

    def __repr__(self) -> str:
        return f"Split(train={_range(self.train_dates)}, test={_range(self.test_dates)})"


@dataclass(frozen=True, eq=False)
class CombinatorialSplits:
    """All ways to test on k of N groups, and the paths through history that they make; see `combinatorial_purged`.

    Parameters
    ----------
    splits
        One for each of the C(N, k) choices of test groups, in lexicographic order.
    tested
        The groups that each of them tests on, C(N, k) x k.
    paths
        For each path and group the number of the split that tests on it, C(N - 1, k - 1) x N: all paths together use
        every test of every split once.
    group
        The group of every row (T,), consecutive rows from 0 on.
    dates
        Of the rows (T,).
    """

    splits: tuple[Split, ...]
    tested: IntArray
    paths: IntArray
    group: IntArray
    dates: pd.Index

    def assemble(self, outcomes: Sequence[pd.Series]) -> pd.DataFrame:
        """Out-of-sample numbers of every split, put together to whole histories, T x paths.

        Parameters
        ----------
        outcomes
            For each of `splits` a series (returns, forecasts) with a value on every one of its test dates.
        """
        if len(outcomes) != len(self.splits):
            raise InputError(
                f"assemble needs one series for each of the {len(self.splits)} splits, not {len(outcomes)}"
            )
        whole = np.full((len(self.splits), len(self.dates)), np.nan)
        for number, (split, outcome) in enumerate(zip(self.splits, outcomes, strict=True)):
            absent = split.test_dates.difference(outcome.index)
            if len(absent):
                raise InputError(
                    f"assemble: the series of split {number} has no value on {len(absent)} of its test dates, the "
                    f"first of them {written(absent[0])}"
                )
            whole[number, split.test] = outcome.loc[split.test_dates].to_numpy(dtype=np.float64)
        rows = np.arange(len(self.dates))
        table = whole[self.paths[:, self.group], rows]
        return pd.DataFrame(table.T, index=self.dates, columns=pd.RangeIndex(len(self.paths), name="path"))


def walk_forward(
    dates: pd.Index,
    *,
    train: Span,
    test: Span,
    purge: int = 0,
    expanding: bool = False,
    step: Span | None = None,
    partial: bool = True,
) -> list[Split]:
    """Learn from a window, test on what follows it, move on; nothing is ever learned from what comes after a test.

    Spans are whole numbers of rows, or stretches of the calendar: an offset such as ``pd.DateOffset(months=6)``, which
    counts from the first date, or text such as ``"12M"`` (D, W, M, Q, Y), which counts whole days, weeks (from Monday),
    months, quarters or years: with ``test="3M"`` tests begin on the first session of a month. A stretch holds the dates
    from its beginning up to, and not with, its end.

    Parameters
    ----------
    dates
        Dates of the rows (T,), increasing; any increasing index where all spans are in rows.
    train
        How much is learned from at least (`expanding`), or always; in rows they are the last ones before the purge.
    test
        How much is tested on.
    purge
        Rows between the last one to learn from and the first one to test on that are left out; there is no embargo,
        since no row to learn from comes after a test.
    expanding
        Whether to learn from everything since the first row.
    step
        How far from one test to the next, in rows or calendar as `test` is; `test` where None, so that every row from
        the first test on is tested once.
    partial
        Whether the last test may be cut short by the end of `dates`.

    Raises
    ------
    InputError
        For dates out of order or repeated, spans that are not positive or cannot be read, and too few dates for one
        split.
    """
    who = "walk_forward"
    _check_dates(dates, who)
    gap = checked_count(purge, f"{who}: purge", least=0)
    own, tested = _span(train, f"{who}: train"), _span(test, f"{who}: test")
    move = tested if step is None else _span(step, f"{who}: step")
    if isinstance(tested, int) != isinstance(move, int):
        raise InputError(f"{who}: step and test must both be in rows, or both in the calendar")
    if not all(isinstance(span, int) for span in (own, tested, move)) and not isinstance(dates, pd.DatetimeIndex):
        raise InputError(f"{who}: spans of the calendar need timestamps, but dates are {dates.dtype}; pass rows")

    splits = []
    for begin, end, since in _tests(dates, own, tested, move, gap, test if isinstance(test, str) else None):
        if end > len(dates):
            if not partial:
                break
            end = len(dates)
        last = begin - gap
        first = 0 if expanding else since
        if begin == end or last <= first:
            continue
        learn, trial = np.arange(first, last), np.arange(begin, end)
        splits.append(Split(learn, trial, dates[learn], dates[trial]))
    if not splits:
        raise InputError(
            f"{who}: {len(dates)} dates are too few to learn from {train} and test on {test}"
            f"{f' after a purge of {gap}' if gap else ''}; pass a longer history or shorter spans"
        )
    return splits


def combinatorial_purged(
    dates: pd.Index, *, groups: int = 10, test_groups: int = 2, purge: int = 0, embargo: int = 0
) -> CombinatorialSplits:
    r"""Test on every choice of k out of N groups of consecutive rows, learning from the rest.

    .. math:: \binom{N}{k} \text{ splits}, \qquad
              \varphi = \frac{k}{N} \binom{N}{k} = \binom{N-1}{k-1} \text{ paths},

    each of which goes through every group once, out of sample: a distribution of performance instead of one number. The
    rows to learn from come after some of the tests too, which a walk forward does not allow; purge accordingly.

    Parameters
    ----------
    dates
        Dates of the rows (T,), increasing; any increasing index.
    groups, test_groups
        N, at least 2, and k, from 1 to N - 1. Groups differ by a row at most, the longer ones first.
    purge
        Rows next to a test group, on either side, that are not learned from: h - 1 for outcomes over h rows.
    embargo
        Further rows after a test group that are not learned from.

    Raises
    ------
    InputError
        For dates out of order or repeated, fewer rows than groups, more than 100,000 splits, and a purge and embargo
        that leave a split nothing to learn from.
    """
    who = "combinatorial_purged"
    _check_dates(dates, who)
    count = checked_count(groups, f"{who}: groups", least=2)
    chosen = checked_count(test_groups, f"{who}: test_groups", least=1)
    before = checked_count(purge, f"{who}: purge", least=0)
    after = before + checked_count(embargo, f"{who}: embargo", least=0)
    if chosen >= count:
        raise InputError(f"{who}: test_groups must be below groups ({count}), was {chosen}")
    if len(dates) < count:
        raise InputError(f"{who}: {len(dates)} rows cannot be parted into {count} groups")
    number = comb(count, chosen)
    if number > _MOST_SPLITS:
        raise InputError(f"{who}: {chosen} of {count} groups make {number:,} splits; pass fewer groups")

    group = np.repeat(np.arange(count), [len(part) for part in np.array_split(np.arange(len(dates)), count)])
    edges = np.searchsorted(group, np.arange(count + 1))
    tested = np.array(list(combinations(range(count), chosen)), dtype=np.int64)
    splits = []
    for choice in tested:
        learn = np.ones(len(dates), dtype=bool)
        trial = np.zeros(len(dates), dtype=bool)
        for g in choice:
            learn[max(edges[g] - before, 0) : edges[g + 1] + after] = False
            trial[edges[g] : edges[g + 1]] = True
        rows, trials = np.flatnonzero(learn), np.flatnonzero(trial)
        if not len(rows):
            raise InputError(
                f"{who}: a purge of {before} and an embargo of {after - before} leave nothing to learn from beside "
                f"groups {choice.tolist()}; pass fewer groups to test on, or less of either"
            )
        splits.append(Split(rows, trials, dates[rows], dates[trials]))
    # Path j takes, for each group, the j-th of the splits that test on it.
    paths = np.stack([np.flatnonzero((tested == g).any(axis=1)) for g in range(count)], axis=1)
    return CombinatorialSplits(tuple(splits), tested, paths, group, dates)


def _tests(
    dates: pd.Index,
    train: int | pd.offsets.BaseOffset,
    test: int | pd.offsets.BaseOffset,
    step: int | pd.offsets.BaseOffset,
    purge: int,
    unit: str | None,
) -> list[tuple[int, int, int]]:
    """First row of every test, the row after its last (beyond the end where cut short), first row to learn from."""
    found = []
    if isinstance(test, int) and isinstance(step, int):
        if isinstance(train, int):
            begin = train + purge
        else:
            begin = int(dates.searchsorted(dates[0] + train))
        while begin < len(dates):
            since = begin - purge - train if isinstance(train, int) else int(dates.searchsorted(dates[begin] - train))
            found.append((begin, begin + test, since))
            begin += step
        return found
    assert not isinstance(test, int)
    assert not isinstance(step, int)
    origin = dates[0] if unit is None else _beginning(dates[0], unit)
    lead = origin if isinstance(train, int) else origin + train
    number = 0
    while (start := lead + number * step if number else lead) <= dates[-1]:
        number += 1
        stop = start + test
        begin, end = (int(place) for place in dates.searchsorted(pd.DatetimeIndex([start, stop])))
        if isinstance(train, int):
            since = begin - purge - train
            if since < 0:
                continue
        else:
            since = int(dates.searchsorted(start - train))
        whole = stop <= dates[-1] + pd.offsets.BDay(1)  # no weekday is missing at its end
        found.append((begin, end if whole else len(dates) + 1, since))
    return found


def _span(value: object, what: str) -> int | pd.offsets.BaseOffset:
    """A positive number of rows, or an offset of the calendar."""
    if isinstance(value, str):
        read = re.fullmatch(r"\s*(\d*)\s*(D|W|M|ME|MS|Q|QE|QS|Y|YE|YS)\s*", value.upper())
        if read is None or (read[1] and int(read[1]) == 0):
            raise InputError(
                f"{what} must be a number of days, weeks, months, quarters or years, such as '12M', was {value!r}"
            )
        name, factor = _UNITS[read[2][0]]
        return pd.DateOffset(**{name: factor * int(read[1] or 1)})  # pyright: ignore[reportArgumentType]
    if isinstance(value, dt.timedelta):
        if value <= dt.timedelta(0):
            raise InputError(f"{what} must be longer than nothing, was {value}")
        return to_offset(pd.Timedelta(value))
    if isinstance(value, pd.offsets.BaseOffset):
        moment = pd.Timestamp(2000, 1, 15)
        if moment + value <= moment:
            raise InputError(f"{what} must lead into the future, was {value!r}")
        return value
    return checked_count(value, what, least=1)


def _beginning(date: pd.Timestamp, text: str) -> pd.Timestamp:
    """Where the day, week, month, quarter or year of a date begins."""
    unit = re.sub(r"[\d\s]", "", text.upper())[0]
    day = date.normalize()
    if unit == "D":
        return day
    if unit == "W":
        return day - pd.Timedelta(days=day.day_of_week)
    month = {"M": day.month, "Q": 3 * ((day.month - 1) // 3) + 1, "Y": 1}[unit]
    return day.replace(month=month, day=1)


def _check_dates(dates: object, who: str) -> None:
    if not isinstance(dates, pd.Index):
        raise InputError(f"{who}: dates must be an index, was {type(dates).__name__}; pass returns.index")
    if dates.hasnans or not dates.is_monotonic_increasing or dates.has_duplicates:
        raise InputError(f"{who}: dates must be increasing, none of them repeated or missing; use sort_index() first")


def _range(dates: pd.Index) -> str:
    return f"{written(dates[0])}..{written(dates[-1])} ({len(dates)})"

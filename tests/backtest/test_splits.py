"""Splits beside plain loops over rows and skfolio's, and what must never happen: learning from what is tested."""

from __future__ import annotations

from itertools import combinations, pairwise
from math import comb

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skfolio.model_selection import CombinatorialPurgedCV, WalkForward

from portfolioopt.backtest.splits import combinatorial_purged, walk_forward
from portfolioopt.errors import InputError

DAYS = pd.bdate_range("2000-01-03", "2003-05-14")


@pytest.mark.parametrize(("train", "test", "purge"), [(20, 5, 0), (17, 4, 3), (30, 30, 1), (1, 1, 0)])
@pytest.mark.parametrize("expanding", [False, True])
def test_rows_walk_forward_as_in_skfolio(train: int, test: int, purge: int, expanding: bool) -> None:
    dates = DAYS[:103]
    oracle = WalkForward(
        train_size=train, test_size=test, purged_size=purge, expand_train=expanding, reduce_test=True
    ).split(np.zeros((103, 1)))
    found = walk_forward(dates, train=train, test=test, purge=purge, expanding=expanding)
    pairs = list(oracle)
    assert len(pairs) == len(found)
    for split, (learn, trial) in zip(found, pairs, strict=True):
        np.testing.assert_array_equal(split.train, learn)
        np.testing.assert_array_equal(split.test, trial)
        assert split.train_dates.equals(dates[learn])
        assert split.test_dates.equals(dates[trial])


@given(
    rows=st.integers(2, 80), train=st.integers(1, 30), test=st.integers(1, 20), purge=st.integers(0, 8),
    step=st.none() | st.integers(1, 25), expanding=st.booleans(), partial=st.booleans(),
)  # fmt: skip
def test_rows_walk_forward_without_looking_ahead(rows, train, test, purge, step, expanding, partial) -> None:
    dates = DAYS[:rows]
    expected = []
    for begin in range(train + purge, rows, step or test):
        trial = [t for t in range(begin, begin + test) if t < rows]
        if partial or len(trial) == test:
            expected.append((range(0 if expanding else begin - purge - train, begin - purge), trial))
    if not expected:
        with pytest.raises(InputError, match="too few"):
            walk_forward(dates, train=train, test=test, purge=purge, step=step, expanding=expanding, partial=partial)
        return
    found = walk_forward(dates, train=train, test=test, purge=purge, step=step, expanding=expanding, partial=partial)
    assert [(list(s.train), list(s.test)) for s in found] == [(list(a), list(b)) for a, b in expected]
    for split in found:
        assert split.train.max() + purge < split.test.min()
    if step is None:
        tested = np.concatenate([split.test for split in found])
        assert (np.diff(tested) == 1).all()


@pytest.mark.parametrize("expanding", [False, True])
def test_months_are_whole_months(expanding: bool) -> None:
    found = walk_forward(DAYS, train="12M", test="3M", purge=2, expanding=expanding)
    months = DAYS.to_period("M")
    for number, split in enumerate(found):
        start = pd.Period("2001-01", "M") + 3 * number
        inside = (months >= start) & (months < start + 3)
        np.testing.assert_array_equal(split.test, np.flatnonzero(inside))
        before = (months < start) & (expanding | (months >= start - 12))
        np.testing.assert_array_equal(split.train, np.flatnonzero(before)[:-2])
    assert found[-1].test_dates[-1] == DAYS[-1]
    whole = walk_forward(DAYS, train="12M", test="3M", purge=2, expanding=expanding, partial=False)
    assert len(whole) == len(found) - 1
    assert whole[-1].test_dates[-1] == pd.Timestamp("2003-03-31")


def test_a_month_that_ends_on_a_weekend_is_whole() -> None:
    dates = pd.bdate_range("2020-01-01", "2020-05-29")  # 30 and 31 May are a weekend
    found = walk_forward(dates, train="3M", test="1M", partial=False)
    assert [split.test_dates[0].month for split in found] == [4, 5]
    assert len(walk_forward(dates[:-1], train="3M", test="1M", partial=False)) == 1


@pytest.mark.parametrize(("test", "starts"), [("1Q", [1, 4, 7, 10]), ("1Y", [1]), ("6M", [1, 7])])
def test_tests_begin_with_their_calendar(test: str, starts: list[int]) -> None:
    found = walk_forward(DAYS, train=252, test=test)
    for split in found:
        first = split.test_dates[0]
        assert first.month in starts
        assert first == DAYS[first.replace(day=1) <= DAYS][0]
        assert len(split.train) == 252
        assert split.train[-1] + 1 == split.test[0]


def test_a_test_with_a_row_too_few_before_it_is_left_out() -> None:
    before = int((DAYS < "2000-04-01").sum())
    exact = walk_forward(DAYS, train=before - 3, test="1Q", purge=3)
    assert exact[0].test_dates[0] == DAYS[before]
    assert exact[0].train.tolist() == list(range(before - 3))
    assert walk_forward(DAYS, train=before - 2, test="1Q", purge=3)[0].test_dates[0].month == 7


def test_weeks_begin_on_monday() -> None:
    found = walk_forward(DAYS[2:], train="8W", test="2W")
    assert all(split.test_dates[0].day_of_week == 0 for split in found)
    assert {len(split.test) for split in found[:-1]} == {10}


def test_offsets_count_from_the_first_date() -> None:
    dates = pd.bdate_range("2000-01-31", "2001-12-31")
    found = walk_forward(dates, train=pd.DateOffset(months=6), test=pd.DateOffset(months=1))
    for number, split in enumerate(found):
        start = pd.Timestamp("2000-01-31") + pd.DateOffset(months=6 + number)  # the 31st, not what is left of it
        stop = start + pd.DateOffset(months=1)
        np.testing.assert_array_equal(split.test, np.flatnonzero((dates >= start) & (dates < stop)))
    days = walk_forward(dates, train=pd.Timedelta("100D"), test=pd.Timedelta("30D"))
    assert days[0].test_dates[0] == dates[dates >= dates[0] + pd.Timedelta("100D")][0]


def test_rows_may_be_tested_on_years_learned() -> None:
    found = walk_forward(DAYS, train="1Y", test=60, purge=2)
    for split in found:
        start = split.test_dates[0]
        assert split.train_dates[0] == DAYS[start - pd.DateOffset(years=1) <= DAYS][0]
        assert split.train[-1] == split.test[0] - 3


@given(
    rows=st.integers(2, 70), groups=st.integers(2, 8), share=st.integers(1, 7), purge=st.integers(0, 4),
    embargo=st.integers(0, 4),
)  # fmt: skip
def test_combinations_never_learn_near_a_test(rows, groups, share, purge, embargo) -> None:
    tests = min(share, groups - 1)
    if rows < groups:
        return
    dates = DAYS[:rows]
    parts = np.array_split(np.arange(rows), groups)
    expected = []
    for choice in combinations(range(groups), tests):
        trial = np.concatenate([parts[g] for g in choice])
        learn = [
            t for t in range(rows)
            if all(not (u - purge <= t <= u + purge + embargo) for u in trial)
        ]  # fmt: skip
        expected.append((learn, trial.tolist()))
    if not all(learn for learn, _ in expected):
        with pytest.raises(InputError, match="nothing to learn from"):
            combinatorial_purged(dates, groups=groups, test_groups=tests, purge=purge, embargo=embargo)
        return
    found = combinatorial_purged(dates, groups=groups, test_groups=tests, purge=purge, embargo=embargo)
    assert [(s.train.tolist(), s.test.tolist()) for s in found.splits] == expected
    assert len(found.splits) == comb(groups, tests)
    assert found.paths.shape == (comb(groups - 1, tests - 1), groups)
    # Every (split, group tested) belongs to one path, and a path goes through every group out of sample.
    used = {(int(split), g) for path in found.paths for g, split in enumerate(path)}
    assert used == {(s, int(g)) for s, choice in enumerate(found.tested) for g in choice}
    assert len(used) == found.paths.size


@pytest.mark.parametrize(("purge", "embargo"), [(0, 0), (3, 0), (0, 4), (2, 3)])
def test_combinations_are_those_of_skfolio(purge: int, embargo: int) -> None:
    rows = 120  # of equal groups; it gives the remainder to the last group where they are not
    oracle = CombinatorialPurgedCV(n_folds=6, n_test_folds=2, purged_size=purge, embargo_size=embargo)
    found = combinatorial_purged(DAYS[:rows], groups=6, test_groups=2, purge=purge, embargo=embargo)
    for split, (learn, trials) in zip(found.splits, oracle.split(np.zeros((rows, 1))), strict=True):
        np.testing.assert_array_equal(split.train, learn)
        np.testing.assert_array_equal(split.test, np.sort(np.concatenate(trials)))
    assert oracle.n_test_paths == len(found.paths)
    ids = oracle.get_path_ids()
    for path, numbers in enumerate(found.paths):
        for g, number in enumerate(numbers):
            assert ids[number][list(found.tested[number]).index(g)] == path


def test_paths_are_put_together_from_the_right_splits() -> None:
    found = combinatorial_purged(DAYS[:47], groups=5, test_groups=2)
    outcomes = [pd.Series(1000.0 * number + split.test, split.test_dates) for number, split in enumerate(found.splits)]
    table = found.assemble(outcomes)
    assert table.shape == (47, 4)
    for path in table:
        for row, value in enumerate(table[path]):
            number, place = divmod(int(value), 1000)
            assert place == row
            assert number == found.paths[path, found.group[row]]
            assert row in found.splits[number].test
    with pytest.raises(InputError, match="each of the 10 splits"):
        found.assemble(outcomes[:-1])
    with pytest.raises(InputError, match="series of split 3 has no value on 1 of its test dates"):
        found.assemble([o.iloc[1:] if n == 3 else o for n, o in enumerate(outcomes)])


def test_the_future_does_not_change_the_splits_of_the_past() -> None:
    long, short = (walk_forward(dates, train="6M", test="1M", purge=1) for dates in (DAYS, DAYS[:400]))
    for a, b in zip(long[: len(short) - 1], short[:-1], strict=True):
        np.testing.assert_array_equal(a.train, b.train)
        np.testing.assert_array_equal(a.test, b.test)
    assert all(a.test[-1] + 1 == b.test[0] for a, b in pairwise(long))


@pytest.mark.parametrize(
    ("dates", "arguments", "words"),
    [
        (DAYS, {"train": 2000, "test": 5}, "too few to learn from 2000 and test on 5"),
        (DAYS, {"train": 0, "test": 5}, "train must be a whole number, at least 1"),
        (DAYS, {"train": "12 moons", "test": 5}, "such as '12M'"),
        (DAYS, {"train": "0M", "test": 5}, "such as '12M'"),
        (DAYS, {"train": 5, "test": "1M", "step": 3}, "both be in rows"),
        (DAYS, {"train": 5, "test": 5, "purge": -1}, "purge must be a whole number"),
        (DAYS, {"train": pd.Timedelta(0), "test": 5}, "longer than nothing"),
        (DAYS, {"train": pd.DateOffset(months=-1), "test": 5}, "into the future"),
        (DAYS[::-1], {"train": 5, "test": 5}, "must be increasing"),
        (pd.RangeIndex(50), {"train": "1M", "test": 5}, "need timestamps"),
        (list(DAYS), {"train": 5, "test": 5}, "must be an index"),
    ],
)
def test_spans_that_make_no_sense_are_refused(dates, arguments, words: str) -> None:
    with pytest.raises(InputError, match=words):
        walk_forward(dates, **arguments)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"groups": 1}, "groups must be a whole number, at least 2"),
        ({"groups": 5, "test_groups": 5}, "below groups"),
        ({"groups": 2000}, "cannot be parted"),
        ({"groups": 30, "test_groups": 15}, "pass fewer groups"),
        ({"embargo": -2}, "embargo must be"),
    ],
)
def test_groups_that_make_no_sense_are_refused(arguments, words: str) -> None:
    with pytest.raises(InputError, match=words):
        combinatorial_purged(DAYS, **arguments)

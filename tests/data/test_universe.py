"""Membership against loops over spells, masks there and back, and spells that cannot be meant."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portfolioopt.data import Universe
from portfolioopt.errors import InputError, UnknownNameError

DAYS = pd.date_range("2024-01-01", periods=12, freq="D")


def spells(*rows: tuple) -> pd.DataFrame:
    table = pd.DataFrame([(*row, np.nan)[:4] for row in rows], columns=["asset", "start", "end", "delisting_return"])
    return table.astype({"start": "datetime64[ns]", "end": "datetime64[ns]", "delisting_return": float})


@st.composite
def tables(draw: st.DrawFn) -> pd.DataFrame:
    """Spells of up to four assets that do not overlap, in any order."""
    rows = []
    for asset in "ABCD":
        cuts = sorted(draw(st.sets(st.integers(0, 11), max_size=6)))
        for k in range(0, len(cuts), 2):
            last = k + 1 == len(cuts)
            end = pd.NaT if last else DAYS[cuts[k + 1]]
            delisting = np.nan if last else draw(st.sampled_from([np.nan, -0.5, 0.1]))
            rows.append((asset, DAYS[cuts[k]], end, delisting))
    order = draw(st.permutations(range(len(rows))))
    return spells(*(rows[k] for k in order))


def inside(table: pd.DataFrame, t: pd.Timestamp) -> set[str]:
    return set(table.loc[(table["start"] <= t) & ~(table["end"] <= t), "asset"])


@settings(max_examples=25)
@given(table=tables())
def test_members_and_mask_are_what_the_spells_say(table: pd.DataFrame) -> None:
    universe = Universe(table)
    mask = universe.mask(DAYS)
    assert mask.shape == (12, table["asset"].nunique())
    for t in DAYS:
        assert set(universe.members(t)) == inside(table, t) == set(mask.columns[mask.loc[t]])
        assert universe.members(t).is_unique
    assert len(universe.spells) == len(table)
    if len(universe.assets):
        one = universe.assets[-1:]
        pd.testing.assert_frame_equal(universe.mask(DAYS[::3], one), mask.loc[DAYS[::3], one], check_freq=False)


@settings(max_examples=25)
@given(table=tables(), row=st.integers(0, 11))
def test_what_comes_later_is_not_known(table: pd.DataFrame, row: int) -> None:
    t = DAYS[row]
    view = Universe(table).as_of(t)
    known = table[table["start"] <= t].copy()
    later = known["end"] > t
    known.loc[later, "end"] = pd.NaT
    known.loc[later, "delisting_return"] = np.nan
    expected = Universe(known)
    pd.testing.assert_frame_equal(view.spells, expected.spells)
    assert view.assets.equals(expected.assets)
    for day in DAYS[: row + 1]:
        assert list(view.members(day)) == list(Universe(table).members(day))


@settings(max_examples=25)
@given(cells=st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=12))
def test_a_mask_comes_back(cells: list[list[bool]]) -> None:
    mask = pd.DataFrame(cells, DAYS[: len(cells)], list("ABC"))
    universe = Universe.from_mask(mask)
    ever = mask.columns[mask.any()]
    assert set(universe.assets) == set(ever)
    back = universe.mask(DAYS[: len(cells)])[list(ever)]
    assert back.equals(mask[list(ever)])


def test_a_day_between_two_rows_of_a_mask_is_as_the_row_before() -> None:
    mask = pd.DataFrame({"A": [True, False]}, index=DAYS[[0, 4]])
    universe = Universe.from_mask(mask)
    assert list(universe.members(DAYS[3])) == ["A"]
    assert list(universe.members(DAYS[4])) == []
    assert list(Universe.from_mask(mask[::1].iloc[:1]).members("2030-01-01")) == ["A"]


def test_time_zones_stay_on() -> None:
    table = spells(("A", DAYS[1], DAYS[3]))
    for column in ("start", "end"):
        table[column] = table[column].dt.tz_localize("Europe/Berlin")
    universe = Universe(table)
    assert universe.spells["start"].tolist() == table["start"].tolist()
    assert list(universe.members(pd.Timestamp("2024-01-01 23:30", tz="UTC"))) == ["A"]
    assert universe.mask(DAYS.tz_localize("Europe/Berlin"))["A"].sum() == 2
    with pytest.raises(InputError, match="without a time zone, the data in Europe/Berlin"):
        universe.members("2024-01-02")
    with pytest.raises(InputError, match="time zone none, but the universe in Europe/Berlin"):
        universe.mask(DAYS)


@pytest.mark.parametrize(
    ("table", "text"),
    [
        (spells(("A", DAYS[3], DAYS[3])), "end before or when they begin: A from 2024-01-04 to 2024-01-04"),
        (spells(("A", DAYS[3], DAYS[1])), "end before"),
        (spells(("A", DAYS[0], DAYS[3]), ("A", DAYS[2], DAYS[5])), "overlap .* A from 2024-01-03 to 2024-01-06"),
        (spells(("A", DAYS[4], DAYS[5]), ("A", DAYS[0], pd.NaT)), "overlap .* A from 2024-01-05"),
        (spells(("A", DAYS[0], pd.NaT, -0.5)), "delisting return but no end for A"),
        (spells(("A", DAYS[0], DAYS[1], -1.5)), "at least -1"),
        (spells(("A", pd.NaT, DAYS[1])), "1 rows without start|must hold timestamps"),
        (spells((None, DAYS[0], DAYS[1])), "1 rows without asset"),
        (spells(("A", DAYS[0], DAYS[1])).drop(columns="end"), "lacks the columns end"),
        (spells(("A", DAYS[0], DAYS[1])).assign(start="2024"), "pd.to_datetime"),
        (pd.DataFrame({"A": [True]}, index=DAYS[:1]), "unknown column of spells: 'A'"),
        ([("A", DAYS[0])], "not list"),
    ],
)
def test_spells_that_cannot_be_meant_are_refused(table, text: str) -> None:
    with pytest.raises(InputError, match=text):
        Universe(table)


def test_masks_and_questions_that_cannot_be_meant_are_refused() -> None:
    with pytest.raises(InputError, match="must hold True or False, but A"):
        Universe.from_mask(pd.DataFrame({"A": [1, 0]}, index=DAYS[:2]))
    with pytest.raises(InputError, match="repeated dates"):
        Universe.from_mask(pd.DataFrame({"A": [True, False]}, index=DAYS[[0, 0]]))
    universe = Universe(spells(("A", DAYS[0], DAYS[1])))
    with pytest.raises(UnknownNameError, match="'B'"):
        universe.mask(DAYS, pd.Index(["A", "B"]))
    assert "1 assets, 1 spells" in repr(universe)

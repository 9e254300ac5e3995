"""Trading days against known holidays, and ends of periods against pandas."""

from __future__ import annotations

import builtins

import numpy as np
import pandas as pd
import pytest

from portfolioopt.data import align_to_sessions, missing_sessions, month_ends, period_ends, sample_prices, sessions
from portfolioopt.errors import InputError, UnknownNameError


def test_new_york_in_2024() -> None:
    days = sessions("XNYS", "2024-01-01", "2024-12-31")
    assert len(days) == 252
    for holiday in ("2024-01-01", "2024-03-29", "2024-07-04", "2024-11-28", "2024-12-25"):
        assert pd.Timestamp(holiday) not in days
    assert pd.Timestamp("2024-07-03") in days
    assert days.tz is None
    assert days.freq is None
    assert len(sessions("XNYS", "2024-07-04", "2024-07-04")) == 0


def test_the_week_of_september_2001() -> None:
    days = sessions("XNYS", "2001-09-10", "2001-09-17")
    assert days.strftime("%d").tolist() == ["10", "17"]


def test_the_sample_was_traded_in_new_york() -> None:
    prices = sample_prices()
    assert missing_sessions(prices, "XNYS").empty
    assert align_to_sessions(prices, "XNYS").equals(prices)


def test_missing_days_are_named_and_made_rows() -> None:
    prices = sample_prices().loc["2001-08":"2001-10", ["KO", "GE"]]
    holes = prices.drop(prices.index[[3, 20]])
    holes.iloc[30] = np.nan
    assert missing_sessions(holes, "XNYS").tolist() == [prices.index[3], prices.index[20], holes.index[30]]
    whole = align_to_sessions(holes, "XNYS")
    assert whole.index.equals(prices.index)
    assert whole.isna().all(axis=1).sum() == 3
    assert whole.dropna().equals(holes.dropna())


def test_rows_on_closed_days_are_refused_or_left_out() -> None:
    prices = sample_prices().loc["2022-06", ["KO"]]
    every_day = prices.reindex(pd.date_range("2022-06-01", "2022-06-30")).ffill()
    with pytest.raises(InputError, match=r"9 days on which XNYS did not trade: 2022-06-04, .*and 4 more"):
        align_to_sessions(every_day, "XNYS")
    dropped = align_to_sessions(every_day, "XNYS", others="drop")
    pd.testing.assert_frame_equal(dropped, prices, check_freq=False, check_names=False)


def test_what_is_no_calendar_is_refused() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown exchange: 'XNYX' \(did you mean"):
        sessions("XNYX", "2024-01-01", "2024-02-01")
    with pytest.raises(InputError, match="before start"):
        sessions("XNYS", "2024-02-01", "2024-01-01")
    with pytest.raises(InputError, match="without time and time zone"):
        missing_sessions(sample_prices().tail(5).tz_localize("UTC"), "XNYS")
    with pytest.raises(InputError, match="others must be"):
        align_to_sessions(sample_prices(), "XNYS", others="keep")  # pyright: ignore[reportArgumentType]


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *arguments, **named):
        if name.startswith("exchange_calendars"):
            raise ImportError(name)
        return real(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(InputError, match=r'pip install "portfolioopt\[calendars\]"'):
        sessions("XNYS", "2024-01-01", "2024-02-01")


@pytest.mark.parametrize(("period", "code"), [("week", "W"), ("month", "M"), ("quarter", "Q"), ("year", "Y")])
def test_ends_of_periods_are_those_of_groupby(period, code: str) -> None:
    days = sample_prices().index[:3000]
    last = days.to_series().groupby(days.to_period(code)).max()
    found = period_ends(days, period)
    # The last day is a Monday, 2001-11-19, in the middle of everything.
    assert found.tolist() == last.iloc[:-1].tolist()


def test_a_week_that_ends_on_a_friday_is_over() -> None:
    days = sample_prices().index[:2999]
    assert days[-1] == pd.Timestamp("2001-11-16")
    assert period_ends(days, "week")[-1] == days[-1]
    assert period_ends(days[:-1], "week")[-1] == pd.Timestamp("2001-11-09")


def test_history_cut_off_in_a_month_makes_up_no_end() -> None:
    days = sample_prices().index
    whole = month_ends(days)
    for rows in (500, 501, 777, 1000):
        part = month_ends(days[:rows])
        assert part.equals(whole[whole <= days[rows - 1]])
    friday = pd.DatetimeIndex(["2024-05-30", "2024-05-31"])
    assert month_ends(friday).tolist() == [friday[1]]
    assert len(month_ends(friday[:1])) == 0
    assert len(month_ends(friday[:0])) == 0


def test_period_ends_take_zones_and_refuse_the_rest() -> None:
    days = pd.date_range("2024-01-01", periods=60, freq="D", tz="Asia/Tokyo")
    assert month_ends(days).tolist() == [days[30], days[59]][: len(month_ends(days))]
    assert month_ends(days)[0] == pd.Timestamp("2024-01-31", tz="Asia/Tokyo")
    with pytest.raises(UnknownNameError, match="period"):
        period_ends(days, "fortnight")  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="increasing order"):
        month_ends(days[::-1])
    with pytest.raises(InputError, match="timestamps"):
        month_ends(pd.RangeIndex(3))  # pyright: ignore[reportArgumentType]

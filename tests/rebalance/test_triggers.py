"""Triggers and rules: calendars against a walk over all days, cooldowns over holidays, and reasons in words."""

from __future__ import annotations

from datetime import date, timedelta

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from portfolioopt.data import sessions
from portfolioopt.errors import InputError, UnknownNameError
from portfolioopt.rebalance import (
    CalendarTrigger,
    CashTrigger,
    Cooldown,
    Decision,
    DriftBand,
    DriftTrigger,
    RebalanceRule,
    SignalTrigger,
    Situation,
    UniverseChange,
)

TARGETS = pd.Series({"A": 0.25, "B": 0.75})
DRIFTED = pd.Series({"A": 0.30, "B": 0.70})
ON, OFF = SignalTrigger("on"), SignalTrigger("off")


def on(day: str, last: str | None = None, weights: pd.Series = TARGETS, **more: object) -> Situation:
    stamp = None if last is None else pd.Timestamp(last)
    return Situation(
        pd.Timestamp(day), weights, TARGETS, last_rebalance=stamp, signals={"on": True, "off": False}, **more
    )


# -- calendars -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trigger", "asked", "due"),
    [
        # A month that ends on Good Friday, and one that ends on a weekend.
        (CalendarTrigger("monthly", calendar="XNYS"), "2024-03-31", "2024-03-28"),
        (CalendarTrigger("monthly"), "2024-03-31", "2024-03-29"),
        (CalendarTrigger("monthly", calendar="XNYS"), "2024-03-27", "2024-02-29"),
        # The day of the month, a day that does not exist, and a date that falls into the year before.
        (CalendarTrigger("monthly", 31), "2023-05-01", "2023-04-28"),
        (CalendarTrigger("monthly", 15), "2023-04-20", "2023-04-14"),
        (CalendarTrigger("quarterly", 1, months=(1, 3, 6, 12)), "2023-01-20", "2022-12-30"),
        (CalendarTrigger("yearly", 29, months=(2,)), "2023-06-01", "2023-02-28"),
        (CalendarTrigger("yearly", 29, months=(2,)), "2024-06-01", "2024-02-29"),
        (CalendarTrigger("quarterly"), "2024-05-05", "2024-03-29"),
        (CalendarTrigger("quarterly", "first", "XNYS"), "2024-01-10", "2024-01-02"),
        (CalendarTrigger("yearly", "first", "XNYS"), "2023-12-31", "2023-01-03"),
        # Thanksgiving: the week has its Friday; Christmas 2023 was a Monday.
        (CalendarTrigger("weekly", 4, "XNYS"), "2023-11-24", "2023-11-22"),
        (CalendarTrigger("weekly", "first", "XNYS"), "2023-12-27", "2023-12-26"),
        (CalendarTrigger("daily", calendar="XNYS"), "2023-12-25", "2023-12-22"),
    ],
)
def test_dates_by_hand(trigger, asked, due) -> None:
    assert trigger.last_due(pd.Timestamp(asked)) == pd.Timestamp(due)


FREQUENCIES = ["daily", "weekly", "monthly", "quarterly", "yearly"]


def walked(frequency: str, day: date, trading: set[date]) -> bool:
    """Whether the last session of a period is this day: no later session before the period changes."""
    if day not in trading:
        return False
    period = {
        "daily": lambda d: d,
        "weekly": lambda d: d - timedelta(d.weekday()),
        "monthly": lambda d: (d.year, d.month),
        "quarterly": lambda d: (d.year, (d.month - 1) // 3),
        "yearly": lambda d: d.year,
    }[frequency]
    other = day + timedelta(1)
    while period(other) == period(day):
        if other in trading:
            return False
        other += timedelta(1)
    return True


@pytest.mark.parametrize("frequency", FREQUENCIES)
@pytest.mark.parametrize("exchange", ["XNYS", "XTKS"])
def test_period_ends_by_walking_over_the_days(frequency, exchange) -> None:
    open_days = sessions(exchange, "2018-11-01", "2020-02-28")
    trading = set(open_days.date)
    trigger = CalendarTrigger(frequency, calendar=exchange)
    given_days = CalendarTrigger(frequency, calendar=open_days)
    for stamp in pd.date_range("2019-04-15", "2019-05-15").append(pd.date_range("2019-12-15", "2020-01-10")):
        fires = trigger.judge(on(stamp)).rebalance
        assert fires == walked(frequency, stamp.date(), trading), stamp
        assert fires == given_days.judge(on(stamp)).rebalance


def test_a_date_that_was_missed_is_made_up_for() -> None:
    trigger, strict = CalendarTrigger("monthly", calendar="XNYS"), CalendarTrigger(calendar="XNYS", late=False)
    assert trigger.judge(on("2024-04-02", "2024-03-20")).reasons == (
        "calendar: the monthly rebalancing day 2024-03-28 has passed without a rebalance",
    )
    assert not strict.judge(on("2024-04-02", "2024-03-20"))
    assert strict.judge(on("2024-03-28", "2024-03-20"))
    # Once it was made up for, or done on the day, the month is over.
    assert not trigger.judge(on("2024-04-03", "2024-04-02"))
    assert not trigger.judge(on("2024-03-28", "2024-03-28"))
    assert not trigger.judge(on("2024-04-02"))


# -- cooldown ------------------------------------------------------------------------------------------------


def test_the_cooldown_in_days() -> None:
    rule = RebalanceRule(ON)
    assert not rule.decide(on("2024-01-07", "2024-01-01"))
    assert rule.decide(on("2024-01-08", "2024-01-01"))
    assert RebalanceRule(ON, Cooldown(0)).decide(on("2024-01-01", "2024-01-01"))


@pytest.mark.parametrize(
    ("unit", "calendar", "length", "blocked", "free"),
    [
        # From Wednesday 2023-12-20: Christmas and the first of January are no sessions.
        ("days", None, 7, "2023-12-26", "2023-12-27"),
        ("sessions", "XNYS", 7, "2024-01-01", "2024-01-02"),
        ("sessions", None, 7, "2023-12-28", "2023-12-29"),
        ("sessions", sessions("XNYS", "2023-12-01", "2023-12-22"), 3, "2023-12-24", "2023-12-25"),
        ("days", None, 14, "2024-01-02", "2024-01-03"),
    ],
)
def test_the_cooldown_over_holidays(unit, calendar, length, blocked, free) -> None:
    rule = RebalanceRule(ON, Cooldown(length, unit, calendar))
    assert not rule.decide(on(blocked, "2023-12-20"))
    assert rule.decide(on(free, "2023-12-20"))


@given(st.integers(0, 30), st.integers(0, 20))
def test_sessions_are_counted_one_by_one(after: int, length: int) -> None:
    last = pd.Timestamp("2023-12-15")
    day = last + pd.Timedelta(days=after)
    holidays = {date(2023, 12, 25), date(2024, 1, 1), date(2024, 1, 15)}
    days = [last.date() + timedelta(k + 1) for k in range(after)]
    passed = sum(d.weekday() < 5 and d not in holidays for d in days)
    decision = RebalanceRule(ON, Cooldown(length, "sessions", "XNYS")).decide(on(day, last))
    assert decision.rebalance == (passed >= length)


def test_the_cooldown_says_what_waits() -> None:
    decision = RebalanceRule(DriftTrigger()).decide(on("2024-07-03", "2024-06-28", DRIFTED))
    assert decision.reasons[0] == "cooldown: 5 of 7 days have passed since the rebalance of 2024-06-28"
    assert decision.reasons[1] == (
        "drift: A at 30.00% of NAV is 5.00 points above its target of 25.00%, band 5.00 points"
    )
    assert decision.breaches.index.tolist() == ["A", "B"]
    assert not decision


def test_what_may_break_the_cooldown() -> None:
    rule = RebalanceRule(OFF, despite_cooldown=UniverseChange())
    previous = pd.Series({"B": 0.5, "C": 0.5, "A": 0.0})
    decision = rule.decide(on("2024-01-03", "2024-01-01", previous_targets=previous))
    assert decision
    assert decision.reasons[:2] == ("universe: 'A' entered", "universe: 'C' left")
    assert not rule.decide(on("2024-01-03", "2024-01-01", previous_targets=TARGETS))
    assert rule.decide(on("2024-03-03", "2024-01-01", previous_targets=previous))


# -- the first day -------------------------------------------------------------------------------------------


def test_the_first_day() -> None:
    assert RebalanceRule(OFF).decide(on("2024-01-01")).reasons == (
        "first day: there has been no rebalance up to 2024-01-01",
    )
    assert not RebalanceRule(OFF, first_day="judge").decide(on("2024-01-01"))
    assert RebalanceRule(ON, first_day="judge").decide(on("2024-01-01"))
    assert not UniverseChange().judge(on("2024-01-01"))


# -- the other triggers --------------------------------------------------------------------------------------


def test_drift_in_words_where_nothing_is_out() -> None:
    decision = DriftTrigger().judge(on("2024-01-01", weights=pd.Series({"A": 0.27, "B": 0.72})))
    assert decision.reasons == (
        "drift: B at 72.00% of NAV is 3.00 points below its target of 75.00%, band 5.00 points; nothing is out of its "
        "band",
    )
    assert decision.breaches.empty
    relative = DriftTrigger(DriftBand(0.05, "relative"))
    assert relative.judge(on("2024-01-01", weights=pd.Series({"A": 0.2625, "B": 0.7375}))).reasons == (
        "drift: A at 26.25% of NAV is 1.25 points above its target of 25.00%, relative band 1.25 points",
    )


@pytest.mark.parametrize(
    ("weight", "fires"), [(0.75, False), (0.74, True), (0.741, False), (0.76, True), (0.755, False)]
)
def test_cash_in_money(weight, fires) -> None:
    situation = on("2024-01-01", weights=pd.Series({"A": 0.25, "B": weight}), nav=1000.0)
    assert CashTrigger(surplus=10.0, shortfall=10.0).judge(situation).rebalance is fires
    assert CashTrigger().judge(situation).rebalance is (weight == 0.74)


@given(st.lists(st.booleans(), min_size=3, max_size=3))
def test_and_and_or_are_those_of_logic(values: list[bool]) -> None:
    a, b, c = (SignalTrigger(name) for name in "abc")
    x, y, z = values
    situation = Situation(pd.Timestamp("2024-01-01"), TARGETS, TARGETS, signals=dict(zip("abc", values, strict=True)))
    assert (a & b | c).judge(situation).rebalance == ((x and y) or z)
    assert (a & (b | c)).judge(situation).rebalance == (x and (y or z))
    said = (a | b | c).judge(situation)
    words = {True: "on", False: "off"}
    expected = [f"signal: {n} is {words[v]}" for n, v in zip("abc", values, strict=True) if v == any(values)]
    assert said.reasons == tuple(expected)


def test_breaches_survive_combination() -> None:
    assert len((OFF | DriftTrigger()).judge(on("2024-01-01", weights=DRIFTED)).breaches) == 2
    held_back = (OFF & DriftTrigger()).judge(on("2024-01-01", weights=DRIFTED))
    assert held_back.reasons == ("signal: off is off",)


# -- refusals ------------------------------------------------------------------------------------------------


def test_refusals() -> None:
    with pytest.raises(InputError, match="after the date"):
        on("2024-01-01", "2024-01-02")
    with pytest.raises(UnknownNameError, match="'on'"):
        SignalTrigger("onn").judge(on("2024-01-01"))
    with pytest.raises(InputError, match="true or false"):
        SignalTrigger("x").judge(Situation(pd.Timestamp("2024-01-01"), TARGETS, TARGETS, signals={"x": 0.3}))
    with pytest.raises(UnknownNameError, match="monthly"):
        CalendarTrigger("month")
    with pytest.raises(UnknownNameError, match="exchange"):
        CalendarTrigger(calendar="XNYZ").judge(on("2024-01-01"))
    for wrong in (
        lambda: CalendarTrigger("weekly", 8),
        lambda: CalendarTrigger("monthly", True),
        lambda: CalendarTrigger("monthly", months=(1,)),
        lambda: CalendarTrigger("quarterly", months=(0,)),
        lambda: Cooldown(-1),
        lambda: Cooldown(1.5),
        lambda: Cooldown(7, "weeks"),
        lambda: CashTrigger(None, None),
        lambda: CashTrigger(-1.0),
        lambda: RebalanceRule(ON, first_day="skip"),
    ):
        with pytest.raises(InputError):
            wrong()
    with pytest.raises(TypeError):
        assert ON & Decision(True, ())

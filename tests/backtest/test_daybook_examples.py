"""The day-by-day book against examples worked out with a pencil: what is behind each number stands beside it."""

from __future__ import annotations

from datetime import date

import pytest

from tests.backtest.daybook import Fees, Standing, simulate

MONDAY, TUESDAY, WEDNESDAY, THURSDAY, FRIDAY = (date(2024, 1, day) for day in range(8, 13))
NEXT_MONDAY = date(2024, 1, 15)
WEEK = [MONDAY, TUESDAY, WEDNESDAY, THURSDAY, FRIDAY]


def test_what_is_decided_is_bought_at_the_close_of_the_next_session():
    book = simulate(WEEK[:3], {"A": [10.0, 11.0, 12.1]}, {0: {"A": 1.0}}, capital=1100.0)
    assert book.nav == pytest.approx([1100.0, 1100.0, 1210.0])  # 100 units at 11
    assert book.cash == pytest.approx([1100.0, 0.0, 0.0])
    assert [fill.session for fill in book.fills] == [1]
    assert book.returns == pytest.approx([0.0, 0.0, 0.1])
    assert book.turnover == pytest.approx([0.0, 1.0, 0.0])


def test_without_lag_the_first_session_trades():
    book = simulate(WEEK[:2], {"A": [10.0, 11.0]}, {0: {"A": 1.0}}, lag=0, capital=1010.0, fees=Fees(bps=100.0))
    assert book.units[0]["A"] == pytest.approx(100.0)  # 1000 for the units and 1 % of that for the broker
    assert book.nav == pytest.approx([1000.0, 1100.0])


def test_fees_are_paid_out_of_the_amounts_that_are_bought():
    prices = {"A": [50.0] * 3, "B": [20.0] * 3}
    half = {0: {"A": 0.5, "B": 0.5}}
    book = simulate(WEEK[:3], prices, half, capital=1010.0, fees=Fees(fixed=5.0))
    assert book.units[1] == pytest.approx({"A": 10.0, "B": 25.0})  # 1010 less two fees of 5, halved: 500 each
    assert book.cash[1] == pytest.approx(0.0, abs=1e-9)
    assert book.commission[1] == pytest.approx(10.0)
    book = simulate(WEEK[:3], prices, half, capital=1020.0, fees=Fees(bps=10.0, minimum=8.0, fixed=2.0))
    assert book.nav[1] == pytest.approx(1000.0)  # 10 bp of 500 is 0.50, below the least charge of 8
    book = simulate(WEEK[:3], prices, half, capital=1000.0 + 2 * 5.0, fees=Fees(per_share=0.25, bps=0.0))
    # a = 505 - F/2 each; F = a/50/4 + a/20/4 = 0.0175 a; so a = 505 / 1.00875
    assert book.nav[1] == pytest.approx(2 * 505 / 1.00875)


def test_selling_may_cost_something_else_than_buying():
    rates = Fees(bps={"A": 0.0, "B": 100.0}, sell_bps={"A": 200.0, "B": 0.0})
    prices = {"A": [10.0] * 4, "B": [10.0] * 4}
    book = simulate(WEEK[:4], prices, {0: {"A": 1.0}, 2: {"B": 1.0}}, capital=1010.0, fees=rates)
    assert book.nav[1] == pytest.approx(1010.0)
    # A is sold for 1010 less 20.20; that pays for B and 1 % of B
    assert book.nav[3] == pytest.approx((1010.0 - 20.2) / 1.01)
    assert book.units[3]["A"] == pytest.approx(0.0)


def test_a_rebalance_trades_the_differences():
    prices = {"A": [10.0, 10.0, 12.0], "B": [10.0, 10.0, 8.0]}
    even = {"A": 0.5, "B": 0.5}
    book = simulate(WEEK[:3], prices, {0: even, 1: even}, capital=1000.0, fees=Fees(bps=0.0))
    # 600 of A and 400 of B become 500 each: 100/12 units sold, 100/8 bought
    assert [(fill.asset, fill.units) for fill in book.fills[2:]] == [
        ("A", pytest.approx(-100 / 12)),
        ("B", pytest.approx(100 / 8)),
    ]
    assert book.turnover[2] == pytest.approx(0.2)


def test_interest_counts_the_days_of_the_weekend():
    days = [THURSDAY, FRIDAY, NEXT_MONDAY]
    book = simulate(days, {"A": [1.0] * 3}, {}, capital=365_000.0, cash_rate=0.10)
    assert book.interest[2] == pytest.approx(365_100.0 * 0.10 * 3 / 365)  # 300.082: interest on interest
    stepped = {date(2023, 12, 31): 0.10, FRIDAY: 0.20}
    book = simulate(days, {"A": [1.0] * 3}, {}, capital=365_000.0, cash_rate=stepped)
    assert book.interest == pytest.approx([0.0, 100.0, 365_100.0 * 0.20 * 3 / 365])  # Friday's rate from Friday on


def test_borrowed_cash_pays_interest():
    book = simulate(WEEK[:3], {"A": [10.0] * 3}, {0: {"A": 1.5}}, capital=1000.0, cash_rate=0.0365, credit=True)
    assert book.cash[1] == pytest.approx(1000.1 - 1.5 * 1000.1)  # one day's interest of 0.10 came before the trade
    assert book.interest[2] == pytest.approx(-500.05 * 0.0001)


def test_a_dividend_is_paid_for_the_units_after_the_split():
    book = simulate(
        WEEK[:4],
        {"A": [10.0, 10.0, 5.0, 4.5]},
        {0: {"A": 1.0}},
        capital=1000.0,
        splits={"A": [None, None, 2.0, None]},
        dividends={"A": [None, None, 0.10, 0.50]},
    )
    assert book.units[2]["A"] == pytest.approx(200.0)
    assert book.dividends == pytest.approx([0.0, 0.0, 20.0, 100.0])
    assert book.nav == pytest.approx([1000.0, 1000.0, 1020.0, 1020.0])


def test_a_split_without_a_price_does_not_make_money():
    book = simulate(
        WEEK[:4],
        {"A": [10.0, 10.0, None, 6.0]},
        {0: {"A": 1.0}},
        capital=1000.0,
        splits={"A": [None, None, 2.0, None]},
    )
    assert book.nav == pytest.approx([1000.0, 1000.0, 1000.0, 1200.0])


def test_short_positions_pay_fees_and_dividends():
    days = [WEDNESDAY, THURSDAY, FRIDAY, NEXT_MONDAY]
    book = simulate(
        days,
        {"A": [20.0, 20.0, 25.0, 20.0]},
        {0: {"A": -0.5}},
        capital=1000.0,
        fees=Fees(borrow_bps=360.0),
        dividends={"A": [None, None, None, 1.0]},
    )
    assert book.units[1]["A"] == pytest.approx(-25.0)
    assert book.cash[1] == pytest.approx(1500.0)
    # a basis point a day: of 500 for Friday, of 625 for each day of the weekend and Monday
    assert book.borrow == pytest.approx([0.0, 0.0, 0.05, 3 * 0.0625])
    assert book.dividends[3] == pytest.approx(-25.0)
    assert book.nav[3] == pytest.approx(1500.0 - 0.05 - 0.1875 - 25.0 - 25 * 20.0)


def test_a_delisted_asset_becomes_cash():
    book = simulate(
        WEEK[:4],
        {"A": [10.0, 10.0, None, None], "B": [10.0, 10.0, 10.0, 10.0]},
        {0: {"A": 0.6, "B": 0.4}, 2: {"A": 0.6, "B": 0.4}},
        capital=1000.0,
        delistings={"A": (2, -0.3)},
    )
    assert book.cash == pytest.approx([1000.0, 0.0, 420.0, 1000.0 - 180.0 - 0.4 * 820.0])
    assert book.nav == pytest.approx([1000.0, 1000.0, 820.0, 820.0])
    assert book.units[2]["A"] == 0.0
    assert [fill.asset for fill in book.fills] == ["A", "B", "B"]  # what A was to receive stays cash


def test_without_a_price_the_last_one_counts_and_nothing_trades():
    prices = {"A": [10.0, 10.0, None, 14.0], "B": [10.0, 10.0, 10.0, 10.0]}
    targets = {0: {"A": 0.5, "B": 0.5}, 1: {"B": 0.8}}
    book = simulate(WEEK[:4], prices, targets, capital=1000.0, credit=True)
    assert book.units[2] == pytest.approx({"A": 50.0, "B": 80.0})
    assert book.cash[2] == pytest.approx(-300.0)  # A could not be sold, B was bought as planned
    assert book.nav == pytest.approx([1000.0, 1000.0, 1000.0, 1200.0])
    assert simulate(WEEK[:4], prices, targets, capital=1000.0).units[2] == pytest.approx({"A": 50.0, "B": 50.0})


def test_without_credit_buys_are_cut_in_proportion() -> None:
    prices = {"A": [10.0, 10.0, None], "B": [10.0] * 3, "C": [5.0] * 3, "D": [8.0] * 3}
    targets = {0: {"A": 0.5, "D": 0.25}, 1: {"B": 0.6, "C": 0.4}}
    book = simulate(WEEK[:3], prices, targets, capital=1010.0, fees=Fees(fixed=5.0))
    # 1000 left: 500 of A, which cannot be sold, 250 of D, 250 of cash. D brings 245, the fees of two buys are 10:
    assert book.units[2] == pytest.approx({"A": 50.0, "B": 0.6 * 48.5, "C": 0.4 * 97.0, "D": 0.0})
    assert book.cash[2] == pytest.approx(0.0, abs=1e-6)


def test_money_from_outside_is_no_return():
    book = simulate(
        WEEK[:4], {"A": [10.0, 10.0, 11.0, 11.0]}, {0: {"A": 1.0}}, capital=1000.0, flows={2: 500.0, 3: -300.0}
    )
    assert book.nav == pytest.approx([1000.0, 1000.0, 1600.0, 1300.0])
    assert book.returns == pytest.approx([0.0, 0.0, 0.1, 0.0])
    book = simulate(WEEK[:3], {"A": [10.0] * 3}, {1: {"A": 1.0}}, capital=1000.0, flows={2: 500.0})
    assert book.units[2]["A"] == pytest.approx(150.0)  # it is there when the trade of that close is made


def test_each_decision_waits_for_its_own_trade():
    targets = {t: {"A": weight} for t, weight in enumerate([1.0, 0.5, 0.0, 0.25, 0.75])}
    book = simulate(WEEK, {"A": [10.0] * 5}, targets, lag=3, capital=1000.0)
    assert [units["A"] for units in book.units] == pytest.approx([0.0, 0.0, 0.0, 100.0, 50.0])


def test_a_decision_sees_the_weights_after_the_trade_of_its_day():
    seen: list[Standing] = []

    def decide(standing: Standing) -> dict[str, float]:
        seen.append(standing)
        return {"A": 0.5 + 0.5 * standing.weights["A"]}

    book = simulate(WEEK[:3], {"A": [10.0, 10.0, 20.0]}, decide, capital=1000.0)
    # half at first, then half and a quarter: on the last day 1125 of the 1500 that 50 units at 20 and 500 are worth
    assert [standing.weights["A"] for standing in seen] == pytest.approx([0.0, 0.5, 0.75])
    assert [standing.nav for standing in seen] == book.nav
    assert book.units[2]["A"] == pytest.approx(56.25)


def test_a_full_position_pays_no_fee_for_being_left_alone():
    book = simulate(
        WEEK[:4], {"A": [10.0] * 4}, {t: {"A": 1.0} for t in range(4)}, capital=1005.0, fees=Fees(fixed=5.0)
    )
    assert len(book.fills) == 1
    assert book.nav == pytest.approx([1005.0, 1000.0, 1000.0, 1000.0])


def test_what_may_not_be_traded_is_left():
    prices = {"A": [10.0, 10.0, 10.0], "B": [5.0, 5.0, 5.0]}
    closed = {"A": [True, False, True], "B": [True, True, True]}
    even = {0: {"A": 0.5, "B": 0.5}, 1: {"A": 0.5, "B": 0.5}}
    book = simulate(WEEK[:3], prices, even, capital=1000.0, tradable=closed)
    assert [units["A"] for units in book.units] == pytest.approx([0.0, 0.0, 50.0])
    assert [units["B"] for units in book.units] == pytest.approx([0.0, 100.0, 100.0])

"""The backtest against the day book, session by session, on random markets with all that can happen to an account."""

from __future__ import annotations

from datetime import date
from random import Random

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portfolioopt.backtest import Backtest, EqualWeight, backtest
from portfolioopt.costs import BorrowCosts, ProportionalCosts
from portfolioopt.data import MarketData, Universe
from portfolioopt.errors import InputError
from portfolioopt.rebalance import Cooldown, DriftBand, DriftTrigger, OrderRules, RebalanceRule
from tests.backtest.daybook import Book, Fees, Standing, simulate
from tests.backtest.daybook_cases import Case, draw
from tests.data.lookahead import futures

EXACT = 1e-9
"""Differences allowed, as fractions of NAV: those of rounding."""


def run(case: Case, **changed: object) -> Backtest:
    """The backtest of a case, with a function of the moment for a strategy."""

    def strategy(moment):
        wanted = case.targets[case.sessions.get_loc(moment.date)]
        held = moment.holdings.to_dict() if case.inertia else {}
        return pd.Series(case.blended(wanted, held) if case.inertia else wanted, dtype=float)

    fields = {"traded": "close", "dividends": "dividend", "splits": "split"} if case.adjusted else {}
    settings = {
        "start": case.sessions[0],
        "every": [case.sessions[t] for t in case.targets],
        "lag": case.lag,
        "costs": case.costs(),
        "capital": case.capital,
        "cash_rate": case.rate(),
        "flows": case.money(),
        "max_stale": 100,
        "credit": case.credit,
    }
    return backtest(strategy, case.market(), **settings, **fields, **changed)


def compare(found: Backtest, book: Book, case: Case) -> None:
    """Every session of every series to rounding, and every trade."""
    nav = np.array(book.nav)
    assert list(found.nav.index) == list(case.sessions)

    def same(series: pd.Series | np.ndarray, by_hand: list[float], what: str, scale: np.ndarray | float = nav) -> None:
        difference = np.abs(np.asarray(series, dtype=float) - np.array(by_hand)) / scale
        wrong = np.flatnonzero(~(difference <= EXACT))
        assert not len(wrong), (
            f"{what} on session {wrong[0]} ({case.dates[wrong[0]]}): {np.asarray(series)[wrong[0]]!r}, by hand "
            f"{by_hand[wrong[0]]!r}"
        )

    same(found.nav, book.nav, "nav")
    same(found.cash, book.cash, "cash")
    same(found.returns, book.returns, "return", 1.0)
    same(found.turnover, book.turnover, "turnover", 1.0)
    same(_column(found.costs, "commission", nav), book.commission, "commission")
    same(_column(found.costs, "borrow", nav), book.borrow, "borrow fees")
    same(found.costs.sum(axis=1), [a + b for a, b in zip(book.commission, book.borrow, strict=True)], "costs")
    same(found.income["dividends"], book.dividends, "dividends")
    same(found.income["interest"], book.interest, "interest")
    same(found.flows, [case.flows.get(t, 0.0) for t in range(len(nav))], "flows")
    for asset in case.closes:
        units = np.array([row[asset] for row in book.units])
        worth = np.array([row[asset] or 0.0 for row in book.prices])
        positions = found.positions[asset] if asset in found.positions else np.zeros(len(nav))
        same(positions, list(units), f"units of {asset}", nav / np.maximum(worth, 1e-300))
        weights = found.weights[asset] if asset in found.weights else np.zeros(len(nav))
        same(weights, list(units * worth / nav), f"weight of {asset}", 1.0)
    by_hand = sorted(
        (case.sessions[f.session], f.asset, f.units, f.price, f.value, f.cost) for f in book.fills + book.ends
    )
    trades = found.trades.sort_values(["date", "asset"])
    assert (trades["reason"] == "delisted").sum() == len(book.ends)
    assert list(zip(trades["date"], trades["asset"], strict=True)) == [row[:2] for row in by_hand]
    amounts = np.array([row[2:] for row in by_hand]).reshape(-1, 4)
    figures = trades[["units", "price", "value", "cost"]].to_numpy(dtype=float)
    np.testing.assert_allclose(figures, amounts, rtol=1e-7, atol=1e-6)


def _column(frame: pd.DataFrame, name: str, like: np.ndarray) -> np.ndarray:
    return frame[name].to_numpy() if name in frame else np.zeros(len(like))


def check(case: Case) -> None:
    """A case whose account does not go bust."""
    book = case.by_hand()
    if min(book.nav) > 0.2 * case.capital:
        compare(run(case), book, case)


# -- random markets ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("batch", range(6))
def test_random_accounts(batch: int) -> None:
    for seed in range(10 * batch, 10 * batch + 10):
        check(draw(Random(seed)))


@given(st.randoms(note_method_calls=False, use_true_random=False))
@settings(max_examples=15)
def test_short_accounts_that_shrink_to_the_one_that_fails(rng: Random) -> None:
    check(draw(rng, longest=8))


@pytest.mark.slow
@pytest.mark.parametrize("batch", range(20))
def test_thousands_of_random_accounts(batch: int) -> None:
    for seed in range(1000 + 150 * batch, 1000 + 150 * batch + 150):
        check(draw(Random(seed)))


@pytest.mark.slow
@given(st.randoms(note_method_calls=False, use_true_random=False))
@settings(max_examples=1000)
def test_thousands_of_short_accounts(rng: Random) -> None:
    check(draw(rng, longest=12))


def test_the_cases_have_everything() -> None:
    """The comparison is worth what happens in its cases."""
    cases = [draw(Random(seed)) for seed in range(60)]
    books = [case.by_hand() for case in cases]
    assert {case.lag for case in cases} == {0, 1, 3}
    assert {len(case.closes) for case in cases} == set(range(1, 7))
    assert sum(min(book.nav) > 0.2 * case.capital for case, book in zip(cases, books, strict=True)) >= 55
    for happened, least in {
        "split": sum(bool(case.splits) for case in cases),
        "dividend": sum(any(book.dividends) for book in books),
        "delisting": sum(bool(case.delistings) for case in cases),
        "flow": sum(bool(case.flows) for case in cases),
        "interest": sum(any(book.interest) for book in books),
        "borrow": sum(any(book.borrow) for book in books),
        "short": sum(any(min(row.values()) < 0.0 for row in book.units) for book in books),
        "halt": sum(any(None in row for row in case.closes.values()) for case in cases),
        "credit": sum(case.credit for case in cases),
        "inertia": sum(case.inertia > 0.0 for case in cases),
    }.items():
        assert least >= 6, f"only {least} cases with {happened}"


# -- single points of the contract ---------------------------------------------------------------------------
WEEK = [date(2024, 1, day) for day in range(8, 13)]
DAYS = pd.DatetimeIndex(WEEK)


def small(prices: dict[str, list[float | None]], **more: object) -> MarketData:
    return MarketData(pd.DataFrame(prices, DAYS[: len(next(iter(prices.values())))], dtype=float), **more)


def test_the_strategy_is_asked_on_the_first_session_whatever_the_calendar_says() -> None:
    asked = []

    def strategy(moment):
        asked.append(moment.date)
        return pd.Series({"A": 1.0})

    backtest(strategy, small({"A": [1.0] * 5}), start=DAYS[0], every=[DAYS[3]])
    assert asked == [DAYS[0], DAYS[3]]


def test_first_trades_cost_something_in_the_returns_too() -> None:
    prices = {"A": [10.0, 10.0, 11.0]}
    found = backtest(
        lambda moment: pd.Series({"A": 1.0}),
        small(prices),
        start=DAYS[0],
        every=[DAYS[0]],
        lag=1,
        capital=1010.0,
        costs=ProportionalCosts(bps=100.0),
    )
    book = simulate(WEEK[:3], prices, {0: {"A": 1.0}}, capital=1010.0, fees=Fees(bps=100.0))
    assert found.nav.tolist() == pytest.approx(book.nav) == [1010.0, 1000.0, 1100.0]
    assert float((1.0 + found.returns).prod()) == pytest.approx(found.nav.iloc[-1] / 1010.0)


def test_a_split_while_trading_is_halted_makes_no_money() -> None:
    closes = {"A": [10.0, 10.0, None, 6.0], "B": [10.0, 10.0, 10.0, 10.0]}
    ratio = {"A": [None, None, 2.0, None]}
    fields = {
        "close": pd.DataFrame(closes, DAYS[:4], dtype=float),
        "split": pd.DataFrame({"A": [1.0, 1.0, 2.0, 1.0], "B": 1.0}, DAYS[:4]),
    }
    market = small({"A": [10.0, 10.0, None, 12.0], "B": [10.0] * 4}, fields=fields)
    found = backtest(
        lambda moment: pd.Series({"A": 1.0}),
        market,
        start=DAYS[0],
        every=[DAYS[0]],
        traded="close",
        splits="split",
        capital=1000.0,
    )
    book = simulate(WEEK[:4], closes, {0: {"A": 1.0}}, capital=1000.0, splits=ratio)
    assert found.nav.tolist() == pytest.approx(book.nav) == [1000.0, 1000.0, 1000.0, 1200.0]


def test_a_full_position_pays_no_fee_for_being_left_alone() -> None:
    found = backtest(
        lambda moment: pd.Series({"A": 1.0}),
        small({"A": [10.0] * 5}),
        start=DAYS[0],
        every=list(DAYS),
        capital=1005.0,
        costs=ProportionalCosts(fixed=5.0),
    )
    assert found.nav.tolist() == pytest.approx([1005.0, 1000.0, 1000.0, 1000.0, 1000.0])
    assert len(found.trades) == 1


def test_the_trade_of_the_last_session_is_made_and_later_ones_are_not() -> None:
    found = backtest(
        lambda moment: pd.Series({"A": 1.0}), small({"A": [10.0] * 5}), start=DAYS[0], every=[DAYS[0], DAYS[4]], lag=4
    )
    assert found.trades["date"].tolist() == [DAYS[4]]
    assert found.timeline["traded"].notna().tolist() == [True, False]


def test_a_weekend_of_interest() -> None:
    days = pd.DatetimeIndex(["2024-01-11", "2024-01-12", "2024-01-15"])
    market = MarketData(pd.DataFrame({"A": [1.0] * 3}, days))
    found = backtest(
        lambda moment: pd.Series({"A": 0.0}), market, start=days[0], every=[days[0]], capital=365_000.0, cash_rate=0.10
    )
    assert found.income["interest"].tolist() == pytest.approx([0.0, 100.0, 365_100.0 * 0.10 * 3 / 365])


def test_a_price_that_is_too_old_is_refused() -> None:
    market = small({"A": [10.0, 10.0, None, None, 10.0], "B": [1.0] * 5})

    def run_with(max_stale: int) -> Backtest:
        return backtest(
            lambda moment: pd.Series({"A": 1.0}), market, start=DAYS[0], every=[DAYS[0]], max_stale=max_stale
        )

    assert run_with(2).nav.tolist() == [1_000_000.0] * 5
    with pytest.raises(InputError, match="'A'"):
        run_with(1)


@pytest.mark.parametrize("lag", [0, 1])
def test_a_drift_band_trades_on_the_days_it_is_left(lag: int) -> None:
    """Weights are judged at every close; the band is left, by the day book, on a handful of sessions."""
    rng = Random(3)
    days = pd.bdate_range("2024-01-02", periods=80)
    prices: dict[str, list[float | None]] = {}
    for asset in ("A", "B", "C"):
        level, row = 100.0, []
        for _ in days:
            level *= 1.0 + rng.uniform(-0.05, 0.052)
            row.append(level)
        prices[asset] = row
    target = {"A": 0.3, "B": 0.3, "C": 0.4}
    fees = Fees(bps=20.0)
    waiting: list[int] = []

    def decide(standing: Standing) -> dict[str, float] | None:
        on_the_way = any(standing.session < due for due in waiting)
        out = any(abs(standing.weights[asset] - target[asset]) >= 0.03 for asset in target)
        if standing.session > 0 and (on_the_way or not out):
            return None
        waiting.append(standing.session + lag)
        return target

    book = simulate([day.date() for day in days], prices, decide, lag=lag, fees=fees)
    found = backtest(
        lambda moment: pd.Series(target),
        MarketData(pd.DataFrame(prices, days, dtype=float)),
        start=days[0],
        every=[days[0]],
        rule=RebalanceRule(DriftTrigger(DriftBand(0.03)), cooldown=Cooldown(0)),
        lag=lag,
        costs=ProportionalCosts(bps=20.0),
    )
    by_hand = sorted({fill.session for fill in book.fills})
    assert 3 < len(by_hand) < 40
    assert [days.get_loc(date) for date in found.trades["date"].unique()] == by_hand
    np.testing.assert_allclose(found.nav, book.nav, rtol=EXACT)


def test_strategies_in_one_call_are_those_of_calls_of_their_own() -> None:
    case = next(case for case in map(draw, map(Random, range(100))) if len(case.closes) > 3 and not case.flows)
    account = {"start": case.sessions[0], "every": "weekly", "costs": case.costs(), "max_stale": 100}
    first = next(iter(case.closes))
    strategies = {"one": EqualWeight(), "other": lambda moment: pd.Series({first: 0.5})}
    both = backtest(strategies, case.market(), **account)
    for name, strategy in strategies.items():
        alone = backtest(strategy, case.market(), **account)
        together = next(both[i] for i in range(len(both)) if both[i].name == name)
        pd.testing.assert_series_equal(together.nav, alone.nav, check_names=False)
        pd.testing.assert_frame_equal(together.positions, alone.positions)
        pd.testing.assert_frame_equal(together.trades, alone.trades)


def test_orders_without_limits_are_the_book_without_orders() -> None:
    rng = np.random.default_rng(5)
    days = pd.bdate_range("2024-01-02", periods=40)
    prices = pd.DataFrame(50.0 * np.cumprod(1.0 + 0.02 * rng.normal(size=(40, 3)), axis=0), days, ["A", "B", "C"])
    account = {"start": days[0], "every": "daily", "costs": ProportionalCosts(bps=30.0)}
    weights = dict(zip(days, rng.dirichlet([1.0, 1.0, 1.0], 40), strict=True))

    def strategy(moment):
        return pd.Series(weights[moment.date], ["A", "B", "C"])

    free = backtest(strategy, MarketData(prices), **account)
    ordered = backtest(strategy, MarketData(prices), orders=OrderRules(minimum_value=0.0), **account)
    np.testing.assert_allclose(ordered.nav, free.nav, rtol=1e-9)
    np.testing.assert_allclose(ordered.positions, free.positions, rtol=1e-7, atol=1e-6)
    whole = backtest(strategy, MarketData(prices), orders=OrderRules(lot=1.0), **account)
    units = whole.trades["units"].to_numpy()
    np.testing.assert_allclose(units, np.round(units), atol=1e-9)
    assert whole.cash.min() >= -1e-6
    off = (whole.weights - free.weights).abs().mul(whole.nav, axis=0).to_numpy()[1:]
    assert (off <= 3 * prices.to_numpy()[1:].max()).all()


def test_what_is_on_the_no_trade_list_is_never_traded() -> None:
    prices = {"A": [10.0, 11.0, 12.0, 13.0, 14.0], "B": [5.0, 5.0, 5.0, 6.0, 6.0]}
    closed = {"A": [True] * 5, "B": [False] * 5}
    even = {"A": 0.5, "B": 0.5}
    found = backtest(
        lambda moment: pd.Series(even),
        small(prices),
        start=DAYS[0],
        every="daily",
        orders=OrderRules(minimum_value=0.0, no_trade=("B",)),
    )
    book = simulate(WEEK, prices, lambda standing: even, tradable=closed)
    np.testing.assert_allclose(found.nav, book.nav, rtol=EXACT)


def test_an_asset_that_is_delisted_at_a_price_is_not_bought_again() -> None:
    """A universe may end a membership, with a return, on a session that still has a price."""
    spells = pd.DataFrame(
        {
            "asset": ["A", "B"],
            "start": [DAYS[0]] * 2,
            "end": [DAYS[2], pd.NaT],
            "delisting_return": [-0.5, np.nan],
        }
    )
    prices = {"A": [10.0, 10.0, 8.0, 8.0, 8.0], "B": [10.0] * 5}
    market = small(prices, universe=Universe(spells))
    found = backtest(
        lambda moment: pd.Series({"A": 0.5, "B": 0.5}) if moment.date < DAYS[2] else None,
        market,
        start=DAYS[0],
        every="daily",
        capital=1000.0,
    )
    # decided the day before, A cannot be bought on the day it goes: its holders got half of its last price
    assert found.positions["A"].tolist() == pytest.approx([0.0, 50.0, 0.0, 0.0, 0.0])
    assert found.nav.tolist()[:2] == pytest.approx([1000.0, 1000.0])
    assert found.nav.iloc[2] == pytest.approx(500.0 + 50.0 * 8.0 * 0.5)


def test_the_future_does_not_move_the_past() -> None:
    rng = np.random.default_rng(8)
    days = pd.bdate_range("2024-01-02", periods=70)
    steps = 1.0 + 0.02 * rng.normal(size=(70, 4))
    prices = pd.DataFrame(30.0 * np.cumprod(steps, axis=0), days, ["A", "B", "C", "D"])
    prices.iloc[50:, 3] = np.nan
    market = MarketData(prices, delisting_returns={"D": -0.4})

    def inverse_volatility(moment):
        weights = 1.0 / moment.returns(20).std()
        return weights / weights.sum()

    def run_on(data: MarketData, end: pd.Timestamp | None = None) -> Backtest:
        costs = ProportionalCosts(bps=20.0)
        return backtest(inverse_volatility, data, start=days[25], end=end, every="weekly", costs=costs)

    whole = run_on(market)
    for t in (days[40], days[52]):
        for name, changed in futures(market, t):
            found = run_on(changed, end=t)
            for attribute in ("nav", "cash"):
                before, after = getattr(whole, attribute).loc[:t], getattr(found, attribute).loc[:t]
                assert after.equals(before), f"the {attribute} up to {t} depends on the future ({name})"
            assert found.trades[found.trades["date"] <= t].equals(whole.trades[whole.trades["date"] <= t]), name


def test_borrow_fees_are_for_shares_and_never_for_cash() -> None:
    for bps in (100.0, pd.Series({"A": 100.0})):
        found = backtest(
            lambda moment: pd.Series({"A": 1.5}),
            small({"A": [10.0] * 5}),
            start=DAYS[0],
            every=[DAYS[0]],
            costs=ProportionalCosts() + BorrowCosts(bps),
            capital=1000.0,
            credit=True,
        )
        assert found.cash.iloc[-1] == pytest.approx(-500.0, rel=1e-12)
        assert not found.costs.to_numpy().any()


def test_covering_a_short_position_needs_money_too() -> None:
    """A is halted and cannot pay for what is bought: 700 of cash are there for 500 of B and 1000 of C."""
    prices = {"A": [10.0, 10.0, None, 10.0], "B": [10.0] * 4, "C": [10.0] * 4}
    targets = {DAYS[0]: {"A": 0.8, "B": -0.5}, DAYS[1]: {"C": 1.0}}
    found = backtest(
        lambda moment: pd.Series(targets[moment.date]),
        small(prices),
        start=DAYS[0],
        every=list(targets),
        capital=1000.0,
    )
    assert found.cash.tolist() == pytest.approx([1000.0, 700.0, 0.0, 0.0], abs=1e-9)
    assert found.positions.iloc[2].to_dict() == pytest.approx({"A": 80.0, "B": -50.0 + 70.0 / 3, "C": 140.0 / 3})


def test_rounding_makes_no_orders() -> None:
    """All money is in A, which is halted, and in B; what is left of it in cash, by rounding, buys no C."""
    rng = Random(1)
    for _ in range(20):
        level, other, weight = rng.uniform(1.0, 300.0), rng.uniform(1.0, 300.0), rng.uniform(0.2, 0.8)
        prices = {"A": [level, 1.1 * level, None, level], "B": [other] * 4, "C": [2.0 * other] * 4}
        targets = {DAYS[0]: {"A": weight, "B": 1.0 - weight}, DAYS[1]: {"B": 1.0 - 0.5 * weight, "C": 0.1}}
        found = backtest(
            lambda moment, targets=targets: pd.Series(targets[moment.date]),
            small(prices),
            start=DAYS[0],
            every=list(targets),
            costs=ProportionalCosts(bps=rng.uniform(1.0, 60.0)),
        )
        assert found.trades["asset"].tolist() == ["A", "B"]

"""Orders: conservation, cash that never runs out, rounding against every combination, cash in and out."""

from __future__ import annotations

import contextlib
import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from portfolioopt.errors import InputError, UnknownNameError
from portfolioopt.rebalance import OrderRules, create_orders, execute, invest_cash, raise_cash, value_book
from portfolioopt.rebalance.rounding import ENUMERATED, nearest_lots

PRICES = pd.Series({"SPY": 100.0, "TLT": 50.0, "GLD": 20.0})
BALANCED = pd.Series({"SPY": 0.60, "TLT": 0.35})


# -- by hand -------------------------------------------------------------------------------------------------


def test_sells_first_and_dust_is_left_out() -> None:
    prices = pd.Series({"SPY": 1.0, "TLT": 1.0, "GLD": 1.0})
    holdings = pd.Series({"SPY": 65_000.0, "TLT": 30_000.0, "GLD": 0.5})
    plan = create_orders(BALANCED, holdings, prices, cash=4_999.5, untargeted="sell")
    assert [(o.sequence, o.asset, o.side, round(o.value, 6)) for o in plan.orders] == [
        (1, "SPY", "sell", 5000.0),
        (2, "TLT", "buy", 5000.0),
    ]
    assert plan.skipped.loc["GLD"].tolist() == ["sell", 0.5, "below the minimum order of 1"]
    assert plan.orders[0].reason == "from 65.00% to 60.00% of NAV"
    assert plan.frame["cash_after"].tolist() == pytest.approx([9_999.5, 4_999.5])


def test_an_order_of_exactly_the_minimum_is_made() -> None:
    for minimum, count in ((10.0, 2), (10.0 + 1e-6, 0)):
        holdings = {"SPY": 5.1, "TLT": 9.8}
        plan = create_orders({"SPY": 0.5, "TLT": 0.5}, holdings, PRICES, rules=OrderRules(minimum_value=minimum))
        assert len(plan.orders) == count


def test_fees_leave_the_target_weights_behind() -> None:
    plan = create_orders(BALANCED, {"SPY": 900.0, "TLT": 0.0}, PRICES, cash=10_000.0, rules=OrderRules(fees=50.0))
    after = value_book(plan.holdings, PRICES, cash=plan.cash)
    np.testing.assert_allclose(after.weights[["SPY", "TLT"]], [0.60, 0.35], rtol=1e-12)
    # NAV after solves nav' = nav - .005 (|.6 nav' - 90000| + .35 nav').
    assert after.nav == pytest.approx((100_000.0 - 0.005 * 90_000.0) / (1.0 - 0.005 * 0.25), rel=1e-12)


def test_a_fee_with_a_minimum_from_a_function() -> None:
    rules = OrderRules(fees=lambda asset, units, price: max(1.0, abs(units) * price * 1e-3))
    plan = create_orders({"SPY": 0.5, "TLT": 0.5}, {"SPY": 10.0}, PRICES, rules=rules)
    assert [order.fee for order in plan.orders] == [1.0, 1.0]
    assert plan.cash == pytest.approx(0.0, abs=1e-9)
    assert plan.cash >= 0.0
    rules = OrderRules(fees=lambda asset, units, price: 400.0)
    with pytest.raises(InputError, match="exceed"):
        create_orders({"SPY": 0.5, "TLT": 0.5}, {"SPY": 5.0}, PRICES, rules=rules)


def test_a_position_is_closed_with_its_odd_rest() -> None:
    rules = OrderRules(lot=10.0)
    plan = create_orders({"SPY": 1.0, "TLT": 0.0}, {"SPY": 100.0, "TLT": 33.7}, PRICES, rules=rules)
    assert plan.orders[0].quantity == 33.7
    assert plan.holdings["TLT"] == 0.0
    assert plan.holdings["SPY"] == 110.0
    covered = create_orders({"SPY": 1.0, "TLT": 0.0}, {"SPY": 100.0, "TLT": -33.7}, PRICES, cash=1685.0, rules=rules)
    assert covered.holdings["TLT"] == 0.0


def test_short_targets_are_sold_short() -> None:
    plan = create_orders({"SPY": 1.0, "TLT": -0.2}, {"SPY": 80.0}, PRICES, cash=2_000.0)
    assert [(o.side, o.asset) for o in plan.orders] == [("sell", "TLT"), ("buy", "SPY")]
    assert plan.holdings["TLT"] == pytest.approx(-40.0)
    assert plan.cash == pytest.approx(2_000.0)


def test_what_may_not_be_traded_is_not() -> None:
    rules = OrderRules(no_trade=("SPY",))
    plan = create_orders(BALANCED, {"SPY": 800.0, "TLT": 0.0}, PRICES, cash=20_000.0, rules=rules)
    assert plan.holdings["SPY"] == 800.0
    assert plan.skipped.loc["SPY", "reason"] == "on the no-trade list"
    # There are 20,000 for the 35,000 wanted.
    assert plan.orders[0].value == pytest.approx(20_000.0)
    assert "cut to the cash there is" in plan.orders[0].reason
    with pytest.raises(UnknownNameError, match="SPX"):
        create_orders(BALANCED, {"SPY": 1.0}, PRICES, rules=OrderRules(no_trade=("SPX",)))


@pytest.mark.parametrize("lot", [0.0, 1.0])
def test_the_reserve_is_left(lot) -> None:
    rules = OrderRules(reserve=500.0, lot=lot, fees=20.0)
    plan = create_orders({"SPY": 0.5, "TLT": 0.5}, {"SPY": 10.0}, PRICES, cash=9_000.0, rules=rules)
    # The two are wanted for 9,000 and change; 8,500 are there, and a share of TLT costs 50.
    assert 500.0 <= plan.cash < 500.0 + (1e-6 if lot == 0.0 else 50.0 * 1.002)
    nothing = create_orders({"SPY": 0.5, "TLT": 0.5}, {"SPY": 10.0}, PRICES, cash=400.0, rules=rules)
    assert [order.side for order in nothing.orders] == ["sell", "buy"]
    assert 500.0 <= nothing.cash < 500.0 + (1e-6 if lot == 0.0 else 50.0 * 1.002)


# -- what always holds ---------------------------------------------------------------------------------------


@st.composite
def accounts(draw) -> tuple[pd.Series, pd.Series, pd.Series, float, OrderRules]:
    n = draw(st.integers(1, 7))
    names = [f"A{i}" for i in range(n)]
    price = draw(st.lists(st.floats(0.5, 900.0), min_size=n, max_size=n))
    units = draw(st.lists(st.floats(0.0, 500.0) | st.integers(0, 500).map(float), min_size=n, max_size=n))
    parts = np.array(draw(st.lists(st.integers(0, 50), min_size=n, max_size=n)), dtype=float)
    total = max(parts.sum(), 1.0) / draw(st.sampled_from([1.0, 1.0, 0.95, 0.5]))
    kind = draw(st.sampled_from(["bps", "minimum", "none"]))
    fees = {"bps": 25.0, "none": 0.0, "minimum": lambda asset, q, p: max(0.35, 0.0005 * abs(q) * p)}[kind]
    lots = draw(st.sampled_from([0.0, 1.0, 10.0, 1e-9]))
    rules = OrderRules(draw(st.sampled_from([0.0, 1.0, 100.0])), lot=lots, fees=fees)
    cash = draw(st.sampled_from([0.0, 10.0, 12_345.67]))
    return pd.Series(parts / total, names), pd.Series(units, names), pd.Series(price, names), cash, rules


def check_the_account(account) -> None:
    targets, units, prices, cash, rules = account
    nav = float((units * prices).sum() + cash)
    if nav <= 2000.0:
        return
    plan = create_orders(targets, units, prices, cash=cash, rules=rules)
    # The book after: nothing is lost but the fees, to 1e-9 of NAV, in whatever order it is counted.
    assert abs(float((plan.holdings * prices).sum()) + plan.cash + plan.fees - nav) <= 1e-9 * nav
    holdings, money = execute(plan.orders, units, cash)
    pd.testing.assert_series_equal(holdings, plan.holdings, check_names=False)
    assert money == pytest.approx(plan.cash, abs=1e-9 * nav)
    # Cash is there before it is spent, and nothing is sold that is not held.
    if rules.lot == 0.0:
        assert money >= 0.0  # without lots not even by rounding
    frame = plan.frame
    assert (frame["cash_after"] >= 0.0).all()
    assert plan.cash >= 0.0
    assert (plan.holdings >= 0.0).all()
    sides = frame["side"].tolist()
    assert sides == sorted(sides, reverse=True)
    assert not frame["asset"].duplicated().any()
    assert not set(frame["asset"]) & set(plan.skipped.index)
    assert (frame["value"] >= rules.minimum_value * (1.0 - 1e-9) - 1e-9 * nav).all()
    for order in plan.orders:
        assert order.quantity > 0.0
        assert order.reason
        closed = order.side == "sell" and targets[order.asset] == 0.0
        if isinstance(rules.lot, float) and rules.lot >= 1.0 and not closed:
            assert order.quantity / rules.lot == pytest.approx(round(order.quantity / rules.lot), abs=1e-9)
    # Each trade goes towards its target, and beyond by half a lot when sold, by less than one when bought.
    wanted = targets * nav
    for order in plan.orders:
        before, after = units[order.asset] * prices[order.asset], plan.holdings[order.asset] * prices[order.asset]
        beyond = (wanted[order.asset] - after) * (1.0 if order.side == "sell" else -1.0)
        slack = plan.fees + 1e-9 * nav + float(rules.lot) * prices[order.asset]
        assert beyond <= slack
        assert (after < before) == (order.side == "sell")


@given(accounts())
def test_nothing_is_lost_and_cash_never_runs_out(account) -> None:
    check_the_account(account)


@pytest.mark.slow
@settings(max_examples=2_000)
@given(accounts())
def test_nothing_is_lost_and_cash_never_runs_out_on_many_accounts(account) -> None:
    check_the_account(account)


@given(accounts(), st.floats(0.01, 100.0))
def test_a_book_in_another_currency_trades_the_same_units(account, rate) -> None:
    targets, units, prices, cash, rules = account
    nav = float((units * prices).sum() + cash)
    if nav <= 2000.0 or callable(rules.fees) or rules.lot != 0.0:
        return
    other = OrderRules(rules.minimum_value * rate, lot=rules.lot, fees=rules.fees)
    plan = create_orders(targets, units, prices, cash=cash, rules=rules)
    again = create_orders(targets, units, prices * rate, cash=cash * rate, rules=other)
    np.testing.assert_allclose(again.holdings, plan.holdings, rtol=1e-9, atol=1e-9 * nav / prices.min())


# -- rounding ------------------------------------------------------------------------------------------------


def costs(prices: np.ndarray, fee: float):
    return lambda i, q: q * prices[i] * (1.0 + fee)


@pytest.mark.parametrize("seed", range(8))
def test_lots_are_the_best_of_all_combinations(seed) -> None:
    rng = np.random.default_rng(seed)
    n = 8
    prices, lot = rng.uniform(5.0, 400.0, n), rng.choice([1.0, 5.0], n)
    wanted = rng.uniform(100.0, 4000.0, n)
    money = wanted.sum() * rng.uniform(0.7, 1.02)
    units = wanted / prices * min(1.0, money / (wanted.sum() * 1.001))
    cost = costs(prices, 0.001)
    chosen = nearest_lots(units, wanted, prices, lot, money, cost)
    best = np.inf
    for up in itertools.product((0, 1), repeat=n):
        k = (np.floor(units / lot) + np.array(up)) * lot
        if sum(cost(i, k[i]) for i in range(n)) <= money:
            best = min(best, float(((k * prices - wanted) ** 2).sum()))
    assert sum(cost(i, chosen[i]) for i in range(n)) <= money
    assert ((chosen * prices - wanted) ** 2).sum() == pytest.approx(best, rel=1e-12)


def test_many_assets_are_rounded_greedily_within_the_money() -> None:
    rng = np.random.default_rng(0)
    n = 4 * ENUMERATED
    prices, wanted = rng.uniform(5.0, 400.0, n), rng.uniform(100.0, 4000.0, n)
    money = wanted.sum()
    chosen = nearest_lots(wanted / prices, wanted, prices, np.ones(n), money, costs(prices, 0.0))
    down = np.floor(wanted / prices)
    spent, miss = (chosen * prices).sum(), ((chosen * prices - wanted) ** 2).sum()
    assert spent <= money
    assert miss < 0.75 * ((down * prices - wanted) ** 2).sum()
    # No lot that could still be paid would bring it nearer.
    gain = (chosen * prices - wanted) ** 2 - ((chosen + 1.0) * prices - wanted) ** 2
    assert (gain[prices <= money - spent] <= 0.0).all()


def test_whole_numbers_stay_what_they_are() -> None:
    units = np.array([3.0, 0.1 * 3 / 0.3, 7.0 - 1e-12])
    ones = np.ones(3)
    assert nearest_lots(units, units, ones, ones, 11.0, costs(ones, 0.0)).tolist() == [3.0, 1.0, 7.0]


# -- cash in -------------------------------------------------------------------------------------------------


def test_new_cash_goes_to_what_is_short_of_its_target() -> None:
    units, prices = {"SPY": 60_000.0, "TLT": 35_000.0}, {"SPY": 1.0, "TLT": 1.0}
    plan = invest_cash(1_000.0, BALANCED, units, prices, cash=5_000.0, method="pro rata")
    assert {o.asset: o.value for o in plan.orders} == pytest.approx({"SPY": 600.0, "TLT": 350.0})
    assert plan.cash == pytest.approx(5_050.0)
    small = invest_cash(9.99, BALANCED, units, prices, cash=5_000.0)
    assert small.orders == ()
    assert small.note == "9.99 is below the minimum investment of 10"
    assert small.cash == 5_009.99
    assert invest_cash(10.0, BALANCED, units, prices, cash=5_000.0).orders


def test_the_furthest_come_first() -> None:
    targets, prices = {"A": 0.5, "B": 0.3, "C": 0.2}, {"A": 1.0, "B": 1.0, "C": 1.0}
    units = {"A": 430.0, "B": 280.0, "C": 190.0}
    # With the 100 in, 70, 20 and 10 are missing; of 40, all go to A, of 60 the last 10 are shared with B.
    plan = invest_cash(40.0, targets, units, prices, cash=60.0)
    assert {o.asset: o.value for o in plan.orders} == pytest.approx({"A": 40.0})
    plan = invest_cash(60.0, targets, units, prices, cash=40.0)
    assert {o.asset: o.value for o in plan.orders} == pytest.approx({"A": 55.0, "B": 5.0})
    everything = invest_cash(100.0, targets, units, prices)
    assert {o.asset: o.value for o in everything.orders} == pytest.approx({"A": 70.0, "B": 20.0, "C": 10.0})


@pytest.mark.parametrize("seed", range(4))
def test_the_furthest_first_is_the_nearest_that_the_cash_can_buy(seed) -> None:
    rng = np.random.default_rng(seed)
    names = list("ABCDE")
    targets, units = pd.Series(rng.dirichlet(np.ones(5)), names), pd.Series(rng.uniform(10.0, 200.0, 5), names)
    amount = 120.0
    plan = invest_cash(amount, targets, units, pd.Series(1.0, names), rules=OrderRules(minimum_value=0.0))
    short = (targets * (units.sum() + amount) - units).clip(lower=0.0).to_numpy()
    answer = minimize(
        lambda x: ((short - x) ** 2).sum(),
        np.full(5, amount / 5),
        bounds=[(0.0, None)] * 5,
        constraints={"type": "eq", "fun": lambda x: x.sum() - amount},
        options={"ftol": 1e-14, "maxiter": 500},
    )
    np.testing.assert_allclose((plan.holdings - units).to_numpy(), answer.x, atol=1e-4)


@given(accounts(), st.floats(0.0, 20_000.0), st.sampled_from(["furthest", "pro rata"]))
def test_cash_in_buys_only_and_spends_no_more_than_came(account, amount, method) -> None:
    targets, units, prices, cash, rules = account
    if float((units * prices).sum() + cash + amount) <= 0.0:
        return
    plan = invest_cash(amount, targets, units, prices, cash=cash, method=method, rules=rules)
    assert all(order.side == "buy" for order in plan.orders)
    assert plan.cash >= cash - 1e-9 * plan.nav
    assert float((plan.holdings * prices).sum()) + plan.cash + plan.fees == pytest.approx(plan.nav, rel=1e-9)


# -- cash out ------------------------------------------------------------------------------------------------


def test_cash_out_by_hand() -> None:
    units, prices = {"SPY": 65_000.0, "TLT": 30_000.0}, {"SPY": 1.0, "TLT": 1.0}
    plan = raise_cash(7_000.0, BALANCED, units, prices, cash=5_000.0)
    # SPY alone is above its target, by far.
    assert [(o.side, o.asset, round(o.value, 6)) for o in plan.orders] == [("sell", "SPY", 2_000.0)]
    assert plan.cash == pytest.approx(7_000.0)
    assert raise_cash(4_000.0, BALANCED, units, prices, cash=5_000.0).orders == ()
    rules = OrderRules(fees=100.0)
    assert raise_cash(7_000.0, BALANCED, units, prices, cash=5_000.0, rules=rules).cash == pytest.approx(7_000.0)


@given(accounts(), st.floats(0.0, 1.3), st.sampled_from(["furthest", "pro rata"]))
def test_cash_out_is_there_or_refused(account, share, method) -> None:
    targets, units, prices, cash, rules = account
    nav = float((units * prices).sum() + cash)
    if nav <= 2000.0:
        return
    amount = share * nav
    plan = None
    with contextlib.suppress(InputError):
        plan = raise_cash(amount, targets, units, prices, cash=cash, method=method, rules=rules)
    if plan is None:
        # Only where even everything, less fees and orders too small to be made, does not bring it.
        most = sum(v - max(0.35, 0.0025 * v) for v in units * prices if v >= rules.minimum_value)
        assert amount > cash + most - 1e-6 * nav
        return
    assert all(order.side == "sell" for order in plan.orders)
    assert plan.cash >= amount - 1e-9 * nav
    assert (plan.holdings >= 0.0).all()
    assert float((plan.holdings * prices).sum()) + plan.cash + plan.fees == pytest.approx(nav, rel=1e-9)


def test_a_debt_is_repaid_first() -> None:
    rules = OrderRules(lot=1.0)
    plan = create_orders({"SPY": 0.6, "TLT": 0.4}, {"SPY": 100.0, "TLT": 150.0}, PRICES, cash=-777.0, rules=rules)
    assert all(order.side == "sell" for order in plan.orders)
    assert plan.cash >= 0.0
    with pytest.raises(InputError, match="credit"):
        create_orders({"SPY": 1.0}, {"SPY": 100.0}, PRICES, cash=-777.0, rules=OrderRules(no_trade=("SPY",)))


# -- refusals ------------------------------------------------------------------------------------------------


def test_refusals() -> None:
    with pytest.raises(InputError, match="borrowed"):
        create_orders({"SPY": 0.8, "TLT": 0.4}, {"SPY": 1.0}, PRICES)
    with pytest.raises(InputError, match="'QQQ'"):
        create_orders({"SPY": 0.5, "QQQ": 0.5}, {"SPY": 1.0}, PRICES)
    with pytest.raises(InputError, match="'TLT'"):
        create_orders({"SPY": 1.0}, {"SPY": 1.0, "TLT": 1.0}, PRICES)
    with pytest.raises(InputError, match="basis points"):
        create_orders(BALANCED, {"SPY": 1.0}, PRICES, rules=OrderRules(fees=-1.0))
    with pytest.raises(InputError, match="fee of"):
        create_orders(BALANCED, {"SPY": 1.0}, PRICES, rules=OrderRules(fees=lambda a, q, p: float("nan")))
    with pytest.raises(InputError, match="lot"):
        create_orders(BALANCED, {"SPY": 1.0}, PRICES, rules=OrderRules(lot=-1.0))
    for wrong in ({"minimum_value": -1.0}, {"reserve": np.inf}, {"no_trade": "SPY"}):
        with pytest.raises(InputError):
            OrderRules(**wrong)
    with pytest.raises(InputError, match="method"):
        invest_cash(100.0, BALANCED, {"SPY": 1.0}, PRICES, method="all")
    with pytest.raises(InputError, match="amount"):
        invest_cash(-1.0, BALANCED, {"SPY": 1.0}, PRICES)


def test_a_holding_of_next_to_nothing_makes_no_order_and_no_fee() -> None:
    names = ["A", "B"]
    rules = OrderRules(minimum_value=0.0, fees=lambda asset, q, p: max(0.35, 0.0005 * abs(q) * p))
    targets, prices = pd.Series([1.0, 0.0], names), pd.Series([19.0, 1.0], names)
    plan = create_orders(targets, pd.Series([106.0, 1e-122], names), prices, cash=0.0, rules=rules)
    assert "B" not in plan.frame["asset"].tolist()
    assert plan.fees <= 0.36

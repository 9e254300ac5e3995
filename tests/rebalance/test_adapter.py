"""The adapter: from a result, or weights, through drift and decision to orders."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from portfolioopt.allocation import equal_weight
from portfolioopt.errors import InputError
from portfolioopt.rebalance import (
    CalendarTrigger,
    DriftBand,
    DriftTrigger,
    OrderRules,
    PortfolioOptAdapter,
    RebalanceRule,
    create_orders,
    drift_report,
    invest_cash,
    raise_cash,
    target_weights,
    value_book,
)
from portfolioopt.scenarios import ScenarioSet
from portfolioopt.solve import Result, Status, Timings

NAMES = ["A", "B", "C", "D"]
PRICES = pd.Series({"A": 10.0, "B": 20.0, "C": 50.0, "D": 5.0})
UNITS = pd.Series({"A": 310.0, "B": 110.0, "C": 50.0, "D": 440.0})  # 3100, 2200, 2500, 2200 of 10,000
QUARTERS = pd.Series(0.25, NAMES)


@pytest.fixture(scope="module")
def result() -> Result:
    rng = np.random.default_rng(1)
    return equal_weight(ScenarioSet(pd.DataFrame(rng.normal(0.0, 0.01, (50, 4)), columns=NAMES)))


def test_targets_of_a_result(result) -> None:
    adapter = PortfolioOptAdapter(result, budget=1.0)
    np.testing.assert_allclose(adapter.target_weights, 0.25)
    assert adapter.target_weights.index.tolist() == NAMES
    report = adapter.analyze_drift(UNITS, PRICES)
    pd.testing.assert_frame_equal(report, drift_report(value_book(UNITS, PRICES).weights, QUARTERS))
    assert report.index[report["breached"]].tolist() == ["A"]


def test_a_result_without_proof_is_refused(result) -> None:
    for status in (Status.infeasible, Status.stalled):
        broken = Result(result.problem, status, "so it is", Timings(0.0, 0.0, 0.0, 0.0), columns=np.full(4, 0.25))
        with pytest.raises(InputError, match=f"{status.name}: so it is"):
            PortfolioOptAdapter(broken)
        np.testing.assert_allclose(PortfolioOptAdapter(broken.weights).target_weights, 0.25)


def test_a_day_in_the_life() -> None:
    adapter = PortfolioOptAdapter(QUARTERS, rules=OrderRules(fees=10.0, lot=1.0))
    decision = adapter.decide("2024-07-10", UNITS, PRICES, last_rebalance="2024-06-28")
    assert decision.reasons == (
        "drift: A at 31.00% of NAV is 6.00 points above its target of 25.00%, band 5.00 points",
    )
    plan = adapter.calculate_rebalance_trades(UNITS, PRICES)
    assert [order.side for order in plan.orders] == ["sell", "buy", "buy"]
    after = adapter.analyze_drift(plan.holdings, PRICES, plan.cash)
    assert after["drift"].abs().max() < 0.003
    waiting = adapter.decide("2024-07-12", UNITS, PRICES, last_rebalance="2024-07-10")
    assert not waiting.rebalance
    assert waiting.reasons[0].startswith("cooldown: 2 of 7 days")


def test_trading_to_the_edge_ends_a_breach_with_less_trading() -> None:
    traded = {}
    for towards in ("target", "halfway", "edge"):
        adapter = PortfolioOptAdapter(QUARTERS, towards=towards)
        plan = adapter.calculate_rebalance_trades(UNITS, PRICES)
        traded[towards] = sum(order.value for order in plan.orders)
        assert not adapter.analyze_drift(plan.holdings, PRICES, plan.cash)["breached"].any()
    # A falls by 600, 350 or 100, and others rise by as much.
    assert traded == pytest.approx({"target": 1200.0, "halfway": 700.0, "edge": 200.0}, rel=1e-6)


def test_a_rule_of_ones_own() -> None:
    rule = RebalanceRule(CalendarTrigger("quarterly", calendar="XNYS") | DriftTrigger(DriftBand(0.30, "relative")))
    adapter = PortfolioOptAdapter(QUARTERS, rule=rule)
    assert not adapter.decide("2024-05-10", UNITS, PRICES, last_rebalance="2024-03-28")
    assert adapter.decide("2024-06-28", UNITS, PRICES, last_rebalance="2024-03-28")


def test_cash_in_and_out_are_the_functions() -> None:
    adapter = PortfolioOptAdapter(QUARTERS)
    put = adapter.create_invest_cash_trades(500.0, UNITS, PRICES, 20.0)
    assert put.orders == invest_cash(500.0, QUARTERS, UNITS, PRICES, cash=20.0).orders
    assert {order.asset for order in put.orders} == {"B", "D"}
    taken = adapter.create_invest_cash_trades(-500.0, UNITS, PRICES, 20.0, method="pro rata")
    assert taken.orders == raise_cash(500.0, QUARTERS, UNITS, PRICES, cash=20.0, method="pro rata").orders
    assert taken.cash == pytest.approx(500.0)


def test_cash_is_judged_where_it_has_a_name() -> None:
    targets = QUARTERS * 0.8
    with_cash = PortfolioOptAdapter(targets, DriftBand(0.05), cash_name="cash")
    units = targets * 8_800.0 / 0.8 / PRICES
    assert with_cash.decide(
        "2024-01-10", units, PRICES, 1_200.0, last_rebalance="2024-01-01"
    ).breaches.index.tolist() == ["cash"]
    assert not PortfolioOptAdapter(targets).decide("2024-01-10", units, PRICES, 1_200.0, last_rebalance="2024-01-01")


def test_positions_without_a_target() -> None:
    with pytest.raises(InputError, match="'D'"):
        PortfolioOptAdapter(QUARTERS[:3]).analyze_drift(UNITS, PRICES)
    adapter = PortfolioOptAdapter(QUARTERS[:3], untargeted="sell")
    plan = adapter.calculate_rebalance_trades(UNITS, PRICES)
    assert plan.holdings["D"] == 0.0
    expected = create_orders(QUARTERS[:3], UNITS, PRICES, untargeted="sell").holdings
    np.testing.assert_allclose(plan.holdings, expected[plan.holdings.index])


def test_nothing_is_changed_by_being_asked() -> None:
    units, prices, targets = UNITS.copy(), PRICES.copy(), QUARTERS.copy()
    adapter = PortfolioOptAdapter(targets)
    first = adapter.calculate_rebalance_trades(units, prices, 5.0)
    assert adapter.calculate_rebalance_trades(units, prices, 5.0).orders == first.orders
    pd.testing.assert_series_equal(units, UNITS)
    pd.testing.assert_series_equal(prices, PRICES)
    pd.testing.assert_series_equal(targets, QUARTERS)


def test_refusals() -> None:
    with pytest.raises(InputError, match="budget of 1"):
        PortfolioOptAdapter(QUARTERS * 0.9, budget=1.0)
    with pytest.raises(InputError, match="empty"):
        PortfolioOptAdapter(pd.Series(dtype=float))
    with pytest.raises(InputError, match="Result"):
        PortfolioOptAdapter([0.5, 0.5])
    with pytest.raises(InputError, match="finite for 'A'"):
        target_weights({"A": np.nan})
    with pytest.raises(InputError, match="'C'"):
        PortfolioOptAdapter(QUARTERS).analyze_drift(UNITS, PRICES.drop("C"))

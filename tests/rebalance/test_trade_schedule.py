"""Schedules: the published example, a general solver, whole lots that add up, caps, and cash that never runs out."""

from __future__ import annotations

import warnings
from typing import Any

import cvxpy as cp
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portfolioopt.costs import AlmgrenChriss, RefusedTradeError, almgren_chriss_trajectory
from portfolioopt.errors import InputError, UnknownNameError
from portfolioopt.rebalance import (
    OrderRules,
    TradeSchedule,
    create_orders,
    execute,
    portfolio_trajectory,
    schedule_orders,
)
from portfolioopt.rebalance.trajectories import apart

# Almgren & Chriss (2000), table 1: a share of 50, 30 % a year, a spread of 1/8, 5 million shares a day
MODEL = AlmgrenChriss(2.5e-7, 2.5e-6, 0.0625, horizon=5.0, periods=5)
PAPER: dict[str, Any] = {"volatility": 0.95, "permanent": 2.5e-7, "temporary": 2.5e-6, "half_spread": 0.0625}
MARKET = pd.DataFrame(
    {"price": [50.0, 40.0, 80.0], "volatility": [0.019, 0.02, 0.015], "volume": [5e6, 3e6, 2e6]}, index=["X", "Y", "Z"]
)


def by_clarabel(problem: cp.Problem) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        problem.solve(solver="CLARABEL", tol_gap_abs=1e-12, tol_gap_rel=1e-12, tol_feas=1e-12)
    assert problem.status in ("optimal", "optimal_inaccurate")


# -- trajectories ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("aversion", [0.0, 1e-6, 2e-6, 1e-4])
def test_one_asset_is_the_published_schedule(aversion: float) -> None:
    paper = almgren_chriss_trajectory(-1e6, 5.0, 5, risk_aversion=aversion, **PAPER)
    alone = portfolio_trajectory({"X": -1e6}, pd.DataFrame([[0.95**2]], ["X"], ["X"]), MODEL, risk_aversion=aversion)
    np.testing.assert_allclose(alone["X"], paper.schedule["remaining"], atol=1e-6)
    np.testing.assert_allclose(alone.index, paper.schedule["time"])
    found = schedule_orders({"X": -1e6}, MARKET, MODEL, risk_aversion=aversion)
    np.testing.assert_allclose(found.units["X"], paper.schedule["trade"][1:], atol=1e-6)
    # costs are summed trade by trade, from what each does to the price of those after it
    assert found.total_cost == pytest.approx(paper.expected_cost, rel=1e-12)
    assert found.total_deviation == pytest.approx(paper.deviation, rel=1e-12)
    assert found.cost["X"] == found.total_cost


def test_the_published_figures_in_whole_lots() -> None:
    # strategy A of the paper, for a risk aversion of 2e-6
    found = schedule_orders({"X": -1e6}, MARKET, MODEL, risk_aversion=2e-6, lot=1)
    assert (-found.remaining["X"]).tolist() == pytest.approx([428_599, 182_933, 76_296, 27_643, 0], abs=1.0)
    assert found.units["X"].sum() == -1e6
    assert found.total_cost == pytest.approx(1_140_715.17, abs=1.0)
    assert found.total_deviation == pytest.approx(449_367.65, abs=1.0)
    np.testing.assert_allclose(found.participation["X"], -found.units["X"] / 5e6)


@pytest.mark.parametrize("seed", range(3))
def test_correlated_orders_against_a_general_solver(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, periods, days = 4, 8, 4.0
    loadings = rng.normal(size=(n, n))
    covariance, units = loadings @ loadings.T, rng.normal(size=n) * 1e5
    units[3] = 0.0  # nothing to trade, a hedge perhaps
    permanent, temporary = rng.uniform(0.0, 5e-7, n), rng.uniform(1e-6, 3e-6, n)
    names = list("ABCD")
    model = AlmgrenChriss(pd.Series(permanent, names), pd.Series(temporary, names), 0.01, horizon=days, periods=periods)
    aversion = 10.0 ** rng.uniform(-7.0, -5.0)
    frame = pd.DataFrame(covariance, names, names)
    found = portfolio_trajectory(pd.Series(units, names), frame, model, risk_aversion=aversion)
    step = days / periods
    left = cp.Variable((periods - 1, n))
    path = cp.vstack([units[None] / 1e5, left, np.zeros((1, n))])
    trades = path[:-1] - path[1:]
    # the prices of the paper, trade by trade: what was traded before has moved them for good
    before = cp.vstack([np.zeros((1, n)), units[None] / 1e5 - path[1:-1]])
    moved = sum(permanent[i] * (0.5 * (units[i] / 1e5) ** 2 - 0.5 * cp.sum_squares(trades[:, i])) for i in range(n))
    assert before.shape == trades.shape
    impact = cp.sum(cp.multiply(cp.square(trades), temporary[None] / step))
    risk = step * cp.sum_squares(path[1:] @ np.linalg.cholesky(covariance))
    # moved is concave alone; with the impact it is convex, as one expression
    curve = cp.sum(cp.multiply(cp.square(trades), (temporary / step - 0.5 * permanent)[None]))
    by_clarabel(cp.Problem(cp.Minimize(1e6 * (curve + aversion * risk))))
    np.testing.assert_allclose(found.to_numpy()[1:-1], 1e5 * np.asarray(left.value), atol=1e-2)
    assert float(moved.value + impact.value) == pytest.approx(
        float(curve.value) + 0.5 * float(permanent @ (units / 1e5) ** 2), rel=1e-9
    )
    turned = portfolio_trajectory(pd.Series(units, names)[::-1], frame, model, risk_aversion=aversion)
    np.testing.assert_allclose(turned[names], found, atol=1e-6)


def test_a_hedged_pair_waits_and_a_doubled_bet_does_not() -> None:
    covariance = pd.DataFrame([[0.9, 0.89], [0.89, 0.9]], list("XY"), list("XY"))
    alone = almgren_chriss_trajectory(1e6, 5.0, 5, risk_aversion=1e-6, **PAPER | {"volatility": 0.9**0.5})
    hedged = portfolio_trajectory({"X": 1e6, "Y": -1e6}, covariance, MODEL, risk_aversion=1e-6)
    doubled = portfolio_trajectory({"X": 1e6, "Y": 1e6}, covariance, MODEL, risk_aversion=1e-6)
    inner = alone.schedule["remaining"].to_numpy()[1:-1]
    assert (hedged["X"].to_numpy()[1:-1] > inner).all()
    assert (doubled["X"].to_numpy()[1:-1] < inner).all()


@pytest.mark.parametrize("seed", range(4))
def test_caps_against_a_general_solver(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, periods, days = 4, 8, 4.0
    size, variance, curve = rng.uniform(0.5, 2.0, n) * 1e5, rng.uniform(0.5, 4.0, n), rng.uniform(1.0, 3.0, n) * 1e-6
    caps = rng.uniform(0.05, 0.3, (periods, n)) * size
    caps *= np.maximum(1.0, 1.05 * size / caps.sum(axis=0))
    aversion = 10.0 ** rng.uniform(-8.0, -5.0)
    side = np.array([1.0, -1.0, 1.0, -1.0])
    found = apart(side * size, variance, curve, aversion, days, caps)
    step = days / periods
    left = cp.Variable((periods - 1, n))
    path = cp.vstack([size[None] / 1e5, left, np.zeros((1, n))])
    trades = path[:-1] - path[1:]
    goal = cp.sum(cp.multiply(cp.square(trades), curve[None] / step))
    goal = goal + aversion * step * cp.sum(cp.multiply(cp.square(path[1:]), variance[None]))
    by_clarabel(cp.Problem(cp.Minimize(1e6 * goal), [trades <= caps / 1e5]))
    np.testing.assert_allclose((side * found)[1:-1], 1e5 * np.asarray(left.value), atol=0.05)
    made = -np.diff(side * found, axis=0)
    assert (made <= caps * (1 + 1e-12)).all()
    assert (made >= -1e-9).all()
    assert 0.1 < (made >= caps * (1 - 1e-9)).mean() < 0.9


def test_caps_where_urgency_knows_no_numbers() -> None:
    # exp(rate * horizon) is beyond all floats; caps of a tenth leave nothing to decide but the end
    found = apart(np.array([1e6]), np.array([1e8]), np.array([1e-8]), 1.0, 20.0, np.full((20, 1), 1e5))
    np.testing.assert_allclose(-np.diff(found[:, 0]), [1e5] * 10 + [0.0] * 10, atol=1e-3)


# -- children ----------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    units=st.lists(st.integers(-200_000, 200_000), min_size=3, max_size=3).filter(lambda u: any(u)),
    odd=st.floats(0.0, 1.0),
    lot=st.sampled_from([1.0, 10.0, 100.0]),
    log_risk=st.floats(-9.0, -4.0),
    cap=st.sampled_from([None, 0.02, 0.05]),
)
def test_whole_lots_add_up_to_the_order(
    units: list[int], odd: float, lot: float, log_risk: float, cap: float | None
) -> None:
    order = pd.Series(units, MARKET.index, dtype=float)
    order["Y"] += odd
    found = schedule_orders(order, MARKET, MODEL, risk_aversion=10.0**log_risk, lot=lot, participation=cap, extend=True)
    for asset, column in found.units.items():
        assert np.cumsum(column).iloc[-1] == pytest.approx(order[asset], abs=1e-9)
        assert (np.sign(column) * np.sign(order[asset]) >= 0.0).all()
        rest = np.abs(column) / lot
        assert (np.abs(rest - np.round(rest)) > 1e-7).sum() <= 1  # the odd rest, with one child
        if cap is not None:
            assert (column.abs() <= cap * MARKET.loc[asset, "volume"] * (1 + 1e-9)).all()  # type: ignore[operator]
    free = schedule_orders(order, MARKET, MODEL, risk_aversion=10.0**log_risk, participation=cap, extend=True)
    if free.periods == found.periods and cap is None:  # largest remainders are off by less than a lot, and the rest
        assert (np.abs(free.units - found.units) < 2.0 * lot).all(axis=None)


def test_remainders_by_hand() -> None:
    even = AlmgrenChriss(0.0, 1e-6, horizon=4.0, periods=4)
    market = MARKET[["price", "volatility"]]
    found = schedule_orders({"X": 10.0, "Y": -703.0}, market, even, lot={"X": 1.0, "Y": 100.0})
    assert found.units["X"].tolist() == [3.0, 3.0, 2.0, 2.0]  # 2.5 each
    assert found.units["Y"].tolist() == [-200.0, -200.0, -200.0, -103.0]  # 1.75 lots each, and the odd rest
    assert found.participation.isna().all(axis=None)
    assert np.isnan(found.total_deviation)
    assert list(found.orders["side"][:2]) == ["sell", "buy"]


def test_a_profile_of_volumes_moves_the_caps() -> None:
    found = schedule_orders(
        {"X": 9e5}, MARKET, AlmgrenChriss(0.0, 1e-6, horizon=3.0, periods=3), participation=0.1, profile=[1.5, 0.5, 1.0]
    )
    assert found.units["X"].tolist() == pytest.approx([3.25e5, 2.5e5, 3.25e5])
    np.testing.assert_allclose(found.participation["X"], [3.25e5 / 7.5e6, 0.1, 3.25e5 / 5e6])


def test_what_the_participation_does_not_allow() -> None:
    order = {"X": -1e6, "Y": 9e5}
    with pytest.raises(InputError, match=r"'X', 'Y' cannot be traded .* in 5 periods, which would take 15"):
        schedule_orders(order, MARKET, MODEL, participation=0.02)
    found = schedule_orders(order, MARKET, MODEL, participation=0.02, extend=True)
    assert found.periods == 15
    np.testing.assert_allclose(found.units["Y"], 6e4)
    assert found.participation.max(axis=None) <= 0.02 * (1 + 1e-9)
    assert found.orders["time"].iloc[-1] == pytest.approx(15.0)  # periods keep their length
    with pytest.raises(InputError, match="less than a lot"):
        schedule_orders(order, MARKET, MODEL, participation=0.02, lot=1e6, extend=True)


# -- cash --------------------------------------------------------------------------------------------------------


def booked(found: TradeSchedule, cash: float) -> list[float]:
    """Cash after every child, order by order, from prices that each trade moves."""
    moved = dict.fromkeys(found.units.columns, 0.0)
    path = []
    for row in found.orders.itertuples():
        signed = float(row.quantity if row.side == "buy" else -row.quantity)  # type: ignore[arg-type]
        asset = str(row.asset)
        price = MARKET.loc[asset, "price"] + 2.5e-7 * moved[asset]  # type: ignore[operator]
        price += np.sign(signed) * 0.0625 + 2.5e-6 * signed
        moved[asset] += signed
        cash -= signed * price
        path.append(cash)
    return path


@settings(max_examples=30, deadline=None)
@given(
    sold=st.integers(100_000, 1_000_000),
    parts=st.tuples(st.floats(0.0, 0.6), st.floats(0.0, 0.38)),
    cash=st.sampled_from([0.0, 1e5, 1e7]),
    lot=st.sampled_from([0.0, 1.0, 100.0]),
    log_risk=st.floats(-9.0, -5.0),
)
def test_buys_wait_for_cash(sold: int, parts: tuple[float, float], cash: float, lot: float, log_risk: float) -> None:
    value = 0.97 * (sold * 50.0 - 2.5e-6 * sold**2)
    order = pd.Series({"X": -float(sold), "Y": np.floor(parts[0] * value / 40), "Z": np.floor(parts[1] * value / 80)})
    order = order * 0.9
    found = schedule_orders(order, MARKET, MODEL, risk_aversion=10.0**log_risk, lot=lot, cash=cash, extend=True)
    path = booked(found, cash)
    assert min(path) >= -1e-6
    assert path[-1] == pytest.approx(found.cash.iloc[-1], abs=1e-4)
    np.testing.assert_allclose(found.units.sum(), order[order != 0.0], rtol=1e-12, atol=1e-9)
    free = schedule_orders(order, MARKET, MODEL, risk_aversion=10.0**log_risk, lot=lot)
    np.testing.assert_array_equal(free.units["X"], found.units["X"][: free.periods])  # sells wait for nothing
    late = (free.remaining - found.remaining.iloc[: free.periods]).drop(columns="X")
    assert (late <= 1e-6 + lot).all(axis=None)  # nothing is bought before it is due


def test_without_cash_the_same_schedule_would_need_credit() -> None:
    order = {"X": -4e5, "Z": 2e5}
    urgent = {"risk_aversion": 1e-5}
    market = MARKET.assign(volatility=[0.002, 0.02, 0.03])
    assert schedule_orders(order, market, MODEL, **urgent).cash.min() < -1e6
    held_back = schedule_orders(order, market, MODEL, cash=0.0, **urgent)
    assert held_back.cash.min() >= -1e-6
    assert held_back.periods == 5
    with pytest.raises(InputError, match="'Z' are not bought"):
        schedule_orders({"X": -4e5, "Z": 3e5}, market, MODEL, cash=0.0, **urgent)
    with pytest.raises(InputError, match="all sells are done"):
        schedule_orders({"X": -4e5, "Z": 3e5}, market, MODEL, cash=0.0, extend=True, **urgent)


# -- from plans, and to orders -----------------------------------------------------------------------------------


def test_a_plan_is_executed_by_its_children() -> None:
    prices = MARKET["price"]
    holdings = pd.Series({"X": 1e6, "Y": 2e5})
    plan = create_orders({"X": 0.5, "Y": 0.3, "Z": 0.2}, holdings, prices, rules=OrderRules(lot=1))
    found = schedule_orders(plan, MARKET, MODEL, risk_aversion=1e-6, lot=1, cash=plan.cash + 1e6, participation=0.2)
    units = holdings
    for period in range(1, found.periods + 1):
        children = found.children(period)
        assert [order.sequence for order in children] == list(range(1, len(children) + 1))
        assert [order.side for order in children] == sorted((order.side for order in children), reverse=True)
        units, _ = execute(children, units, 0.0)
    pd.testing.assert_series_equal(units[plan.holdings.index], plan.holdings, check_names=False)
    assert found.orders["cost"].sum() == pytest.approx(found.total_cost, rel=1e-12)
    with pytest.raises(UnknownNameError, match="period"):
        found.children(6)


def test_risk_of_all_orders_together() -> None:
    order = pd.Series({"X": 1e6, "Y": -1e6})
    correlation = np.array([[1.0, 0.8], [0.8, 1.0]])
    daily = np.array([0.019, 0.02])
    covariance = pd.DataFrame(correlation * np.outer(daily, daily), ["X", "Y"], ["X", "Y"])
    found = schedule_orders(order, MARKET, MODEL, risk_aversion=1e-6, covariance=covariance)
    assert found.total_deviation < found.deviation.max()
    # simulated: the price moves after each trade and costs what is left of the order then
    moves = np.random.default_rng(0).multivariate_normal([0.0, 0.0], covariance, size=(20_000, 5)) * [50.0, 40.0]
    costs = np.einsum("mki,ki->m", moves, found.remaining.to_numpy())
    assert found.total_deviation == pytest.approx(costs.std(), rel=0.02)
    jointly = schedule_orders(order, MARKET, MODEL, risk_aversion=1e-6, covariance=covariance, jointly=True)

    def goal(schedule: TradeSchedule) -> float:
        return schedule.total_cost + 1e-6 * schedule.total_deviation**2

    assert goal(jointly) < goal(found)
    best = portfolio_trajectory(order, covariance * np.outer([50.0, 40.0], [50.0, 40.0]), MODEL, risk_aversion=1e-6)
    np.testing.assert_allclose(jointly.remaining, best.iloc[1:], atol=1e-6)
    with pytest.raises(InputError, match="would exceed the participation"):
        schedule_orders(
            order,
            MARKET,
            MODEL,
            risk_aversion=1e-5,
            covariance=pd.DataFrame(np.diag(daily**2), ["X", "Y"], ["X", "Y"]),
            jointly=True,
            participation=0.1,
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trades": {"X": 0.0}}, "nothing to trade"),
        ({"trades": [1.0]}, "units by asset"),
        ({"trades": {"W": 1.0}}, "'W'"),
        ({"model": 3.0}, "AlmgrenChriss"),
        ({"model": AlmgrenChriss(6e-6, 2.5e-6, horizon=5.0, periods=5)}, "take more periods"),
        ({"risk_aversion": -1e-7}, "at least 0"),
        ({"participation": 1.5}, "at most 1"),
        ({"profile": [1.0, 0.0]}, "positive numbers"),
        ({"lot": -1.0}, "lot is negative"),
        ({"jointly": True}, "by their covariance"),
        ({"cash": -1.0}, "cash must be at least 0"),
    ],
)
def test_refused(change: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"trades": {"X": 1e5}, "market": MARKET, "model": MODEL} | change
    with pytest.raises(InputError, match=message):
        schedule_orders(**given)


def test_what_is_not_known_of_the_market_is_refused() -> None:
    with pytest.raises(RefusedTradeError, match="volume"):
        schedule_orders({"X": 1e5}, MARKET.drop(columns="volume"), MODEL, participation=0.1)
    with pytest.raises(RefusedTradeError, match="volatility"):
        schedule_orders({"X": 1e5}, MARKET.assign(volatility=np.nan), MODEL)

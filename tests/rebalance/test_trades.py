"""From target to trades: order, sums, costs and cash by hand, and that nothing is lost."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from portfolioopt.errors import InputError, UnknownNameError
from portfolioopt.rebalance import plan_trades, trade_summary

HOLDINGS = pd.Series({"AAPL": 0.40, "BND": 0.30, "GLD": 0.20, "MSFT": 0.05})  # cash .05
TARGET = pd.Series({"AAPL": 0.25, "MSFT": 0.30, "GLD": 0.20, "BND": 0.20})  # cash .05
COLUMNS = ["order", "side", "holding", "target", "trade", "value", "cost", "cash_after"]


# -- by hand -------------------------------------------------------------------------------------------------


def test_by_hand() -> None:
    trades = plan_trades(TARGET, HOLDINGS, nav=1_000_000.0, cost_bps=10.0)
    expected = pd.DataFrame(
        {
            "order": [1, 2, 3],
            "side": ["sell", "sell", "buy"],
            "holding": [0.40, 0.30, 0.05],
            "target": [0.25, 0.20, 0.30],
            "trade": [-0.15, -0.10, 0.25],
            "value": [-150_000.0, -100_000.0, 250_000.0],
            "cost": [150.0, 100.0, 250.0],
            "cash_after": [0.05 + 0.15 - 0.00015, 0.30 - 0.00025, 0.05 - 0.0005],
        },
        index=pd.Index(["AAPL", "BND", "MSFT"], name="asset"),
    )
    pd.testing.assert_frame_equal(trades, expected, rtol=1e-12, check_dtype=False, check_index_type=False)
    assert trades.columns.tolist() == COLUMNS


def test_costs_and_prices_by_asset() -> None:
    bps = pd.Series({"MSFT": 2.0, "AAPL": 1.0, "BND": 20.0, "GLD": 500.0})
    prices = pd.Series({"AAPL": 200.0, "BND": 80.0, "GLD": 150.0, "MSFT": 400.0})
    trades = plan_trades(TARGET, HOLDINGS, nav=1_000_000.0, cost_bps=bps, prices=prices)
    np.testing.assert_allclose(trades["cost"], [15.0, 200.0, 50.0], rtol=1e-12)
    np.testing.assert_allclose(trades["quantity"], [-750.0, -1250.0, 625.0], rtol=1e-12)
    assert trades.columns.tolist() == [*COLUMNS[:-1], "quantity", "cash_after"]
    pd.testing.assert_frame_equal(
        plan_trades(TARGET, HOLDINGS, nav=1_000_000.0, cost_bps={str(a): b for a, b in bps.items()}, prices=prices),
        trades,
    )


def test_the_summary_by_hand() -> None:
    summary = trade_summary(plan_trades(TARGET, HOLDINGS, nav=1_000_000.0, cost_bps=10.0), 1_000_000.0)
    expected = {
        "turnover": 0.50,
        "one_way_turnover": 0.25,
        "buys": 0.25,
        "sells": 0.25,
        "cost": 500.0,
        "cost_bps": 5.0,
        "trades": 3.0,
    }
    assert summary.to_dict() == pytest.approx(expected, rel=1e-12)
    assert list(summary.index) == list(expected)


def test_one_way_turnover_is_half_even_where_cash_is_invested() -> None:
    summary = trade_summary(plan_trades(pd.Series({"A": 0.6}), pd.Series({"A": 0.2})), 1.0)
    assert summary[["turnover", "one_way_turnover", "buys", "sells"]].tolist() == pytest.approx([0.4, 0.2, 0.4, 0.0])


def test_cash_that_does_not_suffice_is_shown() -> None:
    target, holdings = pd.Series({"A": 0.5, "B": 0.5}), pd.Series({"A": 1.0, "B": 0.0})
    trades = plan_trades(target, holdings, cost_bps=100.0)
    np.testing.assert_allclose(trades["cash_after"], [0.495, -0.01], atol=1e-15)


# -- order ---------------------------------------------------------------------------------------------------


def test_equal_trades_keep_the_order_of_the_assets_despite_rounding() -> None:
    # .3 - .2, .2 - .1 and .9 - .8 differ in the last digits
    holdings = pd.Series({"D": 0.2, "C": 0.1, "B": 0.8, "A": 0.3, "Z": 0.2, "Y": 0.3})
    target = pd.Series({"D": 0.3, "C": 0.2, "B": 0.9, "A": 0.2, "Z": 0.1, "Y": 0.1})
    assert plan_trades(target, holdings).index.tolist() == ["Y", "A", "Z", "D", "C", "B"]


def test_nothing_to_do() -> None:
    trades = plan_trades(HOLDINGS, HOLDINGS, nav=100.0, prices=HOLDINGS + 1.0)
    assert trades.empty
    assert trades.columns.tolist() == [*COLUMNS[:-1], "quantity", "cash_after"]
    assert trades.index.name == "asset"
    assert (trade_summary(trades, 100.0) == 0.0).all()


def test_small_trades_are_left_out() -> None:
    trades = plan_trades(TARGET, HOLDINGS, nav=1_000.0, minimum_trade=100.5)
    assert trades.index.tolist() == ["AAPL", "MSFT"]
    np.testing.assert_allclose(trades["cash_after"], [0.20, -0.05], atol=1e-15)
    # exactly representable: a trade of the minimum is made
    target, holdings = pd.Series({"A": 0.5, "B": 0.25}), pd.Series({"A": 0.25, "B": 0.5})
    assert len(plan_trades(target, holdings, nav=1_000.0, minimum_trade=250.0)) == 2
    assert plan_trades(target, holdings, nav=1_000.0, minimum_trade=250.0001).empty


# -- properties ----------------------------------------------------------------------------------------------


@st.composite
def rebalances(draw: st.DrawFn) -> tuple[pd.Series, pd.Series, float, pd.Series]:
    """Target, holdings in another order, NAV and cost."""
    n = draw(st.integers(1, 12))
    weight = st.one_of(st.integers(-4, 4).map(lambda k: k / 8), st.floats(-1.0, 1.0))
    assets = [f"asset {i}" for i in range(n)]
    target, holdings = (pd.Series(draw(st.lists(weight, min_size=n, max_size=n)), index=assets) for _ in "th")
    nav = draw(st.floats(1e-3, 1e9))
    bps = draw(st.lists(st.floats(0.0, 200.0), min_size=n, max_size=n))
    return target, holdings.loc[draw(st.permutations(assets))], nav, pd.Series(bps, index=assets)


@given(rebalances())
def test_trades_lead_from_holdings_to_target(
    rebalance: tuple[pd.Series, pd.Series, float, pd.Series],
) -> None:
    target, holdings, nav, bps = rebalance
    trades = plan_trades(target, holdings, nav=nav, cost_bps=bps)
    after = holdings.add(trades["trade"], fill_value=0.0)[target.index]
    np.testing.assert_allclose(after, target, rtol=0, atol=2.3e-16)
    assert set(trades.index) == set(target.index[(target - holdings[target.index]) != 0.0])
    np.testing.assert_array_equal(trades["target"], target[trades.index])
    np.testing.assert_array_equal(trades["holding"], holdings[trades.index])


@given(rebalances())
def test_sells_come_first_and_large_before_small(
    rebalance: tuple[pd.Series, pd.Series, float, pd.Series],
) -> None:
    target, holdings, nav, bps = rebalance
    trades = plan_trades(target, holdings, nav=nav, cost_bps=bps)
    sides = trades["side"].tolist()
    assert sides == sorted(sides, reverse=True)
    assert trades["order"].tolist() == list(range(1, len(trades) + 1))
    assert ((trades["trade"] > 0) == (trades["side"] == "buy")).all()
    for _, side in trades.groupby("side"):
        assert (np.diff(side["trade"].abs()) <= 1e-12).all()


@given(rebalances())
def test_the_summary_and_the_cash_add_up(rebalance: tuple[pd.Series, pd.Series, float, pd.Series]) -> None:
    target, holdings, nav, bps = rebalance
    trades = plan_trades(target, holdings, nav=nav, cost_bps=bps)
    summary = trade_summary(trades, nav)
    change = (target - holdings[target.index]).abs()
    assert summary["turnover"] == pytest.approx(change.sum(), abs=1e-14)
    assert summary["buys"] + summary["sells"] == pytest.approx(summary["turnover"])
    assert summary["one_way_turnover"] == pytest.approx(summary["turnover"] / 2)
    assert summary["cost"] == pytest.approx(nav * float((change * bps).sum()) / 1e4)
    assert summary["cost_bps"] == pytest.approx(1e4 * summary["cost"] / nav)
    assert summary["trades"] == len(trades)
    if len(trades):
        paid = summary["cost"] / nav
        assert trades["cash_after"].iloc[-1] == pytest.approx(1 - target.sum() - paid, abs=1e-13)


@given(rebalances(), st.floats(0.0, 2.0))
def test_only_trades_below_the_minimum_are_left_out(
    rebalance: tuple[pd.Series, pd.Series, float, pd.Series], minimum: float
) -> None:
    target, holdings, nav, bps = rebalance
    every = plan_trades(target, holdings, nav=nav, cost_bps=bps)
    large = plan_trades(target, holdings, nav=nav, cost_bps=bps, minimum_trade=minimum * nav)
    kept = every[every["value"].abs() >= minimum * nav]
    columns = ["side", "holding", "target", "trade", "value", "cost"]
    pd.testing.assert_frame_equal(large[columns], kept[columns])


@given(rebalances())
def test_the_order_of_the_inputs_does_not_matter(
    rebalance: tuple[pd.Series, pd.Series, float, pd.Series],
) -> None:
    target, holdings, nav, bps = rebalance
    one = plan_trades(target, holdings, nav=nav, cost_bps=bps)
    other = plan_trades(target, holdings[target.index], nav=nav, cost_bps=bps[::-1])
    pd.testing.assert_frame_equal(one, other)


# -- refusals ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nav": 0.0}, "nav must be positive, was 0.0"),
        ({"nav": -5.0}, "nav must be positive"),
        ({"nav": float("nan")}, "nav must be a finite number"),
        ({"nav": None}, "nav must be a finite number"),
        ({"cost_bps": -1.0}, "cost_bps is negative for 'AAPL'"),
        ({"cost_bps": {**TARGET * 0, "GLD": -1.0}}, "cost_bps is negative for 'GLD'"),
        ({"cost_bps": 6000.0}, "cost_bps is above 5000 for .* counts hundredths of a percent"),
        ({"cost_bps": {"AAPL": 1.0}}, "cost_bps says nothing about 'MSFT', 'GLD', 'BND'"),
        ({"cost_bps": float("nan")}, "cost_bps must be a finite number"),
        ({"minimum_trade": -1.0}, "minimum_trade must not be negative"),
        ({"minimum_trade": float("inf")}, "minimum_trade must be a finite number"),
        ({"prices": TARGET * 0}, "prices is not positive for 'AAPL'"),
        ({"prices": TARGET.drop("GLD")}, "prices says nothing about 'GLD'"),
        ({"prices": TARGET.replace(0.25, np.nan)}, "prices is not finite for 'AAPL'"),
        ({"holdings": HOLDINGS.drop("BND")}, "holdings says nothing about 'BND'"),
        ({"holdings": HOLDINGS.replace(0.3, np.nan)}, "holdings is not finite for 'BND'"),
        ({"holdings": 1000 * HOLDINGS}, "holdings is beyond 20 .* divide positions by NAV"),
        ({"target": TARGET.replace(0.3, np.nan)}, "target is not finite for 'MSFT'"),
        ({"target": 1000 * TARGET}, "target is beyond 20"),
        ({"target": pd.concat([TARGET, TARGET[:1]])}, "target has duplicate assets: 'AAPL'"),
        ({"target": dict(TARGET)}, "target must be a Series of weights by asset, was dict"),
    ],
)
def test_arguments_that_are_refused(change: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {"target": TARGET, "holdings": HOLDINGS} | change
    with pytest.raises(InputError, match=message):
        plan_trades(**arguments)  # type: ignore[arg-type]


def test_unknown_assets_come_with_close_matches() -> None:
    with pytest.raises(UnknownNameError, match=r"holdings: 'APPL' \(did you mean 'AAPL'\?\)"):
        plan_trades(TARGET, HOLDINGS.rename({"AAPL": "APPL"}))
    with pytest.raises(UnknownNameError, match=r"prices: 'SPY'"):
        plan_trades(TARGET, HOLDINGS, prices=pd.concat([TARGET, pd.Series({"SPY": 1.0})]))


def test_summaries_that_are_refused() -> None:
    trades = plan_trades(TARGET, HOLDINGS, nav=1_000.0)
    with pytest.raises(InputError, match="planned with another nav than 1"):
        trade_summary(trades, 1.0)
    with pytest.raises(InputError, match="nav must be positive"):
        trade_summary(trades, 0.0)
    with pytest.raises(InputError, match="trades has no column 'cost'"):
        trade_summary(trades.drop(columns="cost"), 1_000.0)

"""Books of fixed weights beside those that bt and cvxportfolio keep, where these are installed.

Without costs the three are the same to rounding. With costs the libraries pay them differently: here out of all
positions in proportion, in bt each trade out of its own position, in cvxportfolio out of cash. Both other rules are
written out below, so that nothing but them makes the difference.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from portfolioopt.backtest import FixedWeights, backtest
from portfolioopt.costs import ProportionalCosts
from portfolioopt.data import MarketData, sample_prices

CAPITAL = 1_000_000.0
SAME = 1e-8
ASSETS = ["AAPL", "GE", "JNJ", "XOM"]
WEIGHTS = pd.Series([0.1, 0.2, 0.3, 0.35], ASSETS)


def sample(sessions: int) -> tuple[pd.DataFrame, pd.DatetimeIndex]:
    """Prices, and the last session of each of their months but the last."""
    prices = sample_prices()[ASSETS].iloc[2000 : 2000 + sessions]
    prices.columns = ASSETS
    month = pd.DatetimeIndex(prices.index).to_period("M")
    return prices, pd.DatetimeIndex(prices.index[:-1][month[:-1] != month[1:]])


def ours(prices: pd.DataFrame, dates: pd.DatetimeIndex, bps: float, weights: pd.Series = WEIGHTS) -> pd.Series:
    costs = ProportionalCosts(bps=bps)
    strategy = FixedWeights(weights)
    return backtest(
        strategy, MarketData(prices), start=dates[0], every=list(dates), lag=0, costs=costs, capital=CAPITAL
    ).nav


def by_rule(prices: pd.DataFrame, dates: pd.DatetimeIndex, bps: float, own_position: bool) -> pd.Series:
    """NAV of a book whose fees come out of the position that is traded, or else out of cash, after the trade."""
    rate, cash = bps / 1e4, CAPITAL
    units = dict.fromkeys(ASSETS, 0.0)
    found = {}
    for date, row in prices.loc[dates[0] :].iterrows():
        if date in dates:
            worth = cash + sum(units[asset] * row[asset] for asset in ASSETS)
            for asset in ASSETS:
                wanted = WEIGHTS[asset] * worth - units[asset] * row[asset]
                if own_position:
                    wanted /= 1.0 + rate if wanted > 0.0 else 1.0 - rate
                units[asset] += wanted / row[asset]
                cash -= wanted + rate * abs(wanted)
        found[date] = cash + sum(units[asset] * row[asset] for asset in ASSETS)
    return pd.Series(found)


def by_bt(prices: pd.DataFrame, dates: pd.DatetimeIndex, bps: float, weights: pd.Series = WEIGHTS) -> pd.Series:
    bt = pytest.importorskip("bt")
    algorithms = [
        bt.algos.RunOnDate(*dates),
        bt.algos.SelectAll(),
        bt.algos.WeighSpecified(**weights.to_dict()),
        bt.algos.Rebalance(),
    ]
    test = bt.Backtest(
        bt.Strategy("fixed", algorithms),
        prices,
        initial_capital=CAPITAL,
        commissions=lambda quantity, price: abs(quantity) * price * bps / 1e4,
        integer_positions=False,
        progress_bar=False,
    )
    test.run()
    return test.strategy.values.loc[dates[0] :]


def by_cvxportfolio(prices: pd.DataFrame, dates: pd.DatetimeIndex, bps: float) -> pd.Series:
    """Before the trades of each session, which are ours as well on all sessions that nobody trades on."""
    cvx = pytest.importorskip("cvxportfolio")
    returns = prices.pct_change().shift(-1).assign(cash=0.0)
    returns.iloc[-1] = np.nan
    market = cvx.UserProvidedMarketData(returns=returns, cash_key="cash", min_history=pd.Timedelta("0d"))
    simulator = cvx.MarketSimulator(market_data=market, costs=[cvx.TransactionCost(a=bps / 1e4)], round_trades=False)
    target = pd.Series([*WEIGHTS, 1.0 - WEIGHTS.sum()], [*ASSETS, "cash"])
    found = simulator.backtest(cvx.PeriodicRebalance(target, dates), start_time=dates[0], initial_value=CAPITAL)
    return found.v.astype(float).drop(dates)


def difference(one: pd.Series, other: pd.Series) -> float:
    """Largest relative difference on the sessions of both."""
    both = pd.concat([one, other], axis=1).dropna()
    assert len(both) > 60
    return float((both.iloc[:, 0] / both.iloc[:, 1] - 1.0).abs().max())


@pytest.mark.filterwarnings("ignore")
def test_bt_keeps_the_same_book() -> None:
    prices, dates = sample(500)
    free = by_bt(prices, dates, 0.0)
    assert difference(ours(prices, dates, 0.0), free) < SAME
    # all of the cash spent once and never traded again, both rules are the same
    whole = WEIGHTS / WEIGHTS.sum()
    assert difference(ours(prices, dates[:1], 30.0, whole), by_bt(prices, dates[:1], 30.0, whole)) < SAME
    charged, by_hand = by_bt(prices, dates, 30.0), by_rule(prices, dates, 30.0, own_position=True)
    assert difference(by_hand, charged) < SAME
    assert difference(ours(prices, dates, 30.0), charged) < 1e-4 < difference(free, charged)


@pytest.mark.filterwarnings("ignore")
def test_cvxportfolio_keeps_the_same_book() -> None:
    prices, dates = sample(130)
    free = by_cvxportfolio(prices, dates, 0.0)
    assert difference(ours(prices, dates, 0.0), free) < SAME
    charged, by_hand = by_cvxportfolio(prices, dates, 30.0), by_rule(prices, dates, 30.0, own_position=False)
    assert difference(by_hand, charged) < SAME
    assert difference(ours(prices, dates, 30.0), charged) < 1e-4 < difference(free, charged)


@pytest.mark.parametrize("own_position", [True, False])
def test_the_rules_of_both_are_ours_without_costs(own_position: bool) -> None:
    prices, dates = sample(300)
    assert difference(ours(prices, dates, 0.0), by_rule(prices, dates, 0.0, own_position)) < 1e-12
    assert 0.0 < difference(ours(prices, dates, 30.0), by_rule(prices, dates, 30.0, own_position)) < 1e-4

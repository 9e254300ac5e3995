r"""Trades that turn the holdings h into the target w: what to buy and sell, in which order, at what cost.

.. math:: \Delta_i = w_i - h_i, \qquad \text{value}_i = \Delta_i\, \mathrm{NAV}, \qquad
          \text{cost}_i = c_i\, |\text{value}_i|, \qquad \text{turnover} = \sum_i |\Delta_i| .
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.labels import PerAsset, align, per_asset, some

_MONEY = 20.0  # a weight beyond this is taken for an amount of money
_BPS = 5000.0  # a cost beyond this is taken for a mistake in the unit
_DIGITS = 12  # trades are ranked by size to this many decimals of NAV, so that rounding noise does not break ties


def plan_trades(
    target: pd.Series,
    holdings: pd.Series,
    *,
    nav: float = 1.0,
    cost_bps: PerAsset = 0.0,
    minimum_trade: float = 0.0,
    prices: pd.Series | None = None,
) -> pd.DataFrame:
    """List the trades from holdings to target in the order of execution: sells first, the larger ones first.

    Sells come before buys so that they raise the cash the buys need; trades of equal size keep the order of
    the assets. Quantities are fractional.

    Parameters
    ----------
    target
        Weight of every asset after trading, as fractions of NAV (N,); its index says which assets there are
        and in which order. An asset that is to be sold off is in it with weight 0.
    holdings
        Weight of every asset before trading, after drift, as fractions of NAV; same assets, any order.
    nav
        Net asset value before trading, in account currency. With 1, all amounts are fractions of NAV.
    cost_bps
        Cost in basis points of the amount traded (5 means 0.05 %), not negative: one number, or one per
        asset.
    minimum_trade
        Smallest trade worth making, in account currency (with ``nav=1``, a fraction of NAV); a trade of
        exactly this size is made. Smaller ones are left out: those assets keep their holdings, and cash makes
        up the difference.
    prices
        Price of one unit of every asset in account currency, where quantities are wanted.

    Returns
    -------
    DataFrame, one row per trade, indexed by asset, in order of execution
        ``order``
            1 to n.
        ``side``
            "sell" or "buy".
        ``holding``, ``target``, ``trade``
            Weight before, weight wanted, and the difference, as fractions of NAV; sells are negative.
        ``value``
            Trade in account currency; sells are negative.
        ``cost``
            Cost in account currency, never negative.
        ``quantity``
            Units to trade, sells negative; only with `prices`.
        ``cash_after``
            Cash once this trade is settled and paid for, as a fraction of NAV before trading. It starts from
            what the holdings leave of NAV; below zero the plan needs credit. Where cash is itself one of the
            assets, this is the cash outside it: leave the costs, or a reserve for them, out of the target.

        Assets in no row are those with nothing to trade and those below `minimum_trade`.

    Raises
    ------
    UnknownNameError
        For assets in holdings, costs or prices that are not in the target, with the close matches.
    InputError
        For assets without a value, duplicates, values that are missing or infinite, a NAV or prices that are
        not positive, a negative cost or minimum, and weights or costs that look like another unit.
    """
    capital = _positive(nav, "nav")
    smallest = _finite(minimum_trade, "minimum_trade")
    if smallest < 0.0:
        raise InputError(f"minimum_trade must not be negative, was {minimum_trade!r}")
    if not isinstance(target, pd.Series):
        raise InputError(f"target must be a Series of weights by asset, was {type(target).__name__}")
    assets = pd.Index(target.index, name=target.index.name or "asset")
    wanted = _checked_weights(target, assets, "target")
    held = _checked_weights(holdings, assets, "holdings")
    rate = per_asset(cost_bps, assets, what="cost_bps")
    if (rate < 0.0).any():
        raise InputError(f"cost_bps is negative for {some(assets[rate < 0.0])}")
    if (rate > _BPS).any():
        raise InputError(
            f"cost_bps is above {_BPS:g} for {some(assets[rate > _BPS])}, more than half of the amount "
            "traded; it counts hundredths of a percent"
        )
    price = None
    if prices is not None:
        price = align(prices, assets, what="prices")
        if (price <= 0.0).any():
            raise InputError(f"prices is not positive for {some(assets[price <= 0.0])}")

    trade = wanted - held
    value = trade * capital
    made = np.flatnonzero((trade != 0.0) & (np.abs(value) >= smallest))
    rank = np.lexsort((made, -np.round(np.abs(trade[made]), _DIGITS), trade[made] > 0.0))
    made = made[rank]
    trade, value = trade[made], value[made]
    cost = np.abs(value) * rate[made] / 1e4
    columns: dict[str, np.ndarray] = {
        "order": np.arange(1, len(made) + 1),
        "side": np.where(trade > 0.0, "buy", "sell"),
        "holding": held[made],
        "target": wanted[made],
        "trade": trade,
        "value": value,
        "cost": cost,
    }
    if price is not None:
        columns["quantity"] = value / price[made]
    columns["cash_after"] = 1.0 - held.sum() - np.cumsum(trade + cost / capital)
    return pd.DataFrame(columns, index=assets.take(made))


def trade_summary(trades: pd.DataFrame, nav: float) -> pd.Series:
    """Totals of a trade list.

    Parameters
    ----------
    trades
        What :func:`plan_trades` returned.
    nav
        Net asset value before trading, in account currency, as given to :func:`plan_trades`.

    Returns
    -------
    Series
        ``turnover``
            Full L1 sum of the trades, buys plus sells, as a fraction of NAV.
        ``one_way_turnover``
            Half of it.
        ``buys``, ``sells``
            Bought and sold, each positive, as fractions of NAV.
        ``cost``
            In account currency.
        ``cost_bps``
            Cost in basis points of NAV.
        ``trades``
            Number of trades.

    Raises
    ------
    InputError
        For a frame without the columns needed, and a NAV other than the trades were planned with.
    """
    capital = _positive(nav, "nav")
    absent = [name for name in ("trade", "value", "cost") if name not in trades.columns]
    if absent:
        raise InputError(f"trades has no column {some(pd.Index(absent))}; pass the frame that plan_trades returned")
    trade = trades["trade"].to_numpy(dtype=np.float64)
    if not np.allclose(trade * capital, trades["value"].to_numpy(dtype=np.float64), rtol=1e-9, atol=0.0):
        raise InputError(f"the trades were planned with another nav than {capital:g}: value is not trade times nav")
    buys, sells = float(trade[trade > 0.0].sum()), float(-trade[trade < 0.0].sum())
    cost = float(trades["cost"].sum())
    return pd.Series(
        {
            "turnover": buys + sells,
            "one_way_turnover": (buys + sells) / 2.0,
            "buys": buys,
            "sells": sells,
            "cost": cost,
            "cost_bps": cost / capital * 1e4,
            "trades": float(len(trades)),
        },
        name="trades",
    )


def _checked_weights(weights: pd.Series, assets: pd.Index, what: str) -> np.ndarray:
    values = align(weights, assets, what=what)
    large = np.abs(values) > _MONEY
    if large.any():
        raise InputError(
            f"{what} is beyond {_MONEY:g} for {some(assets[large])}: weights are fractions of NAV; divide "
            "positions by NAV"
        )
    return values


def _finite(value: float, what: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = np.nan
    if not np.isfinite(number):
        raise InputError(f"{what} must be a finite number, was {value!r}")
    return number


def _positive(value: float, what: str) -> float:
    number = _finite(value, what)
    if number <= 0.0:
        raise InputError(f"{what} must be positive, was {value!r}")
    return number

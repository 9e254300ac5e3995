r"""A large rebalance as a schedule: child orders period by period, their expected cost and its risk.

Orders X are cut along the trajectory that minimises :math:`E + \lambda V` (Almgren & Chriss, 2000; see
:mod:`portfolioopt.rebalance.trajectories`), rounded to whole lots, and priced as they then are. With :math:`n_k` units
traded in the k-th of N periods of :math:`\tau` days, buys positive, and :math:`x_k` left after it, an asset costs

.. math:: E = \sum_k n_k \gamma \sum_{j<k} n_j + \varepsilon |n_k| + \frac{\eta}{\tau} n_k^2, \qquad
          V = \sigma^2 \tau \sum_k x_k^2,

and all together have :math:`V = \tau \sum_k x_k' C x_k`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pandas as pd

from portfolioopt.costs import AlmgrenChriss
from portfolioopt.costs.quotes import Quotes
from portfolioopt.errors import InputError, unknown_names
from portfolioopt.estimate import FactorCovariance
from portfolioopt.estimate.quadratic import QuadraticForm
from portfolioopt.labels import FloatArray, PerAsset, align, checked_number, numbers, per_asset, some

from .children import Execution, paced, whole_lots
from .order_rules import Order, OrderPlan
from .trajectories import apart, curvature, together

_LONGEST: Final = 10_000  # periods that a schedule may be extended to
_WHO: Final = "schedule_orders"


@dataclass(frozen=True, eq=False)
class TradeSchedule:
    """Child orders by period, and what they are expected to cost; money in account currency."""

    orders: pd.DataFrame
    """One row per child order, sells first in every period: ``period`` (1 to N), ``time`` (days, at its end),
    ``asset``, ``side``, ``quantity`` (units, positive), ``price`` (at the decision), ``value`` (at it),
    ``participation`` (part of the period's volume, NaN where volumes are not known), and expected ``cost``."""
    units: pd.DataFrame
    """Units traded (periods x N), sells negative; columns sum to the orders given."""
    remaining: pd.DataFrame
    """Units still to trade after each period, sells negative."""
    participation: pd.DataFrame
    """Part of the volume of the period (periods x N), NaN where it is not known."""
    cost: pd.Series
    """Expected cost by asset."""
    deviation: pd.Series
    """Standard deviation of the cost by asset."""
    total_deviation: float
    """Standard deviation of the total cost; NaN for several assets without a covariance."""
    cash: pd.Series
    """Cash after each period, at the prices that are expected for the trades; from zero where none was given."""

    @property
    def total_cost(self) -> float:
        """Expected cost of all orders."""
        return float(self.cost.sum())

    @property
    def periods(self) -> int:
        """N, with those that were added."""
        return len(self.units)

    def children(self, period: int) -> tuple[Order, ...]:
        """Orders of one period (1 to N) at the prices of the decision; the fee is the expected cost."""
        if period not in self.units.index:
            raise unknown_names("period", [period], self.units.index)
        rows = self.orders[self.orders["period"] == period]
        return tuple(
            Order(
                number,
                row["asset"],
                row["side"],
                float(row["quantity"]),
                float(row["price"]),
                float(row["value"]),
                max(float(row["cost"]), 0.0),
                f"period {period} of {self.periods}",
            )
            for number, (_, row) in enumerate(rows.iterrows(), start=1)
        )


def schedule_orders(
    trades: OrderPlan | pd.Series | Mapping[str, float],
    market: pd.DataFrame,
    model: AlmgrenChriss,
    *,
    risk_aversion: float = 0.0,
    covariance: pd.DataFrame | FactorCovariance | None = None,
    jointly: bool = False,
    participation: float | None = None,
    profile: Sequence[float] | None = None,
    lot: PerAsset = 0.0,
    cash: float | None = None,
    extend: bool = False,
) -> TradeSchedule:
    r"""Cut orders into children over the horizon of an impact model.

    Parameters
    ----------
    trades
        A plan of orders, or units by asset, sells negative.
    market
        A row for every asset that is traded: ``price``, ``volatility`` (standard deviation of the daily return; not
        looked at where a covariance is given), and with `participation` ``volume`` (units per day).
    model
        Impact of every asset (:math:`\gamma, \eta, \varepsilon`), days of the horizon, and number of periods.
    risk_aversion
        :math:`\lambda`, per account currency, zero or more; zero trades evenly.
    covariance
        Of the daily returns by asset, for the risk of all orders together.
    jointly
        Whether correlated orders are worked together, see :func:`portfolio_trajectory`; needs a covariance.
    participation
        Largest part of the volume of any period that may be traded; None for no limit. What it delays is traded as
        early as is best under it.
    profile
        Volume of each period relative to an even one, such as ``[1.5, 0.75, 0.75]``; it is repeated where the
        schedule is longer.
    lot
        Children are whole multiples of it, by largest remainders; the odd rest of an order goes with one of them.
    cash
        Cash at the start. Where it is given, buys wait for what sells bring, so that cash, at the prices and costs that
        are expected, is never negative after a trade.
    extend
        Add periods where the limits leave orders unfinished at the horizon; otherwise that is refused.

    Raises
    ------
    InputError
        For orders that cannot be done in time, within the participation or the cash; and impact that makes no sense.
    RefusedTradeError
        Where prices, volatilities or volumes are missing.
    """
    orders = _orders(trades)
    assets, start = orders.index, orders.to_numpy()
    aversion = checked_number(risk_aversion, f"{_WHO}: risk_aversion", least=0.0)
    if not isinstance(model, AlmgrenChriss):
        raise InputError(f"{_WHO}: model must be an AlmgrenChriss, was {type(model).__name__}")
    if jointly and (covariance is None or cash is not None):
        raise InputError(f"{_WHO}: orders are worked jointly by their covariance, and not within a given cash")
    quotes = _quotes(market, assets)
    price = quotes.column("price", _WHO)
    if covariance is None:
        risk = np.diag((quotes.column("volatility", _WHO) * price) ** 2)
    else:
        risk = QuadraticForm(covariance, assets, _WHO).dense() * np.outer(price, price)
    lots = per_asset(lot, assets, what=f"{_WHO}: lot")
    if (lots < 0.0).any():
        raise InputError(f"{_WHO}: lot is negative for {some(assets[lots < 0.0])}")
    step = model.horizon / model.periods
    volume = quotes.column("volume", _WHO) if participation is not None or "volume" in quotes.frame else None
    even = np.full(len(assets), np.nan) if volume is None else volume * step
    share = _share(participation)
    shape = _profile(profile)

    periods = _enough(np.abs(start), even * share, shape, lots, model.periods, assets, extend=extend)
    longer = replace(model, horizon=step * periods, periods=periods)
    traded_by_all = np.resize(shape, periods)[:, None] * even
    caps = np.full((periods, len(assets)), np.inf) if np.isinf(share) else share * traded_by_all
    curve = curvature(longer, assets, _WHO)
    if jointly:
        left = together(start, risk, curve, aversion, longer.horizon, periods)
        _check_caps(np.abs(np.diff(left, axis=0)), caps, assets)
    else:
        left = apart(start, np.diag(risk), curve, aversion, longer.horizon, caps)
    units = whole_lots(-np.diff(left, axis=0), start, lots, caps, assets)
    execution = Execution(
        price,
        per_asset(model.permanent, assets, what=f"{_WHO}: model.permanent"),
        per_asset(model.temporary, assets, what=f"{_WHO}: model.temporary") / step,
        per_asset(model.half_spread, assets, what=f"{_WHO}: model.half_spread"),
    )
    if cash is not None:
        money = checked_number(cash, f"{_WHO}: cash", least=0.0)
        longest = _LONGEST if extend else periods

        def cap(period: int) -> FloatArray:
            return share * shape[period % len(shape)] * even if np.isfinite(share) else np.full(len(assets), np.inf)

        units = paced(units, execution, lots, cap, money, longest, assets)
    return _schedule(units, orders, execution, risk, covariance is not None, even, shape, step, cash or 0.0)


def _schedule(
    units: FloatArray,
    orders: pd.Series,
    execution: Execution,
    risk: FloatArray,
    joint: bool,
    even: FloatArray,
    shape: FloatArray,
    step: float,
    cash: float,
) -> TradeSchedule:
    periods, assets, start = len(units), orders.index, orders.to_numpy()
    index = pd.RangeIndex(1, periods + 1, name="period")
    left = start - np.cumsum(units, axis=0)
    left[-1] = 0.0
    costs = execution.costs(units)
    part = np.abs(units) / (np.resize(shape, periods)[:, None] * even)
    flows = -(units * execution.price + costs).sum(axis=1)
    total = np.sqrt(step * np.einsum("ki,ij,kj->", left, risk, left))
    rows = []
    for k, i in np.argwhere(units != 0.0):
        rows.append((k + 1, (k + 1) * step, assets[i], units[k, i], execution.price[i], part[k, i], costs[k, i]))
    columns = pd.Index(["period", "time", "asset", "quantity", "price", "participation", "cost"])
    frame = pd.DataFrame(rows, columns=columns)
    frame.insert(3, "side", np.where(frame["quantity"] > 0.0, "buy", "sell"))
    frame["quantity"] = frame["quantity"].abs()
    frame.insert(6, "value", frame["quantity"] * frame["price"])
    frame = frame.sort_values(["period", "side"], ascending=[True, False], kind="stable", ignore_index=True)

    def table(values: FloatArray) -> pd.DataFrame:
        return pd.DataFrame(values, index=index, columns=assets)

    return TradeSchedule(
        frame,
        table(units),
        table(left),
        table(part),
        pd.Series(costs.sum(axis=0), index=assets, name="cost"),
        pd.Series(np.sqrt(step * np.diag(risk) * (left**2).sum(axis=0)), index=assets, name="deviation"),
        float(total) if joint or len(assets) == 1 else np.nan,
        pd.Series(cash + np.cumsum(flows), index=index, name="cash"),
    )


def _orders(trades: OrderPlan | pd.Series | Mapping[str, float]) -> pd.Series:
    """Units by asset without those of which nothing is traded."""
    if isinstance(trades, OrderPlan):
        series = pd.Series({order.asset: order.units for order in trades.orders}, dtype=np.float64)
    elif isinstance(trades, pd.Series | Mapping):
        series = trades if isinstance(trades, pd.Series) else pd.Series(dict(trades), dtype=np.float64)
    else:
        raise InputError(f"{_WHO}: trades must be an OrderPlan, or units by asset, was {type(trades).__name__}")
    values = align(series, series.index, what="trades")
    if not (values != 0.0).any():
        raise InputError(f"{_WHO}: there is nothing to trade")
    index = series.index[values != 0.0]
    return pd.Series(values[values != 0.0], index=index.rename(index.name or "asset"), name="units")


def _quotes(market: pd.DataFrame, assets: pd.Index) -> Quotes:
    """What is known of the assets that are traded."""
    if not isinstance(market, pd.DataFrame):
        raise InputError(f"{_WHO}: market must be a frame by asset, was {type(market).__name__}")
    if market.index.has_duplicates:
        raise InputError(f"{_WHO}: market has duplicate assets: {some(market.index[market.index.duplicated()])}")
    unknown = assets.difference(market.index, sort=False)
    if len(unknown):
        raise unknown_names("asset in trades", list(unknown), market.index)
    return Quotes(market.loc[assets], assets, np.ones(len(assets), dtype=bool))


def _share(participation: float | None) -> float:
    if participation is None:
        return np.inf
    share = checked_number(participation, f"{_WHO}: participation", above=0.0)
    if share > 1.0:
        raise InputError(f"{_WHO}: participation is a part of the volume, at most 1, and was {share:g}")
    return share


def _profile(profile: Sequence[float] | None) -> FloatArray:
    if profile is None:
        return np.ones(1)
    shape = numbers(pd.Series(list(profile)), f"{_WHO}: profile")
    if not len(shape) or not np.isfinite(shape).all() or (shape <= 0.0).any():
        raise InputError(f"{_WHO}: profile must be volumes relative to an even period, positive numbers")
    return shape


def _enough(
    size: FloatArray,
    most: FloatArray,
    shape: FloatArray,
    lots: FloatArray,
    periods: int,
    assets: pd.Index,
    *,
    extend: bool,
) -> int:
    """Periods in which all orders fit under their caps, at least those given."""
    if not np.isfinite(most).all():
        return periods
    whole = np.where(lots > 0.0, lots, 1.0)
    # whole lots fit under the caps, and with them the odd rest
    each = np.where(lots > 0.0, np.floor(shape[:, None] * most / whole + 1e-9) * whole, shape[:, None] * most)
    round_ = each.sum(axis=0)
    stuck = round_ <= 0.0
    if stuck.any():
        raise InputError(f"{_WHO}: the participation allows less than a lot in every period for {some(assets[stuck])}")
    turns = int(np.max(size / round_))
    needed = turns * len(shape)
    while ((turns * round_ + each[: needed - turns * len(shape)].sum(axis=0)) < size * (1.0 - 1e-12)).any():
        needed += 1
    if needed <= periods:
        return periods
    if not extend:
        short = size > np.array([each[k % len(shape)] for k in range(periods)]).sum(axis=0) * (1.0 + 1e-12)
        raise InputError(
            f"{_WHO}: {some(assets[short])} cannot be traded within the participation in {periods} periods, which "
            f"would take {needed}; allow more of the volume, give a longer horizon, or pass extend=True"
        )
    if needed > _LONGEST:
        raise InputError(f"{_WHO}: the participation would take {needed:,} periods; trade less, or allow more of it")
    return needed


def _check_caps(trades: FloatArray, caps: FloatArray, assets: pd.Index) -> None:
    over = np.flatnonzero((trades > caps * (1.0 + 1e-9)).any(axis=0))
    if len(over):
        raise InputError(
            f"{_WHO}: worked jointly, {some(assets[over])} would exceed the participation; work the orders apart, "
            "take a smaller risk_aversion, or a longer horizon"
        )

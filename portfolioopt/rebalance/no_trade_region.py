r"""The holdings at which not trading is optimal, for squared tracking error against costs that begin with a slope.

Of :math:`\lambda (w - t)'\Sigma(w - t) + \frac1m C(w - h)` no trade from h is the minimum where for one price
:math:`\nu` of the budget (zero without one)

.. math:: -\tfrac{b_i}{m} \;\le\; g_i(h) - \nu \;\le\; \tfrac{s_i}{m} \quad\text{for all } i, \qquad
          g(h) = 2\lambda\,\Sigma\,(h - t),

with the cost slopes b of buying and s of selling: a parallelepiped around the targets, and with a budget the slices of
all :math:`\nu` in the plane :math:`1'h = 1't`. Costs that begin flat (impact of a power above one) add nothing. For a
single asset without a budget it is :math:`t \pm c / (2 \lambda \sigma^2 m)`.

A weight that may not go below its lower bound cannot be sold there: on the bound its s counts as infinite, and b on the
upper one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, overload

import numpy as np
import numpy.typing as npt
import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.estimate import FactorCovariance
from portfolioopt.estimate.quadratic import QuadraticForm
from portfolioopt.labels import FloatArray, PerAsset, align, checked_number, per_asset, some
from portfolioopt.problem import Bounds
from portfolioopt.scenarios import ScenarioSet
from portfolioopt.solve import Result

from .adapter import target_weights
from .trading_costs import Costs, trading_costs

_ON: Final = 1e-9  # a weight, or a sum of weights, this near to a bound is on it
_EDGE: Final = 1e-12  # relative to the slopes: on the edge is inside, whatever the rounding


@dataclass(frozen=True, eq=False)
class NoTradeRegion:
    """Where not to trade; made by :func:`no_trade_region`. Slopes are per scenario horizon, fractions of the amount."""

    targets: pd.Series
    """t, fractions of NAV."""
    bend: FloatArray = field(repr=False)
    """Twice the risk aversion times the covariance (N, N), in the order of the targets."""
    buy: FloatArray = field(repr=False)
    """Slope of the cost of buying (N,)."""
    sell: FloatArray = field(repr=False)
    """That of selling (N,)."""
    budget: bool
    """Whether weights have to keep the sum of the targets."""
    lower: FloatArray = field(repr=False)
    """Least weights (N,)."""
    upper: FloatArray = field(repr=False)
    """Largest weights (N,)."""

    @property
    def intervals(self) -> pd.DataFrame:
        """By asset, the weights at which nothing is traded while the others are at their targets.

        With a budget the others give way in proportion to their targets, as they do when one asset alone moves in
        price, and equally where their targets sum to nothing. Columns ``target``, ``lower``, ``upper``. Correlated
        assets may be what is traded first, so that an interval may be narrower than the asset's own cost would make it.
        """
        t = self.targets.to_numpy()
        edges = np.empty((len(t), 2))
        for i in range(len(t)):
            direction = np.zeros(len(t))
            if self.budget and len(t) > 1:
                others = np.where(np.arange(len(t)) == i, 0.0, t)
                others = others if abs(others.sum()) > _ON else np.where(np.arange(len(t)) == i, 0.0, 1.0)
                direction = -others / others.sum()
            direction[i] = 1.0
            edges[i] = t[i] - self._reach(-direction), t[i] + self._reach(direction)
        columns = pd.Index(["lower", "upper"])
        frame = pd.DataFrame(edges, index=self.targets.index, columns=columns)
        frame.insert(0, "target", self.targets)
        return frame

    def reach(self, direction: pd.Series | Mapping[str, float]) -> float:
        """How far holdings may be off the targets in a direction, as a multiple of it; infinite where nothing stops."""
        step = align(direction, self.targets.index, what="direction")
        if not step.any():
            raise InputError("reach: the direction is zero for every asset")
        if self.budget and abs(step.sum()) > _ON * np.abs(step).max():
            raise InputError(f"reach: with a budget a direction must sum to zero, and this sums to {step.sum():g}")
        return self._reach(step)

    @overload
    def inside(self, holdings: pd.DataFrame) -> pd.Series: ...
    @overload
    def inside(self, holdings: pd.Series | Mapping[str, float]) -> bool: ...

    def inside(self, holdings: pd.Series | Mapping[str, float] | pd.DataFrame) -> bool | pd.Series:
        """Whether not to trade is optimal; of a frame, holdings in rows, for each of them.

        Holdings off the budget or beyond their bounds have to be traded, so they are outside.
        """
        if isinstance(holdings, pd.DataFrame):
            return self.slack(holdings) >= 0.0
        return self.slack(holdings) >= 0.0

    @overload
    def slack(self, holdings: pd.DataFrame) -> pd.Series: ...
    @overload
    def slack(self, holdings: pd.Series | Mapping[str, float]) -> float: ...

    def slack(self, holdings: pd.Series | Mapping[str, float] | pd.DataFrame) -> float | pd.Series:
        """By how many basis points per scenario horizon the best single trade fails to pay; negative where it pays.

        With a budget a trade is a pair, one asset bought and one sold, of which it is the cost of both less the gain.
        Minus infinity where trading is not a choice.
        """
        if isinstance(holdings, pd.DataFrame):
            return pd.Series(self._slack(self._rows(holdings)), index=holdings.index, name="slack")
        return float(self._slack(align(holdings, self.targets.index, what="holdings")[None])[0])

    def _rows(self, holdings: pd.DataFrame) -> FloatArray:
        assets = self.targets.index
        if holdings.columns.has_duplicates or set(holdings.columns) != set(assets):
            raise InputError("holdings must have a column for every asset of the targets, and no others")
        values = holdings[list(assets)].to_numpy(dtype=np.float64)
        bad = np.flatnonzero(~np.isfinite(values).all(axis=0))
        if len(bad):
            raise InputError(f"holdings is not finite for {some(assets[bad])}")
        return values

    def _slack(self, held: FloatArray) -> FloatArray:
        t = self.targets.to_numpy()
        slope = (held - t) @ self.bend
        buy, sell = self._slopes(held)
        # what buying and selling one unit falls short of paying (B, N)
        short_buy, short_sell = slope + buy, sell - slope
        if self.budget:
            slack = short_buy.min(axis=1) + short_sell.min(axis=1)
            slack = np.where(np.abs(held.sum(axis=1) - t.sum()) > _ON, -np.inf, slack)
        else:
            slack = np.minimum(short_buy.min(axis=1), short_sell.min(axis=1))
        scale = float(max(self.buy.max(), self.sell.max()))
        slack = np.where((slack < 0.0) & (slack >= -_EDGE * scale), 0.0, slack)
        off = ((held < self.lower - _ON) | (held > self.upper + _ON)).any(axis=1)
        return 1e4 * np.where(off, -np.inf, slack)

    def _slopes(self, held: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Costs of buying and selling, infinite where a bound forbids it."""
        return (
            np.where(held >= self.upper - _ON, np.inf, self.buy),
            np.where(held <= self.lower + _ON, np.inf, self.sell),
        )

    def _reach(self, direction: FloatArray) -> float:
        t = self.targets.to_numpy()
        slope = self.bend @ direction
        with np.errstate(divide="ignore", invalid="ignore"):
            room = np.where(direction > 0.0, self.upper - t, t - self.lower) / np.abs(direction)
        limit = float(np.where(direction == 0.0, np.inf, room).min())
        # a hair inside, where a weight that moves has left the bound that it may be on at the targets
        buy, sell = self._slopes(t + 2.0 * _ON * np.sign(direction))
        if self.budget:
            pull = slope[:, None] - slope[None, :]  # the gain of selling a row's asset for a column's, per unit
            cost = sell[:, None] + buy[None, :]
        else:
            pull, cost = np.concatenate([slope, -slope]), np.concatenate([sell, buy])
        # slopes within rounding of each other never pull apart
        real = pull > 1e-13 * np.abs(slope).max(initial=0.0)
        steps = cost[real] / pull[real]
        return min(float(steps.min(initial=np.inf)), limit)


def no_trade_region(
    targets: Result | pd.Series | Mapping[str, float],
    risk: pd.DataFrame | FactorCovariance | ScenarioSet,
    costs: Costs,
    risk_aversion: float,
    *,
    budget: bool = True,
    bounds: Bounds | None = None,
    horizons: float = 1.0,
    market: pd.DataFrame | pd.Series | None = None,
    nav: float | None = None,
) -> NoTradeRegion:
    r"""The region of holdings that are best left alone (see the module's text).

    `trade_within_costs` with the same arguments trades from everywhere else, to its edge.

    Parameters
    ----------
    targets
        Weights wanted, as fractions of NAV (N,).
    risk
        Covariance of the returns per scenario horizon over those assets, or scenarios, whose covariance is taken.
    costs, horizons, market, nav
        As for :func:`trade_within_costs`.
    risk_aversion
        :math:`\lambda`, positive.
    budget
        Whether weights have to keep the sum of the targets; without, cash takes what is sold.
    bounds
        On the weights, met by the targets.

    Raises
    ------
    InputError
        For targets beyond their bounds, and a covariance that says nothing about an asset.
    """
    who = "no_trade_region"
    wanted = target_weights(targets)
    assets = wanted.index
    aversion = checked_number(risk_aversion, f"{who}: risk_aversion", above=0.0)
    matrix = risk.covariance() if isinstance(risk, ScenarioSet) else risk
    if not isinstance(matrix, pd.DataFrame | FactorCovariance):
        raise InputError(f"{who}: risk must be a covariance by asset or a ScenarioSet, was {type(risk).__name__}")
    form = QuadraticForm(matrix, assets, who)
    priced = trading_costs(costs, assets, horizons=horizons, market=market, nav=nav, who=who)
    lower, upper = _sides(bounds, assets)
    t = wanted.to_numpy()
    off: npt.NDArray[np.bool_] = (t < lower - _ON) | (t > upper + _ON)
    if off.any():
        raise InputError(f"{who}: the targets are beyond the bounds for {some(assets[off])}; nothing can stay there")
    return NoTradeRegion(wanted, 2.0 * aversion * form.dense(), priced.buy, priced.sell, budget, lower, upper)


def _sides(bounds: Bounds | None, assets: pd.Index) -> tuple[FloatArray, FloatArray]:
    if bounds is None:
        return np.full(len(assets), -np.inf), np.full(len(assets), np.inf)

    def side(value: PerAsset, name: Literal["lower", "upper"]) -> FloatArray:
        return per_asset(value, assets, what=f"{bounds.name}.{name}", infinite=True)

    return side(bounds.lower, "lower"), side(bounds.upper, "upper")

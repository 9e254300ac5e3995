r"""What trading costs, as the optimiser and the no-trade region see it: slopes at no trade, and powers beyond.

.. math:: C(d) = \frac1m \sum_i \Big( b_i\,(d_i)_+ + s_i\,(-d_i)_+ + \sum_k c_{ki}\,|d_i|^{a_k} \Big), \qquad a_k > 1,

for trades d as fractions of NAV, spread over the m scenario horizons until the next rebalance.
"""

from __future__ import annotations

import functools
import operator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from portfolioopt.costs import CostModel
from portfolioopt.errors import InputError
from portfolioopt.labels import FloatArray, PerAsset, checked_number, per_asset
from portfolioopt.problem import Expression, PowerCost, ProportionalCost, TradedAmount

Costs = PerAsset | CostModel | Expression


@dataclass(frozen=True, eq=False)
class TradingCosts:
    """Costs of trades over assets (N,), per scenario horizon."""

    expression: Expression
    """The same as terms of the problem language, to be subtracted."""
    buy: FloatArray
    """Slope of buying at no trade (N,), a fraction of the amount."""
    sell: FloatArray
    """That of selling (N,), not negative."""
    powers: tuple[tuple[FloatArray, float], ...]
    """Coefficients (N,) and exponents of the rest."""
    horizons: float
    """m, scenario horizons that a trade is spread over."""

    def once(self, trades: FloatArray) -> float:
        """What trades cost when they are done, a fraction of NAV: m C(d)."""
        slope = np.where(trades > 0.0, self.buy, self.sell)
        total = float(slope @ np.abs(trades))
        total += sum(float(c @ np.abs(trades) ** a) for c, a in self.powers)
        return self.horizons * total

    def marginal(self, trades: FloatArray) -> FloatArray:
        """What one unit more on the same side would cost per scenario horizon (N,); of no trade, one unit bought."""
        slope = np.where(trades < 0.0, self.sell, self.buy)
        for c, a in self.powers:
            slope = slope + a * c * np.abs(trades) ** (a - 1.0)
        return slope


def trading_costs(
    costs: Costs,
    assets: pd.Index,
    *,
    horizons: float = 1.0,
    market: pd.DataFrame | pd.Series | None = None,
    nav: float | None = None,
    who: str,
) -> TradingCosts:
    """Read costs in any of their forms.

    Parameters
    ----------
    costs
        Basis points of the amount traded, one number or one per asset; a model of :mod:`portfolioopt.costs`; or terms
        of the problem language.
    assets
        Whose (N,).
    horizons
        m.
    market, nav
        For a cost model, what its ``term`` needs.

    Raises
    ------
    InputError
        For costs without a convex forecast, and terms that do not measure trades.
    """
    held = checked_number(horizons, f"{who}: horizons", above=0.0)
    if isinstance(costs, CostModel):
        if market is None or nav is None:
            raise InputError(
                f"{who}: a cost model prices units, so it needs market= (prices and what else the model looks at, by "
                "asset) and nav= (account currency)"
            )
        table = market.loc[assets] if market.index.isin(assets).sum() == len(assets) else market
        expression: Expression = costs.term(table, nav)
    elif isinstance(costs, Expression):
        expression = costs
    else:
        per_asset(costs, assets, what=f"{who}: costs")
        expression = ProportionalCost(costs)
    buy, sell = np.zeros(len(assets)), np.zeros(len(assets))
    powers: dict[float, FloatArray | float] = {}
    for coefficient, term in expression.parts:
        if coefficient < 0.0:
            raise InputError(
                f"{who}: costs add up, and {coefficient:g} * {term!r} is subtracted; give them as positive"
            )
        share = coefficient / held
        if isinstance(term, ProportionalCost):
            bought = per_asset(term.bps, assets, what="ProportionalCost.bps")
            sold = bought if term.sell is None else per_asset(term.sell, assets, what="ProportionalCost.sell")
            buy, sell = buy + share * bought / 1e4, sell + share * sold / 1e4
        elif isinstance(term, TradedAmount):
            buy = buy + share * (term.side != "sell")
            sell = sell + share * (term.side != "buy")
        elif isinstance(term, PowerCost):
            rate = share * per_asset(term.coefficient, assets, what="PowerCost.coefficient")
            powers[term.exponent] = powers.get(term.exponent, 0.0) + rate
        else:
            raise InputError(
                f"{who}: {term!r} is not a cost of trading; what holding costs belongs to the distance, for example "
                "distance=ActiveVariance(...) + BorrowCost(...)"
            )
    kept = tuple((np.broadcast_to(rate, len(assets)), exponent) for exponent, rate in powers.items())
    return TradingCosts(_terms(buy, sell, kept, assets, held), buy, sell, kept, held)


def _terms(
    buy: FloatArray, sell: FloatArray, powers: tuple[tuple[FloatArray, float], ...], assets: pd.Index, horizons: float
) -> Expression:
    """The costs in as few terms as they need, each of which is work for a solver."""

    def labelled(rate: FloatArray, unit: float) -> pd.Series:
        return pd.Series(rate * horizons * unit, assets)

    sold = None if np.array_equal(buy, sell) else labelled(sell, 1e4)
    parts: list[Expression] = [PowerCost(labelled(rate, 1.0), exponent) for rate, exponent in powers]
    if buy.any() or sell.any() or not parts:
        parts.insert(0, ProportionalCost(labelled(buy, 1e4), sold))
    return functools.reduce(operator.add, [(1.0 / horizons) * part for part in parts])

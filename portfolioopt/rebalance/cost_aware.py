r"""The trade that is worth its cost: nearer to the targets, but no further than the next unit pays.

With holdings h, targets t, a distance D, the costs C of a trade and the m scenario horizons it is held for,

.. math:: \min_w\ \lambda\, D(w) + \frac{1}{m}\,C(w - h) \quad \text{s.t. budget and constraints},
          \qquad D(w) = (w - t)'\Sigma(w - t) \text{ by default.}

An asset is traded until the marginal benefit :math:`-\lambda\,\partial_i D(w) - p_i` of one unit more, after the
prices p of the constraints, has fallen to its marginal cost; where it never exceeds that, the asset is left alone. So
the trade leads to the edge of a no-trade region and not to the targets (Constantinides, 1979; Leland, 2000; Donohue &
Yip, 2003).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError, StalledError
from portfolioopt.estimate import FactorCovariance
from portfolioopt.labels import FloatArray, align, checked_number
from portfolioopt.problem import ActiveVariance, Budget, Expression, Limit, Problem, TrackingError
from portfolioopt.problem.constraints import CONSTRAINT_TYPES, Constraint
from portfolioopt.problem.curved import CurvedTerm
from portfolioopt.scenarios import ScenarioSet
from portfolioopt.solve import Result, optimize

from .adapter import target_weights
from .order_rules import OrderPlan, OrderRules
from .orders import create_orders
from .trading_costs import Costs, TradingCosts, trading_costs
from .valuation import joined

NO_TRADE: Final = 1e-6  # of NAV: the solver is about so exact, and nobody trades less
_SETTLED: Final = 1e-2  # of a marginal cost; a benefit beyond it by more was held back by a constraint
_NOTHING: Final = 1e-11  # of NAV per scenario horizon: a ten-millionth of a basis point
_KINK: Final = 1e-9  # of a typical value: a root is at its tip
_CAP: Final = "tracking error"

Risk = pd.DataFrame | FactorCovariance | ScenarioSet


@dataclass(frozen=True, eq=False)
class CostAwareTrades:
    """A trade that is worth its cost, the proof, and why for every asset; weights are fractions of NAV."""

    result: Result
    """The certified answer of the problem that was solved."""
    weights: pd.Series
    """After the trade; exactly the holdings where an asset is left alone."""
    trades: pd.Series
    """What is bought and, negative, sold."""
    cost: float
    """Expected cost of the trade when it is done, a fraction of NAV; not spread over horizons."""
    tracking_error: tuple[float, float]
    """Before and after, per scenario horizon."""
    distance: tuple[float, float]
    """What the risk aversion multiplies, before and after; the tracking error where that was limited."""
    risk_aversion: float
    """As given; where the tracking error was limited, the one that leads to the same trade: zero where that needs none,
    NaN where the limit says nothing about it."""
    by_asset: pd.DataFrame
    """By asset: ``holding``, ``target``, ``weight``, ``trade``; ``benefit_before`` and ``benefit`` (of one more unit
    bought before and after the trade, negative where selling is worth something; basis points per scenario horizon,
    after the prices of constraints; NaN where there is no one slope, before the trade of tails, and where a distance
    such as the tracking error is zero); ``cost`` (of one more unit on its side); and ``reason``."""

    def orders(
        self,
        holdings: pd.Series | Mapping[str, float],
        prices: pd.Series | Mapping[str, float],
        *,
        cash: float = 0.0,
        rules: OrderRules | None = None,
        untargeted: Literal["refuse", "sell"] = "refuse",
    ) -> OrderPlan:
        """Orders for it, from units held; what is left alone gets none. Arguments as for :func:`create_orders`."""
        base = OrderRules() if rules is None else rules
        still = [*base.no_trade, *self.trades.index[self.trades.to_numpy() == 0.0]]
        present = pd.Index(still).isin([*dict(holdings), *self.weights.index[self.weights.to_numpy() != 0.0]])
        kept = tuple(dict.fromkeys(pd.Index(still)[present]))
        return create_orders(
            self.weights, holdings, prices, cash=cash, rules=replace(base, no_trade=kept), untargeted=untargeted
        )


def trade_within_costs(
    holdings: pd.Series | Mapping[str, float],
    targets: Result | pd.Series | Mapping[str, float],
    risk: Risk,
    costs: Costs,
    *,
    risk_aversion: float | None = None,
    tracking_error: float | None = None,
    distance: Expression | None = None,
    constraints: Iterable[Constraint] | None = None,
    horizons: float = 1.0,
    market: pd.DataFrame | pd.Series | None = None,
    nav: float | None = None,
    untargeted: Literal["refuse", "sell"] = "refuse",
    tolerance: float = 1e-6,
) -> CostAwareTrades:
    r"""Trade towards targets as far as it is worth its cost (see the module's text); a problem of the library.

    Parameters
    ----------
    holdings
        Weights before the trade, after drift, as fractions of NAV.
    targets
        Weights wanted (a proven result, or by asset).
    risk
        Covariance of the returns per scenario horizon, or a `ScenarioSet` over the assets of the targets, whose
        covariance is taken.
    costs
        Basis points of the amount traded, one number or one per asset; a model of :mod:`portfolioopt.costs` (needs
        `market` and `nav`); or terms such as ``ProportionalCost(5) + PowerCost(0.01)``.
    risk_aversion
        :math:`\lambda`, per unit of the distance. Where the targets maximise :math:`\mu'w - \lambda w'\Sigma w`, the
        same :math:`\lambda`.
    tracking_error
        Instead of it, a limit on the tracking error after the trade, per scenario horizon, met at the least cost.
    distance
        Convex terms to be held down instead of the active variance, such as ``TrackingError(targets)``,
        ``CVaR(0.95, benchmark=targets)``, or ``CVaR(0.95) - ExpectedReturn()`` of the portfolio itself.
    constraints
        On the weights; ``Budget`` with the sum of the targets where None, nothing at all where empty. A budget that
        the holdings do not meet, since cash is off its target, makes a trade in any case.
    horizons
        m, scenario horizons until the next rebalance, over which the cost is spread. Daily risk and a monthly
        rebalance make 21.
    market, nav
        What a cost model needs to know: prices and more by asset, and net asset value in account currency.
    untargeted
        What to do about positions without a target: refuse, or sell.
    tolerance
        Of the certificate's relative gap; where hardly anything is at stake, a gap of 1e-11 of NAV will do.

    Raises
    ------
    InputError
        For contradictory settings, labels that do not match, and costs without a convex forecast.
    StalledError
        Where the solver stops short of the tolerance.
    InfeasibleError
        Where the constraints, or the limit on the tracking error, cannot be met.
    """
    who = "trade_within_costs"
    if (risk_aversion is None) == (tracking_error is None):
        raise InputError(f"{who}: give risk_aversion or tracking_error, one of the two")
    if tracking_error is not None and distance is not None:
        raise InputError(f"{who}: a limit on the tracking error takes the place of a distance; give one of the two")
    if distance is not None and not isinstance(distance, Expression):
        raise InputError(f"{who}: distance must be made of terms such as CVaR(0.95), was {distance!r}")
    scenarios, covariance, held, wanted = _over_assets(holdings, targets, risk, untargeted)
    assets = scenarios.assets
    priced = trading_costs(costs, assets, horizons=horizons, market=market, nav=nav, who=who)
    if constraints is not None and not isinstance(constraints, (Iterable, *CONSTRAINT_TYPES)):
        raise InputError(f"{who}: constraints must be a list of constraints, was {constraints!r}")
    given = (constraints,) if isinstance(constraints, CONSTRAINT_TYPES) else constraints
    rules: list[Constraint] = [Budget(float(wanted.sum()))] if given is None else list(given)
    follow = TrackingError(wanted, covariance)
    if tracking_error is not None:
        limit = checked_number(tracking_error, f"{who}: tracking_error", above=0.0)
        rules.append(Limit(follow, upper=limit, name=_CAP))
        objective, measured, aversion = -priced.expression, follow, np.nan
    else:
        aversion = checked_number(risk_aversion, f"{who}: risk_aversion", above=0.0)
        measured = ActiveVariance(wanted, covariance) if distance is None else distance
        objective = -(aversion * measured) - priced.expression
    problem = Problem(scenarios, objective, rules, holdings=held)
    result = _solved(problem, tolerance)
    return _explained(result, held, wanted, priced, measured, follow, aversion, tracking_error)


def _solved(problem: Problem, tolerance: float) -> Result:
    """The optimum; next to the targets figures are so small that a relative gap asks for more than there are digits."""
    try:
        return optimize(problem, tolerance=tolerance)
    except StalledError as stalled:
        reached = stalled.result.certificate if isinstance(stalled.result, Result) else None
        if reached is None or reached.gap * reached.scale > _NOTHING:
            raise
        return optimize(problem, tolerance=min(2.0 * reached.gap, 1e-2))


def _over_assets(
    holdings: pd.Series | Mapping[str, float],
    targets: Result | pd.Series | Mapping[str, float],
    risk: Risk,
    untargeted: Literal["refuse", "sell"],
) -> tuple[ScenarioSet, pd.DataFrame | FactorCovariance, pd.Series, pd.Series]:
    """Scenarios, covariance, holdings and targets over the same assets in the same order."""
    assets, before, after = joined(holdings, target_weights(targets), untargeted=untargeted)
    held, wanted = pd.Series(before, assets, name="holding"), pd.Series(after, assets, name="target")
    if isinstance(risk, ScenarioSet):
        align(wanted, risk.assets, what="targets")
        return risk, risk.covariance(), held.reindex(risk.assets), wanted.reindex(risk.assets)
    covariance = risk
    if isinstance(risk, pd.DataFrame) and not risk.index.equals(assets) and assets.isin(risk.index).all():
        covariance = risk.reindex(index=assets, columns=assets)
    scenarios = ScenarioSet.from_moments(None, covariance)
    align(wanted, scenarios.assets, what="targets")
    return scenarios, covariance, held.reindex(scenarios.assets), wanted.reindex(scenarios.assets)


def _explained(
    result: Result,
    held: pd.Series,
    wanted: pd.Series,
    costs: TradingCosts,
    measured: Expression,
    follow: TrackingError,
    aversion: float,
    limit: float | None,
) -> CostAwareTrades:
    h, solved = held.to_numpy(), result.weights
    assert solved is not None
    found = solved.to_numpy(dtype=np.float64)
    trades = np.where(np.abs(found - h) <= NO_TRADE, 0.0, found - h)
    weights = h + trades
    benefit, before = -_slopes(result, found, costs), -_slopes(result, h, costs)
    if result.problem.compiled.program.cvar_weight.any():
        before[:] = np.nan  # a tail has its slope where it is, and not where it would be elsewhere
    marginal = np.where((trades == 0.0) & (benefit < 0.0), costs.sell, costs.marginal(trades))
    view = result.problem.compiled.view
    distance = tuple(sum(c * term.value(view(w)) for c, term in measured.parts) for w in (h, weights))
    active = tuple(follow.value(view(w)) for w in (h, weights))
    if limit is not None:
        price = float(result.constraints["shadow_price"].loc[_CAP]) / 100.0
        aversion = price / (2.0 * active[1]) if active[1] > 0.0 else np.nan
    frame = pd.DataFrame(
        {
            "holding": h,
            "target": wanted,
            "weight": weights,
            "trade": trades,
            "benefit_before": 1e4 * before,
            "benefit": 1e4 * benefit,
            "cost": 1e4 * marginal,
        },
        index=wanted.index.rename(wanted.index.name or "asset"),
    )
    frame["reason"] = [_reason(*row) for row in frame[list(_SAID)].itertuples(index=False)]
    return CostAwareTrades(
        result,
        frame["weight"].copy(),
        frame["trade"].copy(),
        costs.once(trades),
        (active[0], active[1]),
        (float(distance[0]), float(distance[1])),
        float(aversion),
        frame,
    )


_SAID: Final = ("trade", "benefit_before", "benefit", "cost")


def _reason(trade: float, before: float, benefit: float, cost: float) -> str:
    """Why, in words; in basis points."""
    room = _SETTLED * max(cost, 1e-2)
    if trade == 0.0:
        if np.isnan(benefit):
            return "left alone: the distance is at its least"
        side = "selling" if benefit < 0.0 else "buying"
        more = ", but a constraint forbids it" if abs(benefit) > cost + room else ""
        return f"left alone: {side} is worth {abs(benefit):.2f} bp and costs {cost:.2f}{more}"
    done, sign = ("bought", 1.0) if trade > 0.0 else ("sold", -1.0)
    text = f"{done} {abs(trade):.2%}: "
    if np.isnan(benefit):
        return f"{text}worth more than it costs, {cost:.2f} bp, up to where the distance is at its least"
    first = "worth" if np.isnan(before) else f"worth {sign * before:.2f} bp at first,"
    text += f"{first} {sign * benefit:.2f}{' bp' if np.isnan(before) else ''} at last"
    if sign * benefit > cost + room:
        return f"{text}, costs {cost:.2f}; a constraint stops it there"
    if sign * benefit < cost - room:
        return f"{text}, costs {cost:.2f}; a constraint calls for it"
    return f"{text}, when it costs {cost:.2f}"


def _slopes(result: Result, weights: FloatArray, costs: TradingCosts) -> FloatArray:
    """Slope of the minimised objective at weights (N,), trading costs left out and rows of constraints at their price.

    What bends is looked at where the weights are; tails keep the measure that supports the optimum.
    """
    m, compiled = result.multipliers, result.problem.compiled
    assert compiled.holdings is not None
    p, n, held = compiled.program, compiled.n_assets, compiled.holdings
    level = p.l1_weight + m.l1_cap
    linear = p.linear + (p.cvar_weight + m.cvar_cap) @ p.cvar_linear + level @ p.l1_linear
    linear = linear + m.row[: len(p.rows)] @ p.rows - compiled.source.pull(m.scenario.sum(axis=0)[None])[0]
    total = linear[:n] - 0.5 * (costs.buy - costs.sell)  # this part of the costs is linear in the program
    for price, rate, reference in zip(level, p.l1_rate[:, :n], p.l1_reference[:, :n], strict=True):
        if not np.array_equal(reference, held):  # not a cost of trading, but a size
            total = total + price * rate * np.sign(weights - reference)
    view = compiled.view(weights)
    for curve in compiled.curves:
        term = curve.measure
        if isinstance(term, CurvedTerm) and not term.trades:
            if not term.quadratic and term.value(view) <= _KINK * curve.scale:
                total = total + np.nan  # at the tip of a root any slope will do
            total = total + linear[curve.column] / curve.scale * term.tangent(view)[1]
    return total

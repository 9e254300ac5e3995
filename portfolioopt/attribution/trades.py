r"""What a trade does to risk: its derivative, its exact effect, and the size at which it helps most.

Along a trade d (N,) a convex measure is a convex function of the size, :math:`\varphi(t) = \rho(w + t d)`, with slope
:math:`\varphi'(t) = \sum_i d_i\, \partial\rho / \partial w_i`. The tangents at both ends of an interval meet at a point
that is not above the curve; where the curve is as low there, that is the minimum, and otherwise its tangent replaces
one of the two (Kelley's cutting planes in one dimension, with bisection in between). For CVaR and drawdowns, which are
piecewise linear, that ends after finitely many pieces.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError, unknown_names
from portfolioopt.labels import FloatArray, checked_number
from portfolioopt.problem import ConditionalDrawdown, CVaR, MaxDrawdown, TrackingError, Volatility
from portfolioopt.scenarios import ScenarioSet

from .contributions import Weights, portfolio_arrays
from .euler import RiskMeasure, Split, VaR, name_of, split

_Line: TypeAlias = Callable[[float], tuple[float, float]]

_ROUNDS = 200
_EXACT = 1e-13  # relative: how far the curve may be above the meeting point of its tangents


def trade_impact(
    scenarios: ScenarioSet,
    weights: Weights,
    trades: Weights | pd.DataFrame,
    *,
    measure: RiskMeasure = CVaR(0.95),  # noqa: B008  frozen
) -> pd.DataFrame:
    r"""Change of risk by proposed trades, each on its own, exactly and to first order.

    Parameters
    ----------
    scenarios
        Returns of N assets in S scenarios.
    weights
        What is held, as fractions of NAV.
    trades
        Change of weight by asset: one trade, or a frame with a column for each (assets x trades). A trade that is paid
        for from cash, or by a sale, says so in the weights of those assets.
    measure
        CVaR at 95 % unless another is asked for.

    Returns
    -------
    DataFrame, one row per trade ("trade" where there is one)
        ``before``, ``after``: the measure; ``change``, exactly; ``marginal``: its derivative along the trade, times its
        size; ``curvature``: what the derivative misses, change less marginal, never negative for a convex measure,
        which all but VaR are.

    Raises
    ------
    InputError
        For weights and trades that do not match the assets, and measures that do not fit the scenarios.
    """
    steps, names = portfolio_arrays(scenarios.assets, trades)
    held = scenarios.weights_array(weights)
    found = split(measure, scenarios, np.vstack([held, held + steps]))
    values = _values(found)
    marginal = steps @ found.marginal[0]
    change = values[1:] - values[0]
    return pd.DataFrame(
        {
            "before": values[0],
            "after": values[1:],
            "change": change,
            "marginal": marginal,
            "curvature": change - marginal,
        },
        index=pd.Index(["trade"]) if names is None else names.rename("trade"),
    )


def best_hedge(
    scenarios: ScenarioSet,
    weights: Weights,
    *,
    candidates: pd.DataFrame | None = None,
    measure: CVaR | Volatility | TrackingError | MaxDrawdown | ConditionalDrawdown = CVaR(0.95),  # noqa: B008  frozen
    limit: float = 1.0,
    funding: str | None = None,
) -> pd.DataFrame:
    r"""The single trades that lower a convex measure most, each at its best size, the best first.

    Parameters
    ----------
    scenarios
        Returns of N assets in S scenarios.
    weights
        What is held, as fractions of NAV.
    candidates
        Trades per unit of size (assets x trades); buying each of the assets where None. Sizes may be negative: sales.
    measure
        CVaR at 95 % unless another is asked for.
    limit
        Largest size either way, in units of a candidate: of NAV, for assets.
    funding
        Asset that pays for the candidates where `candidates` is None, so that weights keep their sum; from nothing (a
        future, a swap) where None.

    Returns
    -------
    DataFrame, one row per candidate
        ``size``, ``before``, ``after``, ``change`` at that size, ``marginal``: slope per unit at size zero, and
        ``per_unit``: change per unit of absolute size, zero where nothing helps.

    Raises
    ------
    InputError
        For VaR, which is not convex, and for what does not match the assets.
    """
    if isinstance(measure, VaR):
        raise InputError("best_hedge: VaR is not convex and has no one best size; hedge CVaR at the same level")
    name_of(measure)
    largest = checked_number(limit, "best_hedge: limit", above=0.0)
    assets = scenarios.assets
    held = scenarios.weights_array(weights)
    if candidates is None:
        frame = pd.DataFrame(np.eye(len(assets)), assets, assets)
        if funding is not None:
            if funding not in assets:
                raise unknown_names("asset in funding", [funding], assets)
            frame.loc[funding] -= 1.0
            frame = frame.drop(columns=funding)
    elif funding is not None:
        raise InputError("best_hedge: candidates say themselves what pays for them; leave out funding")
    else:
        frame = candidates
    if not isinstance(frame, pd.DataFrame):
        raise InputError("best_hedge: candidates must be a frame of assets x trades")
    steps, names = portfolio_arrays(assets, frame)
    assert names is not None
    start = split(measure, scenarios, held[None])
    before = float(_values(start)[0])
    rows = []
    for step in steps:

        def along(size: float, step: FloatArray = step) -> tuple[float, float]:
            found = split(measure, scenarios, (held + size * step)[None])
            return float(_values(found)[0]), float(found.marginal[0] @ step)

        slope = float(start.marginal[0] @ step)
        size, after = _least(along, largest, before)
        change = after - before
        rows.append((size, before, after, change, slope, change / abs(size) if size else 0.0))
    columns = ["size", "before", "after", "change", "marginal", "per_unit"]
    found = pd.DataFrame(rows, index=names.rename("trade"), columns=columns)
    return found.sort_values("after", kind="stable")


def _values(found: Split) -> FloatArray:
    """The measure of each portfolio, as the sum of its contributions."""
    return np.einsum("pn,pn->p", found.weights, found.marginal)


def _least(along: _Line, limit: float, before: float) -> tuple[float, float]:
    """Size within the limits at which a convex function is least, and the value; zero where nothing is gained."""
    best = (0.0, before)
    low, high = -limit, limit
    (low_value, low_slope), (high_value, high_slope) = along(low), along(high)
    for size, value in ((low, low_value), (high, high_value)):
        if value < best[1]:
            best = size, value
    for rounds in range(_ROUNDS):
        if low_slope >= 0.0 or high_slope <= 0.0 or high - low <= 1e-15 * limit:
            break
        size = (high_value - high_slope * high - low_value + low_slope * low) / (low_slope - high_slope)
        bound = low_value + low_slope * (size - low)
        if not low < size < high or rounds % 3 == 2:  # every third step halves, so that the interval must shrink
            size = 0.5 * (low + high)
        value, slope = along(size)
        if value < best[1]:
            best = size, value
        if best[1] - bound <= _EXACT * max(abs(best[1]), abs(before)):
            break
        if slope < 0.0:
            low, low_value, low_slope = size, value, slope
        else:
            high, high_value, high_slope = size, value, slope
    return best

"""How large orders may be, from what orders have cost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError, unknown_names
from portfolioopt.estimate.checks import checked_count
from portfolioopt.labels import checked_number

from .feedback import ExecutionFeedback

_SIGNS = {"buy": 1.0, "sell": -1.0}


@dataclass(frozen=True)
class SizeAdvice:
    """A size for the next orders of an asset, and why.

    Parameters
    ----------
    asset
        Which.
    multiple
        Of the usual size; 1 leaves it.
    participation
        The size that comes to, as a part of the daily volume.
    cost_bps
        Mean cost of spread and impact of what was done, in basis points, weighted by amount.
    interval
        Confidence interval of it.
    orders
        How many it rests on.
    reason
        In words.
    """

    asset: str
    multiple: float
    participation: float
    cost_bps: float
    interval: tuple[float, float]
    orders: int
    reason: str


def advise_size(
    feedback: ExecutionFeedback,
    asset: str,
    *,
    budget_bps: float,
    exponent: float = 0.5,
    confidence: float = 0.95,
    least_orders: int = 10,
    bounds: tuple[float, float] = (0.25, 2.0),
) -> SizeAdvice:
    r"""The size at which an asset's orders are expected to cost a budget.

    Per amount, an order costs half a spread s, whatever its size, and impact :math:`a \pi^\delta` at participation
    :math:`\pi`. Where orders of mean participation :math:`\bar\pi` had the mean impact :math:`\bar\imath`, a budget B
    is met at

    .. math:: \pi = \bar\pi\, \Big(\frac{B - s}{\bar\imath}\Big)^{1/\delta} .

    Sizes change only where the confidence interval of the mean cost does not hold the budget, and within `bounds`.

    Parameters
    ----------
    feedback
        Orders and fills; those of the asset that are filled or closed count, with something done.
    asset
        Which.
    budget_bps
        B, in basis points of the amount traded.
    exponent
        :math:`\delta`, by which impact grows with size; 1/2 is the square-root law.
    confidence
        Of the interval (Student's t, orders weighted by amount).
    least_orders
        Fewer leave the size as it is; at least 2.
    bounds
        Smallest and largest multiple, about 1.
    """
    who = "advise_size"
    budget = checked_number(budget_bps, f"{who}: budget_bps", above=0.0)
    power = checked_number(exponent, f"{who}: exponent", above=0.0)
    level = checked_number(confidence, f"{who}: confidence", above=0.0, below=1.0)
    least = checked_count(least_orders, f"{who}: least_orders", least=2)
    if not (isinstance(bounds, tuple) and len(bounds) == 2 and 0.0 < bounds[0] <= 1.0 <= bounds[1] < np.inf):
        raise InputError(f"{who}: bounds must be a multiple up to 1 and one from 1, was {bounds!r}")
    table = feedback.shortfall()
    assets = table["asset"].unique()
    if asset not in assets:
        raise unknown_names("asset", [asset], assets)
    table = table[(table["asset"] == asset) & (table["filled"] > 0.0)]
    count = len(table)
    if count == 0:
        nothing = float("nan")
        return SizeAdvice(asset, 1.0, nothing, nothing, (nothing, nothing), 0, "no order was filled: nothing is known")
    # what was done, at the price it was sent out at: its cost is judged against that
    amount = table["notional"] * table["filled"] / table["ordered"] + table["delay"] * table["side"].map(_SIGNS)
    weight = amount / amount.sum()
    usual = float((weight * table["participation"] * table["filled"] / table["ordered"]).sum())
    spread, impact = (table[["spread", "impact"]].to_numpy(dtype=np.float64).sum(axis=0) / amount.sum() * 1e4).tolist()
    cost = spread + impact
    low, high = _interval(table["spread"] + table["impact"], amount, level)
    known = f"{count} orders of {usual:.2%} of daily volume cost {cost:.1f} bp ({low:.1f} to {high:.1f})"

    def advice(multiple: float, reason: str) -> SizeAdvice:
        return SizeAdvice(asset, multiple, multiple * usual, cost, (low, high), count, reason)

    if count < least:
        return advice(1.0, f"{count} of {least} orders needed: too few to change the size")
    if low <= budget <= high:
        return advice(1.0, f"{known}, which the budget of {budget:.1f} bp does not contradict: keep the size")
    if spread >= budget:
        return advice(
            bounds[0], f"{known}, and half the spread of {spread:.1f} bp alone exceeds {budget:.1f} bp: least size"
        )
    if impact <= 0.0:
        return advice(bounds[1], f"{known}, without impact beyond the spread: largest size")
    wanted = ((budget - spread) / impact) ** (1.0 / power)
    multiple = float(np.clip(wanted, *bounds))
    held = f" (held at {multiple:.2f})" if multiple != wanted else ""
    direction = "above" if cost > budget else "below"
    return advice(multiple, f"{known}, {direction} the budget of {budget:.1f} bp: {wanted:.2f} times the size{held}")


def _interval(cost: pd.Series, amount: pd.Series, level: float) -> tuple[float, float]:
    """Of the mean cost per amount in basis points, orders weighted by amount; unbounded for a single order."""
    count = len(cost)
    mean = cost.sum() / amount.sum()
    if count < 2:
        return -np.inf, np.inf

    from scipy import stats

    error = np.sqrt(((cost - mean * amount) ** 2).sum() * count / (count - 1)) / amount.sum()
    reach = stats.t.ppf(0.5 + 0.5 * level, count - 1) * error
    return float((mean - reach) * 1e4), float((mean + reach) * 1e4)

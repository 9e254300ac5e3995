r"""Whole lots that stay nearest to the amounts wanted, within a sum of money.

.. math:: \min_{k}\ \sum_i (k_i \ell_i p_i - v_i)^2 \quad \text{s.t.}\quad \sum_i \mathrm{cost}_i(k_i \ell_i) \le C,
          \qquad k_i \in \{\lfloor u_i/\ell_i \rfloor, \lceil u_i/\ell_i \rceil\},

with the amounts wanted :math:`v`, the units :math:`u` that can be afforded, lots :math:`\ell` and prices :math:`p`: a
knapsack. It is solved exactly by enumeration for up to 12 assets to round, and otherwise greedily: everything is
rounded down, then lots are added where they lower the sum most per unit of money, as long as they can be paid.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from portfolioopt.labels import FloatArray

ENUMERATED: Final = 12  # 4096 combinations, a fraction of a millisecond
_WHOLE: Final = 1e-9  # a quantity that is off a whole number of lots by less is taken for whole


def floor_lots(units: FloatArray, lot: FloatArray) -> FloatArray:
    """Units rounded down to whole lots, towards zero; untouched where the lot is zero."""
    ratio = np.abs(units) / np.where(lot > 0.0, lot, 1.0)
    whole = np.floor(ratio + _WHOLE + 1e-15 * ratio)
    return np.where(lot > 0.0, np.copysign(whole * lot, units), units)


def nearest_lots(
    units: FloatArray,
    wanted: FloatArray,
    prices: FloatArray,
    lot: FloatArray,
    money: float,
    cost: Callable[[int, float], float],
) -> FloatArray:
    """Units (n,) to buy in whole lots, nearest to the amounts wanted and within the money.

    Parameters
    ----------
    units
        Units that can be afforded, not negative.
    wanted
        Amounts of money that would meet the targets.
    prices, lot
        Per unit; a lot of zero leaves the units as they are.
    money
        What may be spent.
    cost
        What so many units of the i-th cost, fee included.
    """
    down = floor_lots(units, lot)
    step = np.where((lot > 0.0) & (units - down > _WHOLE * lot), lot, 0.0)
    open_ = np.flatnonzero(step > 0.0)
    if not len(open_):
        return down
    at = np.array([cost(i, float(q)) for i, q in enumerate(down)])
    extra = np.array([cost(int(i), float(down[i] + step[i])) for i in open_]) - at[open_]
    miss = down[open_] * prices[open_] - wanted[open_]
    gain = miss**2 - (miss + step[open_] * prices[open_]) ** 2
    left = money - float(at.sum())
    result = down.copy()
    if len(open_) <= ENUMERATED:
        choices = (np.arange(2 ** len(open_))[:, None] >> np.arange(len(open_))) & 1
        total = np.where(choices @ extra <= left, choices @ gain, -np.inf)
        chosen = choices[int(np.argmax(total))].astype(bool) if np.isfinite(total).any() else np.zeros(len(open_), bool)
        result[open_[chosen]] += step[open_[chosen]]
        return result
    for i in np.argsort(-gain / np.maximum(extra, 1e-300), kind="stable"):
        if gain[i] > 0.0 and extra[i] <= left:
            result[open_[i]] += step[open_[i]]
            left -= float(extra[i])
    return result

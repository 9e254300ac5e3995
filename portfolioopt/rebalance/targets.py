r"""Where to trade to once a band is breached: the target, the band's edge, or half-way between.

A breached weight is brought to :math:`t \pm \theta e` on its own side, with :math:`\theta = 1` at the edge and
:math:`1/2` half-way. What that frees or needs, :math:`\delta = \sum_i t_i - \sum_i x_i`, is shared among the assets on
the other side of their targets in proportion to their distance :math:`t_i - x_i`, so that the weights sum to what the
targets sum to. Nobody is moved past his target: as :math:`\sum_i (t_i - x_i) = \delta`, the distances of that sign
are enough for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import numpy as np
import pandas as pd

from portfolioopt.errors import unknown_names
from portfolioopt.labels import FloatArray

from .bands import EDGE, DriftBand, grouped
from .valuation import joined

Towards = Literal["target", "edge", "halfway"]

_SHARES: Final = {"target": 0.0, "halfway": 0.5, "edge": 1.0}


def weights_to_trade_to(
    weights: pd.Series | Mapping[str, float],
    targets: pd.Series | Mapping[str, float],
    band: DriftBand | None = None,
    *,
    towards: Towards = "target",
    untargeted: Literal["refuse", "sell"] = "refuse",
) -> pd.Series:
    """Weights to hold after the rebalance.

    Parameters
    ----------
    weights, targets
        Fractions of NAV after drift, and those wanted.
    band
        5 percentage points by default. A band with groups moves the groups; inside a group the proportions held are
        kept, and those of the targets where the group is not held or changes its side.
    towards
        ``"target"`` brings everything to its target, whether it breached or not. ``"edge"`` and ``"halfway"`` move
        what breached, and of the rest only what pays for it. With an inclusive band, where the edge itself is a
        breach, the edge means 2e-10 of NAV inside.
    untargeted
        What to do about positions without a target: refuse, or sell.

    Returns
    -------
    Series
        Fractions of NAV, over the targets' assets and whatever else is held.
    """
    if towards not in _SHARES:
        raise unknown_names("way to trade", [towards], _SHARES)
    rule = DriftBand() if band is None else band
    assets, held, wanted = joined(weights, targets, untargeted=untargeted)
    if rule.groups is None:
        result = _moved(assets, held, wanted, rule, towards)
    else:
        labels = rule.labels(assets)
        names, held_groups, wanted_groups = grouped(labels, held, wanted)
        codes = pd.factorize(labels)[0]
        moved = _moved(names, held_groups, wanted_groups, rule, towards)
        result = _inside(codes, held, wanted, held_groups, wanted_groups, moved)
    return pd.Series(result, index=assets, name="weight")


def _moved(names: pd.Index, held: FloatArray, wanted: FloatArray, band: DriftBand, towards: Towards) -> FloatArray:
    if towards == "target":
        return wanted.copy()
    edges = band.edges(names, wanted)
    drift = held - wanted
    out = band.outside(drift, edges)
    reach = _SHARES[towards] * edges[out]
    if towards == "edge" and band.inclusive:
        reach = np.maximum(reach - 2.0 * EDGE, 0.0)
    moved = held.copy()
    moved[out] = wanted[out] + np.copysign(np.minimum(reach, np.abs(drift[out])), drift[out])
    left = wanted.sum() - moved.sum()
    distance = wanted - moved
    room = np.where(np.sign(distance) == np.sign(left), distance, 0.0)
    if abs(left) > 1e-15 and room.sum() != 0.0:
        moved += room * min(left / room.sum(), 1.0)
    return moved


def _inside(
    codes: np.ndarray,
    held: FloatArray,
    wanted: FloatArray,
    held_groups: FloatArray,
    wanted_groups: FloatArray,
    moved: FloatArray,
) -> FloatArray:
    """Weights of assets whose groups have moved from `held_groups` to `moved` on the way to `wanted_groups`."""
    scaled = np.abs(held_groups) > EDGE
    scaled &= moved * held_groups >= 0.0
    still = np.abs(moved - held_groups) <= 1e-15
    by_holdings = np.where(still, 1.0, np.divide(moved, held_groups, out=np.zeros_like(moved), where=scaled))
    by_targets = np.divide(moved, wanted_groups, out=np.zeros_like(moved), where=np.abs(wanted_groups) > 0.0)
    keep = scaled | still
    return np.where(keep[codes], held * by_holdings[codes], wanted * by_targets[codes])

"""What integer constraints ask of weights."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.labels import per_asset, some

from .constraints import Constraint, MaxHoldings, MinPosition, MinTrade, RoundLots

FloatArray = npt.NDArray[np.float64]
NOTHING = 1e-9  # weights and trades below this count as none


def sizes(constraint: Constraint, assets: pd.Index) -> FloatArray:
    """Least position or trade, or weight of a lot, by asset (N,)."""
    assert isinstance(constraint, MinPosition | MinTrade | RoundLots)
    what = "lot" if isinstance(constraint, RoundLots) else "size"
    given = constraint.lot if isinstance(constraint, RoundLots) else constraint.size
    size = per_asset(given, assets, what=f"{constraint.name}.{what}")
    bad = size <= 0 if what == "lot" else size < 0
    if bad.any():
        need = "positive" if what == "lot" else "at least zero"
        raise InputError(f"{constraint.name}: {what} must be {need}, and is not for {some(assets[bad])}")
    return size


def integer_excess(constraint: Constraint, assets: pd.Index, weights: FloatArray, holdings: FloatArray | None) -> float:
    """By how much weights break an integer constraint: holdings too many, or the largest distance to a legal weight."""
    match constraint:
        case MaxHoldings():
            return float(max(int((np.abs(weights) > NOTHING).sum()) - constraint.count, 0))
        case MinPosition() | MinTrade():
            x = np.abs(weights)
            if isinstance(constraint, MinTrade):
                assert holdings is not None
                x = np.abs(weights - holdings)
            short = np.where(x > NOTHING, np.maximum(sizes(constraint, assets) - x, 0.0), 0.0)
            return float(np.minimum(short, x).max(initial=0.0))
        case RoundLots():
            lot = sizes(constraint, assets)
            return float(np.abs(weights - lot * np.round(weights / lot)).max(initial=0.0))
    raise TypeError(f"{constraint!r} is not an integer constraint")

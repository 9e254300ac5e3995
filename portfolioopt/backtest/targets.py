"""Target weights by name to an array over the assets of a market."""

from __future__ import annotations

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.labels import FloatArray, some

_CREDIT = 1e-6  # targets may sum to this much more than one before they are taken for a book on credit


def target_array(target: pd.Series, assets: pd.Index, *, credit: bool = False) -> FloatArray:
    """Weights over all assets (N,), zero for those that the target does not name.

    Raises
    ------
    InputError
        For names that are repeated or unknown, weights that are not finite, and, without `credit`, more than there is.
    """
    if target.index.has_duplicates:
        raise InputError(f"the target names {some(target.index[target.index.duplicated()].unique())} twice")
    places = assets.get_indexer(target.index)
    if (places < 0).any():
        raise InputError(f"the target names {some(target.index[places < 0])}, which the market does not have")
    values = target.to_numpy(dtype=np.float64)
    if not np.isfinite(values).all():
        raise InputError(f"the target is not finite for {some(target.index[~np.isfinite(values)])}")
    check_total(values, credit=credit)
    wanted = np.zeros(len(assets))
    wanted[places] = values
    return wanted


def check_total(weights: FloatArray, *, credit: bool) -> None:
    """Refuse more than there is, without credit."""
    total = float(weights.sum())
    if total > 1.0 + _CREDIT and not credit:
        raise InputError(
            f"the target sums to {total:.6g}, so that {total - 1.0:.2%} of NAV would have to be borrowed; scale it, or "
            "allow that with credit=True"
        )

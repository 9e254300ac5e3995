"""Arrays in, arrays out: runs, returns out of proportion, and jumps that look like splits."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from portfolioopt.labels import FloatArray

from .checks import BoolArray

IntArray = npt.NDArray[np.intp]

_TO_DEVIATION: Final = 1.4826  # standard deviation of a normal distribution over its median absolute value
_HALF_LIFE: Final = 20.0
_PRIOR: Final = 20.0  # rows that the overall level counts for in the average, which has nothing to begin with
_CLIP: Final = 6.0  # robust deviations beyond which a return says no more about volatility
_SPLIT_Z: Final = 8.0
_AROUND: Final = 10  # rows before and after a jump that say whether it stayed

# New shares for old ones in the splits that companies make. Ratios below 3:2 are left out: without the announcement
# they cannot be told from a bad day.
_FORWARD: Final = (1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 10, 15, 20, 25, 30, 40, 50, 100)
_REVERSE: Final = (2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 25, 30, 40, 50, 100)


def runs(mask: BoolArray) -> tuple[IntArray, IntArray, IntArray]:
    """Runs of True along the last axis of `mask` (n, T): row, first and last place of each."""
    edges = np.zeros((mask.shape[0], mask.shape[1] + 2), dtype=np.int8)
    edges[:, 1:-1] = mask
    change = np.diff(edges, axis=1)
    rows, first = np.nonzero(change == 1)
    _, after = np.nonzero(change == -1)
    return rows, first, after - 1


def find_outliers(values: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Log returns x (n, T), their z (n, T), zero where there is none, and robust deviations of x (n,).

    `values` are prices (n, T), NaN where missing. Returns are between neighbours; where there is none, x is zero. Days
    on which the price stood still say nothing about deviations: many closes of a share that is hardly traded are old.
    """
    from scipy.signal import lfilter  # slow to import, and seldom needed

    x = np.diff(np.log(values), axis=1, prepend=np.nan)
    known = ~np.isnan(x)
    x[~known] = 0.0
    size = np.abs(x)
    moving = size > 0.0
    level = _TO_DEVIATION * _median(size, moving)
    # The clipped size of past returns, in units in which it estimates the deviation.
    clipped = np.minimum(size, _CLIP * level[:, None])
    decay = 0.5 ** (1.0 / _HALF_LIFE)
    total = np.asarray(lfilter([0.0, 1.0], [1.0, -decay], clipped, axis=1))
    count = np.asarray(lfilter([0.0, 1.0], [1.0, -decay], moving.astype(np.float64), axis=1))
    typical = clipped.sum(axis=1) / np.maximum(moving.sum(axis=1), 1)
    before = (total + _PRIOR * typical[:, None]) / (count + _PRIOR)
    scaled = np.divide(x, before, out=np.zeros_like(x), where=before > 0.0)
    deviation = _TO_DEVIATION * _median(np.abs(scaled), moving)
    z = np.divide(scaled, deviation[:, None], out=np.zeros_like(x), where=deviation[:, None] > 0.0)
    return x, z, level


def find_splits(
    values: FloatArray, x: FloatArray, z: FloatArray, volatility: FloatArray, volumes: FloatArray | None
) -> pd.DataFrame:
    """Jumps that look like splits: row (time), column (asset), return, ratio, error, volume_ratio."""
    targets = np.array([*(-np.log(_FORWARD[::-1])), *np.log(_REVERSE)])
    names = [*(_name(ratio) for ratio in _FORWARD[::-1]), *(f"1:{ratio}" for ratio in _REVERSE)]
    who, when = np.nonzero((np.abs(z) >= _SPLIT_Z) & (np.abs(x) >= 0.9 * np.log(1.5)))
    jump = x[who, when]
    place = np.clip(np.searchsorted(targets, jump), 1, len(targets) - 1)
    place -= jump - targets[place - 1] < targets[place] - jump
    error = jump - targets[place]
    # A split comes with the return of an ordinary day.
    near = np.abs(error) <= np.minimum(np.clip(3.0 * volatility[who], 0.01, 0.06), 0.1 * np.abs(targets[place]))
    found = []
    for asset, row, k, miss in zip(who[near], when[near], place[near], error[near], strict=True):
        prices, size = values[asset], abs(targets[k])
        before = _typical(prices[max(row - _AROUND, 0) : row])
        after = _typical(prices[row : row + _AROUND])
        if abs(np.log(after / before)) < 0.5 * size or np.sign(after - before) != np.sign(targets[k]):
            continue
        volume = np.nan
        if volumes is not None:
            traded = volumes[asset]
            earlier, later = _typical(traded[max(row - _AROUND, 0) : row]), _typical(traded[row : row + _AROUND])
            volume = later / earlier if earlier > 0.0 else np.nan
            if volume > 0.0 and -np.log(volume) * np.sign(targets[k]) < 0.5 * size:
                continue
        found.append((int(row), int(asset), float(np.expm1(x[asset, row])), names[k], float(miss), float(volume)))
    table = pd.DataFrame(found, columns=["row", "column", "return", "ratio", "error", "volume_ratio"])
    types = {"row": np.intp, "column": np.intp, "return": np.float64, "error": np.float64, "volume_ratio": np.float64}
    return table.astype(types)


def _name(ratio: float) -> str:
    """New shares for old in whole numbers."""
    return f"{ratio:g}:1" if float(ratio).is_integer() else f"{2 * ratio:g}:2"


def _typical(values: FloatArray) -> float:
    known = values[~np.isnan(values)]
    return float(np.median(known)) if len(known) else np.nan


def _median(values: FloatArray, known: BoolArray) -> FloatArray:
    """Median of the known values in each row (n, T), zero for rows without any."""
    ordered = np.where(known, values, np.inf)
    ordered.sort(axis=1)
    count = known.sum(axis=1)
    rows = np.arange(len(values))
    middle = 0.5 * (ordered[rows, np.maximum(count - 1, 0) // 2] + ordered[rows, count // 2])
    return np.where(count > 0, middle, 0.0)

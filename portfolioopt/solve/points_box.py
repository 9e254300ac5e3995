"""Implied bounds of many points at once: `problem.box.implied_box`, point by point, as arrays."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from portfolioopt.problem.box import _GENEROUS, _ROUNDS, _SLACK

from .pieces import Batch, IntArray

FloatArray: TypeAlias = npt.NDArray[np.float64]


def implied_boxes(batch: Batch, rows: IntArray) -> tuple[FloatArray, FloatArray]:
    """Bounds (K, columns) that follow from bounds, rows and L1 caps of some points by interval arithmetic.

    Where all points have the same they come with a leading axis of 1.
    """

    def field(name: str) -> FloatArray:
        return batch.field(name, rows)

    given_lower, given_upper = field("lower"), field("upper")
    lower, upper = given_lower, given_upper
    rate, linear, reference, cap = (field(name) for name in ("l1_rate", "l1_linear", "l1_reference", "l1_cap"))
    for b in range(cap.shape[1]):
        k, g, r, limit = rate[:, b], linear[:, b], reference[:, b], cap[:, b, None]
        usable = np.isfinite(limit) & (np.abs(g) <= k).all(axis=1, keepdims=True)
        if not usable.any():
            continue
        room = np.where(usable, limit, 0.0) - np.sum(g * r, axis=1, keepdims=True)
        up, down = k + g, k - g
        above = np.where(usable & (up > 0), r + room / np.where(up > 0, up, 1.0), np.inf)
        below = np.where(usable & (down > 0), r - room / np.where(down > 0, down, 1.0), -np.inf)
        upper, lower = np.minimum(upper, above), np.maximum(lower, below)
    lines = field("rows")
    sides = ((1.0, field("row_upper")), (-1.0, -field("row_lower")))
    for _ in range(_ROUNDS):
        before = lower, upper
        for c in range(lines.shape[1]):
            for sign, limit in sides:
                if np.isfinite(limit[:, c]).any():
                    lower, upper = _propagated(sign * lines[:, c], limit[:, c, None], lower, upper)
        if np.array_equal(before[0], lower) and np.array_equal(before[1], upper):
            break
    lower = np.where(lower > given_lower, lower - _SLACK * np.maximum(1.0, np.abs(lower)), given_lower)
    upper = np.where(upper < given_upper, upper + _SLACK * np.maximum(1.0, np.abs(upper)), given_upper)
    return np.maximum(lower, given_lower), np.minimum(upper, given_upper)


def _propagated(
    row: FloatArray, limit: FloatArray, lower: FloatArray, upper: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Bounds tightened by row'w <= limit; rows (K or 1, N), limits (K or 1, 1), infinite for none."""
    used = row != 0
    with np.errstate(invalid="ignore"):
        least = np.where(used, row * np.where(row > 0, lower, upper), 0.0)
    finite = np.isfinite(least)
    endless = np.count_nonzero(~finite, axis=1, keepdims=True)
    bounded = np.where(finite, least, 0.0)
    total = bounded.sum(axis=1, keepdims=True)
    there = np.isfinite(limit) & (endless <= 1)
    limit = np.where(there, limit, 0.0)
    slack = _GENEROUS * (1.0 + np.abs(limit) + np.abs(bounded).sum(axis=1, keepdims=True))
    known = used & there & ((endless == 0) | ~finite)
    implied = (limit - (total - bounded) + slack) / np.where(used, row, 1.0)
    upper = np.where(known & (row > 0), np.minimum(upper, implied), upper)
    lower = np.where(known & (row < 0), np.maximum(lower, implied), lower)
    return lower, upper

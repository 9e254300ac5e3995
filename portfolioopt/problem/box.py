"""What the constraints together say about each single weight: implied bounds, and where to start."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from portfolioopt_kernels import HingeProgram

FloatArray: TypeAlias = npt.NDArray[np.float64]
_ROUNDS = 3  # sweeps of propagation; later ones change little
_GENEROUS = 1e-12
_SLACK = 1e-9  # implied bounds are widened by this, so that rounding never cuts off a feasible weight


def implied_box(program: HingeProgram) -> tuple[FloatArray, FloatArray]:
    """Bounds (N,) on each weight that follow from bounds, rows and L1 caps by interval arithmetic.

    They are implied: no portfolio that meets the constraints lies outside. Infinite where nothing limits a weight.
    """
    lower, upper = np.array(program.lower), np.array(program.upper)
    given_lower, given_upper = lower.copy(), upper.copy()
    blocks = zip(program.l1_rate, program.l1_linear, program.l1_reference, program.l1_cap, strict=True)
    for rate, linear, reference, cap in blocks:
        # k|w - r| + g(w - r) is a sum of what no asset can take below zero, where |g| <= k
        if np.isfinite(cap) and (np.abs(linear) <= rate).all():
            room = cap - float(linear @ reference)
            up, down = rate + linear, rate - linear
            upper = np.minimum(upper, np.where(up > 0, reference + room / np.where(up > 0, up, 1.0), np.inf))
            lower = np.maximum(lower, np.where(down > 0, reference - room / np.where(down > 0, down, 1.0), -np.inf))
    for _ in range(_ROUNDS):
        before = lower, upper
        for row, low, high in zip(program.rows, program.row_lower, program.row_upper, strict=True):
            for sign, limit in ((1.0, high), (-1.0, -low)):
                if np.isfinite(limit):
                    lower, upper = _propagate(sign * row, limit, lower, upper)
        if np.array_equal(before[0], lower) and np.array_equal(before[1], upper):
            break
    lower = np.where(lower > given_lower, lower - _SLACK * np.maximum(1.0, np.abs(lower)), given_lower)
    upper = np.where(upper < given_upper, upper + _SLACK * np.maximum(1.0, np.abs(upper)), given_upper)
    return np.maximum(lower, given_lower), np.minimum(upper, given_upper)


def _propagate(row: FloatArray, limit: float, lower: FloatArray, upper: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Tighten bounds by row'w <= limit: each entry gets what the smallest activity of the others leaves."""
    used = row != 0
    with np.errstate(invalid="ignore"):
        least = np.where(used, row * np.where(row > 0, lower, upper), 0.0)
    finite = np.isfinite(least)
    endless = np.count_nonzero(~finite)
    if endless > 1:
        return lower, upper
    bounded = np.where(finite, least, 0.0)
    total = float(bounded.sum())
    # rounding of the sums is not to be blown up from sweep to sweep, so every step is a little generous
    slack = _GENEROUS * (1.0 + abs(limit) + float(np.abs(bounded).sum()))
    known = used if not endless else used & ~finite
    room = limit - (total - bounded) + slack
    implied = np.divide(room, row, out=np.zeros_like(row), where=known)
    upper = np.where(known & (row > 0), np.minimum(upper, implied), upper)
    lower = np.where(known & (row < 0), np.maximum(lower, implied), lower)
    return lower, upper


def initial_weights(program: HingeProgram, lower: FloatArray, upper: FloatArray, n: int) -> FloatArray:
    """A point inside the bounds that meets an equality on the sum of the first n, the weights, where there is one."""
    rest = np.clip(0.0, lower[n:], upper[n:])
    lower, upper = lower[:n], upper[:n]
    return np.append(_inside(program, lower, upper, n), rest)


def _inside(program: HingeProgram, lower: FloatArray, upper: FloatArray, n: int) -> FloatArray:
    total = 0.0
    for row, low, high in zip(program.rows, program.row_lower, program.row_upper, strict=True):
        if low == high and (row[:n] == 1.0).all() and not row[n:].any():
            total = float(low)
    low = np.where(np.isfinite(lower), lower, np.minimum(0.0, np.where(np.isfinite(upper), upper - 1.0, -1.0)))
    high = np.where(np.isfinite(upper), upper, np.maximum(0.0, low + 1.0))
    even = np.full(n, total / n)
    if np.all((even >= low) & (even <= high)):
        return even
    room = float((high - low).sum())
    share = 0.5 if room <= 0 else float(np.clip((total - low.sum()) / room, 0.0, 1.0))
    return low + share * (high - low)

"""Move an interior-point answer onto its active set, so that what should be zero is zero and what binds binds exactly.

The interior-point answer ends a hair inside every limit. Its multipliers tell which bounds, rows, caps, kinks and tied
scenarios are active; those equations are linear in the remaining weights, and the least change that satisfies them
lands on the optimal face. Whoever calls this keeps the outcome only if the certificate is no worse.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from portfolioopt.problem import Compiled
from portfolioopt_kernels import Solution

from .certificate import Evaluation

FloatArray: TypeAlias = npt.NDArray[np.float64]
_NEAR = 1e-6  # relative slack within which a limit can be active
_PARTIAL = 1e-5  # a scenario is tied when its dual is this far, relatively, from both of its ends


def polish(compiled: Compiled, weights: FloatArray, solution: Solution, evaluation: Evaluation) -> FloatArray | None:
    """Weights (N,) on the active set suggested by the multipliers, or None where the equations give nothing usable."""
    p, m = compiled.program, evaluation.multipliers
    price_size = max(
        float(np.abs(p.linear).max(initial=0.0)),
        float(m.lower.max(initial=0.0)),
        float(m.upper.max(initial=0.0)),
        1e-300,
    )

    at_lower = _active(weights - p.lower, m.lower / price_size)
    at_upper = _active(p.upper - weights, m.upper / price_size) & ~at_lower
    fixed = np.where(at_lower, p.lower, np.where(at_upper, p.upper, weights))
    pinned = at_lower | at_upper | (p.lower == p.upper)
    level_l1 = p.l1_weight + m.l1_cap
    for rate, reference, level in zip(p.l1_rate, p.l1_reference, level_l1, strict=True):
        kink = (rate * level > 1e-9 * price_size) & (np.abs(weights - reference) <= 1e-7) & ~pinned
        fixed = np.where(kink, reference, fixed)
        pinned = pinned | kink
    loose = np.flatnonzero(~pinned)

    equations: list[FloatArray] = []
    sides: list[float] = []
    blocks = len(p.cvar_level)
    unit = np.sqrt(np.mean(p.returns**2)) if blocks else 1.0
    unit = unit if unit > 0 else 1.0
    level_cvar = p.cvar_weight + m.cvar_cap
    for b in range(blocks):
        if level_cvar[b] <= 1e-9 * max(float(level_cvar.max()), 1e-300):
            continue
        density = p.cvar_density[b]
        share = np.divide(m.scenario[b], level_cvar[b] * density, out=np.zeros_like(density), where=density > 0)
        tied = np.flatnonzero((share > _PARTIAL) & (share < 1.0 - _PARTIAL))
        column = np.zeros(blocks)
        column[b] = 1.0
        if len(tied) > 4 * (len(weights) + 4):
            return None
        for s in tied:
            equations.append(np.concatenate([p.returns[s] / unit, column]))
            sides.append(0.0)
        if np.isfinite(p.cvar_cap[b]) and m.cvar_cap[b] * unit > 1e-7 * price_size:
            beyond = share >= 1.0 - _PARTIAL
            over = (p.cvar_linear[b] - density[beyond] @ p.returns[beyond]) / unit
            equations.append(np.concatenate([over, column * (p.cvar_level[b] - density[beyond].sum())]))
            sides.append(float(p.cvar_cap[b]) / unit)
    activity = p.rows @ weights
    for row, low, high, y, now in zip(p.rows, p.row_lower, p.row_upper, m.row, activity, strict=True):
        size = float(np.abs(row).max())
        if size == 0:
            continue
        side = low if low == high or y < 0 else high
        near = np.isfinite(side) and abs(now - side) <= _NEAR * max(size, abs(side))
        if low == high or (near and abs(y) * size > 1e-7 * price_size):
            equations.append(np.concatenate([row / size, np.zeros(blocks)]))
            sides.append(float(side) / size)
    for rate, reference, cap, eta in zip(p.l1_rate, p.l1_reference, p.l1_cap, m.l1_cap, strict=True):
        if np.isfinite(cap) and eta * float(rate.max()) > 1e-7 * price_size:
            slope = rate * np.sign(fixed - reference)
            equations.append(np.concatenate([slope, np.zeros(blocks)]))
            sides.append(float(cap + slope @ reference))
    if not equations:
        return fixed

    matrix = np.array(equations)
    unknown = np.concatenate([loose, len(weights) + np.arange(blocks)])
    now = np.concatenate([fixed, solution.var / unit])
    residual = np.array(sides) - matrix @ now
    correction, *_ = np.linalg.lstsq(matrix[:, unknown], residual, rcond=1e-11)
    if not np.isfinite(correction).all() or np.abs(correction[: len(loose)]).max(initial=0.0) > 1e-3:
        return None
    moved = fixed.copy()
    moved[loose] += correction[: len(loose)]
    return np.clip(moved, p.lower, p.upper)


def _active(slack: FloatArray, relative_price: FloatArray) -> npt.NDArray[np.bool_]:
    """Slack small and its price larger: strict complementarity tells the two apart late in the solve."""
    return (slack <= _NEAR) & ((slack <= 1e-9) | (relative_price > slack))

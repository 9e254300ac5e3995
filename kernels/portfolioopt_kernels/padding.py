"""Round shapes up to a few sizes, so that a loop over slightly different problems compiles once.

Padding scenarios have density zero, padding assets are fixed at zero, padding rows have no sides: none of them
takes part in the solve, and :func:`unpad` cuts them off again.
"""

from __future__ import annotations

import equinox as eqx
import numpy as np

from .program import HingeProgram, Solution

STEPS_PER_OCTAVE = 16  # at most 1/16 of the work is padding


def bucket(size: int, steps: int = STEPS_PER_OCTAVE) -> int:
    """The smallest bucket size >= size: multiples of 2^k / steps within each octave."""
    if size <= steps:
        return size
    unit = 1 << max((size - 1).bit_length() - 1 - (steps.bit_length() - 1), 0)
    return -(-size // unit) * unit


def padded_shape(scenarios: int, assets: int, rows: int) -> tuple[int, int, int]:
    """Bucket sizes for (S, N, C); rows go in fours because they are few and cheap."""
    return bucket(scenarios), bucket(assets), -(-rows // 4) * 4


def pad(program: HingeProgram) -> HingeProgram:
    """Pad a NumPy program to its bucket sizes."""
    s, n, _, _, c = program.shape
    to_s, to_n, to_c = padded_shape(s, n, c)

    def assets(array: np.ndarray, value: float = 0.0) -> np.ndarray:
        width = [(0, 0)] * (array.ndim - 1) + [(0, to_n - n)]
        return np.pad(array, width, constant_values=value)

    def rows(array: np.ndarray, value: float = 0.0) -> np.ndarray:
        return np.pad(array, [(0, to_c - c)] + [(0, 0)] * (array.ndim - 1), constant_values=value)

    returns = np.asarray(program.returns)
    if (to_s, to_n) != (s, n):
        returns = np.pad(returns, ((0, to_s - s), (0, to_n - n)))
    return HingeProgram(
        returns=returns,
        linear=assets(np.asarray(program.linear)),
        cvar_density=np.pad(np.asarray(program.cvar_density), ((0, 0), (0, to_s - s))),
        cvar_level=program.cvar_level,
        cvar_linear=assets(np.asarray(program.cvar_linear)),
        cvar_weight=program.cvar_weight,
        cvar_cap=program.cvar_cap,
        l1_rate=assets(np.asarray(program.l1_rate)),
        l1_reference=assets(np.asarray(program.l1_reference)),
        l1_weight=program.l1_weight,
        l1_cap=program.l1_cap,
        rows=rows(assets(np.asarray(program.rows))),
        row_lower=rows(np.asarray(program.row_lower), -np.inf),
        row_upper=rows(np.asarray(program.row_upper), np.inf),
        lower=assets(np.asarray(program.lower)),
        upper=assets(np.asarray(program.upper)),
        start=assets(np.asarray(program.start)),
    )


def unpad(solution: Solution, scenarios: int, assets: int, rows: int) -> Solution:
    """Cut a solution of a padded program back to the original sizes."""
    return eqx.tree_at(
        lambda x: (x.weights, x.scenario_dual, x.row_dual),
        solution,
        (solution.weights[:assets], solution.scenario_dual[:, :scenarios], solution.row_dual[:rows]),
    )

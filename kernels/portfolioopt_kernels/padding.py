"""Round shapes up to a few sizes, so that a loop over slightly different problems compiles once.

Padding scenarios have density zero, padding assets are fixed at zero, padding rows have no sides: none of them
takes part in the solve, and :func:`unpad` cuts them off again.
"""

from __future__ import annotations

import numpy as np

from .program import HingeProgram, Solution, exchange

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
    if (to_s, to_n, to_c) == (s, n, c):
        return program

    def assets(array: np.ndarray, value: float = 0.0) -> np.ndarray:
        return _grow(np.asarray(array), (*np.shape(array)[:-1], to_n), value)

    def rows(array: np.ndarray, value: float = 0.0) -> np.ndarray:
        return _grow(np.asarray(array), (to_c, *np.shape(array)[1:]), value)

    return exchange(
        program,
        returns=_grow(np.asarray(program.returns), (to_s, to_n), 0.0),
        linear=assets(program.linear),
        cvar_density=_grow(np.asarray(program.cvar_density), (len(program.cvar_density), to_s), 0.0),
        cvar_linear=assets(program.cvar_linear),
        l1_rate=assets(program.l1_rate),
        l1_linear=assets(program.l1_linear),
        l1_reference=assets(program.l1_reference),
        rows=rows(assets(program.rows)),
        row_lower=rows(program.row_lower, -np.inf),
        row_upper=rows(program.row_upper, np.inf),
        lower=assets(program.lower),
        upper=assets(program.upper),
        start=assets(program.start),
    )


def _grow(array: np.ndarray, shape: tuple[int, ...], value: float) -> np.ndarray:
    """The array in the corner of a larger one, filled up with a value."""
    if array.shape == shape:
        return array
    if array.size and not any(array.strides):  # one number standing in for a matrix
        return np.broadcast_to(array.flat[0], shape)
    grown = np.full(shape, value, array.dtype)
    grown[tuple(slice(size) for size in array.shape)] = array
    return grown


def unpad(solution: Solution, scenarios: int, assets: int, rows: int) -> Solution:
    """Cut a solution of a padded program back to the original sizes."""
    return exchange(
        solution,
        weights=solution.weights[:assets],
        scenario_dual=solution.scenario_dual[:, :scenarios],
        row_dual=solution.row_dual[:rows],
    )

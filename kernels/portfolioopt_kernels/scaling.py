"""Bring a program to unit size, and its solution back.

Returns are divided by their root mean square, the objective by its largest coefficient and each row by its own, so
that daily returns of 1e-2 and profits of 1e4 look the same to the solver. Works on NumPy arrays as well as inside JAX.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from .program import HingeProgram, Solution, exchange


class Scale(NamedTuple):
    """Sizes that were divided out."""

    returns: Float[Any, ""]
    objective: Float[Any, ""]
    rows: Float[Any, " C"]


def measure(program: HingeProgram) -> Scale:
    """The sizes of returns, objective and rows; one where all of them are zero."""
    xp: Any = np if isinstance(program.returns, np.ndarray) else jnp
    live = (program.upper > program.lower) & xp.any(program.returns != 0, axis=0)
    density = xp.sum(program.cvar_density, axis=0)
    total = xp.sum(density)
    squares = (density / xp.where(total > 0, total, 1.0)) @ xp.square(program.returns)
    size = xp.sqrt(xp.sum(xp.where(live, squares, 0.0)) / xp.maximum(xp.sum(live), 1))
    size = xp.where(size > 0, size, 1.0)
    candidates = [
        xp.abs(program.linear),
        program.cvar_weight * size,
        xp.ravel(program.l1_weight[:, None] * program.l1_rate),
    ]
    objective = xp.max(xp.concatenate(candidates), initial=0.0)
    objective = xp.where(objective > 0, objective, 1.0)
    rows = xp.max(xp.abs(program.rows), axis=1, initial=0.0)
    return Scale(size, objective, xp.where(rows > 0, rows, 1.0))


def divide(program: HingeProgram, scale: Scale) -> HingeProgram:
    """Divide returns, objective and rows by their sizes; weights and bounds keep their units."""
    return exchange(divide_rest(program, scale), returns=program.returns / scale.returns)


def divide_rest(program: HingeProgram, scale: Scale) -> HingeProgram:
    """:func:`divide` for everything but the returns, which stay as they are."""
    size, objective, rows = scale
    return exchange(
        program,
        rows=program.rows / rows[:, None],
        row_lower=program.row_lower / rows,
        row_upper=program.row_upper / rows,
        linear=program.linear / objective,
        cvar_linear=program.cvar_linear / size,
        cvar_weight=program.cvar_weight * size / objective,
        cvar_cap=program.cvar_cap / size,
        l1_weight=program.l1_weight / objective,
    )


def scale(program: HingeProgram) -> tuple[HingeProgram, Scale]:
    """:func:`measure` and :func:`divide`."""
    sizes = measure(program)
    return divide(program, sizes), sizes


def unscale(solution: Solution, scale: Scale) -> Solution:
    """Undo :func:`divide` on weights and multipliers, so that they belong to the original program."""
    price = scale.objective / scale.returns
    return exchange(
        solution,
        var=solution.var * scale.returns,
        scenario_dual=solution.scenario_dual * price,
        row_dual=solution.row_dual * scale.objective / scale.rows,
        cvar_cap_dual=solution.cvar_cap_dual * price,
        l1_cap_dual=solution.l1_cap_dual * scale.objective,
    )

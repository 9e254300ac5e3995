"""Bring a program to unit size, and its solution back.

Returns are divided by their root mean square, the objective by its largest coefficient and each row by its own, so
that daily returns of 1e-2 and profits of 1e4 look the same to the solver. Works on NumPy arrays as well as inside JAX.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from .program import HingeProgram, Solution


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
    size, objective, rows = scale
    return eqx.tree_at(
        lambda p: (
            p.rows,
            p.row_lower,
            p.row_upper,
            p.returns,
            p.linear,
            p.cvar_linear,
            p.cvar_weight,
            p.cvar_cap,
            p.l1_weight,
        ),
        program,
        (
            program.rows / rows[:, None],
            program.row_lower / rows,
            program.row_upper / rows,
            program.returns / size,
            program.linear / objective,
            program.cvar_linear / size,
            program.cvar_weight * size / objective,
            program.cvar_cap / size,
            program.l1_weight / objective,
        ),
    )


def scale(program: HingeProgram) -> tuple[HingeProgram, Scale]:
    """:func:`measure` and :func:`divide`."""
    sizes = measure(program)
    return divide(program, sizes), sizes


def unscale(solution: Solution, scale: Scale) -> Solution:
    """Undo :func:`divide` on weights and multipliers, so that they belong to the original program."""
    price = scale.objective / scale.returns
    return eqx.tree_at(
        lambda s: (s.var, s.scenario_dual, s.row_dual, s.cvar_cap_dual, s.l1_cap_dual),
        solution,
        (
            solution.var * scale.returns,
            solution.scenario_dual * price,
            solution.row_dual * scale.objective / scale.rows,
            solution.cvar_cap_dual * price,
            solution.l1_cap_dual * scale.objective,
        ),
    )

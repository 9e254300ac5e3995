"""Bring a program to unit size, and its solution back.

Returns are divided by their root mean square, the objective by its largest coefficient and each row by its own, so
that daily returns of 1e-2 and profits of 1e4 look the same to the solver.
"""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .program import HingeProgram, Solution


class Scale(NamedTuple):
    """Sizes that were divided out."""

    returns: Float[Array, ""]
    objective: Float[Array, ""]
    rows: Float[Array, " C"]


def scale(program: HingeProgram) -> tuple[HingeProgram, Scale]:
    """Divide returns, objective and rows by their sizes; weights and bounds keep their units.

    Where all returns, all objective coefficients or all entries of a row are zero the size is one.
    """
    live = (program.upper > program.lower) & jnp.any(program.returns != 0, axis=0)
    density = jnp.sum(program.cvar_density, axis=0)
    total = jnp.sum(density)
    squares = (density / jnp.where(total > 0, total, 1.0)) @ jnp.square(program.returns)
    size = jnp.sqrt(jnp.sum(jnp.where(live, squares, 0.0)) / jnp.maximum(jnp.sum(live), 1))
    size = jnp.where(size > 0, size, 1.0)
    candidates = [
        jnp.abs(program.linear),
        program.cvar_weight * size,
        jnp.ravel(program.l1_weight[:, None] * program.l1_rate),
    ]
    objective = jnp.max(jnp.concatenate(candidates), initial=0.0)
    objective = jnp.where(objective > 0, objective, 1.0)
    rows = jnp.max(jnp.abs(program.rows), axis=1, initial=0.0)
    rows = jnp.where(rows > 0, rows, 1.0)
    scaled = eqx.tree_at(
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
    return scaled, Scale(size, objective, rows)


def unscale(solution: Solution, scale: Scale) -> Solution:
    """Undo :func:`scale` on weights-and-multipliers, so that they belong to the original program."""
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

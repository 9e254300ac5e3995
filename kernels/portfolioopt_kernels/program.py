r"""The canonical program every portfolio problem is compiled to, and what comes back from solving it.

.. math::

    \min_{w, t}\; c'w \;+\; \sum_b \lambda_b H_b(w, t_b)
    \quad\text{s.t.}\quad H_b \le \kappa_b,\; \underline{a} \le A w \le \overline{a},\; l \le w \le u,

where every block :math:`H_b` is linear plus a weighted sum of hinges :math:`(x)_+ = \max(x, 0)`:

* a CVaR block (Rockafellar & Uryasev, 2000), :math:`H_m = g_m'w + \tau_m t_m + \sum_s \rho_{ms} (-r_s'w - t_m)_+`.
  With :math:`g = 0`, :math:`\tau = 1` and :math:`\rho_s = p_s/(1-\beta)` its minimum over t is the CVaR of the loss
  :math:`-R w` at level :math:`\beta`. Scenarios known to lie in the tail can be moved from the hinges into g and
  :math:`\tau`, scenarios known to lie outside can be left out;
* an L1 block, :math:`H_a = g_a'w + \sum_i k_{ai} |w_i - w^0_{ai}|`, written as
  :math:`g_a'w + \sum_i k_{ai}(w_i - w^0_{ai}) + 2 k_{ai} (w^0_{ai} - w_i)_+`: proportional costs, turnover, gross
  exposure, and with :math:`g = \pm k` what counts on one side only, as buys or shorts do.

Some of the weights may be auxiliary variables rather than holdings: their returns are zero. With them whatever is
convex and piecewise linear in w can be written this way (a largest of several risks, a cap on a sum of risks, slack).
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias, TypeVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Int

# Arrays that live on either side of the door: NumPy in the library, JAX (or tracers) inside a solve.
Dense: TypeAlias = Any

# Why the loop stopped; the library recomputes everything from the weights before it believes CONVERGED.
CONVERGED = 0
ITERATION_LIMIT = 1
STALLED = 2


class HingeProgram(eqx.Module):
    """One hinge program; shapes: S scenarios, N assets, M CVaR blocks, A L1 blocks, C rows.

    Infinite entries mean "no limit" in caps, row sides and bounds. A scenario with density zero and an asset
    with ``lower == upper`` are carried along without taking part, so padding costs nothing but space.
    """

    returns: Float[Dense, "S N"]
    """Scenario returns per horizon, as fractions."""
    linear: Float[Dense, " N"]
    """Cost vector c of the minimised objective."""
    cvar_density: Float[Dense, "M S"]
    """Hinge weights rho, p / (1 - beta) where nothing was aggregated; non-negative, summing to more than the level."""
    cvar_level: Float[Dense, " M"]
    """Coefficient tau of t, 1 where nothing was aggregated; positive."""
    cvar_linear: Float[Dense, "M N"]
    """Gradient g of the part of the block that is linear in w, 0 where nothing was aggregated."""
    cvar_weight: Float[Dense, " M"]
    """Objective weights, non-negative."""
    cvar_cap: Float[Dense, " M"]
    """Upper limits on the CVaR, in units of return; inf for none."""
    l1_rate: Float[Dense, "A N"]
    """Rates k per unit of |w - reference|, non-negative."""
    l1_linear: Float[Dense, "A N"]
    """Gradient g of the part of the block that is linear in w."""
    l1_reference: Float[Dense, "A N"]
    """Reference weights."""
    l1_weight: Float[Dense, " A"]
    """Objective weights, non-negative."""
    l1_cap: Float[Dense, " A"]
    """Upper limits on the rate-weighted L1 distance; inf for none."""
    rows: Float[Dense, "C N"]
    """Coefficients of the linear rows."""
    row_lower: Float[Dense, " C"]
    """Lower sides; equal to the upper side for an equality, -inf for none."""
    row_upper: Float[Dense, " C"]
    """Upper sides; inf for none."""
    lower: Float[Dense, " N"]
    """Lower bounds on the weights; -inf for none."""
    upper: Float[Dense, " N"]
    """Upper bounds on the weights; inf for none."""
    start: Float[Dense, " N"]
    """Where to start; moved into the interior of the bounds."""

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """(S, N, M, A, C) of one program, without batch axes."""
        s, n = self.returns.shape[-2:]
        return s, n, self.cvar_level.shape[-1], self.l1_rate.shape[-2], self.rows.shape[-2]


class Settings(NamedTuple):
    """Stopping rules of the interior-point loop; all are run-time values, so changing them never recompiles."""

    gap_tolerance: ArrayLike = 1e-10
    """Stop when (objective - rigorous dual bound) <= gap_tolerance * size of the objective's largest term."""
    feasibility_tolerance: ArrayLike = 1e-10
    """Largest residual of rows and caps, relative to max(1, |limit|), in scaled units."""
    max_iterations: ArrayLike = 200
    """Newton steps (each is one factorisation)."""


class Solution(eqx.Module):
    """Weights, multipliers and how the loop ended, in the units of the program."""

    weights: Float[Dense, " N"]
    var: Float[Dense, " M"]
    """The t of each CVaR block, a value-at-risk when the block matters."""
    scenario_dual: Float[Dense, "M S"]
    r"""q, with :math:`0 \le q_s \le (\lambda+\eta) \rho_s` and :math:`\sum q = (\lambda + \eta) \tau`."""
    row_dual: Float[Dense, " C"]
    """Multipliers of the rows: positive prices the upper side, negative the lower."""
    cvar_cap_dual: Float[Dense, " M"]
    """eta >= 0: decrease of the minimised objective per unit of a looser CVaR cap."""
    l1_cap_dual: Float[Dense, " A"]
    """Likewise for the L1 caps."""
    status: Int[Dense, ""]
    iterations: Int[Dense, ""]
    gap: Float[Dense, ""]
    """Relative gap the loop saw last, at the returned point."""
    infeasibility: Float[Dense, ""]
    """Largest relative residual of rows and caps the loop saw, at the returned point."""


class Hinges(NamedTuple):
    """One number per hinge: a value for every scenario of every CVaR block and every asset of every L1 block."""

    scenario: Float[Array, "M S"]
    l1: Float[Array, "A N"]


class HingeMasks(NamedTuple):
    """Which hinges, assets and row sides take part (the rest are padding, fixed or absent)."""

    hinge_scenario: Bool[Array, "M S"]
    hinge_l1: Bool[Array, "A N"]
    free: Bool[Array, " N"]
    has_lower: Bool[Array, " N"]
    has_upper: Bool[Array, " N"]
    equality: Bool[Array, " C"]
    row_has_lower: Bool[Array, " C"]
    row_has_upper: Bool[Array, " C"]
    capped: Bool[Array, " B"]


def masks(program: HingeProgram) -> HingeMasks:
    """Read off the program which of its parts take part."""
    free = program.upper > program.lower
    equality = program.row_lower == program.row_upper
    return HingeMasks(
        hinge_scenario=program.cvar_density > 0,
        hinge_l1=(program.l1_rate > 0) & free,
        free=free,
        has_lower=free & jnp.isfinite(program.lower),
        has_upper=free & jnp.isfinite(program.upper),
        equality=equality,
        row_has_lower=~equality & jnp.isfinite(program.row_lower),
        row_has_upper=~equality & jnp.isfinite(program.row_upper),
        capped=jnp.isfinite(jnp.concatenate([program.cvar_cap, program.l1_cap])),
    )


Arrays = TypeVar("Arrays", HingeProgram, Solution)


def exchange(module: Arrays, **arrays: Any) -> Arrays:
    """The same program or solution with the named arrays exchanged; far quicker than `equinox.tree_at`."""
    other = object.__new__(type(module))
    for name, value in {**vars(module), **arrays}.items():
        object.__setattr__(other, name, value)
    return other

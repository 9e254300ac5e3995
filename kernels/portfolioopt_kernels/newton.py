r"""The Newton system of the interior-point method, reduced to the assets.

Every hinge is eliminated exactly and leaves one weight :math:`\theta = 1 / (x/q + u/v)`; what remains is a symmetric
positive definite matrix over (w, t) - one weighted Gram matrix of the returns however many CVaR blocks there are -
bordered by the few rows and caps:

.. math::

    \begin{bmatrix} M & C' \\ C & -\Delta \end{bmatrix}
    \begin{bmatrix} dz \\ db \end{bmatrix} = \begin{bmatrix} f \\ h \end{bmatrix},
    \qquad M = \tilde A' \Theta \tilde A + \mathrm{diag}.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Bool, Float

# TF32 keeps ten bits of mantissa, which destroys weighted Gram matrices; this asks for full precision everywhere.
PRECISION = lax.Precision.HIGHEST


class Factor(NamedTuple):
    """Cholesky factor of D K D with D = diag(scale), so that the factored matrix has a unit diagonal."""

    lower: Float[Array, "K K"]
    scale: Float[Array, " K"]


def factor(matrix: Float[Array, "K K"]) -> Factor:
    """Factor a positive definite matrix after Jacobi scaling, adding a relative shift only as large as needed."""
    k = matrix.shape[0]
    diagonal = jnp.diagonal(matrix)
    size = jnp.where(diagonal > 0, diagonal, 1.0)
    d = 1.0 / jnp.sqrt(size)
    scaled = matrix * d[:, None] * d[None, :]
    scaled = scaled + jnp.diag(jnp.where(diagonal > 0, 0.0, 1.0))
    eps = jnp.finfo(matrix.dtype).eps
    eye = jnp.eye(k, dtype=matrix.dtype)

    def failed(state: tuple[Array, Array]) -> Bool[Array, ""]:
        shift, low = state
        return ~jnp.all(jnp.isfinite(low)) & (shift < 1e-2)

    def retry(state: tuple[Array, Array]) -> tuple[Array, Array]:
        shift = 100.0 * state[0]
        return shift, jnp.linalg.cholesky(scaled + shift * eye)

    shift = jnp.asarray(eps, matrix.dtype)
    _, low = lax.while_loop(failed, retry, (shift, jnp.linalg.cholesky(scaled + shift * eye)))
    return Factor(low, d)


def half_solve(f: Factor, right: Float[Array, "K R"]) -> Float[Array, "K R"]:
    """L^{-1} D right, so that K^{-1} = half_solve' half_solve."""
    return solve_triangular(f.lower, right * f.scale[:, None], lower=True)


def back_solve(f: Factor, right: Float[Array, " K"]) -> Float[Array, " K"]:
    """K^{-1} right."""
    half = solve_triangular(f.lower, right * f.scale, lower=True)
    return solve_triangular(f.lower, half, lower=True, trans="T") * f.scale


class Kkt(NamedTuple):
    """A factored bordered system."""

    matrix: Float[Array, "K K"]
    border: Float[Array, "B K"]
    corner: Float[Array, " B"]
    main: Factor
    schur: Factor


def factor_kkt(matrix: Float[Array, "K K"], border: Float[Array, "B K"], corner: Float[Array, " B"]) -> Kkt:
    """Factor M and the Schur complement C M^{-1} C' + Delta. A dead border row is zero with corner one."""
    main = factor(matrix)
    half = half_solve(main, border.T)
    schur = factor(jnp.matmul(half.T, half, precision=PRECISION) + jnp.diag(corner))
    return Kkt(matrix, border, corner, main, schur)


def solve_kkt(
    kkt: Kkt, right: Float[Array, " K"], right_border: Float[Array, " B"]
) -> tuple[Float[Array, " K"], Float[Array, " B"]]:
    """Solve with one step of iterative refinement against the unfactored matrix."""

    def once(f: Array, h: Array) -> tuple[Array, Array]:
        first = back_solve(kkt.main, f)
        b = back_solve(kkt.schur, kkt.border @ first - h)
        return back_solve(kkt.main, f - kkt.border.T @ b), b

    dz, db = once(right, right_border)
    residual = right - jnp.matmul(kkt.matrix, dz, precision=PRECISION) - kkt.border.T @ db
    residual_border = right_border - kkt.border @ dz + kkt.corner * db
    ez, eb = once(residual, residual_border)
    better = jnp.all(jnp.isfinite(ez)) & jnp.all(jnp.isfinite(eb))
    return jax.tree.map(lambda a, e: jnp.where(better, a + e, a), (dz, db), (ez, eb))

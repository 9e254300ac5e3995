r"""The Newton system of the interior-point method, reduced to the assets.

Every hinge is eliminated exactly and leaves one weight :math:`\theta = 1 / (x/q + u/v)`; what remains is a symmetric
positive definite matrix over (w, t) - one weighted Gram matrix of the returns however many CVaR blocks there are -
bordered by the few rows and caps:

.. math::

    \begin{bmatrix} M & C' \\ C & -\Delta \end{bmatrix}
    \begin{bmatrix} dz \\ db \end{bmatrix} = \begin{bmatrix} f \\ h \end{bmatrix},
    \qquad M = \tilde A' \Theta \tilde A + \mathrm{diag}.

Without CVaR blocks M is a diagonal plus whatever is quadratic in the objective. Where that is a covariance in factored
form, so is M, and Woodbury's identity solves with it in O(N K^2).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.linalg import lu_factor, lu_solve, solve_triangular
from jaxtyping import Array, Bool, Float, Int

from .program import Dense

# TF32 keeps ten bits of mantissa, which destroys weighted Gram matrices; this asks for full precision everywhere.
PRECISION = lax.Precision.HIGHEST


class Factored(NamedTuple):
    r"""A symmetric matrix :math:`\mathrm{diag}(d) + R\,\mathrm{diag}(s) R'`, positive definite as a whole."""

    diagonal: Dense  # d (K,), positive where the matrix is to be solved with
    root: Dense  # R (K, R)
    sign: Dense  # s (R,), each 1 or -1

    def times(self, x: Dense) -> Dense:
        """The product with a vector (K,)."""
        return self.diagonal * x + self.root @ (self.sign * (self.root.T @ x))


class FactoredFactor(NamedTuple):
    """A :class:`Factored` made ready to be solved with."""

    inverse: Float[Array, " K"]  # 1 / d
    spread: Float[Array, "K R"]  # R / d
    lower_upper: Float[Array, "R R"]  # of diag(s) + R' (R / d), which is not definite where a sign is negative
    pivots: Int[Array, " R"]


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


def factor_low_rank(matrix: Factored) -> FactoredFactor:
    """Factor by Woodbury's identity."""
    inverse = 1.0 / matrix.diagonal
    spread = matrix.root * inverse[:, None]
    core = jnp.diag(matrix.sign) + jnp.matmul(matrix.root.T, spread, precision=PRECISION)
    return FactoredFactor(inverse, spread, *lu_factor(core))


def back_solve(f: Factor | FactoredFactor, right: Float[Array, " K"]) -> Float[Array, " K"]:
    """K^{-1} right."""
    if isinstance(f, FactoredFactor):
        inner = lu_solve((f.lower_upper, f.pivots), jnp.matmul(f.spread.T, right, precision=PRECISION))
        return f.inverse * right - jnp.matmul(f.spread, inner, precision=PRECISION)
    half = solve_triangular(f.lower, right * f.scale, lower=True)
    return solve_triangular(f.lower, half, lower=True, trans="T") * f.scale


class Kkt(NamedTuple):
    """A factored bordered system."""

    matrix: Float[Array, "K K"] | Factored
    border: Float[Array, "B K"]
    corner: Float[Array, " B"]
    main: Factor | FactoredFactor
    schur: Factor


def factor_kkt(matrix: Float[Array, "K K"] | Factored, border: Float[Array, "B K"], corner: Float[Array, " B"]) -> Kkt:
    """Factor M and the Schur complement C M^{-1} C' + Delta. A dead border row is zero with corner one."""
    if isinstance(matrix, Factored):
        low_rank = factor_low_rank(matrix)
        solved = jax.vmap(lambda row: back_solve(low_rank, row))(border)
        product = jnp.matmul(border, solved.T, precision=PRECISION)
        return Kkt(matrix, border, corner, low_rank, factor(0.5 * (product + product.T) + jnp.diag(corner)))
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
    if isinstance(kkt.matrix, Factored):
        product = kkt.matrix.times(dz)
    else:
        product = jnp.matmul(kkt.matrix, dz, precision=PRECISION)
    residual = right - product - kkt.border.T @ db
    residual_border = right_border - kkt.border @ dz + kkt.corner * db
    ez, eb = once(residual, residual_border)
    better = jnp.all(jnp.isfinite(ez)) & jnp.all(jnp.isfinite(eb))
    return jax.tree.map(lambda a, e: jnp.where(better, a + e, a), (dz, db), (ez, eb))

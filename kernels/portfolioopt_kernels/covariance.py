r"""Covariances and factor regressions over rolling windows: all windows in one call, at a cost per row, not per window.

Rows of T periods; window d is the `window` rows from row :math:`d \cdot \mathrm{every}` on, so that D windows take
:math:`T \ge (D - 1)\,\mathrm{every} + \mathrm{window}` rows. Row t of a window weighs :math:`\lambda^{a}`, where a is
its age, the rows that follow it in the window, and :math:`\lambda = 1` weighs all alike.

Sums over windows are made of sums from within blocks that are as long as a window, and a window reaches over two of
them: the end of one, summed backwards, and the beginning of the next, summed forwards (van Herk, 1992, Pattern
Recognition Letters 13, for running maxima). Unlike differences of cumulative sums, nothing is ever taken away again, so
a window knows nothing of the size of what has left it, nor of what follows it, and costs two additions.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from .newton import PRECISION


class RollingRegression(NamedTuple):
    """Factor models of D windows."""

    exposures: Float[Array, "D K N"]
    factor_covariance: Float[Array, "D K K"]
    idiosyncratic: Float[Array, "D N"]
    unexplained: Float[Array, "D K"]
    """Share of the variance of each factor that those before it leave unexplained; all 0 where one is collinear."""


@partial(jax.jit, static_argnames=("window", "every"))
def rolling_covariances(
    x: Float[Array, "T K"], decay: Float[Array, ""], *, window: int, every: int = 1
) -> Float[Array, "D K K"]:
    r"""Unbiased covariance of every window, :math:`\sum_t p_t (x_t - m)(x_t - m)' / (1 - \sum_t p_t^2)`.

    p are the weights of the rows, scaled to a sum of one, and m the mean under them. `x` is best centred, roughly:
    where a mean is c standard deviations from zero, the error is about :math:`c^2` units of the last place.

    Windows come in whole blocks of :math:`\lfloor \mathrm{window} / \mathrm{every} \rfloor`, so there may be more than
    fit into `x`: those that reach beyond its end are not meant, and their numbers of no use.
    """
    weight, rest = _weights(window, decay)

    def finish(products: Float[Array, "B K K"], sums: Float[Array, "B K"]) -> Float[Array, "B K K"]:
        return (products - sums[:, :, None] * sums[:, None, :] / weight) / (weight * rest)

    def of_rows(rows: Float[Array, "B L K"], p: Float[Array, " L"]) -> tuple[Any, Any]:
        return _gram(rows, p[:, None] * rows), p @ rows

    return _rolling(of_rows, finish, x, decay, window, every)


@partial(jax.jit, static_argnames=("window", "every"))
def rolling_regressions(
    returns: Float[Array, "T N"], factors: Float[Array, "T K"], decay: Float[Array, ""], *, window: int, every: int = 1
) -> RollingRegression:
    r"""Weighted least squares of N returns on K factors and a constant in every window.

    With the weights p of the rows, scaled to a sum of one, and :math:`n = 1 / \sum_t p_t^2`, the number of rows where
    they are all alike: exposures from the normal equations of the deviations from the means, by Cholesky; factor
    covariance as in `rolling_covariances`; idiosyncratic variances :math:`\frac{n}{n - K - 1} \sum_t p_t e_t^2`. Both
    arguments are best centred, roughly. Windows come in whole blocks, as there.
    """
    count = factors.shape[1]
    weight, rest = _weights(window, decay)
    effective = 1.0 / (1.0 - rest)

    def of_rows(rows: Float[Array, "B L M"], p: Float[Array, " L"]) -> tuple[Any, Any]:
        weighted = p[:, None] * rows
        right = rows[:, :, count:]
        return (_gram(weighted[:, :, :count], rows), p @ (right * right)), p @ rows

    def finish(products: Any, sums: Float[Array, "B M"]) -> RollingRegression:
        crossed, squares = products
        crossed = crossed - sums[:, :count, None] * sums[:, None, :] / weight
        squares = squares - sums[:, count:] ** 2 / weight
        gram, right = crossed[:, :, :count], crossed[:, :, count:]
        scale = jnp.sqrt(jnp.einsum("bkk->bk", gram))
        safe = jnp.where(scale > 0.0, scale, 1.0)
        lower = jnp.linalg.cholesky(gram / (safe[:, :, None] * safe[:, None, :]), symmetrize_input=False)
        pivots = jnp.einsum("bkk->bk", lower) ** 2
        # the inverse is small; solving with all N right-hand sides takes longer than everything else together
        eye = jnp.broadcast_to(jnp.eye(count, dtype=gram.dtype), gram.shape)
        inverse = jax.scipy.linalg.cho_solve((lower, True), eye) / (safe[:, :, None] * safe[:, None, :])
        slopes = jnp.matmul(inverse, right, precision=PRECISION)
        # squares of residuals, written so that an error of the slopes enters squared
        missing = right - jnp.matmul(gram, slopes, precision=PRECISION)
        left = squares - jnp.einsum("bkn,bkn->bn", slopes, right + missing, precision=PRECISION)
        variance = jnp.maximum(left, 0.0) / weight * (effective / (effective - count - 1.0))
        return RollingRegression(slopes, gram / (weight * rest), variance, jnp.nan_to_num(pivots))

    return _rolling(of_rows, finish, jnp.concatenate([factors, returns], axis=1), decay, window, every)


@jax.jit
def factor_variances(
    exposures: Float[Array, "D K N"],
    factor_covariance: Float[Array, "D K K"],
    idiosyncratic: Float[Array, "D N"],
    weights: Float[Array, "N P"],
) -> Float[Array, "D P"]:
    r"""Variance of P portfolios under D factor models, :math:`w'(B F B' + \mathrm{diag}(d)) w`, in O(D K N P)."""
    met = jnp.matmul(exposures, weights, precision=PRECISION)
    common = jnp.einsum("dkp,dkp->dp", met, jnp.matmul(factor_covariance, met, precision=PRECISION))
    return common + jnp.matmul(idiosyncratic, weights * weights, precision=PRECISION)


@jax.jit
def variances(covariances: Float[Array, "D N N"], weights: Float[Array, "N P"]) -> Float[Array, "D P"]:
    r"""Variance of P portfolios under D covariances, :math:`w' \Sigma w`."""
    met = jnp.matmul(covariances, weights, precision=PRECISION)
    return jnp.einsum("np,dnp->dp", weights, met, precision=PRECISION)


def _gram(left: Float[Array, "B L K"], right: Float[Array, "B L M"]) -> Float[Array, "B K M"]:
    if left.shape[1] == 1:  # XLA makes a loop of small matrix products of it otherwise
        return left[:, 0, :, None] * right[:, 0, None, :]
    return jnp.einsum("blk,blm->bkm", left, right, precision=PRECISION)


def _weights(window: int, decay: Float[Array, ""]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The sum of the weights of a window's rows, and 1 less the sum of the squares of their shares."""
    p = decay ** jnp.arange(window, dtype=decay.dtype)
    total = jnp.sum(p)
    return total, 1.0 - jnp.sum((p / total) ** 2)


def _rolling(
    of_rows: Callable[[Any, Any], Any],
    finish: Callable[..., Any],
    x: Float[Array, "T M"],
    decay: Float[Array, ""],
    window: int,
    every: int,
) -> Any:
    """What `finish` makes of the sums over every window.

    ``of_rows(rows, p)`` are the weighted sums over axis 1 of rows (B, L, M), for any number L of them. A window is
    `head` rows and then `count` whole groups of `every` rows.
    """
    count, head = divmod(window, every)
    windows = (x.shape[0] - window) // every + 1
    step = decay**every

    def ages(rows: int) -> Float[Array, " L"]:
        return decay ** jnp.arange(rows - 1, -1, -1, dtype=x.dtype)

    if count == 0:  # windows do not overlap
        rows = x[: (windows - 1) * every + window]
        rows = jnp.pad(rows, ((0, every - window), (0, 0))).reshape(windows, every, -1)[:, :window]
        return finish(*of_rows(rows, ages(window)))

    blocks = -(-windows // count)  # of first groups; one more holds the last ends
    length = (blocks + 1) * count * every + head
    padded = jnp.pad(x, ((0, max(length - x.shape[0], 0)), (0, 0)))[:length]
    # a window begins at group i of one block and ends before group i of the next; its head lies before its first group
    grouped = padded[head:].reshape(blocks + 1, count, every, -1).swapaxes(0, 1)
    before = padded[: length - head].reshape(blocks + 1, count, every, -1).swapaxes(0, 1)[:, :-1, :head]

    def group(rows: Any) -> Any:
        return of_rows(rows, ages(every))

    def earlier(i: Any, sums: Any) -> Any:
        weight = step**i
        return jax.tree.map(lambda a, b: a + weight * b, sums, group(grouped[count - 1 - i, :-1]))

    def backwards(i: Any, carry: Any) -> Any:
        sums, kept = carry
        sums = earlier(i, sums)
        return sums, _put(kept, sums, count - 1 - i)

    def forwards(i: Any, carry: Any) -> Any:
        sums, kept, out = carry
        whole = jax.tree.map(lambda a, b: a + step**i * b[:, i], sums, kept)
        if head:
            whole = jax.tree.map(lambda a, b: a + step**count * b, whole, of_rows(before[i], ages(head)))
        out = _put(out, finish(*whole), i)
        sums = jax.tree.map(lambda a, b: step * a + b, sums, group(grouped[i, 1:]))
        return sums, kept, out

    needed = min(count, windows)  # of each block, as first row of a window
    none = jax.tree.map(jnp.zeros_like, jax.eval_shape(group, grouped[0, :-1]))
    sums = lax.fori_loop(0, count - needed, earlier, none)
    _, kept = lax.fori_loop(count - needed, count, backwards, (sums, _room(none, needed)))
    out = _room(jax.eval_shape(lambda sums: finish(*sums), none), needed)
    _, _, out = lax.fori_loop(0, needed, forwards, (none, kept, out))
    return jax.tree.map(lambda a: a.reshape(blocks * needed, *a.shape[2:]), out)


def _room(one: Any, count: int) -> Any:
    """For `count` of what has the shape (B, ...): (B, count, ...)."""
    return jax.tree.map(lambda a: jnp.zeros((a.shape[0], count, *a.shape[1:]), a.dtype), one)


def _put(kept: Any, one: Any, place: Any) -> Any:
    return jax.tree.map(lambda a, b: lax.dynamic_update_index_in_dim(a, b, place, 1), kept, one)

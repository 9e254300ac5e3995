r"""Gaussian hidden Markov models: filter, smoother, and maximum likelihood by expectation maximisation.

A state :math:`s_t` of M follows a Markov chain with transition :math:`A_{ij} = P(s_{t+1} = j \mid s_t = i)`, and given
the state the row :math:`x_t` (N,) is normal with the mean and covariance of that state. All recursions are in
logarithms, so that a row which no state explains takes nothing down to zero (Hamilton, 1989, Econometrica 57; Baum,
Petrie, Soules & Weiss, 1970, Annals of Mathematical Statistics 41).
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.special import logsumexp
from jaxtyping import Array, Bool, Float, Int

from .newton import PRECISION
from .program import Dense

CHUNK = 128


class HiddenMarkov(NamedTuple):
    """A model of M states for rows of N numbers."""

    initial: Float[Dense, " M"]
    transition: Float[Dense, "M M"]
    means: Float[Dense, "M N"]
    covariances: Float[Dense, "M N N"]


class Inference(NamedTuple):
    """What T rows say about the states."""

    filtered: Float[Array, "T M"]
    """Probabilities given the rows up to t."""
    smoothed: Float[Array, "T M"]
    """Probabilities given all rows."""
    log_likelihood: Float[Array, ""]


class Estimate(NamedTuple):
    """A model after expectation maximisation, one for each start where there are B."""

    model: HiddenMarkov
    log_likelihood: Float[Array, "*B"]
    occupancy: Float[Array, "*B M"]
    """Expected number of rows in each state."""
    iterations: Int[Array, "*B"]
    converged: Bool[Array, "*B"]


@jax.jit
def infer(x: Float[Array, "T N"], valid: Bool[Array, " T"], model: HiddenMarkov) -> Inference:
    """Filtered and smoothed probabilities; rows that are not valid, which must come last, say nothing."""
    density = _log_densities(x, valid, model)
    filtered, log_likelihood = _forward(density, model)
    smoothed = _smooth(filtered, _backward(density, model))
    return Inference(jnp.exp(filtered), smoothed, log_likelihood)


@partial(jax.jit, static_argnames=("diagonal", "switching_mean"))
def maximise(
    x: Float[Array, "T N"],
    valid: Bool[Array, " T"],
    starts: HiddenMarkov,
    tolerance: Float[Array, ""],
    floor: Float[Array, ""],
    limit: Int[Array, ""],
    *,
    diagonal: bool,
    switching_mean: bool,
) -> Estimate:
    """Expectation maximisation from every one of B starts.

    Parameters
    ----------
    x
        Rows, scaled so that variances are about one; those that are not valid come last and say nothing.
    starts
        Models with a leading axis B.
    tolerance
        Increase of the log likelihood in one iteration at which to stop.
    floor
        Added to the variances in every iteration, so that a state cannot shrink onto a point.
    limit
        Iterations after which to stop.
    diagonal, switching_mean
        Whether covariances are diagonal, and whether means differ between states.
    """

    def one(start: HiddenMarkov) -> Estimate:
        def step(
            state: tuple[HiddenMarkov, Array, Array, Array, Array],
        ) -> tuple[HiddenMarkov, Array, Array, Array, Array]:
            model, before, _, _, count = state
            model, likelihood, occupancy = _improved(x, valid, model, floor, diagonal, switching_mean)
            return model, likelihood, occupancy, likelihood - before, count + 1

        def going(state: tuple[HiddenMarkov, Array, Array, Array, Array]) -> Array:
            gain, count = state[3], state[4]
            return (gain > tolerance) & (count < limit)

        none = jnp.full((), -jnp.inf, x.dtype)
        first = (start, none, jnp.zeros(start.initial.shape, x.dtype), -none, jnp.zeros((), limit.dtype))
        model, _, occupancy, gain, count = lax.while_loop(going, step, first)
        _, likelihood = _forward(_log_densities(x, valid, model), model)
        return Estimate(model, likelihood, occupancy, count, gain <= tolerance)

    return lax.map(one, starts)


def _improved(
    x: Float[Array, "T N"],
    valid: Bool[Array, " T"],
    model: HiddenMarkov,
    floor: Float[Array, ""],
    diagonal: bool,
    switching_mean: bool,
) -> tuple[HiddenMarkov, Float[Array, ""], Float[Array, " M"]]:
    """One iteration, and the likelihood before it."""
    density = _log_densities(x, valid, model)
    filtered, log_likelihood = _forward(density, model)
    after = _backward(density, model)
    weight = _smooth(filtered, after) * valid[:, None]
    moves = filtered[:-1, :, None] + jnp.log(model.transition) + (density + after)[1:, None, :]
    moves = jnp.exp(moves - logsumexp(moves, axis=(1, 2), keepdims=True)) * valid[1:, None, None]
    moved = jnp.sum(moves, axis=0)
    transition = moved / jnp.sum(moved, axis=1, keepdims=True)
    occupancy = jnp.sum(weight, axis=0)
    safe = jnp.maximum(occupancy, 1e-12)
    width = x.shape[1]
    if switching_mean:
        means = jnp.matmul(weight.T, x, precision=PRECISION) / safe[:, None]
    else:
        # the one mean solves the normal equations under the covariances of the step before
        inverse = jnp.linalg.inv(model.covariances)
        left = jnp.einsum("m,mij->ij", occupancy, inverse, precision=PRECISION)
        right = jnp.einsum("mij,mj->i", inverse, jnp.matmul(weight.T, x, precision=PRECISION), precision=PRECISION)
        means = jnp.broadcast_to(jnp.linalg.solve(left, right), model.means.shape)
    centred = x[:, None, :] - means
    if diagonal:
        variance = jnp.einsum("tm,tmn->mn", weight, centred**2, precision=PRECISION) / safe[:, None]
        covariances = jnp.eye(width, dtype=x.dtype) * (variance + floor)[:, None, :]
    else:
        covariances = jnp.einsum("tm,tmi,tmj->mij", weight, centred, centred, precision=PRECISION)
        covariances = covariances / safe[:, None, None] + floor * jnp.eye(width, dtype=x.dtype)
    return HiddenMarkov(weight[0], transition, means, covariances), log_likelihood, occupancy


def _log_densities(x: Float[Array, "T N"], valid: Bool[Array, " T"], model: HiddenMarkov) -> Float[Array, "T M"]:
    lower = jnp.linalg.cholesky(model.covariances)
    centred = jnp.swapaxes(x[:, None, :] - model.means, 0, 1)
    white = lax.linalg.triangular_solve(lower, centred, left_side=False, lower=True, transpose_a=True)
    size = jnp.sum(jnp.log(jnp.einsum("mnn->mn", lower)), axis=1) + 0.5 * x.shape[1] * jnp.log(2.0 * jnp.pi)
    density = -0.5 * jnp.sum(white**2, axis=2).T - size
    return jnp.where(valid[:, None], density, 0.0)


def _forward(density: Float[Array, "T M"], model: HiddenMarkov) -> tuple[Float[Array, "T M"], Float[Array, ""]]:
    """Logarithms of the filtered probabilities, and the log likelihood."""
    chain = jnp.log(model.transition)

    def step(expected: Array, seen: Array) -> tuple[Array, tuple[Array, Array]]:
        joint = expected + seen
        total = logsumexp(joint)
        known = joint - total
        return logsumexp(known[:, None] + chain, axis=0), (known, total)

    filtered, totals = _scanned(step, jnp.log(model.initial), density, reverse=False)
    return filtered, jnp.sum(totals)


def _backward(density: Float[Array, "T M"], model: HiddenMarkov) -> Float[Array, "T M"]:
    """Logarithm of the density of the rows after t given each state at t, up to a constant for each t."""
    chain = jnp.log(model.transition)

    def step(after: Array, seen: Array) -> tuple[Array, Array]:
        before = logsumexp(chain + seen + after, axis=1)
        return before - jnp.max(before), after

    return _scanned(step, jnp.zeros_like(density[0]), density, reverse=True)


def _scanned(step: Any, first: Array, rows: Float[Array, "T M"], *, reverse: bool) -> Any:
    """A scan over the rows in two levels: XLA turns a loop over little memory into one function, 20 times as fast."""
    count = rows.shape[0]
    parts = -(-count // CHUNK)
    room = parts * CHUNK - count
    chunks = jnp.pad(rows, ((0, room), (0, 0))).reshape(parts, CHUNK, -1)  # rows that say nothing
    _, found = lax.scan(
        lambda carry, chunk: lax.scan(step, carry, chunk, reverse=reverse), first, chunks, reverse=reverse
    )
    return jax.tree.map(lambda a: a.reshape(parts * CHUNK, *a.shape[2:])[:count], found)


def _smooth(filtered: Float[Array, "T M"], after: Float[Array, "T M"]) -> Float[Array, "T M"]:
    return jax.nn.softmax(filtered + after, axis=1)

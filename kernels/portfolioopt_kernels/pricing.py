r"""European options by Black-Scholes with a dividend yield, their Greeks, implied volatilities, and P&L of many books.

With forward :math:`F = S e^{(r - q) T}`, total volatility :math:`s = \sigma \sqrt T` and :math:`\phi = 1` for calls, -1
for puts,

.. math:: V = e^{-rT} \left( \phi F N(\phi d_1) - \phi K N(\phi d_2) \right), \qquad
          d_{1,2} = \frac{\ln(F / K)}{s} \pm \frac{s}{2} .

Where s or S is zero, V is its limit :math:`e^{-rT} (\phi F - \phi K)_+`, and its derivatives are finite: the half of
those of the forward at a kink. Arrays broadcast, float32 or float64 throughout. Black & Scholes (1973), "The pricing of
options and corporate liabilities", J. Political Economy 81; Merton (1973), "Theory of rational option pricing", Bell J.
of Economics 4.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from .program import Dense

_NEWTON_STEPS = 64
_FARTHEST = 40.0  # total volatility above which an option is worth its bound to the last bit


class Instruments(NamedTuple):
    """I instruments as arrays (I,)."""

    underlying: Int[Dense, " i"]
    """Position of the underlying."""
    sign: Float[Dense, " i"]
    """1 for a call, -1 for a put, 0 for the underlying itself."""
    strike: Float[Dense, " i"]
    expiry: Float[Dense, " i"]
    """Years that are left at the horizon; not negative."""
    volatility: Float[Dense, " i"]
    """Per year, before it changes."""
    rate: Float[Dense, " i"]
    """Continuously compounded, per year, before it changes."""
    dividend: Float[Dense, " i"]
    """Continuous dividend yield per year."""


class Greeks(NamedTuple):
    """Derivatives of the value, in the shape of the arguments together."""

    value: Array
    delta: Array
    """By spot."""
    gamma: Array
    """By spot, twice."""
    vega: Array
    """By volatility (for one whole unit: 100 points)."""
    theta: Array
    """By time that passes, per year."""
    rho: Array
    """By the rate (for one whole unit)."""


def _normal(x: Array) -> Array:
    """Normal distribution function; one evaluation of erfc, exact in the far tail."""
    return 0.5 * lax.erfc(-x * jnp.asarray(0.5**0.5, x.dtype))


def _value(
    log_spot: Array, forward: Array, strike: Array, total: Array, carry: Array, discount: Array, sign: Array
) -> Array:
    """Discounted value from log S, F, K, s, (r - q) T, exp(-r T) and phi; its limit where s or F is next to zero."""
    alive = (total > 0) & _worth_something(forward, strike)
    s = jnp.where(alive, total, 1.0)
    d = (jnp.where(alive, log_spot, 0.0) + carry - jnp.log(strike)) / s
    smooth = sign * (forward * _normal(sign * (d + 0.5 * s)) - strike * _normal(sign * (d - 0.5 * s)))
    limit = jnp.maximum(sign * (forward - strike), 0.0)
    return discount * jnp.maximum(jnp.where(alive, smooth, limit), 0.0)


def _worth_something(price: Array, strike: Array) -> Array:
    """Whether a price is so far above zero that the second derivative of its logarithm is a number."""
    return price > jnp.finfo(price.dtype).eps ** 2 * strike


def black_scholes(
    spot: Dense, strike: Dense, expiry: Dense, volatility: Dense, rate: Dense, dividend: Dense, sign: Dense
) -> Array:
    """Value of European options; arguments broadcast.

    Parameters
    ----------
    spot, strike
        In the same currency; spot not negative, strike positive.
    expiry
        Years, not negative.
    volatility, rate, dividend
        Per year, as fractions; volatility not negative, rates continuously compounded.
    sign
        1 for calls, -1 for puts.
    """
    spot, strike, expiry, volatility, rate, dividend, sign = map(
        jnp.asarray, (spot, strike, expiry, volatility, rate, dividend, sign)
    )
    carry = (rate - dividend) * expiry
    positive = _worth_something(spot, strike)
    log_spot = jnp.log(jnp.where(positive, spot, 1.0))
    alive = (expiry > 0) & (volatility > 0)
    total = jnp.where(alive, volatility * jnp.sqrt(jnp.where(alive, expiry, 1.0)), 0.0)  # no derivative of a root at 0
    return _value(log_spot, spot * jnp.exp(carry), strike, total, carry, jnp.exp(-rate * expiry), sign)


@jax.jit
def greeks(
    spot: Array, strike: Array, expiry: Array, volatility: Array, rate: Array, dividend: Array, sign: Array
) -> Greeks:
    """Value and derivatives of :func:`black_scholes`, by differentiating it; arguments broadcast."""
    given = jnp.broadcast_arrays(spot, strike, expiry, volatility, rate, dividend, sign)
    shape = given[0].shape
    first = jax.value_and_grad(black_scholes, argnums=(0, 2, 3, 4))
    second = jax.grad(jax.grad(black_scholes))

    def one(*at: Array) -> tuple[Array, ...]:
        value, (delta, lapse, vega, rho) = first(*at)
        return value, delta, second(*at), vega, -lapse, rho

    out = jax.vmap(one)(*(jnp.ravel(array) for array in given))
    return Greeks(*(array.reshape(shape) for array in out))


@jax.jit
def implied_volatility(
    value: Array, spot: Array, strike: Array, expiry: Array, rate: Array, dividend: Array, sign: Array
) -> Array:
    r"""Volatility at which an option has a value; NaN outside the bounds that arbitrage sets; arguments broadcast.

    In terms of :math:`b = V_{otm} e^{rT} / \sqrt{FK}` and :math:`x = |\ln(F / K)|`, where :math:`V_{otm}` is the value
    of the option out of the money at the same strike (put-call parity), b is convex in s up to :math:`\sqrt{2 x}` and
    concave beyond, so Newton's method from there converges from one side (Manaster & Koehler 1982, "The calculation of
    implied variances from the Black-Scholes model", J. Finance 37). Below that point it is applied to ln b, and
    everywhere kept within a bracket that it narrows. Where all but rounding of the value is what exercising brings, the
    answer is zero.
    """
    value, spot, strike, expiry, rate, dividend, sign = jnp.broadcast_arrays(
        value, spot, strike, expiry, rate, dividend, sign
    )
    tiny = jnp.finfo(value.dtype).tiny
    carry = (rate - dividend) * expiry
    forward = spot * jnp.exp(carry)
    scale = jnp.sqrt(jnp.maximum(forward * strike, tiny))
    undiscounted = value * jnp.exp(rate * expiry)
    least = jnp.maximum(sign * (forward - strike), 0.0)
    rounding = 8.0 * jnp.finfo(value.dtype).eps * jnp.maximum(forward, strike)
    over = undiscounted - least
    goal = jnp.where((least > 0) & (over <= rounding), 0.0, jnp.maximum(over, 0.0)) / scale
    x = jnp.abs(jnp.log(jnp.maximum(spot, tiny)) + carry - jnp.log(strike))
    bound = jnp.exp(-0.5 * x)
    turn = jnp.sqrt(2.0 * x)

    def at(s: Array) -> tuple[Array, Array]:
        """Evaluate b and its derivative, for the option out of the money."""
        s = jnp.maximum(s, tiny)
        h = x / s
        b = jnp.exp(-0.5 * x) * _normal(-h + 0.5 * s) - jnp.exp(0.5 * x) * _normal(-h - 0.5 * s)
        slope = jnp.exp(-0.5 * (h * h + 0.25 * s * s)) * jnp.asarray(0.3989422804014327, s.dtype)
        return jnp.maximum(b, 0.0), slope

    low_side = goal < at(turn)[0]
    start = jnp.where(x > 0, turn, goal * jnp.asarray(2.5066282746310002, goal.dtype))
    low = jnp.where(low_side, 0.0, turn)
    high = jnp.where(low_side, turn, _FARTHEST)

    def step(_: Int[Array, ""], state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        s, low, high = state
        b, slope = at(s)
        low, high = jnp.where(b < goal, s, low), jnp.where(b < goal, high, s)
        plain = s - (b - goal) / jnp.maximum(slope, tiny)
        logs = s - jnp.log(jnp.maximum(b, tiny) / jnp.maximum(goal, tiny)) * b / jnp.maximum(slope, tiny)
        new = jnp.where(low_side, logs, plain)
        inside = (new > low) & (new < high) & (slope > tiny)
        done = b == goal
        return jnp.where(done, s, jnp.where(inside, new, 0.5 * (low + high))), low, high

    s, _, _ = lax.fori_loop(0, _NEWTON_STEPS, step, (jnp.clip(start, low, high), low, high))
    possible = (over >= -rounding) & (goal < bound) & (expiry > 0) & (spot > 0) & (strike > 0)
    volatility = jnp.where(goal > 0, s, 0.0) / jnp.sqrt(jnp.where(expiry > 0, expiry, 1.0))
    return jnp.where(possible, volatility, jnp.nan)


@jax.jit
def revalued(
    instruments: Instruments,
    returns: Float[Array, "u s"],
    volatility_changes: Float[Array, "v s"] | None,
    rate_changes: Float[Array, " s"] | None,
    spot: Float[Array, " u"],
) -> Float[Array, "i s"]:
    """Values of the instruments in every scenario, scenarios last so that what an instrument takes lies together.

    Parameters
    ----------
    instruments
        With what is left to their expiry at the horizon of the scenarios.
    returns
        Simple returns of U underlyings, not below -1.
    volatility_changes
        Added to the volatility of the options on each underlying (v = U) or on all (v = 1); it stays above zero.
    rate_changes
        Added to the rate.
    spot
        Prices of the underlyings before.
    """
    of = instruments.underlying
    sign, strike, expiry, volatility, rate, dividend = (array[:, None] for array in instruments[1:])
    prices = spot[:, None] * (1.0 + returns)
    logs = jnp.log(jnp.where(prices > 0, prices, 1.0))
    if rate_changes is not None:
        rate = rate + rate_changes
    if volatility_changes is not None:
        change = volatility_changes if len(volatility_changes) == 1 else volatility_changes[of]
        volatility = jnp.maximum(volatility + change, 0.0)
    carry = (rate - dividend) * expiry
    underlying = prices[of]
    forward, discount = underlying * jnp.exp(carry), jnp.exp(-rate * expiry)
    values = _value(logs[of], forward, strike, volatility * jnp.sqrt(expiry), carry, discount, sign)
    return jnp.where(sign == 0, underlying, values)


@partial(jax.jit, static_argnames=("rows",))
def full_pnl(
    positions: Float[Array, "p i"],
    instruments: Instruments,
    returns: Float[Array, "s u"],
    volatility_changes: Float[Array, "s v"] | None,
    rate_changes: Float[Array, " s"] | None,
    spot: Float[Array, " u"],
    value: Float[Array, " i"],
    *,
    rows: int,
) -> Float[Array, "s p"]:
    """P&L of books by full revaluation, `rows` scenarios at a time (S is a multiple of `rows`).

    Parameters
    ----------
    positions
        Units of each instrument in each book.
    value
        Values of the instruments before (I,); the rest is as for :func:`revalued`.
    """

    def part(one: tuple[Array, Array | None, Array | None]) -> Array:
        moves, vols, rates = one
        change = revalued(instruments, moves.T, None if vols is None else vols.T, rates, spot) - value[:, None]
        return jnp.matmul(positions, change, precision=lax.Precision.HIGHEST).T

    def folded(array: Array) -> Array:
        return array.reshape(-1, rows, *array.shape[1:])

    given = jax.tree.map(folded, (returns, volatility_changes, rate_changes))
    return lax.map(part, given).reshape(len(returns), len(positions))


@jax.jit
def taylor_pnl(
    delta: Float[Array, "p u"],
    gamma: Float[Array, "p u"],
    vega: Float[Array, "p v"],
    rho: Float[Array, " p"],
    theta: Float[Array, " p"],
    moves: Float[Array, "s u"],
    volatility_changes: Float[Array, "s v"] | None,
    rate_changes: Float[Array, " s"] | None,
) -> Float[Array, "s p"]:
    r"""P&L of books to second order: :math:`\delta' m + \gamma' m^2 / 2 + \nu' dv + \rho\, dr + \theta`.

    Parameters
    ----------
    delta, gamma, vega, rho
        Greeks of the books by underlying (vega: for all together where v = 1).
    theta
        What time alone brings over the horizon.
    moves
        Changes of the prices of the underlyings, in currency.
    """
    precision = lax.Precision.HIGHEST
    pnl = jnp.matmul(moves, delta.T, precision=precision) + theta
    pnl += jnp.matmul(0.5 * moves * moves, gamma.T, precision=precision)
    if volatility_changes is not None:
        pnl += jnp.matmul(volatility_changes, vega.T, precision=precision)
    if rate_changes is not None:
        pnl += rate_changes[:, None] * rho
    return pnl

"""Primal-dual interior point for the hinge program: init, step, terminate, extract, and the loop over them.

The objective may have a convex quadratic term besides. Mehrotra's predictor-corrector (1992) with Gondzio's centrality
correctors (1996), and separate primal and dual steps where nothing is quadratic. Each hinge keeps its own (u, x, q, v)
with x = u + a'z - d and v = pi - q, so the scenarios never enter the linear system: see `newton`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from . import scaling
from .newton import PRECISION, Factored, Kkt, factor_kkt, solve_kkt
from .program import (
    CONVERGED,
    ITERATION_LIMIT,
    STALLED,
    HingeMasks,
    HingeProgram,
    Hinges,
    Settings,
    Solution,
    masks,
)

CORRECTORS = 2  # centrality correctors tried a step; each costs two passes, no factorisation
WIDTH = 5.0  # of the smoothed hinges at the start: mass smoothing may add, relative to the mass of the tail
STEP_BACK = 0.995  # fraction of the way to the boundary
PATIENCE = 40  # steps without a better point or a smaller barrier before the loop gives up
RADIUS = 100.0  # stand-in for an infinite bound in the stopping rule's dual bound


class Iterate(eqx.Module):
    """A primal-dual point; everything but w, t, a and y is positive."""

    w: Float[Array, " N"]
    t: Float[Array, " M"]
    u: Hinges  # hinge values, an upper bound of (d - a'z)_+
    x: Hinges  # u + a'z - d
    q: Hinges  # multiplier of x >= 0
    v: Hinges  # multiplier of u >= 0, equal to pi - q
    z_lower: Float[Array, " N"]
    z_upper: Float[Array, " N"]
    a: Float[Array, " C"]  # row activities, strictly inside their sides
    y: Float[Array, " C"]
    y_lower: Float[Array, " C"]
    y_upper: Float[Array, " C"]
    s: Float[Array, " B"]  # slack of the caps
    eta: Float[Array, " B"]


class Point(eqx.Module):
    """What is handed back: the part of an iterate that a certificate needs, with the quality the loop saw."""

    w: Float[Array, " N"]
    t: Float[Array, " M"]
    q: Float[Array, "M S"]
    y: Float[Array, " C"]
    eta: Float[Array, " B"]
    gap: Float[Array, ""]
    infeasibility: Float[Array, ""]
    merit: Float[Array, ""]


class State(eqx.Module):
    """Loop state."""

    iterate: Iterate
    best: Point
    iteration: Int[Array, ""]
    least_mu: Float[Array, ""]
    progress: Int[Array, ""]  # iteration at which the best point or the least mu last improved
    status: Int[Array, ""]
    done: Bool[Array, ""]


class Data(eqx.Module):
    """The program with everything that stays constant over the loop."""

    program: HingeProgram
    mask: HingeMasks
    rho: Hinges  # hinge weights p/(1-beta) and 2k, zero where a hinge does not take part
    idle: Float[Array, "A N"]  # 2k of the L1 hinges that do not take part (fixed assets)
    weight: Float[Array, " B"]
    cap: Float[Array, " B"]
    mass: Float[Array, " M"]  # sum of rho
    mean: Float[Array, "M N"]  # R'rho
    quadratic: Float[Array, "N N"] | Factored | None  # Q of the objective's w'Qw / 2


def _elementwise(f: Callable[..., Any], *hinges: Hinges) -> Hinges:
    return Hinges(*(f(*parts) for parts in zip(*hinges, strict=True)))


def _expand(data: Data, per_block: Float[Array, " B"]) -> Hinges:
    """Spread one number per block over the hinges of that block."""
    m = data.program.cvar_level.shape[0]
    return Hinges(per_block[:m, None], per_block[m:, None])


def _prepare(program: HingeProgram, quadratic: Float[Array, "N N"] | Factored | None = None) -> Data:
    mask = masks(program)
    density = jnp.where(mask.hinge_scenario, program.cvar_density, 0.0)
    rate = 2.0 * program.l1_rate
    return Data(
        program=program,
        mask=mask,
        rho=Hinges(density, jnp.where(mask.hinge_l1, rate, 0.0)),
        idle=jnp.where(mask.hinge_l1, 0.0, rate),
        weight=jnp.concatenate([program.cvar_weight, program.l1_weight]),
        cap=jnp.concatenate([program.cvar_cap, program.l1_cap]),
        mass=jnp.sum(density, axis=1),
        mean=jnp.matmul(density, program.returns, precision=PRECISION),
        quadratic=quadratic,
    )


def _bend(data: Data, w: Float[Array, " N"]) -> Float[Array, " N"]:
    """Gradient Qw of the quadratic term."""
    if isinstance(data.quadratic, Factored):
        return data.quadratic.times(w)
    return jnp.zeros_like(w) if data.quadratic is None else jnp.matmul(data.quadratic, w, precision=PRECISION)


def _margin(data: Data, w: Float[Array, " N"], t: Float[Array, " M"]) -> Hinges:
    """Margins a'z - d of every hinge: R w + t, and w - reference."""
    p = data.program
    gain = jnp.matmul(p.returns, w, precision=PRECISION)
    return Hinges(gain[None, :] + t[:, None], w[None, :] - p.l1_reference)


def _slope(data: Data, dw: Float[Array, " N"], dt: Float[Array, " M"]) -> Hinges:
    """Changes a'dz of every margin."""
    gain = jnp.matmul(data.program.returns, dw, precision=PRECISION)
    rows = data.program.l1_rate.shape[0]
    return Hinges(gain[None, :] + dt[:, None], jnp.broadcast_to(dw, (rows, dw.shape[0])))


def _block_values(data: Data, w: Array, t: Array, hinge: Hinges) -> Float[Array, " B"]:
    """H_b with the given hinge values in place of (d - a'z)_+."""
    p = data.program
    distance = w[None, :] - p.l1_reference
    cvar = p.cvar_linear @ w + p.cvar_level * t + jnp.sum(data.rho.scenario * hinge.scenario, axis=1)
    fixed = data.idle * jnp.maximum(-distance, 0.0)
    l1 = p.l1_linear @ w + jnp.sum(p.l1_rate * distance + data.rho.l1 * hinge.l1 + fixed, axis=1)
    return jnp.concatenate([cvar, l1])


def _quantiles(data: Data, loss: Float[Array, " S"]) -> Float[Array, " M"]:
    """The t of each block at given losses, where the hinges above it weigh tau, by bisection.

    Sorting is slow in XLA, and 1e-6 of the range will do for a start.
    """
    p = data.program
    live = jnp.any(data.mask.hinge_scenario, axis=0)
    low = jnp.min(jnp.where(live, loss, jnp.inf))
    high = jnp.max(jnp.where(live, loss, -jnp.inf))

    def halve(_: Array, interval: tuple[Array, Array]) -> tuple[Array, Array]:
        a, b = interval
        middle = 0.5 * (a + b)
        above = jnp.sum(jnp.where(loss[None, :] > middle[:, None], data.rho.scenario, 0.0), axis=1)
        right = above > p.cvar_level
        return jnp.where(right, middle, a), jnp.where(right, b, middle)

    wide = jnp.ones_like(p.cvar_level)
    a, b = lax.fori_loop(0, 20, halve, (low * wide, high * wide))
    return 0.5 * (a + b)


def init(data: Data) -> Iterate:
    """A centred interior start from `program.start`."""
    p, mask = data.program, data.mask
    span = jnp.where(mask.has_lower & mask.has_upper, p.upper - p.lower, 1.0)
    inside = jnp.minimum(0.05 * span, 0.05)
    w = jnp.clip(
        p.start,
        jnp.where(mask.has_lower, p.lower + inside, -jnp.inf),
        jnp.where(mask.has_upper, p.upper - inside, jnp.inf),
    )
    w = jnp.where(mask.free, w, p.lower)

    gain = jnp.matmul(p.returns, w, precision=PRECISION)
    t = _quantiles(data, -gain) if p.cvar_level.shape[0] else jnp.zeros_like(p.cvar_level)
    margin = _margin(data, w, t)
    eta = jnp.where(mask.capped, 1.0, 0.0)
    pi = _elementwise(lambda b, r: b * r, _expand(data, data.weight + eta), data.rho)

    live = Hinges(mask.hinge_scenario, mask.hinge_l1)

    def width(m: Array, weight: Array, k: Array) -> Array:
        """Half-width of smoothed hinges that adds to the tail a multiple of its own mass, whatever beta is."""
        spread = jnp.sum(jnp.where(k, jnp.abs(m), 0.0), axis=1) / jnp.maximum(jnp.sum(k, axis=1), 1)
        mass = jnp.sum(weight, axis=1)
        excess = jnp.sum(weight * jnp.maximum(-m, 0.0), axis=1)
        ratio = excess / jnp.where(mass > 0, mass, 1.0)
        return jnp.maximum(jnp.sqrt(WIDTH * ratio * spread), 1e-3)[:, None]

    widths = _elementwise(width, margin, data.rho, live)
    # u x = width^2 and u - x = d - a'z: the point on the central path of one hinge
    root = _elementwise(lambda m, e: jnp.sqrt(m * m + 4.0 * e * e), margin, widths)
    u = _elementwise(
        lambda m, r, e, k: jnp.where(k, jnp.where(m > 0, 2.0 * e * e / (r + m), 0.5 * (r - m)), 1.0),
        margin,
        root,
        widths,
        live,
    )
    x = _elementwise(
        lambda m, r, e, k: jnp.where(k, jnp.where(m > 0, 0.5 * (r + m), 2.0 * e * e / (r - m)), 1.0),
        margin,
        root,
        widths,
        live,
    )
    q = _elementwise(lambda pi_, u_, x_, k: jnp.where(k & (pi_ > 0), pi_ * u_ / (u_ + x_), 1.0), pi, u, x, live)
    v = _elementwise(lambda pi_, u_, x_, k: jnp.where(k & (pi_ > 0), pi_ * x_ / (u_ + x_), 1.0), pi, u, x, live)

    gradient = (
        p.linear
        + _bend(data, w)
        - jnp.matmul(jnp.sum(jnp.where(live.scenario, q.scenario, 0.0), axis=0), p.returns, precision=PRECISION)
        - jnp.sum(jnp.where(live.l1, q.l1, 0.0), axis=0)
        + (data.weight + eta)[: p.cvar_level.shape[0]] @ p.cvar_linear
        + (data.weight + eta)[p.cvar_level.shape[0] :] @ (p.l1_rate + p.l1_linear)
    )
    # dual feasible in the assets that have both bounds: z_lower - z_upper = gradient, product z z = price^2
    price = 0.1 * jnp.maximum(jnp.mean(jnp.abs(gradient)), 1e-2)
    both = jnp.sqrt(gradient * gradient + 4.0 * price * price)
    z_lower = jnp.where(mask.has_lower, 0.5 * (both + gradient), 0.0)
    z_upper = jnp.where(mask.has_upper, 0.5 * (both - gradient), 0.0)

    activity = jnp.matmul(p.rows, w, precision=PRECISION)
    row_span = jnp.where(mask.row_has_lower & mask.row_has_upper, p.row_upper - p.row_lower, jnp.inf)
    room = jnp.minimum(0.1 * row_span, 0.1)
    a = jnp.clip(
        activity,
        jnp.where(mask.row_has_lower, p.row_lower + room, -jnp.inf),
        jnp.where(mask.row_has_upper, p.row_upper - room, jnp.inf),
    )
    a = jnp.where(mask.equality, p.row_lower, a)
    y_lower = jnp.where(mask.row_has_lower, price, 0.0)
    y_upper = jnp.where(mask.row_has_upper, price, 0.0)

    value = _block_values(data, w, t, u)
    capped_gap = jnp.where(mask.capped, data.cap, 0.0) - value
    s = jnp.where(mask.capped, jnp.maximum(capped_gap, 0.1 * jnp.maximum(jnp.abs(value), 0.1)), 1.0)
    return Iterate(w, t, u, x, q, v, z_lower, z_upper, a, y_upper - y_lower, y_lower, y_upper, s, eta)


def _gap(data: Data, it: Iterate, margin: Hinges, dual_gradient: Array) -> tuple[Array, Array, Array]:
    """(relative gap, infeasibility, size): the objective recomputed from (w, t) against a rigorous dual bound.

    dual_gradient (M, N) is R'q per CVaR block.
    """
    p, mask = data.program, data.mask
    m = p.cvar_level.shape[0]
    hinge = _elementwise(lambda h: jnp.maximum(-h, 0.0), margin)
    value = _block_values(data, it.w, it.t, hinge)
    bend = _bend(data, it.w)
    terms = jnp.concatenate([jnp.stack([p.linear @ it.w, 0.5 * (bend @ it.w)]), data.weight * value])
    objective = jnp.sum(terms)

    level = data.weight + it.eta
    # make q sum to its level, in one shot: scale it down, or spread what is missing over the room above it
    total = jnp.sum(it.q.scenario * mask.hinge_scenario, axis=1)
    wanted = level[:m] * p.cvar_level
    missing = wanted - total
    full = level[:m] * data.mass
    up = jnp.clip(missing / jnp.where(full > total, full - total, 1.0), 0.0, 1.0)
    down = jnp.where(total > 0, jnp.minimum(wanted / jnp.where(total > 0, total, 1.0), 1.0), 1.0)
    ceiling = level[:m, None] * data.mean
    repaired = jnp.where(
        (missing > 0)[:, None],
        dual_gradient + up[:, None] * (ceiling - dual_gradient),
        down[:, None] * dual_gradient,
    )
    y = jnp.where(
        mask.equality,
        it.y,
        jnp.where(mask.row_has_upper, jnp.maximum(it.y, 0.0), 0.0)
        + jnp.where(mask.row_has_lower, jnp.minimum(it.y, 0.0), 0.0),
    )
    fixed = level[:m] @ p.cvar_linear + level[m:] @ p.l1_linear
    # the quadratic term lies above its tangent
    reduced = p.linear + bend + fixed - jnp.sum(repaired, axis=0) + y @ p.rows

    low = jnp.where(jnp.isfinite(p.lower), p.lower, it.w - RADIUS)
    high = jnp.where(jnp.isfinite(p.upper), p.upper, it.w + RADIUS)
    corners = jnp.concatenate([low[None], high[None], jnp.clip(p.l1_reference, low, high)])
    l1_price = level[m:, None] * p.l1_rate
    distance = jnp.abs(corners[:, None, :] - p.l1_reference[None])
    inner = jnp.min(reduced * corners + jnp.sum(l1_price[None] * distance, axis=1), axis=0)
    side = jnp.where(
        y > 0,
        jnp.where(jnp.isfinite(p.row_upper), p.row_upper, 0.0),
        jnp.where(jnp.isfinite(p.row_lower), p.row_lower, 0.0),
    )
    bound = (
        jnp.sum(inner)
        - 0.5 * (bend @ it.w)
        - jnp.sum(y * side)
        - jnp.sum(jnp.where(mask.capped, it.eta * jnp.where(mask.capped, data.cap, 0.0), 0.0))
    )

    activity = jnp.matmul(p.rows, it.w, precision=PRECISION)
    limit = jnp.maximum(1.0, jnp.where(jnp.isfinite(side), jnp.abs(side), 0.0))
    excess = jnp.maximum(p.row_lower - activity, activity - p.row_upper) / limit
    over = jnp.where(
        mask.capped,
        (value - data.cap) / jnp.maximum(1.0, jnp.abs(jnp.where(mask.capped, data.cap, 0.0))),
        0.0,
    )
    infeasibility = jnp.max(jnp.concatenate([excess, over]), initial=0.0)
    size = jnp.maximum(jnp.max(jnp.abs(terms)), 1e-6)
    return (objective - bound) / size, infeasibility, size


def _assemble(data: Data, it: Iterate, theta: Hinges, omega: Hinges, by_returns: Array) -> Kkt:
    """Factor the reduced Newton system. by_returns (2M, N) is R'theta and R'(theta omega) per CVaR block."""
    p, mask = data.program, data.mask
    m = p.cvar_level.shape[0]
    free = mask.free.astype(p.returns.dtype)
    box = jnp.where(mask.has_lower, it.z_lower / jnp.where(mask.has_lower, it.w - p.lower, 1.0), 0.0)
    box = box + jnp.where(mask.has_upper, it.z_upper / jnp.where(mask.has_upper, p.upper - it.w, 1.0), 0.0)
    diagonal = jnp.where(mask.free, box + jnp.sum(theta.l1, axis=0), 1.0)
    if isinstance(data.quadratic, Factored):
        low = data.quadratic
        matrix = Factored(diagonal + low.diagonal * free, low.root * free[:, None], low.sign)
    else:
        weights = jnp.sum(theta.scenario, axis=0)
        gram = jnp.matmul(p.returns.T, p.returns * weights[:, None], precision=PRECISION)
        gram = gram if data.quadratic is None else gram + data.quadratic
        main = gram * free[:, None] * free[None, :] + jnp.diag(diagonal)
        cross = by_returns[:m] * free[None, :]
        matrix = jnp.block([[main, cross.T], [cross, jnp.diag(jnp.sum(theta.scenario, axis=1))]])

    # borders: the rows, then one per cap with -(A'(theta omega) - gradient of H's linear part)
    row_live = mask.equality | mask.row_has_lower | mask.row_has_upper
    row_border = jnp.where(row_live[:, None], p.rows * free[None, :], 0.0)
    stiffness = jnp.where(mask.row_has_lower, it.y_lower / jnp.where(mask.row_has_lower, it.a - p.row_lower, 1.0), 0.0)
    stiffness = stiffness + jnp.where(
        mask.row_has_upper, it.y_upper / jnp.where(mask.row_has_upper, p.row_upper - it.a, 1.0), 0.0
    )
    row_corner = jnp.where(mask.equality, 0.0, jnp.where(row_live, 1.0 / jnp.where(stiffness > 0, stiffness, 1.0), 1.0))

    product = _elementwise(lambda a, b: a * b, theta, omega)
    cvar_w = (by_returns[m:] - p.cvar_linear) * free[None, :]
    cvar_t = jnp.diag(jnp.sum(product.scenario, axis=1) - p.cvar_level)
    l1_w = (product.l1 - p.l1_rate - p.l1_linear) * free[None, :]
    cap_border = -jnp.block([[cvar_w, cvar_t], [l1_w, jnp.zeros((l1_w.shape[0], m), l1_w.dtype)]])
    cap_border = jnp.where(mask.capped[:, None], cap_border, 0.0)
    # rho omega - theta omega^2 = rho omega theta x / q, written without the cancellation
    curvature = _elementwise(
        lambda r, o, th, x_, q_: jnp.sum(r * o * th * x_ / q_, axis=1), data.rho, omega, theta, it.x, it.q
    )
    cap_corner = jnp.where(mask.capped, jnp.concatenate(curvature) + it.s / jnp.where(mask.capped, it.eta, 1.0), 1.0)

    border = jnp.concatenate([jnp.pad(row_border, ((0, 0), (0, m))), cap_border])
    return factor_kkt(matrix, border, jnp.concatenate([row_corner, cap_corner]))


class Targets(eqx.Module):
    """Right-hand sides of the linearised complementarity conditions, one per pair."""

    xq: Hinges
    uv: Hinges
    lower: Array
    upper: Array
    row_lower: Array
    row_upper: Array
    cap: Array


def _products(data: Data, it: Iterate) -> Targets:
    """Current complementarity products."""
    p, mask = data.program, data.mask
    return Targets(
        xq=_elementwise(lambda x, q: x * q, it.x, it.q),
        uv=_elementwise(lambda u, v: u * v, it.u, it.v),
        lower=jnp.where(mask.has_lower, it.z_lower * (it.w - p.lower), 0.0),
        upper=jnp.where(mask.has_upper, it.z_upper * (p.upper - it.w), 0.0),
        row_lower=jnp.where(mask.row_has_lower, it.y_lower * (it.a - p.row_lower), 0.0),
        row_upper=jnp.where(mask.row_has_upper, it.y_upper * (p.row_upper - it.a), 0.0),
        cap=jnp.where(mask.capped, it.s * it.eta, 0.0),
    )


def _presence(data: Data) -> Targets:
    """Which complementarity pairs exist."""
    mask = data.mask
    live = Hinges(mask.hinge_scenario, mask.hinge_l1)
    return Targets(live, live, mask.has_lower, mask.has_upper, mask.row_has_lower, mask.row_has_upper, mask.capped)


def _total(data: Data, products: Targets) -> Array:
    present = _presence(data)
    sums = jax.tree.map(lambda value, live: jnp.sum(jnp.where(live, value, 0.0)), products, present)
    return sum(jax.tree.leaves(sums), start=jnp.zeros((), data.mean.dtype))


def _path_weights(data: Data) -> Targets:
    """The weight of every pair on the central path: its product is driven to mu times this.

    A scenario's pair is naturally smaller than an asset's, in proportion to its density; the geometric mean of that and
    of equal weights needed the fewest iterations.
    """
    p = data.program
    n = jnp.sqrt(jnp.maximum(jnp.sum(data.mask.free), 1)).astype(data.mean.dtype)
    scenario = jnp.sqrt(data.rho.scenario / jnp.where(data.mass > 0, data.mass, 1.0)[:, None])
    asset, row = jnp.full(p.linear.shape, 1.0 / n), jnp.full(p.row_lower.shape, 1.0 / n)
    cap = jnp.full(data.cap.shape, 1.0 / n)
    return Targets(
        xq=Hinges(scenario, jnp.full(p.l1_rate.shape, 1.0 / n)),
        uv=Hinges(scenario, jnp.full(p.l1_rate.shape, 1.0 / n)),
        lower=asset,
        upper=asset,
        row_lower=row,
        row_upper=row,
        cap=cap,
    )


class Residuals(eqx.Module):
    """Linear residuals at an iterate."""

    w: Array  # stationarity in w
    t: Array  # stationarity in t
    x: Hinges  # u + a'z - d - x
    row: Array  # A w - a
    cap: Array  # cap - H - s


def _direction(
    data: Data, it: Iterate, kkt: Kkt, theta: Hinges, omega: Hinges, res: Residuals, target: Targets
) -> Iterate:
    """The Newton direction for the given complementarity targets, as an iterate of differences."""
    p, mask = data.program, data.mask
    n = p.linear.shape[0]
    live = Hinges(mask.hinge_scenario, mask.hinge_l1)
    g = _elementwise(
        lambda rxq, q, ruv, v, rx, k: jnp.where(k, rxq / q - ruv / v - rx, 0.0),
        target.xq,
        it.q,
        target.uv,
        it.v,
        res.x,
        live,
    )
    pull = _elementwise(lambda th, g_: th * g_, theta, g)
    room_lower = jnp.where(mask.has_lower, it.w - p.lower, 1.0)
    room_upper = jnp.where(mask.has_upper, p.upper - it.w, 1.0)
    right_w = (
        -res.w
        + jnp.matmul(jnp.sum(pull.scenario, axis=0), p.returns, precision=PRECISION)
        + jnp.sum(pull.l1, axis=0)
        + jnp.where(mask.has_lower, target.lower / room_lower, 0.0)
        - jnp.where(mask.has_upper, target.upper / room_upper, 0.0)
    )
    right_t = -res.t + jnp.sum(pull.scenario, axis=1)

    row_room_lower = jnp.where(mask.row_has_lower, it.a - p.row_lower, 1.0)
    row_room_upper = jnp.where(mask.row_has_upper, p.row_upper - it.a, 1.0)
    row_pull = jnp.where(mask.row_has_upper, target.row_upper / row_room_upper, 0.0) - jnp.where(
        mask.row_has_lower, target.row_lower / row_room_lower, 0.0
    )
    compliance = jnp.where(mask.row_has_lower | mask.row_has_upper, kkt.corner[: mask.equality.shape[0]], 0.0)
    row_live = mask.equality | mask.row_has_lower | mask.row_has_upper
    right_row = jnp.where(row_live, -res.row - compliance * row_pull, 0.0)
    eta = jnp.where(mask.capped, it.eta, 1.0)
    per_block = jnp.concatenate(
        _elementwise(
            lambda r, ruv, v, th, o, g_, k: jnp.sum(jnp.where(k, r * ruv / v + th * o * g_, 0.0), axis=1),
            data.rho,
            target.uv,
            it.v,
            theta,
            omega,
            g,
            live,
        )
    )
    right_cap = jnp.where(mask.capped, res.cap - target.cap / eta - per_block, 0.0)

    dz, db = solve_kkt(
        kkt,
        jnp.concatenate([jnp.where(mask.free, right_w, 0.0), right_t]),
        jnp.concatenate([right_row, right_cap]),
    )
    dw, dt = jnp.where(mask.free, dz[:n], 0.0), dz[n:]
    rows = mask.equality.shape[0]
    dy, deta = jnp.where(row_live, db[:rows], 0.0), jnp.where(mask.capped, db[rows:], 0.0)
    slope = _slope(data, dw, dt)
    deta_h = _expand(data, deta)
    dq = _elementwise(lambda th, g_, a_, o, e: th * (g_ - a_ + o * e), theta, g, slope, omega, deta_h)
    dv = _elementwise(lambda r, e, dq_: r * e - dq_, data.rho, deta_h, dq)
    du = _elementwise(lambda ruv, u, dv_, v, k: jnp.where(k, (ruv - u * dv_) / v, 0.0), target.uv, it.u, dv, it.v, live)
    dx = _elementwise(lambda rxq, x, dq_, q, k: jnp.where(k, (rxq - x * dq_) / q, 0.0), target.xq, it.x, dq, it.q, live)
    da = jnp.where(mask.equality | ~row_live, 0.0, compliance * (dy - row_pull))
    return Iterate(
        w=dw, t=dt, u=du, x=dx, q=dq, v=dv,
        z_lower=jnp.where(mask.has_lower, (target.lower - it.z_lower * dw) / room_lower, 0.0),
        z_upper=jnp.where(mask.has_upper, (target.upper + it.z_upper * dw) / room_upper, 0.0),
        a=da,
        y=dy,
        y_lower=jnp.where(mask.row_has_lower, (target.row_lower - it.y_lower * da) / row_room_lower, 0.0),
        y_upper=jnp.where(mask.row_has_upper, (target.row_upper + it.y_upper * da) / row_room_upper, 0.0),
        s=jnp.where(mask.capped, (target.cap - it.s * deta) / eta, 0.0),
        eta=deta,
    )  # fmt: skip


def _longest(value: Array, change: Array, live: Array) -> Array:
    """Largest step in (0, inf] that keeps value + step * change >= 0."""
    ratio = jnp.where(live & (change < 0), -value / jnp.where(change < 0, change, 1.0), jnp.inf)
    return jnp.min(ratio, initial=jnp.inf)


def _steps(data: Data, it: Iterate, d: Iterate) -> tuple[Array, Array]:
    """Longest primal and dual steps that stay non-negative, at most one after stepping back."""
    p, mask = data.program, data.mask
    live = Hinges(mask.hinge_scenario, mask.hinge_l1)
    primal = [
        *(_longest(*parts) for parts in zip(it.x, d.x, live, strict=True)),
        *(_longest(*parts) for parts in zip(it.u, d.u, live, strict=True)),
        _longest(it.w - p.lower, d.w, mask.has_lower),
        _longest(p.upper - it.w, -d.w, mask.has_upper),
        _longest(it.a - p.row_lower, d.a, mask.row_has_lower),
        _longest(p.row_upper - it.a, -d.a, mask.row_has_upper),
        _longest(it.s, d.s, mask.capped),
    ]
    dual = [
        *(_longest(*parts) for parts in zip(it.q, d.q, live, strict=True)),
        *(_longest(*parts) for parts in zip(it.v, d.v, live, strict=True)),
        _longest(it.z_lower, d.z_lower, mask.has_lower),
        _longest(it.z_upper, d.z_upper, mask.has_upper),
        _longest(it.y_lower, d.y_lower, mask.row_has_lower),
        _longest(it.y_upper, d.y_upper, mask.row_has_upper),
        _longest(it.eta, d.eta, mask.capped),
    ]
    return jnp.min(jnp.stack(primal)), jnp.min(jnp.stack(dual))


def _move(it: Iterate, d: Iterate, primal: Array, dual: Array) -> Iterate:
    def along(step: Array) -> Callable[[Array, Array], Array]:
        return lambda value, change: value + step * change

    first = {
        name: jax.tree.map(along(primal), getattr(it, name), getattr(d, name))
        for name in ("w", "t", "u", "x", "a", "s")
    }
    second = {
        name: jax.tree.map(along(dual), getattr(it, name), getattr(d, name))
        for name in ("q", "v", "z_lower", "z_upper", "y", "y_lower", "y_upper", "eta")
    }
    return Iterate(**first, **second)


def step(data: Data, settings: Settings, state: State) -> State:
    """Measure the current iterate, keep it if it is the best so far, and take one predictor-corrector step."""
    p, mask, it = data.program, data.mask, state.iterate
    m = p.cvar_level.shape[0]
    live = Hinges(mask.hinge_scenario, mask.hinge_l1)
    theta = _elementwise(lambda x, q, u, v, k: jnp.where(k, 1.0 / (x / q + u / v), 0.0), it.x, it.q, it.u, it.v, live)
    omega = _elementwise(lambda r, u, v, k: jnp.where(k, r * u / v, 0.0), data.rho, it.u, it.v, live)
    q_live = jnp.where(live.scenario, it.q.scenario, 0.0)
    stacked = jnp.concatenate([q_live, theta.scenario, theta.scenario * omega.scenario])
    by_returns = jnp.matmul(stacked, p.returns, precision=PRECISION)
    margin = _margin(data, it.w, it.t)

    gap, infeasibility, _ = _gap(data, it, margin, by_returns[:m])
    merit = jnp.maximum(jnp.abs(gap) / settings.gap_tolerance, infeasibility / settings.feasibility_tolerance)
    finite = jnp.isfinite(merit) & jnp.all(jnp.isfinite(it.w))
    better = finite & (merit < state.best.merit)
    here = Point(it.w, it.t, q_live, it.y, it.eta, gap, infeasibility, merit)
    best = jax.tree.map(lambda new, old: jnp.where(better, new, old), here, state.best)
    products = _products(data, it)
    path = _path_weights(data)
    mu = _total(data, products) / _total(data, path)
    progress = jnp.where(better | (mu < 0.9 * state.least_mu), state.iteration, state.progress)
    converged = finite & (merit <= 1.0)
    stalled = ~finite | (state.iteration - progress > PATIENCE)

    level = data.weight + it.eta
    cap = jnp.where(mask.capped, data.cap, 0.0)
    res = Residuals(
        w=p.linear + _bend(data, it.w) - jnp.sum(by_returns[:m], axis=0)
        - jnp.sum(jnp.where(live.l1, it.q.l1, 0.0), axis=0) + level[:m] @ p.cvar_linear
        + level[m:] @ (p.l1_rate + p.l1_linear) + it.y @ p.rows - it.z_lower + it.z_upper,
        t=level[:m] * p.cvar_level - jnp.sum(q_live, axis=1),
        x=_elementwise(lambda u, a, x, k: jnp.where(k, u + a - x, 0.0), it.u, margin, it.x, live),
        row=jnp.matmul(p.rows, it.w, precision=PRECISION) - it.a,
        cap=jnp.where(mask.capped, cap - _block_values(data, it.w, it.t, it.u) - it.s, 0.0),
    )  # fmt: skip
    kkt = _assemble(data, it, theta, omega, by_returns[m:])
    solve = partial(_direction, data, it, kkt, theta, omega, res)

    predictor = solve(jax.tree.map(jnp.negative, products))
    primal, dual = _steps(data, it, predictor)
    primal, dual = jnp.minimum(primal, 1.0), jnp.minimum(dual, 1.0)
    mu_ahead = _total(data, _products(data, _move(it, predictor, primal, dual))) / _total(data, path)
    sigma = jnp.clip((mu_ahead / mu) ** 3, 1e-8, 1.0)

    def corrected(weight: Array, product: Array, first: Array, second: Array) -> Array:
        return sigma * mu * weight - product - first * second

    target = Targets(
        xq=_elementwise(corrected, path.xq, products.xq, predictor.x, predictor.q),
        uv=_elementwise(corrected, path.uv, products.uv, predictor.u, predictor.v),
        lower=corrected(path.lower, products.lower, predictor.w, predictor.z_lower),
        upper=corrected(path.upper, products.upper, -predictor.w, predictor.z_upper),
        row_lower=corrected(path.row_lower, products.row_lower, predictor.a, predictor.y_lower),
        row_upper=corrected(path.row_upper, products.row_upper, -predictor.a, predictor.y_upper),
        cap=corrected(path.cap, products.cap, predictor.s, predictor.eta),
    )
    direction = solve(target)
    primal, dual = _steps(data, it, direction)
    aim = jax.tree.map(lambda weight: sigma * mu * weight, path)

    def centre(_: Array, state: tuple[Iterate, Targets, Array, Array]) -> tuple[Iterate, Targets, Array, Array]:
        """Gondzio's corrector (1996): pull the products that a longer step would leave far off the path back to it."""
        direction, target, primal, dual = state
        farther = [jnp.minimum(1.1 * jnp.minimum(step, 1.0) + 0.1, 1.0) for step in (primal, dual)]
        products = _products(data, _move(it, direction, *farther))
        shift = jax.tree.map(
            lambda product, goal: jnp.maximum(jnp.clip(product, 0.1 * goal, 10.0 * goal) - product, -10.0 * goal),
            products,
            aim,
        )
        corrected = jax.tree.map(jnp.add, target, shift)
        other = solve(corrected)
        longer_primal, longer_dual = _steps(data, it, other)
        gain = jnp.minimum(longer_primal, 1.0) + jnp.minimum(longer_dual, 1.0)
        better = gain >= jnp.minimum(primal, 1.0) + jnp.minimum(dual, 1.0) + 0.02
        proposal = (other, corrected, longer_primal, longer_dual)
        return jax.tree.map(lambda new, old: jnp.where(better, new, old), proposal, state)

    direction, _, primal, dual = lax.fori_loop(0, CORRECTORS, centre, (direction, target, primal, dual))
    primal, dual = jnp.minimum(STEP_BACK * primal, 1.0), jnp.minimum(STEP_BACK * dual, 1.0)
    if data.quadratic is not None:  # couples the two, so that only equal steps lower the residuals as they should
        primal = dual = jnp.minimum(primal, dual)
    ahead = _move(it, direction, primal, dual)

    iteration = state.iteration + 1
    done = converged | stalled | (iteration > settings.max_iterations)
    status = jnp.where(converged, CONVERGED, jnp.where(stalled, STALLED, ITERATION_LIMIT)).astype(jnp.int32)
    return State(
        iterate=jax.tree.map(lambda new, old: jnp.where(done, old, new), ahead, it),
        best=best,
        iteration=jnp.where(done, state.iteration, iteration),
        least_mu=jnp.minimum(mu, state.least_mu),
        progress=progress,
        status=status,
        done=done,
    )


def solve(
    program: HingeProgram, settings: Settings | None = None, quadratic: Float[Array, "N N"] | Factored | None = None
) -> Solution:
    """Solve one hinge program, whose objective may have a term w'Qw / 2; `jax.jit` and `jax.vmap` it as you please.

    The status says only why the loop stopped. What the answer is worth must be recomputed from `weights` and the
    multipliers: every multiplier returned is usable, after clipping, in the dual bound of the program.
    """
    rules = Settings() if settings is None else settings
    scaled, scale = scaling.scale(program)
    if isinstance(quadratic, Factored):
        if program.shape[2]:
            raise ValueError("a factored quadratic term is for programs without CVaR blocks; pass it as a matrix")
        root = quadratic.root / jnp.sqrt(scale.objective)
        quadratic = Factored(quadratic.diagonal / scale.objective, root, quadratic.sign)
    elif quadratic is not None:
        quadratic = quadratic / scale.objective
    data = _prepare(scaled, quadratic)
    iterate = init(data)
    dtype = program.returns.dtype
    worst = jnp.asarray(jnp.inf, dtype)
    m, s = program.cvar_level.shape[0], program.returns.shape[0]
    best = Point(iterate.w, iterate.t, jnp.zeros((m, s), dtype), iterate.y, iterate.eta, worst, worst, worst)
    zero = jnp.zeros((), jnp.int32)
    state = State(iterate, best, zero, worst, zero, jnp.full((), ITERATION_LIMIT, jnp.int32), jnp.zeros((), bool))
    state = lax.while_loop(lambda st: ~st.done, partial(step, data, rules), state)
    found = Solution(
        weights=state.best.w,
        var=state.best.t,
        scenario_dual=state.best.q,
        row_dual=state.best.y,
        cvar_cap_dual=state.best.eta[:m],
        l1_cap_dual=state.best.eta[m:],
        status=state.status,
        iterations=state.iteration,
        gap=state.best.gap,
        infeasibility=state.best.infeasibility,
    )
    return scaling.unscale(found, scale)

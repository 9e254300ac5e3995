r"""Vertex descent for the hinge program: exact line searches along edges, from any starting point.

Everything in the program is a convex piecewise linear function of :math:`z = (w, t)`: an *element* j has a residual
:math:`r_j = a_j'z - d_j`, slope :math:`\underline y_j` where it is negative and :math:`\overline y_j` where it is
positive. Scenarios, L1 costs, bounds, rows and caps are all elements; hard ones have a large slope. A *vertex* keeps
n = N + M elements at their kinks (the basis), which determines z and, by stationarity, their slopes y. Where all of
them lie between their limits the vertex is optimal; otherwise one is let go, and z moves along the edge that keeps the
others at their kinks, through as many kinks as still lower the function (a long step), to the one that enters.

This is the simplex method with bound flipping (Fourer, 1994; Koberstein, 2005) on the dual linear program, in the
tradition of Barrodale & Roberts (1973) for quantile regression. It has no notion of infeasibility, so it starts
anywhere: from the rounded answer of the interior point, whose work it ends exactly, or from yesterday's basis.

A cap :math:`H_b \le \kappa` is an element too, whose normal is the gradient of the piece of :math:`H_b` that z lies
on. While it is in the basis the search moves on the surface :math:`H_b = \kappa`, which bends at every kink of the
block; the edge and the inverse follow by rank-one corrections.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from .newton import PRECISION
from .program import CONVERGED, ITERATION_LIMIT, STALLED, HingeProgram, Solution, exchange

PENALTY = 1e4  # slope of hard elements, in scaled units; far above any sensible price
REFRESH = 50  # pivots between two recomputations of everything from the basis
OPTIMAL = 1e-9  # price beyond its limit, relative to the largest objective coefficient, that counts as within
TINY = 1e-9  # rate below which an element counts as parallel to the edge
PATIENCE = 8  # pivots per element of the basis after which the choice is left to chance in part
NEWTON = 8  # attempts to bring a basis from elsewhere back onto its caps

LOWER, UPPER, PIN, REFERENCES = 0, 1, 2, 3  # kinks of an asset, in this order; one per L1 block from REFERENCES on


class Start(NamedTuple):
    """Where to begin: a point, and a basis if there is one from a problem with the same numbering of elements."""

    weights: Float[Any, " N"]
    basis: Int[Any, " n"]
    inverse: Float[Any, "n n"]
    """What a descent returned with the basis; any numbers will do, good ones save a factorisation."""
    warm: Bool[Any, ""]
    """Whether `basis` is to be used; where it turns out singular, the descent starts from `weights` all the same."""


class Elements(eqx.Module):
    """What all elements look like; flat arrays of length J: scenarios, kinks of assets, sides of rows, caps."""

    program: HingeProgram
    kink: Float[Array, " J"]  # d
    low: Float[Array, " J"]
    high: Float[Array, " J"]
    block: Int[Array, " J"]  # index into the factors: the element's block, or B for hard elements
    weight: Float[Array, " B"]


class State(eqx.Module):
    """A vertex, its inverse and where every element stands."""

    basis: Int[Array, " n"]
    inverse: Float[Array, "n n"]  # row i: the direction that raises the residual of basis element i by one
    z: Float[Array, " n"]
    residual: Float[Array, " J"]
    side: Float[Array, " J"]  # -1, +1, or 0 in the basis
    gradient: Float[Array, "B n"]  # of the blocks H_b, elements of the basis left out
    total: Float[Array, " n"]  # of the whole function, elements of the basis left out
    cap_slot: Int[Array, " B"]  # where a cap is in the basis, -1 where it is not
    pivots: Int[Array, ""]
    lost: Bool[Array, ""]  # the function falls for ever, or the basis became singular


def sizes(program: HingeProgram) -> tuple[int, int, int, int, int, int]:
    """(first kink, first row, first cap, J, N, n) of the flat numbering."""
    s, n, m, a, c = program.shape
    kinks = m * s
    rows = kinks + (REFERENCES + a) * n
    caps = rows + 2 * c
    return kinks, rows, caps, caps + m + a, n, n + m


def _elements(p: HingeProgram, start: Float[Array, " N"]) -> Elements:
    s, n, m, a, c = p.shape
    dtype = p.returns.dtype
    fixed = p.lower == p.upper
    has_lower, has_upper = jnp.isfinite(p.lower), jnp.isfinite(p.upper)
    zero = jnp.zeros((n,), dtype)
    equality = p.row_lower == p.row_upper
    row_low, row_high = jnp.isfinite(p.row_lower), jnp.isfinite(p.row_upper)
    cap = jnp.concatenate([p.cvar_cap, p.l1_cap])

    def hard(present: Array) -> Array:
        return jnp.where(present, PENALTY, 0.0).astype(dtype)

    kink = [
        jnp.zeros((m * s,), dtype),
        jnp.where(has_lower, p.lower, 0.0),
        jnp.where(has_upper, p.upper, 0.0),
        start,
        p.l1_reference.ravel(),
        jnp.where(row_low, p.row_lower, 0.0),
        jnp.where(row_high, p.row_upper, 0.0),
        jnp.zeros((m + a,), dtype),
    ]
    low = [
        -p.cvar_density.ravel(),
        -hard(has_lower),
        zero,
        zero,
        -p.l1_rate.ravel(),
        -hard(row_low),
        jnp.zeros((c,), dtype),
        jnp.zeros((m + a,), dtype),
    ]
    high = [
        jnp.zeros((m * s,), dtype),
        hard(fixed),
        hard(has_upper & ~fixed),
        zero,
        p.l1_rate.ravel(),
        hard(equality),
        hard(row_high & ~equality),
        hard(jnp.isfinite(cap)),
    ]
    block = jnp.concatenate(
        [
            jnp.repeat(jnp.arange(m), s),
            jnp.full((REFERENCES * n,), m + a),
            m + jnp.repeat(jnp.arange(a), n),
            jnp.full((2 * c + m + a,), m + a),
        ]
    )
    weight = jnp.concatenate([p.cvar_weight, p.l1_weight])
    return Elements(p, jnp.concatenate(kink), jnp.concatenate(low), jnp.concatenate(high), block, weight)


def _normal(e: Elements, gradient: Float[Array, "B n"], j: Int[Array, ""]) -> Float[Array, " n"]:
    """a_j of one element."""
    p = e.program
    s, n, m, a, c = p.shape
    kinks, rows, caps, _, _, size = sizes(p)
    t = jnp.arange(size) - n
    scenario = jnp.concatenate([p.returns[jnp.where(j < kinks, j % s, 0)], jnp.zeros((m,), p.returns.dtype)])
    scenario = jnp.where((t >= 0) & (t == j // s), 1.0, scenario)
    asset = (jnp.arange(size) == (j - kinks) % n).astype(p.returns.dtype)
    out = jnp.where(j < kinks, scenario, asset)
    if c:
        row = jnp.concatenate([p.rows[jnp.clip(j - rows, 0, 2 * c - 1) % c], jnp.zeros((m,), p.returns.dtype)])
        out = jnp.where((j >= rows) & (j < caps), row, out)
    if m + a:
        out = jnp.where(j >= caps, gradient[jnp.clip(j - caps, 0, m + a - 1)], out)
    return out


def _activity(e: Elements, gradient: Float[Array, "B n"], z: Float[Array, "R n"]) -> Float[Array, "R J"]:
    """a_j'z of every element, for several z at once."""
    p = e.program
    s, n, m, a, _ = p.shape
    w, t = z[:, :n], z[:, n:]
    gain = jnp.matmul(w, p.returns.T, precision=PRECISION)
    r = z.shape[0]
    return jnp.concatenate(
        [
            (gain[:, None, :] + t[:, :, None]).reshape(r, m * s),
            jnp.tile(w, (1, REFERENCES + a)),
            jnp.tile(jnp.matmul(w, p.rows.T, precision=PRECISION), (1, 2)),
            jnp.matmul(z, gradient.T, precision=PRECISION),
        ],
        axis=1,
    )


def _slopes(e: Elements, side: Float[Array, " J"]) -> Float[Array, " J"]:
    return jnp.where(side > 0, e.high, jnp.where(side < 0, e.low, 0.0))


def _gradients(e: Elements, side: Float[Array, " J"]) -> tuple[Float[Array, "B n"], Float[Array, " n"], Array]:
    """Gradients of the blocks and of the hard elements but caps, and the constants of the L1 blocks, at given sides."""
    p = e.program
    s, n, m, a, c = p.shape
    kinks, rows, caps, _, _, _ = sizes(p)
    slope = _slopes(e, side)
    scenario = slope[:kinks].reshape(m, s)
    asset = slope[kinks:rows].reshape(REFERENCES + a, n)
    row = slope[rows:caps].reshape(2, c).sum(axis=0)
    cvar_w = p.cvar_linear + jnp.matmul(scenario, p.returns, precision=PRECISION)
    cvar = jnp.concatenate([cvar_w, jnp.diag(p.cvar_level + scenario.sum(axis=1))], axis=1)
    l1 = jnp.concatenate([p.l1_linear + asset[REFERENCES:], jnp.zeros((a, m), p.returns.dtype)], axis=1)
    hard = asset[:REFERENCES].sum(axis=0) + row @ p.rows
    constant = jnp.concatenate(
        [jnp.zeros((m,), p.returns.dtype), -jnp.sum(asset[REFERENCES:] * p.l1_reference, axis=1)]
    )
    return jnp.concatenate([cvar, l1]), jnp.concatenate([p.linear + hard, jnp.zeros((m,), p.returns.dtype)]), constant


def _loose_price(e: Elements, side: Float[Array, " J"]) -> Float[Array, " B"]:
    """Multipliers of the caps that are not in the basis: zero where met, the penalty where violated."""
    _, _, caps, _, _, _ = sizes(e.program)
    return jnp.where(side[caps:] > 0, e.high[caps:], 0.0)


def _cap_residual(e: Elements, gradient: Array, constant: Array, z: Array) -> Array:
    p = e.program
    cap = jnp.concatenate([p.cvar_cap, p.l1_cap])
    return gradient @ z + constant - jnp.where(jnp.isfinite(cap), cap, 0.0)


def _stand(e: Elements, z: Float[Array, " n"], basic: Bool[Array, " J"], old: Float[Array, " J"]) -> tuple[Array, ...]:
    """(residual, side, gradient, total, constant) at z; elements at their kink but not in the basis keep their side."""
    p = e.program
    _, _, caps, _, _, _ = sizes(p)
    blocks = jnp.zeros((e.weight.shape[0], z.shape[0]), z.dtype)
    residual = _activity(e, blocks, z[None])[0] - e.kink
    noise = 1e-13 * (1.0 + jnp.abs(e.kink))
    side = jnp.where(residual > noise, 1.0, jnp.where(residual < -noise, -1.0, jnp.where(old < 0, -1.0, 1.0)))
    side = jnp.where(basic, 0.0, side).astype(z.dtype)
    gradient, total, constant = _gradients(e, side)
    over = _cap_residual(e, gradient, constant, z)
    cap_side = jnp.where(basic[caps:], 0.0, jnp.where(over > 1e-13, 1.0, -1.0))
    side = side.at[caps:].set(cap_side)
    residual = residual.at[caps:].set(over)
    residual = jnp.where(basic, 0.0, residual)
    total = total + (e.weight + _loose_price(e, side)) @ gradient
    return residual, side, gradient, total, constant


def _kinks_of(e: Elements, basis: Array, constant: Array) -> Array:
    """D of the basis, with what the caps allow in the place of theirs."""
    p = e.program
    _, _, caps, _, _, _ = sizes(p)
    cap = jnp.concatenate([p.cvar_cap, p.l1_cap])
    allowed = jnp.where(jnp.isfinite(cap), cap, 0.0) - constant
    return jnp.concatenate([e.kink[:caps], allowed])[basis]


def _invert(matrix: Float[Array, "n n"], guess: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """The transposed inverse: the guess, one Newton-Schulz step from it, or a factorisation, as good as it takes."""
    eye = jnp.eye(matrix.shape[0], dtype=matrix.dtype)
    error = eye - jnp.matmul(guess, matrix.T, precision=PRECISION)
    size = jnp.max(jnp.sum(jnp.abs(error), axis=1))
    near = [
        lambda: guess,
        lambda: guess + jnp.matmul(error, guess, precision=PRECISION),
        lambda: jnp.linalg.inv(matrix).T,
    ]
    return lax.switch(jnp.where(size < 1e-11, 0, jnp.where(size < 1e-4, 1, 2)), near)  # NaN is not near


def _refresh(e: Elements, state: State) -> State:
    """Recompute inverse, vertex, residuals and gradients from the basis."""
    x = _invert(jax.vmap(partial(_normal, e, state.gradient))(state.basis), state.inverse)
    _, _, constant = _gradients(e, state.side)
    z = _kinks_of(e, state.basis, constant) @ x
    basic = state.side == 0
    residual, side, gradient, total, _ = _stand(e, z, basic, state.side)
    return eqx.tree_at(
        lambda s: (s.inverse, s.z, s.residual, s.side, s.gradient, s.total),
        state,
        (x, z, residual, side, gradient, total),
    )


def _quantiles(e: Elements, loss: Float[Array, " S"]) -> Int[Array, " M"]:
    """A scenario near the quantile of each block, by bisection (sorting is slow in XLA)."""
    p = e.program
    live = p.cvar_density > 0
    low = jnp.min(jnp.where(live, loss, jnp.inf), axis=1)
    high = jnp.max(jnp.where(live, loss, -jnp.inf), axis=1)

    def halve(_: Array, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        a, b = ends
        middle = 0.5 * (a + b)
        above = jnp.sum(jnp.where(loss[None, :] > middle[:, None], p.cvar_density, 0.0), axis=1)
        right = above > p.cvar_level
        return jnp.where(right, middle, a), jnp.where(right, b, middle)

    a, b = lax.fori_loop(0, 16, halve, (low, high))
    away = jnp.where(live, jnp.abs(loss[None, :] - 0.5 * (a + b)[:, None]), jnp.inf)
    return jnp.argmin(away, axis=1)


def _cold(e: Elements, w: Float[Array, " N"]) -> State:
    """Start at w: every weight is held by the kink it lies on, or pinned where it is."""
    p = e.program
    s, n, m, a, _ = p.shape
    kinks, _, _, j, _, _ = sizes(p)
    dtype = p.returns.dtype
    place = jnp.full((n,), PIN)
    for block in range(a):
        place = jnp.where((p.l1_rate[block] > 0) & (w == p.l1_reference[block]), REFERENCES + block, place)
    place = jnp.where(w == p.upper, UPPER, place)
    place = jnp.where(w == p.lower, LOWER, place)
    gain = jnp.matmul(p.returns, w, precision=PRECISION)
    tied = _quantiles(e, -gain) if m else jnp.zeros((0,), jnp.int32)
    basis = jnp.concatenate([kinks + place * n + jnp.arange(n), jnp.arange(m) * s + tied]).astype(jnp.int32)
    rows = p.returns[tied]
    # B = [[I, 0], [r', I]], and this is its inverse, transposed
    inverse = jnp.block([[jnp.eye(n, dtype=dtype), -rows.T], [jnp.zeros((m, n), dtype), jnp.eye(m, dtype=dtype)]])
    z = jnp.concatenate([w, -gain[tied]])
    basic = jnp.zeros((j,), bool).at[basis].set(True)
    residual, side, gradient, total, _ = _stand(e, z, basic, jnp.ones((j,), dtype))
    zero = jnp.zeros((), jnp.int32)
    return State(
        basis=basis,
        inverse=inverse,
        z=z,
        residual=residual,
        side=side,
        gradient=gradient,
        total=total,
        cap_slot=jnp.full(e.weight.shape, -1, jnp.int32),
        pivots=zero,
        lost=jnp.zeros((), bool),
    )


def _warm(e: Elements, start: Start) -> tuple[State, Bool[Array, ""]]:
    """The vertex of a given basis, and whether it is one."""
    p = e.program
    s, _, m, _, _ = p.shape
    kinks, _, caps, j, _, size = sizes(p)
    blocks = e.weight.shape[0]
    basis = start.basis
    basic = jnp.zeros((j,), bool).at[basis].set(True)
    in_block = (basis < kinks)[None, :] & (basis[None, :] // s == jnp.arange(m)[:, None])
    tied = jnp.where(jnp.any(in_block, axis=1), basis[jnp.argmax(in_block, axis=1)] % s, 0)
    z = jnp.concatenate([start.weights, -jnp.matmul(p.returns[tied], start.weights, precision=PRECISION)])
    slots = jnp.arange(size, dtype=jnp.int32)
    is_cap = basis[None, :] == caps + jnp.arange(blocks)[:, None]
    cap_slot = jnp.max(jnp.where(is_cap, slots[None, :], -1), axis=1, initial=-1).astype(jnp.int32)
    capped = jnp.any(cap_slot >= 0)

    def settle(state: State) -> State:
        """One Newton step onto the caps of the basis: place z by the pieces it lies on, and see which it lies on."""
        matrix = jax.vmap(partial(_normal, e, state.gradient))(basis)
        inverse = _invert(matrix, state.inverse)
        _, _, constant = _gradients(e, state.side)
        z = _kinks_of(e, basis, constant) @ inverse
        residual, side, gradient, total, _ = _stand(e, z, basic, state.side)
        same = ~capped | jnp.all(side == state.side)
        return State(basis, inverse, z, residual, side, gradient, total, cap_slot, state.pivots + 1, same)

    residual, side, gradient, total, _ = _stand(e, z, basic, jnp.ones((j,), z.dtype))
    none, settled = jnp.zeros((), jnp.int32), jnp.zeros((), bool)
    first = State(basis, start.inverse, z, residual, side, gradient, total, cap_slot, none, settled)
    state = lax.while_loop(lambda s: ~s.lost & (s.pivots < NEWTON), settle, first)  # `lost` says settled in here
    good = state.lost & jnp.all(jnp.isfinite(state.z)) & (jnp.max(jnp.abs(state.inverse)) < 1e9)
    return eqx.tree_at(lambda s: (s.pivots, s.lost), state, (none, settled)), good


def _prices(e: Elements, state: State) -> tuple[Array, Array, Array]:
    """(y of the basis, factor of each block's slopes (B+1), factor without the caps in the basis (B+1))."""
    y = -(state.inverse @ state.total)
    loose = e.weight + _loose_price(e, state.side)
    held = jnp.where(state.cap_slot >= 0, jnp.maximum(y[state.cap_slot], 0.0), 0.0)
    one = jnp.ones((1,), y.dtype)
    return y, jnp.concatenate([loose + held, one]), jnp.concatenate([loose, one])


class Choice(NamedTuple):
    """The element of the basis to let go, if any."""

    slot: Int[Array, ""]
    up: Bool[Array, ""]
    factor: Float[Array, " B+1"]
    optimal: Bool[Array, ""]


def _choose(e: Elements, state: State) -> Choice:
    """Steepest edge: the element whose departure lowers the function most per unit of distance in z."""
    y, factors, loose = _prices(e, state)
    scale = factors[e.block[state.basis]]
    over = y - scale * e.high[state.basis]
    under = scale * e.low[state.basis] - y
    excess = jnp.maximum(over, under)
    length = jnp.sum(state.inverse * state.inverse, axis=1)
    score = jnp.where(excess > OPTIMAL, excess * excess / length, 0.0)
    # after so many pivots it may be going in circles between tied elements, which chance breaks
    chance = jnp.abs(jnp.sin(12.9898 * (1.0 + jnp.arange(y.shape[0])) * (1.0 + state.pivots)))
    score = jnp.where(state.pivots > PATIENCE * y.shape[0], score * (0.01 + chance), score)
    slot = jnp.argmax(score).astype(jnp.int32)
    return Choice(slot, over[slot] > under[slot], loose, ~(score[slot] > 0.0))


class Straight(NamedTuple):
    """State of the search along one straight piece."""

    ratio: Float[Array, " J"]  # distance at which an element reaches its kink; infinite when passed
    slopes: Float[Array, " R"]  # total'edges
    gradient: Float[Array, "B n"]
    total: Float[Array, " n"]
    theta: Float[Array, ""]
    k: Int[Array, ""]
    enter: Bool[Array, ""]
    bend: Bool[Array, ""]


class Search(NamedTuple):
    """State of one line search."""

    z: Float[Array, " n"]
    residual: Float[Array, " J"]
    side: Float[Array, " J"]
    edges: Float[Array, "R n"]  # the edge, and the directions of the caps in the basis
    rates: Float[Array, "R J"]
    slopes: Float[Array, " R"]
    gradient: Float[Array, "B n"]
    total: Float[Array, " n"]
    entering: Int[Array, ""]
    done: Bool[Array, ""]
    endless: Bool[Array, ""]


def _search(e: Elements, state: State, edge: Array, factor: Array, caps_move: bool) -> Search:
    """Follow the edge while the function falls."""
    p = e.program
    _, _, caps, j, _, _ = sizes(p)
    blocks = e.weight.shape[0]
    width = e.high - e.low
    numbers = jnp.arange(j, dtype=jnp.int32)
    held = state.cap_slot >= 0
    edges = edge[None]
    limited = e.high[caps:] > 0
    if caps_move:
        edges = jnp.concatenate([edges, jnp.where(held[:, None], state.inverse[state.cap_slot], 0.0)])
    rates = _activity(e, state.gradient, edges)

    def straight(s: Search) -> Search:
        rate = s.rates[0]
        size = jnp.abs(rate)
        ahead = (s.side * rate < 0) & (width > 0) & (size > TINY)
        ratio = jnp.where(ahead, jnp.maximum(s.side * s.residual, 0.0) / jnp.where(ahead, size, 1.0), jnp.inf)

        def flip(c: Straight) -> Straight:
            theta = jnp.min(c.ratio)
            k = jnp.min(jnp.where(c.ratio == theta, numbers, j))  # twice as fast as argmin
            k = jnp.minimum(k, j - 1)
            change = -s.side[k] * width[k]
            b = e.block[k]
            own = s.rates[:, k]
            slopes = c.slopes + change * factor[b] * own
            bend = blocked = jnp.zeros((), bool)
            if caps_move:
                inside = jnp.minimum(b, blocks - 1)
                bend = (b < blocks) & limited[inside]
                stiff = jnp.where(bend & held[inside], 1.0 + change * own[1 + inside], 1.0)
                # a surface must not fold back, and beyond a cap the factors of its block change
                blocked = (stiff < 0.1) | (k >= caps)
                slopes = jnp.where(bend & held[inside], slopes - change * own / stiff * slopes[1 + inside], slopes)
            enter = (slopes[0] >= 0.0) | blocked | ~jnp.isfinite(theta)
            bend = bend & ~enter
            gain = jnp.where(enter, 0.0, change)
            normal = gain * _normal(e, c.gradient, k)
            return Straight(
                ratio=c.ratio.at[k].set(jnp.where(enter, theta, jnp.inf)),
                slopes=jnp.where(enter, c.slopes, slopes),
                gradient=c.gradient + jnp.where(jnp.arange(blocks) == b, 1.0, 0.0)[:, None] * normal,
                total=c.total + factor[b] * normal,
                theta=theta,
                k=k,
                enter=enter,
                bend=bend,
            )

        false, zero = jnp.zeros((), bool), jnp.zeros((), jnp.int32)
        c = Straight(ratio, s.slopes, s.gradient, s.total, jnp.zeros_like(ratio[0]), zero, false, false)
        c = lax.while_loop(lambda c: ~(c.enter | c.bend), flip, c)
        endless = ~jnp.isfinite(c.theta)
        theta = jnp.where(endless, 0.0, c.theta)
        side = jnp.where((c.ratio == jnp.inf) & (ratio < jnp.inf), -s.side, s.side)
        edges, rates = s.edges, s.rates
        if caps_move:
            b = jnp.minimum(e.block[c.k], blocks - 1)
            change = -s.side[c.k] * width[c.k]
            own = rates[:, c.k]
            bends = c.bend & held[b]
            coefficient = jnp.where(bends, change / jnp.where(bends, 1.0 + change * own[1 + b], 1.0), 0.0) * own
            grows = jnp.where(c.bend & ~held[b], change, 0.0) * own  # the rate of a cap that is not in the basis
            edges = edges - coefficient[:, None] * edges[1 + b]
            rates = (rates - coefficient[:, None] * rates[1 + b]).at[:, caps + b].add(grows)
        return Search(
            z=s.z + theta * s.edges[0],
            residual=(s.residual + theta * rate).at[c.k].set(0.0),
            side=side,
            edges=edges,
            rates=rates,
            slopes=c.slopes,
            gradient=c.gradient,
            total=c.total,
            entering=c.k,
            done=c.enter,
            endless=endless,
        )

    false, zero = jnp.zeros((), bool), jnp.zeros((), jnp.int32)
    slopes = edges @ state.total
    first = Search(
        state.z, state.residual, state.side, edges, rates, slopes, state.gradient, state.total, zero, false, false
    )
    if not caps_move:
        return straight(first)
    return lax.while_loop(lambda s: ~s.done, straight, first)


def _pivot(e: Elements, state: State, choice: Choice, caps_move: bool) -> State:
    """Let the chosen element go to its side, and bring another one in."""
    p = e.program
    _, _, caps, _, _, _ = sizes(p)
    blocks = e.weight.shape[0]
    slot, up, factor, _ = choice
    leaving = state.basis[slot]
    b = e.block[leaving]
    slope = jnp.where(up, e.high[leaving], e.low[leaving])
    normal = slope * _normal(e, state.gradient, leaving)
    own_block = (jnp.arange(blocks) == b) & (leaving < caps)
    inverse, cap_slot = state.inverse, state.cap_slot
    edge = inverse[slot]
    if caps_move:
        inside = jnp.minimum(b, blocks - 1)
        bends = (b < blocks) & (cap_slot[inside] >= 0)
        edge = edge - jnp.where(bends, slope, 0.0) * inverse[cap_slot[inside]]
        inverse = inverse.at[slot].set(edge)
        cap_slot = jnp.where(cap_slot == slot, -1, cap_slot)
    left = eqx.tree_at(
        lambda s: (s.total, s.gradient, s.side, s.inverse, s.cap_slot, s.residual),
        state,
        (
            state.total + factor[b] * normal,  # a cap's own slope is the penalty, and its normal the gradient
            state.gradient + jnp.where(own_block, 1.0, 0.0)[:, None] * normal,
            state.side.at[leaving].set(jnp.where(up, 1.0, -1.0)),
            inverse,
            cap_slot,
            state.residual.at[leaving].set(0.0),
        ),
    )
    found = _search(e, left, jnp.where(up, edge, -edge), factor, caps_move)

    k = found.entering
    if caps_move:
        # the caps' rows of the basis moved with their gradients
        for block in range(blocks):
            row = inverse[cap_slot[block]]
            delta = found.gradient[block] - left.gradient[block]
            scale = jnp.where(cap_slot[block] >= 0, 1.0 / (1.0 + delta @ row), 0.0)
            inverse = inverse - (scale * (inverse @ delta))[:, None] * row[None, :]
    normal = _normal(e, found.gradient, k)
    products = inverse @ normal
    row = inverse[slot] / products[slot]
    inverse = (inverse - products[:, None] * row[None, :]).at[slot].set(row)

    b = e.block[k]
    slope = jnp.where(found.side[k] > 0, e.high[k], e.low[k])
    own_block = (jnp.arange(blocks) == b) & (k < caps)
    if caps_move:
        inside = jnp.minimum(b, blocks - 1)
        bends = (b < blocks) & (cap_slot[inside] >= 0)
        inverse = inverse.at[slot].add(jnp.where(bends, slope, 0.0) * inverse[cap_slot[inside]])
        cap_slot = jnp.where(jnp.arange(blocks) == k - caps, slot, cap_slot)
    lost = found.endless | ~jnp.all(jnp.isfinite(row))
    return State(
        basis=state.basis.at[slot].set(k),
        inverse=inverse,
        z=found.z,
        residual=found.residual,
        side=found.side.at[k].set(0.0),
        gradient=found.gradient - jnp.where(own_block, slope, 0.0)[:, None] * normal,
        total=found.total - slope * factor[b] * normal,
        cap_slot=cap_slot,
        pivots=state.pivots + 1,
        lost=lost,
    )


def _descend(e: Elements, state: State, limit: Array, caps_move: bool) -> tuple[State, Bool[Array, ""]]:
    """Pivot until no element of the basis wants to leave, with everything recomputed every now and then."""

    def pivot(carry: tuple[State, Choice, Array]) -> tuple[State, Choice, Array]:
        state, choice, count = carry
        state = _pivot(e, state, choice, caps_move)
        return state, _choose(e, state), count + 1

    def go_on(state: State, choice: Choice) -> Array:
        return ~choice.optimal & ~state.lost & (state.pivots < limit)

    def stretch(carry: tuple[State, Choice]) -> tuple[State, Choice]:
        state, _, _ = lax.while_loop(
            lambda c: go_on(c[0], c[1]) & (c[2] < REFRESH), pivot, (*carry, jnp.zeros((), jnp.int32))
        )
        state = _refresh(e, state)
        return state, _choose(e, state)

    state, choice = lax.while_loop(lambda c: go_on(*c), stretch, (state, _choose(e, state)))
    return state, choice.optimal


def descend(program: HingeProgram, start: Start, limit: Any, *, caps_move: bool) -> tuple[Solution, Start]:
    """Descend to an optimal vertex of a program that is already scaled; `jax.jit` it with `caps_move` static.

    Parameters
    ----------
    start
        Where to begin.
    limit
        Pivots after which to give up.
    caps_move
        Whether any cap is finite. Without caps the search is cheaper.

    Returns
    -------
    solution, start
        The vertex with its multipliers, and what a later descent can start from.
    """
    e = _elements(program, start.weights)

    def cold() -> State:
        return _cold(e, start.weights)

    def warm() -> State:
        state, good = _warm(e, start)
        return lax.cond(good, lambda: state, cold)

    state = lax.cond(start.warm, warm, cold)
    state, optimal = _descend(e, state, jnp.asarray(limit), caps_move)
    status = jnp.where(state.lost, STALLED, jnp.where(optimal, CONVERGED, ITERATION_LIMIT)).astype(jnp.int32)
    y, factors, _ = _prices(e, state)
    again = Start(state.z[: program.shape[1]], state.basis, state.inverse, jnp.ones((), bool))
    return _solution(e, state, y, factors, status), again


def _solution(e: Elements, state: State, y: Array, factors: Array, status: Array) -> Solution:
    p = e.program
    s, n, m, _, c = p.shape
    kinks, rows, caps, _, _, _ = sizes(p)
    scale = factors[e.block]
    price = (
        (scale * _slopes(e, state.side))
        .at[state.basis]
        .set(jnp.clip(y, scale[state.basis] * e.low[state.basis], scale[state.basis] * e.high[state.basis]))
    )
    eta = price[caps:]
    # a weight that lies at a kink is that number, not one that rounding has made of it
    held = (state.basis >= kinks) & (state.basis < rows)
    asset = jnp.where(held, (state.basis - kinks) % n, n)
    weights = state.z[:n].at[asset].set(e.kink[state.basis], mode="drop")
    return Solution(
        weights=weights,
        var=state.z[n:],
        scenario_dual=-price[:kinks].reshape(m, s),
        row_dual=price[rows:caps].reshape(2, c).sum(axis=0),
        cvar_cap_dual=eta[:m],
        l1_cap_dual=eta[m:],
        status=status,
        iterations=state.pivots,
        gap=jnp.zeros((), p.returns.dtype),
        infeasibility=jnp.zeros((), p.returns.dtype),
    )


class Windows(NamedTuple):
    """Which rows of a longer matrix each program of a chain looks at."""

    first: Int[Any, " P"]
    """First row of each window."""
    shift: Int[Any, " P"]
    """By how many rows it begins later than the one before (the first one: than the basis it starts from)."""


def chain(
    program: HingeProgram,
    varying: dict[str, Any],
    windows: Windows | None,
    start: Start,
    limit: Any,
    *,
    caps_move: bool,
) -> tuple[Solution, Start]:
    """Descend on P programs of one shape one after the other, each from the basis of the one before.

    Parameters
    ----------
    program
        What all have in common, already scaled. With windows its returns are the longer matrix, and its densities
        those of a window.
    varying
        The arrays in which they differ, by name, each with a leading axis of length P.

    Returns
    -------
    solutions, start
        Stacked along a leading axis, and where a following chain can start.
    """
    s = program.cvar_density.shape[1]

    def one(start: Start, changes: tuple[dict[str, Any], Windows | None]) -> tuple[Start, Solution]:
        arrays, window = changes
        if window is not None:
            arrays = arrays | {"returns": lax.dynamic_slice_in_dim(program.returns, window.first, s)}
            start = start._replace(basis=_slide(start.basis, window.shift, program.shape, s))
        solution, again = descend(exchange(program, **arrays), start, limit, caps_move=caps_move)
        return again, solution

    start, solutions = lax.scan(one, start, (varying, windows))
    return solutions, start


def _slide(basis: Int[Array, " n"], shift: Array, shape: tuple[int, ...], s: int) -> Int[Array, " n"]:
    """The basis after its scenarios moved up by `shift`; those that fell out give way to pins of loose assets."""
    _, n, m, a, _ = shape
    kinks = m * s
    tied = basis < kinks
    gone = tied & ((basis % s < shift) | (basis % s - shift >= s))
    asset = jnp.where((basis >= kinks) & (basis < kinks + (REFERENCES + a) * n), (basis - kinks) % n, n)
    held = jnp.zeros((n,), bool).at[asset].set(True, mode="drop")
    loose = jnp.argsort(held, stable=True)
    pin = kinks + PIN * n + loose[jnp.clip(jnp.cumsum(gone) - 1, 0, n - 1)]
    return jnp.where(gone, pin, jnp.where(tied, basis - shift, basis)).astype(basis.dtype)

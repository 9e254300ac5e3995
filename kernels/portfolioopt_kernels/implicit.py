r"""Smoothed optimum of a hinge program, and its derivative with respect to every array of the program.

The optimum of a hinge program is a vertex: it stands still while the data move a little, then jumps, so its derivative
is zero wherever it exists. What is differentiated here is the minimiser of a smooth, strictly convex neighbour,

.. math::

    \min_{w, t}\; c'w + \sum_b \lambda_b H_b^\varepsilon(w, t_b) - \kappa \Big[
    \sum_i \log (w_i - l_i) (u_i - w_i) + \sum_j \log (a_j'w - \underline a_j)(\overline a_j - a_j'w)
    + \sum_b \log (\kappa_b - H_b^\varepsilon) \Big],

with the equalities kept and every hinge :math:`(e)_+` rounded to the hyperbola

.. math::

    h_\varepsilon(e) = \tfrac12 \big( e + \sqrt{e^2 + 4 \varepsilon^2} \big), \qquad
    (e)_+ \le h_\varepsilon(e) \le (e)_+ + \varepsilon,

(Chen & Harker 1993; Kanzow 1996; Smale 1987). :math:`H^\varepsilon \ge H`, so the minimiser meets every limit of the
original program, strictly where it is an inequality. As :math:`\varepsilon, \kappa \to 0` it tends to the optimum.

*Solving.* With :math:`u = h_\varepsilon(e)`, :math:`x = u - e`, slope :math:`q = h_\varepsilon'(e)` and
:math:`v = 1 - q` the hyperbola is the pair of complementarities :math:`x q = u v = \varepsilon \sqrt{q v}`. So hinges,
bounds, rows and caps are all pairs whose products are driven to a target: the primal-dual method of `interior_point`,
except that it stops at the target instead of zero. A hinge is eliminated exactly and leaves one weight in the reduced
system of `newton`; at the minimiser that weight is :math:`h_\varepsilon''(e) = 2 (q v)^{3/2} / \varepsilon`.

*Differentiating.* At the minimiser the optimality conditions :math:`G(\xi; p) = 0` hold for
:math:`\xi = (w, t, y, \eta)`, and :math:`\partial G/\partial \xi` is the symmetric matrix of that reduced system. The
implicit function theorem gives :math:`d\xi = -(\partial G/\partial \xi)^{-1} (\partial G/\partial p)\, dp`: one
factorisation and one solve, forwards or backwards, for any number of parameters.

The program should be of unit size (`scaling.divide`), and float64.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from .newton import PRECISION, Factored, Kkt, factor_kkt, solve_kkt
from .program import Dense, HingeMasks, HingeProgram, exchange, masks

CORRECTORS = 2  # centrality correctors tried a step; each costs two passes, no factorisation
LATE = 4  # steps at the end of the path before only Newton's own direction is used
BLOCKED = 0.1  # steps shorter than this
STEP_BACK = 0.95  # fraction of the way to the boundary
LIMIT = 80  # Newton steps, from a warm and again from a cold start
PATIENCE = 12  # Newton steps from a warm start before the cold one is tried; half of them where it is still far off
FAR = 1e-3  # residual
TOLERANCE = 1e-10  # last Newton step in w and relative residual of the pairs; convergence is quadratic by then
COLD = 0.3  # rounding and barrier at a cold start, in a program of unit size


class Smoothing(NamedTuple):
    """How far the smooth program is from the original one; all positive."""

    hinge: Float[Dense, ""]
    """Rounding epsilon of the scenario hinges, in units of return."""
    trade: Float[Dense, ""]
    """Rounding epsilon of the L1 hinges, in units of weight."""
    barrier: Float[Dense, ""]
    """kappa of the bounds, row sides and caps, in units of the objective."""


class Centre(eqx.Module):
    """The smoothed optimum with its multipliers."""

    weights: Float[Dense, " N"]
    var: Float[Dense, " M"]
    """The t of each CVaR block."""
    row_dual: Float[Dense, " C"]
    """Multipliers of the rows: positive prices the upper side, negative the lower."""
    cap_dual: Float[Dense, " B"]
    """Multipliers of the caps, CVaR blocks first; zero where there is none."""


class Found(NamedTuple):
    """A centre and how it was found."""

    centre: Centre
    iterations: Int[Dense, ""]
    """Newton steps (each is one factorisation)."""
    residual: Float[Dense, ""]
    """Largest of: last step in w, residuals of the linear conditions, relative residuals of the pairs."""
    converged: Bool[Dense, ""]


class _Iterate(eqx.Module):
    """A primal-dual point; everything but w, t, a and y is positive."""

    w: Array
    t: Array
    u: tuple[Array, Array]  # rounded hinges of scenarios (M, S) and of trades (A, N)
    x: tuple[Array, Array]  # u - e
    q: tuple[Array, Array]  # their slopes
    v: tuple[Array, Array]  # 1 - q
    z_lower: Array
    z_upper: Array
    a: Array  # row activities, strictly inside their sides
    y: Array
    y_lower: Array
    y_upper: Array
    s: Array  # slack of the caps (B,)
    eta: Array


class _State(NamedTuple):
    iterate: _Iterate
    path: Array  # epsilon and kappa are this many times their targets
    power: Array  # 0 on the way, 1/2 at the end: see `_aims`
    iteration: Array
    late: Array  # iterations since power is 1/2
    restarts: Array
    residual: Array
    done: Array


class _Data(NamedTuple):
    """The program with infinite limits replaced by zeros, and what takes part."""

    program: HingeProgram
    mask: HingeMasks
    row_live: Array
    density: tuple[Array, Array]  # rho and 2k, zero where a hinge takes no part
    live: tuple[Array, Array]
    weight: Array  # (B,)
    cap: Array  # (B,)


def _prepare(program: HingeProgram) -> _Data:
    mask = masks(program)
    cap = jnp.concatenate([program.cvar_cap, program.l1_cap])
    rate = 2.0 * program.l1_rate
    finite = exchange(
        program,
        # double `where`: an infinity behind one would turn derivatives into NaN
        lower=jnp.where(jnp.isfinite(program.lower), program.lower, 0.0),
        upper=jnp.where(mask.has_upper, program.upper, 0.0),
        row_lower=jnp.where(jnp.isfinite(program.row_lower), program.row_lower, 0.0),
        row_upper=jnp.where(jnp.isfinite(program.row_upper), program.row_upper, 0.0),
    )
    return _Data(
        program=finite,
        mask=mask,
        row_live=mask.equality | mask.row_has_lower | mask.row_has_upper,
        density=(jnp.where(mask.hinge_scenario, program.cvar_density, 0.0), rate),
        live=(mask.hinge_scenario, program.l1_rate > 0),
        weight=jnp.concatenate([program.cvar_weight, program.l1_weight]),
        cap=jnp.where(mask.capped, cap, 0.0),
    )


def _matmul(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision=PRECISION)


def _excess(p: HingeProgram, w: Array, t: Array) -> tuple[Array, Array]:
    """The arguments e of the hinges: losses above t, and sales."""
    loss = -_matmul(p.returns, w)
    return loss[None, :] - t[:, None], p.l1_reference - w[None, :]


def _rounded(e: Array, epsilon: Array) -> tuple[Array, Array]:
    """(u, x) with u - x = e and u x = epsilon^2, without cancellation."""
    root = jnp.sqrt(e * e + 4.0 * epsilon * epsilon)
    large = 0.5 * (root + jnp.abs(e))
    small = epsilon * epsilon / large
    return jnp.where(e > 0, large, small), jnp.where(e > 0, small, large)


def _value_and_gradient(
    data: _Data, w: Array, t: Array, u: tuple[Array, Array], q: tuple[Array, Array]
) -> tuple[Array, Array, Array]:
    """H (B,) with its gradients in w (B, N) and in t (M,), at given values u and slopes q of the hinges."""
    p = data.program
    rho, rate = data.density
    pulled = rho * q[0]
    cvar = _matmul(p.cvar_linear, w) + p.cvar_level * t + jnp.sum(rho * u[0], axis=1)
    cvar_w = p.cvar_linear - _matmul(pulled, p.returns)
    cvar_t = p.cvar_level - jnp.sum(pulled, axis=1)
    distance = w[None, :] - p.l1_reference
    l1 = _matmul(p.l1_linear, w) + jnp.sum(p.l1_rate * distance + rate * u[1], axis=1)
    l1_w = p.l1_linear + p.l1_rate - rate * q[1]
    return jnp.concatenate([cvar, l1]), jnp.concatenate([cvar_w, l1_w]), cvar_t


def _assemble(
    data: _Data,
    level: Array,
    theta: tuple[Array, Array],
    gradient_w: Array,
    gradient_t: Array,
    box: Array,
    row_corner: Array,
    cap_corner: Array,
) -> Kkt:
    """Factor the derivative of the optimality conditions in (w, t; y, eta)."""
    p, mask = data.program, data.mask
    m = p.cvar_level.shape[0]
    free = mask.free.astype(p.returns.dtype)
    weights = level[:m, None] * data.density[0] * theta[0]
    gram = _matmul(p.returns.T, p.returns * jnp.sum(weights, axis=0)[:, None])
    trades = jnp.sum(level[m:, None] * data.density[1] * theta[1], axis=0)
    main = gram * free[:, None] * free[None, :] + jnp.diag(jnp.where(mask.free, box + trades, 1.0))
    cross = _matmul(weights, p.returns) * free[None, :]
    matrix = jnp.block([[main, cross.T], [cross, jnp.diag(jnp.sum(weights, axis=1))]])
    row_border = jnp.where(data.row_live[:, None], p.rows * free[None, :], 0.0)
    by_t = jnp.concatenate([jnp.diag(gradient_t), jnp.zeros((gradient_w.shape[0] - m, m), gradient_w.dtype)])
    cap_border = jnp.where(mask.capped[:, None], jnp.concatenate([gradient_w * free[None, :], by_t], axis=1), 0.0)
    border = jnp.concatenate([jnp.pad(row_border, ((0, 0), (0, m))), cap_border])
    corner = jnp.concatenate([jnp.where(data.row_live, row_corner, 1.0), jnp.where(mask.capped, cap_corner, 1.0)])
    return factor_kkt(matrix, border, corner)


# -- the smooth optimality conditions and their derivative ---------------------------------------------------------
def _slopes(data: _Data, w: Array, t: Array, smoothing: Smoothing) -> tuple[Any, Any, Any]:
    """(u, q, theta) of every hinge: value, first and second derivative of the hyperbola."""
    u, q, theta = [], [], []
    widths = (smoothing.hinge, smoothing.trade)
    for e, width in zip(_excess(data.program, w, t), widths, strict=True):
        one, other = _rounded(e, width)
        total = one + other
        u.append(one)
        q.append(one / total)
        theta.append(2.0 * width * width / (total * total * total))
    return tuple(u), tuple(q), tuple(theta)


def _stiffness(data: _Data, a: Array, value: Array, barrier: Array) -> tuple[Array, Array]:
    """Compliances of the rows, 1 / (dy/da), and of the caps, 1 / (d eta / dH)."""
    p, mask = data.program, data.mask
    stiff = jnp.where(
        mask.row_has_lower, barrier / jnp.square(jnp.where(mask.row_has_lower, a - p.row_lower, 1.0)), 0.0
    )
    stiff += jnp.where(
        mask.row_has_upper, barrier / jnp.square(jnp.where(mask.row_has_upper, p.row_upper - a, 1.0)), 0.0
    )
    row = jnp.where(mask.equality, 0.0, 1.0 / jnp.where(stiff > 0, stiff, 1.0))
    return row, jnp.square(data.cap - value) / barrier


def _conditions(program: HingeProgram, smoothing: Smoothing, centre: Centre) -> tuple[Array, Array]:
    """G: (stationarity in w and t; rows and caps). Its derivative in the centre is what `_factor_at` factors."""
    data = _prepare(program)
    p, mask = data.program, data.mask
    m, kappa = p.cvar_level.shape[0], smoothing.barrier
    w = jnp.where(mask.free, centre.weights, p.lower)
    u, q, _ = _slopes(data, w, centre.var, smoothing)
    value, gradient_w, gradient_t = _value_and_gradient(data, w, centre.var, u, q)
    level = data.weight + centre.cap_dual
    a = _matmul(p.rows, w)
    below = jnp.where(mask.has_lower, w - p.lower, 1.0)
    above = jnp.where(mask.has_upper, p.upper - w, 1.0)
    by_w = p.linear + _matmul(level, gradient_w) + _matmul(centre.row_dual, p.rows)
    by_w = by_w - jnp.where(mask.has_lower, kappa / below, 0.0) + jnp.where(mask.has_upper, kappa / above, 0.0)
    row_corner, cap_corner = lax.stop_gradient(_stiffness(data, a, value, kappa))
    row_below = jnp.where(mask.row_has_lower, a - p.row_lower, 1.0)
    row_above = jnp.where(mask.row_has_upper, p.row_upper - a, 1.0)
    price = jnp.where(mask.row_has_upper, kappa / row_above, 0.0) - jnp.where(
        mask.row_has_lower, kappa / row_below, 0.0
    )
    row = jnp.where(mask.equality, a - p.row_lower, row_corner * (price - centre.row_dual))
    room = jnp.where(mask.capped, data.cap - value, 1.0)
    cap = cap_corner * (kappa / room - centre.cap_dual)
    return (
        jnp.concatenate([jnp.where(mask.free, by_w, 0.0), level[:m] * gradient_t]),
        jnp.concatenate([jnp.where(data.row_live, row, 0.0), jnp.where(mask.capped, cap, 0.0)]),
    )


def _factor_at(program: HingeProgram, smoothing: Smoothing, centre: Centre) -> Kkt:
    """Factor the derivative of `_conditions` in the centre."""
    data = _prepare(program)
    p, mask, kappa = data.program, data.mask, smoothing.barrier
    w = jnp.where(mask.free, centre.weights, p.lower)
    u, q, theta = _slopes(data, w, centre.var, smoothing)
    value, gradient_w, gradient_t = _value_and_gradient(data, w, centre.var, u, q)
    box = jnp.where(mask.has_lower, kappa / jnp.square(jnp.where(mask.has_lower, w - p.lower, 1.0)), 0.0)
    box += jnp.where(mask.has_upper, kappa / jnp.square(jnp.where(mask.has_upper, p.upper - w, 1.0)), 0.0)
    corners = _stiffness(data, _matmul(p.rows, w), value, kappa)
    return _assemble(data, data.weight + centre.cap_dual, theta, gradient_w, gradient_t, box, *corners)


# -- the path to the centre ----------------------------------------------------------------------------------------
def _on_path(data: _Data, smoothing: Smoothing, w: Array, t: Array, y: Array, a: Array, least: Array) -> _Iterate:
    """The point whose pairs are all at their targets, for weights and row activities inside their limits.

    `least` (B,) is the slack of the caps where the values leave less. Only equalities keep their y.
    """
    p, mask = data.program, data.mask
    kappa = smoothing.barrier
    u, x, q, v = [], [], [], []
    for e, width in zip(_excess(p, w, t), (smoothing.hinge, smoothing.trade), strict=True):
        one, other = _rounded(e, width)
        u.append(one)
        x.append(other)
        q.append(one / (one + other))
        v.append(other / (one + other))
    y_lower = jnp.where(mask.row_has_lower, kappa / jnp.where(mask.row_has_lower, a - p.row_lower, 1.0), 0.0)
    y_upper = jnp.where(mask.row_has_upper, kappa / jnp.where(mask.row_has_upper, p.row_upper - a, 1.0), 0.0)
    value = _value_and_gradient(data, w, t, (u[0], u[1]), (q[0], q[1]))[0]
    s = jnp.where(mask.capped, jnp.maximum(data.cap - value, least), 1.0)
    return _Iterate(
        w=w,
        t=t,
        u=(u[0], u[1]),
        x=(x[0], x[1]),
        q=(q[0], q[1]),
        v=(v[0], v[1]),
        z_lower=jnp.where(mask.has_lower, kappa / jnp.where(mask.has_lower, w - p.lower, 1.0), 0.0),
        z_upper=jnp.where(mask.has_upper, kappa / jnp.where(mask.has_upper, p.upper - w, 1.0), 0.0),
        a=a,
        y=jnp.where(mask.equality, y, y_upper - y_lower),
        y_lower=y_lower,
        y_upper=y_upper,
        s=s,
        eta=jnp.where(mask.capped, kappa / s, 0.0),
    )


def _init(data: _Data, smoothing: Smoothing, start: Centre | None) -> tuple[_Iterate, Array]:
    """An interior point at the weights of `start`; without one, a wide rounding far from all limits."""
    p, mask = data.program, data.mask
    cold = start is None
    path = jnp.ones((), p.returns.dtype)
    if cold:
        path = jnp.maximum(COLD / jnp.maximum(smoothing.hinge, smoothing.barrier), path)
    wide = Smoothing(*(path * value for value in smoothing))
    room = 0.05 if cold else 0.5 * smoothing.barrier
    span = jnp.where(mask.has_lower & mask.has_upper, p.upper - p.lower, 1.0)
    inside = jnp.minimum(0.05 * span, room)
    w = jnp.clip(
        p.start if cold else start.weights,
        jnp.where(mask.has_lower, p.lower + inside, -jnp.inf),
        jnp.where(mask.has_upper, p.upper - inside, jnp.inf),
    )
    w = jnp.where(mask.free, w, p.lower)
    t = _quantiles(data, -_matmul(p.returns, w), wide.hinge)
    row_span = jnp.where(mask.row_has_lower & mask.row_has_upper, p.row_upper - p.row_lower, jnp.inf)
    inside = jnp.minimum(0.1 * row_span, 0.1 if cold else 0.5 * smoothing.barrier)
    a = jnp.clip(
        _matmul(p.rows, w),
        jnp.where(mask.row_has_lower, p.row_lower + inside, -jnp.inf),
        jnp.where(mask.row_has_upper, p.row_upper - inside, jnp.inf),
    )
    a = jnp.where(mask.equality, p.row_lower, a)
    least = 0.1 * jnp.maximum(jnp.abs(data.cap), 0.1) if cold else jnp.full_like(data.cap, 0.5 * smoothing.barrier)
    y = jnp.zeros_like(a) if cold else start.row_dual
    return _on_path(data, wide, w, t, y, a, least), path


def _quantiles(data: _Data, loss: Array, epsilon: Array) -> Array:
    """The t of each block at given losses: the rounded hinges' slopes weigh tau. By bisection."""
    level, rho = data.program.cvar_level, data.density[0]
    low, high = jnp.min(loss, initial=0.0) - 100.0 * epsilon, jnp.max(loss, initial=0.0) + 100.0 * epsilon

    def halve(_: Array, interval: tuple[Array, Array]) -> tuple[Array, Array]:
        a, b = interval
        middle = 0.5 * (a + b)
        u, x = _rounded(loss[None, :] - middle[:, None], epsilon)
        right = jnp.sum(rho * u / (u + x), axis=1) > level
        return jnp.where(right, middle, a), jnp.where(right, b, middle)

    a, b = lax.fori_loop(0, 40, halve, (low * jnp.ones_like(level), high * jnp.ones_like(level)))
    return 0.5 * (a + b)


class _Targets(NamedTuple):
    """Right-hand sides of the linearised pairs."""

    xq: tuple[Array, Array]
    uv: tuple[Array, Array]
    lower: Array
    upper: Array
    row_lower: Array
    row_upper: Array
    cap: Array


def _products(data: _Data, it: _Iterate) -> _Targets:
    p, mask = data.program, data.mask
    return _Targets(
        xq=(it.x[0] * it.q[0], it.x[1] * it.q[1]),
        uv=(it.u[0] * it.v[0], it.u[1] * it.v[1]),
        lower=jnp.where(mask.has_lower, it.z_lower * (it.w - p.lower), 0.0),
        upper=jnp.where(mask.has_upper, it.z_upper * (p.upper - it.w), 0.0),
        row_lower=jnp.where(mask.row_has_lower, it.y_lower * (it.a - p.row_lower), 0.0),
        row_upper=jnp.where(mask.row_has_upper, it.y_upper * (p.row_upper - it.a), 0.0),
        cap=jnp.where(mask.capped, it.s * it.eta, 0.0),
    )


def _aims(data: _Data, smoothing: Smoothing, it: _Iterate, path: Array, power: Array) -> _Targets:
    """What the products are to be: of a hinge, path epsilon (q v)^power / 2^(1 - 2 power)."""
    mask = data.mask
    kappa = path * smoothing.barrier
    widths = (smoothing.hinge, smoothing.trade)
    hinge = tuple(
        0.5 * path * width * jnp.power(4.0 * q * v, power) for width, q, v in zip(widths, it.q, it.v, strict=True)
    )
    return _Targets(
        xq=hinge,
        uv=hinge,
        lower=jnp.where(mask.has_lower, kappa, 0.0),
        upper=jnp.where(mask.has_upper, kappa, 0.0),
        row_lower=jnp.where(mask.row_has_lower, kappa, 0.0),
        row_upper=jnp.where(mask.row_has_upper, kappa, 0.0),
        cap=jnp.where(mask.capped, kappa, 0.0),
    )


def _total(data: _Data, products: _Targets) -> Array:
    live = [jnp.where(k, value, 0.0) for k, value in zip(2 * data.live, (*products.xq, *products.uv), strict=True)]
    return sum((jnp.sum(value) for value in (*live, *products[2:])), start=jnp.zeros((), data.weight.dtype))


def _longest(value: Array, change: Array, live: Array) -> Array:
    ratio = jnp.where(live & (change < 0), -value / jnp.where(change < 0, change, 1.0), jnp.inf)
    return jnp.min(ratio, initial=jnp.inf)


def _steps(data: _Data, it: _Iterate, d: _Iterate) -> tuple[Array, Array]:
    """Longest primal and dual steps, at most one, that stay inside."""
    p, mask = data.program, data.mask
    primal = [
        *(_longest(*parts) for parts in zip(it.u, d.u, data.live, strict=True)),
        *(_longest(*parts) for parts in zip(it.x, d.x, data.live, strict=True)),
        _longest(it.w - p.lower, d.w, mask.has_lower),
        _longest(p.upper - it.w, -d.w, mask.has_upper),
        _longest(it.a - p.row_lower, d.a, mask.row_has_lower),
        _longest(p.row_upper - it.a, -d.a, mask.row_has_upper),
        _longest(it.s, d.s, mask.capped),
    ]
    dual = [
        *(_longest(*parts) for parts in zip(it.q, d.q, data.live, strict=True)),
        *(_longest(*parts) for parts in zip(it.v, d.v, data.live, strict=True)),
        _longest(it.z_lower, d.z_lower, mask.has_lower),
        _longest(it.z_upper, d.z_upper, mask.has_upper),
        _longest(it.y_lower, d.y_lower, mask.row_has_lower),
        _longest(it.y_upper, d.y_upper, mask.row_has_upper),
        _longest(it.eta, d.eta, mask.capped),
    ]
    back = jnp.asarray(STEP_BACK, p.returns.dtype)
    return jnp.minimum(back * jnp.min(jnp.stack(primal)), 1.0), jnp.minimum(back * jnp.min(jnp.stack(dual)), 1.0)


def _move(it: _Iterate, d: _Iterate, primal: Array, dual: Array) -> _Iterate:
    moved = {}
    for name in it.__dataclass_fields__:
        step = dual if name in ("q", "v", "z_lower", "z_upper", "y", "y_lower", "y_upper", "eta") else primal
        moved[name] = jax.tree.map(
            lambda value, change, by=step: value + by * change, getattr(it, name), getattr(d, name)
        )
    return _Iterate(**moved)


class _Residuals(NamedTuple):
    w: Array
    t: Array
    e: tuple[Array, Array]  # u - x - e
    row: Array  # A w - a
    cap: Array  # cap - H - s


class _Hinge(NamedTuple):
    """Linearised hinges of one family: dq = theta (de + ...), with the target's own change in q."""

    theta: Array
    bend: Array  # derivative of the target epsilon sqrt(q v) in q


def _linearised(it: _Iterate, smoothing: Smoothing, path: Array, power: Array) -> tuple[_Hinge, _Hinge]:
    found = []
    for u, x, q, v, width in zip(it.u, it.x, it.q, it.v, (smoothing.hinge, smoothing.trade), strict=True):
        plain = x / q + u / v
        bend = 0.5 * path * width * jnp.power(4.0 * q * v, power) * power * (v - q) / (q * v)
        change = bend * (v - q) / (q * v)
        # at most half of `plain` on the path; off it, more would make the weight negative
        share = jnp.minimum(1.0, 0.75 * plain / jnp.where(change > 0, change, 1.0))
        found.append(_Hinge(1.0 / (plain - share * change), share * bend))
    return found[0], found[1]


def _direction(
    data: _Data, it: _Iterate, kkt: Kkt, hinges: tuple[_Hinge, _Hinge], res: _Residuals, target: _Targets
) -> _Iterate:
    """The Newton direction for given right-hand sides of the pairs, as an iterate of differences."""
    p, mask = data.program, data.mask
    n, m, rows = p.linear.shape[0], p.cvar_level.shape[0], p.rows.shape[0]
    level = data.weight + it.eta
    levels = (level[:m, None], level[m:, None])
    # change of the slope, and of the value, that does not come from dw and dt
    own = [xq / q - uv / v - r for xq, uv, q, v, r in zip(target.xq, target.uv, it.q, it.v, res.e, strict=True)]
    pull = [lv * rho * h.theta * g for lv, rho, h, g in zip(levels, data.density, hinges, own, strict=True)]
    below = jnp.where(mask.has_lower, it.w - p.lower, 1.0)
    above = jnp.where(mask.has_upper, p.upper - it.w, 1.0)
    right_w = (
        -res.w
        + _matmul(jnp.sum(pull[0], axis=0), p.returns)
        + jnp.sum(pull[1], axis=0)
        + jnp.where(mask.has_lower, target.lower / below, 0.0)
        - jnp.where(mask.has_upper, target.upper / above, 0.0)
    )
    right_t = -res.t + jnp.sum(pull[0], axis=1)
    row_below = jnp.where(mask.row_has_lower, it.a - p.row_lower, 1.0)
    row_above = jnp.where(mask.row_has_upper, p.row_upper - it.a, 1.0)
    row_pull = jnp.where(mask.row_has_upper, target.row_upper / row_above, 0.0)
    row_pull -= jnp.where(mask.row_has_lower, target.row_lower / row_below, 0.0)
    compliance = jnp.where(mask.row_has_lower | mask.row_has_upper, kkt.corner[:rows], 0.0)
    right_row = jnp.where(data.row_live, -res.row - compliance * row_pull, 0.0)
    eta = jnp.where(mask.capped, it.eta, 1.0)
    shift = [
        jnp.sum(rho * ((uv + (u + h.bend) * h.theta * g) / v), axis=1)
        for rho, uv, u, v, h, g in zip(data.density, target.uv, it.u, it.v, hinges, own, strict=True)
    ]
    right_cap = jnp.where(mask.capped, res.cap - jnp.concatenate(shift) - target.cap / eta, 0.0)
    dz, db = solve_kkt(
        kkt,
        jnp.concatenate([jnp.where(mask.free, right_w, 0.0), right_t]),
        jnp.concatenate([right_row, right_cap]),
    )
    dw, dt = jnp.where(mask.free, dz[:n], 0.0), dz[n:]
    dy, deta = jnp.where(data.row_live, db[:rows], 0.0), jnp.where(mask.capped, db[rows:], 0.0)
    change = (-_matmul(p.returns, dw)[None, :] - dt[:, None], -jnp.broadcast_to(dw, p.l1_rate.shape))
    du, dx, dq = [], [], []
    for de, g, h, xq, uv, u, x, q, v, live in zip(
        change, own, hinges, target.xq, target.uv, it.u, it.x, it.q, it.v, data.live, strict=True
    ):
        by = jnp.where(live, h.theta * (de + g), 0.0)
        dq.append(by)
        dx.append(jnp.where(live, (xq - (x - h.bend) * by) / q, 0.0))
        du.append(jnp.where(live, (uv + (u + h.bend) * by) / v, 0.0))
    da = jnp.where(mask.equality | ~data.row_live, 0.0, compliance * (dy - row_pull))
    return _Iterate(
        w=dw,
        t=dt,
        u=(du[0], du[1]),
        x=(dx[0], dx[1]),
        q=(dq[0], dq[1]),
        v=(-dq[0], -dq[1]),
        z_lower=jnp.where(mask.has_lower, (target.lower - it.z_lower * dw) / below, 0.0),
        z_upper=jnp.where(mask.has_upper, (target.upper + it.z_upper * dw) / above, 0.0),
        a=da,
        y=dy,
        y_lower=jnp.where(mask.row_has_lower, (target.row_lower - it.y_lower * da) / row_below, 0.0),
        y_upper=jnp.where(mask.row_has_upper, (target.row_upper + it.y_upper * da) / row_above, 0.0),
        s=jnp.where(mask.capped, (target.cap - it.s * deta) / eta, 0.0),
        eta=deta,
    )


def _step(data: _Data, smoothing: Smoothing, cold: _Iterate, cold_path: Array, state: _State) -> _State:
    """One predictor-corrector step towards the centre."""
    p, mask, it = data.program, data.mask, state.iterate
    m = p.cvar_level.shape[0]
    power = state.power
    products = _products(data, it)
    mu = _total(data, products)
    one = jnp.ones_like(state.path)
    hinges = _linearised(it, smoothing, one, power)
    value, gradient_w, gradient_t = _value_and_gradient(data, it.w, it.t, it.u, it.q)
    level = data.weight + it.eta
    excess = _excess(p, it.w, it.t)
    by_w = p.linear + _matmul(level, gradient_w) + _matmul(it.y, p.rows) - it.z_lower + it.z_upper
    # while the hinges are rounder than they will be, the caps are as much looser: so the path does not leave the limits
    slack = jnp.where(power > 0, 0.0, state.path)
    heights = jnp.concatenate(
        [width * jnp.sum(rho, axis=1) for width, rho in zip(smoothing[:2], data.density, strict=True)]
    )
    apart = [jnp.where(live, u - x - e, 0.0) for u, x, e, live in zip(it.u, it.x, excess, data.live, strict=True)]
    res = _Residuals(
        w=jnp.where(mask.free, by_w, 0.0),
        t=level[:m] * gradient_t,
        e=(apart[0], apart[1]),
        row=jnp.where(data.row_live, _matmul(p.rows, it.w) - it.a, 0.0),
        cap=jnp.where(mask.capped, data.cap + slack * heights - value - it.s, 0.0),
    )
    below = jnp.where(mask.has_lower, it.w - p.lower, 1.0)
    above = jnp.where(mask.has_upper, p.upper - it.w, 1.0)
    box = jnp.where(mask.has_lower, it.z_lower / below, 0.0) + jnp.where(mask.has_upper, it.z_upper / above, 0.0)
    row_below = jnp.where(mask.row_has_lower, it.a - p.row_lower, 1.0)
    row_above = jnp.where(mask.row_has_upper, p.row_upper - it.a, 1.0)
    stiff = jnp.where(mask.row_has_lower, it.y_lower / row_below, 0.0)
    stiff += jnp.where(mask.row_has_upper, it.y_upper / row_above, 0.0)
    row_corner = jnp.where(mask.equality, 0.0, 1.0 / jnp.where(stiff > 0, stiff, 1.0))
    cap_corner = it.s / jnp.where(mask.capped, it.eta, 1.0)
    theta = (hinges[0].theta, hinges[1].theta)
    kkt = _assemble(data, level, theta, gradient_w, gradient_t, box, row_corner, cap_corner)

    def solve(target: _Targets, path: Array) -> _Iterate:
        ahead = res._replace(
            cap=res.cap + jnp.where(mask.capped, (jnp.where(power > 0, 0.0, path) - slack) * heights, 0.0)
        )
        return _direction(data, it, kkt, hinges, ahead, target)

    final = _aims(data, smoothing, it, one, power)
    predictor = solve(jax.tree.map(jnp.subtract, final, products), one)
    primal, dual = _steps(data, it, predictor)
    left = jnp.power(_total(data, _products(data, _move(it, predictor, primal, dual))) / mu, 3.0)
    path = jnp.maximum(left * state.path, 1.0)
    aims = _aims(data, smoothing, it, path, power)
    second = _Targets(
        xq=(predictor.x[0] * predictor.q[0], predictor.x[1] * predictor.q[1]),
        uv=(predictor.u[0] * predictor.v[0], predictor.u[1] * predictor.v[1]),
        lower=predictor.w * predictor.z_lower,
        upper=-predictor.w * predictor.z_upper,
        row_lower=predictor.a * predictor.y_lower,
        row_upper=-predictor.a * predictor.y_upper,
        cap=predictor.s * predictor.eta,
    )
    # a corrector much larger than its pair would only be in the way
    second = jax.tree.map(lambda c, pr, ai: jnp.clip(c, -(pr + ai), pr + ai), second, products, aims)
    target = jax.tree.map(lambda ai, pr, c: ai - pr - c, aims, products, second)
    direction = solve(target, path)
    primal, dual = _steps(data, it, direction)

    def centred(_: Array, before: tuple[_Iterate, _Targets, Array, Array]) -> tuple[_Iterate, _Targets, Array, Array]:
        """Gondzio's corrector (1996): pull the products that a longer step would leave far off the path back to it."""
        direction, target, primal, dual = before
        farther = [jnp.minimum(1.1 * step + 0.1, 1.0) for step in (primal, dual)]
        there = _products(data, _move(it, direction, farther[0], farther[1]))
        shift = jax.tree.map(
            lambda pr, ai: jnp.maximum(jnp.clip(pr, 0.1 * ai, 10.0 * ai) - pr, -10.0 * ai), there, aims
        )
        corrected = jax.tree.map(jnp.add, target, shift)
        other = solve(corrected, path)
        steps = _steps(data, it, other)
        better = steps[0] + steps[1] >= primal + dual + 0.02
        return jax.tree.map(lambda new, old: jnp.where(better, new, old), (other, corrected, *steps), before)

    direction, _, primal, dual = lax.fori_loop(0, CORRECTORS, centred, (direction, target, primal, dual))
    # at the end of the path the predictor is Newton's own direction; correctors may go round in circles there
    late = state.late > LATE
    plain = (state.power > 0) & (late | (sum(_steps(data, it, predictor)) >= primal + dual))
    direction = jax.tree.map(lambda new, old: jnp.where(plain, new, old), predictor, direction)
    primal, dual = _steps(data, it, direction)
    ahead = _move(it, direction, primal, dual)
    # where pairs far off their targets block the way, all are put back on theirs
    blocked = (state.power > 0) & (late | (jnp.minimum(primal, dual) < BLOCKED))
    back = _on_path(data, smoothing, ahead.w, ahead.t, ahead.y, ahead.a, ahead.s)
    ahead = jax.tree.map(lambda new, old: jnp.where(blocked, new, old), back, ahead)
    path = _total(data, _products(data, ahead)) / _total(data, _aims(data, smoothing, ahead, one, 0.0 * one))
    path = jnp.where((path < 1.05) | (state.path <= 1.0), 1.0, path)
    power = jnp.where((path <= 1.0) & (jnp.minimum(primal, dual) > 0.5), 0.5, state.power)

    apart = jax.tree.map(lambda pr, f: jnp.abs(pr - f), products, final)
    hinges_off = zip((*apart.xq, *apart.uv), 2 * data.live, 2 * smoothing[:2], strict=True)
    off = [jnp.max(jnp.where(live, gap, 0.0), initial=0.0) / width for gap, live, width in hinges_off]
    rest = (apart.lower, apart.upper, apart.row_lower, apart.row_upper, apart.cap)
    off += [jnp.max(gap, initial=0.0) / smoothing.barrier for gap in rest]
    sizes = [jnp.max(jnp.abs(leaf), initial=0.0) for leaf in jax.tree.leaves((res, direction.w))]
    residual = jnp.max(jnp.stack([*sizes, *(1e-4 * pair for pair in off)]))
    arrived = state.power > 0
    sound = jnp.isfinite(residual) & jnp.isfinite(jnp.sum(ahead.w))
    converged = arrived & sound & (residual <= TOLERANCE)
    iteration = state.iteration + 1
    # from where the path was cut short the way may be blocked: begin again at its start
    restart = (
        ~converged
        & (state.restarts == 0)
        & (~sound | (iteration >= PATIENCE) | ((iteration >= PATIENCE // 2) & (residual > FAR)))
    )
    ahead = jax.tree.map(lambda new, old: jnp.where(restart, old, new), ahead, cold)
    return _State(
        iterate=ahead,
        path=jnp.where(restart, cold_path, path),
        power=jnp.where(restart, 0.0, power),
        iteration=iteration,
        late=jnp.where(restart | (state.power == 0), 0, state.late + 1),
        restarts=state.restarts + restart,
        residual=jnp.where(sound, residual, jnp.inf),
        done=converged | (iteration >= LIMIT) | (~sound & ~restart),
    )


def find(program: HingeProgram, smoothing: Smoothing, start: Centre | None = None) -> Found:
    """The smoothed optimum, without derivatives; from `start` in a few Newton steps where that is near.

    A program that has no interior, or no optimum, does not converge.
    """
    data = _prepare(program)
    zero = jnp.zeros((), jnp.int32)
    cold, cold_path = _init(data, smoothing, None)
    first, path = (cold, cold_path) if start is None else _init(data, smoothing, start)
    restarts = zero + 1 if start is None else zero
    infinite = jnp.full((), jnp.inf, program.returns.dtype)
    state = _State(first, path, jnp.where(path > 1.0, 0.0, 0.5), zero, zero, restarts, infinite, jnp.zeros((), bool))
    state = lax.while_loop(lambda st: ~st.done, partial(_step, data, smoothing, cold, cold_path), state)
    it = state.iterate
    return Found(Centre(it.w, it.t, it.y, it.eta), state.iteration, state.residual, state.residual <= TOLERANCE)


# -- the derivative ------------------------------------------------------------------------------------------------
@jax.custom_jvp
def _centre(program: HingeProgram, smoothing: Smoothing, start: Centre | None) -> Centre:
    found = find(program, smoothing, start)
    # a point that is not the centre has no derivative of this kind, and must not pass for one
    return jax.tree.map(lambda leaf: jnp.where(found.converged, leaf, jnp.nan), found.centre)


@partial(_centre.defjvp, symbolic_zeros=True)
def _centre_jvp(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Centre, Centre]:
    program, smoothing, start = primals
    centre = _centre(program, smoothing, start)
    leaves, structure = jax.tree.flatten((program, smoothing))
    changes = jax.tree.leaves(tangents[:2], is_leaf=_is_zero)
    moving = [i for i, change in enumerate(changes) if not _is_zero(change)]

    def conditions(values: list[Array]) -> tuple[Array, Array]:
        whole = list(leaves)
        for i, value in zip(moving, values, strict=True):
            whole[i] = value
        moved_program, moved_smoothing = jax.tree.unflatten(structure, whole)
        return _conditions(moved_program, moved_smoothing, centre)

    _, change = jax.jvp(conditions, ([leaves[i] for i in moving],), ([changes[i] for i in moving],))
    kkt = _factor_at(program, smoothing, centre)

    # one vector, because JAX 0.10 cannot batch a transposed solve of which only some parts are batched
    n, rows = program.linear.shape[0], program.rows.shape[0]
    matrix = kkt.matrix
    assert not isinstance(matrix, Factored)  # hinges of scenarios take part
    size = matrix.shape[0]

    def matvec(vector: Array) -> Array:
        z, b = vector[:size], vector[size:]
        return jnp.concatenate([_matmul(matrix, z) + _matmul(b, kkt.border), _matmul(kkt.border, z) - kkt.corner * b])

    def solve(_: Any, right: Array) -> Array:
        return jnp.concatenate(solve_kkt(kkt, right[:size], right[size:]))

    found = lax.custom_linear_solve(matvec, -jnp.concatenate(change), solve, symmetric=True)
    parts = jnp.split(found, [n, size, size + rows])
    return centre, Centre(*parts)


def _is_zero(tangent: Any) -> bool:
    return isinstance(tangent, jax.custom_derivatives.SymbolicZero)


def centre(program: HingeProgram, smoothing: Smoothing, start: Centre | None = None) -> Centre:
    """The smoothed optimum, differentiable in every array of `program` and `smoothing`, forwards and backwards.

    Fixed assets (equal bounds) move with their lower bound and equality rows with their lower side. `start` is where
    Newton's method begins; the answer does not depend on it. Everything is NaN where the centre was not found.
    """
    found = _centre(program, smoothing, None if start is None else lax.stop_gradient(start))
    free = program.upper > program.lower
    return eqx.tree_at(lambda c: c.weights, found, jnp.where(free, found.weights, program.lower))

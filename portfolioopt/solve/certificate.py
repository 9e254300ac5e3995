r"""What an answer is worth: everything recomputed in float64 from the weights, and a bound no portfolio can beat.

The bound is the Lagrangian dual of the problem. For any scenario measure :math:`0 \le q_s \le (\lambda+\eta)\,
p_s/(1-\beta)` with :math:`\sum_s q_s = \lambda+\eta`, any row multipliers y of the right sign and any cap multipliers
:math:`\eta \ge 0`, no allowed portfolio has a smaller minimised objective than

.. math::

    \sum_i \min_{l_i \le w_i \le u_i} \Big\{ d_i w_i + \sum_a (\lambda_a+\eta_a) k_{ai} |w_i - w^0_{ai}| \Big\}
    - \sum_j (y_j^+ \overline a_j - y_j^- \underline a_j) - \sum_b \eta_b \kappa_b,
    \qquad d = c - R'q + A'y,

whatever the multipliers are; good ones make it tight. The inner minimum is at a bound or a reference point.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from portfolioopt.problem import Compiled
from portfolioopt.scenarios import Tail, tail
from portfolioopt_kernels import Solution

FloatArray: TypeAlias = npt.NDArray[np.float64]

# Where nothing bounds a weight, the bound looks this far; convexity carries the conclusion beyond (see Certificate).
RADIUS = 100.0


@dataclass(frozen=True)
class Certificate:
    """Proof of how good an answer is; all of it recomputed in float64 from the weights and multipliers."""

    objective: float
    """Value of the maximised objective at the weights."""
    bound: float
    """No portfolio that meets the constraints has a higher objective than this (Lagrangian dual bound)."""
    gap: float
    """``(bound - objective)`` relative to `scale`; an optimum is at most this much better."""
    scale: float
    """The larger of |objective| and the largest single term of it, so that terms which cancel do not blow up the gap;
    at least 1e-6 times what the terms amount to at a typical weight, and 1 where there is nothing to maximise."""
    max_violation: float
    """Largest violation of any constraint, relative to the larger of its limit and its largest coefficient."""
    worst_constraint: str | None
    """The constraint with the largest violation; None where all are met exactly."""
    radius: float | None
    """None where the constraints limit every weight. Otherwise the bound was computed over |w| <= radius; by convexity
    a portfolio further out, at distance d, gains at most d / radius times the gap."""


@dataclass(frozen=True)
class Multipliers:
    """Dual variables after repair, valid in the bound; prices are per unit of the minimised objective."""

    scenario: FloatArray  # q (M, S)
    row: FloatArray  # y (C,)
    cvar_cap: FloatArray  # eta (M,)
    l1_cap: FloatArray  # eta (A,)
    lower: FloatArray  # price of the lower bound (N,), >= 0
    upper: FloatArray  # price of the upper bound (N,), >= 0


@dataclass(frozen=True)
class Evaluation:
    """An answer recomputed from its weights."""

    certificate: Certificate
    term_values: FloatArray  # value of each term of the objective, before its coefficient
    tails: dict[float, Tail]
    line_values: tuple[FloatArray, ...]  # value of each line of the report, grouped like Compiled.lines
    multipliers: Multipliers


def evaluate(compiled: Compiled, weights: FloatArray, solution: Solution) -> Evaluation:
    """Recompute objective, risk and constraints from `weights`, and bound the optimum by the multipliers."""
    tails = recompute_tails(compiled, weights)
    terms = term_values(compiled, weights, tails)
    coefficients = np.array([t.coefficient for t in compiled.terms])
    parts = coefficients * terms
    objective = float(parts.sum())
    values = line_values(compiled, weights, tails)
    violation, worst = _worst_violation(compiled, values)
    multipliers, bound, radius = dual_bound(compiled, weights, solution)
    scale = max(abs(objective), float(np.abs(parts).max(initial=0.0)), 1e-6 * _typical_size(compiled))
    scale = scale if scale > 0 else 1.0
    certificate = Certificate(objective, bound, (bound - objective) / scale, scale, violation, worst, radius)
    return Evaluation(certificate, terms, tails, values, multipliers)


def recompute_tails(compiled: Compiled, weights: FloatArray) -> dict[float, Tail]:
    """Value-at-risk and CVaR at every level the problem mentions."""
    losses = compiled.source.losses(weights)
    return {beta: tail(losses, compiled.probabilities, beta) for beta in compiled.betas}


def term_values(compiled: Compiled, weights: FloatArray, tails: dict[float, Tail]) -> FloatArray:
    """Value of each objective term at the weights, before its coefficient."""
    values = np.zeros(len(compiled.terms))
    for j, term in enumerate(compiled.terms):
        match term.kind:
            case "return":
                values[j] = term.vector @ weights
            case "cvar":
                values[j] = tails[term.beta].cvar
            case "cost":
                assert compiled.holdings is not None
                values[j] = term.vector @ np.abs(weights - compiled.holdings)
    return values


def line_values(compiled: Compiled, weights: FloatArray, tails: dict[float, Tail]) -> tuple[FloatArray, ...]:
    """Value of each constraint line at the weights, grouped like ``compiled.lines``."""
    program = compiled.program
    activity = program.rows @ weights
    cvars = np.array([tails[beta].cvar for beta in compiled.betas])
    distances = np.sum(program.l1_rate * np.abs(weights - program.l1_reference), axis=1)
    values: list[FloatArray] = []
    for group in compiled.lines:
        match group.kind:
            case "row":
                values.append(activity[group.index])
            case "weight":
                values.append(weights[group.index])
            case "trade":
                assert compiled.holdings is not None
                values.append(np.abs(weights - compiled.holdings)[group.index])
            case "cvar":
                values.append(cvars[group.index])
            case "l1":
                values.append(distances[group.index])
    return tuple(values)


def dual_bound(compiled: Compiled, weights: FloatArray, solution: Solution) -> tuple[Multipliers, float, float | None]:
    """Repair the multipliers to exact dual feasibility and evaluate the bound on the maximised objective.

    Returns the repaired multipliers, the bound, and the radius it looked out to (None where constraints limit every
    weight).
    """
    p = compiled.program
    eta_cvar = np.where(np.isfinite(p.cvar_cap), np.maximum(solution.cvar_cap_dual, 0.0), 0.0)
    eta_l1 = np.where(np.isfinite(p.l1_cap), np.maximum(solution.l1_cap_dual, 0.0), 0.0)
    level_cvar = p.cvar_weight + eta_cvar
    q = np.stack(
        [
            repair_measure(raw, level * density, level * tau)
            for raw, level, density, tau in zip(
                solution.scenario_dual, level_cvar, p.cvar_density, p.cvar_level, strict=True
            )
        ]
        or [np.empty_like(p.cvar_density)]
    ).reshape(p.cvar_density.shape)
    y = np.array(solution.row_dual)
    y = np.where(np.isfinite(p.row_upper), y, np.minimum(y, 0.0))
    y = np.where(np.isfinite(p.row_lower), y, np.maximum(y, 0.0))

    reduced = p.linear + level_cvar @ p.cvar_linear - compiled.source.pull(q.sum(axis=0)[None])[0] + y @ p.rows
    price = (p.l1_weight + eta_l1)[:, None] * p.l1_rate
    unlimited = ~(np.isfinite(compiled.box_lower) & np.isfinite(compiled.box_upper))
    radius = max(RADIUS, RADIUS * float(np.abs(weights).max())) if unlimited.any() else None
    reach = np.inf if radius is None else radius
    low, high = np.maximum(compiled.box_lower, -reach), np.minimum(compiled.box_upper, reach)

    corners = np.concatenate([low[None], high[None], np.clip(p.l1_reference, low, high)])
    inner = reduced * corners
    for rate, reference in zip(price, p.l1_reference, strict=True):
        inner = inner + rate * np.abs(corners - reference)
    side = np.where(y > 0, p.row_upper, p.row_lower)
    caps = float(np.sum(eta_cvar[eta_cvar > 0] * p.cvar_cap[eta_cvar > 0]))
    caps += float(np.sum(eta_l1[eta_l1 > 0] * p.l1_cap[eta_l1 > 0]))
    least = float(inner.min(axis=0).sum()) - float(np.sum(y[y != 0] * side[y != 0])) - caps

    # one-sided slopes of the inner function at the bounds: what an infinitesimally looser bound would gain
    slope_up = reduced + np.sum(price * np.where(p.lower >= p.l1_reference, 1.0, -1.0), axis=0)
    slope_down = reduced + np.sum(price * np.where(p.upper > p.l1_reference, 1.0, -1.0), axis=0)
    multipliers = Multipliers(q, y, eta_cvar, eta_l1, np.maximum(slope_up, 0.0), np.maximum(-slope_down, 0.0))
    return multipliers, -least, radius


def repair_measure(raw: FloatArray, ceiling: FloatArray, total: float) -> FloatArray:
    """The scenario measure nearest in spirit to `raw` with 0 <= q <= ceiling and sum q = total, in one shot."""
    q = np.clip(np.where(np.isfinite(raw), raw, 0.0), 0.0, ceiling)
    missing = total - float(q.sum())
    if missing > 0:
        room = ceiling - q
        space = float(room.sum())
        if space > 0:
            q = q + min(missing / space, 1.0) * room
    elif missing < 0:
        q = q * (total / float(q.sum()))
    return q


def _worst_violation(compiled: Compiled, values: tuple[FloatArray, ...]) -> tuple[float, str | None]:
    worst, culprit = 0.0, None
    for group, value in zip(compiled.lines, values, strict=True):
        excess = violation(compiled, group.kind, group.index, group.sense, group.limit, value)
        i = int(excess.argmax()) if len(excess) else 0
        if len(excess) and excess[i] > worst:
            worst, culprit = float(excess[i]), group.names[i]
    return worst, culprit


def violation(
    compiled: Compiled,
    kind: str,
    index: npt.NDArray[np.intp],
    sense: str,
    limit: FloatArray,
    value: FloatArray,
) -> FloatArray:
    """By how much each line is violated, relative to the larger of its limit and its largest coefficient; >= 0."""
    program = compiled.program
    difference = value - limit
    excess = np.abs(difference) if sense == "==" else difference if sense == "<=" else -difference
    match kind:
        case "row":
            size = np.abs(program.rows[index]).max(axis=1)
        case "cvar":
            size = np.full(len(limit), compiled.source.root_mean_square)
        case _:
            size = np.ones(len(limit))
    size = np.maximum(np.abs(limit), size)
    return np.maximum(excess, 0.0) / np.where(size > 0, size, 1.0)


def _typical_size(compiled: Compiled) -> float:
    """What the objective's terms amount to with a weight of one on a typical asset."""
    p = compiled.program
    risk = float(p.cvar_weight.sum() * compiled.source.root_mean_square) if len(p.cvar_weight) else 0.0
    cost = float((p.l1_weight[:, None] * p.l1_rate).max(initial=0.0))
    return max(float(np.abs(p.linear).max(initial=0.0)), risk, cost)

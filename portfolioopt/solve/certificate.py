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

from portfolioopt.problem import Compiled, Lines
from portfolioopt.problem.integer import integer_excess
from portfolioopt.problem.terms import View
from portfolioopt.scenarios import Tail
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
    """Recompute objective, risk and constraints from `weights`, and bound the optimum by the multipliers.

    `weights` may go on with auxiliary variables, which only the bound's radius looks at.
    """
    view = compiled.view(weights)
    tails = {beta: view.tail(beta) for beta in compiled.levels}
    values = line_values(compiled, view)
    terms = term_values(compiled, view, values)
    coefficients = np.array([t.coefficient for t in compiled.terms])
    parts = coefficients * terms
    objective = float(parts.sum())
    violation, worst = _worst_violation(compiled, view, values)
    multipliers, bound, radius = dual_bound(compiled, weights, solution)
    bound -= compiled.constant
    scale = max(abs(objective), float(np.abs(parts).max(initial=0.0)), 1e-6 * _typical_size(compiled))
    scale = scale if scale > 0 else 1.0
    certificate = Certificate(objective, bound, (bound - objective) / scale, scale, violation, worst, radius)
    return Evaluation(certificate, terms, tails, values, multipliers)


def term_values(compiled: Compiled, view: View, values: tuple[FloatArray, ...]) -> FloatArray:
    """Value of each objective term, before its coefficient; `values` are those of the lines."""
    found = np.zeros(len(compiled.terms))
    for j, term in enumerate(compiled.terms):
        if term.measure is not None:
            found[j] = term.measure.value(view)
        for i in term.lines:
            found[j] += float(_excess(compiled.lines[i].sense, values[i] - compiled.lines[i].limit).sum())
    return found


def line_values(compiled: Compiled, view: View) -> tuple[FloatArray, ...]:
    """Value of each constraint line, grouped like ``compiled.lines``."""
    n, weights = compiled.n_assets, view.weights
    activity = compiled.program.rows[:, :n] @ weights
    values: list[FloatArray] = []
    for group in compiled.lines:
        if group.measure is not None:
            values.append(np.array([sum(c * term.value(view) for c, term in group.measure.parts)]))
            continue
        match group.kind:
            case "row":
                values.append(activity[group.index])
            case "weight":
                values.append(weights[group.index])
            case "trade":
                values.append(np.abs(view.trades())[group.index])
            case "integer":
                constraint = compiled.integer[int(group.index[0])]
                excess = integer_excess(constraint, compiled.scenarios.assets, weights, compiled.holdings)
                values.append(np.array([excess]))
            case _:
                raise AssertionError(f"lines of kind {group.kind} have a measure")
    return tuple(values)


def _excess(sense: str, difference: FloatArray) -> FloatArray:
    """What a value less its limit amounts to as a violation."""
    return np.abs(difference) if sense == "==" else np.maximum(difference if sense == "<=" else -difference, 0.0)


def dual_bound(compiled: Compiled, weights: FloatArray, solution: Solution) -> tuple[Multipliers, float, float | None]:
    """Repair the multipliers to exact dual feasibility and evaluate the bound on the program's negated objective.

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

    level_l1 = p.l1_weight + eta_l1
    reduced = p.linear + level_cvar @ p.cvar_linear + level_l1 @ p.l1_linear + y @ p.rows
    reduced = reduced - compiled.source.pull(q.sum(axis=0)[None])[0]
    price = level_l1[:, None] * p.l1_rate
    # an auxiliary variable that nothing limits has a reduced cost of zero, but for rounding
    unlimited = ~(np.isfinite(compiled.box_lower) & np.isfinite(compiled.box_upper))
    reach = max(RADIUS, RADIUS * float(np.abs(weights).max()))
    radius = reach if unlimited[: compiled.n_assets].any() else None
    low = np.where(np.isfinite(compiled.box_lower), compiled.box_lower, -reach)
    high = np.where(np.isfinite(compiled.box_upper), compiled.box_upper, reach)

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


def _worst_violation(compiled: Compiled, view: View, values: tuple[FloatArray, ...]) -> tuple[float, str | None]:
    worst, culprit = 0.0, None
    for group, value in zip(compiled.lines, values, strict=True):
        if group.soft:
            continue
        excess = violation(compiled, view, group, value)
        i = int(excess.argmax()) if len(excess) else 0
        if len(excess) and excess[i] > worst:
            worst, culprit = float(excess[i]), group.names[i]
    return worst, culprit


def violation(compiled: Compiled, view: View, group: Lines, value: FloatArray) -> FloatArray:
    """By how much each line is violated, relative to :func:`line_sizes`; >= 0."""
    return _excess(group.sense, value - group.limit) / line_sizes(compiled, view, group)


def line_sizes(compiled: Compiled, view: View, group: Lines) -> FloatArray:
    """What slack and violation of each line are relative to: the larger of its limit and its largest coefficient."""
    if group.measure is not None:
        typical = sum(abs(c) * term.size(view) for c, term in group.measure.parts)
        size = np.full(len(group.limit), typical)
    elif group.kind == "row":
        size = np.abs(compiled.program.rows[group.index, : compiled.n_assets]).max(axis=1)
    else:
        size = np.ones(len(group.limit))
    size = np.maximum(np.abs(group.limit), size)
    return np.where(size > 0, size, 1.0)


def _typical_size(compiled: Compiled) -> float:
    """What the objective's terms amount to with a weight of one on a typical asset."""
    p = compiled.program
    risk = float(p.cvar_weight.sum() * compiled.scenarios.source.root_mean_square) if len(p.cvar_weight) else 0.0
    cost = float((p.l1_weight[:, None] * p.l1_rate).max(initial=0.0))
    bent = max((p.linear[c.column] for c in compiled.curves), default=0.0)  # their variables are about one
    return max(float(np.abs(p.linear[: compiled.n_assets]).max(initial=0.0)), risk, cost, float(bent))

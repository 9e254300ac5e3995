r"""Directions in which the objective grows for ever.

Along d, a convex function f grows in the end by its recession function :math:`f_\infty(d) = \lim_{s\to\infty} f(sd)/s`.
A problem that has a portfolio is unbounded if and only if some d leaves every limit in peace
(:math:`f_\infty(d) \le 0` for all that is limited from above) and the minimised objective falls along it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from portfolioopt.problem import Compiled
from portfolioopt.problem.curved import CurvedTerm
from portfolioopt.problem.lowering import Curve
from portfolioopt_kernels import exchange

from .outer import Distance, Outer, Piece

FloatArray = npt.NDArray[np.float64]

FAR = 1e6  # steps along a direction after which a curve grows as it will for ever
BISECTIONS = 80
SMALL = 1e-6  # growth that counts, relative to the size of the objective


def open_direction(compiled: Compiled) -> tuple[FloatArray, float] | None:
    """A direction without an end (N,), at most 1 in any weight, and what the objective gains per step of it."""
    if np.isfinite(compiled.box_lower).all() and np.isfinite(compiled.box_upper).all():
        return None
    p = exchange(compiled.program, l1_reference=np.zeros_like(compiled.program.l1_reference))
    program = Outer(replace(compiled, program=p))
    z = program.z
    for row, low, high in zip(p.rows, p.row_lower, p.row_upper, strict=True):
        if np.isfinite(high):
            program.row(z, row, 0.0)
        if np.isfinite(low):
            program.row(z, -row, 0.0)
    none = np.empty(0, dtype=np.intp), np.empty(0)
    for block in np.flatnonzero(np.isfinite(p.cvar_cap)):
        program.limit_tail(int(block), none, 0.0, program.unit)
    for block in np.flatnonzero(np.isfinite(p.l1_cap)):
        program.limit_distance(Distance.of(p, int(block)), none, 0.0)
    charged: list[tuple[int, float]] = []
    for block in np.flatnonzero(p.cvar_weight):
        top = program.columns(np.array([program.unit]))
        charged.append((int(top[0]), float(p.cvar_weight[block])))
        program.limit_tail(int(block), (top, -np.ones(1)), 0.0, program.unit)
    for block in np.flatnonzero(p.l1_weight):
        top = program.columns(np.ones(1))
        charged.append((int(top[0]), float(p.l1_weight[block])))
        program.limit_distance(Distance.of(p, int(block)), (top, -np.ones(1)), 0.0)
    for curve in compiled.curves:
        program.pieces.append(_Recession(curve))

    cost = np.zeros(program.width)
    cost[z] = p.linear
    for column, weight in charged:
        cost[column] = weight
    lower, upper = np.full(program.width, -np.inf), np.full(program.width, np.inf)
    lower[z] = np.where(np.isfinite(p.lower), 0.0, -1.0)
    upper[z] = np.where(np.isfinite(p.upper), 0.0, 1.0)
    answer = program.least(cost, lower, upper)
    if answer.point is None or not answer.settled:
        return None
    gain = -float(cost @ answer.point[: len(cost)])
    size = max(
        float(np.abs(p.linear).max(initial=0.0)),
        float(p.cvar_weight.sum()) * program.unit,
        float((p.l1_weight[:, None] * p.l1_rate).max(initial=0.0)),
    )
    return (answer.point[z[: compiled.n_assets]] + 0.0, gain) if gain > SMALL * size else None


class _Recession(Piece):
    """The column of a curve is not below what the curve grows by; gradients anywhere bound that from below."""

    def __init__(self, curve: Curve) -> None:
        self.curve = curve

    def cut(self, program: Outer, point: FloatArray) -> bool:
        direction = point[program.z[: program.compiled.n_assets]]
        measure = self.curve.measure
        assert isinstance(measure, CurvedTerm)
        far, near = FAR, 0.0
        if not np.isfinite(measure.tangent(program.compiled.view(far * direction))[0]):
            for _ in range(BISECTIONS):  # where it ends outside the domain: as near to the edge as counts
                middle = 0.5 * (near + far)
                inside = bool(np.isfinite(measure.tangent(program.compiled.view(middle * direction))[0]))
                near, far = (middle, far) if inside else (near, middle)
            far = near
        _, gradient = measure.tangent(program.compiled.view(far * direction))
        growth = float(gradient @ direction) / self.curve.scale
        if growth <= float(point[self.curve.column]) + 1e-7:
            return False
        columns = np.append(program.z[: len(direction)], program.z[self.curve.column])
        program.row(columns, np.append(gradient / self.curve.scale, -1.0), 0.0)
        return True

"""A problem whose limits give way: how far each would have to, and where that leads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from portfolioopt.problem import Compiled, Lines
from portfolioopt.problem.lowering import Canvas

from .certificate import line_sizes, line_values
from .outer import Answer, Distance, Outer

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Side:
    """One line of the constraint report that may give way; column j of the slacks has the same number."""

    constraint: str
    name: str
    group: int
    line: int
    lower: bool
    """Whether it gives way downwards."""
    limit: float
    size: float


class Elastic:
    r"""The limits of a problem with a violation :math:`v_j \ge 0` each.

    A limit is hard (:math:`v_j = 0`), soft (:math:`v_j` costs something) or out (:math:`v_j` is free). Limits that are
    soft in the problem itself and integer constraints are out for good.
    """

    def __init__(self, compiled: Compiled, near: FloatArray | None = None) -> None:
        self.compiled = compiled
        self.program = Outer(compiled, near)
        self.sides: list[Side] = []
        self._slack: list[int] = []
        self._rows_named: set[int] = set()
        self._tails_named: set[int] = set()
        self._distances_named: set[int] = set()
        view = compiled.view(np.zeros(compiled.program.shape[1]))
        for number, group in enumerate(compiled.lines):
            if not group.soft and group.kind != "integer":
                self._add(number, group, line_sizes(compiled, view, group))
        self._definitions()
        self.slack = np.array(self._slack, dtype=np.intp)
        self.size = np.array([side.size for side in self.sides])
        self.names = tuple(dict.fromkeys(side.constraint for side in self.sides))

    def of(self, names: Iterable[str]) -> BoolArray:
        """Which sides belong to some constraints."""
        chosen = set(names)
        return np.array([side.constraint in chosen for side in self.sides], dtype=bool)

    def least(self, soft: BoolArray, hard: BoolArray) -> Answer:
        """The least total violation of the soft limits, each in its own unit, with the hard ones met."""
        return self._solve(np.where(soft, 1.0, 0.0), hard & ~soft)

    def clash(self, sides: BoolArray, certain: float) -> Answer:
        """The least total violation of some limits, relative to their sizes, or as much as tells if it is `certain`."""
        return self._solve(np.where(sides, 1.0 / self.size, 0.0), np.zeros_like(sides), certain, sides)

    def _solve(
        self, cost: FloatArray, hard: BoolArray, certain: float = np.inf, judged: BoolArray | None = None
    ) -> Answer:
        program, p = self.program, self.compiled.program
        charge = np.zeros(program.width)
        charge[self.slack] = cost
        lower, upper = np.full(program.width, -np.inf), np.full(program.width, np.inf)
        n = self.compiled.n_assets
        lower[program.z[n:]], upper[program.z[n:]] = p.lower[n:], p.upper[n:]
        lower[self.slack] = 0.0
        upper[self.slack] = np.where(hard, 0.0, np.inf)
        judge = None if judged is None else (lambda point: float(cost @ self._true(point, judged)))
        return program.least(charge, lower, upper, enough=certain, judge=judge)

    def _true(self, point: FloatArray, sides: BoolArray) -> FloatArray:
        """What some sides are violated by, computed from the weights."""
        view = self.compiled.view(point[self.program.z])
        values = line_values(self.compiled, view)
        found = np.zeros(len(self.sides))
        for j in np.flatnonzero(sides):
            side = self.sides[j]
            over = float(values[side.group][side.line]) - side.limit
            found[j] = max(-over if side.lower else over, 0.0)
        return found

    def violations(self, answer: Answer) -> FloatArray:
        """Violation of each side at an answer."""
        assert answer.point is not None
        return answer.point[self.slack]

    # -- laying out ----------------------------------------------------------------------------------------------
    def _side(self, number: int, line: int, lower: bool, size: float) -> tuple[np.ndarray, FloatArray]:
        """A new violation, as columns and coefficients that are to be added to a ``<=`` row."""
        group = self.compiled.lines[number]
        column = self.program.columns(np.array([size]))
        self.sides.append(
            Side(group.constraint, group.names[line], number, line, lower, float(group.limit[line]), size)
        )
        self._slack.append(int(column[0]))
        return column, np.array([-1.0])

    def _add(self, number: int, group: Lines, sizes: FloatArray) -> None:
        program, p = self.program, self.compiled.program
        for line, (j, limit, size) in enumerate(zip(group.index.tolist(), group.limit, sizes, strict=True)):
            match group.kind:
                case "row" if group.measure is not None:
                    self._rows_named.add(j)
                    column, one = self._side(number, line, group.sense == ">=", size)
                    program.row(np.append(program.z, column), np.append(p.rows[j], one), float(p.row_upper[j]))
                case "row":
                    self._rows_named.add(j)
                    for sign, sense in ((-1.0, ">="), (1.0, "<=")):
                        if group.sense in (sense, "=="):
                            column, one = self._side(number, line, sense == ">=", size)
                            program.row(np.append(program.z, column), np.append(sign * p.rows[j], one), sign * limit)
                case "weight":
                    sign = -1.0 if group.sense == ">=" else 1.0
                    column, one = self._side(number, line, group.sense == ">=", size)
                    program.row(np.append(program.z[j], column), np.append(sign, one), sign * limit)
                case "trade":
                    assert self.compiled.holdings is not None
                    held = float(self.compiled.holdings[j])
                    column, one = self._side(number, line, False, size)
                    for sign in (1.0, -1.0):
                        program.row(np.append(program.z[j], column), np.append(sign, one), sign * held + limit)
                case "cvar":
                    self._tails_named.add(j)
                    column, _ = self._side(number, line, group.sense == ">=", size)
                    extra = column, np.array([-group.scale])
                    program.limit_tail(j, extra, float(p.cvar_cap[j]), group.scale * size)
                case "l1" if group.scale == 0.0:
                    # without any room the program holds the weights by their bounds, and has no block
                    column, one = self._side(number, line, group.sense == ">=", size)
                    program.limit_distance(self._lowered(group), (column, one), 0.0)
                case "l1":
                    self._distances_named.add(j)
                    column, _ = self._side(number, line, group.sense == ">=", size)
                    extra = column, np.array([-group.scale])
                    program.limit_distance(Distance.of(p, j), extra, float(p.l1_cap[j]))
                case _:
                    raise AssertionError(f"lines of kind {group.kind} do not give way")

    def _lowered(self, group: Lines) -> Distance:
        """The distance that a limit without any room is about."""
        assert group.measure is not None
        canvas = Canvas(self.compiled.scenarios, self.compiled.holdings)
        for coefficient, term in group.measure.parts:
            canvas.minimise(term.shape(canvas) * abs(coefficient))
        p, columns = canvas.program().program, self.compiled.program.shape[1]
        none = np.zeros(columns - p.shape[1])
        return Distance(np.append(p.l1_weight @ p.l1_rate, none), np.append(p.l1_reference[0], none), np.zeros(columns))

    def _definitions(self) -> None:
        """What holds by definition: auxiliary variables, and what limits that are soft in the problem look at."""
        program, p = self.program, self.compiled.program
        none = np.empty(0, dtype=np.intp), np.empty(0)
        for j, (row, low, high) in enumerate(zip(p.rows, p.row_lower, p.row_upper, strict=True)):
            if j not in self._rows_named:
                if np.isfinite(high):
                    program.row(program.z, row, float(high))
                if np.isfinite(low):
                    program.row(program.z, -row, -float(low))
        for block in np.flatnonzero(np.isfinite(p.cvar_cap)):
            if int(block) not in self._tails_named:
                cap = float(p.cvar_cap[block])
                program.limit_tail(int(block), none, cap, max(abs(cap), program.unit))
        for block in np.flatnonzero(np.isfinite(p.l1_cap)):
            if int(block) not in self._distances_named:
                program.limit_distance(Distance.of(p, int(block)), none, float(p.l1_cap[block]))
        capped, held = np.isfinite(p.cvar_cap), np.isfinite(p.l1_cap)
        for curve in self.compiled.curves:
            looked_at = p.rows[:, curve.column].any()
            looked_at |= p.cvar_linear[capped, curve.column].any() or p.l1_linear[held, curve.column].any()
            if looked_at:
                program.follow_curve(curve)

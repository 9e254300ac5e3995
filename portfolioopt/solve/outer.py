r"""A linear program that grows by cuts: what a diagnosis is worked out with, apart from the solver that it judges.

Rows, bounds and L1 blocks are linear as they stand. A CVaR block is approximated from below. For any sets T and H of
scenarios

.. math:: \min_t\; \tau t + \sum_s d_s (\ell_s - t)_+ \;\ge\; \min_t\; \tau t + \sum_{s \in T} d_s (\ell_s - t)
          + \sum_{s \in H} d_s (\ell_s - t)_+ ,

because every hinge is replaced by one of its linear pieces; T is the tail at the last answer and H the scenarios near
its quantile. A curve is approximated by tangents. Both only ever allow too much, so what the linear program proves
impossible is impossible, and an answer that meets the true functions is an answer. HiGHS solves each program; the bound
is computed from its multipliers by weak duality, whatever they are.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from portfolioopt.problem import Compiled
from portfolioopt.problem.curved import CurvedTerm
from portfolioopt.problem.lowering import Curve
from portfolioopt.scenarios.tail import quantile
from portfolioopt_kernels import HingeProgram

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]

ROUNDS = 300  # programs per question
MET = 1e-9  # a convex limit exceeded by less, relative to its size, is met
NEAR = 128  # scenarios nearest to the quantile that a cut keeps as hinges, at least
WHOLE = 512  # a block with fewer scenarios is written out
SMALL = 20_000  # coefficients up to which the simplex method solves a program
REACH = 100.0  # how far out a bound looks at columns that nothing limits


@dataclass(frozen=True)
class Answer:
    """What the program has to say about one question."""

    point: FloatArray | None
    """Where the least is attained; None where nothing is allowed."""
    bound: float
    """No allowed point costs less; infinite where none exists."""
    price: FloatArray
    """By how much the bound falls per unit by which a column relaxes the rows it stands in."""
    settled: bool
    """Whether the point meets every curve and every tail, not only their approximations."""


@dataclass(frozen=True)
class Distance:
    """``linear'z + sum_i rate_i |z_i - reference_i|``, as an L1 block has it."""

    rate: FloatArray
    reference: FloatArray
    linear: FloatArray

    @classmethod
    def of(cls, program: HingeProgram, block: int) -> Distance:
        """That of a block of a program."""
        return cls(program.l1_rate[block], program.l1_reference[block], program.l1_linear[block])


class Piece:
    """A convex limit that the program knows by cuts."""

    @abstractmethod
    def cut(self, program: Outer, point: FloatArray) -> bool:
        """Add cuts at a point; False where the limit is met there."""


class Outer:
    """Minimise a linear function subject to rows ``a'x <= b``, bounds, and convex limits.

    The first cuts are made at the columns `near`, where something is known about them.
    """

    def __init__(self, compiled: Compiled, near: FloatArray | None = None) -> None:
        self.compiled = compiled
        self.near = compiled.program.start if near is None else near
        self.pieces: list[Piece] = []
        self._scale: list[FloatArray] = []
        self._floor: list[FloatArray] = []
        self._width = 0
        self._columns: list[IntArray] = []
        self._values: list[FloatArray] = []
        self._right: list[float] = []
        self._losses: tuple[FloatArray, FloatArray] | None = None
        p, n = compiled.program, compiled.n_assets
        self.unit = compiled.scenarios.source.root_mean_square or 1.0
        extra = np.where(p.cvar_linear[:, n:].any(axis=0), self.unit, 1.0)
        self.z = self.columns(np.concatenate([np.ones(n), extra]))

    # -- laying out ----------------------------------------------------------------------------------------------
    def columns(self, scale: FloatArray, floor: float = -np.inf) -> IntArray:
        """New columns, given the size of a typical value of each, and what none lies below."""
        first, self._width = self._width, self._width + len(scale)
        self._scale.append(np.asarray(scale, dtype=np.float64))
        self._floor.append(np.full(len(scale), floor))
        return np.arange(first, self._width)

    @property
    def width(self) -> int:
        """Number of columns."""
        return self._width

    def row(self, columns: IntArray, values: FloatArray, right: float) -> None:
        """``values @ x[columns] <= right``."""
        used = values != 0
        if used.any():
            self._columns.append(columns[used])
            self._values.append(values[used])
            self._right.append(right)

    def limit_distance(self, shape: Distance, extra: tuple[IntArray, FloatArray], right: float) -> None:
        """A distance plus some columns, ``<= right``."""
        used = np.flatnonzero(shape.rate)
        d = self.columns(np.ones(len(used)), 0.0)
        for distance, column, reference in zip(d, used, shape.reference[used], strict=True):
            both = np.array([self.z[column], distance])
            self.row(both, np.array([1.0, -1.0]), reference)
            self.row(both, np.array([-1.0, -1.0]), -reference)
        columns = np.concatenate([self.z, d, extra[0]])
        self.row(columns, np.concatenate([shape.linear, shape.rate[used], extra[1]]), right)

    def limit_tail(self, block: int, extra: tuple[IntArray, FloatArray], right: float, size: float) -> None:
        """The function of a CVaR block plus some columns, ``<= right``."""
        self.pieces.append(_Tail(self, block, extra, right, size))

    def follow_curve(self, curve: Curve) -> None:
        """The column of a curve is not below it."""
        self.pieces.append(_Curve(self, curve))

    # -- solving -------------------------------------------------------------------------------------------------
    def least(
        self,
        cost: FloatArray,
        lower: FloatArray,
        upper: FloatArray,
        *,
        enough: float = np.inf,
        judge: Callable[[FloatArray], float] | None = None,
    ) -> Answer:
        """The least cost within bounds on the columns.

        Ends early where the bound exceeds `enough`, or where `judge`, the true cost of a point, finds less.
        """
        best: tuple[float, FloatArray] | None = None
        answer = self._once(cost, lower, upper)
        for _ in range(ROUNDS):
            if answer.point is None or answer.bound > enough:
                return answer
            points = [answer.point]
            if judge is not None and self.pieces:
                if best is not None:  # half-way to the best point so far, steps are short and tangents useful
                    points.append(0.5 * (answer.point + np.append(best[1], np.zeros(self._width))[: len(points[0])]))
                values = [judge(point) for point in points]
                i = int(np.argmin(values))
                if best is None or values[i] < best[0]:
                    best = values[i], points[i]
                if best[0] <= enough:
                    return Answer(best[1], answer.bound, answer.price, True)
            cuts = [piece.cut(self, point) for point in points for piece in self.pieces]
            if not any(cuts):
                return Answer(answer.point, answer.bound, answer.price, True)
            answer = self._once(cost, lower, upper)
        return answer

    def losses(self, point: FloatArray) -> FloatArray:
        """Loss in every scenario of the program."""
        z = point[self.z]
        if self._losses is None or not np.array_equal(self._losses[0], z):
            self._losses = z, self.compiled.source.losses(z)
        return self._losses[1]

    def _once(self, cost: FloatArray, lower: FloatArray, upper: FloatArray) -> Answer:
        from scipy.optimize import linprog  # slow to import, and only needed when something is wrong
        from scipy.sparse import csr_array

        scale = np.concatenate(self._scale)
        more = self._width - len(cost)
        c = np.append(cost, np.zeros(more)) * scale
        largest = float(np.abs(c).max(initial=0.0)) or 1.0
        c = c / largest
        low = np.maximum(np.append(lower, np.full(more, -np.inf)), np.concatenate(self._floor)) / scale
        high = np.append(upper, np.full(more, np.inf)) / scale
        lengths = np.array([len(columns) for columns in self._columns])
        columns = np.concatenate([np.empty(0, dtype=np.intp), *self._columns])
        values = np.concatenate([np.empty(0), *self._values]) * scale[columns]
        starts = np.append(0, np.cumsum(lengths)).astype(np.intp)
        size = np.maximum.reduceat(np.abs(values), starts[:-1]) if len(lengths) else np.empty(0)
        values = values / np.repeat(size, lengths.astype(np.intp))
        right = np.array(self._right) / size
        matrix = csr_array((values, columns, starts), shape=(len(right), self._width))
        precise = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
        bounds = np.column_stack([low, high])
        # the simplex method crawls where many scenarios are tied, and at this precision cycles now and then
        steps = {"maxiter": 1000 + 5 * (len(right) + self._width)}
        tries = [("highs-ds", precise | steps), ("highs-ipm", precise), ("highs-ds", {})]
        tries = iter(tries if len(values) < SMALL else tries[1:])
        while True:
            method, options = next(tries)
            outcome = linprog(c, A_ub=matrix, b_ub=right, bounds=bounds, method=method, options=options)
            if outcome.status in (0, 2) or not options:
                break
        if outcome.x is None:
            proven = outcome.status == 2
            return Answer(None, np.inf if proven else -np.inf, np.zeros(self._width), proven)
        y = np.maximum(-outcome.ineqlin.marginals, 0.0)
        pull = matrix.T @ y
        reduced = c + pull
        reach = REACH * max(1.0, float(np.abs(outcome.x).max()))
        low, high = np.where(np.isfinite(low), low, -reach), np.where(np.isfinite(high), high, reach)
        bound = float(np.minimum(reduced * low, reduced * high).sum() - y @ right)
        return Answer(outcome.x * scale, bound * largest, -pull * largest / scale, False)


class _Tail(Piece):
    """The function of a CVaR block plus some columns is limited."""

    def __init__(
        self, program: Outer, block: int, extra: tuple[IntArray, FloatArray], right: float, size: float
    ) -> None:
        p = program.compiled.program
        self.density, self.level, self.linear = p.cvar_density[block], float(p.cvar_level[block]), p.cvar_linear[block]
        self.extra, self.right, self.size = extra, right, size
        self.live = np.flatnonzero(self.density > 0)
        self.t = int(program.columns(np.array([program.unit]))[0])
        self.kept = np.zeros(len(self.density), dtype=bool)
        self.hinge = np.full(len(self.density), -1, dtype=np.intp)
        if len(self.live) <= WHOLE:
            self._keep(program, self.live)
            self._add(program, np.empty(0, dtype=np.intp))
        else:
            self.cut(program, np.append(program.near, np.zeros(program.width - len(program.near))))

    def cut(self, program: Outer, point: FloatArray) -> bool:
        if len(self.live) == int(self.kept.sum()):
            return False
        losses = program.losses(point)
        t = quantile(losses, self.density, self.level)
        tail = np.flatnonzero((losses > t) & (self.density > 0))
        value = self.linear @ point[program.z] + self.level * t + self.density[tail] @ (losses[tail] - t)
        if value + self.extra[1] @ point[self.extra[0]] <= self.right + MET * self.size:
            return False
        count = max(NEAR, 2 * program.compiled.n_assets)
        distance = np.abs(losses[self.live] - t)
        near = self.live[np.argsort(distance, kind="stable")[:count]]
        self._keep(program, near[~self.kept[near]])
        self._add(program, tail[~self.kept[tail]])
        return True

    def _keep(self, program: Outer, scenarios: IntArray) -> None:
        """Write out some hinges: ``y_s >= loss_s - t`` and ``y_s >= 0``."""
        y = program.columns(np.full(len(scenarios), program.unit), 0.0)
        self.hinge[scenarios], self.kept[scenarios] = y, True
        for column, returns in zip(y, program.compiled.source.rows(scenarios), strict=True):
            columns = np.append(program.z, [self.t, column])
            program.row(columns, np.append(-returns, [-1.0, -1.0]), 0.0)

    def _add(self, program: Outer, beyond: IntArray) -> None:
        """The limit with the kept hinges, and those of `beyond` as if they were in the tail for certain."""
        measure = np.zeros_like(self.density)
        measure[beyond] = self.density[beyond]
        gradient = self.linear - program.compiled.source.pull(measure[None])[0]
        hinges = np.flatnonzero(self.kept)
        columns = np.concatenate([program.z, [self.t], self.hinge[hinges], self.extra[0]])
        level = self.level - float(measure.sum())
        program.row(columns, np.concatenate([gradient, [level], self.density[hinges], self.extra[1]]), self.right)


class _Curve(Piece):
    """The column of a curve is not below it."""

    def __init__(self, program: Outer, curve: Curve) -> None:
        self.curve = curve
        self.centre: tuple[float, FloatArray] | None = None
        self._tangent(program, program.near[: program.compiled.n_assets])

    def cut(self, program: Outer, point: FloatArray) -> bool:
        weights = point[program.z[: program.compiled.n_assets]]
        value = self._tangent(program, weights)
        excess = value - float(point[self.curve.column])
        if excess <= MET * max(1.0, abs(value)):
            return False
        # a tangent half-way to the least exceeded point so far keeps the steps short
        if self.centre is None or excess < self.centre[0]:
            self.centre = excess, weights
        else:
            self._tangent(program, 0.5 * (weights + self.centre[1]))
        return True

    def _tangent(self, program: Outer, weights: FloatArray) -> float:
        """Add a tangent, in units of the column; outside the domain of the curve, one on the way there from cash."""
        measure = self.curve.measure
        assert isinstance(measure, CurvedTerm)
        value, gradient = measure.tangent(program.compiled.view(weights))
        outside = not np.isfinite(value)
        low, high = 0.0, 1.0
        for _ in range(30 if outside else 0):
            middle = 0.5 * (low + high)
            inside = bool(np.isfinite(measure.tangent(program.compiled.view(middle * weights))[0]))
            low, high = (middle, high) if inside else (low, middle)
        if outside:
            weights = low * weights
            value, gradient = measure.tangent(program.compiled.view(weights))
        gradient, value = gradient / self.curve.scale, value / self.curve.scale
        columns = np.append(program.z[: len(weights)], program.z[self.curve.column])
        program.row(columns, np.append(gradient, -1.0), float(gradient @ weights) - value)
        return np.inf if outside else value

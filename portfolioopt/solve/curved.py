r"""Problems with measures that bend: sequential quadratic programming on hinges, and a bound from tangents.

A curve f stands in the program as a variable u that tangents keep from falling below it,
:math:`u \ge f(w_k) + \nabla f(w_k)'(w - w_k)`. Whatever the tangents, the program is a minorant of the problem, so the
dual bound of its optimal vertex holds for the problem. New points come from the program with the latest tangent and the
second derivative of the Lagrangian in its objective, by the interior point (Newton's method, on what bends); a line
search on the problem itself keeps steps honest. Where nothing is smooth, all tangents make the model, within a box
around the best point that grows and shrinks with the success of its predictions (Kelley, 1960, with a trust region).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from portfolioopt.problem import Compiled
from portfolioopt.problem.curved import Bend, CurvedTerm, Drawdown
from portfolioopt_kernels import STALLED, Factored, HingeProgram, Settings, Solution, exchange

from .certificate import dual_bound
from .engine import interior_point
from .methods import Attempt, Guess, by_vertices, nothing, program_in_memory
from .paths import solve_with_paths

FloatArray: TypeAlias = npt.NDArray[np.float64]

ROUNDS = 60
FEW = 3  # tangents that take no block
BLOCK = 48  # tangents are added in blocks, so that few shapes are compiled
LOW_RANK = 3  # assets per factor from which on Woodbury's identity is cheaper than a matrix
HOPELESS = 3  # Newton steps in a row whose model has no feasible point, after which a search may be given up
BROKEN = 1e-5  # infeasibility of a model from which on it has none
CLOSE = 1e-4  # relative change of the objective below which the bound is worth its computation


@dataclass(frozen=True)
class Certified:
    """An attempt, and the program with the tangents that its multipliers belong to."""

    attempt: Attempt
    compiled: Compiled
    hopeless: bool = False
    """Whether it was given up early, because models that allow too much seemed to allow nothing."""


@dataclass
class _Cut:
    curve: int
    gradient: FloatArray  # (N,)
    level: float  # f(w_k) - gradient'w_k


@dataclass(frozen=True)
class _Point:
    """Weights with what the problem says about them."""

    columns: FloatArray
    objective: float  # minimised, constant left out
    over: FloatArray  # what rows and caps are violated by (C + M + A,)
    size: float

    @property
    def excess(self) -> float:
        """Sum of all violations."""
        return float(self.over.sum())


@dataclass(frozen=True)
class _Proof:
    """Multipliers, the program with tangents they belong to, and the bound on the minimised objective they give."""

    bound: float
    solution: Solution
    compiled: Compiled
    vertex: bool


class _Search:
    """The rounds of one problem."""

    def __init__(self, compiled: Compiled, gap: float, limit: int) -> None:
        self.compiled = compiled
        self.p = compiled.program
        self.n = compiled.n_assets
        self.gap = gap
        self.limit = limit
        self.terms = [curve.measure for curve in compiled.curves]
        self.columns = np.array([curve.column for curve in compiled.curves])
        self.scales = np.array([curve.scale for curve in compiled.curves])
        self.row_sizes = np.abs(compiled.program.rows).max(axis=1, initial=0.0)
        self.row_sizes = np.where(self.row_sizes > 0, self.row_sizes, 1.0)
        self.paths = any(isinstance(term, Drawdown) for term in self.terms)
        self.smooth = any(isinstance(term, CurvedTerm) and term.smooth for term in self.terms)
        self.quadratic = all(isinstance(term, CurvedTerm) and term.quadratic for term in self.terms)
        costly = self.p.linear[self.columns] > 0
        self.weighed = [bool(c and t.smooth) for c, t in zip(costly, self.terms, strict=True)]  # type: ignore[attr-defined]
        self.cuts: list[_Cut] = []
        self.multiplier = np.maximum(self.p.linear[self.columns], 0.0)
        if not self.multiplier.any() and not len(self.p.cvar_level):
            # nothing is known yet of what a cap costs: the objective per typical value of the curve, or the first step
            # would go to a vertex, which is slow where there are many assets
            self.multiplier = np.full(len(self.columns), float(np.abs(self.p.linear[: self.n]).max(initial=0.0)))
        self.penalty = np.zeros(sum(self.p.shape[2:]))  # per unit of each violation
        self.iterations = 0
        self.passes = self.compile_seconds = self.solve_seconds = 0.0
        self.guess: Guess | None = None
        self.last: Solution | None = None  # of the last Newton step
        self.empty = 0  # Newton steps in a row whose model allows nothing

    def tangents(self, x: FloatArray) -> tuple[list[_Cut], FloatArray] | None:
        """Tangents of all curves at x, and the values there; None outside a domain."""
        view = self.compiled.view(x)
        found, values = [], []
        for number, term in enumerate(self.terms):
            assert isinstance(term, CurvedTerm)
            value, gradient = term.tangent(view)
            if not np.isfinite(value):
                return None
            scale = self.scales[number]
            found.append(_Cut(number, gradient / scale, (value - float(gradient @ view.weights)) / scale))
            values.append(value / scale)
        return found, np.array(values)

    def with_tangents(self, cuts: list[_Cut]) -> HingeProgram:
        """The program with tangents as rows, and room for more."""
        p = self.p
        if len(cuts) <= FEW:
            room = FEW
        else:
            room = -(-len(cuts) // BLOCK) * BLOCK
            room = BLOCK << max(room // BLOCK - 1, 0).bit_length()
        rows = np.zeros((room, p.shape[1]))
        upper = np.full(room, np.inf)
        for i, cut in enumerate(cuts):
            rows[i, : self.n] = cut.gradient
            rows[i, self.columns[cut.curve]] = -1.0
            upper[i] = -cut.level
        return exchange(
            p,
            rows=np.vstack([p.rows, rows]),
            row_lower=np.append(p.row_lower, np.full(room, -np.inf)),
            row_upper=np.append(p.row_upper, upper),
        )

    def judge(self, x: FloatArray) -> _Point | None:
        """What the problem says about x, with every curve's variable at the curve; None outside a domain."""
        p, compiled = self.p, self.compiled
        x = np.clip(x, p.lower, p.upper)
        view = compiled.view(x)
        values = np.array([term.tangent(view)[0] for term in self.terms if isinstance(term, CurvedTerm)]) / self.scales
        if not np.isfinite(values).all():
            return None
        x = x.copy()
        x[self.columns] = np.maximum(values, self._floors())
        losses = compiled.source.losses(x)
        blocks = np.array(
            [
                linear @ x + _tail_sum(losses, density, level)
                for density, level, linear in zip(p.cvar_density, p.cvar_level, p.cvar_linear, strict=True)
            ]
        )
        l1 = p.l1_linear @ x + np.sum(p.l1_rate * np.abs(x - p.l1_reference), axis=1)
        parts = np.concatenate([p.linear * x, p.cvar_weight * blocks, p.l1_weight * l1])
        activity = p.rows @ x
        rows = np.maximum(activity - p.row_upper, p.row_lower - activity) / self.row_sizes
        over = np.maximum(np.concatenate([rows, blocks - p.cvar_cap, l1 - p.l1_cap]), 0.0)
        size = max(abs(float(parts.sum())), float(np.abs(parts).max(initial=0.0)))
        return _Point(x, float(parts.sum()), over, size)

    def _floors(self) -> FloatArray:
        return np.array([curve.floor for curve in self.compiled.curves])

    def merit(self, point: _Point) -> float:
        return point.objective + self.owed(point)

    def owed(self, point: _Point) -> float:
        """What the violations of a point are charged."""
        return float(self.penalty @ point.over)

    def bend(self, x: FloatArray) -> FloatArray | Factored | None:
        """Second derivative of the Lagrangian over the columns (n, n); None where nothing bends."""
        view = self.compiled.view(x)
        priced = [
            (term, price / scale)
            for term, scale, price in zip(self.terms, self.scales, self.multiplier, strict=True)
            if isinstance(term, CurvedTerm) and term.smooth and price > 0
        ]
        if not len(self.p.cvar_level):
            found = [(term.bend(view), price) for term, price in priced]
            thin = [(bend, price) for bend, price in found if bend is not None]
            if thin and len(thin) == len(found):
                joined = self._joined(thin)
                if LOW_RANK * joined.root.shape[1] <= self.n and (joined.diagonal[: self.n] > 0).all():
                    return joined
        total = np.zeros((self.n, self.n))
        for term, price in priced:
            total += price * term.hessian(view)
        if not total.any():
            return None
        wide = np.zeros((self.p.shape[1], self.p.shape[1]))
        wide[: self.n, : self.n] = 0.5 * (total + total.T)
        return wide

    def _joined(self, bends: list[tuple[Bend, float]]) -> Factored:
        """A weighted sum of second derivatives in factored form, over all columns."""
        extra = self.p.shape[1] - self.n
        return Factored(
            np.pad(np.sum([price * bend.diagonal for bend, price in bends], axis=0), (0, extra)),
            np.pad(np.hstack([np.sqrt(price) * bend.root for bend, price in bends]), ((0, extra), (0, 0))),
            np.concatenate([bend.sign for bend, _ in bends]),
        )

    def newton(self, centre: _Point, latest: list[_Cut], margin: float = 0.0) -> FloatArray | None:
        """The optimum of the quadratic model around a point; tangents of caps are lifted by a margin."""
        # what is only capped needs its earlier tangents too, or a step would leave the cap by the curve's own bend
        smooth = [cut for cut in latest if self.weighed[cut.curve]]
        capped = [cut for cut in [*self.cuts, *latest] if not self.weighed[cut.curve]]
        rough = [_Cut(cut.curve, cut.gradient, cut.level + margin) for cut in capped]
        bend = self.bend(centre.columns)
        if bend is None:
            return None
        program = program_in_memory(replace(self.compiled, program=self.with_tangents([*smooth, *rough])))
        # (x - c)'H(x - c) / 2 = x'Hx / 2 - (Hc)'x + constant
        pull = bend.times(centre.columns) if isinstance(bend, Factored) else bend @ centre.columns
        program = exchange(program, linear=program.linear - pull, start=centre.columns)
        scenarios = len(program.returns)
        if not len(program.cvar_level):  # nothing looks at scenarios, so that their number need not make a new shape
            program = exchange(program, returns=np.zeros((2, program.shape[1])), cvar_density=np.zeros((0, 2)))
        run = interior_point(program, Settings(1e-11, 1e-12, 200), bend)
        if scenarios != run.solution.scenario_dual.shape[-1]:
            whole = exchange(run.solution, scenario_dual=np.zeros((0, scenarios)))
            run = run._replace(solution=whole)
        self.compile_seconds += run.compile_seconds
        self.solve_seconds += run.solve_seconds
        steps = int(run.solution.iterations)
        self.iterations += steps
        self.passes += steps
        finite = bool(np.isfinite(run.solution.weights).all())
        self.empty = 0 if finite and float(run.solution.infeasibility) <= BROKEN else self.empty + 1
        if not finite:
            return None
        self._learn(run.solution)
        self.last = run.solution
        return run.solution.weights

    def newton_bound(self) -> _Proof | None:
        """What the last Newton step's multipliers prove, with tangents where it led."""
        if self.last is None:
            return None
        found = self.tangents(self.last.weights)
        if found is None:
            return None
        first = len(self.p.rows)
        program = self.with_tangents(found[0])
        price = np.zeros(len(program.rows) - first)
        price[: len(self.multiplier)] = self.multiplier
        solution = exchange(self.last, row_dual=np.append(self.last.row_dual[:first], price))
        compiled = replace(self.compiled, program=program)
        _, upper, _ = dual_bound(compiled, solution.weights, solution)
        return _Proof(-upper, solution, compiled, vertex=False)

    def vertex_bound(self) -> _Proof | None:
        """What the optimal vertex of all tangents proves."""
        attempt, compiled = self.vertex()
        if attempt.basis is None:
            return None
        _, upper, _ = dual_bound(compiled, attempt.solution.weights, attempt.solution)
        return _Proof(-upper, attempt.solution, compiled, vertex=True)

    def exact(self) -> FloatArray | None:
        """The optimum with drawdowns as they are and tangents for the rest; adds the tangents that support it."""
        program = program_in_memory(replace(self.compiled, program=self.with_tangents(self.cuts)))
        found = solve_with_paths(self.compiled, program)
        if found is None:
            return None
        for number, gradient in found.gradients.items():
            self.cuts.append(_Cut(number, gradient / self.scales[number], 0.0))
        return found.columns

    def _learn(self, solution: Solution) -> None:
        """What curves and violations cost, from multipliers."""
        p, first = self.p, len(self.p.rows)
        # what a unit of each curve costs: its own weight and the prices of all that it is part of
        price = p.linear + solution.row_dual[:first] @ p.rows
        price = price + (p.cvar_weight + solution.cvar_cap_dual) @ p.cvar_linear
        price = price + (p.l1_weight + solution.l1_cap_dual) @ p.l1_linear
        price = np.maximum(price[self.columns], 0.0)
        self.multiplier = price
        caps = [solution.cvar_cap_dual, solution.l1_cap_dual]
        dear = np.concatenate([np.abs(solution.row_dual[:first] * self.row_sizes), *caps])
        # each violation by its own price: a common one would let the dearest hold up steps along all others
        self.penalty = np.maximum(1.5 * dear, 0.5 * (self.penalty + dear))

    def vertex(self, low: FloatArray | None = None, high: FloatArray | None = None) -> tuple[Attempt, Compiled]:
        """The optimal vertex of all tangents, within a box if one is given."""
        program = self.with_tangents(self.cuts)
        if low is not None and high is not None:
            program = exchange(program, lower=low, upper=high)
        compiled = replace(self.compiled, program=program)
        attempt = by_vertices(compiled, self.gap, self.limit, self.guess)
        self.iterations += attempt.iterations
        self.passes += attempt.passes
        self.compile_seconds += attempt.compile_seconds
        self.solve_seconds += attempt.solve_seconds
        x = attempt.solution.weights
        if np.isfinite(x).all():
            same = self.guess is None or self.guess.basis is None or len(program.rows) == self._rows
            self._rows = len(program.rows)
            basis = attempt.basis if same else None
            self.guess = Guess(x, basis, np.zeros(len(program.cvar_cap)))
        return attempt, compiled

    _rows = 0


def _tail_sum(losses: FloatArray, density: FloatArray, level: float) -> float:
    """The least of ``level t + density'(losses - t)_+`` over t."""
    from portfolioopt.scenarios import quantile

    t = quantile(losses, density, level)
    beyond = losses > t
    return level * t + float(density[beyond] @ (losses[beyond] - t))


def by_tangents(
    compiled: Compiled, gap: float, tolerance: float, limit: int, guess: Guess | None = None, *, patient: bool = True
) -> Certified:
    """Solve a problem with curves; the bound of the answer is that of the program returned with it.

    One that is not `patient` gives up where there seems to be nothing to be found.
    """
    search = _Search(compiled, gap, limit)
    start = compiled.program.start if guess is None else guess.weights
    centre = search.judge(start)
    if centre is None:  # outside the domain of a curve, which holds cash at least
        centre = search.judge(np.where(np.arange(len(start)) < search.n, 0.0, start))
    if centre is None:  # or which needs something of every asset
        centre = search.judge(np.where(np.arange(len(start)) < search.n, 1.0 / search.n, start))
    if centre is None:
        return Certified(Attempt(nothing(compiled, start, STALLED), None, 0, 0.0, 0.0, 0.0), compiled)
    radius = 0.5 * max(float(np.abs(centre.columns[: search.n]).max(initial=0.0)), 1e-2)
    best: _Proof | None = None
    done = hopeless = False

    for number in range(ROUNDS):
        found = search.tangents(centre.columns)
        assert found is not None
        latest, _ = found
        if number == 0:
            search.cuts += latest

        target = search.exact() if search.paths else None
        if target is not None and (trial := search.judge(target)) is not None:
            search.penalty = np.maximum(search.penalty, 1.0)
            if search.merit(trial) < search.merit(centre):
                centre = trial
        if search.smooth:
            target = search.newton(centre, latest)
        if search.empty >= HOPELESS and not patient:
            hopeless = True
            break
        boxed = target is None
        if target is None:
            low, high = _box(search, centre.columns, radius)
            attempt, _ = search.vertex(low, high)
            target = attempt.solution.weights
            search._learn(attempt.solution)
        moved = _line(search, centre, target)
        gain = search.merit(centre) - (np.inf if moved is None else search.merit(moved))
        if boxed:
            radius *= 2.0 if moved is not None and gain > 0 else 0.4
        better = moved is not None and gain > 0
        trial = search.tangents(target if boxed or moved is None else moved.columns)
        if trial is not None:
            search.cuts += trial[0]
        if better:
            assert moved is not None
            centre = moved

        # a bound costs something, so only where it may end the search; the vertex's costs most and is the best
        settled = not better or gain <= CLOSE * centre.size or number % 8 == 7 or (search.quadratic and not boxed)
        for prove in (search.newton_bound, search.vertex_bound) if settled else ():
            if prove == search.vertex_bound and better and not boxed and best is not None and number % 8 != 7:
                continue  # another Newton step costs less, and closes the gap quadratically
            proof = prove()
            if proof is None:
                continue
            if best is None or proof.bound > best.bound:
                best = proof
            if centre.objective - best.bound <= 0.1 * tolerance * centre.size + search.owed(centre):
                centre = _within(search, centre, best.bound + 0.5 * tolerance * centre.size)
                if centre.excess <= 1e-9 and centre.objective - best.bound <= 0.5 * tolerance * centre.size:
                    done = True
                    break
            if not proof.vertex:
                continue
            corner = search.tangents(proof.solution.weights)
            if corner is not None:
                search.cuts += corner[0]
            middle = _line(search, centre, proof.solution.weights)
            if middle is not None and search.merit(middle) < search.merit(centre):
                centre = middle
        if done:
            break
        _forget(search)
        if search.iterations >= search.limit:
            break

    if best is None and hopeless:
        best = _Proof(-np.inf, nothing(compiled, centre.columns, STALLED), compiled, vertex=True)
    if best is None:
        attempt, with_cuts = search.vertex()
        best = _Proof(-np.inf, attempt.solution, with_cuts, vertex=True)
    solution = exchange(best.solution, weights=centre.columns)
    final = Attempt(solution, None, search.iterations, search.passes, search.compile_seconds, search.solve_seconds)
    return Certified(final, best.compiled, hopeless)


def _within(search: _Search, centre: _Point, most: float) -> _Point:
    """The point moved inside the caps that it lies beyond by rounding, if its objective stays below `most`."""
    for _ in range(3):
        if centre.excess <= 1e-14:
            break
        found = search.tangents(centre.columns)
        target = None if found is None else search.newton(centre, found[0], 2.0 * centre.excess)
        moved = None if target is None else search.judge(target)
        if moved is None or moved.excess >= centre.excess or moved.objective > most:
            break
        centre = moved
    return centre


def _box(search: _Search, x: FloatArray, radius: float) -> tuple[FloatArray, FloatArray]:
    """A box around the weights; auxiliary variables stay free."""
    low, high = search.p.lower.copy(), search.p.upper.copy()
    low[: search.n] = np.maximum(low[: search.n], x[: search.n] - radius)
    high[: search.n] = np.minimum(high[: search.n], x[: search.n] + radius)
    return low, high


def _line(search: _Search, centre: _Point, target: FloatArray) -> _Point | None:
    """The best point found between the centre and a target: the whole step if it will do, or by golden section."""
    whole = search.judge(target)
    here = search.merit(centre)
    if whole is not None and search.merit(whole) < here:
        half = search.judge(0.5 * (centre.columns + target))
        if half is None or search.merit(half) >= search.merit(whole):
            return whole
    best = whole if whole is not None and search.merit(whole) < here else None
    a, b = 0.0, 1.0
    ratio = 0.6180339887498949
    for _ in range(25):
        one, two = b - ratio * (b - a), a + ratio * (b - a)
        first = search.judge(centre.columns + one * (target - centre.columns))
        second = search.judge(centre.columns + two * (target - centre.columns))
        values = [np.inf if point is None else search.merit(point) for point in (first, second)]
        for point, value in zip((first, second), values, strict=True):
            if point is not None and value < here and (best is None or value < search.merit(best)):
                best = point
        a, b = (a, two) if values[0] <= values[1] else (one, b)
        if b - a < 1e-6:
            break
    return best


def _forget(search: _Search) -> None:
    """Keep the latest tangents of what is smooth; of the rest all are needed."""
    most = 4 * BLOCK * len(search.terms)
    if len(search.cuts) > most:
        search.cuts = search.cuts[-most:]

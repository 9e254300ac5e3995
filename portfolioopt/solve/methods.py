r"""Ways to solve a compiled problem; each ends in weights and multipliers for all scenarios, to be certified.

The main one descends to a vertex. Where there are many scenarios it works on a band of them. Replacing a hinge
:math:`(x)_+` by x (sure tail) or by 0 (surely outside) never raises the objective, so a problem that keeps only the
scenarios near the value-at-risk as hinges is a minorant of the full one: its dual bound holds for the full problem. A
box around the weights (a trust region) keeps the model honest; when the objective on the full data meets the bound, the
answer is optimal for all scenarios. The idea of aggregating scenarios is Espinoza & Moreno's (2014, Computational
Optimization and Applications 59); here every round ends at a vertex, and the next one starts from it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from portfolioopt.problem import Compiled
from portfolioopt.scenarios import InMemory
from portfolioopt.scenarios.tail import quantile
from portfolioopt_kernels import (
    CONVERGED,
    ITERATION_LIMIT,
    STALLED,
    HingeProgram,
    Settings,
    Solution,
    exchange,
    scaling,
)

from .basis import Basis
from .certificate import Multipliers, dual_bound
from .engine import descend, interior_point

FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.intp]

ROUNDS = 30
PATIENCE = 6  # rounds after which the band is widened
SEED = 20140101  # of the subsample that the first weights come from; any will do, but it must not change
SMALL = 2.5  # a problem with fewer scenarios than this many bands is solved with all of them
CELLS = 120_000  # and so is one with fewer returns than this, or than WARM_CELLS from a basis that is nearly right
WARM_CELLS = 500_000
LOADED_CELLS = 2_000_000  # returns of a streamed set that may be read into memory as a whole
LEVEL = 10  # a sample of this many bands comes before all scenarios where those are five times as many
ROUGH = 1e-3  # gap at which the sample is good enough
FAR, NEAR = 0.5, 0.07  # first radius of the trust region, relative to the largest weight
PIVOTS = 6  # most pivots of one descent, per asset and block; two thirds of it is plenty
NEWTON_STEPS = 200  # most steps of the interior point


class Guess(NamedTuple):
    """Where to begin."""

    weights: FloatArray  # (N,)
    basis: Basis | None
    cap_price: FloatArray  # multiplier of each CVaR limit (M,)


class Attempt(NamedTuple):
    """Weights and multipliers for all scenarios, and what they took."""

    solution: Solution
    basis: Basis | None
    iterations: int
    passes: float  # reads of the whole scenario matrix
    compile_seconds: float
    solve_seconds: float


@dataclass
class _Effort:
    """What the steps so far took."""

    limit: int  # pivots left
    iterations: int = 0
    passes: float = 0.0
    compile_seconds: float = 0.0
    solve_seconds: float = 0.0
    basis: Basis | None = field(default=None)

    def descend(
        self, program: HingeProgram, sizes: scaling.Scale, weights: FloatArray, scenarios: IntArray
    ) -> Solution:
        most = PIVOTS * (program.shape[1] + program.shape[2] + 20)
        found = descend(program, sizes, weights, self.basis, scenarios, min(self.limit - self.iterations, most))
        self.iterations += int(found.solution.iterations)
        self.compile_seconds += found.compile_seconds
        self.solve_seconds += found.solve_seconds
        self.basis = found.basis
        return found.solution

    def attempt(self, solution: Solution) -> Attempt:
        return Attempt(solution, self.basis, self.iterations, self.passes, self.compile_seconds, self.solve_seconds)


def band_size(scenarios: int, assets: int, blocks: int) -> int:
    """Scenarios kept as hinges: the geometric mean of S and N, where solving and verifying cost about the same."""
    return blocks * max(256, 4 * assets, int(np.sqrt(scenarios * assets)))


def by_vertices(compiled: Compiled, gap: float, limit: int, guess: Guess | None = None) -> Attempt:
    """Descend to an optimal vertex, by bands of scenarios where there are many."""
    s, n = compiled.source.shape
    m = len(compiled.program.cvar_level)
    size = band_size(s, n, m)
    effort = _Effort(limit, basis=None if guess is None else guess.basis)
    weights = compiled.program.start if guess is None else guess.weights
    cells = CELLS if effort.basis is None else WARM_CELLS
    if m and s > SMALL * size and s * n > cells:
        bands = _Bands(compiled, gap, size, effort, guess)
        found, weights = bands.solve()
        if found is not None:
            return effort.attempt(found)
        # a band too degenerate for pivots: all scenarios are no better, and the interior point does not mind
        if effort.iterations >= limit or (bands.lost and s * n > WARM_CELLS):
            return effort.attempt(nothing(compiled, weights, ITERATION_LIMIT))
    if not _fits(compiled):
        return effort.attempt(nothing(compiled, weights, STALLED))
    return effort.attempt(_at_once(compiled, weights, effort))


def by_interior_point(compiled: Compiled, gap: float, limit: int) -> Iterator[Attempt]:
    """The interior point on all scenarios, then the vertex next to where it ends; nothing for streamed scenarios."""
    if not _fits(compiled) or limit <= 0:
        return
    program = program_in_memory(compiled)
    run = interior_point(program, Settings(gap * 1e-2, 1e-10, min(limit, NEWTON_STEPS)))
    steps = int(run.solution.iterations)
    yield Attempt(run.solution, None, steps, float(steps), run.compile_seconds, run.solve_seconds)
    effort = _Effort(limit - steps)
    weights = np.clip(np.nan_to_num(run.solution.weights), program.lower, program.upper)
    for bound in (program.lower, program.upper):
        weights = np.where(np.abs(weights - bound) < 1e-8, bound, weights)
    yield effort.attempt(_at_once(compiled, weights, effort))


def _fits(compiled: Compiled) -> bool:
    """Whether all scenarios are in memory, or few enough to be read into it."""
    s, n = compiled.source.shape
    return compiled.source.matrix is not None or s * n <= LOADED_CELLS


def program_in_memory(compiled: Compiled) -> HingeProgram:
    """The program with its returns as a float64 array."""
    source = compiled.source
    stored = source.rows(np.arange(source.shape[0])) if source.matrix is None else source.matrix
    matrix = np.asarray(stored, dtype=np.float64)
    return exchange(compiled.program, returns=matrix)


def _at_once(compiled: Compiled, weights: FloatArray, effort: _Effort) -> Solution:
    """Descend with all scenarios as hinges; each pivot is a pass."""
    program = program_in_memory(compiled)
    before = effort.iterations
    solution = effort.descend(program, scaling.measure(program), weights, np.arange(len(program.returns)))
    effort.passes += effort.iterations - before
    return solution


def nothing(compiled: Compiled, weights: FloatArray, status: int) -> Solution:
    """A point without any multipliers: all that can be said where no method settled."""
    p = compiled.program
    zero = np.zeros(())
    return Solution(
        weights=weights,
        var=np.zeros(len(p.cvar_level)),
        scenario_dual=np.zeros_like(p.cvar_density),
        row_dual=np.zeros(len(p.rows)),
        cvar_cap_dual=np.zeros(len(p.cvar_cap)),
        l1_cap_dual=np.zeros(len(p.l1_cap)),
        status=np.asarray(status, np.int32),
        iterations=np.zeros((), np.int32),
        gap=zero,
        infeasibility=zero,
    )


class _Partition(NamedTuple):
    """Which scenarios stay hinges, and what the rest add up to, per CVaR block."""

    band: IntArray  # (K,) rows kept
    beyond: list[IntArray]  # per block, the sure tail outside the band
    returns: FloatArray  # (K, N) of the band
    level: FloatArray  # (M,)
    linear: FloatArray  # (M, N)


class _Value(NamedTuple):
    """What weights are worth."""

    objective: float  # minimised
    excess: FloatArray  # (M,) of every CVaR over its cap
    size: float  # of the largest term


class _Bands:
    """The rounds of one problem: losses of all scenarios, a band around their quantile, a vertex of the band."""

    def __init__(self, compiled: Compiled, gap: float, size: int, effort: _Effort, guess: Guess | None) -> None:
        self.guess = guess
        self.compiled = compiled
        self.p = compiled.program
        self.source = compiled.source
        self.s, self.n = compiled.source.shape
        self.gap = gap
        self.size = size
        self.effort = effort
        self.price = np.zeros_like(self.p.cvar_cap)
        self.deep = guess is None and self.s > 5 * LEVEL * self.size

    def solve(self) -> tuple[Solution | None, FloatArray]:
        """(solution, or None where the rounds did not settle; best weights)."""
        p, effort = self.p, self.effort
        weights, sizes = self._begin(self.guess)
        self.lost = False  # whether a descent ran out of pivots
        radius = (NEAR if self.deep else FAR) * max(float(np.abs(weights).max(initial=0.0)), 1e-3)
        keep = np.empty(0, dtype=np.intp) if effort.basis is None else effort.basis.scenarios
        keep = keep[keep >= 0]
        centre, losses, here = weights, np.empty(0), None
        bound, model = -np.inf, _Value(-np.inf, np.zeros(len(p.cvar_cap)), 1.0)
        proof: tuple[Solution, Multipliers, _Partition] | None = None

        for round_number in range(ROUNDS):
            if round_number >= PATIENCE and round_number % 2 == 0:
                self.size = min(2 * self.size, self.s)
            new_losses = self._losses(weights)
            there = self._value(p, weights, new_losses)
            merit, value = np.inf if here is None else self._merit(here), self._merit(there)
            if value < merit:
                centre, losses, here = weights, new_losses, there
            if proof is not None:
                if abs(min(merit, value) - bound) <= self.gap * there.size:
                    return self._for_all_scenarios(centre, *proof), centre
                progress = (merit - value) / max(merit - self._merit(model), 1e-300)
                radius *= 2.5 if progress > 0.7 else 0.35 if progress < 0.25 else 1.0

            part = self._partition(losses, keep)
            if part is None:
                return None, centre
            low, high = np.maximum(p.lower, centre - radius), np.minimum(p.upper, centre + radius)
            banded = self._banded(part, low, high)
            solution = effort.descend(banded, sizes, centre, part.band)
            if int(solution.status) != CONVERGED:
                self.lost = True
                return None, centre
            assert effort.basis is not None
            weights = np.clip(solution.weights, low, high)
            wide = replace(self.compiled, program=self._banded(part, p.lower, p.upper), source=InMemory(part.returns))
            multipliers, upper, _ = dual_bound(wide, weights, solution)
            if -upper > bound:
                bound, proof = -upper, (solution, multipliers, part)
            # where the box is narrow a cap may be dear beyond all measure, so its price grows by steps
            price = 2.0 * solution.cvar_cap_dual
            self.price = np.maximum(self.price, np.where(self.price > 0, np.minimum(price, 4.0 * self.price), price))
            model = self._value(banded, weights, -(part.returns @ weights))
            tied = effort.basis.scenarios
            keep = np.union1d(keep, tied) if len(keep) + len(tied) < self.size // 2 else tied
        return None, centre

    def _begin(self, guess: Guess | None) -> tuple[FloatArray, scaling.Scale]:
        """First weights, from a guess or a subsample, and the sizes to divide programs by."""
        p, effort = self.p, self.effort
        count = LEVEL * self.size if self.deep else self.size
        sample = np.sort(np.random.default_rng(SEED).choice(self.s, count, replace=False, shuffle=False))
        small = self._subsample(sample)
        sizes = scaling.measure(small)
        if guess is not None:
            self.price = 2.0 * guess.cap_price
            return np.clip(guess.weights, p.lower, p.upper), sizes
        if self.deep:
            # the sample is large itself: its own rounds are cheap, and end near the answer
            before, effort.passes = effort.passes, 0.0
            sampled = replace(self.compiled, program=small, source=InMemory(small.returns))
            rounds = _Bands(sampled, ROUGH, self.size, effort, None)
            _, weights = rounds.solve()
            effort.passes = before + effort.passes * count / self.s
            effort.basis = None if effort.basis is None else effort.basis.renumbered(sample)
            self.price = rounds.price
            return weights, sizes
        first = effort.descend(small, sizes, p.start, sample)
        effort.basis = None
        if int(first.status) != CONVERGED:
            return p.start, sizes
        # a merit function has to charge more for a CVaR above its cap than the cap's own multiplier
        self.price = 2.0 * first.cvar_cap_dual
        return np.clip(first.weights, p.lower, p.upper), sizes

    def _rows(self, index: IntArray) -> FloatArray:
        self._count(len(index))
        return self.source.rows(index)

    def _count(self, rows: int) -> None:
        """Streamed scenarios have to be read, or made, even where few are wanted."""
        self.effort.passes += 1.0 if self.source.matrix is None else rows / self.s

    def _losses(self, weights: FloatArray) -> FloatArray:
        self.effort.passes += 1.0
        return self.source.losses(weights)

    def _subsample(self, rows: IntArray) -> HingeProgram:
        """The program on some scenarios, their densities made up for the rest."""
        density = self.p.cvar_density[:, rows]
        mass = density.sum(axis=1, keepdims=True)
        whole = self.p.cvar_density.sum(axis=1, keepdims=True)
        density = density * np.divide(whole, mass, out=np.ones_like(mass), where=mass > 0)
        return exchange(self.p, returns=self._rows(rows), cvar_density=density)

    def _value(self, p: HingeProgram, weights: FloatArray, losses: FloatArray) -> _Value:
        blocks = np.zeros(len(p.cvar_level))
        for b, (density, level, linear) in enumerate(zip(p.cvar_density, p.cvar_level, p.cvar_linear, strict=True)):
            t = quantile(losses, density, level)
            tail = np.flatnonzero(losses > t)
            blocks[b] = linear @ weights + level * t + density[tail] @ (losses[tail] - t)
        cap = np.where(np.isfinite(p.cvar_cap), p.cvar_cap, np.inf)
        l1 = p.l1_linear @ weights + np.sum(p.l1_rate * np.abs(weights - p.l1_reference), axis=1)
        linear = float(p.linear @ weights)
        objective = linear + float(p.cvar_weight @ blocks + p.l1_weight @ l1)
        size = max(abs(objective), abs(linear), float(np.abs(p.cvar_weight * blocks).max(initial=0.0)))
        return _Value(objective, np.maximum(blocks - cap, 0.0), size)

    def _merit(self, value: _Value) -> float:
        """The minimised objective plus a price for every CVaR above its cap."""
        return value.objective + float(self.price @ value.excess)

    def _partition(self, losses: FloatArray, keep: IntArray) -> _Partition | None:
        """Keep the scenarios nearest to the value-at-risk of each block, and those that were at their kink before.

        None where a block would be left without hinges to weigh its level.
        """
        p, m = self.p, len(self.p.cvar_level)
        inside = np.zeros(self.s, dtype=bool)
        inside[keep] = True
        quantiles = [quantile(losses, d, tau) for d, tau in zip(p.cvar_density, p.cvar_level, strict=True)]
        each = max((self.size - len(keep)) // m, 1)
        for b, t in enumerate(quantiles):
            distance = np.abs(losses - t)
            distance[inside] = np.inf
            count = each if b < m - 1 else self.size - int(np.count_nonzero(inside))
            inside[_least(distance, count)] = True
        band = np.flatnonzero(inside)
        level, linear, beyond = np.empty(m), np.empty((m, self.n)), []
        for b in range(m):
            rows = np.flatnonzero((losses > quantiles[b]) & ~inside)
            density = p.cvar_density[b, rows]
            level[b] = p.cvar_level[b] - density.sum()
            measure = np.zeros(self.s)
            measure[rows] = density
            linear[b] = p.cvar_linear[b] - self.source.pull(measure[None])[0]
            self._count(len(rows))
            beyond.append(rows)
        mass = p.cvar_density[:, band].sum(axis=1)
        if (level <= 1e-12).any() or (level >= mass * (1.0 - 1e-12)).any():
            return None
        return _Partition(band, beyond, self._rows(band), level, linear)

    def _banded(self, part: _Partition, low: FloatArray, high: FloatArray) -> HingeProgram:
        """The minorant that keeps the band as hinges, within the given box."""
        return exchange(
            self.p,
            returns=part.returns,
            cvar_density=self.p.cvar_density[:, part.band],
            cvar_level=part.level,
            cvar_linear=part.linear,
            lower=low,
            upper=high,
        )

    def _for_all_scenarios(
        self, weights: FloatArray, solution: Solution, multipliers: Multipliers, part: _Partition
    ) -> Solution:
        """Multipliers of the band extended to all scenarios: full in the sure tail, zero outside."""
        dual = np.zeros_like(self.p.cvar_density)
        total = self.p.cvar_weight + multipliers.cvar_cap
        for b, rows in enumerate(part.beyond):
            dual[b, rows] = total[b] * self.p.cvar_density[b, rows]
        dual[:, part.band] = multipliers.scenario
        return exchange(solution, weights=weights, scenario_dual=dual)


def _least(values: FloatArray, count: int) -> IntArray:
    """Indices of the `count` smallest values."""
    if count >= len(values):
        return np.arange(len(values))
    if len(values) > 50_000:
        # a quantile of every 16th value, with some room, leaves few to choose from
        probe = values[:: max(len(values) // 4096, 1)]
        rank = min(int(1.3 * count / len(values) * len(probe)) + 16, len(probe) - 1)
        near = np.flatnonzero(values <= np.partition(probe, rank)[rank])
        if len(near) >= count:
            return near[np.argpartition(values[near], count - 1)[:count]]
    return np.argpartition(values, count - 1)[:count]

r"""Integer constraints: an incumbent by rounding and re-solving, a proof by branch and bound.

What integer constraints leave of the weight of asset i is a union of intervals, its *pieces*
:math:`[a_{ip}, b_{ip}]`: zero alone, long positions of some size, short ones, no trade, and so on. With one binary for
each piece,

.. math:: \sum_p y_{ip} = 1, \qquad \sum_p a_{ip} y_{ip} \le w_i \le \sum_p b_{ip} y_{ip}, \qquad
          \sum_{i,\, p \ne 0} y_{ip} \le K,

which is the convex hull of the pieces of one asset (Balas, 1985, SIAM J. Algebraic Discrete Methods 6), so there is no
other big-M than the ends of the pieces. Whole lots add :math:`w_i = lot_i n_i` with integer :math:`n_i`.

Three steps. The continuous relaxation gives a first bound, and by its reduced costs the pieces no better portfolio can
use are cut off: where the relaxed optimum is within :math:`\delta` of the incumbent, a weight whose move would cost
more than :math:`\delta` need not be looked at. Rounding the relaxed weights, then re-solving with the pieces as bounds,
then exchanging single assets gives an incumbent. The mixed-integer program goes to HiGHS with few of the scenarios as
hinges, those near the value-at-risk; the others are replaced by one of their two linear pieces, which never raises the
minimised objective, so that a bound of that program holds for all scenarios. Its answer is evaluated on all of them,
those that changed sides become hinges, and so on until bound and objective meet.

The incumbent always comes out of a continuous solve with its pieces as bounds, never out of HiGHS: what is to be zero
is zero, and lots are whole.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from math import gcd, lcm
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from scipy.optimize import Bounds as Box
from scipy.optimize import LinearConstraint, milp

from portfolioopt.errors import InputError
from portfolioopt.labels import some
from portfolioopt.problem import Compiled, MaxHoldings, MinPosition, MinTrade, Problem, RoundLots
from portfolioopt.problem.integer import sizes
from portfolioopt.scenarios.tail import quantile
from portfolioopt_kernels import exchange

from .certificate import Multipliers, dual_bound, line_values, term_values
from .methods import Attempt, Guess, by_vertices

FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.intp]
BoolArray: TypeAlias = npt.NDArray[np.bool_]
IntegerStatus: TypeAlias = Literal["optimal", "time limit", "infeasible", "stalled"]

ALLOWED = 1e-9  # relative violation of a limit at which a portfolio counts as feasible
PIVOTS = 100_000
# scenarios per block next to the value-at-risk that begin as hinges: so many, or 2 N, or this times the root of S N
BAND = 100
BAND_SHARE = 0.5
NEXT = 16  # scenarios next to the value-at-risk of further portfolios that become hinges, with all on another side
GOOD = 8  # patterns other than the incumbent's for which the first band is made
WHOLE = 1.5  # a block with fewer scenarios than this many bands has all of them as hinges
ROUNDS = 40  # mixed-integer programs with wider and wider bands
TRIALS = 200  # most continuous solves of the exchange search
SHARE = 0.25  # of the time limit that the search for an incumbent may take
PATIENCE = 10.0  # seconds that it may take at most
SIZE = 1e3  # what HiGHS sees as the size of the objective: its tolerances are absolute, 1e-7 and 1e-6
TRUST = 1e-8  # of the size of the objective, taken off HiGHS's bound for its tolerances
TINY = 1e-12
FAR = 100.0  # bounds where there are none, when only feasibility is asked


@dataclass(frozen=True)
class IntegerAttempt:
    """Outcome of a search over portfolios that meet integer constraints.

    Objective and bound are those of the maximised objective.
    """

    status: IntegerStatus
    message: str
    """One sentence on how the search ended."""
    attempt: Attempt | None
    """Weights (exact), auxiliary variables, and multipliers of the continuous problem `fixed`; None where no portfolio
    was found."""
    fixed: Compiled | None
    """The problem with the pieces found as bounds on the weights. Multipliers belong to this one: what a limit is worth
    while the pieces stay what they are."""
    objective: float
    """At the weights, over all scenarios; -inf where there are none."""
    bound: float
    """No portfolio that meets all constraints has a higher objective, over all scenarios; -inf where none exists."""
    gap: float
    """``bound - objective`` relative to the size of the objective's largest term; 0 where infeasibility is proven."""
    heuristic: float
    """Objective of the first step's portfolio; -inf where it found none."""
    seconds: float
    nodes: int
    """Nodes of branch and bound."""
    rounds: int
    """Mixed-integer programs solved."""

    @property
    def columns(self) -> FloatArray | None:
        """Weights (N,) and auxiliary variables of the program after them."""
        return None if self.attempt is None else self.attempt.solution.weights


def solve_mixed_integer(
    compiled: Compiled, *, gap: float, time_limit: float | None = None, guess: Guess | None = None
) -> IntegerAttempt:
    """Maximise the objective over portfolios that meet the integer constraints too.

    Parameters
    ----------
    compiled
        The problem; its program is the continuous relaxation.
    gap
        Gap, relative to the size of the objective's largest term, at which the search ends; 2e-8 where less is asked
        for, as far as the floating-point bounds of branch and bound are to be trusted.
    time_limit
        Seconds after which the search ends with what it has; None for no limit. A step that has begun is ended, so it
        may take a little longer, and the relaxation and one rounding are always done.
    guess
        Where a previous search ended; its portfolio is tried as well.

    Raises
    ------
    InputError
        Where nothing limits some weight, where a measure is not piecewise linear, or where two constraints ask for
        whole lots.
    """
    if compiled.curves:
        raise InputError(
            f"{compiled.curves[0].measure!r} is not piecewise linear, and integer constraints "
            f"({_names(compiled)}) only go with measures that are: use CVaR, or leave the integer constraints out"
        )
    menu = _menu(compiled)
    return _Search(compiled, menu, gap, time_limit).run(guess)


# -- pieces ----------------------------------------------------------------------------------------------------------
class _Pieces(NamedTuple):
    """What is left of one weight: intervals (P, 2) in increasing order, and whether each counts as a holding (P,)."""

    ends: FloatArray
    held: BoolArray

    @property
    def plain(self) -> int:
        """The piece chosen where no binary says otherwise: one that does not count, if there is one."""
        return int(np.argmin(self.held))

    def inside(self, weight: float) -> int | None:
        """The piece that holds a weight, one that does not count first; None where no piece does."""
        within = (self.ends[:, 0] - TINY <= weight) & (weight <= self.ends[:, 1] + TINY)
        found = np.flatnonzero(within)
        return None if not len(found) else int(found[np.argmin(self.held[found])])

    def distance(self, weight: float) -> FloatArray:
        """From a weight to each piece (P,)."""
        return np.maximum(np.maximum(self.ends[:, 0] - weight, weight - self.ends[:, 1]), 0.0)


class _Menu(NamedTuple):
    """What the integer constraints leave of all weights."""

    pieces: list[_Pieces]
    lot: FloatArray  # (N,), NaN for none
    most: int | None  # holdings

    @property
    def lots(self) -> BoolArray:
        return np.isfinite(self.lot)

    @property
    def lower(self) -> FloatArray:
        return np.array([p.ends[0, 0] for p in self.pieces])

    @property
    def upper(self) -> FloatArray:
        return np.array([p.ends[:, 1].max() for p in self.pieces])


Pattern: TypeAlias = npt.NDArray[np.intp]  # (N,) the piece of each asset


def _names(compiled: Compiled) -> str:
    return ", ".join(c.name for c in compiled.integer)


def _menu(compiled: Compiled, *, far: float | None = None) -> _Menu:
    """Pieces of every asset; `far` stands in for bounds that are missing."""
    n, assets = compiled.n_assets, compiled.scenarios.assets
    lower = np.maximum(compiled.program.lower[:n], compiled.box_lower[:n])
    upper = np.minimum(compiled.program.upper[:n], compiled.box_upper[:n])
    endless = ~(np.isfinite(lower) & np.isfinite(upper))
    if endless.any():
        if far is None:
            raise InputError(
                f"integer constraints ({_names(compiled)}) need bounds on every weight, and nothing limits "
                f"{some(assets[endless])}: add Bounds(lower, upper), or a TradeLimit"
            )
        lower = np.where(np.isfinite(lower), lower, np.minimum(-far, upper))
        upper = np.where(np.isfinite(upper), upper, np.maximum(far, lower))
    position, trade, lot, count = np.zeros(n), np.zeros(n), np.full(n, np.nan), None
    for constraint in compiled.integer:
        match constraint:
            case MaxHoldings():
                count = constraint.count if count is None else min(count, constraint.count)
            case MinPosition():
                position = np.maximum(position, sizes(constraint, assets))
            case MinTrade():
                trade = np.maximum(trade, sizes(constraint, assets))
            case RoundLots():
                if np.isfinite(lot).any():
                    raise InputError(f"{constraint.name}: another constraint asks for whole lots; keep one of them")
                lot = sizes(constraint, assets)
    held = compiled.holdings
    pieces = []
    for i in range(n):
        box = (lower[i], upper[i])
        found = _union(0.0, position[i], box, always=count is not None)
        if trade[i] > 0:
            assert held is not None
            found = [_overlap(a, b) for a in found for b in _union(held[i], trade[i], box, always=False)]
        pieces.append(_pieces([p for p in found if p[0] <= p[1]], float(lot[i]), counts=count is not None))
    return _Menu(pieces, lot, count)


def _union(centre: float, size: float, box: tuple[float, float], *, always: bool) -> list[tuple[float, float]]:
    """``{centre}`` and what is at least `size` away from it within the box; without a size, the box."""
    whole = [(centre, centre), (-np.inf, centre - size), (centre + size, np.inf)] if size > 0 else [(-np.inf, np.inf)]
    if always and size <= 0:
        whole.append((centre, centre))
    return [_overlap(p, box) for p in whole]


def _overlap(one: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    """What two intervals share. Ends that cross by rounding alone meet."""
    low, high = max(one[0], other[0]), min(one[1], other[1])
    return (high, high) if high < low <= high + TINY else (low, high)


def _pieces(intervals: list[tuple[float, float]], lot: float, *, counts: bool) -> _Pieces:
    """Intervals cut to whole lots, without those that others make needless."""
    found: list[tuple[float, float, bool]] = []
    for low, high in intervals:
        if np.isfinite(lot):
            low, high = lot * np.ceil(low / lot - 1e-9), lot * np.floor(high / lot + 1e-9)
            if low > high:
                continue
        found.append((low + 0.0, high + 0.0, counts and not low == high == 0.0))
    kept = []
    for k, (low, high, held) in enumerate(sorted(set(found), key=lambda p: (p[0], p[1], p[2]))):
        others = [p for j, p in enumerate(sorted(set(found), key=lambda p: (p[0], p[1], p[2]))) if j != k]
        if not any(p[0] <= low and high <= p[1] and p[2] <= held for p in others):
            kept.append((low, high, held))
    return _Pieces(np.array([p[:2] for p in kept]).reshape(-1, 2), np.array([p[2] for p in kept], dtype=bool))


def _narrowed(menu: _Menu, lower: FloatArray, upper: FloatArray) -> _Menu:
    """The menu within a box."""
    pieces = []
    for p, low, high, lot in zip(menu.pieces, lower, upper, menu.lot, strict=True):
        shared = [_overlap((a, b), (low, high)) for a, b in p.ends]
        pieces.append(_pieces([s for s in shared if s[0] <= s[1]], float(lot), counts=menu.most is not None))
    return _Menu(pieces, menu.lot, menu.most)


# -- what a portfolio is worth ---------------------------------------------------------------------------------------
class _Worth(NamedTuple):
    """Columns on all scenarios."""

    objective: float  # minimised, of the program
    violation: float  # largest of rows and caps, relative to their sizes
    size: float  # of the largest term
    losses: FloatArray  # (S,)
    var: FloatArray  # (M,)


def _worth(compiled: Compiled, x: FloatArray) -> _Worth:
    p = compiled.program
    losses = compiled.source.losses(x) if len(p.cvar_level) else np.empty(0)
    blocks, var = np.zeros(len(p.cvar_level)), np.zeros(len(p.cvar_level))
    for b, (density, level, linear) in enumerate(zip(p.cvar_density, p.cvar_level, p.cvar_linear, strict=True)):
        var[b] = quantile(losses, density, level)
        tail = np.flatnonzero(losses > var[b])
        blocks[b] = linear @ x + level * var[b] + density[tail] @ (losses[tail] - var[b])
    l1 = p.l1_linear @ x + np.sum(p.l1_rate * np.abs(x - p.l1_reference), axis=1)
    terms = np.concatenate([[p.linear @ x], p.cvar_weight * blocks, p.l1_weight * l1])
    over: list[float] = [0.0]
    for cap, value, most in (
        (p.cvar_cap, blocks, np.full(len(blocks), _unit(compiled) if len(blocks) else 1.0)),
        (p.l1_cap, l1, p.l1_rate.max(axis=1, initial=0.0)),
    ):
        capped = np.isfinite(cap)
        size = np.maximum(np.abs(cap), most)[capped]
        over.append(float(((value - cap)[capped] / np.where(size > 0, size, 1.0)).max(initial=0.0)))
    activity = p.rows @ x
    most = np.abs(p.rows).max(axis=1, initial=0.0)
    for excess, side in ((p.row_lower - activity, p.row_lower), (activity - p.row_upper, p.row_upper)):
        limited = np.isfinite(side)
        size = np.maximum(np.abs(side), most)[limited]
        over.append(float((excess[limited] / np.where(size > 0, size, 1.0)).max(initial=0.0)))
    objective = float(terms.sum())
    return _Worth(objective, max(over), max(abs(objective), float(np.abs(terms).max())), losses, var)


def _scale(compiled: Compiled, x: FloatArray) -> float:
    """The larger of the objective and its largest term, as in a certificate."""
    view = compiled.view(x)
    values = term_values(compiled, view, line_values(compiled, view))
    parts = np.array([term.coefficient for term in compiled.terms]) * values
    return max(abs(float(parts.sum())), float(np.abs(parts).max(initial=0.0)))


def _unit(compiled: Compiled) -> float:
    """A typical loss."""
    size = compiled.scenarios.source.root_mean_square
    return size if size > 0 else 1.0


class _Found(NamedTuple):
    """A portfolio, the continuous problem that it solves, and what it is worth."""

    x: FloatArray  # (n,) columns
    fixed: Compiled
    attempt: Attempt | None
    worth: _Worth


# -- the search ------------------------------------------------------------------------------------------------------
class _Search:
    """Incumbent, bound and budget of one problem. Objectives are minimised here, as the program does."""

    def __init__(self, compiled: Compiled, menu: _Menu, gap: float, time_limit: float | None) -> None:
        self.start = time.perf_counter()
        self.compiled = compiled
        self.menu = menu
        self.whole = menu
        self.gap = max(gap, 2.0 * TRUST)
        self.time_limit = time_limit
        self.deadline = np.inf if time_limit is None else self.start + time_limit
        self.n = compiled.n_assets
        self.aux = compiled.program.shape[1] > self.n
        self.until = np.inf
        self.best: _Found | None = None
        self.bound = -np.inf
        self.size = 1.0
        self.nodes = self.rounds = self.iterations = 0
        self.passes = self.compile_seconds = self.solve_seconds = 0.0
        self.last: Attempt | None = None
        self.tried: set[bytes] = set()
        self.good: list[_Worth] = []  # of the best patterns

    # -- steps -----------------------------------------------------------------------------------------------------
    def run(self, guess: Guess | None) -> IntegerAttempt:
        reason = self._visible()
        if reason is not None:
            return self._report("infeasible", reason, -np.inf)
        relaxed = self._relax()
        limit = PATIENCE if self.time_limit is None else min(PATIENCE, SHARE * self.time_limit)
        self.until = self._clock() + limit
        if guess is not None:
            self._round(guess.weights[: self.n])
        if not self._closed():
            self._dive(relaxed, upward=True)
        if not self._closed() and (self.best is None or self.menu.most is None):
            self._dive(relaxed, upward=False)
        self._exchange()
        heuristic = -np.inf if self.best is None else self._outside(self.best.worth.objective)
        self._tighten()
        status, message = self._prove(relaxed)
        return self._report(status, message, heuristic)

    def _visible(self) -> str | None:
        """A contradiction that needs no search, in words."""
        assets = self.compiled.scenarios.assets
        for i, pieces in enumerate(self.menu.pieces):
            if not len(pieces.ends):
                return (
                    f"no weight of {assets[i]} within its bounds meets {_names(self.compiled)}; widen the bounds, or "
                    "ask for less"
                )
        if self.menu.most is not None:
            must = sum(bool(p.held.all()) for p in self.menu.pieces)
            if must > self.menu.most:
                return f"{must} assets cannot have a weight of zero, more than the {self.menu.most} holdings allowed"
        return _lots_clash(self.compiled, self.menu)

    def _relax(self) -> FloatArray:
        """The relaxed optimum (n,), its bound, and the reduced costs that come with it."""
        found = self._solve(self.menu.lower, self.menu.upper, self.compiled.program.start)
        assert found.attempt is not None
        self.size = max(found.worth.size, TINY)
        multipliers, upper, _ = dual_bound(found.fixed, found.x, found.attempt.solution)
        self.relaxation = found.fixed, multipliers, -upper
        self.bound = -upper
        self._offer(found)
        return found.x

    def _tighten(self) -> None:
        """Cut off weights that no portfolio better than the incumbent can have."""
        if self.best is None:
            return
        fixed, multipliers, bound = self.relaxation
        room = max(self.best.worth.objective - bound, 0.0) + 1e-9 * self.size
        low, high = _reach(fixed, multipliers, room)
        self.menu = _narrowed(self.menu, low[: self.n], high[: self.n])

    def _prove(self, relaxed: FloatArray) -> tuple[IntegerStatus, str]:
        """Mixed-integer programs with wider and wider bands, until bound and incumbent meet."""
        reference = relaxed if self.best is None else self.best.x
        live = [np.flatnonzero(d > 0) for d in self.compiled.program.cvar_density]
        size = max(BAND, 2 * self.n, int(BAND_SHARE * np.sqrt(self.compiled.source.shape[0] * self.n)))
        keep = [rows if len(rows) <= WHOLE * size else np.empty(0, np.intp) for rows in live]
        at = self._worth_at(reference)
        sides = [(at.losses > t) & (d > 0) for t, d in zip(at.var, self.compiled.program.cvar_density, strict=True)]
        keep = self._near(keep, live, at, size)
        keep = self._near(keep, live, self._worth_at(relaxed), size)
        for worth in self.good:
            keep = self._near(keep, live, worth, NEXT, sides)
        tight = 0.0
        while not self._closed():
            left = self.deadline - time.perf_counter()
            if left <= 0:
                return "time limit", f"stopped by the time limit of {self.time_limit:g} s"
            if self.rounds >= ROUNDS:
                break
            if any(not len(p.ends) for p in self.menu.pieces):
                self.bound = self._least()  # nothing is left that could be better
                break
            cutoff = None
            if self.best is not None:
                cutoff = self.best.worth.objective - 0.5 * self.gap * self.size
            at = self._worth_at(reference)
            model = _Model(self.compiled, self.menu, keep, at, cutoff=cutoff, size=self.size, tight=tight)
            target = self.best.worth.objective if self.best is not None else self.bound
            answer = model.solve(0.5 * self.gap * self.size / max(abs(target), TINY), left)
            self.rounds += 1
            self.nodes += answer.nodes
            if tight == 0.0:
                if answer.status == "infeasible" and cutoff is None:
                    return "infeasible", f"no portfolio meets {_names(self.compiled)} and the other constraints"
                least = cutoff if answer.status == "infeasible" and cutoff is not None else answer.bound
                self.bound = max(self.bound, min(least - TRUST * self.size, self._least()))
            if answer.x is None:
                if tight == 0.0 and not self._closed() and answer.status == "time limit":
                    continue  # the clock says so at the top
                if not self._closed():
                    break
                continue
            better = self._round_to(answer)
            if better:
                tight = 0.0
                self._tighten()
                reference = self.best.x if self.best is not None else reference
            worth = self._worth_at(answer.x)
            wider = self._near(keep, live, worth, NEXT, model.sides)
            if better and self.best is not None:
                wider = self._near(wider, live, self.best.worth, NEXT, model.sides)
            same = all(len(a) == len(b) for a, b in zip(keep, wider, strict=True))
            if same and not better and not self._closed() and answer.status == "optimal":
                if tight:
                    break
                tight = 1e-6  # what HiGHS calls feasible is not quite: ask for a little more
            keep = wider
        if self._closed():
            return "optimal", f"optimal, proven to a relative gap of {self._relative():.1e}"
        if self.best is None:
            return "stalled", f"no portfolio was found that meets {_names(self.compiled)} exactly, nor proven not to be"
        return "stalled", f"no further progress; the gap is {self._relative():.1e}"

    def _report(self, status: IntegerStatus, message: str, heuristic: float) -> IntegerAttempt:
        attempt, fixed, objective = None, None, -np.inf
        if self.best is not None:
            attempt, fixed = self._finish(self.best)
            objective = self._outside(self.best.worth.objective)
        bound = -np.inf if status == "infeasible" else max(self._outside(self.bound), objective)
        gap = 0.0 if status == "infeasible" else (bound - objective) / self.size
        seconds = time.perf_counter() - self.start
        return IntegerAttempt(
            status, message, attempt, fixed, objective, bound, gap, heuristic, seconds, self.nodes, self.rounds
        )

    def _finish(self, best: _Found) -> tuple[Attempt, Compiled]:
        """Multipliers to go with the portfolio found, whose weights stay exactly as they are."""
        fixed, attempt = best.fixed, best.attempt
        if attempt is None:
            again = self._solve(best.x[: self.n], best.x[: self.n], best.x)
            fixed, attempt = again.fixed, again.attempt
        assert attempt is not None
        whole = attempt._replace(
            solution=exchange(attempt.solution, weights=best.x),
            iterations=self.iterations,
            passes=self.passes,
            compile_seconds=self.compile_seconds,
            solve_seconds=self.solve_seconds,
        )
        return whole, fixed

    # -- bookkeeping -------------------------------------------------------------------------------------------------
    def _clock(self) -> float:
        """Seconds so far without those that kernels took to compile."""
        return time.perf_counter() - self.start - self.compile_seconds

    def _late(self) -> bool:
        """Whether the search for an incumbent has had its time."""
        return self._clock() > self.until or time.perf_counter() > self.deadline

    def _outside(self, objective: float) -> float:
        return -objective - self.compiled.constant

    def _least(self) -> float:
        return np.inf if self.best is None else self.best.worth.objective

    def _relative(self) -> float:
        return max(self._least() - self.bound, 0.0) / self.size

    def _closed(self) -> bool:
        return self.best is not None and self._relative() <= self.gap

    def _worth_at(self, x: FloatArray) -> _Worth:
        return self.best.worth if self.best is not None and self.best.x is x else _worth(self.compiled, x)

    def _offer(self, found: _Found) -> bool:
        """Keep a portfolio if it is allowed and better than the incumbent."""
        if found.worth.violation > ALLOWED or not self._legal(found.x[: self.n]):
            return False
        if found.worth.objective >= self._least():
            return False
        self.best = found
        self.size = max(_scale(self.compiled, found.x), TINY)
        return True

    def _legal(self, weights: FloatArray) -> bool:
        lot = self.menu.lot
        if (np.abs(weights - lot * np.round(weights / lot))[self.menu.lots] > TINY).any():
            return False
        held = 0
        for w, pieces in zip(weights, self.whole.pieces, strict=True):
            piece = pieces.inside(float(w))
            if piece is None:
                return False
            held += bool(pieces.held[piece])
        return self.menu.most is None or held <= self.menu.most

    # -- continuous solves ---------------------------------------------------------------------------------------------
    def _solve(self, lower: FloatArray, upper: FloatArray, x: FloatArray) -> _Found:
        """The continuous optimum within bounds on the weights (N,)."""
        p, n = self.compiled.program, self.n
        low, high = p.lower.copy(), p.upper.copy()
        low[:n], high[:n] = lower, upper
        box_lower, box_upper = np.maximum(self.compiled.box_lower, low), np.minimum(self.compiled.box_upper, high)
        box_lower[:n], box_upper[:n] = lower, upper
        fixed = replace(
            self.compiled, program=exchange(p, lower=low, upper=high), box_lower=box_lower, box_upper=box_upper
        )
        basis = None if self.last is None else self.last.basis
        guess = Guess(np.clip(x, low, high), basis, np.zeros(len(p.cvar_cap)))
        attempt = by_vertices(fixed, 1e-10, PIVOTS, guess)
        self.last = attempt if attempt.basis is not None else self.last
        self.iterations += attempt.iterations
        self.passes += attempt.passes
        self.compile_seconds += attempt.compile_seconds
        self.solve_seconds += attempt.solve_seconds
        found = np.clip(np.nan_to_num(attempt.solution.weights), low, high)
        return _Found(found, fixed, attempt, _worth(fixed, found))

    def _settle(self, pattern: Pattern, x: FloatArray) -> _Found | None:
        """The best portfolio of a pattern, offered; None where that pattern was looked at before."""
        key = pattern.tobytes()
        if key in self.tried:
            return None
        ends = np.array([p.ends[k] for p, k in zip(self.whole.pieces, pattern, strict=True)])
        found = self._solve(ends[:, 0], ends[:, 1], x)
        self.tried.add(key)
        if found.worth.violation <= ALLOWED:
            self.good = sorted([*self.good, found.worth], key=lambda w: w.objective)[:GOOD]
        if self.menu.lots.any():
            self._whole_lots(found.x, pattern)
        else:
            self._offer(found)
        return found

    def _round(self, weights: FloatArray) -> Pattern:
        """The pattern nearest to some weights, its best portfolio offered."""
        pieces = self.whole.pieces
        pattern = np.array(
            [int((p.distance(w) + 1e-12 * p.held).argmin()) for p, w in zip(pieces, weights, strict=True)]
        )
        if self.menu.most is not None:
            held = np.array([p.held[k] for p, k in zip(pieces, pattern, strict=True)])
            free = np.array([not p.held.all() for p in pieces])
            surplus = int(held.sum()) - self.menu.most
            order = np.flatnonzero(held & free)
            for i in order[np.abs(weights[order]).argsort(kind="stable")][: max(surplus, 0)]:
                pattern[i] = pieces[i].plain
        self._settle(pattern, np.append(weights, self.compiled.program.start[self.n :]))
        return pattern

    def _dive(self, relaxed: FloatArray, *, upward: bool) -> None:
        """Settle the clearest assets first, re-solve, and so on until every weight is in a piece.

        Without `upward` everything that is too small becomes nothing.
        """
        pieces = self.menu.pieces
        lower, upper = self.menu.lower, self.menu.upper
        x = relaxed
        for _ in range(4 * self.n):
            weights = x[: self.n]
            away = np.array([p.distance(w).min() for p, w in zip(pieces, weights, strict=True)])
            between = np.flatnonzero(away > TINY)
            held = np.array([self._counts(i, weights[i]) for i in range(self.n)])
            surplus = 0 if self.menu.most is None else int(held.sum()) - self.menu.most
            loose = np.flatnonzero(held & (lower <= 0) & (upper >= 0) & (upper > lower))
            loose = loose[[not pieces[i].held.all() for i in loose]] if len(loose) else loose
            if surplus > 0 and len(loose):
                order = loose[np.abs(weights[loose]).argsort(kind="stable")]
                for i in order[: max(1, (surplus + 2) // 3)]:
                    lower[i] = upper[i] = 0.0
            elif len(between):
                order = between[away[between].argsort(kind="stable")]
                for i in order[: max(1, len(order) // 3)]:
                    distance = pieces[i].distance(weights[i])
                    if not upward:
                        distance = np.where(pieces[i].held, distance + 1e6, distance)
                    lower[i], upper[i] = pieces[i].ends[int(distance.argmin())]
            else:
                break
            if self._late():
                break
            found = self._solve(lower, upper, x)
            if found.worth.violation > 1e-6:
                break
            x = found.x
        self._round(x[: self.n])

    def _counts(self, i: int, weight: float) -> bool:
        pieces = self.menu.pieces[i]
        return bool(pieces.held[int((pieces.distance(weight) + 1e-12 * pieces.held).argmin())])

    # -- exchanges ---------------------------------------------------------------------------------------------------
    def _exchange(self) -> None:
        """Change the piece of one asset or two while that helps."""
        if self.best is None or self._closed():
            return
        if self.menu.lots.any():
            self._move_lots()
            return
        trials, better = 0, True
        while better:
            better = False
            for pattern in self._neighbours():
                if trials >= TRIALS or self._late():
                    return
                before = self._least()
                trials += self._settle(pattern, self.best.x) is not None
                if self._least() < before - 1e-12 * self.size:
                    better = True
                    break

    def _pattern_of(self, weights: FloatArray) -> Pattern:
        found = [p.inside(float(w)) for p, w in zip(self.whole.pieces, weights, strict=True)]
        return np.array([0 if piece is None else piece for piece in found])

    def _neighbours(self) -> Iterator[Pattern]:
        """Patterns in which one asset changes its piece, or one enters for another; the most promising first."""
        assert self.best is not None
        best, pieces = self.best, self.whole.pieces
        pattern = self._pattern_of(best.x[: self.n])
        assert best.attempt is not None
        multipliers, _, _ = dual_bound(best.fixed, best.x, best.attempt.solution)
        pull = np.maximum(multipliers.upper, multipliers.lower)[: self.n]
        reach = np.array([p.ends[-1, 1] - p.ends[0, 0] for p in pieces])
        movable = np.array([len(p.ends) > 1 for p in pieces])
        order = np.argsort(-(pull * reach), kind="stable")
        order = order[movable[order]]
        held = np.array([p.held[k] for p, k in zip(pieces, pattern, strict=True)])
        leaving = np.flatnonzero(held & movable)
        leaving = leaving[np.abs(best.x[leaving]).argsort(kind="stable")]
        full = self.menu.most is not None and int(held.sum()) >= self.menu.most
        for i in order[:12]:
            for k in range(len(pieces[i].ends)):
                if k == pattern[i]:
                    continue
                other = pattern.copy()
                other[i] = k
                if not (pieces[i].held[k] and not held[i] and full):
                    yield other
                    continue
                for j in leaving:
                    swapped = other.copy()
                    swapped[j] = pieces[j].plain
                    if not pieces[j].held[swapped[j]]:
                        yield swapped

    # -- lots --------------------------------------------------------------------------------------------------------
    def _whole_lots(self, x: FloatArray, pattern: Pattern) -> None:
        """Roundings of weights to whole lots within the pieces of a pattern, offered."""
        lot, n = self.menu.lot, self.n
        ends = np.array([p.ends[k] for p, k in zip(self.whole.pieces, pattern, strict=True)])
        exact = np.clip(x[:n], ends[:, 0], ends[:, 1]) / lot
        low, high = np.round(ends / lot[:, None]).T
        down = np.clip(np.floor(exact + 1e-9), low, high)
        before = self._least()
        for counts in (np.clip(np.round(exact), low, high), down):
            self._offer_weights(counts * lot, x)
        # largest remainders up to the sum of the weights
        counts, total = down.copy(), float(x[:n].sum()) + 1e-9
        for i in np.argsort(-(exact - down), kind="stable"):
            if counts[i] < high[i] and float(counts @ lot) + lot[i] <= total:
                counts[i] += 1
        self._offer_weights(counts * lot, x)
        if self._least() == before and before == np.inf:
            near = _narrowed(self.whole, (down - 1) * lot, (down + 2) * lot)
            if all(len(p.ends) for p in near.pieces):
                live = [np.flatnonzero(d > 0) for d in self.compiled.program.cvar_density]
                at = _worth(self.compiled, x)
                keep = self._near([np.empty(0, np.intp)] * len(live), live, at, BAND)
                model = _Model(self.compiled, near, keep, at, cutoff=None, size=self.size, tight=1e-6)
                left = min(self.deadline - time.perf_counter(), 0.5 * PATIENCE)
                if left > 0:
                    answer = model.solve(1e-3, left)
                    self.nodes += answer.nodes
                    if answer.x is not None:
                        self._offer_weights(np.round(answer.x[:n] / lot) * lot, answer.x)

    def _offer_weights(self, weights: FloatArray, x: FloatArray) -> bool:
        """Offer a portfolio whose weights are settled."""
        if not self._legal(weights):
            return False
        if self.aux:
            return self._offer(self._solve(weights, weights, np.append(weights, x[self.n :])))
        worth = _worth(self.compiled, weights)
        return self._offer(_Found(weights, self.compiled, None, worth))

    def _move_lots(self) -> None:
        """Add, drop or move single lots while that helps."""
        assert self.best is not None
        lot, n = self.menu.lot, self.n
        better = True
        while better:
            better = False
            for i in range(-1, n):
                for j in range(-1, n):
                    if i == j:
                        continue
                    if self._late():
                        return
                    counts = np.round(self.best.x[:n] / lot)
                    if i >= 0:
                        counts[i] -= 1
                    if j >= 0:
                        counts[j] += 1
                    better |= self._offer_weights(counts * lot, self.best.x)

    # -- from HiGHS ----------------------------------------------------------------------------------------------------
    def _round_to(self, answer: _Answer) -> bool:
        """The exact portfolio behind an answer of HiGHS; whether it beats the incumbent."""
        assert answer.x is not None
        before = self._least()
        if answer.counts is not None:
            self._offer_weights(answer.counts * self.menu.lot, answer.x)
        else:
            # pieces of the narrowed menu lie in those of the whole one
            inside = [
                int((whole.distance(float(np.mean(p.ends[k]))) + 1e-12 * whole.held).argmin())
                for p, whole, k in zip(self.menu.pieces, self.whole.pieces, answer.pattern, strict=True)
            ]
            self._settle(np.array(inside), answer.x)
        return self._least() < before

    def _near(
        self,
        keep: list[IntArray],
        live: list[IntArray],
        worth: _Worth,
        size: int,
        sides: list[BoolArray] | None = None,
    ) -> list[IntArray]:
        """Add the scenarios nearest to the value-at-risk, and those on another side of it than was assumed."""
        wider = []
        for b, (kept, rows) in enumerate(zip(keep, live, strict=True)):
            if len(kept) == len(rows):
                wider.append(kept)
                continue
            away = worth.losses[rows] - worth.var[b]
            near = rows[np.abs(away).argsort(kind="stable")[:size]]
            if sides is not None:
                wrong = np.abs(away) * ((away > 0) != sides[b][rows])
                order = np.argsort(-wrong, kind="stable")
                order = order[wrong[order] > 0]
                near = np.union1d(near, rows[order[: max(BAND, len(kept) // 2)]])
            wider.append(np.union1d(kept, near))
        return wider


def _reach(compiled: Compiled, multipliers: Multipliers, room: float) -> tuple[FloatArray, FloatArray]:
    r"""Interval of each column (n,) outside which the dual bound is more than `room` above its least.

    The bound is a sum over columns of the least of :math:`d_i x + \sum_a k_{ai} |x - r_{ai}|` over their boxes; a
    column that is elsewhere raises it by the difference.
    """
    p = compiled.program
    level = p.l1_weight + multipliers.l1_cap
    reduced = p.linear + (p.cvar_weight + multipliers.cvar_cap) @ p.cvar_linear + level @ p.l1_linear
    reduced = reduced + multipliers.row @ p.rows - compiled.source.pull(multipliers.scenario.sum(axis=0)[None])[0]
    price = level[:, None] * p.l1_rate
    low, high = compiled.box_lower.copy(), compiled.box_upper.copy()
    for i in np.flatnonzero(np.isfinite(low) & np.isfinite(high) & (low < high)):
        kinks = np.unique(
            np.concatenate([[low[i], high[i]], np.clip(p.l1_reference[price[:, i] > 0, i], low[i], high[i])])
        )
        value = reduced[i] * kinks + np.abs(kinks - p.l1_reference[:, i][:, None]).T @ price[:, i]
        value = value - value.min()
        fine = np.flatnonzero(value <= room)
        first, last = int(fine[0]), int(fine[-1])
        if first > 0:
            a, b = first - 1, first
            low[i] = kinks[b] - (kinks[b] - kinks[a]) * (room - value[b]) / (value[a] - value[b])
        if last < len(kinks) - 1:
            a, b = last, last + 1
            high[i] = kinks[a] + (kinks[b] - kinks[a]) * (room - value[a]) / (value[b] - value[a])
    slack = 1e-9 * np.maximum(1.0, np.abs(high - low))
    return np.maximum(low - slack, compiled.box_lower), np.minimum(high + slack, compiled.box_upper)


# -- the mixed-integer program -----------------------------------------------------------------------------------------
class _Answer(NamedTuple):
    """What HiGHS said of a mixed-integer program."""

    status: Literal["optimal", "infeasible", "time limit"]
    bound: float  # of the minimised objective
    x: FloatArray | None  # (n,) columns
    pattern: Pattern
    counts: FloatArray | None  # (N,) lots
    nodes: int


class _Model:
    """The minorant of a problem with some scenarios as hinges, for HiGHS.

    Variables: columns of the program; for each CVaR block t and its hinges, in units of a typical loss; for each L1
    block a variable per asset; binaries of the pieces; numbers of lots.

    Parameters
    ----------
    keep
        Scenarios that are hinges, per block.
    at
        Where the sides of the others are read off.
    cutoff
        Only portfolios with a smaller objective than this are of interest.
    tight
        By how much less than what rows and caps allow is asked for, relative to their limits.
    """

    def __init__(
        self,
        compiled: Compiled,
        menu: _Menu,
        keep: list[IntArray],
        at: _Worth,
        *,
        cutoff: float | None,
        size: float,
        tight: float,
        feasibility: bool = False,
    ) -> None:
        self.menu = menu
        self.n = compiled.program.shape[1]
        self._rows: list[tuple[int, Any]] = []
        self._sides: list[tuple[FloatArray, FloatArray]] = []
        self._width = 0
        self._cost: list[FloatArray] = []
        self._low: list[FloatArray] = []
        self._high: list[FloatArray] = []
        self._integer: list[FloatArray] = []
        p = compiled.program
        low, high = p.lower.copy(), p.upper.copy()
        low[: compiled.n_assets], high[: compiled.n_assets] = menu.lower, menu.upper
        self.factor = SIZE / size
        self._columns(p.linear, low, high)
        self.sides: list[BoolArray] = []
        equal = p.row_lower == p.row_upper
        if len(p.rows):
            less = [
                np.where(equal, 0.0, tight * np.maximum(1.0, np.abs(np.nan_to_num(side, posinf=0.0, neginf=0.0))))
                for side in (p.row_lower, p.row_upper)
            ]
            self._add([(0, p.rows)], p.row_lower + less[0], p.row_upper - less[1])
        for b in range(len(p.cvar_level)):
            self._cvar(compiled, b, keep[b], at, tight)
        for a in range(len(p.l1_rate)):
            self._l1(compiled, a, low, high, tight)
        self._choices()
        if cutoff is not None:
            cost = np.concatenate(self._cost)[None] / size
            self._add([(0, cost)], np.array([-np.inf]), np.array([cutoff / size]))
        if feasibility:
            self._cost = [np.zeros_like(c) for c in self._cost]

    def solve(self, gap: float, seconds: float) -> _Answer:
        """HiGHS, to a gap relative to the objective or the end of the time."""
        cost = np.concatenate(self._cost) * self.factor
        parts = [sp.csr_array((r.data, r.indices, r.indptr), shape=(k, self._width)) for k, r in self._rows]
        limits: list[LinearConstraint] = []
        if parts:
            low: Any = np.concatenate([side[0] for side in self._sides])
            high: Any = np.concatenate([side[1] for side in self._sides])
            limits = [LinearConstraint(sp.vstack(parts, format="csr"), low, high)]
        least: Any = np.concatenate(self._low)
        most: Any = np.concatenate(self._high)
        options: dict[str, float] = {"mip_rel_gap": gap}
        if np.isfinite(seconds):
            options["time_limit"] = max(seconds, 0.01)
        found = milp(
            cost,
            integrality=np.concatenate(self._integer),
            bounds=Box(least, most),
            constraints=limits,
            options=options,
        )
        status = {0: "optimal", 2: "infeasible"}.get(int(found.status), "time limit")
        bound = getattr(found, "mip_dual_bound", None)
        bound = -np.inf if bound is None or not np.isfinite(bound) else float(bound) / self.factor
        nodes = int(getattr(found, "mip_node_count", None) or 0)
        none = np.empty(0, np.intp)
        if found.x is None:
            return _Answer(status, bound, None, none, None, nodes)  # type: ignore[arg-type]
        pattern = np.array([p.plain for p in self.menu.pieces])
        for i, pieces, columns in self._binaries:
            chosen = found.x[columns] > 0.5
            if chosen.any():
                pattern[i] = pieces[int(np.argmax(found.x[columns]))]
        counts = None if self._lots is None else np.round(found.x[self._lots])
        return _Answer(status, bound, found.x[: self.n].copy(), pattern, counts, nodes)  # type: ignore[arg-type]

    # -- parts ---------------------------------------------------------------------------------------------------------
    def _columns(self, cost: FloatArray, low: FloatArray, high: FloatArray, *, integer: bool = False) -> int:
        """New columns; returns the number of the first."""
        first = self._width
        self._width += len(cost)
        self._cost.append(np.asarray(cost, dtype=np.float64))
        self._low.append(low)
        self._high.append(high)
        self._integer.append(np.full(len(cost), float(integer)))
        return first

    def _add(self, parts: list[tuple[int, Any]], low: FloatArray, high: FloatArray) -> None:
        """New rows from blocks of coefficients, each with the number of its first column, in increasing order."""
        blocks, at = [], 0
        count = len(low)
        for first, block in parts:
            if first > at:
                blocks.append(sp.csr_array((count, first - at)))
            blocks.append(sp.csr_array(block))
            at = first + blocks[-1].shape[1]
        self._rows.append((count, sp.csr_array(sp.hstack(blocks, format="csr"))))
        self._sides.append((low, high))

    def _cvar(self, compiled: Compiled, b: int, band: IntArray, at: _Worth, tight: float) -> None:
        p = compiled.program
        density, weight, cap = p.cvar_density[b], float(p.cvar_weight[b]), float(p.cvar_cap[b])
        above = (at.losses > at.var[b]) & (density > 0)
        self.sides.append(above)
        if weight == 0 and not np.isfinite(cap):
            return
        unit = _unit(compiled)
        sure = above.copy()
        sure[band] = False
        measure = np.where(sure, density, 0.0)
        level = float(p.cvar_level[b] - measure.sum())
        linear = p.cvar_linear[b] - compiled.source.pull(measure[None])[0]
        k = len(band)
        self._cost[0] = self._cost[0] + weight * linear
        t = self._columns(np.array([weight * level * unit]), np.array([-np.inf]), np.array([np.inf]))
        d = self._columns(weight * density[band] * unit, np.zeros(k), np.full(k, np.inf))
        self._add(
            [(0, compiled.source.rows(band) / unit), (t, np.ones((k, 1))), (d, _eye(k))],
            np.zeros(k),
            np.full(k, np.inf),
        )
        if np.isfinite(cap):
            room = cap / unit - tight * max(1.0, abs(cap / unit))
            row = [(0, linear[None] / unit), (t, np.array([[level]])), (d, density[band][None])]
            self._add(row, np.array([-np.inf]), np.array([room]))

    def _l1(self, compiled: Compiled, a: int, low: FloatArray, high: FloatArray, tight: float) -> None:
        p = compiled.program
        rate, reference, weight, cap = p.l1_rate[a], p.l1_reference[a], float(p.l1_weight[a]), float(p.l1_cap[a])
        if weight == 0 and not np.isfinite(cap):
            return
        used = rate > 0
        above, below = used & (low >= reference), used & (high <= reference)
        # a weight on a known side of its reference needs no variable
        linear = p.l1_linear[a] + np.where(above, rate, np.where(below, -rate, 0.0))
        fixed = float(np.sum(np.where(above, -rate, np.where(below, rate, 0.0)) * reference))
        bent = np.flatnonzero(used & ~above & ~below)
        k = len(bent)
        self._cost[0] = self._cost[0] + weight * linear
        one = self._columns(np.array([weight * fixed]), np.ones(1), np.ones(1))
        e = self._columns(weight * rate[bent], np.zeros(k), np.full(k, np.inf))
        pick = sp.csr_array((np.ones(k), (np.arange(k), bent)), shape=(k, self.n))
        for sign in (1.0, -1.0):
            self._add([(0, -sign * pick), (e, _eye(k))], -sign * reference[bent], np.full(k, np.inf))
        if np.isfinite(cap):
            room = cap - tight * max(1.0, abs(cap))
            row = [(0, linear[None]), (one, np.array([[fixed]])), (e, rate[bent][None])]
            self._add(row, np.array([-np.inf]), np.array([room]))

    def _choices(self) -> None:
        menu = self.menu
        self._binaries: list[tuple[int, list[int], npt.NDArray[np.intp]]] = []
        count = np.zeros(0)
        fixed = 0
        first = self._width
        for i, p in enumerate(menu.pieces):
            plain = p.plain
            others = [k for k in range(len(p.ends)) if k != plain]
            fixed += bool(p.held[plain])
            if not others:
                continue
            y = self._columns(np.zeros(len(others)), np.zeros(len(others)), np.ones(len(others)), integer=True)
            self._binaries.append((i, others, np.arange(y, y + len(others))))
            count = np.append(count, p.held[others].astype(float) - float(p.held[plain]))
            w = sp.csr_array(([1.0], ([0], [i])), shape=(1, self.n))
            for side, (low, high) in ((0, (p.ends[plain, 0], np.inf)), (1, (-np.inf, p.ends[plain, 1]))):
                row = (p.ends[plain, side] - p.ends[others, side])[None]
                self._add([(0, w), (y, row)], np.array([low]), np.array([high]))
            if len(others) > 1:
                self._add([(y, np.ones((1, len(others))))], np.array([-np.inf]), np.ones(1))
        if menu.most is not None and len(count):
            self._add([(first, count[None])], np.array([-np.inf]), np.array([float(menu.most - fixed)]))
        self._lots: slice | None = None
        if menu.lots.any():
            lot = menu.lot
            low, high = np.round(menu.lower / lot), np.round(menu.upper / lot)
            n = len(lot)
            z = self._columns(np.zeros(n), low, high, integer=True)
            self._lots = slice(z, z + n)
            eye = sp.csr_array((1.0 / lot, (np.arange(n), np.arange(n))), shape=(n, self.n))
            self._add([(0, eye), (z, -_eye(n))], np.zeros(n), np.zeros(n))


def _eye(count: int) -> Any:
    return sp.eye_array(count, format="csr")


# -- why there is none -------------------------------------------------------------------------------------------------
def integer_conflict(problem: Problem, seconds: float = 10.0) -> tuple[str, ...]:
    """Names of constraints that cannot hold together, though without any one of them the others can.

    Each constraint is left out in turn, and stays out where the rest is still proven to be infeasible. Empty where the
    whole problem is not proven to be.

    Parameters
    ----------
    problem
        The problem, whose constraints include integer ones.
    seconds
        Time for each of the proofs; a constraint about which none is found in time stays in.
    """
    kept = list(problem.constraints)
    if _possible(problem.compiled, seconds):
        return ()
    for constraint in problem.constraints:
        others = [c for c in kept if c is not constraint]
        if not _possible(problem.replace(constraints=others).compiled, seconds):
            kept = others
    return tuple(c.name for c in kept)


def _possible(compiled: Compiled, seconds: float) -> bool:
    """Whether a portfolio that meets all constraints may exist; False is proven."""
    menu = _menu(compiled, far=FAR)
    search = _Search(compiled, menu, 1e-6, seconds)
    if search._visible() is not None:
        return False
    x = compiled.program.start.copy()
    x[: search.n] = np.clip(x[: search.n], menu.lower, menu.upper)
    at = _worth(compiled, x)
    live = [np.flatnonzero(d > 0) for d in compiled.program.cvar_density]
    keep = search._near([np.empty(0, np.intp)] * len(live), live, at, 10 * BAND)
    model = _Model(compiled, menu, keep, at, cutoff=None, size=1.0, tight=0.0, feasibility=True)
    return model.solve(0.0, seconds).status != "infeasible"


def _lots_clash(compiled: Compiled, menu: _Menu) -> str | None:
    """An equality that whole lots never meet, in words: their sums are multiples of a common divisor."""
    if not menu.lots.all():
        return None
    p, n = compiled.program, compiled.n_assets
    for row in np.flatnonzero((p.row_lower == p.row_upper) & ~p.rows[:, n:].any(axis=1)):
        steps = [_fraction(v) for v in (p.rows[row, :n] * menu.lot) if v]
        if not steps or None in steps:
            continue
        whole = [s for s in steps if s is not None]
        below = lcm(*(s.denominator for s in whole))
        step = gcd(*(abs(s.numerator) * (below // s.denominator) for s in whole)) / below
        total = float(p.row_lower[row])
        if step < 1e-6 or abs(total - step * round(total / step)) <= 1e-8 * max(1.0, abs(total)):
            continue
        lots = next(c.name for c in compiled.integer if isinstance(c, RoundLots))
        other = next(
            (
                g.names[int(np.flatnonzero(g.index == row)[0])]
                for g in compiled.lines
                if g.kind == "row" and row in g.index
            ),
            "an equality",
        )
        return (
            f"{other} and {lots} contradict each other: whole lots add up to multiples of {step:g}, never to exactly "
            f"{total:g}. Give the sum a range, such as Budget(lower=0.98, upper=1.0), and let the rest be cash"
        )
    return None


def _fraction(value: float) -> Fraction | None:
    """The fraction with a small denominator that a number is, if it is one."""
    near = Fraction(float(value)).limit_denominator(10**6)
    return near if abs(float(near) - value) <= 4e-16 * max(1.0, abs(value)) else None

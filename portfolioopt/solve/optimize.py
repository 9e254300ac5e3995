"""The door: a problem goes in, a certified result comes out, or an error that says why not."""

from __future__ import annotations

import time
from dataclasses import replace
from numbers import Integral, Real
from typing import Literal

import numpy as np
import pandas as pd

from portfolioopt.errors import InfeasibleError, InputError, SolveError, StalledError, UnboundedError
from portfolioopt.problem import Compiled, Problem, Ratio
from portfolioopt.scenarios import ScenarioSet
from portfolioopt_kernels import CONVERGED, ITERATION_LIMIT, HingeProgram

from .basis import Basis
from .certificate import Certificate, Evaluation, evaluate
from .curved import by_tangents
from .diagnose import Diagnosis, crossed_limits, diagnose
from .methods import Attempt, Guess, by_interior_point, by_vertices, nothing
from .ratio import maximise_ratio
from .result import Result, Status, Timings

VIOLATION_TOLERANCE = 1e-8
ITERATIONS = 100_000


_TANGENTS = "Newton on hinges, bound by tangents"


def optimize(
    problem: Problem,
    *,
    warm_start: Result | None = None,
    tolerance: float = 1e-6,
    max_iterations: int = ITERATIONS,
    time_limit: float | None = None,
    backend: Literal["kernel", "cvxpy"] = "kernel",
    solver: str | None = None,
    raise_on_failure: bool = True,
) -> Result:
    r"""Maximise the problem's objective and certify the answer.

    Parameters
    ----------
    problem
        What to solve.
    warm_start
        Result of a similar problem with the same assets: its vertex is where the search begins, so that an unchanged
        answer is only verified. Scenarios are recognised by their labels. It changes the time, never the answer's
        certificate.
    tolerance
        Largest relative gap, objective to proven bound, at which the answer counts as optimal. The solver ends at a
        vertex, so a typical gap is rounding.
    max_iterations
        Pivots after which the solver gives up.
    time_limit
        Seconds after which branch and bound ends with what it has, where there are integer constraints; None for none.
    backend
        ``"kernel"``: the library's own solvers, whichever fits; `Result.engine` says which it was. ``"cvxpy"``: the
        problem as a general solver sees it, for a second opinion; its weights are measured and bounded like any others.
    solver
        For cvxpy, as it calls them (``"CLARABEL"``, ``"SCS"``, ``"MOSEK"``); one that fits where None.
    raise_on_failure
        Raise when the status is not `optimal`; with False the result is returned with its status and message.

    Returns
    -------
    Result
        Weights, certificate, risk, constraint report and timings. `optimal` means: gap at most `tolerance` and no
        constraint violated by more than 1e-8 (relative), both recomputed from the weights.

    Raises
    ------
    InfeasibleError
        No portfolio meets the constraints; names those that clash.
    UnboundedError
        The objective can grow for ever; gives a direction.
    StalledError
        The tolerance was not reached; carries the best result found.
    """
    if not isinstance(problem, Problem):
        raise InputError(f"optimize takes a Problem, was given {type(problem).__name__}")
    if not isinstance(tolerance, Real) or not 1e-12 <= tolerance <= 1e-2:
        raise InputError(f"tolerance must lie between 1e-12 and 1e-2 (relative), was {tolerance!r}")
    if not isinstance(max_iterations, Integral) or isinstance(max_iterations, bool) or max_iterations < 1:
        raise InputError(f"max_iterations must be at least 1, was {max_iterations!r}")
    if time_limit is not None and (not isinstance(time_limit, Real) or not time_limit > 0):
        raise InputError(f"time_limit must be a positive number of seconds, was {time_limit!r}")
    if backend not in ("kernel", "cvxpy"):
        raise InputError(f"backend must be 'kernel' or 'cvxpy', was {backend!r}")
    if solver is not None and backend == "kernel":
        raise InputError(f"solver={solver!r} is for backend='cvxpy'")
    if backend == "cvxpy":
        return _by_cvxpy(problem, solver, tolerance, time_limit, raise_on_failure)
    if problem.ratio is not None:
        return _ratio(problem, problem.ratio, warm_start, tolerance, max_iterations, raise_on_failure)
    start = time.perf_counter()
    guess = None if warm_start is None else _guess(problem, warm_start)

    clash = crossed_limits(problem)
    if clash is not None:
        return _failed(problem, clash, Timings(0.0, 0.0, 0.0, time.perf_counter() - start), raise_on_failure)

    search = _Search(problem, tolerance)
    if problem.compiled.integer:
        return _by_branching(problem, search, guess, time_limit, start, raise_on_failure)
    if problem.compiled.curves:
        found = by_tangents(problem.compiled, search.aim, tolerance, max_iterations, guess, patient=False)
        search.consider(found.attempt, _TANGENTS, found.compiled)
        if found.hopeless and not search.certified:
            clash = diagnose(problem, search.columns)
            if clash is not None:
                return _failed(problem, clash, search.timings(start), raise_on_failure, search.iterations)
            found = by_tangents(problem.compiled, search.aim, tolerance, max_iterations, guess)
            search.consider(found.attempt, _TANGENTS, found.compiled)
    else:
        search.consider(by_vertices(problem.compiled, search.aim, max_iterations, guess), "vertex descent")
    if not search.certified:
        diagnosis = diagnose(problem, search.columns)
        if diagnosis is not None:
            return _failed(problem, diagnosis, search.timings(start), raise_on_failure, search.iterations)
        others = (
            iter(())
            if problem.compiled.curves
            else by_interior_point(problem.compiled, search.aim, max_iterations - search.iterations)
        )
        for attempt in others:
            search.consider(attempt, "interior point" if attempt.basis is None else "interior point, vertex")
            if search.certified:
                break
    return search.result(start, raise_on_failure)


def _ratio(
    problem: Problem, ratio: Ratio, warm_start: Result | None, tolerance: float, limit: int, raise_on_failure: bool
) -> Result:
    def solve(one: Problem, before: Result | None) -> Result:
        begin = before if before is not None else warm_start
        return optimize(one, warm_start=begin, tolerance=max(1e-3 * tolerance, 1e-12), max_iterations=limit)

    try:
        return maximise_ratio(problem, ratio, tolerance, solve)
    except SolveError as error:
        if raise_on_failure or not isinstance(error.result, Result):
            raise
        return error.result


def _by_branching(
    problem: Problem,
    search: _Search,
    guess: Guess | None,
    time_limit: float | None,
    start: float,
    raise_on_failure: bool,
) -> Result:
    """The answer of branch and bound; its bound holds for all that meets the integer constraints."""
    from .mixed_integer import integer_conflict, solve_mixed_integer  # brings scipy.optimize along, which is slow

    found = solve_mixed_integer(problem.compiled, gap=search.tolerance, time_limit=time_limit, guess=guess)
    if found.attempt is None or found.fixed is None:
        if found.status == "infeasible":
            # what clashes without counting says more: how far it would have to move
            verdict = diagnose(problem)
            if verdict is None or verdict.status is not Status.infeasible:
                verdict = Diagnosis(Status.infeasible, found.message, integer_conflict(problem))
            return _failed(problem, verdict, search.timings(start), raise_on_failure)
        result = Result(problem, Status.stalled, found.message, search.timings(start), engine="branch and bound")
        if raise_on_failure:
            raise StalledError(found.message, result=result)
        return result
    search.consider(found.attempt, f"branch and bound ({found.nodes} nodes)", found.fixed, found.bound)
    return search.result(start, raise_on_failure, found.message)


def _by_cvxpy(
    problem: Problem, solver: str | None, tolerance: float, time_limit: float | None, raise_on_failure: bool
) -> Result:
    """A general solver's weights, measured like any others and bounded by the multipliers of the library's own."""
    from portfolioopt import reference

    if problem.ratio is not None:
        raise InputError("a ratio is no cvxpy problem; portfolioopt.reference.solve takes it, by a sequence of them")
    start = time.perf_counter()
    found = reference.solve(problem, solver=solver, tolerance=max(min(1e-3 * tolerance, 1e-7), 1e-12))
    search = _Search(problem, tolerance)
    if found.weights is None:
        status = {"infeasible": Status.infeasible, "unbounded": Status.unbounded}.get(found.status, Status.stalled)
        verdict = Diagnosis(status, f"{found.solver} through cvxpy says: {found.message or found.status}")
        return _failed(problem, verdict, search.timings(start), raise_on_failure)
    own = optimize(problem, tolerance=tolerance, time_limit=time_limit, raise_on_failure=False)
    if own.columns is None or own.certificate is None:
        raise StalledError(
            f"{found.solver} through cvxpy found weights, but the library's own solver has no bound: {own.message}",
            result=own,
        )
    compiled = problem.compiled
    columns = np.append(found.weights, own.columns[compiled.n_assets :])
    nothing_known = nothing(compiled, columns, CONVERGED)
    attempt = Attempt(nothing_known, None, 0, 0.0, 0.0, found.seconds)
    search.consider(attempt, f"{found.solver} through cvxpy, bound by {own.engine}", None, own.certificate.bound)
    return search.result(start, raise_on_failure)


def _moved(basis: Basis, before: ScenarioSet, after: ScenarioSet) -> Basis | None:
    """The basis with every scenario where its label is now; without labels, where its returns are."""
    if before is after or before.source is after.source:
        return basis
    old, new = before.index, after.index
    if isinstance(old, pd.RangeIndex) and old.equals(new):
        if before.source.matrix is None or after.source.matrix is None or not len(basis.scenarios):
            return basis
        last = int(basis.scenarios[-1])
        row, matrix = before.source.matrix[last], after.source.matrix
        same = np.flatnonzero(matrix[:, 0] == row[0])
        same = same[(matrix[same] == row).all(axis=1)]
        shift = 0 if not len(same) or (same == last).any() else int(same[np.abs(same - last).argmin()]) - last
        moved = np.arange(len(old)) + shift
        return basis if shift == 0 else basis.renumbered(np.where((moved >= 0) & (moved < len(new)), moved, -1))
    if old.equals(new):
        return basis
    return basis.renumbered(new.get_indexer(old)) if old.is_unique and new.is_unique else None


def tidy(weights: np.ndarray, program: HingeProgram) -> np.ndarray:
    """Weights within their bounds, and exactly at a reference that only rounding keeps them from."""
    weights = np.clip(np.nan_to_num(weights), program.lower, program.upper)
    for reference in program.l1_reference:
        weights = np.where(np.abs(weights - reference) <= 1e-14, reference, weights)
    return weights


class _Search:
    """Attempts at one problem, and the best of them."""

    def __init__(self, problem: Problem, tolerance: float) -> None:
        self.problem = problem
        self.tolerance = tolerance
        self.aim = max(min(tolerance * 1e-3, 1e-9), 1e-12)
        self.iterations = 0
        self.engine = ""
        self._compile = self._solve = self._certify = 0.0
        self._best: tuple[Attempt, np.ndarray, Evaluation] | None = None

    def consider(self, attempt: Attempt, engine: str, compiled: Compiled | None = None, bound: float = np.inf) -> None:
        """Certify an attempt, by the program its multipliers belong to, and keep it if it is the best so far.

        `bound` is what else is known about the maximised objective.
        """
        start = time.perf_counter()
        compiled = self.problem.compiled if compiled is None else compiled
        weights = tidy(attempt.solution.weights, compiled.program)
        evaluation = evaluate(compiled, weights, attempt.solution)
        if np.isfinite(bound):
            c = evaluation.certificate
            bounded = replace(c, bound=bound, gap=(bound - c.objective) / c.scale)
            evaluation = replace(evaluation, certificate=bounded)
        if self._best is None or self._merit(evaluation.certificate) < self._merit(self._best[2].certificate):
            self._best, self.engine = (attempt, weights, evaluation), engine
        self._certify += time.perf_counter() - start
        self._compile += attempt.compile_seconds
        self._solve += attempt.solve_seconds
        self.iterations += attempt.iterations

    def _merit(self, c: Certificate) -> float:
        worst = max(abs(c.gap) / self.tolerance, c.max_violation / VIOLATION_TOLERANCE)
        return worst if np.isfinite(worst) else np.inf

    @property
    def columns(self) -> np.ndarray:
        """Where the search is."""
        assert self._best is not None
        return self._best[1]

    @property
    def certified(self) -> bool:
        """Whether the best attempt is good enough."""
        return self._best is not None and self._merit(self._best[2].certificate) <= 1.0

    def timings(self, start: float) -> Timings:
        """Seconds so far, for a call that began at `start`."""
        return Timings(self._compile, self._solve, self._certify, time.perf_counter() - start)

    def result(self, start: float, raise_on_failure: bool, why: str = "") -> Result:
        """The best attempt as a result, or the error that it fell short, for the reason given if there is one."""
        assert self._best is not None
        attempt, weights, evaluation = self._best
        c = evaluation.certificate
        if self.certified:
            status, message = Status.optimal, f"optimal, certified to a relative gap of {max(c.gap, 0.0):.1e}"
        else:
            limit = int(attempt.solution.status) == ITERATION_LIMIT
            stopped = "after max_iterations" if limit else "making no more progress"
            worst = f" of {c.worst_constraint}" if c.worst_constraint else ""
            status = Status.stalled
            message = (
                f"the solver stopped {stopped}: relative gap {c.gap:.1e} (wanted {self.tolerance:.1e}), largest "
                f"violation {c.max_violation:.1e}{worst}. Look for badly scaled data or nearly contradictory limits, "
                "allow more iterations, or accept this gap by a larger tolerance"
            )
            if why:
                message = f"{why}; relative gap {c.gap:.1e} (wanted {self.tolerance:.1e})"
        result = Result(
            self.problem,
            status,
            message,
            self.timings(start),
            columns=weights,
            evaluation=evaluation,
            iterations=self.iterations,
            passes=attempt.passes,
            basis=attempt.basis,
            engine=self.engine,
        )
        if status is Status.stalled and raise_on_failure:
            raise StalledError(message, result=result)
        return result


def _guess(problem: Problem, previous: Result) -> Guess | None:
    """What a previous result says about where the answer lies."""
    if not isinstance(previous, Result):
        raise InputError(f"warm_start takes a Result, was given {type(previous).__name__}")
    if not previous.problem.scenarios.assets.equals(problem.scenarios.assets):
        raise InputError("warm_start is a result over other assets; only one over the same assets, in order, can help")
    if previous.weights is None:
        return None
    assert previous.columns is not None
    old, new = previous.problem.compiled, problem.compiled
    price, basis, columns = np.zeros(len(new.program.cvar_cap)), None, previous.columns
    same = old.levels == new.levels and old.program.shape[1:] == new.program.shape[1:]
    if same:
        price = previous.cap_prices
    if len(columns) != new.program.shape[1]:
        columns = np.append(columns[: new.n_assets], new.program.start[new.n_assets :])
    if previous.basis is not None and same and ((old.own_rows and new.own_rows) or old.source is new.source):
        basis = _moved(previous.basis, previous.problem.scenarios, problem.scenarios)
    return Guess(columns, basis, price)


def _failed(
    problem: Problem, diagnosis: Diagnosis, timings: Timings, raise_on_failure: bool, iterations: int = 0
) -> Result:
    result = Result(
        problem,
        diagnosis.status,
        diagnosis.message,
        timings,
        iterations=iterations,
        conflict=diagnosis.conflict,
        relaxations=diagnosis.relaxations,
        nearest=diagnosis.nearest,
        direction=diagnosis.direction,
    )
    if not raise_on_failure:
        return result
    error: SolveError
    if diagnosis.status is Status.unbounded:
        error = UnboundedError(diagnosis.message, result=result, direction=diagnosis.direction)
    else:
        error = InfeasibleError(
            diagnosis.message,
            result=result,
            conflict=diagnosis.conflict,
            relaxations=diagnosis.relaxations,
            nearest=diagnosis.nearest,
        )
    raise error

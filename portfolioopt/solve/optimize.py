"""The door: a problem goes in, a certified result comes out, or an error that says why not."""

from __future__ import annotations

import time
from numbers import Integral, Real

import numpy as np
import pandas as pd

from portfolioopt.errors import InfeasibleError, InputError, SolveError, StalledError, UnboundedError
from portfolioopt.problem import Problem
from portfolioopt_kernels import ITERATION_LIMIT, Settings

from .certificate import Evaluation, evaluate
from .diagnose import Diagnosis, crossed_limits, diagnose
from .engine import Run, run
from .polish import polish
from .result import Result, Status, Timings

VIOLATION_TOLERANCE = 1e-8


def optimize(
    problem: Problem,
    *,
    tolerance: float = 1e-6,
    max_iterations: int = 200,
    raise_on_failure: bool = True,
) -> Result:
    r"""Maximise the problem's objective and certify the answer.

    Parameters
    ----------
    problem
        What to solve.
    tolerance
        Largest relative gap, objective to proven bound, at which the answer counts as optimal. The solver aims four
        orders of magnitude lower, so a typical gap is far smaller.
    max_iterations
        Newton steps after which the solver gives up.
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
    start = time.perf_counter()
    compiled = problem.compiled

    clash = crossed_limits(problem)
    if clash is not None:
        return _failed(problem, clash, Timings(0.0, 0.0, 0.0, time.perf_counter() - start), raise_on_failure)

    inner = max(min(tolerance * 1e-4, 1e-10), 1e-12)
    attempt = run(compiled.program, Settings(inner, 1e-10, max_iterations))
    certify_start = time.perf_counter()
    weights, evaluation = _best(problem, attempt)
    certify = time.perf_counter() - certify_start

    def timings() -> Timings:
        return Timings(attempt.compile_seconds, attempt.solve_seconds, certify, time.perf_counter() - start)

    c = evaluation.certificate
    series = pd.Series(weights, index=problem.scenarios.assets, name="weight")
    iterations = int(attempt.solution.iterations)
    if abs(c.gap) <= tolerance and c.max_violation <= VIOLATION_TOLERANCE:
        message = f"optimal, certified to a relative gap of {max(c.gap, 0.0):.1e}"
        return Result(
            problem,
            Status.optimal,
            message,
            timings(),
            weights=series,
            evaluation=evaluation,
            iterations=iterations,
        )
    diagnosis = diagnose(problem)
    if diagnosis is not None:
        return _failed(problem, diagnosis, timings(), raise_on_failure, iterations)
    stopped = "after max_iterations" if int(attempt.solution.status) == ITERATION_LIMIT else "making no more progress"
    worst = f" of {c.worst_constraint}" if c.worst_constraint else ""
    message = (
        f"the solver stopped {stopped}: relative gap {c.gap:.1e} (wanted {tolerance:.1e}), largest violation "
        f"{c.max_violation:.1e}{worst}. Look for badly scaled data or nearly contradictory limits, allow more "
        "iterations, or accept this gap by a larger tolerance"
    )
    result = Result(
        problem,
        Status.stalled,
        message,
        timings(),
        weights=series,
        evaluation=evaluation,
        iterations=iterations,
    )
    if raise_on_failure:
        raise StalledError(message, result=result)
    return result


def _best(problem: Problem, attempt: Run) -> tuple[np.ndarray, Evaluation]:
    """The kernel's point moved onto its active set where that is no worse, with its certificate."""
    compiled = problem.compiled
    p = compiled.program
    raw = np.clip(np.nan_to_num(attempt.solution.weights), p.lower, p.upper)
    first = evaluate(compiled, raw, attempt.solution)
    moved = polish(compiled, raw, attempt.solution, first)
    if moved is None:
        return raw, first
    second = evaluate(compiled, moved, attempt.solution)
    slack = 1e-11 * first.certificate.scale
    clean = second.certificate.max_violation <= max(first.certificate.max_violation, 1e-12)
    if clean and second.certificate.objective >= first.certificate.objective - slack:
        return moved, second
    return raw, first


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
    )
    if not raise_on_failure:
        return result
    error: SolveError
    if diagnosis.status is Status.unbounded:
        error = UnboundedError(diagnosis.message, result=result, direction=diagnosis.direction)
    else:
        error = InfeasibleError(diagnosis.message, result=result, conflict=diagnosis.conflict)
    raise error

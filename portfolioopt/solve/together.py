"""Several problems in one call: those on the same scenarios are solved as neighbours, in one kernel."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from portfolioopt.errors import InputError
from portfolioopt.problem import Compiled, Problem
from portfolioopt_kernels import CONVERGED, Solution

from .certificate import evaluate
from .engine import Chain
from .optimize import VIOLATION_TOLERANCE, optimize, tidy
from .result import Result, Status, Timings

CHUNK = 32  # problems solved in one call of a kernel
CELLS = 2_000_000  # returns up to which neighbours are solved with all scenarios, one after the other
_FEW = 4  # fewer than these are not worth a kernel of their own


def optimize_many(
    problems: Sequence[Problem], *, warm_start: Sequence[Result | None] | None = None, tolerance: float = 1e-6
) -> list[Result]:
    """Solve and certify several problems.

    Those of the same structure on the same scenario set follow each other in one kernel, each from the vertex of the
    one before; give neighbours in an order in which little changes from one to the next. The others are solved one by
    one.

    Parameters
    ----------
    problems
        Any problems.
    warm_start
        For each a result of a similar problem with the same assets, or None; see :func:`optimize`.
    tolerance
        As for :func:`optimize`.

    Returns
    -------
    list of Result
        In the order of the problems. Infeasible, unbounded and stalled ones raise nothing: their status says so.
    """
    starts = [None] * len(problems) if warm_start is None else list(warm_start)
    if len(starts) != len(problems):
        raise InputError(f"warm_start has {len(starts)} results for {len(problems)} problems")
    found: dict[int, Result] = {}
    groups: dict[Any, list[int]] = {}
    for i, problem in enumerate(problems):
        if chainable(problem):
            groups.setdefault((id(problem.scenarios.source), structure(problem.compiled)), []).append(i)
    for members in groups.values():
        if len(members) >= _FEW:
            found |= _in_a_row(problems, members, tolerance)
    for i, (problem, start) in enumerate(zip(problems, starts, strict=True)):
        if i not in found:
            usable = start is not None and start.problem.scenarios.assets.equals(problem.scenarios.assets)
            found[i] = optimize(
                problem, warm_start=start if usable else None, tolerance=tolerance, raise_on_failure=False
            )
    return [found[i] for i in range(len(problems))]


def chainable(problem: Problem, scenarios: int | None = None) -> bool:
    """Whether the kernel that goes from vertex to vertex takes a problem with all its scenarios, or so many of them."""
    if problem.ratio is not None:
        return False
    compiled = problem.compiled
    plain = compiled.own_rows and not compiled.curves and not compiled.integer and len(compiled.program.cvar_level) > 0
    source = problem.scenarios.source
    s, n = source.shape
    return plain and source.matrix is not None and (s if scenarios is None else scenarios) * n <= CELLS


def structure(compiled: Compiled) -> tuple[Any, ...]:
    """What has to agree between problems that one kernel solves in a row."""
    p = compiled.program
    capped = bool(np.isfinite(p.cvar_cap).any() or np.isfinite(p.l1_cap).any())
    return (*p.shape, capped)


def good_enough(compiled: Compiled, solution: Solution, tolerance: float) -> tuple[np.ndarray, Any] | None:
    """Weights of a solution, and what they are worth; None where the certificate falls short."""
    if int(solution.status) != CONVERGED:
        return None
    weights = tidy(solution.weights, compiled.program)
    evaluation = evaluate(compiled, weights, solution)
    c = evaluation.certificate
    certified = abs(c.gap) <= tolerance and c.max_violation <= VIOLATION_TOLERANCE
    return (weights, evaluation) if certified else None


def _in_a_row(problems: Sequence[Problem], members: list[int], tolerance: float) -> dict[int, Result]:
    """Those of some problems on one scenario set that are certified."""
    begin = time.perf_counter()
    first = problems[members[0]]
    chain = Chain(first.compiled, np.asarray(first.scenarios.source.matrix), windows=False)
    state: Any = None
    solutions: list[Solution] = []
    for at in range(0, len(members), CHUNK):
        part = members[at : at + CHUNK]
        more, state = chain.run([problems[i].compiled for i in part], None, state, CHUNK)
        solutions += more
    each = (time.perf_counter() - begin) / len(members)
    found = {}
    for i, solution in zip(members, solutions, strict=True):
        start = time.perf_counter()
        good = good_enough(problems[i].compiled, solution, tolerance)
        if good is None:
            continue
        weights, evaluation = good
        spent = time.perf_counter() - start
        found[i] = Result(
            problems[i],
            Status.optimal,
            f"optimal, certified to a relative gap of {max(evaluation.certificate.gap, 0.0):.1e}",
            Timings(0.0, each, spent, each + spent),
            columns=weights,
            evaluation=evaluation,
            iterations=int(solution.iterations),
            passes=float(solution.iterations),
            engine="vertex descent, in a row",
        )
    return found

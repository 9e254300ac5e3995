"""Several problems in one call."""

from __future__ import annotations

from collections.abc import Sequence

from portfolioopt.errors import InputError
from portfolioopt.problem import Problem

from .optimize import optimize
from .result import Result


def optimize_many(
    problems: Sequence[Problem], *, warm_start: Sequence[Result | None] | None = None, tolerance: float = 1e-6
) -> list[Result]:
    """Solve and certify several problems; those that share scenarios are solved as neighbours.

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
    results = []
    for problem, start in zip(problems, starts, strict=True):
        usable = start is not None and start.problem.scenarios.assets.equals(problem.scenarios.assets)
        results.append(
            optimize(problem, warm_start=start if usable else None, tolerance=tolerance, raise_on_failure=False)
        )
    return results

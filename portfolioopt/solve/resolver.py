"""Solving one problem again and again, as a backtest does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from portfolioopt.errors import InputError
from portfolioopt.problem import Problem

from .axes import axis, changed
from .optimize import optimize
from .result import Result


class Resolver:
    """A problem that keeps changing a little; every solve begins at the vertex of the last one.

    Shapes that stay the same never compile again. An answer that stays the same is only verified.

    Parameters
    ----------
    problem
        The first problem.
    options
        As for :func:`optimize`: `tolerance`, `max_iterations`, `raise_on_failure`.
    """

    def __init__(self, problem: Problem, **options: Any) -> None:
        if not isinstance(problem, Problem):
            raise InputError(f"Resolver takes a Problem, was given {type(problem).__name__}")
        if "warm_start" in options:
            raise InputError("a Resolver begins where it last ended; it takes no warm_start")
        self.problem = problem
        """The problem as it is now."""
        self.result: Result | None = None
        """The last result that has weights."""
        self._options = options

    def solve(self, changes: Mapping[str, Any] | None = None) -> Result:
        """Change some inputs for good and solve.

        Parameters
        ----------
        changes
            New values by name, as in :func:`sweep`: ``{"scenarios": ..., "holdings": ..., "Turnover.limit": 0.1}``.
            Scenarios with dates are recognised by them when a window moves on.

        Raises
        ------
        InputError
            For unknown names and refused values; nothing is changed then. SolveError as :func:`optimize`.
        """
        if changes:
            new = [(axis(self.problem, name, {"new": value}), 0) for name, value in changes.items()]
            self.problem = changed(self.problem, new)
        result = optimize(self.problem, warm_start=self.result, **self._options)
        if result.weights is not None:
            self.result = result
        return result

"""A problem as a cvxpy one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from portfolioopt.errors import InputError
from portfolioopt.problem import Problem

from .constraints import constrain
from .measures import total
from .model import Integers, Model

if TYPE_CHECKING:
    import cvxpy as cp

ExtraObjective: TypeAlias = Callable[[Any], Any]
ExtraConstraints: TypeAlias = Callable[[Any], Iterable[Any]]


@dataclass(frozen=True)
class CvxpyProblem:
    """A problem written out for cvxpy."""

    problem: cp.Problem
    """Maximises ``objective / scale``."""
    weights: cp.Variable
    """(N,), in the order of the scenarios' assets."""
    objective: cp.Expression
    """In the units of the library. Its value after a solve is the optimum; its parts may be slack where they do not
    matter, so measure a portfolio by the library."""
    scale: float
    """A typical value of the objective's largest term: solvers' tolerances are absolute, and see a problem of size
    one."""
    integers: tuple[Integers, ...]
    """Variables of integer constraints."""


def as_cvxpy(
    problem: Problem,
    *,
    extra_objective: ExtraObjective | None = None,
    extra_constraints: ExtraConstraints | None = None,
) -> CvxpyProblem:
    """Write a problem out for cvxpy, which is optional: ``pip install 'portfolioopt[reference]'``.

    Every measure and constraint is translated from its definition, independently of how the library's own solver
    takes it. Returns are divided by their root mean square, limits and objective by typical values.

    Parameters
    ----------
    problem
        What to translate; not a ratio, which :func:`solve` takes.
    extra_objective
        Function of the weights (a `cvxpy.Variable` (N,), ordered like the assets) that returns one more concave
        expression to maximise, in the units of the objective.
    extra_constraints
        Function of the weights that returns more cvxpy constraints.

    Raises
    ------
    InputError
        Where cvxpy is missing, returns are not in memory, nothing limits a weight that integer constraints are about,
        or the objective is a ratio.
    """
    if not isinstance(problem, Problem):
        raise InputError(f"as_cvxpy takes a Problem, was given {type(problem).__name__}")
    if problem.ratio is not None:
        raise InputError(
            f"{problem.ratio} is not concave, so cvxpy has no such objective: portfolioopt.reference.solve maximises "
            "it by a sequence of differences; or translate the numerator less a multiple of the denominator"
        )
    model = Model(problem)
    objective = total(problem.objective, model)
    return finished(model, objective, extra_objective, extra_constraints)


def finished(
    model: Model, objective: Any, extra_objective: ExtraObjective | None, extra_constraints: ExtraConstraints | None
) -> CvxpyProblem:
    """Constraints and extras added to an objective that is already translated."""
    cp, problem = model.cp, model.problem
    hard, price = constrain(problem.constraints, model)
    scale = max((abs(c) * model.term_size(term) for c, term in problem.objective.parts), default=0.0) or 1.0
    objective = objective - price
    if extra_objective is not None:
        objective = objective + extra_objective(model.w)
    more = [] if extra_constraints is None else list(extra_constraints(model.w))
    rules = [*hard, *model.rules, *more]
    return CvxpyProblem(
        cp.Problem(cp.Maximize(objective / scale), rules), model.w, objective, scale, tuple(model.integers)
    )

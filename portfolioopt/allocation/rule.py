"""Portfolios that a rule defines rather than an optimum, as results: certified by how exactly they follow the rule."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError, StalledError
from portfolioopt.estimate import FactorCovariance
from portfolioopt.estimate.quadratic import QuadraticForm
from portfolioopt.labels import FloatArray, some
from portfolioopt.problem import Bounds, Budget, Problem
from portfolioopt.problem.constraints import CONSTRAINT_TYPES, Constraint
from portfolioopt.problem.lowering import Canvas, Shape
from portfolioopt.problem.terms import Term, View
from portfolioopt.scenarios import ScenarioSet
from portfolioopt.solve import Certificate, Result, Status, Timings
from portfolioopt.solve.certificate import evaluate
from portfolioopt.solve.methods import nothing
from portfolioopt_kernels import CONVERGED

TOLERANCE = 1e-8  # relative deviation from a rule, and violation of limits, at which a portfolio counts as exact


@dataclass(frozen=True, eq=False)
class Deviation(Term):
    """How far weights are from what a rule demands, relative to it; zero where the rule is met."""

    rule: str
    """What the rule is called."""
    measure: Callable[[FloatArray], float]
    """The deviation of weights (N,), recomputed from them and not from how they were found."""

    def shape(self, canvas: Canvas) -> Shape:
        return Shape(canvas.constant(0.0))

    def value(self, view: View) -> float:
        return float(self.measure(view.weights))

    def __repr__(self) -> str:
        return f"Deviation({self.rule!r})"


def by_rule(
    scenarios: ScenarioSet,
    rule: str,
    weights: FloatArray,
    deviation: Callable[[FloatArray], float],
    *,
    start: float,
    constraints: Iterable[Constraint] | None = None,
    details: Mapping[str, Any] | None = None,
    iterations: int = 0,
    tolerance: float = TOLERANCE,
) -> Result:
    """The result for weights that a rule has found.

    Its objective is the deviation from the rule with a minus sign, the bound is zero and the gap the deviation itself.

    Parameters
    ----------
    scenarios
        What the rule looked at, and what risk is reported with.
    rule
        Its name, for messages.
    weights
        Weights (N,) in the order of the assets.
    deviation
        Recomputes from weights how far they are from the rule, relative to it.
    start
        `time.perf_counter()` when the call began.
    constraints
        Limits that the weights were found under; fully invested and long only where None.
    details
        What else was found, for `Result.details`.

    Raises
    ------
    StalledError
        For weights that do not follow the rule, or break a limit, by more than the tolerance.
    """
    limits = (Budget(1.0), Bounds(0.0, 1.0)) if constraints is None else tuple(constraints)
    problem = Problem(scenarios, -1.0 * Deviation(rule, deviation), limits)
    found = time.perf_counter()
    compiled = problem.compiled
    evaluation = evaluate(compiled, weights, nothing(compiled, weights, CONVERGED))
    c = evaluation.certificate
    off = abs(c.objective)
    evaluation = replace(
        evaluation,
        certificate=Certificate(-off, 0.0, off, 1.0, c.max_violation, c.worst_constraint, None),
    )
    exact = off <= tolerance and c.max_violation <= TOLERANCE
    worst = f"; {c.worst_constraint} is violated by {c.max_violation:.1e}" if c.max_violation > TOLERANCE else ""
    message = f"{rule}, met to {off:.1e} (relative)" if exact else f"{rule} is missed by {off:.1e} (relative){worst}"
    end = time.perf_counter()
    result = Result(
        problem,
        Status.optimal if exact else Status.stalled,
        message,
        Timings(0.0, found - start, end - found, end - start),
        columns=weights,
        evaluation=evaluation,
        iterations=iterations,
        engine=rule,
        details=details,
    )
    if not exact:
        raise StalledError(message, result=result)
    return result


def scenarios_of_returns(returns: pd.DataFrame | ScenarioSet, who: str) -> ScenarioSet:
    """Returns as scenarios; a set of scenarios is taken as it is."""
    if isinstance(returns, ScenarioSet):
        if returns.form is not None:
            raise InputError(f"{who} needs returns, and this set knows mean and covariance alone")
        return returns
    if not isinstance(returns, pd.DataFrame):
        raise InputError(
            f"{who} takes a frame of returns, periods x assets, or a ScenarioSet; was {type(returns).__name__}"
        )
    return ScenarioSet(returns)


def scenarios_of_covariance(
    covariance: pd.DataFrame | FactorCovariance | ScenarioSet,
    who: str,
    mean: pd.Series | Mapping[str, float] | None = None,
) -> ScenarioSet:
    """A covariance, with a mean if there is one, as a set that knows moments alone; scenarios are taken as they are.

    With scenarios the covariance is theirs, and so is the mean where none is given.
    """
    if isinstance(covariance, ScenarioSet):
        return covariance
    if isinstance(covariance, pd.DataFrame) and not covariance.index.equals(covariance.columns):
        raise InputError(
            f"{who} takes a covariance, with the same labels in rows and columns; this frame has other ones "
            f"({covariance.shape[0]} x {covariance.shape[1]}). Wrap returns in ScenarioSet(returns), or estimate their "
            "covariance with portfolioopt.estimate"
        )
    if not isinstance(covariance, pd.DataFrame | FactorCovariance):
        raise InputError(
            f"{who} takes a covariance by asset (a frame or FactorCovariance) or a ScenarioSet, was "
            f"{type(covariance).__name__}"
        )
    return ScenarioSet.from_moments(mean, covariance)


def covariance_form(scenarios: ScenarioSet) -> QuadraticForm:
    """The covariance of a set as a quadratic form over its assets."""
    if scenarios.form is not None:
        return scenarios.form
    return QuadraticForm(scenarios.covariance(), scenarios.assets, "the scenarios")


def variances_above_zero(variances: FloatArray, assets: pd.Index, who: str) -> FloatArray:
    """The variances (N,), or the refusal of assets that do not vary."""
    none = variances <= 1e-14 * float(variances.max(initial=0.0))
    if none.any():
        raise InputError(f"{who} needs assets with risk, and {some(assets[none])} has none; leave it out")
    return variances


def listed(constraints: Constraint | Iterable[Constraint]) -> list[Constraint]:
    """Constraints as a list; one alone is one."""
    if isinstance(constraints, CONSTRAINT_TYPES):
        return [cast(Constraint, constraints)]
    return list(cast("Iterable[Constraint]", constraints))


def largest(values: FloatArray) -> float:
    """The largest absolute value, zero of nothing."""
    return float(np.abs(values).max(initial=0.0))

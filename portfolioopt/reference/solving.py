"""A problem solved by general solvers through cvxpy."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from portfolioopt.errors import InputError
from portfolioopt.problem import Problem, Ratio
from portfolioopt.problem.terms import Expression

from .measures import total
from .model import Model, import_cvxpy
from .translate import CvxpyProblem, ExtraConstraints, ExtraObjective, as_cvxpy, finished

FloatArray: TypeAlias = npt.NDArray[np.float64]
Outcome: TypeAlias = Literal["optimal", "infeasible", "unbounded", "failed"]

TOLERANCE = 1e-10
LOOSEST = 1e-7  # what is solved to less counts as failed
STEPS = 200  # of Clarabel
ENDS = ("optimal", "infeasible", "unbounded", "infeasible_or_unbounded", "user_limit")  # no other tolerance helps
HIGHS_FEASIBLE = 2  # its word for a point that meets the constraints
ROUNDS = 30  # differences on the way to a ratio
NO_RISK = 1e-7  # of a typical size: a ratio's denominator below this has no smallest value above zero


@dataclass(frozen=True)
class Reference:
    """What a general solver said. Nothing of it is certified: measure and bound the weights by other means."""

    status: Outcome
    """``"failed"`` where the solver gave up or was not accurate; there may be weights even so."""
    weights: FloatArray | None
    """(N,) in the order of the scenarios' assets."""
    objective: float
    """Optimum in the units of the library, as the solver counts it; NaN where there is none."""
    bound: float | None
    """Of branch and bound: no portfolio has a higher objective, says the solver; None where it says nothing."""
    seconds: float
    """Wall time with the translation."""
    solve_seconds: float
    """What the solver itself took."""
    solver: str
    tolerance: float
    """What the answer was solved to, relative to a problem of size one."""
    message: str
    """The solver's own word, or why there is no answer."""


def solve(
    problem: Problem,
    *,
    solver: str | None = None,
    tolerance: float = TOLERANCE,
    extra_objective: ExtraObjective | None = None,
    extra_constraints: ExtraConstraints | None = None,
    **options: Any,
) -> Reference:
    """Maximise a problem's objective by a general solver.

    Parameters
    ----------
    problem
        What to solve. A ratio is maximised by a sequence of differences (Dinkelbach, 1967).
    solver
        As cvxpy calls it. Where None: HiGHS for linear programs, mixed-integer ones among them, SCIP for mixed-integer
        programs with cones, and Clarabel for all others.
    tolerance
        What the solver is asked for, relative to a problem of size one. Where it cannot reach that, up to 1e-7 is taken
        instead; `Reference.tolerance` says which it was.
    extra_objective, extra_constraints
        As for :func:`as_cvxpy`.
    options
        Passed to the solver as they are, before what `tolerance` stands for.

    Raises
    ------
    InputError
        Where :func:`as_cvxpy` does, and for a solver that is missing.
    """
    start = time.perf_counter()
    if not isinstance(problem, Problem):
        raise InputError(f"solve takes a Problem, was given {type(problem).__name__}")
    if not isinstance(tolerance, Real) or not 1e-12 <= tolerance <= LOOSEST:
        raise InputError(f"tolerance must lie between 1e-12 and {LOOSEST:g}, was {tolerance!r}")
    check = _Asked(solver, float(tolerance), options)
    if problem.ratio is None:
        made = as_cvxpy(problem, extra_objective=extra_objective, extra_constraints=extra_constraints)
        found = _solved(made, check)
    else:
        found = _ratio(problem, problem.ratio, extra_objective, extra_constraints, check)
    return replace(found, seconds=time.perf_counter() - start)


class _Asked(NamedTuple):
    """What the caller wants of solvers."""

    solver: str | None
    tolerance: float
    options: dict[str, Any]


def _solver_for(made: CvxpyProblem) -> str:
    """The default solver of a problem's kind."""
    cp = import_cvxpy()
    if made.problem.is_qp() and made.problem.objective.args[0].is_pwl():
        return "HIGHS"
    if not made.problem.is_mixed_integer():
        return "CLARABEL"
    if "SCIP" not in cp.installed_solvers():
        raise InputError(
            "the problem has integer constraints and a measure that is not piecewise linear, which takes SCIP or a "
            "commercial solver: pip install pyscipopt, or name another by solver=..."
        )
    return "SCIP"


def _settings(solver: str, tolerance: float, whole: bool) -> Iterator[tuple[float, dict[str, Any]]]:
    """Options of a solver for a tolerance, then for looser ones."""
    steps = list(dict.fromkeys(max(tolerance, least) for least in (0.0, 1e-9, 1e-8, LOOSEST)))
    match solver:
        case "CLARABEL":
            for step in steps:
                # an answer that is a little less accurate than asked for ends the attempts as well
                reduced = {f"reduced_tol_{what}": 10.0 * step for what in ("gap_abs", "gap_rel", "feas")}
                wanted = {f"tol_{what}": step for what in ("gap_abs", "gap_rel", "feas")}
                yield step, wanted | (reduced if step < LOOSEST else {}) | {"max_iter": STEPS}
        case "HIGHS":
            for step in steps:
                feasible = max(step, 1e-10)
                options = {"primal_feasibility_tolerance": feasible, "dual_feasibility_tolerance": feasible}
                if whole:
                    options = {"mip_feasibility_tolerance": max(step, 1e-9)} | options
                    options |= {"mip_rel_gap": step, "mip_abs_gap": step}
                yield step, options
        case "SCIP":
            step = max(tolerance, 1e-9)
            yield step, {"scip_params": {"limits/gap": step, "numerics/feastol": step}}
        case "SCS":
            for step in steps:
                yield step, {"eps_abs": step, "eps_rel": step, "max_iters": 200_000}
        case _:
            yield tolerance, {}


def _solved(made: CvxpyProblem, asked: _Asked) -> Reference:
    """The answer, to the tightest tolerance that some attempt reaches."""
    cp = import_cvxpy()
    solver = (asked.solver or _solver_for(made)).upper()
    if solver not in cp.installed_solvers():
        raise InputError(f"the solver {solver} is not installed; cvxpy finds {', '.join(cp.installed_solvers())}")
    found = _solved_by(solver, made, asked)
    if found.status == "failed" and asked.solver is None and solver == "HIGHS" and not made.integers:
        found = _solved_by("CLARABEL", made, asked._replace(options={}))
    return found


def _solved_by(solver: str, made: CvxpyProblem, asked: _Asked) -> Reference:
    model = made.problem
    whole = model.is_mixed_integer()
    spent, message, reached = 0.0, "", np.inf
    for step, settings in _settings(solver, asked.tolerance, whole):
        message = _attempt(model, solver, settings | asked.options)
        spent += _solver_seconds(model)
        if model.status in ENDS:
            reached = step
            break
        if solver == "CLARABEL" and model.status == "optimal_inaccurate" and 10.0 * step <= LOOSEST:
            reached = 10.0 * step
            break
    outcome = _outcome(made, solver, asked.options, bool(np.isfinite(reached)))
    weights = _weights(made) if _has_found(model, solver) else None
    objective = np.nan if weights is None else _value(model) * made.scale
    bound = None
    if whole and weights is not None:
        bound = _bound(model, solver, made.scale)
        weights = _polished(made, solver, asked.options, weights)
    return Reference(outcome, weights, objective, bound, 0.0, spent, solver, reached, message)


def _attempt(model: Any, solver: str, settings: dict[str, Any]) -> str:
    """Solve, and return the solver's word; `model` keeps the rest."""
    cp = import_cvxpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns where it stops short, which the status says as well
        try:
            # a Clarabel that failed is kept by cvxpy, and would fail again whatever the tolerance
            model.solve(solver=solver, ignore_dpp=True, warm_start=False, **settings)
        except cp.SolverError as error:
            return f"{solver}: {error}"
    return f"{solver}: {model.status}"


def _solver_seconds(model: Any) -> float:
    stats = model.solver_stats
    return float(stats.solve_time or 0.0) if stats is not None else 0.0


def _outcome(made: CvxpyProblem, solver: str, options: dict[str, Any], accurate: bool) -> Outcome:
    cp, status = import_cvxpy(), made.problem.status
    if status in ("optimal", "optimal_inaccurate"):
        return "optimal" if accurate else "failed"
    if status in ("infeasible", "infeasible_inaccurate"):
        return "infeasible"
    if status in ("unbounded", "unbounded_inaccurate"):
        return "unbounded"
    if status == "infeasible_or_unbounded":
        anything = cp.Problem(cp.Maximize(0.0), made.problem.constraints)
        _attempt(anything, solver, options)
        known: dict[str, Outcome] = {"optimal": "unbounded", "infeasible": "infeasible"}
        return known.get(anything.status, "failed")
    return "failed"


def _weights(made: CvxpyProblem) -> FloatArray | None:
    """Weights of the solver; zeros where the problem does not mention them."""
    if made.problem.status not in ("optimal", "optimal_inaccurate", "user_limit"):
        return None
    value = made.weights.value
    if value is None or not np.isfinite(_value(made.problem)):
        return np.zeros(made.weights.size) if made.problem.status == "optimal" else None
    return np.asarray(value, dtype=np.float64)


def _has_found(model: Any, solver: str) -> bool:
    """Whether a solver that was stopped had found a portfolio; HiGHS reports zeros where it had not."""
    if model.status != "user_limit" or solver != "HIGHS":
        return True
    return int(model.solver_stats.extra_stats.primal_solution_status) == HIGHS_FEASIBLE


def _value(model: Any) -> float:
    return np.nan if model.value is None else float(model.value)


def _bound(model: Any, solver: str, scale: float) -> float | None:
    """Best bound of branch and bound on the maximised objective."""
    stats = None if model.solver_stats is None else model.solver_stats.extra_stats
    if stats is None or model.value is None:
        return None
    if solver == "HIGHS":  # cvxpy minimises, and keeps a constant for itself
        above = float(stats.objective_function_value) - float(stats.mip_dual_bound)
        return (float(model.value) + above) * scale if np.isfinite(above) else None
    return None


def _polished(made: CvxpyProblem, solver: str, options: dict[str, Any], weights: FloatArray) -> FloatArray:
    """Weights of the same pieces and lots, solved for once more with these fixed: integers are only so to 1e-6."""
    cp = import_cvxpy()
    kept = [np.round(np.asarray(v.value, dtype=np.float64)) for group in made.integers for v in group.variables]
    variables = [v for group in made.integers for v in group.variables]
    fixed = [v == value for v, value in zip(variables, kept, strict=True)]
    again = cp.Problem(made.problem.objective, [*made.problem.constraints, *fixed])
    _attempt(again, solver, {"mip_feasibility_tolerance": 1e-10} | options if solver == "HIGHS" else options)
    if again.status == "optimal" and made.weights.value is not None:
        weights = np.asarray(made.weights.value, dtype=np.float64)
    else:
        for v, value in zip(variables, kept, strict=True):
            v.value = value
    for group in made.integers:
        weights = group.exact(weights)
    return weights + 0.0  # no negative zeros


def _ratio(
    problem: Problem,
    ratio: Ratio,
    extra_objective: ExtraObjective | None,
    extra_constraints: ExtraConstraints | None,
    asked: _Asked,
) -> Reference:
    """The largest reward per risk: the root of the largest reward less theta times risk, a convex function of theta."""
    if extra_objective is not None:
        raise InputError("a ratio takes no extra_objective; write the sum in its numerator")
    spent = 0.0

    def best(theta: float | None) -> Reference:
        """Maximise reward less theta times risk; the safest portfolio where theta is None."""
        nonlocal spent
        model = Model(problem)
        reward, risk = total(ratio.numerator, model), total(ratio.denominator, model)
        found = _solved(
            finished(model, -risk if theta is None else reward - theta * risk, None, extra_constraints), asked
        )
        spent += found.solve_seconds
        return found

    def value(measure: Expression, found: Reference) -> float:
        assert found.weights is not None
        view = problem.compiled.view(found.weights)
        return float(sum(c * term.value(view) for c, term in measure.parts))

    found = best(None)
    if found.status != "optimal":
        return replace(found, objective=np.nan, solve_seconds=spent)
    typical = Model(problem).size(ratio.denominator)
    if value(ratio.denominator, found) <= NO_RISK * typical:
        return replace(found, status="unbounded", solve_seconds=spent, message=f"{ratio.denominator} can be zero")
    theta = value(ratio.numerator, found) / value(ratio.denominator, found)
    if theta <= 0.0:
        found = best(0.0)
        if found.status != "optimal" or value(ratio.numerator, found) <= 0.0:
            reason = f"no portfolio with a positive {ratio.numerator}"
            status = "infeasible" if found.status == "optimal" else found.status
            return replace(found, status=status, solve_seconds=spent, message=reason)
        theta = value(ratio.numerator, found) / value(ratio.denominator, found)
    for _ in range(ROUNDS):
        better = best(theta)
        if better.status != "optimal":
            return replace(better, solve_seconds=spent)
        ahead = value(ratio.numerator, better) / value(ratio.denominator, better)
        if ahead <= theta * (1.0 + asked.tolerance):
            break
        found, theta = better, ahead
    return replace(found, objective=theta, solve_seconds=spent)

r"""How far a portfolio is from the best one, on the distribution the scenarios are drawn from.

A problem on scenarios is the sample average of a true one, :math:`v^* = \max_w E f(w, R)`. On a fresh sample of n
scenarios its optimum :math:`v_n` is too good on average, :math:`E\, v_n \ge v^*`, and a given portfolio
:math:`\hat w` is on average what it is, :math:`E \hat f_n(\hat w) \le v^*`. Over M independent samples

.. math:: G_m = v_{n,m} - \hat f_{n,m}(\hat w), \qquad
          v^* - E f(\hat w) \le \bar G + t_{M-1}\, s_G / \sqrt{M}

with the chosen confidence, whatever n is (Mak, Morton & Wood, 1999). Both terms come from the same sample: their errors
are alike and mostly cancel. CVaR belongs here because
:math:`-\mathrm{CVaR}_\beta = \max_t E[-t - (L - t)_+/(1-\beta)]`; the candidate's t stays where its own scenarios put
it, which can only make the candidate look worse.

One or two samples do as well (Bayraksan & Morton, 2006): the variance of the gap is then estimated within the samples,
:math:`s_m^2` being that of :math:`f(w_m^*, R) - f(\hat w, R)` over scenarios, and the bound is
:math:`\bar G + z \sqrt{\overline{s^2 / n}} / \sqrt{M}`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from portfolioopt.errors import InputError, SolveError
from portfolioopt.problem import Problem
from portfolioopt.scenarios import ScenarioSet
from portfolioopt.scenarios.scenario_set import whole_number
from portfolioopt.solve import Result, optimize
from portfolioopt.solve.certificate import line_values, violation
from portfolioopt.solve.sweep import progress_bar

from .dependence import check_level, deviations, standard_error
from .linear import Linear, NoErrorKnown, expectation, is_expectation, moves, objective, objective_value
from .subject import check_scenarios, refuse_moments
from .words import basis_points, frame_html, frame_text

FloatArray: TypeAlias = npt.NDArray[np.float64]
Fresh: TypeAlias = Callable[[int], ScenarioSet]

_VIOLATION = 1e-6  # relative: beyond rounding, a limit that the candidate breaks


@dataclass(frozen=True, eq=False)
class OptimalityGap:
    """Bounds on the true optimum, and on what a portfolio falls short of it; prints in words."""

    frame: pd.DataFrame
    """`estimate`, `standard_error`, `lower` and `upper` of the "upper bound" on the true optimum, of the "candidate"
    (a lower bound), and of the "gap" between them; in units of the objective."""
    replicas: pd.DataFrame
    """By sample: its `seed`, number of `scenarios`, the `optimum` (its proven bound), the `candidate` there, the `gap`,
    the standard error of each within the sample (NaN where the objective has none), the largest relative `violation` of
    a limit by the candidate, and the `distance` of its optimal weights from the candidate's (full L1 sum)."""
    candidate: pd.Series
    """The weights that are judged."""
    level: float
    notes: tuple[str, ...]

    @property
    def gap(self) -> float:
        """Estimate of what the candidate falls short of the best portfolio; itself too large on average."""
        return float(self.frame["estimate"]["gap"])

    @property
    def gap_limit(self) -> float:
        """With confidence `level` the candidate falls short by no more than this (a one-sided limit)."""
        return float(self.frame["upper"]["gap"])

    @property
    def optimum(self) -> tuple[float, float]:
        """Interval that holds the true optimum with confidence `level`."""
        return float(self.frame["lower"]["candidate"]), float(self.frame["upper"]["upper bound"])

    @property
    def title(self) -> str:
        """The outcome in words."""
        count, size = len(self.replicas), int(self.replicas["scenarios"].iloc[0])
        low, high = self.optimum
        return (
            f"with {100 * self.level:g} % confidence the portfolio falls short of the best one by at most "
            f"{basis_points(self.gap_limit)} (estimate {basis_points(self.gap)}), from {count} fresh "
            f"{'sample' if count == 1 else 'samples'} of {size:,} scenarios; the true optimum lies in "
            f"[{low:.6g}, {high:.6g}]"
        )

    def __repr__(self) -> str:
        return "\n".join([f"OptimalityGap: {self.title}", frame_text(self.frame), *self.notes])

    def _repr_html_(self) -> str:
        return frame_html(self.title, self.frame, self.notes)


def optimality_gap(
    candidate: Result | Problem,
    fresh: Fresh,
    *,
    replications: int = 20,
    level: float = 0.95,
    seed: int = 0,
    tolerance: float = 1e-6,
    progress: bool = False,
) -> OptimalityGap:
    """Solve the problem on fresh samples, and bound what a portfolio falls short of the true optimum.

    Parameters
    ----------
    candidate
        A result; or a problem, which is solved on its own scenarios first.
    fresh
        ``fresh(seed)`` draws a new scenario set over the same assets: a partial of a generator such as
        ``lambda seed: factor_monte_carlo(model, 10_000, seed=seed)``. The larger its samples, the tighter the bound on
        the optimum.
    replications
        Number M of samples, at least 1. One or two use Bayraksan and Morton's procedures, more those of Mak, Morton and
        Wood.
    level
        Of the limit on the gap (one-sided) and of the interval of the optimum.
    seed
        From which the seeds of the samples are made. They are large and differ, so that they do not meet the seed of
        the candidate's own scenarios, which must be independent of the samples.
    tolerance
        As in :func:`optimize`.
    progress
        Show a progress bar.

    Raises
    ------
    InputError
        For a function that makes no scenario set over the problem's assets, or the same set twice; for fewer than three
        samples where the objective has no standard error within one.
    SolveError
        Where a sample has no optimum, naming it.
    """
    what = "optimality_gap"
    if not isinstance(candidate, Result | Problem):
        raise InputError(f"{what} takes a Result or a Problem, was given {type(candidate).__name__}")
    if not callable(fresh):
        raise InputError(f"{what}: fresh must be a function from a seed to a ScenarioSet, was {type(fresh).__name__}")
    count, level = whole_number(replications, "replications", least=1), check_level(level)
    start = whole_number(seed, "seed", least=0)
    problem = candidate if isinstance(candidate, Problem) else candidate.problem
    refuse_moments(problem.scenarios, what)
    result = optimize(problem, tolerance=tolerance) if isinstance(candidate, Problem) else candidate
    if result.weights is None:
        raise InputError(f"{what}: there is no portfolio to judge: {result.message}")
    weights = result.weights.to_numpy(dtype=np.float64)
    try:
        held: Linear | None = objective(problem, problem.compiled.view(weights), fixed_sets=True)
    except NoErrorKnown as refusal:
        if count < 3:
            raise InputError(f"{what}: with fewer than 3 replications the gap needs an error: {refusal}") from refusal
        held = None
    seeds = np.random.SeedSequence(start).generate_state(count)
    rows, before, first = [], result, None
    with progress_bar(count, progress) as step:
        for number in seeds.tolist():
            scenarios = check_scenarios(fresh(number), problem.scenarios.assets, f"{what}: fresh({number})")
            losses = scenarios.source.losses(weights)
            if first is not None and np.array_equal(first, losses):
                raise InputError(f"{what}: fresh made the same scenarios for two seeds; let it draw from the seed")
            first = losses if first is None else first
            replica = problem.replace(scenarios=scenarios)
            try:
                found = optimize(replica, warm_start=before, tolerance=tolerance)
            except SolveError as error:
                raise type(error)(f"{what}: fresh sample of seed {number}: {error}", result=error.result) from error
            before = found
            rows.append({"seed": number, "scenarios": scenarios.n_scenarios} | _judged(replica, found, weights, held))
            step()
    replicas = pd.DataFrame(rows).rename_axis("replication")
    return OptimalityGap(_frame(replicas, level), replicas, result.weights, level, _notes(problem, replicas, held))


def _judged(replica: Problem, found: Result, weights: FloatArray, held: Linear | None) -> dict[str, float]:
    """The candidate beside the optimum of one sample."""
    compiled, p = replica.compiled, replica.scenarios.probabilities
    view = compiled.view(weights)
    assert found.weights is not None
    assert found.certificate is not None
    best, errors = found.weights.to_numpy(dtype=np.float64), (np.nan, np.nan, np.nan)
    if held is None:
        value = objective_value(replica, view)
    else:
        here = held(view)
        value = expectation(here, p)
        at = compiled.view(best)
        there = objective(replica, at, fixed_sets=True)(at)
        errors = tuple(standard_error(deviations(h, p), p, None) for h in (there, here, there - here))
    worst = max(
        (
            float(violation(compiled, view, group, line).max(initial=0.0))
            for group, line in zip(compiled.lines, line_values(compiled, view), strict=True)
            if not group.soft
        ),
        default=0.0,
    )
    return {
        "optimum": found.certificate.bound,
        "candidate": value,
        "gap": found.certificate.bound - value,
        "optimum_error": errors[0],
        "candidate_error": errors[1],
        "gap_error": errors[2],
        "violation": worst,
        "distance": float(np.abs(best - weights).sum()),
    }


def _frame(replicas: pd.DataFrame, level: float) -> pd.DataFrame:
    from scipy.special import ndtri, stdtrit

    count = len(replicas)
    rows = {}
    for name, column in (("upper bound", "optimum"), ("candidate", "candidate"), ("gap", "gap")):
        values = replicas[column].to_numpy(dtype=np.float64)
        mean = float(values.mean())
        if count < 3:
            error = float(np.sqrt(np.mean(replicas[f"{column}_error"].to_numpy(dtype=np.float64) ** 2) / count))
            one, two = float(ndtri(level)), float(ndtri(0.5 * (1.0 + level)))
        else:
            error = float(values.std(ddof=1) / np.sqrt(count))
            one, two = float(stdtrit(count - 1.0, level)), float(stdtrit(count - 1.0, 0.5 * (1.0 + level)))
        sides = (0.0, mean + one * error) if name == "gap" else (mean - two * error, mean + two * error)
        rows[name] = (mean, error, *sides)
    columns = ["estimate", "standard_error", "lower", "upper"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def _notes(problem: Problem, replicas: pd.DataFrame, held: Linear | None) -> tuple[str, ...]:
    notes = []
    if held is None or not is_expectation(problem):
        notes.append("the objective is no expectation, so the bounds hold for large samples only")
    moving = [c.name for c in problem.constraints if moves(c)]
    if moving:
        broken = int((replicas["violation"] > _VIOLATION).sum())
        notes.append(
            f"{', '.join(moving)} say something else on every sample, so the bounds are approximate; the portfolio "
            f"breaks them on {broken} of {len(replicas)}"
        )
    return tuple(notes)

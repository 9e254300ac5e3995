"""Why there is no answer: limits that contradict each other, or a direction that nothing ends."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from portfolioopt.problem import Problem

from .conflict import Conflict, described, endings, find_conflict, option_text
from .direction import open_direction
from .result import Status

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Diagnosis:
    """The verdict on a problem without an optimum."""

    status: Status
    message: str
    conflict: tuple[str, ...] = ()
    """Names of constraints that cannot hold together, though they can without any one of them."""
    direction: pd.Series | None = None
    """Of an unbounded problem: the change of weights that can go on for ever."""
    relaxations: pd.DataFrame | None = None
    """For each constraint of the conflict, how far which of its lines would have to move, in the least total, for the
    others to hold: a row for each line that moves (index), with constraint, sense, limit, needed, change, and whether
    that is enough, or other limits clash beside it."""
    nearest: pd.Series | None = None
    """Of an infeasible problem: the portfolio with the least total violation of all limits, each counted in its own
    unit. It meets what can be met and is no portfolio to hold."""


def crossed_limits(problem: Problem) -> Diagnosis | None:
    """Contradictions visible without solving anything: bounds of two constraints that leave an asset no weight."""
    p = problem.compiled.program
    crossed = np.flatnonzero(p.lower > p.upper + 1e-12)
    if not len(crossed):
        return None
    conflict = find_conflict(problem)
    i = int(crossed[0])
    if conflict is not None and any(group.kind not in ("weight", "trade") for group, _ in conflict.items):
        return _infeasible(conflict, described(problem, conflict))
    if conflict is not None:  # of several crossed assets, one that the conflict is about
        i = next(int(group.index[lines[0]]) for group, lines in conflict.items)
    at_all = f"(at least {p.lower[i]:.6g}, at most {p.upper[i]:.6g})"
    asset = problem.scenarios.assets[i]
    if conflict is None:  # by so little that no limit of relative size could tell
        names = tuple(dict.fromkeys(g.constraint for g in problem.compiled.lines if g.kind in ("weight", "trade")))
        return Diagnosis(
            Status.infeasible, f"infeasible: {' and '.join(names)} leave no weight for {asset!r} {at_all}", names
        )
    options = option_text(conflict)
    message = f"infeasible: {' and '.join(conflict.names)} leave no weight for {asset!r} {at_all}. Relax one: {options}"
    return _infeasible(conflict, message + endings(problem, conflict))


def diagnose(problem: Problem, near: FloatArray | None = None) -> Diagnosis | None:
    """Find out why a solve failed; None where the problem looks solvable, so that the solver is to blame.

    `near` are the columns at which it gave up: knowing them saves time and changes nothing else.
    """
    conflict = find_conflict(problem, near)
    if conflict is not None:
        return _infeasible(conflict, described(problem, conflict))
    return _unbounded(problem)


def _infeasible(conflict: Conflict, message: str) -> Diagnosis:
    return Diagnosis(
        Status.infeasible, message, conflict.names, relaxations=conflict.relaxations, nearest=conflict.nearest
    )


def _unbounded(problem: Problem) -> Diagnosis | None:
    found = open_direction(problem.compiled)
    if found is None:
        return None
    weights, gain = found
    trade = pd.Series(weights, index=problem.scenarios.assets, name="direction")
    largest = trade[trade.abs() > 1e-3].sort_values(key=np.abs, ascending=False, kind="stable").head(5)
    words = ", ".join(f"{name} {size:+.3g}" for name, size in largest.items())
    message = (
        f"unbounded: the objective gains {gain:.3g} for every step of ({words}), and nothing limits it. Add bounds, a "
        "turnover limit or a risk term"
    )
    return Diagnosis(Status.unbounded, message, direction=trade)

r"""A portfolio on scenarios it was not chosen on.

The weights that look best on a sample look better there than they are: for an objective that is an expectation,
:math:`E \max_w \hat f(w) \ge \max_w E f(w)`. On fresh scenarios the same weights are only what they are; the difference
is the optimism of the sample.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.scenarios import ScenarioSet
from portfolioopt.solve import Result
from portfolioopt.solve.certificate import line_sizes, line_values

from .dependence import Dependence, check_dependence, check_level, quantile_factor
from .linear import moves
from .sampling import mean_and_error, var_interval
from .subject import Subject, check_scenarios, cvar_name, subject, var_name
from .words import basis_points, frame_html, frame_text


@dataclass(frozen=True, eq=False)
class OutOfSample:
    """A portfolio in sample and out of it; prints as a table."""

    frame: pd.DataFrame
    """By measure: `in_sample`, `out_of_sample`, `difference` (the latter less the former), its `standard_error`,
    `lower` and `upper`. Fractions of NAV per scenario horizon."""
    limits: pd.DataFrame
    """Limits on what scenarios say, by line: `sense`, `limit`, `in_sample`, `out_of_sample` and whether it still is
    `held`."""
    level: float
    scenarios: tuple[int, int]
    """How many there are in sample and out of it."""
    notes: tuple[str, ...]

    @property
    def optimism(self) -> float:
        """What the objective promised in sample less what it is out of sample; NaN where it has no row."""
        return -float(self.frame["difference"].get("objective", np.nan))

    @property
    def title(self) -> str:
        """The table in words."""
        inside, outside = self.scenarios
        return f"{inside:,} scenarios in sample, {outside:,} out of it; {100 * self.level:g} % intervals"

    def _words(self) -> list[str]:
        words = []
        if np.isfinite(self.optimism):
            error = float(self.frame["standard_error"]["objective"])
            size, side = basis_points(abs(self.optimism)), "better" if self.optimism >= 0 else "worse"
            words.append(f"the objective was {size} {side} in sample than out of it, ± {basis_points(error)}")
        broken = self.limits.index[~self.limits["held"].to_numpy(dtype=bool)]
        if len(broken):
            words.append(f"not held out of sample: {', '.join(map(str, broken))}")
        return [*words, *self.notes]

    def __repr__(self) -> str:
        return "\n".join([f"OutOfSample: {self.title}", frame_text(self.frame), *self._words()])

    def _repr_html_(self) -> str:
        return frame_html(self.title, self.frame, self._words())


def evaluate_on(
    result: Result,
    scenarios: ScenarioSet,
    *,
    beta: float | None = None,
    level: float = 0.95,
    dependence: Dependence = None,
) -> OutOfSample:
    """Measure a result's weights on other scenarios than its own: risk, objective and limits, in sample and out.

    Parameters
    ----------
    result
        Outcome of a solve.
    scenarios
        Independent of those it was solved on: drawn with another seed, or a later window. Same assets, same horizon.
    beta, level, dependence
        As in :func:`sampling_error`; the dependence is that of both sets.

    Returns
    -------
    OutOfSample
        The standard errors of the differences are those of two independent sets.

    Raises
    ------
    InputError
        For the result's own scenarios, and as :func:`sampling_error`.
    """
    what = "evaluate_on"
    if not isinstance(result, Result):
        raise InputError(f"{what} takes a Result, was given {type(result).__name__}: pass the outcome of optimize")
    level, dependence = check_level(level), check_dependence(dependence)
    inside = subject(result, beta, what)
    fresh = check_scenarios(scenarios, inside.scenarios.assets)
    if fresh.source is inside.scenarios.source:
        raise InputError(
            f"{what}: these are the scenarios the weights were chosen on; pass others, drawn with another seed or from "
            "another window"
        )
    outside = inside.on(fresh)
    (mine, notes), (theirs, more) = inside.measures(), outside.measures()
    rows = {}
    for name in [name for name in mine if name in theirs]:
        both = (inside, mine[name]), (outside, theirs[name])
        rows[name] = _beside(*(mean_and_error(h(s.view), s.probabilities, dependence) for s, h in both))
    factors = [quantile_factor(level, s.probabilities, dependence) for s in (inside, outside)]
    for b in inside.betas:
        both = zip((inside, outside), factors, strict=True)
        rows[var_name(b)] = _beside(*(var_interval(s.view, b, level, dependence, factor)[:2] for s, factor in both))
    order = ["expected return", "volatility", *(name for b in inside.betas for name in (var_name(b), cvar_name(b)))]
    order += ["objective"] if "objective" in rows else []
    columns = ["in_sample", "out_of_sample", "difference", "standard_error"]
    frame = pd.DataFrame.from_dict({name: rows[name] for name in order}, orient="index", columns=columns)
    factor = max(factors)  # that of the smaller set
    frame["lower"] = frame["difference"] - factor * frame["standard_error"]
    frame["upper"] = frame["difference"] + factor * frame["standard_error"]
    counts = inside.scenarios.n_scenarios, fresh.n_scenarios
    notes = tuple(dict.fromkeys((*notes, *more)))
    return OutOfSample(frame.rename_axis("measure"), _limits(inside, fresh), level, counts, notes)


def _beside(one: tuple[float, float], other: tuple[float, float]) -> tuple[float, float, float, float]:
    """Two independent estimates, their difference and its standard error."""
    return one[0], other[0], other[0] - one[0], float(np.hypot(one[1], other[1]))


def _limits(inside: Subject, fresh: ScenarioSet) -> pd.DataFrame:
    """Lines of the constraints that depend on scenarios."""
    columns = ["sense", "limit", "in_sample", "out_of_sample", "held"]
    assert inside.problem is not None
    moving = {c.name for c in inside.problem.constraints if moves(c)}
    if not moving:
        return pd.DataFrame(columns=columns)
    old, new = inside.problem.compiled, inside.problem.replace(scenarios=fresh).compiled
    view = new.view(inside.view.weights)
    rows = {}
    before = {group.names: value for group, value in zip(old.lines, line_values(old, inside.view), strict=True)}
    for group, value in zip(new.lines, line_values(new, view), strict=True):
        if group.constraint not in moving:
            continue
        slack = (group.limit - value) * (-1.0 if group.sense == ">=" else 1.0)
        slack = -np.abs(slack) if group.sense == "==" else slack
        held = slack >= -1e-8 * line_sizes(new, view, group)
        for i, name in enumerate(group.names):
            shift = group.centre
            row = (group.limit[i] - shift, before[group.names][i] - shift, value[i] - shift)
            rows[name] = (group.sense, *row, bool(held[i]))
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)

r"""The difference of two portfolios, on the scenarios they share.

Two estimates on the same scenarios err together. With :math:`z_a` and :math:`z_b` their deviations by scenario
(:mod:`portfolioopt.confidence.dependence`), the variance of the difference is that of
:math:`\sum_s (z_{a,s} - z_{b,s})`: the sum of both variances less twice the covariance, which for portfolios that
resemble each other takes most of it away. These are common random numbers (Glasserman & Yao, 1992).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.scenarios import ScenarioSet
from portfolioopt.solve import Result

from .dependence import Dependence, check_dependence, check_level, deviations, quantile_factor, standard_error
from .linear import expectation
from .subject import Subject, check_scenarios, subject
from .words import frame_html, frame_text

FloatArray: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two portfolios on the same scenarios; prints as a table."""

    frame: pd.DataFrame
    """By measure: `first`, `second`, `difference` (second less first), its `standard_error`, `lower` and `upper`, and
    `variance_reduction`: how many times as many scenarios two separate samples would need for the same error. Fractions
    of NAV per scenario horizon."""
    level: float
    scenarios: int
    notes: tuple[str, ...]

    @property
    def title(self) -> str:
        """The table in words."""
        return f"second less first on {self.scenarios:,} common scenarios; {100 * self.level:g} % intervals"

    def __repr__(self) -> str:
        return "\n".join([f"Comparison: {self.title}", frame_text(self.frame), *self.notes])

    def _repr_html_(self) -> str:
        return frame_html(self.title, self.frame, self.notes)


def compare(
    first: Result,
    second: Result,
    scenarios: ScenarioSet | None = None,
    *,
    beta: float | None = None,
    level: float = 0.95,
    dependence: Dependence = None,
) -> Comparison:
    """What one portfolio has over another, with the standard error of the difference on common scenarios.

    Parameters
    ----------
    first, second
        Results over the same assets. The objective is that of the first, for both.
    scenarios
        Where to compare them; the scenarios of the first result where None, if both have the same returns and
        probabilities. Where the weights were chosen on these scenarios, the difference flatters the one chosen for what
        is measured; fresh scenarios are fair.
    beta, level, dependence
        As in :func:`sampling_error`.

    Raises
    ------
    InputError
        For results over other assets, or over other scenarios where none are given; otherwise as
        :func:`sampling_error`.
    """
    what = "compare"
    if not isinstance(first, Result) or not isinstance(second, Result):
        kinds = f"{type(first).__name__} and {type(second).__name__}"
        raise InputError(f"{what} takes two results, was given {kinds}: pass outcomes of optimize(problem)")
    one, two = subject(first, beta, what), subject(second, beta, what)
    level, dependence = check_level(level), check_dependence(dependence)
    if scenarios is not None:
        one = one.on(scenarios)
    elif not _same(one.scenarios, two.scenarios):
        raise InputError(
            "the two results have other scenarios, and differences are sharp on common ones only: pass scenarios=..."
        )
    check_scenarios(two.scenarios, one.scenarios.assets, "the second result's set")
    two = Subject(two.on(one.scenarios).view, one.betas, one.problem)
    p = one.probabilities
    factor = quantile_factor(level, p, dependence)
    (mine, notes), (theirs, more) = one.measures(), two.measures()
    rows = {}
    for name in [name for name in mine if name in theirs]:
        a, b = mine[name](one.view), theirs[name](two.view)
        za, zb = deviations(a, p), deviations(b, p)
        error = standard_error(zb - za, p, dependence)
        apart = standard_error(za, p, dependence) ** 2 + standard_error(zb, p, dependence) ** 2
        values = expectation(a, p), expectation(b, p)
        difference = values[1] - values[0]
        reduction = apart / error**2 if error > 0 else np.inf
        rows[name] = (*values, difference, error, difference - factor * error, difference + factor * error, reduction)
    columns = ["first", "second", "difference", "standard_error", "lower", "upper", "variance_reduction"]
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("measure")
    return Comparison(frame, level, len(p), tuple(dict.fromkeys((*notes, *more))))


def _same(one: ScenarioSet, other: ScenarioSet) -> bool:
    """Whether two sets have the same returns and probabilities, as far as can be told without a pass over files."""
    if one is other:
        return True
    if one.n_scenarios != other.n_scenarios or not np.array_equal(one.probabilities, other.probabilities):
        return False
    a, b = one.source.matrix, other.source.matrix
    return one.source is other.source or (a is not None and b is not None and np.array_equal(a, b))

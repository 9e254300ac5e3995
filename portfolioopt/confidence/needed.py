r"""How many scenarios an answer needs: the standard error turned round.

An interval from S scenarios reaches :math:`z\,\mathrm{se}` to either side and the standard error falls with
:math:`\sqrt{S}`, so that for a reach of x

.. math:: S_x = S \Big(\frac{z\,\mathrm{se}}{x}\Big)^2 .
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError, unknown_names
from portfolioopt.labels import checked_number

from .dependence import Dependence
from .sampling import SamplingError, sampling_error
from .subject import Asked
from .words import basis_points, frame_html

What: TypeAlias = Literal["expected return", "volatility", "var", "cvar", "objective"]
_WHATS = ("expected return", "volatility", "var", "cvar", "objective")


@dataclass(frozen=True)
class ScenariosNeeded:
    """How many scenarios keep one measure within so many basis points; prints the advice."""

    measure: str
    """The measure, by the name it has in tables."""
    scenarios: int
    """How many scenarios are needed, made as the present ones were."""
    present: int
    """How many there are."""
    within_bp: float
    """Half the length of the interval that is wanted, in basis points of NAV per scenario horizon."""
    present_bp: float
    """Half the length of the interval as it is."""
    level: float

    @property
    def enough(self) -> bool:
        """Whether the present scenarios do."""
        return self.scenarios <= self.present

    def __repr__(self) -> str:
        known = (
            f"{self.measure} is known to ±{self.present_bp:.3g} bp from {self.present:,} scenarios, with "
            f"{100 * self.level:g} % confidence"
        )
        if self.enough:
            return f"{known}; for ±{self.within_bp:g} bp {self.scenarios:,} are enough"
        times = self.scenarios / self.present
        more = f"{times:,.0f}" if times >= 10 else f"{times:.2g}"
        return f"{known}; for ±{self.within_bp:g} bp take {self.scenarios:,}, {more} times as many"


def scenarios_needed(
    asked: Asked,
    within_bp: float = 1.0,
    level: float = 0.95,
    what: What = "cvar",
    *,
    beta: float | None = None,
    dependence: Dependence = None,
) -> ScenariosNeeded:
    """How many scenarios keep a measure of a portfolio within so many basis points, from its standard error.

    Scenarios that are drawn, not observed, can be had in any number. More of them take away the error of drawing, never
    that of the model they are drawn from.

    Parameters
    ----------
    asked
        A result, or a pair (scenarios, weights).
    within_bp
        Half the length of the interval, in basis points of NAV per scenario horizon; for an objective in other units
        (a ratio, a variance), in units of 0.0001.
    level
        Of the interval.
    what
        ``"cvar"``, ``"var"``, ``"expected return"``, ``"volatility"`` or ``"objective"``.
    beta
        Level of VaR and CVaR; the first of the problem where None, 0.95 if it has none.
    dependence
        As in :func:`sampling_error`. With it, the count is of scenarios that depend as the present ones do.

    Raises
    ------
    InputError
        As :func:`sampling_error`; for a measure without standard error; and where the present scenarios are too few to
        tell.
    """
    if what not in _WHATS:
        raise unknown_names("measure", [what], _WHATS)
    reach = checked_number(within_bp, "within_bp", above=0.0)
    return needed(sampling_error(asked, beta, level, dependence=dependence), what, reach)


def needed(errors: SamplingError, what: What, within_bp: float) -> ScenariosNeeded:
    """The same from errors that are known already."""
    name: str = what
    if what in ("var", "cvar"):
        first = next(name for name in errors.frame.index if name.startswith("VaR"))
        name = first if what == "var" else f"C{first}"
    if name not in errors.frame.index:
        raise InputError(f"there is no standard error of the {name}: {'; '.join(errors.notes) or 'pass a Result'}")
    error, lower, upper = errors.frame.loc[name, ["standard_error", "lower", "upper"]].to_numpy(dtype=np.float64)
    half = 0.5 * float(upper - lower)
    if not np.isfinite(error):
        raise InputError(
            f"{errors.scenarios} scenarios are too few to tell how well {name} is known; start from more, or ask at a "
            "lower beta"
        )
    # a hair less than a whole number is that number
    count = max(int(np.ceil(errors.scenarios * (1e4 * half / within_bp) ** 2 * (1.0 - 1e-12))), 2)
    return ScenariosNeeded(name, count, errors.scenarios, within_bp, 1e4 * half, errors.level)


@dataclass(frozen=True, eq=False)
class Report:
    """Estimates with their errors, and how many scenarios would make them better; prints in words."""

    errors: SamplingError
    advice: tuple[ScenariosNeeded, ...]

    @property
    def frame(self) -> pd.DataFrame:
        """Estimates, standard errors and intervals by measure, fractions of NAV per scenario horizon."""
        return self.errors.frame

    @property
    def text(self) -> str:
        """One line by measure, and the advice."""
        width = max(map(len, self.frame.index))
        lines = [f"{self.errors.title}"]
        rows = self.frame.itertuples()
        for name, estimate, error, lower, upper in rows:
            spread = f"± {basis_points(error)}" if np.isfinite(error) else "± unknown"
            lines.append(f"{name:{width}}  {estimate:9.4%} {spread:>12}   [{lower:.4%}, {upper:.4%}]")
        return "\n".join([*lines, *self.errors.notes, *map(repr, self.advice)])

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return frame_html(self.errors.title, self.frame, (*self.errors.notes, *map(repr, self.advice)))


def report(
    asked: Asked,
    beta: float | None = None,
    level: float = 0.95,
    *,
    dependence: Dependence = None,
    within_bp: float = 1.0,
) -> Report:
    """Expected return, volatility, VaR, CVaR and objective, each with its error, and how many scenarios are needed.

    One pass over the returns. Parameters as for :func:`sampling_error` and :func:`scenarios_needed`; the advice is
    about CVaR and, of a result, the objective.
    """
    reach = checked_number(within_bp, "within_bp", above=0.0)
    errors = sampling_error(asked, beta, level, dependence=dependence)
    wanted: list[What] = ["cvar", "objective"] if "objective" in errors.frame.index else ["cvar"]
    return Report(errors, tuple(needed(errors, what, reach) for what in wanted))

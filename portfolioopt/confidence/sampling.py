r"""Monte Carlo error of what a portfolio is worth: standard errors and intervals from the scenarios themselves.

To first order the error of a measure is a mean of its influence function (:mod:`portfolioopt.confidence.linear`), so

.. math:: \mathrm{se}(\widehat{\mathrm{CVaR}}_\beta)^2
          = \frac{\mathrm{Var}\big[(L - \mathrm{VaR}_\beta)_+\big]}{(1-\beta)^2\, n}

(Trindade, Uryasev, Shapiro & Zrazhevsky, 2007), and alike for the others. The value-at-risk needs no density: q is in
its interval where the share of losses up to q does not contradict :math:`\beta`, which gives order statistics
(Woodruff, 1952), with Clopper and Pearson's limits on the share and the effective sample size (Korn & Graubard, 1998).

Losses in the tail are skewed, and with few of them symmetric intervals cover too little. The studentised bootstrap
resamples the scenarios, recomputes estimate and standard error in each resample, and inverts the quantiles of their
ratio: :math:`[\hat\theta - t^*_{1-a/2}\,\mathrm{se},\ \hat\theta - t^*_{a/2}\,\mathrm{se}]`, correct to the second
order (Hall, 1988).

Errors are those of a portfolio that is what it is. That an optimised one was chosen on the same scenarios does not
change them to first order (Shapiro, 1991), but its estimates are too good on average:
:func:`~portfolioopt.confidence.evaluate_on` and :func:`~portfolioopt.confidence.optimality_gap` measure by how much.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.problem.terms import View
from portfolioopt.scenarios import ScenarioSet
from portfolioopt.scenarios.scenario_set import whole_number
from portfolioopt.scenarios.tail import quantile

from .dependence import (
    Dependence,
    NeweyWest,
    check_dependence,
    check_level,
    deviations,
    effective_scenarios,
    quantile_factor,
    standard_error,
)
from .linear import expectation
from .subject import Asked, Subject, cvar_name, subject, var_name
from .words import frame_html, frame_text

FloatArray: TypeAlias = npt.NDArray[np.float64]
Method: TypeAlias = Literal["asymptotic", "studentised"]


@dataclass(frozen=True, eq=False)
class SamplingError:
    """Estimates of a portfolio with their standard errors and intervals; prints as a table."""

    frame: pd.DataFrame
    """By measure: `estimate`, `standard_error`, `lower` and `upper`, fractions of NAV per scenario horizon."""
    level: float
    """How likely each interval is to hold the true value."""
    scenarios: int
    """S."""
    effective_scenarios: float
    """How many equally likely scenarios say as much (Kish)."""
    method: Method
    dependence: Dependence
    notes: tuple[str, ...]
    """What has no standard error, and why."""

    @property
    def title(self) -> str:
        """The table in words."""
        effective = self.effective_scenarios
        worth = "" if effective > 0.999 * self.scenarios else f" (worth {effective:,.0f} equally likely ones)"
        how = "independent" if self.dependence is None else repr(self.dependence)
        return f"{self.scenarios:,} scenarios{worth}, {how}; {100 * self.level:g} % intervals, {self.method}"

    def __repr__(self) -> str:
        return "\n".join([f"SamplingError: {self.title}", frame_text(self.frame), *self.notes])

    def _repr_html_(self) -> str:
        return frame_html(self.title, self.frame, self.notes)


def sampling_error(
    asked: Asked,
    beta: float | None = None,
    level: float = 0.95,
    *,
    dependence: Dependence = None,
    method: Method = "asymptotic",
    repeats: int = 999,
    seed: int = 0,
) -> SamplingError:
    """How far the estimates of a portfolio may be off because there are only so many scenarios.

    Parameters
    ----------
    asked
        A result, or a pair (scenarios, weights). Of a result, the objective gets an error as well.
    beta
        Level of VaR and CVaR; the levels of the problem where None, 0.95 if it has none.
    level
        Of the two-sided intervals.
    dependence
        None for independent scenarios. ``NeweyWest(lag)`` or ``BatchMeans(length)`` for scenarios that follow each
        other in time and overlap or cluster; they look at the order of the set.
    method
        ``"asymptotic"``: estimate plus and minus Student's t times the standard error; one pass over the losses.
        ``"studentised"``: the bootstrap's intervals, wider on the side of the tail and right with fewer scenarios;
        that of the value-at-risk is the same. `repeats` passes over the losses, none over the returns.
    repeats, seed
        Of the bootstrap; with :class:`BatchMeans` it resamples whole batches.

    Returns
    -------
    SamplingError
        Rows "expected return", "volatility", "VaR 95%" and "CVaR 95%" by level, and "objective". Where there are too
        few scenarios to bound the value-at-risk from above, `upper` is infinite and its standard error NaN.

    Raises
    ------
    InputError
        For a set known by moments alone, a result without weights, labels that do not match, arguments out of range,
        and a bootstrap of scenarios in Newey and West's dependence (it resamples batches).
    """
    what = "sampling_error"
    one = subject(asked, beta, what)
    level, dependence = check_level(level), check_dependence(dependence)
    if method not in ("asymptotic", "studentised"):
        raise InputError(f"method must be 'asymptotic' or 'studentised', was {method!r}")
    measures, notes = one.measures()
    p, factor = one.probabilities, quantile_factor(level, one.probabilities, dependence)
    rows: dict[str, tuple[float, float, float, float]] = {}
    for beta_ in one.betas:
        rows[var_name(beta_)] = var_interval(one.view, beta_, level, dependence, factor)
    for name, h in measures.items():
        estimate, error = mean_and_error(h(one.view), p, dependence)
        rows[name] = estimate, error, estimate - factor * error, estimate + factor * error
    if method == "studentised":
        count, start = whole_number(repeats, "repeats", least=99), whole_number(seed, "seed", least=0)
        for name, ratios in _studentised(one, dependence, count, start).items():
            estimate, error = rows[name][:2]
            low, high = np.quantile(ratios, [0.5 - 0.5 * level, 0.5 + 0.5 * level])
            rows[name] = estimate, error, estimate - high * error, estimate - low * error
    tails = [name for b in one.betas for name in (var_name(b), cvar_name(b))]
    order = ["expected return", "volatility", *tails, *(["objective"] if "objective" in rows else [])]
    frame = pd.DataFrame.from_dict(
        {name: rows[name] for name in order}, orient="index", columns=["estimate", "standard_error", "lower", "upper"]
    )
    return SamplingError(frame.rename_axis("measure"), level, len(p), effective_scenarios(p), method, dependence, notes)


def mean_and_error(values: FloatArray, p: FloatArray, dependence: Dependence) -> tuple[float, float]:
    """Mean of `values` (S,) under the probabilities, and its standard error."""
    return expectation(values, p), standard_error(deviations(values, p), p, dependence)


def var_interval(
    view: View, beta: float, level: float, dependence: Dependence, factor: float
) -> tuple[float, float, float, float]:
    """Value-at-risk, its standard error and interval.

    The standard error is half the length of the interval over `factor`, as is usual where there is no density.
    """
    from scipy.special import betaincinv

    losses, p = view.losses(), view.scenarios.probabilities
    var = view.tail(beta).var
    share = standard_error(deviations((losses > var).astype(np.float64), p), p, dependence)
    n = effective_scenarios(p) if share == 0.0 else beta * (1.0 - beta) / share**2
    half = 0.5 * (1.0 - level)
    low = float(betaincinv(max(beta * n, 1e-9), (1.0 - beta) * n + 1.0, half))
    high = float(betaincinv(beta * n + 1.0, max((1.0 - beta) * n, 1e-9), 1.0 - half))
    lower = quantile(losses, p, 1.0 - low)
    live = p > 0
    largest = float(losses[live].max())
    if 1.0 - high < float(p[losses == largest].sum()):  # even the largest loss may lie below it
        return var, np.nan, lower, np.inf
    upper = quantile(losses, p, 1.0 - high)
    return var, 0.5 * (upper - lower) / factor, lower, upper


def _studentised(one: Subject, dependence: Dependence, repeats: int, seed: int) -> dict[str, FloatArray]:
    """By measure, (estimate of a resample - estimate) / standard error of the resample (repeats,)."""
    if isinstance(dependence, NeweyWest):
        raise InputError(
            "the studentised bootstrap resamples single scenarios or whole batches; pass dependence=BatchMeans(length) "
            "with it, or method='asymptotic' with NeweyWest"
        )
    p, losses = one.probabilities, one.view.losses()
    edges = np.arange(len(p)) if dependence is None else dependence.edges(len(p))
    unit = np.repeat(np.arange(len(edges)), np.diff(np.append(edges, len(p))))
    generator = np.random.Generator(np.random.PCG64(seed))
    truth = {name: expectation(h(one.view), p) for name, h in one.measures()[0].items()}
    found: dict[str, list[float]] = {name: [] for name in truth}
    correction = np.sqrt(len(edges) / (len(edges) - 1.0))
    for _ in range(repeats):
        drawn = np.bincount(generator.integers(len(edges), size=len(edges)), minlength=len(edges))
        mass = p * drawn[unit]
        total = float(mass.sum())
        if np.count_nonzero(mass) < 2:
            continue  # all drawn scenarios are the same or impossible: no distribution
        view = _Resampled(one.view, mass / total, losses)
        for name, h in Subject(view, one.betas, one.problem).measures()[0].items():
            values = h(view)
            estimate = expectation(values, view.scenarios.probabilities)
            # each draw is an observation, so a scenario or batch drawn twice counts its square twice
            z = np.where(p > 0, p / total * (np.where(p > 0, values, 0.0) - estimate), 0.0)
            error = correction * np.sqrt(float(drawn @ np.add.reduceat(z, edges) ** 2))
            if error > 0 or estimate == truth[name]:  # a resample of equal losses alone says nothing
                found[name].append((estimate - truth[name]) / error if error > 0 else 0.0)
    return {name: np.array(ratios) for name, ratios in found.items()}


class _Resampled(View):
    """A view of the same weights under other probabilities, with the losses it has already."""

    def __init__(self, view: View, probabilities: FloatArray, losses: FloatArray) -> None:
        super().__init__(view.scenarios.reweighted(probabilities), view.mean, view.holdings, view.weights)
        self._known = losses

    def losses(self, scenarios: ScenarioSet | None = None) -> FloatArray:
        """Loss in every scenario (S,) of a set, its own where None."""
        return self._known if scenarios is None else super().losses(scenarios)

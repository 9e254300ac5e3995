r"""How much a Sharpe ratio can be believed: standard errors, track records, the best of many trials.

Per period, with excess returns :math:`x_t`, :math:`\hat s = \bar x / \hat\sigma` (ddof 1), skewness :math:`\gamma_3`,
kurtosis :math:`\gamma_4` (3 for the normal) and :math:`z_t = (x_t - \bar x) / \hat\sigma_0` (ddof 0):

.. math:: \widehat{\mathrm{se}}^2 = \frac{1}{T - 1} \Big(1 - \gamma_3 \hat s + \frac{\gamma_4 - 1}{4} \hat s^2\Big)
          = \frac{1}{T - 1} \cdot \frac1T \sum_t \psi_t^2, \qquad \psi_t = z_t - \tfrac12 \hat s\, (z_t^2 - 1),

the first form by Mertens (2002), for independent periods of any distribution (Lo, 2002, has
:math:`1 + \hat s^2 / 2` for the normal). :math:`\psi` is what a period contributes to the error, so that its long-run
variance takes the place of its mean square where periods depend on each other (Lo, 2002, for returns in general; Newey
& West, 1987). Both :math:`\hat s` and its error are multiplied by :math:`\sqrt P` for P periods per year; neither step
removes autocorrelation from the annualised ratio itself.

Bailey & López de Prado (2012), "The Sharpe ratio efficient frontier", J. Risk 15; (2014), "The deflated Sharpe ratio",
J. Portfolio Management 40.
"""

from __future__ import annotations

import math
from typing import NamedTuple, overload

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri

from portfolioopt.confidence import NeweyWest
from portfolioopt.confidence.dependence import check_level
from portfolioopt.errors import InputError
from portfolioopt.labels import FloatArray, checked_number

from .metric_inputs import Runs, checked_runs, per_period

_NONE = 1e-13  # a standard deviation this small beside the largest number is rounding


class Moments(NamedTuple):
    """Of excess returns per period, by run (R,); NaN where they do not vary."""

    periods: int
    sharpe: FloatArray
    skewness: FloatArray
    kurtosis: FloatArray
    scores: FloatArray
    """z, R x T."""


@overload
def sharpe_ratio(
    returns: pd.Series,
    *,
    risk_free: float | pd.Series = ...,
    periods_per_year: float = ...,
) -> float: ...
@overload
def sharpe_ratio(
    returns: pd.DataFrame,
    *,
    risk_free: float | pd.Series = ...,
    periods_per_year: float = ...,
) -> pd.Series: ...
def sharpe_ratio(
    returns: pd.Series | pd.DataFrame, *, risk_free: float | pd.Series = 0.0, periods_per_year: float = 252.0
) -> float | pd.Series:
    r"""Annualised Sharpe ratio :math:`\sqrt P\, \bar x / \hat\sigma`, of a series, or of every column of a frame.

    Parameters
    ----------
    returns
        Simple returns per period: one run (T,), or periods x runs.
    risk_free
        Simple rate per year, spread evenly over its periods, or a series of rates per period.
    periods_per_year
        P: 252 for daily, 12 for monthly returns.
    """
    runs, excess, year = excess_of(returns, risk_free, periods_per_year, "sharpe_ratio")
    return _by_run(runs, math.sqrt(year) * moments(excess, runs.matrix).sharpe)


@overload
def sharpe_standard_error(
    returns: pd.Series,
    *,
    risk_free: float | pd.Series = ...,
    periods_per_year: float = ...,
    dependence: NeweyWest | None = ...,
) -> float: ...
@overload
def sharpe_standard_error(
    returns: pd.DataFrame,
    *,
    risk_free: float | pd.Series = ...,
    periods_per_year: float = ...,
    dependence: NeweyWest | None = ...,
) -> pd.Series: ...
def sharpe_standard_error(
    returns: pd.Series | pd.DataFrame,
    *,
    risk_free: float | pd.Series = 0.0,
    periods_per_year: float = 252.0,
    dependence: NeweyWest | None = None,
) -> float | pd.Series:
    """Standard error of the annualised Sharpe ratio; NaN below three periods, and without variation.

    `dependence` is None for independent periods (Mertens), or ``NeweyWest(lag)`` for periods that depend on each other.
    The other arguments are those of `sharpe_ratio`.
    """
    runs, excess, year = excess_of(returns, risk_free, periods_per_year, "sharpe_standard_error")
    return _by_run(runs, math.sqrt(year) * standard_errors(moments(excess, runs.matrix), dependence))


@overload
def probabilistic_sharpe(
    returns: pd.Series,
    *,
    against: float = ...,
    risk_free: float | pd.Series = ...,
    periods_per_year: float = ...,
    dependence: NeweyWest | None = ...,
) -> float: ...
@overload
def probabilistic_sharpe(
    returns: pd.DataFrame,
    *,
    against: float = ...,
    risk_free: float | pd.Series = ...,
    periods_per_year: float = ...,
    dependence: NeweyWest | None = ...,
) -> pd.Series: ...
def probabilistic_sharpe(
    returns: pd.Series | pd.DataFrame,
    *,
    against: float = 0.0,
    risk_free: float | pd.Series = 0.0,
    periods_per_year: float = 252.0,
    dependence: NeweyWest | None = None,
) -> float | pd.Series:
    r"""How probable it is that the true Sharpe ratio exceeds `against`, an annual one.

    .. math:: \mathrm{PSR}(s^*) = \Phi\big((\hat s - s^*) / \widehat{\mathrm{se}}\big).

    The error is taken at the estimate, as by Bailey & López de Prado (2012).
    """
    runs, excess, year = excess_of(returns, risk_free, periods_per_year, "probabilistic_sharpe")
    least = checked_number(against, "probabilistic_sharpe: against") / math.sqrt(year)
    found = moments(excess, runs.matrix)
    return _by_run(runs, ndtr((found.sharpe - least) / standard_errors(found, dependence)))


def probabilistic_sharpe_from_moments(
    sharpe: float, *, observations: int, skewness: float = 0.0, kurtosis: float = 3.0, against: float = 0.0
) -> float:
    """`probabilistic_sharpe` of a published track record: Sharpe ratios per period, kurtosis 3 for the normal."""
    who = "probabilistic_sharpe_from_moments"
    s, least = checked_number(sharpe, f"{who}: sharpe"), checked_number(against, f"{who}: against")
    count = checked_number(observations, f"{who}: observations", least=3)
    third, fourth = checked_number(skewness, f"{who}: skewness"), checked_number(kurtosis, f"{who}: kurtosis")
    if fourth < 1.0 + third**2:
        raise InputError(
            f"{who}: no distribution has skewness {third:g} and kurtosis {fourth:g}, which is at least 1 + skewness^2; "
            "pass the kurtosis itself (3 for the normal), not what exceeds 3"
        )
    return float(ndtr((s - least) * math.sqrt((count - 1.0) / (1.0 - third * s + 0.25 * (fourth - 1.0) * s**2))))


@overload
def minimum_track_record(
    returns: pd.Series,
    *,
    against: float = ...,
    level: float = ...,
    risk_free: float | pd.Series = ...,
    periods_per_year: float = ...,
) -> float: ...
@overload
def minimum_track_record(
    returns: pd.DataFrame,
    *,
    against: float = ...,
    level: float = ...,
    risk_free: float | pd.Series = ...,
    periods_per_year: float = ...,
) -> pd.Series: ...
def minimum_track_record(
    returns: pd.Series | pd.DataFrame,
    *,
    against: float = 0.0,
    level: float = 0.95,
    risk_free: float | pd.Series = 0.0,
    periods_per_year: float = 252.0,
) -> float | pd.Series:
    r"""How many periods it takes until a record like this one shows a Sharpe ratio above `against` (per year).

    .. math:: T^* = 1 + \Big(1 - \gamma_3 \hat s + \frac{\gamma_4 - 1}{4} \hat s^2\Big)
              \Big(\frac{\Phi^{-1}(\text{level})}{\hat s - s^*}\Big)^2,

    infinite where the record is no better than `against` (Bailey & López de Prado, 2012).
    """
    who = "minimum_track_record"
    runs, excess, year = excess_of(returns, risk_free, periods_per_year, who)
    least = checked_number(against, f"{who}: against") / math.sqrt(year)
    found = moments(excess, runs.matrix)
    needed = np.full(len(found.sharpe), np.inf)
    above = ~(found.sharpe <= least)  # those without a ratio stay NaN
    needed[above] = (
        1.0 + _spread(found)[above] * (float(ndtri(check_level(level))) / (found.sharpe[above] - least)) ** 2
    )
    return _by_run(runs, needed)


def expected_maximum_sharpe(trials: float, spread: float) -> float:
    r"""The Sharpe ratio that the best of N trials without any skill is expected to have.

    .. math:: \sigma \big((1 - \gamma)\, \Phi^{-1}(1 - 1/N) + \gamma\, \Phi^{-1}(1 - 1/(N e))\big),

    with :math:`\sigma` the standard deviation of the trials' Sharpe ratios (`spread`, in whose unit the answer is) and
    Euler's :math:`\gamma = 0.5772\ldots`; zero for a single trial. The trials are taken to be independent and
    their ratios normal; where they resemble each other, pass `effective_trials`. Bailey & López de Prado (2014).
    """
    number = checked_number(trials, "expected_maximum_sharpe: trials", least=1.0)
    sigma = checked_number(spread, "expected_maximum_sharpe: spread", least=0.0)
    if number == 1.0 or sigma == 0.0:
        return 0.0
    late = float(ndtri(1.0 - 1.0 / (number * math.e)))
    return max(sigma * ((1.0 - np.euler_gamma) * float(ndtri(1.0 - 1.0 / number)) + np.euler_gamma * late), 0.0)


@overload
def deflated_sharpe(
    returns: pd.Series,
    *,
    trials: float,
    spread: float,
    risk_free: float | pd.Series = ...,
    periods_per_year: float = ...,
    dependence: NeweyWest | None = ...,
) -> float: ...
@overload
def deflated_sharpe(
    returns: pd.DataFrame,
    *,
    trials: float,
    spread: float,
    risk_free: float | pd.Series = ...,
    periods_per_year: float = ...,
    dependence: NeweyWest | None = ...,
) -> pd.Series: ...
def deflated_sharpe(
    returns: pd.Series | pd.DataFrame,
    *,
    trials: float,
    spread: float,
    risk_free: float | pd.Series = 0.0,
    periods_per_year: float = 252.0,
    dependence: NeweyWest | None = None,
) -> float | pd.Series:
    """How probable it is that the run chosen as the best of many has skill: `probabilistic_sharpe` against luck.

    Parameters
    ----------
    returns
        Of the run that was chosen.
    trials
        How many independent ones it was chosen from, see `effective_trials`.
    spread
        Standard deviation of the *annualised* Sharpe ratios of the trials.
    risk_free, periods_per_year, dependence
        As in `probabilistic_sharpe`.
    """
    luck = expected_maximum_sharpe(trials, spread)
    return probabilistic_sharpe(
        returns, against=luck, risk_free=risk_free, periods_per_year=periods_per_year, dependence=dependence
    )


def effective_trials(returns: pd.DataFrame) -> float:
    r"""How many independent trials R runs (T x R) amount to: :math:`\bar\rho + (1 - \bar\rho) R`.

    :math:`\bar\rho` is the mean correlation of two different ones, here cut off at zero (Bailey & López de Prado, 2014,
    appendix). Runs without variation count as uncorrelated.
    """
    if not isinstance(returns, pd.DataFrame):
        raise InputError(f"effective_trials: returns must be a frame of periods x runs, was {type(returns).__name__}")
    runs = checked_runs(returns, "effective_trials", rows=2)
    count = len(runs.matrix)
    if count == 1:
        return 1.0
    z = moments(runs.matrix, runs.matrix).scores
    z = np.where(np.isnan(z), 0.0, z)
    # The correlations of all pairs sum to the variance of the sum, less the R of each with itself.
    total = float(np.mean(np.square(z.sum(axis=0)))) - float(np.mean(z**2, axis=1).sum())
    rho = max(total / (count * (count - 1.0)), 0.0)
    return rho + (1.0 - rho) * count


def moments(excess: FloatArray, returns: FloatArray) -> Moments:
    """Moments of excess returns (R, T), whose variation may be no more than the rounding of `returns` (R, T)."""
    count = excess.shape[-1]
    mean = excess.mean(axis=-1)
    z = excess - mean[..., None]
    deviation = np.sqrt(np.mean(z**2, axis=-1))
    deviation[~varies(deviation, returns)] = np.nan
    z /= deviation[..., None]
    squared = z**2
    third, fourth = np.mean(squared * z, axis=-1), np.mean(squared**2, axis=-1)
    scale = math.sqrt((count - 1.0) / count)  # from dividing by T to dividing by T - 1
    return Moments(count, mean / deviation * scale, third, fourth, z)


def varies(deviation: FloatArray, values: FloatArray) -> np.ndarray:
    """Whether standard deviations (R,) of numbers made from `values` (R, T) are more than rounding."""
    return deviation > _NONE * np.abs(values).max(axis=-1)


def standard_errors(found: Moments, dependence: NeweyWest | None) -> FloatArray:
    """Standard error of the Sharpe ratio per period, by run (R,)."""
    if found.periods < 3:
        return np.full(len(found.sharpe), np.nan)
    lags = checked_lags(dependence, found.periods)
    variance = _spread(found) if lags == 0 else long_run(influence(found), lags)
    with np.errstate(invalid="ignore"):
        return np.where(variance > 0.0, np.sqrt(np.maximum(variance, 0.0) / (found.periods - 1.0)), np.nan)


def _spread(found: Moments) -> FloatArray:
    s = found.sharpe
    return 1.0 - found.skewness * s + 0.25 * (found.kurtosis - 1.0) * s**2


def influence(found: Moments) -> FloatArray:
    """What every period contributes to the error of the Sharpe ratio, psi (R, T)."""
    return found.scores - 0.5 * found.sharpe[:, None] * (found.scores**2 - 1.0)


def long_run(z: FloatArray, lags: int) -> FloatArray:
    """Long-run variance with Bartlett weights of rows with mean zero (R, T)."""
    count = z.shape[-1]
    total = np.einsum("rt,rt->r", z, z)
    for k in range(1, lags + 1):
        total += 2.0 * (1.0 - k / (lags + 1.0)) * np.einsum("rt,rt->r", z[:, k:], z[:, :-k])
    return total / count


def checked_lags(dependence: NeweyWest | None, count: int) -> int:
    """How many lags are used for so many periods: none where they are independent."""
    if dependence is None:
        return 0
    if not isinstance(dependence, NeweyWest):
        raise InputError(f"dependence must be None (independent periods) or NeweyWest(lag), was {dependence!r}")
    return dependence.lags(count)


def excess_of(
    returns: pd.Series | pd.DataFrame,
    risk_free: float | pd.Series,
    periods_per_year: float,
    who: str,
    rows: int = 2,
) -> tuple[Runs, FloatArray, float]:
    """Checked returns, the same over the risk-free rate (R, T), and periods per year."""
    year = checked_number(periods_per_year, f"{who}: periods_per_year", above=0.0)
    runs = checked_runs(returns, who, rows=rows)
    return runs, runs.matrix - per_period(risk_free, runs.dates, year, who), year


def _by_run(runs: Runs, values: FloatArray) -> float | pd.Series:
    return float(values[0]) if runs.single else pd.Series(values, index=runs.names)

"""Whether two runs differ in their Sharpe ratios by more than chance.

Ledoit & Wolf (2008), "Robust performance hypothesis testing with the Sharpe ratio", J. Empirical Finance 15;
Memmel (2003), "Performance hypothesis testing with the Sharpe ratio", Finance Letters 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri

from portfolioopt.confidence import NeweyWest
from portfolioopt.confidence.dependence import check_level
from portfolioopt.errors import InputError

from .metric_inputs import by_date, check_losses
from .sharpe import checked_lags, excess_of, influence, long_run, moments


@dataclass(frozen=True)
class SharpeDifference:
    """The Sharpe ratio of one run less that of another; see `sharpe_difference`.

    Parameters
    ----------
    first, second, difference
        Annualised Sharpe ratios.
    standard_error
        Of the difference, annualised.
    lower, upper
        Interval of the difference at `level`.
    p_value
        Two-sided, of no difference, by the normal distribution.
    level
        Of the interval.
    """

    first: float
    second: float
    difference: float
    standard_error: float
    lower: float
    upper: float
    p_value: float
    level: float


def sharpe_difference(
    first: pd.Series,
    second: pd.Series,
    *,
    risk_free: float | pd.Series = 0.0,
    periods_per_year: float = 252.0,
    dependence: NeweyWest | None = NeweyWest(),  # noqa: B008  frozen
    level: float = 0.95,
) -> SharpeDifference:
    r"""Whether two runs over the same periods differ in their Sharpe ratios.

    The error of :math:`\hat s_1 - \hat s_2` is that of :math:`\psi_1 - \psi_2` by period: the delta method on means and
    second moments of Ledoit & Wolf (2008), with Bartlett weights. For independent normal returns (`dependence` None)
    it tends to the test of Jobson & Korkie (1981) as corrected by Memmel (2003). In short samples intervals from a
    block bootstrap are the better ones.

    Parameters
    ----------
    first, second
        Simple returns per period, with the same dates.
    risk_free, periods_per_year
        As in `sharpe_ratio`.
    dependence
        ``NeweyWest(lag)``, or None for independent periods.
    level
        Of the interval.

    Raises
    ------
    InputError
        For dates that differ, fewer than three periods, and runs without variation.
    """
    who = "sharpe_difference"
    confidence = check_level(level)
    if isinstance(first, pd.DataFrame):
        raise InputError(f"{who}: first must be a Series by period, was DataFrame; pass one column of it")
    runs, excess, year = excess_of(first, risk_free, periods_per_year, who, rows=3)
    if not isinstance(second, pd.Series) or not second.index.equals(runs.dates):
        raise InputError(f"{who}: first and second must be Series with the same dates")
    other = by_date(second, runs.dates, who, "second")
    check_losses(other[:, None], runs.dates, who, "second: returns")
    both = np.stack([runs.matrix[0], other])
    found = moments(both - (runs.matrix[0] - excess[0]), both)
    if np.isnan(found.sharpe).any():
        raise InputError(f"{who}: a run without variation has no Sharpe ratio")
    apart = np.diff(influence(found), axis=0)
    variance = float(long_run(apart, checked_lags(dependence, found.periods))[0]) / (found.periods - 1.0)
    root = math.sqrt(year)
    a, b = (root * float(s) for s in found.sharpe)
    error = root * math.sqrt(max(variance, 0.0))
    reach = float(ndtri(0.5 * (1.0 + confidence))) * error
    p_value = float(2.0 * ndtr(-abs(a - b) / error)) if error > 0.0 else float("nan")
    return SharpeDifference(a, b, a - b, error, a - b - reach, a - b + reach, p_value, confidence)

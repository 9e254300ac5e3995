"""The most diversified portfolio."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from portfolioopt.problem import ExpectedReturn, Problem, Volatility
from portfolioopt.problem.constraints import Constraint
from portfolioopt.solve import Result, optimize

from .mean_variance import LONG_ONLY, Covariance
from .rule import covariance_form, listed, scenarios_of_covariance, variances_above_zero


def maximum_diversification(
    covariance: Covariance, *, constraints: Constraint | Iterable[Constraint] = LONG_ONLY, tolerance: float = 1e-6
) -> Result:
    r"""The portfolio of the largest diversification ratio, :math:`\max_w w'\sigma / \sqrt{w'\Sigma w}`.

    :math:`\sigma` are the volatilities of the assets. Choueifaty & Coignard (2008), "Toward maximum diversification",
    Journal of Portfolio Management 35; Choueifaty, Froidure & Reynier (2013).

    Parameters
    ----------
    covariance
        :math:`\Sigma` by asset, per horizon: a frame, a FactorCovariance, or scenarios whose covariance is meant.
    constraints
        Any of the problem language; fully invested and long only where not given.
    tolerance
        Largest relative gap at which the answer counts as optimal.

    Returns
    -------
    Result
        Its objective is the diversification ratio, certified.

    Raises
    ------
    InputError, SolveError
        For assets without variance, and as :class:`Problem` and :func:`optimize` do.
    """
    who = "maximum_diversification"
    scenarios = scenarios_of_covariance(covariance, who)
    variances = variances_above_zero(covariance_form(scenarios).variances(), scenarios.assets, who)
    volatility = pd.Series(np.sqrt(variances), scenarios.assets)
    objective = ExpectedReturn(volatility) / Volatility()
    return optimize(Problem(scenarios, objective, listed(constraints)), tolerance=tolerance)

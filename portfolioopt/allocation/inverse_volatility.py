"""Weights in inverse proportion to volatility."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd

from portfolioopt.estimate import FactorCovariance
from portfolioopt.labels import FloatArray
from portfolioopt.scenarios import ScenarioSet
from portfolioopt.solve import Result

from .rule import by_rule, covariance_form, largest, scenarios_of_covariance, variances_above_zero


def inverse_volatility(covariance: pd.DataFrame | FactorCovariance | ScenarioSet) -> Result:
    r"""Naive risk parity, :math:`w_i \propto 1 / \sigma_i`.

    Contributions to risk are equal where all correlations are (Maillard, Roncalli & Teiletche, 2010).

    Parameters
    ----------
    covariance
        By asset, per horizon (a frame, a FactorCovariance), or scenarios whose covariance is meant. Only variances
        matter.

    Returns
    -------
    Result
        Certified by the largest deviation of any :math:`w_i \sigma_i` from their mean, relative to it.

    Raises
    ------
    InputError
        For what is no covariance, and for assets without variance.
    """
    start = time.perf_counter()
    who = "inverse_volatility"
    scenarios = scenarios_of_covariance(covariance, who)
    volatility = np.sqrt(variances_above_zero(covariance_form(scenarios).variances(), scenarios.assets, who))

    def deviation(weights: FloatArray) -> float:
        risk = weights * volatility
        return largest(risk / risk.mean() - 1.0)

    weights = 1.0 / volatility
    return by_rule(scenarios, "inverse volatility", weights / weights.sum(), deviation, start=start)

"""The same weight for every asset."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd

from portfolioopt.scenarios import ScenarioSet
from portfolioopt.solve import Result

from .rule import by_rule, largest, scenarios_of_returns


def equal_weight(returns: pd.DataFrame | ScenarioSet) -> Result:
    r"""Equal weights, :math:`w_i = 1/N`.

    It needs no estimate, and few methods beat it out of sample by more than their errors: DeMiguel, Garlappi & Uppal
    (2009), "Optimal versus naive diversification", Review of Financial Studies 22.

    Parameters
    ----------
    returns
        Returns (T x N) as fractions, or a ScenarioSet; the weights depend on its columns alone, the risk reported on
        all of it.

    Returns
    -------
    Result
        Certified by the largest deviation of any weight from 1/N, relative to it.
    """
    start = time.perf_counter()
    scenarios = scenarios_of_returns(returns, "equal_weight")
    n = scenarios.n_assets
    return by_rule(
        scenarios, "equal weights", np.full(n, 1.0 / n), lambda weights: largest(n * weights - 1.0), start=start
    )

r"""Filtered historical simulation: residuals of history, the volatility of today.

Each asset's log returns are standardised by a GARCH model. A path draws a date for each of its periods, takes the
residuals of all assets on that date together, so that what happened together stays together, and rolls the variances
forward from where they stand after the last row:

.. math:: x_k = \mu + \sigma_k z_{\tau_k}, \qquad
          \sigma^2_{k+1} = \omega + (\alpha + \gamma 1_{e_k < 0})\, e_k^2 + \beta \sigma_k^2, \quad e_k = x_k - \mu,

with the simple return :math:`e^{x_1 + \dots + x_h} - 1`. Barone-Adesi, Giannopoulos & Vosper (1999), "VaR without
correlations for portfolios of derivative securities", Journal of Futures Markets 19.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.labels import FloatArray

from .bootstrap import refuse_total_losses
from .garch import Garch, Mean, fit_garch
from .historical import historical
from .scenario_set import ScenarioSet, whole_number
from .source import CELLS


def filtered_historical(
    returns: pd.DataFrame,
    n_scenarios: int,
    *,
    seed: int,
    horizon: int = 1,
    mean: Mean = "constant",
    asymmetric: bool = False,
    most_persistence: float | None = None,
    model: Garch | None = None,
) -> ScenarioSet:
    r"""Draw returns over a horizon from the residuals of history and the volatility of today.

    Parameters
    ----------
    returns
        Simple returns per period as fractions (T x N), above -100 %, at least 100 rows.
    n_scenarios
        Number S of scenarios, at least 2.
    seed
        Non-negative whole number. The dates drawn do not depend on the assets.
    horizon
        Number h of periods that one scenario spans.
    mean, asymmetric, most_persistence
        As for :func:`fit_garch`, which fits to the log returns.
    model
        A :class:`Garch` of these log returns, ``fit_garch(np.log1p(returns))`` with any settings, in place of a new
        fit.

    Returns
    -------
    ScenarioSet
        S x N, equally likely, scenarios numbered from 0.

    Raises
    ------
    InputError
        For what :func:`fit_garch` refuses, returns of -100 % or less, sizes out of range, and a model of other assets.
    """
    draw = filtered(returns, n_scenarios, seed, horizon, mean, asymmetric, most_persistence, model)
    compounded = np.zeros((draw.count, len(draw.assets)))
    for part, steps in draw.steps():
        for step in steps:
            compounded[part] += step
    np.expm1(compounded, out=compounded)
    index = pd.RangeIndex(draw.count, name="scenario")
    return ScenarioSet(pd.DataFrame(compounded, index=index, columns=draw.assets), horizon=draw.span)


@dataclass(frozen=True)
class Filtered:
    """Paths of log returns from a GARCH model and its residuals."""

    model: Garch
    count: int
    periods: int
    seed: int

    @property
    def assets(self) -> pd.Index:
        """Labels of the columns (N,)."""
        return self.model.mean.index

    @property
    def span(self) -> str:
        """What a path spans, in words."""
        return "1 period" if self.periods == 1 else f"{self.periods} periods"

    def steps(self) -> Iterator[tuple[slice, Iterator[FloatArray]]]:
        """Some paths at a time: which ones, and their log returns period by period (count, N)."""
        generator = np.random.Generator(np.random.PCG64(self.seed))
        residuals = self.model.residuals.to_numpy()
        # the number of paths at a time follows from N, and the dates drawn shall not: a row of draws for each path
        chunk = max(1, CELLS // len(self.assets))
        for first in range(0, self.count, chunk):
            part = slice(first, min(first + chunk, self.count))
            dates = generator.random((part.stop - first, self.periods))
            yield part, self._rolled(residuals, (dates * len(residuals)).astype(np.intp))

    def _rolled(self, residuals: FloatArray, dates: np.ndarray) -> Iterator[FloatArray]:
        model = self.model
        mean, omega, alpha, gamma, beta = (
            part.to_numpy() for part in (model.mean, model.omega, model.alpha, model.gamma, model.beta)
        )
        variance = np.broadcast_to(model.next_volatility.to_numpy() ** 2, (len(dates), len(mean)))
        for step in dates.T:
            error = np.sqrt(variance) * residuals[step]
            yield mean + error
            variance = omega + (alpha + gamma * (error < 0.0)) * error**2 + beta * variance


def filtered(
    returns: pd.DataFrame,
    n_paths: int,
    seed: int,
    horizon: int,
    mean: Mean,
    asymmetric: bool,
    most_persistence: float | None,
    model: Garch | None,
) -> Filtered:
    """Check the arguments of :func:`filtered_historical`, and fit where there is no model."""
    count = whole_number(n_paths, "n_scenarios", least=2)
    periods = whole_number(horizon, "horizon", least=1)
    whole_number(seed, "seed", least=0)
    history = historical(returns)
    refuse_total_losses(history)
    if float(history.matrix.min()) == -1.0:
        raise InputError("returns has losses of 100 %, whose logarithm is infinite; leave out what has failed")
    if model is None:
        logs = pd.DataFrame(np.log1p(history.matrix), returns.index, returns.columns)
        model = fit_garch(logs, mean=mean, asymmetric=asymmetric, most_persistence=most_persistence)
    elif not isinstance(model, Garch) or not model.mean.index.equals(returns.columns):
        raise InputError(
            "model must be a Garch with the assets of returns, in the same order: fit_garch(np.log1p(returns))"
        )
    return Filtered(model, count, periods, seed)

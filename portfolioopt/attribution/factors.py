r"""Risk by factor: of a covariance :math:`B F B' + \mathrm{diag}(d)`, and of scenarios with known factor returns.

With the exposures :math:`x = B'w` of the portfolio, its volatility is :math:`\sigma^2 = x'Fx + \sum_i d_i w_i^2` and

.. math:: \sigma = \sum_k x_k \frac{(F x)_k}{\sigma} + \sum_i \frac{d_i w_i^2}{\sigma}.

Correlated factors share what they have in common evenly; none of these parts is what would go if the factor were
hedged. Menchero & Davis (2011), "Risk contribution is exposure times volatility times correlation", J. Portfolio
Management 37.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError, unknown_names
from portfolioopt.estimate import FactorCovariance
from portfolioopt.labels import FloatArray, align, numbers, some
from portfolioopt.problem import CVaR
from portfolioopt.scenarios import ScenarioSet

from .contributions import Weights, portfolio_arrays
from .euler import RiskMeasure, name_of, scenarios_of, shares, split

SPECIFIC = "specific"
"""What the rest that no factor explains is called."""


def factor_contributions(
    covariance: FactorCovariance, weights: Weights | pd.DataFrame, *, benchmark: Weights | None = None
) -> pd.DataFrame:
    r"""Split volatility by factor, with a last part for what is specific to assets.

    Parameters
    ----------
    covariance
        Factor model of N assets, per horizon.
    weights
        Fractions of NAV by asset; a frame, assets x portfolios, for many portfolios.
    benchmark
        Its weights: exposures are then active ones, and what is split is the tracking error.

    Returns
    -------
    DataFrame, one row per portfolio and factor, and one for "specific"
        ``portfolio``
            Only where `weights` is a frame.
        ``factor``, ``exposure``
            :math:`x_k`; NaN for the specific part.
        ``stand_alone``
            Volatility of that part by itself, :math:`|x_k| \sqrt{F_{kk}}`.
        ``correlation``
            Of that part with the portfolio: ``contribution`` is `stand_alone` times it.
        ``marginal``
            Change of volatility per unit of exposure, :math:`(Fx)_k / \sigma`; NaN for the specific part.
        ``contribution``, ``share``
            They sum to the volatility, and to one.

    Raises
    ------
    InputError
        For what is no factor model, weights that do not match its assets, and a factor called "specific".
    """
    if not isinstance(covariance, FactorCovariance):
        raise InputError(f"factor_contributions: covariance must be a FactorCovariance, was {_type(covariance)}")
    _check_names(covariance.exposures.columns)
    assets = covariance.assets
    held, portfolios = portfolio_arrays(assets, weights)
    if benchmark is not None:
        held = held - align(benchmark, assets, what="benchmark")
    exposure = held @ covariance.exposures.to_numpy()
    matrix = covariance.factor_covariance.to_numpy(dtype=np.float64)
    product = exposure @ matrix
    specific = held**2 @ covariance.idiosyncratic.to_numpy()
    volatility = np.sqrt(np.maximum(np.einsum("pk,pk->p", exposure, product) + specific, 0.0))
    live = volatility[:, None] > 0.0
    safe = np.where(live, volatility[:, None], 1.0)
    marginal = np.where(live, product / safe, 0.0)
    contribution = np.hstack([exposure * marginal, np.where(live, specific[:, None] / safe, 0.0)])
    alone = np.hstack([np.abs(exposure) * np.sqrt(np.diagonal(matrix)), np.sqrt(specific)[:, None]])
    correlation = np.divide(contribution, alone, out=np.zeros_like(contribution), where=alone > 0.0)
    unknown = np.full((len(held), 1), np.nan)
    return _frame(
        portfolios,
        covariance.exposures.columns,
        {
            "exposure": np.hstack([exposure, unknown]),
            "stand_alone": alone,
            "correlation": correlation,
            "marginal": np.hstack([marginal, unknown]),
            "contribution": contribution,
            "share": shares(contribution),
        },
    )


def factor_scenario_contributions(
    scenarios: ScenarioSet,
    weights: Weights | pd.DataFrame,
    exposures: pd.DataFrame,
    factor_returns: pd.DataFrame,
    *,
    measures: Iterable[RiskMeasure] = (CVaR(0.95),),
) -> pd.DataFrame:
    r"""Split measures of scenarios by factor: the loss of each is :math:`-\sum_k x_k f_{sk}` and the rest.

    With the scenario measure q of `euler`, such as the tail distribution of CVaR, factor k contributes
    :math:`-x_k \sum_s q_s f_{sk}`, and what is specific, :math:`\sum_s q_s (L_s + x'f_s)`. The specific part holds the
    intercepts of a regression as well.

    Parameters
    ----------
    scenarios
        Returns of N assets in S scenarios.
    weights
        Fractions of NAV by asset; a frame, assets x portfolios, for many portfolios.
    exposures
        B (N x K), returns per unit of factor, with a row for every asset of the scenarios.
    factor_returns
        f (S x K), with a row for every scenario, by its label: ``model.factors`` of a fitted model.
    measures
        As for `risk_contributions`; those that look at scenarios, and not at others than these.

    Returns
    -------
    DataFrame, one row per measure, portfolio and factor, and one for "specific"
        ``measure``, ``portfolio`` where there are many, ``factor``, ``exposure``, ``marginal``
        :math:`-\sum_s q_s f_{sk}`, ``contribution`` and ``share``; contributions sum to the measure.

    Raises
    ------
    InputError
        For frames that do not match the scenarios or each other, or are not finite, and measures that do not fit.
    """
    who = "factor_scenario_contributions"
    held, portfolios = portfolio_arrays(scenarios.assets, weights)
    b = _matching(exposures, scenarios.assets, f"{who}: exposures", "asset")
    absent = exposures.columns.difference(factor_returns.columns, sort=False)
    if len(absent):
        raise unknown_names("factor in exposures", absent, factor_returns.columns)
    f = _matching(factor_returns[exposures.columns], scenarios.index, f"{who}: factor_returns", "scenario")
    _check_names(exposures.columns)
    frames = []
    for measure in measures:
        found = split(measure, scenarios, held)
        if found.density is None or found.losses is None or scenarios_of(measure, scenarios) is not scenarios:
            raise InputError(f"{who}: {name_of(measure)} must look at these scenarios, not at others or a covariance")
        exposure = found.weights @ b
        marginal = -found.density @ f
        total = np.einsum("ps,ps->p", found.density, found.losses)
        by_factor = exposure * marginal
        contribution = np.hstack([by_factor, (total - by_factor.sum(axis=1))[:, None]])
        unknown = np.full((len(held), 1), np.nan)
        columns = {
            "exposure": np.hstack([exposure, unknown]),
            "marginal": np.hstack([marginal, unknown]),
            "contribution": contribution,
            "share": shares(contribution),
        }
        frame = _frame(portfolios, exposures.columns, columns)
        frame.insert(0, "measure", name_of(measure))
        frames.append(frame)
    if not frames:
        raise InputError(f"{who}: measures is empty; ask for one, such as CVaR(0.95)")
    return pd.concat(frames, ignore_index=True)


def _matching(frame: pd.DataFrame, labels: pd.Index, what: str, kind: str) -> FloatArray:
    if not isinstance(frame, pd.DataFrame):
        raise InputError(f"{what} must be a frame by {kind} and factor, was {_type(frame)}")
    for axis in (frame.index, frame.columns):
        if axis.has_duplicates:
            raise InputError(f"{what} names {some(axis[axis.duplicated()].unique())} twice")
    missing = labels.difference(frame.index, sort=False)
    if len(missing):
        raise InputError(f"{what} has no row for {kind} {some(missing)}")
    values = numbers(frame.loc[labels], what)
    finite = np.isfinite(values)
    if not finite.all():
        raise InputError(f"{what} is missing or infinite for {some(labels[np.flatnonzero(~finite.all(axis=1))])}")
    return values


def _check_names(factors: pd.Index) -> None:
    if SPECIFIC in factors:
        raise InputError(f"a factor is called {SPECIFIC!r}, as is the part that no factor explains; rename it")


def _frame(portfolios: pd.Index | None, factors: pd.Index, columns: dict[str, FloatArray]) -> pd.DataFrame:
    labels = [*factors, SPECIFIC]
    count = len(columns["contribution"])
    frame: dict[Hashable, Any] = {}
    if portfolios is not None:
        frame[portfolios.name] = portfolios.repeat(len(labels))
    frame["factor"] = labels * count
    return pd.DataFrame({**frame, **{name: values.ravel() for name, values in columns.items()}})


def _type(value: object) -> str:
    return type(value).__name__

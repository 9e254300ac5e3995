r"""Reverse stress tests: the most likely way to lose a given amount.

For an elliptical distribution with mean :math:`\mu` and covariance :math:`\Sigma`, the returns with the largest density
among those under which the portfolio loses x are

.. math:: r^* = \mu + \Sigma w\, \frac{-x - w'\mu}{w' \Sigma w}, \qquad
          d = \sqrt{(r^* - \mu)' \Sigma^{-1} (r^* - \mu)} = \frac{|x + w'\mu|}{\sqrt{w' \Sigma w}} ,

the conditional mean of returns given the loss. Breuer, Jandacka, Rheinberger & Summer (2009), "How to find plausible,
severe, and useful stress scenarios", Int. J. of Central Banking 5.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.estimate import FactorCovariance, square
from portfolioopt.labels import FloatArray, PerAsset, align, checked_number, per_asset

from .entropy_pooling import MeanView, pooled
from .scenario_set import ScenarioSet
from .shocks import Stress


@dataclass(frozen=True, eq=False)
class ReverseStress:
    """A scenario with a given loss, and how far-fetched it is."""

    stress: Stress
    """Returns by asset, and by factor where there is a model; can be put into :func:`stress_test` and so on."""
    loss: float
    """Of the portfolio in it, as a fraction of NAV."""
    distance: float
    """Mahalanobis distance of the returns from their mean, in standard deviations."""
    probability: float
    """Of losing as much or more: under the normal or Student t distribution, or in the scenarios."""
    scenarios: ScenarioSet | None = None
    """For pooled scenarios: with the probabilities under which the mean loss is the given one."""
    relative_entropy: float | None = None
    """For pooled scenarios: of these probabilities to the given ones, in nats."""


def reverse_stress(
    model: FactorCovariance | pd.DataFrame | ScenarioSet,
    weights: pd.Series | Mapping[str, float],
    loss: float,
    *,
    mean: PerAsset = 0.0,
    freedom: float | None = None,
    how: Literal["pooled", "nearest"] = "pooled",
) -> ReverseStress:
    """The most likely scenario in which a portfolio loses an amount.

    Parameters
    ----------
    model
        Covariance of the assets, as a frame or a factor model; or scenarios.
    weights
        By asset, as fractions of NAV.
    loss
        As a fraction of NAV over the horizon of the model; positive is bad.
    mean
        For a covariance: expected returns, one number or by asset.
    freedom
        For a covariance: degrees of freedom, above 2, of the Student t distribution with that covariance that
        `probability` is taken from; the normal distribution where None. The scenario is the same.
    how
        For scenarios: ``"pooled"`` gives them the probabilities nearest to their own under which the mean loss is
        `loss`, and the mean returns under these; ``"nearest"`` the one scenario nearest to the mean, by Mahalanobis
        distance, among those that lose `loss` or more.

    Returns
    -------
    ReverseStress

    Raises
    ------
    InputError
        For weights that do not fit the assets, a portfolio without risk, a loss that no scenario reaches (saying what
        the worst is), and numbers that are not finite.
    """
    x = checked_number(loss, "loss")
    if isinstance(model, ScenarioSet):
        return _from_scenarios(model, weights, x, how)
    if freedom is not None:
        checked_number(freedom, "freedom", above=2.0)
    factored = isinstance(model, FactorCovariance)
    matrix = None if factored else square(model, "reverse_stress")
    assets = model.assets if isinstance(model, FactorCovariance) else model.columns
    w = align(weights, assets, what="weights")
    mu = per_asset(mean, assets, what="mean")
    factors: pd.Series | None = None
    pull: FloatArray
    if isinstance(model, FactorCovariance):
        own = model.exposures.T.to_numpy() @ w
        factor_pull = model.root @ (model.root.T @ own)
        pull = model.exposures.to_numpy() @ factor_pull + model.idiosyncratic.to_numpy() * w
        factors = pd.Series(factor_pull, model.exposures.columns, name="return")
    else:
        assert matrix is not None
        pull = matrix @ w
    variance = float(w @ pull)
    if not variance > 0.0:
        raise InputError("the portfolio has no risk under this model, so no scenario makes it lose more than another")
    short = -x - float(w @ mu)
    returns = mu + pull * (short / variance)
    deviations = -short / variance**0.5
    stress = Stress(
        name=_named(x),
        returns=pd.Series(returns, assets, name="return"),
        factors=None if factors is None else factors * (short / variance),
        exposures=model.exposures if isinstance(model, FactorCovariance) else None,
    )
    return ReverseStress(stress, x, abs(deviations), _beyond(deviations, freedom))


def _from_scenarios(
    scenarios: ScenarioSet, weights: pd.Series | Mapping[str, float], x: float, how: str
) -> ReverseStress:
    if how not in ("pooled", "nearest"):
        raise InputError(f"how must be 'pooled' or 'nearest', was {how!r}")
    w = align(weights, scenarios.assets, what="weights")
    losses, p = scenarios.source.losses(w), scenarios.probabilities
    worst = float(losses[p > 0].max())
    if x > worst:
        raise InputError(f"no scenario loses {x:g}: the worst loses {worst:g}; use scenarios that go that far")
    probability = float(p[losses >= x].sum())
    if how == "nearest":
        rows = np.flatnonzero((losses >= x) & (p > 0))
        returns = scenarios.source.rows(rows)
        away = _mahalanobis(scenarios, returns)
        best = int(away.argmin())
        name = str(scenarios.index[rows[best]])
        stress = Stress(name, pd.Series(returns[best], scenarios.assets, name="return"))
        return ReverseStress(stress, float(losses[rows[best]]), float(away[best]), probability)
    held = {asset: float(weight) for asset, weight in zip(scenarios.assets, w, strict=True) if weight}
    if not held:
        raise InputError("the portfolio holds nothing, so no scenario makes it lose more than another")
    found = pooled(scenarios, [MeanView(held, -x)])
    tilted = scenarios.reweighted(found.probabilities)
    mean = tilted.mean()
    stress = Stress(_named(x), mean.rename("return"))
    distance = float(_mahalanobis(scenarios, mean.to_numpy()[None])[0])
    return ReverseStress(stress, x, distance, probability, tilted, found.relative_entropy)


def _mahalanobis(scenarios: ScenarioSet, returns: FloatArray) -> FloatArray:
    """Distance of returns (K, N) from the mean; what lies off the span of the scenarios does not occur."""
    values, vectors = np.linalg.eigh(scenarios.covariance().to_numpy())
    kept = values > 1e-12 * values[-1]
    scores = ((returns - scenarios.mean_array()) @ vectors[:, kept]) / np.sqrt(values[kept])
    return np.sqrt((scores**2).sum(axis=1))


def _beyond(deviations: float, freedom: float | None) -> float:
    """Probability of a loss that many standard deviations above its mean, or more."""
    from scipy import stats  # slow to import

    if freedom is None:
        return float(stats.norm.sf(deviations))
    return float(stats.t.sf(deviations * (freedom / (freedom - 2.0)) ** 0.5, freedom))


def _named(loss: float) -> str:
    return f"loss of {100.0 * loss:g} %"

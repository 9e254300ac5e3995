r"""Risk contributions of assets, by Euler's theorem: exactly additive, for CVaR and for volatility.

CVaR and volatility of the loss :math:`-R w` grow in proportion to the weights, so that

.. math:: \rho(w) = \sum_i w_i \frac{\partial \rho}{\partial w_i}, \qquad
          \frac{\partial\, \mathrm{CVaR}_\beta}{\partial w_i} = -\sum_s q_s R_{si}, \qquad
          \frac{\partial \sigma}{\partial w_i} = \frac{(\Sigma w)_i}{\sigma},

with q the probabilities within the tail (S,) and :math:`\Sigma` the covariance under the scenario
probabilities. Tasche (1999), "Risk contributions and performance measurement"; Rockafellar & Uryasev (2002),
J. Banking & Finance 26, for tails that hold fractions of scenarios.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from portfolioopt.errors import InputError, unknown_names
from portfolioopt.labels import some
from portfolioopt.scenarios import ScenarioSet, tail
from portfolioopt.scenarios.tail import check_beta

FloatArray = npt.NDArray[np.float64]

_TOLERANCE = 1e-6  # relative: how far a tail distribution from a solver may be off
_ROUNDING = 4.0 * np.finfo(np.float64).eps


def risk_contributions(
    scenarios: ScenarioSet,
    weights: pd.Series | Mapping[str, float],
    *,
    betas: Iterable[float] = (0.95,),
    tail_weights: Mapping[float, npt.ArrayLike] | None = None,
) -> pd.DataFrame:
    r"""Split CVaR and volatility into one contribution per asset, :math:`w_i\, \partial\rho / \partial w_i`.

    Where several scenarios tie at the value-at-risk, CVaR has a kink and more than one derivative is valid.
    The ties then share the rest of the tail in proportion to their probabilities, or as `tail_weights` says.
    An optimal portfolio usually sits on such a kink, and only the optimal dual tail gives marginal risks that
    balance there.

    Parameters
    ----------
    scenarios
        Returns of N assets in S scenarios, with probabilities.
    weights
        Weight of every asset as a fraction of NAV (a Series or mapping); any sign and total.
    betas
        Confidence levels of CVaR, each in (0, 1); none for volatility alone. Of no effect where the scenarios are known
        by mean and covariance alone: there is only volatility then.
    tail_weights
        For any of the levels, the tail distribution q (S,) to use: ``result.tail_weights`` of a solved
        problem. It must be non-negative, sum to one, stay below :math:`p_s / (1 - \beta)` and attain the CVaR
        of `weights`, each to 1e-6 relative. Levels not named use the tail itself.

    Returns
    -------
    DataFrame, one row per measure and asset
        ``measure``
            "CVaR 95%" for each level, in the given order, then "volatility"; loss per scenario horizon.
        ``asset``, ``weight``
            Label and weight, in the order of the scenarios.
        ``marginal``
            Change of the measure per unit of weight.
        ``contribution``
            Weight times marginal, as a fraction of NAV. Negative for a hedge. The contributions sum to the
            measure, to rounding; with `tail_weights`, to :math:`q'L`, which is the CVaR to 1e-6.
        ``share``
            Contribution over the sum of contributions. Zero for all assets where that sum is zero: there is
            no risk to share out. Where the sum is negative (a CVaR that is a gain), a positive share is a
            gain.

        A portfolio without volatility has marginal volatilities of zero, one of the valid derivatives there.

    Raises
    ------
    InputError
        For weights that do not match the assets, levels outside (0, 1) or given twice, and tail weights that
        belong to no level or are not an optimal tail distribution of these weights.
    """
    values = scenarios.weights_array(weights)
    levels = _checked_levels(betas) if scenarios.form is None else {}
    given = dict(tail_weights or {})
    unknown = [beta for beta in given if beta not in levels]
    if unknown:
        raise unknown_names("confidence level in tail_weights", unknown, levels)

    if scenarios.form is not None:
        variance, product = scenarios.form(values)
        marginal = product / np.sqrt(variance) if variance > 0 else np.zeros_like(product)
        return _frame("volatility", scenarios.assets, values, marginal)
    losses = scenarios.source.losses(values)
    frames = []
    for beta, measure in levels.items():
        exact = tail(losses, scenarios.probabilities, beta)
        distribution = exact.weights
        if beta in given:
            distribution = _checked_tail(given[beta], scenarios, losses, distribution, beta)
        marginal = -scenarios.source.pull(distribution[None])[0]
        frames.append(_frame(measure, scenarios.assets, values, marginal))
    frames.append(_frame("volatility", scenarios.assets, values, _marginal_volatility(scenarios, values, losses)))
    return pd.concat(frames, ignore_index=True)


def group_contributions(contributions: pd.DataFrame, labels: pd.Series | Mapping[str, str]) -> pd.DataFrame:
    """Sum weights, contributions and shares over the assets that carry the same label (a sector, a country).

    Parameters
    ----------
    contributions
        What :func:`risk_contributions` returned.
    labels
        Label of every asset in `contributions`, and of no other.

    Returns
    -------
    DataFrame, one row per measure and group
        ``measure``, ``group``, ``weight``, ``contribution``, ``share``; groups in the order in which the
        assets bring them up. They sum to the same totals as the assets.

    Raises
    ------
    UnknownNameError
        For a label of an asset that is not in `contributions`, with the close matches.
    InputError
        For assets without a label or with two, and a frame without the columns needed.
    """
    needed = ["measure", "asset", "weight", "contribution", "share"]
    absent = [name for name in needed if name not in contributions.columns]
    if absent:
        raise InputError(
            f"contributions has no column {some(pd.Index(absent))}; pass the frame that risk_contributions returned"
        )
    if not isinstance(labels, pd.Series | Mapping):
        raise InputError(f"labels must be a Series or mapping from asset to label, was {type(labels).__name__}")
    series = labels if isinstance(labels, pd.Series) else pd.Series(dict(labels), dtype=object)
    if series.index.has_duplicates:
        repeated = series.index[series.index.duplicated()].unique()
        raise InputError(f"labels names an asset twice: {some(repeated)}; keep one label per asset")
    assets = pd.Index(contributions["asset"].unique())
    unknown = series.index.difference(assets, sort=False)
    if len(unknown):
        raise unknown_names("asset", unknown, assets)
    own = pd.Series(series.reindex(assets).tolist(), index=assets)  # a categorical would bring its own order
    if own.isna().any():
        raise InputError(f"labels says nothing about {some(assets[own.isna()])}; give every asset a label")

    grouped = contributions.assign(group=contributions["asset"].map(own))
    sums = grouped.groupby(["measure", "group"], sort=False)[["weight", "contribution", "share"]].sum()
    return sums.reset_index()


def _checked_levels(betas: Iterable[float]) -> dict[float, str]:
    """Name of the measure for each level."""
    if not isinstance(betas, Iterable) or isinstance(betas, str):
        raise InputError(f"betas must be a sequence of confidence levels, such as (0.95,), was {betas!r}")
    levels: dict[float, str] = {}
    for beta in betas:
        level = check_beta(beta)
        measure = f"CVaR {100.0 * level:.12g}%"
        if measure in levels.values():
            raise InputError(f"betas names {level:g} twice; give each confidence level once")
        levels[level] = measure
    return levels


def _checked_tail(
    given: npt.ArrayLike, scenarios: ScenarioSet, losses: FloatArray, exact: FloatArray, beta: float
) -> FloatArray:
    """Return the tail distribution as an array (S,), or refuse one that is not optimal for these losses."""
    what = f"tail_weights[{beta:g}]"
    if isinstance(given, pd.Series) and not given.index.equals(scenarios.index):
        raise InputError(f"{what} is labelled differently from the scenarios; reindex it to scenarios.index")
    distribution = np.asarray(given, dtype=np.float64)
    if distribution.shape != losses.shape:
        raise InputError(f"{what} has shape {distribution.shape} for {len(losses)} scenarios")
    if not np.isfinite(distribution).all():
        raise InputError(f"{what} is not finite for scenarios {some(scenarios.index[~np.isfinite(distribution)])}")
    if (distribution < 0.0).any():
        raise InputError(f"{what} is negative for scenarios {some(scenarios.index[distribution < 0.0])}")
    total = float(distribution.sum())
    if abs(total - 1.0) > _TOLERANCE:
        raise InputError(f"{what} sums to {total:.9g}, not to one; divide it by its sum if that is meant")
    above = distribution > scenarios.probabilities / (1.0 - beta) * (1.0 + _TOLERANCE)
    if above.any():
        raise InputError(
            f"{what} is above the cap, the scenario probability over {1.0 - beta:g}, for scenarios "
            f"{some(scenarios.index[above])}; it is not a tail distribution at this level"
        )
    cvar, attained = float(exact @ losses), float(distribution @ losses)
    # against the size of the losses in the tail, so that a CVaR near zero is not held to the impossible
    if abs(attained - cvar) > _TOLERANCE * float(exact @ np.abs(losses)):
        raise InputError(
            f"{what} gives a mean loss of {attained:.9g} where the CVaR of these weights is {cvar:.9g}; it "
            "belongs to other weights or another level"
        )
    return distribution


def _marginal_volatility(scenarios: ScenarioSet, weights: FloatArray, losses: FloatArray) -> FloatArray:
    """Derivative of the portfolio volatility by each weight (N,), without the N x N covariance."""
    p = scenarios.probabilities
    gain = p @ losses - losses
    volatility = float(np.sqrt(p @ gain**2))
    # a spread no larger than the rounding in the portfolio returns is none
    if volatility <= _ROUNDING * len(weights) * float(np.abs(weights) @ scenarios.source.largest):
        return np.zeros_like(weights)
    return scenarios.source.pull((p * gain)[None])[0] / volatility


def _frame(measure: str, assets: pd.Index, weights: FloatArray, marginal: FloatArray) -> pd.DataFrame:
    contribution = weights * marginal
    total = float(contribution.sum())
    if abs(total) <= _ROUNDING * len(weights) * float(np.abs(contribution).sum()):
        share = np.zeros_like(contribution)
    else:
        share = contribution / total
    return pd.DataFrame(
        {
            "measure": measure,
            "asset": assets,
            "weight": weights,
            "marginal": marginal,
            "contribution": contribution,
            "share": share,
        }
    )

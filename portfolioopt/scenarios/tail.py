r"""Value-at-risk and CVaR of a discrete loss distribution, exact for fractional tails and unequal probabilities.

.. math:: \mathrm{CVaR}_\beta(L) = \min_t\; t + \frac{1}{1-\beta} \sum_s p_s (L_s - t)_+
          = \frac{1}{1-\beta} \int_\beta^1 \mathrm{VaR}_\gamma(L)\, d\gamma .

Rockafellar & Uryasev (2002), "Conditional value-at-risk for general loss distributions", J. Banking & Finance 26.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from portfolioopt.errors import InputError

FloatArray = npt.NDArray[np.float64]


class Tail(NamedTuple):
    """The worst ``1 - beta`` of a loss distribution."""

    var: float
    """Value-at-risk: the beta-quantile of the loss, positive is bad. Where whole scenarios fill the tail exactly, every
    number from the next smaller loss to the smallest loss in the tail is a beta-quantile; this is the latter."""
    cvar: float
    """Mean loss over the tail; never below the value-at-risk."""
    weights: FloatArray
    """Probability of each scenario within the tail (S,): zero outside, summing to one. ``weights @ losses`` is the
    CVaR. The scenarios that tie with the value-at-risk share the remainder in proportion to their probabilities."""


def check_beta(beta: float) -> float:
    """Return beta as a float, or refuse a level outside (0, 1)."""
    try:
        level = float(beta)
    except (TypeError, ValueError):
        level = np.nan
    if not 0.0 < level < 1.0:
        raise InputError(
            f"beta must lie strictly between 0 and 1, was {beta!r}: it is the confidence level (0.95 looks at the "
            "worst 5 % of scenarios)"
        )
    return level


def tail(losses: FloatArray, probabilities: FloatArray, beta: float) -> Tail:
    """Value-at-risk, CVaR and tail probabilities of the losses at level `beta`.

    Parameters
    ----------
    losses
        Loss of each scenario (S,), any unit, positive is bad.
    probabilities
        Probability of each scenario (S,), non-negative, summing to one.
    beta
        Confidence level in (0, 1); the tail holds probability ``1 - beta``, whole scenarios or not.
    """
    alpha = 1.0 - check_beta(beta)
    candidates = np.flatnonzero(probabilities > 0)
    order = candidates[np.argsort(-losses[candidates], kind="stable")]
    mass = np.cumsum(probabilities[order])
    # the first scenario at which the tail is full; rounding of the sum must not push it one too far
    full = min(int(np.searchsorted(mass, alpha * (1.0 - 1e-12))), len(order) - 1)
    var = float(losses[order[full]])
    weights = np.zeros_like(probabilities)
    beyond = losses > var
    weights[beyond] = probabilities[beyond] / alpha
    tied = losses == var
    weights[tied] = probabilities[tied] * (max(1.0 - weights.sum(), 0.0) / probabilities[tied].sum())
    cvar = var + float(probabilities[beyond] @ (losses[beyond] - var)) / alpha
    return Tail(var, cvar, weights)

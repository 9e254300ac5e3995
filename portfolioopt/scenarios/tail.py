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

_PROBE = 4096  # losses sorted to guess where the tail begins


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
    var = quantile(losses, probabilities, alpha)
    weights = np.zeros_like(probabilities)
    worst = np.flatnonzero(losses >= var)
    tied = losses[worst] == var
    beyond, tied = worst[~tied], worst[tied]
    weights[beyond] = probabilities[beyond] / alpha
    weights[tied] = probabilities[tied] * (max(1.0 - weights.sum(), 0.0) / probabilities[tied].sum())
    cvar = var + float(probabilities[beyond] @ (losses[beyond] - var)) / alpha
    return Tail(var, cvar, weights)


def quantile(losses: FloatArray, mass: FloatArray, top: float) -> float:
    """The loss at which the worst scenarios together first hold `top`: value-at-risk for ``top = 1 - beta``.

    Sorts no more than the scenarios at and beyond it, and none where all carry the same mass.

    Parameters
    ----------
    losses
        Loss of each scenario (S,).
    mass
        Probability or other weight of each scenario (S,), non-negative; scenarios without any do not count.
    top
        How much of the mass lies at or beyond the quantile; positive. Where all of it is less: the smallest loss.
    """
    live = mass > 0
    gains, mass = (-losses, mass) if live.all() else (-losses[live], mass[live])
    count = len(gains)
    enough = top * (1.0 - 1e-12)  # rounding of the sum must not push the end of a whole tail one scenario too far
    equal = mass.min() == mass.max()
    last = count - 1
    if equal:  # summed one by one, as in any order of the scenarios
        held = np.cumsum(mass[: int(min(top / mass[0] * 1.001 + 2, count))])
        last = min(int(np.searchsorted(held, enough)), last)
    share = (last + 1) / count if equal else top / float(mass.sum())
    probe = np.sort(gains[:: max(count // _PROBE, 1)])
    while True:
        # a few more than should be needed; those that tie with the last of them are in, so how many does not matter
        rank = int(1.2 * share * len(probe)) + 16
        whole = rank >= len(probe)
        worst = np.arange(count) if whole else np.flatnonzero(~(gains > probe[rank]))
        found = gains[worst]
        if equal:
            if len(found) > last:
                found.partition(last)
                return -float(found[last])
        else:
            order = np.argsort(found, kind="stable")
            held = np.cumsum(mass[worst][order])
            if whole or held[-1] >= enough:
                return -float(found[order[min(int(np.searchsorted(held, enough)), len(order) - 1)]])
        share *= 2.0

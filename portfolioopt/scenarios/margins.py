"""Distributions of single assets, by their quantiles: as history has them, fitted, or with fitted tails."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from scipy import special

from portfolioopt.labels import FloatArray

Margins: TypeAlias = Literal["empirical", "smoothed", "normal", "student_t", "pareto"]
MARGINS = ("empirical", "smoothed", "normal", "student_t", "pareto")

_TAIL = 0.1  # share of the rows that a Pareto tail is fitted to


@dataclass(frozen=True)
class Empirical:
    """Returns that occurred, all equally likely."""

    ordered: FloatArray  # (T,)

    def quantile(self, u: FloatArray) -> FloatArray:
        """The smallest return that a share `u` of all does not exceed."""
        return self.ordered[np.clip(np.ceil(u * len(self.ordered)).astype(np.intp) - 1, 0, len(self.ordered) - 1)]


@dataclass(frozen=True)
class Smoothed:
    """Linear between the returns that occurred, each in the middle of its share 1/T; flat beyond the ends."""

    ordered: FloatArray  # (T,)

    def quantile(self, u: FloatArray) -> FloatArray:
        """Returns at the probabilities `u`."""
        return np.interp(u, (np.arange(len(self.ordered)) + 0.5) / len(self.ordered), self.ordered)


@dataclass(frozen=True)
class LocationScale:
    """A normal distribution, or a Student t one with `freedom`, moved and scaled."""

    centre: float
    scale: float
    freedom: float | None

    def quantile(self, u: FloatArray) -> FloatArray:
        """Returns at the probabilities `u`."""
        standard = special.ndtri(u) if self.freedom is None else special.stdtrit(self.freedom, u)
        return self.centre + self.scale * standard


@dataclass(frozen=True)
class ParetoTails:
    r"""Smoothed history with generalised Pareto tails.

    Beyond a threshold q with probability :math:`\pi` in the tail, the excess over q has the quantile
    :math:`\frac{\sigma}{\xi} ((u / \pi)^{-\xi} - 1)`.
    """

    body: Smoothed
    lower: tuple[float, float, float]  # threshold of the losses, xi, sigma
    upper: tuple[float, float, float]  # the same of the gains

    def quantile(self, u: FloatArray) -> FloatArray:
        """Returns at the probabilities `u`."""
        returns = self.body.quantile(u)
        for sign, share, (threshold, shape, scale) in ((-1.0, u, self.lower), (1.0, 1.0 - u, self.upper)):
            beyond = share < _TAIL
            # -boxcox(p, -xi) = (p^-xi - 1) / xi goes over to -log p at xi = 0 without a gap
            excess = -scale * special.boxcox(np.maximum(share[beyond], 1e-300) / _TAIL, -shape)
            returns[beyond] = sign * (threshold + excess)
        return returns


Margin: TypeAlias = Empirical | Smoothed | LocationScale | ParetoTails


def fitted_margin(values: FloatArray, kind: Margins) -> Margin:
    """The distribution of one asset's returns (T,)."""
    from scipy import stats  # costly to import

    match kind:
        case "empirical":
            return Empirical(np.sort(values))
        case "smoothed":
            return Smoothed(np.sort(values))
        case "normal":
            return LocationScale(float(values.mean()), float(values.std()), None)
        case "student_t":
            centre, scale = float(np.median(values)), float(values.std())
            freedom, moved, size = stats.t.fit((values - centre) / scale)
            return LocationScale(centre + scale * float(moved), scale * float(size), float(freedom))
        case "pareto":
            body = Smoothed(np.sort(values))
            low, high = body.quantile(np.array([_TAIL, 1.0 - _TAIL])).tolist()
            return ParetoTails(body, _tail(-values, -low), _tail(values, high))


def _tail(values: FloatArray, threshold: float) -> tuple[float, float, float]:
    """Threshold, shape and scale of a generalised Pareto distribution beyond it, by maximum likelihood."""
    from scipy import stats

    excess = values[values > threshold] - threshold
    size = float(excess.mean())
    shape, _, scale = stats.genpareto.fit(excess / size, floc=0.0)
    return threshold, float(shape), size * float(scale)

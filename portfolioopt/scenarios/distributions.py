r"""Laws of factor and idiosyncratic returns, scaled so that covariances are exactly what was asked for.

A factor return is a normal vector that is scaled and shifted by random numbers common to the factors of a scenario,

.. math:: f = a\, G z + h, \qquad z \sim \mathcal N(0, I), \quad (a, h) \text{ independent of } z,

which covers heavy tails, skewness and jumps. G is chosen such that f has mean zero and covariance F whatever the law
(:class:`Jumps` may add its own instead). Idiosyncratic returns have mean zero and the variances asked for, too. McNeil,
Frey & Embrechts (2015), "Quantitative Risk Management", section 6.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.labels import FloatArray, checked_number, per_asset, some

PerFactor: TypeAlias = float | pd.Series | Mapping[str, float]
Mixing: TypeAlias = tuple[FloatArray | None, FloatArray | None]
"""Scale a (S,) and shift h (S, K) of some scenarios; None where the one is one and the other zero."""


@dataclass(frozen=True)
class Gaussian:
    r"""Normal returns: :math:`a = 1`, :math:`h = 0`."""

    def diffusion(self, covariance: FloatArray, factors: pd.Index) -> FloatArray:
        """``G G'`` (K, K) for factors of this covariance (K, K)."""
        del factors
        return covariance

    def mixing(self, stream: np.random.Generator, rows: int, covariance: FloatArray, factors: pd.Index) -> Mixing:
        """Scale and shift of `rows` scenarios."""
        del stream, rows, covariance, factors
        return None, None


@dataclass(frozen=True)
class StudentT:
    r"""Student t returns with :math:`\nu` degrees of freedom.

    As the law of the factors: :math:`a = \sqrt{(\nu - 2) / \chi^2_\nu}` is common to all, so that they are a
    multivariate Student t vector, with extremes that come together. As the law of idiosyncratic returns: every asset
    has an independent number of its own. Variances do not depend on :math:`\nu`.

    Parameters
    ----------
    freedom
        :math:`\nu`, above 2.
    """

    freedom: float

    def __post_init__(self) -> None:
        checked_freedom(self.freedom, "StudentT: freedom")

    def diffusion(self, covariance: FloatArray, factors: pd.Index) -> FloatArray:
        """``G G'`` (K, K) for factors of this covariance (K, K)."""
        del factors
        return covariance

    def mixing(self, stream: np.random.Generator, rows: int, covariance: FloatArray, factors: pd.Index) -> Mixing:
        """Scale and shift of `rows` scenarios."""
        del covariance, factors
        return student_scale(stream, self.freedom, rows), None


@dataclass(frozen=True)
class SkewedT:
    r"""Skewed Student t factors: a normal mixture of means and variances.

    With :math:`W = \nu / \chi^2_\nu`, :math:`f = \gamma (W - \mathrm E W) + \sqrt W G z` and
    :math:`\gamma_k = s_k \sigma_k / \mathrm{sd}(W)`, so that :math:`s_k^2` is the share of the variance of factor k
    that comes from W. A negative :math:`s_k` makes losses of the factor longer than its gains; its skewness is, for
    :math:`\nu > 6`,

    .. math:: s^3 \frac{4 \sqrt{\nu/2 - 2}}{\nu/2 - 3} + 3 s (1 - s^2) \sqrt{\frac{2}{\nu - 4}} .

    The covariance F is kept: :math:`G G' = (F - \gamma \gamma' \mathrm{Var} W) / \mathrm E W`, which must have no
    negative eigenvalue: with the correlations R of the factors, :math:`s' R^{-1} s \le 1`. Demarta & McNeil (2005),
    "The t copula and related copulas", International Statistical Review 73.

    Parameters
    ----------
    freedom
        :math:`\nu`, above 4.
    skew
        s, one number or by factor, between -1 and 1.
    """

    freedom: float
    skew: PerFactor

    def __post_init__(self) -> None:
        checked_number(self.freedom, "SkewedT: freedom", above=4.0)

    def diffusion(self, covariance: FloatArray, factors: pd.Index) -> FloatArray:
        """``G G'`` (K, K) for factors of this covariance (K, K)."""
        moved = self._skews(factors) * np.sqrt(np.diag(covariance))
        return (covariance - np.outer(moved, moved)) * (self.freedom - 2.0) / self.freedom

    def mixing(self, stream: np.random.Generator, rows: int, covariance: FloatArray, factors: pd.Index) -> Mixing:
        """Scale and shift of `rows` scenarios."""
        freedom = self.freedom
        mixed = freedom / stream.chisquare(freedom, rows)
        mean = freedom / (freedom - 2.0)
        unit = (mixed - mean) / (mean * np.sqrt(2.0 / (freedom - 4.0)))
        return np.sqrt(mixed), unit[:, None] * (self._skews(factors) * np.sqrt(np.diag(covariance)))

    def _skews(self, factors: pd.Index) -> FloatArray:
        skews = per_asset(self.skew, factors, what="SkewedT.skew")
        if (np.abs(skews) > 1.0).any():
            raise InputError(
                f"SkewedT: skew must lie between -1 and 1, and does not for {some(factors[abs(skews) > 1])}"
            )
        return skews


@dataclass(frozen=True)
class Jumps:
    r"""Normal factors with jumps that hit all of them at once: a Poisson number n of jumps per scenario horizon.

    .. math:: f = G z + \sum_{j=1}^n J_j - \lambda m, \qquad n \sim \mathrm{Poisson}(\lambda), \quad
              J_j \sim \mathcal N(m, \mathrm{diag}(s^2)),

    so that jumps add :math:`\lambda (m m' + \mathrm{diag}(s^2))` to the covariance and nothing to the mean. Merton
    (1976), "Option pricing when underlying stock returns are discontinuous", Journal of Financial Economics 3.

    Parameters
    ----------
    intensity
        :math:`\lambda`, expected number of jumps per scenario horizon, above zero.
    mean
        m, mean size of a jump as a return, one number or by factor.
    volatility
        s, standard deviation of the size, one number or by factor; not negative.
    covariance
        ``"kept"``: F is the covariance of the factors with their jumps, and G explains what the jumps leave over, which
        must be a covariance. ``"added"``: F is that of G z alone, and the jumps come on top.
    """

    intensity: float
    mean: PerFactor
    volatility: PerFactor
    covariance: Literal["kept", "added"] = "kept"

    def __post_init__(self) -> None:
        checked_number(self.intensity, "Jumps: intensity", above=0.0)
        if self.covariance not in ("kept", "added"):
            raise InputError(f"Jumps: covariance must be 'kept' or 'added', was {self.covariance!r}")

    def diffusion(self, covariance: FloatArray, factors: pd.Index) -> FloatArray:
        """``G G'`` (K, K) for factors of this covariance (K, K)."""
        if self.covariance == "added":
            return covariance
        mean, volatility = self._sizes(factors)
        return covariance - self.intensity * (np.outer(mean, mean) + np.diag(volatility**2))

    def mixing(self, stream: np.random.Generator, rows: int, covariance: FloatArray, factors: pd.Index) -> Mixing:
        """Scale and shift of `rows` scenarios."""
        del covariance
        mean, volatility = self._sizes(factors)
        count = stream.poisson(self.intensity, rows).astype(np.float64)[:, None]
        size = np.sqrt(count) * volatility * stream.standard_normal((rows, len(factors)))
        return None, (count - self.intensity) * mean + size

    def _sizes(self, factors: pd.Index) -> tuple[FloatArray, FloatArray]:
        volatility = per_asset(self.volatility, factors, what="Jumps.volatility")
        if (volatility < 0).any():
            raise InputError(f"Jumps: volatility is negative for {some(factors[volatility < 0])}")
        return per_asset(self.mean, factors, what="Jumps.mean"), volatility


@dataclass(frozen=True)
class VolatilityShock:
    r"""Normal idiosyncratic returns whose volatilities rise and fall together, by :math:`e^{v x - v^2}`, x normal.

    The square of that factor has a mean of one, so variances stay what they are; idiosyncratic returns are still
    uncorrelated, but large ones come together, and each has the kurtosis :math:`3 e^{4 v^2}`. Herskovic, Kelly, Lustig
    & Van Nieuwerburgh (2016), "The common factor in idiosyncratic volatility", Journal of Financial Economics 119.

    Parameters
    ----------
    volatility
        v, standard deviation of the logarithm of the volatility, not negative: 0.3 is a rise by a third.
    """

    volatility: float

    def __post_init__(self) -> None:
        checked_number(self.volatility, "VolatilityShock: volatility", least=0.0)

    def scale(self, stream: np.random.Generator, rows: int) -> FloatArray:
        """What all idiosyncratic volatilities are multiplied by in each of `rows` scenarios."""
        return np.exp(self.volatility * stream.standard_normal(rows) - self.volatility**2)


FactorDistribution: TypeAlias = Gaussian | StudentT | SkewedT | Jumps
IdiosyncraticDistribution: TypeAlias = Gaussian | StudentT | VolatilityShock


def student_scale(stream: np.random.Generator, freedom: float, rows: int) -> FloatArray:
    """What normal numbers are multiplied by to be Student t ones of the same variance, in each scenario."""
    return np.sqrt((freedom - 2.0) / stream.chisquare(freedom, rows))


def checked_freedom(freedom: object, what: str) -> float:
    """Degrees of freedom with which a covariance exists."""
    try:
        number = float(freedom)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise InputError(f"{what} must be a number above 2, was {freedom!r}") from error
    if not 2.0 < number < np.inf:
        raise InputError(
            f"{what} must be above 2, so that a covariance exists, was {freedom!r}; leave it out for normal returns"
        )
    return number

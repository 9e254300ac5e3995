r"""Scenarios of a factor model that say more about a portfolio than as many independent ones.

Three schemes, for normal and multivariate Student t factor models (:func:`~portfolioopt.scenarios.factor_monte_carlo`
and :func:`~portfolioopt.scenarios.factor_model` take one as ``sampling``; the former mirrors scenarios as well, by
``antithetic``). What decides is the portfolio's own return y, in standard deviations from its mean. Given a normal
draw r with covariance :math:`\Sigma`, a scenario with another y is

.. math:: r + (y^* - y)\, \frac{\Sigma w}{\sqrt{w' \Sigma w}},

which has the conditional distribution of r given :math:`y = y^*` and takes no more than a product with one vector.
Glasserman (2003), "Monte Carlo Methods in Financial Engineering", chapters 4, 5 and 9.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd
from scipy import special

from portfolioopt.errors import InputError
from portfolioopt.labels import FloatArray, checked_number

from .scenario_set import ScenarioSet


@dataclass(frozen=True)
class Stratified:
    r"""One scenario in each of S equally likely strata of a portfolio's return, or of a factor's.

    In scenario i, :math:`y^* = \Phi^{-1}((\pi_i + u_i) / S)` with a random order :math:`\pi` and uniform :math:`u_i`.
    All scenarios are equally likely; estimates are unbiased, and what is left of their variance comes from within the
    strata.

    Parameters
    ----------
    portfolio
        Weights by asset: what is stratified is the return of this portfolio.
    factor
        Name of a factor, in place of a portfolio.
    """

    portfolio: pd.Series | Mapping[str, float] | None = None
    factor: str | None = None

    def __post_init__(self) -> None:
        if (self.portfolio is None) == (self.factor is None):
            raise InputError("Stratified takes either a portfolio or a factor, whose returns are put into strata")

    def targets(self, count: int, seed: int) -> tuple[FloatArray, None]:
        """Standardised returns of the portfolio or factor (S,); scenarios stay equally likely."""
        stream = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0, 0)))
        return special.ndtri(_open((stream.permutation(count) + stream.random(count)) / count)), None


@dataclass(frozen=True)
class QuasiRandom:
    r"""Factor scores from points that fill the space evenly; idiosyncratic returns stay random.

    :math:`z_i = \Phi^{-1}(u_i)` with scrambled Sobol points (Owen 1998) or a Latin hypercube (McKay, Beckman & Conover
    1979), in as many dimensions as there are factors. Each :math:`z_i` is standard normal, so estimates are unbiased.

    Parameters
    ----------
    points
        ``"sobol"``, best with a power of two of scenarios and required to be one, or ``"latin_hypercube"``.
    """

    points: Literal["sobol", "latin_hypercube"] = "sobol"

    def __post_init__(self) -> None:
        if self.points not in ("sobol", "latin_hypercube"):
            raise InputError(f"QuasiRandom: points must be 'sobol' or 'latin_hypercube', was {self.points!r}")

    def scores(self, count: int, dimensions: int, seed: int) -> FloatArray:
        """Standard normal scores (S, K)."""
        from scipy.stats import qmc  # costly to import

        if self.points == "sobol" and count & (count - 1):
            raise InputError(
                f"Sobol points are balanced in powers of two only, and n_scenarios is {count}: take "
                f"{1 << (count.bit_length() - 1)} or {1 << count.bit_length()}, or points='latin_hypercube'"
            )
        limit = qmc.Sobol.MAXDIM
        if self.points == "sobol" and dimensions > limit:
            raise InputError(f"there are Sobol points for {limit} factors, not {dimensions}; use a Latin hypercube")
        made = qmc.Sobol if self.points == "sobol" else qmc.LatinHypercube
        return special.ndtri(_open(made(dimensions, rng=np.random.default_rng(seed)).random(count)))


@dataclass(frozen=True)
class TailImportance:
    r"""More scenarios in the tail of a portfolio's losses, with probabilities that make up for it.

    The portfolio's standardised return is drawn from a defensive mixture and weighed by the likelihood ratio,

    .. math:: y^* \sim (1 - \alpha)\, \mathcal N(-\theta, 1) + \alpha\, \mathcal N(0, 1), \qquad
              p_i \propto \frac{\varphi(y_i^*)}{(1 - \alpha)\, \varphi(y_i^* + \theta) + \alpha\, \varphi(y_i^*)},
              \qquad \theta = \Phi^{-1}(\beta),

    so that half of the shifted scenarios lose more than the value-at-risk. The ratio is at most :math:`1 / \alpha`, and
    so no scenario can dominate, whatever portfolio is looked at later (Hesterberg 1995, Technometrics 37). As
    probabilities are made up to one, estimates have a bias of order 1/S. :func:`effective_sample_size` says what is
    left for ordinary expectations, which suffer.

    Parameters
    ----------
    portfolio
        Weights by asset of the portfolio whose losses matter.
    beta
        Confidence level of VaR and CVaR.
    defensive
        :math:`\alpha`, share of scenarios drawn as they would be otherwise, above 0 and below 1.
    """

    portfolio: pd.Series | Mapping[str, float]
    beta: float = 0.95
    defensive: float = 0.2

    def __post_init__(self) -> None:
        checked_number(self.beta, "TailImportance: beta", above=0.0, below=1.0)
        checked_number(self.defensive, "TailImportance: defensive", above=0.0, below=1.0)

    def targets(self, count: int, seed: int) -> tuple[FloatArray, FloatArray]:
        """Standardised returns of the portfolio (S,), and probabilities of the scenarios (S,)."""
        stream = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0, 0)))
        shift = float(special.ndtri(self.beta))
        kept = stream.random(count) < self.defensive
        drawn = stream.standard_normal(count) - np.where(kept, 0.0, shift)
        # the ratio of the two densities is exp(-theta y - theta^2 / 2)
        ratio = 1.0 / (self.defensive + (1.0 - self.defensive) * np.exp(-shift * (drawn + 0.5 * shift)))
        return drawn, ratio / ratio.sum()


Sampling: TypeAlias = Stratified | QuasiRandom | TailImportance


def effective_sample_size(scenarios: ScenarioSet) -> float:
    r"""Number of equally likely scenarios with as much to say about a mean: :math:`1 / \sum_s p_s^2` (Kish 1965)."""
    return float(1.0 / np.sum(scenarios.probabilities**2))


def _open(uniform: FloatArray) -> FloatArray:
    """Numbers of [0, 1] moved off the ends, where the normal quantile is infinite."""
    return np.clip(uniform, 2.0**-54, 1.0 - 2.0**-53)

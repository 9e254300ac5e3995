r"""The variance of a mean over scenarios, independent or not.

With :math:`z_s = p_s (h_s - \bar h)` the error of a weighted mean is :math:`\sum_s z_s`. For independent scenarios

.. math:: V = \frac{n}{n-1} \sum_s z_s^2, \qquad n = \Big(\sum_s p_s^2\Big)^{-1},

which for equal probabilities is the sample variance over S, and for self-normalised importance weights the delta
method (Owen, 2013, chapter 9); n is the effective sample size (Kish, 1965). Scenarios that overlap or cluster
in time, in the order of the set, need one of

.. math:: V = \frac{B}{B-1} \sum_b \Big(\sum_{s \in b} z_s\Big)^2, \qquad
          V = \frac{n}{n-1} \Big(\sum_s z_s^2 + 2 \sum_{k=1}^{m} \big(1 - \tfrac{k}{m+1}\big) \sum_s z_s z_{s+k}\Big):

batch means (Schmeiser, 1982) and Newey & West (1987).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from portfolioopt.errors import InputError
from portfolioopt.scenarios.scenario_set import whole_number

FloatArray: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True)
class BatchMeans:
    """Consecutive scenarios depend on each other within batches of `length`, hardly beyond.

    Batches should be several times as long as the dependence reaches, and ten or more in number.
    """

    length: int

    def __post_init__(self) -> None:
        whole_number(self.length, "BatchMeans: length", least=1)

    def edges(self, count: int) -> npt.NDArray[np.intp]:
        """First scenario of each batch; the last batch may be shorter."""
        edges = np.arange(0, count, self.length)
        if len(edges) < 2:
            raise InputError(f"BatchMeans: one batch of {self.length} holds all {count} scenarios; use shorter batches")
        return edges


@dataclass(frozen=True)
class NeweyWest:
    r"""Scenarios depend on the `lag` before them, as overlapping returns of h periods do on the h - 1 before.

    :math:`\lfloor 4 (S/100)^{2/9} \rfloor` where None (Newey & West, 1994). With a lag of only h - 1 the Bartlett
    weights still understate the variance of returns that overlap; twice that is better.
    """

    lag: int | None = None

    def __post_init__(self) -> None:
        if self.lag is not None:
            whole_number(self.lag, "NeweyWest: lag", least=0)

    def lags(self, count: int) -> int:
        """How many lags are used for `count` scenarios."""
        lag = int(4.0 * (count / 100.0) ** (2.0 / 9.0)) if self.lag is None else self.lag
        if lag >= count:
            raise InputError(f"NeweyWest: a lag of {lag} needs more than {count} scenarios")
        return lag


Dependence: TypeAlias = BatchMeans | NeweyWest | None


def check_dependence(dependence: object) -> Dependence:
    """Refuse what is no dependence."""
    if dependence is not None and not isinstance(dependence, BatchMeans | NeweyWest):
        raise InputError(
            f"dependence must be None (independent scenarios), BatchMeans(length) or NeweyWest(lag), was {dependence!r}"
        )
    return dependence


def effective_scenarios(probabilities: FloatArray) -> float:
    """Kish's effective sample size: how many equally likely scenarios have errors of this size."""
    return float(1.0 / np.sum(probabilities**2))


def deviations(values: FloatArray, probabilities: FloatArray) -> FloatArray:
    """``p (h - mean of h)`` by scenario (S,), zero where a scenario cannot happen."""
    live = probabilities > 0
    if live.all():
        return probabilities * (values - probabilities @ values)
    found = np.zeros_like(probabilities)
    p, h = probabilities[live], values[live]
    found[live] = p * (h - p @ h)
    return found


def standard_error(z: FloatArray, probabilities: FloatArray, dependence: Dependence) -> float:
    """Root of the variance of a sum of `z` (S,)."""
    n = effective_scenarios(probabilities)
    match dependence:
        case None:
            variance = n / (n - 1.0) * float(z @ z)
        case BatchMeans():
            sums = np.add.reduceat(z, dependence.edges(len(z)))
            variance = len(sums) / (len(sums) - 1.0) * float(sums @ sums)
        case NeweyWest():
            m = dependence.lags(len(z))
            crossed = sum((1.0 - k / (m + 1.0)) * float(z[k:] @ z[:-k]) for k in range(1, m + 1))
            variance = n / (n - 1.0) * (float(z @ z) + 2.0 * crossed)
    return float(np.sqrt(max(variance, 0.0)))


def quantile_factor(level: float, probabilities: FloatArray, dependence: Dependence) -> float:
    """How many standard errors an interval of this level reaches to either side: Student's t."""
    from scipy.special import stdtrit

    if isinstance(dependence, BatchMeans):
        freedom = len(dependence.edges(len(probabilities))) - 1.0
    else:
        freedom = effective_scenarios(probabilities) - 1.0
    return float(stdtrit(max(freedom, 1e-9), 0.5 * (1.0 + level)))


def check_level(level: object) -> float:
    """A confidence level strictly between 0 and 1."""
    if isinstance(level, bool) or not isinstance(level, int | float | np.number) or not 0.0 < float(level) < 1.0:
        raise InputError(f"level must lie strictly between 0 and 1 (0.95 for 95 % intervals), was {level!r}")
    return float(level)

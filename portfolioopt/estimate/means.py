r"""Expected returns: T rows, N assets, result by asset per row of the returns.

Throughout, m (N,) is the sample mean and :math:`\Sigma` (N, N) the covariance of one row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.labels import FloatArray, align, checked_number, some

from .checks import check_estimator, checked_returns, checked_variation, dependent
from .covariances import CovarianceEstimator, SampleCovariance, decay
from .factored import FactorCovariance, square


@dataclass(frozen=True)
class SampleMean:
    r"""Sample mean, :math:`\frac1T \sum_t r_t`."""

    def fit(self, returns: pd.DataFrame) -> pd.Series:
        """Mean by asset (N,); needs 1 row."""
        return _by_asset(checked_returns(returns, "SampleMean", rows=1).mean(axis=0), returns)


@dataclass(frozen=True)
class ExponentialMean:
    r"""Exponentially weighted mean, :math:`\sum_t p_t r_t` with :math:`p_t \propto 2^{-(T - t)/h}`.

    Parameters
    ----------
    halflife
        h, rows after which a row weighs half as much; positive.
    """

    halflife: float

    def __post_init__(self) -> None:
        checked_number(self.halflife, "ExponentialMean: halflife", above=0.0)

    def fit(self, returns: pd.DataFrame) -> pd.Series:
        """Mean by asset (N,); needs 1 row."""
        values = checked_returns(returns, "ExponentialMean", rows=1)
        return _by_asset(decay(len(values), self.halflife) @ values, returns)


@dataclass(frozen=True)
class JamesStein:
    r"""Sample mean shrunk towards its average over the assets, :math:`(1 - \rho) m + \rho \bar m 1`.

    With :math:`P = I - 11'/N`, which takes the average away,

    .. math:: \rho = \min\Big(1, \max\Big(0, \frac{\mathrm{tr}(P \Sigma P) - 2 \lambda_{\max}(P \Sigma P)}
              {T\, \|P m\|^2}\Big)\Big).

    Where :math:`\Sigma = s^2 I` the numerator is :math:`(N - 3) s^2`, the estimator of Efron & Morris (1975), "Data
    analysis using Stein's estimator", JASA 70. For other :math:`\Sigma` it is the one that makes the bound of Stein's
    unbiased estimate of the squared error least (Bock, 1975, Annals of Statistics 3). Up to three assets are left as
    they are.

    Parameters
    ----------
    covariance
        Estimator of :math:`\Sigma`.
    """

    covariance: CovarianceEstimator = field(default_factory=SampleCovariance)

    def __post_init__(self) -> None:
        check_estimator(self.covariance, "JamesStein")

    def fit(self, returns: pd.DataFrame) -> pd.Series:
        """Mean by asset (N,); needs 2 rows, and those of the covariance."""
        mean, intensity = self._parts(returns)
        return _by_asset((1.0 - intensity) * mean + intensity * mean.mean(), returns)

    def shrinkage(self, returns: pd.DataFrame) -> float:
        r"""The weight :math:`\rho` of the average, from 0 to 1."""
        return self._parts(returns)[1]

    def _parts(self, returns: pd.DataFrame) -> tuple[FloatArray, float]:
        values = checked_returns(returns, "JamesStein", rows=2)
        mean = values.mean(axis=0)
        matrix = _matrix(self.covariance.fit(returns), returns.columns)
        matrix = matrix - matrix.mean(axis=0)
        matrix -= matrix.mean(axis=1)[:, None]
        excess = float(np.trace(matrix)) - 2.0 * float(np.linalg.eigvalsh(matrix)[-1])
        spread = len(values) * float(np.sum((mean - mean.mean()) ** 2))
        return mean, 0.0 if excess <= 0.0 else 1.0 if excess >= spread else excess / spread


@dataclass(frozen=True)
class BayesStein:
    r"""Sample mean shrunk towards that of the minimum-variance portfolio (Jorion, 1986).

    :math:`(1 - \rho) m + \rho m_0 1` with

    .. math:: m_0 = \frac{1'\Sigma^{-1} m}{1'\Sigma^{-1} 1}, \qquad
              \rho = \frac{N + 2}{N + 2 + T (m - m_0 1)' \Sigma^{-1} (m - m_0 1)}.

    "Bayes-Stein estimation for portfolio analysis", Journal of Financial and Quantitative Analysis 21, equations 14 to
    17.

    Parameters
    ----------
    covariance
        Estimator of :math:`\Sigma`, taken as it comes. Where None, the unbiased sample covariance times
        (T - 1)/(T - N - 2), as in the paper.
    """

    covariance: CovarianceEstimator | None = None

    def __post_init__(self) -> None:
        if self.covariance is not None:
            check_estimator(self.covariance, "BayesStein")

    def fit(self, returns: pd.DataFrame) -> pd.Series:
        """Mean by asset (N,); needs N + 3 rows, or 2 and those of the covariance that was given."""
        mean, target, intensity = self._parts(returns)
        return _by_asset((1.0 - intensity) * mean + intensity * target, returns)

    def shrinkage(self, returns: pd.DataFrame) -> float:
        r"""The weight :math:`\rho` of the target, from 0 to 1."""
        return self._parts(returns)[2]

    def _parts(self, returns: pd.DataFrame) -> tuple[FloatArray, float, float]:
        n = returns.shape[1] if isinstance(returns, pd.DataFrame) else 0
        values = checked_returns(returns, "BayesStein", rows=n + 3 if self.covariance is None else 2)
        rows, assets = len(values), returns.columns
        if self.covariance is None:
            checked_variation(values, assets, "BayesStein")
            matrix = SampleCovariance().fit(returns).to_numpy() * ((rows - 1) / (rows - n - 2))
        else:
            matrix = _matrix(self.covariance.fit(returns), assets)
        mean = values.mean(axis=0)
        inverse_one, inverse_mean = _solved(matrix, np.column_stack([np.ones(n), mean]), assets).T
        target = float(inverse_mean.sum() / inverse_one.sum())
        distance = float((mean - target) @ (inverse_mean - target * inverse_one))
        return mean, target, (n + 2.0) / (n + 2.0 + rows * max(distance, 0.0))


@dataclass(frozen=True, eq=False)
class EquilibriumMean:
    r"""Excess returns under which given weights are optimal, :math:`\delta \Sigma w`.

    They maximise :math:`\mu'w - \frac{\delta}{2} w'\Sigma w` at the weights of the market (Black & Litterman, 1992,
    "Global portfolio optimization", Financial Analysts Journal 48). Returns are over the riskless rate.

    Parameters
    ----------
    weights
        w, weight of every asset, such as its share of the market.
    risk_aversion
        :math:`\delta`, positive; the excess return of the market over its variance.
    covariance
        Estimator of :math:`\Sigma`; a factor model stays factored.
    """

    weights: pd.Series | Mapping[str, float]
    risk_aversion: float = 2.5
    covariance: CovarianceEstimator = field(default_factory=SampleCovariance)

    def __post_init__(self) -> None:
        if not isinstance(self.weights, pd.Series | Mapping):
            raise InputError("EquilibriumMean: weights must give the weight of every asset (a Series or mapping)")
        checked_number(self.risk_aversion, "EquilibriumMean: risk_aversion", above=0.0)
        check_estimator(self.covariance, "EquilibriumMean")

    def fit(self, returns: pd.DataFrame) -> pd.Series:
        """Expected excess return by asset (N,); needs the rows of the covariance."""
        checked_returns(returns, "EquilibriumMean", rows=1)
        assets = returns.columns
        w = align(self.weights, assets, what="EquilibriumMean.weights")
        covariance = self.covariance.fit(returns)
        if isinstance(covariance, FactorCovariance):
            loadings = covariance.exposures.reindex(assets).to_numpy() @ covariance.root
            product = loadings @ (loadings.T @ w) + covariance.idiosyncratic.reindex(assets).to_numpy() * w
        else:
            product = _matrix(covariance, assets) @ w
        return _by_asset(self.risk_aversion * product, returns)


def _by_asset(values: FloatArray, returns: pd.DataFrame) -> pd.Series:
    return pd.Series(values, returns.columns)


def _matrix(covariance: pd.DataFrame | FactorCovariance, assets: pd.Index) -> FloatArray:
    """The covariance (N, N) in the order of the assets."""
    frame = covariance.dense() if isinstance(covariance, FactorCovariance) else covariance
    return square(frame.reindex(index=assets, columns=assets), "the covariance estimator")


def _solved(matrix: FloatArray, right: FloatArray, assets: pd.Index) -> FloatArray:
    """Solution of ``matrix @ x = right``, or the refusal of a matrix without an inverse."""
    std = np.sqrt(np.diag(matrix))
    if (std == 0).any():
        raise InputError(
            "BayesStein needs the inverse of the covariance, and the variance is zero for "
            f"{some(assets[std == 0])}; leave it out"
        )
    values, vectors = np.linalg.eigh(matrix / np.outer(std, std))
    none = values <= 1e-13 * len(values) * values[-1]
    if none.any():
        raise InputError(
            "BayesStein needs the inverse of the covariance, and it is singular over "
            f"{dependent(vectors[:, none], assets)}; leave out what the others imply, or pass "
            "covariance=LedoitWolf()"
        )
    return (vectors @ ((vectors.T @ (right / std[:, None])) / values[:, None])) / std[:, None]

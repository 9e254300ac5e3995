r"""Covariances from returns: T rows, N assets, result (N x N) per row of the returns.

Throughout, :math:`x_t` are the returns less their mean over the rows, :math:`S = \frac1T \sum_t x_t x_t'`, and T counts
rows. Every result is symmetric and positive semidefinite.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.labels import FloatArray, PerAsset, checked_number, per_asset, some

from .checks import checked_count, checked_returns, checked_variation, dependent
from .factored import FactorCovariance


class CovarianceEstimator(Protocol):
    """Anything that makes a covariance from returns."""

    def fit(self, returns: pd.DataFrame) -> pd.DataFrame | FactorCovariance:
        """Covariance by asset, per row of `returns`."""
        ...


@dataclass(frozen=True)
class SampleCovariance:
    r"""Sample covariance, :math:`\frac{T}{T - \mathrm{ddof}} S`.

    Parameters
    ----------
    ddof
        Degrees of freedom lost to the mean: 1 for an unbiased estimate, 0 for the most likely under a normal
        distribution.
    """

    ddof: int = 1

    def __post_init__(self) -> None:
        checked_count(self.ddof, "SampleCovariance: ddof", least=0)

    def fit(self, returns: pd.DataFrame) -> pd.DataFrame:
        """Covariance by asset (N x N); needs ddof + 1 rows."""
        values = checked_returns(returns, "SampleCovariance", rows=self.ddof + 1)
        return _framed(_second_moment(values, len(values) - self.ddof), returns)


@dataclass(frozen=True)
class ExponentialCovariance:
    r"""Exponentially weighted covariance, unbiased for independent rows.

    .. math:: \frac{1}{1 - \sum_t p_t^2} \sum_t p_t (r_t - m)(r_t - m)', \qquad
              m = \sum_t p_t r_t, \quad p_t \propto 2^{-(T - t)/h}.

    Parameters
    ----------
    halflife
        h, rows after which a row weighs half as much; positive.
    """

    halflife: float

    def __post_init__(self) -> None:
        checked_number(self.halflife, "ExponentialCovariance: halflife", above=0.0)

    def fit(self, returns: pd.DataFrame) -> pd.DataFrame:
        """Covariance by asset (N x N); needs 2 rows."""
        values = checked_returns(returns, "ExponentialCovariance", rows=2)
        p = decay(len(values), self.halflife)
        rest = 1.0 - float(p @ p)
        if rest < 1e-8:
            raise InputError(
                f"ExponentialCovariance: with a halflife of {self.halflife:g} rows the last row has all the weight; "
                "pass a longer halflife"
            )
        scaled = np.sqrt(p)[:, None] * (values - p @ values)
        return _framed(scaled.T @ scaled / rest, returns)


class _TowardsIdentity(ABC):
    """The sample covariance shrunk towards a multiple of the identity."""

    def fit(self, returns: pd.DataFrame) -> pd.DataFrame:
        """Covariance by asset (N x N); needs 2 rows."""
        sample, intensity = self._parts(returns)
        return _framed(_towards_identity(sample, intensity), returns)

    def shrinkage(self, returns: pd.DataFrame) -> float:
        r"""The weight :math:`\rho` of the target, from 0 to 1."""
        return self._parts(returns)[1]

    @abstractmethod
    def _parts(self, returns: pd.DataFrame) -> tuple[FloatArray, float]:
        """The sample covariance S (N, N) and the weight of the target."""


@dataclass(frozen=True)
class LedoitWolf(_TowardsIdentity):
    r"""Linear shrinkage towards a multiple of the identity, :math:`(1 - \rho) S + \rho m I` (Ledoit & Wolf, 2004).

    With the norm :math:`\|A\|^2 = \mathrm{tr}(AA')/N`: :math:`m = \mathrm{tr}(S)/N`,

    .. math:: \rho = \min\Big(1, \frac{1}{T^2} \sum_t \|x_t x_t' - S\|^2 \Big/ \|S - m I\|^2\Big),

    the estimate of the :math:`\rho` with the least expected squared error. "A well-conditioned estimator for
    large-dimensional covariance matrices", Journal of Multivariate Analysis 88.
    """

    def _parts(self, returns: pd.DataFrame) -> tuple[FloatArray, float]:
        values = checked_returns(returns, "LedoitWolf", rows=2)
        rows, n = values.shape
        sample = _second_moment(values, rows)
        x = values - values.mean(axis=0)
        total = float(np.sum(sample**2))
        distance = total - np.trace(sample) ** 2 / n
        error = float(np.sum(np.einsum("tn,tn->t", x, x) ** 2)) / rows**2 - total / rows
        if distance <= 1e-14 * total:
            return sample, 0.0
        return sample, float(np.clip(error / distance, 0.0, 1.0))


@dataclass(frozen=True)
class OracleApproximating(_TowardsIdentity):
    r"""Linear shrinkage towards a multiple of the identity with the intensity of Chen et al. (2010).

    :math:`(1 - \rho) S + \rho m I` with :math:`m = \mathrm{tr}(S)/N` and, for normal returns,

    .. math:: \rho = \min\Big(1, \frac{(1 - 2/N)\,\mathrm{tr}(S^2) + \mathrm{tr}^2(S)}
              {(T + 1 - 2/N)\,(\mathrm{tr}(S^2) - \mathrm{tr}^2(S)/N)}\Big).

    Chen, Wiesel, Eldar & Hero, "Shrinkage algorithms for MMSE covariance estimation", IEEE Transactions on Signal
    Processing 58, equation 23. scikit-learn leaves out both 2/N.
    """

    def _parts(self, returns: pd.DataFrame) -> tuple[FloatArray, float]:
        values = checked_returns(returns, "OracleApproximating", rows=2)
        rows, n = values.shape
        sample = _second_moment(values, rows)
        squares, trace = float(np.sum(sample**2)), float(np.trace(sample)) ** 2
        distance = squares - trace / n
        if distance <= 1e-14 * squares:
            return sample, 1.0
        ratio = ((1.0 - 2.0 / n) * squares + trace) / ((rows + 1.0 - 2.0 / n) * distance)
        return sample, float(np.clip(ratio, 0.0, 1.0))


@dataclass(frozen=True)
class NonlinearShrinkage:
    r"""Every eigenvalue shrunk on its own, in closed form (Ledoit & Wolf, 2020).

    With n = T - 1, c = N/n, the eigenvalues :math:`\lambda_i` of :math:`\frac{T}{n} S`, and :math:`\tilde f` their
    density smoothed by Epanechnikov kernels of half width :math:`\sqrt 5\,\lambda_j n^{-1/3}`, with Hilbert transform
    :math:`H\tilde f`, the eigenvectors stay and the eigenvalues become, where :math:`N \le n`,

    .. math:: \frac{\lambda_i}{(\pi c \lambda_i \tilde f_i)^2 + (1 - c - \pi c \lambda_i H\tilde f_i)^2}.

    Where N > n, the density is that of the n eigenvalues above zero, which become
    :math:`1 / (\pi^2 \lambda_i (\tilde f_i^2 + H\tilde f_i^2))`, and the N - n zeros become
    :math:`1 / (\pi (c - 1) H\tilde f(0))`. "Analytical nonlinear shrinkage of large-dimensional covariance matrices",
    Annals of Statistics 48.
    """

    def fit(self, returns: pd.DataFrame) -> pd.DataFrame:
        """Covariance by asset (N x N); needs 13 rows, and no asset that is a combination of others."""
        values = checked_returns(returns, "NonlinearShrinkage", rows=13)
        checked_variation(values, returns.columns, "NonlinearShrinkage")
        n, size = len(values) - 1, values.shape[1]
        eigenvalues, vectors = np.linalg.eigh(_second_moment(values, n))
        zeros = max(size - n, 0)
        above = eigenvalues[zeros:]
        none = above <= size * np.finfo(np.float64).eps * above[-1]
        if none.any():
            if zeros:
                raise InputError(
                    f"NonlinearShrinkage: the {n + 1} rows of returns vary in {n - int(none.sum())} directions only, "
                    f"not in {n}; leave out assets that are combinations of others, or rows that repeat"
                )
            raise InputError(
                "NonlinearShrinkage needs assets that are no combinations of others, and there is one among "
                f"{dependent(vectors[:, none], returns.columns)}; leave it out"
            )
        shrunk = _shrunk(above, n, size)
        return _framed((vectors * shrunk) @ vectors.T, returns)


@dataclass(frozen=True)
class GerberCovariance:
    r"""Covariance from how often two returns exceed a threshold together (Gerber et al., 2022).

    With the sample standard deviations :math:`\sigma_i`, a move :math:`a_{ti}` is 1 where
    :math:`r_{ti} \ge c \sigma_i`, -1 where :math:`r_{ti} \le -c \sigma_i`, and 0 elsewhere:

    .. math:: \Sigma_{ij} = \sigma_i \sigma_j
              \frac{\sum_t a_{ti} a_{tj}}{T - \#\{t : a_{ti} = a_{tj} = 0\}}.

    It is positive semidefinite: the numerator is a Gram matrix, and 1/(T - k) a power series with positive
    coefficients in another one. Gerber, Markowitz, Ernst, Miao, Javid & Sargen, "The Gerber statistic", Journal of
    Portfolio Management 48.

    Parameters
    ----------
    threshold
        c, in standard deviations, above 0 and below 1.
    """

    threshold: float = 0.5

    def __post_init__(self) -> None:
        checked_number(self.threshold, "GerberCovariance: threshold", above=0.0, below=1.0)

    def fit(self, returns: pd.DataFrame) -> pd.DataFrame:
        """Covariance by asset (N x N); needs 2 rows and assets that vary."""
        values = checked_returns(returns, "GerberCovariance", rows=2)
        checked_variation(values, returns.columns, "GerberCovariance")
        std = values.std(axis=0, ddof=1)
        moves = np.where(np.abs(values) >= self.threshold * std, np.sign(values), 0.0)
        silent = np.asarray((moves == 0.0).all(axis=0))
        if silent.any():
            raise InputError(
                f"GerberCovariance: no return of {some(returns.columns[silent])} reaches the threshold; lower it, or "
                "pass a longer history"
            )
        quiet = (moves == 0.0).astype(np.float64)
        correlation = (moves.T @ moves) / (len(values) - quiet.T @ quiet)
        return _framed(correlation * np.outer(std, std), returns)


@dataclass(frozen=True)
class DenoisedCovariance:
    r"""Sample covariance whose noise is one eigenvalue of the correlation, at its average (López de Prado, 2020).

    An eigenvalue of the sample correlation is noise up to the upper edge of the Marchenko-Pastur law,
    :math:`\sigma^2 (1 + \sqrt{N/T})^2`. The noise is replaced by its average, which keeps the trace, the correlation is
    scaled back to a diagonal of ones, and the variances are the sample's. "Machine Learning for Asset Managers",
    sections 2.4 and 2.5, where :math:`\sigma^2` is fitted to a smoothed density of the eigenvalues; that fit often ends
    at its upper bound, which is 1.

    Parameters
    ----------
    noise
        :math:`\sigma^2`, the share of the variance that is noise, above 0 and up to 1; a lower one keeps more
        eigenvalues as they are.
    """

    noise: float = 1.0

    def __post_init__(self) -> None:
        if checked_number(self.noise, "DenoisedCovariance: noise", above=0.0) > 1.0:
            raise InputError(f"DenoisedCovariance: noise must be at most 1, was {self.noise:g}")

    def fit(self, returns: pd.DataFrame) -> pd.DataFrame:
        """Covariance by asset (N x N); needs 2 rows and assets that vary."""
        std, eigenvalues, vectors, signals = self._parts(returns)
        if signals < len(std):
            eigenvalues[: len(std) - signals] = eigenvalues[: len(std) - signals].mean()
        matrix = (vectors * eigenvalues) @ vectors.T
        scale = std / np.sqrt(np.diag(matrix))
        return _framed(matrix * np.outer(scale, scale), returns)

    def signals(self, returns: pd.DataFrame) -> int:
        """How many eigenvalues lie above the edge."""
        return self._parts(returns)[3]

    def _parts(self, returns: pd.DataFrame) -> tuple[FloatArray, FloatArray, FloatArray, int]:
        """Standard deviations (N,), eigenvalues (N,) ascending, vectors (N, N), and how many are no noise."""
        values = checked_returns(returns, "DenoisedCovariance", rows=2)
        checked_variation(values, returns.columns, "DenoisedCovariance")
        rows, n = values.shape
        std = values.std(axis=0, ddof=1)
        scaled = (values - values.mean(axis=0)) / std
        eigenvalues, vectors = np.linalg.eigh(scaled.T @ scaled / (rows - 1))
        eigenvalues = np.maximum(eigenvalues, 0.0)
        edge = self.noise * (1.0 + np.sqrt(n / rows)) ** 2
        return std, eigenvalues, vectors, int(np.count_nonzero(eigenvalues > edge))


@dataclass(frozen=True, eq=False)
class SemiCovariance:
    r"""Second moments of what falls short of a target, :math:`\frac1T \sum_t s_t s_t'`.

    :math:`s_{ti} = \min(r_{ti} - \tau_i, 0)`. Estrada (2008), "Mean-semivariance optimization: a heuristic approach",
    Journal of Applied Finance 18.

    Parameters
    ----------
    target
        :math:`\tau`, return per row of the returns: one number, or by asset.
    """

    target: PerAsset = 0.0

    def fit(self, returns: pd.DataFrame) -> pd.DataFrame:
        """Downside covariance by asset (N x N); needs 1 row."""
        values = checked_returns(returns, "SemiCovariance", rows=1)
        short = np.minimum(values - per_asset(self.target, returns.columns, what="SemiCovariance.target"), 0.0)
        return _framed(short.T @ short / len(values), returns)


def decay(rows: int, halflife: float) -> FloatArray:
    """Weights (T,) that double every `halflife` rows and add up to 1; the last is the largest."""
    p = np.exp2(-np.arange(rows - 1, -1, -1) / halflife)
    return p / p.sum()


def _second_moment(values: FloatArray, divisor: int) -> FloatArray:
    """Second moments about the mean (N, N) of `values` (T, N)."""
    x = values - values.mean(axis=0)
    return x.T @ x / divisor


def _towards_identity(sample: FloatArray, intensity: float) -> FloatArray:
    shrunk = (1.0 - intensity) * sample
    np.fill_diagonal(shrunk, np.diag(shrunk) + intensity * np.trace(sample) / len(sample))
    return shrunk


def _shrunk(above: FloatArray, n: int, size: int) -> FloatArray:
    """Shrunk eigenvalues (N,) from those of the sample that are above zero, ascending."""
    h, c = n ** (-1.0 / 3.0), size / n
    density, hilbert = _smoothed(above, h)
    if size <= n:
        return above / ((np.pi * c * above * density) ** 2 + (1.0 - c - np.pi * c * above * hilbert) ** 2)
    reach = np.sqrt(5.0) * h
    at_zero = np.mean(1.0 / above) / np.pi
    at_zero *= 0.3 / h**2 + 0.75 / reach * (1.0 - 0.2 / h**2) * np.log((1.0 + reach) / (1.0 - reach))
    lowest = np.full(size - n, 1.0 / (np.pi * (c - 1.0) * at_zero))
    return np.concatenate([lowest, 1.0 / (np.pi**2 * above * (density**2 + hilbert**2))])


def _smoothed(eigenvalues: FloatArray, h: float) -> tuple[FloatArray, FloatArray]:
    """Density of the eigenvalues and its Hilbert transform at each of them (n,), by kernels as wide as h times each."""
    edge = np.sqrt(5.0)
    width = h * eigenvalues
    x = (eigenvalues[:, None] - eigenvalues) / width
    bend = 1.0 - x**2 / 5.0
    density = np.mean(0.75 / edge * np.maximum(bend, 0.0) / width, axis=1)
    at_edge = np.abs(x) == edge
    ratio = np.abs((edge - x) / np.where(x == -edge, 1.0, edge + x))
    log = np.log(np.where(at_edge, 1.0, ratio))
    hilbert = np.mean((-0.3 * x + 0.75 / edge * bend * log) / (np.pi * width), axis=1)
    return density, hilbert


def _framed(matrix: FloatArray, returns: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(0.5 * (matrix + matrix.T), returns.columns, returns.columns)

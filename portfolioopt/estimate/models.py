r"""Factor models from returns: :math:`\Sigma = B F B' + \mathrm{diag}(d)`, kept in that form."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError

from .checks import checked_count, checked_factors, checked_returns, checked_variation, dependent
from .factored import FactorCovariance


@dataclass(frozen=True, eq=False)
class FactorModel:
    r"""Returns split into factors and the rest, :math:`r_{ti} = \alpha_i + b_i' f_t + e_{ti}`.

    Parameters
    ----------
    mean
        Expected return by asset (N,), :math:`\alpha_i + b_i' \bar f`, per row.
    covariance
        B, F and d, per row.
    factors
        f, the returns of the factors (T x K), in the unit in which exposures are per unit.
    intercept
        :math:`\alpha` by asset (N,), per row.
    residuals
        e (T x N).
    """

    mean: pd.Series
    covariance: FactorCovariance
    factors: pd.DataFrame
    intercept: pd.Series
    residuals: pd.DataFrame


@dataclass(frozen=True)
class StatisticalFactors:
    r"""Factors that are the first principal components of the returns.

    With the eigenvalues :math:`\lambda_1 \ge \lambda_2 \ge \dots` and eigenvectors U of the unbiased sample covariance
    S: :math:`B = U_{1..K}`, :math:`F = \mathrm{diag}(\lambda_1, \dots, \lambda_K)` and
    :math:`d = \mathrm{diag}(S - B F B')`, so that variances are those of the sample. Signs are such that the exposures
    to a factor add up to no less than zero. Connor & Korajczyk (1986), Journal of Financial Economics 15.

    Parameters
    ----------
    count
        K, number of factors, at least 1.
    """

    count: int

    def __post_init__(self) -> None:
        checked_count(self.count, "StatisticalFactors: count", least=1)

    def fit(self, returns: pd.DataFrame) -> FactorCovariance:
        """Factor model per row of `returns`, its factors named PC1, PC2, ...; needs K + 1 rows and K assets."""
        who = f"StatisticalFactors(count={self.count})"
        values = checked_returns(returns, who, rows=self.count + 1)
        rows, n = values.shape
        if n < self.count:
            raise InputError(f"{who} needs at least {self.count} assets, but there are {n}; lower the count")
        x = (values - values.mean(axis=0)) / np.sqrt(rows - 1)
        wide = n > rows
        eigenvalues, vectors = np.linalg.eigh(x @ x.T if wide else x.T @ x)
        kept = slice(None, -self.count - 1, -1)
        eigenvalues, vectors = eigenvalues[kept], vectors[:, kept]
        found = int(np.count_nonzero(eigenvalues > 1e-13 * max(float(eigenvalues[0]), 0.0)))
        if found < self.count:
            raise InputError(
                f"{who}: the returns vary in {found} direction{'s' if found != 1 else ''} only; lower the count, or "
                "pass a longer history"
            )
        exposures = (x.T @ vectors) / np.sqrt(eigenvalues) if wide else vectors
        exposures = exposures * np.where(exposures.sum(axis=0) < 0.0, -1.0, 1.0)
        variance = np.einsum("tn,tn->n", x, x)
        rest = np.maximum(variance - exposures**2 @ eigenvalues, 0.0)
        names = pd.Index([f"PC{k}" for k in range(1, self.count + 1)])
        return FactorCovariance(
            pd.DataFrame(exposures, returns.columns, names),
            pd.DataFrame(np.diag(eigenvalues), names, names),
            pd.Series(rest, returns.columns),
        )

    def decompose(self, returns: pd.DataFrame) -> FactorModel:
        """The model with the returns of its factors: a factor is the portfolio whose weights are its exposures."""
        covariance = self.fit(returns)
        return _decomposed(returns, returns @ covariance.exposures, covariance)


@dataclass(frozen=True)
class RegressionFactors:
    r"""Exposures to known factors by least squares over time, :math:`r_{ti} = \alpha_i + b_i' f_t + e_{ti}`.

    F is the unbiased sample covariance of the factors and :math:`d_i = \sum_t e_{ti}^2 / (T - K - 1)`. Fama & French
    (1993), "Common risk factors in the returns on stocks and bonds", Journal of Financial Economics 33.
    """

    def fit(self, returns: pd.DataFrame, factors: pd.DataFrame) -> FactorCovariance:
        """Factor model per row of `returns` (T x N); needs K + 2 rows.

        `factors` (T x K) has a row for every row of `returns`, in any unit: exposures are returns per unit of factor.
        Further rows of it are not looked at.
        """
        who = "RegressionFactors"
        known = checked_factors(returns, factors, who)
        values = returns.to_numpy(dtype=np.float64)
        checked_variation(known, factors.columns, who)
        rows, count = known.shape
        f = known - known.mean(axis=0)
        scale = f.std(axis=0)
        left, singular, right = np.linalg.svd(f / scale, full_matrices=False)
        none = singular <= 1e-10 * singular[0]
        if none.any():
            raise InputError(
                f"{who}: one of the factors {dependent(right[none].T, factors.columns)} is a combination of the "
                "others; leave it out"
            )
        x = values - values.mean(axis=0)
        slopes = (right.T @ ((left.T @ x) / singular[:, None])) / scale[:, None]
        rest = x - f @ slopes
        return FactorCovariance(
            pd.DataFrame(slopes.T, returns.columns, factors.columns),
            pd.DataFrame(f.T @ f / (rows - 1), factors.columns, factors.columns),
            pd.Series(np.einsum("tn,tn->n", rest, rest) / (rows - count - 1), returns.columns),
        )

    def decompose(self, returns: pd.DataFrame, factors: pd.DataFrame) -> FactorModel:
        """The model with the factors on the dates of the returns, the intercepts and what is left."""
        covariance = self.fit(returns, factors)
        return _decomposed(returns, factors.loc[returns.index].astype(np.float64), covariance)


def _decomposed(returns: pd.DataFrame, factors: pd.DataFrame, covariance: FactorCovariance) -> FactorModel:
    mean = returns.mean()
    intercept = mean - covariance.exposures @ factors.mean()
    residuals = returns - factors @ covariance.exposures.T - intercept
    return FactorModel(mean, covariance, factors, intercept, residuals)

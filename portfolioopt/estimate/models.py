r"""Factor models from returns: :math:`\Sigma = B F B' + \mathrm{diag}(d)`, kept in that form."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.labels import some

from .checks import checked_count, checked_returns, checked_variation, dependent
from .factored import FactorCovariance


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
        if not isinstance(factors, pd.DataFrame):
            raise InputError(f"{who}: factors must be a frame of periods x factors, was {type(factors).__name__}")
        needed = factors.shape[1] + 2
        values = checked_returns(returns, who, rows=needed)
        if factors.index.has_duplicates:
            checked_returns(factors, who, rows=0, what="factors")
        absent = returns.index.difference(factors.index, sort=False)
        if len(absent):
            raise InputError(
                f"{who}: factors has no row for {len(absent)} of the {len(returns)} dates of returns ({some(absent)}); "
                "keep those of both with returns.loc[returns.index.intersection(factors.index)]"
            )
        chosen = factors.loc[returns.index]
        known = checked_returns(chosen, who, rows=needed, what="factors")
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

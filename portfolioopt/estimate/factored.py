"""Covariances as matrices by asset, and in factored form."""

from __future__ import annotations

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError, unknown_names
from portfolioopt.labels import FloatArray, PerAsset, numbers, per_asset, some


class FactorCovariance:
    r"""Covariance :math:`B F B' + \mathrm{diag}(d)` per scenario horizon, never formed.

    Parameters
    ----------
    exposures
        B, factor exposures (assets x factors).
    factor_covariance
        F (factors x factors), per scenario horizon; positive semidefinite.
    idiosyncratic_variance
        d, by asset; not negative.
    """

    def __init__(
        self, exposures: pd.DataFrame, factor_covariance: pd.DataFrame, idiosyncratic_variance: PerAsset
    ) -> None:
        if not isinstance(exposures, pd.DataFrame) or not isinstance(factor_covariance, pd.DataFrame):
            raise InputError("FactorCovariance takes frames: exposures by asset and factor, covariance by factor")
        for what, labels in (
            ("assets in exposures", exposures.index),
            ("factors in exposures", exposures.columns),
            ("factors in factor_covariance", factor_covariance.columns),
            ("factors in factor_covariance", factor_covariance.index),
        ):
            if labels.has_duplicates:
                raise InputError(f"FactorCovariance: duplicate {what}: {some(labels[labels.duplicated()].unique())}")
        unknown = list(exposures.columns.difference(factor_covariance.columns))
        if unknown:
            raise unknown_names("factor in exposures", unknown, factor_covariance.columns)
        factors = exposures.columns
        values = numbers(exposures, "FactorCovariance: exposures")
        self.exposures: pd.DataFrame = pd.DataFrame(values, exposures.index, factors)
        self.factor_covariance: pd.DataFrame = factor_covariance.reindex(index=factors, columns=factors)
        self.root: FloatArray = root(self.factor_covariance, "factor_covariance")
        """R (factors x rank) with ``R R' = F``."""
        variance = per_asset(idiosyncratic_variance, exposures.index, what="FactorCovariance.idiosyncratic_variance")
        self.idiosyncratic: pd.Series = pd.Series(variance, exposures.index)
        if not np.isfinite(values).all() or not np.isfinite(variance).all():
            raise InputError("FactorCovariance: exposures and idiosyncratic variances must be finite")
        if (variance < 0).any():
            raise InputError(
                f"FactorCovariance: the idiosyncratic variance is negative for {some(exposures.index[variance < 0])}"
            )

    @property
    def assets(self) -> pd.Index:
        """The assets, in the order of the exposures."""
        return self.exposures.index

    def dense(self) -> pd.DataFrame:
        """The matrix itself (N x N), by asset."""
        loadings = self.exposures.to_numpy() @ self.root
        matrix = loadings @ loadings.T + np.diag(self.idiosyncratic.to_numpy())
        return pd.DataFrame(matrix, self.assets, self.assets)

    def volatility(self) -> pd.Series:
        r"""Standard deviation of each asset, :math:`\sqrt{b_i' F b_i + d_i}`, from the factors in O(NK)."""
        loadings = self.exposures.to_numpy() @ self.root
        variance = np.einsum("nk,nk->n", loadings, loadings) + self.idiosyncratic.to_numpy()
        return pd.Series(np.sqrt(variance), self.assets)

    def __repr__(self) -> str:
        return f"FactorCovariance({len(self.assets)} assets, {self.exposures.shape[1]} factors)"


def square(covariance: object, what: str) -> FloatArray:
    """The numbers of a frame with the same labels in rows and columns (N, N)."""
    if not isinstance(covariance, pd.DataFrame):
        raise InputError(f"{what}: the covariance must be a frame by asset, was {type(covariance).__name__}")
    if not covariance.index.equals(covariance.columns):
        raise InputError(f"{what}: the covariance must have the same labels in its rows and columns, in the same order")
    matrix = numbers(covariance, f"{what}: the covariance")
    if not np.isfinite(matrix).all():
        raise InputError(f"{what}: the covariance has missing or infinite entries")
    return matrix


def root(covariance: pd.DataFrame, what: str) -> FloatArray:
    """A (N, K) with ``A A' = covariance``, or the refusal of what is no covariance."""
    matrix = square(covariance, what)
    size = float(np.abs(matrix).max(initial=0.0))
    if np.abs(matrix - matrix.T).max(initial=0.0) > 1e-8 * size:
        raise InputError(f"{what}: the covariance is not symmetric; pass (c + c.T) / 2 if that is what is meant")
    symmetric = 0.5 * (matrix + matrix.T)
    try:
        found: FloatArray = np.linalg.cholesky(symmetric).astype(np.float64)  # a tenth of the time of eigenvalues
        if len(found) and float(np.diagonal(found).min()) ** 2 > 1e-10 * size:
            return found
    except np.linalg.LinAlgError:
        pass
    values, vectors = np.linalg.eigh(symmetric)
    if len(values) and values[0] < -1e-8 * max(float(values[-1]), 0.0):
        raise InputError(
            f"{what}: the covariance is not positive semidefinite (smallest eigenvalue {values[0]:.3g}, largest "
            f"{values[-1]:.3g}); portfolioopt.estimate.nearest_covariance(c) gives the nearest one that is"
        )
    kept = values > 1e-14 * max(float(values[-1]), 0.0) if len(values) else values > 0
    return vectors[:, kept] * np.sqrt(values[kept])


def nearest_covariance(covariance: pd.DataFrame) -> pd.DataFrame:
    """The positive semidefinite matrix nearest to a symmetric one in the Frobenius norm (Higham, 1988)."""
    matrix = square(covariance, "nearest_covariance")
    values, vectors = np.linalg.eigh(0.5 * (matrix + matrix.T))
    repaired = (vectors * np.maximum(values, 0.0)) @ vectors.T
    return pd.DataFrame(0.5 * (repaired + repaired.T), index=covariance.index, columns=covariance.columns)

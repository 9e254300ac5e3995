"""A covariance as a quadratic form over assets in a fixed order: products and sizes, without the matrix."""

from __future__ import annotations

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.labels import FloatArray, some

from .factored import FactorCovariance, root


class QuadraticForm:
    r""":math:`x'Qx` with :math:`Q = R R' + \mathrm{diag}(d)`, over assets in a fixed order.

    Parameters
    ----------
    covariance
        Q by asset (a frame, symmetric and positive semidefinite), or in factored form; it may say more assets.
    assets
        The assets and their order (N,).
    what
        Who asks, for messages.

    Raises
    ------
    InputError
        For what is no covariance, and for assets it says nothing about.
    """

    def __init__(self, covariance: pd.DataFrame | FactorCovariance, assets: pd.Index, what: str) -> None:
        frame = covariance.exposures if isinstance(covariance, FactorCovariance) else covariance
        missing = assets.difference(frame.index, sort=False)
        if len(missing):
            raise InputError(f"{what}: the covariance says nothing about {some(missing)}")
        self.root: FloatArray
        """R (N, K)."""
        self.diagonal: FloatArray
        """d (N,)."""
        if isinstance(covariance, FactorCovariance):
            self.root = frame.reindex(assets).to_numpy() @ covariance.root
            self.diagonal = covariance.idiosyncratic.reindex(assets).to_numpy(dtype=np.float64)
        else:
            self.root = root(frame.reindex(index=assets, columns=assets), what)
            self.diagonal = np.zeros(len(assets))

    def __call__(self, x: FloatArray) -> tuple[float, FloatArray]:
        """``x'Qx`` and ``Qx``."""
        product = self.root @ (self.root.T @ x) + self.diagonal * x
        return float(x @ product), product

    def dense(self) -> FloatArray:
        """Q (N, N)."""
        return self.root @ self.root.T + np.diag(self.diagonal)

    def variances(self) -> FloatArray:
        """The diagonal of Q (N,)."""
        return np.einsum("nk,nk->n", self.root, self.root) + self.diagonal

r"""Shocks of factors or assets, and what they imply for the others.

With returns :math:`r = B f + e`, factor covariance F and idiosyncratic variances d, shocks s of the factors J imply

.. math:: E[f | f_J = s] = F_{\cdot J} F_{JJ}^{-1} s, \qquad
          \mathrm{Cov}[f | f_J = s] = F - F_{\cdot J} F_{JJ}^{-1} F_{J \cdot}, \qquad
          E[r | f_J = s] = B\, E[f | f_J = s] ,

the regression of all on the shocked ones, exact for elliptical distributions and the best linear guess for any. Shocks
of assets are propagated in the same way through their covariance. Means over the horizon are taken to be zero. Kupiec
(1998), "Stress testing in a value at risk framework", J. of Derivatives 6.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from portfolioopt.errors import InputError, unknown_names
from portfolioopt.estimate import FactorCovariance, square
from portfolioopt.labels import FloatArray, align, some

IntArray = npt.NDArray[np.intp]
_SINGULAR = 1e-10  # eigenvalue of a correlation matrix below which its labels are dependent


@dataclass(frozen=True, eq=False)
class Stress:
    """What assets, and where there is a model factors, return under a stress."""

    name: str
    returns: pd.Series
    """Expected return by asset, as fractions."""
    factors: pd.Series | None = None
    """Expected return by factor."""
    exposures: pd.DataFrame | None = None
    """B (assets x factors); what assets return beyond ``B f`` is specific to them."""
    remaining: FactorCovariance | pd.DataFrame | None = None
    """Covariance of the assets that the shock leaves open."""

    def __repr__(self) -> str:
        return f"Stress({self.name!r}, {len(self.returns)} assets)"


def factor_shock(
    model: FactorCovariance, shocks: Mapping[str, float] | pd.Series, *, propagate: bool = True, name: str | None = None
) -> Stress:
    """Returns under shocks of some factors.

    Parameters
    ----------
    model
        Exposures, factor covariance and idiosyncratic variances.
    shocks
        Return of each shocked factor, as a fraction: ``{"Market": -0.20}``.
    propagate
        Whether the other factors move as their covariance with the shocked ones implies; they stay at zero otherwise.
    name
        Of the stress; made of the shocks where None.

    Returns
    -------
    Stress
        With the covariance that remains: conditional where the shock is propagated, and otherwise that without the
        shocked factors.

    Raises
    ------
    InputError
        For no shocks, shocks that are not finite, and shocked factors that depend on each other or do not vary (naming
        them), where they are to be propagated.
    UnknownNameError
        For factors that the model does not have.
    """
    if not isinstance(model, FactorCovariance):
        raise InputError(f"factor_shock needs a FactorCovariance, was {type(model).__name__}")
    factors = model.exposures.columns
    at, values = _shocks(shocks, factors, "factor")
    matrix = model.root @ model.root.T
    moved = np.zeros(len(factors))
    moved[at] = values
    if propagate:
        gain = _gain(matrix[:, at], matrix[np.ix_(at, at)], factors[at], "factors")
        moved = gain @ values
        left = matrix - gain @ matrix[at]
    else:
        left = matrix.copy()
    moved[at] = values  # without rounding
    left[at], left[:, at] = 0.0, 0.0
    return Stress(
        name=_name(name, shocks),
        returns=pd.Series(model.exposures.to_numpy() @ moved, model.assets, name="return"),
        factors=pd.Series(moved, factors, name="return"),
        exposures=model.exposures,
        remaining=FactorCovariance(model.exposures, _frame(left, factors), model.idiosyncratic),
    )


def asset_shock(
    covariance: pd.DataFrame | FactorCovariance,
    shocks: Mapping[str, float] | pd.Series,
    *,
    propagate: bool = True,
    name: str | None = None,
) -> Stress:
    r"""Returns under shocks of some assets.

    Parameters
    ----------
    covariance
        Of the assets: a frame, or a factor model, whose factors then move by :math:`F B_J' \Sigma_{JJ}^{-1} s`.
    shocks
        Return of each shocked asset, as a fraction.
    propagate
        Whether the others move as their covariance with the shocked ones implies; they stay at zero otherwise.
    name
        Of the stress; made of the shocks where None.

    Returns
    -------
    Stress
        With the covariance that remains.

    Raises
    ------
    InputError
        As for :func:`factor_shock`, and for what is no covariance.
    UnknownNameError
        For assets that the covariance does not have.
    """
    if isinstance(covariance, FactorCovariance):
        return _asset_shock_by_factors(covariance, shocks, propagate=propagate, name=name)
    matrix = square(covariance, "asset_shock")
    assets = covariance.columns
    at, values = _shocks(shocks, assets, "asset")
    moved, left = np.zeros(len(assets)), matrix.copy()
    if propagate:
        gain = _gain(matrix[:, at], matrix[np.ix_(at, at)], assets[at], "assets")
        moved, left = gain @ values, matrix - gain @ matrix[at]
    moved[at] = values
    left[at], left[:, at] = 0.0, 0.0
    return Stress(
        name=_name(name, shocks), returns=pd.Series(moved, assets, name="return"), remaining=_frame(left, assets)
    )


def _asset_shock_by_factors(
    model: FactorCovariance, shocks: Mapping[str, float] | pd.Series, *, propagate: bool, name: str | None
) -> Stress:
    """Without ever forming the covariance of all assets."""
    assets, factors = model.assets, model.exposures.columns
    at, values = _shocks(shocks, assets, "asset")
    loadings, specific = model.exposures.to_numpy(), model.idiosyncratic.to_numpy()
    moved, left = np.zeros(len(factors)), model.root @ model.root.T
    if propagate:
        shared = left @ loadings[at].T  # covariance of factors and shocked assets
        gain = _gain(shared, loadings[at] @ shared + np.diag(specific[at]), assets[at], "assets")
        moved = gain @ values
        left = left - gain @ shared.T
    returns = loadings @ moved
    returns[at] = values
    open_loadings, open_specific = loadings.copy(), specific.copy()
    open_loadings[at], open_specific[at] = 0.0, 0.0  # nothing is open in what was given
    return Stress(
        name=_name(name, shocks),
        returns=pd.Series(returns, assets, name="return"),
        factors=pd.Series(moved, factors, name="return"),
        exposures=model.exposures,
        remaining=FactorCovariance(
            pd.DataFrame(open_loadings, assets, factors),
            _frame(0.5 * (left + left.T), factors),
            pd.Series(open_specific, assets),
        ),
    )


def _shocks(shocks: Mapping[str, float] | pd.Series, labels: pd.Index, kind: str) -> tuple[IntArray, FloatArray]:
    """Positions and sizes of shocks."""
    if not isinstance(shocks, Mapping | pd.Series):
        raise InputError(f"shocks must be a mapping or Series from {kind} to return, was {type(shocks).__name__}")
    series = shocks if isinstance(shocks, pd.Series) else pd.Series(dict(shocks), dtype=object)
    if not len(series):
        raise InputError(f"there are no shocks; give at least one {kind} a return")
    unknown = [label for label in series.index if label not in labels]
    if unknown:
        raise unknown_names(kind, unknown, labels)
    order = pd.Index(series.index)
    return np.asarray(labels.get_indexer(order), dtype=np.intp), align(series, order, what="shocks")


def _gain(shared: FloatArray, own: FloatArray, labels: pd.Index, what: str) -> FloatArray:
    """``shared own^-1``, or the refusal of shocked labels that depend on each other."""
    deviation = np.sqrt(own.diagonal())
    still = deviation == 0.0
    if still.any():
        raise InputError(f"the shocked {what} {some(labels[still])} never move, so nothing follows from their shocks")
    correlation = own / np.outer(deviation, deviation)
    values, vectors = np.linalg.eigh(correlation)
    if values[0] < _SINGULAR:
        tied = labels[(vectors[:, values < _SINGULAR] ** 2).sum(axis=1) > 1e-8]
        raise InputError(
            f"the shocked {what} {some(tied)} depend on each other (their covariance is singular); shock fewer of them"
        )
    return ((shared / deviation) @ (vectors / values) @ vectors.T) / deviation


def _frame(matrix: FloatArray, labels: pd.Index) -> pd.DataFrame:
    return pd.DataFrame(0.5 * (matrix + matrix.T), labels, labels)


def _name(name: str | None, shocks: Mapping[str, float] | pd.Series) -> str:
    return (
        name if name is not None else ", ".join(f"{label} {100.0 * float(size):+g} %" for label, size in shocks.items())
    )

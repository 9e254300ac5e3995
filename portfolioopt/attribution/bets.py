r"""How diversified a portfolio is: by weight, by risk, by uncorrelated bets.

*   Herfindahl index of the shares :math:`h = \sum_i (|w_i| / \sum_j |w_j|)^2`; its inverse counts equal positions.
*   Diversification ratio :math:`\sum_i |w_i| \sigma_i / \sigma`. Choueifaty & Coignard (2008), J. Portfolio Management
    35.
*   Effective number :math:`\exp(-\sum_i p_i \log p_i)` of shares of the variance: those of assets, of principal
    components (Meucci, 2009, "Managing diversification"), and of minimum-torsion bets (Meucci, Santangelo & Deguest,
    2015, "Risk budgeting and diversification based on optimised uncorrelated factors").

The minimum torsion is the linear map of returns to uncorrelated bets that are as near as can be to the returns
themselves, in units of their volatilities: with the correlation matrix :math:`C = c^2`, bets
:math:`\mathrm{diag}(d)\, Q\, c^{-1} z` of the standardised returns z, where the rotation Q and the sizes d in turn take
their best values given the other, :math:`c\,\mathrm{diag}(d) = U S V' \Rightarrow Q = V U'` and
:math:`d_i = (Qc)_{ii}`.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

from portfolioopt.blas import quiet_blas
from portfolioopt.errors import InputError
from portfolioopt.estimate import FactorCovariance, square
from portfolioopt.estimate.quadratic import QuadraticForm
from portfolioopt.labels import FloatArray

from .contributions import Weights, portfolio_arrays

_ROUNDS = 500
_STILL = 1e-13  # a change of the sizes d, all about one, at which the torsion has settled


def diversification(
    covariance: pd.DataFrame | FactorCovariance, weights: Weights | pd.DataFrame
) -> pd.Series | pd.DataFrame:
    r"""Measures of diversification of one portfolio, or of many.

    Parameters
    ----------
    covariance
        Of N assets, per horizon; a frame or factored.
    weights
        Fractions of NAV by asset; a frame, assets x portfolios, for many portfolios.

    Returns
    -------
    Series, or a DataFrame with a row for each portfolio
        ``herfindahl``, ``effective_positions`` :math:`1/h`, ``diversification_ratio``, and ``effective_contributions``:
        the effective number of assets by :math:`w_i (\Sigma w)_i / \sigma^2`, NaN where one of them is negative, as it
        is for a hedge.

    Raises
    ------
    InputError
        For what is no covariance, weights that do not match it, are all zero, or have no volatility.
    """
    assets = covariance.assets if isinstance(covariance, FactorCovariance) else _assets(covariance)
    form = QuadraticForm(covariance, assets, "diversification")
    held, portfolios = portfolio_arrays(assets, weights)
    gross = np.abs(held).sum(axis=1)
    if (gross == 0.0).any():
        raise InputError("diversification: a portfolio without positions has none")
    product = (held @ form.root) @ form.root.T + held * form.diagonal
    variance = _positive(np.einsum("pn,pn->p", held, product))
    herfindahl = ((held / gross[:, None]) ** 2).sum(axis=1)
    share = held * product / variance[:, None]
    hedged = (share < -1e-12).any(axis=1)
    frame = pd.DataFrame(
        {
            "herfindahl": herfindahl,
            "effective_positions": 1.0 / herfindahl,
            "diversification_ratio": np.abs(held) @ np.sqrt(form.variances()) / np.sqrt(variance),
            "effective_contributions": np.where(hedged, np.nan, _effective(share)),
        },
        index=portfolios,
    )
    return frame.iloc[0].rename(None) if portfolios is None else frame


def effective_bets(
    covariance: pd.DataFrame | FactorCovariance,
    weights: Weights | pd.DataFrame,
    *,
    bets: Literal["minimum torsion", "principal components"] = "minimum torsion",
) -> pd.Series | pd.DataFrame:
    """Share of the variance that each of N uncorrelated bets has, and their effective number.

    Minimum-torsion bets carry the names of the assets they are nearest to. Principal components come largest first and
    say little where eigenvalues are close.

    Returns
    -------
    Series, or a DataFrame with a row for each portfolio
        ``effective_number``, between 1 and N, and then the share of each bet; shares are not negative and sum to one.

    Raises
    ------
    InputError
        For what is no covariance or is singular, and weights that do not match it or have no volatility.
    """
    if bets not in ("minimum torsion", "principal components"):
        raise InputError(f"effective_bets: bets must be 'minimum torsion' or 'principal components', was {bets!r}")
    frame = covariance.dense() if isinstance(covariance, FactorCovariance) else covariance
    assets = _assets(frame)
    matrix = QuadraticForm(frame, assets, "effective_bets").dense()
    held, portfolios = portfolio_arrays(assets, weights)
    with quiet_blas.hold():
        if bets == "minimum torsion":
            back = np.linalg.inv(minimum_torsion(frame).to_numpy())
            names = assets
        else:
            back = np.linalg.eigh(matrix)[1][:, ::-1]
            names = pd.Index([f"PC{k}" for k in range(1, len(assets) + 1)])
        exposure = held @ back  # of the portfolio to each bet
        inverse = np.linalg.inv(back)
        sizes = ((inverse @ matrix) * inverse).sum(axis=1)
    parts = exposure**2 * np.maximum(sizes, 0.0)
    share = parts / _positive(parts.sum(axis=1))[:, None]
    found = pd.DataFrame(share, index=portfolios, columns=names)
    if "effective_number" in names:
        raise InputError("effective_bets: an asset is called 'effective_number', as is a column of the result")
    found.insert(0, "effective_number", _effective(share))
    return found.iloc[0].rename(None) if portfolios is None else found


def minimum_torsion(covariance: pd.DataFrame) -> pd.DataFrame:
    """Matrix (bets x assets) that turns returns into uncorrelated bets as near to them as can be.

    Raises
    ------
    InputError
        For what is no covariance, or is singular to working precision: some assets are then combinations of others, and
        no uncorrelated bets stand for all of them.
    """
    matrix = square(covariance, "minimum_torsion")
    size = np.sqrt(np.diagonal(matrix).clip(min=0.0))
    if (size == 0.0).any():
        raise InputError("minimum_torsion: an asset has no variance; leave it out")
    with quiet_blas.hold():
        values, vectors = np.linalg.eigh(matrix / np.outer(size, size))
    if values[0] <= 1e-12 * values[-1]:
        raise InputError(
            "minimum_torsion: the covariance is singular; use a shrinkage or factor estimate, or leave out assets that "
            "are combinations of others"
        )
    with quiet_blas.hold():
        root = (vectors * np.sqrt(values)) @ vectors.T
        d = np.ones(len(size))
        rotation = np.eye(len(size))
        for _ in range(_ROUNDS):
            u, _, v = np.linalg.svd(root * d)
            rotation = v.T @ u.T
            last, d = d, np.einsum("ij,ji->i", rotation, root)
            if np.abs(d - last).max() <= _STILL:
                break
        inverse_root = (vectors / np.sqrt(values)) @ vectors.T
        torsion = size[:, None] * (d[:, None] * (rotation @ inverse_root)) / size
    return pd.DataFrame(torsion, index=covariance.index, columns=covariance.columns)


def _assets(covariance: object) -> pd.Index:
    if not isinstance(covariance, pd.DataFrame):
        raise InputError(f"covariance must be a frame by asset or a FactorCovariance, was {type(covariance).__name__}")
    return covariance.index


def _positive(variance: FloatArray) -> FloatArray:
    if (variance <= 0.0).any():
        raise InputError("a portfolio has no volatility, and no risk to be diversified")
    return variance


def _effective(share: FloatArray) -> FloatArray:
    safe = np.where(share > 0.0, share, 1.0)
    return np.exp(-np.sum(safe * np.log(safe), axis=1))

r"""Expected returns that blend an equilibrium with views (Black & Litterman, 1992).

With a prior mean :math:`\pi` that is known to :math:`\tau\Sigma` and views :math:`P\mu = q + \epsilon`,
:math:`\epsilon \sim N(0, \Omega)`, write :math:`U = \tau\Sigma P'` and :math:`A = P U + \Omega`. Then

.. math:: \bar\mu = \pi + U A^{-1} (q - P\pi), \qquad \bar\Sigma = \Sigma + \tau\Sigma - U A^{-1} U'.

Neither :math:`\Omega` nor :math:`\Sigma` is inverted, so views may be certain and a factor model stays factored. He &
Litterman (1999), "The intuition behind Black-Litterman model portfolios"; Idzorek (2005), "A step-by-step guide to the
Black-Litterman model"; Walters (2014), "The Black-Litterman model in detail".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import pandas as pd

from portfolioopt.blas import quiet_blas
from portfolioopt.errors import InputError
from portfolioopt.labels import FloatArray, align, checked_number, some

from .checks import check_estimator, checked_returns
from .covariances import CovarianceEstimator, SampleCovariance
from .factored import FactorCovariance, square
from .return_views import (
    AbsoluteView,
    Omega,
    RelativeView,
    ViewMatrix,
    Views,
    confidences,
    error_covariance,
    listed_views,
    stated_views,
    unused_names,
)

Weighing: TypeAlias = Literal["posterior", "prior"]
_NULL = 1e-12  # eigenvalue, with all views in units of their own deviation, below which views are dependent
_CLASH = 1e-8  # what dependent views may differ by, relative to their sizes


@dataclass(frozen=True, eq=False)
class BlackLittermanPosterior:
    """What returns are expected to be once views are taken into account."""

    prior_mean: pd.Series
    r""":math:`\pi` by asset (N,), over the riskless rate, per horizon."""
    mean: pd.Series
    r""":math:`\bar\mu` by asset (N,)."""
    prior_covariance: pd.DataFrame | FactorCovariance
    r""":math:`\Sigma`, as it was given."""
    picks: pd.DataFrame
    """P (views x assets)."""
    views: pd.DataFrame
    r"""By view: `value` q, `prior` :math:`P\pi` and `posterior` :math:`P\bar\mu`; `confidence` of the view alone,
    :math:`\tau p'\Sigma p / (\tau p'\Sigma p + \omega)`; `implied_confidence`, the tilt towards it as a share of the
    one if all views were certain (NaN where they cannot all be); `uncertainty` :math:`\omega`; and `tilt`, the weight
    of its portfolio in unconstrained optimal weights that use the prior covariance."""
    tau: float
    risk_aversion: float
    market_weights: pd.Series | None
    errors: FloatArray = field(repr=False)
    r""":math:`\Omega` (views, views)."""
    root: FloatArray = field(repr=False)
    """H (views, rank) with :math:`A^{-1} = H H'`; zeros for views without confidence."""
    prices: FloatArray = field(repr=False)
    r""":math:`A^{-1} (q - P\pi)` (views,)."""

    @cached_property
    @quiet_blas.hold()
    def covariance(self) -> pd.DataFrame | FactorCovariance:
        r""":math:`\bar\Sigma`, of returns whose mean is known as well as that: a frame, or in factored form.

        In factored form the specific returns of the assets in views are factors more, since views tie them together;
        with baskets of thousands of assets that saves nothing over a matrix.
        """
        prior, used = self.prior_covariance, np.isfinite(np.diag(self.errors))
        p, root = self.picks.to_numpy()[used], self.root[used]
        if isinstance(prior, FactorCovariance):
            return self._factored(prior, p, root)
        matrix = square(prior, "Black-Litterman")
        taken = self.tau * (matrix @ p.T) @ root
        matrix = (1.0 + self.tau) * matrix - taken @ taken.T
        return pd.DataFrame(0.5 * (matrix + matrix.T), self.mean.index, self.mean.index)

    def _factored(self, prior: FactorCovariance, p: FloatArray, root: FloatArray) -> FactorCovariance:
        exposures, d = prior.exposures.to_numpy(), prior.idiosyncratic.to_numpy()
        f = prior.root @ prior.root.T
        held = np.flatnonzero(p.any(axis=0))
        k = f.shape[0]
        inner = np.zeros((k + len(held), k + len(held)))
        inner[:k, :k] = (1.0 + self.tau) * f
        inner[k:, k:] = self.tau * np.diag(d[held])
        shared = np.vstack([f @ (p @ exposures).T, d[held, None] * p[:, held].T])
        taken = self.tau * shared @ root
        inner -= taken @ taken.T
        own = np.zeros((len(d), len(held)))
        own[held, np.arange(len(held))] = 1.0
        specific = (1.0 + self.tau) * d
        specific[held] = d[held]
        factors = prior.exposures.columns
        names = pd.Index(
            [*factors, *unused_names([f"{asset} (specific)" for asset in prior.assets[held]], set(factors))]
        )
        return FactorCovariance(
            pd.DataFrame(np.hstack([exposures, own]), prior.assets, names),
            pd.DataFrame(0.5 * (inner + inner.T), names, names),
            pd.Series(specific, prior.assets),
        )

    @quiet_blas.hold()
    def tilts(self, uses: Weighing = "posterior") -> pd.Series:
        r"""The weight :math:`\lambda` of each view's portfolio in unconstrained optimal weights.

        With the market weights m, optimal weights are :math:`m + P'\lambda` where they use the prior covariance, with
        :math:`\lambda = \tfrac{\tau}{\delta} A^{-1}(q - P\pi)`, and :math:`(m + P'\lambda) / (1 + \tau)` where they use
        the posterior one, with :math:`\lambda = \tfrac1\delta \big(\tau A^{-1}(q - P\pi) + \tfrac{\tau^2}{1 + \tau}
        C^{-1} P\bar\mu\big)` and :math:`C = \tfrac{\tau}{1 + \tau} P \Sigma P' + \Omega` (He & Litterman, 1999).
        """
        check_weighing(uses, "tilts")
        values, tau = self.tau * self.prices, self.tau
        if uses == "posterior":
            used = np.flatnonzero(np.isfinite(np.diag(self.errors)))
            p = self.picks.to_numpy()[used]
            spread = tau / (1.0 + tau) * p @ _times(self.prior_covariance, p.T)
            inverse = _inverted(spread + self.errors[np.ix_(used, used)]).root
            values[used] += tau**2 / (1.0 + tau) * inverse @ (inverse.T @ (p @ self.mean.to_numpy()))
        return pd.Series(values / self.risk_aversion, self.picks.index, name="tilt")

    def unconstrained_weights(self, uses: Weighing = "posterior") -> pd.Series:
        """Weights that are optimal without constraints, by :meth:`tilts`; needs a prior from market weights."""
        if self.market_weights is None:
            raise InputError("unconstrained weights are tilts of market weights, and the prior mean was given without")
        tilted = self.market_weights + self.picks.to_numpy().T @ self.tilts(uses).to_numpy()
        return (tilted / (1.0 + self.tau if uses == "posterior" else 1.0)).rename("weight")

    def __repr__(self) -> str:
        return f"BlackLittermanPosterior({len(self.mean)} assets, {len(self.views)} views)"


@quiet_blas.hold()
def black_litterman_posterior(
    covariance: pd.DataFrame | FactorCovariance,
    views: Views = (),
    *,
    market_weights: pd.Series | Mapping[str, float] | None = None,
    prior_mean: pd.Series | Mapping[str, float] | None = None,
    risk_aversion: float = 2.5,
    tau: float = 0.05,
    omega: Omega | None = None,
) -> BlackLittermanPosterior:
    r"""Blend a prior with views; the module's text has the formulas.

    Parameters
    ----------
    covariance
        :math:`\Sigma` by asset per horizon: a frame or, for thousands of assets, a factor model.
    views
        Absolute and relative views, or a :class:`ViewMatrix`. Without any, the prior mean comes back as it is.
    market_weights
        m by asset, summing to one, for the prior :math:`\pi = \delta \Sigma m`.
    prior_mean
        :math:`\pi` by asset instead, over the riskless rate, per horizon.
    risk_aversion
        :math:`\delta`, positive; :func:`implied_risk_aversion` finds it from the premium or Sharpe ratio of the market.
    tau
        :math:`\tau`, uncertainty of the prior mean in units of the covariance, positive; about one over the number of
        observations.
    omega
        :math:`\Omega`: variance of each view's error by name (0 is certain, infinite says nothing), or a frame of
        covariances. Where None, from the confidences by Idzorek's identity, :math:`\omega = \tau p'\Sigma p\,(1-c)/c`;
        0.5 is the proportional choice :math:`\mathrm{diag}(\tau P \Sigma P')` of He & Litterman.

    Raises
    ------
    InputError
        For certain views that contradict each other (naming them), baskets that do not sum to one, confidences outside
        [0, 1], confidences beside `omega`, and a prior that is given twice or not at all.
    UnknownNameError
        For assets and views that do not exist.
    """
    who = "Black-Litterman"
    assets = _checked_assets(covariance, who)
    delta = checked_number(risk_aversion, f"{who}: risk_aversion", above=0.0)
    t = checked_number(tau, f"{who}: tau", above=0.0)
    if (market_weights is None) == (prior_mean is None):
        raise InputError(f"{who}: give either market_weights or prior_mean; the views are blended with one of them")
    market = None
    if market_weights is not None:
        market = _market(market_weights, assets, who)
        pi = delta * _times(covariance, market)
    else:
        assert prior_mean is not None
        pi = align(prior_mean, assets, what="prior_mean")
    stated = stated_views(views, assets, who)
    p, q = stated.picks, stated.target
    shared = t * _times(covariance, p.T)
    spread = p @ shared
    variance = np.diag(spread).copy()
    if (variance < -1e-12 * np.abs(variance).max(initial=0.0)).any():
        raise InputError(
            f"{who}: the covariance is not positive semidefinite; see portfolioopt.estimate.nearest_covariance"
        )
    errors = error_covariance(omega, stated, np.maximum(variance, 0.0))
    uncertainty = np.diag(errors).copy()
    gap = q - p @ pi
    size = np.abs(q) + np.abs(p) @ np.abs(pi)
    used = np.flatnonzero(np.isfinite(uncertainty))
    within = np.ix_(used, used)

    inverse = _inverted(spread[within] + errors[within])
    clash = inverse.clash(gap[used], size[used])
    if clash.any():
        _refuse(stated.names[used][clash], variance[used][clash], p[used][clash] @ pi, who)
    root = np.zeros((len(q), inverse.root.shape[1]))
    root[used] = inverse.root
    prices = root @ (root.T @ gap)
    mean = pi + shared @ prices

    certain = _inverted(spread[within])
    implied = np.zeros(len(q))
    if certain.clash(gap[used], size[used]).any():
        implied[used] = np.nan
    else:
        whole = certain.root @ (certain.root.T @ gap[used])
        implied[used] = np.divide(prices[used], whole, out=np.full(len(used), np.nan), where=whole != 0)
    table = pd.DataFrame(
        {
            "value": q,
            "prior": p @ pi,
            "posterior": p @ mean,
            "confidence": np.where(np.isnan(stated.confidence), confidences(variance, uncertainty), stated.confidence),
            "implied_confidence": implied,
            "uncertainty": uncertainty,
            "tilt": t / delta * prices,
        },
        index=stated.names,
    )
    return BlackLittermanPosterior(
        prior_mean=pd.Series(pi, assets, name="prior"),
        mean=pd.Series(mean, assets, name="posterior"),
        prior_covariance=covariance,
        picks=pd.DataFrame(p, stated.names, assets),
        views=table,
        tau=t,
        risk_aversion=delta,
        market_weights=None if market is None else pd.Series(market, assets, name="market"),
        errors=errors,
        root=root,
        prices=prices,
    )


@dataclass(frozen=True, eq=False)
class BlackLitterman:
    """Expected returns by blending equilibrium and views, as an estimator; see :func:`black_litterman_posterior`.

    Parameters
    ----------
    views, market_weights, risk_aversion, tau, omega
        As for :func:`black_litterman_posterior`.
    covariance
        Estimator of the covariance; a factor model stays factored.
    """

    views: Views
    market_weights: pd.Series | Mapping[str, float]
    risk_aversion: float = 2.5
    tau: float = 0.05
    omega: Omega | None = None
    covariance: CovarianceEstimator = field(default_factory=SampleCovariance)

    def __post_init__(self) -> None:
        check_estimator(self.covariance, "BlackLitterman")
        if not isinstance(self.views, AbsoluteView | RelativeView | ViewMatrix):
            object.__setattr__(self, "views", listed_views(self.views, "BlackLitterman"))

    def fit(self, returns: pd.DataFrame) -> pd.Series:
        """Expected excess return by asset (N,) per row of `returns`; needs the rows of the covariance."""
        return self.posterior(returns).mean

    def posterior(self, returns: pd.DataFrame) -> BlackLittermanPosterior:
        """The whole posterior per row of `returns` (T x N)."""
        checked_returns(returns, "BlackLitterman", rows=1)
        return black_litterman_posterior(
            self.covariance.fit(returns),
            self.views,
            market_weights=self.market_weights,
            risk_aversion=self.risk_aversion,
            tau=self.tau,
            omega=self.omega,
        )


# -- numbers that go with it -------------------------------------------------------------------------------------
def implied_risk_aversion(
    covariance: pd.DataFrame | FactorCovariance,
    market_weights: pd.Series | Mapping[str, float],
    *,
    premium: float | None = None,
    sharpe: float | None = None,
) -> float:
    r"""Risk aversion under which the market is worth holding, :math:`\delta = (E[r_m] - r_f) / \sigma_m^2`.

    Parameters
    ----------
    covariance, market_weights
        As for :func:`black_litterman_posterior`.
    premium
        Expected return of the market over the riskless rate, per horizon.
    sharpe
        The premium over the volatility of the market, per horizon, instead.
    """
    who = "implied_risk_aversion"
    weights = _market(market_weights, _checked_assets(covariance, who), who)
    if (premium is None) == (sharpe is None):
        raise InputError(f"{who}: give the premium of the market or its Sharpe ratio, one of the two")
    variance = float(weights @ _times(covariance, weights))
    if variance <= 0.0:
        raise InputError(f"{who}: the market has no variance under this covariance")
    if premium is not None:
        return checked_number(premium, f"{who}: premium", above=0.0) / variance
    return checked_number(sharpe, f"{who}: sharpe", above=0.0) / float(np.sqrt(variance))


def check_weighing(uses: object, who: str) -> None:
    """Refuse what is neither of the two covariances."""
    if uses not in ("posterior", "prior"):
        raise InputError(f"{who}: uses must be 'posterior' or 'prior', the covariance for weights; was {uses!r}")


# -- inside ------------------------------------------------------------------------------------------------------
class _Inverse(NamedTuple):
    """A generalised inverse ``root @ root.T`` of a positive semidefinite matrix, and what it cannot reach."""

    root: FloatArray
    null: FloatArray
    scale: FloatArray

    def clash(self, right: FloatArray, size: FloatArray) -> np.ndarray:
        """Which entries of a right-hand side lie outside of what the matrix can produce; sizes are of the entries."""
        beyond = np.abs(self.null @ (self.null.T @ (right / self.scale)))
        worst = float(beyond.max(initial=0.0))
        return (beyond > 1e-6 * worst) & (worst > _CLASH * float((size / self.scale).max(initial=0.0)))


def _inverted(matrix: FloatArray) -> _Inverse:
    scale = np.sqrt(np.maximum(np.diag(matrix), 0.0))
    scale = np.where(scale > 1e-10 * scale.max(initial=0.0), scale, scale.max(initial=0.0) or 1.0)
    values, vectors = np.linalg.eigh(matrix / np.outer(scale, scale))
    kept = values > _NULL * max(len(values), 1)
    return _Inverse(vectors[:, kept] / np.sqrt(values[kept]) / scale[:, None], vectors[:, ~kept], scale)


def _times(covariance: pd.DataFrame | FactorCovariance, x: FloatArray) -> FloatArray:
    """The covariance times columns (N, V) or one vector (N,), without forming it where it is factored."""
    if isinstance(covariance, FactorCovariance):
        loadings, d = covariance.exposures.to_numpy() @ covariance.root, covariance.idiosyncratic.to_numpy()
        return loadings @ (loadings.T @ x) + (d * x.T).T
    return covariance.to_numpy(dtype=np.float64) @ x


def _checked_assets(covariance: object, who: str) -> pd.Index:
    if isinstance(covariance, FactorCovariance):
        return covariance.assets
    matrix = square(covariance, who)
    assert isinstance(covariance, pd.DataFrame)
    if covariance.index.has_duplicates:
        raise InputError(
            f"{who}: the covariance has an asset twice: {some(covariance.index[covariance.index.duplicated()])}"
        )
    if np.abs(matrix - matrix.T).max(initial=0.0) > 1e-8 * np.abs(matrix).max(initial=0.0):
        raise InputError(f"{who}: the covariance is not symmetric; pass (c + c.T) / 2 if that is what is meant")
    return covariance.index


def _market(weights: pd.Series | Mapping[str, float], assets: pd.Index, who: str) -> FloatArray:
    values = align(weights, assets, what="market_weights")
    if abs(values.sum() - 1.0) > 1e-6:
        raise InputError(
            f"{who}: market_weights sum to {values.sum():g}, and have to sum to one; divide them by their sum"
        )
    return values


def _refuse(names: pd.Index, variance: FloatArray, prior: FloatArray, who: str) -> None:
    if len(names) == 1 and variance[0] <= 0.0:
        raise InputError(
            f"{who}: view {names[0]!r} is about what has no variance under the covariance, so that it returns "
            f"{prior[0]:g} for certain; leave the view out"
        )
    raise InputError(
        f"{who}: views {some(names)} are certain and contradict each other; no expected return meets them all. Correct "
        "one of them, or lower its confidence below 1"
    )

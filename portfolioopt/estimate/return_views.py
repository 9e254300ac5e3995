"""Views on expected returns: what is said of which portfolio of assets, and how surely."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError, unknown_names
from portfolioopt.labels import FloatArray, PerAsset, align, checked_number, numbers, per_asset, some

from .factored import square

Basket: TypeAlias = str | Iterable[str] | Mapping[str, float] | pd.Series
Omega: TypeAlias = pd.Series | Mapping[str, float] | pd.DataFrame


@dataclass(frozen=True, eq=False)
class AbsoluteView:
    """What an asset, or a basket, is expected to return.

    Parameters
    ----------
    asset
        A label, labels of equal weight, or a mapping from label to weight that sums to one.
    value
        Expected return over the riskless rate per horizon, as a fraction.
    confidence
        From 0 (says nothing) to 1 (certain), after Idzorek: how far of the way from the prior to the view the view
        alone would go. 0.5 where None.
    name
        For reports; made of the assets where None.
    """

    asset: Basket
    value: float
    confidence: float | None = None
    name: str | None = None


@dataclass(frozen=True, eq=False)
class RelativeView:
    """By how much an asset, or a basket, is expected to return more than another.

    Parameters
    ----------
    over, under
        A label, labels of equal weight, or a mapping from label to weight; each of the two sums to one.
    value
        Difference of the expected returns per horizon, as a fraction.
    confidence, name
        As for :class:`AbsoluteView`.
    """

    over: Basket
    under: Basket
    value: float
    confidence: float | None = None
    name: str | None = None


@dataclass(frozen=True, eq=False)
class ViewMatrix:
    """Views as a matrix of portfolios.

    Parameters
    ----------
    picks
        P (views x assets), weights of the portfolio that each view is about; assets left out have none.
    values
        q, expected return over the riskless rate of each of them per horizon.
    confidence
        One number for all views, or one for each; 0.5 where None.
    """

    picks: pd.DataFrame
    values: pd.Series | Mapping[str, float]
    confidence: PerAsset | None = None


Views: TypeAlias = Iterable[AbsoluteView | RelativeView] | AbsoluteView | RelativeView | ViewMatrix


def view_uncertainty(prior_variance: float, confidence: float) -> float:
    r"""Variance of a view's error with a confidence: Idzorek's identity, :math:`\omega = v (1 - c) / c`.

    Weights under the view alone are then tilted by c times the tilt of a certain view. `prior_variance` is
    :math:`v = \tau p'\Sigma p`; a confidence of 1 gives 0, one of 0 gives infinity.
    """
    v = checked_number(prior_variance, "view_uncertainty: prior_variance", least=0.0)
    c = checked_confidence(confidence, "view_uncertainty: confidence")
    return float(uncertainties(np.array([v]), np.array([c]))[0])


def view_confidence(prior_variance: float, uncertainty: float) -> float:
    r"""Confidence of a view by the variance of its error, :math:`v / (v + \omega)`: undoes :func:`view_uncertainty`."""
    v = checked_number(prior_variance, "view_confidence: prior_variance", least=0.0)
    w = np.inf if uncertainty == np.inf else checked_number(uncertainty, "view_confidence: uncertainty", least=0.0)
    return float(confidences(np.array([v]), np.array([w]))[0])


# -- views as arrays ---------------------------------------------------------------------------------------------
class Stated(NamedTuple):
    """Views in the order they were given, over assets in a fixed order."""

    names: pd.Index
    picks: FloatArray  # P (V, N)
    target: FloatArray  # q (V,)
    confidence: FloatArray  # (V,), NaN where none was given


def stated_views(views: Views, assets: pd.Index, who: str) -> Stated:
    """Views as arrays over these assets, or the refusal of what cannot be meant."""
    if isinstance(views, ViewMatrix):
        return _matrix(views, assets, who)
    listed = listed_views(views, who)
    places = {asset: place for place, asset in enumerate(assets)}
    names: list[str] = []
    picks = np.zeros((len(listed), len(assets)))
    values, confidence = np.zeros(len(listed)), np.full(len(listed), np.nan)
    for k, view in enumerate(listed):
        if isinstance(view, AbsoluteView):
            name = _called(view.asset) if view.name is None else str(view.name)
            picks[k] = _leg(view.asset, places, f"view {name!r}")
        else:
            name = f"{_called(view.over)} over {_called(view.under)}" if view.name is None else str(view.name)
            picks[k] = _leg(view.over, places, f"view {name!r}: over")
            picks[k] -= _leg(view.under, places, f"view {name!r}: under")
        if not picks[k].any():
            raise InputError(f"{who}: view {name!r} is about nothing, since its two sides are the same")
        values[k] = checked_number(view.value, f"view {name!r}: value")
        if view.confidence is not None:
            confidence[k] = checked_confidence(view.confidence, f"view {name!r}: confidence")
        names.append(name)
    return Stated(pd.Index(unused_names(names, set()), name="view", dtype=object), picks, values, confidence)


def listed_views(views: object, who: str) -> tuple[AbsoluteView | RelativeView, ...]:
    """Views one by one, or the refusal of anything else."""
    if isinstance(views, AbsoluteView | RelativeView):
        return (views,)
    given = tuple(views) if isinstance(views, Iterable) and not isinstance(views, str | Mapping) else (views,)
    listed: list[AbsoluteView | RelativeView] = []
    for view in given:
        if not isinstance(view, AbsoluteView | RelativeView):
            raise InputError(
                f"{who}: views must be AbsoluteView and RelativeView, or one ViewMatrix(picks, values); was given "
                f"{type(view).__name__}"
            )
        listed.append(view)
    return tuple(listed)


def _matrix(views: ViewMatrix, assets: pd.Index, who: str) -> Stated:
    if not isinstance(views.picks, pd.DataFrame):
        raise InputError(f"{who}: picks must be a frame of views x assets, was {type(views.picks).__name__}")
    for kind, labels in (("view", views.picks.index), ("asset", views.picks.columns)):
        if labels.has_duplicates:
            raise InputError(f"{who}: picks has the same {kind} twice: {some(labels[labels.duplicated()].unique())}")
    unknown = views.picks.columns.difference(assets, sort=False)
    if len(unknown):
        raise unknown_names("asset in views", unknown, assets)
    names = views.picks.index
    picks = np.zeros((len(names), len(assets)))
    picks[:, assets.get_indexer(views.picks.columns)] = numbers(views.picks, f"{who}: picks")
    bad = np.asarray(~np.isfinite(picks)).max(axis=1)
    empty = np.flatnonzero(np.abs(picks).max(axis=1) == 0)
    if bad.any():
        raise InputError(f"{who}: picks is not finite for {some(names[bad])}")
    if len(empty):
        raise InputError(f"{who}: picks is zero throughout for {some(names[empty])}; leave that view out")
    confidence = np.full(len(names), np.nan)
    if views.confidence is not None:
        confidence = per_asset(views.confidence, names, what="confidence")
        for name, value in zip(names, confidence, strict=True):
            checked_confidence(value, f"view {name!r}: confidence")
    return Stated(names.rename(names.name or "view"), picks, align(views.values, names, what="values"), confidence)


def _leg(basket: Basket, places: Mapping[Hashable, int], what: str) -> FloatArray:
    """Weights (N,) of one side of a view, which sum to one."""
    if isinstance(basket, Mapping | pd.Series):
        series = basket if isinstance(basket, pd.Series) else pd.Series(dict(basket), dtype=object)
        labels, weights = series.index, numbers(series, what)
    else:
        whole = isinstance(basket, str) or not isinstance(basket, Iterable)
        labels = pd.Index([basket] if whole else list(basket), dtype=object)
        weights = np.full(len(labels), 1.0 / max(len(labels), 1))
    unknown = [label for label in labels if label not in places]
    if unknown:
        raise unknown_names(f"asset in {what}", unknown, places)
    if not len(labels) or labels.has_duplicates:
        raise InputError(f"{what} names no asset, or one of them twice")
    if not np.isfinite(weights).all() or abs(weights.sum() - 1.0) > 1e-6:
        raise InputError(f"{what}: the weights of the basket sum to {weights.sum():g}, and have to sum to one")
    row = np.zeros(len(places))
    row[[places[label] for label in labels]] = weights
    return row


def _called(basket: Basket) -> str:
    labels = [basket] if isinstance(basket, str) or not isinstance(basket, Iterable) else None
    if labels is None:
        labels = list(basket.index) if isinstance(basket, pd.Series) else list(basket)
    return " + ".join(map(str, labels)) if len(labels) <= 3 else f"{labels[0]} + {len(labels) - 1} more"


def unused_names(names: list[str], taken: set[object]) -> list[str]:
    """Names with a number where they occur before."""
    fresh: list[str] = []
    for name in names:
        candidate, count = name, 2
        while candidate in taken:
            candidate, count = f"{name} ({count})", count + 1
        taken.add(candidate)
        fresh.append(candidate)
    return fresh


def error_covariance(omega: Omega | None, stated: Stated, v: FloatArray) -> FloatArray:
    """Covariance of the errors of the views (V, V), with infinite variances for views that say nothing."""
    names = stated.names
    if omega is None:
        return np.diag(uncertainties(v, np.where(np.isnan(stated.confidence), 0.5, stated.confidence)))
    if not np.isnan(stated.confidence).all():
        raise InputError(
            f"omega was given, and a confidence for {some(names[~np.isnan(stated.confidence)])}; they say the same "
            "thing, so give one of them"
        )
    if not isinstance(omega, pd.DataFrame):
        return np.diag(_variances(omega, names))
    unknown = omega.index.union(omega.columns, sort=False).difference(names, sort=False)
    if len(unknown):
        raise unknown_names("view in omega", unknown, names)
    matrix = square(omega.reindex(index=names, columns=names), "omega")
    if np.abs(matrix - matrix.T).max(initial=0.0) > 1e-8 * np.abs(matrix).max(initial=0.0):
        raise InputError("omega is not symmetric; pass (omega + omega.T) / 2 if that is what is meant")
    lowest = np.linalg.eigvalsh(matrix)[:1]
    if (lowest < -1e-8 * np.abs(matrix).max(initial=0.0)).any():
        raise InputError("omega is not positive semidefinite; see portfolioopt.estimate.nearest_covariance")
    return matrix


def _variances(omega: pd.Series | Mapping[str, float], names: pd.Index) -> FloatArray:
    """Variances of the errors of views by name (V,)."""
    if not isinstance(omega, pd.Series | Mapping):
        raise InputError(f"omega must be variances by view or a frame, was {type(omega).__name__}")
    index = omega.index if isinstance(omega, pd.Series) else pd.Index(list(omega))
    unknown = index.difference(names, sort=False)
    if len(unknown):
        raise unknown_names("view in omega", unknown, names)
    values = align(omega, names, what="omega", infinite=True)
    if (values < 0).any():
        raise InputError(f"omega is negative for {some(names[values < 0])}; it holds variances")
    return values


def uncertainties(v: FloatArray, confidence: FloatArray) -> FloatArray:
    """Idzorek's identity for views whose portfolios have the prior variances v (V,)."""
    says = confidence > 0
    return np.where(says, v * (1.0 - confidence) / np.where(says, confidence, 1.0), np.inf)


def confidences(v: FloatArray, uncertainty: FloatArray) -> FloatArray:
    """Its inverse."""
    finite, total = np.isfinite(uncertainty), v + np.where(np.isfinite(uncertainty), uncertainty, 0.0)
    share = np.divide(v, total, out=np.ones_like(v), where=total > 0)
    return np.where(finite, share, 0.0)


def checked_confidence(value: float, what: str) -> float:
    """A number from 0 to 1."""
    number = checked_number(value, what, least=0.0)
    if number > 1.0:
        raise InputError(f"{what} must lie between 0 (says nothing) and 1 (certain), was {number:g}")
    return number

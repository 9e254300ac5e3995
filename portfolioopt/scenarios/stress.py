"""Portfolios under stresses, and scenario sets with stresses among their scenarios."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError, unknown_names
from portfolioopt.labels import FloatArray, align, numbers, some

from .scenario_set import ScenarioSet
from .shocks import Stress


@dataclass(frozen=True, eq=False)
class StressTest:
    """Losses of portfolios under stresses, as fractions of NAV; positive is bad."""

    losses: pd.DataFrame
    """Stresses x portfolios."""
    by_asset: pd.DataFrame
    """(stress, portfolio) x assets: contributions, :math:`-w_i r_i`, that sum to the loss."""
    by_factor: pd.DataFrame | None
    """(stress, portfolio) x factors and ``"specific"``: :math:`-(B'w)_k f_k` and what is left, that sum to the loss;
    for the stresses that have a factor model, None where none has."""


def stress_test(
    weights: pd.Series | Mapping[str, float] | pd.DataFrame,
    stresses: Sequence[Stress] | Mapping[str, pd.Series | Mapping[str, float]] | pd.DataFrame,
) -> StressTest:
    """Losses of one or many portfolios under stresses, and what they come from.

    Parameters
    ----------
    weights
        By asset, as fractions of NAV; a frame of portfolios x assets for many. Assets that a stress does not know are
        refused; assets without a weight have none.
    stresses
        Stresses, or returns by asset under them: by name, or as a frame of stresses x assets.

    Returns
    -------
    StressTest
        Losses, and contributions by asset and by factor that sum to them.

    Raises
    ------
    InputError
        For weights and returns that are not finite, no stresses, and names that occur twice.
    UnknownNameError
        For assets that a stress says nothing about.
    """
    frame = _portfolios(weights)
    known = _named_stresses(stresses)
    losses, by_asset, by_factor = {}, {}, {}
    for name, stress in known.items():
        unknown = [asset for asset in frame.columns if asset not in stress.returns.index]
        if unknown:
            raise unknown_names(f"asset in stress {name!r}", unknown, stress.returns.index)
        held = frame.to_numpy()
        returns = stress.returns.reindex(frame.columns).to_numpy(dtype=np.float64)
        if not np.isfinite(returns).all():
            raise InputError(f"stress {name!r} is not finite for {some(frame.columns[~np.isfinite(returns)])}")
        losses[name] = -held @ returns
        by_asset[name] = pd.DataFrame(-held * returns, frame.index, frame.columns)
        if stress.factors is not None and stress.exposures is not None:
            loadings = stress.exposures.reindex(frame.columns).to_numpy()
            moves = stress.factors.to_numpy()
            own = returns - loadings @ moves
            own[np.abs(own) <= 1e-14 * np.abs(returns).max()] = 0.0  # rounding
            parts = pd.DataFrame(-(held @ loadings) * moves, frame.index, stress.factors.index)
            by_factor[name] = parts.assign(specific=0.0 - held @ own)
    levels = ["stress", "portfolio"]
    factors = list(dict.fromkeys(factor for part in by_factor.values() for factor in part.columns[:-1]))
    split = pd.concat(by_factor, names=levels)[[*factors, "specific"]].fillna(0.0) if by_factor else None
    return StressTest(
        losses=pd.DataFrame(losses, index=frame.index).T.rename_axis(index="stress", columns="portfolio"),
        by_asset=pd.concat(by_asset, names=levels),
        by_factor=split,
    )


def with_stress(
    scenarios: ScenarioSet,
    stresses: Sequence[Stress] | Mapping[str, pd.Series | Mapping[str, float]] | pd.DataFrame,
    probability: float | Mapping[str, float] | pd.Series,
) -> ScenarioSet:
    """The scenarios with one more for each stress, labelled by its name.

    Parameters
    ----------
    scenarios
        S x N, in memory.
    stresses
        As for :func:`stress_test`; returns of every asset of the scenarios.
    probability
        Of all stresses together, in equal parts, or of each by name; in [0, 1) together. The probabilities of the
        scenarios there were shrink by what that takes.

    Returns
    -------
    ScenarioSet
        (S + stresses) x N.

    Raises
    ------
    InputError
        For probabilities that are none, stresses that lack assets or have a label that a scenario already has, and
        scenarios that are not in memory.
    """
    known = _named_stresses(stresses)
    names = pd.Index(list(known))
    taken = names.intersection(scenarios.index)
    if len(taken):
        raise InputError(f"scenarios are already called {some(taken)}; give the stresses other names")
    if isinstance(probability, Mapping | pd.Series):
        each = align(probability, names, what="probability")
    else:
        try:
            each = np.full(len(names), float(probability) / len(names))
        except (TypeError, ValueError) as error:
            raise InputError(f"probability must be a number, or by stress, was {probability!r}") from error
    total = float(each.sum())
    if not (each >= 0.0).all() or not total < 1.0:
        raise InputError(f"probability must not be negative and sum to less than 1, and sums to {total:g}")
    rows = np.stack([_whole(stress, scenarios.assets, name) for name, stress in known.items()])
    index = pd.Index([*scenarios.index, *names], dtype=object, name=scenarios.index.name or "scenario")
    frame = pd.DataFrame(np.vstack([scenarios.matrix, rows]), index=index, columns=scenarios.assets)
    probabilities = np.concatenate([(1.0 - total) * scenarios.probabilities, each])
    return ScenarioSet(frame, probabilities, horizon=scenarios.horizon)


def _whole(stress: Stress, assets: pd.Index, name: Hashable) -> FloatArray:
    missing = assets.difference(stress.returns.index, sort=False)
    if len(missing):
        raise InputError(f"stress {name!r} says nothing about {some(missing)}; give every asset a return")
    return stress.returns.reindex(assets).to_numpy(dtype=np.float64)


def _named_stresses(stresses: Any) -> dict[str, Stress]:
    if isinstance(stresses, pd.DataFrame):
        if stresses.index.has_duplicates:
            raise InputError(f"stresses occur twice: {some(stresses.index[stresses.index.duplicated()].unique())}")
        known = {str(name): Stress(str(name), row) for name, row in stresses.iterrows()}
    elif isinstance(stresses, Mapping):
        known = {}
        for name, returns in stresses.items():
            if not isinstance(returns, pd.Series | Mapping):
                raise InputError(f"stress {name!r} must be returns by asset, was {type(returns).__name__}")
            series = returns if isinstance(returns, pd.Series) else pd.Series(dict(returns), dtype=object)
            known[str(name)] = Stress(str(name), pd.Series(numbers(series, f"stress {name!r}"), series.index))
    else:
        given = [stresses] if isinstance(stresses, Stress) else list(stresses)
        wrong = [type(stress).__name__ for stress in given if not isinstance(stress, Stress)]
        if wrong:
            raise InputError(f"stresses must be of class Stress, or returns by name, was {wrong[0]}")
        known = {stress.name: stress for stress in given}
        if len(known) < len(given):
            raise InputError("two stresses have the same name; pass name= where they are made")
    if not known:
        raise InputError("there are no stresses; pass at least one")
    for name, stress in known.items():
        if stress.returns.index.has_duplicates:
            raise InputError(f"stress {name!r} has assets twice")
    return known


def _portfolios(weights: pd.Series | Mapping[str, float] | pd.DataFrame) -> pd.DataFrame:
    if isinstance(weights, pd.DataFrame):
        frame = weights
    elif isinstance(weights, pd.Series | Mapping):
        series = weights if isinstance(weights, pd.Series) else pd.Series(dict(weights), dtype=object)
        frame = series.to_frame("portfolio").T
    else:
        raise InputError(f"weights must be by asset, or a frame of portfolios x assets, was {type(weights).__name__}")
    for what, labels in (("assets", frame.columns), ("portfolios", frame.index)):
        if labels.has_duplicates:
            raise InputError(f"weights has {what} twice: {some(labels[labels.duplicated()].unique())}")
    if frame.empty:
        raise InputError("weights is empty; pass at least one portfolio with one asset")
    values = numbers(frame, "weights")
    if not np.isfinite(values).all():
        raise InputError(f"weights is not finite for {some(frame.columns[np.any(~np.isfinite(values), axis=0)])}")
    return pd.DataFrame(values, frame.index, frame.columns)

r"""Mixtures: scenarios of several sets, or of several regimes of one history, with probabilities of their own.

.. math:: P(r) = \sum_m \pi_m P_m(r), \qquad \pi_m \ge 0, \quad \sum_m \pi_m = 1 .
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError, unknown_names
from portfolioopt.labels import FloatArray, align, numbers, some

from .historical import historical
from .scenario_set import ScenarioSet, whole_number

_ROWS = 2.0  # effective rows that a regime needs for a covariance


def mixture(sets: Mapping[str, ScenarioSet], weights: pd.Series | Mapping[str, float]) -> ScenarioSet:
    r"""All scenarios of several sets, those of set m with the probabilities :math:`\pi_m p^{(m)}_s`.

    Parameters
    ----------
    sets
        Scenario sets by name, in memory, of the same assets in any order and of the same horizon.
    weights
        :math:`\pi`, probability of each set by name, summing to one. Sets of weight zero are left out.

    Returns
    -------
    ScenarioSet
        Scenarios of all sets in turn, labelled by set and scenario; assets in the order of the first.

    Raises
    ------
    InputError
        For other names in `weights` than in `sets`, weights that are no probabilities, and sets that differ in assets
        or horizon.
    """
    if not isinstance(sets, Mapping) or not sets or not all(isinstance(part, ScenarioSet) for part in sets.values()):
        raise InputError("mixture takes scenario sets by name, such as {'calm': ..., 'crisis': ...}, at least one")
    names = pd.Index(list(sets), name="set")
    shares = _shares(weights, names)
    assets = next(iter(sets.values())).assets
    horizons = {part.horizon for part in sets.values()}
    if len(horizons) > 1:
        raise InputError(
            f"the sets span different horizons: {', '.join(sorted(map(repr, horizons)))}; bring them to the same one"
        )
    kept = [(name, share) for name, share in zip(names, shares, strict=True) if share > 0.0]
    for name in names:
        other = sets[name].assets
        unknown = other.difference(assets, sort=False)
        if len(unknown):
            raise unknown_names(f"asset in {name!r}", unknown, assets)
        missing = assets.difference(other, sort=False)
        if len(missing):
            raise InputError(f"set {name!r} has no returns for {some(missing)}; leave them out of all sets")
    returns = np.concatenate([sets[name].matrix[:, sets[name].assets.get_indexer(assets)] for name, _ in kept])
    index = pd.MultiIndex.from_tuples(
        [(name, label) for name, _ in kept for label in sets[name].index], names=["set", "scenario"]
    )
    probabilities = np.concatenate([share * sets[name].probabilities for name, share in kept])
    return ScenarioSet(pd.DataFrame(returns, index, assets), probabilities, horizon=horizons.pop())


def regime_mixture(
    returns: pd.DataFrame,
    regimes: pd.Series | pd.DataFrame,
    weights: pd.Series | Mapping[str, float],
    *,
    n_scenarios: int | None = None,
    seed: int | None = None,
    law: Literal["historical", "gaussian"] = "historical",
) -> ScenarioSet:
    r"""Scenarios for a next period whose regime is known by its probabilities only.

    With the probability :math:`\gamma_{tm}` that row t was in regime m, the law of regime m is that of the rows weighed
    by :math:`\gamma_{tm} / \sum_t \gamma_{tm}`: those rows themselves (``"historical"``), or a normal distribution of
    the same mean and covariance (``"gaussian"``).

    Parameters
    ----------
    returns
        Simple returns per period as fractions (T x N), in order of time.
    regimes
        Regime of each row (T,), or its probabilities by row and regime (T x M), non-negative and summing to one by row;
        labelled like `returns`. For scenarios without look-ahead they must be filtered, not smoothed.
    weights
        :math:`\pi`, probability of each regime in the next period.
    n_scenarios
        Number S of scenarios to draw, at least 2. Where None, and for ``"historical"`` only, all rows of the history
        are scenarios with the probabilities :math:`\sum_m \pi_m \gamma_{tm} / \sum_u \gamma_{um}`: the mixture itself,
        without the noise of a draw.
    seed
        Non-negative whole number; needed with `n_scenarios`.
    law
        ``"historical"`` or ``"gaussian"``.

    Returns
    -------
    ScenarioSet
        The history reweighted; or S x N drawn scenarios, equally likely, numbered from 0.

    Raises
    ------
    InputError
        For labels that do not match, what is no probability, regimes that have weight and no rows, and for normal laws
        regimes of fewer than two effective rows.
    """
    history = historical(returns)
    if law not in ("historical", "gaussian"):
        raise InputError(f"law must be 'historical' or 'gaussian', was {law!r}")
    states = _probabilities(regimes, returns.index)
    names = states.columns
    shares = _shares(weights, names)
    gamma = states.to_numpy()
    total = gamma.sum(axis=0)
    empty = (shares > 0.0) & (total <= 0.0)
    if empty.any():
        raise InputError(
            f"{some(names[empty])} has weight, but no row of the history is in it; leave it out, or take a longer "
            "history"
        )
    gamma = np.divide(gamma, total, out=np.zeros_like(gamma), where=total > 0.0)
    if n_scenarios is None:
        if law != "historical":
            raise InputError(
                "a normal law has no scenarios of its own; say how many to draw by n_scenarios=, and a seed"
            )
        return history.reweighted(gamma @ shares)
    count = whole_number(n_scenarios, "n_scenarios", least=2)
    generator = np.random.Generator(np.random.PCG64(whole_number(-1 if seed is None else seed, "seed", least=0)))
    matrix = np.asarray(history.matrix, dtype=np.float64)
    if law == "historical":
        drawn = matrix[generator.choice(len(matrix), count, p=gamma @ shares)]
    else:
        drawn = _gaussian(generator, matrix, gamma, shares, names, count)
    index = pd.RangeIndex(count, name="scenario")
    return ScenarioSet(pd.DataFrame(drawn, index, history.assets), horizon=history.horizon)


def _gaussian(
    generator: np.random.Generator,
    matrix: FloatArray,
    gamma: FloatArray,
    shares: FloatArray,
    names: pd.Index,
    count: int,
) -> FloatArray:
    """Draws (S, N) from the mixture of normal laws with the regimes' means and covariances."""
    effective = 1.0 / np.maximum((gamma**2).sum(axis=0), 1e-300)
    few = (shares > 0.0) & (effective < _ROWS)
    if few.any():
        raise InputError(
            f"{some(names[few])} has fewer than two effective rows, which gives no covariance; take law='historical', "
            "or a longer history"
        )
    regime = generator.choice(len(shares), count, p=shares)
    drawn = generator.standard_normal((count, matrix.shape[1]))
    for m in np.unique(regime):
        mean = gamma[:, m] @ matrix
        centred = matrix - mean
        values, vectors = np.linalg.eigh((centred * gamma[:, m, None]).T @ centred)
        root = np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T
        here = regime == m
        drawn[here] = mean + drawn[here] @ root
    return drawn


def _probabilities(regimes: pd.Series | pd.DataFrame, index: pd.Index) -> pd.DataFrame:
    """Probabilities by row and regime (T x M)."""
    if not isinstance(regimes, pd.Series | pd.DataFrame):
        raise InputError(f"regimes must be a Series or frame by row of returns, was {type(regimes).__name__}")
    if not regimes.index.equals(index):
        raise InputError("regimes is labelled differently from the rows of returns; use regimes.reindex(returns.index)")
    if isinstance(regimes, pd.Series):
        if regimes.isna().any():
            raise InputError(f"regimes is missing for {some(index[regimes.isna()])}")
        found = pd.Index(regimes.unique())
        return pd.DataFrame(regimes.to_numpy()[:, None] == found.to_numpy(), index, found).astype(np.float64)
    if regimes.columns.has_duplicates:
        raise InputError(
            f"regimes has duplicate columns: {some(regimes.columns[regimes.columns.duplicated()].unique())}"
        )
    values = numbers(regimes, "regimes")
    bad = ~(np.isfinite(values).all(axis=1) & (values >= 0.0).all(axis=1) & (np.abs(values.sum(axis=1) - 1.0) <= 1e-6))
    if bad.any():
        raise InputError(f"the probabilities of regimes are not non-negative and summing to one for {some(index[bad])}")
    return pd.DataFrame(values, index, regimes.columns)


def _shares(weights: pd.Series | Mapping[str, float], names: pd.Index) -> FloatArray:
    """Probabilities in the order of the names."""
    if not isinstance(weights, pd.Series | Mapping):
        raise InputError(f"weights must be a Series or mapping from name to probability, was {type(weights).__name__}")
    unknown = pd.Index(list(weights.keys())).difference(names, sort=False)
    if len(unknown):
        raise unknown_names("name in weights", unknown, names)
    shares = align(weights, names, what="weights")
    if (shares < 0.0).any():
        raise InputError(f"weights is negative for {some(names[shares < 0.0])}")
    if abs(shares.sum() - 1.0) > 1e-9:
        raise InputError(f"weights sum to {shares.sum():.12g}, not to one; divide them by their sum if that is meant")
    return shares / shares.sum()

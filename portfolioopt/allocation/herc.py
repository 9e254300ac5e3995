"""Hierarchical equal risk contribution."""

from __future__ import annotations

import time
from typing import Literal

import numpy as np
import pandas as pd

from portfolioopt.blas import quiet_blas
from portfolioopt.labels import FloatArray, PerAsset
from portfolioopt.scenarios import ScenarioSet
from portfolioopt.solve import Result

from .clustering import (
    Covariance,
    Distance,
    Hierarchy,
    IntArray,
    LeafOrder,
    Linkage,
    cluster_count,
    hierarchy,
    universe,
)
from .hrp import Risk, Splits, alone, checked_bounds
from .rule import by_rule, largest


@quiet_blas.hold()  # its threads gain little here, and wait for each other by spinning
def herc(
    returns: pd.DataFrame | ScenarioSet,
    *,
    covariance: Covariance | None = None,
    clusters: int | Literal["gap", "silhouette"] = "gap",
    max_clusters: int | None = None,
    linkage: Linkage = "ward",
    distance: Distance = "correlation",
    leaf_order: LeafOrder = "merges",
    risk: Risk = "variance",
    beta: float = 0.95,
    bounds: tuple[PerAsset, PerAsset] = (0.0, 1.0),
) -> Result:
    r"""Hierarchical equal risk contribution: clusters share by risk down the tree, their assets by their own risks.

    1. A tree is built on :math:`d_{ij} = \sqrt{(1 - \rho_{ij}) / 2}` and cut into clusters.
    2. From the root down to the clusters, the sides L and R of every merge share its weight as
       :math:`w_L : w_R = 1/\rho(L) : 1/\rho(R)`. The risk of a side is the sum of those of its clusters, and the risk
       of a cluster that of its assets held as in 3.
    3. Within a cluster weights are in inverse proportion to the risk of each asset, :math:`w_i \propto 1/\rho_i`.

    Raffinot (2018), "The hierarchical equal risk contribution portfolio", SSRN 3237540. There the number of clusters is
    chosen by the gap statistic of Tibshirani, Walther & Hastie (2001), which draws random references; here by a
    second difference that needs none, or the silhouette. skfolio and Riskfolio-Lib choose by other variants of that
    difference, from means or deviations of the distances within clusters, so compare at the same number of clusters:
    weights are then the same. With one cluster this is naive risk parity, and with as many as assets every merge of the
    tree is a split.

    Parameters
    ----------
    returns, covariance, linkage, distance, leaf_order, risk, beta
        As for :func:`hrp`; by default trees are by Ward's method on the correlation distance, which is Euclidean, as
        that method asks.
    clusters
        How many, or what chooses the number: ``"gap"`` or ``"silhouette"``.
    max_clusters
        The largest number to choose from; the larger of 8 and the root of N where None.
    bounds
        Lower and upper limits of weights: numbers, or Series or mappings by asset. A side takes the weight nearest to
        its share with which both sides can keep within theirs; within a cluster, the assets that no limit holds stay
        in proportion.

    Returns
    -------
    Result
        Fully invested and long only. Certified by the largest deviation of a side, or of an asset within its cluster,
        from its share, relative to the weight that is shared. `details` has ``order``, ``dendrogram``, ``clusters``
        (number by asset, from 1), and ``choice`` (what was largest at the number chosen, None where it was given).

    Raises
    ------
    InputError
        As :func:`hrp` does, and for more clusters than assets.
    """
    start, who = time.perf_counter(), "herc"
    assets = universe(returns, covariance, who)
    lower, upper, limits = checked_bounds(bounds, assets, who)
    tree = hierarchy(assets, linkage=linkage, distance=distance, leaf_order=leaf_order, who=who)
    count, choice = cluster_count(tree, clusters, max_clusters, who)
    cluster = tree.cut(count)
    leaves = tree.leaves
    first = np.flatnonzero(np.diff(cluster[leaves], prepend=-1))
    groups = alone(assets, leaves, risk, beta, who)
    splits = above(tree, count)
    risks = splits.sums(groups.merged(first).risks())
    lower, upper, inverse = lower[leaves], upper[leaves], groups.inverse
    lows, highs = np.add.reduceat(lower, first), np.add.reduceat(upper, first)
    where = assets.place[leaves]
    ends = np.append(first[1:], len(leaves))
    parts = [slice(a, b) for a, b in zip(first, ends, strict=True)]

    def deviation(found: FloatArray) -> float:
        along = found[where]
        totals = np.add.reduceat(along, first)
        inside = [
            disproportion(along[part], inverse[part], lower[part], upper[part]) / total
            for total, part in zip(totals, parts, strict=True)
            if total != 0.0
        ]
        return max(*inside, splits.deviation(totals, risks, lows, highs))

    totals = splits.shared(risks, lows, highs, who)
    shares = [proportional(t, inverse[p], lower[p], upper[p]) for t, p in zip(totals, parts, strict=True)]
    weights = np.empty(len(leaves))
    weights[where] = np.concatenate(shares)
    return by_rule(
        assets.scenarios,
        "hierarchical equal risk contribution",
        weights,
        deviation,
        start=start,
        constraints=limits,
        details=tree.details() | {"clusters": tree.labelled(cluster), "choice": choice},
    )


def above(tree: Hierarchy, count: int) -> Splits:
    """The splits from the root of a tree down to its clusters, which are the single ones."""
    n = len(tree.leaves)
    nodes, levels = np.array([2 * n - 2]), []
    undone = 2 * n - count  # the first node that is split
    while (nodes >= undone).any():
        two = nodes >= undone
        parts = np.where(two, 2, 1)
        first: IntArray = np.cumsum(parts) - parts
        finer = np.repeat(nodes, parts)
        children = tree.merges[nodes[two] - n, :2].astype(np.intp)
        finer[first[two]], finer[first[two] + 1] = children.T
        levels.append(first)
        nodes = finer
    return Splits(tuple(levels))


def proportional(total: float, parts: FloatArray, lower: FloatArray, upper: FloatArray) -> FloatArray:
    r"""Weights (n,) with a given sum, :math:`w_i = \min(\max(\lambda p_i, l_i), u_i)`; all parts are positive.

    The sum grows with :math:`\lambda` along a broken line, so the piece with the total is found by bisection among the
    kinks, and :math:`\lambda` from the assets that no limit holds there.
    """
    weights = total * (parts / parts.sum())
    if ((weights >= lower) & (weights <= upper)).all():
        return weights
    kinks = np.unique(np.concatenate([lower / parts, upper / parts]))
    kinks = kinks[np.isfinite(kinks)]
    low, high = 0, len(kinks)
    while low < high:
        middle = (low + high) // 2
        if np.clip(kinks[middle] * parts, lower, upper).sum() < total:
            low = middle + 1
        else:
            high = middle
    below = kinks[low - 1] if low else 0.0
    beyond = kinks[low] if low < len(kinks) else np.inf
    free = (lower / parts <= below) & (upper / parts >= beyond)
    held = np.clip(below * parts, lower, upper)
    if free.any():
        held[free] = parts[free] * (max(total - held[~free].sum(), 0.0) / parts[free].sum())
    return np.clip(held, lower, upper)


def disproportion(weights: FloatArray, parts: FloatArray, lower: FloatArray, upper: FloatArray) -> float:
    r"""How far weights are from :math:`\min(\max(\lambda p_i, l_i), u_i)`, with the level of those no limit holds."""
    free = (weights > lower) & (weights < upper)
    if free.any():
        level = weights[free].sum() / parts[free].sum()
    else:  # any level between those at which the limits take hold
        full = weights >= upper
        level = float((upper / parts)[full].max()) if full.any() else float((lower / parts).min())
    return largest(np.clip(level * parts, lower, upper) - weights)

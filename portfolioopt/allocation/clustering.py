r"""Trees of assets: distances from correlations, who joins whom, the order of the leaves, and where to cut."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from portfolioopt.errors import InputError, unknown_names
from portfolioopt.estimate import FactorCovariance, square
from portfolioopt.estimate.checks import checked_count
from portfolioopt.labels import FloatArray, some
from portfolioopt.scenarios import ScenarioSet

from .rule import scenarios_of_returns, variances_above_zero

IntArray: TypeAlias = npt.NDArray[np.intp]
Linkage: TypeAlias = Literal["single", "complete", "average", "weighted", "ward"]
Distance: TypeAlias = Literal["rows", "correlation"]
LeafOrder: TypeAlias = Literal["merges", "optimal"]
Covariance: TypeAlias = pd.DataFrame | FactorCovariance

_DECIMALS = 12  # to which correlations and distances are compared, so that rounding does not decide between ties


@dataclass(frozen=True, eq=False)
class Universe:
    """Assets in the order of their labels, which is what breaks ties, with their covariance."""

    scenarios: ScenarioSet
    place: IntArray
    """Where each asset stands among those of the scenarios (N,)."""
    covariance: FloatArray
    """(N, N), in the order of the labels like all that follows."""
    variances: FloatArray
    """Its diagonal (N,), positive."""

    @property
    def assets(self) -> pd.Index:
        """Labels in order (N,)."""
        return self.scenarios.assets[self.place]

    def correlation(self) -> FloatArray:
        """(N, N), between -1 and 1, ones on the diagonal."""
        scale = 1.0 / np.sqrt(self.variances)
        correlation = np.clip(self.covariance * (scale[:, None] * scale), -1.0, 1.0)
        np.fill_diagonal(correlation, 1.0)
        return correlation


def universe(returns: pd.DataFrame | ScenarioSet, covariance: Covariance | None, who: str) -> Universe:
    """Assets, scenarios and covariance of a call; the sample covariance under the probabilities where none is given.

    Columns are put in the order of their labels before anything is computed, so that another order of the columns
    gives the same numbers to the last bit.
    """
    if isinstance(returns, ScenarioSet) and returns.form is not None:
        scenarios = returns
    else:
        scenarios = scenarios_of_returns(returns, who)
    if scenarios.n_assets < 2:
        raise InputError(f"{who} needs at least two assets, and there is only {some(scenarios.assets)}")
    place = _by_label(scenarios.assets)
    assets = scenarios.assets[place]
    if covariance is not None:
        matrix = _given(covariance, assets, who)
    elif scenarios.form is not None:
        root = scenarios.form.root[place]
        matrix = root @ root.T + np.diag(scenarios.form.diagonal[place])
    else:
        matrix = _sample(scenarios, place)
    variances = variances_above_zero(np.diag(matrix), assets, who)
    return Universe(scenarios, place, matrix, variances)


def _by_label(labels: pd.Index) -> IntArray:
    """Positions of the labels in increasing order; by type and text where they cannot be compared."""
    names = labels.tolist()
    try:
        order = sorted(range(len(names)), key=names.__getitem__)
    except TypeError:
        order = sorted(range(len(names)), key=lambda i: (type(names[i]).__name__, str(names[i])))
    return np.array(order, dtype=np.intp)


def _sample(scenarios: ScenarioSet, place: IntArray) -> FloatArray:
    """Covariance under the probabilities (N, N), of columns in the given order."""
    probabilities = scenarios.probabilities
    mean, total = np.zeros(len(place)), np.zeros((len(place), len(place)))
    for part, rows in scenarios.source.blocks():
        mean += probabilities[part] @ np.ascontiguousarray(rows[:, place])
    for part, rows in scenarios.source.blocks():
        centred = (rows[:, place] - mean) * np.sqrt(probabilities[part, None])
        total += centred.T @ centred
    return total


def _given(covariance: Covariance, assets: pd.Index, who: str) -> FloatArray:
    """A covariance that was passed, in the order of `assets`."""
    if not isinstance(covariance, pd.DataFrame | FactorCovariance):
        raise InputError(
            f"{who}: covariance must be a frame by asset or a FactorCovariance, was {type(covariance).__name__}"
        )
    labels = covariance.assets if isinstance(covariance, FactorCovariance) else covariance.index
    if labels.has_duplicates:
        raise InputError(f"{who}: the covariance has duplicate assets: {some(labels[labels.duplicated()].unique())}")
    missing = assets.difference(labels, sort=False)
    if len(missing):
        raise InputError(f"{who}: the covariance says nothing about {some(missing)}")
    if isinstance(covariance, FactorCovariance):
        loadings = covariance.exposures.loc[assets].to_numpy() @ covariance.root
        return loadings @ loadings.T + np.diag(covariance.idiosyncratic.loc[assets].to_numpy(dtype=np.float64))
    square(covariance, who)
    frame = covariance.loc[assets, assets]
    matrix = square(frame, who)
    size = float(np.abs(matrix).sum(axis=1).max())  # no eigenvalue is larger
    symmetric = np.abs(matrix - matrix.T).max() <= 1e-8 * float(np.abs(matrix).max())
    try:
        np.linalg.cholesky(0.5 * (matrix + matrix.T) + 1e-9 * size * np.eye(len(matrix)))
        definite = True
    except np.linalg.LinAlgError:
        definite = False
    if not (symmetric and definite):
        from portfolioopt.estimate.factored import root

        root(frame, who)  # says what is wrong with it
    return 0.5 * (matrix + matrix.T)


# -- trees -----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class Hierarchy:
    """A binary tree whose leaves are assets, numbered in the order of their labels."""

    universe: Universe
    merges: FloatArray
    """Per merge the two nodes, their distance, and how many assets they hold (N - 1, 4); node N + j is merge j."""
    distances: FloatArray
    """What the tree was built on (N, N)."""
    leaves: IntArray
    """The leaves from left to right (N,)."""

    def order(self) -> pd.Series:
        """Place of each asset along the leaves, from 0; in that order."""
        assets = self.universe.assets[self.leaves]
        return pd.Series(np.arange(len(assets)), index=assets, name="place")

    def dendrogram(self) -> pd.DataFrame:
        """The merges as SciPy numbers them, for assets in the order of the scenarios: left, right, distance, size."""
        nodes = np.concatenate([self.universe.place, np.arange(len(self.leaves), 2 * len(self.leaves) - 1)])
        left, right = (nodes[self.merges[:, side].astype(np.intp)] for side in (0, 1))
        return pd.DataFrame(
            {"left": left, "right": right, "distance": self.merges[:, 2], "size": self.merges[:, 3].astype(np.intp)},
            index=pd.RangeIndex(len(self.leaves), 2 * len(self.leaves) - 1, name="node"),
        )

    def cut(self, count: int) -> IntArray:
        """Cluster of each leaf (N,), numbered from 0 from left to right: the last ``count - 1`` merges are undone."""
        n = len(self.leaves)
        cluster = np.full(2 * n - 1, -1)
        found = 0
        for node in range(2 * n - 2, n - 1, -1):
            if node <= 2 * n - 1 - count and cluster[node] < 0:
                cluster[node], found = found, found + 1
            children = self.merges[node - n, :2].astype(np.intp)
            cluster[children] = cluster[node]
        alone = np.flatnonzero(cluster[:n] < 0)
        cluster[alone] = found + np.arange(len(alone))
        along = cluster[self.leaves]
        _, first = np.unique(along, return_index=True)
        number = np.empty(count, dtype=np.intp)
        number[along[np.sort(first)]] = np.arange(count)
        return number[cluster[:n]]

    def labelled(self, cluster: IntArray) -> pd.Series:
        """Cluster of each asset, numbered from 1, in the order of the scenarios."""
        numbers = np.empty(len(cluster), dtype=np.intp)
        numbers[self.universe.place] = cluster + 1
        return pd.Series(numbers, index=self.universe.scenarios.assets, name="cluster")

    def details(self) -> dict[str, Any]:
        """What a result says about the tree."""
        return {"order": self.order(), "dendrogram": self.dendrogram()}


def hierarchy(
    assets: Universe, *, linkage: Linkage, distance: Distance, leaf_order: LeafOrder = "merges", who: str
) -> Hierarchy:
    r"""The tree of assets by their correlations.

    The correlation distance is :math:`d_{ij} = \sqrt{(1 - \rho_{ij}) / 2}`, up to a factor the Euclidean distance of
    standardised returns. Trees are built on it, or on the Euclidean distance of its rows,
    :math:`\tilde d_{ij} = \sqrt{\sum_k (d_{ki} - d_{kj})^2}`. Of two nodes that merge, the older one is left; the order
    of the labels decides between leaves, and between distances that tie.
    """
    for value, known, what in (
        (linkage, Linkage, "linkage"),
        (distance, Distance, "distance"),
        (leaf_order, LeafOrder, "leaf order"),
    ):
        one_of(value, known, what, who)
    from scipy.cluster.hierarchy import leaves_list, optimal_leaf_ordering
    from scipy.cluster.hierarchy import linkage as linked
    from scipy.spatial.distance import pdist, squareform

    distances = np.sqrt(0.5 * (1.0 - np.round(assets.correlation(), _DECIMALS)))
    if distance == "rows":
        condensed = np.round(pdist(distances), _DECIMALS)
        distances = squareform(condensed, checks=False)
    else:
        condensed = squareform(distances, checks=False)
    merges = linked(condensed, linkage)
    if leaf_order == "optimal":
        merges = optimal_leaf_ordering(merges, condensed)
    return Hierarchy(assets, merges, distances, leaves_list(merges).astype(np.intp))


def one_of(value: object, known: Any, what: str, who: str) -> None:
    """Refuse a word that is not among those of a literal type."""
    if value not in get_args(known):
        raise unknown_names(f"{what} of {who}", [value], get_args(known))


# -- how many clusters -----------------------------------------------------------------------------------------------
def cluster_count(
    tree: Hierarchy, clusters: int | Literal["gap", "silhouette"], most: int | None, who: str
) -> tuple[int, pd.Series | None]:
    r"""The number of clusters, and the figure of merit by number where it was chosen.

    ``"gap"`` is the bend of the dispersion within clusters, :math:`W_{k-1} - 2 W_k + W_{k+1}` with
    :math:`W_k = \sum_c \frac{1}{2 |c|} \sum_{i,j \in c} d_{ij}` (Yue, Wang & Wei, 2008), which needs no random
    reference; ``"silhouette"`` is the mean over assets of :math:`(b_i - a_i) / \max(a_i, b_i)` with the mean distances
    to the own and to the nearest other cluster (Rousseeuw, 1987). Both are largest at the number chosen, which is from
    2 to `most`; where None, to the larger of 8 and the rounded root of N. The smaller of numbers that tie is taken.
    """
    n = len(tree.leaves)
    if isinstance(clusters, str):
        one_of(clusters, Literal["gap", "silhouette"], "number of clusters", who)
        most = max(8, round(np.sqrt(n))) if most is None else checked_count(most, f"{who}: max_clusters", least=2)
        numbers = np.arange(2, min(most, n) + 1)
        merit = _gaps(tree, numbers) if clusters == "gap" else _over(tree, numbers, _silhouette)
        return int(numbers[np.argmax(merit)]), pd.Series(merit, index=pd.Index(numbers, name="clusters"), name=clusters)
    count = checked_count(clusters, f"{who}: clusters", least=1)
    if count > n:
        raise InputError(f"{who}: {count} clusters cannot be formed of {n} assets")
    return count, None


def _gaps(tree: Hierarchy, numbers: IntArray) -> FloatArray:
    within = _over(tree, np.arange(numbers[0] - 1, numbers[-1] + 2), _dispersion)
    return within[:-2] - 2.0 * within[1:-1] + within[2:]


def _over(tree: Hierarchy, numbers: IntArray, figure: Callable[[FloatArray, IntArray], float]) -> FloatArray:
    """A figure of each number of clusters; zero of more clusters than assets, which have no insides."""
    n = len(tree.leaves)
    return np.array([figure(tree.distances, tree.cut(int(k))) if k <= n else 0.0 for k in numbers])


def _dispersion(distances: FloatArray, cluster: IntArray) -> float:
    """W."""
    members = np.eye(cluster.max() + 1)[cluster]
    return float(((distances @ members) * members).sum(axis=0) @ (0.5 / members.sum(axis=0)))


def _silhouette(distances: FloatArray, cluster: IntArray) -> float:
    """Mean silhouette; of an asset alone it is zero."""
    members = np.eye(cluster.max() + 1)[cluster]
    sizes, rows = members.sum(axis=0), np.arange(len(cluster))
    sums = distances @ members
    company = sizes[cluster] - 1.0
    own = sums[rows, cluster] / np.maximum(company, 1.0)
    sums[rows, cluster] = np.inf
    other = (sums / sizes).min(axis=1)
    larger = np.maximum(own, other)
    inside = (company > 0) & (larger > 0)
    return float(np.where(inside, (other - own) / np.where(inside, larger, 1.0), 0.0).mean())

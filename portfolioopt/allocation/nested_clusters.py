"""Nested clustered optimisation: an allocator within clusters, and one across them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd

from portfolioopt.blas import quiet_blas
from portfolioopt.errors import InputError, unknown_names
from portfolioopt.labels import FloatArray, align, some
from portfolioopt.problem import Budget
from portfolioopt.scenarios import ScenarioSet
from portfolioopt.solve import Result

from .clustering import Covariance, Distance, IntArray, LeafOrder, Linkage, Universe, cluster_count, hierarchy, universe
from .mean_variance import minimum_variance
from .rule import by_rule, largest

Allocator: TypeAlias = Callable[[ScenarioSet], Result]

_GAP = 1e-10  # relative, up to which the answer of the active set is taken


def least_variance(scenarios: ScenarioSet) -> Result:
    r"""The long-only portfolio of least variance by an active set, :math:`\min w'\Sigma w,\ 1'w = 1,\ w \ge 0`.

    It is a multiple of the :math:`y \ge 0` that minimises :math:`\frac12 y'\Sigma y - 1'y`, a problem of non-negative
    least squares (Lawson & Hanson, 1974), which ends at the exact support. By convexity no portfolio has a variance
    below :math:`2 \min_i (\Sigma w)_i - w'\Sigma w`, so that the gap is proven. Nothing is compiled, unlike in
    :func:`minimum_variance`, which is asked where the covariance is singular.
    """
    import scipy.linalg
    import scipy.optimize

    start = time.perf_counter()
    matrix = scenarios.covariance().to_numpy()
    if not (np.diag(matrix) > 0.0).all():
        return minimum_variance(scenarios)
    scale = 1.0 / np.sqrt(np.diag(matrix))
    try:
        factor = np.linalg.cholesky(matrix * (scale[:, None] * scale))
        target = scipy.linalg.solve_triangular(factor, scale / scale.max(), lower=True)
        found = scale * scipy.optimize.nnls(factor.T, target)[0]
    except (np.linalg.LinAlgError, RuntimeError):
        return minimum_variance(scenarios)

    def gap(weights: FloatArray) -> float:
        marginal = matrix @ weights
        variance = float(weights @ marginal)
        return 2.0 * (variance - float(marginal.min())) / variance

    weights = found / found.sum()
    if not gap(weights) <= _GAP:
        return minimum_variance(scenarios)
    return by_rule(scenarios, "least variance", weights, gap, start=start)


@quiet_blas.hold()  # its threads gain little here, and wait for each other by spinning
def nested_clusters(
    returns: pd.DataFrame | ScenarioSet,
    *,
    covariance: Covariance | None = None,
    inner: Allocator = least_variance,
    outer: Allocator = least_variance,
    clusters: int | Literal["gap", "silhouette"] | pd.Series | Mapping[Any, Any] = "silhouette",
    max_clusters: int | None = None,
    linkage: Linkage = "ward",
    distance: Distance = "correlation",
    leaf_order: LeafOrder = "merges",
    tolerance: float = 1e-6,
) -> Result:
    r"""Nested clusters: each cluster becomes one portfolio by `inner`, and `outer` allocates among these.

    .. math:: w = V o, \qquad V = [v_1 \dots v_K] \text{ (N x K)},

    where :math:`v_k` is what `inner` makes of cluster k alone, zero elsewhere, and :math:`o` what `outer` makes of the
    returns :math:`R V` of the K portfolios. Estimation errors of highly correlated assets stay within their cluster.
    López de Prado (2019), "A robust estimator of the efficient frontier", SSRN 3469961; there both are the minimum
    variance (or the largest Sharpe ratio) with short positions allowed, and clusters are found by k-means. Long only
    and clusters from a tree, as here, is how skfolio and Riskfolio-Lib have it (skfolio with ``cv="ignore"``).

    Parameters
    ----------
    returns, linkage, distance, leaf_order
        As for :func:`hrp`; trees are by Ward's method on the correlation distance.
    covariance
        By asset (a frame or a FactorCovariance), to be used instead of the sample one for the tree and for both
        allocators, which then see means and covariances alone.
    inner, outer
        Any function from a ScenarioSet to a Result, long-only least variance where not given: those of this room, with
        settings by ``functools.partial``, or one that calls :func:`optimize` (whose kernels compile once for every size
        of cluster). The outer one sees clusters as assets, labelled by their number. An asset that is alone in its
        cluster is held without asking `inner`.
    clusters
        How many, what chooses the number (``"gap"`` or ``"silhouette"``), or the cluster of every asset (a Series or
        mapping, such as sectors), and then there is no tree.
    max_clusters
        The largest number to choose from; the larger of 8 and the root of N where None.
    tolerance
        Largest relative gap of an inner or outer answer, at which the whole counts as met.

    Returns
    -------
    Result
        Certified by the largest relative gap of any of the answers it is made of, and of deviation of a weight from
        their product. `details` has ``clusters`` (by asset), ``inner`` (V), ``outer`` (o by cluster), ``parts`` (gap,
        violation and status of every answer), and with a tree ``order``, ``dendrogram`` and ``choice``.

    Raises
    ------
    InputError
        As :func:`herc` does, for allocators that return no Result, and for assets without a cluster.
    SolveError
        Whatever `inner` and `outer` raise; StalledError where what they return is not fully invested.
    """
    start, who = time.perf_counter(), "nested_clusters"
    assets = universe(returns, covariance, who)
    for allocator, what in ((inner, "inner"), (outer, "outer")):
        if not callable(allocator):
            raise InputError(f"{who}: {what} must be a function from a ScenarioSet to a Result, was {allocator!r}")
    details: dict[str, Any]
    if isinstance(clusters, pd.Series | Mapping):
        names, cluster = _given(clusters, assets.assets, who)
        details = {}
    else:
        tree = hierarchy(assets, linkage=linkage, distance=distance, leaf_order=leaf_order, who=who)
        count, choice = cluster_count(tree, clusters, max_clusters, who)
        names, cluster = pd.RangeIndex(1, count + 1, name="cluster"), tree.cut(count)
        details = tree.details() | {"choice": choice}
    moments = covariance is not None or assets.scenarios.form is not None
    held = np.zeros((len(cluster), len(names)))
    answers: list[tuple[Any, Result]] = []
    for k, name in enumerate(names):
        members = np.flatnonzero(cluster == k)
        if len(members) == 1:
            held[members, k] = 1.0
            continue
        part = _portfolios(assets, members, None, assets.assets[members], moments)
        answer = _answer(inner(part), f"{who}: inner, for cluster {name!r},")
        held[members, k] = _weights(answer, part.assets)
        answers.append((name, answer))
    across = np.ones(1)
    if len(names) > 1:
        whole = _portfolios(assets, np.arange(len(cluster)), held, names, moments)
        answer = _answer(outer(whole), f"{who}: outer")
        across = _weights(answer, whole.assets)
        answers.append(("outer", answer))
    parts = _table(answers)
    place, labels = assets.place, assets.scenarios.assets
    product = np.empty(len(place))
    product[place] = held @ across
    size = largest(product) or 1.0
    worst = largest(parts["gap"].to_numpy())
    return by_rule(
        assets.scenarios,
        "nested clusters",
        product,
        lambda w: max(worst, largest(w[place] - held @ across) / size),
        start=start,
        constraints=(Budget(1.0),),
        details=details
        | {
            "clusters": pd.Series(names[cluster], index=assets.assets, name="cluster").reindex(labels),
            "inner": pd.DataFrame(held, assets.assets, names).reindex(labels),
            "outer": pd.Series(across, index=names, name="weight"),
            "parts": parts,
        },
        iterations=sum(answer.iterations for _, answer in answers),
        tolerance=tolerance,
    )


def _given(clusters: pd.Series | Mapping[Any, Any], assets: pd.Index, who: str) -> tuple[pd.Index, IntArray]:
    """Labels of the clusters, in the order in which they first occur, and the cluster of every asset (N,)."""
    series = clusters if isinstance(clusters, pd.Series) else pd.Series(dict(clusters), dtype=object)
    if series.index.has_duplicates:
        raise InputError(f"{who}: clusters names {some(series.index[series.index.duplicated()].unique())} twice")
    unknown = series.index.difference(assets, sort=False)
    if len(unknown):
        raise unknown_names("asset", unknown, assets)
    found = series.reindex(assets)
    if found.isna().any():
        raise InputError(f"{who}: clusters says nothing about {some(assets[found.isna().to_numpy()])}")
    number, names = pd.factorize(found)
    return pd.Index(names, name="cluster"), number.astype(np.intp)


def _portfolios(
    assets: Universe, members: IntArray, held: FloatArray | None, names: pd.Index, moments: bool
) -> ScenarioSet:
    """Members as a set of their own, or portfolios (M, K) of them as assets."""
    scenarios, place = assets.scenarios, assets.place[members]
    if moments:
        matrix = assets.covariance[np.ix_(members, members)]
        mean = scenarios.mean_array()[place]
        if held is not None:
            matrix, mean = held.T @ matrix @ held, mean @ held
        frame = pd.DataFrame(0.5 * (matrix + matrix.T), names, names)
        known = pd.Series(mean, names) if scenarios.mean_known else None
        return ScenarioSet.from_moments(known, frame, horizon=scenarios.horizon)
    returns = scenarios.matrix[:, place].astype(np.float64)
    frame = pd.DataFrame(returns if held is None else returns @ held, scenarios.index, names)
    return ScenarioSet(frame, scenarios.probabilities, horizon=scenarios.horizon)


def _answer(result: object, who: str) -> Result:
    """What an allocator returned, if it is a portfolio."""
    if not isinstance(result, Result):
        raise InputError(f"{who} must return a Result, was {type(result).__name__}")
    if result.weights is None or result.certificate is None:
        raise InputError(f"{who} found no portfolio: {result.message}")
    return result


def _weights(result: Result, names: pd.Index) -> FloatArray:
    assert result.weights is not None
    return align(result.weights, names, what="weights")


def _table(answers: list[tuple[Any, Result]]) -> pd.DataFrame:
    """How good the answers are, by cluster, and last the outer one."""
    known = [(name, answer, answer.certificate) for name, answer in answers if answer.certificate is not None]
    return pd.DataFrame(
        {
            "status": [answer.status.name for _, answer, _ in known],
            "gap": np.array([certificate.gap for *_, certificate in known]),
            "violation": np.array([certificate.max_violation for *_, certificate in known]),
        },
        index=pd.Index([name for name, *_ in known], name="part", dtype=object),
    )

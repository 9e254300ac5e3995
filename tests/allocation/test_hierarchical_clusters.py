"""Clusters of assets: how many, equal risk contribution down their tree, and nested allocators; against peers."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.cluster.hierarchy import fcluster
from scipy.optimize import brentq

import portfolioopt as po
from portfolioopt.allocation.clustering import hierarchy, universe
from portfolioopt.allocation.equal_weight import equal_weight
from portfolioopt.allocation.herc import disproportion, herc, proportional
from portfolioopt.allocation.hrp import hrp
from portfolioopt.allocation.inverse_volatility import inverse_volatility
from portfolioopt.allocation.nested_clusters import least_variance, nested_clusters
from portfolioopt.allocation.rule import by_rule

RETURNS = po.data.simple_returns(po.data.sample_prices()).iloc[-300:]
LINKAGES = ["single", "complete", "average", "weighted", "ward"]
PEERS = pytest.mark.filterwarnings("ignore")  # of other people's packages


def tree(linkage: Any = "ward", distance: Any = "correlation") -> Any:
    return hierarchy(universe(RETURNS, None, "test"), linkage=linkage, distance=distance, who="test")


def partition(labels: Any) -> set[frozenset[int]]:
    labels = np.asarray(labels)
    return {frozenset(np.flatnonzero(labels == k).tolist()) for k in np.unique(labels)}


def permuted(seed: int) -> pd.DataFrame:
    return RETURNS.iloc[:, np.random.default_rng(seed).permutation(RETURNS.shape[1])]


# -- clusters ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("linkage", LINKAGES)
def test_cuts_are_those_of_scipy(linkage: Any) -> None:
    found = tree(linkage)
    for count in range(1, 21):
        cluster = found.cut(count)
        assert partition(cluster) == partition(fcluster(found.merges, count, criterion="maxclust"))
        along = cluster[found.leaves]
        assert along.tolist() == sorted(along)  # numbered from left to right
        assert cluster.max() == count - 1


def test_silhouette_is_that_of_scikit_learn() -> None:
    from sklearn.metrics import silhouette_score

    found = tree()
    choice = herc(RETURNS, clusters="silhouette", max_clusters=19).details["choice"]
    for count, value in choice.items():
        theirs = silhouette_score(found.distances, found.cut(count), metric="precomputed")
        assert value == pytest.approx(theirs, rel=1e-9)
    assert herc(RETURNS, clusters="silhouette").details["clusters"].nunique() == choice[:8].idxmax()


def test_gap_is_the_bend_of_the_dispersion() -> None:
    found = tree()
    within = []
    for count in range(1, 10):
        total = 0.0
        for members in partition(found.cut(count)):
            total += sum(found.distances[i, j] for i in members for j in members) / (2 * len(members))
        within.append(total)
    result = herc(RETURNS, clusters="gap")
    choice = result.details["choice"]
    assert choice.index.tolist() == list(range(2, 9))
    np.testing.assert_allclose(choice, np.diff(within, 2), rtol=1e-9)
    assert result.details["clusters"].nunique() == choice.idxmax()


@pytest.mark.parametrize("how", ["gap", "silhouette"])
def test_blocks_are_found(how: Any) -> None:
    random = np.random.default_rng(0)
    block = np.repeat(np.arange(4), [3, 5, 4, 6])
    returns = 0.01 * (2.0 * random.normal(size=(500, 4))[:, block] + random.normal(size=(500, 18)))
    frame = pd.DataFrame(returns, columns=[f"A{i:02d}" for i in range(18)])
    found = herc(frame, clusters=how).details["clusters"]
    assert partition(found) == partition(block)


def test_as_many_clusters_as_assets_and_two_assets() -> None:
    assert herc(RETURNS, clusters="gap", max_clusters=50).details["choice"].index[-1] == 20
    for how in ("gap", "silhouette"):
        assert herc(RETURNS.iloc[:, :2], clusters=how).details["clusters"].tolist() == [1, 2]


# -- hierarchical equal risk contribution ------------------------------------------------------------------------
@PEERS
@pytest.mark.parametrize("clusters", [2, 5, 9])
@pytest.mark.parametrize("risk", ["variance", "volatility", "cvar"])
def test_skfolio(risk: Any, clusters: int) -> None:
    from skfolio import RiskMeasure
    from skfolio.cluster import HierarchicalClustering, LinkageMethod
    from skfolio.optimization import HierarchicalEqualRiskContribution

    measure = {
        "variance": RiskMeasure.VARIANCE,
        "volatility": RiskMeasure.STANDARD_DEVIATION,
        "cvar": RiskMeasure.CVAR,
    }
    clustering = HierarchicalClustering(max_clusters=clusters, linkage_method=LinkageMethod.WARD)
    model = HierarchicalEqualRiskContribution(
        risk_measure=measure[risk], hierarchical_clustering_estimator=clustering
    ).fit(RETURNS)
    ours = herc(RETURNS, risk=risk, clusters=clusters)
    assert partition(ours.details["clusters"]) == partition(model.hierarchical_clustering_estimator_.labels_)
    np.testing.assert_allclose(ours.weights, model.weights_, atol=1e-7)  # theirs end in a solver, for bounds


@PEERS
@pytest.mark.parametrize("model", ["HERC", "HRP"])
@pytest.mark.parametrize(("risk", "theirs"), [("variance", "MV"), ("volatility", "vol"), ("cvar", "CVaR")])
def test_riskfolio(model: str, risk: Any, theirs: str) -> None:
    riskfolio = pytest.importorskip("riskfolio")
    portfolio = riskfolio.HCPortfolio(returns=RETURNS, alpha=0.05)
    found = portfolio.optimization(model=model, rm=theirs, linkage="ward", k=4, leaf_order=False)["weights"]
    ours = (
        herc(RETURNS, risk=risk, clusters=4)
        if model == "HERC"
        else hrp(RETURNS, risk=risk, linkage="ward", distance="correlation")
    )
    np.testing.assert_allclose(ours.weights, found[RETURNS.columns], atol=1e-9)


def test_one_cluster_is_naive_risk_parity() -> None:
    weights = herc(RETURNS, clusters=1, risk="volatility").weights
    np.testing.assert_allclose(weights, inverse_volatility(po.ScenarioSet(RETURNS)).weights, rtol=1e-9)


def test_as_many_clusters_as_assets_follow_every_merge() -> None:
    result = herc(RETURNS, clusters=20)
    variance = RETURNS.var().to_numpy()
    merges = result.details["dendrogram"][["left", "right"]]

    def leaves(node: int) -> list[int]:
        return [node] if node < 20 else [i for side in merges.loc[node] for i in leaves(side)]

    def shared(node: int, weight: float) -> dict[int, float]:
        if node < 20:
            return {node: weight}
        left, right = merges.loc[node]
        a, b = variance[leaves(left)].sum(), variance[leaves(right)].sum()
        return shared(left, weight * b / (a + b)) | shared(right, weight * a / (a + b))

    np.testing.assert_allclose(result.weights, [w for _, w in sorted(shared(38, 1.0).items())], rtol=1e-9)


@pytest.mark.parametrize("risk", ["variance", "volatility", "cvar"])
def test_the_order_of_columns_does_not_matter_to_herc(risk: Any) -> None:
    first = herc(RETURNS, risk=risk)
    for seed in range(3):
        other = herc(permuted(seed), risk=risk)
        assert other.weights[RETURNS.columns].tolist() == first.weights.tolist()
        assert other.details["clusters"][RETURNS.columns].tolist() == first.details["clusters"].tolist()


@pytest.mark.parametrize("seed", range(4))
def test_bounds_of_herc(seed: int) -> None:
    random = np.random.default_rng(seed)
    upper = pd.Series(random.uniform(0.04, 0.09, 20), RETURNS.columns)
    lower = pd.Series(random.uniform(0.0, 0.04, 20), RETURNS.columns)
    result = herc(RETURNS, clusters=3, bounds=(lower, upper))
    weights, cluster = result.weights, result.details["clusters"]
    assert (weights >= lower).all()
    assert (weights <= upper).all()
    assert weights.sum() == pytest.approx(1.0, abs=1e-14)
    free = (weights > lower * (1 + 1e-9)) & (weights < upper * (1 - 1e-9))
    assert free.sum() >= 3
    level = (weights * RETURNS.var())[free].groupby(cluster[free])
    np.testing.assert_allclose(level.max(), level.min(), rtol=1e-9)  # those that no limit holds are in proportion


@pytest.mark.parametrize("seed", range(20))
def test_proportional_shares_between_limits(seed: int) -> None:
    random = np.random.default_rng(seed)
    n = int(random.integers(1, 12))
    parts = random.uniform(0.1, 3.0, n)
    lower = random.uniform(0.0, 0.1, n) * random.integers(0, 2, n)
    upper = lower + random.uniform(0.01, 0.4, n) * random.choice([1.0, 0.0, np.inf], n, p=[0.7, 0.15, 0.15])
    most = min(upper.sum(), 5.0)
    total = float(random.uniform(lower.sum(), most))
    found = proportional(total, parts, lower, upper)
    short = lambda level: np.clip(level * parts, lower, upper).sum() - total
    level = brentq(short, 0.0, 1e3, xtol=1e-15, rtol=1e-15)
    np.testing.assert_allclose(found, np.clip(level * parts, lower, upper), atol=1e-9)
    assert disproportion(found, parts, lower, upper) < 1e-12
    for edge in (lower.sum(), most):
        assert proportional(float(edge), parts, lower, upper).sum() == pytest.approx(edge)


def test_deviation_of_herc_sees_other_weights() -> None:
    result = herc(RETURNS, clusters=4, bounds=(0.0, 0.12))
    measure = result.problem.objective.parts[0][1].measure
    weights = result.weights.to_numpy()
    assert measure(weights) < 1e-14
    members = np.flatnonzero(result.details["clusters"] == 4)[:2]
    for moved in (members, [0, int(members[0])]):  # within a cluster, and between two
        other = weights.copy()
        other[moved] += [1e-4, -1e-4]
        assert measure(other) > 1e-5


# -- nested clusters ---------------------------------------------------------------------------------------------
@PEERS
@pytest.mark.parametrize("clusters", [3, 6])
def test_nested_clusters_of_skfolio(clusters: int) -> None:
    from skfolio.cluster import HierarchicalClustering, LinkageMethod
    from skfolio.optimization import MeanRisk, NestedClustersOptimization

    exact = {"tol_gap_abs": 1e-12, "tol_gap_rel": 1e-12, "tol_feas": 1e-12}
    model = NestedClustersOptimization(
        inner_estimator=MeanRisk(solver_params=exact),
        outer_estimator=MeanRisk(solver_params=exact),
        clustering_estimator=HierarchicalClustering(max_clusters=clusters, linkage_method=LinkageMethod.WARD),
        cv="ignore",
    ).fit(100 * RETURNS)  # in percent, for their solver's sake
    ours = nested_clusters(RETURNS, clusters=clusters)
    np.testing.assert_allclose(ours.weights, model.weights_, atol=2e-6)  # weights err as the root of a gap
    assert ours.certificate.gap < 1e-10


def test_least_variance_is_an_optimum() -> None:
    cp = pytest.importorskip("cvxpy")
    covariance = RETURNS.cov().to_numpy() * 1e4
    w = cp.Variable(20)
    root = np.linalg.cholesky(covariance)
    cp.Problem(cp.Minimize(cp.sum_squares(root.T @ w)), [cp.sum(w) == 1, w >= 0]).solve(
        solver=cp.CLARABEL, tol_gap_abs=1e-12, tol_gap_rel=1e-12, tol_feas=1e-12
    )
    result = least_variance(po.ScenarioSet(RETURNS))
    np.testing.assert_allclose(result.weights, w.value, atol=1e-7)
    assert result.certificate.gap < 1e-13
    assert 0 < (result.weights == 0).sum() < 20
    measure = result.problem.objective.parts[0][1].measure
    for weights in (np.full(20, 0.05), inverse_volatility(po.ScenarioSet(RETURNS)).weights.to_numpy()):
        least, here = (float(x @ covariance @ x) for x in (result.weights.to_numpy(), weights))
        assert measure(weights) > 1 - least / here  # the bound is one


def test_equal_weights_nested() -> None:
    result = nested_clusters(RETURNS, inner=equal_weight, outer=equal_weight, clusters=5)
    cluster = result.details["clusters"]
    np.testing.assert_allclose(result.weights, 1 / 5 / cluster.map(cluster.value_counts()), rtol=1e-12)
    np.testing.assert_allclose(result.details["outer"], 0.2)
    assert result.details["parts"].index.tolist()[-1] == "outer"
    assert (result.details["parts"]["status"] == "optimal").all()


def test_clusters_of_ones_own() -> None:
    sectors = pd.Series(np.where(np.arange(20) < 7, "first", np.where(np.arange(20) < 19, "outer", "alone")))
    sectors.index = RETURNS.columns
    result = nested_clusters(RETURNS, clusters=sectors[::-1])
    assert "dendrogram" not in result.details
    assert result.details["parts"].index.tolist() == ["first", "outer", "outer"]  # a name like any other
    inside, across = result.details["inner"], result.details["outer"]
    assert across.index.tolist() == ["first", "outer", "alone"]
    np.testing.assert_allclose(inside @ across, result.weights, rtol=1e-12)
    assert inside.loc[RETURNS.columns[19]].tolist() == [0.0, 0.0, 1.0]
    alone = least_variance(po.ScenarioSet(RETURNS.iloc[:, :7])).weights
    np.testing.assert_allclose(inside["first"].iloc[:7], alone, atol=1e-12)
    portfolios = pd.DataFrame(RETURNS.to_numpy() @ inside.to_numpy(), columns=across.index)
    np.testing.assert_allclose(least_variance(po.ScenarioSet(portfolios)).weights, across, atol=1e-12)
    whole = nested_clusters(RETURNS, clusters=dict.fromkeys(RETURNS.columns, "all")).weights
    np.testing.assert_allclose(whole, least_variance(po.ScenarioSet(RETURNS)).weights, atol=1e-12)


def test_moments_give_the_same_as_returns() -> None:
    first = nested_clusters(RETURNS, clusters=4)
    covariance = RETURNS.cov()
    for other in (
        nested_clusters(RETURNS, covariance=covariance, clusters=4),
        nested_clusters(po.ScenarioSet.from_moments(RETURNS.mean(), covariance), clusters=4),
    ):
        np.testing.assert_allclose(other.weights, first.weights, atol=1e-10)


def test_probabilities_reach_the_allocators() -> None:
    times = np.random.default_rng(4).integers(1, 4, len(RETURNS))
    repeated = pd.DataFrame(np.repeat(RETURNS.to_numpy(), times, axis=0), columns=RETURNS.columns)
    inner = partial(hrp, risk="cvar")
    weighted = nested_clusters(po.ScenarioSet(RETURNS, times / times.sum()), inner=inner, outer=inner, clusters=3)
    other = nested_clusters(repeated, inner=inner, outer=inner, clusters=3)
    np.testing.assert_allclose(weighted.weights, other.weights, rtol=1e-8)


def test_the_order_of_columns_does_not_matter_to_nested_clusters() -> None:
    first = nested_clusters(RETURNS)
    for seed in range(2):
        other = nested_clusters(permuted(seed))
        assert other.weights[RETURNS.columns].tolist() == first.weights.tolist()
        assert other.details["clusters"][RETURNS.columns].tolist() == first.details["clusters"].tolist()


# -- errors ------------------------------------------------------------------------------------------------------
def test_refusals() -> None:
    for method in (herc, nested_clusters):
        with pytest.raises(po.InputError, match="21 clusters cannot be formed of 20 assets"):
            method(RETURNS, clusters=21)
        with pytest.raises(po.InputError, match="clusters must be a whole number, at least 1"):
            method(RETURNS, clusters=0)
        with pytest.raises(po.UnknownNameError, match=r"unknown number of clusters of \w+: 'gaps'.*did you mean 'gap'"):
            method(RETURNS, clusters="gaps")
        with pytest.raises(po.InputError, match="max_clusters must be a whole number, at least 2"):
            method(RETURNS, clusters="gap", max_clusters=1)
        with pytest.raises(po.InputError, match="at least two assets"):
            method(RETURNS[["KO"]])
        with pytest.raises(po.InputError, match="'KO' has none"):
            method(RETURNS.assign(KO=0.0))
    with pytest.raises(po.InputError, match=r"upper bounds sum to 0\.8"):
        herc(RETURNS, bounds=(0.0, 0.04))


def test_refusals_of_nested_clusters() -> None:
    with pytest.raises(po.InputError, match="inner must be a function"):
        nested_clusters(RETURNS, inner="hrp")
    with pytest.raises(po.InputError, match="outer must return a Result, was Series"):
        nested_clusters(RETURNS, outer=lambda scenarios: scenarios.mean())
    with pytest.raises(po.InputError, match=r"inner, for cluster \d, must return a Result"):
        nested_clusters(RETURNS, inner=lambda scenarios: None)
    with pytest.raises(po.InputError, match="clusters says nothing about 'XOM'"):
        nested_clusters(RETURNS, clusters=dict.fromkeys(RETURNS.columns.drop("XOM"), 1))
    with pytest.raises(po.UnknownNameError, match=r"unknown asset: 'XOMM' \(did you mean"):
        nested_clusters(RETURNS, clusters=dict.fromkeys([*RETURNS.columns, "XOMM"], 1))

    def short(scenarios: po.ScenarioSet) -> po.Result:
        half = np.full(scenarios.n_assets, 0.5 / scenarios.n_assets)
        return by_rule(scenarios, "half", half, lambda w: 0.0, start=0.0, constraints=[po.Budget(0.5), po.Bounds()])

    with pytest.raises(po.StalledError, match="Budget is violated"):
        nested_clusters(RETURNS, inner=equal_weight, outer=short, clusters=3)
    with pytest.raises(po.InputError, match="knows mean and covariance alone"):
        nested_clusters(RETURNS, covariance=RETURNS.cov(), inner=partial(hrp, risk="cvar"))

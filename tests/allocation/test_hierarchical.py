"""Hierarchical risk parity: the published table, peers, brute force, the order of assets, and bounds."""

from __future__ import annotations

import random
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.cluster.hierarchy import is_valid_linkage, leaves_list

import portfolioopt as po
from portfolioopt.allocation.hrp import _Quadratic, halves, hrp

RETURNS = po.data.simple_returns(po.data.sample_prices()).iloc[-300:]  # labels in order
LINKAGES = ["single", "complete", "average", "weighted", "ward"]


@cache
def published() -> pd.DataFrame:
    """The data of López de Prado (2016), appendix: five normal series, and five more that follow them.

    His program draws the columns that are followed with `random.randint` of Python 2, which took a draw for each.
    """
    normal, uniform = np.random.RandomState(12345), random.Random(12345)
    first = normal.normal(0, 1, size=(10_000, 5))
    followed = [int(uniform.random() * 5) for _ in range(5)]
    second = first[:, followed] + normal.normal(0, 0.25, size=(10_000, 5))
    return pd.DataFrame(np.hstack([first, second]), columns=range(1, 11))


def permuted(frame: pd.DataFrame, seed: int) -> pd.DataFrame:
    return frame.iloc[:, np.random.default_rng(seed).permutation(frame.shape[1])]


# -- figures from elsewhere --------------------------------------------------------------------------------------
def test_the_published_weights() -> None:
    # López de Prado (2016), Journal of Portfolio Management 42(4), table of three allocations, in percent
    printed = [7.00, 7.59, 10.84, 19.03, 9.72, 10.19, 6.62, 9.10, 7.12, 12.79]
    returns = published()
    np.testing.assert_allclose(np.linalg.cond(returns.cov()), 150.9324, atol=5e-5)  # printed: the data are his
    result = hrp(returns)
    np.testing.assert_allclose(100 * result.weights, printed, atol=5.1e-3)
    assert result.details["order"].index.tolist() == [9, 2, 10, 1, 7, 3, 6, 4, 5, 8]  # his figure of the sorted matrix
    assert result.certificate.gap < 1e-14


def test_how_far_the_other_convention_is_from_the_published_weights() -> None:
    from pypfopt import HRPOpt

    returns = published()
    theirs = pd.Series(HRPOpt(returns).optimize())
    np.testing.assert_allclose(hrp(returns, distance="correlation").weights, theirs, atol=1e-12)
    assert 0.05 < (hrp(returns).weights - theirs).abs().max() < 0.08


@pytest.mark.parametrize("linkage", LINKAGES)
def test_pyportfolioopt(linkage: Any) -> None:
    from pypfopt import HRPOpt

    theirs = pd.Series(HRPOpt(RETURNS).optimize(linkage_method=linkage))
    ours = hrp(RETURNS, distance="correlation", linkage=linkage).weights
    np.testing.assert_allclose(ours[theirs.index], theirs, atol=1e-12)


@pytest.mark.filterwarnings("ignore")  # of other people's packages
@pytest.mark.parametrize("leaf_order", ["merges", "optimal"])
@pytest.mark.parametrize("risk", ["variance", "volatility", "cvar"])
def test_skfolio(risk: Any, leaf_order: Any) -> None:
    from skfolio import RiskMeasure
    from skfolio.cluster import HierarchicalClustering, LinkageMethod
    from skfolio.optimization import HierarchicalRiskParity
    from skfolio.seriation import HierarchicalSeriation

    measure = {
        "variance": RiskMeasure.VARIANCE,
        "volatility": RiskMeasure.STANDARD_DEVIATION,
        "cvar": RiskMeasure.CVAR,
    }
    caps = {"min_weights": 0.03, "max_weights": 0.06}
    model = HierarchicalRiskParity(
        risk_measure=measure[risk],
        seriation_estimator=HierarchicalSeriation(
            hierarchical_clustering_estimator=HierarchicalClustering(linkage_method=LinkageMethod.AVERAGE),
            optimal_ordering=leaf_order == "optimal",
        ),
        **caps,
    ).fit(RETURNS)
    ours = hrp(
        RETURNS,
        distance="correlation",
        linkage="average",
        leaf_order=leaf_order,
        risk=risk,
        bounds=(caps["min_weights"], caps["max_weights"]),
    )
    np.testing.assert_allclose(ours.weights, model.weights_, atol=1e-12)
    assert (ours.weights == caps["max_weights"]).any()


def test_brute_force_of_a_small_case() -> None:
    # two pairs and one alone; the tree is known by eye, and the shares by hand
    correlation = np.eye(5)
    correlation[0, 1] = correlation[1, 0] = 0.9
    correlation[2, 3] = correlation[3, 2] = 0.8
    correlation[4, :4] = correlation[:4, 4] = 0.1
    volatility = np.array([0.1, 0.2, 0.1, 0.3, 0.2])
    names = list("ABCDE")
    covariance = pd.DataFrame(correlation * np.outer(volatility, volatility), names, names)
    result = hrp(po.ScenarioSet.from_moments(None, covariance), distance="correlation", linkage="complete")
    order = result.details["order"].index.tolist()
    for pair in ("AB", "CD"):
        assert abs(order.index(pair[0]) - order.index(pair[1])) == 1

    def risk(group: list[str]) -> float:
        block = covariance.loc[group, group].to_numpy()
        held = 1 / np.diag(block)
        held = held / held.sum()
        return float(held @ block @ held)

    def share(group: list[str], weight: float) -> dict[str, float]:
        if len(group) == 1:
            return {group[0]: weight}
        left, right = group[: len(group) // 2], group[len(group) // 2 :]
        a, b = risk(left), risk(right)
        return share(left, weight * b / (a + b)) | share(right, weight * a / (a + b))

    np.testing.assert_allclose(result.weights, pd.Series(share(order, 1.0))[names], rtol=1e-9)


# -- what a tree says --------------------------------------------------------------------------------------------
def test_the_dendrogram_is_one_of_scipy() -> None:
    shuffled = permuted(RETURNS, 1)
    result = hrp(shuffled, linkage="ward")
    frame = result.details["dendrogram"]
    merges = np.ascontiguousarray(frame.to_numpy(dtype=float))
    assert is_valid_linkage(merges)
    assert frame.index.tolist() == list(range(20, 39))
    assert shuffled.columns[leaves_list(merges)].tolist() == result.details["order"].index.tolist()
    assert result.details["order"].tolist() == list(range(20))


# -- order of the assets -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("risk", ["variance", "cvar"])
@pytest.mark.parametrize("distance", ["rows", "correlation"])
def test_the_order_of_columns_does_not_matter(distance: Any, risk: Any) -> None:
    first = hrp(RETURNS, distance=distance, risk=risk)
    for seed in range(3):
        other = hrp(permuted(RETURNS, seed), distance=distance, risk=risk)
        assert other.weights[RETURNS.columns].tolist() == first.weights.tolist()  # to the last bit
        assert other.details["order"].equals(first.details["order"])


@pytest.mark.parametrize("linkage", LINKAGES)
def test_nor_does_it_where_distances_tie(linkage: Any) -> None:
    n = 12
    names = [f"X{i:02d}" for i in range(n)]
    group = np.arange(n) // 3
    correlation = np.where(group[:, None] == group, 0.6, 0.2)  # many exact ties
    np.fill_diagonal(correlation, 1.0)
    volatility = np.linspace(0.1, 0.4, n)
    covariance = pd.DataFrame(correlation * np.outer(volatility, volatility), names, names)
    returns = pd.DataFrame(np.random.default_rng(0).normal(size=(30, n)), columns=names)
    first = hrp(returns, covariance=covariance, linkage=linkage)
    for seed in range(4):
        mixed = permuted(covariance, seed)
        mixed = mixed.loc[mixed.columns]
        other = hrp(permuted(returns, seed + 9), covariance=mixed, linkage=linkage)
        assert other.weights[names].tolist() == first.weights.tolist()
        moments = hrp(po.ScenarioSet.from_moments(None, mixed), linkage=linkage)
        np.testing.assert_allclose(moments.weights[names], first.weights, rtol=1e-9)
        assert moments.details["order"].equals(first.details["order"])


def test_nor_does_it_where_assets_are_the_same() -> None:
    twins = pd.concat(
        [RETURNS.iloc[:, :6], RETURNS.iloc[:, :6].add_suffix(" B"), RETURNS.iloc[:, :3] * 2.0 + 1e-4], axis=1
    )
    twins.columns = [f"T{i:02d}" for i in range(15)]
    for linkage in LINKAGES:
        first = hrp(twins, linkage=linkage)
        for seed in range(3):
            other = hrp(permuted(twins, seed), linkage=linkage)
            assert other.weights[twins.columns].tolist() == first.weights.tolist()


def test_labels_that_cannot_be_compared() -> None:
    mixed = RETURNS.iloc[:, :4].set_axis([3, "b", "a", 1], axis="columns")
    first = hrp(mixed)
    assert hrp(permuted(mixed, 3)).weights[mixed.columns].tolist() == first.weights.tolist()


def test_a_period_more_or_another_scale() -> None:
    first = hrp(RETURNS)
    np.testing.assert_allclose(hrp(1e-3 * RETURNS).weights, first.weights, rtol=1e-9)
    np.testing.assert_allclose(hrp(RETURNS + 0.01).weights, first.weights, rtol=1e-9)
    assert np.abs(hrp(RETURNS.iloc[:-100]).weights - first.weights).max() > 1e-3


# -- scenarios and covariances -----------------------------------------------------------------------------------
def test_probabilities_count_as_repeated_rows_do() -> None:
    small = RETURNS.iloc[:120]
    times = np.random.default_rng(4).integers(1, 4, len(small))
    weighted = po.ScenarioSet(small, times / times.sum())
    repeated = pd.DataFrame(np.repeat(small.to_numpy(), times, axis=0), columns=small.columns)
    for risk in ("variance", "cvar"):
        np.testing.assert_allclose(hrp(weighted, risk=risk).weights, hrp(repeated, risk=risk).weights, rtol=1e-8)


def test_a_covariance_instead_of_the_sample() -> None:
    factors = po.estimate.StatisticalFactors(4).fit(RETURNS)
    dense = hrp(RETURNS, covariance=factors.dense())
    np.testing.assert_allclose(hrp(RETURNS, covariance=factors).weights, dense.weights, rtol=1e-9)
    np.testing.assert_allclose(hrp(RETURNS, covariance=RETURNS.cov()).weights, hrp(RETURNS).weights, rtol=1e-9)
    assert np.abs(dense.weights - hrp(RETURNS).weights).max() > 1e-4


def test_sets_in_chunks(tmp_path: Any) -> None:
    np.save(tmp_path / "returns.npy", RETURNS.to_numpy())
    chunks = po.ScenarioSet.from_npy(tmp_path / "returns.npy", assets=RETURNS.columns)
    np.testing.assert_allclose(hrp(chunks).weights, hrp(RETURNS).weights, rtol=1e-12)
    with pytest.raises(po.InputError, match="never in memory"):
        hrp(chunks, risk="cvar")


def test_fewer_periods_than_assets() -> None:
    result = hrp(RETURNS.iloc[:10])
    assert result.weights.min() > 0
    assert result.weights.sum() == pytest.approx(1.0)


def test_the_variance_shrinks_towards_the_least() -> None:
    # a diagonal covariance leaves nothing to the tree: weights are those of least variance, 1 / variance
    variance = pd.Series([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], list("ABCDEF"))
    covariance = pd.DataFrame(np.diag(variance), variance.index, variance.index)
    weights = hrp(po.ScenarioSet.from_moments(None, covariance)).weights
    np.testing.assert_allclose(weights, (1 / variance) / (1 / variance).sum(), rtol=1e-12)


# -- bounds ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", range(5))
def test_bounds_hold_exactly_and_the_rest_follows_the_rule(seed: int) -> None:
    random = np.random.default_rng(seed)
    names = RETURNS.columns
    upper = pd.Series(random.uniform(0.03, 0.12, len(names)), names)
    lower = pd.Series(random.uniform(0.0, 0.03, len(names)), names)
    result = hrp(RETURNS, bounds=(lower[::-1], upper.to_dict()))
    weights = result.weights
    assert (weights >= lower).all()
    assert (weights <= upper).all()
    assert weights.sum() == pytest.approx(1.0, abs=1e-14)
    held = (weights == lower) | (weights == upper)
    assert held.any()
    assert not held.all()
    # two halves that no limit holds share as without limits: the last split of two free neighbours
    order = result.details["order"].index.tolist()
    free = hrp(RETURNS).weights
    pairs = [(a, b) for a, b in _last_pairs(order) if not held[a] and not held[b]]
    assert pairs
    for a, b in pairs:
        assert weights[a] / weights[b] == pytest.approx(free[a] / free[b], rel=1e-9)


def _last_pairs(order: list[str]) -> list[tuple[str, str]]:
    if len(order) == 2:
        return [(order[0], order[1])]
    if len(order) < 2:
        return []
    middle = len(order) // 2
    return _last_pairs(order[:middle]) + _last_pairs(order[middle:])


def test_bounds_that_leave_one_portfolio() -> None:
    target = pd.Series(np.linspace(1.0, 3.0, RETURNS.shape[1]), RETURNS.columns)
    target /= target.sum()
    np.testing.assert_allclose(hrp(RETURNS, bounds=(target, target)).weights, target, rtol=1e-14)
    np.testing.assert_allclose(hrp(RETURNS, bounds=(0.0, target)).weights, target, rtol=1e-9)


def test_what_bounds_hold_is_in_the_report() -> None:
    result = hrp(RETURNS, bounds=(0.0, 0.06))
    binding = result.constraints[result.constraints["binding"] & (result.constraints["constraint"] == "Bounds")]
    assert len(binding) == (result.weights == 0.06).sum() > 0


def test_deviation_sees_other_weights() -> None:
    result = hrp(RETURNS)
    measure = result.problem.objective.parts[0][1].measure
    weights = result.weights.to_numpy()
    assert measure(weights) < 1e-14
    assert measure(hrp(RETURNS, distance="correlation").weights.to_numpy()) > 1e-3
    moved = weights.copy()
    moved[[0, 1]] += [1e-4, -1e-4]
    assert measure(moved) > 1e-5
    assert measure(1.01 * weights) == pytest.approx(0.01)


# -- errors ------------------------------------------------------------------------------------------------------
def test_refusals() -> None:
    with pytest.raises(po.InputError, match="at least two assets"):
        hrp(RETURNS[["AAPL"]])
    with pytest.raises(po.InputError, match=r"assets with risk, and 'JPM' has none"):
        hrp(RETURNS.assign(JPM=0.001))
    with pytest.raises(po.InputError, match="missing"):
        hrp(RETURNS.mask(RETURNS.eq(RETURNS.iloc[3, 4])))
    with pytest.raises(po.InputError, match="takes a frame of returns"):
        hrp(RETURNS.to_numpy())
    with pytest.raises(po.UnknownNameError, match=r"unknown linkage of hrp: 'Ward' \(did you mean 'ward'"):
        hrp(RETURNS, linkage="Ward")
    with pytest.raises(po.UnknownNameError, match="unknown distance of hrp"):
        hrp(RETURNS, distance="row")
    with pytest.raises(po.UnknownNameError, match="unknown risk of hrp"):
        hrp(RETURNS, risk="cdar")
    with pytest.raises(po.UnknownNameError, match="unknown leaf order of hrp"):
        hrp(RETURNS, leaf_order="random")
    with pytest.raises(po.InputError, match="CVaR needs returns"):
        hrp(po.ScenarioSet.from_moments(None, RETURNS.cov()), risk="cvar")
    with pytest.raises(po.InputError, match="beta must lie strictly between"):
        hrp(RETURNS, risk="cvar", beta=95)
    with pytest.raises(po.InputError, match=r"CVaR at 0.95 of 'KO' is not positive"):
        hrp(RETURNS.assign(KO=RETURNS["KO"] + 1.0), risk="cvar")


def test_refusals_of_bounds() -> None:
    with pytest.raises(po.InputError, match=r"upper bounds sum to 0\.8, less than the weight of 1"):
        hrp(RETURNS, bounds=(0.0, 0.04))
    with pytest.raises(po.InputError, match=r"lower bounds sum to 1\.2, more than the weight of 1"):
        hrp(RETURNS, bounds=(0.06, 1.0))
    with pytest.raises(po.InputError, match="lower bound is above the upper one for 'AAPL'"):
        hrp(RETURNS, bounds=(pd.Series(0.0, RETURNS.columns).where(RETURNS.columns != "AAPL", 0.3), 0.2))
    with pytest.raises(po.InputError, match="no short positions"):
        hrp(RETURNS, bounds=(-0.1, 1.0))
    with pytest.raises(po.InputError, match=r"bounds must be a pair"):
        hrp(RETURNS, bounds=0.1)
    with pytest.raises(po.InputError, match="says nothing about"):
        hrp(RETURNS, bounds=(0.0, pd.Series(0.2, RETURNS.columns[:-1])))


def test_refusals_of_covariances() -> None:
    covariance = RETURNS.cov()
    with pytest.raises(po.InputError, match="says nothing about 'XOM'"):
        hrp(RETURNS, covariance=covariance.drop("XOM").drop(columns="XOM"))
    with pytest.raises(po.InputError, match="must be a frame by asset or a FactorCovariance"):
        hrp(RETURNS, covariance=covariance.to_numpy())
    bent = covariance.copy()
    bent.iloc[0, 1] *= 2
    with pytest.raises(po.InputError, match="not symmetric"):
        hrp(RETURNS, covariance=bent)
    with pytest.raises(po.InputError, match="not positive semidefinite"):
        hrp(RETURNS, covariance=covariance - 0.9 * np.diag(np.diag(covariance)))
    with pytest.raises(po.InputError, match="missing or infinite"):
        hrp(RETURNS, covariance=covariance.replace(covariance.iloc[0, 0], np.nan))


def test_assets_that_hedge_each_other() -> None:
    covariance = pd.DataFrame([[1.0, -1.0], [-1.0, 1.0]], ["a", "b"], ["a", "b"])
    np.testing.assert_allclose(hrp(po.ScenarioSet.from_moments(None, covariance)).weights, 0.5)
    # of a side that is hedged within, the other side gets nothing
    one = np.array([1.0, -1.0, 0.8, 0.9])
    hedged = pd.DataFrame(np.outer(one, one) + np.diag([0.0, 0.0, 0.1, 0.1]), list("abcd"), list("abcd"))
    tree = hrp(po.ScenarioSet.from_moments(None, hedged)).details["order"].index.tolist()
    assert set(tree[:2]) != {"a", "b"}  # a tree does not put them together
    groups = _Quadratic(np.ones(4), hedged.to_numpy(), np.sqrt(np.diag(hedged)), root=False)
    splits = halves(4)
    pairs = groups.merged(splits.levels[1])
    assert pairs.risks()[0] == 0.0
    risks = [np.ones(1), pairs.risks(), groups.risks()]
    assert splits.shared(risks, np.zeros(4), np.ones(4), "hrp").tolist()[2:] == [0.0, 0.0]
    with pytest.raises(po.InputError, match="hedge each other completely"):
        splits.shared([np.ones(1), np.zeros(2), np.ones(4)], np.zeros(4), np.ones(4), "hrp")

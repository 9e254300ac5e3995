"""Hierarchical allocators beside PyPortfolioOpt and skfolio (and Riskfolio-Lib where installed), at equal weights.

``python -m benchmarks.hierarchy`` takes some minutes and writes ``results/hierarchy.json``. All are given the same
frame of returns and the same settings (single linkage of correlation distances, leaves in the order of the merges), and
their weights are compared. Times of this library include its checks and its certificate. A peer is timed once where a
call takes more than ten seconds, otherwise as often as this library: the median counts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from portfolioopt.allocation.herc import herc
from portfolioopt.allocation.hrp import hrp
from portfolioopt.allocation.nested_clusters import nested_clusters

from .instances import make
from .machine import machine

Record = dict[str, Any]
Weights = Callable[[], np.ndarray]
OUTPUT = Path(__file__).resolve().parent / "results" / "hierarchy.json"
SIZES = (100, 300, 1_000)
PERIODS = 1_000
CLUSTERS = 8
REPEATS, LONG = 5, 10.0
RISKFOLIO_UP_TO = 300  # assets; beyond, a call takes many minutes


def returns(assets: int) -> pd.DataFrame:
    """Fat-tailed returns of a factor model, with labels in order."""
    matrix = make("P1", "factor_t", PERIODS, assets).returns
    return pd.DataFrame(matrix, columns=[f"A{i:04d}" for i in range(assets)])


def timed(call: Weights) -> tuple[np.ndarray, float, int]:
    """Weights, the median of the times, and of how many."""
    taken: list[float] = []
    weights = np.empty(0)
    while len(taken) < REPEATS and (not taken or taken[0] < LONG):
        start = time.perf_counter()
        weights = call()
        taken.append(time.perf_counter() - start)
    return weights, statistics.median(taken), len(taken)


def parity_peers(frame: pd.DataFrame) -> dict[str, Weights]:
    """Hierarchical risk parity of each peer."""
    from pypfopt import HRPOpt
    from skfolio.cluster import HierarchicalClustering, LinkageMethod
    from skfolio.optimization import HierarchicalRiskParity
    from skfolio.seriation import HierarchicalSeriation

    def pyportfolioopt() -> np.ndarray:
        return pd.Series(HRPOpt(frame).optimize())[frame.columns].to_numpy()

    def skfolio() -> np.ndarray:
        clustering = HierarchicalClustering(linkage_method=LinkageMethod.SINGLE)
        order = HierarchicalSeriation(hierarchical_clustering_estimator=clustering, optimal_ordering=False)
        return np.asarray(HierarchicalRiskParity(seriation_estimator=order).fit(frame).weights_)

    peers: dict[str, Weights] = {"pyportfolioopt": pyportfolioopt, "skfolio": skfolio}
    if find_spec("riskfolio") and frame.shape[1] <= RISKFOLIO_UP_TO:
        import riskfolio  # pyright: ignore[reportMissingImports]

        def riskfolio_lib() -> np.ndarray:
            portfolio = riskfolio.HCPortfolio(returns=frame)
            found = portfolio.optimization(model="HRP", rm="MV", linkage="single", leaf_order=False)
            return found["weights"][frame.columns].to_numpy()

        peers["Riskfolio-Lib"] = riskfolio_lib
    return peers


def contribution_peers(frame: pd.DataFrame) -> dict[str, Weights]:
    """Hierarchical equal risk contribution."""
    from skfolio.cluster import HierarchicalClustering, LinkageMethod
    from skfolio.optimization import HierarchicalEqualRiskContribution

    def skfolio() -> np.ndarray:
        clustering = HierarchicalClustering(max_clusters=CLUSTERS, linkage_method=LinkageMethod.WARD)
        model = HierarchicalEqualRiskContribution(hierarchical_clustering_estimator=clustering)
        return np.asarray(model.fit(frame).weights_)

    return {"skfolio": skfolio}


def nested_peers(frame: pd.DataFrame) -> dict[str, Weights]:
    """Nested clusters with least variance within and across."""
    from skfolio.cluster import HierarchicalClustering, LinkageMethod
    from skfolio.optimization import MeanRisk, NestedClustersOptimization

    exact = {"tol_gap_abs": 1e-12, "tol_gap_rel": 1e-12, "tol_feas": 1e-12}
    percent = 100 * frame  # in fractions their solver ends early

    def skfolio() -> np.ndarray:
        clustering = HierarchicalClustering(max_clusters=CLUSTERS, linkage_method=LinkageMethod.WARD)
        model = NestedClustersOptimization(
            inner_estimator=MeanRisk(solver_params=exact),
            outer_estimator=MeanRisk(solver_params=exact),
            clustering_estimator=clustering,
            cv="ignore",
        )
        return np.asarray(model.fit(percent).weights_)

    return {"skfolio": skfolio}


def compare(what: str, frame: pd.DataFrame, ours: Callable[[], Any], peers: dict[str, Weights]) -> Record:
    """Times, ratios, and how far the weights are apart."""
    result = ours()
    weights, seconds, repeats = timed(lambda: ours().weights.to_numpy())
    record: Record = {
        "what": what,
        "periods": frame.shape[0],
        "assets": frame.shape[1],
        "seconds": seconds,
        "repeats": repeats,
        "deviation": result.certificate.gap,
        "largest_violation": result.certificate.max_violation,
    }
    for name, call in peers.items():
        theirs, taken, count = timed(call)
        record[name] = {
            "seconds": taken,
            "repeats": count,
            "times_slower": taken / seconds,
            "weights_differ_by": float(np.abs(theirs - weights).max()),
        }
    return record


def variants(frame: pd.DataFrame) -> Record:
    """What the settings that the peers do not share, or that take longer, cost here."""
    settings: dict[str, dict[str, Any]] = {
        "published": {},
        "cvar": {"risk": "cvar"},
        "bounds": {"bounds": (0.1 / frame.shape[1], 2.0 / frame.shape[1])},
        "ward": {"linkage": "ward", "distance": "correlation"},
        "optimal_leaf_order": {"linkage": "ward", "distance": "correlation", "leaf_order": "optimal"},
    }
    times = {
        name: timed(lambda given=given: np.asarray(hrp(frame, **given).weights))[1] for name, given in settings.items()
    }
    return {"what": "variants of hrp", "periods": frame.shape[0], "assets": frame.shape[1], "seconds": times}


def main() -> None:
    """Run all, printing and writing each record as it comes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hierarchy", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, and nothing is written")
    quick = parser.parse_args().quick
    warnings.simplefilter("ignore")  # of other people's packages
    records: list[Record] = []
    payload = {"benchmark": "hierarchy", "machine": machine(), "records": records}

    def add(record: Record) -> None:
        records.append(record)
        print(json.dumps(record), flush=True)
        if not quick:
            OUTPUT.write_text(json.dumps(payload, indent=1) + "\n")

    for assets in (30, 60) if quick else SIZES:
        frame = returns(assets)
        add(compare("hrp", frame, lambda frame=frame: hrp(frame, distance="correlation"), parity_peers(frame)))
        if assets < SIZES[-1]:
            add(compare("herc", frame, lambda frame=frame: herc(frame, clusters=CLUSTERS), contribution_peers(frame)))
            add(
                compare(
                    "nested clusters",
                    frame,
                    lambda frame=frame: nested_clusters(frame, clusters=CLUSTERS),
                    nested_peers(frame),
                )
            )
        add(variants(frame))


if __name__ == "__main__":
    main()

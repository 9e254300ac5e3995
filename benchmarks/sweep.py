"""Thousands of what-ifs over one scenario matrix: other aversions to risk and other expected returns."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

import portfolioopt as po

from . import aims, tables
from .contest import enter, mine
from .instances import EXACT, FloatArray, Instance, make
from .one import fastest_exact, over
from .options import Options
from .peers import OURS, PEERS, highs
from .peers import lp as programs
from .peers.ours import problem as pose_ours
from .tables import Table

Record = dict[str, Any]

CONTENDERS = (OURS, "highs-dual", "skfolio")
MEASURED = {"highs-dual": 100, "skfolio": 5}
"""What-ifs that a peer is timed on; its time for more is extrapolated."""


def run(options: Options) -> Iterator[Record]:
    """Measure; yields a record for each contender and number of what-ifs."""
    size = options.sizes[0] if options.sizes else (1_000, 50)
    for count in (1, 10, 100) if options.quick else (1, 10, 100, 1_000, 10_000):
        for key in options.chosen(CONTENDERS):
            if key not in CONTENDERS:
                continue
            arguments = {"peer": key, "scenarios": size[0], "assets": size[1], "count": count}
            yield enter("benchmarks.sweep:measure", arguments, options)


def what_ifs(instance: Instance, count: int) -> tuple[FloatArray, FloatArray]:
    """Aversions (count,) from 0.5 to 5, and means (count, N) within the sampling error of the scenarios' own."""
    rng = np.random.default_rng(1)
    error = instance.returns.std(axis=0) / np.sqrt(instance.scenarios)
    means = instance.mean + 0.5 * error * rng.standard_normal((count, instance.assets))
    return rng.permutation(np.geomspace(0.5, 5.0, count)), means


def measure(peer: str, scenarios: int, assets: int, count: int) -> Iterator[Record]:
    """Time one contender and judge a part of its portfolios; in a process of its own."""
    instance = make("P1", "factor_t", scenarios, assets)
    aversions, means = what_ifs(instance, count)
    measured = min(count, MEASURED.get(peer, count))
    if peer == OURS:
        record, found = _ours(instance, aversions, means)
    elif peer == "highs-dual":
        record, found = _hot(instance, aversions[:measured], means[:measured])
    else:
        record, found = _one_by_one(peer, instance, aversions[:measured], means[:measured])
    record |= {"measured": measured, "extrapolated": measured < count}
    record["seconds"] *= count / measured
    record["per_second"] = count / record["seconds"]
    yield record | _judged(instance, aversions, means, found)


def _ours(instance: Instance, aversions: FloatArray, means: FloatArray) -> tuple[Record, FloatArray]:
    """Two axes, zipped."""
    problem, names = pose_ours(instance), pd.Index(instance.names)
    axes = {"CVaR.weight": aversions.tolist(), "ExpectedReturn.mean": [pd.Series(mean, names) for mean in means]}
    start = time.perf_counter()
    po.sweep(problem, over=axes, how="zip")
    first = time.perf_counter() - start
    start = time.perf_counter()
    found = po.sweep(problem, over=axes, how="zip")
    return {"seconds": time.perf_counter() - start, "first_call_seconds": first}, found.weights.to_numpy()


def _hot(instance: Instance, aversions: FloatArray, means: FloatArray) -> tuple[Record, FloatArray]:
    """One dual model; with the objective divided by the aversion only the rows' bounds move, and the basis stays."""
    lp, scale = programs.dual(replace(instance, aversion=1.0)), programs.unit(instance)
    start = time.perf_counter()
    model, found = highs.Model(lp), []
    for aversion, mean in zip(aversions, means, strict=True):
        for row, upper in enumerate(-mean * (scale / aversion)):
            model.highs.changeRowBounds(row, -np.inf, float(upper))
        found.append(highs.dual_weights(model.run())[: instance.assets])
    return {"seconds": time.perf_counter() - start}, np.array(found)


def _one_by_one(peer: str, instance: Instance, aversions: FloatArray, means: FloatArray) -> tuple[Record, FloatArray]:
    """A peer without batches. Those that estimate the mean themselves get scenarios moved to have it.

    Moving every scenario by a constant d changes the objective by (1 + aversion) d'w, so the move is that much smaller.
    """
    taken, found = 0.0, []
    for aversion, mean in zip(aversions, means, strict=True):
        move = (mean - instance.mean) / (1.0 + aversion)
        returns = instance.returns + move
        solve = PEERS[peer].prepare(replace(instance, returns=returns, mean=instance.mean + move, aversion=aversion))
        start = time.perf_counter()
        found.append(solve().weights)
        taken += time.perf_counter() - start
    return {"seconds": taken}, np.array(found)


def _judged(instance: Instance, aversions: FloatArray, means: FloatArray, found: FloatArray) -> Record:
    """At most 50 of the portfolios, spread evenly, against HiGHS."""
    gaps, violations = [], []
    for i in np.unique(np.linspace(0, len(found) - 1, min(50, len(found))).round().astype(int)):
        posed = replace(instance, aversion=float(aversions[i]), mean=means[i])
        best = posed.objective(highs.dual(posed)().weights)
        gaps.append((best - posed.objective(found[i])) / abs(best))
        violations.append(posed.violation(found[i]))
    exact = bool(max(gaps) <= EXACT and max(violations) <= EXACT)
    return {"gap": max(gaps), "violation": max(violations), "exact": exact}


def report(records: list[Record], settings: dict[str, Any]) -> list[Table]:
    """Problems per second by number of what-ifs."""
    rows = []
    for r in records:
        group = [other for other in records if other["count"] == r["count"]]
        ours = mine(group, OURS)
        rows.append(
            [
                PEERS[r["peer"]].title + (", extrapolated" if r.get("extrapolated") else ""),
                f"{r['count']:,}",
                tables.seconds(r["seconds"]) if r["status"] == "ok" else r["status"],
                f"{r['per_second']:,.0f}" if r["status"] == "ok" else "-",
                tables.ratio(over(r, ours)),
                tables.small(r.get("gap")),
                tables.small(r.get("violation")),
            ]
        )
    headers = ["", "what-ifs", "time", "per second", "of ours", "largest gap", "violation"]
    return [Table(f"What-ifs at {tables.size(records[0]['scenarios'], records[0]['assets'])}", headers, rows)]


def goals(records: list[Record]) -> list[aims.Goal]:
    """A thousand what-ifs against the fastest exact peer."""
    group = [r for r in records if r["count"] == 1_000]
    what = f"1,000 what-ifs at {tables.size(records[0]['scenarios'], records[0]['assets'])}"
    reached = over(fastest_exact(group), mine(group, OURS))
    return [aims.at_least(f"{what}: the fastest exact peer's time over ours", aims.BATCH, reached)]

"""The efficient frontier: 50 portfolios of least CVaR, from the least of all to the best mean."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

import portfolioopt as po

from . import aims, tables
from .contest import enter, mine
from .instances import EXACT, FloatArray, Instance, best_mean, make
from .one import fastest_exact, over
from .options import Options
from .peers import OURS, PEERS, highs
from .peers import lp as programs
from .peers.ours import problem as pose_ours
from .tables import Table

Record = dict[str, Any]

CONTENDERS = (OURS, "highs-primal", "highs-dual", "skfolio")
FEW = 3
"""Points that skfolio is timed on; its time for all of them is extrapolated."""


def run(options: Options) -> Iterator[Record]:
    """Measure; yields a record for each contender."""
    points = 10 if options.quick else 50
    size = options.sizes[0] if options.sizes else (1_000, 50) if options.quick else (2_000, 200)
    for key in options.chosen(CONTENDERS):
        if key not in CONTENDERS:
            continue
        arguments = {"peer": key, "scenarios": size[0], "assets": size[1], "points": points}
        yield enter("benchmarks.frontier:measure", arguments, options)


def measure(peer: str, scenarios: int, assets: int, points: int) -> Iterator[Record]:
    """Time one contender and judge its portfolios; in a process of its own."""
    instance = replace(make("P3", "factor_t", scenarios, assets), target=None)
    low = float(instance.mean @ highs.dual(instance)().weights)
    high = best_mean(instance)
    targets = np.linspace(low, high, points)
    targets[-1] = high - 1e-12 * abs(high)  # rounding must not put the end out of reach
    match peer:
        case "portfolioopt":
            record, found = _ours(instance, points)
        case "highs-primal":
            record, found = _hot_rows(instance, targets)
        case "highs-dual":
            record, found = _hot_costs(instance, targets)
        case _:
            record, found = _few(peer, instance, targets)
    yield record | _judged(instance, found)


def _ours(instance: Instance, points: int) -> tuple[Record, FloatArray]:
    problem = pose_ours(instance)
    start = time.perf_counter()
    po.frontier(problem, points)
    first = time.perf_counter() - start
    start = time.perf_counter()
    found = po.frontier(problem, points)
    taken = time.perf_counter() - start
    return {"seconds": taken, "first_call_seconds": first, "measured_points": points}, found.weights.to_numpy()


def _hot_rows(instance: Instance, targets: FloatArray) -> tuple[Record, FloatArray]:
    """One primal model: only the bound of the return row moves, and the basis stays."""
    lp = programs.primal(replace(instance, target=float(targets[0])))
    row = instance.scenarios + 1
    scale = programs.unit(instance)
    start = time.perf_counter()
    model, found = highs.Model(lp), []
    for target in targets:
        model.highs.changeRowBounds(row, float(target) * scale, np.inf)
        found.append(model.run().col_value[: instance.assets])
    return {"seconds": time.perf_counter() - start, "measured_points": len(targets)}, np.array(found)


def _hot_costs(instance: Instance, targets: FloatArray) -> tuple[Record, FloatArray]:
    """One dual model: only the cost of the return's multiplier moves, and the basis stays."""
    lp = programs.dual(replace(instance, target=float(targets[0])))
    column = len(lp.cost) - 1
    scale = programs.unit(instance)
    start = time.perf_counter()
    model, found = highs.Model(lp), []
    for target in targets:
        model.highs.changeColCost(column, -float(target) * scale)
        found.append(highs.dual_weights(model.run())[: instance.assets])
    return {"seconds": time.perf_counter() - start, "measured_points": len(targets)}, np.array(found)


def _few(peer: str, instance: Instance, targets: FloatArray) -> tuple[Record, FloatArray]:
    """A few points, spread over the frontier, and the time for all of them at that pace."""
    chosen = targets[np.linspace(0, len(targets) - 1, min(FEW, len(targets))).round().astype(int)]
    taken, found = 0.0, []
    for target in chosen:
        solve = PEERS[peer].prepare(replace(instance, target=float(target)))
        start = time.perf_counter()
        found.append(solve().weights)
        taken += time.perf_counter() - start
    extrapolated = taken * len(targets) / len(chosen)
    return {"seconds": extrapolated, "measured_points": len(chosen), "extrapolated": True}, np.array(found)


def _judged(instance: Instance, found: FloatArray) -> Record:
    """Each portfolio against the least CVaR for its own mean."""
    gaps, violations = [], []
    model = highs.Model(programs.dual(replace(instance, target=0.0)))
    column, scale = model.highs.getNumCol() - 1, programs.unit(instance)
    for weights in found:
        # a hair less than its own mean: rounding must not put the reference out of reach
        target = float(instance.mean @ weights) - 1e-15
        model.highs.changeColCost(column, -target * scale)
        least = instance.cvar(highs.dual_weights(model.run())[: instance.assets])
        gaps.append((instance.cvar(weights) - least) / least)
        violations.append(instance.violation(weights))
    exact = bool(max(gaps) <= EXACT and max(violations) <= EXACT)
    return {"gap": max(gaps), "violation": max(violations), "exact": exact}


def report(records: list[Record], settings: dict[str, Any]) -> list[Table]:
    """Seconds for the whole frontier."""
    ours = mine(records, OURS)
    rows = [
        [
            PEERS[r["peer"]].title + (", extrapolated" if r.get("extrapolated") else ""),
            str(r["points"]),
            str(r.get("measured_points", "-")),
            tables.seconds(r["seconds"]) if r["status"] == "ok" else r["status"],
            tables.seconds(r["seconds"] / r["points"]) if r["status"] == "ok" else "-",
            tables.ratio(over(r, ours)),
            tables.small(r.get("gap")),
            tables.small(r.get("violation")),
        ]
        for r in records
    ]
    headers = ["", "points", "measured", "time", "per point", "of ours", "largest gap", "violation"]
    first = records[0]
    return [Table(f"Frontier at {tables.size(first['scenarios'], first['assets'])}", headers, rows)]


def goals(records: list[Record]) -> list[aims.Goal]:
    """The whole frontier against the fastest exact peer."""
    where = f"frontier of {records[0]['points']} points at {tables.size(records[0]['scenarios'], records[0]['assets'])}"
    reached = over(fastest_exact(records), mine(records, OURS))
    return [aims.at_least(f"{where}: the fastest exact peer's time over ours", aims.FRONTIER, reached)]

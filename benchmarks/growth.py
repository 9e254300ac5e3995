"""How time grows with the number of scenarios, with the number of assets, and far beyond memory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

import portfolioopt as po

from . import aims, isolate, one, tables
from .instances import BETA, FloatArray
from .options import Options
from .peers import OURS, PEERS
from .tables import Table

Record = dict[str, Any]

CONTENDERS = (OURS, "highs-dual", "fortitudo", "skfolio")
ASSETS, SCENARIOS = 50, 10_000
"""What is held while the other grows."""
BY_SCENARIOS = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
BY_ASSETS = (25, 50, 100, 200, 400)
LINEAR_FROM = 10_000
"""Scenarios from which growth is fitted."""
HUGE = (10_000_000, 50)


def run(options: Options) -> Iterator[Record]:
    """Measure; yields the records of `one`, each with the `axis` that it belongs to."""
    axes = {
        "scenarios": [(s, ASSETS) for s in (BY_SCENARIOS[:3] if options.quick else BY_SCENARIOS)],
        "assets": [(2_000 if options.quick else SCENARIOS, n) for n in (BY_ASSETS[:2] if options.quick else BY_ASSETS)],
    }
    for axis, sizes in axes.items():
        stopped: dict[tuple[str, str], str] = {}
        for size in sizes:
            for key in options.chosen(CONTENDERS):
                yield one.attempt(options, key, "P1", "factor_t", size, stopped) | {"axis": axis}
    if options.huge:
        size = (100_000, 50) if options.quick else HUGE
        arguments = {"scenarios": size[0], "assets": size[1]}
        limits: dict[str, float] = {"seconds": 4 * options.seconds, "gigabytes": options.gigabytes}
        record = isolate.run("benchmarks.growth:measure_huge", arguments, **limits)
        yield arguments | {"axis": "huge", "peer": OURS, "problem": "P1", "data": "generated"} | record


def measure_huge(scenarios: int, assets: int) -> Iterator[Record]:
    """Solve over scenarios that are made anew on every pass and never kept; in a process of its own."""
    rows, names = 100_000, [f"A{i:04d}" for i in range(assets)]
    mean = np.random.default_rng(0).normal(4e-4, 3e-4, assets)
    spread = np.random.default_rng(1).uniform(0.006, 0.015, assets)

    def chunk(number: int) -> FloatArray:
        rng = np.random.default_rng([2, number])
        returns = rng.standard_normal((rows, assets)) * spread + mean
        return returns + 0.01 * rng.standard_normal((rows, 1))

    held = isolate.peak_gib()
    posed = po.Problem(
        po.ScenarioSet.generated(chunk, scenarios, names, chunk_rows=rows),
        po.ExpectedReturn(pd.Series(mean, names)) - po.CVaR(BETA),
        [po.Budget(), po.Bounds(0.0, 0.1)],
    )
    start = time.perf_counter()
    result = po.optimize(posed)
    taken = time.perf_counter() - start
    assert result.certificate is not None
    certificate = result.certificate
    yield {
        "seconds": taken - result.timings.compile,
        "compile_seconds": result.timings.compile,
        "details": {"certified_gap": certificate.gap, "passes": result.passes},
        "violation": certificate.max_violation,
        "peak_gib_before": held,
        "data_gib": scenarios * assets * 8 / 2**30,
    }


def slope(records: list[Record]) -> float | None:
    """Power of S that our time grows with, by least squares on logarithms."""
    mine = [r for r in records if r["axis"] == "scenarios" and r["peer"] == OURS and r["status"] == "ok"]
    points = [(r["scenarios"], r["seconds"]) for r in mine if r["scenarios"] >= LINEAR_FROM]
    if len(points) < 2:
        return None
    x, y = np.log(np.array(points, dtype=float)).T
    return float(np.polyfit(x, y, 1)[0])


def judge(records: list[Record]) -> None:
    """As in `one`, for the records that have peers."""
    one.judge([r for r in records if r["axis"] != "huge"])


def report(records: list[Record], settings: dict[str, Any]) -> list[Table]:
    """Times by S and by N, the power of S, and the huge case."""
    found = []
    for axis, held in (("scenarios", f"N = {ASSETS}"), ("assets", "S fixed")):
        group = [r for r in records if r["axis"] == axis]
        if not group:
            continue
        keys = [key for key in PEERS if any(r["peer"] == key for r in group)]
        sizes = list(dict.fromkeys((r["scenarios"], r["assets"]) for r in group))
        by = {(r["peer"], r["scenarios"], r["assets"]): r for r in group}
        rows = [[PEERS[key].title, *(one.cell(by.get((key, *size))) for size in sizes)] for key in keys]
        found.append(Table(f"Time against {axis} ({held})", ["peer", *(tables.size(*size) for size in sizes)], rows))
    return found + [_huge(r) for r in records if r["axis"] == "huge"]


def goals(records: list[Record]) -> list[aims.Goal]:
    """Growth with S, and memory where the scenarios are never in it."""
    where = f"time from {LINEAR_FROM:,} scenarios at N = {ASSETS}"
    found = [aims.at_most(f"{where}: power of S", aims.GROWTH, slope(records))]
    huge = next((r for r in records if r["axis"] == "huge"), None)
    if huge is not None:
        what = f"{tables.size(huge['scenarios'], huge['assets'])}, generated: peak memory"
        found.append(aims.at_most(what, aims.HUGE_MEMORY, huge.get("peak_gib"), " GiB"))
    return found


def _huge(r: Record) -> Table:
    details = r.get("details") or {}
    rows = [
        [
            tables.size(r["scenarios"], r["assets"]),
            tables.seconds(r["seconds"]) if r["status"] == "ok" else f"{r['status']}: {r.get('why', '')}",
            tables.plain(r.get("peak_gib")),
            tables.plain(r.get("data_gib")),
            tables.plain(details.get("passes")),
            tables.small(details.get("certified_gap")),
        ]
    ]
    return Table(
        "Generated scenarios, never in memory",
        ["S x N", "time", "peak GiB", "matrix GiB", "passes", "certified gap"],
        rows,
    )

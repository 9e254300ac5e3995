"""One problem, once: every peer, problem, kind of data and size, each in a process of its own."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from . import aims, tables
from .contest import enter, mine
from .instances import CLEAN, EXACT, PROBLEMS, make
from .options import Options
from .peers import OURS, PEERS
from .tables import Table
from .timing import timed

Record = dict[str, Any]


def run(options: Options) -> Iterator[Record]:
    """Measure; yields a record for each peer, problem, kind of data and size, also for those that were not run."""
    for data in options.data:
        stopped: dict[tuple[str, str], str] = {}
        for size in options.sizes_of(data):
            for problem in PROBLEMS:
                if not options.wants(problem, size):
                    continue
                for key in options.chosen():
                    yield attempt(options, key, problem, data, size, stopped)


def attempt(
    options: Options, key: str, problem: str, data: str, size: tuple[int, int], stopped: dict[tuple[str, str], str]
) -> Record:
    """One measurement, or why there is none; `stopped` remembers who ran out of time or memory, and where."""
    peer = PEERS[key]
    arguments = {"peer": key, "problem": problem, "data": data, "scenarios": size[0], "assets": size[1]}
    if problem in peer.unsupported:
        return arguments | {"status": "not supported", "why": peer.unsupported[problem]}
    if (key, problem) in stopped:
        return arguments | {"status": "skipped", "why": stopped[key, problem]}
    record = enter("benchmarks.one:measure", arguments, options)
    if record["status"] in ("time limit", "memory limit"):
        stopped[key, problem] = f"{record['status']} at {tables.size(*size)}"
    return record


def measure(peer: str, problem: str, data: str, scenarios: int, assets: int) -> Iterator[Record]:
    """Time one peer on one instance and judge its answer; in a process of its own."""
    instance = make(problem, data, scenarios, assets)
    start = time.perf_counter()
    solve = PEERS[peer].prepare(instance)
    record: Record = {"prepare_seconds": time.perf_counter() - start}
    yield record
    for answer, figures in timed(solve):
        record |= figures | {"details": answer.details, "objective": instance.objective(answer.weights)}
        record |= {"violation": instance.violation(answer.weights), "violations": instance.violations(answer.weights)}
        yield record
    if peer == OURS:
        yield record | {"losses_seconds": _losses_seconds(instance.returns)}


def _losses_seconds(returns: np.ndarray) -> float:
    """Median time of NumPy's R @ w."""
    weights = np.full(returns.shape[1], 1.0 / returns.shape[1])
    taken: list[float] = []
    for _ in range(9):
        start = time.perf_counter()
        np.matmul(returns, weights)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def judge(records: list[Record]) -> None:
    """Add the gap to the best known objective, and whether the answer counts as exact.

    The best known is the best objective among answers that violate nothing by more than 1e-7.
    """
    for group in _groups(records).values():
        clean = [r["objective"] for r in group if r.get("violation", np.inf) <= CLEAN]
        for record in group:
            if "objective" not in record or not clean:
                continue
            best = max(clean)
            record["best_known"] = best
            record["gap"] = (best - record["objective"]) / abs(best)
            record["exact"] = bool(record["gap"] <= EXACT and record["violation"] <= EXACT)


def report(records: list[Record], settings: dict[str, Any]) -> list[Table]:
    """The ratio table, one table of all peers per problem and kind of data, and how compiling went."""
    found = [_ratios(records)]
    for data in dict.fromkeys(r["data"] for r in records):
        for problem, words in PROBLEMS.items():
            chosen = [r for r in records if r["data"] == data and r["problem"] == problem]
            if chosen:
                found.append(_everybody(f"{problem}: {words} ({data})", chosen))
    return found


def _ratios(records: list[Record]) -> Table:
    rows: list[list[str]] = []
    for (data, problem, scenarios, assets), group in _groups(records).items():
        ours = next((r for r in group if r["peer"] == OURS), None)
        if ours is None:
            continue
        peer = fastest_exact(group)
        aim = aims.RATIO.get((scenarios, assets)) if problem == "P1" and data == "factor_t" else None
        first = _groups(records).get((data, "P1", scenarios, assets), [])
        base = next((r for r in first if r["peer"] == OURS), {})
        details = ours.get("details") or {}
        limit = aims.losses(scenarios, assets)
        rows.append(
            [
                f"{problem} {'' if data == 'factor_t' else data}".strip(),
                tables.size(scenarios, assets),
                PEERS[peer["peer"]].title if peer else "none",
                tables.seconds(ours.get("seconds")) if ours["status"] == "ok" else ours["status"],
                tables.seconds(peer["seconds"]) if peer else "-",
                tables.ratio(over(peer, ours)),
                f"{aim.value:g}x ({aim.stretch:g}x)" if aim and aim.stretch else "-",
                tables.ratio(over(ours, base)) if problem != "P1" else "-",
                tables.small(ours.get("gap")),
                tables.small(details.get("certified_gap")),
                tables.small(ours.get("violation")),
                tables.plain(over(ours, ours, "seconds", "losses_seconds")) + (f" ({limit.value:g})" if limit else ""),
                tables.plain(details.get("passes")) + (f" ({aims.PASSES.value:g})" if scenarios >= aims.LARGE else ""),
                tables.seconds(ours.get("compile_seconds")),
            ]
        )
    headers = ["problem", "S x N", "fastest exact peer", "ours", "peer", "ratio", "aim (stretch)", "of P1", "gap"]
    headers += ["certified", "violation", "losses (aim)", "passes (aim)", "compile"]
    return Table("Ours against the fastest exact peer", headers, rows, words=3)


def goals(records: list[Record]) -> list[aims.Goal]:
    """Ratios at the sizes that have an aim, the physical limit, and the other problems beside P1."""
    found = []
    groups = {key[1:]: group for key, group in _groups(records).items() if key[0] == "factor_t"}
    for size, aim in aims.RATIO.items():
        group, where = groups.get(("P1", *size), []), f"P1 at {tables.size(*size)}"
        ours = mine(group, OURS)
        reached = over(fastest_exact(group), ours)
        found.append(aims.at_least(f"{where}: the fastest exact peer's time over ours", aim, reached))
        limit = aims.losses(*size)
        if limit is not None:
            evaluations = over(ours, ours, "seconds", "losses_seconds")
            passes = ours["details"].get("passes") if ours else None
            found.append(aims.at_most(f"{where}: time in evaluations of the losses", limit, evaluations))
            found.append(aims.at_most(f"{where}: passes over the matrix", aims.PASSES, passes))
    for (problem, *size), group in groups.items():
        if problem != "P1":
            base = mine(groups.get(("P1", size[0], size[1]), []), OURS)
            slower = over(mine(group, OURS), base)
            where = f"{problem} at {tables.size(size[0], size[1])}"
            found.append(aims.at_most(f"{where}: time over P1's", aims.OTHER_PROBLEMS, slower, "x"))
    return found


def _everybody(title: str, records: list[Record]) -> Table:
    """Peers by size: the time, with its gap or violation where the answer is not exact."""
    sizes = sorted({(r["scenarios"], r["assets"]) for r in records}, key=lambda size: (size[0] * size[1], size))
    rows = []
    for key in PEERS:
        cells = [next((r for r in records if r["peer"] == key and _size(r) == size), None) for size in sizes]
        if any(cells):
            rows.append([PEERS[key].title, *(cell(record) for record in cells)])
    return Table(title, ["peer", *(tables.size(*size) for size in sizes)], rows)


def cell(record: Record | None) -> str:
    """A time; behind it what is wrong with the answer, or instead of it why there is none."""
    if record is None:
        return ""
    if record["status"] != "ok":
        return record["status"]
    text = tables.seconds(record["seconds"])
    if record.get("exact", True):
        return text
    flaws = [f"{name} {tables.small(record[name])}" for name in ("gap", "violation") if abs(record[name]) > EXACT]
    return f"{text} ({', '.join(flaws)})"


def fastest_exact(records: list[Record]) -> Record | None:
    """The fastest record of a peer whose answer is exact."""
    exact = [r for r in records if r["peer"] != OURS and r["status"] == "ok" and r.get("exact")]
    return min(exact, key=lambda record: record["seconds"], default=None)


def over(above: Record | None, below: Record | None, figure: str = "seconds", by: str = "seconds") -> float | None:
    """Ratio of two records' figures, where both have them."""
    if above is None or below is None or not above.get(figure) or not below.get(by):
        return None
    return above[figure] / below[by]


def _groups(records: list[Record]) -> dict[tuple[str, str, int, int], list[Record]]:
    """Records by instance."""
    found: dict[tuple[str, str, int, int], list[Record]] = {}
    for record in records:
        found.setdefault((record["data"], record["problem"], *_size(record)), []).append(record)
    return found


def _size(record: Record) -> tuple[int, int]:
    return record["scenarios"], record["assets"]

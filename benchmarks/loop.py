"""Again and again: a window over daily scenarios slides by one row, and the portfolio is optimised anew each time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

import portfolioopt as po

from . import aims, tables
from .contest import enter, mine
from .instances import EXACT, FloatArray, Instance, factor_t, pose
from .one import fastest_exact, over
from .options import Options
from .peers import OURS, PEERS, highs
from .peers import lp as programs
from .tables import Table

Record = dict[str, Any]
Step = Callable[[Instance, int], FloatArray]
"""Solves the window that starts at a row; called for one row after the other."""

CONTENDERS = (OURS, "highs-dual", "skfolio")
FEW = 5
"""Steps that skfolio is timed on; its time for all of them is extrapolated."""
TURNOVER = 0.05
"""Largest sum of trades per step, from the portfolio of the step before."""


def run(options: Options) -> Iterator[Record]:
    """Measure; yields a record for each contender, without and with a turnover limit."""
    size = options.sizes[0] if options.sizes else (1_000, 50)
    for turnover in (False, True):
        for key in options.chosen(CONTENDERS):
            if key not in CONTENDERS:
                continue
            arguments: Record = {"peer": key, "scenarios": size[0], "assets": size[1], "turnover": turnover}
            arguments["steps"] = 20 if options.quick else 100
            yield enter("benchmarks.loop:measure", arguments, options)


def measure(peer: str, scenarios: int, assets: int, turnover: bool, steps: int) -> Iterator[Record]:
    """Time one contender over the loop and judge each of its portfolios; in a process of its own.

    The first solve sets up, and compiles where that is done; it is not part of the loop.
    """
    returns, sector = factor_t(scenarios + steps, assets)
    weights = np.full(assets, 1.0 / assets)

    def window(first: int) -> Instance:
        posed = pose("P1", returns[first : first + scenarios], sector)
        return replace(posed, holdings=weights, turnover=TURNOVER) if turnover else posed

    instance = window(0)
    starters: dict[str, Callable[[Instance], Step]] = {OURS: _ours, "highs-dual": _hot}
    step = starters[peer](instance) if peer in starters else _cold(peer)
    weights = step(instance, 0)
    measured = min(steps, FEW) if peer not in starters else steps
    taken, gaps, violations = [], [], []
    for first in range(1, measured + 1):
        instance = window(first)
        start = time.perf_counter()
        found = step(instance, first)
        taken.append(time.perf_counter() - start)
        best = instance.objective(highs.dual(instance)().weights)
        gaps.append((best - instance.objective(found)) / abs(best))
        violations.append(instance.violation(found))
        weights = found
    yield {
        "seconds": sum(taken) * steps / measured,
        "median_step_seconds": float(np.median(taken)),
        "longest_step_seconds": max(taken),
        "measured_steps": measured,
        "extrapolated": measured < steps,
        "warm_start": peer in starters,
        "gap": max(gaps),
        "violation": max(violations),
        "exact": bool(max(gaps) <= EXACT and max(violations) <= EXACT),
    }


def _ours(instance: Instance) -> Step:
    """A new problem over the new window, started from the last result."""
    names = pd.Index(instance.names)
    previous: list[po.Result] = []

    def step(instance: Instance, first: int) -> FloatArray:
        days = pd.RangeIndex(first, first + instance.scenarios)
        constraints: list[Any] = [po.Budget(), po.Bounds(0.0, instance.cap)]
        if instance.turnover is not None:
            constraints.append(po.Turnover(instance.turnover))
        problem = po.Problem(
            po.ScenarioSet(pd.DataFrame(instance.returns, days, names)),
            po.ExpectedReturn() - instance.aversion * po.CVaR(instance.beta),
            constraints,
            holdings=None if instance.holdings is None else pd.Series(instance.holdings, names),
        )
        result = po.optimize(problem, warm_start=previous[-1] if previous else None)
        previous[:] = [result]
        assert result.weights is not None
        return result.weights.to_numpy()

    return step


def _hot(instance: Instance) -> Step:
    """One dual model: the oldest scenario's column becomes the newest's, bounds and costs follow, the basis stays."""
    scale, s, n = programs.unit(instance), instance.scenarios, instance.assets
    model = highs.Model(programs.dual(instance))
    held = model.highs.getNumCol() - n

    def step(instance: Instance, first: int) -> FloatArray:
        if first:
            column = (first - 1) % s
            for row, value in enumerate(instance.returns[-1] * scale):
                model.highs.changeCoeff(row, column, float(value))
            for row, upper in enumerate(-instance.mean * scale):
                model.highs.changeRowBounds(row, -np.inf, float(upper))
            if instance.holdings is not None:
                for asset, weight in enumerate(instance.holdings):
                    model.highs.changeColCost(held + asset, float(weight))
        return highs.dual_weights(model.run())[:n]

    return step


def _cold(peer: str) -> Step:
    return lambda instance, first: PEERS[peer].prepare(instance)().weights


def report(records: list[Record], settings: dict[str, Any]) -> list[Table]:
    """Seconds for the whole loop, without and with a turnover limit."""
    found = []
    for turnover in (False, True):
        group = [r for r in records if r["turnover"] is turnover]
        if not group:
            continue
        ours = mine(group, OURS)
        rows = [
            [
                PEERS[r["peer"]].title + (", extrapolated" if r.get("extrapolated") else ""),
                "yes" if r.get("warm_start") else "no",
                tables.seconds(r["seconds"]) if r["status"] == "ok" else r["status"],
                tables.seconds(r.get("median_step_seconds")),
                tables.seconds(r.get("longest_step_seconds")),
                tables.ratio(over(r, ours)),
                tables.small(r.get("gap")),
                tables.small(r.get("violation")),
            ]
            for r in group
        ]
        headers = ["", "warm start", "loop", "median step", "longest", "of ours", "largest gap", "violation"]
        title = f"{_where(group)}{', turnover limit' if turnover else ''}"
        found.append(Table(title, headers, rows))
    return found


def goals(records: list[Record]) -> list[aims.Goal]:
    """The loop against the fastest exact peer, and the one with a turnover limit against the one without."""
    plain = [r for r in records if not r["turnover"]]
    limited = mine([r for r in records if r["turnover"]], OURS)
    reached = over(fastest_exact(plain), mine(plain, OURS))
    slower = over(limited, mine(plain, OURS))
    return [
        aims.at_least(f"{_where(records)}: the fastest exact peer's time over ours", aims.LOOP, reached),
        aims.at_most(f"{_where(records)}: with a turnover limit over without", aims.LOOP_TURNOVER, slower, "x"),
    ]


def _where(records: list[Record]) -> str:
    return f"{records[0]['steps']} re-solves at {tables.size(records[0]['scenarios'], records[0]['assets'])}"

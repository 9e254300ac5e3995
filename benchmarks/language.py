"""The problem language: what each measure costs beside CVaR alone, and beside the same problem in cvxpy (Clarabel)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd

import portfolioopt as po

from . import aims, isolate, tables
from .instances import make
from .options import Options
from .peers import OURS
from .tables import Table
from .timing import LONG, OFTEN, SELDOM, SHORT

Record = dict[str, Any]

SIZES = ((1_000, 50), (10_000, 100))
PEER_SIZES = ((1_000, 50),)
"""Where cvxpy is timed too."""


class Setting:
    """What measures are made with."""

    def __init__(self, scenarios: int, assets: int) -> None:
        instance = make("P1", "factor_t", scenarios, assets)
        rng = np.random.default_rng(11)
        names = pd.Index(instance.names)
        days = pd.date_range("1980-01-01", periods=scenarios, freq="D")
        self.cap = instance.cap
        self.scenarios = po.ScenarioSet(pd.DataFrame(instance.returns, days, names))
        stressed = 1.5 * instance.returns[: scenarios // 4] - 0.002
        self.stressed = po.ScenarioSet(pd.DataFrame(stressed, columns=names))
        self.benchmark = pd.Series(rng.dirichlet(np.ones(assets)), names)
        self.holdings = pd.Series(rng.dirichlet(np.ones(assets)), names)
        self.covariance = pd.DataFrame(np.cov(instance.returns.T), names, names)
        self.risk = 0.02


Made = Callable[[Setting], Any]
TERMS: dict[str, Made] = {
    "CVaR": lambda s: po.CVaR(0.95),
    "CVaR at three levels": lambda s: po.SpectralRisk({0.9: 0.4, 0.95: 0.3, 0.99: 0.3}),
    "CVaR, base and stressed": lambda s: 0.5 * po.CVaR(0.95) + 0.5 * po.CVaR(0.95, scenarios=s.stressed),
    "worst of base and stressed": lambda s: po.WorstCase(po.CVaR(0.95), po.CVaR(0.95, scenarios=s.stressed)),
    "CVaR of active return": lambda s: 0.05 * po.CVaR(0.95, benchmark=s.benchmark),
    "worst loss": lambda s: po.WorstLoss(),
    "mean absolute deviation": lambda s: po.MeanAbsoluteDeviation(),
    "CVaR, proportional costs": lambda s: po.CVaR(0.95) + po.ProportionalCost(bps=5, sell=8),
    "robust CVaR, 2-norm": lambda s: po.RobustCVaR(0.95, 1e-4),
    "CVaR and variance": lambda s: po.CVaR(0.95) + 5.0 * po.Variance(),
    "CVaR and 3/2-power impact": lambda s: po.CVaR(0.95) + po.PowerCost(0.005),
    "variance of a covariance": lambda s: 10.0 * po.Variance(s.covariance),
    "volatility": lambda s: po.Volatility(),
    "tracking error": lambda s: 0.05 * po.TrackingError(benchmark=s.benchmark),
    "semi-deviation": lambda s: po.SemiDeviation(),
    "entropic VaR": lambda s: po.EntropicVaR(0.95),
    "conditional drawdown": lambda s: po.ConditionalDrawdown(0.9),
    "log growth": lambda s: -1.0 * po.LogGrowth(),
    # so dear that the benchmark itself is best: every scenario is tied there, and both measures have a kink
    "CVaR of active return, none taken": lambda s: po.CVaR(0.95, benchmark=s.benchmark),
    "tracking error, none taken": lambda s: po.TrackingError(benchmark=s.benchmark),
}
HINGES = [*list(TERMS)[:8], "CVaR of active return, none taken"]
"""What the kernel carries as hinges, and what is to keep its speed."""
SLOW = {"conditional drawdown"}
"""Not tried at the larger size: their linear program has several rows per scenario."""


def run(options: Options) -> Iterator[Record]:
    """Measure; yields a record for each measure, size and contender."""
    sizes = options.sizes or ((SIZES[0],) if options.quick else SIZES)
    for scenarios, assets in sizes:
        for name in TERMS:
            if name in SLOW and scenarios > SIZES[0][0]:
                continue
            for peer in (OURS, "cvxpy"):
                if peer not in options.chosen() or (peer != OURS and (scenarios, assets) not in PEER_SIZES):
                    continue
                arguments = {"peer": peer, "measure": name, "scenarios": scenarios, "assets": assets}
                call = "benchmarks.language:measure_one"
                yield arguments | isolate.run(call, arguments, seconds=options.seconds, gigabytes=options.gigabytes)


def measure_one(peer: str, measure: str, scenarios: int, assets: int) -> Iterator[Record]:
    """Time one contender on one measure; in a process of its own."""
    setting = Setting(scenarios, assets)
    limits = [po.Budget(), po.Bounds(0.0, setting.cap)]
    problem = po.Problem(
        setting.scenarios, po.ExpectedReturn() - TERMS[measure](setting), limits, holdings=setting.holdings
    )
    solve = _ours if peer == OURS else _theirs
    start = time.perf_counter()
    record = solve(problem)
    first = time.perf_counter() - start
    taken = []
    warm = first - record.get("compile_seconds", 0.0)
    for _ in range(OFTEN if warm <= SHORT else SELDOM if warm <= LONG else 1):
        start = time.perf_counter()
        record = solve(problem) | {"compile_seconds": record.get("compile_seconds", 0.0)}
        taken.append(time.perf_counter() - start)
    yield record | {"seconds": float(np.median(taken)), "first_call_seconds": first, "repeats": len(taken)}


def _ours(problem: po.Problem) -> Record:
    result = po.optimize(problem)
    assert result.certificate is not None
    return {
        "objective": result.objective,
        "scale": result.certificate.scale,
        "gap": result.certificate.gap,
        "violation": result.certificate.max_violation,
        "compile_seconds": result.timings.compile,
        "iterations": result.iterations,
    }


def _theirs(problem: po.Problem) -> Record:
    """The same problem, translated from the definitions; the translation is timed, as its users would have it."""
    from portfolioopt import reference

    found = reference.solve(problem, solver="CLARABEL")
    assert found.weights is not None
    view = problem.compiled.view(found.weights)
    objective = sum(c * term.value(view) for c, term in problem.objective.parts)
    return {"objective": float(objective), "violation": float(abs(found.weights.sum() - 1.0))}


def report(records: list[Record], settings: dict[str, Any]) -> list[Table]:
    """A table for each size."""
    found = []
    for size in dict.fromkeys((r["scenarios"], r["assets"]) for r in records):
        group = [r for r in records if (r["scenarios"], r["assets"]) == size]
        ours = {r["measure"]: r for r in group if r["peer"] == OURS}
        theirs = {r["measure"]: r for r in group if r["peer"] != OURS}
        plain = _seconds(ours.get("CVaR"))
        rows = []
        for name, r in ours.items():
            mine, other = _seconds(r), theirs.get(name)
            peer = _seconds(other)
            gap = None
            if r["status"] == "ok" and other is not None and other["status"] == "ok":
                gap = (r["objective"] - other["objective"]) / r["scale"]
            rows.append(
                [
                    name,
                    tables.seconds(mine) if mine is not None else r["status"],
                    tables.ratio(mine / plain if mine and plain else None),
                    tables.small(r.get("gap")),
                    tables.small(r.get("violation")),
                    tables.seconds(r.get("compile_seconds")),
                    tables.seconds(peer) if peer is not None else (other["status"] if other else "-"),
                    tables.ratio(peer / mine if peer and mine else None),
                    tables.small(gap),
                ]
            )
        headers = ["maximise mean less", "ours", "of CVaR", "certified", "violation", "compile"]
        headers += ["cvxpy", "of ours", "better by"]
        found.append(Table(tables.size(*size), headers, rows))
    return found


def goals(records: list[Record]) -> list[aims.Goal]:
    """What hinges carry, against CVaR alone."""
    found = []
    for size in dict.fromkeys((r["scenarios"], r["assets"]) for r in records):
        ours = {r["measure"]: r for r in records if r["peer"] == OURS and (r["scenarios"], r["assets"]) == size}
        plain = _seconds(ours.get("CVaR"))
        others = [_seconds(ours.get(name)) for name in HINGES[1:]]
        known = [seconds for seconds in others if seconds is not None]
        worst = max(known) / plain if plain and known else None
        what = f"hinge measures at {tables.size(*size)}: the slowest over CVaR alone"
        found.append(aims.at_most(what, aims.LANGUAGE, worst, "x"))
    return found


def _seconds(record: Record | None) -> float | None:
    return record["seconds"] if record is not None and record["status"] == "ok" else None

"""Entropy pooling beside fortitudo.tech and the entropy-pooling package: one set of views, and many at once.

``python -m benchmarks.pooling`` takes minutes and writes ``results/pooling.json``. 50 views (25 means, 25 volatilities)
are put on fat-tailed scenarios from a factor model. All get the same returns and the same numbers; the time includes
turning them into what the optimiser works on. The peers are called as their manuals show, with their default method,
and once more with rows divided by their standard deviations, which helps them; with BLAS threads and without. Neither
has a tolerance to set, so accuracy is shown beside the time: the largest error of a view, in prior standard deviations
of what it is on, and the relative entropy.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from portfolioopt.blas import quiet_blas
from portfolioopt.scenarios import MeanView, ScenarioSet, View, VolatilityView, entropy_pooling_batch, pooled

from .instances import FloatArray
from .machine import machine
from .peers import version

Record = dict[str, Any]
OUTPUT = Path(__file__).resolve().parent / "results" / "pooling.json"
ROUNDS = 5
_PEERS = {"fortitudo.tech": ("fortitudo.tech", "entropy_pooling"), "entropy-pooling": ("entropy_pooling", "ep")}


class Case(NamedTuple):
    """Scenarios, and sets of targets for means and volatilities of the first assets."""

    returns: FloatArray  # (S, N)
    means: FloatArray  # (B, m)
    volatilities: FloatArray  # (B, m)


def make(scenarios: int, views: int, sets: int) -> Case:
    """Scenarios with 5 factors and t(6) residuals; targets about a tenth of a standard deviation off, sets near by."""
    rng = np.random.default_rng(1)
    half = views // 2
    loadings = rng.normal(1.0, 0.3, (2 * half, 5))
    factors = rng.standard_normal((scenarios, 5))
    returns = 0.02 * factors @ loadings.T + 0.02 * rng.standard_t(6, (scenarios, 2 * half))
    mean, std = returns.mean(axis=0)[:half], returns.std(axis=0)[:half]
    shift = 0.1 * rng.normal(size=(2, half)) + 0.03 * rng.normal(size=(sets, 2, half))
    return Case(returns, mean + std * shift[:, 0], std * (1.0 + shift[:, 1]))


def errors(case: Case, b: int, p: FloatArray) -> tuple[float, float]:
    """Largest error of a view, and relative entropy."""
    half = case.means.shape[1]
    r = case.returns[:, :half]
    off = r - case.means[b]
    first = np.abs(p @ r - case.means[b]) / r.std(axis=0)
    second = np.abs(p @ off**2 - case.volatilities[b] ** 2) / (off**2).std(axis=0)
    positive = p[p > 0]
    entropy = float(positive @ np.log(positive * len(p)))
    return float(max(first.max(), second.max(), abs(p.sum() - 1.0))), entropy


def views_of(case: Case, b: int) -> list[View]:
    """The set number b as views."""
    views: list[View] = [MeanView(f"A{i}", value) for i, value in enumerate(case.means[b])]
    return views + [VolatilityView(f"A{i}", value) for i, value in enumerate(case.volatilities[b])]


def _given(case: Case) -> ScenarioSet:
    return ScenarioSet(case.returns, assets=[f"A{i}" for i in range(case.returns.shape[1])])


class Contender(NamedTuple):
    """A way to get posterior probabilities of the first so many sets."""

    what: str
    who: str
    sets: int
    solve: Callable[[], FloatArray]  # (sets, S)


def ours(case: Case) -> list[Contender]:
    """One set, and all in one call."""
    given = ScenarioSet(case.returns, assets=[f"A{i}" for i in range(case.returns.shape[1])])
    sets = [views_of(case, b) for b in range(len(case.means))]
    return [
        Contender("one", "portfolioopt", 1, lambda: pooled(given, sets[0]).probabilities[None]),
        Contender("batch", "portfolioopt", len(sets), lambda: entropy_pooling_batch(given, sets).probabilities),
    ]


def peer(case: Case, who: str, *, scaled: bool, threads: bool) -> Contender:
    """One set by a peer."""
    module, name = _PEERS[who]
    solve = getattr(importlib.import_module(module), name)
    half = case.means.shape[1]
    r = case.returns[:, :half]
    prior = np.full((len(r), 1), 1.0 / len(r))
    spread = np.concatenate([[1.0], r.std(axis=0), ((r - case.means[0]) ** 2).std(axis=0)])[:, None]

    def call() -> FloatArray:
        rows = np.vstack([np.ones(len(r)), r.T, (r - case.means[0]).T ** 2])
        values = np.concatenate([[1.0], case.means[0], case.volatilities[0] ** 2])[:, None]
        p = solve(prior, rows / spread, values / spread) if scaled else solve(prior, rows, values)
        return np.asarray(p).reshape(1, -1)

    def alone() -> FloatArray:
        with quiet_blas.hold():
            return call()

    label = who + (", rows scaled" if scaled else "") + ("" if threads else ", one BLAS thread")
    return Contender("one", label, 1, call if threads else alone)


def contest(case: Case, contenders: Sequence[Contender], rounds: int) -> list[Record]:
    """Call all in turn, round by round, so that whatever else the machine does falls on all of them."""
    taken: list[list[float]] = [[] for _ in contenders]
    accuracy: list[Record] = []
    for number in range(rounds + 1):
        for times, one in zip(taken, contenders, strict=True):
            start = time.perf_counter()
            found = one.solve()
            times.append(time.perf_counter() - start)
            if not number:
                off = [errors(case, b, p) for b, p in enumerate(found)]
                accuracy.append({"view_error": max(error for error, _ in off), "relative_entropy": off[0][1]})
    records = []
    for times, one, how_exact in zip(taken, contenders, accuracy, strict=True):
        seconds = statistics.median(times[1:])
        timing = {
            "first_call_seconds": times[0],
            "compile_seconds": 0.0,  # nothing is compiled by any of them
            "seconds": seconds,
            "least_seconds": min(times[1:]),
            "repeats": rounds,
            "seconds_per_set": seconds / one.sets,
        }
        records.append({"what": one.what, "who": one.who, "sets": one.sets} | how_exact | timing)
    for record in records:
        record["times_one"] = record["seconds_per_set"] / records[0]["seconds_per_set"]
        record["times_a_set_of_a_batch"] = record["seconds_per_set"] / records[1]["seconds_per_set"]
    return records


def main() -> None:
    """Run all, print, and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pooling", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few scenarios, and nothing is written")
    quick = parser.parse_args().quick
    scenarios, views, sets = (10_000, 20, 4) if quick else (100_000, 50, 16)
    case = make(scenarios, views, sets)
    contenders = ours(case)
    for who in _PEERS:
        if version(who) is None:
            print(f"{who} is not installed and left out")
            continue
        contenders += [peer(case, who, scaled=s, threads=t) for s in (False, True) for t in (True, False)]
    records = contest(case, contenders, ROUNDS)
    for record in records:
        print(json.dumps(record))
    for record in records[2:]:
        print(f"{record['who']}: {record['times_one']:.1f} times one call, ", end="")
        print(f"{record['times_a_set_of_a_batch']:.1f} times a set of a batch, view error {record['view_error']:.1e}")
    details = machine()
    details["versions"] |= {who: version(who) for who in _PEERS}
    payload = {"benchmark": "pooling", "machine": details, "scenarios": scenarios, "views": views, "records": records}
    if not quick:
        OUTPUT.write_text(json.dumps(payload, indent=1) + "\n")


if __name__ == "__main__":
    main()

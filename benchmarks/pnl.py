"""Revaluing books of options in every scenario: this library beside vectorised NumPy and SciPy.

``python -m benchmarks.pnl`` takes a minute and writes ``results/pnl.json``. 200 European options on 20 assets and 50
books of them are revalued in 100,000 scenarios of returns and volatility changes. The reference does the same in NumPy
with `scipy.special.ndtr`, in chunks that stay in cache, and judges the accuracy of the others.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtr

from portfolioopt.scenarios import Option, ScenarioSet, pnl

from .instances import FloatArray
from .machine import machine

Record = dict[str, Any]
OUTPUT = Path(__file__).resolve().parent / "results" / "pnl.json"
RATE, VOLATILITY = 0.03, 0.25


class Case:
    """Books of options, and how their underlyings move."""

    def __init__(self, scenarios: int, options: int, books: int) -> None:
        rng = np.random.default_rng(0)
        assets = [f"A{i:02d}" for i in range(20)]
        self.of = rng.integers(0, 20, options)
        self.strike = 100.0 * np.exp(rng.normal(0.0, 0.15, options))
        self.expiry = rng.uniform(0.05, 1.0, options)
        self.call = rng.random(options) < 0.5
        labels = [
            Option(assets[a], float(k), float(t), "call" if c else "put")
            for a, k, t, c in zip(self.of, self.strike, self.expiry, self.call, strict=True)
        ]
        self.returns = 0.02 * rng.standard_t(5, (scenarios, 20))
        self.changes = 0.02 * rng.normal(size=(scenarios, 20))
        self.units = rng.normal(size=(books, options))
        self.scenarios = ScenarioSet(self.returns, assets=assets)
        self.vols = pd.DataFrame(self.changes, columns=assets, index=self.scenarios.index)
        self.books = pd.DataFrame(self.units, columns=pd.Index(labels, dtype=object))
        self.spot = dict.fromkeys(assets, 100.0)

    def ours(self, method: Any = "full", dtype: Any = "float64") -> FloatArray:
        """By this library, without its labels."""
        return pnl(
            self.books,
            self.scenarios,
            self.spot,
            VOLATILITY,
            RATE,
            method=method,
            volatility_changes=self.vols,
            dtype=dtype,
        ).to_numpy()

    def _values(self, spot: FloatArray, volatility: FloatArray) -> FloatArray:
        total = volatility * np.sqrt(self.expiry)
        d = (np.log(spot / self.strike) + RATE * self.expiry) / total + 0.5 * total
        sign = np.where(self.call, 1.0, -1.0)
        kept = self.strike * np.exp(-RATE * self.expiry)
        return sign * (spot * ndtr(sign * d) - kept * ndtr(sign * (d - total)))

    def reference(self) -> FloatArray:
        """By NumPy and SciPy."""
        now = self._values(np.full(len(self.of), 100.0), np.full(len(self.of), VOLATILITY))
        out = np.empty((len(self.returns), len(self.units)))
        for first in range(0, len(out), 1000):
            part = slice(first, first + 1000)
            spot = 100.0 * (1.0 + self.returns[part])[:, self.of]
            out[part] = (self._values(spot, VOLATILITY + self.changes[part][:, self.of]) - now) @ self.units.T
        return out


def measure(who: str, call: Callable[[], FloatArray], exact: FloatArray, repeats: int = 5) -> Record:
    """Time and accuracy; compiling is in the first call only."""
    taken, found = [], exact
    for _ in range(repeats + 1):
        start = time.perf_counter()
        found = call()
        taken.append(time.perf_counter() - start)
    seconds = statistics.median(taken[1:])
    return {
        "who": who,
        "first_call_seconds": taken[0],
        "compile_seconds": max(taken[0] - seconds, 0.0),
        "seconds": seconds,
        "least_seconds": min(taken[1:]),
        "largest_error": float(np.abs(found - exact).max()),
        "largest_pnl": float(np.abs(exact).max()),
    }


def main() -> None:
    """Run all, print, and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pnl", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few scenarios, and nothing is written")
    quick = parser.parse_args().quick
    size = (5_000, 50, 10) if quick else (100_000, 200, 50)
    case = Case(*size)
    exact = case.reference()
    runs: list[tuple[str, Callable[[], FloatArray]]] = [
        ("NumPy and SciPy", case.reference),
        ("full", case.ours),
        ("full, float32", lambda: case.ours(dtype="float32")),
        ("delta_gamma", lambda: case.ours("delta_gamma")),
    ]
    records = []
    for who, call in runs:
        record = measure(who, call, exact, 3 if quick else 5)
        record["times_faster"] = (records[0] if records else record)["seconds"] / record["seconds"]
        records.append(record)
        print(json.dumps(record), flush=True)
    names = ("scenarios", "options", "books")
    payload = {"benchmark": "pnl", "machine": machine(), **dict(zip(names, size, strict=True)), "records": records}
    if not quick:
        OUTPUT.write_text(json.dumps(payload, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Run the benchmarks, print times and ratios, and write them to a JSON file.

``python -m benchmarks [--output FILE]``
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
OURS = "portfolioopt"
PACKAGES = ("portfolioopt", "jax", "jaxlib", "numpy", "scipy", "highspy", "clarabel", "cvxpy")


def run() -> list[dict[str, Any]]:
    """Time everything with pytest-benchmark; one record per size and solver."""
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw.json"
        arguments = [
            str(HERE / "bench_solvers.py"),
            "--benchmark-only",
            f"--benchmark-json={raw}",
            "-q",
            "-p",
            "no:cacheprovider",
            "--override-ini=python_files=bench_*.py",
            "--override-ini=python_functions=bench_*",
            "--override-ini=addopts=--import-mode=importlib",
        ]
        code = pytest.main(arguments)
        if code != 0:
            sys.exit(int(code))
        measured = json.loads(raw.read_text())["benchmarks"]
    records = [
        {**b["extra_info"], "median_seconds": b["stats"]["median"], "least_seconds": b["stats"]["min"]}
        | {"rounds": b["stats"]["rounds"]}
        for b in measured
    ]
    for record in records:
        best = max(r["objective"] for r in records if _size(r) == _size(record) and r["violation"] <= 1e-7)
        record["relative_gap_to_best"] = (best - record["objective"]) / abs(best)
        # what the first call took beyond a warm one: compiling here, imports and first canonicalisation elsewhere
        record["compile_seconds"] = max(record["first_call_seconds"] - record["median_seconds"], 0.0)
    return records


def _size(record: dict[str, Any]) -> tuple[int, int]:
    return record["scenarios"], record["assets"]


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    cpu = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        cpu = next((line.split(":", 1)[1].strip() for line in info.open() if line.startswith("model name")), cpu)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"cpu": cpu, "cores": cores, "python": platform.python_version(), "versions": versions}


def table(records: list[dict[str, Any]]) -> Table:
    """Times beside ratios and accuracy."""
    out = Table(title="Median solve time (warm), and what the answer was worth")
    for name in ("S x N", "solver", "seconds", "times ours", "first call extra", "gap to best", "violation"):
        out.add_column(name, justify="left" if name in ("S x N", "solver") else "right")
    for record in records:
        ours = next(r["median_seconds"] for r in records if _size(r) == _size(record) and r["solver"] == OURS)
        out.add_row(
            f"{record['scenarios']:,} x {record['assets']}",
            record["solver"],
            f"{record['median_seconds']:.4f}",
            f"{record['median_seconds'] / ours:.1f}",
            f"{record['compile_seconds']:.2f}",
            f"{record['relative_gap_to_best']:.1e}",
            f"{record['violation']:.1e}",
        )
    return out


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=HERE / "results" / "solvers.json", help="JSON file to write")
    output: Path = parser.parse_args().output
    records = run()
    console = Console(width=120)
    console.print(table(records))
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps({"machine": machine(), "records": records}, indent=2) + "\n")
    console.print(f"written to {output}")


main()

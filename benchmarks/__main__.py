"""Measure, print tables beside the aims, and write JSON files; then render the page in the docs.

``python -m benchmarks`` runs everything, which takes some hours; ``--quick`` takes some minutes, ``--full`` poses every
problem at every size. ``python -m benchmarks one --sizes 1000x50 --problems P1,P4 --peers portfolioopt,highs-dual``
narrows it down. ``python -m benchmarks report`` renders the page from the files.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from rich.console import Console

from . import frontier, gpu, growth, language, loop, one, report, sweep, tables
from .instances import DATA, PROBLEMS
from .machine import machine
from .options import Options, Size
from .peers import OURS, PEERS

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
SCRATCH = HERE.parent / "results" / "benchmarks"
"""Where a quick run leaves its files, so that it does not replace those of a whole one."""
BENCHMARKS: dict[str, ModuleType] = {
    "one": one,
    "frontier": frontier,
    "sweep": sweep,
    "loop": loop,
    "growth": growth,
    "language": language,
    "gpu": gpu,
}
ALONE = ("gradients", "allocators", "hierarchy", "estimates", "generators", "pooling", "pnl", "coverage", "backtests")
"""Those with a command and a report of their own."""


def measure(name: str, options: Options, output: Path, console: Console) -> None:
    """Run one benchmark, writing its file after every record, and print its tables."""
    module = BENCHMARKS[name]
    records: list[dict[str, Any]] = []
    settings = {
        "time_limit_seconds": options.seconds,
        "memory_limit_gigabytes": options.gigabytes,
        "quick": options.quick,
        "threads": "each library's default",
    }
    payload = {"benchmark": name, "machine": machine(), "settings": settings, "records": records}
    output.mkdir(parents=True, exist_ok=True)
    path = output / f"{name}.json"
    for record in module.run(options):
        records.append(record)
        if hasattr(module, "judge"):
            module.judge(records)
        path.write_text(json.dumps(payload, indent=1) + "\n")
        console.print(_line(record), highlight=False)
    for table in module.report(records, settings) if records else []:
        console.print(table.rich())
    if records:
        console.print(tables.goals(module.goals(records)).rich())
    console.print(f"written to {path}\n")


def _line(record: dict[str, Any]) -> str:
    """One record while the benchmark is running."""
    words = [str(record[name]) for name in ("data", "problem") if name in record]
    if "scenarios" in record:
        words.append(tables.size(record["scenarios"], record["assets"]))
    words += [f"{record[name]} {name}" for name in ("points", "count", "steps") if name in record]
    words.append(PEERS[record["peer"]].title if "peer" in record else "")
    outcome = tables.seconds(record["seconds"]) if record["status"] == "ok" else record["status"]
    return "  ".join([*words, outcome, record.get("why", "")]).rstrip()


def main() -> None:
    """Entry point."""
    console = Console(width=190)
    arguments = _parser().parse_args()
    output = arguments.output or (SCRATCH if arguments.quick else RESULTS)
    options = Options(
        seconds=arguments.timeout if arguments.timeout else 30.0 if arguments.quick else 300.0,
        gigabytes=arguments.memory,
        quick=arguments.quick,
        full=arguments.full,
        huge=arguments.huge,
        sizes=arguments.sizes,
        problems=arguments.problems,
        data=arguments.data or DATA,
        peers=arguments.peers,
    )
    for name in arguments.what or (*BENCHMARKS, *ALONE):
        if name in ALONE:
            # a process of its own: some change settings of JAX, and none is to find another's kernels compiled
            console.print(f"python -m benchmarks.{name}")
            quick = ["--quick"] if arguments.quick else []
            subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *quick], check=True)
        elif name != "report":
            measure(name, options, output, console)
    if "report" in arguments.what or (not arguments.what and output == RESULTS):
        for path in report.write(output):
            console.print(f"written {path}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = parser.add_argument
    known = (*BENCHMARKS, *ALONE, "report")
    add("what", nargs="*", type=_one(known), metavar="WHAT", help=f"{', '.join(known)}; all where none is named")
    extent = parser.add_mutually_exclusive_group()
    extent.add_argument(
        "--quick", action="store_true", help="small sizes, a few minutes, results in results/benchmarks"
    )
    extent.add_argument("--full", action="store_true", help="every problem at every size")
    add("--huge", action="store_true", help="in growth, also scenarios that are generated and never in memory")
    add("--sizes", type=_sizes, help="sizes such as 1000x50,2000x200; one that is 20 wide also for the bootstrap")
    add("--problems", type=_some(tuple(PROBLEMS)), help=f"some of {','.join(PROBLEMS)}")
    add("--data", type=_some(DATA), help=f"some of {','.join(DATA)}")
    add("--peers", type=_some(tuple(PEERS)), help=f"some of {','.join(PEERS)}; {OURS} is this library")
    add("--timeout", type=float, help="seconds for each measurement (300; 30 with --quick)")
    add("--memory", type=float, default=18.0, help="gigabytes for each measurement (18)")
    add("--output", type=Path, help="folder for the JSON files")
    return parser


def _sizes(text: str) -> tuple[Size, ...]:
    found = []
    for part in text.split(","):
        scenarios, _, assets = part.partition("x")
        if not (scenarios.isdigit() and assets.isdigit()):
            raise argparse.ArgumentTypeError(f"{part!r} is not a size such as 1000x50")
        found.append((int(scenarios), int(assets)))
    return tuple(found)


def _one(known: tuple[str, ...]) -> Callable[[str], str]:
    return lambda text: _some(known)(text)[0]


def _some(known: tuple[str, ...]) -> Callable[[str], tuple[str, ...]]:
    def parse(text: str) -> tuple[str, ...]:
        chosen = tuple(text.split(","))
        unknown = set(chosen) - set(known)
        if unknown:
            raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: there are {', '.join(known)}")
        return chosen

    return parse


if __name__ == "__main__":
    main()

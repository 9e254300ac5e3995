"""Sizes for a GPU: two single problems and a batch of 10,000, this library only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from . import aims, isolate, tables
from .options import Options
from .peers import OURS
from .tables import Table

Record = dict[str, Any]

SIZES = ((10_000, 392), (1_000_000, 500))
BATCH = (500, 50, 10_000)  # S, N, problems


def run(options: Options) -> Iterator[Record]:
    """Measure; a single record that says why where there is no GPU."""
    # CUDA reserves more address space than any limit would allow
    limits: dict[str, Any] = {"seconds": options.seconds, "gigabytes": None}
    found = isolate.run("benchmarks.gpu:device", {}, **limits)
    if found["status"] != "ok":
        yield {"case": "device"} | found
        return
    for scenarios, assets in SIZES[:1] if options.quick else SIZES:
        arguments = {"peer": OURS, "problem": "P1", "data": "factor_t", "scenarios": scenarios, "assets": assets}
        record = isolate.run("benchmarks.one:measure", arguments, **limits)
        yield arguments | {"case": "one", "device": found["device"]} | record
    scenarios, assets, count = BATCH
    arguments = {
        "peer": OURS,
        "scenarios": scenarios,
        "assets": assets,
        "count": count // (100 if options.quick else 1),
    }
    record = isolate.run("benchmarks.sweep:measure", arguments, **limits)
    yield arguments | {"case": "batch", "device": found["device"]} | record


def device() -> Iterator[Record]:
    """Name of the GPU that JAX finds; in a process of its own."""
    import jax

    try:
        found = jax.devices("gpu")
    except RuntimeError:
        raise isolate.NotAvailableError("JAX finds no GPU here") from None
    yield {"device": str(found[0].device_kind)}


def goals(records: list[Record]) -> list[aims.Goal]:
    """Times and the rate on a GPU."""
    single = {(r["scenarios"], r["assets"]): r for r in records if r["case"] == "one" and r["status"] == "ok"}
    batch = next((r for r in records if r["case"] == "batch" and r["status"] == "ok"), {})
    found = []
    for size, aim in aims.GPU_SECONDS.items():
        taken = single.get(size, {}).get("seconds")
        found.append(aims.at_most(f"P1 at {tables.size(*size)} on a GPU", aim, taken, " s"))
    what = f"{BATCH[2]:,} problems of {tables.size(*BATCH[:2])} on a GPU"
    return [*found, aims.at_least(what, aims.GPU_RATE, batch.get("per_second"), " a second")]


def report(records: list[Record], settings: dict[str, Any]) -> list[Table]:
    """What a GPU makes of it, beside the aims."""
    rows = []
    for r in records:
        details = r.get("details") or {}
        if r["case"] == "device":
            rows.append(["-", r["status"], r.get("why", ""), "-", "-", "-"])
            continue
        fine = r["status"] == "ok"
        if r["case"] == "one":
            aim = aims.GPU_SECONDS.get((r["scenarios"], r["assets"]))
            figure, goal = (
                tables.seconds(r["seconds"]) if fine else r["status"],
                tables.seconds(aim.value if aim else None),
            )
            what = tables.size(r["scenarios"], r["assets"])
        else:
            figure = f"{r['per_second']:,.0f} a second" if fine else f"{r['status']}: {r.get('why', '')}"
            goal = f"{aims.GPU_RATE.value:,.0f} a second"
            what = f"{r['count']:,} problems of {tables.size(r['scenarios'], r['assets'])}"
        gap = details.get("certified_gap", r.get("gap"))
        rows.append([what, figure, r["device"], goal, tables.small(gap), tables.seconds(r.get("compile_seconds"))])
    return [Table("On a GPU", ["case", "time", "device", "aim", "gap", "compile"], rows, words=3)]

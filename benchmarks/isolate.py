"""Run a measurement in a process of its own, under a limit on time and memory, so that a hanging one spoils nothing.

A measurement is a generator of records, each fuller than the one before; the last one written counts, also when the
process had to be ended.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
_OUT_OF_MEMORY = ("MemoryError", "bad_alloc", "annot allocate memory", "RESOURCE_EXHAUSTED", "out of memory")

Record = dict[str, Any]


class NotAvailableError(Exception):
    """What was to be measured does not exist here; the text says why."""


def run(call: str, arguments: dict[str, Any], *, seconds: float, gigabytes: float | None) -> Record:
    """Measure, and return the record with its `status`: ok, not available, time limit, memory limit or failed.

    Parameters
    ----------
    call
        Module and generator function, ``"benchmarks.one:measure"``.
    arguments
        Its keyword arguments, as JSON can carry them.
    seconds
        Time for the whole process: imports, data, preparation and all repetitions.
    gigabytes
        Limit on its memory (data segment), where the system has one.
    """
    with tempfile.TemporaryDirectory() as folder:
        written, said = Path(folder) / "record.json", Path(folder) / "errors.txt"
        job = {"call": call, "arguments": arguments, "gigabytes": gigabytes, "written": str(written)}
        path = os.pathsep.join([str(ROOT), str(ROOT / "kernels"), os.environ.get("PYTHONPATH", "")])
        with said.open("wb") as errors:
            child = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.isolate", json.dumps(job)],
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": path.rstrip(os.pathsep)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
            )
            try:
                code = child.wait(timeout=seconds)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                if child.poll() is None:
                    os.killpg(child.pid, signal.SIGKILL)
                    child.wait()
        record: Record = json.loads(written.read_text()) if written.exists() else {}
        if code == 0 or "seconds" in record:
            record.setdefault("status", "ok")
            return record
        if code is None:
            return record | {"status": "time limit", "why": f"over {seconds:g} s"}
        text = said.read_text(errors="replace").strip()
        if any(word in text for word in _OUT_OF_MEMORY) or code == -signal.SIGKILL:
            return record | {
                "status": "memory limit",
                "why": f"over {gigabytes:g} GB" if gigabytes else "out of memory",
            }
        return record | {"status": "failed", "why": text.splitlines()[-1][:300] if text else f"exit status {code}"}


def peak_gib() -> float | None:
    """Largest memory this process has held so far."""
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30, 3)


def _child(job: dict[str, Any]) -> None:
    if job["gigabytes"] is not None and sys.platform == "linux":
        import resource

        most = int(job["gigabytes"] * 1e9)
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    warnings.simplefilter("ignore")
    module, function = job["call"].split(":")
    written = Path(job["written"])
    draft = written.with_suffix(".draft")
    try:
        for record in getattr(importlib.import_module(module), function)(**job["arguments"]):
            draft.write_text(json.dumps(record | {"peak_gib": peak_gib()}))
            draft.replace(written)  # whole or not at all
    except NotAvailableError as reason:
        written.write_text(json.dumps({"status": "not available", "why": str(reason)}))


if __name__ == "__main__":
    from benchmarks import isolate  # the same module by its proper name, so that its exceptions are recognised

    isolate._child(json.loads(sys.argv[1]))

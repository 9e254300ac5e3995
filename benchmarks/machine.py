"""What the figures were measured on, and with which versions."""

from __future__ import annotations

import datetime
import os
import platform
from pathlib import Path
from typing import Any

from .peers import PEERS, version

_BASE = ("jax", "jaxlib", "numpy", "scipy", "pandas", "cvxpy", "cvxopt", "jax-cuda12-plugin")


def machine() -> dict[str, Any]:
    """Processor, cores, memory, versions of everything that was timed; None for what is not installed."""
    cpu = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text().splitlines()
        cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), cpu)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0
    packages = dict.fromkeys([package for peer in PEERS.values() for package in peer.packages] + list(_BASE))
    return {
        "cpu": cpu,
        "cores": cores,
        "memory_gib": round(pages / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "versions": {package: version(package) for package in packages},
    }

"""This library at small sizes under pytest-benchmark, to compare one's own changes while working.

``python -m pytest benchmarks/bench_solvers.py -o addopts=--import-mode=importlib --benchmark-autosave``, and after the
change with ``--benchmark-compare``. Against peers: ``python -m benchmarks``.
"""

from __future__ import annotations

from typing import Any

import pytest

from .instances import EXACT, PROBLEMS, make
from .peers import OURS, PEERS


@pytest.mark.parametrize("size", [(1_000, 50), (2_000, 200)], ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("problem", PROBLEMS)
def test_speed(benchmark: Any, problem: str, size: tuple[int, int]) -> None:
    """Warm time of one problem; the answer must be right, the time is for the reader."""
    instance = make(problem, "factor_t", *size)
    solve = PEERS[OURS].prepare(instance)
    answer = benchmark.pedantic(solve, rounds=9, iterations=1, warmup_rounds=1)
    assert instance.violation(answer.weights) <= EXACT
    assert answer.details["certified_gap"] <= EXACT

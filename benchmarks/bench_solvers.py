"""Solve time of one problem, beside peers. Nothing is asserted about time; accuracy goes into the record."""

from __future__ import annotations

import time
from typing import Any

import pytest

from .instances import Instance, factor_t
from .peers import SOLVERS

SIZES = [(1_000, 50), (2_000, 200), (10_000, 100)]
_cache: dict[tuple[int, int], Instance] = {}


def _instance(size: tuple[int, int]) -> Instance:
    if size not in _cache:
        _cache[size] = factor_t(*size)
    return _cache[size]


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def bench_utility(benchmark: Any, size: tuple[int, int], solver: str) -> None:
    """Mean minus CVaR, budget and caps."""
    instance = _instance(size)
    solve = SOLVERS[solver](instance)
    start = time.perf_counter()
    weights = solve()
    first = time.perf_counter() - start
    rounds = 9 if first < 1.0 or solver == "portfolioopt" else 3
    weights = benchmark.pedantic(solve, rounds=rounds, iterations=1, warmup_rounds=1)
    benchmark.extra_info.update(
        scenarios=size[0],
        assets=size[1],
        solver=solver,
        objective=instance.objective(weights),
        violation=instance.violation(weights),
        first_call_seconds=first,
    )

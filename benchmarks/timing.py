"""How often and how long: the first call apart, then the median of as many warm calls as are affordable."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from .peers import Answer, Solve

OFTEN, SELDOM = 9, 3
SHORT, LONG = 2.0, 20.0
"""Seconds: up to SHORT the median of OFTEN calls, up to LONG that of SELDOM, beyond that the one call there was."""


class Timing(NamedTuple):
    """The last answer and the time that answers took."""

    answer: Answer
    figures: dict[str, Any]


def timed(solve: Solve) -> Iterator[Timing]:
    """Call again and again; yields after each call what is known by then."""
    start = time.perf_counter()
    answer = solve()
    first = time.perf_counter() - start
    warm = first - answer.compile_seconds
    figures = {"first_call_seconds": first, "compile_seconds": answer.compile_seconds}
    yield Timing(answer, figures | {"seconds": warm, "least_seconds": warm, "repeats": 1})
    runs: list[float] = []
    for _ in range(OFTEN if warm <= SHORT else SELDOM if warm <= LONG else 0):
        start = time.perf_counter()
        answer = solve()
        runs.append(time.perf_counter() - start)
        medians = {"seconds": statistics.median(runs), "least_seconds": min(runs), "repeats": len(runs)}
        yield Timing(answer, figures | medians)

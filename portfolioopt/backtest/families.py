"""Runs whose problems differ in a few numbers only, answered as arrays in one call."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from portfolioopt.labels import FloatArray
from portfolioopt.problem import Problem
from portfolioopt.solve import Result, WhatIfs, what_ifs

FEW = 4  # fewer runs than these are solved one by one, each from its own last answer


@dataclass(frozen=True, eq=False)
class Answered:
    """A certified answer as an array."""

    weights: FloatArray  # over all assets of the market (N,)
    details: dict[str, Any]  # of the timeline


def answer_family(
    problem: Problem, numbers: Sequence[Mapping[str, Any]], holdings: FloatArray, market: pd.Index
) -> list[Answered | Result]:
    """Answers of R runs; of one that has none, the result that says why.

    Parameters
    ----------
    problem
        That of one of the runs.
    numbers
        The inputs of each run's problem that others have differently, by the names of :func:`portfolioopt.sweep`.
    holdings
        Weights of the books over the market's assets (R, N).
    market
        The assets of the market; those of the problem are among them.
    """
    assets = problem.scenarios.assets
    places = market.get_indexer(assets)
    changes: dict[str, Any] = {name: [one[name] for one in numbers] for name in numbers[0]}
    changes["holdings"] = pd.DataFrame(holdings[:, places], columns=assets)
    found = what_ifs(problem, changes)
    optimal = found.status == "optimal"
    weights = np.zeros((len(numbers), len(market)))
    weights[:, places] = np.nan_to_num(found.weights)
    return [Answered(weights[k], _details(found, k)) if optimal[k] else found.result_at(k) for k in range(len(numbers))]


def _details(found: WhatIfs, k: int) -> dict[str, Any]:
    said: dict[str, Any] = {
        "status": "optimal",
        "objective": float(found.objective[k]),
        "gap": float(found.gap[k]),
        "max_violation": float(found.max_violation[k]),
        "expected_return": float(found.expected_return[k]),
        "volatility": float(found.volatility[k]),
        "horizon": horizon_of(found.problem),
        "binding": in_words(dict(zip(found.constraints, found.binding[k].tolist(), strict=True))),
    }
    for beta in list(found.cvar)[:1]:
        said |= {"beta": beta, "var": float(found.var[beta][k]), "cvar": float(found.cvar[beta][k])}
    return said


def horizon_of(problem: Problem) -> float:
    """Sessions of one scenario, where it says so; NaN else."""
    spoken = re.match(r"(\d+)", problem.scenarios.horizon or "")
    return float(spoken.group(1)) if spoken else float("nan")


def in_words(binding: Mapping[str, int]) -> str:
    """Binding constraints, and how many of their lines bind where these are several."""
    return "; ".join(name if n == 1 else f"{name} ({n})" for name, n in binding.items() if n)

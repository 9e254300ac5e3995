"""This library, from a checked problem to a certified result."""

from __future__ import annotations

import pandas as pd

import portfolioopt as po

from ..instances import Instance
from .base import Answer, Solve


def problem(instance: Instance) -> po.Problem:
    """The instance in this library's words."""
    names = pd.Index(instance.names)
    mean = pd.Series(instance.mean, index=names)
    terms = []
    if instance.reward:
        terms.append(instance.reward * po.ExpectedReturn(mean))
    if instance.aversion:
        terms.append(-instance.aversion * po.CVaR(instance.beta))
    objective = terms[0] if len(terms) == 1 else terms[0] + terms[1]
    constraints: list = [po.Budget(), po.Bounds(0.0, instance.cap)]
    holdings = None
    if instance.sector is not None and instance.sector_cap is not None:
        labels = pd.Series([f"G{g}" for g in instance.sector], index=names)
        constraints.append(po.GroupLimit(labels, upper={f"G{g}": cap for g, cap in enumerate(instance.sector_cap)}))
    if instance.turnover is not None and instance.holdings is not None:
        constraints.append(po.Turnover(instance.turnover))
        holdings = pd.Series(instance.holdings, index=names)
    if instance.target is not None:
        constraints.append(po.ReturnTarget(instance.target, mean=mean))
    if instance.cvar_limit is not None:
        constraints.append(po.CVaRLimit(instance.beta, instance.cvar_limit))
    scenarios = po.ScenarioSet(pd.DataFrame(instance.returns, columns=names))
    return po.Problem(scenarios, objective, constraints, holdings=holdings)


def prepare(instance: Instance) -> Solve:
    """Scenarios and problem are built beforehand, like the matrices of the raw solvers."""
    posed = problem(instance)
    return lambda: answer(po.optimize(posed))


def answer(result: po.Result) -> Answer:
    """Weights, and what the result says of itself."""
    assert result.weights is not None
    assert result.certificate is not None
    details = {
        "iterations": result.iterations,
        "certified_gap": result.certificate.gap,
        "passes": result.passes,
    }
    return Answer(result.weights.to_numpy(), result.timings.compile, details)

"""A portfolio on scenarios: what all questions about sampling error are asked about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.problem import CVaR, ExpectedReturn, Problem, Volatility
from portfolioopt.problem.terms import View
from portfolioopt.scenarios import ScenarioSet
from portfolioopt.scenarios.tail import check_beta
from portfolioopt.solve import Result

from .linear import Linear, NoErrorKnown, linear, objective

FloatArray: TypeAlias = npt.NDArray[np.float64]
Weights: TypeAlias = pd.Series | Mapping[str, float]
Asked: TypeAlias = Result | tuple[ScenarioSet, Weights]


@dataclass(frozen=True, eq=False)
class Subject:
    """Weights on scenarios, and the problem they answer if they answer one."""

    view: View
    betas: tuple[float, ...]
    problem: Problem | None

    @property
    def scenarios(self) -> ScenarioSet:
        """The scenarios."""
        return self.view.scenarios

    @property
    def probabilities(self) -> FloatArray:
        """Their probabilities (S,)."""
        return self.view.scenarios.probabilities

    def on(self, scenarios: ScenarioSet) -> Subject:
        """The same weights on another set over the same assets."""
        check_scenarios(scenarios, self.scenarios.assets)
        view = View(scenarios, scenarios.mean_array(), self.view.holdings, self.view.weights)
        return Subject(view, self.betas, self.problem)

    def measures(self) -> tuple[dict[str, Linear], tuple[str, ...]]:
        """What has a standard error, by name, linearised; and why something that was hoped for has none."""
        found: dict[str, Linear] = {
            "expected return": linear(ExpectedReturn(), self.view),
            "volatility": linear(Volatility(), self.view),
        }
        found |= {cvar_name(beta): linear(CVaR(beta), self.view) for beta in self.betas}
        if self.problem is None:
            return found, ()
        try:
            found["objective"] = objective(self.problem, self.view)
        except NoErrorKnown as refusal:
            return found, (f"objective: {refusal}",)
        return found, ()


def subject(asked: Asked, beta: float | None, what: str) -> Subject:
    """Read a result, or a pair of scenarios and weights, at one level or at those of the problem."""
    if isinstance(asked, Result):
        if asked.weights is None:
            raise InputError(f"{what}: there is no portfolio to ask about: {asked.message}")
        refuse_moments(asked.problem.scenarios, what)
        compiled = asked.problem.compiled
        betas = tuple(compiled.betas) or (0.95,)
        view = compiled.view(asked.weights.to_numpy(dtype=np.float64))
        return Subject(view, betas if beta is None else (check_beta(beta),), asked.problem)
    if not isinstance(asked, tuple) or len(asked) != 2 or not isinstance(asked[0], ScenarioSet):
        raise InputError(
            f"{what} takes a Result or a pair (scenarios, weights), was given {type(asked).__name__}: pass the "
            "outcome of optimize(problem)"
        )
    scenarios, weights = asked
    refuse_moments(scenarios, what)
    array = scenarios.weights_array(weights)
    view = View(scenarios, scenarios.mean_array(), None, array)
    return Subject(view, (0.95 if beta is None else check_beta(beta),), None)


def check_scenarios(scenarios: object, assets: pd.Index, what: str = "scenarios") -> ScenarioSet:
    """Refuse what is no scenario set over these assets, in this order."""
    if not isinstance(scenarios, ScenarioSet):
        raise InputError(f"{what} must be a ScenarioSet, was {type(scenarios).__name__}: wrap the returns in one")
    refuse_moments(scenarios, what)
    if not scenarios.assets.equals(assets):
        missing = assets.difference(scenarios.assets, sort=False)
        detail = f"{missing[0]!r} is missing" if len(missing) else "they differ in order or number"
        raise InputError(f"{what} is over other assets than the portfolio ({detail}); select the same columns for both")
    return scenarios


def refuse_moments(scenarios: ScenarioSet, what: str) -> None:
    """Refuse a set that has no scenarios, and so no sampling error."""
    if scenarios.form is not None:
        raise InputError(
            f"{what}: the set is known by its mean and covariance alone and has no scenarios to err by; draw some with "
            "portfolioopt.scenarios.factor_monte_carlo, or pass returns"
        )


def cvar_name(beta: float) -> str:
    """What a CVaR is called in tables."""
    return f"CVaR {100.0 * beta:g}%"


def var_name(beta: float) -> str:
    """What a value-at-risk is called in tables."""
    return f"VaR {100.0 * beta:g}%"

"""What the translations of measures and constraints have in common: the weights, scaled returns, rules for auxiliaries.

Solvers' tolerances are absolute, and daily returns are some 0.01: returns go in divided by their root mean square, the
`unit`, and come out of every expression multiplied by it, so that expressions are in the units of the library.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.labels import PerAsset, align, per_asset
from portfolioopt.problem import Problem
from portfolioopt.problem.terms import Expression as Measure
from portfolioopt.problem.terms import Labelled, Term
from portfolioopt.scenarios import ScenarioSet

if TYPE_CHECKING:
    import cvxpy as cp

FloatArray: TypeAlias = npt.NDArray[np.float64]
NEAR = 1e-5  # the tolerance of integers, 1e-6, times some weight


def import_cvxpy() -> Any:
    """The module cvxpy, which is optional. Raises InputError where it is missing."""
    try:
        import cvxpy
    except ImportError as error:
        raise InputError(
            "this needs cvxpy, which is not installed: pip install 'portfolioopt[reference]' brings it and its solvers"
        ) from error
    return cvxpy


@dataclass(frozen=True)
class Integers:
    """What an integer constraint adds: its variables, and where they put weights that are exact."""

    variables: tuple[cp.Variable, ...]
    """Binaries, or one integer, each (N,)."""
    anchor: FloatArray
    """Where an asset's weight is when all its binaries are zero; of integers, the weight of one lot (N,)."""
    lots: bool = False
    """Whether the variable counts lots."""

    def exact(self, weights: FloatArray) -> FloatArray:
        """Weights at zero, holdings or whole lots where only the solver's tolerance keeps them from there."""
        counts = [np.round(np.asarray(variable.value, dtype=np.float64)) for variable in self.variables]
        if self.lots:
            target, sure = self.anchor * counts[0], np.ones(len(weights), dtype=bool)
        else:
            target, sure = self.anchor, np.all([count == 0 for count in counts], axis=0)
        return np.where(sure & (np.abs(weights - target) <= NEAR), target, weights)


class Model:
    """A problem on its way to cvxpy."""

    def __init__(self, problem: Problem) -> None:
        self.cp = import_cvxpy()
        self.problem = problem
        self.scenarios = problem.scenarios
        self.assets = problem.scenarios.assets
        self.n = len(self.assets)
        self.w: cp.Variable = self.cp.Variable(self.n, name="weights")
        self.unit = problem.scenarios.source.root_mean_square or 1.0
        self.mean = problem.scenarios.mean_array()
        held = problem.holdings
        self._holdings = None if held is None else held.to_numpy(dtype=np.float64)
        self._view = problem.compiled.view(np.zeros(self.n))
        self.rules: list[Any] = []
        """Constraints that define auxiliary variables."""
        self.integers: list[Integers] = []

    # -- numbers -------------------------------------------------------------------------------------------------
    def spread(self, value: PerAsset, what: str, *, infinite: bool = False) -> FloatArray:
        """One number for all assets, or one per asset (N,)."""
        return per_asset(value, self.assets, what=what, infinite=infinite)

    def aligned(self, value: Labelled, what: str) -> FloatArray:
        """Labelled numbers in the order of the assets (N,)."""
        return align(value, self.assets, what=what)

    def member(self, chosen: tuple[object, ...] | None) -> npt.NDArray[np.bool_]:
        """Which assets are named (N,); all where None."""
        return np.ones(self.n, dtype=bool) if chosen is None else self.assets.isin(list(chosen))

    @property
    def holdings(self) -> FloatArray:
        """Weights before trading (N,)."""
        assert self._holdings is not None
        return self._holdings

    @property
    def trades(self) -> Any:
        """Weights less holdings, an expression (N,)."""
        return self.w - self.holdings

    def size(self, measure: Measure) -> float:
        """What a typical value of a sum of terms is; only scales, never meaning, depend on it."""
        return sum(abs(c) * term.size(self._view) for c, term in measure.parts)

    def term_size(self, term: Term) -> float:
        """What a typical value of a term is."""
        return term.size(self._view)

    # -- scenarios -----------------------------------------------------------------------------------------------
    def chosen(self, scenarios: ScenarioSet | None) -> ScenarioSet:
        """The set, or the problem's where None."""
        return self.scenarios if scenarios is None else scenarios

    def returns(self, scenarios: ScenarioSet | None) -> FloatArray:
        """Returns in units (S, N), of all scenarios."""
        source = self.chosen(scenarios).source
        if source.matrix is None:
            raise InputError(
                f"the {source.shape[0]} x {source.shape[1]} returns are never in memory as a whole, and cvxpy needs "
                "them so: take a smaller set, or the library's own solver"
            )
        return np.asarray(source.matrix, dtype=np.float64) / self.unit

    def live(self, scenarios: ScenarioSet | None) -> tuple[FloatArray, FloatArray]:
        """Returns in units and probabilities of the scenarios that have one."""
        p = self.chosen(scenarios).probabilities
        keep = p > 0
        return self.returns(scenarios)[keep], p[keep]

    def tail_mean(self, losses: Any, probabilities: FloatArray, beta: float) -> Any:
        r"""CVaR of an expression (S,) by its epigraph, :math:`\min_t t + E (L - t)_+ / (1-\beta)`."""
        t = self.cp.Variable()
        excess = self.cp.Variable(len(probabilities), nonneg=True)
        self.rules.append(excess >= losses - t)
        return t + (probabilities / (1.0 - beta)) @ excess

    def groups(self, labels: Any) -> pd.Series:
        """Labels in the order of the assets."""
        series = labels if isinstance(labels, pd.Series) else pd.Series(dict(labels))
        return series.reindex(self.assets)

"""A portfolio problem: scenarios, objective, constraints and today's holdings, checked and immutable."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.labels import align
from portfolioopt.scenarios import ScenarioSet

from .compile import Compiled, compile_problem
from .constraints import CONSTRAINT_TYPES, Constraint, needs_holdings
from .terms import Expression, Objective, Ratio


class Problem:
    """Maximise an objective over portfolio weights under constraints; immutable.

    Parameters
    ----------
    scenarios
        Returns with probabilities and asset labels.
    objective
        Terms to maximise, e.g. ``ExpectedReturn() - 3 * CVaR(0.95)``; risks and costs are subtracted. Or the ratio of a
        reward to a risk, ``ExpectedReturn() / CVaR(0.95)``.
    constraints
        Any number of constraints. Nothing is implied: without `Budget` the weights need not sum to one, without
        `Bounds` they may be negative. Several of one kind all hold; give them different names.
    holdings
        The book before trading, as weights by asset, after drift. Needed by costs, turnover and trade limits; a
        start from cash is a Series of zeros.

    Raises
    ------
    InputError
        For a risk or cost that would be maximised, names used twice, holdings that do not match the assets, and
        every fault that compiling the constraints to arrays brings to light.
    """

    __slots__ = ("_compiled", "_constraints", "_holdings", "_objective", "_ratio", "_scenarios")

    def __init__(
        self,
        scenarios: ScenarioSet,
        objective: Expression | Ratio,
        constraints: Iterable[Constraint] = (),
        *,
        holdings: pd.Series | Mapping[str, float] | None = None,
    ) -> None:
        if not isinstance(scenarios, ScenarioSet):
            raise InputError(
                f"scenarios must be a ScenarioSet, was {type(scenarios).__name__}: wrap the returns in one"
            )
        if not isinstance(objective, Expression | Ratio):
            raise InputError(f"the objective must be made of terms, was {objective!r}")
        self._ratio = objective if isinstance(objective, Ratio) else None
        self._scenarios = scenarios
        self._objective = Objective(objective.parts)
        for coefficient, term in self._objective.parts:
            if term.curvature == "convex" and coefficient > 0:
                raise InputError(
                    f"the objective adds {coefficient:g} * {term!r}; it is maximised, and seeking risk or cost is not "
                    "a convex problem. Subtract the term"
                )
            if term.curvature == "concave" and coefficient < 0:
                raise InputError(
                    f"the objective subtracts {term!r}, a reward; that is not a convex problem. Add the term"
                )
        if not isinstance(constraints, (Iterable, *CONSTRAINT_TYPES)):
            raise InputError(f"constraints must be a list of constraints, was {constraints!r}")
        self._constraints = tuple([constraints] if isinstance(constraints, CONSTRAINT_TYPES) else constraints)
        names: set[str] = set()
        for constraint in self._constraints:
            if not isinstance(constraint, CONSTRAINT_TYPES):
                raise InputError(f"{constraint!r} is not a constraint")
            if constraint.name in names:
                raise InputError(f"two constraints are called {constraint.name!r}; give one of them another name=")
            names.add(constraint.name)
        self._holdings = None
        if holdings is not None:
            self._holdings = pd.Series(
                align(holdings, scenarios.assets, what="holdings"), index=scenarios.assets, name="holdings"
            )
        users = [repr(term) for _, term in self._objective.parts if term.trades]
        users += [c.name for c in self._constraints if needs_holdings(c)]
        if users and self._holdings is None:
            raise InputError(
                f"{users[0]} measures trades from the holdings, but none were given: pass holdings=..., zeros for a "
                "start from cash"
            )
        self._compiled = compile_problem(scenarios, self._objective, self._constraints, self._holdings)

    @property
    def scenarios(self) -> ScenarioSet:
        """The scenarios."""
        return self._scenarios

    @property
    def objective(self) -> Objective:
        """What is maximised; of a ratio, its numerator less its denominator."""
        return self._objective

    @property
    def ratio(self) -> Ratio | None:
        """The ratio that is maximised, if it is one."""
        return self._ratio

    @property
    def constraints(self) -> tuple[Constraint, ...]:
        """The constraints, as given."""
        return self._constraints

    @property
    def holdings(self) -> pd.Series | None:
        """Weights before trading by asset, or None."""
        return None if self._holdings is None else self._holdings.copy()

    @property
    def compiled(self) -> Compiled:
        """The problem as arrays, for solvers."""
        return self._compiled

    def replace(self, **changes: Any) -> Problem:
        """A copy with `scenarios`, `objective`, `constraints` or `holdings` exchanged."""
        unknown = changes.keys() - {"scenarios", "objective", "constraints", "holdings"}
        if unknown:
            raise InputError(f"a problem has no {', '.join(map(repr, sorted(unknown)))}")
        fields = {
            "scenarios": self._scenarios,
            "objective": self._objective if self._ratio is None else self._ratio,
            "constraints": self._constraints,
            "holdings": self._holdings,
        } | changes
        return Problem(fields.pop("scenarios"), fields.pop("objective"), fields.pop("constraints"), **fields)

    def __repr__(self) -> str:
        names = ", ".join(c.name for c in self._constraints) or "none"
        objective = self._objective if self._ratio is None else self._ratio
        return f"Problem(maximise {objective}; constraints: {names}; {self._scenarios!r})"

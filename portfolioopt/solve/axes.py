"""Which number of a problem an axis of a sweep moves, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from numbers import Real
from typing import Any, cast

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError, unknown_names
from portfolioopt.problem import Objective, Problem, Ratio, Soft
from portfolioopt.scenarios import ScenarioSet


@dataclass(frozen=True)
class Draft:
    """What a problem is made of, so that several changes cost one compilation."""

    scenarios: ScenarioSet
    objective: Objective
    constraints: tuple[Any, ...]
    holdings: Any
    ratio: Ratio | None = None

    @classmethod
    def of(cls, problem: Problem) -> Draft:
        """The parts of a problem."""
        return cls(problem.scenarios, problem.objective, problem.constraints, problem.holdings, problem.ratio)

    def problem(self) -> Problem:
        """The problem made of them."""
        objective = self.objective if self.ratio is None else self.ratio
        return Problem(self.scenarios, objective, self.constraints, holdings=self.holdings)


Change = Callable[[Draft, Any], Draft]


@dataclass(frozen=True)
class Axis:
    """One axis: its name, a label for every value, the values, and how one is put into a problem."""

    name: str
    labels: tuple[Any, ...]
    choices: tuple[Any, ...]
    change: Change

    def named(self, position: int) -> str:
        """One of the values in words, for errors."""
        return f"{self.name}, value {self.labels[position]!r}"


def changed(problem: Problem, choices: Iterable[tuple[Axis, int]]) -> Problem:
    """The problem with one value of each axis in place.

    Raises InputError naming the value that is refused, or all of them where they are refused together.
    """
    draft = Draft.of(problem)
    # windows first: holdings and probabilities given for them must meet them
    ordered = sorted(choices, key=lambda choice: choice[0].name != "scenarios")
    for axis, position in ordered:
        try:
            draft = axis.change(draft, axis.choices[position])
        except InputError as error:
            raise InputError(f"{axis.named(position)}: {error}") from error
    try:
        return draft.problem()
    except InputError as error:
        raise InputError(f"{'; '.join(axis.named(position) for axis, position in ordered)}: {error}") from error


def axis(problem: Problem, name: str, values: Any) -> Axis:
    """Read one entry of `over`.

    Values are a sequence, or a mapping from labels to values; numbers, strings and windows label themselves, anything
    else is numbered.
    """
    if isinstance(values, Mapping):
        labels, items = tuple(values), tuple(values.values())
    elif isinstance(values, (str, bytes)) or not isinstance(values, (Sequence, np.ndarray, pd.Index, pd.Series, range)):
        raise InputError(f"{name}: values must be a list, or a mapping from labels to values, were {values!r}")
    else:
        items = tuple(values)
        labels = tuple(_label(value, i) for i, value in enumerate(items))
    if not items:
        raise InputError(f"{name} has no values")
    return Axis(name, labels, items, _change(problem, name))


def _label(value: Any, position: int) -> Any:
    if isinstance(value, slice):
        return f"{value.start}:{value.stop}"
    return value if np.isscalar(value) else position


def _change(problem: Problem, name: str) -> Change:
    match name:
        case "holdings":
            return lambda p, value: replace(p, holdings=value)
        case "probabilities":
            return lambda p, value: replace(p, scenarios=p.scenarios.reweighted(value))
        case "scenarios":
            return _change_scenarios
    target, dot, field = name.rpartition(".")
    if not dot:
        raise _unknown(problem, name)
    for position, constraint in enumerate(problem.constraints):
        if constraint.name == target and field in _fields(constraint):
            return lambda p, value: _with_constraint(p, position, field, value)
    matches = [
        position
        for position, (_, term) in enumerate(problem.objective.parts)
        if target in (type(term).__name__, repr(term))
    ]
    if len(matches) > 1:
        options = ", ".join(repr(problem.objective.parts[i][1]) for i in matches)
        raise InputError(f"{name}: the objective has several such terms, name one of {options} in full")
    if matches and (field == "weight" or field in _fields(problem.objective.parts[matches[0]][1])):
        return lambda p, value: _with_term(p, matches[0], field, value)
    raise _unknown(problem, name)


def _change_scenarios(draft: Draft, value: Any) -> Draft:
    if isinstance(value, slice):
        if value.step not in (None, 1) or value.start is None or value.stop is None:
            raise InputError(f"a window is slice(first, last), was {value!r}")
        return replace(draft, scenarios=draft.scenarios.window(value.start, value.stop))
    return replace(draft, scenarios=value)


def _with_constraint(draft: Draft, position: int, field: str, value: Any) -> Draft:
    constraints = list(draft.constraints)
    old = constraints[position]
    if isinstance(old, Soft) and field != "penalty":
        constraints[position] = replace(old, constraint=replace(cast(Any, old.constraint), **{field: value}))
    else:
        constraints[position] = replace(old, **{field: value})
    return replace(draft, constraints=tuple(constraints))


def _with_term(draft: Draft, position: int, field: str, value: Any) -> Draft:
    if draft.ratio is not None:
        raise InputError(f"{draft.ratio}: terms of a ratio cannot be axes of a sweep")
    parts = list(draft.objective.parts)
    coefficient, term = parts[position]
    if field == "weight":
        if not isinstance(value, Real) or not np.isfinite(float(value)):
            raise InputError(f"the weight of {term!r} must be a finite number, was {value!r}")
        weight = float(value)
        if term.penalty and weight < 0:
            raise InputError(f"the weight of {term!r} is how much of it is subtracted, and cannot be {weight:g}")
        parts[position] = (-weight if term.penalty else weight, term)
    else:
        parts[position] = (coefficient, replace(cast(Any, term), **{field: value}))
    return replace(draft, objective=Objective(tuple(parts)))


def _fields(item: Any) -> set[str]:
    if isinstance(item, Soft):
        return _fields(item.constraint) | {"penalty"}
    if not is_dataclass(item):
        return set()
    return {field.name for field in fields(item)} - {"name", "unit_check"}


def _unknown(problem: Problem, name: str) -> InputError:
    known = ["holdings", "probabilities", "scenarios"]
    known += [f"{c.name}.{field}" for c in problem.constraints for field in sorted(_fields(c))]
    for _, term in problem.objective.parts:
        alike = [other for _, other in problem.objective.parts if type(other) is type(term)]
        label = type(term).__name__ if len(alike) == 1 else repr(term)
        known += [f"{label}.{field}" for field in ["weight", *sorted(_fields(term))]]
    return unknown_names("axis", [name], known)

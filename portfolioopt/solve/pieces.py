"""What a compiled problem consists of, piece by piece, and pieces of many points at once."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from numbers import Real
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from portfolioopt.problem import Compiled
from portfolioopt.problem.terms import Expression, Term
from portfolioopt.scenarios import ScenarioSet
from portfolioopt_kernels import HingeProgram

FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.intp]

FIELDS = [name for name in HingeProgram.__dataclass_fields__ if name not in ("returns", "start")]
_CLOSE = 1e-12  # what equal pieces may differ by, relative to the largest number of them
_SMALL = 1e-3  # numbers below are compared as if they were so large
_RECENT = 16  # values that a new one is compared with


@dataclass(frozen=True)
class Column:
    """A piece by point: its V values, and which of them each point has; V = 1 where all agree."""

    pool: Any
    """Array (V, ...), or a tuple of V objects."""
    index: IntArray | None
    """(R,); None where V = 1."""

    def at(self, rows: IntArray) -> FloatArray:
        """Values of some points, with a leading axis of their number, or of 1 where all agree."""
        return self.pool if self.index is None else self.pool[self.index[rows]]

    def number(self, rows: IntArray) -> IntArray:
        """Which of the values some points have."""
        return np.zeros(len(rows), np.intp) if self.index is None else self.index[rows]

    def over(self, other: Column, entries: npt.NDArray[np.bool_]) -> Column:
        """Another column in some blocks or rows (B,), and this one in the others."""
        count = next((len(index) for index in (self.index, other.index) if index is not None), 1)
        rows = np.arange(count)
        wide = entries.reshape(-1, *[1] * (self.pool.ndim - 2))
        values = np.where(wide, other.at(rows), self.at(rows))
        return Column(values, None if len(values) == 1 else rows)

    @classmethod
    def one(cls, value: Any) -> Column:
        """The same for all points."""
        return cls(value[None] if isinstance(value, np.ndarray) else (value,), None)

    @classmethod
    def each(cls, values: FloatArray) -> Column:
        """Another for every point (R, ...)."""
        return cls(values, np.arange(len(values)))

    @classmethod
    def of(cls, values: Sequence[Any], index: IntArray) -> Column:
        """Some of several values."""
        kept: list[Any] = []
        number = np.empty(len(values), np.intp)
        for i, value in enumerate(values):
            recent = range(len(kept) - 1, max(len(kept) - 1 - _RECENT, -1), -1)
            number[i] = next((k for k in recent if alike(kept[k], value)), len(kept))
            if number[i] == len(kept):
                kept.append(value)
        if len(kept) == 1:
            return cls.one(kept[0])
        return cls(np.stack(kept) if isinstance(kept[0], np.ndarray) else tuple(kept), number[index])


@dataclass(frozen=True)
class Batch:
    """Points of one structure: every piece with a leading axis of length R, or of 1 where all agree."""

    base: Compiled
    """A problem of that structure."""
    points: IntArray
    """Numbers of the points (R,)."""
    columns: dict[str, Column]
    """Pieces by name, see :func:`pieces`; the box and the start are not among them."""

    def at(self, name: str, rows: IntArray) -> FloatArray:
        """A numerical piece of some of the points, by their place in the batch: (K, ...), or (1, ...)."""
        return self.columns[name].at(rows)

    def field(self, name: str, rows: IntArray) -> FloatArray:
        """A field of the program, likewise."""
        return self.columns[f"program.{name}"].at(rows)

    def part(self, keep: IntArray) -> Batch:
        """Some of the points, by their place."""
        columns = {
            name: Column(column.pool, None if column.index is None else column.index[keep])
            for name, column in self.columns.items()
        }
        return Batch(self.base, self.points[keep], columns)


def pieces(compiled: Compiled) -> dict[str, Any]:
    """A compiled problem by name: arrays, and measures, levels and scenario sets as they are."""
    found: dict[str, Any] = {f"program.{name}": np.asarray(getattr(compiled.program, name)) for name in FIELDS}
    found["constant"] = np.asarray(compiled.constant)
    found["mean"] = compiled.mean
    if compiled.holdings is not None:
        found["holdings"] = compiled.holdings
    for i, term in enumerate(compiled.terms):
        found[f"coefficient.{i}"] = np.asarray(term.coefficient)
        found[f"measure.{i}"] = term.measure
    for i, group in enumerate(compiled.lines):
        found[f"limit.{i}"] = group.limit
        found[f"scale.{i}"] = np.asarray(group.scale)
        found[f"limited.{i}"] = group.measure
    found["levels"] = tuple(compiled.levels.items())
    found["scenarios"] = compiled.scenarios
    return found


def signature(compiled: Compiled) -> Hashable:
    """What has to agree between points of a batch."""
    p = compiled.program
    capped = bool(np.isfinite(p.cvar_cap).any() or np.isfinite(p.l1_cap).any())
    terms = tuple((type(term.measure), term.lines) for term in compiled.terms)
    lines = tuple(
        (g.constraint, g.names, g.kind, g.sense, g.index.tobytes(), g.soft, g.scale == 0.0) for g in compiled.lines
    )
    kind = compiled.own_rows, len(compiled.curves), len(compiled.integer), compiled.holdings is None
    return p.shape, capped, terms, lines, kind


def alike(one: Any, other: Any) -> bool:
    """Whether two pieces say the same."""
    if one is other:
        return True
    if type(one) is not type(other) or isinstance(one, ScenarioSet):
        return False
    if isinstance(one, np.ndarray):
        return one.shape == other.shape and bool(np.array_equal(one, other))
    if isinstance(one, pd.Series):
        return one.equals(other)
    if isinstance(one, Expression) and not isinstance(one, Term):
        return alike(one.parts, other.parts)
    if isinstance(one, Term) and not is_dataclass(one):
        return alike(vars(one), vars(other))
    if is_dataclass(one) and not isinstance(one, type):
        return all(alike(getattr(one, f.name), getattr(other, f.name)) for f in fields(one))
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, dict):
        names = one.keys() - {"_ordered"}  # what a term remembers from the last time
        return names == other.keys() - {"_ordered"} and all(alike(one[name], other[name]) for name in names)
    try:
        return bool(one == other)
    except (TypeError, ValueError):
        return False


def agree(one: Any, other: Any) -> bool:
    """:func:`alike` but for rounding."""
    if isinstance(other, np.ndarray):
        if np.shape(one) != other.shape:
            return False
        same = one == other
        if same.all():
            return True
        size = max(float(np.abs(other[np.isfinite(other)]).max(initial=0.0)), _SMALL)
        with np.errstate(invalid="ignore"):
            return bool((same | (np.abs(one - other) <= _CLOSE * size)).all())
    if isinstance(one, ScenarioSet) and isinstance(other, ScenarioSet):
        return one.source is other.source and np.array_equal(one.probabilities, other.probabilities)
    return alike(one, other)


def distinct(choices: Sequence[Any]) -> tuple[list[int], IntArray]:
    """Positions of the values that differ, and for every value the number of the one it is equal to."""
    first: dict[Hashable, int] = {}
    kept: list[int] = []
    number = np.empty(len(choices), np.intp)
    for position, value in enumerate(choices):
        key = _key(value)
        if key not in first:
            first[key] = len(kept)
            kept.append(position)
        number[position] = first[key]
    return kept, number


def _key(value: Any) -> Hashable:
    if isinstance(value, bool | np.bool_):
        return "flag", bool(value)
    if isinstance(value, Real):
        return "number", float(value)
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
        return "array", value.shape, value.dtype.str, value.tobytes()
    if isinstance(value, dict) and all(isinstance(item, Real) for item in value.values()):
        return "mapping", tuple(value.items())
    return "object", id(value)

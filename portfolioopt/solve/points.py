r"""Many variations of one problem as arrays: R points of one structure, stacked along a leading axis.

A problem is compiled once for each value of each axis. What a value changes are *pieces* of the compiled problem:
arrays of the program, coefficients, limits, measures. A point is put together from the pieces of its values, which is
right where no two axes move the same piece. Three kinds of pieces come about otherwise, and are computed by the rules
by which they are lowered:

* bounds are :math:`l_i = \max(\underline w_i, h_i - \delta_i)` and :math:`u_i = \min(\overline w_i, h_i + \delta_i)`
  over all limits of weights and trades;
* what follows the holdings h: references of costs and turnovers are h, and a measure of trades
  :math:`a'(w - h) + \sum_i k_i |w_i - h_i|` adds :math:`-a'h` to the constant or takes it from the room of a limit;
* axes of numbers that pieces contain as they are (a cap, a weight, a limit) are not compiled for each of them.

A few points are compiled as they are, and compared; where any differs all are.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from numbers import Real
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.labels import align
from portfolioopt.problem import Compiled, Problem
from portfolioopt.problem.lowering import Canvas
from portfolioopt.problem.terms import Expression, Term
from portfolioopt.scenarios import ScenarioSet
from portfolioopt_kernels import HingeProgram, exchange

from .axes import Axis, changed

FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.intp]

FIELDS = [name for name in HingeProgram.__dataclass_fields__ if name not in ("returns", "start")]
_PROBES = 3  # values that an axis of numbers is compiled for
_CHECKED = 3  # points that are compiled to be compared
_CLOSE = 1e-12  # what they may differ by, relative to the largest number of a piece
_UNIT = 1.5  # trade limits beyond are checked against each point's holdings (see problem.units)


@dataclass(frozen=True)
class Column:
    """A piece by point: its V values, and which of them each point has; V = 1 where all agree."""

    values: Any  # array (V, ...), or a tuple of V objects
    index: IntArray | None  # (R,), None where V = 1

    @property
    def shared(self) -> bool:
        """Whether all points have the same."""
        return self.index is None

    def at(self, rows: IntArray) -> FloatArray:
        """Values of some points, with a leading axis of their number, or of 1 where all agree."""
        return self.values if self.index is None else self.values[self.index[rows]]

    def number(self, rows: IntArray) -> IntArray:
        """Which of the values some points have."""
        return np.zeros(len(rows), np.intp) if self.index is None else self.index[rows]


@dataclass(frozen=True)
class Batch:
    """Points of one structure."""

    base: Compiled
    """A problem of that structure."""
    points: IntArray
    """Numbers of the points (R,)."""
    columns: dict[str, Column]
    """Pieces by name, see :func:`pieces`; the box and the start are not among them."""

    def array(self, name: str, rows: IntArray) -> FloatArray:
        """A numerical piece of some of the points, by their place in the batch: (K, ...), or (1, ...)."""
        return self.columns[name].at(rows)

    def program(self, name: str, rows: IntArray) -> FloatArray:
        """A field of the program, likewise."""
        return self.columns[f"program.{name}"].at(rows)


def pieces(compiled: Compiled) -> dict[str, Any]:
    """What a compiled problem consists of, by name: arrays, and measures and scenario sets as they are."""
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
    return p.shape, capped, terms, lines, compiled.holdings is None


def alike(one: Any, other: Any) -> bool:
    """Whether two pieces, or two values of an axis, say the same."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        return one.shape == other.shape and bool(np.array_equal(one, other))
    if isinstance(one, pd.Series):
        return one.equals(other)
    if isinstance(one, ScenarioSet):
        return False
    if isinstance(one, Expression) and not isinstance(one, Term):
        return alike(one.parts, other.parts)
    if isinstance(one, Term) and not is_dataclass(one):
        return _same_state(vars(one), vars(other))
    if is_dataclass(one) and not isinstance(one, type):
        return all(alike(getattr(one, f.name), getattr(other, f.name)) for f in fields(one))
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, dict):
        return _same_state(one, other)
    try:
        return bool(one == other)
    except (TypeError, ValueError):
        return False


def _same_state(one: dict[Any, Any], other: dict[Any, Any]) -> bool:
    mine, theirs = (dict(item) for item in (one, other))
    for kept in (mine, theirs):
        kept.pop("_ordered", None)  # what a term remembers from the last time
    return mine.keys() == theirs.keys() and all(alike(value, theirs[key]) for key, value in mine.items())


# -- values of axes ----------------------------------------------------------------------------------------------
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


def holdings_matrix(problem: Problem, axis: Axis) -> FloatArray:
    """The values of an axis of holdings as weights (V, N), in the order of the assets.

    Raises InputError naming the value that the problem would refuse.
    """
    assets = problem.scenarios.assets
    found = np.empty((len(axis.choices), len(assets)))
    for i, value in enumerate(axis.choices):
        if isinstance(value, pd.Series) and value.dtype == np.float64 and value.index.equals(assets):
            found[i] = value.to_numpy()
        else:
            try:
                found[i] = align(value, assets, what="holdings")
            except InputError as error:
                raise InputError(f"{axis.named(i)}: {error}") from error
    odd = np.flatnonzero(~(np.abs(found) <= 20.0).all(axis=1))
    if len(odd):
        changed(problem, [(axis, int(odd[0]))])  # says what is wrong with it
    return found


# -- putting points together -------------------------------------------------------------------------------------
class Points:
    """The points of a sweep, sorted into batches.

    Parameters
    ----------
    problem
        The problem that is varied.
    axes
        What varies.
    positions
        Which value of each axis each point has (P, axes).
    seed
        For the choice of the points that are compared.
    """

    def __init__(self, problem: Problem, axes: Sequence[Axis], positions: IntArray, seed: int = 0) -> None:
        self.problem = problem
        self.axes = list(axes)
        self.positions = positions
        self.batches: list[Batch] = []
        self._random = np.random.default_rng(seed)
        self._compiled: dict[int, Compiled] = {}
        own = [k for k, a in enumerate(self.axes) if a.name == "holdings"]
        self._held: tuple[int, FloatArray, FloatArray] | None = None  # axis, values (V, N), what pieces are made with
        if own:
            matrix = holdings_matrix(problem, self.axes[own[-1]])
            self._held = own[-1], matrix, matrix[np.unique(positions[:, own[-1]])].mean(axis=0)
        self._rest = [k for k in range(len(self.axes)) if k not in own]
        everything = np.arange(len(positions))
        if len(everything):
            self._sort(everything)

    def problem_at(self, point: int) -> Problem:
        """The problem of one point."""
        return changed(self.problem, zip(self.axes, map(int, self.positions[point]), strict=True))

    def _compile(self, point: int) -> Compiled:
        if point not in self._compiled:
            self._compiled[point] = self.problem_at(point).compiled
        return self._compiled[point]

    def _sort(self, points: IntArray) -> None:
        base = self.problem
        if self._held is not None:
            series = pd.Series(self._held[2], base.scenarios.assets)
            base = base.replace(holdings=series)
        found = self._from_pieces(base, points)
        if found is None:
            self._from_points(points)
            return
        batch, rest = found
        if batch is not None and not self._confirmed(batch):
            self._from_points(points)
            return
        if batch is not None:
            self.batches.append(batch)
        self._from_points(rest)

    def _from_points(self, points: IntArray) -> None:
        """Batches of points that are compiled one by one."""
        groups: dict[Hashable, list[int]] = {}
        same = _Numbers(self.positions[:, [k for k, a in enumerate(self.axes) if a.name == "probabilities"]])
        for point in points.tolist():
            groups.setdefault((signature(self._compile(point)), same.of(point)), []).append(point)
        for members in groups.values():
            compiled = [self._compile(point) for point in members]
            # equal probabilities are one scenario set, so that measures of all points are found at once
            parts = [pieces(one) | {"scenarios": compiled[0].scenarios} for one in compiled]
            columns = {name: _stacked([part[name] for part in parts]) for name in parts[0]}
            self.batches.append(Batch(compiled[0], np.array(members), columns))

    def _from_pieces(self, base: Problem, points: IntArray) -> tuple[Batch | None, IntArray] | None:
        """The batch of the points of the base's structure, and the others; None where pieces do not do."""
        compiled = base.compiled
        whole = pieces(compiled)
        by_lines = _bounds_follow(compiled)
        moved_by: dict[str, int] = {}
        columns: dict[str, Column] = {}
        fits = np.ones(len(points), bool)
        cost = 0
        limits = 0
        for k in self._rest:
            a = self.axes[k]
            kept, number = distinct(a.choices)
            index = number[self.positions[points, k]]
            used = np.unique(index)
            kept = [kept[int(i)] for i in used]
            index = np.searchsorted(used, index)
            cost += min(len(kept), _PROBES) if _numbers(a, kept) else len(kept)
            if cost > len(points):
                return None
            values = self._moved(base, whole, a, kept)
            fits &= np.array([value is not None for value in values])[index]
            names = dict.fromkeys(name for value in values if value is not None for name in value)
            bounds = {name for name in names if name in ("program.lower", "program.upper")}
            limits += bool(bounds) or any(name.startswith("limit.") for name in names)
            if by_lines:
                names = [name for name in names if name not in bounds]
            elif limits > 1 and bounds:
                return None
            for name in names:
                if name in moved_by:
                    return None
                moved_by[name] = k
                parts = [whole[name] if value is None else value.get(name, whole[name]) for value in values]
                columns[name] = _column(parts, index)
        for name, value in whole.items():
            columns.setdefault(name, Column(value[None] if isinstance(value, np.ndarray) else (value,), None))
        batch = Batch(compiled, points, columns)
        if not fits.all():
            keep = np.flatnonzero(fits)
            if not len(keep):
                return None
            batch = _part(batch, keep)
        if by_lines and not self._held:
            batch = _with_bounds(batch)
        if self._held is not None:
            k, matrix, _ = self._held
            own = matrix[self.positions[batch.points, k]]
            followed = _with_holdings(batch, own, by_lines)
            if followed is None:
                return None
            batch, plain = followed
            if not plain.all():
                keep = np.flatnonzero(plain)
                batch = _part(batch, keep)
        rest = np.setdiff1d(points, batch.points)
        return (batch if len(batch.points) else None), rest

    def _moved(self, base: Problem, whole: dict[str, Any], a: Axis, kept: list[int]) -> list[dict[str, Any] | None]:
        """Pieces that each of some values of an axis changes; None where it changes what there is."""
        kind = signature(base.compiled)

        def compiled(position: int) -> dict[str, Any] | None:
            one = changed(base, [(a, position)]).compiled
            if signature(one) != kind:
                return None
            return {name: value for name, value in pieces(one).items() if not alike(value, whole[name])}

        if not _numbers(a, kept):
            return [compiled(position) for position in kept]
        numbers = np.array([float(a.choices[position]) for position in kept])
        order = np.argsort(numbers, kind="stable")
        probes = sorted({int(order[0]), int(order[len(order) // 2]), int(order[-1])})
        found = {i: compiled(kept[i]) for i in probes}
        rule = _rule(whole, {float(numbers[i]): part for i, part in found.items()})
        if rule is None:
            return [found[i] if i in found else compiled(kept[i]) for i in range(len(kept))]
        return [found[i] if i in found else _ruled(whole, rule, float(numbers[i])) for i in range(len(kept))]

    def _confirmed(self, batch: Batch) -> bool:
        """Whether a few points are what compiling them gives."""
        r = len(batch.points)
        chosen = {0, r - 1, int(self._random.integers(r))} if r > _CHECKED else set(range(r))
        for row in chosen:
            one = self._compile(int(batch.points[row]))
            if signature(one) != signature(batch.base):
                return False
            for name, value in pieces(one).items():
                column = batch.columns[name]
                number = int(column.number(np.array([row]))[0])
                if isinstance(value, np.ndarray):
                    if not _close(column.values[number], value):
                        return False
                elif isinstance(value, ScenarioSet):
                    if value.source is not column.values[number].source or not np.array_equal(
                        value.probabilities, column.values[number].probabilities
                    ):
                        return False
                elif not alike(column.values[number], value):
                    return False
        return True


class _Numbers:
    """For each row of positions, a key of what some axes have there."""

    def __init__(self, positions: IntArray) -> None:
        self._positions = positions

    def of(self, point: int) -> Hashable:
        return tuple(self._positions[point].tolist())

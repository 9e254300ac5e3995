"""Many variations of one problem, sorted into batches of one structure.

A problem is compiled once for each value of each axis, and a point put together from the pieces that its values
change. That is right where no two axes move the same piece, or the same block of it; `rules` has pieces for which it
need not be. A few points are compiled as they are, and compared; where any differs all are compiled.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Hashable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.problem import Compiled, Problem

from .axes import Axis, changed
from .pieces import Batch, Column, FloatArray, IntArray, agree, alike, distinct, pieces, signature
from .rules import (
    PROBES,
    bounds_follow,
    holdings_matrix,
    number_rule,
    plain_numbers,
    ruled,
    with_bounds,
    with_holdings,
)

_BLOCK = 512  # points that are compiled one by one and kept at a time
# one entry for each block or row, so that two axes may move one of these pieces where they move other entries
_BY_ENTRY = [
    f"program.{name}"
    for name in ("cvar_weight", "cvar_cap", "l1_weight", "l1_cap", "row_lower", "row_upper", "l1_rate")
]
_BOUNDS = ("program.lower", "program.upper")


class Points:
    """The points of a sweep.

    Parameters
    ----------
    problem
        The problem that is varied.
    axes
        What varies; neither scenarios nor what changes the kind of problem.
    positions
        Which value of each axis each point has (P, axes).
    rank
        Place of each point (P,) in an order in which little changes from one to the next.
    seed
        For the choice of the points that are compared.
    """

    def __init__(
        self, problem: Problem, axes: Sequence[Axis], positions: IntArray, rank: IntArray, seed: int = 0
    ) -> None:
        self.problem = problem
        self.axes = list(axes)
        self.positions = positions
        self.rank = rank
        self.alone: list[int] = []
        """Points found so far that no batch takes: a value has brought in other scenarios, curves or integers."""
        self._random = np.random.default_rng(seed)
        self._compiled: dict[int, Compiled] = {}
        self._held = next((k for k, a in enumerate(self.axes) if a.name == "holdings"), None)

    def batches(self) -> Iterator[Batch]:
        """All points but those in `alone`, each in one batch."""
        rest = np.arange(len(self.positions))
        batch = self._from_pieces(rest)
        if batch is not None:
            rest = np.setdiff1d(rest, batch.points)
            yield batch
        rest = rest[np.argsort(self.rank[rest], kind="stable")]
        for first in range(0, len(rest), _BLOCK):
            yield from self._one_by_one(rest[first : first + _BLOCK])

    def problem_at(self, point: int) -> Problem:
        """The problem of one point."""
        return changed(self.problem, zip(self.axes, map(int, self.positions[point]), strict=True))

    def _compile(self, point: int) -> Compiled:
        if point not in self._compiled:
            self._compiled[point] = self.problem_at(point).compiled
        return self._compiled[point]

    def _one_by_one(self, points: IntArray) -> Iterator[Batch]:
        """Batches of points that are compiled each."""
        weighed = [k for k, a in enumerate(self.axes) if a.name == "probabilities"]
        groups: dict[Hashable, list[int]] = {}
        for point in points.tolist():
            groups.setdefault((signature(self._compile(point)), *self.positions[point, weighed]), []).append(point)
        for members in groups.values():
            first = self._compile(members[0])
            if not first.own_rows or first.curves or first.integer:
                self.alone += members
                continue
            compiled = [self._compile(point) for point in members]
            # equal probabilities are one scenario set, so that the tails of all points are found at once
            parts = [pieces(one) | {"scenarios": compiled[0].scenarios} for one in compiled]
            order = np.arange(len(members))
            columns = {name: Column.of([part[name] for part in parts], order) for name in parts[0]}
            yield Batch(compiled[0], np.array(members), columns)
        self._compiled.clear()

    def _from_pieces(self, points: IntArray) -> Batch | None:
        """The batch of those points that can be put together; None where that is no way to do it."""
        base, held = self.problem, None
        if self._held is not None:
            held = holdings_matrix(base, self.axes[self._held])[self.positions[points, self._held]]
            # a book like no other, so that nothing is equal to it by chance
            try:
                base = base.replace(holdings=pd.Series(held.mean(axis=0), base.scenarios.assets))
            except InputError:  # what is right for each book need not be so for their mean
                return None
        axes = [k for k in range(len(self.axes)) if k != self._held]
        used = [np.unique(self.positions[points, k]) for k in axes]
        kept = [distinct([self.axes[k].choices[i] for i in mine]) for k, mine in zip(axes, used, strict=True)]
        cost = sum(
            PROBES if plain_numbers(self.axes[k], mine[first].tolist()) else len(first)
            for k, mine, (first, _) in zip(axes, used, kept, strict=True)
        )
        if cost >= len(points):
            return None
        compiled = base.compiled
        whole = pieces(compiled)
        by_lines = bounds_follow(compiled)
        columns = {name: Column.one(value) for name, value in whole.items()}
        fits = np.ones(len(points), bool)
        moved: dict[str, Any] = {}  # entries of each piece that an axis moves
        limiting = 0
        changes = []
        for k, mine, (first, number) in zip(axes, used, kept, strict=True):
            index = number[np.searchsorted(mine, self.positions[points, k])]
            values = self._moved(base, whole, self.axes[k], mine[first].tolist(), _BOUNDS if by_lines else ())
            fits &= np.array([value is not None for value in values])[index]
            changes.append(np.array([bool(value) for value in values])[index])
            names = dict.fromkeys(name for value in values if value is not None for name in value)
            limiting += any(name in _BOUNDS or name.startswith("limit.") for name in names)
            for name in names:
                parts = [whole[name] if value is None else value.get(name, whole[name]) for value in values]
                column = Column.of(parts, index)
                entries = _entries(parts, whole[name]) if name in _BY_ENTRY else np.ones((), bool)
                if name in moved:
                    if (entries & moved[name]).any():
                        return None
                    column = columns[name].over(column, entries)
                columns[name], moved[name] = column, entries | moved.get(name, False)
        if not by_lines and limiting > 1:
            return None  # of two bounds the tighter one counts, which neither axis knows by itself
        batch = Batch(compiled, points, columns).part(np.flatnonzero(fits))
        if held is None:
            batch = with_bounds(batch) if by_lines else batch
        else:
            found = with_holdings(batch, held[fits], by_lines) if len(batch.points) else (batch, np.ones(0, bool))
            if found is None:
                return None
            batch = found[0].part(np.flatnonzero(found[1]))
        changes = [change[np.isin(points, batch.points)] for change in changes]
        return batch if len(batch.points) and self._confirmed(batch, changes) else None

    def _moved(
        self, base: Problem, whole: dict[str, Any], axis: Axis, kept: list[int], ignored: Collection[str]
    ) -> list[dict[str, Any] | None]:
        """Pieces that each of some values of an axis changes; None where it changes what there is."""
        kind = signature(base.compiled)

        def compiled(position: int) -> dict[str, Any] | None:
            one = changed(base, [(axis, position)]).compiled
            if signature(one) != kind:
                return None
            mine = pieces(one)
            return {name: mine[name] for name in whole if name not in ignored and not alike(mine[name], whole[name])}

        if not plain_numbers(axis, kept):
            return [compiled(position) for position in kept]
        numbers = [float(axis.choices[position]) for position in kept]
        order = np.argsort(numbers, kind="stable")
        found = {int(i): compiled(kept[i]) for i in (order[0], order[len(order) // 2], order[-1])}
        rule = number_rule(whole, {numbers[i]: part for i, part in found.items()})
        return [
            found[i] if i in found else compiled(kept[i]) if rule is None else ruled(rule, numbers[i])
            for i in range(len(kept))
        ]

    def _confirmed(self, batch: Batch, changes: list[Any]) -> bool:
        """Whether a few points are what compiling them gives: some of all, and one for each two axes that both move."""
        r = len(batch.points)
        chosen = {0, r - 1, int(self._random.integers(r))}
        for one, other in itertools.combinations(changes, 2):
            both = np.flatnonzero(one & other)
            if len(both) and not chosen & set(both.tolist()):
                chosen.add(int(self._random.choice(both)))
        for row in chosen:
            compiled = self._compile(int(batch.points[row]))
            if signature(compiled) != signature(batch.base):
                return False
            for name, value in pieces(compiled).items():
                column = batch.columns[name]
                if not agree(column.pool[column.number(np.array([row]))[0]], value):
                    return False
        return True


def _entries(parts: Sequence[FloatArray], base: FloatArray) -> npt.NDArray[np.bool_]:
    """Which blocks or rows (B,) some versions of a piece differ in."""
    differ = np.any([part != base for part in parts], axis=0)
    return differ.reshape(len(base), -1).any(axis=1)

"""What if: one problem with some of its numbers moved, many times over, answered as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.labels import numbers
from portfolioopt.problem import Problem

from .axes import Axis, axis, changed
from .optimize import optimize
from .pieces import distinct
from .points import Points
from .points_chain import Solved, solved
from .result import Result, Status
from .together import chainable

FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.intp]


@dataclass(frozen=True)
class WhatIfs:
    """Answers to R what-ifs as arrays, in their order. Points without a portfolio have NaN, and say why in `message`.

    Units are those of :class:`Result`; all numbers are recomputed in float64 from the weights.
    """

    problem: Problem
    """The problem that was varied."""
    axes: tuple[Axis, ...]
    """What varied."""
    weights: FloatArray
    """Fractions of NAV (R, N), in the order of the problem's assets."""
    status: npt.NDArray[np.str_]
    """Name of the :class:`Status` (R,)."""
    objective: FloatArray
    """Value of the maximised objective (R,)."""
    bound: FloatArray
    """No allowed portfolio has a higher objective (R,)."""
    gap: FloatArray
    """Bound less objective, relative to the size of the objective's terms (R,); see :class:`Certificate`."""
    max_violation: FloatArray
    """Largest relative violation of any constraint (R,)."""
    worst_constraint: npt.NDArray[np.object_]
    """Which one that is (R,); None where all are met exactly."""
    expected_return: FloatArray
    """Scenario mean of the return per horizon, before costs (R,)."""
    volatility: FloatArray
    """Standard deviation of the return per horizon (R,)."""
    var: dict[float, FloatArray]
    """Value-at-risk (R,) by confidence level; NaN where a point's problem does not look at the level."""
    cvar: dict[float, FloatArray]
    """CVaR (R,) by confidence level."""
    iterations: IntArray
    """Pivots (R,)."""
    constraints: tuple[str, ...]
    """Names of the problem's constraints (C,)."""
    binding: IntArray
    """How many lines of each constraint bind (R, C): inequalities only, 0 where there is no portfolio."""
    message: npt.NDArray[np.object_]
    """Why a point has no answer (R,); empty where it has one."""

    def __len__(self) -> int:
        return len(self.status)

    def __repr__(self) -> str:
        names = ", ".join(a.name for a in self.axes)
        kinds, counts = np.unique(self.status, return_counts=True)
        parts = ", ".join(f"{n} {kind}" for n, kind in zip(counts.tolist(), kinds.tolist(), strict=True))
        return f"WhatIfs({len(self)} points over {names}: {parts})"

    @property
    def frame(self) -> pd.DataFrame:
        """One row per point: the axes, then status, certificate and figures, with the columns of `Sweep.points`."""
        columns: dict[str, Any] = {a.name: list(a.labels) for a in self.axes}
        plain = ("status", "objective", "bound", "gap", "max_violation", "worst_constraint", "expected_return")
        columns |= {name: getattr(self, name) for name in (*plain, "volatility")}
        columns |= {f"var[{beta:g}]": values for beta, values in self.var.items()}
        columns |= {f"cvar[{beta:g}]": values for beta, values in self.cvar.items()}
        columns |= {name: getattr(self, name) for name in ("iterations", "message")}
        return pd.DataFrame(columns, index=pd.RangeIndex(len(self), name="point"))

    def problem_at(self, point: int) -> Problem:
        """The problem of one point, by its number."""
        number = range(len(self))[point]
        return changed(self.problem, [(a, number) for a in self.axes])

    def result_at(self, point: int) -> Result:
        """The full result of one point, solved again from scratch."""
        return optimize(self.problem_at(point), raise_on_failure=False)


def what_ifs(problem: Problem, changes: Mapping[str, Sequence[Any]], *, tolerance: float = 1e-6) -> WhatIfs:
    """Solve a problem for many values of some of its inputs, certifying every point; arrays in, arrays out.

    Does what ``sweep(problem, changes, how="zip")`` does, without a table or an object for each point: compiling,
    scaling and certifying happen for all points at once. Points may be given in any order; neighbours are solved one
    after the other. Those that the kernel has no certified answer for, and problems it does not take (curved measures,
    ratios, integer constraints, several scenario sets, very many scenarios), go through :func:`optimize` one by one.

    Parameters
    ----------
    problem
        The problem that is varied.
    changes
        Name of an input and its R values, by the names of :func:`sweep`: ``{"holdings": books, "CVaR.weight": [...]}``.
        Holdings may also be a DataFrame, one row for each point and one column for each asset.
    tolerance
        As in :func:`optimize`.

    Raises
    ------
    InputError
        For unknown names, values that the problem refuses, and lists of different lengths. Points that are infeasible,
        unbounded or stalled raise nothing: their status says so.
    """
    if not isinstance(problem, Problem):
        raise InputError(f"what_ifs takes a Problem, was given {type(problem).__name__}")
    if not isinstance(changes, Mapping) or not changes:
        raise InputError("changes must map names of inputs to values, as in {'CVaR.weight': [1.0, 2.0]}")
    if not isinstance(tolerance, Real) or not 1e-12 <= tolerance <= 1e-2:
        raise InputError(f"tolerance must lie between 1e-12 and 1e-2 (relative), was {tolerance!r}")
    axes = [axis(problem, name, _books(problem, name, values)) for name, values in changes.items()]
    lengths = {a.name: len(a.choices) for a in axes}
    if len(set(lengths.values())) > 1:
        pairs = ", ".join(f"{name} {n}" for name, n in lengths.items())
        raise InputError(f"all inputs must have the same number of values: {pairs}")
    table = _Table(problem, axes, len(axes[0].choices))
    positions = np.repeat(np.arange(table.count)[:, None], len(axes), axis=1)
    rank = neighbours(axes, positions)
    if any(a.name == "scenarios" for a in axes) or not chainable(problem):
        previous = None
        for point in np.argsort(rank, kind="stable").tolist():
            result = optimize(
                changed(problem, [(a, point) for a in axes]),
                warm_start=previous,
                tolerance=tolerance,
                raise_on_failure=False,
            )
            previous = result if result.weights is not None else previous
            table.enter(point, result)
        return table.whole()
    points = Points(problem, axes, positions, rank)
    for batch in points.batches():
        for part in solved(batch, rank, tolerance):
            table.fill(part)
            points.alone += part.points[~part.certified].tolist()
    for point in points.alone:
        table.enter(point, optimize(points.problem_at(point), tolerance=tolerance, raise_on_failure=False))
    return table.whole()


def neighbours(axes: Sequence[Axis], positions: IntArray) -> IntArray:
    """Place of each point (P,) in an order in which mostly one axis moves, and by little, to and fro."""
    keys = []
    for k, a in enumerate(axes):
        if a.name == "holdings":
            continue  # in the order in which they come
        kept, number = distinct(a.choices)
        values = [a.choices[i] for i in kept]
        if all(isinstance(value, Real) for value in values):
            number = np.argsort(np.argsort(np.array(values, dtype=float), kind="stable"))[number]
        keys.append(number[positions[:, k]])
    keys.sort(key=lambda key: len(np.unique(key)))  # what takes few values moves rarely
    turned = np.zeros(len(positions), np.intp)
    group = np.zeros(len(positions), np.intp)
    columns = []
    for key in keys:
        columns.append(np.where(turned % 2 == 0, key, -key))
        group = np.unique(np.stack([group, columns[-1]], axis=1), axis=0, return_inverse=True)[1].reshape(-1)
        turned = group
    order = np.lexsort([np.arange(len(positions)), *reversed(columns)])
    rank = np.empty(len(positions), np.intp)
    rank[order] = np.arange(len(positions))
    return rank


def _books(problem: Problem, name: str, values: Any) -> Any:
    """Holdings of a table as one Series for each row."""
    if name != "holdings" or not isinstance(values, pd.DataFrame):
        return values
    assets = problem.scenarios.assets
    ordered = values if values.columns.equals(assets) else None
    if ordered is None:
        if not values.columns.is_unique or set(values.columns) != set(assets):
            raise InputError("holdings must have one column for each asset of the scenarios, and no other")
        ordered = values[assets]
    return [pd.Series(row, index=assets) for row in numbers(ordered, "holdings")]


class _Table:
    """The answers as they come in."""

    def __init__(self, problem: Problem, axes: Sequence[Axis], count: int) -> None:
        self.count = count
        self.constraints = tuple(c.name for c in problem.constraints)

        def missing() -> FloatArray:
            return np.full(count, np.nan)

        self._found = WhatIfs(
            problem=problem,
            axes=tuple(axes),
            weights=np.full((count, problem.scenarios.n_assets), np.nan),
            status=np.full(count, "", dtype=f"<U{max(len(s.name) for s in Status)}"),
            objective=missing(),
            bound=missing(),
            gap=missing(),
            max_violation=missing(),
            worst_constraint=np.full(count, None, dtype=object),
            expected_return=missing(),
            volatility=missing(),
            var={},
            cvar={},
            iterations=np.zeros(count, np.intp),
            constraints=self.constraints,
            binding=np.zeros((count, len(self.constraints)), np.intp),
            message=np.full(count, "", dtype=object),
        )

    def whole(self) -> WhatIfs:
        """All of them."""
        found = self._found
        return replace(found, var=dict(sorted(found.var.items())), cvar=dict(sorted(found.cvar.items())))

    def fill(self, part: Solved) -> None:
        """Enter those of some points that are certified."""
        good, found, standing = part.certified, self._found, part.standing
        at = part.points[good]
        found.weights[at] = part.weights[good]
        found.status[at] = Status.optimal.name
        for name in ("objective", "bound", "gap", "max_violation", "expected_return", "volatility"):
            getattr(found, name)[at] = getattr(standing, name)[good]
        found.worst_constraint[at] = np.array(standing.worst_constraint, dtype=object)[good]
        found.iterations[at] = part.iterations[good]
        for beta in standing.var:
            self._level(found.var, beta)[at] = standing.var[beta][good]
            self._level(found.cvar, beta)[at] = standing.cvar[beta][good]
        for name, count in standing.binding.items():
            found.binding[at, self.constraints.index(name)] = count[good]

    def enter(self, point: int, result: Result) -> None:
        """Enter one point that was solved by itself."""
        found = self._found
        found.status[point] = result.status.name
        found.message[point] = "" if result.status is Status.optimal else result.message
        found.iterations[point] = result.iterations
        if result.weights is None or result.certificate is None:
            return
        found.weights[point] = result.weights.to_numpy()
        for name in ("objective", "bound", "gap", "max_violation"):
            getattr(found, name)[point] = getattr(result.certificate, name)
        found.worst_constraint[point] = result.certificate.worst_constraint
        found.expected_return[point] = result.expected_return
        found.volatility[point] = result.volatility
        for beta, row in result.risk.to_dict("index").items():
            self._level(found.var, float(beta))[point] = row["var"]  # type: ignore[arg-type]
            self._level(found.cvar, float(beta))[point] = row["cvar"]  # type: ignore[arg-type]
        for name, count in result.binding.items():
            found.binding[point, self.constraints.index(name)] = count

    def _level(self, by_level: dict[float, FloatArray], beta: float) -> FloatArray:
        if beta not in by_level:
            by_level[beta] = np.full(self.count, np.nan)
        return by_level[beta]

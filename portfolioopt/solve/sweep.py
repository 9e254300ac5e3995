"""Thousands of what-ifs: one problem with some of its numbers moved, on one shared scenario matrix."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from numbers import Integral
from pathlib import Path
from typing import Any, Literal, TypeAlias

import jax
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from portfolioopt.errors import InputError, SolveError
from portfolioopt.problem import Compiled, CVaR, ExpectedReturn, Lines, Objective, Problem, ReturnTarget
from portfolioopt.problem.terms import Term
from portfolioopt_kernels import Solution, exchange

from .axes import Axis, axis, changed
from .certificate import Certificate
from .engine import Chain
from .optimize import optimize
from .pieces import alike
from .points import Points
from .points_chain import Solved, solved
from .result import Result, Status, binding_prices
from .together import CHUNK, chainable, good_enough, structure

FloatArray: TypeAlias = npt.NDArray[np.float64]

_LOOSE = {"program.start"}  # pieces of which any will do
_BOUNDS = "bounds"  # stands for all limits of single weights: of two the tighter one counts, so one axis may move them


class Sweep:
    """The points of a sweep, in the order of `over`: product axes vary fastest at the end."""

    def __init__(
        self,
        problem: Problem,
        axes: list[Axis],
        positions: list[tuple[int, ...]],
        frame: pd.DataFrame | None,
        file: Path | None,
        limits: pd.DataFrame | None = None,
    ) -> None:
        self.problem = problem
        """The problem that was varied."""
        self._axes = axes
        self._positions = positions
        self._frame = frame
        self._file = file
        self._limits = limits

    @property
    def frame(self) -> pd.DataFrame:
        """One row per point: the axes, its status and certificate, and its weights.

        Columns after the axes: `status`, `objective`, `bound`, `gap`, `max_violation`, `worst_constraint`,
        `expected_return`, `cvar[...]` by level, `iterations`, `message` and `weight[...]` by asset. Units are those of
        :class:`Result`. Points without a portfolio have NaN, and say why in `message`.
        """
        if self._frame is not None:
            return self._frame
        assert self._file is not None
        return pd.read_parquet(self._file).sort_index()

    @property
    def points(self) -> pd.DataFrame:
        """:attr:`frame` without the weights."""
        frame = self.frame
        return frame[[name for name in frame.columns if not name.startswith("weight[")]]

    @property
    def weights(self) -> pd.DataFrame:
        """Weights by point (rows, numbered like :attr:`frame`) and asset (columns), fractions of NAV."""
        frame = self.frame
        names = [name for name in frame.columns if name.startswith("weight[")]
        return frame[names].set_axis(self.problem.scenarios.assets, axis=1)

    @property
    def limits(self) -> pd.DataFrame:
        """Which limits bind where: shadow price by point (rows) and line (columns), NaN where it does not bind.

        In basis points of the objective per percentage point of limit. Kept by ``sweep(..., limits=True)`` only.
        """
        if self._limits is None:
            raise InputError("this sweep did not keep its limits; ask for them: sweep(..., limits=True)")
        return self._limits

    def __len__(self) -> int:
        return len(self._positions)

    def problem_at(self, point: int) -> Problem:
        """The problem of one point, by its number."""
        return _problem(self.problem, self._axes, self._positions[point])

    def result_at(self, point: int) -> Result:
        """The full result of one point, solved again from scratch."""
        return optimize(self.problem_at(point), raise_on_failure=False)

    def __repr__(self) -> str:
        names = ", ".join(f"{a.name} ({len(a.choices)})" for a in self._axes)
        counts = self.frame["status"].value_counts()
        return f"Sweep({len(self)} points over {names}: {', '.join(f'{n} {s}' for s, n in counts.items())})"


def sweep(
    problem: Problem,
    over: Mapping[str, Any],
    *,
    how: Literal["product", "zip"] = "product",
    tolerance: float = 1e-6,
    to: str | Path | None = None,
    limits: bool = False,
    progress: bool = False,
    workers: int | None = None,
) -> Sweep:
    """Solve a problem for many values of some of its inputs, certifying every point.

    The scenario matrix is put on the device once. Points are visited so that neighbours follow each other, and each
    begins at the vertex of the one before.

    Parameters
    ----------
    problem
        The problem that is varied.
    over
        Axes: name of an input and its values, a list or a mapping from labels to values. Names are ``"holdings"``,
        ``"probabilities"``, ``"scenarios"`` (windows ``slice(first, last)`` of the problem's scenarios, or other sets),
        ``"<constraint>.<field>"`` as in ``"Turnover.limit"`` or ``"Bounds.upper"``, and ``"<term>.<field>"`` as in
        ``"CVaR.weight"``, ``"CVaR.beta"``, ``"ExpectedReturn.mean"``, ``"ProportionalCost.bps"``. The weight of a risk
        or cost is how much of it is subtracted.
    how
        ``"product"``: every combination. ``"zip"``: the first values together, then the second ones, ...
    tolerance
        As in :func:`optimize`.
    to
        Parquet file to write the points to as they are solved, where they are too many for memory.
    limits
        Keep the shadow prices of all binding limits, for :attr:`Sweep.limits`.
    progress
        Show a progress bar.
    workers
        Threads; one per core on a CPU where None.

    Raises
    ------
    InputError
        For unknown axes, and values that the problem refuses, naming both. Points that are infeasible, unbounded or
        stalled raise nothing: their status says so.
    """
    if not isinstance(problem, Problem):
        raise InputError(f"sweep takes a Problem, was given {type(problem).__name__}")
    if not isinstance(over, Mapping) or not over:
        raise InputError("over must map names of inputs to values, as in {'CVaR.weight': [1.0, 2.0]}")
    axes = [axis(problem, name, values) for name, values in over.items()]
    lengths = [len(a.choices) for a in axes]
    if how == "zip":
        if len(set(lengths)) > 1:
            pairs = ", ".join(f"{a.name} {n}" for a, n in zip(axes, lengths, strict=True))
            raise InputError(f"axes that are zipped must have the same number of values: {pairs}")
        positions = [(i,) * len(axes) for i in range(lengths[0])]
        order = list(range(lengths[0]))
    elif how == "product":
        positions = list(itertools.product(*map(range, lengths)))
        order = _snake(lengths)
    else:
        raise InputError(f"how must be 'product' or 'zip', was {how!r}")

    records: dict[int, dict[str, Any]] = {}
    priced: dict[int, dict[str, float]] = {}
    with progress_bar(len(positions), progress) as step, _writer(to) as write:
        for number, record in _solve(problem, axes, positions, order, tolerance, workers, limits):
            if limits:
                priced[number] = record.pop("limits")
            records[number] = record
            step()
            if write is not None and len(records) >= 4 * CHUNK:
                write(_frame(problem, axes, positions, records))
                records.clear()
        if write is not None:
            write(_frame(problem, axes, positions, records))
    table = None
    if limits:
        table = pd.DataFrame.from_dict(priced, orient="index").sort_index().rename_axis(index="point")
    if to is not None:
        return Sweep(problem, axes, positions, None, Path(to), table)
    return Sweep(problem, axes, positions, _frame(problem, axes, positions, records), None, table)


def frontier(
    problem: Problem,
    n: int = 50,
    *,
    beta: float | None = None,
    risk: Term | None = None,
    tolerance: float = 1e-6,
    limits: bool = False,
    progress: bool = False,
) -> Sweep:
    """The efficient frontier: the least risk for `n` expected returns between that of least risk and the greatest.

    The problem's constraints and costs apply; its expected-return and CVaR terms say which mean and which level are
    meant, not how they are weighed. A sweep over ``"ReturnTarget.target"``.

    Parameters
    ----------
    n
        Points, at least 2.
    beta
        Level of the CVaR; that of the objective's only CVaR term where None.
    risk
        Another risk instead of CVaR, such as ``Volatility()``.
    limits
        As for :func:`sweep`: keep the shadow prices along the frontier.

    Raises
    ------
    InputError
        Where the level is not clear, or a return target is among the constraints already.
    SolveError
        Where the ends of the frontier cannot be found: no portfolio meets the constraints, or returns are unlimited.
    """
    if not isinstance(problem, Problem):
        raise InputError(f"frontier takes a Problem, was given {type(problem).__name__}")
    if not isinstance(n, Integral) or n < 2:
        raise InputError(f"a frontier has at least 2 points, was asked for {n!r}")
    parts = problem.objective.parts
    if risk is not None:
        if not isinstance(risk, Term) or risk.curvature != "convex":
            raise InputError(f"risk must be a convex measure such as Volatility(), was {risk!r}")
        if beta is not None:
            raise InputError("give a level of CVaR or another risk, not both")
    levels = {term.beta for _, term in parts if isinstance(term, CVaR)}
    if beta is None and risk is None:
        if len(levels) != 1:
            raise InputError(f"the objective has {len(levels)} CVaR terms; say which level is meant: beta=...")
        beta = levels.pop()
    if any(isinstance(c, ReturnTarget) for c in problem.constraints):
        raise InputError("the problem has a ReturnTarget; take it out, the frontier puts its own in")
    means = [term for _, term in parts if isinstance(term, ExpectedReturn)]
    gain = means[0] if means else ExpectedReturn()
    measured = CVaR(beta) if risk is None else risk  # type: ignore[arg-type]
    dropped = (CVaR, ExpectedReturn, type(measured))
    rest = tuple((c, term) for c, term in parts if not isinstance(term, dropped))
    least = Objective(((-1.0, measured), *rest))

    def expected(result: Result) -> float:
        mean = problem.scenarios.mean() if gain.mean is None else pd.Series(gain.mean)
        assert result.weights is not None
        return float(mean.reindex(result.weights.index).to_numpy() @ result.weights.to_numpy())

    safest = optimize(problem.replace(objective=least), tolerance=tolerance)
    try:
        boldest = optimize(problem.replace(objective=Objective(((1.0, gain),))), tolerance=tolerance, warm_start=safest)
    except SolveError as error:
        raise type(error)(f"the greatest expected return: {error}") from error
    low, high = expected(safest), expected(boldest)
    targets = np.linspace(low, high, int(n))
    targets[-1] = high - 1e-12 * max(abs(high), abs(high - low))  # rounding must not put the end out of reach
    base = problem.replace(
        objective=least, constraints=[*problem.constraints, ReturnTarget(float(targets[0]), mean=gain.mean)]
    )
    return sweep(base, {"ReturnTarget.target": targets}, tolerance=tolerance, limits=limits, progress=progress)


# -- points ------------------------------------------------------------------------------------------------------
def _problem(problem: Problem, axes: list[Axis], position: tuple[int, ...]) -> Problem:
    return changed(problem, zip(axes, position, strict=True))


def _snake(lengths: list[int]) -> list[int]:
    """Numbers of the points of a product so that only one axis moves, by one, from each to the next."""
    paths: list[list[int]] = [[]]
    for n in lengths:
        paths = [
            [*path, i]
            for number, path in enumerate(paths)
            for i in (range(n) if number % 2 == 0 else range(n - 1, -1, -1))
        ]
    strides = np.cumprod([1, *lengths[:0:-1]])[::-1]
    return [int(np.dot(path, strides)) for path in paths]


class _Variants:
    """Compiled problems of all points, put together from those that differ in one axis only where these are fewer."""

    def __init__(self, problem: Problem, axes: list[Axis], points: int) -> None:
        self.piecewise = points > sum(len(a.choices) for a in axes)
        self.problem = problem
        self.axes = axes
        self.base = _pieces(problem.compiled)
        self._single: dict[tuple[int, int], dict[str, Any] | None] = {}

    def at(self, position: tuple[int, ...]) -> Compiled:
        """The compiled problem of a point."""
        if self.piecewise:
            merged: dict[str, Any] = {}
            for number, i in enumerate(position):
                moved = self._moved(number, i)
                if moved is None or (merged.keys() & moved.keys()) - _LOOSE:
                    break
                merged |= moved
            else:
                merged.pop(_BOUNDS, None)
                return _assemble(self.problem.compiled, merged)
        return _problem(self.problem, self.axes, position).compiled

    def _moved(self, number: int, i: int) -> dict[str, Any] | None:
        """Pieces that one value changes; None where it changes what there is."""
        key = (number, i)
        if key not in self._single:
            pieces = _pieces(changed(self.problem, [(self.axes[number], i)]).compiled)
            if pieces.keys() != self.base.keys():
                self._single[key] = None
            else:
                changes = {name: value for name, value in pieces.items() if not alike(value, self.base[name])}
                if any(name in changes for name in ("program.lower", "program.upper")) or any(
                    isinstance(value, Lines) and value.kind in ("weight", "trade") for value in changes.values()
                ):
                    changes[_BOUNDS] = True
                self._single[key] = changes
        return self._single[key]


def _pieces(compiled: Compiled) -> dict[str, Any]:
    program = {f"program.{name}": value for name, value in vars(compiled.program).items()}
    terms = {f"terms.{i}": term for i, term in enumerate(compiled.terms)}
    lines = {f"lines.{i}": line for i, line in enumerate(compiled.lines)}
    rest = {f.name: getattr(compiled, f.name) for f in fields(compiled) if f.name not in ("program", "terms", "lines")}
    return program | terms | lines | rest


def _assemble(base: Compiled, moved: dict[str, Any]) -> Compiled:
    program = {name[8:]: value for name, value in moved.items() if name.startswith("program.")}
    terms, lines = list(base.terms), list(base.lines)
    rest = {}
    for name, value in moved.items():
        head, _, tail = name.partition(".")
        if head == "terms":
            terms[int(tail)] = value
        elif head == "lines":
            lines[int(tail)] = value
        elif head != "program":
            rest[name] = value
    return replace(base, program=exchange(base.program, **program), terms=tuple(terms), lines=tuple(lines), **rest)


# -- solving -----------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Point:
    """One point that a chain can solve."""

    number: int
    compiled: Compiled


def _solve(
    problem: Problem,
    axes: list[Axis],
    positions: list[tuple[int, ...]],
    order: list[int],
    tolerance: float,
    workers: int | None,
    limits: bool,
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Records of all points, in the order in which they are done."""
    s = problem.scenarios.n_scenarios
    source = problem.scenarios.source
    chained = not _replaces_scenarios(axes) and chainable(problem, _window_length(axes, s))
    if not chained:
        previous = None
        for number in order:
            result = optimize(
                _problem(problem, axes, positions[number]),
                warm_start=previous,
                tolerance=tolerance,
                raise_on_failure=False,
            )
            previous = result if result.weights is not None else previous
            yield number, _record(result, limits)
        return

    def again(number: int) -> dict[str, Any]:
        result = optimize(_problem(problem, axes, positions[number]), tolerance=tolerance, raise_on_failure=False)
        return _record(result, limits)

    if not limits and not any(a.name == "scenarios" for a in axes):
        rank = np.empty(len(order), np.intp)
        rank[order] = np.arange(len(order))
        points = Points(problem, axes, np.array(positions, np.intp), rank)
        for batch in points.batches():
            for part in solved(batch, rank, tolerance, workers):
                for i, number in enumerate(part.points.tolist()):
                    yield number, _row_of(part, i) if part.certified[i] else again(number)
        for number in points.alone:
            yield number, again(number)
        return

    variants = _Variants(problem, axes, len(positions))
    if workers is None:
        workers = (os.cpu_count() or 1) if jax.default_backend() == "cpu" else 1
    workers = max(1, min(workers, len(order) // (2 * CHUNK)))
    first = _window_starts(axes, positions)
    chains: dict[Any, Chain] = {}

    def run(numbers: list[int], chain_of: dict[Any, Any]) -> list[tuple[_Point, Solution]]:
        """Solve some points in a row; `chain_of` keeps where each kind of problem stands."""
        points = [_Point(number, variants.at(positions[number])) for number in numbers]
        done = []
        for key, group in itertools.groupby(points, key=lambda point: structure(point.compiled)):
            members = list(group)
            chain = chains.get(key)
            if chain is None:
                chain = chains[key] = Chain(members[0].compiled, np.asarray(source.matrix), windows=first is not None)
            starts = None if first is None else np.array([first[point.number] for point in members])
            solutions, chain_of[key] = chain.run([p.compiled for p in members], starts, chain_of.get(key), CHUNK)
            done += zip(members, solutions, strict=True)
        return done

    def lane(numbers: list[int]) -> Iterator[list[tuple[_Point, Solution]]]:
        chain_of: dict[Any, Any] = {}
        for i in range(0, len(numbers), CHUNK):
            yield run(numbers[i : i + CHUNK], chain_of)

    cuts = np.linspace(0, len(order), workers + 1).astype(int)
    lanes = [lane(order[a:b]) for a, b in itertools.pairwise(cuts)]
    with ThreadPoolExecutor(workers) as pool:
        pending = {one: pool.submit(next, one, None) for one in lanes}
        while pending:
            for one, future in list(pending.items()):
                found = future.result()
                if found is None:
                    del pending[one]
                    continue
                pending[one] = pool.submit(next, one, None)  # goes on while these are certified
                for point, solution in found:
                    record = _certified(point.compiled, solution, tolerance, limits)
                    yield point.number, again(point.number) if record is None else record


def _replaces_scenarios(axes: list[Axis]) -> bool:
    return any(a.name == "scenarios" and not all(isinstance(v, slice) for v in a.choices) for a in axes)


def _window_length(axes: list[Axis], s: int) -> int:
    lengths = [v.stop - v.start for a in axes if a.name == "scenarios" for v in a.choices]
    return max(lengths, default=s)


def _window_starts(axes: list[Axis], positions: list[tuple[int, ...]]) -> dict[int, int] | None:
    for number, a in enumerate(axes):
        if a.name == "scenarios":
            return {i: a.choices[position[number]].start for i, position in enumerate(positions)}
    return None


# -- records -----------------------------------------------------------------------------------------------------
def _certified(compiled: Compiled, solution: Solution, tolerance: float, limits: bool) -> dict[str, Any] | None:
    """The record of a point whose solution is good enough."""
    good = good_enough(compiled, solution, tolerance)
    if good is None:
        return None
    weights, evaluation = good
    c = evaluation.certificate
    cvars = {beta: tail.cvar for beta, tail in evaluation.tails.items()}
    held = weights[: compiled.n_assets]
    row = _row(Status.optimal, "", c, held, compiled, cvars, int(solution.iterations))
    return row | {"limits": binding_prices(compiled, evaluation, held)} if limits else row


def _row_of(part: Solved, i: int) -> dict[str, Any]:
    """The record of one of some points that were solved together."""
    found = part.standing
    return {
        "status": Status.optimal.name,
        "objective": float(found.objective[i]),
        "bound": float(found.bound[i]),
        "gap": float(found.gap[i]),
        "max_violation": float(found.max_violation[i]),
        "worst_constraint": found.worst_constraint[i],
        "expected_return": float(found.expected_return[i]),
        "cvars": {beta: float(found.cvar[beta][i]) for beta in part.levels},
        "iterations": int(part.iterations[i]),
        "message": "",
        "weights": part.weights[i],
    }


def _record(result: Result, limits: bool) -> dict[str, Any]:
    compiled = result.problem.compiled
    weights = None if result.weights is None else result.weights.to_numpy()
    cvars: dict[float, float] = {}
    if weights is not None and compiled.betas:
        cvars = dict(zip(compiled.betas, result.risk["cvar"].tolist(), strict=True))
    message = "" if result.status is Status.optimal else result.message
    row = _row(result.status, message, result.certificate, weights, compiled, cvars, result.iterations)
    return row | {"limits": {} if weights is None else result.binding_prices} if limits else row


def _row(
    status: Status,
    message: str,
    c: Certificate | None,
    weights: FloatArray | None,
    compiled: Compiled,
    cvars: dict[float, float],
    iterations: int,
) -> dict[str, Any]:
    nan = float("nan")
    return {
        "status": status.name,
        "objective": nan if c is None else c.objective,
        "bound": nan if c is None else c.bound,
        "gap": nan if c is None else c.gap,
        "max_violation": nan if c is None else c.max_violation,
        "worst_constraint": None if c is None else c.worst_constraint,
        "expected_return": nan if weights is None else float(compiled.mean @ weights),
        "cvars": cvars,
        "iterations": iterations,
        "message": message,
        "weights": weights,
    }


def _frame(
    problem: Problem, axes: list[Axis], positions: list[tuple[int, ...]], records: dict[int, dict[str, Any]]
) -> pd.DataFrame:
    numbers = sorted(records)
    rows = [records[number] for number in numbers]
    columns: dict[str, Any] = {
        a.name: [a.labels[positions[number][k]] for number in numbers] for k, a in enumerate(axes)
    }
    plain = ("status", "objective", "bound", "gap", "max_violation", "worst_constraint", "expected_return")
    columns |= {name: [row[name] for row in rows] for name in plain}
    betas = sorted({beta for row in rows for beta in row["cvars"]} or set(problem.compiled.betas))
    columns |= {f"cvar[{beta:g}]": [row["cvars"].get(beta, np.nan) for row in rows] for beta in betas}
    columns |= {name: [row[name] for row in rows] for name in ("iterations", "message")}
    nothing = np.full(problem.scenarios.n_assets, np.nan)
    weights = np.array([nothing if row["weights"] is None else row["weights"] for row in rows])
    weights = weights.reshape(len(rows), problem.scenarios.n_assets)
    names = [f"weight[{asset}]" for asset in problem.scenarios.assets]
    index = pd.Index(numbers, name="point")
    return pd.concat([pd.DataFrame(columns, index=index), pd.DataFrame(weights, index, names)], axis=1)


# -- progress and files ------------------------------------------------------------------------------------------
class progress_bar:  # noqa: N801  used like a function
    """A progress bar over points, or nothing."""

    def __init__(self, total: int, shown: bool) -> None:
        self._total, self._shown = total, shown

    def __enter__(self) -> Any:
        if not self._shown:
            return lambda: None
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._progress = Progress(TextColumn("points"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._progress.start()
        task = self._progress.add_task("points", total=self._total)
        return lambda: self._progress.advance(task)

    def __exit__(self, *_: object) -> None:
        if self._shown:
            self._progress.stop()


class _writer:  # noqa: N801  used like a function
    """Appends frames to a Parquet file; None where there is no file."""

    def __init__(self, path: str | Path | None) -> None:
        self._path = path
        self._file: pq.ParquetWriter | None = None

    def __enter__(self) -> Any:
        return None if self._path is None else self._write

    def _write(self, frame: pd.DataFrame) -> None:
        if not len(frame):
            return
        if self._file is None:
            table = pa.Table.from_pandas(frame)
            self._schema = pa.schema(
                [pa.field(f.name, pa.string() if pa.types.is_null(f.type) else f.type) for f in table.schema],
                table.schema.metadata,
            )
            assert self._path is not None
            self._file = pq.ParquetWriter(self._path, self._schema)
        self._file.write_table(pa.Table.from_pandas(frame, self._schema))

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

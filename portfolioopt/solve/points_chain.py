"""A batch of points through the kernel: scaled and padded as arrays, solved in a row, each from the vertex before."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from portfolioopt_kernels import CONVERGED, Solution, exchange, scaling, vertex
from portfolioopt_kernels.padding import padded_shape

from .engine import _LIMIT, _chain_capped, _chain_free, call
from .optimize import VIOLATION_TOLERANCE
from .pieces import FIELDS, Batch, Column, FloatArray, IntArray
from .points_certificate import Standing, stand
from .together import CHUNK

_BY_SCENARIO = ("cvar_density",)
_BY_ROW = {"rows": 0.0, "row_lower": -np.inf, "row_upper": np.inf}  # what rows that are padding have
_BY_ASSET = ("linear", "cvar_linear", "l1_rate", "l1_linear", "l1_reference", "rows", "lower", "upper")


@dataclass(frozen=True)
class Solved:
    """Answers of some points."""

    points: IntArray
    """Their numbers (K,)."""
    certified: np.ndarray
    """Which of them meet the tolerances (K,); the others are not answers."""
    weights: FloatArray  # (K, N)
    levels: tuple[float, ...]
    """Confidence levels that their problems look at."""
    standing: Standing
    iterations: IntArray  # (K,)


def solved(batch: Batch, rank: IntArray, tolerance: float, workers: int | None = None) -> Iterator[Solved]:
    """Solve and certify the points of a batch.

    Parameters
    ----------
    rank
        Place of every point, by its number, in an order in which little changes from one to the next.
    tolerance
        Relative gap.
    workers
        Threads; one per core on a CPU where None.
    """
    order = np.argsort(rank[batch.points], kind="stable")
    chain = BatchChain(batch, CHUNK)
    if workers is None:
        workers = (os.cpu_count() or 1) if jax.default_backend() == "cpu" else 1
    workers = max(1, min(workers, len(order) // CHUNK))
    parts = max(-(-len(order) // CHUNK), workers)
    parts = -(-parts // workers) * workers  # as many calls in each lane
    cuts = np.linspace(0, len(order), parts + 1).astype(int)
    chunks = [order[a:b] for a, b in itertools.pairwise(cuts) if b > a]
    each = -(-len(chunks) // workers)

    def lane(mine: list[IntArray]) -> Iterator[list[Solved]]:
        state = None
        for rows in mine:
            solution, state = chain.run(rows, state)
            yield list(_certified(batch, rows, solution, tolerance))

    lanes = [lane(chunks[i : i + each]) for i in range(0, len(chunks), each)]
    if len(lanes) == 1:
        yield from itertools.chain.from_iterable(lanes[0])
        return
    with ThreadPoolExecutor(len(lanes)) as pool:
        pending = {one: pool.submit(next, one, None) for one in lanes}
        while pending:
            for one, future in list(pending.items()):
                found = future.result()
                if found is None:
                    del pending[one]
                    continue
                pending[one] = pool.submit(next, one, None)
                yield from found


def _certified(batch: Batch, rows: IntArray, solution: Solution, tolerance: float) -> Iterator[Solved]:
    """Answers with their certificates, those on one scenario set and at the same levels together."""
    kinds = np.stack([batch.columns[name].number(rows) for name in ("scenarios", "levels")], axis=1)
    for kind in np.unique(kinds, axis=0):
        mine = np.flatnonzero((kinds == kind).all(axis=1))
        own = rows[mine]
        part = exchange(solution, **{name: value[mine] for name, value in vars(solution).items()})
        columns = _tidied(batch, own, part.weights)
        standing = stand(batch, own, columns, part)
        good = (part.status == CONVERGED) & (np.abs(standing.gap) <= tolerance)
        good &= standing.max_violation <= VIOLATION_TOLERANCE
        levels = tuple(beta for beta, _ in batch.columns["levels"].pool[kind[1]])
        yield Solved(batch.points[own], good, columns[:, : batch.base.n_assets], levels, standing, part.iterations)


def _tidied(batch: Batch, rows: IntArray, weights: FloatArray) -> FloatArray:
    """:func:`optimize.tidy` for several points."""
    weights = np.clip(np.nan_to_num(weights), batch.field("lower", rows), batch.field("upper", rows))
    references = batch.field("l1_reference", rows)
    for block in range(references.shape[1]):
        weights = np.where(np.abs(weights - references[:, block]) <= 1e-14, references[:, block], weights)
    return weights


class BatchChain:
    """What all points of a batch share on their way through the kernel; threads may use one together.

    Parameters
    ----------
    batch
        The points.
    count
        How many are solved in one call; fewer are filled up, so that all calls share one executable.
    """

    def __init__(self, batch: Batch, count: int) -> None:
        program = batch.base.program
        self._count = count
        self._shape = program.shape
        s, n, m, _, c = program.shape
        ps, pn, pc = padded_shape(s, n, c)
        self._sizes = scaling.measure(program)
        pools = {name: batch.columns[f"program.{name}"].pool for name in FIELDS}
        scaled = scaling.divide_rest(exchange(program, **pools), self._sizes)
        self._columns: dict[str, Column] = {}
        for name in FIELDS:
            pool = np.asarray(getattr(scaled, name))
            if name in _BY_SCENARIO:
                pool = _grown(pool, -1, ps, 0.0)
            if name in _BY_ASSET:
                pool = _grown(pool, -1, pn, 0.0)
            if name in _BY_ROW:
                pool = _grown(pool, 1, pc, _BY_ROW[name])
            self._columns[name] = Column(pool, batch.columns[f"program.{name}"].index)
        returns = np.asarray(program.returns, dtype=np.float64) / self._sizes.returns
        self._begin = np.append(program.start, np.zeros(pn - n)), np.zeros(pn + m, np.int32)
        capped = bool(np.isfinite(program.cvar_cap).any() or np.isfinite(program.l1_cap).any())
        self._kernel = _chain_capped if capped else _chain_free
        with jax.enable_x64(True):
            # what is the same for all points goes to the device once
            self._shared = {
                name: jax.device_put(np.broadcast_to(column.pool, (count, *column.pool.shape[1:])))
                for name, column in self._columns.items()
                if column.index is None
            }
            fields = {name: jax.device_put(np.ascontiguousarray(c.pool[0])) for name, c in self._columns.items()}
            put = jax.device_put(_grown(_grown(returns, 0, ps, 0.0), 1, pn, 0.0))
            self._base = exchange(program, **fields, returns=put, start=jax.device_put(self._begin[0]))

    def run(self, rows: IntArray, state: Any) -> tuple[Solution, Any]:
        """Solve some points, by their place in the batch, one after the other.

        Parameters
        ----------
        rows
            At most `count` of them.
        state
            What the call before returned; None to start anew.
        """
        s, n, _, _, c = self._shape
        filled = np.concatenate([rows, np.full(self._count - len(rows), rows[-1])])
        varying = {
            name: self._shared[name] if name in self._shared else self._columns[name].at(filled) for name in FIELDS
        }
        if state is None:
            start, basis = self._begin
            low, high = (self._columns[name].at(rows[:1])[0] for name in ("lower", "upper"))
            state = vertex.Start(
                np.clip(start, low, high), basis, np.zeros((len(basis), len(basis))), np.zeros((), bool)
            )
        (found, state), _, _ = call(self._kernel, self._base, varying, None, state, np.int32(_LIMIT))
        k = len(rows)
        found = exchange(
            found,
            **{name: value[:k] for name, value in vars(found).items()}
            | {
                "weights": found.weights[:k, :n],
                "scenario_dual": found.scenario_dual[:k, :, :s],
                "row_dual": found.row_dual[:k, :c],
            },
        )
        return scaling.unscale(found, self._sizes), state


def _grown(array: FloatArray, axis: int, size: int, value: float) -> FloatArray:
    """The array, filled up along an axis to a size."""
    missing = size - array.shape[axis]
    if not missing:
        return array
    shape = list(array.shape)
    shape[axis] = missing
    return np.concatenate([array, np.full(shape, value)], axis=axis)

"""A batch of points through the kernel: scaled and padded as arrays, solved in a row, each from the vertex before."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from portfolioopt_kernels import Solution, exchange, scaling, vertex
from portfolioopt_kernels.padding import padded_shape

from .engine import call, chain_kernel, pivot_limit
from .pieces import FIELDS, Batch, Column, FloatArray, IntArray

_BY_SCENARIO = ("cvar_density",)
_BY_ROW = {"rows": 0.0, "row_lower": -np.inf, "row_upper": np.inf}  # what rows that are padding have
_BY_ASSET = ("linear", "cvar_linear", "l1_rate", "l1_linear", "l1_reference", "rows", "lower", "upper")


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
        self._kernel = chain_kernel(program)
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
        (found, state), _, _ = call(self._kernel, self._base, varying, None, state, pivot_limit())
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

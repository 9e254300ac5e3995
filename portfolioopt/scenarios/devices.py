"""Scenarios that lie on JAX devices, spread by rows: each pass runs where the numbers are.

The one source that is not read in chunks. The arithmetic is JAX's and lives in `portfolioopt_kernels.sharded`. With
several processes (`jax.distributed`) each pass is a collective: all of them must make the same calls in the same order,
from one thread, and all get the same numbers, to the last bit.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import jax
import numpy as np
import numpy.typing as npt
import pandas as pd
from jax.sharding import Mesh

from portfolioopt.errors import InputError
from portfolioopt_kernels.sharded import Device, ShardedRows, devices_of, exchanged

from .source import FloatArray, InMemory, ReturnsSource, Stored, chunk_edges


class OnDevices(ReturnsSource):
    """Simple returns (S, N) in float32 or float64 that were moved to devices once; results are float64.

    Where all rows lie on devices of this process it can be pickled, and comes back in memory.
    """

    def __init__(self, rows: ShardedRows, assets: pd.Index) -> None:
        super().__init__(chunk_edges(*rows.shape), assets, rows.dtype)
        self._rows = rows
        largest, squares = rows.sizes()
        self._squares[:] = 0.0  # everything was looked at
        self._squares[0], self._largest[0] = squares, largest

    def losses(self, weights: FloatArray) -> FloatArray:
        """Loss of the portfolio `weights` (N,) in every scenario, ``-R w`` (S,), as fractions of NAV."""
        return self._rows.losses(weights)

    def pull(self, measure: FloatArray) -> FloatArray:
        """Sum of the scenarios under each row of `measure` (K, S): ``measure @ R`` (K, N)."""
        return self._rows.pull(measure)

    def rows(self, index: npt.ArrayLike) -> FloatArray:
        """The scenarios at the positions `index` (K,), in that order, as a copy (K, N)."""
        return self._rows.take(np.asarray(index, dtype=np.intp)).astype(np.float64)

    def _scan(self, chunks: Sequence[int]) -> Iterator[Stored]:
        return (self._rows.take(np.arange(self._edges[chunk], self._edges[chunk + 1])) for chunk in chunks)

    def __reduce__(self) -> tuple[Any, ...]:
        if not self._rows.addressable:
            raise InputError("scenarios on devices of several processes cannot be pickled; pickle what they came from")
        matrix = self._rows.take(np.arange(self.shape[0]))
        matrix.setflags(write=False)
        return InMemory, (matrix, self.assets)


def moved(source: ReturnsSource, mesh: Mesh | None) -> OnDevices:
    """Any source on the devices of a mesh, in equal parts; several processes have the same source, and read their part.

    Raises InputError for what is no mesh, or has no device of this process.
    """
    devices = _devices(mesh)
    return _spread(source, devices, _shares(source.shape[0], len(devices)), 0)


def joined(
    source: ReturnsSource, probabilities: FloatArray, share: float | None, mesh: Mesh | None
) -> tuple[OnDevices, FloatArray]:
    """The sources of all processes as one, each on the devices of its process.

    Parameters
    ----------
    source
        The scenarios of this process (S_p, N), which follow those of the processes before it.
    probabilities
        Their probabilities (S_p,), summing to one.
    share
        What they sum to among all; S_p / S where None.

    Returns
    -------
    source, probabilities
        All scenarios, and their probabilities (S,).

    Raises
    ------
    InputError
        On all processes, where their assets or precision differ, only some give a share, or shares do not sum to one;
        on this one, for what is no mesh or has no device of it.
    """
    devices = _devices(mesh)
    labels = zlib.crc32("\n".join(map(str, source.assets)).encode())
    given = np.nan if share is None else share
    heads = exchanged(np.array([*source.shape, labels, _precision(source).itemsize, given], dtype=np.float64))
    for column, what in enumerate(("number of assets", "assets or their order", "precision"), start=1):
        if np.ptp(heads[:, column]) > 0:
            raise InputError(f"the {what} differs between processes; every one needs the same")
    totals, shares = heads[:, 0].astype(np.intp), heads[:, 4]
    if np.isnan(shares).all():
        shares = totals / totals.sum()
    if not ((shares >= 0).all() and abs(shares.sum() - 1.0) <= 1e-9):  # NaN where some gave none
        raise InputError(
            f"the shares of the processes are {', '.join(f'{s:g}' for s in shares)} (nan where none was given); they "
            "must be non-negative and sum to one: pass share= on every process, or on none"
        )
    counts: list[int] = []
    for process, total in enumerate(totals.tolist()):
        own = sum(device.process_index == process for device in devices)
        if own == 0:
            raise InputError(f"process {process} has scenarios but no device in the mesh; make one with its devices")
        counts += _shares(total, own)
    padded = exchanged(np.pad(probabilities, (0, totals.max() - len(probabilities))))
    parts = [share * part[:total] for share, part, total in zip(shares, padded, totals, strict=True)]
    before = int(totals[: jax.process_index()].sum())
    return _spread(source, devices, counts, before), np.concatenate(parts)


def _spread(source: ReturnsSource, devices: list[Device], counts: list[int], before: int) -> OnDevices:
    """Put rows on devices; the first row of the source is number `before` of all."""
    parts = list(pairwise(np.cumsum([-before, *counts]).tolist()))

    def part(d: int) -> Stored:
        first, last = parts[d]
        return source.rows(np.arange(first, last)) if source.matrix is None else source.matrix[first:last]

    return OnDevices(ShardedRows(devices, counts, source.shape[1], _precision(source), part), source.assets)


def _devices(mesh: Mesh | None) -> list[Device]:
    if mesh is not None and not isinstance(mesh, Mesh):
        raise InputError(f"mesh must be a jax.sharding.Mesh or None (all devices), was {type(mesh).__name__}")
    devices = devices_of(mesh)
    if not any(device.process_index == jax.process_index() for device in devices):
        raise InputError("the mesh has no device of this process; every process that takes part needs one")
    return devices


def _shares(count: int, parts: int) -> list[int]:
    """Sizes of consecutive parts that differ by one at most."""
    return [count // parts + (i < count % parts) for i in range(parts)]


def _precision(source: ReturnsSource) -> np.dtype[Any]:
    """What exact simple returns take."""
    return np.dtype(np.float32 if source.dtype == np.float32 and not source.converts else np.float64)

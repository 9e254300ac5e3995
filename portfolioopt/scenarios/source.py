r"""Where the scenario matrix R (S x N) comes from: memory, a file, or a function that makes it anew on every pass.

Everything the library does with R is a pass over chunks of its rows: losses :math:`-Rw`, the pull :math:`qR` of a
scenario measure q, and the few rows that matter at the end. Whatever precision the numbers are stored in, they are
converted chunk by chunk and all sums are float64, so results are exact with respect to the stored numbers.

The products are einsum and not BLAS: over one vector they are bound by memory, and BLAS would wake its threads for
every chunk, which costs little on an idle machine and hundreds of times the product on a busy one.

A source in memory was checked when it was made. The others are checked chunk by chunk as each is read for the first
time: missing or infinite returns raise InputError then, and name row and asset.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from portfolioopt.errors import InputError, unknown_names
from portfolioopt.labels import LISTED, some

FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.intp]
Stored: TypeAlias = npt.NDArray[Any]  # numbers of whatever precision they are kept in
Kind: TypeAlias = Literal["simple", "log"]

CELLS = 1 << 18  # numbers in a chunk: 2 MiB as float64, so that a conversion stays in cache
_PARQUET_CELLS = 1 << 20  # columns are decoded one by one, which short chunks do not pay back
_SPARSE = 0.25  # of a chunk in which a smaller share of the rows is wanted, only those are converted


class ReturnsSource(ABC):
    """Simple returns of N assets in S scenarios, read in chunks of rows; immutable and picklable.

    Parameters
    ----------
    edges
        First row of each chunk, and S at the end (C + 1,).
    assets
        Labels of the columns (N,).
    dtype
        Precision of the stored numbers; all results are float64.
    kind
        ``"log"`` where the stored numbers are log returns, which are converted on every pass.
    what
        What the numbers are called in messages.
    """

    def __init__(
        self, edges: IntArray, assets: pd.Index, dtype: npt.DTypeLike, *, kind: Kind = "simple", what: str = "returns"
    ) -> None:
        self.shape: tuple[int, int] = (int(edges[-1]), len(assets))
        self.assets = assets
        self.dtype = np.dtype(dtype)
        self._edges = edges
        self._kind = kind
        self._what = what
        self._squares = np.full(len(edges) - 1, np.nan)  # sum of squares by chunk; NaN where not looked at yet
        self._largest = np.zeros((len(edges) - 1, len(assets)))

    @property
    def matrix(self) -> npt.NDArray[np.floating[Any]] | None:
        """The whole matrix (S, N), read-only, as stored; None where it is not in memory."""
        return None

    @property
    def converts(self) -> bool:
        """Whether the stored numbers are log returns, which become simple ones on every pass."""
        return self._kind == "log"

    @abstractmethod
    def _scan(self, chunks: Sequence[int]) -> Iterator[Stored]:
        """The rows of these chunks, as stored; the chunks are in increasing order."""

    # -- passes --------------------------------------------------------------------------------------------------
    def losses(self, weights: FloatArray) -> FloatArray:
        """Loss of the portfolio `weights` (N,) in every scenario, ``-R w`` (S,), as fractions of NAV."""
        losses = np.empty(self.shape[0])
        for part, rows in self.blocks():
            np.einsum("sn,n->s", rows, weights, out=losses[part])
        return np.negative(losses, out=losses)

    def pull(self, measure: FloatArray) -> FloatArray:
        """Sum of the scenarios under each row of `measure` (K, S): ``measure @ R`` (K, N).

        Chunks without measure are not read; where few rows of a chunk carry any, only those are summed.
        """
        total = np.zeros((len(measure), self.shape[1]))
        used = np.asarray(np.any(measure, axis=0))
        for first, last, stored in self._read(np.flatnonzero(np.logical_or.reduceat(used, self._edges[:-1]))):
            kept = np.flatnonzero(used[first:last])
            if len(kept) < _SPARSE * (last - first):
                total += np.einsum("ks,sn->kn", measure[:, first + kept], self._exact(stored[kept]))
            else:
                total += np.einsum("ks,sn->kn", measure[:, first:last], self._exact(stored))
        return total

    def rows(self, index: npt.ArrayLike) -> FloatArray:
        """The scenarios at the positions `index` (K,), in that order, as a copy (K, N)."""
        wanted = np.asarray(index, dtype=np.intp)
        order = np.argsort(wanted, kind="stable")
        cuts = np.searchsorted(wanted[order], self._edges)
        rows = np.empty((len(wanted), self.shape[1]))
        chunks = np.flatnonzero(np.diff(cuts))
        for chunk, (first, _, stored) in zip(chunks, self._read(chunks), strict=True):
            where = order[cuts[chunk] : cuts[chunk + 1]]
            rows[where] = self._exact(stored[wanted[where] - first])
        return rows

    def blocks(self) -> Iterator[tuple[slice, FloatArray]]:
        """All scenarios once, in chunks: which rows, and their returns."""
        for first, last, stored in self._read(range(len(self._squares))):
            yield slice(first, last), self._exact(stored)

    # -- sizes ---------------------------------------------------------------------------------------------------
    @property
    def root_mean_square(self) -> float:
        """Root of the mean square of all S x N returns."""
        self._look_at_all()
        return float(np.sqrt(self._squares.sum() / (self.shape[0] * self.shape[1])))

    @property
    def largest(self) -> FloatArray:
        """Largest absolute return of each asset (N,)."""
        self._look_at_all()
        return self._largest.max(axis=0)

    # -- chunks --------------------------------------------------------------------------------------------------
    def _read(self, chunks: Iterable[int]) -> Iterator[tuple[int, int, Stored]]:
        """(first row, row after the last, numbers as stored) of the chunks, checked when they are seen first."""
        wanted = [int(chunk) for chunk in chunks]
        for chunk, stored in zip(wanted, self._scan(wanted), strict=True):
            if self.matrix is None and np.isnan(self._squares[chunk]):
                self._look_at(chunk, stored)
            yield int(self._edges[chunk]), int(self._edges[chunk + 1]), stored

    def _exact(self, stored: Stored) -> FloatArray:
        """Simple returns in float64."""
        rows = np.asarray(stored, dtype=np.float64)
        if self.converts:
            with np.errstate(over="ignore"):  # refused when the chunk is looked at
                rows = np.expm1(rows)
        return rows

    def _look_at_all(self) -> None:
        """Look at the chunks that no pass has read yet."""
        unseen = np.flatnonzero(np.isnan(self._squares)).tolist()
        for chunk, stored in zip(unseen, self._scan(unseen), strict=True):
            self._look_at(chunk, stored)

    def _look_at(self, chunk: int, stored: Stored) -> None:
        """Note the sizes of the numbers in a chunk, or refuse it where some are missing or infinite."""
        rows = self._exact(stored)
        largest = np.maximum(rows.max(axis=0), -rows.min(axis=0))
        if not (np.isfinite(largest).all() and np.isfinite(stored.min())):  # a log return of -inf is refused as well
            labels = pd.RangeIndex(int(self._edges[chunk]), int(self._edges[chunk + 1]))
            where = f" from {labels[0]} to {labels[-1]} (counted from 0; later ones were not looked at)"
            refuse_bad_cells(
                ~(np.isfinite(rows) & np.isfinite(stored)), labels, self.assets, what=self._what, where=where
            )
        self._largest[chunk] = largest
        self._squares[chunk] = _square_sum(rows)


class InMemory(ReturnsSource):
    """An array (S, N) of float64 or float32, used as it is: finite, and never changed.

    `assets` are labels of the columns, numbers where None.
    """

    def __init__(self, matrix: npt.NDArray[np.floating[Any]], assets: pd.Index | None = None) -> None:
        count, n = matrix.shape
        super().__init__(chunk_edges(count, n), pd.RangeIndex(n) if assets is None else assets, matrix.dtype)
        self._matrix = matrix

    @property
    def matrix(self) -> npt.NDArray[np.floating[Any]]:
        """The whole matrix (S, N), read-only, as stored."""
        return self._matrix

    def _scan(self, chunks: Sequence[int]) -> Iterator[Stored]:
        return (self._matrix[self._edges[chunk] : self._edges[chunk + 1]] for chunk in chunks)


class MemoryMapped(ReturnsSource):
    """A .npy file of a matrix (S, N) of real numbers, of which the operating system keeps in memory what fits.

    Row-major files are read fastest. Raises InputError for a file that is none of this.
    """

    def __init__(self, path: str | Path, assets: pd.Index, *, kind: Kind = "simple") -> None:
        self._path = Path(path).absolute()
        array = self._open()
        if array.ndim != 2 or array.dtype.kind not in "fiu":
            raise InputError(
                f"{self._path} holds an array of shape {array.shape} and type {array.dtype}; a matrix of real numbers, "
                "scenarios x assets, is needed"
            )
        if len(assets) != array.shape[1]:
            raise InputError(f"assets has {len(assets)} labels for {array.shape[1]} columns of {self._path}")
        super().__init__(chunk_edges(*array.shape), assets, array.dtype, kind=kind, what=str(self._path))

    def _open(self) -> Stored:
        try:
            return np.lib.format.open_memmap(self._path, mode="r").view(np.ndarray)
        except (OSError, ValueError, EOFError) as error:
            raise InputError(f"{self._path} cannot be read as a .npy file: {error}") from error

    def _scan(self, chunks: Sequence[int]) -> Iterator[Stored]:
        array = self._open()
        if array.shape != self.shape:
            _refuse_changed(self._path)
        return (array[self._edges[chunk] : self._edges[chunk + 1]] for chunk in chunks)


class ParquetRows(ReturnsSource):
    """A Parquet file with one row per scenario and one column per asset, read in batches of rows.

    `assets` are the columns to read, in that order; all but an index that pandas has written where None. Raises
    InputError for a file that cannot be read, and for columns that do not exist, occur twice or hold no numbers.
    Reading a few rows costs as much as reading their row group up to there, so groups of some 100 MiB are best.
    """

    def __init__(self, path: str | Path, assets: Iterable[str] | None = None, *, kind: Kind = "simple") -> None:
        self._path = Path(path).absolute()
        try:
            file = pq.ParquetFile(self._path, memory_map=True)
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"{self._path} cannot be read as a Parquet file: {error}") from error
        with file:
            schema, self._metadata = file.schema_arrow, file.metadata
        index = (schema.pandas_metadata or {}).get("index_columns", [])
        columns = pd.Index([name for name in schema.names if name not in index] if assets is None else list(assets))
        if assets is not None:
            unknown = columns.difference(schema.names, sort=False)
            if len(unknown):
                raise unknown_names("column", unknown, schema.names)
        repeated = [name for name in columns if schema.names.count(name) > 1]
        if repeated:
            raise InputError(f"{self._path} has more than one column of the name {some(pd.Index(repeated).unique())}")
        types = {name: schema.field(name).type for name in columns}
        wrong = [name for name, kept in types.items() if not (pa.types.is_floating(kept) or pa.types.is_integer(kept))]
        if wrong:
            raise InputError(
                f"returns must be numbers; these columns of {self._path} are not: {some(pd.Index(wrong))}. Name the "
                "columns to read in assets=[...]"
            )
        # a chunk never crosses from one row group to the next
        self._batch = max(1, _PARQUET_CELLS // max(len(columns), 1))
        counts = [self._metadata.row_group(group).num_rows for group in range(self._metadata.num_row_groups)]
        ends = np.cumsum([0, *counts])
        starts = [np.arange(first, last, self._batch) for first, last in pairwise(ends)]
        self._group = np.repeat(np.arange(len(counts)), [len(part) for part in starts])
        edges = np.append(np.concatenate(starts) if starts else np.empty(0, np.intp), ends[-1])
        dtype = np.result_type(*(kept.to_pandas_dtype() for kept in types.values())) if types else np.float64
        super().__init__(edges, columns.rename("asset"), dtype, kind=kind, what=str(self._path))

    def _scan(self, chunks: Sequence[int]) -> Iterator[Stored]:
        columns, wanted = self.assets.tolist(), np.zeros(len(self._group), dtype=bool)
        wanted[list(chunks)] = True
        try:
            with pq.ParquetFile(self._path, memory_map=True) as file:
                if not file.metadata.equals(self._metadata):
                    _refuse_changed(self._path)
                for group in np.unique(self._group[wanted]).tolist():
                    batches = file.iter_batches(self._batch, row_groups=[group], columns=columns)
                    here = wanted[self._group == group]
                    for keep, batch in zip(here[: np.flatnonzero(here)[-1] + 1], batches, strict=False):
                        if keep:
                            yield batch.select(columns).to_tensor(null_to_nan=True).to_numpy()
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"{self._path} cannot be read as a Parquet file: {error}") from error


class Generated(ReturnsSource):
    """Scenarios that a function makes anew on every pass, so that the matrix never exists.

    Parameters
    ----------
    function
        ``function(chunk)`` returns the simple returns (chunk_rows, N) of chunk 0, 1, ...; the last chunk may have the
        rows that remain, or is cut. It must return the same numbers whenever it is called: draw them from a generator
        seeded by a seed and the chunk, as in ``numpy.random.default_rng([seed, chunk])``.
    count
        Number S of scenarios.
    assets
        Labels of the columns (N,).
    chunk_rows
        Scenarios per call.
    workers
        Threads that call the function; each holds one chunk ahead of the pass.

    Raises
    ------
    InputError
        During a pass, for chunks of the wrong shape or type, with missing or infinite numbers, or that come out
        differently than before.
    """

    def __init__(
        self, function: Callable[[int], npt.ArrayLike], count: int, assets: pd.Index, chunk_rows: int, workers: int = 1
    ) -> None:
        edges = np.append(np.arange(0, count, chunk_rows), count)
        super().__init__(edges, assets, np.float64, what="what the generator made")
        self._function = function
        self._chunk_rows = chunk_rows
        self._workers = workers

    def _scan(self, chunks: Sequence[int]) -> Iterator[Stored]:
        if self._workers == 1:
            yield from map(self._make, chunks)
            return
        ahead: deque[Future[Stored]] = deque()
        with ThreadPoolExecutor(self._workers) as pool:
            for chunk in chunks:
                ahead.append(pool.submit(self._make, chunk))
                if len(ahead) > self._workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()

    def _make(self, chunk: int) -> Stored:
        made = np.asarray(self._function(chunk))
        wanted = (int(self._edges[chunk + 1] - self._edges[chunk]), self.shape[1])
        if made.shape not in (wanted, (self._chunk_rows, self.shape[1])) or made.dtype.kind not in "fiu":
            raise InputError(
                f"the generator made an array of shape {made.shape} and type {made.dtype} for chunk {chunk}; real "
                f"numbers of shape {wanted} are needed"
            )
        made = made[: wanted[0]]
        before = self._squares[chunk]
        if not np.isnan(before) and abs(_square_sum(np.asarray(made, np.float64)) - before) > 1e-9 * before:
            raise InputError(
                f"the generator made other numbers for chunk {chunk} than before; they must depend on nothing but the "
                "chunk, as those of numpy.random.default_rng([seed, chunk]) do"
            )
        return made


class _Widened(ReturnsSource):
    """Another source and more columns, of zeros."""

    def __init__(self, base: ReturnsSource, count: int) -> None:
        super().__init__(base._edges, pd.RangeIndex(base.shape[1] + count), np.float64)
        self._base = base
        self._count = count

    def losses(self, weights: FloatArray) -> FloatArray:
        return self._base.losses(weights[: self._base.shape[1]])

    def pull(self, measure: FloatArray) -> FloatArray:
        return self._wide(self._base.pull(measure))

    def rows(self, index: npt.ArrayLike) -> FloatArray:
        return self._wide(self._base.rows(index))

    def _scan(self, chunks: Sequence[int]) -> Iterator[Stored]:
        return (self._wide(self._base._exact(stored)) for _, _, stored in self._base._read(chunks))

    def _wide(self, rows: FloatArray) -> FloatArray:
        return np.pad(rows, ((0, 0), (0, self._count)))


def widened(source: ReturnsSource, count: int) -> ReturnsSource:
    """The source with `count` columns more, at the end, whose returns are zero: room for auxiliary variables."""
    if count == 0:
        return source
    if source.matrix is None:
        return _Widened(source, count)
    return InMemory(np.pad(source.matrix, ((0, 0), (0, count))))


def refuse_bad_cells(
    bad: npt.NDArray[np.bool_], index: pd.Index, assets: pd.Index, *, what: str = "returns", where: str = ""
) -> NoReturn:
    """Raise InputError for missing or infinite returns, naming the cells marked in `bad` by row and asset."""
    cells = np.argwhere(bad)
    first = ", ".join(f"({index[r]!s}, {assets[c]})" for r, c in cells[:LISTED])
    columns = some(assets[np.unique(cells[:, 1])])
    raise InputError(
        f"{what} is missing or infinite in {len(cells)} cells of {int(bad.any(axis=1).sum())} rows{where}: {first}"
        f"{' ...' if len(cells) > LISTED else ''}; columns concerned: {columns}. Drop or fill them on purpose "
        "(portfolioopt.data.simple_returns has policies for missing prices)"
    )


def _refuse_changed(path: Path) -> NoReturn:
    raise InputError(f"{path} has changed since this scenario set was made of it; make a new set")


def chunk_edges(count: int, n: int) -> IntArray:
    """First row of each chunk of some 2 MiB, and the number of rows at the end."""
    return np.append(np.arange(0, count, max(1, CELLS // max(n, 1))), count)


def _square_sum(rows: FloatArray) -> float:
    return float(np.einsum("sn,sn->", rows, rows))

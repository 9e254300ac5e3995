"""The scenario matrix with its probabilities and labels: what every problem is built on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from jax.sharding import Mesh

from portfolioopt.errors import InputError
from portfolioopt.estimate.factored import FactorCovariance
from portfolioopt.estimate.quadratic import QuadraticForm
from portfolioopt.labels import align, some

from .devices import joined, moved
from .source import CELLS, Generated, InMemory, MemoryMapped, ParquetRows, ReturnsSource, refuse_bad_cells
from .tail import Tail, tail

FloatArray = npt.NDArray[np.float64]


class ScenarioSet:
    """Equally likely or weighted scenarios of asset returns; immutable.

    This constructor keeps the returns in memory. :meth:`from_moments` makes a set of which only mean and covariance are
    known. :meth:`from_npy`, :meth:`from_parquet` and :meth:`generated` make sets
    of any size whose returns are read or made in chunks, on every pass anew.

    Parameters
    ----------
    returns
        Returns of N assets (columns, unique labels) in S >= 2 scenarios (rows), as fractions per scenario horizon.
        An S x N array is accepted with `assets`.
    probabilities
        Probability of each scenario (S,): non-negative, summing to one to 1e-9. Equal probabilities where None. A
        Series is matched to the rows by label.
    kind
        ``"simple"`` returns are used as they are; ``"log"`` returns are converted to simple ones here, once, because
        only simple returns add up across assets.
    assets
        Labels of the columns where `returns` is an array.
    horizon
        What one scenario spans, for display ("1 day", "21 days").
    dtype
        Precision in which the returns are kept. ``"float32"`` rounds them to seven digits and takes half the memory;
        whatever is computed from them is float64.

    Raises
    ------
    InputError
        For missing or infinite returns (naming rows and columns), duplicate labels, fewer than two scenarios, and
        probabilities that are negative, misaligned or do not sum to one.
    """

    __slots__ = ("_form", "_horizon", "_index", "_kind", "_mean", "_mean_known", "_probabilities", "_source")

    def __init__(
        self,
        returns: pd.DataFrame | npt.ArrayLike,
        probabilities: pd.Series | npt.ArrayLike | None = None,
        *,
        kind: Literal["simple", "log"] = "simple",
        assets: pd.Index | list[str] | None = None,
        horizon: str | None = None,
        dtype: Literal["float64", "float32"] = "float64",
    ) -> None:
        if isinstance(returns, pd.DataFrame):
            if assets is not None:
                raise InputError("assets is only for array input; rename the columns of the frame instead")
            frame = returns
        else:
            try:
                array = np.asarray(returns)
            except ValueError as error:
                raise InputError("returns must be a frame or an array; its rows differ in length") from error
            if array.ndim != 2:
                raise InputError(f"returns must have two axes, scenarios x assets; its shape is {array.shape}")
            if assets is None:
                raise InputError("returns is an array without labels: pass a frame, or assets=[...] beside it")
            if len(assets) != array.shape[1]:
                raise InputError(f"assets has {len(assets)} labels for {array.shape[1]} columns of returns")
            frame = pd.DataFrame(array, columns=pd.Index(assets))
        _check_kind(kind)
        if dtype not in ("float64", "float32"):
            raise InputError(f"dtype must be 'float64' or 'float32', was {dtype!r}")
        matrix = _checked_matrix(frame, np.float64 if kind == "log" else np.dtype(dtype))
        if kind == "log":
            with np.errstate(over="ignore"):  # overflow is refused below, in words
                matrix = np.expm1(matrix, out=matrix).astype(dtype, copy=False)
            if not np.isfinite(matrix.max()):
                raise InputError("log returns overflow when converted to simple ones: are they prices or percent?")
        matrix.setflags(write=False)
        assets = pd.Index(frame.columns, name=frame.columns.name or "asset")
        self._keep(InMemory(matrix, assets), probabilities, frame.index, kind, horizon)

    def _keep(
        self,
        source: ReturnsSource,
        probabilities: pd.Series | npt.ArrayLike | None,
        index: pd.Index,
        kind: str,
        horizon: str | None,
    ) -> None:
        self._source = source
        self._index = index
        self._kind = kind
        self._horizon = horizon
        self._mean: FloatArray | None = None
        self._mean_known = True
        self._form: QuadraticForm | None = None
        self._probabilities = _checked_probabilities(probabilities, index)

    # -- mean and covariance alone -------------------------------------------------------------------------------
    @classmethod
    def from_moments(
        cls,
        mean: pd.Series | Mapping[str, float] | None,
        covariance: pd.DataFrame | FactorCovariance,
        *,
        horizon: str | None = None,
    ) -> Self:
        """A distribution known by its mean and covariance alone.

        Expected return, variance, volatility and tracking error are exact, and a covariance in factored form is never
        formed. Whatever looks at single scenarios - CVaR, drawdown, losses - is refused.

        Parameters
        ----------
        mean
            Expected return of every asset, as fractions per horizon; None where it is not known (it then counts as
            zero, and no expected return is reported).
        covariance
            By asset (N x N), per horizon; a frame or a :class:`FactorCovariance`. It gives the assets their order.
        horizon
            What the moments span, for display.

        Raises
        ------
        InputError
            For what is no covariance, duplicate assets, and a mean that does not match them or is not finite.
        """
        what = "ScenarioSet.from_moments"
        if not isinstance(covariance, pd.DataFrame | FactorCovariance):
            raise InputError(
                f"{what}: covariance must be a frame by asset or a FactorCovariance, was {type(covariance).__name__}"
            )
        assets = covariance.assets if isinstance(covariance, FactorCovariance) else covariance.index
        if not len(assets):
            raise InputError(f"{what}: the covariance has no assets")
        labels = _labels(assets)
        values = np.zeros(len(labels)) if mean is None else align(mean, labels, what="mean")
        scenarios = cls.__new__(cls)
        form = QuadraticForm(covariance, labels, what)
        scenarios._keep(MomentSource(values, form, labels), None, pd.RangeIndex(2, name="scenario"), "simple", horizon)
        scenarios._form = form
        scenarios._mean_known = mean is not None
        return scenarios

    # -- sets that are read or made in chunks --------------------------------------------------------------------
    @classmethod
    def from_npy(
        cls,
        path: str | Path,
        *,
        assets: pd.Index | list[str],
        probabilities: pd.Series | npt.ArrayLike | None = None,
        kind: Literal["simple", "log"] = "simple",
        horizon: str | None = None,
    ) -> Self:
        """Scenarios in a .npy file, read through a memory map: the operating system keeps what fits.

        Parameters
        ----------
        path
            File of a matrix (S, N) of returns as fractions, of any real type; row-major files are read fastest. It must
            stay as it is while the set is used.
        assets
            Labels of the columns (N,), unique.
        probabilities, kind, horizon
            As for :class:`ScenarioSet`; scenarios are numbered from 0. Log returns are converted on every pass.

        Raises
        ------
        InputError
            For a file that is no such matrix, and for what :class:`ScenarioSet` refuses; for missing or infinite
            returns when they are first read.
        """
        _check_kind(kind)
        return cls._streamed(MemoryMapped(path, _labels(assets), kind=kind), probabilities, kind, horizon)

    @classmethod
    def from_parquet(
        cls,
        path: str | Path,
        *,
        assets: pd.Index | Iterable[str] | None = None,
        probabilities: pd.Series | npt.ArrayLike | None = None,
        kind: Literal["simple", "log"] = "simple",
        horizon: str | None = None,
    ) -> Self:
        """Scenarios in a Parquet file, one row per scenario and one column per asset, read in batches of rows.

        Parameters
        ----------
        path
            The file; it must stay as it is while the set is used. Every pass decodes it: columns without compression
            and dictionary, in row groups of some 100 MiB, are read fastest.
        assets
            Columns to read, in that order; all but an index that pandas has written where None.
        probabilities, kind, horizon
            As for :class:`ScenarioSet`; scenarios are numbered from 0. Log returns are converted on every pass.

        Raises
        ------
        InputError
            For a file that cannot be read, columns that are unknown, occur twice or hold no numbers, and for what
            :class:`ScenarioSet` refuses; for missing or infinite returns when they are first read.
        """
        _check_kind(kind)
        columns = None if assets is None else _labels(assets)
        return cls._streamed(ParquetRows(path, columns, kind=kind), probabilities, kind, horizon)

    @classmethod
    def generated(
        cls,
        chunk: Callable[[int], npt.ArrayLike],
        n_scenarios: int,
        assets: pd.Index | list[str],
        *,
        chunk_rows: int | None = None,
        probabilities: pd.Series | npt.ArrayLike | None = None,
        horizon: str | None = None,
        workers: int = 1,
    ) -> Self:
        """Scenarios that a function makes anew on every pass; the matrix never exists.

        Parameters
        ----------
        chunk
            ``chunk(i)`` returns simple returns (chunk_rows, N) as fractions, for i = 0, 1, ...; what is beyond the last
            scenario is cut off. It must return the same numbers whenever it is called: draw them from a generator
            seeded by a seed and i, as in ``numpy.random.default_rng([seed, i])``.
        n_scenarios
            Number S of scenarios, at least 2.
        assets
            Labels of the columns (N,), unique.
        chunk_rows
            Scenarios per call; some 2 MiB worth of them where None.
        probabilities, horizon
            As for :class:`ScenarioSet`; scenarios are numbered from 0.
        workers
            Threads that call the function. NumPy's generators run in parallel; each thread holds one chunk.

        Raises
        ------
        InputError
            For sizes that are not positive whole numbers, and for what :class:`ScenarioSet` refuses; when they are
            first made, for chunks of the wrong shape or with missing or infinite numbers; and for chunks that come out
            differently than before.
        """
        if not callable(chunk):
            raise InputError(f"chunk must be a function of the number of a chunk, was {type(chunk).__name__}")
        count, labels = whole_number(n_scenarios, "n_scenarios", least=2), _labels(assets)
        rows = max(1, CELLS // max(len(labels), 1)) if chunk_rows is None else chunk_rows
        source = Generated(
            chunk,
            count,
            labels,
            whole_number(rows, "chunk_rows", least=1),
            whole_number(workers, "workers", least=1),
        )
        return cls._streamed(source, probabilities, "simple", horizon)

    @classmethod
    def _streamed(
        cls, source: ReturnsSource, probabilities: pd.Series | npt.ArrayLike | None, kind: str, horizon: str | None
    ) -> Self:
        _check_size(*source.shape)
        scenarios = cls.__new__(cls)
        scenarios._keep(source, probabilities, pd.RangeIndex(source.shape[0], name="scenario"), kind, horizon)
        return scenarios

    # -- sets made from this one ---------------------------------------------------------------------------------
    def reweighted(self, probabilities: pd.Series | npt.ArrayLike | None) -> Self:
        """The same scenarios with other probabilities (S,), equal ones where None; the matrix is shared."""
        return self._like(self._source, probabilities, self._index)

    def window(self, first: int, last: int) -> Self:
        """Scenarios `first` to `last` - 1 by position, with their probabilities made up to one; a view of the matrix.

        Raises InputError for positions outside the set, fewer than two scenarios, and sets read in chunks.
        """
        if not 0 <= first < last <= self.n_scenarios:
            raise InputError(f"there are no scenarios {first} to {last} in a set of {self.n_scenarios}")
        _check_size(last - first, self.n_assets)
        probabilities = self._probabilities[first:last]
        source = InMemory(self.matrix[first:last], self.assets)
        total = float(probabilities.sum())
        if total <= 0:
            raise InputError(f"scenarios {first} to {last} carry no probability")
        return self._like(source, probabilities / total, self._index[first:last])

    def on_devices(self, mesh: Mesh | None = None) -> Self:
        """The same scenarios with their returns on JAX devices, where every pass over all of them then runs.

        The matrix is moved once, in the precision it is kept in, and shared by all problems on the set. Results are
        float64 and sums exact to rounding, as for the other sets. The small programs that the solver works on stay on
        JAX's default device.

        Parameters
        ----------
        mesh
            Devices to spread the scenarios over, by rows; the names of its axes do not matter. All devices of the
            default backend where None. With several processes (`jax.distributed`), devices of all of them: each
            process calls this with the same set and reads its own part, and makes the same calls afterwards, in the
            same order; machines must be alike, so that all take the same steps.

        Raises
        ------
        InputError
            For what is no mesh, or has no device of this process; and for missing or infinite returns of a set that is
            read in chunks.
        """
        return self._like(moved(self._source, mesh), self._probabilities, self._index)

    def across_processes(self, mesh: Mesh | None = None, *, share: float | None = None) -> Self:
        """One set on devices of the scenarios that each process has a part of; every process calls it with its own.

        Scenarios stay on the devices of the process they come from, in the order of the processes, and are numbered
        from 0. All processes make the same calls on the new set, in the same order, and get the same answers.

        Parameters
        ----------
        mesh
            As for :meth:`on_devices`.
        share
            Probability of this process's scenarios together; within them the probabilities of this set hold. In
            proportion to their number where None, on all processes.

        Raises
        ------
        InputError
            Where assets or precision differ between processes, and for shares that do not sum to one.
        """
        if share is not None and not isinstance(share, int | float | np.number):
            raise InputError(f"share must be a probability or None, was {share!r}")
        part = None if share is None else float(share)
        source, probabilities = joined(self._source, self._probabilities, part, mesh)
        return self._like(source, probabilities, pd.RangeIndex(source.shape[0], name="scenario"))

    def _like(self, source: ReturnsSource, probabilities: Any, index: pd.Index) -> Self:
        self._refuse_moments("another set made from it")
        scenarios = type(self).__new__(type(self))
        scenarios._keep(source, probabilities, index, self._kind, self._horizon)
        return scenarios

    def _refuse_moments(self, what: str) -> None:
        if self._form is not None:
            raise InputError(
                f"this set is known by its mean and covariance alone, and {what} needs scenarios: draw some with "
                "portfolioopt.scenarios.factor_monte_carlo, or pass returns"
            )

    # -- what it holds -------------------------------------------------------------------------------------------
    @property
    def source(self) -> ReturnsSource:
        """Where the returns come from: losses, pulls and rows of any set, in chunks and float64."""
        return self._source

    @property
    def matrix(self) -> npt.NDArray[np.floating[Any]]:
        """Simple returns (S, N), read-only, in the precision they are kept in.

        Raises InputError for a set that is read or made in chunks.
        """
        self._refuse_moments("a matrix of returns")
        if self._source.matrix is None:
            raise InputError(
                f"the {self.n_scenarios} x {self.n_assets} returns of this set are never in memory as a whole; use "
                "losses, tail, mean or covariance, or source.rows([...]) and source.blocks() for some rows at a time"
            )
        return self._source.matrix

    @property
    def assets(self) -> pd.Index:
        """Asset labels (N,)."""
        return self._source.assets

    @property
    def index(self) -> pd.Index:
        """Scenario labels (S,): dates for historical scenarios, numbers for simulated ones."""
        return self._index

    @property
    def probabilities(self) -> FloatArray:
        """Scenario probabilities (S,), read-only, summing to one."""
        return self._probabilities

    @property
    def horizon(self) -> str | None:
        """What one scenario spans, if it was given."""
        return self._horizon

    @property
    def kind(self) -> str:
        """How the returns were given: "simple", or "log" where they were converted at the door."""
        return self._kind

    @property
    def form(self) -> QuadraticForm | None:
        """The covariance, where the set is known by mean and covariance alone; None where it has scenarios."""
        return self._form

    @property
    def mean_known(self) -> bool:
        """False where the set was made from a covariance without a mean."""
        return self._mean_known

    @property
    def n_scenarios(self) -> int:
        """S."""
        return self._source.shape[0]

    @property
    def n_assets(self) -> int:
        """N."""
        return self._source.shape[1]

    @property
    def returns(self) -> pd.DataFrame:
        """Simple returns as a labelled frame (S x N); a copy. Raises InputError where :attr:`matrix` does."""
        return pd.DataFrame(self.matrix.copy(), index=self._index, columns=self.assets)

    def mean(self) -> pd.Series:
        """Expected return per asset under the scenario probabilities, per horizon."""
        return pd.Series(self.mean_array().copy(), index=self.assets, name="mean")

    def mean_array(self) -> FloatArray:
        """:meth:`mean` as a read-only array (N,), found once."""
        mean = self._mean
        if mean is None:
            mean = self._mean = self._source.pull(self._probabilities[None])[0]
            mean.setflags(write=False)
        return mean

    def covariance(self) -> pd.DataFrame:
        """Covariance (N x N) under the scenario probabilities, dividing by the total probability of one."""
        if self._form is not None:
            return pd.DataFrame(self._form.dense(), index=self.assets, columns=self.assets)
        mean, values = self.mean().to_numpy(), np.zeros((self.n_assets, self.n_assets))
        for part, rows in self._source.blocks():
            centred = rows - mean
            values += (centred * self._probabilities[part, None]).T @ centred
        return pd.DataFrame(values, index=self.assets, columns=self.assets)

    def weights_array(self, weights: pd.Series | Mapping[str, float], *, what: str = "weights") -> FloatArray:
        """Order labelled weights like the assets (N,); every asset must be there, and no other."""
        return align(weights, self.assets, what=what)

    def losses(self, weights: pd.Series | Mapping[str, float]) -> pd.Series:
        """Loss of the portfolio in each scenario, ``-R w`` as a fraction of NAV; positive is bad."""
        self._refuse_moments("a loss by scenario")
        return pd.Series(self._source.losses(self.weights_array(weights)), index=self._index, name="loss")

    def tail(self, weights: pd.Series | Mapping[str, float], beta: float) -> Tail:
        """Value-at-risk, CVaR and tail probabilities of the portfolio at level `beta`."""
        self._refuse_moments("a tail")
        return tail(self._source.losses(self.weights_array(weights)), self._probabilities, beta)

    def __repr__(self) -> str:
        span = f", horizon {self._horizon}" if self._horizon else ""
        if self._form is not None:
            known = "mean and covariance" if self._mean_known else "covariance"
            return f"ScenarioSet({known} of {self.n_assets} assets{span})"
        equal = np.ptp(self._probabilities) <= 1e-12 / self.n_scenarios
        size = f"{self.n_scenarios} scenarios x {self.n_assets} assets"
        return f"ScenarioSet({size}{span}, {'equal' if equal else 'unequal'} probabilities)"


class MomentSource(InMemory):
    """Stands in for scenarios where only moments are known: the mean, twice, with the size of the covariance."""

    def __init__(self, mean: FloatArray, form: QuadraticForm, assets: pd.Index) -> None:
        super().__init__(np.stack([mean, mean]), assets)
        self._size = float(np.sqrt(np.mean(form.variances() + mean**2)))

    @property
    def root_mean_square(self) -> float:
        """Root of the mean second moment of the assets."""
        return self._size


def whole_number(value: int, what: str, *, least: int) -> int:
    """Return the value as an int, or refuse what is not a whole number of at least `least`."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer) or value < least:
        raise InputError(f"{what} must be a whole number, at least {least}, was {value!r}")
    return int(value)


def _check_kind(kind: object) -> None:
    if kind not in ("simple", "log"):
        raise InputError(f"kind must be 'simple' or 'log', was {kind!r}")


def _check_size(count: int, n: int) -> None:
    if count < 2 or n < 1:
        raise InputError(
            f"returns has {count} scenarios and {n} assets; at least two scenarios and one asset are needed"
        )


def _labels(assets: Iterable[Any]) -> pd.Index:
    """Unique labels of the assets (N,)."""
    if isinstance(assets, str) or not isinstance(assets, Iterable):
        raise InputError(f"assets must be a list of labels, was {assets!r}")
    labels = assets if isinstance(assets, pd.Index) else pd.Index(list(assets))
    _check_unique(labels)
    return labels.rename(labels.name or "asset")


def _check_unique(assets: pd.Index) -> None:
    if assets.has_duplicates:
        raise InputError(f"duplicate asset columns: {some(assets[assets.duplicated()].unique())}; rename or drop them")


def _checked_matrix(frame: pd.DataFrame, dtype: npt.DTypeLike) -> npt.NDArray[np.floating[Any]]:
    _check_unique(frame.columns)
    _check_size(*frame.shape)
    types = pd.api.types
    odd = {
        kind
        for kind in set(frame.dtypes)
        if not types.is_numeric_dtype(kind) or types.is_bool_dtype(kind) or types.is_complex_dtype(kind)
    }
    wrong = [name for name, kind in frame.dtypes.items() if kind in odd] if odd else []
    if wrong:
        raise InputError(f"returns must be numbers; these columns are not: {some(pd.Index(wrong))}")
    with np.errstate(over="ignore"):  # a number beyond the range of float32 is refused as infinite
        matrix = np.array(frame.to_numpy(dtype=dtype, na_value=np.nan), dtype=dtype, order="C", copy=True)
    if not np.isfinite([matrix.min(), matrix.max()]).all():
        refuse_bad_cells(~np.isfinite(matrix), frame.index, frame.columns)
    return matrix


def _checked_probabilities(probabilities: pd.Series | npt.ArrayLike | None, index: pd.Index) -> FloatArray:
    count = len(index)
    if probabilities is None:
        array = np.full(count, 1.0 / count)
    else:
        if isinstance(probabilities, pd.Series) and not probabilities.index.equals(index):
            raise InputError("probabilities is labelled differently from the rows of returns; reindex it to them")
        try:
            if isinstance(probabilities, pd.Series):
                array = probabilities.to_numpy(dtype=np.float64, na_value=np.nan, copy=True)
            else:
                array = np.array(probabilities, dtype=np.float64, copy=True)
        except (TypeError, ValueError) as error:
            raise InputError(f"probabilities must be numbers: {error}") from error
        if array.shape != (count,):
            raise InputError(f"probabilities has shape {array.shape} for {count} scenarios")
        if not np.isfinite(array).all():
            raise InputError(f"probabilities is not finite for scenarios {some(index[~np.isfinite(array)])}")
        if (array < 0).any():
            raise InputError(f"probabilities is negative for scenarios {some(index[array < 0])}")
        total = float(array.sum())
        if abs(total - 1.0) > 1e-9:
            raise InputError(
                f"probabilities sum to {total:.12g}, not to one; divide them by their sum if that is meant"
            )
        array /= total
        if np.count_nonzero(array) < 2:
            raise InputError("all probability lies on one scenario; a distribution needs at least two")
    array.setflags(write=False)
    return array

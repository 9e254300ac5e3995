"""The scenario matrix with its probabilities and labels: what every problem is built on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.labels import LISTED, align, some

from .tail import Tail, tail

FloatArray = npt.NDArray[np.float64]


class ScenarioSet:
    """Equally likely or weighted scenarios of asset returns; immutable.

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

    Raises
    ------
    InputError
        For missing or infinite returns (naming rows and columns), duplicate labels, fewer than two scenarios, and
        probabilities that are negative, misaligned or do not sum to one.
    """

    __slots__ = ("_assets", "_horizon", "_index", "_kind", "_matrix", "_probabilities")

    def __init__(
        self,
        returns: pd.DataFrame | npt.ArrayLike,
        probabilities: pd.Series | npt.ArrayLike | None = None,
        *,
        kind: Literal["simple", "log"] = "simple",
        assets: pd.Index | list[str] | None = None,
        horizon: str | None = None,
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
        if kind not in ("simple", "log"):
            raise InputError(f"kind must be 'simple' or 'log', was {kind!r}")
        matrix = _checked_matrix(frame)
        if kind == "log":
            with np.errstate(over="ignore"):  # overflow is refused below, in words
                matrix = np.expm1(matrix)
            if not np.isfinite(matrix).all():
                raise InputError("log returns overflow when converted to simple ones: are they prices or percent?")
        matrix.setflags(write=False)
        self._matrix = matrix
        self._assets = pd.Index(frame.columns, name=frame.columns.name or "asset")
        self._index = frame.index
        self._kind = kind
        self._horizon = horizon
        self._probabilities = _checked_probabilities(probabilities, frame.index)

    @property
    def matrix(self) -> FloatArray:
        """Simple returns (S, N), read-only."""
        return self._matrix

    @property
    def assets(self) -> pd.Index:
        """Asset labels (N,)."""
        return self._assets

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
    def n_scenarios(self) -> int:
        """S."""
        return self._matrix.shape[0]

    @property
    def n_assets(self) -> int:
        """N."""
        return self._matrix.shape[1]

    @property
    def returns(self) -> pd.DataFrame:
        """Simple returns as a labelled frame (S x N); a copy."""
        return pd.DataFrame(self._matrix.copy(), index=self._index, columns=self._assets)

    def mean(self) -> pd.Series:
        """Expected return per asset under the scenario probabilities, per horizon."""
        return pd.Series(self._probabilities @ self._matrix, index=self._assets, name="mean")

    def covariance(self) -> pd.DataFrame:
        """Covariance (N x N) under the scenario probabilities, dividing by the total probability of one."""
        centred = self._matrix - self._probabilities @ self._matrix
        values = (centred * self._probabilities[:, None]).T @ centred
        return pd.DataFrame(values, index=self._assets, columns=self._assets)

    def weights_array(self, weights: pd.Series | Mapping[str, float], *, what: str = "weights") -> FloatArray:
        """Order labelled weights like the assets (N,); every asset must be there, and no other."""
        return align(weights, self._assets, what=what)

    def losses(self, weights: pd.Series | Mapping[str, float]) -> pd.Series:
        """Loss of the portfolio in each scenario, ``-R w`` as a fraction of NAV; positive is bad."""
        return pd.Series(-self._matrix @ self.weights_array(weights), index=self._index, name="loss")

    def tail(self, weights: pd.Series | Mapping[str, float], beta: float) -> Tail:
        """Value-at-risk, CVaR and tail probabilities of the portfolio at level `beta`."""
        return tail(-self._matrix @ self.weights_array(weights), self._probabilities, beta)

    def __repr__(self) -> str:
        span = f", horizon {self._horizon}" if self._horizon else ""
        equal = np.ptp(self._probabilities) <= 1e-12 / self.n_scenarios
        size = f"{self.n_scenarios} scenarios x {self.n_assets} assets"
        return f"ScenarioSet({size}{span}, {'equal' if equal else 'unequal'} probabilities)"


def _checked_matrix(frame: pd.DataFrame) -> FloatArray:
    if frame.columns.has_duplicates:
        raise InputError(
            f"duplicate asset columns: {some(frame.columns[frame.columns.duplicated()].unique())}; rename or drop them"
        )
    if frame.shape[0] < 2 or frame.shape[1] < 1:
        raise InputError(
            f"returns has {frame.shape[0]} scenarios and {frame.shape[1]} assets; at least two scenarios and one asset "
            "are needed"
        )
    types = pd.api.types
    wrong = [
        name
        for name, kind in frame.dtypes.items()
        if not types.is_numeric_dtype(kind) or types.is_bool_dtype(kind) or types.is_complex_dtype(kind)
    ]
    if wrong:
        raise InputError(f"returns must be numbers; these columns are not: {some(pd.Index(wrong))}")
    matrix = np.array(frame.to_numpy(dtype=np.float64, na_value=np.nan), dtype=np.float64, order="C", copy=True)
    bad = ~np.isfinite(matrix)
    if bad.any():
        cells = np.argwhere(bad)
        first = ", ".join(f"({frame.index[r]!s}, {frame.columns[c]})" for r, c in cells[:LISTED])
        columns = some(frame.columns[np.unique(cells[:, 1])])
        raise InputError(
            f"returns is missing or infinite in {len(cells)} cells of {int(bad.any(axis=1).sum())} rows: {first}"
            f"{' ...' if len(cells) > LISTED else ''}; columns concerned: {columns}. Drop or fill them on purpose "
            "(portfolioopt.data.simple_returns has policies for missing prices)"
        )
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

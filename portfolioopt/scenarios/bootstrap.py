r"""Scenarios from resampled blocks of history: longer horizons that keep the dependence within a block.

A scenario is a path of h periods with simple returns :math:`R_{\tau_1}, \ldots, R_{\tau_h}`, each a whole row
of the history (T x N), so that what happened together stays together. Its return is compounded per asset,

.. math:: r_i = \prod_{k=1}^{h} (1 + R_{\tau_k, i}) - 1 .

Politis & Romano (1994), "The stationary bootstrap", J. American Statistical Association 89, for random block
lengths; Politis & Romano (1992), "A circular block-resampling procedure for stationary data", for fixed ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from portfolioopt.errors import InputError

from .historical import historical
from .scenario_set import ScenarioSet, whole_number

Method: TypeAlias = Literal["stationary", "circular"]

_CELLS = 1 << 18  # cells of one working array: 2 MiB each, so that the few in use stay in cache


def block_bootstrap(
    returns: pd.DataFrame,
    n_scenarios: int,
    *,
    seed: int,
    horizon: int = 1,
    block_length: int | None = None,
    method: Method = "stationary",
) -> ScenarioSet:
    r"""Draw paths of consecutive blocks of history and compound each to one return per asset.

    The first row of a block is drawn uniformly from the history; the rows that follow it come after it, and
    after the last row of the history comes the first. ``"stationary"`` ends a block after each row with
    probability :math:`1/L`, so block lengths are geometric with mean L; ``"circular"`` uses blocks of exactly
    L rows, the last of a path cut off at the horizon.

    Parameters
    ----------
    returns
        Simple returns per period as fractions (T x N), one row per period in order of time, periods that do
        not overlap. Drop or fill gaps first.
    n_scenarios
        Number S of scenarios, at least 2.
    seed
        Non-negative seed of the PCG64 generator; the same seed and sizes give the same scenarios. The rows
        drawn depend on T and the sizes only, never on the columns.
    horizon
        Number h of periods that one scenario spans, from 1 to T.
    block_length
        Mean (stationary) or exact (circular) block length L, in periods, from 1 to T; 1 draws periods
        independently. Where None, :math:`T^{1/3}` to the nearest whole number: the rate of growth at which
        the error of a bootstrapped variance is least (Lahiri 1999, Annals of Statistics 27). The best factor
        depends on the data: returns with long memory in their volatility deserve longer blocks.
    method
        ``"stationary"`` or ``"circular"``.

    Returns
    -------
    ScenarioSet
        S x N, equally likely, scenarios numbered from 0. With ``horizon=1`` every scenario is a row of the
        history.

    Raises
    ------
    InputError
        For sizes out of range, a negative seed, an unknown method, dates out of order, missing or infinite
        returns (naming the cells), and returns below -100 %, which cannot be compounded.
    """
    draw = blocks(returns, n_scenarios, seed, horizon, block_length, method)
    compounded = np.empty((draw.count, draw.history.n_assets))
    for part, positions in draw.positions():
        _compound(draw.matrix, positions, compounded[part])
    return ScenarioSet(
        pd.DataFrame(compounded, index=pd.RangeIndex(draw.count, name="scenario"), columns=draw.history.assets),
        horizon=draw.span,
    )


@dataclass(frozen=True)
class Blocks:
    """Which rows of a history the paths of a block bootstrap visit."""

    history: ScenarioSet
    count: int
    periods: int
    length: int
    method: Method
    seed: int

    @property
    def matrix(self) -> npt.NDArray[np.float64]:
        """Returns of the history (T, N)."""
        return np.asarray(self.history.matrix, dtype=np.float64)

    @property
    def span(self) -> str:
        """What a path spans, in words."""
        return "1 period" if self.periods == 1 else f"{self.periods} periods"

    def positions(self) -> Iterator[tuple[slice, npt.NDArray[np.int64]]]:
        """Some paths at a time: which ones, and the rows that they visit (count x horizon)."""
        generator = np.random.Generator(np.random.PCG64(self.seed))
        chunk = max(1, _CELLS // max(self.history.n_assets, self.periods))
        draw = _stationary if self.method == "stationary" else _circular
        for first in range(0, self.count, chunk):
            size = min(chunk, self.count - first)
            part = slice(first, first + size)
            yield part, draw(generator, size, self.periods, self.history.n_scenarios, self.length)


def blocks(
    returns: pd.DataFrame, n_paths: int, seed: int, horizon: int, block_length: int | None, method: Method
) -> Blocks:
    """Check the arguments of :func:`block_bootstrap`."""
    history = historical(returns)
    rows = history.n_scenarios
    count = whole_number(n_paths, "n_scenarios", least=2)
    periods = whole_number(horizon, "horizon", least=1)
    if periods > rows:
        raise InputError(f"horizon is {periods} periods, but the history has only {rows}")
    length = max(1, round(rows ** (1 / 3)))
    if block_length is not None:
        length = whole_number(block_length, "block_length", least=1)
    if length > rows:
        raise InputError(f"block_length is {length} periods, but the history has only {rows}")
    if method not in ("stationary", "circular"):
        raise InputError(f"method must be 'stationary' or 'circular', was {method!r}")
    if periods > 1:
        refuse_total_losses(history)
    return Blocks(history, count, periods, length, method, whole_number(seed, "seed", least=0))


def refuse_total_losses(history: ScenarioSet) -> None:
    """Refuse returns below -100 %, which cannot be compounded."""
    matrix = history.matrix
    if matrix.min() < -1.0:
        row, column = divmod(int(matrix.argmin()), history.n_assets)
        raise InputError(
            f"returns has {matrix[row, column]:g} at ({history.index[row]}, {history.assets[column]}): a "
            "loss of more than 100 % cannot be compounded. Are these percentages? Returns are fractions"
        )


# Both take a fixed number of draws per scenario, scenario by scenario, so the chunks change nothing.


def _stationary(
    generator: np.random.Generator, count: int, horizon: int, rows: int, mean_length: int
) -> npt.NDArray[np.int64]:
    """Rows of the history for each path (count x horizon), in blocks of geometric length."""
    draw = generator.random((count, horizon))
    begins = draw * mean_length < 1.0
    # One draw says both whether a block begins and where: a draw u below 1/L leaves u L uniform.
    draw[:, 1:] *= mean_length
    start = (draw * rows).astype(np.int64)
    step = np.arange(horizon)
    latest = np.maximum.accumulate(np.where(begins, step, 0), axis=1)
    return (np.take_along_axis(start, latest, axis=1) + (step - latest)) % rows


def _circular(
    generator: np.random.Generator, count: int, horizon: int, rows: int, length: int
) -> npt.NDArray[np.int64]:
    """Rows of the history for each path (count x horizon), in blocks of fixed length."""
    length = min(length, horizon)
    blocks = -(-horizon // length)
    start = (generator.random((count, blocks)) * rows).astype(np.int64)
    paths = (start[:, :, None] + np.arange(length)).reshape(count, blocks * length)
    return paths[:, :horizon] % rows


def _compound(history: npt.NDArray[np.float64], positions: npt.NDArray[np.int64], out: npt.NDArray[np.float64]) -> None:
    """Compound the rows at `positions` (count x horizon) into `out` (count x N)."""
    # r + R (1 + r) keeps small returns to full precision and leaves a single period untouched, unlike a
    # product of growth factors less one.
    np.take(history, positions[:, 0], axis=0, out=out)
    for step in positions.T[1:]:
        gain = history[step]
        gain *= 1.0 + out
        out += gain

r"""Other histories that could have been: rows of the past, drawn anew in blocks.

A history of T sessions is one path of the stationary bootstrap over the returns R (T x N) that there are, with prices

.. math:: p_{t,i} = p_{0,i} \prod_{s \le t} (1 + R_{\tau_s, i})

on the dates of the real one, so that calendars and lengths stay as they are. All assets are drawn together, with what
was traded of them; means, volatilities and correlations stay those of the sample, and dependence over time within
blocks only (Politis & Romano, 1994).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from portfolioopt.data import MarketData
from portfolioopt.errors import InputError
from portfolioopt.labels import FloatArray, some
from portfolioopt.scenarios.scenario_set import whole_number

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class BootstrapHistories:
    """Resampled histories of a market.

    Parameters
    ----------
    count
        How many.
    block_length
        Mean length of a block in sessions; a year by default, so that strategies which look back see momentum and
        clustered volatility as they were.
    seed
        History number h depends on the seed and h alone.
    """

    count: int
    block_length: int = 252
    seed: int = 0

    def __post_init__(self) -> None:
        whole_number(self.count, "count", least=1)
        whole_number(self.block_length, "block_length", least=1)
        whole_number(self.seed, "seed", least=0)

    def rows(self, number: int, sessions: int) -> IntArray:
        """Which return of the real history each return of history `number` is (T - 1,)."""
        count = sessions - 1
        generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, number])))
        begins = generator.random(count) < 1.0 / self.block_length
        begins[0] = True
        starts = generator.integers(0, count, count)
        step = np.arange(count)
        latest = np.maximum.accumulate(np.where(begins, step, 0))
        return (starts[latest] + step - latest) % count

    def market(self, real: MarketData, number: int) -> MarketData:
        """History number `number`; prices and volumes, over the same dates and assets.

        Raises
        ------
        InputError
            Where prices have gaps: histories of assets that were not there all along cannot be put together from rows.
        """
        prices = real.prices
        drawn = self.rows(number, len(prices))
        table = pd.DataFrame(resampled(prices, drawn), prices.index, prices.columns)
        volumes = real.volumes
        if volumes is not None:
            traded = volumes.reindex(prices.index)
            volumes = pd.DataFrame(traded.to_numpy()[np.append(0, drawn + 1)], prices.index, traded.columns)
        return MarketData(table, volumes=volumes)


def resampled(prices: pd.DataFrame, drawn: IntArray) -> FloatArray:
    """Prices (T, N) whose returns are those of `prices` in these rows.

    Raises InputError for gaps, naming the columns.
    """
    values = prices.to_numpy(dtype=np.float64)
    gaps = np.flatnonzero(np.isnan(values).any(axis=0))
    if len(gaps):
        raise InputError(
            f"histories are resampled from rows with all prices, and {some(prices.columns[gaps])} has gaps; leave "
            "these out, or the years before they were listed"
        )
    growth = (values[1:] / values[:-1])[drawn]
    path = np.vstack([values[:1], values[:1] * np.cumprod(growth, axis=0)])
    return path.astype(np.float64, copy=False)

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
import pandas as pd

from portfolioopt.data import MarketData
from portfolioopt.errors import InputError
from portfolioopt.labels import some
from portfolioopt.scenarios.scenario_set import whole_number


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

    def market(self, real: MarketData, number: int) -> MarketData:
        """History number `number`; prices and volumes, over the same dates and assets.

        Raises
        ------
        InputError
            Where prices have gaps: histories of assets that were not there all along cannot be put together from rows.
        """
        prices = real.prices
        values = prices.to_numpy()
        gaps = np.flatnonzero(np.isnan(values).any(axis=0))
        if len(gaps):
            raise InputError(
                f"histories are resampled from rows with all prices, and {some(prices.columns[gaps])} has gaps; leave "
                "these assets out, or the years before they were listed"
            )
        rows = len(values) - 1
        generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, number])))
        begins = generator.random(rows) < 1.0 / self.block_length
        begins[0] = True
        starts = generator.integers(0, rows, rows)
        step = np.arange(rows)
        latest = np.maximum.accumulate(np.where(begins, step, 0))
        drawn = (starts[latest] + step - latest) % rows
        growth = (values[1:] / values[:-1])[drawn]
        path = np.vstack([values[:1], values[:1] * np.cumprod(growth, axis=0)])
        volumes = real.volumes
        if volumes is not None:
            table = volumes.reindex(prices.index)
            volumes = pd.DataFrame(table.to_numpy()[np.append(0, drawn + 1)], prices.index, table.columns)
        return MarketData(pd.DataFrame(path, prices.index, prices.columns), volumes=volumes)

r"""Paths: returns of every asset in every period of a horizon, for what depends on the way and not the end alone.

A path s has simple returns :math:`R_{skn}` in the periods k = 1..H. A portfolio that is rebalanced to its weights w in
every period is worth :math:`V_{sk} = \prod_{j \le k} (1 + w' R_{sj})`, one that is held
:math:`V_{sk} = 1 - \sum_n w_n + \sum_n w_n \prod_{j \le k} (1 + R_{sjn})`, what is not invested being cash without
return.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.labels import FloatArray, PerAsset, align

from .bootstrap import Method, blocks
from .distributions import FactorDistribution, IdiosyncraticDistribution
from .factor_model import factor_monte_carlo
from .filtered_history import filtered
from .garch import Garch, Mean
from .scenario_set import ScenarioSet, whole_number


class Paths:
    """Simple returns of N assets over H periods in S scenarios, equally likely or weighted; immutable.

    Parameters
    ----------
    paths
        Returns (S, H, N), as fractions per period.
    assets
        Labels of the last axis (N,).
    probabilities
        Of the paths (S,), as for :class:`ScenarioSet`; equal ones where None.
    """

    def __init__(
        self, paths: npt.ArrayLike, assets: pd.Index | list[str], probabilities: npt.ArrayLike | None = None
    ) -> None:
        self._paths = np.array(paths, dtype=np.float64, order="C")
        if self._paths.ndim != 3 or self._paths.shape[1] < 1:
            raise InputError(
                f"paths must have three axes, scenarios x periods x assets; its shape is {self._paths.shape}"
            )
        if np.isnan(self._paths).any() or (self._paths < -1.0).any():
            raise InputError("paths must be returns as fractions, none missing and none below -100 %")
        self._paths.setflags(write=False)
        growth = self._paths[:, 0].copy()
        for step in range(1, self.periods):  # as in the block bootstrap, which keeps small returns to full precision
            growth += self._paths[:, step] * (1.0 + growth)
        span = "1 period" if self.periods == 1 else f"{self.periods} periods"
        self._set = ScenarioSet(growth, probabilities, assets=assets, horizon=span)

    @property
    def paths(self) -> FloatArray:
        """Returns (S, H, N), read-only."""
        return self._paths

    @property
    def assets(self) -> pd.Index:
        """Labels of the assets (N,)."""
        return self._set.assets

    @property
    def probabilities(self) -> FloatArray:
        """Of the paths (S,), read-only, summing to one."""
        return self._set.probabilities

    @property
    def periods(self) -> int:
        """H."""
        return self._paths.shape[1]

    def horizon_returns(self) -> ScenarioSet:
        r"""The compounded return of each asset over the horizon, :math:`\prod_k (1 + R_{skn}) - 1` (S x N)."""
        return self._set

    def values(self, weights: pd.Series | Mapping[str, float], *, rebalanced: bool = True) -> pd.DataFrame:
        """Value of a portfolio after 0, 1, ..., H periods, one at the start (S x (H + 1)).

        Parameters
        ----------
        weights
            Fractions of NAV by asset.
        rebalanced
            Whether to trade back to the weights after every period, at no cost; held otherwise.
        """
        w = align(weights, self.assets, what="weights")
        if rebalanced:
            steps = np.cumprod(1.0 + self._paths @ w, axis=1)
        else:
            steps = 1.0 + (np.cumprod(1.0 + self._paths, axis=1) - 1.0) @ w
        values = np.concatenate([np.ones((len(steps), 1)), steps], axis=1)
        return pd.DataFrame(values, self._set.index, pd.RangeIndex(self.periods + 1, name="period"))

    def max_drawdown(self, weights: pd.Series | Mapping[str, float], *, rebalanced: bool = True) -> pd.Series:
        """Largest fall of each path from its highest value so far, as a fraction of that value (S,)."""
        values = self.values(weights, rebalanced=rebalanced).to_numpy()
        fall = 1.0 - values / np.maximum.accumulate(values, axis=1)
        return pd.Series(fall.max(axis=1), self._set.index, name="max_drawdown")

    def __repr__(self) -> str:
        s, h, n = self._paths.shape
        return f"Paths({s} scenarios x {h} periods x {n} assets)"


def bootstrap_paths(
    returns: pd.DataFrame,
    n_paths: int,
    *,
    horizon: int,
    seed: int,
    block_length: int | None = None,
    method: Method = "stationary",
) -> Paths:
    """Paths of blocks of history; arguments as for :func:`block_bootstrap`, whose scenarios they end in."""
    draw = blocks(returns, n_paths, seed, horizon, block_length, method)
    paths = np.empty((draw.count, draw.periods, draw.history.n_assets))
    for part, positions in draw.positions():
        paths[part] = draw.matrix[positions]
    return Paths(paths, draw.history.assets)


def factor_paths(
    exposures: pd.DataFrame,
    factor_covariance: pd.DataFrame,
    idiosyncratic_variance: PerAsset,
    n_paths: int,
    *,
    horizon: int,
    seed: int,
    mean: PerAsset | None = None,
    factors: FactorDistribution | None = None,
    idiosyncratic: IdiosyncraticDistribution | None = None,
) -> Paths:
    """Paths of independent periods of a factor model; arguments, per period, as for :func:`factor_monte_carlo`."""
    count = whole_number(n_paths, "n_paths", least=2)
    periods = whole_number(horizon, "horizon", least=1)
    drawn = factor_monte_carlo(
        exposures,
        factor_covariance,
        idiosyncratic_variance,
        count * periods,
        seed=seed,
        mean=mean,
        factors=factors,
        idiosyncratic=idiosyncratic,
    )
    return Paths(drawn.matrix.reshape(count, periods, -1), drawn.assets)


def filtered_historical_paths(
    returns: pd.DataFrame,
    n_paths: int,
    *,
    horizon: int,
    seed: int,
    mean: Mean = "constant",
    asymmetric: bool = False,
    most_persistence: float | None = None,
    model: Garch | None = None,
) -> Paths:
    """Paths with the volatility of today; arguments as for :func:`filtered_historical`, whose scenarios they end in."""
    draw = filtered(returns, n_paths, seed, horizon, mean, asymmetric, most_persistence, model)
    paths = np.empty((draw.count, draw.periods, len(draw.assets)))
    for part, steps in draw.steps():
        for k, step in enumerate(steps):
            paths[part, k] = np.expm1(step)
    return Paths(paths, draw.assets)

r"""Scenarios from a factor model: drawn anew on every pass and never stored, or drawn once and kept.

With exposures B (N x K), factor covariance F (K x K), idiosyncratic standard deviations d (N,) and means :math:`\mu`,

.. math:: r = \mu + \sqrt{\frac{\nu - 2}{\chi^2_\nu}} \left(B F^{1/2} z + d \circ \varepsilon\right), \qquad
          z, \varepsilon \sim \mathcal N(0, I),

which has covariance :math:`B F B' + \mathrm{diag}(d^2)` for every :math:`\nu > 2`. One :math:`\chi^2` per scenario
serves all assets (a multivariate Student t), so extreme losses come together, as a normal distribution does not have
it. McNeil, Frey & Embrechts (2015), "Quantitative Risk Management", section 6.2.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.labels import PerAsset, per_asset, some

from .scenario_set import ScenarioSet, whole_number
from .source import CELLS

FloatArray = npt.NDArray[np.float64]

# Multiplications in one product: OpenBLAS wakes its threads for more, and waiting for them, on a machine that is busy
# or draws several chunks at once, takes longer than the product itself.
_PRODUCT = 1 << 18


def factor_model(
    exposures: pd.DataFrame,
    factor_covariance: pd.DataFrame,
    idiosyncratic_std: PerAsset,
    *,
    n_scenarios: int,
    seed: int,
    means: PerAsset = 0.0,
    degrees_of_freedom: float | None = None,
    horizon: str | None = None,
    workers: int = 1,
) -> ScenarioSet:
    """Draw returns from a factor model with normal or Student t tails, in chunks that are never kept.

    Chunk i is drawn from its own random stream, that of ``SeedSequence(seed, spawn_key=(i,))``, so any chunk can be
    made again on its own, and more scenarios leave the first ones as they are.

    Parameters
    ----------
    exposures
        Returns per unit of factor (N x K), labelled by asset and factor.
    factor_covariance
        Covariance of the factors per scenario horizon (K x K), labelled by factor on both axes: symmetric, no negative
        eigenvalue.
    idiosyncratic_std
        Standard deviation of what the factors leave over, per horizon: one number, or by asset; not negative.
    n_scenarios
        Number S of scenarios, at least 2, equally likely.
    seed
        Non-negative whole number; the same seed gives the same scenarios.
    means
        Expected return per horizon: one number, or by asset.
    degrees_of_freedom
        Of the Student t distribution, above 2, for example 5; the covariance does not depend on it. Normal returns
        where None.
    horizon
        What one scenario spans, for display.
    workers
        Threads that draw; the scenarios do not depend on it.

    Returns
    -------
    ScenarioSet
        S x N, made in chunks, scenarios numbered from 0.

    Raises
    ------
    InputError
        For frames that are not finite numbers, labels that do not match, a covariance that is none, negative standard
        deviations, degrees of freedom of 2 or less, and sizes out of range.
    """
    draw = _draw(exposures, factor_covariance, seed)
    assets = exposures.index
    draw = replace(
        draw,
        means=per_asset(means, assets, what="means"),
        std=_not_negative(idiosyncratic_std, assets, "idiosyncratic_std"),
        degrees_of_freedom=_with_variance(degrees_of_freedom, "degrees_of_freedom"),
    )
    return ScenarioSet.generated(draw, n_scenarios, assets, chunk_rows=draw.rows, horizon=horizon, workers=workers)


def factor_monte_carlo(
    exposures: pd.DataFrame,
    factor_covariance: pd.DataFrame,
    idiosyncratic_variance: PerAsset,
    n_scenarios: int,
    *,
    seed: int,
    mean: PerAsset | None = None,
    freedom: float | None = None,
    antithetic: bool = False,
    horizon: str | None = None,
) -> ScenarioSet:
    r"""Draw returns from a factor model with normal or Student t tails, and keep them in memory.

    Without `antithetic` these are the scenarios of :func:`factor_model` with the same seed.

    Parameters
    ----------
    exposures, factor_covariance, n_scenarios, seed, horizon
        As for :func:`factor_model`.
    idiosyncratic_variance
        Variance of what the factors leave over, per horizon: one number, or by asset; not negative.
    mean
        Expected return per horizon: one number, or by asset. Zero where None.
    freedom
        Degrees of freedom of the Student t distribution, above 2; normal returns where None.
    antithetic
        Draw half of the scenarios, and mirror each at the mean, :math:`2 \mu - r`, for the other half in the same
        order. Sample means are then exact, while a variance is estimated as well as from the drawn half alone. Needs
        an even number of scenarios.

    Returns
    -------
    ScenarioSet
        S x N, equally likely, scenarios numbered from 0.

    Raises
    ------
    InputError
        For what :func:`factor_model` refuses, and an odd number of antithetic scenarios.
    """
    draw = _draw(exposures, factor_covariance, seed)
    assets = exposures.index
    variance = _not_negative(idiosyncratic_variance, assets, "idiosyncratic_variance")
    draw = replace(
        draw,
        means=per_asset(0.0 if mean is None else mean, assets, what="mean"),
        std=np.sqrt(variance),
        degrees_of_freedom=_with_variance(freedom, "freedom"),
    )
    count = whole_number(n_scenarios, "n_scenarios", least=2)
    if antithetic and count % 2:
        raise InputError(f"n_scenarios must be even where antithetic, was {count}: scenarios come in pairs")
    returns = np.empty((count, len(assets)))
    drawn = returns[: count // 2] if antithetic else returns
    for chunk, first in enumerate(range(0, len(drawn), draw.rows)):
        part = drawn[first : first + draw.rows]
        part[:] = draw(chunk)[: len(part)]
    if antithetic:
        np.subtract(2.0 * draw.means, drawn, out=returns[count // 2 :])
    index = pd.RangeIndex(count, name="scenario")
    return ScenarioSet(pd.DataFrame(returns, index=index, columns=assets, copy=False), horizon=horizon)


def _draw(exposures: pd.DataFrame, factor_covariance: pd.DataFrame, seed: int) -> _Draw:
    """Check exposures, covariance and seed; means and idiosyncratic risk are still zero."""
    loadings = _finite(exposures, "exposures")
    covariance = _finite(factor_covariance, "factor_covariance")
    for what, labels in (("exposures has assets", exposures.index), ("exposures has factors", exposures.columns)):
        if labels.has_duplicates:
            raise InputError(f"{what} that occur twice: {some(labels[labels.duplicated()].unique())}")
    factors = exposures.columns
    if not (factor_covariance.index.equals(factors) and factor_covariance.columns.equals(factors)):
        raise InputError(
            "factor_covariance must have the factors of exposures on both axes, in the same order; use "
            "factor_covariance.loc[exposures.columns, exposures.columns]"
        )
    return _Draw(
        seed=whole_number(seed, "seed", least=0),
        rows=max(1, CELLS // max(len(exposures), 1)),
        means=np.zeros(len(exposures)),
        mixing=_root(covariance) @ loadings.T,
        std=np.zeros(len(exposures)),
        degrees_of_freedom=None,
    )


def _not_negative(values: PerAsset, assets: pd.Index, what: str) -> FloatArray:
    array = per_asset(values, assets, what=what)
    if (array < 0).any():
        raise InputError(f"{what} is negative for {some(assets[array < 0])}")
    return array


def _with_variance(freedom: float | None, what: str) -> float | None:
    if freedom is not None and not 2.0 < freedom < np.inf:
        raise InputError(
            f"{what} must be above 2, so that a covariance exists, was {freedom!r}; leave it out for normal returns"
        )
    return freedom


@dataclass(frozen=True)
class _Draw:
    """Chunk number to simple returns (rows, N); an object rather than a closure, so that it can be pickled."""

    seed: int
    rows: int
    means: FloatArray  # (N,)
    mixing: FloatArray  # (K, N): root of the factor covariance times the exposures
    std: FloatArray  # (N,)
    degrees_of_freedom: float | None

    def __call__(self, chunk: int) -> FloatArray:
        stream = np.random.Generator(np.random.SFC64(np.random.SeedSequence(self.seed, spawn_key=(chunk,))))
        returns = stream.standard_normal((self.rows, len(self.means)))
        returns *= self.std
        factors = stream.standard_normal((self.rows, len(self.mixing)))
        step = max(1, _PRODUCT // max(self.mixing.size, 1))
        for first in range(0, self.rows, step):
            returns[first : first + step] += factors[first : first + step] @ self.mixing
        if self.degrees_of_freedom is not None:
            spread = (self.degrees_of_freedom - 2.0) / stream.chisquare(self.degrees_of_freedom, self.rows)
            returns *= np.sqrt(spread)[:, None]
        returns += self.means
        return returns


def _finite(frame: pd.DataFrame, what: str) -> FloatArray:
    if not isinstance(frame, pd.DataFrame):
        raise InputError(f"{what} must be a labelled frame, was {type(frame).__name__}")
    try:
        values = frame.to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise InputError(f"{what} must hold numbers, but {error}") from error
    bad = ~np.isfinite(values)
    if bad.any():
        raise InputError(
            f"{what} is missing or infinite for {some(frame.index[np.flatnonzero(bad.any(axis=1))])} in columns "
            f"{some(frame.columns[np.flatnonzero(bad.any(axis=0))])}"
        )
    return values


def _root(covariance: FloatArray) -> FloatArray:
    """A matrix A (K, K) with ``A' A`` the covariance."""
    size = float(np.abs(covariance).max(initial=0.0))
    if np.abs(covariance - covariance.T).max(initial=0.0) > 1e-9 * size:
        raise InputError("factor_covariance is not symmetric; average it with its transpose if that is meant")
    values, vectors = np.linalg.eigh(covariance)
    if values.min(initial=0.0) < -1e-9 * size:
        raise InputError(
            f"factor_covariance has a negative eigenvalue ({values.min():.3g}), so it is the covariance of nothing; "
            "set its negative eigenvalues to zero"
        )
    return np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T

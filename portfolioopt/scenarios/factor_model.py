r"""Scenarios from a factor model, drawn anew on every pass and never stored.

With exposures B (N x K), factor covariance F (K x K), idiosyncratic standard deviations d (N,) and means :math:`\mu`,

.. math:: r = \mu + \sqrt{\frac{\nu - 2}{\chi^2_\nu}} \left(B F^{1/2} z + d \circ \varepsilon\right), \qquad
          z, \varepsilon \sim \mathcal N(0, I),

which has covariance :math:`B F B' + \mathrm{diag}(d^2)` for every :math:`\nu > 2`. One :math:`\chi^2` per scenario
serves all assets (a multivariate Student t), so extreme losses come together, as a normal distribution does not have
it. McNeil, Frey & Embrechts (2015), "Quantitative Risk Management", section 6.2.
"""

from __future__ import annotations

from dataclasses import dataclass

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
    std = per_asset(idiosyncratic_std, exposures.index, what="idiosyncratic_std")
    if (std < 0).any():
        raise InputError(f"idiosyncratic_std is negative for {some(exposures.index[std < 0])}")
    if degrees_of_freedom is not None and not 2.0 < degrees_of_freedom < np.inf:
        raise InputError(
            f"degrees_of_freedom must be above 2, so that a covariance exists, was {degrees_of_freedom!r}; leave it "
            "out for normal returns"
        )
    draw = _Draw(
        seed=whole_number(seed, "seed", least=0),
        rows=max(1, CELLS // max(len(exposures), 1)),
        means=per_asset(means, exposures.index, what="means"),
        mixing=_root(covariance) @ loadings.T,
        std=std,
        degrees_of_freedom=degrees_of_freedom,
    )
    return ScenarioSet.generated(
        draw, n_scenarios, exposures.index, chunk_rows=draw.rows, horizon=horizon, workers=workers
    )


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

r"""Scenarios from a factor model: drawn anew on every pass and never stored, or drawn once and kept.

With exposures B (N x K), factor covariance F (K x K), idiosyncratic standard deviations d (N,) and means :math:`\mu`,

.. math:: r = \mu + B f + d \circ \varepsilon,

with factor returns f and idiosyncratic returns :math:`\varepsilon` of the laws in
:mod:`~portfolioopt.scenarios.distributions`, which have mean zero, covariance F, and variance one whatever their tails:
the covariance of r is :math:`B F B' + \mathrm{diag}(d^2)`, which is never formed. Or all together is a multivariate
Student t vector,

.. math:: r = \mu + \sqrt{\frac{\nu - 2}{\chi^2_\nu}} \left(B F^{1/2} z + d \circ \varepsilon\right), \qquad
          z, \varepsilon \sim \mathcal N(0, I),

with the same covariance for every :math:`\nu > 2`. One :math:`\chi^2` per scenario serves all assets, so extreme losses
come together, as a normal distribution does not have it. McNeil, Frey & Embrechts (2015), "Quantitative Risk
Management", section 6.2.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.labels import FloatArray, PerAsset, per_asset, some

from .distributions import (
    FactorDistribution,
    Gaussian,
    IdiosyncraticDistribution,
    Jumps,
    SkewedT,
    checked_freedom,
)
from .factor_draws import Engine, FactorDraw, Precision, sampled
from .sampling import Sampling
from .scenario_set import ScenarioSet, whole_number
from .source import CELLS, InMemory

_DEVICE_CELLS = 1 << 20  # numbers in a block that JAX makes: enough to hide what a call costs, and still in cache


def factor_model(
    exposures: pd.DataFrame,
    factor_covariance: pd.DataFrame,
    idiosyncratic_std: PerAsset,
    *,
    n_scenarios: int,
    seed: int,
    means: PerAsset = 0.0,
    degrees_of_freedom: float | None = None,
    factors: FactorDistribution | None = None,
    idiosyncratic: IdiosyncraticDistribution | None = None,
    sampling: Sampling | None = None,
    engine: Engine = "numpy",
    dtype: Precision = "float64",
    chunk_rows: int | None = None,
    horizon: str | None = None,
    workers: int = 1,
) -> ScenarioSet:
    """Draw returns from a factor model in chunks that are never kept.

    Chunk i is drawn from its own random stream, that of ``SeedSequence(seed, spawn_key=(i,))``, so any chunk can be
    made again on its own, and without `sampling` more scenarios leave the first ones as they are.

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
        Of a multivariate Student t distribution of all returns, above 2, for example 5; the covariance does not depend
        on it. Excludes `factors` and `idiosyncratic`.
    factors
        Law of the factor returns: :class:`Gaussian` (where None), :class:`StudentT`, :class:`SkewedT` or
        :class:`Jumps`.
    idiosyncratic
        Law of the idiosyncratic returns: :class:`Gaussian` (where None), :class:`StudentT` or
        :class:`VolatilityShock`.
    sampling
        :class:`Stratified`, :class:`QuasiRandom` or :class:`TailImportance`, for normal and multivariate Student t
        returns. Independent scenarios where None.
    engine
        ``"numpy"``, or ``"jax"``: normal numbers are then made on JAX's default device, from counters, several times as
        fast on the CPU. The numbers are others than NumPy's.
    dtype
        Precision in which returns are drawn by JAX, or rounded after NumPy has drawn them.
    chunk_rows
        Scenarios per chunk, with which the numbers change; some 2 MiB worth of them where None.
    horizon
        What one scenario spans, for display.
    workers
        Threads that draw; the scenarios do not depend on it.

    Returns
    -------
    ScenarioSet
        S x N, made in chunks, scenarios numbered from 0; equally likely but with :class:`TailImportance`.

    Raises
    ------
    InputError
        For frames that are not finite numbers, labels that do not match, a covariance that is none, negative standard
        deviations, degrees of freedom of 2 or less, laws that contradict each other or the covariance, and sizes out
        of range.
    """
    draw = _draw(exposures, factor_covariance, seed, factors, engine, dtype, chunk_rows)
    assets = exposures.index
    draw = replace(
        draw,
        means=per_asset(means, assets, what="means"),
        std=_not_negative(idiosyncratic_std, assets, "idiosyncratic_std"),
        idiosyncratic=_idiosyncratic(idiosyncratic),
        freedom=_joint(degrees_of_freedom, "degrees_of_freedom", factors, idiosyncratic),
    )
    count = whole_number(n_scenarios, "n_scenarios", least=2)
    function, probabilities = sampled(draw, sampling, count, assets)
    return ScenarioSet.generated(
        function,
        count,
        assets,
        chunk_rows=draw.rows,
        probabilities=probabilities,
        horizon=horizon,
        workers=workers,
    )


def factor_monte_carlo(
    exposures: pd.DataFrame,
    factor_covariance: pd.DataFrame,
    idiosyncratic_variance: PerAsset,
    n_scenarios: int,
    *,
    seed: int,
    mean: PerAsset | None = None,
    freedom: float | None = None,
    factors: FactorDistribution | None = None,
    idiosyncratic: IdiosyncraticDistribution | None = None,
    antithetic: bool = False,
    sampling: Sampling | None = None,
    engine: Engine = "numpy",
    dtype: Precision = "float64",
    horizon: str | None = None,
    workers: int = 1,
) -> ScenarioSet:
    r"""Draw returns from a factor model, and keep them in memory.

    Without `antithetic` these are the scenarios of :func:`factor_model` with the same arguments.

    Parameters
    ----------
    exposures, factor_covariance, n_scenarios, seed, factors, idiosyncratic, sampling, engine, horizon, workers
        As for :func:`factor_model`.
    idiosyncratic_variance
        Variance of what the factors leave over, per horizon: one number, or by asset; not negative.
    mean
        Expected return per horizon: one number, or by asset. Zero where None.
    freedom
        Degrees of freedom of a multivariate Student t distribution of all returns, above 2. Excludes `factors` and
        `idiosyncratic`.
    antithetic
        Draw half of the scenarios, and mirror each at the mean, :math:`2 \mu - r`, for the other half in the same
        order. Sample means are then exact, while a variance is estimated as well as from the drawn half alone. Needs
        an even number of scenarios, and laws that are symmetric.
    dtype
        Precision in which returns are drawn by JAX, and kept.

    Returns
    -------
    ScenarioSet
        S x N, scenarios numbered from 0; equally likely but with :class:`TailImportance`.

    Raises
    ------
    InputError
        For what :func:`factor_model` refuses, an odd number of antithetic scenarios, and mirrored ones of a law that is
        not symmetric.
    """
    draw = _draw(exposures, factor_covariance, seed, factors, engine, dtype, None)
    assets = exposures.index
    variance = _not_negative(idiosyncratic_variance, assets, "idiosyncratic_variance")
    draw = replace(
        draw,
        means=per_asset(0.0 if mean is None else mean, assets, what="mean"),
        std=np.sqrt(variance),
        idiosyncratic=_idiosyncratic(idiosyncratic),
        freedom=_joint(freedom, "freedom", factors, idiosyncratic),
    )
    count = whole_number(n_scenarios, "n_scenarios", least=2)
    if antithetic and count % 2:
        raise InputError(f"n_scenarios must be even where antithetic, was {count}: scenarios come in pairs")
    if antithetic and (sampling is not None or isinstance(factors, SkewedT | Jumps)):
        raise InputError(
            "antithetic scenarios mirror independent ones of a symmetric law: leave out sampling=, and take Gaussian "
            "or StudentT factors"
        )
    function, probabilities = sampled(draw, sampling, count, assets)
    returns = np.empty((count, len(assets)), dtype)
    drawn = returns[: count // 2] if antithetic else returns

    def fill(chunk: int) -> None:
        part = drawn[chunk * draw.rows : (chunk + 1) * draw.rows]
        part[:] = function(chunk)[: len(part)]

    with ThreadPoolExecutor(whole_number(workers, "workers", least=1)) as pool:
        for _ in pool.map(fill, range(-(-len(drawn) // draw.rows))):
            pass
    if antithetic:
        np.subtract(2.0 * draw.means, drawn, out=returns[count // 2 :], casting="same_kind")
    returns.setflags(write=False)
    # finite numbers by construction: the usual check would take a copy
    return ScenarioSet._streamed(
        InMemory(returns, assets.rename(assets.name or "asset")), probabilities, "simple", horizon
    )


def _draw(
    exposures: pd.DataFrame,
    factor_covariance: pd.DataFrame,
    seed: int,
    law: FactorDistribution | None,
    engine: Engine,
    dtype: Precision,
    chunk_rows: int | None,
) -> FactorDraw:
    """Check exposures, covariance, seed and law of the factors; means and idiosyncratic risk are still zero."""
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
    if law is not None and not isinstance(law, FactorDistribution):
        raise InputError(f"factors must be Gaussian, StudentT, SkewedT or Jumps, was {type(law).__name__}")
    if engine not in ("numpy", "jax"):
        raise InputError(f"engine must be 'numpy' or 'jax', was {engine!r}")
    if dtype not in ("float64", "float32"):
        raise InputError(f"dtype must be 'float64' or 'float32', was {dtype!r}")
    root = _root(covariance)
    law = Gaussian() if law is None else law
    if not isinstance(law, Gaussian):
        root = _root(law.diffusion(covariance, factors), law)
    rows = max(1, (CELLS if engine == "numpy" else _DEVICE_CELLS) // max(len(exposures), 1))
    return FactorDraw(
        seed=whole_number(seed, "seed", least=0),
        rows=rows if chunk_rows is None else whole_number(chunk_rows, "chunk_rows", least=1),
        engine=engine,
        dtype=dtype,
        means=np.zeros(len(exposures)),
        loadings=loadings,
        factors=factors,
        covariance=covariance,
        law=law,
        root=root,
        std=np.zeros(len(exposures)),
        idiosyncratic=Gaussian(),
        freedom=None,
        scores=None,
    )


def _not_negative(values: PerAsset, assets: pd.Index, what: str) -> FloatArray:
    array = per_asset(values, assets, what=what)
    if (array < 0).any():
        raise InputError(f"{what} is negative for {some(assets[array < 0])}")
    return array


def _idiosyncratic(law: IdiosyncraticDistribution | None) -> IdiosyncraticDistribution:
    if law is not None and not isinstance(law, IdiosyncraticDistribution):
        raise InputError(f"idiosyncratic must be Gaussian, StudentT or VolatilityShock, was {type(law).__name__}")
    return Gaussian() if law is None else law


def _joint(
    freedom: float | None, what: str, *laws: FactorDistribution | IdiosyncraticDistribution | None
) -> float | None:
    if freedom is None:
        return None
    if any(law is not None for law in laws):
        raise InputError(
            f"{what} makes all returns together a Student t vector; leave it out, or leave out factors= and "
            "idiosyncratic="
        )
    return checked_freedom(freedom, what)


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


def _root(covariance: FloatArray, law: FactorDistribution | None = None) -> FloatArray:
    """A matrix A (K, K) with ``A' A`` the covariance."""
    size = float(np.abs(covariance).max(initial=0.0))
    if np.abs(covariance - covariance.T).max(initial=0.0) > 1e-9 * size:
        raise InputError("factor_covariance is not symmetric; average it with its transpose if that is meant")
    values, vectors = np.linalg.eigh(covariance)
    if values.min(initial=0.0) < -1e-9 * size:
        if law is not None:
            raise InputError(
                f"{law!r} alone has more variance than factor_covariance in some direction, which leaves its normal "
                f"part a negative one ({values.min():.3g}); take a smaller skew, or smaller or fewer jumps"
            )
        raise InputError(
            f"factor_covariance has a negative eigenvalue ({values.min():.3g}), so it is the covariance of nothing; "
            "set its negative eigenvalues to zero"
        )
    return np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T

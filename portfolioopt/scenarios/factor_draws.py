"""Chunks of returns of a factor model: what :mod:`~portfolioopt.scenarios.factor_model` puts together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any, Literal, TypeAlias

import jax
import numpy as np
import numpy.typing as npt
import pandas as pd

from portfolioopt.errors import InputError, unknown_names
from portfolioopt.labels import FloatArray, align
from portfolioopt_kernels.sampling import factor_block

from .distributions import (
    FactorDistribution,
    Gaussian,
    IdiosyncraticDistribution,
    StudentT,
    VolatilityShock,
    student_scale,
)
from .sampling import QuasiRandom, Sampling, Stratified, TailImportance

Returns: TypeAlias = npt.NDArray[np.floating[Any]]
Engine: TypeAlias = Literal["numpy", "jax"]
Precision: TypeAlias = Literal["float64", "float32"]

# Multiplications in one product: OpenBLAS wakes its threads for more, and waiting for them, on a machine that is busy
# or draws several chunks at once, takes longer than the product itself.
_PRODUCT = 1 << 18
_KEPT_BYTES = (32 << 20) - (1 << 16)  # just below the most that glibc takes for a threshold


@dataclass(frozen=True)
class FactorDraw:
    """Chunk number to simple returns (rows, N); an object rather than a closure, so that it can be pickled."""

    seed: int
    rows: int
    engine: Engine
    dtype: Precision
    means: FloatArray  # (N,)
    loadings: FloatArray  # (N, K)
    factors: pd.Index
    covariance: FloatArray  # (K, K)
    law: FactorDistribution
    root: FloatArray  # (K, K): A with A'A the covariance of the factors' normal part
    std: FloatArray  # (N,)
    idiosyncratic: IdiosyncraticDistribution
    freedom: float | None  # of all returns together
    scores: FloatArray | None  # (S, K), in place of random ones

    @cached_property
    def mixing(self) -> FloatArray:
        """What scores are multiplied by (K, N)."""
        return self.root @ self.loadings.T

    def __call__(self, chunk: int) -> Returns:
        """The returns of one chunk."""
        stream = np.random.Generator(np.random.SFC64(np.random.SeedSequence(self.seed, spawn_key=(chunk,))))
        return self._by_numpy(stream, chunk) if self.engine == "numpy" else self._by_jax(stream, chunk)

    def _by_numpy(self, stream: np.random.Generator, chunk: int) -> Returns:
        first = chunk * self.rows
        rows = self.rows if self.scores is None else len(self.scores[first : first + self.rows])
        if isinstance(self.idiosyncratic, StudentT):
            freedom = self.idiosyncratic.freedom
            returns = stream.standard_t(freedom, (rows, len(self.means)))
            returns *= self.std * np.sqrt((freedom - 2.0) / freedom)
        else:
            returns = stream.standard_normal((rows, len(self.means)))
            returns *= self.std
        if self.scores is None:
            scores = stream.standard_normal((rows, len(self.mixing)))
        else:
            scores = self.scores[first : first + rows]
        scale, shift, noise_scale = self._mixing(stream, rows)
        if noise_scale is not None:
            returns *= noise_scale[:, None]
        if scale is not None:
            scores = scores * scale[:, None]
        step = max(1, _PRODUCT // max(self.mixing.size, 1))
        for start in range(0, rows, step):
            part = slice(start, start + step)
            returns[part] += scores[part] @ self.mixing
            if shift is not None:
                returns[part] += shift[part] @ self.loadings.T
        if self.freedom is not None:
            returns *= student_scale(stream, self.freedom, rows)[:, None]
        returns += self.means
        return returns.astype(self.dtype, copy=False)

    def _by_jax(self, stream: np.random.Generator, chunk: int) -> Returns:
        _keep_memory()
        scale, shift, noise_scale = self._mixing(stream, self.rows)
        if self.freedom is not None:
            scale = noise_scale = student_scale(stream, self.freedom, self.rows)
        if shift is None:
            shift = np.zeros((self.rows, 0))
        of_factors, of_noise = (np.ones(self.rows) if part is None else part for part in (scale, noise_scale))
        mean, mixing, noise = self._arrays
        law = self.idiosyncratic
        with jax.enable_x64(self.dtype == "float64"):
            made = factor_block(
                self._words,
                chunk,
                mean,
                mixing,
                noise,
                of_factors.astype(self.dtype),
                of_noise.astype(self.dtype),
                shift.astype(self.dtype),
                self._shift_mixing,
                law.freedom if isinstance(law, StudentT) else None,
            )
            return np.asarray(made).view(self.dtype)[:, : len(self.means)]

    def _mixing(
        self, stream: np.random.Generator, rows: int
    ) -> tuple[FloatArray | None, FloatArray | None, FloatArray | None]:
        """Scale (S,) and shift (S, K) of the factors, and scale (S,) of the noise; None where there is none."""
        scale, shift = self.law.mixing(stream, rows, self.covariance, self.factors)
        law = self.idiosyncratic
        return scale, shift, law.scale(stream, rows) if isinstance(law, VolatilityShock) else None

    @cached_property
    def _words(self) -> npt.NDArray[np.uint32]:
        return np.random.SeedSequence(self.seed).generate_state(2).astype(np.uint32)

    @cached_property
    def _arrays(self) -> tuple[Returns, Returns, Returns]:
        return self._columns(self.means), self._columns(self.mixing), self._columns(self.std)

    @cached_property
    def _shift_mixing(self) -> Returns:
        none = isinstance(self.law, Gaussian | StudentT)
        return self._columns(self.loadings.T[:0] if none else self.loadings.T)

    def _columns(self, array: FloatArray) -> Returns:
        """Even and odd columns (2, ..., ceil(N / 2)), with a zero at the end where N is odd."""
        padded = np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, array.shape[-1] % 2)])
        return np.ascontiguousarray(np.stack([padded[..., ::2], padded[..., 1::2]]), self.dtype)


@cache
def _keep_memory() -> None:
    """Have the C library keep the memory of a block for the next one.

    glibc hands freed memory back to the system beyond a threshold that follows the largest block freed so far, up to 32
    MiB. XLA allocates and frees the few MiB of a block each time, right at that threshold, and taking them back from
    the system, page by page, can take three times as long as the returns. Other C libraries do not mind.
    """
    np.empty(_KEPT_BYTES, np.uint8)


@dataclass(frozen=True)
class DirectedDraw:
    """Chunks of a normal draw without means, moved to given returns of a portfolio, then made a Student t vector."""

    draw: FactorDraw
    means: FloatArray  # (N,)
    freedom: float | None
    weights: FloatArray  # (N,), of a portfolio with a variance of one
    direction: FloatArray  # (N,): covariance of each asset with it
    targets: FloatArray  # (S,)

    def __call__(self, chunk: int) -> Returns:
        """The returns of one chunk, cut off at the last target."""
        rows = self.draw.rows
        targets = self.targets[chunk * rows : (chunk + 1) * rows]
        returns = self.draw(chunk)[: len(targets)].astype(np.float64)
        returns += (targets - np.einsum("sn,n->s", returns, self.weights))[:, None] * self.direction
        if self.freedom is not None:
            spawned = np.random.SeedSequence(self.draw.seed, spawn_key=(chunk, 1))
            returns *= student_scale(np.random.Generator(np.random.SFC64(spawned)), self.freedom, len(targets))[:, None]
        returns += self.means
        return returns.astype(self.draw.dtype, copy=False)


def sampled(
    draw: FactorDraw, scheme: Sampling | None, count: int, assets: pd.Index
) -> tuple[Callable[[int], Returns], FloatArray | None]:
    """What makes chunks by the scheme, and the probabilities of the scenarios (S,), equal ones where None."""
    if scheme is None:
        return draw, None
    if not isinstance(scheme, Sampling):
        raise InputError(f"sampling must be Stratified, QuasiRandom or TailImportance, was {type(scheme).__name__}")
    if not (isinstance(draw.law, Gaussian) and isinstance(draw.idiosyncratic, Gaussian)):
        raise InputError(
            "sampling schemes are for normal and multivariate Student t returns; leave out sampling=, or factors= and "
            "idiosyncratic="
        )
    if isinstance(scheme, TailImportance | Stratified) and scheme.portfolio is not None:
        weights = align(scheme.portfolio, assets, what=f"{type(scheme).__name__}.portfolio")
        common = draw.mixing @ weights
        covariance = draw.mixing.T @ common + draw.std**2 * weights
        volatility = float(np.sqrt(weights @ covariance))
        if volatility == 0.0:
            raise InputError(f"the portfolio of {type(scheme).__name__} has no risk, and so no tail and no strata")
        targets, probabilities = scheme.targets(count, draw.seed)
        base = replace(draw, means=np.zeros_like(draw.means), freedom=None)
        return (
            DirectedDraw(base, draw.means, draw.freedom, weights / volatility, covariance / volatility, targets),
            probabilities,
        )
    if draw.engine == "jax":
        raise InputError("JAX draws factor scores of its own; take engine='numpy' for evenly spread ones")
    if isinstance(scheme, QuasiRandom):
        return replace(draw, scores=scheme.scores(count, len(draw.root), draw.seed)), None
    if scheme.factor not in draw.factors:
        raise unknown_names("factor", [scheme.factor], draw.factors)
    column = draw.root[:, draw.factors.get_loc(scheme.factor)]
    size = float(np.linalg.norm(column))
    if size == 0.0:
        raise InputError(f"Stratified: factor {scheme.factor!r} has no variance, and so no strata")
    stream = np.random.default_rng(np.random.SeedSequence(draw.seed, spawn_key=(0, 1)))
    scores = stream.standard_normal((count, len(column)))
    scores += np.outer(scheme.targets(count, draw.seed)[0] - scores @ column / size, column / size)
    return replace(draw, scores=scores), None

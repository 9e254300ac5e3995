r"""Random returns of a factor model, made on the device from counters: no state, any block on its own.

Bits are those of Threefry-2x32 (Salmon, Moraes, Dror & Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3"), with
13 rounds, the reduced number for which its authors publish known answers (JAX itself uses 20), applied to the number of
the cell under a key made of seed and block. A pair of words makes a pair of normal numbers (Box & Muller 1958),

.. math:: \sqrt{-2 \log u}\, \bigl(\cos \pi v,\ \sin \pi v\bigr), \qquad u \in (0, 1],\ v \in [-1, 1),

or one Student t number with :math:`\nu` degrees of freedom and a variance of one (Bailey 1994, Mathematics of
Computation 62),

.. math:: \sqrt{(\nu - 2) (u^{-2/\nu} - 1)}\, \cos \pi v .

The two numbers of a pair are the real and the imaginary part of one complex number, and so are neighbouring columns of
the returns: XLA then computes each pair once, in one loop over the block, and the complex matrix read as a real one is
the matrix of returns. Two real outputs would repeat the work, and a concatenation would break the loop's vectors.

Words of 32 bits are what single precision takes, with numbers up to 6.8 standard deviations; in double precision each
uniform number takes two words.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Complex, Float, UInt32

from .newton import PRECISION

Words: TypeAlias = tuple[UInt32[Array, "..."], UInt32[Array, "..."]]

ROUNDS = 13
_KEYED = 20  # rounds for keys, of which there are few
_PARITY = 0x1BD11BDA  # the constant of the key schedule
_ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)


def threefry(key: Words, counter: Words, rounds: int = ROUNDS) -> Words:
    """Two words of random bits for each pair of words of the counter."""
    schedule = (*key, key[0] ^ key[1] ^ np.uint32(_PARITY))
    first, second = counter[0] + schedule[0], counter[1] + schedule[1]
    for i in range(rounds):
        turn = _ROTATIONS[i % 8]
        first = first + second
        second = ((second << np.uint32(turn)) | (second >> np.uint32(32 - turn))) ^ first
        if i % 4 == 3:
            step = i // 4 + 1
            first = first + schedule[step % 3]
            second = second + schedule[(step + 1) % 3] + np.uint32(step)
    return first, second


def normal_pairs(key: Words, rows: int, width: int, dtype: Any) -> Complex[Array, "{rows} {width}"]:
    """Independent standard normal numbers, two in each complex one."""
    first, second = _uniforms(key, rows, width, dtype, 0)
    radius = jnp.sqrt(-2.0 * jnp.log(first))
    cosine, sine = _on_circle(second)
    return lax.complex(radius * cosine, radius * sine)


def student_pairs(
    key: Words, rows: int, width: int, freedom: Float[Array, ""], dtype: Any
) -> Complex[Array, "{rows} {width}"]:
    """Independent Student t numbers of variance one, two in each complex one; `freedom` is above 2."""

    def one(stream: int) -> Array:
        first, second = _uniforms(key, rows, width, dtype, stream)
        radius = jnp.sqrt((freedom - 2.0) * jnp.expm1(jnp.log(first) * (-2.0 / freedom)))
        return radius * _on_circle(second)[0]

    return lax.complex(one(0), one(2))


def factor_block(
    seed: UInt32[np.ndarray, " 2"],
    chunk: int,
    mean: Float[np.ndarray, "2 H"],
    mixing: Float[np.ndarray, "2 K H"],
    noise: Float[np.ndarray, "2 H"],
    factor_scale: Float[np.ndarray, " S"],
    noise_scale: Float[np.ndarray, " S"],
    shift: Float[np.ndarray, "S J"],
    shift_mixing: Float[np.ndarray, "2 J H"],
    freedom: float | None,
) -> Complex[Array, "S H"]:
    r"""A block of returns of S scenarios and N = 2 H assets, as pairs of columns.

    Row s of a block is, with standard normal z (K,) and :math:`\varepsilon` (N,) of its own,

    .. math:: r_s = \mu + (a_s z_s)' M + h_s' L + b_s\, d \circ \varepsilon_s .

    It is made in the precision of `mean`, and depends on nothing but the arguments, and in the last bits on the kind of
    device. Axes of length 2 are even and odd columns.

    Parameters
    ----------
    seed, chunk
        Two words, and the number of the block: what its random numbers follow from.
    mean, mixing, noise
        :math:`\mu` (2, H), M (2, K, H), d (2, H).
    factor_scale, noise_scale
        a (S,) and b (S,).
    shift, shift_mixing
        h (S, J) and L (2, J, H); J may be zero.
    freedom
        Where given, the :math:`\varepsilon` are independent Student t numbers of variance one, and not normal.
    """
    # Three programs and not one: XLA would fuse the keys, and the concatenation of the scores, with the loops over
    # cells, which are vector code no more then; it disregards barriers against that on the CPU.
    keys, scores, returns = _programs(freedom is not None)
    of_factors, of_noise = keys(seed, np.uint32(chunk))
    # As one long row: loops over the few factors would be too short for vector code.
    pairs = scores(of_factors, 1, len(factor_scale) * -(-mixing.shape[1] // 2), mean.dtype)
    return returns(
        of_noise,
        pairs,
        mean,
        mixing,
        noise,
        factor_scale,
        noise_scale,
        shift,
        shift_mixing,
        np.asarray(np.inf if freedom is None else freedom, mean.dtype),
    )


@lru_cache
def _programs(heavy: bool) -> tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]:
    """The compiled parts of a block: keys, factor scores, returns."""
    # A loop of Threefry is registers only, and a sixth faster in those of 512 bits where there are such.
    options = {"xla_cpu_prefer_vector_width": 512} if jax.default_backend() == "cpu" else None
    return (
        jax.jit(_keys),
        jax.jit(normal_pairs, static_argnums=(1, 2, 3), compiler_options=options),
        jax.jit(partial(_returns, heavy), compiler_options=options),
    )


def _keys(seed: UInt32[Array, " 2"], chunk: UInt32[Array, ""]) -> tuple[Words, Words]:
    """The keys of a block's factors and of its noise."""
    own = (seed[0], seed[1])
    return threefry(own, (chunk, jnp.uint32(0)), _KEYED), threefry(own, (chunk, jnp.uint32(1)), _KEYED)


def _returns(
    heavy: bool,
    key: Words,
    pairs: Complex[Array, "1 L"],
    mean: Float[Array, "2 H"],
    mixing: Float[Array, "2 K H"],
    noise: Float[Array, "2 H"],
    factor_scale: Float[Array, " S"],
    noise_scale: Float[Array, " S"],
    shift: Float[Array, "S J"],
    shift_mixing: Float[Array, "2 J H"],
    freedom: Float[Array, ""],
) -> Complex[Array, "S H"]:
    pairs = pairs.reshape(len(factor_scale), -1)
    scores = jnp.concatenate([pairs.real, pairs.imag], axis=1)[:, : mixing.shape[1]] * factor_scale[:, None]
    even, odd = (jnp.matmul(scores, columns, precision=PRECISION) for columns in mixing)
    if shift.shape[1]:
        even, odd = (
            total + jnp.matmul(shift, columns, precision=PRECISION)
            for total, columns in zip((even, odd), shift_mixing, strict=True)
        )
    rows, half = even.shape
    if heavy:
        own = student_pairs(key, rows, half, freedom, mean.dtype)
    else:
        own = normal_pairs(key, rows, half, mean.dtype)
    scale = noise_scale[:, None]
    return lax.complex(
        mean[0] + even + own.real * (noise[0] * scale),
        mean[1] + odd + own.imag * (noise[1] * scale),
    )


def _uniforms(key: Words, rows: int, width: int, dtype: Any, stream: int) -> tuple[Array, Array]:
    """Numbers in (0, 1] and in [-1, 1) for every cell."""
    row = lax.broadcasted_iota(jnp.uint32, (rows, width), 0)
    cell = row * np.uint32(width) + lax.broadcasted_iota(jnp.uint32, (rows, width), 1)
    first, second = threefry(key, (cell, jnp.full_like(cell, stream)))
    if dtype != jnp.float64:
        return first.astype(dtype) * 2.0**-32 + 2.0**-33, lax.bitcast_convert_type(second, jnp.int32).astype(
            dtype
        ) * 2.0**-31
    low, lowest = threefry(key, (cell, jnp.full_like(cell, stream + 1)))
    return (
        first.astype(dtype) * 2.0**-32 + (low.astype(dtype) + 0.5) * 2.0**-64,
        lax.bitcast_convert_type(second, jnp.int32).astype(dtype) * 2.0**-31 + lowest.astype(dtype) * 2.0**-63,
    )


def _on_circle(turn: Array) -> tuple[Array, Array]:
    r"""Cosine and sine of :math:`\pi v`, v in [-1, 1), by their Taylor series on half the circle."""
    # v and v + 1 are opposite points: v is brought to [-1/2, 1/2) and the sign of both changed.
    over = jnp.round(turn)
    angle = (turn - over) * math.pi
    square = angle * angle
    terms = 11 if turn.dtype == jnp.float64 else 7
    sign = 1.0 - 2.0 * jnp.abs(over)
    cosine = _series([(-1.0) ** k / math.factorial(2 * k) for k in range(terms)], square)
    sine = _series([(-1.0) ** k / math.factorial(2 * k + 1) for k in range(terms)], square)
    return sign * cosine, sign * angle * sine


def _series(coefficients: list[float], x: Array) -> Array:
    total = jnp.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        total = total * x + coefficient
    return total

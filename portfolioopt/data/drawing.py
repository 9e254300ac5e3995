"""The random numbers of synthetic markets, as arrays: one path of factors, and blocks of assets on it.

Each block of 256 assets, and each kind of number in it, has a random stream of its own, that of
``SeedSequence(seed, spawn_key=...)``, and streams are read day after day. So more days and more assets only add to what
was drawn before. Products are sums over factors in a fixed order, never matrix products, whose last bits depend on the
shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from portfolioopt.labels import FloatArray

IntArray = npt.NDArray[np.intp]

YEAR: Final = 252
_QUARTER: Final = 63
_FLOOR: Final = -0.95  # no asset loses more in a day


class Styles:
    """Sizes and names of what is drawn."""

    WIDTH: Final = 256
    """Assets in a block."""
    NAMES: Final = ("Market", "Size", "Value", "Momentum", "Quality", "Volatility", "Growth", "Yield", "Liquidity")

    @staticmethod
    def volatility(count: int) -> FloatArray:
        """Daily standard deviations of `count` factors: 16 % a year for the market, 4 % for a style."""
        return np.where(np.arange(count) == 0, 0.16, 0.04) / np.sqrt(YEAR)


class _Stream(IntEnum):
    """First part of the key of a random stream."""

    REGIMES = 0
    FACTORS = 1
    FACTOR_SCALES = 2
    ASSETS = 3
    SHOCKS = 4
    VOLUMES = 5
    CHARACTERISTICS = 6
    REPORTS = 7


@dataclass(frozen=True, eq=False)
class Path:
    """What all assets share: the number of the regime of each day (T,), and returns of factors (T, K)."""

    regime: IntArray
    factors: FloatArray


@dataclass(frozen=True)
class Life:
    """How assets come and go: number of days, share listed at the start, mean years to a listing, delistings a year."""

    days: int
    at_start: float
    years: float
    rate: float


@dataclass(frozen=True, eq=False)
class Block:
    """What 256 assets have of their own; rows are days, columns assets.

    `first` and `last` are rows of the listing and of the delisting (which may lie beyond the last day); prices exist
    from `first` to before `last`, returns from after `first` to `last`. `reports` has one entry per publication.
    """

    exposures: FloatArray
    variance: FloatArray
    first: IntArray
    last: IntArray
    delisting: FloatArray
    returns: FloatArray
    prices: FloatArray
    volumes: FloatArray
    book_to_market: FloatArray
    reports: dict[str, FloatArray]


def draw_path(
    seed: int,
    days: int,
    count: int,
    freedom: float,
    *,
    duration: FloatArray,
    autocorrelation: FloatArray,
    drift: FloatArray,
    volatility: FloatArray,
    correlation: FloatArray,
) -> Path:
    """Regimes and factors; what a regime is made of is given by its number."""
    regime = _chain(_generator(seed, _Stream.REGIMES).random((days, 2)), duration)
    normal = _generator(seed, _Stream.FACTORS).standard_normal((days, count))
    scale = np.sqrt((freedom - 2.0) / _generator(seed, _Stream.FACTOR_SCALES).chisquare(freedom, days))
    shocks = normal * scale[:, None]
    phi = autocorrelation[regime]
    state = np.empty_like(shocks)
    state[0] = shocks[0]  # of unit variance, like all that follow
    for t in range(1, days):
        state[t] = phi[t] * state[t - 1] + np.sqrt(1.0 - phi[t] ** 2) * shocks[t]
    # L for equal correlations: the symmetric root of (1 - rho) I + rho 11' is a I + b 11'.
    rho = correlation[regime]
    small = np.sqrt(1.0 - rho)
    common = (np.sqrt(1.0 - rho + rho * count) - small) / count
    mixed = small[:, None] * state + common[:, None] * _sum(state)[:, None]
    factors = volatility[regime][:, None] * Styles.volatility(count) * mixed
    factors[:, 0] += drift[regime]
    return Path(regime, factors)


def draw_block(seed: int, number: int, path: Path, life: Life, freedom: float) -> Block:
    """The assets 256 * number, ... on a path of factors."""
    width, (days, count) = Styles.WIDTH, path.factors.shape
    own = _generator(seed, _Stream.ASSETS, number)
    exposures = own.standard_normal((width, count))
    exposures[:, 0] = 1.0 + 0.35 * exposures[:, 0]
    deviation = 0.28 / np.sqrt(YEAR) * np.exp(0.35 * own.standard_normal(width))
    late = own.random(width) >= life.at_start
    first = np.where(late, own.geometric(1.0 / (life.years * YEAR), width), 0).astype(np.intp)
    span = own.geometric(-np.expm1(-life.rate / YEAR), width) if life.rate > 0.0 else np.full(width, 1 << 40)
    last = first + 1 + span.astype(np.intp)
    taken_over = own.random(width) < 2.0 / 3.0
    delisting = np.where(taken_over, own.uniform(0.0, 0.2, width), -own.uniform(0.3, 1.0, width))
    begin = np.exp(3.5 + 0.8 * own.standard_normal(width))
    shares_traded = np.exp(12.0 + 1.2 * own.standard_normal(width))
    shares_outstanding = shares_traded * YEAR

    returns = _generator(seed, _Stream.SHOCKS, number).standard_t(freedom, (days, width))
    returns *= deviation * np.sqrt((freedom - 2.0) / freedom)
    surprise = np.abs(returns) / deviation
    for k in range(count):
        returns += path.factors[:, k, None] * exposures[:, k]
    np.maximum(returns, _FLOOR, out=returns)
    day = np.arange(days)[:, None]
    returns[(day <= first) | (day > last)] = np.nan
    ends = np.flatnonzero(last < days)
    returns[last[ends], ends] = delisting[ends]

    trading = (day >= first) & (day < last)
    growth = np.where(np.isnan(returns) | ~trading, 1.0, 1.0 + returns)
    prices = np.multiply(np.cumprod(growth, axis=0, out=growth), begin, out=growth)
    prices[~trading] = np.nan
    volumes = _generator(seed, _Stream.VOLUMES, number).standard_normal((days, width))
    volumes = np.round(np.exp(0.4 * volumes + 0.25 * surprise) * shares_traded)
    volumes[~trading] = np.nan

    # Book values move little from month to month, and say something about the exposure to value.
    months = np.arange(0, days, 21)
    noise = _generator(seed, _Stream.CHARACTERISTICS, number).standard_normal((len(months), width))
    style = exposures[:, 2] if count > 2 else np.zeros(width)
    book = np.exp(-0.5 + 0.4 * style + 0.15 * noise)
    book[~trading[months]] = np.nan
    reports = _reports(_generator(seed, _Stream.REPORTS, number), trading, prices, shares_outstanding)
    return Block(exposures, deviation**2, first, last, delisting, returns, prices, volumes, book, reports)


def _reports(
    random: np.random.Generator, trading: npt.NDArray[np.bool_], prices: FloatArray, shares: FloatArray
) -> dict[str, FloatArray]:
    """Quarterly earnings, some 2 % of what a company is worth, known 15 to 60 days later, a tenth of them revised."""
    days, width = trading.shape
    pieces = []
    for quarter in range(_QUARTER - 1, days, _QUARTER):
        yields, lags = 0.02 + 0.01 * random.standard_normal(width), random.integers(15, 61, width)
        revised, later = random.random(width) < 0.1, random.integers(20, 120, width)
        change = 1.0 + 0.2 * random.standard_normal(width)
        value = yields * prices[quarter] * shares
        for known, amount, chosen in (
            (quarter + lags, value, trading[quarter]),
            (quarter + lags + later, value * change, trading[quarter] & revised),
        ):
            kept = np.flatnonzero(chosen & (known < days))
            pieces.append((kept, np.full(len(kept), quarter), known[kept], amount[kept]))
    columns = [np.concatenate(parts) for parts in zip(*pieces, strict=True)] if pieces else [np.empty(0)] * 4
    return dict(zip(("column", "quarter", "known", "value"), columns, strict=True))


def _chain(uniform: FloatArray, duration: FloatArray) -> IntArray:
    """A Markov chain from two uniform numbers a day: whether to leave, and for which of the others."""
    count = len(duration)
    regime = np.empty(len(uniform), dtype=np.intp)
    current = int(uniform[0, 1] * count)
    for t, (leave, choice) in enumerate(uniform):
        if t and count > 1 and leave < 1.0 / duration[current]:
            current = (current + 1 + int(choice * (count - 1))) % count
        regime[t] = current
    return regime


def _sum(values: FloatArray) -> FloatArray:
    """Sums of rows in a fixed order."""
    total = np.zeros(len(values))
    for k in range(values.shape[1]):
        total += values[:, k]
    return total


def _generator(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=tuple(int(part) for part in key)))

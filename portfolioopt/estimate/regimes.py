r"""Regimes of one series of returns by rules on trailing rows, and moments of returns by regime.

Nothing here looks past a date: every number on it comes from the rows up to it, that row included.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError, unknown_names
from portfolioopt.labels import FloatArray, checked_number

from .checks import checked_count, checked_returns, checked_series, written


class MarketRegime(Enum):
    """What a market does, from its trailing returns; `MarketRegimes` has the definitions."""

    TRENDING = "trending"
    """It gets somewhere, at a volatility that is not high."""
    VOLATILE_TRENDING = "volatile trending"
    """It gets somewhere, at a volatility that is high by its own past."""
    MEAN_REVERTING = "mean-reverting"
    """It gets nowhere, and moves tend to be taken back."""
    CHOPPY = "choppy"
    """It gets nowhere, and moves are not taken back either."""
    QUIET_CHOPPY = "quiet choppy"
    """The same at a volatility that is low by its own past."""

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class VolatilityStates:
    r"""States by trailing volatility: how many quantiles of its own past it exceeds.

    Volatility is the standard deviation (ddof 1) of the last `window` returns. Its quantiles are those of all its
    values up to that date, interpolated linearly; state 0 is the calmest.

    Parameters
    ----------
    quantiles
        Increasing, between 0 and 1; Q of them make Q + 1 states.
    window
        Rows of the volatility, at least 2.
    history
        Volatilities that are needed before quantiles mean something, at least 2.
    """

    quantiles: Sequence[float] = (1.0 / 3.0, 2.0 / 3.0)
    window: int = 21
    history: int = 252

    def __post_init__(self) -> None:
        who = "VolatilityStates"
        checked_count(self.window, f"{who}: window", least=2)
        checked_count(self.history, f"{who}: history", least=2)
        levels = [checked_number(q, f"{who}: quantiles", above=0.0, below=1.0) for q in self.quantiles]
        if not levels or np.any(np.diff(levels) <= 0.0):
            raise InputError(f"{who}: quantiles must increase, and be one or more, but are {tuple(levels)}")

    def fit(self, returns: pd.Series) -> pd.Series:
        """The state, from 0 to Q, on every date with enough history; needs window + history - 1 rows."""
        values = checked_series(returns, "VolatilityStates", rows=self.window + self.history - 1)
        volatility = _trailing(values, self.window).std(axis=1, ddof=1)
        past = pd.Series(volatility).expanding(self.history)
        edges = np.column_stack([past.quantile(q).to_numpy() for q in self.quantiles])[self.history - 1 :]
        states = (volatility[self.history - 1 :, None] > edges).sum(axis=1)
        return pd.Series(states, returns.index[self.window + self.history - 2 :], name="state")


@dataclass(frozen=True)
class MarketRegimes:
    r"""The five regimes of `MarketRegime`, from three numbers of trailing returns.

    With log returns :math:`x_t`:

    *   the efficiency ratio over n = `window` rows, :math:`|\sum x| / \sum |x|` (Kaufman, 1995, "Smarter Trading"): 1
        for a straight line, and about :math:`\sqrt{\pi / 2n}\,|Z|`, Z standard normal, for a random walk;
    *   the rank of the standard deviation of the n rows among those of all dates so far, above 0 and up to 1;
    *   the variance ratio over the last `memory` rows, the variance of sums of q = `lag` rows over q times that of one,
        below 1 where moves are taken back, with the statistic z that is standard normal for uncorrelated returns of any
        volatility (Lo & MacKinlay, 1988, Review of Financial Studies 1).

    The first of these that holds names the regime:

    1.  efficiency ratio at least `trend`: VOLATILE_TRENDING where the rank is at least `volatile`, otherwise TRENDING;
    2.  z at most -`reversion`: MEAN_REVERTING;
    3.  rank at most `quiet`: QUIET_CHOPPY;
    4.  CHOPPY.

    Parameters
    ----------
    window
        n, rows, at least 2. With the defaults a random walk trends about one day in sixteen.
    trend
        Efficiency ratio from which a market trends, above 0 and below 1.
    volatile, quiet
        Ranks, quiet below volatile.
    memory
        Rows of the variance ratio, at least ten times `lag`.
    lag
        q, at least 2.
    reversion
        Standard deviations below a random walk, positive.
    history
        Ranks need that many dates before them; at least 2.
    """

    window: int = 60
    trend: float = 0.3
    volatile: float = 0.75
    quiet: float = 0.25
    memory: int = 120
    lag: int = 5
    reversion: float = 1.645
    history: int = 252

    def __post_init__(self) -> None:
        who = "MarketRegimes"
        checked_count(self.window, f"{who}: window", least=2)
        checked_count(self.history, f"{who}: history", least=2)
        lag = checked_count(self.lag, f"{who}: lag", least=2)
        checked_count(self.memory, f"{who}: memory", least=10 * lag)
        for name in ("trend", "volatile", "quiet"):
            checked_number(getattr(self, name), f"{who}: {name}", above=0.0, below=1.0)
        checked_number(self.reversion, f"{who}: reversion", above=0.0)
        if self.quiet >= self.volatile:
            raise InputError(f"{who}: quiet ({self.quiet:g}) must be below volatile ({self.volatile:g})")

    def fit(self, returns: pd.Series) -> pd.Series:
        """The regime on every date with enough history, as members of `MarketRegime`.

        Needs max(window + history - 1, memory) rows.
        """
        seen = self.evidence(returns)
        trending = seen["efficiency_ratio"] >= self.trend
        volatile = seen["volatility_rank"] >= self.volatile
        named = np.select(
            [trending & volatile, trending, seen["z"] <= -self.reversion, seen["volatility_rank"] <= self.quiet],
            [1, 0, 2, 4],
            default=3,
        )
        members = np.array(list(MarketRegime), dtype=object)
        return pd.Series(members[named], seen.index, name="regime")

    def evidence(self, returns: pd.Series) -> pd.DataFrame:
        """What the rules look at, by date: efficiency_ratio, volatility_rank, variance_ratio and z."""
        who = "MarketRegimes"
        skipped = max(self.window + self.history - 1, self.memory) - 1
        values = checked_series(returns, who, rows=skipped + 1)
        if (values <= -1.0).any():
            place = int(np.argmax(values <= -1.0))
            raise InputError(
                f"{who}: the return on {written(returns.index[place])} is {values[place]:g}; simple returns, as "
                "fractions, are above -1"
            )
        x = np.log1p(values)
        recent = _trailing(x, self.window)
        way = np.abs(recent).sum(axis=1)
        ratio = np.abs(recent.sum(axis=1)) / np.where(way > 0.0, way, 1.0)
        rank = pd.Series(recent.std(axis=1, ddof=1)).expanding().rank(pct=True).to_numpy()
        variance_ratio, z = _variance_ratio(_trailing(x, self.memory), self.lag)
        columns = {"efficiency_ratio": ratio, "volatility_rank": rank, "variance_ratio": variance_ratio, "z": z}
        rows = len(x) - skipped
        return pd.DataFrame({name: column[-rows:] for name, column in columns.items()}, returns.index[skipped:])


@dataclass(frozen=True, eq=False)
class RegimeMoments:
    """Moments of returns in each regime.

    Parameters
    ----------
    mean
        Regimes x assets, per row.
    covariances
        By regime, assets x assets, per row; unbiased.
    observations
        Rows of each regime.
    """

    mean: pd.DataFrame
    covariances: dict[Any, pd.DataFrame]
    observations: pd.Series


def regime_moments(
    returns: pd.DataFrame, regimes: pd.Series, *, only: Iterable[Any] | None = None, lag: int = 1
) -> RegimeMoments:
    """Mean and covariance of the returns that followed each regime.

    Parameters
    ----------
    returns
        T x N, a row for each period.
    regimes
        Regime by date, as known at the end of that date. Returns without one are not used.
    only
        The regimes that are asked for; all members where they are of an enumeration, such as `MarketRegime`, all
        categories of a categorical, and otherwise all that occur.
    lag
        Rows from a regime to the return it is set beside: 1 for the next one, which could still be traded; 0 for that
        of the same date, which the regime has seen.

    Raises
    ------
    InputError
        For a regime with fewer than two returns, of which there is no covariance.
    """
    who = "regime_moments"
    values = checked_returns(returns, who, rows=2)
    steps = checked_count(lag, f"{who}: lag", least=0)
    if not isinstance(regimes, pd.Series):
        raise InputError(f"{who}: regimes must be a Series by date, was {type(regimes).__name__}")
    if regimes.index.has_duplicates:
        raise InputError(f"{who}: regimes has duplicate dates; keep one for each")
    if regimes.index.intersection(returns.index).empty:
        raise InputError(f"{who}: regimes and returns have no date in common; give both the same kind of index")
    place = regimes.index.get_indexer(returns.index)
    place = np.concatenate([np.full(min(steps, len(place)), -1), place[: len(place) - steps]])
    codes, labels = pd.factorize(regimes.astype(object), use_na_sentinel=True)
    known = _known(regimes, labels)
    wanted = known if only is None else list(only)
    unknown = [regime for regime in wanted if regime not in known]
    if unknown:
        raise unknown_names("regime", unknown, known)
    code = np.where(place >= 0, codes[place], -1)
    mean, covariances, observations = {}, {}, {}
    for regime in wanted:
        found = np.flatnonzero(labels == regime) if len(labels) else np.zeros(0, np.intp)
        rows = values[code == found[0]] if len(found) else values[:0]
        if len(rows) < 2:
            others = ", ".join(str(other) for other in wanted if other != regime)
            count = f"{len(rows)} return{'s' if len(rows) != 1 else ''}"
            raise InputError(
                f"{who}: regime {str(regime)!r} has {count}, and a covariance takes 2; pass a longer history, move the "
                f"thresholds, or ask for the others with only= ({others})"
            )
        mean[regime] = rows.mean(axis=0)
        centred = rows - mean[regime]
        covariances[regime] = pd.DataFrame(centred.T @ centred / (len(rows) - 1), returns.columns, returns.columns)
        observations[regime] = len(rows)
    index = pd.Index(wanted, name="regime")
    return RegimeMoments(
        pd.DataFrame(np.array([mean[regime] for regime in wanted]), index, returns.columns),
        covariances,
        pd.Series([observations[regime] for regime in wanted], index, name="observations"),
    )


def _known(regimes: pd.Series, labels: Any) -> list[Any]:
    """All regimes there could be."""
    if isinstance(regimes.dtype, pd.CategoricalDtype):
        return list(regimes.dtype.categories)
    found = list(labels)
    kinds = {type(label) for label in found}
    if len(kinds) == 1 and issubclass(kind := kinds.pop(), Enum):
        return list(kind)
    try:
        return sorted(found)
    except TypeError:
        return found


def _trailing(values: FloatArray, window: int) -> FloatArray:
    """The last `window` values on every date that has them (T - window + 1, window), as a view."""
    return np.lib.stride_tricks.sliding_window_view(values, window)


def _variance_ratio(x: FloatArray, q: int) -> tuple[FloatArray, FloatArray]:
    r"""Lo and MacKinlay's variance ratio of each row of `x` (W, n) at lag q, unbiased, and its robust z statistic."""
    n = x.shape[1]
    centred = x - x.mean(axis=1, keepdims=True)
    squares = centred**2
    total = squares.sum(axis=1)
    sums = _trailing_sums(centred, q)
    factor = q * (n - q + 1) * (1.0 - q / n)
    safe = np.where(total > 0.0, total, 1.0)
    ratio = (sums**2).sum(axis=1) / factor / (safe / (n - 1))
    theta = np.zeros(len(x))
    for j in range(1, q):
        delta = n * (squares[:, j:] * squares[:, :-j]).sum(axis=1) / safe**2
        theta += (2.0 * (q - j) / q) ** 2 * delta
    z = np.sqrt(n) * (ratio - 1.0) / np.sqrt(np.where(theta > 0.0, theta, 1.0))
    still = (total <= 0.0) | (theta <= 0.0)
    return np.where(still, 1.0, ratio), np.where(still, 0.0, z)


def _trailing_sums(x: FloatArray, q: int) -> FloatArray:
    """Sums of q neighbours in each row (W, n - q + 1)."""
    return sum((x[:, j : x.shape[1] - q + 1 + j] for j in range(q)), start=np.zeros((len(x), x.shape[1] - q + 1)))

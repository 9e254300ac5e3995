r"""How likely the best of many backtests is the best by luck: combinatorially symmetric cross-validation.

The T x R matrix of returns of all R runs that were tried is parted into S blocks of consecutive rows. For each of the
:math:`\binom{S}{S/2}` halves J of the blocks, with complement :math:`\bar J`: the run n with the best performance in J
is looked up in :math:`\bar J`, where its rank among all runs, from 1 (worst) to R, gives

.. math:: \bar\omega = \frac{\text{rank of } n}{R + 1}, \qquad \lambda = \log \frac{\bar\omega}{1 - \bar\omega}, \qquad
          \mathrm{PBO} = \Pr(\lambda \le 0),

the share of halves in which the chosen run ends no better than the median. Around one half the choice is worthless;
near zero the best in one half of history is good in the other. Runs that tie share the mean of their ranks. Bailey,
Borwein, López de Prado & Zhu (2017), "The probability of backtest overfitting", J. Computational Finance 20.

The sums of each block and run are taken once, so that a half costs :math:`O(R S)`, however long the history is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from math import comb, sqrt
from typing import Final, Literal, TypeAlias, get_args

import numpy as np
import pandas as pd

from portfolioopt.blas import quiet_blas
from portfolioopt.confidence import NeweyWest
from portfolioopt.errors import InputError, unknown_names
from portfolioopt.estimate.checks import checked_count
from portfolioopt.labels import FloatArray, checked_number, some

from .metric_inputs import Runs, checked_runs, per_period
from .sharpe import deflated_sharpe, effective_trials, expected_maximum_sharpe, moments, varies

Criterion: TypeAlias = Literal["sharpe", "mean", "growth"]

_CELLS: Final = 1 << 20  # performances held at a time, 8 MiB for each array of them
_MOST_HALVES: Final = 200_000
_POINTS: Final = 201  # where the distributions of performance are compared


@dataclass(frozen=True, eq=False)
class Overfitting:
    """Probability of backtest overfitting; see `overfitting_probability`.

    Parameters
    ----------
    probability
        Share of halves in which the run chosen in one half is no better than the median in the other.
    halves
        One row for each choice of blocks: ``chosen`` (run), ``in_sample`` and ``out_of_sample`` (its performance),
        ``rank`` (out of sample, 1 is the worst), ``logit``.
    slope, intercept, r_squared
        Least squares of the chosen run's performance out of sample on that in sample: performance degrades where the
        slope is below one, and is no guide at all where it is zero or negative. NaN where it is always the same.
    probability_of_loss
        Share of halves in which the chosen run's performance out of sample is negative.
    distributions
        By level of performance, at 201 levels from the lowest to the highest out of sample: ``chosen`` and ``all``, the
        shares of halves at or below it for the chosen run and for a run picked at random, and ``second_order``, the
        integral of the second less the first up to it.
    first_order, second_order
        Whether the chosen run dominates a run picked at random at those levels: its share is nowhere larger (and
        somewhere smaller); its integral nowhere negative (and somewhere positive), which is what whoever is averse to
        risk asks for.
    blocks, runs, metric
        S, R, and what performance is.
    """

    probability: float
    halves: pd.DataFrame
    slope: float
    intercept: float
    r_squared: float
    probability_of_loss: float
    distributions: pd.DataFrame
    first_order: bool
    second_order: bool
    blocks: int
    runs: int
    metric: Criterion

    @property
    def logits(self) -> pd.Series:
        """The logit of every half."""
        return self.halves["logit"]

    def __repr__(self) -> str:
        return (
            f"Overfitting: probability {self.probability:.3f} that the best of {self.runs:,} runs by {self.metric} is "
            f"no better than the median out of sample ({len(self.halves):,} halves of {self.blocks} blocks); slope "
            f"{self.slope:.3f}, probability of loss {self.probability_of_loss:.3f}"
        )


@dataclass(frozen=True)
class BestOfMany:
    """The run with the best Sharpe ratio, less what luck explains; see `best_of_many`.

    Parameters
    ----------
    name
        Its column.
    sharpe
        Its annualised Sharpe ratio.
    trials
        How many independent runs it was chosen from.
    spread
        Standard deviation of the annualised Sharpe ratios of all runs.
    expected_maximum
        Annualised Sharpe ratio that the best of so many runs without skill is expected to have.
    deflated
        Probability that the true Sharpe ratio of the best exceeds that.
    """

    name: object
    sharpe: float
    trials: float
    spread: float
    expected_maximum: float
    deflated: float


def overfitting_probability(
    returns: pd.DataFrame,
    *,
    blocks: int = 16,
    metric: Criterion = "sharpe",
    risk_free: float | pd.Series = 0.0,
    periods_per_year: float = 252.0,
) -> Overfitting:
    r"""Probability that choosing the best of R runs is overfitting, by combinatorially symmetric cross-validation.

    Parameters
    ----------
    returns
        T x R: simple returns per period of *all* runs that were tried, not of the good ones alone.
    blocks
        S, an even number from 2 to T / 2; they differ by a row at most where T is no multiple of S. 16 make 12,870
        halves.
    metric
        Performance of a run in a half: ``"sharpe"``, its annualised Sharpe ratio; ``"mean"``, mean excess return times
        P; ``"growth"``, :math:`P\, \overline{\log(1 + r)}`, by which runs are ordered as by compounded return.
    risk_free, periods_per_year
        As in `performance`; the growth is that of the returns themselves.

    Raises
    ------
    InputError
        For fewer than two runs, numbers that are missing, infinite or below -1 (for growth: -1 too), an odd number of
        blocks or one that is out of range, and for runs that do not vary where the Sharpe ratio is asked for.
    """
    who = "overfitting_probability"
    if metric not in get_args(Criterion):
        raise unknown_names("metric", [metric], get_args(Criterion))
    runs = _checked(returns, who)
    year = checked_number(periods_per_year, f"{who}: periods_per_year", above=0.0)
    count = checked_count(blocks, f"{who}: blocks", least=2)
    if count % 2 or 2 * count > len(runs.dates) or comb(count, count // 2) > _MOST_HALVES:
        raise InputError(
            f"{who}: blocks must be an even number, at most half of the {len(runs.dates)} rows and at most 20, "
            f"was {count}"
        )
    halves = _Halves(runs, per_period(risk_free, runs.dates, year, who), year, count, metric)

    number = len(halves.chosen_blocks)
    picked, inside, outside, rank = (np.empty(number) for _ in range(4))
    lowest, highest = np.inf, -np.inf
    for part, here, there in halves.performances():
        best = here.argmax(axis=1)
        at = np.arange(len(best)), best
        own = there[at]
        picked[part], inside[part], outside[part] = best, here[at], own
        below, same = (there < own[:, None]).sum(axis=1), (there == own[:, None]).sum(axis=1)
        rank[part] = below + 0.5 * (same + 1)
        lowest, highest = min(lowest, float(there.min())), max(highest, float(there.max()))
    share = rank / (len(runs.names) + 1.0)
    logit = np.log(share / (1.0 - share))
    slope, intercept, fit = _line(inside, outside)
    levels, chosen, everyone = _distributions(halves, outside, lowest, highest)
    gain = everyone - chosen
    area = np.concatenate([[0.0], np.cumsum(0.5 * (gain[1:] + gain[:-1]) * np.diff(levels))])
    slack = 1e-12 * max(highest - lowest, 1e-300)
    return Overfitting(
        probability=float(np.mean(rank <= 0.5 * (len(runs.names) + 1))),
        halves=pd.DataFrame(
            {
                "chosen": runs.names[picked.astype(np.intp)],
                "in_sample": inside,
                "out_of_sample": outside,
                "rank": rank,
                "logit": logit,
            },
            index=pd.RangeIndex(number, name="half"),
        ),
        slope=slope,
        intercept=intercept,
        r_squared=fit,
        probability_of_loss=float(np.mean(outside < 0.0)),
        distributions=pd.DataFrame(
            {"chosen": chosen, "all": everyone, "second_order": area}, index=pd.Index(levels, name="performance")
        ),
        first_order=bool((gain >= -1e-12).all() and (gain > 1e-12).any()),
        second_order=bool((area >= -slack).all() and (area > slack).any()),
        blocks=count,
        runs=len(runs.names),
        metric=metric,
    )


def best_of_many(
    returns: pd.DataFrame,
    *,
    trials: float | Literal["all", "effective"] = "all",
    risk_free: float | pd.Series = 0.0,
    periods_per_year: float = 252.0,
    dependence: NeweyWest | None = None,
) -> BestOfMany:
    """The run with the best Sharpe ratio of many, and its deflated Sharpe ratio (Bailey & López de Prado, 2014).

    Parameters
    ----------
    returns
        T x R: simple returns per period of all runs that were tried.
    trials
        How many independent trials they are: a number of at least 1; ``"all"``, R; ``"effective"``, fewer where they
        resemble each other, see `effective_trials`.
    risk_free, periods_per_year, dependence
        As in `probabilistic_sharpe`.

    Raises
    ------
    InputError
        For fewer than two runs or three periods, and for runs without variation.
    """
    who = "best_of_many"
    runs = _checked(returns, who)
    if len(runs.dates) < 3:
        raise InputError(f"{who} needs at least 3 rows of returns, but there are {len(runs.dates)}")
    year = checked_number(periods_per_year, f"{who}: periods_per_year", above=0.0)
    found = moments(runs.matrix - per_period(risk_free, runs.dates, year, who), runs.matrix).sharpe
    _check_variation(np.isnan(found), runs, who)
    found = sqrt(year) * found
    if isinstance(trials, str):
        if trials not in ("all", "effective"):
            raise unknown_names("way to count trials", [trials], ["all", "effective"])
        number = float(len(runs.names)) if trials == "all" else effective_trials(returns)
    else:
        number = checked_number(trials, f"{who}: trials", least=1.0)
    best, spread = int(found.argmax()), float(found.std(ddof=1))
    deflated = deflated_sharpe(
        returns.iloc[:, best],
        trials=number,
        spread=spread,
        risk_free=risk_free,
        periods_per_year=year,
        dependence=dependence,
    )
    assert isinstance(deflated, float)
    luck = expected_maximum_sharpe(number, spread)
    return BestOfMany(runs.names[best], float(found[best]), number, spread, luck, deflated)


class _Halves:
    """Performance of all runs in every half of the blocks, from sums by block."""

    def __init__(self, runs: Runs, free: FloatArray, year: float, blocks: int, metric: Criterion) -> None:
        if metric == "growth":
            if (runs.matrix <= -1.0).any():
                raise InputError("overfitting_probability: a run that lost everything has no rate of growth")
            values = np.log1p(runs.matrix)
        else:
            values = runs.matrix - free
        sizes = np.array([len(part) for part in np.array_split(np.arange(values.shape[1]), blocks)])
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        self.centre = values.mean(axis=1)
        centred = values - self.centre[:, None]  # sums of squares around the mean lose no digits
        self.sums = np.ascontiguousarray(np.add.reduceat(centred, starts, axis=1).T)
        self.squares = np.ascontiguousarray(np.add.reduceat(centred**2, starts, axis=1).T)
        self.year, self.metric = year, metric
        self.chosen_blocks = np.array(list(combinations(range(blocks), blocks // 2)), dtype=np.intp)
        inside = np.zeros((len(self.chosen_blocks), blocks))
        np.put_along_axis(inside, self.chosen_blocks, 1.0, axis=1)
        self.inside, self.sizes = inside, sizes.astype(np.float64)
        if metric == "sharpe":
            still = ~varies(np.sqrt(np.mean(centred**2, axis=1)), runs.matrix)
            _check_variation(still, runs, "overfitting_probability")
            self.floor = 1e-26 * np.square(np.abs(runs.matrix).max(axis=1))  # variances below it are rounding
            self.names = runs.names

    def performances(self) -> Iterator[tuple[slice, FloatArray, FloatArray]]:
        """Some halves at a time: which ones, performance in them and in their complements (halves x R)."""
        step = max(1, _CELLS // self.sums.shape[1])
        with quiet_blas.hold():
            for first in range(0, len(self.inside), step):
                part = slice(first, first + step)
                yield part, self._in(self.inside[part]), self._in(1.0 - self.inside[part])

    def _in(self, blocks: FloatArray) -> FloatArray:
        rows = (blocks @ self.sizes)[:, None]
        mean = blocks @ self.sums / rows
        if self.metric != "sharpe":
            return self.year * (self.centre + mean)
        variance = (blocks @ self.squares - rows * mean**2) / (rows - 1.0)
        if (variance <= self.floor).any():
            still = (variance <= self.floor).any(axis=0)
            raise InputError(
                f"overfitting_probability: {some(self.names[still])} does not vary in some half of the history, where "
                "it has no Sharpe ratio; leave it out, pass fewer blocks, or metric='mean'"
            )
        return sqrt(self.year) * (self.centre + mean) / np.sqrt(variance)


def _distributions(
    halves: _Halves, outside: FloatArray, lowest: float, highest: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Levels of performance, and the shares at or below them: of the chosen run, of all runs."""
    levels = np.linspace(lowest, highest, _POINTS)
    counts = np.zeros(_POINTS + 1)
    for _, _, there in halves.performances():
        counts += np.bincount(np.searchsorted(levels, there.ravel()), minlength=_POINTS + 1)
    everyone = np.cumsum(counts)[:_POINTS] / counts.sum()
    chosen = np.searchsorted(np.sort(outside), levels, side="right") / len(outside)
    return levels, chosen, everyone


def _line(x: FloatArray, y: FloatArray) -> tuple[float, float, float]:
    """Slope, intercept and R² of a least-squares line; NaN where x is always the same."""
    dx, dy = x - x.mean(), y - y.mean()
    if np.ptp(x) <= 1e-13 * np.abs(x).max():
        return float("nan"), float("nan"), float("nan")
    slope = float(dx @ dy / (dx @ dx))
    total = float(dy @ dy)
    fit = 1.0 - float(np.sum((dy - slope * dx) ** 2)) / total if total > 0.0 else float("nan")
    return slope, float(y.mean() - slope * x.mean()), fit


def _checked(returns: object, who: str) -> Runs:
    if not isinstance(returns, pd.DataFrame):
        raise InputError(f"{who}: returns must be a frame of periods x runs, was {type(returns).__name__}")
    runs = checked_runs(returns, who, rows=2)
    if len(runs.names) < 2:
        raise InputError(f"{who} needs at least 2 runs to choose from; pass all that were tried, one column for each")
    return runs


def _check_variation(still: np.ndarray, runs: Runs, who: str) -> None:
    if still.any():
        raise InputError(f"{who}: {some(runs.names[still])} does not vary and has no Sharpe ratio; leave it out")

r"""Strategies judged out of sample: learned on some rows, held through others, put together to whole histories.

A split says which rows are known and which are tested on. The strategy sees the known ones and gives weights w; through
a stretch of tested rows they are held and drift,

.. math:: V_t = c + \sum_i w_i \prod_{s \le t} (1 + R_{s,i}), \qquad c = 1 - \sum_i w_i ,

and at the beginning of the next stretch the book moves to the weights of the split that tests on it, at a cost per
amount traded. Walking forward makes one history; combinatorial purged cross-validation makes C(N-1, k-1) of them, each
out of sample throughout (López de Prado, 2018, "Advances in financial machine learning", chapter 12).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd

from portfolioopt.data.checks import date_text
from portfolioopt.errors import InputError, PortfolioOptError, SolveError
from portfolioopt.labels import FloatArray, checked_number, some
from portfolioopt.problem import Problem
from portfolioopt.scenarios.scenario_set import whole_number
from portfolioopt.solve import Result, Status, optimize_many
from portfolioopt.solve.sweep import progress_bar

from .metrics import performance
from .moment import Moment, Target, seed_of
from .splits import CombinatorialSplits, Split
from .targets import target_array
from .variants import AnyStrategy, Variant, named_strategies, variants_of


@dataclass(frozen=True, eq=False)
class CrossValidation:
    """Out-of-sample histories of one or more runs.

    Parameters
    ----------
    runs
        What each run is: strategy and parameters (V rows).
    returns
        Simple returns by row (tested ones only, T) and (run, path), net of costs.
    weights
        Weights by (split, run) and asset; NaN where there was no answer, and the book was then in cash.
    failures
        Splits and runs without an answer, and why.
    periods_per_year
        By which figures are annualised.
    """

    runs: pd.DataFrame
    returns: pd.DataFrame
    weights: pd.DataFrame
    failures: pd.DataFrame
    periods_per_year: float

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """Performance by (run, path); see :data:`portfolioopt.backtest.METRICS`."""
        flat = self.returns.set_axis(pd.RangeIndex(self.returns.shape[1]), axis=1)
        return performance(flat, periods_per_year=self.periods_per_year).set_axis(self.returns.columns, axis=0)

    def summary(self, metric: str = "sharpe") -> pd.DataFrame:
        """A figure over the paths of each run: mean, standard deviation, worst, median and best, beside the run."""
        if metric not in self.metrics.columns:
            raise InputError(f"there is no metric {metric!r}; see .metrics.columns")
        groups = self.metrics[metric].groupby(level="run")
        table = pd.DataFrame(
            {
                "mean": groups.mean(),
                "deviation": groups.std(),
                "worst": groups.min(),
                "median": groups.median(),
                "best": groups.max(),
            }
        )
        return pd.concat([self.runs, table], axis=1)

    def __repr__(self) -> str:
        paths = self.returns.columns.get_level_values("path").nunique()
        return (
            f"CrossValidation({len(self.runs)} runs, {paths} paths of {len(self.returns)} rows, "
            f"{len(self.failures)} failures)"
        )


def cross_validate(
    strategy: AnyStrategy | Mapping[str, AnyStrategy],
    returns: pd.DataFrame,
    splits: CombinatorialSplits | Sequence[Split],
    *,
    over: Mapping[str, Any] | None = None,
    how: Literal["product", "zip"] = "product",
    cost_bps: float = 0.0,
    seed: int = 0,
    progress: bool = False,
) -> CrossValidation:
    """Learn on the training rows of every split, and hold through its test rows.

    Parameters
    ----------
    strategy
        As for :func:`backtest`; it is asked once per split, from a book of cash, and sees returns only
        (``moment.returns(...)``). With combinatorial splits these end after the test rows as well as before them, with
        a gap where the test was.
    returns
        Simple returns (T x N), complete; what the splits were made for.
    splits
        Of :func:`walk_forward` or :func:`combinatorial_purged`.
    over, how
        Parameters to be varied, as for :func:`backtest`; the problems of a split are solved together.
    cost_bps
        Cost per amount traded at the beginning of a stretch of test rows, in basis points.
    seed
        As for :func:`backtest`.
    progress
        Show a progress bar over splits.

    Raises
    ------
    InputError
        For returns that are missing or do not fit the splits, rows that are tested twice by splits that should make
        one history, and what the strategy refuses on the first split.
    """
    array = returns.to_numpy(dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(array).all(axis=0))
    if len(bad):
        raise InputError(f"returns is missing or not finite for {some(returns.columns[bad])}")
    rate = checked_number(cost_bps, "cost_bps", least=0.0) / 1e4
    whole_number(seed, "seed", least=0)
    runs = variants_of(named_strategies(strategy), over, how)
    chosen = list(splits.splits) if isinstance(splits, CombinatorialSplits) else list(splits)
    paths = _paths(splits, chosen, returns.index)
    weights = np.full((len(chosen), len(runs), returns.shape[1]), np.nan)
    failures: list[dict[str, Any]] = []
    with progress_bar(len(chosen), progress) as step:
        for number, split in enumerate(chosen):
            _check_fits(split, returns.index)
            for v, answer in enumerate(_answers(runs, returns.iloc[split.train], number, seed)):
                if isinstance(answer, PortfolioOptError):
                    failures.append({"split": number, "run": v, "message": str(answer)})
                else:
                    weights[number, v] = target_array(answer, returns.columns, credit=True)
            step()
    held = np.nan_to_num(weights)
    tested = np.unique(np.concatenate([rows for rows, _ in paths[0]]))
    outcome = np.stack([_walked(path, held, array, rate)[:, tested] for path in paths], axis=1)  # runs, paths, rows
    columns = pd.MultiIndex.from_product([range(len(runs)), range(len(paths))], names=["run", "path"])
    table = pd.DataFrame(outcome.reshape(-1, len(tested)).T, index=returns.index[tested], columns=columns)
    index = pd.MultiIndex.from_product([range(len(chosen)), range(len(runs))], names=["split", "run"])
    return CrossValidation(
        runs=pd.DataFrame([v.labels for v in runs], index=pd.RangeIndex(len(runs), name="run")),
        returns=table,
        weights=pd.DataFrame(weights.reshape(-1, returns.shape[1]), index=index, columns=returns.columns),
        failures=pd.DataFrame(failures, columns=pd.Index(["split", "run", "message"])),
        periods_per_year=_per_year(returns.index),
    )


Path = list[tuple[np.ndarray, int]]  # stretches of rows in order, each with the split whose weights it holds


def _paths(splits: CombinatorialSplits | Sequence[Split], chosen: list[Split], index: pd.Index) -> list[Path]:
    if isinstance(splits, CombinatorialSplits):
        if not splits.dates.equals(index):
            raise InputError("the splits were made for other dates than those of returns")
        rows = [np.flatnonzero(splits.group == g) for g in range(splits.paths.shape[1])]
        return [[(rows[g], int(split)) for g, split in enumerate(path)] for path in splits.paths]
    if not chosen:
        raise InputError("there are no splits")
    order = sorted(range(len(chosen)), key=lambda i: int(chosen[i].test[0]))
    every = np.concatenate([chosen[i].test for i in order])
    if len(np.unique(every)) < len(every):
        raise InputError(
            "some rows are tested by several splits, which make no single history; let them step by the length of a "
            "test, or use combinatorial_purged"
        )
    return [[(chosen[i].test, i) for i in order]]


def _check_fits(split: Split, index: pd.Index) -> None:
    for rows, dates in ((split.train, split.train_dates), (split.test, split.test_dates)):
        if not len(rows) or rows[-1] >= len(index) or not index[rows].equals(dates):
            raise InputError(f"{split!r} was made for other dates than those of returns")


def _answers(
    runs: Sequence[Variant], training: pd.DataFrame, number: int, seed: int
) -> list[pd.Series | PortfolioOptError]:
    """Target weights of every run, or why there are none."""
    date = pd.Timestamp(training.index[-1]) if isinstance(training.index, pd.DatetimeIndex) else pd.Timestamp(0)
    nothing = pd.Series(0.0, index=training.columns, name="weight")
    memory: dict[Any, Any] = {}
    found: list[Target | PortfolioOptError] = []
    for variant in runs:
        moment = Moment(
            date,
            None,
            holdings=nothing,
            nav=1.0,
            cash=1.0,
            sample_seed=seed_of(seed, number, date),
            run_seed=seed_of(seed, number),
            memory=memory,
            training=training,
        )
        try:
            found.append(variant.strategy.target(moment))
        except PortfolioOptError as error:
            if number == 0 and not isinstance(error, SolveError):
                raise
            found.append(error)
    places = [i for i, one in enumerate(found) if isinstance(one, Problem)]
    for i, result in zip(places, optimize_many([found[i] for i in places]), strict=True):  # type: ignore[misc]
        found[i] = result
    return [_weights_of(one, date) for one in found]


def _weights_of(answer: Target | PortfolioOptError, date: pd.Timestamp) -> pd.Series | PortfolioOptError:
    if isinstance(answer, Result):
        if answer.weights is None or answer.status is not Status.optimal:
            return SolveError(answer.message, result=answer)
        return answer.weights
    if isinstance(answer, PortfolioOptError | pd.Series):
        return answer
    return InputError(f"there is no target for the split learned up to {date_text(date)}")


def _walked(path: Path, weights: FloatArray, returns: FloatArray, rate: float) -> FloatArray:
    """Returns (V, T) of books that hold the weights (splits, V, N) of each stretch through it; NaN between."""
    runs = weights.shape[1]
    found = np.full((runs, len(returns)), np.nan)
    before = np.zeros((runs, weights.shape[2]))
    for rows, split in path:
        wanted = weights[split]
        paid = rate * np.abs(wanted - before).sum(axis=1)
        growth = np.cumprod(1.0 + returns[rows], axis=0)
        cash = 1.0 - wanted.sum(axis=1)
        worth = wanted @ growth.T + cash[:, None]
        worth = worth * (1.0 - paid)[:, None]
        found[:, rows] = worth / np.column_stack([np.ones(runs), worth[:, :-1]]) - 1.0
        drifted = wanted * growth[-1] * (1.0 - paid)[:, None]
        before = drifted / worth[:, -1:]
    return found


def _per_year(index: pd.Index) -> float:
    if not isinstance(index, pd.DatetimeIndex) or len(index) < 2:
        return 252.0
    from .result import sessions_per_year

    return sessions_per_year(index)

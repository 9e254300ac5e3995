"""Several runs side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from numbers import Integral

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError

from .metrics import performance
from .result import Backtest, Record, sessions_per_year


class BacktestGrid:
    """Runs over the same sessions: strategies, parameters, histories; ``grid[i]`` is run number i.

    Frames by session have a column per run, numbered like the rows of :attr:`runs`.
    """

    def __init__(self, records: Sequence[Record], runs: pd.DataFrame) -> None:
        self._records = list(records)
        self.runs = runs
        """What each run is: strategy, parameters, history."""
        self._made: dict[int, Backtest] = {}

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, run: int) -> Backtest:
        if not isinstance(run, Integral):
            raise InputError(f"grid[{run!r}]: runs have numbers; grid.run(strategy=..., ...) finds one by its labels")
        if not 0 <= run < len(self._records):
            raise IndexError(f"there are {len(self._records)} runs, numbered from 0")
        if run not in self._made:
            self._made[run] = Backtest(self._records[int(run)])
        return self._made[run]

    def __iter__(self) -> Iterator[Backtest]:
        return (self[run] for run in range(len(self)))

    def run(self, **labels: object) -> Backtest:
        """The one run with these labels, such as ``grid.run(strategy="MeanCVaR", risk_aversion=3)``."""
        unknown = [name for name in labels if name not in self.runs.columns]
        if unknown:
            raise InputError(f"runs have no {unknown[0]!r}; they have {', '.join(map(str, self.runs.columns))}")
        fits = np.ones(len(self), dtype=bool)
        for name, value in labels.items():
            fits &= (self.runs[name] == value).to_numpy()
        found = np.flatnonzero(fits)
        if len(found) != 1:
            raise InputError(f"{len(found)} runs have {labels}; see .runs")
        return self[int(found[0])]

    @cached_property
    def nav(self) -> pd.DataFrame:
        """Net asset value by session and run, in account currency."""
        return pd.DataFrame(
            {i: one.nav.to_numpy() for i, one in enumerate(self)}, index=self._records[0].dates
        ).rename_axis(columns="run")

    @cached_property
    def returns(self) -> pd.DataFrame:
        """Simple returns by session and run."""
        return pd.DataFrame(
            {i: one.returns.to_numpy() for i, one in enumerate(self)}, index=self._records[0].dates
        ).rename_axis(columns="run")

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """Performance by run (rows) and name; see :data:`portfolioopt.backtest.METRICS`."""
        dates = self._records[0].dates
        before = self.nav.shift(1).iloc[1:]
        costs = pd.DataFrame({i: one.costs.sum(axis=1) for i, one in enumerate(self)}, dates)
        turnover = pd.DataFrame({i: one.turnover for i, one in enumerate(self)}, dates)
        tape = self._records[0]
        benchmark = tape.benchmark
        shared = all(r.benchmark is benchmark or np.array_equal(r.benchmark, benchmark) for r in self._records)  # type: ignore[arg-type]
        if benchmark is not None and not shared:
            return pd.DataFrame({i: one.metrics for i, one in enumerate(self)}).T.rename_axis(index="run")
        found = performance(
            pd.DataFrame({i: one.measured_returns for i, one in enumerate(self)}),
            benchmark=None if benchmark is None else pd.Series(benchmark, dates).pct_change().iloc[1:],
            risk_free=0.0 if tape.risk_free is None else pd.Series(tape.risk_free[1:], dates[1:]),
            periods_per_year=sessions_per_year(dates),
            turnover=turnover.iloc[1:],
            costs=costs.iloc[1:] / before.where(before > 0.0, np.inf),
        )
        assert isinstance(found, pd.DataFrame)
        return found.rename_axis(index="run")

    @property
    def table(self) -> pd.DataFrame:
        """:attr:`runs` and :attr:`metrics` side by side."""
        return pd.concat([self.runs, self.metrics], axis=1)

    @cached_property
    def timeline(self) -> pd.DataFrame:
        """The decisions of all runs, one after the other, with a column ``run``."""
        frames = []
        for i, one in enumerate(self):
            frame = one.timeline.reset_index()
            frame.insert(0, "run", i)
            frames.append(frame)
        return pd.concat(frames, ignore_index=True)

    @property
    def failures(self) -> pd.DataFrame:
        """The decisions without an answer, and what was done instead."""
        return self.timeline[self.timeline["fallback"] != ""]

    def best(self, metric: str = "sharpe", *, largest: bool = True) -> Backtest:
        """The run with the best figure. With many runs the best is lucky too: see `overfitting_probability`."""
        if metric not in self.metrics.columns:
            raise InputError(f"there is no metric {metric!r}; see .metrics.columns")
        column = self.metrics[metric]
        values = column.to_numpy()
        return self[int(np.nanargmax(values) if largest else np.nanargmin(values))]

    def __repr__(self) -> str:
        dates, failed = self._records[0].dates, len(self.failures)
        return (
            f"BacktestGrid({len(self)} runs, {dates[0]:%Y-%m-%d} to {dates[-1]:%Y-%m-%d}"
            f"{f', {failed} failed decisions' if failed else ''})"
        )

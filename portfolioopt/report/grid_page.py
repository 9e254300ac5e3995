"""One page of HTML about many backtests side by side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from portfolioopt.backtest import BacktestGrid
from portfolioopt.backtest.overfitting import best_of_many, overfitting_probability
from portfolioopt.errors import InputError

from .backtest_sections import metric_text
from .charts import risk_free
from .figures import counted, day, percent
from .grid_charts import (
    fan_chart,
    grid_heatmap,
    grid_parameters,
    metric_name,
    parameter_chart,
    run_name,
    runs_chart,
)
from .page import Cell, Page, cards, contents, label, number, paragraph, save, table, text

_SHOWN = ("cagr", "volatility", "sharpe", "sharpe_standard_error", "max_drawdown", "cvar", "turnover_one_way",
          "cost_drag", "excess_cagr")  # fmt: skip
_RUNS = 200  # rows of the table of runs
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def write_grid_report(
    path: str | Path,
    grid: BacktestGrid,
    *,
    title: str = "Backtests",
    metric: str = "sharpe",
    interactive: bool = True,
) -> Path:
    """Write a report on many runs as a single HTML page.

    Parameters
    ----------
    path
        File to write; replaced as a whole where it exists.
    grid
        The runs.
    title
        Heading of the page.
    metric
        By which runs are ordered, and which heat-maps and effects of parameters show.
    interactive
        As in `write_backtest_report`.
    """
    if not isinstance(grid, BacktestGrid):
        raise InputError(f"write_grid_report takes a BacktestGrid, was given {type(grid).__name__}")
    if metric not in grid.metrics.columns:
        raise InputError(f"there is no metric {metric!r}; see grid.metrics.columns")
    page = Page(title, interactive)
    dates = grid.nav.index
    failed = len(grid.failures)
    warn = f'<span class="badge warn">{counted(failed, "decision")} without an answer</span>' if failed else ""
    lead = f"{len(grid)} runs, {day(dates[0])} to {day(dates[-1])}. Figures are after costs."
    page.add(f"<h1>{text(title)}{warn}</h1>\n{paragraph(lead, 'lead')}\n{cards(_headline(grid))}")
    place = len(page.sections)
    page.heading("Net asset values")
    page.chart(fan_chart(grid))
    page.chart(runs_chart(grid))
    _selection(page, grid)
    _effects(page, grid, metric)
    if "history" in grid.runs.columns:
        _histories(page, grid)
    _runs(page, grid, metric)
    _failures(page, grid)
    page.sections.insert(place, contents(page.headings))
    return save(path, page.text())


def _headline(grid: BacktestGrid) -> dict[str, tuple[str, str]]:
    metrics = grid.metrics
    found: dict[str, tuple[str, str]] = {}
    for name in ("cagr", "volatility", "sharpe", "max_drawdown"):
        column = metrics[name]
        low, high = (metric_text(name, float(column.quantile(q))) for q in (0.0, 1.0))
        found[f"median {metric_name(name)}"] = (metric_text(name, float(column.median())), f"from {low} to {high}")
    return found


def _selection(page: Page, grid: BacktestGrid) -> None:
    """What choosing the best of the runs is worth."""
    if "history" in grid.runs.columns or len(grid) < 2:
        return  # runs on resampled histories are not trials to choose from
    page.heading("Is the best one lucky?")
    returns = grid.returns.iloc[1:].clip(lower=-1.0)
    year = grid[0].periods_per_year
    rows: list[list[Cell]] = []
    try:
        best = best_of_many(returns, periods_per_year=year, risk_free=risk_free(grid[0]))
        name = run_name(grid, int(str(best.name)))
        rows += [
            [Cell("best run by Sharpe ratio"), Cell(name, "wrap")],
            [Cell("its Sharpe ratio"), number(f"{best.sharpe:.2f}")],
            [Cell(f"what the best of {best.trials:g} runs without skill is expected to have"),
             number(f"{best.expected_maximum:.2f}")],
            [Cell("deflated Sharpe ratio: probability that it is more than that"), number(percent(best.deflated, 1))],
        ]  # fmt: skip
        blocks = min(16, 2 * (len(returns) // 4))
        if blocks >= 2:
            pbo = overfitting_probability(returns, blocks=blocks, periods_per_year=year, risk_free=risk_free(grid[0]))
            rows += [
                [Cell("probability of overfitting: that the best in one half of history is no better than the median "
                      "in the other"), number(percent(pbo.probability, 1))],
                [Cell("probability that the run chosen in one half has a negative Sharpe ratio in the other"),
                 number(percent(pbo.probability_of_loss, 1))],
            ]  # fmt: skip
    except InputError as error:
        page.add(paragraph(f"This cannot be said of these runs: {error}"))
    if rows:
        page.add(table(["", ""], rows))
        page.add(
            paragraph(
                "With many runs the best is lucky too: these figures allow for how many were tried. They hold if all "
                "runs that were tried are in this grid.", "note",
            )
        )  # fmt: skip


def _effects(page: Page, grid: BacktestGrid, metric: str) -> None:
    names = grid_parameters(grid)
    if not names:
        return
    page.heading("What the parameters do")
    if len(names) == 2:
        for one in dict.fromkeys([metric, "max_drawdown"]):
            page.chart(grid_heatmap(grid, names[0], names[1], one))
    for name in names:
        page.chart(parameter_chart(grid, name, metric))


def _histories(page: Page, grid: BacktestGrid) -> None:
    """Quantiles of the figures over resampled histories, by what is run on them."""
    names = grid_parameters(grid)
    page.heading(
        "Figures over resampled histories",
        "Each run is the same strategy on a history drawn from the real one; the spread is what luck alone does.",
    )
    metrics = grid.metrics
    shown = [name for name in _SHOWN if name in metrics.columns and name != "sharpe_standard_error"]
    groups = [("", metrics)]
    if names:
        keys = grid.runs[names].astype(str).agg(", ".join, axis=1)
        groups = [(str(key), own) for key, own in metrics.groupby(keys, sort=False)]
    for key, own in groups:
        if key:
            page.add(f"<h3>{text(key)}</h3>")
        rows = [
            [Cell(metric_name(name)), *(number(metric_text(name, float(own[name].quantile(q)))) for q in _QUANTILES)]
            for name in shown
        ]
        heads = ["", *("median" if q == 0.5 else f"{100 * q:g} % of runs below" for q in _QUANTILES)]
        page.add(table(heads, rows, numbers_from=1))


def _runs(page: Page, grid: BacktestGrid, metric: str) -> None:
    page.heading("The runs")
    metrics = grid.metrics
    shown = [name for name in dict.fromkeys([*_SHOWN, metric]) if name in metrics.columns]
    order = metrics[metric].sort_values(ascending=False, kind="stable", na_position="last").index
    names = [str(name) for name in grid.runs.columns]
    rows = [
        [
            Cell(str(run)), *(Cell(_cell(grid.runs.loc[run, name])) for name in names),
            *(number(metric_text(name, float(metrics[name].loc[run]))) for name in shown),
        ]
        for run in order[:_RUNS]
    ]  # fmt: skip
    heads = ["run", *names, *(metric_name(name) for name in shown)]
    page.add(table(heads, rows, numbers_from=1 + len(names)))
    if len(order) > _RUNS:
        page.add(paragraph(f"{len(order) - _RUNS} more are in grid.table.", "note"))


def _failures(page: Page, grid: BacktestGrid) -> None:
    page.heading("Failures and fallbacks")
    failures = grid.failures
    if failures.empty:
        page.add(paragraph("None: every run had an answer at every decision."))
        return
    counts = failures.groupby(["run", "status", "fallback"], sort=False).agg(
        number=("decided", "size"), first=("decided", "min"), message=("message", "first")
    )
    rows = [
        [Cell(str(run)), Cell(str(status)), Cell(str(fallback)), number(str(int(line["number"]))),
         Cell(label(line["first"])), Cell(str(line["message"]), "wrap")]
        for (run, status, fallback), line in counts.head(_RUNS).iterrows()  # type: ignore[misc]
    ]  # fmt: skip
    names = ["run", "status", "done instead", "times", "first", "message of the first"]
    page.add(table(names, rows, numbers_from=3, text_columns={4, 5}))


def _cell(value: object) -> str:
    if isinstance(value, float | np.floating) and not pd.isna(value):
        return f"{value:g}"
    return str(value)

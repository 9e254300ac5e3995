"""Charts of many runs side by side."""

from __future__ import annotations

import numpy as np
import pandas as pd

from portfolioopt.backtest import BacktestGrid
from portfolioopt.backtest.metric_table import METRICS
from portfolioopt.errors import InputError, unknown_names

from .chart import BLUE, OTHER, PALETTE, RED, SCALE, Band, Chart, Form, Heat, Line, Panel, Points, thinned
from .figures import resolving_digits

_LINES = 11  # runs up to which each has a line of its own
_ROWS = 2000


def fan_chart(grid: BacktestGrid) -> Chart:
    """Net asset values of all runs: a line each where they are few, else bands in which 50 % and 90 % of them lie."""
    nav = grid.nav.where(grid.nav > 0.0)  # a logarithmic axis has no place for less
    if len(grid) <= _LINES:
        lines = [
            Line(run_name(grid, number), nav.index, nav[number].to_numpy(), colour)
            for number, colour in zip(range(len(grid)), PALETTE, strict=False)
        ]
        panel = Panel(lines, "NAV, logarithmic", "money", log=True, height=3.2)
        return Chart("fan", "Net asset value of every run", [panel], "Equal distances up are equal returns.")
    rows = thinned(len(nav), _ROWS)
    low, quarter, middle, upper, high = np.nanquantile(nav.to_numpy()[rows], [0.05, 0.25, 0.5, 0.75, 0.95], axis=1)
    dates = nav.index[rows]
    layers = [
        Band("9 of 10 runs", dates, low, high, BLUE, 0.15),
        Band("every other run", dates, quarter, upper, BLUE, 0.28),
        Line("median", dates, middle, BLUE, width=1.8),
    ]
    return Chart(
        "fan", f"Net asset value of {len(grid)} runs",
        [Panel(layers, "NAV, logarithmic", "money", log=True, height=3.2)],
        "Quantiles over the runs at each session by itself: no single run follows one of these lines.",
    )  # fmt: skip


def runs_chart(grid: BacktestGrid) -> Chart:
    """Growth against volatility of every run."""
    metrics = grid.metrics
    texts = [run_name(grid, int(str(number))) for number in metrics.index]
    x, y = metrics["volatility"].to_numpy(), metrics["cagr"].to_numpy()
    best = np.zeros(len(metrics), dtype=bool)
    if "history" not in grid.runs.columns:  # the best history is no merit
        best[int(np.nan_to_num(metrics["sharpe"].to_numpy(), nan=-np.inf).argmax())] = True
    layers = [
        Points(name, x[part], y[part], colour, size=size, texts=[t for t, p in zip(texts, part, strict=True) if p])
        for name, part, colour, size in (("runs", ~best, BLUE, 4.5), ("best Sharpe ratio", best, RED, 6.0))
        if part.any()
    ]
    panel = Panel(layers, "growth (CAGR), % a year", x_unit="volatility, % a year", x_form="percent", height=3.0)
    return Chart("runs", "Growth and volatility of the runs", [panel])


def grid_parameters(grid: BacktestGrid) -> list[str]:
    """Names of what differs between the runs, apart from the history."""
    return [
        str(name) for name in grid.runs.columns if name != "history" and len(grid.runs[name].astype(str).unique()) > 1
    ]


def grid_heatmap(grid: BacktestGrid, rows: str, columns: str, metric: str = "sharpe") -> Chart:
    """A metric by two parameters as a table of colours: the mean over runs that agree in both."""
    found, form = _metric(grid, metric)
    for name in (rows, columns):
        if name not in grid.runs.columns:
            raise unknown_names("parameter of the runs", [name], grid.runs.columns)
    if rows == columns:
        raise InputError("a heat-map takes two different parameters")
    frame = pd.DataFrame({"row": _labels(grid, rows), "column": _labels(grid, columns), "value": found})
    wide = frame.pivot_table(index="row", columns="column", values="value", sort=False)
    wide = wide.rename_axis(index=None, columns=None)
    heat = Heat(wide, digits=resolving_digits(SCALE[form] * wide.to_numpy()), around=None)
    panel = Panel([heat], rows, form, x_unit=columns, height=max(1.2, 0.36 * len(wide)))
    words = metric_name(metric)
    unit = ", %" if form == "percent" else ""
    return Chart(
        f"heat-{metric.replace('_', '-')}", f"{words[:1].upper()}{words[1:]}{unit} by {rows} (down) and {columns} "
        "(across)", [panel],
    )  # fmt: skip


def parameter_chart(grid: BacktestGrid, parameter: str, metric: str = "sharpe") -> Chart:
    """What one parameter does to a metric: every run, and the mean at each of its values."""
    found, form = _metric(grid, metric)
    if parameter not in grid.runs.columns:
        raise unknown_names("parameter of the runs", [parameter], grid.runs.columns)
    labels = _labels(grid, parameter)
    mean = found.groupby(labels.to_numpy(), sort=False).mean()
    words = metric_name(metric)
    unit = f"{words}, %" if form == "percent" else words
    layers = [
        Points("runs", labels.to_list(), found.to_numpy(), OTHER, size=4.0),
        Points("mean", list(mean.index), mean.to_numpy(), BLUE, size=6.5),
    ]
    return Chart(
        f"effect-{_slug(parameter)}", f"Effect of {parameter} on the {words}",
        [Panel(layers, unit, form, x_unit=parameter, height=2.0)],
    )  # fmt: skip


def run_name(grid: BacktestGrid, number: int) -> str:
    """A run in words: what sets it apart."""
    own = grid.runs.loc[number]
    shown = grid_parameters(grid) + (["history"] if "history" in grid.runs.columns else [])
    if not shown:
        return grid[number].name
    parts = [str(own[name]) if name == "strategy" else f"{name} {_shown(own[name])}" for name in shown]
    return ", ".join(parts)


def metric_name(metric: str) -> str:
    """A metric as readers call it."""
    return _NAMES.get(metric, metric.replace("_", " "))


_NAMES = {
    "cagr": "growth a year (CAGR)",
    "sharpe": "Sharpe ratio",
    "sortino": "Sortino ratio",
    "calmar": "Calmar ratio",
    "omega": "Omega ratio",
    "var": "VaR of a session",
    "cvar": "CVaR of a session",
    "max_drawdown": "worst drawdown",
    "turnover_one_way": "turnover a year, one way",
    "turnover_l1": "turnover a year, both ways",
    "excess_cagr": "growth above the benchmark",
    "sharpe_standard_error": "standard error of the Sharpe ratio",
    "probabilistic_sharpe": "probability that the Sharpe ratio is positive",
    "ulcer_index": "Ulcer index",
    "sharpe_standard_error_hac": "the same, serial dependence allowed",
    "conditional_drawdown_at_risk": "conditional drawdown at risk",
}


def _metric(grid: BacktestGrid, metric: str) -> tuple[pd.Series, Form]:
    metrics = grid.metrics
    if metric not in metrics.columns:
        raise unknown_names("metric", [metric], metrics.columns)
    unit = METRICS[metric].unit
    return metrics[metric], "percent" if unit.startswith(("fraction", "share", "NAV", "probability")) else "number"


def _labels(grid: BacktestGrid, name: str) -> pd.Series:
    return grid.runs[name].map(_shown)


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name.lower()).strip("-")

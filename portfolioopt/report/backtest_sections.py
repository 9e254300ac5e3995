"""Sections of the page on a backtest that check it: risk, limits, stress, failures, the last trades, conventions."""

from __future__ import annotations

import numpy as np
import pandas as pd

from portfolioopt.backtest import Backtest
from portfolioopt.backtest.metric_table import METRICS
from portfolioopt.backtest.validation import Validation

from .book_figures import Explained, LastRebalance, worst_sessions
from .charts import adherence_chart, binding_chart, drift_chart, forecasts_chart, stress_chart, worst_sessions_chart
from .figures import HELD, counted, money, percent
from .grid_charts import metric_name
from .page import Cell, Page, label, minus, number, paragraph, signed, table

_ROWS = 60  # rows of a list on the page; the tables of `write_tables` have all of them


def risk_section(page: Page, validation: Validation) -> None:
    """Predicted and realised risk, and what the tests say."""
    page.heading(
        "Risk: predicted and realised",
        "A test speaks against forecasts where its p-value is below 5 %; for right forecasts one test in twenty does.",
    )
    if validation.forecasts.empty:
        page.add(paragraph("No decision of this run predicted its risk, so there is nothing to test."))
    else:
        page.chart(forecasts_chart(validation))
    rows = []
    for name, line in validation.frame.iterrows():
        passed = line["passed"]
        verdict, kind = ("", "") if pd.isna(passed) else (("passed", "good") if passed else ("failed", "bad"))
        span = "" if np.isnan(line["low"]) else f"{line['low']:.2f} to {line['high']:.2f}"
        rows.append(
            [
                Cell(_percents(str(name))), Cell(verdict, kind), number(_figure(line["value"])),
                number(_figure(line["expected"])), number(span),
                number(_p_value(line["p_value"])),
                Cell(_percents(str(line["verdict"])), "wrap"),
            ]
        )  # fmt: skip
    names = ["test", "", "value", "expected", "range of a right forecast", "p-value", "in words"]
    page.add(table(names, rows, numbers_from=2, text_columns={6}))
    used = int(validation.forecasts["tested"].sum())
    left = len(validation.forecasts) - used
    if used:
        shared = f" {left} more shared sessions with one before and were not tested." if left else ""
        page.add(paragraph(f"The tests rest on {used} horizons that follow one another.{shared}", "note"))


def limits_section(page: Page, backtest: Backtest, validation: Validation) -> None:
    """Whether limits were kept, which of them bind, and how far the book was from its targets."""
    page.heading("Limits and targets")
    frame = validation.adherence
    solved = frame[frame["max_violation"].notna()]
    if len(solved):
        page.add(paragraph(_sentence(_percents(validation.verdicts["limits of the targets"]))))
        page.chart(adherence_chart(validation))
    else:
        page.add(paragraph("The targets came without limits to be checked."))
    if len(validation.binding):
        rows = [
            [Cell(str(name)), Cell(percent(share, 1), "n bar", share)] for name, share in validation.binding.items()
        ]
        page.add("<h3>How often limits bind</h3>")
        page.add(table(["limit", "share of decisions"], rows, numbers_from=1))
        page.chart(binding_chart(validation))
    if frame["violated"].any():
        rows = [
            [Cell(label(date)), Cell(str(line["status"])), number(f"{line['max_violation']:.2e}")]
            for date, line in frame[frame["violated"]].head(_ROWS).iterrows()
        ]
        page.add("<h3>Decisions that broke a limit</h3>")
        page.add(table(["decided", "status", "largest violation"], rows, numbers_from=2))
    if validation.drift.notna().any():
        page.chart(drift_chart(validation))


def worst_section(page: Page, backtest: Backtest, parts: Explained) -> None:
    """The worst sessions and their stories."""
    if parts.by_session.empty:
        return
    page.heading("The worst sessions, and what caused them")
    frame = worst_sessions(backtest, parts.by_session)
    against = frame["benchmark"].notna().any()
    names = ["session", "return", *(["benchmark"] if against else []), "what hurt most"]
    rows = [
        [
            Cell(label(date)), number(percent(line["return"])),
            *([number(percent(line["benchmark"]))] if against else []), Cell(minus(line["what hurt"]), "wrap"),
        ]
        for date, line in frame.iterrows()
    ]  # fmt: skip
    page.add(table(names, rows, numbers_from=1, text_columns={len(names) - 1}))
    page.chart(worst_sessions_chart(parts.by_session, pd.DatetimeIndex(frame.index)))


def stress_section(page: Page, backtest: Backtest, validation: Validation) -> None:
    """Returns in windows of stress."""
    stress = validation.stress
    if stress.empty:
        return
    against = backtest.benchmark is not None
    page.heading("Behaviour in stress")
    page.chart(stress_chart(validation))
    names = ["window", "from", "to", "return", *(["benchmark", "difference"] if against else []), "worst drawdown", ""]
    rows = []
    for name, line in stress.iterrows():
        row = [Cell(str(name).replace("_", " ")), Cell(label(line["start"])), Cell(label(line["end"]))]
        row.append(number(percent(line["return"])))
        if against:
            row += [number(percent(line["benchmark"])), number(signed(line["return"] - line["benchmark"]))]
        rows.append([*row, number(percent(line["worst_drawdown"])), Cell(str(line["description"]), "wrap")])
    page.add(table(names, rows, numbers_from=3, text_columns={len(names) - 1}))


def failures_section(page: Page, backtest: Backtest) -> None:
    """Decisions without an answer."""
    page.heading("Failures and fallbacks")
    failures = backtest.failures
    asked = int((backtest.timeline["status"] != "rule").sum())
    if failures.empty:
        page.add(paragraph(f"None: the strategy had an answer at all {asked} decisions."))
        return
    page.add(paragraph(f"At {len(failures)} of {asked} decisions the strategy had no answer."))
    rows = [
        [Cell(label(date)), Cell(str(line["status"])), Cell(str(line["fallback"])), Cell(str(line["message"]), "wrap")]
        for date, line in failures.head(_ROWS).iterrows()
    ]
    page.add(table(["decided", "status", "done instead", "message"], rows))
    if len(failures) > _ROWS:
        page.add(paragraph(f"{len(failures) - _ROWS} more are in the timeline.", "note"))


def last_section(page: Page, last: LastRebalance, top: int) -> None:
    """The last trades, and the targets now against before."""
    page.heading("The last rebalance")
    page.add(
        paragraph(
            f"Decided on {label(last.decided)} ({last.reason}), traded on {label(last.date)}: "
            f"{counted(len(last.trades), 'trade')}, turnover {percent(0.5 * last.turnover)} of NAV one way, cost "
            f"{money(last.cost)} or {1e4 * last.cost / last.nav:.2f} basis points of NAV {money(last.nav)}."
        )
    )
    names = ["side", "asset", "from", "to", "units", "value", "cost"]
    rows = [
        [
            Cell(str(line["side"]), str(line["side"])), Cell(str(asset)), number(percent(line["before"])),
            number(percent(line["after"])), number(f"{line['units']:,.1f}"), number(money(line["value"])),
            number(money(line["cost"])),
        ]
        for asset, line in last.trades.head(_ROWS).iterrows()
    ]  # fmt: skip
    kinds = [""] * len(rows)
    hidden = len(last.trades) - len(rows)
    if hidden > 0:
        rows.append([Cell(""), Cell(f"{hidden} more"), *[Cell("")] * 5])
        kinds.append("rest")
    rows.append([Cell(""), Cell("total"), *[number("")] * 3, number(money(float(last.trades["value"].sum()))),
                 number(money(float(last.trades["cost"].sum())))])  # fmt: skip
    kinds.append("total")
    page.add(table(names, rows, kinds, numbers_from=2))
    moved = last.targets[last.targets["change"].abs() > HELD]
    page.add("<h3>What changed in the targets since the last time</h3>")
    if last.targets.empty or moved.empty:
        words = "There was no target before." if last.targets.empty else "Nothing: the targets are those of last time."
        page.add(paragraph(words))
        return
    rows = [
        [
            Cell(str(asset)),
            number(percent(line["before"])),
            number(percent(line["now"])),
            number(signed(line["change"])),
        ]
        for asset, line in moved.head(top).iterrows()
    ]
    kinds = [""] * len(rows)
    if len(moved) > top:
        rest = moved.iloc[top:].sum()
        rows.append([Cell(f"{len(moved) - top} more"), *(number(percent(rest[n])) for n in ("before", "now")),
                     number(signed(rest["change"]))])  # fmt: skip
        kinds.append("rest")
    page.add(table(["asset", "target before", "target now", "change"], rows, kinds, numbers_from=1))


def metrics_section(page: Page, backtest: Backtest) -> None:
    """Every figure with its formula and convention."""
    page.heading(
        "All figures, and how they are counted",
        "r is the simple return of a session, x what it exceeds the risk-free rate by, b the benchmark's return, V the "
        "compounded worth, d the drawdown, c costs and u the traded value as fractions of NAV; P sessions make a year "
        f"({backtest.periods_per_year:.1f} here), T is their number, sd divides by T - 1.",
    )
    rows = []
    for name, value in backtest.metrics.items():
        metric = METRICS[str(name)]
        said = metric.convention + (f"; {metric.source}" if metric.source else "")
        rows.append(
            [
                Cell(metric_name(str(name))), number(metric_text(str(name), float(value))), Cell(metric.unit),
                Cell(metric.formula, "wrap"), Cell(said.strip("; "), "wrap"),
            ]
        )  # fmt: skip
    page.add(
        table(["", "value", "unit", "formula", "convention, source"], rows, numbers_from=1, text_columns={2, 3, 4})
    )


def metric_text(name: str, value: float) -> str:
    """The value of a metric as readers want it."""
    unit = METRICS[name].unit
    if np.isnan(value):
        return "n/a"
    if unit.startswith(("fraction", "share", "probability", "NAV")):
        return percent(value)
    if unit == "periods":
        return f"{value:,.0f}"
    return f"{value:.2f}"


def _p_value(value: float) -> str:
    if np.isnan(value):
        return ""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _figure(value: float) -> str:
    if np.isnan(value):
        return ""
    return f"{value:.1e}" if 0.0 < abs(value) < 1e-4 else f"{value:.4g}"


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}."


def _percents(words: str) -> str:
    return words.replace("%", " %")

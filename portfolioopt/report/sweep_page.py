"""One page of HTML about a sweep or a frontier."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.solve import Sweep

from .figures import counted, percent
from .page import Cell, Page, cards, contents, number, paragraph, save, table, text
from .result_charts import frontier_chart, prices_chart, sweep_axes, sweep_chart, sweep_heatmap, sweep_weights_chart

_POINTS = 200  # rows of the table of points


def write_sweep_report(path: str | Path, sweep: Sweep, *, title: str = "Sweep", interactive: bool = True) -> Path:
    """Write a report on the points of a sweep as a single HTML page: what moves with the inputs, and how sure it is.

    Over one input: objective, return, CVaR and weights along it, and the shadow prices of the limits where the sweep
    kept them; a frontier is drawn as one. Over two: heat-maps. Over more: the table.

    Parameters
    ----------
    path
        File to write; replaced as a whole where it exists.
    sweep
        From `portfolioopt.sweep` or `portfolioopt.frontier`.
    title
        Heading of the page.
    interactive
        As in `write_backtest_report`.
    """
    if not isinstance(sweep, Sweep):
        raise InputError(f"write_sweep_report takes a Sweep, was given {type(sweep).__name__}")
    points = sweep.points
    page = Page(title, interactive)
    axes = sweep_axes(sweep)
    unanswered = int(points["expected_return"].isna().sum())
    warn = f'<span class="badge warn">{counted(unanswered, "point")} without a portfolio</span>' if unanswered else ""
    lead = f"{len(sweep)} points over {' and '.join(axes)}. Maximised: {sweep.problem.objective}."
    page.add(f"<h1>{text(title)}{warn}</h1>\n{paragraph(lead, 'lead')}\n{cards(_headline(points))}")
    place = len(page.sections)
    if unanswered < len(points):
        _charts(page, sweep, axes)
    _table(page, points, axes)
    page.sections.insert(place, contents(page.headings))
    return save(path, page.text())


def _headline(points: pd.DataFrame) -> dict[str, tuple[str, str]]:
    counts = points["status"].value_counts()
    others = ", ".join(f"{count} {name}" for name, count in counts.items() if name != "optimal")
    rows = {"proven optimal": (f"{int(counts.get('optimal', 0))} of {len(points)}", others or "every point")}
    answered = points[points["expected_return"].notna()]
    if len(answered):
        rows["largest gap"] = (
            f"{max(float(answered['gap'].max()), 0.0):.1e}",
            "distance from the proven bound, relative",
        )
        rows["largest violation"] = (f"{answered['max_violation'].max():.1e}", "of any constraint at any point")
        gains = answered["expected_return"]
        rows["expected return"] = (f"{percent(gains.min(), 3)} to {percent(gains.max(), 3)}", "a horizon, before costs")
    return rows


def _charts(page: Page, sweep: Sweep, axes: list[str]) -> None:
    risks = [str(name) for name in sweep.points.columns if str(name).startswith("cvar[")]
    if len(axes) == 2:
        page.heading("Heat-maps")
        for column in ("objective", "expected_return", *risks):
            page.chart(sweep_heatmap(sweep, column))
        return
    if len(axes) > 2:
        return
    if axes == ["ReturnTarget.target"]:
        page.heading("The frontier")
        page.chart(frontier_chart(sweep))
    else:
        page.heading("Along the sweep")
        for column in ("objective", "expected_return", *risks):
            page.chart(sweep_chart(sweep, column))
    page.chart(sweep_weights_chart(sweep))
    if _keeps_limits(sweep):
        page.heading("What the limits cost")
        page.chart(prices_chart(sweep))


def _keeps_limits(sweep: Sweep) -> bool:
    try:
        return len(sweep.limits.columns) > 0
    except InputError:
        return False


def _table(page: Page, points: pd.DataFrame, axes: list[str]) -> None:
    page.heading("The points")
    risks = [str(name) for name in points.columns if str(name).startswith("cvar[")]
    said = (points["message"].fillna("") != "").any()
    names = [*axes, "status", "objective", "expected return", *(f"CVaR {100 * float(r[5:-1]):g} %" for r in risks),
             "gap", *(["message"] if said else [])]  # fmt: skip
    rows = []
    for _, line in points.head(_POINTS).iterrows():
        known = pd.notna(line["expected_return"])
        figures = [
            number(f"{line['objective']:.6g}" if known else ""),
            number(percent(line["expected_return"], 3) if known else ""),
            *(number(percent(line[r], 3) if known else "") for r in risks),
            number(f"{max(float(line['gap']), 0.0):.1e}" if known else ""),
        ]
        kind = "" if line["status"] == "optimal" else "bad"
        rows.append([*(Cell(_value(line[axis])) for axis in axes), Cell(str(line["status"]), kind), *figures,
                     *([Cell(str(line["message"]), "wrap")] if said else [])])  # fmt: skip
    first = len(axes) + 1
    page.add(table(names, rows, numbers_from=first, text_columns={len(names) - 1} if said else set()))
    if len(points) > _POINTS:
        page.add(paragraph(f"{len(points) - _POINTS} more are in sweep.points.", "note"))


def _value(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)

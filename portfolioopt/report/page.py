"""Pieces of a page of HTML: tables, cards, figures, and the page around them."""

from __future__ import annotations

import html
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pandas as pd

from .chart import Chart
from .figures import MINUS, percent
from .style import CSS, PAGE_SCRIPT

_SHARED: Final = 24  # entries from which an axis is kept once for all charts that have it


@dataclass(frozen=True)
class Cell:
    """A cell of a table: its text, and how it looks."""

    text: str
    kind: str = ""  # CSS class
    part: float | None = None  # length of the bar behind the text, as a fraction of the cell


@dataclass(eq=False)
class Page:
    """A page as it is put together: sections in order, and the charts in them.

    Parameters
    ----------
    title
        Of the window, and the first heading.
    interactive
        Charts by plotly, with its code in the page; still pictures and no script at all otherwise.
    """

    title: str
    interactive: bool = False
    sections: list[str] = field(default_factory=list)
    charts: dict[str, dict[str, Any]] = field(default_factory=dict)
    headings: list[tuple[str, str]] = field(default_factory=list)

    def add(self, section: str) -> None:
        """Append HTML; nothing where it is empty."""
        if section:
            self.sections.append(section)

    def heading(self, title: str, note: str = "") -> None:
        """Begin a section."""
        name = "-".join("".join(c if c.isalnum() else " " for c in title.lower()).split())
        self.headings.append((name, title))
        self.sections.append(f'<h2 id="{name}">{text(title)}</h2>')
        if note:
            self.sections.append(f'<p class="note">{text(note)}</p>')

    def chart(self, chart: Chart) -> None:
        """Append a chart, with its note below it."""
        note = f"<figcaption>{text(chart.note)}</figcaption>" if chart.note else ""
        if not self.interactive:
            from .canvas import inline_svg

            self.sections.append(f"<figure>{inline_svg(chart.matplotlib(), chart.name, chart.title)}{note}</figure>")
            return
        from .interactive import figure_data

        data = figure_data(chart)
        self.charts[chart.name] = data
        height = data["layout"]["height"]
        label = html.escape(chart.title, quote=True)
        self.sections.append(
            f'<figure><div class="chart" id="chart-{chart.name}" role="img" aria-label="{label}" '
            f'style="height:{height}px"></div>{note}</figure>'
        )

    def text(self) -> str:
        """The page."""
        scripts = self._scripts() if self.charts else ""
        return (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{text(self.title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n"
            + "\n".join(self.sections)
            + f"\n{scripts}</body>\n</html>\n"
        )

    def _scripts(self) -> str:
        from .interactive import plotly_script

        shared: list[list[Any]] = []
        known: dict[tuple[Any, ...], int] = {}
        for data in self.charts.values():
            for trace in data["data"]:
                for axis in ("x", "y"):
                    values = trace.get(axis)
                    if isinstance(values, list) and len(values) >= _SHARED and isinstance(values[0], str):
                        key = tuple(values)
                        if key not in known:
                            known[key] = len(shared)
                            shared.append(values)
                        trace[axis] = {"shared": known[key]}
        data = json.dumps({"shared": shared, "charts": self.charts}, separators=(",", ":"), allow_nan=False)
        data = data.replace("</", "<\\/").replace("<!--", "<\\u0021--")
        return (
            "<noscript><p>The charts of this page are drawn by a script. A page with still pictures is written with "
            "interactive=False.</p></noscript>\n"
            f'<script type="application/json" id="chart-data">{data}</script>\n'
            f"<script>{plotly_script()}</script>\n<script>{PAGE_SCRIPT}</script>\n"
        )


def save(path: str | Path, page: str) -> Path:
    """Write a page: a reader sees the old one or the new one, never half of one."""
    path = Path(path)
    draft = path.with_name(f".{path.name}.part")
    draft.write_text(page, encoding="utf-8")
    os.replace(draft, path)
    return path


def contents(headings: Iterable[tuple[str, str]]) -> str:
    """Links to the sections of a page."""
    links = " ".join(f'<a href="#{name}">{text(title)}</a>' for name, title in headings)
    return f'<nav class="contents">{links}</nav>'


def cards(figures: Mapping[str, tuple[str, str]]) -> str:
    """Figures in large type: name to value and a remark."""
    inner = "".join(
        f'<div class="card"><div class="name">{text(name)}</div><div class="value">{text(minus(value))}</div>'
        f'<div class="remark">{text(minus(remark))}</div></div>'
        for name, (value, remark) in figures.items()
    )
    return f'<div class="cards">{inner}</div>'


def table(
    names: Sequence[str],
    rows: Iterable[Sequence[Cell]],
    kinds: Iterable[str] | None = None,
    *,
    numbers_from: int | None = None,
    text_columns: frozenset[int] | set[int] = frozenset(),
    over: Sequence[tuple[str, int]] = (),
) -> str:
    """A table; columns from `numbers_from` on have their headings over numbers, on the right.

    `kinds` are the CSS classes of the rows. `over` are headings above the headings, each with the number of columns
    that it spans.
    """
    rows = list(rows)
    kinds = [""] * len(rows) if kinds is None else kinds
    first = len(names) if numbers_from is None else numbers_from
    head = ""
    if any(names):
        cells = (
            f'<th scope="col"{_class("n" if i >= first and i not in text_columns and name else "")}>{text(name)}</th>'
            for i, name in enumerate(names)
        )
        upper = "".join(f'<th scope="colgroup" class="over" colspan="{span}">{text(name)}</th>' for name, span in over)
        head = f"<thead>{f'<tr>{upper}</tr>' if over else ''}<tr>{''.join(cells)}</tr></thead>\n"
    body = "\n".join(
        f"<tr{_class(kind)}>{''.join(_cell(cell) for cell in row)}</tr>" for row, kind in zip(rows, kinds, strict=True)
    )
    return (
        f'<div class="scroll"><table{_class("dense" if over else "")}>\n{head}<tbody>\n{body}\n</tbody></table></div>'
    )


def paragraph(words: str, kind: str = "") -> str:
    """A paragraph of plain text."""
    return f"<p{_class(kind)}>{text(words)}</p>"


def number(value: str) -> Cell:
    """A cell that holds a number."""
    return Cell(minus(value), "n")


def signed(value: float, digits: int = 2) -> str:
    """A percentage with its sign, none for zero."""
    shown = percent(float(value), digits)
    return f"+{shown}" if value > 0 and any(digit in shown for digit in "123456789") else shown


def minus(shown: str) -> str:
    """Typographic minus signs in front of numbers, wherever in the text they are."""
    return re.sub(r"(?<![\w.\-])-(?=[\d.])", MINUS, shown)


def label(name: object) -> str:
    """The label of a scenario or a row in words: dates without a time of day where they have none."""
    if name is pd.NaT:
        return ""
    if isinstance(name, pd.Timestamp):
        return f"{name:%Y-%m-%d}" if name == name.normalize() else f"{name:%Y-%m-%d %H:%M}"
    return str(name)


def text(value: str) -> str:
    """Text that HTML shows as it is."""
    return html.escape(value, quote=True)


def _cell(cell: Cell) -> str:
    bar = "" if cell.part is None else f' style="--part: {100.0 * cell.part:.1f}%"'
    return f"<td{_class(cell.kind)}{bar}>{text(cell.text)}</td>"


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""

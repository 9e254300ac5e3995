"""Tables that print on a terminal and in a page alike, and the words for numbers in them."""

from __future__ import annotations

from typing import NamedTuple

from rich.table import Table as RichTable

from .aims import Goal


class Table(NamedTuple):
    """Text by rows; the first `words` columns are words, the others numbers."""

    title: str
    headers: list[str]
    rows: list[list[str]]
    words: int = 1

    def rich(self) -> RichTable:
        """For a terminal."""
        table = RichTable(title=self.title, title_justify="left")
        for number, header in enumerate(self.headers):
            table.add_column(header, justify="left" if number < self.words else "right")
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        """For a page."""
        rule = ["---" if number < self.words else "---:" for number in range(len(self.headers))]
        lines = [self.headers, rule, *self.rows]
        return f"**{self.title}**\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def seconds(value: float | None) -> str:
    """Three digits, in the unit that suits."""
    if value is None:
        return "-"
    if value < 1e-3:
        return f"{value * 1e6:.3g} µs"
    return f"{value * 1e3:.3g} ms" if value < 1.0 else f"{value:.3g} s"


def ratio(value: float | None) -> str:
    """Times something."""
    if value is None:
        return "-"
    return f"{value:.0f}x" if value >= 100 else f"{value:.3g}x"


def small(value: float | None) -> str:
    """A gap or violation, of which only the size matters."""
    return "-" if value is None else "0" if abs(value) < 1e-15 else f"{value:.1e}"


def plain(value: float | None) -> str:
    """Three digits."""
    return "-" if value is None else f"{value:.3g}"


def size(scenarios: int, assets: int) -> str:
    """S x N."""
    return f"{scenarios:,} x {assets:,}"


def goals(reached: list[Goal]) -> Table:
    """Aims beside what was reached."""
    words = {True: "reached", False: "missed", None: "not measured"}
    rows = [[goal.what, goal.wanted, goal.reached, words[goal.met]] for goal in reached]
    return Table("Aims, and what was reached", ["", "aim", "measured", ""], rows, words=4)

"""A page of HTML taken apart."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

VOID = {"meta", "br"}


class Parsed(HTMLParser):
    """Tags and attributes of a page, and the text of its tables by heading (those after a heading, in order)."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, list[list[list[str]]]] = {}
        self.words: list[str] = []
        self.scripts: list[str] = []
        self.open: list[str] = []
        self._heading, self._where = "", ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._where = tag
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("h2", "h3"):
            self._heading = ""
        elif tag == "table":
            self.tables.setdefault(self._heading, []).append([])
        elif tag == "tr":
            self.tables[self._heading][-1].append([])
        elif tag in ("td", "th"):
            self.tables[self._heading][-1][-1].append("")
        elif tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self._where in ("h2", "h3"):
            self._heading += data
        elif self._where in ("td", "th"):
            self.tables[self._heading][-1][-1][-1] += data
        elif self._where == "script":
            self.scripts[-1] += data
        if self._where not in ("script", "style"):
            self.words.append(data)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self._where = ""

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    @property
    def data(self) -> dict[str, Any]:
        """What the charts of an interactive page are drawn from."""
        return json.loads(self.scripts[0])


def without_plotly(page: str) -> str:
    """The page without the code of plotly.js, which is not ours."""
    from plotly.offline import get_plotlyjs

    code = get_plotlyjs()
    assert page.count(code) == 1
    return page.replace(code, "")


def loads_nothing(page: str) -> bool:
    """Whether nothing in a page points out of it."""
    return not re.search(r"https?:|\bsrc=|@import|url\((?!#)|<link|<iframe|<img|<object", page, flags=re.IGNORECASE)


def number(text: str) -> float:
    """What a cell says."""
    plain = text.replace("\N{MINUS SIGN}", "-").replace(",", "").removeprefix("+").split(" ± ")[0]
    plain = plain.removesuffix(" a year")
    return float(plain.removesuffix(" %")) / (100.0 if plain.endswith("%") else 1.0)

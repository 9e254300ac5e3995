"""The examples of the user guide run, and print what the pages say they print.

Every page is one namespace: its ``python`` blocks run in their order. A ``text`` block right after one is what that
prints; words have to agree, and numbers to the digits shown, or nearly. With ``GUIDE_WRITE=1`` in the environment these
blocks are written anew instead.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
from pathlib import Path

import pandas as pd
import pytest

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guide"
PAGES = sorted(GUIDE.glob("*.md"))
QUICK = {"index", "certificates", "definitions", "drawdown", "entropic-and-growth", "variance"}
BLOCK = re.compile(r"```python\n(?P<code>.*?)```\n(?:\n```text\n(?P<text>.*?)```\n)?", re.DOTALL)
NUMBER = re.compile(r"[-+]?\d[\d,]*\.?\d*(?:e[-+]?\d+)?")
ROUNDING = 1e-8  # a number this small may be any other one


def run(code: str, names: dict[str, object], where: str) -> str:
    """What a block prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), pd.option_context("display.width", 110, "display.max_columns", 12):
        exec(compile(code, where, "exec", dont_inherit=True), names)
    return printed.getvalue()


def agree(said: str, printed: str) -> bool:
    """Whether two outputs have the same words, and numbers that differ by a unit of their last digit at most."""
    one, other = said.split(), printed.split()
    return len(one) == len(other) and all(map(same, one, other))


def same(said: str, printed: str) -> bool:
    if NUMBER.sub("#", said) != NUMBER.sub("#", printed):
        return False
    for a, b in zip(NUMBER.findall(said), NUMBER.findall(printed), strict=True):
        x, y = float(a.replace(",", "")), float(b.replace(",", ""))
        unit = 10.0 ** -len(a.partition("e")[0].partition(".")[2])
        if abs(x - y) > 1.01 * unit and max(abs(x), abs(y)) > ROUNDING:
            return False
    return True


@pytest.mark.parametrize(
    "page", [pytest.param(p, id=p.stem, marks=[] if p.stem in QUICK else pytest.mark.slow) for p in PAGES]
)
def test_examples_of_the_guide_run_and_print_what_it_says(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    names: dict[str, object] = {"__name__": page.stem}
    write = bool(os.environ.get("GUIDE_WRITE"))
    pieces, end = [], 0
    for block in BLOCK.finditer(text):
        line = text[: block.start()].count("\n") + 1
        # blank lines before it make errors point to the line of the page
        printed = run("\n" * line + block["code"], names, str(page))
        said = block["text"]
        assert write or agree(said or "", printed), f"{page.name}, line {line}: it says\n{said}\nand prints\n{printed}"
        pieces += [text[end : block.start()], f"```python\n{block['code']}```\n"]
        pieces += [f"\n```text\n{printed.rstrip()}\n```\n"] if printed.strip() else []
        end = block.end()
    if write:
        page.write_text("".join(pieces) + text[end:], encoding="utf-8")


def test_every_page_has_an_example_and_links_that_lead_somewhere() -> None:
    assert {page.stem for page in PAGES} >= QUICK
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert BLOCK.search(text), page.name
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
            assert target.startswith("http") or (page.parent / target).exists(), f"{page.name}: {target}"

"""What a chart shows, apart from how it is drawn: the same description is drawn for paper and for a page.

A chart has panels one above the other; a panel has layers: lines, stacked areas, bars, points, bands, a table of
colours. Numbers are in the units of the library (fractions); `Panel.form` says how readers see them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from plotly.graph_objects import Figure as Interactive

Form: TypeAlias = Literal["percent", "number", "money", "bp"]
Dates: TypeAlias = pd.Index | npt.NDArray[Any] | Sequence[Any]
Floats: TypeAlias = npt.NDArray[np.float64] | Sequence[float]

# Told apart by most colour-blind readers, and legible on white and on black.
PALETTE: Final = (
    "#4477aa",
    "#ee7733",
    "#228833",
    "#cc3311",
    "#66bbdd",
    "#aa3377",
    "#ccaa33",
    "#009988",
    "#8c6bb1",
    "#96664d",
    "#ee8899",
)
BLUE: Final = PALETTE[0]
ORANGE: Final = PALETTE[1]
GREEN: Final = PALETTE[2]
RED: Final = PALETTE[3]
OTHER: Final = "#9aa1ab"
CASH: Final = "#c9ced6"

SCALE: Final[dict[Form, float]] = {"percent": 100.0, "number": 1.0, "money": 1.0, "bp": 10_000.0}
"""From the numbers of a layer to those on its axis."""
SUFFIX: Final[dict[Form, str]] = {"percent": " %", "number": "", "money": "", "bp": " bp"}


@dataclass(frozen=True, eq=False)
class Line:
    """A line through points in the order of x; `step` where a value holds until the next."""

    name: str
    x: Dates
    y: Floats
    colour: str = BLUE
    width: float = 1.4
    dashed: bool = False
    filled: bool = False
    """Shade the area down to zero."""
    step: bool = False
    legend: bool = True


@dataclass(frozen=True, eq=False)
class Stack:
    """Areas on top of each other: what is positive above zero, what is negative below. `frame` is x x names."""

    frame: pd.DataFrame
    colours: Sequence[str]


@dataclass(frozen=True, eq=False)
class Bars:
    """Bars at x, which are dates, numbers or names. Several of them in one panel stand on each other."""

    name: str
    x: Dates
    y: Floats
    colour: str | Sequence[str] = BLUE
    legend: bool = True


@dataclass(frozen=True, eq=False)
class Points:
    """Single points, with a text for each that a page shows under the pointer."""

    name: str
    x: Dates
    y: Floats
    colour: str = BLUE
    size: float = 5.0
    hollow: bool = False
    texts: Sequence[str] | None = None
    legend: bool = True


@dataclass(frozen=True, eq=False)
class Band:
    """The area between two lines."""

    name: str
    x: Dates
    low: Floats
    high: Floats
    colour: str = BLUE
    opacity: float = 0.18


@dataclass(frozen=True, eq=False)
class Heat:
    """A table of numbers as colours with the numbers in them; `around` is the colour in the middle, None for none."""

    frame: pd.DataFrame
    digits: int = 1
    around: float | None = 0.0
    apart: int = 0
    """Columns at the end that are not of the same kind, such as totals: they are left without colour."""


@dataclass(frozen=True, eq=False)
class Level:
    """A line across the panel at one value."""

    at: float
    name: str = ""
    colour: str = OTHER
    dashed: bool = True
    vertical: bool = False


Layer: TypeAlias = Line | Stack | Bars | Points | Band | Heat | Level


@dataclass(frozen=True, eq=False)
class Panel:
    """Layers on one pair of axes."""

    layers: Sequence[Layer]
    unit: str
    """What the vertical axis shows, in words with the unit."""
    form: Form = "percent"
    x_unit: str = ""
    x_form: Form | None = None
    """How numbers of the horizontal axis read; None for dates and names."""
    log: bool = False
    sideways: bool = False
    """Bars lie, their names on the vertical axis, from the top down; `unit` and `form` are of the horizontal one."""
    height: float = 2.6
    """Inches on paper, hundreds of pixels on a page."""


@dataclass(frozen=True, eq=False)
class Chart:
    """A picture as data. `matplotlib` draws it for paper, `plotly` for a page.

    Parameters
    ----------
    name
        Short, of letters and hyphens: what tells charts on a page apart.
    title
        What is seen.
    panels
        From the top down; those of one chart share the horizontal axis where `shared`.
    note
        One line on how to read it.
    shared
        Whether the panels have the same horizontal axis.
    """

    name: str
    title: str
    panels: Sequence[Panel]
    note: str = ""
    shared: bool = True

    def matplotlib(self) -> Figure:
        """A matplotlib figure of fixed style: the same data give the same bytes (the extra ``report``)."""
        from .drawing import drawn

        return drawn(self)

    def plotly(self) -> Interactive:
        """A plotly figure, to be zoomed into and pointed at (the extra ``report``)."""
        from .interactive import figure

        return figure(self)

    def _repr_html_(self) -> str:
        from .canvas import inline_svg

        drawn = inline_svg(self.matplotlib(), self.name, self.title)
        return f'<div style="--quiet: #6b7280; --grid: #dfe3e8; max-width: 60rem">{drawn}</div>'


def palette(names: Sequence[Any], *, last: dict[str, str] | None = None) -> list[str]:
    """A colour for each name, in order; `last` has those of names that always look the same."""
    fixed = {"others": OTHER, "cash": CASH} | (last or {})
    rest = iter(range(len(names)))
    return [fixed.get(str(name)) or PALETTE[next(rest) % len(PALETTE)] for name in names]


def thinned(length: int, most: int, keep: npt.NDArray[np.bool_] | None = None) -> npt.NDArray[np.intp]:
    """Rows of a long table that draw the same picture: evenly spaced, the ends, and those of `keep` if there is room.

    A screen has some thousand columns of pixels; what lies between two of them is not seen.
    """
    if length <= most:
        return np.arange(length)
    rows = np.unique(np.linspace(0, length - 1, most).round().astype(np.intp))
    if keep is not None and int(keep.sum()) <= most:
        rows = np.union1d(rows, np.flatnonzero(keep))
    return rows


def outline(y: npt.NDArray[np.float64], most: int) -> npt.NDArray[np.intp]:
    """Rows of a line that keep its first, last, lowest and highest value in each of `most` / 4 equal stretches.

    Drawn on fewer columns of pixels than stretches, the line is the same: Jugel et al. (2014), "M4: a
    visualization-oriented time series data aggregation", PVLDB 7.
    """
    if len(y) <= most:
        return np.arange(len(y))
    edges = np.linspace(0, len(y), max(most // 4, 1) + 1).astype(np.intp)
    known = np.nan_to_num(y, nan=0.0)
    rows = [
        np.array([a, b - 1, a + int(known[a:b].argmin()), a + int(known[a:b].argmax())], dtype=np.intp)
        for a, b in itertools.pairwise(edges.tolist())
        if b > a
    ]
    return np.unique(np.concatenate(rows))

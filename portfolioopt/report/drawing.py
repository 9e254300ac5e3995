"""Charts for paper, with matplotlib (the extra ``report``)."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from .canvas import GRID, INK, QUIET, WIDTH, drawing
from .chart import SCALE, Band, Bars, Chart, Form, Heat, Level, Line, Panel, Points, Stack, thinned
from .figures import MINUS, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LEGEND_COLUMNS: Final = 6
_ROWS: Final = 500  # of an area: the pixels of a picture nine inches wide on a screen, about
_NAME: Final = 30  # characters of a name before it is cut off


@drawing
def drawn(chart: Chart) -> Figure:
    """The matplotlib figure of a chart."""
    from matplotlib.figure import Figure

    entries = _legend(chart)
    legend_rows = -(-len(entries) // _LEGEND_COLUMNS)
    above = 0.36 + (0.10 + 0.19 * legend_rows if entries else 0.0)  # inches
    below = 0.42 + (0.14 if chart.panels[-1].x_unit else 0.0)
    gap = 0.22 if chart.shared else 0.62
    heights = [panel.height for panel in chart.panels]
    height = above + below + sum(heights) + gap * (len(heights) - 1)
    figure = Figure(figsize=(WIDTH, height))
    longest = max((_longest(panel) for panel in chart.panels), default=0)
    margin = max(0.72, 0.3 + 0.075 * longest) / WIDTH
    top = height - above
    first: Axes | None = None
    for number, (panel, own) in enumerate(zip(chart.panels, heights, strict=True)):
        share = first if chart.shared else None
        axes = figure.add_axes((margin, (top - own) / height, 0.985 - margin, own / height), sharex=share)
        first = first or axes
        _panel(axes, panel)
        if chart.shared and number < len(heights) - 1:
            axes.tick_params(labelbottom=False)
        elif panel.x_unit:
            axes.set_xlabel(panel.x_unit)
        top -= own + gap
    figure.text(0.008, 1.0 - 0.1 / height, chart.title, ha="left", va="top", fontsize=11, fontweight="bold", color=INK)
    if entries:
        figure.legend(
            handles=[handle for _, handle in entries],
            labels=[_shortened(name) for name, _ in entries],
            loc="upper left",
            bbox_to_anchor=(0.0, 1.0 - 0.29 / height),
            ncols=_LEGEND_COLUMNS,
            fontsize=8,
            handlelength=1.2,
            handleheight=0.8,
            columnspacing=1.4,
            labelcolor=INK,
        )
    return figure


def _panel(axes: Axes, panel: Panel) -> None:
    floor: dict[Any, tuple[float, float]] = {}  # where the next bar of a place stands, above zero and below
    for layer in panel.layers:
        _layer(axes, layer, panel, floor)
    if any(isinstance(layer, Heat) for layer in panel.layers):
        return
    names = _names(panel)
    if names is not None:
        places = np.arange(len(names))
        if panel.sideways:
            axes.set_yticks(places, labels=[_shortened(name) for name in names], color=INK)
            axes.set_ylim(len(names) - 0.4, -0.6)
        else:
            step = max(1, len(names) // 14)
            axes.set_xticks(places[::step], labels=[_shortened(name) for name in names][::step])
            if len(names) == 1:
                axes.set_xlim(-1.0, 1.0)
    value_axis = axes.xaxis if panel.sideways else axes.yaxis
    if panel.log:
        _log_axis(axes, panel)
    else:
        value_axis.set_major_formatter(_formatter(panel.form))
        if not panel.sideways and _crosses(axes):
            axes.axhline(0.0, color=QUIET, linewidth=0.7)
    if panel.sideways:
        axes.axvline(0.0, color=QUIET, linewidth=0.7)
        axes.set_xlabel(panel.unit)
        axes.grid(axis="x")
    else:
        axes.set_ylabel(panel.unit)
        axes.grid(axis="y")
        axes.margins(x=0.01)
    if panel.x_form is not None:
        axes.xaxis.set_major_formatter(_formatter(panel.x_form))
        axes.grid(axis="both")
    axes.tick_params(length=0)


def _layer(axes: Axes, layer: Any, panel: Panel, floor: dict[Any, tuple[float, float]]) -> None:
    scale = SCALE[panel.form]
    match layer:
        case Line():
            x, y = _x(layer.x, panel), scale * np.asarray(layer.y, dtype=np.float64)
            style = "--" if layer.dashed else "-"
            axes.plot(
                x, y, style, color=layer.colour, linewidth=layer.width,
                drawstyle="steps-post" if layer.step else "default",
            )  # fmt: skip
            if layer.filled:
                rows = thinned(len(y), 4 * _ROWS)
                axes.fill_between(x[rows], 0.0, y[rows], color=layer.colour, alpha=0.25, linewidth=0)
        case Stack():
            frame = layer.frame.iloc[thinned(len(layer.frame), _ROWS)]
            x = _x(frame.index, panel)
            above, below = np.zeros(len(frame)), np.zeros(len(frame))
            for column, colour in zip(frame.to_numpy(dtype=np.float64).T * scale, layer.colours, strict=True):
                high, low = above + np.maximum(column, 0.0), below + np.minimum(column, 0.0)
                for edge, other in ((high, above), (low, below)):
                    if np.any(edge != other):
                        axes.fill_between(x, other, edge, color=colour, linewidth=0.2)
                above, below = high, low
            axes.set_xlim(x[0], x[-1])
        case Bars():
            _bars(axes, layer, panel, floor)
        case Points():
            x, y = _x(layer.x, panel), scale * np.asarray(layer.y, dtype=np.float64)
            if panel.sideways:
                x, y = y, x
            face = "none" if layer.hollow else layer.colour
            axes.scatter(x, y, s=layer.size**2, facecolors=face, edgecolors=layer.colour, linewidths=0.9, zorder=3)
        case Band():
            x = _x(layer.x, panel)
            low, high = (scale * np.asarray(v, dtype=np.float64) for v in (layer.low, layer.high))
            rows = thinned(len(low), 4 * _ROWS)
            axes.fill_between(x[rows], low[rows], high[rows], color=layer.colour, alpha=layer.opacity, linewidth=0)
        case Heat():
            _heat(axes, layer, panel)
        case Level():
            style = ":" if layer.dashed else "-"
            if layer.vertical or panel.sideways:
                at = layer.at * (SCALE[panel.x_form or "number"] if layer.vertical else scale)
                axes.axvline(at, linestyle=style, color=layer.colour, linewidth=1.0)
                where: tuple[float, float] = (at, 1.0)
                axes.annotate(layer.name, where, xycoords=("data", "axes fraction"), xytext=(2, 1),
                              textcoords="offset points", fontsize=7.5, color=layer.colour)  # fmt: skip
            else:
                axes.axhline(scale * layer.at, linestyle=style, color=layer.colour, linewidth=1.0)
                axes.annotate(layer.name, (1.0, scale * layer.at), xycoords=("axes fraction", "data"), xytext=(-2, 2),
                              textcoords="offset points", ha="right", fontsize=7.5, color=layer.colour)  # fmt: skip


def _bars(axes: Axes, layer: Bars, panel: Panel, floor: dict[Any, tuple[float, float]]) -> None:
    x, y = _x(layer.x, panel), SCALE[panel.form] * np.nan_to_num(np.asarray(layer.y, dtype=np.float64))
    base = np.empty(len(y))
    for i, (place, value) in enumerate(zip(x.tolist(), y, strict=True)):
        high, low = floor.get(place, (0.0, 0.0))
        base[i] = high if value >= 0 else low
        floor[place] = (high + value, low) if value >= 0 else (high, low + value)
    if panel.sideways:
        axes.barh(x, y, height=0.7, left=base, color=layer.colour)
    else:
        axes.bar(x, y, width=_width(x), bottom=base, color=layer.colour)


def _width(x: np.ndarray) -> Any:
    """Most of the distance between neighbours."""
    if len(x) < 2:
        return np.timedelta64(20, "D") if x.dtype.kind == "M" else 0.7
    least = np.median(np.diff(np.sort(x)))
    return 0.8 * least


def _heat(axes: Axes, layer: Heat, panel: Panel) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    shown = SCALE[panel.form] * layer.frame.to_numpy(dtype=np.float64)
    coloured = shown.copy()
    if layer.apart:
        coloured[:, -layer.apart :] = np.nan
    if layer.around is not None:
        middle = SCALE[panel.form] * layer.around
        reach = float(np.nanmax(np.abs(coloured - middle), initial=0.0)) or 1.0
        colours = LinearSegmentedColormap.from_list("ours", ["#c0432f", "#e0917f", "#d9dce1", "#7fa8cf", "#3b6ea5"])
        limits = (middle - reach, middle + reach)
    else:
        colours = LinearSegmentedColormap.from_list("ours", ["#e3e9f1", "#8fb0d3", "#3b6ea5"])
        known = coloured[np.isfinite(coloured)]
        limits = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    rows, columns = shown.shape
    edges_x, edges_y = np.arange(columns + 1) - 0.5, np.arange(rows + 1) - 0.5
    axes.pcolormesh(
        edges_x, edges_y, np.ma.masked_invalid(coloured), cmap=colours, vmin=limits[0], vmax=limits[1],
        edgecolors="white", linewidth=0.6,
    )  # fmt: skip
    size = float(np.clip(88.0 / max(columns, 1), 4.5, 8.0))
    for i in range(rows):
        for j in range(columns):
            if np.isfinite(shown[i, j]):
                words = plain(shown[i, j], layer.digits)
                apart = j >= columns - layer.apart
                axes.text(j, i, words, ha="center", va="center", fontsize=size, color=INK if apart else "#11151c")
    axes.set_ylim(rows - 0.5, -0.5)
    room = max(int(80 / max(columns, 1)), 5)  # characters beside each other
    heads = [textwrap.fill(_shortened(_named(c)), room, break_long_words=False) for c in layer.frame.columns]
    tight = max((len(line) for head in heads for line in head.splitlines()), default=0) > 120 / max(columns, 1)
    turned = {"rotation": 60, "ha": "right", "rotation_mode": "anchor"} if tight else {}
    axes.set_xticks(np.arange(columns), labels=heads, **turned)
    axes.set_yticks(np.arange(rows), labels=[_shortened(_named(r)) for r in layer.frame.index])
    axes.set_ylabel(panel.unit)
    axes.tick_params(length=0, labelsize=8)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)


def _legend(chart: Chart) -> list[tuple[str, Any]]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    found: dict[str, Any] = {}
    for panel in chart.panels:
        for layer in panel.layers:
            match layer:
                case Line() if layer.legend:
                    style = "--" if layer.dashed else "-"
                    found.setdefault(layer.name, Line2D([], [], color=layer.colour, linestyle=style, linewidth=1.6))
                case Points() if layer.legend:
                    found.setdefault(
                        layer.name,
                        Line2D([], [], color=layer.colour, linestyle="none", marker="o", markersize=layer.size,
                               markerfacecolor="none" if layer.hollow else layer.colour),
                    )  # fmt: skip
                case Bars() if layer.legend and isinstance(layer.colour, str):
                    found.setdefault(layer.name, Patch(facecolor=layer.colour))
                case Band():
                    found.setdefault(layer.name, Patch(facecolor=layer.colour, alpha=max(layer.opacity, 0.3)))
                case Stack():
                    for name, colour in zip(layer.frame.columns, layer.colours, strict=True):
                        found.setdefault(str(name), Patch(facecolor=colour))
                case _:
                    pass
    return list(found.items()) if len(found) > 1 else []


def _x(values: Any, panel: Panel) -> np.ndarray:
    """Places along the horizontal axis."""
    index = values if isinstance(values, pd.Index) else pd.Index(values)
    if isinstance(index, pd.DatetimeIndex) and not panel.sideways:
        return index.to_numpy()
    if panel.x_form is not None:
        return SCALE[panel.x_form] * index.to_numpy(dtype=np.float64)
    names = _names(panel)
    assert names is not None
    return pd.Index(names).get_indexer(pd.Index([_named(v) for v in index])).astype(np.float64)


def _names(panel: Panel) -> list[str] | None:
    """The names along the axis of names, in the order in which they come; None where it has dates or numbers."""
    if panel.x_form is not None:
        return None
    found: dict[str, None] = {}
    for layer in panel.layers:
        index = layer.frame.index if isinstance(layer, Stack) else getattr(layer, "x", None)
        if index is None:
            continue
        index = index if isinstance(index, pd.Index) else pd.Index(index)
        if isinstance(index, pd.DatetimeIndex) and not panel.sideways:
            return None
        found |= dict.fromkeys(_named(value) for value in index)
    return list(found)


def _longest(panel: Panel) -> int:
    """Characters of the longest name on the left."""
    for layer in panel.layers:
        if isinstance(layer, Heat):
            return max((len(_shortened(_named(r))) for r in layer.frame.index), default=0) + 2
    if not panel.sideways:
        return 0
    return max((len(_shortened(name)) for name in _names(panel) or []), default=0)


def _crosses(axes: Axes) -> bool:
    low, high = axes.get_ylim()
    return low < 0.0 < high


def _log_axis(axes: Axes, panel: Panel) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set_yscale("log")
    low, high = axes.get_ylim()
    wide = high > 1e4 * low
    axes.yaxis.set_major_locator(LogLocator(10.0, subs=(1.0,) if wide else (1.0, 2.0, 5.0), numticks=6 if wide else 12))
    axes.yaxis.set_major_formatter(_formatter(panel.form))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="y", which="major", color=GRID)


def _formatter(form: Form) -> Any:
    def shown(value: float, _: object = None) -> str:
        if form == "money":
            for size, letter in ((1e9, "bn"), (1e6, "m"), (1e3, "k")):
                if abs(value) >= size:
                    return f"{value / size:g} {letter}".replace("-", MINUS)
        return f"{value:g}".replace("-", MINUS)

    return shown


def _named(value: object) -> str:
    if isinstance(value, pd.Timestamp):
        return f"{value:%Y-%m-%d}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _shortened(name: str) -> str:
    return name if len(name) <= _NAME else f"{name[: _NAME - 1]}…"

"""Charts for a page, with plotly (the extra ``report``): the figures as plain data, small enough to travel."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from .chart import SCALE, SUFFIX, Band, Bars, Chart, Floats, Form, Heat, Level, Line, Panel, Points, Stack
from .chart import outline as outline_of
from .figures import plain

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_MOST: Final = 10_000  # points of a line
_HOVER: Final[dict[Form, str]] = {"percent": ":.2f", "number": ":,.3~f", "money": ":,.0f", "bp": ":.2f"}
_DIGITS: Final = 6  # significant ones: more than a screen can show
_GAP: Final = 46.0  # pixels between panels
_ABOVE: Final = 78.0
_LINE: Final = 150  # characters across a page
_BARE: Final = 44.0  # without a legend
_NARROW: Final = 600  # pixels for the legend on paper
_BELOW: Final = 32.0
_WORDS: Final = 22.0  # more where the horizontal axis has a title


def figure(chart: Chart) -> Figure:
    """The plotly figure of a chart."""
    try:
        from plotly.graph_objects import Figure
    except ModuleNotFoundError as error:
        raise ImportError(
            'interactive charts need plotly, which is not installed: pip install "portfolioopt[report]"', name="plotly"
        ) from error
    data = figure_data(chart)
    data["layout"]["template"] = "plotly_white"
    return Figure(data)


def plotly_script() -> str:
    """The code of plotly.js, as the plotly package brings it."""
    try:
        from plotly.offline import get_plotlyjs
    except ModuleNotFoundError as error:
        raise ImportError(
            'an interactive page needs plotly, which is not installed: pip install "portfolioopt[report]"; '
            "interactive=False writes one with still pictures",
            name="plotly",
        ) from error
    return get_plotlyjs()


def figure_data(chart: Chart) -> dict[str, Any]:
    """Traces and layout of a chart as plain lists and numbers, rounded to what can be seen."""
    traces: list[dict[str, Any]] = []
    shapes: list[dict[str, Any]] = []
    notes: list[dict[str, Any]] = []
    heights = [100.0 * panel.height for panel in chart.panels]
    gap = _GAP if chart.shared else _GAP + 34.0
    below = _BELOW + (_WORDS if chart.panels[-1].x_unit or chart.panels[-1].sideways else 0.0)
    inner = sum(heights) + gap * (len(heights) - 1)
    layout: dict[str, Any] = {
        "title": {"text": _plain(chart.title), "x": 0.0, "xref": "container", "xanchor": "left", "y": 1.0,
                  "yref": "container", "yanchor": "top", "pad": {"t": 8, "l": 2}, "font": {"size": 15}},
        "height": round(inner + _ABOVE + below),
        "margin": {"l": 68, "r": 16, "t": _ABOVE, "b": below},
        "legend": {"orientation": "h", "x": 0.0, "y": 1.0 + 8.0 / inner, "yanchor": "bottom", "font": {"size": 11}},
        "barmode": "relative",
        "modebar": {"bgcolor": "rgba(0,0,0,0)"},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": 'system-ui, -apple-system, "Segoe UI", Roboto, Arial, sans-serif', "size": 12},
    }  # fmt: skip
    top = inner
    for number, (panel, height) in enumerate(zip(chart.panels, heights, strict=True)):
        tail = "" if number == 0 else str(number + 1)
        first = len(traces)
        for layer in panel.layers:
            traces += _traces(layer, panel, tail, shapes, notes)
        dated = any(t.get("x") and _dated(t["x"]) for t in traces[first:])
        low = (top - height) / inner
        last = number == len(chart.panels) - 1
        along: dict[str, Any] = {"anchor": f"y{tail}", "zeroline": False, "automargin": True}
        up: dict[str, Any] = {
            "anchor": f"x{tail}", "domain": [round(low, 6), round(top / inner, 6)], "automargin": True,
            "title": {"text": _plain(panel.unit), "font": {"size": 11}, "standoff": 10},
            "ticksuffix": SUFFIX[panel.form],
        }  # fmt: skip
        if panel.log:
            up |= {"type": "log"} | ({"exponentformat": "power"} if panel.form == "number" else {"dtick": "D2"})
        else:
            up |= {"zeroline": True, "zerolinewidth": 1}
        if panel.form == "money":
            up["tickformat"] = "~s"
        if chart.shared and number > 0:
            along["matches"] = "x"
        if chart.shared and not last:
            along["showticklabels"] = False
        if panel.x_unit and (last or not chart.shared):
            along["title"] = {"text": _plain(panel.x_unit), "font": {"size": 11}}
        if panel.x_form is not None:
            along["ticksuffix"] = SUFFIX[panel.x_form]
        elif dated:
            along["type"] = "date"
            layout["hovermode"] = "x unified"
        heat = any(isinstance(layer, Heat) for layer in panel.layers)
        if panel.sideways or heat:
            if panel.sideways:
                along |= {"title": up.pop("title"), "ticksuffix": up.pop("ticksuffix"), "zeroline": True}
                up["ticksuffix"] = " "
            else:
                up["ticksuffix"] = ""
                along |= {"type": "category", "showgrid": False}
            up |= {"autorange": "reversed", "type": "category", "showgrid": False, "zeroline": False}
            for layer in panel.layers:
                if isinstance(layer, Heat):
                    up["range"] = [len(layer.frame) - 0.5, -0.5]
                    up["autorange"] = False
                    along["range"] = [-0.5, len(layer.frame.columns) - 0.5]
        elif panel.x_form is None and not dated:
            along["type"] = "category"
        layout[f"xaxis{tail}"], layout[f"yaxis{tail}"] = along, up
        top -= height + gap
    seen: set[str] = set()
    for trace in traces:  # one entry for a name, whatever the number of panels it is in
        name = trace.get("name", "")
        trace["legendgroup"] = name
        if not trace.get("showlegend", True):
            continue
        if name in seen:
            trace["showlegend"] = False
        seen.add(name)
    if shapes:
        layout["shapes"] = shapes
    if notes:
        layout["annotations"] = notes
    entries = [t["name"] for t in traces if t.get("showlegend", True)]
    layout["showlegend"] = len(entries) > 1
    rows = -(-sum(7 * len(name) + 52 for name in entries) // _NARROW)  # of the legend, where the page is narrow
    more = 18.0 * (rows - 1) if len(entries) > 1 else _BARE - _ABOVE
    layout["margin"]["t"] += more
    layout["height"] = round(layout["height"] + more)
    return {"data": traces, "layout": layout}


def _traces(
    layer: Any, panel: Panel, tail: str, shapes: list[dict[str, Any]], notes: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    axes: dict[str, Any] = {"xaxis": f"x{tail}", "yaxis": f"y{tail}"}
    scale = SCALE[panel.form]
    value = f"%{{y{_HOVER[panel.form]}}}{SUFFIX[panel.form]}"
    match layer:
        case Line():
            y = np.asarray(layer.y, dtype=np.float64)
            rows = outline_of(y, _MOST)
            found: dict[str, Any] = {
                "type": "scatter", "mode": "lines", "name": _plain(layer.name), "x": _x(layer.x, panel, rows),
                "y": _rounded(scale * y[rows]),
                "line": {"color": layer.colour, "width": layer.width} | ({"dash": "dash"} if layer.dashed else {})
                | ({"shape": "hv"} if layer.step else {}),
                "hovertemplate": value,
            }  # fmt: skip
            if layer.filled:
                found |= {"fill": "tozeroy", "fillcolor": _faint(layer.colour, 0.25)}
            if not layer.legend:
                found["showlegend"] = False
            return [found | axes]
        case Stack():
            return [trace | axes for trace in _stacked(layer, panel, tail, value)]
        case Bars():
            names, y = _x(layer.x, panel), _rounded(scale * np.asarray(layer.y, dtype=np.float64))
            colour = layer.colour if isinstance(layer.colour, str) else list(layer.colour)
            found = {"type": "bar", "name": _plain(layer.name), "marker": {"color": colour}}
            if panel.sideways:
                found |= {"x": y, "y": names, "orientation": "h", "hovertemplate": value.replace("%{y", "%{x")}
            else:
                found |= {"x": names, "y": y, "hovertemplate": value}
            if not layer.legend:
                found["showlegend"] = False
            return [found | axes]
        case Points():
            y = _rounded(scale * np.asarray(layer.y, dtype=np.float64))
            found = {
                "type": "scatter", "mode": "markers", "name": _plain(layer.name),
                "marker": {"color": layer.colour, "size": 1.4 * layer.size}
                | ({"symbol": "circle-open"} if layer.hollow else {}),
                "hovertemplate": value,
            }  # fmt: skip
            names = _x(layer.x, panel)
            if panel.sideways:
                found |= {"x": y, "y": names, "hovertemplate": value.replace("%{y", "%{x")}
            else:
                found |= {"x": names, "y": y}
            if layer.texts is not None:
                found |= {
                    "text": [_plain(t) for t in layer.texts],
                    "hovertemplate": f"%{{text}}<br>{found['hovertemplate']}",
                }
            if not layer.legend:
                found["showlegend"] = False
            return [found | axes]
        case Band():
            x = _x(layer.x, panel)
            edge = {
                "type": "scatter", "mode": "lines", "x": x, "line": {"width": 0}, "hoverinfo": "skip",
                "name": _plain(layer.name),
            }  # fmt: skip
            low = edge | {"y": _rounded(scale * np.asarray(layer.low, dtype=np.float64)), "showlegend": False}
            high = edge | {
                "y": _rounded(scale * np.asarray(layer.high, dtype=np.float64)), "fill": "tonexty",
                "fillcolor": _faint(layer.colour, layer.opacity),
            }  # fmt: skip
            return [low | axes, high | axes]
        case Heat():
            return [trace | axes for trace in _heat(layer, panel)]
        case Level():
            _mark(layer, panel, tail, shapes, notes)
            return []
    raise TypeError(f"a panel has no layer of type {type(layer).__name__}")


def _stacked(layer: Stack, panel: Panel, tail: str, value: str) -> list[dict[str, Any]]:
    frame = layer.frame
    x = _x(frame.index, panel)
    found = []
    for (name, column), colour in zip(frame.items(), layer.colours, strict=True):
        y = SCALE[panel.form] * column.to_numpy(dtype=np.float64)
        for part, group in ((np.maximum(y, 0.0), "above"), (np.minimum(y, 0.0), "below")):
            if not part.any():
                continue
            found.append(
                {
                    "type": "scatter", "mode": "lines", "name": _plain(str(name)), "x": x, "y": _rounded(part),
                    "stackgroup": f"{group}{tail}", "line": {"width": 0, "color": colour}, "fillcolor": colour,
                    "hovertemplate": value,
                }
            )  # fmt: skip
    return found


def _heat(layer: Heat, panel: Panel) -> list[dict[str, Any]]:
    scale = SCALE[panel.form]
    shown = scale * layer.frame.to_numpy(dtype=np.float64)
    room = max(_LINE // max(len(layer.frame.columns), 1), 5)  # characters beside each other
    columns = ["<br>".join(map(_plain, textwrap.wrap(_named(c), room, break_long_words=False)))
               for c in layer.frame.columns]  # fmt: skip
    rows = [_plain(_named(r)) for r in layer.frame.index]
    texts = [["" if np.isnan(v) else plain(v, layer.digits) for v in row] for row in shown]
    coloured = shown.copy()
    if layer.apart:
        coloured[:, -layer.apart :] = np.nan
    found: dict[str, Any] = {
        "type": "heatmap", "x": columns, "y": rows, "z": [_rounded(row) for row in coloured], "text": texts,
        "texttemplate": "%{text}", "hovertemplate": f"%{{y}}, %{{x}}: %{{text}}{SUFFIX[panel.form]}<extra></extra>",
        "showlegend": False, "showscale": False, "xgap": 1, "ygap": 1, "hoverongaps": False,
        "name": _plain(panel.unit), "textfont": {"color": "#11151c"},
    }  # fmt: skip
    if layer.around is not None:
        reach = float(np.nanmax(np.abs(coloured - scale * layer.around), initial=0.0)) or 1.0
        middle = scale * layer.around
        found |= {"zmin": middle - reach, "zmax": middle + reach, "colorscale": _DIVERGING}
    else:
        found["colorscale"] = _SEQUENTIAL
    if not layer.apart:
        return [found]
    found["text"] = [row[: -layer.apart] + [""] * layer.apart for row in texts]
    # words without a ground, in the colour of the page's ink
    aside: dict[str, Any] = {
        "type": "scatter", "mode": "text", "hoverinfo": "skip", "showlegend": False, "name": "apart",
        "x": [name for name in columns[-layer.apart :] for _ in rows], "y": rows * layer.apart,
        "text": [row[i] for i in range(-layer.apart, 0) for row in texts],
    }  # fmt: skip
    return [found, aside]


_DIVERGING: Final = [[0.0, "#c0432f"], [0.25, "#e0917f"], [0.5, "#d9dce1"], [0.75, "#7fa8cf"], [1.0, "#3b6ea5"]]
_SEQUENTIAL: Final = [[0.0, "#e3e9f1"], [0.5, "#8fb0d3"], [1.0, "#3b6ea5"]]


def _mark(layer: Level, panel: Panel, tail: str, shapes: list[dict[str, Any]], notes: list[dict[str, Any]]) -> None:
    across = layer.vertical or panel.sideways
    at = layer.at * (SCALE[panel.x_form or "number"] if layer.vertical else SCALE[panel.form])
    shape: dict[str, Any] = {
        "type": "line", "line": {"color": layer.colour, "width": 1} | ({"dash": "dot"} if layer.dashed else {})
    }  # fmt: skip
    note: dict[str, Any] = {
        "text": _plain(layer.name), "showarrow": False, "font": {"size": 10, "color": layer.colour}
    }  # fmt: skip
    if across:
        shape |= {"xref": f"x{tail}", "yref": f"y{tail} domain", "x0": at, "x1": at, "y0": 0, "y1": 1}
        note |= {"xref": f"x{tail}", "yref": f"y{tail} domain", "x": at, "y": 1, "yanchor": "bottom"}
    else:
        shape |= {"xref": f"x{tail} domain", "yref": f"y{tail}", "x0": 0, "x1": 1, "y0": at, "y1": at}
        place = float(np.log10(at)) if panel.log else at
        note |= {"xref": f"x{tail} domain", "yref": f"y{tail}", "x": 1, "xanchor": "right", "y": place,
                 "yanchor": "bottom"}  # fmt: skip
    shapes.append(shape)
    if layer.name:
        notes.append(note)


def _x(values: Any, panel: Panel, rows: np.ndarray | None = None) -> list[Any]:
    index = values if isinstance(values, pd.Index) else pd.Index(values)
    if rows is not None and len(rows) < len(index):
        index = index[rows]
    if isinstance(index, pd.DatetimeIndex):
        midnight = (index == index.normalize()).all()
        return index.strftime("%Y-%m-%d" if midnight else "%Y-%m-%d %H:%M").tolist()
    if panel.x_form is not None:
        return _rounded(SCALE[panel.x_form] * index.to_numpy(dtype=np.float64))
    return [_plain(_named(name)) for name in index]


def _dated(x: Sequence[Any]) -> bool:
    first = x[0]
    return isinstance(first, str) and len(first) >= 10 and first[:4].isdigit() and first[4] == first[7] == "-"


def _named(value: object) -> str:
    if isinstance(value, pd.Timestamp):
        return f"{value:%Y-%m-%d}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _rounded(values: Floats | np.ndarray) -> list[float | None]:
    """Numbers of six significant digits; None for what is missing."""
    return [float(f"{v:.{_DIGITS}g}") if np.isfinite(v) else None for v in np.asarray(values, dtype=np.float64)]


def _plain(text: str) -> str:
    """Text that plotly shows as it is, rather than as its markup."""
    return html.escape(text, quote=False)


def _faint(colour: str, opacity: float) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:g})"

"""Pictures of a result, with matplotlib (the extra ``report``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError, unknown_names
from portfolioopt.solve import Result

from .canvas import INK, QUIET, WIDTH, drawing
from .chart import BLUE, OTHER, PALETTE, RED
from .figures import HELD, MINUS, certified, measures, percent, tail_share

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NAME: Final = 28  # characters of a name before it is cut off
_LEGEND_COLUMNS: Final = 4


@drawing
def contribution_bars(
    result: Result,
    contributions: pd.DataFrame,
    labels: pd.Series | Mapping[str, str] | None = None,
    *,
    measure: str | None = None,
    top: int = 20,
) -> Figure:
    """Weight beside share of risk, by asset: where the money is, and where the risk comes from.

    The largest shares of risk are at the top. A tick in the left panel is the holding before trading; one in the right
    panel is the weight, so that a bar beyond it carries more risk than money.

    Parameters
    ----------
    result
        A result with weights.
    contributions
        What `portfolioopt.attribution.risk_contributions` returned for these weights.
    labels
        Group of each asset, such as its sector, for the colours.
    measure
        Which risk measure of `contributions` to show; the first where None.
    top
        Bars to draw; the assets beyond are summed in one.

    Returns
    -------
    matplotlib.figure.Figure
        See `save_png`; notebooks show it as it is.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    weights, holdings = certified(result).weights, result.problem.holdings
    assert weights is not None
    known = measures(contributions)
    measure = known[0] if measure is None else measure
    if measure not in known:
        raise unknown_names("measure", [measure], known)
    if top < 1:
        raise InputError(f"top must be at least 1, was {top}")
    frame = contributions[contributions["measure"] == measure].set_index("asset")[["weight", "share"]]
    frame["holding"] = np.nan if holdings is None else holdings
    frame["label"] = "" if labels is None else pd.Series(labels).reindex(frame.index).fillna("without label")
    frame = frame[(frame["weight"].abs() > HELD) | (frame["share"].abs() > HELD)]
    largest = frame["share"].abs().sort_values(ascending=False, kind="stable").index
    bars = frame.loc[largest[:top]].sort_values("share", ascending=False, kind="stable")
    rest = frame.loc[largest[top:]]
    colours = _colours(bars)
    legend = _legend(colours) if labels is not None else []
    names = [_shortened(str(asset)) for asset in bars.index]
    names += [f"{len(rest)} others"] if len(rest) else []

    legend_rows = -(-len(legend) // _LEGEND_COLUMNS)
    above, below = 0.72, 0.12 + (0.12 + 0.19 * legend_rows if legend else 0.0)  # inches
    height = above + below + 0.25 * max(len(names), 3)
    margin = (0.25 + 0.082 * max(map(len, names), default=0)) / WIDTH
    figure = Figure(figsize=(WIDTH, height))
    edges = {"left": margin, "right": 0.975, "top": 1.0 - above / height, "bottom": below / height, "wspace": 0.06}
    left, right = figure.subplots(1, 2, sharey=True, gridspec_kw=edges)
    # one scale for both panels, so that lengths compare
    values = bars[["weight", "share"]].to_numpy(dtype=float)
    low, high = min(float(values.min(initial=0.0)), 0.0), max(float(values.max(initial=0.0)), 0.01)
    fills = [colours[label] for label in bars["label"]]
    for axes, column, marks in ((left, "weight", "holding"), (right, "share", "weight")):
        _bars(axes, bars[column].to_numpy(dtype=float), bars[marks].to_numpy(dtype=float), fills, (low, high))
        if len(rest):
            # no bar: it would dwarf those of single assets
            _value(axes, 0.0, len(bars), float(rest[column].sum()))
    left.set_title("Weight, % of NAV", loc="left", fontsize=10, fontweight="bold", pad=18)
    right.set_title(f"Share of {_spaced(measure)}, %", loc="left", fontsize=10, fontweight="bold", pad=18)
    for axes, note in ((left, "" if holdings is None else "| holding before trading"), (right, "| weight")):
        axes.annotate(
            note, (1, 1), xytext=(0, 19), xycoords="axes fraction", textcoords="offset points",
            ha="right", va="baseline", fontsize=8, color=QUIET,
        )  # fmt: skip
    left.set_ylim(len(names) - 0.4, -0.6)
    left.set_yticks(np.arange(len(names)), labels=names, color=INK)
    right.tick_params(labelleft=False)
    if legend:
        figure.legend(
            handles=[Patch(facecolor=colour, label=label) for label, colour in legend],
            loc="lower left",
            bbox_to_anchor=(margin - 0.015, 0.0),
            ncols=_LEGEND_COLUMNS,
            fontsize=8,
            handlelength=0.9,
            handleheight=0.9,
            columnspacing=1.6,
            labelcolor=INK,
        )
    return figure


@drawing
def loss_histogram(result: Result, beta: float | None = None) -> Figure:
    """Distribution of the scenario losses with value-at-risk and CVaR marked; the tail beyond is coloured.

    Parameters
    ----------
    result
        A result with weights.
    beta
        Confidence level in (0, 1); the first of the problem where None, 0.95 if it has none.
    """
    from matplotlib.figure import Figure

    weights, scenarios = certified(result).weights, result.problem.scenarios
    assert weights is not None
    level = beta if beta is not None else next((float(str(b)) for b in result.risk.index), 0.95)
    losses = scenarios.losses(weights).to_numpy()
    tail = scenarios.tail(weights, level)
    edges = _edges(losses, tail.var)
    mass, _ = np.histogram(losses, bins=edges, weights=scenarios.probabilities)
    body = edges[:-1] < tail.var * (1 - 1e-12 * np.sign(tail.var))

    figure = Figure(figsize=(WIDTH, 3.4))
    axes = figure.subplots(gridspec_kw={"left": 0.075, "right": 0.975, "top": 0.80, "bottom": 0.15})
    middle, widths = (edges[1:] + edges[:-1]) / 2.0, np.diff(edges)
    for part, colour in ((body, BLUE), (~body, RED)):
        axes.bar(middle[part], mass[part], 0.88 * widths[part], color=colour)
    highest = float(mass.max())
    for value, name, reach, width in ((tail.var, "VaR", 1.0, 0.8), (tail.cvar, "CVaR", 0.62, 1.6)):
        axes.vlines(value, 0.0, highest * reach, color=INK, linewidth=width)
        axes.annotate(
            f"{name} {100 * level:g} %\n{percent(value).replace('-', MINUS)}",
            (value, highest * reach),
            xytext=(6, 0),
            textcoords="offset points",
            va="top",
            fontsize=8.5,
            color=INK,
        )
    axes.set_title(
        f"Loss per {scenarios.horizon or 'scenario'}, {scenarios.n_scenarios:,} scenarios", loc="left", fontsize=10,
        fontweight="bold", pad=22,
    )  # fmt: skip
    axes.annotate(
        f"% of NAV, losses to the right; the worst {tail_share(level)} of probability in red",
        (0, 1), xytext=(0, 10), xycoords="axes fraction", textcoords="offset points", fontsize=8, color=QUIET,
    )  # fmt: skip
    axes.set_ylabel("probability, %")
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(0.0, highest * 1.05)
    _percent_axis(axes)
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}")
    axes.grid(axis="y")
    axes.tick_params(length=0)
    return figure


def _bars(axes: Axes, lengths: np.ndarray, marks: np.ndarray, fills: list[str], scale: tuple[float, float]) -> None:
    """Horizontal bars from the top down, each with its value and a tick at its mark."""
    low, high = scale
    room = 0.16 * (high - low)
    rows = np.arange(len(lengths))
    axes.barh(rows, lengths, height=0.68, color=fills)
    marked = np.isfinite(marks)
    axes.vlines(marks[marked], rows[marked] - 0.42, rows[marked] + 0.42, color=INK, linewidth=1.3)
    for row, (length, mark) in enumerate(zip(lengths, marks, strict=True)):
        end = mark if 0 <= mark - length < room else length  # clear of the tick
        _value(axes, max(float(end), 0.0), row, float(length))
    axes.axvline(0.0, color=QUIET, linewidth=0.8)
    axes.set_xlim(low - (0.3 * room if low < 0 else 0.0), high + room)
    _percent_axis(axes)
    axes.xaxis.tick_top()
    axes.grid(axis="x")
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0)


def _value(axes: Axes, x: float, row: float, value: float) -> None:
    text = percent(value, 1).replace("-", MINUS)
    axes.annotate(text, (x, row), xytext=(4, 0), textcoords="offset points", va="center", fontsize=7.5, color=QUIET)


def _shortened(name: str) -> str:
    return name if len(name) <= _NAME else f"{name[: _NAME - 1]}…"


def _legend(colours: Mapping[str, str]) -> list[tuple[str, str]]:
    """Names and colours of the groups; those that share the last colour share an entry."""
    entries = [(_shortened(label), colour) for label, colour in colours.items() if colour != OTHER]
    return entries + ([("other groups", OTHER)] if len(entries) < len(colours) else [])


def _colours(frame: pd.DataFrame) -> dict[str, str]:
    """A colour for each label, the heaviest labels first; those beyond the palette share one."""
    weight = frame["weight"].abs().groupby(frame["label"], sort=False).sum().sort_values(ascending=False, kind="stable")
    return {str(label): PALETTE[i] if i < len(PALETTE) else OTHER for i, label in enumerate(weight.index)}


def _edges(losses: np.ndarray, var: float) -> np.ndarray:
    """Bin edges over all losses, one of them at the value-at-risk, so that a bar is in the tail or not."""
    low, high = float(losses.min()), float(losses.max())
    if high - low <= 1e-12:
        return np.array([low - 0.005, low, low + 0.005])
    spread = np.subtract(*np.quantile(losses, [0.75, 0.25]))
    width = 2.0 * spread / len(losses) ** (1 / 3)  # Freedman and Diaconis (1981)
    width = float(np.clip(width, (high - low) / 90.0, (high - low) / 20.0))
    below, above = int(np.ceil((var - low) / width)), int(np.ceil((high - var) / width))
    return var + width * np.arange(-max(below, 1), max(above, 1) + 1)


def _percent_axis(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g}".replace("-", MINUS))


def _spaced(measure: str) -> str:
    return measure.replace("%", " %")

"""Charts of a result, of risk contributions, and of sweeps."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError, unknown_names
from portfolioopt.solve import Result, Sweep

from .chart import BLUE, OTHER, RED, SCALE, Bars, Chart, Form, Heat, Level, Line, Panel, Points, Stack, palette
from .figures import certified, resolving_digits, tail_parts, tail_share
from .page import label


def tail_chart(result: Result, beta: float | None = None, *, worst: int = 12, top: int = 8) -> Chart:
    """The worst scenarios of a result, and what hurt: losses by asset, stacked.

    Parameters
    ----------
    result
        A result with weights and scenarios.
    beta
        Confidence level whose VaR is marked; the first of the problem where None.
    worst
        Scenarios to show.
    top
        Assets with a colour of their own; the others are summed.
    """
    certified(result)
    level = beta if beta is not None else next((float(str(b)) for b in result.risk.index), 0.95)
    frame = result.tail_scenarios(level, n=worst)
    parts = tail_parts(result, frame.index)
    order = parts.abs().sum().sort_values(ascending=False, kind="stable").index
    shown = parts[order[:top]]
    if len(order) > top:
        shown = shown.assign(others=parts[order[top:]].sum(axis=1))
    names = [label(name) for name in _distinct(frame.index)]
    bars = [
        Bars(str(asset), names, shown[asset].to_numpy(), colour)
        for asset, colour in zip(shown.columns, palette(list(shown.columns)), strict=True)
    ]
    weights = result.weights
    assert weights is not None
    tail = result.problem.scenarios.tail(weights, level)
    total = Points("loss of the portfolio", names, frame["loss"].to_numpy(), OTHER, size=5.0, hollow=True)
    marks = [Level(tail.var, f"VaR {100 * level:g} %", RED)]
    panel = Panel([*bars, total, *marks], "loss, % of NAV", sideways=True, height=0.6 + 0.26 * len(names))
    return Chart(
        "tail",
        f"What hurts in the {len(names)} worst scenarios",
        [panel],
        f"Losses to the right; what gained in a scenario is left of zero. The VaR is where the worst "
        f"{tail_share(level)} of probability begin.",
    )


def risk_chart(
    contributions: pd.DataFrame, measure: str | None = None, *, top: int = 20, sort_by_share: bool = True
) -> Chart:
    """Shares of risk by asset, factor or group beside the weights, as bars; over time where there is a ``date``.

    Parameters
    ----------
    contributions
        From `portfolioopt.attribution`: `risk_contributions`, `group_contributions`, `factor_contributions`, or
        `contributions_by_date`.
    measure
        One of those in it; the first where None.
    top
        Names with a bar or colour of their own; the others are summed.
    sort_by_share
        The largest share first, rather than the order of the frame.
    """
    known = [str(name) for name in contributions["measure"].unique()]
    chosen = known[0] if measure is None else measure
    if chosen not in known:
        raise unknown_names("measure", [chosen], known)
    if top < 1:
        raise InputError(f"top must be at least 1, was {top}")
    own = contributions[contributions["measure"] == chosen]
    kind = next(name for name in ("asset", "group", "factor") if name in own.columns)
    spaced = chosen.replace("%", " %")
    if "date" in own.columns:
        wide = own.pivot_table(index="date", columns=kind, values="share", sort=False, aggfunc="sum").fillna(0.0)
        wide = largest(wide, top if top < 11 else 11)
        stack = Stack(wide, palette(list(wide.columns)))
        return Chart(
            "risk-over-time", f"Share of {spaced} by {kind} over time", [Panel([stack], f"share of {spaced}, %")],
            f"What lowers the risk is below zero; each {kind}'s share of the whole.",
        )  # fmt: skip
    frame = own.set_index(kind)
    order = frame["share"].abs().sort_values(ascending=False, kind="stable").index
    kept = frame.loc[order[:top]]
    if sort_by_share:
        kept = kept.sort_values("share", ascending=False, kind="stable")
    names, shares = [str(name) for name in kept.index], kept["share"].to_list()
    rest = frame.loc[order[top:]]
    weights = kept["weight"].to_list() if "weight" in kept.columns else []
    if len(rest):
        names, shares = [*names, f"{len(rest)} others"], [*shares, float(rest["share"].sum())]
        weights = [*weights, float(rest["weight"].sum())] if weights else []
    layers: list[Bars | Points] = [Bars(f"share of {spaced}", names, shares, BLUE)]
    if weights:
        layers.append(Points("weight", names, weights, RED, hollow=True))
    panel = Panel(layers, f"share of {spaced}, and weight, %", sideways=True, height=0.6 + 0.24 * len(names))
    note = f"A bar beyond the ring has more risk than money in it; the shares of all {kind}s sum to 100 %."
    return Chart("risk", f"Share of {spaced} by {kind}", [panel], note if weights else "")


# -- sweeps ------------------------------------------------------------------------------------------------------
def frontier_chart(sweep: Sweep, *, assets: Mapping[str, tuple[float, float]] | None = None) -> Chart:
    """The efficient frontier: risk and expected return of each point.

    Parameters
    ----------
    sweep
        From `portfolioopt.frontier`.
    assets
        Risk and expected return of other portfolios by name, to be shown beside it.
    """
    points = _answered(sweep)
    risk, words = _risk(sweep, points)
    returns = points["expected_return"].to_numpy()
    horizon = sweep.problem.scenarios.horizon or "scenario"
    texts = [f"point {number}" for number in points.index]
    layers: list[Line | Points] = [
        Line("frontier", risk, returns, BLUE, width=1.8, legend=False),
        Points("efficient portfolios", risk, returns, BLUE, size=3.5, texts=texts),
    ]
    if assets:
        risks = [pair[0] for pair in assets.values()]
        gains = [pair[1] for pair in assets.values()]
        layers.append(Points("for comparison", risks, gains, RED, texts=list(assets)))
    panel = Panel(
        layers, f"expected return, % per {horizon}", x_unit=f"{words}, % of NAV per {horizon}", x_form="percent",
        height=3.6,
    )  # fmt: skip
    return Chart("frontier", "Efficient frontier", [panel], "Each point is certified; returns are before costs.")


def prices_chart(sweep: Sweep, *, top: int = 8) -> Chart:
    """Shadow prices of the limits along a sweep over one input: what each limit costs, and where it binds.

    The sweep must have kept its limits (``limits=True``).
    """
    axis, x, form, words = _along(sweep)
    prices = sweep.limits.reindex(_answered(sweep).index).fillna(0.0)
    prices = prices.loc[:, [not str(name).startswith(f"{axis.split('.')[0]}") for name in prices.columns]]
    order = prices.abs().max().sort_values(ascending=False, kind="stable")
    names = [name for name in order.index[:top] if order[name] > 0.0]
    layers = [
        Line(str(name), x, prices[name].to_numpy(), colour) for name, colour in zip(names, palette(names), strict=True)
    ]
    panel = Panel(
        layers or [Level(0.0, "no limit has a price")], "price, bp of objective per % point of limit", "number",
        x_unit=words, x_form=form, height=3.0,
    )  # fmt: skip
    return Chart(
        "prices", "Shadow prices of the limits", [panel],
        "What the objective gains, in basis points, when a limit is loosened by one percentage point; zero where "
        "it does not bind.",
    )  # fmt: skip


def sweep_weights_chart(sweep: Sweep, *, top: int = 10) -> Chart:
    """Weights along a sweep over one input, stacked."""
    _, x, form, words = _along(sweep)
    shown = sweep.weights.loc[_answered(sweep).index]
    note = "Short positions are below zero." if (shown < -1e-6).any(axis=None) else ""
    wide = largest(sweep.weights.loc[_answered(sweep).index].set_axis(x, axis=0), top)
    panel = Panel([Stack(wide, palette(list(wide.columns)))], "weight, % of NAV", x_unit=words, x_form=form)
    return Chart("sweep-weights", "Weights along the sweep", [panel], note)


def sweep_chart(sweep: Sweep, column: str = "objective") -> Chart:
    """One number of a sweep over one input: objective, expected return, a CVaR."""
    _, x, form, words = _along(sweep)
    own, value_form = _column(sweep, column)
    line = Line(column, x, own.to_numpy(), BLUE, width=1.8, legend=False)
    points = Points(column, x, own.to_numpy(), BLUE, size=3.5, legend=False)
    panel = Panel([line, points], _unit(column, value_form), value_form, x_unit=words, x_form=form)
    return Chart(f"sweep-{_slug(column)}", f"{_sentence(column)} along the sweep", [panel])


def sweep_heatmap(sweep: Sweep, column: str = "objective") -> Chart:
    """One number of a sweep over two inputs as a table of colours."""
    axes = sweep_axes(sweep)
    if len(axes) != 2:
        raise InputError(f"a heat-map takes a sweep over two inputs, and this one is over {len(axes)}: {axes}")
    own, form = _column(sweep, column)
    points = sweep.points.loc[own.index]
    wide = points.pivot_table(index=axes[0], columns=axes[1], values=column, sort=False)
    digits = resolving_digits(SCALE[form] * wide.to_numpy())
    heat = Heat(wide.rename_axis(index=None, columns=None), digits=digits, around=None)
    panel = Panel([heat], axes[0], form, x_unit=axes[1], height=max(1.4, 0.36 * len(wide)))
    return Chart(
        f"heat-{_slug(column)}", f"{_sentence(column)} by {axes[0]} (down) and {axes[1]} (across)", [panel],
        f"In {'%' if form == 'percent' else 'units of the objective'}; points without a portfolio are blank.",
    )  # fmt: skip


def sweep_axes(sweep: Sweep) -> list[str]:
    """Names of the inputs that a sweep varies."""
    names = list(sweep.points.columns)
    return [str(name) for name in names[: names.index("status")]]


def largest(wide: pd.DataFrame, top: int) -> pd.DataFrame:
    """The columns with the largest absolute mean, and the others summed in one."""
    order = wide.abs().mean().sort_values(ascending=False, kind="stable").index
    order = [name for name in order if wide[name].abs().max() > 1e-9]
    kept = wide[order[:top]].set_axis([str(name) for name in order[:top]], axis=1)
    if len(order) > top:
        kept = kept.assign(others=wide[order[top:]].sum(axis=1))
    return kept


def _answered(sweep: Sweep) -> pd.DataFrame:
    points = sweep.points[sweep.points["expected_return"].notna()]
    if points.empty:
        raise InputError("no point of this sweep has a portfolio; the messages in its frame say why")
    return points


def _along(sweep: Sweep) -> tuple[str, np.ndarray, Form, str]:
    """Name, values, form and words of the only input that is varied."""
    axes = sweep_axes(sweep)
    if len(axes) != 1:
        raise InputError(f"this chart takes a sweep over one input, and this one is over {len(axes)}: {axes}")
    values = pd.to_numeric(_answered(sweep)[axes[0]], errors="coerce").to_numpy(dtype=np.float64)
    if np.isnan(values).any():
        values = np.arange(len(values), dtype=np.float64)
        return axes[0], values, "number", f"point ({axes[0]})"
    field = axes[0].rpartition(".")[2]
    fraction = field in ("target", "limit", "upper", "lower")
    return axes[0], values, "percent" if fraction else "number", f"{axes[0]}, %" if fraction else axes[0]


def _risk(sweep: Sweep, points: pd.DataFrame) -> tuple[np.ndarray, str]:
    """The risk that the frontier minimises."""
    levels = [name for name in points.columns if str(name).startswith("cvar[")]
    terms = [repr(term) for _, term in sweep.problem.objective.parts]
    if levels and any(term.startswith("CVaR") for term in terms):
        return points[levels[0]].to_numpy(), f"CVaR {100 * float(str(levels[0])[5:-1]):g} %"
    others = [part for part in sweep.problem.objective.parts if part[0] < 0]
    if len(others) == 1 and len(sweep.problem.objective.parts) == 1:
        return -points["objective"].to_numpy() / -others[0][0], f"{others[0][1]!r}"
    return -points["objective"].to_numpy(), "what is minimised (risk and costs)"


def _column(sweep: Sweep, column: str) -> tuple[pd.Series, Form]:
    points = _answered(sweep)
    if column not in points.columns:
        raise unknown_names("column of the sweep", [column], points.columns)
    return points[column], "percent" if column == "expected_return" or column.startswith("cvar[") else "number"


def _sentence(column: str) -> str:
    if column.startswith("cvar["):
        return f"CVaR {100 * float(column[5:-1]):g} %"
    words = column.replace("_", " ")
    return words[:1].upper() + words[1:]


def _unit(column: str, form: Form) -> str:
    return (
        f"{_sentence(column).lower() if form != 'percent' else _sentence(column)}{', %' if form == 'percent' else ''}"
    )


def _slug(column: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in column).strip("-")


def _distinct(labels: pd.Index) -> list[object]:
    """Labels, with a number where one comes twice."""
    if not labels.has_duplicates:
        return list(labels)
    return [f"{label(name)} ({number})" for number, name in enumerate(labels, 1)]

"""Charts of a backtest: the data behind each are frames of the backtest, in the units of the library."""

from __future__ import annotations

import numpy as np
import pandas as pd

from portfolioopt.backtest import Backtest
from portfolioopt.backtest.drawdowns import drawdown
from portfolioopt.backtest.metrics import monthly_returns, rolling_performance
from portfolioopt.backtest.validation import VIOLATED, Validation, binding_names
from portfolioopt.errors import InputError

from .chart import (
    BLUE,
    GREEN,
    ORANGE,
    OTHER,
    RED,
    Bars,
    Chart,
    Heat,
    Level,
    Line,
    Panel,
    Points,
    Stack,
    palette,
    thinned,
)
from .page import label
from .result_charts import largest

_NOTHING = 1e-16
_ROWS = 1200  # of an area: more than a screen has columns of pixels for it


def nav_chart(backtest: Backtest) -> Chart:
    """Net asset value against the benchmark on a logarithmic axis, and how far each is below its peak."""
    dates, nav = backtest.nav.index, _worth(backtest)
    lines = [Line(backtest.name, dates, nav.to_numpy(), BLUE, width=1.6)]
    under = [
        Line(
            backtest.name, dates, -drawdown(backtest.returns.clip(lower=-1.0)).to_numpy(), BLUE, width=1.0, filled=True
        )
    ]
    benchmark = backtest.benchmark
    if benchmark is not None:
        lines.insert(0, Line("benchmark", dates, benchmark.to_numpy(), OTHER, width=1.4))
        under.insert(0, Line("benchmark", dates, -drawdown(nav=benchmark).to_numpy(), OTHER, width=1.0))
    paid = bool((backtest.flows.iloc[1:] != 0.0).any())
    unit = "worth of the first capital" if paid else "NAV"
    note = "Equal distances up are equal returns. Money paid in and out is left out." if paid else (
        "Equal distances up are equal returns."
    )  # fmt: skip
    return Chart(
        "nav",
        "Net asset value, and drawdown from its peak",
        [
            Panel(lines, f"{unit}, logarithmic", "money", log=True, height=3.0),
            Panel(under, "below the peak, %", height=1.5),
        ],
        note,
    )


def rolling_chart(backtest: Backtest, window: int | None = None) -> Chart:
    """Volatility and Sharpe ratio of the trailing `window` sessions; a year's where None, less for short runs."""
    returns = backtest.measured_returns
    year = round(backtest.periods_per_year)
    length = min(year, max(2, len(returns) // 4)) if window is None else window
    names = ["volatility", "sharpe"]
    per_year = backtest.periods_per_year
    own = rolling_performance(returns, length, metrics=names, periods_per_year=per_year, risk_free=risk_free(backtest))
    volatility = [Line(backtest.name, own.index, own["volatility"].to_numpy(), BLUE)]
    sharpe = [Line(backtest.name, own.index, own["sharpe"].to_numpy(), BLUE)]
    benchmark = backtest.benchmark
    if benchmark is not None:
        other = rolling_performance(
            benchmark.pct_change().iloc[1:], length, metrics=names, periods_per_year=per_year,
            risk_free=risk_free(backtest),
        )  # fmt: skip
        volatility.insert(0, Line("benchmark", other.index, other["volatility"].to_numpy(), OTHER))
        sharpe.insert(0, Line("benchmark", other.index, other["sharpe"].to_numpy(), OTHER))
    return Chart(
        "rolling",
        f"Volatility and Sharpe ratio of the trailing {length} sessions",
        [
            Panel(volatility, "volatility, % a year", height=1.7),
            Panel([*sharpe, Level(0.0)], "Sharpe ratio, a year", "number", height=1.7),
        ],
    )


def weights_chart(backtest: Backtest, *, top: int = 10, labels: pd.Series | None = None) -> Chart:
    """Weights at every close, stacked, cash among them; short positions and debt below zero.

    `top` assets have a colour of their own and the others are summed; with `labels`, weights are by label.
    """
    weights = backtest.weights
    traded = backtest.turnover.to_numpy() > 0.0
    keep = traded | np.append(traded[1:], False)
    rows = thinned(len(weights), _ROWS, keep)
    weights = weights.iloc[rows]
    cash = 1.0 - weights.sum(axis=1)
    if labels is not None:
        named = pd.Series(labels).reindex(weights.columns).fillna("without label")
        weights = weights.T.groupby(named.to_numpy(), sort=False).sum().T
    wide = largest(weights, top)
    if (cash.abs() > 1e-6).any():
        wide = wide.assign(cash=cash)
    return Chart(
        "weights" if labels is None else "groups",
        "Weights over time" if labels is None else "Weights by group over time",
        [Panel([Stack(wide, palette(list(wide.columns)))], "weight, % of NAV", height=3.0)],
        "Positions at the close as fractions of NAV, drift included."
        + (" Short positions and debt are below zero." if (wide < -1e-6).any(axis=None) else ""),
    )


def costs_chart(backtest: Backtest) -> Chart:
    """Turnover and costs by part of every month, and what costs have come to."""
    dates = backtest.nav.index
    assert isinstance(dates, pd.DatetimeIndex)
    before = backtest.nav.shift(1).fillna(backtest.nav.iloc[0])
    parts = backtest.costs.div(before, axis=0)
    plain = dates.tz_localize(None) if dates.tz is not None else dates
    months = plain.to_period("M") if len(dates) > 60 else plain.to_period("D")
    by_month, turnover = parts.groupby(months).sum(), 0.5 * backtest.turnover.groupby(months).sum()
    when = by_month.index.to_timestamp()  # type: ignore[attr-defined]
    kept = [name for name in by_month.columns if (by_month[name] != 0.0).any()]
    colours = palette(kept)
    span = "month" if len(dates) > 60 else "session"
    panels = [Panel([Bars("turnover", when, turnover.to_numpy(), OTHER)], f"turnover, % a {span}", height=1.6)]
    if kept:
        bars = [Bars(str(n), when, by_month[n].to_numpy(), c) for n, c in zip(kept, colours, strict=True)]
        panels.append(Panel(bars, f"cost, bp a {span}", "bp", height=1.6))
        total = parts.sum(axis=1).cumsum()
        line = Line("cost so far", dates, total.to_numpy(), RED, width=1.5)
        panels.append(Panel([line], "cost so far, % of NAV", height=1.3))
    return Chart(
        "costs",
        "Turnover and what it cost",
        panels,
        "Per NAV before the trades; turnover is one way, half of purchases plus sales.",
    )


def monthly_chart(backtest: Backtest) -> Chart:
    """Returns of every calendar month as a table of colours, and of every year."""
    table = monthly_returns(backtest.measured_returns)
    names = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec", "Year"]
    frame = table.set_axis(names, axis=1).set_axis([str(year) for year in table.index], axis=0)
    return Chart(
        "months", "Returns by month, %", [Panel([Heat(frame, apart=1)], "", height=max(1.2, 0.27 * len(frame)))],
        "Compounded, after costs; the first and the last month and year may be parts of one.",
    )  # fmt: skip


def forecasts_chart(validation: Validation) -> Chart:
    """Loss of every horizon against the VaR and CVaR that were predicted for it, and volatility likewise."""
    own = validation.forecasts
    if own.empty:
        raise InputError("no decision of this run predicted its risk, so there is nothing to compare")
    x = pd.DatetimeIndex(own.index)
    loss = -own["realised"].to_numpy()
    hit = own["exceeded"].to_numpy()
    levels = own["beta"].dropna().unique()
    at = f" {100 * float(levels[0]):g} %" if len(levels) == 1 else ""
    texts = [f"decided {label(decided)}" for decided in own["decided"]]
    losses = [
        Points("loss within the VaR", x[~hit], loss[~hit], BLUE, size=3.5, texts=_some(texts, ~hit)),
        Points("loss beyond the VaR", x[hit], loss[hit], RED, size=5.5, texts=_some(texts, hit)),
    ]
    limits = [
        Line(f"VaR{at}", x, own["var"].to_numpy(), ORANGE, step=True),
        Line(f"CVaR{at}", x, own["cvar"].to_numpy(), RED, dashed=True, step=True),
    ]
    panels = [Panel([*limits, *losses], "loss of the horizon, % of NAV", height=2.6)]
    realised = own["realised_volatility"]
    predicted = Line("predicted volatility", x, own["volatility"].to_numpy(), GREEN, step=True)
    if realised.notna().any():
        came = Line("realised volatility", x, realised.to_numpy(), BLUE)
        panels.append(Panel([came, predicted], "volatility of the horizon, %", height=1.7))
    else:
        z = pd.Series((own["realised"] / own["volatility"]).to_numpy())
        length = min(len(z), 60)
        rolling = z.rolling(length, min_periods=min(length, 12)).std().to_numpy()
        line = Line("realised over predicted", x, rolling, BLUE)
        unit = f"volatility, realised / predicted, {length} horizons"
        panels.append(Panel([line, Level(1.0, "as predicted")], unit, "number", height=1.7))
    return Chart(
        "forecasts", "Risk as predicted, and what came", panels,
        "Each point is the loss (up) over one horizon after the trade, with no session counted twice, against what the "
        "decision had predicted for it.",
    )  # fmt: skip


def drift_chart(validation: Validation) -> Chart:
    """How far the held weights were from their targets, by session."""
    drift = validation.drift
    line = Line("distance from target", drift.index, drift.to_numpy(), BLUE, width=1.0, filled=True)
    return Chart(
        "drift", "Distance of the book from its targets", [Panel([line], "% of NAV, one way", height=1.5)],
        "What would have to be traded one way to be on target: half the sum of absolute differences, cash among them.",
    )  # fmt: skip


def adherence_chart(validation: Validation) -> Chart:
    """The largest violation of any limit at every decision, beside what counts as broken."""
    worst = validation.adherence["max_violation"].dropna()
    values = np.maximum(worst.to_numpy(), _NOTHING)
    broken = values > VIOLATED
    layers: list[Points | Level] = [
        Points(name, worst.index[part], values[part], colour, size=4.0)
        for name, part, colour in (("kept", ~broken, BLUE), ("broken", broken, RED))
        if part.any()
    ]
    layers.append(Level(VIOLATED, "counts as broken", RED))
    return Chart(
        "adherence", "Largest violation of any limit, decision by decision",
        [Panel(layers, "violation, logarithmic", "number", log=True, height=1.5)],
        f"In units of the limit that it belongs to; what is below {_NOTHING:g} is drawn there.",
    )  # fmt: skip


def binding_chart(validation: Validation, *, top: int = 12) -> Chart:
    """How often limits bound in every calendar year, as shares of its decisions; the `top` most frequent limits."""
    solved = validation.adherence[validation.adherence["max_violation"].notna()]
    dates = solved.index
    assert isinstance(dates, pd.DatetimeIndex)
    names = [str(name) for name in validation.binding.index[:top]]
    bound = solved["binding"].fillna("").map(binding_names)
    shares = pd.DataFrame({name: bound.map(lambda found, n=name: n in found) for name in names}, index=dates)
    by_year = shares.astype(np.float64).groupby(dates.year).mean().rename_axis(index=None).T
    by_year.columns = [str(year) for year in by_year.columns]
    return Chart(
        "binding", "How often limits bind, % of the decisions of a year",
        [Panel([Heat(by_year, digits=0, around=None)], "", height=max(1.0, 0.27 * len(by_year)))],
    )  # fmt: skip


def stress_chart(validation: Validation) -> Chart:
    """Returns of book and benchmark in windows of stress, side by side."""
    stress = validation.stress
    names = [str(name).replace("_", " ") for name in stress.index]
    panel_bars = [Bars("book", names, stress["return"].to_numpy(), BLUE)]
    layers: list[Bars | Points] = [*panel_bars]
    if stress["benchmark"].notna().any():
        layers.append(Points("benchmark", names, stress["benchmark"].to_numpy(), RED, size=6.0))
    panel = Panel(layers, "return over the window, %", sideways=True, height=0.4 + 0.28 * len(names))
    return Chart("stress", "Return in windows of stress", [panel])


def contributions_chart(contributions: pd.Series, *, growth: float | None = None, top: int = 20) -> Chart:
    """Contributions to the return of the whole run, the largest first; the smallest in size are summed.

    With `growth`, the growth rate of the run, they are scaled to sum to that: what each added a year.
    """
    total = float(contributions.sum())
    unit = "contribution to the total return, %"
    note = f"Contributions are linked over time so that they sum to the total return, {100.0 * total:,.1f} %."
    if growth is not None and abs(total) > 1e-9:
        contributions = contributions * (growth / total)
        unit = "contribution to the growth rate, % a year"
        note = f"Contributions are linked over time so that they sum to the growth rate, {100.0 * growth:.2f} % a year."
    order = contributions.abs().sort_values(ascending=False, kind="stable").index
    kept = contributions.loc[order[:top]].sort_values(ascending=False, kind="stable")
    names, values = [str(name) for name in kept.index], kept.to_list()
    if len(order) > top:
        names.append(f"{len(order) - top} others")
        values.append(float(contributions.loc[order[top:]].sum()))
    colours = [BLUE if value >= 0.0 else RED for value in values]
    panel = Panel(
        [Bars("contribution", names, values, colours, legend=False)], unit,
        sideways=True, height=0.4 + 0.23 * len(names),
    )  # fmt: skip
    return Chart(
        "contributions", "Contribution to the return, by asset and cost", [panel],
        note,
    )  # fmt: skip


def yearly_chart(by_year: pd.DataFrame) -> Chart:
    """Contributions to the return of every calendar year as a table of colours; the last column is their sum."""
    frame = by_year.set_axis([str(year) for year in by_year.index], axis=0)
    small = [name for name in frame.columns[:-1] if frame[name].abs().max() < 5e-5]
    frame = frame.drop(columns=small).set_axis([str(c) for c in frame.columns if c not in small], axis=1)
    return Chart(
        "years", "Contribution to the return of every year, %",
        [Panel([Heat(frame, apart=1)], "", height=max(1.2, 0.27 * len(frame)))],
        "Linked over the sessions of a year so that they sum to its return, in the last column.",
    )  # fmt: skip


def worst_sessions_chart(by_session: pd.DataFrame, worst: pd.DatetimeIndex, *, top: int = 8) -> Chart:
    """What made the worst sessions: contributions stacked."""
    parts = -by_session.loc[worst]
    order = parts.abs().sum().sort_values(ascending=False, kind="stable").index
    shown = parts[order[:top]].set_axis([str(name) for name in order[:top]], axis=1)
    if len(order) > top:
        shown = shown.assign(others=parts[order[top:]].sum(axis=1))
    names = [label(date) for date in worst]
    bars = [
        Bars(str(name), names, shown[name].to_numpy(), colour)
        for name, colour in zip(shown.columns, palette(list(shown.columns)), strict=True)
    ]
    panel = Panel(bars, "loss, % of NAV", sideways=True, height=0.4 + 0.27 * len(names))
    return Chart("worst", "What made the worst sessions", [panel], "Losses to the right; gains are left of zero.")


def risk_free(backtest: Backtest) -> float | pd.Series:
    """What cash earned by session, as the backtest's own figures take it."""
    rate = backtest.risk_free
    return 0.0 if rate is None else pd.Series(rate[1:], backtest.nav.index[1:])


def _worth(backtest: Backtest) -> pd.Series:
    """The worth of the first capital: NAV without what was paid in and out."""
    if not (backtest.flows.iloc[1:] != 0.0).any():
        return backtest.nav.where(backtest.nav > 0.0)  # a logarithmic axis has no place for less
    returns = backtest.returns
    first = float(backtest.nav.iloc[0]) / (1.0 + float(returns.iloc[0]))
    worth = (1.0 + returns.clip(lower=-1.0)).cumprod() * first
    return worth.where(worth > 0.0)


def _some(texts: list[str], which: np.ndarray) -> list[str]:
    return [text for text, taken in zip(texts, which, strict=True) if taken]

"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from rich import box
from rich.markup import escape
from rich.table import Table

from portfolioopt.attribution import group_contributions
from portfolioopt.solve import Result

from .figures import (
    constraint_lines,
    credit_note,
    headline,
    measures,
    money,
    percent,
    percent_digits,
    positions,
)


def summary_table(result: Result, *, trades: pd.DataFrame | None = None, nav: float = 1.0) -> Table:
    """Headline figures: the certificate first, then return, risk, trading and time.

    Parameters
    ----------
    result
        A result with weights.
    trades
        What `portfolioopt.rebalance.plan_trades` returned, for turnover and cost.
    nav
        Net asset value the trades were planned with.
    """
    table = _table("Result", show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(style="dim")
    for name, (value, remark) in headline(result, trades, nav).items():
        style = ("green" if value == "optimal" else "yellow") if name == "status" else ""
        table.add_row(name, f"[{style}]{escape(value)}[/]" if style else escape(value), escape(remark))
    t = result.timings
    table.add_row(
        "time",
        f"{t.total:.2f} s",
        f"compiling {t.compile:.2f} s, solving {t.solve:.2f} s ({result.iterations} iterations), certifying "
        f"{t.certify:.2f} s",
    )
    return table


def weights_table(
    result: Result,
    contributions: pd.DataFrame,
    *,
    labels: pd.Series | Mapping[str, str] | None = None,
    top: int = 20,
) -> Table:
    """Positions by weight, beside what they were and their share of each risk.

    Parameters
    ----------
    result
        A result with weights.
    contributions
        What `portfolioopt.attribution.risk_contributions` returned for these weights.
    labels
        Group of each asset, such as its sector.
    top
        Rows to show; the others are summed in one.
    """
    frame = positions(result, contributions, labels)
    risks = measures(contributions)
    columns = ["holding", "weight", *((measure, "share") for measure in risks)]
    if result.problem.holdings is None:
        columns.remove("holding")
    table = _table("Weights")
    table.add_column("asset", no_wrap=True)
    if labels is not None:
        table.add_column("group", style="dim")
    for column in columns:
        table.add_column(column if isinstance(column, str) else f"share of\n{column[0]}", justify="right", no_wrap=True)
    for asset, row in frame.head(top).iterrows():
        label = [] if labels is None else [escape(str(row["label"]))]
        table.add_row(escape(str(asset)), *label, *(percent(row[column]) for column in columns))
    rest = frame.iloc[top:]
    blank = [] if labels is None else [""]
    if len(rest):
        table.add_row(f"{len(rest)} more", *blank, *(percent(rest[column].sum()) for column in columns), style="dim")
    table.add_section()
    table.add_row("total", *blank, *(percent(frame[column].sum()) for column in columns), style="bold")
    return table


def constraints_table(result: Result, *, top: int = 20) -> Table:
    """Limits that bind, with their shadow prices, and how far the portfolio is from the others.

    Limits on single assets are shown only where they bind, the `top` most expensive of them.
    """
    frame, hidden = constraint_lines(result, top)
    digits = percent_digits(frame["limit"])
    table = _table("Constraints", caption="price: basis points of objective per percentage point of looser limit")
    table.add_column("constraint", no_wrap=True)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("limit", justify="right", no_wrap=True)
    table.add_column("slack", justify="right", no_wrap=True)
    table.add_column("price, bp", justify="right", no_wrap=True)
    for _, row in frame.iterrows():
        binding = bool(row["binding"])
        table.add_row(
            escape(str(row["name"])),
            percent(row["value"], digits),
            row["sense"],
            percent(row["limit"], digits),
            "binding" if binding else percent(row["slack"], digits),
            f"{row['shadow_price']:.3f}" if binding else "",
            style="" if binding else "dim",
        )
    if hidden:
        table.add_row(f"{hidden} more on single assets", "", "", "", "binding", "", style="dim")
    return table


def trades_table(trades: pd.DataFrame, *, top: int = 20) -> Table:
    """Trades in the order of execution.

    Parameters
    ----------
    trades
        What `portfolioopt.rebalance.plan_trades` returned.
    top
        Rows to show.
    """
    table = _table("Trades, in this order", caption=credit_note(trades))
    table.add_column("", justify="right", style="dim")
    table.add_column("side")
    table.add_column("asset", no_wrap=True)
    names = ["from", "to", "trade", "value", "cost", "cash after"]
    quantities = "quantity" in trades.columns
    if quantities:
        names.insert(4, "units")
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for asset, row in trades.head(top).iterrows():
        cells = [percent(row["holding"]), percent(row["target"]), percent(row["trade"]), money(row["value"])]
        if quantities:
            cells.append(f"{row['quantity']:,.1f}")
        cells += [money(row["cost"]), percent(row["cash_after"])]
        side = f"[{'green' if row['side'] == 'buy' else 'red'}]{row['side']}[/]"
        table.add_row(str(row["order"]), side, escape(str(asset)), *cells)
    rest = trades.iloc[top:]
    if len(rest):
        table.add_row("", "", f"{len(rest)} more", *[""] * len(names), style="dim")
    return table


def groups_table(contributions: pd.DataFrame, labels: pd.Series | Mapping[str, str]) -> Table:
    """Weight, risk contributions and shares by group.

    Parameters
    ----------
    contributions
        What `portfolioopt.attribution.risk_contributions` returned.
    labels
        Group of each asset, such as its sector.
    """
    groups = group_contributions(contributions, labels)
    risks = measures(contributions)
    table = _table("Risk by group")
    table.add_column("group")
    table.add_column("weight", justify="right", no_wrap=True)
    for measure in risks:
        table.add_column(measure, justify="right", no_wrap=True)
        table.add_column("share", justify="right", no_wrap=True)
    by_measure = [groups[groups["measure"] == measure].set_index("group") for measure in risks]
    order = by_measure[0].sort_values("share", ascending=False, kind="stable").index
    by_measure = [own.loc[order] for own in by_measure]
    weight = by_measure[0]["weight"]
    for i, group in enumerate(order):
        cells = [escape(str(group)), percent(weight.iloc[i])]
        for own in by_measure:
            cells += [percent(own["contribution"].iloc[i], 3), percent(own["share"].iloc[i])]
        table.add_row(*cells)
    table.add_section()
    cells = ["total", percent(weight.sum())]
    for own in by_measure:
        cells += [percent(own["contribution"].sum(), 3), percent(own["share"].sum())]
    table.add_row(*cells, style="bold")
    return table


def _table(title: str, *, show_header: bool = True, caption: str | None = None) -> Table:
    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        caption=caption,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        show_header=show_header,
        pad_edge=False,
    )

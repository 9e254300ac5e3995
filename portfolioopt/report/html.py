"""One page of HTML about a result, complete in itself: no scripts, nothing loaded from anywhere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from portfolioopt.attribution import group_contributions
from portfolioopt.rebalance import trade_summary
from portfolioopt.solve import Result, Status

from .canvas import inline_svg
from .changes import changes_section
from .figures import (
    MINUS,
    certified,
    constraint_lines,
    credit_note,
    headline,
    largest_parts,
    measures,
    money,
    percent,
    percent_digits,
    positions,
    tail_share,
)
from .page import Cell, Page, cards, label, minus, number, save, signed, table, text
from .pictures import contribution_bars, loss_histogram
from .result_charts import tail_chart

_TOP_TRADES = 200  # rows of the trade list on the page; the file has all of them


def write_report(
    path: str | Path,
    result: Result,
    *,
    contributions: pd.DataFrame,
    trades: pd.DataFrame | None = None,
    nav: float = 1.0,
    labels: pd.Series | Mapping[str, str] | None = None,
    title: str = "Portfolio",
    facts: Mapping[str, object] | None = None,
    source: str | None = None,
    top: int = 20,
    pictures: bool = True,
    previous: Result | pd.Series | None = None,
) -> Path:
    """Write a report on one result as a single HTML page.

    Parameters
    ----------
    path
        File to write; replaced as a whole where it exists.
    result
        A result with weights.
    contributions
        What `portfolioopt.attribution.risk_contributions` returned for these weights.
    trades
        What `portfolioopt.rebalance.plan_trades` returned; no section on trades where None.
    nav
        Net asset value the trades were planned with.
    labels
        Group of each asset, such as its sector.
    title
        Heading of the page.
    facts
        What the run depended on, name to value: data, seed, versions.
    source
        The text of the configuration, to be shown at the end.
    top
        Bars of the picture and rows of the longer tables; the others are summed in one row.
    pictures
        Draw pictures, which needs matplotlib.
    previous
        The result of the last time, or its target weights, for a section on what has changed since.

    Returns
    -------
    Path
        The file written.
    """
    certified(result)
    page = Page(title)
    for section in (
        _head(title, result, trades, nav),
        _pictures(result, contributions, labels, top) if pictures else "",
        _weights(result, contributions, labels, top),
        "" if previous is None else changes_section(result, previous, top),
        _constraints(result, top),
        "" if trades is None else _trades(trades, nav),
        _groups(contributions, labels) if labels is not None else "",
        _assets(contributions, labels, top),
        _worst(result, pictures),
        _facts(result, facts or {}, source),
    ):
        page.add(section)
    return save(path, page.text())


# -- sections ----------------------------------------------------------------------------------------------------


def _head(title: str, result: Result, trades: pd.DataFrame | None, nav: float) -> str:
    figures = headline(result, trades, nav)
    status, message = figures.pop("status")
    warn = "" if result.status is Status.optimal else " warn"
    return (
        f'<h1>{text(title)}<span class="badge{warn}">{text(status)}</span></h1>\n'
        f'<p class="lead">{text(message[:1].upper() + message[1:])}</p>\n{cards(figures)}'
    )


def _pictures(
    result: Result, contributions: pd.DataFrame, labels: pd.Series | Mapping[str, str] | None, top: int
) -> str:
    bars = inline_svg(
        contribution_bars(result, contributions, labels, top=top), "bars", "Weight and share of risk by asset"
    )
    losses = inline_svg(loss_histogram(result), "losses", "Distribution of the scenario losses")
    return (
        f"<h2>Where the money is, and where the risk comes from</h2>\n<figure>{bars}</figure>\n"
        f"<h2>What may be lost</h2>\n<figure>{losses}</figure>"
    )


def _weights(
    result: Result, contributions: pd.DataFrame, labels: pd.Series | Mapping[str, str] | None, top: int
) -> str:
    frame = positions(result, contributions, labels)
    risks = measures(contributions)
    traded = result.problem.holdings is not None
    largest = max(float(frame["weight"].abs().max()), 1e-12) if len(frame) else 1.0

    def row(name: str, group: str, numbers: pd.Series, bar: bool) -> list[Cell]:
        cells = [Cell(name)] + ([Cell(group)] if labels is not None else [])
        if traded:
            cells += [number(percent(numbers["holding"]))]
        part = abs(float(numbers["weight"])) / largest if bar else None
        cells.append(Cell(minus(percent(numbers["weight"])), "n bar" if bar else "n", part))
        if traded:
            cells.append(number(signed(numbers["weight"] - numbers["holding"])))
        return cells + [number(percent(numbers[measure, "share"])) for measure in risks]

    columns = ["weight", "holding", *((measure, "share") for measure in risks)]
    rows = [row(str(asset), str(line["label"]), line, True) for asset, line in frame.head(top).iterrows()]
    kinds = [""] * len(rows)
    rest = frame.iloc[top:]
    if len(rest):
        rows.append(row(f"{len(rest)} more", "", rest[columns].sum(), False))
        kinds.append("rest")
    rows.append(row("total", "", frame[columns].sum(), False))
    kinds.append("total")
    names = ["asset"] + (["group"] if labels is not None else []) + (["holding"] if traded else []) + ["weight"]
    names += (["trade"] if traded else []) + [f"share of {measure}" for measure in risks]
    first = 2 if labels is not None else 1
    return f"<h2>Weights</h2>\n{table(names, rows, kinds, numbers_from=first)}"


def _constraints(result: Result, top: int) -> str:
    shown, hidden = constraint_lines(result, top)
    if shown.empty:
        return ""
    digits = percent_digits(shown["limit"])
    rows = [
        [
            Cell(str(line["name"])),
            number(percent(line["value"], digits)),
            Cell({"<=": "≤", ">=": "≥", "==": "="}[str(line["sense"])]),
            number(percent(line["limit"], digits)),
            number("binding" if line["binding"] else percent(line["slack"], digits)),
            number(f"{line['shadow_price']:.3f}" if line["binding"] else ""),
        ]
        for _, line in shown.iterrows()
    ]
    kinds = ["" if binding else "free" for binding in shown["binding"]]
    lines = table(["constraint", "value", "", "limit", "slack", "shadow price, bp"], rows, kinds, numbers_from=1)
    note = (
        "The shadow price is what the objective gains, in basis points, when the limit is loosened by one percentage "
        "point of NAV; for an equality, when its right-hand side is raised by that. Limits on single assets are "
        "listed where they bind."
    )
    more = f' <p class="note">{hidden} more limits on single assets bind.</p>' if hidden else ""
    return f'<h2>Constraints</h2>\n<p class="note">{note}</p>\n{lines}{more}'


def _trades(trades: pd.DataFrame, nav: float) -> str:
    total = trade_summary(trades, nav)
    if trades.empty:
        return "<h2>Trades</h2>\n<p>None: the holdings are the target already.</p>"
    words = (
        f"{len(trades)} trades, in this order: turnover {percent(total['turnover'])} of NAV (buys "
        f"{percent(total['buys'])}, sells {percent(total['sells'])}), cost {money(total['cost'])} or "
        f"{total['cost_bps']:.2f} basis points of NAV {money(nav)}."
    )
    quantities = "quantity" in trades.columns
    names = ["", "side", "asset", "from", "to", "trade", "value"] + (["units"] if quantities else [])
    names += ["cost", "cash after"]
    rows = []
    for asset, line in trades.head(_TOP_TRADES).iterrows():
        cells = [
            Cell(str(line["order"])),
            Cell(str(line["side"]), str(line["side"])),
            Cell(str(asset)),
            number(percent(line["holding"])),
            number(percent(line["target"])),
            number(signed(line["trade"])),
            number(money(line["value"])),
        ]
        if quantities:
            cells.append(number(f"{line['quantity']:,.1f}"))
        rows.append([*cells, number(money(line["cost"])), number(percent(line["cash_after"]))])
    kinds = [""] * len(rows)
    if len(trades) > _TOP_TRADES:
        rows.append([Cell(""), Cell(""), Cell(f"{len(trades) - _TOP_TRADES} more"), *[Cell("")] * (len(names) - 3)])
        kinds.append("rest")
    blank = [number("")] * (1 if quantities else 0)
    summed = [number(signed(trades["trade"].sum())), number(money(trades["value"].sum())), *blank]
    rows.append(
        [Cell(""), Cell(""), Cell("total"), *[number("")] * 2, *summed, number(money(total["cost"])), number("")]
    )
    kinds.append("total")
    note = credit_note(trades)
    words += f" {note.replace(' -', f' {MINUS}')}" if note else ""
    return f"<h2>Trades</h2>\n<p>{text(words)}</p>\n{table(names, rows, kinds, numbers_from=3)}"


def _groups(contributions: pd.DataFrame, labels: pd.Series | Mapping[str, str]) -> str:
    groups = group_contributions(contributions, labels).rename(columns={"group": "name"})
    return f"<h2>Risk by group</h2>\n{_contributions(groups, 'group', len(groups))}"


def _assets(contributions: pd.DataFrame, labels: pd.Series | Mapping[str, str] | None, top: int) -> str:
    note = (
        "The contributions of all assets sum to the risk of the portfolio; a negative one lowers it. The marginal "
        "risk is what one more unit of weight adds."
    )
    frame = contributions.rename(columns={"asset": "name"})
    return f'<h2>Risk by asset</h2>\n<p class="note">{note}</p>\n{_contributions(frame, "asset", top)}'


def _contributions(frame: pd.DataFrame, what: str, top: int) -> str:
    """Weight, and for each measure contribution and share, by asset or group."""
    risks = measures(frame)
    columns = [name for name in ("marginal", "contribution", "share") if name in frame.columns]
    tables = {m: frame[frame["measure"] == m].set_index("name") for m in risks}
    order = tables[risks[0]].sort_values("share", ascending=False, kind="stable").index
    digits = {"marginal": 3, "contribution": 3, "share": 2}

    def row(name: str, weight: float, values: Mapping[str, pd.Series], sums: bool) -> list[Cell]:
        cells = [Cell(name), number(percent(weight))]
        for measure in risks:
            for column in columns:
                empty = sums and column == "marginal"
                cells.append(number("" if empty else percent(float(values[measure][column]), digits[column])))
        return cells

    weights = tables[risks[0]]["weight"]
    rows = [row(str(n), float(weights[n]), {m: tables[m].loc[n] for m in risks}, False) for n in order[:top]]
    kinds = [""] * len(rows)
    rest = order[top:]
    if len(rest):
        sums = {m: tables[m].loc[rest, columns].sum() for m in risks}
        rows.append(row(f"{len(rest)} more", float(weights[rest].sum()), sums, True))
        kinds.append("rest")
    rows.append(row("total", float(weights.sum()), {m: tables[m][columns].sum() for m in risks}, True))
    kinds.append("total")
    over = [("", 2), *((measure, len(columns)) for measure in risks)]
    return table([what, "weight", *columns * len(risks)], rows, kinds, numbers_from=1, over=over)


def _worst(result: Result, pictures: bool) -> str:
    level = next((float(str(beta)) for beta in result.risk.index), 0.95)
    if result.problem.scenarios.form is not None:
        return ""  # mean and covariance alone know no scenarios
    frame = result.tail_scenarios(level, n=10)
    stories = largest_parts(result, frame.index, 3)
    names = ["scenario", "loss", "probability", "share of tail", "worst asset", "its part of the loss", "what hurt"]
    rows = [
        [
            Cell(label(scenario)),
            number(percent(line["loss"])),
            number(percent(line["probability"], 3)),
            number(percent(line["tail_probability"])),
            Cell(str(line["worst_asset"])),
            number(percent(line["worst_asset_loss"])),
            Cell(story, "wrap"),
        ]
        for (scenario, line), story in zip(frame.iterrows(), stories, strict=True)
    ]
    note = (
        f"The share of the tail is what a scenario counts in the CVaR at {100 * level:g} %, the mean of the worst "
        f"{tail_share(level)}. What hurt: the assets that lost most in it, and what they took off NAV."
    )
    lines = table(names, rows, numbers_from=1, text_columns={4, 6})
    picture = ""
    if pictures:
        chart = tail_chart(result, level)
        picture = f"\n<figure>{inline_svg(chart.matplotlib(), chart.name, chart.title)}</figure>"
    return f'<h2>Worst scenarios</h2>\n<p class="note">{text(note)}</p>\n{lines}{picture}'


def _facts(result: Result, facts: Mapping[str, object], source: str | None) -> str:
    t, scenarios = result.timings, result.problem.scenarios
    rows: dict[str, object] = {
        "objective, maximised": str(result.problem.objective),
        "scenarios": f"{scenarios.n_scenarios:,} x {scenarios.n_assets} assets"
        + (f", horizon {scenarios.horizon}" if scenarios.horizon else ""),
        **facts,
        "time": (
            f"compiling {t.compile:.2f} s, solving {t.solve:.3f} s ({result.iterations} iterations), certifying "
            f"{t.certify:.3f} s"
        ),
    }
    lines = table(["", ""], [[Cell(name), Cell(str(value), "wrap")] for name, value in rows.items()])
    origin = (
        f"\n<details><summary>Configuration</summary><pre>{text(source)}</pre></details>" if source is not None else ""
    )
    return f"<h2>The run</h2>\n{lines}{origin}"

"""One page of HTML about a result, complete in itself: no scripts, nothing loaded from anywhere."""

from __future__ import annotations

import html
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from portfolioopt.attribution import group_contributions
from portfolioopt.rebalance import trade_summary
from portfolioopt.solve import Result, Status

from .figures import (
    MINUS,
    certified,
    constraint_lines,
    credit_note,
    headline,
    measures,
    money,
    percent,
    percent_digits,
    positions,
    tail_share,
)
from .pictures import contribution_bars, inline_svg, loss_histogram
from .style import CSS

_TOP_TRADES = 200  # rows of the trade list on the page; the file has all of them


@dataclass(frozen=True)
class _Cell:
    """A cell of a table: its text, and how it looks."""

    text: str
    kind: str = ""  # CSS class
    part: float | None = None  # length of the bar behind the text, as a fraction of the cell


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

    Returns
    -------
    Path
        The file written.
    """
    certified(result)
    sections = [
        _head(title, result, trades, nav),
        _pictures(result, contributions, labels, top) if pictures else "",
        _weights(result, contributions, labels, top),
        _constraints(result, top),
        "" if trades is None else _trades(trades, nav),
        _groups(contributions, labels) if labels is not None else "",
        _assets(contributions, labels, top),
        _worst(result),
        _facts(result, facts or {}, source),
    ]
    page = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n"
        + "\n".join(section for section in sections if section)
        + "\n</body>\n</html>\n"
    )
    path = Path(path)
    # a reader sees the old page or the new one, never half of one
    draft = path.with_name(f".{path.name}.part")
    draft.write_text(page, encoding="utf-8")
    os.replace(draft, path)
    return path


# -- sections ----------------------------------------------------------------------------------------------------


def _head(title: str, result: Result, trades: pd.DataFrame | None, nav: float) -> str:
    figures = headline(result, trades, nav)
    status, message = figures.pop("status")
    warn = "" if result.status is Status.optimal else " warn"
    cards = "".join(
        f'<div class="card"><div class="name">{_text(name)}</div><div class="value">{_text(_minus(value))}</div>'
        f'<div class="remark">{_text(remark)}</div></div>'
        for name, (value, remark) in figures.items()
    )
    return (
        f'<h1>{_text(title)}<span class="badge{warn}">{_text(status)}</span></h1>\n'
        f'<p class="lead">{_text(message[:1].upper() + message[1:])}</p>\n<div class="cards">{cards}</div>'
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

    def row(name: str, label: str, numbers: pd.Series, bar: bool) -> list[_Cell]:
        cells = [_Cell(name)] + ([_Cell(label)] if labels is not None else [])
        if traded:
            cells += [_number(percent(numbers["holding"]))]
        part = abs(float(numbers["weight"])) / largest if bar else None
        cells.append(_Cell(_minus(percent(numbers["weight"])), "n bar" if bar else "n", part))
        if traded:
            cells.append(_number(_signed(numbers["weight"] - numbers["holding"])))
        return cells + [_number(percent(numbers[measure, "share"])) for measure in risks]

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
    return f"<h2>Weights</h2>\n{_table(names, rows, kinds, numbers_from=first)}"


def _constraints(result: Result, top: int) -> str:
    shown, hidden = constraint_lines(result, top)
    if shown.empty:
        return ""
    digits = percent_digits(shown["limit"])
    rows = [
        [
            _Cell(str(line["name"])),
            _number(percent(line["value"], digits)),
            _Cell({"<=": "≤", ">=": "≥", "==": "="}[str(line["sense"])]),
            _number(percent(line["limit"], digits)),
            _number("binding" if line["binding"] else percent(line["slack"], digits)),
            _number(f"{line['shadow_price']:.3f}" if line["binding"] else ""),
        ]
        for _, line in shown.iterrows()
    ]
    kinds = ["" if binding else "free" for binding in shown["binding"]]
    table = _table(["constraint", "value", "", "limit", "slack", "shadow price, bp"], rows, kinds, numbers_from=1)
    note = (
        "The shadow price is what the objective gains, in basis points, when the limit is loosened by one percentage "
        "point of NAV; for an equality, when its right-hand side is raised by that. Limits on single assets are "
        "listed where they bind."
    )
    more = f' <p class="note">{hidden} more limits on single assets bind.</p>' if hidden else ""
    return f'<h2>Constraints</h2>\n<p class="note">{note}</p>\n{table}{more}'


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
            _Cell(str(line["order"])),
            _Cell(str(line["side"]), str(line["side"])),
            _Cell(str(asset)),
            _number(percent(line["holding"])),
            _number(percent(line["target"])),
            _number(_signed(line["trade"])),
            _number(money(line["value"])),
        ]
        if quantities:
            cells.append(_number(f"{line['quantity']:,.1f}"))
        rows.append([*cells, _number(money(line["cost"])), _number(percent(line["cash_after"]))])
    kinds = [""] * len(rows)
    if len(trades) > _TOP_TRADES:
        rows.append([_Cell(""), _Cell(""), _Cell(f"{len(trades) - _TOP_TRADES} more"), *[_Cell("")] * (len(names) - 3)])
        kinds.append("rest")
    blank = [_number("")] * (1 if quantities else 0)
    summed = [_number(_signed(trades["trade"].sum())), _number(money(trades["value"].sum())), *blank]
    rows.append(
        [_Cell(""), _Cell(""), _Cell("total"), *[_number("")] * 2, *summed, _number(money(total["cost"])), _number("")]
    )
    kinds.append("total")
    note = credit_note(trades)
    words += f" {note.replace(' -', ' ' + MINUS)}" if note else ""
    return f"<h2>Trades</h2>\n<p>{_text(words)}</p>\n{_table(names, rows, kinds, numbers_from=3)}"


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

    def row(name: str, weight: float, values: Mapping[str, pd.Series], sums: bool) -> list[_Cell]:
        cells = [_Cell(name), _number(percent(weight))]
        for measure in risks:
            for column in columns:
                empty = sums and column == "marginal"
                cells.append(_number("" if empty else percent(float(values[measure][column]), digits[column])))
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
    return _table([what, "weight", *columns * len(risks)], rows, kinds, numbers_from=1, over=over)


def _worst(result: Result) -> str:
    level = next((float(str(beta)) for beta in result.risk.index), 0.95)
    frame = result.tail_scenarios(level, n=10)
    names = ["scenario", "loss", "probability", "share of tail", "worst asset", "its part of the loss"]
    rows = [
        [
            _Cell(_label(scenario)),
            _number(percent(line["loss"])),
            _number(percent(line["probability"], 3)),
            _number(percent(line["tail_probability"])),
            _Cell(str(line["worst_asset"])),
            _number(percent(line["worst_asset_loss"])),
        ]
        for scenario, line in frame.iterrows()
    ]
    note = (
        f"The share of the tail is what a scenario counts in the CVaR at {100 * level:g} %, the mean of the worst "
        f"{tail_share(level)}."
    )
    table = _table(names, rows, [""] * len(rows), numbers_from=1, text_columns={4})
    return f'<h2>Worst scenarios</h2>\n<p class="note">{_text(note)}</p>\n{table}'


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
    table = _table(["", ""], [[_Cell(name), _Cell(str(value))] for name, value in rows.items()], [""] * len(rows))
    text = (
        f"\n<details><summary>Configuration</summary><pre>{_text(source)}</pre></details>" if source is not None else ""
    )
    return f"<h2>The run</h2>\n{table}{text}"


# -- pieces ------------------------------------------------------------------------------------------------------


def _table(
    names: Sequence[str],
    rows: Iterable[Sequence[_Cell]],
    kinds: Iterable[str],
    *,
    numbers_from: int | None = None,
    text_columns: frozenset[int] | set[int] = frozenset(),
    over: Sequence[tuple[str, int]] = (),
) -> str:
    """A table; columns from `numbers_from` on have their headings over numbers, on the right.

    `over` are headings above the headings, each with the number of columns that it spans.
    """
    first = len(names) if numbers_from is None else numbers_from
    head = ""
    if any(names):
        cells = (
            f'<th scope="col"{_class("n" if i >= first and i not in text_columns and name else "")}>{_text(name)}</th>'
            for i, name in enumerate(names)
        )
        upper = "".join(f'<th scope="colgroup" class="over" colspan="{span}">{_text(name)}</th>' for name, span in over)
        head = f"<thead>{f'<tr>{upper}</tr>' if over else ''}<tr>{''.join(cells)}</tr></thead>\n"
    body = "\n".join(
        f"<tr{_class(kind)}>{''.join(_cell(cell) for cell in row)}</tr>" for row, kind in zip(rows, kinds, strict=True)
    )
    return (
        f'<div class="scroll"><table{_class("dense" if over else "")}>\n{head}<tbody>\n{body}\n</tbody></table></div>'
    )


def _cell(cell: _Cell) -> str:
    bar = "" if cell.part is None else f' style="--part: {100.0 * cell.part:.1f}%"'
    return f"<td{_class(cell.kind)}{bar}>{_text(cell.text)}</td>"


def _number(text: str) -> _Cell:
    return _Cell(_minus(text), "n")


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""


def _signed(value: float) -> str:
    text = percent(float(value))
    return f"+{text}" if value > 0 and any(digit in text for digit in "123456789") else text


def _minus(text: str) -> str:
    """Typographic minus signs in front of numbers."""
    return f"{MINUS}{text[1:]}" if text[:1] == "-" and text[1:2].isdigit() else text


def _label(scenario: object) -> str:
    if isinstance(scenario, pd.Timestamp) and scenario == scenario.normalize():
        return f"{scenario:%Y-%m-%d}"
    return str(scenario)


def _text(value: str) -> str:
    return html.escape(value, quote=True)

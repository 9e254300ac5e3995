"""One page of HTML about a backtest, for those who decide on it: complete in itself, readable offline and on paper."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from portfolioopt.backtest import Backtest
from portfolioopt.backtest.drawdowns import drawdown_table
from portfolioopt.backtest.metrics import monthly_returns
from portfolioopt.backtest.validation import Validation, validate
from portfolioopt.errors import InputError

from .backtest_sections import (
    failures_section,
    last_section,
    limits_section,
    metrics_section,
    risk_section,
    stress_section,
    worst_section,
)
from .book_figures import (
    SETTINGS,
    Explained,
    cost_table,
    explained,
    last_rebalance,
    setting_text,
    settings_in_words,
)
from .charts import (
    contributions_chart,
    costs_chart,
    monthly_chart,
    nav_chart,
    rolling_chart,
    weights_chart,
    yearly_chart,
)
from .figures import counted, day, money, percent
from .page import Cell, Page, cards, contents, label, number, paragraph, save, signed, table, text


def write_backtest_report(
    path: str | Path,
    backtest: Backtest,
    *,
    title: str,
    labels: pd.Series | Mapping[str, str] | None = None,
    validation: Validation | None = None,
    facts: Mapping[str, object] | None = None,
    top: int = 20,
    interactive: bool = True,
) -> Path:
    """Write a report on one backtest as a single HTML page.

    Parameters
    ----------
    path
        File to write; replaced as a whole where it exists.
    backtest
        A run.
    title
        Heading of the page.
    labels
        Group of each asset, such as its sector.
    validation
        What `portfolioopt.backtest.validation.validate` found; made here where None.
    facts
        What else the run depended on, name to value: data, versions.
    top
        Rows of the longer tables and bars of the charts; the others are summed.
    interactive
        Charts by plotly, whose code is written into the page, some 5 MB (the extra ``report``). Where False, still
        pictures by matplotlib and no script at all.

    Returns
    -------
    Path
        The file written. It loads nothing from anywhere.
    """
    if not isinstance(backtest, Backtest):
        raise InputError(
            f"write_backtest_report takes a Backtest, was given {type(backtest).__name__}; a BacktestGrid goes to "
            "write_grid_report"
        )
    if top < 1:
        raise InputError(f"top must be at least 1, was {top}")
    found = validate(backtest) if validation is None else validation
    parts = explained(backtest)
    page = Page(title, interactive)
    page.add(_head(title, backtest))
    place = len(page.sections)
    _did(page, backtest, facts or {})
    _performance(page, backtest)
    _holdings(page, backtest, labels)
    _costs(page, backtest)
    risk_section(page, found)
    limits_section(page, backtest, found)
    _contributions(page, backtest, parts, labels, top)
    worst_section(page, backtest, parts)
    stress_section(page, backtest, found)
    failures_section(page, backtest)
    last = last_rebalance(backtest)
    if last is not None:
        last_section(page, last, top)
    metrics_section(page, backtest)
    page.sections.insert(place, contents(page.headings))
    return save(path, page.text())


def backtest_headline(backtest: Backtest) -> dict[str, tuple[str, str]]:
    """The figures a reader wants first: name to value and a remark."""
    m, nav = backtest.metrics, backtest.nav
    against = backtest.benchmark is not None
    worst = drawdown_table(backtest.measured_returns, 1)
    fell = "no drawdown"
    if len(worst):
        line = worst.iloc[0]
        end = "not recovered yet" if pd.isna(line["recovery"]) else f"recovered on {label(line['recovery'])}"
        fell = f"{label(line['peak']) or 'the start'} to {label(line['trough'])}, {end}"
    growth = f"{percent(m['total_return'], 1)} in all"
    if against:
        growth += f"; {signed(m['excess_cagr'])} a year against the benchmark"
    rows = {
        "growth a year (CAGR)": (percent(m["cagr"]), growth),
        "volatility": (percent(m["volatility"]), "a year"),
        "Sharpe ratio": (
            f"{m['sharpe']:.2f} ± {m['sharpe_standard_error']:.2f}",
            f"± one standard error; above zero with probability {percent(m['probabilistic_sharpe'], 1)}",
        ),
        "worst drawdown": (percent(m["max_drawdown"]), fell),
        "turnover": (f"{percent(m['turnover_one_way'], 0)} a year", "one way: half of purchases plus sales"),
        "cost drag": (
            f"{percent(m['cost_drag'], 2)} a year",
            f"off the growth rate; {money(float(backtest.costs.sum().sum()))} paid in all",
        ),
        "CVaR of a session": (percent(m["cvar"]), f"mean of the worst 5 % of sessions; VaR {percent(m['var'])}"),
    }
    if against:
        rows["against the benchmark"] = (
            f"beta {m['beta_to_benchmark']:.2f}",
            f"tracking error {percent(m['tracking_error'])}, information ratio {m['information_ratio']:.2f}",
        )
    rows["final NAV"] = (money(float(nav.iloc[-1])), f"from {money(float(nav.iloc[0]))}")
    return rows


# -- sections ----------------------------------------------------------------------------------------------------
def _head(title: str, backtest: Backtest) -> str:
    dates = backtest.nav.index
    failed = len(backtest.failures)
    warn = f'<span class="badge warn">{counted(failed, "decision")} without an answer</span>' if failed else ""
    words = f"{backtest.name}, {day(dates[0])} to {day(dates[-1])}. Figures are after costs."
    return f"<h1>{text(title)}{warn}</h1>\n{paragraph(words, 'lead')}\n{cards(backtest_headline(backtest))}"


def _did(page: Page, backtest: Backtest, facts: Mapping[str, object]) -> None:
    page.heading("What was run")
    page.add(paragraph(" ".join(settings_in_words(backtest))))
    shown = {SETTINGS.get(name, name.replace("_", " ")): setting_text(v) for name, v in backtest.settings.items()}
    shown |= {str(name): str(value) for name, value in facts.items()}
    if shown:
        page.add(table(["", ""], [[Cell(name), Cell(value, "wrap")] for name, value in shown.items()]))


def _performance(page: Page, backtest: Backtest) -> None:
    page.heading("Net asset value and drawdowns")
    page.chart(nav_chart(backtest))
    worst = drawdown_table(backtest.measured_returns, 10)
    if len(worst):
        page.add("<h3>The worst drawdowns</h3>")
        rows = [
            [
                Cell(str(rank)), Cell(label(line["peak"]) or "the start"), Cell(label(line["trough"])),
                Cell("not yet" if pd.isna(line["recovery"]) else label(line["recovery"])),
                number(percent(-line["depth"])), number(f"{line['periods']:,.0f}"), number(f"{line['to_trough']:,.0f}"),
            ]
            for rank, line in worst.iterrows()
        ]  # fmt: skip
        names = ["", "peak", "trough", "recovered", "depth", "sessions under water", "of them to the trough"]
        page.add(table(names, rows, numbers_from=4))
    page.heading("Returns by year and month")
    page.chart(monthly_chart(backtest))
    page.add(_years(backtest))
    if len(backtest.returns) > 10:
        page.chart(rolling_chart(backtest))


def _years(backtest: Backtest) -> str:
    """Returns of calendar years beside the benchmark's."""
    own = monthly_returns(backtest.measured_returns)["year"]
    benchmark = backtest.benchmark
    names = ["year", "return"]
    columns = [own]
    if benchmark is not None:
        names += ["benchmark", "difference"]
        columns += [other := monthly_returns(benchmark.pct_change().iloc[1:])["year"], own - other]
    rows = [
        [Cell(str(year)), *(number(percent(v)) for v in values[:2]), *(number(signed(v)) for v in values[2:])]
        for year, *values in zip(own.index, *columns, strict=True)
    ]
    return f"<h3>Calendar years</h3>\n{table(names, rows, numbers_from=1)}"


def _holdings(page: Page, backtest: Backtest, labels: pd.Series | Mapping[str, str] | None) -> None:
    page.heading("Weights")
    page.chart(weights_chart(backtest))
    if labels is not None:
        page.chart(weights_chart(backtest, labels=pd.Series(labels)))


def _costs(page: Page, backtest: Backtest) -> None:
    page.heading("Costs and turnover")
    page.chart(costs_chart(backtest))
    frame = cost_table(backtest)
    parts = list(backtest.costs.columns) if len(backtest.costs.columns) > 1 else []
    names = ["year", "turnover, one way", *(str(part) for part in parts), "total cost", "bp of mean NAV"]
    rows = [
        [
            Cell(str(year)), number(percent(line["turnover_one_way"], 1)), *(number(money(line[p])) for p in parts),
            number(money(line["total"])), number(f"{line['total_bp']:.2f}"),
        ]
        for year, line in frame.iterrows()
    ]  # fmt: skip
    kinds = [""] * len(rows) + ["total"]
    total = frame.sum()
    rows.append(
        [
            Cell("total"), number(percent(total["turnover_one_way"], 1)), *(number(money(total[p])) for p in parts),
            number(money(total["total"])), number(""),
        ]
    )  # fmt: skip
    page.add(table(names, rows, kinds, numbers_from=1))


def _contributions(
    page: Page, backtest: Backtest, parts: Explained, labels: pd.Series | Mapping[str, str] | None, top: int
) -> None:
    if parts.whole.empty:
        return
    page.heading("Where the return came from")
    page.chart(contributions_chart(parts.whole, growth=float(backtest.metrics["cagr"]), top=top))
    if labels is not None:
        page.chart(yearly_chart(explained(backtest, labels).by_year))

"""Pages of backtests, grids and sweeps: complete in themselves, and their numbers are those of the frames."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import portfolioopt as po
from portfolioopt.backtest import Backtest
from portfolioopt.backtest.drawdowns import drawdown_table
from portfolioopt.backtest.overfitting import overfitting_probability
from portfolioopt.backtest.validation import validate
from portfolioopt.report import write_backtest_report, write_grid_report, write_sweep_report
from portfolioopt.report.book_figures import explained, last_rebalance, setting_text
from tests.report.books import ASSETS, NASTY, SECTORS, book, forecast, grid, prices
from tests.report.pages import Parsed, loads_nothing, number, without_plotly


@pytest.fixture(scope="module")
def run() -> Backtest:
    return forecast(book(flows={prices().index[200]: 2e5}, rate=0.01), 0.008, horizon=21)


@pytest.fixture(scope="module")
def page(run: Backtest, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "b.html"
    facts = {f"fact {NASTY}": NASTY}
    write_backtest_report(path, run, title=f"Title {NASTY}", labels=SECTORS, facts=facts)
    assert [found.name for found in path.parent.iterdir()] == ["b.html"]
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def still(run: Backtest, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "b.html"
    write_backtest_report(path, run, title=f"Title {NASTY}", labels=SECTORS, interactive=False)
    return path.read_text(encoding="utf-8")


def test_an_interactive_page_stands_alone(page: str) -> None:
    own = without_plotly(page)
    assert loads_nothing(own)
    parsed = Parsed(own)
    assert len(parsed.scripts) == 3
    charts = parsed.data["charts"]
    boxes = {attributes["id"] for tag, attributes in parsed.tags if tag == "div" and attributes.get("class") == "chart"}
    assert boxes == {f"chart-{name}" for name in charts}
    assert len(charts) >= 11
    shared = parsed.data["shared"]
    for chart in charts.values():
        assert chart["layout"]["title"]["text"]
        for trace in chart["data"]:
            for axis in ("x", "y"):
                assert isinstance(trace[axis], list) or trace[axis]["shared"] < len(shared)


def test_a_still_page_has_no_script(still: str) -> None:
    assert loads_nothing(still)
    parsed = Parsed(still)
    assert not parsed.scripts
    assert sum(tag == "svg" for tag, _ in parsed.tags) >= 11
    for _, attributes in parsed.tags:
        assert not any(name.startswith("on") for name in attributes)


def test_names_are_unique_and_links_lead_somewhere(page: str, still: str) -> None:
    for text in (without_plotly(page), still):
        tags = Parsed(text).tags
        names = [attributes["id"] for _, attributes in tags if "id" in attributes]
        assert len(names) == len(set(names))
        links = {attributes["href"] for tag, attributes in tags if tag == "a"}
        assert len(links) > 8
        assert links <= {f"#{name}" for name in names}


def test_what_users_wrote_is_text(page: str, still: str) -> None:
    for text in (without_plotly(page), still):
        assert NASTY not in text
        assert "<b>BBB" not in text
        assert "<script>alert" not in text


def test_the_headline_is_that_of_the_metrics(run: Backtest, page: str) -> None:
    m = run.metrics
    text = Parsed(without_plotly(page)).text
    for words in (
        f"growth a year (CAGR) {100 * m['cagr']:.2f} %",
        f"volatility {100 * m['volatility']:.2f} %",
        f"Sharpe ratio {m['sharpe']:.2f} ± {m['sharpe_standard_error']:.2f}",
        f"worst drawdown {100 * m['max_drawdown']:.2f} %",
        f"turnover {100 * m['turnover_one_way']:.0f} % a year",
        f"cost drag {100 * m['cost_drag']:.2f} % a year",
        f"tracking error {100 * m['tracking_error']:.2f} %",
        f"{run.costs.sum().sum():,.0f} paid in all",
        f"final NAV {run.nav.iloc[-1]:,.0f}",
        "Money was paid in or out on 1 day, 200,000 net",
        "its trades were done 1 session later",
    ):
        assert words in text, words


def test_tables_agree_with_the_frames(run: Backtest, page: str) -> None:
    tables = Parsed(without_plotly(page)).tables
    worst = drawdown_table(run.returns, 10)
    rows = tables["The worst drawdowns"][0][1:]
    assert [row[1] for row in rows] == [f"{peak:%Y-%m-%d}" for peak in worst["peak"]]
    assert [number(row[4]) for row in rows] == pytest.approx((-worst["depth"]).tolist(), abs=6e-5)

    years = tables["Calendar years"][0][1:]
    assert tables["Calendar years"][0][0] == ["year", "return", "benchmark", "difference"]
    assert run.benchmark is not None
    other = run.benchmark.groupby(run.nav.index.year).last()
    assert number(years[1][2]) == pytest.approx(other[2020] / other[2019] - 1.0, abs=6e-5)
    assert number(years[1][3]) == pytest.approx(number(years[1][1]) - number(years[1][2]), abs=1.1e-4)
    growth = (1.0 + run.returns.iloc[1:]).groupby(run.nav.index[1:].year).prod() - 1.0
    assert [number(row[1]) for row in years] == pytest.approx(growth.tolist(), abs=6e-5)

    costs = tables["Costs and turnover"][0]
    assert number(costs[-1][-2]) == pytest.approx(run.costs.sum().sum(), abs=1.0)
    assert number(costs[-1][1]) == pytest.approx(run.turnover.sum() / 2.0, abs=6e-4)

    sessions = tables["The worst sessions, and what caused them"][0][1:]
    lowest = run.returns.nsmallest(10)
    assert [row[0] for row in sessions] == [f"{date:%Y-%m-%d}" for date in lowest.index]
    assert [number(row[1]) for row in sessions] == pytest.approx(lowest.tolist(), abs=6e-5)

    found = validate(run)
    tests = {row[0].replace(" %", "%"): row for row in tables["Risk: predicted and realised"][0][1:]}
    assert tests.keys() == set(found.frame.index)
    for name, line in found.frame.iterrows():
        words = "" if pd.isna(line["passed"]) else "passed" if line["passed"] else "failed"
        assert tests[name][1] == words

    figures = {row[0]: row[1] for row in tables["All figures, and how they are counted"][0][1:]}
    assert len(figures) == len(run.metrics)
    assert number(figures["growth a year (CAGR)"]) == pytest.approx(run.metrics["cagr"], abs=6e-5)

    stress = tables["Behaviour in stress"][0][1:]
    assert [number(row[3]) for row in stress] == pytest.approx(found.stress["return"].tolist(), abs=6e-5)


def test_the_last_rebalance(run: Backtest, page: str) -> None:
    rows = Parsed(without_plotly(page)).tables["The last rebalance"][0][1:-1]
    trades = run.trades[run.trades["date"] == run.trades["date"].max()].set_index("asset")
    assert {row[1] for row in rows} == set(trades.index)
    for side, asset, before, after, _, value, cost in rows:
        line = trades.loc[asset]
        assert side == ("buy" if line["units"] > 0 else "sell")
        assert number(value) == pytest.approx(line["value"], rel=1e-2, abs=1.0)
        assert number(cost) == pytest.approx(line["cost"], rel=1e-2, abs=1.0)
        assert number(after) == pytest.approx(run.weights.loc[line["date"], asset], abs=6e-5)
        assert number(after) - number(before) == pytest.approx(line["value"] / run.nav[line["date"]], abs=1.2e-4)


def test_contributions_sum_to_what_was_earned() -> None:
    found = book(flows={prices().index[100]: -1e5}, rate=0.05)
    for labels in (None, SECTORS):
        parts = explained(found, labels)
        assert parts.by_session.sum(axis=1).to_numpy() == pytest.approx(found.returns.to_numpy(), abs=1e-13)
        assert parts.whole.sum() == pytest.approx((1.0 + found.returns).prod() - 1.0, abs=1e-12)
        year = found.returns.iloc[1:][found.nav.index[1:].year == 2020]
        assert parts.by_year.loc[2020, "year"] == pytest.approx((1.0 + year).prod() - 1.0, abs=1e-12)
    assert parts.whole["costs"] < 0.0 < parts.whole["interest"]
    # by hand, from units and prices: what one asset earned in one session
    at = 300
    earned = found.positions["AAA"].iloc[at - 1] * found.prices["AAA"].diff().iloc[at]
    assert explained(found).by_session["AAA"].iloc[at] == pytest.approx(earned / found.nav.iloc[at - 1], abs=1e-14)


def test_contributions_of_a_book_with_splits_dividends_and_delistings() -> None:
    days = pd.bdate_range("2024-03-04", periods=6)
    closes = pd.DataFrame(
        {"SPL": [50.0, 52.0, 26.0, 25.5, 26.0, 26.5], "DEL": [100.0, 100.0, 98.0, 90.0, np.nan, np.nan]}, index=days
    )
    adjusted = closes.assign(SPL=closes["SPL"] / [2, 2, 1, 1, 1, 1])
    market = po.data.MarketData(
        adjusted,
        fields={
            "close": closes,
            "dividend": pd.DataFrame({"SPL": [0.40]}, index=days[[3]]),
            "split": pd.DataFrame({"SPL": [2.0]}, index=days[[2]]),
        },
        delisting_returns={"DEL": -0.5},
    )
    found = po.backtest(
        po.strategies.FixedWeights({"SPL": 0.6, "DEL": 0.3}), market, traded="close", dividends="dividend",
        splits="split", capital=10_000.0, costs=po.costs.ProportionalCosts(bps=10),
    )  # fmt: skip
    parts = explained(found)
    assert parts.by_session.sum(axis=1).to_numpy() == pytest.approx(found.returns.to_numpy(), abs=1e-14)
    lost = 0.3 * (10_000 - 9 / 1.0009) * (45 / 100 - 1)  # 29.98 units that were bought at 100 and paid out at 45
    assert (parts.by_session["DEL"].to_numpy()[1:] * found.nav.to_numpy()[:-1]).sum() == pytest.approx(lost)
    assert parts.whole["dividends"] > 0.0


@pytest.mark.parametrize("interactive", [True, False])
def test_a_book_that_lost_everything_has_a_page(tmp_path: Path, interactive: bool) -> None:
    days = pd.bdate_range("2024-01-01", periods=60)
    data = pd.DataFrame({"A": np.repeat([100.0, 260.0], [20, 40]), "B": 100.0 + np.arange(60) * 0.1}, days)
    found = po.backtest(po.strategies.FixedWeights({"A": -0.9, "B": 0.5}), data)
    assert found.nav.iloc[-1] < 0.0
    text = write_backtest_report(tmp_path / "x.html", found, title="ruin", interactive=interactive).read_text("utf-8")
    parsed = Parsed(without_plotly(text) if interactive else text)
    assert "worst drawdown 100.00 %" in parsed.text
    assert parsed.tables["The worst sessions, and what caused them"][0][1][0] == f"{days[20]:%Y-%m-%d}"


def test_costs_of_the_first_session_count(tmp_path: Path) -> None:
    found = po.backtest(po.strategies.EqualWeight(), prices(60), lag=0, costs=po.costs.ProportionalCosts(bps=100))
    assert found.returns.iloc[0] == pytest.approx(-0.01, rel=0.02)
    parts = explained(found)
    assert parts.by_session.sum(axis=1).to_numpy() == pytest.approx(found.returns.to_numpy(), abs=1e-14)
    assert parts.whole.sum() == pytest.approx(found.metrics["total_return"])


def test_assets_with_the_name_of_a_row_are_refused() -> None:
    data = prices(40).set_axis(["costs", "B", "C", "D"], axis=1)
    with pytest.raises(po.InputError, match="costs"):
        explained(po.backtest(po.strategies.EqualWeight(), data))


def test_targets_now_against_before() -> None:
    goals = iter([[0.5, 0.5, 0, 0], [0.5, 0.2, 0.3, 0], [0.1, 0.2, 0.3, 0.4]])
    found = po.backtest(
        lambda moment: pd.Series(next(goals), index=ASSETS, dtype=float), prices(60), every=[prices().index[20],
                                                                                           prices().index[40]],
    )  # fmt: skip
    last = last_rebalance(found)
    assert last is not None
    assert last.targets["change"].to_dict() == pytest.approx(
        {"AAA": -0.4, "<b>BBB</b>": 0.0, "CCC & sons": 0.0, "DDD": 0.4}
    )
    assert last.date == prices().index[41]


def test_failures_are_listed(tmp_path: Path) -> None:
    found = forecast(book(data=prices(120)), 0.01)
    lines = [dict(line) for line in found._record.timeline]
    lines[3] |= {
        "status": "infeasible",
        "fallback": "hold",
        "message": f"no portfolio {NASTY}",
        "max_violation": np.nan,
    }
    broken = Backtest(replace(found._record, timeline=lines))
    path = write_backtest_report(tmp_path / "x.html", broken, title="t", interactive=False)
    parsed = Parsed(path.read_text(encoding="utf-8"))
    (rows,) = parsed.tables["Failures and fallbacks"]
    assert rows[1][1:] == ["infeasible", "hold", f"no portfolio {NASTY}"]
    assert "1 decision without an answer" in parsed.text


@pytest.mark.parametrize("interactive", [True, False])
def test_a_short_run_that_never_trades_has_a_page(tmp_path: Path, interactive: bool) -> None:
    found = po.backtest(lambda _: pd.Series(0.0, index=ASSETS), prices(8))
    path = write_backtest_report(tmp_path / "x.html", found, title="idle", interactive=interactive)
    text = path.read_text(encoding="utf-8")
    parsed = Parsed(without_plotly(text) if interactive else text)
    assert "No decision of this run predicted its risk" in parsed.text


def test_thirty_years_of_days_fit_in_a_page(tmp_path: Path) -> None:
    data = prices(7600, start="1993-01-04")
    found = forecast(book(data=data), 0.008, horizon=1)
    path = write_backtest_report(tmp_path / "x.html", found, title="long", labels=SECTORS)
    assert path.stat().st_size < 8_000_000
    json.dumps(Parsed(without_plotly(path.read_text(encoding="utf-8"))).data, allow_nan=False)


def test_settings_read_well() -> None:
    assert setting_text(None) == "none"
    assert setting_text(1_000_000.0) == "1,000,000"
    assert setting_text(repr(pd.Series([1.0, 2.0]))) == "a series of its own"
    assert len(setting_text("x" * 1000)) == 400


# -- many runs ---------------------------------------------------------------------------------------------------
def test_the_page_of_a_grid(tmp_path: Path) -> None:
    runs = grid()
    path = write_grid_report(tmp_path / "g.html", runs, title=f"Grid {NASTY}")
    text = without_plotly(path.read_text(encoding="utf-8"))
    assert loads_nothing(text)
    assert NASTY not in text
    parsed = Parsed(text)
    rows = parsed.tables["The runs"][0]
    order = runs.metrics["sharpe"].sort_values(ascending=False).index
    assert [int(row[0]) for row in rows[1:]] == order.tolist()
    growth = rows[0].index("growth a year (CAGR)")
    assert [number(row[growth]) for row in rows[1:]] == pytest.approx(
        runs.metrics.loc[order, "cagr"].tolist(), abs=6e-5
    )
    lucky = {row[0]: row[1] for row in parsed.tables["Is the best one lucky?"][0]}
    (said,) = (value for name, value in lucky.items() if name.startswith("probability of overfitting"))
    expected = overfitting_probability(runs.returns.iloc[1:], periods_per_year=runs[0].periods_per_year)
    assert number(said) == pytest.approx(expected.probability, abs=6e-4)
    assert {"fan", "runs", "heat-sharpe", "heat-max-drawdown", "effect-first", "effect-second"} == set(
        parsed.data["charts"]
    )


def test_the_page_of_histories(tmp_path: Path) -> None:
    runs = grid(6)
    path = write_grid_report(tmp_path / "g.html", runs, interactive=False)
    parsed = Parsed(path.read_text(encoding="utf-8"))
    assert not parsed.scripts
    assert "Is the best one lucky?" not in parsed.tables
    for name in ("equal", "some"):
        rows = {row[0]: row for row in parsed.tables[name][0]}
        own = runs.metrics.loc[runs.runs["strategy"] == name, "cagr"]
        assert number(rows["growth a year (CAGR)"][3]) == pytest.approx(own.median(), abs=6e-5)


# -- sweeps ------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def problem() -> po.Problem:
    returns = prices(61).pct_change().iloc[1:]
    return po.Problem(
        po.ScenarioSet(returns, horizon="1 day"),
        po.ExpectedReturn() - po.CVaR(0.9),
        [po.Budget(), po.Bounds(0.0, 0.6), po.GroupLimit(SECTORS, upper={"one": 0.7})],
    )


def test_the_page_of_a_frontier(problem: po.Problem, tmp_path: Path) -> None:
    line = po.frontier(problem, 6)
    path = write_sweep_report(tmp_path / "f.html", line)
    parsed = Parsed(without_plotly(path.read_text(encoding="utf-8")))
    (trace,) = (t for t in parsed.data["charts"]["frontier"]["data"] if t["mode"] == "lines")
    assert trace["x"] == pytest.approx((100.0 * line.points["cvar[0.9]"]).tolist(), rel=1e-5)
    assert trace["y"] == pytest.approx((100.0 * line.points["expected_return"]).tolist(), rel=1e-5)
    stack = parsed.data["charts"]["sweep-weights"]["data"]
    assert np.sum([t["y"] for t in stack], axis=0) == pytest.approx([100.0] * 6, abs=1e-3)
    assert "prices" not in parsed.data["charts"]
    rows = parsed.tables["The points"][0][1:]
    assert [number(row[4]) for row in rows] == pytest.approx(line.points["cvar[0.9]"].tolist(), abs=6e-6)


def test_shadow_prices_along_a_sweep(problem: po.Problem, tmp_path: Path) -> None:
    caps = [0.5, 0.6, 0.7]
    line = po.sweep(problem, {"Bounds.upper": caps}, limits=True)
    path = write_sweep_report(tmp_path / "s.html", line)
    charts = Parsed(without_plotly(path.read_text(encoding="utf-8"))).data["charts"]
    assert {"sweep-objective", "sweep-cvar-0-9", "prices"} <= set(charts)
    for trace in charts["prices"]["data"]:
        name = trace["name"].replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">")
        assert trace["y"] == pytest.approx(line.limits[name].fillna(0.0).tolist(), rel=1e-4, abs=1e-9)


def test_the_page_of_a_sweep_over_two_inputs(problem: po.Problem, tmp_path: Path) -> None:
    weights, caps = [0.5, 2.0], [0.3, 0.1, 0.6]  # a cap of 0.1 leaves no portfolio
    grid_of = po.sweep(problem, {"CVaR.weight": weights, "Bounds.upper": caps})
    path = write_sweep_report(tmp_path / "s.html", grid_of, interactive=False)
    parsed = Parsed(path.read_text(encoding="utf-8"))
    assert not parsed.scripts
    assert "2 points without a portfolio" in parsed.text
    rows = parsed.tables["The points"][0][1:]
    assert [row[2] for row in rows].count("infeasible") == 2
    assert sum(bool(row[-1]) for row in rows) == 2


def test_pages_refuse_what_is_something_else(run: Backtest, problem: po.Problem, tmp_path: Path) -> None:
    with pytest.raises(po.InputError, match="write_grid_report"):
        write_backtest_report(tmp_path / "x.html", grid(), title="t")
    with pytest.raises(po.InputError, match="BacktestGrid"):
        write_grid_report(tmp_path / "x.html", run)
    with pytest.raises(po.InputError, match="Sweep"):
        write_sweep_report(tmp_path / "x.html", problem)
    with pytest.raises(po.InputError, match="metric"):
        write_grid_report(tmp_path / "x.html", grid(), metric="sharp")
    assert not list(tmp_path.iterdir())

"""Charts: both ways of drawing show the numbers of the frames, and thinning does not change a picture."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

import portfolioopt as po
from portfolioopt.backtest import Backtest, BacktestGrid
from portfolioopt.backtest.validation import validate
from portfolioopt.report import (
    Chart,
    adherence_chart,
    binding_chart,
    contributions_chart,
    costs_chart,
    drift_chart,
    fan_chart,
    forecasts_chart,
    grid_heatmap,
    monthly_chart,
    nav_chart,
    parameter_chart,
    risk_chart,
    rolling_chart,
    runs_chart,
    save_png,
    stress_chart,
    weights_chart,
    worst_sessions_chart,
)
from portfolioopt.report.book_figures import explained
from portfolioopt.report.chart import Bars, Heat, Level, Line, Panel, Points, outline, palette, thinned
from portfolioopt.report.interactive import figure_data
from tests.report.books import ASSETS, SECTORS, book, forecast, grid, prices

CONTRIBUTIONS = pd.DataFrame(
    {
        "measure": ["CVaR 95%"] * 4 + ["volatility"] * 4,
        "asset": ASSETS * 2,
        "weight": [0.5, 0.3, -0.2, 0.4] * 2,
        "contribution": [0.01, 0.02, -0.005, 0.015] * 2,
        "share": [0.25, 0.5, -0.125, 0.375, 0.3, 0.4, -0.1, 0.4],
    }
)


@pytest.fixture(scope="module")
def run() -> Backtest:
    return forecast(book(), 0.008, horizon=5)


@pytest.fixture(scope="module")
def charts(run: Backtest) -> dict[str, Chart]:
    found = validate(run)
    parts = explained(run)
    runs = grid()
    many = grid(8)
    made = [
        nav_chart(run),
        rolling_chart(run),
        weights_chart(run),
        costs_chart(run),
        monthly_chart(run),
        forecasts_chart(found),
        drift_chart(found),
        adherence_chart(found),
        binding_chart(found),
        stress_chart(found),
        contributions_chart(parts.whole, growth=0.1),
        worst_sessions_chart(parts.by_session, pd.DatetimeIndex(run.returns.nsmallest(5).index)),
        risk_chart(CONTRIBUTIONS),
        fan_chart(many),
        runs_chart(runs),
        grid_heatmap(runs, "first", "second"),
        parameter_chart(runs, "first"),
    ]
    return {chart.name: chart for chart in made}


def drawn(chart: Chart) -> bytes:
    figure = chart.matplotlib()
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()


def test_every_chart_has_a_title_and_units_in_both_drawings(charts: dict[str, Chart]) -> None:
    assert len(charts) == 17
    for chart in charts.values():
        data = json.loads(chart.plotly().to_json())  # plotly refuses properties that it does not know
        assert data["layout"]["title"]["text"] == chart.title
        assert len(chart.title) > 10
        for number, panel in enumerate(chart.panels):
            heat = any(isinstance(layer, Heat) for layer in panel.layers)
            axis = data["layout"][("xaxis" if panel.sideways else "yaxis") + (str(number + 1) if number else "")]
            assert heat or axis["title"]["text"] == panel.unit
            assert heat or panel.unit
        figure = chart.matplotlib()
        assert len(figure.axes) == len(chart.panels)
        assert chart.title in [text.get_text() for text in figure.texts]


@pytest.mark.parametrize("name", ["nav", "weights", "months", "contributions", "fan"])
def test_pictures_come_out_the_same_each_time(charts: dict[str, Chart], name: str) -> None:
    first = drawn(charts[name])
    assert first == drawn(charts[name])
    assert first[:4] == b"\x89PNG"


def test_both_drawings_show_the_frame(run: Backtest, charts: dict[str, Chart]) -> None:
    data = figure_data(charts["nav"])["data"]
    (own,) = (t for t in data if t["name"] == run.name and t["yaxis"] == "y")
    assert own["y"] == pytest.approx(run.nav.to_numpy(), rel=1e-5)
    assert own["x"][0] == f"{run.nav.index[0]:%Y-%m-%d}"
    upper, lower = charts["nav"].matplotlib().axes
    assert upper.lines[1].get_ydata() == pytest.approx(run.nav.to_numpy())
    assert upper.get_yscale() == "log"
    worst = run.metrics["max_drawdown"]
    assert min(lower.lines[1].get_ydata()) == pytest.approx(-100.0 * worst, rel=1e-9)
    (under,) = (t for t in data if t["name"] == run.name and t["yaxis"] == "y2")
    assert min(under["y"]) == pytest.approx(-100.0 * worst, rel=1e-5)


def test_weights_and_cash_sum_to_one_with_shorts_below_zero(run: Backtest, charts: dict[str, Chart]) -> None:
    data = figure_data(charts["weights"])["data"]
    total = np.sum([trace["y"] for trace in data], axis=0)
    assert total == pytest.approx(np.full(len(total), 100.0), abs=1e-3)
    assert {trace["name"] for trace in data} == {*(a.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
                                                 for a in ASSETS), "cash"}  # fmt: skip
    below = [trace for trace in data if trace["stackgroup"].startswith("below")]
    assert all(max(trace["y"]) <= 0.0 for trace in below)
    assert any(min(trace["y"]) < -15.0 for trace in below)


def test_a_heat_map_has_the_returns_of_the_months(run: Backtest, charts: dict[str, Chart]) -> None:
    heat, years = figure_data(charts["months"])["data"]
    growth = (1.0 + run.returns.iloc[1:]).groupby([run.nav.index[1:].year, run.nav.index[1:].month]).prod() - 1.0
    for (year, month), value in growth.items():
        row = heat["y"].index(str(year))
        assert heat["z"][row][month - 1] == pytest.approx(100.0 * value, abs=1e-4)
        assert float(heat["text"][row][month - 1].replace("\N{MINUS SIGN}", "-")) == pytest.approx(
            100.0 * value, abs=0.051
        )
    assert all(row[-1] is None for row in heat["z"])  # the sum of a year has no colour
    assert len(years["text"]) == len(heat["y"])
    words = [text.get_text() for text in charts["months"].matplotlib().axes[0].texts]
    assert set(words) == {text for row in heat["text"] for text in row if text} | set(years["text"])


def test_exceedances_are_marked(run: Backtest, charts: dict[str, Chart]) -> None:
    data = figure_data(charts["forecasts"])["data"]
    counts = {t["name"]: len(t["y"]) for t in data if t["mode"] == "markers"}
    exceeded = validate(run).forecasts["exceeded"]
    assert counts["loss beyond the VaR"] == exceeded.sum()
    assert counts["loss within the VaR"] == (~exceeded).sum()


def test_binding_limits_by_year(run: Backtest, charts: dict[str, Chart]) -> None:
    lines = [dict(line) for line in run._record.timeline]
    for line in lines[::2]:
        line["binding"] = "Bounds (11)"
    found = validate(Backtest(replace(run._record, timeline=lines)))
    (heat,) = figure_data(binding_chart(found))["data"]
    assert heat["y"] == ["Bounds", "Turnover"]
    for year, share in zip(heat["x"], heat["z"][1], strict=True):
        own = [i for i, line in enumerate(lines) if run.nav.index[line["decided"]].year == int(year)]
        assert share == pytest.approx(100.0 * sum(i % 2 for i in own) / len(own), rel=1e-5)
    (kept,) = figure_data(charts["adherence"])["data"]
    assert kept["y"] == pytest.approx([1e-12] * len(lines))


def test_contributions_are_scaled_to_the_growth(charts: dict[str, Chart]) -> None:
    (bars,) = figure_data(charts["contributions"])["data"]
    assert sum(bars["x"]) == pytest.approx(10.0, abs=1e-3)


def test_bars_of_a_picture_stand_on_each_other() -> None:
    chart = Chart("x", "stacked", [Panel([Bars("a", ["p", "q"], [1.0, -2.0]), Bars("b", ["p", "q"], [3.0, -4.0])], "u",
                                         "number")])  # fmt: skip
    (axes,) = chart.matplotlib().axes
    edges = [(bar.get_y(), bar.get_y() + bar.get_height()) for bar in axes.patches]
    assert edges == [(0.0, 1.0), (0.0, -2.0), (1.0, 4.0), (-2.0, -6.0)]


def test_quantiles_of_the_fan_are_those_of_the_runs() -> None:
    runs = grid(8)
    nav = runs.nav
    traces = figure_data(fan_chart(runs))["data"]
    middle = next(t for t in traces if t["name"] == "median")
    assert middle["y"] == pytest.approx(nav.median(axis=1).to_numpy(), rel=1e-5)
    low, high = (t for t in traces if t["name"] == "9 of 10 runs")
    assert low["y"] == pytest.approx(nav.quantile(0.05, axis=1).to_numpy(), rel=1e-5)
    assert high["y"] == pytest.approx(nav.quantile(0.95, axis=1).to_numpy(), rel=1e-5)
    assert high["fill"] == "tonexty"


def test_grid_charts_have_the_metrics() -> None:
    runs: BacktestGrid = grid()
    (heat,) = figure_data(grid_heatmap(runs, "first", "second", "cagr"))["data"]
    for number, line in runs.runs.iterrows():
        cell = heat["z"][heat["y"].index(f"{line['first']:g}")][heat["x"].index(f"{line['second']:g}")]
        assert cell == pytest.approx(100.0 * runs.metrics.loc[number, "cagr"], rel=1e-4)
    with pytest.raises(po.UnknownNameError, match="first"):
        parameter_chart(runs, "frist")
    with pytest.raises(po.UnknownNameError, match="sharpe"):
        parameter_chart(runs, "first", "sharp")


def test_risk_over_time_is_stacked() -> None:
    days = pd.bdate_range("2024-01-01", periods=3)
    long = pd.concat([CONTRIBUTIONS.assign(date=day) for day in days], ignore_index=True)
    traces = figure_data(risk_chart(long, "volatility"))["data"]
    assert np.sum([t["y"] for t in traces], axis=0) == pytest.approx([100.0] * 3)
    with pytest.raises(po.UnknownNameError, match="volatility"):
        risk_chart(long, "vol")


def test_names_are_not_markup_for_plotly() -> None:
    chart = Chart("x", "<i>t</i>", [Panel([Points("<a href='http://x'>n</a>", ["<b>"], [1.0], texts=["<u>"])], "u")])
    text = json.dumps(figure_data(chart))
    assert not re.search(r"<(?!br>)[a-z]", text)


def test_outline_keeps_the_extremes_of_every_stretch() -> None:
    y = np.random.default_rng(0).normal(size=50_000).cumsum()
    rows = outline(y, 4000)
    assert len(rows) <= 4000
    assert {0, len(y) - 1} <= set(rows.tolist())
    for column in np.split(np.arange(len(y)), 500):  # of pixels: what is drawn in each is the same
        own = y[rows[(rows >= column[0]) & (rows <= column[-1])]]
        part = y[column]
        assert (own[0], own[-1], own.min(), own.max()) == (part[0], part[-1], part.min(), part.max())
    assert outline(y[:100], 4000).tolist() == list(range(100))


def test_thinning_keeps_ends_and_what_is_asked_for() -> None:
    keep = np.zeros(5000, dtype=bool)
    keep[[17, 4001]] = True
    rows = thinned(5000, 300, keep)
    assert len(rows) <= 302
    assert {0, 17, 4001, 4999} <= set(rows.tolist())
    assert thinned(10, 300).tolist() == list(range(10))


def test_palette_tells_names_apart() -> None:
    colours = palette(["a", "cash", "b", "others", "c"])
    assert len(set(colours)) == 5
    assert palette(["cash"]) == [colours[1]]


def test_levels_are_lines_across() -> None:
    dates = pd.bdate_range("2024-01-01", periods=3)
    panel = Panel([Line("a", dates, [1.0, 2.0, 3.0]), Level(0.02, "two")], "u")
    data = figure_data(Chart("x", "levels", [panel]))
    assert data["layout"]["shapes"][0]["y0"] == 2.0
    assert data["layout"]["annotations"][0]["text"] == "two"
    assert data["data"][0]["y"] == [100.0, 200.0, 300.0]


@pytest.mark.parametrize(
    ("package", "draw"), [("matplotlib", Chart.matplotlib), ("plotly.graph_objects", Chart.plotly)]
)
def test_charts_say_what_to_install(
    charts: dict[str, Chart], package: str, draw: Callable[[Chart], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=r'pip install "portfolioopt\[report\]"'):
        draw(charts["nav"])


def test_notebooks_show_a_picture(charts: dict[str, Chart], tmp_path: Path) -> None:
    shown = charts["drift"]._repr_html_()
    assert "<svg" in shown
    assert set(re.findall(r"var\((--\w+)\)", shown)) <= set(re.findall(r"(--\w+):", shown))
    assert save_png(charts["drift"].matplotlib(), tmp_path / "x.png", dpi=50).stat().st_size > 1000


def test_a_book_with_flows_is_drawn_without_them() -> None:
    data = prices(80)
    paid = book(data=data, flows={data.index[40]: 5e5}, benchmark=False)
    line = figure_data(nav_chart(paid))["data"][0]["y"]
    assert line == pytest.approx(1e6 * (1.0 + paid.returns).cumprod().to_numpy(), rel=1e-5)
    assert paid.nav.iloc[-1] > 1.3 * line[-1]
    assert "left out" in nav_chart(paid).note


def test_weights_by_group(run: Backtest) -> None:
    data = figure_data(weights_chart(run, labels=SECTORS))["data"]
    total = {}
    for trace in data:
        total[trace["name"]] = total.get(trace["name"], 0.0) + np.array(trace["y"])
    rows = thinned(len(run.weights), 1200)
    assert total["one"] == pytest.approx(100.0 * run.weights[["AAA", "CCC & sons"]].sum(axis=1).iloc[rows], abs=1e-3)

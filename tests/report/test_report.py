"""Pictures, tables and the page: they show the numbers of the frames, stand alone, and come out the same each time."""

from __future__ import annotations

import html
import io
import re
import struct
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.transforms import Bbox
from rich.console import Console
from rich.table import Table

import portfolioopt as po
from portfolioopt.attribution import group_contributions, risk_contributions
from portfolioopt.rebalance import plan_trades, trade_summary
from portfolioopt.report import (
    constraints_table,
    contribution_bars,
    groups_table,
    loss_histogram,
    save_png,
    summary_table,
    trades_table,
    weights_table,
    write_report,
    write_run,
)

NASTY = "<script>alert('x')</script>"
NAV = 2_000_000.0


class Case:
    """A solved problem with everything a report is made of."""

    def __init__(self, assets: list[str], *, scenarios: int = 60, short: float = 0.0) -> None:
        rng = np.random.default_rng(3)
        count = len(assets)
        market = rng.standard_t(5, size=(scenarios, 1)) * 0.02
        values = 0.004 + market * rng.uniform(0.5, 1.5, count) + rng.normal(0.0, 0.02, (scenarios, count))
        self.labels = pd.Series([f"group <{i % 3}>" for i in range(count)], index=pd.Index(assets), name="group")
        holdings = pd.Series(1.0 / count, index=assets)
        problem = po.Problem(
            po.ScenarioSet(pd.DataFrame(values, columns=assets), horizon="1 week"),
            po.ExpectedReturn() - 0.5 * po.CVaR(0.9) - po.ProportionalCost(10),
            [
                po.Budget(),
                po.Bounds(short, 0.4),
                po.Turnover(0.8),
                po.GroupLimit(self.labels, upper={"group <0>": 0.3}),
            ],
            holdings=holdings,
        )
        self.result = po.optimize(problem)
        assert self.result.weights is not None
        self.weights = self.result.weights
        self.contributions = risk_contributions(
            problem.scenarios, self.weights, betas=[0.9], tail_weights=self.result.tail_weights
        )
        self.cvar = float(self.result.risk["cvar"].loc[0.9])
        self.trades = plan_trades(self.weights, holdings, nav=NAV, cost_bps=10)


@pytest.fixture(scope="module")
def case() -> Case:
    return Case(["AAA", NASTY, "B&B", "[red]CCC", *(f"D{i}" for i in range(12))])


@pytest.fixture(scope="module")
def wide() -> Case:
    # as many assets as the other case, so that the kernel is compiled once
    return Case([f"ASSET {i:03d}" for i in range(16)], short=-0.01)


def printed(table: Table) -> str:
    console = Console(width=160, file=io.StringIO(), color_system=None)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def percents(text: str) -> list[float]:
    return [float(number) / 100.0 for number in re.findall(r"(-?[\d.]+) %", text)]


# -- pictures ----------------------------------------------------------------------------------------------------


def png_size(path: Path) -> tuple[int, int]:
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", data[16:24])


def colours_in(path: Path) -> int:
    from matplotlib.image import imread

    pixels = (imread(path)[..., :3] * 255).round().astype(int).reshape(-1, 3)
    return len(np.unique(pixels, axis=0))


def bars_of(axes: Axes) -> list[Bbox]:
    return [patch.get_path().get_extents(patch.get_patch_transform()) for patch in axes.patches]


def colours_of(axes: Axes) -> list[object]:
    return [patch.get_facecolor() for patch in axes.patches]


def test_pictures_show_something_and_are_the_same_each_time(case: Case, tmp_path: Path) -> None:
    drawn = {
        "bars": lambda: contribution_bars(case.result, case.contributions, case.labels),
        "plain": lambda: contribution_bars(case.result, case.contributions, measure="volatility"),
        "losses": lambda: loss_histogram(case.result, 0.9),
    }
    for name, draw in drawn.items():
        first, second = (
            save_png(draw(), tmp_path / f"{name}1.png", dpi=60),
            save_png(draw(), tmp_path / "2.png", dpi=60),
        )
        assert png_size(first)[0] == 9 * 60
        assert colours_in(first) > 20
        assert first.read_bytes() == second.read_bytes()
        assert b"Software" not in first.read_bytes()


def test_pictures_ignore_the_settings_of_the_user(case: Case, tmp_path: Path) -> None:
    import matplotlib as mpl

    ours = save_png(loss_histogram(case.result), tmp_path / "ours.png").read_bytes()
    with mpl.rc_context({"figure.facecolor": "black", "font.size": 30, "savefig.dpi": 10, "axes.grid": True}):
        theirs = save_png(loss_histogram(case.result), tmp_path / "theirs.png").read_bytes()
    assert ours == theirs


def test_bars_are_sorted_and_the_rest_is_summed(wide: Case) -> None:
    figure = contribution_bars(wide.result, wide.contributions, wide.labels, top=9)
    left, right = figure.axes
    names = [text.get_text() for text in left.get_yticklabels()]
    shares = wide.contributions[wide.contributions["measure"] == "CVaR 90%"].set_index("asset")["share"]
    largest = shares.abs().sort_values(ascending=False).index[:9]
    assert names[:-1] == shares[largest].sort_values(ascending=False).index.tolist()
    assert [bar.width for bar in bars_of(right)] == pytest.approx(shares[names[:-1]].tolist())
    assert [bar.width for bar in bars_of(left)] == pytest.approx(wide.weights[names[:-1]].tolist())
    held = (wide.weights.abs() > 1e-8) | (shares.abs() > 1e-8)
    assert names[-1] == f"{int(held.sum()) - 9} others"
    rest = shares[~shares.index.isin(names)].sum()
    texts = [text.get_text().replace("\N{MINUS SIGN}", "-") for text in right.texts]
    assert f"{100 * rest:.1f} %" in texts


def test_histogram_counts_all_probability_and_colours_the_tail(case: Case) -> None:
    (axes,) = loss_histogram(case.result, 0.9).axes
    bars = [
        ((bar.x0 + bar.x1) / 2, bar.height, colour) for bar, colour in zip(bars_of(axes), colours_of(axes), strict=True)
    ]
    assert sum(height for _, height, _ in bars) == pytest.approx(1.0)
    tail = case.result.problem.scenarios.tail(case.weights, 0.9)
    colours = {middle > tail.var: colour for middle, _, colour in bars}
    assert all(colours[middle > tail.var] == colour for middle, _, colour in bars)
    assert colours[True] != colours[False]
    words = " ".join(text.get_text() for text in axes.texts)
    assert f"VaR 90 %\n{100 * tail.var:.2f} %" in words
    assert f"CVaR 90 %\n{100 * tail.cvar:.2f} %" in words


def test_pictures_say_what_to_install(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r'pip install "portfolioopt\[report\]"'):
        loss_histogram(case.result)


def test_pictures_refuse_what_is_not_there(case: Case) -> None:
    with pytest.raises(po.UnknownNameError, match="CVaR 90%"):
        contribution_bars(case.result, case.contributions, measure="CVaR 95%")
    with pytest.raises(po.InputError, match="top"):
        contribution_bars(case.result, case.contributions, top=0)


# -- tables ------------------------------------------------------------------------------------------------------


def test_tables_agree_with_the_frames(case: Case) -> None:
    result = case.result
    text = printed(summary_table(result, trades=case.trades, nav=NAV))
    assert result.certificate is not None
    assert f"{result.certificate.objective:.8g}" in text
    assert f"{100 * case.cvar:.3f} %" in text
    assert f"{100 * trade_summary(case.trades, NAV)['turnover']:.2f} %" in text

    text = printed(weights_table(result, case.contributions, labels=case.labels))
    rows = {line.split()[0]: line for line in text.splitlines() if line.strip()}
    assert percents(rows["AAA"])[1] == pytest.approx(case.weights["AAA"], abs=6e-5)
    assert percents(rows["total"]) == pytest.approx([1.0, 1.0, 1.0, 1.0])

    text = printed(constraints_table(result))
    binding = result.constraints.query("binding")
    for name, line in binding.iterrows():
        (row,) = (row for row in text.splitlines() if row.strip().startswith(f"{name} "))
        assert f"{line['shadow_price']:.3f}" in row

    text = printed(trades_table(case.trades))
    sides = [line.split()[1] for line in text.splitlines() if re.match(r"\s*\d+ ", line)]
    assert sides == case.trades["side"].tolist()

    text = printed(groups_table(case.contributions, case.labels))
    groups = group_contributions(case.contributions, case.labels)
    (total,) = (line for line in text.splitlines() if line.strip().startswith("total"))
    assert percents(total)[1] == pytest.approx(case.cvar, abs=6e-6)
    for group, weight in groups[groups["measure"] == "volatility"].set_index("group")["weight"].items():
        (row,) = (line for line in text.splitlines() if str(group) in line)
        assert percents(row)[0] == pytest.approx(weight, abs=6e-5)


def test_names_are_not_markup(case: Case) -> None:
    texts = [printed(weights_table(case.result, case.contributions)), printed(trades_table(case.trades))]
    held = case.weights["[red]CCC"] > 1e-8 or "[red]CCC" in case.trades.index
    assert held
    assert "[red]CCC" in "".join(texts)


def test_long_tables_are_cut_and_still_sum(wide: Case) -> None:
    text = printed(weights_table(wide.result, wide.contributions, top=5))
    (rest,) = (line for line in text.splitlines() if "more" in line)
    (total,) = (line for line in text.splitlines() if "total" in line)
    shown = [percents(line)[1] for line in text.splitlines() if line.strip().startswith("ASSET")]
    assert len(shown) == 5
    assert sum(shown) + percents(rest)[1] == pytest.approx(percents(total)[1], abs=6e-4)


def test_limits_on_the_portfolio_are_never_crowded_out(wide: Case) -> None:
    text = printed(constraints_table(wide.result, top=1))
    frame = wide.result.constraints
    assert all(name in text for name in ["Budget", "Turnover", "GroupLimit[group <0>]"])
    single = frame[frame["binding"] & (frame["constraint"] == "Bounds")]
    assert len(single) > 1
    assert text.count("Bounds[") == 1
    assert str(single["shadow_price"].abs().idxmax()) in text
    assert f"{len(single) - 1} more on single assets" in text


# -- the page ----------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Tags and attributes of a page, and the text of its tables by heading."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self._heading, self._where = "", ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._where = tag
        if tag == "h2":
            self._heading = ""
        elif tag == "table":
            self.tables[self._heading] = []
        elif tag == "tr":
            self.tables[self._heading].append([])
        elif tag in ("td", "th"):
            self.tables[self._heading][-1].append("")

    def handle_data(self, data: str) -> None:
        if self._where == "h2":
            self._heading += data
        elif self._where in ("td", "th"):
            self.tables[self._heading][-1][-1] += data

    def handle_endtag(self, tag: str) -> None:
        self._where = ""


@pytest.fixture(scope="module")
def page(case: Case, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_report(
        path,
        case.result,
        contributions=case.contributions,
        trades=case.trades,
        nav=NAV,
        labels=case.labels,
        title=f"Title {NASTY}",
        facts={f"fact {NASTY}": NASTY},
        source=f"name: {NASTY}",
    )
    return path.read_text(encoding="utf-8")


def test_page_stands_alone(page: str) -> None:
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)", page, flags=re.IGNORECASE)
    parsed = Page(page)
    assert {"script", "link", "iframe", "img", "object"}.isdisjoint(tag for tag, _ in parsed.tags)
    for tag, attributes in parsed.tags:
        assert not any(name.startswith("on") for name in attributes), tag
        link = attributes.get("xlink:href") or attributes.get("href") or "#"
        assert link.startswith("#")


def test_page_escapes_what_users_wrote(page: str) -> None:
    assert NASTY not in page
    assert page.count(html.escape(NASTY)) >= 5


def test_identifiers_are_unique_and_links_lead_somewhere(page: str) -> None:
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    targets = set(re.findall(r'href="#([^"]+)"', page)) | set(re.findall(r"url\(#([^)]+)\)", page))
    assert targets
    assert targets <= set(ids)


def test_page_is_well_formed(page: str) -> None:
    void = {"meta"}
    depth: list[str] = []

    class Nesting(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag not in void:
                depth.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert depth.pop() == tag

    Nesting().feed(page)
    assert depth == []


def number(text: str) -> float:
    plain = text.replace("\N{MINUS SIGN}", "-").replace(",", "").removeprefix("+")
    return float(plain.removesuffix(" %")) / (100.0 if plain.endswith("%") else 1.0)


def test_numbers_of_the_page_agree_with_the_frames(case: Case, page: str) -> None:
    tables = Page(page).tables
    weights = {row[0]: row for row in tables["Weights"]}
    for asset, weight in case.weights.items():
        assert number(weights[str(asset)][3]) == pytest.approx(weight, abs=6e-5)
    assert [number(cell) for cell in weights["total"][2:]] == pytest.approx([1.0, 1.0, 0.0, 1.0, 1.0])

    trades = [row for row in tables["Trades"][1:] if row[0]]
    assert [row[2] for row in trades] == [str(asset) for asset in case.trades.index]
    assert sum(number(row[6]) for row in trades) == pytest.approx(case.trades["value"].sum(), abs=len(trades))
    (total,) = (row for row in tables["Trades"] if row[2] == "total")
    assert number(total[-2]) == pytest.approx(case.trades["cost"].sum(), abs=1.0)

    cvar, volatility = case.cvar, case.result.volatility
    assets = tables["Risk by asset"]
    assert assets[0] == ["", "CVaR 90%", "volatility"]
    assert number(assets[-1][3]) == pytest.approx(cvar, abs=6e-6)
    assert number(assets[-1][6]) == pytest.approx(volatility, abs=6e-6)
    assert sum(number(row[3]) for row in assets[2:-1]) == pytest.approx(cvar, abs=6e-6 * len(assets))
    groups = tables["Risk by group"]
    assert {row[0] for row in groups[2:-1]} == set(case.labels)
    assert sum(number(row[2]) for row in groups[2:-1]) == pytest.approx(cvar, abs=6e-6 * len(groups))

    prices = {row[0]: row[5] for row in tables["Constraints"][1:] if row[5]}
    binding = case.result.constraints.query("binding")["shadow_price"]
    assert prices.keys() == set(binding.index)
    for name, text in prices.items():
        assert number(text) == pytest.approx(binding[name], abs=6e-4)

    worst = [number(row[1]) for row in tables["Worst scenarios"][1:]]
    losses = case.result.problem.scenarios.losses(case.weights).sort_values(ascending=False)
    assert worst == pytest.approx(losses.head(10).tolist(), abs=6e-5)


def test_the_worst_scenarios_have_a_story(case: Case, page: str) -> None:
    rows = Page(page).tables["Worst scenarios"][1:]
    assert len(rows) == 10
    returns = case.result.problem.scenarios.returns
    for row in rows:
        parts = (-returns.loc[int(row[0])] * case.weights).nlargest(3)
        said = [part.rpartition(" ")[0] for part in row[6].split(", ")]
        assert [name.rsplit(" ", 1)[0] for name in said] == [str(asset) for asset in parts.index]


def test_what_has_changed_since_the_last_time(case: Case, tmp_path: Path) -> None:
    before = case.weights.copy()
    sold, bought = case.weights.idxmin(), case.weights.idxmax()
    before[sold], before[bought] = 0.1, 0.0
    path = write_report(
        tmp_path / "r.html", case.result, contributions=case.contributions, pictures=False, previous=before
    )
    rows = {row[0]: row for row in Page(path.read_text(encoding="utf-8")).tables["Changes since the last time"][1:]}
    assert set(rows) == {str(sold), str(bought)}
    assert number(rows[str(bought)][2]) == pytest.approx(case.weights[bought], abs=6e-5)
    assert rows[str(bought)][4] == "new"
    assert number(rows[str(sold)][1]) == pytest.approx(0.1)

    path = write_report(
        tmp_path / "r.html", case.result, contributions=case.contributions, pictures=False, previous=case.result
    )
    text = path.read_text(encoding="utf-8")
    assert "The targets are those of the last time." in text
    assert "The same limits bind." in text
    with pytest.raises(po.InputError, match="previous"):
        write_report(tmp_path / "r.html", case.result, contributions=case.contributions, previous=3)


def test_page_without_trades_labels_and_pictures(case: Case, tmp_path: Path) -> None:
    path = write_report(tmp_path / "r.html", case.result, contributions=case.contributions, pictures=False, top=2)
    text = path.read_text(encoding="utf-8")
    assert "<svg" not in text
    tables = Page(text).tables
    assert "Trades" not in tables
    assert "Risk by group" not in tables
    assert tables["Weights"][3][0].endswith("more")
    assert [path.name for path in tmp_path.iterdir()] == ["r.html"]


def test_a_folder_never_mixes_two_runs(case: Case, tmp_path: Path) -> None:
    names = ["constraints.parquet", "contributions.parquet", "report.html", "summary.json", "weights.parquet"]
    (tmp_path / "notes.txt").touch()
    for trades, expected in [(case.trades, [*names, "trades.parquet"]), (None, names)]:
        written = write_run(
            tmp_path, case.result, contributions=case.contributions, trades=trades, nav=NAV, pictures=False
        )
        assert sorted(path.name for path in written) == sorted(expected)
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*expected, "notes.txt"])
    stored = pd.read_parquet(tmp_path / "weights.parquet").set_index("asset")["weight"]
    assert stored.to_dict() == case.weights.to_dict()
    with pytest.raises(po.InputError, match="cannot write to"):
        write_run(tmp_path / "notes.txt", case.result, contributions=case.contributions, pictures=False)


def test_there_is_no_report_without_a_portfolio(case: Case, tmp_path: Path) -> None:
    impossible = case.result.problem.replace(constraints=[po.Bounds(0, 0.1), po.Bounds(0.2, 1, name="More")])
    result = po.optimize(impossible, raise_on_failure=False)
    assert result.status is po.Status.infeasible
    with pytest.raises(po.InputError, match="no portfolio to report on: infeasible"):
        write_run(tmp_path / "run", result, contributions=case.contributions)
    assert not (tmp_path / "run").exists()

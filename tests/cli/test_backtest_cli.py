"""``portfolioopt backtest``: what it leaves behind, what it prints, and how it says no."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

import portfolioopt as po
from portfolioopt.cli import BAD_INPUT, NO_ANSWER, app

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "backtest.yaml"
TABLES = ["drawdowns", "metrics", "months", "positions", "sessions", "settings", "targets", "timeline", "trades",
          "weights"]  # fmt: skip


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def small(folder: Path, *changes: tuple[str, str]) -> Path:
    """The example for a year, with few scenarios and still pictures, and these replacements of text."""
    text = EXAMPLE.read_text(encoding="utf-8")
    standard = [
        ("window: 1260", "window: 252"),
        ("n_scenarios: 1000", "n_scenarios: 150"),
        ("horizon: 21", "horizon: 5"),
        ("  capital", "  start: 2019-12-31\n  end: 2020-12-31\n  capital"),
        ("  top: 20", "  interactive: false\n  top: 20"),
    ]
    for old, new in [*standard, *changes]:
        assert old in text
        text = text.replace(old, new, 1)
    path = folder / "small.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def cheap(folder: Path, more: str = "") -> Path:
    """A backtest that solves nothing."""
    path = folder / "cheap.yaml"
    path.write_text(
        "data: {source: sample, start: 2019-01-01}\n"
        "book: {start: 2019-12-31, end: 2020-03-31, benchmark: sample index}\n"
        "report: {interactive: false, top: 3, runs: 2}\n" + (more or "strategy: equal_weight\n"),
        encoding="utf-8",
    )
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """The folder of a run of the example, and what it printed."""
    folder = tmp_path_factory.mktemp("run")
    result = call("backtest", small(folder), "--output", folder / "out")
    assert result.exit_code == 0, result.output
    return folder / "out" / "small", result


def test_files_of_a_backtest(run: tuple[Path, Result]) -> None:
    folder, _ = run
    names = [f"{name}.parquet" for name in TABLES] + ["report.html", "summary.json"]
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)
    frames = {name: pd.read_parquet(folder / f"{name}.parquet") for name in TABLES}
    sessions, targets = frames["sessions"].set_index("date"), frames["targets"].set_index("decided")
    assert len(sessions) == len(frames["weights"]) == 254
    assert targets.max().max() <= 0.15 + 1e-9
    assert targets.T.groupby(po.data.sample_sectors()).sum().max().max() <= 0.3 + 1e-7
    trades = frames["trades"]
    assert trades["cost"].sum() == pytest.approx(trades["value"].abs().sum() * 7e-4, rel=1e-9)
    spent = sessions["cost_commission"].sum() + sessions["cost_spread"].sum()
    assert spent == pytest.approx(trades["cost"].sum(), rel=1e-9)
    assert (frames["timeline"]["status"] == "optimal").all()
    assert len(frames["timeline"]) == 13


def test_the_summary_has_what_the_tables_have(run: tuple[Path, Result]) -> None:
    folder, _ = run
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    sessions = pd.read_parquet(folder / "sessions.parquet")
    metrics = pd.read_parquet(folder / "metrics.parquet").set_index("metric")["value"]
    assert summary["final_nav"] == sessions["nav"].iloc[-1]
    assert summary["metrics"]["sharpe"] == metrics["sharpe"]
    assert summary["metrics"]["total_return"] == pytest.approx(sessions["nav"].iloc[-1] / 1e7 - 1.0, rel=1e-9)
    assert (summary["decisions"], summary["failed_decisions"], summary["sessions"]) == (13, 0, 254)
    assert summary["settings"]["costs"] == "commission: {bps: 5}, spread: {bps: 4}"
    assert {path.name for path in folder.iterdir()} == {*summary["files"], "summary.json"}


def test_what_a_backtest_prints(run: tuple[Path, Result]) -> None:
    folder, result = run
    for text in ["2019-12-31 to 2020-12-31, after costs", "Mean-CVaR", "sample index", "CAGR", "worst drawdown",
                 "Against the benchmark: "]:  # fmt: skip
        assert text in result.stdout
    assert f"Wrote {folder}: " in result.stdout
    metrics = pd.read_parquet(folder / "metrics.parquet").set_index("metric")["value"]
    assert f"{metrics['excess_cagr']:+.2%} a year" in result.stdout
    (line,) = (line for line in result.stdout.splitlines() if line.strip().startswith("Mean-CVaR"))
    assert f"{metrics['sharpe']:.2f}" in line
    index = po.data.sample_index().loc["2019-12-31":"2020-12-31"]
    (line,) = (line for line in result.stdout.splitlines() if line.strip().startswith("sample index"))
    assert f"{1e7 * index.iloc[-1] / index.iloc[0]:,.0f}" in line
    for stage in ["reading prices", "asking for the first targets", "keeping the book for 254 sessions",
                  "13 decisions in", "writing the report"]:  # fmt: skip
        assert stage in result.stderr


def test_the_page(run: tuple[Path, Result]) -> None:
    folder, _ = run
    page = (folder / "report.html").read_text(encoding="utf-8")
    for text in ["<h1>small", "Mean-CVaR", "sample index", "commission: {bps: 5}", "Health Care", "portfolioopt"]:
        assert text in page


def test_the_same_tables_again_quietly_and_others_from_another_seed(run: tuple[Path, Result], tmp_path: Path) -> None:
    folder, _ = run
    config = small(tmp_path)
    again = call("backtest", config, "--output", tmp_path / "again", "--quiet")
    assert (again.exit_code, again.output) == (0, "")
    for name in set(TABLES) - {"timeline"}:  # which has seconds
        own = (tmp_path / "again" / "small" / f"{name}.parquet").read_bytes()
        assert own == (folder / f"{name}.parquet").read_bytes(), name
    other = call("backtest", config, "--output", tmp_path / "other", "--seed", 8, "-q")
    assert (other.exit_code, other.output) == (0, "")
    targets = (tmp_path / "other" / "small" / "targets.parquet").read_bytes()
    assert targets != (folder / "targets.parquet").read_bytes()


def test_several_strategies_have_a_page_each_and_later_runs_clean_up(tmp_path: Path) -> None:
    compared = "strategies:\n  Half: {kind: fixed, weights: {KO: 0.5}}\n  A/B: equal_weight\n"
    result = call("backtest", cheap(tmp_path, compared), "--output", tmp_path)
    assert result.exit_code == 0, result.output
    folder = tmp_path / "cheap"
    assert {path.name for path in folder.iterdir()} == {
        "runs.parquet", "nav.parquet", "timeline.parquet", "failures.parquet", "report.html", "summary.json",
        "0 Half", "1 A_B",
    }  # fmt: skip
    assert (folder / "0 Half" / "report.html").exists()
    assert "1 A_B" in result.stdout
    nav = pd.read_parquet(folder / "nav.parquet").set_index("date")
    np.testing.assert_array_equal(
        nav["run 1"], pd.read_parquet(folder / "1 A_B" / "sessions.parquet")["nav"].to_numpy()
    )
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert [line["strategy"] for line in summary["runs"]] == ["Half", "A/B"]

    (folder / "notes.txt").write_text("mine", encoding="utf-8")
    (folder / "0 Half" / "notes.txt").write_text("mine", encoding="utf-8")
    single = call("backtest", cheap(tmp_path), "--output", tmp_path)
    assert single.exit_code == 0, single.output
    assert f"Replaced the results in {folder}" in single.stdout
    assert not (folder / "runs.parquet").exists()
    assert not (folder / "1 A_B").exists()
    assert [path.name for path in (folder / "0 Half").iterdir()] == ["notes.txt"]
    assert (folder / "notes.txt").exists()
    assert (folder / "weights.parquet").exists()


def test_files_of_others_are_never_removed(tmp_path: Path) -> None:
    folder = tmp_path / "cheap"
    folder.mkdir()
    (tmp_path / "precious.parquet").touch()
    (folder / "summary.json").write_text(
        json.dumps({"files": ["../precious.parquet", str(tmp_path / "precious.parquet"), 3, "absent.parquet"]}),
        encoding="utf-8",
    )
    result = call("backtest", cheap(tmp_path), "--output", tmp_path, "-q")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "precious.parquet").exists()


def test_many_runs(tmp_path: Path) -> None:
    many = "strategy: {kind: inverse_volatility}\nparameters: {window: [20, 40, 60, 80]}\n"
    result = call("backtest", cheap(tmp_path, many), "--output", tmp_path)
    assert result.exit_code == 0, result.output
    assert "1 more runs are in runs.parquet" in result.stdout
    assert not any(path.is_dir() for path in (tmp_path / "cheap").iterdir())
    runs = pd.read_parquet(tmp_path / "cheap" / "runs.parquet")
    best = runs.sort_values("sharpe", ascending=False)["window"].tolist()
    lines = [line for line in result.stdout.splitlines() if line.strip().startswith("window ")]
    assert [f"window {window} " in line for window, line in zip(best, lines, strict=False)] == [True] * 3


def test_failures_are_told(tmp_path: Path) -> None:
    problem = """\
strategy:
  kind: problem
  scenarios: {kind: history, window: 60}
  objective: {expected_return: 1}
  constraints:
    budget: 1
    bounds: {lower: 0, upper: 0.2}
    return_target: 0.0005
fallback: cash
"""
    result = call("backtest", cheap(tmp_path, problem), "--output", tmp_path)
    assert result.exit_code == 0, result.output
    failed = pd.read_parquet(tmp_path / "cheap" / "timeline.parquet").query("fallback == 'cash'")
    assert 0 < len(failed) < 4
    assert f"{len(failed)} of 4 decisions had no answer:" in result.stdout
    assert f"{len(failed)} times infeasible, done instead: cash; first on {failed['decided'].iloc[0]:%Y-%m-%d}: " in (
        result.stdout
    )
    never = call("backtest", cheap(tmp_path, problem.replace("0.0005", "0.5")), "--output", tmp_path)
    assert never.exit_code == NO_ANSWER
    assert "No answer: none of 4 decisions had an answer; the first: " in never.stderr
    assert "still holds an earlier run" in never.stderr


def test_check_runs_nothing(tmp_path: Path) -> None:
    config = small(tmp_path)
    result = call("check", config)
    assert result.exit_code == 0, result.output
    for text in ["is sound", "254, 2019-12-31 to 2020-12-31", "monthly", "commission: {bps: 5}, spread: {bps: 4}",
                 "Mean-CVaR: maximise ExpectedReturn() - 2 CVaR(beta=0.95)", "Budget, Bounds, Sectors"]:  # fmt: skip
        assert text in result.stdout
    assert list(tmp_path.iterdir()) == [config]


@pytest.mark.parametrize("command", ["backtest", "check"])
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("risk_aversion: 2.0", "risk_avrsion: 2.0", "did you mean 'risk_aversion'?"),
        ("upper: 0.15", "upper: 15", "limits are fractions of NAV"),
        ("upper: 0.30", "upper: {Enrgy: 0.3}", "did you mean 'Energy'?"),
        ("benchmark: sample index", "benchmark: sample indx", "did you mean 'sample index'?"),
    ],
)
def test_bad_input(tmp_path: Path, command: str, old: str, new: str, message: str) -> None:
    config = small(tmp_path, (old, new))
    lines = config.read_text(encoding="utf-8").splitlines()
    line = next(i for i, text in enumerate(lines, start=1) if new in text)
    result = call(command, config, *(["--output", tmp_path] if command == "backtest" else []))
    assert result.exit_code == BAD_INPUT
    (complaint,) = (text for text in result.stderr.splitlines() if text.startswith("Bad input: "))
    assert f"{config}:{line}: " in complaint
    assert message in complaint
    assert "Traceback" not in result.output
    assert list(tmp_path.iterdir()) == [config]


def test_bad_arguments(tmp_path: Path) -> None:
    assert "absent.yaml: cannot be read" in call("backtest", tmp_path / "absent.yaml").stderr
    other = call("backtest", ROOT / "examples" / "quickstart.yaml", "--output", tmp_path)
    assert other.exit_code == BAD_INPUT
    assert "run it with 'portfolioopt optimize'" in other.stderr
    seeded = call("backtest", cheap(tmp_path), "--seed", 1, "--output", tmp_path)
    assert seeded.exit_code == BAD_INPUT
    assert "a seed has no effect" in seeded.stderr
    blocked = tmp_path / "file"
    blocked.touch()
    unwritable = call("backtest", cheap(tmp_path), "--output", blocked)
    assert unwritable.exit_code == BAD_INPUT
    assert "cannot write to" in unwritable.stderr


def test_without_the_packages_of_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portfolioopt.cli.backtesting.importlib.util.find_spec", lambda name: None)
    result = call("backtest", cheap(tmp_path), "--output", tmp_path)
    assert result.exit_code == 0, result.output
    assert 'pip install "portfolioopt[report]"' in result.stdout
    assert not (tmp_path / "cheap" / "report.html").exists()
    assert (tmp_path / "cheap" / "weights.parquet").exists()

"""The command line: what a run leaves behind, that it leaves the same every time, and how it says no."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from portfolioopt.cli import BAD_INPUT, NO_ANSWER, app

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "quickstart.yaml"
FILES = ["constraints", "contributions", "trades", "weights"]


def small(folder: Path, *changes: tuple[str, str]) -> Path:
    """The example with few scenarios, and these replacements of text."""
    text = EXAMPLE.read_text(encoding="utf-8")
    for old, new in [("10_000", "300"), *changes]:
        assert old in text
        text = text.replace(old, new)
    path = folder / "small.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def subprocess_call(*arguments: object) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "kernels")])}
    command = [sys.executable, "-m", "portfolioopt.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """The folder of a run of the example, and what it printed."""
    folder = tmp_path_factory.mktemp("run")
    result = call("optimize", small(folder), "--output", folder / "out")
    assert result.exit_code == 0, result.output
    return folder / "out" / "small", result


def test_files_of_a_run(run: tuple[Path, Result]) -> None:
    folder, _ = run
    names = [f"{name}.parquet" for name in FILES] + ["report.html", "summary.json"]
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)
    frames = {name: pd.read_parquet(folder / f"{name}.parquet") for name in FILES}
    weights = frames["weights"].set_index("asset")["weight"]
    assert weights.sum() == pytest.approx(1.0, abs=1e-9)
    assert weights.between(-1e-9, 0.15 + 1e-9).all()
    trades = frames["trades"].set_index("asset")["trade"]
    pd.testing.assert_series_equal(
        (0.05 + trades.reindex(weights.index, fill_value=0.0)), weights, check_names=False, rtol=0, atol=1e-9
    )
    assert trades.abs().sum() <= 0.6 + 1e-7
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert summary["status"] == "optimal"
    assert 0 <= summary["relative_gap"] + 1e-9 <= 1e-6
    cvar = {line["beta"]: line["cvar"] for line in summary["risk"]}
    contributions = frames["contributions"].groupby("measure")["contribution"].sum()
    assert contributions["CVaR 95%"] == pytest.approx(cvar[0.95], rel=1e-6)
    assert contributions["volatility"] == pytest.approx(summary["volatility"], rel=1e-9)
    assert set(frames["constraints"]["constraint"]) == {"Budget", "Bounds", "Sectors", "Turnover", "CVaRLimit(0.99)"}


def test_what_a_run_prints(run: tuple[Path, Result]) -> None:
    folder, result = run
    for text in ["optimal", "proven bound", "relative gap", "Sectors[", "Turnover", "Trades, in this order", "sell"]:
        assert text in result.stdout
    assert f"Wrote {folder}" in result.stdout
    stages = ["reading prices", "making scenarios", "solving", "writing the report"]
    assert all(stage in result.stderr for stage in stages)


def test_the_same_bytes_from_another_process_and_others_from_another_seed(
    run: tuple[Path, Result], tmp_path: Path
) -> None:
    folder, _ = run
    config = small(tmp_path)
    done = subprocess_call("optimize", config, "--output", tmp_path / "again", "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    for name in FILES:
        again = (tmp_path / "again" / "small" / f"{name}.parquet").read_bytes()
        assert again == (folder / f"{name}.parquet").read_bytes(), name
    other = call("optimize", config, "--output", tmp_path / "other", "--seed", 8, "-q")
    assert (other.exit_code, other.output) == (0, "")
    weights = (tmp_path / "other" / "small" / "weights.parquet").read_bytes()
    assert weights != (folder / "weights.parquet").read_bytes()
    assert "seed 8" in (tmp_path / "other" / "small" / "report.html").read_text(encoding="utf-8")


def test_a_second_run_replaces_the_first_and_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "small"
    assert f"Wrote {folder}" in call("optimize", small(tmp_path), "--output", tmp_path).stdout
    (folder / "notes.txt").write_text("mine", encoding="utf-8")
    first = (folder / "weights.parquet").read_bytes()
    second = call("optimize", small(tmp_path, ("weight: 2.0", "weight: 0.1")), "--output", tmp_path)
    assert second.exit_code == 0, second.output
    assert f"Replaced the results in {folder}" in second.stdout
    assert (folder / "weights.parquet").read_bytes() != first
    assert (folder / "notes.txt").read_text(encoding="utf-8") == "mine"


def test_no_pictures_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portfolioopt.cli.optimizing.importlib.util.find_spec", lambda name: None)
    result = call("optimize", small(tmp_path), "--output", tmp_path)
    assert result.exit_code == 0
    assert 'pip install "portfolioopt[report]"' in result.stdout
    assert "<svg" not in (tmp_path / "small" / "report.html").read_text(encoding="utf-8")


def test_check_solves_and_writes_nothing(tmp_path: Path) -> None:
    config = small(tmp_path)
    result = call("check", config)
    assert result.exit_code == 0
    assert "300 scenarios x 20 assets" in result.stdout
    assert "is sound" in result.stdout
    assert list(tmp_path.iterdir()) == [config]


# -- refusals ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["optimize", "check"])
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("turnover:", "turnovr:", "did you mean 'turnover'?"),
        ("upper: 0.15", "upper: 15", "limits are fractions of NAV"),
        ("upper: 0.30", "upper: {Energy: 30}", "limits are fractions of NAV"),
        ("holdings: equal", "holdings: {APPL: 1}", "did you mean 'AAPL'?"),
    ],
)
def test_bad_input(tmp_path: Path, command: str, old: str, new: str, message: str) -> None:
    config = small(tmp_path, (old, new))
    lines = config.read_text(encoding="utf-8").splitlines()
    (line,) = (i for i, text in enumerate(lines, start=1) if new in text)
    result = call(command, config, *(["--output", tmp_path] if command == "optimize" else []))
    assert result.exit_code == BAD_INPUT
    (complaint,) = (text for text in result.stderr.splitlines() if text.startswith("Bad input: "))
    assert f"{config}:{line}: " in complaint
    assert message in complaint
    assert "Traceback" not in result.output
    assert list(tmp_path.iterdir()) == [config]


def test_bad_arguments(tmp_path: Path) -> None:
    missing = call("optimize", tmp_path / "absent.yaml")
    assert missing.exit_code == BAD_INPUT
    assert "absent.yaml: cannot be read" in missing.stderr
    history = ("kind: bootstrap", "kind: history  "), ("n_scenarios", "# n"), ("  block_length", "#"), ("  seed", "#")
    seeded = call("check", small(tmp_path, *history), "--seed", 1)
    assert seeded.exit_code == BAD_INPUT
    assert "a seed has no effect" in seeded.stderr
    blocked = tmp_path / "file"
    blocked.touch()
    unwritable = call("optimize", small(tmp_path), "--output", blocked)
    assert unwritable.exit_code == BAD_INPUT
    assert "cannot write to" in unwritable.stderr
    assert call("optimise").exit_code == 2


def test_no_answer_names_the_culprits_and_leaves_old_results_alone(tmp_path: Path) -> None:
    small(tmp_path)
    assert call("optimize", tmp_path / "small.yaml", "--output", tmp_path).exit_code == 0
    before = (tmp_path / "small" / "weights.parquet").read_bytes()
    result = call("optimize", small(tmp_path, ("upper: 0.15", "upper: 0.04")), "--output", tmp_path)
    assert result.exit_code == NO_ANSWER
    assert "No answer: infeasible: these limits cannot hold together" in result.stderr
    # where the two limits stand that contradict each other
    lines = result.stderr.splitlines()
    text = (tmp_path / "small.yaml").read_text(encoding="utf-8").splitlines()
    for name, key in [("Budget", "budget:"), ("Bounds", "bounds:")]:
        (place,) = (line for line in lines if line.endswith(f": {name}"))
        assert text[int(place.split(":")[-2]) - 1].strip().startswith(key)
    assert "still holds an earlier run" in result.stderr
    assert "Traceback" not in result.output
    assert (tmp_path / "small" / "weights.parquet").read_bytes() == before


# -- help --------------------------------------------------------------------------------------------------------


def test_help_and_version() -> None:
    for arguments in [["--help"], ["optimize", "--help"], ["backtest", "--help"], ["check", "-h"]]:
        result = call(*arguments)
        assert result.exit_code == 0
        assert "CONFIG" in result.output or "optimize" in result.output
    lines = dict(line.split(" ", 1) for line in call("version").stdout.splitlines())
    assert {"portfolioopt", "jax", "numpy", "Python"} <= lines.keys()
    assert lines["numpy"] == np.__version__


def test_only_light_imports_at_the_top() -> None:
    # Help must not wait for what single commands need.
    import portfolioopt.cli

    allowed = {"typer", "rich", *sys.stdlib_module_names}
    for path in Path(portfolioopt.cli.__file__).parent.glob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
            for name in names:
                assert name.split(".")[0] in allowed or name == "portfolioopt.errors", f"{path.name}: {name}"

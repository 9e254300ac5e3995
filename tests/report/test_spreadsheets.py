"""Tables as files: what is read back is what the frames say, and dates are dates."""

from __future__ import annotations

import datetime
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import openpyxl
import pandas as pd
import pytest

import portfolioopt as po
from portfolioopt.backtest import Backtest
from portfolioopt.report import write_tables
from tests.report.books import ASSETS, book, forecast, grid, prices

SHEETS = {"metrics", "sessions", "weights", "positions", "targets", "trades", "timeline", "drawdowns", "settings",
          "months"}  # fmt: skip


@pytest.fixture(scope="module")
def run() -> Backtest:
    return forecast(book(data=prices(90)), 0.01)


def test_parquet_has_the_frames(run: Backtest, tmp_path: Path) -> None:
    written = write_tables(tmp_path / "new" / "folder", run)
    assert {path.name for path in written} == {f"{name}.parquet" for name in SHEETS}
    assert {path.name for path in (tmp_path / "new" / "folder").iterdir()} == {path.name for path in written}
    sessions = pd.read_parquet(tmp_path / "new" / "folder" / "sessions.parquet").set_index("date")
    pd.testing.assert_series_equal(
        sessions["nav"], run.nav, check_freq=False, check_names=False, check_index_type=False
    )
    pd.testing.assert_series_equal(
        sessions["cost_commission"],
        run.costs["commission"],
        check_freq=False,
        check_names=False,
        check_index_type=False,
    )
    weights = pd.read_parquet(tmp_path / "new" / "folder" / "weights.parquet").set_index("date")
    assert weights.to_numpy() == pytest.approx(run.weights.to_numpy())
    assert weights.columns.tolist() == ASSETS
    timeline = pd.read_parquet(tmp_path / "new" / "folder" / "timeline.parquet")
    assert timeline["traded"].notna().sum() == run.timeline["traded"].notna().sum()


def test_csv_has_full_precision(run: Backtest, tmp_path: Path) -> None:
    write_tables(tmp_path, run, format="csv")
    metrics = pd.read_csv(tmp_path / "metrics.csv", index_col="metric")["value"]
    assert metrics.to_dict() == pytest.approx(run.metrics.to_dict(), rel=1e-14, nan_ok=True)
    trades = pd.read_csv(tmp_path / "trades.csv", parse_dates=["date"])
    assert trades["date"].tolist() == run.trades["date"].tolist()
    assert trades["value"].to_numpy() == pytest.approx(run.trades["value"].to_numpy())


def test_excel_has_a_sheet_per_table_with_dates_as_dates(run: Backtest, tmp_path: Path) -> None:
    (path,) = write_tables(tmp_path / "run.xlsx", run, format="excel")
    assert [found.name for found in tmp_path.iterdir()] == ["run.xlsx"]
    workbook = openpyxl.load_workbook(path)
    assert set(workbook.sheetnames) == SHEETS
    sheet = workbook["sessions"]
    rows = list(sheet.iter_rows(values_only=True))
    nav = rows[0].index("nav")
    assert [row[nav] for row in rows[1:]] == pytest.approx(run.nav.tolist())
    first = sheet.cell(2, 1)
    assert first.is_date
    assert first.number_format == "yyyy-mm-dd"
    assert isinstance(first.value, datetime.datetime)
    assert pd.Timestamp(first.value) == run.nav.index[0]
    untraded = [row for row in workbook["timeline"].iter_rows(min_row=2, values_only=True) if row[1] is None]
    assert len(untraded) == run.timeline["traded"].isna().sum()
    assert workbook["weights"].freeze_panes == "B2"


def test_text_is_never_a_formula(run: Backtest, tmp_path: Path) -> None:
    lines = [line | {"message": "=1+1", "reason": "@SUM(A1)"} for line in run._record.timeline]
    renamed = replace(run._record, timeline=lines, assets=pd.Index(["=A", "+B", "-C", "D"]))
    (path,) = write_tables(tmp_path / "run.xlsx", Backtest(renamed), format="excel")
    workbook = openpyxl.load_workbook(path)
    kinds = {cell.data_type for sheet in workbook for row in sheet.iter_rows() for cell in row}
    assert "f" not in kinds
    assert [cell.value for cell in workbook["weights"][1]][1:] == ["=A", "+B", "-C", "D"]


@pytest.mark.parametrize("format", ["parquet", "csv", "excel"])
def test_time_zones_are_taken_off(run: Backtest, tmp_path: Path, format: str) -> None:  # noqa: A002
    record = run._record
    zoned = Backtest(replace(record, dates=(record.dates + pd.Timedelta(hours=16)).tz_localize("America/New_York")))
    place = tmp_path / ("x.xlsx" if format == "excel" else "folder")
    write_tables(place, zoned, format=format)
    if format == "parquet":
        dates = pd.read_parquet(place / "sessions.parquet")["date"]
    elif format == "csv":
        dates = pd.read_csv(place / "sessions.csv", parse_dates=["date"])["date"]
    else:
        dates = pd.read_excel(place, sheet_name="sessions")["date"]
    assert dates.dt.tz is None
    assert dates.tolist() == (record.dates + pd.Timedelta(hours=16)).tolist()


def test_grids_results_and_sweeps_have_tables(tmp_path: Path) -> None:
    runs = grid()
    write_tables(tmp_path / "grid", runs)
    stored = pd.read_parquet(tmp_path / "grid" / "runs.parquet")
    assert stored["sharpe"].to_numpy() == pytest.approx(runs.metrics["sharpe"].to_numpy())
    assert stored["first"].tolist() == runs.runs["first"].tolist()

    returns = prices(61).pct_change().iloc[1:]
    problem = po.Problem(
        po.ScenarioSet(returns, horizon="1 day"), po.ExpectedReturn() - po.CVaR(0.9), [po.Budget(), po.Bounds(0, 0.6)]
    )
    result = po.optimize(problem)
    write_tables(tmp_path / "result.xlsx", result, format="excel")
    weights = pd.read_excel(tmp_path / "result.xlsx", sheet_name="weights", index_col="asset")["weight"]
    assert weights.to_dict() == pytest.approx(result.weights.to_dict(), abs=1e-15)
    worst = pd.read_excel(tmp_path / "result.xlsx", sheet_name="worst_scenarios")
    assert worst["loss"].to_numpy() == pytest.approx(result.tail_scenarios(n=50)["loss"].to_numpy())

    line = po.sweep(problem, {"Bounds.upper": [0.5, 0.6]}, limits=True)
    names = {path.stem for path in write_tables(tmp_path / "sweep", line, format="csv")}
    assert names == {"points", "weights", "limits"}


def test_what_cannot_be_written_is_refused(run: Backtest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(po.UnknownNameError, match="excel"):
        write_tables(tmp_path, run, format="xlsx")
    with pytest.raises(po.InputError, match=r"\.xlsx"):
        write_tables(tmp_path / "x.xls", run, format="excel")
    with pytest.raises(po.InputError, match="Backtest, BacktestGrid, Result or Sweep"):
        write_tables(tmp_path, np.zeros(3))
    (tmp_path / "file").touch()
    with pytest.raises(po.InputError, match="cannot write to"):
        write_tables(tmp_path / "file", run)
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(po.InputError, match=r'pip install "portfolioopt\[report\]"'):
        write_tables(tmp_path / "x.xlsx", run, format="excel")

"""Tables of backtests, results and sweeps as files: Parquet for programs, CSV and Excel for people."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd

from portfolioopt.backtest import Backtest, BacktestGrid
from portfolioopt.backtest.drawdowns import drawdown_table
from portfolioopt.backtest.metrics import monthly_returns
from portfolioopt.errors import InputError, unknown_names
from portfolioopt.solve import Result, Sweep

from .figures import certified

Format: TypeAlias = Literal["parquet", "csv", "excel"]
Source: TypeAlias = Backtest | BacktestGrid | Result | Sweep

_SHEET_ROWS = 1_048_576
_SHEET_COLUMNS = 16_384
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # how a text begins that a spreadsheet takes for a formula


def write_tables(
    folder_or_file: str | Path,
    source: Source,
    *,
    format: Format = "parquet",  # noqa: A002  what readers look for
) -> list[Path]:
    """Write the tables of a backtest, grid, result or sweep.

    Frames come with their labels as columns. Dates are dates: without a time of day where they have none, and without
    a time zone, in which they are what the clocks there said.

    Parameters
    ----------
    folder_or_file
        ``"parquet"`` and ``"csv"``: a folder, made if it is not there, in which each table is a file of its name;
        ``"excel"``: one file, ``.xlsx``, with a sheet per table. Files of these names are replaced, others left alone.
    source
        What to write.
    format
        ``"parquet"``, ``"csv"`` (UTF-8, full precision) or ``"excel"`` (the extra ``report``).

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    InputError
        For other sources and formats, tables too large for a spreadsheet, and where files cannot be written.
    """
    if format not in ("parquet", "csv", "excel"):
        raise unknown_names("format", [format], ["parquet", "csv", "excel"])
    frames = {name: _flat(frame) for name, frame in tables(source).items()}
    path = Path(folder_or_file)
    try:
        if format == "excel":
            return [_excel(path, frames)]
        path.mkdir(parents=True, exist_ok=True)
        written = []
        for name, frame in frames.items():
            if format == "parquet":
                written.append(_replaced(path / f"{name}.parquet", lambda at, f=frame: f.to_parquet(at, index=False)))
            else:
                written.append(_replaced(path / f"{name}.csv", lambda at, f=frame: f.to_csv(at, index=False)))
        return written
    except OSError as error:
        raise InputError(f"cannot write to {path}: {error.strerror or error}; choose another place") from error


def tables(source: Source) -> dict[str, pd.DataFrame]:
    """The tables of a backtest, grid, result or sweep by name, with their labels as index."""
    match source:
        case Backtest():
            return _of_backtest(source)
        case BacktestGrid():
            return {
                "runs": source.table, "nav": source.nav.rename(columns=lambda run: f"run {run}"),
                "timeline": source.timeline.set_index("run"), "failures": source.failures.set_index("run"),
            }  # fmt: skip
        case Result():
            return _of_result(source)
        case Sweep():
            return _of_sweep(source)
    raise InputError(f"there are tables of a Backtest, BacktestGrid, Result or Sweep, not of {type(source).__name__}")


def _of_backtest(backtest: Backtest) -> dict[str, pd.DataFrame]:
    daily: dict[str, pd.Series] = {
        "nav": backtest.nav, "return": backtest.returns, "cash": backtest.cash, "flow": backtest.flows,
        "turnover": backtest.turnover,
    }  # fmt: skip
    if backtest.benchmark is not None:
        daily["benchmark"] = backtest.benchmark
    sessions = pd.DataFrame(daily).join(backtest.costs.add_prefix("cost_")).join(backtest.income.add_prefix("income_"))
    settings = pd.Series({name: str(value) for name, value in backtest.settings.items()}, name="value", dtype=object)
    found = {
        "metrics": backtest.metrics.rename_axis("metric").rename("value").to_frame(),
        "sessions": sessions.rename_axis("date"),
        "weights": backtest.weights.rename_axis("date"),
        "positions": backtest.positions.rename_axis("date"),
        "targets": backtest.targets,
        "trades": backtest.trades.set_index("date"),
        "timeline": backtest.timeline,
        "drawdowns": drawdown_table(backtest.measured_returns, 20),
        "settings": settings.rename_axis("setting").to_frame(),
    }
    dates = backtest.nav.index
    if isinstance(dates, pd.DatetimeIndex) and len(dates) > 1:
        months = monthly_returns(backtest.measured_returns)
        found["months"] = months.rename(columns=lambda month: "whole" if month == "year" else f"{month:02d}")
    return found


def _of_result(result: Result) -> dict[str, pd.DataFrame]:
    weights = certified(result).weights
    assert weights is not None
    c = result.certificate
    assert c is not None
    frame = weights.rename_axis("asset").to_frame()
    if result.problem.holdings is not None:
        frame["holding"] = result.problem.holdings
        frame["trade"] = frame["weight"] - frame["holding"]
    figures = {
        "status": result.status.name, "objective": c.objective, "bound": c.bound, "gap": c.gap,
        "max_violation": c.max_violation, "expected_return": result.expected_return, "volatility": result.volatility,
    }  # fmt: skip
    summary = pd.Series({name: str(value) for name, value in figures.items()}, name="value", dtype=object)
    found = {
        "summary": summary.rename_axis("figure").to_frame(),
        "weights": frame,
        "constraints": result.constraints.set_index("name"),
        "terms": result.terms.set_index("term"),
        "risk": result.risk,
    }
    if result.problem.scenarios.form is None:
        found["worst_scenarios"] = result.tail_scenarios(n=50)
    return found


def _of_sweep(sweep: Sweep) -> dict[str, pd.DataFrame]:
    found = {"points": sweep.points, "weights": sweep.weights}
    try:
        limits = sweep.limits
    except InputError:  # not kept
        return found
    return found | {"limits": limits}


def _flat(frame: pd.DataFrame) -> pd.DataFrame:
    """A frame with its index as columns, names as text, and dates without a time zone."""
    flat = frame.reset_index()
    flat.columns = [str(name) for name in flat.columns]
    if flat.columns.has_duplicates:
        flat.columns = _numbered(list(flat.columns))
    for name in flat.columns:
        column = flat[name]
        if isinstance(column.dtype, pd.DatetimeTZDtype):
            flat[name] = column.dt.tz_localize(None)
        elif column.dtype == object:
            kinds = {type(value) for value in column if value is not None}
            if len(kinds - {str}) and not kinds <= {bool, np.bool_}:
                flat[name] = [None if value is None or value is pd.NaT else str(value) for value in column]
    return flat


def _numbered(names: list[str]) -> list[str]:
    seen: dict[str, int] = {}
    found = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        found.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return found


def _excel(path: Path, frames: Mapping[str, pd.DataFrame]) -> Path:
    if path.suffix.lower() != ".xlsx":
        raise InputError(f"an Excel file ends in .xlsx, was {path.name!r}")
    for name, frame in frames.items():
        if len(frame) >= _SHEET_ROWS or len(frame.columns) > _SHEET_COLUMNS:
            raise InputError(
                f"the table {name!r} has {len(frame):,} rows and {len(frame.columns):,} columns, more than a sheet of "
                "Excel holds; use format='parquet'"
            )
    try:
        import openpyxl  # noqa: F401
    except ModuleNotFoundError as error:
        raise InputError(
            'Excel files need openpyxl, which is not installed: pip install "portfolioopt[report]"'
        ) from error
    path.parent.mkdir(parents=True, exist_ok=True)
    return _replaced(path, lambda at: _sheets(at, frames))


def _sheets(path: Path, frames: Mapping[str, pd.DataFrame]) -> None:
    from openpyxl import Workbook
    from openpyxl.cell import WriteOnlyCell
    from openpyxl.styles import Font
    from openpyxl.utils import get_column_letter

    book = Workbook(write_only=True)
    for name, frame in frames.items():
        sheet = book.create_sheet(re.sub(r"[\[\]:*?/\\]", " ", name)[:31])
        sheet.freeze_panes = "B2"
        dated = [isinstance(dtype, np.dtype) and dtype.kind == "M" for dtype in frame.dtypes]
        plain = [
            bool((column.dropna() == column.dropna().dt.normalize()).all()) if when else False
            for when, (_, column) in zip(dated, frame.items(), strict=True)
        ]
        for i, heading in enumerate(frame.columns, 1):
            sheet.column_dimensions[get_column_letter(i)].width = min(max(len(heading) + 2, 11), 40)
        head = []
        for heading in frame.columns:
            cell = WriteOnlyCell(sheet, value=heading)
            cell.data_type = "s"
            cell.font = Font(bold=True)
            head.append(cell)
        sheet.append(head)
        columns = [
            _dates(column, whole) if when else column.tolist()
            for (_, column), when, whole in zip(frame.items(), dated, plain, strict=True)
        ]
        for row in zip(*columns, strict=True):
            cells = []
            for value, when, whole in zip(row, dated, plain, strict=True):
                if when and value is not None:
                    cell = WriteOnlyCell(sheet, value=value)
                    cell.number_format = "yyyy-mm-dd" if whole else "yyyy-mm-dd hh:mm"
                    cells.append(cell)
                elif isinstance(value, str) and value.startswith(_FORMULA):
                    cell = WriteOnlyCell(sheet, value=value)
                    cell.data_type = "s"  # a text, never a formula
                    cells.append(cell)
                elif value is None or value is pd.NA or (isinstance(value, float) and not np.isfinite(value)):
                    cells.append(None)
                else:
                    cells.append(value)
            sheet.append(cells)
    book.save(path)


def _dates(column: pd.Series, whole: bool) -> list[object]:
    found: list[object] = []
    for value in column:
        stamp = None if pd.isna(value) else pd.Timestamp(value).to_pydatetime()
        found.append(stamp.date() if whole and stamp is not None else stamp)
    return found


def _replaced(path: Path, write: Callable[[Path], object]) -> Path:
    """Write to the side first: a reader sees the old file or the new one."""
    draft = path.with_name(f".{path.stem}.part{path.suffix}")
    write(draft)
    os.replace(draft, path)
    return path

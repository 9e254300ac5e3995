"""The command ``backtest``: strategies through history, their tables and their reports."""

from __future__ import annotations

import importlib.util
import json
import math
import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich import box
from rich.markup import escape
from rich.table import Table

from portfolioopt.errors import InputError, SolveError

from .speaking import Stages, out, versions

if TYPE_CHECKING:
    import pandas as pd

    from portfolioopt.backtest import Backtest, BacktestGrid
    from portfolioopt.config import BacktestSetup

_SHOWN: Final = {
    "cagr": "CAGR", "volatility": "volatility", "sharpe": "Sharpe", "max_drawdown": "worst drawdown",
    "cvar": "CVaR 95 %", "turnover_one_way": "turnover", "cost_drag": "cost drag",
}  # fmt: skip
_LESS: Final = ("cvar", "turnover_one_way", "cost_drag")  # left out on a narrow terminal
_WIDE: Final = 100
_MESSAGES: Final = 5  # kinds of failures that are printed


def run_backtest(path: Path, output: Path, seed: int | None, stages: Stages, *, quiet: bool) -> None:
    """Run, write, and print."""
    stages.begin("loading")
    from portfolioopt.config import build_backtest, load_backtest

    run = load_backtest(path)
    run = run if seed is None else run.with_seed(seed)
    setup = build_backtest(run, stage=stages.begin)
    stages.begin("asking for the first targets")
    setup.rehearse()  # what a strategy refuses has a line in the file here
    folder = output / str(run.name)
    replaced = (folder / "report.html").exists()

    bar = not quiet and out().is_terminal
    books = f"{setup.runs:,} books" if setup.runs > 1 else "the book"
    stages.begin(f"keeping {books} for {len(setup.sessions):,} sessions", spinner=not bar)
    start = time.perf_counter()
    result = setup.run(progress=bar)
    seconds = time.perf_counter() - start
    stages.end(f"{len(result.timeline):,} decisions in {seconds:.1f} s")
    _refuse_nothing(result)

    stages.begin("writing the report")
    interactive = run.report.interactive and _installed("plotly")
    pages = interactive or _installed("matplotlib")
    facts = _facts(setup, path)
    written = _write(folder, setup, result, facts, seconds, interactive=interactive, pages=pages)
    stages.end()
    if quiet:
        return
    _show(setup, result)
    console = out()
    if not pages or interactive != run.report.interactive:
        missing = "No still pictures, hence no page" if not pages else "Still pictures only"
        console.print(f'{missing}, without the extra: pip install "portfolioopt\\[report]"', style="yellow")
    verb = "Replaced the results in" if replaced else "Wrote"
    names = ", ".join(str(file.relative_to(folder)) for file in written if file.parent == folder)
    console.print(f"{verb} [bold]{escape(str(folder))}[/]: {names}", highlight=False, soft_wrap=True)
    for page in written:
        if page.name == "report.html" and page.parent != folder:
            console.print(f"  [bold]{escape(str(page))}[/]", highlight=False, soft_wrap=True)


def _refuse_nothing(result: Backtest | BacktestGrid) -> None:
    """Refuse to report on books for which no decision had an answer."""
    failures = result.failures
    if len(failures) and len(failures) == len(result.timeline):
        raise SolveError(f"none of {len(failures):,} decisions had an answer; the first: {failures['message'].iloc[0]}")


def _facts(setup: BacktestSetup, path: Path) -> dict[str, object]:
    """What the figures depend on beside the settings, for the report."""
    dates = setup.market.dates
    return {
        "configuration": path.name,
        "prices": f"{setup.config.data.source}, {len(dates):,} rows, {dates[0]:%Y-%m-%d} to {dates[-1]:%Y-%m-%d}",
        "versions": ", ".join(f"{name} {number}" for name, number in versions().items()),
    }


# -- files -------------------------------------------------------------------------------------------------------


def _write(
    folder: Path,
    setup: BacktestSetup,
    result: Backtest | BacktestGrid,
    facts: dict[str, object],
    seconds: float,
    *,
    interactive: bool,
    pages: bool,
) -> list[Path]:
    """Write tables, pages and the summary; files that an earlier run left and this one does not have are removed."""
    from portfolioopt.backtest import Backtest
    from portfolioopt.report import write_backtest_report, write_grid_report, write_tables

    run = setup.config
    title = str(run.name)

    def page(one: Backtest, at: Path, heading: str) -> list[Path]:
        files = write_tables(at, one)
        if pages:
            labels = None if setup.labels is None else setup.labels.reindex(one.prices.columns)
            files.append(
                write_backtest_report(
                    at / "report.html", one, title=heading, labels=labels, facts=facts, top=run.report.top,
                    interactive=interactive,
                )
            )  # fmt: skip
        return files

    if isinstance(result, Backtest):
        written = page(result, folder, title)
    else:
        written = write_tables(folder, result)
        if pages:
            written.append(write_grid_report(folder / "report.html", result, title=title, interactive=interactive))
        if len(result) <= run.report.runs:
            for number, one in enumerate(result):
                written += page(one, folder / _folder_name(one.name, number), f"{title}: {one.name}")
    path = folder / "summary.json"
    names = [str(file.relative_to(folder)) for file in written]
    stale = [name for name in _written_before(path) if name not in names]
    summary = _summary(result, title, facts, seconds) | {"files": names}
    try:
        path.write_text(json.dumps(summary, indent=2, default=str, allow_nan=False) + "\n", encoding="utf-8")
        _remove(folder, stale)
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror or error}; choose another folder") from error
    return [*written, path]


def _folder_name(name: str, number: int) -> str:
    """The name of a run as that of a folder."""
    return f"{number} {re.sub(r'[^A-Za-z0-9_ .,+=-]', '_', name)}"[:80].strip(" .")


def _written_before(path: Path) -> list[str]:
    """The files that an earlier backtest in this folder says it wrote."""
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    names = before.get("files") if isinstance(before, dict) else None
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def _remove(folder: Path, names: Iterable[str]) -> None:
    """Remove these tables and pages, and folders that they leave empty."""
    for name in names:
        path = folder / name
        inside = not Path(name).is_absolute() and ".." not in Path(name).parts
        if inside and path.suffix in (".parquet", ".html"):
            path.unlink(missing_ok=True)
            if path.parent != folder and path.parent.is_dir() and not any(path.parent.iterdir()):
                path.parent.rmdir()


def _summary(
    result: Backtest | BacktestGrid, title: str, facts: Mapping[str, object], seconds: float
) -> dict[str, Any]:
    """Headline figures for programs: fractions, full precision, null where there is none."""
    from portfolioopt.backtest import Backtest

    single = isinstance(result, Backtest)
    first = result if single else result[0]
    dates = first.nav.index
    found: dict[str, Any] = {
        "name": title,
        "first": f"{dates[0]:%Y-%m-%d}",
        "last": f"{dates[-1]:%Y-%m-%d}",
        "sessions": len(dates),
        "decisions": len(result.timeline),
        "failed_decisions": len(result.failures),
    }
    if single:
        found |= {"strategy": result.name, "final_nav": float(result.nav.iloc[-1]), "metrics": _plain(result.metrics)}
    else:
        shown = [name for name in _SHOWN if name in result.metrics.columns]
        found["runs"] = [
            {"run": i, **_plain(result.runs.iloc[i]), **_plain(result.metrics[shown].iloc[i])}
            for i in range(len(result))
        ]
    return found | {"settings": first.settings, "facts": dict(facts), "seconds": seconds}


def _plain(row: pd.Series) -> dict[str, Any]:
    values = {str(name): value.item() if hasattr(value, "item") else value for name, value in row.items()}
    return {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in values.items()}


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


# -- tables ------------------------------------------------------------------------------------------------------


def _show(setup: BacktestSetup, result: Backtest | BacktestGrid) -> None:
    from portfolioopt.backtest import Backtest

    console = out()
    single = isinstance(result, Backtest)
    metrics = result.metrics.to_frame().T if single else result.metrics
    books = {0: result} if single else {i: result[i] for i in range(len(result))}
    first = books[0]
    order = list(range(len(books)))
    top = setup.config.report.top
    if len(order) > top:
        order = metrics["sharpe"].reset_index(drop=True).sort_values(ascending=False, kind="stable").index.tolist()
    dates = first.nav.index
    title = f"{dates[0]:%Y-%m-%d} to {dates[-1]:%Y-%m-%d}, after costs"
    notes = ["CVaR of a session; turnover one way, per year"] if console.width >= _WIDE else []
    notes += [f"{len(order) - top:,} more runs are in runs.parquet"] if len(order) > top else []
    table = Table(
        title=title, title_justify="left", title_style="bold", caption="; ".join(notes) or None, caption_justify="left",
        box=box.SIMPLE_HEAD, pad_edge=False,
    )  # fmt: skip
    table.add_column("", style="bold", overflow="fold")
    shown = [name for name in _SHOWN if console.width >= _WIDE or name not in _LESS]
    for name in (*(_SHOWN[name] for name in shown), "final NAV"):
        table.add_column(name, justify="right")
    for i in order[:top]:
        nav = float(books[i].nav.iloc[-1])
        table.add_row(escape(books[i].name if single else _label(result.runs, i)), *_cells(shown, metrics.iloc[i], nav))
    if first.benchmark is not None and "history" not in (() if single else result.runs.columns):
        label = setup.config.book.benchmark or "benchmark"
        table.add_row(escape(label), *_cells(shown, _of_benchmark(first), float(first.benchmark.iloc[-1])), style="dim")
    console.print()
    console.print(table)
    if single and first.benchmark is not None:
        m = first.metrics
        console.print(
            f"Against the benchmark: {m['excess_cagr']:+.2%} a year, beta {m['beta_to_benchmark']:.2f}, tracking error "
            f"{m['tracking_error']:.2%}, information ratio {m['information_ratio']:.2f}",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
    _show_failures(result)


def _label(runs: pd.DataFrame, run: int) -> str:
    """What tells a run from the others."""
    row = runs.iloc[run]
    told = [str(row["strategy"])] if len(runs["strategy"].unique()) > 1 or len(runs.columns) == 1 else []
    return ", ".join([*told, *(f"{name} {row[name]}" for name in runs.columns if name != "strategy")])


def _cells(shown: list[str], metrics: pd.Series, nav: float) -> list[str]:
    from portfolioopt.report.figures import money, percent

    cells = []
    for name in shown:
        value = float(metrics.get(name, math.nan))
        if math.isnan(value):
            cells.append("")
        elif name == "sharpe":
            cells.append(f"{value:.2f} ± {metrics['sharpe_standard_error']:.2f}")
        else:
            cells.append(percent(value, 0 if name == "turnover_one_way" else 2))
    # no line is broken inside a figure
    return [cell.replace(" ", "\u00a0") for cell in (*cells, money(nav))]


def _of_benchmark(book: Backtest) -> pd.Series:
    """Performance of the benchmark over the sessions of a book."""
    from portfolioopt.backtest import performance
    from portfolioopt.report.charts import risk_free

    worth = book.benchmark
    assert worth is not None
    returns = worth.pct_change().iloc[1:]
    return performance(returns, risk_free=risk_free(book), periods_per_year=book.periods_per_year)


def _show_failures(result: Backtest | BacktestGrid) -> None:
    failures = result.failures
    if failures.empty:
        return
    console = out()
    total = len(result.timeline)
    console.print(f"{len(failures):,} of {total:,} decisions had no answer:", style="yellow", highlight=False)
    dated = failures if "decided" in failures.columns else failures.reset_index()
    kinds = dated.groupby(["status", "fallback"], sort=False)
    for (status, fallback), own in list(kinds)[:_MESSAGES]:  # type: ignore[misc]
        line = own.iloc[0]
        console.print(
            f"  {len(own):,} times {status}, done instead: {fallback}; first on {line['decided']:%Y-%m-%d}: "
            f"{str(line['message']).splitlines()[0]}",
            highlight=False, markup=False, soft_wrap=True,
        )  # fmt: skip

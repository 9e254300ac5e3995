"""The command line: ``portfolioopt optimize run.yaml``.

Only what every command needs is imported at the top; the libraries that take a second to load are imported by the
commands that use them.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel

from portfolioopt.errors import InfeasibleError, PortfolioOptError, SolveError

if TYPE_CHECKING:
    import pandas as pd

    from portfolioopt.config import Config, Setup
    from portfolioopt.solve import Result

BAD_INPUT: Final = 2
NO_ANSWER: Final = 3
_VERSIONS: Final = ("portfolioopt", "jax", "jaxlib", "numpy", "pandas", "pyarrow")
_PLAIN_WIDTH: Final = 120  # where there is no terminal, wide enough for every table

app = typer.Typer(
    name="portfolioopt",
    help="Certified Mean-CVaR portfolios from a YAML file.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="The run, a YAML file.", show_default=False)]
Seed = Annotated[
    int | None, typer.Option(metavar="N", min=0, help="Use this seed instead of the one in CONFIG.", show_default=False)
]


@app.command()
def optimize(
    config: ConfigFile,
    output: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder for results; the run gets a folder of its own name in it.")
    ] = Path("results"),
    seed: Seed = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Solve the run in CONFIG, print the answer, and write tables and a report.

    Results of an earlier run of the same name are replaced, unless there is no answer.

    Exit code: 2 for bad input, 3 where there is no answer (infeasible, unbounded, stalled).
    """
    with _reported(output, config), _Stages(quiet=quiet) as stages:
        run, setup = _prepared(config, seed, stages)
        folder = output / str(run.name)
        replaced = (folder / "weights.parquet").exists()
        result, trades = _solved(setup, stages)
        contributions = _attributed(setup, result)
        pictures = run.report.pictures and importlib.util.find_spec("matplotlib") is not None

        stages.begin("writing the report")
        from portfolioopt.report import write_run

        written = write_run(
            folder,
            result,
            contributions=contributions,
            trades=trades,
            nav=run.nav,
            labels=setup.labels,
            title=str(run.name),
            facts=_facts(setup, config),
            source=run.origin.text,
            top=run.report.top,
            pictures=pictures,
        )
        stages.end()
        if quiet:
            return
        _show(setup, result, contributions, trades)
        if run.report.pictures and not pictures:
            _out().print('No pictures without matplotlib: pip install "portfolioopt\\[report]"', style="yellow")
        verb = "Replaced the results in" if replaced else "Wrote"
        names = ", ".join(path.name for path in written)
        _out().print(f"{verb} [bold]{escape(str(folder))}[/]: {names}", highlight=False, soft_wrap=True)


@app.command()
def check(config: ConfigFile, seed: Seed = None) -> None:
    """Check CONFIG: keys, values, files, names and units. Solves and writes nothing."""
    with _reported(None, config), _Stages() as stages:
        _, setup = _prepared(config, seed, stages)
        stages.end()
        first, last = setup.prices.index[0], setup.prices.index[-1]
        out = _out()
        out.print(f"[green]{escape(str(config))} is sound[/]", highlight=False, soft_wrap=True)
        out.print(
            f"prices       {len(setup.prices.columns)} assets, {first:%Y-%m-%d} to {last:%Y-%m-%d}", highlight=False
        )
        out.print(f"scenarios    {setup.scenarios!r}", highlight=False, markup=False, soft_wrap=True)
        out.print(f"maximised    {setup.problem.objective}", highlight=False, markup=False, soft_wrap=True)
        names = ", ".join(constraint.name for constraint in setup.problem.constraints) or "none"
        out.print(f"constraints  {names}", highlight=False, markup=False, soft_wrap=True)


@app.command()
def version() -> None:
    """Print the versions of portfolioopt and of what its numbers depend on."""
    for name, number in _versions().items():
        typer.echo(f"{name} {number}")


def main() -> None:
    """Entry point of the command ``portfolioopt``."""
    app()


# -- the steps of a run ------------------------------------------------------------------------------------------


def _prepared(path: Path, seed: int | None, stages: _Stages) -> tuple[Config, Setup]:
    stages.begin("loading")
    from portfolioopt.config import build_problem, load_config

    run = load_config(path)
    if seed is not None:
        run = run.with_seed(seed)
    return run, build_problem(run, stage=stages.begin)


def _solved(setup: Setup, stages: _Stages) -> tuple[Result, pd.DataFrame | None]:
    stages.begin("compiling the kernel and solving")
    from portfolioopt.rebalance import plan_trades
    from portfolioopt.solve import optimize as solve

    try:
        result = solve(setup.problem)
    except InfeasibleError as error:
        raise _with_lines(error, setup) from error
    t = result.timings
    stages.end(f"compiled in {t.compile:.1f} s, solved in {t.solve:.2f} s, {result.iterations} iterations")
    holdings = setup.problem.holdings
    assert result.weights is not None
    if holdings is None:
        return result, None
    run = setup.config
    last = setup.prices.iloc[-1]
    trades = plan_trades(
        result.weights,
        holdings,
        nav=run.nav,
        cost_bps=setup.cost_bps,
        minimum_trade=run.minimum_trade,
        # with a NAV of one, amounts are fractions, and units would mean nothing
        prices=last if run.nav != 1.0 and bool(last.notna().all()) else None,
    )
    return result, trades


def _attributed(setup: Setup, result: Result) -> pd.DataFrame:
    from portfolioopt.attribution import risk_contributions

    assert result.weights is not None
    return risk_contributions(
        setup.scenarios,
        result.weights,
        betas=[float(str(beta)) for beta in result.risk.index],
        tail_weights=result.tail_weights,
    )


def _show(setup: Setup, result: Result, contributions: pd.DataFrame, trades: pd.DataFrame | None) -> None:
    from portfolioopt.report import constraints_table, groups_table, summary_table, trades_table, weights_table

    out, top = _out(), setup.config.report.top
    out.print()
    out.print(summary_table(result, trades=trades, nav=setup.config.nav))
    out.print(weights_table(result, contributions, labels=setup.labels, top=top))
    if setup.problem.constraints:
        out.print(constraints_table(result, top=top))
    if setup.labels is not None:
        out.print(groups_table(contributions, setup.labels))
    if trades is not None:
        out.print(trades_table(trades, top=top))


def _facts(setup: Setup, path: Path) -> dict[str, object]:
    """What the answer depends on, for the report."""
    run, index = setup.config, setup.prices.index
    drawn = run.scenarios
    kind = f"{drawn.kind}, horizon {drawn.horizon}"
    if drawn.kind == "bootstrap":
        kind += f", {drawn.method or 'stationary'} blocks, seed {drawn.seed}"
    facts: dict[str, object] = {
        "configuration": path.name,
        "prices": f"{run.data.source}, {len(index):,} rows, {index[0]:%Y-%m-%d} to {index[-1]:%Y-%m-%d}",
        "made by": kind,
        "holdings": "none" if run.holdings is None else run.holdings if isinstance(run.holdings, str) else "as given",
    }
    facts["versions"] = ", ".join(f"{name} {number}" for name, number in _versions().items())
    return facts


def _versions() -> dict[str, str]:
    found = {"Python": platform.python_version()}
    for name in _VERSIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return {name: found[name] for name in (*_VERSIONS, "Python")}


# -- speaking to the user ----------------------------------------------------------------------------------------


class _Stages:
    """Says what is being done: a spinner with a clock on a terminal, plain lines elsewhere. On the error stream."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._console = _err()
        self._status = self._console.status("") if self._console.is_terminal and not quiet else None
        self._name = ""
        self._start = 0.0

    def __enter__(self) -> _Stages:
        return self

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()

    def begin(self, name: str) -> None:
        """End the stage before, if there is one, and begin this one."""
        self.end()
        self._name, self._start = name, time.perf_counter()
        if self._quiet:
            return
        if self._status is not None:
            self._status.update(f"{name} ...")
            self._status.start()
        else:
            self._console.print(f"{name} ...", highlight=False)

    def end(self, remark: str = "") -> None:
        """End the stage, with what there is to say about it."""
        if not self._name:
            return
        seconds = time.perf_counter() - self._start
        name, self._name = self._name, ""
        if self._quiet:
            return
        if self._status is not None:
            self._status.stop()
            self._console.print(f"[green]✓[/] {name} [dim]{remark or f'{seconds:.1f} s'}[/]", highlight=False)
        elif remark:
            self._console.print(f"{name}: {remark}", highlight=False)


@contextmanager
def _reported(output: Path | None, config: Path) -> Iterator[None]:
    """Turn the errors of the library into one message and an exit code."""
    try:
        yield
    except PortfolioOptError as error:
        solving = isinstance(error, SolveError)
        _complain("No answer" if solving else "Bad input", str(error))
        if solving and output is not None:
            _mention_old_results(output, config)
        raise typer.Exit(NO_ANSWER if solving else BAD_INPUT) from error


def _complain(title: str, text: str) -> None:
    console = _err()
    if console.is_terminal:
        console.print(Panel(escape(text), title=title, title_align="left", border_style="red", expand=False))
    else:
        # one unbroken line in a log, for searching and for other programs
        console.print(f"{title}: {text}", highlight=False, markup=False, soft_wrap=True)


def _mention_old_results(output: Path, config: Path) -> None:
    """Say so where a folder still holds an earlier run: nobody may take that for the answer."""
    from portfolioopt.config import load_config

    folder = output / str(load_config(config).name)
    if (folder / "weights.parquet").exists():
        _err().print(
            f"{folder} still holds an earlier run, not this one.", style="yellow", highlight=False, soft_wrap=True
        )


def _with_lines(error: InfeasibleError, setup: Setup) -> InfeasibleError:
    """Add where in the file the clashing constraints stand."""
    path = setup.config.origin.path
    found = [f"{path}:{setup.places[name]}: {name}" for name in error.conflict if name in setup.places]
    message = "\n".join([str(error), *found])
    return InfeasibleError(message, result=error.result, conflict=error.conflict)


def _out() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=_PLAIN_WIDTH)


def _err() -> Console:
    console = Console(stderr=True)
    return console if console.is_terminal else Console(stderr=True, width=_PLAIN_WIDTH)


if __name__ == "__main__":
    main()

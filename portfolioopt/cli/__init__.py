"""The command line: ``portfolioopt optimize run.yaml``, ``portfolioopt backtest run.yaml``.

Only what every command needs is imported at the top; the libraries that take a second to load are imported by the
commands that use them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .speaking import BAD_INPUT as BAD_INPUT
from .speaking import NO_ANSWER as NO_ANSWER
from .speaking import Stages, reported, versions

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
Output = Annotated[
    Path, typer.Option(metavar="DIR", help="Folder for results; the run gets a folder of its own name in it.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]


@app.command()
def optimize(config: ConfigFile, output: Output = Path("results"), seed: Seed = None, quiet: Quiet = False) -> None:
    """Solve the run in CONFIG, print the answer, and write tables and a report.

    Results of an earlier run of the same name are replaced, unless there is no answer.

    Exit code: 2 for bad input, 3 where there is no answer (infeasible, unbounded, stalled).
    """
    from .optimizing import run_optimize

    with reported(output, config), Stages(quiet=quiet) as stages:
        run_optimize(config, output, seed, stages, quiet=quiet)


@app.command()
def backtest(config: ConfigFile, output: Output = Path("results"), seed: Seed = None, quiet: Quiet = False) -> None:
    """Run the backtest in CONFIG, print its figures, and write tables and a report.

    Results of an earlier run of the same name are replaced, unless no decision had an answer.

    Exit code: 2 for bad input, 3 where no decision had an answer.
    """
    from .backtesting import run_backtest

    with reported(output, config), Stages(quiet=quiet) as stages:
        run_backtest(config, output, seed, stages, quiet=quiet)


@app.command()
def check(config: ConfigFile, seed: Seed = None) -> None:
    """Check CONFIG, a run or a backtest: keys, values, files, names and units. Solves and writes nothing."""
    from .checking import run_check

    with reported(None, config), Stages() as stages:
        run_check(config, seed, stages)


@app.command()
def version() -> None:
    """Print the versions of portfolioopt and of what its numbers depend on."""
    for name, number in versions().items():
        typer.echo(f"{name} {number}")


def main() -> None:
    """Entry point of the command ``portfolioopt``."""
    app()

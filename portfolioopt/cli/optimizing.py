"""The command ``optimize``: one portfolio, its tables and its report."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from portfolioopt.errors import InfeasibleError

from .speaking import Stages, out, versions

if TYPE_CHECKING:
    import pandas as pd

    from portfolioopt.config import Config, Setup
    from portfolioopt.solve import Result


def run_optimize(config: Path, output: Path, seed: int | None, stages: Stages, *, quiet: bool) -> None:
    """Solve, write, and print."""
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
        out().print('No pictures without matplotlib: pip install "portfolioopt\\[report]"', style="yellow")
    verb = "Replaced the results in" if replaced else "Wrote"
    names = ", ".join(path.name for path in written)
    out().print(f"{verb} [bold]{escape(str(folder))}[/]: {names}", highlight=False, soft_wrap=True)


def _prepared(path: Path, seed: int | None, stages: Stages) -> tuple[Config, Setup]:
    stages.begin("loading")
    from portfolioopt.config import build_problem, load_config

    run = load_config(path)
    if seed is not None:
        run = run.with_seed(seed)
    return run, build_problem(run, stage=stages.begin)


def _solved(setup: Setup, stages: Stages) -> tuple[Result, pd.DataFrame | None]:
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

    console, top = out(), setup.config.report.top
    console.print()
    console.print(summary_table(result, trades=trades, nav=setup.config.nav))
    console.print(weights_table(result, contributions, labels=setup.labels, top=top))
    if setup.problem.constraints:
        console.print(constraints_table(result, top=top))
    if setup.labels is not None:
        console.print(groups_table(contributions, setup.labels))
    if trades is not None:
        console.print(trades_table(trades, top=top))


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
    facts["versions"] = ", ".join(f"{name} {number}" for name, number in versions().items())
    return facts


def _with_lines(error: InfeasibleError, setup: Setup) -> InfeasibleError:
    """Add where in the file the clashing constraints stand."""
    path = setup.config.origin.path
    found = [f"{path}:{setup.places[name]}: {name}" for name in error.conflict if name in setup.places]
    message = "\n".join([str(error), *found])
    return InfeasibleError(message, result=error.result, conflict=error.conflict)

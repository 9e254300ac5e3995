"""The command ``check``: everything about a file but the answer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from .speaking import Stages, out

if TYPE_CHECKING:
    import pandas as pd

    from portfolioopt.config import BacktestConfig, Config


def run_check(path: Path, seed: int | None, stages: Stages) -> None:
    """Read a file of either sort, make what it describes, and say what that is."""
    stages.begin("loading")
    from portfolioopt.config import Config, load_any

    run = load_any(path)
    run = run if seed is None else run.with_seed(seed)
    lines = _of_run(run, stages) if isinstance(run, Config) else _of_backtest(run, stages)
    stages.end()
    console = out()
    console.print(f"[green]{escape(str(path))} is sound[/]", highlight=False, soft_wrap=True)
    for name, text in lines:
        console.print(f"{name:<12} {text}", highlight=False, markup=False, soft_wrap=True)


def _of_run(run: Config, stages: Stages) -> list[tuple[str, str]]:
    from portfolioopt.config import build_problem

    setup = build_problem(run, stage=stages.begin)
    names = ", ".join(constraint.name for constraint in setup.problem.constraints) or "none"
    return [
        ("prices", _prices(setup.prices)),
        ("scenarios", repr(setup.scenarios)),
        ("maximised", str(setup.problem.objective)),
        ("constraints", names),
    ]


def _of_backtest(run: BacktestConfig, stages: Stages) -> list[tuple[str, str]]:
    from portfolioopt.config import build_backtest, in_words

    setup = build_backtest(run, stage=stages.begin)
    stages.begin("asking for the first targets")
    targets = setup.rehearse()
    dates = setup.sessions
    every = run.decisions.every
    lines = [
        ("prices", _prices(setup.market.prices)),
        ("sessions", f"{len(dates):,}, {dates[0]:%Y-%m-%d} to {dates[-1]:%Y-%m-%d}"),
        ("decisions", every if isinstance(every, str) else f"on {len(every)} dates"),
        ("costs", "none" if run.costs is None else in_words(run.costs)),
    ]
    if run.rule is not None:
        lines.append(("rule", in_words(run.rule)))
    lines += [("strategy", f"{name}: {target}") for name, target in targets.items()]
    if setup.runs > 1:
        lines.append(("runs", f"{setup.runs:,}"))
    return lines


def _prices(prices: pd.DataFrame) -> str:
    return f"{len(prices.columns)} assets, {prices.index[0]:%Y-%m-%d} to {prices.index[-1]:%Y-%m-%d}"

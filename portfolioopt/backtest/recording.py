"""From the state of an engine to what is kept of each run."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from portfolioopt.data.checks import date_text
from portfolioopt.errors import unknown_names
from portfolioopt.labels import FloatArray

from .engine import Engine
from .result import Backtest, Record
from .state import State
from .variants import Variant


def records_of(
    engine: Engine,
    variants: Sequence[Variant],
    history: int | None,
    settings: dict[str, Any],
    benchmark: FloatArray | str | None,
) -> list[Record]:
    """What is kept of the runs of an engine; `benchmark` is worth by session (T,), or the name of a strategy."""
    if isinstance(benchmark, str):
        own = [v.labels["strategy"] for v in variants]
        if benchmark not in own:
            raise unknown_names("benchmark", [benchmark], [*dict.fromkeys(own), *engine.plan.tape.assets])
        first = own.index(benchmark)
        worth = Backtest(_record(engine, first, variants[first], history, None, settings)).nav.to_numpy()
    else:
        worth = benchmark
    return [
        _record(engine, r, v, history, worth, settings | {"strategy": repr(v.strategy), **v.parameters})
        for r, v in enumerate(variants)
    ]


def _record(
    engine: Engine,
    r: int,
    variant: Variant,
    history: int | None,
    benchmark: FloatArray | None,
    settings: dict[str, Any],
) -> Record:
    plan, state = engine.plan, engine.state
    tape = plan.tape
    log = state.changes[r]
    return Record(
        name=variant.name if history is None else f"{variant.name} on history {history}",
        dates=tape.dates,
        assets=tape.assets,
        prices=tape.prices,
        changed=np.array([t for t, _ in log], dtype=np.intp),
        units=np.array([units for _, units in log]),
        cash=state.cash_after[:, r].copy(),
        flows=np.where(np.arange(len(tape.dates)) > _ruin(state, r), 0.0, tape.flows),
        costs={part: money[:, r].copy() for part, money in state.costs.items()},
        income={part: money[:, r].copy() for part, money in state.income.items()},
        turnover=state.turnover[:, r].copy(),
        trades=_trades(state, r),
        timeline=state.timeline[r],
        targets=state.decided[r],
        benchmark=benchmark,
        risk_free=tape.rate,
        capital=plan.capital,
        settings=settings,
    )


def _ruin(state: State, r: int) -> int:
    """Session on which a book was closed; beyond the last where it was not."""
    for line in state.timeline[r]:
        if line["status"] == "ruined":
            return int(line["decided"])
    return len(state.cash_after)


def _trades(state: State, r: int) -> dict[str, Any]:
    """Columns of the list of trades, one row each."""
    parts: dict[str, list[Any]] = {
        name: [] for name in ("session", "asset", "units", "price", "value", "cost", "reason")
    }
    for t, units, price, cost, reasons, why in state.trades[r]:
        places = np.flatnonzero(units)
        parts["session"].append(np.full(len(places), t))
        parts["asset"].append(places)
        parts["units"].append(units[places])
        parts["price"].append(price[places])
        parts["value"].append(units[places] * price[places])
        parts["cost"].append(cost[places])
        parts["reason"].append([reasons.get(int(j), why) for j in places])
    joined = {
        name: np.concatenate(lists) if lists else np.empty(0) for name, lists in parts.items() if name != "reason"
    }
    return joined | {"reason": list(itertools.chain.from_iterable(parts["reason"]))}


def settings_in_words(**given: Any) -> dict[str, Any]:
    """Settings as numbers and short texts."""
    return {name: _words(value) for name, value in given.items()}


def _words(value: Any) -> Any:
    if isinstance(value, bool | int | float | str | type(None)):
        return value
    if isinstance(value, pd.Timestamp):
        return date_text(value)
    if isinstance(value, pd.Series):
        ends = [date_text(day) if isinstance(day, pd.Timestamp) else str(day) for day in value.index[[0, -1]]]
        return f"{value.name or 'values'}, {len(value):,} dates from {ends[0]} to {ends[1]}"
    if isinstance(value, list | tuple | dict | pd.Index) and len(value) > 5:
        return f"{len(value)} values"
    return repr(value)

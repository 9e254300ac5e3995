"""What runs are done with, and everything that changes on the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from portfolioopt.costs import CostModel
from portfolioopt.data import MarketData
from portfolioopt.labels import FloatArray
from portfolioopt.rebalance import OrderRules, RebalanceRule
from portfolioopt.rebalance.targets import Towards
from portfolioopt.solve import Result

from .moment import Strategy
from .tape import BoolArray, Tape


@dataclass(frozen=True, eq=False)
class Plan:
    """How runs are done; the same for all on one market."""

    tape: Tape
    market: MarketData
    first: int
    """Row of the market that is the first session."""
    asked: BoolArray
    """Sessions at whose close strategies are asked for a target (T,)."""
    rule: RebalanceRule | None
    towards: Towards
    lag: int
    costs: CostModel | None
    orders: OrderRules | None
    capital: float
    fallback: Literal["hold", "cash"] | Strategy
    credit: bool
    max_stale: int
    seed: int
    history: int
    signals: pd.DataFrame | None = None


@dataclass(eq=False)
class Pending:
    """Trades that are decided and wait for their session."""

    due: int
    weights: FloatArray
    row: int  # of the timeline
    reason: str


@dataclass(eq=False)
class State:
    """Everything that changes, so that it can be put aside and taken up again."""

    t: int
    units: FloatArray  # (R, N)
    cash: FloatArray  # (R,)
    pending: list[list[Pending]]
    targets: list[FloatArray | None]
    traded_towards: list[FloatArray | None]  # targets of the last rebalance
    rebalanced: list[int | None]  # session of the last rebalance
    last: list[Result | None]
    ruined: BoolArray
    cash_after: FloatArray  # (T, R)
    turnover: FloatArray  # (T, R)
    costs: dict[str, FloatArray]  # part -> (T, R)
    income: dict[str, FloatArray]  # part -> (T, R)
    changes: list[list[tuple[int, FloatArray]]]  # per run: session, units after it
    trades: list[list[tuple[int, FloatArray, FloatArray, FloatArray, dict[int, str], str]]]
    timeline: list[list[dict[str, Any]]]
    decided: list[list[tuple[int, FloatArray]]]

    def nav(self, prices: FloatArray) -> FloatArray:
        """Net asset values (R,) at these prices (N,)."""
        return self.cash + self.positions(prices).sum(axis=1)

    def positions(self, prices: FloatArray) -> FloatArray:
        """Worth of the positions (R, N) at these prices (N,); zero where nothing is held, whatever the price."""
        return np.where(self.units == 0.0, 0.0, self.units * np.nan_to_num(prices))


def begin(plan: Plan, runs: int) -> State:
    """Books of cash on the first session."""
    t_count, n = plan.tape.prices.shape
    return State(
        t=0,
        units=np.zeros((runs, n)),
        cash=np.full(runs, plan.capital),
        pending=[[] for _ in range(runs)],
        targets=[None] * runs,
        traded_towards=[None] * runs,
        rebalanced=[None] * runs,
        last=[None] * runs,
        ruined=np.zeros(runs, dtype=bool),
        cash_after=np.zeros((t_count, runs)),
        turnover=np.zeros((t_count, runs)),
        costs={},
        income={name: np.zeros((t_count, runs)) for name in ("dividends", "interest")},
        changes=[[(0, np.zeros(n))] for _ in range(runs)],
        trades=[[] for _ in range(runs)],
        timeline=[[] for _ in range(runs)],
        decided=[[] for _ in range(runs)],
    )


def note(state: State, t: int, r: int, **said: Any) -> int:
    """Write a line of the timeline of run r; returns its number."""
    nan = float("nan")
    line: dict[str, Any] = {
        "decided": t,
        "traded": -1,
        "rebalanced": False,
        "status": "",
        "fallback": "",
        "reason": "",
        "message": "",
        "binding": "",
        "turnover": 0.0,
        "cost": 0.0,
        "seconds": 0.0,
    }
    for name in ("objective", "gap", "max_violation", "expected_return", "volatility", "var", "cvar", "beta"):
        line[name] = nan
    state.timeline[r].append(line | {"horizon": nan} | said)
    return len(state.timeline[r]) - 1

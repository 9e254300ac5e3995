"""From a solved problem to orders: targets, drift, decision, trades, and what to do with new cash."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.labels import align
from portfolioopt.solve import Result, Status

from .bands import DriftBand, drift_report
from .cashflows import Method, invest_cash, raise_cash
from .decisions import Decision, Situation
from .order_rules import OrderPlan, OrderRules
from .orders import create_orders
from .targets import Towards, weights_to_trade_to
from .triggers import DriftTrigger, RebalanceRule
from .valuation import value_book

_BUDGET = 1e-6  # targets may miss the budget by this


@dataclass(frozen=True, eq=False)
class PortfolioOptAdapter:
    """Targets and the rules to keep a book near them, asked day by day. It keeps no state: same inputs, same answer.

    Parameters
    ----------
    targets
        A result of :func:`portfolioopt.optimize` or of an allocator, or weights by asset as fractions of NAV.
    band
        5 percentage points to either side by default.
    rule
        When to rebalance; by default when the band is breached, seven days after the last rebalance at the earliest.
        A rule with triggers of its own judges with their bands, and not with `band`.
    towards
        Where trades lead to: ``"target"``, the band's ``"edge"``, or ``"halfway"`` between.
    rules
        What the account allows.
    budget
        What the targets have to sum to, where that is known; None for any sum.
    cash_name
        What to call cash, to have it in the drift analysis and judged by the default rule.
    untargeted
        What to do about positions without a target: refuse, or sell.
    """

    targets: Result | pd.Series | Mapping[str, float]
    band: DriftBand = field(default_factory=DriftBand)
    rule: RebalanceRule | None = None
    towards: Towards = "target"
    rules: OrderRules = field(default_factory=OrderRules)
    budget: float | None = None
    cash_name: str | None = None
    untargeted: Literal["refuse", "sell"] = "refuse"

    def __post_init__(self) -> None:
        total = self.target_weights.sum()
        if self.budget is not None and abs(total - self.budget) > _BUDGET:
            raise InputError(f"the targets sum to {total:.6g}, not to the budget of {self.budget:g}")

    @property
    def target_weights(self) -> pd.Series:
        """The targets as fractions of NAV by asset."""
        return target_weights(self.targets)

    def analyze_drift(
        self,
        holdings: pd.Series | Mapping[str, float],
        prices: pd.Series | Mapping[str, float],
        cash: float = 0.0,
    ) -> pd.DataFrame:
        """Weights of the book at these prices against the targets; see :func:`drift_report`."""
        weights = value_book(holdings, prices, cash=cash).weights
        return drift_report(weights, self.target_weights, self.band, cash=self.cash_name, untargeted=self.untargeted)

    def decide(
        self,
        date: pd.Timestamp,
        holdings: pd.Series | Mapping[str, float],
        prices: pd.Series | Mapping[str, float],
        cash: float = 0.0,
        *,
        last_rebalance: pd.Timestamp | None = None,
        previous_targets: pd.Series | None = None,
        signals: Mapping[str, bool] | None = None,
    ) -> Decision:
        """Whether to rebalance on a date, and why or why not; see :class:`RebalanceRule`."""
        book = value_book(holdings, prices, cash=cash)
        situation = Situation(
            date, book.weights, self.target_weights, book.nav, last_rebalance, previous_targets, signals or {}
        )
        rule = self.rule
        if rule is None:
            rule = RebalanceRule(DriftTrigger(self.band, cash=self.cash_name, untargeted=self.untargeted))
        return rule.decide(situation)

    def calculate_rebalance_trades(
        self,
        holdings: pd.Series | Mapping[str, float],
        prices: pd.Series | Mapping[str, float],
        cash: float = 0.0,
    ) -> OrderPlan:
        """Orders of a rebalance, whether it is due or not; see :func:`create_orders`."""
        weights = value_book(holdings, prices, cash=cash).weights
        wanted = weights_to_trade_to(
            weights, self.target_weights, self.band, towards=self.towards, untargeted=self.untargeted
        )
        return create_orders(wanted, holdings, prices, cash=cash, rules=self.rules)

    def create_invest_cash_trades(
        self,
        amount: float,
        holdings: pd.Series | Mapping[str, float],
        prices: pd.Series | Mapping[str, float],
        cash: float = 0.0,
        *,
        method: Method = "furthest",
    ) -> OrderPlan:
        """Orders for cash that comes in, or, where `amount` is negative, for cash that has to go out.

        See :func:`invest_cash` and :func:`raise_cash`; `cash` is what there is without the amount.
        """
        act, size = (raise_cash, -amount) if amount < 0.0 else (invest_cash, amount)
        return act(
            size,
            self.target_weights,
            holdings,
            prices,
            cash=cash,
            method=method,
            rules=self.rules,
            untargeted=self.untargeted,
        )


def target_weights(targets: Result | pd.Series | Mapping[str, float]) -> pd.Series:
    """Weights by asset of a result that was proven, or of labelled numbers, as float64.

    Raises
    ------
    InputError
        For a result without weights or one that stalled short of its tolerance, no weights at all, duplicates, and
        weights that are not finite.
    """
    if isinstance(targets, Result):
        if targets.weights is None or targets.status is not Status.optimal:
            raise InputError(
                f"the result is {targets.status.name}: {targets.message}; pass its weights themselves to trade on an "
                "answer without proof"
            )
        weights = targets.weights
    elif isinstance(targets, pd.Series | Mapping):
        weights = targets if isinstance(targets, pd.Series) else pd.Series(dict(targets), dtype=np.float64)
    else:
        raise InputError(f"targets must be a Result, or a Series or mapping of weights, was {type(targets).__name__}")
    if not len(weights):
        raise InputError("targets is empty; give every asset a weight")
    index = pd.Index(weights.index, name=weights.index.name or "asset")
    return pd.Series(align(weights, weights.index, what="targets"), index=index, name="target")

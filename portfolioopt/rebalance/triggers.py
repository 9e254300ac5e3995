"""What calls for a rebalance: drift, cash, signals, a changed universe; and the rule that puts triggers together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd

from portfolioopt.data.checks import date_text
from portfolioopt.errors import InputError, unknown_names
from portfolioopt.labels import checked_number, some

from .bands import EDGE, DriftBand, drift_report
from .decisions import BoolArray, Decision, Panel, Situation, Trigger
from .schedule import Cooldown


@dataclass(frozen=True, eq=False)
class DriftTrigger(Trigger):
    """Calls for a rebalance when a weight is out of its band.

    Parameters
    ----------
    band
        5 percentage points by default; with groups it judges them.
    cash
        What to call cash, to have it judged too; see :func:`drift_report`.
    untargeted
        What to do about positions without a target: refuse, or judge them against zero.
    """

    band: DriftBand = field(default_factory=DriftBand)
    cash: str | None = None
    untargeted: Literal["refuse", "sell"] = "refuse"

    def judge(self, situation: Situation) -> Decision:
        """Out of any band; the reasons name every breach, or what came nearest to one."""
        report = drift_report(
            situation.weights, situation.targets, self.band, cash=self.cash, untargeted=self.untargeted
        )
        out = report["breached"].to_numpy()
        if out.any():
            breaches = report[out]
            return Decision(True, tuple(self._words(name, row) for name, row in breaches.iterrows()), breaches)
        if not len(report):
            return Decision(False, ("drift: there is nothing to judge",))
        room = report["band"].to_numpy() - np.abs(report["drift"].to_numpy())
        nearest = int(np.argmin(room))
        words = self._words(report.index[nearest], report.iloc[nearest])
        return Decision(False, (f"{words}; nothing is out of its band",))

    def possible(self, panel: Panel) -> BoolArray:
        """Where a weight is out of its band; a band with groups, or with widths by asset, is not looked at here."""
        if self.band.groups is not None or isinstance(self.band.width, pd.Series | Mapping):
            return super().possible(panel)
        weights, targets = panel.weights, panel.targets
        drift = weights - targets
        edges = np.broadcast_to(self.band.edges(panel.assets, targets), drift.shape)
        found = np.asarray(self.band.outside(drift, edges)).any(axis=1)
        if self.cash is not None:
            wanted = 1.0 - targets.sum(axis=1, keepdims=True)
            edges = np.broadcast_to(self.band.edges(pd.Index([self.cash]), wanted), wanted.shape)
            found = found | self.band.outside(-drift.sum(axis=1, keepdims=True), edges)[:, 0]
        return np.asarray(found)

    def _words(self, name: object, row: pd.Series) -> str:
        kind = "relative band" if self.band.kind == "relative" else "band"
        side = "above" if row["drift"] > 0.0 else "below"
        return (
            f"drift: {name} at {row['weight']:.2%} of NAV is {abs(row['drift']) * 100.0:.2f} points {side} its target "
            f"of {row['target']:.2%}, {kind} {row['band'] * 100.0:.2f} points"
        )


@dataclass(frozen=True)
class CashTrigger(Trigger):
    r"""Calls for a rebalance when cash is off its target, :math:`1 - \sum_i t_i`, by an amount of money.

    Parameters
    ----------
    surplus
        Cash above its target, in account currency, that is worth investing; None for any.
    shortfall
        Cash below its target, in account currency, that has to be raised; None for any.
    """

    surplus: float | None = 10.0
    shortfall: float | None = None

    def __post_init__(self) -> None:
        if self.surplus is None and self.shortfall is None:
            raise InputError("a cash trigger needs a surplus, a shortfall, or both")
        for name, value in (("surplus", self.surplus), ("shortfall", self.shortfall)):
            if value is not None:
                checked_number(value, name, above=0.0)

    def judge(self, situation: Situation) -> Decision:
        """At the limit or beyond it."""
        excess = float(situation.targets.sum() - situation.weights.sum()) * situation.nav
        slack = EDGE * situation.nav
        side = "above" if excess > 0.0 else "below"
        words = f"cash: {abs(excess):,.2f} {side} its target"
        if self.surplus is not None and excess >= self.surplus - slack:
            return Decision(True, (f"{words}, at least {self.surplus:,.2f}",))
        if self.shortfall is not None and -excess >= self.shortfall - slack:
            return Decision(True, (f"{words}, at least {self.shortfall:,.2f}",))
        return Decision(False, (f"{words}, too little to act on",))


@dataclass(frozen=True)
class SignalTrigger(Trigger):
    """Calls for a rebalance when the signal of this name is on; signals come with the situation."""

    name: str

    def judge(self, situation: Situation) -> Decision:
        """On or off; a signal that the situation does not have is refused."""
        if self.name not in situation.signals:
            raise unknown_names("signal", [self.name], situation.signals)
        value = situation.signals[self.name]
        if not isinstance(value, bool | np.bool_):
            raise InputError(f"signal {self.name!r} must be true or false, was {value!r}")
        return Decision(bool(value), (f"signal: {self.name} is {'on' if value else 'off'}",))


@dataclass(frozen=True)
class UniverseChange(Trigger):
    """Calls for a rebalance when an asset has entered the targets or left them since the last rebalance.

    An asset with a target of zero is not in them. Without previous targets (the first day) nothing has changed.
    """

    def judge(self, situation: Situation) -> Decision:
        """Any change; the reasons name who entered and who left."""
        if situation.previous_targets is None:
            return Decision(False, ("universe: there are no earlier targets to compare with",))
        before, now = _members(situation.previous_targets), _members(situation.targets)
        entered, left = now.difference(before, sort=False), before.difference(now, sort=False)
        reasons = []
        if len(entered):
            reasons.append(f"universe: {some(entered)} entered")
        if len(left):
            reasons.append(f"universe: {some(left)} left")
        return Decision(bool(reasons), tuple(reasons) or ("universe: unchanged",))


@dataclass(frozen=True, eq=False)
class RebalanceRule:
    """When to rebalance: a trigger, days of rest after a rebalance, and what happens on the first day.

    Parameters
    ----------
    trigger
        Any trigger, or triggers combined with ``&`` and ``|``; 5 percentage points of drift by default.
    cooldown
        Seven calendar days by default.
    despite_cooldown
        A trigger that is listened to during the cooldown as well, such as :class:`UniverseChange`.
    first_day
        What to do when there has been no rebalance yet: ``"rebalance"`` whatever the trigger says, as a book that was
        never set up is not where it should be; or ``"judge"`` it like any day. There is no cooldown on it.
    """

    trigger: Trigger = field(default_factory=DriftTrigger)
    cooldown: Cooldown = field(default_factory=Cooldown)
    despite_cooldown: Trigger | None = None
    first_day: Literal["rebalance", "judge"] = "rebalance"

    def __post_init__(self) -> None:
        if self.first_day not in ("rebalance", "judge"):
            raise InputError(f"first_day must be 'rebalance' or 'judge', was {self.first_day!r}")

    def possible(self, panel: Panel) -> BoolArray:
        """For which books there may be a rebalance (R,); where False, :meth:`decide` would certainly say no."""
        if not len(panel.last):
            return np.zeros(0, dtype=bool)
        first = np.array([last is None for last in panel.last]) & (self.first_day == "rebalance")
        rested = np.array(
            [last is None or self.cooldown.passed(last, panel.date) >= self.cooldown.length for last in panel.last]
        )
        called = self.trigger.possible(panel) if (rested & ~first).any() else np.zeros(len(rested), dtype=bool)
        found = first | (rested & called)
        return found if self.despite_cooldown is None else found | self.despite_cooldown.possible(panel)

    def decide(self, situation: Situation) -> Decision:
        """Whether to rebalance in this situation, and why or why not.

        During a cooldown the trigger is judged too: the reasons say what waits for its end.
        """
        judged = self.trigger.judge(situation)
        if situation.last_rebalance is None and self.first_day == "rebalance":
            first = f"first day: there has been no rebalance up to {date_text(situation.date)}"
            reasons = judged.reasons if judged.rebalance else ()
            return Decision(True, (first, *reasons), judged.breaches)
        rest = self.cooldown.blocks(situation)
        if rest is None:
            if judged.rebalance or self.despite_cooldown is None:
                return judged
            other = self.despite_cooldown.judge(situation)
            return other if other.rebalance else judged
        if self.despite_cooldown is not None and (urgent := self.despite_cooldown.judge(situation)).rebalance:
            return Decision(True, (*urgent.reasons, f"{rest}, which does not hold this back"), urgent.breaches)
        waiting = judged.reasons if judged.rebalance else ()
        return Decision(False, (rest, *waiting), judged.breaches)


def _members(targets: pd.Series) -> pd.Index:
    return targets.index[targets.to_numpy(dtype=np.float64) != 0.0]

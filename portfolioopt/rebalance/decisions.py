"""What a decision to rebalance is made from, what it is, and how decisions combine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from portfolioopt.data.checks import date_text, timestamp
from portfolioopt.errors import InputError
from portfolioopt.labels import FloatArray, checked_number

from .bands import REPORT_COLUMNS

BoolArray = npt.NDArray[np.bool_]

NO_BREACHES: Final = pd.DataFrame(columns=pd.Index(REPORT_COLUMNS), index=pd.Index([], name="asset"))


@dataclass(frozen=True, eq=False)
class Situation:
    """The book on a date, as triggers see it.

    Parameters
    ----------
    date
        The day that is judged, without time and zone.
    weights
        Fractions of NAV after drift.
    targets
        Fractions of NAV wanted.
    nav
        Net asset value in account currency, for limits in money.
    last_rebalance
        Day of the last rebalance; None on the first day, when there has been none.
    previous_targets
        Targets of the last rebalance; None where they are not known.
    signals
        Signals by name, true where they call for a rebalance.
    """

    date: pd.Timestamp
    weights: pd.Series
    targets: pd.Series
    nav: float = 1.0
    last_rebalance: pd.Timestamp | None = None
    previous_targets: pd.Series | None = None
    signals: Mapping[str, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "date", timestamp(self.date, "date", None).normalize())
        checked_number(self.nav, "nav", above=0.0)
        if self.last_rebalance is not None:
            last = timestamp(self.last_rebalance, "last_rebalance", None).normalize()
            object.__setattr__(self, "last_rebalance", last)
            if last > self.date:
                raise InputError(
                    f"last_rebalance ({date_text(last)}) is after the date that is judged ({date_text(self.date)})"
                )


@dataclass(frozen=True, eq=False)
class Panel:
    """Many books on one date, for a quick look before any of them is judged.

    Parameters
    ----------
    date
        As in :class:`Situation`.
    weights, targets
        Fractions of NAV by book and asset (R, N), zero where there is neither.
    last
        Session of the last rebalance of each book; None where there has been none.
    """

    date: pd.Timestamp
    assets: pd.Index
    weights: FloatArray
    targets: FloatArray
    last: tuple[pd.Timestamp | None, ...]


@dataclass(frozen=True, eq=False)
class Decision:
    """Whether to rebalance, and why or why not."""

    rebalance: bool
    reasons: tuple[str, ...]
    """In words: which trigger, which asset, by how much; of what holds back where there is no rebalance."""
    breaches: pd.DataFrame = field(default_factory=NO_BREACHES.copy)
    """Rows of :func:`drift_report` that are out of their band, where a drift band was among what was judged."""

    def __bool__(self) -> bool:
        return self.rebalance


class Trigger(ABC):
    """Something that may call for a rebalance; ``a & b`` needs both, ``a | b`` either."""

    @abstractmethod
    def judge(self, situation: Situation) -> Decision:
        """Whether it calls for a rebalance in this situation, in words."""

    def possible(self, panel: Panel) -> BoolArray:
        """For which books it may call for a rebalance (R,); where False, :meth:`judge` would certainly not."""
        return np.ones(len(panel.weights), dtype=bool)

    def __and__(self, other: Trigger) -> Trigger:
        return AllOf((self, other)) if isinstance(other, Trigger) else NotImplemented

    def __or__(self, other: Trigger) -> Trigger:
        return AnyOf((self, other)) if isinstance(other, Trigger) else NotImplemented


@dataclass(frozen=True)
class AllOf(Trigger):
    """Calls for a rebalance when every one of its triggers does; what `a & b` makes."""

    triggers: tuple[Trigger, ...]

    def judge(self, situation: Situation) -> Decision:
        """All must agree; the reasons are those of all, or of those that hold back."""
        decisions = [trigger.judge(situation) for trigger in self.triggers]
        agreed = all(decision.rebalance for decision in decisions)
        return _combined(agreed, [d for d in decisions if d.rebalance == agreed], decisions)

    def possible(self, panel: Panel) -> BoolArray:
        """Where all may call for it."""
        return np.logical_and.reduce([trigger.possible(panel) for trigger in self.triggers])


@dataclass(frozen=True)
class AnyOf(Trigger):
    """Calls for a rebalance when one of its triggers does; what `a | b` makes."""

    triggers: tuple[Trigger, ...]

    def judge(self, situation: Situation) -> Decision:
        """One is enough; the reasons are those of all that call for it, or of all where none does."""
        decisions = [trigger.judge(situation) for trigger in self.triggers]
        called = any(decision.rebalance for decision in decisions)
        return _combined(called, [d for d in decisions if d.rebalance == called], decisions)

    def possible(self, panel: Panel) -> BoolArray:
        """Where any may call for it."""
        return np.logical_or.reduce([trigger.possible(panel) for trigger in self.triggers])


def _combined(rebalance: bool, speaking: list[Decision], judged: list[Decision]) -> Decision:
    reasons = tuple(dict.fromkeys(reason for decision in speaking for reason in decision.reasons))
    frames = [decision.breaches for decision in judged if len(decision.breaches)]
    if not frames:
        return Decision(rebalance, reasons)
    return Decision(rebalance, reasons, pd.concat(frames) if len(frames) > 1 else frames[0])

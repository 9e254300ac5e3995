"""The loop over sessions: books that share a market, from close to close.

At the close of a session, in this order: splits; dividends; interest on the cash of the close before, and fees for what
was borrowed over night; delistings; money in and out; the trades that were decided `lag` sessions ago, at today's
prices; new decisions, with what is known now.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from portfolioopt.costs import CombinedCosts, CostModel, FinancingCosts
from portfolioopt.costs.quotes import Quotes
from portfolioopt.data.checks import date_text
from portfolioopt.errors import InputError
from portfolioopt.labels import FloatArray, some

from .deciding import Decisions
from .moment import Strategy
from .state import Pending, Plan, State, note
from .trading import Trades, trade, trade_by_orders


@dataclass(eq=False)
class Engine:
    """Runs strategies on one market, all sessions of all books together."""

    plan: Plan
    strategies: Sequence[Strategy]
    state: State
    _holding_charged: bool | None = field(default=None, init=False)

    def run(self, step: Callable[[], None], save: Callable[[State], None] | None = None) -> State:
        """Play the tape from where the state is to its end; `step` is called after each session of decisions."""
        state = self.state
        decisions = Decisions(self.plan, self.strategies, state)
        for t in range(state.t, len(self.plan.tape.dates)):
            if t:
                self._open(t)
            self._settle(t)
            if self.plan.asked[t]:
                decisions.ask(t)
            if self.plan.rule is not None:
                decisions.judge(t)
            if self.plan.lag == 0:
                self._settle(t)
            state.cash_after[t] = state.cash
            state.t = t + 1
            if self.plan.asked[t]:
                step()
                if save is not None:
                    save(state)
        return state

    # -- before anybody trades -----------------------------------------------------------------------------------
    def _open(self, t: int) -> None:
        tape, state = self.plan.tape, self.state
        overnight = state.cash
        owed = bool((state.units < 0.0).any() or (state.cash < 0.0).any())
        accrued = self._accrued(t) if owed else 0.0
        if tape.eventful[t]:
            self._happened(t)
        if tape.rate[t] != 0.0:
            interest = overnight * tape.rate[t]
            state.cash = state.cash + interest
            state.income["interest"][t] += interest
        if owed:
            state.cash = state.cash - accrued
        if tape.longest[t] > self.plan.max_stale:
            self._check_prices(t)
        if owed or tape.eventful[t]:
            self._check_worth(t)

    def _happened(self, t: int) -> None:
        """Splits, dividends, delistings, money in and out."""
        tape, state = self.plan.tape, self.state
        if tape.splits is not None and (tape.splits[t] != 1.0).any():
            state.units = state.units * tape.splits[t]
            self._changed(t, np.flatnonzero((state.units[:, tape.splits[t] != 1.0] != 0.0).any(axis=1)))
        if tape.dividends is not None and tape.dividends[t].any():
            paid = state.units @ tape.dividends[t]
            state.cash = state.cash + paid
            state.income["dividends"][t] += paid
        for j, worth in tape.paid_out.get(t, ()):
            held = np.flatnonzero(state.units[:, j] != 0.0)
            if len(held):
                state.cash = state.cash.copy()
                state.cash[held] += state.units[held, j] * worth
                state.units = state.units.copy()
                for r in held:
                    state.trades[r].append(_one_trade(t, j, -state.units[r, j], worth, len(tape.assets), "delisted"))
                state.units[held, j] = 0.0
                self._changed(t, held)
        if tape.flows[t] != 0.0:
            self._check_outflow(t)
            state.cash = state.cash + np.where(state.ruined, 0.0, tape.flows[t])

    def _check_outflow(self, t: int) -> None:
        """Refuse to pay out what is not there."""
        out = -self.plan.tape.flows[t]
        worth = np.where(self.state.ruined, np.inf, self.state.nav(self.plan.tape.prices[t]))
        if out >= worth.min():
            raise InputError(
                f"flows takes {out:,.2f} out on {date_text(self.plan.tape.dates[t])}, and the book is worth "
                f"{worth.min():,.2f}; take out less, or end the run before"
            )

    def _accrued(self, t: int) -> FloatArray:
        """What holding costs since the close before (R,)."""
        state, tape, costs = self.state, self.plan.tape, self.plan.costs
        nothing = np.zeros(len(state.cash))
        if costs is None or self._holding_charged is False:
            return nothing
        days, total, charged = float(tape.days[t]), nothing, False
        lent, financed = _by_kind(costs)
        if len(lent) and (state.units < 0.0).any():
            quantity = state.units.ravel()
            quotes = Quotes(*tape.quotes(t - 1, len(state.cash)), quantity != 0.0)
            for model in lent:
                for name, money in model.held(quotes, quantity, days).items():
                    by_book = np.asarray(money).reshape(len(state.cash), -1).sum(axis=1)
                    self._charge(name, t, by_book)
                    total, charged = total + by_book, True
        for model in financed:
            by_book = np.maximum(-state.cash, 0.0) * model.bps / 1e4 * days / model.year
            self._charge("financing", t, by_book)
            total, charged = total + by_book, True
        if not charged and (state.units < 0.0).any():
            self._holding_charged = False
        return total

    def _check_prices(self, t: int) -> None:
        """Refuse to go on with a position whose price has been missing for too long."""
        old = self.plan.tape.stale[t] > self.plan.max_stale
        held = old & (self.state.units != 0.0).any(axis=0)
        if held.any():
            names, tape = self.plan.tape.assets[held], self.plan.tape
            raise InputError(
                f"{some(names)} is held and has had no price for {int(tape.stale[t][held].max())} sessions on "
                f"{date_text(tape.dates[t])}: the book has no net asset value. Say what holders got "
                "(MarketData(delisting_returns=...)), supply prices, or allow old ones with max_stale"
            )

    def _check_worth(self, t: int) -> None:
        """Close books whose net asset value is gone: there are no weights after that."""
        nav = self.state.nav(self.plan.tape.prices[t])
        for r in np.flatnonzero((nav <= 0.0) & ~self.state.ruined):
            state, tape = self.state, self.plan.tape
            for j in np.flatnonzero(state.units[r]).tolist():
                price = float(tape.prices[t, j])
                state.trades[r].append(_one_trade(t, j, -state.units[r, j], price, len(tape.assets), "ruined"))
            state.cash[r] = nav[r]
            state.units[r] = 0.0
            state.ruined[r] = True
            state.pending[r] = []
            self._changed(t, [int(r)])
            note(self.state, t, int(r), status="ruined", reason="the net asset value was lost; the book was closed")

    # -- trading -------------------------------------------------------------------------------------------------
    def _settle(self, t: int) -> None:
        """Make the trades that are due, of all books at once."""
        state, plan = self.state, self.plan
        due = [r for r, waiting in enumerate(state.pending) if waiting and waiting[0].due <= t]
        if not due:
            return
        jobs = [state.pending[r].pop(0) for r in due]
        wanted = np.array([job.weights for job in jobs])
        units, cash = state.units[due], state.cash[due]
        if plan.orders is None:
            done = trade(plan.tape, t, units, cash, wanted, costs=plan.costs, credit=plan.credit)
        else:
            done = trade_by_orders(plan.tape, t, units, cash, wanted, costs=plan.costs, rules=plan.orders)
        self._book(t, due, jobs, done)

    def _book(self, t: int, due: list[int], jobs: list[Pending], done: Trades) -> None:
        state, plan = self.state, self.plan
        price = np.nan_to_num(plan.tape.prices[t])
        value = done.units * price
        nav = self.state.nav(self.plan.tape.prices[t])[due]
        spent = done.cost.sum(axis=1)
        for name, money in done.parts.items():
            by_book = np.zeros(len(state.cash))
            by_book[due] = money
            self._charge(name, t, by_book)
        after = state.cash[due] - value.sum(axis=1) - spent
        # sums of money that cancel leave rounding behind, which is no debt
        state.cash[due] = np.where((after < 0.0) & (after > -1e-9 * nav), 0.0, after)
        state.units[due] += done.units
        moved = np.abs(value).sum(axis=1) / nav
        state.turnover[t, due] += moved
        for k, (r, job) in enumerate(zip(due, jobs, strict=True)):
            row = state.timeline[r][job.row]
            row["traded"], row["turnover"], row["cost"] = t, float(moved[k]), float(spent[k])
            if k in done.skipped:
                row["message"] = "; ".join(filter(None, [row["message"], *done.skipped[k]]))
            state.rebalanced[r] = t
            state.traded_towards[r] = state.targets[r]
            if done.units[k].any():
                reasons = {j: text for (book, j), text in done.reasons.items() if book == k}
                state.trades[r].append((t, done.units[k], price, done.cost[k], reasons, job.reason))
        self._changed(t, due)

    def _charge(self, name: str, t: int, money: FloatArray) -> None:
        if name not in self.state.costs:
            self.state.costs[name] = np.zeros(self.state.turnover.shape)
        self.state.costs[name][t] += money

    def _changed(self, t: int, runs: Any) -> None:
        for r in runs:
            log = self.state.changes[r]
            if log[-1][0] == t:
                log.pop()
            log.append((t, self.state.units[r].copy()))


def _by_kind(costs: CostModel) -> tuple[list[CostModel], list[FinancingCosts]]:
    """What is charged for positions, and what for borrowed cash."""
    models = costs.models if isinstance(costs, CombinedCosts) else (costs,)
    financed = [model for model in models if isinstance(model, FinancingCosts)]
    return [model for model in models if not isinstance(model, FinancingCosts)], financed


def _one_trade(
    t: int, j: int, units: float, price: float, n: int, reason: str
) -> tuple[int, FloatArray, FloatArray, FloatArray, dict[int, str], str]:
    """A single trade in the form of a batch."""
    bought, prices = np.zeros(n), np.zeros(n)
    bought[j], prices[j] = units, price
    return t, bought, prices, np.zeros(n), {}, reason

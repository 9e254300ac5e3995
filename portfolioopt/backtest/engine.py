"""The loop over sessions: books that share a market, from close to close.

At the close of a session, in this order: splits; dividends; interest on the cash of the close before, and fees for what
was borrowed over night; delistings; money in and out; the trades that were decided `lag` sessions ago, at today's
prices; new decisions, with what is known now.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

from portfolioopt.costs import CombinedCosts, CostModel, FinancingCosts
from portfolioopt.costs.quotes import Quotes
from portfolioopt.data import MarketData
from portfolioopt.data.checks import date_text
from portfolioopt.errors import InputError, PortfolioOptError, SolveError
from portfolioopt.labels import FloatArray, some
from portfolioopt.problem import Problem
from portfolioopt.rebalance import DriftTrigger, OrderRules, Panel, RebalanceRule, Situation, weights_to_trade_to
from portfolioopt.rebalance.targets import Towards
from portfolioopt.solve import Result, Status, optimize_many

from .moment import Moment, Strategy, Target, seed_of
from .tape import BoolArray, Tape
from .trading import Trades, trade, trade_by_orders

_CREDIT = 1e-6  # targets may sum to this much more than one before they are taken for a book on credit


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
        for t in range(state.t, len(self.plan.tape.dates)):
            if t:
                self._open(t)
            self._settle(t)
            if self.plan.asked[t]:
                self._ask(t)
            if self.plan.rule is not None:
                self._judge(t)
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
        worth = np.where(self.state.ruined, np.inf, self._nav(t))
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
        nav = self._nav(t)
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
            self._note(t, int(r), status="ruined", reason="the net asset value was lost; the book was closed")

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
        nav = self._nav(t)[due]
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

    def _nav(self, t: int) -> FloatArray:
        units = self.state.units
        return self.state.cash + np.where(units == 0.0, 0.0, units * np.nan_to_num(self.plan.tape.prices[t])).sum(
            axis=1
        )

    # -- deciding ------------------------------------------------------------------------------------------------
    def _ask(self, t: int) -> None:
        """Ask every strategy for a target, solve the problems together, and plan the trades."""
        state, plan = self.state, self.plan
        date = plan.tape.dates[t]
        view = plan.market.as_of(date)
        known = plan.tape.assets[: len(view.assets)]
        nav = self._nav(t)
        worth = np.where(state.ruined, 1.0, nav)[:, None]  # a closed book has no weights
        weights = np.where(state.units == 0.0, 0.0, state.units * np.nan_to_num(plan.tape.prices[t])) / worth
        memory: dict[Any, Any] = {}
        quotes = plan.tape.quotes(t)[0].iloc[: len(known)].set_axis(known)
        seed = seed_of(plan.seed, plan.history, date)
        moments: dict[int, Moment] = {}
        found: dict[int, Target | PortfolioOptError] = {}
        seconds = np.zeros(len(self.strategies))
        for r, strategy in enumerate(self.strategies):
            if state.ruined[r]:
                continue
            target = state.targets[r]
            moments[r] = Moment(
                date,
                view,
                holdings=pd.Series(weights[r, : len(known)], index=known, name="weight"),
                nav=float(nav[r]),
                cash=float(state.cash[r]),
                sample_seed=seed,
                run_seed=seed_of(plan.seed, plan.history),
                targets=None if target is None else pd.Series(target[: len(known)], index=known, name="weight"),
                last=state.last[r],
                costs=plan.costs,
                quotes=quotes,
                memory=memory,
            )
            start = time.perf_counter()
            found[r] = self._answer(t, strategy, moments[r])
            seconds[r] = time.perf_counter() - start
        problems = {r: target for r, target in found.items() if isinstance(target, Problem)}
        if problems:
            start = time.perf_counter()
            warm = [state.last[r] for r in problems]
            found |= dict(zip(problems, optimize_many(list(problems.values()), warm_start=warm), strict=True))
            seconds[list(problems)] += (time.perf_counter() - start) / len(problems)
        for r, answer in found.items():
            self._decide(t, r, answer, moments[r], float(seconds[r]))

    def _answer(self, t: int, strategy: Strategy, moment: Moment) -> Target | PortfolioOptError:
        """What a strategy says; an error of the library where it has no answer."""
        try:
            target = strategy.target(moment)
        except PortfolioOptError as error:
            if t == 0 and not isinstance(error, SolveError):
                raise  # nothing worked so far, so it is more likely a mistake than the market
            return error
        if target is None or isinstance(target, Problem | Result | pd.Series):
            return target
        raise InputError(
            f"{strategy!r} gave a {type(target).__name__} on {date_text(moment.date)}; a target is a Problem, a "
            "Result, a Series of weights, or None"
        )

    def _decide(self, t: int, r: int, answer: Target | PortfolioOptError, moment: Moment, seconds: float) -> None:
        """Turn an answer into a target and note it; where there is none, fall back."""
        fallback, reason = "", "a day of decision"
        details: dict[str, Any] = {}
        if isinstance(answer, Result) and (answer.weights is None or answer.status is not Status.optimal):
            details = {"status": answer.status.name, "message": answer.message}
            answer = SolveError(answer.message, result=answer)
        if isinstance(answer, PortfolioOptError):
            result = getattr(answer, "result", None)
            status = result.status.name if isinstance(result, Result) else "refused"
            details = {"status": status, "message": str(answer)} | details
            answer, fallback = self._fallen_back(t, moment)
        if answer is None:
            if not details:
                self._note(t, r, status="none", reason="the strategy leaves the book as it is", seconds=seconds)
            else:
                self._note(t, r, fallback=fallback, reason="no new target", seconds=seconds, **details)
            return
        if isinstance(answer, Result):
            assert answer.weights is not None
            if not fallback:
                self.state.last[r] = answer
                details = predicted(answer)
            target = answer.weights
        else:
            assert isinstance(answer, pd.Series)
            target = answer
            details = details or {"status": "given"}
        try:
            wanted = self._checked(target, t)
        except InputError as error:
            if t == 0:
                raise
            self._note(t, r, status="refused", fallback="hold", message=str(error), reason="no new target")
            return
        self.state.targets[r] = wanted
        self.state.decided[r].append((t, wanted))
        row = self._note(t, r, fallback=fallback, reason=reason, seconds=seconds, **details)
        if self.plan.rule is None:
            self._plan(t, r, wanted, row, reason)

    def _fallen_back(self, t: int, moment: Moment) -> tuple[pd.Series | Result | None, str]:
        """What is done where a strategy has no answer, and what to call it."""
        fallback = self.plan.fallback
        if isinstance(fallback, Strategy):
            answer = self._answer(t, fallback, moment)
            if isinstance(answer, Problem):
                answer = optimize_many([answer], warm_start=[None])[0]
            if isinstance(answer, pd.Series) or (isinstance(answer, Result) and answer.status is Status.optimal):
                return answer, repr(fallback)
            return None, "hold"
        if fallback == "cash":
            return pd.Series(dtype=np.float64), "cash"
        return None, "hold"

    def _checked(self, target: pd.Series, t: int) -> FloatArray:
        """Target weights over all assets (N,)."""
        assets = self.plan.tape.assets
        if target.index.has_duplicates:
            raise InputError(f"the target names {some(target.index[target.index.duplicated()].unique())} twice")
        places = assets.get_indexer(target.index)
        if (places < 0).any():
            raise InputError(f"the target names {some(target.index[places < 0])}, which the market does not have")
        values = target.to_numpy(dtype=np.float64)
        if not np.isfinite(values).all():
            raise InputError(f"the target is not finite for {some(target.index[~np.isfinite(values)])}")
        if values.sum() > 1.0 + _CREDIT and not self.plan.credit:
            raise InputError(
                f"the target sums to {values.sum():.6g}, so that {values.sum() - 1.0:.2%} of NAV would have to be "
                "borrowed; scale it, or allow that with credit=True"
            )
        wanted = np.zeros(len(assets))
        wanted[places] = values
        unknown = (wanted != 0.0) & np.isnan(self.plan.tape.prices[t])
        if unknown.any():
            raise InputError(f"the target names {some(assets[unknown])}, which has had no price yet")
        return wanted

    def _plan(self, t: int, r: int, weights: FloatArray, row: int, reason: str) -> None:
        due = t + self.plan.lag
        line = self.state.timeline[r][row]
        line["reason"] = reason
        if due < len(self.plan.tape.dates):
            line["rebalanced"] = True
            self.state.pending[r].append(Pending(due, weights, row, reason))
        else:
            line["message"] = "; ".join(filter(None, [line["message"], "the run ends before the trades"]))

    def _judge(self, t: int) -> None:
        """Ask the rule about every book that has a target and nothing on its way."""
        rule, state, tape = self.plan.rule, self.state, self.plan.tape
        assert rule is not None
        date = _day(tape.dates[t])
        waiting = [
            r
            for r in range(len(self.strategies))
            if state.targets[r] is not None and not state.ruined[r] and not state.pending[r]
        ]
        if not waiting:
            return
        nav = self._nav(t)
        units = state.units[waiting]
        weights = np.where(units == 0.0, 0.0, units * np.nan_to_num(tape.prices[t])) / nav[waiting, None]
        lasts = tuple(None if (last := state.rebalanced[r]) is None else _day(tape.dates[last]) for r in waiting)
        panel = Panel(date, tape.assets, weights, np.array([state.targets[r] for r in waiting]), lasts)
        for k, (r, possible) in enumerate(zip(waiting, rule.possible(panel), strict=True)):
            log = state.timeline[r]
            fresh = bool(log) and log[-1]["decided"] == t and not log[-1]["fallback"]
            if not possible and not fresh:
                continue
            target, last, held = state.targets[r], state.rebalanced[r], weights[k]
            assert target is not None
            before = state.traded_towards[r]
            situation = Situation(
                date,
                pd.Series(held, index=tape.assets),
                pd.Series(target, index=tape.assets),
                nav=float(nav[r]),
                last_rebalance=lasts[k],
                previous_targets=None if before is None else pd.Series(before, index=tape.assets),
                signals={} if self.plan.signals is None else _signals(self.plan.signals, date),
            )
            decision = rule.decide(situation)
            if not decision.rebalance:
                if fresh:
                    log[-1]["reason"] = "; ".join(decision.reasons)
                continue
            wanted = target
            band = _band(rule)
            if self.plan.towards != "target" and band is not None and last is not None:
                wanted = weights_to_trade_to(
                    situation.weights, situation.targets, band, towards=self.plan.towards
                ).to_numpy()
            reason = "; ".join(decision.reasons)
            row = len(log) - 1 if fresh else self._note(t, r, status="rule", reason=reason)
            self._plan(t, r, wanted, row, reason)

    def _note(self, t: int, r: int, **said: Any) -> int:
        """Write a line of the timeline; returns its number."""
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
        self.state.timeline[r].append(line | {"horizon": nan} | said)
        return len(self.state.timeline[r]) - 1


def predicted(result: Result) -> dict[str, Any]:
    """What a result certifies and expects of its weights."""
    scenarios = result.problem.scenarios
    said: dict[str, Any] = {"status": result.status.name, "volatility": result.volatility}
    if result.certificate is not None:
        c = result.certificate
        said |= {"objective": c.objective, "gap": c.gap, "max_violation": c.max_violation}
    if scenarios.mean_known:
        assert result.weights is not None
        said["expected_return"] = float(scenarios.mean_array() @ result.weights.to_numpy())
    for beta, worst in list(result.tails.items())[:1]:
        said |= {"beta": beta, "var": worst.var, "cvar": worst.cvar}
    spoken = re.match(r"(\d+)", scenarios.horizon or "")
    said["horizon"] = float(spoken.group(1)) if spoken else float("nan")
    said["binding"] = "; ".join(name if n == 1 else f"{name} ({n})" for name, n in result.binding.items())
    return said


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


def _day(date: pd.Timestamp) -> pd.Timestamp:
    """A date as rules know it: without time and zone."""
    return date.tz_localize(None).normalize()


def _band(rule: RebalanceRule) -> Any:
    """The band that a rule judges drift with, where it has one."""
    stack: list[Any] = [rule.trigger]
    while stack:
        one = stack.pop()
        if isinstance(one, DriftTrigger):
            return one.band
        stack += list(getattr(one, "triggers", ()))
    return None


def _signals(signals: pd.DataFrame, date: pd.Timestamp) -> dict[str, bool]:
    if date not in signals.index:
        raise InputError(f"signals says nothing about {date_text(date)}")
    return {str(name): bool(value) for name, value in signals.loc[date].items()}

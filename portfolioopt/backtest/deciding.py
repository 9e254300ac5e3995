"""What happens at the close of a day of decision, and on every day that a rule judges."""

from __future__ import annotations

import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from portfolioopt.data.checks import date_text
from portfolioopt.errors import InputError, PortfolioOptError, SolveError
from portfolioopt.labels import FloatArray, some
from portfolioopt.problem import Problem
from portfolioopt.rebalance import DriftTrigger, Panel, RebalanceRule, Situation, weights_to_trade_to
from portfolioopt.solve import Result, Status, optimize_many

from .families import FEW, Answered, answer_family, horizon_of, in_words
from .moment import Moment, Strategy, Target, seed_of
from .state import Pending, Plan, State, note
from .targets import check_total, target_array

Answer: TypeAlias = "Target | Answered | PortfolioOptError"


@dataclass(frozen=True, eq=False)
class Decisions:
    """Asks strategies and rules, and notes what they say."""

    plan: Plan
    strategies: Sequence[Strategy]
    state: State

    def ask(self, t: int) -> None:
        """Ask every strategy for a target, solve the problems together, and plan the trades."""
        state, plan = self.state, self.plan
        date = plan.tape.dates[t]
        view = plan.market.as_of(date)
        known = plan.tape.assets[: len(view.assets)]
        nav = self.state.nav(self.plan.tape.prices[t])
        worth = np.where(state.ruined, 1.0, nav)[:, None]  # a closed book has no weights
        weights = state.positions(plan.tape.prices[t]) / worth
        memory: dict[Any, Any] = {}
        quotes = plan.tape.quotes(t)[0].iloc[: len(known)].set_axis(known)
        seed = seed_of(plan.seed, plan.history, date)
        moments: dict[int, Moment] = {}
        found: dict[int, Answer] = {}
        families: dict[Hashable, list[tuple[int, dict[str, Any]]]] = {}
        seconds = np.zeros(len(self.strategies))
        for r, strategy in enumerate(self.strategies):
            if state.ruined[r]:
                continue
            target = state.targets[r]
            moments[r] = Moment(
                date,
                view,
                holdings=(weights[r, : len(known)], known),
                nav=float(nav[r]),
                cash=float(state.cash[r]),
                sample_seed=seed,
                run_seed=seed_of(plan.seed, plan.history),
                targets=None if target is None else (target[: len(known)], known),
                last=state.last[r],
                costs=plan.costs,
                quotes=quotes,
                memory=memory,
            )
            family = strategy.family(moments[r])
            if family is not None:
                key, numbers = family
                families.setdefault(key, []).append((r, dict(numbers)))
        for members in families.values():
            if len(members) >= FEW:
                start = time.perf_counter()
                found |= self._answer_family(t, members, moments, weights)
                seconds[[r for r, _ in members]] = (time.perf_counter() - start) / len(members)
        for r, moment in moments.items():
            if r not in found:
                start = time.perf_counter()
                found[r] = self._answer(t, self.strategies[r], moment)
                seconds[r] = time.perf_counter() - start
        problems = {r: target for r, target in found.items() if isinstance(target, Problem)}
        if problems:
            start = time.perf_counter()
            warm = [state.last[r] for r in problems]
            found |= dict(zip(problems, optimize_many(list(problems.values()), warm_start=warm), strict=True))
            seconds[list(problems)] += (time.perf_counter() - start) / len(problems)
        for r in moments:
            self._decide(t, r, found[r], moments[r], float(seconds[r]))

    def _answer_family(
        self,
        t: int,
        members: list[tuple[int, dict[str, Any]]],
        moments: dict[int, Moment],
        weights: FloatArray,
    ) -> dict[int, Answer]:
        """Answers of runs whose problems differ in a few numbers; what the first has no problem for, none has."""
        runs = [r for r, _ in members]
        problem = self._answer(t, self.strategies[runs[0]], moments[runs[0]])
        if not isinstance(problem, Problem):
            return dict.fromkeys(runs, problem)
        answers = answer_family(problem, [numbers for _, numbers in members], weights[runs], self.plan.tape.assets)
        return dict(zip(runs, answers, strict=True))

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

    def _decide(self, t: int, r: int, answer: Answer, moment: Moment, seconds: float) -> None:
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
                note(self.state, t, r, status="none", reason="the strategy leaves the book as it is", seconds=seconds)
            else:
                note(self.state, t, r, fallback=fallback, reason="no new target", seconds=seconds, **details)
            return
        target: pd.Series | FloatArray
        if isinstance(answer, Answered):
            target, details = answer.weights, answer.details
        elif isinstance(answer, Result):
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
            note(self.state, t, r, status="refused", fallback="hold", message=str(error), reason="no new target")
            return
        self.state.targets[r] = wanted
        self.state.decided[r].append((t, wanted))
        row = note(self.state, t, r, fallback=fallback, reason=reason, seconds=seconds, **details)
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

    def _checked(self, target: pd.Series | FloatArray, t: int) -> FloatArray:
        """Target weights over all assets (N,)."""
        assets = self.plan.tape.assets
        if isinstance(target, np.ndarray):
            wanted = target
            check_total(wanted, credit=self.plan.credit)
        else:
            wanted = target_array(target, assets, credit=self.plan.credit)
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

    def judge(self, t: int) -> None:
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
        nav = self.state.nav(self.plan.tape.prices[t])
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
            row = len(log) - 1 if fresh else note(self.state, t, r, status="rule", reason=reason)
            self._plan(t, r, wanted, row, reason)


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
    said["horizon"] = horizon_of(result.problem)
    said["binding"] = in_words(result.binding)
    return said


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

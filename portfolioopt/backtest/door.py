"""The door to the past: strategies go in, books come out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypedDict, Unpack, overload

import numpy as np
import pandas as pd

from portfolioopt.costs import CostModel
from portfolioopt.data import MarketData, period_ends
from portfolioopt.data.checks import check_dates, date_text, some, timestamp
from portfolioopt.errors import InputError, unknown_names
from portfolioopt.labels import FloatArray, checked_number
from portfolioopt.rebalance import CalendarTrigger, DriftBand, OrderRules, RebalanceRule, Trigger
from portfolioopt.rebalance.targets import Towards
from portfolioopt.scenarios.scenario_set import whole_number
from portfolioopt.solve.sweep import progress_bar

from .checkpoint import Checkpoint
from .engine import Engine
from .grid import BacktestGrid
from .histories import BootstrapHistories, resampled
from .moment import Strategy
from .recording import records_of, settings_in_words
from .result import Backtest, Record
from .state import Plan, begin
from .tape import make_tape
from .variants import AnyStrategy, Variant, as_strategy, named_strategies, variants_of

Every: TypeAlias = "str | CalendarTrigger | Iterable[object]"

_PERIODS = {"weekly": "week", "monthly": "month", "quarterly": "quarter", "yearly": "year"}


class Settings(TypedDict, total=False):
    """Arguments of :func:`backtest` that do not decide what comes back."""

    start: object
    end: object
    every: Every
    rule: RebalanceRule | Trigger | None
    towards: Towards
    signals: pd.DataFrame | None
    lag: int
    costs: CostModel | None
    orders: OrderRules | None
    capital: float
    cash_rate: float | pd.Series
    flows: pd.Series | Mapping[Any, float] | None
    traded: str | None
    dividends: str | None
    splits: str | None
    credit: bool
    max_stale: int
    benchmark: str | pd.Series | None
    fallback: Literal["hold", "cash"] | AnyStrategy
    how: Literal["product", "zip"]
    seed: int
    progress: bool
    checkpoint: str | Path | None


@overload
def backtest(
    strategy: AnyStrategy,
    data: MarketData | pd.DataFrame,
    *,
    over: None = None,
    histories: None = None,
    **settings: Unpack[Settings],
) -> Backtest: ...


@overload
def backtest(
    strategy: AnyStrategy,
    data: MarketData | pd.DataFrame,
    *,
    over: Mapping[str, Any],
    histories: BootstrapHistories | None = None,
    **settings: Unpack[Settings],
) -> BacktestGrid: ...


@overload
def backtest(
    strategy: AnyStrategy,
    data: MarketData | pd.DataFrame,
    *,
    over: None = None,
    histories: BootstrapHistories,
    **settings: Unpack[Settings],
) -> BacktestGrid: ...


@overload
def backtest(
    strategy: Mapping[str, AnyStrategy],
    data: MarketData | pd.DataFrame,
    *,
    over: Mapping[str, Any] | None = None,
    histories: BootstrapHistories | None = None,
    **settings: Unpack[Settings],
) -> BacktestGrid: ...


def backtest(
    strategy: AnyStrategy | Mapping[str, AnyStrategy],
    data: MarketData | pd.DataFrame,
    *,
    start: object = None,
    end: object = None,
    every: Every = "monthly",
    rule: RebalanceRule | Trigger | None = None,
    towards: Towards = "target",
    signals: pd.DataFrame | None = None,
    lag: int = 1,
    costs: CostModel | None = None,
    orders: OrderRules | None = None,
    capital: float = 1_000_000.0,
    cash_rate: float | pd.Series = 0.0,
    flows: pd.Series | Mapping[Any, float] | None = None,
    traded: str | None = None,
    dividends: str | None = None,
    splits: str | None = None,
    credit: bool = False,
    max_stale: int = 5,
    benchmark: str | pd.Series | None = None,
    fallback: Literal["hold", "cash"] | AnyStrategy = "hold",
    over: Mapping[str, Any] | None = None,
    how: Literal["product", "zip"] = "product",
    histories: BootstrapHistories | None = None,
    seed: int = 0,
    progress: bool = False,
    checkpoint: str | Path | None = None,
) -> Backtest | BacktestGrid:
    r"""Run strategies through history, one session after the other, with books that pay what trading costs.

    At the close of a decision day a strategy sees the market as of that close and gives a target. The target is traded
    `lag` sessions later, at the close prices of that session, in amounts that leave the book at its target weights once
    the costs are paid. Between, units stay and weights drift. At every close
    :math:`\mathrm{NAV} = \text{cash} + \sum_i \text{units}_i\,p_i`.

    Parameters
    ----------
    strategy
        A :class:`Strategy`, a function of a :class:`Moment` that gives a problem, a result, weights or None, or several
        of these by name. Problems are solved together, each with a warm start from the decision before.
    data
        The market, or a frame of prices (T x N).
    start, end
        First and last session of the book. By default as early as the strategies' windows allow, and the last one;
        ``end="2016"`` is the end of that year.
    every
        When strategies are asked: ``"daily"``, ``"weekly"``, ``"monthly"``, ``"quarterly"`` or ``"yearly"`` (the last
        session of each), a calendar trigger, or dates. The first session is a day of decision in any case.
    rule
        Judges the drifted book against the present targets at every close, and says when to trade; a trigger alone
        rests seven days after each trade (see :class:`portfolioopt.rebalance.RebalanceRule`). Where None, a new target
        is traded and nothing else is.
    towards
        Where a trade that a drift band called for leads to: ``"target"``, ``"edge"`` or ``"halfway"``.
    signals
        Signals of the rule by session (rows) and name.
    lag
        Sessions from a decision to its trades; 0 trades at the very close that was looked at.
    costs
        What trading and borrowing is charged, in account currency; free where None. The same object plans
        (:meth:`Moment.cost_term`).
    orders
        Lots, minimum orders and assets not to be traded; any fractions where None.
    capital
        Cash on the first session, in account currency.
    cash_rate
        Simple interest on cash per year (ACT/365), one number or by date; what is owed pays it.
    flows
        Money paid in (positive) or out at the close of a session, by date. It is no return.
    traded, dividends, splits
        Names of fields of the market: unadjusted closes, cash per unit on the day it goes ex, new units per old unit.
        Where `traded` is None, the book trades at the market's prices, in which both are usually contained.
    credit
        Whether targets may sum to more than one, with cash below zero.
    max_stale
        Sessions for which a held asset may be without a price, valued at the last one.
    benchmark
        Prices by date, an asset of the market, or one of several strategies by its name; for the relative figures.
        Prices are resampled with the market where there are histories.
    fallback
        What to do where a strategy has no answer (infeasible, too little data): ``"hold"`` the book, go to ``"cash"``,
        or ask another strategy. It is noted in the timeline.
    over, how
        Parameters to be varied: names of fields of the strategies and their values, all combinations or the first
        values together, then the second ones, ...
    histories
        Run on these resampled histories instead of the real one.
    seed
        Everything random follows from it: the same inputs give the same books.
    progress
        Show a progress bar over days of decision.
    checkpoint
        File to keep the state of unfinished runs in; a run that was interrupted goes on from there.

    Returns
    -------
    Backtest, or BacktestGrid where there are several strategies, parameters or histories

    Raises
    ------
    InputError
        For dates, names and units that do not fit, positions without prices or costs, and whatever a strategy refuses
        on the first session; later refusals are noted in the timeline.
    """
    market = data if isinstance(data, MarketData) else MarketData(data)
    named = named_strategies(strategy)
    variants = variants_of(named, over, how)
    first, last = _span(market, start, end, [v.strategy for v in variants])
    _check_kinds(costs, orders, histories, benchmark, flows)
    whole_number(lag, "lag", least=0)
    whole_number(max_stale, "max_stale", least=0)
    whole_number(seed, "seed", least=0)
    checked_number(capital, "capital", above=0.0)
    rule = _rule(rule)
    other: Any = fallback if isinstance(fallback, str) and fallback in ("hold", "cash") else as_strategy(fallback)
    dates = market.dates[first : last + 1]
    asked = _asked(every, dates)
    count = 1 if histories is None else histories.count
    several = len(variants) > 1 or histories is not None or isinstance(strategy, Mapping)
    table = _table(variants, histories)
    keeper = None if checkpoint is None else Checkpoint(checkpoint)
    settings = settings_in_words(
        start=dates[0], end=dates[-1], every=every, rule=rule, towards=towards, lag=lag, costs=costs, orders=orders,
        capital=capital, cash_rate=cash_rate, flows=flows, traded=traded, dividends=dividends, splits=splits,
        credit=credit, max_stale=max_stale, benchmark=benchmark, fallback=fallback, histories=histories, seed=seed,
    )  # fmt: skip
    records: list[Record] = []
    with progress_bar(int(asked.sum()) * count, progress) as step:
        for number in range(count):
            here = market if histories is None else histories.market(market, number)
            plan = Plan(
                tape=make_tape(
                    here, first, last, traded=traded, dividends=dividends, splits=splits, cash_rate=cash_rate,
                    flows=flows,
                ),
                market=here,
                first=first,
                asked=asked,
                rule=rule,
                towards=towards,
                lag=int(lag),
                costs=costs,
                orders=orders,
                capital=float(capital),
                fallback=other,
                credit=credit,
                max_stale=int(max_stale),
                seed=int(seed),
                history=number,
                signals=signals,
            )  # fmt: skip
            engine = Engine(plan, [v.strategy for v in variants], begin(plan, len(variants)))
            if keeper is not None:
                engine.state = keeper.load(plan, engine) or engine.state
                engine.run(step, lambda state, e=engine, p=plan: keeper.save(p, e, state))
            else:
                engine.run(step)
            worth = _benchmark(benchmark, here, plan, histories)
            records += records_of(engine, variants, None if histories is None else number, settings, worth)
    if keeper is not None:
        keeper.done()
    if not several:
        return Backtest(records[0])
    return BacktestGrid(records, table)


def _span(market: MarketData, start: object, end: object, strategies: Sequence[Strategy]) -> tuple[int, int]:
    """First and last row of the market that are sessions of the run."""
    dates = market.dates
    needed = max(s.warmup for s in strategies)
    if start is None:
        first = max(needed - 1, 0)
        if first >= len(dates) - 1:
            raise InputError(f"the strategy needs {needed} sessions of prices to begin with; there are {len(dates)}")
    else:
        first = int(dates.searchsorted(timestamp(start, "start", dates.tz)))
    last = len(dates) - 1
    if end is not None:
        last = int(dates.searchsorted(timestamp(_end_of(end), "end", dates.tz), side="right")) - 1
    if first >= last:
        raise InputError(
            f"there are no two sessions between start ({start!r}) and end ({end!r}); prices go from "
            f"{date_text(dates[0])} to {date_text(dates[-1])}"
        )
    return first, last


def _end_of(end: object) -> object:
    """The last day of a year or month that is given as text ("2016", "2016-03"); anything else as it is."""
    if isinstance(end, str) and re.fullmatch(r"\d{4}(-\d{2})?", end):
        return pd.Period(end).end_time.normalize()
    return end


def _asked(every: Every, dates: pd.DatetimeIndex) -> np.ndarray:
    """Sessions on which strategies are asked (T,)."""
    asked = np.zeros(len(dates), dtype=bool)
    if isinstance(every, str):
        if every == "daily":
            asked[:] = True
        elif every in _PERIODS:
            asked[dates.get_indexer(period_ends(dates, _PERIODS[every]))] = True  # type: ignore[arg-type]
        else:
            raise unknown_names("frequency", [every], ["daily", *_PERIODS])
    elif isinstance(every, CalendarTrigger):
        asked[:] = [
            every.last_due(day.tz_localize(None).normalize()) == day.tz_localize(None).normalize() for day in dates
        ]
    elif isinstance(every, Iterable):
        chosen = pd.DatetimeIndex([timestamp(day, "every", dates.tz) for day in every])
        check_dates(chosen, "every")
        places = dates.get_indexer(chosen)
        inside = (chosen >= dates[0]) & (chosen <= dates[-1])
        if (places[inside] < 0).any():
            strange = chosen[inside][places[inside] < 0]
            raise InputError(f"every has {some(date_text(d) for d in strange)}, which are no sessions")
        asked[places[inside]] = True
    else:
        raise InputError(f"every takes a frequency such as 'monthly', a CalendarTrigger, or dates, not {every!r}")
    asked[0] = True
    return asked


def _rule(rule: object) -> RebalanceRule | None:
    if isinstance(rule, Trigger):
        return RebalanceRule(rule)
    if rule is None or isinstance(rule, RebalanceRule):
        return rule
    hint = "; wrap the band in a trigger: DriftTrigger(band)" if isinstance(rule, DriftBand) else ""
    raise InputError(f"rule must be a RebalanceRule or a trigger, was {type(rule).__name__}{hint}")


def _check_kinds(costs: object, orders: object, histories: object, benchmark: object, flows: object) -> None:
    """Refuse arguments of another kind, with what was probably meant."""
    if costs is not None and not isinstance(costs, CostModel):
        raise InputError(f"costs must be a cost model such as costs.ProportionalCosts(bps=5), was {costs!r}")
    if orders is not None:
        if not isinstance(orders, OrderRules):
            raise InputError(f"orders must be OrderRules(...), was {orders!r}")
        if callable(orders.fees) or np.any(np.asarray(orders.fees, dtype=object) != 0.0):
            raise InputError("orders.fees has no place in a backtest; say what trading costs with costs=")
    if histories is not None and not isinstance(histories, BootstrapHistories):
        raise InputError(f"histories must be BootstrapHistories(count), was {histories!r}")
    if benchmark is not None and not isinstance(benchmark, str | pd.Series):
        raise InputError(
            f"benchmark must be prices by date, an asset, or the name of a strategy, was a {type(benchmark).__name__}"
        )
    if flows is not None and not isinstance(flows, pd.Series | Mapping):
        raise InputError(f"flows must map dates to money, was a {type(flows).__name__}")


def _benchmark(
    benchmark: str | pd.Series | None, market: MarketData, plan: Plan, histories: BootstrapHistories | None
) -> FloatArray | str | None:
    """What the capital would be worth in the benchmark (T,), or the name of a strategy that is it."""
    if benchmark is None:
        return None
    dates = plan.tape.dates
    if isinstance(benchmark, str):
        if benchmark not in market.assets:
            return benchmark
        worth = market.prices[benchmark]
    elif histories is None:
        worth = benchmark
    else:
        whole = benchmark.reindex(market.dates).to_frame("the benchmark")
        worth = pd.Series(resampled(whole, histories.rows(plan.history, len(whole)))[:, 0], whole.index)
    worth = worth.reindex(dates)
    if worth.isna().any():
        raise InputError(f"the benchmark has no value on {date_text(dates[int(np.argmax(worth.isna().to_numpy()))])}")
    values = worth.to_numpy(dtype=np.float64)
    return plan.capital * values / values[0]


def _table(variants: Sequence[Variant], histories: BootstrapHistories | None) -> pd.DataFrame:
    rows = [
        v.labels | ({} if histories is None else {"history": number})
        for number in range(1 if histories is None else histories.count)
        for v in variants
    ]
    return pd.DataFrame(rows, index=pd.RangeIndex(len(rows), name="run"))

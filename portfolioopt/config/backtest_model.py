"""The keys of a backtest's file, in the words and units of the library: those of a run file, and the book's own."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, model_validator

from .model import (
    Day,
    Labels,
    Many,
    Number,
    PerAsset,
    PricesConfig,
    RunFile,
    Section,
    Whole,
    complaint,
    date_of,
    number_of,
    shown,
    whole_of,
)
from .strategy_model import FallbackConfig, MeanCVaRConfig, ProblemConfig, StrategyConfig

Frequency = Literal["daily", "weekly", "monthly", "quarterly", "yearly"]


def _every(value: object) -> str | tuple[datetime.date, ...]:
    if isinstance(value, list | tuple):
        if not value:
            raise complaint("has no dates")
        return tuple(date_of(day) for day in value)
    if value not in ("daily", "weekly", "monthly", "quarterly", "yearly"):
        raise complaint(
            f"must be 'daily', 'weekly', 'monthly', 'quarterly', 'yearly' or a list of dates, was {shown(value)}"
        )
    return str(value)


def _day(value: object) -> str | int:
    return value if value in ("first", "last") else whole_of(value)  # type: ignore[return-value]


def _flows(value: object) -> dict[datetime.date, float]:
    if not isinstance(value, Mapping) or not value:
        raise complaint(f"must be a mapping from date to money paid in, was {shown(value)}")
    return {date_of(day): number_of(amount, str(day), str(day)) for day, amount in value.items()}


def _rate(value: object) -> float | str:
    return value if isinstance(value, str) and value.endswith((".csv", ".parquet", ".pq")) else number_of(value, "")


def _values(value: object) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple) or not value:
        raise complaint(f"must be a list of values, was {shown(value)}")
    for i, one in enumerate(value):
        if not isinstance(one, int | float | str | None):
            raise complaint(f"must be a plain value, was {shown(one)}", i)
    return tuple(value)


class MarketConfig(PricesConfig):
    """Where prices come from, and what else is known of the market."""

    volumes: str | None = None
    """Path of a file like that of the prices, with units traded per day; costs with impact need it."""


class BookConfig(Section):
    """The book that is kept."""

    capital: Number = 1_000_000.0
    """Cash on the first session, in account currency."""
    start: Day | None = None
    end: Day | None = None
    """First and last session; as early as the strategies' windows allow, and the last with prices."""
    lag: Whole = 1
    """Sessions from a decision to its trades; 0 trades at the close that was looked at."""
    cash_rate: Annotated[float | str, BeforeValidator(_rate)] = 0.0
    """Interest on cash per year, a fraction, or the path of a file with one by date."""
    flows: Annotated[dict[datetime.date, float], BeforeValidator(_flows)] | None = None
    """Money paid in (positive) and out, by date."""
    benchmark: str | None = None
    """``sample index`` for the bundled one, one of the assets, or the path of a file with prices by date."""
    credit: bool = False
    """Whether targets may sum to more than one."""
    max_stale: Whole = 5
    """Sessions for which a held asset may be without a price."""
    seed: Whole = 0
    """Everything random follows from it."""


class DecisionsConfig(Section):
    """When strategies are asked for targets; ``decisions: monthly`` for short."""

    _short = "every"
    every: Annotated[Frequency | tuple[datetime.date, ...], BeforeValidator(_every)] = "monthly"
    day: Annotated[Literal["first", "last"] | int, BeforeValidator(_day)] = "last"
    """``last`` or ``first`` session of the period, the day of the month, or of the week (1 for Monday)."""
    months: Many[Whole] | None = None
    """Months of quarterly and yearly dates."""

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if not isinstance(self.every, str):
            for key, unused in (("day", self.day == "last"), ("months", self.months is None)):
                if not unused:
                    raise complaint("means nothing beside a list of dates: remove it", key)
        return self


class BandConfig(Section):
    """`portfolioopt.rebalance.DriftBand`; ``band: 0.05`` for short."""

    _short = "width"
    width: PerAsset
    kind: Literal["absolute", "relative"] = "absolute"
    inclusive: bool = True
    groups: Labels | None = None
    """Judge the weights of groups: ``sample sectors``, a file, or a mapping from asset to label."""
    zero_target: Literal["absolute", "any", "never"] = "absolute"


class CooldownConfig(Section):
    """`portfolioopt.rebalance.Cooldown`; ``cooldown: 7`` for short."""

    _short = "length"
    length: Whole
    unit: Literal["days", "sessions"] = "days"


class CashBandConfig(Section):
    """`portfolioopt.rebalance.CashTrigger`: amounts of cash, in account currency, that call for trades."""

    _short = "surplus"
    surplus: Number | None = None
    shortfall: Number | None = None


class RuleConfig(Section):
    """When the book is traded towards its present targets; judged at every close."""

    band: BandConfig | None = None
    cash: CashBandConfig | None = None
    """Either of the two calls for trades."""
    cooldown: CooldownConfig = CooldownConfig(length=7)
    """Days of rest after a trade."""
    towards: Literal["target", "edge", "halfway"] = "target"
    """Where a trade that the band called for leads to."""

    @model_validator(mode="after")
    def _some(self) -> Self:
        if self.band is None and self.cash is None:
            raise complaint("never calls for a trade: give it band or cash")
        if self.band is None and self.towards != "target":
            raise complaint("is about the band, but there is none", "towards")
        return self


class CommissionConfig(Section):
    """`portfolioopt.costs.ProportionalCosts`; ``commission: 5`` for short."""

    _short = "bps"
    bps: PerAsset = 0.0
    sell: PerAsset | None = None
    per_share: PerAsset = 0.0
    minimum: Number = 0.0
    fixed: Number = 0.0


class SpreadConfig(Section):
    """`portfolioopt.costs.SpreadCosts`: the quoted spread, of which half is paid; ``spread: 2`` for short."""

    _short = "bps"
    bps: PerAsset
    fraction: Number = 0.5


class ImpactConfig(Section):
    """`portfolioopt.costs.SquareRootImpact`; ``impact: 1.0`` for short."""

    _short = "coefficient"
    coefficient: PerAsset = 1.0
    exponent: Number = 0.5


class BorrowConfig(Section):
    """`portfolioopt.costs.BorrowCosts`: basis points per year on what is short; ``borrow: 50`` for short."""

    _short = "bps"
    bps: PerAsset
    year: Number = 360.0


class CostsConfig(Section):
    """What trades and short positions are charged; the parts add."""

    commission: CommissionConfig | None = None
    spread: SpreadConfig | None = None
    impact: ImpactConfig | None = None
    borrow: BorrowConfig | None = None

    @model_validator(mode="after")
    def _some(self) -> Self:
        if all(getattr(self, key) is None for key in type(self).model_fields):
            raise complaint("charges nothing: give it commission, spread, impact or borrow, or leave it out")
        return self


class OrdersConfig(Section):
    """`portfolioopt.rebalance.OrderRules`."""

    lot: PerAsset = 0.0
    """Units an order is a multiple of: 1 for whole shares, 0 for any fraction."""
    minimum_value: Number = 1.0
    """Smallest order, in account currency."""
    no_trade: Many[str] = ()
    """Assets that are left as they are."""
    reserve: Number = 0.0
    """Cash that buys leave untouched, in account currency."""


class HistoriesConfig(Section):
    """`portfolioopt.BootstrapHistories`: the same on resampled histories; ``histories: 100`` for short."""

    _short = "count"
    count: Whole
    block_length: Whole = 252
    """Mean length of a block in sessions."""


class BacktestReportConfig(Section):
    """What the report shows."""

    top: Whole = 20
    """Rows of the longer tables and bars of the charts."""
    interactive: bool = True
    """Charts that can be zoomed (the extra ``report``); still pictures otherwise."""
    labels: Labels | None = None
    """Groups of the assets; the sectors of the bundled prices where omitted."""
    runs: Whole = 4
    """Up to so many runs side by side, each gets a page and tables of its own."""

    @model_validator(mode="after")
    def _some(self) -> Self:
        if self.top < 1:
            raise complaint(f"must be at least 1, was {self.top}", "top")
        if self.runs < 0:
            raise complaint(f"must not be negative, was {self.runs}", "runs")
        return self


class BacktestConfig(RunFile):
    """A backtest: data, the book, when it decides and trades and at which costs, and its strategies."""

    data: MarketConfig
    book: BookConfig = BookConfig()
    decisions: DecisionsConfig = DecisionsConfig()
    rule: RuleConfig | None = None
    """Where omitted, every new target is traded and nothing else is."""
    costs: CostsConfig | None = None
    orders: OrdersConfig | None = None
    strategy: StrategyConfig | None = None
    strategies: dict[str, StrategyConfig] | None = None
    """Several by name, to compare."""
    parameters: dict[str, Annotated[tuple[Any, ...], BeforeValidator(_values)]] | None = None
    """Values of keys of the strategies to be tried."""
    how: Literal["product", "zip"] = "product"
    """Whether all combinations of parameters are tried, or the first values together, then the second ones, ..."""
    histories: HistoriesConfig | None = None
    fallback: FallbackConfig = "hold"
    """What to do where a strategy has no answer: ``hold`` the book, go to ``cash``, or ask another strategy."""
    report: BacktestReportConfig = BacktestReportConfig()

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if (self.strategy is None) == (self.strategies is None):
            if self.strategy is None:
                raise complaint("is missing: name a strategy, or several under strategies", "strategy")
            raise complaint("stands beside strategies: move it there, under a name", "strategy")
        if self.strategies is not None and not self.strategies:
            raise complaint("is empty: give it a strategy", "strategies")
        if self.parameters is not None and not self.parameters:
            raise complaint("is empty: give it the name of a key and values, or remove it", "parameters")
        if self.how == "zip" and self.parameters is None:
            raise complaint("is about parameters, but there are none", "how")
        if self.book.start is not None and self.book.end is not None and self.book.start >= self.book.end:
            raise complaint(f"{self.book.start} is not before the end, {self.book.end}", "book", "start")
        return self

    @property
    def random(self) -> bool:
        """Whether anything in it is drawn."""
        configured = [self.strategy] if self.strategy is not None else list((self.strategies or {}).values())
        if not isinstance(self.fallback, str):
            configured.append(self.fallback)
        drawn = any(
            (isinstance(one, MeanCVaRConfig) and one.n_scenarios is not None)
            or (isinstance(one, ProblemConfig) and one.scenarios.kind == "bootstrap")
            for one in configured
        )
        return drawn or self.histories is not None

    def with_seed(self, seed: int) -> BacktestConfig:
        """A copy with another seed."""
        if not self.random:
            raise self.error("nothing is drawn in this backtest, so a seed has no effect on it", "strategy")
        book = self.book.model_copy(update={"seed": whole_of(seed)})
        return self.model_copy(update={"book": book})

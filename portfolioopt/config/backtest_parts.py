"""The parts of a backtest, made from the sections of its file."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any, Final

import pandas as pd

from portfolioopt.backtest import (
    Allocated,
    BuyAndHold,
    EqualWeight,
    FixedWeights,
    MeanCVaR,
    Strategy,
)
from portfolioopt.backtest.door import Settings
from portfolioopt.costs import BorrowCosts, CostModel, ProportionalCosts, SpreadCosts, SquareRootImpact
from portfolioopt.data import sample_sectors
from portfolioopt.errors import unknown_names
from portfolioopt.labels import PerAsset
from portfolioopt.rebalance import (
    CalendarTrigger,
    CashTrigger,
    Cooldown,
    DriftBand,
    DriftTrigger,
    OrderRules,
    RebalanceRule,
    Trigger,
)

from .backtest_model import BacktestConfig, RuleConfig
from .files import SAMPLE, SAMPLE_INDEX, read_labels, read_series
from .model import OTHERS, GroupConfig
from .place import Key, Place
from .strategies import Allocator, SectionedProblem
from .strategy_model import (
    AllocatorConfig,
    AnyStrategyConfig,
    BuyAndHoldConfig,
    EqualWeightConfig,
    FixedConfig,
    MeanCVaRConfig,
    ProblemConfig,
)
from .terms import check_by_asset, check_labels, check_sections, group_limit, spread

_FILES: Final = (".csv", ".parquet", ".pq")
_PARAMETERS: Final[Mapping[type, tuple[str, ...]]] = {
    MeanCVaRConfig: (
        "risk_aversion", "beta", "window", "n_scenarios", "horizon", "block_length", "lower", "upper", "turnover",
        "cost_bps", "holding",
    ),
    ProblemConfig: ("risk_aversion", "window", "n_scenarios", "horizon", "block_length", "holding"),
    AllocatorConfig: ("window",),
}  # fmt: skip
FIELDS: Final[Mapping[type, Mapping[str, str]]] = {
    MeanCVaR: {"n_scenarios": "scenarios"}
}  # what a key is called in the library, where it differs


@dataclass(frozen=True)
class Maker:
    """Makes what the sections of a backtest describe, over the assets of its prices."""

    config: BacktestConfig
    at: Place
    assets: pd.Index

    def strategy(self, wanted: AnyStrategyConfig, *keys: Key) -> Strategy:
        """The strategy of a section."""
        at = self.at.at(*keys)
        match wanted:
            case MeanCVaRConfig():
                labels = self._groups(wanted.groups, at, "groups")
                for i, group in enumerate(wanted.groups):
                    check_labels(group, labels[i].reindex(self.assets).dropna(), at, "groups", i)
                with at.located("groups"):
                    limits = [group_limit(g, own, self.assets) for g, own in zip(wanted.groups, labels, strict=True)]
                lower = self._by_asset(wanted.lower, at, "lower")
                upper = self._by_asset(wanted.upper, at, "upper")
                with at.located():
                    return MeanCVaR(
                        risk_aversion=wanted.risk_aversion, beta=wanted.beta, window=wanted.window,
                        scenarios=wanted.n_scenarios, horizon=wanted.horizon, block_length=wanted.block_length,
                        lower=lower, upper=upper, turnover=wanted.turnover, cost_bps=wanted.cost_bps,
                        holding=wanted.holding, constraints=tuple(limits),
                    )  # fmt: skip
            case ProblemConfig():
                labels = self._groups(wanted.constraints.groups, at, "constraints", "groups")
                check_sections(wanted.objective, wanted.constraints, labels, self.assets, at)
                return SectionedProblem.of(wanted, tuple(labels), at)
            case AllocatorConfig():
                for key in ("lower", "upper"):
                    check_by_asset(getattr(wanted, key), self.assets, at, key)
                with at.located("window"):
                    return Allocated(Allocator(wanted), wanted.window)
            case FixedConfig():
                check_by_asset(wanted.weights, self.assets, at, "weights", partial=True)
                return FixedWeights(wanted.weights)
            case EqualWeightConfig():
                return EqualWeight()
            case BuyAndHoldConfig():
                check_by_asset(wanted.weights, self.assets, at, "weights", partial=True)
                return BuyAndHold(wanted.weights)

    def parameters(self, strategies: Mapping[str, Strategy]) -> tuple[dict[str, tuple[Any, ...]], list[Strategy]]:
        """Fields of the strategies and their values, and the strategies with all of them."""
        named = self.config.parameters or {}
        sections = self.config.strategies or {next(iter(strategies)): self.config.strategy}
        for key in named:
            for name, section in sections.items():
                known = _PARAMETERS.get(type(section), ())
                if key not in known:
                    raise self.at.error(str(unknown_names(f"parameter of {name}", [key], known)), "parameters", key)
        fields = {key: {FIELDS.get(type(one), {}).get(key, key) for one in strategies.values()} for key in named}
        mixed = [key for key, own in fields.items() if len(own) > 1]
        if mixed:
            raise self.at.error(
                f"the strategies call {mixed[0]} by different names; vary it in a file for each", "parameters", mixed[0]
            )
        over = {own.pop(): named[key] for key, own in fields.items()}
        if self.config.how == "zip" and len({len(values) for values in over.values()}) > 1:
            lengths = ", ".join(f"{key}: {len(values)}" for key, values in named.items())
            raise self.at.error(f"parameters that are zipped need as many values each ({lengths})", "parameters")
        variants: list[Strategy] = []
        for one in strategies.values():
            for point in points_of(over, self.config.how):
                with self.at.located("parameters"):
                    variants.append(replace(one, **point) if point else one)  # type: ignore[type-var]
        return over, variants

    def settings(self, prices: pd.DataFrame) -> Settings:
        """Arguments of the backtest."""
        config, book, at = self.config, self.config.book, self.at.at("book")
        found: Settings = {
            "start": book.start,
            "end": book.end,
            "every": self._every(prices.index),
            "lag": book.lag,
            "costs": self._costs(),
            "orders": self._orders(),
            "capital": book.capital,
            "cash_rate": read_series(book.cash_rate, "interest", at, "cash_rate")
            if isinstance(book.cash_rate, str)
            else book.cash_rate,
            "flows": None if book.flows is None else pd.Series({pd.Timestamp(d): m for d, m in book.flows.items()}),
            "credit": book.credit,
            "max_stale": book.max_stale,
            "benchmark": self._benchmark(),
            "how": config.how,
            "seed": book.seed,
        }
        if config.rule is not None:
            found["rule"] = self._rule(config.rule, prices.index)
            found["towards"] = config.rule.towards
        fallback = config.fallback
        found["fallback"] = fallback if isinstance(fallback, str) else self.strategy(fallback, "fallback")
        return found

    def labels(self) -> pd.Series | None:
        """Group of each asset, for reports."""
        wanted = self.config.report.labels
        if wanted is not None:
            return read_labels(wanted, self.at, "report", "labels")
        return sample_sectors() if self.config.data.source == SAMPLE else None

    def _every(self, dates: pd.Index) -> Any:
        wanted = self.config.decisions
        if not isinstance(wanted.every, str):
            return [pd.Timestamp(day) for day in wanted.every]
        if wanted.day == "last" and wanted.months is None:
            return wanted.every
        if wanted.every == "daily":
            raise self.at.error("every session is a day of decision: remove day and months", "decisions", "every")
        assert isinstance(dates, pd.DatetimeIndex)
        with self.at.located("decisions"):
            return CalendarTrigger(wanted.every, wanted.day, calendar=dates, months=wanted.months)

    def _rule(self, wanted: RuleConfig, dates: pd.Index) -> RebalanceRule:
        triggers: list[Trigger] = []
        at = self.at.at("rule")
        if (b := wanted.band) is not None:
            groups = None if b.groups is None else read_labels(b.groups, at, "band", "groups")
            names = self.assets
            if groups is not None:
                unlabelled = groups.reindex(self.assets).isna()
                if unlabelled.any():
                    raise at.error(f"{unlabelled.idxmax()} has no label", "band", "groups")
                names = pd.Index(groups.reindex(self.assets).unique())
                if isinstance(b.width, dict):
                    strange = [label for label in b.width if label not in names and label != OTHERS]
                    if strange:
                        raise at.error(str(unknown_names("label", strange, names)), "band", "width", strange[0])
            else:
                check_by_asset(b.width, names, at, "band", "width")
            with at.located("band"):
                width = spread(b.width, names)
                triggers.append(DriftTrigger(DriftBand(width, b.kind, b.inclusive, groups, b.zero_target)))
        if (c := wanted.cash) is not None:
            with at.located("cash"):
                triggers.append(CashTrigger(c.surplus, c.shortfall))
        with at.located("cooldown"):
            rest = wanted.cooldown
            assert isinstance(dates, pd.DatetimeIndex)
            cooldown = Cooldown(rest.length, rest.unit, dates if rest.unit == "sessions" else None)
        trigger = triggers[0] if len(triggers) == 1 else triggers[0] | triggers[1]
        return RebalanceRule(trigger, cooldown)

    def _costs(self) -> CostModel | None:
        wanted, at = self.config.costs, self.at.at("costs")
        if wanted is None:
            return None
        models: list[CostModel] = []
        if (c := wanted.commission) is not None:
            rates = {key: self._by_asset(getattr(c, key), at, "commission", key) for key in ("bps", "per_share")}
            sell = None if c.sell is None else self._by_asset(c.sell, at, "commission", "sell")
            with at.located("commission"):
                models.append(ProportionalCosts(rates["bps"], sell, rates["per_share"], c.minimum, c.fixed))
        if (c := wanted.spread) is not None:
            with at.located("spread"):
                models.append(SpreadCosts(self._by_asset(c.bps, at, "spread", "bps"), c.fraction))
        if (c := wanted.impact) is not None:
            if self.config.data.volumes is None:
                raise at.error("impact depends on volumes, and there are none: give data.volumes a file", "impact")
            with at.located("impact"):
                models.append(SquareRootImpact(self._by_asset(c.coefficient, at, "impact", "coefficient"), c.exponent))
        if (c := wanted.borrow) is not None:
            with at.located("borrow"):
                models.append(BorrowCosts(self._by_asset(c.bps, at, "borrow", "bps"), c.year))
        total = models[0]
        for model in models[1:]:
            total = total + model
        return total

    def _orders(self) -> OrderRules | None:
        wanted, at = self.config.orders, self.at.at("orders")
        if wanted is None:
            return None
        for i, asset in enumerate(wanted.no_trade):
            if asset not in self.assets:
                raise at.error(str(unknown_names("asset", [asset], self.assets)), "no_trade", i)
        lot = self._by_asset(wanted.lot, at, "lot")
        with at.located():
            return OrderRules(
                minimum_value=wanted.minimum_value, lot=lot, no_trade=wanted.no_trade, reserve=wanted.reserve
            )  # fmt: skip

    def _benchmark(self) -> str | pd.Series | None:
        name = self.config.book.benchmark
        if name is None or name in self.assets:
            return name
        at = self.at.at("book")
        if name == SAMPLE_INDEX or PurePath(name).suffix.lower() in _FILES:
            return read_series(name, "the benchmark", at, "benchmark")
        raise at.error(str(unknown_names("benchmark", [name], [SAMPLE_INDEX, *self.assets])), "benchmark")

    def _by_asset(self, value: float | dict[str, float], at: Place, *keys: Key) -> PerAsset:
        check_by_asset(value, self.assets, at, *keys)
        return spread(value, self.assets)

    def _groups(self, groups: tuple[GroupConfig, ...], at: Place, *keys: Key) -> list[pd.Series]:
        return [read_labels(group.labels, at, *keys, i, "labels") for i, group in enumerate(groups)]


def points_of(over: Mapping[str, tuple[Any, ...]], how: str) -> list[dict[str, Any]]:
    """Combinations of parameters; one without any where nothing is varied."""
    points = zip(*over.values(), strict=True) if how == "zip" else itertools.product(*over.values())
    return [dict(zip(over, point, strict=True)) for point in points]

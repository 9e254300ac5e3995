"""From a checked configuration to a backtest that can be run."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import pandas as pd

from portfolioopt.backtest import (
    Backtest,
    BacktestGrid,
    BootstrapHistories,
    Moment,
    Strategy,
    backtest,
)
from portfolioopt.backtest.door import Settings
from portfolioopt.backtest.moment import Target
from portfolioopt.data import MarketData
from portfolioopt.errors import ConfigError, InputError, PortfolioOptError, SolveError
from portfolioopt.problem import Problem
from portfolioopt.solve import Result

from .backtest_model import BacktestConfig
from .backtest_parts import FIELDS, Maker, points_of
from .files import read_frame, read_prices
from .model import in_words
from .place import Key, Place
from .strategy_model import (
    MeanCVaRConfig,
)
from .terms import place_of

_NAMES: Final = {"mean_cvar": "Mean-CVaR", "hrp": "HRP", "herc": "HERC"}
_PLACES: Final = (  # what a message of the library is about, and where that stands
    (r"\bbenchmark\b", ("book", "benchmark")),
    (r"\bhistories\b", ("histories",)),
    (r"\bflows?\b", ("book", "flows")),
    (r"\bcash_rate\b", ("book", "cash_rate")),
    (r"\bcapital\b", ("book", "capital")),
    (r"\bmax_stale\b", ("book", "max_stale")),
    (r"\blag\b", ("book", "lag")),
    (r"\bcredit\b", ("book", "credit")),
    (r"^every\b", ("decisions", "every")),
    (r"\bover\b|\baxes\b|\bparameter\b", ("parameters",)),
)


@dataclass(frozen=True)
class BacktestSetup:
    """A backtest brought to life."""

    config: BacktestConfig
    market: MarketData
    strategies: Mapping[str, Strategy]
    """By name, without the parameters that are varied."""
    parameters: Mapping[str, tuple[Any, ...]]
    """Fields of the strategies and their values."""
    histories: BootstrapHistories | None
    settings: Settings
    sessions: pd.DatetimeIndex
    """The sessions of the book."""
    labels: pd.Series | None
    """Group of each asset, for reports."""

    @property
    def runs(self) -> int:
        """How many books there will be."""
        return len(self.strategies) * len(points_of(self.parameters, self.config.how)) * (
            1 if self.histories is None else self.histories.count
        )  # fmt: skip

    def rehearse(self) -> dict[str, str]:
        """Ask each strategy for its first target, costs apart, and say what it was; solves no problem, trades nothing.

        Raises
        ------
        ConfigError
            For what a strategy refuses, with its line.
        """
        found: dict[str, str] = {}
        date = self.sessions[0]
        point = points_of(self.parameters, self.config.how)[0]
        for name, strategy in self.strategies.items():
            strategy = replace(strategy, **point) if point else strategy  # type: ignore[type-var]
            view = self.market.as_of(date)
            moment = Moment(
                date,
                view,
                holdings=pd.Series(0.0, index=view.assets, name="weight"),
                nav=self.config.book.capital,
                cash=self.config.book.capital,
                sample_seed=self.config.book.seed,
                run_seed=self.config.book.seed,
            )
            try:
                target = strategy.target(moment)
            except ConfigError:
                raise
            except SolveError as error:
                found[name] = f"no answer: {error}"
            except PortfolioOptError as error:
                raise self.config.error(str(error), *_place_in(str(error), self.config, name)) from error
            else:
                found[name] = _described(target)
        return found

    def run(self, *, progress: bool = False) -> Backtest | BacktestGrid:
        """Run it; a grid where there are several strategies, parameters or histories.

        Raises
        ------
        ConfigError
            For what the library refuses.
        """
        settings: Settings = {**self.settings, "progress": progress}
        ((name, strategy), *_) = self.strategies.items()
        try:
            if self.config.strategies is None and not self.parameters and self.histories is None:
                single = backtest(strategy, self.market, **settings)
                single.name = name
                single.settings.update(self._words(name))
                return single
            several = dict(self.strategies)
            grid = backtest(several, self.market, over=self.parameters or None, histories=self.histories, **settings)
        except ConfigError:
            raise
        except InputError as error:
            place = next((place for pattern, place in _PLACES if re.search(pattern, str(error))), ())
            raise self.config.error(str(error), *place) from error
        keys = {own: key for names in FIELDS.values() for key, own in names.items() if key in self._keys}
        grid.runs = grid.runs.rename(columns=keys)
        for number, one in enumerate(grid):
            one.settings.update(self._words(str(grid.runs["strategy"].iloc[number])))
        return grid

    @property
    def _keys(self) -> set[str]:
        return set(self.config.parameters or ())

    def _words(self, name: str) -> dict[str, str | None]:
        """What the file says, for the settings of a book: the reader knows those words."""
        config = self.config
        section = (config.strategies or {}).get(name, config.strategy)
        assert section is not None
        said: dict[str, str | None] = {
            "strategy": f"{section.kind} {in_words(section)}".strip(),
            "benchmark": config.book.benchmark,
            "cash_rate": str(config.book.cash_rate),
        }
        for key in ("costs", "rule", "orders"):
            part = getattr(config, key)
            said[key] = None if part is None else in_words(part)
        if not isinstance(config.fallback, str):
            said["fallback"] = f"{config.fallback.kind} {in_words(config.fallback)}".strip()
        return said


def build_backtest(config: BacktestConfig, *, stage: Callable[[str], None] | None = None) -> BacktestSetup:
    """Read the data of a backtest and make its strategies; runs nothing.

    Parameters
    ----------
    config
        What `load_backtest` returned, or one made in Python: then paths are relative to the working directory.
    stage
        Called with a few words before each piece of work that can take long.

    Raises
    ------
    ConfigError
        For files that cannot be read and names that do not exist, with the line, and for everything that the library
        refuses, under the name of the file.
    """
    announce = stage if stage is not None else _silent
    at = Place(config.origin)
    announce("reading prices")
    with at.located("data"):
        prices = read_prices(config.data, at.at("data"))
        volumes = config.data.volumes
        table = None if volumes is None else read_frame(volumes, prices, "volumes", at.at("data"), "volumes")
        market = MarketData(prices, volumes=table)
    assets = prices.columns
    maker = Maker(config, at, assets)
    if config.strategy is not None:
        name = _NAMES.get(config.strategy.kind, config.strategy.kind.replace("_", " ").capitalize())
        strategies = {name: maker.strategy(config.strategy, "strategy")}
    else:
        strategies = {
            name: maker.strategy(one, "strategies", name) for name, one in (config.strategies or {}).items()
        }  # fmt: skip
    parameters, variants = maker.parameters(strategies)
    sessions = _sessions(config, market.dates, max(one.warmup for one in variants))
    histories = None
    if (h := config.histories) is not None:
        with at.located("histories"):
            histories = BootstrapHistories(h.count, h.block_length, config.book.seed)
    return BacktestSetup(
        config, market, strategies, parameters, histories, maker.settings(prices), sessions, maker.labels()
    )


def _sessions(config: BacktestConfig, dates: pd.DatetimeIndex, warmup: int) -> pd.DatetimeIndex:
    """The sessions of the book; strategies need `warmup` rows of prices up to the first."""
    book = config.book
    first = warmup - 1 if book.start is None else int(dates.searchsorted(pd.Timestamp(book.start)))
    last = len(dates) - 1
    if book.end is not None:
        last = int(dates.searchsorted(pd.Timestamp(book.end) + pd.Timedelta(days=1))) - 1
    if first < warmup - 1:
        raise config.error(
            f"the strategies look back on {warmup} sessions of prices, of which {first + 1} are there on "
            f"{dates[first]:%Y-%m-%d}: start on {dates[warmup - 1]:%Y-%m-%d} or later, or shorten their windows"
            if warmup <= len(dates)
            else _short_history(dates, warmup),
            "book",
            "start",
        )
    if first >= last - 1:
        place: tuple[Key, ...] = ("data",) if book.start is None and book.end is None else ("book",)
        raise config.error(
            _short_history(dates, warmup)
            if first >= len(dates) - 2
            else f"fewer than three sessions lie between start and end; prices go from {dates[0]:%Y-%m-%d} to "
            f"{dates[-1]:%Y-%m-%d}",
            *place,
        )
    return dates[first : last + 1]


def _short_history(dates: pd.DatetimeIndex, warmup: int) -> str:
    return (
        f"the strategies look back on {warmup} sessions of prices, and there are {len(dates)} from "
        f"{dates[0]:%Y-%m-%d} to {dates[-1]:%Y-%m-%d}: too few to begin with. Give more, or shorten their windows"
    )


def _place_in(message: str, config: BacktestConfig, name: str) -> tuple[Key, ...]:
    """Where that stands which a message about a strategy speaks of; the strategy where it names no key of it."""
    keys: tuple[Key, ...] = ("strategy",) if config.strategies is None else ("strategies", name)
    section = (config.strategies or {}).get(name, config.strategy)
    if isinstance(section, MeanCVaRConfig):
        places = {group.name or "GroupLimit": (*keys, "groups", i) for i, group in enumerate(section.groups)}
        found = place_of(message, {"Bounds": keys, "Turnover": (*keys, "turnover"), **places})
        if found:
            return found
    words = re.findall(r"\w+", message)
    return next(((*keys, word) for word in words if (*keys, word) in config.origin.lines), keys)


def _described(target: Target) -> str:
    """A target in a line."""
    if isinstance(target, Problem):
        limits = ", ".join(limit.name for limit in target.constraints) or "none"
        return f"maximise {target.objective} over {target.scenarios!r}; constraints: {limits}"
    if isinstance(target, Result):
        return target.message
    return "no trades" if target is None else f"weights of {len(target)} assets"


def _silent(_: str) -> None:
    """Announce nothing."""

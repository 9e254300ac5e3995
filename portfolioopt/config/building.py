"""From a checked configuration to a problem: reads prices and labels, makes scenarios, puts terms together."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pandas as pd

from portfolioopt import problem as problem_language
from portfolioopt.data import sample_prices, sample_sectors, simple_returns
from portfolioopt.errors import ConfigError, InputError, unknown_names
from portfolioopt.labels import PerAsset
from portfolioopt.problem import (
    Bounds,
    Budget,
    CVaR,
    CVaRLimit,
    ExpectedReturn,
    GroupLimit,
    Limit,
    LinearLimit,
    MaxHoldings,
    MinPosition,
    MinTrade,
    Problem,
    ProportionalCost,
    ReturnTarget,
    TradeLimit,
    Turnover,
)
from portfolioopt.problem.constraints import Constraint
from portfolioopt.problem.terms import Expression, Term
from portfolioopt.scenarios import ScenarioSet, block_bootstrap, historical

from .model import OTHERS, Config, GroupConfig, Key

_SAMPLE: Final = "sample"
_SAMPLE_SECTORS: Final = "sample sectors"
_PARQUET: Final = (".parquet", ".pq")


@dataclass(frozen=True)
class Setup:
    """A configuration brought to life."""

    config: Config
    prices: pd.DataFrame
    """Prices in the period of the run, T x N."""
    scenarios: ScenarioSet
    problem: Problem
    labels: pd.Series | None
    """Group of each asset (N,), for reports: that of the first group limit, else the sectors of the bundled prices."""
    cost_bps: PerAsset
    """Cost of trading in basis points, zero where the objective has none."""
    places: Mapping[str, int] = field(default_factory=dict)
    """Line of each constraint in the file, by name."""


def build_problem(config: Config, *, stage: Callable[[str], None] | None = None) -> Setup:
    """Read the data of a configuration and make its problem; solves nothing.

    Parameters
    ----------
    config
        What `load_config` returned, or one made in Python: then paths are relative to the working directory.
    stage
        Called with a few words before each piece of work that can take long.

    Raises
    ------
    ConfigError
        For files that cannot be read and names that do not exist, with the line, and for everything that the library
        refuses, under the name of the file.
    """
    announce = stage if stage is not None else _silent
    announce("reading prices")
    with _located(config, "data"):
        prices = _prices(config)
    labels = [_labels(config, group, i) for i, group in enumerate(config.constraints.groups)]
    _check_assets(config, prices.columns)
    for i, group in enumerate(config.constraints.groups):
        _check_labels(config, group, i, labels[i].reindex(prices.columns).dropna())

    announce("making scenarios")
    with _located(config, "scenarios"):
        scenarios = _scenarios(config, prices)
    _check_dropped(config, prices.columns.difference(scenarios.assets))

    announce("building the problem")
    assets = scenarios.assets
    objective = _objective(config, assets)
    constraints, places = _constraints(config, labels, assets)
    try:
        problem = Problem(scenarios, objective, constraints, holdings=_holdings(config, assets))
    except InputError as error:
        raise config.error(str(error), *_place_of(str(error), places)) from error

    shown = labels[0] if labels else None
    if shown is None and config.data.source == _SAMPLE:
        shown = sample_sectors()
    cost = config.objective.cost_bps
    return Setup(
        config,
        prices[assets],
        scenarios,
        problem,
        None if shown is None else shown.reindex(assets),
        0.0 if cost is None else _spread(cost, assets),
        {name: line for name, place in places.items() if (line := config.origin.line(*place)) is not None},
    )


# -- data --------------------------------------------------------------------------------------------------------


def _prices(config: Config) -> pd.DataFrame:
    data = config.data
    prices = sample_prices() if data.source == _SAMPLE else _price_file(config)
    if data.assets is not None:
        for i, asset in enumerate(data.assets):
            if asset not in prices.columns:
                raise config.error(str(unknown_names("asset", [asset], prices.columns)), "data", "assets", i)
        prices = prices[list(data.assets)]
    if OTHERS in prices.columns:
        raise InputError(f"an asset is called {OTHERS!r}, which stands for all assets not named: rename that column")
    first, last = prices.index[0], prices.index[-1]
    start = first if data.start is None else pd.Timestamp(data.start)
    end = last if data.end is None else pd.Timestamp(data.end)
    chosen = prices.loc[(prices.index >= start) & (prices.index < end + pd.Timedelta(days=1))]
    if len(chosen) < 2:
        key = "start" if data.start is not None else "end"
        raise config.error(
            f"only {len(chosen)} rows of prices lie between {start:%Y-%m-%d} and {end:%Y-%m-%d}: the data run from "
            f"{first:%Y-%m-%d} to {last:%Y-%m-%d}",
            "data",
            key,
        )
    return chosen


def _price_file(config: Config) -> pd.DataFrame:
    place = ("data", "source")
    path = _find(config, config.data.source, "'sample' for the bundled prices", *place)
    if path.suffix.lower() in _PARQUET:
        frame = _parquet(config, path, *place)
        if not isinstance(frame.index, pd.DatetimeIndex):
            frame = frame.set_index(frame.columns[0])
    else:
        frame = _csv(config, path, *place)
    if frame.empty:
        raise config.error(f"{path} has no prices: dates in the first column, then a column per asset", *place)
    if not isinstance(frame.index, pd.DatetimeIndex):
        frame.index = _dates(config, path, frame.index, *place)
    frame.columns = pd.Index([str(name) for name in frame.columns], name="asset")
    return frame.sort_index()


def _dates(config: Config, path: Path, labels: pd.Index, *place: Key) -> pd.DatetimeIndex:
    # Only the ISO form: 01/02/2020 is another day in Europe than in America.
    dates = pd.to_datetime(labels, format="ISO8601", errors="coerce")
    if dates.hasnans:
        culprit = labels[dates.isna()][0]
        raise config.error(
            f"the first column of {path} holds {culprit!r}, which is not a date of the form 2013-01-31", *place
        )
    return pd.DatetimeIndex(dates, name="date")


def _csv(config: Config, path: Path, *place: Key) -> pd.DataFrame:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header = next(csv.reader(file), [])
        # pandas would rename the second of two equal columns without a word
        repeated = sorted({name for name in header if header.count(name) > 1})
        if repeated:
            raise config.error(f"{path} has the column {repeated[0]!r} twice; keep one of them", *place)
        return pd.read_csv(path, index_col=0, encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError, csv.Error) as error:
        raise config.error(f"{path} cannot be read as CSV: {error}", *place) from error


def _parquet(config: Config, path: Path, *place: Key) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:  # pyarrow's own errors are one or the other
        raise config.error(f"{path} cannot be read as Parquet: {error}", *place) from error


def _labels(config: Config, group: GroupConfig, position: int) -> pd.Series:
    place = ("constraints", "groups", position, "labels")
    if not isinstance(group.labels, str):
        return pd.Series(group.labels, name="label", dtype=object)
    if group.labels == _SAMPLE_SECTORS:
        return sample_sectors()
    path = _find(config, group.labels, f"{_SAMPLE_SECTORS!r} for those of the bundled prices", *place)
    if path.suffix.lower() in _PARQUET:
        frame = _parquet(config, path, *place)
        frame = frame if frame.shape[1] > 1 else frame.reset_index()
    else:
        try:
            # as text throughout: the ticker NA is not a missing value
            frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
            raise config.error(f"{path} cannot be read as CSV: {error}", *place) from error
    if frame.shape[1] != 2:
        raise config.error(f"{path} has {frame.shape[1]} columns; it needs two, asset and label", *place)
    values = [label if label != "" else None for label in frame.iloc[:, 1]]
    return pd.Series(values, index=pd.Index(frame.iloc[:, 0], name="asset"), name="label", dtype=object)


def _find(config: Config, name: str, alternative: str, *place: Key) -> Path:
    folder = config.origin.path.parent if config.origin.path is not None else Path()
    path = folder / Path(name).expanduser()
    if not path.is_file():
        raise config.error(f"there is no file {path}; give the path of one, or {alternative}", *place)
    return path


def _scenarios(config: Config, prices: pd.DataFrame) -> ScenarioSet:
    wanted, missing = config.scenarios, config.data.missing
    if wanted.kind == "bootstrap":
        assert wanted.n_scenarios is not None
        assert wanted.seed is not None
        return block_bootstrap(
            simple_returns(prices, missing=missing),
            wanted.n_scenarios,
            seed=wanted.seed,
            horizon=wanted.horizon,
            block_length=wanted.block_length,
            method=wanted.method or "stationary",
        )
    past = historical(simple_returns(prices, horizon=wanted.horizon, missing=missing), window=wanted.window)
    if wanted.horizon == 1:
        return past
    return ScenarioSet(past.returns, horizon=f"{wanted.horizon} periods, overlapping")


# -- terms and constraints ---------------------------------------------------------------------------------------


def _objective(config: Config, assets: pd.Index) -> Expression:
    wanted = config.objective
    terms: list[Expression] = []
    if wanted.expected_return is not None:
        terms.append(wanted.expected_return * ExpectedReturn() if wanted.expected_return != 1 else ExpectedReturn())
    for i, risk in enumerate(wanted.cvar):
        with _located(config, "objective", "cvar", i, "beta"):
            terms.append(-risk.weight * CVaR(risk.beta))
    for i, risk in enumerate(wanted.risks):
        with _located(config, "objective", "risks", i):
            terms.append(-risk.weight * _measure(risk.measure, risk.beta))
    if wanted.cost_bps is not None:
        with _located(config, "objective", "cost_bps"):
            terms.append(-ProportionalCost(_spread(wanted.cost_bps, assets)))
    objective = terms[0]
    for term in terms[1:]:
        objective = objective + term
    return objective


def _constraints(
    config: Config, labels: list[pd.Series], assets: pd.Index
) -> tuple[list[Constraint], dict[str, tuple[Key, ...]]]:
    """The constraints, and by name where each stands in the file."""
    wanted = config.constraints
    made: list[Constraint] = []
    places: dict[str, tuple[Key, ...]] = {}

    def add(constraint: Constraint, *place: Key) -> None:
        made.append(constraint)
        places[constraint.name] = ("constraints", *place)

    if (c := wanted.budget) is not None:
        with _located(config, "constraints", "budget"):
            add(Budget(c.total, name=c.name or "Budget"), "budget")
    if (c := wanted.bounds) is not None:
        with _located(config, "constraints", "bounds"):
            lower, upper = _spread(c.lower, assets), _spread(c.upper, assets)
            add(Bounds(lower, upper, unit_check=c.unit_check, name=c.name or "Bounds"), "bounds")
    for i, c in enumerate(wanted.groups):
        with _located(config, "constraints", "groups", i):
            own = labels[i].reindex(assets).dropna()
            lower, upper = (_by_label(side, own) for side in (c.lower, c.upper))
            name = c.name or "GroupLimit"
            limit = GroupLimit(labels[i], lower=lower, upper=upper, unit_check=c.unit_check, name=name)
            add(limit, "groups", i)
    if (c := wanted.turnover) is not None:
        with _located(config, "constraints", "turnover"):
            add(Turnover(c.limit, unit_check=c.unit_check, name=c.name or "Turnover"), "turnover")
    if (c := wanted.trade_limit) is not None:
        with _located(config, "constraints", "trade_limit"):
            limit = _spread(c.limit, assets)
            add(TradeLimit(limit, unit_check=c.unit_check, name=c.name or "TradeLimit"), "trade_limit")
    if (c := wanted.return_target) is not None:
        with _located(config, "constraints", "return_target"):
            add(ReturnTarget(c.target, name=c.name or "ReturnTarget"), "return_target")
    for i, c in enumerate(wanted.cvar_limits):
        with _located(config, "constraints", "cvar_limits", i):
            limit = CVaRLimit(c.beta, c.limit, unit_check=c.unit_check, name=c.name or "")
            add(limit, "cvar_limits", i)
    for i, c in enumerate(wanted.risk_limits):
        with _located(config, "constraints", "risk_limits", i):
            limit = Limit(_measure(c.measure, c.beta), upper=c.limit, unit_check=c.unit_check, name=c.name or "")
            add(limit, "risk_limits", i)
    for i, c in enumerate(wanted.linear):
        with _located(config, "constraints", "linear", i):
            # classifications side by side; a label that two of them have is then refused where it is named
            sides = {j: own.reindex(assets) for j, own in enumerate(labels)}
            add(LinearLimit(c.text, pd.DataFrame(sides) if sides else None, name=c.name or c.text), "linear", i)
    if (c := wanted.max_holdings) is not None:
        with _located(config, "constraints", "max_holdings"):
            add(MaxHoldings(c.count, name=c.name or "MaxHoldings"), "max_holdings")
    if (c := wanted.min_position) is not None:
        with _located(config, "constraints", "min_position"):
            add(MinPosition(_spread(c.size, assets), name=c.name or "MinPosition"), "min_position")
    if (c := wanted.min_trade) is not None:
        with _located(config, "constraints", "min_trade"):
            add(MinTrade(_spread(c.size, assets), name=c.name or "MinTrade"), "min_trade")
    return made, places


def _measure(name: str, beta: float | None) -> Term:
    """A measure of the library by its name."""
    made = getattr(problem_language, name)
    return made() if beta is None else made(beta)


def _holdings(config: Config, assets: pd.Index) -> pd.Series | None:
    match config.holdings:
        case None:
            return None
        case "equal":
            return pd.Series(1.0 / len(assets), index=assets)
        case "cash":
            return pd.Series(0.0, index=assets)
        case weights:
            return pd.Series(weights, dtype=float).reindex(assets, fill_value=0.0)


def _spread(value: float | dict[str, float], assets: pd.Index) -> PerAsset:
    """A value per asset, `others` written out; assets that were dropped on purpose are passed over."""
    if isinstance(value, dict):
        return pd.Series({asset: value[asset] if asset in value else value[OTHERS] for asset in assets}, dtype=float)
    return value


def _by_label(value: float | dict[str, float] | None, labels: pd.Series) -> dict[str, float] | None:
    if value is None or isinstance(value, dict):
        return value
    return {str(label): value for label in labels.unique()}


# -- names and places --------------------------------------------------------------------------------------------


def _by_asset(config: Config) -> Iterator[tuple[dict[str, float], tuple[Key, ...]]]:
    """Every mapping from asset to number in the configuration, and where it stands."""
    bounds, trade_limit = config.constraints.bounds, config.constraints.trade_limit
    position, trade = config.constraints.min_position, config.constraints.min_trade
    entries: list[tuple[object, tuple[Key, ...]]] = [
        (config.objective.cost_bps, ("objective", "cost_bps")),
        (None if bounds is None else bounds.lower, ("constraints", "bounds", "lower")),
        (None if bounds is None else bounds.upper, ("constraints", "bounds", "upper")),
        (None if trade_limit is None else trade_limit.limit, ("constraints", "trade_limit", "limit")),
        (None if position is None else position.size, ("constraints", "min_position", "size")),
        (None if trade is None else trade.size, ("constraints", "min_trade", "size")),
        (config.holdings, ("holdings",)),
    ]
    for mapping, place in entries:
        if isinstance(mapping, dict):
            yield mapping, place


def _check_assets(config: Config, assets: pd.Index) -> None:
    """Refuse assets without prices where the line of each is at hand."""
    for mapping, place in _by_asset(config):
        partial = place == ("holdings",)  # assets not named are not held
        for name in mapping:
            if name not in assets and (partial or name != OTHERS):
                raise config.error(str(unknown_names("asset", [name], assets)), *place, name)
        absent = [str(asset) for asset in assets if asset not in mapping]
        if absent and not partial and OTHERS not in mapping:
            raise config.error(
                f"{place[-1]} says nothing about {_some(absent)}; add them, or '{OTHERS}: ...' for all of them",
                *place,
            )


def _check_dropped(config: Config, dropped: pd.Index) -> None:
    """Refuse to hold what was left out for want of prices: the weight would vanish from the book."""
    if isinstance(config.holdings, dict):
        for name in config.holdings:
            if name in dropped:
                raise config.error(
                    f"{name} is held, but was left out because prices are missing (data.missing is drop_assets); fill "
                    "its prices, shorten the period, or choose drop_dates",
                    "holdings",
                    name,
                )


def _check_labels(config: Config, group: GroupConfig, position: int, known: pd.Series) -> None:
    for key, side in (("lower", group.lower), ("upper", group.upper)):
        if isinstance(side, dict):
            for label in side:
                if not (known == label).any():
                    raise config.error(
                        str(unknown_names("label", [label], known.unique())),
                        *("constraints", "groups", position, key, label),
                    )


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


@contextmanager
def _located(config: Config, *place: Key) -> Iterator[None]:
    """Put file and line on what the library refuses."""
    try:
        yield
    except ConfigError:
        raise
    except InputError as error:
        raise config.error(str(error), *place) from error


def _place_of(message: str, places: Mapping[str, tuple[Key, ...]]) -> tuple[Key, ...]:
    """Where that stands which a message of the library speaks of; nowhere if it names no constraint."""
    named = [name for name in places if name in message]
    if not named:
        return ("holdings",) if message.startswith("holdings") else ()
    name = max(named, key=len)
    # "Sectors: upper['Energy'] = 30 ..." leads further into the section
    inner = re.search(rf"{re.escape(name)}[:.] ?(\w+)(?:\['(.+?)'\])?", message)
    return (*places[name], *(part for part in inner.groups() if part)) if inner else places[name]


def _silent(_: str) -> None:
    """Announce nothing."""

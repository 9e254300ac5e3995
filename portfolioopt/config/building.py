"""From a checked configuration to a problem: reads prices and labels, makes scenarios, puts terms together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pandas as pd

from portfolioopt.data import sample_sectors, simple_returns
from portfolioopt.errors import InputError
from portfolioopt.labels import PerAsset
from portfolioopt.problem import Problem
from portfolioopt.scenarios import ScenarioSet, block_bootstrap, historical

from .files import SAMPLE, read_labels, read_prices
from .model import Config
from .place import Place
from .terms import check_by_asset, check_sections, constraints_of, place_of, spread, summed, terms_of


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
    at = Place(config.origin)
    announce("reading prices")
    with at.located("data"):
        prices = read_prices(config.data, at.at("data"))
    groups = config.constraints.groups
    labels = [read_labels(group.labels, at, "constraints", "groups", i, "labels") for i, group in enumerate(groups)]
    check_by_asset(config.holdings, prices.columns, at, "holdings", partial=True)
    check_sections(config.objective, config.constraints, labels, prices.columns, at)

    announce("making scenarios")
    with at.located("scenarios"):
        scenarios = _scenarios(config, prices)
    _check_dropped(config, prices.columns.difference(scenarios.assets))

    announce("building the problem")
    assets = scenarios.assets
    objective = summed(terms_of(config.objective, assets, at.at("objective")))
    constraints, places = constraints_of(config.constraints, labels, assets, at.at("constraints"))
    try:
        problem = Problem(scenarios, objective, constraints, holdings=_holdings(config, assets))
    except InputError as error:
        raise at.error(str(error), *place_of(str(error), places)) from error

    shown = labels[0] if labels else None
    if shown is None and config.data.source == SAMPLE:
        shown = sample_sectors()
    cost = config.objective.cost_bps
    return Setup(
        config,
        prices[assets],
        scenarios,
        problem,
        None if shown is None else shown.reindex(assets),
        0.0 if cost is None else spread(cost, assets),
        {name: line for name, place in places.items() if (line := config.origin.line(*place)) is not None},
    )


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


def _silent(_: str) -> None:
    """Announce nothing."""

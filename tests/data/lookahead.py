"""Whether a function of a market looks ahead: change everything after a date, and see whether its answer changes.

Any test may import :func:`unchanged_by_the_future`: what it takes is a function of what was known, such as an
estimator, a signal or a whole rebalance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from portfolioopt.data import MarketData, Universe

NEWCOMER = "Newcomer"


def unchanged_by_the_future(function: Callable[[MarketData], Any], market: MarketData, t: object) -> None:
    """Assert that `function` of the market as of `t` is the same in every future that might follow."""
    expected = function(market.as_of(t))
    for name, changed in futures(market, t):
        assert_same(function(changed.as_of(t)), expected, f"the answer on {t} depends on the future ({name})")


def futures(market: MarketData, t: object, seeds: tuple[int, ...] = (0, 1)) -> Iterator[tuple[str, MarketData]]:
    """Markets that agree with `market` up to the close of `t`, and differ after it in all they hold."""
    date = pd.Timestamp(t)
    yield "none at all", _ended(market, date)
    for seed in seeds:
        yield f"scrambled, seed {seed}", _scrambled(market, date, np.random.default_rng(seed))


def assert_same(found: Any, expected: Any, message: str) -> None:
    """Assert equality of nested results, exactly."""
    assert type(found) is type(expected), f"{message}: {type(found).__name__} is no {type(expected).__name__}"
    if isinstance(expected, Mapping):
        assert list(found) == list(expected), message
        for key in expected:
            assert_same(found[key], expected[key], f"{message}, {key!r}")
    elif isinstance(expected, tuple | list):
        assert len(found) == len(expected), message
        for place, (one, other) in enumerate(zip(found, expected, strict=True)):
            assert_same(one, other, f"{message}, part {place}")
    elif isinstance(expected, pd.DataFrame | pd.Series | pd.Index):
        assert found.equals(expected), f"{message}:\n{found}\n{expected}"
        if not isinstance(expected, pd.Index):
            assert found.index.equals(expected.index), message
        if isinstance(expected, pd.DataFrame):
            assert found.columns.equals(expected.columns), message
    elif isinstance(expected, np.ndarray):
        np.testing.assert_array_equal(found, expected, err_msg=message)
    else:
        assert found == expected, message


def _ended(market: MarketData, t: pd.Timestamp) -> MarketData:
    """The market if the world had ended at the close of `t`."""
    universe, volumes, factors = market.universe, market.volumes, market.factors
    if universe is not None:
        spells = universe.spells
        spells = spells[spells["start"] <= t].copy()
        later = spells["end"] > t
        spells.loc[later, "end"] = pd.NaT
        spells.loc[later, "delisting_return"] = np.nan
        universe = Universe(spells)
    return MarketData(
        market.prices.loc[:t],
        volumes=None if volumes is None else volumes.loc[:t],
        universe=universe,
        fields={name: market.field(name).loc[:t] for name in market.fields},
        vintages={name: _until(market.publications(name), t) for name in market.vintages},
        factors=None if factors is None else factors.loc[:t],
        delisting_returns=_by_asset(market, t),
    )


def _scrambled(market: MarketData, t: pd.Timestamp, rng: np.random.Generator) -> MarketData:
    """The market with another future: other numbers, other dates, a newcomer, other members, other revisions."""
    universe, volumes, factors = market.universe, market.volumes, market.factors
    gone = market.delistings.query("date <= @t")["asset"].tolist()
    prices = _other_rows(market.prices, t, rng, spared=gone)
    if universe is not None:
        universe = Universe(_other_spells(universe.spells, t, rng))
    if volumes is not None:
        volumes = _other_rows(volumes, t, rng).reindex(prices.index)
    tables = {}
    for name in market.vintages:
        known = _until(market.publications(name), t)
        again = known.drop_duplicates(["asset", "period"])
        revised = again.assign(known_at=t + pd.Timedelta(days=int(rng.integers(1, 50))), value=again["value"] * 7)
        new = pd.DataFrame({"asset": [NEWCOMER], "period": [t], "known_at": [t + pd.Timedelta(days=1)], "value": [1.0]})
        tables[name] = pd.concat([new.astype(known.dtypes), revised, known])
    return MarketData(
        prices,
        volumes=volumes,
        universe=universe,
        fields={name: _other_rows(market.field(name), t, rng) for name in market.fields},
        vintages=tables,
        factors=None if factors is None else _other_rows(factors, t, rng).drop(columns=NEWCOMER),
        delisting_returns=_by_asset(market, t),
    )


def _other_rows(table: pd.DataFrame, t: pd.Timestamp, rng: np.random.Generator, spared: tuple | list = ()):
    """Other rows after `t`, on other dates, with a newcomer ahead of all columns; the `spared` have none."""
    past, future = table.loc[:t], table.loc[table.index > t]
    values = rng.permuted(future.to_numpy(), axis=0) * np.exp(rng.normal(size=future.shape))
    values[rng.random(values.shape) < 0.2] = np.nan
    changed = pd.DataFrame(values, future.index + pd.Timedelta(days=1), table.columns)
    changed.loc[:, list(spared)] = np.nan
    result = pd.concat([past, changed.iloc[:: int(rng.integers(1, 3))]])
    result.insert(0, NEWCOMER, np.where(result.index > t, 3.0, np.nan))
    return result


def _other_spells(spells: pd.DataFrame, t: pd.Timestamp, rng: np.random.Generator) -> pd.DataFrame:
    """Spells that have not ended at `t` end at other times, and others begin."""
    past = spells[spells["start"] <= t].copy()
    later = ~(past["end"] <= t)
    ends = t + pd.to_timedelta(rng.integers(1, 100, len(past)), unit="D")
    past["end"] = past["end"].where(~later, pd.Series(ends, past.index))
    past["delisting_return"] = past["delisting_return"].where(~later, -0.5)
    new = pd.DataFrame({"asset": [NEWCOMER], "start": [t + pd.Timedelta(days=1)], "end": [pd.NaT]})
    return pd.concat([new.astype({"end": past["end"].dtype}), past], ignore_index=True)


def _by_asset(market: MarketData, t: pd.Timestamp) -> pd.Series | None:
    """Delisting returns that are not in the universe."""
    known = market.delistings.query("date <= @t").set_index("asset")["return"]
    if market.universe is not None:
        known = known.drop(market.universe.spells.dropna(subset=["delisting_return"])["asset"], errors="ignore")
    return known if len(known) else None


def _until(table: pd.DataFrame, t: pd.Timestamp) -> pd.DataFrame:
    return table[table["known_at"] <= t]

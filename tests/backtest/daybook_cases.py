"""Random markets with all that can happen to a book, for the day book and for the backtest alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from random import Random

import pandas as pd

from portfolioopt.costs import BorrowCosts, CostModel, ProportionalCosts
from portfolioopt.data import MarketData
from tests.backtest.daybook import Book, Fees, Row, Standing, Target, simulate


@dataclass(frozen=True)
class Case:
    """A market, decisions, and the terms of an account."""

    dates: list[date]
    closes: dict[str, list[float | None]]
    dividends: dict[str, list[float | None]]
    splits: dict[str, list[float | None]]
    delistings: dict[str, tuple[int, float]]
    flows: dict[int, float]
    targets: dict[int, dict[str, float]]
    """By session; the first is 0."""
    inertia: float
    """What is wanted is this part of the weights held and the rest of the table's."""
    lag: int
    capital: float
    fees: Fees
    cash_rate: float | dict[date, float]
    credit: bool

    @property
    def adjusted(self) -> bool:
        """Whether anything happened that adjusts prices."""
        return bool(self.dividends or self.splits)

    # -- as the day book wants it --------------------------------------------------------------------------------
    def by_hand(self) -> Book:
        """The day book."""
        return simulate(
            self.dates,
            self.closes,
            self._decide if self.inertia else self.targets,
            lag=self.lag,
            capital=self.capital,
            fees=self.fees,
            cash_rate=self.cash_rate,
            dividends=self.dividends,
            splits=self.splits,
            delistings=self.delistings,
            flows=self.flows,
            credit=self.credit,
        )

    def _decide(self, standing: Standing) -> Target | None:
        wanted = self.targets.get(standing.session)
        return None if wanted is None else self.blended(wanted, standing.weights)

    def blended(self, wanted: Mapping[str, float], held: Mapping[str, float]) -> dict[str, float]:
        """The target that the strategy asks for when it holds these weights; without credit no more than there is."""
        mixed = {
            asset: self.inertia * held.get(asset, 0.0) + (1.0 - self.inertia) * weight
            for asset, weight in wanted.items()
        }
        total = sum(mixed.values())  # holdings sum to more than one while cash is owed, as after money was taken out
        return mixed if self.credit or total <= 1.0 else {asset: weight / total for asset, weight in mixed.items()}

    # -- as the backtest wants it --------------------------------------------------------------------------------
    @property
    def sessions(self) -> pd.DatetimeIndex:
        """Dates of the prices."""
        return pd.DatetimeIndex(self.dates, name="date")

    def market(self) -> MarketData:
        """Prices adjusted for splits and dividends, with what they were adjusted for as fields."""
        fields = {
            "close": self.frame(self.closes),
            "dividend": self.frame(self.dividends, 0.0),
            "split": self.frame(self.splits, 1.0),
        }
        return MarketData(
            self.frame({asset: self._total_return(asset) for asset in self.closes}),
            fields=fields if self.adjusted else None,
            delisting_returns={asset: fraction for asset, (_, fraction) in self.delistings.items()} or None,
        )

    def frame(self, table: Mapping[str, Row], nothing: float | None = None) -> pd.DataFrame:
        """A table as a frame (T x N), with `nothing` where it says nothing."""
        empty = [None] * len(self.dates)
        columns = {asset: pd.Series(table.get(asset, empty), dtype=float) for asset in self.closes}
        frame = pd.DataFrame(columns).set_axis(self.sessions)
        return frame if nothing is None else frame.fillna(nothing)

    def _total_return(self, asset: str) -> list[float | None]:
        """Prices that grow as a position does that puts its dividends back."""
        worth, shares, found = 1.0, 1.0, []
        for t, close in enumerate(self.closes[asset]):
            shares *= (self.splits[asset][t] if asset in self.splits else None) or 1.0
            paid = (self.dividends[asset][t] if asset in self.dividends else None) or 0.0
            if close is not None:
                shares *= 1.0 + paid / close
                worth = shares * close
            found.append(None if close is None else worth)
        return found

    def costs(self) -> CostModel:
        """The fees as a cost model."""
        fees = self.fees
        trading = ProportionalCosts(
            bps=_labelled(fees.bps),
            sell=None if fees.sell_bps is None else _labelled(fees.sell_bps),
            per_share=fees.per_share,
            minimum=fees.minimum,
            fixed=fees.fixed,
        )
        return trading + BorrowCosts(_labelled(fees.borrow_bps))

    def rate(self) -> float | pd.Series:
        """Interest on cash."""
        if not isinstance(self.cash_rate, dict):
            return self.cash_rate
        return pd.Series(list(self.cash_rate.values()), pd.DatetimeIndex(list(self.cash_rate)))

    def money(self) -> pd.Series | None:
        """Flows."""
        if not self.flows:
            return None
        return pd.Series(list(self.flows.values()), pd.DatetimeIndex([self.dates[t] for t in self.flows]))


def _labelled(value: float | Mapping[str, float]) -> float | pd.Series:
    return pd.Series(value) if isinstance(value, Mapping) else value


def draw(rng: Random, longest: int = 60) -> Case:
    """A case; what it has, and how much of it, is drawn as well.

    Trading halts last up to four sessions. A halted asset is not split, and the session before a delisting has a price.
    """

    def chance(probability: float) -> bool:
        return rng.random() < probability

    assets = [f"S{i}" for i in range(rng.randint(1, 6))]
    length = rng.randint(2, longest)
    dates = [date(2023, 1, 2) + timedelta(days=rng.randint(0, 400))]
    while len(dates) < length:
        dates.append(dates[-1] + timedelta(days=rng.choice([1, 1, 1, 1, 3, 4])))

    closes: dict[str, list[float | None]] = {}
    splits: dict[str, list[float | None]] = {}
    delistings: dict[str, tuple[int, float]] = {}
    with_splits, with_dividends, with_halts, with_ends = chance(0.4), chance(0.5), chance(0.5), chance(0.4)
    for asset in assets:
        price = rng.uniform(2.0, 300.0)
        row: list[float | None] = []
        ratios: list[float | None] = []
        for t in range(length):
            ratio = rng.choice([2.0, 3.0, 0.1, 1.5]) if with_splits and t and chance(0.04) else None
            price *= (1.0 + rng.uniform(-0.06, 0.063)) / (ratio or 1.0)
            row.append(price)
            ratios.append(ratio)
        listed = rng.randint(1, length - 1) if chance(0.15) else 0
        row[:listed] = [None] * listed
        if with_halts and length > 6:
            for _ in range(rng.randint(0, 3)):
                at = rng.randint(1, length - 2)
                for t in range(at, min(at + rng.randint(1, 4), length)):
                    row[t] = None if ratios[t] is None else row[t]
        if with_ends and chance(0.4) and length > 4 and listed < length // 2:
            end = rng.randint(length // 2 + 1, length - 1)
            row[end:] = [None] * (length - end)
            before = next((price for price in reversed(row[:end]) if price is not None), None)
            row[end - 1] = before if row[end - 1] is None else row[end - 1]
            ratios[end:] = [None] * (length - end)
            if row[end - 1] is not None:
                delistings[asset] = (end, rng.choice([-1.0, -0.3, 0.0, 0.15]))
        closes[asset] = row
        splits[asset] = ratios
    dividends: dict[str, list[float | None]] = {}
    for asset in assets if with_dividends else []:
        dividends[asset] = [
            rng.uniform(0.0, 0.03) * (row_price or 1.0) if chance(0.08) else None for row_price in closes[asset]
        ]

    shorts, credit = chance(0.4), chance(0.2)
    every = rng.choice([1, 1, 2, 5, 11])
    targets = {}
    for t in range(0, length, every):
        known = [
            asset
            for asset in assets
            if any(price is not None for price in closes[asset][: t + 1])
            and not (asset in delistings and t >= delistings[asset][0])
        ]
        targets[t] = _weights(rng, known, shorts)
        if credit:
            targets[t] = {asset: 1.3 * weight for asset, weight in targets[t].items()}
    flows = {t: rng.choice([-1, 1, 2]) * rng.uniform(100.0, 30_000.0) for t in range(1, length) if chance(0.08)}
    return Case(
        dates=dates,
        closes=closes,
        dividends=dividends,
        splits=splits if with_splits else {},
        delistings=delistings,
        flows=flows if chance(0.4) else {},
        targets=targets,
        inertia=rng.choice([0.0, 0.0, 0.5]),
        lag=rng.choice([0, 1, 1, 3]),
        capital=rng.choice([1_000_000.0, 250_000.0]),
        fees=_fees(rng, assets),
        cash_rate=_rates(rng, dates),
        credit=credit,
    )


def _weights(rng: Random, known: list[str], shorts: bool) -> dict[str, float]:
    """Weights that sum to at most one; some of those that are zero are left out."""
    if not known or rng.random() < 0.05:
        return {}
    raw = {asset: rng.uniform(-0.6 if shorts else 0.0, 1.0) for asset in known if rng.random() < 0.85}
    gross = sum(abs(weight) for weight in raw.values())
    total = rng.choice([1.0, 1.0, 0.9, 0.5]) if not shorts else 1.0
    weights = {asset: total * weight / max(gross, 1e-9) for asset, weight in raw.items()}
    if shorts and rng.random() < 0.5:  # 140 % of gross exposure, of which no more than 100 % net
        net = sum(weights.values())
        weights = {asset: 1.4 * weight / max(1.0, 1.4 * net) for asset, weight in weights.items()}
    return weights


def _fees(rng: Random, assets: list[str]) -> Fees:
    if rng.random() < 0.25:
        return Fees()
    by_asset = rng.random() < 0.4
    return Fees(
        bps={asset: rng.uniform(0.0, 60.0) for asset in assets} if by_asset else rng.uniform(0.0, 100.0),
        sell_bps=rng.uniform(0.0, 80.0) if rng.random() < 0.3 and not by_asset else None,
        per_share=rng.choice([0.0, 0.0, 0.01]),
        fixed=rng.choice([0.0, 0.0, 1.0, 25.0]),
        minimum=rng.choice([0.0, 0.0, 5.0, 40.0]),
        borrow_bps={asset: rng.uniform(0.0, 900.0) for asset in assets} if by_asset else rng.choice([0.0, 50.0, 400.0]),
    )


def _rates(rng: Random, dates: list[date]) -> float | dict[date, float]:
    kind = rng.random()
    if kind < 0.4:
        return 0.0
    if kind < 0.7:
        return rng.uniform(-0.01, 0.12)
    known = {dates[0] - timedelta(days=rng.randint(0, 9)): rng.uniform(0.0, 0.1)}
    for day in dates:
        if rng.random() < 0.1:
            known[day + timedelta(days=rng.randint(0, 1))] = rng.uniform(0.0, 0.1)
    return known

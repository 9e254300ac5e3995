"""Markets made up from known parts, in which every estimate can be compared with the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError, unknown_names
from portfolioopt.labels import checked_number

from .checks import some
from .drawing import YEAR, Life, Path, Styles, draw_block, draw_path
from .market import MarketData
from .universe import Universe


@dataclass(frozen=True)
class Regime:
    r"""One state of a market: how its factors behave in it.

    Parameters
    ----------
    name
        What it is called.
    drift
        Expected return of the first factor, a fraction per year; those of the others are zero.
    volatility
        What the volatilities of all factors are multiplied by.
    correlation
        Between any two factors, from 0 to below 1.
    autocorrelation
        :math:`\phi` of the factors from one day to the next, between -1 and 1: positive trends, negative reverts.
    duration
        Mean number of days that it lasts, above 1.
    """

    name: str
    drift: float
    volatility: float
    correlation: float
    autocorrelation: float
    duration: float

    def __post_init__(self) -> None:
        what = f"Regime {self.name!r}"
        checked_number(self.drift, f"{what}: drift")
        checked_number(self.volatility, f"{what}: volatility", above=0.0)
        checked_number(self.correlation, f"{what}: correlation", least=0.0, below=1.0)
        checked_number(self.autocorrelation, f"{what}: autocorrelation", above=-1.0, below=1.0)
        checked_number(self.duration, f"{what}: duration", above=1.0)


REGIMES: Final = (
    Regime("trending", drift=0.15, volatility=0.8, correlation=0.05, autocorrelation=0.15, duration=120),
    Regime("volatile trending", drift=-0.25, volatility=2.0, correlation=0.35, autocorrelation=0.10, duration=40),
    Regime("mean-reverting", drift=0.04, volatility=1.0, correlation=0.10, autocorrelation=-0.25, duration=60),
    Regime("choppy", drift=0.0, volatility=1.4, correlation=0.20, autocorrelation=0.0, duration=40),
    Regime("quiet choppy", drift=0.03, volatility=0.6, correlation=0.05, autocorrelation=0.0, duration=80),
)


@dataclass(frozen=True, eq=False)
class SyntheticMarket:
    """A market and the truth behind it; made by :func:`synthetic_market`.

    Parameters
    ----------
    market
        What an investor sees: prices, volumes in shares, the universe with its delistings, the field ``book_to_market``
        (every 21 days), the vintages ``earnings`` (quarterly, late, some revised), and the returns of the factors.
    returns
        Simple daily returns as fractions (days x N), delisting returns included, NaN where an asset does not trade.
    regimes
        Name of the regime of each day.
    exposures
        B, assets x factors, constant.
    idiosyncratic_variance
        d by asset, per day, constant.
    settings
        The regimes with their parameters.
    factor_volatility
        Daily standard deviation of each factor where a regime multiplies it by one.
    """

    market: MarketData
    returns: pd.DataFrame
    regimes: pd.Series
    exposures: pd.DataFrame
    idiosyncratic_variance: pd.Series
    settings: tuple[Regime, ...]
    factor_volatility: pd.Series

    def factor_covariance(self, regime: str) -> pd.DataFrame:
        """F of the factors per day in a regime (K x K)."""
        found = self._regime(regime)
        scale = found.volatility * self.factor_volatility.to_numpy()
        matrix = np.outer(scale, scale) * (found.correlation + (1.0 - found.correlation) * np.eye(len(scale)))
        return pd.DataFrame(matrix, self.exposures.columns, self.exposures.columns)

    def covariance(self, regime: str, assets: pd.Index | None = None) -> pd.DataFrame:
        r"""Covariance of daily returns in a regime, :math:`B F B' + \mathrm{diag}(d)`, of all assets or of some."""
        chosen = self._assets(assets)
        exposures = self.exposures.loc[chosen].to_numpy()
        matrix = exposures @ self.factor_covariance(regime).to_numpy() @ exposures.T
        matrix[np.diag_indices(len(chosen))] += self.idiosyncratic_variance.loc[chosen].to_numpy()
        return pd.DataFrame(matrix, chosen, chosen)

    def mean(self, regime: str, assets: pd.Index | None = None) -> pd.Series:
        r"""Expected daily return of each asset in a regime, :math:`B \mu`."""
        first = self.exposures.loc[self._assets(assets)].iloc[:, 0]
        return (first * (self._regime(regime).drift / YEAR)).rename("mean")

    def __repr__(self) -> str:
        return (
            f"SyntheticMarket({len(self.exposures)} assets, {len(self.returns)} days, {self.exposures.shape[1]} "
            f"factors, {len(self.settings)} regimes)"
        )

    def _regime(self, name: str) -> Regime:
        for regime in self.settings:
            if regime.name == name:
                return regime
        raise unknown_names("regime", [name], [regime.name for regime in self.settings])

    def _assets(self, assets: pd.Index | None) -> pd.Index:
        if assets is None:
            return self.exposures.index
        chosen = pd.Index(assets)
        unknown = chosen.difference(self.exposures.index, sort=False)
        if len(unknown):
            raise unknown_names("asset", unknown, self.exposures.index)
        return chosen


def synthetic_market(
    assets: int = 500,
    days: int = 1260,
    *,
    seed: int,
    factors: int = 5,
    degrees_of_freedom: float = 5.0,
    regimes: Sequence[Regime] = REGIMES,
    listed_at_start: float = 0.8,
    listing_years: float = 5.0,
    delisting_rate: float = 0.04,
    start: object = "2000-01-03",
) -> SyntheticMarket:
    r"""Draw a market with known factors, regimes, listings and delistings.

    Regimes follow a Markov chain: each lasts a geometric time, then any other one is equally likely. In regime k, with
    standardised factors :math:`g` and shocks :math:`\varepsilon` of unit variance,

    .. math:: g_t = \phi_k g_{t-1} + \sqrt{1 - \phi_k^2}\, \varepsilon_t, \qquad
              f_t = \mu_k + L_k g_t, \qquad r_t = B f_t + u_t, \qquad L_k L_k' = F_k,

    so that the covariance of a day in regime k is exactly :math:`B F_k B' + \mathrm{diag}(d)`, whatever came before.
    Shocks of factors are multivariate Student t (all large on the same days), those of assets independent Student t.
    Hamilton (1989), "A new approach to the economic analysis of nonstationary time series", Econometrica 57.

    The first T days are the same for any number of days, and the first N assets for any number of assets: a longer
    history or a larger market leaves the smaller one as it is, to the last bit.

    Parameters
    ----------
    assets, days
        N and T, at least 1 and 2.
    seed
        Non-negative whole number; the same seed gives the same market.
    factors
        K, at least 1: the first is the market, to which assets have exposures around one; the others are styles with
        exposures around zero.
    degrees_of_freedom
        Of the Student t, above 2; the covariance does not depend on it.
    regimes
        At least one, with names of their own.
    listed_at_start
        Probability that an asset trades from the first day on; others are listed later.
    listing_years
        Mean time until the listing of those, in years of 252 days. Assets listed after the last day have no prices.
    delisting_rate
        Delistings per asset and year. Two thirds of them are takeovers (a premium of some 10 %), the rest failures
        (30 % to all of the last price is lost).
    start
        First day; the days are Mondays to Fridays.

    Returns
    -------
    SyntheticMarket
        Assets are called A00000, A00001, ... A return that would lose more than 95 % in a day is cut there, which is
        some dozen standard deviations or more away.

    Raises
    ------
    InputError
        For numbers out of range, and regimes that share a name.
    """
    count, length = _count(assets, "assets", 1), _count(days, "days", 2)
    styles = _count(factors, "factors", 1)
    key = _count(seed, "seed", 0)
    settings = _checked_regimes(regimes)
    life = Life(
        length,
        _share(listed_at_start, "listed_at_start"),
        checked_number(listing_years, "listing_years", above=0.0),
        checked_number(delisting_rate, "delisting_rate", least=0.0),
    )
    freedom = checked_number(degrees_of_freedom, "degrees_of_freedom", above=2.0)
    try:
        dates = pd.bdate_range(pd.Timestamp(start), periods=length, name="date")  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError) as error:
        raise InputError(f"start must be a date from which {length} weekdays can be counted, was {start!r}") from error
    path = draw_path(
        key,
        length,
        styles,
        freedom,
        duration=np.array([regime.duration for regime in settings]),
        autocorrelation=np.array([regime.autocorrelation for regime in settings]),
        drift=np.array([regime.drift for regime in settings]) / YEAR,
        volatility=np.array([regime.volatility for regime in settings]),
        correlation=np.array([regime.correlation for regime in settings]),
    )
    return _assembled(key, count, dates, path, life, freedom, settings)


def _assembled(
    seed: int,
    count: int,
    dates: pd.DatetimeIndex,
    path: Path,
    life: Life,
    freedom: float,
    settings: tuple[Regime, ...],
) -> SyntheticMarket:
    length, styles = path.factors.shape
    names = pd.Index([f"A{i:05d}" for i in range(count)], name="asset")
    returns, prices, volumes = (np.empty((length, count)) for _ in range(3))
    months = np.arange(0, length, 21)
    value = np.empty((len(months), count))
    exposures, variance = np.empty((count, styles)), np.empty(count)
    spells, earnings = [], []
    for low in range(0, count, Styles.WIDTH):
        block = draw_block(seed, low // Styles.WIDTH, path, life, freedom)
        part = slice(low, min(low + Styles.WIDTH, count))
        width = part.stop - part.start
        returns[:, part], prices[:, part] = block.returns[:, :width], block.prices[:, :width]
        volumes[:, part], value[:, part] = block.volumes[:, :width], block.book_to_market[:, :width]
        exposures[part], variance[part] = block.exposures[:width], block.variance[:width]
        listed = np.flatnonzero(block.first[:width] < length)
        gone = block.last[listed] < length
        ends = pd.Series(dates[np.where(gone, block.last[listed], 0)]).where(gone)
        spells.append(
            pd.DataFrame(
                {
                    "asset": names[low + listed],
                    "start": dates[block.first[listed]],
                    "end": ends.to_numpy(),
                    "delisting_return": np.where(gone, block.delisting[listed], np.nan),
                }
            )
        )
        reports = block.reports
        mine = reports["column"] < width
        earnings.append(
            pd.DataFrame(
                {
                    "asset": names[low + reports["column"][mine].astype(np.intp)],
                    "period": dates[reports["quarter"][mine].astype(np.intp)],
                    "known_at": dates[reports["known"][mine].astype(np.intp)],
                    "value": reports["value"][mine],
                }
            )
        )
    for matrix in (returns, prices, volumes, value):
        matrix.setflags(write=False)  # so that the market shares them
    labels = pd.Index(
        [Styles.NAMES[k] if k < len(Styles.NAMES) else f"Style {k}" for k in range(styles)], name="factor"
    )
    market = MarketData(
        pd.DataFrame(prices, dates, names, copy=False),
        volumes=pd.DataFrame(volumes, dates, names, copy=False),
        universe=Universe(pd.concat(spells, ignore_index=True)),
        fields={"book_to_market": pd.DataFrame(value, dates[months], names, copy=False)},
        vintages={"earnings": pd.concat(earnings, ignore_index=True)},
        factors=pd.DataFrame(path.factors, dates, labels),
    )
    known = np.array([regime.name for regime in settings], dtype=object)
    return SyntheticMarket(
        market,
        pd.DataFrame(returns, dates, names, copy=False),
        pd.Series(known[path.regime], dates, name="regime"),
        pd.DataFrame(exposures, names, labels),
        pd.Series(variance, names, name="idiosyncratic_variance"),
        settings,
        pd.Series(Styles.volatility(styles), labels, name="volatility"),
    )


def _checked_regimes(regimes: Sequence[Regime]) -> tuple[Regime, ...]:
    settings = tuple(regimes)
    if not settings or not all(isinstance(regime, Regime) for regime in settings):
        raise InputError("regimes must be a sequence of at least one Regime")
    names = pd.Index([regime.name for regime in settings])
    if names.has_duplicates:
        raise InputError(f"regimes share the names {some(names[names.duplicated()].unique())}; give each its own")
    return settings


def _share(value: object, what: str) -> float:
    number = checked_number(value, what, least=0.0)
    if number > 1.0:
        raise InputError(f"{what} must be a probability, at most 1, was {number:g}")
    return number


def _count(value: object, what: str, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise InputError(f"{what} must be a whole number, at least {least}, was {value!r}")
    return int(value)

"""Options and what they are on, what the market says of them, their values, Greeks and implied volatilities."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import jax
import numpy as np
import numpy.typing as npt
import pandas as pd

from portfolioopt.errors import InputError, unknown_names
from portfolioopt.labels import FloatArray, PerAsset, checked_number, numbers, some
from portfolioopt_kernels import pricing

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Option:
    """A European option on one unit of an asset.

    Parameters
    ----------
    underlying
        Label of the asset.
    strike
        In the currency of the spot price, above zero.
    expiry_years
        Years to expiry, not negative; at zero it is worth what exercising it brings.
    kind
        ``"call"`` or ``"put"``.
    volatility
        Its own implied volatility per year, where the options on an asset differ; that of the asset where None.
    """

    underlying: str
    strike: float
    expiry_years: float
    kind: Literal["call", "put"] = "call"
    volatility: float | None = None

    def __post_init__(self) -> None:
        checked_number(self.strike, f"strike of an option on {self.underlying}", above=0.0)
        checked_number(self.expiry_years, f"expiry_years of an option on {self.underlying}", least=0.0)
        if self.kind not in ("call", "put"):
            raise InputError(f"kind of an option must be 'call' or 'put', was {self.kind!r}")
        if self.volatility is not None:
            checked_number(self.volatility, f"volatility of an option on {self.underlying}", least=0.0)

    def __str__(self) -> str:
        return f"{self.underlying} {self.kind} {self.strike:g} {self.expiry_years:g}y"


@dataclass(frozen=True)
class Linear:
    """One unit of an asset itself: a share, a fund, a future without financing."""

    asset: str

    def __str__(self) -> str:
        return str(self.asset)


Instrument: TypeAlias = Option | Linear


def underlying_of(instrument: Instrument) -> str:
    """The asset that an instrument depends on."""
    return instrument.underlying if isinstance(instrument, Option) else instrument.asset


@dataclass(frozen=True)
class Priced:
    """Instruments and the market as arrays."""

    labels: tuple[Instrument, ...]
    underlyings: pd.Index  # (U,)
    arrays: pricing.Instruments  # expiry from now
    spot: FloatArray  # (U,)

    @property
    def options(self) -> BoolArray:
        """Which instruments are options (I,)."""
        return np.asarray(self.arrays.sign) != 0.0

    def later(self, years: float) -> pricing.Instruments:
        """The instruments after some years; what expires on the way is worth what exercising it brings then."""
        return self.arrays._replace(expiry=np.maximum(self.arrays.expiry - years, 0.0))

    def greeks(self) -> dict[str, FloatArray]:
        """Value and Greeks of every instrument now (I,)."""
        a = self.arrays
        spot = self.spot[a.underlying]
        option = self.options
        strike = np.where(option, a.strike, 1.0)
        sign = np.where(option, a.sign, 1.0)
        with jax.enable_x64(True):
            found = pricing.greeks(spot, strike, a.expiry, a.volatility, a.rate, a.dividend, sign)
            own = {name: np.asarray(array) for name, array in found._asdict().items()}
        plain = {"value": spot, "delta": 1.0}  # of the asset itself
        return {name: np.where(option, array, plain.get(name, 0.0)) for name, array in own.items()}


def priced(
    instruments: Iterable[Instrument],
    assets: pd.Index | None,
    spot: PerAsset,
    volatility: PerAsset,
    rate: float,
    dividend_yield: PerAsset,
) -> Priced:
    """Check instruments and market; `assets` are those that underlyings may be, all where None."""
    labels = tuple(checked_instruments(instruments))
    names = pd.Index(list(dict.fromkeys(underlying_of(label) for label in labels)))
    if assets is not None:
        unknown = [name for name in names if name not in assets]
        if unknown:
            raise unknown_names("underlying", unknown, assets)
    known = names if assets is None else assets
    of = names.get_indexer(pd.Index([underlying_of(label) for label in labels]))
    prices = _per_underlying(spot, names, known, "spot")
    if (prices <= 0).any():
        raise InputError(f"spot must be above zero, and is not for {some(names[prices <= 0])}")
    own = np.array([isinstance(label, Option) and label.volatility is not None for label in labels])
    options = [label for label in labels if isinstance(label, Option)]
    optioned = pd.Index(list(dict.fromkeys(option.underlying for option in options)))
    lacking = pd.Index(list(dict.fromkeys(option.underlying for option in options if option.volatility is None)))
    vols = np.zeros(len(names))
    if len(lacking):
        vols[names.get_indexer(lacking)] = _per_underlying(volatility, lacking, known, "volatility")
    if (vols < 0).any():
        raise InputError(f"volatility is negative for {some(names[vols < 0])}")
    yields = np.zeros(len(names))
    if len(optioned):
        yields[names.get_indexer(optioned)] = _per_underlying(dividend_yield, optioned, known, "dividend_yield")
    each = vols[of]
    each[own] = [option.volatility for option in options if option.volatility is not None]
    number = checked_number(rate, "rate")
    signs = {"call": 1.0, "put": -1.0}
    arrays = pricing.Instruments(
        underlying=of.astype(np.int32),
        sign=np.array([signs[label.kind] if isinstance(label, Option) else 0.0 for label in labels]),
        strike=np.array([label.strike if isinstance(label, Option) else 1.0 for label in labels], dtype=np.float64),
        expiry=np.array([label.expiry_years if isinstance(label, Option) else 0.0 for label in labels], np.float64),
        volatility=each,
        rate=np.full(len(labels), number),
        dividend=yields[of],
    )
    return Priced(labels, names, arrays, prices)


def checked_instruments(instruments: Iterable[object]) -> list[Instrument]:
    """Distinct instruments, at least one."""
    labels: list[Instrument] = []
    for label in instruments:
        if not isinstance(label, Option | Linear):
            raise InputError(f"an instrument must be an Option or Linear, was {label!r}")
        labels.append(label)
    if not labels:
        raise InputError("there are no instruments; pass at least one Option or Linear")
    repeated = [str(label) for label, count in pd.Series(labels, dtype=object).value_counts().items() if count > 1]
    if repeated:
        raise InputError(f"instruments are given twice: {some(pd.Index(repeated))}; add their quantities up")
    return labels


def greeks(
    instruments: Sequence[Instrument],
    spot: PerAsset,
    volatility: PerAsset,
    rate: float,
    *,
    dividend_yield: PerAsset = 0.0,
) -> pd.DataFrame:
    r"""Values and Greeks of instruments by Black-Scholes, per unit.

    Parameters
    ----------
    instruments
        Options and assets.
    spot, volatility, rate, dividend_yield
        As for :func:`~portfolioopt.scenarios.pnl`.

    Returns
    -------
    DataFrame
        By instrument: value; delta :math:`\partial V / \partial S`, gamma :math:`\partial^2 V / \partial S^2`; vega
        :math:`\partial V / \partial \sigma` for a whole unit of volatility (a hundredth of it is per point); theta,
        what a year of passing time brings (per day a 365th); rho :math:`\partial V / \partial r` for a whole unit.

    Raises
    ------
    InputError
        As for :func:`~portfolioopt.scenarios.pnl`.
    """
    market = priced(instruments, None, spot, volatility, rate, dividend_yield)
    index = pd.Index(market.labels, dtype=object, name="instrument")
    return pd.DataFrame(market.greeks(), index=index)


def implied_volatility(
    prices: Mapping[Option, float] | pd.Series,
    spot: PerAsset,
    rate: float,
    *,
    dividend_yield: PerAsset = 0.0,
) -> pd.Series:
    """Volatilities per year at which Black-Scholes gives options their prices.

    Parameters
    ----------
    prices
        Price of each option, in the currency of the spot; a Series has the options as labels.
    spot, rate, dividend_yield
        As for :func:`~portfolioopt.scenarios.pnl`.

    Returns
    -------
    Series
        By option. A price at its lower bound gives zero.

    Raises
    ------
    InputError
        For options that have expired, prices outside the bounds that arbitrage sets, naming both, and what
        :func:`~portfolioopt.scenarios.pnl` refuses.
    """
    if not isinstance(prices, Mapping | pd.Series):
        raise InputError(f"prices must be a mapping or Series from option to price, was {type(prices).__name__}")
    series = prices if isinstance(prices, pd.Series) else pd.Series(list(prices.values()), list(prices), dtype=object)
    market = priced(series.index, None, spot, 0.0, rate, dividend_yield)
    asset = [str(label) for label, option in zip(market.labels, market.options, strict=True) if not option]
    if asset:
        raise InputError(f"only options have a volatility that prices imply; leave out {some(pd.Index(asset))}")
    values, a = numbers(series, "prices"), market.arrays
    spots = market.spot[a.underlying]
    expired = a.expiry <= 0
    if expired.any():
        raise InputError(
            f"no volatility follows from the price of an option that has expired: {_named(market, expired)}"
        )
    with jax.enable_x64(True):
        found = np.asarray(pricing.implied_volatility(values, spots, a.strike, a.expiry, a.rate, a.dividend, a.sign))
    bad = ~np.isfinite(found)
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        grown, kept = spots * np.exp(-a.dividend * a.expiry), a.strike * np.exp(-a.rate * a.expiry)
        low = max(float((a.sign * (grown - kept))[first]), 0.0)
        high = float((grown if a.sign[first] > 0 else kept)[first])
        raise InputError(
            f"no volatility gives the price of {_named(market, bad)}: arbitrage keeps that of {market.labels[first]} "
            f"between {low:g} and {high:g}, and it was {values[first]:g}"
        )
    index = pd.Index(market.labels, dtype=object, name="instrument")
    return pd.Series(found, index=index, name="implied_volatility")


def _named(market: Priced, which: BoolArray) -> str:
    return some(pd.Index([str(label) for label, bad in zip(market.labels, which, strict=True) if bad]))


def _per_underlying(value: PerAsset, names: pd.Index, known: pd.Index, what: str) -> FloatArray:
    """One number for all, or labelled numbers that may cover more assets than `names` (U,), but none unknown."""
    if not isinstance(value, pd.Series | Mapping):
        return np.full(len(names), checked_number(value, what))
    series = value if isinstance(value, pd.Series) else pd.Series(dict(value), dtype=object)
    if series.index.has_duplicates:
        raise InputError(f"{what} has duplicate assets: {some(series.index[series.index.duplicated()].unique())}")
    missing = names.difference(series.index, sort=False)
    strange = [name for name in series.index if name not in known]
    if len(missing) and strange:
        raise unknown_names(f"asset in {what}", strange, known)
    if len(missing):
        raise InputError(f"{what} says nothing about {some(missing)}; give every underlying a value")
    array = numbers(series.reindex(names), what)
    if not np.isfinite(array).all():
        raise InputError(f"{what} is not finite for {some(names[~np.isfinite(array)])}")
    return array

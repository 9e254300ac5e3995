"""Commissions, spreads and square-root impact."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.labels import FloatArray, PerAsset, checked_number, some
from portfolioopt.problem import Expression, PowerCost, ProportionalCost
from portfolioopt.problem.costs import check_bps

from .model import CostModel, Parts
from .quotes import Quotes


@dataclass(frozen=True, eq=False)
class ProportionalCosts(CostModel):
    r"""Commissions and taxes: :math:`F + \max(m,\; b\,|q|p + c\,|q|)` for a trade of q units at price p.

    Its forecast is :math:`\sum_i (b_i + c_i / p_i)\,|w_i - h_i|`. Fixed fees and minimums have no convex forecast:
    `convex_part` leaves them out, which is the largest convex cost nowhere above.

    Parameters
    ----------
    bps
        b, in basis points of the amount bought or sold (5 means 0.05 %): one number, or one per asset.
    sell
        That of selling, where it differs: `bps` is then that of buying.
    per_share
        c, account currency per unit; one number, or one per asset.
    minimum
        m, least charge of a trade, account currency; not counting `fixed`.
    fixed
        F, fee of every trade, account currency.
    """

    bps: PerAsset = 0.0
    sell: PerAsset | None = None
    per_share: PerAsset = 0.0
    minimum: float = 0.0
    fixed: float = 0.0

    def __post_init__(self) -> None:
        check_bps(self.bps, "ProportionalCosts: bps")
        if self.sell is not None:
            check_bps(self.sell, "ProportionalCosts: sell")
        for name in ("minimum", "fixed"):
            object.__setattr__(self, name, checked_number(getattr(self, name), f"ProportionalCosts: {name}", least=0.0))

    def _per_share(self, quotes: Quotes) -> FloatArray:
        return not_negative(quotes, self.per_share, "ProportionalCosts.per_share")

    @property
    def grows_with_size(self) -> bool:
        return False

    def traded(self, quotes: Quotes, quantity: FloatArray) -> Parts:
        buy = quotes.rates(self.bps, "ProportionalCosts.bps")
        sell = buy if self.sell is None else quotes.rates(self.sell, "ProportionalCosts.sell")
        units, price = np.abs(quantity), quotes.column("price", "ProportionalCosts")
        rate = np.where(quantity > 0, buy, sell) / 1e4
        variable = rate * units * price + self._per_share(quotes) * units
        charged = self.fixed + np.maximum(self.minimum, variable)
        return {"commission": np.where(quantity != 0.0, charged, 0.0)}

    def planned(self, quotes: Quotes, nav: float, scale: FloatArray) -> list[Expression]:
        if self.fixed > 0.0 or self.minimum > 0.0:
            which = " and ".join(
                f"{name}={value:g}" for name, value in (("fixed", self.fixed), ("minimum", self.minimum)) if value > 0.0
            )
            raise InputError(
                f"ProportionalCosts has no convex forecast with {which}: a small trade costs more per amount than a "
                "large one. Plan with costs.convex_part().term(...), which leaves it out, and book with the whole; a "
                "MinTrade constraint keeps trades worth their fee"
            )
        shares = self._per_share(quotes)
        each = shares / quotes.column("price", "ProportionalCosts") if shares.any() else np.zeros(len(quotes))
        buy = scale * (quotes.rates(self.bps, "ProportionalCosts.bps") + 1e4 * each)
        if self.sell is None:
            return [ProportionalCost(pd.Series(buy, quotes.assets))]
        sell = scale * (quotes.rates(self.sell, "ProportionalCosts.sell") + 1e4 * each)
        return [ProportionalCost(pd.Series(buy, quotes.assets), pd.Series(sell, quotes.assets))]

    def convex_part(self) -> ProportionalCosts:
        return ProportionalCosts(self.bps, self.sell, self.per_share)


@dataclass(frozen=True, eq=False)
class SpreadCosts(CostModel):
    r"""Cost of crossing the spread, :math:`f s\,|q| p` for q units at price p; f = 1/2 pays half of the spread s.

    Parameters
    ----------
    bps
        s, ask less bid in basis points of the price: one number, one per asset, or None for that of each trade
        (column ``spread``).
    fraction
        f, the part of the spread that is paid, from 0 (always at mid) to 1.
    """

    bps: PerAsset | None = None
    fraction: float = 0.5

    def __post_init__(self) -> None:
        if self.bps is not None:
            check_bps(self.bps, "SpreadCosts: bps")
        fraction = checked_number(self.fraction, "SpreadCosts: fraction", least=0.0)
        if fraction > 1.0:
            raise InputError(f"SpreadCosts: fraction must be at most 1, was {fraction:g}")
        object.__setattr__(self, "fraction", fraction)

    def _rate(self, quotes: Quotes) -> FloatArray:
        spread = (
            quotes.column("spread", "SpreadCosts") if self.bps is None else quotes.rates(self.bps, "SpreadCosts.bps")
        )
        return self.fraction * spread

    @property
    def grows_with_size(self) -> bool:
        return False

    def traded(self, quotes: Quotes, quantity: FloatArray) -> Parts:
        return {"spread": self._rate(quotes) / 1e4 * np.abs(quantity) * quotes.column("price", "SpreadCosts")}

    def planned(self, quotes: Quotes, nav: float, scale: FloatArray) -> list[Expression]:
        return [ProportionalCost(pd.Series(scale * self._rate(quotes), quotes.assets))]


@dataclass(frozen=True, eq=False)
class SquareRootImpact(CostModel):
    r"""Market impact :math:`Y \sigma\,(|q| / V)^{\delta}\,|q| p` for q units at price p; the market trades V a day.

    The price moves against a trade by Y daily volatilities times a power of its part of the daily volume. With
    :math:`\delta = 1/2` this is the square-root law (Torre & Ferrari, 1997; Grinold & Kahn, 1999; Tóth et al., 2011);
    Almgren, Thum, Hauptmann & Li (2005) find 3/5. Its forecast is a `PowerCost` of exponent :math:`1 + \delta` and
    coefficient :math:`Y \sigma_i (\mathrm{NAV} / p_i V_i)^{\delta}`.

    Parameters
    ----------
    coefficient
        Y, near one; one number, or one per asset.
    exponent
        :math:`\delta`, above 0 and at most 1 (linear impact).
    """

    coefficient: PerAsset = 1.0
    exponent: float = 0.5

    def __post_init__(self) -> None:
        exponent = checked_number(self.exponent, "SquareRootImpact: exponent", above=0.0)
        if exponent > 1.0:
            raise InputError(f"SquareRootImpact: exponent must be at most 1, was {exponent:g}")
        object.__setattr__(self, "exponent", exponent)

    def _moves(self, quotes: Quotes) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Move of a trade of one day's volume, as a fraction of the price; volume; price."""
        coefficient = not_negative(quotes, self.coefficient, "SquareRootImpact.coefficient")
        volatility = quotes.column("volatility", "SquareRootImpact")
        return (
            coefficient * volatility,
            quotes.column("volume", "SquareRootImpact"),
            quotes.column("price", "SquareRootImpact"),
        )

    def traded(self, quotes: Quotes, quantity: FloatArray) -> Parts:
        move, volume, price = self._moves(quotes)
        units = np.abs(quantity)
        return {"impact": move * (units / volume) ** self.exponent * units * price}

    def planned(self, quotes: Quotes, nav: float, scale: FloatArray) -> list[Expression]:
        move, volume, price = self._moves(quotes)
        coefficient = scale * move * (nav / (price * volume)) ** self.exponent
        return [PowerCost(pd.Series(coefficient, quotes.assets), 1.0 + self.exponent)]


def not_negative(quotes: Quotes, value: PerAsset, what: str) -> FloatArray:
    """Labelled numbers for every row that are not negative (R,)."""
    rates = quotes.rates(value, what)
    if (rates < 0.0).any():
        raise InputError(f"{what} is negative for {some(quotes.assets[rates < 0.0])}")
    return rates

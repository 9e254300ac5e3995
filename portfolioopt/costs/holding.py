"""What accrues while positions are held: fees for borrowed shares, interest on borrowed cash."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError, unknown_names
from portfolioopt.labels import FloatArray, PerAsset, checked_number, some
from portfolioopt.problem import BorrowCost, Expression
from portfolioopt.problem.costs import check_bps

from .model import CostModel, Parts
from .quotes import Quotes


@dataclass(frozen=True, eq=False)
class BorrowCosts(CostModel):
    r"""Fee on short positions, :math:`c\,\frac{d}{D}\,(-q)_+\,p` for q units at price p held d days.

    Parameters
    ----------
    bps
        c, fee per year in basis points of the value short: one number, or one per asset. A short position in an
        asset without a fee is refused.
    year
        D, days the quoted year has: 360 in most markets, 365 in some.
    """

    bps: PerAsset
    year: float = 360.0

    def __post_init__(self) -> None:
        check_bps(self.bps, "BorrowCosts: bps")
        object.__setattr__(self, "year", checked_number(self.year, "BorrowCosts: year", above=0.0))

    @property
    def grows_with_size(self) -> bool:
        return False

    def held(self, quotes: Quotes, quantity: FloatArray, days: float) -> Parts:
        short = Quotes(quotes.frame, quotes.assets, quantity < 0.0)
        rate = short.rates(self.bps, "BorrowCosts.bps") / 1e4 * days / self.year
        return {"borrow": rate * np.maximum(-quantity, 0.0) * short.column("price", "BorrowCosts")}

    def expected(self, quotes: Quotes, days: float) -> list[Expression]:
        rate = quotes.rates(self.bps, "BorrowCosts.bps") * days / self.year
        return [BorrowCost(pd.Series(rate, quotes.assets))]


@dataclass(frozen=True, eq=False)
class FinancingCosts(CostModel):
    r"""Interest on borrowed cash, :math:`c\,\frac{d}{D}\,(-\text{cash})_+` over d days.

    Cash is an asset of the book and of the problem, here as there: below zero it is borrowed. What cash above zero
    earns is a return, not a cost.

    Parameters
    ----------
    bps
        c, interest per year in basis points.
    cash
        Name of the cash asset, of which the price is its worth in account currency (1 for the account currency).
    year
        D, days the quoted year has.
    """

    bps: float
    cash: str = "cash"
    year: float = 360.0

    def __post_init__(self) -> None:
        check_bps(self.bps, "FinancingCosts: bps")
        object.__setattr__(self, "bps", checked_number(self.bps, "FinancingCosts: bps", least=0.0))
        object.__setattr__(self, "year", checked_number(self.year, "FinancingCosts: year", above=0.0))

    def _places(self, quotes: Quotes) -> FloatArray:
        here = np.asarray(quotes.assets == self.cash, dtype=np.float64)
        if not here.any():
            raise unknown_names("cash asset", [self.cash], quotes.assets)
        if here.sum() > 1:
            raise InputError(f"FinancingCosts: {some(pd.Index([self.cash]))} is in {here.sum():g} rows; net them")
        return here

    @property
    def grows_with_size(self) -> bool:
        return False

    def held(self, quotes: Quotes, quantity: FloatArray, days: float) -> Parts:
        here = self._places(quotes)
        owed = Quotes(quotes.frame, quotes.assets, (here > 0) & (quantity < 0))
        rate = self.bps / 1e4 * days / self.year
        return {"financing": rate * here * np.maximum(-quantity, 0.0) * owed.column("price", "FinancingCosts")}

    def expected(self, quotes: Quotes, days: float) -> list[Expression]:
        return [BorrowCost(pd.Series(self._places(quotes) * self.bps * days / self.year, quotes.assets))]

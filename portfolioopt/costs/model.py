"""What a cost model is: one object that forecasts in the optimiser and charges in the book."""

from __future__ import annotations

import functools
import operator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.labels import FloatArray, checked_number
from portfolioopt.problem import Expression, ProportionalCost

from .quotes import Quotes, read_market, read_quantities

Parts = dict[str, FloatArray]


class CostModel:
    """Costs of trading, of holding, or of both. Models add: ``ProportionalCosts(bps=1) + SquareRootImpact()``.

    Money is in account currency and positive where it is paid. A subclass says what a batch of trades and a batch of
    positions cost by part, and which terms of the problem language say the same as fractions of NAV.
    """

    def charges(self, trades: pd.DataFrame) -> pd.DataFrame:
        """What trades cost once they are done, in account currency.

        Parameters
        ----------
        trades
            One row per trade, its asset in a column ``asset`` or else in the index, with ``quantity`` (units, sells
            negative), ``price`` (account currency per unit), and what the model looks at: ``volume`` (units the market
            trades per day), ``volatility`` (standard deviation of the daily return, a fraction), ``spread`` (ask
            less bid, in basis points of the price).

        Returns
        -------
        DataFrame, rows as in `trades`, one column for each part
            Among ``commission``, ``spread``, ``impact``, ``permanent_impact`` and ``temporary_impact``. A trade of
            nothing costs nothing. Its sum is the total; there are no columns where the model charges for holding only.

        Raises
        ------
        RefusedTradeError
            Where a figure the model needs is missing or impossible for an asset that trades: such a trade is not free.
        InputError
            Where quantities are missing, or figures look like another unit.
        """
        who = type(self).__name__
        quotes, quantity = read_quantities(trades, "trades", who)
        return pd.DataFrame(self.traded(quotes, quantity), index=trades.index, dtype=np.float64)

    def charge(
        self,
        asset: str,
        quantity: float,
        price: float,
        *,
        volume: float | None = None,
        volatility: float | None = None,
        spread: float | None = None,
    ) -> pd.Series:
        """What one trade costs, by part, in account currency; arguments as the columns of :meth:`charges`."""
        given = {"volume": volume, "volatility": volatility, "spread": spread}
        row = {"asset": asset, "quantity": quantity, "price": price}
        row |= {name: value for name, value in given.items() if value is not None}
        return self.charges(pd.DataFrame([row])).iloc[0].rename(asset)

    def accruals(self, positions: pd.DataFrame, days: float = 1.0) -> pd.DataFrame:
        """What holding positions costs, in account currency.

        Parameters
        ----------
        positions
            One row per position: its asset, ``quantity`` (units, short ones negative) and ``price``.
        days
            Calendar days they are held.

        Returns
        -------
        DataFrame, rows as in `positions`, one column for each part
            ``borrow`` or ``financing``; no columns where the model charges for trading only.
        """
        who = type(self).__name__
        span = checked_number(days, f"{who}.accruals: days", least=0.0)
        quotes, quantity = read_quantities(positions, "positions", who)
        return pd.DataFrame(self.held(quotes, quantity, span), index=positions.index, dtype=np.float64)

    def term(
        self, market: pd.DataFrame | pd.Series, nav: float, *, horizons: float = 1.0, days: float = 1.0
    ) -> Expression:
        r"""The forecast: the same cost as a term of the problem language, a fraction of NAV per scenario horizon.

        .. math:: \frac{1}{m}\,\frac{\text{charges}(w - h)}{\mathrm{NAV}} + \frac{\text{accruals}(w)}{\mathrm{NAV}}

        with weights w and holdings h of the problem it is put in; a trade of weight d is one of
        :math:`d\,\mathrm{NAV}/\text{price}` units. It is subtracted: ``ExpectedReturn() - costs.term(market, nav)``.

        Parameters
        ----------
        market
            One row for every asset of the problem, with the columns of :meth:`charges` but the quantity; a Series
            is one of prices.
        nav
            Net asset value in account currency.
        horizons
            m, the number of scenario horizons the portfolio is held before it is traded again.
        days
            Calendar days in a scenario horizon, for what accrues.

        Raises
        ------
        InputError
            Where the cost is not convex (fixed fees, minimums): `convex_part` is what can be said of it.
        RefusedTradeError
            Where a figure the model needs is missing for an asset.
        """
        who = type(self).__name__
        money = checked_number(nav, f"{who}.term: nav", above=0.0)
        held = checked_number(horizons, f"{who}.term: horizons", above=0.0)
        span = checked_number(days, f"{who}.term: days", least=0.0)
        quotes = read_market(market, who)
        trading = [part if held == 1.0 else part / held for part in self.planned(quotes, money, np.ones(len(quotes)))]
        parts = [*trading, *self.expected(quotes, span)]
        return functools.reduce(operator.add, parts) if parts else ProportionalCost(0.0)

    def convex_part(self) -> CostModel:
        """The largest convex cost nowhere above this one: without what is charged however small the trade."""
        return self

    def __add__(self, other: CostModel) -> CombinedCosts:
        if not isinstance(other, CostModel):
            return NotImplemented
        return CombinedCosts((*_models(self), *_models(other)))

    @property
    def grows_with_size(self) -> bool:
        """Whether the forecast as a fraction of NAV depends on the NAV: impact does, commissions and spreads do not."""
        return True

    # -- what a model says ---------------------------------------------------------------------------------------
    def traded(self, quotes: Quotes, quantity: FloatArray) -> Parts:
        """Money (R,) by part for trades of these units."""
        return {}

    def held(self, quotes: Quotes, quantity: FloatArray, days: float) -> Parts:
        """Money (R,) by part for holding these units."""
        return {}

    def planned(self, quotes: Quotes, nav: float, scale: FloatArray) -> list[Expression]:
        """Terms that say `traded` as fractions of NAV, that of each asset times its `scale` (N,)."""
        return []

    def expected(self, quotes: Quotes, days: float) -> list[Expression]:
        """Terms that say `held` as fractions of NAV."""
        return []


@dataclass(frozen=True, eq=False)
class CombinedCosts(CostModel):
    """Several models, all of which charge; parts of the same name are summed. Made by adding models."""

    models: tuple[CostModel, ...]

    def __post_init__(self) -> None:
        wrong = [model for model in self.models if not isinstance(model, CostModel)]
        if wrong or not self.models:
            raise InputError(f"CombinedCosts needs cost models, was given {self.models!r}")

    def traded(self, quotes: Quotes, quantity: FloatArray) -> Parts:
        return _summed([model.traded(quotes, quantity) for model in self.models])

    def held(self, quotes: Quotes, quantity: FloatArray, days: float) -> Parts:
        return _summed([model.held(quotes, quantity, days) for model in self.models])

    def planned(self, quotes: Quotes, nav: float, scale: FloatArray) -> list[Expression]:
        return [part for model in self.models for part in model.planned(quotes, nav, scale)]

    def expected(self, quotes: Quotes, days: float) -> list[Expression]:
        return [part for model in self.models for part in model.expected(quotes, days)]

    @property
    def grows_with_size(self) -> bool:
        return any(model.grows_with_size for model in self.models)

    def convex_part(self) -> CombinedCosts:
        return CombinedCosts(tuple(model.convex_part() for model in self.models))

    def __repr__(self) -> str:
        return " + ".join(map(repr, self.models))


def _models(model: CostModel) -> tuple[CostModel, ...]:
    return model.models if isinstance(model, CombinedCosts) else (model,)


def _summed(batches: list[Parts]) -> Parts:
    total: Parts = {}
    for parts in batches:
        for name, money in parts.items():
            total[name] = total[name] + money if name in total else money
    return total

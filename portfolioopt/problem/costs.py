"""Costs of trading and of holding, as fractions of NAV."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import ClassVar

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.labels import PerAsset

from .lowering import Affine, Canvas, Shape
from .terms import FloatArray, Term, View, ordered, spread


@dataclass(frozen=True, eq=False)
class ProportionalCost(Term):
    r"""Cost of trading from the holdings h: :math:`\sum_i b_i (w_i - h_i)_+ + s_i (h_i - w_i)_+`, a fraction of NAV.

    Charged once per rebalance. It is subtracted from a return per scenario horizon: where the portfolio is held for
    several horizons, scale it by the fraction of the holding time that one scenario spans.

    Parameters
    ----------
    bps
        Cost per amount bought or sold, in basis points (5 means 0.05 %): one number, or one per asset.
    sell
        Cost per amount sold, where it differs: `bps` is then that of buying.
    """

    bps: PerAsset = 0.0
    sell: PerAsset | None = None
    trades: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_bps(self.bps, "bps")
        if self.sell is not None:
            check_bps(self.sell, "sell")

    def _rates(self, assets: pd.Index) -> tuple[FloatArray, FloatArray]:
        buy = ordered(self, "bps", assets)
        return buy / 1e4, (buy if self.sell is None else ordered(self, "sell", assets)) / 1e4

    def shape(self, canvas: Canvas) -> Shape:
        spread(self.bps, canvas, "ProportionalCost.bps")
        if self.sell is not None:
            spread(self.sell, canvas, "ProportionalCost.sell")
        assert canvas.holdings is not None
        buy, sell = self._rates(canvas.assets)
        tilt = 0.5 * (buy - sell)
        affine = Affine(tilt, {}, -float(tilt @ canvas.holdings))
        both = 0.5 * (buy + sell)
        return Shape(affine) + canvas.distance(both, canvas.holdings) if both.any() else Shape(affine)

    def value(self, view: View) -> float:
        buy, sell = self._rates(view.scenarios.assets)
        trades = view.trades()
        return float(buy @ np.maximum(trades, 0.0) + sell @ np.maximum(-trades, 0.0))

    def size(self, view: View) -> float:
        return 1e-4

    def __repr__(self) -> str:
        text = f"bps={self.bps:g}" if isinstance(self.bps, Real) else "bps=..."
        if self.sell is not None:
            text += f", sell={self.sell:g}" if isinstance(self.sell, Real) else ", sell=..."
        return f"ProportionalCost({text})"


@dataclass(frozen=True, eq=False)
class BorrowCost(Term):
    r"""Cost of holding short positions for one scenario horizon, :math:`\sum_i c_i (-w_i)_+`, as a fraction of NAV.

    For a cash asset it is the cost of financing: cash below zero is borrowed.

    Parameters
    ----------
    bps
        Cost per amount short and per scenario horizon, in basis points; one number, or one per asset.
    """

    bps: PerAsset = 0.0

    def __post_init__(self) -> None:
        check_bps(self.bps, "bps")

    def shape(self, canvas: Canvas) -> Shape:
        rate = spread(self.bps, canvas, "BorrowCost.bps") / 1e4
        return Shape(Affine(-0.5 * rate)) + canvas.distance(0.5 * rate, np.zeros(canvas.n))

    def value(self, view: View) -> float:
        return float((ordered(self, "bps", view.scenarios.assets) / 1e4) @ np.maximum(-view.weights, 0.0))

    def size(self, view: View) -> float:
        return 1e-4

    def __repr__(self) -> str:
        return f"BorrowCost(bps={self.bps:g})" if isinstance(self.bps, Real) else "BorrowCost(bps=...)"


@dataclass(frozen=True, eq=False)
class TradedAmount(Term):
    r"""Sum of all trades :math:`\sum_i |w_i - h_i|`, the full L1 sum, as a fraction of NAV.

    Parameters
    ----------
    side
        ``"both"``, or only what is bought (``"buy"``) or sold (``"sell"``).
    """

    side: str = "both"
    trades: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.side not in ("both", "buy", "sell"):
            raise InputError(f"TradedAmount: side must be 'both', 'buy' or 'sell', was {self.side!r}")

    def shape(self, canvas: Canvas) -> Shape:
        assert canvas.holdings is not None
        ones = np.ones(canvas.n)
        if self.side == "both":
            return canvas.distance(ones, canvas.holdings)
        sign = 0.5 if self.side == "buy" else -0.5
        affine = Affine(sign * ones, {}, -sign * float(canvas.holdings.sum()))
        return Shape(affine) + canvas.distance(0.5 * ones, canvas.holdings)

    def value(self, view: View) -> float:
        trades = view.trades()
        counted = np.abs(trades) if self.side == "both" else np.maximum(trades if self.side == "buy" else -trades, 0.0)
        return float(counted.sum())

    def size(self, view: View) -> float:
        return 1.0

    def __repr__(self) -> str:
        return f"TradedAmount({self.side!r})" if self.side != "both" else "TradedAmount()"


def check_bps(value: PerAsset, what: str) -> None:
    """Refuse costs that are negative, not numbers, or look like another unit."""
    try:
        values = np.asarray(list(value.values()) if isinstance(value, Mapping) else value, dtype=float)
    except (TypeError, ValueError) as error:
        raise InputError(f"{what} (basis points) must be a number, or numbers by asset, was {value!r}") from error
    if not np.isfinite(values).all() or (values < 0).any():
        raise InputError(f"the cost in basis points ({what}) must be finite and not negative, was {value!r}")
    if (values > 5000).any():
        raise InputError(
            f"a cost of {values.max():g} basis points is {values.max() / 1e4:.0%} of the amount traded; {what} counts "
            "hundredths of a percent"
        )

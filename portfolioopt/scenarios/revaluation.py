r"""P&L of books of options and assets in every scenario, and options as assets of a scenario set.

With spot prices S, simple returns r of the underlyings, and changes :math:`\Delta\sigma, \Delta y` of volatilities and
of the rate y over an elapsed time h, an instrument of value V gains

.. math:: V(S (1 + r), \sigma + \Delta\sigma, y + \Delta y, T - h) - V(S, \sigma, y, T)

by full revaluation. The quadratic approximation, exact up to :math:`O(r^3)` where nothing else moves, is

.. math:: \delta S r + \tfrac12 \gamma (S r)^2 + \nu \Delta\sigma + \rho \Delta y + \theta h ,

and the linear one leaves the second term out (Hull, "Options, Futures, and Other Derivatives", ch. 19 and 22).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal

import jax
import numpy as np
import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.labels import FloatArray, PerAsset, checked_number, numbers, some
from portfolioopt_kernels import pricing

from .instruments import Instrument, Priced, priced
from .scenario_set import ScenarioSet

Method = Literal["full", "delta_gamma", "linear"]
Positions = Mapping[Instrument, float] | pd.Series | pd.DataFrame
Precision = Literal["float64", "float32"]

_CELLS: Final = 1 << 17  # values of instruments at a time: what they take stays in cache


def pnl(
    positions: Positions,
    scenarios: ScenarioSet,
    spot: PerAsset,
    volatility: PerAsset = 0.0,
    rate: float = 0.0,
    *,
    method: Method = "full",
    dividend_yield: PerAsset = 0.0,
    volatility_changes: pd.DataFrame | pd.Series | None = None,
    rate_changes: pd.Series | None = None,
    elapsed_years: float = 0.0,
    dtype: Precision = "float64",
) -> pd.DataFrame:
    """P&L of one or many books of options and assets in every scenario, in currency; a gain is positive.

    Parameters
    ----------
    positions
        Units held of each instrument: a mapping or Series from `Option` or `Linear` to a number for one book, a frame
        of books x instruments for P of them.
    scenarios
        Returns of the underlyings, among other assets; read in chunks, so it need not be in memory.
    spot
        Prices now, in currency per unit: by asset.
    volatility
        Implied volatilities per year, as fractions: one number, or by asset; options may have their own.
    rate
        Continuously compounded, per year.
    method
        ``"full"`` values each instrument anew; ``"delta_gamma"`` and ``"linear"`` are the approximations above.
    dividend_yield
        Continuously compounded, per year: one number, or by asset.
    volatility_changes
        Added to the volatilities, in each scenario: a frame of scenarios x underlyings, or a Series for all of them. A
        volatility stays at zero or above.
    rate_changes
        Added to the rate in each scenario (S,).
    elapsed_years
        Time from now to the end of a scenario, not negative. Options that expire on the way are worth what exercising
        them brings at the price then.
    dtype
        Precision of the revaluation. In ``"float32"`` a P&L is good to some 1e-6 of the value of the positions.

    Returns
    -------
    DataFrame
        S x P, scenarios by books (``"book"`` where there is one without a name).

    Raises
    ------
    InputError
        For prices, volatilities and quantities that are not finite or negative where they must not be, labels that do
        not match those of the scenarios, and returns below -1.
    UnknownNameError
        For underlyings that are not assets of the scenarios, with close matches.
    """
    if method not in ("full", "delta_gamma", "linear"):
        raise InputError(f"method must be 'full', 'delta_gamma' or 'linear', was {method!r}")
    if dtype not in ("float64", "float32"):
        raise InputError(f"dtype must be 'float64' or 'float32', was {dtype!r}")
    books, quantities = _checked_positions(positions)
    moves = _Moves(scenarios, books.columns, spot, volatility, rate, dividend_yield, volatility_changes, rate_changes)
    years = checked_number(elapsed_years, "elapsed_years", least=0.0)
    out = np.empty((scenarios.n_scenarios, len(quantities)))
    with jax.enable_x64(True):
        if method == "full":
            now = moves.market.greeks()["value"]
            given = _cast((quantities, moves.market.later(years), moves.market.spot, now), dtype)
            for part, rows, (returns, vols, rates) in moves.chunks():
                held, instruments, prices, value = given
                found = pricing.full_pnl(
                    held, instruments, *_cast((returns, vols, rates), dtype), prices, value, rows=rows
                )
                out[part] = np.asarray(found)[: part.stop - part.start]
        else:
            taylor = _cast(_taylor(moves, quantities, years, second=method == "delta_gamma"), dtype)
            for part, _, (returns, vols, rates) in moves.chunks():
                changes = _cast((moves.market.spot * returns, vols, rates), dtype)
                out[part] = np.asarray(pricing.taylor_pnl(*taylor, *changes))[: part.stop - part.start]
    return pd.DataFrame(out, index=scenarios.index, columns=books.index)


def instrument_returns(
    instruments: Sequence[Instrument],
    scenarios: ScenarioSet,
    spot: PerAsset,
    volatility: PerAsset = 0.0,
    rate: float = 0.0,
    *,
    per: Literal["premium", "notional"] = "premium",
    dividend_yield: PerAsset = 0.0,
    volatility_changes: pd.DataFrame | pd.Series | None = None,
    rate_changes: pd.Series | None = None,
    elapsed_years: float = 0.0,
) -> ScenarioSet:
    """Options and assets as the assets of a scenario set, by full revaluation, so that a problem can hold them.

    Parameters
    ----------
    instruments
        Options and assets, each once; the assets of the new set are their texts, such as ``"AAPL put 140 0.25y"``.
    scenarios, spot, volatility, rate, dividend_yield, volatility_changes, rate_changes, elapsed_years
        As for :func:`pnl`.
    per
        ``"premium"``: the return is P&L over the price of the instrument, and a weight is the fraction of NAV paid for
        it (or received, where negative). ``"notional"``: P&L over the spot price of the underlying, and a weight is the
        fraction of NAV that the option is on; what the premium itself takes from the budget is then not counted.

    Returns
    -------
    ScenarioSet
        S x I in memory, with the probabilities and labels of the scenarios.

    Raises
    ------
    InputError
        As for :func:`pnl`, and for options without value now where returns are per premium.
    """
    if per not in ("premium", "notional"):
        raise InputError(f"per must be 'premium' or 'notional', was {per!r}")
    moves = _Moves(scenarios, instruments, spot, volatility, rate, dividend_yield, volatility_changes, rate_changes)
    years = checked_number(elapsed_years, "elapsed_years", least=0.0)
    market = moves.market
    value = market.greeks()["value"]
    names = pd.Index([str(label) for label in market.labels], name="asset")
    if names.has_duplicates:
        raise InputError(f"instruments have the same text: {some(names[names.duplicated()].unique())}")
    whole = market.spot[market.arrays.underlying]
    worthless = value <= 1e-12 * whole
    if per == "premium" and worthless.any():
        raise InputError(f"no return is made on what costs nothing: {some(names[worthless])}; use per='notional'")
    base = value if per == "premium" else whole
    out = np.empty((scenarios.n_scenarios, len(names)))
    with jax.enable_x64(True):
        later = market.later(years)
        for part, _, (returns, vols, rates) in moves.chunks():
            vols = None if vols is None else vols.T
            values = np.asarray(pricing.revalued(later, returns.T, vols, rates, market.spot)).T
            out[part] = (values[: part.stop - part.start] - value) / base
    frame = pd.DataFrame(out, index=scenarios.index, columns=names)
    return ScenarioSet(frame, scenarios.probabilities, horizon=scenarios.horizon)


class _Moves:
    """The market now, and how it moves in the scenarios."""

    def __init__(
        self,
        scenarios: ScenarioSet,
        instruments: Sequence[Instrument] | pd.Index,
        spot: PerAsset,
        volatility: PerAsset,
        rate: float,
        dividend_yield: PerAsset,
        volatility_changes: pd.DataFrame | pd.Series | None,
        rate_changes: pd.Series | None,
    ) -> None:
        if not isinstance(scenarios, ScenarioSet):
            raise InputError(f"scenarios must be a ScenarioSet, was {type(scenarios).__name__}")
        self.scenarios = scenarios
        self.market: Priced = priced(instruments, scenarios.assets, spot, volatility, rate, dividend_yield)
        self._columns = scenarios.assets.get_indexer(self.market.underlyings)
        self._vols = self._volatility_changes(volatility_changes)
        self._rates = self._by_scenario(rate_changes, "rate_changes")

    def _volatility_changes(self, changes: pd.DataFrame | pd.Series | None) -> FloatArray | None:
        """(S, U), or (S, 1) where all volatilities move together."""
        if not isinstance(changes, pd.DataFrame):
            shared = self._by_scenario(changes, "volatility_changes")
            return None if shared is None else shared[:, None]
        names = self.market.underlyings
        optioned = names[np.unique(np.asarray(self.market.arrays.underlying)[self.market.options])]
        missing = optioned.difference(changes.columns, sort=False)
        if len(missing):
            raise InputError(f"volatility_changes says nothing about {some(missing)}; give every underlying a column")
        return self._by_scenario(changes.reindex(columns=names, fill_value=0.0), "volatility_changes")

    def _by_scenario(self, changes: pd.Series | pd.DataFrame | None, what: str) -> FloatArray | None:
        if changes is None:
            return None
        if not isinstance(changes, pd.Series | pd.DataFrame):
            raise InputError(f"{what} must be labelled by scenario, was {type(changes).__name__}")
        if not changes.index.equals(self.scenarios.index):
            raise InputError(f"{what} is labelled differently from the scenarios; reindex it to scenarios.index")
        array = numbers(changes, what)
        bad = np.any(~np.isfinite(array.reshape(len(array), -1)), axis=1)
        if bad.any():
            raise InputError(f"{what} is not finite in scenarios {some(self.scenarios.index[bad])}")
        return array

    def chunks(self) -> Iterator[tuple[slice, int, tuple[FloatArray, FloatArray | None, FloatArray | None]]]:
        """Which scenarios, how many to work on at a time, and their moves; short chunks are filled up to one size."""
        size = rows = 0
        for part, block in self.scenarios.source.blocks():
            if not size:
                pieces = -(-len(block) // max(1, _CELLS // len(self.market.labels)))
                rows = -(-len(block) // pieces)
                size = rows * pieces
            returns = block[:, self._columns]
            if returns.min() < -1.0:
                bad = self.market.underlyings[np.any(returns < -1.0, axis=0)]
                raise InputError(f"returns below -1 leave no price to value options at: {some(bad)}")
            vols = None if self._vols is None else _filled(self._vols[part], size)
            rates = None if self._rates is None else _filled(self._rates[part], size)
            yield part, rows, (_filled(returns, size), vols, rates)


def _checked_positions(positions: Positions) -> tuple[pd.DataFrame, FloatArray]:
    if isinstance(positions, pd.DataFrame):
        frame = positions
    elif isinstance(positions, pd.Series):
        frame = positions.to_frame(positions.name if positions.name is not None else "book").T
    elif isinstance(positions, Mapping):
        frame = pd.DataFrame(
            [list(positions.values())], index=["book"], columns=pd.Index(list(positions), dtype=object)
        )
    else:
        raise InputError(
            "positions must be a mapping or Series from instrument to units, or a frame of books x instruments, was "
            f"{type(positions).__name__}"
        )
    if not len(frame):
        raise InputError("positions has no books; pass at least one row")
    if frame.index.has_duplicates:
        raise InputError(f"positions has books twice: {some(frame.index[frame.index.duplicated()].unique())}")
    units = numbers(frame, "positions")
    bad = ~np.isfinite(units)
    if bad.any():
        i, j = np.argwhere(bad)[0]
        raise InputError(f"positions is not finite for {frame.columns[j]} in {frame.index[i]!r}; write 0 for none")
    return frame, units


def _taylor(moves: _Moves, quantities: FloatArray, years: float, *, second: bool) -> tuple[FloatArray, ...]:
    """Greeks of the books by underlying: delta, gamma, vega (P, U), rho and what time brings (P,)."""
    each, of = moves.market.greeks(), np.asarray(moves.market.arrays.underlying)
    gather = np.zeros((len(of), len(moves.market.underlyings)))
    gather[np.arange(len(of)), of] = 1.0
    together = moves._vols is not None and moves._vols.shape[1] == 1

    def by_underlying(greek: FloatArray) -> FloatArray:
        return (quantities * greek) @ gather

    vega = by_underlying(each["vega"])
    if together:
        vega = vega.sum(axis=1, keepdims=True)
    gamma = by_underlying(each["gamma"]) if second else np.zeros((len(quantities), gather.shape[1]))
    return by_underlying(each["delta"]), gamma, vega, quantities @ each["rho"], quantities @ each["theta"] * years


def _cast(arrays: Any, dtype: Precision) -> Any:
    """Floating-point arrays in another precision; positions of underlyings stay as they are."""
    return jax.tree.map(lambda array: array if array.dtype.kind == "i" else array.astype(dtype), arrays)


def _filled(array: FloatArray, size: int) -> FloatArray:
    return np.pad(array, [(0, size - len(array))] + [(0, 0)] * (array.ndim - 1))

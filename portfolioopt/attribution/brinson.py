r"""Brinson attribution: which sectors were overweight, and what was held in them.

For sector weights :math:`w, v` and returns :math:`r, s` of portfolio and benchmark, and benchmark return
:math:`B = \sum_j v_j s_j`,

.. math:: \text{allocation}_j = (w_j - v_j)(s_j - B), \quad \text{selection}_j = v_j (r_j - s_j), \quad
          \text{interaction}_j = (w_j - v_j)(r_j - s_j),

which sum to the active return :math:`\sum_j w_j r_j - B` where both weights have the same sum. Brinson & Fachler
(1985), "Measuring non-US equity portfolio performance", J. Portfolio Management 11; without :math:`B` in the
allocation it is Brinson, Hood & Beebower (1986), with the same sum. Several periods are linked as in `linking`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias, get_args

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError, unknown_names
from portfolioopt.estimate.checks import checked_returns, written
from portfolioopt.labels import FloatArray, numbers, some

from .linking import Linking, check_linking, check_survival, compounded, linking_coefficients

Model: TypeAlias = Literal["fachler", "hood_beebower"]

EFFECTS = ("allocation", "selection", "interaction")


@dataclass(frozen=True, eq=False)
class Brinson:
    """Attribution of an active return; see `brinson`.

    Parameters
    ----------
    effects
        Sectors x (allocation, selection, interaction, total) over all periods; the totals sum to `active_return`.
    by_period
        The same of single periods, not linked, with an index of (period, sector); those of a period sum to its active
        return.
    periods
        By period: ``portfolio`` and ``benchmark`` return, ``active``, and the ``coefficient`` that linked it.
    portfolio_return, benchmark_return, active_return
        Compounded over the periods, and the difference of both.
    """

    effects: pd.DataFrame
    by_period: pd.DataFrame
    periods: pd.DataFrame
    portfolio_return: float
    benchmark_return: float
    active_return: float


def brinson(
    portfolio_weights: pd.DataFrame | pd.Series,
    benchmark_weights: pd.DataFrame | pd.Series,
    portfolio_returns: pd.DataFrame | pd.Series,
    benchmark_returns: pd.DataFrame | pd.Series,
    *,
    model: Model = "fachler",
    linking: Linking = "carino",
) -> Brinson:
    """Split the active return by sector into allocation, selection and interaction, over one period or more.

    Parameters
    ----------
    portfolio_weights, benchmark_weights
        At the beginning of each period, periods x sectors, or a Series by sector for one period. The weights of both
        sum to the same in every period; cash is a sector.
    portfolio_returns, benchmark_returns
        Of the sectors over each period, in the same form. NaN is allowed where a sector has no weight: it then counts
        as the return of the other, so that all of the effect is allocation. `sector_returns` makes them from assets.
    model
        ``"fachler"``, or ``"hood_beebower"``, whose allocation does not look at how the sector did beside the
        benchmark.
    linking
        ``"carino"``, ``"menchero"`` or ``"grap"``; of no effect on one period.

    Returns
    -------
    Brinson
        Whose effects sum to the active return to rounding.

    Raises
    ------
    InputError
        For labels that differ, weights that are missing or differ in their sum, returns missing where a sector has a
        weight, and a period that loses everything.
    """
    who = "brinson"
    if model not in get_args(Model):
        raise InputError(f"{who}: model must be 'fachler' or 'hood_beebower', was {model!r}")
    check_linking(linking)
    read = read_sectors(portfolio_weights, benchmark_weights, portfolio_returns, benchmark_returns, who)
    dates, sectors, w, v, r, s = read
    portfolio, benchmark = (w * r).sum(axis=1), (v * s).sum(axis=1)
    check_survival(portfolio, f"{who}: the portfolio")
    check_survival(benchmark, f"{who}: the benchmark")
    centre = benchmark[:, None] if model == "fachler" else 0.0
    effects = np.stack([(w - v) * (s - centre), v * (r - s), (w - v) * (r - s)], axis=2)
    coefficient = linking_coefficients(portfolio, benchmark, linking)
    whole, base = compounded(portfolio), compounded(benchmark)
    return Brinson(
        _with_total(pd.DataFrame(np.einsum("t,tje->je", coefficient, effects), sectors, EFFECTS)),
        _with_total(pd.DataFrame(effects.reshape(-1, len(EFFECTS)), read.labels(), EFFECTS)),
        pd.DataFrame(
            {
                "portfolio": portfolio,
                "benchmark": benchmark,
                "active": portfolio - benchmark,
                "coefficient": coefficient,
            },
            dates,
        ),
        whole,
        base,
        whole - base,
    )


def sector_returns(
    weights: pd.DataFrame, returns: pd.DataFrame, labels: pd.Series
) -> tuple[pd.DataFrame, pd.DataFrame]:
    r"""Weights and returns of sectors from those of assets.

    .. math:: w_J = \sum_{i \in J} w_i, \qquad r_J = \frac{1}{w_J} \sum_{i \in J} w_i r_i .

    Parameters
    ----------
    weights
        At the beginning of each period, periods x assets.
    returns
        Over each period, in the same form; a return may be missing where the weight is zero.
    labels
        Sector of every asset; of further ones, too.

    Returns
    -------
    Two frames, periods x sectors
        Weights, and returns: NaN where the weight is zero.

    Raises
    ------
    InputError
        For labels that differ, assets without a sector, and a sector of weight zero that is long and short at once: it
        has contributions, but no return.
    """
    who = "sector_returns"
    w = checked_returns(weights, who, rows=1, what="weights")
    _check_labels(returns, weights.index, weights.columns, f"{who}: returns")
    if not isinstance(labels, pd.Series) or labels.index.has_duplicates:
        raise InputError(f"{who}: labels must be a Series with one sector for each asset")
    absent = weights.columns[~weights.columns.isin(labels.dropna().index)]
    if len(absent):
        raise InputError(f"{who}: labels says nothing about {some(absent)}; give every asset a sector")
    r = _numbers(returns.loc[weights.index, weights.columns], w, "returns", weights.index, weights.columns)
    own = pd.Index(labels.loc[weights.columns])
    sectors = own.unique()
    member = (own.to_numpy()[:, None] == sectors.to_numpy()[None, :]).astype(np.float64)
    total, earned, gross = w @ member, (w * r) @ member, np.abs(w) @ member
    none = np.abs(total) <= 1e-14 * gross
    if (none & (gross > 0.0)).any():
        at, column = np.argwhere(none & (gross > 0.0))[0]
        raise InputError(
            f"{who}: the positions of {sectors[column]!r} cancel on {written(weights.index[at])}, and it has "
            "no return; split it in two, long and short"
        )
    ratio = np.divide(earned, total, out=np.full_like(total, np.nan), where=~none)
    frame = pd.DataFrame(total, weights.index, sectors.rename("sector"))
    return frame, pd.DataFrame(ratio, frame.index, frame.columns)


class Sectors(NamedTuple):
    """Weights w, v and returns r, s of portfolio and benchmark (T, J), all checked."""

    dates: pd.Index
    sectors: pd.Index
    w: FloatArray
    v: FloatArray
    r: FloatArray
    s: FloatArray

    def labels(self) -> pd.MultiIndex:
        """Of (period, sector)."""
        names = [self.dates.name or "period", self.sectors.name or "sector"]
        return pd.MultiIndex.from_product([self.dates, self.sectors], names=names)


def read_sectors(
    portfolio_weights: pd.DataFrame | pd.Series,
    benchmark_weights: pd.DataFrame | pd.Series,
    portfolio_returns: pd.DataFrame | pd.Series,
    benchmark_returns: pd.DataFrame | pd.Series,
    who: str,
) -> Sectors:
    """The input of `brinson`: same labels, weights that sum to the same, a return wherever there is a weight."""
    given = {
        "portfolio_weights": _framed(portfolio_weights, f"{who}: portfolio_weights"),
        "benchmark_weights": _framed(benchmark_weights, f"{who}: benchmark_weights"),
        "portfolio_returns": _framed(portfolio_returns, f"{who}: portfolio_returns"),
        "benchmark_returns": _framed(benchmark_returns, f"{who}: benchmark_returns"),
    }
    first = given["portfolio_weights"]
    dates, sectors = first.index, first.columns
    for what, frame in given.items():
        _check_labels(frame, dates, sectors, f"{who}: {what}")
    w = checked_returns(first, who, rows=1, what="portfolio_weights")
    v = checked_returns(given["benchmark_weights"].loc[dates, sectors], who, rows=1, what="benchmark_weights")
    uneven = np.abs(w.sum(axis=1) - v.sum(axis=1)) > 1e-9
    if uneven.any():
        at = int(np.flatnonzero(uneven)[0])
        raise InputError(
            f"{who}: on {written(dates[at])} the weights of the portfolio sum to {w[at].sum():.9g} and those of the "
            f"benchmark to {v[at].sum():.9g}; give cash a sector of its own"
        )
    r, s = _returns(given["portfolio_returns"], given["benchmark_returns"], w, v, dates, sectors)
    return Sectors(dates, sectors, w, v, r, s)


def _returns(
    portfolio: pd.DataFrame,
    benchmark: pd.DataFrame,
    w: FloatArray,
    v: FloatArray,
    dates: pd.Index,
    sectors: pd.Index,
) -> tuple[FloatArray, FloatArray]:
    r = _numbers(portfolio.loc[dates, sectors], w, "portfolio_returns", dates, sectors, fill=False)
    s = _numbers(benchmark.loc[dates, sectors], v, "benchmark_returns", dates, sectors, fill=False)
    r, s = np.where(np.isnan(r), s, r), np.where(np.isnan(s), r, s)
    return np.nan_to_num(r), np.nan_to_num(s)


def _numbers(
    frame: pd.DataFrame, weights: FloatArray, what: str, dates: pd.Index, labels: pd.Index, *, fill: bool = True
) -> FloatArray:
    """Returns, of which those with a weight must be there."""
    values = numbers(frame, what)
    bad = np.isinf(values) | (np.isnan(values) & (weights != 0.0))
    if bad.any():
        at, column = np.argwhere(bad)[0]
        raise InputError(f"{what} is missing or infinite for {labels[column]} on {written(dates[at])}")
    return np.nan_to_num(values) if fill else values


def _framed(given: pd.DataFrame | pd.Series, what: str) -> pd.DataFrame:
    if isinstance(given, pd.Series):
        return given.to_frame(0).T
    if not isinstance(given, pd.DataFrame):
        raise InputError(f"{what} must be a frame of periods x sectors, was {type(given).__name__}")
    return given


def _check_labels(frame: pd.DataFrame, dates: pd.Index, columns: pd.Index, what: str) -> None:
    for axis, kind in ((frame.index, "period"), (frame.columns, "column")):
        if axis.has_duplicates:
            raise InputError(f"{what} has {kind} {some(axis[axis.duplicated()].unique())} twice")
    unknown = frame.columns.difference(columns, sort=False)
    if len(unknown):
        raise unknown_names(f"column in {what}", unknown, columns)
    for own, needed, kind in ((frame.index, dates, "period"), (frame.columns, columns, "column")):
        missing = needed.difference(own, sort=False)
        if len(missing):
            raise InputError(f"{what} has no {kind} {some(missing)}")


def _with_total(effects: pd.DataFrame) -> pd.DataFrame:
    return effects.assign(total=effects.sum(axis=1))

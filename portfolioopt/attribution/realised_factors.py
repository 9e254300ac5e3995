r"""Where a realised return came from by factor: :math:`r_{ti} = \sum_k b_{tik} f_{tk} + e_{ti}`.

A portfolio of weights w at the beginning of period t has exposures :math:`x_{tk} = \sum_i w_{ti} b_{tik}`, and earns

.. math:: R_t = \underbrace{\sum_k x_{tk} f_{tk}}_{\text{factors}} + \underbrace{\sum_i w_{ti} e_{ti}}_{\text{specific}}
          + \underbrace{\Big(1 - \sum_i w_{ti}\Big) c_t}_{\text{cash}} - \underbrace{\text{costs}_t} ,

with the return c of cash. Where the exposures are those of returns in excess of cash, as of a regression with a
risk-free rate, :math:`r_{ti} = c_t + \sum_k b_{tik} f_{tk} + e_{ti}`, every part of the book earns c: the cash part is
:math:`c_t`. Against a benchmark of weights v, each part is that of w less that of v. Several periods are linked as in
`linking`, against a benchmark return of zero where there is no benchmark.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError, unknown_names
from portfolioopt.estimate.checks import checked_returns, checked_series, written
from portfolioopt.labels import FloatArray, numbers, some

from .factors import SPECIFIC
from .linking import Linking, check_linking, check_survival, compounded, linking_coefficients
from .realised import cost_parts
from .regression import ALPHA, FactorRegression, RollingFactorRegression

CASH = "cash"


@dataclass(frozen=True, eq=False)
class RealisedFactors:
    """Contributions of factors to a realised return; see `realised_factors`.

    Parameters
    ----------
    contributions
        By factor, ``specific``, ``cash`` and cost; they sum to `active_return`.
    by_period
        The same of single periods, not linked, periods x parts; rows sum to the active return of the period.
    exposures
        Periods x factors, against the benchmark's where there is one.
    specific
        Contribution of what is specific to each asset, periods x assets, not linked.
    periods
        By period: ``portfolio`` (after costs) and ``benchmark`` return, ``active``, and the ``coefficient`` that linked
        it.
    portfolio_return, benchmark_return, active_return
        Compounded, and the difference of both; without a benchmark its return is zero.
    """

    contributions: pd.Series
    by_period: pd.DataFrame
    exposures: pd.DataFrame
    specific: pd.DataFrame
    periods: pd.DataFrame
    portfolio_return: float
    benchmark_return: float
    active_return: float


def realised_factors(
    weights: pd.DataFrame,
    returns: pd.DataFrame,
    exposures: pd.DataFrame | FactorRegression | RollingFactorRegression,
    factor_returns: pd.DataFrame,
    *,
    benchmark: pd.DataFrame | None = None,
    cash: pd.Series | None = None,
    excess: bool = False,
    costs: pd.Series | pd.DataFrame | None = None,
    linking: Linking = "carino",
) -> RealisedFactors:
    """Split what a portfolio earned, or earned more than a benchmark, by factor.

    Parameters
    ----------
    weights
        Fractions of NAV at the beginning of each period, after trading: T x N, in order of time. What they leave of one
        is cash.
    returns
        Simple returns of assets over the same periods; one may be missing where the weight is zero. Further rows and
        columns are not looked at.
    exposures
        Returns per unit of factor: N x K for all periods; a frame with an index of (period, asset) for exposures that
        change, those at the beginning of each period; a `FactorRegression`; or a `RollingFactorRegression`, of which
        the last window that ended before each period is taken. The alpha of a regression is specific.
    factor_returns
        T x K over the same periods, by the names of the factors.
    benchmark
        Its weights, T x assets, not necessarily the same ones; it pays no costs. None to split the whole return.
    cash
        Return of cash by period, earned on what the weights leave of one, and paid where they sum to more. None for
        nothing.
    excess
        Whether the exposures are those of returns in excess of `cash`.
    costs
        As for `realised_contributions`.
    linking
        ``"carino"``, ``"menchero"`` or ``"grap"``. Without a benchmark the latter is the money that was made per unit
        of initial NAV.

    Raises
    ------
    InputError
        For labels that do not match, what is missing or infinite where there is a weight, factors that are called like
        another part, and a period that loses everything.
    """
    who = "realised_factors"
    check_linking(linking)
    w, v, dates, assets = _weights(weights, benchmark, who)
    held = (w != 0.0) | (v != 0.0)
    r = _on(returns, dates, assets, held, f"{who}: returns")
    f, factors = _factor_returns(factor_returns, dates, who)
    b = _exposures(exposures, dates, assets, factors, held, who)
    rate = np.zeros(len(dates)) if cash is None else _rate(cash, dates, who)
    if excess and cash is None:
        raise InputError(f"{who}: excess=True needs the return of cash that the returns exceed; pass cash=...")

    d = w - v
    x = np.einsum("tn,tnk->tk", d, b)
    base = rate[:, None] if excess else 0.0
    specific = d * (r - np.einsum("tnk,tk->tn", b, f) - base)
    # in excess of cash all of NAV earns it, in the portfolio as in the benchmark
    idle = 1.0 - w.sum(axis=1) if benchmark is None else v.sum(axis=1) - w.sum(axis=1)
    invested = d.sum(axis=1) if excess else 0.0
    parts = pd.DataFrame(
        np.column_stack([x * f, specific.sum(axis=1), (idle + invested) * rate]), dates, [*factors, SPECIFIC, CASH]
    )
    if costs is not None:
        parts = pd.concat([parts, -cost_parts(costs, dates, parts.columns, who)], axis=1)
    active = parts.to_numpy().sum(axis=1)
    if benchmark is None:
        other = np.zeros(len(dates))
    else:
        other = (v * r).sum(axis=1) + (1.0 - v.sum(axis=1)) * rate
    portfolio = other + active
    check_survival(portfolio, f"{who}: the portfolio")
    check_survival(other, f"{who}: the benchmark")
    coefficient = linking_coefficients(portfolio, other, linking)
    whole, beside = compounded(portfolio), compounded(other)
    return RealisedFactors(
        pd.Series(coefficient @ parts.to_numpy(), parts.columns, name="contribution"),
        parts,
        pd.DataFrame(x, dates, factors),
        pd.DataFrame(specific, dates, assets),
        pd.DataFrame({"portfolio": portfolio, "benchmark": other, "active": active, "coefficient": coefficient}, dates),
        whole,
        beside,
        whole - beside,
    )


def _weights(
    weights: pd.DataFrame, benchmark: pd.DataFrame | None, who: str
) -> tuple[FloatArray, FloatArray, pd.Index, pd.Index]:
    """Weights of both (T, N) over the assets of both, the periods and the assets."""
    w = checked_returns(weights, who, rows=1, what="weights")
    dates, assets = weights.index, weights.columns
    if benchmark is None:
        return w, np.zeros_like(w), dates, assets
    checked_returns(benchmark, who, rows=1, what="benchmark")
    absent = dates.difference(benchmark.index, sort=False)
    if len(absent):
        raise InputError(f"{who}: benchmark has no weights for {some(absent)}")
    both = assets.append(benchmark.columns.difference(assets, sort=False))
    frames = (weights, benchmark.loc[dates])
    w, v = (frame.reindex(columns=both, fill_value=0.0).to_numpy(dtype=np.float64) for frame in frames)
    return w, v, dates, both


def _on(frame: pd.DataFrame, dates: pd.Index, assets: pd.Index, needed: np.ndarray, what: str) -> FloatArray:
    """Numbers (T, N), there and finite where needed, zero where not."""
    if not isinstance(frame, pd.DataFrame):
        raise InputError(f"{what} must be a frame of periods x assets, was {type(frame).__name__}")
    if frame.index.has_duplicates or frame.columns.has_duplicates:
        raise InputError(f"{what} has duplicate periods or assets; keep one of each")
    unknown = assets.difference(frame.columns, sort=False)
    if len(unknown):
        raise unknown_names("asset in weights", unknown, frame.columns)
    absent = dates.difference(frame.index, sort=False)
    if len(absent):
        raise InputError(f"{what} has no row for {some(absent)}")
    values = numbers(frame.loc[dates, assets], what)
    bad = needed & ~np.isfinite(values)
    if bad.any():
        at, column = np.argwhere(bad)[0]
        raise InputError(f"{what} is missing or infinite for {assets[column]} on {written(dates[at])}")
    return np.where(needed, values, 0.0)


def _factor_returns(factor_returns: pd.DataFrame, dates: pd.Index, who: str) -> tuple[FloatArray, pd.Index]:
    if not isinstance(factor_returns, pd.DataFrame):
        raise InputError(f"{who}: factor_returns must be a frame of periods x factors, was {factor_returns!r:.80}")
    factors = factor_returns.columns
    for name in (SPECIFIC, CASH):
        if name in factors:
            raise InputError(f"{who}: a factor is called {name!r}, as is another part of the return; rename it")
    if factor_returns.index.has_duplicates:
        raise InputError(f"{who}: factor_returns has duplicate periods; keep one of each")
    absent = dates.difference(factor_returns.index, sort=False)
    if len(absent):
        raise InputError(f"{who}: factor_returns has no row for {some(absent)}")
    return checked_returns(factor_returns.loc[dates], who, rows=1, what="factor_returns"), factors


def _exposures(
    given: pd.DataFrame | FactorRegression | RollingFactorRegression,
    dates: pd.Index,
    assets: pd.Index,
    factors: pd.Index,
    needed: np.ndarray,
    who: str,
) -> FloatArray:
    """B (T, N, K), there and finite where needed, zero where not."""
    if isinstance(given, FactorRegression):
        frame = given.coefficients.drop(columns=ALPHA)
    elif isinstance(given, RollingFactorRegression):
        frame = _known(given.coefficients.drop(columns=ALPHA), dates, who)
    elif isinstance(given, pd.DataFrame):
        frame = given
    else:
        raise InputError(
            f"{who}: exposures must be a frame by asset and factor, or a factor regression, was {type(given).__name__}"
        )
    for axis in (frame.index, frame.columns):
        if axis.has_duplicates:
            raise InputError(f"{who}: exposures names {some(axis[axis.duplicated()].unique())} twice")
    unknown = frame.columns.difference(factors, sort=False)
    if len(unknown):
        raise unknown_names("factor in exposures", unknown, factors)
    missing = factors.difference(frame.columns, sort=False)
    if len(missing):
        raise InputError(f"{who}: exposures has no column for the factor {some(missing)}")
    count, n, k = len(dates), len(assets), len(factors)
    if frame.index.nlevels == 2:
        wanted = pd.MultiIndex.from_product([dates, assets])
        values = numbers(frame[factors].reindex(wanted), f"{who}: exposures").reshape(count, n, k)
    else:
        values = np.broadcast_to(numbers(frame[factors].reindex(assets), f"{who}: exposures"), (count, n, k))
    bad = needed & ~np.isfinite(values).all(axis=2)
    if bad.any():
        at, column = np.argwhere(bad)[0]
        raise InputError(
            f"{who}: exposures is missing or infinite for {assets[column]} on {written(dates[at])}, where it is held"
        )
    return np.where(needed[:, :, None], values, 0.0)


def _known(coefficients: pd.DataFrame, dates: pd.Index, who: str) -> pd.DataFrame:
    """For each period the exposures of the last window that ended before it, by (period, asset)."""
    ends = coefficients.index.unique(level=0)
    try:
        place = ends.searchsorted(dates, side="left") - 1
    except TypeError as error:
        raise InputError(f"{who}: the windows of the regression and the weights have dates of two kinds") from error
    if (place < 0).any():
        first = dates[int(np.flatnonzero(place < 0)[0])]
        raise InputError(
            f"{who}: no window of the regression ended before {written(first)}; the first one ends on "
            f"{written(ends[0])}"
        )
    windows = {end: frame.droplevel(0) for end, frame in coefficients.groupby(level=0)}
    return pd.concat([windows[end] for end in ends[place]], keys=dates)


def _rate(cash: pd.Series, dates: pd.Index, who: str) -> FloatArray:
    if not isinstance(cash, pd.Series):
        raise InputError(f"{who}: cash must be a Series of its return by period, was {type(cash).__name__}")
    if cash.index.has_duplicates:
        raise InputError(f"{who}: cash has duplicate periods; keep one of each")
    absent = dates.difference(cash.index, sort=False)
    if len(absent):
        raise InputError(f"{who}: cash has no return for {some(absent)}")
    return checked_series(cash.loc[dates], who, rows=1, what="cash")

r"""Performance of runs: return, risk, drawdowns, tails, trading, and against a benchmark.

The definitions are in `METRICS` (:mod:`portfolioopt.backtest.metric_table`); what all of them share: returns are simple
per period, P periods make a year, dispersion divides by T - 1, the risk-free rate is taken off for whatever is
called excess, losses and drawdowns are positive, nothing is in per cent, and a ratio with a denominator of zero is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import overload

import numpy as np
import pandas as pd
from scipy.special import ndtr

from portfolioopt.confidence import NeweyWest
from portfolioopt.errors import InputError, unknown_names
from portfolioopt.estimate.checks import checked_count
from portfolioopt.labels import FloatArray, checked_number
from portfolioopt.scenarios.tail import check_beta

from .drawdowns import depths, longest
from .metric_inputs import Runs, by_date, by_run, check_losses, checked_runs, per_period
from .metric_table import METRICS
from .sharpe import moments, standard_errors, varies

_CELLS = 1 << 20  # returns worked on at a time: 8 MiB for each array of them
_ROLLING = ("cagr", "volatility", "sharpe", "max_drawdown")


@overload
def performance(
    returns: pd.Series,
    *,
    benchmark: pd.Series | None = ...,
    risk_free: float | pd.Series = ...,
    periods_per_year: float = ...,
    turnover: pd.Series | None = ...,
    costs: pd.Series | None = ...,
    beta: float = ...,
) -> pd.Series: ...
@overload
def performance(
    returns: pd.DataFrame,
    *,
    benchmark: pd.Series | None = ...,
    risk_free: float | pd.Series = ...,
    periods_per_year: float = ...,
    turnover: pd.DataFrame | None = ...,
    costs: pd.DataFrame | None = ...,
    beta: float = ...,
) -> pd.DataFrame: ...
def performance(
    returns: pd.Series | pd.DataFrame,
    *,
    benchmark: pd.Series | None = None,
    risk_free: float | pd.Series = 0.0,
    periods_per_year: float = 252.0,
    turnover: pd.Series | pd.DataFrame | None = None,
    costs: pd.Series | pd.DataFrame | None = None,
    beta: float = 0.95,
) -> pd.Series | pd.DataFrame:
    """What is to be said of a run in numbers, or of many runs over the same periods at once.

    Parameters
    ----------
    returns
        Simple returns per period after costs, as fractions: one run (T,), or periods x runs (T x R). A row that is no
        return, such as the first day of a book, should be left out: it counts as a period.
    benchmark
        Simple returns per period with a value on every date of `returns`.
    risk_free
        Simple rate per year, of which each period has the P-th part, or rates per period with a value on every date.
    periods_per_year
        P: 252 for daily, 52 for weekly, 12 for monthly returns.
    turnover
        Traded value of each period, purchases plus sales (L1), as a fraction of NAV: like `returns`.
    costs
        Paid in each period, as a fraction of the NAV at the end of the period before, so that ``returns + costs`` are
        the returns before costs; negative where money came in (rebates): like `returns`.
    beta
        Confidence level of VaR, CVaR and conditional drawdown at risk.

    Returns
    -------
    Series of metrics, or DataFrame of runs x metrics
        Named and in the order of `METRICS`, without those whose argument was not given. One period is enough for
        returns and drawdowns; what needs two (dispersion) or three (errors of the Sharpe ratio) is NaN below that.
        After a return of -1 the worth is zero: total return and growth are -1, the drawdown is 1.

    Raises
    ------
    InputError
        For no periods, missing or infinite numbers (naming them), returns below -1 or too large to compound, dates
        repeated, out of order or without a value in the other series, negative turnover, and settings out of range.
    """
    who = "performance"
    year = checked_number(periods_per_year, f"{who}: periods_per_year", above=0.0)
    level = check_beta(beta)
    runs = checked_runs(returns, who)
    free = per_period(risk_free, runs.dates, year, who)
    index = None if benchmark is None else _benchmark(benchmark, runs, who)
    traded = None if turnover is None else by_run(turnover, runs, who, "turnover")
    if traded is not None and (traded < 0.0).any():
        raise InputError(f"{who}: turnover must not be negative, was {traded.min():g}; it is what was bought plus sold")
    paid = None if costs is None else by_run(costs, runs, who, "costs")

    parts = []
    step = max(1, _CELLS // len(runs.dates))
    for first in range(0, len(runs.names), step):
        part = slice(first, first + step)
        found = _measured(runs.matrix[part], free, year, level, who)
        if traded is not None or paid is not None:
            used = None if traded is None else traded[part]
            found |= _trading(runs.matrix[part], free, used, None if paid is None else paid[part], year)
        if index is not None:
            found |= _relative(runs.matrix[part], free, index, year)
        parts.append(found)
    columns = {name: np.concatenate([part[name] for part in parts]) for name in METRICS if name in parts[0]}
    frame = runs.labelled(columns)
    if runs.single:
        series = frame.iloc[0]
        series.name = returns.name if isinstance(returns, pd.Series) else None
        return series
    return frame


def monthly_returns(returns: pd.Series) -> pd.DataFrame:
    """Compounded returns by calendar year and month, and of every year.

    Parameters
    ----------
    returns
        Simple returns per period, at most a month long, by timestamp of their end.

    Returns
    -------
    DataFrame
        Years x (1, ..., 12, ``"year"``), fractions, NaN for months without a period. The last column compounds the
        periods of that year there are, so that the first and the last year may be parts of one.
    """
    who = "monthly_returns"
    if not isinstance(returns, pd.Series):
        raise InputError(f"{who}: returns must be a Series by period, was {type(returns).__name__}")
    checked_runs(returns, who)
    dates = returns.index
    if not isinstance(dates, pd.DatetimeIndex):
        raise InputError(f"{who}: returns must be indexed by timestamps, not by {dates.dtype}")
    growth = pd.Series(1.0 + returns.to_numpy(dtype=np.float64), index=dates)
    whole = pd.RangeIndex(int(dates[0].year), int(dates[-1].year) + 1, name="year")
    columns: dict[int | str, pd.Series] = {
        month: growth[dates.month == month].groupby(dates.year[dates.month == month]).prod() - 1.0
        for month in range(1, 13)
    }
    columns["year"] = growth.groupby(dates.year).prod() - 1.0
    return pd.DataFrame({name: column.reindex(whole) for name, column in columns.items()}, index=whole)


def rolling_performance(
    returns: pd.Series,
    window: int,
    *,
    metrics: Sequence[str] | None = None,
    benchmark: pd.Series | None = None,
    risk_free: float | pd.Series = 0.0,
    periods_per_year: float = 252.0,
    beta: float = 0.95,
) -> pd.DataFrame:
    """The numbers of `performance` over every window of so many periods, by the date on which it ends.

    Parameters
    ----------
    returns
        Simple returns per period of one run (T,).
    window
        Periods in a window, from 2 to T.
    metrics
        Names from `METRICS`; growth rate, volatility, Sharpe ratio and deepest drawdown where None, and beta with a
        benchmark. Drawdowns begin with their window.
    benchmark, risk_free, periods_per_year, beta
        As in `performance`.

    Returns
    -------
    DataFrame, (T - window + 1) x metrics
        Each window by itself: no earlier and no later period has any influence, not even by rounding.
    """
    who = "rolling_performance"
    year = checked_number(periods_per_year, f"{who}: periods_per_year", above=0.0)
    level = check_beta(beta)
    if not isinstance(returns, pd.Series):
        raise InputError(f"{who}: returns must be a Series by period, was {type(returns).__name__}")
    length = checked_count(window, f"{who}: window", least=2)
    runs = checked_runs(returns, who, rows=length)
    free = per_period(risk_free, runs.dates, year, who)
    index = None if benchmark is None else _benchmark(benchmark, runs, who)
    names = [*_ROLLING, *(["beta_to_benchmark"] if benchmark is not None else [])] if metrics is None else [*metrics]
    possible = [m.name for m in METRICS.values() if not m.needs or (m.needs == "benchmark" and index is not None)]
    unknown = [name for name in names if name not in possible]
    if unknown:
        raise unknown_names("metric", unknown, possible)

    windows = np.lib.stride_tricks.sliding_window_view
    own, rate = windows(runs.matrix[0], length), windows(free, length)
    other = None if index is None else windows(index, length)
    parts = []
    step = max(1, _CELLS // length)
    for first in range(0, len(own), step):
        part = slice(first, first + step)
        found = _measured(np.ascontiguousarray(own[part]), rate[part], year, level, who)
        if other is not None:
            found |= _relative(own[part], rate[part], other[part], year)
        parts.append(found)
    columns = {name: np.concatenate([part[name] for part in parts]) for name in names}
    return pd.DataFrame(columns, index=runs.dates[length - 1 :])


def _benchmark(benchmark: pd.Series, runs: Runs, who: str) -> FloatArray:
    values = by_date(benchmark, runs.dates, who, "benchmark")
    check_losses(values[:, None], runs.dates, who, "benchmark returns")
    return values


def _measured(r: FloatArray, free: FloatArray, year: float, level: float, who: str) -> dict[str, FloatArray]:
    """What takes the returns (R, T) and the risk-free rates (T,) or (R, T) alone, by run (R,)."""
    runs, count = r.shape
    with np.errstate(over="ignore"):
        worth: FloatArray = np.cumprod(1.0 + r, axis=1, dtype=np.float64)
    if not np.isfinite(worth).all():
        raise InputError(f"{who}: returns are too large to be compounded; are they prices or per cent?")
    growth = worth[:, -1] ** (year / count) - 1.0
    down = depths(worth)
    deepest = down.max(axis=1)
    below, ordered = np.sort(-down, axis=1), np.sort(r, axis=1)
    x = r - free
    mean = x.mean(axis=1)
    own = moments(r, r)
    over = moments(x, r)
    sharpe, error = math.sqrt(year) * over.sharpe, math.sqrt(year) * standard_errors(over, None)
    robust = math.sqrt(year) * standard_errors(over, NeweyWest()) if count >= 3 else np.full(runs, np.nan)
    downside = np.sqrt(year * np.mean(np.minimum(x, 0.0) ** 2, axis=1))
    gains, losses = np.maximum(r, 0.0).sum(axis=1), np.maximum(-r, 0.0).sum(axis=1)
    wins, defeats = (r > 0.0).sum(axis=1), (r < 0.0).sum(axis=1)
    var, cvar = _tails(ordered, level)
    upper, lower = _interpolated(ordered, 0.95), _interpolated(ordered, 0.05)
    return {
        "periods": np.full(runs, float(count)),
        "years": np.full(runs, count / year),
        "total_return": worth[:, -1] - 1.0,
        "cagr": growth,
        "volatility": math.sqrt(year) * _deviation(r, r),
        "downside_deviation": downside,
        "sharpe": sharpe,
        "sharpe_standard_error": error,
        "sharpe_standard_error_hac": robust,
        "probabilistic_sharpe": ndtr(sharpe / error),
        "sortino": _ratio(year * mean, downside),
        "calmar": _ratio(growth, deepest),
        "omega": _ratio(np.maximum(x, 0.0).sum(axis=1), np.maximum(-x, 0.0).sum(axis=1)),
        "max_drawdown": deepest,
        "average_drawdown": down.mean(axis=1),
        "longest_drawdown": longest(down),
        "ulcer_index": np.sqrt(np.mean(down**2, axis=1)),
        "conditional_drawdown_at_risk": _tails(below, level)[1],
        "var": var,
        "cvar": cvar,
        "skewness": own.skewness,
        "excess_kurtosis": own.kurtosis - 3.0,
        "best_period": ordered[:, -1],
        "worst_period": ordered[:, 0],
        "hit_rate": wins / count,
        "gain_to_pain": _ratio(r.sum(axis=1), losses),
        "profit_factor": _ratio(gains, losses),
        "payoff_ratio": _ratio(_ratio(gains, wins), _ratio(losses, defeats)),
        "tail_ratio": _ratio(np.abs(upper), np.abs(lower)),
    }


def _trading(
    r: FloatArray, free: FloatArray, traded: FloatArray | None, paid: FloatArray | None, year: float
) -> dict[str, FloatArray]:
    """What turnover and costs (R, T) say, by run (R,)."""
    found = {}
    before = r if paid is None else r + paid
    if traded is not None:
        used = traded.mean(axis=1)
        found["turnover_l1"] = year * used
        found["turnover_one_way"] = 0.5 * year * used
        found["breakeven_cost"] = _ratio((before - free).mean(axis=1), used)
    if paid is not None:
        found["cost_per_year"] = year * paid.mean(axis=1)
        found["cost_drag"] = _growth(before, year) - _growth(r, year)
    return found


def _relative(r: FloatArray, free: FloatArray, b: FloatArray, year: float) -> dict[str, FloatArray]:
    """What compares returns (R, T) with a benchmark's (T,) or (R, T), by run (R,)."""
    x, y, active = r - free, np.broadcast_to(b - free, r.shape), r - b
    b = np.broadcast_to(b, r.shape)
    dx, dy = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    own, other = np.sqrt(np.mean(dx**2, axis=1)), np.sqrt(np.mean(dy**2, axis=1))
    own, other = np.where(varies(own, r), own, 0.0), np.where(varies(other, b), other, 0.0)
    joint = np.mean(dx * dy, axis=1)
    beta = _ratio(joint, other**2)
    error = math.sqrt(year) * _deviation(active, np.maximum(np.abs(r), np.abs(b)))
    return {
        "alpha": year * (x.mean(axis=1) - beta * y.mean(axis=1)),
        "beta_to_benchmark": beta,
        "correlation": np.clip(_ratio(joint, own * other), -1.0, 1.0),
        "tracking_error": error,
        "information_ratio": _ratio(year * active.mean(axis=1), error),
        "up_capture": _ratio(_geometric_mean(r, b > 0.0), _geometric_mean(b, b > 0.0)),
        "down_capture": _ratio(_geometric_mean(r, b < 0.0), _geometric_mean(b, b < 0.0)),
        "active_hit_rate": (r > b).mean(axis=1),
        "excess_cagr": _growth(r, year) - _growth(b, year),
    }


def _growth(r: FloatArray, year: float) -> FloatArray:
    """Compound annual growth rate (R,)."""
    return np.prod(1.0 + r, axis=1) ** (year / r.shape[1]) - 1.0


def _geometric_mean(r: FloatArray, where: np.ndarray) -> FloatArray:
    """Geometric mean of the returns (R, T) at some periods (R, T), NaN without any."""
    with np.errstate(divide="ignore"):  # a total loss
        logs = np.where(where, np.log1p(r), 0.0)
    return np.expm1(_ratio(logs.sum(axis=1), where.sum(axis=1)))


def _deviation(values: FloatArray, made_from: FloatArray) -> FloatArray:
    """Standard deviation with ddof 1 (R,), zero where it is no more than rounding, NaN for a single period."""
    count = values.shape[1]
    if count < 2:
        return np.full(len(values), np.nan)
    found = values.std(axis=1, ddof=1)
    return np.where(varies(found, made_from), found, 0.0)


def _tails(ordered: FloatArray, level: float) -> tuple[FloatArray, FloatArray]:
    """VaR and CVaR of equally likely gains (R, T) in increasing order, as `scenarios.tail.tail` has them."""
    count = ordered.shape[1]
    held = (1.0 - level) * count  # periods in the tail, not a whole number of them
    edge = min(max(math.ceil(held * (1.0 - 1e-12)), 1), count) - 1
    var = 0.0 - ordered[:, edge]
    return var, var + (-ordered[:, :edge] - var[:, None]).sum(axis=1) / held


def _interpolated(ordered: FloatArray, level: float) -> FloatArray:
    """Quantile of rows in increasing order (R, T) by linear interpolation."""
    place = level * (ordered.shape[1] - 1)
    low = int(place)
    high = min(low + 1, ordered.shape[1] - 1)
    return ordered[:, low] + (place - low) * (ordered[:, high] - ordered[:, low])


def _ratio(above: FloatArray, below: FloatArray) -> FloatArray:
    """Quotient, NaN where the denominator is zero."""
    found = np.full(np.shape(above), np.nan)
    np.divide(above, below, out=found, where=np.asarray(below) != 0.0)
    return found

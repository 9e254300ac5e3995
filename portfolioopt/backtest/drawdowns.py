r"""Drawdowns: how far below its highest worth so far a run is, and for how long.

.. math:: d_t = 1 - \frac{V_t}{\max_{s \le t} V_s}, \qquad V_t = \prod_{s \le t} (1 + r_s), \quad V_0 = 1 .

They are fractions of the peak, positive where below it. A worth within 1e-12 of the peak is at it: compounding returns
that came from prices does not bring back the last digits.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.estimate.checks import checked_count, checked_series
from portfolioopt.labels import FloatArray

from .metric_inputs import checked_runs

IntArray = npt.NDArray[np.int64]

_SAME = 1e-12  # a worth this close to its peak is at it


def depths(worth: npt.NDArray[np.floating], *, start: float | None = 1.0) -> FloatArray:
    """Drawdowns (R, T) of compounded worth (R, T); `start` is the worth before the first period, None: not known."""
    peak = np.maximum.accumulate(worth, axis=-1)
    if start is not None:
        np.maximum(peak, start, out=peak)
    found = 1.0 - worth / peak
    return np.where(found <= _SAME, 0.0, found)


def longest(below: FloatArray) -> FloatArray:
    """The longest run of periods with a drawdown, for each run (R,)."""
    place = np.arange(below.shape[-1])
    last_peak = np.maximum.accumulate(np.where(below > 0.0, -1, place), axis=-1)
    return (place - last_peak).max(axis=-1).astype(np.float64)


def drawdown(returns: pd.Series | None = None, *, nav: pd.Series | None = None) -> pd.Series:
    r"""The drawdown at every period, :math:`d_t` as a positive fraction of the highest worth so far.

    Parameters
    ----------
    returns
        Simple returns per period; the worth before the first of them is the first peak.
    nav
        Worth by date, positive, in their place; its first value is the first peak. Money paid in or out would count as
        a gain or loss: for a book with flows pass its returns.

    Raises
    ------
    InputError
        Unless one of the two is given, and for missing, infinite or impossible numbers, and dates out of order.
    """
    if (returns is None) == (nav is None):
        raise InputError("drawdown needs returns or nav, and only one of them")
    if nav is not None:
        worth = checked_series(nav, "drawdown", rows=1, what="nav")
        if (worth <= 0.0).any():
            raise InputError(f"drawdown: nav must be positive, was {worth.min():g}")
        found, index, name = depths(worth[None, :], start=None), nav.index, nav.name
    else:
        assert returns is not None
        if isinstance(returns, pd.DataFrame):
            raise InputError("drawdown: returns must be a Series by period, was DataFrame; pass one column of it")
        runs = checked_runs(returns, "drawdown")
        found, index, name = depths(np.cumprod(1.0 + runs.matrix, axis=1)), returns.index, returns.name
    return pd.Series(found[0], index=index, name=name)


def drawdown_table(returns: pd.Series, top: int = 10) -> pd.DataFrame:
    """The deepest drawdowns, one row for each from the deepest on.

    Parameters
    ----------
    returns
        Simple returns per period.
    top
        How many rows at most.

    Returns
    -------
    DataFrame
        By rank from 1: ``peak`` (last period at the highest worth; missing where that is before the first period),
        ``trough`` (first period at the lowest), ``recovery`` (first period at the old peak again; missing where there
        is none yet), ``depth`` (fraction), ``periods`` (from the peak to the recovery, or to the last period), of them
        ``to_trough``, and ``days``, the calendar days that they span, NaN where an end is not a known date.
    """
    who = "drawdown_table"
    count = checked_count(top, f"{who}: top", least=1)
    below = drawdown(returns).to_numpy()
    dates = returns.index
    first, end = _episodes(below)
    trough = np.array([a + int(np.argmax(below[a:b])) for a, b in zip(first, end, strict=True)], dtype=np.int64)
    depth = below[trough]
    order = np.argsort(-depth, kind="stable")[:count]
    first, end, trough, depth = first[order], end[order], trough[order], depth[order]

    peak, recovery = _labels(dates, first - 1), _labels(dates, end)
    until = np.minimum(end, len(below) - 1)
    if isinstance(dates, pd.DatetimeIndex):
        days = pd.Series(_labels(dates, until) - peak).dt.days.to_numpy(dtype=np.float64, na_value=np.nan)
    else:
        days = np.full(len(order), np.nan)
    return pd.DataFrame(
        {
            "peak": peak,
            "trough": _labels(dates, trough),
            "recovery": recovery,
            "depth": depth,
            "periods": until - (first - 1),
            "to_trough": trough - (first - 1),
            "days": days,
        },
        index=pd.RangeIndex(1, len(order) + 1, name="rank"),
    )


def _episodes(below: FloatArray) -> tuple[IntArray, IntArray]:
    """First period of each drawdown, and the period after its last."""
    under = np.concatenate([[False], below > 0.0, [False]])
    steps = np.diff(under.astype(np.int8))
    return np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)


def _labels(dates: pd.Index, places: IntArray) -> pd.Index:
    """The labels at some places, missing for places that do not exist."""
    inside = (places >= 0) & (places < len(dates))
    return dates.take(np.where(inside, places, 0)).where(inside)

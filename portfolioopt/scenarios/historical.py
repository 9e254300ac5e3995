"""Scenarios taken straight from history: every past period is one scenario, all equally likely."""

from __future__ import annotations

import pandas as pd

from portfolioopt.errors import InputError

from .scenario_set import ScenarioSet, whole_number


def historical(returns: pd.DataFrame, *, window: int | None = None) -> ScenarioSet:
    r"""Take each of the last periods as a scenario: :math:`r_s = R_{T-S+s}` with probability :math:`1/S`.

    Parameters
    ----------
    returns
        Simple returns per period as fractions (T x N), one row per period in order of time, one column per
        asset.
    window
        Number S of most recent rows to use, at least 2; all of them where None. Rows before the window are
        not looked at, so they may have gaps.

    Returns
    -------
    ScenarioSet
        S x N, labelled like the rows; its horizon is one period of `returns`.

    Raises
    ------
    InputError
        For a window that is not a whole number from 2 to T, dates out of order, missing or infinite returns
        inside the window (naming the cells), and anything else that :class:`ScenarioSet` refuses.
    """
    check_time_order(returns)
    if window is not None:
        size = whole_number(window, "window", least=2)
        if size > len(returns):
            raise InputError(f"window is {size}, but there are only {len(returns)} rows of returns")
        returns = returns.iloc[-size:]
    return ScenarioSet(returns, horizon="1 period")


def check_time_order(returns: pd.DataFrame) -> None:
    """Refuse anything but a frame whose dates, if it has dates, increase."""
    if not isinstance(returns, pd.DataFrame):
        hint = "; for one asset pass returns.to_frame()" if isinstance(returns, pd.Series) else ""
        raise InputError(f"returns must be a frame of periods x assets, was {type(returns).__name__}{hint}")
    index = returns.index
    if isinstance(index, pd.DatetimeIndex | pd.PeriodIndex) and not index.is_monotonic_increasing:
        raise InputError("the dates of returns are not in increasing order; sort them with returns.sort_index()")

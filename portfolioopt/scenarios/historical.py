"""Scenarios taken straight from history: every past period is one scenario, equally likely or less so with age."""

from __future__ import annotations

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.labels import checked_number

from .scenario_set import ScenarioSet, whole_number


def historical(returns: pd.DataFrame, *, window: int | None = None, halflife: float | None = None) -> ScenarioSet:
    r"""Take each of the last periods as a scenario: :math:`r_s = R_{T-S+s}` with probability :math:`1/S`.

    With a half-life h the probability falls with age, :math:`p_s \propto 2^{-(S-s)/h}`: the hybrid approach of
    Boudoukh, Richardson & Whitelaw (1998), "The best of both worlds", Risk 11, whose decay factor per period is
    :math:`\lambda = 2^{-1/h}` (their 0.98 is a half-life of 34 periods).

    Parameters
    ----------
    returns
        Simple returns per period as fractions (T x N), one row per period in order of time, one column per
        asset.
    window
        Number S of most recent rows to use, at least 2; all of them where None. Rows before the window are
        not looked at, so they may have gaps.
    halflife
        Periods after which a probability is half as large, above zero; all scenarios equally likely where None.

    Returns
    -------
    ScenarioSet
        S x N, labelled like the rows; its horizon is one period of `returns`.

    Raises
    ------
    InputError
        For a window that is not a whole number from 2 to T, a half-life that is not positive, dates out of order,
        missing or infinite returns inside the window (naming the cells), and anything else that :class:`ScenarioSet`
        refuses.
    """
    check_time_order(returns)
    if window is not None:
        size = whole_number(window, "window", least=2)
        if size > len(returns):
            raise InputError(f"window is {size}, but there are only {len(returns)} rows of returns")
        returns = returns.iloc[-size:]
    probabilities = None
    if halflife is not None:
        decay = np.exp2(-np.arange(len(returns))[::-1] / checked_number(halflife, "halflife", above=0.0))
        probabilities = decay / decay.sum()
    return ScenarioSet(returns, probabilities, horizon="1 period")


def check_time_order(returns: pd.DataFrame) -> None:
    """Refuse anything but a frame whose dates, if it has dates, increase."""
    if not isinstance(returns, pd.DataFrame):
        hint = "; for one asset pass returns.to_frame()" if isinstance(returns, pd.Series) else ""
        raise InputError(f"returns must be a frame of periods x assets, was {type(returns).__name__}{hint}")
    index = returns.index
    if isinstance(index, pd.DatetimeIndex | pd.PeriodIndex) and not index.is_monotonic_increasing:
        raise InputError("the dates of returns are not in increasing order; sort them with returns.sort_index()")

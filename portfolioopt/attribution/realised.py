r"""Where a realised return came from: by asset, by any label, and what costs took.

The contribution of an asset to the return of a period is its weight at the beginning times its return, and the return
of the portfolio :math:`R_t = \sum_i w_{ti} r_{ti} - c_t` with costs c. Over several periods contributions are linked so
that they sum to the compounded return :math:`R = \prod_t (1 + R_t) - 1`, exactly:

*   ``"value"``: :math:`\sum_t V_{t-1} w_{ti} r_{ti}` with :math:`V_t = \prod_{s \le t} (1 + R_s)`: the money that was
    made per unit of initial NAV.
*   ``"carino"``: :math:`\sum_t (k_t / k)\, w_{ti} r_{ti}`, :math:`k_t = \log(1 + R_t) / R_t`, k of the whole, which
    does not weigh late periods more because much was earned before. Cariño (1999).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError, unknown_names
from portfolioopt.estimate.checks import checked_returns, written
from portfolioopt.labels import numbers, some

from .linking import check_survival, compounded, linking_coefficients

COSTS = "costs"


@dataclass(frozen=True, eq=False)
class RealisedContributions:
    """Contributions to a realised return; see `realised_contributions`.

    Parameters
    ----------
    contributions
        By asset or label, and by cost where they were given; they sum to `total_return`.
    by_period
        The same of single periods, not linked, periods x (labels, costs); rows sum to the return of the period.
    returns
        Of the portfolio after costs, by period.
    total_return
        Compounded.
    """

    contributions: pd.Series
    by_period: pd.DataFrame
    returns: pd.Series
    total_return: float


def realised_contributions(
    weights: pd.DataFrame,
    returns: pd.DataFrame,
    *,
    costs: pd.Series | pd.DataFrame | None = None,
    labels: pd.Series | Mapping[str, str] | None = None,
    linking: Literal["value", "carino"] = "value",
) -> RealisedContributions:
    """Split what a portfolio earned by asset or label.

    Parameters
    ----------
    weights
        Fractions of NAV at the beginning of each period, after trading: periods x assets, in order of time. What they
        leave of one is cash that earns nothing; give cash a column where it does.
    returns
        Simple returns over the same periods; one may be missing where the weight is zero. Further rows and columns are
        not looked at.
    costs
        Of each period as fractions of NAV at its beginning, not negative: a Series is a row ``costs`` of its own in the
        result, and a frame, periods x parts (commission, spread, impact), a row for each part.
    labels
        Of every asset, to sum by (sector, country); by asset where None.
    linking
        ``"value"`` or ``"carino"``.

    Raises
    ------
    InputError
        For missing weights, periods and assets without returns, costs that are negative or do not match, assets without
        a label, and a period that loses everything.
    """
    who = "realised_contributions"
    if linking not in ("value", "carino"):
        raise InputError(f"{who}: linking must be 'value' or 'carino', was {linking!r}")
    w = checked_returns(weights, who, rows=1, what="weights")
    dates, assets = weights.index, weights.columns
    unknown = assets.difference(returns.columns, sort=False)
    if len(unknown):
        raise unknown_names("asset in weights", unknown, returns.columns)
    absent = dates.difference(returns.index, sort=False)
    if len(absent):
        raise InputError(f"{who}: returns has no row for {some(absent)}")
    if returns.index.has_duplicates or returns.columns.has_duplicates:
        raise InputError(f"{who}: returns has duplicate dates or assets; keep one of each")
    r = numbers(returns.loc[dates, assets], f"{who}: returns")
    bad = np.isinf(r) | (np.isnan(r) & (w != 0.0))
    if bad.any():
        at, column = np.argwhere(bad)[0]
        raise InputError(f"{who}: returns is missing or infinite for {assets[column]} on {written(dates[at])}")
    parts = pd.DataFrame(w * np.nan_to_num(r), dates, assets)
    if labels is not None:
        named = labels if isinstance(labels, pd.Series) else pd.Series(dict(labels), dtype=object)
        if named.index.has_duplicates:
            raise InputError(f"{who}: labels names an asset twice; keep one label for each")
        missing = assets[~assets.isin(named.dropna().index)]
        if len(missing):
            raise InputError(f"{who}: labels says nothing about {some(missing)}; give every asset a label")
        parts = parts.T.groupby(pd.Index(named.loc[assets], name=named.name or "label"), sort=False).sum().T
    if costs is not None:
        charged = cost_parts(costs, dates, parts.columns, who)
        parts = pd.concat([parts, -charged], axis=1)
    total = parts.to_numpy().sum(axis=1)
    check_survival(total, f"{who}: the portfolio")
    if linking == "value":
        coefficient = np.concatenate([[1.0], np.cumprod(1.0 + total)[:-1]])
    else:
        coefficient = linking_coefficients(total, np.zeros_like(total), "carino")
    return RealisedContributions(
        pd.Series(coefficient @ parts.to_numpy(), parts.columns, name="contribution"),
        parts,
        pd.Series(total, dates, name="return"),
        compounded(total),
    )


def cost_parts(costs: pd.Series | pd.DataFrame, dates: pd.Index, taken: pd.Index, who: str) -> pd.DataFrame:
    """Costs as fractions of NAV by period and part, all there and not negative; `taken` are names of other rows."""
    if not isinstance(costs, pd.Series | pd.DataFrame):
        raise InputError(
            f"{who}: costs must be a Series by period, or a frame of periods x parts, was {type(costs).__name__}"
        )
    frame = costs.to_frame(COSTS) if isinstance(costs, pd.Series) else costs
    again = frame.columns.intersection(taken)
    if len(again):
        raise InputError(
            f"{who}: an asset, label or factor is called {again[0]!r}, as is a row of the costs; rename it"
        )
    if frame.index.has_duplicates:
        raise InputError(f"{who}: costs has {some(frame.index[frame.index.duplicated()].unique())} twice")
    absent = dates.difference(frame.index, sort=False)
    if len(absent):
        raise InputError(f"{who}: costs has no value for {some(absent)}; a period without trades costs 0.0")
    values = checked_returns(frame.loc[dates], who, rows=1, what="costs")
    wrong = np.flatnonzero((values < 0.0).any(axis=1))
    if len(wrong):
        raise InputError(f"{who}: costs is negative on {some(dates[wrong])}; a cost is positive")
    return pd.DataFrame(values, dates, frame.columns)

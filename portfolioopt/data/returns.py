"""From prices to returns, with nothing guessed: bad prices are errors until the caller decides otherwise."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError

MissingPolicy = Literal["error", "drop_dates", "drop_assets"]

_POLICIES: Final = ("error", "drop_dates", "drop_assets")
_LISTED: Final = 5  # culprits spelt out in a message before it turns to a count


def simple_returns(prices: pd.DataFrame, *, horizon: int = 1, missing: MissingPolicy = "error") -> pd.DataFrame:
    r"""Turn prices into simple returns, :math:`R_{t,i} = P_{t,i} / P_{t-h,i} - 1`.

    With ``horizon`` above 1 the returns overlap: there is one on each date from the ``horizon``-th on, and
    neighbours share ``horizon - 1`` of their days. They are the right scenarios for a longer holding period,
    but they are not independent: as evidence, T rows weigh about as much as T / horizon. For separate periods
    take every ``horizon``-th row.

    Parameters
    ----------
    prices
        T x N, one row per date in increasing order, one column per asset, adjusted for splits and dividends,
        all positive, any currency.
    horizon
        Length of the return in rows of `prices` (trading days for daily prices), at least 1.
    missing
        What to do about missing prices (NaN or NA). ``"error"`` refuses them. ``"drop_assets"`` leaves out
        each asset with a missing price anywhere. ``"drop_dates"`` leaves out each return whose first or last
        price is missing for any asset; a gap is never bridged, so that every return left covers exactly
        `horizon` rows of `prices`. To fill gaps instead, do so before the call.

    Returns
    -------
    DataFrame, (T - horizon) x N, fewer where `missing` leaves some out
        Simple returns per horizon as fractions, in float64, each stamped with the date on which it ends.

    Raises
    ------
    InputError
        If dates or columns are repeated, dates are not in order, a price is missing (unless `missing` decides
        otherwise), infinite, zero, negative or not a number, or too little is left to form one return.
    """
    if isinstance(horizon, bool) or not isinstance(horizon, int | np.integer) or horizon < 1:
        raise InputError(f"horizon must be a whole number of rows, at least 1, but is {horizon!r}")
    if missing not in _POLICIES:
        raise InputError(f"missing must be one of {', '.join(map(repr, _POLICIES))}, but is {missing!r}")
    horizon = int(horizon)

    _check_labels(prices)
    values = _numbers(prices)
    _check_positive(prices, values)

    absent = np.isnan(values)
    if missing == "error" and absent.any():
        raise InputError(
            f"{_cells(prices, absent)} missing; pass missing='drop_dates' to leave out the returns they "
            f"touch, missing='drop_assets' to leave out those assets, or fill them before the call"
        )
    columns = prices.columns
    if missing == "drop_assets" and absent.any():
        kept = np.flatnonzero(~absent.any(axis=0))
        if not len(kept):
            raise InputError(
                "every asset has a missing price, so missing='drop_assets' leaves none; shorten the period, "
                "or use missing='drop_dates'"
            )
        values, columns = values[:, kept], columns[kept]

    if len(values) < horizon + 1:
        raise InputError(
            f"horizon={horizon} needs at least {horizon + 1} rows of prices, but there are {len(values)}; "
            f"pass a longer history or a shorter horizon"
        )
    returns = pd.DataFrame(values[horizon:] / values[:-horizon] - 1.0, index=prices.index[horizon:], columns=columns)
    if missing == "drop_dates":
        whole = returns.notna().all(axis="columns")
        if not whole.any():
            raise InputError(
                f"with horizon={horizon} every return starts or ends on a missing price, so "
                f"missing='drop_dates' leaves none; drop the assets with short histories, or use "
                f"missing='drop_assets'"
            )
        returns = returns.loc[whole]
    return returns


def _check_labels(prices: pd.DataFrame) -> None:
    """Refuse anything but a frame with distinct assets and distinct dates in increasing order."""
    if not isinstance(prices, pd.DataFrame):
        hint = "; for one asset pass prices.to_frame()" if isinstance(prices, pd.Series) else ""
        raise InputError(f"prices must be a DataFrame of dates by assets, not {type(prices).__name__}{hint}")
    columns, dates = prices.columns, prices.index
    if columns.empty:
        raise InputError("prices has no columns; pass one column per asset")
    if not columns.is_unique:
        repeated = columns[columns.duplicated()].unique()
        raise InputError(f"prices has repeated columns: {_some(repeated)}; keep one column per asset")
    if isinstance(dates, pd.MultiIndex) or pd.api.types.is_string_dtype(dates.dtype):
        raise InputError(
            "prices must be indexed by dates, not by text or several levels; convert with "
            "prices.index = pd.to_datetime(prices.index)"
        )
    if dates.hasnans:
        raise InputError(
            f"{np.count_nonzero(dates.isna())} of the {len(dates)} dates of prices are missing (NaT); drop "
            f"those rows with prices[prices.index.notna()]"
        )
    if not dates.is_unique:
        repeated = dates[dates.duplicated()].unique()
        raise InputError(
            f"prices has repeated dates: {_some([_date(date) for date in repeated])}; keep one row per date, "
            f"for example with prices[~prices.index.duplicated(keep='last')]"
        )
    if not dates.is_monotonic_increasing:
        later = next(t for t in range(1, len(dates)) if dates[t] < dates[t - 1])
        raise InputError(
            f"the dates of prices are not in increasing order: {_date(dates[later])} comes after "
            f"{_date(dates[later - 1])}; sort them with prices.sort_index()"
        )


def _numbers(prices: pd.DataFrame) -> np.ndarray:
    """Return the prices as T x N float64, or refuse the columns that hold something else."""
    wrong = [
        name
        for name, dtype in prices.dtypes.items()
        if not pd.api.types.is_numeric_dtype(dtype)
        or pd.api.types.is_bool_dtype(dtype)
        or pd.api.types.is_complex_dtype(dtype)
    ]
    if wrong:
        raise InputError(
            f"prices has columns that do not hold numbers: {_some(wrong)}; convert them with pd.to_numeric, "
            f"or move dates into the index with prices.set_index(...)"
        )
    return prices.to_numpy(dtype=np.float64, na_value=np.nan)


def _check_positive(prices: pd.DataFrame, values: np.ndarray) -> None:
    impossible = (values <= 0.0) | np.isinf(values)
    if impossible.any():
        raise InputError(
            f"{_cells(prices, impossible, values)} not positive and finite; a simple return needs positive "
            f"prices, so correct them, or set them to NaN and choose a policy with missing="
        )


def _cells(prices: pd.DataFrame, mask: np.ndarray, values: np.ndarray | None = None) -> str:
    """Describe the marked cells by asset and date, in order of date: the first few and the count."""
    rows, columns = np.nonzero(mask)
    named = []
    for row, column in zip(rows[:_LISTED], columns[:_LISTED], strict=True):
        value = "" if values is None else f" ({values[row, column]:g})"
        named.append(f"{prices.columns[column]} on {_date(prices.index[row])}{value}")
    more = len(rows) - len(named)
    tail = f" and {more} more" if more else ""
    noun, verb = ("price", "is") if len(rows) == 1 else ("prices", "are")
    return f"{len(rows)} {noun} ({', '.join(named)}{tail}) {verb}"


def _date(label: object) -> str:
    """Write a date without the time when the time is midnight."""
    if isinstance(label, pd.Timestamp) and label == label.normalize():
        return label.strftime("%Y-%m-%d")
    return str(label)


def _some(names: Iterable[object]) -> str:
    """List the first few names and count the rest."""
    texts = [str(name) for name in names]
    more = len(texts) - _LISTED
    return ", ".join(texts[:_LISTED]) + (f" and {more} more" if more > 0 else "")

"""From prices to returns, with nothing guessed: bad prices are errors until the caller decides otherwise."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.labels import FloatArray

from .checks import BoolArray, cells, check_labels, check_positive, numbers_of, whole_number

MissingPolicy = Literal["error", "drop_dates", "drop_assets", "keep"]
ReturnsKind = Literal["simple", "log"]

_POLICIES: Final = ("error", "drop_dates", "drop_assets", "keep")
_KINDS: Final = ("simple", "log")
_TAG: Final = "returns"  # key in the attributes of a frame of returns under which its kind is kept


def simple_returns(
    prices: pd.DataFrame, *, horizon: int = 1, missing: MissingPolicy = "error", forward_fill: int = 0
) -> pd.DataFrame:
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
        price is missing for any asset. ``"keep"`` leaves NaN where the first or last price of a return is
        missing, for code that knows what to do about it. A gap is never bridged, so that every return left
        covers exactly `horizon` rows of `prices`.
    forward_fill
        Number of rows over which a missing price is taken to be the last one before it, applied ahead of
        `missing`: returns inside such a gap are zero, and the one that ends it holds the whole move. Gaps that
        are longer stay missing beyond that many rows. Only earlier prices are looked at.

    Returns
    -------
    DataFrame, (T - horizon) x N, fewer where `missing` leaves some out
        Simple returns per horizon as fractions, in float64, each stamped with the date on which it ends, and
        tagged as simple (see :func:`returns_kind`).

    Raises
    ------
    InputError
        If dates or columns are repeated, dates are not in order or mix time zones, a price is missing (unless
        `missing` decides otherwise), infinite, zero, negative or not a number, or too little is left to form
        one return.
    """
    return _from_prices(prices, "simple", horizon, missing, forward_fill)


def log_returns(
    prices: pd.DataFrame, *, horizon: int = 1, missing: MissingPolicy = "error", forward_fill: int = 0
) -> pd.DataFrame:
    r"""Turn prices into log returns, :math:`r_{t,i} = \ln P_{t,i} - \ln P_{t-h,i}`.

    They add up over time and not across assets, so they suit estimates that are scaled to other horizons, and no
    portfolio: :func:`to_simple` converts them. Arguments, refusals and shape are those of :func:`simple_returns`; the
    frame is tagged as log (see :func:`returns_kind`).
    """
    return _from_prices(prices, "log", horizon, missing, forward_fill)


def returns_kind(returns: pd.DataFrame) -> ReturnsKind | None:
    """The kind of returns that a frame is tagged with, ``"simple"`` or ``"log"``, None where it has no tag.

    The tag is ``returns.attrs["returns"]``. pandas carries it through slices, copies, arithmetic and Parquet files, and
    ``pd.concat`` drops it where its inputs disagree. It does not know that ``np.expm1`` has changed the kind: convert
    with :func:`to_simple` and :func:`to_log`, which do.
    """
    tag = returns.attrs.get(_TAG)
    if tag is not None and tag not in _KINDS:
        raise InputError(f"returns.attrs['returns'] must be 'simple' or 'log', was {tag!r}")
    return tag


def to_simple(returns: pd.DataFrame, *, kind: ReturnsKind | None = None) -> pd.DataFrame:
    r"""The same returns as simple ones, :math:`R = e^r - 1` where they are log returns.

    Parameters
    ----------
    returns
        T x N as fractions; missing ones stay missing.
    kind
        What `returns` are. The tag of the frame decides where None; a tag that says otherwise is an error.

    Raises
    ------
    InputError
        For a frame without a tag where `kind` is None, for a tag that contradicts `kind`, for simple returns below
        -1, and for log returns too large to be any (prices, or per cent).
    """
    if _checked_kind(returns, kind) == "simple":
        if (numbers_of(returns, "returns") < -1.0).any():
            raise InputError("simple returns below -1 lose more than everything: are they per cent, or log returns?")
        return _tagged(returns.copy(), "simple")
    with np.errstate(over="ignore"):  # refused below, in words
        simple = np.expm1(numbers_of(returns, "returns"))
    if np.isinf(simple).any():
        raise InputError("log returns overflow when converted to simple ones: are they prices or per cent?")
    return _tagged(_like(returns, simple), "simple")


def to_log(returns: pd.DataFrame, *, kind: ReturnsKind | None = None) -> pd.DataFrame:
    r"""The same returns as log ones, :math:`r = \ln(1 + R)` where they are simple; else as :func:`to_simple`.

    Raises InputError for simple returns of -1 or less, too: a total loss has no log return.
    """
    if _checked_kind(returns, kind) == "log":
        return _tagged(returns.copy(), "log")
    values = numbers_of(returns, "returns")
    if (values <= -1.0).any():
        raise InputError("simple returns of -1 or less have no log return; keep simple returns, or leave them out")
    return _tagged(_like(returns, np.log1p(values)), "log")


def array_returns(
    values: FloatArray,
    dates: pd.Index,
    columns: pd.Index,
    *,
    kind: ReturnsKind,
    horizon: int,
    missing: MissingPolicy,
    ends: Iterable[tuple[int, int]] = (),
) -> pd.DataFrame:
    """Returns from checked prices (T, N), where no return spans any of the cells `ends` (row, column).

    A return may end on such a cell, but none may begin there or earlier and end later: what the asset was is no more.
    """
    absent = np.isnan(values)
    incomplete = bool(absent.any())
    if missing == "error" and incomplete:
        raise InputError(
            f"{cells(dates, columns, absent)} missing; pass missing='drop_dates' to leave out the returns they "
            f"touch, missing='drop_assets' to leave out those assets, or forward_fill= to bridge short gaps"
        )
    if len(values) < horizon + 1:
        raise InputError(
            f"horizon={horizon} needs at least {horizon + 1} rows of prices, but there are {len(values)}; "
            f"pass a longer history or a shorter horizon"
        )
    result = values[horizon:] / values[:-horizon]
    if kind == "log":
        np.log(result, out=result)
    else:
        result -= 1.0
    for row, column in ends:
        result[max(row - horizon + 1, 0) : row + 1, column] = np.nan
        incomplete = True
    if missing == "drop_assets" and incomplete:
        lacking: BoolArray = np.any(absent, axis=0) | np.any(np.isnan(result), axis=0)
        kept = np.flatnonzero(~lacking)
        if not len(kept):
            raise InputError(
                "every asset has a missing price, so missing='drop_assets' leaves none; shorten the period, "
                "or use missing='drop_dates'"
            )
        result, columns = result[:, kept], columns[kept]
    stamps = dates[horizon:]
    if missing == "drop_dates" and incomplete:
        whole = np.flatnonzero(~np.isnan(result).any(axis=1))
        if not len(whole):
            raise InputError(
                f"with horizon={horizon} every return starts or ends on a missing price, so "
                f"missing='drop_dates' leaves none; drop the assets with short histories, or use "
                f"missing='drop_assets'"
            )
        result, stamps = result[whole], stamps[whole]
    if missing == "error" and incomplete and np.isnan(result).any():
        raise InputError(
            "returns of an asset that was delisted and listed again would span both; pass missing='drop_dates' or "
            "missing='keep'"
        )
    return _tagged(pd.DataFrame(result, index=stamps, columns=columns), kind)


def forward_filled(values: FloatArray, rows: int) -> FloatArray:
    """Missing cells (T, N) replaced by the last number above them, at most `rows` rows up; the rest as it is."""
    if rows == 0:
        return values
    broken = np.flatnonzero(np.isnan(values).any(axis=0))
    if not len(broken):
        return values
    part = values[:, broken]
    place = np.arange(len(values), dtype=np.int32)[:, None]
    last = np.maximum.accumulate(np.where(np.isnan(part), np.int32(-1), place), axis=0)
    near = (last >= 0) & (place - last <= rows)
    result = values.copy()
    result[:, broken] = np.where(near, np.take_along_axis(part, np.maximum(last, 0), axis=0), np.nan)
    return result


def check_settings(kind: str, horizon: object, missing: object, forward_fill: object) -> tuple[int, int]:
    """Horizon and length of gaps to fill as whole numbers, after a look at the words."""
    length = whole_number(horizon, "horizon", least=1)
    if missing not in _POLICIES:
        raise InputError(f"missing must be one of {', '.join(map(repr, _POLICIES))}, but is {missing!r}")
    if kind not in _KINDS:
        raise InputError(f"kind must be 'simple' or 'log', was {kind!r}")
    return length, whole_number(forward_fill, "forward_fill", least=0)


def _from_prices(
    prices: pd.DataFrame, kind: ReturnsKind, horizon: int, missing: MissingPolicy, forward_fill: int
) -> pd.DataFrame:
    length, rows = check_settings(kind, horizon, missing, forward_fill)
    check_labels(prices)
    values = numbers_of(prices)
    check_positive(values, prices.index, prices.columns)
    values = forward_filled(values, rows)
    return array_returns(values, prices.index, prices.columns, kind=kind, horizon=length, missing=missing)


def _checked_kind(returns: pd.DataFrame, kind: ReturnsKind | None) -> ReturnsKind:
    if not isinstance(returns, pd.DataFrame):
        raise InputError(f"returns must be a frame of periods x assets, was {type(returns).__name__}")
    tag = returns_kind(returns)
    if kind is not None and kind not in _KINDS:
        raise InputError(f"kind must be 'simple' or 'log', was {kind!r}")
    if tag is not None and kind is not None and tag != kind:
        raise InputError(
            f"returns are tagged as {tag}, but kind is {kind!r}; if the tag is wrong, set returns.attrs['returns']"
        )
    found = kind or tag
    if found is None:
        raise InputError("returns has no tag that says whether it holds simple or log returns; pass kind=")
    return found


def _like(returns: pd.DataFrame, values: FloatArray) -> pd.DataFrame:
    frame = pd.DataFrame(values, returns.index, returns.columns)
    frame.attrs = returns.attrs
    return frame


def _tagged(returns: pd.DataFrame, kind: ReturnsKind) -> pd.DataFrame:
    returns.attrs = {**returns.attrs, _TAG: kind}
    return returns

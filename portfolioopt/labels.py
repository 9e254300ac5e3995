"""Labelled numbers to ordered arrays: the one place where a Series meets the asset order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from .errors import InputError, unknown_names

FloatArray = npt.NDArray[np.float64]
PerAsset: TypeAlias = float | pd.Series | Mapping[str, float]
LISTED = 5  # labels spelt out in a message before it turns to a count


def align(
    values: pd.Series | Mapping[str, float], assets: pd.Index, *, what: str, infinite: bool = False
) -> FloatArray:
    """Order labelled numbers like `assets` (N,), refusing unknown, missing, duplicate and non-finite entries.

    `what` names the input in messages; `infinite` lets infinities through (bounds), never NaN.
    """
    if not isinstance(values, pd.Series | Mapping):
        raise InputError(f"{what} must be a Series or mapping from asset to number, was {type(values).__name__}")
    series = values if isinstance(values, pd.Series) else pd.Series(dict(values), dtype=object)
    if series.index is assets and assets.is_unique:
        return _finite(numbers(series, what), assets, what, infinite)
    if series.index.has_duplicates:
        raise InputError(f"{what} has duplicate assets: {some(series.index[series.index.duplicated()].unique())}")
    unknown = series.index.difference(assets, sort=False)
    if len(unknown):
        raise unknown_names(f"asset in {what}" if len(unknown) == 1 else "asset", unknown, assets)
    missing = assets.difference(series.index, sort=False)
    if len(missing):
        raise InputError(
            f"{what} says nothing about {some(missing)}; give every asset a value, for example with "
            f"{what.split('.')[-1]}.reindex(scenarios.assets, fill_value=0.0)"
        )
    return _finite(numbers(series.reindex(assets), what), assets, what, infinite)


def _finite(array: FloatArray, assets: pd.Index, what: str, infinite: bool) -> FloatArray:
    bad = np.isnan(array) if infinite else ~np.isfinite(array)
    if bad.any():
        raise InputError(f"{what} is not {'a number' if infinite else 'finite'} for {some(assets[bad])}")
    return array


def per_asset(value: PerAsset, assets: pd.Index, *, what: str, infinite: bool = False) -> FloatArray:
    """One number for all assets, or labelled numbers, as an array ordered like `assets` (N,)."""
    if isinstance(value, pd.Series | Mapping):
        return align(value, assets, what=what, infinite=infinite)
    if np.ndim(value) != 0:
        raise InputError(f"{what} must be one number, or a Series or mapping by asset (an array has no labels)")
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"{what} must be a number, was {value!r}") from error
    if np.isnan(number) or (not infinite and np.isinf(number)):
        raise InputError(f"{what} must be a {'number' if infinite else 'finite number'}, was {value!r}")
    return np.full(len(assets), number)


def numbers(values: pd.Series | pd.DataFrame, what: str) -> FloatArray:
    """A new float64 array of what is in a series or frame, NaN where it is missing; refuses what is no number."""
    try:
        if isinstance(values, pd.Series):
            return np.array(values.to_numpy(dtype=np.float64, na_value=np.nan), dtype=np.float64, copy=True)
        return np.array(values.to_numpy(dtype=np.float64), dtype=np.float64, copy=True)
    except (TypeError, ValueError) as error:
        raise InputError(f"{what} must hold numbers, but {error}") from error


def checked_number(
    value: object,
    what: str,
    *,
    least: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> float:
    """A finite number, at least, above or below something."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise InputError(f"{what} must be a number, was {value!r}") from error
    if not np.isfinite(number):
        raise InputError(f"{what} must be a finite number, was {value!r}")
    if least is not None and number < least:
        raise InputError(f"{what} must be at least {least:g}, was {number:g}")
    if above is not None and number <= above:
        raise InputError(f"{what} must be above {above:g}, was {number:g}")
    if below is not None and number >= below:
        raise InputError(f"{what} must be below {below:g}, was {number:g}")
    return number


def some(labels: pd.Index) -> str:
    """The first few labels in words, and how many more there are."""
    text = ", ".join(map(repr, labels[:LISTED].tolist()))
    return text if len(labels) <= LISTED else f"{text} and {len(labels) - LISTED} more"

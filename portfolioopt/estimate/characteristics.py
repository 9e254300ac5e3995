"""What is known of assets on a date: characteristics, capitalisations and weights, labelled data to arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from portfolioopt.errors import InputError, unknown_names
from portfolioopt.labels import FloatArray, numbers, some

from .checks import written


@dataclass(frozen=True, eq=False)
class Panel:
    """Characteristics (D, N, K) by date, asset and name; NaN where missing."""

    data: FloatArray
    dates: pd.Index
    assets: pd.Index
    names: pd.Index

    @classmethod
    def of(cls, characteristics: Mapping[str, pd.DataFrame] | pd.DataFrame, assets: pd.Index, who: str) -> Panel:
        """From a frame by name, or a long frame with levels date and asset."""
        frames = _wide(characteristics, who) if isinstance(characteristics, pd.DataFrame) else characteristics
        if not isinstance(frames, Mapping) or not frames:
            raise InputError(
                f"{who}: characteristics must be frames of dates x assets by name, or one frame with the levels date "
                f"and asset, was {type(characteristics).__name__}"
            )
        values: list[FloatArray] = []
        dates = next(iter(frames.values())).index if isinstance(next(iter(frames.values())), pd.DataFrame) else None
        for name, frame in frames.items():
            what = f"{who}: characteristic {name!r}"
            values.append(_by_date(frame, assets, what))
            if dates is None or not frame.index.equals(dates):
                raise InputError(f"{what} has other dates than {next(iter(frames))!r}; reindex all to the same")
        assert dates is not None
        return cls(np.stack(values, axis=2), dates, assets, pd.Index(list(frames)))


@dataclass(frozen=True, eq=False)
class Sizes:
    """Positive numbers by asset, and by date where they change; NaN where missing."""

    data: FloatArray
    dates: pd.Index | None
    what: str

    @classmethod
    def of(cls, given: pd.DataFrame | pd.Series | None, assets: pd.Index, what: str) -> Sizes:
        """From a series by asset, a frame of dates x assets, or nothing, which is ones."""
        if given is None:
            return cls(np.ones((1, len(assets))), None, what)
        if isinstance(given, pd.Series):
            checked_assets(given.index, assets, what)
            values, dates = numbers(given.reindex(assets), what)[None, :], None
        else:
            values, dates = _by_date(given, assets, what), given.index
        wrong = (values <= 0.0) | np.isinf(values)
        if wrong.any():
            raise InputError(f"{what} is not positive and finite for {some(assets[np.asarray(wrong.any(axis=0))])}")
        return cls(values, dates, what)

    def before(self, date: object) -> FloatArray:
        """The last numbers (N,) before a date."""
        return self._at(date, "left", "before")

    def until(self, date: object) -> FloatArray:
        """The last numbers (N,) on a date or before."""
        return self._at(date, "right", "until")

    def _at(self, date: object, side: str, word: str) -> FloatArray:
        if self.dates is None:
            return self.data[0]
        place = int(self.dates.searchsorted(date, side=side)) - 1  # pyright: ignore[reportArgumentType, reportCallIssue]
        if place < 0:
            raise InputError(f"{self.what} has no date {word} {written(date)}; pass a longer history of it")
        return self.data[place]


def known_before(dates: pd.Index, known: pd.Index) -> npt.NDArray[np.intp]:
    """For every date the place of the last of the known ones before it, -1 where there is none."""
    try:
        return np.asarray(known.searchsorted(dates, side="left")) - 1
    except TypeError as error:
        raise InputError(
            f"characteristics are dated {written(known[0])} and so on, returns {written(dates[0])} and so on, which "
            "cannot be compared; give both the same kind of index"
        ) from error


def checked_assets(given: pd.Index, assets: pd.Index, what: str) -> None:
    """Refuse labels that are not the assets, each once."""
    if given.has_duplicates:
        raise InputError(f"{what} has duplicate assets: {some(given[given.duplicated()].unique())}; keep one for each")
    unknown = given.difference(assets, sort=False)
    if len(unknown):
        raise unknown_names(f"asset in {what}" if len(unknown) == 1 else "asset", unknown, assets)
    absent = assets.difference(given, sort=False)
    if len(absent):
        raise InputError(f"{what} says nothing about {some(absent)}; give all assets, NaN for those not listed")


def _by_date(frame: object, assets: pd.Index, what: str) -> FloatArray:
    """The numbers of a frame of dates x assets (D, N), in the order of the assets; NaN where missing."""
    if not isinstance(frame, pd.DataFrame):
        raise InputError(f"{what} must be a frame of dates x assets, was {type(frame).__name__}")
    checked_assets(frame.columns, assets, what)
    if frame.index.hasnans or frame.index.has_duplicates or not frame.index.is_monotonic_increasing:
        raise InputError(f"{what} must have distinct dates in increasing order; sort it and keep one row for each")
    if not len(frame):
        raise InputError(f"{what} has no rows")
    values = numbers(frame.reindex(columns=assets), what)
    infinite = np.isinf(values)
    if infinite.any():
        row, column = (int(place) for place in np.argwhere(infinite)[0])
        raise InputError(f"{what} is infinite for {assets[column]!r} on {written(frame.index[row])}")
    return values


def _wide(long: pd.DataFrame, who: str) -> dict[str, pd.DataFrame]:
    """A frame of dates x assets for each column of a long frame."""
    if not isinstance(long.index, pd.MultiIndex) or long.index.nlevels != 2:
        raise InputError(
            f"{who}: characteristics in one frame need two levels of rows, date and asset; pass a mapping from name to "
            "frame of dates x assets otherwise"
        )
    if long.index.has_duplicates:
        raise InputError(f"{who}: characteristics has {long.index.duplicated().sum()} rows whose date and asset repeat")
    if long.columns.has_duplicates:
        raise InputError(f"{who}: characteristics has duplicate columns; keep one of each name")
    return {name: long[name].unstack() for name in long.columns}  # noqa: PD010  labels are distinct

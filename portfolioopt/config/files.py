"""Files that a configuration names: prices, volumes, single series, labels."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Final

import pandas as pd

from portfolioopt.data import sample_index, sample_prices, sample_sectors
from portfolioopt.errors import InputError, unknown_names

from .model import OTHERS, PricesConfig
from .place import Key, Place

SAMPLE: Final = "sample"
SAMPLE_SECTORS: Final = "sample sectors"
SAMPLE_INDEX: Final = "sample index"
_PARQUET: Final = (".parquet", ".pq")


def read_prices(data: PricesConfig, at: Place) -> pd.DataFrame:
    """Prices in the period (T x N)."""
    prices = sample_prices() if data.source == SAMPLE else _frame(data.source, "'sample' for the bundled prices", at)
    if data.assets is not None:
        for i, asset in enumerate(data.assets):
            if asset not in prices.columns:
                raise at.error(str(unknown_names("asset", [asset], prices.columns)), "assets", i)
        prices = prices[list(data.assets)]
    if OTHERS in prices.columns:
        raise InputError(f"an asset is called {OTHERS!r}, which stands for all assets not named: rename that column")
    first, last = prices.index[0], prices.index[-1]
    start = first if data.start is None else pd.Timestamp(data.start)
    end = last if data.end is None else pd.Timestamp(data.end)
    chosen = prices.loc[(prices.index >= start) & (prices.index < end + pd.Timedelta(days=1))]
    if len(chosen) < 2:
        key = "start" if data.start is not None else "end"
        raise at.error(
            f"only {len(chosen)} rows of prices lie between {start:%Y-%m-%d} and {end:%Y-%m-%d}: the data run from "
            f"{first:%Y-%m-%d} to {last:%Y-%m-%d}",
            key,
        )
    return chosen


def read_frame(name: str, prices: pd.DataFrame, what: str, at: Place, key: Key) -> pd.DataFrame:
    """A table like that of the prices, of their dates and assets; those it lacks are missing there."""
    frame = _frame(name, "remove the key", at, key, what=what)
    absent = prices.columns.difference(frame.columns)
    if len(absent):
        raise at.error(f"{name} says nothing about {some(absent)}", key)
    if not len(frame.index.intersection(prices.index)):
        raise at.error(f"{name} has no date in common with the prices", key)
    return frame.reindex(index=prices.index, columns=prices.columns)


def read_series(name: str, what: str, at: Place, *keys: Key) -> pd.Series:
    """A series by date: the index of the bundled prices, or a file with one column beside the dates."""
    if name == SAMPLE_INDEX:
        return sample_index()
    frame = _frame(name, f"{SAMPLE_INDEX!r} for the bundled index", at, *keys, what=what)
    if frame.shape[1] != 1:
        raise at.error(f"{name} has {frame.shape[1]} columns beside the dates; {what} is one", *keys)
    return frame.iloc[:, 0]


def read_labels(labels: str | dict[str, str], at: Place, *keys: Key) -> pd.Series:
    """Label of each asset."""
    if not isinstance(labels, str):
        return pd.Series(labels, name="label", dtype=object)
    if labels == SAMPLE_SECTORS:
        return sample_sectors()
    path = _find(labels, f"{SAMPLE_SECTORS!r} for those of the bundled prices", at, *keys)
    if path.suffix.lower() in _PARQUET:
        frame = _parquet(path, at, *keys)
        frame = frame if frame.shape[1] > 1 else frame.reset_index()
    else:
        try:
            # as text throughout: the ticker NA is not a missing value
            frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
            raise at.error(f"{path} cannot be read as CSV: {error}", *keys) from error
    if frame.shape[1] != 2:
        raise at.error(f"{path} has {frame.shape[1]} columns; it needs two, asset and label", *keys)
    values = [label if label != "" else None for label in frame.iloc[:, 1]]
    return pd.Series(values, index=pd.Index(frame.iloc[:, 0], name="asset"), name="label", dtype=object)


def some(names: pd.Index | list[str]) -> str:
    """The first few names, and how many more there are."""
    listed = [str(name) for name in names]
    return ", ".join(listed[:5]) + (f" and {len(listed) - 5} more" if len(listed) > 5 else "")


def _frame(name: str, alternative: str, at: Place, *keys: Key, what: str = "prices") -> pd.DataFrame:
    keys = keys or ("source",)
    path = _find(name, alternative, at, *keys)
    if path.suffix.lower() in _PARQUET:
        frame = _parquet(path, at, *keys)
        if not isinstance(frame.index, pd.DatetimeIndex):
            frame = frame.set_index(frame.columns[0])
    else:
        frame = _csv(path, at, *keys)
    if frame.empty:
        raise at.error(f"{path} has no {what}: dates in the first column, then a column per asset", *keys)
    if not isinstance(frame.index, pd.DatetimeIndex):
        frame.index = _dates(path, frame.index, at, *keys)
    frame.columns = pd.Index([str(column) for column in frame.columns], name="asset")
    return frame.sort_index()


def _dates(path: Path, labels: pd.Index, at: Place, *keys: Key) -> pd.DatetimeIndex:
    # Only the ISO form: 01/02/2020 is another day in Europe than in America.
    dates = pd.to_datetime(labels, format="ISO8601", errors="coerce")
    if dates.hasnans:
        culprit = labels[dates.isna()][0]
        raise at.error(f"the first column of {path} holds {culprit!r}, which is not a date of the form 2013-01-31",
                       *keys)  # fmt: skip
    return pd.DatetimeIndex(dates, name="date")


def _csv(path: Path, at: Place, *keys: Key) -> pd.DataFrame:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header = next(csv.reader(file), [])
        # pandas would rename the second of two equal columns without a word
        repeated = sorted({name for name in header if header.count(name) > 1})
        if repeated:
            raise at.error(f"{path} has the column {repeated[0]!r} twice; keep one of them", *keys)
        return pd.read_csv(path, index_col=0, encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError, csv.Error) as error:
        raise at.error(f"{path} cannot be read as CSV: {error}", *keys) from error


def _parquet(path: Path, at: Place, *keys: Key) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:  # pyarrow's own errors are one or the other
        raise at.error(f"{path} cannot be read as Parquet: {error}", *keys) from error


def _find(name: str, alternative: str, at: Place, *keys: Key) -> Path:
    folder = at.origin.path.parent if at.origin.path is not None else Path()
    path = folder / Path(name).expanduser()
    if not path.is_file():
        raise at.error(f"there is no file {path}; give the path of one, or {alternative}", *keys)
    return path

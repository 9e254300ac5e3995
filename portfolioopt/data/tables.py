"""Prices in from files and other libraries' tables, and out to Parquet."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal, Protocol, runtime_checkable

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.ipc as ipc
import pyarrow.parquet as pq

from portfolioopt.errors import InputError, unknown_names

from .checks import check_columns, check_labels, check_positive, date_text, numbers_of, some

_SUFFIXES: Final = (".csv", ".parquet", ".feather", ".arrow")


@runtime_checkable
class ArrowStream(Protocol):
    """Anything that hands out its rows through the Arrow C stream interface: polars, DuckDB, pyarrow."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """A PyCapsule with the stream."""
        ...


def read_prices(
    source: pd.DataFrame | str | Path | ArrowStream,
    *,
    layout: Literal["wide", "long"] = "wide",
    date: str = "date",
    asset: str = "asset",
    price: str = "price",
) -> pd.DataFrame:
    """A checked table of prices, dates by assets, from wherever they are.

    Parameters
    ----------
    source
        A frame; the path of a file (.csv, .parquet, .feather); or a table of another library that speaks the Arrow C
        stream interface (a pyarrow Table or reader, a polars DataFrame, a DuckDB relation).
    layout
        ``"wide"``: one row per date, one column per asset, and the dates in the column `date` or in the index of a
        frame. ``"long"``: one row per date and asset, in the columns `date`, `asset` and `price`; others are ignored.
    date, asset, price
        Names of those columns.

    Returns
    -------
    DataFrame, T x N
        Positive float64 prices in order of time, NaN where there is none; the index is called `date` and the columns
        `asset`. Columns of a wide table keep their order, those of a long one are sorted.

    Raises
    ------
    InputError
        For files that cannot be read, columns that are missing, dates that are text in another form than ISO 8601
        (2024-01-31: which of 01/02/2024 is the month is not guessed), missing or repeated dates, two prices of one
        asset on one date, and prices that are not positive numbers.
    """
    if layout not in ("wide", "long"):
        raise InputError(f"layout must be 'wide' or 'long', was {layout!r}")
    table = _frame(source)
    if layout == "wide":
        prices = _from_wide(table, date)
    else:
        prices = _from_long(table, date, asset, price)
    prices = prices.sort_index(kind="stable").rename_axis(index=date, columns=asset)
    check_labels(prices)
    values = numbers_of(prices)
    check_positive(values, prices.index, prices.columns)
    return pd.DataFrame(values.copy(), prices.index, prices.columns, copy=False)


def write_prices(prices: pd.DataFrame, path: str | Path) -> None:
    """Write checked prices to a Parquet file, from which :func:`read_prices` gives back the same frame.

    Raises InputError for what :func:`read_prices` refuses, assets that are not named by text, a file name that does not
    end in .parquet, and a folder that does not exist.
    """
    target = Path(path)
    if target.suffix.lower() != ".parquet":
        raise InputError(f"prices are written to Parquet: name the file {target.with_suffix('.parquet').name}")
    if not target.parent.is_dir():
        raise InputError(f"the folder {target.parent} does not exist; make it first")
    check_labels(prices)
    odd = [name for name in prices.columns if not isinstance(name, str)]
    if odd:
        raise InputError(
            f"assets in a Parquet file are named by text, {some(odd)} is not; use prices.rename(columns=str)"
        )
    values = numbers_of(prices)
    check_positive(values, prices.index, prices.columns)
    name = prices.index.name or "date"
    if name in prices.columns:
        raise InputError(f"an asset and the dates are both called {name!r}; rename one of them")
    pd.DataFrame(values, prices.index.rename(name), prices.columns).to_parquet(target, engine="pyarrow")


def _frame(source: object) -> pd.DataFrame:
    if isinstance(source, pd.DataFrame):
        return source
    if isinstance(source, str | Path):
        return _read_file(Path(source))
    if isinstance(source, ArrowStream):
        return _from_arrow(pa.table(source))
    raise InputError(
        f"prices cannot be read from {type(source).__name__}; pass a frame, the path of a file "
        f"({', '.join(_SUFFIXES)}), or a table with the Arrow C stream interface"
    )


def _read_file(path: Path) -> pd.DataFrame:
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES:
        raise InputError(f"{path} ends in {suffix or 'nothing'}; prices are read from {', '.join(_SUFFIXES)}")
    if not path.is_file():
        raise InputError(f"{path} does not exist or is no file")
    try:
        if suffix == ".csv":
            return _from_arrow(csv.read_csv(path))
        if suffix == ".parquet":
            return _from_arrow(pq.read_table(path))
        with pa.OSFile(str(path)) as file:
            return _from_arrow(ipc.open_file(file).read_all())
    except pa.ArrowInvalid as error:
        raise InputError(f"{path} cannot be read as {suffix[1:]}: {error}") from error


def _from_arrow(table: pa.Table) -> pd.DataFrame:
    """A frame of an Arrow table, decimal numbers as float64."""
    for place, field in enumerate(table.schema):
        if pa.types.is_decimal(field.type):
            table = table.set_column(place, field.name, table.column(place).cast(pa.float64()))
    return table.to_pandas()


def _from_wide(table: pd.DataFrame, date: str) -> pd.DataFrame:
    check_columns(table, "prices")
    if date in table.columns:
        index = _dates(table[date], date)
        return table.drop(columns=date).set_axis(index, axis="index")
    if isinstance(table.index, pd.DatetimeIndex | pd.PeriodIndex):
        return table
    if table.index.name == date:
        return table.set_axis(_dates(table.index.to_series(), date), axis="index")
    raise InputError(
        f"prices has neither a column {date!r} nor dates as its index (its columns: {some(table.columns)}); name the "
        "column with date="
    )


def _from_long(table: pd.DataFrame, date: str, asset: str, price: str) -> pd.DataFrame:
    names = [name for name in (date, asset, price) if name not in table.columns]
    if names and set(names) <= set(table.index.names):
        table = table.reset_index()
        names = []
    if names:
        raise unknown_names("column of the long table", names, list(table.columns))
    columns = [date, asset, price]
    check_columns(table[columns], "prices")
    if table[asset].isna().any():
        raise InputError(f"{int(table[asset].isna().sum())} rows of prices have no {asset}; drop them")
    days = _dates(table[date], date)
    rows, dates = pd.factorize(days, sort=True)
    places, assets = pd.factorize(table[asset], sort=True)
    values = numbers_of(table[[price]])[:, 0]
    cell = rows.astype(np.int64) * len(assets) + places
    order = np.argsort(cell, kind="stable")
    twice = np.flatnonzero(np.diff(cell[order]) == 0)
    if len(twice):
        cells = np.unique(cell[order][twice])
        named = some(f"{assets[c % len(assets)]} on {date_text(dates[c // len(assets)])}" for c in cells)
        raise InputError(f"prices has more than one row for {named}; keep one of each, the table does not say which")
    grid = np.full((len(dates), len(assets)), np.nan)
    grid[rows, places] = values
    return pd.DataFrame(grid, index=pd.DatetimeIndex(dates), columns=pd.Index(assets))


def _dates(column: pd.Series, name: str) -> pd.DatetimeIndex:
    if pd.api.types.is_numeric_dtype(column.dtype):
        raise InputError(f"the column {name!r} holds numbers, not dates; convert it with pd.to_datetime first")
    if column.isna().any():
        raise InputError(f"{int(column.isna().sum())} rows of prices have no {name}; drop them")
    if isinstance(column.dtype, pd.PeriodDtype):
        raise InputError(f"the column {name!r} holds periods; choose their dates with .dt.to_timestamp()")
    try:
        return pd.DatetimeIndex(pd.to_datetime(column, format="ISO8601"), name=name)
    except (ValueError, TypeError) as error:
        raise InputError(
            f"the column {name!r} does not hold dates in the form 2024-01-31 ({error}); convert it first with "
            "pd.to_datetime(..., format=...)"
        ) from error

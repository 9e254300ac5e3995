"""Prices from files and other libraries: the same table whichever way it comes."""

from __future__ import annotations

import decimal

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.ipc as ipc
import pytest

from portfolioopt.data import read_prices, sample_prices, write_prices
from portfolioopt.errors import InputError, UnknownNameError

PRICES = sample_prices().iloc[:30, :4]
HOLES = PRICES.mask(np.random.default_rng(0).random(PRICES.shape) < 0.2)


def long_of(prices: pd.DataFrame) -> pd.DataFrame:
    table = prices.reset_index().melt(id_vars="date", var_name="asset", value_name="price").dropna()
    return table.sample(frac=1.0, random_state=0).reset_index(drop=True)


LONG = long_of(HOLES)


def same(found: pd.DataFrame, expected: pd.DataFrame = HOLES) -> None:
    pd.testing.assert_frame_equal(found, expected, check_freq=False, check_index_type=False, check_column_type=False)
    assert found.index.name == "date"
    assert found.columns.name == "asset"


def test_frames_long_and_wide() -> None:
    same(read_prices(HOLES))
    same(read_prices(HOLES.reset_index()))
    same(read_prices(HOLES.iloc[::-1]))
    same(read_prices(LONG, layout="long"))
    same(read_prices(LONG.set_index(["date", "asset"]), layout="long"))
    named = LONG.rename(columns={"date": "day", "asset": "ticker", "price": "close"}).assign(volume=1.0)
    found = read_prices(named, layout="long", date="day", asset="ticker", price="close")
    assert (found.index.name, found.columns.name) == ("day", "ticker")
    np.testing.assert_array_equal(found, HOLES)


def test_the_pivot_is_that_of_pandas() -> None:
    same(read_prices(LONG, layout="long"), LONG.pivot_table(index="date", columns="asset", values="price"))


@pytest.mark.parametrize("layout", ["wide", "long"])
def test_files_and_other_libraries(tmp_path, layout) -> None:
    table = LONG if layout == "long" else HOLES.reset_index()
    table.to_csv(tmp_path / "prices.csv", index=False)
    table.to_parquet(tmp_path / "prices.parquet")
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    for suffix, options in (("feather", ipc.IpcWriteOptions(compression="lz4")), ("arrow", None)):
        with ipc.new_file(str(tmp_path / f"prices.{suffix}"), arrow.schema, options=options) as writer:
            writer.write_table(arrow)
    connection = duckdb.connect()
    connection.register("prices", arrow)
    sources = {
        **{suffix: tmp_path / f"prices.{suffix}" for suffix in ("csv", "parquet", "feather", "arrow")},
        "text": str(tmp_path / "prices.csv"),
        "pyarrow": arrow,
        "reader": arrow.to_reader(),
        "polars": pl.from_arrow(arrow),
        "dates of polars": pl.from_arrow(arrow).with_columns(pl.col("date").cast(pl.Date)),
        "duckdb": connection.sql("select * from prices"),
    }
    for name, source in sources.items():
        found = read_prices(source, layout=layout)
        assert isinstance(found.index, pd.DatetimeIndex), name
        same(found)


def test_decimal_and_whole_numbers_become_float64() -> None:
    table = pa.table(
        {
            "date": pa.array([pd.Timestamp("2024-01-01"), pd.Timestamp("2024-01-02")]),
            "A": pa.array([decimal.Decimal("1.25"), None], pa.decimal128(10, 2)),
            "B": pa.array([1, 2]),
        }
    )
    found = read_prices(table)
    assert (found.dtypes == np.float64).all()
    assert found["A"].iloc[0] == 1.25
    assert found["B"].tolist() == [1.0, 2.0]


def test_parquet_gives_back_what_was_written(tmp_path) -> None:
    write_prices(HOLES, tmp_path / "p.parquet")
    same(read_prices(tmp_path / "p.parquet"))
    zoned = HOLES.tz_localize("Europe/Berlin")
    write_prices(zoned, tmp_path / "zoned.parquet")
    assert read_prices(tmp_path / "zoned.parquet").equals(zoned)


def test_the_frame_is_the_callers_own() -> None:
    source = HOLES.copy()
    found = read_prices(source)
    found.iloc[:] = 1.0
    pd.testing.assert_frame_equal(source, HOLES)


DUPLICATED = pd.concat([LONG, LONG.iloc[:1]])


@pytest.mark.parametrize(
    ("source", "arguments", "text"),
    [
        (DUPLICATED, {"layout": "long"}, f"more than one row for {LONG.asset[0]} on {LONG.date[0]:%Y-%m-%d}"),
        (LONG.drop(columns="price"), {"layout": "long"}, "unknown column of the long table: 'price'"),
        (LONG.assign(price=-1.0), {"layout": "long"}, "not positive and finite"),
        (LONG.assign(price="1"), {"layout": "long"}, "do not hold numbers"),
        (LONG.assign(asset=None), {"layout": "long"}, "have no asset"),
        (LONG.assign(date=pd.NaT), {"layout": "long"}, "have no date"),
        (LONG.assign(date=20240101), {"layout": "long"}, "numbers, not dates"),
        (LONG.assign(date="01/02/2024"), {"layout": "long"}, "in the form 2024-01-31"),
        (HOLES.reset_index(drop=True), {}, "neither a column 'date'"),
        (HOLES, {"layout": "tall"}, "layout must be"),
        (pd.concat([HOLES, HOLES.iloc[:1]]), {}, "repeated dates"),
        (HOLES.assign(KO=-1.0), {}, "not positive"),
        (HOLES.astype(str), {}, "do not hold numbers"),
        (3.0, {}, "cannot be read from float"),
        ("prices.xlsx", {}, "ends in .xlsx"),
        ("absent.csv", {}, "does not exist"),
    ],
)
def test_tables_that_cannot_be_meant_are_refused(source, arguments: dict, text: str) -> None:
    with pytest.raises(InputError, match=text):
        read_prices(source, **arguments)


def test_broken_files_are_refused_by_name(tmp_path) -> None:
    for suffix in ("parquet", "feather", "csv"):
        path = tmp_path / f"broken.{suffix}"
        path.write_bytes(b"" if suffix == "csv" else b"nothing of the kind")
        with pytest.raises(InputError, match=f"broken.{suffix} cannot be read as {suffix}"):
            read_prices(path)


def test_what_cannot_be_written_is_refused(tmp_path) -> None:
    for prices, path, text in (
        (HOLES, tmp_path / "p.csv", "name the file p.parquet"),
        (HOLES, tmp_path / "absent" / "p.parquet", "does not exist"),
        (HOLES.rename(columns={"AAPL": 3}), tmp_path / "p.parquet", "named by text"),
        (HOLES.rename(columns={"AAPL": "date"}), tmp_path / "p.parquet", "both called 'date'"),
        (-HOLES, tmp_path / "p.parquet", "not positive"),
    ):
        with pytest.raises(InputError, match=text):
            write_prices(prices, path)
    assert not list(tmp_path.iterdir())


def test_an_unknown_column_is_a_name_error() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'price'"):
        read_prices(LONG, layout="long", price="prices")

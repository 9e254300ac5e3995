"""The bundled data: golden facts, relations that hold between the tables, and how they are handed out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from portfolioopt.data import (
    sample_factor_etfs,
    sample_factors,
    sample_index,
    sample_prices,
    sample_sectors,
)

ROOT = Path(__file__).resolve().parents[2]
TABLES = [sample_prices, sample_factor_etfs, sample_factors]
TICKERS = [
    *("AAPL", "AMD", "BAC", "BBY", "CVX", "GE", "HD", "JNJ", "JPM", "KO"),
    *("LLY", "MRK", "MSFT", "PEP", "PFE", "PG", "RRC", "UNH", "WMT", "XOM"),
]


def test_prices_are_the_published_ones() -> None:
    prices = sample_prices()
    assert prices.shape == (8313, 20)
    assert prices.columns.tolist() == TICKERS
    assert (prices.index.name, prices.columns.name) == ("date", "asset")
    assert prices.index[0] == pd.Timestamp("1990-01-02")
    assert prices.index[-1] == pd.Timestamp("2022-12-28")
    assert (prices.dtypes == np.float64).all()
    assert not prices.isna().any(axis=None)
    assert (prices > 0).all(axis=None)
    # Exact: the doubles nearest to the printed digits of the source.
    assert prices.iloc[0][["AAPL", "AMD", "MSFT", "XOM"]].tolist() == [0.264, 4.125, 0.384, 4.068]
    assert prices.iloc[-1][["AAPL", "AMD", "MSFT", "XOM"]].tolist() == [125.674, 62.57, 233.434, 106.627]
    np.testing.assert_array_equal(prices.to_numpy(), prices.round(3).to_numpy())


def test_index_is_the_published_one() -> None:
    index = sample_index()
    assert isinstance(index, pd.Series)
    assert (index.name, index.index.name, index.dtype) == ("SP500", "date", np.float64)
    assert index.index.equals(sample_prices().index)
    assert (index.iloc[0], index.iloc[-1]) == (359.69, 3783.22)
    # Black Monday is before the span; the worst day in it is 16 March 2020.
    change = index / index.shift(1) - 1
    assert change.idxmin() == pd.Timestamp("2020-03-16")
    assert change.min() == pytest.approx(-0.1198, abs=5e-5)


def test_factor_etfs_are_the_published_ones() -> None:
    funds = sample_factor_etfs()
    assert funds.shape == (2264, 5)
    assert funds.columns.tolist() == ["MTUM", "QUAL", "SIZE", "USMV", "VLUE"]
    assert (funds.index.name, funds.columns.name) == ("date", "asset")
    assert funds.index.equals(sample_prices().loc["2014":].index)
    assert funds.iloc[0].tolist() == [52.704, 48.351, 48.986, 29.338, 47.054]
    assert funds.iloc[-1].tolist() == [143.73, 111.883, 111.121, 71.134, 88.473]
    assert (funds > 0).all(axis=None)


def test_factors_are_the_published_ones_as_fractions() -> None:
    factors = sample_factors()
    assert factors.shape == (347, 5)
    assert factors.columns.tolist() == ["Mkt-RF", "SMB", "HML", "Mom", "RF"]
    assert (factors.index.name, factors.columns.name) == ("date", "factor")
    assert factors.iloc[0].tolist() == [-0.0785, -0.0129, 0.0087, -0.0328, 0.0057]
    assert factors.iloc[-1].drop("Mom").tolist() == [0.0169, -0.0075, 0.0022, 0.0018]


def test_factors_are_stamped_with_month_ends_and_momentum_ends_early() -> None:
    factors = sample_factors()
    months = pd.DatetimeIndex(factors.index).to_period("M")
    assert months.equals(pd.period_range("1990-01", "2018-11", freq="M"))
    assert (factors.index == months.to_timestamp(how="end").normalize()).all()
    assert factors["Mom"].last_valid_index() == pd.Timestamp("2017-03-31")
    assert factors["Mom"].isna().sum() == 20
    assert not factors.drop(columns="Mom").isna().any(axis=None)


def test_market_factor_agrees_with_the_index() -> None:
    # Two independent sources of the same market: the factor in fractions of the right months, or this fails.
    factors = sample_factors()
    market = (factors["Mkt-RF"] + factors["RF"]).to_numpy()[1:]
    closes = sample_index().groupby(pd.DatetimeIndex(sample_index().index).to_period("M")).last()
    index = (closes / closes.shift(1) - 1).loc["1990-02":"2018-11"].to_numpy()
    assert np.corrcoef(market, index)[0, 1] > 0.98
    assert np.std(market) / np.std(index) == pytest.approx(1.0, abs=0.06)
    # The index leaves out dividends, about two per cent a year.
    assert 0.01 < 12 * (market - index).mean() < 0.03


def test_sectors_cover_the_prices() -> None:
    sectors = sample_sectors()
    assert sectors.index.tolist() == TICKERS
    assert (sectors.name, sectors.index.name) == ("sector", "asset")
    assert sectors[["AAPL", "JPM", "HD", "PG", "XOM", "GE", "UNH"]].tolist() == [
        "Information Technology",
        "Financials",
        "Consumer Discretionary",
        "Consumer Staples",
        "Energy",
        "Industrials",
        "Health Care",
    ]
    assert sectors.value_counts().to_dict() == {
        "Health Care": 5,
        "Consumer Staples": 4,
        "Information Technology": 3,
        "Energy": 3,
        "Financials": 2,
        "Consumer Discretionary": 2,
        "Industrials": 1,
    }


@pytest.mark.parametrize("load", TABLES)
def test_every_call_hands_out_a_copy_that_may_be_written(load) -> None:
    first, untouched = load(), load()
    first.iloc[0, 0] = -1.0
    first["new"] = 0.0
    pd.testing.assert_frame_equal(load(), untouched)


@pytest.mark.parametrize("load", [sample_index, sample_sectors])
def test_every_call_hands_out_a_series_that_may_be_written(load) -> None:
    first, untouched = load(), load()
    first.iloc[0] = first.iloc[1]
    first.name = "mine"
    pd.testing.assert_series_equal(load(), untouched)


@pytest.mark.slow
def test_the_first_load_is_quick() -> None:
    # In a process of its own, first thing after the imports. 0.1 s is promised; the margin is for busy ones.
    code = (
        f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'kernels')!r}]\n"
        "import time, pandas, portfolioopt.data\n"
        "start = time.perf_counter()\n"
        "portfolioopt.data.sample_prices()\n"
        "print(time.perf_counter() - start)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(out.stdout) < 0.5


def test_sources_and_licences_are_beside_the_data() -> None:
    folder = ROOT / "portfolioopt" / "data" / "sample"
    sources = (folder / "SOURCES.md").read_text(encoding="utf-8")
    for path in [*folder.glob("*.parquet"), *folder.glob("licenses/*.txt")]:
        assert path.name in sources, f"SOURCES.md does not mention {path.name}"
    assert len(list(folder.glob("licenses/*.txt"))) == 3

"""The bundled sample: real prices and factor returns, for a first try without a data vendor.

The tables are stale by intention and meant for learning and testing, never for trading. Two biases matter
when reading results: the 20 companies were picked because they were large and alive in 2022 (survivorship),
and prices carry three decimals, so early split-adjusted prices below one dollar give returns that are rounded
to a few tenths of a per cent. ``sample/SOURCES.md`` has the origin and the licence of each table.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pandas as pd
import pyarrow.parquet as pq

_FOLDER: Final = Path(__file__).with_name("sample")

_SECTORS: Final = {
    "AAPL": "Information Technology",
    "AMD": "Information Technology",
    "BAC": "Financials",
    "BBY": "Consumer Discretionary",
    "CVX": "Energy",
    "GE": "Industrials",
    "HD": "Consumer Discretionary",
    "JNJ": "Health Care",
    "JPM": "Financials",
    "KO": "Consumer Staples",
    "LLY": "Health Care",
    "MRK": "Health Care",
    "MSFT": "Information Technology",
    "PEP": "Consumer Staples",
    "PFE": "Health Care",
    "PG": "Consumer Staples",
    "RRC": "Energy",
    "UNH": "Health Care",
    "WMT": "Consumer Staples",
    "XOM": "Energy",
}


def sample_prices() -> pd.DataFrame:
    """Return daily prices of 20 large US companies, 1990-01-02 to 2022-12-28.

    Returns
    -------
    DataFrame, 8313 x 20
        US dollars per share at the close, adjusted for splits and dividends, one row per trading day (index
        ``date``), one column per ticker in alphabetical order (columns ``asset``). No missing values. A fresh
        copy on each call. Source: skfolio (BSD-3-Clause).
    """
    return _read("prices")


def sample_index() -> pd.Series:
    """Return the daily level of the S&P 500 index on the days of :func:`sample_prices`.

    Returns
    -------
    Series, 8313, named ``"SP500"``
        Index points at the close. This is the price index: unlike the prices of the shares, it leaves
        dividends out, about two per cent a year. A fresh copy on each call. Source: skfolio (BSD-3-Clause).
    """
    return _read("index")["SP500"].copy()


def sample_factor_etfs() -> pd.DataFrame:
    """Return daily prices of five US equity factor funds, 2014-01-02 to 2022-12-28.

    Returns
    -------
    DataFrame, 2264 x 5
        US dollars per share at the close, adjusted for splits and dividends, on the days of
        :func:`sample_prices` from 2014 on. Columns: ``MTUM`` momentum, ``QUAL`` quality, ``SIZE`` size,
        ``USMV`` minimum volatility, ``VLUE`` value. No missing values. A fresh copy on each call. Source:
        skfolio (BSD-3-Clause).
    """
    return _read("factor_etfs")


def sample_factors() -> pd.DataFrame:
    """Return monthly Fama-French factor returns of the US market, January 1990 to November 2018.

    They end before the prices do: all factors in November 2018, and momentum already in March 2017.

    Returns
    -------
    DataFrame, 347 x 5
        Simple returns per month as fractions (0.01 is one per cent), stamped with the last calendar day of
        the month, which need not be a trading day. Columns: ``Mkt-RF`` market over the risk-free rate,
        ``SMB`` small minus big, ``HML`` high minus low book-to-market, ``Mom`` momentum, ``RF`` the risk-free
        rate. ``Mom`` is NaN in the last 20 months, April 2017 to November 2018. A fresh copy on each call.
        Source: Kenneth French's data library by way of arch (NCSA), and for ``Mom`` of linearmodels (NCSA).
    """
    return _read("factors")


def sample_sectors() -> pd.Series:
    """Return the sector of each company in :func:`sample_prices`.

    Returns
    -------
    Series, 20, named ``"sector"``
        GICS sector name as of 2022 by ticker (index ``asset``). A company's sector of today says little about
        1990. A fresh copy on each call.
    """
    sectors = pd.Series(_SECTORS, name="sector")
    return sectors.rename_axis(index="asset")


def _read(name: str) -> pd.DataFrame:
    # Not memory-mapped, and copied: the frame must be the caller's own, writable and free of the file.
    return pq.read_table(_FOLDER / f"{name}.parquet", memory_map=False).to_pandas().copy()

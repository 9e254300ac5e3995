"""Rebuild the Parquet files and licence texts of the bundled sample from the packages they come from.

Run it where skfolio 1.12, linearmodels 7.1 and arch 8.0 are installed; it reads their files without importing
them::

    python scripts/make_sample_data.py
"""

from __future__ import annotations

import importlib.metadata
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

SAMPLE = Path(__file__).resolve().parents[1] / "portfolioopt" / "data" / "sample"
FIRST_MONTH, LAST_MONTH = "1990-01", "2022-12"  # the span of the stock prices
SOURCES = {"skfolio": "BSD-3-Clause", "linearmodels": "NCSA", "arch": "NCSA"}


def installed_file(distribution: str, ending: str) -> Path:
    """Return the one file of an installed distribution whose path ends in `ending`."""
    files = importlib.metadata.files(distribution) or []
    found = [Path(str(file.locate())) for file in files if file.as_posix().endswith(ending)]
    if len(found) != 1:
        raise SystemExit(f"{distribution}: expected one file ending in {ending}, found {found}")
    return found[0]


def read_prices(ending: str) -> pd.DataFrame:
    """Read one price table of skfolio, each number as the double nearest to its printed digits."""
    frame = pd.read_csv(installed_file("skfolio", ending), dtype=str).set_index("Date").astype(float)
    frame.index = pd.DatetimeIndex(frame.index, name="date")
    return frame.rename_axis(columns="asset")


def percent_to_fraction(text: str) -> float:
    """Shift the decimal point in the text, so that 2.96 % becomes the double nearest to 0.0296."""
    return float(f"{text}e-2")


def read_factors() -> pd.DataFrame:
    """Join the three factors and the risk-free rate of arch with the momentum factor of linearmodels."""
    french = pd.read_csv(installed_file("arch", "frenchdata.csv.gz"), dtype=str)
    factors = french.set_index(pd.PeriodIndex(french.pop("Date"), freq="M"))
    factors = factors.map(str.strip).map(percent_to_fraction)

    other = pd.read_csv(installed_file("linearmodels", "french.csv.bz2"), dtype=str)
    other = other.set_index(pd.PeriodIndex(other.pop("dates"), freq="M")).astype(float)
    # French publishes four decimals; the file carries a binary rounding error behind them.
    factors.insert(3, "Mom", other["Mom"].round(4))

    report_overlap(factors, other.rename(columns={"MktRF": "Mkt-RF"}))
    factors = factors.loc[FIRST_MONTH:LAST_MONTH]
    factors.index = pd.PeriodIndex(factors.index).to_timestamp(how="end").normalize().rename("date")
    return factors.rename_axis(columns="factor")


def report_overlap(factors: pd.DataFrame, other: pd.DataFrame) -> None:
    """Print how far the two editions of the same factors are apart (SOURCES.md quotes these lines)."""
    for label, first in (("all common months", None), (f"from {FIRST_MONTH}", FIRST_MONTH)):
        for name in ("Mkt-RF", "SMB", "HML", "RF"):
            left, right = factors.loc[first:, name].align(other.loc[first:, name], join="inner")
            gap = (left - right).abs()
            print(
                f"{label}: {name}: {len(gap)} months, {int((gap > 5e-7).sum())} differ, "
                f"{int((gap > 1.5e-4).sum())} by more than 0.0001, largest {gap.max():.4f} "
                f"in {gap.idxmax()}, correlation {np.corrcoef(left, right)[0, 1]:.6f}"
            )


def write(frame: pd.DataFrame, name: str) -> None:
    """Write one table with microsecond dates, which every supported pandas reads back unchanged."""
    frame.index = pd.DatetimeIndex(frame.index).as_unit("us")
    buffer = io.BytesIO()
    table = pa.Table.from_pandas(frame)
    # Prices hardly repeat: without dictionaries the files are a third smaller and load as fast.
    pq.write_table(table, buffer, compression="zstd", compression_level=19, use_dictionary=False)
    path = SAMPLE / f"{name}.parquet"
    path.write_bytes(buffer.getvalue())
    print(f"{path.name}: {frame.shape[0]} x {frame.shape[1]}, {path.stat().st_size:,} bytes")


def main() -> None:
    """Write all tables and licence texts."""
    write(read_prices("sp500_dataset.csv.gz"), "prices")
    write(read_prices("sp500_index.csv.gz"), "index")
    write(read_prices("factors_dataset.csv.gz"), "factor_etfs")
    write(read_factors(), "factors")
    for distribution, licence in SOURCES.items():
        suffix = "/LICENSE" if distribution == "skfolio" else "/LICENSE.md"
        text = installed_file(distribution, suffix).read_text(encoding="utf-8")
        text = "\n".join(line.rstrip() for line in text.strip().splitlines()) + "\n"
        (SAMPLE / "licenses" / f"{distribution}-{licence}.txt").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

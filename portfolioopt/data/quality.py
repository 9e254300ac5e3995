"""What looks wrong with a table of prices: gaps, stale runs, outliers, splits, impossible and repeated entries."""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.labels import FloatArray, checked_number

from .anomalies import find_outliers, find_splits, runs
from .checks import BoolArray, check_kind_of_dates, numbers_of, some, whole_number

_BLOCK: Final = 256  # assets at a time: a block of a few thousand days stays in the processor's cache
_SHOWN: Final = 10
_KINDS: Final = ("gaps", "stale", "outliers", "splits", "non_positive", "duplicated")


@dataclass(frozen=True, eq=False)
class QualityReport:
    """What :func:`quality_report` found, one row per finding; nothing was changed.

    Parameters
    ----------
    gaps
        Runs of missing prices between the first and the last price of an asset: asset, start, end, rows.
    stale
        Runs of identical prices: asset, start, end, rows.
    outliers
        Returns far out of proportion to the volatility before them: asset, date, return (simple, a fraction), z, and
        whether the next price took most of it back (a wrong price rather than news).
    splits
        Jumps by nearly a ratio of small whole numbers that were never reverted: asset, date, return, ratio (new shares
        for old, as text), error (log distance from that ratio), volume_ratio (after to before, NaN without volumes).
    non_positive
        Prices that are zero, negative or infinite: asset, date, price.
    duplicated
        Repeated dates and assets: kind, label, count. Of repeated ones the last was looked at.
    summary
        By asset: first and last date with a price, number of prices, missing ones between them, longest gap and longest
        stale run in rows, numbers of outliers, splits and non-positive prices, and volatility (robust, a fraction per
        row: 1.4826 times the median absolute log return, zeros left out).
    """

    gaps: pd.DataFrame
    stale: pd.DataFrame
    outliers: pd.DataFrame
    splits: pd.DataFrame
    non_positive: pd.DataFrame
    duplicated: pd.DataFrame
    summary: pd.DataFrame

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        return not any(len(table) for _, table in self._findings())

    def __str__(self) -> str:
        lines = [self._headline()]
        for name, table in self._findings():
            if len(table):
                lines += ["", self._title(name, table), table.head(_SHOWN).to_string(index=False)]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"QualityReport({self._headline()})"

    def _repr_html_(self) -> str:
        pieces = [f"<p><b>{html.escape(self._headline())}</b></p>"]
        for name, table in self._findings():
            if len(table):
                pieces.append(f"<p>{html.escape(self._title(name, table))}</p>")
                pieces.append(table.head(_SHOWN).to_html(index=False))
        return "".join(pieces)

    def _findings(self) -> Iterator[tuple[str, pd.DataFrame]]:
        return ((name, getattr(self, name)) for name in _KINDS)

    def _headline(self) -> str:
        size = f"{len(self.summary)} assets, {int(self.summary['prices'].sum())} prices"
        found = [
            f"{len(table)} {name.removesuffix('s') if len(table) == 1 else name.replace('_', '-')}"
            for name, table in self._findings()
            if len(table)
        ]
        return f"{size}: {', '.join(found) if found else 'nothing found'}"

    @staticmethod
    def _title(name: str, table: pd.DataFrame) -> str:
        more = f", the first {_SHOWN}" if len(table) > _SHOWN else ""
        return f"{name.replace('_', '-')} ({len(table)}{more})"


def quality_report(
    prices: pd.DataFrame,
    volumes: pd.DataFrame | None = None,
    *,
    stale_rows: int = 5,
    outlier_z: float = 12.0,
) -> QualityReport:
    r"""Look for what is wrong with prices before anything is estimated from them.

    With log returns :math:`x_t` of an asset, the volatility before t is an exponential average of :math:`|x|` over
    earlier days (half-life 20 rows, extremes clipped, begun at its median), and

    .. math:: z_t = \frac{x_t / v_t}{1.4826\, \mathrm{median}_s |x_s / v_s|},

    so that neither a turbulent month nor one wrong price hides another. For normal returns z is about standard normal;
    for real daily ones a threshold of 12 leaves wrong prices and the largest news. Rousseeuw & Croux (1993), Journal of
    the American Statistical Association 88.

    A *split* is a jump to a ratio that companies split by (3:2, 2:1, ... 100:1, or reverse from 1:2 on), give or take
    what the asset moves anyway, with z of at least 8, after which ten rows of prices stay nearer to the new level than
    to the old. Where volumes (in shares) are given, those of the ten rows after and before must have jumped the other
    way by at least the square root of the ratio.

    Parameters
    ----------
    prices
        T x N in any state: missing, repeated, non-positive entries are what is looked for.
    volumes
        T x N in shares, on dates and assets that include those of `prices`.
    stale_rows
        Number of identical prices in a row that is reported, at least 2.
    outlier_z
        Least absolute z that is reported.

    Raises
    ------
    InputError
        For what is no frame of numbers by dates, dates out of order, volumes that lack dates or assets.
    """
    length = whole_number(stale_rows, "stale_rows", least=2)
    threshold = checked_number(outlier_z, "outlier_z", above=0.0)
    prices, duplicated = _distinct(prices)
    if volumes is not None:
        volumes = _matching(volumes, prices)
    values = numbers_of(prices)
    traded = None if volumes is None else numbers_of(volumes, "volumes")
    findings: dict[str, list[pd.DataFrame]] = {name: [] for name in (*_KINDS[:-1], "summary")}
    for low in range(0, values.shape[1], _BLOCK):
        part = slice(low, low + _BLOCK)
        block = None if traded is None else np.ascontiguousarray(traded[:, part].T)
        found = _block_report(
            np.array(values[:, part].T, order="C"), block, prices.index, prices.columns[part], length, threshold
        )
        for name, table in found.items():
            findings[name].append(table)
    joined = {name: _joined(tables) for name, tables in findings.items()}
    joined["summary"].index = prices.columns
    return QualityReport(duplicated=duplicated, **joined)


def _block_report(
    values: FloatArray, volumes: FloatArray | None, dates: pd.Index, assets: pd.Index, stale: int, threshold: float
) -> dict[str, pd.DataFrame]:
    """All findings but repeated labels for a few assets; `values` and `volumes` are (n, T)."""
    assets_of = assets.to_numpy()
    bad = (values <= 0.0) | np.isinf(values)
    rows, columns = np.nonzero(bad)
    non_positive = pd.DataFrame({"asset": assets_of[rows], "date": dates[columns], "price": values[rows, columns]})
    values[bad] = np.nan

    known: BoolArray = np.logical_not(np.isnan(values))
    any_known: BoolArray = np.any(known, axis=1)
    first = np.argmax(known, axis=1)
    last = values.shape[1] - 1 - np.argmax(known[:, ::-1], axis=1)
    place = np.arange(values.shape[1])
    inside = (place >= first[:, None]) & (place <= last[:, None]) & any_known[:, None]
    gap_asset, gap_first, gap_last = runs(inside & ~known)

    same = np.zeros_like(known)
    same[:, 1:] = values[:, 1:] == values[:, :-1]
    run_asset, run_first, run_last = runs(same)
    run_first = run_first - 1  # the price that the others repeat
    long = run_last - run_first + 1 >= stale
    run_asset, run_first, run_last = run_asset[long], run_first[long], run_last[long]

    x, z, volatility = find_outliers(values)
    asset, day = np.nonzero(np.abs(z) >= threshold)
    before, after = x[asset, day], x[asset, np.minimum(day + 1, x.shape[1] - 1)]
    reverted = (day + 1 < x.shape[1]) & (np.abs(before + after) < 0.5 * np.abs(before))
    outliers = pd.DataFrame(
        {
            "asset": assets_of[asset],
            "date": dates[day],
            "return": np.expm1(before),
            "z": z[asset, day],
            "reverted": reverted,
        }
    )
    splits = find_splits(values, x, z, volatility, volumes)
    where = splits.pop("row")
    owner = splits.pop("column").to_numpy()
    splits.insert(0, "date", dates[where])
    splits.insert(0, "asset", assets_of[owner])

    n = len(values)
    summary = pd.DataFrame(
        {
            "first": dates[first].where(any_known),
            "last": dates[last].where(any_known),
            "prices": known.sum(axis=1),
            "missing": np.bincount(gap_asset, gap_last - gap_first + 1, n).astype(np.int64),
            "longest_gap": _longest(gap_asset, gap_last - gap_first + 1, n),
            "longest_stale": _longest(run_asset, run_last - run_first + 1, n),
            "outliers": np.bincount(asset, minlength=n),
            "splits": np.bincount(owner, minlength=n),
            "non_positive": np.bincount(rows, minlength=n),
            "volatility": volatility,
        }
    )
    return {
        "gaps": _runs_table(assets_of, dates, gap_asset, gap_first, gap_last),
        "stale": _runs_table(assets_of, dates, run_asset, run_first, run_last),
        "outliers": outliers,
        "splits": splits,
        "non_positive": non_positive,
        "summary": summary,
    }


def _runs_table(assets: np.ndarray, dates: pd.Index, who: np.ndarray, first: np.ndarray, last: np.ndarray):
    return pd.DataFrame({"asset": assets[who], "start": dates[first], "end": dates[last], "rows": last - first + 1})


def _longest(who: np.ndarray, length: np.ndarray, count: int) -> np.ndarray:
    longest = np.zeros(count, dtype=np.int64)
    np.maximum.at(longest, who, length)
    return longest


def _joined(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """One table, without those that are empty where any is not: their columns may have no type."""
    filled = [table for table in tables if len(table)]
    return pd.concat(filled, ignore_index=True) if filled else tables[0]


def _distinct(prices: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The last of each date and asset, and a table of those that are repeated."""
    if not isinstance(prices, pd.DataFrame):
        raise InputError(f"prices must be a DataFrame of dates by assets, not {type(prices).__name__}")
    if prices.columns.empty or not len(prices):
        raise InputError("prices is empty; pass at least one date and one asset")
    check_kind_of_dates(prices.index, "prices")
    if not prices.index.is_monotonic_increasing:
        raise InputError("the dates of prices are not in increasing order; sort them with prices.sort_index()")
    tables = []
    for kind, labels in (("date", prices.index), ("asset", prices.columns)):
        counts = labels[labels.duplicated(keep=False)].value_counts(sort=False)
        tables.append(
            pd.DataFrame(
                {"kind": kind, "label": counts.index.to_numpy().astype(object), "count": counts.to_numpy(np.int64)}
            )
        )
    if not prices.index.is_unique:
        prices = prices[~prices.index.duplicated(keep="last")]
    if not prices.columns.is_unique:
        prices = prices.loc[:, ~prices.columns.duplicated(keep="last")]
    return prices, _joined(tables)


def _matching(volumes: pd.DataFrame, prices: pd.DataFrame) -> pd.DataFrame:
    if not isinstance(volumes, pd.DataFrame):
        raise InputError(f"volumes must be a DataFrame of dates by assets, not {type(volumes).__name__}")
    if volumes.index.has_duplicates:
        volumes = volumes[~volumes.index.duplicated(keep="last")]
    if volumes.columns.has_duplicates:
        volumes = volumes.loc[:, ~volumes.columns.duplicated(keep="last")]
    for what, labels, other in (
        ("dates", prices.index, volumes.index),
        ("assets", prices.columns, volumes.columns),
    ):
        absent = labels.difference(other, sort=False)
        if len(absent):
            raise InputError(f"volumes lacks {len(absent)} {what} of prices ({some(absent)}); reindex it like prices")
    return volumes.reindex(index=prices.index, columns=prices.columns)

"""The one door to the past: what was known at a date, and nothing that came later."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from portfolioopt.errors import InputError, unknown_names

from .checks import (
    check_dates,
    check_labels,
    check_positive,
    check_timestamps,
    check_zone,
    date_text,
    numbers_of,
    owned,
    some,
    timestamp,
    whole_number,
)
from .delistings import Delistings, find_delistings
from .intake import check_universe, checked_field, checked_volumes, first_seen, in_order, named, taken
from .returns import MissingPolicy, ReturnsKind, array_returns, check_settings
from .universe import Universe
from .vintages import Vintages

_VOLUMES: Final = "\0volumes"  # volumes are kept among the fields, under a name that no field has


class MarketData:
    r"""Prices and what else was known about a market, answering as of any date; immutable.

    Everything in it has a time at which it became known: prices, volumes, factors and fields at the close of their
    date, vintages at their ``known_at``, the begin and the end of a membership on their day, a delisting on its date.
    ``market.as_of(t)`` holds what was known at the close of t, inclusive, and nothing else; what is computed from it
    cannot look ahead. It is a view: no matrix is copied.

    Prices are taken as given. If they were adjusted backwards for splits and dividends, their *levels* hold later
    corporate actions (their returns do not): for rules on levels, such as "above five dollars", pass unadjusted closes
    as a field.

    Parameters
    ----------
    prices
        T x N, one row per date in increasing order, one column per asset; positive, NaN where there is no price: before
        a listing, after a delisting, while trading is halted.
    volumes
        T x N on the same dates, not negative, in any unit; assets without a column have NaN.
    universe
        Who was a member when; all assets in it need a column of prices (of NaN, if there is no data: leaving them out
        would be survivorship bias). Where None, the members at a date are the assets with a price on it.
    fields
        Wide frames by name, each with dates of its own by assets, of any type, known on their date: characteristics,
        sectors, forecasts.
    vintages
        Long tables by name, of values that become known later than the period they are about, and are revised; see
        :class:`Vintages`.
    factors
        T x K returns of factors, or other series, on dates of their own.
    delisting_returns
        What holders earned from the last price on, as a fraction, by asset; dated to the first date after the last
        price. A universe may hold them instead, with their dates.

    Raises
    ------
    InputError
        For labels or dates that are repeated, out of order, not timestamps, or of another time zone than the prices';
        prices that are not positive; negative volumes; names used twice; delistings that do not fit the prices.
    """

    __slots__ = ("_delistings", "_factors", "_fields", "_first_seen", "_prices", "_universe", "_until", "_vintages")

    def __init__(
        self,
        prices: pd.DataFrame,
        *,
        volumes: pd.DataFrame | None = None,
        universe: Universe | None = None,
        fields: Mapping[str, pd.DataFrame] | None = None,
        vintages: Mapping[str, pd.DataFrame] | None = None,
        factors: pd.DataFrame | None = None,
        delisting_returns: pd.Series | Mapping[str, float] | None = None,
    ) -> None:
        check_labels(prices)
        dates = check_timestamps(prices.index, "prices")
        if not len(dates):
            raise InputError("prices has no rows; pass at least one date")
        assets = prices.columns
        values = numbers_of(prices)
        check_positive(values, dates, assets)
        wide = {name: checked_field(table, f"fields[{name!r}]", dates, assets) for name, table in named(fields)}
        late = {name: Vintages(table, assets, name=name, zone=dates.tz) for name, table in named(vintages)}
        both = [name for name in wide if name in late]
        if both:
            raise InputError(f"fields and vintages share the names {some(both)}; rename one of each")
        if volumes is not None:
            volumes = checked_volumes(volumes, dates, assets)
        if universe is not None:
            check_universe(universe, dates, assets)
        if factors is not None:
            check_labels(factors, "factors")
            check_zone(check_timestamps(factors.index, "factors").tz, dates.tz, "factors", "prices")
            factors = pd.DataFrame(owned(numbers_of(factors, "factors")), factors.index, factors.columns, copy=False)

        # Assets in order of the date on which they became known: what was known at a date is then a slice of rows and
        # a slice of columns, and neither a name nor the order of names tells of the future.
        seen = first_seen(values, dates, assets, wide, late, universe)
        order = np.argsort(seen, kind="stable")
        self._first_seen: npt.NDArray[np.datetime64] = seen[order]
        places = np.argsort(order)
        assets, values = assets[order], taken(values, order)
        late = {name: table.reordered(places) for name, table in late.items()}
        self._prices: pd.DataFrame = pd.DataFrame(values, dates, assets, copy=False)
        self._fields: dict[str, pd.DataFrame] = {
            name: in_order(table, assets)
            for name, table in (wide if volumes is None else {**wide, _VOLUMES: volumes}).items()
        }
        self._vintages: dict[str, Vintages] = late
        self._factors: pd.DataFrame | None = factors
        self._universe: Universe | None = universe
        self._delistings: Delistings = find_delistings(values, dates, assets, universe, delisting_returns)
        self._until: pd.Timestamp | None = None

    # -- as of a date --------------------------------------------------------------------------------------------
    def as_of(self, t: object) -> Self:
        """What was known at the close of `t`, inclusive.

        Raises InputError for a date before the first price, and for one after the date that this is a view as of.
        """
        date = self._date(t)
        rows = int(self.dates.searchsorted(date, side="right"))
        if not rows:
            raise InputError(
                f"nothing was known on {date_text(date)}: the first prices are of {date_text(self.dates[0])}"
            )
        # A zone is dropped for UTC, which is what the times of publication are kept in.
        stamp = date.as_unit("ns").to_datetime64()
        columns = int(self._first_seen.searchsorted(stamp, side="right"))
        view = type(self).__new__(type(self))
        view._first_seen = self._first_seen[:columns]
        view._prices = self._prices.iloc[:rows, :columns]
        view._fields = {
            name: table.iloc[: int(table.index.searchsorted(date, side="right")), :columns]
            for name, table in self._fields.items()
        }
        view._vintages = {name: table.as_of(stamp) for name, table in self._vintages.items()}
        factors = self._factors
        view._factors = None if factors is None else factors.iloc[: int(factors.index.searchsorted(date, side="right"))]
        view._universe = None if self._universe is None else self._universe.as_of(date)
        view._delistings = self._delistings.until(rows)
        view._until = date
        return view

    def walk(
        self, dates: Iterable[object] | None = None, *, every: int = 21, start: object = None
    ) -> Iterator[tuple[pd.Timestamp, Self]]:
        """Go through history: pairs of a date and this market as of it.

        `dates` in increasing order; where None, every `every`-th date with prices, from the first one at or after
        `start` on (the first of all where None).
        """
        if dates is None:
            step = whole_number(every, "every", least=1)
            first = 0 if start is None else int(self.dates.searchsorted(self._date(start)))
            chosen = pd.Index(self.dates[first::step])
            if not len(chosen):
                raise InputError(f"start {start!r} is after the last date, {date_text(self.dates[-1])}")
        else:
            if start is not None:
                raise InputError("walk takes dates or start, not both")
            chosen = pd.DatetimeIndex([self._date(date) for date in dates])
            check_dates(chosen, "dates")
        return ((date, self.as_of(date)) for date in chosen)

    # -- what it holds -------------------------------------------------------------------------------------------
    @property
    def as_of_date(self) -> pd.Timestamp:
        """The date as of which this is: that of :meth:`as_of`, and the last one with prices for the whole market."""
        return self.dates[-1] if self._until is None else self._until

    @property
    def dates(self) -> pd.DatetimeIndex:
        """Dates with prices (T,)."""
        return pd.DatetimeIndex(self._prices.index)

    @property
    def assets(self) -> pd.Index:
        """Assets known so far (N,), in order of the date on which they became known, then as in the prices.

        The whole market has those of which nothing is ever known at its end.
        """
        return self._prices.columns

    @property
    def prices(self) -> pd.DataFrame:
        """Prices (T x N). Writing to the frame leaves the market as it is, here and in all frames below."""
        return self._prices.copy(deep=False)

    @property
    def volumes(self) -> pd.DataFrame | None:
        """Volumes (T x N), None where there are none."""
        found = self._fields.get(_VOLUMES)
        return None if found is None else found.copy(deep=False)

    @property
    def factors(self) -> pd.DataFrame | None:
        """Factors (T x K), None where there are none."""
        return None if self._factors is None else self._factors.copy(deep=False)

    @property
    def universe(self) -> Universe | None:
        """Membership as far as it was known, None where the members are those with a price."""
        return self._universe

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields."""
        return tuple(name for name in self._fields if name != _VOLUMES)

    @property
    def vintages(self) -> tuple[str, ...]:
        """Names of the tables of vintages."""
        return tuple(self._vintages)

    @property
    def delistings(self) -> pd.DataFrame:
        """Delistings so far, in order of time: asset, date, return (from the last price on, a fraction)."""
        known = self._delistings
        return pd.DataFrame(
            {"asset": self.assets[known.column], "date": self.dates[known.row], "return": known.fraction}
        )

    def publications(self, name: str) -> pd.DataFrame:
        """Everything published so far in a table of vintages, in order of time: asset, period, known_at, value."""
        if name not in self._vintages:
            raise unknown_names("table of vintages", [name], self.vintages)
        return self._vintages[name].table(self.assets)

    def field(self, name: str) -> pd.DataFrame:
        """A field (dates x N), or the last known value of each period of a table of vintages (periods x N)."""
        if name in self._vintages:
            return self._vintages[name].frame(self.assets)
        if name not in self._fields or name == _VOLUMES:
            raise unknown_names("field", [name], (*self.fields, *self.vintages))
        return self._fields[name].copy(deep=False)

    def latest(self, name: str) -> pd.Series:
        """The last value that is known of each asset (N,), missing where there is none: a field's most recent one."""
        frame = self.field(name)
        if not len(frame):
            return pd.Series(index=self.assets, dtype=np.float64, name=name)
        values = frame.iloc[-1].copy()
        older = np.flatnonzero(values.isna())
        if len(older):
            part = frame.iloc[:, older]
            row = len(frame) - 1 - np.argmax(part.notna().to_numpy()[::-1], axis=0)
            values.iloc[older] = part.to_numpy()[row, np.arange(len(older))]
        return values.rename(name)

    def members(self, t: object = None) -> pd.Index:
        """Members at the close of `t` in the order of `assets`; at :attr:`as_of_date` where None.

        Without a universe these are the assets with a price on the last date up to `t`.
        """
        date = self.as_of_date if t is None else self._date(t)
        if self._universe is not None:
            inside = self.assets.get_indexer(self._universe.members(date))
            return self.assets[np.sort(inside)]
        row = int(self.dates.searchsorted(date, side="right")) - 1
        if row < 0:
            return self.assets[:0]
        return self.assets[~np.isnan(self._prices.to_numpy()[row])]

    def returns(
        self,
        window: int | None = None,
        *,
        kind: ReturnsKind = "simple",
        horizon: int = 1,
        missing: MissingPolicy = "error",
        forward_fill: int = 0,
        assets: Iterable[object] | None = None,
    ) -> pd.DataFrame:
        """Returns up to the last date, with delisting returns on the dates of the delistings.

        Parameters
        ----------
        window
            Number of most recent returns; all of them where None.
        kind
            ``"simple"`` or ``"log"``; the frame is tagged with it.
        horizon
            Length of each return in rows of prices; see :func:`simple_returns` for what overlapping returns are worth.
        missing, forward_fill
            As for :func:`simple_returns`. Prices ahead of the window may fill a gap at its begin.
        assets
            The columns; the members at :attr:`as_of_date` where None. What was held until today is asked for by name:
            an asset that was delisted today is no member any more, and its last return is here.

        Returns
        -------
        DataFrame, window x N
            Fractions, each stamped with the date on which it ends. No return spans a delisting.

        Raises
        ------
        InputError
            For a window longer than what is known, missing prices under ``missing="error"``, and log returns of a total
            loss; UnknownNameError for assets that are not known yet.
        """
        length, fill = check_settings(kind, horizon, missing, forward_fill)
        columns = self._columns(self.members() if assets is None else pd.Index(list(assets)))
        prices = self._prices.to_numpy()
        first = 0
        if window is not None:
            first = len(prices) - whole_number(window, "window", least=1) - length
            if first < 0:
                raise InputError(
                    f"{window} returns over {length} rows need {window + length} rows of prices, but only "
                    f"{len(prices)} are known on {date_text(self.as_of_date)}; shorten the window, or start later"
                )
        worth, ends = self._delistings.worth(prices, first, columns, fill)
        if kind == "log" and any(worth[cell] == 0.0 for cell in ends):
            lost = self.assets[columns[[j for row, j in ends if worth[row, j] == 0.0]]]
            raise InputError(f"{some(lost)} lost everything, which has no log return; ask for kind='simple'")
        labels = self.assets[columns]
        return array_returns(worth, self.dates[first:], labels, kind=kind, horizon=length, missing=missing, ends=ends)

    def __repr__(self) -> str:
        parts = {"volumes": self.volumes, "universe": self._universe, "factors": self._factors}
        extras = [name for name, part in parts.items() if part is not None]
        known = ", ".join([*extras, *map(repr, (*self.fields, *self.vintages))])
        return (
            f"MarketData({len(self.assets)} assets, {len(self.dates)} dates from {date_text(self.dates[0])} to "
            f"{date_text(self.dates[-1])}, as of {date_text(self.as_of_date)}{', with ' + known if known else ''})"
        )

    def _date(self, t: object) -> pd.Timestamp:
        """A date not later than what is known."""
        date = timestamp(t, "t", self.dates.tz)
        if self._until is not None and date > self._until:
            raise InputError(f"this market is known as of {date_text(self._until)}; {date_text(date)} is its future")
        return date

    def _columns(self, assets: pd.Index) -> npt.NDArray[np.intp]:
        if not len(assets):
            raise InputError(f"there are no members on {date_text(self.as_of_date)}; pass assets= to choose some")
        if assets.has_duplicates:
            raise InputError(f"assets has duplicates: {some(assets[assets.duplicated()].unique())}")
        columns = self.assets.get_indexer(assets)
        if (columns < 0).any():
            raise unknown_names("asset", assets[columns < 0], self.assets)
        return columns

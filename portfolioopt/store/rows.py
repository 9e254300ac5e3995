"""Rows of tables: reading them by key, and writing what is new and no more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import pandas as pd

from portfolioopt.errors import InputError

from .schema import sa

Rows: TypeAlias = list[dict[str, Any]]


def select(connection: sa.Connection, table: sa.Table, key: Mapping[str, Any], order: str | None = None) -> Rows:
    """The rows in which the columns of the key have these values, by the column `order`."""
    query = sa.select(table).where(*(table.c[name] == value for name, value in key.items()))
    if order is not None:
        query = query.order_by(table.c[order])
    return [dict(row) for row in connection.execute(query).mappings()]


def insert(connection: sa.Connection, table: sa.Table, rows: Rows) -> None:
    """Write new rows."""
    if rows:
        connection.execute(table.insert(), rows)


def keep(
    connection: sa.Connection, parts: Mapping[sa.Table, tuple[Rows, str]], key: Mapping[str, Any], what: str
) -> bool:
    """Write a thing that is spread over tables, the first with one row; False where the same is there.

    Each part has its rows, complete but for the key, and the column they are ordered by.

    Raises
    ------
    InputError
        Where there is another one of the same key.
    """
    head = next(iter(parts))
    if not select(connection, head, key):
        for table, (rows, _) in parts.items():
            insert(connection, table, [{**key, **row} for row in rows])
        return True
    for table, (rows, order) in parts.items():
        if select(connection, table, key, order) != [{**key, **row} for row in rows]:
            raise InputError(f"{what} was stored before, and otherwise (table {table.name})")
    return False


def checked_name(name: object, what: str) -> str:
    """A text that is not empty."""
    if not isinstance(name, str) or not name:
        raise InputError(f"{what} must be a name (a string), was {name!r}")
    return name


def in_utc(time: object, what: str) -> pd.Timestamp:
    """A time in UTC, which is what it is taken for without a zone."""
    try:
        stamp = pd.Timestamp(time).as_unit("ns")  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise InputError(f"{what} must be a time, was {time!r}") from error
    if not isinstance(stamp, pd.Timestamp) or pd.isna(stamp):
        raise InputError(f"{what} is missing")
    return stamp.tz_localize("UTC") if stamp.tzinfo is None else stamp.tz_convert("UTC")

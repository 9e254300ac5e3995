"""Orders, fills and ends of orders in the database, under the rules of `ExecutionFeedback`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, Final, TypeAlias

from portfolioopt.costs import Close, ExecutionFeedback, Fill, Order
from portfolioopt.errors import InputError, UnknownNameError, unknown_names

from . import schema
from .rows import Rows, insert
from .schema import sa

Fact: TypeAlias = Order | Fill | Close

_TABLES: Final[dict[type, sa.Table]] = {Order: schema.orders, Fill: schema.fills, Close: schema.closes}
_RUN: Final = 500  # names in one statement; databases limit them


def record(connection: sa.Connection, given: Iterable[Fact], book: str) -> int:
    """Write the facts that are new, in their order, and say how many; all are refused where one is."""
    facts = list(given)
    for fact in facts:
        if type(fact) not in _TABLES:
            raise InputError(f"Store.record takes orders, fills and closes, was given {type(fact).__name__}")
    # A fill that is known by its name may belong to another order than it now says.
    named = [fact.fill_id for fact in facts if isinstance(fact, Fill)]
    touched = {fact.order_id for fact in facts} | set(_orders_of(connection, named, book))
    feedback = read(connection, book, touched)
    numbers = {table: _next(connection, table, book) for table in _TABLES.values()}
    rows: dict[sa.Table, Rows] = {table: [] for table in _TABLES.values()}
    for fact in facts:
        try:
            new = _noted(feedback, fact)
        except UnknownNameError as error:
            earlier = [row["order_id"] for row in rows[schema.orders]]
            raise unknown_names("order", error.unknown, [*_orders(connection, book), *earlier]) from None
        if new:
            table = _TABLES[type(fact)]
            rows[table].append({"book": book, "number": numbers[table] + len(rows[table]), **asdict(fact)})
    for table, added in rows.items():
        insert(connection, table, added)
    return sum(map(len, rows.values()))


def read(connection: sa.Connection, book: str, order_ids: Iterable[str] | None = None) -> ExecutionFeedback:
    """What is known of a book, or of some of its orders."""
    feedback = ExecutionFeedback()
    wanted = None if order_ids is None else sorted(order_ids)
    for row in _rows(connection, schema.orders, book, wanted):
        feedback.submit(Order(**row))
    for row in _rows(connection, schema.fills, book, wanted):
        feedback.record(Fill(**row))
    for row in _rows(connection, schema.closes, book, wanted):
        feedback.close(Close(**row))
    return feedback


def facts_of(feedback: ExecutionFeedback) -> list[Fact]:
    """Everything that was taken note of: orders, fills, closes."""
    frames = feedback.to_frames()
    kinds: dict[str, Any] = {"orders": Order, "fills": Fill, "closes": Close}
    return [
        kind(**dict(zip(frames[name].columns, row, strict=True)))
        for name, kind in kinds.items()
        for row in frames[name].itertuples(index=False)
    ]


def _noted(feedback: ExecutionFeedback, fact: Fact) -> bool:
    if isinstance(fact, Order):
        return feedback.submit(fact)
    return feedback.record(fact) if isinstance(fact, Fill) else feedback.close(fact)


def _rows(connection: sa.Connection, table: sa.Table, book: str, order_ids: list[str] | None) -> Rows:
    """Facts as they were noted, without book and number."""
    query = sa.select(table).where(table.c.book == book)
    runs = (
        [query]
        if order_ids is None
        else [query.where(table.c.order_id.in_(order_ids[i : i + _RUN])) for i in range(0, len(order_ids), _RUN)]
    )
    found = [dict(row) for run in runs for row in connection.execute(run).mappings()]
    found.sort(key=lambda row: row["number"])
    return [{name: value for name, value in row.items() if name not in ("book", "number")} for row in found]


def _orders(connection: sa.Connection, book: str) -> list[str]:
    table = schema.orders
    return list(connection.scalars(sa.select(table.c.order_id).where(table.c.book == book).order_by(table.c.number)))


def _orders_of(connection: sa.Connection, fill_ids: list[str], book: str) -> list[str]:
    table = schema.fills
    query = sa.select(table.c.order_id).where(table.c.book == book)
    runs = (query.where(table.c.fill_id.in_(fill_ids[i : i + _RUN])) for i in range(0, len(fill_ids), _RUN))
    return [name for run in runs for name in connection.scalars(run)]


def _next(connection: sa.Connection, table: sa.Table, book: str) -> int:
    last = connection.scalar(sa.select(sa.func.max(table.c.number)).where(table.c.book == book))
    return 0 if last is None else last + 1

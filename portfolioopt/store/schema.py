"""The tables, and how values are kept so that they come back bit for bit.

Numbers are float64 (``REAL`` in SQLite, ``double precision`` in PostgreSQL); a negative zero comes back as zero. Times
are whole nanoseconds since 1970 in UTC: no database has a type of that resolution, and SQLite none that knows of zones.
"""

from __future__ import annotations

import math
from typing import Final

import pandas as pd

from portfolioopt.errors import InputError

try:
    import sqlalchemy as sa
    from sqlalchemy import event as event
    from sqlalchemy import exc as exc
except ModuleNotFoundError as error:
    raise InputError('the store needs SQLAlchemy, which is not installed: pip install "portfolioopt[store]"') from error

VERSION: Final = 1
"""Of the tables below; it changes with them."""


class Number(sa.TypeDecorator[float]):
    """A float64 that is a number."""

    impl = sa.Double
    cache_ok = True

    def process_bind_param(self, value: float | None, dialect: sa.Dialect) -> float | None:
        """To the database."""
        if value is None:
            return None
        number = float(value)
        if math.isnan(number):
            raise InputError("NaN cannot be stored: a number is missing in what is to be kept")
        return number

    def process_result_value(self, value: float | None, dialect: sa.Dialect) -> float | None:
        """From the database."""
        return None if value is None else float(value)


class UTC(sa.TypeDecorator[pd.Timestamp]):
    """A time with its zone, as nanoseconds since 1970 in UTC."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: pd.Timestamp | None, dialect: sa.Dialect) -> int | None:
        """To the database."""
        return None if value is None else int(value.as_unit("ns").value)

    def process_result_value(self, value: int | None, dialect: sa.Dialect) -> pd.Timestamp | None:
        """From the database."""
        return None if value is None else pd.Timestamp(value, unit="ns", tz="UTC")


tables = sa.MetaData()


def _key(name: str, kind: type[sa.types.TypeEngine] | sa.types.TypeEngine) -> sa.Column:
    return sa.Column(name, kind, primary_key=True, autoincrement=False)


def _must(name: str, kind: type[sa.types.TypeEngine] | sa.types.TypeEngine) -> sa.Column:
    return sa.Column(name, kind, nullable=False)


def _of(parent: str, *columns: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(columns, [f"{parent}.{column}" for column in columns])


version = sa.Table("portfolioopt_store", tables, _key("version", sa.Integer))

# -- executions: facts, never changed ----------------------------------------------------------------------------------
orders = sa.Table(
    "orders",
    tables,
    _key("book", sa.Text),
    _key("order_id", sa.Text),
    _must("number", sa.Integer),
    _must("asset", sa.Text),
    _must("side", sa.Text),
    *(_must(name, Number) for name in ("quantity", "decision_price", "arrival_price")),
    _must("time", UTC),
    *(_must(name, Number) for name in ("spread", "volume", "volatility")),
    _must("venue", sa.Text),
    sa.UniqueConstraint("book", "number"),
    sa.CheckConstraint("side IN ('buy', 'sell')"),
    sa.CheckConstraint("quantity > 0"),
)
fills = sa.Table(
    "fills",
    tables,
    _key("book", sa.Text),
    _key("fill_id", sa.Text),
    _must("number", sa.Integer),
    _must("order_id", sa.Text),
    *(_must(name, Number) for name in ("quantity", "price")),
    _must("time", UTC),
    _must("commission", Number),
    _of("orders", "book", "order_id"),
    sa.UniqueConstraint("book", "number"),
    sa.CheckConstraint("quantity > 0"),
    sa.Index("fills_of_orders", "book", "order_id"),
)
closes = sa.Table(
    "closes",
    tables,
    _key("book", sa.Text),
    _key("order_id", sa.Text),
    _must("number", sa.Integer),
    _must("price", Number),
    _must("time", UTC),
    _of("orders", "book", "order_id"),
    sa.UniqueConstraint("book", "number"),
)

# -- cost models: every revision is kept -------------------------------------------------------------------------------
cost_models = sa.Table(
    "cost_models",
    tables,
    _key("name", sa.Text),
    _key("revision", sa.Integer),
    _must("base", sa.Text),
    *(_must(name, Number) for name in ("prior", "prior_deviation", "asset_deviation", "noise")),
    *(_must(name, Number) for name in ("half_life", "largest_step", "least", "most")),
)
multiples = sa.Table(
    "multiples",
    tables,
    _key("name", sa.Text),
    _key("revision", sa.Integer),
    _key("number", sa.Integer),
    _must("asset", sa.Text),
    *(_must(name, Number) for name in ("information", "pull", "multiple")),
    _must("executions", sa.Integer),
    _of("cost_models", "name", "revision"),
    sa.UniqueConstraint("name", "revision", "asset"),
)
learned = sa.Table(
    "learned",
    tables,
    _key("name", sa.Text),
    _key("book", sa.Text),
    _key("order_id", sa.Text),
    _must("revision", sa.Integer),
    _of("orders", "book", "order_id"),
    _of("cost_models", "name", "revision"),
)

# -- decisions and order plans -----------------------------------------------------------------------------------------
decisions = sa.Table(
    "decisions",
    tables,
    _key("book", sa.Text),
    _key("time", UTC),
    _must("rebalance", sa.Boolean),
    sa.Column("breaches_of", sa.Text),
)
reasons = sa.Table(
    "reasons",
    tables,
    _key("book", sa.Text),
    _key("time", UTC),
    _key("number", sa.Integer),
    _must("reason", sa.Text),
    _of("decisions", "book", "time"),
)
breaches = sa.Table(
    "breaches",
    tables,
    _key("book", sa.Text),
    _key("time", UTC),
    _key("number", sa.Integer),
    _must("label", sa.Text),
    *(_must(name, Number) for name in ("weight", "target", "drift", "relative_drift", "band")),
    _must("breached", sa.Boolean),
    _of("decisions", "book", "time"),
)
plans = sa.Table(
    "plans",
    tables,
    _key("book", sa.Text),
    _key("time", UTC),
    _must("cash", Number),
    _must("nav", Number),
    _must("note", sa.Text),
)
planned_orders = sa.Table(
    "planned_orders",
    tables,
    _key("book", sa.Text),
    _key("time", UTC),
    _key("sequence", sa.Integer),
    _must("asset", sa.Text),
    _must("side", sa.Text),
    *(_must(name, Number) for name in ("quantity", "price", "value", "fee")),
    _must("reason", sa.Text),
    _of("plans", "book", "time"),
    sa.CheckConstraint("side IN ('buy', 'sell')"),
    sa.CheckConstraint("quantity > 0"),
)
skipped = sa.Table(
    "skipped",
    tables,
    _key("book", sa.Text),
    _key("time", UTC),
    _key("number", sa.Integer),
    _must("asset", sa.Text),
    _must("side", sa.Text),
    _must("value", Number),
    _must("reason", sa.Text),
    _of("plans", "book", "time"),
)
plan_holdings = sa.Table(
    "plan_holdings",
    tables,
    _key("book", sa.Text),
    _key("time", UTC),
    _key("number", sa.Integer),
    _must("asset", sa.Text),
    _must("units", Number),
    _of("plans", "book", "time"),
    sa.UniqueConstraint("book", "time", "asset"),
)

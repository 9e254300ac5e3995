"""Decisions to rebalance and order plans in the database."""

from __future__ import annotations

from typing import Any

import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.rebalance import Decision, Order, OrderPlan
from portfolioopt.rebalance.bands import REPORT_COLUMNS
from portfolioopt.rebalance.decisions import NO_BREACHES

from . import schema
from .rows import Rows, keep, select
from .schema import sa

_SKIPPED = ["asset", "side", "value", "reason"]


def save_decision(connection: sa.Connection, decision: Decision, book: str, time: pd.Timestamp) -> bool:
    """Write a decision; False where the same one is there."""
    if not isinstance(decision, Decision):
        raise InputError(f"Store.save_decision takes a Decision, was given {type(decision).__name__}")
    frame = decision.breaches
    numbers = REPORT_COLUMNS[:-1]
    breaches: Rows = [
        {
            "number": i,
            "label": _label(label, "breach"),
            **{name: float(row[name]) for name in numbers},
            "breached": bool(row["breached"]),
        }
        for i, (label, row) in enumerate(frame.iterrows())
    ]
    name = frame.index.name
    head = {"rebalance": bool(decision.rebalance), "breaches_of": None if name is None else str(name)}
    reasons: Rows = [{"number": i, "reason": reason} for i, reason in enumerate(decision.reasons)]
    parts = {
        schema.decisions: ([head], "time"),
        schema.reasons: (reasons, "number"),
        schema.breaches: (breaches, "number"),
    }
    return keep(connection, parts, {"book": book, "time": time}, f"a decision of {book!r} at {time}")


def decision(connection: sa.Connection, book: str, time: pd.Timestamp) -> Decision:
    """The decision of a book at a time."""
    key = {"book": book, "time": time}
    head = _head(connection, schema.decisions, key, "decision")
    reasons = tuple(row["reason"] for row in select(connection, schema.reasons, key, "number"))
    rows = select(connection, schema.breaches, key, "number")
    if not rows:
        return Decision(head["rebalance"], reasons, NO_BREACHES.copy())
    index = pd.Index([row["label"] for row in rows], name=head["breaches_of"])
    columns = pd.Index(REPORT_COLUMNS)
    breaches = pd.DataFrame([[row[name] for name in REPORT_COLUMNS] for row in rows], index=index, columns=columns)
    return Decision(head["rebalance"], reasons, breaches)


def decisions(connection: sa.Connection, book: str) -> pd.DataFrame:
    """All decisions of a book by time: whether to rebalance, and the reasons in one text."""
    said: dict[pd.Timestamp, list[str]] = {}
    for row in select(connection, schema.reasons, {"book": book}, "number"):
        said.setdefault(row["time"], []).append(row["reason"])
    rows = select(connection, schema.decisions, {"book": book}, "time")
    return pd.DataFrame(
        {
            "rebalance": pd.Series([row["rebalance"] for row in rows], dtype=bool),
            "reasons": pd.Series(["; ".join(said.get(row["time"], [])) for row in rows], dtype=object),
        }
    ).set_index(_times(rows))


def save_plan(connection: sa.Connection, plan: OrderPlan, book: str, time: pd.Timestamp) -> bool:
    """Write an order plan; False where the same one is there."""
    if not isinstance(plan, OrderPlan):
        raise InputError(f"Store.save_plan takes an OrderPlan, was given {type(plan).__name__}")
    head = {"cash": float(plan.cash), "nav": float(plan.nav), "note": plan.note}
    orders: Rows = [
        {
            "sequence": int(order.sequence),
            "asset": _label(order.asset, "order"),
            "side": order.side,
            **{name: float(getattr(order, name)) for name in ("quantity", "price", "value", "fee")},
            "reason": order.reason,
        }
        for order in plan.orders
    ]
    skipped: Rows = [
        {
            "number": i,
            "asset": _label(asset, "skipped trade"),
            "side": row["side"],
            "value": float(row["value"]),
            "reason": row["reason"],
        }
        for i, (asset, row) in enumerate(plan.skipped.iterrows())
    ]
    holdings: Rows = [
        {"number": i, "asset": _label(asset, "holding"), "units": float(units)}
        for i, (asset, units) in enumerate(plan.holdings.items())
    ]
    parts = {
        schema.plans: ([head], "time"),
        schema.planned_orders: (orders, "sequence"),
        schema.skipped: (skipped, "number"),
        schema.plan_holdings: (holdings, "number"),
    }
    return keep(connection, parts, {"book": book, "time": time}, f"an order plan of {book!r} at {time}")


def plan(connection: sa.Connection, book: str, time: pd.Timestamp) -> OrderPlan:
    """The order plan of a book at a time."""
    key = {"book": book, "time": time}
    head = _head(connection, schema.plans, key, "order plan")
    planned = [_without(row, key) for row in select(connection, schema.planned_orders, key, "sequence")]
    skipped = [[row[name] for name in _SKIPPED] for row in select(connection, schema.skipped, key, "number")]
    holdings = select(connection, schema.plan_holdings, key, "number")
    units = pd.Series(
        [row["units"] for row in holdings],
        pd.Index([row["asset"] for row in holdings], name="asset"),
        dtype=float,
        name="units",
    )
    return OrderPlan(
        tuple(Order(**row) for row in planned),
        pd.DataFrame(skipped, columns=pd.Index(_SKIPPED)).set_index("asset"),
        units,
        head["cash"],
        head["nav"],
        head["note"],
    )


def plans(connection: sa.Connection, book: str) -> pd.DataFrame:
    """All order plans of a book by time: number of orders, money traded, fees, cash after, NAV before, note."""
    rows = select(connection, schema.plans, {"book": book}, "time")
    orders = pd.DataFrame(
        select(connection, schema.planned_orders, {"book": book}, "sequence"), columns=["time", "value", "fee"]
    )
    of = orders.groupby("time")
    times = _times(rows)
    return pd.DataFrame(
        {
            "orders": of.size().reindex(times, fill_value=0).to_numpy(dtype=int),
            "traded": of["value"].sum().reindex(times, fill_value=0.0).to_numpy(dtype=float),
            "fees": of["fee"].sum().reindex(times, fill_value=0.0).to_numpy(dtype=float),
            "cash": [row["cash"] for row in rows],
            "nav": [row["nav"] for row in rows],
            "note": [row["note"] for row in rows],
        },
        index=times,
    )


def _head(connection: sa.Connection, table: sa.Table, key: dict[str, Any], what: str) -> dict[str, Any]:
    found = select(connection, table, key)
    if found:
        return found[0]
    nearest = connection.scalar(
        sa.select(sa.func.max(table.c.time)).where(table.c.book == key["book"], table.c.time < key["time"])
    )
    hint = "there is none before it" if nearest is None else f"the last one before it is of {nearest}"
    raise InputError(f"there is no {what} of {key['book']!r} at {key['time']}; {hint}")


def _without(row: dict[str, Any], key: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in key}


def _times(rows: Rows) -> pd.DatetimeIndex:
    return pd.DatetimeIndex([row["time"] for row in rows], dtype="datetime64[ns, UTC]", name="time")


def _label(label: object, what: str) -> str:
    if not isinstance(label, str):
        raise InputError(f"assets and groups are stored by their names (strings), and that of a {what} was {label!r}")
    return label

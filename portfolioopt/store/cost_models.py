"""Cost models that learn, in the database: every revision of them, and the orders each has learned from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any, Final

import pandas as pd

from portfolioopt import costs
from portfolioopt.costs import AdaptiveCostModel, CostModel
from portfolioopt.errors import InputError, unknown_names

from . import executions, schema
from .rows import Rows, insert, select
from .schema import sa

_SETTINGS: Final = ("prior", "prior_deviation", "asset_deviation", "noise", "half_life", "largest_step")
_STATE: Final = ("information", "pull", "multiple", "executions")
_BASES: Final[dict[str, type[CostModel]]] = {
    kind.__name__: kind
    for kind in (
        costs.ProportionalCosts,
        costs.SpreadCosts,
        costs.SquareRootImpact,
        costs.AlmgrenChriss,
        costs.BorrowCosts,
        costs.FinancingCosts,
        costs.CombinedCosts,
    )
}


def save(connection: sa.Connection, model: AdaptiveCostModel, name: str) -> int:
    """Write a model as the next revision, or find it to be the last one; the number of the revision, from 1."""
    if not isinstance(model, AdaptiveCostModel):
        raise InputError(f"Store.save_model takes an AdaptiveCostModel, was given {type(model).__name__}")
    head, state = _rows(model)
    last = _last(connection, name)
    if last:
        key = {"name": name, "revision": last}
        same = select(connection, schema.cost_models, key) == [{**key, **head}]
        if same and select(connection, schema.multiples, key, "number") == [{**key, **row} for row in state]:
            return last
    key = {"name": name, "revision": last + 1}
    insert(connection, schema.cost_models, [{**key, **head}])
    insert(connection, schema.multiples, [{**key, **row} for row in state])
    return last + 1


def load(connection: sa.Connection, name: str, revision: int | None = None) -> AdaptiveCostModel:
    """A revision of a model, the last one where None."""
    last = _last(connection, name)
    if not last:
        known = connection.scalars(sa.select(schema.cost_models.c.name).distinct())
        raise unknown_names("cost model", [name], known)
    number = last if revision is None else revision
    found = select(connection, schema.cost_models, {"name": name, "revision": number})
    if not found:
        raise InputError(f"the cost model {name!r} has the revisions 1 to {last}, and no {revision!r}")
    state = select(connection, schema.multiples, {"name": name, "revision": number}, "number")
    head = found[0]
    index = pd.Index([row["asset"] for row in state], name="asset")
    frame = pd.DataFrame([[row[column] for column in _STATE] for row in state], index=index, columns=list(_STATE))
    settings: dict[str, Any] = {setting: head[setting] for setting in _SETTINGS}
    return AdaptiveCostModel(
        _read(json.loads(head["base"])), **settings, bounds=(head["least"], head["most"]), state=frame
    )


def learn(connection: sa.Connection, name: str, book: str, leave_out: Iterable[str]) -> AdaptiveCostModel:
    """The model after the finished orders of a book that it has not learned from, written as its next revision."""
    model = load(connection, name)
    seen, orders = schema.learned, schema.orders
    known = sa.select(seen.c.order_id).where(seen.c.name == name, seen.c.book == book)
    fresh = connection.scalars(
        sa.select(orders.c.order_id).where(orders.c.book == book, orders.c.order_id.not_in(known))
    )
    unseen = set(fresh)
    omitted = list(dict.fromkeys(leave_out))
    unknown = [order for order in omitted if order not in unseen]
    if unknown:
        raise unknown_names("order to leave out", unknown, sorted(unseen))
    done = executions.read(connection, book, unseen - set(omitted)).executions()
    if len(done):
        model = model.learn(done)
    revision = save(connection, model, name)
    rows = [{"name": name, "book": book, "order_id": order, "revision": revision} for order in [*done.index, *omitted]]
    insert(connection, seen, rows)
    return model


def listed(connection: sa.Connection) -> pd.DataFrame:
    """One row for every revision of every model: the executions it has learned from, and the multiple of all."""
    head = schema.multiples
    query = sa.select(head.c.name, head.c.revision, head.c.executions, head.c.multiple).where(head.c.number == 0)
    rows = connection.execute(query.order_by(head.c.name, head.c.revision)).all()
    return pd.DataFrame(rows, columns=["model", "revision", "executions", "multiple"]).set_index(["model", "revision"])


def _last(connection: sa.Connection, name: str) -> int:
    table = schema.cost_models
    return connection.scalar(sa.select(sa.func.max(table.c.revision)).where(table.c.name == name)) or 0


def _rows(model: AdaptiveCostModel) -> tuple[dict[str, Any], Rows]:
    head = {
        "base": json.dumps(_written(model.base), sort_keys=True, allow_nan=False),
        **{name: float(getattr(model, name)) for name in _SETTINGS},
        "least": float(model.bounds[0]),
        "most": float(model.bounds[1]),
    }
    assert model.state is not None
    state = [
        {
            "number": number,
            "asset": _label(asset),
            **{column: float(row[column]) for column in _STATE[:3]},
            "executions": int(row["executions"]),
        }
        for number, (asset, row) in enumerate(model.state.iterrows())
    ]
    return head, state


def _written(value: object) -> Any:
    """A cost model, or a setting of one, as JSON: numbers with all their digits."""
    if isinstance(value, CostModel):
        name = type(value).__name__
        if _BASES.get(name) is not type(value):
            raise InputError(
                f"a cost model of the kind {name} cannot be stored, as it could not be made again; those of "
                f"portfolioopt.costs can: {', '.join(_BASES)}"
            )
        return {"model": name, **{field.name: _written(getattr(value, field.name)) for field in fields(value)}}  # type: ignore[arg-type]
    if isinstance(value, tuple):
        return [_written(item) for item in value]
    if isinstance(value, pd.Series | Mapping):
        pairs = [[_label(label), float(number)] for label, number in value.items()]
        return {"series" if isinstance(value, pd.Series) else "mapping": pairs}
    return value if value is None or isinstance(value, str | int) else float(value)  # type: ignore[arg-type]


def _read(value: Any) -> Any:
    """What `_written` wrote."""
    if isinstance(value, list):
        return tuple(map(_read, value))
    if not isinstance(value, dict):
        return value
    if "model" in value:
        return _BASES[value["model"]](**{name: _read(item) for name, item in value.items() if name != "model"})
    if "mapping" in value:
        return dict(value["mapping"])
    pairs = value["series"]
    return pd.Series([number for _, number in pairs], [label for label, _ in pairs], dtype=float)


def _label(label: object) -> str:
    if not isinstance(label, str):
        raise InputError(f"assets are stored by their names (strings), and one was {label!r}")
    return label

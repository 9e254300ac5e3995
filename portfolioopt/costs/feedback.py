r"""What executions cost: orders and fills as they come in, and implementation shortfall split into its causes.

For an order of Q units on side :math:`s = \pm 1`, decided at :math:`p_d`, sent out at mid :math:`p_a` with half-spread
:math:`h`, filled with :math:`q_k` at :math:`p_k` for fees :math:`f_k`, the rest closed at mid :math:`p_c`, with
:math:`F = \sum_k q_k`, the shortfall against a paper portfolio that trades Q at :math:`p_d` (Perold, 1988) is

.. math:: \underbrace{F s (p_a - p_d)}_{\text{delay}} + \underbrace{F h}_{\text{spread}}
          + \underbrace{\sum_k q_k s (p_k - p_a) - F h}_{\text{impact}}
          + \underbrace{(Q - F) s (p_c - p_d)}_{\text{opportunity}} + \underbrace{\sum_k f_k}_{\text{commission}} .
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError, unknown_names
from portfolioopt.labels import align

from .orders import Close, Fill, Order

PARTS = ["delay", "spread", "impact", "opportunity", "commission"]
_ROUNDING = 1e-9  # relative, by which the parts of an order may exceed it
_KINDS: dict[str, type[Order] | type[Fill] | type[Close]] = {"orders": Order, "fills": Fill, "closes": Close}


class ExecutionFeedback:
    """Orders and what became of them. What is refused leaves no trace.

    A report that comes twice counts once; one that contradicts an earlier report of the same name is refused. Fills
    count when they were done, in whatever order they are reported, also after their order was closed.
    """

    def __init__(self) -> None:
        self._orders: dict[str, Order] = {}
        self._fills: dict[str, Fill] = {}
        self._closes: dict[str, Close] = {}
        self._filled: dict[str, float] = {}  # units by order
        self._parts: dict[str, list[Fill]] = {}  # fills by order, as they were reported

    # -- what happens --------------------------------------------------------------------------------------------
    def submit(self, order: Order) -> bool:
        """Take note of an order; False where the same one is known."""
        if not isinstance(order, Order):
            raise InputError(f"ExecutionFeedback.submit takes an Order, was given {type(order).__name__}")
        if _known(self._orders.get(order.order_id), order, f"order {order.order_id!r}"):
            return False
        self._orders[order.order_id] = order
        self._filled[order.order_id] = 0.0
        self._parts[order.order_id] = []
        return True

    def record(self, fill: Fill) -> bool:
        """Take note of a fill; False where the same one is known.

        Raises
        ------
        UnknownNameError
            For an order that was never submitted.
        InputError
            Where a fill of this name says something else, the order would be overfilled, or the fill was done before
            its order went out or after it was closed.
        """
        if not isinstance(fill, Fill):
            raise InputError(f"ExecutionFeedback.record takes a Fill, was given {type(fill).__name__}")
        if _known(self._fills.get(fill.fill_id), fill, f"fill {fill.fill_id!r}"):
            return False
        order = self._order(fill.order_id)
        close = self._closes.get(fill.order_id)
        if fill.time < order.time:
            raise InputError(
                f"fill {fill.fill_id!r} was done at {fill.time}, before order {order.order_id!r} went out at "
                f"{order.time}"
            )
        if close is not None and fill.time > close.time:
            raise InputError(
                f"fill {fill.fill_id!r} was done at {fill.time}, after order {order.order_id!r} was closed at "
                f"{close.time}"
            )
        filled = self._filled[fill.order_id] + fill.quantity
        if filled > order.quantity * (1.0 + _ROUNDING):
            raise InputError(
                f"fill {fill.fill_id!r} of {fill.quantity:g} would bring order {order.order_id!r} to {filled:g} of "
                f"{order.quantity:g} units"
            )
        self._fills[fill.fill_id] = fill
        self._filled[fill.order_id] = filled
        self._parts[fill.order_id].append(fill)
        return True

    def close(self, close: Close) -> bool:
        """Take note that an order is done or cancelled; False where that is known.

        Raises
        ------
        UnknownNameError
            For an order that was never submitted.
        InputError
            Where it was closed otherwise, before it went out, or before its last fill.
        """
        if not isinstance(close, Close):
            raise InputError(f"ExecutionFeedback.close takes a Close, was given {type(close).__name__}")
        if _known(self._closes.get(close.order_id), close, f"close of order {close.order_id!r}"):
            return False
        order = self._order(close.order_id)
        last = max([order.time, *(fill.time for fill in self._parts[close.order_id])])
        if close.time < last:
            raise InputError(f"order {close.order_id!r} cannot be closed at {close.time}, before {last}")
        self._closes[close.order_id] = close
        return True

    def _order(self, order_id: str) -> Order:
        if order_id not in self._orders:
            raise unknown_names("order", [order_id], self._orders)
        return self._orders[order_id]

    # -- what it cost --------------------------------------------------------------------------------------------
    def shortfall(self, prices: pd.Series | Mapping[str, float] | None = None) -> pd.DataFrame:
        """Implementation shortfall of every order that is filled or closed, in account currency.

        Parameters
        ----------
        prices
            Mid price of every asset now: orders still open are then valued at it, as if they were closed.

        Returns
        -------
        DataFrame by order
            ``asset``, ``side``, ``venue``, ``participation`` (units ordered over daily volume), ``ordered``, ``filled``
            (units), ``notional`` (ordered units at the decision price), ``seconds`` to the last fill (NaN without),
            the parts ``delay``, ``spread``, ``impact``, ``opportunity``, ``commission``, their sum ``total``, and
            that in basis points of the notional, ``total_bps``.
        """
        marks = None
        if prices is not None:
            assets = pd.Index(sorted({order.asset for order in self._orders.values()}))
            given = prices if isinstance(prices, pd.Series) else pd.Series(dict(prices), dtype=float)
            marks = pd.Series(align(given.loc[given.index.isin(assets)], assets, what="prices"), assets)
        by_order = self._by_order()
        rows = []
        for name, order in self._orders.items():
            fills, close = by_order[name], self._closes.get(name)
            missing = self._missing(order)
            if close is not None:
                end = close.price
            elif missing == 0.0:
                end = order.decision_price  # of nothing
            elif marks is not None:
                end = float(marks[order.asset])
            else:
                continue
            rows.append(_shortfall(order, fills, missing, end))
        columns = [
            *("order", "asset", "side", "venue", "participation", "ordered", "filled", "notional", "seconds"),
            *(*PARTS, "total", "total_bps"),
        ]
        return pd.DataFrame(rows, columns=columns).set_index("order")

    def executions(self) -> pd.DataFrame:
        """Orders of which something was done, as `calibrate` and `AdaptiveCostModel.learn` take them.

        One row by order in the order of their last fills: ``asset``, ``quantity`` done (sells negative), average
        ``price``, ``arrival``, ``volume``, ``volatility`` and ``spread``. Impact depends on the whole order and not
        on the size of its parts; orders still being worked are left out.
        """
        by_order = self._by_order()
        done = [
            (fills[-1].time, name, fills)
            for name, fills in by_order.items()
            if fills and (name in self._closes or self._missing(self._orders[name]) == 0.0)
        ]
        rows = []
        for _, name, fills in sorted(done, key=lambda item: item[:2]):
            order = self._orders[name]
            units = np.array([fill.quantity for fill in fills])
            price = float(units @ [fill.price for fill in fills] / units.sum())
            market = (order.arrival_price, order.volume, order.volatility, order.spread)
            rows.append((name, order.asset, order.sign * float(units.sum()), price, *market))
        columns = ["order", "asset", "quantity", "price", "arrival", "volume", "volatility", "spread"]
        return pd.DataFrame(rows, columns=columns).set_index("order")

    def _by_order(self) -> dict[str, list[Fill]]:
        """Fills of every order as they were done, whenever they were reported."""
        return {name: sorted(parts, key=lambda fill: (fill.time, fill.fill_id)) for name, parts in self._parts.items()}

    def _missing(self, order: Order) -> float:
        """Units not done; a rest within rounding is none."""
        missing = order.quantity - self._filled[order.order_id]
        return missing if missing > _ROUNDING * order.quantity else 0.0

    def quality(self, by: str = "asset", *, sizes: Sequence[float] = (0.001, 0.01, 0.05, 0.10, 0.25)) -> pd.DataFrame:
        """How well orders that are filled or closed were done, by group.

        Parameters
        ----------
        by
            ``"asset"``, ``"venue"``, ``"side"``, or ``"size"``: the part of the daily volume that was ordered.
        sizes
            Where the size buckets end, increasing; a bucket holds its upper end.

        Returns
        -------
        DataFrame by group
            Number of ``orders``, ``notional``, ``fill_rate`` (notional done over ordered), mean ``seconds`` to the last
            fill, the parts of the shortfall, its ``total`` and ``total_bps`` of the notional, and the
            ``standard_error`` of the latter: that of a mean of orders weighted by notional, NaN for a single order.
        """
        table = self.shortfall()
        size = table["participation"]
        if by in ("asset", "venue", "side"):
            groups = table[by]
        elif by == "size":
            edges = np.asarray(sizes, dtype=np.float64)
            if edges.ndim != 1 or len(edges) == 0 or not (np.diff(edges, prepend=0.0) > 0).all():
                raise InputError(
                    f"quality: sizes must be positive and increasing parts of daily volume, were {sizes!r}"
                )
            names = np.array([*(f"<= {end:g}" for end in edges), f"> {edges[-1]:g}"])
            groups = pd.Series(names[np.searchsorted(edges, size)], table.index, name="size")
        else:
            raise unknown_names("grouping", [by], ["asset", "venue", "side", "size"])
        money = table[["notional", *PARTS, "total"]].groupby(groups, sort=True).sum()
        done = (table["notional"] * table["filled"] / table["ordered"]).groupby(groups).sum()
        away = table["total"] - table["notional"] * groups.map(money["total"] / money["notional"])
        count = groups.groupby(groups).size()
        error = np.sqrt((away**2).groupby(groups).sum() * count / (count - 1).where(count > 1)) / money["notional"]
        result = money.assign(
            orders=count,
            fill_rate=done / money["notional"],
            seconds=table["seconds"].groupby(groups).mean(),
            total_bps=money["total"] / money["notional"] * 1e4,
            standard_error=error * 1e4,
        )
        order = ["orders", "notional", "fill_rate", "seconds", *PARTS, "total", "total_bps", "standard_error"]
        return result.loc[size.groupby(groups).max().sort_values().index if by == "size" else result.index, order]

    # -- keeping it ----------------------------------------------------------------------------------------------
    def to_frames(self) -> dict[str, pd.DataFrame]:
        """Everything that was taken note of: frames ``orders``, ``fills`` and ``closes``, one row each."""
        kept = {"orders": self._orders, "fills": self._fills, "closes": self._closes}
        frames = {}
        for name, kind in _KINDS.items():
            columns = list(kind.__dataclass_fields__)
            frames[name] = pd.DataFrame([asdict(fact) for fact in kept[name].values()], columns=columns)
        return frames

    @classmethod
    def from_frames(cls, frames: Mapping[str, pd.DataFrame]) -> ExecutionFeedback:
        """The same again from `to_frames`; all is checked as when it came in."""
        if set(frames) != set(_KINDS):
            raise InputError(
                f"ExecutionFeedback.from_frames needs the frames {', '.join(_KINDS)}, was given {list(frames)}"
            )
        facts: dict[str, list] = {}
        for name, kind in _KINDS.items():
            columns = list(kind.__dataclass_fields__)
            if list(frames[name].columns) != columns:
                raise InputError(f"ExecutionFeedback.from_frames: the frame {name} must have the columns {columns}")
            facts[name] = [kind(**dict(zip(columns, row, strict=True))) for row in frames[name].itertuples(index=False)]
        feedback = cls()
        for order in facts["orders"]:
            feedback.submit(order)
        for fill in facts["fills"]:
            feedback.record(fill)
        for close in facts["closes"]:
            feedback.close(close)
        return feedback

    def save(self, folder: str | Path) -> None:
        """Write `to_frames` as Parquet files into a folder, which is made where it is missing."""
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        # orders before their fills, fills before closes: were it interrupted, what lies there would still be sound
        for name, frame in self.to_frames().items():
            partial = place / f"{name}.parquet.partial"
            frame.to_parquet(partial, index=False)
            partial.replace(place / f"{name}.parquet")

    @classmethod
    def load(cls, folder: str | Path) -> ExecutionFeedback:
        """What `save` wrote."""
        paths = {name: Path(folder) / f"{name}.parquet" for name in _KINDS}
        missing = [str(path) for path in paths.values() if not path.is_file()]
        if missing:
            raise InputError(f"ExecutionFeedback.load: there is no {', '.join(missing)}")
        return cls.from_frames({name: pd.read_parquet(path) for name, path in paths.items()})

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ExecutionFeedback):
            return NotImplemented
        mine, theirs = (self._orders, self._fills, self._closes), (other._orders, other._fills, other._closes)
        return mine == theirs

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"ExecutionFeedback({len(self._orders)} orders, {len(self._fills)} fills, {len(self._closes)} closed)"


def _known(earlier: object, fact: object, what: str) -> bool:
    if earlier is None:
        return False
    if earlier != fact:
        raise InputError(f"{what} was reported before, and otherwise: {earlier!r}, now {fact!r}")
    return True


def _shortfall(order: Order, fills: list[Fill], missing: float, end: float) -> tuple[object, ...]:
    """One row of `ExecutionFeedback.shortfall`."""
    sign = order.sign
    units = np.array([fill.quantity for fill in fills], dtype=np.float64)
    prices = np.array([fill.price for fill in fills], dtype=np.float64)
    filled, notional = float(units.sum()), order.quantity * order.decision_price
    delay = filled * sign * (order.arrival_price - order.decision_price)
    spread = filled * 0.5 * order.spread / 1e4 * order.arrival_price
    impact = float(units @ (sign * (prices - order.arrival_price))) - spread
    opportunity = missing * sign * (end - order.decision_price)
    commission = float(sum(fill.commission for fill in fills))
    total = delay + spread + impact + opportunity + commission
    seconds = (fills[-1].time - order.time).total_seconds() if fills else np.nan
    return (
        *(order.order_id, order.asset, order.side, order.venue, order.quantity / order.volume),
        *(order.quantity, filled, notional, seconds),
        *(delay, spread, impact, opportunity, commission, total, total / notional * 1e4),
    )

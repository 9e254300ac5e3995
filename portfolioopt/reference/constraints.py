"""Constraints as cvxpy ones, each from its definition; the same lines with a price where a constraint is soft."""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.labels import some
from portfolioopt.problem import (
    Bounds,
    Budget,
    Constraint,
    CVaR,
    CVaRLimit,
    FactorExposure,
    GroupLimit,
    Limit,
    LinearLimit,
    Liquidity,
    MaxHoldings,
    MinPosition,
    MinTrade,
    MustHold,
    NoTrade,
    ReturnTarget,
    RoundLots,
    Soft,
    TradeLimit,
    Turnover,
)

from .measures import total, translate
from .model import FloatArray, Integers, Model


@dataclass(frozen=True)
class Line:
    """``excess <= 0``, or ``== 0``, in the units of the limit; `size` is what it is divided by before solving."""

    excess: Any
    size: float = 1.0
    equal: bool = False

    def hard(self) -> Any:
        """As a constraint."""
        scaled = self.excess / self.size
        return scaled == 0 if self.equal else scaled <= 0

    def violation(self, model: Model) -> Any:
        """Sum of what is over the limit.

        As a variable of its own: from `cp.pos` and `cp.abs` cvxpy 1.9 derives bounds that are wrong where a zero
        coefficient meets a weight without bounds, and solvers that take bounds then cut off the optimum.
        """
        over = model.cp.Variable(self.excess.shape, nonneg=True)
        model.rules.append(self.excess <= over)
        if self.equal:
            model.rules.append(-self.excess <= over)
        return model.cp.sum(over)


def constrain(constraints: tuple[Constraint, ...], model: Model) -> tuple[list[Any], Any]:
    """All constraints, and what the soft ones cost."""
    hard: list[Any] = []
    price = model.cp.Constant(0.0)
    for c in constraints:
        if isinstance(c, Soft):
            broken = (line.violation(model) for line in lines(c.constraint, model))
            price = price + c.penalty * sum(broken, model.cp.Constant(0.0))
        elif isinstance(c, MaxHoldings | MinPosition | MinTrade | RoundLots):
            hard += whole(c, model, *_box(constraints, model))
        else:
            hard += [line.hard() for line in lines(c, model)]
    return hard, price


@singledispatch
def lines(constraint: Constraint, model: Model) -> list[Line]:
    """What the constraint asks for, line by line."""
    raise InputError(f"{constraint!r} has no translation to cvxpy; add it by extra_constraints")


def _sides(value: Any, lower: float, upper: float, size: float = 1.0) -> list[Line]:
    if lower == upper:
        return [Line(value - lower, size, equal=True)]
    found = [Line(lower - value, size)] if np.isfinite(lower) else []
    return found + ([Line(value - upper, size)] if np.isfinite(upper) else [])


def _between(model: Model, lower: FloatArray, upper: FloatArray) -> list[Line]:
    below, above = np.flatnonzero(np.isfinite(lower)), np.flatnonzero(np.isfinite(upper))
    found = [Line(lower[below] - model.w[below])] if len(below) else []
    return found + ([Line(model.w[above] - upper[above])] if len(above) else [])


def _trades_within(model: Model, limit: FloatArray) -> list[Line]:
    kept = np.flatnonzero(np.isfinite(limit))
    return [Line(model.cp.abs(model.trades[kept]) - limit[kept])] if len(kept) else []


@lines.register(Budget)
def _(c: Budget, model: Model) -> list[Line]:
    low = c.total if c.lower is None and c.upper is None else -np.inf if c.lower is None else c.lower
    high = c.total if c.lower is None and c.upper is None else np.inf if c.upper is None else c.upper
    return _sides(model.cp.sum(model.w), low, high)


def _bounds(c: Bounds, model: Model) -> tuple[FloatArray, FloatArray]:
    lower = model.spread(c.lower, f"{c.name}.lower", infinite=True)
    return lower, model.spread(c.upper, f"{c.name}.upper", infinite=True)


@lines.register(Bounds)
def _(c: Bounds, model: Model) -> list[Line]:
    return _between(model, *_bounds(c, model))


@lines.register(GroupLimit)
def _(c: GroupLimit, model: Model) -> list[Line]:
    own = model.groups(c.labels)
    lower, upper = dict(c.lower or {}), dict(c.upper or {})
    benchmark = np.zeros(model.n) if c.benchmark is None else model.aligned(c.benchmark, f"{c.name}.benchmark")
    found = []
    for label in dict.fromkeys([*lower, *upper]):
        member = (own == label).to_numpy(dtype=float)
        held = member @ (model.cp.abs(model.w) if c.gross else model.w - benchmark)
        found += _sides(held, lower.get(label, -np.inf), upper.get(label, np.inf))
    return found


@lines.register(Turnover)
def _(c: Turnover, model: Model) -> list[Line]:
    atom = {"both": model.cp.abs, "buy": model.cp.pos, "sell": model.cp.neg}[c.side]
    return [Line(model.cp.sum(atom(model.trades)) - c.limit)]


@lines.register(TradeLimit)
def _(c: TradeLimit, model: Model) -> list[Line]:
    return _trades_within(model, model.spread(c.limit, f"{c.name}.limit", infinite=True))


@lines.register(ReturnTarget)
def _(c: ReturnTarget, model: Model) -> list[Line]:
    mean = model.mean if c.mean is None else model.aligned(c.mean, f"{c.name}.mean")
    return [Line(c.target - mean @ model.w, float(np.abs(mean).max()) or 1.0)]


@lines.register(CVaRLimit)
def _(c: CVaRLimit, model: Model) -> list[Line]:
    return [Line(translate(CVaR(c.beta), model) - c.limit, model.unit)]


@lines.register(Limit)
def _(c: Limit, model: Model) -> list[Line]:
    value, size = total(c.measure, model), model.size(c.measure) or 1.0
    lower = -np.inf if c.lower is None else c.lower
    return _sides(value, lower, np.inf if c.upper is None else c.upper, size)


@lines.register(LinearLimit)
def _(c: LinearLimit, model: Model) -> list[Line]:
    rows = {str(asset): row for asset, row in zip(model.assets, np.eye(model.n), strict=True)}
    if c.labels is not None:
        frame = c.labels if isinstance(c.labels, pd.DataFrame) else pd.Series(dict(c.labels)).to_frame()
        for column in frame.columns:
            own = model.groups(frame[column])
            rows |= {str(label): (own == label).to_numpy(dtype=float) for label in own.dropna().unique()}
    found = []
    for line in c.parsed:
        row = np.sum([factor * rows[name] for name, factor in line.coefficients.items()], axis=0)
        found += _sides(row @ model.w, line.lower, line.upper, float(np.abs(row).max()) or 1.0)
    return found


@lines.register(FactorExposure)
def _(c: FactorExposure, model: Model) -> list[Line]:
    lower, upper = dict(c.lower or {}), dict(c.upper or {})
    benchmark = np.zeros(model.n) if c.benchmark is None else model.aligned(c.benchmark, f"{c.name}.benchmark")
    found = []
    for factor in dict.fromkeys([*lower, *upper]):
        row = c.exposures[factor].reindex(model.assets).to_numpy(dtype=np.float64)
        size = float(np.abs(row).max()) or 1.0
        found += _sides(row @ (model.w - benchmark), lower.get(factor, -np.inf), upper.get(factor, np.inf), size)
    return found


@lines.register(NoTrade)
def _(c: NoTrade, model: Model) -> list[Line]:
    fixed = np.flatnonzero(model.member(tuple(c.assets)))
    return [Line(model.trades[fixed], equal=True)] if len(fixed) else []


def _least(c: MustHold, model: Model) -> FloatArray:
    least = np.full(model.n, -np.inf)
    for asset, weight in dict(c.minimum).items():
        least[model.assets.get_loc(asset)] = weight
    return least


@lines.register(MustHold)
def _(c: MustHold, model: Model) -> list[Line]:
    return _between(model, _least(c, model), np.full(model.n, np.inf))


def _room(c: Liquidity, model: Model) -> FloatArray:
    return model.aligned(c.volume, f"{c.name}.volume") * (c.participation * c.days / c.nav)


@lines.register(Liquidity)
def _(c: Liquidity, model: Model) -> list[Line]:
    room = _room(c, model)
    return _trades_within(model, room) if c.of == "trades" else _between(model, -room, room)


# -- integer -----------------------------------------------------------------------------------------------------
def _box(constraints: tuple[Constraint, ...], model: Model) -> tuple[FloatArray, FloatArray]:
    """Bounds on every weight: those written down, and where they say nothing those that all constraints imply."""
    lower, upper = np.full(model.n, -np.inf), np.full(model.n, np.inf)
    for c in constraints:
        low, high = np.full(model.n, -np.inf), np.full(model.n, np.inf)
        match c:
            case Bounds():
                low, high = _bounds(c, model)
            case MustHold():
                low = _least(c, model)
            case TradeLimit():
                limit = model.spread(c.limit, f"{c.name}.limit", infinite=True)
                low, high = model.holdings - limit, model.holdings + limit
            case Liquidity():
                room = _room(c, model)
                centre = model.holdings if c.of == "trades" else 0.0
                low, high = centre - room, centre + room
            case _:
                pass
        lower, upper = np.maximum(lower, low), np.minimum(upper, high)
    compiled = model.problem.compiled
    lower = np.where(np.isfinite(lower), lower, compiled.box_lower[: model.n])
    upper = np.where(np.isfinite(upper), upper, compiled.box_upper[: model.n])
    open_ = ~(np.isfinite(lower) & np.isfinite(upper))
    if open_.any():
        raise InputError(
            f"integer constraints need bounds on every weight, and nothing limits {some(model.assets[open_])}; add "
            "Bounds(...)"
        )
    return lower, upper


def whole(c: Constraint, model: Model, lower: FloatArray, upper: FloatArray) -> list[Any]:
    """An integer constraint by binaries or integers, with the bounds as big-M."""
    cp, w, n = model.cp, model.w, model.n
    match c:
        case MaxHoldings():
            held = cp.Variable(n, boolean=True)
            model.integers.append(Integers((held,), np.zeros(n)))
            return [w >= cp.multiply(lower, held), w <= cp.multiply(upper, held), cp.sum(held) <= c.count]
        case MinPosition():
            return _piece(model, model.spread(c.size, f"{c.name}.size"), np.zeros(n), lower, upper)
        case MinTrade():
            return _piece(model, model.spread(c.size, f"{c.name}.size"), model.holdings, lower, upper)
        case RoundLots():
            lot = model.spread(c.lot, f"{c.name}.lot")
            count = cp.Variable(n, integer=True)
            model.integers.append(Integers((count,), lot, lots=True))
            # the last two are implied, and spare branch and bound an unbounded tree
            first, last = np.ceil(lower / lot - 1e-9), np.floor(upper / lot + 1e-9)
            return [w == cp.multiply(lot, count), count >= first, count <= last]
    raise InputError(f"{c!r} has no translation to cvxpy; add it by extra_constraints")


def _piece(model: Model, size: FloatArray, centre: FloatArray, lower: FloatArray, upper: FloatArray) -> list[Any]:
    """``x = w - centre`` is zero, at least `size` with its first binary, or at most ``-size`` with its second."""
    cp, x = model.cp, model.w - centre
    above, below = cp.Variable(model.n, boolean=True), cp.Variable(model.n, boolean=True)
    model.integers.append(Integers((above, below), centre))
    return [
        above + below <= 1,
        x >= cp.multiply(size, above) + cp.multiply(lower - centre, below),
        x <= cp.multiply(upper - centre, above) - cp.multiply(size, below),
    ]

r"""How pieces of a compiled problem follow from what is varied, where they follow by a rule.

* Bounds are :math:`l_i = \max(\underline w_i, h_i - \delta_i)` and :math:`u_i = \min(\overline w_i, h_i + \delta_i)`
  over all limits of weights and trades.
* Costs and turnovers have the holdings h as their reference, and a measure of trades
  :math:`a'(w - h) + \sum_i k_i |w_i - h_i|` adds :math:`-a'h` to the constant, or takes it from the room of a limit.
* A cap, a weight or a limit is contained in pieces as it is, or as an affine function of it.

None of them is relied on: whoever uses them compiles a few points and compares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from numbers import Real
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.labels import align
from portfolioopt.problem import Compiled, Lines, Problem
from portfolioopt.problem.lowering import Canvas
from portfolioopt.problem.terms import Term

from .axes import Axis, changed
from .pieces import Batch, Column

FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.intp]
Rule: TypeAlias = dict[str, tuple[FloatArray, FloatArray, FloatArray, float]]  # sign, or slope from a first point

PROBES = 3  # values that an axis of numbers is compiled for
_STRAIGHT = 1e-14  # relative distance from a line that is rounding
_UNIT = 1.5  # trade limits beyond are checked against the holdings of each point (see problem.units)


# -- numbers -----------------------------------------------------------------------------------------------------
def plain_numbers(axis: Axis, kept: Sequence[int]) -> bool:
    """Whether some values of an axis are so many finite numbers that a rule for them is worth its while."""
    values = [axis.choices[position] for position in kept]
    return len(values) > PROBES and all(
        isinstance(v, Real) and not isinstance(v, bool | np.bool_) and np.isfinite(float(v)) for v in values
    )


def number_rule(whole: dict[str, Any], found: dict[float, dict[str, Any] | None]) -> Rule | None:
    """How pieces follow a number, judged by the least, the greatest and one between; None where they do not.

    A maximum or minimum of affine functions that is affine through these three is affine all along.
    """
    parts = {value: part for value, part in found.items() if part is not None}
    if len(parts) < PROBES or len(parts) < len(found):
        return None
    low, middle, high = sorted(parts)
    share = (middle - low) / (high - low)
    rule: Rule = {}
    for name in dict.fromkeys(name for part in parts.values() for name in part):
        base = whole[name]
        if not isinstance(base, np.ndarray):
            return None
        arrays = {value: part.get(name, base) for value, part in parts.items()}
        sign = np.where(
            np.all([array == value for value, array in arrays.items()], axis=0),
            1.0,
            np.where(np.all([array == -value for value, array in arrays.items()], axis=0), -1.0, 0.0),
        )
        first, last = arrays[low], arrays[high]
        with np.errstate(invalid="ignore"):
            slope = np.where(first == last, 0.0, (last - first) / (high - low))
            line = np.where(slope == 0.0, first, first + share * (last - first))
            size = np.maximum(np.abs(first), np.abs(last))
            straight = (line == arrays[middle]) | (np.abs(line - arrays[middle]) <= _STRAIGHT * size)
        if not straight.all():
            return None
        rule[name] = sign, slope, first, low
    return rule


def ruled(rule: Rule, value: float) -> dict[str, Any]:
    """The pieces that a number changes."""
    return {
        name: np.where(sign != 0.0, sign * value, np.where(slope == 0.0, first, first + (value - low) * slope))
        for name, (sign, slope, first, low) in rule.items()
    }


# -- bounds ------------------------------------------------------------------------------------------------------
def bounds_follow(compiled: Compiled) -> bool:
    """Whether the bounds of the weights are those that the lines of the report say."""
    held = None if compiled.holdings is None else compiled.holdings[None]
    lower, upper = _line_bounds(compiled.lines, [g.limit[None] for g in compiled.lines], held, compiled.n_assets)
    n, p = compiled.n_assets, compiled.program
    return np.array_equal(lower[0], p.lower[:n]) and np.array_equal(upper[0], p.upper[:n])


def with_bounds(batch: Batch) -> Batch:
    """The batch with the bounds that follow from its limits and holdings."""
    rows = np.arange(len(batch.points))
    n, lines = batch.base.n_assets, batch.base.lines
    held = batch.at("holdings", rows) if "holdings" in batch.columns else None
    if held is not None and not any(_bounds_weights(g) and g.kind == "trade" for g in lines):
        held = held[:1]  # they do not matter
    limits = [batch.at(f"limit.{i}", rows) if _bounds_weights(g) else g.limit[None] for i, g in enumerate(lines)]
    columns = dict(batch.columns)
    for name, sides in zip(("lower", "upper"), _line_bounds(lines, limits, held, n), strict=True):
        rest = getattr(batch.base.program, name)[n:]
        whole = np.concatenate([sides, np.broadcast_to(rest, (len(sides), len(rest)))], axis=1)
        columns[f"program.{name}"] = Column(whole, None) if len(whole) == 1 else Column.each(whole)
    return replace(batch, columns=columns)


def _bounds_weights(group: Lines) -> bool:
    return not group.soft and group.kind in ("weight", "trade") and group.measure is None


def _line_bounds(
    lines: Sequence[Lines], limits: Sequence[FloatArray], held: FloatArray | None, n: int
) -> tuple[FloatArray, FloatArray]:
    """Bounds (K, N) by limits (K or 1, L) of each group of lines and holdings (K or 1, N)."""
    used = [(group, limit) for group, limit in zip(lines, limits, strict=True) if _bounds_weights(group)]
    k = max([len(limit) for _, limit in used] + [1 if held is None else len(held)])
    lower, upper = np.full((k, n), -np.inf), np.full((k, n), np.inf)
    for group, limit in used:
        i = group.index
        low = high = limit
        if group.kind == "trade":
            assert held is not None
            low, high = held[:, i] - limit, held[:, i] + limit
        if group.kind == "trade" or group.sense == ">=":
            lower[:, i] = np.maximum(lower[:, i], low)
        if group.kind == "trade" or group.sense == "<=":
            upper[:, i] = np.minimum(upper[:, i], high)
    return lower, upper


# -- holdings ----------------------------------------------------------------------------------------------------
def holdings_matrix(problem: Problem, axis: Axis) -> FloatArray:
    """The values of an axis of holdings as weights (V, N), in the order of the assets.

    Raises InputError naming the value that the problem would refuse.
    """
    assets = problem.scenarios.assets
    found = np.empty((len(axis.choices), len(assets)))
    for i, value in enumerate(axis.choices):
        try:
            # reindexing what is in order already would take longer than solving the problem
            plain = isinstance(value, pd.Series) and value.dtype == np.float64 and value.index.equals(assets)
            found[i] = value.to_numpy() if plain else align(value, assets, what="holdings")
        except InputError as error:
            raise InputError(f"{axis.named(i)}: {error}") from error
    odd = np.flatnonzero(~(np.abs(found) <= 20.0).all(axis=1))
    if len(odd):
        changed(problem, [(axis, int(odd[0]))])  # says what is wrong with it
    return found


def with_holdings(batch: Batch, held: FloatArray, by_lines: bool) -> tuple[Batch, npt.NDArray[np.bool_]] | None:
    """The batch with holdings (R, N) of its own for each point, and for which points that is right.

    None where what follows from the holdings is not known. `by_lines`: bounds are those that lines say.
    """
    base, rows, n = batch.base, np.arange(len(batch.points)), batch.base.n_assets
    assert base.holdings is not None
    trades = [i for i, group in enumerate(base.lines) if group.kind == "trade"]
    if any((batch.at(f"limit.{i}", rows) > _UNIT).any() for i in trades):
        return None
    if not by_lines and (trades or any(group.scale == 0.0 for group in base.lines)):
        return None
    references = batch.columns["program.l1_reference"].pool
    follow = (references[..., :n] == base.holdings).all(axis=-1)
    if not (follow == follow[0]).all():
        return None
    columns = dict(batch.columns)
    references = np.repeat(references, len(rows), axis=0) if len(references) == 1 else batch.field("l1_reference", rows)
    references[:, follow[0], :n] = held[:, None]
    # what has the same rates and the same reference is one block, not two
    same = (references[:, ~follow[0], :n] == held[:, None]).all(axis=-1).any(axis=-1)
    columns["program.l1_reference"] = Column.each(references)
    columns["holdings"] = Column.each(held)

    moved = base.holdings - held
    constant = np.zeros(len(rows))
    for i, term in enumerate(base.terms):
        if term.measure is not None and term.measure.trades:
            tilt = np.array([_tilt(one, base) for one in batch.columns[f"measure.{i}"].pool])
            if tilt.any():
                own = tilt[batch.columns[f"measure.{i}"].number(rows)]
                constant -= batch.at(f"coefficient.{i}", rows) * np.einsum("kn,kn->k", own, moved)
    if constant.any():
        columns["constant"] = Column.each(batch.at("constant", rows) + constant)
    for i, group in enumerate(base.lines):
        room = np.zeros(len(rows))
        for number, measure in enumerate(batch.columns[f"limited.{i}"].pool):
            mine = batch.columns[f"limited.{i}"].number(rows) == number
            for coefficient, term in () if measure is None else measure.parts:
                if term.trades:
                    flip = -coefficient if group.sense == ">=" else coefficient
                    room[mine] -= flip * (moved[mine] @ _tilt(term, base))
        if room.any():
            name = {"row": "row_upper", "cvar": "cvar_cap", "l1": "l1_cap"}[group.kind]
            sides = columns[f"program.{name}"].at(rows)
            sides = np.repeat(sides, len(rows), axis=0) if len(sides) == 1 else sides.copy()
            scale = 1.0 if group.kind == "row" else batch.at(f"scale.{i}", rows)
            sides[:, int(group.index[0])] += room * scale
            columns[f"program.{name}"] = Column.each(sides)
    batch = replace(batch, columns=columns)
    return (with_bounds(batch) if by_lines else batch), ~same


def _tilt(measure: Term, compiled: Compiled) -> FloatArray:
    """The slopes a of a measure of trades (N,)."""
    return measure.shape(Canvas(compiled.scenarios, compiled.holdings)).affine.weights

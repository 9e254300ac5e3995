"""Limits that contradict each other: a smallest set of them, what would resolve it, and the nearest portfolio."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd

from portfolioopt.problem import (
    ActiveShare,
    CVaR,
    ExpectedReturn,
    GrossExposure,
    Lines,
    LongExposure,
    NetExposure,
    Problem,
    ReturnTarget,
    ShortExposure,
    TradedAmount,
)
from portfolioopt.problem.constraints import single

from .elastic import Elastic

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

# Violations, relative to the sizes of their limits, have to add up to this much before a problem is called infeasible.
CERTAIN = 1e-7
_MOVED = 1e-9  # relative move of a limit below which it did not
_PRICED = 1e-9
_POSITIONS = (ActiveShare, GrossExposure, LongExposure, NetExposure, ShortExposure, TradedAmount)
COLUMNS = ["constraint", "sense", "limit", "needed", "change", "enough"]


@dataclass(frozen=True)
class Move:
    """One constraint loosened as little as it takes, the others kept."""

    constraint: str
    lines: tuple[str, ...]
    senses: tuple[str, ...]
    limits: FloatArray
    needed: FloatArray
    enough: bool
    """Whether that makes the problem feasible; otherwise constraints outside the conflict clash as well."""

    @property
    def total(self) -> float:
        """Sum of the moves of all lines."""
        return float(np.abs(self.needed - self.limits).sum())


@dataclass(frozen=True)
class Conflict:
    """Constraints that cannot hold together, though they can without any one of them."""

    names: tuple[str, ...]
    items: tuple[tuple[Lines, tuple[int, ...]], ...]
    """What of them the contradiction rests on: groups of lines, and which lines of each."""
    moves: tuple[Move, ...]
    nearest: pd.Series
    misses: dict[str, float] = field(default_factory=dict)
    """Violation of each constraint at the nearest portfolio, where there is any."""

    @property
    def relaxations(self) -> pd.DataFrame:
        """For each constraint of the conflict, the lines that would have to move and how far; indexed by line."""
        rows = [
            (move.constraint, sense, limit, needed, needed - limit, move.enough)
            for move in self.moves
            for sense, limit, needed in zip(move.senses, move.limits, move.needed, strict=True)
        ]
        index = [line for move in self.moves for line in move.lines]
        return pd.DataFrame(rows, index=pd.Index(index, name="line"), columns=pd.Index(COLUMNS))


def find_conflict(problem: Problem, near: FloatArray | None = None) -> Conflict | None:
    """A minimal conflict of the problem's constraints; None where none is certain.

    The proof is the bound of a linear program that allows more than the problem does. A constraint stays in the
    conflict only if the others were found to be feasible without it. `near` are the columns at which a solver gave up.
    """
    elastic = Elastic(problem.compiled, near)
    if not elastic.sides:
        return None
    everything = np.ones(len(elastic.sides), dtype=bool)
    clash = _clash(elastic, everything)
    if clash is None:
        return None
    kept = _smallest(elastic, everything, clash, [elastic.of([name]) for name in elastic.names])
    names = tuple(name for name in elastic.names if (kept & elastic.of([name])).any())
    moves = tuple(_move(elastic, name, kept) for name in names)
    return Conflict(names, _items(elastic, kept), moves, *_nearest(elastic, problem.scenarios.assets))


def _clash(elastic: Elastic, sides: BoolArray) -> FloatArray | None:
    """Prices of some sides in a proof that they cannot hold together; None where there is no proof."""
    if not sides.any():
        return None
    answer = elastic.clash(sides, CERTAIN)
    if not CERTAIN < answer.bound < np.inf:
        return None
    return answer.price[elastic.slack] * elastic.size


def _smallest(elastic: Elastic, sides: BoolArray, price: FloatArray, parts: Iterable[BoolArray]) -> BoolArray:
    """The sides left when every part that the contradiction can do without is dropped."""
    parts = list(parts)
    for part in parts:
        # what has no price takes no part in the proof
        if (sides & part).any() and price[part].max(initial=0.0) <= _PRICED:
            sides = sides & ~part
    proof = _clash(elastic, sides)
    if proof is None:  # too close to call without them
        sides = np.logical_or.reduce(parts)
    for part in parts:
        if (sides & part).any() and (sides & ~part).any() and _clash(elastic, sides & ~part) is not None:
            sides = sides & ~part
    return sides


def _items(elastic: Elastic, kept: BoolArray) -> tuple[tuple[Lines, tuple[int, ...]], ...]:
    """The lines of a conflict without which there is none; bounds are taken together."""
    lines = elastic.compiled.lines
    parts: dict[tuple[int, int], BoolArray] = {}
    for j in np.flatnonzero(kept):
        side = elastic.sides[j]
        whole = lines[side.group].kind in ("weight", "trade")
        part = parts.setdefault((side.group, -1 if whole else side.line), np.zeros(len(kept), dtype=bool))
        part[j] = True
    price, needed = _clash(elastic, kept), kept
    if price is not None and len(parts) > len({elastic.sides[j].constraint for j in np.flatnonzero(kept)}):
        needed = _smallest(elastic, kept, price, parts.values())
        price = _clash(elastic, needed)
    found: list[tuple[Lines, tuple[int, ...]]] = []
    for group in dict.fromkeys(group for group, _ in parts):
        chosen = [j for j in np.flatnonzero(needed) if elastic.sides[j].group == group]
        if price is not None and lines[group].kind in ("weight", "trade"):
            chosen = [j for j in chosen if price[j] > _PRICED] or chosen
        if chosen:
            found.append((lines[group], tuple(dict.fromkeys(elastic.sides[j].line for j in chosen))))
    return tuple(found)


def _move(elastic: Elastic, name: str, kept: BoolArray) -> Move:
    """The least sum of moves of one constraint's limits with which all others hold."""
    soft = elastic.of([name])
    answer = elastic.least(soft, ~soft)
    enough = answer.point is not None
    if not enough:
        answer = elastic.least(soft, kept & ~soft)
    violation = np.zeros(len(soft)) if answer.point is None else elastic.violations(answer)
    change: dict[tuple[int, int], float] = {}
    for j in np.flatnonzero(soft & (violation > _MOVED * elastic.size)):
        side = elastic.sides[j]
        place = side.group, side.line
        change[place] = change.get(place, 0.0) + (-violation[j] if side.lower else violation[j])
    groups = elastic.compiled.lines
    limits = np.array([groups[g].limit[i] - groups[g].centre for g, i in change])
    return Move(
        name,
        tuple(groups[g].names[i] for g, i in change),
        tuple(groups[g].sense for g, _ in change),
        limits,
        limits + np.array(list(change.values())),
        enough,
    )


def _nearest(elastic: Elastic, assets: pd.Index) -> tuple[pd.Series, dict[str, float]]:
    """The portfolio with the least total violation, and what it violates by how much."""
    everything = np.ones(len(elastic.sides), dtype=bool)
    answer = elastic.least(everything, ~everything)
    assert answer.point is not None
    violation = elastic.violations(answer)
    misses: dict[str, float] = {}
    for side, amount in zip(elastic.sides, violation, strict=True):
        if amount > _MOVED * side.size:
            misses[side.constraint] = misses.get(side.constraint, 0.0) + float(amount)
    weights = answer.point[elastic.program.z[: len(assets)]] + 0.0
    return pd.Series(weights, index=assets, name="weight"), misses


# -- words -----------------------------------------------------------------------------------------------------------
def described(problem: Problem, conflict: Conflict) -> str:
    """The conflict in words: what clashes, what would resolve it, and what the nearest portfolio breaks."""
    moves = {move.constraint: move for move in conflict.moves}
    aims = [group for group, _ in conflict.items if _is_aim(problem, group)]
    if len(aims) == 1 and len(moves[aims[0].constraint].lines) == 1 and moves[aims[0].constraint].enough:
        (aim,) = aims
        best, limit = _apart(float(moves[aim.constraint].needed[0]), float(aim.limit[0]))
        others = [name for name in conflict.names if name != aim.constraint]
        under = f" under {', '.join(others)}" if others else ""
        kind = "largest" if aim.sense == ">=" else "smallest"
        text = (
            f"infeasible: {aim.names[0]} {aim.sense} {limit} cannot be met{under}; the {kind} {_measured(aim)} the "
            f"other constraints allow is {best}"
        )
        options = _options(moves[name] for name in others)
        text += f". Or relax another: {options}" if options else ""
    else:
        details = "; ".join(_detail(group, lines) for group, lines in conflict.items)
        text = f"infeasible: these limits cannot hold together: {details}. Relax at least one"
        options = _options(conflict.moves)
        text += f": {options}" if options else ""
    return text + endings(problem, conflict)


def endings(problem: Problem, conflict: Conflict) -> str:
    """Whether there is more to be resolved, and what the nearest portfolio breaks, in words."""
    text = "" if all(move.enough for move in conflict.moves) else ". Beside these, other limits clash as well"
    if problem.compiled.integer:
        text += f". All this even without {' and '.join(c.name for c in problem.compiled.integer)}"
    if conflict.misses:
        broken = " and ".join(f"{name} by {amount:.3g}" for name, amount in conflict.misses.items())
        text += f". The nearest portfolio breaks {broken}"
    return text


def option_text(conflict: Conflict) -> str:
    """The moves that would resolve the conflict, in words."""
    return _options(conflict.moves)


def _options(moves: Iterable[Move]) -> str:
    return ", or ".join(_option(move) for move in moves if move.lines)


def _option(move: Move) -> str:
    if len(move.lines) == 1:
        needed, limit = _apart(float(move.needed[0]), float(move.limits[0]))
        return f"{move.lines[0]} {move.senses[0]} {needed} instead of {limit}"
    moved = list(zip(move.lines, move.senses, move.needed, strict=True))
    shown = ", ".join(f"{line} {sense} {needed:.6g}" for line, sense, needed in moved[:2])
    more = f" and {len(moved) - 2} more" if len(moved) > 2 else ""
    return f"{move.constraint} by {move.total:.6g} in all ({shown}{more})"


def _apart(one: float, other: float) -> tuple[str, str]:
    """Two numbers with as many digits as it takes to tell them apart, six at least and one to spare."""
    digits = next((d for d in range(5, 15) if f"{one:.{d}g}" != f"{other:.{d}g}"), 15)
    return f"{one:.{digits + 1}g}", f"{other:.{digits + 1}g}"


def _is_aim(problem: Problem, group: Lines) -> bool:
    """Whether it limits an expected return, a risk or a cost: then the best attainable value says most."""
    if group.measure is None:
        return any(isinstance(c, ReturnTarget) and c.name == group.constraint for c in problem.constraints)
    return not any(isinstance(term, _POSITIONS) for _, term in group.measure.parts)


def _measured(group: Lines) -> str:
    if group.measure is None:
        return "expected return"
    only = single(group.measure)
    if isinstance(only, CVaR):
        return "CVaR"
    if isinstance(only, ExpectedReturn):
        return "expected return"
    return "value" if only is None else type(only).__name__


def _detail(group: Lines, lines: tuple[int, ...]) -> str:
    limits = group.limit[list(lines)] - group.centre
    if len(lines) == 1:
        return f"{group.names[lines[0]]} {group.sense} {limits[0]:.6g}"
    low, high = float(limits.min()), float(limits.max())
    span = f"{low:.6g}" if low == high else f"{low:.6g} to {high:.6g}"
    what = " |w - holdings|" if group.kind == "trade" else ""
    return f"{group.constraint}{what} {group.sense} {span} on {len(lines)} assets, sum {limits.sum():.6g}"

"""Why there is no answer: limits that contradict each other, a risk limit out of reach, or an open direction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from portfolioopt.problem import Compiled, CVaR, Lines, Problem, ReturnTarget
from portfolioopt.problem.box import implied_box
from portfolioopt.problem.lowering import program_returns
from portfolioopt.scenarios import ReturnsSource, widened
from portfolioopt_kernels import HingeProgram, exchange

from .certificate import Multipliers, dual_bound, evaluate
from .methods import by_vertices
from .result import Status, prices

FloatArray: TypeAlias = npt.NDArray[np.float64]
# A violation has to be this large, relative to the limit, before a problem is called infeasible.
_CERTAIN = 1e-7


@dataclass(frozen=True)
class Diagnosis:
    """The verdict on a problem without an optimum."""

    status: Status
    message: str
    conflict: tuple[str, ...] = ()
    direction: pd.Series | None = None


@dataclass(frozen=True)
class _Side:
    """One limit of the problem as linear inequalities ``matrix @ (w, d) <= right``, under its name.

    d (N,) are the absolute trades that a turnover limit sums.
    """

    name: str
    detail: str
    matrix: FloatArray
    right: FloatArray


def crossed_limits(problem: Problem) -> Diagnosis | None:
    """Contradictions visible without solving anything: bounds of two constraints that leave an asset no weight."""
    p = problem.compiled.program
    crossed = np.flatnonzero(p.lower > p.upper + 1e-12)
    if not len(crossed):
        return None
    i = int(crossed[0])
    asset = problem.scenarios.assets[i]
    named = tuple(
        dict.fromkeys(
            group.constraint
            for group in problem.compiled.lines
            if group.kind in ("weight", "trade")
            and _crosses(problem.compiled, group.kind, group.sense, group.index, group.limit, i)
        )
    )
    message = (
        f"infeasible: {' and '.join(named)} leave no weight for {asset!r} (at least {p.lower[i]:.6g}, at most "
        f"{p.upper[i]:.6g})"
    )
    return Diagnosis(Status.infeasible, message, named)


def _crosses(compiled: Compiled, kind: str, sense: str, index: np.ndarray, limit: FloatArray, asset: int) -> bool:
    where = np.flatnonzero(index == asset)
    if not len(where):
        return False
    value, p = float(limit[where[0]]), compiled.program
    if kind == "trade":
        assert compiled.holdings is not None
        held = compiled.holdings[asset]
        return held - value == p.lower[asset] or held + value == p.upper[asset]
    return value == (p.lower if sense == ">=" else p.upper)[asset]


def diagnose(problem: Problem) -> Diagnosis | None:
    """Find out why a solve failed; None where the problem looks solvable, so that the solver is to blame."""
    sides = _sides(problem)
    if sides and not _feasible(sides, len(problem.scenarios.assets)):
        conflict = _minimal_conflict(sides, len(problem.scenarios.assets))
        names = tuple(dict.fromkeys(side.name for side in conflict))
        details = "; ".join(side.detail for side in conflict)
        return Diagnosis(
            Status.infeasible,
            f"infeasible: these limits cannot hold together: {details}. Relax at least one",
            names,
        )
    out_of_reach = _cvar_out_of_reach(problem)
    if out_of_reach is not None:
        return out_of_reach
    return _open_direction(problem)


def _sides(problem: Problem) -> list[_Side]:
    """Every limit but those on CVaR, as named inequalities over (columns, d); what holds by definition has no name."""
    compiled = problem.compiled
    p, n = compiled.program, compiled.n_assets
    capped = np.flatnonzero(np.isfinite(p.l1_cap))
    columns = p.shape[1]
    width = columns + columns * len(capped)
    eye = np.eye(columns, width)
    sides: list[_Side] = []
    rows_named: set[int] = set()
    for group in compiled.lines:
        for name, j, limit in zip(group.names, group.index, group.limit, strict=True):
            if group.kind == "row":
                rows_named.add(int(j))
                row = np.pad(p.rows[j], (0, width - columns))
                if group.measure is not None:
                    matrix, right = row[None], np.array([p.row_upper[j]])
                elif group.sense == ">=":
                    matrix, right = -row[None], np.array([-limit])
                elif group.sense == "==":
                    matrix, right = np.vstack([row, -row]), np.array([limit, -limit])
                else:
                    matrix, right = row[None], np.array([limit])
                text = f"{name} {group.sense} {limit:.6g}"
                if _is_return(problem, group):
                    text += f" (the largest expected return of any asset is {p.rows[j].max():.6g})"
                sides.append(_Side(group.constraint, text, matrix, right))
            elif group.kind == "l1" and group.scale:
                sides.append(_Side(group.constraint, f"{name} <= {limit:.6g}", *_cap_row(p, capped, int(j), width)))
        if group.kind == "weight" and not group.soft:
            sign = -1.0 if group.sense == ">=" else 1.0
            word = "lower" if group.sense == ">=" else "upper"
            extent = f"{_span(group.limit)} on {len(group.index)} assets, sum {group.limit.sum():.6g}"
            text = f"{group.constraint} {word} ({extent})"
            sides.append(_Side(group.constraint, text, sign * eye[group.index], sign * group.limit))
        elif (group.kind == "trade" and not group.soft) or (group.kind == "l1" and not group.scale):
            assert compiled.holdings is not None
            index = group.index if group.kind == "trade" else np.arange(n)
            limit = group.limit if group.kind == "trade" else np.zeros(n)
            held = compiled.holdings[index]
            both = np.vstack([eye[index], -eye[index]])
            text = f"{group.constraint} |w - holdings| <= {_span(limit)}"
            sides.append(_Side(group.constraint, text, both, np.concatenate([held + limit, limit - held])))
    sides += _definitions(compiled, capped, rows_named, width)
    return sides


def _is_return(problem: Problem, group: Lines) -> bool:
    return any(isinstance(c, ReturnTarget) and c.name == group.constraint for c in problem.constraints)


def _cap_row(p: HingeProgram, capped: np.ndarray, block: int, width: int) -> tuple[FloatArray, FloatArray]:
    """The cap on an L1 block over (columns, d)."""
    n = p.shape[1]
    row = np.zeros((1, width))
    row[0, :n] = p.l1_linear[block]
    first = n * (1 + int(np.flatnonzero(capped == block)[0]))
    row[0, first : first + n] = p.l1_rate[block]
    return row, np.array([p.l1_cap[block]])


def _definitions(compiled: Compiled, capped: np.ndarray, rows_named: set[int], width: int) -> list[_Side]:
    """What auxiliary variables and distances are, as inequalities without a name."""
    p, n = compiled.program, compiled.n_assets
    columns = p.shape[1]
    blocks_named = {int(j) for g in compiled.lines if g.kind == "l1" for j in g.index}
    eye = np.eye(columns, width)
    sides: list[_Side] = []
    for number, block in enumerate(capped):
        d = np.zeros((columns, width))
        d[:, columns * (1 + number) : columns * (2 + number)] = np.eye(columns)
        used = p.l1_rate[block] > 0
        reference = p.l1_reference[block][used]
        both = np.vstack([(eye - d)[used], (-eye - d)[used]])
        sides.append(_Side("", "", both, np.concatenate([reference, -reference])))
        if int(block) not in blocks_named:
            sides.append(_Side("", "", *_cap_row(p, capped, int(block), width)))
    for j, (row, low, high) in enumerate(zip(p.rows, p.row_lower, p.row_upper, strict=True)):
        if j not in rows_named:
            wide = np.pad(row, (0, width - columns))[None]
            sides += [_Side("", "", wide, np.array([high]))] if np.isfinite(high) else []
            sides += [_Side("", "", -wide, np.array([-low]))] if np.isfinite(low) else []
    for sign, bound in ((-1.0, p.lower), (1.0, p.upper)):
        given = n + np.flatnonzero(np.isfinite(bound[n:]))
        if len(given):
            sides.append(_Side("", "", sign * eye[given], sign * bound[given]))
    return sides


def _span(limit: FloatArray) -> str:
    low, high = float(limit.min()), float(limit.max())
    return f"{low:.6g}" if low == high else f"{low:.6g} to {high:.6g}"


def _feasible(sides: Sequence[_Side], n: int) -> bool:
    """Whether (w, d) exists with every inequality met to within a relative 1e-7, by an elastic linear program."""
    from scipy.optimize import linprog  # slow to import, and only needed when something is wrong

    matrix = np.vstack([side.matrix for side in sides])
    right = np.concatenate([side.right for side in sides])
    size = np.maximum(np.abs(matrix).max(axis=1), np.abs(right))
    size = np.where(size > 0, size, 1.0)
    used = np.abs(matrix).max(axis=0) > 0
    scaled = np.hstack([(matrix / size[:, None])[:, used], -np.ones((len(right), 1))])
    cost = np.zeros(scaled.shape[1])
    cost[-1] = 1.0
    bounds = [(None, None)] * int(used.sum()) + [(0.0, None)]
    outcome = linprog(cost, A_ub=scaled, b_ub=right / size, bounds=bounds, method="highs")
    return bool(outcome.x is not None and outcome.fun <= _CERTAIN)


def _minimal_conflict(sides: list[_Side], n: int) -> list[_Side]:
    """Drop every side without which the rest still clash; what remains clashes only as a whole."""
    kept = list(sides)
    for side in sides:
        rest = [s for s in kept if s is not side]
        if side.name and rest and not _feasible(rest, n):
            kept = rest
    return [side for side in kept if side.name]


def _cvar_out_of_reach(problem: Problem) -> Diagnosis | None:
    """Whether the CVaR limits cannot be met: the least sure gain that would make them hold is positive.

    A sure gain lowers every CVaR by as much. The smallest one with which all limits hold, bounded from below by the
    dual, says by how much they would have to be loosened.
    """
    compiled = problem.compiled
    if not np.isfinite(compiled.program.cvar_cap).any():
        return None
    least, multipliers = _least_gift(compiled)
    if least <= 0.0:
        return None
    # the multipliers name all that the proof used; drop each in turn that the contradiction can do without
    names = _priced(compiled, multipliers)
    for name in tuple(names):
        rest = tuple(other for other in names if other != name)
        if _least_gift(_only(compiled, rest))[0] > 0.0:
            names = rest
    tight = [g for g in compiled.lines if g.kind == "cvar" and g.constraint in names]
    limits = {g.names[0]: float(g.limit[0]) for g in tight}
    others = tuple(name for name in names if name not in limits)
    if len(limits) == 1:
        (name, limit), *_ = limits.items()
        attainable = limit + _least_gift(_only(compiled, tuple(c.name for c in problem.constraints), {name}))[0]
        what = "CVaR" if name.startswith("CVaR") or isinstance(tight[0].measure, CVaR) else "value"
        remedy = f"the smallest {what} the other constraints allow is {attainable:.6g}"
    else:
        remedy = f"each would have to be loosened by at least {least:.6g}"
    shown = " and ".join(f"{name} <= {limit:.6g}" for name, limit in limits.items())
    under = f" under {', '.join(others)}" if others else ""
    return Diagnosis(Status.infeasible, f"infeasible: {shown} cannot be met{under}; {remedy}", (*limits, *others))


def _least_gift(compiled: Compiled) -> tuple[float, Multipliers]:
    """The least sure gain with which all CVaR limits hold, a proven lower bound (0 where it is not certain)."""
    p = compiled.program
    capped = np.flatnonzero(np.isfinite(p.cvar_cap))
    size = compiled.scenarios.source.root_mean_square
    size = size if size > 0 else 1.0
    reach = np.where(np.isfinite(p.lower) & np.isfinite(p.upper), np.maximum(np.abs(p.lower), np.abs(p.upper)), 10.0)
    worst = float(np.minimum(reach, 10.0) @ compiled.source.largest)
    widest = (worst + float(np.abs(p.cvar_cap[capped]).max())) / size
    source = widened(compiled.source, 1)
    gift = replace(
        compiled,
        program=_with_gift(p, source, widest, size),
        source=source,
        box_lower=np.append(compiled.box_lower, 0.0),
        box_upper=np.append(compiled.box_upper, widest),
    )
    solution = by_vertices(gift, 1e-10, 100_000).solution
    repaired, bound, _ = dual_bound(gift, solution.weights, solution)
    n = len(p.linear)
    price, l1_price = np.zeros(len(p.cvar_cap)), np.zeros(len(p.l1_cap))
    price[capped] = repaired.cvar_cap
    l1_price[np.isfinite(p.l1_cap)] = repaired.l1_cap
    multipliers = replace(repaired, lower=repaired.lower[:n], upper=repaired.upper[:n], cvar_cap=price, l1_cap=l1_price)
    least = -bound * size
    certain = least > _CERTAIN * max(size, float(np.abs(p.cvar_cap[capped]).max()))
    return (least if certain else 0.0), multipliers


def _only(compiled: Compiled, names: tuple[str, ...], caps: set[str] | None = None) -> Compiled:
    """The problem with the named constraints alone, and of the CVaR limits those in `caps` where it is given.

    Shapes stay, so that nothing is compiled anew: what is left out becomes infinite, a CVaR limit a huge one.
    """
    p = compiled.program
    n = compiled.n_assets
    lower = np.append(np.full(n, -np.inf), p.lower[n:])
    upper = np.append(np.full(n, np.inf), p.upper[n:])
    named = np.array(sorted({int(j) for g in compiled.lines if g.kind == "row" for j in g.index}), dtype=np.intp)
    row_lower, row_upper = p.row_lower.copy(), p.row_upper.copy()
    row_lower[named], row_upper[named] = -np.inf, np.inf
    huge = 1e3 * max(float(compiled.source.largest.max()), float(np.abs(p.cvar_cap[np.isfinite(p.cvar_cap)]).max()))
    cvar_cap = np.where(np.isfinite(p.cvar_cap), huge, np.inf)
    l1_cap = np.where(np.isfinite(p.l1_cap), 1e3, np.inf)
    for g in compiled.lines:
        if g.constraint not in names or (g.kind == "cvar" and caps is not None and g.constraint not in caps):
            continue
        match g.kind:
            case "row" if g.measure is not None:
                row_upper[g.index] = p.row_upper[g.index]
            case "row":
                if g.sense != "<=":
                    row_lower[g.index] = g.limit
                if g.sense != ">=":
                    row_upper[g.index] = g.limit
            case "weight" if g.sense == ">=":
                lower[g.index] = np.maximum(lower[g.index], g.limit)
            case "weight":
                upper[g.index] = np.minimum(upper[g.index], g.limit)
            case "trade":
                assert compiled.holdings is not None
                held = compiled.holdings[g.index]
                lower[g.index] = np.maximum(lower[g.index], held - g.limit)
                upper[g.index] = np.minimum(upper[g.index], held + g.limit)
            case "cvar":
                cvar_cap[g.index] = p.cvar_cap[g.index]
            case "l1":
                l1_cap[g.index] = p.l1_cap[g.index]
    program = exchange(
        p, lower=lower, upper=upper, row_lower=row_lower, row_upper=row_upper, cvar_cap=cvar_cap, l1_cap=l1_cap
    )
    box_lower, box_upper = implied_box(program)
    return replace(compiled, program=program, box_lower=box_lower, box_upper=box_upper)


def _priced(compiled: Compiled, multipliers: Multipliers) -> tuple[str, ...]:
    """Constraints that carry a price in a proof of infeasibility: without them it would not hold."""
    size = compiled.scenarios.source.root_mean_square
    largest = float(multipliers.cvar_cap.max())
    named: list[str] = []
    for group in compiled.lines:
        small = 1e-6 * largest * (1.0 if group.kind == "cvar" else size)
        price = float(np.abs(prices(compiled, group, multipliers)).max(initial=0.0))
        if price > small and group.constraint not in named:
            named.append(group.constraint)
    return tuple(named)


def _with_gift(p: HingeProgram, source: ReturnsSource, widest: float, size: float) -> HingeProgram:
    """The program of minimising the last column of `source`, which p does not have: a gain in multiples of `size`."""
    _, n, _, _, c = p.shape
    cvar, l1 = np.isfinite(p.cvar_cap), np.isfinite(p.l1_cap)
    column = np.zeros((int(l1.sum()), 1))
    return HingeProgram(
        returns=program_returns(source),
        linear=np.append(np.zeros(n), 1.0),
        cvar_density=p.cvar_density[cvar],
        cvar_level=p.cvar_level[cvar],
        cvar_linear=np.hstack([p.cvar_linear[cvar], np.full((int(cvar.sum()), 1), -size)]),
        cvar_weight=np.zeros(int(cvar.sum())),
        cvar_cap=p.cvar_cap[cvar],
        l1_rate=np.hstack([p.l1_rate[l1], column]),
        l1_linear=np.hstack([p.l1_linear[l1], column]),
        l1_reference=np.hstack([p.l1_reference[l1], column]),
        l1_weight=np.zeros(int(l1.sum())),
        l1_cap=p.l1_cap[l1],
        rows=np.hstack([p.rows, np.zeros((c, 1))]),
        row_lower=p.row_lower,
        row_upper=p.row_upper,
        lower=np.append(p.lower, 0.0),
        upper=np.append(p.upper, widest),
        start=np.append(p.start, min(1.0, 0.5 * widest)),
    )


def _open_direction(problem: Problem) -> Diagnosis | None:
    """Whether the objective grows for ever: its growth rate along the directions that no constraint ends."""
    compiled = problem.compiled
    p = compiled.program
    if np.isfinite(compiled.box_lower).all() and np.isfinite(compiled.box_upper).all():
        return None

    def ended(limit: FloatArray, otherwise: float) -> FloatArray:
        return np.where(np.isfinite(limit), 0.0, otherwise)

    program = exchange(
        p,
        cvar_cap=ended(p.cvar_cap, np.inf),
        l1_reference=np.zeros_like(p.l1_reference),
        l1_cap=ended(p.l1_cap, np.inf),
        row_lower=ended(p.row_lower, -np.inf),
        row_upper=ended(p.row_upper, np.inf),
        lower=ended(p.lower, -1.0),
        upper=ended(p.upper, 1.0),
        start=np.zeros_like(p.start),
    )
    cone = replace(
        compiled,
        program=program,
        constant=0.0,
        lines=(),
        holdings=None if compiled.holdings is None else np.zeros_like(compiled.holdings),
        box_lower=program.lower,
        box_upper=program.upper,
    )
    solution = by_vertices(cone, 1e-10, 100_000).solution
    direction = np.clip(np.nan_to_num(solution.weights), program.lower, program.upper)
    growth = evaluate(cone, direction, solution).certificate
    if growth.objective <= 1e-6 * growth.scale or growth.scale == 0.0:
        return None
    assets = problem.scenarios.assets
    trade = pd.Series(direction[: len(assets)], index=assets, name="direction")
    largest = trade[trade.abs() > 1e-3].sort_values(key=np.abs, ascending=False, kind="stable").head(5)
    words = ", ".join(f"{name} {size:+.3g}" for name, size in largest.items())
    message = (
        f"unbounded: the objective gains {growth.objective:.3g} for every step of ({words}), and nothing limits it. "
        "Add bounds, a turnover limit or a risk term"
    )
    return Diagnosis(Status.unbounded, message, direction=trade)

"""Which views contradict each other."""

from __future__ import annotations

from typing import NoReturn

import numpy as np

from portfolioopt.errors import InputError

from .dual import APART, BoolArray, FloatArray
from .levels import tail_rows
from .posed import Posed


def refuse_conflict(posed: Posed, where: str = "") -> None:
    """Raise an InputError that names a smallest set of views no probabilities meet; return where there is none.

    `where` names the set of views where there are several.
    """
    everything = set(range(len(posed.views)))
    if _contradictory(posed, everything):
        _refuse(posed, everything, where)


def _refuse(posed: Posed, suspects: set[int], where: str) -> NoReturn:
    for number in sorted(suspects):
        if _contradictory(posed, suspects - {number}):
            suspects = suspects - {number}
    names = "; ".join(str(posed.views[number]) for number in sorted(suspects))
    held = [row.label for row in posed.held.values() if row.owners & suspects]
    names += f" (with {', '.join(held)})" if held else ""
    tried = any(view.owner in suspects for view in posed.tails)
    found = "were found that meet" if tried else "of these scenarios meet"
    if len(suspects) == 1:
        raise InputError(f"{where}no probabilities {found} the view {names}; move its value towards the prior's")
    raise InputError(
        f"{where}no probabilities {found} these views together: {names}; without any one of them the others can be "
        "met, so drop or relax one"
    )


def _contradictory(posed: Posed, numbers: set[int]) -> bool:
    columns, kinds = _columns(posed, numbers)
    if apart(columns, kinds):
        return True
    tails = [view for view in posed.tails if view.owner in numbers]
    if not tails:
        return False
    q = posed.functions.q
    grids = [view.levels[np.unique(np.linspace(0, len(view.levels) - 1, 65).astype(int))] for view in tails]
    for step in range(max(map(len, grids))):  # all views at the same fraction of their levels
        parts = [columns]
        for view, grid in zip(tails, grids, strict=True):
            functions, values, scales = tail_rows(view, float(grid[min(step, len(grid) - 1)]), q)
            parts.append(((functions - values[:, None]) / scales[:, None]).T)
        if not apart(np.hstack(parts), np.concatenate([kinds, np.tile([False, True, True], len(tails))])):
            return False
    return True


def _columns(posed: Posed, numbers: set[int]) -> tuple[FloatArray, BoolArray]:
    """The rows of some views in every scenario (S, m)."""
    rows = [row for row in posed.rows if row.owners & numbers]
    columns = np.zeros((len(posed.functions.q), len(rows)))
    for j, row in enumerate(rows):
        for function, coefficient in row.coefficients.items():
            columns[:, j] += coefficient * posed.functions.values(function)
        columns[:, j] = (columns[:, j] - row.value) / row.scale
    return columns, np.array([row.inequality for row in rows], dtype=bool)


def apart(columns: FloatArray, inequality: BoolArray) -> bool:
    """Whether no probabilities (S,) give columns (S, m) a mean of zero, or not below zero where `inequality`.

    They do not if some theta in the unit box, not negative where `inequality`, has ``C theta < 0`` in every scenario
    (Farkas). The least largest exponent is a linear program in m + 1 variables; scenarios enter it as they matter.
    """
    from scipy.optimize import linprog  # slow to import, and only needed when something is wrong

    count, k = columns.shape
    if not k:
        return False
    kept = np.unique(np.concatenate([columns.argmin(axis=0), columns.argmax(axis=0)]))
    bounds = [(0.0 if kind else -1.0, 1.0) for kind in inequality] + [(None, None)]
    cost = np.append(np.zeros(k), 1.0)
    precise = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
    while True:
        limits = np.column_stack([columns[kept], -np.ones(len(kept))])
        outcome = linprog(cost, A_ub=limits, b_ub=np.zeros(len(kept)), bounds=bounds, options=precise)
        if outcome.x is None:
            return False
        exponent = columns @ outcome.x[:k]
        if exponent.max() < -APART:
            return True
        if outcome.x[k] >= -APART:
            return False
        worst = np.argpartition(-exponent, min(64, count - 1))[:64]
        fresh = np.setdiff1d(worst[exponent[worst] > outcome.x[k] + 1e-10], kept)
        if not len(fresh):
            return bool(outcome.x[k] < -APART)
        kept = np.append(kept, fresh)

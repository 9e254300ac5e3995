"""The linear programs behind the raw solvers, as sparse matrices.

Rockafellar & Uryasev (2000) for the primal, with S rows; Ogryczak & Sliwinski (2011) for its dual, with N rows.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from ..instances import FloatArray, Instance


class LinearProgram(NamedTuple):
    """Minimise cost'x over row_lower <= A x <= row_upper and lower <= x <= upper."""

    cost: FloatArray
    matrix: sp.csc_matrix
    row_lower: FloatArray
    row_upper: FloatArray
    lower: FloatArray
    upper: FloatArray


def unit(instance: Instance) -> float:
    """Factor that brings returns to a mean size of one: tolerances are absolute, and a daily CVaR is 0.02."""
    return 1.0 / float(np.abs(instance.returns).mean())


def primal(instance: Instance) -> LinearProgram:
    """Columns: the N weights, t, the S excesses over t, and with a turnover limit N bounds on the trades."""
    s, n, scale = instance.scenarios, instance.assets, unit(instance)
    returns, mean = instance.returns * scale, instance.mean * scale
    share = 1.0 / ((1.0 - instance.beta) * s)
    trades = n if instance.turnover is not None else 0
    risk = sp.hstack([sp.csr_matrix((1, n)), [[1.0]], np.full((1, s), share), sp.csr_matrix((1, trades))])

    def on_weights(rows: FloatArray) -> sp.csr_matrix:
        return sp.csr_matrix(sp.hstack([sp.csr_matrix(rows), sp.csr_matrix((len(rows), 1 + s + trades))]))

    blocks = [sp.hstack([sp.csr_matrix(returns), np.ones((s, 1)), sp.eye(s), sp.csr_matrix((s, trades))])]
    lowers, uppers = [np.zeros(s)], [np.full(s, np.inf)]

    def add(rows: sp.spmatrix, lower: FloatArray | float, upper: FloatArray | float) -> None:
        count = int(rows.shape[0])  # type: ignore[index]
        blocks.append(rows)
        lowers.append(np.broadcast_to(lower, count).astype(float))
        uppers.append(np.broadcast_to(upper, count).astype(float))

    add(on_weights(np.ones((1, n))), 1.0, 1.0)
    if instance.sector_cap is not None:
        add(on_weights(instance.sector_rows), -np.inf, instance.sector_cap)
    if instance.target is not None:
        add(on_weights(mean[None]), instance.target * scale, np.inf)
    if instance.cvar_limit is not None:
        add(risk, -np.inf, instance.cvar_limit * scale)
    if instance.turnover is not None and instance.holdings is not None:
        middle, eye = sp.csr_matrix((n, 1 + s)), sp.eye(n)
        add(sp.hstack([-eye, middle, eye]), -instance.holdings, np.inf)
        add(sp.hstack([eye, middle, eye]), instance.holdings, np.inf)
        add(sp.hstack([sp.csr_matrix((1, n + 1 + s)), np.ones((1, n))]), -np.inf, instance.turnover)
    cost = instance.aversion * risk.toarray().ravel()
    cost[:n] = -instance.reward * mean
    lower = np.concatenate([np.zeros(n), [-np.inf], np.zeros(s + trades)])
    upper = np.concatenate([np.full(n, instance.cap), np.full(1 + s + trades, np.inf)])
    matrix = sp.csc_matrix(sp.vstack(blocks))
    return LinearProgram(cost, matrix, np.concatenate(lowers), np.concatenate(uppers), lower, upper)


def dual(instance: Instance) -> LinearProgram:
    r"""The dual; the first N rows are the weights' and their multipliers are minus the weights.

    Minimise :math:`-y + c 1'z + g'\gamma - r \pi + \kappa \eta + \tau \nu + h'v` over the tail distribution
    :math:`0 \le q \le (\lambda + \eta) / ((1-\beta) S)`, :math:`1'q = \lambda + \eta`, :math:`|v| \le \nu`, all but
    y and v non-negative, with :math:`R'q + y - z - M'\gamma + \mu \pi - v \le -\rho \mu`. A CVaR limit makes the
    ceiling of q a variable, which costs S rows.
    """
    s, n, scale = instance.scenarios, instance.assets, unit(instance)
    returns, mean = instance.returns * scale, instance.mean * scale
    share = 1.0 / ((1.0 - instance.beta) * s)
    eye = sp.eye(n, format="csc")

    # one entry each: cost, lower bound, upper bound, entries in the weights' rows, entry in the row of 1'q
    columns: list[tuple[FloatArray, float, float, sp.spmatrix, float]] = [
        (np.zeros(s), 0.0, np.inf if instance.cvar_limit is not None else instance.aversion * share,
         sp.csc_matrix(returns.T), 1.0),
        (np.array([-1.0]), -np.inf, np.inf, sp.csc_matrix(np.ones((n, 1))), 0.0),
        (np.full(n, instance.cap), 0.0, np.inf, -eye, 0.0),
    ]  # fmt: skip
    if instance.sector_cap is not None:
        columns.append((instance.sector_cap, 0.0, np.inf, sp.csc_matrix(-instance.sector_rows.T), 0.0))
    if instance.target is not None:
        columns.append((np.array([-instance.target * scale]), 0.0, np.inf, sp.csc_matrix(mean[:, None]), 0.0))
    if instance.cvar_limit is not None:
        columns.append((np.array([instance.cvar_limit * scale]), 0.0, np.inf, sp.csc_matrix((n, 1)), -1.0))
    if instance.turnover is not None and instance.holdings is not None:
        columns.append((np.array([instance.turnover]), 0.0, np.inf, sp.csc_matrix((n, 1)), 0.0))
        columns.append((instance.holdings, -np.inf, np.inf, -eye, 0.0))

    sizes = [len(column[0]) for column in columns]
    width = sum(sizes)
    blocks = [
        sp.hstack([column[3] for column in columns]),
        sp.csr_matrix(np.concatenate([np.full(size, column[4]) for column, size in zip(columns, sizes, strict=True)])),
    ]
    row_lower = [np.full(n, -np.inf), np.array([instance.aversion])]
    row_upper = [-instance.reward * mean, np.array([instance.aversion])]
    if instance.cvar_limit is not None:
        # q - share * eta <= share * aversion
        eta = sp.csr_matrix((np.full(s, -share), (np.arange(s), np.full(s, width - 1))), (s, width))
        blocks.append(sp.hstack([sp.eye(s), sp.csr_matrix((s, width - s))]) + eta)
        row_lower.append(np.full(s, -np.inf))
        row_upper.append(np.full(s, share * instance.aversion))
    if instance.turnover is not None:
        before, ones = sp.csr_matrix((n, width - n - 1)), np.ones((n, 1))
        blocks += [sp.hstack([before, -ones, eye]), sp.hstack([before, ones, eye])]
        row_lower += [np.full(n, -np.inf), np.zeros(n)]
        row_upper += [np.zeros(n), np.full(n, np.inf)]
    return LinearProgram(
        np.concatenate([column[0] for column in columns]),
        sp.csc_matrix(sp.vstack(blocks)),
        np.concatenate(row_lower),
        np.concatenate(row_upper),
        np.concatenate([np.full(size, column[1]) for column, size in zip(columns, sizes, strict=True)]),
        np.concatenate([np.full(size, column[2]) for column, size in zip(columns, sizes, strict=True)]),
    )


class Standard(NamedTuple):
    """Equalities A x = b and inequalities G x >= h; bounds beside them."""

    equal: sp.csr_matrix
    equal_to: FloatArray
    above: sp.csr_matrix
    above_from: FloatArray


def standard(lp: LinearProgram) -> Standard:
    """Rows with two sides taken apart."""
    matrix = sp.csr_matrix(lp.matrix)
    fixed = lp.row_lower == lp.row_upper
    low, high = np.isfinite(lp.row_lower) & ~fixed, np.isfinite(lp.row_upper) & ~fixed
    above = sp.csr_matrix(sp.vstack([matrix[low], -matrix[high]]))
    return Standard(matrix[fixed], lp.row_lower[fixed], above, np.concatenate([lp.row_lower[low], -lp.row_upper[high]]))


class Conic(NamedTuple):
    """Minimise cost'x with A x + s = b, the first `zeros` entries of s zero and the others non-negative."""

    cost: FloatArray
    matrix: sp.csc_matrix
    right: FloatArray
    zeros: int


def conic(lp: LinearProgram) -> Conic:
    """The form of Clarabel and Moreau: bounds become rows."""
    rows = standard(lp)
    eye = sp.csr_matrix(sp.eye(len(lp.cost)))
    low, high = np.isfinite(lp.lower), np.isfinite(lp.upper)
    matrix = sp.csc_matrix(sp.vstack([rows.equal, -rows.above, -eye[low], eye[high]]))
    right = np.concatenate([rows.equal_to, -rows.above_from, -lp.lower[low], lp.upper[high]])
    return Conic(lp.cost, matrix, right, len(rows.equal_to))

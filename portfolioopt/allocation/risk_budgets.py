r"""The convex programs behind risk budgeting: a measure of risk and a logarithmic barrier.

Where :math:`\rho` is convex and grows in proportion to the position, the minimum of
:math:`\rho(y)^2/2 - \sum_i b_i \ln y_i` has contributions :math:`y_i\,\partial\rho/\partial y_i` in proportion to the
budgets b, because its gradient is zero there; and so has every multiple of y.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import scipy.linalg

from portfolioopt.blas import quiet_blas
from portfolioopt.errors import InputError
from portfolioopt.estimate.quadratic import QuadraticForm
from portfolioopt.labels import FloatArray
from portfolioopt.problem.curved import Bend, CurvedTerm
from portfolioopt.problem.lowering import Canvas
from portfolioopt.problem.terms import View

STEPS = 200
EXACT = 1e-13  # relative deviation of contributions from budgets at which Newton's method ends
_LOW_RANK = 3  # assets per factor from which on Woodbury's identity is cheaper than a matrix


@dataclass(frozen=True, eq=False)
class LogBarrier(CurvedTerm):
    r"""Barrier of positive weights, :math:`-\sum_i b_i \ln w_i` with budgets that sum to one."""

    budgets: FloatArray
    floor: ClassVar[float] = -25.0  # no weight is more than e^25

    def check(self, canvas: Canvas) -> None:
        """It looks at weights alone."""

    def tangent(self, view: View) -> tuple[float, FloatArray]:
        w = view.weights
        if not (w > 0).all():
            return np.inf, np.zeros_like(w)
        return -float(self.budgets @ np.log(w)), -self.budgets / w

    def hessian(self, view: View) -> FloatArray:
        return np.diag(self.budgets / np.square(view.weights))

    def bend(self, view: View) -> Bend:
        n = len(self.budgets)
        return Bend(self.budgets / np.square(view.weights), np.zeros((n, 0)), np.zeros(0))

    def size(self, view: View) -> float:
        return 1.0

    def __repr__(self) -> str:
        return "LogBarrier(budgets)"


def newton(form: QuadraticForm, budgets: FloatArray, what: str) -> tuple[FloatArray, int]:
    r"""Positions (N,) with :math:`y_i (\Sigma y)_i = b_i`, by Newton's method, and the steps it took.

    The minimum of :math:`y'\Sigma y/2 - \sum_i b_i \ln y_i` (Spinu, 2013, "An algorithm for computing risk parity
    weights"), in units in which all volatilities are one; O(N K^2) a step where the covariance is factored.
    """
    sigma = np.sqrt(form.variances())
    root, diagonal = form.root / sigma[:, None], form.diagonal / sigma**2
    thin = _LOW_RANK * root.shape[1] <= len(sigma) and bool((diagonal > 0).all())
    matrix = None if thin else root @ root.T + np.diag(diagonal)

    def times(x: FloatArray) -> FloatArray:
        return matrix @ x if matrix is not None else root @ (root.T @ x) + diagonal * x

    def solve(curvature: FloatArray, right: FloatArray) -> FloatArray:
        if matrix is not None:
            whole = matrix.copy()
            whole[np.diag_indices_from(whole)] += curvature
            return scipy.linalg.cho_solve(
                scipy.linalg.cho_factor(whole, lower=True, overwrite_a=True, check_finite=False),
                right,
                check_finite=False,
            )
        inverse = 1.0 / (diagonal + curvature)
        spread = root * inverse[:, None]
        core = root.T @ spread
        core[np.diag_indices_from(core)] += 1.0
        return inverse * right - spread @ scipy.linalg.solve(core, spread.T @ right, assume_a="pos")

    def value(x: FloatArray, product: FloatArray) -> float:
        return 0.5 * float(x @ product) - float(budgets @ np.log(x))

    with quiet_blas.hold():
        x = np.sqrt(budgets)
        x = x / np.sqrt(max(float(x @ times(x)), 1e-12))
        product = times(x)
        least = np.inf
        for step in range(STEPS):
            off = float(np.abs(x * product / budgets - 1.0).max())
            if off <= EXACT or (off < 1e-9 and off >= 0.5 * least):
                return x / sigma, step
            least = min(least, off)
            change = solve(budgets / x**2, budgets / x - product)
            falling = change < 0
            length = min(1.0, 0.95 * float((x[falling] / -change[falling]).min(initial=np.inf)))
            here, slope = value(x, product), float(change @ (product - budgets / x))
            trial, moved = x, product
            for _ in range(40):
                trial = x + length * change
                moved = times(trial)
                if value(trial, moved) <= here + 1e-4 * length * slope + 1e-14 * abs(here):
                    break
                length *= 0.5
            x, product = trial, moved
            if float(np.abs(x).max()) > 1e7:
                break
    raise InputError(
        f"{what}: some long-only portfolio has next to no risk under this covariance, so that risk cannot be shared "
        "out; it is singular: estimate it with shrinkage (portfolioopt.estimate.LedoitWolf), or leave out assets that "
        "hedge each other exactly"
    )

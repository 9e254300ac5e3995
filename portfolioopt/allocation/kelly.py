r"""Portfolios of largest growth (Kelly, 1956), a fraction of them, and with a bound on drawdowns.

With the riskless return c and weights w, the rest in cash, a scenario multiplies wealth by
:math:`W_s = 1 + c + (r_s - c 1)'w`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.estimate import FactorCovariance
from portfolioopt.labels import FloatArray, checked_number
from portfolioopt.problem import Bounds, Budget, Limit, LogGrowth, Problem
from portfolioopt.problem.constraints import CONSTRAINT_TYPES, Constraint
from portfolioopt.problem.curved import CurvedTerm, second_moment
from portfolioopt.problem.lowering import Canvas
from portfolioopt.problem.terms import Curvature, Term, View
from portfolioopt.scenarios import ScenarioSet
from portfolioopt.solve import Result, Timings, optimize

from .rule import by_rule, covariance_form, largest, scenarios_of_covariance, scenarios_of_returns


@dataclass(frozen=True)
class DrawdownCap:
    r"""Wealth is to fall below a share of the initial one, ever, with less than a probability.

    Busseti, Ryu & Boyd (2016), "Risk-constrained Kelly gambling", Journal of Investing 25: where
    :math:`E\,W^{-\lambda} \le 1` with :math:`\lambda = \ln \beta / \ln \alpha`, and returns are independent over time
    with the distribution of the scenarios, :math:`P(\min_t \text{wealth}_t < \alpha) < \beta`. Over small steps the
    bound is all but reached; over large ones the true probability is well below it.

    Parameters
    ----------
    wealth
        :math:`\alpha`, share of the initial wealth, in (0, 1).
    probability
        :math:`\beta`, in (0, 1).
    """

    wealth: float
    probability: float

    def __post_init__(self) -> None:
        for what in ("wealth", "probability"):
            checked_number(getattr(self, what), f"DrawdownCap: {what}", above=0.0, below=1.0)

    @property
    def risk_aversion(self) -> float:
        r""":math:`\lambda`; the larger, the smaller the bets."""
        return float(np.log(self.probability) / np.log(self.wealth))


@dataclass(frozen=True, eq=False)
class CertaintyEquivalentGrowth(CurvedTerm):
    r"""Growth that is worth as much as the uncertain one, :math:`-\tfrac1\lambda \ln E\,W^{-\lambda}`: a reward.

    Per scenario horizon, to an investor with the relative risk aversion :math:`1 + \lambda`; the expected logarithmic
    growth :math:`E \ln W` where :math:`\lambda = 0`. Infinitely bad where a scenario would lose everything. The limit
    ``CertaintyEquivalentGrowth(a) >= 0`` is that of :class:`DrawdownCap`.

    Parameters
    ----------
    aversion
        :math:`\lambda`, not negative.
    cash_rate
        c, what the part of wealth that is not invested returns per horizon.
    """

    aversion: float = 0.0
    cash_rate: float = 0.0
    curvature: ClassVar[Curvature] = "concave"
    floor: ClassVar[float] = -np.inf

    def __post_init__(self) -> None:
        checked_number(self.aversion, "CertaintyEquivalentGrowth: aversion", least=0.0)
        checked_number(self.cash_rate, "CertaintyEquivalentGrowth: cash_rate", above=-1.0)

    def check(self, canvas: Canvas) -> None:
        """It looks at the scenarios of the problem, which always match."""
        canvas.chosen(None)

    def value(self, view: View) -> float:
        """The certainty equivalent at the weights of `view`."""
        return -self._parts(view)[0]

    def tangent(self, view: View) -> tuple[float, FloatArray]:
        """Of the negative, which is convex."""
        value, tilted, wealth = self._parts(view)
        if not np.isfinite(value):
            return np.inf, np.zeros(len(view.weights))
        return value, -self._pull(view, np.divide(tilted, wealth, out=np.zeros_like(tilted), where=tilted > 0))

    def hessian(self, view: View) -> FloatArray:
        """Second derivative of the negative."""
        value, tilted, wealth = self._parts(view)
        n = len(view.weights)
        if not np.isfinite(value):
            return np.zeros((n, n))
        share = np.divide(tilted, wealth, out=np.zeros_like(tilted), where=tilted > 0)
        squares = np.divide(share, wealth, out=np.zeros_like(tilted), where=tilted > 0)
        total = second_moment(view.scenarios, squares)
        if self.cash_rate != 0.0:  # of r - c1 rather than of r
            cross = self.cash_rate * np.tile(view.scenarios.source.pull(squares[None]), (n, 1))
            total += self.cash_rate**2 * squares.sum() - cross - cross.T
        if self.aversion == 0.0:
            return total
        mean = self._pull(view, share)
        return (1.0 + self.aversion) * total - self.aversion * np.outer(mean, mean)

    def _pull(self, view: View, measure: FloatArray) -> FloatArray:
        """Sum of r - c1 under a measure of the scenarios (N,)."""
        return view.scenarios.source.pull(measure[None])[0] - self.cash_rate * measure.sum()

    def _parts(self, view: View) -> tuple[float, FloatArray, FloatArray]:
        """The negative of the value, the probabilities tilted towards losses (S,), and W (S,)."""
        p = view.scenarios.probabilities
        wealth = 1.0 + self.cash_rate * (1.0 - float(view.weights.sum())) - view.losses()
        live = p > 0
        if not (wealth[live] > 0).all():
            return np.inf, p, wealth
        growth = np.log(np.where(live, wealth, 1.0))
        if self.aversion == 0.0:
            return -float(p @ growth), p, wealth
        low = float(growth[live].min())
        weight = p * np.exp(-self.aversion * (growth - low))
        total = float(weight.sum())
        return float(np.log(total)) / self.aversion - low, weight / total, wealth

    def __repr__(self) -> str:
        more = f", cash_rate={self.cash_rate:g}" if self.cash_rate else ""
        return f"CertaintyEquivalentGrowth(aversion={self.aversion:g}{more})"


def kelly(
    returns: pd.DataFrame | ScenarioSet,
    *,
    fraction: float = 1.0,
    drawdown_cap: DrawdownCap | None = None,
    cash_rate: float = 0.0,
    constraints: Iterable[Constraint] = (Budget(upper=1.0), Bounds(0.0, 1.0)),
    tolerance: float = 1e-6,
) -> Result:
    r"""The portfolio of largest growth, :math:`\max_w E \ln W`, with what is not invested in cash.

    Parameters
    ----------
    returns
        Returns (T x N) as fractions, equally likely, or a ScenarioSet.
    fraction
        Share of the Kelly weights to hold, in (0, 1]; the rest goes to cash. Only where prices follow geometric
        Brownian motion and trade continuously is that the optimum of an investor with relative risk aversion
        1/fraction. Constraints hold for the weights before they are scaled.
    drawdown_cap
        Bound on the probability of a drawdown, as a constraint. Not together with a fraction.
    cash_rate
        c, return of cash per scenario horizon.
    constraints
        Any of the problem language; long only and without borrowing where not given.
    tolerance
        Largest relative gap at which the answer counts as optimal.

    Returns
    -------
    Result
        Its `details` hold `growth`, :math:`E \ln W` per horizon; `cash`, what is not invested; with a cap
        `risk_aversion` :math:`\lambda` and `moment` :math:`E\,W^{-\lambda}`; with a fraction `full_kelly`, the result
        that was scaled, whose certified gap is the deviation that this one reports.

    Raises
    ------
    InputError
        For a set without scenarios, a fraction outside (0, 1], and a fraction beside a cap.
    SolveError
        As :func:`optimize` does. Growth is unbounded where some portfolio never loses and may be levered.
    """
    start = time.perf_counter()
    scenarios = scenarios_of_returns(returns, "kelly")
    share = checked_number(fraction, "kelly: fraction", above=0.0)
    if share > 1.0:
        raise InputError(f"kelly: fraction must be at most 1, was {share:g}: more than the Kelly weights grows less")
    cash = checked_number(cash_rate, "kelly: cash_rate", above=-1.0)
    if drawdown_cap is not None and not isinstance(drawdown_cap, DrawdownCap):
        raise InputError(f"kelly: drawdown_cap must be a DrawdownCap, was {drawdown_cap!r}")
    if drawdown_cap is not None and share < 1.0:
        raise InputError("kelly: a fraction and a drawdown_cap are two ways to bet less; give one of them")
    growth: Term = LogGrowth() if cash == 0.0 else CertaintyEquivalentGrowth(0.0, cash)
    limits = tuple([constraints] if isinstance(constraints, CONSTRAINT_TYPES) else constraints)
    equivalent = None if drawdown_cap is None else CertaintyEquivalentGrowth(drawdown_cap.risk_aversion, cash)
    if equivalent is not None:
        limits = (*limits, Limit(equivalent, lower=0.0, name="DrawdownCap"))
    result = optimize(Problem(scenarios, growth, limits), tolerance=tolerance)
    assert result.weights is not None
    details: dict[str, object] = {}
    if equivalent is not None:
        details["risk_aversion"] = equivalent.aversion
        details["moment"] = float(np.exp(-equivalent.aversion * result.value(equivalent)))
    if share < 1.0:
        full = result
        assert full.certificate is not None
        bound, scale = full.certificate.bound, full.certificate.scale

        def deviation(weights: FloatArray) -> float:
            view = full.problem.compiled.view(weights / share)
            return max(bound - growth.value(view), 0.0) / scale

        result = by_rule(
            scenarios,
            f"{share:g} of the Kelly weights",
            share * full.weights.to_numpy(),  # type: ignore[union-attr]
            deviation,
            start=time.perf_counter(),
            constraints=(),
            iterations=full.iterations,
            tolerance=tolerance,
        )
        spent, checking = full.timings, result.timings.certify
        result.timings = Timings(spent.compile, spent.solve, spent.certify + checking, time.perf_counter() - start)
        details["full_kelly"] = full
    assert result.weights is not None
    details["growth"] = result.value(growth)
    details["cash"] = 1.0 - float(result.weights.sum())
    result.details.update(details)
    return result


def gaussian_kelly(
    mean: pd.Series | Mapping[str, float],
    covariance: pd.DataFrame | FactorCovariance,
    *,
    cash_rate: float = 0.0,
) -> Result:
    r"""The Kelly weights of returns that are normal over short horizons, :math:`w = \Sigma^{-1} (\mu - c 1)`.

    They maximise :math:`c + (\mu - c1)'w - \tfrac12 w'\Sigma w`, the growth rate of continuous trading in prices that
    follow geometric Brownian motion (Merton, 1971; Thorp, 2006), and the growth over one period to second order.
    Nothing else limits them: expect leverage and short positions, and errors of the mean magnified.

    Parameters
    ----------
    mean
        :math:`\mu` by asset per horizon, arithmetic.
    covariance
        :math:`\Sigma` by asset per horizon: a frame, or a FactorCovariance, which is never formed.
    cash_rate
        c, return of cash per horizon.

    Returns
    -------
    Result
        Certified by the largest deviation of :math:`\Sigma w` from :math:`\mu - c1`, relative to the largest of it. Its
        `details` hold `growth`, the rate above, and `cash`.

    Raises
    ------
    InputError
        For a covariance without an inverse.
    """
    start = time.perf_counter()
    who = "gaussian_kelly"
    scenarios = scenarios_of_covariance(covariance, who, mean)
    cash = checked_number(cash_rate, f"{who}: cash_rate")
    if scenarios.form is None:
        raise InputError(
            f"{who} takes a covariance, was given scenarios; kelly(scenarios) needs no normal distribution"
        )
    excess = scenarios.mean_array() - cash
    form = covariance_form(scenarios)
    weights = _solved(form.root, form.diagonal, excess)
    for _ in range(2):
        weights = weights + _solved(form.root, form.diagonal, excess - form(weights)[1])
    size = max(largest(excess), 1e-300)
    result = by_rule(
        scenarios,
        "Gaussian Kelly weights",
        weights,
        lambda w: largest(form(w)[1] - excess) / size,
        start=start,
        constraints=(),
    )
    result.details["growth"] = cash + float(excess @ weights) - 0.5 * form(weights)[0]
    result.details["cash"] = 1.0 - float(weights.sum())
    return result


def kelly_bet(probability: float, odds: float, *, loss: float = 1.0) -> float:
    r"""The share of wealth to stake on a bet that is offered again and again (Kelly, 1956).

    :math:`f = \max(0,\ p / a - (1 - p) / b)` maximises :math:`p \ln(1 + b f) + (1 - p) \ln(1 - a f)`.

    Parameters
    ----------
    probability
        p of winning, in [0, 1].
    odds
        b, won per unit staked (net odds: 1 doubles the stake), positive.
    loss
        a, lost per unit staked, positive; 1 is the whole stake.
    """
    p = checked_number(probability, "kelly_bet: probability", least=0.0)
    if p > 1.0:
        raise InputError(f"kelly_bet: probability must be at most 1, was {p:g}")
    b = checked_number(odds, "kelly_bet: odds", above=0.0)
    a = checked_number(loss, "kelly_bet: loss", above=0.0)
    return max(0.0, p / a - (1.0 - p) / b)


def _solved(root: FloatArray, diagonal: FloatArray, right: FloatArray) -> FloatArray:
    """Solution of ``(R R' + diag(d)) w = right``, or the refusal of a matrix without an inverse."""
    if (diagonal > 1e-12 * float(diagonal.max(initial=0.0))).all() and diagonal.any():
        thin = root / diagonal[:, None]
        inner = np.eye(root.shape[1]) + root.T @ thin
        return right / diagonal - thin @ np.linalg.solve(inner, root.T @ (right / diagonal))
    matrix = root @ root.T + np.diag(diagonal)
    scale = np.sqrt(np.diag(matrix))
    if (scale > 0).all():
        values, vectors = np.linalg.eigh(matrix / np.outer(scale, scale))
        if values[0] > 1e-13 * len(values) * values[-1]:
            return (vectors @ ((vectors.T @ (right / scale)) / values)) / scale
    raise InputError(
        "gaussian_kelly needs the inverse of the covariance, and it is singular: some portfolio has no risk, and would "
        "be held without limit. Leave out assets that others replicate or that do not vary, shrink the covariance "
        "(portfolioopt.estimate.LedoitWolf), or use kelly with limits on the weights"
    )

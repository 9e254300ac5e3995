"""Mean-variance portfolios: minimum variance, utility, target return, target volatility, largest Sharpe ratio."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.estimate import FactorCovariance
from portfolioopt.labels import checked_number
from portfolioopt.problem import (
    Bounds,
    Budget,
    ExpectedReturn,
    Limit,
    Problem,
    Ratio,
    ReturnTarget,
    Variance,
    Volatility,
)
from portfolioopt.problem.constraints import Constraint
from portfolioopt.problem.terms import Expression
from portfolioopt.scenarios import ScenarioSet
from portfolioopt.solve import Result, Sweep, frontier, optimize

from .rule import listed, scenarios_of_covariance

Covariance = pd.DataFrame | FactorCovariance | ScenarioSet
Labelled = pd.Series | Mapping[str, float]

LONG_ONLY = (Budget(1.0), Bounds(0.0, 1.0))


def minimum_variance(
    covariance: Covariance,
    *,
    constraints: Constraint | Iterable[Constraint] = LONG_ONLY,
    holdings: Labelled | None = None,
    costs: Expression | None = None,
    tolerance: float = 1e-6,
) -> Result:
    r"""The portfolio of least variance, :math:`\min_w w'\Sigma w` under constraints.

    Parameters
    ----------
    covariance
        :math:`\Sigma` by asset, per horizon: a frame, a FactorCovariance (which is never formed), or scenarios whose
        covariance is meant.
    constraints
        Any of the problem language; fully invested and long only where not given.
    holdings
        Today's weights, for constraints and costs that look at trades.
    costs
        Terms to subtract from the objective, which is minus the variance.
    tolerance
        Largest relative gap at which the answer counts as optimal.

    Raises
    ------
    InputError, SolveError
        As :class:`Problem` and :func:`optimize` do.
    """
    scenarios = scenarios_of_covariance(covariance, "minimum_variance")
    objective: Expression = -1.0 * Variance()
    return optimize(
        Problem(scenarios, objective if costs is None else objective - costs, listed(constraints), holdings=holdings),
        tolerance=tolerance,
    )


def mean_variance(
    mean: Labelled,
    covariance: Covariance,
    *,
    risk_aversion: float | None = None,
    target_return: float | None = None,
    target_volatility: float | None = None,
    risk_free: float | None = None,
    constraints: Constraint | Iterable[Constraint] = LONG_ONLY,
    holdings: Labelled | None = None,
    costs: Expression | None = None,
    tolerance: float = 1e-6,
) -> Result:
    r"""A mean-variance portfolio (Markowitz, 1952); exactly one of four arguments says which.

    ===================== ===========================================================================
    `risk_aversion`       :math:`\max_w \mu'w - \frac{\gamma}{2} w'\Sigma w`
    `target_return`       :math:`\min_w w'\Sigma w` with :math:`\mu'w \ge` target
    `target_volatility`   :math:`\max_w \mu'w` with :math:`\sqrt{w'\Sigma w} \le` target
    `risk_free`           :math:`\max_w (\mu'w - r_f 1'w) / \sqrt{w'\Sigma w}`, the largest Sharpe ratio
    ===================== ===========================================================================

    Parameters
    ----------
    mean
        :math:`\mu`, expected return of every asset per horizon, as fractions.
    covariance
        :math:`\Sigma` by asset, per the same horizon: a frame, a FactorCovariance (which is never formed), or scenarios
        whose covariance is meant.
    risk_aversion
        :math:`\gamma`, positive; the full Kelly portfolio of normal returns has 1.
    target_return
        Least expected return per horizon.
    target_volatility
        Largest volatility per horizon, positive.
    risk_free
        :math:`r_f` per horizon; 0 for returns in excess of cash.
    constraints
        Any of the problem language; fully invested and long only where not given.
    holdings
        Today's weights, for constraints and costs that look at trades.
    costs
        Terms to subtract from the objective, such as ``ProportionalCost(bps=5)``; not with `risk_free`.
    tolerance
        Largest relative gap at which the answer counts as optimal.

    Returns
    -------
    Result
        As of :func:`optimize`: certified, with shadow prices of the constraints.

    Raises
    ------
    InputError, SolveError
        Where not exactly one kind was asked for, and as :class:`Problem` and :func:`optimize` do.
    """
    who = "mean_variance"
    kinds = {
        "risk_aversion": risk_aversion,
        "target_return": target_return,
        "target_volatility": target_volatility,
        "risk_free": risk_free,
    }
    given = [name for name, value in kinds.items() if value is not None]
    if len(given) != 1:
        said = "none was given" if not given else f"{' and '.join(given)} were given"
        raise InputError(f"{who} takes exactly one of {', '.join(kinds)}, and {said}")
    limits = listed(constraints)
    scenarios = scenarios_of_covariance(covariance, who, mean)
    own = scenarios.form is not None
    reward = ExpectedReturn() if own else ExpectedReturn(mean)
    paid: Expression = reward if costs is None else reward - costs
    objective: Expression | Ratio
    if risk_aversion is not None:
        gamma = checked_number(risk_aversion, f"{who}: risk_aversion", above=0.0)
        objective = paid - 0.5 * gamma * Variance()
    elif target_return is not None:
        least = checked_number(target_return, f"{who}: target_return")
        objective = -1.0 * Variance() if costs is None else -1.0 * Variance() - costs
        limits.append(ReturnTarget(least) if own else ReturnTarget(least, mean=mean))
    elif target_volatility is not None:
        most = checked_number(target_volatility, f"{who}: target_volatility", above=0.0)
        objective = paid
        limits.append(Limit(Volatility(), upper=most, name="target volatility"))
    else:
        if costs is not None:
            raise InputError(f"{who}: costs have no place in a Sharpe ratio; limit turnover, or use risk_aversion")
        rate = checked_number(risk_free, f"{who}: risk_free")
        excess = scenarios.mean() if own else pd.Series(dict(mean)).reindex(scenarios.assets)
        objective = (ExpectedReturn() if own and rate == 0.0 else ExpectedReturn(excess - rate)) / Volatility()
    return optimize(Problem(scenarios, objective, limits, holdings=holdings), tolerance=tolerance)


def efficient_frontier(
    mean: Labelled,
    covariance: Covariance,
    *,
    points: int = 20,
    constraints: Constraint | Iterable[Constraint] = LONG_ONLY,
    holdings: Labelled | None = None,
    progress: bool = False,
) -> Sweep:
    """The efficient frontier of mean and volatility: the least volatility for `points` expected returns.

    They lie evenly between the expected return of the least volatility and the greatest one.

    Parameters
    ----------
    mean, covariance, constraints, holdings
        As for :func:`mean_variance`.
    points
        How many, at least 2.
    progress
        Show how far it is.

    Returns
    -------
    Sweep
        `frame` with a row for each point, `weights`, and certificates.
    """
    scenarios = scenarios_of_covariance(covariance, "efficient_frontier", mean)
    reward = ExpectedReturn() if scenarios.form is not None else ExpectedReturn(mean)
    problem = Problem(scenarios, reward - Volatility(), listed(constraints), holdings=holdings)
    return frontier(problem, points, risk=Volatility(), progress=progress)

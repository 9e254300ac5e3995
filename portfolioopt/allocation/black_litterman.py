"""Mean-variance portfolios from an equilibrium and views, and scenarios that agree with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import numpy as np
import pandas as pd

from portfolioopt.blas import quiet_blas
from portfolioopt.errors import InputError
from portfolioopt.estimate import FactorCovariance
from portfolioopt.estimate.black_litterman import (
    BlackLittermanPosterior,
    Weighing,
    black_litterman_posterior,
    check_weighing,
)
from portfolioopt.estimate.return_views import Omega, Views
from portfolioopt.labels import FloatArray, align, checked_number
from portfolioopt.problem.constraints import Constraint
from portfolioopt.problem.terms import Expression
from portfolioopt.scenarios import ScenarioSet
from portfolioopt.solve import Result

from .mean_variance import LONG_ONLY, mean_variance


def black_litterman(
    covariance: pd.DataFrame | FactorCovariance | ScenarioSet,
    views: Views = (),
    *,
    market_weights: pd.Series | Mapping[str, float] | None = None,
    prior_mean: pd.Series | Mapping[str, float] | None = None,
    risk_aversion: float = 2.5,
    tau: float = 0.05,
    omega: Omega | None = None,
    uses: Weighing = "posterior",
    constraints: Iterable[Constraint] = LONG_ONLY,
    holdings: pd.Series | Mapping[str, float] | None = None,
    costs: Expression | None = None,
    tolerance: float = 1e-6,
) -> Result:
    r"""The portfolio that views on an equilibrium lead to (Black & Litterman, 1992).

    Maximises :math:`\bar\mu'w - \tfrac{\delta}{2} w'\bar\Sigma w` with the posterior mean :math:`\bar\mu` and
    covariance :math:`\bar\Sigma` of :func:`portfolioopt.estimate.black_litterman_posterior`. Without views and
    constraints that is the market, divided by :math:`1 + \tau` where weights use the posterior covariance.

    Parameters
    ----------
    covariance
        :math:`\Sigma` by asset per horizon: a frame, a FactorCovariance (which is never formed), or scenarios whose
        covariance is meant.
    views, market_weights, prior_mean, risk_aversion, tau, omega
        As for :func:`portfolioopt.estimate.black_litterman_posterior`; `risk_aversion` is that of the investor as well.
    uses
        The covariance in the objective: ``"posterior"``, which counts that the mean is not known (He & Litterman,
        1999), or ``"prior"`` :math:`\Sigma` (Idzorek, 2005).
    constraints
        Any of the problem language; fully invested and long only where not given.
    holdings
        Today's weights, for constraints and costs that look at trades.
    costs
        Terms to subtract from the objective.
    tolerance
        Largest relative gap at which the answer counts as optimal.

    Returns
    -------
    Result
        As of :func:`optimize`. Its `details` hold the `posterior`, its `prior_mean`, `posterior_mean` and `views`, with
        the tilts that go with the chosen covariance; `posterior_covariance` where that was used; and where market
        weights were given `unconstrained`, the weights without any constraint.

    Raises
    ------
    InputError, SolveError
        As :func:`portfolioopt.estimate.black_litterman_posterior`, :class:`Problem` and :func:`optimize` do.
    """
    check_weighing(uses, "black_litterman")
    if isinstance(covariance, ScenarioSet):
        covariance = covariance.covariance()
    posterior = black_litterman_posterior(
        covariance,
        views,
        market_weights=market_weights,
        prior_mean=prior_mean,
        risk_aversion=risk_aversion,
        tau=tau,
        omega=omega,
    )
    chosen = posterior.covariance if uses == "posterior" else covariance
    result = mean_variance(
        posterior.mean,
        chosen,
        risk_aversion=posterior.risk_aversion,
        constraints=constraints,
        holdings=holdings,
        costs=costs,
        tolerance=tolerance,
    )
    result.details |= {
        "posterior": posterior,
        "prior_mean": posterior.prior_mean,
        "posterior_mean": posterior.mean,
        "views": posterior.views.assign(tilt=posterior.tilts(uses)),
    }
    if uses == "posterior":
        result.details["posterior_covariance"] = posterior.covariance
    if posterior.market_weights is not None:
        result.details["unconstrained"] = posterior.unconstrained_weights(uses)
    return result


@quiet_blas.hold()
def posterior_scenarios(
    scenarios: ScenarioSet,
    posterior: BlackLittermanPosterior,
    *,
    covariance: Literal["keep", "posterior"] = "keep",
    cash_rate: float = 0.0,
) -> ScenarioSet:
    r"""Scenarios moved so that they have the posterior mean, for measures that look at tails.

    :math:`r_s \mapsto \bar\mu + c + T (r_s - m)` with the scenario mean m. T is the identity where the covariance is
    kept, so that losses have the shape they had; otherwise it is the symmetric matrix that makes their covariance
    :math:`\bar\Sigma` and moves them least in mean square,
    :math:`T = S^{-1/2} (S^{1/2} \bar\Sigma S^{1/2})^{1/2} S^{-1/2}` (Dowson & Landau, 1982). Probabilities stay.

    Parameters
    ----------
    scenarios
        S x N, in memory, per the horizon of the views; their covariance is S.
    posterior
        Over the same assets, in any order.
    covariance
        ``"keep"`` that of the scenarios, or give them the ``"posterior"`` one.
    cash_rate
        c, the riskless return per horizon: posterior means are over it, and scenarios usually are not.

    Raises
    ------
    InputError
        For other assets, scenarios that are not in memory, and scenarios that do not vary in every direction where
        they have to be given another covariance.
    """
    if not isinstance(scenarios, ScenarioSet) or not isinstance(posterior, BlackLittermanPosterior):
        raise InputError("posterior_scenarios takes a ScenarioSet and what black_litterman_posterior returns")
    if covariance not in ("keep", "posterior"):
        raise InputError(f"posterior_scenarios: covariance must be 'keep' or 'posterior', was {covariance!r}")
    cash = checked_number(cash_rate, "posterior_scenarios: cash_rate")
    assets = scenarios.assets
    target = align(posterior.mean, assets, what="posterior") + cash
    centred = np.asarray(scenarios.matrix, dtype=np.float64) - scenarios.mean_array()
    if covariance == "posterior":
        wanted = posterior.covariance
        frame = wanted.dense() if isinstance(wanted, FactorCovariance) else wanted
        matrix = frame.reindex(index=assets, columns=assets).to_numpy()
        centred = centred @ _transport(scenarios.covariance().to_numpy(), matrix)
    returns = pd.DataFrame(centred + target, scenarios.index, assets)
    return ScenarioSet(returns, scenarios.probabilities, horizon=scenarios.horizon)


def _transport(before: FloatArray, after: FloatArray) -> FloatArray:
    """The symmetric T (N, N) with ``T before T = after``."""
    values, vectors = np.linalg.eigh(before)
    if values[0] <= 1e-12 * len(values) * values[-1]:
        raise InputError(
            "posterior_scenarios: the scenarios do not vary in every direction, so no scaling gives them the posterior "
            "covariance; pass more scenarios, or covariance='keep'"
        )
    half = (vectors * np.sqrt(values)) @ vectors.T
    inverse = (vectors / np.sqrt(values)) @ vectors.T
    middle = half @ after @ half
    inner, directions = np.linalg.eigh(0.5 * (middle + middle.T))
    root = (directions * np.sqrt(np.maximum(inner, 0.0))) @ directions.T
    return inverse @ root @ inverse

"""Portfolio libraries, called as their manuals show, with their default solvers."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pandas as pd

from ..instances import Instance
from .base import Answer, Solve


def skfolio(instance: Instance) -> Solve:
    """MeanRisk with its default solver (Clarabel through cvxpy); limits on the L1 sum enter as a cvxpy expression."""
    import cvxpy as cp
    from skfolio import RiskMeasure
    from skfolio.optimization import MeanRisk, ObjectiveFunction

    X = pd.DataFrame(instance.returns, columns=pd.Index(instance.names))
    settings: dict[str, Any] = {"objective_function": ObjectiveFunction.MAXIMIZE_UTILITY}
    if instance.target is not None:
        settings = {"objective_function": ObjectiveFunction.MINIMIZE_RISK, "min_return": instance.target}
    if instance.cvar_limit is not None:
        settings = {"objective_function": ObjectiveFunction.MAXIMIZE_RETURN, "max_cvar": instance.cvar_limit}
    if instance.sector is not None and instance.sector_cap is not None:
        settings["groups"] = {name: [f"G{g}"] for name, g in zip(instance.names, instance.sector, strict=True)}
        settings["linear_constraints"] = [f"G{g} <= {cap!r}" for g, cap in enumerate(instance.sector_cap.tolist())]
    if instance.turnover is not None:
        settings["add_constraints"] = lambda w: cp.norm1(w - instance.holdings) <= instance.turnover

    def solve() -> Answer:
        model = MeanRisk(
            risk_measure=RiskMeasure.CVAR,
            cvar_beta=instance.beta,
            risk_aversion=instance.aversion,
            min_weights=0.0,
            max_weights=instance.cap,
            **settings,
        )
        model.fit(X)
        return Answer(np.asarray(model.weights_, dtype=np.float64))

    return solve


def riskfolio(instance: Instance) -> Solve:
    """Portfolio.optimization with its default solvers; the moments are estimated beforehand."""
    module: Any = importlib.import_module("riskfolio")
    portfolio = module.Portfolio(returns=pd.DataFrame(instance.returns, columns=pd.Index(instance.names)))
    portfolio.alpha = 1.0 - instance.beta
    portfolio.upperlng = instance.cap
    portfolio.assets_stats(method_mu="hist", method_cov="hist")
    goal = "Utility"
    if instance.target is not None:
        portfolio.lowerret, goal = instance.target, "MinRisk"
    if instance.cvar_limit is not None:
        portfolio.upperCVaR, goal = instance.cvar_limit, "MaxRet"

    def solve() -> Answer:
        weights = portfolio.optimization(model="Classic", rm="CVaR", obj=goal, rf=0, l=instance.aversion, hist=True)
        if weights is None:
            raise RuntimeError("Riskfolio-Lib found no solution")
        return Answer(weights["weights"].to_numpy(dtype=np.float64))

    return solve


def pyportfolioopt(instance: Instance) -> Solve:
    """EfficientCVaR with its default solver; an object is good for one solve. Utility is an added objective."""
    import cvxpy as cp

    module: Any = importlib.import_module("pypfopt")
    X = pd.DataFrame(instance.returns, columns=pd.Index(instance.names))
    mean = pd.Series(instance.mean, index=X.columns)

    def solve() -> Answer:
        front = module.EfficientCVaR(mean, X, beta=instance.beta, weight_bounds=(0.0, instance.cap))
        if instance.sector_cap is not None:
            front.add_constraint(lambda w: instance.sector_rows @ w <= instance.sector_cap)
        if instance.turnover is not None:
            front.add_constraint(lambda w: cp.norm1(w - instance.holdings) <= instance.turnover)
        if instance.cvar_limit is not None:
            front.efficient_risk(instance.cvar_limit)
        elif instance.target is not None:
            front.efficient_return(instance.target)
        else:
            front.add_objective(lambda w: -(instance.reward / instance.aversion) * (instance.mean @ w))
            front.min_cvar()
        return Answer(np.asarray(front.weights, dtype=np.float64))

    return solve


def fortitudo(instance: Instance) -> Solve:
    """MeanCVaR, a Benders decomposition over GLPK, without demeaning and with as many cuts as it takes.

    It has no utility objective, but mean'w / aversion can be added to every scenario: CVaR of a loss less a sure gain
    is CVaR less that gain. A turnover limit takes N more assets, worth nothing and without return.
    """
    module: Any = importlib.import_module("fortitudo.tech")
    n = instance.assets
    returns = instance.returns
    if instance.reward:
        returns = returns + (instance.reward / instance.aversion) * instance.mean
    eye = np.eye(n)
    rows = np.vstack([-eye, eye, instance.sector_rows])
    right = [np.zeros(n), np.full(n, instance.cap)]
    worth = np.ones(n)
    if instance.sector_cap is not None:
        right.append(instance.sector_cap)
    if instance.turnover is not None and instance.holdings is not None:
        returns, worth = np.hstack([returns, np.zeros_like(returns)]), np.repeat([1.0, 0.0], n)
        trades = np.block([[eye, -eye], [-eye, -eye], [np.zeros((1, n)), np.ones((1, n))]])
        rows = np.vstack([np.hstack([rows, np.zeros_like(rows[:, :n])]), trades])
        right += [instance.holdings, -instance.holdings, np.array([instance.turnover])]
    options = {"demean": False, "maxiter": 1_000_000}
    model = module.MeanCVaR(returns, rows, np.concatenate(right), v=worth, alpha=instance.beta, options=options)

    def solve() -> Answer:
        return Answer(np.asarray(model.efficient_portfolio(instance.target), dtype=np.float64)[:n, 0])

    return solve

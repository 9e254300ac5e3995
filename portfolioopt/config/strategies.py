"""Strategies that a file describes: a problem posed anew on every day of decision, and allocators by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import pandas as pd

from portfolioopt import allocation, estimate
from portfolioopt.backtest import Moment, Strategy
from portfolioopt.backtest.moment import Target
from portfolioopt.backtest.strategies import compounded, in_place
from portfolioopt.errors import InputError
from portfolioopt.estimate.covariances import CovarianceEstimator
from portfolioopt.labels import PerAsset
from portfolioopt.problem import Bounds, Budget, Problem
from portfolioopt.scenarios import ScenarioSet, block_bootstrap
from portfolioopt.solve import Result

from .model import ObjectiveConfig
from .place import Place
from .strategy_model import AllocatorConfig, ProblemConfig
from .terms import constraints_of, place_of, spread, summed, terms_of

_COVARIANCES: Final[Mapping[str, Callable[[], CovarianceEstimator]]] = {
    "denoised": estimate.DenoisedCovariance,
    "gerber": estimate.GerberCovariance,
    "ledoit_wolf": estimate.LedoitWolf,
    "nonlinear_shrinkage": estimate.NonlinearShrinkage,
    "oracle_approximating": estimate.OracleApproximating,
    "sample": estimate.SampleCovariance,
}


@dataclass(frozen=True, eq=False, repr=False)
class SectionedProblem(Strategy):
    """The problem that the sections of a file describe, with what is known at each decision.

    Parameters
    ----------
    config
        The section of the strategy.
    labels
        Of the group limits, one Series for each.
    at
        Where the section stands.
    window, horizon, n_scenarios, block_length, risk_aversion, holding
        Those of the section, as parameters that can be varied.
    """

    config: ProblemConfig
    labels: tuple[pd.Series, ...]
    at: Place
    window: int = field(kw_only=True)
    horizon: int = field(kw_only=True)
    n_scenarios: int | None = field(kw_only=True)
    block_length: int | None = field(kw_only=True)
    risk_aversion: float = field(kw_only=True)
    holding: float | None = field(kw_only=True)

    @classmethod
    def of(cls, config: ProblemConfig, labels: tuple[pd.Series, ...], at: Place) -> SectionedProblem:
        """With the parameters of the section itself."""
        s = config.scenarios
        return cls(
            config, labels, at, window=s.window, horizon=s.horizon, n_scenarios=s.n_scenarios,
            block_length=s.block_length, risk_aversion=config.risk_aversion, holding=config.holding,
        )  # fmt: skip

    @property
    def warmup(self) -> int:
        """The window, and the price before it."""
        return self.window + 1

    def target(self, moment: Moment) -> Target:
        """The problem of this session, over the assets with prices throughout the window."""
        method = self.config.scenarios.method
        scenarios = moment.shared(
            ("problem", self.window, self.horizon, self.n_scenarios, self.block_length, method),
            lambda: self._scenarios(moment),
        )
        assets = scenarios.assets
        wanted = _scaled(self.config.objective, self.risk_aversion)
        held = 1.0 if self.holding is None else self.holding / self.horizon
        objective = summed(terms_of(wanted, assets, self.at.at("objective"), cost_factor=1.0 / held))
        if wanted.cost_bps is None:
            cost = moment.cost_term(assets, horizons=held)
            objective = objective if cost is None else objective - cost
        constraints, places = constraints_of(
            self.config.constraints, self.labels, assets, self.at.at("constraints"), trading=moment.targets is not None
        )
        try:
            return Problem(scenarios, objective, constraints, holdings=moment.holdings_of(assets))
        except InputError as error:
            raise Place(self.at.origin).error(str(error), *place_of(str(error), places)) from error

    def _scenarios(self, moment: Moment) -> ScenarioSet:
        returns = moment.returns(self.window)
        if self.n_scenarios is None:
            span = "1 session" if self.horizon == 1 else f"{self.horizon} sessions"
            return ScenarioSet(compounded(returns, self.horizon), horizon=span)
        return block_bootstrap(
            in_place(returns, moment.session),
            self.n_scenarios,
            seed=moment.run_seed,
            horizon=self.horizon,
            block_length=self.block_length,
            method=self.config.scenarios.method or "stationary",
        )

    def __repr__(self) -> str:
        given = self.config.model_dump(exclude_none=True, exclude_defaults=True, exclude={"kind"})
        return f"Problem({', '.join(f'{name}={value}' for name, value in given.items())})"


@dataclass(frozen=True, eq=False, repr=False)
class Allocator:
    """An allocator of `portfolioopt.allocation` as a function of returns (window x N)."""

    config: AllocatorConfig

    def __call__(self, returns: pd.DataFrame) -> Result:
        """The portfolio of these returns."""
        kind = self.config.kind
        sample = self.config.covariance == "sample"
        covariance = None if sample else _COVARIANCES[self.config.covariance]().fit(returns)
        lower, upper = self._bounds(returns.columns)
        match kind:
            case "hrp":
                return allocation.hrp(returns, covariance=covariance, bounds=(lower, upper))
            case "herc":
                return allocation.herc(returns, covariance=covariance, bounds=(lower, upper))
            case "nested_clusters":
                return allocation.nested_clusters(returns, covariance=covariance)
        known = ScenarioSet(returns) if covariance is None else covariance
        limits = (Budget(1.0), Bounds(lower, upper))
        match kind:
            case "minimum_variance":
                return allocation.minimum_variance(known, constraints=limits)
            case "maximum_diversification":
                return allocation.maximum_diversification(known, constraints=limits)
            case "risk_parity":
                bounded = self.config.lower is not None or self.config.upper is not None
                return allocation.risk_parity(known, constraints=limits[1:] if bounded else ())
            case "inverse_volatility":
                return allocation.inverse_volatility(known)

    def _bounds(self, assets: pd.Index) -> tuple[PerAsset, PerAsset]:
        lower, upper = self.config.lower, self.config.upper
        return 0.0 if lower is None else spread(lower, assets), 1.0 if upper is None else spread(upper, assets)

    def __repr__(self) -> str:
        given = self.config.model_dump(exclude_none=True, exclude_defaults=True, exclude={"kind", "window"})
        return f"{self.config.kind}({', '.join(f'{name}={value!r}' for name, value in given.items())})"


def _scaled(wanted: ObjectiveConfig, factor: float) -> ObjectiveConfig:
    """The objective with all its risks times a factor."""
    if factor == 1.0:
        return wanted
    cvar = tuple(risk.model_copy(update={"weight": factor * risk.weight}) for risk in wanted.cvar)
    risks = tuple(risk.model_copy(update={"weight": factor * risk.weight}) for risk in wanted.risks)
    return wanted.model_copy(update={"cvar": cvar, "risks": risks})

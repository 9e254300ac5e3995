"""Strategies to begin with; one's own is a class with a `target`, or a function of a moment."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.labels import PerAsset, align, checked_number
from portfolioopt.problem import (
    Bounds,
    Budget,
    Constraint,
    CVaR,
    ExpectedReturn,
    Problem,
    ProportionalCost,
    Turnover,
)
from portfolioopt.scenarios import ScenarioSet, block_bootstrap
from portfolioopt.scenarios.scenario_set import whole_number
from portfolioopt.solve import Result

from .moment import FromFunction as FromFunction
from .moment import Moment, Strategy, Target


@dataclass(frozen=True, eq=False)
class MeanCVaR(Strategy):
    r"""Mean-CVaR on resampled recent history, fully invested.

    Where history is resampled, the random numbers stay the same from decision to decision: as the window moves on, only
    those scenarios change that its oldest sessions are in. Draws made anew each time would be traded on.

    .. math:: \max_w\; \mu'w - \lambda\,\mathrm{CVaR}_\beta(w) - \frac{\text{cost}(w - h)}{m}, \qquad
              \sum_i w_i = 1,\; l \le w \le u

    with holdings h after drift, and m scenario horizons until the next rebalance.

    Parameters
    ----------
    risk_aversion
        :math:`\lambda`.
    beta
        Confidence level of CVaR.
    window
        Sessions of history that are resampled.
    scenarios
        Number S of scenarios by the stationary block bootstrap; None for the history itself, every `horizon`-session
        return in the window being a scenario.
    horizon
        Sessions that one scenario spans.
    block_length
        Mean length of the blocks, in sessions; see :func:`portfolioopt.scenarios.block_bootstrap`.
    lower, upper
        Bounds on weights, fractions of NAV: one number, or one per asset.
    turnover
        Most that may be traded at a time, sum of absolute changes as a fraction of NAV; None for any.
    cost_bps
        Cost that is planned with, in basis points of what is traded; None for what the book is charged.
    holding
        Sessions that a portfolio is expected to be held: m is ``holding / horizon``.
    mean
        Expected returns per session by asset, from the window's returns (window x N); None for those of the scenarios.
    constraints
        Further constraints; assets that they name have to be known throughout.
    """

    risk_aversion: float = 3.0
    beta: float = 0.95
    window: int = 1260
    scenarios: int | None = 1000
    horizon: int = 21
    block_length: int | None = None
    lower: PerAsset = 0.0
    upper: PerAsset = 0.2
    turnover: float | None = None
    cost_bps: float | None = None
    holding: float = 21.0
    mean: Callable[[pd.DataFrame], pd.Series] | None = None
    constraints: tuple[Constraint, ...] = ()

    def __post_init__(self) -> None:
        whole_number(self.window, "window", least=2)
        whole_number(self.horizon, "horizon", least=1)
        if self.horizon > self.window // 2:
            raise InputError(f"a window of {self.window} sessions is too short for a horizon of {self.horizon}")
        if self.scenarios is not None:
            whole_number(self.scenarios, "scenarios", least=2)
        checked_number(self.holding, "holding", above=0.0)

    @property
    def warmup(self) -> int:
        """The window, and the price before it."""
        return self.window + 1

    def family(self, moment: Moment) -> tuple[Hashable, Mapping[str, Any]] | None:
        """Runs that differ in risk aversion, bounds, turnover and planned costs share scenarios and structure."""
        if self.cost_bps is None and moment.costs is not None and moment.costs.grows_with_size:
            return None  # the forecast depends on the size of each book
        capped = self.turnover is not None and not moment.first
        key = (MeanCVaR, *self._recipe, self.beta, self.holding, self.constraints, self.cost_bps is None, capped)
        numbers: dict[str, Any] = {
            "CVaR.weight": self.risk_aversion,
            "Bounds.lower": self.lower,
            "Bounds.upper": self.upper,
        }
        if self.cost_bps is not None:
            numbers["ProportionalCost.bps"] = self.cost_bps
        if capped:
            numbers["Turnover.limit"] = self.turnover
        return key, numbers

    @property
    def _recipe(self) -> tuple[Hashable, ...]:
        """What the scenarios depend on."""
        return self.window, self.scenarios, self.horizon, self.block_length, self.mean

    def target(self, moment: Moment) -> Target:
        """The problem of this session."""
        scenarios, mean = moment.shared(
            ("mean-cvar", *self._recipe),
            lambda: self._estimated(moment),
        )
        assets = scenarios.assets
        objective = ExpectedReturn(mean) - self.risk_aversion * CVaR(self.beta)
        if self.cost_bps is not None:
            objective = objective - (self.horizon / self.holding) * ProportionalCost(self.cost_bps)
        else:
            cost = moment.cost_term(assets, horizons=self.holding / self.horizon)
            objective = objective if cost is None else objective - cost
        constraints: list[Constraint] = [
            Budget(1.0),
            Bounds(_known(self.lower, assets), _known(self.upper, assets)),
            *self.constraints,
        ]
        if self.turnover is not None and not moment.first:  # a book of cash has to be invested first
            constraints.append(Turnover(self.turnover))
        return Problem(scenarios, objective, constraints, holdings=moment.holdings_of(assets))

    def _estimated(self, moment: Moment) -> tuple[ScenarioSet, pd.Series | None]:
        returns = moment.returns(self.window)
        if self.scenarios is None:
            scenarios = ScenarioSet(compounded(returns, self.horizon), horizon=_span(self.horizon))
        else:
            scenarios = block_bootstrap(
                in_place(returns, moment.session),
                self.scenarios,
                seed=moment.run_seed,
                horizon=self.horizon,
                block_length=self.block_length,
            )
        return scenarios, None if self.mean is None else self.mean(returns) * self.horizon


@dataclass(frozen=True, eq=False)
class FixedWeights(Strategy):
    """The same target weights every time; what they leave of one is cash."""

    weights: pd.Series | Mapping[str, float]

    def target(self, moment: Moment) -> Target:
        """The weights."""
        return pd.Series(self.weights, dtype=np.float64)


@dataclass(frozen=True, eq=False)
class EqualWeight(Strategy):
    """1/N of NAV in each of the members with prices."""

    def target(self, moment: Moment) -> Target:
        """Over the members at this close."""
        members = moment.market.members()
        quoted = moment.market.prices[members].iloc[-1].notna().to_numpy()
        return pd.Series(1.0 / quoted.sum(), index=members[quoted]) if quoted.any() else None


@dataclass(frozen=True, eq=False)
class BuyAndHold(Strategy):
    """Buy once and never trade again.

    Parameters
    ----------
    weights
        Fractions of NAV; equal weights where None.
    """

    weights: pd.Series | Mapping[str, float] | None = None

    def target(self, moment: Moment) -> Target:
        """The weights the first time, then None."""
        if not moment.first:
            return None
        return EqualWeight().target(moment) if self.weights is None else pd.Series(self.weights, dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Allocated(Strategy):
    """What a function makes of the returns of a window, such as an allocator of `portfolioopt.allocation`.

    ``Allocated(lambda returns: po.allocation.hrp(returns), window=504)``

    Parameters
    ----------
    allocate
        Function of simple returns (window x N) that gives a result, a problem or weights.
    window
        Sessions of history.
    """

    allocate: Callable[[pd.DataFrame], Result | Problem | pd.Series]
    window: int = 504

    def __post_init__(self) -> None:
        whole_number(self.window, "window", least=2)

    @property
    def warmup(self) -> int:
        """The window, and the price before it."""
        return self.window + 1

    def target(self, moment: Moment) -> Target:
        """What the function makes of the window."""
        return moment.shared(
            ("allocated", self.allocate, self.window), lambda: self.allocate(moment.returns(self.window))
        )


def compounded(returns: pd.DataFrame, horizon: int) -> pd.DataFrame:
    """Simple returns over every `horizon` rows in a row, overlapping, stamped with the last of them."""
    if horizon == 1:
        return returns
    growth = np.cumprod(np.vstack([np.ones((1, returns.shape[1])), 1.0 + returns.to_numpy()]), axis=0)
    if (growth <= 0.0).any():
        raise InputError("returns of -100 % cannot be compounded into overlapping horizons; bootstrap them instead")
    return pd.DataFrame(
        growth[horizon:] / growth[:-horizon] - 1.0, index=returns.index[horizon - 1 :], columns=returns.columns
    )


def in_place(returns: pd.DataFrame, session: int) -> pd.DataFrame:
    """The rows of a window, each at its number since the beginning of history modulo the length of the window.

    As the window moves on, new rows take the places of those that leave, and all others stay where they are. Rows that
    follow each other in time still do, the last place being followed by the first.
    """
    places = (np.arange(session - len(returns), session)) % len(returns)
    rows = np.empty(returns.shape)
    rows[places] = returns.to_numpy()
    return pd.DataFrame(rows, columns=returns.columns)


def _known(bound: PerAsset, assets: pd.Index) -> PerAsset:
    """Bounds of those assets that are in the problem; all of them have to have one."""
    if not isinstance(bound, pd.Series | Mapping):
        return bound
    series = bound if isinstance(bound, pd.Series) else pd.Series(dict(bound), dtype=np.float64)
    inside = series[series.index.isin(assets)]
    return pd.Series(align(inside, assets, what="bounds", infinite=True), index=assets)


def _span(horizon: int) -> str:
    return "1 session" if horizon == 1 else f"{horizon} sessions"

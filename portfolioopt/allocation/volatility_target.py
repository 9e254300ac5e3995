"""Portfolios and return series scaled to a volatility, with the rest in cash."""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError, unknown_names
from portfolioopt.estimate import FactorCovariance
from portfolioopt.estimate.checks import checked_count, checked_series
from portfolioopt.labels import FloatArray, align, checked_number
from portfolioopt.problem import Budget, GrossExposure, Limit
from portfolioopt.problem.constraints import Constraint
from portfolioopt.scenarios import ScenarioSet
from portfolioopt.solve import Result

from .rule import by_rule, largest, scenarios_of_covariance


def volatility_target(
    portfolio: Result | pd.Series | Mapping[str, float],
    covariance: pd.DataFrame | FactorCovariance | ScenarioSet | None,
    target: float,
    *,
    max_leverage: float = 1.0,
    cash: Hashable | None = None,
) -> Result:
    r"""Risky weights times the factor k with which the portfolio has a volatility, and the rest in cash.

    :math:`k = \min(\sigma^* / \sqrt{w'\Sigma w},\ L / \lVert w \rVert_1)`. Where cash is an asset with a risk of its
    own, k is the largest with :math:`(k w + (1 - k 1'w) e)'\,\Sigma\,(k w + (1 - k 1'w) e) \le \sigma^{*2}`, e its unit
    vector.

    Parameters
    ----------
    portfolio
        Weights by asset, or the result of any allocator.
    covariance
        :math:`\Sigma` per horizon: a frame, a FactorCovariance, or scenarios whose covariance is meant. None for that
        of the result.
    target
        :math:`\sigma^*`, volatility per the same horizon; positive.
    max_leverage
        L, largest gross weight of the risky assets, as a multiple of NAV; positive. 1 does not borrow.
    cash
        The asset that is cash and takes the rest, positive or negative; its weight in `portfolio` does not matter.
        Where None, the rest is not in the weights but in `details`.

    Returns
    -------
    Result
        Certified by the relative deviation from the target, or from the largest leverage where that comes first, and
        from the proportions of the risky assets. Its `details` hold `scale` k, `volatility_before`, `cash` and whether
        the portfolio was `capped` by its leverage.

    Raises
    ------
    InputError
        For portfolios without risk, numbers that are not positive, and a cash asset with more risk than the target.
    UnknownNameError
        For a cash asset that does not exist.
    """
    start = time.perf_counter()
    who = "volatility_target"
    scenarios = _scenarios(portfolio, covariance, who)
    assets = scenarios.assets
    held = _weights(portfolio, assets, who)
    wanted = checked_number(target, f"{who}: target", above=0.0)
    limit = checked_number(max_leverage, f"{who}: max_leverage", above=0.0)
    risky, rest = held.copy(), np.zeros(len(assets))
    if cash is not None:
        if cash not in assets:
            raise unknown_names("asset", [cash], assets)
        rest[assets.get_loc(cash)] = 1.0
        risky = np.where(rest > 0, 0.0, held)
    direction = risky - risky.sum() * rest
    a, b, c = _products(scenarios, direction, rest)
    gross, net = float(np.abs(risky).sum()), float(risky.sum())
    size = float(scenarios.source.root_mean_square)
    if gross == 0.0 or a <= (1e-9 * size * gross) ** 2:
        raise InputError(f"{who}: the portfolio has no risk that could be scaled to a volatility of {wanted:g}")
    if c > wanted**2:
        raise InputError(f"{who}: the volatility of cash ({cash!r}) is {np.sqrt(c):.3g}, above the target {wanted:g}")
    scale = float((-b + np.sqrt(b**2 + a * (wanted**2 - c))) / a)
    capped = scale * gross > limit
    if capped:
        scale = limit / gross
    weights = scale * risky + (1.0 - scale * net) * rest

    def deviation(found: FloatArray) -> float:
        chosen = np.where(rest > 0, 0.0, found)
        leverage = float(np.abs(chosen).sum())
        shape = largest(chosen / leverage - risky / gross)
        volatility = float(np.sqrt(max(_products(scenarios, found, rest)[0], 0.0)))
        over = max(volatility / wanted - 1.0, 0.0)
        return max(shape, over, abs(leverage / limit - 1.0)) if capped else max(shape, abs(volatility / wanted - 1.0))

    names = list(assets[(rest == 0) & (risky != 0)])
    limits: list[Constraint] = [Limit(GrossExposure(names), upper=limit, unit_check=False, name="max_leverage")]
    if cash is not None:
        limits.append(Budget(1.0))
    before = float(np.sqrt(max(_products(scenarios, held, rest)[0], 0.0)))
    return by_rule(
        scenarios,
        f"volatility of {wanted:g}" if not capped else f"leverage of {limit:g}, below a volatility of {wanted:g}",
        weights,
        deviation,
        start=start,
        constraints=limits,
        details={
            "scale": scale,
            "volatility_before": before,
            "cash": 1.0 - scale * net,
            "capped": capped,
        },
    )


def volatility_scaled(
    returns: pd.Series,
    target: float,
    *,
    halflife: float,
    max_leverage: float = 1.0,
    lag: int = 1,
    warm_up: int | None = None,
    cash_rate: float = 0.0,
) -> pd.DataFrame:
    r"""A return series held at the leverage that past volatility suggests (Moreira & Muir, 2017).

    .. math:: \hat\sigma_t^2 = \sum_{s \le t - \ell} p_s r_s^2,\quad p_s \propto 2^{s/h}, \qquad
              k_t = \min(\sigma^* / \hat\sigma_t,\ L), \qquad r'_t = k_t r_t + (1 - k_t) c,

    with weights p that sum to one. What happens from t - l + 1 on does not enter the leverage of t.

    Parameters
    ----------
    returns
        r by period, as fractions, in order of time.
    target
        :math:`\sigma^*`, volatility per period; positive.
    halflife
        h, periods after which a return counts half as much; positive.
    max_leverage
        L, positive; 1 does not borrow.
    lag
        l, periods between the last return that is known and the one that is earned, at least 1: 1 trades at the close
        on which the volatility was found.
    warm_up
        Returns that a forecast needs; the half-life, rounded up, where None. Periods before are left out.
    cash_rate
        c, return of cash per period, earned by what is not invested and paid for what is borrowed.

    Returns
    -------
    DataFrame
        By period: `volatility` :math:`\hat\sigma_t`, `leverage` k and `return` r'.

    Raises
    ------
    InputError
        For returns that are missing or out of order, too few of them, and a lag below 1, which would look ahead.
    """
    who = "volatility_scaled"
    wanted = checked_number(target, f"{who}: target", above=0.0)
    decay = checked_number(halflife, f"{who}: halflife", above=0.0)
    limit = checked_number(max_leverage, f"{who}: max_leverage", above=0.0)
    cash = checked_number(cash_rate, f"{who}: cash_rate")
    delay = checked_count(lag, f"{who}: lag", least=1)
    first = int(np.ceil(decay)) if warm_up is None else checked_count(warm_up, f"{who}: warm_up", least=1)
    values = checked_series(returns, who, rows=first + delay)
    variance = pd.Series(values**2, returns.index).ewm(halflife=decay, min_periods=first).mean()
    past = np.sqrt(variance.shift(delay).to_numpy(dtype=np.float64))
    with np.errstate(divide="ignore", invalid="ignore"):
        leverage = np.where(np.isnan(past), np.nan, np.minimum(wanted / past, limit))
    frame = pd.DataFrame(
        {"volatility": past, "leverage": leverage, "return": leverage * values + (1.0 - leverage) * cash}, returns.index
    )
    return frame.iloc[first - 1 + delay :]


def _scenarios(portfolio: object, covariance: object, who: str) -> ScenarioSet:
    if covariance is not None:
        return scenarios_of_covariance(covariance, who)  # type: ignore[arg-type]
    if not isinstance(portfolio, Result):
        raise InputError(f"{who}: weights alone do not say how risky they are; pass a covariance or scenarios")
    return portfolio.problem.scenarios


def _weights(portfolio: object, assets: pd.Index, who: str) -> FloatArray:
    if isinstance(portfolio, Result):
        if portfolio.weights is None:
            raise InputError(f"{who}: the result has no portfolio: {portfolio.message}")
        portfolio = portfolio.weights
    if not isinstance(portfolio, pd.Series | Mapping):
        raise InputError(f"{who} takes weights by asset or a Result, was given {type(portfolio).__name__}")
    return align(portfolio, assets, what="weights")


def _products(scenarios: ScenarioSet, x: FloatArray, y: FloatArray) -> tuple[float, float, float]:
    """``x'Qx``, ``x'Qy`` and ``y'Qy`` with the covariance Q of the scenarios."""
    if scenarios.form is not None:
        value, product = scenarios.form(x)
        return value, float(y @ product), scenarios.form(y)[0]
    p = scenarios.probabilities
    one, two = (scenarios.source.losses(vector) for vector in (x, y))
    one, two = one - p @ one, two - p @ two
    return float(p @ one**2), float(p @ (one * two)), float(p @ two**2)

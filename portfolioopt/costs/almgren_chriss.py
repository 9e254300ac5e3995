r"""Optimal execution with linear impact (Almgren & Chriss, *Optimal execution of portfolio transactions*, 2000).

A position of X units is sold in N trades :math:`n_k` over T days, :math:`\tau = T/N` apart; :math:`x_k` units are left
after the k-th. With permanent impact :math:`\gamma`, temporary impact :math:`\eta`, half-spread :math:`\varepsilon`,
volatility :math:`\sigma` and drift :math:`\alpha` of the price, the expected cost and its variance are

.. math:: E = \tfrac12 \gamma X^2 + \varepsilon \sum_k |n_k| + \frac{\tilde\eta}{\tau} \sum_k n_k^2
              - \alpha \tau \sum_k x_k, \qquad
          V = \sigma^2 \tau \sum_k x_k^2, \qquad \tilde\eta = \eta - \tfrac12 \gamma \tau .
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.estimate.checks import checked_count
from portfolioopt.labels import FloatArray, PerAsset, checked_number
from portfolioopt.problem import Expression, PowerCost, ProportionalCost

from .model import CostModel, Parts
from .quotes import Quotes, read_market
from .trading import not_negative


@dataclass(frozen=True, eq=False)
class AlmgrenChriss(CostModel):
    r"""Linear impact of a trade that is worked evenly over `horizon`: :math:`\varepsilon|q| + k q^2` for q units.

    .. math:: k = \tfrac12\gamma + \frac{1}{T}\big(\eta - \tfrac12\gamma\tau\big), \qquad \tau = T / N .

    The charge is split into ``spread``, ``permanent_impact`` (:math:`\frac12\gamma q^2 (1 - 1/N)`, what later trades
    pay for earlier ones) and ``temporary_impact`` (:math:`\eta q^2/T`). Its forecast is a `ProportionalCost` and a
    quadratic `PowerCost`. For other schedules see `almgren_chriss_trajectory`.

    Parameters
    ----------
    permanent
        :math:`\gamma`, account currency per unit, for each unit traded; one number, or one per asset.
    temporary
        :math:`\eta`, account currency per unit, for each unit traded per day; one number, or one per asset.
    half_spread
        :math:`\varepsilon`, account currency per unit; one number, or one per asset.
    horizon
        T, days.
    periods
        N, number of equal trades.
    """

    permanent: PerAsset
    temporary: PerAsset
    half_spread: PerAsset = 0.0
    horizon: float = 1.0
    periods: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "horizon", checked_number(self.horizon, "AlmgrenChriss: horizon", above=0.0))
        checked_count(self.periods, "AlmgrenChriss: periods", least=1)

    @classmethod
    def from_spread(
        cls,
        market: pd.DataFrame,
        *,
        temporary_volume: float = 0.01,
        permanent_volume: float = 0.10,
        horizon: float = 1.0,
        periods: int = 1,
    ) -> AlmgrenChriss:
        """Impact by the rule of thumb of the paper: parts of the daily volume that move the price by one spread.

        Parameters
        ----------
        market
            A row per asset with ``price``, ``volume`` (units per day) and ``spread`` (basis points of the price).
        temporary_volume
            Part of the daily volume that, traded in a day, moves the price by a spread while it trades.
        permanent_volume
            Part of the daily volume that moves it by a spread for good.
        horizon, periods
            As in the class.
        """
        quotes = read_market(market, cls.__name__)
        spread = quotes.column("spread", cls.__name__) / 1e4 * quotes.column("price", cls.__name__)
        volume = quotes.column("volume", cls.__name__)
        temporary = spread / (checked_number(temporary_volume, "temporary_volume", above=0.0) * volume)
        permanent = spread / (checked_number(permanent_volume, "permanent_volume", above=0.0) * volume)
        series = [pd.Series(values, quotes.assets) for values in (permanent, temporary, spread / 2)]
        return cls(*series, horizon=horizon, periods=periods)

    def _rates(self, quotes: Quotes) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Half-spread, and what a squared unit costs in permanent and in temporary impact."""
        permanent = not_negative(quotes, self.permanent, "AlmgrenChriss.permanent")
        temporary = not_negative(quotes, self.temporary, "AlmgrenChriss.temporary")
        half_spread = not_negative(quotes, self.half_spread, "AlmgrenChriss.half_spread")
        return half_spread, 0.5 * permanent * (1.0 - 1.0 / self.periods), temporary / self.horizon

    def traded(self, quotes: Quotes, quantity: FloatArray) -> Parts:
        half_spread, permanent, temporary = self._rates(quotes)
        return {
            "spread": half_spread * np.abs(quantity),
            "permanent_impact": permanent * quantity**2,
            "temporary_impact": temporary * quantity**2,
        }

    def planned(self, quotes: Quotes, nav: float, scale: FloatArray) -> list[Expression]:
        half_spread, permanent, temporary = self._rates(quotes)
        price = quotes.column("price", "AlmgrenChriss")
        quadratic = scale * (permanent + temporary) * nav / price**2
        return [
            ProportionalCost(pd.Series(scale * half_spread / price * 1e4, quotes.assets)),
            PowerCost(pd.Series(quadratic, quotes.assets), 2.0),
        ]


@dataclass(frozen=True, eq=False)
class Trajectory:
    r"""How an order is worked, and what it is expected to cost.

    Parameters
    ----------
    schedule
        Frame with ``time`` (days), ``trade`` (units in the period that ends there, sells negative) and ``remaining``
        (units still to trade, sells negative); N + 1 rows.
    expected_cost
        E, account currency.
    variance
        V, account currency squared.
    urgency
        :math:`\kappa` per day, the rate at which the remainder falls; zero for an even schedule, and for a negative
        risk aversion, where it does not fall exponentially.
    """

    schedule: pd.DataFrame
    expected_cost: float
    variance: float
    urgency: float

    @property
    def deviation(self) -> float:
        """Standard deviation of the cost, account currency."""
        return float(np.sqrt(self.variance))

    @property
    def half_life(self) -> float:
        """What the paper calls the half-life of a trade, one over the urgency: days until a part 1/e remains."""
        return 1.0 / self.urgency if self.urgency > 0 else np.inf


def almgren_chriss_trajectory(
    quantity: float,
    horizon: float,
    periods: int,
    *,
    volatility: float,
    permanent: float,
    temporary: float,
    half_spread: float = 0.0,
    risk_aversion: float = 0.0,
    drift: float = 0.0,
) -> Trajectory:
    r"""The schedule that minimises :math:`E + \lambda V`, the expected cost and risk aversion times its variance.

    .. math:: x_k = \frac{\sinh \kappa(T - t_k)}{\sinh \kappa T}\,X
              + \Big(1 - \frac{\sinh\kappa(T - t_k) + \sinh\kappa t_k}{\sinh\kappa T}\Big) \bar x, \qquad
              \sinh^2 \tfrac{\kappa\tau}{2} = \frac{\lambda\sigma^2\tau^2}{4\tilde\eta}, \qquad
              \bar x = \frac{\alpha}{2\lambda\sigma^2} .

    :math:`\bar x` is the position worth keeping for its drift. The half-spread is taken to be paid on what is traded
    whatever the schedule, which is so while all trades go one way.

    In the example of the paper (a million shares, table 1) :math:`\bar x` is 11,080 shares for a risk aversion of
    1e-6, 1.1 % of the order; its text says 1,100 shares and 0.11 %.

    Parameters
    ----------
    quantity
        Units to trade, sells negative (minus X).
    horizon
        T, days.
    periods
        N, number of trades.
    volatility
        :math:`\sigma`, standard deviation of the price in account currency per unit and root of a day.
    permanent
        :math:`\gamma`, account currency per unit, for each unit traded.
    temporary
        :math:`\eta`, account currency per unit, for each unit traded per day.
    half_spread
        :math:`\varepsilon`, account currency per unit.
    risk_aversion
        :math:`\lambda`, per account currency. A little below zero the schedule waits; far below there is no best one.
    drift
        :math:`\alpha`, account currency per unit and day; needs a positive risk aversion.

    Raises
    ------
    InputError
        Where temporary impact is too small for the permanent one (:math:`\tilde\eta \le 0`), or where no schedule is
        best.
    """
    who = "almgren_chriss_trajectory"
    start = -checked_number(quantity, f"{who}: quantity")
    span = checked_number(horizon, f"{who}: horizon", above=0.0)
    count = checked_count(periods, f"{who}: periods", least=1)
    sigma = checked_number(volatility, f"{who}: volatility", least=0.0)
    gamma = checked_number(permanent, f"{who}: permanent", least=0.0)
    eta = checked_number(temporary, f"{who}: temporary", above=0.0)
    epsilon = checked_number(half_spread, f"{who}: half_spread", least=0.0)
    aversion = checked_number(risk_aversion, f"{who}: risk_aversion")
    alpha = checked_number(drift, f"{who}: drift")
    step = span / count
    curvature = eta - 0.5 * gamma * step
    if curvature <= 0.0:
        raise InputError(
            f"{who}: temporary={eta:g} must exceed half of permanent times the {step:g} days between trades, "
            f"{0.5 * gamma * step:g}, or trading faster would cost less; take more periods"
        )
    if alpha != 0.0 and not (aversion > 0.0 and sigma > 0.0):
        raise InputError(
            f"{who}: with a drift the position is held in check by risk only; give a positive risk_aversion"
        )

    times = np.linspace(0.0, span, count + 1)
    falling, rate = _falling(times, aversion * sigma**2 * step**2 / curvature, step)
    left = start * falling
    if alpha != 0.0:
        left = left + (1.0 - falling - falling[::-1]) * alpha / (2.0 * aversion * sigma**2)
    left[0], left[-1] = start, 0.0
    sold = -np.diff(left)
    cost = (
        0.5 * gamma * start**2
        + epsilon * np.abs(sold).sum()
        + curvature / step * (sold @ sold)
        - alpha * step * left[1:].sum()
    )
    schedule = pd.DataFrame({"time": times, "trade": np.append(0.0, -sold), "remaining": -left + 0.0})
    return Trajectory(schedule, float(cost), float(sigma**2 * step * (left[1:] @ left[1:])), rate)


def _falling(times: FloatArray, force: float, step: float) -> tuple[FloatArray, float]:
    """sinh(k(T - t)) / sinh(kT) at all times, without overflow, and k; `force` is 4 sinh(k tau / 2)^2."""
    span = times[-1]
    if force > 0.0:
        rate = 2.0 * np.arcsinh(0.5 * np.sqrt(force)) / step
        back = span - times
        return np.exp(-rate * times) * np.expm1(-2.0 * rate * back) / np.expm1(-2.0 * rate * span), float(rate)
    if force < 0.0:
        half = 0.5 * np.sqrt(-force)
        wave = 2.0 * np.arcsin(half) / step if half < 1.0 else np.inf
        if wave * span >= np.pi:
            raise InputError(
                "almgren_chriss_trajectory: with so negative a risk_aversion there is no best schedule, ever larger "
                "positions are ever better; take one nearer to zero, or a shorter horizon"
            )
        return np.sin(wave * (span - times)) / np.sin(wave * span), 0.0
    return 1.0 - times / span, 0.0

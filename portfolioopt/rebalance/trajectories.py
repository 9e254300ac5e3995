r"""How orders in several assets are worked together, and how one is worked under caps.

Almgren & Chriss (*Optimal execution of portfolio transactions*, 2000, section 4) for impact of each asset on itself:
the units :math:`x_k` still to trade after the k-th of N periods of :math:`\tau` days minimise

.. math:: \sum_{k=1}^{N} \frac1\tau\, n_k'\tilde H n_k + \lambda\tau \sum_{k=1}^{N} x_k' C x_k,
          \qquad n_k = x_{k-1} - x_k,\quad x_0 = X,\quad x_N = 0,

with :math:`\tilde H = \mathrm{diag}(\eta_i - \tfrac12\gamma_i\tau)` and the covariance C of the prices. The
conditions are block tridiagonal, :math:`\tilde H(x_{k-1} - 2x_k + x_{k+1}) = \lambda\tau^2 C x_k`. In the
eigenvectors of :math:`\tilde H^{-1/2} C \tilde H^{-1/2} = U D U'` they fall apart into single assets, so that

.. math:: x_k = \tilde H^{-1/2}\, U\, \mathrm{diag}\Big(\frac{\sinh\kappa_j(T - t_k)}{\sinh\kappa_j T}\Big) U'\,
                \tilde H^{1/2} X, \qquad \sinh^2\tfrac{\kappa_j\tau}{2} = \tfrac14 \lambda\tau^2 d_j .
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd
from scipy.linalg import eigh

from portfolioopt.costs import AlmgrenChriss
from portfolioopt.errors import InputError
from portfolioopt.estimate import FactorCovariance
from portfolioopt.estimate.quadratic import QuadraticForm
from portfolioopt.labels import FloatArray, align, checked_number, per_asset, some

_SAME: Final = 1e-9  # of what is left: trades that differ by less are the same


def portfolio_trajectory(
    units: pd.Series | Mapping[str, float],
    covariance: pd.DataFrame | FactorCovariance,
    model: AlmgrenChriss,
    *,
    risk_aversion: float = 0.0,
) -> pd.DataFrame:
    r"""Units still to trade, when correlated orders are worked together (see the module's text).

    What hedges another order waits for it: with correlated prices a buy and a sell are risky apart and harmless
    together. An order of nothing may even be traded out and back in between, as a hedge. A single asset is
    :func:`almgren_chriss_trajectory`.

    Parameters
    ----------
    units
        Units to trade by asset, sells negative (N,).
    covariance
        C, of price changes in account currency per unit and day: that of the daily returns times both prices.
    model
        Impact of each asset, days of the horizon and number of periods.
    risk_aversion
        :math:`\lambda`, per account currency, zero or more.

    Returns
    -------
    DataFrame (periods + 1) x N
        Units still to trade, sells negative, by time in days; orders at time zero, and nothing at the end.

    Raises
    ------
    InputError
        Where temporary impact is too small for the permanent one.
    """
    who = "portfolio_trajectory"
    given = units if isinstance(units, pd.Series) else pd.Series(dict(units), dtype=np.float64)
    start = align(given, given.index, what="units")
    aversion = checked_number(risk_aversion, f"{who}: risk_aversion", least=0.0)
    form = QuadraticForm(covariance, given.index, who)
    left = together(start, form.dense(), curvature(model, given.index, who), aversion, model.horizon, model.periods)
    times = pd.Index(np.linspace(0.0, model.horizon, model.periods + 1), name="time")
    return pd.DataFrame(left, index=times, columns=given.index.rename(given.index.name or "asset"))


def curvature(model: AlmgrenChriss, assets: pd.Index, who: str) -> FloatArray:
    r""":math:`\eta - \frac12\gamma\tau` of every asset (N,), positive."""
    step = model.horizon / model.periods
    temporary = per_asset(model.temporary, assets, what=f"{who}: model.temporary")
    left = temporary - 0.5 * step * per_asset(model.permanent, assets, what=f"{who}: model.permanent")
    if (left <= 0.0).any():
        raise InputError(
            f"{who}: temporary impact must exceed half of the permanent one times the {step:g} days between trades, or "
            f"trading faster would cost less, which is so for {some(assets[left <= 0.0])}; take more periods"
        )
    return left


def together(
    start: FloatArray, covariance: FloatArray, curve: FloatArray, aversion: float, horizon: float, periods: int
) -> FloatArray:
    """Units still to trade (periods + 1, N) of orders (N,) that are worked together; the curve is that of costs."""
    root = np.sqrt(curve)
    values, vectors = eigh(covariance / np.outer(root, root))
    falling = _falling(aversion * np.maximum(values, 0.0), horizon, periods)
    left = (falling * (vectors.T @ (root * start))) @ vectors.T / root
    left[0], left[-1] = start, 0.0
    return left


def apart(
    start: FloatArray, variance: FloatArray, curve: FloatArray, aversion: float, horizon: float, caps: FloatArray
) -> FloatArray:
    r"""Units still to trade (periods + 1, N) of orders (N,) worked each by itself, within `caps` (periods, N).

    Without caps that bind it is the closed form. With them, the multiplier p of the k-th trade follows from that of the
    first, :math:`p_{k+1} = p_k - 2\lambda\sigma^2\tau x_k`, and the trade from it,
    :math:`n_k = \min(\max(p_k \tau / 2\tilde\eta, 0), \text{cap}_k)`; all trades grow with :math:`p_1`, which is found
    by bisection.
    """
    periods = len(caps)
    size = np.abs(start)
    left = _falling(aversion * variance / curve, horizon, periods) * size
    left[-1] = 0.0
    step = horizon / periods
    for i in np.flatnonzero(((left[:-1] - left[1:]) > caps).any(axis=0)):
        most = np.minimum(caps[:, i], size[i])
        left[:, i] = _capped(size[i], curve[i] / step, aversion * step * variance[i], most)
    return np.sign(start) * left


def _capped(size: float, trading: float, waiting: float, caps: FloatArray) -> FloatArray:
    """The least sum of ``trading n_k^2 + waiting x_k^2`` for an order that its caps (periods,) leave room for.

    Where urgency is great, an error of the last digit in the first multiplier decides over late trades. So the search
    begins anew, from what is left then, wherever neighbouring multipliers come apart.
    """
    rows = [size]
    limits = [float(cap) for cap in caps]

    def left(first: float) -> list[float]:
        path, price = [rows[-1]], first
        for cap in limits[len(rows) - 1 :]:
            path.append(path[-1] - min(max(price / (2.0 * trading), 0.0), cap))
            price -= 2.0 * waiting * path[-1]
        return path

    while len(rows) <= len(limits):
        low, high = 0.0, 2.0 * (trading + waiting * len(limits)) * rows[-1]
        while low < (middle := 0.5 * (low + high)) < high:
            low, high = (low, middle) if left(middle)[-1] < 0.0 else (middle, high)
        # between neighbouring numbers trades are a straight line in the multiplier, and one point of it ends at zero
        below, above = left(low), left(high)
        gap = below[-1] - above[-1]
        share = min(max(below[-1] / gap, 0.0), 1.0) if gap > 0.0 else 0.0
        known = 1
        while known < len(below) and abs(below[known] - above[known]) <= _SAME * below[known - 1]:
            known += 1
        path = [x + share * (y - x) for x, y in zip(below, above, strict=True)]
        rows += path[1 : max(known, 2)]
    return np.array([*rows[:-1], 0.0])


def _falling(force: FloatArray, horizon: float, periods: int) -> FloatArray:
    """``sinh k(T - t) / sinh kT`` (periods + 1, n), of a pull `force` = (4 / step^2) sinh(k step / 2)^2 (n,)."""
    step = horizon / periods
    times = np.linspace(0.0, horizon, periods + 1)[:, None]
    rate = 2.0 * np.arcsinh(0.5 * step * np.sqrt(force)) / step
    moving = rate * horizon > 1e-9
    k = np.where(moving, rate, 1.0 / horizon)
    curved = np.exp(-k * times) * np.expm1(-2.0 * k * (horizon - times)) / np.expm1(-2.0 * k * horizon)
    return np.where(moving, curved, 1.0 - times / horizon)

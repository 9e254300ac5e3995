r"""GARCH models of single assets by maximum likelihood: volatility that clusters.

.. math:: r_t = \mu + \sigma_t z_t, \qquad
          \sigma^2_t = \omega + (\alpha + \gamma 1_{e_{t-1} < 0})\, e_{t-1}^2 + \beta \sigma^2_{t-1},
          \qquad e_t = r_t - \mu,

with normal :math:`z_t` in the likelihood, which estimates consistently whatever their law (quasi-maximum likelihood).
Bollerslev (1986), "Generalized autoregressive conditional heteroskedasticity", Journal of Econometrics 31;
:math:`\gamma` by Glosten, Jagannathan & Runkle (1993), Journal of Finance 48.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.estimate.checks import checked_returns, checked_variation
from portfolioopt.labels import FloatArray, checked_number, some

Mean: TypeAlias = Literal["zero", "constant"]

_ROWS = 100  # fewest rows of history to fit to
_START = 75  # rows whose squares, weighed by 0.94^t, stand in for what came before the first
_PATTERNS = [(a, p) for p in (0.5, 0.7, 0.9, 0.98) for a in (0.01, 0.05, 0.1, 0.2)]  # alpha + gamma / 2, persistence


@dataclass(frozen=True)
class Garch:
    """Fitted models, one for each asset; :func:`fit_garch` makes it."""

    mean: pd.Series
    r""":math:`\mu`, per period."""
    omega: pd.Series
    r""":math:`\omega`, per period squared."""
    alpha: pd.Series
    r""":math:`\alpha`."""
    gamma: pd.Series
    r""":math:`\gamma`; zero for a symmetric model."""
    beta: pd.Series
    r""":math:`\beta`."""
    start: pd.Series
    """Variance that stands in for what came before the first row."""
    log_likelihood: pd.Series
    """At the optimum."""
    volatility: pd.DataFrame
    r""":math:`\sigma_t` (T x N), from the rows before t and, at the beginning, `start`."""
    residuals: pd.DataFrame
    r""":math:`z_t = e_t / \sigma_t` (T x N)."""
    next_volatility: pd.Series
    r""":math:`\sigma_{T+1}`, of the period after the last row."""

    @property
    def persistence(self) -> pd.Series:
        r""":math:`\alpha + \gamma / 2 + \beta`: what is left of a shock to the variance after a period."""
        return (self.alpha + 0.5 * self.gamma + self.beta).rename("persistence")

    @property
    def long_run_volatility(self) -> pd.Series:
        r""":math:`\sqrt{\omega / (1 - \alpha - \gamma/2 - \beta)}`, per period."""
        return np.sqrt(self.omega / (1.0 - self.persistence)).rename("long_run_volatility")

    def variances(self, returns: pd.DataFrame) -> pd.DataFrame:
        r""":math:`\sigma^2_t` of other returns of the same assets (T x N), with a row for the period after the last.

        Row t comes from the rows before it and the fitted parameters alone, so later rows change nothing.
        """
        values = checked_returns(returns, "Garch.variances", rows=1)
        if not returns.columns.equals(self.mean.index):
            raise InputError("Garch.variances: returns must have the assets of the fit, in the same order")
        rows = zip(*(part.tolist() for part in (*self._parameters, self.start)), strict=True)
        found = [
            _variances(column, mean, omega, alpha, gamma, beta, start)
            for column, (mean, omega, alpha, gamma, beta, start) in zip(values.T, rows, strict=True)
        ]
        return pd.DataFrame(np.column_stack(found), columns=returns.columns)

    @property
    def _parameters(self) -> tuple[pd.Series, pd.Series, pd.Series, pd.Series, pd.Series]:
        return self.mean, self.omega, self.alpha, self.gamma, self.beta


def fit_garch(
    returns: pd.DataFrame,
    *,
    mean: Mean = "constant",
    asymmetric: bool = False,
    most_persistence: float | None = None,
) -> Garch:
    r"""Fit a GARCH(1,1) model to each asset by maximum likelihood.

    Under :math:`\omega > 0`, :math:`\alpha, \beta \ge 0`, :math:`\alpha + \gamma \ge 0`, by sequential quadratic
    programming with exact gradients, all recursions being linear filters.

    Parameters
    ----------
    returns
        Returns per period as fractions (T x N), simple or log, at least 100 rows.
    mean
        ``"constant"`` estimates :math:`\mu` along with the rest; ``"zero"`` leaves it out.
    asymmetric
        Whether to estimate :math:`\gamma`, by which losses raise volatility more than gains do; zero otherwise.
    most_persistence
        Where given, below one: fits that would be more persistent are held there. Where None, fits that are not
        stationary (:math:`\alpha + \gamma/2 + \beta \ge 1`) are refused.

    Raises
    ------
    InputError
        For returns that are missing, too few or constant, and for fits that are not stationary, naming the assets.
    """
    values = checked_returns(returns, "GARCH", rows=_ROWS)
    assets = returns.columns
    checked_variation(values, assets, "GARCH")
    if mean not in ("zero", "constant"):
        raise InputError(f"mean must be 'zero' or 'constant', was {mean!r}")
    limit = 1.0
    if most_persistence is not None:
        limit = checked_number(most_persistence, "most_persistence", above=0.0, below=1.0)
    found = np.array([_fit(column, mean == "constant", asymmetric, limit) for column in values.T])
    names = ("mean", "omega", "alpha", "gamma", "beta", "start", "log_likelihood")
    fitted = {name: pd.Series(found[:, i], assets, name=name) for i, name in enumerate(names)}
    persistence = fitted["alpha"] + 0.5 * fitted["gamma"] + fitted["beta"]
    explosive = (persistence >= 1.0 - 1e-6).to_numpy()
    if explosive.any():
        raise InputError(
            f"the GARCH fit is not stationary for {some(assets[explosive])}: shocks to the variance never fade. Pass "
            "most_persistence=0.999 to hold it below one, a longer history, or leave these assets out"
        )
    variances = np.column_stack([_variances(column, *row[:6]) for column, row in zip(values.T, found, strict=True)])
    volatility = np.sqrt(variances[:-1])
    return Garch(
        **fitted,
        volatility=pd.DataFrame(volatility, returns.index, assets),
        residuals=pd.DataFrame((values - found[:, 0]) / volatility, returns.index, assets),
        next_volatility=pd.Series(np.sqrt(variances[-1]), assets, name="next_volatility"),
    )


def _variances(
    returns: FloatArray, mean: float, omega: float, alpha: float, gamma: float, beta: float, start: float
) -> FloatArray:
    """Variances of each row and of the one after the last (T + 1,)."""
    errors = returns - mean
    squares, losses = _shocks(errors, start)
    return _filtered(omega + alpha * squares + gamma * losses, beta, beta * start)


def _shocks(errors: FloatArray, start: float) -> tuple[FloatArray, FloatArray]:
    """Squares of the errors before each row and the one after the last (T + 1,): all, and of losses only."""
    squares = np.concatenate([[start], errors**2])
    losses = np.concatenate([[0.5 * start], errors**2 * (errors < 0.0)])
    return squares, losses


def _filtered(inputs: FloatArray, beta: float, before: float = 0.0) -> FloatArray:
    """``y_t = x_t + beta y_{t-1}``, with `before` added to the first."""
    from scipy.signal import lfilter  # costly to import

    return np.asarray(lfilter([1.0], [1.0, -beta], inputs, zi=[before])[0])


def _fit(returns: FloatArray, constant: bool, asymmetric: bool, limit: float) -> tuple[float, ...]:
    """Mean, omega, alpha, gamma, beta, start and log-likelihood of one asset."""
    from scipy.optimize import minimize  # costly to import

    centre = float(returns.mean()) if constant else 0.0
    scale = float(np.sqrt(np.mean((returns - centre) ** 2)))
    x, count = (returns - centre) / scale, len(returns)
    weights = 0.94 ** np.arange(min(_START, count))
    start = float(weights @ x[: len(weights)] ** 2 / weights.sum())

    def cost(at: FloatArray) -> tuple[float, FloatArray]:
        """Mean negative log-likelihood and its gradient, at (mean, omega, alpha, gamma, beta)."""
        mean, omega, alpha, gamma, beta = at
        errors = x - mean
        squares, losses = (part[:-1] for part in _shocks(errors, start))
        variance = _filtered(omega + alpha * squares + gamma * losses, beta, beta * start)
        if not variance.min() > 0.0:
            return 1e10, np.zeros(5)
        drift = np.zeros(count)
        drift[1:] = -2.0 * (alpha + gamma * (errors[:-1] < 0.0)) * errors[:-1]
        slopes = [
            _filtered(part, beta)
            for part in (drift, np.ones(count), squares, losses, np.concatenate([[start], variance[:-1]]))
        ]
        pull = 0.5 * (1.0 - errors**2 / variance) / variance
        gradient = np.array([pull @ slope for slope in slopes])
        gradient[0] -= np.sum(errors / variance)
        value = 0.5 * float(np.sum(np.log(2.0 * np.pi * variance) + errors**2 / variance))
        return value / count, gradient / count

    begin = min(
        (
            np.array([0.0, 1.0 - p, a, 0.0, p - a])
            for a, p in ((a, min(p, 0.99 * limit)) for a, p in _PATTERNS)
            if a < p
        ),
        key=lambda at: cost(at)[0],
    )
    size = float(np.abs(x).max())
    found = minimize(
        cost,
        begin,
        jac=True,
        method="SLSQP",
        bounds=[
            (-size, size) if constant else (0.0, 0.0),
            (1e-8, 10.0),
            (0.0, 1.0),
            (-1.0, 2.0) if asymmetric else (0.0, 0.0),
            (0.0, 1.0),
        ],
        constraints=[
            {"type": "ineq", "fun": lambda at: np.array([limit - at[2] - 0.5 * at[3] - at[4], at[2] + at[3]]),
             "jac": lambda at: np.array([[0.0, 0.0, -1.0, -0.5, -1.0], [0.0, 0.0, 1.0, 1.0, 0.0]])},
        ],
        options={"ftol": 1e-14, "maxiter": 500},
    )  # fmt: skip
    best = found.x if found.fun <= cost(begin)[0] else begin
    mean, omega, alpha, gamma, beta = (float(part) for part in best)
    likelihood = -count * (float(cost(best)[0]) + np.log(scale))
    return centre + scale * mean, omega * scale**2, alpha, gamma, beta, start * scale**2, likelihood

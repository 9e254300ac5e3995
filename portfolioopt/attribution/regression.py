r"""Regression of returns on factors, with standard errors that hold under heteroscedasticity and autocorrelation.

.. math:: r_t - r^f_t = \alpha + \beta' f_t + e_t, \qquad
          \widehat{\mathrm{cov}} = (X'X)^{-1} \, M \, (X'X)^{-1},

with X of T rows :math:`x_t = (1, f_t)`, k = K + 1 columns, and M by what is believed about the errors: classical
:math:`s^2 X'X`, :math:`s^2 = e'e / (T - k)`; White (1980) :math:`\sum_t \omega_t e_t^2 x_t x_t'`, with
:math:`\omega_t` of 1 (HC0), :math:`T / (T - k)` (HC1), :math:`1 / (1 - h_t)` (HC2) and :math:`1 / (1 - h_t)^2` (HC3)
for the leverage :math:`h_t` (MacKinnon & White, 1985); Newey & West (1987) with Bartlett weights,

.. math:: M = \Gamma_0 + \sum_{l=1}^{m} \Big(1 - \frac{l}{m + 1}\Big) (\Gamma_l + \Gamma_l'), \qquad
          \Gamma_l = \sum_t e_t e_{t-l}\, x_t x_{t-l}'.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
import pandas as pd
from scipy.special import stdtr

from portfolioopt.confidence import NeweyWest
from portfolioopt.errors import InputError
from portfolioopt.estimate.checks import checked_count, checked_factors, checked_returns, checked_series, written
from portfolioopt.labels import FloatArray, checked_number, some

Robust: TypeAlias = Literal["classical", "HC0", "HC1", "HC2", "HC3"]

ALPHA = "alpha"
_CELLS = 1 << 22  # numbers of the windows held at a time: 32 MiB


@dataclass(frozen=True, eq=False)
class FactorRegression:
    r"""Regressions of one or more series on the same factors; see `factor_regression`.

    Parameters
    ----------
    coefficients, standard_errors, t_statistics, p_values
        Series x (alpha, factors), per period; two-sided p-values of Student's t with T - K - 1 degrees of freedom.
    alpha_annual
        :math:`\alpha` times periods per year, by series: the sum of a year, not compounded.
    r_squared, adjusted_r_squared, residual_volatility
        By series; the last is :math:`\sqrt{e'e / (T - K - 1)}`, per period.
    residuals
        e, periods x series.
    contributions
        Mean return per period by series: ``alpha``, each factor's :math:`\beta_k \bar f_k`; they sum to the mean return
        over the risk-free rate.
    observations
        T.
    """

    coefficients: pd.DataFrame
    standard_errors: pd.DataFrame
    t_statistics: pd.DataFrame
    p_values: pd.DataFrame
    alpha_annual: pd.Series
    r_squared: pd.Series
    adjusted_r_squared: pd.Series
    residual_volatility: pd.Series
    residuals: pd.DataFrame
    contributions: pd.DataFrame
    observations: int


@dataclass(frozen=True, eq=False)
class RollingFactorRegression:
    """Regressions over windows, by the date on which each ends; see `rolling_factor_regression`.

    Parameters
    ----------
    coefficients, standard_errors, t_statistics
        Frames with an index of (date, series) and a column for alpha and each factor, per period.
    r_squared
        Dates x series.
    """

    coefficients: pd.DataFrame
    standard_errors: pd.DataFrame
    t_statistics: pd.DataFrame
    r_squared: pd.DataFrame


def factor_regression(
    returns: pd.DataFrame | pd.Series,
    factors: pd.DataFrame,
    *,
    risk_free: pd.Series | None = None,
    errors: Robust | NeweyWest = NeweyWest(),  # noqa: B008  frozen
    periods_per_year: float = 12.0,
) -> FactorRegression:
    """Least squares of returns on factors, over the dates of the returns.

    Parameters
    ----------
    returns
        Simple returns per period: one series, or periods x series.
    factors
        T x K, with a row for every date of the returns; further rows are not looked at.
    risk_free
        Rate per period, with a value for every date of the returns, that is taken off them first. None where they are
        excess returns, or of a portfolio that costs nothing.
    errors
        ``NeweyWest(lag)``, with the lag it says of itself where None; ``"HC0"`` to ``"HC3"``, or ``"classical"``.
        Without a correction for small samples but those in the names.
    periods_per_year
        With which alpha is multiplied, 12 for months.

    Returns
    -------
    FactorRegression
        One row for each series.

    Raises
    ------
    InputError
        For what is missing or infinite, dates without factors, fewer than K + 2 rows, factors that are combinations of
        each other or never change, and a factor called "alpha".
    """
    who = "factor_regression"
    y, x, frame = _design(returns, factors, risk_free, who)
    year = checked_number(periods_per_year, f"{who}: periods_per_year", above=0.0)
    rows, count = x.shape
    fit = _fit(x[None], y[None], _checked_errors(errors, rows, who), [frame.index[-1]], factors.columns)
    names, series = pd.Index([ALPHA, *factors.columns]), frame.columns
    coefficients = pd.DataFrame(fit.coefficients[0].T, series, names)
    standard = pd.DataFrame(fit.standard_errors[0].T, series, names)
    t = _ratio(coefficients, standard)
    freedom = rows - count
    centre = x.mean(axis=0)
    return FactorRegression(
        coefficients,
        standard,
        t,
        2.0 * pd.DataFrame(stdtr(freedom, -t.abs().to_numpy()), series, names),
        (coefficients[ALPHA] * year).rename("alpha_annual"),
        pd.Series(fit.r_squared[0], series, name="r_squared"),
        pd.Series(1.0 - (1.0 - fit.r_squared[0]) * (rows - 1) / freedom, series, name="adjusted_r_squared"),
        pd.Series(np.sqrt((fit.residuals[0] ** 2).sum(axis=0) / freedom), series, name="residual_volatility"),
        pd.DataFrame(fit.residuals[0], frame.index, series),
        coefficients * centre,
        rows,
    )


def rolling_factor_regression(
    returns: pd.DataFrame | pd.Series,
    factors: pd.DataFrame,
    window: int,
    *,
    every: int = 1,
    risk_free: pd.Series | None = None,
    errors: Robust | NeweyWest = NeweyWest(),  # noqa: B008  frozen
) -> RollingFactorRegression:
    """Regressions over the trailing `window` rows, on every `every`-th date from the first full window.

    Parameters
    ----------
    returns, factors, risk_free, errors
        As for `factor_regression`.
    window
        Rows of each, at least K + 2.
    every
        Rows from one to the next.

    Raises
    ------
    InputError
        As `factor_regression`, of every window.
    """
    who = "rolling_factor_regression"
    y, x, frame = _design(returns, factors, risk_free, who)
    count = x.shape[1]
    rows = checked_count(window, f"{who}: window", least=count + 1)
    step = checked_count(every, f"{who}: every", least=1)
    if rows > len(x):
        raise InputError(f"{who}: the window of {rows} rows is longer than the {len(x)} rows of returns")
    robust = _checked_errors(errors, rows, who)
    view = np.lib.stride_tricks.sliding_window_view
    xs = view(x, rows, axis=0)[::step].transpose(0, 2, 1)
    ys = view(y, rows, axis=0)[::step].transpose(0, 2, 1)
    dates, n = frame.index[rows - 1 :: step], y.shape[1]
    beta, standard, r_squared = np.empty((len(xs), count, n)), np.empty((len(xs), count, n)), np.empty((len(xs), n))
    run = max(1, _CELLS // (rows * n * count))
    for first in range(0, len(xs), run):
        part = slice(first, first + run)
        fit = _fit(xs[part], ys[part], robust, list(dates[part]), factors.columns)
        beta[part], standard[part], r_squared[part] = fit.coefficients, fit.standard_errors, fit.r_squared
    names = pd.Index([ALPHA, *factors.columns])
    index = pd.MultiIndex.from_product([dates, frame.columns], names=[frame.index.name or "date", frame.columns.name])
    coefficients = pd.DataFrame(beta.transpose(0, 2, 1).reshape(-1, count), index, names)
    errors_frame = pd.DataFrame(standard.transpose(0, 2, 1).reshape(-1, count), index, names)
    return RollingFactorRegression(
        coefficients,
        errors_frame,
        _ratio(coefficients, errors_frame),
        pd.DataFrame(r_squared, dates, frame.columns),
    )


@dataclass(frozen=True, eq=False)
class _Fit:
    """D regressions: coefficients and errors (D, k, N), residuals (D, T, N), R squared (D, N)."""

    coefficients: FloatArray
    standard_errors: FloatArray
    residuals: FloatArray
    r_squared: FloatArray


def _fit(x: FloatArray, y: FloatArray, errors: Robust | int, dates: list[object], factors: pd.Index) -> _Fit:
    """Least squares of y (D, T, N) on x (D, T, k); a whole number of `errors` is a lag of Newey and West."""
    rows, count = x.shape[1:]
    scale = np.sqrt((x**2).mean(axis=1))  # so that the pivots say what is dependent, whatever the units
    q, r = np.linalg.qr(x / np.where(scale > 0.0, scale, 1.0)[:, None])
    pivots = np.abs(np.diagonal(r, axis1=1, axis2=2))
    weak = (pivots <= 1e-10 * np.sqrt(rows)) | (scale == 0.0)
    if weak.any():
        at, column = np.argwhere(weak)[0]
        raise InputError(
            f"factor regression: in the {rows} rows to {written(dates[at])} the factor {factors[column - 1]!r} is a "
            "constant or a combination of those before it; leave it out, or pass a longer history"
        )
    inverse = np.linalg.inv(r) / scale[:, :, None]  # coefficients per unit of q'y
    projected = np.einsum("dtk,dtn->dkn", q, y)
    residuals = y - np.einsum("dtk,dkn->dtn", q, projected)
    squares = (residuals**2).sum(axis=1)
    if errors == "classical":
        meat = np.eye(count) * (squares / (rows - count))[:, :, None, None]
    elif isinstance(errors, str):
        leverage = np.einsum("dtk,dtk->dt", q, q)
        with np.errstate(divide="ignore"):
            omega = {
                "HC0": np.ones_like(leverage),
                "HC1": np.full_like(leverage, rows / (rows - count)),
                "HC2": 1.0 / (1.0 - leverage),
                "HC3": 1.0 / (1.0 - leverage) ** 2,
            }[errors]
        meat = np.einsum("dt,dtn,dtk,dtl->dnkl", omega, residuals**2, q, q, optimize=True)
    else:
        scores = np.einsum("dtn,dtk->dntk", residuals, q)
        meat = np.einsum("dntk,dntl->dnkl", scores, scores)
        for lag in range(1, errors + 1):
            cross = np.einsum("dntk,dntl->dnkl", scores[:, :, lag:], scores[:, :, :-lag])
            meat = meat + (1.0 - lag / (errors + 1.0)) * (cross + cross.transpose(0, 1, 3, 2))
    variance = np.einsum("dik,dnkl,dil->din", inverse, meat, inverse, optimize=True)
    spread = ((y - y.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    r_squared = 1.0 - np.divide(squares, spread, out=np.ones_like(squares), where=spread > 0.0)
    coefficients = np.einsum("dik,dkn->din", inverse, projected)
    return _Fit(coefficients, np.sqrt(np.maximum(variance, 0.0)), residuals, r_squared)


def _design(
    returns: pd.DataFrame | pd.Series, factors: pd.DataFrame, risk_free: pd.Series | None, who: str
) -> tuple[FloatArray, FloatArray, pd.DataFrame]:
    """Excess returns (T, N), a column of ones and the factors (T, K + 1), and the frame of the returns."""
    frame = (
        returns.to_frame("return" if returns.name is None else returns.name)
        if isinstance(returns, pd.Series)
        else returns
    )
    x = checked_factors(frame, factors, who)
    if ALPHA in factors.columns:
        raise InputError(f"{who}: a factor is called {ALPHA!r}, as is the intercept; rename it")
    y = checked_returns(frame, who, rows=x.shape[1] + 2)
    if risk_free is not None:
        if not isinstance(risk_free, pd.Series):
            raise InputError(f"{who}: risk_free must be a Series by period, was {type(risk_free).__name__}")
        absent = frame.index.difference(risk_free.index, sort=False)
        if len(absent):
            raise InputError(f"{who}: risk_free has no value for {some(absent)}")
        y = y - checked_series(risk_free.loc[frame.index], who, rows=len(y), what="risk_free")[:, None]
    return y, np.column_stack([np.ones(len(x)), x]), frame


def _checked_errors(errors: object, rows: int, who: str) -> Robust | int:
    if isinstance(errors, NeweyWest):
        return errors.lags(rows)
    if errors not in get_args(Robust):
        raise InputError(f"{who}: errors must be NeweyWest(lag), 'classical', or 'HC0' to 'HC3', was {errors!r}")
    return errors  # type: ignore[return-value]


def _ratio(coefficients: pd.DataFrame, standard: pd.DataFrame) -> pd.DataFrame:
    """T statistics; NaN where a fit without residuals leaves no error."""
    return coefficients / standard.where(standard > 0.0)

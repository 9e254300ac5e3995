r"""How good estimates of risk turned out: forecasts made before beside returns that came after."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.labels import FloatArray, align, numbers, some

from .checks import check_estimator, checked_count, checked_returns, written
from .covariances import CovarianceEstimator
from .factored import FactorCovariance, square

LARGE = 1000
"""Assets from which the eigenvalues of a factored covariance are found without its matrix."""


@dataclass(frozen=True, eq=False)
class BiasStatistic:
    r"""Bias statistics by portfolio; see `bias_statistic`.

    Parameters
    ----------
    statistic
        b by portfolio: above 1 where risk was underestimated.
    lower, upper
        :math:`1 \mp \sqrt{2/T}`, within which b of a right forecast is found 19 times out of 20.
    rolling
        b of the trailing rows, by date and portfolio.
    deviation
        MRAD by portfolio: mean over dates of :math:`|b - 1|` of the rolling statistic.
    """

    statistic: pd.Series
    lower: float
    upper: float
    rolling: pd.DataFrame
    deviation: pd.Series

    @property
    def within(self) -> pd.Series:
        """Whether b is between lower and upper, by portfolio."""
        return self.statistic.between(self.lower, self.upper)


def bias_statistic(
    forecast_volatility: pd.DataFrame | pd.Series, realised_returns: pd.DataFrame | pd.Series, *, window: int = 12
) -> BiasStatistic:
    r"""Standard deviation of returns over their forecast volatility, :math:`b = \mathrm{std}(r_t/\sigma_t)`.

    1 where forecasts are right, and then, for normal returns, of standard error about :math:`1/\sqrt{2T}`. Connor,
    Goldberg & Korajczyk (2010), "Portfolio Risk Analysis", chapter 13; the rolling one and its mean absolute deviation
    from 1 are those of Menchero, Orr & Wang (2011), the Barra USE4 notes.

    Parameters
    ----------
    forecast_volatility
        T x P, or one series: on each date the standard deviation forecast *before* for the return of that date, such as
        ``volatility.shift(1)`` of those known at the end of a date. Per row, positive.
    realised_returns
        In the same form, with the same labels: the returns.
    window
        Rows of the rolling statistic, at least 2; 12 months in the notes.
    """
    who = "bias_statistic"
    rows = checked_count(window, f"{who}: window", least=2)
    volatility, returns, dates, names = _pairs(forecast_volatility, realised_returns, who, rows=rows)
    z = returns / volatility
    trailing = np.lib.stride_tricks.sliding_window_view(z, rows, axis=0).std(axis=2, ddof=1)
    rolling = pd.DataFrame(trailing, dates[rows - 1 :], names)
    width = float(np.sqrt(2.0 / len(z)))
    return BiasStatistic(
        pd.Series(z.std(axis=0, ddof=1), names, name="bias_statistic"),
        1.0 - width,
        1.0 + width,
        rolling,
        (rolling - 1.0).abs().mean().rename("deviation"),
    )


def volatility_forecast_quality(
    forecast_volatility: pd.DataFrame | pd.Series,
    realised_returns: pd.DataFrame | pd.Series,
    *,
    realised_volatility: pd.DataFrame | pd.Series | None = None,
) -> pd.DataFrame:
    r"""Forecasts of variance, :math:`h_t = \sigma_t^2`, beside what came, :math:`v_t`; a row for each portfolio.

    Columns: ``qlike``, the mean of :math:`\log h_t + v_t / h_t`, lower is better, which ranks forecasts as the true
    variance would although :math:`v_t` is noisy (Patton, 2011, Journal of Econometrics 160); ``intercept``, ``slope``
    and ``r_squared`` of :math:`v_t = a + b h_t + e_t`, of which right forecasts have a = 0 and b = 1 (Mincer &
    Zarnowitz, 1969); and ``ratio``, the root of mean v over mean h, above 1 where risk was underestimated.

    Parameters
    ----------
    forecast_volatility
        T x P, or one series: forecast *before* each date for the return of that date; per row, positive.
    realised_returns
        In the same form, with the same labels. Their squares are :math:`v_t`.
    realised_volatility
        In the same form: a better measure of what came, such as that of intraday returns, in place of the squares.
    """
    who = "volatility_forecast_quality"
    volatility, returns, dates, names = _pairs(forecast_volatility, realised_returns, who, rows=3)
    h, v = volatility**2, returns**2
    if realised_volatility is not None:
        frame = _framed(realised_volatility, f"{who}: realised_volatility")
        _check_same(frame, dates, names, f"{who}: realised_volatility")
        measured = checked_returns(frame, who, rows=3, what="realised_volatility")
        if (measured < 0.0).any():
            raise InputError(f"{who}: realised_volatility is negative; pass standard deviations")
        v = measured**2
    spread = h - h.mean(axis=0)
    variation = np.einsum("tp,tp->p", spread, spread)
    flat = variation <= 1e-24 * len(h) * h.mean(axis=0) ** 2
    around = v - v.mean(axis=0)
    total = np.einsum("tp,tp->p", around, around)
    shared = np.einsum("tp,tp->p", spread, around)
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = np.where(flat, np.nan, shared / variation)  # a constant forecast has no slope
        r_squared = np.where(flat | (total <= 0.0), np.nan, shared**2 / (variation * total))
    return pd.DataFrame(
        {
            "qlike": (np.log(h) + v / h).mean(axis=0),
            "intercept": v.mean(axis=0) - slope * h.mean(axis=0),
            "slope": slope,
            "r_squared": r_squared,
            "ratio": np.sqrt(v.mean(axis=0) / h.mean(axis=0)),
        },
        names,
    )


def condition_number(covariance: pd.DataFrame | FactorCovariance) -> float:
    r"""Largest eigenvalue over the smallest, infinite where that is zero to working precision.

    A factored covariance of more than 1000 assets is not formed: its ends come from Lanczos' iterations on
    :math:`w \mapsto B F B'w + d w` and on its inverse (Woodbury), in O(NK) each.
    """
    if isinstance(covariance, FactorCovariance):
        d = covariance.idiosyncratic.to_numpy()
        if len(d) > LARGE and d.min() > 0.0:
            return _factored_condition(covariance.exposures.to_numpy() @ covariance.root, d)
        covariance = covariance.dense()
    matrix = square(covariance, "condition_number")
    values = np.linalg.eigvalsh(0.5 * (matrix + matrix.T))
    if values[-1] <= 0.0:
        raise InputError("condition_number: the covariance is zero, or negative; it has no positive eigenvalue")
    if values[0] <= len(values) * np.finfo(np.float64).eps * values[-1]:
        return float("inf")
    return float(values[-1] / values[0])


def compare(
    estimators: Mapping[str, CovarianceEstimator],
    returns: pd.DataFrame,
    *,
    window: int,
    every: int,
    portfolios: pd.DataFrame | None = None,
) -> pd.DataFrame:
    r"""Covariance estimators beside each other on returns they had not seen; a row for each.

    Each is fitted to every `every`-th window of rows and judged on the `every` rows that follow. Columns:

    *   ``bias_statistic`` and ``bias_deviation``: mean over portfolios of b and of :math:`|b - 1|`, with b of
        `bias_statistic` over all rows;
    *   ``qlike``: mean over portfolios, as in `volatility_forecast_quality`;
    *   ``minimum_variance_volatility``: standard deviation of what the portfolio that each estimate takes for that with
        the least variance, :math:`\Sigma^{-1} 1 / 1'\Sigma^{-1}1`, went on to earn, lower is better; NaN where an
        estimate has no inverse;
    *   ``condition_number``: median over the fits;
    *   ``fits``: how many.

    Parameters
    ----------
    estimators
        By the name they are to have in the result.
    returns
        T x N.
    window
        Rows of each fit.
    every
        Rows from one fit to the next, over which weights are kept.
    portfolios
        Weights, assets x P; equal weights of all assets where None.
    """
    who = "compare"
    if not isinstance(estimators, Mapping) or not estimators:
        raise InputError(f"{who}: estimators must be a mapping from name to estimator, with one or more")
    for name, estimator in estimators.items():
        check_estimator(estimator, f"{who}: {name!r}")
    rows = checked_count(window, f"{who}: window", least=2)
    step = checked_count(every, f"{who}: every", least=1)
    values = checked_returns(returns, who, rows=rows + 2)
    assets = returns.columns
    weights = _weights(portfolios, assets)
    ends = range(rows, len(values), step)
    held = values @ weights
    lines = {}
    for name, estimator in estimators.items():
        volatility = np.empty((len(values) - rows, weights.shape[1]))
        earned = np.full(len(values) - rows, np.nan)
        conditions = []
        for end in ends:
            past = returns.iloc[end - rows : end]
            try:
                fitted = estimator.fit(past)
            except InputError as error:
                raise InputError(f"{who}: {name!r} on the window to {written(past.index[-1])}: {error}") from error
            covariance = _matrix(fitted, assets)
            after = slice(end - rows, end - rows + step)
            volatility[after] = np.sqrt(np.einsum("np,nm,mp->p", weights, covariance, weights))
            least = _least_variance(covariance)
            earned[after] = values[end : end + step] @ least if least is not None else np.nan
            conditions.append(condition_number(fitted))
        if (volatility <= 0.0).any():
            raise InputError(f"{who}: {name!r} gives one of the portfolios no variance; leave it out")
        z = held[rows:] / volatility
        bias = z.std(axis=0, ddof=1)
        lines[name] = {
            "bias_statistic": float(bias.mean()),
            "bias_deviation": float(np.abs(bias - 1.0).mean()),
            "qlike": float((2.0 * np.log(volatility) + z**2).mean()),
            "minimum_variance_volatility": float(earned.std(ddof=1)),
            "condition_number": float(np.median(conditions)),
            "fits": len(ends),
        }
    return pd.DataFrame.from_dict(lines, orient="index").rename_axis("estimator")


def _pairs(
    forecast: pd.DataFrame | pd.Series, realised: pd.DataFrame | pd.Series, who: str, *, rows: int
) -> tuple[FloatArray, FloatArray, pd.Index, pd.Index]:
    """Volatilities and returns (T, P) with the same labels, and these."""
    frame = _framed(realised, f"{who}: realised_returns")
    returns = checked_returns(frame, who, rows=rows, what="realised_returns")
    other = _framed(forecast, f"{who}: forecast_volatility")
    if isinstance(forecast, pd.Series) and isinstance(realised, pd.Series):
        other.columns = frame.columns
    _check_same(other, frame.index, frame.columns, f"{who}: forecast_volatility")
    volatility = checked_returns(other, who, rows=rows, what="forecast_volatility")
    wrong = (volatility <= 0.0).any(axis=0)
    if wrong.any():
        raise InputError(f"{who}: forecast_volatility is not positive for {some(frame.columns[np.asarray(wrong)])}")
    return volatility, returns, frame.index, frame.columns


def _framed(given: pd.DataFrame | pd.Series, what: str) -> pd.DataFrame:
    if isinstance(given, pd.Series):
        return given.to_frame("portfolio" if given.name is None else given.name)
    if not isinstance(given, pd.DataFrame):
        raise InputError(f"{what} must be a frame of dates x portfolios, or a Series, was {type(given).__name__}")
    return given.copy(deep=False)


def _check_same(frame: pd.DataFrame, dates: pd.Index, names: pd.Index, what: str) -> None:
    if not frame.columns.equals(names):
        raise InputError(
            f"{what} is for {some(frame.columns)}, and the returns are of {some(names)}; give both the same"
        )
    if not frame.index.equals(dates):
        raise InputError(f"{what} has other dates than realised_returns; keep the dates that both have")


def _weights(portfolios: pd.DataFrame | None, assets: pd.Index) -> FloatArray:
    if portfolios is None:
        return np.full((len(assets), 1), 1.0 / len(assets))
    if not isinstance(portfolios, pd.DataFrame) or portfolios.columns.empty:
        raise InputError("compare: portfolios must be a frame of assets x portfolios, with one or more")
    align(pd.Series(0.0, portfolios.index), assets, what="portfolios")
    values = numbers(portfolios.reindex(assets), "portfolios")
    if not np.isfinite(values).all():
        raise InputError("compare: portfolios has missing or infinite weights; fill with 0.0 what is not held")
    return values


def _matrix(covariance: pd.DataFrame | FactorCovariance, assets: pd.Index) -> FloatArray:
    frame = covariance.dense() if isinstance(covariance, FactorCovariance) else covariance
    return square(frame.reindex(index=assets, columns=assets), "compare")


def _least_variance(covariance: FloatArray) -> FloatArray | None:
    """Weights with the least variance that add up to one, None where the covariance has no inverse."""
    values, vectors = np.linalg.eigh(covariance)
    if values[0] <= len(values) * np.finfo(np.float64).eps * values[-1]:
        return None
    raw = vectors @ (vectors.sum(axis=0) / values)
    return raw / raw.sum()


def _factored_condition(loadings: FloatArray, d: FloatArray) -> float:
    """Of ``L L' + diag(d)`` with d positive."""
    from scipy.sparse.linalg import LinearOperator, eigsh  # here, because it takes a tenth of a second

    n = len(d)
    inner = np.linalg.inv(np.eye(loadings.shape[1]) + loadings.T @ (loadings / d[:, None]))

    def product(w: FloatArray) -> FloatArray:
        w = w.ravel()
        return loadings @ (loadings.T @ w) + d * w

    def inverse(w: FloatArray) -> FloatArray:
        scaled = w.ravel() / d
        return scaled - (loadings @ inner @ (loadings.T @ scaled)) / d

    start = np.ones(n) + np.arange(n) / n  # fixed, so that the answer is the same each time
    ends = 1.0
    for apply in (product, inverse):
        operator: Any = LinearOperator((n, n), matvec=apply, dtype=np.float64)  # pyright: ignore[reportCallIssue]
        ends *= float(eigsh(operator, k=1, which="LA", v0=start, return_eigenvectors=False)[0])
    return ends

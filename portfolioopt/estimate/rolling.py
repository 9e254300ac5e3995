r"""Covariances and factor models over rolling windows, all dates in one call.

The arithmetic is that of `portfolioopt_kernels.covariance`: a date costs as much as the rows that were added since the
one before, however long the window. A date is the last row of its window, and nothing after it is looked at.
"""

from __future__ import annotations

from typing import Any, final

import jax
import numpy as np
import pandas as pd

from portfolioopt.blas import quiet_blas
from portfolioopt.errors import InputError
from portfolioopt.labels import FloatArray, align, checked_number, numbers, some
from portfolioopt_kernels import covariance as kernel

from .checks import as_of, checked_count, checked_factors, checked_returns, checked_variation, dependent, written
from .factored import FactorCovariance


@final
class RollingCovariances:
    """Covariances by date, each of the window that ends on that date; made by `rolling_covariances`.

    Parameters
    ----------
    matrices
        Covariances (D, N, N), per row of the returns.
    assets
        What the rows and columns are (N,): assets, or factors.
    dates
        Last row of each window (D,), in increasing order.
    """

    def __init__(self, matrices: FloatArray, assets: pd.Index, dates: pd.Index) -> None:
        self.matrices: FloatArray = matrices
        self.assets: pd.Index = assets
        self.dates: pd.Index = dates

    def __len__(self) -> int:
        return len(self.dates)

    def at(self, date: Any) -> pd.DataFrame:
        """The covariance (N x N) that is known on a date: that of the last window that ends on it or before.

        Raises InputError where no window ends by then.
        """
        return pd.DataFrame(self.matrices[as_of(date, self.dates, "RollingCovariances")], self.assets, self.assets)

    def volatility(self, weights: pd.Series | pd.DataFrame) -> pd.DataFrame:
        r"""Standard deviation :math:`\sqrt{w'\Sigma_t w}` of portfolios by date (D x P).

        `weights` are fractions of NAV by asset: a frame (N x P), or a series for one portfolio.
        """
        w, names = _portfolios(weights, self.assets)
        with jax.enable_x64(True), quiet_blas.hold():
            variance = np.asarray(kernel.variances(self.matrices, w))
        return pd.DataFrame(np.sqrt(np.maximum(variance, 0.0)), self.dates, names)

    def __repr__(self) -> str:
        return f"RollingCovariances({len(self)} dates, {len(self.assets)} assets)"


@final
class RollingFactorModel:
    r"""Factor models :math:`B_t F_t B_t' + \mathrm{diag}(d_t)` by date; made by `rolling_factor_model`.

    Parameters
    ----------
    exposures
        B, by date, factor and asset (D, K, N).
    factor_covariance
        F (D, K, K), per row of the returns.
    idiosyncratic
        d (D, N), variances per row of the returns.
    assets, factors, dates
        Their labels; a date is the last row of its window.
    """

    def __init__(
        self,
        exposures: FloatArray,
        factor_covariance: FloatArray,
        idiosyncratic: FloatArray,
        *,
        assets: pd.Index,
        factors: pd.Index,
        dates: pd.Index,
    ) -> None:
        self.exposures: FloatArray = exposures
        self.factor_covariance: FloatArray = factor_covariance
        self.idiosyncratic: FloatArray = idiosyncratic
        self.assets: pd.Index = assets
        self.factors: pd.Index = factors
        self.dates: pd.Index = dates

    def __len__(self) -> int:
        return len(self.dates)

    def at(self, date: Any) -> FactorCovariance:
        """The factor model that is known on a date: that of the last window that ends on it or before.

        Raises InputError where no window ends by then.
        """
        place = as_of(date, self.dates, "RollingFactorModel")
        return FactorCovariance(
            pd.DataFrame(self.exposures[place].T, self.assets, self.factors),
            pd.DataFrame(self.factor_covariance[place], self.factors, self.factors),
            pd.Series(self.idiosyncratic[place], self.assets),
        )

    def volatility(self, weights: pd.Series | pd.DataFrame) -> pd.DataFrame:
        r"""Standard deviation of portfolios by date (D x P), without a matrix by asset.

        `weights` are fractions of NAV by asset: a frame (N x P), or a series for one portfolio.
        """
        w, names = _portfolios(weights, self.assets)
        with jax.enable_x64(True), quiet_blas.hold():
            variance = kernel.factor_variances(self.exposures, self.factor_covariance, self.idiosyncratic, w)
            variance = np.asarray(variance)
        return pd.DataFrame(np.sqrt(np.maximum(variance, 0.0)), self.dates, names)

    def __repr__(self) -> str:
        return f"RollingFactorModel({len(self)} dates, {len(self.assets)} assets, {len(self.factors)} factors)"


def rolling_covariances(
    returns: pd.DataFrame, window: int, *, every: int = 1, halflife: float | None = None
) -> RollingCovariances:
    r"""Unbiased covariance of the last `window` rows, on every date.

    .. math:: \Sigma_t = \frac{1}{1 - \sum_s p_s^2} \sum_s p_s (r_s - m_t)(r_s - m_t)', \qquad m_t = \sum_s p_s r_s

    over the rows s of the window, with :math:`p_s` alike, which is the sample covariance, or
    :math:`p_s \propto 2^{-(t - s)/h}`. Meant for factors, or for some hundred assets: the result takes 8 D N² bytes.

    Parameters
    ----------
    returns
        T x N, a row for each period.
    window
        Rows of each window, at least 2.
    every
        Rows from one window to the next. The first ends on row `window`, and later rows do not change which these are.
    halflife
        h, rows after which a row weighs half as much; None weighs the rows of a window alike.

    Raises
    ------
    InputError
        For returns that are missing or infinite, labels that repeat, or fewer rows than a window has.
    """
    who = "rolling_covariances"
    window, every, decay = _settings(who, window, every, halflife, least=2)
    values = checked_returns(returns, who, rows=window)
    centred = values - values[:window].mean(axis=0)
    with jax.enable_x64(True), quiet_blas.hold():
        found = np.asarray(kernel.rolling_covariances(centred, decay, window=window, every=every))
    dates = returns.index[window - 1 :: every]
    return RollingCovariances(found[: len(dates)], returns.columns, dates)


def rolling_factor_model(
    returns: pd.DataFrame, factors: pd.DataFrame, window: int, *, every: int = 1, halflife: float | None = None
) -> RollingFactorModel:
    r"""Least squares of returns on factors over the last `window` rows, on every date: `RegressionFactors` that rolls.

    With the weights :math:`p_s` of the rows as in `rolling_covariances`, and :math:`n = 1/\sum_s p_s^2`, which is the
    number of rows where they are alike: exposures that make :math:`\sum_s p_s e_{si}^2` least for
    :math:`r_{si} = \alpha_i + b_i' f_s + e_{si}`, the covariance of the factors as there, and
    :math:`d_i = \frac{n}{n - K - 1} \sum_s p_s e_{si}^2`. It takes 8 D N (K + 1) bytes.

    Parameters
    ----------
    returns
        T x N, a row for each period.
    factors
        K factors by period, in any unit: exposures are returns per unit of factor. A row for every row of `returns`;
        further rows are not looked at.
    window
        Rows of each window, at least K + 2.
    every
        Rows from one window to the next, of which the first ends on row `window`.
    halflife
        h, rows after which a row weighs half as much; None weighs the rows of a window alike.

    Raises
    ------
    InputError
        For what `RegressionFactors` refuses, and factors that are combinations of each other in any of the windows.
    """
    who = "rolling_factor_model"
    known = checked_factors(returns, factors, who)
    count = known.shape[1]
    window, every, decay = _settings(who, window, every, halflife, least=count + 2)
    values = checked_returns(returns, who, rows=window)
    checked_variation(known, factors.columns, who)
    p = decay ** np.arange(window)
    effective = float(p.sum() ** 2 / (p @ p))
    if effective <= count + 1.0:
        raise InputError(
            f"{who}: with a halflife of {halflife:g} rows a window has the evidence of {effective:.1f} rows, and "
            f"{count} factors take more than {count + 1}; pass a longer halflife, or a longer window"
        )
    with jax.enable_x64(True), quiet_blas.hold():
        found = kernel.rolling_regressions(
            values - values[:window].mean(axis=0),
            known - known[:window].mean(axis=0),
            decay,
            window=window,
            every=every,
        )
        exposures, covariance, idiosyncratic, unexplained = map(np.asarray, found)
    dates = returns.index[window - 1 :: every]
    bad = ~(unexplained[: len(dates)] > 1e-10)
    if bad.any():
        place = int(np.argmax(bad.any(axis=1)))
        culprits = _collinear(known[place * every : place * every + window], p[::-1], factors.columns)
        raise InputError(
            f"{who}: {culprits} in the window that ends on {written(dates[place])}; leave it out, or pass a longer "
            "window"
        )
    d = len(dates)
    return RollingFactorModel(
        exposures[:d],
        covariance[:d],
        idiosyncratic[:d],
        assets=returns.columns,
        factors=factors.columns,
        dates=dates,
    )


def _collinear(known: FloatArray, p: FloatArray, labels: pd.Index) -> str:
    """Which factors do not vary in a window, or are combinations of the others."""
    constant = np.ptp(known, axis=0) == 0.0
    if constant.any():
        return f"factor {some(labels[np.asarray(constant)])} does not vary"
    centred = np.sqrt(p)[:, None] * (known - p @ known / p.sum())
    _, singular, right = np.linalg.svd(centred / np.sqrt((centred**2).sum(axis=0)), full_matrices=False)
    none = singular <= max(1e-4 * singular[0], singular[-1])
    return f"one of the factors {dependent(right[none].T, labels)} is a combination of the others"


def _settings(
    who: str, window: object, every: object, halflife: float | None, *, least: int
) -> tuple[int, int, np.float64]:
    """Window, step and the weight of a row relative to the next."""
    rows = checked_count(window, f"{who}: window", least=least)
    step = checked_count(every, f"{who}: every", least=1)
    if halflife is None:
        return rows, step, np.float64(1.0)
    decay = np.float64(2.0 ** (-1.0 / checked_number(halflife, f"{who}: halflife", above=0.0)))
    if decay < 1e-8:
        raise InputError(
            f"{who}: with a halflife of {halflife:g} rows the last row has all the weight; pass a longer one"
        )
    return rows, step, decay


def _portfolios(weights: object, assets: pd.Index) -> tuple[FloatArray, pd.Index]:
    """Weights (N, P) in the order of the assets, and the names of the portfolios."""
    if isinstance(weights, pd.Series):
        name = "portfolio" if weights.name is None else weights.name
        return align(weights, assets, what="weights")[:, None], pd.Index([name])
    if not isinstance(weights, pd.DataFrame):
        raise InputError(f"weights must be a Series by asset, or a frame of assets x portfolios, was {weights!r}")
    align(pd.Series(0.0, weights.index), assets, what="weights")
    if weights.columns.has_duplicates:
        repeated = weights.columns[weights.columns.duplicated()].unique()
        raise InputError(f"weights has duplicate portfolios: {some(repeated)}; keep one for each")
    values = numbers(weights.reindex(assets), "weights")
    bad = ~np.isfinite(values).all(axis=0)
    if bad.any():
        raise InputError(
            f"weights is missing or infinite for {some(weights.columns[np.asarray(bad)])}; fill with 0.0 what is not "
            "held"
        )
    return values, weights.columns

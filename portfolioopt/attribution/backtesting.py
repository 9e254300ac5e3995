r"""Predicted against realised tails: tests of VaR and CVaR forecasts. For volatility: `estimate.bias_statistic`.

VaR. With hits :math:`I_t = 1` where the loss exceeds the VaR, x of them in T, :math:`\alpha = 1 - \beta`, and
:math:`\hat\pi = x / T`, the likelihood ratios are

.. math:: LR_{pof} = -2 \log \frac{(1-\alpha)^{T-x} \alpha^x}{(1-\hat\pi)^{T-x} \hat\pi^x} \sim \chi^2_1, \qquad
          LR_{ind} = -2 \log \frac{(1-\pi)^{n_{00}+n_{10}} \pi^{n_{01}+n_{11}}}
          {(1-\pi_0)^{n_{00}} \pi_0^{n_{01}} (1-\pi_1)^{n_{10}} \pi_1^{n_{11}}} \sim \chi^2_1,

with :math:`n_{ij}` the steps from state i to j, :math:`\pi_i = n_{i1} / (n_{i0} + n_{i1})` and :math:`\pi` that of all
T - 1 steps; their sum is the test of conditional coverage, :math:`\chi^2_2`. Kupiec (1995), "Techniques for verifying
the accuracy of risk measurement models", J. Derivatives 3; Christoffersen (1998), "Evaluating interval forecasts",
International Economic Review 39.

CVaR. Acerbi & Székely (2014), "Backtesting expected shortfall", Risk 27, with losses L and forecasts :math:`C_t`:

.. math:: Z_1 = 1 - \frac{\sum_t L_t I_t / C_t}{\sum_t I_t}, \qquad
          Z_2 = 1 - \frac{1}{T \alpha} \sum_t \frac{L_t I_t}{C_t}.

Both have mean zero where forecasts are right and are negative where risk was underestimated; the first looks at the
size of the hits alone, the second at their number too. How they are distributed depends on the forecast tail, so
p-values are simulated from it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import chdtrc, gammaln, ndtri, stdtrit, xlogy

from portfolioopt.errors import InputError
from portfolioopt.estimate.checks import checked_count, checked_returns, checked_series
from portfolioopt.labels import FloatArray, checked_number, some
from portfolioopt.scenarios.tail import check_beta

_CELLS = 1 << 22  # simulated losses held at a time: 32 MiB


@dataclass(frozen=True)
class VaRBacktest:
    """Tests of VaR forecasts; see `var_backtest`.

    Parameters
    ----------
    observations, exceedances, expected
        T, how often the loss exceeded the VaR, and how often it should have.
    kupiec, kupiec_p
        Likelihood ratio of the proportion of failures, and its p-value.
    independence, independence_p
        Christoffersen's test that a hit does not follow a hit more often than else.
    coverage, coverage_p
        Conditional coverage: both together.
    """

    observations: int
    exceedances: int
    expected: float
    kupiec: float
    kupiec_p: float
    independence: float
    independence_p: float
    coverage: float
    coverage_p: float


@dataclass(frozen=True)
class CVaRBacktest:
    """Tests of CVaR forecasts; see `cvar_backtest`.

    Parameters
    ----------
    observations, exceedances
        T, and how often the loss exceeded the VaR.
    z1, z1_p
        Test of the size of the hits, given their number, and the share of simulations as low; NaN without hits.
    z2, z2_p
        Test of size and number.
    critical_1, critical_2
        Quantiles of the simulations below which the tests reject at 5 %.
    """

    observations: int
    exceedances: int
    z1: float
    z1_p: float
    z2: float
    z2_p: float
    critical_1: float
    critical_2: float


def var_backtest(losses: pd.Series, var: pd.Series, *, beta: float) -> VaRBacktest:
    """Kupiec's and Christoffersen's tests of VaR forecasts against the losses that came.

    Parameters
    ----------
    losses
        Realised loss by period, positive is bad, in order of time.
    var
        VaR forecast *before* each period for it, with the same labels: ``predicted.shift(1)`` of what was known at the
        end of a period.
    beta
        Confidence level of the forecasts, in (0, 1).

    Raises
    ------
    InputError
        For labels that differ, missing or infinite numbers, and fewer than two periods.
    """
    who = "var_backtest"
    level = check_beta(beta)
    lost, limit = _pair(losses, var, who, "var")
    return _coverage(lost > limit, 1.0 - level)


def kupiec(exceedances: int, observations: int, *, beta: float) -> tuple[float, float]:
    """Likelihood ratio of Kupiec's test and its p-value, for a number of exceedances in a number of periods."""
    alpha = 1.0 - check_beta(beta)
    count = checked_count(observations, "kupiec: observations", least=1)
    hits = checked_count(exceedances, "kupiec: exceedances", least=0)
    if hits > count:
        raise InputError(f"kupiec: there cannot be {hits} exceedances in {count} periods")
    ratio = 2.0 * (_likelihood(hits, count, hits / count) - _likelihood(hits, count, alpha))
    return max(ratio, 0.0), float(chdtrc(1.0, max(ratio, 0.0)))


def cvar_backtest(
    losses: pd.Series,
    var: pd.Series,
    cvar: pd.Series,
    *,
    beta: float,
    seed: int,
    freedom: float | None = None,
    predicted: pd.DataFrame | None = None,
    simulations: int = 10_000,
) -> CVaRBacktest:
    r"""Acerbi and Székely's tests of CVaR forecasts, with p-values simulated under the forecasts.

    Parameters
    ----------
    losses
        Realised loss by period, positive is bad.
    var, cvar
        Forecasts *before* each period for it, with the same labels; the CVaR is positive and not below the VaR.
    beta
        Their confidence level, in (0, 1).
    seed
        Of the simulation.
    freedom
        Losses are simulated from a Student t distribution with these degrees of freedom, above 1, of each period's
        location and scale, which follow from its VaR and CVaR; a normal one where None.
    predicted
        Instead: simulated losses of the forecasts, periods x draws, equally likely, such as
        ``scenarios.losses(weights)`` of every date; each simulation draws one of them for each period.
    simulations
        How many, at least 100. The smallest p-value is one over them plus one.

    Raises
    ------
    InputError
        For labels that differ, missing or infinite numbers, forecasts that cannot be, and settings out of range.
    """
    who = "cvar_backtest"
    alpha = 1.0 - check_beta(beta)
    lost, limit = _pair(losses, var, who, "var")
    _, mean = _pair(losses, cvar, who, "cvar")
    if (mean <= 0.0).any() or (mean < limit).any():
        bad = losses.index[(mean <= 0.0) | (mean < limit)]
        raise InputError(f"{who}: cvar must be positive and not below the VaR, which it is not on {some(bad)}")
    count = checked_count(simulations, f"{who}: simulations", least=100)
    rng = np.random.default_rng(checked_count(seed, f"{who}: seed", least=0))
    if predicted is not None:
        if freedom is not None:
            raise InputError(f"{who}: give predicted losses or degrees of freedom, not both")
        if not isinstance(predicted, pd.DataFrame) or not predicted.index.equals(losses.index):
            raise InputError(f"{who}: predicted must be a frame with a row of losses for every period of losses")
        draws = checked_returns(predicted, who, rows=2, what="predicted")
        scale = location = mean  # not looked at
    else:
        degrees = np.inf if freedom is None else checked_number(freedom, f"{who}: freedom", above=1.0)
        draws = None
        quantile, tail_mean = _standard_tail(1.0 - alpha, degrees)
        scale = (mean - limit) / (tail_mean - quantile)
        location = limit - scale * quantile
    z1, z2, hits = _statistics(lost[None], limit, mean, alpha)
    simulated = np.empty((2, count))
    run = max(1, _CELLS // len(lost))
    for first in range(0, count, run):
        size = (min(run, count - first), len(lost))
        if draws is not None:
            drawn = draws[np.arange(len(lost)), rng.integers(draws.shape[1], size=size)]
        elif freedom is None:
            drawn = location + scale * rng.standard_normal(size)
        else:
            drawn = location + scale * rng.standard_t(freedom, size)
        part = slice(first, first + size[0])
        simulated[0, part], simulated[1, part], _ = _statistics(drawn, limit, mean, alpha)
    first_known = simulated[0, ~np.isnan(simulated[0])]
    return CVaRBacktest(
        len(lost),
        int(hits[0]),
        float(z1[0]),
        _low_tail(float(z1[0]), first_known),
        float(z2[0]),
        _low_tail(float(z2[0]), simulated[1]),
        float(np.quantile(first_known, 0.05)) if len(first_known) else float("nan"),
        float(np.quantile(simulated[1], 0.05)),
    )


def _coverage(hit: npt.NDArray[np.bool_], alpha: float) -> VaRBacktest:
    count, exceedances = len(hit), int(hit.sum())
    pof, pof_p = kupiec(exceedances, count, beta=1.0 - alpha)
    after = [hit[1:][~hit[:-1]], hit[1:][hit[:-1]]]  # what followed a quiet period, and what followed a hit
    separate = sum(_likelihood(int(x.sum()), len(x), float(x.mean()) if len(x) else 0.0) for x in after)
    steps = hit[1:]
    ratio = max(2.0 * (separate - _likelihood(int(steps.sum()), len(steps), float(steps.mean()))), 0.0)
    return VaRBacktest(
        count,
        exceedances,
        alpha * count,
        pof,
        pof_p,
        ratio,
        float(chdtrc(1.0, ratio)),
        pof + ratio,
        float(chdtrc(2.0, pof + ratio)),
    )


def _likelihood(hits: int, count: int, probability: float) -> float:
    """Logarithm of the likelihood of so many hits."""
    return float(xlogy(hits, probability) + xlogy(count - hits, 1.0 - probability))


def _statistics(
    losses: FloatArray, var: FloatArray, cvar: FloatArray, alpha: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Z1, Z2 and the number of hits of each row of losses (M, T)."""
    hit = losses > var
    total = np.where(hit, losses / cvar, 0.0).sum(axis=1)
    count = hit.sum(axis=1)
    z1 = 1.0 - np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)
    return z1, 1.0 - total / (losses.shape[1] * alpha), count


def _standard_tail(beta: float, freedom: float) -> tuple[float, float]:
    """Quantile and tail mean of the standard normal or Student t distribution."""
    if np.isinf(freedom):
        q = float(ndtri(beta))
        return q, float(np.exp(-0.5 * q * q) / np.sqrt(2.0 * np.pi)) / (1.0 - beta)
    q = float(stdtrit(freedom, beta))
    constant = np.exp(gammaln((freedom + 1.0) / 2.0) - gammaln(freedom / 2.0)) / np.sqrt(freedom * np.pi)
    density = constant * (1.0 + q * q / freedom) ** (-(freedom + 1.0) / 2.0)
    return q, float(density * (freedom + q * q) / (freedom - 1.0) / (1.0 - beta))


def _low_tail(value: float, simulated: FloatArray) -> float:
    """Share of the simulations that are as low, the value itself counted among them."""
    if np.isnan(value) or not len(simulated):
        return float("nan")
    return float((1 + np.count_nonzero(simulated <= value)) / (1 + len(simulated)))


def _pair(losses: pd.Series, forecast: pd.Series, who: str, what: str) -> tuple[FloatArray, FloatArray]:
    lost = checked_series(losses, who, rows=2, what="losses")
    if not isinstance(forecast, pd.Series) or not forecast.index.equals(losses.index):
        raise InputError(f"{who}: {what} must be a Series with the labels of losses, in the same order")
    return lost, checked_series(forecast, who, rows=2, what=what)

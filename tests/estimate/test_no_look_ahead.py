"""Changing the future leaves everything before it the same: every estimator of the room.

An estimate on a date is made from the rows up to it. So each is made here twice, from a history and from the same one
with another future, and what is said of the dates before the change has to agree to the last digit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

import portfolioopt.estimate as estimate
from portfolioopt.data import sample_prices, simple_returns

RETURNS = simple_returns(sample_prices()).iloc[-300:, :5]
MARKET = RETURNS.mean(axis=1).rename("market")
CUT = 220
FACTORS = pd.DataFrame({"market": MARKET, "tilt": RETURNS["AAPL"] - RETURNS["BAC"]})
SIZE = simple_returns(sample_prices()).add(1.0).cumprod().loc[RETURNS.index, RETURNS.columns]

ROWS_SO_FAR = [
    estimate.SampleMean(),
    estimate.ExponentialMean(30.0),
    estimate.JamesStein(),
    estimate.BayesStein(),
    estimate.EquilibriumMean(pd.Series(0.2, RETURNS.columns)),
    estimate.SampleCovariance(),
    estimate.ExponentialCovariance(30.0),
    estimate.LedoitWolf(),
    estimate.OracleApproximating(),
    estimate.NonlinearShrinkage(),
    estimate.GerberCovariance(),
    estimate.DenoisedCovariance(),
    estimate.SemiCovariance(),
    estimate.StatisticalFactors(2),
    estimate.BlackLitterman([estimate.AbsoluteView(RETURNS.columns[0], 0.001)], pd.Series(0.2, RETURNS.columns)),
]


def other_future(frame: Any) -> Any:
    """The same rows up to the cut, and others after it."""
    changed = frame.copy()
    changed.iloc[CUT:] = -2.0 * frame.iloc[CUT:].to_numpy() + 0.01
    return changed


def numbers(value: Any) -> np.ndarray:
    frame = value.dense() if isinstance(value, estimate.FactorCovariance) else value
    return np.asarray(frame, dtype=np.float64)


def by_date(estimator: Any, returns: pd.DataFrame) -> pd.DataFrame:
    """What a user has on each date who fits on the rows so far."""
    ends = range(60, len(returns) + 1, 20)
    return pd.DataFrame(
        [numbers(estimator.fit(returns.iloc[:end])).ravel() for end in ends], [returns.index[end - 1] for end in ends]
    )


def rolling(how: Callable[..., Any], **settings: Any) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def made(returns: pd.DataFrame) -> pd.DataFrame:
        found = how(returns, **settings)
        return pd.DataFrame([numbers(found.at(date)).ravel() for date in found.dates], found.dates)

    return made


def model(returns: pd.DataFrame, **settings: Any) -> Any:
    factors = pd.DataFrame({"market": returns.mean(axis=1), "tilt": returns["AAPL"] - returns["BAC"]})
    return estimate.rolling_factor_model(returns, factors, **settings)


def cross_section(returns: pd.DataFrame) -> estimate.CrossSectionalFit:
    price = (1.0 + returns).cumprod()
    reversal = returns.rolling(5).sum()
    known = {"reversal": reversal.iloc[5:], "price": price.iloc[5:]}
    return estimate.CrossSectionalFactors().fit(returns, known, capitalisation=price.clip(lower=1e-3))


def market_of(how: Callable[[pd.Series], Any]) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return lambda returns: pd.DataFrame(how(returns.mean(axis=1)))


FITTED = estimate.MarkovSwitching(starts=2).fit(MARKET.iloc[:CUT].rename("returns"))
REGIMES = estimate.MarketRegimes(window=20, memory=50, history=30)
OVER_TIME: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    **{repr(e)[:60]: lambda returns, e=e: by_date(e, returns) for e in ROWS_SO_FAR},
    "RegressionFactors": lambda returns: pd.DataFrame(
        {
            end: numbers(estimate.RegressionFactors().fit(returns.iloc[:end], FACTORS)).ravel()
            for end in range(60, 301, 20)
        }
    ).T.set_axis([RETURNS.index[end - 1] for end in range(60, 301, 20)]),
    "rolling_covariances": rolling(estimate.rolling_covariances, window=40, every=7),
    "rolling_covariances, halflife": rolling(estimate.rolling_covariances, window=40, every=7, halflife=10.0),
    "rolling_factor_model": rolling(model, window=40, every=7),
    "rolling_factor_model, halflife": rolling(model, window=40, every=7, halflife=20.0),
    "rolling volatility": lambda returns: estimate.rolling_covariances(returns, 40, every=7).volatility(
        pd.Series(0.2, RETURNS.columns)
    ),
    "CrossSectionalFactors: factor returns": lambda returns: cross_section(returns).factor_returns,
    "CrossSectionalFactors: residuals": lambda returns: cross_section(returns).residuals,
    "CrossSectionalFactors: t statistics": lambda returns: cross_section(returns).t_statistics,
    "MarkovSwitching: filter": market_of(lambda r: FITTED.filter(r.rename("returns"))),
    "MarkovSwitching: walk": market_of(
        lambda r: estimate.MarkovSwitching(starts=2).walk(r.rename("returns"), first=200, every=100)
    ),
    "VolatilityStates": market_of(estimate.VolatilityStates(window=20, history=50).fit),
    "MarketRegimes": market_of(lambda r: REGIMES.fit(r).map(str)),
    "MarketRegimes: evidence": market_of(REGIMES.evidence),
    "bias_statistic": market_of(
        lambda r: estimate.bias_statistic(r.rolling(20).std().shift(1).iloc[20:], r.iloc[20:]).rolling
    ),
}


@pytest.mark.parametrize("name", OVER_TIME)
def test_what_comes_later_does_not_matter(name: str) -> None:
    made = OVER_TIME[name]
    before, after = made(RETURNS), made(other_future(RETURNS))
    assert before.index.equals(after.index)
    known = before.index <= RETURNS.index[CUT - 1]
    assert known.any()
    pd.testing.assert_frame_equal(before[known], after[known], rtol=0.0, atol=0.0)
    assert not before[~known].equals(after[~known]), "the change of the future does not show at all"


@pytest.mark.parametrize("name", [name for name in OVER_TIME if name not in {"RegressionFactors"}])
def test_a_history_that_ends_earlier_says_the_same(name: str) -> None:
    made = OVER_TIME[name]
    whole, part = made(RETURNS), made(RETURNS.iloc[:CUT])
    shared = whole.loc[part.index]
    if part.dtypes.map(pd.api.types.is_numeric_dtype).all():
        np.testing.assert_allclose(part, shared, rtol=1e-9, atol=1e-12 * float(np.nanmax(np.abs(shared))))
    else:
        pd.testing.assert_frame_equal(part, shared)


def test_every_estimator_of_the_room_is_here() -> None:
    covered = " ".join([*OVER_TIME, *map(repr, ROWS_SO_FAR)])
    others = {"CovarianceEstimator", "FactorCovariance", "nearest_covariance", "square"}  # no estimators
    others |= {"BiasStatistic", "CrossSectionalFit", "FactorModel", "MarketRegime", "RegimeMoments"}  # results
    others |= {"BlackLittermanPosterior", "black_litterman_posterior", "implied_risk_aversion"}
    others |= {"AbsoluteView", "RelativeView", "ViewMatrix", "view_confidence", "view_uncertainty"}
    others |= {"RollingCovariances", "RollingFactorModel", "SwitchingFit"}
    others |= {"compare", "condition_number", "regime_moments", "volatility_forecast_quality"}  # of a whole history
    public = {
        name
        for name in vars(estimate)
        if not name.startswith("_") and getattr(estimate, name).__class__.__name__ != "module"
    }
    missing = {name for name in public - others if name not in covered}
    assert not missing

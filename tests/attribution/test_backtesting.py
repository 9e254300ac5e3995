"""Tests of VaR and CVaR forecasts: published tables, hand-counted transitions, sizes and powers by simulation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import portfolioopt as po
from portfolioopt.attribution import cvar_backtest, kupiec, var_backtest

# Kupiec (1995), as in Jorion, "Value at Risk" (3rd edition, 2007), table 6-2: numbers of failures N for which the
# model is not rejected at 95 % confidence, by tail probability and days; for 255 days at 1 % the table has no lower
# end.
TABLE = {
    (0.01, 255): (None, 7),
    (0.01, 510): (1, 11),
    (0.01, 1000): (4, 17),
    (0.025, 255): (2, 12),
    (0.025, 510): (6, 21),
    (0.025, 1000): (15, 36),
    (0.05, 255): (6, 21),
    (0.05, 510): (16, 36),
    (0.05, 1000): (37, 65),
    (0.075, 255): (11, 28),
    (0.075, 510): (27, 51),
    (0.075, 1000): (59, 92),
    (0.10, 255): (16, 36),
    (0.10, 510): (38, 65),
    (0.10, 1000): (81, 120),
}


@pytest.mark.parametrize(("tail", "days"), list(TABLE))
def test_kupiecs_table(tail: float, days: int) -> None:
    below, above = TABLE[tail, days]
    kept = [n for n in range(days // 4) if kupiec(n, days, beta=1 - tail)[1] > 0.05]
    assert below is None or kept[0] == below + 1
    assert kept[-1] == above - 1


def test_kupiec_is_the_ratio_of_binomial_likelihoods() -> None:
    ratio, p = kupiec(9, 250, beta=0.99)
    expected = 2 * (stats.binom.logpmf(9, 250, 9 / 250) - stats.binom.logpmf(9, 250, 0.01))
    assert ratio == pytest.approx(expected, rel=1e-10)
    assert p == pytest.approx(stats.chi2.sf(expected, 1), rel=1e-10)
    assert kupiec(0, 250, beta=0.99)[0] == pytest.approx(-2 * 250 * np.log(0.99))
    assert kupiec(5, 500, beta=0.99)[0] == pytest.approx(0.0, abs=1e-12)


def test_independence_by_counting() -> None:
    hits = np.array([0, 1, 1, 0, 0, 0, 1, 0, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0], float)
    found = var_backtest(pd.Series(hits), pd.Series(0.5, range(20)), beta=0.8)
    # steps: 0-0 x 10, 0-1 x 3, 1-0 x 3, 1-1 x 3
    free = stats.binom(13, 3 / 13).logpmf(3) + stats.binom(6, 3 / 6).logpmf(3)
    tied = stats.binom(13, 6 / 19).logpmf(3) + stats.binom(6, 6 / 19).logpmf(3)
    assert found.independence == pytest.approx(2 * (free - tied), rel=1e-10)
    assert found.coverage == pytest.approx(found.kupiec + found.independence)
    assert found.coverage_p == pytest.approx(stats.chi2.sf(found.coverage, 2))
    assert (found.observations, found.exceedances, found.expected) == (20, 6, pytest.approx(4.0))


def test_hits_in_clusters_fail_independence_and_not_coverage_alone() -> None:
    clustered = np.zeros(1000)
    clustered[400:450] = 1.0
    found = var_backtest(pd.Series(clustered), pd.Series(0.5, range(1000)), beta=0.95)
    assert found.kupiec_p > 0.99
    assert found.independence_p < 1e-10


def test_no_hits_at_all() -> None:
    found = var_backtest(pd.Series(np.zeros(100)), pd.Series(1.0, range(100)), beta=0.95)
    assert (found.exceedances, found.independence, found.independence_p) == (0, 0.0, 1.0)


def normal_forecasts(beta: float, days: int = 250) -> tuple[pd.Series, pd.Series]:
    q = stats.norm.ppf(beta)
    return pd.Series(q, range(days)), pd.Series(stats.norm.pdf(q) / (1 - beta), range(days))


def test_critical_values_are_those_published() -> None:
    """Acerbi & Székely (2014): Z2 rejects below about -0.70 at 5 % for 250 days at 97.5 %, near normal tails.

    With 3 degrees of freedom it is -0.82.
    """
    losses = pd.Series(np.random.default_rng(0).normal(size=250))
    var, cvar = normal_forecasts(0.975)
    found = cvar_backtest(losses, var, cvar, beta=0.975, seed=1, simulations=20_000)
    assert found.critical_2 == pytest.approx(-0.70, abs=0.025)
    q = stats.t.ppf(0.975, 3)
    mean = stats.t.expect(lambda x: x, args=(3,), lb=q) / 0.025
    heavy = cvar_backtest(
        losses,
        pd.Series(q, range(250)),
        pd.Series(mean, range(250)),
        beta=0.975,
        seed=1,
        freedom=3.0,
        simulations=20_000,
    )
    assert heavy.critical_2 == pytest.approx(-0.82, abs=0.03)


def test_statistics_by_hand_and_p_values() -> None:
    losses = pd.Series([0.01, 0.05, -0.02, 0.08, 0.00, 0.01, 0.02, -0.01, 0.03, -0.04])
    var, cvar = pd.Series(0.04, range(10)), pd.Series(0.05, range(10))
    found = cvar_backtest(losses, var, cvar, beta=0.9, seed=0, simulations=2000)
    assert found.exceedances == 2
    assert found.z1 == pytest.approx(1 - (0.05 + 0.08) / 0.05 / 2)
    assert found.z2 == pytest.approx(1 - (0.05 + 0.08) / 0.05 / (10 * 0.1))
    assert 0.0 < found.z2_p < 1.0
    again = cvar_backtest(losses, var, cvar, beta=0.9, seed=0, simulations=2000)
    assert again == found
    scaled = cvar_backtest(7 * losses, 7 * var, 7 * cvar, beta=0.9, seed=0, simulations=2000)
    assert (scaled.z1, scaled.z2) == pytest.approx((found.z1, found.z2))
    assert scaled.z2_p == pytest.approx(found.z2_p)


def test_right_forecasts_are_rejected_one_time_in_twenty_and_wrong_ones_mostly() -> None:
    var, cvar = normal_forecasts(0.95)
    rng = np.random.default_rng(3)
    right, wrong = [], []
    for trial in range(150):
        sample = rng.standard_normal(250)
        settings = {"beta": 0.95, "seed": trial, "simulations": 400}
        right.append(cvar_backtest(pd.Series(sample), var, cvar, **settings).z2_p)  # type: ignore[arg-type]
        wrong.append(cvar_backtest(pd.Series(1.5 * sample), var, cvar, **settings).z2_p)  # type: ignore[arg-type]
    assert stats.kstest(right, "uniform").pvalue > 0.01
    assert np.mean(np.array(wrong) < 0.05) > 0.95


def test_draws_of_the_forecasts_take_the_place_of_a_law() -> None:
    rng = np.random.default_rng(4)
    predicted = pd.DataFrame(rng.standard_normal((250, 4000)))
    var = predicted.quantile(0.95, axis=1)
    cvar = pd.Series([row[row > v].mean() for row, v in zip(predicted.to_numpy(), var, strict=True)])
    losses = pd.Series(rng.standard_normal(250))
    drawn = cvar_backtest(losses, var, cvar, beta=0.95, seed=0, predicted=predicted, simulations=4000)
    law = cvar_backtest(losses, var, cvar, beta=0.95, seed=0, simulations=4000)
    assert (drawn.z1, drawn.z2) == (law.z1, law.z2)
    assert drawn.critical_2 == pytest.approx(law.critical_2, abs=0.03)
    assert drawn.z2_p == pytest.approx(law.z2_p, abs=0.04)


def test_backtests_that_are_refused() -> None:
    losses = pd.Series([0.01, 0.02, 0.03])
    with pytest.raises(po.InputError, match="var must be a Series with the labels of losses"):
        var_backtest(losses, pd.Series([0.01, 0.02]), beta=0.95)
    with pytest.raises(po.InputError, match="losses is missing or infinite for losses on 1"):
        var_backtest(losses.where(losses != 0.02), losses, beta=0.95)
    with pytest.raises(po.InputError, match="cvar must be positive and not below the VaR, which it is not on 0, 1, 2"):
        cvar_backtest(losses, losses, 0.5 * losses, beta=0.95, seed=0)
    with pytest.raises(po.InputError, match="not both"):
        cvar_backtest(losses, losses, losses, beta=0.95, seed=0, freedom=4.0, predicted=losses.to_frame())
    with pytest.raises(po.InputError, match="cannot be 5 exceedances in 4"):
        kupiec(5, 4, beta=0.95)
    with pytest.raises(po.InputError, match="beta must lie strictly between 0 and 1"):
        var_backtest(losses, losses, beta=95)

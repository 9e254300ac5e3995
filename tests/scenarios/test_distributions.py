"""Laws of factor and idiosyncratic returns: means and covariances as asked for, higher moments in closed form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from portfolioopt.errors import InputError
from portfolioopt.scenarios import (
    Gaussian,
    Jumps,
    ScenarioSet,
    SkewedT,
    StudentT,
    VolatilityShock,
    factor_model,
    factor_monte_carlo,
)

FACTORS = pd.Index(["market", "rates"])
COVARIANCE = pd.DataFrame([[4e-4, -1e-4], [-1e-4, 1e-4]], FACTORS, FACTORS)
UNIT = pd.DataFrame(np.eye(2), FACTORS, FACTORS)  # assets that are the factors themselves
COUNT = 400_000


def factors(law: Any, count: int = COUNT, **changes: Any) -> np.ndarray:
    return factor_monte_carlo(UNIT, COVARIANCE, 0.0, count, seed=5, factors=law, **changes).matrix


def noise(law: Any) -> np.ndarray:
    assets = pd.DataFrame(0.0, ["A", "B"], FACTORS)
    return factor_monte_carlo(assets, COVARIANCE, {"A": 1.0, "B": 4.0}, COUNT, seed=5, idiosyncratic=law).matrix


def check_moments(rows: np.ndarray, expected: np.ndarray) -> None:
    """Mean zero and the covariance, within four standard errors that the sample itself gives."""
    size = np.sqrt(len(rows))
    assert (np.abs(rows.mean(axis=0)) < 4.0 * rows.std(axis=0) / size).all()
    for i in range(2):
        for j in range(2):
            product = rows[:, i] * rows[:, j]
            assert abs(product.mean() - expected[i, j]) < 4.0 * product.std() / size


@pytest.mark.parametrize(
    "law",
    [
        Gaussian(),
        StudentT(6.0),
        SkewedT(10.0, {"market": -0.5, "rates": 0.3}),
        Jumps(0.1, {"market": -0.03, "rates": 0.005}, 0.01),
    ],
)
def test_the_covariance_of_the_factors_is_kept(law: Any) -> None:
    check_moments(factors(law), COVARIANCE.to_numpy())


def test_jumps_may_come_on_top() -> None:
    mean, volatility = np.array([-0.03, 0.005]), np.array([0.01, 0.02])
    law = Jumps(0.1, dict(zip(FACTORS, mean, strict=True)), dict(zip(FACTORS, volatility, strict=True)), "added")
    check_moments(factors(law), COVARIANCE.to_numpy() + 0.1 * (np.outer(mean, mean) + np.diag(volatility**2)))


def test_third_and_fourth_cumulants_of_jumps() -> None:
    # a compound Poisson number has the cumulants lambda E J^n, a normal one has none beyond the second
    law = Jumps(0.5, {"market": -0.01, "rates": 0.0}, {"market": 0.008, "rates": 0.0})
    market = factors(law)[:, 0]
    size = stats.norm(-0.01, 0.008)
    deviation = market - market.mean()
    third, fourth = np.mean(deviation**3), np.mean(deviation**4) - 3.0 * market.var() ** 2
    assert third == pytest.approx(0.5 * size.moment(3), rel=0.05)
    assert fourth == pytest.approx(0.5 * size.moment(4), rel=0.15)


def test_skewness_in_closed_form() -> None:
    # by the formula of the docstring, against numerical integration of the mixture's density
    freedom, s = 14.0, -0.7
    law = stats.invgamma(freedom / 2.0, scale=freedom / 2.0)
    gamma = s / law.std()
    scale = (1.0 - s**2) / law.mean()
    third = law.expect(lambda w: (gamma * (w - law.mean())) ** 3 + 3.0 * gamma * (w - law.mean()) * scale * w)
    formula = s**3 * 4.0 * np.sqrt(freedom / 2 - 2) / (freedom / 2 - 3)
    formula += 3.0 * s * (1.0 - s**2) * np.sqrt(2.0 / (freedom - 4.0))
    assert formula == pytest.approx(third, rel=1e-6)
    drawn = factors(SkewedT(freedom, {"market": s, "rates": 0.0}))
    assert stats.skew(drawn[:, 0]) == pytest.approx(third, rel=0.1)
    assert abs(stats.skew(drawn[:, 1])) < 0.05


def test_losses_come_together_under_a_negative_skew() -> None:
    skewed = factors(SkewedT(8.0, {"market": -0.5, "rates": -0.35}))
    both = (skewed < np.quantile(skewed, 0.01, axis=0)).all(axis=1).mean()
    normal = factors(Gaussian())
    assert both > 5.0 * (normal < np.quantile(normal, 0.01, axis=0)).all(axis=1).mean()


def hill(losses: np.ndarray, count: int) -> float:
    """Hill's estimate of the tail index from the largest losses."""
    largest = np.sort(losses)[-count - 1 :]
    return 1.0 / float(np.mean(np.log(largest[1:] / largest[0])))


@pytest.mark.parametrize("freedom", [3.0, 5.0])
def test_tail_index(freedom: float) -> None:
    losses = -factors(StudentT(freedom))[:, 0]
    exact = hill(stats.t(freedom).ppf((np.arange(COUNT) + 0.5) / COUNT), 400)
    assert hill(losses, 400) == pytest.approx(exact, abs=4.0 * exact / np.sqrt(400))
    assert hill(-factors(Gaussian())[:, 0], 400) > 8.0


@pytest.mark.parametrize("law", [Gaussian(), StudentT(6.0), VolatilityShock(0.4)])
def test_variances_of_idiosyncratic_returns_are_kept(law: Any) -> None:
    check_moments(noise(law), np.diag([1.0, 4.0]))


def test_idiosyncratic_laws() -> None:
    heavy, shocked = noise(StudentT(5.0)), noise(VolatilityShock(0.3))
    assert stats.kstest(heavy[:, 1] / 2.0, stats.t(5.0, scale=np.sqrt(0.6)).cdf).pvalue > 1e-3
    assert abs(np.corrcoef(heavy**2, rowvar=False)[0, 1]) < 0.02  # each asset has its own
    assert stats.kurtosis(shocked[:, 0], fisher=False) == pytest.approx(3.0 * np.exp(4.0 * 0.3**2), rel=0.05)
    # Cov(m^2 a^2, m^2 b^2) = E m^4 - 1 for independent a, b of variance one, over Var(m^2 a^2) = 3 E m^4 - 1
    fourth = np.exp(4.0 * 0.3**2)
    together = np.corrcoef(shocked**2, rowvar=False)[0, 1]
    assert together == pytest.approx((fourth - 1.0) / (3.0 * fourth - 1.0), abs=0.02)


def test_laws_without_effect_change_nothing() -> None:
    plain = factors(None, 1000)
    np.testing.assert_array_equal(factors(Gaussian(), 1000), plain)
    tiny = factors(Jumps(1e-12, 0.0, 0.0), 1000)
    np.testing.assert_allclose(tiny, plain, rtol=1e-9)


def test_more_scenarios_leave_the_first_as_they_are() -> None:
    law = SkewedT(8.0, -0.3)
    np.testing.assert_array_equal(factors(law, 5000)[:1000], factors(law, 1000))


def streamed(**changes: Any) -> ScenarioSet:
    return factor_model(UNIT, COVARIANCE, 0.01, n_scenarios=100, seed=1, **changes)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: StudentT(2.0), "StudentT: freedom must be above 2"),
        (lambda: StudentT("many"), "StudentT: freedom must be a number above 2"),
        (lambda: SkewedT(4.0, 0.1), "SkewedT: freedom must be above 4"),
        (lambda: Jumps(0.0, 0.1, 0.1), "Jumps: intensity must be above 0"),
        (lambda: Jumps(1.0, 0.1, 0.1, "doubled"), "covariance must be 'kept' or 'added', was 'doubled'"),
        (lambda: VolatilityShock(-0.1), "VolatilityShock: volatility must be at least 0"),
        (lambda: streamed(factors=SkewedT(5.0, 1.5)), "skew must lie between -1 and 1"),
        (lambda: streamed(factors=SkewedT(5.0, {"market": 0.9, "rates": 0.9})), "has more variance than"),
        (lambda: streamed(factors=SkewedT(5.0, {"markt": 0.1, "rates": 0.1})), "did you mean 'market'"),
        (lambda: streamed(factors=Jumps(1.0, -0.5, 0.1)), "smaller or fewer jumps"),
        (lambda: streamed(factors=Jumps(1.0, 0.0, -0.1)), "volatility is negative for 'market', 'rates'"),
        (lambda: streamed(factors=VolatilityShock(0.1)), "factors must be Gaussian, StudentT, SkewedT or Jumps"),
        (lambda: streamed(idiosyncratic=Jumps(1.0, 0.0, 0.1)), "idiosyncratic must be Gaussian, StudentT or"),
        (lambda: streamed(factors=StudentT(5.0), degrees_of_freedom=5.0), "makes all returns together a Student t"),
        (lambda: factors(SkewedT(8.0, 0.1), 100, antithetic=True), "mirror independent ones of a symmetric law"),
    ],
)
def test_what_is_refused(make: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        make()

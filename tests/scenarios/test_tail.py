"""Value-at-risk and CVaR: examples by hand, the minimisation formula as an oracle, and properties."""

from __future__ import annotations

from fractions import Fraction
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from portfolioopt.errors import InputError
from portfolioopt.scenarios import tail
from portfolioopt.scenarios.tail import check_beta

TEN = np.array([9.0, 1.0, 7.0, 3.0, 10.0, 2.0, 8.0, 4.0, 6.0, 5.0])
EQUAL = np.full(10, 0.1)


# -- by hand -------------------------------------------------------------------------------------------------


def test_a_tail_of_whole_scenarios() -> None:
    worst = tail(TEN, EQUAL, 0.8)
    assert worst.var == 9.0
    assert worst.cvar == pytest.approx(9.5, rel=1e-14)
    np.testing.assert_allclose(worst.weights, 0.5 * (TEN >= 9), atol=1e-14)


def test_a_tail_with_half_a_scenario() -> None:
    worst = tail(TEN, EQUAL, 0.75)
    assert worst.var == 8.0
    assert worst.cvar == pytest.approx((10 + 9 + 8 / 2) / 2.5, rel=1e-14)
    np.testing.assert_allclose(worst.weights, np.select([TEN >= 9, TEN == 8], [0.4, 0.2]), atol=1e-14)


def test_a_tail_within_the_worst_scenario() -> None:
    worst = tail(TEN, EQUAL, 0.99)
    assert (worst.var, worst.cvar) == (10.0, 10.0)
    np.testing.assert_allclose(worst.weights, 1.0 * (TEN == 10), atol=1e-14)


def test_unequal_probabilities() -> None:
    # worst first: 4 with .05, 3 with .10, 2 with .15: the tail of .20 takes a third of the last
    losses = np.array([1.0, 3.0, 2.0, 4.0, 0.0])
    worst = tail(losses, np.array([0.3, 0.1, 0.15, 0.05, 0.4]), 0.8)
    assert worst.var == 2.0
    assert worst.cvar == pytest.approx((4 * 0.05 + 3 * 0.10 + 2 * 0.05) / 0.2, rel=1e-14)
    np.testing.assert_allclose(worst.weights, [0.0, 0.5, 0.25, 0.25, 0.0], atol=1e-14)


def test_ties_share_in_proportion_to_their_probabilities() -> None:
    # .10 beyond the value-at-risk; the other .10 of the tail is shared 1 : 3 by the two losses of 2
    losses = np.array([5.0, 2.0, 2.0, 0.0])
    worst = tail(losses, np.array([0.1, 0.1, 0.3, 0.5]), 0.8)
    assert worst.var == 2.0
    assert worst.cvar == pytest.approx(3.5, rel=1e-14)
    np.testing.assert_allclose(worst.weights, [0.5, 0.125, 0.375, 0.0], atol=1e-14)


def test_all_tied() -> None:
    probabilities = np.array([0.2, 0.3, 0.5])
    worst = tail(np.full(3, -0.01), probabilities, 0.95)
    assert (worst.var, worst.cvar) == (-0.01, -0.01)
    np.testing.assert_allclose(worst.weights, probabilities, atol=1e-15)


def test_a_scenario_without_probability_does_not_count() -> None:
    worst = tail(np.array([99.0, 2.0, 1.0]), np.array([0.0, 0.5, 0.5]), 0.9)
    assert (worst.var, worst.cvar) == (2.0, 2.0)
    assert worst.weights.tolist() == [0.0, 1.0, 0.0]


@pytest.mark.parametrize("count", [3, 7, 10, 100, 1000, 4096])
def test_rounding_never_moves_the_end_of_a_whole_tail(count: int) -> None:
    losses = np.random.default_rng(0).permutation(count).astype(float)
    for inside in range(1, count, max(1, count // 50)):
        worst = tail(losses, np.full(count, 1.0 / count), float(1 - Fraction(inside, count)))
        assert worst.var == count - inside
        assert np.count_nonzero(worst.weights) == inside
        assert worst.cvar == pytest.approx((2 * count - 1 - inside) / 2, rel=1e-12)


# -- against the minimisation formula, and properties --------------------------------------------------------


@st.composite
def distributions(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Losses with ties, and probabilities with zeros."""
    count = draw(st.integers(2, 25))
    losses = draw(st.lists(st.integers(-40, 40), min_size=count, max_size=count))
    mass = draw(st.lists(st.integers(0, 6), min_size=count, max_size=count).filter(lambda m: sum(m) > 0))
    return np.array(losses) / 1000.0, np.array(mass) / sum(mass)


levels = st.one_of(st.sampled_from([0.5, 0.75, 0.8, 0.9, 0.95, 0.99, 0.999]), st.floats(0.01, 0.99), st.just(1e-6))


@given(distributions(), levels)
def test_cvar_is_the_minimum_of_the_rockafellar_uryasev_function(
    distribution: tuple[np.ndarray, np.ndarray], beta: float
) -> None:
    losses, probabilities = distribution
    worst = tail(losses, probabilities, beta)

    def function(t: float) -> float:
        return t + float(probabilities @ np.maximum(losses - t, 0.0)) / (1.0 - beta)

    # convex and piecewise linear with kinks at the losses, so one of them is a minimum
    least = min(function(t) for t in losses)
    assert worst.cvar == pytest.approx(least, abs=1e-13)
    assert function(worst.var) == pytest.approx(least, abs=1e-13)


@given(distributions(), levels)
def test_tail_weights_are_a_distribution_below_the_cap_that_attains_the_cvar(
    distribution: tuple[np.ndarray, np.ndarray], beta: float
) -> None:
    losses, probabilities = distribution
    worst = tail(losses, probabilities, beta)
    assert (worst.weights >= 0).all()
    assert worst.weights.sum() == pytest.approx(1.0, abs=1e-11)
    assert (worst.weights <= probabilities / (1 - beta) * (1 + 1e-9)).all()
    assert worst.weights @ losses == pytest.approx(worst.cvar, abs=1e-12)
    assert (losses[worst.weights > 0] >= worst.var).all()


@given(distributions(), levels)
def test_value_at_risk_is_a_quantile(distribution: tuple[np.ndarray, np.ndarray], beta: float) -> None:
    losses, probabilities = distribution
    worst = tail(losses, probabilities, beta)
    assert probabilities[losses < worst.var].sum() <= beta + 1e-12
    assert probabilities[losses <= worst.var].sum() >= beta - 1e-12
    assert worst.cvar >= worst.var


@given(distributions(), levels, st.floats(-1.0, 1.0), st.floats(0.01, 100.0))
def test_translation_and_positive_scaling(
    distribution: tuple[np.ndarray, np.ndarray], beta: float, shift: float, scale: float
) -> None:
    losses, probabilities = distribution
    before = tail(losses, probabilities, beta)
    after = tail(scale * losses + shift, probabilities, beta)
    assert after.var == pytest.approx(scale * before.var + shift, abs=1e-11)
    assert after.cvar == pytest.approx(scale * before.cvar + shift, abs=1e-11)


@given(distributions(), levels, st.randoms(use_true_random=False))
def test_the_order_of_the_scenarios_does_not_matter(
    distribution: tuple[np.ndarray, np.ndarray],
    beta: float,
    random: Random,
) -> None:
    losses, probabilities = distribution
    order = list(range(len(losses)))
    random.shuffle(order)
    before, after = tail(losses, probabilities, beta), tail(losses[order], probabilities[order], beta)
    assert after.var == before.var
    assert after.cvar == pytest.approx(before.cvar, abs=1e-14)
    np.testing.assert_allclose(after.weights, before.weights[order], atol=1e-12)


@given(distributions(), levels, levels)
def test_a_higher_level_is_never_less_risky(
    distribution: tuple[np.ndarray, np.ndarray], one: float, other: float
) -> None:
    low, high = (tail(*distribution, beta) for beta in sorted((one, other)))
    assert low.var <= high.var
    assert low.cvar <= high.cvar + 1e-14


@given(distributions())
def test_the_lowest_level_is_the_mean_and_the_highest_the_worst(
    distribution: tuple[np.ndarray, np.ndarray],
) -> None:
    losses, probabilities = distribution
    assert tail(losses, probabilities, 1e-12).cvar == pytest.approx(probabilities @ losses, abs=1e-11)
    assert tail(losses, probabilities, 1 - 1e-9).cvar == losses[probabilities > 0].max()


# -- levels --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.0, 1.0, -0.1, 95, float("nan"), None, "high"])
def test_levels_that_are_refused(beta: object) -> None:
    with pytest.raises(InputError, match="beta must lie strictly between 0 and 1"):
        check_beta(beta)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="beta must lie strictly between 0 and 1"):
        tail(TEN, EQUAL, beta)  # type: ignore[arg-type]


# -- against sorting everything ------------------------------------------------------------------------------


def sorted_tail(losses: np.ndarray, probabilities: np.ndarray, beta: float) -> tuple[float, float, np.ndarray]:
    """Value-at-risk, CVaR and tail probabilities from a full sort of the scenarios that have any probability."""
    alpha = 1.0 - beta
    candidates = np.flatnonzero(probabilities > 0)
    order = candidates[np.argsort(-losses[candidates], kind="stable")]
    mass = np.cumsum(probabilities[order])
    var = float(losses[order[min(int(np.searchsorted(mass, alpha * (1.0 - 1e-12))), len(order) - 1)]])
    weights = np.zeros_like(probabilities)
    beyond, tied = losses > var, losses == var
    weights[beyond] = probabilities[beyond] / alpha
    weights[tied] = probabilities[tied] * (max(1.0 - weights.sum(), 0.0) / probabilities[tied].sum())
    return var, var + float(probabilities[beyond] @ (losses[beyond] - var)) / alpha, weights


@pytest.mark.parametrize("seed", range(40))
def test_the_same_bits_as_sorting_everything(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(2, 5000))
    losses = rng.standard_t(3, count)
    if seed % 2:
        losses = losses.round(int(rng.integers(0, 3)))  # ties
    probabilities = [
        np.full(count, 1.0 / count),
        rng.dirichlet(np.ones(count)),
        np.where(losses > np.quantile(losses, 0.9), 1e-6, 1.0),  # the tail reaches far into the many
        np.where(rng.random(count) < 0.5, 0.0, 1.0) + (np.arange(count) == 0),
    ][seed // 2 % 4]
    probabilities = probabilities / probabilities.sum()
    for beta in (0.01, 0.5, 0.9, 0.95, 0.99, 1.0 - 1e-9, 1.0 - 3.0 / count if count > 3 else 0.3):
        found, wanted = tail(losses, probabilities, beta), sorted_tail(losses, probabilities, beta)
        assert (found.var, found.cvar) == wanted[:2]
        np.testing.assert_array_equal(found.weights, wanted[2])


@given(distributions(), levels)
def test_the_same_bits_as_sorting_everything_in_small(distribution: tuple[np.ndarray, np.ndarray], beta: float) -> None:
    found, wanted = tail(*distribution, beta), sorted_tail(*distribution, beta)
    assert (found.var, found.cvar) == wanted[:2]
    np.testing.assert_array_equal(found.weights, wanted[2])

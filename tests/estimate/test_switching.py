"""Markov switching: against statsmodels, brute force over all paths, and chains that are known."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from numpy.typing import NDArray
from scipy import stats

import portfolioopt as po
from portfolioopt.data import sample_prices, simple_returns
from portfolioopt.estimate import MarkovSwitching, SwitchingFit
from portfolioopt_kernels.hidden_markov import HiddenMarkov, infer

ALL = simple_returns(sample_prices()).iloc[-1500:]
MARKET = ALL.mean(axis=1).rename("market")


@pytest.fixture(scope="module")
def fit() -> SwitchingFit:
    return MarkovSwitching().fit(MARKET)


def model(states: int, width: int, seed: int) -> HiddenMarkov:
    rng = np.random.default_rng(seed)
    roots = rng.normal(size=(states, width, width))
    return HiddenMarkov(
        rng.dirichlet(np.ones(states)),
        rng.dirichlet(np.ones(states), size=states),
        rng.normal(size=(states, width)),
        roots @ roots.transpose(0, 2, 1) + 0.2 * np.eye(width),
    )


def by_paths(x: NDArray[np.float64], chain: HiddenMarkov) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """Log likelihood, filtered and smoothed probabilities from the joint density of every path of states."""
    rows, states = len(x), len(chain.initial)

    def density(rows: int) -> dict[tuple[int, ...], float]:
        found = {}
        for path in itertools.product(range(states), repeat=rows):
            p = chain.initial[path[0]] * np.prod([chain.transition[i, j] for i, j in itertools.pairwise(path)])
            p *= np.prod(
                [stats.multivariate_normal(chain.means[s], chain.covariances[s]).pdf(x[t]) for t, s in enumerate(path)]
            )
            found[path] = float(p)
        return found

    filtered, smoothed = np.zeros((rows, states)), np.zeros((rows, states))
    for t in range(rows):
        for path, p in density(t + 1).items():
            filtered[t, path[-1]] += p
    whole = density(rows)
    for path, p in whole.items():
        for t, s in enumerate(path):
            smoothed[t, s] += p
    total = sum(whole.values())
    return float(np.log(total)), filtered / filtered.sum(axis=1, keepdims=True), smoothed / total


# -- the recursions ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", [0, 1])
def test_filter_and_smoother_are_sums_over_all_paths(seed: int) -> None:
    chain = model(3, 2, seed)
    x = np.random.default_rng(seed).normal(size=(6, 2))
    log_likelihood, filtered, smoothed = by_paths(x, chain)
    padded = np.pad(x, ((0, 2), (0, 0)), constant_values=1e3)  # rows that are not valid must not count
    with jax.enable_x64(True):
        found = jax.tree.map(np.asarray, infer(padded, np.arange(8) < 6, chain))
    assert found.log_likelihood == pytest.approx(log_likelihood, rel=1e-12)
    np.testing.assert_allclose(found.filtered[:6], filtered, rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(found.smoothed[:6], smoothed, rtol=1e-9, atol=1e-14)


def test_a_row_that_no_state_explains_does_no_harm(fit: SwitchingFit) -> None:
    crash = MARKET.copy()
    crash.iloc[700] = -5.0  # five hundred standard deviations
    filtered = fit.filter(crash)
    assert np.isfinite(filtered).all(axis=None)
    assert filtered.iloc[700, 1] == pytest.approx(1.0)


# -- the estimate ------------------------------------------------------------------------------------------------
def test_likelihood_is_that_of_statsmodels(fit: SwitchingFit) -> None:
    peer = sm.tsa.MarkovRegression(100 * MARKET.to_numpy(), k_regimes=2, switching_variance=True).fit(
        start_params=[
            fit.transition.loc[0, 0],
            fit.transition.loc[1, 0],
            *(100 * fit.means["market"]),
            *(1e4 * fit.covariances[k].iloc[0, 0] for k in (0, 1)),
        ]
    )
    theirs = peer.llf + len(MARKET) * np.log(100)
    # they start the chain from its stationary probabilities, this estimates the first state as well
    assert theirs - 1e-4 <= fit.log_likelihood <= theirs - np.log(fit.stationary.min()) + 1e-4
    same = SwitchingFit(
        **{
            **vars(fit),
            "transition": pd.DataFrame([[peer.params[0], 1 - peer.params[0]], [peer.params[1], 1 - peer.params[1]]]),
            "means": pd.DataFrame({"market": peer.params[2:4] / 100}),
            "covariances": {k: pd.DataFrame([[peer.params[4 + k] / 1e4]]) for k in (0, 1)},
        }
    )
    np.testing.assert_allclose(same.filter(MARKET), peer.filtered_marginal_probabilities, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(
        np.sqrt(peer.params[4:6]) / 100, [np.sqrt(fit.covariances[k].iloc[0, 0]) for k in (0, 1)], rtol=0.02
    )


def test_it_is_where_no_parameter_improves_the_likelihood(fit: SwitchingFit) -> None:
    base = HiddenMarkov(
        fit.initial.to_numpy(),
        fit.transition.to_numpy(),
        fit.means.to_numpy(),
        np.stack([c.to_numpy() for c in fit.covariances.values()]),
    )
    x, valid = MARKET.to_numpy()[:, None], np.ones(len(MARKET), bool)

    def value(chain: HiddenMarkov) -> float:
        with jax.enable_x64(True):
            return float(infer(x, valid, chain).log_likelihood)

    best = value(base)
    assert best == pytest.approx(fit.log_likelihood, rel=1e-10)
    for step in (-0.02, 0.02):
        for k in (0, 1):
            means, covariances, transition = (np.array(a) for a in (base.means, base.covariances, base.transition))
            means[k] += step * np.sqrt(covariances[k, 0])
            covariances[k] *= 1.0 + step
            transition[k, 1 - k] *= 1.0 + 5 * step
            transition[k, k] = 1.0 - transition[k, 1 - k]
            for change in ({"means": means}, {"covariances": covariances}, {"transition": transition}):
                assert value(base._replace(**change)) < best


def test_states_are_sorted_by_volatility_and_everything_adds_up(fit: SwitchingFit) -> None:
    assert fit.covariances[0].iloc[0, 0] < fit.covariances[1].iloc[0, 0]
    for probabilities in (fit.filtered, fit.smoothed, fit.transition):
        np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, rtol=1e-12)
    np.testing.assert_allclose(fit.stationary @ fit.transition, fit.stationary, rtol=1e-10)
    np.testing.assert_allclose(fit.predict(100_000), fit.stationary, rtol=1e-8)
    np.testing.assert_allclose(fit.predict(0), fit.filtered.iloc[-1])
    np.testing.assert_allclose(fit.predict(3), fit.predict(1) @ fit.transition @ fit.transition, rtol=1e-12)
    assert fit.durations[0] == pytest.approx(1 / fit.transition.loc[0, 1])
    np.testing.assert_allclose(fit.smoothed.iloc[-1], fit.filtered.iloc[-1], rtol=1e-9)


def test_moments_of_the_mixture_are_those_of_draws(fit: SwitchingFit) -> None:
    rng = np.random.default_rng(0)
    p = fit.predict(2).to_numpy()
    state = rng.choice(2, size=400_000, p=p)
    std = np.array([np.sqrt(fit.covariances[k].iloc[0, 0]) for k in (0, 1)])
    draws = fit.means["market"].to_numpy()[state] + std[state] * rng.normal(size=len(state))
    mean, covariance = fit.moments(2)
    assert mean["market"] == pytest.approx(draws.mean(), abs=4 * draws.std() / np.sqrt(len(draws)))
    assert np.sqrt(covariance.iloc[0, 0]) == pytest.approx(draws.std(), rel=0.01)


def test_it_finds_the_chain_that_made_the_rows() -> None:
    rng = np.random.default_rng(3)
    truth = HiddenMarkov(
        np.array([1.0, 0.0]),
        np.array([[0.97, 0.03], [0.06, 0.94]]),
        np.array([[0.05, 0.02], [-0.1, 0.1]]) * 0.01,
        np.array([[[1.0, 0.2], [0.2, 0.5]], [[4.0, 3.0], [3.0, 6.0]]]) * 1e-4,
    )
    state, rows = 0, []
    states = []
    for _ in range(1500):
        states.append(state)
        rows.append(rng.multivariate_normal(truth.means[state], truth.covariances[state]))
        state = int(rng.random() > truth.transition[state, 0])
    frame = pd.DataFrame(rows, columns=["A", "B"])
    found = MarkovSwitching(starts=4).fit(frame)
    np.testing.assert_allclose(found.transition, truth.transition, atol=0.03)
    for k in (0, 1):
        np.testing.assert_allclose(found.covariances[k], truth.covariances[k], rtol=0.25, atol=2e-5)
        std = np.sqrt(np.diag(truth.covariances[k]))
        np.testing.assert_allclose(found.means.loc[k], truth.means[k], atol=4 * std.max() / np.sqrt(300))
    assert np.mean(found.smoothed[1].gt(0.5) == np.array(states)) > 0.95
    unit = MarkovSwitching(starts=4).fit(1e4 * frame + [3.0, -7.0])
    assert unit.log_likelihood == pytest.approx(found.log_likelihood - 2 * 1500 * np.log(1e4), rel=1e-7)
    np.testing.assert_allclose(unit.filtered, found.filtered, atol=1e-4)


@pytest.mark.parametrize("settings", [{"covariance": "diagonal"}, {"switching_mean": False}])
def test_restricted_models_are_less_likely_and_are_what_they_say(settings: dict[str, Any]) -> None:
    pair = ALL[["JPM", "XOM"]]
    free = MarkovSwitching(starts=4).fit(pair)
    bound = MarkovSwitching(starts=4, **settings).fit(pair)
    assert bound.log_likelihood < free.log_likelihood
    if "covariance" in settings:
        for matrix in bound.covariances.values():
            assert matrix.loc["JPM", "XOM"] == 0.0
    else:
        np.testing.assert_allclose(bound.means.loc[0], bound.means.loc[1], rtol=1e-12)


def test_the_same_seed_gives_the_same_model() -> None:
    one, other = (MarkovSwitching(starts=4).fit(ALL[["JPM", "XOM"]]) for _ in range(2))
    pd.testing.assert_frame_equal(one.filtered, other.filtered, rtol=0, atol=0)


# -- what is known when ------------------------------------------------------------------------------------------
def test_what_comes_later_does_not_matter_for_filtered_states(fit: SwitchingFit) -> None:
    later = MARKET.copy()
    later.iloc[1000:] = 0.05
    np.testing.assert_array_equal(fit.filter(later).iloc[:1000], fit.filter(MARKET).iloc[:1000])
    assert not np.allclose(fit.filter(later).iloc[1000:], fit.filter(MARKET).iloc[1000:])


def test_walking_knows_nothing_of_what_comes() -> None:
    estimator = MarkovSwitching(starts=4)
    walked = estimator.walk(MARKET, first=1300, every=100)
    assert walked.index.equals(MARKET.index[1299:])
    later = MARKET.copy()
    later.iloc[1450:] *= -3.0
    again = estimator.walk(later, first=1300, every=100)
    np.testing.assert_array_equal(walked.iloc[:151], again.iloc[:151])
    fit = estimator.fit(MARKET.iloc[:1400])
    np.testing.assert_allclose(walked.iloc[100:200], fit.filter(MARKET.iloc[:1499]).iloc[1399:], rtol=1e-9, atol=1e-15)


# -- bad input ---------------------------------------------------------------------------------------------------
def test_bad_input() -> None:
    with pytest.raises(po.InputError, match="states must be a whole number, at least 2"):
        MarkovSwitching(states=1)
    with pytest.raises(po.InputError, match="covariance must be 'full' or 'diagonal'"):
        MarkovSwitching(covariance="spherical")
    with pytest.raises(po.InputError, match="needs at least 20 rows of returns"):
        MarkovSwitching().fit(MARKET.iloc[:19])
    with pytest.raises(po.InputError, match="must be a frame of periods x assets or a Series, was ndarray"):
        MarkovSwitching().fit(MARKET.to_numpy())
    with pytest.raises(po.InputError, match="series that vary"):
        MarkovSwitching().fit(0.0 * MARKET)
    double = pd.DataFrame({"A": MARKET, "B": 2.0 * MARKET})
    with pytest.raises(po.InputError, match=r"combinations of others.*'A', 'B'.*covariance='diagonal'"):
        MarkovSwitching().fit(double)


def test_too_many_states_and_too_few_iterations_are_not_accepted(fit: SwitchingFit) -> None:
    with pytest.raises(po.StalledError, match="still grows after 2 iterations") as caught:
        MarkovSwitching(limit=2).fit(MARKET)
    assert caught.value.result.log_likelihood < fit.log_likelihood
    few = pd.Series([0.0] * 40 + [1.0, -1.0] + [0.0] * 38)
    with pytest.raises(
        po.InputError, match=r"every start ends with one on fewer rows.*or with states that are all alike"
    ):
        MarkovSwitching().fit(few)
    with pytest.raises(po.InputError, match="the model is for"):
        fit.filter(MARKET.rename("other"))

"""Variance reduction: right on average, closer than independent draws, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from portfolioopt.errors import InputError
from portfolioopt.scenarios import (
    QuasiRandom,
    ScenarioSet,
    Stratified,
    StudentT,
    TailImportance,
    effective_sample_size,
    factor_model,
    factor_monte_carlo,
)

ASSETS, FACTORS = pd.Index(list("ABCD")), pd.Index(["market", "rates"])
EXPOSURES = pd.DataFrame([[1.0, 0.2], [0.8, -0.5], [1.2, 0.0], [0.6, 1.0]], ASSETS, FACTORS)
COVARIANCE = pd.DataFrame([[4e-4, -1e-4], [-1e-4, 1e-4]], FACTORS, FACTORS)
VARIANCE = pd.Series([1e-5, 4e-5, 2.5e-5, 0.0], ASSETS)
MEAN = pd.Series([0.001, -0.002, 0.003, 0.0], ASSETS)
WEIGHTS = pd.Series([0.4, 0.1, 0.3, 0.2], ASSETS)
EXPECTED = EXPOSURES.to_numpy() @ COVARIANCE.to_numpy() @ EXPOSURES.to_numpy().T + np.diag(VARIANCE.to_numpy())
VOLATILITY = float(np.sqrt(WEIGHTS @ EXPECTED @ WEIGHTS))
TRUE_MEAN = float(WEIGHTS @ MEAN)
BETA = 0.95
REPEATS = 150


def draw(count: int = 1024, seed: int = 1, **changes: Any) -> ScenarioSet:
    return factor_monte_carlo(EXPOSURES, COVARIANCE, VARIANCE, count, seed=seed, mean=MEAN, **changes)


def conditional_value_at_risk(freedom: float | None) -> float:
    """In closed form; McNeil, Frey & Embrechts (2015), examples 2.14 and 2.15."""
    if freedom is None:
        standard = stats.norm.pdf(stats.norm.ppf(BETA)) / (1.0 - BETA)
    else:
        quantile = stats.t(freedom).ppf(BETA)
        standard = stats.t(freedom).pdf(quantile) / (1.0 - BETA) * (freedom + quantile**2) / (freedom - 1.0)
        standard *= np.sqrt((freedom - 2.0) / freedom)
    return -TRUE_MEAN + VOLATILITY * float(standard)


def estimates(freedom: float | None, number: Callable[[ScenarioSet], float], **scheme: Any) -> np.ndarray:
    """A number of 1024 scenarios by each of some seeds."""
    settings = {"n_scenarios": 1024, "chunk_rows": 1024, "means": MEAN, "degrees_of_freedom": freedom, **scheme}
    std = np.sqrt(VARIANCE)
    return np.array(
        [number(factor_model(EXPOSURES, COVARIANCE, std, seed=seed, **settings)) for seed in range(REPEATS)]
    )


def risk(scenarios: ScenarioSet) -> float:
    return scenarios.tail(WEIGHTS, BETA).cvar


def mean(scenarios: ScenarioSet) -> float:
    return float(WEIGHTS @ scenarios.mean())


@lru_cache
def plain_risks(freedom: float | None) -> np.ndarray:
    return estimates(freedom, risk)


# how many times as many independent scenarios it would take for the same standard error, at least
@pytest.mark.parametrize(
    ("scheme", "freedom", "gain"),
    [
        (Stratified(WEIGHTS), None, 50.0),
        (Stratified(factor="market"), None, 3.0),
        (QuasiRandom(), None, 5.0),
        (QuasiRandom("latin_hypercube"), None, 3.0),
        (TailImportance(WEIGHTS, BETA), None, 3.0),
        (TailImportance(WEIGHTS, BETA), 6.0, 1.3),
        (Stratified(WEIGHTS), 6.0, 1.3),
    ],
)
def test_risk_of_the_portfolio(scheme: Any, freedom: float | None, gain: float) -> None:
    found, plain = estimates(freedom, risk, sampling=scheme), plain_risks(freedom)
    exact = conditional_value_at_risk(freedom)
    assert found.var() * gain < plain.var()
    # unbiased beside what independent draws scatter, and beside their own scatter but for a bias of order 1/S
    assert abs(found.mean() - exact) < 4.0 * found.std() / np.sqrt(REPEATS) + exact / 1024


@pytest.mark.parametrize("scheme", [Stratified(WEIGHTS), QuasiRandom(), QuasiRandom("latin_hypercube")])
def test_means_are_closer_too(scheme: Any) -> None:
    found = estimates(None, mean, sampling=scheme)
    assert found.std() < 0.3 * VOLATILITY / np.sqrt(1024)
    assert abs(found.mean() - TRUE_MEAN) < 4.0 * found.std() / np.sqrt(REPEATS)


@pytest.mark.parametrize(
    "scheme",
    [Stratified(WEIGHTS), Stratified(factor="rates"), QuasiRandom("latin_hypercube"), TailImportance(WEIGHTS)],
)
@pytest.mark.parametrize("freedom", [None, 8.0])
def test_the_distribution_is_that_of_the_model(scheme: Any, freedom: float | None) -> None:
    scenarios = draw(200_000, sampling=scheme, freedom=freedom)
    std = np.sqrt(np.diag(EXPECTED))
    size = effective_sample_size(scenarios) / 2.0  # for squares, of which fewer come in the tail
    np.testing.assert_array_less(np.abs(scenarios.mean() - MEAN), 4.0 * std / np.sqrt(size))
    kurtosis = 3.0 if freedom is None else 3.0 * (freedom - 2.0) / (freedom - 4.0)
    bound = 4.0 * np.sqrt(kurtosis / size) * np.outer(std, std)
    np.testing.assert_array_less(np.abs(scenarios.covariance() - EXPECTED), bound)
    # another portfolio than the scheme knows
    other = pd.Series([0.5, -0.5, 0.5, -0.5], ASSETS)
    law = stats.norm() if freedom is None else stats.t(freedom, scale=np.sqrt((freedom - 2.0) / freedom))
    z = (scenarios.losses(other).to_numpy() + other @ MEAN) / np.sqrt(other @ EXPECTED @ other)
    order = np.argsort(z)
    distance = np.abs(np.cumsum(scenarios.probabilities[order]) - law.cdf(z[order])).max()
    assert distance < 1.95 / np.sqrt(size)  # a p-value of a thousandth


def test_strata_hold_one_scenario_each() -> None:
    scenarios = draw(1000, sampling=Stratified(WEIGHTS))
    z = (-scenarios.losses(WEIGHTS) - TRUE_MEAN) / VOLATILITY
    np.testing.assert_array_equal(np.sort(np.floor(1000 * stats.norm.cdf(z))), np.arange(1000))
    assert abs(np.corrcoef(np.arange(1000), z)[0, 1]) < 0.15  # in no order


def test_latin_hypercubes_have_one_score_in_each_stratum_of_each_factor() -> None:
    flat = pd.DataFrame(np.eye(2), FACTORS, FACTORS)
    scores = factor_monte_carlo(flat, flat, 0.0, 500, seed=1, sampling=QuasiRandom("latin_hypercube")).matrix
    for column in scores.T:
        np.testing.assert_array_equal(np.sort(np.floor(500 * stats.norm.cdf(column))), np.arange(500))


def test_likelihood_ratios_are_densities_over_each_other() -> None:
    scheme = TailImportance(WEIGHTS, 0.99, defensive=0.3)
    scenarios = draw(50_000, sampling=scheme)
    z = (-scenarios.losses(WEIGHTS).to_numpy() - TRUE_MEAN) / VOLATILITY
    shift = stats.norm.ppf(0.99)
    ratio = stats.norm.pdf(z) / (0.7 * stats.norm.pdf(z, -shift) + 0.3 * stats.norm.pdf(z))
    np.testing.assert_allclose(scenarios.probabilities, ratio / ratio.sum(), rtol=1e-6)
    assert ratio.max() <= 1.0 / 0.3 + 1e-9
    assert ratio.mean() == pytest.approx(1.0, abs=4.0 * ratio.std() / np.sqrt(50_000))
    beyond = float((z < -shift).mean())
    assert beyond == pytest.approx(0.7 * 0.5 + 0.3 * 0.01, abs=0.01)
    expected = len(ratio) * ratio.mean() ** 2 / np.mean(ratio**2)
    assert effective_sample_size(scenarios) == pytest.approx(expected)
    assert effective_sample_size(draw(1000)) == pytest.approx(1000.0)


@pytest.mark.parametrize("engine", ["numpy", "jax"])
@pytest.mark.parametrize("scheme", [Stratified(WEIGHTS), TailImportance(WEIGHTS)])
def test_streamed_scenarios_are_those_kept(scheme: Any, engine: Any) -> None:
    count = 70_001
    streamed = factor_model(
        EXPOSURES,
        COVARIANCE,
        np.sqrt(VARIANCE),
        n_scenarios=count,
        seed=1,
        means=MEAN,
        sampling=scheme,
        engine=engine,
        degrees_of_freedom=5.0,
        workers=2,
    )
    kept = draw(count, sampling=scheme, engine=engine, freedom=5.0)
    np.testing.assert_array_equal(np.concatenate([rows for _, rows in streamed.source.blocks()]), kept.matrix)
    np.testing.assert_array_equal(streamed.probabilities, kept.probabilities)
    assert risk(streamed) == pytest.approx(conditional_value_at_risk(5.0), rel=0.02)


def test_seeds() -> None:
    for scheme in (Stratified(WEIGHTS), Stratified(factor="market"), QuasiRandom(), TailImportance(WEIGHTS)):
        np.testing.assert_array_equal(draw(sampling=scheme).matrix, draw(sampling=scheme).matrix)
        assert (draw(sampling=scheme).matrix != draw(sampling=scheme, seed=2).matrix).all()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Stratified(), "takes either a portfolio or a factor"),
        (lambda: Stratified(WEIGHTS, "market"), "takes either a portfolio or a factor"),
        (lambda: QuasiRandom("halton"), "points must be 'sobol' or 'latin_hypercube', was 'halton'"),
        (lambda: TailImportance(WEIGHTS, 1.0), "beta must be below 1"),
        (lambda: TailImportance(WEIGHTS, defensive=0.0), "defensive must be above 0"),
        (lambda: draw(1000, sampling=QuasiRandom()), "take 512 or 1024"),
        (lambda: draw(sampling=Stratified(factor="markt")), "did you mean 'market'"),
        (lambda: draw(sampling=Stratified({"A": 1.0})), "says nothing about 'B', 'C', 'D'"),
        (lambda: draw(sampling=TailImportance({**WEIGHTS, "E": 1.0})), "unknown asset"),
        (lambda: draw(sampling=TailImportance(0.0 * WEIGHTS)), "has no risk"),
        (lambda: draw(sampling="sobol"), "sampling must be Stratified, QuasiRandom or TailImportance, was str"),
        (lambda: draw(sampling=Stratified(WEIGHTS), factors=StudentT(5.0)), "leave out sampling=, or factors="),
        (lambda: draw(sampling=Stratified(WEIGHTS), antithetic=True), "leave out sampling="),
        (lambda: draw(sampling=QuasiRandom(), engine="jax"), "take engine='numpy'"),
    ],
)
def test_what_is_refused(make: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        make()

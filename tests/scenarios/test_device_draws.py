"""Factor Monte Carlo made by JAX: published bits, laws of the numbers, independence of blocks, and the same model."""

from __future__ import annotations

import pickle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax.extend.random import threefry_2x32
from scipy import stats

from portfolioopt.errors import InputError
from portfolioopt.scenarios import (
    Jumps,
    ScenarioSet,
    StudentT,
    VolatilityShock,
    factor_model,
    factor_monte_carlo,
)
from portfolioopt_kernels.sampling import threefry

FACTORS = pd.Index(["market", "rates"])
ASSETS = pd.Index(list("ABCDE"))  # an odd number, so that a column is cut off
EXPOSURES = pd.DataFrame([[1.0, 0.2], [0.8, -0.5], [1.2, 0.0], [0.0, 1.0], [0.5, 0.5]], ASSETS, FACTORS)
COVARIANCE = pd.DataFrame([[4e-4, -1e-4], [-1e-4, 1e-4]], FACTORS, FACTORS)
STD = pd.Series([0.01, 0.02, 0.005, 0.0, 0.01], ASSETS)
MEANS = pd.Series([0.001, -0.002, 0.003, 0.0, 0.0], ASSETS)
EXPECTED = EXPOSURES.to_numpy() @ COVARIANCE.to_numpy() @ EXPOSURES.to_numpy().T + np.diag(STD.to_numpy() ** 2)
ROWS = 50_000


def draw(count: int = 2 * ROWS, **changes: Any) -> ScenarioSet:
    arguments = {"n_scenarios": count, "seed": 3, "means": MEANS, "engine": "jax"}
    arguments |= {"dtype": "float32", "chunk_rows": ROWS}
    return factor_model(EXPOSURES, COVARIANCE, STD, **{**arguments, **changes})


def matrix(scenarios: ScenarioSet) -> np.ndarray:
    return np.concatenate([rows for _, rows in scenarios.source.blocks()])


def noise(count: int = 2 * ROWS, **changes: Any) -> np.ndarray:
    """Independent standard numbers: no factors, unit variances."""
    flat = pd.DataFrame(0.0, FACTORS, FACTORS)
    arguments = {"n_scenarios": count, "seed": 7, "engine": "jax", "dtype": "float32", "chunk_rows": ROWS}
    return matrix(factor_model(EXPOSURES, flat, 1.0, **{**arguments, **changes}))


def words(*numbers: str) -> tuple[jax.Array, ...]:
    return tuple(jnp.uint32(int(number, 16)) for number in numbers)


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [  # the known answers that come with Random123, for 13 rounds
        (("0", "0"), ("0", "0"), ("9d1c5ec6", "8bd50731")),
        (("ffffffff", "ffffffff"), ("ffffffff", "ffffffff"), ("fd36d048", "2d17272c")),
        (("243f6a88", "85a308d3"), ("13198a2e", "03707344"), ("ba3e4725", "f27d669e")),
    ],
)
def test_bits_are_those_published(counter: tuple[str], key: tuple[str], expected: tuple[str]) -> None:
    assert threefry(words(*key), words(*counter)) == words(*expected)


def test_with_twenty_rounds_the_bits_are_those_of_jax() -> None:
    key, counter = words("dead", "beef"), words("5", "70000000")
    theirs = threefry_2x32(jnp.stack(key), jnp.stack(counter))
    assert tuple(theirs.tolist()) == tuple(int(word) for word in threefry(key, counter, 20))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_numbers_are_standard_normal(dtype: str) -> None:
    numbers = noise(dtype=dtype)
    flat = numbers.ravel()
    count = flat.size
    assert stats.kstest(flat, stats.norm.cdf).pvalue > 1e-3
    for power, moment, spread in ((1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0), (6, 15.0, 10170.0)):
        assert abs(np.mean(flat**power) - moment) < 4.0 * np.sqrt(spread / count)
    for bound in (3.0, 4.0):  # the tails, by the Poisson law of their numbers
        expected = 2.0 * stats.norm.sf(bound) * count
        assert abs((np.abs(flat) > bound).sum() - expected) < 4.0 * np.sqrt(expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_cells_rows_and_blocks_are_independent(dtype: str) -> None:
    numbers = noise(dtype=dtype)
    first, second = numbers[:ROWS], numbers[ROWS:]
    limit = 4.5 / np.sqrt(ROWS)
    for function in (lambda x: x, lambda x: x**2 - 1.0, lambda x: np.sign(x)):
        columns = np.corrcoef(function(first), rowvar=False) - np.eye(5)
        assert np.abs(columns).max() < 1.5 * limit  # the two of a pair among them
        for other in (np.roll(first, 1, axis=0), np.roll(first, 7, axis=0), second):
            assert np.abs(np.corrcoef(function(first), function(other), rowvar=False)[:5, 5:]).max() < 1.5 * limit
    assert len(np.unique(numbers)) > 0.97 * numbers.size if dtype == "float32" else len(np.unique(numbers)) == 10 * ROWS


@pytest.mark.parametrize("freedom", [2.5, 5.0])
def test_heavy_tails_are_student_ones(freedom: float) -> None:
    flat = noise(idiosyncratic=StudentT(freedom)).ravel()
    law = stats.t(freedom, scale=np.sqrt((freedom - 2.0) / freedom))
    assert stats.kstest(flat, law.cdf).pvalue > 1e-3
    expected = 2.0 * law.sf(10.0) * flat.size
    assert abs((np.abs(flat) > 10.0).sum() - expected) < 4.0 * np.sqrt(expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_model_is_the_same(dtype: str) -> None:
    rows = matrix(draw(dtype=dtype))
    std = np.sqrt(np.diag(EXPECTED))
    np.testing.assert_array_less(np.abs(rows.mean(axis=0) - MEANS), 4.0 * std / np.sqrt(len(rows)))
    bound = 4.0 * np.sqrt(2.0 / len(rows)) * np.outer(std, std)
    np.testing.assert_array_less(np.abs(np.cov(rows, rowvar=False) - EXPECTED), bound)


@pytest.mark.parametrize(
    "laws",
    [
        {"degrees_of_freedom": 6.0},
        {"factors": Jumps(0.2, -0.01, 0.005)},
        {"idiosyncratic": VolatilityShock(0.3)},
    ],
)
def test_laws_have_the_same_quantiles_as_by_numpy(laws: dict[str, Any]) -> None:
    by_jax, by_numpy = matrix(draw(**laws)), matrix(draw(**laws, engine="numpy"))
    for column in (0, 3):
        assert stats.ks_2samp(by_jax[:, column], by_numpy[:, column]).pvalue > 1e-3
    assert stats.ks_2samp(by_jax[:, :3].min(axis=1), by_numpy[:, :3].min(axis=1)).pvalue > 1e-3


def test_the_same_seed_gives_the_same_numbers_whatever_draws_them() -> None:
    first = draw(2 * ROWS + 1)
    picks = [2 * ROWS, 0, ROWS + 5]
    for other in (draw(4 * ROWS, workers=2), pickle.loads(pickle.dumps(first))):
        np.testing.assert_array_equal(other.source.rows(picks), first.source.rows(picks))
    assert not np.isin(draw(seed=4).source.rows(picks[1:]), first.source.rows(picks[1:])).any()


def test_kept_in_memory_it_is_float32_and_the_same_for_any_number_of_workers() -> None:
    count = (1 << 20) // 5 + 11  # two blocks
    kept = [
        factor_monte_carlo(
            EXPOSURES, COVARIANCE, STD**2, count, seed=1, mean=MEANS, engine="jax", dtype="float32", workers=workers
        )
        for workers in (1, 2)
    ]
    assert kept[0].matrix.dtype == np.float32
    assert not kept[0].matrix.flags.writeable
    np.testing.assert_array_equal(kept[0].matrix, kept[1].matrix)
    np.testing.assert_allclose(kept[0].covariance(), EXPECTED, atol=3e-6)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"engine": "cuda"}, "engine must be 'numpy' or 'jax', was 'cuda'"),
        ({"dtype": "float16"}, "dtype must be 'float64' or 'float32'"),
        ({"chunk_rows": 0}, "chunk_rows must be a whole number, at least 1"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        draw(**changes)

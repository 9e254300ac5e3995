"""Paths: where they end, what portfolios on them are worth, and drawdowns by brute force."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from portfolioopt.errors import InputError
from portfolioopt.scenarios import Jumps, Paths, block_bootstrap, bootstrap_paths, factor_monte_carlo, factor_paths

ASSETS = ["A", "B"]
WEIGHTS = pd.Series({"A": 0.7, "B": 0.2})  # a tenth stays in cash
FACTORS = pd.Index(["market"])
MODEL = (pd.DataFrame(1.0, ASSETS, FACTORS), pd.DataFrame(1e-4, FACTORS, FACTORS), 1e-4)


def returns(shape: tuple[int, ...] = (50, 8, 2), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.002, 0.05, shape)


def history(rows: int = 200) -> pd.DataFrame:
    return pd.DataFrame(returns((rows, 2)), pd.date_range("2020-01-01", periods=rows), ASSETS)


def test_returns_of_the_horizon() -> None:
    raw = returns()
    paths = Paths(raw, ASSETS)
    horizon = paths.horizon_returns()
    np.testing.assert_allclose(horizon.matrix, np.prod(1.0 + raw, axis=1) - 1.0, atol=1e-14)
    assert horizon.horizon == "8 periods"
    assert repr(paths) == "Paths(50 scenarios x 8 periods x 2 assets)"
    assert not paths.paths.flags.writeable
    raw[:] = 0.0  # a copy was taken
    assert paths.paths.any()


@pytest.mark.parametrize("rebalanced", [True, False])
def test_values_and_drawdowns_by_hand(rebalanced: bool) -> None:
    raw = returns()
    paths = Paths(raw, ASSETS)
    values = paths.values(WEIGHTS, rebalanced=rebalanced)
    drawdowns = paths.max_drawdown(WEIGHTS, rebalanced=rebalanced)
    for s, path in enumerate(raw):
        cash, held = 0.1, np.array([0.7, 0.2])
        worth = [1.0]
        for step in path:
            held = held * (1.0 + step)
            total = cash + held.sum()
            worth.append(total)
            if rebalanced:
                cash, held = 0.1 * total, np.array([0.7, 0.2]) * total
        np.testing.assert_allclose(values.loc[s], worth, rtol=1e-12)
        worst = max(1.0 - worth[j] / worth[i] for i in range(9) for j in range(i, 9))
        assert drawdowns[s] == pytest.approx(worst, abs=1e-12)


def test_held_portfolios_end_where_the_horizon_returns_say() -> None:
    paths = Paths(returns(), ASSETS)
    held = paths.values(WEIGHTS, rebalanced=False).iloc[:, -1]
    np.testing.assert_allclose(held, 1.0 - paths.horizon_returns().losses(WEIGHTS), rtol=1e-12)


def test_a_path_that_only_rises_has_no_drawdown() -> None:
    assert (Paths(np.abs(returns()), ASSETS).max_drawdown(WEIGHTS) == 0.0).all()


def test_probabilities_are_kept() -> None:
    p = np.arange(1.0, 51.0) / np.arange(1.0, 51.0).sum()
    np.testing.assert_allclose(Paths(returns(), ASSETS, p).horizon_returns().probabilities, p)


@pytest.mark.parametrize("method", ["stationary", "circular"])
def test_bootstrap_paths_end_in_the_scenarios_of_the_bootstrap(method: str) -> None:
    paths = bootstrap_paths(history(), 400, horizon=6, seed=2, method=method)
    scenarios = block_bootstrap(history(), 400, horizon=6, seed=2, method=method)
    np.testing.assert_array_equal(paths.horizon_returns().matrix, scenarios.matrix)
    rows = {row.tobytes() for row in history().to_numpy()}
    assert all(step.tobytes() in rows for step in paths.paths.reshape(-1, 2))


def test_long_blocks_keep_the_volatility_clusters_of_history_and_single_rows_do_not() -> None:
    rng = np.random.default_rng(3)
    volatility = np.repeat(np.exp(rng.normal(-4.0, 0.8, 50)), 40)  # two months at a time
    past = pd.DataFrame({"A": volatility * rng.normal(size=2000), "B": volatility * rng.normal(size=2000)})

    def clusters(values: np.ndarray) -> float:
        squares = np.abs(values - values.mean())
        return float(np.corrcoef(squares[..., 1:].ravel(), squares[..., :-1].ravel())[0, 1])

    found = [
        clusters(bootstrap_paths(past, 2000, horizon=40, seed=4, block_length=length).paths[:, :, 0])
        for length in (1, 20)
    ]
    true = clusters(past["A"].to_numpy())
    assert abs(found[0]) < 0.02
    assert found[1] == pytest.approx(0.95 * true, abs=0.05)  # nineteen of twenty neighbours stay together


def test_factor_paths_are_independent_periods_of_the_model() -> None:
    paths = factor_paths(*MODEL, 20_000, horizon=5, seed=1, mean=0.001, factors=Jumps(0.2, -0.005, 0.005))
    drawn = factor_monte_carlo(*MODEL, 100_000, seed=1, mean=0.001, factors=Jumps(0.2, -0.005, 0.005))
    np.testing.assert_array_equal(paths.paths.reshape(-1, 2), drawn.matrix)
    growth = 1.0 + paths.horizon_returns().matrix
    # moments of products of independent growth factors
    assert growth[:, 0].mean() == pytest.approx(1.001**5, abs=4.0 * growth[:, 0].std() / np.sqrt(20_000))
    square = 1.001**2 + 2e-4
    assert np.mean(growth[:, 0] ** 2) == pytest.approx(square**5, abs=4.0 * np.std(growth[:, 0] ** 2) / np.sqrt(20_000))


def test_later_rows_change_nothing() -> None:
    past, longer = history(150), history(200)
    np.testing.assert_array_equal(past, longer.iloc[:150])
    longer.iloc[150:] = 0.5
    one, other = (bootstrap_paths(frame, 20, horizon=4, seed=1).paths for frame in (past, longer.loc[: past.index[-1]]))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (returns((5, 2)), "must have three axes"),
        (np.full((5, 3, 2), np.nan), "none missing"),
        (np.full((5, 3, 2), -1.5), "none below -100 %"),
        (returns((1, 3, 2)), "at least two scenarios"),
        (returns((5, 3, 4)), "2 labels for 4 columns"),
    ],
)
def test_what_is_refused(raw: np.ndarray, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Paths(raw, ASSETS)


def test_weights_and_sizes_that_are_refused() -> None:
    with pytest.raises(InputError, match="unknown asset"):
        Paths(returns(), ASSETS).values({"A": 0.5, "Z": 0.5})
    with pytest.raises(InputError, match="n_paths must be a whole number"):
        factor_paths(*MODEL, 1, horizon=5, seed=1)
    with pytest.raises(InputError, match="horizon must be a whole number"):
        factor_paths(*MODEL, 10, horizon=0, seed=1)

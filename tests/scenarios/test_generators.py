"""Scenarios from history: what is drawn, that it is consecutive, and its moments against exact theory."""

from __future__ import annotations

import sys
import tracemalloc
from typing import Literal, get_args

import numpy as np
import pandas as pd
import pytest

from portfolioopt.errors import InputError
from portfolioopt.scenarios import block_bootstrap, historical

Method = Literal["stationary", "circular"]
METHODS = get_args(Method)


def history(rows: int = 60, assets: int = 3, seed: int = 0) -> pd.DataFrame:
    values = np.random.default_rng(seed).normal(0.001, 0.02, (rows, assets))
    return pd.DataFrame(
        values, index=pd.date_range("2020-01-01", periods=rows, name="date"), columns=list("ABCDEF"[:assets])
    )


def visits(rows: int, n_scenarios: int, *, horizon: int, **options: object) -> np.ndarray:
    """How often each path visits each row of the history (S x T).

    Column t of this history gains 100 % in row t and nothing in any other, so v visits compound to 2^v - 1.
    """
    scenarios = block_bootstrap(
        pd.DataFrame(np.eye(rows)),
        n_scenarios,
        horizon=horizon,
        **options,  # type: ignore[arg-type]
    )
    return np.log2(1.0 + scenarios.matrix).round(9)


# -- history -------------------------------------------------------------------------------------------------


def test_history_is_its_own_scenarios() -> None:
    returns = history()
    scenarios = historical(returns)
    np.testing.assert_array_equal(scenarios.matrix, returns.to_numpy())
    assert scenarios.index.equals(returns.index)
    assert scenarios.horizon == "1 period"
    np.testing.assert_allclose(scenarios.probabilities, 1 / 60)


def test_the_window_takes_the_last_rows_and_looks_at_no_others() -> None:
    returns = history()
    returns.iloc[:50] = np.nan
    scenarios = historical(returns, window=10)
    pd.testing.assert_index_equal(scenarios.index, returns.index[-10:])
    np.testing.assert_array_equal(scenarios.matrix, returns.to_numpy()[-10:])


@pytest.mark.parametrize("window", [0, 1, -5, 2.0, True, "10"])
def test_windows_that_are_refused(window: object) -> None:
    with pytest.raises(InputError, match="window must be a whole number, at least 2"):
        historical(history(), window=window)  # type: ignore[arg-type]


def test_history_that_is_refused() -> None:
    returns = history()
    with pytest.raises(InputError, match="window is 61, but there are only 60 rows"):
        historical(returns, window=61)
    with pytest.raises(InputError, match=r"not in increasing order; sort them with returns\.sort_index"):
        historical(returns.iloc[::-1])
    with pytest.raises(InputError, match=r"was Series; for one asset pass returns\.to_frame"):
        historical(returns["A"])  # type: ignore[arg-type]
    with pytest.raises(InputError, match="was ndarray"):
        historical(returns.to_numpy())  # type: ignore[arg-type]
    returns.iloc[7, 1] = np.nan
    with pytest.raises(InputError, match=r"1 cells of 1 rows: \(2020-01-08.*, B\)"):
        historical(returns)


# -- what is drawn -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_a_seed_gives_one_set_and_another_seed_another(method: Method) -> None:
    first, again, other = (
        block_bootstrap(history(), 50, seed=seed, horizon=5, method=method).matrix for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).all(axis=1).mean() > 0.9


@pytest.mark.parametrize("method", METHODS)
def test_one_period_gives_rows_of_the_history_equally_often(method: Method) -> None:
    returns = history(20)
    scenarios = block_bootstrap(returns, 20_000, seed=3, method=method)
    assert scenarios.horizon == "1 period"
    row_of = {row.tobytes(): t for t, row in enumerate(returns.to_numpy())}
    counts = np.bincount([row_of[row.tobytes()] for row in scenarios.matrix], minlength=20)
    # binomial counts: mean 1000, standard deviation below 31
    assert np.abs(counts - 1000).max() < 4 * 31


def test_labels() -> None:
    scenarios = block_bootstrap(history(), 7, seed=0, horizon=21)
    pd.testing.assert_index_equal(scenarios.index, pd.RangeIndex(7, name="scenario"))
    assert scenarios.assets.tolist() == ["A", "B", "C"]
    assert scenarios.horizon == "21 periods"
    np.testing.assert_allclose(scenarios.probabilities, 1 / 7)


@pytest.mark.parametrize("horizon", [1, 3, 7, 12])
def test_a_circular_block_is_consecutive_and_wraps_around(horizon: int) -> None:
    drawn = visits(12, 3000, horizon=horizon, block_length=horizon, method="circular", seed=4)
    starts = np.arange(12)[:, None]
    runs = np.zeros((12, 12))
    runs[starts, (starts + np.arange(horizon)) % 12] = 1.0
    found = {row.tobytes() for row in drawn}
    assert found == {row.tobytes() for row in runs}  # each run of consecutive rows, and nothing else


def test_circular_blocks_are_cut_off_at_the_horizon() -> None:
    # 7 periods in blocks of 3: runs of 3, 3 and 1
    drawn = visits(1000, 400, horizon=7, block_length=3, method="circular", seed=5)
    assert (drawn.sum(axis=1) == 7).all()
    apart = 0
    for row in drawn > 0:
        begins = row & ~np.roll(row, 1)
        if row.sum() == 7 and begins.sum() == 3:
            lengths = np.diff(np.flatnonzero(np.diff(np.concatenate([[0], row, [0]]))))[::2]
            if not (row[0] and row[-1]):
                assert sorted(lengths) == [1, 3, 3]
                apart += 1
    assert apart > 350  # blocks of a path touch or overlap rarely in a history this long


@pytest.mark.parametrize("block_length", [1, 2, 5, 30])
def test_stationary_blocks_end_with_probability_one_over_their_mean_length(block_length: int) -> None:
    rows, count = 30, 40_000
    drawn = visits(rows, count, horizon=2, block_length=block_length, seed=6) > 0
    consecutive = (drawn & np.roll(drawn, -1, axis=1)).any(axis=1).mean()
    # the block goes on, or a new one begins right after or right before the first row
    p = 1 / block_length
    expected = (1 - p) + p * 2 / rows
    assert abs(consecutive - expected) < 4 * np.sqrt(expected * (1 - expected) / count) + 1e-12


def test_stationary_blocks_wrap_around() -> None:
    drawn = visits(8, 2000, horizon=2, block_length=8, seed=7)
    assert ((drawn[:, 0] == 1) & (drawn[:, 7] == 1)).mean() == pytest.approx(1 / 8, abs=0.03)


def test_the_default_block_length_is_the_cube_root_of_the_history() -> None:
    returns = history(1000)
    default = block_bootstrap(returns, 100, seed=8, horizon=21)
    explicit = block_bootstrap(returns, 100, seed=8, horizon=21, block_length=10)
    np.testing.assert_array_equal(default.matrix, explicit.matrix)


@pytest.mark.parametrize("method", METHODS)
def test_whole_rows_are_drawn_whatever_the_columns(method: Method) -> None:
    returns = history(assets=5)
    full = block_bootstrap(returns, 200, seed=9, horizon=10, method=method).returns
    for columns in (["E", "B", "A", "D", "C"], ["C"]):
        part = block_bootstrap(returns[columns], 200, seed=9, horizon=10, method=method).returns
        pd.testing.assert_frame_equal(part, full[columns], check_exact=True)


@pytest.mark.parametrize("method", METHODS)
def test_more_scenarios_extend_the_set(method: Method) -> None:
    few, many = (block_bootstrap(history(), n, seed=10, horizon=6, method=method).matrix for n in (40, 90))
    np.testing.assert_array_equal(few, many[:40])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("cells", [1, 100, 1000])
def test_the_size_of_the_chunks_changes_nothing(method: Method, cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = block_bootstrap(history(), 333, seed=11, horizon=8, method=method).matrix
    monkeypatch.setattr(sys.modules[block_bootstrap.__module__], "_CELLS", cells)
    np.testing.assert_array_equal(block_bootstrap(history(), 333, seed=11, horizon=8, method=method).matrix, whole)


def test_memory_does_not_grow_with_the_horizon() -> None:
    returns = history(500, 6)
    tracemalloc.start()
    block_bootstrap(returns, 100_000, seed=12, horizon=63)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # the set itself has 4.8 MB, all paths at once would have 300 MB
    assert peak < 40e6


# -- moments against theory ----------------------------------------------------------------------------------


def path_moment(growth: np.ndarray, horizon: int, block_length: int, method: Method) -> float:
    """Expected product of `growth` (T,) along a path, exactly."""
    if method == "stationary":  # a Markov chain on the rows of the history
        ahead = growth
        for _ in range(horizon - 1):
            ahead = growth * (ahead.mean() / block_length + (1 - 1 / block_length) * np.roll(ahead, -1))
        return float(ahead.mean())
    moment, left = 1.0, horizon
    while left:  # independent blocks
        block = min(left, block_length)
        moment *= np.prod([np.roll(growth, -k) for k in range(block)], axis=0).mean()
        left -= block
    return moment


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("horizon", "block_length"), [(1, 1), (5, 1), (5, 4), (21, 6)])
def test_first_and_second_moments(method: Method, horizon: int, block_length: int) -> None:
    noise = history(120, 3, seed=13).to_numpy()
    returns = noise + 0.6 * np.roll(noise, 1, axis=0)  # so that consecutive rows are dependent
    count = 60_000
    scenarios = block_bootstrap(
        pd.DataFrame(returns), count, seed=14, horizon=horizon, block_length=block_length, method=method
    )
    end = 1.0 + scenarios.matrix
    for i in range(3):
        expected = path_moment(1.0 + returns[:, i], horizon, block_length, method)
        error = end[:, i].std() / np.sqrt(count)
        assert abs(end[:, i].mean() - expected) < 4 * error  # four standard errors
        for j in range(i, 3):
            growth = (1.0 + returns[:, i]) * (1.0 + returns[:, j])
            product = end[:, i] * end[:, j]
            error = product.std() / np.sqrt(count)
            assert abs(product.mean() - path_moment(growth, horizon, block_length, method)) < 4 * error


def test_blocks_keep_serial_dependence_that_single_periods_lose() -> None:
    noise = np.random.default_rng(15).normal(0, 0.01, 2001)
    returns = pd.DataFrame({"A": noise[1:] - 0.9 * noise[:-1]})  # mean reverting
    independent, blocks = (
        block_bootstrap(returns, 20_000, seed=16, horizon=20, block_length=length).matrix.std() for length in (1, 20)
    )
    assert blocks < 0.6 * independent


# -- refusals ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_scenarios": 1}, "n_scenarios must be a whole number, at least 2, was 1"),
        ({"n_scenarios": 100.0}, "n_scenarios must be a whole number"),
        ({"horizon": 0}, "horizon must be a whole number, at least 1"),
        ({"horizon": 61}, "horizon is 61 periods, but the history has only 60"),
        ({"block_length": 0}, "block_length must be a whole number, at least 1"),
        ({"block_length": 2.5}, "block_length must be a whole number"),
        ({"block_length": 61}, "block_length is 61 periods, but the history has only 60"),
        ({"seed": -1}, "seed must be a whole number, at least 0"),
        ({"seed": None}, "seed must be a whole number"),
        ({"method": "moving"}, "method must be 'stationary' or 'circular', was 'moving'"),
    ],
)
def test_arguments_that_are_refused(change: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {"n_scenarios": 10, "seed": 0} | change
    with pytest.raises(InputError, match=message):
        block_bootstrap(history(), **arguments)  # type: ignore[arg-type]


def test_the_seed_is_required() -> None:
    with pytest.raises(TypeError, match="seed"):
        block_bootstrap(history(), 10)  # type: ignore[call-arg]


def test_returns_that_are_refused() -> None:
    returns = history()
    returns.loc["2020-01-05", "C"] = np.nan
    with pytest.raises(InputError, match=r"\(2020-01-05.*, C\)"):
        block_bootstrap(returns, 10, seed=0)
    returns.loc["2020-01-05", "C"] = -1.5
    with pytest.raises(InputError, match=r"-1.5 at \(2020-01-05.*, C\): a loss of more than 100 %"):
        block_bootstrap(returns, 10, seed=0, horizon=2)
    block_bootstrap(returns, 10, seed=0)  # one period compounds nothing
    with pytest.raises(InputError, match="increasing order"):
        block_bootstrap(history().iloc[::-1], 10, seed=0)

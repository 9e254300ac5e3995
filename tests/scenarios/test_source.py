"""Sources of returns: all alike to plain arithmetic on the matrix, bounded in memory, and clear about bad data."""

from __future__ import annotations

import pickle
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import portfolioopt as po
from portfolioopt.errors import InputError, UnknownNameError
from portfolioopt.scenarios import ReturnsSource, ScenarioSet, source

S, N, ROWS = 103, 7, 10
ASSETS = pd.Index([f"A{i}" for i in range(N)])
KINDS = ["memory", "memory32", "npy", "npy32", "fortran", "npy log", "parquet", "parquet32", "generated", "threads"]


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "CELLS", ROWS * N)
    monkeypatch.setattr(source, "_PARQUET_CELLS", ROWS * N)


def matrix(dtype: Any = np.float64) -> np.ndarray:
    return np.random.default_rng(5).normal(0.001, 0.02, (S, N)).astype(dtype)


class Chunks:
    """A generator of the matrix that counts its calls; a class, so that it can be pickled."""

    def __init__(self, numbers: np.ndarray, rows: int = ROWS) -> None:
        self.numbers, self.rows, self.calls = numbers, rows, []

    def __call__(self, chunk: int) -> np.ndarray:
        self.calls.append(chunk)
        return self.numbers[chunk * self.rows : (chunk + 1) * self.rows]


def make(kind: str, folder: Path, numbers: np.ndarray) -> ScenarioSet:
    """A scenario set of the given kind that holds these numbers."""
    match kind:
        case "memory":
            return ScenarioSet(numbers, assets=ASSETS)
        case "memory32":
            return ScenarioSet(numbers, assets=ASSETS, dtype="float32")
        case "npy" | "npy32" | "fortran" | "npy log":
            stored = np.log1p(numbers) if kind == "npy log" else np.asarray(numbers, order="CF"[kind == "fortran"])
            np.save(folder / "returns.npy", stored)
            return ScenarioSet.from_npy(
                folder / "returns.npy", assets=ASSETS, kind="log" if kind == "npy log" else "simple"
            )
        case "parquet" | "parquet32":
            table = pa.table({name: numbers[:, i] for i, name in enumerate(ASSETS)})
            pq.write_table(table, folder / "returns.parquet", row_group_size=37)
            return ScenarioSet.from_parquet(folder / "returns.parquet")
        case _:
            workers = 3 if kind == "threads" else 1
            return ScenarioSet.generated(Chunks(numbers), S, ASSETS, chunk_rows=ROWS, workers=workers)


@pytest.fixture(params=KINDS)
def both(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[ScenarioSet, np.ndarray]:
    """A set of each kind, and the numbers in it as extended precision."""
    numbers = matrix(np.float32 if "32" in request.param else np.float64)
    return make(request.param, tmp_path, numbers), numbers.astype(np.longdouble)


# -- the same numbers from everywhere --------------------------------------------------------------------------


def test_losses_pulls_and_rows(both: tuple[ScenarioSet, np.ndarray]) -> None:
    scenarios, exact = both
    returns, rng = scenarios.source, np.random.default_rng(6)
    assert returns.shape == (S, N)
    weights = rng.normal(size=N)
    size = float(np.abs(exact).max())
    np.testing.assert_allclose(returns.losses(weights), -exact @ weights, rtol=0, atol=1e-15 * np.abs(weights).sum())
    dense, sparse, hole = rng.random((3, S)), np.zeros((1, S)), rng.random((2, S))
    sparse[0, [3, 41, 42, 102]] = [0.1, 0.2, 0.3, 0.4]
    hole[:, 17:78] = 0.0
    for measure in (dense, sparse, hole, np.zeros((2, S)), np.empty((0, S))):
        pulled = returns.pull(measure)
        assert pulled.dtype == np.float64
        np.testing.assert_allclose(pulled, measure @ exact, rtol=0, atol=1e-15 * S * size)
    for index in ([5], [102, 0, 55, 55, 11], [], np.arange(S)):
        rows = returns.rows(index)
        assert rows.dtype == np.float64
        np.testing.assert_allclose(rows, exact[np.asarray(index, int)], rtol=0, atol=4e-17)
    parts = list(returns.blocks())
    np.testing.assert_allclose(np.concatenate([rows for _, rows in parts]), exact, rtol=0, atol=4e-17)
    np.testing.assert_array_equal(np.concatenate([np.arange(S)[part] for part, _ in parts]), np.arange(S))
    assert returns.root_mean_square == pytest.approx(float(np.sqrt(np.mean(exact**2))), rel=1e-14)
    np.testing.assert_allclose(returns.largest, np.abs(exact).max(axis=0), rtol=1e-14)


def test_a_set_of_any_kind_behaves_like_one_in_memory(both: tuple[ScenarioSet, np.ndarray]) -> None:
    scenarios, exact = both
    plain = ScenarioSet(exact.astype(np.float64), assets=ASSETS)
    weights = dict(zip(ASSETS, np.random.default_rng(7).random(N), strict=True))
    assert (scenarios.n_scenarios, scenarios.n_assets) == (S, N)
    assert scenarios.assets.tolist() == ASSETS.tolist()
    assert scenarios.assets.name == "asset"
    np.testing.assert_allclose(scenarios.mean(), plain.mean(), rtol=1e-13)
    np.testing.assert_allclose(scenarios.covariance(), plain.covariance(), rtol=1e-12)
    np.testing.assert_allclose(scenarios.losses(weights), plain.losses(weights), rtol=1e-13)
    assert scenarios.tail(weights, 0.9).cvar == pytest.approx(plain.tail(weights, 0.9).cvar, rel=1e-13)
    ours, theirs = (po.attribution.risk_contributions(s, weights, betas=(0.9,)) for s in (scenarios, plain))
    pd.testing.assert_frame_equal(ours, theirs, rtol=1e-11)


def test_pickled_and_back(both: tuple[ScenarioSet, np.ndarray]) -> None:
    scenarios, _ = both
    weights = np.linspace(-1.0, 1.0, N)
    for before in (scenarios, pickle.loads(pickle.dumps(scenarios))):  # also after a pass
        after = pickle.loads(pickle.dumps(before))
        np.testing.assert_array_equal(after.source.losses(weights), before.source.losses(weights))
        assert after.assets.equals(scenarios.assets)
        np.testing.assert_array_equal(after.probabilities, scenarios.probabilities)


def test_probabilities_go_with_the_scenarios(tmp_path: Path) -> None:
    chances = np.arange(1.0, S + 1) / np.arange(1.0, S + 1).sum()
    plain = ScenarioSet(matrix(), chances, assets=ASSETS)
    np.save(tmp_path / "returns.npy", matrix())
    for given in (chances, pd.Series(chances)):
        scenarios = ScenarioSet.from_npy(tmp_path / "returns.npy", assets=ASSETS, probabilities=given, horizon="1 day")
        np.testing.assert_allclose(scenarios.mean(), plain.mean(), rtol=1e-13)
    assert repr(scenarios) == f"ScenarioSet({S} scenarios x {N} assets, horizon 1 day, unequal probabilities)"
    assert scenarios.index.equals(pd.RangeIndex(S))
    with pytest.raises(InputError, match="probabilities is labelled differently"):
        ScenarioSet.from_npy(tmp_path / "returns.npy", assets=ASSETS, probabilities=pd.Series(chances[::-1])[::-1])


def test_columns_of_a_parquet_file_in_the_order_asked_for(tmp_path: Path) -> None:
    frame = pd.DataFrame(matrix(), columns=ASSETS, index=pd.date_range("2024-01-01", periods=S, name="date"))
    frame.assign(units=np.arange(S), note="text").to_parquet(tmp_path / "returns.parquet")
    scenarios = ScenarioSet.from_parquet(tmp_path / "returns.parquet", assets=["A3", "units", "A0"])
    np.testing.assert_array_equal(
        scenarios.source.rows([4, 90]), np.column_stack([frame["A3"], np.arange(S), frame["A0"]])[[4, 90]]
    )
    frame.to_parquet(tmp_path / "returns.parquet")
    assert ScenarioSet.from_parquet(tmp_path / "returns.parquet").assets.equals(ASSETS)  # without the dates


# -- precision -------------------------------------------------------------------------------------------------


def test_single_precision_takes_half_the_memory_and_rounds_once() -> None:
    scenarios = ScenarioSet(matrix(), assets=ASSETS, dtype="float32")
    assert scenarios.matrix.dtype == np.float32
    assert scenarios.source.dtype == np.float32
    np.testing.assert_array_equal(scenarios.matrix, matrix().astype(np.float32))
    # a sum of 1 + 1e-8 survives only in float64
    tiny = ScenarioSet(np.array([[1.0, 2.0**-30], [0.0, 0.0]]), assets=["X", "Y"], dtype="float32")
    assert -tiny.source.losses(np.ones(2))[0] - 1.0 == 2.0**-30
    logs = ScenarioSet(np.log1p(matrix()), assets=ASSETS, dtype="float32", kind="log")
    np.testing.assert_allclose(logs.matrix, matrix().astype(np.float32), rtol=1e-6)


def test_precision_that_does_not_exist() -> None:
    with pytest.raises(InputError, match="dtype must be 'float64' or 'float32', was 'float16'"):
        ScenarioSet(matrix(), assets=ASSETS, dtype="float16")
    huge = matrix()
    huge[3, 2] = 1e39
    with pytest.raises(InputError, match=r"1 cells of 1 rows: \(3, A2\)"):
        ScenarioSet(huge, assets=ASSETS, dtype="float32")


# -- memory ----------------------------------------------------------------------------------------------------


def test_chunks_that_are_not_needed_are_not_made() -> None:
    chunks = Chunks(matrix())
    returns = ScenarioSet.generated(chunks, S, ASSETS, chunk_rows=ROWS).source
    assert chunks.calls == []
    measure = np.zeros((1, S))
    measure[0, [25, 26, 71]] = 1.0
    returns.pull(measure)
    assert chunks.calls == [2, 7]
    chunks.calls.clear()
    returns.rows([99, 3, 91])
    assert chunks.calls == [0, 9]
    chunks.calls.clear()
    returns.pull(np.zeros((1, S)))
    assert chunks.calls == []


@pytest.mark.parametrize("kind", ["generated", "threads", "npy", "npy log", "memory32"])
def test_a_pass_holds_a_chunk_or_two(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, n, chunks = 1000, 20, 50
    monkeypatch.setattr(source, "CELLS", rows * n)
    numbers = np.random.default_rng(1).normal(0.0, 0.01, (rows * chunks, n))
    labels = list(range(n))
    if kind in ("generated", "threads"):
        made = lambda i: numbers[i * rows : (i + 1) * rows] + 0.0
        workers = 2 if kind == "threads" else 1
        scenarios = ScenarioSet.generated(made, len(numbers), labels, chunk_rows=rows, workers=workers)
    elif kind == "memory32":
        scenarios = ScenarioSet(numbers, assets=labels, dtype="float32")
    else:
        np.save(tmp_path / "returns.npy", numbers)
        scenarios = ScenarioSet.from_npy(
            tmp_path / "returns.npy", assets=labels, kind="log" if kind == "npy log" else "simple"
        )
    returns, chunk_bytes, vector = scenarios.source, 8 * rows * n, 8 * len(numbers)
    measure = scenarios.probabilities[None].copy()
    tracemalloc.start()
    try:
        for work in (lambda: returns.losses(np.ones(n)), lambda: returns.pull(measure), scenarios.covariance):
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            work()
            _, peak = tracemalloc.get_traced_memory()
            assert peak - before < 2 * vector + 6 * chunk_bytes
    finally:
        tracemalloc.stop()


def test_the_matrix_of_a_streamed_set_is_refused_with_what_to_use_instead(tmp_path: Path) -> None:
    for kind in ("npy", "parquet", "generated"):
        scenarios = make(kind, tmp_path, matrix())
        for ask in (lambda s: s.matrix, lambda s: s.returns):
            with pytest.raises(InputError, match=r"103 x 7 returns of this set are never in memory.*source\.rows"):
                ask(scenarios)


# -- bad data --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["npy", "npy32", "npy log", "parquet", "generated", "threads"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_bad_numbers_are_named_when_they_are_first_read(kind: str, bad: float, tmp_path: Path) -> None:
    numbers = matrix(np.float32 if "32" in kind else np.float64)
    numbers[45, 2] = numbers[46, 5] = bad
    with np.errstate(invalid="ignore"):
        scenarios = make(kind, tmp_path, numbers)
    uses: list[Callable[[ReturnsSource], object]] = [
        lambda s: s.losses(np.ones(N)),
        lambda s: s.pull(np.ones((1, S))),
        lambda s: s.rows([44]),
        lambda s: s.root_mean_square,
        lambda s: s.largest,
    ]
    scenarios.source.rows([0, 102])  # whatever else is read stays usable
    for use in uses * 2:
        with pytest.raises(InputError, match=r"is missing or infinite in 2 cells of 2 rows from ") as caught:
            use(scenarios.source)
        assert "(45, A2), (46, A5); columns concerned: 'A2', 'A5'" in str(caught.value)


def test_a_log_return_of_minus_infinity(tmp_path: Path) -> None:
    logs = np.log1p(matrix())
    logs[2, 3] = -np.inf
    np.save(tmp_path / "logs.npy", logs)
    scenarios = ScenarioSet.from_npy(tmp_path / "logs.npy", assets=ASSETS, kind="log")
    with pytest.raises(InputError, match=r"\(2, A3\)"):
        scenarios.mean()


def test_missing_numbers_in_a_parquet_file(tmp_path: Path) -> None:
    frame = pd.DataFrame(matrix(), columns=ASSETS).astype({"A1": "Float64"})
    frame.loc[101, "A1"] = pd.NA
    frame.to_parquet(tmp_path / "returns.parquet")
    with pytest.raises(InputError, match=r"returns\.parquet is missing or infinite in 1 cells .* \(101, A1\)"):
        ScenarioSet.from_parquet(tmp_path / "returns.parquet").mean()


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no numbers here")
    for path in (tmp_path / "absent", tmp_path / "text", tmp_path):
        with pytest.raises(InputError, match=r"cannot be read as a \.npy file"):
            ScenarioSet.from_npy(path, assets=ASSETS)
        with pytest.raises(InputError, match="cannot be read as a Parquet file"):
            ScenarioSet.from_parquet(path)
    for array, words in (
        (np.zeros(5), r"shape \(5,\)"),
        (np.zeros((5, N), complex), "type complex128"),
        (np.zeros((1, N)), "1 scenarios and 7 assets"),
        (np.zeros((5, 3)), "assets has 7 labels for 3 columns"),
    ):
        np.save(tmp_path / "array.npy", array)
        with pytest.raises(InputError, match=words):
            ScenarioSet.from_npy(tmp_path / "array.npy", assets=ASSETS)


def test_columns_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "returns.parquet"
    pd.DataFrame(matrix(), columns=ASSETS).assign(note="text").to_parquet(path)
    with pytest.raises(InputError, match=r"must be numbers; these columns of .* are not: 'note'\. Name the columns"):
        ScenarioSet.from_parquet(path)
    with pytest.raises(UnknownNameError, match="unknown column: 'A11'"):
        ScenarioSet.from_parquet(path, assets=["A1", "A11"])
    with pytest.raises(InputError, match="duplicate asset columns: 'A1'"):
        ScenarioSet.from_parquet(path, assets=["A1", "A1"])
    with pytest.raises(InputError, match="assets must be a list of labels, was 'A1'"):
        ScenarioSet.from_parquet(path, assets="A1")
    pq.write_table(pa.table([matrix()[:, 0]] * 2, names=["X", "X"]), path)
    with pytest.raises(InputError, match="more than one column of the name 'X'"):
        ScenarioSet.from_parquet(path)
    pq.write_table(pa.table({"X": np.empty(0)}), path)
    with pytest.raises(InputError, match="0 scenarios and 1 assets"):
        ScenarioSet.from_parquet(path)


@pytest.mark.parametrize("kind", ["npy", "parquet"])
def test_a_file_that_changes_its_shape(kind: str, tmp_path: Path) -> None:
    scenarios = make(kind, tmp_path, matrix())
    make(kind, tmp_path, matrix()[:50])
    with pytest.raises(InputError, match="has changed since this scenario set was made of it"):
        scenarios.mean()


def test_generators_that_do_not_keep_their_promise() -> None:
    rng = np.random.default_rng(1)
    drifting = ScenarioSet.generated(lambda i: rng.normal(size=(ROWS, N)), S, ASSETS, chunk_rows=ROWS)
    drifting.mean()
    with pytest.raises(InputError, match="other numbers for chunk 0 than before"):
        drifting.losses(dict.fromkeys(ASSETS, 1 / N))
    short = ScenarioSet.generated(lambda i: np.zeros((ROWS - 1, N)), S, ASSETS, chunk_rows=ROWS)
    with pytest.raises(InputError, match=r"shape \(9, 7\) and type float64 for chunk 0; .* of shape \(10, 7\)"):
        short.mean()
    words = ScenarioSet.generated(lambda i: np.full((ROWS, N), "x"), S, ASSETS, chunk_rows=ROWS)
    with pytest.raises(InputError, match="type <U1 for chunk 0"):
        words.mean()
    whole = ScenarioSet.generated(lambda i: np.full((ROWS, N), i), S, ASSETS, chunk_rows=ROWS)
    np.testing.assert_array_equal(whole.source.rows([0, 99, 102])[:, 0], [0.0, 9.0, 10.0])  # the last chunk is cut


def test_sizes_that_are_refused() -> None:
    made = Chunks(matrix())
    for changes, words in (
        ({"n_scenarios": 1}, "n_scenarios must be a whole number, at least 2"),
        ({"chunk_rows": 0}, "chunk_rows must be a whole number, at least 1"),
        ({"workers": True}, "workers must be a whole number, at least 1"),
        ({"assets": []}, "103 scenarios and 0 assets"),
        ({"assets": ["X", "X"]}, "duplicate asset columns: 'X'"),
        ({"chunk": matrix()}, "chunk must be a function of the number of a chunk, was ndarray"),
    ):
        with pytest.raises(InputError, match=words):
            ScenarioSet.generated(**{"chunk": made, "n_scenarios": S, "assets": ASSETS, **changes})

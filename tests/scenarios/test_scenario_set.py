"""The scenario matrix: what it takes, what it refuses and with which words, and its moments."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from portfolioopt.errors import InputError, UnknownNameError
from portfolioopt.scenarios import ScenarioSet

DAYS = pd.date_range("2024-01-01", periods=4, freq="D", name="date")


def frame() -> pd.DataFrame:
    values = {"AAPL": [0.01, -0.02, 0.03, 0.00], "MSFT": [0.02, 0.01, -0.01, -0.04]}
    return pd.DataFrame(values, index=DAYS)


# -- what it takes -------------------------------------------------------------------------------------------


def test_a_frame() -> None:
    scenarios = ScenarioSet(frame(), horizon="1 day")
    np.testing.assert_array_equal(scenarios.matrix, frame().to_numpy())
    assert (scenarios.n_scenarios, scenarios.n_assets) == (4, 2)
    assert scenarios.assets.tolist() == ["AAPL", "MSFT"]
    assert scenarios.assets.name == "asset"
    assert scenarios.index.equals(DAYS)
    assert scenarios.horizon == "1 day"
    assert repr(scenarios) == ("ScenarioSet(4 scenarios x 2 assets, horizon 1 day, equal probabilities)")
    pd.testing.assert_frame_equal(scenarios.returns, frame(), check_names=False)


def test_an_array_with_labels() -> None:
    scenarios = ScenarioSet(frame().to_numpy(), [0.1, 0.2, 0.3, 0.4], assets=["X", "Y"])
    assert scenarios.assets.tolist() == ["X", "Y"]
    assert repr(scenarios) == "ScenarioSet(4 scenarios x 2 assets, unequal probabilities)"


@pytest.mark.parametrize("dtype", ["float32", "Float64", "int64"])
def test_other_number_types_become_float64(dtype: Any) -> None:
    matrix = ScenarioSet((100 * frame()).astype(dtype)).matrix
    assert matrix.dtype == np.float64
    assert matrix.flags.c_contiguous
    np.testing.assert_allclose(matrix, (100 * frame()).astype(dtype).to_numpy(dtype=float))


def test_the_name_of_the_columns_is_kept() -> None:
    assert ScenarioSet(frame().rename_axis(columns="fund")).assets.name == "fund"


def test_log_returns_are_converted_once() -> None:
    scenarios = ScenarioSet(np.log1p(frame()), kind="log")
    np.testing.assert_allclose(scenarios.matrix, frame().to_numpy(), rtol=1e-14, atol=1e-17)


def test_nothing_from_outside_changes_it() -> None:
    returns, probabilities = frame(), np.array([0.1, 0.2, 0.3, 0.4])
    scenarios = ScenarioSet(returns, probabilities)
    returns.iloc[0, 0] = 99.0
    probabilities[0] = 99.0
    copy = scenarios.returns
    copy.iloc[0, 1] = 99.0
    assert scenarios.matrix.max() < 1.0
    assert scenarios.probabilities.max() < 1.0
    with pytest.raises(ValueError, match="read-only"):
        scenarios.matrix[0, 0] = 1.0
    with pytest.raises(ValueError, match="read-only"):
        scenarios.probabilities[0] = 1.0


def test_probabilities_sum_to_one_after_rounding() -> None:
    scenarios = ScenarioSet(frame(), [0.25, 0.25, 0.25, 0.25 + 9e-10])
    assert scenarios.probabilities.sum() == pytest.approx(1.0, abs=1e-15)
    labelled = pd.Series([0.1, 0.2, 0.3, 0.4], index=DAYS)
    np.testing.assert_array_equal(ScenarioSet(frame(), labelled).probabilities, labelled.to_numpy())
    np.testing.assert_array_equal(ScenarioSet(frame(), labelled.astype("Float64")).probabilities, labelled.to_numpy())


def test_a_scenario_may_have_no_probability() -> None:
    assert ScenarioSet(frame(), [0.5, 0.0, 0.5, 0.0]).probabilities.tolist() == [0.5, 0.0, 0.5, 0.0]


# -- moments -------------------------------------------------------------------------------------------------


def test_moments_by_hand() -> None:
    p = np.array([0.1, 0.2, 0.3, 0.4])
    scenarios = ScenarioSet(frame(), p)
    # AAPL: .001 - .004 + .009 + 0 = .006; MSFT: .002 + .002 - .003 - .016 = -.015
    np.testing.assert_allclose(scenarios.mean(), [0.006, -0.015], rtol=1e-13)
    # E[A^2] = 1e-5 + 8e-5 + 27e-5 = 36e-5; E[M^2] = 4e-5 + 2e-5 + 3e-5 + 64e-5 = 73e-5;
    # E[AM] = 2e-5 - 4e-5 - 9e-5 = -11e-5
    expected = [
        [36e-5 - 0.006**2, -11e-5 + 0.006 * 0.015],
        [-11e-5 + 0.006 * 0.015, 73e-5 - 0.015**2],
    ]
    np.testing.assert_allclose(scenarios.covariance(), expected, rtol=1e-12)
    assert scenarios.covariance().index.equals(scenarios.assets)


def test_equal_probabilities_give_the_textbook_moments() -> None:
    scenarios = ScenarioSet(frame())
    np.testing.assert_allclose(scenarios.mean(), frame().mean(), rtol=1e-13)
    np.testing.assert_allclose(scenarios.covariance(), frame().cov(ddof=0), rtol=1e-12)


def test_losses_and_tail_follow_the_labels_of_the_weights() -> None:
    scenarios = ScenarioSet(frame())
    weights = pd.Series({"MSFT": 0.25, "AAPL": 0.75})
    losses = scenarios.losses(weights)
    np.testing.assert_allclose(losses, [-0.0125, 0.0125, -0.02, 0.01], atol=1e-16)
    assert losses.index.equals(DAYS)
    np.testing.assert_array_equal(losses, scenarios.losses({"AAPL": 0.75, "MSFT": 0.25}))
    assert scenarios.tail(weights, 0.5).cvar == pytest.approx(0.01125, rel=1e-13)
    np.testing.assert_array_equal(scenarios.weights_array(weights), [0.75, 0.25])


# -- what it refuses -----------------------------------------------------------------------------------------


def test_missing_and_infinite_cells_are_named() -> None:
    returns = frame()
    returns.iloc[1, 0] = np.nan
    returns.iloc[3, 1] = np.inf
    with pytest.raises(InputError) as caught:
        ScenarioSet(returns)
    text = str(caught.value)
    assert "2 cells of 2 rows" in text
    assert "(2024-01-02 00:00:00, AAPL), (2024-01-04 00:00:00, MSFT)" in text
    assert "columns concerned: 'AAPL', 'MSFT'" in text
    assert "..." not in text


def test_many_missing_cells_are_counted() -> None:
    with pytest.raises(InputError, match=r"8 cells of 4 rows: .* \.\.\.; columns concerned") as caught:
        ScenarioSet(frame() * np.nan)
    assert str(caught.value).count("2024") == 5


def test_missing_cells_in_nullable_columns_are_named() -> None:
    returns = frame().astype("Float64")
    returns.iloc[2, 1] = pd.NA
    with pytest.raises(InputError, match=r"1 cells of 1 rows: \(2024-01-03.*, MSFT\)"):
        ScenarioSet(returns)


def test_duplicate_columns_are_named() -> None:
    returns = frame().set_axis(["AAPL", "AAPL"], axis=1)
    with pytest.raises(InputError, match="duplicate asset columns: 'AAPL'"):
        ScenarioSet(returns)
    with pytest.raises(InputError, match="duplicate asset columns: 'X'"):
        ScenarioSet(frame().to_numpy(), assets=["X", "X"])


def test_too_little_data() -> None:
    with pytest.raises(InputError, match="1 scenarios and 2 assets; at least two scenarios"):
        ScenarioSet(frame().iloc[:1])
    with pytest.raises(InputError, match="4 scenarios and 0 assets"):
        ScenarioSet(frame()[[]])


@pytest.mark.parametrize("values", ["text", True, 1j, pd.Timestamp("2024-01-01")])
def test_columns_that_are_not_numbers_are_named(values: Any) -> None:
    with pytest.raises(InputError, match="returns must be numbers; these columns are not: 'note'"):
        ScenarioSet(frame().assign(note=[values] * 4))


def test_arrays_that_do_not_fit() -> None:
    values = frame().to_numpy()
    with pytest.raises(InputError, match="array without labels"):
        ScenarioSet(values)
    with pytest.raises(InputError, match="3 labels for 2 columns"):
        ScenarioSet(values, assets=["A", "B", "C"])
    with pytest.raises(InputError, match=r"two axes.*\(4,\)"):
        ScenarioSet(values[:, 0], assets=["A"])
    with pytest.raises(InputError, match="rows differ in length"):
        ScenarioSet([[0.1, 0.2], [0.3]], assets=["A", "B"])
    with pytest.raises(InputError, match="assets is only for array input"):
        ScenarioSet(frame(), assets=["A", "B"])


def test_kinds() -> None:
    with pytest.raises(InputError, match="kind must be 'simple' or 'log', was 'percent'"):
        ScenarioSet(frame(), kind="percent")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="log returns overflow"):
        ScenarioSet(1000.0 + frame(), kind="log")


@pytest.mark.parametrize(
    ("probabilities", "message"),
    [
        ([0.5, 0.5], r"shape \(2,\) for 4 scenarios"),
        (np.full((4, 1), 0.25), r"shape \(4, 1\) for 4 scenarios"),
        ([0.5, np.nan, 0.5, 0.0], "not finite for scenarios .*2024-01-02"),
        ([0.5, 0.7, -0.2, 0.0], "negative for scenarios .*2024-01-03"),
        ([0.3, 0.3, 0.3, 0.2], "sum to 1.1, not to one; divide them by their sum"),
        ([0.0, 1.0, 0.0, 0.0], "all probability lies on one scenario"),
        (["a", "b", "c", "d"], "probabilities must be numbers"),
        (pd.Series([0.25] * 4), "labelled differently from the rows"),
        (pd.Series([0.1, 0.2, 0.3, 0.4], index=DAYS[::-1]), "labelled differently from the rows"),
        (pd.Series([0.1, pd.NA, 0.5, 0.4], index=DAYS, dtype="Float64"), "not finite .*2024-01-02"),
    ],
)
def test_probabilities_that_are_refused(probabilities: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ScenarioSet(frame(), probabilities)  # type: ignore[arg-type]


def test_weights_that_do_not_match() -> None:
    scenarios = ScenarioSet(frame())
    with pytest.raises(UnknownNameError, match=r"'APPL' \(did you mean 'AAPL'\?\)") as caught:
        scenarios.losses({"APPL": 0.5, "MSFT": 0.5})
    assert caught.value.unknown == ("APPL",)
    with pytest.raises(InputError, match="weights says nothing about 'MSFT'"):
        scenarios.tail({"AAPL": 1.0}, 0.95)
    with pytest.raises(InputError, match="weights has duplicate assets: 'AAPL'"):
        scenarios.losses(pd.Series([0.5, 0.5], index=["AAPL", "AAPL"]))
    with pytest.raises(InputError, match="weights is not finite for 'AAPL'"):
        scenarios.losses({"AAPL": np.nan, "MSFT": 0.5})
    with pytest.raises(InputError, match=r"weights must be a Series or mapping .* was ndarray"):
        scenarios.losses(np.array([0.5, 0.5]))  # type: ignore[arg-type]

"""From prices to returns: values by hand and by compounding, and refusals of prices that cannot be meant."""

from __future__ import annotations

import datetime
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from portfolioopt.data import sample_prices, simple_returns
from portfolioopt.errors import InputError

DAYS = pd.date_range("2024-01-01", periods=5, freq="D", name="date")


def frame(**columns: list[float]) -> pd.DataFrame:
    length = len(next(iter(columns.values())))
    return pd.DataFrame(columns, index=DAYS[:length])


def test_values_by_hand() -> None:
    returns = simple_returns(frame(A=[100.0, 110.0, 99.0], B=[4.0, 5.0, 2.5]))
    expected = pd.DataFrame({"A": [0.1, -0.1], "B": [0.25, -0.5]}, index=DAYS[1:3])
    pd.testing.assert_frame_equal(returns, expected)


def test_overlapping_windows_by_hand() -> None:
    returns = simple_returns(frame(A=[100.0, 110.0, 120.0, 99.0]), horizon=2)
    expected = pd.DataFrame({"A": [0.2, -0.1]}, index=DAYS[2:4])
    pd.testing.assert_frame_equal(returns, expected)


@pytest.mark.parametrize("horizon", [2, 5, 21])
def test_longer_returns_compound_the_daily_ones(horizon: int) -> None:
    prices = sample_prices().iloc[:300]
    growth = np.lib.stride_tricks.sliding_window_view(1 + simple_returns(prices).to_numpy(), horizon, axis=0)
    returns = simple_returns(prices, horizon=horizon)
    np.testing.assert_allclose(1 + returns.to_numpy(), growth.prod(axis=-1), rtol=1e-12)
    assert returns.index.equals(prices.index[horizon:])
    assert returns.columns.equals(prices.columns)


def test_the_future_does_not_change_the_past() -> None:
    prices = sample_prices().iloc[:100]
    later = prices.copy()
    later.iloc[60:] *= 3.0
    pd.testing.assert_frame_equal(simple_returns(later).iloc[:59], simple_returns(prices).iloc[:59])


@given(unit=st.floats(1e-3, 1e3), rows=st.integers(2, 30), seed=st.integers(0, 2**32 - 1))
def test_the_currency_unit_does_not_matter(unit: float, rows: int, seed: int) -> None:
    values = np.exp(np.random.default_rng(seed).normal(size=(rows, 3)))
    prices = pd.DataFrame(values, columns=list("ABC"))
    np.testing.assert_allclose(simple_returns(unit * prices), simple_returns(prices), rtol=1e-9, atol=1e-12)


def test_integers_and_nullable_numbers_become_float64() -> None:
    prices = pd.DataFrame({"A": [1, 2, 3], "B": pd.array([2.0, 3.0, 6.0], dtype="Float64")}, index=DAYS[:3])
    returns = simple_returns(prices)
    assert (returns.dtypes == np.float64).all()
    assert returns["A"].tolist() == [1.0, 0.5]
    assert returns["B"].tolist() == [0.5, 1.0]


def test_the_input_is_left_alone() -> None:
    prices = frame(A=[1.0, 2.0, math.nan], B=[1.0, 2.0, 3.0])
    before = prices.copy()
    simple_returns(prices, missing="drop_assets")
    simple_returns(prices, missing="drop_dates")
    pd.testing.assert_frame_equal(prices, before)


def test_missing_prices_are_refused_by_name() -> None:
    prices = frame(A=[1.0, math.nan, 2.0], B=[1.0, 1.0, math.nan])
    with pytest.raises(InputError) as error:
        simple_returns(prices)
    text = str(error.value)
    assert "2 prices (A on 2024-01-02, B on 2024-01-03) are missing" in text
    assert "missing='drop_dates'" in text
    assert "missing='drop_assets'" in text


def test_many_missing_prices_are_counted() -> None:
    prices = pd.DataFrame(np.nan, index=DAYS, columns=["A", "B"])
    with pytest.raises(InputError, match=r"10 prices \(.* and 5 more\) are missing"):
        simple_returns(prices)


def test_drop_assets_leaves_out_the_incomplete_ones() -> None:
    prices = frame(A=[1.0, math.nan, 2.0], B=[1.0, 2.0, 3.0], C=[5.0, 4.0, 3.0])
    pd.testing.assert_frame_equal(simple_returns(prices, missing="drop_assets"), simple_returns(prices[["B", "C"]]))


def test_drop_dates_never_bridges_a_gap() -> None:
    prices = frame(A=[1.0, 2.0, math.nan, 4.0, 5.0], B=[1.0, 1.0, 1.0, 1.0, 1.0])
    returns = simple_returns(prices, missing="drop_dates")
    # Neither 2 -> NaN nor NaN -> 4 is a return, and 2 -> 4 would cover two days.
    assert returns.index.tolist() == [DAYS[1], DAYS[4]]
    assert returns["A"].tolist() == [1.0, 0.25]
    # Over two days the gap is the end of one window and the start of another.
    assert simple_returns(prices, horizon=2, missing="drop_dates").index.tolist() == [DAYS[3]]


@pytest.mark.parametrize("missing", ["drop_dates", "drop_assets"])
def test_policies_change_nothing_where_nothing_is_missing(missing) -> None:
    prices = sample_prices().iloc[:50]
    pd.testing.assert_frame_equal(simple_returns(prices, missing=missing), simple_returns(prices))


def test_policies_that_leave_nothing_are_refused() -> None:
    prices = frame(A=[1.0, math.nan, 2.0], B=[math.nan, 1.0, math.nan])
    with pytest.raises(InputError, match="drop_assets' leaves none"):
        simple_returns(prices, missing="drop_assets")
    with pytest.raises(InputError, match="drop_dates' leaves none"):
        simple_returns(prices, missing="drop_dates")


@pytest.mark.parametrize("policy", ["error", "drop_dates", "drop_assets"])
@pytest.mark.parametrize("bad", [0.0, -1.5, math.inf, -math.inf])
def test_impossible_prices_are_refused_under_every_policy(bad: float, policy) -> None:
    with pytest.raises(InputError, match=rf"1 price \(A on 2024-01-02 \({bad:g}\)\) is not positive"):
        simple_returns(frame(A=[1.0, bad, 2.0], B=[1.0, 2.0, 3.0]), missing=policy)


def test_too_short_a_history_is_refused() -> None:
    with pytest.raises(InputError, match="horizon=3 needs at least 4 rows of prices, but there are 3"):
        simple_returns(frame(A=[1.0, 2.0, 3.0]), horizon=3)
    with pytest.raises(InputError, match="needs at least 2 rows"):
        simple_returns(frame(A=[1.0, 2.0, 3.0]).iloc[:0])
    assert len(simple_returns(frame(A=[1.0, 2.0, 3.0]), horizon=2)) == 1


@pytest.mark.parametrize("horizon", [0, -1, 1.0, True, "1", None])
def test_horizon_must_be_a_positive_whole_number(horizon) -> None:
    with pytest.raises(InputError, match="horizon must be a whole number"):
        simple_returns(frame(A=[1.0, 2.0]), horizon=horizon)


def test_numpy_whole_numbers_are_horizons_too() -> None:
    assert len(simple_returns(frame(A=[1.0, 2.0, 3.0]), horizon=np.int64(2))) == 1  # pyright: ignore[reportArgumentType]


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(InputError, match="'error', 'drop_dates', 'drop_assets'"):
        simple_returns(frame(A=[1.0, 2.0]), missing="ffill")  # pyright: ignore[reportArgumentType]


def test_unsorted_dates_are_refused() -> None:
    with pytest.raises(InputError, match=r"2024-01-01 comes after 2024-01-03; sort .*sort_index"):
        simple_returns(frame(A=[1.0, 2.0, 3.0]).iloc[[1, 2, 0]])


def test_repeated_dates_are_refused() -> None:
    with pytest.raises(InputError, match="repeated dates: 2024-01-02;"):
        simple_returns(frame(A=[1.0, 2.0, 3.0]).iloc[[0, 1, 1, 2]])


def test_intraday_stamps_keep_their_time_in_messages() -> None:
    prices = pd.DataFrame({"A": [1.0, math.nan]}, index=pd.to_datetime(["2024-01-01 09:30", "2024-01-01 16:00"]))
    with pytest.raises(InputError, match="A on 2024-01-01 16:00:00"):
        simple_returns(prices)


def test_repeated_columns_are_refused() -> None:
    prices = pd.DataFrame([[1.0, 2.0], [2.0, 3.0]], columns=["A", "A"], index=DAYS[:2])
    with pytest.raises(InputError, match="repeated columns: A;"):
        simple_returns(prices)


def test_dates_as_text_are_refused() -> None:
    prices = pd.DataFrame({"A": [1.0, 2.0]}, index=["31/01/2024", "01/02/2024"])
    with pytest.raises(InputError, match=r"pd\.to_datetime"):
        simple_returns(prices)
    levels = pd.MultiIndex.from_product([["x"], DAYS[:2]])
    with pytest.raises(InputError, match="several levels"):
        simple_returns(prices.set_axis(levels))


def test_missing_dates_are_refused() -> None:
    prices = pd.DataFrame({"A": [1.0, 2.0, 3.0]}, index=pd.DatetimeIndex([DAYS[0], pd.NaT, DAYS[1]]))
    with pytest.raises(InputError, match="1 of the 3 dates of prices are missing"):
        simple_returns(prices)


@pytest.mark.parametrize("index", [range(3), pd.period_range("2024-01", periods=3, freq="M")])
def test_other_ordered_indices_are_welcome(index) -> None:
    returns = simple_returns(pd.DataFrame({"A": [1.0, 2.0, 3.0]}, index=index))
    assert returns["A"].tolist() == [1.0, 0.5]


@pytest.mark.parametrize("column", [["x", "y"], [True, False], [1j, 2j], [datetime.date(2024, 1, 1)] * 2])
def test_columns_that_are_not_numbers_are_refused(column) -> None:
    prices = pd.DataFrame({"Good": [1.0, 2.0], "Bad": column}, index=DAYS[:2])
    with pytest.raises(InputError, match="do not hold numbers: Bad;"):
        simple_returns(prices)


def test_only_frames_are_welcome() -> None:
    with pytest.raises(InputError, match="to_frame"):
        simple_returns(frame(A=[1.0, 2.0])["A"])  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="not ndarray"):
        simple_returns(np.ones((2, 2)))  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="no columns"):
        simple_returns(pd.DataFrame(index=DAYS))

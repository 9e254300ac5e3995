"""Log returns, the tag that says which kind a frame holds, and gaps that are filled or kept."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portfolioopt.data import log_returns, returns_kind, sample_prices, simple_returns, to_log, to_simple
from portfolioopt.errors import InputError

DAYS = pd.date_range("2024-01-01", periods=7, freq="D", name="date")
NAN = math.nan


def frame(**columns: list[float]) -> pd.DataFrame:
    return pd.DataFrame(columns, index=DAYS[: len(next(iter(columns.values())))])


def test_log_returns_add_up_to_the_whole_move() -> None:
    prices = sample_prices().iloc[:200]
    total = log_returns(prices).sum()
    np.testing.assert_allclose(np.exp(total), prices.iloc[-1] / prices.iloc[0], rtol=1e-12)
    longer = log_returns(prices, horizon=5)
    np.testing.assert_allclose(longer, log_returns(prices).rolling(5).sum().dropna(), atol=1e-12)


@pytest.mark.parametrize("horizon", [1, 4])
def test_kinds_convert_into_each_other(horizon: int) -> None:
    prices = sample_prices().iloc[:60]
    simple, log = simple_returns(prices, horizon=horizon), log_returns(prices, horizon=horizon)
    assert (returns_kind(simple), returns_kind(log)) == ("simple", "log")
    np.testing.assert_allclose(to_simple(log), simple, atol=1e-14)
    np.testing.assert_allclose(to_log(simple), log, atol=1e-14)
    for once in (to_simple(log), to_simple(to_simple(log)), to_simple(to_log(simple))):
        assert returns_kind(once) == "simple"
        np.testing.assert_allclose(once, simple, atol=1e-14)
        assert once.index.equals(prices.index[horizon:])
    assert returns_kind(log) == "log"  # the input keeps its own


def test_the_tag_goes_with_the_frame(tmp_path) -> None:
    log = log_returns(sample_prices().iloc[:20])
    assert returns_kind(log.tail(3)) == returns_kind(log.copy()) == returns_kind(log.iloc[:, :2]) == "log"
    log.to_parquet(tmp_path / "log.parquet")
    assert returns_kind(pd.read_parquet(tmp_path / "log.parquet")) == "log"
    assert returns_kind(pd.concat([log, to_simple(log)])) is None


def test_returns_of_unknown_kind_are_refused() -> None:
    plain = pd.DataFrame({"A": [0.1, -0.2]})
    with pytest.raises(InputError, match="pass kind="):
        to_simple(plain)
    assert to_simple(plain, kind="log")["A"].iloc[0] == pytest.approx(math.expm1(0.1))
    assert "returns" not in plain.attrs
    with pytest.raises(InputError, match="tagged as log, but kind is 'simple'"):
        to_simple(log_returns(frame(A=[1.0, 2.0])), kind="simple")
    with pytest.raises(InputError, match="kind must be"):
        to_simple(plain, kind="percent")  # pyright: ignore[reportArgumentType]
    plain.attrs["returns"] = "net"
    with pytest.raises(InputError, match="was 'net'"):
        returns_kind(plain)
    with pytest.raises(InputError, match="was Series"):
        to_log(plain["A"])  # pyright: ignore[reportArgumentType]


def test_returns_that_cannot_be_converted_are_refused() -> None:
    with pytest.raises(InputError, match="below -1"):
        to_simple(pd.DataFrame({"A": [-1.5]}), kind="simple")
    with pytest.raises(InputError, match="no log return"):
        to_log(pd.DataFrame({"A": [-1.0]}), kind="simple")
    with pytest.raises(InputError, match="per cent"):
        to_simple(pd.DataFrame({"A": [1e4]}), kind="log")
    assert to_log(pd.DataFrame({"A": [NAN, 0.0]}), kind="simple")["A"].isna().tolist() == [True, False]


def test_kept_gaps_are_missing_returns() -> None:
    returns = simple_returns(frame(A=[1.0, NAN, 2.0, 3.0], B=[NAN, 1.0, 2.0, 2.0]), missing="keep")
    np.testing.assert_allclose(returns, [[NAN, NAN], [NAN, 1.0], [0.5, 0.0]])


def test_short_gaps_are_filled_from_before() -> None:
    prices = frame(A=[1.0, NAN, NAN, 2.0, 2.0, NAN, 4.0], B=[1.0] * 7)
    with pytest.raises(InputError, match=r"3 prices \(A on 2024-01-02"):
        simple_returns(prices)
    with pytest.raises(InputError, match=r"1 price \(A on 2024-01-03\)"):
        simple_returns(prices, forward_fill=1)
    assert simple_returns(prices, forward_fill=2)["A"].tolist() == [0.0, 0.0, 1.0, 0.0, 0.0, 1.0]
    dropped = simple_returns(prices, forward_fill=1, missing="drop_dates")
    assert dropped.index.tolist() == [DAYS[1], DAYS[4], DAYS[5], DAYS[6]]
    assert simple_returns(prices, forward_fill=1, missing="drop_assets").columns.tolist() == ["B"]


@settings(max_examples=50)
@given(
    cells=st.lists(st.tuples(st.floats(0.5, 2.0), st.sampled_from([False, False, True])), min_size=14, max_size=14),
    limit=st.integers(0, 5),
)
def test_filling_is_that_of_pandas_and_never_from_after(cells: list, limit: int) -> None:
    values = np.array([NAN if absent else value for value, absent in cells]).reshape(7, 2)
    prices = pd.DataFrame(values, DAYS, ["A", "B"])
    filled = prices.ffill(limit=limit) if limit else prices
    found = simple_returns(prices, forward_fill=limit, missing="keep")
    pd.testing.assert_frame_equal(found, simple_returns(filled, missing="keep"))
    later = prices.copy()
    later.iloc[4:] = 1.0
    np.testing.assert_array_equal(
        simple_returns(later, forward_fill=limit, missing="keep").iloc[:3].to_numpy(), found.iloc[:3].to_numpy()
    )


@pytest.mark.parametrize("rows", [-1, 1.5, True])
def test_the_length_of_a_gap_is_a_whole_number(rows) -> None:
    with pytest.raises(InputError, match="forward_fill must be a whole number"):
        simple_returns(frame(A=[1.0, 2.0]), forward_fill=rows)


def test_mixed_time_zones_are_refused() -> None:
    stamps = pd.Index([DAYS[0].tz_localize("UTC"), DAYS[1].tz_localize("Asia/Tokyo")], dtype=object)
    with pytest.raises(InputError, match=r"mix time zones \(Asia/Tokyo, UTC\)"):
        log_returns(pd.DataFrame({"A": [1.0, 2.0]}, index=stamps))

"""Drawdowns beside empyrical and a plain loop, and how episodes are told apart."""

from __future__ import annotations

import empyrical
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import portfolioopt as po
from portfolioopt.backtest.drawdowns import drawdown, drawdown_table
from portfolioopt.errors import InputError

PRICES = po.data.sample_prices()["AAPL"].loc["2005":]
RETURNS = PRICES.pct_change().iloc[1:]


def test_drawdowns_are_those_of_empyrical_and_of_prices() -> None:
    found = drawdown(RETURNS)
    np.testing.assert_allclose(found, -empyrical.stats.drawdown_series(RETURNS), atol=1e-12)
    np.testing.assert_allclose(found, drawdown(nav=PRICES).iloc[1:], atol=1e-12)
    assert drawdown(nav=PRICES).iloc[0] == 0.0
    assert found.name == "AAPL"


def test_the_worth_before_the_first_period_is_a_peak() -> None:
    r = pd.Series([-0.1, 0.05, 0.2], pd.bdate_range("2020-01-01", periods=3))
    np.testing.assert_allclose(drawdown(r), [0.1, 0.055, 0.0], atol=1e-15)
    table = drawdown_table(r)
    assert pd.isna(table.loc[1, "peak"])
    assert table.loc[1, "recovery"] == r.index[2]
    assert table.loc[1, "periods"] == 3
    assert table.loc[1, "to_trough"] == 1
    assert np.isnan(table.loc[1, "days"])


@given(st.lists(st.sampled_from([-0.5, -0.1, 0.0, 0.05, 0.25, 1.0]), min_size=1, max_size=40), st.integers(1, 5))
def test_episodes_are_those_of_a_plain_loop(moves: list[float], top: int) -> None:
    dates = pd.bdate_range("2020-01-01", periods=len(moves))
    worth = np.cumprod(1 + np.array(moves))
    episodes, peak, place, trough = [], 1.0, -1, None
    for t, v in enumerate(worth):
        if v >= peak * (1 - 1e-12):
            if trough is not None:
                episodes.append((place, trough, t, 1 - worth[trough] / peak))
            peak, place, trough = max(peak, v), t, None
        elif trough is None or v < worth[trough]:
            trough = t
    if trough is not None:
        episodes.append((place, trough, None, 1 - worth[trough] / peak))
    table = drawdown_table(pd.Series(moves, dates), top)
    assert len(table) == min(top, len(episodes))
    np.testing.assert_allclose(table["depth"], sorted((e[3] for e in episodes), reverse=True)[:top], rtol=1e-12)
    known = {e[1]: e for e in episodes}
    for _, row in table.iterrows():
        place, trough, end, depth = known[dates.get_loc(row["trough"])]
        assert row["depth"] == pytest.approx(depth, rel=1e-12)
        assert pd.isna(row["peak"]) if place < 0 else row["peak"] == dates[place]
        assert pd.isna(row["recovery"]) if end is None else row["recovery"] == dates[end]
        until = len(moves) - 1 if end is None else end
        assert row["periods"] == until - place
        assert row["to_trough"] == trough - place
        assert np.isnan(row["days"]) if place < 0 else row["days"] == (dates[until] - dates[place]).days


def test_a_way_back_to_the_peak_ends_a_drawdown() -> None:
    """Compounding there and back leaves the last digit short of the peak."""
    prices = np.array([100.0, 31.1, 86.1, 100.0, 93.0, 100.0, 101.0])
    r = pd.Series(prices[1:] / prices[:-1] - 1)
    assert list(drawdown(r) > 0) == [True, True, False, True, False, False]
    assert len(drawdown_table(r)) == 2


def test_a_history_that_only_rises_has_no_episode() -> None:
    table = drawdown_table(pd.Series([0.01, 0.0, 0.02], pd.bdate_range("2020-01-01", periods=3)))
    assert table.empty
    assert list(table.columns) == ["peak", "trough", "recovery", "depth", "periods", "to_trough", "days"]


def test_rows_without_dates_have_no_days() -> None:
    table = drawdown_table(pd.Series([0.1, -0.2, -0.1, 0.05, 2.0, -0.5]), top=1)
    assert table.loc[1, "peak"] == 4
    assert table.loc[1, "trough"] == 5
    assert pd.isna(table.loc[1, "recovery"])
    assert table["days"].isna().all()


def test_what_has_no_drawdown_is_refused() -> None:
    with pytest.raises(InputError, match="only one of them"):
        drawdown()
    with pytest.raises(InputError, match="only one of them"):
        drawdown(RETURNS, nav=PRICES)
    with pytest.raises(InputError, match="nav must be positive"):
        drawdown(nav=PRICES - PRICES.iloc[5])
    with pytest.raises(InputError, match="pass one column"):
        drawdown(RETURNS.to_frame())
    with pytest.raises(InputError, match="lose more than everything"):
        drawdown(PRICES * -1)
    with pytest.raises(InputError, match="top must be"):
        drawdown_table(RETURNS, top=0)

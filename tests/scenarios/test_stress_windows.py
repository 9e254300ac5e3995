"""Named windows of history, and the returns in them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import portfolioopt as po
from portfolioopt.errors import InputError, UnknownNameError
from portfolioopt.scenarios import ScenarioSet, Window, historical_windows, stress_window


def returns(first: str = "2019-06-03", last: str = "2020-12-31") -> pd.DataFrame:
    dates = pd.bdate_range(first, last, name="date")
    rng = np.random.default_rng(0)
    return pd.DataFrame(rng.normal(0.0, 0.02, (len(dates), 3)), index=dates, columns=list("ABC"))


@pytest.mark.parametrize("name", ["dotcom_2000", "crisis_2008", "covid_2020", "rates_2022"])
def test_windows_run_from_peak_to_trough_of_the_index(name: str) -> None:
    index = po.data.sample_index()
    start, end, _ = historical_windows().loc[name]
    around = index[start - pd.Timedelta(days=90) : end + pd.Timedelta(days=60)]
    assert around.idxmax() == start
    assert around.idxmin() == end
    fall = stress_window(index.to_frame(), name, mode="cumulative", prices=True)
    assert fall["SP500"] == pytest.approx(index[end] / index[start] - 1.0, rel=1e-12)
    assert fall.name == name


def test_the_crash_of_1987_is_known_though_the_sample_begins_later() -> None:
    windows = historical_windows()
    assert list(windows.loc["crash_1987", ["start", "end"]]) == [pd.Timestamp("1987-08-25"), pd.Timestamp("1987-12-04")]
    words = r"crash_1987 goes from 1987-08-25 to 1987-12-04, and history reaches from 1990-01-02 to 2022-12-28"
    with pytest.raises(InputError, match=words):
        stress_window(po.data.sample_prices(), "crash_1987", prices=True)


def test_prices_and_their_returns_give_the_same() -> None:
    prices = po.data.sample_prices()
    daily = po.data.simple_returns(prices)
    one, other = (stress_window(h, "covid_2020", prices=p) for h, p in ((prices, True), (daily, False)))
    np.testing.assert_allclose(one.matrix, other.matrix, rtol=1e-12)
    pd.testing.assert_index_equal(one.index, other.index)
    assert isinstance(one, ScenarioSet)
    assert (one.index[0], one.index[-1]) == (pd.Timestamp("2020-02-20"), pd.Timestamp("2020-03-23"))
    assert one.n_scenarios == 23
    whole = stress_window(daily, "covid_2020", mode="cumulative")
    np.testing.assert_allclose(whole, prices.loc["2020-03-23"] / prices.loc["2020-02-19"] - 1.0, rtol=1e-12)


def test_nothing_outside_the_window_matters() -> None:
    given = returns()
    changed = given.copy()
    changed[:"2020-02-19"] = 9.0
    changed["2020-03-24":] = np.nan
    one, other = (stress_window(h, "covid_2020") for h in (given, changed))
    np.testing.assert_array_equal(one.matrix, other.matrix)


def test_a_window_of_ones_own() -> None:
    given = returns()
    own = stress_window(given, Window("2019-08-01", "2019-08-30"), mode="cumulative")
    np.testing.assert_allclose(own, (1.0 + given["2019-08-02":"2019-08-30"]).prod() - 1.0, rtol=1e-12)


def test_assets_without_history_go_by_their_exposures() -> None:
    given = returns()
    given.loc[:"2020-03-02", "B"] = np.nan  # listed within the window
    factors = pd.DataFrame(
        np.random.default_rng(1).normal(0, 0.02, (len(given), 2)), index=given.index, columns=["Market", "Value"]
    )
    exposures = pd.DataFrame([[1.1, 0.2], [0.5, -1.0], [9.0, 9.0]], index=["B", "new", "A"], columns=factors.columns)
    found = stress_window(given, "covid_2020", exposures=exposures, factor_returns=factors)
    assert list(found.assets) == ["A", "B", "C", "new"]
    inside = factors["2020-02-20":"2020-03-23"].to_numpy()
    np.testing.assert_allclose(found.returns["B"], inside @ [1.1, 0.2], rtol=1e-12)
    np.testing.assert_allclose(found.returns["new"], inside @ [0.5, -1.0], rtol=1e-12)
    np.testing.assert_array_equal(found.returns["A"], given["2020-02-20":"2020-03-23"]["A"])
    total = stress_window(given, "covid_2020", mode="cumulative", exposures=exposures, factor_returns=factors)
    assert total["new"] == pytest.approx(np.prod(1.0 + inside @ [0.5, -1.0]) - 1.0, rel=1e-12)
    with pytest.raises(InputError, match=r"'B' has no returns for all of covid_2020 .* pass exposures"):
        stress_window(given, "covid_2020")
    with pytest.raises(UnknownNameError, match=r"unknown factor: 'Valu' \(did you mean 'Value'\?\)"):
        stress_window(
            given, "covid_2020", exposures=exposures.set_axis(["Market", "Valu"], axis=1), factor_returns=factors
        )
    with pytest.raises(InputError, match="takes both exposures and factor_returns"):
        stress_window(given, "covid_2020", exposures=exposures)
    with pytest.raises(InputError, match=r"covid_2020 goes from .* and factor_returns reaches"):
        stress_window(given, "covid_2020", exposures=exposures, factor_returns=factors[:"2020-03-10"])
    with pytest.raises(InputError, match="factor_returns lacks 1 days of covid_2020, the first 2020-03-05"):
        stress_window(given, "covid_2020", exposures=exposures, factor_returns=factors.drop(pd.Timestamp("2020-03-05")))


def weekly(given: pd.DataFrame) -> pd.DataFrame:
    return given[given.index.day_of_year % 14 == 0]


@pytest.mark.parametrize(
    ("change", "arguments", "words"),
    [
        (lambda h: h["2020-02-24":], {}, "history reaches from 2020-02-24 to 2020-12-31"),
        (lambda h: h[:"2020-03-20"], {}, "history reaches from 2019-06-03 to 2020-03-20"),
        (lambda h: h[:0], {}, "history has no rows"),
        (weekly, {}, "history has nothing between .* covid_2020 needs daily data"),
        (lambda h: h.reset_index(drop=True), {}, "history must be indexed by date"),
        (lambda h: h[::-1], {}, "not in increasing order"),
        (lambda h: h.iloc[np.repeat(np.arange(len(h)), 2)], {}, "history has dates twice"),
        (lambda h: h + 50.0, {}, "pass prices=True if they are prices"),
        (lambda h: 100.0 * h, {}, "history is infinite or below -1 for"),
        (lambda h: h, {"prices": True}, "prices must be above zero: 'A', 'B', 'C'"),
        (lambda h: h, {"mode": "weekly"}, "mode must be 'daily' or 'cumulative'"),
        (lambda h: h["A"], {}, "returns must be a frame"),
    ],
)
def test_data_that_do_not_do(change: Any, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        stress_window(change(returns()), "covid_2020", **arguments)


def test_windows_that_are_none() -> None:
    with pytest.raises(
        UnknownNameError, match=r"unknown window: 'covid' \(did you mean 'covid_2020'\?\)|known windows"
    ):
        stress_window(returns(), "covid")
    with pytest.raises(InputError, match="a window must end after it starts"):
        stress_window(returns(), Window("2020-03-01", "2020-02-01"))
    with pytest.raises(InputError, match="must read YYYY-MM-DD"):
        stress_window(returns(), Window("soon", "later"))

"""Validation: right forecasts pass, wrong ones fail, and no session is counted twice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom, chi2

import portfolioopt as po
from portfolioopt.backtest import Backtest
from portfolioopt.backtest.validation import realised_horizons, stress_behaviour, target_drift, validate
from tests.report.books import ASSETS, book, forecast, prices

DAILY = 0.02


@pytest.fixture(scope="module")
def steady() -> Backtest:
    """A book in one asset whose returns are normal with a known volatility, over twelve years."""
    rng = np.random.default_rng(5)
    dates = pd.bdate_range("2001-01-01", periods=3000)
    walk = np.cumprod(1.0 + rng.normal(0.0, DAILY, (3000, 4)), axis=0)
    data = pd.DataFrame(100.0 * walk, dates, ASSETS)
    return book([1.0, 0.0, 0.0, 0.0], data=data, bps=0.0, benchmark=False)


def test_right_forecasts_pass(steady: Backtest) -> None:
    found = validate(forecast(steady, DAILY, horizon=1))
    passed = found.frame["passed"].dropna()
    assert passed.all(), found
    assert found.bias is not None
    assert found.bias.statistic.iloc[0] == pytest.approx(1.0, abs=0.03)
    assert "as predicted" in found.verdicts["volatility: bias statistic"]


@pytest.mark.parametrize(("factor", "word"), [(0.6, "underestimated"), (1.7, "overestimated")])
def test_wrong_forecasts_fail(steady: Backtest, factor: float, word: str) -> None:
    found = validate(forecast(steady, factor * DAILY, horizon=5))
    assert found.frame.loc["volatility: bias statistic", "value"] == pytest.approx(1.0 / factor, rel=0.1)
    assert word in found.verdicts["volatility: bias statistic"]
    passed = found.frame["passed"]
    assert not passed["volatility: bias statistic"]
    assert not passed["VaR 95%: exceedances (Kupiec)"]
    assert passed["CVaR 95%: size and number (Acerbi-Székely)"] == (
        factor > 1.0
    )  # the test looks at one side: too much capital is no failure


def test_kupiec_is_that_of_the_counted_exceedances(steady: Backtest) -> None:
    found = validate(forecast(steady, DAILY, horizon=10, beta=0.9))
    own = found.forecasts[found.forecasts["tested"]]
    hits = int((-own["realised"] > own["var"]).sum())
    n = len(own)
    ratio = 2.0 * (binom.logpmf(hits, n, hits / n) - binom.logpmf(hits, n, 0.1))
    line = found.frame.loc["VaR 90%: exceedances (Kupiec)"].to_dict()
    assert line["value"] == hits
    assert line["expected"] == pytest.approx(0.1 * n)
    assert line["p_value"] == pytest.approx(chi2.sf(ratio, 1))


@pytest.mark.parametrize("horizon", [1, 3, 21, 22, 40])
@pytest.mark.parametrize("every", ["monthly", "weekly"])
def test_tested_horizons_share_no_session(steady: Backtest, horizon: int, every: str) -> None:
    data = steady.prices.iloc[:400]
    run = forecast(book([1.0, 0.0, 0.0, 0.0], data=data, every=every, benchmark=False), DAILY, horizon=horizon)
    dates = run.nav.index
    for overlap in (0.0, 0.1):
        frame = realised_horizons(run, overlap=overlap)
        seen = np.zeros(len(dates), dtype=int)
        for start, line in frame[frame["tested"]].iterrows():
            first, last = dates.get_loc(start), dates.get_loc(line["end"])
            assert last - first == horizon
            seen[first + 1 : last + 1] += 1
        assert seen.max() <= (1 if overlap == 0.0 else 2)
        assert (seen == 2).sum() <= overlap * horizon * frame["tested"].sum()
        if horizon == 1:
            first_trade = dates.get_loc(run.timeline["traded"].iloc[0])
            assert (seen[first_trade + 1 :] == 1).all()


def test_realised_returns_are_those_of_the_book_after_the_trade(steady: Backtest) -> None:
    run = forecast(steady, DAILY, horizon=21)
    frame = realised_horizons(run)
    nav = run.nav
    expected = nav.loc[pd.DatetimeIndex(frame["end"])].to_numpy() / nav.loc[frame.index].to_numpy() - 1.0
    assert frame["realised"].to_numpy() == pytest.approx(expected, abs=1e-12)
    traded = run.timeline["traded"].dropna()
    first = frame[frame["age"] == 0]
    assert set(first.index) <= set(traded)
    # a month of 23 sessions has one horizon of 21, one of 19 has it too
    assert frame["tested"].mean() > 0.95


def test_the_future_does_not_move_the_past(steady: Backtest) -> None:
    short = book([1.0, 0.0, 0.0, 0.0], data=steady.prices.iloc[:1500], bps=0.0, benchmark=False)
    early = realised_horizons(forecast(short, DAILY, horizon=5))
    late = realised_horizons(forecast(steady, DAILY, horizon=5))
    # the last decision of the short run stands longer there than in the long one
    last = pd.Timestamp(short.timeline["traded"].dropna().iloc[-1])
    pd.testing.assert_frame_equal(early[early.index < last], late.loc[early.index[early.index < last]])


def test_trades_of_a_rule_have_the_forecast_of_their_target() -> None:
    rule = po.rebalance.DriftTrigger(po.rebalance.DriftBand(0.005))
    run = po.backtest(
        po.strategies.FixedWeights(pd.Series(0.25, index=ASSETS)), prices(300), every="quarterly", rule=rule
    )
    lines = run._record.timeline
    said = [
        line | ({"volatility": 0.01 * (i + 1), "var": 0.1, "cvar": 0.2, "beta": 0.9, "horizon": 1.0} if asked else {})
        for i, (line, asked) in enumerate((line, line["status"] != "rule") for line in lines)
    ]
    assert any(line["status"] == "rule" for line in lines)
    frame = realised_horizons(Backtest(replace(run._record, timeline=said)))
    asked = [(line["decided"], line["volatility"]) for line in said if line["status"] != "rule"]
    dates = run.nav.index
    for _, line in frame.iterrows():
        decided = dates.get_loc(line["decided"])
        assert line["volatility"] == [vol for when, vol in asked if when <= decided][-1]


def test_drift_is_the_distance_from_the_latest_target() -> None:
    run = book([0.5, 0.3, -0.2, 0.3], data=prices(60), bps=0.0)
    drift = target_drift(run)
    goal = pd.Series([0.5, 0.3, -0.2, 0.3], index=ASSETS)
    for date, weights in run.weights.iloc[1:].iterrows():
        off = sum(abs(weights[a] - goal[a]) for a in ASSETS) + abs((1 - weights.sum()) - (1 - goal.sum()))
        assert drift[date] == pytest.approx(off / 2.0, abs=1e-12)
    assert np.isnan(drift.iloc[0])  # the first target is traded a session later
    assert drift[run.trades["date"].unique()].max() < 1e-12


def test_windows_of_stress_are_ratios_of_worth() -> None:
    run = book(data=prices(520))  # June 2019 to May 2021
    frame = stress_behaviour(run)
    worth = (1.0 + run.returns).cumprod()
    crash = frame.loc["covid_2020"].to_dict()
    assert (crash["start"], crash["end"]) == (pd.Timestamp("2020-02-19"), pd.Timestamp("2020-03-23"))
    inside = worth["2020-02-19":"2020-03-23"]
    assert crash["return"] == pytest.approx(inside.iloc[-1] / inside.iloc[0] - 1.0)
    assert crash["worst_drawdown"] == pytest.approx((1.0 - inside / inside.cummax()).max())
    assert run.benchmark is not None
    other = run.benchmark["2020-02-19":"2020-03-23"]
    assert crash["benchmark"] == pytest.approx(other.iloc[-1] / other.iloc[0] - 1.0)
    assert "crisis_2008" not in frame.index
    month = worth.to_numpy()[21:] / worth.to_numpy()[:-21] - 1.0
    assert frame.loc["worst month", "return"] == pytest.approx(month.min())

    half = book(data=prices(200, start="2020-03-02"), benchmark=False)
    cut = stress_behaviour(half).loc["covid_2020"].to_dict()
    assert cut["start"] == half.nav.index[0]
    assert cut["description"].endswith("as far as the run has seen it")
    assert np.isnan(cut["benchmark"])


def test_limits_and_failures_are_counted() -> None:
    run = forecast(book(data=prices(120)), 0.01)
    lines = [dict(line) for line in run._record.timeline]
    lines[2] |= {"max_violation": 3e-4}
    lines[3] |= {"status": "infeasible", "fallback": "hold", "message": "no", "max_violation": np.nan, "binding": ""}
    found = validate(Backtest(replace(run._record, timeline=lines)))
    assert found.adherence["violated"].sum() == 1
    assert found.binding.to_dict() == {"Bounds": 1.0, "Turnover": 1.0}
    assert not found.frame["passed"]["limits of the targets"]
    assert "3.00e-04" in found.verdicts["limits of the targets"]
    assert "1 x hold" in found.verdicts["failures and fallbacks"]


def test_a_run_without_forecasts_says_so() -> None:
    found = validate(book(data=prices(120)))
    assert found.forecasts.empty
    assert found.bias is None
    assert not found.var
    assert "no decision" in found.verdicts["volatility: bias statistic"]
    assert "Validation" in repr(found)


def test_settings_are_checked() -> None:
    run = book(data=prices(60))
    with pytest.raises(po.InputError, match="overlap"):
        validate(run, overlap=1.0)
    with pytest.raises(po.InputError, match="seed"):
        validate(run, seed=-1)

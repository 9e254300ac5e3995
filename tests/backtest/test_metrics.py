"""Performance beside empyrical, skfolio, scipy, statsmodels and quantstats, by hand, and at the edges."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import empyrical
import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from skfolio import measures

import portfolioopt as po
from portfolioopt.backtest.metric_table import METRICS, metric_table
from portfolioopt.backtest.metrics import monthly_returns, performance, rolling_performance
from portfolioopt.errors import InputError, UnknownNameError
from portfolioopt.scenarios.tail import tail

PRICES = po.data.sample_prices()[["AAPL", "JNJ", "XOM", "KO", "JPM"]].loc["2010":]
RETURNS = PRICES.pct_change().iloc[1:]
OWN, MARKET = RETURNS["AAPL"], RETURNS.mean(axis=1)
FREE = pd.Series(0.0001 + 0.00005 * np.sin(np.arange(len(RETURNS)) / 50.0), RETURNS.index)
TURNOVER = RETURNS.abs() * 3.0
COSTS = TURNOVER * 0.001


def near(value: float, **kwargs: float) -> Any:
    return pytest.approx(value, rel=kwargs.get("rel", 1e-10), abs=kwargs.get("abs", 1e-14))


@pytest.mark.parametrize("name", list(RETURNS))
def test_empyrical_agrees_where_it_means_the_same(name: str) -> None:
    r = RETURNS[name]
    found = performance(r, risk_free=FREE, benchmark=MARKET)
    assert found["total_return"] == near(empyrical.cum_returns_final(r))
    assert found["cagr"] == near(empyrical.cagr(r))
    assert found["volatility"] == near(empyrical.annual_volatility(r))
    assert found["downside_deviation"] == near(empyrical.downside_risk(r, FREE))
    assert found["sharpe"] == near(empyrical.sharpe_ratio(r, FREE))
    assert found["sortino"] == near(empyrical.sortino_ratio(r, FREE))
    assert found["calmar"] == near(empyrical.calmar_ratio(r))
    assert found["omega"] == near(empyrical.omega_ratio(r - FREE))
    assert found["max_drawdown"] == near(-empyrical.max_drawdown(r))
    assert found["tail_ratio"] == near(empyrical.tail_ratio(r))
    assert performance(r, benchmark=MARKET)["beta_to_benchmark"] == near(empyrical.beta(r, MARKET))
    assert found["information_ratio"] == near(np.sqrt(252) * empyrical.excess_sharpe(r, MARKET))
    assert found["active_hit_rate"] == near(empyrical.batting_average(r, MARKET)["batting average"])
    # A year of one period: empyrical then takes the geometric mean per period, as here.
    assert found["up_capture"] == near(empyrical.up_capture(r, MARKET, period="yearly"))
    assert found["down_capture"] == near(empyrical.down_capture(r, MARKET, period="yearly"))


def test_where_empyrical_means_something_else() -> None:
    found = performance(OWN, risk_free=FREE, benchmark=MARKET)
    # Its beta is that of returns, not of excess returns; and it compounds alpha, which is a mean of differences.
    assert found["beta_to_benchmark"] != near(empyrical.beta(OWN, MARKET, FREE))
    assert empyrical.beta(OWN, MARKET, FREE) == empyrical.beta(OWN, MARKET)
    alpha, fixed = empyrical.alpha(OWN, MARKET, 0.0001), performance(OWN, risk_free=0.0252, benchmark=MARKET)["alpha"]
    assert alpha == near(np.expm1(252 * np.log1p(fixed / 252)))
    assert alpha > fixed
    # It annualises the captured returns of positive days as if a year had no others.
    up = MARKET > 0
    own, other = (np.expm1(252 * np.log1p(r[up]).mean()) for r in (OWN, MARKET))
    assert empyrical.up_capture(OWN, MARKET) == near(own / other)
    assert own / other > 1.3 * found["up_capture"]
    # It interpolates the quantile, and averages a whole number of days: the tail here is 163.45 of 3269.
    count = len(OWN)
    worst = np.sort(OWN)
    held = 0.05 * count
    assert held != round(held)
    assert found["var"] == -worst[int(np.ceil(held)) - 1]
    assert found["var"] != near(-empyrical.value_at_risk(OWN))
    assert found["cvar"] != near(-empyrical.conditional_value_at_risk(OWN))
    assert found["cvar"] == near(-empyrical.conditional_value_at_risk(OWN), rel=0.01)


@pytest.mark.parametrize("beta", [0.5, 0.9, 0.95, 0.999, 0.99999])
def test_tails_and_drawdowns_are_those_of_scenarios_and_of_skfolio(beta: float) -> None:
    found = performance(RETURNS, beta=beta)
    down = -measures.get_drawdowns(RETURNS.to_numpy(), compounded=True)
    equal = np.full(len(RETURNS), 1.0 / len(RETURNS))
    for place, name in enumerate(RETURNS):
        losses = -RETURNS[name].to_numpy()
        row = found.loc[name]
        exact = tail(losses, equal, beta)
        assert row["var"] == near(exact.var)
        assert row["cvar"] == near(exact.cvar)
        assert row["cvar"] == near(measures.cvar(-losses, beta=beta))
        # skfolio's drawdowns begin with the worth after the first period, here the worth before it is a peak as well.
        if RETURNS[name].iloc[0] >= 0:
            assert row["max_drawdown"] == near(down[:, place].max())
            assert row["average_drawdown"] == near(down[:, place].mean())
            assert row["ulcer_index"] == near(measures.ulcer_index(-down[:, place]))
            assert row["conditional_drawdown_at_risk"] == near(measures.cdar(-down[:, place], beta=beta))
    assert (RETURNS.iloc[0] >= 0).sum() >= 2


def test_moments_and_their_tests_are_those_of_scipy_and_skfolio() -> None:
    found = performance(RETURNS)
    for name in RETURNS:
        assert found.loc[name, "skewness"] == near(stats.skew(RETURNS[name]))
        assert found.loc[name, "excess_kurtosis"] == near(stats.kurtosis(RETURNS[name]))
    probable = measures.probabilistic_sharpe_ratio(RETURNS.to_numpy())
    np.testing.assert_allclose(found["probabilistic_sharpe"], probable, rtol=1e-10)


def test_a_benchmark_is_a_regression_on_it() -> None:
    found = performance(RETURNS, benchmark=MARKET, risk_free=FREE, periods_per_year=250)
    for name in RETURNS:
        fit = sm.OLS(RETURNS[name] - FREE, sm.add_constant((MARKET - FREE).rename("b"))).fit()
        assert found.loc[name, "alpha"] == near(250 * fit.params["const"])
        assert found.loc[name, "beta_to_benchmark"] == near(fit.params["b"])
        assert found.loc[name, "correlation"] ** 2 == near(fit.rsquared)
        assert found.loc[name, "tracking_error"] == near(np.sqrt(250) * (RETURNS[name] - MARKET).std())
        growth = (1 + RETURNS[[name]].assign(b=MARKET)).prod() ** (250 / len(RETURNS))
        assert found.loc[name, "excess_cagr"] == near(growth[name] - growth["b"])


def test_quantstats_agrees_and_differs_as_it_says() -> None:
    qs = pytest.importorskip("quantstats").stats
    found = performance(OWN)
    assert found["cagr"] == near(qs.cagr(OWN))
    assert found["sharpe"] == near(qs.sharpe(OWN))
    assert found["sortino"] == near(qs.sortino(OWN))
    assert found["omega"] == near(qs.omega(OWN))
    assert found["max_drawdown"] == near(-qs.max_drawdown(OWN))
    assert found["gain_to_pain"] == near(qs.gain_to_pain_ratio(OWN))
    assert found["profit_factor"] == near(qs.profit_factor(OWN))
    assert found["payoff_ratio"] == near(qs.payoff_ratio(OWN))
    assert found["tail_ratio"] == near(qs.tail_ratio(OWN))
    # It divides the squares of the Ulcer index by T - 1, leaves days without a move out of the win rate, and corrects
    # skewness and kurtosis for the number of periods.
    count = len(OWN)
    assert found["ulcer_index"] == near(qs.ulcer_index(OWN) * np.sqrt((count - 1) / count), rel=1e-9)
    assert found["hit_rate"] == near(qs.win_rate(OWN) * (OWN != 0).mean())
    assert found["skewness"] == near(qs.skew(OWN) * (count - 2) / np.sqrt(count * (count - 1)))
    # Its value at risk and CVaR are those of a normal distribution with the same mean and volatility.
    assert -qs.value_at_risk(OWN) == near(-stats.norm.ppf(0.05, OWN.mean(), OWN.std()))
    assert found["cvar"] > 1.05 * -qs.conditional_value_at_risk(OWN)
    # Its information ratio is not annualised.
    relative = performance(OWN, benchmark=MARKET)
    assert relative["information_ratio"] == near(np.sqrt(252) * qs.information_ratio(OWN, MARKET))
    assert relative["alpha"] == near(qs.greeks(OWN, MARKET, periods=252)["alpha"])


def test_a_small_case_by_hand() -> None:
    r = pd.Series([0.10, -0.20, 0.00, 0.25, -0.05], pd.bdate_range("2020-01-01", periods=5), name="book")
    found = performance(
        r, periods_per_year=5, turnover=pd.Series(0.4, r.index), costs=pd.Series(0.01, r.index), beta=0.7
    )
    assert found.name == "book"
    assert found["periods"] == 5.0
    assert found["years"] == 1.0
    worth = 1.10 * 0.80 * 1.25 * 0.95
    assert found["total_return"] == near(worth - 1)
    assert found["cagr"] == near(worth - 1)
    assert found["max_drawdown"] == near(0.2)
    assert found["average_drawdown"] == near((0.2 + 0.2 + 0.0 + 0.05) / 5)  # 0.88 * 1.25 is 1.1, the peak again
    assert found["longest_drawdown"] == 2.0
    assert found["ulcer_index"] == near(np.sqrt((0.04 + 0.04 + 0.0025) / 5))
    assert found["hit_rate"] == near(0.4)
    assert found["gain_to_pain"] == near(0.10 / 0.25)
    assert found["profit_factor"] == near(0.35 / 0.25)
    assert found["payoff_ratio"] == near(0.175 / 0.125)
    assert found["best_period"] == 0.25
    assert found["worst_period"] == -0.20
    # 30 % of five periods are one and a half.
    assert found["cvar"] == near((0.2 + 0.5 * 0.05) / 1.5)
    assert found["var"] == near(0.05)
    assert found["conditional_drawdown_at_risk"] == near(0.2)
    assert found["downside_deviation"] == near(np.sqrt(0.04 + 0.0025))
    assert found["turnover_l1"] == near(2.0)
    assert found["turnover_one_way"] == near(1.0)
    assert found["cost_per_year"] == near(0.05)
    assert found["cost_drag"] == near(1.11 * 0.81 * 1.01 * 1.26 * 0.96 - worth)
    assert found["breakeven_cost"] == near(0.03 / 0.4)


def test_trading_at_the_breakeven_cost_earns_the_risk_free_rate() -> None:
    gross = RETURNS + COSTS
    found = performance(RETURNS, turnover=TURNOVER, costs=COSTS, risk_free=FREE)
    for name in RETURNS:
        net = gross[name] - TURNOVER[name] * found.loc[name, "breakeven_cost"]
        assert (net - FREE).mean() == pytest.approx(0.0, abs=1e-16)
    without = performance(RETURNS, turnover=TURNOVER, risk_free=FREE)
    np.testing.assert_allclose(without["breakeven_cost"], (RETURNS.mean() - FREE.mean()) / TURNOVER.mean(), rtol=1e-10)


def test_many_runs_are_each_run_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = {"benchmark": MARKET, "risk_free": FREE}
    whole = performance(RETURNS, turnover=TURNOVER, costs=COSTS, **arguments)
    assert list(whole.index) == list(RETURNS)
    assert list(whole.columns) == list(METRICS)
    for name in RETURNS:
        alone = performance(RETURNS[name], turnover=TURNOVER[name], costs=COSTS[name], **arguments)
        pd.testing.assert_series_equal(whole.loc[name], alone, rtol=1e-13)
    monkeypatch.setattr(import_module("portfolioopt.backtest.metrics"), "_CELLS", 2 * len(RETURNS))
    parts = performance(RETURNS, turnover=TURNOVER, costs=COSTS, **arguments)
    pd.testing.assert_frame_equal(whole, parts, rtol=1e-13)


def test_periods_in_which_the_benchmark_stands_still_capture_nothing() -> None:
    dates = pd.bdate_range("2020-01-01", periods=6)
    b = pd.Series([0.02, 0.0, -0.01, 0.01, 0.0, -0.03], dates)
    r = pd.Series([0.01, 0.3, 0.02, 0.03, -0.4, -0.05], dates)
    found = performance(r, benchmark=b)
    assert found["up_capture"] == near(((1.01 * 1.03) ** 0.5 - 1) / ((1.02 * 1.01) ** 0.5 - 1))
    assert found["down_capture"] == near(((1.02 * 0.95) ** 0.5 - 1) / ((0.99 * 0.97) ** 0.5 - 1))
    assert found["active_hit_rate"] == near(0.5)


def test_a_risk_free_rate_per_year_is_spread_over_it() -> None:
    a = performance(OWN, risk_free=0.02, benchmark=MARKET)
    b = performance(OWN, risk_free=pd.Series(0.02 / 252, OWN.index), benchmark=MARKET)
    pd.testing.assert_series_equal(a, b, rtol=1e-13)
    assert a["sharpe"] == near((252 * OWN.mean() - 0.02) / a["volatility"])


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 3.0))
def test_what_scale_and_order_do(seed: int, scale: float) -> None:
    generator = np.random.default_rng(seed)
    r = pd.Series(generator.normal(0.001, 0.02, 60))
    a, b = performance(r), performance(scale * r)
    for name in ("sharpe", "sortino", "omega", "hit_rate", "profit_factor", "payoff_ratio", "skewness", "tail_ratio"):
        assert b[name] == near(a[name], rel=1e-9)
    for name in ("volatility", "var", "cvar", "downside_deviation", "best_period"):
        assert b[name] == near(scale * a[name], rel=1e-9)
    mixed = performance(pd.Series(generator.permutation(r)))
    drawn = {"max_drawdown", "average_drawdown", "longest_drawdown", "ulcer_index", "conditional_drawdown_at_risk",
             "calmar", "sharpe_standard_error_hac"}  # fmt: skip
    pd.testing.assert_series_equal(mixed.drop(list(drawn)), a.drop(list(drawn)), rtol=1e-9)
    assert a["cvar"] >= a["var"]
    assert a["max_drawdown"] >= a["conditional_drawdown_at_risk"] >= a["average_drawdown"] >= 0
    assert a["ulcer_index"] >= a["average_drawdown"]


def test_one_period_and_two() -> None:
    one = performance(pd.Series([0.02], name="r"), periods_per_year=12)
    assert one["total_return"] == near(0.02)
    assert one["cagr"] == near(1.02**12 - 1)
    assert one["cvar"] == -0.02
    for name in (
        "volatility",
        "sharpe",
        "sharpe_standard_error",
        "probabilistic_sharpe",
        "skewness",
        "calmar",
        "omega",
    ):
        assert np.isnan(one[name])
    two = performance(pd.Series([0.02, -0.01]), periods_per_year=12)
    assert two["sharpe"] == near(np.sqrt(12) * 0.005 / np.std([0.02, -0.01], ddof=1))
    assert np.isnan(two["sharpe_standard_error"])
    assert np.isnan(two["sharpe_standard_error_hac"])


@pytest.mark.parametrize("level", [0.0, 0.001, 0.1])
def test_without_variation_there_are_no_ratios(level: float) -> None:
    r = pd.Series(level, pd.bdate_range("2020-01-01", periods=10))
    found = performance(r, benchmark=r, risk_free=pd.Series(level, r.index))
    assert found["volatility"] == 0.0
    for name in ("sharpe", "sharpe_standard_error", "probabilistic_sharpe", "sortino", "omega", "calmar", "skewness",
                 "beta_to_benchmark", "alpha", "correlation", "information_ratio"):  # fmt: skip
        assert np.isnan(found[name]), name
    assert found["tracking_error"] == 0.0
    assert found["max_drawdown"] == 0.0
    assert found["longest_drawdown"] == 0.0
    assert found["cvar"] == near(-level)


def test_rounding_is_no_variation() -> None:
    r = OWN.iloc[:300]
    found = performance(r + 1e-4, benchmark=r)
    assert found["tracking_error"] == 0.0
    assert np.isnan(found["information_ratio"])
    assert found["beta_to_benchmark"] == near(1.0, rel=1e-9)
    rate = pd.Series(np.linspace(0.0001, 0.0002, 300), r.index)
    assert np.isnan(performance(rate + 0.001, risk_free=rate)["sharpe"])


def test_a_total_loss_ends_the_history() -> None:
    r = pd.Series([0.05, -1.0, 0.0, 0.0], pd.bdate_range("2020-01-01", periods=4))
    found = performance(r, benchmark=pd.Series([0.01, -0.01, 0.02, 0.0], r.index))
    assert found["total_return"] == -1.0
    assert found["cagr"] == -1.0
    assert found["max_drawdown"] == 1.0
    assert found["calmar"] == -1.0
    assert found["longest_drawdown"] == 3.0
    assert found["down_capture"] == near(100.0)
    assert found["excess_cagr"] == near(-1.0 - ((1.01 * 0.99 * 1.02) ** 63 - 1))
    assert np.isfinite(found.drop(["sharpe_standard_error_hac"])).all()


def test_the_table_says_what_the_answer_holds() -> None:
    table = metric_table()
    assert list(table.index) == list(METRICS)
    assert list(performance(OWN).index) == list(table.index[table["needs"] == ""])
    assert (table["formula"].str.len() > 0).all()
    for needs, argument in (("benchmark", {"benchmark": MARKET}), ("costs", {"costs": COSTS["AAPL"]}),
                            ("turnover", {"turnover": TURNOVER["AAPL"]})):  # fmt: skip
        found = performance(OWN, **argument)
        assert list(found.index) == list(table.index[table["needs"].isin(["", needs])])


@pytest.mark.parametrize(
    ("returns", "arguments", "words"),
    [
        (OWN.where(OWN.index != OWN.index[7]), {}, "missing or infinite for AAPL on 2010-01-14"),
        (OWN.iloc[:0], {}, "at least 1 row"),
        (OWN[::-1], {}, "not in increasing order"),
        (OWN.to_numpy(), {}, "a Series by period, or a frame"),
        (OWN * 100, {}, "lose more than everything on"),
        (OWN.abs() * 1e6, {}, "too large to be compounded"),
        (OWN, {"benchmark": MARKET.iloc[2:]}, "benchmark has no value on 2 of the 3"),
        (OWN, {"benchmark": RETURNS}, "benchmark must be a Series"),
        (OWN, {"benchmark": MARKET * 100}, "benchmark returns lose more"),
        (OWN, {"risk_free": FREE.iloc[:-1]}, "risk_free has no value on 1"),
        (OWN, {"risk_free": np.nan}, "risk_free must be a finite number"),
        (OWN, {"periods_per_year": 0}, "periods_per_year must be above 0"),
        (OWN, {"beta": 95}, "beta must lie strictly between 0 and 1"),
        (OWN, {"turnover": -OWN.abs()}, "turnover must not be negative"),
        (OWN, {"turnover": TURNOVER}, "turnover must be a Series"),
        (RETURNS, {"turnover": TURNOVER["KO"]}, "turnover must be a frame"),
        (RETURNS, {"costs": COSTS.iloc[:, ::-1]}, "must have the dates and the columns of returns"),
    ],
)
def test_what_cannot_be_measured_is_refused(returns, arguments, words: str) -> None:
    with pytest.raises(InputError, match=words):
        performance(returns, **arguments)


def test_months_and_years_compound() -> None:
    found = monthly_returns(OWN)
    oracle = empyrical.aggregate_returns(OWN, "monthly")
    for (year, month), value in zip(oracle.index.tolist(), oracle, strict=True):
        assert found.loc[year, month] == near(value)
    for year, value in empyrical.aggregate_returns(OWN, "yearly").items():
        assert found.loc[year, "year"] == near(value)
    part = monthly_returns(OWN.loc["2011-03-20":"2013-02-10"].drop(OWN.loc["2012-05":"2012-06"].index))
    assert list(part.columns) == [*range(1, 13), "year"]
    assert part.isna().sum(axis=1).to_dict() == {2011: 2, 2012: 2, 2013: 10}
    gap = monthly_returns(pd.concat([OWN.loc["2011-01"], OWN.loc["2013-02"]]))
    assert list(gap.index) == [2011, 2012, 2013]
    assert gap.isna().sum(axis=1).to_dict() == {2011: 11, 2012: 13, 2013: 11}
    with pytest.raises(InputError, match="indexed by timestamps"):
        monthly_returns(OWN.reset_index(drop=True))
    with pytest.raises(InputError, match="Series by period"):
        monthly_returns(RETURNS)


def test_windows_are_histories_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    r = OWN.iloc[:70]
    found = rolling_performance(r, 50, benchmark=MARKET, risk_free=FREE)
    assert list(found.columns) == ["cagr", "volatility", "sharpe", "max_drawdown", "beta_to_benchmark"]
    assert found.index.equals(r.index[49:])
    for end in (49, 57, 69):
        alone = performance(r.iloc[end - 49 : end + 1], benchmark=MARKET, risk_free=FREE)
        pd.testing.assert_series_equal(found.loc[r.index[end]], alone[found.columns], rtol=1e-12, check_names=False)
    later = r.copy()
    later.iloc[60:] = 0.5
    other = rolling_performance(later, 50, benchmark=MARKET, risk_free=FREE)
    pd.testing.assert_frame_equal(other.iloc[:11], found.iloc[:11], check_exact=True)
    monkeypatch.setattr(import_module("portfolioopt.backtest.metrics"), "_CELLS", 350)
    chosen = rolling_performance(r, 50, metrics=["cvar", "sharpe"], risk_free=FREE)
    assert list(chosen.columns) == ["cvar", "sharpe"]
    pd.testing.assert_series_equal(chosen["sharpe"], found["sharpe"], rtol=1e-12)


def test_windows_that_make_no_sense_are_refused() -> None:
    with pytest.raises(InputError, match="at least 90 rows"):
        rolling_performance(OWN.iloc[:70], 90)
    with pytest.raises(InputError, match="window must be a whole number, at least 2"):
        rolling_performance(OWN, 1)
    with pytest.raises(UnknownNameError, match="did you mean 'sharpe'"):
        rolling_performance(OWN, 20, metrics=["sharp"])
    with pytest.raises(UnknownNameError, match="beta_to_benchmark"):
        rolling_performance(OWN, 20, metrics=["beta_to_benchmark"])
    with pytest.raises(InputError, match="Series by period"):
        rolling_performance(RETURNS, 20)

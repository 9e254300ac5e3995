"""The file of a backtest: every key means what it says in Python, and every fault has its line."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

import portfolioopt as po
from portfolioopt.config import (
    BacktestConfig,
    Config,
    build_backtest,
    load_any,
    load_backtest,
    load_config,
)

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "backtest.yaml"

BASE = """\
data: {source: sample, start: 2018-01-01}
book: {start: 2020-01-02, end: 2020-06-30, benchmark: sample index, seed: 3}
decisions: monthly
strategy:
  kind: mean_cvar
  window: 252
  n_scenarios: 150
  horizon: 5
  upper: 0.2
  turnover: 0.5
costs:
  commission: 5
"""
EQUAL = """\
data: {source: sample, start: 2018-01-01}
book: {start: 2020-01-02, end: 2020-06-30}
strategy: equal_weight
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "past.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def run(folder: Path, text: str) -> po.Backtest:
    found = build_backtest(load_backtest(write(folder, text))).run()
    assert isinstance(found, po.Backtest)
    return found


def grid(folder: Path, text: str) -> po.BacktestGrid:
    found = build_backtest(load_backtest(write(folder, text))).run()
    assert isinstance(found, po.BacktestGrid)
    return found


def prices() -> pd.DataFrame:
    return po.data.sample_prices().loc["2018-01-01":]


def python(strategy: po.Strategy, **settings: object) -> po.Backtest:
    return po.backtest(strategy, prices(), **({"start": "2020-01-02", "end": "2020-06-30"} | settings))


def capped(returns: pd.DataFrame, limit: float) -> pd.Series:
    """Bounds of 30 %, and another one for KO."""
    return pd.Series(0.3, returns.columns).where(returns.columns != "KO", limit)


# -- what is accepted --------------------------------------------------------------------------------------------


def test_the_example_is_the_backtest_it_describes() -> None:
    setup = build_backtest(load_backtest(EXAMPLE))
    sectors = po.data.sample_sectors()
    limit = po.GroupLimit(sectors, upper=dict.fromkeys(sectors.unique(), 0.3), name="Sectors")
    expected = po.strategies.MeanCVaR(
        risk_aversion=2.0, window=1260, scenarios=1000, horizon=21, upper=0.15, constraints=(limit,)
    )
    assert list(setup.strategies) == ["Mean-CVaR"]
    assert repr(setup.strategies["Mean-CVaR"]) == repr(expected)
    pd.testing.assert_frame_equal(setup.market.prices, po.data.sample_prices(), check_like=True)
    settings = dict(setup.settings)
    benchmark = settings.pop("benchmark")
    assert isinstance(benchmark, pd.Series)
    assert benchmark.equals(po.data.sample_index())
    assert repr(settings.pop("costs")) == repr(
        po.costs.ProportionalCosts(bps=5.0) + po.costs.SpreadCosts(bps=4.0, fraction=0.5)
    )
    assert settings == {
        "start": None, "end": None, "every": "monthly", "lag": 1, "orders": None, "capital": 1e7, "cash_rate": 0.0,
        "flows": None, "credit": False, "max_stale": 5, "how": "product", "seed": 7, "fallback": "hold",
    }  # fmt: skip
    assert str(setup.sessions[0].date()) == "1994-12-23"
    assert len(setup.sessions) == 7053
    assert setup.rehearse()["Mean-CVaR"].startswith("maximise ExpectedReturn() - 2 CVaR(beta=0.95)")


@pytest.mark.parametrize("part", ["rule", "orders", "strategies", "parameters"])
def test_what_the_example_shows_in_comments_is_sound(tmp_path: Path, part: str) -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    block = re.search(rf"(?m)^# {part}:.*\n(?:# .+\n)*", text)
    assert block is not None
    if part == "strategies":
        text = re.sub(r"(?ms)^strategy:.*?(?=^costs:)", "", text)
    setup = build_backtest(load_backtest(write(tmp_path, text + re.sub(r"(?m)^# ", "", block.group()))))
    assert setup.runs == {"strategies": 3, "parameters": 8 * 20}.get(part, 1)
    assert (setup.settings.get("rule") is not None) == (part == "rule")
    assert (setup.settings.get("orders") is not None) == (part == "orders")


def test_a_file_is_the_same_run_as_in_python(tmp_path: Path) -> None:
    found = run(tmp_path, BASE)
    strategy = po.strategies.MeanCVaR(window=252, scenarios=150, horizon=5, upper=0.2, turnover=0.5)
    expected = python(
        strategy, costs=po.costs.ProportionalCosts(bps=5), benchmark=po.data.sample_index(), seed=3
    )  # fmt: skip
    pd.testing.assert_series_equal(found.nav, expected.nav, rtol=0, atol=0)
    pd.testing.assert_series_equal(found.metrics, expected.metrics, check_names=False, rtol=0, atol=0)
    assert found.name == "Mean-CVaR"
    assert found.settings["benchmark"] == "sample index"
    assert found.settings["costs"] == "commission: {bps: 5}"
    assert found.settings["strategy"].startswith("mean_cvar window: 252, n_scenarios: 150")


def test_sections_of_a_run_file_pose_the_same_problem(tmp_path: Path) -> None:
    sections = """\
strategy:
  kind: problem
  scenarios: {kind: bootstrap, window: 252, n_scenarios: 150, horizon: 5}
  objective:
    expected_return: 1
    cvar: [{beta: 0.95, weight: 1.5}]
  constraints:
    budget: 1
    bounds: {lower: 0, upper: {AAPL: 0.2, others: 0.2}}
    turnover: 0.5
  risk_aversion: 2
  holding: 21
costs:
"""
    one, other = run(tmp_path, BASE), run(tmp_path, re.sub(r"(?s)strategy:.*costs:\n", sections, BASE))
    assert (one.timeline["status"] == "optimal").all()
    assert other.timeline["binding"].str.contains("Turnover").any()
    pd.testing.assert_series_equal(one.nav, other.nav, rtol=1e-9)
    known = sections.replace("    cvar", "    cost_bps: 5\n    cvar")
    planned = run(tmp_path, re.sub(r"(?s)strategy:.*costs:\n", known, BASE))
    pd.testing.assert_series_equal(one.nav, planned.nav, rtol=1e-9)


@pytest.mark.parametrize(
    ("text", "allocate"),
    [
        ("{kind: hrp, window: 60, upper: 0.1}", lambda r: po.allocation.hrp(r, bounds=(0.0, 0.1))),
        ("{kind: herc, window: 60}", lambda r: po.allocation.herc(r)),
        ("{kind: inverse_volatility, window: 60}", lambda r: po.allocation.inverse_volatility(po.ScenarioSet(r))),
        ("{kind: risk_parity, window: 60, covariance: ledoit_wolf}",
         lambda r: po.allocation.risk_parity(po.estimate.LedoitWolf().fit(r))),
        ("{kind: minimum_variance, window: 60, upper: {KO: 0.05, others: 0.3}}",
         lambda r: po.allocation.minimum_variance(r.cov(), constraints=[po.Budget(), po.Bounds(0.0, capped(r, 0.05))])),
        ("{kind: maximum_diversification, window: 60}", lambda r: po.allocation.maximum_diversification(r.cov())),
        ("{kind: nested_clusters, window: 60, covariance: denoised}",
         lambda r: po.allocation.nested_clusters(r, covariance=po.estimate.DenoisedCovariance().fit(r))),
    ],
)  # fmt: skip
def test_allocators_by_name(tmp_path: Path, text: str, allocate: object) -> None:
    config = EQUAL.replace("equal_weight", text).replace("2020-06-30", "2020-01-07")
    found = run(tmp_path, config).targets.iloc[0]
    returns = po.data.simple_returns(prices()).loc[:"2020-01-02"].tail(60)
    expected = allocate(returns).weights
    np.testing.assert_allclose(found[expected.index], expected, atol=2e-4)


def test_given_weights(tmp_path: Path) -> None:
    fixed = run(tmp_path, EQUAL.replace("equal_weight", "{kind: fixed, weights: {KO: 0.6, PG: 0.3}}"))
    pd.testing.assert_series_equal(
        fixed.nav, python(po.strategies.FixedWeights({"KO": 0.6, "PG": 0.3})).nav, rtol=0, atol=0
    )
    held = run(tmp_path, EQUAL.replace("equal_weight", "{kind: buy_and_hold, weights: {KO: 0.6, PG: 0.4}}"))
    assert len(held.trades) == 2
    assert run(tmp_path, EQUAL).nav.equals(python(po.strategies.EqualWeight()).nav)


def test_the_rule_the_costs_and_the_orders(tmp_path: Path) -> None:
    text = EQUAL.replace("strategy:", """\
rule:
  band: {width: {KO: 0.001, others: 0.01}}
  cash: {surplus: 5000}
  cooldown: {length: 3, unit: sessions}
  towards: halfway
costs:
  commission: {bps: {KO: 1, others: 7}, sell: 8, per_share: 0.01, minimum: 2, fixed: 1}
  spread: {bps: 3, fraction: 1}
  borrow: {bps: 40, year: 365}
orders: {lot: {KO: 10, others: 1}, minimum_value: 500, no_trade: [PG], reserve: 1000}
strategy:""").replace("end: 2020-06-30", "end: 2020-03-31, capital: 200_000, lag: 0, cash_rate: 0.01")  # fmt: skip
    found = run(tmp_path, text)
    assets = prices().columns
    rule = po.rebalance.RebalanceRule(
        po.rebalance.DriftTrigger(po.rebalance.DriftBand(pd.Series(0.01, assets).where(assets != "KO", 0.001)))
        | po.rebalance.CashTrigger(5000.0),
        po.rebalance.Cooldown(3, "sessions", prices().index),
    )
    costs = (
        po.costs.ProportionalCosts(pd.Series(7.0, assets).where(assets != "KO", 1.0), 8.0, 0.01, 2.0, 1.0)
        + po.costs.SpreadCosts(3.0, 1.0)
        + po.costs.BorrowCosts(40.0, 365.0)
    )
    orders = po.rebalance.OrderRules(
        minimum_value=500.0, lot=pd.Series(1.0, assets).where(assets != "KO", 10.0), no_trade=("PG",), reserve=1000.0
    )
    expected = python(
        po.strategies.EqualWeight(), end="2020-03-31", rule=rule, towards="halfway", costs=costs, orders=orders,
        capital=200_000.0, lag=0, cash_rate=0.01,
    )  # fmt: skip
    assert found.trades["date"].nunique() > 3
    assert found.trades.equals(expected.trades)
    pd.testing.assert_series_equal(found.nav, expected.nav, rtol=0, atol=0)


def test_decisions_on_a_day_and_on_dates(tmp_path: Path) -> None:
    day = run(tmp_path, EQUAL.replace("strategy:", "decisions: {every: monthly, day: 15}\nstrategy:")).timeline.index
    assert [d.day for d in day[1:]] == [15, 14, 13, 15, 15, 15]
    quarters = EQUAL.replace("strategy:", "decisions: {every: quarterly, day: first, months: [2, 5]}\nstrategy:")
    assert [f"{d:%m-%d}" for d in run(tmp_path, quarters).timeline.index] == ["01-02", "02-03", "05-01"]
    dates = EQUAL.replace("strategy:", "decisions: [2020-02-03, 2020-04-01]\nstrategy:")
    assert [f"{d:%m-%d}" for d in run(tmp_path, dates).timeline.index] == ["01-02", "02-03", "04-01"]


def test_files_of_volumes_rates_and_benchmarks(tmp_path: Path) -> None:
    own = prices().loc["2019-10-01":"2020-06-30", ["KO", "PG"]]
    own.to_csv(tmp_path / "prices.csv")
    pd.DataFrame(1e6, own.index, own.columns).to_parquet(tmp_path / "volumes.parquet")
    own["KO"].to_csv(tmp_path / "index.csv")
    pd.Series([0.01, 0.02], pd.DatetimeIndex(["2019-01-01", "2020-03-01"], name="date"), name="rate").to_csv(
        tmp_path / "rates.csv"
    )
    text = """\
data: {source: prices.csv, volumes: volumes.parquet}
book: {start: 2020-01-02, cash_rate: rates.csv, benchmark: index.csv, flows: {2020-02-03: 5000}}
strategy: {kind: fixed, weights: {KO: 0.5}}
costs: {impact: 0.5}
"""
    found = run(tmp_path, text)
    market = po.data.MarketData(own, volumes=pd.DataFrame(1e6, own.index, own.columns))
    expected = po.backtest(
        po.strategies.FixedWeights({"KO": 0.5}), market, start="2020-01-02", costs=po.costs.SquareRootImpact(0.5),
        cash_rate=pd.Series({pd.Timestamp("2019-01-01"): 0.01, pd.Timestamp("2020-03-01"): 0.02}),
        flows={"2020-02-03": 5000.0},
    )  # fmt: skip
    assert found.income["interest"].sum() > 0.0
    assert found.costs["impact"].sum() > 0.0
    assert found.flows.sum() == 5000.0
    pd.testing.assert_series_equal(found.nav, expected.nav, rtol=0, atol=0)
    assert found.benchmark is not None
    np.testing.assert_allclose(found.benchmark / 1e6, own.loc["2020-01-02":, "KO"] / own.loc["2020-01-02", "KO"])


def test_parameters_strategies_and_histories(tmp_path: Path) -> None:
    varied = grid(tmp_path, BASE + "parameters: {risk_aversion: [1, 9], n_scenarios: [150]}\n")
    assert varied.runs.columns.tolist() == ["strategy", "risk_aversion", "n_scenarios"]
    assert varied.runs["risk_aversion"].tolist() == [1, 9]
    expected = run(tmp_path, BASE.replace("  window: 252", "  window: 252\n  risk_aversion: 9"))
    pd.testing.assert_series_equal(varied[1].nav, expected.nav, rtol=1e-9, check_names=False)
    zipped = "parameters: {window: [20, 40, 60]}\nhow: zip\nhistories: 2\n"
    text = EQUAL.replace("strategy: equal_weight", "strategies:\n  A: {kind: inverse_volatility, window: 30}\n"
                         "  B: {kind: hrp}\n" + zipped)  # fmt: skip
    many = grid(tmp_path, text)
    assert len(many) == 2 * 3 * 2
    assert set(many.runs.columns) == {"strategy", "window", "history"}
    assert {"A", "B"} == set(many.runs["strategy"])
    assert many[0].settings["strategy"] == "inverse_volatility window: 30"
    assert many[0].nav.iloc[-1] != many[6].nav.iloc[-1]


def test_a_fallback_of_its_own(tmp_path: Path) -> None:
    text = BASE.replace("upper: 0.2", "upper: 0.04") + "fallback: {kind: fixed, weights: {KO: 1}}\n"
    found = run(tmp_path, text)
    assert (found.timeline["status"] == "infeasible").all()
    assert found.settings["fallback"] == "fixed weights: {KO: 1}"
    assert found.targets["KO"].eq(1.0).all()


def test_round_trip(tmp_path: Path) -> None:
    for path in (EXAMPLE, write(tmp_path, BASE + "histories: {count: 2}\nrule: {band: 0.05}\n")):
        config = load_backtest(path)
        other = tmp_path / "other.yaml"
        with other.open("w", encoding="utf-8") as file:
            YAML(typ="safe").dump(config.model_dump(mode="json", exclude_none=True), file)
        assert load_backtest(other) == config
        assert BacktestConfig.model_validate(config.model_dump(exclude_none=True)) == config
        assert BacktestConfig.model_validate_json(config.model_dump_json(exclude_none=True)) == config


def test_files_of_both_sorts_are_told_apart(tmp_path: Path) -> None:
    quickstart = ROOT / "examples" / "quickstart.yaml"
    assert isinstance(load_any(EXAMPLE), BacktestConfig)
    assert isinstance(load_any(quickstart), Config)
    with pytest.raises(po.ConfigError, match=r"past.yaml:2: the key 'book' .* run it with 'portfolioopt backtest'"):
        load_config(write(tmp_path, BASE))
    with pytest.raises(po.ConfigError, match=r"quickstart.yaml:\d+: the key 'scenarios' .*'portfolioopt optimize'"):
        load_backtest(quickstart)


def test_another_seed(tmp_path: Path) -> None:
    config = load_backtest(write(tmp_path, BASE))
    assert config.with_seed(9).book.seed == 9
    assert config.book.seed == 3
    with pytest.raises(po.ConfigError, match=r"past.yaml:3: nothing is drawn"):
        load_backtest(write(tmp_path, EQUAL)).with_seed(9)
    assert load_backtest(write(tmp_path, EQUAL + "histories: 2\n")).with_seed(9).book.seed == 9


# -- what is refused ---------------------------------------------------------------------------------------------

PROBLEM = EQUAL.replace("equal_weight", """
  kind: problem
  scenarios: {kind: history, window: 252, horizon: 5}
  objective: {cvar: [{beta: 0.9, weight: 1}]}
  constraints:
    budget: 1
    bounds: {lower: 0, upper: 0.2}
""")  # fmt: skip

CASES = {
    # keys
    "unknown section": (BASE.replace("decisions", "decision"), 3, "did you mean 'decisions'"),
    "unknown key": (BASE.replace("upper: 0.2", "uper: 0.2"), 9, r"'uper' \(did you mean 'upper'\?\) in strategy"),
    "unknown nested key": (BASE.replace("commission: 5", "commission: {bp: 5}"), 12, "did you mean 'bps'"),
    "unknown kind": (BASE.replace("mean_cvar", "mean_cvr"), 5, r"strategy.kind: unknown strategy|mean_cvar"),
    "no kind": (BASE.replace("  kind: mean_cvar\n", ""), 4, "strategy.kind is missing; the kinds are mean_cvar, "),
    "kind as a word": (EQUAL.replace("equal_weight", "eqal_weight"), 3, "did you mean 'equal_weight'"),
    "no strategy": (EQUAL.replace("strategy: equal_weight", "costs: {spread: 3}"), 1, "strategy is missing"),
    "two of them": (EQUAL + "strategies: {A: hrp}\n", 3, "strategy stands beside strategies"),
    "no such fallback": (EQUAL + "fallback: sell\n", 4, "unknown strategy: 'sell'"),
    "key of another kind": (EQUAL.replace("equal_weight", "{kind: risk_parity, risk_aversion: 2}"), 3, "unknown key"),
    "bounds of another kind": (EQUAL.replace("equal_weight", "{kind: nested_clusters, upper: 0.2}"), 3,
                               "upper means nothing to nested_clusters"),
    "seed of scenarios": (PROBLEM.replace("horizon: 5", "horizon: 5, seed: 1"), 5, "its place under book"),
    "scenarios of history": (PROBLEM.replace("horizon: 5", "n_scenarios: 9"), 5, "means nothing to history"),
    # values
    "frequency": (BASE.replace("monthly", "montly"), 3, "decisions must be 'daily', 'weekly'"),
    "percent": (BASE.replace("upper: 0.2", "upper: 20%"), 9, "15 % is 0.15"),
    "window": (BASE.replace("252", "252.5"), 6, "window must be a whole number"),
    "date": (BASE.replace("2020-01-02", "2020"), 2, "start must be a date"),
    "start and end": (BASE.replace("2020-06-30", "2019-06-30"), 2, "is not before the end"),
    "costs of nothing": (BASE.replace("  commission: 5\n", "  {}\n"), 11, "costs charges nothing"),
    "rule of nothing": (EQUAL + "rule: {cooldown: 5}\n", 4, "rule never calls for a trade"),
    "towards of no band": (EQUAL + "rule: {cash: 500, towards: edge}\n", 4, "there is no"),
    "day of dates": (EQUAL + "decisions: {every: [2020-02-03], day: 3}\n", 4, "means nothing beside a list"),
    "day of the day": (EQUAL + "decisions: {every: daily, day: first}\n", 4, "remove day"),
    "zip of nothing": (EQUAL + "how: zip\n", 4, "there are none"),
    "values": (BASE + "parameters: {risk_aversion: 3}\n", 13, "must be a list of values"),
    # names
    "asset": (BASE.replace("upper: 0.2", "upper: {APPL: 0.2, others: 1}"), 9, "did you mean 'AAPL'"),
    "asset without bound": (BASE.replace("upper: 0.2", "upper: {AAPL: 0.2}"), 9, "upper says nothing about"),
    "weights": (EQUAL.replace("equal_weight", "{kind: fixed, weights: {APPL: 1}}"), 3, "did you mean 'AAPL'"),
    "no_trade": (EQUAL + "orders: {no_trade: [KO, KOO]}\n", 4, "did you mean 'KO'"),
    "cost of an asset": (BASE.replace("commission: 5", "commission: {APPL: 5}"), 12, "unknown key"),
    "sector": (BASE.replace("costs:", "  groups: [{labels: sample sectors, upper: {Enrgy: 0.1}}]\ncosts:"), 11,
               "did you mean 'Energy'"),
    "sector of a problem": (PROBLEM + "    groups:\n      - labels: sample sectors\n        upper: {Enrgy: 0.1}\n", 13,
                            "did you mean 'Energy'"),
    "band": (EQUAL + "rule: {band: {width: {KOO: 0.1, others: 1}}}\n", 4, "did you mean 'KO'"),
    "band of groups": (EQUAL + "rule: {band: {width: {Enrgy: 0.1, others: 1}, groups: sample sectors}}\n", 4,
                       "did you mean 'Energy'"),
    "benchmark": (BASE.replace("sample index", "SP500"), 2, "unknown benchmark: 'SP500'"),
    "benchmark file": (BASE.replace("sample index", "index.csv"), 2, "there is no file .*index.csv"),
    "parameter": (BASE + "parameters: {risk_avrsion: [1]}\n", 13, "did you mean 'risk_aversion'"),
    "parameter of none": (EQUAL + "parameters: {window: [1]}\n", 4, "unknown parameter of Equal weight"),
    "values of a parameter": (BASE + "parameters: {window: [2.5]}\n", 13, "window must be a whole number"),
    "lengths": (BASE + "parameters: {beta: [0.9], window: [99, 100]}\nhow: zip\n", 13, "as many values each"),
    # what the library refuses
    "horizon": (BASE.replace("horizon: 5", "horizon: 500"), 4, "too short for a horizon"),
    "unit of a bound": (BASE.replace("upper: 0.2", "upper: 20"), 9, "can never bind"),
    "unit of a group": (BASE.replace("costs:", "  groups: [{labels: sample sectors, upper: 30}]\ncosts:"), 11,
                        "can never bind"),
    "unit of a bound of a problem": (PROBLEM.replace("0.2", "20"), 9, "can never bind"),
    "beta": (BASE.replace("horizon: 5", "beta: 95"), 8, "beta must lie strictly between 0 and 1"),
    "unit of costs": (BASE.replace("commission: 5", "commission: 50000"), 12, "basis points"),
    "impact": (BASE.replace("commission: 5", "impact: 1"), 12, "impact depends on volumes"),
    "too early": (BASE.replace("2020-01-02", "2018-06-01"), 2, "look back on 253 sessions.*start on 2019-01-03"),
    "too short": (BASE.replace("window: 252", "window: 2520"), 2, "too few to begin with"),
    "no prices then": (BASE.replace("start: 2018-01-01", "start: 2030-01-01"), 1, "the data run from"),
    "no session between": (EQUAL.replace("2020-06-30", "2020-01-03"), 2, "fewer than three sessions"),
    "a day that is none": (EQUAL + "decisions: [2020-02-02]\n", 4, "2020-02-02, which are no sessions"),
    "lag": (EQUAL.replace("end:", "lag: -1, end:"), 2, "lag"),
    "capital": (EQUAL.replace("end:", "capital: -1, end:"), 2, "capital"),
}  # fmt: skip


def rehearsed_and_run(path: Path) -> None:
    setup = build_backtest(load_backtest(path))
    setup.rehearse()
    setup.run()


@pytest.mark.parametrize(("text", "line", "message"), CASES.values(), ids=CASES.keys())
def test_fault(tmp_path: Path, text: str, line: int | None, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(po.ConfigError) as caught:
        rehearsed_and_run(path)
    assert caught.value.path == path
    assert re.search(message, str(caught.value)), str(caught.value)
    assert caught.value.line == line, str(caught.value)

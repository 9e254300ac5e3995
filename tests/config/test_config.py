"""Reading configurations: every fault with its line and remedy, nothing guessed, and the problem that is meant."""

from __future__ import annotations

import datetime
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

import portfolioopt as po
from portfolioopt.config import Config, build_problem, load_config

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "quickstart.yaml"

BASE = """\
data: {source: sample, start: 2020-01-01}
scenarios: {kind: bootstrap, horizon: 5, n_scenarios: 50, seed: 1}
objective:
  expected_return: 1
  cvar: [{beta: 0.9, weight: 2}]
  cost_bps: 5
constraints:
  budget: 1
  bounds: {lower: 0, upper: 0.2}
  turnover: 0.5
holdings: equal
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refused(folder: Path, text: str) -> po.ConfigError:
    """The error for a file with this text; reading it and building its problem are one for the user."""
    path = write(folder, text)
    with pytest.raises(po.ConfigError) as caught:
        build_problem(load_config(path))
    assert caught.value.path == path
    assert str(caught.value).startswith(str(path))
    return caught.value


# -- what is accepted --------------------------------------------------------------------------------------------


def test_example_is_the_problem_it_describes() -> None:
    config = load_config(EXAMPLE)
    setup = build_problem(config)
    prices = po.data.sample_prices().loc["2012-12-28":"2022-12-28"]
    sectors = po.data.sample_sectors()
    scenarios = po.scenarios.block_bootstrap(
        po.data.simple_returns(prices), 10_000, seed=7, horizon=21, block_length=21
    )
    cvar = config.objective.cvar[0]
    limit = config.constraints.cvar_limits[0]
    expected = po.Problem(
        scenarios,
        po.ExpectedReturn() - cvar.weight * po.CVaR(0.95) - po.ProportionalCost(5),
        [
            po.Budget(1.0),
            po.Bounds(0.0, 0.15),
            po.GroupLimit(sectors, upper=dict.fromkeys(sectors.unique(), 0.3), name="Sectors"),
            po.Turnover(0.6),
            po.CVaRLimit(0.99, limit.limit),
        ],
        holdings=pd.Series(0.05, index=prices.columns),
    )
    assert repr(setup.problem) == repr(expected)
    for name, array in vars(expected.compiled.program).items():
        np.testing.assert_array_equal(getattr(setup.problem.compiled.program, name), array, err_msg=name)
    assert setup.prices.equals(prices)
    assert setup.labels is not None
    assert setup.labels.equals(sectors)
    text = EXAMPLE.read_text(encoding="utf-8").splitlines()
    assert text[setup.places["Turnover"] - 1].strip().startswith("turnover:")


def test_round_trip(tmp_path: Path) -> None:
    config = load_config(EXAMPLE)
    path = tmp_path / "other.yaml"
    with path.open("w", encoding="utf-8") as file:
        YAML(typ="safe").dump(config.model_dump(mode="json", exclude_none=True), file)
    assert load_config(path) == config
    assert Config.model_validate(config.model_dump(exclude_none=True)) == config
    assert Config.model_validate_json(config.model_dump_json(exclude_none=True)) == config


def test_name_is_that_of_the_file_unless_given(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, BASE)).name == "run"
    assert load_config(write(tmp_path, "name: daily 1.0\n" + BASE)).name == "daily 1.0"


def test_short_and_long_forms_are_the_same(tmp_path: Path) -> None:
    short = load_config(write(tmp_path, BASE))
    long = BASE.replace("budget: 1\n", "budget: {total: 1.0}\n").replace("turnover: 0.5", "turnover: {limit: 0.5}")
    assert load_config(write(tmp_path, long)) == short


def test_configurations_do_not_change() -> None:
    config = load_config(EXAMPLE)
    with pytest.raises(ValueError, match="frozen"):
        config.nav = 2.0  # type: ignore[misc]


def make_data(folder: Path) -> list[str]:
    """Prices and labels of assets whose tickers are words of other YAML versions."""
    tickers = ["ON", "NO", "NA", "Y"]
    dates = pd.date_range("2020-01-01", periods=60, freq="B", name="date")
    growth = np.random.default_rng(0).normal(0.0005, 0.01, (60, 4))
    prices = pd.DataFrame(100.0 * np.exp(growth.cumsum(axis=0)), index=dates, columns=tickers)
    prices.to_csv(folder / "prices.csv")
    prices.to_parquet(folder / "prices.parquet")
    (folder / "labels.csv").write_text("asset,label\nON,chips\nNO,NA\nNA,chips\nY,yes\n", encoding="utf-8")
    return tickers


TICKERS = """\
data:
  source: prices.csv
  end: "2020-03-01"
scenarios:
  kind: history
  window: 20
objective:
  cvar:
    - {beta: 0.9, weight: 1}
  cost_bps: {ON: 1, NO: 2, others: 9}
constraints:
  budget: 1
  bounds: {lower: -.inf, upper: {ON: 0.5, others: 0.9}}
  groups:
    - labels: labels.csv
      upper: {chips: 0.7, NA: 0.6}
holdings:
  ON: 0.5
  NO: 0.5
"""


@pytest.mark.parametrize("source", ["prices.csv", "prices.parquet"])
def test_tickers_and_files_next_to_the_configuration(tmp_path: Path, source: str) -> None:
    tickers = make_data(tmp_path)
    setup = build_problem(load_config(write(tmp_path, TICKERS.replace("prices.csv", source))))
    scenarios, problem = setup.scenarios, setup.problem
    assert list(scenarios.assets) == tickers
    assert scenarios.n_scenarios == 20
    assert scenarios.index[-1] == pd.Timestamp("2020-02-28")
    prices = pd.read_csv(tmp_path / "prices.csv", index_col=0, parse_dates=True).loc[:"2020-03-01"]
    np.testing.assert_allclose(scenarios.matrix, prices.pct_change().to_numpy()[-20:], rtol=1e-12)
    assert problem.holdings is not None
    assert problem.holdings.to_dict() == {"ON": 0.5, "NO": 0.5, "NA": 0.0, "Y": 0.0}
    assert problem.compiled.program.l1_rate[0].tolist() == pytest.approx([1e-4, 2e-4, 9e-4, 9e-4])
    assert problem.compiled.program.upper.tolist() == [0.5, 0.9, 0.9, 0.9]
    assert problem.compiled.program.lower.tolist() == [-np.inf] * 4
    assert setup.labels is not None
    assert setup.labels.tolist() == ["chips", "NA", "chips", "yes"]


def test_history_over_a_longer_horizon(tmp_path: Path) -> None:
    text = BASE.replace(
        "kind: bootstrap, horizon: 5, n_scenarios: 50, seed: 1", "kind: history, horizon: 5, window: 30"
    )
    setup = build_problem(load_config(write(tmp_path, text)))
    prices = po.data.sample_prices().to_numpy()
    np.testing.assert_allclose(setup.scenarios.matrix, (prices[5:] / prices[:-5] - 1.0)[-30:], rtol=1e-12)
    assert "5" in str(setup.scenarios.horizon)


def test_only_the_assets_named(tmp_path: Path) -> None:
    text = BASE.replace("start: 2020-01-01", "start: 2020-01-01, assets: [KO, AAPL]").replace("0.2", "0.9")
    setup = build_problem(load_config(write(tmp_path, text)))
    assert list(setup.scenarios.assets) == ["KO", "AAPL"]
    assert setup.problem.holdings is not None
    assert setup.problem.holdings.tolist() == [0.5, 0.5]


def test_stages_are_announced(tmp_path: Path) -> None:
    heard: list[str] = []
    build_problem(load_config(write(tmp_path, BASE)), stage=heard.append)
    assert heard[:2] == ["reading prices", "making scenarios"]


def test_another_seed(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, BASE))
    assert config.with_seed(9).scenarios.seed == 9
    assert config.scenarios.seed == 1
    text = BASE.replace("kind: bootstrap, horizon: 5, n_scenarios: 50, seed: 1", "kind: history")
    with pytest.raises(po.ConfigError, match=r"run.yaml:2: history draws nothing"):
        load_config(write(tmp_path, text)).with_seed(9)


# -- what is refused ---------------------------------------------------------------------------------------------

CASES = {
    # not YAML, or not ours
    "empty": ("", None, "is empty"),
    "list": ("- 1\n", 1, "must be a mapping"),
    "unclosed": ("data: [1\nb: 2\n", 2, "not valid YAML"),
    "tab": ("data:\n\tsource: sample\n", 2, "indent with spaces"),
    "two documents": (BASE + "---\n" + BASE, 12, "keep one run per file"),
    "duplicate key": (BASE + "holdings: cash\n", 12, r"'holdings' is given twice in the section that begins in line 1"),
    "nested duplicate": (BASE.replace("  turnover: 0.5", "  turnover: 0.5\n  turnover: 5"), 11, "twice"),
    "no value": (BASE.replace("turnover: 0.5", "turnover:"), 10, r"constraints\.turnover has no value"),
    "truth value as key": (BASE.replace("holdings: equal", "holdings:\n  TRUE: 1"), 12, "truth value True.*quotes"),
    "number as key": (BASE.replace("holdings: equal", "holdings: {0700: 1}"), 11, "number 700.*quotes"),
    "tagged number": (BASE.replace("turnover: 0.5", "turnover: !!int x"), None, "not valid YAML"),
    "tag": (BASE.replace("equal", "!mine equal"), 11, "tags are not supported"),
    # unknown keys
    "unknown key": (BASE.replace("turnover", "turnovr"), 10, r"'turnovr' \(did you mean 'turnover'\?\) in constraints"),
    "unknown section": (BASE.replace("scenarios:", "scenario:"), 2, "did you mean 'scenarios'"),
    "unknown nested key": (BASE.replace("weight: 2", "wieght: 2"), 5, "did you mean 'weight'"),
    "unknown short form key": (BASE.replace("0.5", "{limt: 0.5}"), 10, "did you mean 'limit'"),
    # missing and wrong values
    "missing": (BASE.replace("source: sample, ", ""), 1, r"data\.source is missing"),
    "missing section": (BASE.replace("scenarios:", "#"), 1, "scenarios is missing"),
    "missing seed": (BASE.replace(", seed: 1", ""), 2, r"scenarios\.seed is missing"),
    "text": (BASE.replace("turnover: 0.5", 'turnover: "0.5"'), 10, r"turnover must be a number, was '0.5'; write"),
    "percent": (BASE.replace("upper: 0.2", "upper: 20%"), 9, r"bounds.upper must be a number, was '20%'.*15 % is 0.15"),
    "bps": (BASE.replace("cost_bps: 5", "cost_bps: 5bp"), 6, "cost_bps must be a number, was '5bp'"),
    "nan": (BASE.replace("turnover: 0.5", "turnover: .nan"), 10, "turnover must be finite"),
    "fractional count": (BASE.replace("50", "50.5"), 2, r"n_scenarios must be a whole number, was 50\.5"),
    "truth value": (BASE.replace("seed: 1", "seed: yes"), 2, "seed must be a whole number, was 'yes'"),
    "year for a date": (BASE.replace("2020-01-01", "2020"), 1, "start must be a date such as 2013-01-31, was 2020"),
    "bad date": (BASE.replace("2020-01-01", "2020-13-01"), 1, "start must be a date"),
    "kind": (BASE.replace("kind: bootstrap", "kind: bootstap"), 2, r"must be 'history' or 'bootstrap'.*did you mean"),
    "section": (BASE.replace("{kind: bootstrap, horizon: 5, n_scenarios: 50, seed: 1}", "5"), 2, "must be a section"),
    "not a list": (BASE.replace("[{beta: 0.9, weight: 2}]", "{beta: 0.9, weight: 2}"), 5, "must be a list"),
    "negative weight": (BASE.replace("weight: 2", "weight: -2"), 5, "must be positive.*subtracted"),
    "empty objective": (re.sub(r"(?s)(?<=objective:).*(?=constraints)", " {}\n", BASE), 3, "objective is empty"),
    "window of a bootstrap": (BASE.replace("seed: 1", "seed: 1, window: 9"), 2, r"data\.start"),
    "seed of history": (BASE.replace("bootstrap", "history"), 2, "means nothing to history"),
    "start after end": (BASE.replace("2020-01-01", "2020-01-01, end: 2019-01-01"), 1, "is not before end"),
    "folder name": ("name: ../up\n" + BASE, 1, "names a folder"),
    "nav": (BASE + "nav: 0\n", 12, "nav must be positive"),
    "holdings word": (BASE.replace("equal", "equl"), 11, "must be 'equal', 'cash' or a mapping"),
    "no holdings": (BASE.replace("holdings: equal\n", ""), 6, r"cost_bps measures trades.*'cash'"),
    "group without limits": (BASE.replace("  turnover", "  groups: [{labels: sample sectors}]\n  turnover"), 10,
                             r"groups\[0\] limits nothing"),
    # names
    "unknown asset": (BASE.replace("holdings: equal", "holdings:\n  KO: 1\n  APPL: 0"), 13,
                      r"'APPL' \(did you mean 'AAPL'\?\)"),
    "unknown asset in bounds": (BASE.replace("upper: 0.2", "upper: {AAPLE: 0.2, others: 1}"), 9, "did you mean 'AAPL'"),
    "asset without bound": (BASE.replace("upper: 0.2", "upper: {AAPL: 0.2}"), 9, "'others: ...'"),
    "asset not in the data": (BASE.replace("start: 2020-01-01", "assets: [KO, KOO]"), 1, r"'KOO' \(did you mean 'KO'"),
    "unknown sector": (
        BASE.replace("  turn", "  groups:\n    - labels: sample sectors\n      upper:\n        Enrgy: 0.1\n  turn"), 13,
        r"unknown label: 'Enrgy' \(did you mean 'Energy'\?\)"),
    "no labels file": (BASE.replace("  turnover", "  groups: [{labels: nowhere.csv, upper: 1}]\n  turnover"), 10,
                       "there is no file .*nowhere.csv.*'sample sectors'"),
    "no price file": (BASE.replace("source: sample", "source: nowhere.csv"), 1, "there is no file.*'sample'"),
    "no prices then": (BASE.replace("2020-01-01", "2030-01-01"), 1, "the data run from 1990-01-02 to 2022-12-28"),
    # what the library refuses
    "beta": (BASE.replace("beta: 0.9", "beta: 95"), 5, "beta must lie strictly between 0 and 1"),
    "unit of a bound": (BASE.replace("upper: 0.2", "upper: 20"), 9, r"Bounds: upper = 20 can never bind"),
    "unit of turnover": (BASE.replace("turnover: 0.5", "turnover: 50"), 10, "allows trading 5000% of NAV"),
    "unit of holdings": (BASE.replace("holdings: equal", "holdings: {KO: 1000}"), 11, "divide positions by NAV"),
    "crossed bounds": (BASE.replace("lower: 0", "lower: 0.3"), 9, "lower bound is above the upper one"),
    "measure": (BASE.replace("  cost_bps", "  risks: [{measure: Volatilty, weight: 1}]\n  cost_bps"), 6,
                r"'Volatilty' \(did you mean 'Volatility'"),
    "level": (BASE.replace("  turn", "  risk_limits: [{measure: CVaR, limit: 0.1}]\n  turn"), 10, "has a level"),
    "no level": (BASE.replace("  turn", "  risk_limits: [{measure: WorstLoss, limit: 1, beta: 0.9}]\n  turn"), 10,
                 "means nothing to WorstLoss"),
    "strict limit": (BASE.replace("  turnover", "  linear: [AAPL < 0.1]\n  turnover"), 10, "write <="),
    "name in a text": (BASE.replace("  turnover", "  linear: [APPL <= 0.1]\n  turnover"), 10, "did you mean 'AAPL'"),
    "count": (BASE.replace("  turnover", "  max_holdings: 2.5\n  turnover"), 10, "must be a whole number"),
    "horizon": (BASE.replace("horizon: 5", "horizon: 0"), 2, "horizon must be a whole number"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "line", "message"), CASES.values(), ids=CASES.keys())
def test_fault(tmp_path: Path, text: str, line: int | None, message: str) -> None:
    error = refused(tmp_path, text)
    assert error.line == line, str(error)
    assert re.search(message, str(error)), str(error)


def test_all_faults_at_once(tmp_path: Path) -> None:
    text = BASE.replace("turnover: 0.5", "turnover: much").replace("seed: 1", "seed: 1.5").replace("budget", "budgt")
    lines = str(refused(tmp_path, text)).splitlines()
    assert [line.split(": ")[0].rsplit(":", 1)[-1] for line in lines] == ["2", "8"]


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(po.ConfigError, match=r"absent.yaml: cannot be read"):
        load_config(tmp_path / "absent.yaml")
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"name: x\n# caf\xe9\n")
    with pytest.raises(po.ConfigError, match=r"latin.yaml:2: is not UTF-8"):
        load_config(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("date,A,A\n2020-01-01,1,2\n2020-01-02,1,2\n", "column 'A' twice"),
        ("date,A\n01/02/2020,1\n02/02/2020,2\n", "'01/02/2020', which is not a date"),
        ("date,A,others\n2020-01-01,1,2\n2020-01-02,1,2\n", "called 'others'"),
        ("date,A,B\n2020-01-01,1,2\n2020-01-02,1,\n2020-01-03,1,2\n", "1 price .B on 2020-01-02. is missing"),
        ("", "cannot be read as CSV"),
    ],
)
def test_price_files_that_cannot_be_meant(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "prices.csv").write_text(content, encoding="utf-8")
    text = "data: {source: prices.csv}\nscenarios: {kind: history}\nobjective: {expected_return: 1}\n"
    with pytest.raises(po.ConfigError, match=message) as caught:
        build_problem(load_config(write(tmp_path, text)))
    assert caught.value.line in (1, 2)


def test_an_asset_that_is_held_is_not_dropped_silently(tmp_path: Path) -> None:
    prices = "date,A,B,C\n2020-01-01,1,2,3\n2020-01-02,1,,3\n2020-01-03,2,2,4\n2020-01-06,1,2,3\n"
    (tmp_path / "prices.csv").write_text(prices, encoding="utf-8")
    text = (
        "data: {source: prices.csv, missing: drop_assets}\nscenarios: {kind: history}\n"
        "objective: {expected_return: 1}\nholdings:\n  A: 0.5\n  B: 0.5\n"
    )
    error = refused(tmp_path, text)
    assert error.line == 6
    assert "B is held, but was left out" in str(error)
    sound = text.replace("  B: 0.5\n", "")
    assert list(build_problem(load_config(write(tmp_path, sound))).scenarios.assets) == ["A", "C"]


def test_measures_and_limits_of_the_whole_language(tmp_path: Path) -> None:
    text = BASE.replace(
        "  cost_bps: 5",
        "  cost_bps: 5\n  risks:\n    - {measure: Volatility, weight: 0.5}\n"
        "    - {measure: EntropicVaR, beta: 0.9, weight: 0.1}",
    ).replace(
        "  turnover: 0.5",
        """  turnover: 0.5
  groups: [{labels: sample sectors, upper: 0.6}]
  risk_limits:
    - {measure: WorstLoss, limit: 0.3}
    - {measure: CVaR, beta: 0.8, limit: 0.1, name: Tail}
    - {measure: GrossExposure, limit: 1.5}
  linear:
    - "'Information Technology' - Energy <= 10%"
    - {text: AAPL + MSFT >= 0.02, name: Computers}
  max_holdings: 10
  min_position: {size: {AAPL: 0.03, others: 0.02}}
  min_trade: 0.01""",
    )
    problem = build_problem(load_config(write(tmp_path, text))).problem
    assert str(problem.objective) == (
        "ExpectedReturn() - 2 CVaR(beta=0.9) - 0.5 Volatility() - 0.1 EntropicVaR(beta=0.9) - ProportionalCost(bps=5)"
    )
    assert [c.name for c in problem.constraints][4:] == [
        *("WorstLoss()", "Tail", "GrossExposure()", "'Information Technology' - Energy <= 10%", "Computers"),
        *("MaxHoldings", "MinPosition", "MinTrade"),
    ]
    size = next(c for c in problem.constraints if isinstance(c, po.MinPosition)).size
    assert isinstance(size, pd.Series)
    assert (size["AAPL"], size["MSFT"]) == (0.03, 0.02)


def test_configurations_made_in_python() -> None:
    config = Config.model_validate(
        {
            "data": {"source": "sample", "start": datetime.date(2020, 1, 1)},
            "scenarios": {"kind": "history"},
            "objective": {"cvar": [{"beta": 0.9, "weight": 1}]},
            "constraints": {"budget": 1},
        }
    )
    assert build_problem(config).problem.scenarios.n_assets == 20
    with pytest.raises(ValueError, match="unknown key"):
        Config.model_validate(config.model_dump(exclude_none=True) | {"holding": "cash"})

"""What cannot be meant is refused, with an error that names the culprit and the remedy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

import portfolioopt as po

ASSETS = ["AAA", "BBB", "CCC", "DDD"]
SECTORS = pd.Series(["Tech", "Tech", "Energy", "Energy"], ASSETS)
HOLDINGS = pd.Series(0.25, ASSETS)


def returns() -> pd.DataFrame:
    values = 0.01 * np.random.default_rng(3).normal(size=(40, 4))
    return pd.DataFrame(values, index=pd.date_range("2020-01-01", periods=40), columns=ASSETS)


SCENARIOS = po.ScenarioSet(returns())
UTILITY = po.ExpectedReturn() - po.CVaR(0.9)


def problem(*constraints: Any, objective: Any = UTILITY, holdings: Any = HOLDINGS) -> po.Problem:
    return po.Problem(SCENARIOS, objective, [po.Budget(), *constraints], holdings=holdings)


def spoilt(value: float) -> pd.DataFrame:
    frame = returns()
    frame.iloc[7, 2] = value
    return frame


def weighted(change: Callable[[np.ndarray], None]) -> Callable[[], object]:
    def make() -> po.ScenarioSet:
        p = np.full(40, 1 / 40)
        change(p)
        return po.ScenarioSet(returns(), p)

    return make


def negative(p: np.ndarray) -> None:
    p[[0, 1]] = [-0.1, 0.15]


def too_much(p: np.ndarray) -> None:
    p[0] += 0.1


def per_asset(**values: float) -> pd.Series:
    return pd.Series(0.5, ASSETS).add(pd.Series(values), fill_value=0.0)


CASES: dict[str, tuple[Callable[[], object], type[Exception], list[str]]] = {
    # scenarios
    "missing return": (lambda: po.ScenarioSet(spoilt(np.nan)), po.InputError, ["2020-01-08", "CCC", "Drop or fill"]),
    "infinite return": (lambda: po.ScenarioSet(spoilt(np.inf)), po.InputError, ["2020-01-08", "CCC"]),
    "duplicate columns": (
        lambda: po.ScenarioSet(returns().set_axis(["AAA", "AAA", "C", "D"], axis=1)),
        po.InputError,
        ["duplicate", "AAA"],
    ),
    "no scenario": (lambda: po.ScenarioSet(returns().iloc[:0]), po.InputError, ["0 scenarios", "at least two"]),
    "one scenario": (lambda: po.ScenarioSet(returns().iloc[:1]), po.InputError, ["1 scenarios", "at least two"]),
    "no labels": (lambda: po.ScenarioSet(returns().to_numpy()), po.InputError, ["without labels", "assets="]),
    "text": (lambda: po.ScenarioSet(returns().assign(BBB="x")), po.InputError, ["must be numbers", "BBB"]),
    "negative probability": (weighted(negative), po.InputError, ["negative", "2020-01-01"]),
    "probabilities above one": (weighted(too_much), po.InputError, ["sum to 1.1", "divide"]),
    "probabilities too short": (
        lambda: po.ScenarioSet(returns(), np.full(39, 1 / 39)),
        po.InputError,
        ["(39,)", "40 scenarios"],
    ),
    # objective
    "beta of a term": (lambda: po.CVaR(1.0), po.InputError, ["beta", "1.0"]),
    "beta as percent": (lambda: po.CVaR(95), po.InputError, ["beta", "95"]),
    "beta of a limit": (lambda: po.CVaRLimit(0.0, 0.1), po.InputError, ["beta", "0.0"]),
    "risk sought": (lambda: problem(objective=UTILITY + 3 * po.CVaR(0.9)), po.InputError, ["CVaR", "Subtract"]),
    "cost sought": (lambda: problem(objective=po.ProportionalCost(5)), po.InputError, ["ProportionalCost", "Subtract"]),
    "negative cost": (lambda: po.ProportionalCost(-1), po.InputError, ["basis points", "-1"]),
    "cost of all": (lambda: po.ProportionalCost(10_000), po.InputError, ["10000", "hundredths"]),
    "mean of a stranger": (
        lambda: problem(objective=po.ExpectedReturn(pd.Series(0.1, [*ASSETS, "EEE"]))),
        po.UnknownNameError,
        ["EEE", "ExpectedReturn.mean"],
    ),
    "not a term": (lambda: problem(objective="return"), po.InputError, ["made of terms"]),
    # holdings
    "costs without holdings": (
        lambda: problem(objective=UTILITY - po.ProportionalCost(5), holdings=None),
        po.InputError,
        ["ProportionalCost", "holdings", "zeros"],
    ),
    "turnover without holdings": (
        lambda: problem(po.Turnover(0.1), holdings=None),
        po.InputError,
        ["Turnover", "holdings"],
    ),
    "holdings incomplete": (lambda: problem(holdings=HOLDINGS[:3]), po.InputError, ["holdings", "DDD", "reindex"]),
    "holdings misspelt": (
        lambda: problem(holdings=HOLDINGS.rename({"AAA": "AAAA"})),
        po.UnknownNameError,
        ["AAAA", "did you mean 'AAA'"],
    ),
    "holdings twice": (
        lambda: problem(holdings=pd.concat([HOLDINGS, HOLDINGS[:1]])),
        po.InputError,
        ["duplicate", "AAA"],
    ),
    "holdings in money": (lambda: problem(holdings=1e6 * HOLDINGS), po.InputError, ["holdings[AAA]", "NAV"]),
    "holdings as an array": (lambda: problem(holdings=np.full(4, 0.25)), po.InputError, ["holdings", "ndarray"]),
    "holdings missing": (
        lambda: problem(holdings=HOLDINGS.where(HOLDINGS.index != "BBB")),
        po.InputError,
        ["holdings", "BBB"],
    ),
    # bounds
    "bounds crossed": (lambda: problem(po.Bounds(0.3, 0.2)), po.InputError, ["Bounds", "lower", "AAA", "0.3 > 0.2"]),
    "bounds crossed for one": (
        lambda: problem(po.Bounds(pd.Series([0, 0, 0.6, 0], ASSETS), 0.5)),
        po.InputError,
        ["CCC", "0.6 > 0.5"],
    ),
    "bound not a number": (lambda: problem(po.Bounds(0.0, np.nan)), po.InputError, ["Bounds.upper", "nan"]),
    "bound of a stranger": (
        lambda: problem(po.Bounds(0.0, per_asset(AAB=0.1))),
        po.UnknownNameError,
        ["AAB", "Bounds.upper", "AAA"],
    ),
    "bounds as an array": (lambda: problem(po.Bounds(0.0, np.ones(4))), po.InputError, ["Bounds.upper", "array"]),
    "bound in percent": (lambda: problem(po.Bounds(0.0, 10)), po.InputError, ["Bounds: upper = 10", "10 % is 0.1"]),
    "one bound in percent": (
        lambda: problem(po.Bounds(0.0, per_asset(CCC=9.5))),
        po.InputError,
        ["upper['CCC'] = 10", "10 % is 0.1"],
    ),
    # groups
    "unknown sector": (
        lambda: problem(po.Bounds(), po.GroupLimit(SECTORS, upper={"Tehc": 0.3})),
        po.UnknownNameError,
        ["Tehc", "did you mean 'Tech'"],
    ),
    "sector of a stranger missing": (
        lambda: problem(po.GroupLimit(SECTORS[:3], upper={"Tech": 0.3})),
        po.InputError,
        ["labels", "DDD"],
    ),
    "group crossed": (
        lambda: po.GroupLimit(SECTORS, lower={"Tech": 0.5}, upper={"Tech": 0.4}),
        po.InputError,
        ["GroupLimit[Tech]", "0.5", "0.4"],
    ),
    "group of nothing": (lambda: po.GroupLimit(SECTORS), po.InputError, ["limits nothing"]),
    "group in percent": (
        lambda: problem(po.Bounds(), po.GroupLimit(SECTORS, upper={"Tech": 30})),
        po.InputError,
        ["upper['Tech'] = 30", "30 % is 0.3"],
    ),
    # trading and risk limits
    "turnover in percent": (lambda: problem(po.Turnover(20)), po.InputError, ["Turnover", "0.2 is 20 %"]),
    "turnover negative": (lambda: po.Turnover(-0.1), po.InputError, ["Turnover", "-0.1"]),
    "trade limit in percent": (lambda: problem(po.Bounds(), po.TradeLimit(5)), po.InputError, ["TradeLimit", "5 %"]),
    "trade limit negative": (lambda: problem(po.TradeLimit(-0.1)), po.InputError, ["TradeLimit", "negative", "AAA"]),
    "CVaR limit in percent": (
        lambda: problem(po.Bounds(), po.CVaRLimit(0.9, 6)),
        po.InputError,
        ["CVaRLimit(0.9)", "0.06 is 6 %"],
    ),
    "limit not finite": (lambda: po.ReturnTarget(np.nan), po.InputError, ["ReturnTarget", "nan"]),
    # constraints as a whole
    "same name twice": (lambda: problem(po.Budget(0.5)), po.InputError, ["two constraints", "'Budget'", "name="]),
    "not a constraint": (lambda: problem("w >= 0"), po.InputError, ["'w >= 0'", "not a constraint"]),
    "not scenarios": (lambda: po.Problem(returns(), UTILITY, []), po.InputError, ["ScenarioSet", "DataFrame"]),  # type: ignore[arg-type]
    "unknown part": (lambda: problem().replace(limits=[]), po.InputError, ["'limits'"]),
    # the door
    "not a problem": (lambda: po.optimize(SCENARIOS), po.InputError, ["takes a Problem"]),  # type: ignore[arg-type]
    "tolerance absurd": (lambda: po.optimize(problem(), tolerance=1.0), po.InputError, ["tolerance", "1.0"]),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_refused_by_name(case: str) -> None:
    make, kind, words = CASES[case]
    with pytest.raises(kind) as caught:
        make()
    assert isinstance(caught.value, ValueError)
    for word in words:
        assert word in str(caught.value), str(caught.value)


def test_unit_check_can_be_turned_off() -> None:
    wide = problem(
        po.Bounds(-10, 10, unit_check=False), po.Turnover(20, unit_check=False), po.CVaRLimit(0.9, 6, unit_check=False)
    )
    assert wide.compiled.program.upper.max() == 10


def test_terms_add_subtract_and_scale() -> None:
    objective = (2 * po.ExpectedReturn() - po.CVaR(0.9) / 4 - 3 * po.ProportionalCost(5)) * 2
    assert [c for c, _ in objective.parts] == [4.0, -0.5, -6.0]
    assert str(-po.CVaR(0.9)) == "- CVaR(beta=0.9)"
    with pytest.raises(TypeError):
        _ = po.CVaR(0.9) + 1.0  # type: ignore[operator]


def test_a_term_and_a_limit_at_one_level_share_a_block() -> None:
    shared = problem(
        po.Bounds(), po.CVaRLimit(0.9, 0.05), objective=po.ExpectedReturn() - 2 * po.CVaR(0.9) - po.CVaR(0.9)
    )
    assert shared.compiled.betas == (0.9,)
    assert shared.compiled.program.cvar_weight.tolist() == [3.0]
    assert shared.compiled.program.cvar_cap.tolist() == [0.05]


def test_problem_and_scenarios_do_not_change_with_their_input() -> None:
    frame, book = returns(), HOLDINGS.copy()
    scenarios = po.ScenarioSet(frame)
    fixed = po.Problem(scenarios, UTILITY - po.ProportionalCost(5), [po.Budget(), po.Bounds()], holdings=book)
    frame.iloc[0, 0], book.iloc[0] = 9.0, 9.0
    assert scenarios.matrix[0, 0] != 9.0
    assert fixed.holdings is not None
    assert fixed.holdings.iloc[0] == 0.25
    with pytest.raises(ValueError, match="read-only"):
        scenarios.matrix[0, 0] = 1.0

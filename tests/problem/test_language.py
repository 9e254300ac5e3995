"""The language at its edges: text, operators, names, units and data that cannot be meant."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import portfolioopt as po
from portfolioopt.problem import nearest_covariance
from portfolioopt.problem.linear_text import parse

ASSETS = pd.Index(["AAPL", "MSFT", "XOM", "JNJ"])
SECTORS = pd.Series(["Tech", "Tech", "Energy", "Health"], ASSETS)
HELD = pd.Series([0.4, 0.3, 0.2, 0.1], ASSETS)
RETURNS = pd.DataFrame(
    0.01 * np.random.default_rng(0).normal(size=(12, 4)), pd.bdate_range("2024-03-01", periods=12), ASSETS
)
DATA = po.ScenarioSet(RETURNS)
OTHER = po.ScenarioSet(RETURNS.rename(columns={"JNJ": "PFE"}))
COVARIANCE = pd.DataFrame(1e-4 * np.eye(4), ASSETS, ASSETS)
EXPOSURES = pd.DataFrame({"beta": [1.2, 1.0, 0.8, 0.6], "size": [1.0, 0.5, -0.5, 0.0]}, ASSETS)
FACTORS = pd.DataFrame(1e-4 * np.eye(2), EXPOSURES.columns, EXPOSURES.columns)
NET = po.ExpectedReturn() - po.CVaR(0.9)


def build(*constraints: Any, objective: Any = NET, scenarios: po.ScenarioSet = DATA) -> po.Problem:
    return po.Problem(scenarios, objective, [po.Budget(), po.Bounds(), *constraints], holdings=HELD)


def weigh(term: Any) -> po.Problem:
    return build(objective=po.ExpectedReturn() - term)


def refused(call: Callable[[], object], *words: str, error: type[po.InputError] = po.InputError) -> str:
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    for word in words:
        assert word in message, f"{word!r} is not in: {message}"
    return message


# -- limits as text --------------------------------------------------------------------------------------------------
NUMBER = st.sampled_from(["0.3", "30%", ".5", "2", "1e-2", "0", "7.5%"])
NAME = st.sampled_from(["A", "B", "BRK.B", "BF-B", "3M", "'Real Estate'", '"A+B"', "`x y`"])
PIECE = st.one_of(NUMBER, NAME, st.tuples(NUMBER, NAME).map(" * ".join), st.tuples(NUMBER, NUMBER, NAME).map("*".join))
SIDE = st.tuples(
    st.sampled_from(["", "- ", "+ "]), PIECE, st.lists(st.tuples(st.sampled_from([" + ", " - "]), PIECE), max_size=3)
).map(lambda parts: parts[0] + parts[1] + "".join(sign + piece for sign, piece in parts[2]))
PLAIN = {"A": "a", "B": "b", "BRK.B": "c", "BF-B": "d", "3M": "e", "Real Estate": "f", "A+B": "g", "x y": "h"}


def value(side: str, at: dict[str, float]) -> float:
    """What Python makes of a side, its names replaced by variables and its percentages by fractions."""
    python = re.sub(
        r"'Real Estate'|\"A\+B\"|`x y`|BRK\.B|BF-B|3M|\bA\b|\bB\b", lambda m: PLAIN[m[0].strip("'\"`")], side
    )
    python = re.sub(r"([\d.]+)%", r"(\1/100)", python)
    return float(eval(python, {PLAIN[name]: x for name, x in at.items()}))


@given(SIDE, st.sampled_from(["<=", ">=", "==", "="]), SIDE, st.integers(0, 2**32 - 1))
def test_text_means_what_it_means_in_python(left: str, sense: str, right: str, seed: int) -> None:
    at = dict(zip(PLAIN, np.random.default_rng(seed).normal(size=len(PLAIN)), strict=True))
    text = f"{left} {sense} {right}"
    try:
        line = parse(text, "LinearLimit")
    except po.InputError as error:
        refusal = str(error)
        assert "names no asset" in refusal
        moved = {name: x + 1.0 for name, x in at.items()}
        assert value(left, at) - value(right, at) == pytest.approx(value(left, moved) - value(right, moved))
        return
    activity = sum(factor * at[name] for name, factor in line.coefficients.items())
    assert (np.isfinite(line.lower), np.isfinite(line.upper)) == {
        "<=": (False, True), ">=": (True, False), "==": (True, True), "=": (True, True)
    }[sense]  # fmt: skip
    limit = line.upper if np.isfinite(line.upper) else line.lower
    # left - right and activity - limit are the same number, with the same sign
    assert activity - limit == pytest.approx(value(left, at) - value(right, at), abs=1e-12)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("A - -B <= 0", {"A": 1.0, "B": 1.0}),
        ("A - +B <= 0", {"A": 1.0, "B": -1.0}),
        ("A + -B <= 0", {"A": 1.0, "B": -1.0}),
        ("- -A + B <= 0", {"A": 1.0, "B": 1.0}),
        ("2 * -A + B <= 0", {"A": -2.0, "B": 1.0}),
        ("A <= 2 * -0.3 * B", {"A": 1.0, "B": 0.6}),
    ],
)
def test_signs_in_a_row_are_read_right_or_refused(text: str, meant: dict[str, float]) -> None:
    try:
        line = parse(text, "LinearLimit")
    except po.InputError:
        return
    assert (dict(line.coefficients), line.lower, line.upper) == (meant, -np.inf, 0.0)


@pytest.mark.parametrize("text", ["A <= 2 * -0.3", "A <= -2 * 0.3", "A <= - 0.3 - 0.3"])
def test_negative_factors_of_numbers(text: str) -> None:
    try:
        line = parse(text, "LinearLimit")
    except po.InputError:
        return
    assert (dict(line.coefficients), line.upper) == ({"A": 1.0}, pytest.approx(-0.6))


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("Tech <= 0.3 0.4", "position 12"),
        ("Tech Energy <= 0.3", "position 5"),
        ("(Tech) <= 0.3", "position 1"),
        ("Tech <= 1,000", "position 10"),
        ("Tech < 0.3", "strict"),
        ("Tech > 0.3", "strict"),
        ("Tech != 0.3", "position 5"),
        ("Tech ≤ 0.3", "position 5"),
        ("Tech * 0.5 <= 0.3", "before the name"),
        ("Tech <= 30 %", "position 11"),
        ("Tech <=", "missing at the end"),
        ("<= 0.3", "nothing stands before"),
        ("Tech + <= 0.3", "nothing stands before"),
        ("Tech", "one comparison"),
        ("0.1 <= 0.3", "names no asset"),
        ("Tech - Tech <= 0.3", "names no asset"),
        ("0.1 <= Tech >= 0.3", "number <= names <= number"),
        ("A <= B <= 0.3", "number <= names <= number"),
        ("0.1 == Tech == 0.2", "number <= names <= number"),
        ("0.1 <= A <= 0.2 <= 0.3", "one comparison"),
        ("0.3 <= Tech <= 0.1", "allows nothing"),
        ("'Tech <= 0.3", "position 1"),
    ],
)
def test_text_that_says_where_it_cannot_be_read(text: str, place: str) -> None:
    refused(lambda: po.LinearLimit(text, name="Desk"), "Desk", repr(text), place)


def test_text_finds_assets_groups_and_what_was_meant() -> None:
    frame = pd.DataFrame({"sector": SECTORS, "region": ["US", "US", "EU", "EU"]}, ASSETS)
    line = build(po.LinearLimit(["Tech - EU <= 0.1", "AAPL + 0.5 * US >= 10%"], frame)).compiled
    rows = line.program.rows[:, :4]
    assert any(np.array_equal(row, [1.0, 1.0, -1.0, -1.0]) for row in rows)
    assert any(np.array_equal(row, [1.5, 0.5, 0.0, 0.0]) for row in rows)
    refused(lambda: build(po.LinearLimit("Tehc <= 0.3", frame)), "Tehc", "'Tech'", error=po.UnknownNameError)
    refused(lambda: build(po.LinearLimit("tech <= 0.3", frame)), "'Tech'", error=po.UnknownNameError)
    refused(lambda: build(po.LinearLimit("APPL <= 0.3")), "'AAPL'", error=po.UnknownNameError)
    refused(lambda: build(po.LinearLimit("Tech <= 0.3", SECTORS.drop("JNJ"))), "'JNJ'", "give every asset a label")
    two = SECTORS.replace({"Health": "AAPL"})
    refused(lambda: build(po.LinearLimit("AAPL <= 0.3", two)), "'AAPL'", "two meanings")
    build(po.LinearLimit("Tech <= 0.3", two))  # nobody asks for the one that is ambiguous
    refused(lambda: po.LinearLimit([]), "no text")
    refused(lambda: po.LinearLimit(["Tech <= 0.3", 5]), "was 5")


def test_a_group_of_nobody() -> None:
    """A label that no asset carries would be a limit that never binds."""
    refused(lambda: build(po.LinearLimit("Utilities <= 0.3", SECTORS)), "Utilities", error=po.UnknownNameError)
    for missing in (SECTORS.where(ASSETS != "XOM"), SECTORS.rename({"XOM": "XON"})):
        refused(lambda labels=missing: build(po.LinearLimit("Energy <= 0.3", labels)), "'XOM'", "every asset a label")
    refused(lambda: build(po.GroupLimit(SECTORS.rename({"XOM": "XON"}), upper={"Tech": 0.3})), "is 'XON' meant?")


# -- limits by operators ---------------------------------------------------------------------------------------------
def test_comparisons_make_limits_whichever_way_round() -> None:
    cap = po.CVaR(0.9)
    for limit in (cap <= 0.02, 0.02 >= cap, cap <= np.float64(0.02), np.float64(0.02) >= cap):  # noqa: SIM300
        assert isinstance(limit, po.Limit)
        assert (limit.lower, limit.upper) == (None, 0.02)
    floor = po.ExpectedReturn() - po.ProportionalCost(5) >= 0.0
    assert isinstance(floor, po.Limit)
    assert (floor.lower, floor.upper) == (0.0, None)
    assert floor.name == "ExpectedReturn() - ProportionalCost(bps=5)"


def test_comparisons_that_python_would_misread() -> None:
    # `a <= x <= b` is `(a <= x) and (x <= b)`: the first limit would be lost
    with pytest.raises((po.InputError, TypeError)):
        0.0 <= po.ExpectedReturn() <= 0.1  # type: ignore[operator]  # noqa: B015
    with pytest.raises(po.InputError, match="cannot be limited from below"):
        0.01 <= po.CVaR(0.9) <= 0.02  # noqa: B015
    for comparison in (
        lambda: po.CVaR(0.9) < 0.02,
        lambda: po.ExpectedReturn() > 0.0,
        lambda: po.CVaR(0.9) <= po.CVaR(0.95),
        lambda: po.ExpectedReturn() / po.CVaR(0.9) >= 1.0,
    ):
        with pytest.raises(TypeError):
            comparison()
    refused(lambda: build(po.CVaR(0.9) == 0.02), "False is not a constraint")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: po.Limit(po.CVaR(0.9)), ["upper=", "lower="]),
        (lambda: po.Limit(po.CVaR(0.9), upper="2%"), ["CVaR(beta=0.9): upper", "'2%'"]),
        (lambda: po.Limit(po.CVaR(0.9), upper=np.nan), ["finite"]),
        (lambda: po.Limit(po.ExpectedReturn(), lower=0.2, upper=0.1), ["0.2 is above upper 0.1"]),
        (lambda: po.Limit(po.Budget(), upper=0.1), ["a measure such as"]),
        (lambda: po.Limit(po.ExpectedReturn() / po.CVaR(0.9), lower=1.0), ["a measure such as"]),
        (lambda: po.Limit(po.Volatility(), lower=0.01), ["Volatility()", "from below", "not convex"]),
        (lambda: po.Limit(po.GrossExposure(), lower=1.0), ["GrossExposure()", "from below"]),
        (lambda: po.Limit(po.LogGrowth(), upper=0.0), ["LogGrowth()", "from above"]),
        (lambda: po.Limit(po.ExpectedReturn() - po.CVaR(0.9), upper=0.0), ["CVaR(beta=0.9)", "from above"]),
        (lambda: po.Limit(po.CVaR(0.9) - po.Volatility(), upper=0.0), ["Volatility()", "from above"]),
        (lambda: po.Limit(-1.0 * po.CVaR(0.9), lower=-0.02, upper=0.0), ["not convex"]),
    ],
)
def test_limits_that_are_none(make: Callable[[], object], words: list[str]) -> None:
    refused(make, *words)


def test_two_limits_on_one_measure_need_names() -> None:
    refused(lambda: build(po.CVaR(0.9) <= 0.02, po.CVaR(0.9) <= 0.03), "two constraints", "CVaR(beta=0.9)", "name=")
    build(po.CVaR(0.9) <= 0.02, po.Limit(po.CVaR(0.9), upper=0.03, name="Looser"))
    refused(lambda: build(po.NoTrade(["XOM"]), po.NoTrade(["JNJ"])), "'NoTrade'", "name=")
    refused(lambda: build(po.Soft(po.Turnover(0.1), 1.0), po.Turnover(0.2)), "'Turnover'", "name=")
    refused(lambda: build(po.LinearLimit("AAPL <= 0.3"), po.LinearLimit("XOM <= 0.3")), "'LinearLimit'", "name=")


# -- ratios ----------------------------------------------------------------------------------------------------------
def test_ratios_are_made_of_terms_and_nothing_else() -> None:
    ratio = po.ExpectedReturn() / po.CVaR(0.9)
    assert isinstance(ratio, po.Ratio)
    assert str(ratio) == "(ExpectedReturn()) / (CVaR(beta=0.9))"
    mixed = (po.ExpectedReturn() - po.ProportionalCost(5)) / (po.CVaR(0.9) + 0.1 * po.GrossExposure())
    assert str(build(objective=mixed).ratio) == str(mixed)
    for call in (
        lambda: 2.0 * ratio,
        lambda: ratio + po.ExpectedReturn(),
        lambda: po.ExpectedReturn() - ratio,
        lambda: -ratio,
        lambda: 1.0 / po.CVaR(0.9),
    ):
        with pytest.raises(TypeError):
            call()
    refused(lambda: build(objective=po.CVaR(0.9) / po.ExpectedReturn()), "CVaR(beta=0.9)", "not a convex problem")
    refused(lambda: build(objective=po.ExpectedReturn() / po.LogGrowth()), "LogGrowth()", "not a convex problem")
    refused(lambda: build(objective=po.ExpectedReturn() / -po.CVaR(0.9)), "CVaR(beta=0.9)")


def test_dividing_a_term_by_nothing() -> None:
    assert str(po.CVaR(0.9) / 4) == "0.25 CVaR(beta=0.9)"
    with pytest.raises((po.InputError, ZeroDivisionError)):
        po.CVaR(0.9) / 0.0
    with pytest.raises(TypeError):
        po.CVaR(0.9) / "2"  # type: ignore[operator]


# -- names and universes ---------------------------------------------------------------------------------------------
FOREIGN = HELD.rename({"JNJ": "PFE"})
BENCHMARKED: dict[str, Callable[[Any], object]] = {
    "CVaR.benchmark": lambda b: weigh(po.CVaR(0.9, benchmark=b)),
    "TrackingError.benchmark": lambda b: weigh(po.TrackingError(benchmark=b)),
    "ActiveShare.benchmark": lambda b: weigh(po.ActiveShare(b)),
    "Ridge.centre": lambda b: weigh(po.Ridge(1.0, centre=b)),
    "GroupLimit.benchmark": lambda b: build(po.GroupLimit(SECTORS, upper={"Tech": 0.1}, benchmark=b)),
    "FactorExposure.benchmark": lambda b: build(po.FactorExposure(EXPOSURES, upper={"beta": 0.1}, benchmark=b)),
    "MeanUncertainty.box": lambda b: weigh(po.MeanUncertainty(b)),
    "PowerCost.coefficient": lambda b: weigh(po.PowerCost(b)),
    "BorrowCost.bps": lambda b: weigh(po.BorrowCost(b)),
    "Liquidity.volume": lambda b: build(po.Liquidity(b, 1.0)),
    "MinPosition.size": lambda b: build(po.MinPosition(b)),
    "RoundLots.lot": lambda b: build(po.RoundLots(b)),
}


@pytest.mark.parametrize("what", BENCHMARKED)
def test_weights_of_another_universe(what: str) -> None:
    call = BENCHMARKED[what]
    call(HELD)
    call(HELD.to_dict())
    refused(lambda: call(FOREIGN), what, "'PFE'", error=po.UnknownNameError)
    refused(lambda: call(HELD.drop("JNJ")), what, "says nothing about 'JNJ'")
    refused(lambda: call(pd.concat([HELD, HELD[["XOM"]]])), what, "duplicate", "'XOM'")
    refused(lambda: call(HELD.where(ASSETS != "MSFT")), "'MSFT'" if what != "BorrowCost.bps" else "basis points")
    refused(lambda: call(HELD.to_numpy()), what if what != "TrackingError.benchmark" else "benchmark")


def test_misspelt_assets_in_lists() -> None:
    for call in (
        lambda: weigh(po.GrossExposure(["APPL"])),
        lambda: build(po.NoTrade(["APPL"])),
        lambda: build(po.MustHold({"APPL": 0.1})),
        lambda: build(po.NetExposure(["APPL", "XOM"]) <= 0.3),
    ):
        refused(call, "'APPL'", "did you mean 'AAPL'", error=po.UnknownNameError)
    refused(lambda: po.NoTrade("AAPL"), "a list of labels", "'AAPL'")
    refused(lambda: po.LongExposure("AAPL"), "a list of labels")
    refused(lambda: po.MustHold({}), "MustHold")
    refused(lambda: build(po.FactorExposure(EXPOSURES, upper={"betta": 0.1})), "'beta'", error=po.UnknownNameError)
    refused(lambda: build(po.FactorExposure(EXPOSURES.drop("XOM"), upper={"beta": 0.1})), "'XOM'")


@pytest.mark.parametrize(
    "make",
    [
        lambda: weigh(po.CVaR(0.9, scenarios=OTHER)),
        lambda: weigh(po.SpectralRisk({0.9: 1.0}, scenarios=OTHER)),
        lambda: weigh(po.WorstLoss(OTHER)),
        lambda: weigh(po.MeanAbsoluteDeviation(OTHER)),
        lambda: weigh(po.ExpectedShortfallBelow(0.0, OTHER)),
        lambda: weigh(po.Variance(scenarios=OTHER)),
        lambda: weigh(po.SemiDeviation(scenarios=OTHER)),
        lambda: weigh(po.EntropicVaR(0.9, OTHER)),
        lambda: build(objective=po.LogGrowth(OTHER)),
        lambda: weigh(po.ConditionalDrawdown(0.9, path=OTHER)),
        lambda: weigh(po.MaxDrawdown(OTHER)),
        lambda: weigh(po.WorstCase(po.CVaR(0.9), po.Volatility(scenarios=OTHER))),
    ],
    ids=range(12),
)
def test_scenarios_over_other_assets(make: Callable[[], object]) -> None:
    """Four assets here and four there: nothing but the labels tells them apart."""
    refused(make, "over other assets")


# -- covariances -----------------------------------------------------------------------------------------------------
def test_covariances_that_are_none() -> None:
    bad = COVARIANCE.copy()
    bad.iloc[0, 1] = bad.iloc[1, 0] = 2e-4
    for term in (po.Variance(bad), po.Volatility(bad), po.TrackingError(covariance=bad, benchmark=HELD)):
        message = refused(
            lambda term=term: weigh(term), "not positive semidefinite", "-0.0001", "0.0003", "nearest_covariance"
        )
        assert type(term).__name__ in message
    refused(lambda: weigh(po.EllipsoidUncertainty(bad)), "nearest_covariance")
    weigh(po.Variance(nearest_covariance(bad)))
    lopsided = COVARIANCE.copy()
    lopsided.iloc[0, 1] = 5e-5
    refused(lambda: weigh(po.Variance(lopsided)), "not symmetric", "(c + c.T) / 2")
    refused(lambda: weigh(po.Variance(COVARIANCE.drop(index="XOM", columns="XOM"))), "says nothing about 'XOM'")
    refused(lambda: weigh(po.Variance(COVARIANCE.where(COVARIANCE > 0))), "missing or infinite")
    refused(lambda: po.Variance(COVARIANCE.to_numpy()), "a frame by asset")
    refused(lambda: po.Variance(COVARIANCE, DATA), "not both")
    refused(lambda: po.TrackingError(covariance=COVARIANCE), "benchmark")


def test_factor_covariances_that_are_none() -> None:
    good = po.FactorCovariance(EXPOSURES, FACTORS, 1e-5)
    weigh(po.Variance(good))
    refused(lambda: po.FactorCovariance(EXPOSURES.to_numpy(), FACTORS, 1e-5), "frames")
    refused(lambda: po.FactorCovariance(EXPOSURES.rename(columns={"beta": "betta"}), FACTORS, 1e-5), "'beta'")
    refused(lambda: po.FactorCovariance(EXPOSURES, -FACTORS, 1e-5), "factor_covariance", "not positive semidefinite")
    refused(lambda: po.FactorCovariance(EXPOSURES, FACTORS, -1e-5), "negative", "'AAPL'")
    refused(lambda: po.FactorCovariance(EXPOSURES, FACTORS, HELD.drop("JNJ")), "'JNJ'")
    refused(lambda: po.FactorCovariance(EXPOSURES.drop("XOM").reindex(EXPOSURES.index), FACTORS, 1e-5), "finite")
    few = po.FactorCovariance(EXPOSURES.drop("XOM"), FACTORS, 1e-5)
    refused(lambda: weigh(po.Variance(few)), "says nothing about 'XOM'")


# -- paths -----------------------------------------------------------------------------------------------------------
def test_drawdowns_need_time() -> None:
    shuffled = po.ScenarioSet(RETURNS.sample(frac=1.0, random_state=0))
    numbered = po.ScenarioSet(RETURNS.reset_index(drop=True))
    for scenarios in (shuffled, numbered):
        for term in (po.ConditionalDrawdown(0.9), po.MaxDrawdown()):
            objective = po.ExpectedReturn() - term
            refused(
                lambda s=scenarios, o=objective: build(objective=o, scenarios=s),
                repr(term),
                "in time",
                "path=ScenarioSet",
            )
        build(objective=po.ExpectedReturn() - po.MaxDrawdown(path=DATA), scenarios=scenarios)
    weigh(po.MaxDrawdown())
    monthly = po.ScenarioSet(RETURNS.set_axis(pd.period_range("2023-01", periods=12, freq="M")))
    build(objective=po.ExpectedReturn() - po.MaxDrawdown(), scenarios=monthly)
    for beta in (-0.1, 1.0, np.nan, "high"):
        refused(lambda beta=beta: po.ConditionalDrawdown(beta), "beta")


# -- parameters ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: po.Budget(lower="x"), ["Budget: lower", "'x'"]),
        (lambda: po.Budget(0.5, upper=1.0), ["not both"]),
        (lambda: build(po.Soft(po.Turnover(0.1), -1.0)), ["Turnover: penalty", "positive"]),
        (lambda: po.Soft("Turnover", 1.0), ["Soft takes a constraint"]),
        (lambda: po.Soft(po.Soft(po.Turnover(0.1), 1.0), 1.0), ["Soft takes a constraint"]),
        (lambda: po.Soft(po.RoundLots(0.1), 1.0), ["RoundLots", "cannot be soft"]),
        (lambda: build(po.Turnover(0.1, side="all")), ["side", "'all'"]),
        (lambda: po.TradedAmount("all"), ["side", "'all'"]),
        (lambda: po.MaxHoldings(2.5), ["MaxHoldings", "whole number", "2.5"]),
        (lambda: po.MaxHoldings(-1), ["MaxHoldings", "-1"]),
        (lambda: po.MaxHoldings(True), ["MaxHoldings", "True"]),
        (lambda: build(po.MinPosition(-0.1)), ["MinPosition", "at least zero", "'AAPL'"]),
        (lambda: build(po.RoundLots(0.0)), ["RoundLots", "positive", "'AAPL'"]),
        (lambda: po.Liquidity(HELD, 0.0), ["nav", "positive"]),
        (lambda: po.Liquidity(HELD, 1.0, participation=10), ["at most 1"]),
        (lambda: po.Liquidity(HELD, 1.0, of="weights"), ["'trades' or 'positions'"]),
        (lambda: build(po.Liquidity(-HELD, 1.0)), ["volume is negative", "'AAPL'"]),
        (lambda: po.GroupLimit(SECTORS, upper={"Tech": 0.3}, gross=True, benchmark=HELD), ["net"]),
        (lambda: po.GroupLimit("Tech", upper={"Tech": 0.3}), ["labels must be"]),
        (lambda: po.GroupLimit(SECTORS, upper=0.3), ["must map labels"]),
        (lambda: po.FactorExposure(EXPOSURES), ["limits nothing"]),
        (lambda: po.FactorExposure(EXPOSURES["beta"], upper={"beta": 1.0}), ["a frame"]),
        (lambda: build(po.FactorExposure(EXPOSURES, lower={"beta": 1.0}, upper={"beta": 0.5})), ["beta", "1", "0.5"]),
        (lambda: po.SpectralRisk({}), ["levels to shares"]),
        (lambda: po.SpectralRisk({0.9: 1.5, 0.95: -0.5}), ["0.95", "above 0"]),
        (lambda: po.SpectralRisk({90: 1.0}), ["beta"]),
        (lambda: po.WorstCase(), ["at least one"]),
        (lambda: po.WorstCase(po.CVaR(0.9), po.Budget()), ["WorstCase takes"]),
        (lambda: po.CVaR(0.9, scenarios=RETURNS), ["must be a ScenarioSet", "DataFrame"]),
        (lambda: po.PowerCost(0.1, exponent=1.0), ["above 1"]),
        (lambda: po.PowerCost(0.1, exponent=3.0), ["at most 2"]),
        (lambda: weigh(po.PowerCost(-0.1)), ["coefficient is negative", "'AAPL'"]),
        (lambda: weigh(po.Ridge(-1.0)), ["strength is negative", "'AAPL'"]),
        (lambda: weigh(po.MeanUncertainty(-0.1)), ["half-widths"]),
        (lambda: po.EllipsoidUncertainty(COVARIANCE, -1.0), ["radius", "at least 0"]),
        (lambda: po.RobustCVaR(0.9, -1.0), ["radius", "at least 0"]),
        (lambda: po.RobustCVaR(0.9, 1.0, norm=3), ["norm", "3"]),
        (lambda: po.SemiDeviation("zero"), ["SemiDeviation: target", "'zero'"]),
        (lambda: po.ExpectedShortfallBelow(np.inf), ["target", "finite"]),
        (lambda: po.EntropicVaR(95), ["beta", "0.95"]),
        (lambda: po.ProportionalCost(5, sell=-1), ["sell", "not negative"]),
        (lambda: po.BorrowCost(30_000), ["hundredths of a percent"]),
    ],
    ids=range(42),
)
def test_parameters_that_cannot_be_meant(make: Callable[[], object], words: list[str]) -> None:
    refused(make, *words)


@pytest.mark.parametrize(
    ("limit", "right"),
    [
        (po.CVaR(0.9) <= 2.0, "0.02"),
        (po.Volatility() <= 15, "0.15"),
        (po.MaxDrawdown() <= 20, "0.2"),
        (po.GrossExposure() <= 130, "1.3"),
        (po.TradedAmount() <= 20, "0.2"),
        (po.ActiveShare(HELD) <= 60, "0.6"),
    ],
    ids=range(6),
)
def test_percentages_in_limits_on_measures(limit: po.Limit, right: str) -> None:
    refused(lambda: build(limit), limit.name, right, "unit_check=False")
    build(po.Limit(limit.measure, upper=limit.upper, unit_check=False))


def test_trading_needs_holdings_and_says_who_asks() -> None:
    for extra, who in (
        ([po.NoTrade(["XOM"])], "NoTrade"),
        ([po.MinTrade(0.1)], "MinTrade"),
        ([po.Liquidity(HELD, 1.0)], "Liquidity"),
        ([po.TradedAmount("buy") <= 0.1], "TradedAmount('buy')"),
        ([po.Soft(po.Turnover(0.1), 1.0)], "Turnover"),
        ([po.WorstCase(po.CVaR(0.9), po.PowerCost(0.1)) <= 0.1], "PowerCost"),
    ):
        refused(lambda extra=extra: po.Problem(DATA, NET, [po.Budget(), *extra]), who, "holdings=", "zeros")
    refused(lambda: po.Problem(DATA, NET - po.PowerCost(0.1)), "PowerCost", "holdings=")
    po.Problem(DATA, NET, [po.Budget(), po.Liquidity(HELD, 1.0, of="positions")])


# -- nothing else escapes --------------------------------------------------------------------------------------------
STRANGE: list[Any] = [
    None, "x", -1.0, 2.5, np.nan, np.inf, [], {}, (), object(), pd.Series(dtype=float), HELD.iloc[:2], {"AAPL": 1.0},
    {"AAPL": "a"}, [1, 2], ["AAPL"], pd.DataFrame(), DATA, po.CVaR(0.9), po.Budget(), lambda: 1, 1j, b"x",
]  # fmt: skip
CALLS: dict[str, Callable[[Any], object]] = {
    "Budget": lambda x: build(po.Budget(lower=x, name="Invested")),
    "GroupLimit.benchmark": lambda x: build(po.GroupLimit(SECTORS, upper={"Tech": 0.3}, benchmark=x)),
    "Limit.measure": lambda x: build(po.Limit(x, upper=0.1)),
    "Limit.upper": lambda x: build(po.Limit(po.CVaR(0.9), upper=x)),
    "LinearLimit": lambda x: build(po.LinearLimit(x)),
    "LinearLimit.labels": lambda x: build(po.LinearLimit("AAPL <= 0.3", x)),
    "FactorExposure": lambda x: build(po.FactorExposure(x, upper={"beta": 1.0})),
    "FactorExposure.lower": lambda x: build(po.FactorExposure(EXPOSURES, lower={"beta": x})),
    "NoTrade": lambda x: build(po.NoTrade(x)),
    "MustHold": lambda x: build(po.MustHold(x)),
    "MustHold, one": lambda x: build(po.MustHold({"AAPL": x})),
    "Liquidity.volume": lambda x: build(po.Liquidity(x, 1.0)),
    "Liquidity.nav": lambda x: build(po.Liquidity(HELD, x)),
    "MaxHoldings": lambda x: build(po.MaxHoldings(x)),
    "MinPosition": lambda x: build(po.MinPosition(x)),
    "MinTrade": lambda x: build(po.MinTrade(x)),
    "RoundLots": lambda x: build(po.RoundLots(x)),
    "Soft": lambda x: build(po.Soft(x, 1.0)),
    "Soft.penalty": lambda x: build(po.Soft(po.Turnover(0.1), x)),
    "CVaR.scenarios": lambda x: weigh(po.CVaR(0.9, scenarios=x)),
    "CVaR.benchmark": lambda x: weigh(po.CVaR(0.9, benchmark=x)),
    "SpectralRisk": lambda x: weigh(po.SpectralRisk(x)),
    "WorstCase": lambda x: weigh(po.WorstCase(x)),
    "GrossExposure": lambda x: weigh(po.GrossExposure(x)),
    "ActiveShare": lambda x: weigh(po.ActiveShare(x)),
    "MeanUncertainty": lambda x: weigh(po.MeanUncertainty(x)),
    "ProportionalCost.sell": lambda x: weigh(po.ProportionalCost(1.0, sell=x)),
    "BorrowCost": lambda x: weigh(po.BorrowCost(x)),
    "Variance": lambda x: weigh(po.Variance(x)),
    "TrackingError": lambda x: weigh(po.TrackingError(benchmark=x)),
    "EllipsoidUncertainty": lambda x: weigh(po.EllipsoidUncertainty(x)),
    "FactorCovariance": lambda x: weigh(po.Variance(po.FactorCovariance(EXPOSURES, FACTORS, x))),
    "nearest_covariance": lambda x: nearest_covariance(x),
    "SemiDeviation": lambda x: weigh(po.SemiDeviation(x)),
    "EntropicVaR": lambda x: weigh(po.EntropicVaR(x)),
    "ConditionalDrawdown": lambda x: weigh(po.ConditionalDrawdown(x)),
    "MaxDrawdown": lambda x: weigh(po.MaxDrawdown(x)),
    "PowerCost": lambda x: weigh(po.PowerCost(x)),
    "PowerCost.exponent": lambda x: weigh(po.PowerCost(0.1, x)),
    "Ridge": lambda x: weigh(po.Ridge(x)),
    "Ridge.centre": lambda x: weigh(po.Ridge(1.0, centre=x)),
    "LogGrowth": lambda x: build(objective=po.LogGrowth(x)),
    "RobustCVaR": lambda x: weigh(po.RobustCVaR(0.9, x)),
}


@pytest.mark.parametrize("what", CALLS)
def test_no_error_of_another_kind_escapes(what: str) -> None:
    escaped = []
    for number, strange in enumerate(STRANGE):
        try:
            CALLS[what](strange)
        except po.InputError:
            pass
        except Exception as error:
            escaped.append(f"{what} with {number}, {type(strange).__name__}: {error!r}")
    assert not escaped, "\n".join(escaped)

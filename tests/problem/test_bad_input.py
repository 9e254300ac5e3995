"""What cannot be meant is refused where it is passed in, and the message names the culprit and the remedy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

import portfolioopt as po

ASSETS = pd.Index(["AAPL", "MSFT", "XOM", "JNJ"])
SECTORS = pd.Series(["Tech", "Tech", "Energy", "Health"], ASSETS)
HELD = pd.Series([0.4, 0.3, 0.2, 0.1], ASSETS)
DAYS = pd.bdate_range("2024-03-01", periods=12)
NET = po.ExpectedReturn() - po.CVaR(0.9)
BOX = (po.Budget(), po.Bounds())


def returns(seed: int = 0) -> pd.DataFrame:
    values = 0.01 * np.random.default_rng(seed).normal(size=(12, 4))
    return pd.DataFrame(values, index=DAYS, columns=ASSETS)


DATA = po.ScenarioSet(returns())


def build(*constraints: object, objective: object = NET, holdings: object = None) -> po.Problem:
    return po.Problem(DATA, objective, constraints, holdings=holdings)  # type: ignore[arg-type]


def refused(call: Callable[[], object], *words: str, error: type[po.InputError] = po.InputError) -> po.InputError:
    """The call fails on purpose, as a ValueError too, and says all of the words."""
    with pytest.raises(error) as caught:
        call()
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, po.PortfolioOptError)
    message = str(caught.value)
    for word in words:
        assert word in message, f"{word!r} is not in: {message}"
    return caught.value


# -- scenarios -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_missing_and_infinite_returns_are_named_by_row_and_column(bad: float) -> None:
    frame = returns()
    frame.loc[DAYS[2], "XOM"] = bad
    frame.loc[DAYS[7], "AAPL"] = bad
    refused(
        lambda: po.ScenarioSet(frame),
        "missing or infinite in 2 cells of 2 rows",
        "2024-03-05", "XOM", "2024-03-12", "AAPL", "'AAPL', 'XOM'",
    )  # fmt: skip


def test_returns_that_are_no_numbers() -> None:
    frame = returns().astype(object)
    frame["JNJ"] = "0.01"
    refused(lambda: po.ScenarioSet(frame.astype({"JNJ": object})), "must be numbers", "JNJ")
    refused(lambda: po.ScenarioSet(returns() > 0), "must be numbers", "AAPL")
    refused(lambda: po.ScenarioSet(returns().astype(complex)), "must be numbers", "AAPL")


def test_duplicate_columns() -> None:
    frame = returns()
    frame.columns = pd.Index(["AAPL", "MSFT", "MSFT", "JNJ"])
    message = str(refused(lambda: po.ScenarioSet(frame), "duplicate", "'MSFT'"))
    assert "AAPL" not in message


@pytest.mark.parametrize("rows", [0, 1])
def test_too_few_scenarios(rows: int) -> None:
    refused(lambda: po.ScenarioSet(returns().iloc[:rows]), f"{rows} scenarios and 4 assets", "at least two")
    refused(lambda: po.ScenarioSet(returns()[[]]), "12 scenarios and 0 assets")


def test_arrays_need_labels() -> None:
    values = returns().to_numpy()
    refused(lambda: po.ScenarioSet(values), "array without labels", "assets=[...]")
    refused(lambda: po.ScenarioSet(values, assets=["A", "B"]), "2 labels for 4 columns")
    refused(lambda: po.ScenarioSet(values[0]), "(4,)", "scenarios x assets")


@pytest.mark.parametrize(
    ("probabilities", "words"),
    [
        (np.full(11, 1 / 11), ["shape (11,)", "12 scenarios"]),
        (np.full(12, 0.1), ["sum to 1.2", "not to one"]),
        (np.append(np.full(11, 0.1), -0.1), ["negative", "2024-03-18"]),
        (np.append(np.full(11, 0.1), np.nan), ["not finite", "2024-03-18"]),
        (np.append(np.zeros(11), 1.0), ["at least two"]),
        (["half"] * 12, ["must be numbers"]),
        (pd.Series(1 / 12, index=range(12)), ["labelled differently"]),
    ],
)
def test_probabilities(probabilities: object, words: list[str]) -> None:
    refused(lambda: po.ScenarioSet(returns(), probabilities), "probabilit", *words)  # type: ignore[arg-type]


def test_a_problem_wants_a_scenario_set() -> None:
    refused(lambda: po.Problem(returns(), NET), "must be a ScenarioSet", "DataFrame")  # type: ignore[arg-type]


# -- objectives ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("beta", [0.0, 1.0, -0.5, 1.5, 95, 95.0, np.nan, "high", None])
def test_levels_outside_zero_to_one(beta: object) -> None:
    refused(lambda: po.CVaR(beta), "beta must lie strictly between 0 and 1", repr(beta))  # type: ignore[arg-type]
    refused(lambda: po.CVaRLimit(beta, 0.05), "beta", repr(beta))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("objective", "culprit"),
    [
        (po.ExpectedReturn() + po.CVaR(0.95), "CVaR(beta=0.95)"),
        (po.ExpectedReturn() - -2.0 * po.CVaR(0.95), "2 * CVaR(beta=0.95)"),
        (po.CVaR(0.95), "CVaR(beta=0.95)"),
        (-(po.ExpectedReturn() - po.CVaR(0.9)), "CVaR(beta=0.9)"),
        (po.ExpectedReturn() + po.ProportionalCost(5), "ProportionalCost(bps=5)"),
    ],
)
def test_seeking_risk_is_not_convex(objective: po.Objective, culprit: str) -> None:
    refused(lambda: build(*BOX, objective=objective, holdings=HELD), culprit, "Subtract")


@pytest.mark.parametrize("objective", [None, 3.0, "max", po.Budget(), po.CVaR, lambda w: w])
def test_objectives_that_are_no_terms(objective: object) -> None:
    refused(lambda: build(*BOX, objective=objective), "objective", "terms")


def test_arithmetic_with_strangers() -> None:
    for call in (
        lambda: po.ExpectedReturn() + 1.0,  # type: ignore[operator]
        lambda: po.ExpectedReturn() - "risk",  # type: ignore[operator]
        lambda: po.ExpectedReturn() * po.CVaR(0.9),  # type: ignore[operator]
        lambda: "two" * po.CVaR(0.9),  # type: ignore[operator]
    ):
        with pytest.raises(TypeError):
            call()
    for factor in (np.nan, np.inf):
        refused(lambda factor=factor: factor * po.CVaR(0.9), "scaled by", str(factor))


@pytest.mark.parametrize("bps", [-1.0, np.nan, np.inf, {"AAPL": -5.0}])
def test_costs_that_are_no_costs(bps: object) -> None:
    refused(lambda: po.ProportionalCost(bps), "basis points", "not negative")  # type: ignore[arg-type]


def test_costs_in_another_unit() -> None:
    refused(lambda: po.ProportionalCost(20_000), "20000 basis points", "200%", "hundredths of a percent")


# -- names -----------------------------------------------------------------------------------------------------------
LABELLED: dict[str, Callable[[pd.Series], object]] = {
    "holdings": lambda s: build(*BOX, holdings=s),
    "Bounds.upper": lambda s: build(po.Budget(), po.Bounds(0.0, s)),
    "Bounds.lower": lambda s: build(po.Budget(), po.Bounds(s, 1.0)),
    "TradeLimit.limit": lambda s: build(*BOX, po.TradeLimit(s), holdings=HELD),
    "ReturnTarget.mean": lambda s: build(*BOX, po.ReturnTarget(0.0, mean=s)),
    "ExpectedReturn.mean": lambda s: build(*BOX, objective=po.ExpectedReturn(s) - po.CVaR(0.9)),
    "ProportionalCost.bps": lambda s: build(*BOX, objective=NET - po.ProportionalCost(s), holdings=HELD),
}


@pytest.mark.parametrize("what", LABELLED)
def test_an_unknown_asset_and_what_was_probably_meant(what: str) -> None:
    misspelt = HELD.rename({"AAPL": "APPL"})
    error = refused(lambda: LABELLED[what](misspelt), what, "'APPL'", "did you mean 'AAPL'", error=po.UnknownNameError)
    assert isinstance(error, po.UnknownNameError)
    assert error.unknown == ("APPL",)
    assert set(error.known) == set(ASSETS)


@pytest.mark.parametrize("what", LABELLED)
def test_every_asset_needs_a_value(what: str) -> None:
    refused(lambda: LABELLED[what](HELD.drop("XOM")), what, "says nothing about 'XOM'", "reindex")


@pytest.mark.parametrize("what", LABELLED)
def test_an_asset_may_not_be_named_twice(what: str) -> None:
    twice = pd.concat([HELD, HELD[["JNJ"]]])
    refused(lambda: LABELLED[what](twice), what, "duplicate", "'JNJ'")


@pytest.mark.parametrize("what", LABELLED)
def test_values_that_are_missing(what: str) -> None:
    # a cost is checked before it knows the assets, so it cannot name the one
    culprit = "basis points" if what == "ProportionalCost.bps" else "'MSFT'"
    refused(lambda: LABELLED[what](HELD.where(ASSETS != "MSFT")), culprit)


@pytest.mark.parametrize("what", [name for name in LABELLED if name != "ProportionalCost.bps"])
def test_values_that_are_no_numbers(what: str) -> None:
    wrong = HELD.astype(object)
    wrong["MSFT"] = "plenty"
    refused(lambda: LABELLED[what](wrong), what)


@pytest.mark.parametrize("what", ["Bounds.upper", "Bounds.lower", "TradeLimit.limit", "ProportionalCost.bps"])
def test_arrays_without_labels_are_ambiguous(what: str) -> None:
    refused(lambda: LABELLED[what](HELD.to_numpy()), what, "no labels")  # type: ignore[arg-type]


@pytest.mark.parametrize("what", ["holdings", "ReturnTarget.mean", "ExpectedReturn.mean"])
@pytest.mark.parametrize("value", [0.1, [0.4, 0.3, 0.2, 0.1], HELD.to_numpy()])
def test_what_must_be_labelled(what: str, value: object) -> None:
    refused(lambda: LABELLED[what](value), what, "Series or mapping")  # type: ignore[arg-type]


def test_an_unknown_group_and_what_was_probably_meant() -> None:
    error = refused(
        lambda: build(*BOX, po.GroupLimit(SECTORS, upper={"Tehc": 0.3}, name="Sectors")),
        "Sectors", "'Tehc'", "did you mean 'Tech'",
        error=po.UnknownNameError,
    )  # fmt: skip
    assert isinstance(error, po.UnknownNameError)
    assert error.unknown == ("Tehc",)
    refused(
        lambda: build(*BOX, po.GroupLimit(SECTORS, lower={"Utilities": 0.3})),
        "'Utilities'", "known", "'Energy'", "'Health'", "'Tech'",
        error=po.UnknownNameError,
    )  # fmt: skip


def test_groups_must_cover_the_assets() -> None:
    refused(lambda: build(*BOX, po.GroupLimit(SECTORS.drop("XOM"), upper={"Tech": 0.3})), "GroupLimit", "'XOM'")
    twice = pd.concat([SECTORS, SECTORS[["XOM"]]])
    refused(lambda: build(*BOX, po.GroupLimit(twice, upper={"Tech": 0.3})), "GroupLimit", "twice", "'XOM'")


def test_two_constraints_of_one_name() -> None:
    refused(lambda: build(po.Bounds(), po.Bounds(0.0, 0.5)), "two constraints", "'Bounds'", "name=")
    refused(
        lambda: build(po.CVaRLimit(0.9, 0.05), po.CVaRLimit(0.9, 0.04)), "'CVaRLimit(0.9)'", "name="
    )  # fmt: skip
    build(po.Bounds(), po.Bounds(0.0, 0.5, name="Cap"), po.CVaRLimit(0.9, 0.05), po.CVaRLimit(0.95, 0.05))


# -- constraints -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("thing", [None, 1.0, "long only", po.CVaR(0.9), po.Budget, {"upper": 0.1}])
def test_constraints_that_are_none(thing: object) -> None:
    refused(lambda: build(po.Budget(), thing), "is not a constraint")


def test_lower_above_upper() -> None:
    refused(lambda: build(po.Bounds(0.5, 0.2)), "Bounds", "above", "0.5 > 0.2")
    caps = pd.Series([0.5, 0.5, 0.1, 0.5], ASSETS)
    message = str(refused(lambda: build(po.Bounds(0.2, caps, name="Caps")), "Caps", "'XOM'", "0.2 > 0.1"))
    assert "'AAPL'" not in message
    refused(
        lambda: po.GroupLimit(SECTORS, lower={"Tech": 0.4}, upper={"Tech": 0.3}, name="Sectors"),
        "Sectors[Tech]", "0.4", "0.3",
    )  # fmt: skip
    refused(lambda: build(po.Bounds(np.inf, np.inf)), "Bounds", "+inf")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_limits_that_are_not_finite(value: float) -> None:
    refused(lambda: po.Budget(value), "Budget", "finite", repr(value))
    refused(lambda: po.Turnover(value), "Turnover", "finite", repr(value))
    refused(lambda: po.ReturnTarget(value), "ReturnTarget", "finite", repr(value))
    refused(lambda: po.CVaRLimit(0.9, value), "CVaRLimit(0.9)", "finite", repr(value))
    refused(lambda: po.GroupLimit(SECTORS, upper={"Tech": value}), "GroupLimit", "Tech", repr(value))


@pytest.mark.parametrize("value", ["ten", None, [0.1, 0.2]])
def test_limits_that_are_no_numbers(value: object) -> None:
    for call, what in (
        (lambda: po.Budget(value), "Budget"),  # type: ignore[arg-type]
        (lambda: po.Turnover(value), "Turnover"),  # type: ignore[arg-type]
        (lambda: po.ReturnTarget(value), "ReturnTarget"),  # type: ignore[arg-type]
        (lambda: po.CVaRLimit(0.9, value), "CVaRLimit"),  # type: ignore[arg-type]
        (lambda: po.GroupLimit(SECTORS, upper={"Tech": value}), "Tech"),  # type: ignore[dict-item]
        (lambda: build(po.Bounds(0.0, value)), "Bounds.upper"),  # type: ignore[arg-type]
        (lambda: build(po.TradeLimit(value), holdings=HELD), "TradeLimit.limit"),  # type: ignore[arg-type]
        (lambda: build(*BOX, objective=NET - po.ProportionalCost(value), holdings=HELD), "bps"),  # type: ignore[arg-type]
    ):
        refused(call, what)


def test_bounds_that_are_missing() -> None:
    refused(lambda: build(po.Bounds(np.nan, 1.0)), "Bounds.lower", "nan")
    refused(lambda: build(po.Bounds(0.0, HELD.where(ASSETS != "JNJ"))), "Bounds.upper", "'JNJ'")


def test_negative_limits_on_trading() -> None:
    refused(lambda: po.Turnover(-0.1), "Turnover", "-0.1")
    limit = pd.Series([0.1, -0.1, 0.1, 0.1], ASSETS)
    refused(lambda: build(po.TradeLimit(limit), holdings=HELD), "TradeLimit", "negative", "'MSFT'")


def test_a_group_limit_that_limits_nothing() -> None:
    refused(lambda: po.GroupLimit(SECTORS), "GroupLimit limits nothing")
    refused(lambda: po.GroupLimit(SECTORS, upper={}, name="Sectors"), "Sectors limits nothing")


@pytest.mark.parametrize(
    ("parts", "culprit"),
    [
        ({"objective": NET - po.ProportionalCost(5)}, "ProportionalCost(bps=5)"),
        ({"constraint": po.Turnover(0.2)}, "Turnover"),
        ({"constraint": po.TradeLimit(0.2, name="Small trades")}, "Small trades"),
    ],
)
def test_trading_needs_holdings(parts: dict[str, object], culprit: str) -> None:
    extra = [parts["constraint"]] if "constraint" in parts else []
    refused(
        lambda: build(*BOX, *extra, objective=parts.get("objective", NET)), culprit, "holdings", "zeros"
    )  # fmt: skip


# -- units -----------------------------------------------------------------------------------------------------------
PERCENT: dict[str, tuple[Callable[[], po.Problem], list[str]]] = {
    "a weight cap of 10": (lambda: build(po.Budget(), po.Bounds(0.0, 10)), ["Bounds", "upper = 10", "0.1"]),
    "a weight cap of 100": (lambda: build(po.Budget(), po.Bounds(0.0, 100)), ["Bounds", "upper = 100", "100 % is 1"]),
    "one cap of 5 among others": (
        lambda: build(po.Budget(), po.Bounds(0.0, pd.Series([0.3, 0.3, 5.0, 0.3], ASSETS))),
        ["Bounds", "upper['XOM'] = 5", "0.05"],
    ),
    "a lower bound of -30": (
        lambda: build(po.Budget(), po.Bounds(-30, 1.0)), ["Bounds", "lower bound of -30", "-0.3"],
    ),
    "a sector cap of 30": (
        lambda: build(*BOX, po.GroupLimit(SECTORS, upper={"Tech": 30}, name="Sectors")),
        ["Sectors", "upper['Tech'] = 30", "0.3"],
    ),
    "a turnover of 20": (lambda: build(*BOX, po.Turnover(20), holdings=HELD), ["Turnover", "20", "0.2"]),
    "a trade of 5": (
        lambda: build(*BOX, po.TradeLimit(5), holdings=HELD), ["TradeLimit", "limit of 'AAPL' = 5", "0.05"],
    ),
    "a CVaR of 6": (lambda: build(*BOX, po.CVaRLimit(0.95, 6)), ["CVaRLimit(0.95)", "a limit of 6", "0.06"]),
    "a position in money": (
        lambda: build(*BOX, holdings=pd.Series([250_000.0, 0.0, 0.0, 0.0], ASSETS)),
        ["holdings[AAPL]", "250000", "divide positions by NAV"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", PERCENT)
def test_percentages_are_recognised(case: str) -> None:
    call, words = PERCENT[case]
    message = str(refused(call, *words))
    assert "fractions" in message
    assert "NAV" in message
    if "money" not in case:
        assert "unit_check=False" in message


def test_leverage_that_is_meant_can_be_had() -> None:
    build(po.Budget(), po.Bounds(-10, 10, unit_check=False))
    build(*BOX, po.GroupLimit(SECTORS, upper={"Tech": 30}, unit_check=False))
    build(*BOX, po.Turnover(20, unit_check=False), holdings=HELD)
    build(*BOX, po.TradeLimit(5, unit_check=False), holdings=HELD)
    build(*BOX, po.CVaRLimit(0.95, 6, unit_check=False))


def test_ordinary_limits_pass_without_a_word() -> None:
    build(po.Budget(), po.Bounds(0.0, 1.0), po.Turnover(2.0), po.TradeLimit(1.0), holdings=HELD)
    build(po.Budget(), po.Bounds(-0.3, 1.3), po.GroupLimit(SECTORS, upper={"Tech": 1.0}))
    build(po.Budget(), po.Bounds(0.0, np.inf), po.CVaRLimit(0.95, 0.5))
    build(po.Budget(0.0), po.Bounds(-1.0, 1.0))
    build(po.Budget(1.5), po.Bounds(0.0, 1.5))


# -- what is not refused ---------------------------------------------------------------------------------------------
def test_terms_add_subtract_and_scale() -> None:
    objective = (2 * po.ExpectedReturn() - po.CVaR(0.9) / 4 - 3 * po.ProportionalCost(5)) * 2
    assert [coefficient for coefficient, _ in objective.parts] == [4.0, -0.5, -6.0]
    assert str(-po.CVaR(0.9)) == "- CVaR(beta=0.9)"


def test_a_term_and_a_limit_at_one_level_share_a_block() -> None:
    shared = build(*BOX, po.CVaRLimit(0.9, 0.05), objective=po.ExpectedReturn() - 2 * po.CVaR(0.9) - po.CVaR(0.9))
    assert shared.compiled.betas == (0.9,)
    assert shared.compiled.program.cvar_weight.tolist() == [3.0]
    assert shared.compiled.program.cvar_cap.tolist() == [0.05]


def test_a_problem_does_not_change_with_its_input() -> None:
    frame, book = returns(), HELD.copy()
    fixed = po.Problem(po.ScenarioSet(frame), NET - po.ProportionalCost(5), BOX, holdings=book)
    frame.iloc[0, 0], book.iloc[0] = 9.0, 9.0
    assert fixed.scenarios.matrix[0, 0] != 9.0
    assert fixed.holdings is not None
    assert fixed.holdings.iloc[0] == 0.4


# -- the rest --------------------------------------------------------------------------------------------------------
def test_changing_what_a_problem_does_not_have() -> None:
    refused(lambda: build(*BOX).replace(scenario=DATA), "'scenario'")


def test_no_error_of_another_kind_escapes() -> None:
    """Whatever is passed for any argument, the answer is an InputError or, in arithmetic, a TypeError."""
    strange: list[object] = [None, "x", -1.0, np.nan, np.inf, [], {}, (), object(), np.array([1.0, 2.0]), pd.Series()]
    calls: list[Callable[[object], object]] = [
        lambda x: po.ScenarioSet(x),  # type: ignore[arg-type]
        lambda x: po.ScenarioSet(returns(), x),  # type: ignore[arg-type]
        lambda x: po.Problem(x, NET),  # type: ignore[arg-type]
        lambda x: build(*BOX, objective=x),
        lambda x: build(x),
        lambda x: None if isinstance(x, list | tuple | dict) else po.Problem(DATA, NET, x),  # type: ignore[arg-type]
        lambda x: build(*BOX, holdings=x),
        lambda x: build(po.Budget(x)),  # type: ignore[arg-type]
        lambda x: build(po.Bounds(x, 1.0)),  # type: ignore[arg-type]
        lambda x: build(po.Bounds(0.0, x)),  # type: ignore[arg-type]
        lambda x: build(*BOX, po.GroupLimit(x, upper={"Tech": 0.3})),  # type: ignore[arg-type]
        lambda x: build(*BOX, po.GroupLimit(SECTORS, upper=x)),  # type: ignore[arg-type]
        lambda x: build(*BOX, po.GroupLimit(SECTORS, upper={"Tech": x})),  # type: ignore[dict-item]
        lambda x: build(*BOX, po.Turnover(x), holdings=HELD),  # type: ignore[arg-type]
        lambda x: build(*BOX, po.TradeLimit(x), holdings=HELD),  # type: ignore[arg-type]
        lambda x: build(*BOX, po.ReturnTarget(x)),  # type: ignore[arg-type]
        lambda x: build(*BOX, po.ReturnTarget(0.0, mean=x)),  # type: ignore[arg-type]
        lambda x: build(*BOX, po.CVaRLimit(x, 0.05)),  # type: ignore[arg-type]
        lambda x: build(*BOX, po.CVaRLimit(0.9, x)),  # type: ignore[arg-type]
        lambda x: build(*BOX, objective=po.ExpectedReturn(x) - po.CVaR(0.9)),  # type: ignore[arg-type]
        lambda x: build(*BOX, objective=NET - po.ProportionalCost(x), holdings=HELD),  # type: ignore[arg-type]
        lambda x: po.optimize(x),  # type: ignore[arg-type]
    ]
    escaped: list[str] = []
    for number, call in enumerate(calls):
        for value in strange:
            try:
                call(value)
            except po.InputError:
                pass
            except Exception as error:
                escaped.append(f"call {number} with {value!r}: {error!r}")
    assert not escaped, "\n".join(escaped)

"""P&L of books of options, and options as assets of a scenario set."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

import portfolioopt as po
from portfolioopt.errors import InputError, UnknownNameError
from portfolioopt.scenarios import (
    Linear,
    Option,
    ScenarioSet,
    greeks,
    implied_volatility,
    instrument_returns,
    pnl,
)

SPOT = {"A": 100.0, "B": 40.0}
VOLATILITY = {"A": 0.2, "B": 0.35}
BOOK = {Option("A", 95.0, 0.5, "put"): 10.0, Linear("A"): 1.0, Option("B", 42.0, 1.0): -4.0, Linear("B"): 3.0}


def scenarios(count: int = 300, size: float = 0.03) -> ScenarioSet:
    rng = np.random.default_rng(0)
    index = pd.date_range("2020-01-01", periods=count, name="date")
    returns = pd.DataFrame(size * rng.standard_t(4, (count, 3)).clip(-12, 12), index=index, columns=list("XAB"))
    p = rng.gamma(2.0, size=count)
    return ScenarioSet(returns, p / p.sum(), horizon="1 day")


def value(spot: Any, option: Option, volatility: Any, rate: Any, dividend: float = 0.0, elapsed: float = 0.0) -> Any:
    """Black-Scholes by the textbook."""
    years = option.expiry_years - elapsed
    d1 = (np.log(spot / option.strike) + (rate - dividend + 0.5 * volatility**2) * years) / (volatility * years**0.5)
    d2 = d1 - volatility * years**0.5
    grown, kept = spot * np.exp(-dividend * years), option.strike * np.exp(-rate * years)
    if option.kind == "call":
        return grown * norm.cdf(d1) - kept * norm.cdf(d2)
    return kept * norm.cdf(-d2) - grown * norm.cdf(-d1)


def by_hand(given: ScenarioSet, rate: Any = 0.03, vols: Any = 0.0, elapsed: float = 0.0) -> np.ndarray:
    gain = np.zeros(given.n_scenarios)
    for instrument, units in BOOK.items():
        name = instrument.underlying if isinstance(instrument, Option) else instrument.asset
        moved = SPOT[name] * (1.0 + given.returns[name].to_numpy())
        if isinstance(instrument, Linear):
            gain += units * (moved - SPOT[name])
            continue
        after = value(moved, instrument, VOLATILITY[name] + vols, rate, elapsed=elapsed)
        gain += units * (after - value(SPOT[name], instrument, VOLATILITY[name], 0.03))
    return gain


def test_full_revaluation_is_the_difference_of_two_closed_forms() -> None:
    given = scenarios()
    found = pnl(BOOK, given, SPOT, VOLATILITY, 0.03)
    assert list(found.columns) == ["book"]
    pd.testing.assert_index_equal(found.index, given.index)
    np.testing.assert_allclose(found["book"], by_hand(given), atol=1e-10)
    rng = np.random.default_rng(1)
    vols = pd.Series(rng.uniform(-0.1, 0.2, given.n_scenarios), given.index)
    rates = pd.Series(rng.normal(0.0, 0.01, given.n_scenarios), given.index)
    moved = {"volatility_changes": vols, "rate_changes": rates, "elapsed_years": 0.1}
    found = pnl(BOOK, given, SPOT, VOLATILITY, 0.03, **moved)
    expected = by_hand(given, 0.03 + rates.to_numpy(), vols.to_numpy(), 0.1)
    np.testing.assert_allclose(found["book"], expected, atol=1e-10)
    wide = moved | {"volatility_changes": pd.DataFrame({"B": vols, "A": vols, "other": np.nan})}
    np.testing.assert_allclose(pnl(BOOK, given, SPOT, VOLATILITY, 0.03, **wide)["book"], expected, atol=1e-10)
    rounded = pnl(BOOK, given, SPOT, VOLATILITY, 0.03, dtype="float32", **moved)
    np.testing.assert_allclose(rounded["book"], expected, atol=1e-5 * 1400.0)


def test_many_books_at_once_are_each_on_its_own() -> None:
    given, rng = scenarios(), np.random.default_rng(2)
    units = pd.DataFrame(rng.normal(size=(5, 4)), index=list("vwxyz"), columns=pd.Index(list(BOOK), dtype=object))
    together = pnl(units, given, SPOT, VOLATILITY, 0.03)
    assert list(together.columns) == list("vwxyz")
    for name, row in units.iterrows():
        np.testing.assert_allclose(together[name], pnl(row, given, SPOT, VOLATILITY, 0.03)[name], atol=1e-11)


def test_scenarios_that_are_not_in_memory_come_in_chunks() -> None:
    def chunk(i: int) -> np.ndarray:
        return np.random.default_rng(i).normal(0.0, 0.02, (64, 3))

    streamed = ScenarioSet.generated(chunk, 150, ["X", "A", "B"], chunk_rows=64)
    loaded = ScenarioSet(np.concatenate([chunk(i) for i in range(3)])[:150], assets=["X", "A", "B"])
    for method in ("full", "delta_gamma"):
        one, other = (pnl(BOOK, s, SPOT, VOLATILITY, 0.03, method=method) for s in (streamed, loaded))
        np.testing.assert_allclose(one, other, atol=1e-11)


def test_the_quadratic_approximation_is_off_by_the_third_order_and_the_linear_one_by_the_second() -> None:
    errors = {"delta_gamma": [], "linear": []}
    for size in (0.01, 0.005):
        given = ScenarioSet(np.array([[1.0, 1.0], [-1.0, 0.7], [0.4, -1.0]]) * size, assets=["A", "B"])
        exact = pnl(BOOK, given, SPOT, VOLATILITY, 0.03)
        for method, found in errors.items():
            found.append((pnl(BOOK, given, SPOT, VOLATILITY, 0.03, method=method) - exact).abs().to_numpy())
    np.testing.assert_allclose(errors["delta_gamma"][0] / errors["delta_gamma"][1], 8.0, rtol=0.25)
    np.testing.assert_allclose(errors["linear"][0] / errors["linear"][1], 4.0, rtol=0.25)


@pytest.mark.parametrize("method", ["delta_gamma", "linear"])
def test_small_moves_of_everything_else_go_by_the_greeks(method: Any) -> None:
    given = ScenarioSet(np.zeros((3, 2)), assets=["A", "B"])
    h = 1e-5
    still = pd.Series(0.0, given.index)
    cases: list[dict[str, Any]] = [
        {"volatility_changes": still + h},
        {"volatility_changes": pd.DataFrame({"A": still + h, "B": still})},
        {"rate_changes": still - h},
        {"elapsed_years": h},
    ]
    for moved in cases:
        exact, found = (pnl(BOOK, given, SPOT, VOLATILITY, 0.03, method=m, **moved) for m in ("full", method))
        assert exact.abs().to_numpy().min() > 1e-5
        np.testing.assert_allclose(found, exact, rtol=1e-3)


def test_greeks_against_central_differences() -> None:
    option = Option("B", 42.0, 1.0, "put", volatility=0.4)
    found = greeks([option, Linear("A")], SPOT, 0.2, 0.03, dividend_yield={"B": 0.02}).iloc[0]

    def at(spot: float = 40.0, volatility: float = 0.4, rate: float = 0.03, elapsed: float = 0.0) -> float:
        return float(value(spot, option, volatility, rate, 0.02, elapsed))

    h = 1e-4
    assert found["value"] == pytest.approx(at(), rel=1e-12)
    assert found["delta"] == pytest.approx((at(40 + h) - at(40 - h)) / (2 * h), rel=1e-7)
    assert found["gamma"] == pytest.approx((at(40.01) - 2 * at() + at(39.99)) / 1e-4, rel=1e-5)
    assert found["vega"] == pytest.approx((at(volatility=0.4 + h) - at(volatility=0.4 - h)) / (2 * h), rel=1e-6)
    assert found["rho"] == pytest.approx((at(rate=0.03 + h) - at(rate=0.03 - h)) / (2 * h), rel=1e-6)
    assert found["theta"] == pytest.approx((at(elapsed=h) - at(elapsed=-h)) / (2 * h), rel=1e-6)


def test_implied_volatilities_of_a_smile() -> None:
    smile = [
        Option("A", k, 0.5, "put" if k < 100 else "call", volatility=0.2 + ((k - 100) / 200) ** 2)
        for k in (70, 90, 120)
    ]
    prices = greeks(smile, SPOT, 0.2, 0.03, dividend_yield=0.01)["value"]
    plain = pd.Series({replace(option, volatility=None): price for option, price in prices.items()})
    found = implied_volatility(plain, SPOT, 0.03, dividend_yield=0.01)
    np.testing.assert_allclose(found, [option.volatility for option in smile], rtol=1e-9)
    with pytest.raises(
        InputError, match=r"no volatility gives the price of 'A call 90 1y'.*between 12\.6\d+ and 100.* 5"
    ):
        implied_volatility({Option("A", 90, 1.0): 5.0}, SPOT, 0.03)
    with pytest.raises(InputError, match="has expired: 'A call 90 0y'"):
        implied_volatility({Option("A", 90, 0.0): 11.0}, SPOT, 0.03)
    with pytest.raises(InputError, match="only options have a volatility"):
        implied_volatility({Linear("A"): 11.0}, SPOT, 0.03)


def test_an_option_that_expires_within_the_horizon_is_worth_what_exercising_brings() -> None:
    given = scenarios(60)
    option = Option("A", 101.0, 0.01)
    gain = pnl({option: 1.0}, given, SPOT, 0.2, 0.03, elapsed_years=1 / 12)["book"]
    moved = 100.0 * (1.0 + given.returns["A"])
    np.testing.assert_allclose(gain, (moved - 101.0).clip(lower=0.0) - value(100.0, option, 0.2, 0.03), atol=1e-11)


def test_options_as_assets_of_a_problem() -> None:
    given = scenarios()
    put = Option("A", 95.0, 0.5, "put")
    market = {"spot": SPOT, "volatility": VOLATILITY, "rate": 0.03}
    assets = instrument_returns([Linear("A"), put], given, **market)
    assert list(assets.assets) == ["A", "A put 95 0.5y"]
    np.testing.assert_array_equal(assets.probabilities, given.probabilities)
    np.testing.assert_allclose(assets.returns["A"], given.returns["A"], rtol=1e-12)
    premium = value(100.0, put, 0.2, 0.03)
    gain = pnl({put: 1.0}, given, **market)["book"]
    np.testing.assert_allclose(assets.returns["A put 95 0.5y"], gain / premium, atol=1e-12)
    notional = instrument_returns([Linear("A"), put], given, **market, per="notional")
    np.testing.assert_allclose(notional.returns["A put 95 0.5y"], gain / 100.0, atol=1e-12)
    limits = [po.Budget(1.0), po.Bounds(0.0, 1.0)]
    hedged = po.optimize(po.Problem(assets, -po.CVaR(0.95), limits))
    assert hedged.weights is not None
    assert hedged.weights["A put 95 0.5y"] > 0.001
    assert -hedged.objective < 0.5 * given.tail({"X": 0.0, "A": 1.0, "B": 0.0}, 0.95).cvar


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"positions": {Option("C", 9.0, 1.0): 1.0}}, r"unknown underlying: 'C'"),
        ({"positions": {"A": 1.0}}, "an instrument must be an Option or Linear, was 'A'"),
        ({"positions": {}}, "there are no instruments"),
        ({"positions": [1.0]}, "positions must be a mapping or Series from instrument to units"),
        ({"positions": {Linear("A"): np.nan}}, "positions is not finite for A in 'book'"),
        ({"volatility": {"A": -0.1, "B": 0.1}}, "volatility is negative for 'A'"),
        ({"volatility": {"A": 0.1}}, "volatility says nothing about 'B'"),
        ({"spot": {"A": 100.0}}, "spot says nothing about 'B'"),
        ({"spot": {"A": 100.0, "b": 40.0}}, r"unknown asset in spot: 'b' \(did you mean 'B'\?\)"),
        ({"spot": {"A": 100.0, "B": 0.0}}, "spot must be above zero, and is not for 'B'"),
        ({"rate": np.inf}, "rate must be a finite number"),
        ({"method": "gamma"}, "method must be 'full', 'delta_gamma' or 'linear'"),
        ({"dtype": "float16"}, "dtype must be"),
        ({"elapsed_years": -0.1}, "elapsed_years must be at least 0"),
        ({"rate_changes": pd.Series([0.0])}, "rate_changes is labelled differently from the scenarios"),
        ({"rate_changes": 0.01}, "rate_changes must be labelled by scenario"),
        ({"scenarios": pd.DataFrame()}, "scenarios must be a ScenarioSet"),
    ],
)
def test_what_cannot_be_valued(change: dict[str, Any], words: str) -> None:
    given = {
        "positions": BOOK,
        "scenarios": scenarios(20),
        "spot": SPOT,
        "volatility": VOLATILITY,
        "rate": 0.0,
    } | change
    with pytest.raises(InputError, match=words):
        pnl(**given)


def test_more_that_cannot_be_valued() -> None:
    given = scenarios(20)
    with pytest.raises(UnknownNameError):
        pnl({Linear("AA"): 1.0}, given, SPOT)
    vols = pd.DataFrame({"A": 0.0}, index=given.index)
    with pytest.raises(InputError, match="volatility_changes says nothing about 'B'"):
        pnl(BOOK, given, SPOT, VOLATILITY, volatility_changes=vols)
    vols["B"] = np.nan
    with pytest.raises(InputError, match="volatility_changes is not finite in scenarios"):
        pnl(BOOK, given, SPOT, VOLATILITY, volatility_changes=vols)
    ruin = ScenarioSet(np.array([[-1.1, 0.0], [0.0, 0.0]]), assets=["A", "B"])
    with pytest.raises(InputError, match="returns below -1 leave no price to value options at: 'A'"):
        pnl(BOOK, ruin, SPOT, VOLATILITY)
    with pytest.raises(InputError, match=r"no return is made on what costs nothing: 'A call 900 0\.01y'"):
        instrument_returns([Option("A", 900.0, 0.01)], given, SPOT, 0.2)
    with pytest.raises(InputError, match="instruments are given twice"):
        instrument_returns([Linear("A"), Linear("A")], given, SPOT)
    for wrong in ({"strike": 0.0}, {"strike": "x"}, {"expiry_years": -1.0}, {"kind": "swap"}, {"volatility": -0.1}):
        with pytest.raises(InputError, match=f"{next(iter(wrong))} of an option"):
            Option(**({"underlying": "A", "strike": 1.0, "expiry_years": 1.0} | wrong))

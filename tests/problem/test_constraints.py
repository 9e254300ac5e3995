"""Every constraint of the language: what it allows at an optimum, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

import portfolioopt as po
from portfolioopt.problem import nearest_covariance
from portfolioopt.problem.linear_text import parse

NAMES = ["Ash", "Elm", "Fir", "Oak", "Yew", "Bay Leaf"]
N, S = len(NAMES), 60
RNG = np.random.default_rng(4)
RETURNS = 0.02 * RNG.standard_t(5, size=(S, N)) + np.linspace(-0.002, 0.004, N)
SCENARIOS = po.ScenarioSet(pd.DataFrame(RETURNS, columns=NAMES))
SECTORS = pd.Series(["leaf", "leaf", "needle", "leaf", "needle", "spice"], NAMES)
HELD = pd.Series([0.3, 0.2, 0.1, 0.2, 0.1, 0.1], NAMES)
EVEN = pd.Series(1.0 / N, NAMES)
BOX = (po.Budget(), po.Bounds(-0.5, 1.0))


def solve(*constraints: Any, objective: Any = None, **options: Any) -> po.Result:
    what = po.ExpectedReturn() - 0.1 * po.CVaR(0.9) if objective is None else objective
    problem = po.Problem(SCENARIOS, what, constraints or BOX, holdings=HELD)
    result = po.optimize(problem, **options)
    assert result.certificate is not None
    assert result.certificate.gap <= 1e-6
    assert result.certificate.max_violation <= 1e-8
    return result


def held(result: po.Result) -> pd.Series:
    assert result.weights is not None
    return result.weights


def test_a_budget_range() -> None:
    assert held(solve(po.Budget(lower=0.2, upper=0.7), po.Bounds())).sum() == pytest.approx(0.7)
    cautious = solve(po.Budget(lower=0.2, upper=0.7), po.Bounds(), objective=-po.CVaR(0.9))
    assert held(cautious).sum() == pytest.approx(0.2)
    with pytest.raises(po.InputError, match="a total, or lower and upper, not both"):
        po.Budget(0.5, lower=0.2)
    with pytest.raises(po.InputError, match=r"lower 0\.7 is above upper 0\.2"):
        po.Budget(lower=0.7, upper=0.2)


@pytest.mark.parametrize(
    ("limit", "measured"),
    [
        (po.GrossExposure() <= 1.3, lambda w: w.abs().sum() - 1.3),
        (po.LongExposure() <= 1.1, lambda w: w.clip(lower=0).sum() - 1.1),
        (po.ShortExposure() <= 0.2, lambda w: (-w).clip(lower=0).sum() - 0.2),
        (po.ShortExposure(["Ash", "Elm"]) <= 0.1, lambda w: (-w[["Ash", "Elm"]]).clip(lower=0).sum() - 0.1),
        (po.NetExposure(["Yew", "Bay Leaf"]) <= 0.4, lambda w: w[["Yew", "Bay Leaf"]].sum() - 0.4),
        (po.TradedAmount("sell") <= 0.25, lambda w: (HELD - w).clip(lower=0).sum() - 0.25),
        (po.Turnover(0.3, side="buy"), lambda w: (w - HELD).clip(lower=0).sum() - 0.3),
        (po.Turnover(0.3), lambda w: (w - HELD).abs().sum() - 0.3),
        (po.ActiveShare(EVEN) <= 0.4, lambda w: 0.5 * (w - EVEN).abs().sum() - 0.4),
        (po.GroupLimit(SECTORS, upper={"needle": 0.3}), lambda w: w[SECTORS == "needle"].sum() - 0.3),
        (po.GroupLimit(SECTORS, upper={"leaf": 0.4}, gross=True), lambda w: w[SECTORS == "leaf"].abs().sum() - 0.4),
        (
            po.GroupLimit(SECTORS, upper={"needle": 0.1}, benchmark=EVEN),
            lambda w: w[SECTORS == "needle"].sum() - EVEN[SECTORS == "needle"].sum() - 0.1,
        ),
        (po.LinearLimit("'Bay Leaf' + Yew <= 40%"), lambda w: w["Bay Leaf"] + w["Yew"] - 0.4),
        (po.LinearLimit("leaf - spice <= 0.1", SECTORS), lambda w: w[SECTORS == "leaf"].sum() - w["Bay Leaf"] - 0.1),
        (po.CVaR(0.9) + 0.5 * po.MeanAbsoluteDeviation() <= 0.04, None),
        (0.5 * po.ExpectedReturn() - po.CVaR(0.9) >= -0.02, None),
        (po.MeanAbsoluteDeviation() <= 0.012, None),
        (po.Volatility() <= 0.015, None),
    ],
    ids=lambda item: getattr(item, "name", ""),
)
def test_a_limit_binds_where_it_says(limit: Any, measured: Callable[[pd.Series], float] | None) -> None:
    free, result = solve(), solve(*BOX, limit)
    assert result.objective < free.objective - 1e-9
    line = result.constraints[result.constraints["constraint"] == limit.name]
    assert line["binding"].all()
    assert (line["shadow_price"] > 0).all()
    if measured is not None:
        assert measured(held(result)) == pytest.approx(0.0, abs=1e-8)


def test_factor_exposures() -> None:
    exposures = pd.DataFrame({"beta": np.linspace(0.5, 1.5, N), "size": np.linspace(-1.0, 1.0, N)}, NAMES)
    limit = po.FactorExposure(exposures, upper={"beta": 0.1}, lower={"size": -0.2}, benchmark=EVEN)
    active = held(solve(*BOX, limit)) - EVEN
    assert active @ exposures["beta"] == pytest.approx(0.1)
    assert active @ exposures["size"] >= -0.2 - 1e-9
    with pytest.raises(po.UnknownNameError, match="valu"):
        solve(*BOX, po.FactorExposure(exposures, upper={"value": 0.1}))


def test_no_trade_must_hold_and_liquidity() -> None:
    weights = held(solve(*BOX, po.NoTrade(["Ash", "Yew"]), po.MustHold({"Elm": 0.25})))
    assert weights["Ash"] == HELD["Ash"]
    assert weights["Yew"] == HELD["Yew"]
    assert weights["Elm"] >= 0.25 - 1e-12
    volume = pd.Series(1e6, NAMES)
    weights = held(solve(*BOX, po.Liquidity(volume, 1e7, participation=0.2, days=3.0)))
    assert (weights - HELD).abs().max() == pytest.approx(0.06)
    weights = held(solve(po.Budget(lower=0.0, upper=1.0), po.Liquidity(volume, 1e7, days=2.0, of="positions")))
    assert weights.abs().max() == pytest.approx(0.02)
    with pytest.raises(po.InputError, match="says nothing about 'Ash'"):
        solve(*BOX, po.Liquidity(volume.drop("Ash"), 1e7))
    with pytest.raises(po.UnknownNameError, match="Asch"):
        solve(*BOX, po.NoTrade(["Asch"]))


def test_a_soft_limit_is_violated_when_that_pays() -> None:
    hard = solve(*BOX, po.Turnover(0.3))
    price = hard.constraints.loc["Turnover", "shadow_price"] / 100.0  # objective per unit of limit
    dear = solve(*BOX, po.Soft(po.Turnover(0.3), penalty=2.0 * price))
    np.testing.assert_allclose(held(dear), held(hard), rtol=0, atol=1e-9)
    cheap = solve(*BOX, po.Soft(po.Turnover(0.3), penalty=0.2 * price))
    turnover = float((held(cheap) - HELD).abs().sum())
    assert turnover > 0.3 + 1e-6
    charged = cheap.terms.set_index("term").loc["violation of Turnover"]
    assert float(charged["value"]) == pytest.approx(turnover - 0.3)  # type: ignore[arg-type]
    assert cheap.certificate.max_violation <= 1e-8
    for soft in (
        po.Soft(po.Bounds(0.0, 0.1), 1e-3),
        po.Soft(po.Budget(0.9), 1e-3),
        po.Soft(po.GroupLimit(SECTORS, upper={"needle": 0.05, "spice": 0.05}), 1e-3),
        po.Soft(po.CVaRLimit(0.9, 0.005), 0.05),
        po.Soft(po.Volatility() <= 0.005, 0.05),
        po.Soft(po.GrossExposure() <= 1.0, 1e-3),
    ):
        result = solve(po.Bounds(-0.5, 1.0, name="Box"), po.Budget(lower=0.5, upper=1.0, name="Invested"), soft)
        assert result.terms["value"].iloc[-1] >= 0.0
    with pytest.raises(po.InputError, match="penalty must be positive"):
        po.Soft(po.Turnover(0.3), penalty=0.0)
    with pytest.raises(po.InputError, match="all or nothing"):
        po.Soft(po.MaxHoldings(3), penalty=1.0)


@pytest.mark.parametrize(
    ("text", "names", "low", "high"),
    [
        ("Tech <= 0.30", {"Tech": 1.0}, -np.inf, 0.3),
        ("Tech - Energy <= 10%", {"Tech": 1.0, "Energy": -1.0}, -np.inf, 0.1),
        ("0.1 <= AAPL + MSFT <= 0.2", {"AAPL": 1.0, "MSFT": 1.0}, 0.1, 0.2),
        ("-2 * Tech >= -0.4", {"Tech": -2.0}, -0.4, np.inf),
        ("Tech <= Energy + 0.05", {"Tech": 1.0, "Energy": -1.0}, -np.inf, 0.05),
        ("'Health Care' + 0.5*BRK.B == 0.2", {"Health Care": 1.0, "BRK.B": 0.5}, 0.2, 0.2),
        ("BF-B - A <= 0", {"BF-B": 1.0, "A": -1.0}, -np.inf, 0.0),
        ("3M >= 1e-3", {"3M": 1.0}, 1e-3, np.inf),
    ],
)
def test_limits_as_text(text: str, names: dict[str, float], low: float, high: float) -> None:
    line = parse(text, "LinearLimit")
    assert dict(line.coefficients) == names
    assert line.lower == pytest.approx(low)
    assert line.upper == pytest.approx(high)


@pytest.mark.parametrize(
    "text",
    ["Tech 0.3", "Tech <", "* A <= 1", "<= 3", "A <= B <= C", "A * 2 <= 1", "0.2 <= 0.3", "A < 1", "A + <= 1", ""],
)
def test_text_that_cannot_be_read(text: str) -> None:
    with pytest.raises(po.InputError, match="LinearLimit"):
        po.LinearLimit(text)


def test_names_in_text() -> None:
    with pytest.raises(po.UnknownNameError, match="Needel"):
        solve(*BOX, po.LinearLimit("Needel <= 0.3", SECTORS))
    frame = pd.DataFrame({"kind": SECTORS, "colour": ["leaf", *["green"] * 5]}, NAMES)
    with pytest.raises(po.InputError, match="two meanings"):
        solve(*BOX, po.LinearLimit("leaf <= 0.3", frame))


def test_what_cannot_be_convex_or_cannot_be_meant() -> None:
    for call, what in (
        (lambda: po.CVaR(0.9) >= 0.01, "cannot be limited from below"),
        (lambda: po.LogGrowth() <= 0.01, "cannot be limited from above"),
        (lambda: solve(*BOX, po.CVaR(0.9) <= 2.0), "fractions"),
        (lambda: solve(*BOX, po.GrossExposure() <= 130.0), "fractions"),
        (lambda: po.GroupLimit(SECTORS, lower={"leaf": 0.1}, gross=True), "not convex"),
        (lambda: po.SpectralRisk({0.9: 0.5, 0.95: 0.4}), "sum to 0.9"),
        (lambda: po.WorstCase(po.LogGrowth()), "convex measures"),
        (lambda: solve(*BOX, objective=po.ExpectedReturn() - po.TrackingError(benchmark={"Ash": 1.0})), "says nothing"),
        (lambda: solve(*BOX, objective=-po.ConditionalDrawdown(0.9)), "no dates in order"),
        (lambda: po.Problem(SCENARIOS, po.ExpectedReturn(), [*BOX, po.NoTrade(["Ash"])]), "holdings"),
        (lambda: po.Problem(SCENARIOS, -1.0 * po.LogGrowth()), "a reward"),
    ):
        with pytest.raises(po.InputError, match=what):
            call()


def test_a_covariance_that_is_none() -> None:
    bad = pd.DataFrame(np.diag([1.0, 1.0, -0.5, 1.0, 1.0, 1.0]) * 1e-4, NAMES, NAMES)
    with pytest.raises(po.InputError, match=r"smallest eigenvalue -5e-05.*nearest_covariance"):
        solve(*BOX, objective=-po.Variance(bad))
    assert solve(*BOX, objective=-po.Variance(nearest_covariance(bad))).objective <= 0.0
    skewed = pd.DataFrame(np.triu(np.ones((N, N))), NAMES, NAMES)
    with pytest.raises(po.InputError, match="not symmetric"):
        solve(*BOX, objective=-po.Variance(skewed))


def test_a_benchmark_at_which_there_is_no_risk() -> None:
    result = solve(*BOX, objective=-po.TrackingError(benchmark=EVEN))
    np.testing.assert_allclose(held(result), EVEN, rtol=0, atol=1e-6)
    assert result.objective == pytest.approx(0.0, abs=1e-8)

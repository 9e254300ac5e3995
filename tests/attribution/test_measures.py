"""VaR, drawdowns, tracking error; many portfolios, dates, scenarios: parts sum to the whole, derivatives are right."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

import portfolioopt as po
from portfolioopt.attribution import (
    VaR,
    contributions_by_date,
    group_contributions,
    risk_contributions,
    scenario_contributions,
)

RETURNS = po.data.simple_returns(po.data.sample_prices()).tail(500)[["AAPL", "JNJ", "JPM", "XOM"]]
SCENARIOS = po.ScenarioSet(RETURNS)
WEIGHTS = pd.Series([0.4, 0.3, 0.5, -0.2], RETURNS.columns)
BENCHMARK = pd.Series(0.25, RETURNS.columns)
MEASURES = (
    VaR(0.95),
    po.CVaR(0.975, benchmark=BENCHMARK),
    po.TrackingError(BENCHMARK),
    po.MaxDrawdown(),
    po.ConditionalDrawdown(0.9),
)


def drawdowns(weights: pd.Series) -> pd.Series:
    path = (RETURNS @ weights).cumsum()
    return path.cummax().clip(lower=0.0) - path


def value(measure: str, weights: pd.Series) -> float:
    """Each measure by its definition, with pandas."""
    losses, active = -(RETURNS @ weights), -(RETURNS @ (weights - BENCHMARK))
    ranked = losses.sort_values(ascending=False).to_numpy()
    worst = active.sort_values(ascending=False).to_numpy()
    return {
        "CVaR 95%": float(ranked[:25].mean()),
        "volatility": float(losses.std(ddof=0)),
        "VaR 95%": float(ranked[24]),
        "active CVaR 97.5%": float((worst[:12].sum() + 0.5 * worst[12]) / 12.5),
        "tracking error": float(active.std(ddof=0)),
        "maximum drawdown": float(drawdowns(weights).max()),
        "conditional drawdown 90%": float(drawdowns(weights).nlargest(50).mean()),
    }[measure]


FRAME = risk_contributions(SCENARIOS, WEIGHTS, measures=MEASURES)
NAMES = FRAME["measure"].unique().tolist()


@pytest.mark.parametrize("measure", NAMES)
def test_parts_sum_to_the_measure_by_its_definition(measure: str) -> None:
    part = FRAME[FRAME["measure"] == measure]
    assert part["contribution"].sum() == pytest.approx(value(measure, WEIGHTS), rel=1e-12)
    assert part["share"].sum() == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize("measure", [name for name in NAMES if not name.startswith("VaR")])
def test_marginals_are_finite_differences(measure: str) -> None:
    h = 1e-7
    part = FRAME[FRAME["measure"] == measure].set_index("asset")
    for asset in WEIGHTS.index:
        step = pd.Series(0.0, WEIGHTS.index)
        step[asset] = h
        slope = (value(measure, WEIGHTS + step) - value(measure, WEIGHTS - step)) / (2 * h)
        assert float(part.loc[asset, "marginal"]) == pytest.approx(slope, rel=1e-5, abs=1e-8)


def test_var_without_a_kernel_is_the_exact_derivative() -> None:
    frame = risk_contributions(SCENARIOS, WEIGHTS, betas=(), measures=(VaR(0.95, bandwidth=0.0),))
    part = frame[frame["measure"] == "VaR 95%"].set_index("asset")
    at = SCENARIOS.losses(WEIGHTS).nlargest(25).index[-1]
    np.testing.assert_allclose(part["marginal"], -RETURNS.loc[at], rtol=1e-12)
    h = 1e-9
    for asset in WEIGHTS.index:
        step = pd.Series(0.0, WEIGHTS.index)
        step[asset] = h
        slope = (value("VaR 95%", WEIGHTS + step) - value("VaR 95%", WEIGHTS - step)) / (2 * h)
        assert float(part.loc[asset, "marginal"]) == pytest.approx(slope, rel=1e-5, abs=1e-7)


def test_var_of_normal_returns_in_closed_form() -> None:
    """With normal returns the contributions to VaR are w_i (z (Vw)_i / sigma - mu_i); two hundred thousand draws."""
    mean = np.array([0.01, 0.004, 0.013])
    covariance = np.array([[32.0, 2.3, 42.0], [2.3, 5.0, 1.9], [42.0, 1.9, 76.0]]) * 1e-4
    weights = np.array([0.45, 0.12, 0.43])
    draws = np.random.default_rng(0).multivariate_normal(mean, covariance, 200_000)
    scenarios = po.ScenarioSet(draws, assets=list("ABC"))
    frame = risk_contributions(scenarios, dict(zip("ABC", weights, strict=True)), betas=(), measures=(VaR(0.95),))
    sigma = np.sqrt(weights @ covariance @ weights)
    expected = weights * (norm.ppf(0.95) * covariance @ weights / sigma - mean)
    part = frame[frame["measure"] == "VaR 95%"]["contribution"]
    np.testing.assert_allclose(part, expected, atol=0.012 * expected.sum())
    single = risk_contributions(
        scenarios, dict(zip("ABC", weights, strict=True)), betas=(), measures=(VaR(0.95, bandwidth=0.0),)
    )["contribution"][3:]
    assert np.abs(part - expected).max() < 0.1 * np.abs(single - expected).max()


def test_drawdowns_by_hand() -> None:
    dates = pd.bdate_range("2024-01-01", periods=5)
    path = po.ScenarioSet(pd.DataFrame({"A": [0.1, -0.2, 0.05, -0.1, 0.3], "B": [0.0, 0.02, -0.04, 0.0, 0.0]}, dates))
    frame = risk_contributions(path, {"A": 0.5, "B": 0.5}, measures=(po.MaxDrawdown(),), betas=())
    part = frame[frame["measure"] == "maximum drawdown"]["contribution"]
    np.testing.assert_allclose(part, [0.125, 0.01], rtol=1e-14)
    days = scenario_contributions(path, {"A": 0.5, "B": 0.5}, po.MaxDrawdown())
    assert sorted(days.index) == dates[1:4].tolist()
    assert days["contribution"].sum() == pytest.approx(0.135)
    assert days.index[0] == dates[1]


def test_a_path_that_only_rises_has_no_drawdown() -> None:
    dates = pd.bdate_range("2024-01-01", periods=3)
    rising = po.ScenarioSet(pd.DataFrame({"A": [0.1, 0.2, 0.1]}, dates))
    frame = risk_contributions(rising, {"A": 1.0}, betas=(), measures=(po.MaxDrawdown(), po.ConditionalDrawdown(0.0)))
    assert (frame.loc[1:, ["marginal", "contribution", "share"]] == 0.0).all(axis=None)
    assert frame["measure"].tolist() == ["volatility", "maximum drawdown", "average drawdown"]


# -- many portfolios and dates -------------------------------------------------------------------------------


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_a_batch_is_its_portfolios_one_by_one(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    many = pd.DataFrame(rng.normal(size=(4, count)), WEIGHTS.index, [f"p{i}" for i in range(count)])
    batch = risk_contributions(SCENARIOS, many, measures=MEASURES)
    for name in many:
        alone = risk_contributions(SCENARIOS, many[name], measures=MEASURES)
        own = batch[batch["portfolio"] == name].drop(columns="portfolio").reset_index(drop=True)
        pd.testing.assert_frame_equal(own, alone, rtol=1e-9, atol=1e-13)


@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 100.0))
def test_contributions_scale_with_the_portfolio_and_follow_the_assets(seed: int, factor: float) -> None:
    weights = pd.Series(np.random.default_rng(seed).normal(size=4), WEIGHTS.index)
    measures = (VaR(0.9), po.MaxDrawdown())
    frame = risk_contributions(SCENARIOS, weights, measures=measures)
    scaled = risk_contributions(SCENARIOS, factor * weights, measures=measures)
    np.testing.assert_allclose(scaled["contribution"], factor * frame["contribution"], rtol=1e-7, atol=1e-11 * factor)
    turned = po.ScenarioSet(RETURNS.iloc[:, ::-1])
    again = risk_contributions(turned, weights, measures=measures).set_index(["measure", "asset"])
    expected = frame.set_index(["measure", "asset"])["contribution"]
    np.testing.assert_allclose(again["contribution"].loc[expected.index], expected, rtol=1e-7, atol=1e-11)


def test_a_streamed_set_gives_the_same() -> None:
    rows = RETURNS.to_numpy()
    streamed = po.ScenarioSet.generated(lambda i: rows[100 * i : 100 * (i + 1)], 500, WEIGHTS.index, chunk_rows=100)
    many = pd.DataFrame({"p": WEIGHTS, "q": BENCHMARK})
    measures = (VaR(0.95), po.TrackingError(BENCHMARK))
    frame = risk_contributions(SCENARIOS, many, measures=measures)
    pd.testing.assert_frame_equal(risk_contributions(streamed, many, measures=measures), frame, rtol=1e-10)


def test_groups_keep_portfolios_apart() -> None:
    many = pd.DataFrame({"p": WEIGHTS, "q": BENCHMARK})
    groups = group_contributions(risk_contributions(SCENARIOS, many), po.data.sample_sectors()[WEIGHTS.index])
    assert groups.columns.tolist() == ["measure", "portfolio", "group", "weight", "contribution", "share"]
    own = groups[(groups["measure"] == "CVaR 95%") & (groups["portfolio"] == "q")]
    assert own["contribution"].sum() == pytest.approx(SCENARIOS.tail(BENCHMARK, 0.95).cvar)


def test_dates_have_scenarios_of_their_own() -> None:
    dates = RETURNS.index[[300, 400, 499]]
    weights = pd.DataFrame([WEIGHTS, BENCHMARK, WEIGHTS], dates)
    frame = contributions_by_date(lambda date: po.ScenarioSet(RETURNS.loc[:date].tail(250)), weights)
    for date in dates:
        alone = risk_contributions(po.ScenarioSet(RETURNS.loc[:date].tail(250)), weights.loc[date])
        own = frame[frame["date"] == date].drop(columns="date").reset_index(drop=True)
        pd.testing.assert_frame_equal(own, alone)
    rolling = po.estimate.rolling_covariances(RETURNS, 250, every=1)
    ours = contributions_by_date(lambda date: po.ScenarioSet.from_moments(None, rolling.at(date)), weights)
    totals = ours.groupby("date")["contribution"].sum()
    theirs = rolling.volatility(weights.loc[dates[0]]).loc[dates[0]].iloc[0]
    assert totals[dates[0]] == pytest.approx(theirs, rel=1e-9)


# -- scenarios -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("measure", [po.CVaR(0.95), po.Volatility(), VaR(0.95), po.ConditionalDrawdown(0.9)])
def test_scenarios_sum_to_the_measure_and_assets_to_the_scenarios(measure: po.CVaR) -> None:
    frame = scenario_contributions(SCENARIOS, WEIGHTS, measure, by_asset=True)
    name = {"CVaR": "CVaR 95%", "VaR": "VaR 95%", "Volatility": "volatility"}
    expected = value(name.get(type(measure).__name__, "conditional drawdown 90%"), WEIGHTS)
    assert frame["contribution"].sum() == pytest.approx(expected, rel=1e-11)
    assert frame["share"].sum() == pytest.approx(1.0, rel=1e-10)
    np.testing.assert_allclose(frame[WEIGHTS.index].sum(axis=1), frame["contribution"], atol=1e-15)
    whole = risk_contributions(
        SCENARIOS, WEIGHTS, betas=(), measures=() if measure.__class__ is po.Volatility else (measure,)
    )
    np.testing.assert_allclose(frame[WEIGHTS.index].sum(), whole["contribution"].tail(4), rtol=1e-9, atol=1e-14)
    assert frame["contribution"].is_monotonic_decreasing


# -- refusals ------------------------------------------------------------------------------------------------


def test_measures_that_are_refused() -> None:
    with pytest.raises(po.InputError, match=r"measures must be of VaR, CVaR.*; there is a ExpectedReturn among them"):
        risk_contributions(SCENARIOS, WEIGHTS, measures=(po.ExpectedReturn(),))  # type: ignore[arg-type]
    with pytest.raises(po.InputError, match="two measures called 'CVaR 95%'"):
        risk_contributions(SCENARIOS, WEIGHTS, measures=(po.CVaR(0.95),))
    undated = po.ScenarioSet(RETURNS.reset_index(drop=True))
    with pytest.raises(po.InputError, match="maximum drawdown needs scenarios that follow each other in time"):
        risk_contributions(undated, WEIGHTS, measures=(po.MaxDrawdown(),))
    moments = po.ScenarioSet.from_moments(None, SCENARIOS.covariance())
    with pytest.raises(po.InputError, match="VaR 95% looks at single scenarios"):
        risk_contributions(moments, WEIGHTS, measures=(VaR(0.95),))
    with pytest.raises(po.InputError, match="comes from a covariance here"):
        scenario_contributions(moments, WEIGHTS, po.Volatility())
    with pytest.raises(po.InputError, match="bandwidth must be at least 0"):
        VaR(0.95, bandwidth=-1.0)


def test_batches_that_are_refused() -> None:
    many = pd.DataFrame({"p": WEIGHTS, "q": BENCHMARK})
    with pytest.raises(po.InputError, match=r"the assets are its columns; pass its \.T"):
        risk_contributions(SCENARIOS, many.T)
    with pytest.raises(po.InputError, match="weights has two portfolios called 'p'"):
        risk_contributions(SCENARIOS, many.set_axis(["p", "p"], axis=1))
    with pytest.raises(po.InputError, match="tail_weights belong to one portfolio"):
        risk_contributions(SCENARIOS, many, tail_weights={0.95: np.ones(500) / 500})
    with pytest.raises(po.InputError, match="there are no scenarios for 'b'"):
        contributions_by_date({"a": SCENARIOS}, many.T.set_axis(["a", "b"]))
    with pytest.raises(po.InputError, match="scenarios of a are of type NoneType"):
        contributions_by_date(lambda _: None, many.T.set_axis(["a", "b"]))  # type: ignore[arg-type, return-value]

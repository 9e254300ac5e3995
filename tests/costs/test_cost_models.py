"""Cost models: what trades are charged by hand, that the forecast says the same, and what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portfolioopt import ScenarioSet
from portfolioopt.costs import (
    AdaptiveCostModel,
    AlmgrenChriss,
    BorrowCosts,
    CombinedCosts,
    CostModel,
    FinancingCosts,
    ProportionalCosts,
    RefusedTradeError,
    SpreadCosts,
    SquareRootImpact,
)
from portfolioopt.errors import InputError, UnknownNameError
from portfolioopt.problem import Expression
from portfolioopt.problem.terms import View
from portfolioopt.rebalance import plan_trades

ASSETS = ["AAPL", "BND", "GLD", "cash"]
MARKET = pd.DataFrame(
    {
        "price": [200.0, 80.0, 150.0, 1.0],
        "volume": [5e6, 4e5, 1e6, 1e12],
        "volatility": [0.02, 0.004, 0.01, 0.0],
        "spread": [1.0, 3.0, 2.0, 0.0],
    },
    index=pd.Index(ASSETS, name="asset"),
)
PER_SHARE = pd.Series([0.005, 0.004, 0.003, 0.0], ASSETS)
MODELS: dict[str, CostModel] = {
    "proportional": ProportionalCosts(5.0, sell=pd.Series([7.0, 2.0, 3.0, 0.0], ASSETS), per_share=PER_SHARE),
    "spread": SpreadCosts(),
    "fixed spread": SpreadCosts(4.0, fraction=0.4),
    "square root": SquareRootImpact(0.9),
    "three fifths": SquareRootImpact(0.142, exponent=0.6),
    "linear impact": AlmgrenChriss.from_spread(MARKET, horizon=2.0, periods=4),
    "borrow": BorrowCosts({"AAPL": 30.0, "BND": 100.0, "GLD": 50.0, "cash": 0.0}),
    "financing": FinancingCosts(550.0),
}
MODELS["all"] = CombinedCosts(tuple(MODELS.values()))
MODELS["adaptive"] = AdaptiveCostModel(
    SpreadCosts() + SquareRootImpact(),
    state=pd.DataFrame(
        {"information": [3.0, 2.0], "pull": [5.0, 1.0], "multiple": [1.5, 0.7], "executions": [9, 4]},
        index=pd.Index(["(pool)", "BND"], name="asset"),
    ),
)
weights = st.lists(st.floats(-1.0, 1.0), min_size=4, max_size=4).map(np.array)


def value(expression: Expression, holdings: np.ndarray, target: np.ndarray) -> float:
    """The forecast at these weights."""
    scenarios = ScenarioSet(pd.DataFrame(np.eye(4) / 100, columns=ASSETS))
    view = View(scenarios, np.zeros(4), holdings, target)
    return sum(coefficient * term.value(view) for coefficient, term in expression.parts)


def trades_of(quantity: np.ndarray) -> pd.DataFrame:
    return MARKET.assign(quantity=quantity)


# -- by hand -----------------------------------------------------------------------------------------------------


def test_charges_by_hand() -> None:
    trades = pd.DataFrame(
        {
            "asset": ["AAPL", "AAPL", "BND", "GLD"],
            "quantity": [1_000.0, -10.0, -500.0, 0.0],
            "price": [200.0, 201.0, 80.0, np.nan],
            "volume": [1e6, 1e6, 2e5, np.nan],
            "volatility": [0.02, 0.02, 0.005, np.nan],
            "spread": [1.0, 1.0, 4.0, np.nan],
        },
        index=[7, 3, 9, 1],
    )
    costs = (
        ProportionalCosts(5.0, sell=10.0, per_share=0.01, minimum=5.0, fixed=1.0)
        + SpreadCosts()
        + SquareRootImpact(0.8)
    )
    expected = pd.DataFrame(
        {
            # 5 bp of 200,000 and 10 in shares; 2.11 is below the minimum; 10 bp of 40,000 and 5 in shares
            "commission": [1 + 110.0, 1 + 5.0, 1 + 45.0, 0.0],
            "spread": [10.0, 0.5e-4 * 2010.0, 8.0, 0.0],
            # .8 * 2% * sqrt(.001) of 200,000; .8 * 2 % * sqrt(1e-5) of 2,010; .8 * .5 % * sqrt(.0025) = .0002 of 40,000
            "impact": [3200 * 0.001**0.5, 0.016 * 1e-5**0.5 * 2010.0, 8.0, 0.0],
        },
        index=[7, 3, 9, 1],
    )
    pd.testing.assert_frame_equal(costs.charges(trades), expected, rtol=1e-13)
    one = costs.charge("BND", -500.0, 80.0, volume=2e5, volatility=0.005, spread=4.0)
    pd.testing.assert_series_equal(one, pd.Series({"commission": 46.0, "spread": 8.0, "impact": 8.0}, name="BND"))


def test_a_parent_order_in_equal_trades_costs_the_sum_of_its_parts() -> None:
    permanent, temporary, half_spread, horizon, periods, units = 2.5e-7, 2.5e-6, 0.0625, 5.0, 5, 1e6
    model = AlmgrenChriss(permanent, temporary, half_spread, horizon, periods)
    # trade by trade: the price has fallen by permanent impact before, and falls for its own while it trades
    each, step, moved, paid = units / periods, horizon / periods, 0.0, 0.0
    for _ in range(periods):
        paid += each * (moved + half_spread + temporary * each / step)
        moved += permanent * each
    charge = model.charge("X", -units, 50.0)
    assert charge.sum() == pytest.approx(paid, rel=1e-13)
    assert charge.sum() == pytest.approx(662_500.0)
    assert charge["permanent_impact"] == pytest.approx(each**2 * permanent * periods * (periods - 1) / 2)


def test_the_rule_of_thumb_gives_the_published_parameters() -> None:
    market = pd.DataFrame({"price": [50.0], "volume": [5e6], "spread": [25.0]}, index=["X"])  # a spread of 1/8
    model = AlmgrenChriss.from_spread(market)
    for found, published in ((model.permanent, 2.5e-7), (model.temporary, 2.5e-6), (model.half_spread, 0.0625)):
        assert isinstance(found, pd.Series)
        assert found["X"] == pytest.approx(published, rel=1e-12)


def test_holding_by_hand() -> None:
    positions = pd.DataFrame(
        {"quantity": [-100.0, 50.0, -2_000.0], "price": [200.0, np.nan, 1.0]}, index=["AAPL", "GLD", "cash"]
    )
    costs = BorrowCosts({"AAPL": 36.0, "cash": 0.0}) + FinancingCosts(720.0)
    found = costs.accruals(positions, days=30)
    np.testing.assert_allclose(found["borrow"], [20_000 * 36e-4 / 12, 0.0, 0.0], rtol=1e-13)
    np.testing.assert_allclose(found["financing"], [0.0, 0.0, 2_000 * 720e-4 / 12], rtol=1e-13)
    assert costs.charges(positions).shape == (3, 0)
    assert SpreadCosts().accruals(positions).shape == (3, 0)


def test_one_fee_for_all_is_charged_on_what_is_short() -> None:
    positions = pd.DataFrame({"quantity": [-100.0, 50.0], "price": [200.0, 150.0]}, index=["AAPL", "GLD"])
    np.testing.assert_allclose(BorrowCosts(36.0).accruals(positions, 10)["borrow"], [2.0, 0.0], rtol=1e-13)


def test_takes_planned_trades() -> None:
    holdings, target = pd.Series([0.4, 0.3, 0.2, 0.1], ASSETS), pd.Series([0.2, 0.3, 0.35, 0.15], ASSETS)
    plan = plan_trades(target, holdings, nav=1e6, prices=MARKET["price"], cost_bps=12.0)
    priced = plan.join(MARKET)
    charges = ProportionalCosts(12.0).charges(priced)
    np.testing.assert_allclose(charges["commission"], plan["cost"], rtol=1e-13)


@pytest.mark.slow
def test_a_hundred_thousand_trades_one_by_one() -> None:
    rng = np.random.default_rng(5)
    count = 100_000
    trades = pd.DataFrame(
        {
            "asset": rng.choice(ASSETS, count),
            "quantity": rng.normal(size=count) * 10.0 ** rng.uniform(0, 6, count) * (rng.random(count) < 0.9),
            "price": 10.0 ** rng.uniform(-1, 4, count),
            "volume": 10.0 ** rng.uniform(2, 9, count),
            "volatility": rng.uniform(0, 0.1, count),
            "spread": rng.uniform(0, 100, count),
        }
    )
    model = ProportionalCosts(5.0, 8.0, PER_SHARE, 1.0, 0.3) + SpreadCosts() + SquareRootImpact(0.9, 0.6)
    charges = model.charges(trades).to_numpy()
    for row, (asset, q, p, v, sigma, s) in enumerate(trades.itertuples(index=False)):
        fee = max(1.0, (5e-4 * q if q > 0 else -8e-4 * q) * p + PER_SHARE[asset] * abs(q)) + 0.3 if q else 0.0
        expected = (fee, s / 2e4 * abs(q) * p, 0.9 * sigma * (abs(q) / v) ** 0.6 * abs(q) * p)
        for found, by_hand in zip(charges[row], expected, strict=True):
            assert abs(found - by_hand) <= 1e-12 * by_hand


# -- the forecast is the charge --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=25)
@given(holdings=weights, target=weights, nav=st.floats(1e3, 1e10))
def test_the_forecast_is_the_charge(name: str, holdings: np.ndarray, target: np.ndarray, nav: float) -> None:
    price = MARKET["price"].to_numpy()
    charged = MODELS[name].charges(trades_of((target - holdings) * nav / price)).to_numpy().sum()
    accrued = MODELS[name].accruals(trades_of(target * nav / price), days=3.0).to_numpy().sum()
    forecast = value(MODELS[name].term(MARKET, nav, days=3.0), holdings, target)
    assert forecast * nav == pytest.approx(charged + accrued, rel=1e-9, abs=1e-12 * nav)
    spread_out = value(MODELS[name].term(MARKET, nav, days=3.0, horizons=8.0), holdings, target)
    assert spread_out * nav == pytest.approx(charged / 8 + accrued, rel=1e-9, abs=1e-12 * nav)


def test_the_optimiser_takes_the_forecast() -> None:
    import portfolioopt as po

    returns = po.data.simple_returns(po.data.sample_prices()).tail(60).iloc[:, :4]
    market = MARKET.set_axis(returns.columns, axis="index").assign(volatility=0.01)
    holdings = pd.Series(0.25, returns.columns)
    costs = ProportionalCosts(5.0) + SquareRootImpact()
    result = po.optimize(
        po.Problem(
            ScenarioSet(returns),
            po.ExpectedReturn() - 0.1 * po.CVaR(0.9) - costs.term(market, 1e7, horizons=10.0),
            [po.Budget(), po.Bounds(0.0, 0.6)],
            holdings=holdings,
        )
    )
    trades = market.assign(quantity=(result.weights - holdings) * 1e7 / market["price"])
    forecast = -result.terms["contribution"].iloc[2:].sum()
    assert forecast * 10 * 1e7 == pytest.approx(costs.charges(trades).to_numpy().sum(), rel=1e-9)
    assert (result.weights - holdings).abs().sum() > 0.01


# -- properties ------------------------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32 - 1))
def test_parts_add_up_order_does_not_matter_and_more_costs_more(seed: int) -> None:
    rng = np.random.default_rng(seed)
    trades = trades_of(rng.normal(size=4) * 1e4)
    parts = [ProportionalCosts(3.0, minimum=2.0, fixed=0.5), SpreadCosts(), SquareRootImpact(), MODELS["linear impact"]]
    whole = (parts[0] + parts[1] + (parts[2] + parts[3])).charges(trades)
    alone = sum(part.charges(trades).to_numpy().sum() for part in parts)
    assert whole.to_numpy().sum() == pytest.approx(alone, rel=1e-12)
    shuffled = trades.sample(frac=1.0, random_state=seed % 1000)
    combined = CombinedCosts(tuple(parts))
    pd.testing.assert_frame_equal(combined.charges(shuffled).loc[whole.index], combined.charges(trades), rtol=1e-13)
    larger = combined.charges(trades.assign(quantity=trades["quantity"] * (1.0 + rng.uniform(0, 2))))
    assert (larger.sum(axis=1) >= combined.charges(trades).sum(axis=1)).all()
    assert (combined.charges(trades.assign(quantity=-trades["quantity"])) == combined.charges(trades)).all(axis=None)


@settings(max_examples=30)
@given(size=st.floats(1.0, 1e7), factor=st.floats(0.01, 100.0))
def test_scale(size: float, factor: float) -> None:
    market = {"price": 50.0, "volume": 1e6, "volatility": 0.01}
    once = SquareRootImpact().charge("X", size, **market)["impact"]
    assert SquareRootImpact().charge("X", factor * size, **market)["impact"] == pytest.approx(factor**1.5 * once)
    # money has no unit of its own: prices in cents, charges in cents
    cents = market | {"price": 5_000.0}
    assert SquareRootImpact().charge("X", size, **cents)["impact"] == pytest.approx(100 * once)


@settings(max_examples=50)
@given(bps=st.floats(0.0, 50.0), fixed=st.floats(0.0, 20.0), minimum=st.floats(0.0, 20.0), value=st.floats(1.0, 1e6))
def test_the_convex_part_is_the_largest_convex_cost_below(
    bps: float, fixed: float, minimum: float, value: float
) -> None:
    model = ProportionalCosts(bps, fixed=fixed, minimum=minimum)
    below = model.convex_part()
    assert below.charge("X", value, 1.0).sum() <= model.charge("X", value, 1.0).sum() + 1e-9
    # any convex cost that is zero at zero has a slope up to a point of at most the cost per amount further on
    far = 1e12
    assert below.charge("X", value, 1.0).sum() == pytest.approx(
        value * model.charge("X", far, 1.0).sum() / far, rel=1e-6, abs=1e-4
    )


# -- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("volume", [np.nan, 0.0, -1.0, np.inf])
def test_missing_volume_is_never_free(volume: float) -> None:
    market = MARKET.copy()
    market.loc["GLD", "volume"] = volume
    quantity = np.array([10.0, 0.0, -5.0, 0.0])
    for model in (SquareRootImpact(), SpreadCosts() + SquareRootImpact(), AdaptiveCostModel(SquareRootImpact())):
        with pytest.raises(RefusedTradeError, match="volume is missing, infinite, or not positive for 'GLD'") as caught:
            model.charges(market.assign(quantity=quantity))
        assert caught.value.assets == ("GLD",)
        with pytest.raises(RefusedTradeError, match="GLD"):
            model.term(market, 1e6)
        with pytest.raises(RefusedTradeError, match="no column 'volume'"):
            model.charges(market.drop(columns="volume").assign(quantity=quantity))
        assert np.isfinite(
            model.charges(market.assign(quantity=[10.0, 0, 0, 0])).to_numpy()
        ).all()  # GLD does not trade


def test_fixed_fees_have_no_convex_forecast() -> None:
    model = ProportionalCosts(5.0, fixed=1.0, minimum=2.0) + SpreadCosts()
    with pytest.raises(InputError, match="no convex forecast with fixed=1 and minimum=2"):
        model.term(MARKET, 1e6)
    term = model.convex_part().term(MARKET, 1e6)
    assert value(term, np.zeros(4), np.array([1.0, 0, 0, 0])) == pytest.approx(5e-4 + 0.5e-4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ProportionalCosts(-1.0), "not negative"),
        (lambda: ProportionalCosts(6e3), "hundredths of a percent"),
        (lambda: ProportionalCosts(fixed=np.nan), "fixed must be a finite number"),
        (lambda: ProportionalCosts(per_share=-1.0).charges(trades_of(np.ones(4))), "per_share is negative"),
        (
            lambda: ProportionalCosts({"AAPL": 5.0}).charges(trades_of(np.ones(4))),
            "says nothing about 'BND', 'GLD', 'cash'",
        ),
        (
            lambda: ProportionalCosts(1.0).charges(trades_of(np.array([1, 2, np.nan, 3]))),
            "missing or infinite for 'GLD'",
        ),
        (lambda: ProportionalCosts(1.0).charges(MARKET), "no column 'quantity'"),
        (lambda: ProportionalCosts(1.0).charges(MARKET["price"]), "must be a frame"),  # type: ignore[arg-type]
        (lambda: ProportionalCosts(1.0).charge("X", 1.0, -5.0), "price is missing"),
        (lambda: SpreadCosts(fraction=1.5), "at most 1"),
        (lambda: SpreadCosts().charge("X", 1.0, 5.0), "no column 'spread'"),
        (lambda: SpreadCosts().charge("X", 1.0, 5.0, spread=6e3), "another unit"),
        (lambda: SquareRootImpact(exponent=0.0), "above 0"),
        (lambda: SquareRootImpact(exponent=1.1), "at most 1"),
        (lambda: SquareRootImpact(-1.0).charge("X", 1.0, 5.0, volume=1.0, volatility=0.1), "negative"),
        (lambda: SquareRootImpact().charge("X", 1.0, 5.0, volume=1.0, volatility=20.0), "another unit"),
        (lambda: AlmgrenChriss(1e-7, 1e-6, periods=0), "whole number"),
        (lambda: BorrowCosts(10.0, year=0.0), "above 0"),
        (lambda: BorrowCosts({"BND": 1.0}).accruals(trades_of(-np.ones(4))), "'AAPL', 'GLD', 'cash'"),
        (lambda: SpreadCosts().term(MARKET, 0.0), "nav must be above 0"),
        (lambda: SpreadCosts().term(MARKET, 1.0, horizons=0.0), "horizons must be above 0"),
        (lambda: SpreadCosts().term(pd.concat([MARKET, MARKET]), 1.0), "duplicate assets"),
        (lambda: CombinedCosts(()), "needs cost models"),
        (lambda: FinancingCosts(100.0).accruals(trades_of(np.ones(4)).set_index(pd.Index(list("abcd")))), "cash asset"),
        (lambda: FinancingCosts(100.0).accruals(pd.concat([trades_of(np.ones(4))] * 2)), "net them"),
    ],
)
def test_refused(call, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


def test_only_models_add() -> None:
    with pytest.raises(TypeError):
        SpreadCosts() + 1.0  # type: ignore[operator]
    with pytest.raises(UnknownNameError):
        FinancingCosts(100.0, cash="Cash").term(MARKET, 1e6)

"""Trades within their costs: a general solver, closed forms, and the region against the trades that are solved for."""

from __future__ import annotations

import warnings

import cvxpy as cp
import numpy as np
import pandas as pd
import pytest
from scipy.optimize import brentq

import portfolioopt as po
from portfolioopt.costs import BorrowCosts, ProportionalCosts, SpreadCosts, SquareRootImpact
from portfolioopt.errors import InfeasibleError, InputError
from portfolioopt.problem import ActiveVariance
from portfolioopt.problem.constraints import Constraint
from portfolioopt.rebalance import (
    NoTradeRegion,
    OrderRules,
    PortfolioOptAdapter,
    no_trade_region,
    trade_within_costs,
    value_book,
)

NAMES = list("ABCDEFGH")
N = len(NAMES)
HORIZONS = 21.0
AVERSION = 5.0

Case = tuple[pd.DataFrame, pd.Series, pd.Series, pd.Series, pd.Series]


def case(seed: int, away: float | None = None) -> Case:
    """A daily covariance, targets, holdings, and costs of buying and selling in basis points."""
    rng = np.random.default_rng(seed)
    loadings = rng.normal(size=(N, N))
    covariance = pd.DataFrame(loadings @ loadings.T / N * 1e-4 + np.eye(N) * 2e-5, NAMES, NAMES)
    target = rng.dirichlet(np.ones(N))
    share = rng.uniform(0.0, 0.5) if away is None else away
    held = (1.0 - share) * target + share * rng.dirichlet(np.full(N, 3.0))
    buy, sell = rng.uniform(1.0, 30.0, (2, N))
    return covariance, *(pd.Series(x, NAMES) for x in (target, held, buy, sell))  # type: ignore[return-value]


def by_clarabel(problem: cp.Problem) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        problem.solve(solver="CLARABEL", tol_gap_abs=1e-12, tol_gap_rel=1e-12, tol_feas=1e-12)
    assert problem.status in ("optimal", "optimal_inaccurate")
    return float(problem.value)  # type: ignore[arg-type]


# -- the trade ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["budget", "free", "bounds"])
@pytest.mark.parametrize("power", [0.0, 0.02])
def test_trades_are_those_of_a_general_solver(kind: str, power: float) -> None:
    traded = 0
    for seed in range(4):
        covariance, target, held, buy, sell = case(seed, 0.4)
        impact = pd.Series(np.linspace(0.2, 1.0, N) * power, NAMES)
        costs: po.Objective = 1.0 * po.ProportionalCost(buy, sell)
        if power:
            costs = costs + po.PowerCost(impact, 1.5)
        rules: list[Constraint] = [] if kind == "free" else [po.Budget(1.0)]
        rules += [po.Bounds(0.0, 0.2)] if kind == "bounds" else []
        found = trade_within_costs(
            held, target, covariance, costs, risk_aversion=AVERSION, horizons=HORIZONS, constraints=rules
        )
        w = cp.Variable(N)
        d = w - held.to_numpy()
        charge = (buy.to_numpy() @ cp.pos(d) + sell.to_numpy() @ cp.neg(d)) / 1e4
        charge = charge + impact.to_numpy() @ cp.power(cp.abs(d), 1.5) if power else charge
        root = np.linalg.cholesky(covariance.to_numpy())
        goal = AVERSION * cp.sum_squares(root.T @ (w - target.to_numpy())) + charge / HORIZONS
        limits = [] if kind == "free" else [cp.sum(w) == 1.0]
        limits += [w >= 0.0, w <= 0.2] if kind == "bounds" else []
        best = by_clarabel(cp.Problem(cp.Minimize(1e4 * goal), limits)) / 1e4
        assert -found.result.objective == pytest.approx(best, rel=1e-6, abs=1e-12)
        np.testing.assert_allclose(found.weights, w.value, atol=3e-6)
        assert found.cost == pytest.approx(float(charge.value), rel=1e-3, abs=1e-8)
        assert found.result.status is po.Status.optimal
        traded += int((found.trades != 0.0).sum())
    assert traded > 4


def test_one_asset_by_its_closed_form() -> None:
    variance, bps, impact = 1.5e-4, 12.0, 0.01
    target = pd.Series(0.5, NAMES)
    covariance = pd.DataFrame(np.eye(N) * variance, NAMES, NAMES)  # apart from each other, so that each is alone
    width = bps / 1e4 / (2.0 * AVERSION * variance * HORIZONS)
    region = no_trade_region(target, covariance, bps, AVERSION, budget=False, horizons=HORIZONS)
    np.testing.assert_allclose(region.intervals["lower"], 0.5 - width, rtol=1e-12)
    np.testing.assert_allclose(region.intervals["upper"], 0.5 + width, rtol=1e-12)
    held = target + pd.Series([0.4, -0.4, 0.5 * width, *np.zeros(N - 3)], NAMES)
    costs = po.ProportionalCost(bps)
    given = {"risk_aversion": AVERSION, "horizons": HORIZONS, "constraints": ()}
    found = trade_within_costs(held, target, covariance, costs, **given)
    # to the edge, not to the target
    np.testing.assert_allclose(found.weights - target, [width, -width, 0.5 * width, *np.zeros(N - 3)], atol=1e-8)
    before, after = np.hypot(np.hypot(0.4, 0.4), 0.5 * width), np.hypot(np.hypot(width, width), 0.5 * width)
    assert found.tracking_error == pytest.approx((before * variance**0.5, after * variance**0.5), rel=1e-6)
    assert found.cost == pytest.approx(2 * bps / 1e4 * (0.4 - width), rel=1e-6)
    # with impact the edge is the same, and one goes less than all the way there
    found = trade_within_costs(held, target, covariance, costs + po.PowerCost(impact, 1.5), **given)

    def slope(w: float) -> float:
        return 2 * AVERSION * variance * (w - 0.5) - (bps / 1e4 + 1.5 * impact * np.sqrt(0.9 - w)) / HORIZONS

    edge = brentq(slope, 0.5, 0.9, xtol=1e-14)
    np.testing.assert_allclose(found.weights[:2], [edge, 1.0 - edge], atol=1e-6)
    assert found.weights["C"] == held["C"]


def test_words_and_margins() -> None:
    covariance, target, held, buy, sell = case(11, 0.45)
    costs = po.ProportionalCost(buy, sell)
    found = trade_within_costs(held, target, covariance, costs, risk_aversion=AVERSION, horizons=HORIZONS)
    table = found.by_asset
    done = table["trade"] != 0.0
    assert 0 < done.sum() < N
    # at the optimum one more unit is worth what it costs, and where nothing is done, no more than that
    np.testing.assert_allclose(table["benefit"][done].abs(), table["cost"][done], rtol=1e-4)
    assert (np.sign(table["benefit"][done]) == np.sign(table["trade"][done])).all()
    assert (table["benefit"][~done].abs() <= table["cost"][~done] * (1 + 1e-6)).all()
    np.testing.assert_allclose(
        table["cost"][done], np.where(table["trade"] > 0, buy, sell)[done] / HORIZONS, rtol=1e-12
    )
    for name, row in table.iterrows():
        kind = "left alone" if row["trade"] == 0.0 else "bought" if row["trade"] > 0.0 else "sold"
        assert str(row["reason"]).startswith(kind), name
        assert "constraint" not in str(row["reason"]), name
    np.testing.assert_array_equal(found.weights[~done], held[~done])
    assert found.weights.sum() == pytest.approx(target.sum(), abs=1e-8)
    # a cap on a weight is felt as a constraint
    first = table["trade"].idxmax()
    cap = pd.Series(1.0, NAMES)
    cap[first] = held[first] + 0.25 * table.loc[first, "trade"]
    capped = trade_within_costs(
        held,
        target,
        covariance,
        costs,
        risk_aversion=AVERSION,
        horizons=HORIZONS,
        constraints=[po.Budget(1.0), po.Bounds(0.0, cap)],
    )
    assert str(capped.by_asset.loc[first, "reason"]).endswith("a constraint stops it there")


def test_a_limit_on_the_tracking_error_and_the_aversion_it_implies() -> None:
    covariance, target, held, buy, sell = case(5, 0.5)
    costs = po.ProportionalCost(buy, sell)
    start = float(np.sqrt((held - target) @ covariance @ (held - target)))
    found = trade_within_costs(held, target, covariance, costs, tracking_error=0.4 * start, horizons=HORIZONS)
    assert found.tracking_error == pytest.approx((start, 0.4 * start), rel=1e-5)
    d = cp.Variable(N)
    root = np.linalg.cholesky(covariance.to_numpy()).T
    charge = (buy.to_numpy() @ cp.pos(d) + sell.to_numpy() @ cp.neg(d)) / 1e4
    near = cp.norm(1e3 * root @ (held.to_numpy() + d - target.to_numpy())) <= 1e3 * 0.4 * start
    assert found.cost == pytest.approx(
        by_clarabel(cp.Problem(cp.Minimize(1e4 * charge), [near, cp.sum(d) == 0.0])) / 1e4, rel=1e-5
    )
    again = trade_within_costs(held, target, covariance, costs, risk_aversion=found.risk_aversion, horizons=HORIZONS)
    np.testing.assert_allclose(again.weights, found.weights, atol=1e-4)
    idle = trade_within_costs(held, target, covariance, costs, tracking_error=1.5 * start, horizons=HORIZONS)
    assert (idle.trades == 0.0).all()
    assert idle.risk_aversion == 0.0


@pytest.mark.parametrize("active", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_tails_instead_of_variance(active: bool) -> None:
    covariance, target, held, buy, sell = case(6, 0.5)
    returns = np.random.default_rng(6).multivariate_normal(np.zeros(N), covariance.to_numpy(), size=300)
    scenarios = po.ScenarioSet(pd.DataFrame(returns, columns=NAMES))
    aversion, days = (1.0, 63.0) if active else (0.2, 63.0)
    found = trade_within_costs(
        held,
        target,
        scenarios,
        po.ProportionalCost(buy, sell),
        risk_aversion=aversion,
        distance=po.CVaR(0.95, benchmark=target if active else None),
        horizons=days,
        constraints=[po.Budget(1.0), po.Bounds()],
    )
    w, var = cp.Variable(N), cp.Variable()
    bet = w - target.to_numpy() if active else w
    tail = var + cp.sum(cp.pos(-returns @ bet - var)) / (300 * 0.05)
    d = w - held.to_numpy()
    charge = (buy.to_numpy() @ cp.pos(d) + sell.to_numpy() @ cp.neg(d)) / 1e4
    goal = cp.Minimize(1e4 * (aversion * tail + charge / days))
    best = by_clarabel(cp.Problem(goal, [cp.sum(w) == 1.0, w >= 0.0])) / 1e4
    assert -found.result.objective == pytest.approx(best, rel=1e-6)
    # the measure that supports the optimum prices exactly what is traded and is inside its bounds
    table = found.by_asset
    free = (table["trade"] != 0.0) & (table["weight"] > 1e-6)
    assert free.any()
    np.testing.assert_allclose(table["benefit"][free].abs(), table["cost"][free], rtol=1e-5)
    assert table["benefit_before"].isna().all()
    assert found.distance[1] < found.distance[0]


@pytest.mark.parametrize("away", [0.0, 1e-7, 1e-3])
def test_next_to_the_targets_nothing_is_done(away: float) -> None:
    for seed in (1042, 1083, 1128):
        covariance, target, held, buy, sell = case(seed)
        near = target + away * (held - target)
        found = trade_within_costs(
            near, target, covariance, po.ProportionalCost(buy, sell), risk_aversion=AVERSION, horizons=HORIZONS
        )
        assert (found.trades == 0.0).all()
        assert found.cost == 0.0
        assert found.result.certificate is not None
        assert found.result.certificate.gap * found.result.certificate.scale <= 1e-11


def test_at_the_tip_of_a_root_there_is_no_one_slope() -> None:
    covariance, target, held, *_ = case(2, 0.3)
    found = trade_within_costs(
        held, target, covariance, 0.01, risk_aversion=1.0, distance=po.TrackingError(target, covariance)
    )
    np.testing.assert_allclose(found.weights, target, atol=1e-6)
    assert found.by_asset["benefit"].isna().all()
    assert found.by_asset["reason"].str.contains("distance is at its least").all()


# -- the region --------------------------------------------------------------------------------------------------


def region_and_trade(seed: int, kind: str) -> tuple[NoTradeRegion, bool, float]:
    covariance, target, held, buy, sell = case(seed)
    if kind == "bounds":  # what is at zero and held at zero cannot be sold
        start = target.copy()
        target.iloc[:2] = 0.0
        target /= target.sum()
        held = target + 2.0 * (held - start).clip(lower=0.0)
        held.iloc[0] = 0.0
        held /= held.sum()
    costs = po.ProportionalCost(buy, sell)
    rules: list[Constraint] = [] if kind == "free" else [po.Budget(1.0)]
    bounds = po.Bounds(0.0, 1.0) if kind == "bounds" else None
    region = no_trade_region(
        target, covariance, costs, AVERSION, budget=kind != "free", bounds=bounds, horizons=HORIZONS
    )
    found = trade_within_costs(
        held,
        target,
        covariance,
        costs,
        risk_aversion=AVERSION,
        horizons=HORIZONS,
        constraints=rules if bounds is None else [*rules, bounds],
    )
    inside = region.inside(held)
    left = bool((found.trades == 0.0).all())
    assert inside == left, (seed, kind, region.slack(held))
    slack = region.slack(found.weights)
    return region, inside, slack


@pytest.mark.parametrize("kind", ["budget", "free", "bounds"])
def test_inside_is_where_nothing_is_traded_and_trades_lead_to_the_edge(kind: str) -> None:
    answers = []
    for seed in range(100, 115):
        region, inside, slack = region_and_trade(seed, kind)
        answers.append(inside)
        if not inside:
            assert slack == pytest.approx(0.0, abs=1e-4 * float(max(region.buy.max(), region.sell.max())) * 1e4)
    assert 3 <= sum(answers) <= 12


@pytest.mark.slow
def test_a_tracking_error_that_cannot_be_met() -> None:
    covariance, target, held, *_ = case(5, 0.5)
    rules = [po.Budget(1.0), po.Turnover(0.01)]
    with pytest.raises(InfeasibleError, match="tracking error"):
        trade_within_costs(held, target, covariance, 5.0, tracking_error=1e-6, constraints=rules)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["budget", "free", "bounds"])
def test_inside_is_where_nothing_is_traded_at_length(kind: str) -> None:
    assert 50 < sum(region_and_trade(seed, kind)[1] for seed in range(1000, 1300)) < 250


@pytest.mark.parametrize("budget", [True, False])
def test_intervals_and_reach_end_where_inside_does(budget: bool) -> None:
    covariance, target, _, buy, sell = case(3)
    region = no_trade_region(
        target, covariance, po.ProportionalCost(buy, sell), AVERSION, budget=budget, horizons=HORIZONS
    )
    for name, row in region.intervals.iterrows():
        for edge in (row["lower"], row["upper"]):
            for factor, inside in ((0.999, True), (1.001, False)):
                held = target.copy()
                held[name] += factor * (edge - target[name])
                if budget:  # the others give way in proportion
                    others = held.index != name
                    held[others] = target[others] * (1.0 - held[name]) / target[others].sum()
                assert region.inside(held) is inside, (name, factor)
    rng = np.random.default_rng(0)
    direction = pd.Series(rng.normal(size=N), NAMES)
    direction -= direction.mean()
    far = region.reach(direction)
    assert region.inside(target + 0.999 * far * direction) is True
    assert region.inside(target + 1.001 * far * direction) is False
    assert region.reach(2.0 * direction) == pytest.approx(0.5 * far, rel=1e-12)


def test_wider_with_costs_narrower_with_aversion_and_time() -> None:
    covariance, target, _, buy, _ = case(4)

    def widths(bps: pd.Series, aversion: float = AVERSION, horizons: float = HORIZONS) -> np.ndarray:
        frame = no_trade_region(target, covariance, bps, aversion, horizons=horizons).intervals
        return (frame["upper"] - frame["lower"]).to_numpy()

    base = widths(buy)
    np.testing.assert_allclose(widths(2.0 * buy), 2.0 * base, rtol=1e-10)
    np.testing.assert_allclose(widths(buy, aversion=2.0 * AVERSION), 0.5 * base, rtol=1e-10)
    np.testing.assert_allclose(widths(buy, horizons=2.0 * HORIZONS), 0.5 * base, rtol=1e-10)
    dear = buy.copy()
    dear["A"] *= 10.0
    assert (widths(dear) >= base - 1e-12).all()
    assert widths(0.0 * buy) == pytest.approx(np.zeros(N), abs=1e-15)
    order = NAMES[::-1]
    turned = no_trade_region(target[order], covariance, buy, AVERSION, horizons=HORIZONS).intervals
    np.testing.assert_allclose((turned["upper"] - turned["lower"])[NAMES], base, rtol=1e-10)


def test_many_holdings_at_once_are_each_of_them() -> None:
    covariance, target, _, buy, sell = case(8)
    region = no_trade_region(target, covariance, po.ProportionalCost(buy, sell), AVERSION, horizons=HORIZONS)
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(
        0.8 * target.to_numpy() + 0.2 * rng.dirichlet(np.full(N, 2.0), size=400), columns=NAMES
    ).sample(axis=1, frac=1.0, random_state=0)
    answers = region.inside(frame)
    assert 0 < answers.sum() < 400
    assert answers.tolist() == [region.inside(row) for _, row in frame.iterrows()]
    assert region.inside(target) is True
    assert region.inside(target * 0.99) is False  # off the budget: a trade is due in any case
    assert region.slack(target * 0.99) == -np.inf


def test_what_no_region_is() -> None:
    covariance, target, _, buy, _ = case(9)
    with pytest.raises(InputError, match="beyond the bounds for"):
        no_trade_region(target, covariance, buy, AVERSION, bounds=po.Bounds(0.0, 0.05))
    with pytest.raises(InputError, match="must sum to zero"):
        no_trade_region(target, covariance, buy, AVERSION).reach(pd.Series(1.0, NAMES))
    with pytest.raises(InputError, match="column for every asset"):
        no_trade_region(target, covariance, buy, AVERSION).inside(pd.DataFrame([target]).drop(columns="A"))
    with pytest.raises(InputError, match="says nothing about 'A'"):
        no_trade_region(target, covariance.drop(index="A", columns="A"), buy, AVERSION)
    impact = no_trade_region(target, covariance, po.PowerCost(0.01), AVERSION)
    assert impact.inside(target) is True
    assert impact.inside(target + pd.Series([1e-6, -1e-6] + [0.0] * (N - 2), NAMES)) is False  # it begins flat


# -- costs in all their forms ------------------------------------------------------------------------------------


def test_a_cost_model_says_the_same_as_its_terms() -> None:
    covariance, target, held, *_ = case(12, 0.5)
    rng = np.random.default_rng(12)
    market = pd.DataFrame(
        {
            "price": rng.uniform(10, 200, N),
            "volume": rng.uniform(1e6, 1e7, N),
            "volatility": np.sqrt(np.diag(covariance)),
            "spread": rng.uniform(1, 20, N),
        },
        index=NAMES,
    )
    model = ProportionalCosts(bps=2.0) + SpreadCosts() + SquareRootImpact(0.8)
    found = trade_within_costs(
        held,
        target,
        covariance,
        model,
        risk_aversion=20.0,
        horizons=HORIZONS,
        market=market.sample(frac=1.0, random_state=1),
        nav=2e8,
    )
    assert (found.trades != 0.0).any()
    units = found.trades * 2e8 / market["price"]
    charged = model.charges(market.assign(quantity=units))
    assert found.cost * 2e8 == pytest.approx(float(charged.to_numpy().sum()), rel=1e-9)
    region = no_trade_region(target, covariance, model, 20.0, horizons=HORIZONS, market=market, nav=2e8)
    np.testing.assert_allclose(region.buy, (2.0 + market["spread"] / 2) / 1e4 / HORIZONS, rtol=1e-12)
    with pytest.raises(InputError, match="needs market="):
        trade_within_costs(held, target, covariance, model, risk_aversion=1.0)
    with pytest.raises(InputError, match="not a cost of trading"):
        no_trade_region(target, covariance, BorrowCosts(50.0), 1.0, market=market, nav=1e6)
    with pytest.raises(InputError, match="convex_part"):
        no_trade_region(target, covariance, ProportionalCosts(5, fixed=1.0), 1.0, market=market, nav=1e6)
    with pytest.raises(InputError, match="is subtracted"):
        no_trade_region(target, covariance, -1.0 * po.ProportionalCost(5), 1.0)


def test_asks_that_contradict_each_other() -> None:
    covariance, target, held, *_ = case(0)
    with pytest.raises(InputError, match="one of the two"):
        trade_within_costs(held, target, covariance, 5.0)
    with pytest.raises(InputError, match="one of the two"):
        trade_within_costs(held, target, covariance, 5.0, risk_aversion=1.0, tracking_error=0.01)
    with pytest.raises(InputError, match="takes the place"):
        trade_within_costs(held, target, covariance, 5.0, tracking_error=0.01, distance=po.Variance(covariance))
    with pytest.raises(InputError, match="must be above 0"):
        trade_within_costs(held, target, covariance, 5.0, risk_aversion=0.0)
    with pytest.raises(InputError, match="says nothing about 'Z'"):
        trade_within_costs({**held, "Z": 0.1}, target, covariance, 5.0, risk_aversion=1.0)


def test_the_squared_tracking_error_as_a_term() -> None:
    covariance, target, held, *_ = case(1, 0.4)
    found = trade_within_costs(held, target, covariance, 10.0, risk_aversion=AVERSION, horizons=HORIZONS)
    before, after = found.tracking_error
    assert found.distance == pytest.approx((before**2, after**2), rel=1e-12)
    assert found.result.value(ActiveVariance(target, covariance)) == pytest.approx(after**2, rel=1e-9)
    x = found.weights - target
    assert after**2 == pytest.approx(float(x @ covariance @ x), rel=1e-9)


# -- to orders, on real prices -----------------------------------------------------------------------------------


def test_from_real_prices_to_orders() -> None:
    prices = po.data.sample_prices().iloc[-504:, :N]
    returns = prices.pct_change().iloc[1:]
    covariance = po.ScenarioSet(returns).covariance()
    target = pd.Series(1.0 / N, prices.columns, name="target")
    last = prices.iloc[-1]
    units = np.floor(1e6 * target / prices.iloc[0])  # bought at equal weights two years before
    cash = 1e6 - float(units @ prices.iloc[0])
    book = value_book(units, last, cash=cash)
    found = trade_within_costs(
        book.weights,
        target * 0.999,
        covariance,
        10.0,
        risk_aversion=2.0,
        horizons=63.0,
        constraints=[po.Budget(0.999), po.Bounds()],
    )
    done = found.trades != 0.0
    assert 0 < done.sum() < N
    plan = found.orders(units, last, cash=cash, rules=OrderRules(lot=1, fees=10.0))
    assert {order.asset for order in plan.orders} <= set(found.trades.index[done])
    assert plan.cash >= 0.0
    after = value_book(plan.holdings, last, cash=plan.cash)
    np.testing.assert_allclose(after.weights[done], found.weights[done], atol=2e-3)
    np.testing.assert_array_equal(plan.holdings[~done], units[~done])
    assert plan.fees / book.nav == pytest.approx(found.cost, rel=0.05)
    # further away than the targets, cheaper than the whole rebalance
    whole = PortfolioOptAdapter(target * 0.999, rules=OrderRules(lot=1, fees=10.0))
    assert plan.fees < whole.calculate_rebalance_trades(units, last, cash=cash).fees
    assert 0.0 < found.tracking_error[1] < found.tracking_error[0]

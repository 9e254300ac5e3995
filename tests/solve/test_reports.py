"""What a result says beyond its weights: any measure, limits in their own terms, and why there is no answer."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import portfolioopt as po

RNG = np.random.default_rng(11)
ASSETS = pd.Index(["AAPL", "MSFT", "XOM", "JNJ"])
RETURNS = pd.DataFrame(RNG.normal(0.001, 0.02, (60, 4)) + np.array([0.002, 0.001, 0.0, -0.001]), columns=ASSETS)
DATA = po.ScenarioSet(RETURNS)
NET = po.ExpectedReturn() - po.CVaR(0.9)
LONG = (po.Budget(), po.Bounds(0.0, 1.0))
BENCHMARK = pd.Series(0.25, ASSETS)
SECTORS = pd.Series(["Tech", "Tech", "Energy", "Health"], ASSETS)


def test_any_measure_at_the_weights() -> None:
    result = po.optimize(po.Problem(DATA, NET, LONG, holdings=BENCHMARK))
    assert result.weights is not None
    w = result.weights.to_numpy()
    portfolio = RETURNS.to_numpy() @ w
    assert result.value(po.Volatility()) == pytest.approx(portfolio.std(), rel=1e-12)
    assert result.value(po.ExpectedReturn() - 2 * po.TradedAmount()) == pytest.approx(
        portfolio.mean() - 2 * np.abs(w - 0.25).sum(), rel=1e-12
    )
    path = RETURNS.set_axis(pd.date_range("2024-01-01", periods=60))
    curve = np.concatenate([[0.0], portfolio.cumsum()])
    fall = (np.maximum.accumulate(curve) - curve).max()
    assert result.value(po.MaxDrawdown(path=po.ScenarioSet(path))) == pytest.approx(fall, rel=1e-12)
    with pytest.raises(po.InputError, match="in time"):
        result.value(po.MaxDrawdown())
    with pytest.raises(po.InputError, match="takes a measure"):
        result.value("CVaR")  # type: ignore[arg-type]
    alone = po.optimize(po.Problem(DATA, NET, LONG))
    with pytest.raises(po.InputError, match="holdings"):
        alone.value(po.TradedAmount())


def test_tails_of_a_problem_without_any() -> None:
    result = po.optimize(po.Problem(DATA, po.ExpectedReturn() - po.WorstLoss(), LONG))
    assert result.weights is not None
    losses = np.sort(-RETURNS.to_numpy() @ result.weights.to_numpy())[::-1]
    assert result.risk.loc[0.95, "cvar"] == pytest.approx(losses[:3].mean(), rel=1e-12)  # 5 % of 60


def test_limits_around_a_benchmark_are_shown_around_it() -> None:
    limit = po.GroupLimit(SECTORS, upper={"Tech": 0.1, "Energy": 0.05}, lower={"Health": -0.1}, benchmark=BENCHMARK)
    result = po.optimize(po.Problem(DATA, po.ExpectedReturn() - 0.1 * po.CVaR(0.9), [*LONG, limit]))
    assert result.weights is not None
    lines = result.constraints[result.constraints["constraint"] == "GroupLimit"]
    assert lines["limit"].to_dict() == {
        "GroupLimit[Tech]": pytest.approx(0.1),
        "GroupLimit[Energy]": pytest.approx(0.05),
        "GroupLimit[Health]": pytest.approx(-0.1),
    }
    tech = float(result.weights[["AAPL", "MSFT"]].sum()) - 0.5
    assert lines.loc["GroupLimit[Tech]", "value"] == pytest.approx(tech)
    assert lines.loc["GroupLimit[Tech]", "slack"] == pytest.approx(0.1 - tech, abs=1e-12)
    clash = po.LinearLimit("Tech >= 65%", SECTORS)
    with pytest.raises(po.InfeasibleError) as caught:
        po.optimize(po.Problem(DATA, NET, [*LONG, limit, clash]))
    assert set(caught.value.conflict) == {"GroupLimit", "LinearLimit"}
    moves = caught.value.relaxations
    assert moves is not None
    assert moves.loc["GroupLimit[Tech]", ["limit", "needed", "change"]].tolist() == pytest.approx([0.1, 0.15, 0.05])
    assert moves.loc["LinearLimit", ["limit", "needed", "change"]].tolist() == pytest.approx([0.65, 0.6, -0.05])


def test_of_two_equal_bounds_one_has_the_price() -> None:
    limits = [po.Budget(), po.Bounds(0.0, 0.4), po.Bounds(-1.0, 0.4, name="Again")]
    tables = [
        po.optimize(po.Problem(DATA, po.ExpectedReturn() - 0.02 * po.CVaR(0.9), chosen)).constraints
        for chosen in (limits, limits[:2])
    ]
    both, once = (table[table["sense"] == "<="].groupby("constraint")["shadow_price"].sum() for table in tables)
    assert once["Bounds"] > 0.1
    assert both["Bounds"] == pytest.approx(once["Bounds"], rel=1e-9)
    assert both["Again"] == 0.0


def test_a_limit_with_a_name_of_its_own() -> None:
    tail = (po.CVaR(0.9) <= 0.03).named("tail risk")
    result = po.optimize(po.Problem(DATA, po.ExpectedReturn(), [*LONG, tail]))
    assert "tail risk" in result.constraints.index
    assert tail.upper == 0.03


def test_why_there_is_no_answer_is_in_error_and_result() -> None:
    problem = po.Problem(DATA, NET, [*LONG, po.LinearLimit("AAPL + MSFT >= 1.2")])
    with pytest.raises(po.InfeasibleError) as caught:
        po.optimize(problem)
    failed = po.optimize(problem, raise_on_failure=False)
    assert failed.status is po.Status.infeasible
    for source in (caught.value, failed):
        assert isinstance(source, po.InfeasibleError | po.Result)
        assert set(source.conflict) <= {"Budget", "Bounds", "LinearLimit"}
        assert source.relaxations is not None
        assert source.relaxations["enough"].all()
        assert source.nearest is not None
        assert source.nearest.index.equals(ASSETS)
    open_ended = po.Problem(DATA, po.ExpectedReturn(), [po.Budget()])
    unbounded = po.optimize(open_ended, raise_on_failure=False)
    assert unbounded.direction is not None
    assert float(unbounded.direction.sum()) == pytest.approx(0.0, abs=1e-9)
    assert float(RETURNS.mean() @ unbounded.direction) > 0


def test_limits_that_clash_without_counting_say_how_far() -> None:
    """Four weights of at most 0.2 never make 1, however many are held; two of at most 0.4 do not either."""
    clash = [po.Budget(), po.Bounds(0.0, 0.2), po.MaxHoldings(3)]
    with pytest.raises(po.InfeasibleError) as caught:
        po.optimize(po.Problem(DATA, NET, clash))
    assert set(caught.value.conflict) == {"Budget", "Bounds"}
    assert caught.value.relaxations is not None
    counted = [po.Budget(), po.Bounds(0.0, 0.4), po.MaxHoldings(2)]
    with pytest.raises(po.InfeasibleError) as caught:
        po.optimize(po.Problem(DATA, NET, counted))
    assert set(caught.value.conflict) == {"Budget", "Bounds", "MaxHoldings"}


def test_a_sweep_of_limits_that_bend_down_to_none() -> None:
    """Infeasible points say so, the others are what solving them alone gives, and only levels named have tails."""
    problem = po.Problem(DATA, po.ExpectedReturn(), [*LONG, (po.Volatility() <= 0.02).named("vol")])
    limits = [0.004, 0.012, 0.02]
    points = po.sweep(problem, {"vol.upper": limits})
    assert points.frame["status"].tolist() == ["infeasible", "optimal", "optimal"]
    alone = po.optimize(problem.replace(constraints=[*LONG, po.Volatility() <= 0.012]))
    assert points.frame["objective"].iloc[1] == pytest.approx(alone.objective, rel=1e-6)
    assert not [column for column in points.frame if str(column).startswith("cvar")]
    with pytest.raises(po.InfeasibleError, match="the smallest Volatility the other constraints allow is") as caught:
        po.optimize(problem.replace(constraints=[*LONG, po.Volatility() <= 0.004]))
    covariance = np.cov(RETURNS.to_numpy().T, ddof=0)
    least = caught.value.relaxations
    assert least is not None
    needed = float(least.loc["Volatility()", "needed"])  # type: ignore[arg-type]
    best = po.optimize(po.Problem(DATA, -po.Variance(), LONG))
    assert best.weights is not None
    w = best.weights.to_numpy()
    assert needed == pytest.approx(float(np.sqrt(w @ covariance @ w)), rel=1e-5)

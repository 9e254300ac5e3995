"""Trades and hedges: finite differences, closed forms, and a grid."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import linprog

import portfolioopt as po
from portfolioopt.attribution import VaR, best_hedge, trade_impact

RNG = np.random.default_rng(11)
COMMON = RNG.standard_t(5, (400, 1)) * 0.01
RETURNS = pd.DataFrame(COMMON + RNG.normal(0.0003, 0.01, (400, 4)), columns=list("ABCD")).assign(cash=0.0001)
SCENARIOS = po.ScenarioSet(RETURNS)
HELD = pd.Series({"A": 0.5, "B": 0.3, "C": 0.2, "D": 0.0, "cash": 0.0})


def cvar(weights: pd.Series) -> float:
    return float(SCENARIOS.tail(weights, 0.95).cvar)


def test_a_trade_exactly_and_to_first_order() -> None:
    trades = pd.DataFrame({"sell A": {"A": -0.1, "cash": 0.1}, "buy D": {"D": 0.05}}).reindex(HELD.index).fillna(0.0)
    found = trade_impact(SCENARIOS, HELD, trades)
    for name in trades:
        assert float(found.loc[name, "after"]) == pytest.approx(cvar(HELD + trades[name]), rel=1e-12)
        assert float(found.loc[name, "change"]) == pytest.approx(cvar(HELD + trades[name]) - cvar(HELD), rel=1e-9)
        h = 1e-7
        slope = (cvar(HELD + h * trades[name]) - cvar(HELD - h * trades[name])) / (2 * h)
        assert float(found.loc[name, "marginal"]) == pytest.approx(slope, rel=1e-6)
    assert (found["curvature"] >= -1e-15).all()
    single = trade_impact(SCENARIOS, HELD, trades["buy D"])
    np.testing.assert_allclose(single.loc["trade"], found.loc["buy D"], rtol=1e-12)


def test_the_best_hedge_of_volatility_in_closed_form() -> None:
    covariance = SCENARIOS.covariance()
    found = best_hedge(SCENARIOS, HELD, measure=po.Volatility(), limit=5.0).drop("cash")
    for name in found.index:
        size = -(covariance @ HELD)[name] / covariance.loc[name, name]
        assert float(found.loc[name, "size"]) == pytest.approx(size, abs=1e-6)  # flat there: a root of the rounding
        after = HELD.add(pd.Series({name: size}), fill_value=0.0).reindex(HELD.index)
        assert float(found.loc[name, "after"]) == pytest.approx(float(np.sqrt(after @ covariance @ after)), rel=1e-12)
    assert found["after"].is_monotonic_increasing


def test_the_best_hedge_of_cvar_by_linear_programming() -> None:
    found = best_hedge(SCENARIOS, HELD, funding="cash")
    count, p = len(RETURNS), SCENARIOS.probabilities
    for name in ("A", "D"):
        d = RETURNS[name] - RETURNS["cash"]
        matrix = np.column_stack([-d, -np.ones(count), -np.eye(count)])
        answer = linprog(
            np.concatenate([[0.0, 1.0], p / 0.05]),
            A_ub=matrix,
            b_ub=(RETURNS @ HELD).to_numpy(),
            bounds=[(-1, 1), (None, None)] + [(0, None)] * count,
        )
        assert float(found.loc[name, "after"]) == pytest.approx(answer.fun, rel=1e-9)
        moved = HELD + found.loc[name, "size"] * pd.Series({name: 1.0, "cash": -1.0}).reindex(HELD.index).fillna(0.0)
        assert float(found.loc[name, "after"]) == pytest.approx(cvar(moved), rel=1e-11)
    assert "cash" not in found.index
    assert (found["change"] <= 0.0).all()
    np.testing.assert_allclose(found["per_unit"] * found["size"].abs(), found["change"], rtol=1e-12)


def test_sizes_keep_to_the_limit_and_drawdowns_have_hedges_too() -> None:
    found = best_hedge(SCENARIOS, HELD, limit=0.02)
    assert (found["size"].abs() <= 0.02).all()
    dated = po.ScenarioSet(RETURNS.set_axis(pd.bdate_range("2020-01-01", periods=400)))
    hedge = best_hedge(dated, HELD, measure=po.MaxDrawdown()).iloc[0]
    step = pd.Series(0.0, HELD.index)
    step[hedge.name] = 1.0

    def deepest(weights: pd.Series) -> float:
        path = (RETURNS @ weights).cumsum()
        return float((path.cummax().clip(lower=0.0) - path).max())

    grid = min(deepest(HELD + t * step) for t in np.linspace(-1.0, 1.0, 401))
    assert float(hedge["after"]) == pytest.approx(deepest(HELD + hedge["size"] * step), rel=1e-10)
    assert hedge["after"] <= grid + 1e-12


def test_trades_that_are_refused() -> None:
    with pytest.raises(po.UnknownNameError, match="'E'"):
        trade_impact(SCENARIOS, HELD, {"E": 0.1})
    with pytest.raises(po.InputError, match="VaR is not convex"):
        best_hedge(SCENARIOS, HELD, measure=VaR(0.95))  # type: ignore[arg-type]
    with pytest.raises(po.UnknownNameError, match="unknown asset in funding: 'Cash'"):
        best_hedge(SCENARIOS, HELD, funding="Cash")
    with pytest.raises(po.InputError, match="limit must be above 0"):
        best_hedge(SCENARIOS, HELD, limit=0.0)

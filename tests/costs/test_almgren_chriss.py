"""Almgren & Chriss (2000): the published example, and schedules against minimisers that know no hyperbolic sine."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from portfolioopt.costs import AlmgrenChriss, Trajectory, almgren_chriss_trajectory
from portfolioopt.errors import InputError

# Table 1: a share of 50, 30 % a year, a spread of 1/8, 5 million shares a day; a million to sell in five days
TABLE: dict[str, Any] = {
    "volatility": 0.95,
    "permanent": 2.5e-7,
    "temporary": 2.5e-6,
    "half_spread": 0.0625,
}


def example(risk_aversion: float, **more: float) -> Trajectory:
    return almgren_chriss_trajectory(-1e6, 5.0, 5, risk_aversion=risk_aversion, **TABLE, **more)


def by_minimising(left: np.ndarray, quantity: float, horizon: float, table: dict[str, float], lam: float, alpha: float):
    """E + lambda V of the holdings in between, from the prices of the paper, trade by trade."""
    position = np.concatenate([[-quantity], left, [0.0]])
    sold, step = -np.diff(position), horizon / (len(position) - 1)
    drifted = alpha * step * np.arange(len(sold))  # the k-th trade pays for k - 1 steps of impact and of drift
    moved = -table["permanent"] * np.concatenate([[0.0], np.cumsum(sold)[:-1]]) + drifted
    received = sold @ (moved - table["temporary"] * sold / step) - table["half_spread"] * np.abs(sold).sum()
    return -received + lam * table["volatility"] ** 2 * step * (position[1:] @ position[1:])


def test_published_statements() -> None:
    assert example(1e-6).urgency == pytest.approx(0.6, abs=0.01)  # "kappa is about 0.6 per day"
    assert example(1e-6).urgency * 5 == pytest.approx(3.0, abs=0.05)
    held = 0.95 * np.sqrt(5.0) * 1e6
    assert held == pytest.approx(2.12e6, abs=5e3)
    assert example(1e-6).deviation < example(0.0).deviation < held
    assert example(1e-6).half_life == pytest.approx(1 / 0.607, rel=1e-3)
    assert example(0.0).half_life == np.inf


@pytest.mark.parametrize(
    ("risk_aversion", "remaining", "cost", "deviation"),
    [  # strategies A, B and C of the paper, and the one of its table; to the digits of a tridiagonal solve
        (2e-6, [1e6, 428_598.8457, 182_932.8143, 76_295.7216, 27_643.3774, 0], 1_140_715.1670, 449_367.6525),
        (0.0, [1e6, 8e5, 6e5, 4e5, 2e5, 0], 662_500.0, 1_040_672.8593),
        (-2e-7, [1e6, 910_056.4369, 750_948.5846, 534_768.6399, 277_946.2785, 0], 717_958.1043, 1_258_654.3249),
        (1e-6, [1e6, 541_955.5544, 289_854.2194, 147_897.4878, 62_141.8016, 0], 911_226.9863, 603_430.6688),
    ],
)
def test_strategies(risk_aversion: float, remaining: list[float], cost: float, deviation: float) -> None:
    found = example(risk_aversion)
    np.testing.assert_allclose(-found.schedule["remaining"], remaining, atol=1e-3)
    assert found.expected_cost == pytest.approx(cost, abs=1e-3)
    assert found.deviation == pytest.approx(deviation, abs=1e-3)
    assert found.schedule["trade"].sum() == pytest.approx(-1e6, rel=1e-14)


def test_least_value_at_risk() -> None:
    """The least of E + 1.645 sd over the frontier."""

    def at(log: float) -> float:
        found = example(float(np.exp(log)))
        return found.expected_cost + 1.645 * found.deviation

    least = optimize.minimize_scalar(at, bounds=(-18.0, -10.0), method="bounded", options={"xatol": 1e-10})
    assert least.fun == pytest.approx(1_877_206.70, abs=0.05)


def test_at_once_and_evenly_are_what_the_cost_model_charges() -> None:
    once = almgren_chriss_trajectory(-1e6, 1.0, 1, **TABLE)
    assert once.expected_cost == pytest.approx(2_562_500.0, rel=1e-13)
    assert once.variance == 0.0
    assert AlmgrenChriss(2.5e-7, 2.5e-6, 0.0625).charge("X", 1e6, 50.0).sum() == pytest.approx(2_562_500.0, rel=1e-13)
    evenly = AlmgrenChriss(2.5e-7, 2.5e-6, 0.0625, horizon=5.0, periods=5).charge("X", 1e6, 50.0).sum()
    assert evenly == pytest.approx(example(0.0).expected_cost, rel=1e-13)


def test_what_is_kept_for_its_drift() -> None:
    # 1.1 % of the order by the formula of the paper and its table, where its text has a digit less
    long = almgren_chriss_trajectory(-1e6, 200.0, 200, risk_aversion=1e-6, drift=0.02, **TABLE)
    assert -long.schedule["remaining"].iloc[100] == pytest.approx(11_080.3, abs=0.1)


@settings(max_examples=20)
@given(
    quantity=st.floats(-1e6, 1e6).filter(lambda q: abs(q) > 1e3),
    periods=st.integers(2, 12),
    log_risk=st.floats(-9.0, -4.0),
    drift=st.sampled_from([0.0, 0.02, -0.01]),
)
def test_against_a_general_minimiser(quantity: float, periods: int, log_risk: float, drift: float) -> None:
    table = TABLE | {"half_spread": 0.0}
    lam = 10.0**log_risk
    found = almgren_chriss_trajectory(quantity, 5.0, periods, risk_aversion=lam, drift=drift, **table)
    inner = -found.schedule["remaining"].to_numpy()[1:-1]

    def goal(left: np.ndarray) -> float:
        return by_minimising(left, quantity, 5.0, table, lam, drift)

    here = goal(inner)
    assert here == pytest.approx(found.expected_cost + lam * found.variance, rel=1e-9, abs=1e-6 * abs(quantity) ** 0.5)
    # a quadratic function: one Newton step from far away, with derivatives by differences, lands on its minimum
    size, n = 1e5, len(inner)
    start, unit = np.zeros(n), np.eye(n) * size
    base = goal(start)
    plus, minus = np.array([goal(e) for e in unit]), np.array([goal(-e) for e in unit])
    pairs = np.array([[goal(a + b) for b in unit] for a in unit])
    hessian = (pairs - plus[:, None] - plus[None, :] + base) / size**2
    newton = -np.linalg.solve(hessian, (plus - minus) / (2 * size))
    np.testing.assert_allclose(inner, newton, rtol=1e-5, atol=1e-3 + 1e-7 * abs(quantity))


@settings(max_examples=30)
@given(log_risk=st.floats(-12.0, 0.0), factor=st.floats(1.01, 100.0))
def test_more_aversion_costs_more_and_risks_less(log_risk: float, factor: float) -> None:
    calm, urgent = example(10.0**log_risk), example(10.0**log_risk * factor)
    assert urgent.expected_cost >= calm.expected_cost * (1 - 1e-12)
    assert urgent.variance <= calm.variance * (1 + 1e-12)
    buy = almgren_chriss_trajectory(1e6, 5.0, 5, risk_aversion=10.0**log_risk, **TABLE)
    assert buy.expected_cost == calm.expected_cost
    np.testing.assert_array_equal(buy.schedule["trade"], -calm.schedule["trade"])
    assert np.isfinite(urgent.schedule.to_numpy()).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"risk_aversion": -1e-5}, "no best schedule"),
        ({"permanent": 6e-6}, "take more periods"),
        ({"drift": 0.02}, "positive risk_aversion"),
        ({"temporary": 0.0}, "temporary must be above 0"),
        ({"volatility": -1.0}, "volatility must be at least 0"),
        ({"quantity": np.nan}, "quantity must be a finite number"),
        ({"horizon": 0.0}, "horizon must be above 0"),
        ({"periods": 2.5}, "whole number"),
    ],
)
def test_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        almgren_chriss_trajectory(**({"quantity": -1e6, "horizon": 5.0, "periods": 5} | TABLE | change))

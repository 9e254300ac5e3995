"""The judge against numbers worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.instances import PROBLEMS, Instance, best_mean, make

# losses of (0.25, 0.75): 0.01, -0.01, 0.035, 0.0
RETURNS = np.array([[0.02, -0.02], [0.01, 0.01], [-0.08, -0.02], [0.06, -0.02]])
WEIGHTS = np.array([0.25, 0.75])
PLAIN = Instance(RETURNS, np.array([0.0025, -0.0125]), cap=0.8, beta=0.5)


@pytest.mark.parametrize(
    ("beta", "cvar"),
    [
        (0.5, (0.035 + 0.01) / 2),  # two whole scenarios
        (0.6, (0.035 + 0.6 * 0.01) / 1.6),  # one and six tenths
        (0.9, 0.035),  # four tenths of the worst
        (0.25, (0.035 + 0.01 + 0.0) / 3),
    ],
)
def test_cvar(beta: float, cvar: float) -> None:
    assert replace(PLAIN, beta=beta).cvar(WEIGHTS) == pytest.approx(cvar, rel=1e-12)


def test_objective() -> None:
    mean = 0.25 * 0.0025 - 0.75 * 0.0125
    assert PLAIN.objective(WEIGHTS) == pytest.approx(mean - 0.0225, rel=1e-12)
    assert replace(PLAIN, reward=0.0, aversion=2.0).objective(WEIGHTS) == pytest.approx(-0.045, rel=1e-12)
    assert replace(PLAIN, aversion=0.0).objective(WEIGHTS) == pytest.approx(mean, rel=1e-12)


def test_violations() -> None:
    posed = replace(
        PLAIN,
        cap=0.7,
        sector=np.array([0, 1]),
        sector_cap=np.array([0.2, 0.9]),
        holdings=np.array([0.5, 0.5]),
        turnover=0.4,
        target=0.0,
        cvar_limit=0.02,
    )
    found = posed.violations(WEIGHTS)
    expected = {
        "budget": 0.0,
        "lower bound": -0.25,
        "cap": 0.05,
        "sector": 0.05,
        "turnover": 0.1,
        "return target": 0.00875 / 0.0125,
        "CVaR limit": 0.0025 / 0.02,
    }
    assert found == pytest.approx(expected, abs=1e-12)
    assert posed.violation(WEIGHTS) == pytest.approx(0.7)
    assert PLAIN.violation(WEIGHTS) == 0.0
    assert PLAIN.violation(np.array([1.1, -0.1])) == pytest.approx(0.3)
    assert PLAIN.violation(np.array([0.5, 0.4])) == pytest.approx(0.1)
    assert PLAIN.violation(np.array([np.nan, 1.0])) == np.inf


def test_best_mean_fills_the_best_assets_up_to_the_cap() -> None:
    posed = Instance(np.zeros((2, 3)), np.array([0.01, 0.03, 0.02]), cap=0.4)
    assert best_mean(posed) == pytest.approx(0.4 * 0.03 + 0.4 * 0.02 + 0.2 * 0.01)


@pytest.mark.parametrize("data", ["factor_t", "bootstrap"])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_instances_repeat(problem: str, data: str) -> None:
    first, second = (make(problem, data, 60, 20) for _ in range(2))
    assert np.array_equal(first.returns, second.returns)
    assert first.returns.shape == (60, 20)
    if problem in ("P2", "P4"):  # equal weights meet their limits
        assert first.violation(np.full(20, 0.05)) <= 1e-15


def test_bootstrap_has_the_bundled_assets_only() -> None:
    with pytest.raises(ValueError, match="20 assets"):
        make("P1", "bootstrap", 60, 21)
    with pytest.raises(ValueError, match="P4"):
        make("P5", "factor_t", 60, 5)

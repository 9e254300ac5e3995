"""Influence functions: against numerical derivatives with respect to the probabilities."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import portfolioopt as po
from portfolioopt.confidence.dependence import deviations, standard_error
from portfolioopt.confidence.linear import NoErrorKnown, expectation, linear, objective, objective_value
from portfolioopt.problem.terms import Expression, View

ASSETS = ["A", "B", "C", "D"]
WEIGHTS = np.array([0.4, 0.3, 0.2, 0.1])
EVEN = pd.Series(0.25, index=ASSETS)


def scenarios(s: int = 60, seed: int = 0, even: bool = False) -> po.ScenarioSet:
    rng = np.random.default_rng([5, seed])
    returns = 0.02 * rng.standard_t(5, (s, 4)) + [0.001, 0.002, 0.0, -0.001]
    p = np.full(s, 1 / s) if even else rng.dirichlet(np.full(s, 2.0))
    return po.ScenarioSet(returns, p, assets=ASSETS)


def view(of: po.ScenarioSet, weights: np.ndarray = WEIGHTS) -> View:
    return View(of, of.mean_array(), np.full(4, 0.25), weights)


COVARIANCE = pd.DataFrame(np.diag([1.0, 2.0, 3.0, 4.0]) * 1e-4, ASSETS, ASSETS)
MEASURES: dict[str, Expression] = {
    "mean": po.ExpectedReturn(),
    "mean given": po.ExpectedReturn(EVEN),
    "cvar": po.CVaR(0.9),
    "cvar active": po.CVaR(0.8, benchmark=EVEN),
    "spectral": po.SpectralRisk({0.5: 0.25, 0.9: 0.75}),
    "robust cvar": po.RobustCVaR(0.9, radius=0.01, norm=2),
    "shortfall": po.ExpectedShortfallBelow(0.001),
    "absolute deviation": po.MeanAbsoluteDeviation(),
    "variance": po.Variance(),
    "variance given": po.Variance(COVARIANCE),
    "volatility": po.Volatility(),
    "tracking error": po.TrackingError(EVEN),
    "semi-deviation": po.SemiDeviation(),
    "semi-deviation below": po.SemiDeviation(0.002),
    "entropic": po.EntropicVaR(0.7),
    "growth": po.LogGrowth(),
    "worst case": po.WorstCase(po.CVaR(0.9), po.CVaR(0.5), po.Volatility()),
    "cost": po.ProportionalCost(7),
    "sum": po.ExpectedReturn() - 0.5 * po.CVaR(0.9) - 2 * po.Variance() - po.ProportionalCost(5),
}


def value(measure: Expression, of: po.ScenarioSet) -> float:
    at = view(of)
    return sum(c * term.value(at) for c, term in measure.parts)


@pytest.mark.parametrize("name", MEASURES)
def test_influence_is_the_derivative_with_respect_to_contamination(name: str) -> None:
    measure, base = MEASURES[name], scenarios()
    p, h = base.probabilities, linear(measure, view(base))(view(base))
    truth = value(measure, base)
    assert expectation(h, p) == pytest.approx(truth, rel=1e-9, abs=1e-12)
    size = float(np.abs(h - truth).max())
    for s in range(0, 60, 7):
        step = 1e-5 if name != "entropic" else 1e-4  # its value is found by bisection

        def moved(t: float, s: int = s) -> float:
            mixed = (1 - t) * p
            mixed[s] += t
            return value(measure, base.reweighted(mixed / mixed.sum()))

        slope = (moved(step) - moved(-step)) / (2 * step)
        assert h[s] - truth == pytest.approx(slope, rel=1e-3, abs=1e-4 * size + 1e-10)


def test_ratio_and_soft_limits() -> None:
    base = scenarios()
    ratio = po.Problem(base, po.ExpectedReturn() / po.CVaR(0.9), [po.Budget(), po.Bounds()])
    h = objective(ratio, view(base))(view(base))
    assert base.probabilities @ h == pytest.approx(objective_value(ratio, view(base)))
    s, step = 3, 1e-6
    ends = []
    for t in (-step, step):
        p = (1 - t) * base.probabilities
        p[s] += t
        ends.append(objective_value(ratio, view(base.reweighted(p / p.sum()))))
    assert h[s] - base.probabilities @ h == pytest.approx((ends[1] - ends[0]) / (2 * step), rel=1e-4)

    soft = po.Soft(po.Bounds(0.0, 0.3), 0.5)
    problem = po.Problem(base, po.ExpectedReturn(), [po.Budget(), soft])
    assert base.probabilities @ objective(problem, view(base))(view(base)) == pytest.approx(
        base.probabilities @ linear(po.ExpectedReturn(), view(base))(view(base)) - 0.5 * 0.1
    )
    moving = po.Problem(base, po.ExpectedReturn(), [po.Budget(), po.Soft(po.CVaRLimit(0.9, 0.01), 0.5)])
    with pytest.raises(NoErrorKnown, match="kink"):
        objective(moving, view(base))


@pytest.mark.parametrize("name", ["cvar", "spectral", "variance", "volatility", "semi-deviation below", "shortfall"])
def test_a_risk_held_where_it_was_is_never_too_small_on_other_scenarios(name: str) -> None:
    measure, base = MEASURES[name], scenarios()
    h = linear(measure, view(base))
    for seed in range(1, 20):
        other = scenarios(30, seed)
        assert other.probabilities @ h(view(other)) >= value(measure, other) - 1e-12


def test_what_has_no_normal_error_is_refused() -> None:
    base = scenarios()
    with pytest.raises(NoErrorKnown, match="not normal"):
        linear(po.WorstLoss(), view(base))
    with pytest.raises(NoErrorKnown, match="scenarios of its own"):
        linear(po.CVaR(0.9, scenarios=scenarios(20, 3)), view(base))
    fixed = linear(po.CVaR(0.9, scenarios=scenarios(20, 3)), view(base), fixed_sets=True)(view(base))
    assert np.ptp(fixed) == 0.0
    with pytest.raises(NoErrorKnown, match="largest loss"):
        linear(po.EntropicVaR(0.999), view(base))


def test_scenarios_that_cannot_happen_do_not_count() -> None:
    returns = np.vstack([0.01 * np.random.default_rng(1).standard_normal((20, 4)), np.full((1, 4), -1.5)])
    p = np.append(np.full(20, 0.05), 0.0)
    base = po.ScenarioSet(returns, p, assets=ASSETS)
    without = po.ScenarioSet(returns[:20], assets=ASSETS)
    h = linear(po.LogGrowth(), view(base))(view(base))
    assert h[-1] == -np.inf
    assert expectation(h, p) == pytest.approx(value(po.LogGrowth(), without))
    error = standard_error(deviations(h, p), p, None)
    own = linear(po.LogGrowth(), view(without))(view(without))
    assert error == pytest.approx(own.std(ddof=1) / np.sqrt(20))

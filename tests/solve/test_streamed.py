"""Scenario sets that are read or made in chunks: the same answers, certificates and reports as in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import portfolioopt as po
from portfolioopt.scenarios import factor_model
from portfolioopt.solve.certificate import evaluate

ASSETS = pd.Index([f"A{i}" for i in range(8)])


def generated(count: int = 6000) -> po.ScenarioSet:
    rng = np.random.default_rng(8)
    exposures = pd.DataFrame(rng.normal(0.8, 0.5, (len(ASSETS), 2)), index=ASSETS)
    return factor_model(
        exposures,
        pd.DataFrame(np.diag([3e-4, 1e-4])),
        pd.Series(rng.uniform(0.005, 0.02, len(ASSETS)), index=ASSETS),
        means=pd.Series(rng.normal(5e-4, 3e-4, len(ASSETS)), index=ASSETS),
        degrees_of_freedom=5.0,
        n_scenarios=count,
        seed=8,
    )


@pytest.fixture(params=["generated", "npy", "parquet"])
def streamed(request: pytest.FixtureRequest, tmp_path: Path) -> po.ScenarioSet:
    scenarios = generated()
    numbers = scenarios.source.rows(np.arange(scenarios.n_scenarios))
    if request.param == "npy":
        np.save(tmp_path / "returns.npy", numbers)
        return po.ScenarioSet.from_npy(tmp_path / "returns.npy", assets=ASSETS)
    if request.param == "parquet":
        pd.DataFrame(numbers, columns=ASSETS).to_parquet(tmp_path / "returns.parquet")
        return po.ScenarioSet.from_parquet(tmp_path / "returns.parquet")
    return scenarios


def problem(scenarios: po.ScenarioSet, limit: float = 0.2) -> po.Problem:
    return po.Problem(
        scenarios,
        po.ExpectedReturn() - 0.05 * po.CVaR(0.95),
        [po.Budget(), po.Bounds(0.0, 0.4), po.CVaRLimit(0.99, limit)],
    )


def in_memory(scenarios: po.ScenarioSet) -> po.ScenarioSet:
    rows = scenarios.source.rows(np.arange(scenarios.n_scenarios))
    return po.ScenarioSet(rows, scenarios.probabilities, assets=scenarios.assets)


def test_the_same_answer_and_report_as_in_memory(streamed: po.ScenarioSet) -> None:
    limit = 0.97 * po.optimize(problem(in_memory(streamed))).risk.loc[0.99, "cvar"]
    ours, theirs = (po.optimize(problem(s, limit)) for s in (streamed, in_memory(streamed)))
    assert ours.status is po.Status.optimal
    assert ours.objective == pytest.approx(theirs.objective, rel=1e-9)
    pd.testing.assert_frame_equal(ours.risk, theirs.risk, rtol=1e-7)
    assert ours.volatility == pytest.approx(theirs.volatility, rel=1e-6)
    assert ours.expected_return == pytest.approx(theirs.expected_return, rel=1e-6)
    pd.testing.assert_frame_equal(
        ours.tail_scenarios(0.95, n=20).reset_index(drop=True),
        theirs.tail_scenarios(0.95, n=20).reset_index(drop=True),
        rtol=1e-6,
    )
    levels = (0.95, 0.99)
    split = po.attribution.risk_contributions(streamed, ours.weights, betas=levels, tail_weights=ours.tail_weights)
    sums = split.groupby("measure", sort=False)["contribution"].sum()
    np.testing.assert_allclose(sums, [*ours.risk["cvar"], ours.volatility], rtol=1e-6)


def test_the_same_certificate_as_in_memory(streamed: po.ScenarioSet) -> None:
    result = po.optimize(problem(in_memory(streamed)))
    compiled, memory = problem(streamed).compiled, result.problem.compiled
    multipliers = result._evaluation.multipliers
    solution = _Solution(multipliers.scenario, multipliers.row, multipliers.cvar_cap, multipliers.l1_cap)
    weights = result.weights.to_numpy()
    ours, theirs = (evaluate(c, weights, solution).certificate for c in (compiled, memory))
    assert ours.objective == pytest.approx(theirs.objective, rel=1e-13)
    assert ours.bound == pytest.approx(theirs.bound, rel=1e-13)
    assert ours.max_violation == pytest.approx(theirs.max_violation, abs=1e-13)
    assert compiled.program.returns.shape == streamed.source.shape
    assert np.isnan(compiled.program.returns[0]).all()


class _Solution:
    """The multipliers of a solution, as far as a certificate looks at them."""

    def __init__(self, scenario: np.ndarray, row: np.ndarray, cvar_cap: np.ndarray, l1_cap: np.ndarray) -> None:
        self.scenario_dual, self.row_dual, self.cvar_cap_dual, self.l1_cap_dual = scenario, row, cvar_cap, l1_cap


def test_a_risk_limit_out_of_reach_is_found_and_measured() -> None:
    scenarios = generated()
    texts = []
    for data in (scenarios, in_memory(scenarios)):
        with pytest.raises(po.InfeasibleError) as caught:
            po.optimize(problem(data, 0.001))
        texts.append(str(caught.value))
    assert "the smallest CVaR the other constraints allow is" in texts[0]
    assert texts[0] == texts[1]


def test_returns_kept_in_single_precision_are_solved_as_they_are() -> None:
    data = in_memory(generated(1500))
    single = po.ScenarioSet(data.matrix, assets=ASSETS, dtype="float32")
    exact = po.ScenarioSet(single.matrix, assets=ASSETS)
    ours, theirs = po.optimize(problem(single)), po.optimize(problem(exact))
    assert ours.objective == pytest.approx(theirs.objective, rel=1e-12)
    assert ours.certificate.gap <= 1e-9

"""Large scenario sets: the band method against all scenarios at once and against another solver."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import portfolioopt as po
from portfolioopt.solve import methods
from tests.oracles.references import check_certificate, solve_linear

N = 6
ASSETS = [f"A{i}" for i in range(N)]
HELD = pd.Series(1 / N, index=ASSETS)
GROUPS = {a: "x" if i < 3 else "y" for i, a in enumerate(ASSETS)}
LIMITS = [po.Budget(), po.Bounds(0.0, 0.5)]


def scenarios(s: int, seed: int, family: str) -> po.ScenarioSet:
    rng = np.random.default_rng([303, seed])
    match family:
        case "student":
            returns = 0.01 * rng.standard_t(3, (s, 2)) @ rng.normal(size=(2, N)) + 0.01 * rng.standard_t(3, (s, N))
        case "ties":
            returns = np.round(0.02 * rng.normal(size=(s, N)), 2)
        case "repeated":
            returns = (0.01 * rng.standard_t(4, (s // 20, N)))[rng.integers(0, s // 20, s)]
        case _:
            raise AssertionError(family)
    weights = rng.dirichlet(np.ones(s)) if seed % 2 else None
    return po.ScenarioSet(returns + 1e-3 * rng.normal(size=N), weights, assets=ASSETS)


def problems(data: po.ScenarioSet) -> dict[str, po.Problem]:
    gain, risk, cost = po.ExpectedReturn(), po.CVaR(0.95), po.ProportionalCost(20)
    safest = po.optimize(po.Problem(data, -risk, LIMITS)).risk["cvar"].iloc[0]
    even = data.mean().mean()
    return {
        "utility": po.Problem(data, gain - risk, LIMITS),
        "groups and turnover": po.Problem(
            data,
            gain - risk - cost,
            [*LIMITS, po.GroupLimit(GROUPS, upper={"x": 0.6}), po.Turnover(0.4)],
            holdings=HELD,
        ),
        "return target": po.Problem(data, -risk, [*LIMITS, po.ReturnTarget(float(even))]),
        "CVaR limit": po.Problem(data, gain, [*LIMITS, po.CVaRLimit(0.95, 1.1 * float(safest))]),
        "several levels": po.Problem(
            data, gain - 0.5 * po.CVaR(0.9) - 0.1 * po.CVaR(0.99), [*LIMITS, po.CVaRLimit(0.95, 1.1 * float(safest))]
        ),
    }


@pytest.fixture
def small_bands(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Bands on problems that would otherwise be solved at once; lists what every band solve gave."""
    seen: list[Any] = []
    solve = methods._Bands.solve

    def watched(self: Any) -> Any:
        out = solve(self)
        seen.append(out[0] is not None)
        return out

    monkeypatch.setattr(methods, "CELLS", 0)
    monkeypatch.setattr(methods, "WARM_CELLS", 0)
    monkeypatch.setattr(methods._Bands, "solve", watched)
    return seen


@pytest.mark.parametrize("family", ["student", "ties", "repeated"])
@pytest.mark.parametrize("seed", [0, 1])
def test_bands_find_what_all_scenarios_give(family: str, seed: int, small_bands: list[Any]) -> None:
    data = scenarios(2400, seed, family)
    for name, problem in problems(data).items():
        banded = po.optimize(problem)
        reference = solve_linear(problem)
        assert banded.certificate is not None
        assert banded.objective == pytest.approx(reference.optimum, abs=1e-8 * banded.certificate.scale), name
        check_certificate(banded, reference)
        again = po.optimize(problem, warm_start=banded)
        assert again.objective == pytest.approx(banded.objective, abs=1e-8 * banded.certificate.scale)
    assert np.mean(small_bands) > 0.7, "the band method gave up too often"


def test_a_sample_comes_first_where_there_are_very_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(methods, "band_size", lambda s, n, m: 200)
    monkeypatch.setattr(methods, "CELLS", 0)
    data = scenarios(12_000, 0, "student")
    problem = po.Problem(data, po.ExpectedReturn() - po.CVaR(0.95), LIMITS)
    result = po.optimize(problem)
    reference = solve_linear(problem)
    assert result.certificate is not None
    assert result.objective == pytest.approx(reference.optimum, abs=1e-8 * result.certificate.scale)
    assert result.passes < 10.0


def test_float32_storage_gives_the_answer_to_the_stored_numbers() -> None:
    data = scenarios(3000, 0, "student")
    single = po.ScenarioSet(data.matrix.astype(np.float32), assets=ASSETS, dtype="float32")
    exact = po.ScenarioSet(single.matrix.astype(np.float64), assets=ASSETS)
    one, other = (po.optimize(problems(d)["utility"]) for d in (single, exact))
    assert one.objective == pytest.approx(other.objective, rel=1e-12)
    assert one.certificate is not None
    assert one.certificate.gap <= 1e-10

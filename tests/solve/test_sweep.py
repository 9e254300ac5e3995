"""Sweeps: every point is what solving it alone gives, and nothing is lost on the way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import portfolioopt as po
from portfolioopt.solve.engine import compilations
from portfolioopt.solve.sweep import _snake

ASSETS = [f"A{i}" for i in range(8)]


def scenarios(s: int = 120, seed: int = 0) -> po.ScenarioSet:
    rng = np.random.default_rng([77, seed])
    returns = 0.01 * rng.standard_t(4, (s, 3)) @ rng.normal(size=(3, 8)) + 0.01 * rng.standard_t(4, (s, 8)) + 1e-3
    return po.ScenarioSet(returns, assets=ASSETS)


def problem(s: int = 120) -> po.Problem:
    held = pd.Series(1 / 8, index=ASSETS)
    groups = {a: "x" if i < 4 else "y" for i, a in enumerate(ASSETS)}
    return po.Problem(
        scenarios(s),
        po.ExpectedReturn() - 0.5 * po.CVaR(0.9) - po.ProportionalCost(5),
        [po.Budget(), po.Bounds(0.0, 0.5), po.Turnover(0.8), po.GroupLimit(groups, upper={"x": 0.7})],
        holdings=held,
    )


def check(sweep: po.Sweep) -> None:
    """Every point against the same problem solved alone."""
    frame = sweep.frame
    assert len(frame) == len(sweep)
    rows = frame.to_dict("index")
    for point in range(len(sweep)):
        alone = po.optimize(sweep.problem_at(point), raise_on_failure=False)
        row = rows[point]
        assert row["status"] == alone.status.name
        if alone.certificate is None:
            assert np.isnan(row["objective"])
            assert row["message"] == alone.message
            continue
        assert row["objective"] == pytest.approx(alone.objective, abs=1e-9 * alone.certificate.scale)
        assert row["gap"] <= 1e-6
        assert row["max_violation"] <= 1e-8
        weights = sweep.weights.loc[point]
        assert row["expected_return"] == pytest.approx(float(sweep.problem_at(point).scenarios.mean() @ weights))
        beta = sweep.problem_at(point).compiled.betas[0]
        assert row[f"cvar[{beta:g}]"] == pytest.approx(sweep.problem_at(point).scenarios.tail(weights, beta).cvar)


MEANS = [scenarios().mean() * (1 + 0.5 * np.random.default_rng(i).standard_normal(8)) for i in range(3)]
AXES = {
    "term weights": {"CVaR.weight": [0.0, 0.3, 2.0], "ExpectedReturn.weight": [0.5, 1.0]},
    "levels": {"CVaR.beta": [0.8, 0.9, 0.97]},
    "limits": {"Turnover.limit": [0.0, 0.2, 5.0 / 3], "GroupLimit.upper": [{"x": 0.4}, {"x": 0.9}]},
    "bounds": {"Bounds.upper": [0.2, {**dict.fromkeys(ASSETS, 0.5), "A3": 0.0}], "Bounds.lower": [0.0, -0.02]},
    "holdings": {"holdings": {"first": pd.Series(np.eye(8)[0], ASSETS), "cash": dict.fromkeys(ASSETS, 0.0)}},
    "probabilities": {"probabilities": [None, np.arange(1, 121) / np.arange(1, 121).sum()], "CVaR.weight": [0.1, 1.0]},
    "means": {"ExpectedReturn.mean": MEANS},
    "means and weights": {"ExpectedReturn.mean": MEANS, "ExpectedReturn.weight": [0.5, 2.0]},  # both move one array
    "costs": {"ProportionalCost.bps": [0.0, 20.0], "ProportionalCost.weight": [0.0, 3.0]},
    "windows": {"scenarios": [slice(i, i + 90) for i in (0, 1, 3, 30, 29)], "CVaR.weight": [0.2, 1.0]},
    "windows of other lengths": {"scenarios": [slice(0, 60), slice(0, 120)]},
    "other scenarios": {"scenarios": [scenarios(seed=1), scenarios(seed=2)]},
    "no portfolio": {"Budget.total": [1.0, 5.0]},
}


@pytest.mark.parametrize("name", AXES)
def test_every_point_is_what_solving_it_alone_gives(name: str) -> None:
    check(po.sweep(problem(), AXES[name]))


def test_zip_goes_along_all_axes_at_once() -> None:
    sweep = po.sweep(problem(), {"CVaR.weight": [0.1, 0.5, 2.0], "Turnover.limit": [0.2, 0.4, 0.6]}, how="zip")
    assert sweep.frame[["CVaR.weight", "Turnover.limit"]].to_numpy().tolist() == [[0.1, 0.2], [0.5, 0.4], [2.0, 0.6]]
    check(sweep)


def test_points_are_in_the_order_of_the_product_and_labelled() -> None:
    frame = po.sweep(problem(), {"CVaR.weight": {"low": 0.1, "high": 2.0}, "Turnover.limit": [0.1, 0.2, 0.3]}).frame
    assert frame["CVaR.weight"].tolist() == ["low"] * 3 + ["high"] * 3
    assert frame["Turnover.limit"].tolist() == [0.1, 0.2, 0.3] * 2


@pytest.mark.parametrize("lengths", [[1], [5], [2, 3], [3, 2, 4], [1, 4], [2, 2, 2, 2]])
def test_the_path_visits_every_point_once_and_moves_one_axis_by_one(lengths: list[int]) -> None:
    path = _snake(lengths)
    assert sorted(path) == list(range(int(np.prod(lengths))))
    points = np.array(np.unravel_index(path, lengths)).T
    assert (np.abs(np.diff(points, axis=0)).sum(axis=1) == 1).all()


def test_many_points_in_several_lanes_and_a_file(tmp_path: Path) -> None:
    over = {"CVaR.weight": np.linspace(0.05, 2.0, 15), "Turnover.limit": np.linspace(0.0, 1.0, 15)}
    sweep = po.sweep(problem(), over, workers=3)
    alone = po.sweep(problem(), over, workers=1)
    assert (sweep.frame["status"] == "optimal").all()
    np.testing.assert_allclose(sweep.frame["objective"], alone.frame["objective"], atol=1e-12)
    file = po.sweep(problem(), over, to=tmp_path / "points.parquet")
    same = [*over, "status", "objective", "message"]
    pd.testing.assert_frame_equal(file.frame[same], alone.frame[same], atol=1e-12, check_dtype=False)
    assert file.frame.columns.equals(alone.frame.columns)
    assert len(file.weights.columns) == 8
    assert "225 optimal" in repr(file)


def test_a_second_sweep_compiles_nothing() -> None:
    po.sweep(problem(), {"CVaR.weight": [0.1, 0.2]})
    before = compilations()
    po.sweep(problem(), {"Turnover.limit": [0.3, 0.4], "Bounds.upper": [0.3, 0.5]})
    po.sweep(problem(), {"ExpectedReturn.mean": MEANS})
    assert compilations() == before


@pytest.mark.parametrize(
    ("over", "words"),
    [
        ({"CVaR.wieght": [1.0]}, r"CVaR\.weight"),
        ({"Turnovr.limit": [1.0]}, r"Turnover\.limit"),
        ({"nothing": [1.0]}, "holdings"),
        ({"CVaR.weight": [1.0, -1.0]}, "value -1.0: the weight of CVaR.* cannot be -1"),
        ({"CVaR.weight": ["a"]}, "value 'a': the weight of CVaR.* must be a finite number"),
        ({"CVaR.weight": 1.0}, "must be a list"),
        ({"CVaR.weight": []}, "no values"),
        ({"Bounds.upper": [0.5, 50.0]}, "value 50.0: "),
        ({"scenarios": [slice(0, 500)]}, "no scenarios 0 to 500"),
        ({"scenarios": [slice(0, 100, 2)]}, "window"),
        ({}, "over must map"),
    ],
)
def test_axes_that_are_refused(over: dict[str, object], words: str) -> None:
    with pytest.raises(po.InputError, match=words):
        po.sweep(problem(), over)


def test_axes_of_different_lengths_cannot_be_zipped() -> None:
    with pytest.raises(po.InputError, match=r"CVaR\.weight 1, Turnover\.limit 2"):
        po.sweep(problem(), {"CVaR.weight": [1.0], "Turnover.limit": [0.1, 0.2]}, how="zip")


# -- frontier --------------------------------------------------------------------------------------------------------
def test_a_frontier_is_least_risk_at_every_return() -> None:
    sweep = po.frontier(problem(), 12)
    frame = sweep.frame
    check(sweep)
    assert (np.diff(frame["expected_return"]) > -1e-12).all()
    risk = frame["cvar[0.9]"] + 0.0005 * (sweep.weights - 1 / 8).abs().sum(axis=1)
    assert (np.diff(risk) > -1e-12).all()
    assert (np.diff(risk, 2) > -1e-9).all()  # convex in the target


def test_a_frontier_needs_to_know_its_level() -> None:
    with pytest.raises(po.InputError, match="0 CVaR terms"):
        po.frontier(problem().replace(objective=po.ExpectedReturn()))
    assert len(po.frontier(problem().replace(objective=po.ExpectedReturn()), 3, beta=0.9)) == 3
    with pytest.raises(po.InputError, match="ReturnTarget"):
        po.frontier(problem().replace(constraints=[po.Budget(), po.ReturnTarget(0.0)], objective=-po.CVaR(0.9)))
    with pytest.raises(po.InputError, match="at least 2 points"):
        po.frontier(problem(), 1)
    with pytest.raises(po.InfeasibleError):
        po.frontier(problem().replace(constraints=[po.Budget(3.0), po.Bounds(0.0, 0.2)]))


# -- warm starts -----------------------------------------------------------------------------------------------------
def test_an_unchanged_problem_is_only_verified() -> None:
    first = po.optimize(problem())
    again = po.optimize(problem(), warm_start=first)
    assert again.iterations == 0
    assert again.passes <= 1.0
    assert again.objective == pytest.approx(first.objective, rel=1e-12)


def test_a_sliding_window_begins_where_the_last_one_ended() -> None:
    rng = np.random.default_rng(5)
    returns = 0.01 * rng.standard_t(4, (220, 8)) + 1e-3 * rng.normal(size=8)
    frame = pd.DataFrame(returns, columns=ASSETS, index=pd.bdate_range("2020-01-01", periods=220))
    cold = warm = 0
    previous = None
    po.optimize(problem(200))
    for i in range(20):
        window = po.ScenarioSet(frame.iloc[i : i + 200])
        step = po.Problem(window, po.ExpectedReturn() - po.CVaR(0.95), [po.Budget(), po.Bounds(0.0, 0.4)])
        alone = po.optimize(step)
        previous = po.optimize(step, warm_start=previous)
        assert previous.objective == pytest.approx(alone.objective, rel=1e-10)
        assert previous.status is po.Status.optimal
        cold, warm = cold + alone.iterations, warm + previous.iterations
    shapes = compilations()
    po.optimize(step, warm_start=previous)
    assert compilations() == shapes
    assert warm < 0.5 * cold


def test_a_warm_start_from_anything_else_is_harmless_or_refused() -> None:
    base = problem()
    answer = po.optimize(base)
    other_level = base.replace(objective=po.ExpectedReturn() - po.CVaR(0.8) - 0.1 * po.CVaR(0.95))
    fewer = base.replace(constraints=[po.Budget(), po.Bounds(0.0, 0.3)])
    infeasible = po.optimize(base.replace(constraints=[po.Budget(9.0), po.Bounds()]), raise_on_failure=False)
    for changed in (other_level, fewer, base.replace(scenarios=scenarios(130, 4))):
        for start in (answer, infeasible):
            warm, cold = po.optimize(changed, warm_start=start), po.optimize(changed)
            assert warm.objective == pytest.approx(cold.objective, abs=1e-10)
    elsewhere = po.ScenarioSet(scenarios().matrix, assets=[f"B{i}" for i in range(8)])
    with pytest.raises(po.InputError, match="other assets"):
        po.optimize(po.Problem(elsewhere, -po.CVaR(0.9), [po.Budget(), po.Bounds()]), warm_start=answer)
    with pytest.raises(po.InputError, match="warm_start takes a Result"):
        po.optimize(base, warm_start=answer.weights)  # type: ignore[arg-type]


def test_a_window_without_labels_is_recognised_by_its_returns() -> None:
    rng = np.random.default_rng(6)
    returns = 0.01 * rng.standard_t(4, (230, 8)) + 1e-3 * rng.normal(size=8)
    step = po.Problem(po.ScenarioSet(returns[:200], assets=ASSETS), po.ExpectedReturn() - po.CVaR(0.95), [po.Budget()])
    loop = po.Resolver(step.replace(constraints=[po.Budget(), po.Bounds(0.0, 0.4)]))
    first = loop.solve()
    counts = []
    for i in range(1, 25):
        result = loop.solve({"scenarios": po.ScenarioSet(returns[i : i + 200], assets=ASSETS)})
        assert result.objective == pytest.approx(po.optimize(loop.problem).objective, rel=1e-10)
        counts.append(result.iterations)
    assert np.mean(counts) < 0.5 * first.iterations


def test_a_resolver_keeps_its_problem_when_a_change_is_refused() -> None:
    loop = po.Resolver(problem())
    before = loop.solve().objective
    with pytest.raises(po.InputError, match="Turnover"):
        loop.solve({"Turnover.limit": -1.0})
    assert loop.solve().objective == pytest.approx(before, rel=1e-12)
    held = loop.solve({"holdings": loop.result.weights, "Turnover.limit": 0.0})  # type: ignore[union-attr]
    assert held.objective == pytest.approx(before + 0.0005 * 0.0, abs=1e-3)
    with pytest.raises(po.InfeasibleError):
        loop.solve({"Budget.total": 7.0})
    assert loop.solve({"Budget.total": 1.0}).status is po.Status.optimal

"""What-ifs as arrays: every number of every point is what solving that point alone gives."""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import portfolioopt as po
from portfolioopt.problem.box import implied_box
from portfolioopt.solve.axes import axis
from portfolioopt.solve.certificate import evaluate, line_values, repair_measure, term_values, violation
from portfolioopt.solve.pieces import Batch, agree, pieces, signature
from portfolioopt.solve.points import Points
from portfolioopt.solve.points_box import implied_boxes
from portfolioopt.solve.points_certificate import repaired_measures, stand, tails
from portfolioopt.solve.together import chainable
from portfolioopt.solve.what_ifs import WhatIfs, neighbours, what_ifs
from portfolioopt_kernels import Solution, exchange

N, S = 6, 90
ASSETS = pd.Index([f"A{i}" for i in range(N)])
GROUPS = {a: "x" if i < 3 else "y" for i, a in enumerate(ASSETS)}


def scenarios(seed: int = 0, *, weighed: bool = True) -> po.ScenarioSet:
    rng = np.random.default_rng([53, seed])
    returns = 0.01 * rng.standard_t(4, (S, 2)) @ rng.normal(size=(2, N)) + 0.01 * rng.standard_t(4, (S, N)) + 2e-3
    p = rng.dirichlet(np.full(S, 3.0)) if weighed else None
    if p is not None:
        p[:3] = 0.0
        p /= p.sum()
    return po.ScenarioSet(returns, assets=ASSETS, probabilities=p)


def everything(seed: int = 0, *, weighed: bool = True, **other: Any) -> po.Problem:
    """One problem with all that a batch takes, so that one kernel serves many tests."""
    s = scenarios(seed, weighed=weighed)
    rng = np.random.default_rng([54, seed])
    held = pd.Series(rng.dirichlet(np.ones(N)), ASSETS)
    parts: dict[str, Any] = {
        "budget": po.Budget(lower=0.9, upper=1.0),
        "bounds": po.Bounds(-0.05, 0.6),
        "groups": po.GroupLimit(GROUPS, lower={"y": 0.1}, upper={"x": 0.7}),
        "line": po.LinearLimit("A0 + A0 + A1 - A5 <= 0.8"),
        "turnover": po.Turnover(1.1),
        "trades": po.TradeLimit(0.5),
        "tail": po.CVaRLimit(0.95, 0.05),
        "target": po.ReturnTarget(-0.01),
        "buys": po.Turnover(0.7, side="buy", name="Buys"),
    } | other
    objective = po.ExpectedReturn() - 0.3 * po.CVaR(0.8) - po.ProportionalCost(8.0, sell=12.0)
    return po.Problem(s, objective, list(parts.values()), holdings=held)


def books(r: int, seed: int = 3) -> list[pd.Series]:
    rng = np.random.default_rng(seed)
    return [pd.Series(row, ASSETS) for row in rng.dirichlet(np.ones(N), r)]


def check(found: WhatIfs, *, unique: bool = True) -> None:
    """All points against the same problems solved alone."""
    for i in range(len(found)):
        problem = found.problem_at(i)
        alone = po.optimize(problem, raise_on_failure=False)
        assert found.status[i] == alone.status.name, i
        if alone.certificate is None:
            assert found.message[i] == alone.message
            assert np.isnan(found.weights[i]).all()
            assert np.isnan(
                [found.objective[i], found.bound[i], found.volatility[i], *[v[i] for v in found.cvar.values()]]
            ).all()
            assert not found.binding[i].any()
            continue
        c = alone.certificate
        assert found.message[i] == ""
        assert found.objective[i] == pytest.approx(c.objective, abs=1e-9 * c.scale)
        assert found.bound[i] == pytest.approx(c.bound, abs=1e-9 * c.scale)
        assert abs(found.gap[i]) <= 1e-6
        assert found.max_violation[i] <= 1e-8
        weights = pd.Series(found.weights[i], ASSETS)
        if unique:
            np.testing.assert_allclose(weights, alone.weights, atol=1e-8)
            assert dict(zip(found.constraints, found.binding[i].tolist(), strict=True)) == {
                name: alone.binding.get(name, 0) for name in found.constraints
            }
        # figures of these very weights, from the definitions
        s = problem.scenarios
        p, gains = s.probabilities, s.matrix @ weights.to_numpy()
        assert found.expected_return[i] == pytest.approx(p @ gains, abs=1e-14)
        assert found.volatility[i] == pytest.approx(np.sqrt(p @ (gains - p @ gains) ** 2), abs=1e-12)
        for beta in alone.tails:
            tail = s.tail(weights, beta)
            assert found.var[beta][i] == pytest.approx(tail.var, abs=1e-12)
            assert found.cvar[beta][i] == pytest.approx(tail.cvar, abs=1e-12)
        if problem.ratio is None:
            view = problem.compiled.view(found.weights[i])
            lines = line_values(problem.compiled, view)
            values = term_values(problem.compiled, view, lines)
            total = sum(t.coefficient * v for t, v in zip(problem.compiled.terms, values, strict=True))
            assert found.objective[i] == pytest.approx(total, abs=1e-12)
            groups = zip(problem.compiled.lines, lines, strict=True)
            worst = [violation(problem.compiled, view, group, line).max() for group, line in groups if not group.soft]
            assert found.max_violation[i] == pytest.approx(max(worst), abs=1e-12)


R = 14
RANGE = np.random.default_rng(0)
AXES: dict[str, dict[str, Any]] = {
    "weights and bounds": {"CVaR.weight": np.linspace(0.0, 2.0, R), "Bounds.upper": np.linspace(0.2, 0.9, R)[::-1]},
    "two that bound weights": {
        "Bounds.upper": np.linspace(0.2, 0.9, R),
        "TradeLimit.limit": np.linspace(0.05, 1.2, R)[::-1],
        "holdings": books(R),
    },
    "caps": {
        "Turnover.limit": np.linspace(0.05, 1.5, R),
        "Buys.limit": np.linspace(0.8, 0.05, R),
        "CVaRLimit(0.95).limit": np.linspace(0.01, 0.06, R),
    },
    "caps of buys and holdings": {"Buys.limit": np.linspace(0.8, 0.05, R), "holdings": books(R)},
    "rows": {
        "Budget.lower": np.linspace(0.5, 0.95, R),
        "ReturnTarget.target": np.linspace(-0.01, 0.004, R),
        "GroupLimit.upper": [{"x": float(u)} for u in np.linspace(0.3, 0.9, R)],
        "holdings": books(R),
    },
    "costs": {
        "ProportionalCost.bps": [*np.linspace(0.0, 60.0, R - 1), {**dict.fromkeys(ASSETS, 3.0), "A1": 90.0}],
        "ProportionalCost.weight": np.tile([0.5, 2.0], R // 2),
        "holdings": books(R),
    },
    "levels": {"CVaR.beta": np.repeat([0.8, 0.9], R // 2), "holdings": books(R)},
    "equal levels": {"CVaR.beta": np.repeat([0.8, 0.95], R // 2), "CVaR.weight": np.tile([0.2, 0.9], R // 2)},
    "means": {
        "ExpectedReturn.mean": [scenarios(i % 3).mean() for i in range(R)],
        "ExpectedReturn.weight": np.linspace(0.5, 2.0, R),
    },
    "probabilities": {
        "probabilities": [None, RANGE.dirichlet(np.ones(S))] * (R // 2),
        "CVaR.weight": np.linspace(0.1, 0.8, R),
        "holdings": books(R),
    },
    "other scenarios of one term": {
        "CVaR.scenarios": [None, scenarios(7), scenarios(8), None] + [None] * (R - 4),
        "Bounds.upper": np.linspace(0.4, 0.6, R),
    },
    "no bounds from below": {"Bounds.lower": [-np.inf, -0.1] * (R // 2), "holdings": books(R)},
    "no portfolio": {"ReturnTarget.target": np.r_[np.linspace(0.0, 0.003, R - 2), 0.5, 0.7], "holdings": books(R)},
}


@pytest.mark.parametrize("name", AXES)
def test_every_point_is_what_solving_it_alone_gives(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = []

    def counted(problem: po.Problem, **options: Any) -> po.Result:
        alone.append(po.optimize(problem, **options))
        return alone[-1]

    with monkeypatch.context() as patch:
        patch.setattr(importlib.import_module("portfolioopt.solve.what_ifs"), "optimize", counted)
        found = what_ifs(everything(), AXES[name])
    check(found)
    if name != "other scenarios of one term":  # points with an answer have it from the batch
        assert all(result.status is not po.Status.optimal for result in alone)
        assert found.iterations.sum() > len(found) / 2


@pytest.mark.parametrize("seed", range(1, 3))
def test_random_problems_with_equal_probabilities(seed: int) -> None:
    rng = np.random.default_rng(seed)
    changes = {
        "CVaR.weight": rng.choice([0.1, 0.4, 1.5], R),
        "Bounds.upper": rng.choice([0.3, 0.5, 0.8], R),
        "Bounds.lower": rng.uniform(-0.2, 0.0, R),
        "Turnover.limit": rng.uniform(0.2, 1.5, R),
        "holdings": pd.DataFrame(rng.dirichlet(np.ones(N), R), columns=ASSETS)[ASSETS[::-1]],
    }
    check(what_ifs(everything(seed, weighed=False), changes))


def test_a_sweep_knows_that_of_two_bounds_the_tighter_one_counts() -> None:
    problem = everything(bounds=po.Bounds(-0.05, 0.15), trades=po.TradeLimit(0.1)).replace(
        holdings=pd.Series(0.1, ASSETS)
    )
    over = {"Bounds.upper": [0.2, 0.5], "TradeLimit.limit": [0.1, 0.3]}
    for limits in (False, True):
        frame = po.sweep(problem, over, limits=limits).frame
        for i, row in enumerate(frame.itertuples()):
            changed = problem.replace(
                constraints=[
                    po.Bounds(-0.05, over["Bounds.upper"][i // 2])
                    if c.name == "Bounds"
                    else po.TradeLimit(over["TradeLimit.limit"][i % 2])
                    if c.name == "TradeLimit"
                    else c
                    for c in problem.constraints
                ]
            )
            alone = po.optimize(changed, raise_on_failure=False)
            assert row.status == alone.status.name
            assert row.objective == pytest.approx(alone.objective, abs=1e-10, nan_ok=True)


def test_means_may_take_the_place_of_a_mean() -> None:
    s = scenarios()
    problem = po.Problem(
        s, po.ExpectedReturn(s.mean()) - po.CVaR(0.8), [po.Budget(), po.Bounds(0.0, 0.5)], holdings=books(1)[0]
    )
    changes = {"ExpectedReturn.mean": [s.mean() * k for k in (0.5, 1.0, 2.0)], "CVaR.weight": [0.1, 0.2, 0.3]}
    check(what_ifs(problem, changes))
    assert (po.sweep(problem, changes, limits=True).frame["status"] == "optimal").all()


def test_books_that_nothing_looks_at() -> None:
    problem = po.Problem(scenarios(), po.ExpectedReturn() - po.CVaR(0.8), [po.Budget(), po.Bounds(0.0, 0.5)])
    found = what_ifs(problem, {"holdings": books(5), "CVaR.weight": [1.0, 1.0, 0.5, 0.4, 0.4]})
    check(found)
    np.testing.assert_allclose(found.weights[0], found.weights[1], atol=1e-12)


# -- random structures -----------------------------------------------------------------------------------------------
def random_case(seed: int) -> tuple[po.Problem, dict[str, Any]]:
    """Some terms and constraints, and some of their numbers moved, a book for each point among them."""
    rng = np.random.default_rng([55, seed])
    r = 16
    s = scenarios(seed, weighed=bool(rng.integers(2)))
    tilt = pd.Series(rng.normal(size=N), ASSETS)
    benchmark = pd.Series(rng.dirichlet(np.ones(N)), ASSETS)
    terms: list[tuple[Any, dict[str, Any]]] = [
        (-0.5 * po.ProportionalCost(8.0, sell=3.0), {"ProportionalCost.bps": rng.choice([2.0, 30.0], r)}),
        (-1.0 * po.ProportionalCost(8.0), {"ProportionalCost.weight": rng.uniform(0.0, 2.0, r)}),
        (-1.0 * po.BorrowCost(10.0), {"BorrowCost.bps": rng.uniform(1.0, 50.0, r)}),
        (-0.3 * po.SpectralRisk({0.8: 0.4, 0.9: 0.6}), {}),
        (-0.1 * po.WorstLoss(), {"WorstLoss.weight": rng.uniform(0.0, 0.2, r)}),
        (-0.2 * po.CVaR(0.9, benchmark=benchmark), {}),
        (-0.1 * po.CVaR(0.85, scenarios=s.reweighted(None)), {}),
    ]
    del terms[rng.integers(2)]  # one cost of trades is enough
    constraints: list[tuple[Any, dict[str, Any]]] = [
        (po.GroupLimit(GROUPS, upper={"x": 0.7}), {"GroupLimit.upper": [{"x": u} for u in rng.uniform(0.3, 0.9, r)]}),
        (po.Turnover(1.0), {"Turnover.limit": rng.choice([0.0, 0.3, 1.0], r)}),
        (po.Turnover(0.5, side="sell", name="Sells"), {"Sells.limit": rng.uniform(0.1, 0.8, r)}),
        (po.TradeLimit(0.4), {"TradeLimit.limit": rng.uniform(0.1, 1.0, r)}),
        (po.CVaRLimit(0.95, 0.05), {}),
        (po.NoTrade(["A2"]), {}),
        (po.MustHold({"A1": 0.02}), {}),
        (po.FactorExposure(tilt.to_frame("f"), upper={"f": 1.0}), {}),
        (po.Soft(po.Turnover(0.3, name="Smooth"), penalty=0.02), {"Smooth.penalty": rng.uniform(0.001, 0.02, r)}),
        (po.Soft(po.TradeLimit(0.1, name="Calm"), penalty=0.02), {"Calm.limit": rng.uniform(0.05, 0.2, r)}),
        (po.Limit(po.GrossExposure(), upper=1.3, name="Gross"), {"Gross.upper": rng.uniform(1.05, 1.5, r)}),
        (po.Limit(po.ShortExposure() + po.TradedAmount("buy"), upper=1.2, name="Both"), {}),
        (po.Limit(po.ActiveShare(benchmark), upper=0.8, name="Active"), {}),
        (po.Limit(po.CVaR(0.9) + 2.0 * po.ProportionalCost(5.0, sell=9.0), upper=0.06, name="Tail"), {}),
    ]
    changes: dict[str, Any] = {"CVaR(beta=0.8).weight": rng.uniform(0.05, 1.5, r)}
    objective = po.ExpectedReturn() - 0.3 * po.CVaR(0.8)
    chosen = []
    for part, moved in (terms[i] for i in rng.choice(len(terms), 2, replace=False)):
        objective = objective + part
        changes |= moved if rng.integers(2) else {}
    for part, moved in (constraints[i] for i in rng.choice(len(constraints), 4, replace=False)):
        chosen.append(part)
        changes |= moved if rng.integers(2) else {}
    if rng.integers(2):
        changes["Bounds.upper"] = rng.uniform(0.25, 0.8, r)
    held = [pd.Series(row, ASSETS) for row in rng.dirichlet(np.ones(N), r)]
    held[3] = pd.Series(0.0, ASSETS)
    changes["holdings"] = held
    lower = rng.choice([-0.1, -np.inf])
    problem = po.Problem(s, objective, [po.Budget(), po.Bounds(lower, 0.6), *chosen], holdings=held[0])
    if len([t for _, t in problem.objective.parts if isinstance(t, po.CVaR)]) == 1:
        changes["CVaR.weight"] = changes.pop("CVaR(beta=0.8).weight")
    return problem, changes


def test_points_are_put_together_as_they_are_compiled() -> None:
    """All pieces of all points, not only of those that are compared anyway."""
    together = 0
    for seed in range(40):
        problem, changes = random_case(seed)
        if not chainable(problem):
            continue
        axes = [axis(problem, name, values) for name, values in changes.items()]
        positions = np.repeat(np.arange(16)[:, None], len(axes), axis=1)
        points = Points(problem, axes, positions, np.arange(16))
        seen: list[int] = []
        for batch in points.batches():
            seen += batch.points.tolist()
            own = [book.to_numpy() for book in changes["holdings"]]
            compiled_for = batch.base.holdings
            together += 0 if any(np.array_equal(compiled_for, book) for book in own) else len(batch.points)
            for row, point in enumerate(batch.points.tolist()):
                compiled = points.problem_at(point).compiled
                assert signature(compiled) == signature(batch.base)
                for name, value in pieces(compiled).items():
                    column = batch.columns[name]
                    assert agree(column.pool[column.number(np.array([row]))[0]], value), (seed, point, name)
        assert sorted(seen) == list(range(16))
    assert together > 150  # the others have axes that move the same pieces


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_random_structures(seed: int) -> None:
    problem, changes = random_case(seed)
    check(what_ifs(problem, changes), unique=False)


# -- how they are put together ---------------------------------------------------------------------------------------
def compiled_points(changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> tuple[Points, list[Batch], int]:
    """The points, their batches, and how many problems were compiled for them."""
    from portfolioopt.problem import problem as module

    problem = everything()
    count = 0
    compile_problem = module.compile_problem

    def counted(*given: Any) -> Any:
        nonlocal count
        count += 1
        return compile_problem(*given)

    monkeypatch.setattr(module, "compile_problem", counted)
    axes = [axis(problem, name, values) for name, values in changes.items()]
    r = len(axes[0].choices)
    points = Points(problem, axes, np.repeat(np.arange(r)[:, None], len(axes), axis=1), np.arange(r))
    return points, list(points.batches()), count


def test_few_points_are_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    r = 200
    rng = np.random.default_rng(1)
    changes = {
        "CVaR.weight": rng.uniform(0.1, 2.0, r),
        "Bounds.upper": rng.uniform(0.3, 0.9, r),
        "TradeLimit.limit": rng.uniform(0.1, 1.0, r),
        "Buys.limit": rng.uniform(0.1, 1.0, r),
        "holdings": books(r),
    }
    _, batches, count = compiled_points(changes, monkeypatch)
    assert [len(batch.points) for batch in batches] == [r]
    assert count <= 24


def test_points_that_share_a_block_by_chance_are_told_apart() -> None:
    # turnover and gross exposure have one reference where the book is empty, and are one block then
    problem = po.Problem(
        scenarios(),
        po.ExpectedReturn() - po.CVaR(0.8),
        [po.Budget(), po.Bounds(-1.0, 1.0), po.Turnover(1.2), po.Limit(po.GrossExposure(), upper=1.4)],
        holdings=books(1)[0],
    )
    held = [*books(9), pd.Series(0.0, ASSETS)]
    axes = [axis(problem, "holdings", held)]
    batches = list(Points(problem, axes, np.arange(10)[:, None], np.arange(10)).batches())
    assert [batch.points.tolist() for batch in batches] == [list(range(9)), [9]]


def test_what_does_not_follow_the_rules_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    import portfolioopt.solve.points as module

    wrong = module.with_holdings

    def off(*given: Any) -> Any:
        batch, plain = wrong(*given)  # type: ignore[misc]
        column = batch.columns["program.l1_reference"]
        column.pool[...] = column.pool * (1.0 + 1e-6)
        return batch, plain

    monkeypatch.setattr(module, "with_holdings", off)
    points, batches, count = compiled_points({"holdings": books(12)}, monkeypatch)
    assert count >= 12
    for batch in batches:
        for row, point in enumerate(batch.points):
            program = points.problem_at(int(point)).compiled.program
            np.testing.assert_array_equal(batch.field("l1_reference", np.array([row]))[0], program.l1_reference)


def test_neighbours_go_to_and_fro() -> None:
    problem = everything()
    grid = np.array([(a, b) for a in (0.1, 0.2, 0.3) for b in (0.5, 0.3, 0.4, 0.6)])
    axes = [axis(problem, "CVaR.weight", grid[:, 0]), axis(problem, "Bounds.upper", grid[:, 1])]
    rank = neighbours(axes, np.repeat(np.arange(12)[:, None], 2, axis=1))
    assert sorted(rank.tolist()) == list(range(12))
    path = grid[np.argsort(rank)]
    steps = np.abs(np.diff(path, axis=0)) / 0.1
    np.testing.assert_allclose(steps.sum(axis=1), 1.0)


# -- what goes one by one --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("objective", "constraints"),
    [
        (po.ExpectedReturn() - po.Variance(), []),
        (po.ExpectedReturn() / po.CVaR(0.8), []),
        (po.ExpectedReturn() - po.CVaR(0.8), [po.MaxHoldings(3)]),
    ],
)
def test_other_problems_are_solved_one_by_one(objective: Any, constraints: list[Any]) -> None:
    problem = po.Problem(scenarios(), objective, [po.Budget(), po.Bounds(0.0, 0.5), *constraints])
    check(what_ifs(problem, {"Bounds.upper": [0.4, 0.45, 0.5]}), unique=False)


def test_windows_are_solved_one_by_one() -> None:
    problem = po.Problem(
        scenarios(weighed=False), po.ExpectedReturn() - po.CVaR(0.8), [po.Budget(), po.Bounds(0.0, 0.5)]
    )
    check(what_ifs(problem, {"scenarios": [slice(0, 60), slice(10, 70)]}))


# -- what it is made of ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("beta", [0.5, 0.9, 0.95, 0.999])
@pytest.mark.parametrize("kind", ["equal", "weighed", "ties"])
def test_tails_are_those_of_each_portfolio(beta: float, kind: str) -> None:
    rng = np.random.default_rng(8)
    losses = rng.normal(size=(20, 60))
    p = np.full(60, 1 / 60)
    if kind != "equal":
        p = rng.dirichlet(np.full(60, 0.5))
        p[5:9] = 0.0
        p /= p.sum()
    if kind == "ties":
        losses = np.round(losses, 1)
    var, cvar = tails(losses, p, beta)
    alone = [po.scenarios.tail(row, p, beta) for row in losses]
    assert var.tolist() == [one.var for one in alone]
    np.testing.assert_allclose(cvar, [one.cvar for one in alone], rtol=1e-13, atol=1e-15)


def test_any_portfolio_is_certified_as_one_by_one() -> None:
    """Portfolios that break limits, with multipliers that are none: every number as `evaluate` has it."""
    rng = np.random.default_rng(6)
    for seed in range(25):
        problem, changes = random_case(seed)
        if not chainable(problem):
            continue
        axes = [axis(problem, name, values) for name, values in changes.items()]
        positions = np.repeat(np.arange(16)[:, None], len(axes), axis=1)
        points = Points(problem, axes, positions, np.arange(16))
        for batch in points.batches():
            k = len(batch.points)
            s, n, m, a, c = batch.base.program.shape
            weights = rng.normal(0.1, 0.3, (k, n))
            arrays = {
                "weights": weights,
                "var": np.zeros((k, m)),
                "scenario_dual": rng.normal(0.01, 0.05, (k, m, s)),
                "row_dual": rng.normal(0.0, 0.01, (k, c)),
                "cvar_cap_dual": rng.normal(0.0, 0.3, (k, m)),
                "l1_cap_dual": rng.normal(0.0, 0.01, (k, a)),
                "status": np.zeros(k, np.int32),
                "iterations": np.zeros(k, np.int32),
                "gap": np.zeros(k),
                "infeasibility": np.zeros(k),
            }
            each = [Solution(**{name: value[row] for name, value in arrays.items()}) for row in range(k)]
            solution = exchange(each[0], **arrays)
            found = stand(batch, np.arange(k), weights, solution)
            bounded = all(np.isfinite(batch.field(name, np.arange(k))).all() for name in ("lower", "upper"))
            for row, point in enumerate(batch.points.tolist()):
                compiled = points.problem_at(point).compiled
                if bounded:  # by its own bounds, which is looser than what is implied, and the same at an optimum
                    own = compiled.program
                    compiled = replace(compiled, box_lower=own.lower, box_upper=own.upper)
                alone = evaluate(compiled, weights[row], each[row]).certificate
                assert found.objective[row] == pytest.approx(alone.objective, rel=1e-12, abs=1e-14)
                assert found.bound[row] == pytest.approx(alone.bound, rel=1e-11, abs=1e-13)
                assert found.gap[row] == pytest.approx(alone.gap, rel=1e-10, abs=1e-12)
                assert found.max_violation[row] == pytest.approx(alone.max_violation, rel=1e-12)
                assert found.worst_constraint[row] == alone.worst_constraint


def test_measures_are_repaired_as_one_by_one() -> None:
    rng = np.random.default_rng(2)
    raw = rng.normal(0.02, 0.05, (5, 2, 40))
    raw[0, 0, 3] = np.nan
    raw[1] = 0.0
    ceiling = rng.uniform(0.0, 0.1, (5, 2, 40))
    total = 0.5 * ceiling.sum(axis=-1)
    total[2, 1] = 0.0
    found = repaired_measures(raw, ceiling, total)
    for i, j in np.ndindex(5, 2):
        alone = repair_measure(raw[i, j], ceiling[i, j], float(total[i, j]))
        np.testing.assert_allclose(found[i, j], alone, rtol=1e-12, atol=1e-16)


def test_implied_boxes_are_those_of_each_point() -> None:
    finite = 0
    for seed in range(25):
        problem, changes = random_case(seed)
        if not chainable(problem):
            continue
        lower = changes.pop("Bounds.lower", None)
        assert lower is None
        changes["Bounds.lower"] = np.where(np.arange(16) % 3 == 0, -np.inf, -0.2)
        axes = [axis(problem, name, values) for name, values in changes.items()]
        positions = np.repeat(np.arange(16)[:, None], len(axes), axis=1)
        points = Points(problem, axes, positions, np.arange(16))
        for batch in points.batches():
            rows = np.arange(len(batch.points))
            low, high = implied_boxes(batch, rows)
            for row, point in enumerate(batch.points.tolist()):
                alone = implied_box(points.problem_at(point).compiled.program)
                np.testing.assert_allclose(low[row % len(low)], alone[0], rtol=1e-12, atol=1e-12)
                np.testing.assert_allclose(high[row % len(high)], alone[1], rtol=1e-12, atol=1e-12)
                finite += int(np.isfinite(alone[0]).all())
    assert finite > 20


# -- what people see -------------------------------------------------------------------------------------------------
def test_arrays_have_the_order_of_the_points_and_the_assets() -> None:
    found = what_ifs(everything(), {"CVaR.weight": [2.0, 0.1, 0.5, 0.1]})
    assert found.weights.shape == (4, N)
    np.testing.assert_allclose(found.weights[1], found.weights[3], atol=1e-14)
    assert found.cvar[0.8][0] <= found.cvar[0.8][2] + 1e-12 <= found.cvar[0.8][1] + 2e-12
    assert found.constraints[:2] == ("Budget", "Bounds")
    assert len(found) == 4
    assert "4 optimal" in repr(found)
    frame = found.frame
    assert frame["CVaR.weight"].tolist() == [2.0, 0.1, 0.5, 0.1]
    np.testing.assert_array_equal(frame["cvar[0.95]"], found.cvar[0.95])
    assert found.result_at(0).objective == pytest.approx(found.objective[0], rel=1e-9)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"CVaR.wieght": [1.0]}, r"CVaR\.weight"),
        ({"CVaR.weight": [1.0, -1.0]}, r"value -1.0: the weight of CVaR.* cannot be -1"),
        ({"CVaR.weight": [0.1, 0.2, 0.3, 0.4, -1.0, 0.6, 0.7]}, "cannot be -1"),
        ({"Bounds.upper": [0.5, 0.6, 0.7, 0.8, 50.0, 0.9]}, r"value 50.0: "),
        ({"CVaR.weight": [0.1, 0.2, 0.3, 0.4, np.nan, 0.6]}, "finite number"),
        ({"CVaR.weight": [1.0], "Turnover.limit": [0.1, 0.2]}, r"CVaR\.weight 1, Turnover\.limit 2"),
        ({"holdings": [dict.fromkeys(ASSETS, 50.0)] * 4}, "holdings are weights"),
        ({"holdings": [dict.fromkeys(ASSETS[1:], 0.1)] * 4}, "value 0: .*says nothing about 'A0'"),
        ({"holdings": [dict.fromkeys(ASSETS, np.nan)] * 4}, "not finite"),
        ({"holdings": pd.DataFrame(np.zeros((4, 2)), columns=["A0", "A1"])}, "one column for each asset"),
        ({}, "changes must map"),
    ],
)
def test_changes_that_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(po.InputError, match=words):
        what_ifs(everything(), changes)


def test_a_tolerance_that_is_refused() -> None:
    with pytest.raises(po.InputError, match="tolerance"):
        what_ifs(everything(), {"CVaR.weight": [1.0]}, tolerance=1.0)

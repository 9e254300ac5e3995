"""Problems without an answer: the culprits that are named are the culprits, and nothing sound is turned away."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

import portfolioopt as po
from portfolioopt.problem.constraints import Constraint
from tests.oracles.references import check_certificate, least_violation, solve_linear, violations

SEEDS = [*range(3), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 8))]
S, N = 20, 5  # one size for nearly everything here: each further one compiles for seconds
ASSETS = pd.Index([f"A{i}" for i in range(N)])
GAIN, RISK, COST = po.ExpectedReturn(), po.CVaR(0.9), po.ProportionalCost(5)
# By how much limits miss each other, and by how much they still meet in the twin that is barely feasible.
MISSES = (0.2, 0.05, 1e-2, 1e-3, 1e-4, 1e-5)
MEETS = 1e-6


@dataclass
class Case:
    """The same problem twice: without any allowed portfolio, and with hardly any."""

    infeasible: po.Problem
    barely: po.Problem
    culprits: set[str]


def scenarios(rng: np.random.Generator) -> po.ScenarioSet:
    returns = 0.01 * rng.normal(size=(S, N)) + 0.002 * rng.normal(size=N)
    return po.ScenarioSet(pd.DataFrame(returns, columns=ASSETS))


def series(values: object) -> pd.Series:
    return pd.Series(np.asarray(values, dtype=float), index=ASSETS)


def labels(names: str) -> pd.Series:
    return pd.Series(list(names), index=ASSETS)


def twins(
    rng: np.random.Generator,
    build: Callable[[float], list[Constraint]],
    culprits: set[str],
    *,
    holdings: pd.Series | None = None,
) -> Case:
    """Two problems from limits as a function of their room; less than none is none at all.

    Limits that have nothing to do with it come along, because naming everything would be easy.
    """
    data = scenarios(rng)
    held = series(np.full(N, 1 / N)) if holdings is None else holdings
    bystander = po.ReturnTarget(-1.0, name="Bystander")

    def problem(room: float) -> po.Problem:
        constraints = [bystander, *build(room)]
        order = rng.permutation(len(constraints))
        # a turnover limit takes the place of the costs, so that all families share one compiled shape
        free = any(isinstance(c, po.Turnover) for c in constraints)
        objective = GAIN - 2.0 * RISK if free else GAIN - 2.0 * RISK - COST
        return po.Problem(data, objective, [constraints[i] for i in order], holdings=held)

    miss = float(rng.choice(MISSES))
    return Case(problem(-miss), problem(MEETS), culprits)


# -- families --------------------------------------------------------------------------------------------------------
def budget_against_bounds(rng: np.random.Generator) -> Case:
    share = rng.dirichlet(np.full(N, 5.0))
    if rng.random() < 0.5:
        return twins(rng, lambda room: [po.Budget(), po.Bounds(0.0, series(share * (1 + room)))], {"Budget", "Bounds"})
    return twins(
        rng, lambda room: [po.Budget(), po.Bounds(series(share * (1 - room)), 1.0)], {"Budget", "Bounds"}
    )  # fmt: skip


def budget_against_groups(rng: np.random.Generator) -> Case:
    sectors = labels("xxyyy")
    part = float(rng.uniform(0.2, 0.8))

    def build(room: float) -> list[Constraint]:
        caps = {"x": part + room / 2, "y": 1 - part + room / 2}
        return [po.Budget(), po.Bounds(-1.0, 1.0), po.GroupLimit(sectors, upper=caps, name="Sectors")]

    return twins(rng, build, {"Budget", "Sectors"})


def return_target_out_of_reach(rng: np.random.Generator) -> Case:
    forecast = 0.001 * rng.uniform(0.5, 1.0, N)  # the bounds alone would let through far more
    best = np.sort(forecast)[::-1]
    most = 0.4 * best[0] + 0.4 * best[1] + 0.2 * best[2]  # caps of 40 %
    size = float(np.abs(forecast).max())

    def build(room: float) -> list[Constraint]:
        target = po.ReturnTarget(most - room * size, mean=series(forecast))
        return [po.Budget(), po.Bounds(0.0, 0.4), target]

    return twins(rng, build, {"Budget", "Bounds", "ReturnTarget"})


def turnover_against_bounds(rng: np.random.Generator) -> Case:
    held = np.zeros(N)
    held[int(rng.integers(N))] = 1.0
    # half of the book has to go, and to be bought elsewhere
    return twins(
        rng,
        lambda room: [po.Budget(), po.Bounds(0.0, 0.5), po.Turnover(1.0 + room)],
        {"Budget", "Bounds", "Turnover"},
        holdings=series(held),
    )


def turnover_against_groups(rng: np.random.Generator) -> Case:
    held = series([0.4, 0.3, 0.1, 0.1, 0.1])
    return twins(
        rng,
        lambda room: [
            po.Bounds(-1.0, 1.0),
            po.GroupLimit(labels("xxyyy"), upper={"x": 0.4}, name="Sectors"),
            po.Turnover(0.3 + room, name="Trading"),
        ],
        {"Sectors", "Trading"},
        holdings=held,
    )


def trade_limit_against_bounds(rng: np.random.Generator) -> Case:
    held = np.zeros(N)
    held[int(rng.integers(N))] = 1.0
    return twins(
        rng,
        lambda room: [po.Budget(), po.Bounds(0.0, 0.6), po.TradeLimit(0.4 + room)],
        {"Bounds", "TradeLimit"},
        holdings=series(held),
    )


def trade_limit_against_budget(rng: np.random.Generator) -> Case:
    return twins(
        rng,
        lambda room: [po.Budget(), po.Bounds(), po.TradeLimit((1.0 + room) / N)],
        {"Budget", "TradeLimit"},
        holdings=series(np.zeros(N)),
    )


def groups_against_each_other(rng: np.random.Generator) -> Case:
    least = float(rng.uniform(0.3, 0.6))

    def build(room: float) -> list[Constraint]:
        sectors = po.GroupLimit(labels("xxyyy"), lower={"x": least - room}, name="Sectors")
        # the region holds the sector and an asset more, which cannot be short
        regions = po.GroupLimit(labels("eeeuu"), upper={"e": least}, name="Regions")
        return [po.Bounds(), sectors, regions]

    return twins(rng, build, {"Bounds", "Sectors", "Regions"})


def two_bounds(rng: np.random.Generator) -> Case:
    lowest = rng.uniform(0.1, 0.19, N)
    odd = int(rng.integers(N))

    def build(room: float) -> list[Constraint]:
        cap = np.full(N, 0.9)
        cap[odd] = lowest[odd] + room * 0.1
        return [po.Budget(), po.Bounds(series(lowest), 1.0), po.Bounds(0.0, series(cap), name="Caps")]

    return twins(rng, build, {"Bounds", "Caps"})


LINEAR = (
    budget_against_bounds,
    budget_against_groups,
    return_target_out_of_reach,
    turnover_against_bounds,
    turnover_against_groups,
    trade_limit_against_bounds,
    trade_limit_against_budget,
    groups_against_each_other,
    two_bounds,
)


def with_cvar_limit(data: po.ScenarioSet, limits: dict[float, float]) -> po.Problem:
    return po.Problem(
        data,
        GAIN - COST,
        [
            po.Budget(),
            po.Bounds(0.0, 0.6),
            po.ReturnTarget(-1.0, name="Bystander"),
            *(po.CVaRLimit(beta, limit) for beta, limit in limits.items()),
        ],
        holdings=series(np.full(N, 1 / N)),
    )


def least_cvar(data: po.ScenarioSet, beta: float) -> tuple[float, pd.Series]:
    """The smallest attainable CVaR at one level, from the reference, and who attains it."""
    found = solve_linear(with_cvar_limit(data, {}).replace(objective=-po.CVaR(beta)))
    return -found.optimum, found.weights


def cvar_limit_out_of_reach(rng: np.random.Generator) -> Case:
    data = scenarios(rng)
    least, _ = least_cvar(data, 0.9)
    miss = float(rng.choice(MISSES))
    return Case(
        with_cvar_limit(data, {0.9: least - miss * 0.01}),
        with_cvar_limit(data, {0.9: least + MEETS * 0.01}),
        {"CVaRLimit(0.9)"},
    )


def two_cvar_limits(rng: np.random.Generator) -> Case:
    """Limits between the least of each level and what the other level's best portfolio has there."""
    for _ in range(50):
        data = scenarios(rng)
        (low, at_low), (high, at_high) = least_cvar(data, 0.5), least_cvar(data, 0.95)
        other_low = data.tail(at_high, 0.5).cvar
        other_high = data.tail(at_low, 0.95).cvar

        def limits(
            share: float, *, low: float = low, high: float = high, more: tuple[float, float] = (other_low, other_high)
        ) -> dict[float, float]:
            return {0.5: low + share * (more[0] - low), 0.95: high + share * (more[1] - high)}

        def miss(share: float, *, data: po.ScenarioSet = data, limits: Callable[..., dict] = limits) -> float:
            problem = with_cvar_limit(data, limits(share))
            return least_violation(problem, [c.name for c in problem.constraints])

        if miss(0.05) < 1e-4:
            continue
        inside, outside = 1.0, 0.05
        while inside - outside > 1e-8:
            middle = 0.5 * (inside + outside)
            inside, outside = (middle, outside) if miss(middle) < 1e-9 else (inside, middle)
        return Case(
            with_cvar_limit(data, limits(0.05)),
            with_cvar_limit(data, limits(inside + 1e-5)),
            {"CVaRLimit(0.5)", "CVaRLimit(0.95)"},
        )
    raise AssertionError("no scenarios where the two levels want different portfolios")


FAMILIES = (*LINEAR, cvar_limit_out_of_reach, two_cvar_limits)


def generator(family: Callable[[np.random.Generator], Case], seed: int) -> np.random.Generator:
    return np.random.default_rng([FAMILIES.index(family), seed])


# -- infeasible ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_the_constraints_named_are_in_conflict(family: Callable[[np.random.Generator], Case], seed: int) -> None:
    case = family(generator(family, seed))
    problem = case.infeasible
    assert least_violation(problem, [c.name for c in problem.constraints]) > 1e-9  # the case is what it says

    with pytest.raises(po.InfeasibleError) as caught:
        po.optimize(problem)
    conflict, message = caught.value.conflict, str(caught.value)
    assert len(set(conflict)) == len(conflict)
    assert case.culprits <= set(conflict)
    assert "Bystander" not in conflict
    assert message.startswith("infeasible")
    assert "Bystander" not in message
    for name in conflict:
        assert name in message

    assert least_violation(problem, conflict) > 1e-9
    result = caught.value.result
    assert isinstance(result, po.Result)
    assert result.status is po.Status.infeasible
    assert result.conflict == conflict
    assert result.weights is None
    assert result.certificate is None


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_no_constraint_is_named_without_need(family: Callable[[np.random.Generator], Case], seed: int) -> None:
    problem = family(generator(family, seed)).infeasible
    conflict = po.optimize(problem, raise_on_failure=False).conflict
    together = least_violation(problem, conflict)
    for name in conflict:
        rest = [other for other in conflict if other != name]
        assert least_violation(problem, rest) < 1e-3 * together, f"{rest} clash without {name}"


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_hardly_any_room_is_room(family: Callable[[np.random.Generator], Case], seed: int) -> None:
    problem = family(generator(family, seed)).barely
    result = po.optimize(problem)
    linear = solve_linear(problem)
    certificate = result.certificate
    assert certificate is not None
    assert result.objective == pytest.approx(linear.optimum, abs=1e-6 * certificate.scale + linear.accuracy)
    check_certificate(result, linear)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_smallest_attainable_cvar_is_stated(seed: int) -> None:
    problem = cvar_limit_out_of_reach(generator(cvar_limit_out_of_reach, seed)).infeasible
    with pytest.raises(po.InfeasibleError) as caught:
        po.optimize(problem)
    stated = re.search(r"smallest CVaR the other constraints allow is ([-+.e\d]*\d)", str(caught.value))
    assert stated is not None
    least, _ = least_cvar(problem.scenarios, 0.9)
    assert float(stated[1]) == pytest.approx(least, rel=1e-5)


@pytest.mark.parametrize("seed", SEEDS)
def test_what_each_of_two_cvar_limits_would_have_to_be_is_stated(seed: int) -> None:
    problem = two_cvar_limits(generator(two_cvar_limits, seed)).infeasible
    with pytest.raises(po.InfeasibleError) as caught:
        po.optimize(problem)
    limits = {c.beta: c.limit for c in problem.constraints if isinstance(c, po.CVaRLimit)}
    names = [c.name for c in problem.constraints]
    for beta in limits:
        stated = re.search(rf"CVaRLimit\({beta}\) <= (\S+) instead of ([-+.e\d]*\d)", str(caught.value))
        assert stated is not None
        assert float(stated[2]) == pytest.approx(limits[beta], rel=1e-5)

        def miss(limit: float, *, beta: float = beta) -> float:
            return least_violation(with_cvar_limit(problem.scenarios, limits | {beta: limit}), names)

        change = float(stated[1]) - limits[beta]
        assert change > 0
        assert miss(limits[beta] + change * (1 - 1e-3)) > 1e-9
        assert miss(limits[beta] + change * (1 + 1e-3)) < 1e-9


def test_failure_without_an_exception() -> None:
    case = budget_against_groups(np.random.default_rng(1))
    result = po.optimize(case.infeasible, raise_on_failure=False)
    assert result.status is po.Status.infeasible
    assert result.weights is None
    assert result.certificate is None
    assert np.isnan(result.objective)
    assert case.culprits <= set(result.conflict)
    assert "infeasible" in repr(result)
    assert "Sectors" in result._repr_html_()
    for ask in (
        lambda: result.terms,
        lambda: result.constraints,
        lambda: result.risk,
        lambda: result.tail_weights,
        lambda: result.expected_return,
        lambda: result.tail_scenarios(),
    ):
        with pytest.raises(po.InputError, match="no portfolio to report on"):
            ask()


# -- unbounded -------------------------------------------------------------------------------------------------------
def check_direction(problem: po.Problem, direction: pd.Series) -> None:
    """Going that way never leaves the constraints and improves the objective at every step."""
    data, d = problem.scenarios, direction.to_numpy()
    assert direction.index.equals(data.assets)
    assert np.isfinite(d).all()
    size = float(np.abs(d).max())
    assert size > 0
    gain = 0.0
    for coefficient, term in problem.objective.parts:
        if isinstance(term, po.ExpectedReturn):
            gain += coefficient * float(data.mean() @ direction)
        elif isinstance(term, po.CVaR):
            gain += coefficient * data.tail(direction, term.beta).cvar
        elif isinstance(term, po.ProportionalCost):
            gain += coefficient * float(np.abs(d).sum()) * float(term.bps) / 1e4  # type: ignore[arg-type]
    assert gain > 1e-6 * float(np.abs(data.matrix).mean()) * size
    for c in problem.constraints:
        if isinstance(c, po.Budget):
            assert abs(d.sum()) <= 1e-8 * size
        elif isinstance(c, po.GroupLimit):
            for label in c.upper or {}:
                assert d[np.asarray(c.labels) == label].sum() <= 1e-8 * size
        elif isinstance(c, po.Bounds):
            if np.isfinite(c.lower):  # type: ignore[arg-type]
                assert (d >= -1e-8 * size).all()
            if np.isfinite(c.upper):  # type: ignore[arg-type]
                assert (d <= 1e-8 * size).all()
        elif isinstance(c, po.CVaRLimit):
            assert data.tail(direction, c.beta).cvar <= 1e-8 * size


SECTORS = po.GroupLimit(labels("xxyyy"), upper={"x": 0.5})
OPEN: dict[str, list[Constraint]] = {
    "nothing but a budget": [po.Budget()],
    "a dollar-neutral book": [po.Budget(0.0)],
    "long only without a budget": [po.Bounds(0.0, np.inf), po.ReturnTarget(-1.0)],
    "group limits end some directions": [po.Budget(), SECTORS],
}
# Risk and costs that are too small to stop it; pure greed has a compiled shape of its own.
LEAN = GAIN - 0.01 * RISK - po.ProportionalCost(0.1)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("case", OPEN)
@pytest.mark.parametrize("objective", [LEAN, pytest.param(GAIN, marks=pytest.mark.slow)], ids=["lean", "greedy"])
def test_an_open_direction_is_shown(objective: po.Objective | po.ExpectedReturn, case: str, seed: int) -> None:
    constraints = OPEN[case]
    data = scenarios(np.random.default_rng([11, seed]))
    problem = po.Problem(data, objective, constraints, holdings=series(np.full(N, 1 / N)))
    with pytest.raises(po.UnboundedError) as caught:
        po.optimize(problem)
    direction = caught.value.direction
    assert direction is not None
    check_direction(problem, direction)
    message = str(caught.value)
    assert message.startswith("unbounded")
    assert direction.abs().idxmax() in message
    result = caught.value.result
    assert isinstance(result, po.Result)
    assert result.status is po.Status.unbounded
    assert result.weights is None


@pytest.mark.slow
def test_no_constraints_at_all() -> None:
    problem = po.Problem(scenarios(np.random.default_rng(0)), GAIN)
    result = po.optimize(problem, raise_on_failure=False)
    assert result.status is po.Status.unbounded
    assert result.weights is None


@pytest.mark.parametrize("seed", range(4))
def test_risk_alone_can_bound_a_problem(seed: int) -> None:
    data = scenarios(np.random.default_rng([12, seed]))
    objective = 0.05 * GAIN - RISK - po.ProportionalCost(1)
    problem = po.Problem(data, objective, [po.Budget()], holdings=series(np.full(N, 1 / N)))
    result = po.optimize(problem)
    linear = solve_linear(problem)
    certificate = result.certificate
    assert certificate is not None
    assert result.objective == pytest.approx(linear.optimum, abs=1e-6 * certificate.scale)
    check_certificate(result, linear)
    assert result.weights is not None
    assert certificate.radius is not None
    assert certificate.radius > result.weights.abs().max()


# -- stopped short ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("steps", [1, 3])
def test_stopping_short_is_admitted(steps: int, seed: int) -> None:
    data = scenarios(np.random.default_rng([13, seed]))
    held = series(np.full(N, 1 / N))
    problem = po.Problem(data, GAIN - 2.0 * RISK - COST, [po.Budget(), po.Bounds(0.0, 0.6)], holdings=held)
    with pytest.raises(po.StalledError, match="max_iterations") as caught:
        po.optimize(problem, max_iterations=steps)
    result = caught.value.result
    assert isinstance(result, po.Result)
    assert result.status is po.Status.stalled
    assert result.iterations <= steps
    assert result.weights is not None
    assert np.isfinite(result.weights.to_numpy()).all()
    linear = solve_linear(problem)
    # whatever the weights are worth, the bound holds and the gap is what lies between them
    check_certificate(result, linear, tolerance=np.inf)
    certificate = result.certificate
    assert certificate is not None
    assert certificate.gap > 1e-6 or certificate.max_violation > 1e-8
    if max(violations(problem, result.weights).values()) <= 1e-9:
        assert certificate.gap * certificate.scale >= linear.optimum - result.objective - linear.accuracy

    again = po.optimize(problem, max_iterations=steps, raise_on_failure=False)
    assert again.status is po.Status.stalled
    assert again.certificate == certificate
    assert po.optimize(problem).status is po.Status.optimal


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tolerance": 0.0}, "tolerance must lie between 1e-12 and 1e-2"),
        ({"tolerance": 0.1}, "tolerance must lie between 1e-12 and 1e-2"),
        ({"tolerance": float("nan")}, "tolerance must lie between"),
        ({"tolerance": "tight"}, "tolerance must"),
        ({"tolerance": None}, "tolerance must"),
        ({"max_iterations": 0}, "max_iterations must be at least 1"),
        ({"max_iterations": float("nan")}, "max_iterations must"),
        ({"max_iterations": 2.5}, "max_iterations must"),
        ({"max_iterations": "many"}, "max_iterations must"),
    ],
)
def test_options_that_are_refused(options: dict[str, object], words: str) -> None:
    problem = budget_against_groups(np.random.default_rng(1)).barely
    with pytest.raises(po.InputError, match=words):
        po.optimize(problem, **options)  # type: ignore[arg-type]


def test_only_problems_are_solved() -> None:
    with pytest.raises(po.InputError, match="takes a Problem, was given DataFrame"):
        po.optimize(pd.DataFrame())  # type: ignore[arg-type]


def test_without_any_constraint_the_answer_is_a_direction_or_a_portfolio() -> None:
    returns = po.data.simple_returns(po.data.sample_prices()).iloc[-300:, :3]
    scenarios = po.ScenarioSet(returns)
    with pytest.raises(po.UnboundedError) as caught:
        po.optimize(po.Problem(scenarios, po.ExpectedReturn(), []))
    assert caught.value.direction is not None
    free = po.optimize(po.Problem(scenarios, po.ExpectedReturn() - 50.0 * po.Variance(), []))
    np.testing.assert_allclose(
        free.weights, np.linalg.solve(100.0 * returns.cov(ddof=0).to_numpy(), returns.mean().to_numpy()), atol=1e-5
    )
    assert free.constraints.empty
    assert "<table" in free._repr_html_()

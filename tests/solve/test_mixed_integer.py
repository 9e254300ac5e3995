"""Integer constraints, against enumeration of all patterns with an independent linear program for each."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import linprog

import portfolioopt as po
from portfolioopt.problem.integer import integer_excess
from portfolioopt.solve import mixed_integer
from portfolioopt.solve.certificate import evaluate
from portfolioopt.solve.mixed_integer import IntegerAttempt, integer_conflict, solve_mixed_integer

GAP = 1e-7


@dataclass
class Case:
    """A problem in plain numbers, for the library and for the enumeration."""

    returns: np.ndarray
    probabilities: np.ndarray
    risk: float = 1.0
    beta: float = 0.9
    cost: float = 0.0  # in basis points
    turnover: float | None = None
    cap: float | None = None  # on the CVaR
    budget: tuple[float, float] = (1.0, 1.0)
    bounds: tuple[float, float] = (0.0, 1.0)
    holdings: np.ndarray | None = None
    count: int | None = None
    position: float = 0.0
    trade: float = 0.0
    lot: float | None = None
    assets: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.assets = [f"A{i}" for i in range(self.returns.shape[1])]

    # -- the library's ---------------------------------------------------------------------------------------------
    def problem(self) -> po.Problem:
        objective = po.ExpectedReturn() - self.risk * po.CVaR(self.beta)
        if self.cost:
            objective = objective - po.ProportionalCost(self.cost)
        limits = [po.Budget(lower=self.budget[0], upper=self.budget[1]), po.Bounds(*self.bounds)]
        if self.turnover is not None:
            limits.append(po.Turnover(self.turnover))
        if self.cap is not None:
            limits.append(po.CVaRLimit(self.beta, self.cap))
        if self.count is not None:
            limits.append(po.MaxHoldings(self.count))
        if self.position:
            limits.append(po.MinPosition(self.position))
        if self.trade:
            limits.append(po.MinTrade(self.trade))
        if self.lot is not None:
            limits.append(po.RoundLots(self.lot))
        held = None if self.holdings is None else dict(zip(self.assets, self.holdings, strict=True))
        return po.Problem(
            po.ScenarioSet(self.returns, self.probabilities, assets=self.assets), objective, limits, holdings=held
        )

    # -- the enumeration's -----------------------------------------------------------------------------------------
    def continuous(self, low: np.ndarray, high: np.ndarray) -> float:
        """Best objective within bounds, by another solver on another formulation; -inf where there is none."""
        s, n = self.returns.shape
        # w (n), t, d (s), e (n)
        mean, p = self.probabilities @ self.returns, self.probabilities
        tail = np.concatenate([np.zeros(n), [1.0], p / (1 - self.beta), np.zeros(n)])
        cost = self.risk * tail - np.concatenate([mean, np.zeros(1 + s + n)])
        cost[n + 1 + s :] = self.cost * 1e-4
        eye, none = np.eye(n), np.zeros
        held = none(n) if self.holdings is None else self.holdings
        rows = [
            np.hstack([-self.returns, -np.ones((s, 1)), -np.eye(s), none((s, n))]),
            np.hstack([eye, none((n, 1 + s)), -eye]),
            np.hstack([-eye, none((n, 1 + s)), -eye]),
            np.concatenate([np.ones(n), none(1 + s + n)])[None],
            np.concatenate([-np.ones(n), none(1 + s + n)])[None],
        ]
        sides = [none(s), held, -held, [self.budget[1]], [-self.budget[0]]]
        if self.turnover is not None:
            rows.append(np.concatenate([none(n + 1 + s), np.ones(n)])[None])
            sides.append([self.turnover])
        if self.cap is not None:
            rows.append(tail[None])
            sides.append([self.cap])
        bounds = [*zip(low, high, strict=True), (None, None), *[(0, None)] * (s + n)]
        found = linprog(cost, np.vstack(rows), np.concatenate(sides), bounds=bounds)
        return -np.inf if found.status else -float(found.fun)

    def pieces(self, i: int) -> Iterator[tuple[float, float]]:
        low, high = self.bounds
        held = 0.0 if self.holdings is None else float(self.holdings[i])
        if self.lot is not None:
            for k in range(int(np.floor(low / self.lot)) - 1, int(np.ceil(high / self.lot)) + 2):
                w = k * self.lot
                small = 0 < abs(w) < self.position - 1e-12
                minor = 1e-12 < abs(w - held) < self.trade - 1e-12
                if low - 1e-12 <= w <= high + 1e-12 and not small and not minor:
                    yield w, w
            return
        positions = [(-np.inf, -self.position), (0.0, 0.0), (self.position, np.inf)]
        trades = (
            [(-np.inf, held - self.trade), (held, held), (held + self.trade, np.inf)] if self.trade else [(low, high)]
        )
        for (a, b), (c, d) in product(positions, trades):
            if max(a, c, low) <= min(b, d, high):
                yield max(a, c, low), min(b, d, high)

    def best(self) -> float:
        options = [sorted(set(self.pieces(i))) for i in range(len(self.assets))]
        most = len(self.assets) if self.count is None else self.count
        best = -np.inf
        for pattern in product(*options):
            ends = np.array(pattern)
            low, high = ends[:, 0], ends[:, 1]
            if np.count_nonzero((low != 0) | (high != 0)) > most:
                continue
            if low.sum() > self.budget[1] + 1e-9 or high.sum() < self.budget[0] - 1e-9:
                continue
            best = max(best, self.continuous(low, high))
        return best


def returns(s: int, n: int, seed: int, factors: int = 2) -> np.ndarray:
    rng = np.random.default_rng([77, seed])
    common = rng.standard_t(4, (s, factors)) @ rng.normal(size=(factors, n))
    return 0.01 * common + 0.01 * rng.standard_t(4, (s, n)) + 2e-3 * rng.normal(size=n)


def case(seed: int, s: int = 40, n: int = 5, **changes: object) -> Case:
    rng = np.random.default_rng([78, seed])
    p = np.full(s, 1 / s) if seed % 2 == 0 else rng.dirichlet(np.ones(s))
    return Case(returns(s, n, seed), p, **changes)


def check(found: IntegerAttempt, problem: po.Problem, *, status: str = "optimal") -> None:
    """Everything an attempt says, recomputed."""
    assert found.status == status, found.message
    assert found.attempt is not None
    assert found.columns is not None
    compiled = problem.compiled
    weights = found.columns
    evaluation = evaluate(compiled, weights, found.attempt.solution)
    assert evaluation.certificate.max_violation <= 1e-8
    certificate = evaluation.certificate
    assert certificate.objective == pytest.approx(found.objective, abs=1e-12)
    assert found.gap == pytest.approx((found.bound - found.objective) / certificate.scale, rel=1e-6, abs=1e-12)
    assert found.bound >= found.objective
    assert found.heuristic <= found.objective + 1e-15
    for constraint in compiled.integer:
        excess = integer_excess(constraint, compiled.scenarios.assets, weights[: compiled.n_assets], compiled.holdings)
        assert excess <= 1e-12
    tiny = np.abs(weights[: compiled.n_assets]) < 1e-9
    assert (weights[: compiled.n_assets][tiny] == 0).all()


HELD = np.array([0.3, 0.3, 0.2, 0.2, 0.0])
CASES: dict[str, Case] = {
    "count": case(0, count=2),
    "count, unequal probabilities": case(1, count=3, bounds=(0.0, 0.4)),
    "count long and short": case(2, count=3, bounds=(-0.5, 0.8)),
    "count with costs": case(3, count=2, cost=30, holdings=HELD),
    "position": case(4, position=0.25),
    "position long and short": case(5, position=0.3, bounds=(-0.6, 0.6)),
    "position and count": case(6, position=0.2, count=3, bounds=(0.0, 0.5)),
    "trade": case(7, trade=0.15, holdings=HELD, cost=20),
    "trade and turnover": case(8, trade=0.2, holdings=HELD, turnover=0.5),
    "trade and position": case(9, trade=0.15, position=0.1, holdings=HELD, cost=20),
    "trade, position and count": case(10, trade=0.1, position=0.15, count=3, holdings=HELD),
    "count and CVaR limit": case(11, count=2, risk=0.0, cap=0.03, budget=(0.5, 1.0)),
    "position, CVaR limit and turnover": case(
        12, position=0.2, cap=0.035, risk=0.2, turnover=1.0, holdings=HELD, budget=(0.4, 1.0)
    ),
    "lots": case(13, n=3, lot=0.1),
    "lots within a range": case(14, n=3, lot=0.07, budget=(0.9, 1.0)),
    "lots and count": case(15, n=4, lot=0.125, count=2),
    "lots and position": case(16, n=3, lot=0.1, position=0.25, budget=(0.95, 1.0)),
    "lots, trade and costs": case(
        17, n=3, lot=0.1, trade=0.15, cost=20, holdings=np.array([0.5, 0.3, 0.2]), turnover=0.8
    ),
    "lots long and short": case(18, n=3, lot=0.2, bounds=(-0.4, 0.8)),
    "lots and CVaR limit": case(19, n=3, lot=0.1, risk=0.0, cap=0.03, budget=(0.5, 1.0)),
}


@pytest.mark.parametrize("name", CASES)
def test_agrees_with_enumeration(name: str) -> None:
    one = CASES[name]
    problem = one.problem()
    found = solve_mixed_integer(problem.compiled, gap=GAP)
    best = one.best()
    assert np.isfinite(best), "the case has no portfolio; the seed should be another one"
    check(found, problem)
    assert found.gap <= GAP
    assert found.objective == pytest.approx(best, abs=1e-8)
    assert found.bound >= best - 1e-9


# -- bounds, bands and time ----------------------------------------------------------------------------------------
def test_a_narrow_band_and_all_scenarios_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    one = case(20, s=300, n=8, count=3, position=0.1, bounds=(0.0, 0.5))
    problem = one.problem()
    monkeypatch.setattr(mixed_integer, "BAND", 10**6)
    whole = solve_mixed_integer(problem.compiled, gap=GAP)
    monkeypatch.setattr(mixed_integer, "BAND", 8)
    monkeypatch.setattr(mixed_integer, "BAND_SHARE", 0.0)
    monkeypatch.setattr(mixed_integer, "GOOD", 0)
    narrow = solve_mixed_integer(problem.compiled, gap=GAP)
    check(whole, problem)
    check(narrow, problem)
    assert narrow.rounds > whole.rounds
    assert narrow.objective == pytest.approx(whole.objective, abs=1e-10)
    assert narrow.bound == pytest.approx(whole.bound, abs=2 * GAP * abs(whole.objective) + 1e-9)


def test_the_time_limit_leaves_an_honest_bound() -> None:
    one = case(22, s=600, n=20, count=5, bounds=(0.0, 0.4), risk=5.0)
    problem = one.problem()
    short = solve_mixed_integer(problem.compiled, gap=GAP, time_limit=1e-3)  # the kernels may have to compile
    assert short.status == "time limit"
    check(short, problem, status="time limit")
    assert short.rounds == 0
    begun = time.perf_counter()
    some = solve_mixed_integer(problem.compiled, gap=GAP, time_limit=2.0)
    seconds = time.perf_counter() - begun
    compiling = 0.0 if some.attempt is None else some.attempt.compile_seconds
    assert seconds - compiling < 3.5
    check(some, problem, status=some.status)
    assert short.objective <= some.objective <= some.bound <= short.bound
    assert some.gap >= (some.bound - some.objective) / abs(5.0 * some.bound)
    assert some.heuristic <= some.objective


def test_a_guess_is_not_lost() -> None:
    one = CASES["count and CVaR limit"]
    problem = one.problem()
    best = solve_mixed_integer(problem.compiled, gap=GAP)
    assert best.attempt is not None
    guess = mixed_integer.Guess(best.attempt.solution.weights, best.attempt.basis, np.zeros(1))
    again = solve_mixed_integer(problem.compiled, gap=GAP, guess=guess)
    assert again.heuristic == pytest.approx(best.objective, abs=1e-10)
    assert again.objective == pytest.approx(best.objective, abs=1e-10)


def test_multipliers_belong_to_the_pattern() -> None:
    one = CASES["position and count"]
    found = solve_mixed_integer(one.problem().compiled, gap=GAP)
    assert found.attempt is not None
    assert found.fixed is not None
    assert found.columns is not None
    certificate = evaluate(found.fixed, found.columns, found.attempt.solution).certificate
    assert certificate.gap == pytest.approx(0.0, abs=1e-8)


def test_a_continuous_answer_that_is_allowed_needs_no_search() -> None:
    one = case(24, count=5, position=0.0)
    found = solve_mixed_integer(one.problem().compiled, gap=GAP)
    check(found, one.problem())
    assert found.rounds == 0


def test_the_door() -> None:
    problem = CASES["position and count"].problem()
    result = po.optimize(problem, time_limit=60.0)
    found = solve_mixed_integer(problem.compiled, gap=1e-6)
    assert result.status is po.Status.optimal
    assert result.certificate is not None
    assert result.certificate.gap <= 1e-6
    assert result.objective == pytest.approx(found.objective, abs=1e-12)


def test_the_door_names_culprits() -> None:
    with pytest.raises(po.InfeasibleError) as error:
        po.optimize(case(30, count=2, bounds=(0.0, 0.3)).problem())
    assert set(error.value.conflict) == {"Budget", "Bounds", "MaxHoldings"}


def test_the_example_of_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    page = Path(__file__).parents[2] / "docs" / "integer.md"
    (code,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    names: dict[str, object] = {}
    exec(code, names)
    assert names["held"].between(0.05, 0.3 + 1e-12).all()
    assert len(names["held"]) <= 6
    assert "e-" in capsys.readouterr().out


# -- no portfolio --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("one", "culprits"),
    [
        (case(30, count=2, bounds=(0.0, 0.3)), {"Budget", "Bounds", "MaxHoldings"}),
        (case(31, position=0.15, count=2, bounds=(0.0, 0.45)), {"Budget", "Bounds", "MaxHoldings"}),
        (case(32, n=4, position=0.4, bounds=(0.0, 0.45)), {"Budget", "Bounds", "MinPosition"}),
        (
            case(33, trade=0.3, turnover=0.5, holdings=np.full(5, 0.2), bounds=(0.0, 0.19)),
            {"Bounds", "Turnover", "MinTrade", "Budget"},
        ),
    ],
)
def test_infeasible_is_recognised_and_explained(one: Case, culprits: set[str]) -> None:
    problem = one.problem()
    found = solve_mixed_integer(problem.compiled, gap=GAP)
    assert found.status == "infeasible"
    assert found.columns is None
    assert found.bound == -np.inf
    names = set(integer_conflict(problem))
    assert names
    assert names <= culprits
    left = [c for c in problem.constraints if c.name not in names]
    assert len(left) + len(names) == len(problem.constraints)


def test_lots_that_never_fill_the_budget_name_both() -> None:
    found = solve_mixed_integer(case(34, n=3, lot=0.07).problem().compiled, gap=GAP)
    assert found.status == "infeasible"
    for word in ("Budget", "RoundLots", "lower=0.98", "0.07"):
        assert word in found.message


def test_a_feasible_problem_has_no_conflict() -> None:
    assert integer_conflict(CASES["count"].problem()) == ()


# -- what is refused -----------------------------------------------------------------------------------------------
def test_bounds_are_needed() -> None:
    data = po.ScenarioSet(returns(40, 3, 0), assets=["x", "y", "z"])
    problem = po.Problem(data, -po.CVaR(0.9), [po.Budget(), po.MaxHoldings(2)])
    with pytest.raises(
        po.InputError, match=r"MaxHoldings.*need bounds on every weight.*'x', 'y'.*Bounds\(lower, upper\)"
    ):
        solve_mixed_integer(problem.compiled, gap=GAP)


def test_curved_measures_are_refused() -> None:
    data = po.ScenarioSet(returns(40, 3, 0), assets=["x", "y", "z"])
    problem = po.Problem(data, -po.Variance(), [po.Budget(), po.Bounds(), po.MaxHoldings(2)])
    with pytest.raises(po.InputError, match="not piecewise linear"):
        solve_mixed_integer(problem.compiled, gap=GAP)


def test_two_sizes_of_lots_are_refused() -> None:
    data = po.ScenarioSet(returns(40, 3, 0), assets=["x", "y", "z"])
    limits = [po.Budget(), po.Bounds(), po.RoundLots(0.1), po.RoundLots(0.25, name="quarters")]
    with pytest.raises(po.InputError, match="quarters"):
        solve_mixed_integer(po.Problem(data, -po.CVaR(0.9), limits).compiled, gap=GAP)


# -- auxiliary variables -------------------------------------------------------------------------------------------
def test_measures_with_variables_of_their_own() -> None:
    data = po.ScenarioSet(returns(40, 4, 3), assets=list("abcd"))
    objective = po.ExpectedReturn() - 0.5 * po.WorstLoss() - 0.5 * po.MeanAbsoluteDeviation()
    limits = [
        po.Budget(lower=0.9, upper=1.0),
        po.Bounds(0.0, 0.8),
        po.Soft(po.ReturnTarget(0.01), 2.0),
        po.RoundLots(0.1),
        po.MaxHoldings(2),
    ]
    problem = po.Problem(data, objective, limits)
    found = solve_mixed_integer(problem.compiled, gap=GAP)
    check(found, problem)
    r = data.source.matrix
    assert r is not None
    values = []
    for counts in product(range(9), repeat=4):
        w = 0.1 * np.array(counts)
        if np.count_nonzero(w) <= 2 and 0.9 - 1e-9 <= w.sum() <= 1 + 1e-9:
            gain = r @ w
            mean = gain.mean()
            values.append(mean + 0.5 * gain.min() - 0.5 * np.abs(gain - mean).mean() - 2.0 * max(0.01 - mean, 0.0))
    assert found.objective == pytest.approx(max(values), abs=1e-9)


# -- long ----------------------------------------------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
def test_agrees_with_enumeration_at_random(seed: int) -> None:
    rng = np.random.default_rng([79, seed])
    n = 4
    held = rng.dirichlet(np.ones(n)).round(2)
    held[-1] += 1 - held.sum()
    short = rng.random() < 0.3
    one = case(
        100 + seed,
        s=int(rng.integers(15, 60)),
        n=n,
        risk=float(rng.uniform(0, 3)),
        beta=float(rng.uniform(0.6, 0.97)),
        cost=float(rng.choice([0, 25])),
        holdings=held,
        bounds=(-0.4, 0.8) if short else (0.0, float(rng.uniform(0.45, 1.0))),
        budget=(0.8, 1.0) if rng.random() < 0.5 else (1.0, 1.0),
        count=int(rng.integers(2, 4)) if rng.random() < 0.6 else None,
        position=float(rng.uniform(0, 0.35)) if rng.random() < 0.6 else 0.0,
        trade=float(rng.uniform(0, 0.2)) if rng.random() < 0.4 else 0.0,
        turnover=float(rng.uniform(0.4, 1.5)) if rng.random() < 0.4 else None,
        cap=float(rng.uniform(0.02, 0.05)) if rng.random() < 0.4 else None,
        lot=0.25 if rng.random() < 0.2 and not short else None,
    )
    problem = one.problem()
    found = solve_mixed_integer(problem.compiled, gap=GAP)
    best = one.best()
    if found.status == "infeasible":
        assert best == -np.inf
        return
    check(found, problem)
    assert found.objective == pytest.approx(best, abs=1e-8)


@pytest.mark.slow
def test_five_of_thirty() -> None:
    one = case(21, s=1000, n=30, beta=0.95, count=5, bounds=(0.0, 0.4), risk=0.5)
    problem = one.problem()
    found = solve_mixed_integer(problem.compiled, gap=1e-6, time_limit=60.0)
    check(found, problem, status=found.status)
    assert found.bound >= found.objective >= found.heuristic
    if found.status == "optimal":
        assert found.gap <= 1e-6

"""What must hold between the answers to related problems, whatever the numbers are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import portfolioopt as po
from portfolioopt.problem.constraints import Constraint
from portfolioopt.solve.engine import interior_point
from portfolioopt_kernels import CONVERGED, HingeProgram, Settings, solve
from portfolioopt_kernels.padding import pad
from tests.oracles.instances import QUICK, QUICK_SHAPES, instance
from tests.oracles.references import objective_of, solve_linear, violations

# Everything here has one padded shape (20 x 5, one CVaR level, one L1 block, one to four rows), compiled once.
S, N = 20, 5
ASSETS = pd.Index(["Ash", "Elm", "Fir", "Oak", "Yew"])
LABELS = pd.Series(["leaf", "leaf", "needle", "leaf", "needle"], ASSETS)
BETA = 0.87  # a tail of 2.6 scenarios

seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=20, derandomize=True, deadline=None)


@dataclass(frozen=True)
class Setup:
    """The parts of a problem, so that a property can change one of them."""

    returns: pd.DataFrame
    holdings: pd.Series
    aversion: float
    bps: float
    cap: float
    group_cap: float
    probabilities: npt.NDArray[np.float64]

    def problem(self, *more: Constraint, objective: po.Objective | None = None) -> po.Problem:
        target = po.ExpectedReturn() - self.aversion * po.CVaR(BETA) - po.ProportionalCost(self.bps)
        return po.Problem(
            po.ScenarioSet(self.returns, self.probabilities),
            target if objective is None else objective,
            [
                po.Budget(),
                po.Bounds(0.0, self.cap),
                po.GroupLimit(LABELS, upper={"leaf": self.group_cap}),
                *more,
            ],
            holdings=self.holdings,
        )

    def but(self, **changes: object) -> Setup:
        return Setup(**(self.__dict__ | changes))  # type: ignore[arg-type]


def setup(seed: int) -> Setup:
    rng = np.random.default_rng(seed)
    returns = 0.01 * rng.standard_t(4, (S, N)) + 0.003 * rng.normal(size=N)
    return Setup(
        returns=pd.DataFrame(returns, columns=ASSETS),
        holdings=pd.Series(rng.dirichlet(np.ones(N)), ASSETS),
        aversion=float(rng.uniform(0.2, 3.0)),
        bps=float(rng.uniform(1.0, 20.0)),
        cap=float(rng.uniform(0.35, 0.7)),
        group_cap=float(rng.uniform(0.4, 0.7)),
        probabilities=rng.dirichlet(np.full(S, 5.0)),
    )


def answer(problem: po.Problem) -> po.Result:
    result = po.optimize(problem)
    assert result.certificate is not None
    assert result.certificate.gap <= 1e-8
    return result


def weights(result: po.Result) -> pd.Series:
    assert result.weights is not None
    return result.weights


def scale(result: po.Result) -> float:
    assert result.certificate is not None
    return result.certificate.scale


def same(one: po.Result, other: po.Result, *, factor: float = 1.0, shift: float = 0.0) -> None:
    """Equal objectives, after scaling and shifting the first, and equal weights; these optima are unique."""
    expected = factor * one.objective + shift
    assert other.objective == pytest.approx(expected, abs=2e-8 * max(factor * scale(one), scale(other)))
    own = weights(other)
    np.testing.assert_allclose(own, weights(one)[own.index], rtol=0, atol=1e-6)


# -- symmetries ------------------------------------------------------------------------------------------------------
@few
@given(seeds, st.permutations(range(N)))
def test_the_order_of_the_assets_does_not_matter(seed: int, order: list[int]) -> None:
    first = setup(seed)
    second = first.but(returns=first.returns.iloc[:, order])
    same(answer(first.problem()), answer(second.problem()))


@few
@given(seeds)
def test_the_order_of_the_scenarios_does_not_matter(seed: int) -> None:
    first = setup(seed)
    order = np.random.default_rng(seed + 1).permutation(S)
    second = first.but(returns=first.returns.iloc[order], probabilities=first.probabilities[order])
    same(answer(first.problem()), answer(second.problem()))


@few
@given(seeds, st.floats(-3.0, 2.0))
def test_returns_and_costs_in_another_unit_scale_the_objective(seed: int, power: float) -> None:
    first, factor = setup(seed), 10.0**power
    second = first.but(returns=factor * first.returns, bps=factor * first.bps)
    same(answer(first.problem()), answer(second.problem()), factor=factor)


@few
@given(seeds, st.floats(-3.0, 3.0))
def test_an_objective_in_another_unit_has_the_same_optimum(seed: int, power: float) -> None:
    first, factor = setup(seed), 10.0**power
    objective = factor * first.problem().objective
    same(answer(first.problem()), answer(first.problem(objective=objective)), factor=factor)


@few
@given(seeds, st.floats(-0.05, 0.05))
def test_a_sure_gain_on_top_shifts_the_cvar_by_itself(seed: int, gain: float) -> None:
    first = setup(seed)
    second = first.but(returns=first.returns + gain)
    # fully invested: the mean rises by the gain, and the CVaR of the loss falls by it
    one, other = answer(first.problem()), answer(second.problem())
    same(one, other, shift=(1.0 + first.aversion) * gain)
    assert other.risk.loc[BETA, "cvar"] == pytest.approx(one.risk.loc[BETA, "cvar"] - gain, abs=1e-6)


@few
@given(seeds)
def test_copies_of_a_scenario_count_like_one_with_their_probability(seed: int) -> None:
    first = setup(seed)
    half = S // 2
    live = first.probabilities[:half] / first.probabilities[:half].sum()
    once = first.but(probabilities=np.append(live, np.zeros(half)))
    top = first.returns.iloc[:half]
    twice = first.but(returns=pd.concat([top, top], ignore_index=True), probabilities=np.append(0.5 * live, 0.5 * live))
    same(answer(once.problem()), answer(twice.problem()))


@few
@given(seeds, st.floats(-10.0, 10.0))
def test_what_happens_with_probability_zero_does_not_matter(seed: int, wild: float) -> None:
    first = setup(seed)
    p = first.probabilities.copy()
    p[::4] = 0.0
    first = first.but(probabilities=p / p.sum())
    returns = first.returns.copy()
    returns.iloc[::4] = wild
    same(answer(first.problem()), answer(first.but(returns=returns).problem()))


# -- constraints -----------------------------------------------------------------------------------------------------
@few
@given(seeds)
def test_a_redundant_constraint_changes_nothing(seed: int) -> None:
    base = setup(seed)
    one = answer(base.problem())
    for extra in (
        po.Bounds(-0.5, 0.9, name="Wide"),
        po.ReturnTarget(-1.0),
        po.GroupLimit(LABELS, lower={"needle": 0.1}, name="Implied"),
        po.TradeLimit(1.0),
        po.CVaRLimit(BETA, 0.5),
    ):
        other = answer(base.problem(extra))
        same(one, other)
        assert not other.constraints.query("constraint == @extra.name")["binding"].any()
        assert (other.constraints.query("constraint == @extra.name")["shadow_price"] == 0.0).all()


def loosened(kind: str, base: Setup, anchor: po.Result) -> Callable[[float], po.Problem]:
    """The problem as a function of how much one of its limits is loosened; tight enough to matter at zero."""
    w, h = weights(anchor), base.holdings
    risk, gain = float(anchor.risk.loc[BETA, "cvar"]), anchor.expected_return  # type: ignore[arg-type]
    lean = po.ExpectedReturn() - 0.1 * base.aversion * po.CVaR(BETA)
    net = lean - po.ProportionalCost(base.bps)
    spread = 0.01  # what limits on risk and return are measured in
    forms: dict[str, Callable[[float], po.Problem]] = {
        "Bounds": lambda x: base.but(cap=base.cap + x).problem(),
        "GroupLimit": lambda x: base.but(group_cap=base.group_cap + x).problem(),
        "Turnover": lambda x: base.problem(
            po.Turnover(0.5 * float((w - h).abs().sum()) + 0.05 + x), objective=lean
        ),
        "TradeLimit": lambda x: base.problem(po.TradeLimit(0.5 * float((w - h).abs().max()) + 0.05 + x)),
        "ReturnTarget": lambda x: base.problem(po.ReturnTarget(gain - 0.1 * spread * x)),
        "CVaRLimit": lambda x: base.problem(po.CVaRLimit(BETA, risk + spread * (0.05 + x)), objective=net),
    }  # fmt: skip
    return forms[kind]


@pytest.mark.parametrize("kind", ["Bounds", "GroupLimit", "Turnover", "TradeLimit", "ReturnTarget", "CVaRLimit"])
@settings(max_examples=10, derandomize=True, deadline=None)
@given(seeds)
def test_loosening_a_limit_never_hurts_and_helps_less_and_less(kind: str, seed: int) -> None:
    base = setup(seed)
    problem = loosened(kind, base, answer(base.problem()))
    results = [po.optimize(problem(x), raise_on_failure=False) for x in (0.0, 0.05, 0.1)]
    if results[0].status is po.Status.infeasible:
        return  # then there is nothing to compare with
    values = [result.objective for result in results]
    slack = 1e-8 * max(map(scale, results))
    assert values[1] >= values[0] - slack
    assert values[2] >= values[1] - slack
    assert values[1] >= 0.5 * (values[0] + values[2]) - slack


# -- shadow prices ---------------------------------------------------------------------------------------------------
def rebuilt(problem: po.Problem, name: str, line: str, sense: str, step: float) -> po.Problem:
    """The problem with the limit behind one line of the report moved by `step`."""
    assets = problem.scenarios.assets
    inner = line.removeprefix(name).strip("[]")

    def moved(c: Constraint) -> Constraint:
        if c.name != name:
            return c
        match c:
            case po.Budget():
                return po.Budget(c.total + step)
            case po.Bounds():
                lower, upper = (pd.Series(side, assets, dtype=float) for side in (c.lower, c.upper))
                (lower if sense == ">=" else upper)[inner] += step
                return po.Bounds(lower, upper)
            case po.GroupLimit():
                lower, upper = dict(c.lower or {}), dict(c.upper or {})
                (lower if sense == ">=" else upper)[inner] += step
                return po.GroupLimit(c.labels, lower=lower, upper=upper)
            case po.Turnover():
                return po.Turnover(c.limit + step)
            case po.TradeLimit():
                limit = pd.Series(c.limit, assets, dtype=float)
                limit[inner] += step
                return po.TradeLimit(limit)
            case po.ReturnTarget():
                return po.ReturnTarget(c.target + step)
            case po.CVaRLimit():
                return po.CVaRLimit(c.beta, c.limit + step)
            case _:
                raise AssertionError(f"no instance has a {c!r}")

    return problem.replace(constraints=[moved(c) for c in problem.constraints])


def priced(kind: str, seed: int) -> po.Problem:
    """A problem where limits of the given kind tend to bind."""
    base = setup(seed)
    lean = po.ExpectedReturn() - 0.2 * po.CVaR(BETA) - po.ProportionalCost(base.bps)
    h = base.holdings
    scenarios = po.ScenarioSet(base.returns, base.probabilities)
    constraints: list[Constraint]
    box: list[Constraint] = [po.Budget(), po.Bounds(0.05, 0.4)]

    def free(objective: po.Objective) -> po.Result:
        """The optimum without the limit, which tells where to put it."""
        return answer(po.Problem(scenarios, objective, box, holdings=h))

    match kind:
        case "Budget" | "Bounds":
            constraints = box
        case "GroupLimit":
            held = float(weights(free(lean))[LABELS == "leaf"].sum())
            middle = 0.55  # of what the bounds allow the group to have
            if held < middle:
                limits = po.GroupLimit(LABELS, lower={"leaf": 0.5 * (held + middle)})
            else:
                limits = po.GroupLimit(LABELS, upper={"leaf": 0.5 * (held + middle)})
            constraints = [*box, limits]
        case "Turnover":
            # the turnover limit is the one L1 block here, so there are no costs
            lean = po.ExpectedReturn() - 0.2 * po.CVaR(BETA)
            constraints = [po.Budget(), po.Bounds(0.0, 0.9), po.Turnover(0.3)]
        case "TradeLimit":
            constraints = [po.Budget(), po.Bounds(-0.5, 1.0), po.TradeLimit(0.15)]
        case "ReturnTarget":
            lean = -po.CVaR(BETA) - po.ProportionalCost(1.0)
            least = free(lean).expected_return
            most = free(po.ExpectedReturn() + 1e-6 * lean).expected_return
            constraints = [*box, po.ReturnTarget(0.5 * (least + most))]
        case _:
            least = -free(-po.CVaR(BETA) - po.ProportionalCost(0.1)).objective
            lean = po.ExpectedReturn() - po.ProportionalCost(1.0)
            most = float(scenarios.tail(weights(free(lean - 0.0 * po.CVaR(BETA))), BETA).cvar)
            constraints = [*box, po.CVaRLimit(BETA, 0.5 * (least + most))]
    return po.Problem(scenarios, lean, constraints, holdings=h)


KINDS = ["Budget", "Bounds", "GroupLimit", "Turnover", "TradeLimit", "ReturnTarget", "CVaRLimit"]


@pytest.mark.parametrize("kind", KINDS)
def test_shadow_prices_are_what_another_limit_would_bring(kind: str) -> None:
    """Against differences of the reference's optima when the limit moves a little either way."""
    checked = 0
    senses = set()
    for seed in range(8):
        problem = priced(kind, seed)
        result = answer(problem)
        lines = result.constraints
        own = lines[lines["constraint"].str.startswith(kind) & lines["binding"]]
        for line in own.itertuples():
            step = 1e-5 if kind not in ("ReturnTarget", "CVaRLimit") else 1e-7
            looser = -step if line.sense == ">=" else step
            there, back = (
                solve_linear(rebuilt(problem, str(line.constraint), str(line.name), str(line.sense), move)).optimum
                for move in (looser, -looser)
            )
            # basis points of the objective per 0.01 of the limit; the two differ where the optimum has a kink
            gain, loss = 100.0 * (there - result.objective) / step, 100.0 * (result.objective - back) / step
            close = 1e-4 + 1e-4 * max(abs(gain), abs(loss))
            assert min(gain, loss) - close <= line.shadow_price <= max(gain, loss) + close, (seed, line)
            if abs(gain - loss) > close:
                continue
            assert line.shadow_price == pytest.approx(50.0 * (there - back) / step, abs=close)
            if line.sense != "==":
                assert line.shadow_price >= 0.0
            if line.shadow_price > 1e-3 or line.sense == "==":
                checked += 1
                senses.add(line.sense)
        slack = lines[~lines["binding"]]
        assert (slack["shadow_price"] == 0.0).all()
    assert checked >= 5
    if kind in ("Bounds", "GroupLimit"):
        assert senses == {"<=", ">="}


# -- the same answer every time --------------------------------------------------------------------------------------
@few
@given(seeds)
def test_the_same_problem_has_the_same_answer_to_the_last_bit(seed: int) -> None:
    one, other = answer(setup(seed).problem()), answer(setup(seed).problem())
    assert weights(one).to_numpy().tobytes() == weights(other).to_numpy().tobytes()
    assert one.certificate == other.certificate
    assert one.iterations == other.iterations
    pd.testing.assert_frame_equal(one.constraints, other.constraints, check_exact=True)


# -- kernels ---------------------------------------------------------------------------------------------------------
def padded(problem: po.Problem) -> HingeProgram:
    return pad(problem.compiled.program)


def test_a_batch_is_solved_like_its_members() -> None:
    plain = [setup(seed).problem() for seed in range(4)]
    random = [instance(seed).problem for seed in QUICK if seed % QUICK_SHAPES == 0][:4]
    for seed in range(4, 6):
        base = setup(seed)
        limit = 1.01 * float(answer(base.problem()).risk.loc[BETA, "cvar"])  # type: ignore[arg-type]
        plain.append(base.problem(po.CVaRLimit(BETA, limit)))
    problems = [*plain, *random]
    programs = [padded(problem) for problem in problems]
    with jax.enable_x64(True):
        batch = jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves), jnp.float64), *programs)
        together = jax.tree.map(np.asarray, jax.jit(jax.vmap(lambda p: solve(p, Settings())))(batch))
    iterations = set()
    for i, problem in enumerate(problems):
        alone = interior_point(problem.compiled.program, Settings()).solution
        assert int(together.status[i]) == int(alone.status)
        assert abs(int(together.iterations[i]) - int(alone.iterations)) <= 1
        iterations.add(int(alone.iterations))
        own = together.weights[i][: len(alone.weights)]
        if problem not in random:  # those may have two assets that are the same, and so many optima
            np.testing.assert_allclose(own, alone.weights, rtol=0, atol=1e-9)
        one, other = (objective_of(problem, pd.Series(w, problem.scenarios.assets)) for w in (own, alone.weights))
        assert one[0] == pytest.approx(other[0], rel=0, abs=1e-9 * max(one[1], 1e-300))
    assert len(iterations) > 2  # some members had to wait for others


@pytest.mark.slow
def test_single_precision_is_good_to_three_digits() -> None:
    loose = Settings(gap_tolerance=np.float32(1e-4), feasibility_tolerance=np.float32(1e-4))
    quick = jax.jit(lambda program: solve(program, loose))
    plain = [setup(seed).problem() for seed in range(10, 30)]
    random = [instance(seed).problem for seed in QUICK if seed % QUICK_SHAPES == 0]
    converged = 0
    errors: list[float] = []
    for problem in [*plain, *random]:
        program = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), padded(problem))
        found = jax.tree.map(np.asarray, quick(program))
        assert found.weights.dtype == np.float32
        for leaf in jax.tree.leaves(found):
            assert np.isfinite(leaf).all()
        converged += int(found.status) == CONVERGED
        assert float(found.gap) <= 1e-2
        w = pd.Series(found.weights.astype(np.float64)[: problem.scenarios.n_assets], problem.scenarios.assets)
        exact = po.optimize(problem)
        value, _ = objective_of(problem, w)
        errors.append(abs(value - exact.objective) / scale(exact))
        assert max(violations(problem, w).values()) <= 1e-3
    # which ones fall short of 1e-4 depends on rounding, and so on how the kernel was compiled
    assert converged >= 20
    assert np.quantile(errors, 0.9) <= 1e-3
    assert max(errors) <= 5e-3

"""Derivatives of smoothed weights: against central differences, and against what must hold whatever the numbers are."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import portfolioopt as po
from portfolioopt.gradient import SolutionMap, solution_map
from portfolioopt_kernels import scaling

S, N = 120, 6
ASSETS = pd.Index(["Ash", "Elm", "Fir", "Oak", "Pin", "Yew"])
LABELS = pd.Series(["leaf", "leaf", "needle", "leaf", "needle", "needle"], ASSETS)
EVERYTHING = (
    "returns",
    "probabilities",
    "mean",
    "holdings",
    "ExpectedReturn.weight",
    "CVaR.weight",
    "ProportionalCost.weight",
    "ProportionalCost.bps",
    "Bounds.lower",
    "Bounds.upper",
    "TradeLimit.limit",
    "GroupLimit.lower",
    "GroupLimit.upper",
    "Turnover.limit",
    "CVaRLimit(0.95).limit",
    "ReturnTarget.target",
    "Budget.total",
)


def make_problem(*, target_mean: pd.Series | None = None) -> po.Problem:
    rng = np.random.default_rng(5)
    common = rng.standard_t(5, (S, 1))
    returns = 0.01 * (0.6 * common + rng.standard_t(5, (S, N))) + np.linspace(0.001, 0.003, N)
    probabilities = rng.uniform(0.5, 1.5, S)
    holdings = pd.Series([0.3, 0.2, 0.2, 0.1, 0.1, 0.1], ASSETS)
    return po.Problem(
        po.ScenarioSet(pd.DataFrame(returns, columns=ASSETS), probabilities / probabilities.sum()),
        po.ExpectedReturn() - 0.5 * po.CVaR(0.9) - po.ProportionalCost(bps=8),
        [
            po.Budget(),
            po.Bounds(0.0, 0.45),
            po.TradeLimit(0.22),
            po.GroupLimit(LABELS, lower={"leaf": 0.2}, upper={"needle": 0.6}),
            po.Turnover(0.7),
            po.CVaRLimit(0.95, 0.0175),
            po.ReturnTarget(0.0006, mean=target_mean),
        ],
        holdings=holdings,
    )


@pytest.fixture(autouse=True)
def in_64_bits() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def problem() -> po.Problem:
    return make_problem()


@pytest.fixture(scope="module")
def whole(problem: po.Problem) -> SolutionMap:
    # without returns and probabilities, on which `mean` would not depend any more
    return solution_map(problem, EVERYTHING, smoothing=1e-2)


@pytest.fixture(scope="module")
def compiled(whole: SolutionMap):
    with jax.enable_x64(True):
        look = np.random.default_rng(0).normal(size=N)
        number = jax.jit(lambda values: look @ whole(values))
        gradient = jax.jit(jax.grad(lambda values: look @ whole(values)))
        return number, gradient(whole.base)


def central(number, base: dict, name: str, direction: np.ndarray) -> float:
    """Central difference of fourth order."""
    size = 1e-4 * max(np.abs(base[name]).max(), 1e-3) / np.abs(direction).max()

    def at(step: float) -> float:
        return float(number({**base, name: base[name] + step * size * direction}))

    return (8.0 * (at(1.0) - at(-1.0)) - (at(2.0) - at(-2.0))) / (12.0 * size)


@pytest.mark.parametrize("name", EVERYTHING)
def test_gradient_equals_central_difference(name: str, whole: SolutionMap, compiled) -> None:
    number, gradient = compiled
    rng = np.random.default_rng(1)
    for _ in range(2):
        direction = rng.normal(size=whole.base[name].shape)
        expected = central(number, whole.base, name, direction)
        found = float(np.sum(np.asarray(gradient[name]) * direction))
        scale = float(np.linalg.norm(np.asarray(gradient[name]))) * float(np.linalg.norm(direction))
        assert scale > 0.0
        assert abs(found - expected) <= 1e-6 * scale


@pytest.mark.parametrize(
    "names",
    [
        ("returns", "probabilities", "CVaR.weight"),
        pytest.param(("returns",), marks=pytest.mark.slow),
        pytest.param(("probabilities",), marks=pytest.mark.slow),
    ],
)
def test_scenario_means_follow_the_scenarios(names: tuple[str, ...], problem: po.Problem) -> None:
    weights = solution_map(problem, names, smoothing=1e-2)
    look = np.random.default_rng(2).normal(size=N)
    number = jax.jit(lambda values: look @ weights(values))
    gradient = jax.jit(jax.grad(lambda values: look @ weights(values)))(weights.base)
    for name in names:
        direction = np.random.default_rng(3).normal(size=weights.base[name].shape)
        expected = central(number, weights.base, name, direction)
        assert float(np.sum(np.asarray(gradient[name]) * direction)) == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_it_is_the_smoothed_optimum_of_the_changed_problem(problem: po.Problem) -> None:
    """Weights at changed inputs are those of a problem that was made with them."""
    weights = solution_map(problem, ["Turnover.limit", "holdings"], smoothing=1e-3)
    held = pd.Series([0.1, 0.2, 0.2, 0.2, 0.2, 0.1], ASSETS)
    found = weights({"Turnover.limit": 0.5, "holdings": held.to_numpy()})
    changed = po.Problem(
        problem.scenarios,
        problem.objective,
        [po.Turnover(0.5) if isinstance(c, po.Turnover) else c for c in problem.constraints],
        holdings=held,
    )
    other = solution_map(changed, ["mean"], smoothing=1e-3)
    # the smoothing is relative to sizes of the problem that a map was made of; in these two they agree
    np.testing.assert_allclose(found, other.weights, atol=1e-9)


def test_weights_tend_to_the_certified_optimum(problem: po.Problem) -> None:
    best = po.optimize(problem)
    compiled = problem.compiled
    held, matrix = compiled.holdings, problem.scenarios.source.matrix
    assert held is not None
    assert matrix is not None
    losses = []
    for smoothing in (1e-2, 1e-3, 1e-4, 1e-6):
        weights = solution_map(problem, ["mean"], smoothing=smoothing).weights
        w = weights.to_numpy()
        returns = compiled.mean @ w - 0.5 * po.scenarios.tail(-matrix @ w, compiled.probabilities, 0.9).cvar
        value = returns - 8e-4 * np.abs(w - held).sum()
        losses.append((best.objective - value) / best.certificate.scale)
        assert w.sum() == pytest.approx(1.0, abs=1e-9)
        assert (w > 0.0).all()
        assert (w < 0.45).all()
        assert np.abs(w - held).sum() <= 0.7
    assert losses == sorted(losses, reverse=True)
    assert losses[0] < 2e-2
    assert 0.0 <= losses[-1] < 2e-6
    np.testing.assert_allclose(weights, best.weights, atol=1e-4)


@pytest.mark.slow
def test_forwards_equals_backwards(problem: po.Problem) -> None:
    weights = solution_map(problem, ["mean"], smoothing=1e-2)
    forwards = jax.jit(jax.jacfwd(lambda mean: weights({"mean": mean})))(weights.base["mean"])
    backwards = jax.jit(jax.jacrev(lambda mean: weights({"mean": mean})))(weights.base["mean"])
    np.testing.assert_allclose(forwards, backwards, atol=1e-9 * float(jnp.abs(forwards).max()))


def test_jacobian_in_the_mean_of_the_objective_is_symmetric_and_definite(problem: po.Problem) -> None:
    """Weights are the gradient of a convex function of the mean, where only the objective looks at it."""
    weights = solution_map(problem, ["ExpectedReturn.mean"], smoothing=1e-2)
    table = weights.jacobian("ExpectedReturn.mean")
    assert list(table.columns) == list(ASSETS)
    size = np.abs(table.to_numpy()).max()
    np.testing.assert_allclose(table, table.T, atol=1e-8 * size)
    np.testing.assert_allclose(table.sum(axis=0), 0.0, atol=1e-9 * size)  # the budget stays
    assert np.linalg.eigvalsh(table.to_numpy()).min() >= -1e-9 * size


@pytest.mark.slow
def test_vmap_equals_loop(problem: po.Problem) -> None:
    weights = solution_map(problem, ["CVaR.weight", "mean"], smoothing=1e-2)
    look = np.random.default_rng(4).normal(size=N)
    gradient = jax.grad(lambda aversion, mean: look @ weights({"CVaR.weight": aversion, "mean": mean}), argnums=(0, 1))
    aversions = np.array([0.2, 0.5, 1.0, 3.0])
    means = weights.base["mean"] * np.array([0.5, 1.0, 1.5, 2.0])[:, None]
    batch = jax.jit(jax.vmap(gradient))(aversions, means)
    alone = jax.jit(gradient)
    for i in range(len(aversions)):
        one = alone(aversions[i], means[i])
        for many, single in zip(batch, one, strict=True):
            np.testing.assert_allclose(many[i], single, rtol=1e-6, atol=1e-9)


@pytest.mark.slow
def test_factor_loadings_by_the_chain_rule(problem: po.Problem) -> None:
    rng = np.random.default_rng(6)
    factors, rest = 0.01 * rng.standard_t(5, (S, 2)), 0.008 * rng.standard_normal((S, N))
    loadings = rng.normal(1.0, 0.3, (N, 2))
    weights = solution_map(
        po.Problem(
            po.ScenarioSet(pd.DataFrame(factors @ loadings.T + rest, columns=ASSETS)),
            po.ExpectedReturn() - po.CVaR(0.9),
            [po.Budget(), po.Bounds(0.0, 0.5)],
        ),
        ["returns"],
        smoothing=1e-2,
    )
    look = rng.normal(size=N)

    def number(b):
        return look @ weights({"returns": factors @ b.T + rest})

    gradient = jax.jit(jax.grad(number))(jnp.asarray(loadings))
    direction = rng.normal(size=loadings.shape)
    expected = central(lambda v: jax.jit(number)(v["b"]), {"b": jnp.asarray(loadings)}, "b", direction)
    assert float(np.sum(gradient * direction)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
def test_no_room_is_nan_and_said_so_at_the_start(problem: po.Problem) -> None:
    weights = solution_map(problem, ["Turnover.limit", "Budget.total"], smoothing=1e-2)
    assert np.isnan(weights({"Budget.total": 5.0})).all()
    tight = problem.replace(constraints=[po.Budget(), po.Bounds(0.0, 1 / N)])
    with pytest.raises(po.StalledError, match="no room"):
        solution_map(tight, ["mean"])


def test_far_from_where_it_was_made(problem: po.Problem) -> None:
    """A call that Newton's method cannot reach from the problem's own optimum begins anew."""
    weights = solution_map(problem, ["mean"], smoothing=1e-4)
    far = -5.0 * weights.base["mean"] + np.linspace(0.01, 0.0, N)
    moved = problem.replace(
        objective=po.ExpectedReturn(pd.Series(far, ASSETS)) - 0.5 * po.CVaR(0.9) - po.ProportionalCost(8)
    )
    own = solution_map(problem, ["ExpectedReturn.mean"], smoothing=1e-4)
    best = po.optimize(moved).weights
    np.testing.assert_allclose(own({"ExpectedReturn.mean": far}), best, atol=3e-3)


def test_bad_input_is_refused(problem: po.Problem) -> None:
    with pytest.raises(po.UnknownNameError, match="did you mean 'CVaR"):
        solution_map(problem, ["CVaR.wieght"])
    with pytest.raises(po.InputError, match="twice"):
        solution_map(problem, ["mean", "mean"])
    with pytest.raises(po.InputError, match="smoothing"):
        solution_map(problem, ["mean"], smoothing=0.0)
    weights = solution_map(problem, ["mean"])
    with pytest.raises(po.UnknownNameError, match="mean"):
        weights({"means": weights.base["mean"]})
    with pytest.raises(po.InputError, match="shape"):
        weights({"mean": np.zeros(N + 1)})
    with jax.enable_x64(False), pytest.raises(po.InputError, match="enable_x64"):
        weights({"mean": weights.base["mean"]})


def test_jax_is_left_alone(problem: po.Problem) -> None:
    with jax.enable_x64(False):
        solution_map(problem, ["mean"]).jacobian("mean")
        assert jnp.zeros(1).dtype == jnp.float32


def test_import_portfolioopt_does_not_import_gradients() -> None:
    code = "import sys, portfolioopt; sys.exit('portfolioopt.gradient' in sys.modules or 'cvxpylayers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# its callback runs in a thread of its own, which knows nothing of the 64-bit context here
@pytest.mark.filterwarnings("ignore:Explicitly requested dtype")
@pytest.mark.slow
def test_cvxpylayers_differentiates_the_same_problem() -> None:
    """Posed to it cone by cone; how near it comes is limited by its own solver."""
    cp = pytest.importorskip("cvxpy")
    layer_of = pytest.importorskip("cvxpylayers.jax").CvxpyLayer
    rng = np.random.default_rng(9)
    s, n, smoothing, beta, cap = 40, 4, 5e-2, 0.8, 0.5
    returns = rng.standard_t(5, (s, n)) * 0.01 + np.linspace(0.0, 0.003, n)
    problem = po.Problem(
        po.ScenarioSet(pd.DataFrame(returns, columns=list("abcd"))),
        po.ExpectedReturn() - 0.5 * po.CVaR(beta),
        [po.Budget(), po.Bounds(0.0, cap)],
    )
    weights = solution_map(problem, ["mean", "CVaR.weight"], smoothing=smoothing)
    sizes = scaling.measure(problem.compiled.program)
    size, unit = float(sizes.returns), float(sizes.objective)
    mean, aversion = cp.Parameter(n), cp.Parameter(nonneg=True)
    w, t, u = cp.Variable(n), cp.Variable(), cp.Variable(s)
    excess = -(returns / size) @ w - t
    risk = t + cp.sum(u) / (s * (1.0 - beta))
    barrier = cp.sum(cp.log(w)) + cp.sum(cp.log(cap - w))
    rounded = cp.norm(cp.vstack([excess, np.full(s, 2.0 * smoothing)]), axis=0) <= 2.0 * u - excess
    posed = cp.Problem(cp.Minimize(-mean @ w + aversion * risk - smoothing / n * barrier), [cp.sum(w) == 1, rounded])
    layer = layer_of(posed, [mean, aversion], [w])
    look = rng.normal(size=n)
    exact = {"solve_method": "SCS", "eps": 1e-10, "max_iters": 500_000}
    at = (jnp.asarray(problem.compiled.mean / unit), jnp.asarray(0.5 * size / unit))
    theirs = jax.grad(lambda *p: look @ layer(*p, solver_args=exact)[0], argnums=(0, 1))(*at)
    ours = jax.jit(
        jax.grad(lambda m, a: look @ weights({"mean": m * unit, "CVaR.weight": a * unit / size}), argnums=(0, 1))
    )(*at)
    np.testing.assert_allclose(layer(*at, solver_args=exact)[0], weights.weights, atol=1e-6)
    np.testing.assert_allclose(theirs[0], ours[0], rtol=5e-3, atol=1e-4 * float(jnp.abs(ours[0]).max()))
    np.testing.assert_allclose(theirs[1], ours[1], rtol=5e-3)

"""A quadratic term in factored form against the same one as a matrix: single, batched, in both precisions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from portfolioopt_kernels import Factored, HingeProgram, Settings, solve

N, K = 24, 3
RUN = jax.jit(solve)
RUN_BATCH = jax.jit(jax.vmap(solve, in_axes=(0, None, 0)))


def program(seed: int) -> HingeProgram:
    """Utility over weights that sum to one, at most 0.15 each, with a cost on trades from equal weights."""
    g = np.random.default_rng(seed)
    return HingeProgram(
        returns=np.zeros((2, N)),
        linear=-0.05 - 0.04 * g.normal(size=N),
        cvar_density=np.zeros((0, 2)),
        cvar_level=np.zeros(0),
        cvar_linear=np.zeros((0, N)),
        cvar_weight=np.zeros(0),
        cvar_cap=np.zeros(0),
        l1_rate=np.full((1, N), 0.002),
        l1_linear=np.zeros((1, N)),
        l1_reference=np.full((1, N), 1.0 / N),
        l1_weight=np.ones(1),
        l1_cap=np.full(1, np.inf),
        rows=np.ones((1, N)),
        row_lower=np.ones(1),
        row_upper=np.ones(1),
        lower=np.zeros(N),
        upper=np.full(N, 0.15),
        start=np.zeros(N),
    )


def form(seed: int, *, minus: bool) -> Factored:
    """A definite one, from which something is taken away where `minus`."""
    g = np.random.default_rng(100 + seed)
    root = 0.4 * g.normal(size=(N, K))
    diagonal = g.uniform(0.1, 0.4, N)
    sign = np.ones(K)
    if minus:  # less than the diagonal gives
        root[:, -1] *= 0.3 / np.linalg.norm(root[:, -1])
        sign[-1] = -1.0
    return Factored(diagonal, root, sign)


def dense(low: Factored) -> np.ndarray:
    return np.diag(low.diagonal) + (low.root * low.sign) @ low.root.T


@pytest.mark.parametrize("minus", [False, True])
def test_factored_is_the_matrix(minus: bool) -> None:
    low = form(1, minus=minus)
    assert np.linalg.eigvalsh(dense(low)).min() > 0
    x = np.random.default_rng(0).normal(size=N)
    np.testing.assert_allclose(low.times(x), dense(low) @ x, rtol=1e-12)
    with jax.enable_x64(True):
        one = RUN(program(1), Settings(), low)
        other = RUN(program(1), Settings(), jnp.asarray(dense(low)))
    np.testing.assert_allclose(one.weights, other.weights, atol=1e-7)
    assert float(one.gap) <= 1e-10
    assert float(one.infeasibility) <= 1e-10


def test_a_batch_is_a_loop_and_single_precision_comes_near() -> None:
    programs = [program(seed) for seed in range(4)]
    forms = [form(seed, minus=False) for seed in range(4)]
    stacked = jax.tree.map(lambda *parts: np.stack(parts), *programs)
    roots = jax.tree.map(lambda *parts: np.stack(parts), *forms)
    with jax.enable_x64(True):
        loop = [RUN(p, Settings(), f) for p, f in zip(programs, forms, strict=True)]
        batch = RUN_BATCH(stacked, Settings(), roots)
    np.testing.assert_allclose(batch.weights, np.stack([s.weights for s in loop]), atol=1e-8)
    single = jax.tree.map(lambda a: np.asarray(a, np.float32), (stacked, roots))
    low = RUN_BATCH(single[0], Settings(1e-4, 1e-4, 60), single[1])
    np.testing.assert_allclose(low.weights, batch.weights, atol=5e-3)


def test_scenarios_need_a_matrix() -> None:
    one = program(0)
    tail = jax.tree.map(lambda a: a, one)
    tail = HingeProgram(
        **{
            **{name: getattr(tail, name) for name in tail.__dataclass_fields__},
            "cvar_density": np.ones((1, 2)),
            "cvar_level": np.ones(1),
            "cvar_linear": np.zeros((1, N)),
            "cvar_weight": np.ones(1),
            "cvar_cap": np.full(1, np.inf),
        }
    )
    with pytest.raises(ValueError, match="without CVaR blocks"):
        solve(tail, Settings(), form(0, minus=False))

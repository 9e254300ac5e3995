"""What test_devices.py runs in processes of its own, because JAX settles its devices once a process.

``python device_checks.py CHECK [ARGUMENTS]``; a check asserts, and prints nothing.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import portfolioopt as po
from portfolioopt.scenarios import widened
from portfolioopt.solve import methods
from portfolioopt_kernels import (
    CONVERGED,
    ITERATION_LIMIT,
    HingeProgram,
    Settings,
    Solution,
    scaling,
    sharded,
    solve,
    vertex,
)

ASSETS = [f"A{i:02d}" for i in range(12)]


def returns(count: int = 3000) -> np.ndarray:
    rng = np.random.default_rng(21)
    factor = rng.standard_t(4.0, (count, 2)) @ rng.normal(0.005, 0.004, (2, len(ASSETS)))
    return factor + rng.normal(4e-4, 0.01, (count, len(ASSETS)))


def scenarios(count: int = 3000, dtype: Any = "float64") -> po.ScenarioSet:
    probabilities = np.random.default_rng(22).dirichlet(np.full(count, 5.0))
    return po.ScenarioSet(returns(count), probabilities, assets=ASSETS, dtype=dtype)


def problem(data: po.ScenarioSet) -> po.Problem:
    return po.Problem(
        data,
        po.ExpectedReturn() - 0.2 * po.CVaR(0.95),
        [po.Budget(), po.Bounds(0.0, 0.4), po.CVaRLimit(0.99, 0.023)],
    )


def same_optimum(data: po.ScenarioSet, here: po.ScenarioSet) -> None:
    """Both sets have the same optimum, found with all scenarios at once and by bands of them."""
    for cells in (len(ASSETS) * here.n_scenarios, 0):
        methods.CELLS = methods.WARM_CELLS = cells
        ours, theirs = po.optimize(problem(data)), po.optimize(problem(here))
        assert ours.status is po.Status.optimal
        assert ours.certificate.gap <= 1e-9
        assert ours.risk.loc[0.99, "cvar"] == pytest.approx(0.023, rel=1e-9)  # the limit binds
        assert ours.objective == pytest.approx(theirs.objective, rel=1e-12)
        np.testing.assert_allclose(ours.weights, theirs.weights, rtol=0, atol=1e-12)
        pd.testing.assert_frame_equal(ours.risk, theirs.risk, rtol=1e-12)


def same_passes(data: po.ScenarioSet, here: po.ScenarioSet) -> None:
    """Both sources agree in every pass, to the rounding of a sum."""
    rng = np.random.default_rng(23)
    (s, n), ours, theirs = here.source.shape, data.source, here.source
    weights, index = rng.normal(size=n), rng.integers(s, size=50)
    for a, b in ((ours, theirs), (widened(ours, 2), widened(theirs, 2))):
        w = np.append(weights, [0.3, -0.2])[: a.shape[1]]
        np.testing.assert_allclose(a.losses(w), b.losses(w), rtol=0, atol=1e-15)
        for measure in (rng.random((1, s)), rng.normal(size=(2, s)), np.zeros((1, s))):
            np.testing.assert_allclose(a.pull(measure), b.pull(measure), rtol=1e-13, atol=1e-16 * s)
        np.testing.assert_array_equal(a.rows(index), b.rows(index))
        assert a.rows([]).shape == (0, a.shape[1])
        np.testing.assert_array_equal(a.largest, b.largest)
        assert a.root_mean_square == pytest.approx(b.root_mean_square, rel=1e-14)
    np.testing.assert_allclose(data.mean(), here.mean(), rtol=0, atol=1e-17)
    np.testing.assert_allclose(data.covariance(), here.covariance(), rtol=1e-12)


# -- four devices ------------------------------------------------------------------------------------------------
def passes() -> None:
    assert len(jax.devices()) == 4
    two = Mesh(np.array(jax.devices()[2:]).reshape(1, 2), ("a", "b"))
    for count in (3001, 5):  # neither divides by four; five leave a device with one row and padding
        for dtype in ("float64", "float32"):
            here = scenarios(count, dtype)
            for block in (sharded.BLOCK, 7 * len(ASSETS)):
                sharded.BLOCK = block
                for mesh in (None, two):
                    data = here.on_devices(mesh)
                    assert data.source.matrix is None
                    assert data.source.dtype == here.source.dtype
                    same_passes(data, here)
                    back = pickle.loads(pickle.dumps(data))
                    np.testing.assert_array_equal(back.matrix, here.matrix)
                    assert back.matrix.dtype == here.matrix.dtype
    assert not jax.config.jax_enable_x64


def streamed(folder: str) -> None:
    numbers = returns(3001)
    np.save(Path(folder) / "returns.npy", np.log1p(numbers))
    log = po.ScenarioSet.from_npy(Path(folder) / "returns.npy", assets=ASSETS, kind="log")
    single = po.ScenarioSet.generated(
        lambda i: numbers[100 * i : 100 * i + 100].astype(np.float32), 3001, ASSETS, chunk_rows=100
    )
    for here in (log, single):
        same_passes(here.on_devices(), here)


def optimum() -> None:
    for dtype in ("float64", "float32"):
        here = scenarios(dtype=dtype)
        same_optimum(here.on_devices(), here)


def kernels() -> None:
    """Both kernels, jitted on a program of which the scenarios are spread over the devices."""
    program = problem(scenarios()).compiled.program
    sizes = scaling.measure(program)
    n, m = len(ASSETS), len(program.cvar_level)
    scaled = scaling.divide(program, sizes)
    start = vertex.Start(scaled.start, np.zeros(n + m, np.int32), np.zeros((n + m, n + m)), np.asarray(False))
    mesh = Mesh(np.array(jax.devices()), ("scenarios",))

    def descend(p: HingeProgram, limit: Any) -> Solution:
        return vertex.descend(p, jax.tree.map(jnp.asarray, start), limit, caps_move=True)[0]

    def spread(p: HingeProgram) -> HingeProgram:
        placed = {name: NamedSharding(mesh, PartitionSpec()) for name in vars(p)}
        placed["returns"] = NamedSharding(mesh, PartitionSpec("scenarios"))
        placed["cvar_density"] = NamedSharding(mesh, PartitionSpec(None, "scenarios"))
        return HingeProgram(**{name: jax.device_put(array, placed[name]) for name, array in vars(p).items()})

    def interior(p: HingeProgram, limit: Any) -> Solution:
        return solve(p, Settings(max_iterations=limit))

    with jax.enable_x64(True):
        # the last steps of an interior point magnify rounding by the condition of its matrices, the first do not
        for kernel, p, limit, status, places in (
            (descend, scaled, 5000, CONVERGED, 1e-12),
            (interior, program, 6, ITERATION_LIMIT, 1e-12),
            (interior, program, 200, CONVERGED, 1e-7),
        ):
            many, one = jax.jit(kernel)(spread(p), limit), jax.jit(kernel)(p, limit)
            assert int(many.status) == int(one.status) == status
            np.testing.assert_allclose(many.weights, one.weights, rtol=0, atol=places)
            np.testing.assert_allclose(many.scenario_dual, one.scenario_dual, rtol=0, atol=places)


# -- two processes -----------------------------------------------------------------------------------------------
def process(number: str, address: str) -> None:
    me = int(number)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(address, num_processes=2, process_id=me, initialization_timeout=60)
    assert len(jax.devices()) == 2 * len(jax.local_devices()) == 4
    here = scenarios()
    halves = [slice(0, 1300), slice(1300, 3000)]
    p = here.probabilities[halves[me]]
    own = po.ScenarioSet(here.matrix[halves[me]], p / p.sum(), assets=ASSETS)
    data = own.across_processes(share=p.sum())
    np.testing.assert_allclose(data.probabilities, here.probabilities, rtol=1e-13)
    same_passes(data, here)
    same_optimum(data, here)
    same_passes(here.on_devices(), here)  # each reads its part of what all have
    with pytest.raises(po.InputError, match="several processes cannot be pickled"):
        pickle.dumps(data)

    even = po.ScenarioSet(here.matrix[halves[me]], assets=ASSETS).across_processes()
    np.testing.assert_allclose(even.probabilities, np.full(3000, 1 / 3000), rtol=1e-12)
    for wrong, share, message in (
        (po.ScenarioSet(own.matrix, assets=ASSETS if me else ASSETS[::-1]), None, "assets or their order differs"),
        (po.ScenarioSet(own.matrix, assets=ASSETS, dtype="float32" if me else "float64"), None, "precision differs"),
        (po.ScenarioSet(own.matrix[:, : 10 + me], assets=ASSETS[: 10 + me]), None, "number of assets differs"),
        (own, 0.7, "shares of the processes are 0.7, 0.7"),
        (own, 0.7 if me else None, "shares of the processes are nan, 0.7"),
    ):
        with pytest.raises(po.InputError, match=message):
            wrong.across_processes(share=share)
    mesh = Mesh(np.array([d for d in jax.devices() if d.process_index == 0]), ("rows",))
    if me:
        with pytest.raises(po.InputError, match="no device of this process"):
            here.on_devices(mesh)
    else:
        same_passes(here.on_devices(mesh), here)


# -- compile cache -----------------------------------------------------------------------------------------------
def compile_seconds(out: str, folder: str = "") -> None:
    """Write down how long compiling takes, and check that JAX's own settings stay as they are."""
    if folder:
        po.compile_cache(folder)
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = [getattr(jax.config, name) for name in names]
    result = po.optimize(problem(scenarios(500)))
    assert [getattr(jax.config, name) for name in names] == before
    kept = sorted(Path(folder).iterdir()) if folder else []
    with jax.enable_x64(False):
        jax.jit(lambda x: x * 7.0 + 1.0)(1.0)
    assert (sorted(Path(folder).iterdir()) if folder else []) == kept  # nothing of others
    Path(out).write_text(str(result.timings.compile))


CHECKS: tuple[Callable[..., None], ...] = (passes, streamed, optimum, kernels, process, compile_seconds)

if __name__ == "__main__":
    {check.__name__: check for check in CHECKS}[sys.argv[1]](*sys.argv[2:])

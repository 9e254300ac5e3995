"""Scenarios on several devices and in several processes, the compile cache, and GPUs where there is one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import portfolioopt as po
from portfolioopt.solve import cache
from portfolioopt_kernels import CONVERGED, Settings, scaling, solve, vertex
from portfolioopt_kernels.sharded import Device

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("device_checks.py")
ASSETS = [f"A{i}" for i in range(10)]


def begin(check: str, *arguments: object, devices: int = 1, **environment: str) -> subprocess.Popen[str]:
    """Run one check in a process that sees this many CPU devices."""
    inherited = {name: value for name, value in os.environ.items() if name not in (cache.ENVIRONMENT, "XLA_FLAGS")}
    paths = {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "kernels")]),
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }
    command = [sys.executable, "-W", "error", str(SCRIPT), check, *map(str, arguments)]
    return subprocess.Popen(
        command, env=inherited | paths | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(*processes: subprocess.Popen[str]) -> None:
    """Wait until all have ended well."""
    try:
        texts = [process.communicate(timeout=240)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, text in zip(processes, texts, strict=True):
        assert process.returncode == 0, text


@pytest.mark.slow
def test_every_pass_on_four_devices_agrees_with_memory() -> None:
    finish(begin("passes", devices=4))


def test_sets_that_are_read_in_chunks_move_to_devices(tmp_path: Path) -> None:
    finish(begin("streamed", tmp_path, devices=4))


@pytest.mark.slow
def test_the_optimum_on_four_devices_is_that_in_memory() -> None:
    finish(begin("optimum", devices=4))


@pytest.mark.slow
def test_both_kernels_run_on_a_program_that_is_spread_over_four_devices() -> None:
    finish(begin("kernels", devices=4))


@pytest.mark.slow
def test_two_processes_with_half_of_the_rows_each_find_the_optimum_of_all() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    finish(*(begin("process", number, address, devices=2) for number in range(2)))


def test_the_only_process_has_all_rows_and_all_errors() -> None:
    data = small()
    joined = data.across_processes()
    pd.testing.assert_frame_equal(joined.covariance(), data.covariance(), rtol=1e-12)
    np.testing.assert_allclose(joined.probabilities, data.probabilities, rtol=1e-12)
    with pytest.raises(po.InputError, match=r"mesh must be a jax\.sharding\.Mesh or None \(all devices\), was list"):
        data.on_devices(jax.devices())
    with pytest.raises(po.InputError, match="share must be a probability or None"):
        data.across_processes(share="half")
    with pytest.raises(po.InputError, match=r"the shares of the processes are 0\.5 .*must be non-negative and sum to"):
        data.across_processes(share=0.5)
    with pytest.raises(po.InputError, match="never in memory as a whole"):
        _ = data.on_devices().matrix


def test_missing_returns_are_found_on_the_way_to_the_devices(tmp_path: Path) -> None:
    numbers = small().matrix.copy()
    numbers[17, 3] = np.nan
    np.save(tmp_path / "returns.npy", numbers)
    with pytest.raises(po.InputError, match=r"missing or infinite in 1 cells of 1 rows .*\(17, A3\)"):
        po.ScenarioSet.from_npy(tmp_path / "returns.npy", assets=ASSETS).on_devices()


@pytest.mark.slow
def test_the_compile_cache_saves_the_seconds_of_compiling_in_the_next_process(tmp_path: Path) -> None:
    out, folder, seconds = tmp_path / "seconds", tmp_path / "kernels", []
    for arguments, environment in (
        ([folder], {}),
        ([folder], {}),
        ([], {cache.ENVIRONMENT: str(folder)}),
    ):
        finish(begin("compile_seconds", out, *arguments, **environment))
        seconds.append(float(out.read_text()))
    assert max(seconds[1:]) < 0.5 * seconds[0]


def test_a_folder_that_cannot_be_used_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache._cache, "chosen", False)
    (tmp_path / "file").touch()
    with pytest.raises(po.InputError, match=r"folder: .*file cannot be made"):
        po.compile_cache(tmp_path / "file")
    with pytest.raises(po.InputError, match="folder must be a path or None, was 3"):
        po.compile_cache(3)
    monkeypatch.setenv(cache.ENVIRONMENT, str(tmp_path / "file" / "inside"))
    with pytest.raises(po.InputError, match=cache.ENVIRONMENT), cache.hold():
        pass
    assert cache._cache._users == 0


# -- GPU ---------------------------------------------------------------------------------------------------------
def gpus() -> list[Device]:
    try:
        return jax.devices("gpu")
    except RuntimeError:
        return []


gpu = pytest.mark.skipif(not gpus(), reason="needs a GPU")


def small(count: int = 2000) -> po.ScenarioSet:
    rng = np.random.default_rng(31)
    numbers = 0.01 * rng.standard_t(4.0, (count, len(ASSETS))) + rng.normal(5e-4, 5e-4, len(ASSETS))
    return po.ScenarioSet(numbers, rng.dirichlet(np.full(count, 4.0)), assets=ASSETS)


def problem(data: po.ScenarioSet, weight: float = 0.3) -> po.Problem:
    return po.Problem(data, po.ExpectedReturn() - weight * po.CVaR(0.95), [po.Budget(), po.Bounds(0.0, 0.3)])


@gpu
def test_the_interior_point_solves_a_batch_alike_on_gpu_and_cpu() -> None:
    programs = [problem(small(), weight).compiled.program for weight in (0.1, 0.3, 1.0)]
    with jax.enable_x64(True):
        stacked = jax.tree.map(lambda *parts: np.stack(parts), *programs)
        found = [
            jax.jit(jax.vmap(lambda p: solve(p, Settings())))(jax.device_put(stacked, device))
            for device in (gpus()[0], jax.devices("cpu")[0])
        ]
        for solution in found:
            np.testing.assert_array_equal(solution.status, CONVERGED)
        np.testing.assert_allclose(*(s.weights for s in found), rtol=0, atol=1e-6)  # both to a gap of 1e-10


@gpu
def test_the_descent_ends_at_the_same_vertex_on_gpu_and_cpu() -> None:
    program = problem(small()).compiled.program
    scaled, size = scaling.divide(program, scaling.measure(program)), len(ASSETS) + 1
    start = vertex.Start(scaled.start, np.zeros(size, np.int32), np.zeros((size, size)), np.asarray(False))
    with jax.enable_x64(True):
        descend = jax.jit(lambda p, s: vertex.descend(p, s, jnp.asarray(5000), caps_move=False)[0])
        found = [descend(*jax.device_put((scaled, start), device)) for device in (gpus()[0], jax.devices("cpu")[0])]
        for solution in found:
            assert int(solution.status) == CONVERGED
        np.testing.assert_allclose(*(s.weights for s in found), rtol=0, atol=1e-11)


@gpu
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_passes_on_a_gpu_agree_with_memory(dtype: str) -> None:
    rng = np.random.default_rng(32)
    here = po.ScenarioSet(small(50_001).matrix, assets=ASSETS, dtype=dtype)
    data = here.on_devices(jax.sharding.Mesh(np.array(gpus()), ("scenarios",)))
    weights, measure, index = rng.normal(size=10), rng.random((2, 50_001)), rng.integers(50_001, size=40)
    ours, theirs = data.source, here.source
    np.testing.assert_allclose(ours.losses(weights), theirs.losses(weights), rtol=0, atol=1e-15)
    np.testing.assert_allclose(ours.pull(measure), theirs.pull(measure), rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(ours.rows(index), theirs.rows(index))
    a, b = po.optimize(problem(data)), po.optimize(problem(here))
    assert a.objective == pytest.approx(b.objective, rel=1e-11)

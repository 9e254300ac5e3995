"""Run the kernel on a program: pad, compile once per shape, solve in float64 without touching JAX's global settings."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import numpy as np
from threadpoolctl import ThreadpoolController

from portfolioopt_kernels import HingeProgram, Settings, Solution, solve
from portfolioopt_kernels.padding import pad, unpad


class Run(NamedTuple):
    """A solution in NumPy float64, and what it took."""

    solution: Solution
    compile_seconds: float
    solve_seconds: float


class _QuietBlas:
    """Keep BLAS to one thread while a kernel runs, however many solves run at once; put it back after the last.

    On the CPU, JAX factors small matrices with SciPy's OpenBLAS. Its threads wait for each other by spinning and fight
    with XLA's own: on two cores a Cholesky factorisation of 200 x 200 takes 0.5 ms instead of 0.3, and hundreds of
    times that when anything else is running.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._controller: ThreadpoolController | None = None
        self._limit: Any = None

    @contextmanager
    def hold(self) -> Iterator[None]:
        with self._lock:
            if self._users == 0:
                if self._controller is None:
                    import scipy.linalg.cython_lapack  # noqa: F401  loads the library that is to be found

                    self._controller = ThreadpoolController()
                self._limit = self._controller.limit(limits=1, user_api="blas")
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0:
                    self._limit.restore_original_limits()


_quiet_blas = _QuietBlas()

_Key = tuple[tuple[tuple[int, ...], ...], str, str]
_executables: dict[_Key, jax.stages.Compiled] = {}


def run(program: HingeProgram, settings: Settings) -> Run:
    """Solve one NumPy program on JAX's default device.

    The context that switches 64-bit types on is local to this thread and this call, and nothing but NumPy leaves it,
    so 32-bit JAX code around it is not affected.
    """
    s, n, _, _, c = program.shape
    with jax.enable_x64(True):
        arguments = jax.tree.map(np.float64, settings), pad(program)
        arguments = jax.tree.map(jax.numpy.asarray, arguments)
        leaves = jax.tree.leaves(arguments)
        device = str(leaves[-1].device)
        key = (tuple(leaf.shape for leaf in leaves), str(leaves[-1].dtype), device)
        compile_seconds = 0.0
        if key not in _executables:
            start = time.perf_counter()
            _executables[key] = jax.jit(_solve).lower(*arguments).compile()
            compile_seconds = time.perf_counter() - start
        start = time.perf_counter()
        with _quiet_blas.hold():
            solution = jax.block_until_ready(_executables[key](*arguments))
        solve_seconds = time.perf_counter() - start
        solution = jax.tree.map(np.asarray, solution)
    return Run(unpad(solution, s, n, c), compile_seconds, solve_seconds)


def compiled_shapes() -> int:
    """How many distinct shapes have been compiled so far in this process."""
    return len(_executables)


def _solve(settings: Settings, program: HingeProgram) -> Solution:
    return solve(program, settings)

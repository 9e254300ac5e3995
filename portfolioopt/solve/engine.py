"""Run the kernel on a program: pad, compile once per shape, solve in float64 without touching JAX's global settings."""

from __future__ import annotations

import time
from typing import NamedTuple

import jax
import numpy as np

from portfolioopt_kernels import HingeProgram, Settings, Solution, solve
from portfolioopt_kernels.padding import pad, unpad


class Run(NamedTuple):
    """A solution in NumPy float64, and what it took."""

    solution: Solution
    compile_seconds: float
    solve_seconds: float


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
        solution = jax.block_until_ready(_executables[key](*arguments))
        solve_seconds = time.perf_counter() - start
        solution = jax.tree.map(np.asarray, solution)
    return Run(unpad(solution, s, n, c), compile_seconds, solve_seconds)


def compiled_shapes() -> int:
    """How many distinct shapes have been compiled so far in this process."""
    return len(_executables)


def _solve(settings: Settings, program: HingeProgram) -> Solution:
    return solve(program, settings)

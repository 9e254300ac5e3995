"""Run the kernels on NumPy programs: scale, pad, compile once per shape, solve in float64.

JAX's global settings are not touched: the context that switches 64-bit types on is local to a thread and a call, and
nothing but NumPy leaves it.
"""

from __future__ import annotations

import gc
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from portfolioopt.blas import quiet_blas
from portfolioopt.problem import Compiled
from portfolioopt_kernels import Factored, HingeProgram, Settings, Solution, exchange, scaling, solve, vertex
from portfolioopt_kernels.padding import pad, unpad

from . import cache
from .basis import Basis, Numbering


class Run(NamedTuple):
    """An interior-point solution in NumPy float64, and what it took."""

    solution: Solution
    compile_seconds: float
    solve_seconds: float


class Descent(NamedTuple):
    """A vertex in NumPy float64, and what it took."""

    solution: Solution
    basis: Basis
    compile_seconds: float
    solve_seconds: float


_LIMIT = 20_000  # pivots of one problem of a chain
_VARYING = [name for name in HingeProgram.__dataclass_fields__ if name not in ("returns", "start")]

_MOST_MAPS = 0.6  # of the memory maps a process may have; a compiled kernel takes up to a thousand of 65,530

_executables: OrderedDict[tuple[Any, ...], jax.stages.Compiled] = OrderedDict()  # the latest used comes last
_executables_lock = threading.Lock()
_compilations = 0


def interior_point(program: HingeProgram, settings: Settings, quadratic: np.ndarray | Factored | None = None) -> Run:
    """Solve one NumPy program by the interior point, on JAX's default device.

    `quadratic` is Q (N, N) of a term w'Qw / 2 in the objective, if there is one; in factored form only where the
    program has no CVaR blocks.
    """
    s, n, _, _, c = program.shape
    padded = pad(program)
    arguments: tuple[Any, ...] = jax.tree.map(np.float64, settings), padded
    room = padded.shape[1] - n
    if isinstance(quadratic, Factored):
        more = -quadratic.root.shape[1] % 8  # few shapes, so that loops compile once
        low_rank = Factored(
            np.pad(quadratic.diagonal, (0, room)),
            np.pad(quadratic.root, ((0, room), (0, more))),
            np.pad(quadratic.sign, (0, more), constant_values=1.0),
        )
        arguments = *arguments, low_rank
    elif quadratic is not None:
        arguments = *arguments, np.pad(np.asarray(quadratic, dtype=np.float64), ((0, room), (0, room)))
    solution, compile_seconds, solve_seconds = call(_interior_point, *arguments)
    return Run(unpad(solution, s, n, c), compile_seconds, solve_seconds)


def descend(
    program: HingeProgram,
    sizes: scaling.Scale,
    weights: np.ndarray,
    basis: Basis | None,
    scenarios: np.ndarray,
    limit: int,
) -> Descent:
    """Descend from weights, and from a basis where there is one, to an optimal vertex of a NumPy program.

    Parameters
    ----------
    sizes
        What to divide the program by.
    scenarios
        Name that `basis` has for each row of the program's returns (S,).
    limit
        Pivots after which to give up.
    """
    s, n, m, a, c = program.shape
    scaled = pad(scaling.divide(program, sizes))
    ps, pn, _, _, pc = scaled.shape
    numbering = Numbering(ps, pn, m, a, pc)
    code = None
    if basis is not None:
        position = np.full(1 + max(int(scenarios.max(initial=-1)), int(basis.scenarios.max(initial=-1))), -1)
        position[scenarios] = np.arange(s)
        code = numbering.encode(basis, position, n)
    start = vertex.Start(
        weights=np.pad(np.clip(weights, program.lower, program.upper), (0, pn - n)),
        basis=np.zeros(numbering.size, np.int32) if code is None else code.astype(np.int32),
        inverse=np.zeros((numbering.size, numbering.size)),
        warm=np.asarray(code is not None),
    )
    capped = bool(np.isfinite(program.cvar_cap).any() or np.isfinite(program.l1_cap).any())
    kernel = _descend_capped if capped else _descend_free
    (solution, again), compile_seconds, solve_seconds = call(kernel, scaled, start, np.int32(limit))
    solution = scaling.unscale(unpad(solution, s, n, c), sizes)
    return Descent(solution, numbering.decode(again.basis, scenarios, n), compile_seconds, solve_seconds)


class Chain:
    """Many programs of one shape on one scenario matrix, which is scaled, padded and put on the device once.

    Parameters
    ----------
    compiled
        One of the problems; the sizes that all are divided by come from it.
    matrix
        Returns (T, N): the scenarios of every problem, or a longer history of which each sees a window.
    windows
        Whether it is a history.
    """

    def __init__(self, compiled: Compiled, matrix: np.ndarray, *, windows: bool) -> None:
        program = compiled.program
        self._sizes = scaling.measure(program)
        self._windows = windows
        capped = bool(np.isfinite(program.cvar_cap).any() or np.isfinite(program.l1_cap).any())
        self._kernel = _chain_capped if capped else _chain_free
        self._shape = program.shape
        self._base = self._scaled(program)
        s = program.shape[0]
        ps, pn = self._base.shape[:2]
        room = ps - s  # a window may reach that far beyond the last row
        scaled = np.pad(
            np.asarray(matrix, dtype=np.float64) / self._sizes.returns, ((0, room), (0, pn - matrix.shape[1]))
        )
        with jax.enable_x64(True):
            self._returns = jax.device_put(scaled)

    def _scaled(self, program: HingeProgram) -> HingeProgram:
        """Everything but the returns."""
        stand_in = np.broadcast_to(np.zeros(()), program.returns.shape)
        return pad(scaling.divide_rest(exchange(program, returns=stand_in), self._sizes))

    def run(
        self, problems: Sequence[Compiled], first_rows: np.ndarray | None, state: Any, count: int
    ) -> tuple[list[Solution], Any]:
        """Solve at most `count` problems one after the other.

        Parameters
        ----------
        first_rows
            First row of each problem's window; None without windows.
        state
            What the call before returned; None to start anew.
        count
            Length that shorter lists are filled up to, so that all share one executable.
        """
        s, n, m, _, c = self._shape
        programs = [self._scaled(problem.program) for problem in problems]
        varying = {}
        for name in _VARYING:
            parts = [getattr(program, name) for program in programs]
            # the same arrays vary in every call, or each combination would be compiled
            parts += [parts[-1]] * (count - len(parts))
            varying[name] = np.stack(parts)
        pn = self._base.shape[1]
        start, before = (None, 0) if state is None else state
        if start is None:
            weights = np.clip(programs[0].start, programs[0].lower, programs[0].upper)
            size = pn + m
            basis, inverse = np.zeros(size, np.int32), np.zeros((size, size))
            start = vertex.Start(weights, basis, inverse, np.zeros((), bool))
        windows = None
        if first_rows is not None:
            rows = np.concatenate([first_rows, np.full(count - len(first_rows), first_rows[-1])]).astype(np.int32)
            windows = vertex.Windows(rows, np.diff(rows, prepend=np.int32(before)))
            before = int(rows[-1])
        base = exchange(self._base, returns=self._returns)
        (found, start), _, _ = call(self._kernel, base, varying, windows, start, np.int32(_LIMIT))
        solutions = []
        for i in range(len(problems)):
            one = exchange(found, **{name: value[i] for name, value in vars(found).items()})
            solutions.append(scaling.unscale(unpad(one, s, n, c), self._sizes))
        return solutions, (start, before)


def call(kernel: Callable[..., Any], *arguments: Any) -> tuple[Any, float, float]:
    """Run a kernel on NumPy arrays, compiled once per shape: (NumPy results, compile seconds, run seconds)."""
    with jax.enable_x64(True):
        leaves, structure = jax.tree.flatten(arguments)
        device = jax.config.jax_default_device or jax.local_devices()[0]  # pyright: ignore[reportAttributeAccessIssue]
        key = (kernel, structure, tuple((np.shape(leaf), leaf.dtype.str) for leaf in leaves), device)
        compile_seconds = 0.0
        with _executables_lock:
            compiled = _executables.get(key)
            if compiled is not None:
                _executables.move_to_end(key)
        if compiled is None:
            start = time.perf_counter()
            compiled = _compile(key, kernel, arguments)
            compile_seconds = time.perf_counter() - start
        start = time.perf_counter()
        with quiet_blas.hold():
            result = jax.block_until_ready(compiled(*arguments))
        return jax.tree.map(np.asarray, result), compile_seconds, time.perf_counter() - start


def _compile(key: tuple[Any, ...], kernel: Callable[..., Any], arguments: tuple[Any, ...]) -> jax.stages.Compiled:
    global _compilations
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf), leaf.dtype), arguments)
    with cache.hold():
        # A function of its own, because JAX keeps what it compiled for as long as the function lives.
        compiled = jax.jit(lambda *given: kernel(*given)).lower(*shapes).compile()
    with _executables_lock:
        _compilations += 1
        _executables[key] = compiled
        if _maps_used() > _MOST_MAPS:
            for _ in range((len(_executables) + 1) // 2):
                _executables.popitem(last=False)
            gc.collect()
    return compiled


def _maps_used() -> float:
    """Share of the memory maps that Linux allows a process; beyond them it is ended. 0 where there is no such limit."""
    try:
        most = int(Path("/proc/sys/vm/max_map_count").read_text())
        with Path("/proc/self/maps").open("rb") as lines:
            return sum(1 for _ in lines) / most
    except OSError:
        return 0.0


def compilations() -> int:
    """How many times a kernel has been compiled so far in this process."""
    return _compilations


def _interior_point(settings: Settings, program: HingeProgram, quadratic: Any = None) -> Solution:
    return solve(program, settings, quadratic)


def _chain_free(*arguments: Any) -> tuple[Solution, vertex.Start]:
    return vertex.chain(*arguments, caps_move=False)


def _chain_capped(*arguments: Any) -> tuple[Solution, vertex.Start]:
    return vertex.chain(*arguments, caps_move=True)


def _descend_free(program: HingeProgram, start: vertex.Start, limit: Any) -> tuple[Solution, vertex.Start]:
    return vertex.descend(program, start, limit, caps_move=False)


def _descend_capped(program: HingeProgram, start: vertex.Start, limit: Any) -> tuple[Solution, vertex.Start]:
    return vertex.descend(program, start, limit, caps_move=True)

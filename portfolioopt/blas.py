"""BLAS held to one thread where its own threads only get in the way."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from threadpoolctl import ThreadpoolController


class _QuietBlas:
    """Keep BLAS to one thread while something runs, however many calls run at once; put it back after the last.

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

                    self._controller = ThreadpoolController().select(user_api="blas")
                self._limit = self._controller.limit(limits=1)
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0:
                    self._limit.restore_original_limits()


quiet_blas = _QuietBlas()
"""The one of this process: two would restore each other's limits."""

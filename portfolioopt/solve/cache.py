"""Keep compiled kernels in a folder, so that the next process does not compile them again.

JAX's own persistent cache does the work. Its settings are global, so they are set while a kernel of this library is
being compiled and put back afterwards: `jax_compilation_cache_dir` and `jax_persistent_cache_min_compile_time_secs`,
and the cache is reset, which JAX wants after a change of folder. What other threads compile in those seconds lands in
the folder too.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache

from portfolioopt.errors import InputError

ENVIRONMENT = "PORTFOLIOOPT_COMPILE_CACHE"


def compile_cache(folder: str | Path | None) -> None:
    """Keep what is compiled from now on in a folder, and use what is there; off unless asked for.

    Compiling a kernel takes seconds, once per shape and process; from the folder it takes a fraction of one. The
    environment variable PORTFOLIOOPT_COMPILE_CACHE does the same for processes that do not call this.

    Parameters
    ----------
    folder
        Made where it does not exist. Entries depend on the kernel, the shape, the versions and the device, and are
        never removed. Loading one runs what it holds, so nobody else should be able to write there. None switches the
        cache off, whatever the environment says.

    Raises
    ------
    InputError
        Where the folder cannot be made or written to.
    """
    _cache.folder = None if folder is None else _usable(folder, "folder")
    _cache.chosen = True


class _Cache:
    """The folder, and what JAX's settings were before kernels began to compile."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.chosen = False  # or left to the environment
        self._lock = threading.Lock()
        self._users = 0
        self._before: dict[str, Any] = {}

    @contextmanager
    def hold(self) -> Iterator[None]:
        """JAX uses the folder until the last one leaves."""
        with self._lock:
            if not self.chosen:
                folder = os.environ.get(ENVIRONMENT)
                self.folder, self.chosen = _usable(folder, ENVIRONMENT) if folder else None, True
            if self._users == 0 and self.folder is not None:
                wanted = {
                    "jax_compilation_cache_dir": str(self.folder),
                    "jax_persistent_cache_min_compile_time_secs": 0.0,
                }
                self._before = {name: getattr(jax.config, name) for name in wanted}
                _configure(wanted)
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0 and self._before:
                    _configure(self._before)
                    self._before = {}


_cache = _Cache()
hold = _cache.hold


def _configure(settings: dict[str, Any]) -> None:
    for name, value in settings.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def _usable(folder: str | Path, what: str) -> Path:
    if not isinstance(folder, str | os.PathLike) or not str(folder):
        raise InputError(f"{what} must be a path or None, was {folder!r}")
    path = Path(folder).expanduser().absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{what}: {path} cannot be made: {error}; name a folder that can be written to") from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise InputError(f"{what}: {path} cannot be written to; name a folder that can")
    return path

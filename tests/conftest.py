"""Settings for all tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest
from hypothesis import settings

# The first example of a shape compiles a kernel, so a deadline would measure the compiler.
settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")

# Most of the time goes into compiling, and workers and later runs need the same kernels.
os.environ.setdefault(
    "PORTFOLIOOPT_COMPILE_CACHE", str(Path(__file__).resolve().parents[1] / ".pytest_cache" / "kernels")
)


@pytest.fixture(scope="module", autouse=True)
def forget_compiled_kernels() -> Iterator[None]:
    """Let go of what a module's tests compiled: Linux ends a process that has used up its 65,530 memory maps."""
    yield
    jax.clear_caches()

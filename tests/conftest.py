"""Settings for all tests."""

import os
import zlib
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


def pytest_addoption(parser: pytest.Parser) -> None:
    """How many of the slow tests to run."""
    what = "run one slow test in N, always the same ones (all: 1)"
    parser.addoption("--slow-sample", type=int, default=1, metavar="N", help=what)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the slow tests that a sample does not want."""
    share = config.getoption("--slow-sample")
    chosen = [i for i in items if not i.get_closest_marker("slow") or zlib.crc32(i.nodeid.encode()) % share == 0]
    if len(chosen) < len(items):
        config.hook.pytest_deselected(items=[item for item in items if item not in set(chosen)])
        items[:] = chosen


@pytest.fixture(scope="module", autouse=True)
def forget_compiled_kernels() -> Iterator[None]:
    """Let go of what a module's tests compiled: Linux ends a process that has used up its 65,530 memory maps."""
    yield
    jax.clear_caches()

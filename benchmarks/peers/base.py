"""What a solver under test looks like: prepare once, not timed; then solve, timed."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..instances import FloatArray, Instance


class Answer(NamedTuple):
    """Weights, seconds of the call that went into compiling, and what else the solver says of its work."""

    weights: FloatArray
    compile_seconds: float = 0.0
    details: dict[str, Any] = {}  # noqa: RUF012  read only


Solve = Callable[[], Answer]


@dataclass(frozen=True)
class Peer:
    """One way to solve an instance.

    Parameters
    ----------
    key
        Name on the command line and in the results.
    title
        Name in tables.
    packages
        Distributions that it needs; where one is missing, the peer is left out.
    prepare
        Turn an instance into a call that solves it.
    accuracy
        Relative gap and violation that its settings promise, as far as its documentation promises any.
    unsupported
        Problems that it cannot state, each with the reason.
    """

    key: str
    title: str
    packages: tuple[str, ...]
    prepare: Callable[[Instance], Solve]
    accuracy: float = 1e-6
    unsupported: dict[str, str] = field(default_factory=dict)

    def missing(self) -> list[str]:
        """Distributions that are not installed."""
        return [package for package in self.packages if version(package) is None]


def version(package: str) -> str | None:
    """Version of an installed distribution, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None

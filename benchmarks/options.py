"""What a run of the benchmarks is asked to do."""

from __future__ import annotations

from dataclasses import dataclass, field

from .instances import DATA, PROBLEMS
from .peers import PEERS

Size = tuple[int, int]

QUICK: tuple[Size, ...] = ((1_000, 50), (2_000, 200))
FULL: tuple[Size, ...] = (
    (1_000, 50),
    (2_000, 200),
    (10_000, 100),
    (10_000, 500),
    (50_000, 200),
    (100_000, 100),
    (100_000, 500),
    (1_000_000, 50),
)
EVERY_PROBLEM: tuple[Size, ...] = FULL[:3]
"""Sizes at which a default run poses all problems; beyond them it poses P1 only."""
BUNDLED: tuple[Size, ...] = ((10_000, 20),)
"""Bootstraps of the bundled prices, which are of 20 assets."""


@dataclass(frozen=True)
class Options:
    """Choices of the command line; where sizes, problems or peers are None, each benchmark has its own."""

    seconds: float = 300.0
    gigabytes: float = 18.0
    quick: bool = False
    full: bool = False
    huge: bool = False
    sizes: tuple[Size, ...] | None = None
    problems: tuple[str, ...] | None = None
    data: tuple[str, ...] = field(default=DATA)
    peers: tuple[str, ...] | None = None

    def wants(self, problem: str, size: Size) -> bool:
        """Whether a problem is posed at a size."""
        if self.problems is not None:
            return problem in self.problems
        everywhere = self.sizes is not None or self.full or size in EVERY_PROBLEM + BUNDLED
        return problem in PROBLEMS and (everywhere or problem == "P1")

    def sizes_of(self, data: str) -> tuple[Size, ...]:
        """Sizes of one kind of data, the smaller ones first."""
        sizes = self.sizes if self.sizes is not None else QUICK if self.quick else FULL
        if data == "bootstrap":
            asked = tuple(size for size in self.sizes or () if size[1] == BUNDLED[0][1])
            return asked if self.sizes is not None else ((1_000, 20),) if self.quick else BUNDLED
        return tuple(sorted(sizes, key=lambda size: (size[0] * size[1], size)))

    def chosen(self, default: tuple[str, ...] = tuple(PEERS)) -> tuple[str, ...]:
        """Keys of the peers to run, in their usual order."""
        wanted = default if self.peers is None else self.peers
        return tuple(key for key in PEERS if key in wanted)

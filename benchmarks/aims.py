"""What this library sets out to reach on two CPU cores, warm, against the fastest peer that is itself exact.

Shown beside what was reached, whether or not it was.
"""

from __future__ import annotations

from typing import NamedTuple


class Aim(NamedTuple):
    """What to reach, and what would be better still."""

    value: float
    stretch: float | None = None


RATIO = {
    (1_000, 50): Aim(5, 10),
    (2_000, 200): Aim(5, 10),
    (10_000, 100): Aim(10, 25),
    (10_000, 500): Aim(10, 20),
    (50_000, 200): Aim(25, 60),
    (100_000, 100): Aim(30, 75),
    (100_000, 500): Aim(30, 75),
    (1_000_000, 50): Aim(20, 60),
}
"""P1: seconds of the fastest exact peer over ours, by (S, N)."""
OTHER_PROBLEMS = Aim(2)
"""P2, P3, P4: seconds over those of P1 at the same size, at most."""
LARGE = 100_000
"""Scenarios from which the two physical aims hold."""
LOSSES = {100: Aim(40, 15), 500: Aim(150, 50)}
"""Seconds over those of one evaluation of R @ w, at most, by the largest N they hold for."""
PASSES = Aim(8, 4)
"""Reads of the whole scenario matrix, at most."""
GROWTH = Aim(1.1)
"""Power of S that time grows with at N = 50, from 10,000 scenarios, at most."""
HUGE_MEMORY = Aim(2.0)
"""GiB of memory at 10,000,000 x 50, at most; the matrix itself is 3.7."""
LANGUAGE = Aim(3)
"""Seconds of other measures that are carried as hinges over those of CVaR alone, at most."""
FRONTIER = Aim(5, 20)
"""Seconds of the fastest exact peer over ours."""
LOOP = Aim(10, 30)
"""Seconds of the fastest exact peer over ours."""
LOOP_TURNOVER = Aim(2)
"""Seconds of our loop with a turnover limit over those without, at most."""
BATCH = Aim(30)
"""1,000 what-ifs at 1,000 x 50: seconds per problem of the fastest exact peer over ours."""
GPU_SECONDS = {(10_000, 392): Aim(0.040), (1_000_000, 500): Aim(0.5)}
"""P1 on an H200, at most."""
GPU_RATE = Aim(20_000)
"""Problems per second in a batch of 10,000 at 500 x 50 on an H200, at least."""


def losses(scenarios: int, assets: int) -> Aim | None:
    """The aim for evaluations of the losses, where there is one."""
    fitting = [aim for most, aim in sorted(LOSSES.items()) if assets <= most]
    return fitting[0] if scenarios >= LARGE and fitting else None


class Goal(NamedTuple):
    """One aim beside what was reached."""

    what: str
    wanted: str
    reached: str
    met: bool | None  # None where it was not measured


def at_least(what: str, aim: Aim, reached: float | None, unit: str = "x") -> Goal:
    """An aim that more is better for."""
    stretch = f", stretch {aim.stretch:,g}{unit}" if aim.stretch else ""
    met = None if reached is None else reached >= aim.value
    return Goal(what, f"at least {aim.value:,g}{unit}{stretch}", _text(reached, unit), met)


def at_most(what: str, aim: Aim, reached: float | None, unit: str = "") -> Goal:
    """An aim that less is better for."""
    stretch = f", stretch {aim.stretch:,g}{unit}" if aim.stretch else ""
    met = None if reached is None else reached <= aim.value
    return Goal(what, f"at most {aim.value:,g}{unit}{stretch}", _text(reached, unit), met)


def _text(value: float | None, unit: str) -> str:
    if value is None:
        return "not measured"
    return f"{value:,.0f}{unit}" if value >= 100 else f"{value:.3g}{unit}"

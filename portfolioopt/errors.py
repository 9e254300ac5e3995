"""The errors of portfolioopt: one small tree, so that ``except PortfolioOptError`` catches all of them.

::

    PortfolioOptError
    ├── InputError (also a ValueError)    what was passed in cannot be meant
    │   ├── UnknownNameError              a ticker, sector, factor or key that does not exist
    │   └── ConfigError                   the same faults in a configuration file, with file and line
    └── SolveError                        the input was sound, but there is no accepted optimum
        ├── InfeasibleError               no portfolio meets all constraints
        ├── UnboundedError                the objective grows without limit
        └── StalledError                  the solver stopped short of its tolerance

Every text says what is wrong, where, and what to do about it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "ConfigError",
    "InfeasibleError",
    "InputError",
    "PortfolioOptError",
    "SolveError",
    "StalledError",
    "UnboundedError",
    "UnknownNameError",
    "unknown_names",
]

_LISTED: Final = 5  # names spelt out in a message before it turns to a count
_LISTED_WHOLE: Final = 12  # a known set this small is shown whole when nothing in it is close


class PortfolioOptError(Exception):
    """Base of every error that portfolioopt raises on purpose.

    Catch it to handle anything the library refuses or cannot solve. Any other exception that leaves the
    library is a defect worth reporting.
    """


class InputError(PortfolioOptError, ValueError):
    """An argument or the data in it cannot be used as given.

    Raised before any work is done: wrong shapes, missing or impossible values, contradictory settings. It is
    a ``ValueError`` as well. The text names the culprit (asset, date, argument) and the remedy; correct the
    input and call again.
    """


class UnknownNameError(InputError):
    """A name does not occur among the known ones: a ticker, sector, factor, constraint or key.

    Usually a spelling mistake, or data from two universes. The text lists the close matches; correct the
    name, or drop it from the input if it was never meant to be there. Build it with :func:`unknown_names`.

    Parameters
    ----------
    message
        The text of the error.
    unknown
        The names that were not found.
    known
        The names that would have been accepted.
    """

    def __init__(self, message: str, *, unknown: Iterable[object] = (), known: Iterable[object] = ()) -> None:
        super().__init__(message)
        self.unknown: tuple[object, ...] = tuple(unknown)
        self.known: tuple[object, ...] = tuple(known)


class ConfigError(InputError):
    """A configuration file cannot be used: unreadable, not valid YAML, or a key or value that is wrong.

    The text starts with file and line where they are known; edit that line and run again.

    Parameters
    ----------
    message
        What is wrong and what would be right.
    path
        The file it was found in.
    line
        The line in that file, counted from 1.
    """

    def __init__(self, message: str, *, path: str | Path | None = None, line: int | None = None) -> None:
        place = "" if path is None else f"{path}: " if line is None else f"{path}:{line}: "
        super().__init__(place + message)
        self.path: Path | None = None if path is None else Path(path)
        self.line: int | None = line


class SolveError(PortfolioOptError):
    """The problem was well formed, but solving it gave no answer that may be used as an optimum.

    The subclasses say which way it failed. Whatever was found is kept in ``result`` for inspection; do not
    trade on it without reading its certificate.

    Parameters
    ----------
    message
        The text of the error.
    result
        The last iterate with its certificate, or ``None`` where there is none.
    """

    def __init__(self, message: str, *, result: object | None = None) -> None:
        super().__init__(message)
        self.result: object | None = result


class InfeasibleError(SolveError):
    """No portfolio meets all constraints at once.

    ``conflict`` names constraints that contradict each other; relax or remove at least one of them. The text
    gives the cheapest relaxation where one was computed.

    Parameters
    ----------
    message
        The text of the error.
    result
        The last iterate with its certificate, or ``None``.
    conflict
        Names of constraints that cannot hold together; empty where the culprits were not isolated.
    relaxations
        For each constraint of the conflict, the least move of its limits with which the others hold: a row for each
        line that moves, with constraint, sense, limit, needed, change, and whether that is enough.
    nearest
        Weights with the least total violation of all limits, each in its own unit; not a portfolio to hold.
    """

    def __init__(
        self,
        message: str,
        *,
        result: object | None = None,
        conflict: Iterable[str] = (),
        relaxations: pd.DataFrame | None = None,
        nearest: pd.Series | None = None,
    ) -> None:
        super().__init__(message, result=result)
        self.conflict: tuple[str, ...] = tuple(conflict)
        self.relaxations: pd.DataFrame | None = relaxations
        self.nearest: pd.Series | None = nearest


class UnboundedError(SolveError):
    """The objective can be improved for ever, so the problem has no optimum.

    ``direction`` is a trade that stays feasible at any size and improves the objective at each step. It shows
    which positions are open-ended: add a budget, bounds or a risk term that limits them.

    Parameters
    ----------
    message
        The text of the error.
    result
        The last iterate with its certificate, or ``None``.
    direction
        Change of weight by asset, in fractions of NAV, up to a positive factor; ``None`` where none was
        found.
    """

    def __init__(self, message: str, *, result: object | None = None, direction: pd.Series | None = None) -> None:
        super().__init__(message, result=result)
        self.direction: pd.Series | None = direction


class StalledError(SolveError):
    """The solver stopped before reaching the requested tolerance.

    Raised after the last iteration or when no further progress is possible. ``result`` holds the best point
    found and how far it is from proven optimal: accept that gap by loosening the tolerance, allow more
    iterations, or look for badly scaled data (a price in the wrong unit, a bound of 1e9).
    """


def unknown_names(kind: str, unknown: Iterable[object], known: Iterable[object]) -> UnknownNameError:
    """Build the error for names that do not exist, with the close matches spelt out.

    Parameters
    ----------
    kind
        What the names are, in the singular: ``"asset"``, ``"sector"``, ``"constraint"``.
    unknown
        The names that were not found, at least one; repeats are mentioned once.
    known
        The names that exist.

    Returns
    -------
    UnknownNameError
        Ready to be raised: ``raise unknown_names("asset", ["APPL"], prices.columns)``.
    """
    missing = list(dict.fromkeys(unknown))
    existing = list(dict.fromkeys(known))
    if not missing:
        raise ValueError("unknown_names needs at least one unknown name")
    by_text = {str(name): name for name in existing}
    close = {name: _close_matches(str(name), by_text) for name in missing[:_LISTED]}

    described = []
    for name, matches in close.items():
        hint = f" (did you mean {' or '.join(repr(by_text[match]) for match in matches)}?)" if matches else ""
        described.append(f"{name!r}{hint}")
    message = f"unknown {kind if len(missing) == 1 else _plural(kind)}: {', '.join(described)}"
    if len(missing) > _LISTED:
        message += f" and {len(missing) - _LISTED} more"
    if not all(close.values()) or len(missing) > _LISTED:
        message += f"; {_describe_known(kind, existing)}"
    return UnknownNameError(message, unknown=missing, known=existing)


def _close_matches(text: str, candidates: Iterable[str]) -> list[str]:
    """Return up to three candidates that resemble `text`, the same letters in another case first."""
    candidates = list(candidates)
    same = [candidate for candidate in candidates if candidate.casefold() == text.casefold()]
    return same or difflib.get_close_matches(text, candidates, n=3, cutoff=0.6)


def _describe_known(kind: str, known: list[object]) -> str:
    if not known:
        return f"there are no {_plural(kind)} at all"
    if len(known) <= _LISTED_WHOLE:
        return f"known {_plural(kind)}: {', '.join(map(repr, known))}"
    return f"{len(known)} {_plural(kind)} are known, among them {', '.join(map(repr, known[:_LISTED]))}"


def _plural(kind: str) -> str:
    return f"{kind[:-1]}ies" if kind.endswith("y") and kind[-2:-1] not in "aeiou" else f"{kind}s"

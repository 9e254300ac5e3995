"""Places in a file: for every key its line, for every fault its place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from portfolioopt.errors import ConfigError, InputError

Key = str | int


@dataclass(frozen=True)
class Origin:
    """Where a configuration was read from, for messages. It has no part in comparisons."""

    path: Path | None = field(default=None, compare=False)
    lines: Mapping[tuple[Key, ...], int] = field(default_factory=dict, compare=False)
    text: str = field(default="", compare=False)

    def line(self, *place: Key) -> int | None:
        """Line of the key at `place`, or of the innermost section around it that the file has; None without a file."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place)


@dataclass(frozen=True)
class Place:
    """A section of a file. Keys that its methods take lead on from there."""

    origin: Origin
    keys: tuple[Key, ...] = ()

    def at(self, *keys: Key) -> Place:
        """The section further in."""
        return Place(self.origin, (*self.keys, *keys))

    def error(self, message: str, *keys: Key) -> ConfigError:
        """The error for a fault there, with file and line where they are known."""
        place = (*self.keys, *keys)
        return ConfigError(message, path=self.origin.path, line=self.origin.line(*place) if place else None)

    @contextmanager
    def located(self, *keys: Key) -> Iterator[None]:
        """Put file and line on what the library refuses."""
        try:
            yield
        except ConfigError:
            raise
        except InputError as error:
            raise self.error(str(error), *keys) from error

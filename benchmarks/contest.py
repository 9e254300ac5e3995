"""Let one peer take part in a measurement, or say why it does not."""

from __future__ import annotations

from typing import Any

from . import isolate
from .options import Options
from .peers import PEERS

Record = dict[str, Any]


def enter(call: str, arguments: Record, options: Options) -> Record:
    """The record of `call` for the peer that `arguments` names, in a process of its own."""
    missing = PEERS[arguments["peer"]].missing()
    if missing:
        return arguments | {"status": "not installed", "why": ", ".join(missing)}
    return arguments | isolate.run(call, arguments, seconds=options.seconds, gigabytes=options.gigabytes)


def mine(records: list[Record], peer: str) -> Record | None:
    """The first record of a peer that has a time."""
    return next((r for r in records if r["peer"] == peer and r["status"] == "ok"), None)

"""Put a run aside and take it up again."""

from __future__ import annotations

import hashlib
import os
import pickle
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import numpy as np
import pandas as pd

from portfolioopt.data import MarketData
from portfolioopt.errors import InputError
from portfolioopt.solve import Result

from .engine import Engine
from .state import Plan, State

_VERSION = 1


class Checkpoint:
    """A file with the state of unfinished runs, by history.

    It is a pickle: read no file that somebody else wrote.

    Parameters
    ----------
    path
        The file; written beside it first and then put in its place, so that it is whole at any moment.
    every
        Sessions of decisions between two writings.
    """

    def __init__(self, path: str | Path, every: int = 25) -> None:
        self.path = Path(path)
        self.every = every
        self._since = 0

    def load(self, plan: Plan, engine: Engine) -> State | None:
        """The state of these runs, or None where there is none yet.

        Raises InputError for a file of other runs: another strategy, other data, other settings.
        """
        if not self.path.exists():
            return None
        try:
            with self.path.open("rb") as file:
                version, mark, history, state = pickle.load(file)
        except (pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError) as error:
            raise InputError(f"{self.path} is no checkpoint of a backtest: {error}") from error
        if version != _VERSION:
            raise InputError(f"{self.path} was written by another version of the library; delete it to start anew")
        if mark != fingerprint(plan, engine):
            raise InputError(
                f"{self.path} is the checkpoint of another run (strategy, data or settings differ); delete it to start "
                "anew, or choose another file"
            )
        return state if history == plan.history else None

    def save(self, plan: Plan, engine: Engine, state: State) -> None:
        """Write the state, now and then."""
        self._since += 1
        if self._since < self.every and state.t < len(plan.tape.dates):
            return
        self._since = 0
        temporary = self.path.with_name(self.path.name + ".part")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            pickle.dump((_VERSION, fingerprint(plan, engine), plan.history, state), file)
        os.replace(temporary, self.path)

    def done(self) -> None:
        """Remove the file: the runs are over."""
        self.path.unlink(missing_ok=True)


def fingerprint(plan: Plan, engine: Engine) -> str:
    """What the runs depend on, as a short text."""
    digest = hashlib.sha256()
    _feed(digest, engine.strategies)
    for f in fields(plan):
        _feed(digest, f.name)
        _feed(digest, getattr(plan, f.name))
    return digest.hexdigest()


def _feed(digest: Any, value: Any) -> None:
    if isinstance(value, np.ndarray):
        digest.update(np.ascontiguousarray(value).tobytes() if value.dtype != object else repr(value.tolist()).encode())
    elif isinstance(value, pd.DataFrame | pd.Series):
        digest.update(pd.util.hash_pandas_object(value, index=True).to_numpy().tobytes())
    elif isinstance(value, pd.Index):
        digest.update(repr(value.tolist()).encode())
    elif isinstance(value, MarketData):
        _feed(digest, value.prices)
    elif isinstance(value, Result):
        digest.update(b"result")
    elif isinstance(value, dict):
        for key, one in value.items():
            _feed(digest, key)
            _feed(digest, one)
    elif isinstance(value, list | tuple):
        digest.update(str(len(value)).encode())
        for one in value:
            _feed(digest, one)
    elif is_dataclass(value) and not isinstance(value, type):
        digest.update(type(value).__qualname__.encode())
        for f in fields(value):
            if not f.name.startswith("_"):
                _feed(digest, getattr(value, f.name))
    elif isinstance(value, FunctionType):
        # a name says nothing about a lambda, or about what a function was made with
        digest.update(f"{value.__module__}.{value.__qualname__}".encode())
        digest.update(value.__code__.co_code)
        _feed(digest, [one for one in value.__code__.co_consts if not isinstance(one, CodeType)])
        _feed(digest, value.__defaults__)
        _feed(digest, [cell.cell_contents for cell in value.__closure__ or ()])
    elif isinstance(value, str | bytes | int | float | bool | type(None) | pd.Timestamp | np.generic):
        digest.update(repr(value).encode())
    else:
        digest.update(type(value).__qualname__.encode())
        for name, one in sorted(vars(value).items()) if hasattr(value, "__dict__") else ():
            _feed(digest, name)
            _feed(digest, one)

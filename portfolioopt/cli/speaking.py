"""Speaking to the user: stages of the work, errors as messages and exit codes, what it ran on."""

from __future__ import annotations

import importlib.metadata
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import typer
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel

from portfolioopt.errors import PortfolioOptError, SolveError

BAD_INPUT: Final = 2
NO_ANSWER: Final = 3
_VERSIONS: Final = ("portfolioopt", "jax", "jaxlib", "numpy", "pandas", "pyarrow")
_PLAIN_WIDTH: Final = 120  # where there is no terminal, wide enough for every table


class Stages:
    """Says what is being done: a spinner with a clock on a terminal, plain lines elsewhere. On the error stream."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._console = err()
        self._status = self._console.status("") if self._console.is_terminal and not quiet else None
        self._name = ""
        self._start = 0.0

    def __enter__(self) -> Stages:
        return self

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()

    def begin(self, name: str, *, spinner: bool = True) -> None:
        """End the stage before, if there is one, and begin this one; without a spinner where it shows its progress."""
        self.end()
        self._name, self._start = name, time.perf_counter()
        if self._quiet:
            return
        if self._status is not None and spinner:
            self._status.update(f"{name} ...")
            self._status.start()
        else:
            self._console.print(f"{name} ...", highlight=False)

    def end(self, remark: str = "") -> None:
        """End the stage, with what there is to say about it."""
        if not self._name:
            return
        seconds = time.perf_counter() - self._start
        name, self._name = self._name, ""
        if self._quiet:
            return
        if self._status is not None:
            self._status.stop()
            self._console.print(f"[green]✓[/] {name} [dim]{remark or f'{seconds:.1f} s'}[/]", highlight=False)
        elif remark:
            self._console.print(f"{name}: {remark}", highlight=False)


@contextmanager
def reported(output: Path | None, config: Path) -> Iterator[None]:
    """Turn the errors of the library into one message and an exit code."""
    try:
        yield
    except PortfolioOptError as error:
        solving = isinstance(error, SolveError)
        _complain("No answer" if solving else "Bad input", str(error))
        if solving and output is not None:
            _mention_old_results(output, config)
        raise typer.Exit(NO_ANSWER if solving else BAD_INPUT) from error


def _complain(title: str, text: str) -> None:
    console = err()
    if console.is_terminal:
        console.print(Panel(escape(text), title=title, title_align="left", border_style="red", expand=False))
    else:
        # one unbroken line in a log, for searching and for other programs
        console.print(f"{title}: {text}", highlight=False, markup=False, soft_wrap=True)


def _mention_old_results(output: Path, config: Path) -> None:
    """Say so where a folder still holds an earlier run: nobody may take that for the answer."""
    from portfolioopt.config import load_any

    folder = output / str(load_any(config).name)
    if (folder / "report.html").exists():
        err().print(
            f"{folder} still holds an earlier run, not this one.", style="yellow", highlight=False, soft_wrap=True
        )


def versions() -> dict[str, str]:
    """Versions of portfolioopt and of what its numbers depend on, by name."""
    found = {"Python": platform.python_version()}
    for name in _VERSIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return {name: found[name] for name in (*_VERSIONS, "Python")}


def out() -> Console:
    """Where answers go."""
    console = Console()
    return console if console.is_terminal else Console(width=_PLAIN_WIDTH)


def err() -> Console:
    """Where progress and complaints go."""
    console = Console(stderr=True)
    return console if console.is_terminal else Console(stderr=True, width=_PLAIN_WIDTH)

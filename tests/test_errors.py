"""The error tree: what catches what, what the texts say, and that errors survive a trip between processes."""

from __future__ import annotations

import pickle
from pathlib import Path

import pandas as pd
import pytest

from portfolioopt import errors
from portfolioopt.errors import (
    ConfigError,
    InfeasibleError,
    InputError,
    PortfolioOptError,
    SolveError,
    StalledError,
    UnboundedError,
    UnknownNameError,
    unknown_names,
)

TICKERS = ["AAPL", "AMD", "BAC", "MSFT"]


@pytest.mark.parametrize(
    ("error", "caught_as"),
    [
        (InputError("x"), (PortfolioOptError, ValueError)),
        (UnknownNameError("x"), (InputError, ValueError)),
        (ConfigError("x"), (InputError, ValueError)),
        (InfeasibleError("x"), (SolveError, PortfolioOptError)),
        (UnboundedError("x"), (SolveError, PortfolioOptError)),
        (StalledError("x"), (SolveError, PortfolioOptError)),
    ],
)
def test_the_tree(error: Exception, caught_as: tuple[type, ...]) -> None:
    for ancestor in caught_as:
        assert isinstance(error, ancestor)


def test_a_failed_solve_is_no_value_error() -> None:
    # Otherwise `except ValueError` around the input checks would swallow an infeasible problem.
    assert not issubclass(SolveError, ValueError)


def test_every_error_says_when_it_is_raised() -> None:
    for name in errors.__all__:
        thing = getattr(errors, name)
        if isinstance(thing, type):
            assert issubclass(thing, PortfolioOptError)
            assert "__doc__" in vars(thing), f"{name} inherits its docstring"
            assert len((thing.__doc__ or "").split("\n\n")) >= 2, f"{name} says too little"


def test_close_matches_are_listed() -> None:
    error = unknown_names("asset", ["APPL"], TICKERS)
    assert isinstance(error, UnknownNameError)
    assert str(error) == "unknown asset: 'APPL' (did you mean 'AAPL'?)"
    assert error.unknown == ("APPL",)
    assert error.known == ("AAPL", "AMD", "BAC", "MSFT")


def test_the_same_letters_in_another_case_match_first() -> None:
    assert "did you mean 'Energy'?" in str(unknown_names("sector", ["ENERGY"], ["Energy", "Entertainment"]))


def test_known_names_are_listed_where_nothing_is_close() -> None:
    text = str(unknown_names("asset", ["ZZZZ", "MSTF"], TICKERS))
    assert text == ("unknown assets: 'ZZZZ', 'MSTF' (did you mean 'MSFT'?); known assets: 'AAPL', 'AMD', 'BAC', 'MSFT'")


def test_long_lists_are_counted_not_printed() -> None:
    universe = [f"T{i:04d}" for i in range(3000)]
    text = str(unknown_names("asset", [f"Q{i}" for i in range(40)], universe))
    assert "and 35 more" in text
    assert "3000 assets are known, among them 'T0000'" in text
    assert len(text) < 500


def test_repeats_are_mentioned_once_and_any_label_will_do() -> None:
    error = unknown_names("factor", [7, 7, ("a", 1)], [70, 71])
    assert error.unknown == (7, ("a", 1))
    assert str(error).startswith("unknown factors: 7 (did you mean 71 or 70?), ('a', 1);")


def test_an_empty_universe_is_said_to_be_empty() -> None:
    assert str(unknown_names("category", ["x"], [])) == "unknown category: 'x'; there are no categories at all"


def test_no_unknown_name_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="at least one"):
        unknown_names("asset", [], TICKERS)


@pytest.mark.parametrize(
    ("path", "line", "text"),
    [
        (None, None, "bad key"),
        ("a.yaml", None, "a.yaml: bad key"),
        (Path("conf") / "a.yaml", 7, f"{Path('conf') / 'a.yaml'}:7: bad key"),
    ],
)
def test_configuration_errors_start_with_the_place(path, line, text: str) -> None:
    error = ConfigError("bad key", path=path, line=line)
    assert str(error) == text
    assert error.path == (None if path is None else Path(path))
    assert error.line == line


def test_what_was_found_is_kept() -> None:
    result = object()
    direction = pd.Series({"A": 1.0, "B": -1.0})
    assert InfeasibleError("x", result=result, conflict=["Budget", "Bounds"]).conflict == ("Budget", "Bounds")
    assert InfeasibleError("x").conflict == ()
    assert UnboundedError("x", result=result, direction=direction).direction is direction
    assert StalledError("x", result=result).result is result
    assert SolveError("x").result is None


@pytest.mark.parametrize(
    "error",
    [
        InputError("text"),
        unknown_names("asset", ["APPL"], TICKERS),
        ConfigError("text", path="a.yaml", line=3),
        InfeasibleError("text", result={"w": 1}, conflict=["Budget"]),
        UnboundedError("text", result=[1]),
        StalledError("text", result=[1]),
    ],
)
def test_errors_survive_pickling(error: Exception) -> None:
    # A worker process of a sweep or of a parallel test run hands them over this way.
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)

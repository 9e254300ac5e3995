"""From a YAML file to a checked configuration; every fault comes with its line.

YAML 1.2: tickers such as ``ON`` and ``NO`` are text, unlike in YAML 1.1. A key given twice is an error.
"""

from __future__ import annotations

import difflib
from collections.abc import Set
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq, TaggedScalar
from ruamel.yaml.constructor import DuplicateKeyError, RoundTripConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.scalarbool import ScalarBoolean

from portfolioopt.errors import ConfigError

from .backtest_model import BacktestConfig
from .model import Config, RunFile
from .place import Key, Origin

_DEPTH: Final = 20  # nesting beyond this is an alias that contains itself


class _Constructor(RoundTripConstructor):
    """Leaves dates as text, to be read where one is wanted: here, an impossible date would have no line."""


_Constructor.add_constructor("tag:yaml.org,2002:timestamp", _Constructor.construct_scalar)


def load_config(path: str | Path) -> Config:
    """Read and check a configuration; paths in it are meant relative to its folder.

    Parameters
    ----------
    path
        A YAML file.

    Returns
    -------
    Config
        With the name of the file as its name where it has none.

    Raises
    ------
    ConfigError
        Naming file, line and remedy: the file cannot be read or is not YAML, a key is unknown, missing or given twice,
        or a value is of the wrong kind. All faults of the latter sorts are listed at once.
    """
    tree, origin = _read(Path(path))
    _refuse_other(tree, origin, _BACKTEST, _RUN, "a backtest", "portfolioopt backtest")
    return _checked(Config, tree, origin)


def load_backtest(path: str | Path) -> BacktestConfig:
    """Read and check the file of a backtest, as `load_config` does that of a run."""
    tree, origin = _read(Path(path))
    _refuse_other(tree, origin, _RUN, _BACKTEST, "a single portfolio", "portfolioopt optimize")
    return _checked(BacktestConfig, tree, origin)


def load_any(path: str | Path) -> Config | BacktestConfig:
    """Read and check a file of either sort, told apart by its keys."""
    tree, origin = _read(Path(path))
    backtest = len(_BACKTEST & tree.keys()) > len(_RUN & tree.keys())
    return _checked(BacktestConfig, tree, origin) if backtest else _checked(Config, tree, origin)


_RUN: Final = Config.model_fields.keys() - BacktestConfig.model_fields.keys()
_BACKTEST: Final = BacktestConfig.model_fields.keys() - Config.model_fields.keys()
_File = TypeVar("_File", bound=RunFile)


def _read(path: Path) -> tuple[dict[str, Any], Origin]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror or error}", path=path) from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError("is not UTF-8 text; save it in that encoding", path=path, line=line) from error
    tree, lines = _parse(text, path)
    return tree, Origin(path, lines, text)


def _refuse_other(
    tree: dict[str, Any], origin: Origin, other: Set[str], own: Set[str], what: str, command: str
) -> None:
    """Refuse a file of the other sort at once, rather than each of its keys."""
    keys = [key for key in tree if key in other]
    if len(keys) > len(own & tree.keys()):
        message = f"the key {keys[0]!r} says that this file describes {what}; run it with '{command}'"
        raise ConfigError(message, path=origin.path, line=origin.line(keys[0]))


def _checked(kind: type[_File], tree: dict[str, Any], origin: Origin) -> _File:
    try:
        config = kind.model_validate(tree)
    except ValidationError as error:
        raise _refusal(error, tree, origin) from error
    assert origin.path is not None
    config = config if config.name is not None else config.model_copy(update={"name": origin.path.stem})
    config._origin = origin
    return config


# -- YAML to plain values ----------------------------------------------------------------------------------------


def _parse(text: str, path: Path) -> tuple[dict[str, Any], dict[tuple[Key, ...], int]]:
    # The round-trip loader is the one that knows the line of every key.
    yaml = YAML(typ="rt", pure=True)
    yaml.Constructor = _Constructor
    try:
        node = yaml.load(text)
    except DuplicateKeyError as error:
        key = str(error.problem).split('"')[1]
        first = error.context_mark.line + 1
        raise ConfigError(
            f"the key {key!r} is given twice in the section that begins in line {first}; keep one of them",
            path=path,
            line=error.problem_mark.line + 1,
        ) from error
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = ", ".join(str(part) for part in (error.context, error.problem) if part)
        hint = "; indent with spaces, not with tabs" if "\\t" in problem else ""
        hint = "; keep one run per file" if "single document" in problem else hint
        line = None if mark is None else mark.line + 1
        raise ConfigError(f"not valid YAML: {problem}{hint}", path=path, line=line) from error
    except (YAMLError, ValueError) as error:  # the latter for a value that its tag forbids
        raise ConfigError(f"not valid YAML: {str(error).splitlines()[0]}", path=path) from error
    if node is None:
        raise ConfigError("is empty; data are required, and what to do with them", path=path)
    if not isinstance(node, CommentedMap):
        raise ConfigError("must be a mapping: lines of the form 'key: value'", path=path, line=1)
    lines: dict[tuple[Key, ...], int] = {(): 1}
    return _plain(node, (), lines, path), lines


def _plain(node: Any, place: tuple[Key, ...], lines: dict[tuple[Key, ...], int], path: Path) -> Any:
    """Plain Python values in place of ruamel's, and the line of each key on the way."""

    def refuse(message: str, key: Key | None = None) -> ConfigError:
        where = place if key is None else (*place, key)
        return ConfigError(f"{_dotted(where)} {message}", path=path, line=lines.get(where, lines.get(place)))

    if len(place) > _DEPTH:
        raise refuse("is nested too deeply")
    match node:
        case CommentedMap():
            values: dict[str, Any] = {}
            for key, value in node.items():
                line = node.lc.data[key][0] + 1 if key in (node.lc.data or {}) else lines[place]
                if not isinstance(key, str):
                    lines[*place, str(key)] = line
                    raise refuse(
                        f"is the {_kind(key)} {key!r} to YAML, not text; put it in quotes as it should read", str(key)
                    )
                lines[*place, key] = line
                values[str(key)] = _plain(value, (*place, str(key)), lines, path)
            return values
        case CommentedSeq():
            for i in range(len(node)):
                lines[*place, i] = node.lc.data[i][0] + 1
            return [_plain(value, (*place, i), lines, path) for i, value in enumerate(node)]
        case ScalarBoolean():
            return bool(node)
        case TaggedScalar():
            raise refuse(f"has the tag {node.tag.value}; tags are not supported")
        case None:
            raise refuse("has no value; give it one, or remove the line")
        case bool():
            return node
        case int():
            return int(node)
        case float():
            return float(node)
        case str():
            return str(node)
        case _:
            raise refuse(f"holds {node!r}, which has no place here")


def _kind(key: object) -> str:
    match key:
        case bool():
            return "truth value"
        case int() | float():
            return "number"
        case _:
            return "value"


# -- faults in words ---------------------------------------------------------------------------------------------


def _refusal(error: ValidationError, tree: dict[str, Any], origin: Origin) -> ConfigError:
    faults = sorted({_fault(details, tree, origin) for details in error.errors(include_url=False)})
    line, message = faults[0]
    others = "".join(f"\n{origin.path}:{other}: {text}" for other, text in faults[1:])
    return ConfigError(message + others, path=origin.path, line=line)


def _fault(details: ErrorDetails, tree: dict[str, Any], origin: Origin) -> tuple[int, str]:
    """Line and text of one fault that pydantic found."""
    context = details.get("ctx", {})
    found = [key for key in details["loc"] if not str(key).startswith("<")]  # alternatives, see `tag`
    place = (*found, *context.get("place", ()))
    # A short form has keys that are not in the file: `turnover: x` is checked as turnover.limit.
    while place and not _exists(tree, place[:-1]):
        place = place[:-1]
    name, given = _dotted(place), details["input"]
    match details["type"]:
        case "portfolioopt" if context["message"].startswith("unknown key"):
            section = _dotted(place[:-1])
            text = context["message"] + (f" in {section}" if place[:-1] else "")
        case "portfolioopt":
            text = f"{name} {_after_name(context['message'], place)}"
        case "missing":
            text = f"{name} is missing: it is required"
        case "literal_error":
            allowed = [option.strip("'") for option in context["expected"].replace(" or ", ", ").split(", ")]
            close = difflib.get_close_matches(str(given), allowed, n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            text = f"{name} must be {context['expected']}, was {given!r}{hint}"
        case "string_type":
            text = f"{name} must be text, was {given!r}; put it in quotes if it is"
        case "bool_type":
            text = f"{name} must be true or false, was {given!r}"
        case "model_type" | "dict_type" | "model_attributes_type":
            text = f"{name} must be a section with keys of its own, was {given!r}"
        case _:
            text = f"{name}: {details['msg']}"
    return origin.line(*place) or 1, text


def _after_name(message: str, place: tuple[Key, ...]) -> str:
    """The text of a complaint behind the name of its place, which says already what the subject is."""
    subject = message.removeprefix("the value ")
    return subject.removeprefix(f"{place[-1]} ") if place else subject


def _exists(tree: Any, place: tuple[Key, ...]) -> bool:
    """Whether the file has a section at this place."""
    for key in place:
        try:
            tree = tree[key]
        except (LookupError, TypeError):
            return False
    return isinstance(tree, dict | list)


def _dotted(place: tuple[Key, ...]) -> str:
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in place)
    return text.lstrip(".") or "the configuration"

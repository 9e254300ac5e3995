"""Limits written as text: ``"Tech <= 0.30"``, ``"Tech - 0.5 * Energy >= 0"``, ``"0.1 <= AAPL + MSFT <= 0.2"``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from portfolioopt.errors import InputError

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?%?)(?![\w.])
    | (?P<quoted>"[^"]*"|'[^']*'|`[^`]*`)
    | (?P<name>[^\W\d][\w.&/-]*(?<![-])|\d[\w.&/]*[^\W\d][\w.&/]*)
    | (?P<sense><=|>=|==|=|<|>)
    | (?P<sign>[+\-*])
    )""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class LinearText:
    """``lower <= sum of coefficients * names <= upper``."""

    coefficients: Mapping[str, float]
    lower: float
    upper: float


def parse(text: str, what: str) -> LinearText:
    """Read a limit on a linear combination of names.

    Names are those of assets or groups; one with spaces or signs goes into quotes. Numbers may be percentages
    (``30%``). Hyphens within a name belong to it, so put spaces around a minus.

    Raises
    ------
    InputError
        Showing where the text could not be understood.
    """
    if not isinstance(text, str):
        raise InputError(f"{what}: a limit is a text like 'Tech <= 0.30', was {text!r}")
    sides: list[tuple[dict[str, float], float]] = []
    senses: list[str] = []
    names: dict[str, float] = {}
    constant, sign, factor, expects = 0.0, 1.0, None, True
    position = 0

    def refuse(why: str) -> InputError:
        return InputError(f"{what}: {text!r} cannot be read at position {position + 1}: {why}")

    while text[position:].strip():
        match = _TOKEN.match(text, position)
        if match is None:
            raise refuse(f"{text[position:].strip()[:10]!r} is neither a name, a number nor a sign")
        kind, token = match.lastgroup, match.group(match.lastgroup or 0)
        if kind == "number":
            if not expects:
                raise refuse(f"{token!r} follows without a sign")
            value = float(token[:-1]) / 100.0 if token.endswith("%") else float(token)
            factor = value if factor is None else factor * value
            expects = False
        elif kind in ("name", "quoted"):
            if not expects:
                raise refuse(f"{token!r} follows without a sign")
            name = token[1:-1] if kind == "quoted" else token
            names[name] = names.get(name, 0.0) + sign * (1.0 if factor is None else factor)
            factor, expects = None, False
            rest = _TOKEN.match(text, match.end())
            if rest is not None and rest.group("sign") == "*":
                raise refuse("a factor goes before the name, as in '0.5 * Tech'")
        elif kind == "sign" and token == "*":
            if factor is None or expects:
                raise refuse("'*' needs a number before it")
            expects = True
            position = match.end()
            continue
        else:
            if factor is not None:
                constant, factor = constant + sign * factor, None
            if kind == "sense":
                if expects:
                    raise refuse(f"nothing stands before {token!r}")
                if token in ("<", ">"):
                    raise refuse(f"write {token}= ; strict limits do not exist for weights")
                sides.append((names, constant))
                senses.append("==" if token == "=" else token)
                names, constant, sign = {}, 0.0, 1.0
            else:
                sign = (1.0 if token == "+" else -1.0) * (sign if expects and not names and factor is None else 1.0)
            expects = True
        position = match.end()
    if expects:
        raise refuse("something is missing at the end")
    if factor is not None:
        constant += sign * factor
    sides.append((names, constant))
    return _bounds(sides, senses, text, what)


def _bounds(sides: list[tuple[dict[str, float], float]], senses: list[str], text: str, what: str) -> LinearText:
    if not 1 <= len(senses) <= 2:
        raise InputError(f"{what}: {text!r} needs one comparison, or two around the names: '0.1 <= Tech <= 0.3'")
    if len(senses) == 2:
        if senses[0] != senses[1] or senses[0] == "==" or sides[0][0] or sides[2][0]:
            raise InputError(f"{what}: {text!r} has to be number <= names <= number, or the same with >=")
        (_, first), (names, constant), (_, last) = sides
        low, high = (first, last) if senses[0] == "<=" else (last, first)
        low, high = low - constant, high - constant
    else:
        (left, first), (right, last) = sides
        names = {name: left.get(name, 0.0) - right.get(name, 0.0) for name in [*left, *right]}
        limit = last - first
        low = limit if senses[0] in (">=", "==") else float("-inf")
        high = limit if senses[0] in ("<=", "==") else float("inf")
    if not any(names.values()):
        raise InputError(f"{what}: {text!r} names no asset and no group")
    if low > high:
        raise InputError(f"{what}: {text!r} allows nothing: {low:g} is above {high:g}")
    return LinearText(names, low, high)

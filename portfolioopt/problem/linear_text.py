"""Limits written as text: ``"Tech <= 0.30"``, ``"Tech - 0.5 * Energy >= 0"``, ``"0.1 <= AAPL + MSFT <= 0.2"``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn, TypeAlias

from portfolioopt.errors import InputError

_Side: TypeAlias = tuple[dict[str, float], float]
"""Coefficients of names, and a number."""

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
    return _bounds(*_Reader(text, what).sides(), text, what)


class _Reader:
    """A text read from left to right: comparisons of sums of products of numbers and at most one name."""

    def __init__(self, text: str, what: str) -> None:
        self.text, self.what = text, what
        self.position = 0
        self.kind, self.token, self.next = "", "", 0
        self.look()

    def look(self) -> None:
        """Read the token at the position without passing it."""
        if not self.text[self.position :].strip():
            self.kind, self.token, self.next = "end", "", self.position
            return
        match = _TOKEN.match(self.text, self.position)
        if match is None:
            self.refuse(f"{self.text[self.position :].strip()[:10]!r} is neither a name, a number nor a sign")
        self.kind, self.token = str(match.lastgroup), match.group(str(match.lastgroup))
        self.next = match.end()

    def take(self) -> str:
        token, self.position = self.token, self.next
        self.look()
        return token

    def refuse(self, why: str) -> NoReturn:
        raise InputError(f"{self.what}: {self.text!r} cannot be read at position {self.position + 1}: {why}")

    def sides(self) -> tuple[list[_Side], list[str]]:
        sides, senses = [self.sum()], []
        while self.kind == "sense":
            if self.token in ("<", ">"):
                self.refuse(f"write {self.token}= ; strict limits do not exist for weights")
            senses.append("==" if self.token == "=" else self.token)
            self.take()
            sides.append(self.sum())
        return sides, senses

    def sum(self) -> _Side:
        names: dict[str, float] = {}
        constant = 0.0
        while True:
            factor, name = self.product()
            if name is None:
                constant += factor
            else:
                names[name] = names.get(name, 0.0) + factor
            if self.kind in ("end", "sense"):
                return names, constant
            if self.kind != "sign":
                self.refuse(f"{self.token!r} follows without a sign")

    def product(self) -> tuple[float, str | None]:
        factor = self.signs()
        while self.kind == "number":
            token = self.take()
            factor *= float(token[:-1]) / 100.0 if token.endswith("%") else float(token)
            if self.kind != "sign" or self.token != "*":
                return factor, None
            self.take()
            factor *= self.signs()
        if self.kind not in ("name", "quoted"):
            match self.kind:
                case "end":
                    self.refuse("something is missing at the end")
                case "sense":
                    self.refuse(f"nothing stands before {self.token!r}")
                case _:
                    self.refuse(f"{self.token!r} needs a number before it")
        name = self.token if self.kind == "name" else self.token[1:-1]
        self.take()
        if self.token == "*" and self.kind == "sign":
            self.refuse("a factor goes before the name, as in '0.5 * Tech'")
        return factor, name

    def signs(self) -> float:
        sign = 1.0
        while self.kind == "sign" and self.token != "*":
            sign = -sign if self.take() == "-" else sign
        return sign


def _bounds(sides: list[_Side], senses: list[str], text: str, what: str) -> LinearText:
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

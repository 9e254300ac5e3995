"""Strategies by name, and with parameters to be varied."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, TypeAlias, cast

from portfolioopt.errors import InputError, unknown_names

from .moment import FromFunction, Moment, Strategy, Target

AnyStrategy: TypeAlias = Strategy | Callable[[Moment], Target]


@dataclass(frozen=True)
class Variant:
    """One strategy with its parameters."""

    name: str
    strategy: Strategy
    parameters: dict[str, Any]
    labels: dict[str, Any]


def as_strategy(given: object) -> Strategy:
    """A strategy, or a function of a moment as one."""
    if isinstance(given, Strategy):
        return given
    if callable(given) and not isinstance(given, type):
        return FromFunction(cast("Callable[[Moment], Target]", given))
    raise InputError(
        f"{given!r} is no strategy: pass a Strategy such as strategies.EqualWeight(), or a function of a moment"
    )


def named_strategies(strategy: AnyStrategy | Mapping[str, AnyStrategy]) -> dict[str, Strategy]:
    """Strategies by name; a single one is called after its class or function."""
    if isinstance(strategy, Mapping):
        if not strategy:
            raise InputError("there is no strategy to run; pass at least one")
        return {str(name): as_strategy(one) for name, one in strategy.items()}
    one = as_strategy(strategy)
    return {repr(one) if isinstance(one, FromFunction) else type(one).__name__: one}


def variants_of(named: dict[str, Strategy], over: Mapping[str, Any] | None, how: str) -> list[Variant]:
    """Every strategy with every value, or combination of values, of its parameters."""
    if not over:
        return [Variant(name, one, {}, {"strategy": name}) for name, one in named.items()]
    axes: dict[str, list[tuple[Any, Any]]] = {}
    for name, values in over.items():
        if isinstance(values, str) or not isinstance(values, Mapping | Iterable):
            raise InputError(f"over[{name!r}] must be a list of values, or a mapping from labels to values")
        pairs = list(values.items()) if isinstance(values, Mapping) else [(v, v) for v in values]
        if not pairs:
            raise InputError(f"over[{name!r}] has no values")
        axes[name] = pairs
    if how == "zip":
        lengths = {name: len(pairs) for name, pairs in axes.items()}
        if len(set(lengths.values())) > 1:
            raise InputError(f"axes that are zipped must have the same number of values: {lengths}")
        points = list(zip(*axes.values(), strict=True))
    elif how == "product":
        points = list(itertools.product(*axes.values()))
    else:
        raise InputError(f"how must be 'product' or 'zip', was {how!r}")
    found = []
    for name, one in named.items():
        if not is_dataclass(one):
            raise InputError(f"{name} has no parameters to vary; make the strategy a dataclass with fields")
        known = [f.name for f in fields(one)]
        strange = [axis for axis in axes if axis not in known]
        if strange:
            raise unknown_names(f"{name} parameter", strange, known)
        for point in points:
            values = {axis: value for axis, (_, value) in zip(axes, point, strict=True)}
            labels = {axis: label for axis, (label, _) in zip(axes, point, strict=True)}
            text = ", ".join(f"{axis}={label}" for axis, label in labels.items())
            found.append(Variant(f"{name}[{text}]", replace(one, **values), labels, {"strategy": name, **labels}))
    return found

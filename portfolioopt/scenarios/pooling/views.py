"""Views: statements about the posterior, checked against the assets of the scenarios."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import pandas as pd

from portfolioopt.errors import InputError, unknown_names
from portfolioopt.labels import checked_number

from ..tail import check_beta

Combination: TypeAlias = str | Mapping[str, float]
"""An asset, or coefficients of assets: the return of a portfolio or a spread."""
Key: TypeAlias = tuple[tuple[str, float], ...]
"""A combination as sorted pairs of asset and coefficient."""


@dataclass(frozen=True)
class MeanView:
    """Expected return of an asset or combination: equal to, at least or at most `value`, as a fraction per horizon."""

    asset: Combination
    value: float
    sense: Literal["==", ">=", "<="] = "=="

    def __str__(self) -> str:
        return f"E[{text(self.asset)}] {self.sense} {self.value:g}"


@dataclass(frozen=True)
class VolatilityView:
    """Standard deviation of the return of an asset or combination, per horizon; its mean is held."""

    asset: Combination
    value: float

    def __str__(self) -> str:
        return f"volatility of {text(self.asset)} == {self.value:g}"


@dataclass(frozen=True)
class CorrelationView:
    """Correlation of the returns of two assets or combinations, in [-1, 1]; their means and volatilities are held."""

    a: Combination
    b: Combination
    value: float

    def __str__(self) -> str:
        return f"correlation of {text(self.a)} and {text(self.b)} == {self.value:g}"


@dataclass(frozen=True)
class RankView:
    """Expected returns in falling order: ``RankView(["A", "B", "C"])`` says E[A] >= E[B] >= E[C]."""

    assets: Sequence[Combination]

    def __str__(self) -> str:
        return " >= ".join(f"E[{text(asset)}]" for asset in self.assets)


@dataclass(frozen=True)
class VaRView:
    """A loss of `value` or more has probability ``1 - beta``.

    Loss is the negative return, as a fraction; positive is bad. The value-at-risk of the posterior is then the least
    loss in the scenarios that is not below `value`.
    """

    asset: Combination
    beta: float
    value: float

    def __str__(self) -> str:
        return f"VaR({self.beta:g}) of {text(self.asset)} == {self.value:g}"


@dataclass(frozen=True)
class CVaRView:
    """Mean loss over the worst ``1 - beta``, as a fraction; positive is bad."""

    asset: Combination
    beta: float
    value: float

    def __str__(self) -> str:
        return f"CVaR({self.beta:g}) of {text(self.asset)} == {self.value:g}"


View: TypeAlias = MeanView | VolatilityView | CorrelationView | RankView | VaRView | CVaRView


def checked_keys(view: View, assets: pd.Index, where: str) -> list[Key]:
    """Check a view; its combinations as keys. `where` names it in a message should it be no view at all."""
    match view:
        case MeanView(asset, value, sense):
            combinations, what = [asset], "value of MeanView"
            if sense not in ("==", ">=", "<="):
                raise InputError(f"sense of MeanView must be '==', '>=' or '<=', was {sense!r}")
        case VolatilityView(asset, value):
            combinations, what = [asset], "value of VolatilityView"
            if checked_number(value, what) <= 0.0:
                raise InputError(f"{what} must be above zero, was {value!r}")
        case CorrelationView(a, b, value):
            combinations, what = [a, b], "value of CorrelationView"
            if abs(checked_number(value, what)) > 1.0:
                raise InputError(f"{what} must lie in [-1, 1], was {value!r}")
        case RankView(assets=ranked):
            if isinstance(ranked, str | Mapping) or not isinstance(ranked, Sequence) or len(ranked) < 2:
                raise InputError(f"RankView needs a list of two or more assets, best first, was {ranked!r}")
            combinations, value, what = list(ranked), 0.0, "RankView"
        case VaRView(asset, beta, value) | CVaRView(asset, beta, value):
            combinations, what = [asset], f"value of {type(view).__name__}"
            check_beta(beta)
        case _:
            raise InputError(
                f"{where} must be a MeanView, VolatilityView, CorrelationView, RankView, VaRView or CVaRView, was "
                f"{view!r}"
            )
    checked_number(value, what)
    keys = [_key(combination, assets, type(view).__name__) for combination in combinations]
    if len(set(keys)) < len(keys):
        raise InputError(f"{type(view).__name__} names {text(combinations[0])} twice: {view}")
    return keys


def difference(better: Key, worse: Key) -> Key:
    """The key of one combination less another; empty where they are the same."""
    total = dict(better)
    for asset, value in worse:
        total[asset] = total.get(asset, 0.0) - value
    return _sorted(total)


def _key(combination: Combination, assets: pd.Index, what: str) -> Key:
    if isinstance(combination, Mapping):
        pairs = dict(combination)
    elif isinstance(combination, Hashable):
        pairs = {combination: 1.0}
    else:
        raise InputError(f"{what} takes an asset or a mapping from asset to coefficient, was {combination!r}")
    unknown = [asset for asset in pairs if asset not in assets]
    if unknown:
        raise unknown_names(f"asset in {what}" if len(unknown) == 1 else "asset", unknown, assets)
    key = _sorted(
        {asset: checked_number(value, f"coefficient of {asset!r} in {what}") for asset, value in pairs.items()}
    )
    if not key:
        raise InputError(f"{what} needs a coefficient that is not zero")
    return key


def _sorted(pairs: Mapping[str, float]) -> Key:
    return tuple(sorted(((asset, value) for asset, value in pairs.items() if value), key=lambda pair: str(pair[0])))


def text(combination: Combination) -> str:
    """A combination in words: ``A``, or ``A - 0.5 B``."""
    if not isinstance(combination, Mapping):
        return str(combination)
    terms = []
    for asset, value in combination.items():
        size = "" if abs(value) == 1.0 else f"{abs(value):g} "
        terms.append(f"{'-' if value < 0 else '+'} {size}{asset}")
    return " ".join(terms).removeprefix("+ ")

"""Constraints on the weights and on risk. Each has a name, by which reports and errors speak of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import TypeAlias

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.labels import PerAsset
from portfolioopt.scenarios.tail import check_beta


def _finite(value: float, what: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"{what} must be a number, was {value!r}") from error
    if not np.isfinite(number):
        raise InputError(f"{what} must be a finite number, was {value!r}")
    return number


@dataclass(frozen=True, eq=False)
class Budget:
    r"""Weights sum to a total: :math:`1' w = total`, as a fraction of NAV (1 is fully invested)."""

    total: float = 1.0
    _: KW_ONLY
    name: str = "Budget"

    def __post_init__(self) -> None:
        object.__setattr__(self, "total", _finite(self.total, f"{self.name}: total"))


@dataclass(frozen=True, eq=False)
class Bounds:
    r"""Limits on every weight: :math:`l_i \le w_i \le u_i`, as fractions of NAV; infinite for none.

    Parameters
    ----------
    lower, upper
        One number for all assets, or one per asset (a Series or mapping that names every asset).
    unit_check
        Refuse a bound that cannot bind and looks like a percentage (10 for 10 %). Turn it off for real leverage.
    """

    lower: PerAsset = 0.0
    upper: PerAsset = 1.0
    _: KW_ONLY
    unit_check: bool = True
    name: str = "Bounds"


@dataclass(frozen=True, eq=False)
class GroupLimit:
    r"""Limits on the net weight of groups: :math:`L_g \le \sum_{i \in g} w_i \le U_g`, as fractions of NAV.

    Parameters
    ----------
    labels
        Group of every asset (Series or mapping from asset to label).
    lower, upper
        Limits by label; groups not named are free. A label that no asset carries is an error.
    """

    labels: pd.Series | Mapping[str, str]
    _: KW_ONLY
    lower: Mapping[str, float] | None = None
    upper: Mapping[str, float] | None = None
    unit_check: bool = True
    name: str = "GroupLimit"

    def __post_init__(self) -> None:
        if not isinstance(self.labels, pd.Series | Mapping):
            raise InputError(f"{self.name}: labels must be a Series or mapping by asset, was {self.labels!r}")
        for what, side in (("lower", self.lower), ("upper", self.upper)):
            if side is not None and not isinstance(side, Mapping):
                raise InputError(f"{self.name}: {what} must map labels to weights, was {side!r}")
        lower = {g: _finite(v, f"{self.name}: lower[{g!r}]") for g, v in dict(self.lower or {}).items()}
        upper = {g: _finite(v, f"{self.name}: upper[{g!r}]") for g, v in dict(self.upper or {}).items()}
        if not lower and not upper:
            raise InputError(f"{self.name} limits nothing: give lower={{label: weight}} or upper={{label: weight}}")
        for label in lower.keys() & upper.keys():
            if lower[label] > upper[label]:
                raise InputError(f"{self.name}[{label}]: lower {lower[label]:g} is above upper {upper[label]:g}")
        object.__setattr__(self, "lower", lower)
        object.__setattr__(self, "upper", upper)


@dataclass(frozen=True, eq=False)
class Turnover:
    r"""Limit on total trading: :math:`\sum_i |w_i - h_i| \le limit`, the full L1 sum (buys plus sells).

    A full switch from one portfolio to another has turnover 2. For a limit on one-way turnover (half the sum) pass
    twice that limit.
    """

    limit: float
    _: KW_ONLY
    unit_check: bool = True
    name: str = "Turnover"

    def __post_init__(self) -> None:
        object.__setattr__(self, "limit", _finite(self.limit, f"{self.name}: limit"))
        if self.limit < 0:
            raise InputError(f"{self.name}: limit must not be negative, was {self.limit:g}")


@dataclass(frozen=True, eq=False)
class TradeLimit:
    r"""Limit on the trade in each asset: :math:`|w_i - h_i| \le limit_i`, as a fraction of NAV; 0 forbids trading."""

    limit: PerAsset
    _: KW_ONLY
    unit_check: bool = True
    name: str = "TradeLimit"


@dataclass(frozen=True, eq=False)
class ReturnTarget:
    r"""Least expected return: :math:`\mu' w \ge target` per scenario horizon, as a fraction of NAV, before costs.

    Parameters
    ----------
    target
        Least expected return per scenario horizon (0.0004 is 4 basis points).
    mean
        Expected return per asset; the scenario mean where None.
    """

    target: float
    _: KW_ONLY
    mean: pd.Series | Mapping[str, float] | None = None
    name: str = "ReturnTarget"

    def __post_init__(self) -> None:
        object.__setattr__(self, "target", _finite(self.target, f"{self.name}: target"))


@dataclass(frozen=True, eq=False)
class CVaRLimit:
    r"""Limit on tail risk: :math:`\mathrm{CVaR}_\beta(-R w) \le limit`, as a fraction of NAV.

    Parameters
    ----------
    beta
        Confidence level in (0, 1).
    limit
        Largest CVaR of the loss per scenario horizon (0.06 is 6 %).
    """

    beta: float
    limit: float
    _: KW_ONLY
    unit_check: bool = True
    name: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "beta", check_beta(self.beta))
        object.__setattr__(self, "name", self.name or f"CVaRLimit({self.beta:g})")
        object.__setattr__(self, "limit", _finite(self.limit, f"{self.name}: limit"))


Constraint: TypeAlias = Budget | Bounds | GroupLimit | Turnover | TradeLimit | ReturnTarget | CVaRLimit
CONSTRAINT_TYPES = (Budget, Bounds, GroupLimit, Turnover, TradeLimit, ReturnTarget, CVaRLimit)

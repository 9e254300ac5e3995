"""Constraints on the weights and on risk. Each has a name, by which reports and errors speak of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, replace
from numbers import Real
from typing import ClassVar, Literal, TypeAlias

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.labels import PerAsset
from portfolioopt.scenarios.tail import check_beta

from .linear_text import LinearText, parse
from .terms import Expression, Objective, Term


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
    r"""Weights sum to a total, :math:`1' w = total`, or to something within a range, as fractions of NAV.

    Parameters
    ----------
    total
        1 is fully invested, 0 market-neutral; left out where a range is given.
    lower, upper
        The range instead of a total; None for an open side.
    """

    total: float = 1.0
    _: KW_ONLY
    lower: float | None = None
    upper: float | None = None
    name: str = "Budget"

    def __post_init__(self) -> None:
        object.__setattr__(self, "total", _finite(self.total, f"{self.name}: total"))
        if self.ranged and self.total != 1.0:
            raise InputError(f"{self.name}: give a total, or lower and upper, not both")
        for what in ("lower", "upper"):
            value = getattr(self, what)
            if value is not None:
                object.__setattr__(self, what, _finite(value, f"{self.name}: {what}"))
        if self.lower is not None and self.upper is not None and self.lower > self.upper:
            raise InputError(f"{self.name}: lower {self.lower:g} is above upper {self.upper:g}")

    @property
    def ranged(self) -> bool:
        """Whether a range is given."""
        return self.lower is not None or self.upper is not None

    @property
    def sides(self) -> tuple[float, float]:
        """Least and largest sum of the weights."""
        if not self.ranged:
            return self.total, self.total
        return (-np.inf if self.lower is None else self.lower), (np.inf if self.upper is None else self.upper)


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
    r"""Limits on the weight of groups: :math:`L_g \le \sum_{i \in g} w_i \le U_g`, as fractions of NAV.

    Parameters
    ----------
    labels
        Group of every asset (Series or mapping from asset to label).
    lower, upper
        Limits by label; groups not named are free. A label that no asset carries is an error.
    gross
        Limit :math:`\sum |w_i|` instead of :math:`\sum w_i`; from above only.
    benchmark
        Weights by asset: the limits are then relative to the benchmark's weight of each group
        (:math:`\sum_{i \in g} w_i - b_i`).
    """

    labels: pd.Series | Mapping[str, str]
    _: KW_ONLY
    lower: Mapping[str, float] | None = None
    upper: Mapping[str, float] | None = None
    gross: bool = False
    benchmark: pd.Series | Mapping[str, float] | None = None
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
        if self.gross and lower:
            raise InputError(f"{self.name}: a gross weight cannot be limited from below, that is not convex")
        if self.gross and self.benchmark is not None:
            raise InputError(f"{self.name}: limits relative to a benchmark are net; leave gross out")
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

    Parameters
    ----------
    limit
        Largest sum of trades, as a fraction of NAV.
    side
        ``"both"``, or only what is bought (``"buy"``) or sold (``"sell"``).
    """

    limit: float
    _: KW_ONLY
    side: Literal["both", "buy", "sell"] = "both"
    unit_check: bool = True
    name: str = "Turnover"

    def __post_init__(self) -> None:
        object.__setattr__(self, "limit", _finite(self.limit, f"{self.name}: limit"))
        if self.limit < 0:
            raise InputError(f"{self.name}: limit must not be negative, was {self.limit:g}")
        if self.side not in ("both", "buy", "sell"):
            raise InputError(f"{self.name}: side must be 'both', 'buy' or 'sell', was {self.side!r}")


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


@dataclass(frozen=True, eq=False)
class Limit:
    r"""Limit on any measure, or on a weighted sum of them: :math:`lower \le \rho(w) \le upper`.

    ``CVaR(0.95) <= 0.02`` and ``ExpectedReturn() >= 0.0004`` make one. Convex measures (risks, costs, gross exposures)
    can only be limited from above and concave ones from below.

    Parameters
    ----------
    measure
        A term, or a sum of terms.
    upper, lower
        In units of the measure.
    unit_check
        Refuse an upper limit that looks like a percentage: a risk of all of NAV, or an exposure of five times NAV.
    """

    measure: Expression
    upper: float | None = None
    lower: float | None = None
    _: KW_ONLY
    unit_check: bool = True
    name: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.measure, Expression):
            raise InputError(f"Limit takes a measure such as CVaR(0.95), was given {self.measure!r}")
        text = str(Objective(self.measure.parts))
        object.__setattr__(self, "name", self.name or text)
        if self.upper is None and self.lower is None:
            raise InputError(f"{self.name}: give upper=... or lower=...")
        for what in ("lower", "upper"):
            value = getattr(self, what)
            if value is not None:
                object.__setattr__(self, what, _finite(value, f"{self.name}: {what}"))
        for coefficient, term in self.measure.parts:
            bend = {"convex": 1.0, "concave": -1.0, "linear": 0.0}[term.curvature] * coefficient
            if bend > 0 and self.lower is not None:
                raise InputError(f"{self.name}: {term!r} cannot be limited from below, that is not convex")
            if bend < 0 and self.upper is not None:
                raise InputError(f"{self.name}: {term!r} cannot be limited from above here, that is not convex")
        if self.lower is not None and self.upper is not None and self.lower > self.upper:
            raise InputError(f"{self.name}: lower {self.lower:g} is above upper {self.upper:g}")

    def named(self, name: str) -> Limit:
        """The same limit under a name of its own: ``(CVaR(0.95) <= 0.02).named("tail risk")``."""
        return replace(self, name=name)

    def __bool__(self) -> bool:
        raise InputError(
            f"{self.name}: a limit is neither true nor false. For `a <= measure <= b`, of which Python would keep one "
            "half, write Limit(measure, lower=a, upper=b)"
        )


@dataclass(frozen=True, eq=False)
class LinearLimit:
    """Limits on sums of weights written as text: ``"Tech <= 0.30"``, ``"Tech - Energy <= 0.1"``, ``"AAPL >= 2%"``.

    Parameters
    ----------
    text
        One limit, or a list of them. Names are assets, or labels of groups.
    labels
        Groups: a Series from asset to label, or a frame with a column for each classification. A name that is neither
        an asset nor a label is an error, and so is one that is both, or a label of two classifications.
    """

    text: str | Iterable[str]
    labels: pd.Series | pd.DataFrame | Mapping[str, str] | None = None
    _: KW_ONLY
    name: str = "LinearLimit"

    def __post_init__(self) -> None:
        if not isinstance(self.text, Iterable):
            raise InputError(f"{self.name}: a limit is a text like 'Tech <= 0.30', was {self.text!r}")
        lines = (self.text,) if isinstance(self.text, str) else tuple(self.text)
        if not lines:
            raise InputError(f"{self.name}: there is no text")
        if self.labels is not None and not isinstance(self.labels, pd.Series | pd.DataFrame | Mapping):
            raise InputError(
                f"{self.name}: labels must be a Series or mapping from asset to group, or a frame with a column for "
                f"each classification, was {self.labels!r}"
            )
        object.__setattr__(self, "text", lines)
        object.__setattr__(self, "_parsed", tuple(parse(line, self.name) for line in lines))

    @property
    def parsed(self) -> tuple[LinearText, ...]:
        """The limits, read."""
        return self._parsed  # type: ignore[attr-defined]


@dataclass(frozen=True, eq=False)
class FactorExposure:
    r"""Bands on factor exposures: :math:`L_k \le \sum_i B_{ik} (w_i - b_i) \le U_k`.

    Parameters
    ----------
    exposures
        B, by asset (rows) and factor (columns).
    lower, upper
        By factor, in units of the exposures; factors not named are free.
    benchmark
        b by asset: the bands are then around the benchmark's exposures.
    """

    exposures: pd.DataFrame
    _: KW_ONLY
    lower: Mapping[str, float] | None = None
    upper: Mapping[str, float] | None = None
    benchmark: pd.Series | Mapping[str, float] | None = None
    name: str = "FactorExposure"

    def __post_init__(self) -> None:
        if not isinstance(self.exposures, pd.DataFrame):
            raise InputError(f"{self.name}: exposures must be a frame by asset and factor")
        if not self.lower and not self.upper:
            raise InputError(f"{self.name} limits nothing: give lower={{factor: exposure}} or upper={{...}}")
        for what in ("lower", "upper"):
            side = getattr(self, what) or {}
            if not isinstance(side, Mapping):
                raise InputError(f"{self.name}: {what} must map factors to exposures, was {side!r}")
            checked = {factor: _finite(v, f"{self.name}: {what}[{factor!r}]") for factor, v in side.items()}
            object.__setattr__(self, what, checked)


@dataclass(frozen=True, eq=False)
class NoTrade:
    """Assets whose weight stays what it is: :math:`w_i = h_i`."""

    assets: Iterable[str]
    _: KW_ONLY
    name: str = "NoTrade"

    def __post_init__(self) -> None:
        object.__setattr__(self, "assets", _names(self.assets, self.name))


@dataclass(frozen=True, eq=False)
class MustHold:
    r"""Least weights of some assets: :math:`w_i \ge minimum_i`, as fractions of NAV; the others are free.

    Parameters
    ----------
    minimum
        Weight by asset.
    """

    minimum: Mapping[str, float] | pd.Series
    _: KW_ONLY
    name: str = "MustHold"

    def __post_init__(self) -> None:
        if not isinstance(self.minimum, Mapping | pd.Series) or not len(self.minimum):
            raise InputError(f"{self.name}: minimum must map assets to weights, was {self.minimum!r}")
        least = {asset: _finite(v, f"{self.name}: minimum[{asset!r}]") for asset, v in dict(self.minimum).items()}
        object.__setattr__(self, "minimum", least)


@dataclass(frozen=True, eq=False)
class Liquidity:
    r"""Trades or positions that the market can take: :math:`|x_i| \, \mathrm{NAV} \le share \cdot ADV_i \cdot days`.

    Parameters
    ----------
    volume
        ADV, average daily volume by asset, in money. Every asset needs one; zero forbids.
    nav
        Net asset value, in the same money.
    participation
        Share of the volume that may be ours, in (0, 1].
    days
        Trading days to do it in.
    of
        ``"trades"``: x = w - h; ``"positions"``: x = w, so that all can be sold within `days`.
    """

    volume: pd.Series | Mapping[str, float]
    nav: float
    _: KW_ONLY
    participation: float = 0.1
    days: float = 1.0
    of: Literal["trades", "positions"] = "trades"
    name: str = "Liquidity"

    def __post_init__(self) -> None:
        for what in ("nav", "participation", "days"):
            value = _finite(getattr(self, what), f"{self.name}: {what}")
            if value <= 0:
                raise InputError(f"{self.name}: {what} must be positive, was {value:g}")
            object.__setattr__(self, what, value)
        if self.participation > 1:
            raise InputError(f"{self.name}: participation is a share of volume, at most 1, was {self.participation:g}")
        if self.of not in ("trades", "positions"):
            raise InputError(f"{self.name}: of must be 'trades' or 'positions', was {self.of!r}")


# -- integer -----------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class MaxHoldings:
    """At most so many assets with a weight other than zero."""

    count: int
    _: KW_ONLY
    name: str = "MaxHoldings"
    integer: ClassVar[bool] = True

    def __post_init__(self) -> None:
        whole = isinstance(self.count, Real) and not isinstance(self.count, bool) and float(self.count).is_integer()
        if not whole or self.count < 0:
            raise InputError(f"{self.name}: count must be a whole number, was {self.count!r}")
        object.__setattr__(self, "count", int(self.count))


@dataclass(frozen=True, eq=False)
class MinPosition:
    r"""A weight is zero or at least so large: :math:`w_i = 0` or :math:`|w_i| \ge size_i`."""

    size: PerAsset
    _: KW_ONLY
    name: str = "MinPosition"
    integer: ClassVar[bool] = True


@dataclass(frozen=True, eq=False)
class MinTrade:
    r"""A trade is zero or at least so large: :math:`w_i = h_i` or :math:`|w_i - h_i| \ge size_i`."""

    size: PerAsset
    _: KW_ONLY
    name: str = "MinTrade"
    integer: ClassVar[bool] = True


@dataclass(frozen=True, eq=False)
class RoundLots:
    r"""Weights are whole multiples of a lot: :math:`w_i / lot_i` is a whole number.

    Parameters
    ----------
    lot
        Weight of one lot by asset: lot size times price over NAV.
    """

    lot: PerAsset
    _: KW_ONLY
    name: str = "RoundLots"
    integer: ClassVar[bool] = True


# -- soft --------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class Soft:
    r"""A constraint that may be violated at a price: the objective loses `penalty` per unit of violation.

    Where several lines are limited (assets, groups), each is charged for its own violation.

    Parameters
    ----------
    constraint
        Any constraint that is not an integer one.
    penalty
        Loss of the objective per unit of the limit, positive. Above the limit's shadow price it leaves no violation.
    """

    constraint: Constraint
    penalty: float

    def __post_init__(self) -> None:
        if not isinstance(self.constraint, CONSTRAINT_TYPES) or isinstance(self.constraint, Soft):
            raise InputError(f"Soft takes a constraint, was given {self.constraint!r}")
        if getattr(self.constraint, "integer", False):
            raise InputError(f"{self.constraint.name} cannot be soft: it is all or nothing")
        value = _finite(self.penalty, f"{self.name}: penalty")
        if value <= 0:
            raise InputError(f"{self.name}: penalty must be positive, was {value:g}")
        object.__setattr__(self, "penalty", value)

    @property
    def name(self) -> str:
        """Name of the constraint."""
        return self.constraint.name


def _names(assets: Iterable[str], what: str) -> tuple[str, ...]:
    if isinstance(assets, str) or not isinstance(assets, Iterable):
        raise InputError(f"{what}: assets must be a list of labels, was {assets!r}")
    return tuple(assets)


Constraint: TypeAlias = (
    Budget
    | Bounds
    | GroupLimit
    | Turnover
    | TradeLimit
    | ReturnTarget
    | CVaRLimit
    | Limit
    | LinearLimit
    | FactorExposure
    | NoTrade
    | MustHold
    | Liquidity
    | MaxHoldings
    | MinPosition
    | MinTrade
    | RoundLots
    | Soft
)
CONSTRAINT_TYPES = (
    Budget,
    Bounds,
    GroupLimit,
    Turnover,
    TradeLimit,
    ReturnTarget,
    CVaRLimit,
    Limit,
    LinearLimit,
    FactorExposure,
    NoTrade,
    MustHold,
    Liquidity,
    MaxHoldings,
    MinPosition,
    MinTrade,
    RoundLots,
    Soft,
)
INTEGER_TYPES = (MaxHoldings, MinPosition, MinTrade, RoundLots)


def needs_holdings(constraint: Constraint) -> bool:
    """Whether a constraint looks at trades from the holdings."""
    if isinstance(constraint, Soft):
        return needs_holdings(constraint.constraint)
    if isinstance(constraint, Limit):
        return any(term.trades for _, term in constraint.measure.parts)
    if isinstance(constraint, Liquidity):
        return constraint.of == "trades"
    return isinstance(constraint, Turnover | TradeLimit | NoTrade | MinTrade)


def single(measure: Expression) -> Term | None:
    """The only term of a measure that is just that."""
    parts = measure.parts
    return parts[0][1] if len(parts) == 1 and parts[0][0] == 1.0 else None

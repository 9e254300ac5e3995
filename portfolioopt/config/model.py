"""The keys of a configuration and what each may hold, in the words and units of the library.

Weights, limits and returns are fractions (0.15 is 15 %), costs are basis points, returns and risks are per scenario
horizon. A section with one main value may be written as that value alone: ``turnover: 0.6`` is short for
``turnover: {limit: 0.6}``.
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, Literal, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, PrivateAttr, model_validator
from pydantic_core import PydanticCustomError

from portfolioopt.errors import ConfigError, unknown_names

from .place import Key, Origin, Place

OTHERS: Final = "others"  # in a mapping by asset: every asset that is not named


def complaint(message: str, *place: Key) -> PydanticCustomError:
    """An error with our own text; `place` leads from the section being checked to the culprit."""
    return PydanticCustomError("portfolioopt", "{message}", {"message": message, "place": place})


def tag(name: str) -> str:
    """What an alternative is called among others; it is part of no place in a file."""
    return f"<{name}>"


def number_of(value: object, what: str, *place: Key, infinite: bool = False) -> float:
    """A real number, or refuse text, truth values and percentages."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        hint = ""
        if isinstance(value, str) and re.fullmatch(r"\s*[-+]?[\d.]+\s*(%|bps?|bp)?\s*", value):
            hint = "; write a plain number without quotes or unit: weights as fractions (15 % is 0.15), costs in bps"
        raise complaint(f"{what} must be a number, was {value!r}{hint}", *place)
    number = float(value)
    if math.isnan(number) or (math.isinf(number) and not infinite):
        raise complaint(f"{what} must be {'a number' if infinite else 'finite'}, was {value!r}", *place)
    return number


def _per_asset(value: object) -> float | dict[str, float]:
    """One number, or a mapping from asset to number; infinite for no limit."""
    if not isinstance(value, Mapping):
        return number_of(value, "the value", infinite=True)
    if not value:
        raise complaint("the mapping from asset to number is empty")
    return {str(key): number_of(entry, str(key), key, infinite=True) for key, entry in value.items()}


def whole_of(value: object) -> int:
    """A whole number; truth values are none."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise complaint(f"must be a whole number, was {value!r}")
    return value


def date_of(value: object) -> datetime.date:
    """A day in the ISO form."""
    # A bare year is a number to YAML, and pydantic would take it for seconds since 1970.
    if isinstance(value, str):
        try:
            return datetime.date.fromisoformat(value)
        except ValueError:
            pass
    if not isinstance(value, datetime.date) or isinstance(value, datetime.datetime):
        raise complaint(f"must be a date such as 2013-01-31, was {value!r}")
    return value


def _weights(value: object) -> dict[str, float]:
    if not isinstance(value, Mapping) or not value:
        raise complaint(f"must be a mapping from asset to weight, was {shown(value)}")
    return {str(key): number_of(entry, str(key), key) for key, entry in value.items()}


def _holdings(value: object) -> str | dict[str, float]:
    if isinstance(value, Mapping) and value:
        return _weights(value)
    if value not in ("equal", "cash"):
        raise complaint(
            f"must be 'equal', 'cash' or a mapping from asset to weight, was {value!r}; assets not named are not held"
        )
    return str(value)


def _tuple(value: object) -> object:
    if isinstance(value, list | tuple):
        return tuple(value)
    raise complaint(f"must be a list, each entry beginning with '- ', was {shown(value)}")


def shown(value: object) -> str:
    """A value in a message."""
    return "a section" if isinstance(value, Mapping) else repr(value)


RISKS: Final = (
    "ConditionalDrawdown",
    "CVaR",
    "EntropicVaR",
    "MaxDrawdown",
    "MeanAbsoluteDeviation",
    "SemiDeviation",
    "Variance",
    "Volatility",
    "WorstLoss",
)
EXPOSURES: Final = ("GrossExposure", "LongExposure", "NetExposure", "ShortExposure")
LEVELLED: Final = ("ConditionalDrawdown", "CVaR", "EntropicVaR")


def _one_of(value: object, known: tuple[str, ...]) -> str:
    if value not in known:
        raise complaint(str(unknown_names("measure", [value], known)))
    return str(value)


def _check_level(measure: str, beta: float | None) -> None:
    if (beta is None) == (measure in LEVELLED):
        wanted = "is missing: the measure has a level, such as 0.95" if beta is None else f"means nothing to {measure}"
        raise complaint(wanted, "beta")


Risk = Annotated[str, BeforeValidator(lambda value: _one_of(value, RISKS))]
Number = Annotated[float, BeforeValidator(lambda value: number_of(value, "the value"))]
Whole = Annotated[int, BeforeValidator(whole_of)]
Day = Annotated[datetime.date, BeforeValidator(date_of)]
PerAsset = Annotated[float | dict[str, float], BeforeValidator(_per_asset)]
Holdings = Annotated[Literal["equal", "cash"] | dict[str, float], BeforeValidator(_holdings)]
Weights = Annotated[dict[str, float], BeforeValidator(_weights)]
Labels = Annotated[str | dict[str, str], BeforeValidator(lambda value: _labels(value))]
_T = TypeVar("_T")
Many = Annotated[tuple[_T, ...], BeforeValidator(_tuple)]


class Section(BaseModel):
    """Base of every section: no unknown keys, no changes after reading, no guessing of types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, str_strip_whitespace=True)

    _short: ClassVar[str | None] = None  # the key that a bare value stands for

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, value: Any) -> Any:
        if cls._short is not None and not isinstance(value, Mapping | BaseModel):
            value = {cls._short: value}
        if isinstance(value, Mapping):
            for key in value:
                if key not in cls.model_fields:
                    raise complaint(str(unknown_names("key", [key], cls.model_fields)), key)
        return value


def in_words(section: Section) -> str:
    """What a section says, on one line as in a file: without its kind, and without what was left out."""
    given = section.model_dump(mode="json", exclude_none=True, exclude_defaults=True, exclude={"kind"})
    return _flow(given)[1:-1]


def _flow(value: object) -> str:
    match value:
        case dict():
            return "{" + ", ".join(f"{key}: {_flow(one)}" for key, one in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(_flow, value)) + "]"
        case float():
            return f"{value:g}"
        case bool():
            return str(value).lower()
        case _:
            return str(value)


class PricesConfig(Section):
    """Where prices come from."""

    source: str
    """``sample`` for the bundled prices, or the path of a CSV or Parquet file: dates in the first column, then one
    column of prices per asset."""
    start: Day | None = None
    end: Day | None = None
    """First and last day of prices to use, both included."""
    assets: Many[str] | None = None
    """The columns to use; all where omitted."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.start is not None and self.end is not None and self.start >= self.end:
            raise complaint(f"start {self.start} is not before end {self.end}", "start")
        if self.assets is not None and len(set(self.assets)) < max(len(self.assets), 1):
            raise complaint("must name at least one asset, and none twice", "assets")
        return self


class DataConfig(PricesConfig):
    """Where prices come from, and what to do where they are missing."""

    missing: Literal["error", "drop_dates", "drop_assets"] = "error"
    """See `portfolioopt.data.simple_returns`."""


class ScenariosConfig(Section):
    """How prices become scenarios."""

    kind: Literal["history", "bootstrap"]
    horizon: Whole = 1
    """Length of one scenario in rows of prices: trading days for daily prices."""
    window: Whole | None = None
    """history: how many of the last returns to use; all where omitted."""
    n_scenarios: Whole | None = None
    seed: Whole | None = None
    """bootstrap: number of scenarios and seed of the random numbers; both are required."""
    block_length: Whole | None = None
    method: Literal["stationary", "circular"] | None = None
    """bootstrap: see `portfolioopt.scenarios.block_bootstrap`."""

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        # A key that the other kind of scenarios needs would be ignored without a word.
        if self.kind == "bootstrap":
            for key in ("n_scenarios", "seed"):
                if getattr(self, key) is None:
                    raise complaint("is missing: bootstrap scenarios need it", key)
            if self.window is not None:
                raise complaint(
                    "means nothing to bootstrap scenarios: remove it, and shorten the history with data.start", "window"
                )
        else:
            for key in ("n_scenarios", "seed", "block_length", "method"):
                if getattr(self, key) is not None:
                    raise complaint("means nothing to history: remove it, or set kind to bootstrap", key)
        return self


class CVaRConfig(Section):
    """One CVaR term of the objective: ``- weight * CVaR(beta)``."""

    beta: Number
    weight: Number

    @model_validator(mode="after")
    def _subtracted(self) -> Self:
        if self.weight <= 0:
            raise complaint(
                f"must be positive, was {self.weight:g}: the risk is subtracted, weight times CVaR", "weight"
            )
        return self


class RiskConfig(Section):
    """One more term of the objective: ``- weight * measure``, over the scenarios of the run."""

    measure: Risk
    weight: Number
    beta: Number | None = None
    """Level of a measure that has one."""

    @model_validator(mode="after")
    def _subtracted(self) -> Self:
        if self.weight <= 0:
            raise complaint(f"must be positive, was {self.weight:g}: weight times measure is subtracted", "weight")
        _check_level(self.measure, self.beta)
        return self


class ObjectiveConfig(Section):
    """What is maximised: ``expected_return * mean - sum of weight * CVaR - sum of weight * measure - cost``."""

    expected_return: Number | None = None
    """Weight of the expected return; left out of the objective where omitted."""
    cvar: Many[CVaRConfig] = ()
    risks: Many[RiskConfig] = ()
    cost_bps: PerAsset | None = None
    """Cost of trading in basis points of the amount traded: one number, or one per asset."""

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if self.expected_return is None and not self.cvar and not self.risks and self.cost_bps is None:
            raise complaint("is empty: give it expected_return, cvar, risks or cost_bps")
        return self


class BudgetConfig(Section):
    """`portfolioopt.Budget`."""

    _short = "total"
    total: Number
    name: str | None = None


class BoundsConfig(Section):
    """`portfolioopt.Bounds`; both sides are required, ``.inf`` and ``-.inf`` for none."""

    lower: PerAsset
    upper: PerAsset
    unit_check: bool = True
    name: str | None = None


class GroupConfig(Section):
    """`portfolioopt.GroupLimit`."""

    labels: Labels
    """``sample sectors``, a mapping from asset to label, or the path of a CSV or Parquet file with two columns, asset
    and label."""
    lower: PerAsset | None = None
    upper: PerAsset | None = None
    """Limits by label; one number limits every label."""
    unit_check: bool = True
    name: str | None = None

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if self.lower is None and self.upper is None:
            raise complaint("limits nothing: give it lower or upper")
        return self


class TurnoverConfig(Section):
    """`portfolioopt.Turnover`: the full sum of buys and sells."""

    _short = "limit"
    limit: Number
    unit_check: bool = True
    name: str | None = None


class TradeLimitConfig(Section):
    """`portfolioopt.TradeLimit`; by asset in the long form, ``trade_limit: {limit: {AAPL: 0.01, others: 0.05}}``."""

    _short = "limit"
    limit: PerAsset
    unit_check: bool = True
    name: str | None = None


class ReturnTargetConfig(Section):
    """`portfolioopt.ReturnTarget`."""

    _short = "target"
    target: Number
    name: str | None = None


class CVaRLimitConfig(Section):
    """`portfolioopt.CVaRLimit`."""

    beta: Number
    limit: Number
    unit_check: bool = True
    name: str | None = None


class RiskLimitConfig(Section):
    """``measure <= limit``, over the scenarios of the run."""

    measure: Annotated[str, BeforeValidator(lambda value: _one_of(value, (*RISKS, *EXPOSURES)))]
    limit: Number
    beta: Number | None = None
    """Level of a measure that has one."""
    unit_check: bool = True
    name: str | None = None

    @model_validator(mode="after")
    def _levelled(self) -> Self:
        _check_level(self.measure, self.beta)
        return self


class LinearConfig(Section):
    """`portfolioopt.LinearLimit`: a text such as ``Technology - Energy <= 10%``, over assets and labels of groups."""

    _short = "text"
    text: str
    name: str | None = None


class MaxHoldingsConfig(Section):
    """`portfolioopt.MaxHoldings`."""

    _short = "count"
    count: Whole
    name: str | None = None


class SizeConfig(Section):
    """`portfolioopt.MinPosition` and `portfolioopt.MinTrade`; by asset in the long form."""

    _short = "size"
    size: PerAsset
    name: str | None = None


class ConstraintsConfig(Section):
    """Limits on the portfolio; what is not named is not limited."""

    budget: BudgetConfig | None = None
    bounds: BoundsConfig | None = None
    groups: Many[GroupConfig] = ()
    turnover: TurnoverConfig | None = None
    trade_limit: TradeLimitConfig | None = None
    return_target: ReturnTargetConfig | None = None
    cvar_limits: Many[CVaRLimitConfig] = ()
    risk_limits: Many[RiskLimitConfig] = ()
    linear: Many[LinearConfig] = ()
    max_holdings: MaxHoldingsConfig | None = None
    min_position: SizeConfig | None = None
    min_trade: SizeConfig | None = None


class ReportConfig(Section):
    """What the report shows."""

    top: Whole = 20
    """Rows of the longer tables and bars of the pictures."""
    pictures: bool = True

    @model_validator(mode="after")
    def _some(self) -> Self:
        if self.top < 1:
            raise complaint(f"must be at least 1, was {self.top}", "top")
        return self


class RunFile(Section):
    """Base of what a whole file describes."""

    name: str | None = None
    """Name of the run and of its results folder; the name of the file where omitted."""

    _origin: Origin = PrivateAttr(default_factory=Origin)

    @model_validator(mode="after")
    def _named(self) -> Self:
        if self.name is not None and not re.fullmatch(r"\w[\w .+-]*", self.name):
            raise complaint(
                f"names a folder: letters, digits, '.', '+', '-', '_' and spaces, a letter or digit first; was "
                f"{self.name!r}",
                "name",
            )
        return self

    @property
    def origin(self) -> Origin:
        """The file this was read from."""
        return self._origin

    def error(self, message: str, *place: Key) -> ConfigError:
        """The error for a fault at `place`, with file and line where they are known."""
        return Place(self._origin).error(message, *place)


class Config(RunFile):
    """A run: data, scenarios, problem and report."""

    data: DataConfig
    scenarios: ScenariosConfig
    objective: ObjectiveConfig
    constraints: ConstraintsConfig = ConstraintsConfig()
    holdings: Holdings | None = None
    """The book before trading: ``equal``, ``cash`` (nothing held), or weights by asset, zero for those not named."""
    nav: Number = 1.0
    """Net asset value in account currency, for the trade list."""
    minimum_trade: Number = 0.0
    """Smallest trade worth making, in account currency."""
    report: ReportConfig = ReportConfig()

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if self.nav <= 0:
            raise complaint(f"must be positive, was {self.nav:g}", "nav")
        if self.minimum_trade < 0:
            raise complaint(f"must not be negative, was {self.minimum_trade:g}", "minimum_trade")
        if self.holdings is None:
            users = {
                ("objective", "cost_bps"): self.objective.cost_bps,
                ("constraints", "turnover"): self.constraints.turnover,
                ("constraints", "trade_limit"): self.constraints.trade_limit,
                ("constraints", "min_trade"): self.constraints.min_trade,
            }
            for place, value in users.items():
                if value is not None:
                    raise complaint(
                        "measures trades from the holdings, but there are none: add holdings ('cash' for a start from "
                        "cash)",
                        *place,
                    )
        return self

    def with_seed(self, seed: int) -> Config:
        """A copy with another seed of the scenarios."""
        if self.scenarios.kind != "bootstrap":
            raise self.error("history draws nothing, so a seed has no effect on it", "scenarios", "kind")
        scenarios = self.scenarios.model_copy(update={"seed": whole_of(seed)})
        return self.model_copy(update={"scenarios": scenarios})


def _labels(value: object) -> str | dict[str, str]:
    if isinstance(value, str) and value:
        return value
    if not isinstance(value, Mapping) or not value:
        raise complaint(f"must be 'sample sectors', a file, or a mapping from asset to label, was {shown(value)}")
    for asset, label in value.items():
        if not isinstance(label, str):
            raise complaint(f"the label of {asset} must be text, was {label!r}; put it in quotes", asset)
    return {str(asset): str(label) for asset, label in value.items()}

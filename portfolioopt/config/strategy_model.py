"""The keys of a strategy in a backtest: its kind, and what that kind takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self, get_args

from pydantic import BeforeValidator, Discriminator, Tag, model_validator

from portfolioopt.errors import unknown_names

from .model import (
    ConstraintsConfig,
    GroupConfig,
    Many,
    Number,
    ObjectiveConfig,
    PerAsset,
    Section,
    Weights,
    Whole,
    complaint,
    tag,
)

AllocatorKind = Literal[
    "herc",
    "hrp",
    "inverse_volatility",
    "maximum_diversification",
    "minimum_variance",
    "nested_clusters",
    "risk_parity",
]
CovarianceKind = Literal[
    "denoised", "gerber", "ledoit_wolf", "nonlinear_shrinkage", "oracle_approximating", "sample"
]  # fmt: skip
BOUNDED: Final = ("herc", "hrp", "maximum_diversification", "minimum_variance", "risk_parity")


class MeanCVaRConfig(Section):
    """`portfolioopt.strategies.MeanCVaR`: a mean-CVaR portfolio on resampled recent history, fully invested."""

    kind: Literal["mean_cvar"]
    risk_aversion: Number = 3.0
    """Points of return that one point of CVaR is worth."""
    beta: Number = 0.95
    window: Whole = 1260
    """Sessions of history that are resampled."""
    n_scenarios: Whole | None = 1000
    horizon: Whole = 21
    """Sessions in one scenario."""
    block_length: Whole | None = None
    lower: PerAsset = 0.0
    upper: PerAsset = 0.2
    groups: Many[GroupConfig] = ()
    turnover: Number | None = None
    """Most that may be traded at a time, after the first."""
    cost_bps: Number | None = None
    """Cost that is planned with, in basis points; what the book is charged where omitted."""
    holding: Number = 21.0
    """Sessions that a portfolio is expected to be held, over which the cost of trading is spread."""


class RollingScenariosConfig(Section):
    """How the prices of a window become scenarios. What is random in it follows from `book.seed`."""

    kind: Literal["history", "bootstrap"]
    window: Whole = 1260
    """Sessions of history."""
    horizon: Whole = 1
    """Length of one scenario in sessions."""
    n_scenarios: Whole | None = None
    """bootstrap: number of scenarios; required."""
    block_length: Whole | None = None
    method: Literal["stationary", "circular"] | None = None
    """bootstrap: see `portfolioopt.scenarios.block_bootstrap`."""

    @model_validator(mode="before")
    @classmethod
    def _no_seed(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and "seed" in value:
            raise complaint("has its place under book: one seed is for the whole backtest", "seed")
        return value

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if self.kind == "bootstrap":
            if self.n_scenarios is None:
                raise complaint("is missing: bootstrap scenarios need it", "n_scenarios")
        else:
            for key in ("n_scenarios", "block_length", "method"):
                if getattr(self, key) is not None:
                    raise complaint("means nothing to history: remove it, or set kind to bootstrap", key)
        return self


class ProblemConfig(Section):
    """A problem in the sections of a run file, posed anew on every day of decision from what is known then.

    Trades are measured from the book. The limits turnover and trade_limit begin with the second target: a book of cash
    has to be invested first.
    """

    kind: Literal["problem"]
    scenarios: RollingScenariosConfig
    objective: ObjectiveConfig
    """Where it has no cost_bps, what the book is charged is planned with; ``cost_bps: 0`` plans without costs."""
    constraints: ConstraintsConfig = ConstraintsConfig()
    risk_aversion: Number = 1.0
    """Factor on all risks of the objective, to be varied."""
    holding: Number | None = None
    """Sessions that a portfolio is expected to be held, over which the cost of trading is spread; the horizon of the
    scenarios where omitted."""


class AllocatorConfig(Section):
    """A classic allocator of `portfolioopt.allocation`, by its name, on the returns of a window."""

    kind: AllocatorKind
    window: Whole = 504
    """Sessions of history."""
    covariance: CovarianceKind = "sample"
    """An estimator of `portfolioopt.estimate`."""
    lower: PerAsset | None = None
    upper: PerAsset | None = None
    """Bounds on weights, for the allocators that know some; 0 and 1 where omitted."""

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.kind not in BOUNDED:
            for key in ("lower", "upper"):
                if getattr(self, key) is not None:
                    raise complaint(f"means nothing to {self.kind}, which has no bounds on weights", key)
        return self


class FixedConfig(Section):
    """The same target weights every time; what they leave of one is cash."""

    kind: Literal["fixed"]
    weights: Weights


class EqualWeightConfig(Section):
    """The same weight in every asset that has a price."""

    kind: Literal["equal_weight"]


class BuyAndHoldConfig(Section):
    """Buy once and never trade again."""

    kind: Literal["buy_and_hold"]
    weights: Weights | None = None
    """Equal weights where omitted."""


_SECTIONS: Final[dict[str, type[Section]]] = {
    "mean_cvar": MeanCVaRConfig,
    "problem": ProblemConfig,
    "fixed": FixedConfig,
    "equal_weight": EqualWeightConfig,
    "buy_and_hold": BuyAndHoldConfig,
    **dict.fromkeys(get_args(AllocatorKind), AllocatorConfig),
}
KINDS: Final = tuple(_SECTIONS)


_WORDS: Final = ("hold", "cash")


def _known_kind(value: Any) -> Any:
    """A strategy with a kind that there is; the kind alone where it takes nothing else."""
    if isinstance(value, str):
        value = {"kind": value}
    if isinstance(value, Section):
        return value
    if not isinstance(value, Mapping):
        raise complaint(f"must be a kind of strategy, or a section with one, was {value!r}")
    if "kind" not in value:
        raise complaint(f"is missing; the kinds are {', '.join(KINDS)}", "kind")
    if value["kind"] not in KINDS:
        raise complaint(str(unknown_names("strategy", [value["kind"]], KINDS)), "kind")
    return value


def _section(value: Any) -> str:
    if value in _WORDS:
        return tag("words")
    kind = value["kind"] if isinstance(value, Mapping) else value.kind
    return tag(_SECTIONS[kind].__name__)


AnyStrategyConfig = (
    MeanCVaRConfig | ProblemConfig | AllocatorConfig | FixedConfig | EqualWeightConfig | BuyAndHoldConfig
)
_Tagged = (
    Annotated[MeanCVaRConfig, Tag(tag("MeanCVaRConfig"))]
    | Annotated[ProblemConfig, Tag(tag("ProblemConfig"))]
    | Annotated[AllocatorConfig, Tag(tag("AllocatorConfig"))]
    | Annotated[FixedConfig, Tag(tag("FixedConfig"))]
    | Annotated[EqualWeightConfig, Tag(tag("EqualWeightConfig"))]
    | Annotated[BuyAndHoldConfig, Tag(tag("BuyAndHoldConfig"))]
)
StrategyConfig = Annotated[_Tagged, Discriminator(_section), BeforeValidator(_known_kind)]
FallbackConfig = Annotated[
    _Tagged | Annotated[Literal["hold", "cash"], Tag(tag("words"))],
    Discriminator(_section),
    BeforeValidator(lambda value: value if isinstance(value, str) and value in _WORDS else _known_kind(value)),
]

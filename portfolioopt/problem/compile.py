"""From names to arrays: the only way down from the world of labels to the kernels.

A problem becomes one `HingeProgram` (float64, unscaled, unpadded) plus what is needed to climb back up: which term
and which constraint every array entry came from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from portfolioopt.errors import InputError, unknown_names
from portfolioopt.labels import PerAsset, align, per_asset, some
from portfolioopt.scenarios import ReturnsSource, ScenarioSet
from portfolioopt_kernels import HingeProgram, exchange

from .box import implied_box, initial_weights
from .constraints import (
    Bounds,
    Budget,
    Constraint,
    CVaRLimit,
    GroupLimit,
    ReturnTarget,
    TradeLimit,
    Turnover,
)
from .terms import CVaR, ExpectedReturn, Objective, ProportionalCost
from .units import check_units

FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.intp]
LineKind: TypeAlias = Literal["row", "weight", "trade", "cvar", "l1"]
Sense: TypeAlias = Literal["<=", ">=", "=="]


@dataclass(frozen=True)
class CompiledTerm:
    """One term of the objective: `coefficient` times its value."""

    label: str
    kind: Literal["return", "cvar", "cost"]
    coefficient: float
    beta: float  # level of a CVaR term, NaN otherwise
    vector: FloatArray  # mean (N,) of a return term, rates (N,) of a cost term, empty otherwise


@dataclass(frozen=True)
class Lines:
    """Lines of the constraint report that one constraint gives rise to, all of one kind and sense.

    `index` says which row, asset, CVaR block or L1 block each line looks at.
    """

    constraint: str
    names: tuple[str, ...]
    kind: LineKind
    sense: Sense
    index: IntArray
    limit: FloatArray


@dataclass(frozen=True)
class Compiled:
    """A problem as arrays, with the way back to its names."""

    program: HingeProgram
    """Arrays of the canonical program, all NumPy float64. Where the returns are not in memory as a whole, they are NaN
    here, and `source` has them; where they are kept in float32, they are float32 here."""
    source: ReturnsSource
    """The scenario returns, for passes over all of them."""
    terms: tuple[CompiledTerm, ...]
    lines: tuple[Lines, ...]
    betas: tuple[float, ...]
    """Confidence levels of the CVaR blocks, in order."""
    probabilities: FloatArray
    """Scenario probabilities (S,)."""
    mean: FloatArray
    """Scenario mean of the returns (N,)."""
    holdings: FloatArray | None
    box_lower: FloatArray
    box_upper: FloatArray
    """Bounds (N,) that all constraints together imply; infinite where nothing limits an asset."""


class _Builder:
    """Collects rows, blocks and bounds while walking over terms and constraints."""

    def __init__(self, scenarios: ScenarioSet, holdings: FloatArray | None) -> None:
        n = scenarios.n_assets
        self.scenarios = scenarios
        self.assets = scenarios.assets
        self.holdings = holdings
        self.mean = scenarios.mean_array()
        self.linear = np.zeros(n)
        self.cvar: dict[float, list[float]] = {}  # beta -> [weight, cap]
        self.cost_rate = np.zeros(n)
        self.turnover_caps: list[float] = []
        self.rows: list[FloatArray] = []
        self.row_sides: list[tuple[float, float]] = []
        self.lower = np.full(n, -np.inf)
        self.upper = np.full(n, np.inf)
        self.terms: list[CompiledTerm] = []
        self.lines: list[Lines] = []

    # -- objective -----------------------------------------------------------------------------------------------
    def add_term(self, coefficient: float, term: object) -> None:
        if isinstance(term, ExpectedReturn):
            mean = self.mean_of(term.mean, "ExpectedReturn.mean")
            self.linear -= coefficient * mean
            self.terms.append(CompiledTerm(repr(term), "return", coefficient, np.nan, mean))
        elif isinstance(term, CVaR):
            self.cvar.setdefault(term.beta, [0.0, np.inf])[0] -= coefficient
            self.terms.append(CompiledTerm(repr(term), "cvar", coefficient, term.beta, np.empty(0)))
        elif isinstance(term, ProportionalCost):
            rate = self.per_asset(term.bps, "ProportionalCost.bps") / 1e4
            self.cost_rate -= coefficient * rate
            self.terms.append(CompiledTerm(repr(term), "cost", coefficient, np.nan, rate))
        else:
            raise InputError(f"{term!r} is not an objective term")

    # -- constraints ---------------------------------------------------------------------------------------------
    def add_constraint(self, c: Constraint) -> None:
        match c:
            case Budget():
                self.add_row(c.name, [c.name], np.ones((1, len(self.assets))), [c.total], [c.total])
            case Bounds():
                lower = self.per_asset(c.lower, f"{c.name}.lower", infinite=True)
                upper = self.per_asset(c.upper, f"{c.name}.upper", infinite=True)
                self.check_pair(c.name, lower, upper)
                self.lower, self.upper = np.maximum(self.lower, lower), np.minimum(self.upper, upper)
                self.add_asset_lines(c.name, "weight", ">=", lower)
                self.add_asset_lines(c.name, "weight", "<=", upper)
            case GroupLimit():
                self.add_groups(c)
            case Turnover():
                self.lines.append(
                    Lines(
                        c.name,
                        (c.name,),
                        "l1",
                        "<=",
                        np.array([len(self.turnover_caps)]),
                        np.array([c.limit]),
                    )
                )
                if c.limit == 0.0:
                    # without any room an interior point does not exist; fixed weights say the same
                    assert self.holdings is not None
                    self.lower = np.maximum(self.lower, self.holdings)
                    self.upper = np.minimum(self.upper, self.holdings)
                self.turnover_caps.append(c.limit if c.limit > 0.0 else np.inf)
            case TradeLimit():
                limit = self.per_asset(c.limit, f"{c.name}.limit", infinite=True)
                if (limit < 0).any():
                    raise InputError(f"{c.name}: limit is negative for {some(self.assets[limit < 0])}")
                assert self.holdings is not None
                self.lower = np.maximum(self.lower, self.holdings - limit)
                self.upper = np.minimum(self.upper, self.holdings + limit)
                self.add_asset_lines(c.name, "trade", "<=", limit)
            case ReturnTarget():
                mean = self.mean_of(c.mean, f"{c.name}.mean")
                self.add_row(c.name, [c.name], mean[None, :], [c.target], [np.inf])
            case CVaRLimit():
                block = self.cvar.setdefault(c.beta, [0.0, np.inf])
                block[1] = min(block[1], c.limit)
                position = list(self.cvar).index(c.beta)
                self.lines.append(Lines(c.name, (c.name,), "cvar", "<=", np.array([position]), np.array([c.limit])))

    def add_groups(self, c: GroupLimit) -> None:
        labels = c.labels if isinstance(c.labels, pd.Series) else pd.Series(dict(c.labels))
        if labels.index.has_duplicates:
            raise InputError(f"{c.name}: labels names an asset twice: {some(labels.index[labels.index.duplicated()])}")
        missing = self.assets.difference(labels.index, sort=False)
        if len(missing):
            raise InputError(f"{c.name}: labels says nothing about {some(missing)}; give every asset a label")
        own = labels if labels.index is self.assets else labels.reindex(self.assets)
        own = own.to_numpy(dtype=object)  # comparing strings of pandas is slow
        lower, upper = dict(c.lower or {}), dict(c.upper or {})
        wanted = list(dict.fromkeys([*lower, *upper]))
        unknown = [label for label in wanted if not (own == label).any()]
        if unknown:
            what = f"label in {c.name}" if len(unknown) == 1 else "label"
            raise unknown_names(what, unknown, labels.dropna().unique())
        for label in wanted:
            member = (own == label).astype(np.float64)
            self.add_row(
                c.name,
                [f"{c.name}[{label}]"],
                member[None, :],
                [lower.get(label, -np.inf)],
                [upper.get(label, np.inf)],
            )

    def add_row(
        self,
        constraint: str,
        names: Sequence[str],
        rows: FloatArray,
        lower: Sequence[float],
        upper: Sequence[float],
    ) -> None:
        first = len(self.rows)
        index = np.arange(first, first + len(rows))
        self.rows.extend(rows)
        self.row_sides.extend(zip(lower, upper, strict=True))
        low, high = np.array(lower, dtype=float), np.array(upper, dtype=float)
        equal = low == high
        senses: list[tuple[Sense, npt.NDArray[np.bool_], FloatArray]] = [
            ("==", equal, low),
            (">=", ~equal & np.isfinite(low), low),
            ("<=", ~equal & np.isfinite(high), high),
        ]
        for sense, present, limit in senses:
            if present.any():
                chosen = tuple(name for name, keep in zip(names, present, strict=True) if keep)
                self.lines.append(Lines(constraint, chosen, "row", sense, index[present], limit[present]))

    def add_asset_lines(self, constraint: str, kind: LineKind, sense: Sense, limit: FloatArray) -> None:
        present = np.flatnonzero(np.isfinite(limit))
        if len(present):
            names = tuple(f"{constraint}[{asset}]" for asset in self.assets.take(present))
            self.lines.append(Lines(constraint, names, kind, sense, present, limit[present]))

    # -- helpers -------------------------------------------------------------------------------------------------
    def per_asset(self, value: PerAsset, what: str, *, infinite: bool = False) -> FloatArray:
        return per_asset(value, self.assets, what=what, infinite=infinite)

    def mean_of(self, mean: object, what: str) -> FloatArray:
        return self.mean if mean is None else align(mean, self.assets, what=what)  # type: ignore[arg-type]

    def check_pair(self, name: str, lower: FloatArray, upper: FloatArray) -> None:
        crossed = lower > upper
        if crossed.any():
            i = int(np.flatnonzero(crossed)[0])
            raise InputError(
                f"{name}: the lower bound is above the upper one for {some(self.assets[crossed])} "
                f"({self.assets[i]}: {lower[i]:g} > {upper[i]:g})"
            )
        if (lower == np.inf).any() or (upper == -np.inf).any():
            raise InputError(f"{name}: a lower bound of +inf or an upper bound of -inf leaves no weight")


def program_returns(source: ReturnsSource) -> npt.NDArray[np.floating[Any]]:
    """The matrix where it is in memory; elsewhere its shape alone, NaN throughout and without memory of its own."""
    return np.broadcast_to(np.nan, source.shape) if source.matrix is None else source.matrix


def compile_problem(
    scenarios: ScenarioSet,
    objective: Objective,
    constraints: tuple[Constraint, ...],
    holdings: pd.Series | None,
) -> Compiled:
    """Check names and units, and lay a problem out as arrays.

    Raises
    ------
    InputError
        Naming the asset, label or limit that is wrong, and the remedy.
    """
    held = None if holdings is None else holdings.to_numpy(dtype=np.float64)
    build = _Builder(scenarios, held)
    for coefficient, term in objective.parts:
        build.add_term(coefficient, term)
    for constraint in constraints:
        build.add_constraint(constraint)

    n = scenarios.n_assets
    has_cost = bool((build.cost_rate > 0).any())
    l1_rates = [*(np.ones(n) for _ in build.turnover_caps), *([build.cost_rate] if has_cost else [])]
    reference = np.zeros(n) if held is None else held
    rows = np.array(build.rows).reshape(-1, n)
    row_lower, row_upper = np.array(build.row_sides).reshape(-1, 2).T
    betas = np.array(list(build.cvar), dtype=np.float64)
    program = HingeProgram(
        returns=program_returns(scenarios.source),
        linear=build.linear,
        cvar_density=scenarios.probabilities / (1.0 - betas[:, None]),
        cvar_level=np.ones(len(betas)),
        cvar_linear=np.zeros((len(betas), n)),
        cvar_weight=np.array([weight for weight, _ in build.cvar.values()]),
        cvar_cap=np.array([cap for _, cap in build.cvar.values()]),
        l1_rate=np.array(l1_rates).reshape(-1, n),
        l1_reference=np.tile(reference, (len(l1_rates), 1)),
        l1_weight=np.array([*(0.0 for _ in build.turnover_caps), *([1.0] if has_cost else [])]),
        l1_cap=np.array([*build.turnover_caps, *([np.inf] if has_cost else [])]),
        rows=rows,
        row_lower=row_lower,
        row_upper=row_upper,
        lower=build.lower,
        upper=build.upper,
        start=np.zeros(n),
    )
    check_units(scenarios, program, constraints, held)
    box_lower, box_upper = implied_box(program)
    start = initial_weights(program, box_lower, box_upper)
    program = exchange(program, start=start)
    return Compiled(
        program=program,
        source=scenarios.source,
        terms=tuple(build.terms),
        lines=tuple(build.lines),
        betas=tuple(build.cvar),
        probabilities=scenarios.probabilities,
        mean=build.mean,
        holdings=held,
        box_lower=box_lower,
        box_upper=box_upper,
    )

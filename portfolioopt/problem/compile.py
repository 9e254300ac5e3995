"""From names to arrays: the only way down from the world of labels to the kernels.

A problem becomes one `HingeProgram` (float64, unscaled, unpadded) plus what is needed to climb back up: which term
and which constraint every array entry came from. Columns of the program beyond the N assets are auxiliary variables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Literal, TypeAlias

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
    FactorExposure,
    GroupLimit,
    Limit,
    LinearLimit,
    Liquidity,
    MaxHoldings,
    MinPosition,
    MinTrade,
    MustHold,
    NoTrade,
    ReturnTarget,
    RoundLots,
    Soft,
    TradeLimit,
    Turnover,
)
from .costs import TradedAmount
from .integer import integer_excess
from .lowering import Affine, Canvas, Curve, Price, Shape
from .measures import CVaR
from .terms import Expression, Objective, Term, View
from .units import check_units

FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.intp]
LineKind: TypeAlias = Literal["row", "weight", "trade", "cvar", "l1", "integer"]
Sense: TypeAlias = Literal["<=", ">=", "=="]


@dataclass(frozen=True)
class CompiledTerm:
    """One term of the objective: `coefficient` times its value."""

    label: str
    coefficient: float
    measure: Term | None
    """What it measures; None for what a soft constraint is charged for being violated."""
    lines: tuple[int, ...] = ()
    """The groups of lines whose violations are charged."""


@dataclass(frozen=True)
class Lines:
    """Lines of the constraint report that one constraint gives rise to, all of one kind and sense.

    `index` says which row, asset, CVaR block or L1 block each line looks at, and has the line's multiplier.
    """

    constraint: str
    names: tuple[str, ...]
    kind: LineKind
    sense: Sense
    index: IntArray
    limit: FloatArray
    measure: Expression | None = None
    """What is limited; None where row, weight or trade are that themselves."""
    scale: float = 1.0
    """Units of the block's cap, or of the row's sides, per unit of the limit."""
    soft: bool = False
    """Whether violating it is allowed, at a price."""
    centre: float = 0.0
    """What a limit relative to a benchmark is relative to: taken off limit and value where people see them."""


@dataclass(frozen=True)
class Compiled:
    """A problem as arrays, with the way back to its names."""

    program: HingeProgram
    """Arrays of the canonical program, all NumPy float64. Where the returns are not in memory as a whole, they are NaN
    here, and `source` has them; where they are kept in float32, they are float32 here. Columns: the N assets, then
    auxiliary variables. Where there are curves, the program lacks what bounds their variables from below."""
    source: ReturnsSource
    """The scenario returns of the program (its rows and columns), for passes over all of them."""
    scenarios: ScenarioSet
    """The problem's scenarios."""
    own_rows: bool
    """Whether the scenarios of the program are the problem's own."""
    first_row: int
    """Where the problem's own scenarios begin among those of the program."""
    constant: float
    """What the minimised objective adds to that of the program."""
    terms: tuple[CompiledTerm, ...]
    lines: tuple[Lines, ...]
    levels: dict[float, int]
    """CVaR block of each confidence level at which the problem's own scenarios are looked at; -1 where none is as it is
    (a part of a capped sum, for example)."""
    curves: tuple[Curve, ...]
    """Measures that are not piecewise linear, each with its auxiliary variable."""
    integer: tuple[Constraint, ...]
    """Constraints that make the problem a mixed-integer one; the program leaves them out."""
    mean: FloatArray
    """Scenario mean of the returns (N,)."""
    holdings: FloatArray | None
    box_lower: FloatArray
    box_upper: FloatArray
    """Bounds on every column that all constraints together imply; infinite where nothing limits it."""

    @property
    def n_assets(self) -> int:
        """N; the columns from there on are auxiliary variables."""
        return len(self.mean)

    @property
    def probabilities(self) -> FloatArray:
        """Probabilities of the problem's scenarios (S,)."""
        return self.scenarios.probabilities

    @property
    def betas(self) -> tuple[float, ...]:
        """Confidence levels at which the problem's own scenarios are looked at."""
        return tuple(self.levels)

    def view(self, weights: FloatArray) -> View:
        """The weights, ready to be measured."""
        return View(self.scenarios, self.mean, self.holdings, weights[: self.n_assets])


class _Builder:
    """Walks over terms and constraints, lowers them, and remembers what came from where."""

    def __init__(self, scenarios: ScenarioSet, holdings: FloatArray | None) -> None:
        self.canvas = Canvas(scenarios, holdings)
        self.assets = scenarios.assets
        self.holdings = holdings
        self.terms: list[CompiledTerm] = []
        self.lines: list[Lines] = []
        self.integer: list[Constraint] = []
        self.penalty: float | None = None  # of the soft constraint that is being lowered

    # -- objective -----------------------------------------------------------------------------------------------
    def add_term(self, coefficient: float, term: object) -> None:
        if not isinstance(term, Term):
            raise InputError(f"{term!r} is not an objective term")
        sign = 1.0 if term.curvature == "concave" else -1.0  # the program minimises
        self.canvas.minimise(term.shape(self.canvas) * (sign * coefficient))
        self.terms.append(CompiledTerm(repr(term), coefficient, term))

    # -- constraints ---------------------------------------------------------------------------------------------
    def add_constraint(self, c: Constraint) -> None:
        match c:
            case Soft():
                first = len(self.lines)
                self.penalty = c.penalty
                self.add_constraint(c.constraint)
                self.penalty = None
                self.lines[first:] = [replace(group, soft=True) for group in self.lines[first:]]
                charged = tuple(range(first, len(self.lines)))
                self.terms.append(CompiledTerm(f"violation of {c.name}", -c.penalty, None, charged))
            case Budget():
                low, high = c.sides
                self.add_row(c.name, [c.name], np.ones((1, len(self.assets))), [low], [high])
            case Bounds():
                lower = self.per_asset(c.lower, f"{c.name}.lower", infinite=True)
                upper = self.per_asset(c.upper, f"{c.name}.upper", infinite=True)
                self.check_pair(c.name, lower, upper)
                self.add_bounds(c.name, "weight", lower, upper)
            case GroupLimit():
                self.add_groups(c)
            case Turnover():
                self.add_limit(c.name, TradedAmount(c.side), None, c.limit)
            case TradeLimit():
                limit = self.per_asset(c.limit, f"{c.name}.limit", infinite=True)
                if (limit < 0).any():
                    raise InputError(f"{c.name}: limit is negative for {some(self.assets[limit < 0])}")
                self.add_trade_limit(c.name, limit)
            case ReturnTarget():
                mean = self.canvas.mean if c.mean is None else align(c.mean, self.assets, what=f"{c.name}.mean")
                self.add_row(c.name, [c.name], mean[None, :], [c.target], [np.inf])
            case CVaRLimit():
                self.add_limit(c.name, CVaR(c.beta), None, c.limit)
            case Limit():
                self.add_limit(c.name, c.measure, c.lower, c.upper)
            case LinearLimit():
                self.add_linear(c)
            case FactorExposure():
                self.add_factors(c)
            case NoTrade():
                limit = np.where(self.chosen(c.assets, c.name), 0.0, np.inf)
                self.add_trade_limit(c.name, limit)
            case MustHold():
                lower = np.full(len(self.assets), -np.inf)
                self.chosen(c.minimum, c.name)
                for asset, least in dict(c.minimum).items():
                    lower[self.assets.get_loc(asset)] = least
                self.add_bounds(c.name, "weight", lower, np.full(len(self.assets), np.inf))
            case Liquidity():
                volume = align(c.volume, self.assets, what=f"{c.name}.volume")
                if (volume < 0).any():
                    raise InputError(f"{c.name}: the volume is negative for {some(self.assets[volume < 0])}")
                room = volume * c.participation * c.days / c.nav
                if c.of == "trades":
                    self.add_trade_limit(c.name, room)
                else:
                    self.add_bounds(c.name, "weight", -room, room)
            case MaxHoldings() | MinPosition() | MinTrade() | RoundLots():
                integer_excess(c, self.canvas.assets, np.zeros(len(self.assets)), self.holdings)  # checks the labels
                self.integer.append(c)
                none = np.zeros(1)
                self.lines.append(Lines(c.name, (c.name,), "integer", "<=", np.array([len(self.integer) - 1]), none))

    def add_limit(self, name: str, measure: Expression, lower: float | None, upper: float | None) -> None:
        """Limits on a sum of terms. What is concave is lowered as its negative."""
        total = Shape(self.canvas.constant(0.0))
        flip = -1.0 if lower is not None else 1.0
        if lower is not None and upper is not None:  # linear throughout
            for coefficient, term in measure.parts:
                total = total + term.shape(self.canvas) * coefficient
            self.add_cap(name, measure, ">=", lower, total * -1.0, -lower)
            self.add_cap(name, measure, "<=", upper, total, upper)
            return
        for coefficient, term in measure.parts:
            sign = -1.0 if term.curvature == "concave" else 1.0
            total = total + term.shape(self.canvas) * (flip * sign * coefficient)
        limit = upper if upper is not None else lower
        assert limit is not None
        self.add_cap(name, measure, "<=" if upper is not None else ">=", limit, total, flip * limit)

    def add_cap(self, name: str, measure: Expression, sense: Sense, limit: float, shape: Shape, room: float) -> None:
        shape = shape + Shape(self.slack(name) * -1.0) if self.penalty is not None else shape
        price: Price = self.canvas.cap(shape, room)
        self.lines.append(
            Lines(name, (name,), price.kind, sense, np.array([price.index]), np.array([limit]), measure, price.scale)
        )

    def add_groups(self, c: GroupLimit) -> None:
        own = self.labels_of(c.labels, c.name)
        lower, upper = dict(c.lower or {}), dict(c.upper or {})
        wanted = list(dict.fromkeys([*lower, *upper]))
        unknown = [label for label in wanted if not (own == label).any()]
        if unknown:
            what = f"label in {c.name}" if len(unknown) == 1 else "label"
            raise unknown_names(what, unknown, pd.unique(own[pd.notna(own)]))
        benchmark = None if c.benchmark is None else align(c.benchmark, self.assets, what=f"{c.name}.benchmark")
        for label in wanted:
            member = (own == label).astype(np.float64)
            name = f"{c.name}[{label}]"
            if c.gross:
                from .measures import GrossExposure

                held = GrossExposure(self.assets[member > 0])
                first = len(self.lines)
                self.add_limit(name, held, None, upper[label])
                self.lines[first:] = [replace(group, constraint=c.name) for group in self.lines[first:]]
                continue
            centre = 0.0 if benchmark is None else float(member @ benchmark)
            low, high = lower.get(label, -np.inf) + centre, upper.get(label, np.inf) + centre
            self.add_row(c.name, [name], member[None, :], [low], [high], centre)

    def add_linear(self, c: LinearLimit) -> None:
        columns: dict[object, FloatArray] = {}
        twice: set[object] = set()
        if c.labels is not None:
            own = (
                c.labels if isinstance(c.labels, pd.DataFrame | pd.Series) else pd.Series(dict(c.labels), dtype=object)
            )
            frame = own if isinstance(own, pd.DataFrame) else own.to_frame()
            for classification in frame.columns:
                given = self.labels_of(frame[classification], c.name)
                for label in pd.unique(given[pd.notna(given)]):
                    if str(label) in columns:
                        twice.add(str(label))
                    columns[str(label)] = (given == label).astype(np.float64)
        assets = {str(asset): i for i, asset in enumerate(self.assets)}
        for text, line in zip(c.text, c.parsed, strict=True):
            unknown = [name for name in line.coefficients if name not in columns and name not in assets]
            if unknown:
                raise unknown_names(f"name in {c.name} ({text!r})", unknown, [*columns, *assets])
            twice |= columns.keys() & line.coefficients.keys() & assets.keys()
            ambiguous = [name for name in line.coefficients if name in twice]
            if ambiguous:
                raise InputError(f"{c.name}: {ambiguous[0]!r} in {text!r} has two meanings; rename one of the labels")
            row = np.zeros(len(self.assets))
            for name, value in line.coefficients.items():
                if name in columns:
                    row += value * columns[name]
                else:
                    row[assets[name]] += value
            name = c.name if len(c.parsed) == 1 else f"{c.name}[{text}]"
            self.add_row(c.name, [name], row[None, :], [line.lower], [line.upper])

    def add_factors(self, c: FactorExposure) -> None:
        lower, upper = dict(c.lower or {}), dict(c.upper or {})
        wanted = list(dict.fromkeys([*lower, *upper]))
        unknown = [factor for factor in wanted if factor not in c.exposures.columns]
        if unknown:
            raise unknown_names(f"factor in {c.name}", unknown, c.exposures.columns)
        benchmark = None if c.benchmark is None else align(c.benchmark, self.assets, what=f"{c.name}.benchmark")
        for factor in wanted:
            row = align(c.exposures[factor], self.assets, what=f"{c.name}.exposures[{factor!r}]")
            centre = 0.0 if benchmark is None else float(row @ benchmark)
            low, high = lower.get(factor, -np.inf) + centre, upper.get(factor, np.inf) + centre
            if low > high:
                raise InputError(f"{c.name}[{factor}]: lower {lower[factor]:g} is above upper {upper[factor]:g}")
            self.add_row(c.name, [f"{c.name}[{factor}]"], row[None, :], [low], [high], centre)

    # -- lines ---------------------------------------------------------------------------------------------------
    def add_row(
        self,
        constraint: str,
        names: Sequence[str],
        rows: FloatArray,
        lower: Sequence[float],
        upper: Sequence[float],
        centre: float = 0.0,
    ) -> None:
        index = []
        for row, low, high in zip(rows, lower, upper, strict=True):
            expression = Affine(row)
            if self.penalty is not None:
                for sign, side in ((1.0, low), (-1.0, high)):
                    expression = expression + self.slack(constraint) * sign if np.isfinite(side) else expression
            index.append(self.canvas.row(expression, low, high))
        places = np.array(index)
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
                self.lines.append(
                    Lines(constraint, chosen, "row", sense, places[present], limit[present], centre=centre)
                )

    def add_bounds(self, constraint: str, kind: LineKind, lower: FloatArray, upper: FloatArray) -> None:
        sides: tuple[tuple[Sense, FloatArray], ...] = ((">=", lower), ("<=", upper))
        for sense, limit in sides:
            present = np.flatnonzero(np.isfinite(limit))
            if not len(present):
                continue
            names = tuple(f"{constraint}[{asset}]" for asset in self.assets.take(present).tolist())
            self.lines.append(Lines(constraint, names, kind, sense, present, limit[present]))
        if self.penalty is None:
            self.canvas.lower = np.maximum(self.canvas.lower, lower)
            self.canvas.upper = np.minimum(self.canvas.upper, upper)
        else:
            self.soft_bounds(constraint, lower, upper)

    def add_trade_limit(self, constraint: str, limit: FloatArray) -> None:
        assert self.holdings is not None
        present = np.flatnonzero(np.isfinite(limit))
        if len(present):
            names = tuple(f"{constraint}[{asset}]" for asset in self.assets.take(present).tolist())
            self.lines.append(Lines(constraint, names, "trade", "<=", present, limit[present]))
        if self.penalty is None:
            self.canvas.lower = np.maximum(self.canvas.lower, self.holdings - limit)
            self.canvas.upper = np.minimum(self.canvas.upper, self.holdings + limit)
        else:
            self.soft_bounds(constraint, self.holdings - limit, self.holdings + limit)

    def soft_bounds(self, constraint: str, lower: FloatArray, upper: FloatArray) -> None:
        """Bounds as rows with a slack each; lines keep looking at the assets."""
        eye = np.eye(len(self.assets))
        for i in np.flatnonzero(np.isfinite(lower)):
            self.canvas.row(Affine(eye[i]) + self.slack(constraint), float(lower[i]), np.inf)
        for i in np.flatnonzero(np.isfinite(upper)):
            self.canvas.row(Affine(eye[i]) + self.slack(constraint) * -1.0, -np.inf, float(upper[i]))

    def slack(self, constraint: str) -> Affine:
        """A variable for a violation, charged for."""
        assert self.penalty is not None
        slack = self.canvas.variable(f"violation of {constraint}", lower=0.0)
        self.canvas.minimise(Shape(slack * self.penalty))
        return slack

    # -- helpers -------------------------------------------------------------------------------------------------
    def per_asset(self, value: PerAsset, what: str, *, infinite: bool = False) -> FloatArray:
        return per_asset(value, self.assets, what=what, infinite=infinite)

    def chosen(self, names: object, what: str) -> npt.NDArray[np.bool_]:
        listed = list(names)  # type: ignore[call-overload]
        unknown = [name for name in listed if name not in self.assets]
        if unknown:
            raise unknown_names(f"asset in {what}", unknown, self.assets)
        return self.assets.isin(listed)

    def labels_of(self, labels: object, what: str) -> npt.NDArray[np.object_]:
        series = labels if isinstance(labels, pd.Series) else pd.Series(dict(labels))  # type: ignore[call-overload]
        if series.index.has_duplicates:
            raise InputError(f"{what}: labels names an asset twice: {some(series.index[series.index.duplicated()])}")
        own = series if series.index is self.assets else series.reindex(self.assets)
        missing = self.assets[own.isna().to_numpy()]
        if len(missing):
            stray = get_close_matches(str(missing[0]), series.index.difference(self.assets).map(str), 1)
            hint = f" (is {stray[0]!r} meant?)" if stray else ""
            raise InputError(
                f"{what}: labels says nothing about {some(missing)}{hint}; give every asset a label, 'none' for example"
            )
        return own.to_numpy(dtype=object)  # comparing strings of pandas is slow

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


def _renumbered(group: Lines, numbers: dict[str, dict[int, int]]) -> Lines:
    """Lines that look at blocks, by the numbers that these have in the program."""
    if group.kind not in numbers:
        return group
    return replace(group, index=np.array([numbers[group.kind].get(int(b), 0) for b in group.index]))


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

    lowered = build.canvas.program()
    program = lowered.program
    check_units(scenarios, program, constraints, held)
    box_lower, box_upper = implied_box(program)
    program = exchange(program, start=initial_weights(program, box_lower, box_upper, scenarios.n_assets))
    return Compiled(
        program=program,
        source=lowered.source,
        scenarios=scenarios,
        own_rows=lowered.own_rows,
        first_row=lowered.first_row,
        constant=lowered.constant,
        terms=tuple(build.terms),
        lines=tuple(_renumbered(group, lowered.numbers) for group in build.lines),
        levels={beta: lowered.numbers["cvar"].get(block, -1) for beta, block in build.canvas.levels.items()},
        curves=tuple(build.canvas.curves),
        integer=tuple(build.integer),
        mean=build.canvas.mean,
        holdings=held,
        box_lower=box_lower,
        box_upper=box_upper,
    )

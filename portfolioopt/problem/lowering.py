r"""From convex functions of the weights to the canonical program.

What a measure lowers itself to is a :class:`Shape`: an affine function plus blocks of the program. Weighing a shape in
the objective and capping it are then the same for all measures. A cap on a single block is the block's own cap;
anything else goes by auxiliary variables u:

.. math:: \sum_k a_k H_k(w) + g'w \le \kappa \iff H_k(w) - u_k \le 0,\; \sum_k a_k u_k + g'w \le \kappa.

A measure that is not piecewise linear is a :class:`Curve`: it stands for an auxiliary variable that must not lie below
it, which a solver makes true by tangents or otherwise.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from portfolioopt.errors import InputError
from portfolioopt.scenarios import InMemory, ReturnsSource, ScenarioSet, widened
from portfolioopt_kernels import HingeProgram

if TYPE_CHECKING:
    from .terms import Term

FloatArray: TypeAlias = npt.NDArray[np.float64]
PriceKind: TypeAlias = Literal["cvar", "l1", "row"]


@dataclass(frozen=True)
class Affine:
    """``weights @ w + sum of aux[j] * u[j] + constant``."""

    weights: FloatArray  # (N,)
    aux: dict[int, float] = field(default_factory=dict)
    constant: float = 0.0

    def __add__(self, other: Affine) -> Affine:
        aux = dict(self.aux)
        for column, value in other.aux.items():
            aux[column] = aux.get(column, 0.0) + value
        return Affine(self.weights + other.weights, aux, self.constant + other.constant)

    def __mul__(self, factor: float) -> Affine:
        aux = {column: factor * value for column, value in self.aux.items()}
        return Affine(factor * self.weights, aux, factor * self.constant)

    @property
    def moves(self) -> bool:
        """Whether it depends on anything."""
        return bool(self.weights.any() or any(self.aux.values()))


@dataclass(frozen=True)
class Shape:
    """A convex function: an affine one plus non-negative multiples of blocks, by their number."""

    affine: Affine
    cvar: dict[int, float] = field(default_factory=dict)
    l1: dict[int, float] = field(default_factory=dict)

    def __add__(self, other: Shape) -> Shape:
        return Shape(self.affine + other.affine, _sum(self.cvar, other.cvar), _sum(self.l1, other.l1))

    def __mul__(self, factor: float) -> Shape:
        return Shape(
            self.affine * factor,
            {block: factor * value for block, value in self.cvar.items()},
            {block: factor * value for block, value in self.l1.items()},
        )


def _sum(one: dict[int, float], other: dict[int, float]) -> dict[int, float]:
    total = dict(one)
    for block, value in other.items():
        total[block] = total.get(block, 0.0) + value
    return total


@dataclass(frozen=True)
class Price:
    """Where the multiplier of a cap is found, and what it is per unit of the capped measure."""

    kind: PriceKind
    index: int
    scale: float = 1.0


@dataclass
class _Aux:
    label: str
    lower: float
    upper: float


@dataclass
class _Rows:
    """Scenarios that blocks look at: some returns, an offset of the loss per scenario, and densities of probability."""

    returns: FloatArray | None  # (S, N); None for the problem's own, which may not be in memory
    count: int
    offset: FloatArray | None  # (S,) added to the loss
    pinned: bool  # whether t is to be zero: one more row, of zeros


@dataclass
class _CVaR:
    rows: int
    density: FloatArray  # (S_k,)
    level: float
    pinned: bool
    linear: Affine
    weight: float = 0.0
    cap: float = np.inf


@dataclass
class _L1:
    rate: FloatArray
    reference: FloatArray
    linear: Affine
    weight: float = 0.0
    cap: float = np.inf


@dataclass(frozen=True)
class Curve:
    """A convex measure that the program holds by an auxiliary variable only."""

    measure: Term
    column: int  # of the program
    scale: float  # what the variable is counted in, a typical value of the measure
    floor: float  # below which the variable never lies


@dataclass(frozen=True)
class Lowered:
    """The program, and where its scenarios come from."""

    program: HingeProgram
    source: ReturnsSource
    own_rows: bool
    """Whether the scenarios of the program are those of the problem."""
    first_row: int
    """Where those of the problem begin, if they are among them."""
    constant: float
    """What the minimised objective adds to that of the program."""
    numbers: dict[str, dict[int, int]]
    """New numbers of the "cvar" and "l1" blocks that are weighed or capped; the others are left out."""


class Canvas:
    """Collects columns, blocks and rows while terms and constraints are lowered."""

    def __init__(self, scenarios: ScenarioSet, holdings: FloatArray | None) -> None:
        n = scenarios.n_assets
        self.n = n
        self.scenarios = scenarios
        self.assets = scenarios.assets
        self.holdings = holdings
        self.mean = scenarios.mean_array()
        self.linear = Affine(np.zeros(n))
        self.lower = np.full(n, -np.inf)
        self.upper = np.full(n, np.inf)
        self.curves: list[Curve] = []
        self.levels: dict[float, int] = {}  # CVaR of the problem's own scenarios, by level
        self._aux: list[_Aux] = []
        self._rows: list[_Rows] = []
        self._rows_at: dict[Hashable, int] = {}
        self._cvar: list[_CVaR] = []
        self._cvar_at: dict[Hashable, int] = {}
        self._l1: list[_L1] = []
        self._l1_at: dict[Hashable, int] = {}
        self._curve_at: dict[Hashable, int] = {}
        self._equations: list[tuple[Affine, float, float]] = []
        self._one: int | None = None
        self._kept: list[object] = []  # what keys are identities of must not be collected

    # -- columns and rows ----------------------------------------------------------------------------------------
    def constant(self, value: float) -> Affine:
        """A number."""
        return Affine(np.zeros(self.n), {}, value)

    def variable(self, label: str, lower: float = -np.inf, upper: float = np.inf) -> Affine:
        """A new auxiliary variable."""
        self._aux.append(_Aux(label, lower, upper))
        return Affine(np.zeros(self.n), {len(self._aux) - 1: 1.0})

    def row(self, expression: Affine, lower: float, upper: float) -> int:
        """``lower <= expression <= upper``; returns the number of the row."""
        self._equations.append((expression, lower - expression.constant, upper - expression.constant))
        return len(self._equations) - 1

    # -- shapes --------------------------------------------------------------------------------------------------
    def affine(self, expression: Affine) -> Shape:
        """An affine function as a shape."""
        return Shape(expression)

    def tail_mean(self, beta: float, scenarios: ScenarioSet | None, active: FloatArray | None = None) -> Shape:
        """CVaR of the loss, over other scenarios, or of the return in excess of weights `active`."""
        own = scenarios is None or scenarios is self.scenarios
        rows, probabilities = self._scenario_rows(scenarios, active)
        number = self._block(
            ("tail", rows, id(scenarios or self.scenarios), beta), rows, probabilities / (1.0 - beta), 1.0
        )
        if own and active is None:
            self.levels.setdefault(beta, number)
        return Shape(self.constant(0.0), {number: 1.0})

    def worst(self, scenarios: ScenarioSet | None) -> Shape:
        """Largest loss of all scenarios that have a probability."""
        rows, probabilities = self._scenario_rows(scenarios, None)
        # hinges that weigh at least one each lift t to the largest loss
        density = np.where(probabilities > 0, 2.0, 0.0)
        number = self._block(("worst", rows, id(scenarios or self.scenarios)), rows, density, 1.0)
        return Shape(self.constant(0.0), {number: 1.0})

    def shortfall(self, scenarios: ScenarioSet | None, target: float | None) -> Shape:
        """``E (target - r'w)_+``, and ``E (mu'w - r'w)_+`` where target is None."""
        chosen = self.chosen(scenarios)
        matrix = self._in_memory(chosen)
        p = chosen.probabilities
        if target is None:
            key: Hashable = ("demeaned", id(chosen))
            rows = self._rows_number(key, _Rows(matrix - p @ matrix, len(matrix), None, True), chosen)
        else:
            key = ("target", id(chosen), target)
            rows = self._rows_number(key, _Rows(matrix, len(matrix), np.full(len(matrix), target), True), chosen)
        # one more scenario without any loss, heavier than all others together, keeps t at zero
        number = self._block(("shortfall", rows, id(chosen)), rows, p, 1.0 + float(p.sum()), pinned=True)
        return Shape(self.constant(0.0), {number: 1.0})

    def distance(self, rate: FloatArray, reference: FloatArray) -> Shape:
        """``sum_i rate_i |w_i - reference_i|``."""
        key = (rate.tobytes(), reference.tobytes())
        if key not in self._l1_at:
            self._l1.append(_L1(rate, reference, self.constant(0.0)))
            self._l1_at[key] = len(self._l1) - 1
        return Shape(self.constant(0.0), {}, {self._l1_at[key]: 1.0})

    def largest(self, shapes: list[Shape], label: str) -> Shape:
        """The largest of several shapes."""
        top = self.variable(label)
        for shape in shapes:
            self.cap(shape + Shape(top * -1.0), 0.0)
        return Shape(top)

    def largest_weight(self) -> Affine:
        """``max_i |w_i|``."""
        top = self.variable("largest weight", lower=0.0)
        for weights in np.eye(self.n):
            self.row(Affine(weights) + top * -1.0, -np.inf, 0.0)
            self.row(Affine(-weights) + top * -1.0, -np.inf, 0.0)
        return top

    def curve(self, measure: Term, key: Hashable, scale: float, floor: float) -> Shape:
        """A measure that is not piecewise linear, and a typical value of it."""
        if key not in self._curve_at:
            scale = scale if scale > 0 else 1.0
            top = self.variable(repr(measure), lower=floor / scale)
            self.curves.append(Curve(measure, self.n + next(iter(top.aux)), scale, floor / scale))
            self._curve_at[key] = len(self.curves) - 1
            self._kept.append(measure)
        curve = self.curves[self._curve_at[key]]
        return Shape(Affine(np.zeros(self.n), {curve.column - self.n: curve.scale}))

    # -- what is done with them ----------------------------------------------------------------------------------
    def minimise(self, shape: Shape) -> None:
        """Add a shape to the minimised objective."""
        self.linear = self.linear + shape.affine
        for block, value in shape.cvar.items():
            self._cvar[block].weight += value
        for block, value in shape.l1.items():
            self._l1[block].weight += value

    def cap(self, shape: Shape, limit: float) -> Price:
        """``shape <= limit``; says where its multiplier will be."""
        blocks = [("cvar", k, a) for k, a in shape.cvar.items() if a > 0]
        blocks += [("l1", k, a) for k, a in shape.l1.items() if a > 0]
        room = limit - shape.affine.constant
        if not blocks:
            return Price("row", self.row(shape.affine, -np.inf, limit))
        if len(blocks) == 1:
            (kind, block, scale), *_ = blocks
            return self._cap_block(
                kind, block, Affine(shape.affine.weights, shape.affine.aux) * (1.0 / scale), room, scale
            )
        total = shape.affine
        for kind, block, scale in blocks:
            part = self.variable("part")
            self._cap_block(kind, block, part * -1.0, 0.0, 1.0)
            total = total + part * scale
        return Price("row", self.row(total, -np.inf, limit))

    def _cap_block(self, kind: str, block: int, linear: Affine, room: float, scale: float) -> Price:
        one = self._cvar[block] if kind == "cvar" else self._l1[block]
        blocks: list[_CVaR] | list[_L1] = self._cvar if kind == "cvar" else self._l1
        if kind == "l1" and room == 0.0 and not linear.moves:
            # without any room an interior does not exist; fixed weights say the same
            assert isinstance(one, _L1)
            held = one.rate > 0
            self.lower = np.where(held, np.maximum(self.lower, one.reference), self.lower)
            self.upper = np.where(held, np.minimum(self.upper, one.reference), self.upper)
            return Price("l1", block, 0.0)
        if linear.moves or np.isfinite(one.cap):
            # a cap of its own: the block may carry another one, and be weighed in the objective
            if isinstance(one, _CVaR):
                self._cvar.append(_CVaR(one.rows, one.density, one.level, one.pinned, linear))
            else:
                self._l1.append(_L1(one.rate, one.reference, linear))
            block = len(blocks) - 1
            one = self._cvar[block] if kind == "cvar" else self._l1[block]
        one.cap = room / scale
        return Price("cvar" if kind == "cvar" else "l1", block, 1.0 / scale)

    # -- scenarios -----------------------------------------------------------------------------------------------
    def chosen(self, scenarios: ScenarioSet | None) -> ScenarioSet:
        """The scenarios of a measure: its own, if they are over the same assets, or the problem's."""
        chosen = self._over_same_assets(scenarios)
        if chosen.form is not None:
            raise InputError(
                "this problem knows mean and covariance alone, and one of its measures looks at single scenarios; use "
                "Variance, Volatility or TrackingError, or a ScenarioSet of returns"
            )
        return chosen

    def moments(self, scenarios: ScenarioSet | None) -> ScenarioSet:
        """:meth:`chosen` for measures that mean and covariance are enough for."""
        return self._over_same_assets(scenarios)

    def _over_same_assets(self, scenarios: ScenarioSet | None) -> ScenarioSet:
        if scenarios is None:
            return self.scenarios
        if not scenarios.assets.equals(self.scenarios.assets):
            raise InputError(
                f"the scenarios of a measure are over other assets than the problem's ({len(scenarios.assets)} and "
                f"{self.n}); give it a set over the same assets in the same order"
            )
        return scenarios

    def _scenario_rows(self, scenarios: ScenarioSet | None, active: FloatArray | None) -> tuple[int, FloatArray]:
        chosen = self.chosen(scenarios)
        same = chosen.source is self.scenarios.source
        if active is None:
            key: Hashable = ("plain", id(chosen.source))
            matrix = None if same else self._in_memory(chosen)
            made = _Rows(matrix, chosen.n_scenarios, None, False)
        else:
            matrix = self._in_memory(chosen)
            key = ("active", id(chosen.source), active.tobytes())
            made = _Rows(matrix, len(matrix), matrix @ active, False)
        self._kept.append(chosen)
        return self._rows_number(key, made, chosen), chosen.probabilities

    def _rows_number(self, key: Hashable, rows: _Rows, owner: object) -> int:
        if key not in self._rows_at:
            self._rows.append(rows)
            self._rows_at[key] = len(self._rows) - 1
            self._kept.append(owner)
        return self._rows_at[key]

    def _in_memory(self, scenarios: ScenarioSet) -> FloatArray:
        matrix = scenarios.source.matrix
        if matrix is None:
            raise InputError(
                "this measure needs its scenarios in memory, and they are streamed; use CVaR, or a smaller set"
            )
        return np.asarray(matrix, dtype=np.float64)

    def _block(self, key: Hashable, rows: int, density: FloatArray, level: float, *, pinned: bool = False) -> int:
        if key not in self._cvar_at:
            self._cvar.append(_CVaR(rows, density, level, pinned, self.constant(0.0)))
            self._cvar_at[key] = len(self._cvar) - 1
        return self._cvar_at[key]

    # -- the program ---------------------------------------------------------------------------------------------
    def program(self) -> Lowered:
        """All of it as one program. Blocks without weight and cap, of which copies are capped, are left out."""
        live = {"cvar": _live(self._cvar), "l1": _live(self._l1)}
        cvar = [self._cvar[b] for b in live["cvar"]]
        l1 = [self._l1[b] for b in live["l1"]]
        offsets = any(rows.offset is not None for rows in self._rows)
        if offsets:
            one = self.variable("one", 1.0, 1.0)
            self._one = next(iter(one.aux))
        n, extra = self.n, len(self._aux)
        source, starts, own = self._source(extra)
        count = source.shape[0]

        def wide(expression: Affine) -> FloatArray:
            row = np.zeros(n + extra)
            row[:n] = expression.weights
            for column, value in expression.aux.items():
                row[n + column] += value
            return row

        density = np.zeros((len(cvar), count))
        for b, block in enumerate(cvar):
            rows = self._rows[block.rows]
            first = starts[block.rows]
            density[b, first : first + rows.count] = block.density
            if rows.pinned:
                density[b, first + rows.count] = 2.0 * block.level
        none = np.zeros(extra)
        program = HingeProgram(
            returns=program_returns(source),
            linear=wide(self.linear),
            cvar_density=density,
            cvar_level=np.array([b.level for b in cvar]),
            cvar_linear=np.array([wide(b.linear) for b in cvar]).reshape(-1, n + extra),
            cvar_weight=np.array([b.weight for b in cvar]),
            cvar_cap=np.array([b.cap for b in cvar]),
            l1_rate=np.array([np.append(b.rate, none) for b in l1]).reshape(-1, n + extra),
            l1_linear=np.array([wide(b.linear) for b in l1]).reshape(-1, n + extra),
            l1_reference=np.array([np.append(b.reference, none) for b in l1]).reshape(-1, n + extra),
            l1_weight=np.array([b.weight for b in l1]),
            l1_cap=np.array([b.cap for b in l1]),
            rows=np.array([wide(e) for e, _, _ in self._equations]).reshape(-1, n + extra),
            row_lower=np.array([low for _, low, _ in self._equations]),
            row_upper=np.array([high for _, _, high in self._equations]),
            lower=np.append(self.lower, [a.lower for a in self._aux]),
            upper=np.append(self.upper, [a.upper for a in self._aux]),
            start=np.zeros(n + extra),
        )
        mine = [start for start, rows in zip(starts, self._rows, strict=False) if rows.returns is None]
        return Lowered(program, source, own, mine[0] if mine else 0, self.linear.constant, live)

    def _source(self, extra: int) -> tuple[ReturnsSource, list[int], bool]:
        """Scenarios of all blocks, the first row of each part, and whether they are the problem's own."""
        base = self.scenarios.source
        if not self._rows or (len(self._rows) == 1 and self._rows[0].returns is None):
            return widened(base, extra), [0], True
        starts, parts = [], []
        first = 0
        for rows in self._rows:
            starts.append(first)
            returns = self._in_memory(self.scenarios) if rows.returns is None else rows.returns
            part = np.zeros((rows.count + rows.pinned, self.n + extra))
            part[: rows.count, : self.n] = returns
            if rows.offset is not None:
                assert self._one is not None
                part[: rows.count, self.n + self._one] = -rows.offset
            parts.append(part)
            first += len(part)
        return InMemory(np.concatenate(parts)), starts, False


def _live(blocks: list[_CVaR] | list[_L1]) -> dict[int, int]:
    """New numbers of the blocks that are weighed or capped."""
    used = [b for b, block in enumerate(blocks) if block.weight > 0 or np.isfinite(block.cap)]
    return {b: number for number, b in enumerate(used)}


def program_returns(source: ReturnsSource) -> npt.NDArray[np.floating]:
    """The matrix where it is in memory; elsewhere its shape alone, NaN throughout and without memory of its own."""
    return np.broadcast_to(np.nan, source.shape) if source.matrix is None else source.matrix

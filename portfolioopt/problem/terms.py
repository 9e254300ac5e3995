"""What objectives and limits are made of. The objective is maximised; terms add, subtract and scale.

``ExpectedReturn() - 3.0 * CVaR(beta=0.95) - ProportionalCost(bps=5)``
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from numbers import Real
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.labels import PerAsset, align, per_asset
from portfolioopt.scenarios import ScenarioSet, Tail, tail

from .lowering import Canvas, Shape

if TYPE_CHECKING:
    from .constraints import Limit

FloatArray: TypeAlias = npt.NDArray[np.float64]
Curvature: TypeAlias = Literal["linear", "convex", "concave"]


class Expression:
    """Arithmetic shared by terms and sums of terms."""

    @property
    def parts(self) -> tuple[tuple[float, Term], ...]:
        """Coefficients and terms, in the order they were written."""
        raise TypeError(f"{type(self).__name__} is not an objective")

    def __add__(self, other: Expression) -> Objective:
        if not isinstance(other, Expression):
            return NotImplemented
        return Objective(self.parts + other.parts)

    def __sub__(self, other: Expression) -> Objective:
        if not isinstance(other, Expression):
            return NotImplemented
        return self + (-1.0) * other

    def __mul__(self, factor: float) -> Objective:
        if not isinstance(factor, Real):
            return NotImplemented
        if not np.isfinite(float(factor)):
            raise InputError(f"a term cannot be scaled by {factor}")
        return Objective(tuple((float(factor) * coefficient, term) for coefficient, term in self.parts))

    __rmul__ = __mul__

    def __truediv__(self, divisor: float | Expression) -> Objective | Ratio:
        if isinstance(divisor, Expression):
            return Ratio(self, divisor)
        return self * (1.0 / divisor)

    def __neg__(self) -> Objective:
        return self * -1.0

    def __le__(self, limit: float) -> Limit:
        from .constraints import Limit

        return NotImplemented if isinstance(limit, Expression) else Limit(self, upper=limit)

    def __ge__(self, limit: float) -> Limit:
        from .constraints import Limit

        return NotImplemented if isinstance(limit, Expression) else Limit(self, lower=limit)

    def __str__(self) -> str:
        pieces = [f"{'-' if c < 0 else '+'} {'' if abs(c) == 1 else f'{abs(c):g} '}{term!r}" for c, term in self.parts]
        return " ".join(pieces).removeprefix("+ ")


class Objective(Expression):
    """A weighted sum of terms, maximised. Made by arithmetic on terms."""

    __slots__ = ("_parts",)

    def __init__(self, parts: tuple[tuple[float, Term], ...]) -> None:
        self._parts = parts

    @property
    def parts(self) -> tuple[tuple[float, Term], ...]:
        """Coefficients and terms, in the order they were written."""
        return self._parts

    def __repr__(self) -> str:
        return f"Objective({self})"


class Ratio:
    """A reward over a risk, maximised: ``ExpectedReturn() / CVaR(0.95)``. Made by dividing terms."""

    __slots__ = ("denominator", "numerator")

    def __init__(self, numerator: Expression, denominator: Expression) -> None:
        self.numerator = Objective(numerator.parts)
        self.denominator = Objective(denominator.parts)

    @property
    def parts(self) -> tuple[tuple[float, Term], ...]:
        """Those of the numerator less the denominator."""
        return (self.numerator - self.denominator).parts

    def __str__(self) -> str:
        return f"({self.numerator}) / ({self.denominator})"

    def __repr__(self) -> str:
        return f"Ratio({self})"


class View:
    """Weights, and what terms need to know to put a value on them; losses are computed once per scenario set."""

    def __init__(
        self, scenarios: ScenarioSet, mean: FloatArray, holdings: FloatArray | None, weights: FloatArray
    ) -> None:
        self.scenarios = scenarios
        self.mean = mean
        self.holdings = holdings
        self.weights = weights
        self._losses: dict[int, FloatArray] = {}
        self._tails: dict[tuple[int, float], Tail] = {}

    def losses(self, scenarios: ScenarioSet | None = None) -> FloatArray:
        """Loss in every scenario (S,) of a set, the problem's where None."""
        chosen = self.scenarios if scenarios is None else scenarios
        key = id(chosen.source)
        if key not in self._losses:
            self._losses[key] = chosen.source.losses(self.weights)
        return self._losses[key]

    def tail(self, beta: float, scenarios: ScenarioSet | None = None) -> Tail:
        """Value-at-risk and CVaR at a level over a set, the problem's where None."""
        chosen = self.scenarios if scenarios is None else scenarios
        key = (id(chosen), beta)
        if key not in self._tails:
            self._tails[key] = tail(self.losses(scenarios), chosen.probabilities, beta)
        return self._tails[key]

    def trades(self) -> FloatArray:
        """Weights minus holdings (N,)."""
        assert self.holdings is not None
        return self.weights - self.holdings


class Term(Expression):
    """A measure of a portfolio: a reward, a risk, a cost or an exposure."""

    curvature: ClassVar[Curvature] = "convex"
    """Convex measures may only be subtracted and limited from above, concave ones the other way round."""
    trades: ClassVar[bool] = False
    """Whether it looks at trades from the holdings."""

    @property
    def parts(self) -> tuple[tuple[float, Term], ...]:
        """The term itself, once."""
        return ((1.0, self),)

    @property
    def penalty(self) -> bool:
        """Whether it is a risk or cost, so that its weight in a sweep is how much of it is subtracted."""
        return self.curvature == "convex"

    @abstractmethod
    def shape(self, canvas: Canvas) -> Shape:
        """The measure as the program takes it; where it is concave, its negative.

        Raises InputError for labels and sizes that do not match the problem's.
        """

    @abstractmethod
    def value(self, view: View) -> float:
        """Value at the weights of `view`, computed from its definition."""

    def size(self, view: View) -> float:
        """What counts as a typical value, for violations of limits that are zero."""
        return view.scenarios.source.root_mean_square


PerAssetOrNone: TypeAlias = PerAsset | None
Labelled: TypeAlias = pd.Series | Mapping[str, float]


def labelled(value: Labelled, canvas: Canvas, what: str) -> FloatArray:
    """Labelled numbers in the order of the assets (N,)."""
    return align(value, canvas.assets, what=what)


def spread(value: PerAsset, canvas: Canvas, what: str) -> FloatArray:
    """One number for all assets or one per asset (N,)."""
    return per_asset(value, canvas.assets, what=what)


def ordered(owner: Term, field: str, assets: pd.Index) -> FloatArray:
    """A field of a term, checked before, as an array in the order of the assets (N,); kept for the next time."""
    kept = vars(owner).setdefault("_ordered", {})
    if field not in kept or kept[field][0] is not assets:
        value = getattr(owner, field)
        if isinstance(value, pd.Series | Mapping):
            series = value if isinstance(value, pd.Series) else pd.Series(dict(value))
            numbers = series.reindex(assets).to_numpy(dtype=np.float64)
        else:
            numbers = np.full(len(assets), float(value))
        kept[field] = assets, numbers
    return kept[field][1]

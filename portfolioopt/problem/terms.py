"""Objective terms. The objective is maximised; terms add, subtract and scale.

``ExpectedReturn() - 3.0 * CVaR(beta=0.95) - ProportionalCost(bps=5)``
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import ClassVar

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.labels import PerAsset
from portfolioopt.scenarios.tail import check_beta


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

    def __truediv__(self, divisor: float) -> Objective:
        return self * (1.0 / divisor)

    def __neg__(self) -> Objective:
        return self * -1.0

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


class Term(Expression):
    """One term of the objective."""

    penalty: ClassVar[bool] = True
    """True for risks and costs, which may only be subtracted: adding one is not a concave problem."""

    @property
    def parts(self) -> tuple[tuple[float, Term], ...]:
        """The term itself, once."""
        return ((1.0, self),)


@dataclass(frozen=True, eq=False)
class ExpectedReturn(Term):
    r"""Expected portfolio return :math:`\mu' w` per scenario horizon, as a fraction of NAV, before costs.

    Parameters
    ----------
    mean
        Expected return per asset, as fractions per scenario horizon; the scenario mean where None.
    """

    mean: pd.Series | Mapping[str, float] | None = None
    penalty: ClassVar[bool] = False

    def __repr__(self) -> str:
        return "ExpectedReturn()" if self.mean is None else "ExpectedReturn(mean=...)"


@dataclass(frozen=True)
class CVaR(Term):
    r"""Conditional value-at-risk of the loss :math:`-R w` (Rockafellar & Uryasev, 2000), as a fraction of NAV.

    The mean of the worst ``1 - beta`` of probability, fractional scenarios included.

    Parameters
    ----------
    beta
        Confidence level in (0, 1); 0.95 averages the worst 5 %.
    """

    beta: float = 0.95

    def __post_init__(self) -> None:
        object.__setattr__(self, "beta", check_beta(self.beta))

    def __repr__(self) -> str:
        return f"CVaR(beta={self.beta:g})"


@dataclass(frozen=True, eq=False)
class ProportionalCost(Term):
    r"""Cost of trading from the holdings :math:`h`: :math:`\sum_i c_i |w_i - h_i|`, as a fraction of NAV.

    Charged once per rebalance. It is subtracted from a return per scenario horizon: where the portfolio is held for
    several horizons, scale it by the fraction of the holding time that one scenario spans.

    Parameters
    ----------
    bps
        Cost per amount traded, in basis points (5 means 0.05 %): one number, or one per asset.
    """

    bps: PerAsset = 0.0

    def __post_init__(self) -> None:
        try:
            values = np.asarray(list(self.bps.values()) if isinstance(self.bps, Mapping) else self.bps, dtype=float)
        except (TypeError, ValueError) as error:
            raise InputError(f"bps (basis points) must be a number, or numbers by asset, was {self.bps!r}") from error
        if not np.isfinite(values).all() or (values < 0).any():
            raise InputError(f"the cost in basis points (bps) must be finite and not negative, was {self.bps!r}")
        if (values > 5000).any():
            raise InputError(
                f"a cost of {values.max():g} basis points is {values.max() / 1e4:.0%} of the amount traded; bps counts "
                "hundredths of a percent"
            )

    def __repr__(self) -> str:
        return f"ProportionalCost(bps={self.bps:g})" if isinstance(self.bps, Real) else "ProportionalCost(bps=...)"

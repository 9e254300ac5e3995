r"""Functions of the scenarios that views are linear in, each made once for all the sets of views that use it.

A row of the dual is a combination of these. With prior means :math:`m`, deviations :math:`x = r - m`, and held means
:math:`m + \delta`,

.. math:: (r_a - m_a - \delta_a)(r_b - m_b - \delta_b) = x_a x_b - \delta_b x_a - \delta_a x_b + \delta_a \delta_b ,

so that volatilities and correlations around any means need no more than deviations and their products.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..scenario_set import ScenarioSet
from .views import Key

FloatArray = npt.NDArray[np.float64]
_ROWS = 1024  # scenarios that are turned at a time, so that both sides of the copy stay in cache


class Deviation(NamedTuple):
    """The return of a combination less its prior mean."""

    key: Key


class Product(NamedTuple):
    """Product of the deviations of two combinations from their prior means."""

    a: Key
    b: Key


class Beyond(NamedTuple):
    """1 where the loss of a combination is at least `value`, 0 elsewhere."""

    key: Key
    value: float


Function: TypeAlias = Deviation | Product | Beyond


class Moments(NamedTuple):
    """Of the return of a combination under the prior."""

    low: float
    high: float
    mean: float
    central: FloatArray
    """Central moments of order 0 to 4 (5,)."""

    @property
    def variance(self) -> float:
        """The central moment of order 2."""
        return float(self.central[2])


class Functions:
    """The scenarios that have probability, and functions of them."""

    def __init__(self, scenarios: ScenarioSet) -> None:
        prior = scenarios.probabilities
        self.assets = scenarios.assets
        self.count = len(prior)
        """Scenarios, with probability or not."""
        self.live = np.flatnonzero(prior > 0)
        """Positions of the scenarios with probability (S,)."""
        self.q: FloatArray = prior[self.live]
        """Their probabilities (S,)."""
        self._matrix = scenarios.matrix
        self._returns: dict[Key, FloatArray] = {}
        self._moments: dict[Key, Moments] = {}

    def load(self, keys: Iterable[Key]) -> None:
        """Get the returns of combinations in one pass over the scenarios."""
        fresh = [key for key in dict.fromkeys(keys) if key not in self._returns]
        if not fresh:
            return
        names = list(dict.fromkeys(asset for key in fresh for asset, _ in key))
        columns = self.assets.get_indexer(pd.Index(names))
        turned = np.empty((len(names), len(self.live)))
        every = len(self.live) == self.count
        for first in range(0, len(self.live), _ROWS):
            part = slice(first, first + _ROWS)
            turned[:, part] = self._matrix[part if every else self.live[part]].T[columns]
        place = {name: i for i, name in enumerate(names)}
        for key in fresh:
            if len(key) == 1 and key[0][1] == 1.0:
                self._returns[key] = turned[place[key[0][0]]]
            elif key:
                self._returns[key] = np.array([c for _, c in key]) @ turned[[place[name] for name, _ in key]]
            else:
                self._returns[key] = np.zeros(len(self.live))

    def returns(self, key: Key) -> FloatArray:
        """Returns of a combination (S,)."""
        self.load([key])
        return self._returns[key]

    def moments(self, key: Key) -> Moments:
        """Range and moments of a combination."""
        if key not in self._moments:
            r = self.returns(key)
            low, high = float(r.min()), float(r.max())
            mean = low if low == high else float(self.q @ r)
            x = r - mean
            square = x * x
            weighted = self.q * square
            central = np.array([1.0, 0.0, weighted.sum(), weighted @ x, weighted @ square])
            self._moments[key] = Moments(low, high, mean, central)
        return self._moments[key]

    def values(self, function: Function, out: FloatArray | None = None) -> FloatArray:
        """A function of the scenarios (S,)."""
        out = np.empty(len(self.q)) if out is None else out
        match function:
            case Deviation(key):
                np.subtract(self.returns(key), self.moments(key).mean, out=out)
            case Product(a, b):
                np.subtract(self.returns(a), self.moments(a).mean, out=out)
                if a == b:
                    np.square(out, out=out)
                else:
                    out *= self.returns(b) - self.moments(b).mean
            case Beyond(key, value):
                out[:] = -self.returns(key) >= value
        return out

    def stacked(self, functions: Sequence[Function], room: int = 0) -> FloatArray:
        """Functions as rows (k + room, S); the last `room` rows are to be filled."""
        rows = np.empty((len(functions) + room, len(self.q)))
        for row, function in zip(rows, functions, strict=False):
            self.values(function, row)
        return rows

"""One set of views as rows of the dual: what is held, how rows are scaled, what is out of reach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NoReturn

import numpy as np

from portfolioopt.errors import InputError

from ..tail import check_beta
from .dual import FloatArray, Rows, minima, posterior
from .functions import Beyond, Deviation, Function, Functions, Moments, Product
from .views import (
    CorrelationView,
    CVaRView,
    Key,
    MeanView,
    RankView,
    VaRView,
    View,
    VolatilityView,
    checked_keys,
    difference,
    text,
)


@dataclass
class Row:
    """``(sum of coefficients times functions - value) / scale`` has a mean of zero, or one that is not negative."""

    label: str
    coefficients: Mapping[Function, float]
    value: float
    scale: float  # a prior standard deviation, negative where the row is turned so that it reads >= 0
    inequality: bool
    owners: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class TailView:
    """A CVaR view: what depends on the value-at-risk t."""

    owner: int
    label: str
    losses: FloatArray  # (S,)
    levels: FloatArray  # losses that t may be, increasing, none above the value
    alpha: float
    value: float


class Posed:
    """Views (a set of them) on functions of the scenarios."""

    def __init__(self, functions: Functions, views: Sequence[View], where: str = "views") -> None:
        self.functions = functions
        self.views = tuple(views)
        self.keys = [checked_keys(view, functions.assets, f"{where}[{i}]") for i, view in enumerate(views)]
        functions.load(key for keys in self.keys for key in keys)
        self.rows: list[Row] = []
        self.tails: list[TailView] = []
        self.held: dict[object, Row] = {}
        self._means: dict[Key, float] = {}
        self._implied: FloatArray | None = None
        for number, view in enumerate(self.views):
            self._add(number, view)

    def needs(self) -> list[Function]:
        """The functions that the rows combine, each once."""
        return list(dict.fromkeys(function for row in self.rows for function in row.coefficients))

    def over(self, names: Sequence[Function], rows: Sequence[Row] | None = None) -> Rows:
        """The rows on these functions as arrays."""
        rows = self.rows if rows is None else rows
        place = {name: i for i, name in enumerate(names)}
        transform = np.zeros((len(names), len(rows)))
        for j, row in enumerate(rows):
            for name, coefficient in row.coefficients.items():
                transform[place[name], j] = coefficient / row.scale
        target = np.array([row.value / row.scale for row in rows])
        return Rows(transform, target, np.array([row.inequality for row in rows], dtype=bool))

    # -- views to rows -------------------------------------------------------------------------------------------
    def _add(self, number: int, view: View) -> None:
        keys = self.keys[number]
        match view:
            case MeanView(_, value, sense):
                at = self.functions.moments(keys[0])
                reach = f"its return lies between {at.low:g} and {at.high:g}"
                self._mean_row(number, keys[0], at, value, sense, reach)
            case RankView():
                for step, (better, worse) in enumerate(pairwise(keys), 1):
                    spread = difference(better, worse)
                    at = self.functions.moments(spread)
                    reach = f"the return of {text(dict(better))} less {text(dict(worse))} "
                    reach += f"lies between {at.low:g} and {at.high:g}"
                    part = f" ({step})" if len(keys) > 2 else ""
                    self._mean_row(number, spread, at, 0.0, ">=", reach, part=part)
            case VolatilityView(_, value):
                mean = self._hold_mean(number, keys[0])
                away = np.abs(self.functions.returns(keys[0]) - mean)
                low, high = float(away.min()), float(away.max())
                if not low <= value * (1 + 1e-13) or not value <= high * (1 + 1e-13):
                    self._refuse(
                        view, f"its distance from its mean, held at {mean:g}, lies between {low:g} and {high:g}"
                    )
                self._own(number, self._square(str(view), keys[0], mean, value**2))
            case CorrelationView(_, _, value):
                self._correlation(number, view, value)
            case VaRView(_, beta, value):
                at = self.functions.moments(keys[0])
                alpha, there = 1.0 - check_beta(beta), Beyond(keys[0], float(value))
                beyond = self.functions.values(there)
                if not beyond.any() or beyond.all():
                    self._refuse(view, f"its loss lies between {-at.high:g} and {-at.low:g}")
                mass = float(self.functions.q @ beyond)
                self._own(number, Row(str(view), {there: 1.0}, alpha, (mass * (1.0 - mass)) ** 0.5, inequality=False))
            case CVaRView(_, beta, value):
                at = self.functions.moments(keys[0])
                if not -at.high <= value <= -at.low:
                    self._refuse(view, f"its loss lies between {-at.high:g} and {-at.low:g}")
                losses = -self.functions.returns(keys[0])
                levels = np.unique(losses)
                levels = levels[levels <= value]
                self.tails.append(TailView(number, str(view), losses, levels, 1.0 - check_beta(beta), float(value)))

    def _correlation(self, number: int, view: View, value: float) -> None:
        means, spread = [], 1.0
        for key in self.keys[number]:
            means.append(self._hold_mean(number, key))
            spread *= self._hold_volatility(number, key, means[-1])
        if spread == 0.0:
            raise InputError(f"{view} cannot be: one of the two has no volatility in the scenarios")
        a, b = self.keys[number]
        there = self.functions.returns(a) - means[0]
        there *= self.functions.returns(b) - means[1]
        there /= spread
        low, high = float(there.min()), float(there.max())
        slack = 1e-13 * max(abs(low), abs(high))
        if value > high + slack or value < low - slack:
            reach = f"the product of deviations in units of the volatilities lies between {low:g} and {high:g}"
            self._refuse(view, reach)
        # around held means a product is one around the prior means and a line in both returns
        to_a, to_b = means[0] - self.functions.moments(a).mean, means[1] - self.functions.moments(b).mean
        coefficients: dict[Function, float] = {Product(a, b): 1.0 / spread}
        coefficients |= {Deviation(key): -to / spread for key, to in ((a, to_b), (b, to_a)) if to}
        scale = _scale(self._deviation(there), max(abs(low), abs(high)), value)
        self._own(number, Row(str(view), coefficients, value - to_a * to_b / spread, scale, inequality=False))

    def _deviation(self, function: FloatArray) -> float:
        q = self.functions.q
        return float(np.sqrt(q @ (function - q @ function) ** 2))

    def _refuse(self, view: View, why: str) -> NoReturn:
        raise InputError(
            f"the view {view} is out of reach of the scenarios: in them, {why}; correct the value (returns are "
            "fractions) or use scenarios that go that far"
        )

    def _own(self, owner: int, row: Row) -> None:
        row.owners.add(owner)
        self.rows.append(row)

    def _mean_row(
        self, owner: int, key: Key, at: Moments, value: float, sense: str, reach: str, *, part: str = ""
    ) -> None:
        """Add a row for a mean, unless no probabilities reach its value; `reach` says what they do."""
        slack = 1e-13 * max(abs(at.low), abs(at.high))
        if (sense != "<=" and value > at.high + slack) or (sense != ">=" and value < at.low - slack):
            self._refuse(self.views[owner], reach)
        row = _mean(f"{self.views[owner]}{part}", key, at, value)
        row.inequality = sense != "=="
        row.scale *= -1.0 if sense == "<=" else 1.0
        self._own(owner, row)

    def _square(self, label: str, key: Key, mean: float, value: float) -> Row:
        """The mean of the squared distance from a held mean."""
        at = self.functions.moments(key)
        to = mean - at.mean
        _, _, second, third, fourth = at.central.tolist()
        size = fourth + 4.0 * to * to * second
        variance = fourth - 4.0 * to * third + 4.0 * to * to * second - second * second
        if variance > 1e-9 * size:
            deviation = variance**0.5
        else:  # next to nothing is left of the terms
            deviation = self._deviation((self.functions.returns(key) - mean) ** 2)
        most = max(at.high - mean, mean - at.low) ** 2
        scale = _scale(deviation, most, value)
        coefficients: dict[Function, float] = {Product(key, key): 1.0}
        if to:
            coefficients[Deviation(key)] = -2.0 * to
        return Row(label, coefficients, value - to * to, scale, inequality=False)

    # -- what is held --------------------------------------------------------------------------------------------
    def _hold_mean(self, owner: int, key: Key) -> float:
        """The mean at which second moments are taken, made a constraint unless it is a view."""
        if key not in self._means:
            self._means[key] = self._mean(key)
        mean = self._means[key]
        if self._fixed(key) is None:
            what = ("mean", key)
            if what not in self.held:
                self._hold(what, _mean(f"E[{text(dict(key))}] held", key, self.functions.moments(key), mean))
            self.held[what].owners.add(owner)
        return mean

    def _mean(self, key: Key) -> float:
        fixed = self._fixed(key)
        if fixed is not None:
            return fixed
        names = {asset for asset, _ in key}
        first = [number for number, view in enumerate(self.views) if isinstance(view, MeanView | RankView)]
        if not any(names & {asset for asset, _ in other} for number in first for other in self.keys[number]):
            return self.functions.moments(key).mean
        if self._implied is None:
            self._implied = self._under([self.views[number] for number in first])
        return float(self._implied @ self.functions.returns(key))

    def _under(self, views: Sequence[View]) -> FloatArray:
        """Probabilities under views on means alone; the prior where they cannot be met, which is found later."""
        alone = Posed(self.functions, views)
        names = alone.needs()
        rows, matrix = alone.over(names), self.functions.stacked(names)
        found = minima(matrix, self.functions.q, [rows])[0]
        if found is None or not found.met:
            return self.functions.q
        return posterior(matrix, self.functions.q, [rows], [found.theta])[0]

    def _fixed(self, key: Key) -> float | None:
        """The mean that a view gives a combination."""
        for view, keys in zip(self.views, self.keys, strict=True):
            if isinstance(view, MeanView) and view.sense == "==" and keys == [key]:
                return float(view.value)
        return None

    def _hold_volatility(self, owner: int, key: Key, mean: float) -> float:
        for view, keys in zip(self.views, self.keys, strict=True):
            if isinstance(view, VolatilityView) and keys == [key]:
                return float(view.value)
        variance, what = self.functions.moments(key).variance, ("volatility", key)
        if what not in self.held:
            self._hold(what, self._square(f"volatility of {text(dict(key))} held", key, mean, variance))
        self.held[what].owners.add(owner)
        return variance**0.5

    def _hold(self, what: object, row: Row) -> None:
        self.held[what] = row
        self.rows.append(row)


def _mean(label: str, key: Key, at: Moments, value: float) -> Row:
    scale = _scale(at.variance**0.5, max(abs(at.low), abs(at.high)), value)
    return Row(label, {Deviation(key): 1.0}, value - at.mean, scale, inequality=False)


def _scale(deviation: float, largest: float, value: float) -> float:
    """A standard deviation, or where there is next to none the size of what is compared."""
    size = max(largest, abs(value))
    return deviation if deviation > 1e-13 * size else size or 1.0

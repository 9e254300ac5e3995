r"""Entropy pooling: the probabilities nearest to the scenarios' own under which views hold.

The prior is q (S,). Views are linear in the posterior p (S,): with functions f_j (S,) of the scenarios and values b_j,

.. math:: \min_p \sum_s p_s \ln \frac{p_s}{q_s} \quad \text{s.t.} \quad \sum_s p_s = 1, \quad
          f_j' p = b_j \ \text{or}\ f_j' p \ge b_j .

The dual has one multiplier per view, free for equalities and non-negative for inequalities, and is convex:

.. math:: \min_\theta D(\theta) = \ln \sum_s q_s e^{v_s}, \quad v_s = \sum_j \theta_j (f_{js} - b_j), \qquad
          p_s = q_s e^{v_s - D}, \quad \nabla D = F' p - b, \quad \nabla^2 D = \mathrm{Cov}_p(F) .

:math:`-D(\theta)` bounds the relative entropy from below for every admissible :math:`\theta`, and
:math:`\mathrm{KL}(p, q) + D(\theta)` is the gap. It is solved by a projected Newton method (Bertsekas 1982, "Projected
Newton methods for optimization problems with simple constraints", SIAM J. Control and Optimization 20): inequalities at
zero that pull outwards are set aside, the others take a Newton step, bent at zero and shortened until D falls; O(S k^2)
per step with k views. Where all :math:`v_s < 0`, no p can meet the views, and theta proves it.

Volatilities and correlations become linear once the means (and, for correlations, the volatilities) are held. A
mean is held at its own equality view; where other views on means touch its assets, at what these views alone imply
(Vorobets 2021, "Sequential entropy pooling heuristics"); otherwise at the prior mean. A volatility is held at its view,
otherwise at the prior one. What is held is a constraint too, so the posterior has exactly the volatility or correlation
asked for.

With loss L, :math:`\alpha = 1 - \beta`, and value-at-risk t, a CVaR of c is three linear conditions,

.. math:: E (L - t)_+ = \alpha (c - t), \qquad P(L > t) \le \alpha \le P(L \ge t) ,

and t, one of the losses in the scenarios, is searched for the least relative entropy (Meucci, Ardia & Keel 2011, "Fully
flexible extreme views", J. of Risk 14, there with whole scenarios in the tail). The search takes the entropy to fall
and then rise in t, as they do; for several CVaR views it goes from one to the next until none moves. The posterior
meets CVaR views exactly, but that no other level has less entropy is not proven.

Meucci (2008), "Fully flexible views: theory and practice", Risk 21.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, Literal, NoReturn, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from portfolioopt.blas import quiet_blas
from portfolioopt.errors import InputError, StalledError, unknown_names
from portfolioopt.labels import checked_number

from .scenario_set import ScenarioSet
from .tail import check_beta, tail

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.intp]
Combination: TypeAlias = str | Mapping[str, float]
"""An asset, or coefficients of assets: the return of a portfolio or a spread."""
_Key: TypeAlias = tuple[tuple[str, float], ...]

MET: Final = 1e-10  # violation of a view that is accepted, in standard deviations of what the view is on
_ENOUGH: Final = 1e-13  # violation at which Newton stops at once
_STEPS: Final = 300
_ROWS: Final = 4096  # scenarios per product of the Hessian, so that its working array stays in cache
_APART: Final = 1e-9  # margin by which views have to exclude each other to be called contradictory
_ROUNDS: Final = 20  # of the search over value-at-risk levels where there are several CVaR views


@dataclass(frozen=True)
class MeanView:
    """Expected return of an asset or combination: equal to, at least or at most `value`, as a fraction per horizon."""

    asset: Combination
    value: float
    sense: Literal["==", ">=", "<="] = "=="

    def __str__(self) -> str:
        return f"E[{_text(self.asset)}] {self.sense} {self.value:g}"


@dataclass(frozen=True)
class VolatilityView:
    """Standard deviation of the return of an asset or combination, per horizon; its mean is held."""

    asset: Combination
    value: float

    def __str__(self) -> str:
        return f"volatility of {_text(self.asset)} == {self.value:g}"


@dataclass(frozen=True)
class CorrelationView:
    """Correlation of the returns of two assets or combinations, in [-1, 1]; their means and volatilities are held."""

    a: Combination
    b: Combination
    value: float

    def __str__(self) -> str:
        return f"correlation of {_text(self.a)} and {_text(self.b)} == {self.value:g}"


@dataclass(frozen=True)
class RankView:
    """Expected returns in falling order: ``RankView(["A", "B", "C"])`` says E[A] >= E[B] >= E[C]."""

    assets: Sequence[Combination]

    def __str__(self) -> str:
        return " >= ".join(f"E[{_text(asset)}]" for asset in self.assets)


@dataclass(frozen=True)
class VaRView:
    """A loss of `value` or more has probability ``1 - beta``.

    Loss is the negative return, as a fraction; positive is bad. The value-at-risk of the posterior is then the least
    loss in the scenarios that is not below `value`.
    """

    asset: Combination
    beta: float
    value: float

    def __str__(self) -> str:
        return f"VaR({self.beta:g}) of {_text(self.asset)} == {self.value:g}"


@dataclass(frozen=True)
class CVaRView:
    """Mean loss over the worst ``1 - beta``, as a fraction; positive is bad."""

    asset: Combination
    beta: float
    value: float

    def __str__(self) -> str:
        return f"CVaR({self.beta:g}) of {_text(self.asset)} == {self.value:g}"


View: TypeAlias = MeanView | VolatilityView | CorrelationView | RankView | VaRView | CVaRView


@dataclass(frozen=True)
class Pooled:
    """Posterior probabilities and what proves them."""

    probabilities: FloatArray
    """Posterior probability of each scenario (S,), summing to one."""
    relative_entropy: float
    """Of the posterior to the prior, in nats; zero where the views hold already."""
    effective_scenarios: float
    """Exponential of the entropy of the posterior: how many equally likely scenarios are as diverse."""
    multipliers: pd.Series
    """What the relative entropy rises by per unit of a view's value, and the exponent of its function in the posterior:
    not negative for ``>=``, not positive for ``<=``. Labelled by the text of the view; held moments and the parts of a
    CVaR have lines of their own. For redundant views the values are one choice of many."""
    gap: float
    """Relative entropy less the dual bound: how far from least the relative entropy can be (CVaR views: at the
    value-at-risk found)."""
    violation: float
    """Largest violation of a view, in prior standard deviations of the function it is on."""


def entropy_pooling(scenarios: ScenarioSet, views: Sequence[View], *, confidence: float = 1.0) -> ScenarioSet:
    r"""Reweight the scenarios so that views hold, at least relative entropy to their own probabilities.

    Parameters
    ----------
    scenarios
        S x N, in memory. Its probabilities q are the prior.
    views
        Statements about the posterior p, in any order; the prior is returned where there are none.
    confidence
        c in [0, 1]: the result has probabilities :math:`c p + (1 - c) q`, the distribution if the views are right with
        probability c. Means of equality views then move by the fraction c of the way.

    Returns
    -------
    ScenarioSet
        The same scenarios with other probabilities. A scenario of probability zero keeps it.

    Raises
    ------
    InputError
        For scenarios that are not in memory, numbers that are not finite or impossible, a view that no probabilities
        can meet (saying what they can), and views that contradict each other (naming a smallest set).
    UnknownNameError
        For assets that are not in the scenarios, with close matches.
    StalledError
        Where the views could not be met to 1e-10: they are all but contradictory.

    See Also
    --------
    pooled : The posterior with relative entropy, effective scenarios, multipliers and gap.
    """
    c = checked_number(confidence, "confidence")
    if not 0.0 <= c <= 1.0:
        raise InputError(f"confidence must lie between 0 (prior) and 1 (posterior), was {confidence!r}")
    posterior = pooled(scenarios, views).probabilities
    return scenarios.reweighted(c * posterior + (1.0 - c) * scenarios.probabilities)


def pooled(scenarios: ScenarioSet, views: Sequence[View]) -> Pooled:
    """Posterior probabilities under views, with diagnostics; what :func:`entropy_pooling` blends and applies.

    Parameters
    ----------
    scenarios
        S x N, in memory. Its probabilities are the prior.
    views
        As for :func:`entropy_pooling`, which says what is refused as well.
    """
    if not isinstance(scenarios, ScenarioSet):
        raise InputError(f"scenarios must be a ScenarioSet, was {type(scenarios).__name__}")
    if scenarios.source.matrix is None:
        raise InputError(
            f"entropy pooling needs scenarios in memory, and the {scenarios.n_scenarios} x {scenarios.n_assets} "
            "returns of this set are not: load them with ScenarioSet(np.concatenate([rows for _, rows in "
            "scenarios.source.blocks()]), scenarios.probabilities, assets=scenarios.assets), or draw fewer scenarios"
        )
    if isinstance(views, str) or not isinstance(views, Sequence):
        raise InputError(f"views must be a list of views, was {views!r}; put a single one into a list")
    with quiet_blas.hold():  # its threads gain nothing on products this small, and wait for each other by spinning
        return _Pool(scenarios, tuple(views)).solve()


# -- views to rows -------------------------------------------------------------------------------------------


@dataclass
class _Row:
    """``(function - value) / scale`` has mean zero under the posterior, or one that is not negative."""

    label: str
    column: FloatArray  # (live,): divided by scale, and turned so that an inequality reads >= 0
    scale: float  # negative where turned
    inequality: bool
    owners: set[int] = field(default_factory=set)


@dataclass
class _TailView:
    """A CVaR view: what depends on the value-at-risk t."""

    owner: int
    label: str
    losses: FloatArray  # (live,)
    levels: FloatArray  # losses that t may be, increasing, none above the value
    alpha: float
    value: float


class _Pool:
    def __init__(self, scenarios: ScenarioSet, views: tuple[View, ...]) -> None:
        self.scenarios = scenarios
        self.assets = scenarios.assets
        self.matrix = scenarios.matrix
        self.prior = scenarios.probabilities
        self.live = np.flatnonzero(self.prior > 0)
        self.q = self.prior[self.live]
        self.views = views
        self.keys = [self._keys(number, view) for number, view in enumerate(views)]
        self.rows: list[_Row] = []
        self.tails: list[_TailView] = []
        self.held: dict[object, _Row] = {}
        self.means: dict[_Key, float] = {}
        self.implied: FloatArray | None = None
        self.functions: dict[_Key, FloatArray] = {}
        for number, view in enumerate(views):
            self._add(number, view)

    def _keys(self, number: int, view: View) -> list[_Key]:
        """Check a view; its combinations as sorted pairs of asset and coefficient."""
        match view:
            case MeanView(asset, value, sense):
                combinations, what = [asset], "value of MeanView"
                if sense not in ("==", ">=", "<="):
                    raise InputError(f"sense of MeanView must be '==', '>=' or '<=', was {sense!r}")
            case VolatilityView(asset, value):
                combinations, what = [asset], "value of VolatilityView"
                if checked_number(value, what) <= 0.0:
                    raise InputError(f"{what} must be above zero, was {value!r}")
            case CorrelationView(a, b, value):
                combinations, what = [a, b], "value of CorrelationView"
                if abs(checked_number(value, what)) > 1.0:
                    raise InputError(f"{what} must lie in [-1, 1], was {value!r}")
            case RankView(assets):
                if isinstance(assets, str | Mapping) or not isinstance(assets, Sequence) or len(assets) < 2:
                    raise InputError(f"RankView needs a list of two or more assets, best first, was {assets!r}")
                combinations, value, what = list(assets), 0.0, "RankView"
            case VaRView(asset, beta, value) | CVaRView(asset, beta, value):
                combinations, what = [asset], f"value of {type(view).__name__}"
                check_beta(beta)
            case _:
                raise InputError(
                    f"views[{number}] must be a MeanView, VolatilityView, CorrelationView, RankView, VaRView or "
                    f"CVaRView, was {view!r}"
                )
        checked_number(value, what)
        keys = [self._key(combination, type(view).__name__) for combination in combinations]
        if len(set(keys)) < len(keys):
            raise InputError(f"{type(view).__name__} names {_text(combinations[0])} twice: {view}")
        return keys

    def _key(self, combination: Combination, what: str) -> _Key:
        if isinstance(combination, Mapping):
            pairs = dict(combination)
        elif isinstance(combination, Hashable):
            pairs = {combination: 1.0}
        else:
            raise InputError(f"{what} takes an asset or a mapping from asset to coefficient, was {combination!r}")
        unknown = [asset for asset in pairs if asset not in self.assets]
        if unknown:
            raise unknown_names(f"asset in {what}" if len(unknown) == 1 else "asset", unknown, self.assets)
        key = [(asset, checked_number(value, f"coefficient of {asset!r} in {what}")) for asset, value in pairs.items()]
        key = tuple(sorted(((asset, value) for asset, value in key if value), key=lambda pair: str(pair[0])))
        if not key:
            raise InputError(f"{what} needs a coefficient that is not zero")
        return key

    def _add(self, number: int, view: View) -> None:
        keys = self.keys[number]
        match view:
            case MeanView(_, value, sense):
                returns = self._returns(keys[0])
                self._row(number, returns, value, sense, f"its return {_between(returns)}")
            case RankView():
                for step, (better, worse) in enumerate(pairwise(keys), 1):
                    difference = self._returns(better) - self._returns(worse)
                    reach = f"the return of {_text(dict(better))} less {_text(dict(worse))} {_between(difference)}"
                    self._row(number, difference, 0.0, ">=", reach, part=f" ({step})" if len(keys) > 2 else "")
            case VolatilityView(_, value):
                mean = self._hold_mean(number, keys[0])
                distance = np.abs(self._returns(keys[0]) - mean)
                reach = f"its distance from its mean, held at {mean:g}, {_between(distance)}"
                self._row(number, distance**2, value**2, "==", reach)
            case CorrelationView(_, _, value):
                product, spread = np.ones(len(self.q)), 1.0
                for key in keys:
                    mean = self._hold_mean(number, key)
                    product *= self._returns(key) - mean
                    spread *= self._hold_volatility(number, key, mean)
                if spread == 0.0:
                    raise InputError(f"{view} cannot be: one of the two has no volatility in the scenarios")
                product /= spread
                reach = f"the product of deviations in units of the volatilities {_between(product)}"
                self._row(number, product, value, "==", reach)
            case VaRView(_, beta, value):
                losses = -self._returns(keys[0])
                reach = f"its loss {_between(losses)}"
                self._row(number, (losses >= value).astype(np.float64), 1.0 - check_beta(beta), "==", reach)
            case CVaRView(_, beta, value):
                losses = -self._returns(keys[0])
                if not losses.min() <= value <= losses.max():
                    self._refuse(view, f"its loss {_between(losses)}")
                levels = np.unique(losses)
                levels = levels[levels <= value]
                self.tails.append(_TailView(number, str(view), losses, levels, 1.0 - check_beta(beta), float(value)))

    def _refuse(self, view: View, why: str) -> NoReturn:
        raise InputError(
            f"the view {view} is out of reach of the scenarios: in them, {why}; correct the value (returns are "
            "fractions) or use scenarios that go that far"
        )

    def _returns(self, key: _Key) -> FloatArray:
        if key not in self.functions:
            columns = self.assets.get_indexer(pd.Index([asset for asset, _ in key]))
            coefficients = np.array([value for _, value in key])
            self.functions[key] = self.matrix[:, columns].astype(np.float64)[self.live] @ coefficients
        return self.functions[key]

    def _row(self, owner: int, function: FloatArray, value: float, sense: str, reach: str, *, part: str = "") -> None:
        """Add a row for a view, unless no probabilities reach its value; `reach` says what they do."""
        low, high = float(function.min()), float(function.max())
        slack = 1e-13 * max(abs(low), abs(high))
        if (sense != "<=" and value > high + slack) or (sense != ">=" and value < low - slack):
            self._refuse(self.views[owner], reach)
        label = f"{self.views[owner]}{part}"
        row = _row(label, function, value, self.q, inequality=sense != "==", turned=sense == "<=")
        row.owners.add(owner)
        self.rows.append(row)

    def _hold_mean(self, owner: int, key: _Key) -> float:
        """The mean at which second moments are taken, made a constraint unless it is a view."""
        if key not in self.means:
            self.means[key] = self._mean(key)
        mean = self.means[key]
        if not any(self._fixes(number, key) for number in range(len(self.views))):
            self._hold(owner, ("mean", key), f"E[{_text(dict(key))}] held", self._returns(key), mean)
        return mean

    def _mean(self, key: _Key) -> float:
        for number, view in enumerate(self.views):
            if self._fixes(number, key) and isinstance(view, MeanView):
                return float(view.value)
        names = {asset for asset, _ in key}
        first = [number for number, view in enumerate(self.views) if isinstance(view, MeanView | RankView)]
        if not any(names & {asset for asset, _ in other} for number in first for other in self.keys[number]):
            return float(self.q @ self._returns(key))
        if self.implied is None:
            alone = tuple(self.views[number] for number in first)
            self.implied = _Pool(self.scenarios, alone).solve().probabilities[self.live]
        return float(self.implied @ self._returns(key))

    def _fixes(self, number: int, key: _Key) -> bool:
        view = self.views[number]
        return isinstance(view, MeanView) and view.sense == "==" and self.keys[number] == [key]

    def _hold_volatility(self, owner: int, key: _Key, mean: float) -> float:
        for number, view in enumerate(self.views):
            if isinstance(view, VolatilityView) and self.keys[number] == [key]:
                return float(view.value)
        returns = self._returns(key)
        variance = float(self.q @ (returns - self.q @ returns) ** 2)
        label = f"volatility of {_text(dict(key))} held"
        self._hold(owner, ("volatility", key), label, (returns - mean) ** 2, variance)
        return variance**0.5

    def _hold(self, owner: int, what: object, label: str, function: FloatArray, value: float) -> None:
        if what not in self.held:
            self.held[what] = _row(label, function, value, self.q)
            self.rows.append(self.held[what])
        self.held[what].owners.add(owner)

    # -- the answer ------------------------------------------------------------------------------------------
    def solve(self) -> Pooled:
        columns, inequality = _stacked(self.rows, len(self.q))
        found = newton(columns, inequality, self.q)
        rows = self.rows
        if found is not None and self.tails and found.met:
            found, more = self._search(columns, inequality, found)
            rows = self.rows + more
        if found is None or not found.met:
            everything = set(range(len(self.views)))
            if self._contradictory(everything):
                self._refuse_conflict(everything)
            raise StalledError(
                "entropy pooling stopped before the views were met: they are all but contradictory; move the values "
                "away from the ends of what the scenarios can give"
            )
        probabilities = np.zeros(len(self.prior))
        probabilities[self.live] = found.p
        positive = found.p > 0
        p, q = found.p[positive], self.q[positive]
        entropy = float(p @ np.log(p / q))
        probabilities.setflags(write=False)
        return Pooled(
            probabilities=probabilities,
            relative_entropy=max(entropy, 0.0),
            effective_scenarios=float(np.exp(-(p @ np.log(p)))),
            multipliers=pd.Series(
                found.theta / np.array([row.scale for row in rows]) + 0.0,  # no negative zeros
                index=pd.Index([row.label for row in rows], dtype=object, name="view"),
                name="multiplier",
            ),
            gap=entropy + found.dual,
            violation=found.violation,
        )

    def _search(self, columns: FloatArray, inequality: BoolArray, base: Newton) -> tuple[Newton | None, list[_Row]]:
        """The value-at-risk levels of the CVaR views with the least relative entropy, one view after the other."""
        k = columns.shape[1]
        whole = np.empty((len(self.q), k + 3 * len(self.tails)))
        whole[:, :k] = columns
        kinds = np.concatenate([inequality, np.tile([False, True, True], len(self.tails))])
        ranks: list[int] = []
        for view in self.tails:
            worst = tail(view.losses, base.p, 1.0 - view.alpha)
            level = worst.var + view.value - worst.cvar  # the whole tail shifted
            ranks.append(int(np.clip(np.searchsorted(view.levels, level), 0, len(view.levels) - 1)))
        seen: dict[tuple[int, ...], Newton | None] = {}
        start = np.append(base.theta, np.zeros(3 * len(self.tails)))

        def solved(at: tuple[int, ...]) -> Newton | None:
            nonlocal start
            if at not in seen:
                for i, (view, rank) in enumerate(zip(self.tails, at, strict=True)):
                    for j, row in enumerate(_tail_rows(view, view.levels[rank], self.q)):
                        whole[:, k + 3 * i + j] = row.column
                found = newton(whole, kinds, self.q, start)
                if found is not None and found.met:
                    start = found.theta
                    seen[at] = found
                else:
                    seen[at] = None
            return seen[at]

        def cost(at: tuple[int, ...]) -> float:
            found = solved(at)
            return np.inf if found is None else -found.dual

        if not np.isfinite(cost(tuple(ranks))):
            ranks = self._reachable(ranks, cost)
        for _ in range(_ROUNDS):
            before = list(ranks)
            for i, view in enumerate(self.tails):

                def along(rank: int, i: int = i) -> float:
                    return cost((*ranks[:i], rank, *ranks[i + 1 :]))

                ranks[i] = _valley(along, ranks[i], len(view.levels))
            if ranks == before or len(self.tails) == 1:
                break
        best = solved(tuple(ranks))
        rows = [
            row
            for view, rank in zip(self.tails, ranks, strict=True)
            for row in _tail_rows(view, view.levels[rank], self.q)
        ]
        return best, rows

    def _reachable(self, ranks: list[int], cost: Callable[[tuple[int, ...]], float]) -> list[int]:
        """Levels at which the views can be met, where the first guess is none: view by view, on ever finer grids."""
        for parts in (8, 64):
            for i, view in enumerate(self.tails):
                for rank in np.unique(np.linspace(0, len(view.levels) - 1, parts + 1).astype(int))[::-1]:
                    at = [*ranks[:i], int(rank), *ranks[i + 1 :]]
                    if np.isfinite(cost(tuple(at))):
                        return at
        return ranks

    # -- contradictions --------------------------------------------------------------------------------------
    def _refuse_conflict(self, suspects: set[int]) -> NoReturn:
        for number in sorted(suspects):
            if self._contradictory(suspects - {number}):
                suspects = suspects - {number}
        names = "; ".join(str(self.views[number]) for number in sorted(suspects))
        held = [row.label for row in self.held.values() if row.owners & suspects]
        names += f" (with {', '.join(held)})" if held else ""
        tried = any(view.owner in suspects for view in self.tails)
        found = "were found that meet" if tried else "of these scenarios meet"
        if len(suspects) == 1:
            raise InputError(f"no probabilities {found} the view {names}; move its value towards the prior's")
        raise InputError(
            f"no probabilities {found} these views together: {names}; without any one of them the others can be met, "
            "so drop or relax one"
        )

    def _contradictory(self, numbers: set[int]) -> bool:
        rows = [row for row in self.rows if row.owners & numbers]
        tails = [view for view in self.tails if view.owner in numbers]
        if apart(*_stacked(rows, len(self.q))):
            return True
        if not tails:
            return False
        grids = [view.levels[np.unique(np.linspace(0, len(view.levels) - 1, 65).astype(int))] for view in tails]
        for step in range(max(map(len, grids))):  # all views at the same fraction of their levels
            levels = [grid[min(step, len(grid) - 1)] for grid in grids]
            more = [row for view, t in zip(tails, levels, strict=True) for row in _tail_rows(view, float(t), self.q)]
            if not apart(*_stacked(rows + more, len(self.q))):
                return False
        return True


def _row(
    label: str, function: FloatArray, value: float, q: FloatArray, *, inequality: bool = False, turned: bool = False
) -> _Row:
    column = function - value
    scale = float(np.sqrt(q @ (column - q @ column) ** 2))
    if scale <= 1e-13 * max(float(np.abs(function).max()), abs(value)):
        scale = max(float(np.abs(column).max()), 1e-13 * abs(value)) or 1.0
    scale = -scale if turned else scale
    return _Row(label, column / scale, scale, inequality)


def _tail_rows(view: _TailView, t: float, q: FloatArray) -> list[_Row]:
    beyond = np.maximum(view.losses - t, 0.0)
    return [
        _row(view.label, beyond, view.alpha * (view.value - t), q),
        _row(f"{view.label}: in the tail", (view.losses >= t).astype(np.float64), view.alpha, q, inequality=True),
        _row(
            f"{view.label}: beyond its VaR",
            (view.losses > t).astype(np.float64),
            view.alpha,
            q,
            inequality=True,
            turned=True,
        ),
    ]


def _stacked(rows: list[_Row], count: int) -> tuple[FloatArray, BoolArray]:
    columns = np.empty((count, len(rows)))
    for j, row in enumerate(rows):
        columns[:, j] = row.column
    return columns, np.array([row.inequality for row in rows], dtype=bool)


def _valley(f: Callable[[int], float], start: int, count: int) -> int:
    """The whole number in [0, count) with the least f, where f falls before it and rises after; f(start) is finite."""
    best = start
    low, high = -1, count
    step = max(count // 64, 1)
    for way in (-1, 1):
        reach = step
        while low < best + way * reach < high:
            probe = best + way * reach
            if f(probe) < f(best):
                if way > 0:
                    low = best
                else:
                    high = best
                best, reach = probe, 2 * reach
            else:
                if way > 0:
                    high = probe
                else:
                    low = probe
                break
    while high - low > 2:
        left, right = best - low, high - best
        probe = best - max(1, int(0.382 * left)) if left > right else best + max(1, int(0.382 * right))
        if f(probe) < f(best):
            low, high = (low, best) if probe < best else (best, high)
            best = probe
        elif probe < best:
            low = probe
        else:
            high = probe
    return best


# -- arrays only ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Newton:
    """Where the projected Newton method ended."""

    theta: FloatArray  # (k,)
    p: FloatArray  # (S,)
    dual: float  # D: minus the lower bound of the relative entropy
    violation: float

    @property
    def met(self) -> bool:
        """Whether all rows are met as well as is asked for."""
        return self.violation <= MET


def newton(columns: FloatArray, inequality: BoolArray, q: FloatArray, start: FloatArray | None = None) -> Newton | None:
    """Minimise ``ln(q' exp(C theta))`` over theta (k,), not negative where `inequality`.

    Parameters
    ----------
    columns
        C (S, k), each column with a standard deviation near one.
    inequality
        Which columns have to have a mean of at least zero, rather than zero (k,).
    q
        Prior probabilities (S,), all positive, summing to one.
    start
        Multipliers to begin at.

    Returns
    -------
    Newton or None
        None where the multipliers prove that no probabilities meet the rows.
    """
    k = columns.shape[1]
    log_q = np.log(q)
    theta = np.zeros(k) if start is None else start
    at = _at(columns, theta, q, log_q)
    if start is not None and not at[1] <= 0.0:  # worse than no multipliers at all
        theta = np.zeros(k)
        at = _at(columns, theta, q, log_q)
    p, dual, highest = at
    gradient = p @ columns
    for _ in range(_STEPS):
        if highest < -_APART * float(np.abs(theta).sum()):
            return None
        error = _error(theta, gradient, inequality)
        if error <= _ENOUGH:
            break
        pinned = inequality & (theta <= min(1e-3, error)) & (gradient > 0.0)
        step = np.where(pinned, -theta, 0.0)
        free = np.flatnonzero(~pinned)
        step[free] = _step(_hessian(columns, p, gradient, free), theta[free], gradient[free], inequality[free])
        length = 1.0
        while True:
            trial = theta + length * step
            trial[inequality] = np.maximum(trial[inequality], 0.0)
            new_p, new_dual, new_highest = _at(columns, trial, q, log_q)
            promised = float(length * -(gradient[free] @ step[free]) + gradient[pinned] @ (theta - trial)[pinned])
            new_gradient: FloatArray | None = None
            if new_dual <= dual - 1e-4 * promised and promised > 1e-13:
                break
            if promised <= 1e-11:  # the dual is at its rounding: go by the gradient
                new_gradient = new_p @ columns
                if _error(trial, new_gradient, inequality) < 0.9 * error:
                    break
            length *= 0.5
            if length < 1e-8:
                return Newton(theta, p, dual, _violation(gradient, inequality))
        theta, p, dual, highest = trial, new_p, new_dual, new_highest
        gradient = p @ columns if new_gradient is None else new_gradient
    return Newton(theta, p, dual, _violation(gradient, inequality))


def _at(columns: FloatArray, theta: FloatArray, q: FloatArray, log_q: FloatArray) -> tuple[FloatArray, float, float]:
    """Posterior (S,), D, and the largest exponent."""
    if not theta.any():
        return q, 0.0, 0.0
    exponent = columns @ theta
    highest = float(exponent.max())
    exponent += log_q
    shift = float(exponent.max())
    exponent -= shift
    p = np.exp(exponent, out=exponent)
    total = float(p.sum())
    p /= total
    return p, shift + float(np.log(total)), highest


def _hessian(columns: FloatArray, p: FloatArray, gradient: FloatArray, free: IntArray) -> FloatArray:
    """Covariance of the free columns under p."""
    whole = len(free) == columns.shape[1]
    hessian = np.zeros((len(free), len(free)))
    root = np.sqrt(p)
    for first in range(0, len(p), _ROWS):
        part = columns[first : first + _ROWS] if whole else columns[first : first + _ROWS, free]
        part = part - gradient[free]
        part *= root[first : first + _ROWS, None]
        hessian += part.T @ part
    return hessian


def _step(hessian: FloatArray, theta: FloatArray, gradient: FloatArray, inequality: BoolArray) -> FloatArray:
    """Newton's step; first, where D is linear along some direction, a step down it to where a multiplier is zero.

    D is linear along combinations of columns that are constant: two limits on the same mean, say.
    """
    k = len(theta)
    moving = np.arange(k)
    step = np.zeros(k)
    while len(moving):
        values, vectors = np.linalg.eigh(hessian[np.ix_(moving, moving)])
        enough = values > 1e-14 * values[-1]
        curved, slope = vectors[:, enough], gradient[moving]
        along = curved.T @ slope
        flat = -(slope - curved @ along)
        size = float(np.abs(flat).max())
        if size <= 0.1 * MET:
            step[moving] = -curved @ (along / values[enough])
            break
        falls = inequality[moving] & (flat < -1e-12 * size)
        room = theta[moving][falls]
        if (room <= 0.0).any():
            stuck = np.flatnonzero(falls)[room <= 0.0]
            moving = np.delete(moving, stuck)
            continue
        length = max(1.0, 10.0 * float(np.abs(theta).max())) / size
        step[moving] = flat * min(length, float((room / -flat[falls]).min(initial=np.inf)))
        break
    return step


def _error(theta: FloatArray, gradient: FloatArray, inequality: BoolArray) -> float:
    """Distance from optimality: violations, and slack at positive multipliers."""
    return float(np.abs(np.where(inequality, np.minimum(theta, gradient), gradient)).max(initial=0.0))


def _violation(gradient: FloatArray, inequality: BoolArray) -> float:
    return float(np.where(inequality, np.maximum(-gradient, 0.0), np.abs(gradient)).max(initial=0.0))


def apart(columns: FloatArray, inequality: BoolArray) -> bool:
    """Whether no probabilities (S,) give columns (S, k) a mean of zero, or not below zero where `inequality`.

    They do not if some theta in the unit box, not negative where `inequality`, has ``C theta < 0`` in every scenario
    (Farkas). The least largest exponent is a linear program in k + 1 variables; scenarios enter it as they matter.
    """
    from scipy.optimize import linprog  # slow to import, and only needed when something is wrong

    count, k = columns.shape
    if not k:
        return False
    kept = np.unique(np.concatenate([columns.argmin(axis=0), columns.argmax(axis=0)]))
    bounds = [(0.0 if kind else -1.0, 1.0) for kind in inequality] + [(None, None)]
    cost = np.append(np.zeros(k), 1.0)
    precise = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
    while True:
        limits = np.column_stack([columns[kept], -np.ones(len(kept))])
        outcome = linprog(cost, A_ub=limits, b_ub=np.zeros(len(kept)), bounds=bounds, options=precise)
        if outcome.x is None:
            return False
        exponent = columns @ outcome.x[:k]
        if exponent.max() < -_APART:
            return True
        if outcome.x[k] >= -_APART:
            return False
        worst = np.argpartition(-exponent, min(64, count - 1))[:64]
        fresh = np.setdiff1d(worst[exponent[worst] > outcome.x[k] + 1e-10], kept)
        if not len(fresh):
            return bool(outcome.x[k] < -_APART)
        kept = np.append(kept, fresh)


# -- words ---------------------------------------------------------------------------------------------------


def _between(function: FloatArray) -> str:
    return f"lies between {function.min():g} and {function.max():g}"


def _text(combination: Combination) -> str:
    if not isinstance(combination, Mapping):
        return str(combination)
    terms = []
    for asset, value in combination.items():
        size = "" if abs(value) == 1.0 else f"{abs(value):g} "
        terms.append(f"{'-' if value < 0 else '+'} {size}{asset}")
    return " ".join(terms).removeprefix("+ ")

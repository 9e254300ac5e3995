"""Hierarchical risk parity."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

import numpy as np
import pandas as pd

from portfolioopt.blas import quiet_blas
from portfolioopt.errors import InputError
from portfolioopt.labels import FloatArray, PerAsset, per_asset, some
from portfolioopt.problem import Bounds, Budget
from portfolioopt.scenarios import ScenarioSet, tail
from portfolioopt.scenarios.tail import check_beta
from portfolioopt.solve import Result

from .clustering import Covariance, Distance, IntArray, LeafOrder, Linkage, Universe, hierarchy, one_of, universe
from .rule import by_rule, largest

Risk: TypeAlias = Literal["variance", "volatility", "cvar"]

_HAIR = 1e-13
_NO_RISK = 1e-14  # share of a group's risk without diversification below which it counts as having none


@quiet_blas.hold()  # its threads gain little here, and wait for each other by spinning
def hrp(
    returns: pd.DataFrame | ScenarioSet,
    *,
    covariance: Covariance | None = None,
    linkage: Linkage = "single",
    distance: Distance = "rows",
    leaf_order: LeafOrder = "merges",
    risk: Risk = "variance",
    beta: float = 0.95,
    bounds: tuple[PerAsset, PerAsset] = (0.0, 1.0),
) -> Result:
    r"""Hierarchical risk parity: assets in the order of a tree, and weight shared by halves in proportion to 1 / risk.

    1. A tree is built on :math:`d_{ij} = \sqrt{(1 - \rho_{ij}) / 2}`, and its leaves put the assets in order.
    2. The list is cut into halves again and again, the left one never longer. Sides L and R of a cut share its weight
       as :math:`w_L : w_R = 1/\rho(L) : 1/\rho(R)`, where :math:`\rho` is the risk of the assets of a side held in
       inverse proportion to their own risks (of variances, with the default).

    No matrix is inverted, so a singular covariance is as good as any other. López de Prado (2016), "Building
    diversified portfolios that outperform out of sample", Journal of Portfolio Management 42.

    As published, the tree is built on Euclidean distances between the rows of the matrix :math:`d`, so that two assets
    are near where they are to all others alike; that is the default, and reproduces the published weights.
    PyPortfolioOpt, Riskfolio-Lib and skfolio cluster :math:`d` itself (``distance="correlation"``), from which weights
    may differ by several percentage points. Unless told otherwise, Riskfolio-Lib and skfolio moreover put the leaves in
    the optimal order, and skfolio links by Ward's method.

    The order of the columns does not matter: what the data leave open, ties and which side of a merge is left, is
    decided by the order of the labels (the other libraries go by columns, which is the same where they are sorted).

    Parameters
    ----------
    returns
        Returns (T x N) as fractions, or a ScenarioSet, whose probabilities count; one that knows moments alone will do.
    covariance
        By asset (a frame or a FactorCovariance), to be used instead of the sample one for the tree, and for variances
        and volatilities.
    linkage
        How far two clusters are apart: by their nearest assets (``"single"``), farthest (``"complete"``), on average
        (``"average"``, or ``"weighted"`` with the same weight for both parts of a cluster), or by the increase of
        variance when they join (``"ward"``).
    distance
        ``"rows"`` or ``"correlation"``, see above.
    leaf_order
        ``"merges"``: of two nodes that join, the older is left. ``"optimal"``: neighbouring leaves are as near as the
        tree allows (Bar-Joseph, Gifford & Jaakkola, 2001), which takes seconds for 1,000 assets.
    risk
        ``"variance"``, ``"volatility"``, or ``"cvar"`` of the loss in the scenarios.
    beta
        Confidence level of CVaR.
    bounds
        Lower and upper limits of weights: numbers, or Series or mappings by asset. A side takes the weight nearest to
        its share with which both sides can keep within theirs.

    Returns
    -------
    Result
        Fully invested and long only. Certified by the largest deviation of a side from its share, relative to the
        weight of both. `details` has ``order`` (place by asset) and ``dendrogram`` (the merges, as SciPy numbers them).

    Raises
    ------
    InputError
        For fewer than two assets, missing returns, assets without risk, bounds that no fully invested portfolio keeps,
        and words that are not known.
    """
    start, who = time.perf_counter(), "hrp"
    assets = universe(returns, covariance, who)
    lower, upper, limits = checked_bounds(bounds, assets, who)
    tree = hierarchy(assets, linkage=linkage, distance=distance, leaf_order=leaf_order, who=who)
    leaves = tree.leaves
    groups = alone(assets, leaves, risk, beta, who)
    splits = halves(len(leaves))
    risks = [groups.risks()]
    for first in reversed(splits.levels):
        groups = groups.merged(first)
        risks.append(groups.risks())
    risks = risks[::-1]
    lower, upper = lower[leaves], upper[leaves]
    where = assets.place[leaves]
    weights = np.empty(len(leaves))
    weights[where] = splits.shared(risks, lower, upper, who)
    return by_rule(
        assets.scenarios,
        "hierarchical risk parity",
        weights,
        lambda w: splits.deviation(w[where], risks, lower, upper),
        start=start,
        constraints=limits,
        details=tree.details(),
    )


def checked_bounds(
    bounds: tuple[PerAsset, PerAsset], assets: Universe, who: str
) -> tuple[FloatArray, FloatArray, tuple[Budget, Bounds]]:
    """Lower and upper limits (N,) in the order of the labels, and as constraints."""
    if not isinstance(bounds, tuple | list) or len(bounds) != 2:
        raise InputError(f"{who}: bounds must be a pair (lower, upper), was {bounds!r}")
    labels = assets.scenarios.assets
    lower, upper = (
        per_asset(side, labels, what=f"{who}: {name} bound", infinite=True)
        for side, name in zip(bounds, ("lower", "upper"), strict=True)
    )
    short, crossed = lower < 0.0, lower > upper
    if short.any():
        raise InputError(f"{who} holds no short positions, but the lower bound of {some(labels[short])} is negative")
    if crossed.any():
        raise InputError(f"{who}: the lower bound is above the upper one for {some(labels[crossed])}")
    least, most = float(lower.sum()), float(upper.sum())
    if least > 1.0 + 1e-12 or most < 1.0 - 1e-12:
        which = f"lower bounds sum to {least:.6g}, more" if least > 1.0 else f"upper bounds sum to {most:.6g}, less"
        raise InputError(f"{who}: the {which} than the weight of 1 that is to be invested")
    limits = Budget(1.0), Bounds(pd.Series(lower, labels), pd.Series(upper, labels))
    return lower[assets.place], upper[assets.place], limits


# -- groups that split in two ----------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class Splits:
    """Groups of neighbours that split in two, level by level from the whole to single ones."""

    levels: tuple[IntArray, ...]
    """For each level but the last: where in the next one the parts of each group begin, one part or two."""

    def sums(self, values: FloatArray) -> list[FloatArray]:
        """Sums over the groups of each level, of values of single ones (n,)."""
        found = [values]
        for first in reversed(self.levels):
            found.append(np.add.reduceat(found[-1], first))
        return found[::-1]

    def shared(self, risks: Sequence[FloatArray], lower: FloatArray, upper: FloatArray, who: str) -> FloatArray:
        """Weights (n,) of single ones; `risks` has those of all levels, the limits are those of single ones (n,)."""
        lows, highs = self.sums(lower), self.sums(upper)
        weights = np.ones(1)
        for level, first in enumerate(self.levels):
            left, whole = _sides(first, weights, len(risks[level + 1]))
            if (risks[level + 1][left] + risks[level + 1][left + 1] <= 0.0).any():
                raise InputError(
                    f"{who} shares by risk, and two groups of assets that hedge each other completely within have none "
                    "to share by; leave out one side of each hedge"
                )
            finer = np.repeat(weights, np.diff(first, append=len(risks[level + 1])))
            finer[left] = _part(whole, left, risks[level + 1], lows[level + 1], highs[level + 1])
            finer[left + 1] = whole - finer[left]
            weights = finer
        for limit in (lower, upper):  # differences of sums leave a weight a hair beside the limit that it is held at
            weights = np.where(np.abs(weights - limit) <= _HAIR * limit, limit, weights)
        return np.clip(weights, lower, upper)

    def deviation(
        self, weights: FloatArray, risks: Sequence[FloatArray], lower: FloatArray, upper: FloatArray
    ) -> float:
        """The largest deviation of a side from its share, relative to the weight of both, at `weights` (n,)."""
        lows, highs, sums = self.sums(lower), self.sums(upper), self.sums(weights)
        worst = abs(float(sums[0][0]) - 1.0)
        for level, first in enumerate(self.levels):
            left, whole = _sides(first, sums[level], len(risks[level + 1]))
            due = _part(whole, left, risks[level + 1], lows[level + 1], highs[level + 1])
            held = whole != 0.0
            worst = max(worst, largest((sums[level + 1][left] - due)[held] / whole[held]))
        return worst


def _sides(first: IntArray, weights: FloatArray, count: int) -> tuple[IntArray, FloatArray]:
    """The left parts among `count` groups of the next level, and the weights of what splits into them."""
    two = np.diff(first, append=count) == 2
    return first[two], weights[two]


def _part(whole: FloatArray, left: IntArray, risk: FloatArray, low: FloatArray, high: FloatArray) -> FloatArray:
    """The weight that is due to left parts."""
    right = left + 1
    due = whole * (risk[right] / (risk[left] + risk[right]))
    return np.clip(due, np.maximum(low[left], whole - high[right]), np.minimum(high[left], whole - low[right]))


def halves(count: int) -> Splits:
    """A list cut into halves until each part is single; the left half is the shorter one of an odd number."""
    sizes, levels = np.array([count], dtype=np.intp), []
    while (sizes > 1).any():
        parts = np.where(sizes > 1, 2, 1)
        first = np.cumsum(parts) - parts
        finer = np.repeat(sizes, parts)
        two = sizes > 1
        finer[first[two]], finer[first[two] + 1] = sizes[two] // 2, sizes[two] - sizes[two] // 2
        levels.append(first)
        sizes = finer
    return Splits(tuple(levels))


# -- risk of groups --------------------------------------------------------------------------------------------------
class Groups(Protocol):
    """Groups of neighbours (G of them), their assets held in inverse proportion to their own risks."""

    @property
    def inverse(self) -> FloatArray:
        """Sum of 1 / risk over the assets of each group (G,), up to a common factor."""
        ...

    def merged(self, first: IntArray) -> Groups:
        """Coarser groups, each of the ones from its first to that of the next."""
        ...

    def risks(self) -> FloatArray:
        """Risk of each group at a weight of one (G,)."""
        ...


@dataclass(frozen=True, eq=False)
class _Quadratic:
    """Variances or volatilities: sums of blocks of the covariance, each level from the one below it, O(N^2) in all."""

    inverse: FloatArray
    cross: FloatArray
    """Covariance between groups where each asset is held by 1 / risk (G, G)."""
    undiversified: FloatArray
    """Volatility that each group would have if its assets moved as one (G,)."""
    root: bool

    def merged(self, first: IntArray) -> Groups:
        cross = np.add.reduceat(np.add.reduceat(self.cross, first, axis=0), first, axis=1)
        inverse, undiversified = (np.add.reduceat(values, first) for values in (self.inverse, self.undiversified))
        return _Quadratic(inverse, cross, undiversified, self.root)

    def risks(self) -> FloatArray:
        variances = np.diag(self.cross)
        hedged = variances <= _NO_RISK * self.undiversified**2  # what is left of a full hedge is rounding
        variances = np.where(hedged, 0.0, variances) / self.inverse**2
        return np.sqrt(variances) if self.root else variances


@dataclass(frozen=True, eq=False)
class _Tails:
    """CVaR: losses of groups in scenarios, each level from the one below it."""

    who: str
    inverse: FloatArray
    losses: FloatArray
    """Losses where each asset is held by 1 / risk (S, G)."""
    probabilities: FloatArray
    beta: float

    def merged(self, first: IntArray) -> Groups:
        losses = np.add.reduceat(self.losses, first, axis=1)
        return _Tails(self.who, np.add.reduceat(self.inverse, first), losses, self.probabilities, self.beta)

    def risks(self) -> FloatArray:
        risks = _tails(self.losses, self.probabilities, self.beta) / self.inverse
        if (risks <= 0.0).any():
            raise InputError(
                f"{self.who} shares by risk, and some assets together have a CVaR at {self.beta:g} of "
                f"{risks.min():.3g}, a gain in the tail; raise beta, or use the volatility"
            )
        return risks


def alone(assets: Universe, leaves: IntArray, risk: Risk, beta: float, who: str) -> Groups:
    """Each asset as a group of its own, in the order of the leaves."""
    one_of(risk, Risk, "risk", who)
    if risk != "cvar":
        own = assets.variances[leaves]
        own = np.sqrt(own) if risk == "volatility" else own
        inverse = own.min() / own
        cross = assets.covariance[np.ix_(leaves, leaves)] * (inverse[:, None] * inverse)
        return _Quadratic(inverse, cross, np.sqrt(np.diag(cross)), risk == "volatility")
    check_beta(beta)
    scenarios = assets.scenarios
    if scenarios.form is not None:
        raise InputError(f"{who}: CVaR needs returns, and this set knows mean and covariance alone")
    losses = -scenarios.matrix[:, assets.place[leaves]].astype(np.float64)
    own = _tails(losses, scenarios.probabilities, beta)
    gaining = own <= 0.0
    if gaining.any():
        raise InputError(
            f"{who} shares by risk, and the CVaR at {beta:g} of {some(assets.assets[leaves][gaining])} is not "
            "positive; leave it out, or raise beta"
        )
    return _Tails(who, 1.0 / own, losses / own, scenarios.probabilities, beta)


def _tails(losses: FloatArray, probabilities: FloatArray, beta: float) -> FloatArray:
    """CVaR of each column (G,) of losses (S, G)."""
    return np.array([tail(column, probabilities, beta).cvar for column in np.ascontiguousarray(losses.T)])

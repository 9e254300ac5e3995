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
zero that pull outwards are set aside, the others take a Newton step, bent at zero and shortened until D falls. Where
all :math:`v_s < 0`, no p can meet the views, and theta proves it.

Volatilities and correlations become linear once the means (and, for correlations, the volatilities) are held. A
mean is held at its own equality view; where other views on means touch its assets, at what these views alone imply
(Vorobets 2021, "Sequential entropy pooling heuristics"); otherwise at the prior mean. A volatility is held at its view,
otherwise at the prior one. What is held is a constraint too, so the posterior has exactly the volatility or correlation
asked for.

CVaR views are searched over their value-at-risk levels (`pooling.levels`). The search takes the entropy to fall and
then rise in the level, as it does; for several CVaR views it goes from one to the next until none moves. The posterior
meets CVaR views exactly, but that no other level has less entropy is not proven.

Meucci (2008), "Fully flexible views: theory and practice", Risk 21.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from portfolioopt.blas import quiet_blas
from portfolioopt.errors import InputError, StalledError
from portfolioopt.labels import checked_number

from .pooling.conflict import refuse_conflict
from .pooling.dual import FloatArray, Minimum, Rows, minima, posterior, violation
from .pooling.functions import Function, Functions
from .pooling.levels import Search, labels
from .pooling.posed import Posed
from .pooling.views import CorrelationView as CorrelationView
from .pooling.views import CVaRView as CVaRView
from .pooling.views import MeanView as MeanView
from .pooling.views import RankView as RankView
from .pooling.views import VaRView as VaRView
from .pooling.views import View as View
from .pooling.views import VolatilityView as VolatilityView
from .scenario_set import ScenarioSet


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


@dataclass(frozen=True)
class PooledBatch:
    """Posterior probabilities under many sets of views on the same scenarios."""

    scenarios: ScenarioSet
    """The scenarios with their prior."""
    names: pd.Index
    """Labels of the sets of views (B,)."""
    probabilities: FloatArray
    """Blended by confidence (B, S); each row sums to one. Read-only."""
    posteriors: tuple[Pooled, ...]
    """Each posterior before it is blended with the prior, with its diagnostics (B,)."""

    def __len__(self) -> int:
        return len(self.posteriors)

    def scenario_sets(self) -> Iterator[ScenarioSet]:
        """One set per row of probabilities; all share the returns."""
        return (self.scenarios.reweighted(row) for row in self.probabilities)

    def summary(self) -> pd.DataFrame:
        """Relative entropy, effective scenarios, gap and violation of each posterior (B rows)."""
        columns = ["relative_entropy", "effective_scenarios", "gap", "violation"]
        rows = [[getattr(one, column) for column in columns] for one in self.posteriors]
        return pd.DataFrame(rows, index=self.names, columns=columns)


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
    entropy_pooling_batch : Many sets of views at once.
    """
    c = _checked_confidence(confidence, "confidence")
    return scenarios.reweighted(_blend(c, pooled(scenarios, views).probabilities, scenarios.probabilities))


def pooled(scenarios: ScenarioSet, views: Sequence[View]) -> Pooled:
    """Posterior probabilities under views, with diagnostics; what :func:`entropy_pooling` blends and applies.

    Parameters
    ----------
    scenarios
        S x N, in memory. Its probabilities are the prior.
    views
        As for :func:`entropy_pooling`, which says what is refused as well.
    """
    _check_scenarios(scenarios)
    _check_views(views, "views")
    with quiet_blas.hold():  # its threads gain nothing on products this small, and wait for each other by spinning
        functions = Functions(scenarios)
        return _solved([Posed(functions, views)], [""])[0]


def entropy_pooling_batch(
    scenarios: ScenarioSet,
    views: Mapping[Hashable, Sequence[View]] | Sequence[Sequence[View]],
    *,
    confidence: float | Sequence[float] = 1.0,
) -> PooledBatch:
    """Posterior probabilities under many sets of views on the same scenarios, in one call.

    Each set is pooled with the prior on its own, as :func:`entropy_pooling` does. What they share is done once: the
    functions of the scenarios that views are on, and every pass over them, in which each set has its own multipliers.

    Parameters
    ----------
    scenarios
        S x N, in memory. Its probabilities are the prior of all sets.
    views
        Sets of views (B), by name or in a list, which are then numbered from 0.
    confidence
        As for :func:`entropy_pooling`: one number, or one for each set (B,).

    Returns
    -------
    PooledBatch
        B x S probabilities, and each posterior with its diagnostics.

    Raises
    ------
    InputError, UnknownNameError, StalledError
        As for :func:`entropy_pooling`, naming the set; and for a number of confidences other than B.
    """
    _check_scenarios(scenarios)
    if isinstance(views, str) or not isinstance(views, Mapping | Sequence) or not len(views):
        raise InputError("views must be one or more sets of views, in a list or by name")
    names = (
        pd.Index(list(views), name="views") if isinstance(views, Mapping) else pd.RangeIndex(len(views), name="views")
    )
    sets = list(views.values()) if isinstance(views, Mapping) else list(views)
    where = [f"views[{name!r}]" for name in names]
    for one, place in zip(sets, where, strict=True):
        _check_views(one, place)
    given = list(confidence) if isinstance(confidence, Sequence) else [confidence] * len(sets)
    if len(given) != len(sets):
        raise InputError(f"confidence has {len(given)} numbers for {len(sets)} sets of views")
    c = [_checked_confidence(value, f"confidence of {place}") for value, place in zip(given, where, strict=True)]
    with quiet_blas.hold():
        functions = Functions(scenarios)
        posed: list[Posed] = []
        for one, place in zip(sets, where, strict=True):
            try:
                posed.append(Posed(functions, one, place))
            except InputError as error:
                error.add_note(f"in {place}")
                raise
        posteriors = _solved(posed, [f"{place}: " for place in where])
    prior = scenarios.probabilities
    blended = np.stack([_blend(c_i, one.probabilities, prior) for c_i, one in zip(c, posteriors, strict=True)])
    blended.setflags(write=False)
    return PooledBatch(scenarios, names, blended, tuple(posteriors))


def _check_scenarios(scenarios: ScenarioSet) -> None:
    if not isinstance(scenarios, ScenarioSet):
        raise InputError(f"scenarios must be a ScenarioSet, was {type(scenarios).__name__}")
    if scenarios.source.matrix is None:
        raise InputError(
            f"entropy pooling needs scenarios in memory, and the {scenarios.n_scenarios} x {scenarios.n_assets} "
            "returns of this set are not: load them with ScenarioSet(np.concatenate([rows for _, rows in "
            "scenarios.source.blocks()]), scenarios.probabilities, assets=scenarios.assets), or draw fewer scenarios"
        )


def _check_views(views: object, what: str) -> None:
    if isinstance(views, str) or not isinstance(views, Sequence):
        raise InputError(f"{what} must be a list of views, was {views!r}; put a single one into a list")


def _checked_confidence(confidence: object, what: str) -> float:
    c = checked_number(confidence, what)
    if not 0.0 <= c <= 1.0:
        raise InputError(f"{what} must lie between 0 (prior) and 1 (posterior), was {confidence!r}")
    return c


def _blend(c: float, posterior: FloatArray, prior: FloatArray) -> FloatArray:
    return posterior if c == 1.0 else c * posterior + (1.0 - c) * prior


# -- solving -------------------------------------------------------------------------------------------------


def _solved(posed: Sequence[Posed], where: Sequence[str]) -> list[Pooled]:
    """The posteriors of sets of views on the same functions; `where` begins the messages of each."""
    answers: list[Pooled] = []
    for first, last, names in _groups(posed):
        group = posed[first:last]
        functions = group[0].functions
        room = 3 * max(len(one.tails) for one in group)
        matrix = functions.stacked(names, room)
        plain = matrix[: len(names)]
        sets = [one.over(names) for one in group]
        found = minima(plain, functions.q, sets)
        for one, rows, end, text in zip(group, sets, found, where[first:last], strict=True):
            at = plain
            if end is not None and end.met and one.tails:
                p = posterior(plain, functions.q, [rows], [end.theta])[0]
                at = matrix[: len(names) + 3 * len(one.tails)]
                end, rows = Search(at, rows, one.tails, functions.q).run(p, end.theta)
            if end is None or not end.met:
                refuse_conflict(one, text)
                raise StalledError(
                    f"{text}entropy pooling stopped before the views were met: they are all but contradictory; move "
                    "the values away from the ends of what the scenarios can give"
                )
            answers.append(_answer(one, at, rows, end))
    return answers


def _groups(posed: Sequence[Posed]) -> Iterator[tuple[int, int, list[Function]]]:
    """Neighbours that share most of their functions: first, last and the functions."""
    first, names, largest = 0, dict[Function, None](), 0
    for number, one in enumerate(posed):
        own = dict.fromkeys(one.needs())
        together = names | own
        if number > first and len(together) > 1.5 * max(largest, len(own)):
            yield first, number, list(names)
            first, names, largest = number, own, len(own)
        else:
            names, largest = together, max(largest, len(own))
    yield first, len(posed), list(names)


def _answer(posed: Posed, matrix: FloatArray, rows: Rows, end: Minimum) -> Pooled:
    functions = posed.functions
    p = posterior(matrix, functions.q, [rows], [end.theta])[0]
    probabilities = np.zeros(functions.count)
    probabilities[functions.live] = p
    probabilities.setflags(write=False)
    entropy, diversity = _entropies(p, functions.q)
    scales = [row.scale for row in posed.rows] + [0.0] * (3 * len(posed.tails))
    theta = end.theta.copy()
    for i in range(len(theta)):
        if i < len(posed.rows):
            theta[i] /= scales[i]
        else:  # each row of a CVaR is on one function
            theta[i] *= rows.transform[:, i].sum()
    texts = [row.label for row in posed.rows] + [label for view in posed.tails for label in labels(view)]
    return Pooled(
        probabilities=probabilities,
        relative_entropy=max(entropy, 0.0),
        effective_scenarios=float(np.exp(diversity)),
        multipliers=pd.Series(
            theta + 0.0,  # no negative zeros
            index=pd.Index(texts, dtype=object, name="view"),
            name="multiplier",
        ),
        gap=entropy + end.dual,
        violation=violation(matrix, rows, p),
    )


def _entropies(p: FloatArray, q: FloatArray) -> tuple[float, float]:
    """Relative entropy of p to q, and entropy of p."""
    positive = p > 0
    if not positive.all():
        p, q = p[positive], q[positive]
    log_p = np.log(p)
    return float(p @ (log_p - np.log(q))), -float(p @ log_p)

r"""Measures as means over scenarios, to first order in the probabilities: what every standard error is made of.

A measure of a fixed portfolio is a functional T of the loss distribution F. Near the distribution it is estimated from,

.. math:: T(G) \approx T(F) + \int \psi \, dG = E_G\, h, \qquad h = T(F) + \psi,

with :math:`\psi` its influence function, which has mean zero under F (von Mises, 1947; Hampel, 1974). The error of the
estimate from scenarios with probabilities p is therefore :math:`\sum_s p_s \psi_s` to first order. With the loss L, its
mean m and :math:`\alpha = 1-\beta`:

=========================  ===========================================================================================
measure                    h
=========================  ===========================================================================================
expected return            :math:`-L`
CVaR                       :math:`t + (L - t)_+ / \alpha`, t the value-at-risk (Trindade, Uryasev, Shapiro & Zrazhevsky,
                           2007)
variance                   :math:`(L - m)^2`
volatility                 :math:`\sigma / 2 + (L - m)^2 / 2\sigma`
mean absolute deviation    :math:`|L - m| + c (L - m)`, c the probability below the mean less that above it
shortfall below            :math:`(\tau + L)_+`
semi-deviation             :math:`d / 2 + (\tau + L)_+^2 / 2d`, and :math:`-E(\tau + L)_+ (L - m) / d` where
                           :math:`\tau` is the mean return
entropic value-at-risk     :math:`v + z (e^{L/z} / E\,e^{L/z} - 1)`, z where its minimum is
log growth                 :math:`\ln(1 - L)`
N / D                      :math:`T + (h_N - T h_D) / D`
=========================  ===========================================================================================

Costs, exposures and whatever else is given rather than estimated is the same in every scenario. For sums of expected
returns, CVaRs, variances and shortfalls the relation is more than first order: with t and m held where they are,
:math:`E_G h` is never below a risk and never above the reward of the same portfolio under G.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from portfolioopt.errors import InputError
from portfolioopt.problem import (
    ActiveShare,
    BorrowCost,
    ConditionalDrawdown,
    CVaR,
    CVaRLimit,
    EllipsoidUncertainty,
    EntropicVaR,
    ExpectedReturn,
    ExpectedShortfallBelow,
    GrossExposure,
    Limit,
    LogGrowth,
    LongExposure,
    MaxDrawdown,
    MeanAbsoluteDeviation,
    MeanUncertainty,
    NetExposure,
    PowerCost,
    Problem,
    ProportionalCost,
    ReturnTarget,
    Ridge,
    RobustCVaR,
    SemiDeviation,
    ShortExposure,
    Soft,
    SpectralRisk,
    TrackingError,
    TradedAmount,
    Variance,
    Volatility,
    WorstCase,
    WorstLoss,
)
from portfolioopt.problem.curved import entropic_tail
from portfolioopt.problem.terms import Expression, Term, View, ordered
from portfolioopt.scenarios import ScenarioSet, tail
from portfolioopt.solve.certificate import line_values, term_values

FloatArray: TypeAlias = npt.NDArray[np.float64]
Linear: TypeAlias = Callable[[View], FloatArray]
"""h by scenario (S,) of whatever set a view looks at, its parameters fixed where they were estimated."""

_GIVEN = (
    ActiveShare,
    BorrowCost,
    EllipsoidUncertainty,
    GrossExposure,
    LongExposure,
    MeanUncertainty,
    NetExposure,
    PowerCost,
    ProportionalCost,
    Ridge,
    ShortExposure,
    TradedAmount,
)
_WITH_SCENARIOS = (
    CVaR,
    EntropicVaR,
    ExpectedShortfallBelow,
    LogGrowth,
    MeanAbsoluteDeviation,
    SemiDeviation,
    SpectralRisk,
    Variance,
    WorstLoss,
)
_EXACT = (CVaR, ExpectedReturn, ExpectedShortfallBelow, LogGrowth, RobustCVaR, SpectralRisk)


class NoErrorKnown(InputError):  # noqa: N818  the name says what is the matter
    """A measure that has no standard error of the usual kind."""


def linear(measure: Expression, at: View, *, fixed_sets: bool = False) -> Linear:
    """The measure, or sum of measures, linearised at the weights and scenarios of a view.

    Terms on a scenario set of their own are constants with `fixed_sets`, and refused without. Raises NoErrorKnown for
    measures whose error is not normal (the worst loss, drawdowns) and those that this module does not know.
    """
    functions = [(c, _term(term, at, fixed_sets)) for c, term in measure.parts]

    def h(view: View) -> FloatArray:
        total = np.zeros(view.scenarios.n_scenarios)
        for coefficient, function in functions:
            total += coefficient * function(view)
        return total

    return h


def objective(problem: Problem, at: View, *, fixed_sets: bool = False) -> Linear:
    """The objective of a problem linearised; of a ratio, the ratio. Raises as :func:`linear`."""
    if problem.ratio is not None:
        upper = linear(problem.ratio.numerator, at, fixed_sets=fixed_sets)
        lower = linear(problem.ratio.denominator, at, fixed_sets=fixed_sets)
        p = at.scenarios.probabilities
        divisor = expectation(lower(at), p)
        ratio = expectation(upper(at), p) / divisor
        return lambda view: ratio + (upper(view) - ratio * lower(view)) / divisor
    h = linear(problem.objective, at, fixed_sets=fixed_sets)
    penalty = 0.0
    if any(isinstance(c, Soft) for c in problem.constraints):
        for c in problem.constraints:
            if isinstance(c, Soft) and moves(c.constraint):
                raise NoErrorKnown(f"what {c.name} is charged for its violation has a kink, and no standard error")
        compiled = problem.compiled
        found = term_values(compiled, at, line_values(compiled, at))
        pairs = zip(compiled.terms, found, strict=True)
        penalty = float(sum(term.coefficient * value for term, value in pairs if term.measure is None))
    return lambda view: h(view) + penalty


def objective_value(problem: Problem, view: View) -> float:
    """The maximised objective of the problem at the weights of a view; of a ratio, the ratio."""
    if problem.ratio is not None:
        upper, lower = (
            sum(c * term.value(view) for c, term in part.parts)
            for part in (problem.ratio.numerator, problem.ratio.denominator)
        )
        return float(upper / lower)
    compiled = problem.compiled
    values = line_values(compiled, view) if any(term.lines for term in compiled.terms) else ()
    found = term_values(compiled, view, values)
    return float(sum(term.coefficient * value for term, value in zip(compiled.terms, found, strict=True)))


def is_expectation(problem: Problem) -> bool:
    """Whether the objective is the optimum of an expectation, so that bounds by sampling hold for any sample."""
    if problem.ratio is not None or any(isinstance(c, Soft) and moves(c.constraint) for c in problem.constraints):
        return False
    return all(
        not depends(term) or isinstance(term, _EXACT) or type(term) is Variance for _, term in problem.objective.parts
    )


def moves(constraint: object) -> bool:
    """Whether a constraint says something else on other scenarios."""
    if isinstance(constraint, Soft):
        return moves(constraint.constraint)
    if isinstance(constraint, ReturnTarget):
        return constraint.mean is None
    if isinstance(constraint, Limit):
        return any(depends(term) for _, term in constraint.measure.parts)
    return isinstance(constraint, CVaRLimit)


def depends(term: Term) -> bool:
    """Whether a measure changes when the scenarios of its problem do."""
    if isinstance(term, _GIVEN):
        return False
    if isinstance(term, ExpectedReturn):
        return term.mean is None
    if isinstance(term, Variance) and term.covariance is not None:
        return False
    if isinstance(term, WorstCase):
        return any(depends(one) for one in term.measures)
    return own_set(term) is None


def own_set(term: Term) -> ScenarioSet | None:
    """The scenarios that a measure names for itself."""
    if isinstance(term, _WITH_SCENARIOS):
        return term.scenarios
    return term.path if isinstance(term, ConditionalDrawdown | MaxDrawdown) else None


def expectation(values: FloatArray, probabilities: FloatArray) -> float:
    """Mean under the probabilities; scenarios that cannot happen do not count, whatever their value."""
    live = probabilities > 0
    return float(probabilities @ values) if live.all() else float(probabilities[live] @ values[live])


def _term(term: Term, at: View, fixed_sets: bool) -> Linear:
    if isinstance(term, WorstCase):
        return _term(max(term.measures, key=lambda one: one.value(at)), at, fixed_sets)
    named = own_set(term)
    if named is not None:
        if not fixed_sets:
            raise NoErrorKnown(
                f"{term!r} looks at scenarios of its own, whose sampling error is another; ask for it by "
                "sampling_error((those scenarios, weights))"
            )
        return _constant(term.value(at))
    if not depends(term):
        return _constant(term.value(at))
    match term:
        case ExpectedReturn():
            return lambda view: -view.losses()
        case CVaR():
            return _cvar(term.beta, at, _benchmark(term.benchmark, term, at))
        case SpectralRisk():
            shares = [(share, _cvar(beta, at, None)) for beta, share in term.weights.items()]
            return lambda view: np.sum([share * h(view) for share, h in shares], axis=0)
        case RobustCVaR():
            h, margin = _cvar(term.beta, at, None), term.value(at) - at.tail(term.beta).cvar
            return lambda view: h(view) + margin
        case ExpectedShortfallBelow():
            return lambda view: np.maximum(term.target + view.losses(), 0.0)
        case LogGrowth():
            return _log_growth
        case TrackingError():
            return _volatility(at, _benchmark(term.benchmark, term, at))
        case Volatility():
            return _volatility(at, None)
        case Variance():
            mean = expectation(at.losses(), at.scenarios.probabilities)
            return lambda view: (view.losses() - mean) ** 2
        case MeanAbsoluteDeviation():
            return _absolute(at)
        case SemiDeviation():
            return _semi_deviation(term, at)
        case EntropicVaR():
            return _entropic(term, at)
    raise NoErrorKnown(
        f"{term!r} has no standard error of the usual kind: its error over scenarios is not normal, or its influence "
        "function is not known here"
    )


def _constant(value: float) -> Linear:
    return lambda view: np.full(view.scenarios.n_scenarios, value)


def _benchmark(benchmark: object, term: Term, at: View) -> FloatArray | None:
    return None if benchmark is None else ordered(term, "benchmark", at.scenarios.assets)


def _losses(view: View, benchmark: FloatArray | None) -> FloatArray:
    losses = view.losses()
    return losses if benchmark is None else losses - view.scenarios.source.losses(benchmark)


def _cvar(beta: float, at: View, benchmark: FloatArray | None) -> Linear:
    if benchmark is None:
        var = at.tail(beta).var
    else:
        var = tail(_losses(at, benchmark), at.scenarios.probabilities, beta).var
    return lambda view: var + np.maximum(_losses(view, benchmark) - var, 0.0) / (1.0 - beta)


def _volatility(at: View, benchmark: FloatArray | None) -> Linear:
    losses, p = _losses(at, benchmark), at.scenarios.probabilities
    mean = expectation(losses, p)
    size = np.sqrt(expectation((losses - mean) ** 2, p))
    if size <= 1e-14 * np.abs(losses).max(initial=0.0):  # no risk at all: nothing to be wrong about
        return _constant(0.0)
    return lambda view: 0.5 * size + (_losses(view, benchmark) - mean) ** 2 / (2.0 * size)


def _absolute(at: View) -> Linear:
    p = at.scenarios.probabilities
    mean = expectation(at.losses(), p)
    tilt = float(p[at.losses() < mean].sum() - p[at.losses() > mean].sum())
    return lambda view: np.abs(view.losses() - mean) + tilt * (view.losses() - mean)


def _semi_deviation(term: SemiDeviation, at: View) -> Linear:
    p = at.scenarios.probabilities
    mean = expectation(at.losses(), p)
    target = -mean if term.target is None else term.target
    short = np.maximum(target + at.losses(), 0.0)
    size = np.sqrt(expectation(short**2, p))
    if size == 0.0:
        raise NoErrorKnown(f"{term!r} is zero, where it has a kink and no standard error")
    tilt = expectation(short, p) / size if term.target is None else 0.0
    return lambda view: (
        0.5 * size
        + np.maximum(target + view.losses(), 0.0) ** 2 / (2.0 * size)
        - (tilt * (view.losses() - mean) if tilt else 0.0)
    )


def _entropic(term: EntropicVaR, at: View) -> Linear:
    value, _, inverse = entropic_tail(at.losses(), at.scenarios.probabilities, term.beta)
    if not np.isfinite(inverse):
        raise NoErrorKnown(f"{term!r} is the largest loss here, whose error over scenarios is not normal")
    shift = value * inverse + np.log1p(-term.beta)  # ln E exp(L / z)
    return lambda view: value + np.expm1(view.losses() * inverse - shift) / inverse


def _log_growth(view: View) -> FloatArray:
    wealth = 1.0 - view.losses()
    return np.log(wealth, out=np.full_like(wealth, -np.inf), where=wealth > 0)

"""Several allocators as one portfolio, blended by the risk they had out of sample."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError, PortfolioOptError, SolveError
from portfolioopt.estimate.checks import checked_count, checked_returns, written
from portfolioopt.labels import FloatArray, align
from portfolioopt.problem import Bounds, Budget, CVaR, Objective, Problem
from portfolioopt.problem.constraints import Constraint
from portfolioopt.problem.terms import Expression
from portfolioopt.scenarios import ScenarioSet
from portfolioopt.solve import Result, optimize

from .rule import by_rule, largest

Allocator: TypeAlias = Callable[[ScenarioSet], Result | pd.Series]


class _Fold(NamedTuple):
    begin: int  # rows begin to end - 1 are known
    end: int
    first: int  # rows first to last - 1 are earned
    last: int


def stack(
    returns: pd.DataFrame,
    allocators: Mapping[str, Allocator],
    *,
    first: int,
    step: int,
    window: int | None = None,
    gap: int = 0,
    risk: Expression | None = None,
    blend: Literal["optimal", "inverse"] = "optimal",
    limits: Iterable[Constraint] = (),
    tolerance: float = 1e-6,
) -> Result:
    r"""Blend allocators by how they did on returns that they had not seen.

    Walk forward through time: every `step` rows each allocator sees the rows so far (all of them, or the last
    `window`), and its weights, kept constant, earn the next `step` rows. With the returns Y (periods x A) that the A
    allocators earned in this way, the blend is

    .. math:: b = \arg\min_{b \ge 0,\, 1'b = 1} \rho(Y b), \qquad\text{or}\qquad b_a \propto 1 / \rho(Y e_a),

    and the portfolio :math:`\sum_a b_a w_a` of the allocators on all (or the last `window`) rows. Wolpert (1992),
    "Stacked generalization", Neural Networks 5.

    Parameters
    ----------
    returns
        Returns (T x N) as fractions, in order of time.
    allocators
        By name: functions from scenarios of the rows they may see, equally likely, to a :class:`Result` or to weights
        by asset. ``equal_weight`` and ``lambda s: optimize(Problem(s, ...))`` are such functions.
    first
        Rows seen before the first weights, at least 2.
    step
        Rows between one set of weights and the next; the last step may be shorter.
    window
        Rows that are seen, at least 2 and at most `first`; all so far where None.
    gap
        Rows left out between what is seen and what is earned, for returns that overlap.
    risk
        :math:`\rho`, which the blend makes small: any term or sum of terms, where a reward may be subtracted
        (``3 * CVaR(0.95) - ExpectedReturn()``). ``CVaR(0.95)`` where None.
    blend
        ``"optimal"`` makes the risk of the blend least, ``"inverse"`` weighs by the risk of each alone.
    limits
        Further constraints on an optimal blend, in which the allocators are the assets.
    tolerance
        Largest relative gap at which the blend counts as optimal.

    Returns
    -------
    Result
        Certified by the larger of the blend's own certified gap and the deviation of the weights from the blend. Its
        `details` hold `out_of_sample` (periods x A, and the blend's); `blend` by allocator; `weights` (assets x A) on
        all rows; `weights_over_time` by fold and allocator; `risk` of each and of the blend out of sample; `folds`; and
        for an optimal blend `blend_result`, its Result.

    Raises
    ------
    InputError
        For too few rows, an allocator that fails on some rows (naming both) or returns no weights of all assets, and
        risks that are not positive where their inverse is asked for.
    SolveError
        For an allocator whose problem has no solution on some rows, and for limits that contradict each other.
    """
    start = time.perf_counter()
    who = "stack"
    folds = _folds(returns, first, step, window, gap, who)
    if not isinstance(allocators, Mapping) or not allocators or not all(callable(a) for a in allocators.values()):
        raise InputError(f"{who}: allocators must map names to functions from a ScenarioSet to a Result")
    if blend not in ("optimal", "inverse"):
        raise InputError(f"{who}: blend must be 'optimal' or 'inverse', was {blend!r}")
    measure = CVaR(0.95) if risk is None else risk
    if not isinstance(measure, Expression):
        raise InputError(f"{who}: risk must be made of terms such as CVaR(0.95), was {measure!r}")
    names = pd.Index(list(allocators), name="allocator")
    values = returns.to_numpy(dtype=np.float64)

    earned, over_time = [], {}
    for fold in folds:
        seen = ScenarioSet(returns.iloc[fold.begin : fold.end])
        weights = {name: _weights(allocator, seen, name, who) for name, allocator in allocators.items()}
        earned.append(values[fold.first : fold.last] @ np.column_stack(list(weights.values())))
        over_time |= {(returns.index[fold.first], name): w for name, w in weights.items()}
    rows = slice(folds[0].first, folds[-1].last)
    out_of_sample = pd.DataFrame(np.vstack(earned), returns.index[rows], names)
    scenarios = ScenarioSet(out_of_sample)
    blended: Result | None = None
    missed = 0.0
    if blend == "optimal":
        blended = _optimal(scenarios, measure, limits, tolerance)
        assert blended.weights is not None
        assert blended.certificate is not None
        shares = blended.weights.to_numpy()
        missed = max(blended.certificate.gap, 0.0)
    else:
        shares = _inverse(scenarios, measure, names, who)

    everything = ScenarioSet(returns.iloc[0 if window is None else len(returns) - window :])
    final = np.column_stack([_weights(allocator, everything, name, who) for name, allocator in allocators.items()])
    result = by_rule(
        ScenarioSet(returns),
        f"{blend} blend of {len(names)} allocators",
        final @ shares,
        lambda found: max(missed, largest(found - final @ shares)),
        start=start,
        constraints=(),
        iterations=0 if blended is None else blended.iterations,
        tolerance=tolerance,
    )
    share = pd.Series(shares, names, name="blend")
    out_of_sample["blend"] = out_of_sample[names] @ share
    each = {name: _risk(scenarios, measure, column) for name, column in zip(names, np.eye(len(names)), strict=True)}
    result.details.update(
        out_of_sample=out_of_sample,
        blend=share,
        weights=pd.DataFrame(final, returns.columns, names),
        weights_over_time=pd.DataFrame(over_time, returns.columns).T.rename_axis(["date", "allocator"]),
        risk=pd.Series(each | {"blend": _risk(scenarios, measure, shares)}, name="risk"),
        folds=_table(folds, returns.index),
    )
    if blended is not None:
        result.details["blend_result"] = blended
    return result


def _folds(returns: pd.DataFrame, first: int, step: int, window: int | None, gap: int, who: str) -> list[_Fold]:
    begin = checked_count(first, f"{who}: first", least=2)
    stride = checked_count(step, f"{who}: step", least=1)
    between = checked_count(gap, f"{who}: gap", least=0)
    if window is not None and checked_count(window, f"{who}: window", least=2) > begin:
        raise InputError(f"{who}: window is {window}, more than the {begin} rows that are there at first; raise first")
    rows = len(checked_returns(returns, who, rows=begin + between + 2))
    folds = []
    for at in range(begin + between, rows, stride):
        known = at - between
        folds.append(_Fold(0 if window is None else known - window, known, at, min(at + stride, rows)))
    return folds


def _weights(allocator: Allocator, seen: ScenarioSet, name: str, who: str) -> FloatArray:
    """Weights of one allocator (N,), or its failure with its name."""
    where = f"{who}: allocator {name!r}, given {written(seen.index[0])} to {written(seen.index[-1])},"
    try:
        found = allocator(seen)
    except SolveError as error:
        raise SolveError(f"{where} found no portfolio: {error}", result=error.result) from error
    except PortfolioOptError as error:
        raise InputError(f"{where} failed: {error}") from error
    except Exception as error:
        error.add_note(f"raised by {where.removesuffix(',')}")
        raise
    weights = found.weights if isinstance(found, Result) else found
    if weights is None and isinstance(found, Result):
        raise SolveError(f"{where} found no portfolio: {found.message}", result=found)
    if not isinstance(weights, pd.Series):
        raise InputError(f"{where} must return a Result or a Series of weights, was {type(found).__name__}")
    return align(weights, seen.assets, what=f"{where} weights")


def _optimal(scenarios: ScenarioSet, measure: Expression, limits: Iterable[Constraint], tolerance: float) -> Result:
    constraints = [Budget(1.0, name="blend"), Bounds(0.0, 1.0, name="shares"), *limits]
    return optimize(Problem(scenarios, -1.0 * Objective(measure.parts), constraints), tolerance=tolerance)


def _inverse(scenarios: ScenarioSet, measure: Expression, names: pd.Index, who: str) -> FloatArray:
    risks = np.array([_risk(scenarios, measure, column) for column in np.eye(len(names))])
    if not (risks > 0).all():
        name = names[int(np.argmin(risks))]
        raise InputError(f"{who}: the risk of {name!r} is {risks.min():g}, which has no inverse; use blend='optimal'")
    return 1.0 / risks / (1.0 / risks).sum()


def _risk(scenarios: ScenarioSet, measure: Expression, shares: FloatArray) -> float:
    compiled = Problem(scenarios, -1.0 * Objective(measure.parts), ()).compiled
    view = compiled.view(shares)
    return float(sum(coefficient * term.value(view) for coefficient, term in measure.parts))


def _table(folds: list[_Fold], index: pd.Index) -> pd.DataFrame:
    """What was seen and what was earned, by label."""
    return pd.DataFrame(
        {
            "seen_from": [index[fold.begin] for fold in folds],
            "seen_to": [index[fold.end - 1] for fold in folds],
            "earned_from": [index[fold.first] for fold in folds],
            "earned_to": [index[fold.last - 1] for fold in folds],
        }
    ).rename_axis("fold")

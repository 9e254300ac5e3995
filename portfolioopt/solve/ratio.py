r"""The largest ratio of a reward to a risk, exactly, by Dinkelbach's method (1967).

For :math:`\theta = N(w)/D(w)` at some portfolio, the optimum of :math:`N - \theta D` is positive as long as a better
ratio exists, and its portfolio has one; the ratios converge superlinearly. If :math:`N - \theta D \le b` for all
allowed portfolios, and :math:`D \ge d > 0`, no ratio exceeds :math:`\theta + b/d`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from portfolioopt.errors import InfeasibleError, StalledError, UnboundedError
from portfolioopt.problem import Objective, Problem, Ratio

from .result import Result, Status, Timings

ROUNDS = 50
Solve = Callable[[Problem, Result | None], Result]


def maximise_ratio(problem: Problem, ratio: Ratio, tolerance: float, solve: Solve) -> Result:
    """The result of the last round, with the ratio as its objective.

    `solve` maximises an ordinary objective, from the result of an earlier round if there is one, and raises.
    """
    start = time.perf_counter()
    spent = Timings(0.0, 0.0, 0.0, 0.0)
    iterations, passes = 0, 0.0

    def of(objective: Objective, before: Result | None) -> Result:
        nonlocal spent, iterations, passes
        found = solve(problem.replace(objective=objective), before)
        t = found.timings
        spent = Timings(spent.compile + t.compile, spent.solve + t.solve, spent.certify + t.certify, 0.0)
        iterations, passes = iterations + found.iterations, passes + found.passes
        return found

    safest = of(-1.0 * ratio.denominator, None)
    assert safest.certificate is not None
    least = -safest.certificate.bound
    reward, risk = _values(safest, ratio)
    assert safest.columns is not None
    view = safest.problem.compiled.view(safest.columns)
    if risk <= 1e-7 * sum(abs(c) * term.size(view) for c, term in ratio.denominator.parts):
        raise UnboundedError(
            f"the ratio has no largest value: {ratio.denominator} is {risk:.3g} for an allowed portfolio, and what is "
            "divided by must be positive. Maximise a difference instead, or limit the risk",
            result=safest,
        )
    result = safest
    if reward <= 0.0:
        result = of(ratio.numerator, safest)
        reward, risk = _values(result, ratio)
        if reward <= 0.0:
            raise InfeasibleError(
                f"no allowed portfolio has a positive {ratio.numerator} (at most {reward:.6g}), so the ratio cannot be "
                "maximised; minimise the risk instead"
            )
    bound, certificate = np.inf, safest.certificate
    for _ in range(ROUNDS):
        theta = reward / risk
        result = of(ratio.numerator - theta * ratio.denominator, result)
        assert result.certificate is not None
        certificate = result.certificate
        reward, risk = _values(result, ratio)
        best = max(theta, reward / risk)
        # the bound by the proven least risk holds for all portfolios; those of interest have more risk than that
        bound = theta + max(certificate.bound, 0.0) / max(least, 1e-300)
        if bound - best <= tolerance * best or reward / risk <= theta * (1.0 + 1e-15):
            break
    value = reward / risk
    gap = (bound - value) / abs(value)
    timings = replace(spent, total=time.perf_counter() - start)
    certified = replace(certificate, objective=value, bound=bound, gap=gap, scale=abs(value))
    result.certificate, result.timings, result.iterations, result.passes = certified, timings, iterations, passes
    result.message = f"optimal, ratio certified to a relative gap of {max(gap, 0.0):.1e}"
    result.ratio = ratio
    if gap > tolerance:
        result.status = Status.stalled
        result.message = f"the ratio is known to a relative gap of {gap:.1e} only (wanted {tolerance:.1e})"
        raise StalledError(result.message, result=result)
    return result


def _values(result: Result, ratio: Ratio) -> tuple[float, float]:
    """Reward and risk of a result's portfolio."""
    assert result.columns is not None
    view = result.problem.compiled.view(np.asarray(result.columns))
    reward = sum(c * term.value(view) for c, term in ratio.numerator.parts)
    risk = sum(c * term.value(view) for c, term in ratio.denominator.parts)
    return float(reward), float(risk)

"""Risk parity and risk budgeting, for volatility and for CVaR."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import cast

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError, unknown_names
from portfolioopt.estimate.quadratic import QuadraticForm
from portfolioopt.labels import FloatArray, align, checked_number, some
from portfolioopt.problem import Bounds, Budget, CVaR, Problem, Volatility
from portfolioopt.problem.constraints import Constraint
from portfolioopt.scenarios import ScenarioSet, tail
from portfolioopt.solve import Result, optimize

from .mean_variance import Covariance, Labelled, minimum_variance
from .risk_budgets import LogBarrier, newton
from .rule import by_rule, covariance_form, largest, listed, scenarios_of_covariance, variances_above_zero

TAIL = 2e-4  # relative deviation of CVaR contributions; CVaR has kinks, and a barrier smooths no more than it must
_ROUNDS = 60


def risk_parity(
    covariance: Covariance,
    budgets: Labelled | None = None,
    *,
    groups: Mapping[str, str] | pd.Series | None = None,
    measure: CVaR | None = None,
    constraints: Constraint | Iterable[Constraint] = (),
    target_volatility: float | None = None,
) -> Result:
    r"""The long-only portfolio whose assets contribute to risk in proportion to budgets, equal ones where not given.

    .. math:: w_i \frac{\partial\rho}{\partial w_i} = b_i\, \rho(w), \qquad \sum_i b_i = 1,

    with :math:`\rho` the volatility, or CVaR. Maillard, Roncalli & Teiletche (2010), J. Portfolio Management 36;
    Bruder & Roncalli (2012). With constraints there is no such portfolio in general; what is returned then is the
    constrained risk budgeting of Richard & Roncalli (2019),

    .. math:: \min_{w \in \Omega} \rho(w) - \lambda \sum_i b_i \ln w_i,

    with the :math:`\lambda` at which the weights sum to one; the budgets hold among assets that no constraint touches.

    Parameters
    ----------
    covariance
        By asset, per horizon: a frame, a FactorCovariance (which is never formed), or scenarios whose covariance is
        meant.
    budgets
        b, positive shares of risk by asset, or by group where `groups` is given; they are divided by their sum.
    groups
        Group of every asset: the budgets are then those of groups, spread evenly over the assets of each.
    measure
        ``CVaR(beta)`` for contributions to CVaR instead of volatility; needs scenarios.
    constraints
        Bounds, group limits and others on weights that sum to one.
    target_volatility
        Scale the weights to this volatility per horizon instead of a sum of one; without constraints only.

    Returns
    -------
    Result
        Without constraints certified by the largest deviation of any contribution from its budget, relative to it:
        rounding for volatility; for CVaR with the tail distribution in ``details["tail"]``, up to 2e-4. With
        constraints certified by the gap of the program above.

    Raises
    ------
    InputError
        For budgets that are not positive, assets without risk, and covariances under which some long-only portfolio has
        no risk.
    SolveError
        Where no portfolio meets the constraints.
    """
    start = time.perf_counter()
    who = "risk_parity"
    scenarios = scenarios_of_covariance(covariance, who)
    shares = _budgets(budgets, groups, scenarios.assets, who)
    limits = listed(constraints)
    if measure is not None and not isinstance(measure, CVaR):
        raise InputError(f"{who}: measure must be CVaR(beta), or None for volatility, was {measure!r}")
    if target_volatility is not None:
        if limits:
            raise InputError(
                f"{who}: a target volatility and constraints on weights that sum to one exclude each other"
            )
        checked_number(target_volatility, f"{who}: target_volatility", above=0.0)
    form = covariance_form(scenarios)
    variances_above_zero(form.variances(), scenarios.assets, who)
    if limits:
        return _constrained(scenarios, form, shares, measure, limits, who)
    if measure is not None:
        return _tail_parity(scenarios, form, shares, measure, target_volatility, start, who)

    found, steps = newton(form, shares, who)
    weights = _sized(found, form, target_volatility)

    def deviation(w: FloatArray) -> float:
        variance, product = form(w)
        return largest(w * product / (variance * shares) - 1.0)

    return by_rule(
        scenarios,
        "equal risk contributions" if budgets is None else "risk budgets",
        weights,
        deviation,
        start=start,
        constraints=None if target_volatility is None else (Bounds(0.0, np.inf),),
        iterations=steps,
        details={"budgets": pd.Series(shares, scenarios.assets, name="budget")},
    )


def risk_parity_batch(covariances: Mapping[object, pd.DataFrame], budgets: Labelled | None = None) -> pd.DataFrame:
    r"""Risk parity weights for many covariances of the same assets at once, by Newton's method on all of them.

    Parameters
    ----------
    covariances
        Covariance (N x N) by label, such as a date.
    budgets
        As for :func:`risk_parity`, the same for all.

    Returns
    -------
    DataFrame
        Weights, a row for each covariance; contributions equal budgets to 1e-10, relative.

    Raises
    ------
    InputError
        For covariances over other assets than the first, and what :func:`risk_parity` refuses, with its label.
    """
    who = "risk_parity_batch"
    if not isinstance(covariances, Mapping) or not covariances:
        raise InputError(f"{who} takes a mapping from label to covariance, with one at least")
    labels = list(covariances)
    assets = next(iter(covariances.values())).index
    shares = _budgets(budgets, None, assets, who)
    forms = []
    for label, covariance in covariances.items():
        if not isinstance(covariance, pd.DataFrame) or not covariance.index.equals(assets):
            raise InputError(f"{who}: the covariance at {label} is no frame over the assets of the first one, in order")
        form = QuadraticForm(covariance, assets, f"{who}, {label}")
        variances_above_zero(form.variances(), assets, f"{who}, {label}")
        forms.append(form.dense())
    sigma = np.sqrt(np.diagonal(np.stack(forms), axis1=1, axis2=2))
    matrix = np.stack(forms) / (sigma[:, :, None] * sigma[:, None, :])
    x = np.sqrt(shares) * np.ones_like(sigma)
    x /= np.sqrt(np.einsum("bi,bij,bj->b", x, matrix, x))[:, None]
    curvature = np.zeros_like(matrix)
    every = np.arange(len(assets))
    product = np.einsum("bij,bj->bi", matrix, x)
    for _ in range(_ROUNDS):
        off = np.abs(x * product / shares - 1.0).max(axis=1)
        if (off <= 1e-12).all():
            break
        curvature[:, every, every] = shares / x**2
        change = np.linalg.solve(matrix + curvature, (shares / x - product)[:, :, None])[:, :, 0]
        # damped: a full step as soon as it is small against the distance from zero
        decrement = np.abs(change / x).max(axis=1)
        x = x + change / np.maximum(1.0, 1.5 * decrement)[:, None]
        product = np.einsum("bij,bj->bi", matrix, x)
    worst = int(np.argmax(np.abs(x * product / shares - 1.0).max(axis=1)))
    if not np.abs(x[worst] * product[worst] / shares - 1.0).max() <= 1e-10:
        raise InputError(
            f"{who}: under the covariance at {labels[worst]} some long-only portfolio has next to no risk; estimate it "
            "with shrinkage"
        )
    weights = x / sigma
    return pd.DataFrame(weights / weights.sum(axis=1, keepdims=True), index=pd.Index(labels), columns=assets)


def _budgets(
    budgets: Labelled | None, groups: Mapping[str, str] | pd.Series | None, assets: pd.Index, who: str
) -> FloatArray:
    """Positive shares (N,) that sum to one."""
    if groups is None:
        if budgets is None:
            return np.full(len(assets), 1.0 / len(assets))
        values = align(budgets, assets, what=f"{who}: budgets")
        labels: pd.Index = assets
    else:
        group = pd.Series(groups) if not isinstance(groups, pd.Series) else groups
        missing = assets.difference(group.index, sort=False)
        if len(missing):
            raise InputError(f"{who}: groups says nothing about {some(missing)}")
        of = pd.Series(group.reindex(assets).tolist(), index=assets)
        if of.isna().any():
            raise InputError(f"{who}: groups has no label for {some(assets[of.isna()])}")
        labels = pd.Index(of.unique())
        given = dict.fromkeys(labels, 1.0) if budgets is None else dict(budgets)
        unknown = [label for label in given if label not in labels]
        if unknown:
            raise unknown_names("group in budgets", unknown, labels)
        shares = align(given, labels, what=f"{who}: budgets")
        values = pd.Series(shares, labels).reindex(of).to_numpy() / of.map(of.value_counts()).to_numpy()
        labels = assets
    if (values <= 0).any():
        raise InputError(
            f"{who}: budgets must be positive, and those of {some(labels[values <= 0])} are not; leave out assets that "
            "are to carry no risk"
        )
    return values / values.sum()


def _sized(positions: FloatArray, form: QuadraticForm, target_volatility: float | None) -> FloatArray:
    """The positions scaled to a sum of one, or to a volatility."""
    if target_volatility is None:
        return positions / positions.sum()
    return positions * (float(target_volatility) / np.sqrt(form(positions)[0]))


def _tail_parity(
    scenarios: ScenarioSet,
    form: QuadraticForm,
    shares: FloatArray,
    measure: CVaR,
    target_volatility: float | None,
    start: float,
    who: str,
) -> Result:
    """Budgets of CVaR: the minimum of CVaR less the barrier, whose dual tail says what contributes."""
    if scenarios.form is not None:
        raise InputError(f"{who}: contributions to CVaR need scenarios, not a covariance; pass a ScenarioSet")
    problem = Problem(scenarios, -1.0 * measure - LogBarrier(shares), [Bounds(0.0, np.inf)])
    solved = optimize(problem, tolerance=1e-9, raise_on_failure=False)
    if solved.weights is None or solved.certificate is None or not solved.certificate.gap <= 1e-6:
        raise InputError(
            f"{who}: contributions to CVaR at {measure.beta:g} could not be balanced ({solved.message}); a long-only "
            "portfolio may have no loss in these scenarios"
        )
    positions = solved.weights.to_numpy()
    weights = _sized(positions, form, target_volatility)
    chosen = scenarios if measure.scenarios is None else measure.scenarios
    distribution = solved.tail_weights.get(measure.beta)
    if distribution is None:
        distribution = tail(chosen.source.losses(weights), chosen.probabilities, measure.beta).weights
    marginal = -chosen.source.pull((distribution / distribution.sum())[None])[0]

    def deviation(w: FloatArray) -> float:
        part = w * marginal
        return largest(part / (part.sum() * shares) - 1.0)

    return by_rule(
        scenarios,
        f"equal contributions to {measure!r}",
        weights,
        deviation,
        start=start,
        constraints=None if target_volatility is None else (Bounds(0.0, np.inf),),
        iterations=solved.iterations,
        tolerance=TAIL,
        details={
            "budgets": pd.Series(shares, scenarios.assets, name="budget"),
            "tail": pd.Series(distribution, chosen.index, name="tail probability"),
            "contributions": pd.Series(weights * marginal, scenarios.assets, name="contribution"),
        },
    )


def _constrained(
    scenarios: ScenarioSet,
    form: QuadraticForm,
    shares: FloatArray,
    measure: CVaR | None,
    limits: list[Constraint],
    who: str,
) -> Result:
    """Risk less a barrier, over what constraints allow; the barrier weighs what makes the weights sum to one."""
    total = 1.0
    for constraint in [c for c in limits if isinstance(c, Budget)]:
        if constraint.lower is not None or constraint.upper is not None or constraint.total <= 0:
            raise InputError(f"{who}: {constraint.name} must be one positive total")
        total = constraint.total
        limits = [c for c in limits if c is not constraint]
    if not any(isinstance(c, Bounds) for c in limits):
        limits.append(Bounds(0.0, np.inf))
    budget = Budget(total)
    minimum_variance(scenarios, constraints=[*limits, budget])  # says what clashes, if anything does

    risk = Volatility() if measure is None else measure
    barrier = LogBarrier(shares)

    def solved(weight: float, more: list[Constraint]) -> Result:
        return optimize(Problem(scenarios, -1.0 * risk - weight * barrier, [*limits, *more]), tolerance=1e-9)

    def excess(level: float) -> float:
        weights = solved(float(np.exp(level)), []).weights
        assert weights is not None
        return float(weights.sum()) - total

    # without constraints the weights are in proportion to the barrier's weight; begin with that one
    positions, _ = newton(form, shares, who)
    guess = float(np.log(total / positions.sum() * np.sqrt(form(positions)[0])))
    low = high = guess
    lowest = highest = excess(guess)
    width = 0.5
    while lowest > 0 and guess - low < 40:
        high, highest = low, lowest
        low -= width
        lowest, width = excess(low), 2.0 * width
    width = 0.5
    while highest < 0 and high - guess < 40:
        low, lowest = high, highest
        high += width
        highest, width = excess(high), 2.0 * width
    if lowest > 0 or highest < 0:
        raise InputError(
            f"{who}: under these constraints the weights cannot be made to sum to {total:g} by risk budgets; widen the "
            "bounds"
        )
    from scipy.optimize import brentq  # takes an eighth of a second to import

    level = guess if low == high else cast("float", brentq(excess, low, high, xtol=1e-9))
    result = solved(float(np.exp(level)), [budget])
    assert result.weights is not None
    variance, product = form(result.weights.to_numpy())
    result.details["budgets"] = pd.Series(shares, scenarios.assets, name="budget")
    result.details["barrier"] = float(np.exp(level))
    if measure is None:
        contribution = result.weights.to_numpy() * product / np.sqrt(variance)
        result.details["contributions"] = pd.Series(contribution, scenarios.assets, name="contribution")
    return result

r"""Risk measures as tangents: densities q on scenarios with :math:`\rho(w) = \sum_s q_s L_s`, for many portfolios.

Every measure here grows in proportion to the weights, and has a derivative that is a signed measure on scenarios,

.. math:: \rho(w) = \sum_s q_s L_s, \qquad \frac{\partial \rho}{\partial w_i} = -\sum_s q_s R_{si},

so that contributions of assets, :math:`-w_i \sum_s q_s R_{si}`, and of scenarios, :math:`q_s L_s`, add up to it
exactly.

*   CVaR: q is the tail distribution. Rockafellar & Uryasev (2002), J. Banking & Finance 26.
*   Volatility: :math:`q_s = p_s (L_s - \bar L) / \sigma`; tracking error: the same of the active weights.
*   VaR: the derivative is :math:`E(-R_i \mid L = \mathrm{VaR})` (Tasche, 1999; Gouriéroux, Laurent & Scaillet, 2000),
    estimated by local linear regression of returns on losses (Fan, 1992): q is the kernel around the VaR, tilted such
    that it sums to one and has the VaR for its mean loss. A plain kernel mean would miss the VaR, and the parts with
    it.
*   Drawdowns: q counts for each period how much of the drawdowns in question lies after their peaks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pandas as pd

from portfolioopt.blas import quiet_blas
from portfolioopt.errors import InputError
from portfolioopt.estimate.quadratic import QuadraticForm
from portfolioopt.labels import FloatArray, align, checked_number
from portfolioopt.problem import ConditionalDrawdown, CVaR, MaxDrawdown, TrackingError, Volatility
from portfolioopt.scenarios import ScenarioSet, quantile, tail
from portfolioopt.scenarios.tail import check_beta

ROUNDING = 4.0 * np.finfo(np.float64).eps
_CELLS = 1 << 23  # losses held at a time: 64 MiB


@dataclass(frozen=True)
class VaR:
    r"""Value-at-risk at a level, the :math:`\beta`-quantile of the loss, as a measure to split up.

    Parameters
    ----------
    beta
        Confidence level in (0, 1).
    bandwidth
        Standard deviation h of the normal kernel around the VaR, in units of loss (fractions of NAV).
        :math:`1.06\, \sigma\, n^{-1/5}` where None, with n the effective number of scenarios (Silverman, 1986). Larger
        values are steadier and say more about scenarios away from the VaR; zero takes the scenario at the VaR alone,
        the exact derivative of the discrete distribution, which is all noise.
    """

    beta: float = 0.95
    bandwidth: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "beta", check_beta(self.beta))
        if self.bandwidth is not None:
            width = checked_number(self.bandwidth, "VaR: bandwidth", least=0.0)
            object.__setattr__(self, "bandwidth", width)


RiskMeasure: TypeAlias = VaR | CVaR | Volatility | TrackingError | ConditionalDrawdown | MaxDrawdown


@dataclass(frozen=True, eq=False)
class Split:
    """A measure of P portfolios and its tangent.

    Parameters
    ----------
    weights
        What is split (P, N): weights, less those of the benchmark where there is one.
    marginal
        Derivative by each weight (P, N).
    density
        q (P, S); None where only a covariance is known.
    losses
        L (P, S), in the same case.
    """

    weights: FloatArray
    marginal: FloatArray
    density: FloatArray | None
    losses: FloatArray | None


def name_of(measure: RiskMeasure) -> str:
    """What a measure is called in results: "CVaR 95%", "volatility", "maximum drawdown"."""
    match measure:
        case VaR():
            return f"VaR {_percent(measure.beta)}"
        case CVaR():
            return f"{'CVaR' if measure.benchmark is None else 'active CVaR'} {_percent(measure.beta)}"
        case TrackingError():
            return "tracking error"
        case Volatility():
            return "volatility"
        case MaxDrawdown():
            return "maximum drawdown"
        case ConditionalDrawdown():
            return f"conditional drawdown {_percent(measure.beta)}" if measure.beta else "average drawdown"
    raise InputError(
        "measures must be of VaR, CVaR, Volatility, TrackingError, MaxDrawdown and ConditionalDrawdown; there is a "
        f"{measure.__name__ if isinstance(measure, type) else type(measure).__name__} among them"
    )


def scenarios_of(measure: RiskMeasure, scenarios: ScenarioSet) -> ScenarioSet:
    """The set on which a measure looks: its own, or `scenarios`."""
    match measure:
        case CVaR() | Volatility() | TrackingError():
            chosen = measure.scenarios
        case ConditionalDrawdown() | MaxDrawdown():
            chosen = measure.path
        case _:
            chosen = None
    if chosen is None:
        return scenarios
    if not chosen.assets.equals(scenarios.assets):
        raise InputError(f"{name_of(measure)}: its own scenarios must have the assets of the others, in their order")
    return chosen


def split(measure: RiskMeasure, scenarios: ScenarioSet, weights: FloatArray) -> Split:
    """The tangent of a measure at portfolios `weights` (P, N)."""
    name = name_of(measure)
    chosen = scenarios_of(measure, scenarios)
    benchmark = measure.benchmark if isinstance(measure, CVaR | TrackingError) else None
    held = weights if benchmark is None else weights - align(benchmark, scenarios.assets, what=f"{name}: benchmark")
    if isinstance(measure, Volatility | TrackingError):
        form = measure.form(scenarios)
        if form is not None:
            return Split(held, _form_gradient(form, held), None, None)
    if chosen.form is not None:
        raise InputError(f"{name} looks at single scenarios, and this set is known by mean and covariance alone")
    if isinstance(measure, ConditionalDrawdown | MaxDrawdown):
        _check_path(measure, chosen, name)
    losses = losses_of(chosen, held)
    density = np.empty_like(losses)
    for row, loss in enumerate(losses):
        density[row] = _density(measure, chosen, held[row], loss)
    return Split(held, -chosen.source.pull(density), density, losses)


def parts(scenarios: ScenarioSet, portfolios: int) -> Iterator[slice]:
    """Portfolios in runs whose losses fit into memory together."""
    size = max(1, _CELLS // scenarios.n_scenarios)
    for first in range(0, portfolios, size):
        yield slice(first, min(first + size, portfolios))


def losses_of(scenarios: ScenarioSet, weights: FloatArray) -> FloatArray:
    """Losses of P portfolios (P, S), in one pass over the scenarios."""
    if len(weights) == 1:
        return scenarios.source.losses(weights[0])[None]
    losses = np.empty((len(weights), scenarios.n_scenarios))
    with quiet_blas.hold():
        for part, rows in scenarios.source.blocks():
            losses[:, part] = weights @ -rows.T
    return losses


def volatility_density(scenarios: ScenarioSet, weights: FloatArray, losses: FloatArray) -> FloatArray:
    """Q (S,) of the volatility, from the losses of the weights; zero where there is none."""
    p = scenarios.probabilities
    excess = losses - p @ losses
    volatility = float(np.sqrt(p @ excess**2))
    # a spread no larger than the rounding in the portfolio returns is none
    if volatility <= ROUNDING * len(weights) * float(np.abs(weights) @ scenarios.source.largest):
        return np.zeros_like(losses)
    return p * excess / volatility


def shares(contribution: FloatArray) -> FloatArray:
    """Each part over the sum of its row; zero where there is nothing to share out."""
    total = contribution.sum(axis=1, keepdims=True)
    size = np.abs(contribution).sum(axis=1, keepdims=True)
    none = np.abs(total) <= ROUNDING * contribution.shape[1] * size
    return np.where(none, 0.0, contribution / np.where(none, 1.0, total))


def _density(measure: RiskMeasure, scenarios: ScenarioSet, weights: FloatArray, losses: FloatArray) -> FloatArray:
    match measure:
        case CVaR():
            return tail(losses, scenarios.probabilities, measure.beta).weights
        case VaR():
            return _local_linear(measure, losses, scenarios.probabilities)
        case MaxDrawdown() | ConditionalDrawdown():
            return _under_water(measure, losses)
        case _:
            return volatility_density(scenarios, weights, losses)


def _local_linear(measure: VaR, losses: FloatArray, p: FloatArray) -> FloatArray:
    distance = losses - quantile(losses, p, 1.0 - measure.beta)
    width = measure.bandwidth
    if width is None:
        spread = float(np.sqrt(max(p @ distance**2 - (p @ distance) ** 2, 0.0)))
        width = 1.06 * spread * float(p @ p) ** 0.2
    near = p * (np.exp(-0.5 * (distance / width) ** 2) if width > 0.0 else distance == 0.0)
    first, second = float(near @ distance), float(near @ distance**2)
    if second > 0.0:
        near = near * (second - first * distance)
    return near / near.sum()


def _under_water(measure: MaxDrawdown | ConditionalDrawdown, losses: FloatArray) -> FloatArray:
    value = np.concatenate([[0.0], -np.cumsum(losses)])
    peak = np.maximum.accumulate(value)
    since = np.maximum.accumulate(np.where(value == peak, np.arange(len(value)), 0))[1:]
    depth = (peak - value)[1:]
    share = np.zeros(len(depth))
    if isinstance(measure, MaxDrawdown):
        share[int(depth.argmax())] = 1.0
    elif measure.beta == 0.0:
        share[:] = 1.0 / len(depth)
    else:
        share = tail(depth, np.full(len(depth), 1.0 / len(depth)), measure.beta).weights
    # a drawdown is the sum of the losses from the period after its peak to its own
    flow = np.zeros(len(depth) + 1)
    np.add.at(flow, since, share)
    flow[1:] -= share
    within = np.cumsum(flow)[:-1]
    within[np.abs(within) <= ROUNDING * len(within)] = 0.0
    return within


def _form_gradient(form: QuadraticForm, weights: FloatArray) -> FloatArray:
    product = (weights @ form.root) @ form.root.T + weights * form.diagonal
    variance = np.einsum("pn,pn->p", weights, product)
    live = variance > 0.0
    return np.where(live[:, None], product / np.sqrt(np.where(live, variance, 1.0))[:, None], 0.0)


def _check_path(measure: MaxDrawdown | ConditionalDrawdown, chosen: ScenarioSet, name: str) -> None:
    dated = isinstance(chosen.index, pd.DatetimeIndex | pd.PeriodIndex) and chosen.index.is_monotonic_increasing
    if measure.path is None and not dated:
        raise InputError(
            f"{name} needs scenarios that follow each other in time, and these carry no dates in order; pass "
            "path=ScenarioSet(history) to the measure"
        )


def _percent(level: float) -> str:
    return f"{100.0 * level:.12g}%"

r"""What the optimal objective gains per unit of every input, from one certified result, without solving again.

By the envelope theorem the derivative of the optimal value :math:`f^*` in a parameter :math:`p` is that of the
Lagrangian at the optimal weights and multipliers, :math:`df^*/dp = \partial L/\partial p`. The optimum may be a vertex:
where its multipliers are unique the derivative is exact, and where they are not it is one of the supergradients. No
smoothing is involved.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.problem import ExpectedReturn, ReturnTarget, TradeLimit
from portfolioopt.solve import Result

FloatArray: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Sensitivities:
    """Derivatives of the maximised objective, each per unit of the input it is in."""

    terms: pd.Series
    """By term, in its weight: how much of a reward is added, or of a risk or cost subtracted."""
    limits: pd.Series
    """By line of the constraint report, in its limit; that of a binding lower limit is negative, for raising hurts."""
    mean: pd.Series
    """By asset, in its expected return, wherever the problem looks at expected returns."""
    holdings: pd.Series | None
    """By asset, in the weight held before trading; None without holdings."""
    probabilities: pd.Series
    """By scenario, in its probability, taken from all scenarios in proportion."""
    scenarios: pd.Series
    """By scenario, in the return of the portfolio there (S,)."""
    weights: pd.Series
    """The weights of the result."""

    @property
    def returns(self) -> pd.DataFrame:
        """By scenario and asset, in that return (S, N): `scenarios` times `weights`."""
        rows = np.outer(self.scenarios.to_numpy(), self.weights.to_numpy())
        return pd.DataFrame(rows, index=self.scenarios.index, columns=self.weights.index)


def sensitivities(result: Result) -> Sensitivities:
    """Derivatives of the optimal objective of a certified result (see the module's text).

    Raises
    ------
    InputError
        Where there is no portfolio, or the problem has parts whose multipliers are not kept: measures that are not
        piecewise linear, counted assets, blocks over other scenarios.
    """
    evaluation = result._evaluation
    if evaluation is None or result.weights is None:
        raise InputError(f"there is no portfolio to take derivatives of: {result.message}")
    problem = result.problem
    compiled = problem.compiled
    if compiled.curves or compiled.integer or not compiled.own_rows:
        raise InputError("derivatives of the objective need a problem of CVaR of its own scenarios, rewards and costs")
    w = result.weights.to_numpy(dtype=np.float64)
    m, p = evaluation.multipliers, compiled.program
    scenarios = problem.scenarios
    assets, index = scenarios.assets, scenarios.index
    probabilities = scenarios.probabilities

    parts = problem.objective.parts
    values = evaluation.term_values
    labels = [repr(term) for _, term in parts]
    terms = pd.Series(
        [-v if t.penalty else v for (_, t), v in zip(parts, values, strict=False)], labels, name="objective"
    )

    frame = result.constraints
    limits = frame["shadow_price"] / 100.0 * np.where(frame["sense"] == ">=", -1.0, 1.0)

    # expected returns: w times the coefficients, and where a target prices them, that price
    rewards = [(c, t) for c, t in parts if isinstance(t, ExpectedReturn)]
    coefficient = sum(c for c, _ in rewards)
    follow = sum(c for c, t in rewards if t.mean is None)
    for c in problem.constraints:
        if isinstance(c, ReturnTarget):
            row = next(int(g.index[0]) for g in compiled.lines if g.constraint == c.name)
            coefficient -= float(m.row[row])
            follow -= float(m.row[row]) if c.mean is None else 0.0
    mean = coefficient * w

    q = m.scenario.sum(axis=0)
    losses = scenarios.source.losses(w)
    level = p.cvar_weight + m.cvar_cap
    gain = follow * -losses
    for beta, block in compiled.levels.items():
        var = evaluation.tails[beta].var
        gain = gain - level[block] / (1.0 - beta) * np.maximum(losses - var, 0.0)
    gain = gain - probabilities @ gain

    holdings = None
    if compiled.holdings is not None:
        holdings = pd.Series(_holdings(result, w), assets, name="objective")
    return Sensitivities(
        terms=terms,
        limits=limits.rename("objective"),
        mean=pd.Series(mean, assets, name="objective"),
        holdings=holdings,
        probabilities=pd.Series(gain, index, name="objective"),
        scenarios=pd.Series(q + probabilities * follow, index, name="objective"),
        weights=result.weights,
    )


def _holdings(result: Result, w: FloatArray) -> FloatArray:
    """The slope of costs and turnover at the holdings is what stationarity leaves for it."""
    evaluation, compiled = result._evaluation, result.problem.compiled
    assert evaluation is not None
    assert compiled.holdings is not None
    m, p, n, held = evaluation.multipliers, compiled.program, compiled.n_assets, compiled.holdings
    level = p.l1_weight + m.l1_cap
    price = (level[:, None] * p.l1_rate).sum(axis=0)[:n]
    reduced = p.linear + (p.cvar_weight + m.cvar_cap) @ p.cvar_linear + level @ p.l1_linear + m.row @ p.rows
    reduced = (reduced - compiled.source.pull(m.scenario.sum(axis=0)[None])[0])[:n]
    traded = np.abs(w - held) > 1e-9
    slope = np.where(traded, price * np.sign(w - held), np.clip(-reduced, -price, price))
    for c in result.problem.constraints:
        if isinstance(c, TradeLimit):
            for group in compiled.lines:
                if group.constraint == c.name:
                    i, room = group.index, group.limit
                    slope[i] += np.where(p.upper[i] == held[i] + room, m.upper[i], 0.0)
                    slope[i] -= np.where(p.lower[i] == held[i] - room, m.lower[i], 0.0)
    return slope

"""Instances every solver is timed on: fat-tailed factor scenarios, utility objective, long-only, fully invested."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


class Instance(NamedTuple):
    """Maximise mean'w - aversion * CVaR_beta(-R w) over 0 <= w <= cap, 1'w = 1."""

    returns: FloatArray  # (S, N), daily
    mean: FloatArray  # (N,)
    beta: float
    aversion: float
    cap: float

    def objective(self, weights: FloatArray) -> float:
        """The exact objective at the weights, by sorting the losses; shares no code with any solver."""
        losses = np.sort(-self.returns @ weights)[::-1]
        tail = (1.0 - self.beta) * len(losses)
        whole = int(np.floor(tail + 1e-9))
        total = losses[:whole].sum()
        if tail - whole > 1e-9:
            total += (tail - whole) * losses[whole]
        return float(self.mean @ weights - self.aversion * total / tail)

    def violation(self, weights: FloatArray) -> float:
        """Largest violation of budget and bounds, in units of weight."""
        return float(max(abs(weights.sum() - 1.0), (-weights).max(initial=0.0), (weights - self.cap).max(initial=0.0)))


def factor_t(scenarios: int, assets: int, *, seed: int = 0) -> Instance:
    """Daily returns from five Student-t(4) factors with one market, t(4) idiosyncratic noise and small means."""
    rng = np.random.default_rng(np.random.PCG64(seed))
    exposures = np.hstack([np.ones((assets, 1)), 0.4 * rng.standard_normal((assets, 4))])
    factors = rng.standard_t(4, (scenarios, 5)) * np.array([0.008, 0.004, 0.004, 0.004, 0.004])
    noise = rng.standard_t(4, (scenarios, assets)) * rng.uniform(0.006, 0.015, assets)
    returns = factors @ exposures.T + noise + rng.normal(4e-4, 3e-4, assets)
    return Instance(returns, returns.mean(axis=0), beta=0.95, aversion=1.0, cap=max(0.1, 4.0 / assets))

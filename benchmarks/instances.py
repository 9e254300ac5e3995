"""What every solver is timed on: scenarios, four problems over them, and the judge of every answer.

The judge recomputes objective and violations from the weights alone; it shares no code with any solver.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

import portfolioopt as po

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

PROBLEMS = {
    "P1": "mean - CVaR, caps",
    "P2": "P1 with sector limits and turnover",
    "P3": "least CVaR for a return target",
    "P4": "most return for a CVaR limit",
}
DATA = ("factor_t", "bootstrap")
BETA = 0.95
EXACT = 1e-6
"""Largest relative gap, and largest violation, of an answer that counts as exact."""
CLEAN = 1e-7
"""Largest violation of an answer that may set the best known objective."""


@dataclass(frozen=True, eq=False)
class Instance:
    """Maximise reward * mean'w - aversion * CVaR_beta(-R w) over 0 <= w <= cap, 1'w = 1, and the limits that are set.

    Scenarios are equally likely. Weights are fractions of NAV, returns fractions per day (`factor_t`) or per 21 days
    (`bootstrap`).
    """

    returns: FloatArray  # (S, N)
    mean: FloatArray  # (N,)
    cap: float
    reward: float = 1.0
    aversion: float = 1.0
    beta: float = BETA
    sector: IntArray | None = None  # (N,), number of the sector
    sector_cap: FloatArray | None = None  # (G,), largest weight of each sector
    holdings: FloatArray | None = None  # (N,)
    turnover: float | None = None  # largest sum of |w - holdings|
    target: float | None = None  # least mean'w
    cvar_limit: float | None = None

    @property
    def scenarios(self) -> int:
        return self.returns.shape[0]

    @property
    def assets(self) -> int:
        return self.returns.shape[1]

    @property
    def names(self) -> list[str]:
        """Labels of the assets, for the libraries that want some."""
        return [f"A{i:04d}" for i in range(self.assets)]

    @property
    def sector_rows(self) -> FloatArray:
        """Membership (G, N): one where the asset is of the sector."""
        if self.sector is None or self.sector_cap is None:
            return np.zeros((0, self.assets))
        return (self.sector == np.arange(len(self.sector_cap))[:, None]).astype(np.float64)

    def cvar(self, weights: FloatArray) -> float:
        """Mean of the worst 1 - beta of the scenarios, a fraction of one included."""
        tail = (1.0 - self.beta) * self.scenarios
        whole = int(np.floor(tail + 1e-9))
        losses = np.sort(-self.returns @ weights)[::-1]
        total = float(losses[:whole].sum())
        if tail - whole > 1e-9:
            total += (tail - whole) * float(losses[whole])
        return total / tail

    def objective(self, weights: FloatArray) -> float:
        """The maximised objective."""
        value = self.reward * float(self.mean @ weights)
        return value - self.aversion * self.cvar(weights) if self.aversion else value

    def violations(self, weights: FloatArray) -> dict[str, float]:
        """How far each limit is exceeded; zero or less where it holds.

        In units of weight, but relative to the limit for CVaR and to the largest mean for the return target.
        """
        found = {
            "budget": abs(float(weights.sum()) - 1.0),
            "lower bound": float((-weights).max()),
            "cap": float((weights - self.cap).max()),
        }
        if self.sector_cap is not None:
            found["sector"] = float((self.sector_rows @ weights - self.sector_cap).max())
        if self.turnover is not None and self.holdings is not None:
            found["turnover"] = float(np.abs(weights - self.holdings).sum()) - self.turnover
        if self.target is not None:
            found["return target"] = (self.target - float(self.mean @ weights)) / float(np.abs(self.mean).max())
        if self.cvar_limit is not None:
            found["CVaR limit"] = (self.cvar(weights) - self.cvar_limit) / abs(self.cvar_limit)
        return found

    def violation(self, weights: FloatArray) -> float:
        """The largest of `violations`; infinite for weights that are no numbers."""
        if not np.isfinite(weights).all():
            return np.inf
        return max(0.0, *self.violations(weights).values())


def make(problem: str, data: str, scenarios: int, assets: int, *, seed: int = 0) -> Instance:
    """One of the four problems on one of the two kinds of data; the same one every time."""
    returns, sector = factor_t(scenarios, assets, seed=seed) if data == "factor_t" else bootstrap(scenarios, seed=seed)
    if returns.shape[1] != assets:
        raise ValueError(f"{data} has {returns.shape[1]} assets, not {assets}")
    return pose(problem, returns, sector)


def pose(problem: str, returns: FloatArray, sector: IntArray) -> Instance:
    """A problem over given scenarios, with limits that bind and that some portfolio is known to meet."""
    assets = returns.shape[1]
    plain = Instance(returns, returns.mean(axis=0), cap=max(0.1, 4.0 / assets))
    equal = np.full(assets, 1.0 / assets)
    match problem:
        case "P1":
            return plain
        case "P2":
            shares = np.bincount(sector) / assets
            return replace(plain, sector=sector, sector_cap=1.25 * shares, holdings=equal, turnover=0.8)
        case "P3":
            target = 0.5 * (float(plain.mean @ equal) + best_mean(plain))
            return replace(plain, reward=0.0, target=target)
        case "P4":
            return replace(plain, aversion=0.0, cvar_limit=plain.cvar(equal))
        case _:
            raise ValueError(f"no problem {problem!r}; there are {', '.join(PROBLEMS)}")


def best_mean(instance: Instance) -> float:
    """The largest mean that budget and caps allow: the best assets, each at its cap."""
    left, total = 1.0, 0.0
    for mean in np.sort(instance.mean)[::-1]:
        weight = min(left, instance.cap)
        left, total = left - weight, total + weight * float(mean)
    return total


def factor_t(scenarios: int, assets: int, *, seed: int = 0) -> tuple[FloatArray, IntArray]:
    """Daily returns from five Student-t(4) factors with one market, t(4) idiosyncratic noise and small means."""
    rng = np.random.default_rng(np.random.PCG64(seed))
    exposures = np.hstack([np.ones((assets, 1)), 0.4 * rng.standard_normal((assets, 4))])
    factors = rng.standard_t(4, (scenarios, 5)) * np.array([0.008, 0.004, 0.004, 0.004, 0.004])
    returns = np.asarray(rng.standard_t(4, (scenarios, assets)), dtype=np.float64)
    returns *= rng.uniform(0.006, 0.015, assets)
    returns += factors @ exposures.T
    returns += rng.normal(4e-4, 3e-4, assets)
    return returns, (np.arange(assets) % max(2, min(10, assets // 5))).astype(np.int64)


def bootstrap(scenarios: int, *, seed: int = 0) -> tuple[FloatArray, IntArray]:
    """21-day returns of the 20 bundled stocks, from blocks of their daily history."""
    prices = po.data.sample_prices()
    drawn = po.scenarios.block_bootstrap(po.data.simple_returns(prices), scenarios, seed=seed, horizon=21)
    _, sector = np.unique(po.data.sample_sectors()[prices.columns].to_numpy(), return_inverse=True)
    return np.array(drawn.matrix, dtype=np.float64), sector.astype(np.int64)

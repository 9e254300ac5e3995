"""A thousand problems of many kinds and sizes, degenerate and badly scaled, and the optimality conditions of each.

The conditions are put together from what a result says in public: weights, shadow prices, tail distributions. Nothing
of the library's arrays is looked at. What they miss by is an upper bound on what any other portfolio could gain, so a
result that is called optimal wrongly cannot pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

import portfolioopt as po

from .instances import weighted_cvar

FloatArray = npt.NDArray[np.float64]
Gradient = Callable[[str, FloatArray], FloatArray]

DRAWS = 20
SIZES = [
    (50, 2), (50, 30), (120, 8), (500, 20), (1000, 50), (300, 200), (2000, 100), (1000, 500), (10_000, 50),
    (50_000, 20),
]  # fmt: skip
SMALLER = [(50, 2), (50, 30), (500, 20), (1000, 50), (2000, 100)]
FLAWS = [
    "none", "few different scenarios", "an asset without risk", "twins", "impossible scenarios", "rounded returns",
    "assets of very different size", "one crash", "tiny returns", "huge returns",
]  # fmt: skip


class Case(NamedTuple):
    """A problem, and what its terms and constraints do at weights."""

    problem: po.Problem
    returns: FloatArray
    probabilities: FloatArray
    smooth: Callable[[FloatArray], tuple[FloatArray, list[float]]]
    """Gradient of the part of the objective without kinks, and the values of its terms with their coefficients."""
    tails: dict[float, float]
    """Weight of CVaR in the objective by level; zero for levels that are only limited."""
    rate: FloatArray
    """Cost of trading per unit by asset."""
    rows: dict[str, Gradient]
    """Gradient of a line by the name of its constraint."""


def market(rng: np.random.Generator, s: int, n: int, flaw: str) -> tuple[FloatArray, FloatArray]:
    """Returns and probabilities."""
    loadings = rng.normal(1.0, 0.5, (3, n))
    returns = 0.006 * rng.standard_t(4, size=(s, 3)) @ loadings + 0.01 * rng.standard_t(5, size=(s, n))
    returns = returns + 0.0015 * rng.normal(size=n)
    p = np.full(s, 1.0 / s)
    match flaw:
        case "few different scenarios":
            returns = returns[rng.integers(0, max(s // 10, 5), s)]
        case "an asset without risk":
            returns[:, 0] = 0.0002
        case "twins":
            returns[:, -1] = returns[:, 0]
        case "impossible scenarios":
            p = rng.dirichlet(np.full(s, 0.3))
            p[rng.random(s) < 0.3] = 0.0
            p = p / p.sum()
        case "rounded returns":
            returns = returns.round(2)
        case "assets of very different size":
            returns = returns * 10.0 ** rng.uniform(-3.0, 1.0, n)
        case "one crash":
            returns[rng.integers(s)] = -0.6
        case "tiny returns":
            returns = returns * 1e-5
        case "huge returns":
            returns = returns * 1e2
    return returns, p


def make(kind: str, size: tuple[int, int], draw: int) -> Case:
    s, n = size
    rng = np.random.default_rng([20_261_121, KINDS.index(kind), s, n, draw])
    returns, p = market(rng, s, n, FLAWS[draw % len(FLAWS)])
    assets = pd.Index([f"A{i}" for i in range(n)])
    scenarios = po.ScenarioSet(pd.DataFrame(returns, columns=assets), p)
    p = np.asarray(scenarios.probabilities)
    anchor, held = rng.dirichlet(np.ones(n)), rng.dirichlet(np.ones(n))
    mean = p @ returns
    unit = float(np.sqrt(np.mean(returns**2)))
    top = max(0.3, float(anchor.max()), 1.5 / n)
    sectors = np.arange(n) % 4
    eye = np.eye(n)
    rows: dict[str, Gradient] = {"Budget": lambda line, w: np.ones(n)}
    rows["Bounds"] = lambda line, w: eye[assets.get_loc(line[7:-1])]
    limits: list[object] = [po.Budget()]
    objective: po.Objective | po.Expression = po.ExpectedReturn()
    tails: dict[float, float] = {}
    rate = np.zeros(n)
    gain = [1.0]
    smooth_more: Callable[[FloatArray], tuple[FloatArray, list[float]]] = lambda w: (np.zeros(n), [])

    def cost() -> po.Expression:
        bps = rng.uniform(1.0, 20.0, n) * unit / 0.01
        rate[:] = bps / 1e4
        return po.ProportionalCost(pd.Series(bps, assets))

    def groups() -> None:
        labels = pd.Series([f"g{i}" for i in sectors], assets)
        upper = {f"g{i}": float(anchor[sectors == i].sum() + rng.uniform(0.0, 0.2)) for i in range(min(4, n))}
        limits.append(po.GroupLimit(labels, upper=upper, unit_check=False))
        rows["GroupLimit"] = lambda line, w: (labels == line[11:-1]).to_numpy(dtype=float)

    def turnover() -> None:
        limits.append(po.Turnover(float(np.abs(anchor - held).sum()) * rng.uniform(1.0, 1.2)))

    def cvar_limit(beta: float) -> None:
        at = weighted_cvar(-returns @ anchor, p, beta)
        limits.append(po.CVaRLimit(beta, at + rng.uniform(0.02, 0.3) * unit, unit_check=False))
        tails.setdefault(beta, 0.0)

    low = 0.0
    match kind:
        case "utility":
            tails[0.95] = rng.uniform(0.1, 2.0)
            objective = objective - tails[0.95] * po.CVaR(0.95) - cost()
            groups()
            turnover()
        case "two tails":
            low = -0.2
            tails |= {0.9: rng.uniform(0.1, 1.0), 0.99: rng.uniform(0.1, 1.0)}
            objective = objective - tails[0.9] * po.CVaR(0.9) - tails[0.99] * po.CVaR(0.99)
            cvar_limit(0.95)
        case "target":
            tails[0.95] = 1.0
            gain[0] = 0.0
            objective = -po.CVaR(0.95)
            limits.append(po.ReturnTarget(float(mean @ anchor) + rng.uniform(-0.2, 0.0) * float(np.ptp(mean))))
            rows["ReturnTarget"] = lambda line, w: mean
            room = np.abs(anchor - held) + rng.uniform(0.0, 0.1, n)
            limits.append(po.TradeLimit(pd.Series(room, assets)))
            rows["TradeLimit"] = lambda line, w: eye[i := assets.get_loc(line[11:-1])] * np.sign(w[i] - held[i])
        case "most return":
            cvar_limit(0.99)
            groups()
            turnover()
        case "variance":
            tails[0.9] = rng.uniform(0.1, 1.0)
            b, f, d = (
                rng.normal(1.0, 0.5, (n, 2)),
                np.diag(rng.uniform(0.2, 1.0, 2)) * unit**2,
                rng.uniform(0.2, 1.0, n),
            )
            q = b @ f @ b.T + np.diag(d * unit**2)
            factors = ["x", "y"]
            model = po.FactorCovariance(
                pd.DataFrame(b, assets, factors), pd.DataFrame(f, factors, factors), pd.Series(d * unit**2, assets)
            )
            aversion = rng.uniform(0.1, 3.0) / unit
            objective = objective - tails[0.9] * po.CVaR(0.9) - aversion * po.Variance(model)
            at = float(b[:, 0] @ anchor)
            limits.append(
                po.FactorExposure(pd.DataFrame(b[:, :1], assets, ["x"]), lower={"x": at}, upper={"x": at + 0.2})
            )
            rows["FactorExposure"] = lambda line, w: b[:, 0]
            smooth_more = lambda w: (-2.0 * aversion * q @ w, [-aversion * float(w @ q @ w)])
        case "volatility limit":
            q = np.atleast_2d(np.cov(returns.T, aweights=p if (p > 0).all() else None, ddof=0)) + 1e-4 * unit**2 * eye
            at = float(np.sqrt(anchor @ q @ anchor)) * rng.uniform(1.01, 1.2)
            impact = rng.uniform(0.05, 0.5) * unit
            objective = objective - po.PowerCost(impact)
            limits.append(
                po.Limit(po.Volatility(pd.DataFrame(q, assets, assets)), upper=at, unit_check=False, name="Risk")
            )
            rows["Risk"] = lambda line, w: q @ w / np.sqrt(w @ q @ w)

            def impact_of(w: FloatArray) -> tuple[FloatArray, list[float]]:
                d = np.abs(w - held)
                return -1.5 * impact * np.sqrt(d) * np.sign(w - held), [-impact * float((d**1.5).sum())]

            smooth_more = impact_of

    limits.append(po.Bounds(low, top, unit_check=False))

    def smooth(w: FloatArray) -> tuple[FloatArray, list[float]]:
        gradient, values = smooth_more(w)
        return gain[0] * mean + gradient, [gain[0] * float(mean @ w), *values]

    problem = po.Problem(scenarios, objective, limits, holdings=pd.Series(held, assets))  # type: ignore[arg-type]
    return Case(problem, returns, p, smooth, tails, rate, rows)


KINDS = ["utility", "two tails", "target", "most return", "variance", "volatility limit"]
CURVED = KINDS[4:]
PAIRS = [(kind, size) for kind in KINDS for size in (SMALLER if kind in CURVED else SIZES)]


def missed(case: Case, result: po.Result) -> float:
    """By how much the optimality conditions fail, as a bound on what any portfolio could gain, relative to scale."""
    assert result.weights is not None
    w = result.weights.to_numpy()
    held = case.problem.holdings
    assert held is not None
    d = w - held.to_numpy()
    losses = -case.returns @ w
    gradient, values = case.smooth(w)
    values = [*values, -float(case.rate @ np.abs(d))]
    lines = result.constraints
    error = 0.0

    capped = {float(name[10:-1]): line for name, line in lines.iterrows() if str(name).startswith("CVaRLimit")}  # type: ignore[index]
    for beta, weight in case.tails.items():
        price = float(capped[beta]["shadow_price"]) / 100.0 if beta in capped else 0.0
        assert price >= 0.0
        cvar = weighted_cvar(losses, case.probabilities, beta)
        values.append(-weight * cvar)
        if weight + price <= 1e-9 * max(1.0, *case.tails.values()):
            continue
        q = result.tail_weights[beta]
        assert q.min() >= -1e-12
        assert (q <= case.probabilities / (1.0 - beta) * (1.0 + 1e-7) + 1e-12).all()
        assert abs(q.sum() - 1.0) <= 1e-9
        error += (weight + price) * abs(cvar - float(q @ losses))
        gradient = gradient + (weight + price) * (q @ case.returns)

    traded = case.rate.copy()
    for name, line in lines.iterrows():
        price = float(line["shadow_price"]) / 100.0
        if price == 0.0:
            continue
        assert line["sense"] == "==" or price >= 0.0
        error += abs(price * float(line["slack"]))
        constraint = str(line["constraint"])
        if constraint.startswith("CVaRLimit"):
            continue
        if constraint == "Turnover":
            traded += price
            continue
        sign = -1.0 if line["sense"] == ">=" else 1.0
        gradient = gradient - sign * price * case.rows[constraint](str(name), w)

    # what is left has to be a price of trading: rate * sign(d), or anything between where nothing is traded
    near = np.abs(d) <= 1e-9
    left = np.where(near, np.maximum(np.abs(gradient) - traded, 0.0), np.abs(gradient - traded * np.sign(d)))
    bounds = next(c for c in case.problem.constraints if isinstance(c, po.Bounds))
    reach = float(bounds.upper) - float(bounds.lower)  # type: ignore[arg-type]
    error += float(left.sum()) * reach
    scale = max(abs(sum(values)), *(abs(value) for value in values))
    assert result.objective == pytest.approx(sum(values), rel=1e-9, abs=1e-9 * scale)
    return error / scale if scale > 0 else error


def violated(case: Case, w: FloatArray) -> float:
    """The largest violation, relative to the size of what is limited."""
    found = [abs(w.sum() - 1.0)]
    held = case.problem.holdings
    assert held is not None
    d = np.abs(w - held.to_numpy())
    assets = held.index
    unit = float(np.sqrt(np.mean(case.returns**2)))
    for c in case.problem.constraints:
        match c:
            case po.Bounds():
                found += [float(c.lower) - w.min(), w.max() - float(c.upper)]  # type: ignore[arg-type]
            case po.GroupLimit():
                own = np.array([c.labels[asset] for asset in assets])
                found += [w[own == label].sum() - limit for label, limit in (c.upper or {}).items()]
            case po.Turnover():
                found.append(d.sum() - c.limit)
            case po.TradeLimit():
                found.append(float((d - c.limit.to_numpy()).max()))  # type: ignore[union-attr]
            case po.CVaRLimit():
                found.append(
                    (weighted_cvar(-case.returns @ w, case.probabilities, c.beta) - c.limit) / max(unit, c.limit)
                )
            case po.ReturnTarget():
                mean = case.probabilities @ case.returns
                found.append((c.target - mean @ w) / float(np.abs(mean).max()))
            case po.FactorExposure():
                value = float(c.exposures["x"].to_numpy() @ w)
                assert c.lower is not None
                assert c.upper is not None
                found += [c.lower["x"] - value, value - c.upper["x"]]
            case po.Limit():
                assert c.upper is not None
                q = c.measure.parts[0][1].covariance.to_numpy()  # type: ignore[attr-defined]
                found.append((np.sqrt(w @ q @ w) - c.upper) / c.upper)
    return float(max(found))


def quick(kind: str, size: tuple[int, int]) -> bool:
    return (kind, size) in {("utility", (120, 8)), ("variance", (50, 30))}


@pytest.mark.parametrize(
    ("kind", "size"),
    [pytest.param(k, s, marks=() if quick(k, s) else pytest.mark.slow, id=f"{k}-{s[0]}x{s[1]}") for k, s in PAIRS],
)
def test_every_optimum_meets_the_conditions_of_one(kind: str, size: tuple[int, int]) -> None:
    assert len(PAIRS) * DRAWS >= 1000
    stalled = []
    for draw in range(DRAWS):
        case = make(kind, size, draw)
        result = po.optimize(case.problem, raise_on_failure=False)
        # a portfolio that meets all constraints exists
        assert result.status in (po.Status.optimal, po.Status.stalled), (draw, result.message)
        if result.status is po.Status.stalled:
            stalled.append(f"{draw} ({FLAWS[draw % len(FLAWS)]}): {result.message[:120]}")
            continue
        assert result.weights is not None
        assert violated(case, result.weights.to_numpy()) <= 2e-8, draw
        # where something bends, weights worth 1e-6 less than the best have slopes that differ by the root of that
        most = 1e-3 if kind in CURVED else 2e-6
        assert missed(case, result) <= most, (draw, FLAWS[draw % len(FLAWS)])
    assert not stalled, "\n".join(stalled)


def test_the_conditions_notice_another_portfolio() -> None:
    case = make("utility", (120, 8), 0)
    result = po.optimize(case.problem)
    assert result.weights is not None
    result.weights = result.weights + 1e-3 * (np.arange(8) - 3.5)
    with pytest.raises(AssertionError):
        assert missed(case, result) <= 2e-6

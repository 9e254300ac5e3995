"""Every measure that skfolio or Riskfolio-Lib has as well: the same value, the same optimum, or how they differ.

`KIN` says what a peer computes, as a function of what portfolioopt reports at the same weights. Where probabilities are
not equal, skfolio's Bessel correction is 1 / (1 - sum p^2), which is S / (S - 1) where they are.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

import portfolioopt as po

FloatArray = npt.NDArray[np.float64]

S, N = 90, 5
BETA = 0.87  # the tail holds 11.7 of 90 scenarios
TARGET = 0.0005
ASSETS = pd.Index([f"A{i}" for i in range(N)])
LONG_ONLY = [po.Budget(), po.Bounds()]
SEEDS = [pytest.param(0), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 4))]

pytestmark = pytest.mark.filterwarnings("ignore")  # of other people's packages


class Market(NamedTuple):
    """Returns of a path of days, probabilities for them, and a portfolio."""

    R: FloatArray
    p: FloatArray
    w: FloatArray

    @property
    def frame(self) -> pd.DataFrame:
        return pd.DataFrame(self.R, pd.bdate_range("2024-01-01", periods=S), ASSETS)

    def scenarios(self, *, weighted: bool = False) -> po.ScenarioSet:
        return po.ScenarioSet(self.frame, self.p if weighted else None)


@cache
def market(seed: int) -> Market:
    rng = np.random.default_rng(seed)
    R = 0.008 * rng.standard_t(4, size=(S, 1)) * rng.uniform(0.5, 1.5, N) + 0.008 * rng.standard_t(4, size=(S, N))
    R += 0.003 * rng.uniform(size=N)
    return Market(R, rng.dirichlet(np.full(S, 3.0)), rng.dirichlet(np.ones(N)))


def reported(seed: int, risk: Any, w: FloatArray, *, weighted: bool = False) -> float:
    """What portfolioopt says the risk of these weights is."""
    fixed = pd.Series(w, ASSETS)
    limits = [po.Budget(float(w.sum())), po.Bounds(fixed, fixed)]
    return -po.optimize(po.Problem(market(seed).scenarios(weighted=weighted), -risk, limits)).objective


@cache
def least(seed: int, name: str) -> tuple[float, FloatArray]:
    """Least risk of a long-only portfolio, and the portfolio."""
    result = po.optimize(po.Problem(market(seed).scenarios(), -KIN[name].ours, LONG_ONLY))
    assert result.weights is not None
    return -result.objective, result.weights.to_numpy()


class Kin(NamedTuple):
    """A measure in three libraries."""

    ours: Any
    skfolio: str
    """Name of the risk measure, and of the function that computes it."""
    arguments: dict[str, float]
    """What the function needs beyond returns, and MeanRisk under these names (prefixed for levels)."""
    relation: Callable[[float, float], float]
    """Peers' value from ours and the sum of squared probabilities."""
    riskfolio: str
    sharper: Callable[[float, float], float] | None = None
    """The same for Riskfolio-Lib, where it is another one."""


def same(x: float, _: float) -> float:
    return x


def bessel(x: float, concentration: float) -> float:
    return x / (1.0 - concentration)


def root_bessel(x: float, concentration: float) -> float:
    return x / np.sqrt(1.0 - concentration)


def root_bessel_squared(x: float, concentration: float) -> float:
    return x**2 / (1.0 - concentration)


LEVEL = {"beta": BETA}
FLOOR = {"min_acceptable_return": TARGET}
KIN = {
    "variance": Kin(po.Variance(), "variance", {}, bessel, "MV", lambda x, c: np.sqrt(bessel(x, c))),
    "volatility": Kin(po.Volatility(), "standard_deviation", {}, root_bessel, "MV"),
    "semi-deviation": Kin(po.SemiDeviation(), "semi_deviation", {}, root_bessel, "MSV"),
    "semi-variance": Kin(po.SemiDeviation(), "semi_variance", {}, root_bessel_squared, "MSV", root_bessel),
    "below a target": Kin(po.SemiDeviation(TARGET), "semi_deviation", FLOOR, root_bessel, "SLPM"),
    "MAD": Kin(po.MeanAbsoluteDeviation(), "mean_absolute_deviation", {}, same, "MAD"),
    "first moment": Kin(po.ExpectedShortfallBelow(TARGET), "first_lower_partial_moment", FLOOR, same, "FLPM"),
    "CVaR": Kin(po.CVaR(BETA), "cvar", LEVEL, same, "CVaR"),
    "EVaR": Kin(po.EntropicVaR(BETA), "evar", LEVEL, same, "EVaR"),
    "worst": Kin(po.WorstLoss(), "worst_realization", {}, same, "WR"),
}
PATHS = {
    "max drawdown": Kin(po.MaxDrawdown(), "max_drawdown", {}, same, "MDD"),
    "CDaR": Kin(po.ConditionalDrawdown(BETA), "cdar", LEVEL, same, "CDaR"),
    "average drawdown": Kin(po.ConditionalDrawdown(0.0), "average_drawdown", {}, same, "ADD"),
}
KIN |= PATHS
UNWEIGHTED = {"worst", *PATHS}
# each of these two compiles a kernel of its own
DEAR = {"below a target", "first moment"}
NAMES = [pytest.param(name, marks=pytest.mark.slow if name in DEAR else ()) for name in KIN]


def in_skfolio(name: str, m: Market, w: FloatArray, p: FloatArray | None = None) -> float:
    """The value by skfolio's own function."""
    measures = pytest.importorskip("skfolio.measures")
    kin = KIN[name]
    x = m.R @ w
    if name in PATHS:
        x = measures.get_drawdowns(x)
    arguments: dict[str, Any] = dict(kin.arguments)
    if p is not None:
        arguments["sample_weight"] = p
    return float(getattr(measures, kin.skfolio)(x, **arguments))


def in_riskfolio(name: str, m: Market, w: FloatArray) -> float:
    """The value by the function that Riskfolio-Lib's reports call."""
    peer = pytest.importorskip("riskfolio")
    frame = pd.DataFrame(w[:, None], ASSETS, ["weights"])
    rate = KIN[name].arguments.get("min_acceptable_return", 0.0)
    return float(
        peer.Sharpe_Risk(m.frame, w=frame, cov=m.frame.cov(), rm=KIN[name].riskfolio, rf=rate, alpha=1.0 - BETA)
    )


# -- skfolio ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", NAMES)
def test_values_agree_with_skfolio(name: str, seed: int) -> None:
    m, kin = market(seed), KIN[name]
    ours = reported(seed, kin.ours, m.w)
    assert in_skfolio(name, m, m.w) == pytest.approx(kin.relation(ours, 1.0 / S), rel=1e-8)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in DEAR else ()) for n in KIN if n not in UNWEIGHTED]
)
def test_values_under_probabilities_agree_with_skfolio(name: str, seed: int) -> None:
    m, kin = market(seed), KIN[name]
    ours = reported(seed, kin.ours, m.w, weighted=True)
    assert in_skfolio(name, m, m.w, m.p) == pytest.approx(kin.relation(ours, float(m.p @ m.p)), rel=1e-8)
    assert in_skfolio(name, m, m.w) != pytest.approx(in_skfolio(name, m, m.w, m.p), rel=1e-4)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", PATHS)
def test_drawdowns_count_every_period_once_where_skfolio_weighs_them(name: str, seed: int) -> None:
    m, kin = market(seed), KIN[name]
    ours = reported(seed, kin.ours, m.w, weighted=True)
    assert ours == pytest.approx(reported(seed, kin.ours, m.w), rel=1e-12)
    assert ours == pytest.approx(in_skfolio(name, m, m.w), rel=1e-10)
    if name != "max drawdown":  # which takes no weights there
        assert in_skfolio(name, m, m.w, m.p) != pytest.approx(ours, rel=1e-4)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", NAMES)
def test_least_risk_agrees_with_skfolio(name: str, seed: int) -> None:
    pytest.importorskip("skfolio")
    from skfolio import RiskMeasure
    from skfolio.optimization import MeanRisk

    m, kin = market(seed), KIN[name]
    settings = {f"{kin.skfolio}_beta" if k == "beta" else k: v for k, v in kin.arguments.items()}
    model = MeanRisk(risk_measure=RiskMeasure[kin.skfolio.upper()], min_weights=0.0, max_weights=1.0, **settings)
    model.fit(m.frame)
    theirs = np.asarray(model.weights_, dtype=np.float64)
    risk, ours = least(seed, name)
    # their weights by their measure are no better than ours, nor worse by more than their solver's tolerance
    best = in_skfolio(name, m, ours)
    assert best == pytest.approx(kin.relation(risk, 1.0 / S), rel=1e-7)
    assert in_skfolio(name, m, theirs) == pytest.approx(best, rel=2e-5)
    assert in_skfolio(name, m, theirs) >= best * (1.0 - 1e-6)
    assert dict(model.problem_values_)["risk"] == pytest.approx(best, rel=2e-5)


def test_value_at_risk_ends_on_the_other_side_of_a_whole_tail() -> None:
    """With 9 scenarios in the tail, ours is the smallest loss in it, and skfolio's the largest outside."""
    measures = pytest.importorskip("skfolio.measures")
    m = market(0)
    x = m.R @ m.w
    losses = np.sort(-x)[::-1]
    scenarios, w = m.scenarios(), pd.Series(m.w, ASSETS)
    assert scenarios.tail(w, 0.9).var == pytest.approx(losses[8], rel=1e-12)
    assert measures.value_at_risk(x, 0.9) == pytest.approx(losses[9], rel=1e-12)
    assert scenarios.tail(w, 0.9).cvar == pytest.approx(measures.cvar(x, 0.9), rel=1e-12)
    # a tail that holds a fraction of a scenario leaves no choice
    assert scenarios.tail(w, BETA).var == pytest.approx(measures.value_at_risk(x, BETA), rel=1e-12)


def test_a_compounded_drawdown_is_one_of_logarithmic_returns() -> None:
    """1 - exp(-D), D being our drawdown of a path of the portfolio's logarithmic returns."""
    measures = pytest.importorskip("skfolio.measures")
    m = market(0)
    x = m.R @ m.w
    logarithmic = pd.DataFrame(np.log1p(x)[:, None] * np.ones(N), m.frame.index, ASSETS)
    ours = reported(0, po.MaxDrawdown(path=po.ScenarioSet(logarithmic)), m.w)
    compounded = measures.max_drawdown(measures.get_drawdowns(x, compounded=True))
    assert compounded == pytest.approx(1.0 - np.exp(-ours), rel=1e-10)
    assert abs(compounded - reported(0, po.MaxDrawdown(), m.w)) > 1e-3 * compounded


def test_targets_that_are_not_given_are_the_mean_in_skfolio() -> None:
    """Ours is zero for the first moment, and the mean for the semi-deviation: half the mean absolute deviation."""
    measures = pytest.importorskip("skfolio.measures")
    m = market(0)
    x = m.R @ m.w
    assert measures.first_lower_partial_moment(x) == pytest.approx(
        0.5 * reported(0, po.MeanAbsoluteDeviation(), m.w), rel=1e-10
    )
    assert po.ExpectedShortfallBelow().target == 0.0


def test_tracking_error_is_a_second_moment_in_skfolio() -> None:
    """Its limit is on the root of the mean square of active returns; ours on their standard deviation."""
    pytest.importorskip("skfolio")
    from skfolio.optimization import MeanRisk, ObjectiveFunction

    m = market(0)
    b = np.full(N, 1.0 / N)
    model = MeanRisk(objective_function=ObjectiveFunction.MAXIMIZE_RETURN, min_weights=0.0, max_tracking_error=0.004)
    model.fit(m.frame, pd.Series(m.R @ b, m.frame.index))
    w = np.asarray(model.weights_, dtype=np.float64)
    ours = reported(0, po.TrackingError(benchmark=pd.Series(b, ASSETS)), w / w.sum())
    active = float((m.R @ (w - b)).mean())
    assert np.sqrt(S / (S - 1) * (ours**2 + active**2)) == pytest.approx(0.004, rel=1e-5)
    assert abs(np.sqrt(S / (S - 1)) * ours - 0.004) > 1e-5


def test_turnover_and_costs_of_skfolio() -> None:
    """Its turnover is a limit per asset, as our TradeLimit; its cost is charged in every scenario, ours once."""
    skfolio = pytest.importorskip("skfolio")
    from skfolio.optimization import MeanRisk, ObjectiveFunction

    m = market(0)
    b = np.full(N, 1.0 / N)
    held = pd.Series(b, ASSETS)
    model = MeanRisk(
        objective_function=ObjectiveFunction.MAXIMIZE_RETURN, min_weights=0.0, max_turnover=0.05, previous_weights=b
    )
    model.fit(m.frame)
    w = np.asarray(model.weights_, dtype=np.float64)
    mean = m.R.mean(axis=0)
    ours = po.optimize(po.Problem(m.scenarios(), po.ExpectedReturn(), [*LONG_ONLY, po.TradeLimit(0.05)], holdings=held))
    assert ours.expected_return == pytest.approx(float(mean @ w), rel=1e-6)
    assert np.abs(w - b).sum() > 0.15

    charged = skfolio.Portfolio(m.frame, m.w, previous_weights=b, transaction_costs=0.001)
    fixed = po.Bounds(pd.Series(m.w, ASSETS), pd.Series(m.w, ASSETS))
    goal = po.ExpectedReturn() - po.ProportionalCost(10)
    once = po.optimize(po.Problem(m.scenarios(), goal, [po.Budget(), fixed], holdings=held))
    cost = float(once.terms["value"].iloc[1])
    np.testing.assert_allclose(np.asarray(charged.returns), m.R @ m.w - cost, rtol=1e-10)
    assert once.objective == pytest.approx(float(np.mean(charged.returns)), rel=1e-10)
    assert float(np.sum(charged.returns)) == pytest.approx(float((m.R @ m.w).sum()) - S * cost, rel=1e-10)


def test_a_compounded_drawdown_of_riskfolio() -> None:
    functions = pytest.importorskip("riskfolio.src.RiskFunctions")
    measures = pytest.importorskip("skfolio.measures")
    m = market(0)
    x = m.R @ m.w
    compounded = measures.max_drawdown(measures.get_drawdowns(x, compounded=True))
    assert functions.MDD_Rel(x) == pytest.approx(compounded, rel=1e-10)
    assert functions.VaR_Hist(x, alpha=1.0 - BETA) == pytest.approx(
        m.scenarios().tail(pd.Series(m.w, ASSETS), BETA).var, rel=1e-12
    )


# -- Riskfolio-Lib ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", NAMES)
def test_values_agree_with_riskfolio(name: str, seed: int) -> None:
    pytest.importorskip("riskfolio")
    m, kin = market(seed), KIN[name]
    relation = kin.sharper or kin.relation
    ours = reported(seed, kin.ours, m.w)
    # its entropic value-at-risk comes from a general minimiser
    accuracy = 1e-5 if name == "EVaR" else 1e-9
    assert in_riskfolio(name, m, m.w) == pytest.approx(relation(ours, 1.0 / S), rel=accuracy)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", NAMES)
def test_least_risk_agrees_with_riskfolio(name: str, seed: int) -> None:
    peer = pytest.importorskip("riskfolio")
    m, kin = market(seed), KIN[name]
    portfolio = peer.Portfolio(returns=m.frame)
    portfolio.alpha = 1.0 - BETA
    portfolio.assets_stats(method_mu="hist", method_cov="hist")
    rate = kin.arguments.get("min_acceptable_return", 0.0)
    frame = portfolio.optimization(model="Classic", rm=kin.riskfolio, obj="MinRisk", rf=rate, l=0, hist=True)
    theirs = frame["weights"].to_numpy(dtype=np.float64)
    relation = kin.sharper or kin.relation
    risk, _ = least(seed, name)
    assert in_riskfolio(name, m, theirs) == pytest.approx(relation(risk, 1.0 / S), rel=2e-5)


def test_tracking_error_and_turnover_of_riskfolio() -> None:
    """The former is a second moment, as in skfolio; the latter a limit per asset, as our TradeLimit."""
    peer = pytest.importorskip("riskfolio")
    m = market(0)
    b = np.full(N, 1.0 / N)
    benchmark = pd.DataFrame(b[:, None], ASSETS, ["weights"])

    def best(**settings: Any) -> FloatArray:
        portfolio = peer.Portfolio(returns=m.frame)
        portfolio.assets_stats(method_mu="hist", method_cov="hist")
        portfolio.benchweights, portfolio.kindbench = benchmark, True
        for key, value in settings.items():
            setattr(portfolio, key, value)
        return portfolio.optimization(model="Classic", rm="MV", obj="MaxRet", rf=0, l=0, hist=True)["weights"].to_numpy(
            dtype=np.float64
        )

    w = best(allowTE=True, TE=0.004)
    ours = reported(0, po.TrackingError(benchmark=pd.Series(b, ASSETS)), w)
    active = float((m.R @ (w - b)).mean())
    assert np.sqrt(S / (S - 1) * (ours**2 + active**2)) == pytest.approx(0.004, rel=1e-5)

    w = best(allowTO=True, turnover=0.05)
    assert np.abs(w - b).max() == pytest.approx(0.05, rel=1e-5)
    limits = [*LONG_ONLY, po.TradeLimit(0.05)]
    ours = po.optimize(po.Problem(m.scenarios(), po.ExpectedReturn(), limits, holdings=pd.Series(b, ASSETS)))
    assert ours.expected_return == pytest.approx(float(m.R.mean(axis=0) @ w), rel=1e-6)
    assert np.abs(ours.weights.to_numpy() - b).sum() > 0.15

"""Set-ups in which portfolio libraries are known to report a wrong number, or nothing, in silence.

Every test builds one, computes the right number in NumPy, by a linear program or by hand, and asks that the library
gives it, or refuses by name what cannot be meant. Where a wrong number would go unseen, the test also says what it
would have been.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from scipy.optimize import linprog, minimize_scalar
from scipy.special import logsumexp

import portfolioopt as po
from portfolioopt.attribution import risk_contributions
from portfolioopt.rebalance import plan_trades, trade_summary

FloatArray = npt.NDArray[np.float64]

S, N = 40, 5
ASSETS = pd.Index(["AAPL", "MSFT", "XOM", "JNJ", "PFE"])
SECTORS = pd.Series(["Tech", "Tech", "Energy", "Health", "Health"], ASSETS)
DATES = pd.bdate_range("2024-03-01", periods=S)
RNG = np.random.default_rng(11)
R = 0.008 * RNG.standard_t(4, size=(S, 1)) * RNG.uniform(0.5, 1.5, N) + 0.008 * RNG.standard_t(4, size=(S, N))
R += np.array([0.001, 0.002, 0.005, 0.003, 0.0])
P = RNG.dirichlet(np.full(S, 2.0))
EVEN = np.full(S, 1.0 / S)
HELD = pd.Series([0.4, 0.3, 0.2, 0.1, 0.0], ASSETS)
BETA = 0.87  # the tail holds 5.2 of 40 scenarios
LONG_ONLY = [po.Budget(), po.Bounds()]


def scenarios(returns: FloatArray = R, p: FloatArray | None = None) -> po.ScenarioSet:
    return po.ScenarioSet(pd.DataFrame(returns, DATES[: len(returns)], ASSETS), p)


def build(objective: Any, *constraints: Any, data: po.ScenarioSet | None = None) -> po.Problem:
    return po.Problem(data or scenarios(), objective, [*LONG_ONLY, *constraints], holdings=HELD)


def solve(objective: Any, *constraints: Any, data: po.ScenarioSet | None = None) -> po.Result:
    return po.optimize(build(objective, *constraints, data=data))


def portfolio(result: po.Result) -> pd.Series:
    assert result.weights is not None
    return result.weights


def refused(call: Callable[[], object], *words: str, error: type[po.PortfolioOptError] = po.InputError) -> None:
    with pytest.raises(error) as caught:
        call()
    for word in words:
        assert word in str(caught.value), f"{word!r} is not in: {caught.value}"


def cvar(losses: FloatArray, p: FloatArray, beta: float) -> float:
    """The worst 1 - beta of probability, taken scenario by scenario from the top."""
    order = np.argsort(-losses)
    held = np.cumsum(p[order])
    taken = np.diff(np.minimum(held, 1.0 - beta), prepend=0.0)
    return float(taken @ losses[order]) / (1.0 - beta)


def drawdowns(losses: FloatArray) -> FloatArray:
    value = np.append(0.0, -np.cumsum(losses))
    return (np.maximum.accumulate(value) - value)[1:]


def evar(losses: FloatArray, p: FloatArray, beta: float) -> float:
    found = minimize_scalar(
        lambda u: np.exp(u) * (logsumexp(losses / np.exp(u), b=p) - np.log(1.0 - beta)),
        bounds=(np.log(1e-4), np.log(1e2)),
        method="bounded",
        options={"xatol": 1e-12},
    )
    return float(found.fun)


def least_cvar(returns: FloatArray, p: FloatArray, beta: float) -> float:
    """Least CVaR of a long-only portfolio, from the linear program of Rockafellar and Uryasev."""
    s, n = returns.shape
    found = linprog(
        np.concatenate([np.zeros(n), [1.0], p / (1.0 - beta)]),
        A_ub=np.hstack([-returns, -np.ones((s, 1)), -np.eye(s)]),
        b_ub=np.zeros(s),
        A_eq=np.append(np.ones(n), np.zeros(s + 1))[None],
        b_eq=[1.0],
        bounds=[(0.0, None)] * n + [(None, None)] + [(0.0, None)] * s,
    )
    assert found.status == 0
    return float(found.fun)


# -- risk that nothing presses upon ----------------------------------------------------------------------------------
Definition = Callable[[FloatArray, FloatArray], float]
DEFINITIONS: dict[str, tuple[Any, Definition]] = {
    "CVaR": (po.CVaR(BETA), lambda x, p: cvar(x, p, BETA)),
    "spectral": (po.SpectralRisk({0.5: 0.4, 0.9: 0.6}), lambda x, p: 0.4 * cvar(x, p, 0.5) + 0.6 * cvar(x, p, 0.9)),
    "worst": (po.WorstLoss(), lambda x, p: float(x[p > 0].max())),
    "MAD": (po.MeanAbsoluteDeviation(), lambda x, p: float(p @ np.abs(x - p @ x))),
    "shortfall": (po.ExpectedShortfallBelow(0.001), lambda x, p: float(p @ np.maximum(0.001 + x, 0.0))),
    "variance": (po.Variance(), lambda x, p: float(p @ (x - p @ x) ** 2)),
    "volatility": (po.Volatility(), lambda x, p: float(np.sqrt(p @ (x - p @ x) ** 2))),
    "semi": (po.SemiDeviation(), lambda x, p: float(np.sqrt(p @ np.maximum(x - p @ x, 0.0) ** 2))),
    "EVaR": (po.EntropicVaR(BETA), lambda x, p: evar(x, p, BETA)),
    "max drawdown": (po.MaxDrawdown(), lambda x, _: float(drawdowns(x).max())),
    "CDaR": (po.ConditionalDrawdown(BETA), lambda x, _: cvar(drawdowns(x), EVEN, BETA)),
    "average drawdown": (po.ConditionalDrawdown(0.0), lambda x, _: float(drawdowns(x).mean())),
}
LOOSE = [po.Limit(measure, upper=0.9, name=name) for name, (measure, _) in DEFINITIONS.items()]
WITHOUT_PROBABILITIES = {"max drawdown", "CDaR", "average drawdown"}  # a path is one history


def test_a_slack_limit_shows_the_risk_of_the_weights() -> None:
    """Not the value of auxiliary variables, which may be anything up to the limit when it does not bind."""
    result = solve(po.ExpectedReturn() - 0.0 * po.CVaR(BETA), *LOOSE)
    best = int(R.mean(axis=0).argmax())
    np.testing.assert_allclose(result.weights, np.eye(N)[best], atol=1e-12)
    losses = -R[:, best]
    for name, (_, definition) in DEFINITIONS.items():
        line = result.constraints.loc[name].to_dict()
        assert line["value"] == pytest.approx(definition(losses, EVEN), rel=1e-7), name
        assert line["slack"] == pytest.approx(0.9 - line["value"], rel=1e-12)
        assert not line["binding"]
        assert line["shadow_price"] == 0.0
    assert result.risk.loc[BETA, "cvar"] == pytest.approx(cvar(losses, EVEN, BETA), rel=1e-12)
    # a term without weight in the objective is not free to float either
    assert result.terms["value"].tolist() == pytest.approx([-losses.mean(), cvar(losses, EVEN, BETA)], rel=1e-12)


@pytest.mark.slow
def test_a_frontier_shows_the_risk_of_its_weights() -> None:
    points = po.frontier(build(po.ExpectedReturn() - po.CVaR(BETA)), 5)
    for weights, shown in zip(points.weights.to_numpy(), points.points[f"cvar[{BETA:g}]"], strict=True):
        assert shown == pytest.approx(cvar(-R @ weights, EVEN, BETA), rel=1e-10)


# -- probabilities ---------------------------------------------------------------------------------------------------
def test_probabilities_count_in_every_measure() -> None:
    fixed = po.Bounds(HELD, HELD, name="Fixed")
    result = solve(po.ExpectedReturn() - 0.0 * po.CVaR(BETA), *LOOSE, fixed, data=scenarios(p=P))
    losses = -R @ HELD.to_numpy()
    for name, (_, definition) in DEFINITIONS.items():
        right, even = definition(losses, P), definition(losses, EVEN)
        assert result.constraints.loc[name, "value"] == pytest.approx(right, rel=1e-7), name
        assert abs(right - even) > 1e-3 * right or name in WITHOUT_PROBABILITIES | {"worst"}, name
    assert result.expected_return == pytest.approx(-P @ losses, rel=1e-12)
    assert result.volatility == pytest.approx(DEFINITIONS["volatility"][1](losses, P), rel=1e-12)


REPEATS = np.concatenate([[9, 5, 3, 3, 2, 2], np.ones(16, dtype=int)])
REPEATED = np.repeat(R[: len(REPEATS)], REPEATS, axis=0)
"""Twenty-two scenarios, some of which occur several times: forty rows."""


def told_by_probabilities(junk: float) -> po.ScenarioSet:
    """The same distribution in as many rows; those left over are impossible, and all return `junk`."""
    rows = np.full((S, N), junk)
    rows[: len(REPEATS)] = R[: len(REPEATS)]
    return scenarios(rows, np.append(REPEATS / S, np.zeros(S - len(REPEATS))))


@pytest.mark.parametrize("junk", [-0.9, 0.9])
def test_repeating_a_scenario_is_raising_its_probability(junk: float) -> None:
    repeated, weighted = (
        solve(-po.CVaR(BETA), data=scenarios(REPEATED)),
        solve(-po.CVaR(BETA), data=told_by_probabilities(junk)),
    )
    right = least_cvar(REPEATED, EVEN, BETA)
    assert -repeated.objective == pytest.approx(right, rel=1e-9)
    assert -weighted.objective == pytest.approx(right, rel=1e-9)
    ignored = least_cvar(R[: len(REPEATS)], np.full(len(REPEATS), 1 / len(REPEATS)), BETA)
    assert abs(right - ignored) > 1e-2 * right


@pytest.mark.parametrize(
    "measure", [po.Volatility(), po.SemiDeviation(), po.EntropicVaR(BETA), po.WorstLoss()], ids=repr
)
@pytest.mark.slow
def test_impossible_scenarios_do_not_count(measure: Any) -> None:
    repeated, weighted = solve(-measure, data=scenarios(REPEATED)), solve(-measure, data=told_by_probabilities(-0.9))
    assert weighted.objective == pytest.approx(repeated.objective, rel=1e-6)


def test_entropic_value_at_risk_without_the_impossible() -> None:
    """The worst scenario has no probability: the largest loss that counts is another one."""
    losses = np.array([0.9, 0.02, 0.01, -0.01])
    p = np.array([0.0, 0.3, 0.3, 0.4])
    data = po.ScenarioSet(pd.DataFrame(-losses[:, None] * np.ones(2), columns=["A", "B"]), p)
    risk = po.EntropicVaR(0.5)
    result = po.optimize(po.Problem(data, -risk, LONG_ONLY))
    assert -result.objective == pytest.approx(evar(losses[1:], p[1:], 0.5), rel=1e-7)


# -- numbers that are better than can be -----------------------------------------------------------------------------
def test_no_reported_risk_is_below_the_least_there_is() -> None:
    result = solve(-po.CVaR(BETA))
    weights = result.weights.to_numpy()
    least = least_cvar(R, EVEN, BETA)
    assert -result.objective == pytest.approx(cvar(-R @ weights, EVEN, BETA), rel=1e-12)
    assert -result.objective == pytest.approx(least, rel=1e-9)
    assert result.certificate.bound >= -least - 1e-12


def test_an_unfinished_answer_says_so_and_shows_its_own_risk() -> None:
    problem = build(-po.CVaR(BETA))
    refused(lambda: po.optimize(problem, max_iterations=1), "max_iterations", error=po.StalledError)
    result = po.optimize(problem, max_iterations=1, raise_on_failure=False)
    assert result.status is po.Status.stalled
    least = least_cvar(R, EVEN, BETA)
    losses = -R @ result.weights.to_numpy()
    assert -result.objective == pytest.approx(cvar(losses, EVEN, BETA), rel=1e-12)
    assert -result.objective > least * (1.0 + 1e-3)  # it has some way to go
    assert result.certificate.gap > 1e-3
    assert result.certificate.bound >= -least - 1e-12


def test_weights_are_not_mended_after_the_solve() -> None:
    """Scaling or clipping what a solver returns hides its error, and undoes budgets that are not one."""
    data = scenarios()
    for total, lower in ((1.0, 0.0), (0.9, 0.0), (0.3, -0.3)):
        limits = [po.Budget(total), po.Bounds(lower, 0.5)]
        result = po.optimize(po.Problem(data, -po.CVaR(BETA), limits))
        weights = result.weights.to_numpy()
        assert weights.sum() == pytest.approx(total, abs=1e-12)
        assert weights.min() >= lower - 1e-12
        assert weights.max() <= 0.5 + 1e-12
        assert result.certificate.max_violation <= 1e-10


def test_the_largest_return_is_the_best_asset() -> None:
    """The simplest linear program there is; with caps, the best assets are filled up in turn."""
    mean = R.mean(axis=0)
    np.testing.assert_allclose(solve(po.ExpectedReturn()).weights, np.eye(N)[mean.argmax()], atol=1e-12)
    np.testing.assert_allclose(solve(-po.ExpectedReturn()).weights, np.eye(N)[mean.argmin()], atol=1e-12)
    filled = np.zeros(N)
    filled[np.argsort(-mean)[:3]] = [0.4, 0.4, 0.2]
    capped = solve(po.ExpectedReturn(), po.Bounds(0.0, 0.4, name="Caps"))
    np.testing.assert_allclose(capped.weights, filled, atol=1e-12)


# -- no answer -------------------------------------------------------------------------------------------------------
def test_caps_that_leave_no_portfolio_are_named() -> None:
    caps = po.GroupLimit(SECTORS, upper={"Tech": 0.2, "Energy": 0.2, "Health": 0.4}, name="Sector")
    problem = build(-po.CVaR(BETA), caps)
    names = ["Budget", "Sector[Tech]", "Sector[Energy]", "Sector[Health]"]
    refused(lambda: po.optimize(problem), "infeasible", *names, error=po.InfeasibleError)
    result = po.optimize(problem, raise_on_failure=False)
    assert result.status is po.Status.infeasible
    assert result.weights is None
    assert set(result.conflict) == {"Budget", "Sector"}
    refused(lambda: result.terms, "no portfolio", "Sector[Tech]")


def test_a_risk_or_return_out_of_reach_is_named_with_what_can_be_had() -> None:
    least, best = least_cvar(R, EVEN, BETA), R.mean(axis=0).max()
    refused(
        lambda: solve(po.ExpectedReturn(), po.CVaRLimit(BETA, 0.5 * least)),
        f"CVaRLimit({BETA:g})",
        f"{least:.6g}",
        error=po.InfeasibleError,
    )
    refused(
        lambda: solve(-po.CVaR(BETA), po.ReturnTarget(2.0 * best)),
        "ReturnTarget",
        f"{best:.6g}",
        error=po.InfeasibleError,
    )


@pytest.mark.parametrize("risk", [po.CVaR(BETA), po.Volatility()], ids=repr)
def test_a_ratio_without_a_reward_is_no_other_problem(risk: Any) -> None:
    poor = pd.Series(-0.001 * np.arange(1, N + 1), ASSETS)
    reward = po.ExpectedReturn(poor)
    refused(lambda: solve(reward / risk), "no allowed portfolio", "-0.001", error=po.InfeasibleError)


# -- contributions ---------------------------------------------------------------------------------------------------
def test_contributions_add_up_at_the_kink_of_an_optimum() -> None:
    result = solve(-po.CVaR(BETA))
    weights = result.weights.to_numpy()
    risk = cvar(-R @ weights, EVEN, BETA)
    # finite differences straddle the kink, and do not add up
    step = 1e-3
    bumps = step * np.eye(N)
    slopes = [(cvar(-R @ (weights + b), EVEN, BETA) - cvar(-R @ (weights - b), EVEN, BETA)) / (2 * step) for b in bumps]
    assert abs(weights @ slopes - risk) > 1e-3 * risk
    for chosen in (None, result.tail_weights):
        frame = risk_contributions(scenarios(), result.weights, betas=(BETA,), tail_weights=chosen)
        parts = frame[frame["measure"] == f"CVaR {100 * BETA:g}%"].set_index("asset")
        assert parts["contribution"].sum() == pytest.approx(risk, rel=1e-9)
    # with one budget and no cap, every asset held has the marginal risk of the whole, and no other has less
    marginal = parts["marginal"].to_numpy()
    held = weights > 1e-9
    assert 2 <= held.sum() < N
    np.testing.assert_allclose(marginal[held], risk, rtol=1e-7)
    assert (marginal[~held] >= risk * (1.0 - 1e-7)).all()


# -- names -----------------------------------------------------------------------------------------------------------
EXPOSURES = pd.DataFrame({"beta": [1.2, 1.0, 0.8, 0.6, 0.5]}, ASSETS)


@pytest.mark.parametrize(
    ("make", "wrong", "meant"),
    [
        (lambda: po.GroupLimit(SECTORS, upper={"Tehc": 0.4}), "'Tehc'", "'Tech'"),
        (lambda: po.GroupLimit(SECTORS, lower={"tech": 0.4}), "'tech'", "'Tech'"),
        (lambda: po.GroupLimit(SECTORS, upper={"Tech": 0.4, "Utilities": 0.1}), "'Utilities'", ""),
        (lambda: po.GroupLimit(SECTORS.rename({"MSFT": "MSTF"}), upper={"Tech": 0.4}), "'MSFT'", "give every asset"),
        (lambda: po.GroupLimit(SECTORS.drop("MSFT"), upper={"Tech": 0.4}), "'MSFT'", ""),
        (lambda: po.LinearLimit("Tehc <= 0.4", SECTORS), "'Tehc'", "'Tech'"),
        (lambda: po.LinearLimit("AAPL + MSTF <= 0.4"), "'MSTF'", "'MSFT'"),
        (lambda: po.FactorExposure(EXPOSURES, upper={"betta": 0.9}), "'betta'", "'beta'"),
        (lambda: po.NoTrade(["MSTF"]), "'MSTF'", "'MSFT'"),
        (lambda: po.MustHold({"MSTF": 0.1}), "'MSTF'", "'MSFT'"),
        (lambda: po.Bounds(0.0, HELD.rename({"MSFT": "MSTF"}) + 0.5, name="Cap"), "'MSTF'", "'MSFT'"),
        (lambda: po.GrossExposure(["MSTF"]) <= 0.4, "'MSTF'", "'MSFT'"),
    ],
)
def test_a_misspelt_name_is_no_missing_limit(make: Callable[[], Any], wrong: str, meant: str) -> None:
    refused(lambda: build(-po.CVaR(BETA), make()), wrong, meant)


def test_a_sector_cap_holds() -> None:
    """Without the cap the answer breaks it, so a cap that vanished would be seen."""
    cap = po.GroupLimit(SECTORS, upper={"Energy": 0.15})
    assert portfolio(solve(po.ExpectedReturn() - 0.05 * po.CVaR(BETA)))["XOM"] > 0.5
    assert portfolio(solve(po.ExpectedReturn() - 0.05 * po.CVaR(BETA), cap))["XOM"] == pytest.approx(0.15, abs=1e-9)


@pytest.mark.parametrize(
    "make",
    [
        lambda: build(-po.CVaR(BETA), po.Turnover(0.1, side="buys")),
        lambda: po.TradedAmount("Sell"),
        lambda: po.RobustCVaR(0.9, 0.001, norm=3),
        lambda: po.Liquidity(HELD + 1.0, 1.0, of="position"),
        lambda: po.ScenarioSet(pd.DataFrame(R, DATES, ASSETS), kind="Log"),
    ],
)
def test_a_misspelt_choice_is_refused_before_the_solve(make: Callable[[], object]) -> None:
    with pytest.raises(po.InputError):
        make()


# -- holes -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("hole", [np.nan, np.inf, -np.inf])
def test_a_hole_in_the_returns_drops_neither_the_day_nor_the_asset(hole: float) -> None:
    holed = R.copy()
    holed[7, 2] = hole
    refused(lambda: scenarios(holed), "XOM", f"{DATES[7]:%Y-%m-%d}")


def test_holes_elsewhere_are_named() -> None:
    one = HELD.where(ASSETS != "JNJ")
    refused(lambda: build(po.ExpectedReturn(one)), "'JNJ'")
    refused(lambda: build(-po.CVaR(BETA), po.Bounds(0.0, one, name="Cap")), "'JNJ'")
    refused(lambda: po.Problem(scenarios(), -po.CVaR(BETA), [*LONG_ONLY, po.Turnover(0.1)], holdings=one), "'JNJ'")
    refused(lambda: scenarios(p=np.where(np.arange(S) == 3, np.nan, EVEN)), f"{DATES[3]:%Y-%m-%d}")


@pytest.mark.parametrize(
    "limit",
    [lambda labels: po.GroupLimit(labels, upper={"Tech": 0.4}), lambda labels: po.LinearLimit("Tech <= 0.4", labels)],
)
def test_a_hole_in_the_labels_lets_no_asset_out_of_its_group(limit: Callable[[pd.Series], Any]) -> None:
    """An asset that should be in the group would escape the limit, as with a misspelt name."""
    for holed in (SECTORS.where(ASSETS != "MSFT"), SECTORS.where(ASSETS != "MSFT", None)):
        refused(lambda holed=holed: build(-po.CVaR(BETA), limit(holed)), "'MSFT'")


# -- which loss ------------------------------------------------------------------------------------------------------
def test_losses_are_not_demeaned() -> None:
    right, centred = least_cvar(R, EVEN, BETA), least_cvar(R - R.mean(axis=0), EVEN, BETA)
    assert abs(right - centred) > 0.05 * right
    result = solve(-po.CVaR(BETA))
    assert -result.objective == pytest.approx(right, rel=1e-9)
    # a sure gain of 1 % in every asset is a loss less
    assert -solve(-po.CVaR(BETA), data=scenarios(R + 0.01)).objective == pytest.approx(right - 0.01, rel=1e-9)


def test_a_tail_of_gains_is_a_negative_risk() -> None:
    """Value-at-risk may be negative, and the mean of the tail keeps its sign."""
    gains = R - R.min() + 0.01
    result = solve(-po.CVaR(BETA), data=scenarios(gains))
    assert -result.objective == pytest.approx(least_cvar(gains, EVEN, BETA), rel=1e-9)
    assert result.risk.to_numpy().max() < -0.01
    weights = result.weights.to_numpy()
    assert result.risk.loc[BETA, "cvar"] == pytest.approx(cvar(-gains @ weights, EVEN, BETA), rel=1e-12)
    assert result.risk.loc[BETA, "var"] == pytest.approx(np.sort(-gains @ weights)[::-1][5], rel=1e-12)


def test_logarithmic_returns_do_not_add_up_across_assets() -> None:
    logarithmic = pd.DataFrame(np.log1p(10.0 * R), DATES, ASSETS)
    result = solve(-po.CVaR(BETA), data=po.ScenarioSet(logarithmic, kind="log"))
    assert -result.objective == pytest.approx(least_cvar(10.0 * R, EVEN, BETA), rel=1e-9)
    assert abs(least_cvar(logarithmic.to_numpy(), EVEN, BETA) + result.objective) > 1e-2 * -result.objective


@pytest.mark.parametrize("beta", [0.0, 1.0, 95, -0.05, np.nan])
def test_a_level_without_a_tail_is_refused(beta: float) -> None:
    refused(lambda: po.CVaR(beta), "between 0 and 1")
    refused(lambda: po.CVaRLimit(beta, 0.1), "between 0 and 1")
    refused(lambda: po.EntropicVaR(beta), "between 0 and 1")


# -- how many scenarios a tail holds ---------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("count", "beta"), [(10, 0.9), (1000, 0.9), (1000, 0.95), (100, 0.99), (750, 0.95), (7, 0.8), (3, 0.9), (5, 0.5)]
)
def test_the_tail_holds_fractions_of_scenarios_and_all_whole_ones(count: int, beta: float) -> None:
    """Losses of 1 to S: the tail has k = (1 - beta) S of them, so floor(k) from the top and a share of the next."""
    k = round((1.0 - beta) * count, 9)
    whole = int(k)
    top = float(np.arange(count, count - whole, -1).sum())
    right = (top + (k - whole) * (count - whole)) / k
    order = np.random.default_rng(count).permutation(count) + 1.0
    data = po.ScenarioSet(pd.DataFrame({"A": -order, "B": np.zeros(count)}))
    tail = data.tail({"A": 1.0, "B": 0.0}, beta)
    assert tail.cvar == pytest.approx(right, rel=1e-12)
    assert tail.var == count - np.ceil(k) + 1
    assert tail.weights @ order == pytest.approx(right, rel=1e-12)


@pytest.mark.parametrize("beta", [0.975, 0.99])
def test_a_tail_of_one_scenario_or_less_is_the_worst_loss(beta: float) -> None:
    found = linprog(
        np.append(np.zeros(N), 1.0),
        A_ub=np.hstack([-R, -np.ones((S, 1))]),
        b_ub=np.zeros(S),
        A_eq=np.append(np.ones(N), 0.0)[None],
        b_eq=[1.0],
        bounds=[(0.0, None)] * N + [(None, None)],
    )
    assert -solve(-po.CVaR(beta)).objective == pytest.approx(found.fun, rel=1e-9)


# -- trading ---------------------------------------------------------------------------------------------------------
# one shape of problem for all of these: a cost and two limits on turnover, some of them idle
def trading(
    bps: float = 0.0, both: float = 2.0, buy: float = 2.0, side: str = "buy", held: pd.Series = HELD
) -> po.Result:
    limits = [po.Turnover(both), po.Turnover(buy, side=side, name="One side")]
    goal = po.ExpectedReturn() - po.ProportionalCost(bps)
    return po.optimize(po.Problem(scenarios(), goal, [*LONG_ONLY, *limits], holdings=held))


BEST, WORST = int(R.mean(axis=0).argmax()), int(R.mean(axis=0).argmin())


def test_turnover_counts_buys_and_sells() -> None:
    """A limit of 0.3 moves 0.15: out of the asset of least mean that is held, into the best one."""
    mean = R.mean(axis=0)
    poorest = min(np.flatnonzero(HELD > 0), key=lambda i: mean[i])
    for result in (trading(both=0.3), trading(buy=0.15), trading(buy=0.15, side="sell")):
        moved = HELD.to_numpy().copy()
        step = 0.15 * (np.eye(N)[BEST] - np.eye(N)[poorest])
        assert HELD.iloc[poorest] >= 0.15
        np.testing.assert_allclose(result.weights, moved + step, atol=1e-12)
    line = trading(both=0.3).constraints.loc["Turnover"]
    assert (line["value"], line["binding"]) == (pytest.approx(0.3, abs=1e-12), True)


def test_a_full_switch_has_a_turnover_of_two() -> None:
    start = pd.Series(np.eye(N)[WORST], ASSETS)
    result = trading(both=2.0, buy=1.0, held=start)
    np.testing.assert_allclose(result.weights, np.eye(N)[BEST], atol=1e-12)
    assert result.constraints.loc["Turnover", "value"] == pytest.approx(2.0, abs=1e-12)
    assert result.constraints.loc["One side", "value"] == pytest.approx(1.0, abs=1e-12)
    summary = trade_summary(plan_trades(result.weights, start, nav=1.0), 1.0)
    assert summary[["turnover", "one_way_turnover"]].tolist() == pytest.approx([2.0, 1.0], abs=1e-12)


@pytest.mark.parametrize("bps", [10.0, 25.0])
def test_a_cost_is_paid_once_and_not_per_scenario(bps: float) -> None:
    start = pd.Series(np.eye(N)[WORST], ASSETS)
    result = trading(bps=bps, held=start)
    mean = R.mean(axis=0)
    cost = 2.0 * bps / 1e4
    assert mean[BEST] - mean[WORST] > cost  # it pays to switch
    assert result.terms["value"].tolist() == pytest.approx([mean[BEST], cost], rel=1e-12)
    assert result.objective == pytest.approx(mean[BEST] - cost, rel=1e-12)
    # the report of the trades bills the same, and the scenarios stay gross of it
    trades = plan_trades(result.weights, start, nav=1e6, cost_bps=bps)
    assert trades["cost"].sum() == pytest.approx(1e6 * cost, rel=1e-12)
    assert result.expected_return == pytest.approx(mean[BEST], rel=1e-12)


def test_a_cost_decides_once_too() -> None:
    """A switch that pays for itself within one horizon is made; charged again on every day it would not be."""
    start = pd.Series(np.eye(N)[WORST], ASSETS)
    mean = R.mean(axis=0)
    even = 1e4 * (mean[BEST] - mean[WORST]) / 2.0
    assert trading(bps=0.99 * even, held=start).weights.iloc[BEST] == pytest.approx(1.0, abs=1e-12)
    assert trading(bps=1.01 * even, held=start).weights.iloc[BEST] == pytest.approx(0.0, abs=1e-12)


def test_trades_start_from_the_book_as_it_has_drifted() -> None:
    """Not from the last target; and a market that moves all prices alike is no drift."""
    first = portfolio(trading(both=0.3))
    grown = first * (1.0 + 0.05 * np.arange(N))
    drifted = grown / grown.sum()
    second = portfolio(trading(both=0.2, held=drifted))
    assert (second - drifted).abs().sum() == pytest.approx(0.2, abs=1e-9)
    assert abs((second - first).abs().sum() - 0.2) > 1e-3
    assert plan_trades(first, first * 1.1 / (first * 1.1).sum()).empty


def test_turnover_without_a_book_is_refused() -> None:
    for limit in (po.Turnover(0.3), po.TradeLimit(0.1), po.NoTrade(["XOM"])):
        refused(lambda limit=limit: po.Problem(scenarios(), -po.CVaR(BETA), [*LONG_ONLY, limit]), "holdings")
    goal = po.ExpectedReturn() - po.ProportionalCost(5)
    refused(lambda: po.Problem(scenarios(), goal, LONG_ONLY), "holdings")


def test_percentages_that_were_meant_as_fractions() -> None:
    refused(lambda: build(-po.CVaR(BETA), po.Bounds(0.0, 10.0, name="Cap")), "Cap", "0.1")
    refused(lambda: build(-po.CVaR(BETA), po.GroupLimit(SECTORS, upper={"Tech": 40.0})), "GroupLimit", "0.4")


# -- limits beside a ratio -------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_a_tracking_error_keeps_its_scale_where_a_ratio_is_maximised() -> None:
    """Ratios are often solved in rescaled weights, and limits have to be rescaled with them."""
    active = po.TrackingError(benchmark=HELD) <= 0.002
    result = solve(po.ExpectedReturn() / po.Volatility(), active)
    difference = R @ (portfolio(result) - HELD).to_numpy()
    assert difference.std() == pytest.approx(0.002, rel=1e-6)
    assert result.constraints.loc["TrackingError(benchmark=...)", "value"] == pytest.approx(difference.std(), rel=1e-12)
    x = R @ result.weights.to_numpy()
    assert result.objective == pytest.approx(x.mean() / x.std(), rel=1e-9)


@pytest.mark.slow
def test_a_weight_of_one_is_the_same_in_a_sweep() -> None:
    problem = build(po.ExpectedReturn() - po.CVaR(BETA))
    swept = po.sweep(problem, {"CVaR.weight": [0.25, 1.0]})
    np.testing.assert_allclose(swept.weights.iloc[1], po.optimize(problem).weights, atol=1e-9)
    assert swept.points["objective"].iloc[1] == pytest.approx(po.optimize(problem).objective, rel=1e-12)

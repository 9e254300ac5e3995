"""Risk contributions: by hand, by finite differences, at kinks, at an optimum; parts sum to the whole."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog
from scipy.stats import norm

from portfolioopt.attribution import group_contributions, risk_contributions
from portfolioopt.errors import InputError, UnknownNameError
from portfolioopt.scenarios import ScenarioSet, tail

# A discrete worked example: ten scenarios, three assets. The losses of WEIGHTS, worst first, are
#   s3: .5 * .08 - .3 * .01 + .2 * .10 = .040 - .003 + .020 = .057
#   s7: .5 * .03 + .3 * .01 + .2 * .06 = .015 + .003 + .012 = .030
#   s1: .5 * .05 - .3 * .02 + .2 * .04 = .025 - .006 + .008 = .027
RETURNS = pd.DataFrame(
    {
        "A": [0.02, -0.05, 0.01, -0.08, 0.03, -0.01, 0.04, -0.03, 0.00, 0.02],
        "B": [-0.01, 0.02, 0.00, 0.01, -0.02, 0.01, 0.00, -0.01, 0.02, 0.01],
        "C": [0.03, -0.04, 0.02, -0.10, 0.05, -0.02, 0.01, -0.06, 0.03, -0.01],
    }
)
WEIGHTS = pd.Series({"A": 0.5, "B": 0.3, "C": 0.2})

# Rockafellar & Uryasev (2000), "Optimization of conditional value-at-risk", Journal of Risk 2: mean and
# covariance of three assets, the portfolio of least CVaR under normality, and that CVaR at 95 %.
RU_MEAN = np.array([0.0101110, 0.0043532, 0.0137058])
RU_COVARIANCE = np.array(
    [
        [0.00324625, 0.00022983, 0.00420395],
        [0.00022983, 0.00049937, 0.00019247],
        [0.00420395, 0.00019247, 0.00764097],
    ]
)
RU_WEIGHTS = pd.Series({"S&P": 0.452013, "Bonds": 0.115573, "Small cap": 0.432414})
RU_CVAR = 0.115908


def one(frame: pd.DataFrame, measure: str) -> pd.DataFrame:
    return frame[frame["measure"] == measure].set_index("asset")


# -- by hand -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("beta", "probabilities", "total", "parts"),
    [
        pytest.param(
            0.80,
            None,
            (0.057 + 0.030) / 2,
            [(0.040 + 0.015) / 2, 0.0, (0.020 + 0.012) / 2],
            id="two whole scenarios",
        ),
        pytest.param(
            0.75,
            None,
            (0.057 + 0.030 + 0.027 / 2) / 2.5,
            [(0.040 + 0.015 + 0.0125) / 2.5, -0.003 / 2.5, (0.020 + 0.012 + 0.004) / 2.5],
            id="two and a half scenarios",
        ),
        pytest.param(  # s3 has .05 and s7 has .15, which is the tail
            0.80,
            [0.05, 0.15, 0.10, 0.05, 0.10, 0.10, 0.10, 0.15, 0.10, 0.10],
            (0.05 * 0.057 + 0.15 * 0.030) / 0.20,
            [
                (0.05 * 0.040 + 0.15 * 0.015) / 0.20,
                (-0.05 * 0.003 + 0.15 * 0.003) / 0.20,
                (0.05 * 0.020 + 0.15 * 0.012) / 0.20,
            ],
            id="weighted scenarios",
        ),
    ],
)
def test_cvar_by_hand(beta: float, probabilities: list[float] | None, total: float, parts: list[float]) -> None:
    frame = risk_contributions(ScenarioSet(RETURNS, probabilities), WEIGHTS, betas=(beta,))
    cvar = one(frame, f"CVaR {100 * beta:g}%")
    np.testing.assert_allclose(cvar["contribution"], parts, rtol=1e-12, atol=1e-16)
    assert cvar["contribution"].sum() == pytest.approx(total, rel=1e-12)
    np.testing.assert_allclose(cvar["share"], np.array(parts) / total, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(cvar["marginal"], np.array(parts) / WEIGHTS, rtol=1e-12, atol=1e-15)


def test_the_frame() -> None:
    frame = risk_contributions(ScenarioSet(RETURNS), {"C": 0.2, "A": 0.5, "B": 0.3}, betas=(0.99, 0.975))
    assert frame.columns.tolist() == ["measure", "asset", "weight", "marginal", "contribution", "share"]
    assert frame["measure"].unique().tolist() == ["CVaR 99%", "CVaR 97.5%", "volatility"]
    assert frame["asset"].tolist() == ["A", "B", "C"] * 3
    assert frame["weight"].tolist() == [0.5, 0.3, 0.2] * 3
    assert frame.index.equals(pd.RangeIndex(9))
    assert (frame.drop(columns=["measure", "asset"]).dtypes == np.float64).all()
    only = risk_contributions(ScenarioSet(RETURNS), WEIGHTS, betas=())
    assert only["measure"].unique().tolist() == ["volatility"]


def published_scenarios(count: int) -> ScenarioSet:
    """Normal scenarios with exactly the published mean and covariance."""
    draws = np.random.default_rng(0).normal(size=(count, 3))
    draws -= draws.mean(axis=0)
    draws = np.linalg.solve(np.linalg.cholesky(draws.T @ draws / count), draws.T).T
    return ScenarioSet(draws @ np.linalg.cholesky(RU_COVARIANCE).T + RU_MEAN, assets=RU_WEIGHTS.index)


def test_volatility_of_a_published_portfolio() -> None:
    frame = one(risk_contributions(published_scenarios(50), RU_WEIGHTS, betas=()), "volatility")
    w = RU_WEIGHTS.to_numpy()
    sigma = np.sqrt(w @ RU_COVARIANCE @ w)
    np.testing.assert_allclose(frame["contribution"], w * (RU_COVARIANCE @ w) / sigma, rtol=1e-11)
    np.testing.assert_allclose(frame["contribution"], [0.0243310043, 0.0004599024, 0.0367337566], rtol=1e-7)


def test_cvar_of_a_published_portfolio() -> None:
    frame = one(risk_contributions(published_scenarios(200_000), RU_WEIGHTS), "CVaR 95%")
    w = RU_WEIGHTS.to_numpy()
    tail_mean = norm.pdf(norm.ppf(0.95)) / 0.05
    expected = w * (-RU_MEAN + tail_mean * (RU_COVARIANCE @ w) / np.sqrt(w @ RU_COVARIANCE @ w))
    assert expected.sum() == pytest.approx(RU_CVAR, abs=1e-6)
    # 10,000 scenarios in the tail; the standard error of each part is below .0005
    np.testing.assert_allclose(frame["contribution"], expected, atol=1.5e-3)
    assert frame["contribution"].sum() == pytest.approx(RU_CVAR, rel=0.01)


# -- against finite differences ------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("beta", [0.5, 0.9, 0.913, 0.99])
def test_marginals_are_derivatives_away_from_kinks(seed: int, beta: float) -> None:
    rng = np.random.default_rng(seed)
    assets = list("ABCDEF")
    scenarios = ScenarioSet(rng.normal(0, 0.02, (211, 6)), rng.dirichlet(np.ones(211)), assets=assets)
    weights = rng.normal(size=6)
    frame = risk_contributions(scenarios, pd.Series(weights, index=assets), betas=(beta,))

    def cvar(w: np.ndarray) -> float:
        return tail(-scenarios.matrix @ w, scenarios.probabilities, beta).cvar

    def volatility(w: np.ndarray) -> float:
        return float(np.sqrt(w @ scenarios.covariance().to_numpy() @ w))

    for measure, function in ((f"CVaR {100 * beta:g}%", cvar), ("volatility", volatility)):
        step = 1e-6
        slopes = [(function(weights + step * e) - function(weights - step * e)) / (2 * step) for e in np.eye(6)]
        np.testing.assert_allclose(one(frame, measure)["marginal"], slopes, rtol=0, atol=1e-7)


# -- parts sum to the whole ----------------------------------------------------------------------------------


@st.composite
def portfolios(draw: st.DrawFn) -> tuple[ScenarioSet, pd.Series]:
    """Few distinct returns, so that losses often tie, and weights of any sign, sometimes zero."""
    count, n = draw(st.integers(2, 30)), draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    returns = rng.integers(-4, 5, (count, n)) / 100 + draw(st.sampled_from([0.0, 0.001]))
    mass = rng.integers(1, 5, count)
    weights = rng.integers(-2, 4, n) / 4
    assets = [f"asset {i}" for i in range(n)]
    return ScenarioSet(returns, mass / mass.sum(), assets=assets), pd.Series(weights, index=assets)


@given(portfolios(), st.sampled_from([0.5, 0.75, 0.8, 0.9, 0.95, 0.99]))
def test_contributions_sum_to_the_measure(portfolio: tuple[ScenarioSet, pd.Series], beta: float) -> None:
    scenarios, weights = portfolio
    frame = risk_contributions(scenarios, weights, betas=(beta,))
    gain = scenarios.matrix @ weights.to_numpy()
    spread = np.sqrt(scenarios.probabilities @ (gain - scenarios.probabilities @ gain) ** 2)
    for measure, expected in (
        (f"CVaR {100 * beta:g}%", scenarios.tail(weights, beta).cvar),
        ("volatility", spread),
    ):
        part = one(frame, measure).drop(columns="measure")
        scale = part["contribution"].abs().sum()
        assert part["contribution"].sum() == pytest.approx(expected, rel=1e-12, abs=1e-12 * scale + 1e-16)
        assert part["share"].sum() == pytest.approx(1.0, rel=1e-9) or (part["share"] == 0).all()
        np.testing.assert_array_equal(part["contribution"], part["weight"] * part["marginal"])
        assert np.isfinite(part.to_numpy(dtype=float)).all()


@given(portfolios(), st.floats(0.01, 100.0))
def test_marginals_do_not_change_with_the_size_of_the_portfolio(
    portfolio: tuple[ScenarioSet, pd.Series], scale: float
) -> None:
    scenarios, weights = portfolio
    small, large = (one(risk_contributions(scenarios, w), "volatility") for w in (weights, scale * weights))
    np.testing.assert_allclose(large["marginal"], small["marginal"], atol=1e-12)
    np.testing.assert_allclose(large["contribution"], scale * small["contribution"], rtol=1e-9, atol=1e-12)


def test_copies_of_a_scenario_count_like_one_with_their_probability() -> None:
    doubled = ScenarioSet(pd.concat([RETURNS, RETURNS], ignore_index=True))
    single = ScenarioSet(RETURNS)
    for beta in (0.75, 0.8, 0.87, 0.95):
        pd.testing.assert_frame_equal(
            risk_contributions(doubled, WEIGHTS, betas=(beta,)),
            risk_contributions(single, WEIGHTS, betas=(beta,)),
            rtol=1e-12,
            atol=1e-15,
        )


# -- kinks ---------------------------------------------------------------------------------------------------

# At equal weights the first two scenarios both lose .02, by different assets; a tail of one is half of each.
KINK = ScenarioSet([[-0.04, 0.00], [0.00, -0.04], [0.01, 0.02], [0.02, 0.01]], assets=["A", "B"])
HALVES = pd.Series({"A": 0.5, "B": 0.5})


def test_ties_are_shared_in_proportion_to_probability() -> None:
    cvar = one(risk_contributions(KINK, HALVES, betas=(0.75,)), "CVaR 75%")
    np.testing.assert_allclose(cvar["contribution"], [0.01, 0.01], rtol=1e-13)
    weighted = ScenarioSet(KINK.returns, [0.1, 0.3, 0.3, 0.3])
    cvar = one(risk_contributions(weighted, HALVES, betas=(0.75,)), "CVaR 75%")
    np.testing.assert_allclose(cvar["contribution"], [0.005, 0.015], rtol=1e-13)


@pytest.mark.parametrize("split", [0.0, 0.3, 1.0])
def test_any_tail_distribution_at_a_kink_may_be_given(split: float) -> None:
    given_tail = np.array([split, 1 - split, 0.0, 0.0])
    frame = risk_contributions(KINK, HALVES, betas=(0.75,), tail_weights={0.75: given_tail})
    cvar = one(frame, "CVaR 75%")
    np.testing.assert_allclose(cvar["contribution"], [0.02 * split, 0.02 * (1 - split)], atol=1e-16)
    labelled = pd.Series(given_tail, index=KINK.index)
    again = risk_contributions(KINK, HALVES, betas=(0.75,), tail_weights={0.75: labelled})
    pd.testing.assert_frame_equal(again, frame)


def test_marginals_balance_at_the_optimum_under_the_dual_tail_only() -> None:
    """Least CVaR of a fully invested long-only portfolio, by linear programming with its duals."""
    rng = np.random.default_rng(3)
    count, n, beta = 200, 8, 0.9
    returns = rng.normal(0.0005, 0.01, (count, n)) + 0.01 * rng.normal(size=(count, 1))
    returns[:, 0] *= 3.0  # one asset too risky to hold
    scenarios = ScenarioSet(returns, assets=list("ABCDEFGH"))
    # variables: weights, t, excess of each scenario;  -R w - t - u <= 0
    p = scenarios.probabilities
    answer = linprog(
        np.concatenate([np.zeros(n), [1.0], p / (1 - beta)]),
        A_ub=np.hstack([-returns, -np.ones((count, 1)), -np.eye(count)]),
        b_ub=np.zeros(count),
        A_eq=np.concatenate([np.ones(n), np.zeros(count + 1)])[None, :],
        b_eq=[1.0],
        bounds=[(0, None)] * n + [(None, None)] + [(0, None)] * count,
        method="highs-ds",
    )
    weights = pd.Series(answer.x[:n], index=scenarios.assets)
    dual = np.maximum(-answer.ineqlin.marginals, 0.0)
    held = weights > 1e-9
    assert 2 <= held.sum() < n

    frame = risk_contributions(scenarios, weights, betas=(beta,), tail_weights={beta: dual})
    balanced = one(frame, "CVaR 90%")
    np.testing.assert_allclose(balanced["marginal"][held.to_numpy()], answer.fun, rtol=1e-7)
    assert (balanced["marginal"][~held.to_numpy()] >= answer.fun * (1 - 1e-9)).all()
    np.testing.assert_allclose(balanced["share"], weights, atol=1e-7)
    assert balanced["contribution"].sum() == pytest.approx(answer.fun, rel=1e-9)

    plain = one(risk_contributions(scenarios, weights, betas=(beta,)), "CVaR 90%")
    assert np.ptp(plain["marginal"][held.to_numpy()]) > 1e-4  # the reason why the dual may be passed
    assert plain["contribution"].sum() == pytest.approx(answer.fun, rel=1e-9)


@pytest.mark.parametrize(
    ("given_tail", "message"),
    [
        ([0.5, 0.5, 0.0], r"has shape \(3,\) for 4 scenarios"),
        ([0.5, np.nan, 0.5, 0.0], "is not finite for scenarios 1"),
        ([0.7, 0.4, -0.1, 0.0], "is negative for scenarios 2"),
        ([0.5, 0.4, 0.0, 0.0], "sums to 0.9, not to one"),
        ([0.0, 0.0, 0.5, 0.5], "mean loss of -0.015 where the CVaR of these weights is 0.02"),
        (pd.Series([0.5, 0.5, 0, 0], index=list("wxyz")), "labelled differently from the scenarios"),
    ],
)
def test_tail_weights_that_are_refused(given_tail: object, message: str) -> None:
    with pytest.raises(InputError, match=r"tail_weights\[0.75\] .*" + message):
        risk_contributions(KINK, HALVES, betas=(0.75,), tail_weights={0.75: given_tail})  # type: ignore[dict-item]


def test_tail_weights_above_the_cap_or_of_no_level_are_refused() -> None:
    with pytest.raises(InputError, match=r"above the cap, the scenario probability over 0\.5, for scenarios 0"):
        risk_contributions(KINK, HALVES, betas=(0.5,), tail_weights={0.5: [0.6, 0.4, 0.0, 0.0]})
    with pytest.raises(UnknownNameError, match=r"unknown confidence level in tail_weights: 0.9 .*0.95"):
        risk_contributions(KINK, HALVES, tail_weights={0.9: [0.5, 0.5, 0.0, 0.0]})


# -- no risk -------------------------------------------------------------------------------------------------


def test_no_positions_no_risk() -> None:
    frame = risk_contributions(ScenarioSet(RETURNS), 0.0 * WEIGHTS)
    assert (frame[["contribution", "share"]] == 0.0).all(axis=None)
    assert np.isfinite(frame["marginal"]).all()


def test_cash_alone_has_a_certain_gain_and_no_volatility() -> None:
    scenarios = ScenarioSet(RETURNS.assign(cash=0.0001))
    frame = risk_contributions(scenarios, {"A": 0.0, "B": 0.0, "C": 0.0, "cash": 1.0})
    np.testing.assert_allclose(one(frame, "CVaR 95%")["contribution"], [0, 0, 0, -0.0001], rtol=1e-12)
    assert one(frame, "CVaR 95%")["share"].tolist() == [0.0, 0.0, 0.0, 1.0]
    assert (one(frame, "volatility")[["marginal", "contribution", "share"]] == 0.0).all(axis=None)


def test_a_perfect_hedge_has_no_volatility() -> None:
    returns = np.random.default_rng(0).normal(0, 0.02, (500, 1))
    scenarios = ScenarioSet(np.hstack([returns, 0.3 * returns]), assets=["A", "hedge"])
    frame = risk_contributions(scenarios, {"A": 0.3, "hedge": -1.0})
    assert (one(frame, "volatility")[["marginal", "contribution", "share"]] == 0.0).all(axis=None)
    assert (one(frame, "CVaR 95%")["share"] == 0.0).all()
    assert one(frame, "CVaR 95%")["contribution"].sum() == pytest.approx(0.0, abs=1e-16)


# -- refusals ------------------------------------------------------------------------------------------------


def test_arguments_that_are_refused() -> None:
    scenarios = ScenarioSet(RETURNS)
    with pytest.raises(UnknownNameError, match="did you mean 'A'"):
        risk_contributions(scenarios, {"a": 0.5, "B": 0.3, "C": 0.2})
    with pytest.raises(InputError, match="weights says nothing about 'C'"):
        risk_contributions(scenarios, {"A": 0.5, "B": 0.5})
    with pytest.raises(InputError, match="beta must lie strictly between 0 and 1, was 95"):
        risk_contributions(scenarios, WEIGHTS, betas=(95,))
    with pytest.raises(InputError, match=r"betas names 0\.95 twice"):
        risk_contributions(scenarios, WEIGHTS, betas=(0.95, 0.95))
    with pytest.raises(InputError, match=r"betas must be a sequence .* was 0.95"):
        risk_contributions(scenarios, WEIGHTS, betas=0.95)  # type: ignore[arg-type]


# -- groups --------------------------------------------------------------------------------------------------

SECTORS = pd.Series({"A": "Tech", "B": "Bonds", "C": "Tech"})


def test_groups_by_hand() -> None:
    groups = group_contributions(risk_contributions(ScenarioSet(RETURNS), WEIGHTS, betas=(0.75,)), SECTORS)
    assert groups.columns.tolist() == ["measure", "group", "weight", "contribution", "share"]
    assert groups["measure"].tolist() == ["CVaR 75%"] * 2 + ["volatility"] * 2
    assert groups["group"].tolist() == ["Tech", "Bonds"] * 2
    np.testing.assert_allclose(groups["weight"], [0.7, 0.3] * 2)
    np.testing.assert_allclose(groups["contribution"][:2], [(0.0675 + 0.036) / 2.5, -0.003 / 2.5], rtol=1e-12)


@given(portfolios(), st.integers(1, 4))
def test_groups_sum_to_the_same_totals(portfolio: tuple[ScenarioSet, pd.Series], count: int) -> None:
    frame = risk_contributions(*portfolio, betas=(0.8, 0.95))
    labels = {asset: f"group {i % count}" for i, asset in enumerate(portfolio[1].index)}
    columns = ["weight", "contribution", "share"]
    pd.testing.assert_frame_equal(
        group_contributions(frame, labels).groupby("measure", sort=False)[columns].sum(),
        frame.groupby("measure", sort=False)[columns].sum(),
        atol=1e-13,
    )


def test_labels_of_any_kind() -> None:
    frame = risk_contributions(ScenarioSet(RETURNS), WEIGHTS)
    expected = group_contributions(frame, SECTORS)
    for labels in ({"B": "Bonds", "A": "Tech", "C": "Tech"}, SECTORS.astype("category"), SECTORS[::-1]):
        pd.testing.assert_frame_equal(group_contributions(frame, labels), expected)


def test_labels_that_are_refused() -> None:
    frame = risk_contributions(ScenarioSet(RETURNS), WEIGHTS)
    with pytest.raises(UnknownNameError, match=r"unknown asset: 'a' \(did you mean 'A'\?\)"):
        group_contributions(frame, {"a": "Tech", "B": "Bonds", "C": "Tech"})
    with pytest.raises(InputError, match="labels says nothing about 'C'; give every asset a label"):
        group_contributions(frame, SECTORS.drop("C"))
    with pytest.raises(InputError, match="labels says nothing about 'B'"):
        group_contributions(frame, SECTORS.replace("Bonds", None))
    with pytest.raises(InputError, match="labels names an asset twice: 'A'"):
        group_contributions(frame, pd.concat([SECTORS, SECTORS[:1]]))
    with pytest.raises(InputError, match="labels must be a Series or mapping"):
        group_contributions(frame, ["Tech", "Bonds", "Tech"])  # type: ignore[arg-type]
    with pytest.raises(InputError, match="has no column 'contribution', 'share'"):
        group_contributions(frame.drop(columns=["contribution", "share"]), SECTORS)

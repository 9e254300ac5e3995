"""Standard errors and intervals: against closed forms, scipy, statsmodels, arch, and repetition."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from arch.bootstrap import IIDBootstrap
from scipy import integrate, stats

import portfolioopt as po
from portfolioopt.confidence import BatchMeans, NeweyWest, report, sampling_error, scenarios_needed

ONE = {"A": 1.0}


def single(losses: np.ndarray, p: np.ndarray | None = None) -> po.ScenarioSet:
    return po.ScenarioSet(-np.asarray(losses)[:, None], p, assets=["A"])


def true_cvar(loss: stats.rv_continuous, beta: float) -> float:
    return integrate.quad(loss.ppf, beta, 1.0, limit=200)[0] / (1.0 - beta)


def covered(draw, truth: float, name: str, times: int, **options) -> float:
    hits = 0
    for i in range(times):
        frame = sampling_error((single(draw(np.random.default_rng([31, times, i]))), ONE), seed=i, **options).frame
        hits += frame["lower"][name] <= truth <= frame["upper"][name]
    return hits / times


# -- closed forms ------------------------------------------------------------------------------------------------
def test_mean_and_volatility_agree_with_the_textbook() -> None:
    losses = 0.01 * np.random.default_rng(1).standard_normal(4000)
    frame = sampling_error((single(losses), ONE)).frame
    assert frame["standard_error"]["expected return"] == pytest.approx(stats.sem(losses))
    low, high = stats.t.interval(0.95, 3999, -losses.mean(), stats.sem(losses))
    assert frame.loc["expected return", ["lower", "upper"]].tolist() == pytest.approx([low, high])
    # of a normal sample: sigma / sqrt(2 S)
    assert frame["standard_error"]["volatility"] == pytest.approx(losses.std() / np.sqrt(8000), rel=0.05)


def test_cvar_error_is_the_asymptotic_one_of_a_normal_loss() -> None:
    beta, s = 0.95, 200_000
    losses = 0.02 * np.random.default_rng(2).standard_normal(s)
    q = stats.norm.ppf(beta)
    first = integrate.quad(lambda x: (x - q) * stats.norm.pdf(x), q, np.inf)[0]
    second = integrate.quad(lambda x: (x - q) ** 2 * stats.norm.pdf(x), q, np.inf)[0]
    wanted = 0.02 * np.sqrt(second - first**2) / (1 - beta) / np.sqrt(s)
    row = sampling_error((single(losses), ONE), beta).frame.loc["CVaR 95%"].to_dict()
    assert row["standard_error"] == pytest.approx(wanted, rel=0.02)
    assert row["estimate"] == pytest.approx(0.02 * stats.norm.pdf(q) / (1 - beta), rel=0.01)


@pytest.mark.parametrize(("s", "beta"), [(400, 0.95), (1000, 0.9), (2000, 0.99)])
def test_value_at_risk_has_the_exact_interval_of_order_statistics(s: int, beta: float) -> None:
    losses = 0.01 * np.random.default_rng([3, s]).standard_t(4, s)
    exact = stats.quantile_test(losses, q=0.0, p=beta).confidence_interval(0.95)
    row = sampling_error((single(losses), ONE), beta).frame.loc[f"VaR {100 * beta:g}%"].to_dict()
    ordered = np.sort(losses)
    for end, wanted in zip((row["lower"], row["upper"]), exact, strict=True):
        assert abs(int(np.searchsorted(ordered, end)) - int(np.searchsorted(ordered, wanted))) <= 1


def test_too_few_scenarios_for_the_value_at_risk_say_so() -> None:
    asked = single(np.arange(50) * 1e-3), ONE
    row = sampling_error(asked, 0.95).frame.loc["VaR 95%"].to_dict()
    assert row["upper"] == np.inf
    assert np.isnan(row["standard_error"])
    assert "unknown" in repr(report(asked))
    with pytest.raises(po.InputError, match="50 scenarios are too few"):
        scenarios_needed(asked, 1.0, what="var")


# -- weights and dependence --------------------------------------------------------------------------------------
def test_importance_weights_have_the_error_that_repetition_shows() -> None:
    """Losses drawn from a wider normal than they are meant to have, with the likelihood ratio as weights."""
    found, errors = [], []
    for i in range(250):
        x = 1.5 * np.random.default_rng([4, i]).standard_normal(2000)
        w = stats.norm.pdf(x) / stats.norm.pdf(x, scale=1.5)
        row = sampling_error((single(0.01 * x, w / w.sum()), ONE)).frame
        found.append(row["estimate"])
        errors.append(row["standard_error"])
    spread, said = pd.DataFrame(found).std(), pd.DataFrame(errors).median()
    for name in ("expected return", "volatility", "CVaR 95%", "VaR 95%"):
        assert said[name] == pytest.approx(spread[name], rel=0.12), name


def test_effective_number_of_scenarios() -> None:
    p = np.full(100, 0.01)
    errors = sampling_error((single(np.linspace(0, 0.01, 100), p), ONE))
    assert errors.effective_scenarios == pytest.approx(100)
    assert "worth" not in errors.title
    p = np.append(np.full(50, 0.02), np.zeros(50))  # half of them cannot happen: as if they were not there
    half = sampling_error((single(np.linspace(0, 0.01, 100), p), ONE))
    alone = sampling_error((single(np.linspace(0, 0.01, 100)[:50]), ONE))
    assert "worth 50" in half.title
    pd.testing.assert_frame_equal(half.frame, alone.frame)


def test_newey_west_agrees_with_statsmodels() -> None:
    rng = np.random.default_rng(5)
    losses = 0.01 * np.convolve(rng.standard_normal(1504), np.ones(5), "valid")
    fit = sm.OLS(losses, np.ones(1500)).fit(cov_type="HAC", cov_kwds={"maxlags": 7, "use_correction": True})
    frame = sampling_error((single(losses), ONE), dependence=NeweyWest(7)).frame
    assert frame["standard_error"]["expected return"] == pytest.approx(float(fit.bse[0]), rel=1e-9)
    # with no lag they are independent
    zero = sampling_error((single(losses), ONE), dependence=NeweyWest(0)).frame
    pd.testing.assert_frame_equal(zero, sampling_error((single(losses), ONE)).frame)
    assert frame["standard_error"]["CVaR 95%"] > 1.3 * zero["standard_error"]["CVaR 95%"]


def test_batch_means_are_the_error_of_the_mean_of_batches() -> None:
    losses = 0.01 * np.random.default_rng(6).standard_normal(1200)
    frame = sampling_error((single(losses), ONE), dependence=BatchMeans(40)).frame
    means = losses.reshape(30, 40).mean(axis=1)
    assert frame["standard_error"]["expected return"] == pytest.approx(stats.sem(means))
    low, high = stats.t.interval(0.95, 29, -losses.mean(), stats.sem(means))
    assert frame.loc["expected return", ["lower", "upper"]].tolist() == pytest.approx([low, high])


def test_overlapping_horizons_need_their_dependence() -> None:
    """Sums of five that overlap: independent errors cover far too little, both corrections nearly enough."""

    def draw(rng: np.random.Generator) -> np.ndarray:
        return 0.01 * np.convolve(rng.standard_normal(2004), np.ones(5), "valid")

    truth = true_cvar(stats.norm(scale=0.01 * np.sqrt(5)), 0.95)
    shares = {
        repr(dependence): covered(draw, truth, "CVaR 95%", 100, dependence=dependence)
        for dependence in (None, NeweyWest(10), BatchMeans(50))
    }
    assert shares.pop("None") < 0.80
    assert min(shares.values()) > 0.86


# -- bootstrap ---------------------------------------------------------------------------------------------------
def test_studentised_interval_of_the_mean_agrees_with_arch() -> None:
    losses = 0.01 * (np.random.default_rng(7).exponential(size=150) - 1.0)
    ours = sampling_error((single(losses), ONE), method="studentised", repeats=2000, seed=1).frame
    bootstrap = IIDBootstrap(-losses, seed=np.random.default_rng(8))
    (low,), (high,) = bootstrap.conf_int(np.mean, 2000, method="studentized", std_err_func=lambda m, x: stats.sem(x))
    row = ours.loc["expected return"].to_dict()
    half = 0.5 * (row["upper"] - row["lower"])
    assert row["lower"] == pytest.approx(low, abs=0.08 * half)
    assert row["upper"] == pytest.approx(high, abs=0.08 * half)
    plain = sampling_error((single(losses), ONE)).frame
    pd.testing.assert_frame_equal(ours[["estimate", "standard_error"]], plain[["estimate", "standard_error"]])


def test_bootstrap_is_reproducible_and_leans_towards_the_tail() -> None:
    losses = 0.01 * np.random.default_rng(9).standard_t(4, 500)
    one, again, other = (
        sampling_error((single(losses), ONE), method="studentised", repeats=199, seed=seed).frame for seed in (3, 3, 4)
    )
    pd.testing.assert_frame_equal(one, again)
    assert not one.equals(other)
    row = one.loc["CVaR 95%"].to_dict()
    assert row["upper"] - row["estimate"] > 1.3 * (row["estimate"] - row["lower"])
    batches = sampling_error(
        (single(losses), ONE), method="studentised", repeats=199, dependence=BatchMeans(1), seed=3
    ).frame
    pd.testing.assert_frame_equal(batches.loc[["CVaR 95%"]], one.loc[["CVaR 95%"]], rtol=1e-2)


# -- what it works on --------------------------------------------------------------------------------------------
def test_streamed_sets_give_the_same_errors() -> None:
    rng = np.random.default_rng(10)
    matrix = 0.01 * rng.standard_normal((3000, 3))
    weights = {"A": 0.5, "B": 0.3, "C": 0.2}
    whole = po.ScenarioSet(matrix, assets=list("ABC"))
    chunks = po.ScenarioSet.generated(lambda i: matrix[700 * i : 700 * (i + 1)], 3000, list("ABC"), chunk_rows=700)
    for options in ({}, {"method": "studentised", "repeats": 99}):
        one = sampling_error((whole, weights), **options).frame
        pd.testing.assert_frame_equal(sampling_error((chunks, weights), **options).frame, one)


def test_errors_scale_with_the_portfolio_and_ignore_the_order_of_scenarios() -> None:
    rng = np.random.default_rng(11)
    losses = 0.01 * rng.standard_t(5, 800)
    one = sampling_error((single(losses), ONE)).frame
    double = sampling_error((single(losses), {"A": 2.0})).frame
    mixed = sampling_error((single(rng.permutation(losses)), ONE)).frame
    np.testing.assert_allclose(double, 2 * one, rtol=1e-9)
    np.testing.assert_allclose(mixed, one, rtol=1e-9)
    shifted = sampling_error((single(losses + 0.05), ONE)).frame
    np.testing.assert_allclose(shifted["standard_error"], one["standard_error"], rtol=1e-9)


def test_bad_input_is_refused_in_words() -> None:
    asked = single(np.linspace(0, 0.01, 100)), ONE
    moments = po.ScenarioSet.from_moments(None, pd.DataFrame([[1e-4]], ["A"], ["A"]))
    with pytest.raises(po.InputError, match="mean and covariance alone"):
        sampling_error((moments, ONE))
    with pytest.raises(po.InputError, match="pair"):
        sampling_error(ONE)
    with pytest.raises(po.InputError, match="level must lie strictly between"):
        sampling_error(asked, level=95)
    with pytest.raises(po.InputError, match="beta must lie"):
        sampling_error(asked, 95)
    with pytest.raises(po.InputError, match="dependence must be"):
        sampling_error(asked, dependence=5)
    with pytest.raises(po.InputError, match="'asymptotic' or 'studentised'"):
        sampling_error(asked, method="jackknife")
    with pytest.raises(po.InputError, match="BatchMeans"):
        sampling_error(asked, method="studentised", dependence=NeweyWest(3))
    with pytest.raises(po.InputError, match="one batch of 100"):
        sampling_error(asked, dependence=BatchMeans(100))
    with pytest.raises(po.InputError, match="more than 100"):
        sampling_error(asked, dependence=NeweyWest(100))
    with pytest.raises(po.InputError, match="at least 1"):
        BatchMeans(0)
    with pytest.raises(po.UnknownNameError):
        sampling_error((asked[0], {"B": 1.0}))


# -- how many are needed -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("what", ["cvar", "var", "expected return", "volatility"])
def test_so_many_scenarios_are_as_exact_as_was_asked(what: str) -> None:
    pilot = 0.01 * np.random.default_rng(12).standard_normal(200_000)
    advice = scenarios_needed((single(pilot), ONE), 5.0, what=what)
    assert advice.enough
    name = {"cvar": "CVaR 95%", "var": "VaR 95%"}.get(what, what)
    q = stats.norm.ppf(0.95)
    truth = {"cvar": stats.norm.pdf(q) / 0.05, "var": q, "expected return": 0.0, "volatility": 1.0}[what] * 0.01
    halves, misses = [], []
    for i in range(150):
        losses = 0.01 * np.random.default_rng([13, i]).standard_normal(advice.scenarios)
        row = sampling_error((single(losses), ONE)).frame.loc[name].to_dict()
        halves.append(0.5 * (row["upper"] - row["lower"]))
        misses.append(abs(row["estimate"] - truth) > 5e-4)
    assert 1e4 * np.mean(halves) == pytest.approx(5.0, rel=0.08 if what != "var" else 0.12)  # no density is known
    assert np.mean(misses) < 0.10


def test_advice_in_words() -> None:
    asked = single(0.01 * np.random.default_rng(14).standard_normal(1000)), ONE
    wanted = scenarios_needed(asked, 1.0)
    assert repr(wanted).startswith("CVaR 95% is known to ±")
    assert f"take {wanted.scenarios:,}" in repr(wanted)
    assert scenarios_needed(asked, 2.0).scenarios == pytest.approx(wanted.scenarios / 4, rel=1e-3)
    assert "are enough" in repr(scenarios_needed(asked, 500.0))
    printed = report(asked)
    assert repr(wanted) in repr(printed)
    assert "<table" in printed._repr_html_()
    assert printed.frame.index.tolist() == ["expected return", "volatility", "VaR 95%", "CVaR 95%"]
    with pytest.raises(po.UnknownNameError, match="cvar"):
        scenarios_needed(asked, what="cvr")
    with pytest.raises(po.InputError, match="within_bp must be above 0"):
        scenarios_needed(asked, 0.0)
    with pytest.raises(po.InputError, match="no standard error of the objective"):
        scenarios_needed(asked, what="objective")


# -- coverage ----------------------------------------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.parametrize(("df", "s"), [(np.inf, 10_000), (6, 10_000), (4, 10_000)])
def test_intervals_of_cvar_cover_what_they_say(df: float, s: int) -> None:
    """A tail of 500 losses is enough for the asymptotic interval, heavy or not."""
    loss = stats.norm(scale=0.01) if np.isinf(df) else stats.t(df, scale=0.01)
    truth = true_cvar(loss, 0.95)
    share = covered(lambda rng: loss.rvs(s, random_state=rng), truth, "CVaR 95%", 1000)
    assert 0.93 <= share <= 0.97


@pytest.mark.slow
def test_few_heavy_tails_need_the_studentised_interval() -> None:
    """500 losses of Student's t with 5 degrees of freedom: 25 of them in the tail."""
    loss = stats.t(5, scale=0.01)
    truth = true_cvar(loss, 0.95)
    shares = [
        covered(lambda rng: loss.rvs(500, random_state=rng), truth, "CVaR 95%", 150, method=method, repeats=199)
        for method in ("asymptotic", "studentised")
    ]
    assert shares[1] > shares[0] + 0.02
    assert shares[1] > 0.88

"""Blends of allocators: the walk forward by hand, grids over blends, closed forms, and no look ahead."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest

import portfolioopt as po
from portfolioopt.allocation import equal_weight, inverse_volatility
from portfolioopt.allocation.stack import stack

RETURNS = po.data.simple_returns(po.data.sample_prices()).iloc[-260:, :6]
ASSETS = RETURNS.columns


def winner(scenarios: po.ScenarioSet) -> pd.Series:
    """All in what has done best."""
    mean = scenarios.mean()
    return pd.Series(np.where(mean == mean.max(), 1.0, 0.0), mean.index)


def steady(scenarios: po.ScenarioSet) -> pd.Series:
    """In proportion to the inverse variance, by pandas."""
    inverse = 1.0 / scenarios.returns.var()
    return inverse / inverse.sum()


THREE: dict[str, Callable[[po.ScenarioSet], Any]] = {"equal": equal_weight, "steady": steady, "winner": winner}
WALK: dict[str, Any] = {"first": 100, "step": 30}


def test_the_walk_by_hand() -> None:
    result = stack(RETURNS, THREE, **WALK, risk=po.Variance())
    expected = []
    for at in range(100, 260, 30):
        past, ahead = RETURNS.iloc[:at], RETURNS.iloc[at : at + 30]
        inverse = 1.0 / past.var()
        best = past.mean().idxmax()
        expected.append(np.column_stack([ahead.mean(axis=1), ahead @ inverse / inverse.sum(), ahead[best]]))
    found = result.details["out_of_sample"]
    np.testing.assert_allclose(found[list(THREE)], np.vstack(expected), rtol=1e-10, atol=1e-16)
    assert found.index.equals(RETURNS.index[100:])
    folds = result.details["folds"]
    assert folds["earned_from"].tolist() == [RETURNS.index[at] for at in range(100, 260, 30)]
    assert folds["earned_to"].iloc[-1] == RETURNS.index[-1]
    over_time = result.details["weights_over_time"]
    assert over_time.shape == (18, 6)
    np.testing.assert_allclose(over_time.loc[(RETURNS.index[130], "steady")], steady(po.ScenarioSet(RETURNS[:130])))


def test_the_portfolio_is_the_blend() -> None:
    result = stack(RETURNS, THREE, **WALK, risk=po.Variance())
    share, weights = result.details["blend"], result.details["weights"]
    assert share.sum() == pytest.approx(1.0, abs=1e-9)
    assert (share >= 0).all()
    np.testing.assert_allclose(result.weights, weights @ share, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(weights["winner"], winner(po.ScenarioSet(RETURNS)))
    np.testing.assert_allclose(weights["equal"], 1 / 6)
    blended = result.details["out_of_sample"]
    np.testing.assert_allclose(blended["blend"], blended[list(THREE)] @ share)
    assert result.status.name == "optimal"
    assert result.certificate is not None
    assert result.certificate.gap == pytest.approx(max(result.details["blend_result"].certificate.gap, 0.0), abs=1e-12)


def test_least_variance_by_its_conditions() -> None:
    """At the optimum all allocators that are held add as much risk per share, and no other adds less."""
    result = stack(RETURNS, THREE, **WALK, risk=po.Variance(), tolerance=1e-10)
    share = result.details["blend"]
    marginal = result.details["out_of_sample"][list(THREE)].cov(ddof=0) @ share
    least = marginal @ share
    held = share > 1e-6
    assert 0 < held.sum() < 3
    np.testing.assert_allclose(marginal[held], least, rtol=1e-4)
    assert (marginal >= least * (1 - 1e-4)).all()
    assert result.details["risk"]["blend"] == pytest.approx(least, rel=1e-9)


def test_least_cvar_on_a_grid() -> None:
    only = {
        f"only {asset}": (lambda a: lambda s: pd.Series((s.assets == a) * 1.0, s.assets))(asset) for asset in ASSETS[:3]
    }
    result = stack(RETURNS, only, **WALK)
    table = -result.details["out_of_sample"][list(only)].to_numpy()
    steps = np.linspace(0.0, 1.0, 51)
    grid = np.array([[a, b, 1 - a - b] for a in steps for b in steps if a + b <= 1 + 1e-12])
    losses = np.sort(table @ grid.T, axis=0)[::-1]
    count = 0.05 * len(table)  # the mean of the worst 8 of 160 days
    assert count == pytest.approx(8.0)
    risks = losses[:8].mean(axis=0)
    assert result.details["risk"]["blend"] <= risks.min() + 1e-12
    assert result.details["risk"]["blend"] >= 0.97 * risks.min()
    for asset, name in zip(ASSETS, only, strict=False):
        worst = np.sort(RETURNS[asset].to_numpy()[100:])[:8]
        assert result.details["risk"][name] == pytest.approx(-worst.mean(), rel=1e-10)


def test_inverse_risk() -> None:
    result = stack(RETURNS, THREE, **WALK, risk=po.Volatility(), blend="inverse")
    inverse = 1.0 / result.details["out_of_sample"][list(THREE)].std(ddof=0)
    np.testing.assert_allclose(result.details["blend"], inverse / inverse.sum(), rtol=1e-10)
    assert "blend_result" not in result.details


def test_a_reward_and_limits_on_shares() -> None:
    risk = 3.0 * po.CVaR(0.95) - po.ExpectedReturn()
    cap = po.LinearLimit("winner <= 0.2", name="cap")
    result = stack(RETURNS, THREE, **WALK, risk=risk, limits=[cap])
    assert result.details["blend"]["winner"] <= 0.2 + 1e-9
    table = result.details["out_of_sample"]["blend"]
    expected = 3.0 * -np.sort(table)[:8].mean() - table.mean()
    assert result.details["risk"]["blend"] == pytest.approx(expected, rel=1e-9)


def test_one_allocator_is_taken_as_it_is() -> None:
    result = stack(RETURNS, {"inverse volatility": inverse_volatility}, **WALK, blend="inverse")
    np.testing.assert_allclose(result.weights, inverse_volatility(po.ScenarioSet(RETURNS)).weights, rtol=1e-9)


def test_noise_on_top_is_left_out() -> None:
    """Of allocators that differ by bets without reward, the one without them is chosen."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame(0.01 * random.normal(size=(260, 3)), columns=list("ABC"))
    calm = pd.Series(1 / 3, frame.columns)
    bet = pd.Series([2.0, -2.0, 0.0], frame.columns)
    three = {"calm": lambda s: calm, "wild": lambda s: calm + bet, "wilder": lambda s: calm + 2.0 * bet}
    result = stack(frame, three, **WALK, risk=po.Variance())
    assert result.details["blend"]["calm"] > 0.9


# -- time --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("window", "gap"), [(None, 0), (60, 0), (60, 5)])
def test_what_is_seen(window: int | None, gap: int) -> None:
    seen: list[pd.Index] = []

    def watching(scenarios: po.ScenarioSet) -> pd.Series:
        seen.append(scenarios.index)
        return steady(scenarios)

    result = stack(RETURNS, {"watching": watching}, **WALK, window=window, gap=gap, blend="inverse")
    for index, (_, fold) in zip(seen, result.details["folds"].iterrows(), strict=False):
        assert (index[0], index[-1]) == (fold["seen_from"], fold["seen_to"])
        assert RETURNS.index.get_loc(fold["earned_from"]) - RETURNS.index.get_loc(index[-1]) == gap + 1
        assert window is None or len(index) == window
    earned = result.details["out_of_sample"].index
    assert earned.equals(RETURNS.index[100 + gap :])
    assert all(
        one["earned_to"] < other["earned_from"] for (_, one), (_, other) in pairwise(result.details["folds"].iterrows())
    )
    assert seen[-1][-1] == RETURNS.index[-1]  # the portfolio itself is for tomorrow


def test_the_future_does_not_move_the_past() -> None:
    changed = RETURNS.copy()
    changed.iloc[190:] *= -3.0
    one, other = (stack(frame, THREE, **WALK, blend="inverse").details for frame in (RETURNS, changed))
    cut = RETURNS.index[190]
    for what in ("out_of_sample", "weights_over_time"):
        before, after = (
            details[what].drop(columns="blend", errors="ignore")[lambda f: f.index.get_level_values(0) < cut]
            for details in (one, other)
        )
        pd.testing.assert_frame_equal(before, after)
    # the weights that earn from the cut on were chosen before it
    pd.testing.assert_frame_equal(one["weights_over_time"].loc[cut], other["weights_over_time"].loc[cut])


# -- what is refused ---------------------------------------------------------------------------------------------
def test_a_failing_allocator_is_named() -> None:
    def picky(scenarios: po.ScenarioSet) -> Any:
        if len(scenarios.index) > 150:
            raise po.InputError("too much to read")
        return steady(scenarios)

    with pytest.raises(po.InputError, match=r"allocator 'picky', given .* failed: too much to read"):
        stack(RETURNS, {"equal": equal_weight, "picky": picky}, **WALK)

    def impossible(scenarios: po.ScenarioSet, *, stops: bool) -> po.Result:
        limits = [po.Bounds(0.2, 1.0), po.Bounds(0.0, 0.1, name="tight")]
        return po.optimize(po.Problem(scenarios, po.ExpectedReturn(), limits), raise_on_failure=stops)

    for stops in (True, False):
        with pytest.raises(po.SolveError, match=r"allocator 'impossible', given .* found no portfolio: "):
            stack(RETURNS, {"impossible": partial(impossible, stops=stops)}, **WALK)

    def broken(scenarios: po.ScenarioSet) -> pd.Series:
        raise KeyError("typo")

    with pytest.raises(KeyError, match="typo") as caught:
        stack(RETURNS, {"broken": broken}, **WALK)
    assert "allocator 'broken'" in caught.value.__notes__[0]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"allocators": {}}, "must map names to functions"),
        ({"allocators": {"equal": "equal_weight"}}, "must map names to functions"),
        ({"allocators": {"array": lambda s: np.ones(6) / 6}}, "'array', .* must return a Result or a Series"),
        ({"allocators": {"part": lambda s: pd.Series({ASSETS[0]: 1.0})}}, "'part', .* says nothing about"),
        ({"first": 1}, "first must be a whole number, at least 2"),
        ({"step": 0}, "step must be"),
        ({"first": 259}, "needs at least 261 rows"),
        ({"window": 200}, "raise first"),
        ({"blend": "best"}, "'optimal' or 'inverse'"),
        ({"risk": 0.95}, "made of terms"),
        ({"returns": RETURNS[::-1]}, "not in increasing order"),
        ({"blend": "inverse", "risk": -1.0 * po.ExpectedReturn() - 1.0 * po.ExpectedReturn()}, "has no inverse"),
    ],
)
def test_what_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(po.InputError, match=words):
        stack(**({"returns": RETURNS, "allocators": THREE} | WALK | given))

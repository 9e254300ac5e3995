"""Backtest overfitting beside a plain loop over halves, on noise, and where one run is truly better."""

from __future__ import annotations

from importlib import import_module
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from portfolioopt.backtest.overfitting import best_of_many, overfitting_probability
from portfolioopt.backtest.sharpe import sharpe_ratio
from portfolioopt.errors import InputError


def noise(rows: int, runs: int, seed: int) -> pd.DataFrame:
    values = np.random.default_rng(seed).standard_t(5, size=(rows, runs)) * 0.01
    names = [f"run {r}" for r in range(runs)]
    return pd.DataFrame(values, index=pd.bdate_range("2001-01-01", periods=rows), columns=names)


def measure(frame: pd.DataFrame, metric: str, risk_free: float) -> pd.Series:
    """Performance of a half by pandas."""
    excess = frame - risk_free / 252
    if metric == "sharpe":
        return excess.mean() / excess.std() * np.sqrt(252)
    return 252 * excess.mean() if metric == "mean" else 252 * np.log(1 + frame).mean()


@pytest.mark.parametrize(("metric", "rows", "blocks"), [("sharpe", 120, 6), ("mean", 125, 6), ("growth", 131, 8)])
def test_every_half_is_that_of_a_plain_loop(metric: str, rows: int, blocks: int) -> None:
    returns = noise(rows, 7, seed=rows)
    found = overfitting_probability(returns, blocks=blocks, metric=metric, risk_free=0.03)
    parts = np.array_split(np.arange(rows), blocks)
    below = []
    choices = list(combinations(range(blocks), blocks // 2))
    assert len(found.halves) == len(choices)
    pooled = []
    for number, choice in enumerate(choices):
        here = np.concatenate([parts[b] for b in choice])
        there = np.setdiff1d(np.arange(rows), here)
        inside = measure(returns.iloc[here], metric, 0.03)
        outside = measure(returns.iloc[there], metric, 0.03)
        best = inside.idxmax()
        rank = outside.rank()[best]
        share = rank / 8
        row = dict(zip(found.halves.columns, found.halves.to_numpy()[number], strict=True))
        assert row["chosen"] == best
        assert row["rank"] == rank
        assert row["in_sample"] == pytest.approx(inside[best], rel=1e-9)
        assert row["out_of_sample"] == pytest.approx(outside[best], rel=1e-9, abs=1e-12)
        assert row["logit"] == pytest.approx(np.log(share / (1 - share)), abs=1e-12)
        below.append(np.log(share / (1 - share)) <= 1e-12)
        pooled.append(outside.to_numpy())
    assert found.probability == pytest.approx(np.mean(below), abs=1e-15)
    fit = stats.linregress(found.halves["in_sample"], found.halves["out_of_sample"])
    assert found.slope == pytest.approx(fit.slope, rel=1e-9)
    assert found.intercept == pytest.approx(fit.intercept, rel=1e-9)
    assert found.r_squared == pytest.approx(fit.rvalue**2, rel=1e-9)
    assert found.probability_of_loss == np.mean(found.halves["out_of_sample"] < 0)

    levels = found.distributions.index.to_numpy()
    everyone = stats.ecdf(np.concatenate(pooled)).cdf.evaluate(levels[1:-1])
    chosen = stats.ecdf(found.halves["out_of_sample"]).cdf.evaluate(levels[1:-1])
    np.testing.assert_allclose(found.distributions["all"].iloc[1:-1], everyone, atol=1e-12)
    np.testing.assert_allclose(found.distributions["chosen"].iloc[1:-1], chosen, atol=1e-12)
    area = [np.trapezoid((found.distributions["all"] - found.distributions["chosen"])[: k + 1], levels[: k + 1])
            for k in range(len(levels))]  # fmt: skip
    np.testing.assert_allclose(found.distributions["second_order"], area, atol=1e-12)


def test_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    returns = noise(160, 5, seed=4)
    whole = overfitting_probability(returns, blocks=8)
    monkeypatch.setattr(import_module("portfolioopt.backtest.overfitting"), "_CELLS", 37)
    parts = overfitting_probability(returns, blocks=8)
    pd.testing.assert_frame_equal(whole.halves, parts.halves)
    pd.testing.assert_frame_equal(whole.distributions, parts.distributions)


def test_the_best_of_noise_is_above_the_median_half_of_the_time() -> None:
    found = [overfitting_probability(noise(320, 20, seed), blocks=8).probability for seed in range(150)]
    error = np.std(found, ddof=1) / np.sqrt(len(found))
    assert error < 0.025
    assert abs(np.mean(found) - 0.5) < 3 * error


def test_a_run_that_is_truly_better_is_no_overfitting() -> None:
    returns = noise(1000, 30, seed=1)
    returns["run 11"] += 0.004
    found = overfitting_probability(returns, blocks=10)
    assert found.probability == 0.0
    assert set(found.halves["chosen"]) == {"run 11"}
    assert found.probability_of_loss == 0.0
    assert found.first_order
    assert found.second_order
    best = best_of_many(returns)
    assert best.name == "run 11"
    assert best.deflated > 0.999


def test_choosing_what_reverses_is_overfitting() -> None:
    """Each run is good in one half of history and as bad in the other, so the best in sample is the worst out of it."""
    base = noise(200, 2, seed=3) * 0.01
    base.iloc[:100, 0] += 0.01
    base.iloc[100:, 0] -= 0.01
    base.iloc[:100, 1] -= 0.01
    base.iloc[100:, 1] += 0.01
    found = overfitting_probability(base, blocks=2, metric="mean")
    assert found.probability == 1.0
    assert found.probability_of_loss == 1.0
    assert not found.first_order
    assert not found.second_order


def test_runs_that_are_the_same_share_a_rank() -> None:
    returns = noise(80, 1, seed=0)
    returns["twin"] = returns["run 0"]
    found = overfitting_probability(returns, blocks=4)
    assert (found.halves["rank"] == 1.5).all()
    assert found.probability == 1.0
    np.testing.assert_allclose(found.logits, 0.0, atol=1e-15)


def test_scale_and_order_of_runs_do_not_matter() -> None:
    returns = noise(150, 6, seed=8)
    found = overfitting_probability(returns, blocks=6)
    other = overfitting_probability(returns.iloc[:, ::-1] * 0.25, blocks=6)
    assert found.probability == other.probability
    assert (found.halves["chosen"] == other.halves["chosen"]).all()


def test_best_of_many_is_put_together_from_its_parts() -> None:
    returns = noise(500, 40, seed=9)
    found = best_of_many(returns, risk_free=0.01)
    each = sharpe_ratio(returns, risk_free=0.01)
    assert found.name == each.idxmax()
    assert found.sharpe == pytest.approx(each.max(), rel=1e-12)
    assert found.spread == pytest.approx(each.std(), rel=1e-12)
    # Of 40 standard normals the largest has a mean of 2.16 (exact, by quadrature).
    grid = np.linspace(-9, 9, 20001)
    exact = np.trapezoid(grid * 40 * stats.norm.pdf(grid) * stats.norm.cdf(grid) ** 39, grid)
    assert found.expected_maximum == pytest.approx(exact * found.spread, rel=0.02)
    assert best_of_many(returns, trials=1).deflated > found.deflated
    copies = pd.concat([returns, returns.add_suffix(" again")], axis=1)
    assert best_of_many(copies, trials="effective").trials < 80


@pytest.mark.parametrize(
    ("change", "arguments", "words"),
    [
        (lambda f: f.iloc[:, :1], {}, "at least 2 runs"),
        (lambda f: f.iloc[:, 0], {}, "frame of periods x runs"),
        (lambda f: f, {"blocks": 5}, "even number"),
        (lambda f: f, {"blocks": 60}, "at most half"),
        (lambda f: f, {"blocks": 22}, "at most 20"),
        (lambda f: f, {"metric": "sharp"}, "did you mean 'sharpe'"),
        (lambda f: f.assign(**{"run 0": f["run 0"].where(f.index != f.index[3])}), {},
         "missing or infinite for run 0 on 2001-01-04"),
        (lambda f: f.assign(**{"run 2": 0.001}), {}, "'run 2' does not vary"),
        (lambda f: f.assign(**{"run 2": np.where(np.arange(len(f)) < 50, 0.001, f["run 2"])}), {"blocks": 2},
         "'run 2' does not vary in some half"),
        (lambda f: f.assign(**{"run 2": -1.0}), {"metric": "growth"}, "lost everything"),
    ],
)  # fmt: skip
def test_what_cannot_be_measured_is_refused(change, arguments, words: str) -> None:
    with pytest.raises(InputError, match=words):
        overfitting_probability(change(noise(100, 4, seed=2)), **{"blocks": 4, **arguments})


def test_trials_are_refused_by_name() -> None:
    returns = noise(60, 3, seed=2)
    with pytest.raises(InputError, match="way to count trials"):
        best_of_many(returns, trials="some")
    with pytest.raises(InputError, match="at least 1"):
        best_of_many(returns, trials=0.5)

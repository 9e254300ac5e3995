"""Calibration against statsmodels; the adaptive model against a plain loop, its limits, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st

from portfolioopt.costs import AdaptiveCostModel, ProportionalCosts, SpreadCosts, SquareRootImpact, calibrate
from portfolioopt.errors import InputError


def executions(count: int, multiple: float = 1.4, noise: float = 0.1, seed: int = 0, assets: int = 3) -> pd.DataFrame:
    """Orders that cost a multiple of the square-root law, plus noise."""
    rng = np.random.default_rng(seed)
    volatility, part = rng.uniform(0.005, 0.03, count), 10.0 ** rng.uniform(-4, -1, count)
    volume, arrival = rng.uniform(1e5, 1e7, count), rng.uniform(5.0, 500.0, count)
    side = rng.choice([-1.0, 1.0], count)
    cost = volatility * (multiple * np.sqrt(part) + noise * rng.normal(size=count))
    return pd.DataFrame(
        {
            "asset": rng.choice([f"A{i}" for i in range(assets)], count),
            "quantity": side * part * volume,
            "price": arrival * (1.0 + side * cost),
            "arrival": arrival,
            "volume": volume,
            "volatility": volatility,
            "spread": rng.uniform(1.0, 20.0, count),
        }
    )


# -- calibration ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("robust", [False, True])
def test_against_statsmodels(constant: bool, robust: bool) -> None:
    data = executions(200)
    found = calibrate(data, SquareRootImpact(), constant=constant, robust=robust, confidence=0.9)
    paid = np.sign(data["quantity"]) * (data["price"] - data["arrival"]) / data["arrival"]
    law = (data["volatility"] * np.sqrt(data["quantity"].abs() / data["volume"])).rename("coefficient")
    x = law.to_frame().assign(constant=1.0) if constant else law.to_frame()
    fit = sm.WLS(paid, x, weights=data["volatility"] ** -2).fit(cov_type="HC1" if robust else "nonrobust", use_t=True)
    np.testing.assert_allclose(found.table["estimate"], fit.params, rtol=1e-9)
    np.testing.assert_allclose(found.table["standard_error"], fit.bse, rtol=1e-9)
    np.testing.assert_allclose(found.table[["lower", "upper"]], fit.conf_int(0.1), rtol=1e-8)
    assert found.r_squared == pytest.approx(fit.rsquared, rel=1e-9)
    assert found.coefficient == found.table["estimate"].iloc[0]
    assert found.executions == 200


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    hits = 0
    for seed in range(400):
        low, high = calibrate(executions(40, seed=seed), SquareRootImpact(), robust=False, confidence=0.8).interval
        hits += low <= 1.4 <= high
    assert abs(hits - 320) < 3.5 * np.sqrt(400 * 0.8 * 0.2)


def test_other_models_may_be_calibrated() -> None:
    data = executions(50, noise=0.0)
    assert calibrate(data, SquareRootImpact(0.7)).coefficient == pytest.approx(2.0, rel=1e-10)
    shuffled = data.sample(frac=1.0, random_state=1)
    assert calibrate(shuffled, SquareRootImpact()).coefficient == pytest.approx(1.4, rel=1e-10)
    spreads = data.assign(price=data["arrival"] * (1 + np.sign(data["quantity"]) * 0.8e-4 * data["spread"]))
    found = calibrate(spreads, SpreadCosts())
    assert found.coefficient == pytest.approx(1.6, rel=1e-10)
    assert found.r_squared == pytest.approx(1.0, abs=1e-12)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "price": ({"price": np.nan}, "price is missing"),
    "negative price": ({"price": -1.0}, "price is missing, infinite, or not positive"),
    "far price": ({"price": 1e6}, "more than half away"),
    "arrival": ({"arrival": np.nan}, "arrival price is missing"),
    "quantity": ({"quantity": np.nan}, "quantity in executions is missing"),
    "nothing": ({"quantity": 0.0}, "nothing was traded in 'A"),
    "volume": ({"volume": np.nan}, "volume is missing"),
    "volatility": ({"volatility": 0.0}, "volatility is zero"),
    "unit": ({"volatility": 20.0}, "another unit"),
    "asset": ({"asset": None}, "without an asset"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_executions_are_refused_and_nothing_is_learned(name: str) -> None:
    change, message = BAD[name]
    model = AdaptiveCostModel(SquareRootImpact()).learn(executions(5))
    before = model.multiples()
    data = executions(6, seed=1)
    for column, value in change.items():
        data.loc[3, column] = value
    with pytest.raises(InputError, match=message):
        calibrate(data, SquareRootImpact())
    with pytest.raises(InputError, match=message):
        model.learn(data)
    pd.testing.assert_frame_equal(model.multiples(), before)


def test_what_cannot_be_calibrated() -> None:
    data = executions(10)
    with pytest.raises(InputError, match="at least 3 executions"):
        calibrate(data.head(2), SquareRootImpact())
    with pytest.raises(InputError, match="no rows"):
        calibrate(data.head(0), SquareRootImpact())
    with pytest.raises(InputError, match="charges nothing"):
        calibrate(data, ProportionalCosts(0.0))
    with pytest.raises(InputError, match="all alike"):
        calibrate(data, ProportionalCosts(5.0), constant=True)
    with pytest.raises(InputError, match="no column 'arrival'"):
        calibrate(data.drop(columns="arrival"), SquareRootImpact())
    with pytest.raises(InputError, match="below 1"):
        calibrate(data, SquareRootImpact(), confidence=1.0)
    with pytest.raises(InputError, match="must be a cost model"):
        calibrate(data, 1.0)  # type: ignore[arg-type]


# -- the adaptive model ---------------------------------------------------------------------------------------------


def test_by_explicit_weights() -> None:
    """Sums with weights written out, where no step is bounded: estimates do not depend on the path then."""
    data = executions(40)
    model = AdaptiveCostModel(
        SquareRootImpact(), 0.9, 0.4, 0.2, noise=0.3, half_life=15.0, largest_step=1e6, bounds=(1e-9, 1e9)
    ).learn(data)
    law = data["volatility"] * np.sqrt(data["quantity"].abs() / data["volume"])
    paid = np.sign(data["quantity"]) * (data["price"] / data["arrival"] - 1.0)
    information = law * law / (0.3 * data["volatility"]) ** 2
    pull = law * paid / (0.3 * data["volatility"]) ** 2
    age = np.arange(39, -1, -1)
    fade = 0.5 ** (age / 15.0)
    pool = (0.9 / 0.16 + (fade * pull).sum()) / (1 / 0.16 + (fade * information).sum())
    table = model.multiples()
    assert table["multiple"].iloc[0] == pytest.approx(pool, rel=1e-12)
    for asset, own in data.groupby("asset"):
        weight = 0.5 ** (np.arange(len(own) - 1, -1, -1) / 15.0)
        # an asset's estimate leans on the pool as it was when the asset was last seen
        then = 0.5 ** ((own.index[-1] - np.arange(own.index[-1] + 1)) / 15.0)
        seen = slice(0, own.index[-1] + 1)
        pooled = (0.9 / 0.16 + (then * pull[seen]).sum()) / (1 / 0.16 + (then * information[seen]).sum())
        w = (weight * information[own.index]).sum()
        assert table["multiple"][asset] == pytest.approx(
            (pooled / 0.04 + (weight * pull[own.index]).sum()) / (1 / 0.04 + w), rel=1e-12
        )
        assert table["standard_error"][asset] == pytest.approx((1 / 0.04 + w) ** -0.5, rel=1e-12)
    assert table["executions"].tolist()[0] == 40
    assert table["executions"].iloc[1:].sum() == 40


def test_without_fading_and_with_a_wide_prior_it_is_the_calibration() -> None:
    data = executions(300)
    model = AdaptiveCostModel(
        SquareRootImpact(), prior_deviation=1e6, half_life=1e12, largest_step=1e6, bounds=(1e-9, 1e9)
    ).learn(data)
    found = calibrate(data, SquareRootImpact()).coefficient
    assert model.multiples()["multiple"].iloc[0] == pytest.approx(found, rel=1e-6)


def test_it_comes_to_the_truth_by_asset() -> None:
    first = executions(1_500, multiple=2.0, seed=1).assign(asset="dear")
    second = executions(1_500, multiple=0.5, seed=2).assign(asset="cheap")
    data = pd.concat([first, second]).sample(frac=1.0, random_state=0)
    model = AdaptiveCostModel(SquareRootImpact(), noise=0.1, asset_deviation=1.0, half_life=1e4).learn(data)
    table = model.multiples()
    assert abs(table["multiple"]["dear"] - 2.0) < 4 * table["standard_error"]["dear"]
    assert abs(table["multiple"]["cheap"] - 0.5) < 4 * table["standard_error"]["cheap"]
    assert 0.5 < table["multiple"].iloc[0] < 2.0
    trade: dict[str, Any] = {"price": 10.0, "volume": 1e4, "volatility": 0.01}
    ratio = model.charge("dear", 100.0, **trade) / SquareRootImpact().charge("dear", 100.0, **trade)
    assert ratio["impact"] == pytest.approx(table["multiple"]["dear"], rel=1e-12)
    unseen = model.charge("new", 100.0, **trade) / SquareRootImpact().charge("new", 100.0, **trade)
    assert unseen["impact"] == pytest.approx(table["multiple"].iloc[0], rel=1e-12)


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 30), step=st.floats(0.01, 0.5))
def test_steps_are_bounded_and_batches_do_not_matter(seed: int, count: int, step: float) -> None:
    data = executions(count, multiple=50.0, noise=5.0, seed=seed).assign(
        price=lambda d: d["price"].clip(d["arrival"] * 0.6, d["arrival"] * 1.4)
    )
    model = AdaptiveCostModel(SquareRootImpact(), largest_step=step, bounds=(0.5, 3.0))
    whole = model.learn(data)
    for row in range(count):
        following = model.learn(data.iloc[[row]])
        change = following.multiples()["multiple"].iloc[0] / model.multiples()["multiple"].iloc[0]
        assert 1 / (1 + step) - 1e-12 <= change <= 1 + step + 1e-12
        assert following.multiples()["multiple"].between(0.5, 3.0).all()
        model = following
    pd.testing.assert_frame_equal(model.multiples(), whole.multiples(), rtol=1e-12)


def test_the_shrinkage() -> None:
    data = executions(30, multiple=3.0, noise=0.0)
    pulled = [
        AdaptiveCostModel(SquareRootImpact(), prior_deviation=deviation, largest_step=1e6)
        .learn(data)
        .multiples()["multiple"]
        .iloc[0]
        for deviation in (1e-6, 0.1, 1.0, 1e6)
    ]
    assert pulled == sorted(pulled)
    assert pulled[0] == pytest.approx(1.0, abs=1e-6)
    assert pulled[-1] == pytest.approx(3.0, rel=1e-6)


def test_the_state_can_be_kept(tmp_path: Path) -> None:
    model = AdaptiveCostModel(SquareRootImpact()).learn(executions(20))
    assert model.state is not None
    model.state.to_parquet(tmp_path / "state.parquet")
    again = AdaptiveCostModel(SquareRootImpact(), state=pd.read_parquet(tmp_path / "state.parquet"))
    pd.testing.assert_frame_equal(again.multiples(), model.multiples())
    more = executions(5, seed=9)
    pd.testing.assert_frame_equal(again.learn(more).multiples(), model.learn(more).multiples())
    with pytest.raises(InputError, match="state must be that of another model"):
        AdaptiveCostModel(SquareRootImpact(), state=model.state.iloc[1:])
    with pytest.raises(InputError, match="state must be that of another model"):
        AdaptiveCostModel(SquareRootImpact(), state=model.state * np.nan)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"base": 1.0}, "base must be a cost model"),
        ({"prior": 20.0}, "outside bounds"),
        ({"bounds": (2.0, 1.0)}, "largest multiple must be above 2"),
        ({"bounds": 3.0}, "smallest and the largest"),
        ({"half_life": 0.0}, "half_life must be above 0"),
        ({"prior_deviation": np.inf}, "finite"),
    ],
)
def test_settings_are_checked(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        AdaptiveCostModel(**({"base": SquareRootImpact()} | change))

"""The quality report: faults that were planted are found, where nothing was planted nothing is."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest

from portfolioopt.data import quality_report, sample_prices, synthetic_market
from portfolioopt.errors import InputError

NAN = math.nan


def clean(assets: int = 3, days: int = 400, seed: int = 0) -> pd.DataFrame:
    """Prices with volatility that clusters, of normal shocks: nothing is wrong with them."""
    rng = np.random.default_rng(seed)
    turbulence = np.exp(0.6 * np.sin(np.arange(days) / 40.0))[:, None]
    moves = 0.01 * turbulence * rng.standard_normal((days, assets))
    names = [f"A{i}" for i in range(assets)]
    return pd.DataFrame(50.0 * np.exp(np.cumsum(moves, axis=0)), pd.bdate_range("2020-01-01", periods=days), names)


def test_clean_prices_are_clean() -> None:
    report = quality_report(clean())
    assert report.clean
    assert "nothing found" in str(report)
    np.testing.assert_allclose(report.summary["volatility"], 0.01, rtol=0.3)
    assert report.summary["prices"].tolist() == [400] * 3
    assert report.summary["first"].tolist() == [clean().index[0]] * 3


def test_gaps_are_between_the_first_and_the_last_price() -> None:
    prices = clean()
    prices.iloc[:10, 0] = NAN  # not listed yet
    prices.iloc[-5:, 0] = NAN  # delisted
    prices.iloc[100:103, 0] = NAN
    prices.iloc[200, 1] = NAN
    report = quality_report(prices)
    assert report.gaps.to_numpy().tolist() == [
        ["A0", prices.index[100], prices.index[102], 3],
        ["A1", prices.index[200], prices.index[200], 1],
    ]
    assert not report.clean
    assert report.summary["missing"].tolist() == [3, 1, 0]
    assert report.summary["longest_gap"].tolist() == [3, 1, 0]
    assert report.summary.loc["A0", ["first", "last"]].tolist() == [prices.index[10], prices.index[-6]]


@pytest.mark.parametrize("rows", [2, 4, 7])
def test_stale_runs_are_those_of_groupby(rows: int) -> None:
    rng = np.random.default_rng(1)
    values = np.repeat(rng.choice([1.0, 2.0, 3.0], 40), rng.integers(1, 8, 40))
    values[rng.random(len(values)) < 0.05] = NAN
    prices = pd.DataFrame({"A": values}, index=pd.bdate_range("2020-01-01", periods=len(values)))
    expected, place = [], 0
    for value, group in itertools.groupby(values, key=lambda v: None if math.isnan(v) else v):
        length = len(list(group))
        if value is not None and length >= rows:
            expected.append(["A", prices.index[place], prices.index[place + length - 1], length])
        place += length
    assert quality_report(prices, stale_rows=rows).stale.to_numpy().tolist() == expected


def test_outliers_are_measured_by_the_volatility_before_them() -> None:
    """Against the recursion written out for one asset after another."""
    prices = clean(days=300)
    prices.iloc[150, 1] *= 1.5
    prices.iloc[40, 2] = prices.iloc[39, 2]  # a day without a move
    report = quality_report(prices, outlier_z=3.0)
    decay = 0.5 ** (1 / 20)
    expected = {}
    for name in prices:
        x = np.log(prices[name]).diff().to_numpy()
        size = np.abs(x[1:])
        level = 1.4826 * np.median(size[size > 0])
        clipped = np.minimum(size, 6 * level)
        total, count = 20 * clipped.sum() / (size > 0).sum(), 20.0
        prior = total
        scaled, running, weight = [], 0.0, 0.0
        for move, part in zip(x[1:], clipped, strict=True):
            scaled.append(move / ((running + prior) / (weight + count)))
            running, weight = decay * running + part, decay * weight + (part > 0)
        scaled = np.array(scaled)
        z = scaled / (1.4826 * np.median(np.abs(scaled[scaled != 0])))
        for row in np.flatnonzero(np.abs(z) >= 3.0):
            expected[name, prices.index[row + 1]] = z[row]
    found = report.outliers.set_index(["asset", "date"])["z"].to_dict()
    assert found.keys() == expected.keys()
    for cell, value in expected.items():
        assert found[cell] == pytest.approx(value, rel=1e-10)
    spike = report.outliers.query("asset == 'A1'").set_index("date").loc[prices.index[150]]
    assert spike["reverted"]
    assert spike["z"] > 20


def test_a_turbulent_year_is_no_outlier_and_one_wrong_price_hides_no_other() -> None:
    prices = clean()
    prices.iloc[200:] = prices.iloc[199].to_numpy() * np.exp(
        8 * np.log(prices.iloc[200:] / prices.iloc[199].to_numpy())
    )
    assert len(quality_report(prices).outliers) <= 3  # the first days of it
    twice = clean()
    twice.iloc[[100, 130], 0] *= 10.0
    dates = set(quality_report(twice).outliers["date"])
    assert {twice.index[100], twice.index[130]} <= dates


@pytest.mark.parametrize(("new", "ratio"), [(2.0, "2:1"), (1.5, "3:2"), (10.0, "10:1"), (0.1, "1:10"), (0.5, "1:2")])
def test_unadjusted_splits_are_found(new: float, ratio: str) -> None:
    prices = clean()
    prices.iloc[250:, 1] /= new
    report = quality_report(prices)
    assert report.splits[["asset", "date", "ratio"]].to_numpy().tolist() == [["A1", prices.index[250], ratio]]
    assert abs(report.splits["error"].iloc[0]) < 0.06
    assert report.summary["splits"].tolist() == [0, 1, 0]
    # The volume in shares jumps the other way, or it was no split.
    volumes = pd.DataFrame(1e6, prices.index, prices.columns)
    assert quality_report(prices, volumes).splits.empty
    volumes.iloc[250:, 1] *= new
    assert quality_report(prices, volumes).splits["volume_ratio"].tolist() == pytest.approx([new])


def test_what_comes_back_is_no_split() -> None:
    prices = clean()
    prices.iloc[250:253, 1] /= 2.0
    report = quality_report(prices)
    assert report.splits.empty
    assert len(report.outliers) == 2


def test_impossible_and_repeated_entries_are_listed() -> None:
    prices = clean()
    prices.iloc[5, 0], prices.iloc[6, 2] = -1.0, math.inf
    prices = prices.iloc[[*range(20), 19, 19, *range(20, 400)], [0, 1, 2, 1]]
    report = quality_report(prices)
    bad = report.non_positive.set_index("asset")
    assert bad["price"].to_dict() == {"A0": -1.0, "A2": math.inf}
    assert report.duplicated.to_numpy().tolist() == [["date", clean().index[19], 3], ["asset", "A1", 2]]
    assert sorted(report.summary.index) == ["A0", "A1", "A2"]
    for text in (str(report), report._repr_html_(), repr(report)):
        assert "2 non-positive, 2 duplicated" in text


def test_the_real_sample_shows_its_known_quirks() -> None:
    """Range Resources stood still for its first 69 days and then fell to a third: its vendor's adjustment."""
    report = quality_report(sample_prices()[["RRC", "KO", "JPM"]])
    assert report.stale.query("asset == 'RRC'")["rows"].max() == 69
    assert report.splits[["asset", "ratio"]].to_numpy().tolist() == [["RRC", "3:1"]]
    assert report.gaps.empty


def test_units_and_the_order_of_assets_do_not_matter() -> None:
    prices = sample_prices()[["AAPL", "RRC", "KO", "BBY"]].iloc[:3000]
    first = quality_report(prices)
    second = quality_report(prices[["BBY", "KO", "RRC", "AAPL"]] * 4.0)
    for name in ("stale", "outliers", "splits"):
        one, other = (getattr(report, name).sort_values(["asset"], kind="stable") for report in (first, second))
        pd.testing.assert_frame_equal(one.reset_index(drop=True), other.reset_index(drop=True), rtol=1e-9, atol=1e-12)


def test_blocks_of_assets_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    prices = synthetic_market(20, 300, seed=2, delisting_rate=0.5).market.prices
    whole = quality_report(prices, outlier_z=5.0)
    monkeypatch.setattr("portfolioopt.data.quality._BLOCK", 7)
    parts = quality_report(prices, outlier_z=5.0)
    for name in ("gaps", "stale", "outliers", "splits", "summary"):
        pd.testing.assert_frame_equal(getattr(parts, name), getattr(whole, name))
    assert len(whole.outliers)


def test_an_asset_without_prices_has_nothing_to_report() -> None:
    prices = clean().assign(Empty=NAN, Constant=1.0)
    report = quality_report(prices, stale_rows=1000)
    assert report.clean
    assert report.summary.loc["Empty", "prices"] == 0
    assert report.summary.loc["Empty", "first"] is pd.NaT
    assert report.summary.loc["Constant", "volatility"] == 0.0


def test_what_cannot_be_looked_at_is_refused() -> None:
    prices = clean()
    for wrong, text in (
        (prices["A0"], "not Series"),
        (prices.iloc[::-1], "increasing order"),
        (prices.iloc[:0], "empty"),
        (prices.astype(str), "do not hold numbers"),
    ):
        with pytest.raises(InputError, match=text):
            quality_report(wrong)
    with pytest.raises(InputError, match="lacks 1 assets of prices"):
        quality_report(prices, prices[["A0", "A1"]])
    with pytest.raises(InputError, match="stale_rows"):
        quality_report(prices, stale_rows=1)


@pytest.mark.slow
def test_ten_thousand_assets_take_seconds() -> None:
    import time

    prices = clean(10_000, 2_500)
    begin = time.perf_counter()
    assert len(quality_report(prices, prices).summary) == 10_000
    assert time.perf_counter() - begin < 20.0

"""Brinson attribution and realised contributions: published examples, exact sums, brute force in money."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import portfolioopt as po
from portfolioopt.attribution import Brinson, brinson, realised_contributions, sector_returns

# Bacon, "Practical Portfolio Performance Measurement and Attribution" (2nd edition, 2008), tables 5.2, 5.3 and 8.1: a
# balanced portfolio of three markets over four quarters.
MARKETS = ["UK", "Japan", "US"]
W = pd.DataFrame([[0.4, 0.3, 0.3], [0.7, 0.2, 0.1], [0.3, 0.5, 0.2], [0.3, 0.5, 0.2]], columns=MARKETS)
V = pd.DataFrame([[0.4, 0.2, 0.4], [0.4, 0.3, 0.3], [0.5, 0.4, 0.1], [0.4, 0.4, 0.2]], columns=MARKETS)
R = pd.DataFrame(
    [[0.20, -0.05, 0.06], [-0.05, 0.03, -0.05], [-0.20, 0.08, -0.15], [0.10, -0.07, 0.25]], columns=MARKETS
)
S = pd.DataFrame(
    [[0.10, -0.04, 0.08], [-0.07, 0.04, -0.10], [-0.25, 0.05, -0.20], [0.05, -0.05, 0.10]], columns=MARKETS
)


def test_a_published_quarter() -> None:
    found = brinson(W.loc[0], V.loc[0], R.loc[0], S.loc[0])
    assert (found.portfolio_return, found.benchmark_return) == pytest.approx((0.083, 0.064))
    assert found.active_return == pytest.approx(0.019)
    np.testing.assert_allclose(found.effects["allocation"], [0.0, -0.0104, -0.0016], atol=1e-15)
    np.testing.assert_allclose(found.effects["selection"], [0.04, -0.002, -0.008], atol=1e-15)
    np.testing.assert_allclose(found.effects["interaction"], [0.0, -0.001, 0.002], atol=1e-15)
    older = brinson(W.loc[0], V.loc[0], R.loc[0], S.loc[0], model="hood_beebower")
    np.testing.assert_allclose(older.effects["allocation"], [0.0, -0.004, -0.008], atol=1e-15)


def test_four_published_quarters() -> None:
    found = brinson(W, V, R, S)
    allocation = found.by_period["allocation"].to_numpy().reshape(4, 3)
    published = [[0, -0.0104, -0.0016], [-0.0072, -0.0086, 0.0108], [0.025, 0.0175, -0.0075], [-0.003, -0.007, 0]]
    np.testing.assert_allclose(allocation, published, atol=1e-15)
    stock = (found.by_period["selection"] + found.by_period["interaction"]).to_numpy().reshape(4, 3)
    published = [[0.04, -0.003, -0.006], [0.014, -0.002, 0.005], [0.015, 0.015, 0.01], [0.015, -0.01, 0.03]]
    np.testing.assert_allclose(stock, published, atol=1e-15)
    totals = (found.portfolio_return, found.benchmark_return, found.active_return)
    assert totals == pytest.approx((0.0386, -0.0941, 0.1327), abs=6e-5)


def test_linked_quarter_of_a_published_vignette() -> None:
    """Lu & Kane (2013), "Performance attribution for equity portfolios", R Journal 5: three months, Menchero's linking.

    Returns and linked active returns are printed to four digits, hence the tolerance.
    """
    one = pd.DataFrame({"all": np.ones(3)})
    portfolio, benchmark = (
        pd.DataFrame({"all": [-0.0291, 0.0192, 0.0298]}),
        pd.DataFrame({"all": [-0.0438, 0.0029, 0.0494]}),
    )
    found = brinson(one, one, portfolio, benchmark, linking="menchero")
    linked = found.periods["coefficient"] * found.periods["active"]
    np.testing.assert_allclose(linked, [0.0151, 0.0168, -0.0193], atol=1e-4)
    assert found.active_return == pytest.approx(0.0127, abs=1e-4)
    assert 0.01418 * found.periods["coefficient"][0] == pytest.approx(0.0146, abs=5e-5)  # selection of January


@st.composite
def histories(draw: st.DrawFn) -> tuple[pd.DataFrame, ...]:
    count, sectors = draw(st.integers(1, 12)), draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = draw(st.sampled_from([1e-12, 1e-3, 0.1]))
    w, v = (rng.dirichlet(np.ones(sectors), count) for _ in range(2))
    r, s = (rng.normal(0.0, size, (count, sectors)).clip(-0.9) for _ in range(2))
    return tuple(map(pd.DataFrame, (w, v, r, s)))


@given(histories(), st.sampled_from(["carino", "menchero", "grap"]), st.sampled_from(["fachler", "hood_beebower"]))
def test_effects_sum_to_the_active_return(history: tuple[pd.DataFrame, ...], linking, model) -> None:  # type: ignore[no-untyped-def]
    w, v, r, s = history
    found = brinson(w, v, r, s, linking=linking, model=model)
    grown = float((1 + (w * r).sum(axis=1)).prod() - (1 + (v * s).sum(axis=1)).prod())
    assert found.effects["total"].sum() == pytest.approx(grown, rel=1e-10, abs=2e-15 * len(w))
    by_period = found.by_period["total"].groupby(level=0).sum()
    np.testing.assert_allclose(by_period, (w * r - v * s).sum(axis=1), atol=1e-14)
    turned = brinson(*(frame.iloc[:, ::-1] for frame in history), linking=linking, model=model)
    pd.testing.assert_frame_equal(turned.effects.loc[found.effects.index], found.effects, atol=1e-14)


def test_equal_portfolios_have_no_effects() -> None:
    for linking in ("carino", "menchero", "grap"):
        found = brinson(V, V, S, S, linking=linking)  # type: ignore[arg-type]
        assert (found.effects == 0.0).all(axis=None)
        assert found.active_return == 0.0


def test_a_sector_that_only_one_holds_is_allocation() -> None:
    w, v = pd.Series({"A": 1.0, "B": 0.0, "C": 0.0}), pd.Series({"A": 0.5, "B": 0.5, "C": 0.0})
    r, s = pd.Series({"A": 0.02, "B": np.nan, "C": np.nan}), pd.Series({"A": 0.01, "B": 0.04, "C": np.nan})
    found = brinson(w, v, r, s)
    assert found.effects.loc["B", "selection"] == 0.0
    assert found.effects.loc["B", "allocation"] == pytest.approx(-0.5 * (0.04 - 0.025))
    assert found.effects.loc["C", "total"] == 0.0
    assert found.effects["total"].sum() == pytest.approx(0.02 - 0.025)


def test_from_assets_to_sectors() -> None:
    returns = po.data.simple_returns(po.data.sample_prices()).loc["2022-01":"2022-03"]
    sectors = po.data.sample_sectors()
    rng = np.random.default_rng(0)
    held, base = (
        pd.DataFrame(rng.dirichlet(np.ones(20), len(returns)), returns.index, returns.columns) for _ in range(2)
    )
    w, r = sector_returns(held, returns, sectors)
    v, s = sector_returns(base, returns, sectors)
    found = brinson(w, v, r, s)
    assert isinstance(found, Brinson)
    grown = (1 + (held * returns).sum(axis=1)).prod() - (1 + (base * returns).sum(axis=1)).prod()
    assert found.effects["total"].sum() == pytest.approx(grown, rel=1e-11)
    assert set(found.effects.index) == set(sectors)


def test_brinson_that_is_refused() -> None:
    with pytest.raises(po.InputError, match=r"portfolio sum to 0\.9 .* benchmark to 1; give cash a sector"):
        brinson(W.loc[0] * 0.9, V.loc[0], R.loc[0], S.loc[0])
    with pytest.raises(po.InputError, match="portfolio_returns is missing or infinite for Japan on 2"):
        brinson(W, V, R.replace(0.08, np.nan), S)
    with pytest.raises(po.UnknownNameError, match="'USA'"):
        brinson(W, V, R.rename(columns={"US": "USA"}), S)
    with pytest.raises(po.InputError, match="benchmark_returns has no period 3"):
        brinson(W, V, R, S.iloc[:3])
    with pytest.raises(po.InputError, match="the portfolio lost everything"):
        brinson(W, V, R - 2.0, S)
    with pytest.raises(po.InputError, match="linking must be"):
        brinson(W, V, R, S, linking="none")  # type: ignore[arg-type]
    pair = pd.DataFrame({"A": [0.5], "B": [-0.5]})
    with pytest.raises(po.InputError, match="positions of 'x' cancel"):
        sector_returns(pair, pair, pd.Series({"A": "x", "B": "x"}))


# -- realised contributions ----------------------------------------------------------------------------------


def test_contributions_are_the_money_that_was_made() -> None:
    """A book kept in money, period by period."""
    rng = np.random.default_rng(1)
    dates = pd.bdate_range("2024-01-01", periods=30)
    returns = pd.DataFrame(rng.normal(0.001, 0.02, (30, 4)), dates, list("ABCD"))
    weights = pd.DataFrame(rng.dirichlet(np.ones(5), 30)[:, :4], dates, list("ABCD"))
    costs = pd.Series(rng.uniform(0.0, 0.001, 30), dates)
    money, made, paid = 1_000_000.0, dict.fromkeys("ABCD", 0.0), 0.0
    for date in dates:
        begin = money
        for name in "ABCD":
            gain = begin * weights.loc[date, name] * returns.loc[date, name]
            made[name] += gain
            money += gain
        paid += begin * costs[date]
        money -= begin * costs[date]
    found = realised_contributions(weights, returns, costs=costs)
    for name in "ABCD":
        assert found.contributions[name] == pytest.approx(made[name] / 1_000_000.0, rel=1e-10)
    assert found.contributions["costs"] == pytest.approx(-paid / 1_000_000.0, rel=1e-12)
    assert found.total_return == pytest.approx(money / 1_000_000.0 - 1.0, rel=1e-12)
    sectors = {"A": "x", "B": "y", "C": "x", "D": "y"}
    grouped = realised_contributions(weights, returns, costs=costs, labels=sectors)
    expected = found.contributions["A"] + found.contributions["C"]
    assert grouped.contributions["x"] == pytest.approx(expected, rel=1e-12)


@given(histories(), st.sampled_from(["value", "carino"]))
def test_contributions_sum_to_the_compounded_return(history: tuple[pd.DataFrame, ...], linking) -> None:  # type: ignore[no-untyped-def]
    w, _, r, _ = history
    found = realised_contributions(w, r, linking=linking)
    assert found.contributions.sum() == pytest.approx(found.total_return, rel=1e-11, abs=1e-15)
    assert found.total_return == pytest.approx(float((1 + (w * r).sum(axis=1)).prod() - 1), rel=1e-9, abs=4e-15)


def test_carino_does_not_favour_late_periods() -> None:
    weights = pd.DataFrame({"early": [1.0, 0.0], "late": [0.0, 1.0]})
    returns = pd.DataFrame({"early": [0.1, np.nan], "late": [np.nan, 0.1]})
    even = realised_contributions(weights, returns, linking="carino").contributions
    assert even["early"] == pytest.approx(even["late"], rel=1e-14)
    money = realised_contributions(weights, returns).contributions
    np.testing.assert_allclose(money, [0.1, 0.11], rtol=1e-14)


def test_realised_that_is_refused() -> None:
    with pytest.raises(po.InputError, match="returns is missing or infinite for Japan on 0"):
        realised_contributions(W, R.replace(-0.05, np.nan))
    with pytest.raises(po.InputError, match="returns has no row for 3"):
        realised_contributions(W, R.iloc[:3])
    with pytest.raises(po.InputError, match="costs is negative on 0"):
        realised_contributions(W, R, costs=pd.Series([-1e-4, 0, 0, 0]))
    with pytest.raises(po.InputError, match="labels says nothing about 'US'"):
        realised_contributions(W, R, labels={"UK": "a", "Japan": "b"})
    with pytest.raises(po.InputError, match="lost everything"):
        realised_contributions(W, R - 2.0)

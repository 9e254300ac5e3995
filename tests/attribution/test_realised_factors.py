"""Realised returns by factor and cost, and geometric Brinson: money kept by hand, exact sums and products."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import portfolioopt as po
from portfolioopt.attribution import (
    factor_regression,
    geometric_brinson,
    realised_contributions,
    realised_factors,
    rolling_factor_regression,
)

ASSETS, FACTORS, T = list("ABCD"), ["market", "value"], 24
DATES = pd.bdate_range("2024-01-01", periods=T)


def market(seed: int = 0) -> dict[str, Any]:
    """Weights that leave cash, exposures, factor returns, specific returns, and the returns that they make."""
    rng = np.random.default_rng(seed)
    frame = {
        "w": pd.DataFrame(rng.dirichlet(np.ones(5), T)[:, :4], DATES, ASSETS),
        "v": pd.DataFrame(rng.dirichlet(np.ones(4), T), DATES, ASSETS),
        "b": pd.DataFrame(rng.normal(0.5, 1.0, (4, 2)), ASSETS, FACTORS),
        "f": pd.DataFrame(rng.normal(0.0, 0.02, (T, 2)), DATES, FACTORS),
        "e": pd.DataFrame(rng.normal(0.0, 0.01, (T, 4)), DATES, ASSETS),
        "cash": pd.Series(rng.uniform(0.0, 0.001, T), DATES),
        "costs": pd.DataFrame(rng.uniform(0.0, 0.001, (T, 2)), DATES, ["commission", "impact"]),
    }
    frame["r"] = frame["f"] @ frame["b"].T + frame["e"]
    return frame


def grown(returns: pd.Series) -> float:
    return float((1.0 + returns).prod() - 1.0)


# -- by factor ------------------------------------------------------------------------------------------------


def test_parts_are_the_money_that_was_made() -> None:
    """A book in money, whose every gain is booked under its factor, asset, cash or cost as it comes."""
    m = market()
    money, made = 1e6, dict.fromkeys([*FACTORS, "specific", "cash", "commission", "impact"], 0.0)
    for t in DATES:
        begin, gains = money, dict.fromkeys(made, 0.0)
        for k in FACTORS:
            gains[k] = sum(begin * m["w"].loc[t, i] * m["b"].loc[i, k] * m["f"].loc[t, k] for i in ASSETS)
        gains["specific"] = sum(begin * m["w"].loc[t, i] * m["e"].loc[t, i] for i in ASSETS)
        gains["cash"] = begin * (1.0 - m["w"].loc[t].sum()) * m["cash"][t]
        for part in ("commission", "impact"):
            gains[part] = -begin * m["costs"].loc[t, part]
        for name, gain in gains.items():
            made[name] += gain
            money += gain
    found = realised_factors(m["w"], m["r"], m["b"], m["f"], cash=m["cash"], costs=m["costs"], linking="grap")
    assert list(found.contributions.index) == list(made)
    np.testing.assert_allclose(found.contributions, [x / 1e6 for x in made.values()], rtol=1e-9)
    assert found.portfolio_return == pytest.approx(money / 1e6 - 1.0, rel=1e-12)
    assert found.benchmark_return == 0.0
    np.testing.assert_allclose(found.specific, m["w"] * m["e"], atol=1e-15)
    np.testing.assert_allclose(found.exposures, m["w"] @ m["b"], atol=1e-15)


@settings(max_examples=20)
@given(
    seed=st.integers(0, 2**32 - 1),
    linking=st.sampled_from(["carino", "menchero", "grap"]),
    active=st.booleans(),
    excess=st.booleans(),
)
def test_parts_sum_to_the_compounded_return(seed: int, linking: Any, active: bool, excess: bool) -> None:
    m = market(seed)
    found = realised_factors(
        *(m["w"], m["r"], m["b"], m["f"]),
        benchmark=m["v"] * 0.9 if active else None,
        cash=m["cash"],
        excess=excess,
        costs=m["costs"].sum(axis=1),
        linking=linking,
    )
    own = (m["w"] * m["r"]).sum(axis=1) + (1.0 - m["w"].sum(axis=1)) * m["cash"] - m["costs"].sum(axis=1)
    other = (0.9 * m["v"] * m["r"]).sum(axis=1) + 0.1 * m["cash"] if active else 0.0 * own
    np.testing.assert_allclose(found.by_period.sum(axis=1), own - other, atol=1e-14)
    np.testing.assert_allclose(found.periods["portfolio"], own, atol=1e-14)
    assert found.contributions.sum() == pytest.approx(grown(own) - grown(other), abs=1e-12)
    assert found.active_return == pytest.approx(grown(own) - grown(other), abs=1e-12)


def test_a_portfolio_of_the_benchmark_has_only_costs() -> None:
    m = market()
    found = realised_factors(m["v"], m["r"], m["b"], m["f"], benchmark=m["v"], costs=m["costs"]["impact"])
    assert (found.contributions[[*FACTORS, "specific", "cash"]] == 0.0).all()
    assert found.contributions["costs"] == pytest.approx(found.active_return, rel=1e-9)
    assert found.active_return < 0.0


def test_specific_returns_are_what_the_factors_leave() -> None:
    m = market()
    pure = m["f"] @ m["b"].T
    found = realised_factors(m["w"], pure, m["b"], m["f"])
    np.testing.assert_allclose(found.by_period["specific"], 0.0, atol=1e-16)
    # in excess of cash: a portfolio without exposure earns cash, whatever it holds
    over = pure.add(m["cash"], axis=0)
    found = realised_factors(m["w"], over, m["b"], m["f"], cash=m["cash"], excess=True)
    np.testing.assert_allclose(found.by_period["cash"], m["cash"], atol=1e-16)
    np.testing.assert_allclose(found.by_period["specific"], 0.0, atol=1e-16)


def test_exposures_that_change_and_order_of_labels() -> None:
    m = market()
    rng = np.random.default_rng(1)
    each = pd.DataFrame(
        rng.normal(0, 1, (T * 4, 2)), pd.MultiIndex.from_product([DATES, ASSETS], names=["date", "asset"]), FACTORS
    )
    found = realised_factors(m["w"], m["r"], each, m["f"])
    for t in DATES[[0, 7, -1]]:
        np.testing.assert_allclose(found.exposures.loc[t], m["w"].loc[t] @ each.loc[t], atol=1e-15)
    turned = realised_factors(
        m["w"].iloc[:, ::-1], m["r"].iloc[::-1], each.iloc[::-1, ::-1], m["f"].iloc[::-1, ::-1][FACTORS]
    )
    pd.testing.assert_series_equal(found.contributions, turned.contributions, rtol=1e-12)
    constant = pd.concat([m["b"]] * T, keys=DATES)
    one, other = (realised_factors(m["w"], m["r"], b, m["f"]) for b in (m["b"], constant))
    pd.testing.assert_series_equal(one.contributions, other.contributions)


def test_from_regressions() -> None:
    """Least squares with an intercept leaves residuals of mean zero, so constant weights earn alpha beside factors."""
    m = market(3)
    even = pd.DataFrame(0.25, DATES, ASSETS)
    fit = factor_regression(m["r"], m["f"])
    found = realised_factors(even, m["r"], fit, m["f"])
    alpha = fit.coefficients["alpha"].mean()
    assert found.by_period["specific"].mean() == pytest.approx(alpha, rel=1e-9)
    rolling = rolling_factor_regression(m["r"], m["f"], 10)
    late = DATES[10:]
    found = realised_factors(even.loc[late], m["r"], rolling, m["f"])
    before = factor_regression(m["r"].iloc[3:13], m["f"]).coefficients  # the ten rows before the fourteenth
    np.testing.assert_allclose(found.exposures.loc[DATES[13]], before[FACTORS].mean(), rtol=1e-9)
    changed = m["r"].copy()
    changed.loc[DATES[13]] *= 3.0
    later = realised_factors(even.loc[late], changed, rolling_factor_regression(changed, m["f"], 10), m["f"])
    np.testing.assert_array_equal(later.exposures.loc[: DATES[13]], found.exposures.loc[: DATES[13]])
    with pytest.raises(po.InputError, match="no window of the regression ended before 2024-01-12"):
        realised_factors(even.loc[DATES[9] :], m["r"], rolling, m["f"])


def test_what_is_not_held_may_be_missing() -> None:
    m = market()
    w, v = m["w"].copy(), m["v"].copy()
    w["A"] = v["A"] = 0.0
    r, b = m["r"].copy(), m["b"].copy()
    r["A"], b.loc["A"] = np.nan, np.nan
    found = realised_factors(w, r, b, m["f"], benchmark=v.drop(columns="A"))
    full = realised_factors(w, m["r"], m["b"], m["f"], benchmark=v)
    pd.testing.assert_series_equal(found.contributions, full.contributions)
    v["A"] = 0.1
    with pytest.raises(po.InputError, match="returns is missing or infinite for A on 2024-01-01"):
        realised_factors(w, r, m["b"], m["f"], benchmark=v)
    with pytest.raises(po.InputError, match="exposures is missing or infinite for A on 2024-01-01, where it is held"):
        realised_factors(w, m["r"], b, m["f"], benchmark=v)


def test_factors_that_are_refused() -> None:
    m = market()
    good = (m["w"], m["r"], m["b"], m["f"])
    with pytest.raises(po.UnknownNameError, match="'size'"):
        realised_factors(m["w"], m["r"], m["b"].rename(columns={"value": "size"}), m["f"])
    with pytest.raises(po.InputError, match="no column for the factor 'value'"):
        realised_factors(m["w"], m["r"], m["b"][["market"]], m["f"])
    with pytest.raises(po.InputError, match="factor_returns has no row"):
        realised_factors(m["w"], m["r"], m["b"], m["f"].iloc[:-1])
    with pytest.raises(po.InputError, match="a factor is called 'cash'"):
        realised_factors(*(m["w"], m["r"]), *(x.rename(columns={"value": "cash"}) for x in (m["b"], m["f"])))
    with pytest.raises(po.UnknownNameError, match="'D'"):
        realised_factors(m["w"], m["r"].drop(columns="D"), m["b"], m["f"])
    with pytest.raises(po.InputError, match="excess=True needs the return of cash"):
        realised_factors(*good, excess=True)
    with pytest.raises(po.InputError, match="benchmark has no weights"):
        realised_factors(*good, benchmark=m["v"].iloc[1:])
    with pytest.raises(po.InputError, match="is called 'market', as is a row of the costs"):
        realised_factors(*good, costs=m["costs"].rename(columns={"impact": "market"}))
    with pytest.raises(po.InputError, match="cash has no return"):
        realised_factors(*good, cash=m["cash"].iloc[1:])
    with pytest.raises(po.InputError, match="linking must be"):
        realised_factors(*good, linking="value")  # type: ignore[arg-type]


# -- by cost --------------------------------------------------------------------------------------------------


def test_costs_by_part_are_rows_of_their_own() -> None:
    m = market()
    together = realised_contributions(m["w"], m["r"], costs=m["costs"].sum(axis=1))
    apart = realised_contributions(m["w"], m["r"], costs=m["costs"])
    assert apart.total_return == pytest.approx(together.total_return, rel=1e-13)
    assert apart.contributions[["commission", "impact"]].sum() == pytest.approx(together.contributions["costs"])
    path = np.concatenate([[1.0], np.cumprod(1.0 + apart.returns)[:-1]])
    assert apart.contributions["impact"] == pytest.approx(-path @ m["costs"]["impact"], rel=1e-12)
    with pytest.raises(po.InputError, match="is called 'A', as is a row of the costs"):
        realised_contributions(m["w"], m["r"], costs=m["costs"].rename(columns={"impact": "A"}))
    with pytest.raises(po.InputError, match="costs has no value for"):
        realised_contributions(m["w"], m["r"], costs=m["costs"].iloc[2:])
    with pytest.raises(po.InputError, match="costs must be a Series by period, or a frame"):
        realised_contributions(m["w"], m["r"], costs=0.001)  # type: ignore[arg-type]


# -- geometric ------------------------------------------------------------------------------------------------


def test_geometric_quarter_by_hand() -> None:
    """Weights and returns of a published balanced portfolio (Bacon, 2008, table 5.2), effects by hand."""
    w, v = pd.Series({"UK": 0.4, "Japan": 0.3, "US": 0.3}), pd.Series({"UK": 0.4, "Japan": 0.2, "US": 0.4})
    r, s = pd.Series({"UK": 0.20, "Japan": -0.05, "US": 0.06}), pd.Series({"UK": 0.10, "Japan": -0.04, "US": 0.08})
    found = geometric_brinson(w, v, r, s)
    allocation = [0.0, 0.1 * (0.96 / 1.064 - 1.0), -0.1 * (1.08 / 1.064 - 1.0)]
    selection = [0.4 * (1.20 / 1.10 - 1) * 1.10 / 1.052, 0.3 * (0.95 / 0.96 - 1) * 0.96 / 1.052, -0.3 * 0.02 / 1.052]
    np.testing.assert_allclose(found.effects["allocation"], allocation, atol=1e-15)
    np.testing.assert_allclose(found.effects["selection"], selection, atol=1e-15)
    assert found.allocation == pytest.approx(1.052 / 1.064 - 1.0)  # -1.13 %
    assert found.selection == pytest.approx(1.083 / 1.052 - 1.0)  # 2.95 %
    assert found.excess == pytest.approx(1.083 / 1.064 - 1.0)  # 1.79 %


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 5), st.sampled_from([1e-12, 1e-3, 0.1]))
def test_effects_multiply_to_the_ratio_of_the_compounded_returns(
    seed: int, periods: int, sectors: int, size: float
) -> None:
    rng = np.random.default_rng(seed)
    w, v = (pd.DataFrame(rng.dirichlet(np.ones(sectors), periods)) for _ in range(2))
    r, s = (pd.DataFrame(rng.normal(0.0, size, (periods, sectors)).clip(-0.9)) for _ in range(2))
    found = geometric_brinson(w, v, r, s)
    ratio = float(((1 + (w * r).sum(axis=1)) / (1 + (v * s).sum(axis=1))).prod())
    assert (1.0 + found.allocation) * (1.0 + found.selection) == pytest.approx(ratio, rel=1e-12)
    assert 1.0 + found.excess == pytest.approx(ratio, rel=1e-12)
    assert found.periods["allocation"].add(1.0).prod() == pytest.approx(1.0 + found.allocation, rel=1e-13)
    for effect in ("allocation", "selection"):
        whole = getattr(found, effect)
        assert found.effects[effect].sum() == pytest.approx(whole, rel=1e-9, abs=1e-15 * periods)
        within = found.by_period[effect].groupby(level=0).sum()
        np.testing.assert_allclose(within, found.periods[effect], atol=1e-14)
    # a currency in which everything is worth more or less changes nothing: what the arithmetic effects cannot say
    money = rng.normal(0.0, size, periods).clip(-0.5)
    r2, s2 = ((1 + x).mul(1 + money, axis=0) - 1 for x in (r, s))
    abroad = geometric_brinson(w, v, r2, s2)
    np.testing.assert_allclose(abroad.effects, found.effects, rtol=1e-6, atol=1e-13)


def test_geometric_that_is_refused() -> None:
    one = pd.Series({"A": 0.5, "B": 0.5})
    with pytest.raises(po.InputError, match="geometric_brinson: on 0 the weights"):
        geometric_brinson(one * 0.9, one, one, one)
    with pytest.raises(po.InputError, match="the benchmark lost everything"):
        geometric_brinson(one, one, one, one - 2.0)
    with pytest.raises(po.InputError, match="sectors at the portfolio's weights lost everything"):
        geometric_brinson(pd.Series({"A": 1.0, "B": 0.0}), one, one, pd.Series({"A": -1.0, "B": 0.5}))
    with pytest.raises(po.InputError, match="geometric_brinson: portfolio_returns must be a frame"):
        geometric_brinson(one, one, 0.1, one)  # type: ignore[arg-type]

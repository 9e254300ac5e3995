"""Black-Scholes values, Greeks, implied volatilities and P&L: closed forms by SciPy, parity, limits, differences."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest
from scipy.stats import norm

from portfolioopt_kernels import pricing


@pytest.fixture(autouse=True)
def _in_64_bits() -> Any:
    with jax.enable_x64(True):
        yield


def grid() -> tuple[np.ndarray, ...]:
    """Spot, strike, expiry, volatility, rate, dividend yield and sign, all combinations (W,)."""
    axes = [100.0], [60.0, 95.0, 100.0, 130.0], [0.02, 0.5, 3.0], [0.1, 0.45], [-0.01, 0.05], [0.0, 0.03], [1.0, -1.0]
    return tuple(axis.ravel() for axis in np.meshgrid(*map(np.array, axes)))


def closed(
    spot: Any, strike: Any, expiry: Any, volatility: Any, rate: Any, dividend: Any, sign: Any
) -> dict[str, np.ndarray]:
    """The textbook formulas, call and put written apart."""
    root = np.sqrt(expiry)
    d1 = (np.log(spot / strike) + (rate - dividend + 0.5 * volatility**2) * expiry) / (volatility * root)
    d2 = d1 - volatility * root
    grown, kept = spot * np.exp(-dividend * expiry), strike * np.exp(-rate * expiry)
    call = sign > 0
    decay = -grown * norm.pdf(d1) * volatility / (2.0 * root)
    return {
        "value": np.where(
            call, grown * norm.cdf(d1) - kept * norm.cdf(d2), kept * norm.cdf(-d2) - grown * norm.cdf(-d1)
        ),
        "delta": np.exp(-dividend * expiry) * np.where(call, norm.cdf(d1), norm.cdf(d1) - 1.0),
        "gamma": np.exp(-dividend * expiry) * norm.pdf(d1) / (spot * volatility * root),
        "vega": grown * norm.pdf(d1) * root,
        "theta": np.where(
            call,
            decay - rate * kept * norm.cdf(d2) + dividend * grown * norm.cdf(d1),
            decay + rate * kept * norm.cdf(-d2) - dividend * grown * norm.cdf(-d1),
        ),
        "rho": expiry * kept * np.where(call, norm.cdf(d2), -norm.cdf(-d2)),
    }


def test_values_and_greeks_are_the_closed_forms() -> None:
    found = pricing.greeks(*grid())._asdict()
    for name, expected in closed(*grid()).items():
        np.testing.assert_allclose(found[name], expected, rtol=1e-10, atol=1e-11, err_msg=name)


def test_single_precision() -> None:
    given = [axis.astype(np.float32) for axis in grid()]
    found = pricing.greeks(*given)
    assert found.value.dtype == np.float32
    np.testing.assert_allclose(found.value, closed(*grid())["value"], atol=3e-5)


def test_put_call_parity() -> None:
    rng = np.random.default_rng(0)
    spot, strike = rng.uniform(1.0, 200.0, (2, 500))
    expiry, volatility, rate, dividend = rng.uniform(
        [[0.0], [0.0], [-0.02], [0.0]], [[5.0], [1.0], [0.1], [0.08]], (4, 500)
    )
    call, put = (pricing.black_scholes(spot, strike, expiry, volatility, rate, dividend, sign) for sign in (1.0, -1.0))
    forward = spot * np.exp(-dividend * expiry) - strike * np.exp(-rate * expiry)
    np.testing.assert_allclose(call - put, forward, atol=1e-12 * 200.0)


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize(("expiry", "volatility"), [(0.0, 0.3), (1e-14, 0.3), (1.0, 0.0), (0.0, 0.0)])
def test_without_time_or_volatility_it_is_what_exercising_brings(sign: float, expiry: float, volatility: float) -> None:
    spot = np.array([0.0, 1e-300, 50.0, 99.0, 101.0, 500.0])
    given = (spot, np.full(6, 100.0), np.full(6, expiry), np.full(6, volatility), np.full(6, 0.02), np.full(6, 0.01))
    found = pricing.greeks(*given, np.full(6, sign))
    ahead, kept = spot * np.exp(-0.01 * expiry), 100.0 * np.exp(-0.02 * expiry)
    np.testing.assert_allclose(found.value, np.maximum(sign * (ahead - kept), 0.0), atol=1e-11)
    held = np.where(sign * (ahead - kept) > 0, sign * np.exp(-0.01 * expiry), 0.0)
    np.testing.assert_allclose(found.delta, held, atol=1e-11)
    assert all(np.isfinite(array).all() for array in found)


def test_far_in_and_out_of_the_money_nothing_breaks() -> None:
    strike = np.array([1e-8, 1e-3, 1e3, 1e8, 1e300])
    for sign in (1.0, -1.0):
        found = pricing.greeks(*(np.broadcast_to(a, 5) for a in (100.0, strike, 0.25, 0.2, 0.03, 0.0, sign)))
        assert all(np.isfinite(array).all() for array in found)
        assert (np.asarray(found.value) >= 0.0).all()
    call = pricing.greeks(*(np.broadcast_to(a, 5) for a in (100.0, strike, 0.25, 0.2, 0.03, 0.0, 1.0)))
    np.testing.assert_allclose(call.value[:2], 100.0 - strike[:2] * np.exp(-0.03 * 0.25), rtol=1e-14)
    assert (np.asarray(call.value[2:]) < 1e-100).all()


def test_implied_volatility_comes_back() -> None:
    rng = np.random.default_rng(1)
    strike = 100.0 * np.exp(rng.normal(0.0, 0.4, 2000))
    expiry, volatility = rng.uniform(0.01, 4.0, 2000), rng.uniform(0.03, 2.0, 2000)
    sign = rng.choice([-1.0, 1.0], 2000)
    given = [np.broadcast_to(a, 2000) for a in (100.0, strike, expiry, volatility, 0.02, 0.01, sign)]
    greeks = pricing.greeks(*given)
    found = pricing.implied_volatility(greeks.value, 100.0, strike, expiry, 0.02, 0.01, sign)
    # a price is known to rounding, and so is the volatility by rounding over vega
    room = 1e-10 + 64.0 * np.finfo(float).eps * np.maximum(100.0, strike) / np.maximum(greeks.vega, 1e-300)
    known = room < 1e-3
    assert known.mean() > 0.9
    assert (np.abs(found - volatility) <= room)[known].all()
    far = pricing.greeks(*(np.array([a]) for a in (100.0, 400.0, 0.25, 0.2, 0.0, 0.0, 1.0))).value
    assert 0.0 < far[0] < 1e-30
    deep = pricing.implied_volatility(far, 100.0, 400.0, 0.25, 0.0, 0.0, 1.0)
    np.testing.assert_allclose(deep, 0.2, rtol=1e-9)


def test_implied_volatility_of_impossible_and_bound_prices() -> None:
    price = np.array([-1.0, 100.1, 4.9, 5.0, 8.0])  # a call with spot 100 and strike 95
    found = np.asarray(pricing.implied_volatility(price, 100.0, 95.0, 1.0, 0.0, 0.0, 1.0))
    assert np.isnan(found[:3]).all()
    assert found[3] == 0.0
    assert found[4] > 0.0
    assert np.isnan(pricing.implied_volatility(np.array([8.0]), 100.0, 95.0, 0.0, 0.0, 0.0, 1.0)).all()


def test_full_pnl_is_the_sum_over_instruments() -> None:
    rng = np.random.default_rng(2)
    s, u, i, p = 24, 3, 7, 4
    of, sign = rng.integers(0, u, i), np.array([1.0, -1.0, 0.0, 1.0, -1.0, 0.0, 1.0])
    strike, expiry, volatility = (
        rng.uniform(80, 120, i),
        np.array([0.0, 0.5, 0.0, 1.0, 0.2, 0.0, 2.0]),
        np.full(i, 0.25),
    )
    spot, returns = rng.uniform(80, 120, u), rng.normal(0, 0.1, (s, u))
    returns[3, 0] = -1.0  # the underlying is worth nothing
    vols, rates, books = rng.normal(0, 0.2, (s, u)), rng.normal(0, 0.01, s), rng.normal(size=(p, i))
    value = rng.uniform(0, 10, i)
    instruments = pricing.Instruments(of, sign, strike, expiry, volatility, np.full(i, 0.03), np.full(i, 0.01))
    found = pricing.full_pnl(books, instruments, returns, vols, rates, spot, value, rows=8)
    expected = np.zeros((s, p))
    for j in range(i):
        price = spot[of[j]] * (1.0 + returns[:, of[j]])
        sigma = np.maximum(volatility[j] + vols[:, of[j]], 0.0)
        for k in range(s):
            if sign[j] == 0.0:
                worth = price[k]
            elif price[k] == 0.0 or expiry[j] == 0.0 or sigma[k] == 0.0:
                ahead = price[k] * np.exp(-0.01 * expiry[j]) - strike[j] * np.exp(-(0.03 + rates[k]) * expiry[j])
                worth = max(sign[j] * ahead, 0.0)
            else:
                at = (price[k], strike[j], expiry[j], sigma[k], 0.03 + rates[k], 0.01, sign[j])
                worth = float(closed(*map(np.float64, at))["value"])
            expected[k] += books[:, j] * (worth - value[j])
    np.testing.assert_allclose(found, expected, atol=1e-10)

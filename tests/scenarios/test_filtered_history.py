"""GARCH fits against the package arch, and filtered historical simulation: what is drawn, and from which past."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from arch import arch_model

import portfolioopt as po
from portfolioopt.errors import InputError
from portfolioopt.scenarios import Garch, filtered_historical, filtered_historical_paths, fit_garch

SETTINGS = [
    ({"mean": "constant"}, {"mean": "Constant", "o": 0}),
    ({"mean": "zero"}, {"mean": "Zero", "o": 0}),
    ({"mean": "constant", "asymmetric": True}, {"mean": "Constant", "o": 1}),
]


def simulated(rows: int = 3000, seed: int = 0, gamma: float = 0.0) -> pd.DataFrame:
    """Two assets with volatility that clusters, and what comes about together."""
    z = np.random.default_rng(seed).multivariate_normal([0.0, 0.0], [[1.0, 0.6], [0.6, 1.0]], rows)
    omega, alpha, beta = np.array([2e-6, 4e-6]), np.array([0.1, 0.06]), np.array([0.85, 0.9])
    variance, values = omega / (1.0 - alpha - 0.5 * gamma - beta), np.empty((rows, 2))
    for t in range(rows):
        values[t] = np.sqrt(variance) * z[t]
        variance = omega + (alpha + gamma * (values[t] < 0.0)) * values[t] ** 2 + beta * variance
    return pd.DataFrame(values + 5e-4, pd.date_range("2010-01-04", periods=rows, freq="B"), ["A", "B"])


def logs() -> pd.DataFrame:
    returns = po.data.simple_returns(po.data.sample_prices()).tail(4000)[["AAPL", "BAC", "JNJ", "XOM"]]
    return returns.apply(np.log1p)


def theirs(returns: pd.Series, settings: dict[str, Any]) -> Any:
    model = arch_model(100.0 * returns, vol="GARCH", p=1, q=1, dist="normal", rescale=False, **settings)
    return model.fit(disp="off", options={"ftol": 1e-12})


@pytest.mark.parametrize(("ours", "other"), SETTINGS)
@pytest.mark.parametrize("data", [simulated, logs])
def test_fits_are_those_of_arch(data: Any, ours: dict[str, Any], other: dict[str, Any]) -> None:
    returns = data()
    fitted = fit_garch(returns, **ours)
    for asset in returns:
        reference = theirs(returns[asset], other)
        parameters = reference.params
        likelihood = reference.loglikelihood + len(returns) * np.log(100.0)
        assert fitted.log_likelihood[asset] >= likelihood - 1e-4
        assert fitted.log_likelihood[asset] == pytest.approx(likelihood, abs=2e-3)
        for name, unit, tolerance in (("alpha", 1.0, 2e-3), ("beta", 1.0, 4e-3), ("omega", 1e4, 2e-3)):
            theirs_ = parameters[name if name == "omega" else f"{name}[1]"]
            assert getattr(fitted, name)[asset] * unit == pytest.approx(theirs_, abs=tolerance)
        if other["o"]:
            assert fitted.gamma[asset] == pytest.approx(parameters["gamma[1]"], abs=4e-3)
        if ours["mean"] == "constant":
            assert 100.0 * fitted.mean[asset] == pytest.approx(parameters["mu"], abs=1e-3)
        np.testing.assert_allclose(100.0 * fitted.volatility[asset], reference.conditional_volatility, rtol=5e-3)
        ahead = reference.forecast(horizon=1, reindex=False).variance.to_numpy()[-1, 0]
        assert (100.0 * fitted.next_volatility[asset]) ** 2 == pytest.approx(ahead, rel=1e-2)


def test_parameters_of_a_long_simulation_are_recovered() -> None:
    returns = simulated(20_000, gamma=0.06)
    fitted = fit_garch(returns, asymmetric=True)
    np.testing.assert_allclose(fitted.alpha, [0.1, 0.06], atol=0.02)
    np.testing.assert_allclose(fitted.gamma, 0.06, atol=0.03)
    np.testing.assert_allclose(fitted.beta, [0.85, 0.9], atol=0.03)
    np.testing.assert_allclose(fitted.long_run_volatility, returns.std(), rtol=0.1)
    np.testing.assert_allclose(fitted.residuals.std(), 1.0, atol=0.02)


def test_a_fit_is_in_the_units_of_the_returns() -> None:
    plain, scaled = fit_garch(simulated()), fit_garch(10.0 * simulated())
    np.testing.assert_allclose(scaled.alpha, plain.alpha, atol=1e-7)
    np.testing.assert_allclose(scaled.omega, 100.0 * plain.omega, rtol=1e-5)
    np.testing.assert_allclose(scaled.volatility, 10.0 * plain.volatility, rtol=1e-6)


def test_volatility_comes_from_the_rows_before_alone() -> None:
    returns, cut = simulated(), 2000
    fitted = fit_garch(returns)
    whole = fitted.variances(returns)
    np.testing.assert_allclose(np.sqrt(whole[:-1]), fitted.volatility, rtol=1e-12)
    np.testing.assert_allclose(np.sqrt(whole.iloc[-1]), fitted.next_volatility, rtol=1e-12)
    changed = returns.copy()
    changed.iloc[cut:] *= -5.0
    for other in (changed, returns.iloc[:cut]):
        pd.testing.assert_frame_equal(fitted.variances(other)[: cut + 1], whole[: cut + 1], check_exact=True)
    assert (fitted.variances(changed).iloc[cut + 1 :] != whole.iloc[cut + 1 :]).to_numpy().any()


def test_one_period_is_todays_volatility_times_the_residuals_of_a_date() -> None:
    returns = np.expm1(simulated(500))
    fitted = fit_garch(np.log1p(returns))
    drawn = filtered_historical(returns, 5000, seed=1)
    volatility = fitted.next_volatility.to_numpy()
    possible = np.expm1(fitted.mean.to_numpy() + volatility * fitted.residuals.to_numpy())
    rows = {row.tobytes(): t for t, row in enumerate(possible)}
    dates = np.array([rows[row.tobytes()] for row in drawn.matrix])  # both assets of the same date
    counts = np.bincount(dates, minlength=500)
    assert np.abs(counts - 10.0).max() < 5.0 * np.sqrt(10.0)
    assert drawn.horizon == "1 period"


def test_volatility_today_decides_how_wide_scenarios_are() -> None:
    returns = np.expm1(simulated())
    fitted = fit_garch(np.log1p(returns))
    calm, wild = fitted.volatility["A"].idxmin(), fitted.volatility["A"].idxmax()
    width = []
    for day in (calm, wild):
        model = fit_garch(np.log1p(returns.loc[:day]))
        drawn = filtered_historical(returns.loc[:day], 20_000, seed=2, model=model)
        width.append(drawn.matrix[:, 0].std() / model.next_volatility["A"])
    np.testing.assert_allclose(width, 1.0, atol=0.05)


def test_later_rows_change_nothing() -> None:
    returns = np.expm1(simulated())
    past = returns.iloc[:1500]
    other = returns.copy()
    other.iloc[1500:] *= 3.0
    np.testing.assert_array_equal(
        filtered_historical(past, 100, seed=3, horizon=5).matrix,
        filtered_historical(other.iloc[:1500], 100, seed=3, horizon=5).matrix,
    )


def test_variance_over_a_horizon_is_the_forecast_of_arch() -> None:
    log_returns, horizon = simulated(), 10
    drawn = filtered_historical(np.expm1(log_returns), 100_000, seed=4, horizon=horizon)
    variances = np.log1p(drawn.matrix).var(axis=0)
    for i, asset in enumerate(log_returns):
        ahead = theirs(log_returns[asset], {"mean": "Constant", "o": 0}).forecast(horizon=horizon, reindex=False)
        assert variances[i] == pytest.approx(ahead.variance.to_numpy()[-1].sum() / 1e4, rel=0.04)


def test_paths_cluster_in_volatility_and_not_in_direction() -> None:
    returns = np.expm1(simulated())
    # many long paths, whose squares are as dependent as the model says; see Bollerslev (1986) for the law
    paths = np.log1p(filtered_historical_paths(returns, 3000, horizon=60, seed=5).paths[:, 20:, 0])
    centred = paths - paths.mean()
    direction = np.corrcoef(centred[:, 1:].ravel(), centred[:, :-1].ravel())[0, 1]
    clusters = np.corrcoef((centred[:, 1:] ** 2).ravel(), (centred[:, :-1] ** 2).ravel())[0, 1]
    fitted = fit_garch(np.log1p(returns))
    alpha, persistence = fitted.alpha["A"], fitted.persistence["A"]
    beta = persistence - alpha
    expected = alpha * (1.0 - alpha * beta - beta**2) / (1.0 - 2.0 * alpha * beta - beta**2)
    assert abs(direction) < 0.02
    assert clusters == pytest.approx(expected, abs=0.06)


def test_paths_end_in_the_scenarios_of_the_horizon() -> None:
    returns = np.expm1(simulated(600))
    paths = filtered_historical_paths(returns, 500, horizon=7, seed=6)
    scenarios = filtered_historical(returns, 500, horizon=7, seed=6)
    np.testing.assert_allclose(paths.horizon_returns().matrix, scenarios.matrix, atol=1e-14)
    np.testing.assert_array_equal(filtered_historical(returns, 90, horizon=7, seed=6).matrix, scenarios.matrix[:90])
    part = filtered_historical(returns[["B"]], 500, horizon=7, seed=6)
    np.testing.assert_allclose(part.matrix[:, 0], scenarios.matrix[:, 1], rtol=1e-9)


def test_a_fit_that_is_not_stationary() -> None:
    # volatility that only ever rises
    growing = simulated(1000) * np.exp(np.linspace(0.0, 8.0, 1000))[:, None]
    with pytest.raises(InputError, match=r"not stationary for 'A', 'B'.*most_persistence=0\.999"):
        fit_garch(growing)
    held = fit_garch(growing, most_persistence=0.98)
    assert (held.persistence <= 0.98 + 1e-9).all()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"returns": simulated(99)}, "GARCH needs at least 100 rows"),
        ({"returns": simulated().assign(B=0.0)}, "'B' never does"),
        ({"returns": simulated() - 2.0}, "a loss of more than 100 % cannot be compounded"),
        ({"returns": simulated().replace(simulated().iloc[5, 0], -1.0)}, "losses of 100 %"),
        ({"mean": "median"}, "mean must be 'zero' or 'constant', was 'median'"),
        ({"most_persistence": 1.0}, "most_persistence must be below 1"),
        ({"horizon": 0}, "horizon must be a whole number, at least 1"),
        ({"n_scenarios": 1}, "n_scenarios must be a whole number, at least 2"),
        ({"seed": 1.5}, "seed must be a whole number"),
        ({"model": "garch"}, "model must be a Garch with the assets of returns"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        filtered_historical(**{"returns": simulated(200), "n_scenarios": 10, "seed": 0, **changes})


def test_other_assets_than_those_of_the_fit_are_refused() -> None:
    fitted: Garch = fit_garch(simulated(200))
    with pytest.raises(InputError, match="must have the assets of the fit"):
        fitted.variances(simulated(200)[["B", "A"]])

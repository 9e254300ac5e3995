"""Covariances: other libraries where definitions agree, closed forms, and the property each is known for."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import integrate

import portfolioopt as po
from portfolioopt.data import sample_prices, simple_returns
from portfolioopt.estimate import (
    DenoisedCovariance,
    ExponentialCovariance,
    GerberCovariance,
    LedoitWolf,
    NonlinearShrinkage,
    OracleApproximating,
    SampleCovariance,
    SemiCovariance,
)

RETURNS = simple_returns(sample_prices()).iloc[-400:]
ALL = [
    SampleCovariance(),
    SampleCovariance(ddof=0),
    ExponentialCovariance(60.0),
    LedoitWolf(),
    OracleApproximating(),
    NonlinearShrinkage(),
    GerberCovariance(),
    DenoisedCovariance(),
    SemiCovariance(),
]
every = pytest.mark.parametrize("estimator", ALL, ids=repr)


def normal(rows: int, columns: int, seed: int = 0, factors: int = 0, strength: float = 1.0) -> pd.DataFrame:
    """Independent columns, and what some common factors add."""
    random = np.random.default_rng(seed)
    values = random.normal(size=(rows, columns)) * random.uniform(0.5, 2.0, columns)
    if factors:
        values += strength * random.normal(size=(rows, factors)) @ random.normal(size=(factors, columns))
    return pd.DataFrame(0.01 * values, columns=[f"A{i}" for i in range(columns)])


def correlation(frame: pd.DataFrame) -> NDArray[np.float64]:
    std = np.sqrt(np.diag(frame))
    return frame.to_numpy() / np.outer(std, std)


# -- what all have in common -------------------------------------------------------------------------------------
@every
@pytest.mark.parametrize("shape", [(400, 20), (60, 30), (25, 40), (13, 13), (14, 13)])
def test_symmetric_positive_and_by_asset(estimator: Any, shape: tuple[int, int]) -> None:
    returns = normal(*shape, factors=2)
    fitted = estimator.fit(returns)
    assert fitted.index.equals(returns.columns)
    assert fitted.columns.equals(returns.columns)
    np.testing.assert_array_equal(fitted, fitted.T)
    values = np.linalg.eigvalsh(fitted)
    assert values[0] >= -1e-12 * values[-1]


@every
def test_the_order_of_assets_does_not_matter(estimator: Any) -> None:
    other = RETURNS.columns[np.random.default_rng(0).permutation(RETURNS.shape[1])]
    np.testing.assert_allclose(
        estimator.fit(RETURNS[other]), estimator.fit(RETURNS).loc[other, other], rtol=1e-9, atol=1e-15
    )


@every
@given(unit=st.floats(1e-3, 1e3), seed=st.integers(0, 1000))
def test_the_unit_of_returns_does_not_matter(estimator: Any, unit: float, seed: int) -> None:
    returns = normal(40, 6, seed, factors=1)
    once = estimator.fit(returns).to_numpy()
    # A return at a threshold may fall on either side of it after rounding; none of these lies that close.
    np.testing.assert_allclose(estimator.fit(unit * returns), unit**2 * once, rtol=1e-8, atol=1e-12 * unit**2)


@pytest.mark.parametrize(
    "estimator", [e for e in ALL if not isinstance(e, GerberCovariance | SemiCovariance)], ids=repr
)
def test_a_constant_added_to_returns_does_not_matter(estimator: Any) -> None:
    shift = pd.Series(np.linspace(-0.1, 0.1, RETURNS.shape[1]), RETURNS.columns)
    np.testing.assert_allclose(estimator.fit(RETURNS + shift), estimator.fit(RETURNS), rtol=1e-8, atol=1e-14)


@every
def test_the_input_is_left_alone_and_fits_a_problem(estimator: Any) -> None:
    before = RETURNS.copy()
    fitted = estimator.fit(RETURNS)
    pd.testing.assert_frame_equal(RETURNS, before)
    problem = po.Problem(po.ScenarioSet(RETURNS), -po.Variance(fitted), [po.Budget(), po.Bounds()])
    assert problem is not None


@every
def test_one_asset(estimator: Any) -> None:
    one = normal(30, 1)
    value = estimator.fit(one).iloc[0, 0]
    assert 0.2 < value / one["A0"].var() < 1.5


# -- sample ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("ddof", [0, 1, 5])
def test_sample_is_that_of_numpy(ddof: int) -> None:
    expected = np.cov(RETURNS, rowvar=False, ddof=ddof)
    np.testing.assert_allclose(SampleCovariance(ddof).fit(RETURNS), expected, rtol=1e-10, atol=1e-18)


@pytest.mark.parametrize("halflife", [2.0, 20.0, 250.0])
def test_exponential_is_that_of_pandas(halflife: float) -> None:
    expected = RETURNS.ewm(halflife=halflife).cov().loc[RETURNS.index[-1]]
    np.testing.assert_allclose(ExponentialCovariance(halflife).fit(RETURNS), expected, rtol=1e-8, atol=1e-15)


def test_a_long_halflife_is_the_sample() -> None:
    np.testing.assert_allclose(
        ExponentialCovariance(1e9).fit(RETURNS), SampleCovariance().fit(RETURNS), rtol=1e-5, atol=1e-12
    )


# -- linear shrinkage --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("shape", [(400, 20), (30, 50), (5, 3), (2, 2)])
def test_ledoit_wolf_is_that_of_scikit_learn(shape: tuple[int, int]) -> None:
    covariance = pytest.importorskip("sklearn.covariance")
    returns = normal(*shape, factors=1)
    expected, intensity = covariance.ledoit_wolf(returns.to_numpy())
    np.testing.assert_allclose(LedoitWolf().fit(returns), expected, rtol=1e-9, atol=1e-16)
    assert LedoitWolf().shrinkage(returns) == pytest.approx(intensity, rel=1e-8)


@pytest.mark.parametrize("shape", [(400, 20), (30, 50), (200, 3)])
def test_oracle_approximating_is_that_of_scikit_learn_but_for_two_terms(shape: tuple[int, int]) -> None:
    covariance = pytest.importorskip("sklearn.covariance")
    returns = normal(*shape, factors=1)
    (rows, n), s = shape, np.cov(returns, rowvar=False, ddof=0)
    squares, trace = np.sum(s**2), np.trace(s) ** 2
    expected, intensity = covariance.oas(returns.to_numpy())
    assert intensity == pytest.approx((squares + trace) / ((rows + 1) * (squares - trace / n)), rel=1e-9)
    change = (squares - 2 / n * squares + trace) / (squares + trace) * (rows + 1) / (rows + 1 - 2 / n)
    mine = OracleApproximating().shrinkage(returns)
    assert mine == pytest.approx(intensity * change, rel=1e-9)
    target = np.trace(s) / n * np.eye(n)
    np.testing.assert_allclose(OracleApproximating().fit(returns), s + mine * (target - s), rtol=1e-9, atol=1e-16)
    np.testing.assert_allclose(expected, s + intensity * (target - s), rtol=1e-9, atol=1e-16)


@pytest.mark.parametrize("shape", [(50, 20), (30, 50), (200, 3)])
def test_oracle_approximating_is_the_limit_of_its_iteration(shape: tuple[int, int]) -> None:
    returns = normal(*shape, factors=1)
    (rows, n), s = shape, np.cov(returns, rowvar=False, ddof=0)
    target, current = np.trace(s) / n * np.eye(n), s
    intensity = 1.0
    for _ in range(5000):
        cross, trace = np.sum(current * s), np.trace(current) ** 2
        above = (1 - 2 / n) * cross + trace
        intensity = above / ((rows + 1 - 2 / n) * cross + (1 - rows / n) * trace)
        current = (1 - intensity) * s + intensity * target
    assert OracleApproximating().shrinkage(returns) == pytest.approx(intensity, rel=1e-6)


@pytest.mark.parametrize("estimator", [LedoitWolf(), OracleApproximating()], ids=repr)
@given(rows=st.integers(2, 40), columns=st.integers(1, 12), seed=st.integers(0, 1000))
def test_intensities_lie_between_zero_and_one(estimator: Any, rows: int, columns: int, seed: int) -> None:
    returns = normal(rows, columns, seed)
    intensity = estimator.shrinkage(returns)
    assert 0.0 <= intensity <= 1.0
    assert np.trace(estimator.fit(returns)) == pytest.approx(np.trace(SampleCovariance(ddof=0).fit(returns)))


def test_more_data_shrinks_less() -> None:
    few, many = normal(20, 8, factors=2), normal(20_000, 8, factors=2)
    for estimator in (LedoitWolf(), OracleApproximating()):
        assert estimator.shrinkage(many) < 0.01 < estimator.shrinkage(few)


# -- nonlinear shrinkage -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("size", [5, 40])
def test_nonlinear_shrinkage_by_quadrature(size: int) -> None:
    """The same formula with the density, and the principal value of its Hilbert transform, integrated numerically."""
    returns = normal(31, size, factors=1)
    n = len(returns) - 1
    sample = np.cov(returns, rowvar=False) * 1e4
    positive = np.linalg.eigvalsh(sample)[max(size - n, 0) :]
    width = n ** (-1 / 3) * positive

    def density(at: float) -> float:
        z = (at - positive) / width
        return float(np.mean(3 / (4 * np.sqrt(5)) * np.maximum(1 - z**2 / 5, 0) / width))

    def transform(at: float) -> float:
        total = 0.0
        for middle, w in zip(positive, width, strict=True):
            low, high = middle - np.sqrt(5) * w, middle + np.sqrt(5) * w
            kernel = lambda u, middle=middle, w=w: 3 / (4 * np.sqrt(5)) * max(1 - ((u - middle) / w) ** 2 / 5, 0) / w
            if low < at < high:
                reach = min(at - low, high - at) / 2
                total += integrate.quad(kernel, at - reach, at + reach, weight="cauchy", wvar=at)[0]
                total += integrate.quad(lambda u, k=kernel: k(u) / (u - at), low, at - reach)[0]
                total += integrate.quad(lambda u, k=kernel: k(u) / (u - at), at + reach, high)[0]
            else:
                total += integrate.quad(lambda u, k=kernel: k(u) / (u - at), low, high)[0]
        return total / np.pi / len(positive)

    c, expected = size / n, []
    for value in positive:
        f, h = density(value), transform(value)
        if size <= n:
            expected.append(value / abs(1 - c - np.pi * c * value * complex(h, f)) ** 2)
        else:
            expected.append(1 / (np.pi**2 * value * (f**2 + h**2)))
    if size > n:
        expected += [1 / (np.pi * (c - 1) * transform(0.0))] * (size - n)
    found = np.linalg.eigvalsh(1e4 * NonlinearShrinkage().fit(returns))
    np.testing.assert_allclose(found, np.sort(expected), rtol=1e-5)


@pytest.mark.parametrize(("rows", "columns"), [(600, 200), (200, 300)])
def test_nonlinear_shrinkage_gains_most_of_what_an_oracle_would(rows: int, columns: int) -> None:
    """Ledoit & Wolf's own setting: a fifth of the eigenvalues 1, two fifths 3, two fifths 10."""
    true = np.repeat([1.0, 3.0, 10.0], [columns // 5, 2 * columns // 5, 2 * columns // 5])
    values = np.random.default_rng(0).normal(size=(rows, columns)) * np.sqrt(true)
    returns = pd.DataFrame(values, columns=[f"A{i}" for i in range(columns)])
    sample = SampleCovariance().fit(returns).to_numpy()
    vectors = np.linalg.eigh(sample)[1]
    oracle = (vectors * np.einsum("in,i,in->n", vectors, true, vectors)) @ vectors.T
    loss = lambda estimate: float(np.sum((estimate - oracle) ** 2))
    nonlinear, linear = (loss(e.fit(returns).to_numpy()) for e in (NonlinearShrinkage(), LedoitWolf()))
    assert nonlinear < 0.05 * loss(sample)
    assert nonlinear < linear


def test_nonlinear_shrinkage_keeps_the_vectors() -> None:
    sample, shrunk = SampleCovariance().fit(RETURNS), NonlinearShrinkage().fit(RETURNS)
    np.testing.assert_allclose(sample @ shrunk, shrunk @ sample, rtol=1e-8, atol=1e-14)


# -- Gerber ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.9])
def test_gerber_is_that_of_skfolio(threshold: float) -> None:
    moments = pytest.importorskip("skfolio.moments")
    rows = len(RETURNS)
    # skfolio's standard deviation divides by T.
    peer = moments.GerberCovariance(threshold=threshold * np.sqrt(rows / (rows - 1)), nearest=False).fit(RETURNS)
    expected = peer.covariance_ * rows / (rows - 1)
    np.testing.assert_allclose(GerberCovariance(threshold).fit(RETURNS), expected, rtol=1e-10, atol=1e-18)


def test_gerber_by_hand() -> None:
    returns = pd.DataFrame({"A": [1.0, -1.0, 1.0, -1.0, 0.0], "B": [1.0, -1.0, -1.0, 0.0, 0.0]})
    # Together twice, against each other once, and one row of five in which neither moves.
    assert correlation(GerberCovariance().fit(returns))[0, 1] == pytest.approx((2 - 1) / (5 - 1))
    np.testing.assert_allclose(np.diag(GerberCovariance().fit(returns)), returns.var())


def test_gerber_of_independent_signs_is_diagonal() -> None:
    signs = pd.DataFrame(0.02 * np.array(list(itertools.product([-1.0, 1.0], repeat=4))), columns=list("ABCD"))
    np.testing.assert_allclose(correlation(GerberCovariance().fit(signs)), np.eye(4), atol=1e-15)


def test_gerber_hardly_sees_how_far_a_return_is_out() -> None:
    returns = normal(200, 4, factors=1)
    wild = returns.copy()
    wild.iloc[np.abs(returns["A0"]).argmax(), 0] *= 1.5
    moved = np.abs(correlation(GerberCovariance().fit(wild)) - correlation(GerberCovariance().fit(returns))).max()
    assert moved < 0.05


# -- denoised ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("rows", "columns", "factors"), [(500, 50, 3), (400, 100, 1), (300, 20, 0)])
def test_denoised_finds_the_factors_and_is_that_of_skfolio(rows: int, columns: int, factors: int) -> None:
    moments = pytest.importorskip("skfolio.moments")
    returns = normal(rows, columns, factors=factors, strength=2.0)
    assert DenoisedCovariance().signals(returns) == factors
    # Its fit of the share of noise finds as many factors as a share of 1.
    peer = moments.DenoiseCovariance(nearest=False).fit(returns)
    np.testing.assert_allclose(DenoisedCovariance().fit(returns), peer.covariance_, rtol=1e-8, atol=1e-14)


def test_denoised_real_returns_are_those_of_skfolio() -> None:
    moments = pytest.importorskip("skfolio.moments")
    peer = moments.DenoiseCovariance(nearest=False).fit(RETURNS)
    np.testing.assert_allclose(DenoisedCovariance().fit(RETURNS), peer.covariance_, rtol=1e-8, atol=1e-14)


def test_little_noise_leaves_the_sample() -> None:
    tiny = DenoisedCovariance(noise=1e-6)
    assert tiny.signals(RETURNS) == RETURNS.shape[1]
    np.testing.assert_allclose(tiny.fit(RETURNS), SampleCovariance().fit(RETURNS), rtol=1e-9, atol=1e-16)


def test_without_signal_nothing_but_variances_is_left() -> None:
    returns = normal(300, 20)
    np.testing.assert_allclose(DenoisedCovariance().fit(returns), np.diag(returns.var()), rtol=1e-9, atol=1e-16)


@pytest.mark.parametrize("returns", [RETURNS, normal(30, 50, factors=2, strength=3.0)], ids=["tall", "wide"])
def test_denoised_keeps_variances_and_has_one_noise_eigenvalue(returns: pd.DataFrame) -> None:
    fitted = DenoisedCovariance().fit(returns)
    np.testing.assert_allclose(np.diag(fitted), returns.var(), rtol=1e-12)
    std, values, vectors, signals = DenoisedCovariance()._parts(returns)
    assert 1 <= signals < len(values)
    noise = values[:-signals]
    edge = (1 + np.sqrt(len(values) / len(returns))) ** 2
    assert noise[-1] <= edge < values[-signals]
    before = (vectors * np.r_[np.full(len(noise), noise.mean()), values[-signals:]]) @ vectors.T
    assert np.trace(before) == pytest.approx(len(values), rel=1e-12)
    np.testing.assert_allclose(
        correlation(fitted), before / np.sqrt(np.outer(np.diag(before), np.diag(before))), rtol=1e-9, atol=1e-14
    )
    np.testing.assert_allclose(np.diag(fitted), std**2, rtol=1e-12)
    assert np.linalg.cond(correlation(fitted)) < np.linalg.cond(returns.corr())


# -- downside ----------------------------------------------------------------------------------------------------
def test_semi_covariance_by_hand() -> None:
    returns = pd.DataFrame({"A": [-0.02, 0.01, -0.01, 0.03], "B": [-0.01, -0.03, 0.02, 0.05]})
    expected = np.array([[5e-4, 2e-4], [2e-4, 10e-4]]) / 4
    np.testing.assert_allclose(SemiCovariance().fit(returns), expected, rtol=1e-12)


def test_semi_covariance_of_symmetric_returns_is_half_the_second_moment() -> None:
    both = pd.concat([RETURNS, -RETURNS], ignore_index=True)
    np.testing.assert_allclose(np.diag(SemiCovariance().fit(both)), (RETURNS**2).mean() / 2, rtol=1e-12)


def test_targets_by_asset() -> None:
    target = pd.Series(np.linspace(-0.01, 0.01, RETURNS.shape[1]), RETURNS.columns)
    np.testing.assert_allclose(
        SemiCovariance(target).fit(RETURNS), SemiCovariance().fit(RETURNS - target), rtol=1e-12, atol=1e-18
    )
    with pytest.raises(po.UnknownNameError, match=r"SemiCovariance\.target"):
        SemiCovariance({"nobody": 0.0}).fit(RETURNS)


# -- bad input ---------------------------------------------------------------------------------------------------
@every
@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda r: r.to_numpy(), "must be a frame"),
        (lambda r: r["AAPL"], r"to_frame\(\)"),
        (lambda r: r.iloc[:, :0], "no columns"),
        (lambda r: r.mask(r == r.iloc[3, 2]), r"missing or infinite for .* on \d{4}-\d\d-\d\d.*dropna"),
        (lambda r: r.replace(r.iloc[3, 2], np.inf), "missing or infinite"),
        (lambda r: pd.concat([r, r["AAPL"]], axis=1), "duplicate columns: 'AAPL'"),
        (lambda r: pd.concat([r, r.iloc[[-1]]]), r"duplicate dates: \d{4}"),
        (lambda r: r.iloc[::-1], "increasing order.*sort_index"),
        (lambda r: r.assign(AAPL="x"), "numbers for 'AAPL'"),
        (lambda r: r.assign(AAPL=True), "numbers for 'AAPL'"),
        (lambda r: r.set_axis(r.index.where(r.index != r.index[4])), "1 of the 400 dates"),
        (lambda r: r.iloc[:0], "at least .* there are 0; pass a longer history"),
    ],
)
def test_returns_that_cannot_be_meant(estimator: Any, spoil: Any, text: str) -> None:
    with pytest.raises(po.InputError, match=text) as error:
        estimator.fit(spoil(RETURNS))
    assert type(estimator).__name__ in str(error.value)


@pytest.mark.parametrize(
    ("estimator", "rows"),
    [
        (SampleCovariance(), 2),
        (SampleCovariance(4), 5),
        (ExponentialCovariance(5), 2),
        (LedoitWolf(), 2),
        (OracleApproximating(), 2),
        (NonlinearShrinkage(), 13),
        (GerberCovariance(), 2),
        (DenoisedCovariance(), 2),
        (SemiCovariance(), 1),
    ],
    ids=repr,
)
def test_one_row_too_few(estimator: Any, rows: int) -> None:
    with pytest.raises(po.InputError, match=f"at least {rows} row"):
        estimator.fit(RETURNS.iloc[: rows - 1])
    assert np.isfinite(estimator.fit(RETURNS.iloc[:rows])).all(axis=None)


def test_settings_out_of_range() -> None:
    for wrong in (0.0, -1.0, np.nan, np.inf, "x", None):
        with pytest.raises(po.InputError, match="halflife"):
            ExponentialCovariance(wrong)
    for wrong in (0.0, 1.0, 2.0, np.nan):
        with pytest.raises(po.InputError, match="threshold"):
            GerberCovariance(wrong)
    for wrong in (0.0, 1.1, np.nan):
        with pytest.raises(po.InputError, match="noise"):
            DenoisedCovariance(wrong)
    for wrong in (-1, 0.5, True):
        with pytest.raises(po.InputError, match="ddof"):
            SampleCovariance(wrong)
    with pytest.raises(po.InputError, match="longer halflife"):
        ExponentialCovariance(0.01).fit(RETURNS)


@pytest.mark.parametrize("estimator", [GerberCovariance(), DenoisedCovariance(), NonlinearShrinkage()], ids=repr)
def test_an_asset_that_never_moves_is_named(estimator: Any) -> None:
    with pytest.raises(po.InputError, match="'XOM' never does; leave it out"):
        estimator.fit(RETURNS.assign(XOM=0.001))


def test_dependent_assets_are_named() -> None:
    with pytest.raises(po.InputError, match=r"among 'AAPL', 'copy'; leave it out"):
        NonlinearShrinkage().fit(RETURNS.assign(copy=2.0 * RETURNS["AAPL"]))
    rows = normal(20, 40)
    repeated = pd.concat([rows, rows.iloc[:10]], ignore_index=True)
    with pytest.raises(po.InputError, match="vary in 19 directions only, not in 29"):
        NonlinearShrinkage().fit(repeated)


def test_no_return_beyond_the_threshold() -> None:
    with pytest.raises(po.InputError, match="no return of 'A' reaches the threshold"):
        GerberCovariance(0.9).fit(pd.DataFrame({"A": [-1.0, 1.0]}))

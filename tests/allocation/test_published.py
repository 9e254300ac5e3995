"""Risk parity and diversification as papers print them, and properties that define them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import portfolioopt as po

LETTERS = "ABCDEFGH"


def covariance(matrix: object) -> pd.DataFrame:
    values = np.asarray(matrix, dtype=float)
    labels = list(LETTERS[: len(values)])
    return pd.DataFrame(values, labels, labels)


def from_correlation(volatilities: list[float], correlation: object) -> pd.DataFrame:
    s = np.asarray(volatilities)
    return covariance(np.outer(s, s) * np.asarray(correlation, dtype=float))


# Richard & Roncalli (2019), "Constrained risk budgeting portfolios", tables 1, 6 and 9
TABLE_1 = (
    covariance([[1.0, 0.75, 1.0, 1.5], [0.75, 2.25, 1.5, 2.25], [1.0, 1.5, 4.0, 4.5], [1.5, 2.25, 4.5, 9.0]]) / 100
)
TABLE_6 = from_correlation(
    [0.15, 0.20, 0.25, 0.30, 0.10],
    [
        [1.0, 0.1, 0.4, 0.5, 0.5],
        [0.1, 1.0, 0.7, 0.4, 0.4],
        [0.4, 0.7, 1.0, 0.8, 0.05],
        [0.5, 0.4, 0.8, 1.0, 0.1],
        [0.5, 0.4, 0.05, 0.1, 1.0],
    ],
)
TABLE_9 = from_correlation(
    [0.05, 0.05, 0.07, 0.10, 0.15, 0.15, 0.15, 0.18],
    [
        [1.0, 0.8, 0.6, -0.2, -0.1, -0.2, -0.2, -0.2],
        [0.8, 1.0, 0.4, -0.2, -0.2, -0.1, -0.2, -0.2],
        [0.6, 0.4, 1.0, 0.5, 0.3, 0.2, 0.2, 0.3],
        [-0.2, -0.2, 0.5, 1.0, 0.6, 0.6, 0.5, 0.6],
        [-0.1, -0.2, 0.3, 0.6, 1.0, 0.9, 0.7, 0.7],
        [-0.2, -0.1, 0.2, 0.6, 0.9, 1.0, 0.6, 0.7],
        [-0.2, -0.2, 0.2, 0.5, 0.7, 0.6, 1.0, 0.7],
        [-0.2, -0.2, 0.3, 0.6, 0.7, 0.7, 0.7, 1.0],
    ],
)
# Maillard, Roncalli & Teiletche (2010), "The properties of equally weighted risk contribution portfolios"
MRT_2 = from_correlation([0.1, 0.2, 0.3, 0.4], [[1, 0.8, 0, 0], [0.8, 1, 0, 0], [0, 0, 1, -0.5], [0, 0, -0.5, 1]])
# Bai, Scheinberg & Tutuncu (2016), "Least-squares approach to risk parity in portfolio selection"
BAI = covariance(
    [
        [94.868, 33.750, 12.325, -1.178, 8.778],
        [33.750, 445.642, 98.955, -7.901, 84.954],
        [12.325, 98.955, 117.265, 0.503, 45.184],
        [-1.178, -7.901, 0.503, 5.460, 1.057],
        [8.778, 84.954, 45.184, 1.057, 34.126],
    ]
)


@pytest.mark.parametrize(
    ("matrix", "budgets", "printed", "digits"),
    [
        (covariance(np.diag([0.01, 0.04, 0.09, 0.16])), None, [0.48, 0.24, 0.16, 0.12], 1e-9),
        (MRT_2, None, [0.384, 0.192, 0.243, 0.182], 6e-4),
        (BAI, None, [0.125, 0.047, 0.083, 0.613, 0.132], 6e-4),
        (TABLE_9, None, [0.268306, 0.286769, 0.114095, 0.097985, 0.056135, 0.059029, 0.06656, 0.051121], 1.5e-6),
        (TABLE_1, None, [0.4101, 0.2734, 0.1899, 0.1266], 6e-5),
        (TABLE_1, [0.3, 0.3, 0.195, 0.205], [0.4505, 0.3004, 0.1467, 0.1024], 6e-5),
    ],
    ids=["constant correlation", "Maillard 2", "Bai", "Richard 9", "Richard 1", "Richard 1, budgets"],
)
def test_risk_parity_as_printed(matrix: pd.DataFrame, budgets: list | None, printed: list, digits: float) -> None:
    shares = None if budgets is None else dict(zip(matrix.index, budgets, strict=True))
    result = po.allocation.risk_parity(matrix, shares)
    assert result.status.name == "optimal"
    np.testing.assert_allclose(result.weights, printed, atol=digits)
    contribution = result.weights * (matrix @ result.weights) / result.volatility**2
    wanted = np.full(len(matrix), 1.0 / len(matrix)) if budgets is None else np.asarray(budgets)
    np.testing.assert_allclose(contribution, wanted, rtol=1e-10)


def test_printed_volatilities() -> None:
    assert po.allocation.risk_parity(BAI).volatility == pytest.approx(3.0406150258, abs=5e-8)
    assert po.allocation.risk_parity(TABLE_9).volatility == pytest.approx(0.047776, abs=6e-7)


def test_bounded_risk_parity_as_printed() -> None:
    """Richard & Roncalli (2019), table 6."""
    labels = TABLE_6.index
    bounds = po.Bounds(
        pd.Series([0.20, 0.20, 0.05, 0.05, 0.25], labels), pd.Series([0.30, 0.30, 0.15, 0.15, 0.35], labels)
    )
    result = po.allocation.risk_parity(TABLE_6, constraints=[bounds])
    np.testing.assert_allclose(result.weights, [0.2289, 0.2000, 0.1169, 0.1042, 0.3500], atol=6e-5)
    assert result.weights.sum() == pytest.approx(1.0, abs=1e-10)
    inside = result.details["contributions"][["A", "C", "D"]]
    np.testing.assert_allclose(inside, inside.mean(), rtol=1e-6)


@pytest.mark.parametrize(
    ("matrix", "most", "printed", "digits"),
    [
        ([[0.04, 0.01], [0.01, 0.01]], 1.0, [1 / 3, 2 / 3], 1e-6),
        ([[0.0025, 0.0025], [0.0025, 0.01]], 1.0, [2 / 3, 1 / 3], 1e-6),
        ([[0.01, 0.009, 0.001], [0.009, 0.01, 0.001], [0.001, 0.001, 0.01]], 1.0, [0.257, 0.257, 0.486], 6e-4),
        (
            [
                [0.0225, 0.003, 0.015, 0.0225],
                [0.003, 0.04, 0.035, 0.024],
                [0.015, 0.035, 0.0625, 0.06],
                [0.0225, 0.024, 0.06, 0.09],
            ],
            0.4,
            [0.4, 0.4, 0.0, 0.2],
            1e-5,
        ),
    ],
    ids=["Choueifaty 2011", "Choueifaty 2011, leverage", "Choueifaty & Coignard 2008", "Roncalli 2010, capped"],
)
def test_most_diversified_as_printed(matrix: list, most: float, printed: list, digits: float) -> None:
    sigma = covariance(matrix)
    result = po.allocation.maximum_diversification(
        sigma, constraints=[po.Budget(1.0), po.Bounds(0.0, most)], tolerance=1e-10
    )
    np.testing.assert_allclose(result.weights, printed, atol=digits)
    volatilities = np.sqrt(np.diag(sigma))
    assert result.objective == pytest.approx(float(result.weights @ volatilities) / result.volatility, rel=1e-12)

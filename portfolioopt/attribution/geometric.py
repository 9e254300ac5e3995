r"""Geometric Brinson attribution: effects that multiply, over effects and over periods, without any linking.

With sector weights :math:`w, v` and returns :math:`r, s` of portfolio and benchmark, their returns :math:`R, B`, and
the notional return :math:`N = \sum_j w_j s_j` of the benchmark's sectors at the portfolio's weights,

.. math:: \text{allocation}_j = (w_j - v_j) \Big(\frac{1 + s_j}{1 + B} - 1\Big), \qquad
          \text{selection}_j = w_j \Big(\frac{1 + r_j}{1 + s_j} - 1\Big) \frac{1 + s_j}{1 + N} ,

which sum over sectors to :math:`A = \frac{1 + N}{1 + B} - 1` and :math:`S = \frac{1 + R}{1 + N} - 1`, so that
:math:`(1 + A)(1 + S) = \frac{1 + R}{1 + B}`. Each of the three compounds over periods by itself. What a sector
adds to a compounded effect, :math:`\sum_t (k_t / k)\, \text{allocation}_{tj}`, is weighed by Cariño's coefficients of
:math:`A_t`. Bacon (2008), "Practical Portfolio Performance Measurement and Attribution", chapter 5; Burnie, Knowles
and Teder (1998), "Arithmetic and geometric attribution", J. Performance Measurement 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from .brinson import read_sectors
from .linking import check_survival, compounded, linking_coefficients

EFFECTS = ("allocation", "selection")


@dataclass(frozen=True, eq=False)
class GeometricBrinson:
    """Attribution of a geometric excess return; see `geometric_brinson`.

    Parameters
    ----------
    effects
        Sectors x (allocation, selection) over all periods; columns sum to `allocation` and `selection`.
    by_period
        The same of single periods, with an index of (period, sector); columns of a period sum to its two effects.
    periods
        By period: ``portfolio``, ``benchmark`` and ``notional`` return, ``allocation``, ``selection`` and ``excess``.
        Each of the six compounds to that of all periods.
    allocation, selection, excess
        Of all periods: one plus excess is the product of one plus each.
    portfolio_return, benchmark_return
        Compounded.
    """

    effects: pd.DataFrame
    by_period: pd.DataFrame
    periods: pd.DataFrame
    allocation: float
    selection: float
    excess: float
    portfolio_return: float
    benchmark_return: float


def geometric_brinson(
    portfolio_weights: pd.DataFrame | pd.Series,
    benchmark_weights: pd.DataFrame | pd.Series,
    portfolio_returns: pd.DataFrame | pd.Series,
    benchmark_returns: pd.DataFrame | pd.Series,
) -> GeometricBrinson:
    """Split the geometric excess return by sector into allocation and selection, over one period or more.

    Interaction is part of the selection, as what was selected was held at the portfolio's weights.

    Parameters
    ----------
    portfolio_weights, benchmark_weights, portfolio_returns, benchmark_returns
        As for `brinson`.

    Returns
    -------
    GeometricBrinson
        Whose effects multiply to the ratio of the compounded returns, to rounding.

    Raises
    ------
    InputError
        As `brinson`, and where the benchmark's sectors at the portfolio's weights lose everything.
    """
    who = "geometric_brinson"
    read = read_sectors(portfolio_weights, benchmark_weights, portfolio_returns, benchmark_returns, who)
    dates, sectors, w, v, r, s = read
    portfolio, benchmark, notional = (w * r).sum(axis=1), (v * s).sum(axis=1), (w * s).sum(axis=1)
    check_survival(portfolio, f"{who}: the portfolio")
    check_survival(benchmark, f"{who}: the benchmark")
    check_survival(notional, f"{who}: the benchmark's sectors at the portfolio's weights")
    allocation = (w - v) * (s - benchmark[:, None]) / (1.0 + benchmark[:, None])
    selection = w * (r - s) / (1.0 + notional[:, None])
    effects = np.stack([allocation, selection], axis=2)
    # w and v may differ in their sums by what is let through as rounding
    totals = np.column_stack([(notional - benchmark) / (1.0 + benchmark), (portfolio - notional) / (1.0 + notional)])
    zero = np.zeros(len(dates))
    weight = np.column_stack([linking_coefficients(total, zero, "carino") for total in totals.T])
    whole, base = compounded(portfolio), compounded(benchmark)
    excess = (portfolio - benchmark) / (1.0 + benchmark)
    return GeometricBrinson(
        pd.DataFrame(np.einsum("te,tje->je", weight, effects), sectors, EFFECTS),
        pd.DataFrame(effects.reshape(-1, len(EFFECTS)), read.labels(), EFFECTS),
        pd.DataFrame(
            {
                "portfolio": portfolio,
                "benchmark": benchmark,
                "notional": notional,
                "allocation": totals[:, 0],
                "selection": totals[:, 1],
                "excess": excess,
            },
            dates,
        ),
        compounded(totals[:, 0]),
        compounded(totals[:, 1]),
        compounded(excess),
        whole,
        base,
    )

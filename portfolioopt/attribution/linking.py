r"""Coefficients that make the effects of several periods sum to what was earned over all of them.

Active returns of single periods do not add up to the difference of the compounded returns. With
:math:`P = \prod_t (1 + P_t) - 1` and B of the benchmark, each of these gives coefficients :math:`c_t` with
:math:`\sum_t c_t (P_t - B_t) = P - B`, exactly:

*   ``"carino"``: :math:`c_t = k_t / k`, :math:`k_t = (\log(1 + P_t) - \log(1 + B_t)) / (P_t - B_t)`, k of the whole.
    Cariño (1999), "Combining attribution effects over time", J. Performance Measurement 3.
*   ``"menchero"``: nearly the same for all periods, :math:`c_t = A + a\,(P_t - B_t)`, with
    :math:`A = \frac{(P - B)/T}{(1 + P)^{1/T} - (1 + B)^{1/T}}` and a the least change that makes the sum exact.
    Menchero (2000), "An optimized approach to linking attribution effects over time", J. Performance Measurement 5.
*   ``"grap"``: :math:`c_t = \prod_{s < t} (1 + P_s) \prod_{s > t} (1 + B_s)`: what was won is kept in the portfolio's
    past and goes on in the benchmark. GRAP (1997).
"""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import numpy as np

from portfolioopt.errors import InputError
from portfolioopt.labels import FloatArray

Linking: TypeAlias = Literal["carino", "menchero", "grap"]


def linking_coefficients(portfolio: FloatArray, benchmark: FloatArray, linking: Linking) -> FloatArray:
    """C (T,) for returns of both by period (T,), above -1."""
    check_linking(linking)
    whole_portfolio, whole_benchmark = compounded(portfolio), compounded(benchmark)
    if linking == "grap":
        earlier = np.concatenate([[1.0], np.cumprod(1.0 + portfolio)[:-1]])
        later = np.concatenate([np.cumprod((1.0 + benchmark)[::-1])[::-1][1:], [1.0]])
        return earlier * later
    if linking == "carino":
        return _logarithmic(portfolio, benchmark) / _logarithmic(whole_portfolio, whole_benchmark)
    active, count = portfolio - benchmark, len(portfolio)
    # the mean growth of both, and the difference of powers over the difference of their bases
    p, b = (1.0 + whole_portfolio) ** (1.0 / count), (1.0 + whole_benchmark) ** (1.0 / count)
    even = sum(p ** (count - 1 - j) * b**j for j in range(count)) / count
    squares = float(active @ active)
    if squares == 0.0:
        return np.full(count, even)
    return even + (whole_portfolio - whole_benchmark - even * active.sum()) / squares * active


def compounded(returns: FloatArray) -> float:
    """Return of all periods together."""
    return float(np.expm1(np.log1p(returns).sum()))


def check_linking(linking: object) -> None:
    """Refuse what is no method of linking."""
    if linking not in get_args(Linking):
        raise InputError(f"linking must be 'carino', 'menchero' or 'grap', was {linking!r}")


def check_survival(returns: FloatArray, what: str) -> None:
    """Refuse returns of -100 % or less: nothing is left to compound."""
    if (returns <= -1.0).any():
        raise InputError(f"{what} lost everything in a period; there is nothing to link after it")


def _logarithmic(p: FloatArray | float, b: FloatArray | float) -> FloatArray:
    """Difference of log growth over difference of return; its limit 1 / (1 + p) where both agree."""
    # log1p of the relative difference, so that close returns lose no digits
    ratio = (np.asarray(p, dtype=np.float64) - b) / (1.0 + np.asarray(b, dtype=np.float64))
    small = np.abs(ratio) < 1e-150
    quotient = np.where(small, 1.0, np.log1p(ratio) / np.where(small, 1.0, ratio))
    return quotient / (1.0 + np.asarray(b))

"""What is measured of a run: name, unit, formula, convention and source of every number of `performance`.

In the formulas r is the simple return of a period, f the risk-free rate of that period, x = r - f, b the benchmark's
return, a = r - b, T the number of periods, P the number of them in a year, V the compounded worth of one unit
(V_0 = 1), d = 1 - V / (highest V so far), c the costs and u the traded value of a period as fractions of NAV. Means and
sums run over all T periods; sd divides by T - 1. A ratio whose denominator is zero is NaN, never infinite.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

import pandas as pd

Unit: TypeAlias = Literal[
    "fraction", "fraction per year", "fraction per period", "fraction of traded value", "ratio", "ratio per year",
    "probability", "share of periods", "periods", "years", "NAV per year", "number",
]  # fmt: skip
Better: TypeAlias = Literal["higher", "lower", "neither"]


@dataclass(frozen=True)
class Metric:
    """One number that `performance` gives.

    Parameters
    ----------
    name
        Its name in the answer.
    unit
        What it is counted in; nothing is in per cent.
    formula
        In the letters of this module's first lines.
    convention
        The choice made where the field makes several, and when the number is NaN.
    source
        Where it comes from.
    better
        Which way is good.
    needs
        The argument without which it is not in the answer; empty where it always is.
    """

    name: str
    unit: Unit
    formula: str
    convention: str
    source: str
    better: Better
    needs: Literal["", "benchmark", "turnover", "costs"] = ""


_TABLE: Final = (
    Metric("periods", "periods", "T", "rows of the returns", "", "neither"),
    Metric("years", "years", "T / P", "by the number of periods, not by the calendar", "", "neither"),
    Metric("total_return", "fraction", "V_T - 1", "compounded", "", "higher"),
    Metric("cagr", "fraction per year", "V_T ** (P / T) - 1", "compound annual growth rate; -1 after a total loss", "",
           "higher"),
    Metric("volatility", "fraction per year", "sqrt(P) sd(r)", "returns, not excess returns; NaN for one period", "",
           "lower"),
    Metric("downside_deviation", "fraction per year", "sqrt(P mean(min(x, 0)^2))",
           "target: the risk-free rate; all periods count, those above the target as zero", "Sortino & Price (1994)",
           "lower"),
    Metric("sharpe", "ratio per year", "sqrt(P) mean(x) / sd(x)", "arithmetic mean; NaN without variation",
           "Sharpe (1994)", "higher"),
    Metric("sharpe_standard_error", "ratio per year",
           "sqrt(P (1 - g3 s + (g4 - 1) s^2 / 4) / (T - 1)), s = mean(x) / sd(x)",
           "independent periods of any distribution with skewness g3 and kurtosis g4 (3 for the normal); Lo's (2002) "
           "1 + s^2 / 2 where it is normal; NaN below 3 periods", "Mertens (2002)", "lower"),
    Metric("sharpe_standard_error_hac", "ratio per year", "sqrt(P LRV(z - s (z^2 - 1) / 2) / (T - 1))",
           "serial dependence allowed: long-run variance by Bartlett weights over floor(4 (T / 100)^(2/9)) lags; "
           "z = (x - mean(x)) / sd(x), dividing by T; without lags it is the line above", "Lo (2002)", "lower"),
    Metric("probabilistic_sharpe", "probability", "Phi(sharpe / sharpe_standard_error)",
           "that the true Sharpe ratio is positive", "Bailey & López de Prado (2012)", "higher"),
    Metric("sortino", "ratio per year", "P mean(x) / downside_deviation", "target: the risk-free rate",
           "Sortino & Price (1994)", "higher"),
    Metric("calmar", "ratio", "cagr / max_drawdown", "whole history, not three years", "Young (1991)", "higher"),
    Metric("omega", "ratio", "sum max(x, 0) / sum max(-x, 0)", "threshold: the risk-free rate",
           "Keating & Shadwick (2002)", "higher"),
    Metric("max_drawdown", "fraction", "max d", "positive; the worth before the first period is a peak too", "",
           "lower"),
    Metric("average_drawdown", "fraction", "mean d", "over all periods, zero at a peak (the pain index), not over "
           "episodes", "Becker (2006)", "lower"),
    Metric("longest_drawdown", "periods", "longest run of d > 0", "one that has not ended counts", "", "lower"),
    Metric("ulcer_index", "fraction", "sqrt(mean d^2)", "divides by T", "Martin & McCann (1989)", "lower"),
    Metric("conditional_drawdown_at_risk", "fraction", "mean of the worst 1 - beta of d",
           "exact fractional tail, like cvar", "Chekhlov, Uryasev & Zabarankin (2005)", "lower"),
    Metric("var", "fraction per period", "beta-quantile of -r", "historical, the loss at which the tail begins: no "
           "interpolation; loss positive", "", "lower"),
    Metric("cvar", "fraction per period", "mean of the worst 1 - beta of -r",
           "exact: the scenario at the edge of the tail counts with the fraction that belongs to it",
           "Rockafellar & Uryasev (2002)", "lower"),
    Metric("skewness", "number", "mean((r - mean(r))^3) / (mean((r - mean(r))^2))^(3/2)", "no correction for small T",
           "", "higher"),
    Metric("excess_kurtosis", "number", "mean((r - mean(r))^4) / (mean((r - mean(r))^2))^2 - 3",
           "0 for the normal; no correction for small T", "", "lower"),
    Metric("best_period", "fraction per period", "max r", "", "", "higher"),
    Metric("worst_period", "fraction per period", "min r", "", "", "higher"),
    Metric("hit_rate", "share of periods", "share of r > 0", "of all periods; zeros are no hits", "", "higher"),
    Metric("gain_to_pain", "ratio", "sum r / sum max(-r, 0)", "per period given (Schwager's own is monthly)",
           "Schwager (2012)", "higher"),
    Metric("profit_factor", "ratio", "sum max(r, 0) / sum max(-r, 0)", "of returns, not of money", "", "higher"),
    Metric("payoff_ratio", "ratio", "mean of r > 0 / mean of -r where r < 0", "zeros count on neither side", "",
           "higher"),
    Metric("tail_ratio", "ratio", "|95 % quantile of r| / |5 % quantile of r|", "linear interpolation", "", "higher"),
    Metric("turnover_l1", "NAV per year", "P mean(u)", "purchases plus sales", "", "lower", "turnover"),
    Metric("turnover_one_way", "NAV per year", "P mean(u) / 2", "half of turnover_l1", "", "lower", "turnover"),
    Metric("cost_per_year", "fraction per year", "P mean(c)", "arithmetic", "", "lower", "costs"),
    Metric("cost_drag", "fraction per year", "cagr of (r + c) - cagr of r", "what costs take off the growth rate", "",
           "lower", "costs"),
    Metric("breakeven_cost", "fraction of traded value", "mean(x + c) / mean(u)",
           "what a unit traded may cost until the mean excess return is zero; c = 0 where no costs are given; negative "
           "where the run loses before costs", "", "higher", "turnover"),
    Metric("alpha", "fraction per year", "P (mean(x) - beta_to_benchmark mean(b - f))", "arithmetic, over the "
           "risk-free rate", "Jensen (1968)", "higher", "benchmark"),
    Metric("beta_to_benchmark", "number", "cov(x, b - f) / var(b - f)", "least squares with an intercept; NaN for a "
           "benchmark without variation", "", "neither", "benchmark"),
    Metric("correlation", "number", "corr(x, b - f)", "NaN where either does not vary", "", "neither", "benchmark"),
    Metric("tracking_error", "fraction per year", "sqrt(P) sd(a)", "around the mean of a", "", "lower", "benchmark"),
    Metric("information_ratio", "ratio per year", "P mean(a) / tracking_error", "arithmetic; annual", "Grinold (1989)",
           "higher", "benchmark"),
    Metric("up_capture", "ratio", "G(r | b > 0) / G(b | b > 0)", "G: geometric mean return per period, not annualised, "
           "over the benchmark's positive periods; NaN without any", "Morningstar", "higher", "benchmark"),
    Metric("down_capture", "ratio", "G(r | b < 0) / G(b | b < 0)", "likewise over its negative periods; above 1 lost "
           "more than it", "Morningstar", "lower", "benchmark"),
    Metric("active_hit_rate", "share of periods", "share of r > b", "of all periods", "", "higher", "benchmark"),
    Metric("excess_cagr", "fraction per year", "cagr of r - cagr of b", "geometric", "", "higher", "benchmark"),
)  # fmt: skip

METRICS: Final[Mapping[str, Metric]] = MappingProxyType({metric.name: metric for metric in _TABLE})
"""Every number of `performance` by name, in the order of its answer."""


def metric_table() -> pd.DataFrame:
    """`METRICS` as a frame: by name, with unit, formula, convention, source, better, needs."""
    columns = [field.name for field in fields(Metric)]
    rows = [[getattr(metric, column) for column in columns] for metric in _TABLE]
    return pd.DataFrame(rows, columns=columns).set_index("name")

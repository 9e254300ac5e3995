r"""Scenarios from a copula: how assets hang together from ranks, how each one varies from a margin of its own.

With margins :math:`F_i` and correlations R, a scenario is

.. math:: r_i = F_i^{-1}(G(x_i)), \qquad x = \sqrt{\nu / \chi^2_\nu}\, R^{1/2} z, \quad z \sim \mathcal N(0, I),

G being the distribution function of :math:`x_i`: Student t with :math:`\nu` degrees of freedom, or normal without the
:math:`\chi^2`. McNeil, Frey & Embrechts (2015), "Quantitative Risk Management", chapter 7.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd
from scipy import special

from portfolioopt.errors import InputError
from portfolioopt.estimate.checks import checked_returns, checked_variation
from portfolioopt.estimate.factored import nearest_covariance
from portfolioopt.labels import FloatArray

from .distributions import checked_freedom
from .margins import MARGINS, Margin, Margins, fitted_margin
from .scenario_set import ScenarioSet, whole_number
from .source import CELLS

Family: TypeAlias = Literal["gaussian", "t"]
Dependence: TypeAlias = Literal["kendall", "spearman"]

_ROWS = 30  # fewest rows of history that ranks are taken from
_FREEDOM = (2.01, 200.0)  # where degrees of freedom are searched for


@dataclass(frozen=True)
class Copula:
    """A fitted copula with its margins; :func:`fit_copula` makes it."""

    correlation: pd.DataFrame
    """R (N x N)."""
    freedom: float | None
    """Degrees of freedom; None for the Gaussian copula."""
    margins: tuple[Margin, ...]
    """Distribution of each asset."""

    def tail_dependence(self) -> pd.DataFrame:
        r"""Probability in the limit that one asset is in its tail when another is, for each pair (N x N).

        :math:`2\, t_{\nu+1}\bigl(-\sqrt{(\nu + 1) (1 - \rho) / (1 + \rho)}\bigr)`, the same in both tails; zero for the
        Gaussian copula, but for assets of the same ranks.
        """
        correlation = self.correlation.to_numpy()
        if self.freedom is None:
            values = (correlation >= 1.0 - 1e-12).astype(np.float64)
        else:
            with np.errstate(divide="ignore"):  # a correlation of -1 has no dependence in the tail
                odds = (1.0 - correlation) / (1.0 + correlation)
            values = 2.0 * special.stdtr(self.freedom + 1.0, -np.sqrt((self.freedom + 1.0) * np.maximum(odds, 0.0)))
        return pd.DataFrame(values, self.correlation.index, self.correlation.columns)

    def scenarios(self, n_scenarios: int, *, seed: int) -> ScenarioSet:
        """Draw scenarios (S x N), equally likely, in streams by chunk: more of them leave the first as they are."""
        count, assets = whole_number(n_scenarios, "n_scenarios", least=2), self.correlation.index
        values, vectors = np.linalg.eigh(self.correlation.to_numpy())
        root = np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T
        whole_number(seed, "seed", least=0)
        returns = np.empty((count, len(assets)))
        rows = max(1, CELLS // len(assets))
        for chunk, first in enumerate(range(0, count, rows)):
            stream = np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed, spawn_key=(chunk,))))
            x = stream.standard_normal((rows, len(assets))) @ root
            if self.freedom is not None:
                x *= np.sqrt(self.freedom / stream.chisquare(self.freedom, rows))[:, None]
            part = returns[first : first + rows]
            uniform = special.ndtr(x) if self.freedom is None else special.stdtr(self.freedom, x)
            for i, margin in enumerate(self.margins):
                part[:, i] = margin.quantile(uniform[: len(part), i])
        index = pd.RangeIndex(count, name="scenario")
        return ScenarioSet(pd.DataFrame(returns, index=index, columns=assets, copy=False), horizon="1 period")


def fit_copula(
    returns: pd.DataFrame,
    *,
    family: Family = "t",
    freedom: float | None = None,
    margins: Margins = "smoothed",
    dependence: Dependence = "kendall",
    repair: bool = False,
) -> Copula:
    r"""Fit a Gaussian or Student t copula and the margins to a history of returns.

    Correlations come from ranks: from Kendall's :math:`\tau_b` by :math:`\rho = \sin(\pi \tau / 2)`, which holds for
    both families, or from Spearman's :math:`\rho_S` by :math:`\rho = 2 \sin(\pi \rho_S / 6)`, which holds for the
    Gaussian one. Degrees of freedom maximise the likelihood of the ranks divided by T + 1, given the correlations
    (Genest, Ghoudi & Rivest 1995, Biometrika 82).

    Parameters
    ----------
    returns
        Simple returns per period as fractions (T x N), at least 30 rows.
    family
        ``"gaussian"`` or ``"t"``.
    freedom
        Degrees of freedom of the t copula, above 2; fitted where None.
    margins
        Distribution of each asset: ``"empirical"`` draws returns that occurred; ``"smoothed"`` interpolates between
        them; ``"normal"`` and ``"student_t"`` are fitted by maximum likelihood; ``"pareto"`` is smoothed but for the
        tails, a tenth of the rows each, which are generalised Pareto ones (McNeil & Frey 2000).
    dependence
        ``"kendall"``, or for the Gaussian family ``"spearman"``.
    repair
        Whether correlations by pair that are none together are brought to the nearest matrix that is one and scaled to
        a diagonal of one. They are refused otherwise.

    Raises
    ------
    InputError
        For returns that are missing, too few or constant, settings that do not exist, and correlations with a negative
        eigenvalue.
    """
    values = checked_returns(returns, "copula", rows=_ROWS)
    checked_variation(values, returns.columns, "copula")
    if family not in ("gaussian", "t"):
        raise InputError(f"family must be 'gaussian' or 't', was {family!r}")
    if margins not in MARGINS:
        raise InputError(f"margins must be one of {', '.join(map(repr, MARGINS))}, was {margins!r}")
    if dependence not in ("kendall", "spearman") or (dependence == "spearman" and family == "t"):
        raise InputError(f"dependence must be 'kendall', or for family='gaussian' 'spearman', was {dependence!r}")
    if freedom is not None and family == "gaussian":
        raise InputError("a Gaussian copula has no degrees of freedom; leave out freedom=, or take family='t'")
    if freedom is not None:
        freedom = checked_freedom(freedom, "freedom")
    from scipy import stats  # costly to import

    ranks = stats.rankdata(values, axis=0)
    if dependence == "kendall":
        correlation = np.sin(0.5 * np.pi * kendall(values))
    else:
        correlation = 2.0 * np.sin(np.pi / 6.0 * np.corrcoef(ranks, rowvar=False).reshape(values.shape[1], -1))
    frame = _positive(pd.DataFrame(correlation, returns.columns, returns.columns), repair)
    if family == "t" and freedom is None:
        freedom = _likeliest_freedom(ranks / (len(values) + 1.0), frame.to_numpy())
    return Copula(frame, freedom, tuple(fitted_margin(column, margins) for column in values.T))


def copula(
    returns: pd.DataFrame,
    n_scenarios: int,
    *,
    seed: int,
    family: Family = "t",
    freedom: float | None = None,
    margins: Margins = "smoothed",
    dependence: Dependence = "kendall",
    repair: bool = False,
) -> ScenarioSet:
    """Fit a copula to a history and draw from it: :func:`fit_copula`, then :meth:`Copula.scenarios`.

    Parameters
    ----------
    returns, family, freedom, margins, dependence, repair
        As for :func:`fit_copula`.
    n_scenarios
        Number S of scenarios, at least 2.
    seed
        Non-negative whole number.

    Returns
    -------
    ScenarioSet
        S x N, equally likely, scenarios numbered from 0; the horizon is one period of `returns`.
    """
    fitted = fit_copula(returns, family=family, freedom=freedom, margins=margins, dependence=dependence, repair=repair)
    return fitted.scenarios(n_scenarios, seed=seed)


def kendall(values: FloatArray) -> FloatArray:
    r"""Kendall's :math:`\tau_b` of every pair of columns of (T, N).

    The correlation (about zero) of the signs of all T (T - 1) / 2 differences, summed by one product for each lag.
    """
    n = values.shape[1]
    total = np.zeros((n, n))
    for lag in range(1, len(values)):
        signs = np.sign(values[lag:] - values[:-lag]).astype(np.float32)  # sums are whole numbers, and exact
        total += signs.T @ signs
    untied = np.sqrt(np.diag(total))
    return total / np.outer(untied, untied)


def _positive(correlation: pd.DataFrame, repair: bool) -> pd.DataFrame:
    """The correlations as they are where they can be, and brought to the nearest such ones if that is wanted."""
    smallest = float(np.linalg.eigvalsh(correlation.to_numpy())[0])
    if smallest >= -1e-12:
        return correlation
    if not repair:
        raise InputError(
            f"the rank correlations by pair are no correlation matrix together (smallest eigenvalue {smallest:.3g}): "
            "pass repair=True for the nearest one, a longer history, or fewer assets"
        )
    nearest = nearest_covariance(correlation)
    size = np.sqrt(np.diag(nearest.to_numpy()))
    return pd.DataFrame(nearest.to_numpy() / np.outer(size, size), nearest.index, nearest.columns)


def _likeliest_freedom(uniform: FloatArray, correlation: FloatArray) -> float:
    """Degrees of freedom of the t copula that ranks (T, N) in (0, 1) make most likely."""
    from scipy.optimize import minimize_scalar  # costly to import

    n = len(correlation)
    values, vectors = np.linalg.eigh(correlation)
    values = np.maximum(values, 1e-12 * values[-1])

    def cost(log_freedom: float) -> float:
        freedom = float(np.exp(log_freedom))
        x = special.stdtrit(freedom, uniform)
        form = ((x @ vectors) ** 2 / values).sum(axis=1)
        joint = -0.5 * (freedom + n) * np.log1p(form / freedom)
        alone = -0.5 * (freedom + 1.0) * np.log1p(x**2 / freedom).sum(axis=1)
        constant = (
            special.gammaln(0.5 * (freedom + n))
            + (n - 1) * special.gammaln(0.5 * freedom)
            - n * special.gammaln(0.5 * (freedom + 1.0))
        )
        return -float(constant + (joint - alone).mean())

    found = minimize_scalar(cost, bounds=tuple(np.log(_FREEDOM)), method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x))

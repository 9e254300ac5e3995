r"""What trades cost against what a model said: the regression of realised on forecast cost.

.. math:: y_k = \theta\, x_k + e_k, \qquad y_k = \frac{q_k (p_k - a_k)}{|q_k|\, a_k}, \qquad
          \operatorname{sd}(e_k) \propto \sigma_k,

where an order of :math:`q_k` units (sells negative) that found the market at :math:`a_k` was done at :math:`p_k` on
average, :math:`x_k` is the cost a model forecasts for it as a fraction of :math:`|q_k| a_k`, and :math:`\sigma_k` the
daily volatility: prices move while an order is worked, the more the more volatile they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.labels import FloatArray, checked_number, numbers, some

from .model import CostModel
from .quotes import read_quantities


class Outcomes(NamedTuple):
    """Executions, realised against forecast (R,)."""

    assets: pd.Index
    realised: FloatArray  # y, fraction of the amount at arrival
    forecast: FloatArray  # x, the same of the model
    volatility: FloatArray  # daily


def outcomes(executions: pd.DataFrame, model: CostModel, who: str) -> Outcomes:
    """Realised and forecast costs of executions, all checked: the columns of `calibrate`."""
    if not isinstance(model, CostModel):
        raise InputError(f"{who}: model must be a cost model, was {type(model).__name__}")
    quotes, quantity = read_quantities(executions, "executions", who)
    if len(quotes) == 0:
        raise InputError(f"{who}: executions has no rows")
    if (quantity == 0.0).any():
        raise InputError(f"{who}: nothing was traded in {some(quotes.assets[quantity == 0.0])}; drop those rows")
    price, volatility = quotes.column("price", who), quotes.column("volatility", who)
    if "arrival" not in executions.columns:
        raise InputError(f"{who}: executions has no column 'arrival' (the price when the order went out)")
    arrival = numbers(executions["arrival"], "the arrival price in executions")
    bad = ~(np.isfinite(arrival) & (arrival > 0.0))
    if bad.any():
        raise InputError(f"{who}: the arrival price is missing or not positive for {some(quotes.assets[bad])}")
    if (volatility == 0.0).any():
        raise InputError(
            f"{who}: the volatility is zero for {some(quotes.assets[volatility == 0.0])}; give the daily one"
        )
    far = np.abs(price / arrival - 1.0) > 0.5
    if far.any():
        raise InputError(
            f"{who}: the price is more than half away from the arrival price for {some(quotes.assets[far])}; a wrong "
            "price, or a split between the two?"
        )
    charged = model.charges(executions.assign(price=arrival)).sum(axis=1).to_numpy()
    forecast = charged / (np.abs(quantity) * arrival)
    if not (forecast > 0.0).all():
        raise InputError(f"{who}: the model charges nothing for {some(quotes.assets[forecast <= 0.0])}")
    return Outcomes(quotes.assets, np.sign(quantity) * (price / arrival - 1.0), forecast, volatility)


@dataclass(frozen=True, eq=False)
class Calibration:
    """A fitted multiple of a model's forecast, and how sure it is.

    Parameters
    ----------
    table
        A row for ``coefficient`` (and ``constant``, a fraction of the amount, where one was fitted): ``estimate``,
        ``standard_error``, ``lower`` and ``upper`` ends of the confidence interval.
    confidence
        Of that interval.
    r_squared
        Part of the weighted sum of squares that is explained; about zero without a constant, about the mean with one.
    executions
        How many there were.
    """

    table: pd.DataFrame
    confidence: float
    r_squared: float
    executions: int

    @property
    def coefficient(self) -> float:
        """By what the forecast is to be multiplied."""
        return float(self.table["estimate"]["coefficient"])

    @property
    def standard_error(self) -> float:
        """Of the coefficient."""
        return float(self.table["standard_error"]["coefficient"])

    @property
    def interval(self) -> tuple[float, float]:
        """Confidence interval of the coefficient."""
        return float(self.table["lower"]["coefficient"]), float(self.table["upper"]["coefficient"])


def calibrate(
    executions: pd.DataFrame,
    model: CostModel,
    *,
    constant: bool = False,
    robust: bool = True,
    confidence: float = 0.95,
) -> Calibration:
    r"""By what to multiply a model's forecast, by least squares weighted with :math:`1/\sigma_k^2`.

    With `model` a ``SquareRootImpact(1.0)`` the coefficient is the Y of the square-root law.

    Parameters
    ----------
    executions
        One row per finished order: asset, ``quantity`` (units, sells negative), ``price`` (average price paid),
        ``arrival`` (price when the order went out), ``volatility`` (daily, a fraction), and what the model looks at.
    model
        What is forecast; it should hold what moves the price (spread, impact), not commissions.
    constant
        Whether to fit a cost that does not depend on size as well, a fraction of the amount.
    robust
        Standard errors that allow for further heteroskedasticity (HC1, MacKinnon & White, 1985); the classical ones
        otherwise.
    confidence
        Of the intervals, which use Student's t.

    Raises
    ------
    InputError
        For executions that are missing, impossible, or too few, and for forecasts that are all alike where a constant
        is fitted.
    """
    level = checked_number(confidence, "calibrate: confidence", above=0.0, below=1.0)
    seen = outcomes(executions, model, "calibrate")
    names = ["coefficient", "constant"] if constant else ["coefficient"]
    count, unknowns = len(seen.assets), len(names)
    if count < unknowns + 2:
        raise InputError(f"calibrate needs at least {unknowns + 2} executions, was given {count}")
    columns = [seen.forecast, np.ones(count)] if constant else [seen.forecast]
    x, y = np.column_stack(columns) / seen.volatility[:, None], seen.realised / seen.volatility
    length = np.linalg.norm(x, axis=0)
    if np.linalg.cond(x / length) > 1e8:
        raise InputError("calibrate: the forecasts are all alike, so that a constant cannot be told from them; drop it")
    inverse = np.linalg.inv(x.T @ x / np.outer(length, length)) / np.outer(length, length)
    estimate = inverse @ (x.T @ y)
    residual = y - x @ estimate
    free = count - unknowns
    if robust:
        scored = x * residual[:, None]
        covariance = inverse @ (scored.T @ scored) @ inverse * count / free
    else:
        covariance = inverse * (residual @ residual) / free
    error = np.sqrt(np.diag(covariance))

    from scipy import stats

    reach = float(stats.t.ppf(0.5 + 0.5 * level, free)) * error
    table = pd.DataFrame(
        {"estimate": estimate, "standard_error": error, "lower": estimate - reach, "upper": estimate + reach},
        index=names,
    )
    weight = 1.0 / seen.volatility**2
    centre = float(weight @ seen.realised / weight.sum()) if constant else 0.0
    total = float(weight @ (seen.realised - centre) ** 2)
    explained = 1.0 - float(residual @ residual) / total if total > 0.0 else np.nan
    return Calibration(table, level, explained, count)

"""Which scenarios a measure of risk comes from."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.labels import FloatArray, some
from portfolioopt.scenarios import ScenarioSet

from .contributions import Weights
from .euler import RiskMeasure, name_of, scenarios_of, shares, split


def scenario_contributions(
    scenarios: ScenarioSet, weights: Weights, measure: RiskMeasure, *, by_asset: bool = False
) -> pd.DataFrame:
    r"""Split a measure of one portfolio by scenario, :math:`q_s L_s`, largest contribution first.

    For CVaR these are the tail scenarios with their probabilities within the tail; for volatility, all; for drawdowns,
    the periods between peak and trough.

    Parameters
    ----------
    scenarios, weights
        As for `risk_contributions`, of one portfolio.
    measure
        One that looks at scenarios.
    by_asset
        A column for every asset as well: its part :math:`-q_s R_{si} w_i` of the contribution of the scenario.

    Returns
    -------
    DataFrame, one row per scenario with part in the measure
        Index: label of the scenario. ``loss`` :math:`L_s`, ``density`` :math:`q_s`, ``contribution``, ``share`` of
        their sum, which is the measure; and the assets, which sum to ``contribution``.
    """
    found = split(measure, scenarios, scenarios.weights_array(weights)[None])
    if found.density is None or found.losses is None:
        raise InputError(f"{name_of(measure)} comes from a covariance here, and no scenario has a part in it")
    chosen = scenarios_of(measure, scenarios)
    density, losses = found.density[0], found.losses[0]
    contribution = density * losses
    live = np.flatnonzero(density)
    order = live[np.argsort(-contribution[live], kind="stable")]
    columns: dict[Hashable, FloatArray] = {
        "loss": losses[order],
        "density": density[order],
        "contribution": contribution[order],
        "share": shares(contribution[None])[0, order],
    }
    frame = pd.DataFrame(columns, index=chosen.index[order])
    if not by_asset:
        return frame
    taken = scenarios.assets.intersection(frame.columns)
    if len(taken):
        raise InputError(f"by_asset: the assets {some(taken)} have names of columns of the result; rename them")
    own = -density[order, None] * chosen.source.rows(order) * found.weights[0]
    return pd.concat([frame, pd.DataFrame(own, frame.index, scenarios.assets)], axis=1)

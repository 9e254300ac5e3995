r"""Risk contributions of assets, by Euler's theorem: exactly additive, for every measure of `euler`.

The measures grow in proportion to the weights, so that

.. math:: \rho(w) = \sum_i w_i \frac{\partial \rho}{\partial w_i}, \qquad
          \frac{\partial\, \mathrm{CVaR}_\beta}{\partial w_i} = -\sum_s q_s R_{si}, \qquad
          \frac{\partial \sigma}{\partial w_i} = \frac{(\Sigma w)_i}{\sigma},

with q the probabilities within the tail (S,) and :math:`\Sigma` the covariance under the scenario
probabilities. Tasche (1999), "Risk contributions and performance measurement"; Rockafellar & Uryasev (2002),
J. Banking & Finance 26, for tails that hold fractions of scenarios.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from portfolioopt.errors import InputError, unknown_names
from portfolioopt.labels import FloatArray, align, some
from portfolioopt.problem import CVaR, Volatility
from portfolioopt.scenarios import ScenarioSet, tail
from portfolioopt.scenarios.tail import check_beta

from .euler import RiskMeasure, name_of, parts, scenarios_of, shares, split, volatility_density

Weights: TypeAlias = pd.Series | Mapping[str, float]

_COLUMNS = ("measure", "asset", "factor", "weight", "exposure", "marginal", "contribution", "share", "date")
_TOLERANCE = 1e-6  # relative: how far a tail distribution from a solver may be off


def risk_contributions(
    scenarios: ScenarioSet,
    weights: Weights | pd.DataFrame,
    *,
    betas: Iterable[float] = (0.95,),
    tail_weights: Mapping[float, npt.ArrayLike] | None = None,
    measures: Iterable[RiskMeasure] = (),
) -> pd.DataFrame:
    r"""Split measures of risk into one contribution per asset, :math:`w_i\, \partial\rho / \partial w_i`.

    CVaR at each of the levels comes first, then volatility, then `measures`.

    Where several scenarios tie at the value-at-risk, CVaR has a kink and more than one derivative is valid.
    The ties then share the rest of the tail in proportion to their probabilities, or as `tail_weights` says.
    An optimal portfolio usually sits on such a kink, and only the optimal dual tail gives marginal risks that
    balance there.

    Parameters
    ----------
    scenarios
        Returns of N assets in S scenarios, with probabilities.
    weights
        Weight of every asset as a fraction of NAV (a Series or mapping); any sign and total. A frame, assets x
        portfolios, for many portfolios at once.
    betas
        Confidence levels of CVaR, each in (0, 1); none for volatility alone. Of no effect where the scenarios are known
        by mean and covariance alone: there is only volatility then.
    tail_weights
        For any of the levels, the tail distribution q (S,) to use: ``result.tail_weights`` of a solved
        problem. It must be non-negative, sum to one, stay below :math:`p_s / (1 - \beta)` and attain the CVaR
        of `weights`, each to 1e-6 relative. Levels not named use the tail itself. For one portfolio only.
    measures
        Further ones: `VaR` of this room, and ``CVaR``, ``Volatility``, ``TrackingError``, ``MaxDrawdown``,
        ``ConditionalDrawdown`` of the problem language, with scenarios, covariance, benchmark or path of their own.
        What is relative to a benchmark is split by active weight.

    Returns
    -------
    DataFrame, one row per measure, portfolio and asset
        ``measure``
            "CVaR 95%" for each level, in the given order, then "volatility"; loss per scenario horizon. Then "VaR 95%",
            "active CVaR 95%", "tracking error", "maximum drawdown", "conditional drawdown 95%", as asked for.
        ``portfolio``
            Column of `weights`, named like them; only there where `weights` is a frame.
        ``asset``, ``weight``
            Label and weight, in the order of the scenarios.
        ``marginal``
            Change of the measure per unit of weight.
        ``contribution``
            Weight times marginal, as a fraction of NAV. Negative for a hedge. The contributions sum to the
            measure, to rounding; with `tail_weights`, to :math:`q'L`, which is the CVaR to 1e-6.
        ``share``
            Contribution over the sum of contributions. Zero for all assets where that sum is zero: there is
            no risk to share out. Where the sum is negative (a CVaR that is a gain), a positive share is a
            gain.

        A portfolio without volatility has marginal volatilities of zero, one of the valid derivatives there.

    Raises
    ------
    InputError
        For weights that do not match the assets, levels outside (0, 1) or given twice, measures of no such kind or with
        the same name, and tail weights that belong to no level or are not an optimal tail distribution of these
        weights.
    """
    values, portfolios = portfolio_arrays(scenarios.assets, weights)
    levels = _checked_levels(betas) if scenarios.form is None else {}
    further = _checked_measures(measures, [*levels.values(), "volatility"])
    given = dict(tail_weights or {})
    unknown = [beta for beta in given if beta not in levels]
    if unknown:
        raise unknown_names("confidence level in tail_weights", unknown, levels)
    if given and portfolios is not None:
        raise InputError("tail_weights belong to one portfolio; pass its weights as a Series, not a frame")

    chosen: list[tuple[str, RiskMeasure]] = [(name, CVaR(beta)) for beta, name in levels.items()]
    chosen += [("volatility", Volatility()), *further.items()]
    if portfolios is None:
        frames = _one(scenarios, values[0], chosen, given)
    else:
        frames = [_many(scenarios, values, name, measure, portfolios) for name, measure in chosen]
    return pd.concat(frames, ignore_index=True)


def contributions_by_date(
    scenarios: Mapping[Any, ScenarioSet] | Callable[[Any], ScenarioSet],
    weights: pd.DataFrame,
    *,
    betas: Iterable[float] = (0.95,),
    measures: Iterable[RiskMeasure] = (),
) -> pd.DataFrame:
    """Risk contributions of a history of portfolios, each under the scenarios of its own date.

    Parameters
    ----------
    scenarios
        The set of each date, as a mapping or a function: ``lambda date: ScenarioSet(returns.loc[:date].tail(750))``
        looks at the 750 days before, ``lambda date: ScenarioSet.from_moments(None, rolling.at(date))`` at a rolling
        covariance. Where all dates share one set, `risk_contributions` of ``weights.T`` is a pass over it.
    weights
        Fractions of NAV, dates x assets; the dates distinct.
    betas, measures
        As for `risk_contributions`.

    Returns
    -------
    DataFrame
        As from `risk_contributions`, with ``date`` in front.

    Raises
    ------
    InputError
        For weights that are no such frame, dates without scenarios, and what `risk_contributions` refuses.
    """
    if not isinstance(weights, pd.DataFrame) or weights.index.empty:
        raise InputError("contributions_by_date: weights must be a frame of dates x assets, with one date or more")
    if weights.index.has_duplicates:
        repeated = weights.index[weights.index.duplicated()].unique()
        raise InputError(f"contributions_by_date: weights has two rows for {some(repeated)}; keep one for each")
    if isinstance(scenarios, Mapping):
        absent = weights.index[[date not in scenarios for date in weights.index]]
        if len(absent):
            raise InputError(f"contributions_by_date: there are no scenarios for {some(absent)}")
    elif not callable(scenarios):
        raise InputError("contributions_by_date: scenarios must be a mapping from date to ScenarioSet, or a function")
    levels, asked = tuple(betas), tuple(measures)
    frames = []
    for date, row in weights.iterrows():
        own = scenarios[date] if isinstance(scenarios, Mapping) else scenarios(date)
        if not isinstance(own, ScenarioSet):
            raise InputError(f"contributions_by_date: the scenarios of {date} are of type {type(own).__name__}")
        frame = risk_contributions(own, row, betas=levels, measures=asked)
        frame.insert(0, "date", date)  # type: ignore[arg-type]
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def group_contributions(contributions: pd.DataFrame, labels: pd.Series | Mapping[str, str]) -> pd.DataFrame:
    """Sum weights, contributions and shares over the assets that carry the same label (a sector, a country).

    Parameters
    ----------
    contributions
        What :func:`risk_contributions` returned.
    labels
        Label of every asset in `contributions`, and of no other.

    Returns
    -------
    DataFrame, one row per measure and group
        ``measure``, ``group``, ``weight``, ``contribution``, ``share``; groups in the order in which the
        assets bring them up. They sum to the same totals as the assets. Further columns of `contributions`, such as
        ``portfolio`` or ``date``, are kept apart.

    Raises
    ------
    UnknownNameError
        For a label of an asset that is not in `contributions`, with the close matches.
    InputError
        For assets without a label or with two, and a frame without the columns needed.
    """
    needed = ["measure", "asset", "weight", "contribution", "share"]
    absent = [name for name in needed if name not in contributions.columns]
    if absent:
        raise InputError(
            f"contributions has no column {some(pd.Index(absent))}; pass the frame that risk_contributions returned"
        )
    if not isinstance(labels, pd.Series | Mapping):
        raise InputError(f"labels must be a Series or mapping from asset to label, was {type(labels).__name__}")
    series = labels if isinstance(labels, pd.Series) else pd.Series(dict(labels), dtype=object)
    if series.index.has_duplicates:
        repeated = series.index[series.index.duplicated()].unique()
        raise InputError(f"labels names an asset twice: {some(repeated)}; keep one label per asset")
    assets = pd.Index(contributions["asset"].unique())
    unknown = series.index.difference(assets, sort=False)
    if len(unknown):
        raise unknown_names("asset", unknown, assets)
    own = pd.Series(series.reindex(assets).tolist(), index=assets)  # a categorical would bring its own order
    if own.isna().any():
        raise InputError(f"labels says nothing about {some(assets[own.isna()])}; give every asset a label")

    grouped = contributions.assign(group=contributions["asset"].map(own))
    given = ("asset", "weight", "marginal", "contribution", "share")
    keys = [name for name in contributions.columns if name not in given]
    sums = grouped.groupby([*keys, "group"], sort=False)[["weight", "contribution", "share"]].sum()
    return sums.reset_index()


def _checked_levels(betas: Iterable[float]) -> dict[float, str]:
    """Name of the measure for each level."""
    if not isinstance(betas, Iterable) or isinstance(betas, str):
        raise InputError(f"betas must be a sequence of confidence levels, such as (0.95,), was {betas!r}")
    levels: dict[float, str] = {}
    for beta in betas:
        level = check_beta(beta)
        measure = f"CVaR {100.0 * level:.12g}%"
        if measure in levels.values():
            raise InputError(f"betas names {level:g} twice; give each confidence level once")
        levels[level] = measure
    return levels


def _checked_tail(
    given: npt.ArrayLike, scenarios: ScenarioSet, losses: FloatArray, exact: FloatArray, beta: float
) -> FloatArray:
    """Return the tail distribution as an array (S,), or refuse one that is not optimal for these losses."""
    what = f"tail_weights[{beta:g}]"
    if isinstance(given, pd.Series) and not given.index.equals(scenarios.index):
        raise InputError(f"{what} is labelled differently from the scenarios; reindex it to scenarios.index")
    distribution = np.asarray(given, dtype=np.float64)
    if distribution.shape != losses.shape:
        raise InputError(f"{what} has shape {distribution.shape} for {len(losses)} scenarios")
    if not np.isfinite(distribution).all():
        raise InputError(f"{what} is not finite for scenarios {some(scenarios.index[~np.isfinite(distribution)])}")
    if (distribution < 0.0).any():
        raise InputError(f"{what} is negative for scenarios {some(scenarios.index[distribution < 0.0])}")
    total = float(distribution.sum())
    if abs(total - 1.0) > _TOLERANCE:
        raise InputError(f"{what} sums to {total:.9g}, not to one; divide it by its sum if that is meant")
    above = distribution > scenarios.probabilities / (1.0 - beta) * (1.0 + _TOLERANCE)
    if above.any():
        raise InputError(
            f"{what} is above the cap, the scenario probability over {1.0 - beta:g}, for scenarios "
            f"{some(scenarios.index[above])}; it is not a tail distribution at this level"
        )
    cvar, attained = float(exact @ losses), float(distribution @ losses)
    # against the size of the losses in the tail, so that a CVaR near zero is not held to the impossible
    if abs(attained - cvar) > _TOLERANCE * float(exact @ np.abs(losses)):
        raise InputError(
            f"{what} gives a mean loss of {attained:.9g} where the CVaR of these weights is {cvar:.9g}; it "
            "belongs to other weights or another level"
        )
    return distribution


def _checked_measures(measures: Iterable[RiskMeasure], taken: list[str]) -> dict[str, RiskMeasure]:
    """The measures by name, every name once."""
    if not isinstance(measures, Iterable):
        raise InputError(f"measures must be a sequence, such as (VaR(0.95),), was {type(measures).__name__}")
    found: dict[str, RiskMeasure] = {}
    for measure in measures:
        name = name_of(measure)
        if name in found or name in taken:
            raise InputError(f"there are two measures called {name!r}; ask for them in two calls, or leave out one")
        found[name] = measure
    return found


def portfolio_arrays(assets: pd.Index, weights: Weights | pd.DataFrame) -> tuple[FloatArray, pd.Index | None]:
    """Weights (P, N) in the order of the assets, and the labels of the portfolios where a frame may hold many."""
    if not isinstance(weights, pd.DataFrame):
        return align(weights, assets, what="weights")[None], None
    names = weights.columns
    if names.empty:
        raise InputError("weights has no columns; pass one for each portfolio")
    if names.has_duplicates:
        raise InputError(f"weights has two portfolios called {some(names[names.duplicated()].unique())}")
    if not assets.isin(weights.index).any() and assets.isin(names).any():
        raise InputError("weights must be a frame of assets x portfolios, and the assets are its columns; pass its .T")
    rows = [align(weights[name], assets, what=f"weights[{name!r}]") for name in names]
    unnamed = names.name is None or names.name in _COLUMNS
    return np.stack(rows), names.rename("portfolio" if unnamed else names.name)


def _one(
    scenarios: ScenarioSet,
    values: FloatArray,
    chosen: list[tuple[str, RiskMeasure]],
    given: Mapping[float, npt.ArrayLike],
) -> list[pd.DataFrame]:
    """Frames of one portfolio, whose losses are found once for CVaR at all levels and the volatility."""
    losses = scenarios.source.losses(values) if scenarios.form is None else None
    frames = []
    for name, measure in chosen:
        own = isinstance(measure, CVaR) and (measure.scenarios is not None or measure.benchmark is not None)
        if losses is not None and isinstance(measure, CVaR) and not own:
            density = tail(losses, scenarios.probabilities, measure.beta).weights
            if measure.beta in given:
                density = _checked_tail(given[measure.beta], scenarios, losses, density, measure.beta)
        elif losses is not None and name == "volatility":
            density = volatility_density(scenarios, values, losses)
        else:
            found = split(measure, scenarios, values[None])
            frames.append(_frame(name, None, scenarios.assets, found.weights, found.marginal))
            continue
        marginal = -scenarios.source.pull(density[None])
        frames.append(_frame(name, None, scenarios.assets, values[None], marginal))
    return frames


def _many(
    scenarios: ScenarioSet, values: FloatArray, name: str, measure: RiskMeasure, portfolios: pd.Index
) -> pd.DataFrame:
    held, marginal = np.empty_like(values), np.empty_like(values)
    for part in parts(scenarios_of(measure, scenarios), len(values)):
        found = split(measure, scenarios, values[part])
        held[part], marginal[part] = found.weights, found.marginal
    return _frame(name, portfolios, scenarios.assets, held, marginal)


def _frame(
    measure: str, portfolios: pd.Index | None, assets: pd.Index, weights: FloatArray, marginal: FloatArray
) -> pd.DataFrame:
    contribution = weights * marginal
    count, n = weights.shape
    columns: dict[Hashable, Any] = {"measure": measure}
    if portfolios is not None:
        columns[portfolios.name] = portfolios.repeat(n)
    columns |= {
        "asset": assets if count == 1 else assets[np.tile(np.arange(n), count)],
        "weight": weights.ravel(),
        "marginal": marginal.ravel(),
        "contribution": contribution.ravel(),
        "share": shares(contribution).ravel(),
    }
    return pd.DataFrame(columns)

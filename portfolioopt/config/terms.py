"""From the sections of a configuration to terms and constraints of the problem language."""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from portfolioopt import problem as problem_language
from portfolioopt.errors import unknown_names
from portfolioopt.labels import PerAsset
from portfolioopt.problem import (
    Bounds,
    Budget,
    CVaR,
    CVaRLimit,
    ExpectedReturn,
    GroupLimit,
    Limit,
    LinearLimit,
    MaxHoldings,
    MinPosition,
    MinTrade,
    ProportionalCost,
    ReturnTarget,
    TradeLimit,
    Turnover,
)
from portfolioopt.problem.constraints import Constraint
from portfolioopt.problem.terms import Expression, Term

from .files import some
from .model import OTHERS, ConstraintsConfig, GroupConfig, ObjectiveConfig
from .place import Key, Place

Places = dict[str, tuple[Key, ...]]


def terms_of(wanted: ObjectiveConfig, assets: pd.Index, at: Place, *, cost_factor: float = 1.0) -> list[Expression]:
    """The terms of an objective, signs included; `cost_factor` spreads a cost over the time a portfolio is held."""
    terms: list[Expression] = []
    if wanted.expected_return is not None:
        terms.append(wanted.expected_return * ExpectedReturn() if wanted.expected_return != 1 else ExpectedReturn())
    for i, risk in enumerate(wanted.cvar):
        with at.located("cvar", i, "beta"):
            terms.append(-risk.weight * CVaR(risk.beta))
    for i, risk in enumerate(wanted.risks):
        with at.located("risks", i):
            terms.append(-risk.weight * _measure(risk.measure, risk.beta))
    if wanted.cost_bps is not None:
        with at.located("cost_bps"):
            cost = ProportionalCost(spread(wanted.cost_bps, assets))
            terms.append(-cost if cost_factor == 1.0 else -cost_factor * cost)
    return terms


def summed(terms: Sequence[Expression]) -> Expression:
    """Their sum; there is at least one."""
    return functools.reduce(operator.add, terms)


def constraints_of(
    wanted: ConstraintsConfig, labels: Sequence[pd.Series], assets: pd.Index, at: Place, *, trading: bool = True
) -> tuple[list[Constraint], Places]:
    """The constraints, and by name where each stands in the file; limits on trades only where `trading`."""
    made: list[Constraint] = []
    places: Places = {}

    def add(constraint: Constraint, *keys: Key) -> None:
        made.append(constraint)
        places[constraint.name] = (*at.keys, *keys)

    if (c := wanted.budget) is not None:
        with at.located("budget"):
            add(Budget(c.total, name=c.name or "Budget"), "budget")
    if (c := wanted.bounds) is not None:
        with at.located("bounds"):
            lower, upper = spread(c.lower, assets), spread(c.upper, assets)
            add(Bounds(lower, upper, unit_check=c.unit_check, name=c.name or "Bounds"), "bounds")
    for i, c in enumerate(wanted.groups):
        with at.located("groups", i):
            add(group_limit(c, labels[i], assets), "groups", i)
    if (c := wanted.turnover) is not None and trading:
        with at.located("turnover"):
            add(Turnover(c.limit, unit_check=c.unit_check, name=c.name or "Turnover"), "turnover")
    if (c := wanted.trade_limit) is not None and trading:
        with at.located("trade_limit"):
            limit = spread(c.limit, assets)
            add(TradeLimit(limit, unit_check=c.unit_check, name=c.name or "TradeLimit"), "trade_limit")
    if (c := wanted.return_target) is not None:
        with at.located("return_target"):
            add(ReturnTarget(c.target, name=c.name or "ReturnTarget"), "return_target")
    for i, c in enumerate(wanted.cvar_limits):
        with at.located("cvar_limits", i):
            limit = CVaRLimit(c.beta, c.limit, unit_check=c.unit_check, name=c.name or "")
            add(limit, "cvar_limits", i)
    for i, c in enumerate(wanted.risk_limits):
        with at.located("risk_limits", i):
            limit = Limit(_measure(c.measure, c.beta), upper=c.limit, unit_check=c.unit_check, name=c.name or "")
            add(limit, "risk_limits", i)
    for i, c in enumerate(wanted.linear):
        with at.located("linear", i):
            # classifications side by side; a label that two of them have is then refused where it is named
            sides = {j: own.reindex(assets) for j, own in enumerate(labels)}
            add(LinearLimit(c.text, pd.DataFrame(sides) if sides else None, name=c.name or c.text), "linear", i)
    if (c := wanted.max_holdings) is not None:
        with at.located("max_holdings"):
            add(MaxHoldings(c.count, name=c.name or "MaxHoldings"), "max_holdings")
    if (c := wanted.min_position) is not None:
        with at.located("min_position"):
            add(MinPosition(spread(c.size, assets), name=c.name or "MinPosition"), "min_position")
    if (c := wanted.min_trade) is not None:
        with at.located("min_trade"):
            add(MinTrade(spread(c.size, assets), name=c.name or "MinTrade"), "min_trade")
    return made, places


def group_limit(wanted: GroupConfig, labels: pd.Series, assets: pd.Index) -> GroupLimit:
    """The limit on groups; limits of labels that none of these assets has are left out."""
    own = labels.reindex(assets).dropna()
    lower, upper = (_by_label(side, own) for side in (wanted.lower, wanted.upper))
    name = wanted.name or "GroupLimit"
    return GroupLimit(labels, lower=lower, upper=upper, unit_check=wanted.unit_check, name=name)


def spread(value: float | dict[str, float], assets: pd.Index) -> PerAsset:
    """A value per asset, `others` written out; assets that were dropped on purpose are passed over."""
    if isinstance(value, dict):
        return pd.Series({asset: value[asset] if asset in value else value[OTHERS] for asset in assets}, dtype=float)
    return value


def _measure(name: str, beta: float | None) -> Term:
    """A measure of the library by its name."""
    made = getattr(problem_language, name)
    return made() if beta is None else made(beta)


def _by_label(value: float | dict[str, float] | None, labels: pd.Series) -> dict[str, float] | None:
    if value is None:
        return None
    if isinstance(value, dict):
        return {label: limit for label, limit in value.items() if (labels == label).any()}
    return {str(label): value for label in labels.unique()}


# -- names and places --------------------------------------------------------------------------------------------


def check_by_asset(value: object, assets: pd.Index, at: Place, *keys: Key, partial: bool = False) -> None:
    """Refuse assets without prices in a mapping by asset, and where it has to name all, those it is silent about."""
    if not isinstance(value, Mapping):
        return
    for name in value:
        if name not in assets and (partial or name != OTHERS):
            raise at.error(str(unknown_names("asset", [name], assets)), *keys, name)
    absent = [str(asset) for asset in assets if asset not in value]
    if absent and not partial and OTHERS not in value:
        raise at.error(
            f"{(*at.keys, *keys)[-1]} says nothing about {some(absent)}; add them, or '{OTHERS}: ...' for all of them",
            *keys,
        )


def check_sections(
    objective: ObjectiveConfig, constraints: ConstraintsConfig, labels: Sequence[pd.Series], assets: pd.Index, at: Place
) -> None:
    """Refuse unknown assets and labels in the objective and the constraints of the section at `at`."""
    for value, place in _by_asset(objective, constraints):
        check_by_asset(value, assets, at, *place)
    for i, group in enumerate(constraints.groups):
        known = labels[i].reindex(assets).dropna()
        check_labels(group, known, at, "constraints", "groups", i)


def check_labels(group: GroupConfig, known: pd.Series, at: Place, *keys: Key) -> None:
    """Refuse limits on labels that no asset has."""
    for side, value in (("lower", group.lower), ("upper", group.upper)):
        if isinstance(value, dict):
            for label in value:
                if not (known == label).any():
                    raise at.error(str(unknown_names("label", [label], known.unique())), *keys, side, label)


def place_of(message: str, places: Mapping[str, tuple[Key, ...]]) -> tuple[Key, ...]:
    """Where that stands which a message of the library speaks of; nowhere if it names no constraint."""
    named = [name for name in places if name in message]
    if not named:
        return ("holdings",) if message.startswith("holdings") else ()
    name = max(named, key=len)
    # "Sectors: upper['Energy'] = 30 ..." leads further into the section
    inner = re.search(rf"{re.escape(name)}[:.] ?(\w+)(?:\['(.+?)'\])?", message)
    return (*places[name], *(part for part in inner.groups() if part)) if inner else places[name]


def _by_asset(objective: ObjectiveConfig, constraints: ConstraintsConfig) -> Iterator[tuple[object, tuple[Key, ...]]]:
    """Every value by asset, and where it stands."""
    bounds, trade_limit = constraints.bounds, constraints.trade_limit
    position, trade = constraints.min_position, constraints.min_trade
    yield objective.cost_bps, ("objective", "cost_bps")
    if bounds is not None:
        yield bounds.lower, ("constraints", "bounds", "lower")
        yield bounds.upper, ("constraints", "bounds", "upper")
    if trade_limit is not None:
        yield trade_limit.limit, ("constraints", "trade_limit", "limit")
    if position is not None:
        yield position.size, ("constraints", "min_position", "size")
    if trade is not None:
        yield trade.size, ("constraints", "min_trade", "size")

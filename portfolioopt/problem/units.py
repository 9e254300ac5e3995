"""Refuse limits that cannot bind because of a mistake in the unit: a weight cap of 10 that meant 10 %."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.labels import per_asset
from portfolioopt.scenarios import ScenarioSet
from portfolioopt_kernels import HingeProgram, exchange

from .box import implied_box
from .constraints import Bounds, Constraint, CVaRLimit, GroupLimit, Limit, TradeLimit, Turnover, single
from .costs import TradedAmount
from .measures import ActiveShare, GrossExposure, LongExposure, NetExposure, ShortExposure

FloatArray: TypeAlias = npt.NDArray[np.float64]
# A cap that cannot bind is suspect from _SUSPECT on; one that might bind, but allows _ABSURD times NAV, from there on.
_SUSPECT = 1.5
_ABSURD = 5.0
EXPOSURES = (GrossExposure, LongExposure, NetExposure, ShortExposure, ActiveShare, TradedAmount)


def check_units(
    scenarios: ScenarioSet,
    program: HingeProgram,
    constraints: tuple[Constraint, ...],
    holdings: FloatArray | None,
) -> None:
    """Raise InputError for a limit that cannot bind and looks like a percentage, or holdings that look like money."""
    assets = scenarios.assets
    if holdings is not None and np.abs(holdings).max() > 20.0:
        i = int(np.abs(holdings).argmax())
        raise InputError(
            f"holdings[{assets[i]}] is {holdings[i]:g}: holdings are weights, fractions of NAV; divide positions by NAV"
        )

    @cache
    def reach() -> tuple[FloatArray, FloatArray]:
        """What is left when no cap from above is believed: the budget over non-negative weights."""
        n = len(assets)
        low, high = implied_box(exchange(program, upper=np.append(np.full(n, np.inf), program.upper[n:])))
        return low[:n], high[:n]

    for c in constraints:
        if not getattr(c, "unit_check", False):
            continue
        match c:
            case Bounds():
                lower = per_asset(c.lower, assets, what=f"{c.name}.lower", infinite=True)
                upper = per_asset(c.upper, assets, what=f"{c.name}.upper", infinite=True)
                odd = (np.isfinite(upper) & (upper > _SUSPECT)) | (np.isfinite(lower) & (lower < -_ABSURD))
                if odd.any():
                    _check_bounds(c, upper, lower, assets, reach()[1])
            case GroupLimit() if any(limit > _SUSPECT for limit in (c.upper or {}).values()):
                labels = dict(c.labels)
                capped_high = np.minimum(reach()[1], program.upper[: len(assets)])
                for label, limit in (c.upper or {}).items():
                    members = [i for i, a in enumerate(assets) if labels[a] == label]
                    largest = float(capped_high[members].sum())
                    _check_cap(f"{c.name}: upper[{label!r}]", limit, largest)
            case TradeLimit():
                assert holdings is not None
                limit = per_asset(c.limit, assets, what=f"{c.name}.limit", infinite=True)
                if not (limit[np.isfinite(limit)] > _SUSPECT).any():
                    continue
                low, high = reach()
                largest = np.maximum(high - holdings, holdings - low)
                for asset, cap, most in zip(assets, limit, largest, strict=True):
                    if cap > _SUSPECT:
                        _check_cap(f"{c.name}: limit of {asset!r}", float(cap), float(most))
            case Turnover() if c.limit > _ABSURD:
                raise InputError(
                    f"{c.name}: a limit of {c.limit:g} allows trading {c.limit:.0%} of NAV; limits are fractions "
                    f"({c.limit / 100:g} is {c.limit:g} %). If it is meant, pass unit_check=False"
                )
            case CVaRLimit() if c.limit >= 1.0:
                low, high = reach()
                worst = _worst_loss(scenarios, low, np.minimum(high, program.upper[: len(assets)]))
                if c.limit > worst:
                    raise InputError(
                        f"{c.name}: a limit of {c.limit:g} is {c.limit:.0%} of NAV and cannot bind (no allowed "
                        f"portfolio loses more than {worst:.3g}); limits are fractions ({c.limit / 100:g} is "
                        f"{c.limit:g} %). If it is meant, pass unit_check=False"
                    )
            case Limit() if c.upper is not None and c.upper >= 1.0:
                _check_measure(c, c.upper)
            case _:
                pass


def _check_measure(c: Limit, upper: float) -> None:
    term = single(c.measure)
    if isinstance(term, EXPOSURES):
        if upper > _ABSURD:
            raise InputError(
                f"{c.name}: a limit of {upper:g} is {upper:.0%} of NAV; exposures are fractions ({upper / 100:g} is "
                f"{upper:g} %). If it is meant, pass Limit(..., unit_check=False)"
            )
    elif term is not None and term.curvature == "convex":
        raise InputError(
            f"{c.name}: a limit of {upper:g} is {upper:.0%} of NAV; risks and costs are fractions per scenario horizon "
            f"({upper / 100:g} is {upper:g} %). If it is meant, pass Limit(..., unit_check=False)"
        )


def _check_bounds(c: Bounds, upper: FloatArray, lower: FloatArray, assets: pd.Index, largest: FloatArray) -> None:
    for asset, limit, most in zip(assets, upper, largest, strict=True):
        if np.isfinite(limit) and limit > _SUSPECT:
            where = f"upper[{asset!r}]" if isinstance(c.upper, pd.Series | Mapping) else "upper"
            _check_cap(f"{c.name}: {where}", float(limit), float(most))
    deep = np.isfinite(lower) & (lower < -_ABSURD)
    if deep.any():
        value = float(lower[deep][0])
        raise InputError(
            f"{c.name}: a lower bound of {value:g} allows a short of {-value:.0%} of NAV; bounds are fractions "
            f"({value / 100:g} is {value:g} %). If it is meant, pass unit_check=False"
        )


def _check_cap(what: str, limit: float, largest: float) -> None:
    useless = limit > max(_SUSPECT, largest * (1.0 + 1e-6))
    if np.isfinite(limit) and (useless or limit > _ABSURD):
        why = (
            f"can never bind (the other constraints allow at most {largest:.4g})"
            if useless
            else f"allows {limit:.0%} of NAV"
        )
        raise InputError(
            f"{what} = {limit:g} {why}; limits are fractions of NAV, so {limit:g} % is {limit / 100:g}. If it is "
            "meant, pass unit_check=False"
        )


def _worst_loss(scenarios: ScenarioSet, low: FloatArray, high: FloatArray) -> float:
    """An upper bound on the loss of any allowed portfolio in any scenario; inf where weights are unlimited."""
    reach = np.maximum(np.abs(low), np.abs(high))
    if not np.isfinite(reach).all():
        return np.inf
    return float(reach @ scenarios.source.largest)

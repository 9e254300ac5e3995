r"""Drift bands: how far a weight may wander from its target before it is worth trading back.

With weight :math:`w`, target :math:`t` and width :math:`b`, the drift is :math:`d = w - t` and the edge of the band is

.. math:: e = b \ \text{(absolute)}, \qquad e = b\,|t| \ \text{(relative)} .

A target of 25 % with a width of 5 % is left at 30 % under an absolute band and at 26.25 % under a relative one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.labels import FloatArray, PerAsset, checked_number, numbers, per_asset, some

from .valuation import joined

EDGE: Final = (
    1e-10  # distances that differ by less, as fractions of NAV, are the same: rounding must not decide a trade
)

REPORT_COLUMNS: Final = ("weight", "target", "drift", "relative_drift", "band", "breached")


@dataclass(frozen=True, eq=False)
class DriftBand:
    """A band around every target.

    The edge is decided safely against rounding: a drift within 1e-10 of NAV of the edge is *on* it, and breaches an
    inclusive band but not an exclusive one. A drift of zero breaches nothing, however narrow the band.

    Parameters
    ----------
    width
        Half of the band's width: a fraction of NAV where the band is absolute, of the target's size where it is
        relative. One number, or one for each asset (each group with `groups`), cash included where it is judged.
    kind
        ``"absolute"`` or ``"relative"``; a negative target counts with its size.
    inclusive
        Whether reaching the edge is enough. True is how a broker words it ("when the threshold is reached").
    groups
        Label of every asset: the band then judges the weights of the groups, not of the assets.
    zero_target
        What a relative band says of a target of zero, which has no size: ``"absolute"`` reads the width as a fraction
        of NAV, ``"any"`` breaches for any position at all, ``"never"`` does not judge it.
    """

    width: PerAsset = 0.05
    kind: Literal["absolute", "relative"] = "absolute"
    inclusive: bool = True
    groups: pd.Series | Mapping[str, str] | None = None
    zero_target: Literal["absolute", "any", "never"] = "absolute"

    def __post_init__(self) -> None:
        if self.kind not in ("absolute", "relative"):
            raise InputError(f"kind must be 'absolute' or 'relative', was {self.kind!r}")
        if self.zero_target not in ("absolute", "any", "never"):
            raise InputError(f"zero_target must be 'absolute', 'any' or 'never', was {self.zero_target!r}")
        if isinstance(self.width, pd.Series | Mapping):
            series = self.width if isinstance(self.width, pd.Series) else pd.Series(dict(self.width), dtype=object)
            values = numbers(series, "width")
            bad = ~np.isfinite(values) | (values < 0.0)
            if bad.any():
                raise InputError(f"width is negative or not finite for {some(series.index[bad])}")
        else:
            checked_number(self.width, "width", least=0.0)
        if self.groups is not None and not isinstance(self.groups, pd.Series | Mapping):
            raise InputError(f"groups must be a Series or mapping from asset to label, was {self.groups!r}")

    def edges(self, names: pd.Index, targets: FloatArray) -> FloatArray:
        """Distance from target to edge (N,), as fractions of NAV; infinite where the band does not judge."""
        width = per_asset(self.width, names, what="width")
        if self.kind == "absolute":
            return width
        at_zero = {"absolute": width, "any": 0.0, "never": np.inf}[self.zero_target]
        return np.where(np.abs(targets) <= EDGE, at_zero, width * np.abs(targets))

    def outside(self, drift: FloatArray, edges: FloatArray) -> np.ndarray:
        """Which drifts breach their edges (N,)."""
        distance = np.abs(drift)
        beyond = distance >= edges - EDGE if self.inclusive else distance > edges + EDGE
        return beyond & (distance > EDGE)

    def labels(self, assets: pd.Index) -> pd.Index:
        """The group of every asset, or the assets themselves where the band has no groups."""
        if self.groups is None:
            return assets
        series = self.groups if isinstance(self.groups, pd.Series) else pd.Series(dict(self.groups), dtype=object)
        if series.index.has_duplicates:
            raise InputError(f"groups has duplicate assets: {some(series.index[series.index.duplicated()].unique())}")
        found = series.reindex(assets)
        if found.isna().any():
            raise InputError(f"groups has no label for {some(assets[found.isna().to_numpy()])}")
        return pd.Index(found.to_numpy(), name="group")


def drift_report(
    weights: pd.Series | Mapping[str, float],
    targets: pd.Series | Mapping[str, float],
    band: DriftBand | None = None,
    *,
    cash: str | None = None,
    untargeted: Literal["refuse", "sell"] = "refuse",
) -> pd.DataFrame:
    """Judge weights against targets.

    Parameters
    ----------
    weights
        Fractions of NAV after drift (see :func:`drifted` and :func:`value_book`); an asset that is not there is not
        held.
    targets
        Fractions of NAV wanted. Negative targets are short positions.
    band
        5 percentage points to either side by default.
    cash
        What to call cash, to have it judged as well: its weight and target are what the assets leave of one. With
        groups it is a group of its own.
    untargeted
        What to do about positions without a target: refuse, or judge them against zero.

    Returns
    -------
    DataFrame, one row per asset, or per group of a band with groups
        ``weight``, ``target``, ``drift``
            Fractions of NAV.
        ``relative_drift``
            Drift as a fraction of the target's size; infinite for a position with a target of zero.
        ``band``
            Distance of the edge from the target, as a fraction of NAV.
        ``breached``
            Whether the drift is out of its band.
    """
    rule = DriftBand() if band is None else band
    assets, held, wanted = joined(weights, targets, untargeted=untargeted)
    names = rule.labels(assets)
    if rule.groups is not None:
        names, held, wanted = grouped(names, held, wanted)
    if cash is not None:
        if cash in names:
            raise InputError(f"cash is called {cash!r}, which is also the name of an asset or group; choose another")
        held = np.append(held, 1.0 - held.sum())
        wanted = np.append(wanted, 1.0 - wanted.sum())
        names = pd.Index([*names, cash], name=names.name)
    edges = rule.edges(names, wanted)
    drift = held - wanted
    drift[np.abs(drift) <= 1e-15] = 0.0
    size = np.abs(wanted)
    relative = np.divide(drift, size, out=np.copysign(np.full_like(drift, np.inf), drift), where=size > 0.0)
    relative[drift == 0.0] = 0.0
    columns = (held, wanted, drift, relative, edges, rule.outside(drift, edges))
    return pd.DataFrame(dict(zip(REPORT_COLUMNS, columns, strict=True)), index=names)


def grouped(names: pd.Index, *arrays: FloatArray) -> tuple[pd.Index, *tuple[FloatArray, ...]]:
    """Sums of arrays (N,) by label, in the order in which the labels appear."""
    codes, unique = pd.factorize(names)
    sums = tuple(np.zeros(len(unique)) for _ in arrays)
    for total, array in zip(sums, arrays, strict=True):
        np.add.at(total, codes, array)
    return pd.Index(unique, name=names.name), *sums

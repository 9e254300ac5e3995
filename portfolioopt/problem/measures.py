"""Rewards and risks that are linear or piecewise linear in the weights: the solver's own kernel carries them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.labels import checked_number
from portfolioopt.scenarios import ScenarioSet, tail
from portfolioopt.scenarios.tail import check_beta

from .lowering import Affine, Canvas, Shape
from .terms import Curvature, FloatArray, Labelled, Term, View, labelled, ordered, spread


@dataclass(frozen=True, eq=False)
class ExpectedReturn(Term):
    r"""Expected portfolio return :math:`\mu' w` per scenario horizon, as a fraction of NAV, before costs.

    Parameters
    ----------
    mean
        Expected return per asset, as fractions per scenario horizon; the scenario mean where None.
    """

    mean: pd.Series | Mapping[str, float] | None = None
    curvature: ClassVar[Curvature] = "linear"

    def _mean(self, canvas: Canvas) -> FloatArray:
        return canvas.mean if self.mean is None else labelled(self.mean, canvas, "ExpectedReturn.mean")

    def shape(self, canvas: Canvas) -> Shape:
        return Shape(Affine(self._mean(canvas)))

    def value(self, view: View) -> float:
        mean = view.mean if self.mean is None else ordered(self, "mean", view.scenarios.assets)
        return float(mean @ view.weights)

    def __repr__(self) -> str:
        return "ExpectedReturn()" if self.mean is None else "ExpectedReturn(mean=...)"


@dataclass(frozen=True, eq=False)
class CVaR(Term):
    r"""Conditional value-at-risk of the loss :math:`-R w` (Rockafellar & Uryasev, 2000), as a fraction of NAV.

    The mean of the worst ``1 - beta`` of probability, fractional scenarios included.

    Parameters
    ----------
    beta
        Confidence level in (0, 1); 0.95 averages the worst 5 %.
    scenarios
        Another set over the same assets (a stressed one, a regime, other probabilities); the problem's where None.
    benchmark
        Weights of a benchmark by asset: the loss is then that of the active return, :math:`-R (w - b)`.
    """

    beta: float = 0.95
    scenarios: ScenarioSet | None = None
    benchmark: Labelled | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "beta", check_beta(self.beta))
        check_scenarios(self.scenarios, "CVaR")

    def shape(self, canvas: Canvas) -> Shape:
        active = None if self.benchmark is None else labelled(self.benchmark, canvas, "CVaR.benchmark")
        return canvas.tail_mean(self.beta, self.scenarios, active)

    def value(self, view: View) -> float:
        if self.benchmark is None:
            return view.tail(self.beta, self.scenarios).cvar
        chosen = view.scenarios if self.scenarios is None else self.scenarios
        b = ordered(self, "benchmark", view.scenarios.assets)
        losses = view.losses(self.scenarios) - chosen.source.losses(b)
        return tail(losses, chosen.probabilities, self.beta).cvar

    def __repr__(self) -> str:
        more = ", scenarios=..." if self.scenarios is not None else ""
        more += ", benchmark=..." if self.benchmark is not None else ""
        return f"CVaR(beta={self.beta:g}{more})"


@dataclass(frozen=True, eq=False)
class SpectralRisk(Term):
    r"""A weighted mean of CVaRs, :math:`\sum_k a_k \mathrm{CVaR}_{\beta_k}` (Acerbi, 2002), as a fraction of NAV.

    Every spectral risk measure with a step-wise spectrum is one.

    Parameters
    ----------
    weights
        Share of each level, ``{0.90: 0.5, 0.99: 0.5}``: positive numbers that sum to one.
    scenarios
        Another set over the same assets; the problem's where None.
    """

    weights: Mapping[float, float]
    scenarios: ScenarioSet | None = None

    def __post_init__(self) -> None:
        check_scenarios(self.scenarios, "SpectralRisk")
        if not isinstance(self.weights, Mapping) or not self.weights:
            raise InputError(f"SpectralRisk: weights must map levels to shares, were {self.weights!r}")
        shares = {
            check_beta(beta): checked_number(share, f"SpectralRisk: the share of {beta}", above=0.0)
            for beta, share in self.weights.items()
        }
        if abs(sum(shares.values()) - 1.0) > 1e-9:
            raise InputError(f"SpectralRisk: the shares sum to {sum(shares.values()):g}, and have to sum to one")
        object.__setattr__(self, "weights", shares)

    def shape(self, canvas: Canvas) -> Shape:
        total = Shape(canvas.constant(0.0))
        for beta, share in self.weights.items():
            total = total + canvas.tail_mean(beta, self.scenarios) * share
        return total

    def value(self, view: View) -> float:
        return float(sum(share * view.tail(beta, self.scenarios).cvar for beta, share in self.weights.items()))

    def __repr__(self) -> str:
        more = ", scenarios=..." if self.scenarios is not None else ""
        return f"SpectralRisk({ {f'{b:g}': f'{a:g}' for b, a in self.weights.items()} }{more})".replace("'", "")


@dataclass(frozen=True, eq=False)
class WorstLoss(Term):
    r"""Largest loss of all scenarios with a probability, :math:`\max_s -r_s'w`, as a fraction of NAV."""

    scenarios: ScenarioSet | None = None

    def __post_init__(self) -> None:
        check_scenarios(self.scenarios, "WorstLoss")

    def shape(self, canvas: Canvas) -> Shape:
        return canvas.worst(self.scenarios)

    def value(self, view: View) -> float:
        p = (view.scenarios if self.scenarios is None else self.scenarios).probabilities
        return float(view.losses(self.scenarios)[p > 0].max())

    def __repr__(self) -> str:
        return "WorstLoss()" if self.scenarios is None else "WorstLoss(scenarios=...)"


@dataclass(frozen=True, eq=False, init=False)
class WorstCase(Term):
    r"""The largest of several measures, :math:`\max_k \rho_k(w)`: a risk over several scenario sets or probabilities.

    ``WorstCase(CVaR(0.95), CVaR(0.95, scenarios=stressed), CVaR(0.95, scenarios=base.reweighted(p)))``
    """

    measures: tuple[Term, ...]

    def __init__(self, *measures: Term) -> None:
        if len(measures) == 1 and isinstance(measures[0], list | tuple):
            measures = tuple(measures[0])
        if not measures:
            raise InputError("WorstCase needs at least one measure")
        for measure in measures:
            if not isinstance(measure, Term) or measure.curvature == "concave":
                raise InputError(f"WorstCase takes linear and convex measures, was given {measure!r}")
        object.__setattr__(self, "measures", measures)

    @property
    def trades(self) -> bool:  # type: ignore[override]
        return any(measure.trades for measure in self.measures)

    def shape(self, canvas: Canvas) -> Shape:
        return canvas.largest([measure.shape(canvas) for measure in self.measures], repr(self))

    def value(self, view: View) -> float:
        return max(measure.value(view) for measure in self.measures)

    def __repr__(self) -> str:
        return f"WorstCase({', '.join(map(repr, self.measures))})"


@dataclass(frozen=True, eq=False)
class MeanAbsoluteDeviation(Term):
    r"""Mean absolute deviation of the return, :math:`E\,|r'w - \mu'w|` (Konno & Yamazaki, 1991), a fraction of NAV."""

    scenarios: ScenarioSet | None = None

    def __post_init__(self) -> None:
        check_scenarios(self.scenarios, "MeanAbsoluteDeviation")

    def shape(self, canvas: Canvas) -> Shape:
        return canvas.shortfall(self.scenarios, None) * 2.0

    def value(self, view: View) -> float:
        p = (view.scenarios if self.scenarios is None else self.scenarios).probabilities
        losses = view.losses(self.scenarios)
        return float(p @ np.abs(losses - p @ losses))

    def __repr__(self) -> str:
        return f"MeanAbsoluteDeviation({'' if self.scenarios is None else 'scenarios=...'})"


@dataclass(frozen=True, eq=False)
class ExpectedShortfallBelow(Term):
    r"""First lower partial moment, :math:`E\,(\tau - r'w)_+`: mean shortfall of the return below a target.

    Parameters
    ----------
    target
        :math:`\tau`, a return per scenario horizon as a fraction of NAV.
    scenarios
        Another set over the same assets; the problem's where None.
    """

    target: float = 0.0
    scenarios: ScenarioSet | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "target", checked_number(self.target, "ExpectedShortfallBelow: target"))
        check_scenarios(self.scenarios, "ExpectedShortfallBelow")

    def shape(self, canvas: Canvas) -> Shape:
        return canvas.shortfall(self.scenarios, self.target)

    def value(self, view: View) -> float:
        p = (view.scenarios if self.scenarios is None else self.scenarios).probabilities
        return float(p @ np.maximum(self.target + view.losses(self.scenarios), 0.0))

    def __repr__(self) -> str:
        more = ", scenarios=..." if self.scenarios is not None else ""
        return f"ExpectedShortfallBelow({self.target:g}{more})"


# -- exposures ---------------------------------------------------------------------------------------------------
class _Exposure(Term):
    """A sum over assets of weights of one sign or both."""

    sides: ClassVar[tuple[float, float]]  # of |w| and of w

    def __init__(self, assets: object = None) -> None:
        if assets is not None and (isinstance(assets, str) or not np.iterable(assets)):
            raise InputError(f"{type(self).__name__}: assets must be a list of labels, was {assets!r}")
        self.assets = None if assets is None else tuple(assets)  # type: ignore[arg-type]

    def shape(self, canvas: Canvas) -> Shape:
        chosen = members(self.assets, canvas.assets, type(self).__name__)
        absolute, linear = self.sides
        shape = Shape(Affine(linear * chosen))
        return shape if absolute == 0 else shape + canvas.distance(absolute * chosen, np.zeros(canvas.n))

    def value(self, view: View) -> float:
        chosen = members(self.assets, view.scenarios.assets, type(self).__name__)
        absolute, linear = self.sides
        return float(absolute * (chosen @ np.abs(view.weights)) + linear * (chosen @ view.weights))

    def size(self, view: View) -> float:
        return 1.0

    def __repr__(self) -> str:
        return f"{type(self).__name__}({'' if self.assets is None else f'{len(self.assets)} assets'})"


class GrossExposure(_Exposure):
    r"""Gross weight :math:`\sum_i |w_i|`, of all assets or of those named, as a fraction of NAV: the leverage."""

    sides: ClassVar[tuple[float, float]] = (1.0, 0.0)


class LongExposure(_Exposure):
    r"""Weight of the long positions :math:`\sum_i (w_i)_+`, of all assets or of those named, as a fraction of NAV."""

    sides: ClassVar[tuple[float, float]] = (0.5, 0.5)


class ShortExposure(_Exposure):
    r"""Size of the short positions :math:`\sum_i (-w_i)_+`, of all assets or of those named, as a fraction of NAV."""

    sides: ClassVar[tuple[float, float]] = (0.5, -0.5)


class NetExposure(_Exposure):
    r"""Net weight :math:`\sum_i w_i`, of all assets or of those named, as a fraction of NAV."""

    curvature: ClassVar[Curvature] = "linear"
    sides: ClassVar[tuple[float, float]] = (0.0, 1.0)


@dataclass(frozen=True, eq=False)
class ActiveShare(Term):
    r"""Distance from a benchmark :math:`\tfrac12 \sum_i |w_i - b_i|` (Cremers & Petajisto, 2009).

    Parameters
    ----------
    benchmark
        Weights of the benchmark by asset.
    """

    benchmark: Labelled

    def shape(self, canvas: Canvas) -> Shape:
        b = labelled(self.benchmark, canvas, "ActiveShare.benchmark")
        return canvas.distance(np.full(canvas.n, 0.5), b)

    def value(self, view: View) -> float:
        return float(0.5 * np.abs(view.weights - ordered(self, "benchmark", view.scenarios.assets)).sum())

    def size(self, view: View) -> float:
        return 1.0

    def __repr__(self) -> str:
        return "ActiveShare(benchmark=...)"


# -- robust ------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class MeanUncertainty(Term):
    r"""Largest error of the expected return over a box :math:`|\mu_i - \hat\mu_i| \le \delta_i`: :math:`\delta'|w|`.

    Subtracted from the expected return it gives the worst one of the box (Tütüncü & Koenig, 2004).

    Parameters
    ----------
    box
        :math:`\delta`, half-widths per asset as fractions per scenario horizon.
    """

    box: float | pd.Series | Mapping[str, float]

    def shape(self, canvas: Canvas) -> Shape:
        width = spread(self.box, canvas, "MeanUncertainty.box")
        if (width < 0).any():
            raise InputError("MeanUncertainty: the half-widths of the box must not be negative")
        return canvas.distance(width, np.zeros(canvas.n))

    def value(self, view: View) -> float:
        return float(ordered(self, "box", view.scenarios.assets) @ np.abs(view.weights))

    def __repr__(self) -> str:
        return "MeanUncertainty(box=...)"


# -- helpers -----------------------------------------------------------------------------------------------------
def check_scenarios(scenarios: object, what: str) -> None:
    """Refuse what is neither a scenario set nor None."""
    if scenarios is not None and not isinstance(scenarios, ScenarioSet):
        raise InputError(f"{what}: scenarios must be a ScenarioSet, was {type(scenarios).__name__}")


def members(chosen: tuple[object, ...] | None, assets: pd.Index, what: str) -> FloatArray:
    """One for every asset that is named, zero for the others (N,); all ones where none are."""
    from portfolioopt.errors import unknown_names

    if chosen is None:
        return np.ones(len(assets))
    unknown = [asset for asset in chosen if asset not in assets]
    if unknown:
        raise unknown_names(f"asset in {what}", unknown, assets)
    return assets.isin(list(chosen)).astype(np.float64)

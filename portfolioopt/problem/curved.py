"""Measures that are convex but not piecewise linear. A solver sees them through values and tangents."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.estimate.factored import FactorCovariance
from portfolioopt.estimate.quadratic import QuadraticForm
from portfolioopt.labels import PerAsset, checked_number, some
from portfolioopt.scenarios import ScenarioSet, tail
from portfolioopt.scenarios.tail import check_beta

from .lowering import Canvas, Shape
from .measures import check_scenarios
from .terms import Curvature, FloatArray, Labelled, Term, View, labelled, ordered, spread


class Bend(NamedTuple):
    r"""A second derivative in factored form, :math:`\mathrm{diag}(d) + R\,\mathrm{diag}(s) R'`."""

    diagonal: FloatArray  # d (N,)
    root: FloatArray  # R (N, K)
    sign: FloatArray  # s (K,), each 1 or -1


class CurvedTerm(Term):
    """A convex measure known by its values and tangents; or a concave one, whose negative is."""

    floor: ClassVar[float] = 0.0
    """Below which the measure (its negative, where it is concave) never lies."""
    smooth: ClassVar[bool] = True
    """Whether it has a second derivative almost everywhere that says how it bends."""
    quadratic: ClassVar[bool] = False
    """Whether that derivative is the same everywhere, so that one Newton step is exact."""

    def shape(self, canvas: Canvas) -> Shape:
        self.check(canvas)
        view = View(canvas.scenarios, canvas.mean, canvas.holdings, np.zeros(canvas.n))
        return canvas.curve(self, id(self), self.size(view), self.floor)

    def check(self, canvas: Canvas) -> None:
        """Refuse labels and sizes that do not match the problem's."""
        canvas.chosen(getattr(self, "scenarios", None))

    def value(self, view: View) -> float:
        return self.tangent(view)[0]

    @abstractmethod
    def tangent(self, view: View) -> tuple[float, FloatArray]:
        """Value and a (sub)gradient (N,) at the weights of `view`; the value is infinite outside the domain."""

    @abstractmethod
    def hessian(self, view: View) -> FloatArray:
        """Second derivative (N, N) at the weights of `view`, positive semidefinite; zeros where it is not smooth."""

    def bend(self, view: View) -> Bend | None:
        """The same in factored form, where there is one."""
        return None


# -- covariance --------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class Variance(CurvedTerm):
    r"""Variance of the portfolio return per scenario horizon, :math:`w'\Sigma w`.

    Parameters
    ----------
    covariance
        :math:`\Sigma` by asset, a frame or a :class:`FactorCovariance`; that of the scenarios under their
        probabilities where None.
    scenarios
        Another set over the same assets; the problem's where None.
    """

    covariance: pd.DataFrame | FactorCovariance | None = None
    scenarios: ScenarioSet | None = None
    quadratic: ClassVar[bool] = True

    def __post_init__(self) -> None:
        name = type(self).__name__
        check_scenarios(self.scenarios, name)
        if self.covariance is not None and not isinstance(self.covariance, pd.DataFrame | FactorCovariance):
            raise InputError(f"{name}: covariance must be a frame by asset or a FactorCovariance")
        if self.covariance is not None and self.scenarios is not None:
            raise InputError(f"{name}: give a covariance or scenarios, not both")
        object.__setattr__(self, "_forms", {})

    def check(self, canvas: Canvas) -> None:
        canvas.moments(self.scenarios)
        if self.covariance is not None:
            self._own_form(canvas.assets)

    def _own_form(self, assets: pd.Index) -> QuadraticForm:
        """The covariance that was given, as a quadratic form over these assets, in this order."""
        forms = self._forms  # type: ignore[attr-defined]
        key = id(assets)
        if key not in forms:
            assert self.covariance is not None
            forms.clear()
            forms[key] = QuadraticForm(self.covariance, assets, type(self).__name__), assets
        return forms[key][0]

    def form(self, scenarios: ScenarioSet) -> QuadraticForm | None:
        """The quadratic form over the assets of a problem on these scenarios; None where it is that of scenarios."""
        if self.covariance is not None:
            return self._own_form(scenarios.assets)
        return (scenarios if self.scenarios is None else self.scenarios).form

    def _moments(self, view: View, shift: FloatArray | None = None) -> tuple[float, FloatArray]:
        """``x'Qx`` and ``Qx`` at the weights, less a shift."""
        form = self.form(view.scenarios)
        if form is not None:
            return form(view.weights if shift is None else view.weights - shift)
        chosen = view.scenarios if self.scenarios is None else self.scenarios
        losses = view.losses(self.scenarios)
        if shift is not None:
            losses = losses - chosen.source.losses(shift)
        p = chosen.probabilities
        centred = losses - p @ losses
        return float(p @ centred**2), -chosen.source.pull((p * centred)[None])[0]

    def _matrix(self, view: View) -> FloatArray:
        """Q (N, N), kept for the next time."""
        kept = self._forms  # type: ignore[attr-defined]
        chosen = view.scenarios if self.scenarios is None else self.scenarios
        owner = view.scenarios.assets if self.covariance is not None else chosen
        if "dense" not in kept or kept["dense"][1] is not owner:
            form = self.form(view.scenarios)
            if form is not None:
                matrix = form.dense()
            else:
                matrix = second_moment(chosen, chosen.probabilities)
                matrix -= np.outer(chosen.mean_array(), chosen.mean_array())
            kept["dense"] = matrix, owner
        return kept["dense"][0]

    def tangent(self, view: View) -> tuple[float, FloatArray]:
        value, product = self._moments(view)
        return value, 2.0 * product

    def hessian(self, view: View) -> FloatArray:
        return 2.0 * self._matrix(view)

    def bend(self, view: View) -> Bend | None:
        form = self.form(view.scenarios)
        if form is None:
            return None
        return Bend(2.0 * form.diagonal, np.sqrt(2.0) * form.root, np.ones(form.root.shape[1]))

    def size(self, view: View) -> float:
        return view.scenarios.source.root_mean_square**2

    def __repr__(self) -> str:
        what = (
            "covariance=..." if self.covariance is not None else "scenarios=..." if self.scenarios is not None else ""
        )
        return f"{type(self).__name__}({what})"


@dataclass(frozen=True, eq=False, repr=False)
class Volatility(Variance):
    r"""Standard deviation of the portfolio return per scenario horizon, :math:`\sqrt{w'\Sigma w}`.

    Parameters as for :class:`Variance`.
    """

    quadratic: ClassVar[bool] = False

    def tangent(self, view: View) -> tuple[float, FloatArray]:
        return _square_root(*self._moments(view))

    def hessian(self, view: View) -> FloatArray:
        return _square_root_bend(self._matrix(view), *self._moments(view))

    def bend(self, view: View) -> Bend | None:
        return _square_root_factored(self.form(view.scenarios), *self._moments(view))

    def size(self, view: View) -> float:
        return view.scenarios.source.root_mean_square


@dataclass(frozen=True, eq=False, init=False)
class TrackingError(Variance):
    r"""Standard deviation of the active return, :math:`\sqrt{(w - b)'\Sigma(w - b)}`, per scenario horizon.

    Parameters
    ----------
    benchmark
        b, weights of the benchmark by asset.
    covariance, scenarios
        As for :class:`Variance`.
    """

    benchmark: Labelled
    quadratic: ClassVar[bool] = False

    def __init__(
        self,
        benchmark: Labelled | None = None,
        covariance: pd.DataFrame | FactorCovariance | None = None,
        scenarios: ScenarioSet | None = None,
    ) -> None:
        if not isinstance(benchmark, pd.Series | Mapping):
            raise InputError("TrackingError: benchmark must give the weight of every asset (a Series or mapping)")
        object.__setattr__(self, "benchmark", benchmark)
        super().__init__(covariance, scenarios)

    def check(self, canvas: Canvas) -> None:
        super().check(canvas)
        labelled(self.benchmark, canvas, "TrackingError.benchmark")  # type: ignore[arg-type]

    def tangent(self, view: View) -> tuple[float, FloatArray]:
        return _square_root(*self._moments(view, ordered(self, "benchmark", view.scenarios.assets)))

    def hessian(self, view: View) -> FloatArray:
        shifted = self._moments(view, ordered(self, "benchmark", view.scenarios.assets))
        return _square_root_bend(self._matrix(view), *shifted)

    def bend(self, view: View) -> Bend | None:
        shifted = self._moments(view, ordered(self, "benchmark", view.scenarios.assets))
        return _square_root_factored(self.form(view.scenarios), *shifted)

    def size(self, view: View) -> float:
        return view.scenarios.source.root_mean_square

    def __repr__(self) -> str:
        return "TrackingError(benchmark=...)"


@dataclass(frozen=True, eq=False)
class EllipsoidUncertainty(CurvedTerm):
    r"""Largest error of the expected return over an ellipsoid: :math:`\kappa \sqrt{w'\Omega w}`.

    Subtracted from the expected return it gives the worst one of
    :math:`(\mu - \hat\mu)'\Omega^{-1}(\mu - \hat\mu) \le \kappa^2` (Goldfarb & Iyengar, 2003).

    Parameters
    ----------
    covariance
        :math:`\Omega`, covariance of the estimate of the mean, by asset.
    radius
        :math:`\kappa`, in standard errors.
    """

    covariance: pd.DataFrame | FactorCovariance
    radius: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "radius", checked_number(self.radius, "EllipsoidUncertainty: radius", least=0.0))
        object.__setattr__(self, "_volatility", Volatility(self.covariance))

    @property
    def volatility(self) -> Volatility:
        """The root of the quadratic form."""
        return self._volatility  # type: ignore[attr-defined]

    def check(self, canvas: Canvas) -> None:
        self.volatility.check(canvas)

    def tangent(self, view: View) -> tuple[float, FloatArray]:
        value, gradient = self.volatility.tangent(view)
        return self.radius * value, self.radius * gradient

    def hessian(self, view: View) -> FloatArray:
        return self.radius * self.volatility.hessian(view)

    def __repr__(self) -> str:
        return f"EllipsoidUncertainty(radius={self.radius:g})"


def _square_root(value: float, product: FloatArray) -> tuple[float, FloatArray]:
    root = float(np.sqrt(max(value, 0.0)))
    return root, product / root if root > 0 else np.zeros_like(product)


def _square_root_bend(matrix: FloatArray, value: float, product: FloatArray) -> FloatArray:
    """Second derivative of the root of a quadratic form, at a small distance from zero where it has none."""
    root = max(float(np.sqrt(max(value, 0.0))), 1e-6 * float(np.sqrt(np.trace(matrix) / len(matrix))))
    return matrix / root - np.outer(product, product) / root**3 if root > 0 else np.zeros_like(matrix)


def _square_root_factored(form: QuadraticForm | None, value: float, product: FloatArray) -> Bend | None:
    """:func:`_square_root_bend` in factored form."""
    if form is None:
        return None
    typical = float(np.sqrt(np.mean(form.variances())))
    if typical == 0:
        return None
    # where there is no volatility it has a kink; what bends at a typical one will do to leave it
    root = max(float(np.sqrt(max(value, 0.0))), 1e-6 * typical) if value > 0 else typical
    wide = np.column_stack([form.root / np.sqrt(root), product / root**1.5])
    return Bend(form.diagonal / root, wide, np.append(np.ones(form.root.shape[1]), -1.0))


def second_moment(scenarios: ScenarioSet, measure: FloatArray) -> FloatArray:
    """Sum of r r' under a measure of the scenarios (N, N)."""
    total = np.zeros((scenarios.n_assets, scenarios.n_assets))
    for part, rows in scenarios.source.blocks():
        weight = measure[part]
        used = np.flatnonzero(weight)
        if len(used):
            chosen = rows[used]
            total += chosen.T @ (chosen * weight[used, None])
    return total


# -- one-sided moments and entropy -------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class SemiDeviation(CurvedTerm):
    r"""Root of the lower semi-variance, :math:`\sqrt{E\,(\tau - r'w)_+^2}`, per scenario horizon.

    Parameters
    ----------
    target
        :math:`\tau`, a return per scenario horizon; the portfolio's own mean :math:`\mu'w` where None.
    scenarios
        Another set over the same assets; the problem's where None.
    """

    target: float | None = None
    scenarios: ScenarioSet | None = None

    def __post_init__(self) -> None:
        check_scenarios(self.scenarios, "SemiDeviation")
        if self.target is not None:
            object.__setattr__(self, "target", checked_number(self.target, "SemiDeviation: target"))

    def tangent(self, view: View) -> tuple[float, FloatArray]:
        chosen = view.scenarios if self.scenarios is None else self.scenarios
        p, losses = chosen.probabilities, view.losses(self.scenarios)
        target = -(p @ losses) if self.target is None else self.target
        short = np.maximum(target + losses, 0.0)
        root = float(np.sqrt(p @ short**2))
        if root == 0.0:
            return 0.0, np.zeros(len(view.weights))
        pull = p * short / root
        if self.target is None:
            pull = pull - p * pull.sum()
        return root, -chosen.source.pull(pull[None])[0]

    def hessian(self, view: View) -> FloatArray:
        chosen = view.scenarios if self.scenarios is None else self.scenarios
        root, gradient = self.tangent(view)
        if root == 0.0:
            return np.zeros((len(gradient), len(gradient)))
        p, losses = chosen.probabilities, view.losses(self.scenarios)
        target = -(p @ losses) if self.target is None else self.target
        measure = np.where(target + losses > 0, p, 0.0)
        total = second_moment(chosen, measure)
        if self.target is None:
            mean = chosen.mean_array()
            cross = np.outer(chosen.source.pull(measure[None])[0], mean)
            total = total - cross - cross.T + measure.sum() * np.outer(mean, mean)
        return total / root - np.outer(gradient, gradient) / root

    def __repr__(self) -> str:
        text = "" if self.target is None else f"target={self.target:g}"
        return f"SemiDeviation({text})"


@dataclass(frozen=True, eq=False)
class EntropicVaR(CurvedTerm):
    r"""Entropic value-at-risk of the loss L, :math:`\min_{z>0} z \ln\big(E\,e^{L/z} / (1-\beta)\big)`.

    The tightest bound on CVaR at the same level that Chernoff's inequality gives (Ahmadi-Javid, 2012); a fraction of
    NAV.
    """

    beta: float = 0.95
    scenarios: ScenarioSet | None = None
    floor: ClassVar[float] = -np.inf

    def __post_init__(self) -> None:
        object.__setattr__(self, "beta", check_beta(self.beta))
        check_scenarios(self.scenarios, "EntropicVaR")

    def tangent(self, view: View) -> tuple[float, FloatArray]:
        chosen = view.scenarios if self.scenarios is None else self.scenarios
        value, tilted, _ = entropic_tail(view.losses(self.scenarios), chosen.probabilities, self.beta)
        return value, -chosen.source.pull(tilted[None])[0]

    def hessian(self, view: View) -> FloatArray:
        chosen = view.scenarios if self.scenarios is None else self.scenarios
        losses = view.losses(self.scenarios)
        _, q, inverse = entropic_tail(losses, chosen.probabilities, self.beta)
        mean = chosen.source.pull(q[None])[0]
        centred = losses - q @ losses
        spread_ = float(q @ centred**2)
        if not np.isfinite(inverse) or spread_ <= 0:
            return np.zeros((len(mean), len(mean)))
        cross = chosen.source.pull((q * centred)[None])[0]
        covariance = second_moment(chosen, q) - np.outer(mean, mean)
        return inverse * (covariance - np.outer(cross, cross) / spread_)

    def __repr__(self) -> str:
        return f"EntropicVaR(beta={self.beta:g})"


def entropic_tail(losses: FloatArray, probabilities: FloatArray, beta: float) -> tuple[float, FloatArray, float]:
    """Entropic value-at-risk, the measure of relative entropy at most -ln(1-beta) that attains it (S,), and 1/z."""
    possible = np.where(probabilities > 0, losses, losses[probabilities > 0].min())
    top, spread_ = float(possible.max()), float(np.ptp(possible))
    mass = float(probabilities[possible >= top].sum())
    limit = -np.log1p(-beta)
    if spread_ == 0.0 or mass >= 1.0 - beta:
        return top, np.where(possible >= top, probabilities / mass, 0.0), np.inf

    def tilt(inverse: float) -> tuple[FloatArray, float, float]:
        weight = probabilities * np.exp(np.maximum((possible - top) * inverse, -745.0))
        total = float(weight.sum())
        q = weight / total
        entropy = float(q @ (possible - top)) * inverse - np.log(total)
        return q, entropy, total

    # the entropy of the tilted measure grows with 1/z; bisection on its logarithm, where it equals the limit
    low, high = np.log(1e-9 / spread_), np.log(1e9 / spread_)
    for _ in range(60):
        middle = 0.5 * (low + high)
        if tilt(np.exp(middle))[1] > limit:
            high = middle
        else:
            low = middle
    inverse = float(np.exp(0.5 * (low + high)))
    q, _, total = tilt(inverse)
    return top + (np.log(total) + limit) / inverse, q, inverse


# -- drawdowns ---------------------------------------------------------------------------------------------------
class Drawdown(CurvedTerm):
    """A share of the drawdowns along one path."""

    path: ScenarioSet | None
    smooth: ClassVar[bool] = False

    def check(self, canvas: Canvas) -> None:
        index = canvas.chosen(self.path).index
        dated = isinstance(index, pd.DatetimeIndex | pd.PeriodIndex)
        if self.path is None and not (dated and index.is_monotonic_increasing):
            raise InputError(
                f"{self!r} needs scenarios that follow each other in time, and the problem's carry no dates in order "
                "(a bootstrap or a simulation has none); pass path=ScenarioSet(history)"
            )

    def tangent(self, view: View) -> tuple[float, FloatArray]:
        chosen = view.scenarios if self.path is None else self.path
        drawdowns, since = self._drawdowns(view.losses(self.path))
        share = self._tail(drawdowns)
        # dD_t/dw is the sum of -r over the time since the peak
        flow = np.zeros(len(share) + 1)
        np.add.at(flow, since, share)
        flow[1:] -= share
        within = np.cumsum(flow)[:-1]  # how much of the tail is under water in each period
        return float(share @ drawdowns), -chosen.source.pull(within[None])[0]

    def hessian(self, view: View) -> FloatArray:
        return np.zeros((len(view.weights), len(view.weights)))

    def _drawdowns(self, losses: FloatArray) -> tuple[FloatArray, np.ndarray]:
        """Drawdown after each period, and the first period since its peak."""
        path = np.concatenate([[0.0], -np.cumsum(losses)])
        peak = np.maximum.accumulate(path)
        at = np.where(path == peak, np.arange(len(path)), 0)
        since = np.maximum.accumulate(at)
        return (peak - path)[1:], since[1:]

    @abstractmethod
    def _tail(self, drawdowns: FloatArray) -> FloatArray:
        """The share of each drawdown (T,) in the measure."""


@dataclass(frozen=True, eq=False)
class ConditionalDrawdown(Drawdown):
    r"""Conditional drawdown-at-risk (Chekhlov, Uryasev & Zabarankin, 2005), as a fraction of the initial NAV.

    The mean of the worst ``1 - beta`` of the drawdowns :math:`D_t = \max_{s \le t} C_s - C_t` of the uncompounded
    cumulative return :math:`C_t = \sum_{s \le t} r_s'w`, :math:`C_0 = 0`, along one path.

    Parameters
    ----------
    beta
        Level in [0, 1): 0 averages all drawdowns.
    path
        Scenarios that follow each other in time; the problem's where None, which then need dates in order. All its
        periods count alike, whatever their probabilities.
    """

    beta: float = 0.95
    path: ScenarioSet | None = None

    def __post_init__(self) -> None:
        beta = checked_number(self.beta, "ConditionalDrawdown: beta", least=0.0)
        object.__setattr__(self, "beta", beta if beta == 0.0 else check_beta(beta))
        check_scenarios(self.path, "ConditionalDrawdown")

    def _tail(self, drawdowns: FloatArray) -> FloatArray:
        even = np.full(len(drawdowns), 1.0 / len(drawdowns))
        return even if self.beta == 0.0 else tail(drawdowns, even, self.beta).weights

    def __repr__(self) -> str:
        return f"ConditionalDrawdown(beta={self.beta:g})"


@dataclass(frozen=True, eq=False)
class MaxDrawdown(Drawdown):
    r"""Largest drawdown :math:`\max_t D_t` of the uncompounded cumulative return, as a fraction of the initial NAV.

    Parameters
    ----------
    path
        As for :class:`ConditionalDrawdown`.
    """

    path: ScenarioSet | None = None

    def __post_init__(self) -> None:
        check_scenarios(self.path, "MaxDrawdown")

    def _tail(self, drawdowns: FloatArray) -> FloatArray:
        share = np.zeros(len(drawdowns))
        share[int(drawdowns.argmax())] = 1.0
        return share

    def __repr__(self) -> str:
        return "MaxDrawdown()"


# -- costs and penalties -----------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class PowerCost(CurvedTerm):
    r"""Market impact :math:`\sum_i c_i |w_i - h_i|^{a}`, as a fraction of NAV; a = 3/2 is the square-root law.

    Parameters
    ----------
    coefficient
        :math:`c_i`, cost as a fraction of NAV of a trade of the whole NAV; one number, or one per asset.
    exponent
        a, from above 1 to 2.
    """

    coefficient: PerAsset
    exponent: float = 1.5
    trades: ClassVar[bool] = True

    def __post_init__(self) -> None:
        exponent = checked_number(self.exponent, "PowerCost: exponent", above=1.0)
        if exponent > 2.0:
            raise InputError(f"PowerCost: exponent must be at most 2, was {exponent:g}")
        object.__setattr__(self, "exponent", exponent)

    def check(self, canvas: Canvas) -> None:
        rate = spread(self.coefficient, canvas, f"{type(self).__name__}.coefficient")
        if (rate < 0).any():
            raise InputError(f"{self!r}: the coefficient is negative for {some(canvas.assets[rate < 0])}")

    def tangent(self, view: View) -> tuple[float, FloatArray]:
        c, d = ordered(self, "coefficient", view.scenarios.assets), view.trades()
        value = float(c @ np.abs(d) ** self.exponent)
        return value, self.exponent * c * np.abs(d) ** (self.exponent - 1.0) * np.sign(d)

    def hessian(self, view: View) -> FloatArray:
        return np.diag(self.bend(view).diagonal)

    def bend(self, view: View) -> Bend:
        c, d = ordered(self, "coefficient", view.scenarios.assets), np.maximum(np.abs(view.trades()), 1e-6)
        return _of_each(self.exponent * (self.exponent - 1.0) * c * d ** (self.exponent - 2.0))

    def size(self, view: View) -> float:
        return 1e-4

    def __repr__(self) -> str:
        return f"PowerCost(exponent={self.exponent:g})"


def _of_each(diagonal: FloatArray) -> Bend:
    """A second derivative that is a diagonal."""
    return Bend(diagonal, np.zeros((len(diagonal), 0)), np.zeros(0))


@dataclass(frozen=True, eq=False)
class Ridge(CurvedTerm):
    r"""Quadratic penalty :math:`\sum_i c_i (w_i - w^0_i)^2`, which spreads weights.

    Parameters
    ----------
    strength
        :math:`c_i`; one number, or one per asset.
    centre
        :math:`w^0` by asset; zero where None.
    """

    strength: PerAsset = 1.0
    centre: Labelled | None = None
    quadratic: ClassVar[bool] = True

    def check(self, canvas: Canvas) -> None:
        rate = spread(self.strength, canvas, "Ridge.strength")
        if (rate < 0).any():
            raise InputError(f"Ridge: the strength is negative for {some(canvas.assets[rate < 0])}")
        if self.centre is not None:
            labelled(self.centre, canvas, "Ridge.centre")

    def tangent(self, view: View) -> tuple[float, FloatArray]:
        assets = view.scenarios.assets
        c = ordered(self, "strength", assets)
        d = view.weights if self.centre is None else view.weights - ordered(self, "centre", assets)
        return float(c @ d**2), 2.0 * c * d

    def hessian(self, view: View) -> FloatArray:
        return np.diag(self.bend(view).diagonal)

    def bend(self, view: View) -> Bend:
        return _of_each(2.0 * ordered(self, "strength", view.scenarios.assets))

    def size(self, view: View) -> float:
        return 1e-4

    def __repr__(self) -> str:
        return "Ridge()"


@dataclass(frozen=True, eq=False)
class EuclideanNorm(CurvedTerm):
    r"""Euclidean length of the weights, :math:`\lVert w \rVert_2`."""

    def check(self, canvas: Canvas) -> None:
        """It looks at weights alone."""

    def tangent(self, view: View) -> tuple[float, FloatArray]:
        length = float(np.linalg.norm(view.weights))
        return length, view.weights / length if length > 0 else np.zeros(len(view.weights))

    def hessian(self, view: View) -> FloatArray:
        length = max(float(np.linalg.norm(view.weights)), 1e-6)
        direction = view.weights / length
        return (np.eye(len(direction)) - np.outer(direction, direction)) / length

    def size(self, view: View) -> float:
        return 1.0

    def __repr__(self) -> str:
        return "EuclideanNorm()"


@dataclass(frozen=True, eq=False)
class LogGrowth(CurvedTerm):
    r"""Expected logarithmic growth :math:`E \ln(1 + r'w)` per scenario horizon (Kelly, 1956): a reward.

    Infinitely bad where a scenario would lose everything.
    """

    scenarios: ScenarioSet | None = None
    curvature: ClassVar[Curvature] = "concave"
    floor: ClassVar[float] = -np.inf

    def __post_init__(self) -> None:
        check_scenarios(self.scenarios, "LogGrowth")

    def value(self, view: View) -> float:
        p = (view.scenarios if self.scenarios is None else self.scenarios).probabilities
        wealth = 1.0 - view.losses(self.scenarios)
        live = p > 0
        return float(p[live] @ np.log(wealth[live])) if (wealth[live] > 0).all() else -np.inf

    def tangent(self, view: View) -> tuple[float, FloatArray]:
        """Of the negative, which is convex."""
        chosen = view.scenarios if self.scenarios is None else self.scenarios
        p = chosen.probabilities
        wealth = 1.0 - view.losses(self.scenarios)
        live = p > 0
        if not (wealth[live] > 0).all():
            return np.inf, np.zeros(len(view.weights))
        ratio = np.divide(p, wealth, out=np.zeros_like(p), where=live)
        return -float(p[live] @ np.log(wealth[live])), -chosen.source.pull(ratio[None])[0]

    def hessian(self, view: View) -> FloatArray:
        chosen = view.scenarios if self.scenarios is None else self.scenarios
        p, wealth = chosen.probabilities, 1.0 - view.losses(self.scenarios)
        return second_moment(chosen, np.divide(p, wealth**2, out=np.zeros_like(p), where=p > 0))

    def __repr__(self) -> str:
        return "LogGrowth()"


@dataclass(frozen=True, eq=False)
class RobustCVaR(Term):
    r"""Worst CVaR over all distributions within a Wasserstein distance of the scenarios, as a fraction of NAV.

    :math:`\mathrm{CVaR}_\beta(-Rw) + \tfrac{\epsilon}{1-\beta} \lVert w \rVert_*` for type-1 balls, with
    :math:`\lVert \cdot \rVert_*` dual to the norm that measures how far a scenario is moved (Mohajerin Esfahani &
    Kuhn, 2018).

    Parameters
    ----------
    beta
        Confidence level in (0, 1).
    radius
        :math:`\epsilon`, mean distance by which scenarios may be moved, in units of return.
    norm
        Of the move: 1 (one asset at a time; dual: largest weight), 2, or ``"inf"`` (all assets by as much; dual: gross
        weight).
    """

    beta: float = 0.95
    radius: float = 0.0
    norm: int | str = 2

    def __post_init__(self) -> None:
        object.__setattr__(self, "beta", check_beta(self.beta))
        object.__setattr__(self, "radius", checked_number(self.radius, "RobustCVaR: radius", least=0.0))
        if self.norm not in (1, 2, "inf"):
            raise InputError(f"RobustCVaR: norm must be 1, 2 or 'inf', was {self.norm!r}")
        object.__setattr__(self, "_length", EuclideanNorm())

    @property
    def factor(self) -> float:
        """What the dual norm of the weights is multiplied by."""
        return self.radius / (1.0 - self.beta)

    @property
    def length(self) -> EuclideanNorm:
        """The dual norm where `norm` is 2."""
        return self._length  # type: ignore[attr-defined]

    def shape(self, canvas: Canvas) -> Shape:
        shape = canvas.tail_mean(self.beta, None)
        if self.radius == 0.0:
            return shape
        if self.norm == 2:
            return shape + self.length.shape(canvas) * self.factor
        if self.norm == "inf":
            return shape + canvas.distance(np.full(canvas.n, self.factor), np.zeros(canvas.n))
        return shape + Shape(canvas.largest_weight()) * self.factor

    def value(self, view: View) -> float:
        order = {1: np.inf, 2: 2, "inf": 1}[self.norm]
        return view.tail(self.beta).cvar + self.factor * float(np.linalg.norm(view.weights, order))

    def __repr__(self) -> str:
        return f"RobustCVaR(beta={self.beta:g}, radius={self.radius:g}, norm={self.norm})"

"""Measures as cvxpy expressions, each from its mathematical definition."""

from __future__ import annotations

from fractions import Fraction
from functools import singledispatch
from typing import Any

import numpy as np

from portfolioopt.errors import InputError
from portfolioopt.problem import (
    ActiveShare,
    ActiveVariance,
    BorrowCost,
    ConditionalDrawdown,
    CVaR,
    EllipsoidUncertainty,
    EntropicVaR,
    ExpectedReturn,
    ExpectedShortfallBelow,
    GrossExposure,
    LogGrowth,
    LongExposure,
    MaxDrawdown,
    MeanAbsoluteDeviation,
    MeanUncertainty,
    NetExposure,
    PowerCost,
    ProportionalCost,
    Ridge,
    RobustCVaR,
    SemiDeviation,
    ShortExposure,
    SpectralRisk,
    TrackingError,
    TradedAmount,
    Variance,
    Volatility,
    WorstCase,
    WorstLoss,
)
from portfolioopt.problem.curved import EuclideanNorm
from portfolioopt.problem.terms import Expression, Term

from .model import Model

SIMPLE = 64  # exponents that are fractions with denominators up to this become second-order cones


@singledispatch
def translate(term: Term, model: Model) -> Any:
    """The term as an expression in its own units, convex or concave like the term.

    Auxiliary variables are held to their meaning by inequalities, so that they may be slack where nothing pushes: the
    value of an expression after a solve is the measure's own only where the measure is what is optimised.
    """
    raise InputError(f"{term!r} has no translation to cvxpy; add it by extra_objective or extra_constraints")


def total(measure: Expression, model: Model) -> Any:
    """A weighted sum of terms."""
    return sum((c * translate(term, model) for c, term in measure.parts), model.cp.Constant(0.0))


# -- rewards and piecewise linear risks --------------------------------------------------------------------------
@translate.register(ExpectedReturn)
def _(term: ExpectedReturn, model: Model) -> Any:
    mean = model.mean if term.mean is None else model.aligned(term.mean, "ExpectedReturn.mean")
    return mean @ model.w


@translate.register(CVaR)
def _(term: CVaR, model: Model) -> Any:
    R, p = model.live(term.scenarios)
    losses = -R @ model.w
    if term.benchmark is not None:
        losses = losses + R @ model.aligned(term.benchmark, "CVaR.benchmark")
    return model.unit * model.tail_mean(losses, p, term.beta)


@translate.register(SpectralRisk)
def _(term: SpectralRisk, model: Model) -> Any:
    R, p = model.live(term.scenarios)
    losses = -R @ model.w
    return model.unit * sum(share * model.tail_mean(losses, p, beta) for beta, share in term.weights.items())


@translate.register(WorstLoss)
def _(term: WorstLoss, model: Model) -> Any:
    R, _ = model.live(term.scenarios)
    return model.unit * model.cp.max(-R @ model.w)


@translate.register(WorstCase)
def _(term: WorstCase, model: Model) -> Any:
    top = model.cp.Variable()
    scale = max(model.term_size(measure) for measure in term.measures)
    model.rules += [translate(measure, model) / scale <= top for measure in term.measures]
    return scale * top


@translate.register(MeanAbsoluteDeviation)
def _(term: MeanAbsoluteDeviation, model: Model) -> Any:
    R, p = model.live(term.scenarios)
    return model.unit * (p @ model.cp.abs((R - p @ R) @ model.w))


@translate.register(ExpectedShortfallBelow)
def _(term: ExpectedShortfallBelow, model: Model) -> Any:
    R, p = model.live(term.scenarios)
    return model.unit * (p @ model.cp.pos(term.target / model.unit - R @ model.w))


# -- exposures ---------------------------------------------------------------------------------------------------
@translate.register(GrossExposure)
def _(term: GrossExposure, model: Model) -> Any:
    return model.member(term.assets).astype(float) @ model.cp.abs(model.w)


@translate.register(LongExposure)
def _(term: LongExposure, model: Model) -> Any:
    return model.member(term.assets).astype(float) @ model.cp.pos(model.w)


@translate.register(ShortExposure)
def _(term: ShortExposure, model: Model) -> Any:
    return model.member(term.assets).astype(float) @ model.cp.neg(model.w)


@translate.register(NetExposure)
def _(term: NetExposure, model: Model) -> Any:
    return model.member(term.assets).astype(float) @ model.w


@translate.register(ActiveShare)
def _(term: ActiveShare, model: Model) -> Any:
    return 0.5 * model.cp.norm1(model.w - model.aligned(term.benchmark, "ActiveShare.benchmark"))


@translate.register(MeanUncertainty)
def _(term: MeanUncertainty, model: Model) -> Any:
    return model.spread(term.box, "MeanUncertainty.box") @ model.cp.abs(model.w)


# -- costs -------------------------------------------------------------------------------------------------------
@translate.register(ProportionalCost)
def _(term: ProportionalCost, model: Model) -> Any:
    buy = model.spread(term.bps, "ProportionalCost.bps") / 1e4
    sell = buy if term.sell is None else model.spread(term.sell, "ProportionalCost.sell") / 1e4
    return buy @ model.cp.pos(model.trades) + sell @ model.cp.neg(model.trades)


@translate.register(BorrowCost)
def _(term: BorrowCost, model: Model) -> Any:
    return model.spread(term.bps, "BorrowCost.bps") / 1e4 @ model.cp.neg(model.w)


@translate.register(TradedAmount)
def _(term: TradedAmount, model: Model) -> Any:
    atom = {"both": model.cp.abs, "buy": model.cp.pos, "sell": model.cp.neg}[term.side]
    return model.cp.sum(atom(model.trades))


@translate.register(PowerCost)
def _(term: PowerCost, model: Model) -> Any:
    cp, a = model.cp, term.exponent
    rate = model.spread(term.coefficient, "PowerCost.coefficient")
    if a == 2.0:
        return rate @ cp.square(model.trades)
    simple = Fraction(a).limit_denominator(SIMPLE)
    if abs(float(simple) - a) <= 1e-12:
        return rate @ cp.power(cp.abs(model.trades), simple)
    top = cp.Variable(model.n)  # |x| <= top**(1/a) * 1**(1 - 1/a)
    model.rules.append(cp.PowCone3D(top, np.ones(model.n), model.trades, 1.0 / a))
    return rate @ top


@translate.register(Ridge)
def _(term: Ridge, model: Model) -> Any:
    centre = np.zeros(model.n) if term.centre is None else model.aligned(term.centre, "Ridge.centre")
    root = np.sqrt(model.spread(term.strength, "Ridge.strength"))
    return model.cp.sum_squares(model.cp.multiply(root, model.w - centre))


# -- covariance --------------------------------------------------------------------------------------------------
def _deviation(term: Variance, model: Model, x: Any) -> tuple[Any, float]:
    """A vector z and a scale s with ``s |z| = sqrt(x' Sigma x)``; the covariance itself is never formed."""
    form = term.form(model.scenarios)
    if form is None:
        R, p = model.live(term.scenarios)
        root = model.unit * np.asarray(np.linalg.qr(np.sqrt(p)[:, None] * (R - p @ R), mode="r"))
        diagonal = np.zeros(model.n)
    else:
        # rows that are orthogonal: conic solvers get further with them than with the rows of a Cholesky factor
        left, singular, _ = np.linalg.svd(form.root, full_matrices=False)
        root, diagonal = (left * singular).T, np.sqrt(form.diagonal)
    scale = float(np.sqrt((np.square(root).sum(axis=0) + diagonal**2).max(initial=0.0))) or 1.0
    pieces = [root / scale @ x] if len(root) else []
    if diagonal.any():
        pieces.append(model.cp.multiply(diagonal / scale, x))
    return (model.cp.hstack(pieces) if pieces else model.cp.Constant(np.zeros(1))), scale


@translate.register(Variance)
def _(term: Variance, model: Model) -> Any:
    z, scale = _deviation(term, model, model.w)
    return scale**2 * model.cp.sum_squares(z)


@translate.register(Volatility)
def _(term: Volatility, model: Model) -> Any:
    z, scale = _deviation(term, model, model.w)
    return scale * model.cp.norm2(z)


@translate.register(TrackingError)
def _(term: TrackingError, model: Model) -> Any:
    assert term.benchmark is not None
    z, scale = _deviation(term, model, model.w - model.aligned(term.benchmark, "TrackingError.benchmark"))
    return scale * model.cp.norm2(z)


@translate.register(ActiveVariance)
def _(term: ActiveVariance, model: Model) -> Any:
    active = model.w - model.aligned(term.targets, "ActiveVariance.targets")
    z, scale = _deviation(Variance(term.covariance), model, active)
    return scale**2 * model.cp.sum_squares(z)


@translate.register(EllipsoidUncertainty)
def _(term: EllipsoidUncertainty, model: Model) -> Any:
    z, scale = _deviation(Variance(term.covariance), model, model.w)
    return term.radius * scale * model.cp.norm2(z)


@translate.register(EuclideanNorm)
def _(term: EuclideanNorm, model: Model) -> Any:
    return model.cp.norm2(model.w)


# -- one-sided moments, entropy, growth --------------------------------------------------------------------------
@translate.register(SemiDeviation)
def _(term: SemiDeviation, model: Model) -> Any:
    R, p = model.live(term.scenarios)
    short = -(R - p @ R) @ model.w if term.target is None else term.target / model.unit - R @ model.w
    return model.unit * model.cp.norm2(model.cp.multiply(np.sqrt(p), model.cp.pos(short)))


@translate.register(EntropicVaR)
def _(term: EntropicVaR, model: Model) -> Any:
    # min t - z ln(1 - beta) over z >= 0 and t with E z exp((L - t) / z) <= z
    cp = model.cp
    R, p = model.live(term.scenarios)
    z, t, v = cp.Variable(nonneg=True), cp.Variable(), cp.Variable(len(p))
    model.rules += [cp.ExpCone(-R @ model.w - t, z * np.ones(len(p)), v), p @ v <= z]
    return model.unit * (t - np.log1p(-term.beta) * z)


@translate.register(LogGrowth)
def _(term: LogGrowth, model: Model) -> Any:
    R, p = model.live(term.scenarios)
    return p @ model.cp.log(1.0 + model.unit * R @ model.w)


@translate.register(RobustCVaR)
def _(term: RobustCVaR, model: Model) -> Any:
    R, p = model.live(None)
    cvar = model.unit * model.tail_mean(-R @ model.w, p, term.beta)
    dual = {1: model.cp.norm_inf, 2: model.cp.norm2, "inf": model.cp.norm1}[term.norm]
    return cvar + term.radius / (1.0 - term.beta) * dual(model.w)


# -- drawdowns ---------------------------------------------------------------------------------------------------
def _drawdowns(term: ConditionalDrawdown | MaxDrawdown, model: Model) -> Any:
    """``D_t >= D_{t-1} - r_t'w`` and ``D_t >= 0``, from ``D_0 = 0``, in units (T,)."""
    R = model.returns(term.path)
    down = model.cp.Variable(len(R), nonneg=True)
    model.rules.append(down >= model.cp.hstack([0.0, down[:-1]]) - R @ model.w)
    return down


@translate.register(ConditionalDrawdown)
def _(term: ConditionalDrawdown, model: Model) -> Any:
    down = _drawdowns(term, model)
    even = np.full(down.size, 1.0 / down.size)
    return model.unit * (even @ down if term.beta == 0.0 else model.tail_mean(down, even, term.beta))


@translate.register(MaxDrawdown)
def _(term: MaxDrawdown, model: Model) -> Any:
    return model.unit * model.cp.max(_drawdowns(term, model))

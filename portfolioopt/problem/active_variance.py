"""Squared tracking error as a term of the problem language."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.estimate import FactorCovariance
from portfolioopt.estimate.quadratic import QuadraticForm
from portfolioopt.labels import FloatArray, align

from .curved import Bend, CurvedTerm
from .lowering import Canvas
from .terms import View


class ActiveVariance(CurvedTerm):
    r"""Variance of the active return, :math:`(w - t)'\Sigma(w - t)`, per scenario horizon.

    Where the targets t maximise :math:`\mu'w - \lambda w'\Sigma w`, being elsewhere loses exactly :math:`\lambda` times
    it. Unlike the tracking error, its root, it has no kink at the targets, so that small deviations hardly count.

    Parameters
    ----------
    targets
        t by asset, fractions of NAV.
    covariance
        :math:`\Sigma` by asset, a frame or a :class:`FactorCovariance`.
    """

    quadratic: ClassVar[bool] = True

    def __init__(self, targets: pd.Series | Mapping[str, float], covariance: pd.DataFrame | FactorCovariance) -> None:
        if not isinstance(covariance, pd.DataFrame | FactorCovariance):
            raise InputError("ActiveVariance: covariance must be a frame by asset or a FactorCovariance")
        self.targets = targets
        self.covariance = covariance
        self._kept: tuple[pd.Index, QuadraticForm, FloatArray] | None = None

    def _over(self, assets: pd.Index) -> tuple[QuadraticForm, FloatArray]:
        if self._kept is None or self._kept[0] is not assets:
            centre = align(self.targets, assets, what="ActiveVariance.targets")
            self._kept = assets, QuadraticForm(self.covariance, assets, "ActiveVariance"), centre
        return self._kept[1], self._kept[2]

    def check(self, canvas: Canvas) -> None:
        """Refuse labels that do not match the problem's."""
        self._over(canvas.assets)

    def tangent(self, view: View) -> tuple[float, FloatArray]:
        """Value and gradient."""
        form, centre = self._over(view.scenarios.assets)
        value, product = form(view.weights - centre)
        return value, 2.0 * product

    def hessian(self, view: View) -> FloatArray:
        """Twice the covariance."""
        return 2.0 * self._over(view.scenarios.assets)[0].dense()

    def bend(self, view: View) -> Bend:
        """The same in factored form."""
        form = self._over(view.scenarios.assets)[0]
        return Bend(2.0 * form.diagonal, np.sqrt(2.0) * form.root, np.ones(form.root.shape[1]))

    def size(self, view: View) -> float:
        """A typical value, for scaling."""
        return view.scenarios.source.root_mean_square**2

    def __repr__(self) -> str:
        return "ActiveVariance(targets=...)"

r"""Optimal weights as a differentiable JAX function of what a problem is made of.

The optimum of a problem whose risks and costs are piecewise linear is a vertex: it does not move at all while the data
move a little, and then jumps. Its derivative is zero wherever there is one. What is offered here is the optimum of a
smooth problem next to it, with a stated distance :math:`s` (`smoothing`):

* every loss beyond the value-at-risk and every amount traded is rounded,
  :math:`(e)_+ \to \tfrac12 (e + \sqrt{e^2 + 4 \varepsilon^2})`, with :math:`\varepsilon = s` times the root mean square
  return for losses, and :math:`s / N` of NAV for trades;
* bounds, limits and caps are kept by logarithmic barriers of weight :math:`s / N` times the largest coefficient of the
  objective, so the weights stay strictly inside.

The optimum of that problem moves smoothly and tends to the original one as s goes to zero; its objective is then worse
by about s in relative terms. Derivatives are those of the smooth problem, exact to rounding, by the implicit function
theorem on the solver's own factorisation (`portfolioopt_kernels.implicit`). A small s gives weights close to the
optimum and derivatives that are large in a few places and next to zero in most; a large s gives something like an
average over nearby problems.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import pandas as pd
from jax import Array
from jaxtyping import ArrayLike

from portfolioopt.errors import InputError, StalledError, unknown_names
from portfolioopt.problem import Problem
from portfolioopt_kernels import implicit, scaling

from . import inputs

FloatArray: TypeAlias = npt.NDArray[np.float64]

_find = jax.jit(implicit.find)


class SolutionMap:
    """Smoothed optimal weights (N,) as a function of named inputs. Made by :func:`solution_map`.

    Call it with a mapping from input names to arrays shaped like those in `base`; inputs left out keep their value. It
    is a pure JAX function: `jax.grad`, `jax.jacfwd`, `jax.jacrev`, `jax.vmap` and `jax.jit` apply to whatever it is
    part of. It works in 64 bits and has to be called with them on, ``with jax.enable_x64(True):``; the library never
    switches them on globally. Where the limits leave no room the weights are NaN.
    """

    __slots__ = (
        "_evaluate",
        "_inputs",
        "_scale",
        "_smoothing",
        "_start",
        "assets",
        "base",
        "iterations",
        "smoothing",
        "weights",
    )

    def __init__(self, found: inputs.Inputs, assets: pd.Index, smoothing: float) -> None:
        n = len(assets)
        self.assets = assets
        """Labels of the weights."""
        self.smoothing = smoothing
        """s, relative."""
        self.base: dict[str, FloatArray] = found.base
        """The inputs and their values in the problem."""
        self._inputs = found
        self._scale = scaling.Scale(*(np.asarray(size, dtype=np.float64) for size in scaling.measure(found.compiled)))
        self._smoothing = implicit.Smoothing(*np.array([smoothing, smoothing / n, smoothing / n]))
        with jax.enable_x64(True):
            program = jax.tree.map(jnp.asarray, scaling.divide(found.compiled, self._scale))
            answer = jax.tree.map(np.asarray, _find(program, self._smoothing))
        if not answer.converged:
            raise StalledError(
                f"there is no smoothed optimum at smoothing={smoothing:g}: the limits leave no room inside them, or "
                "the objective is unbounded. A smaller smoothing needs less room; optimize(problem) names what clashes"
            )
        self._start: implicit.Centre = answer.centre
        self._evaluate = jax.jit(self._weights)  # or each call outside of a jit would compile the loop anew
        self.iterations = int(answer.iterations)
        """Newton steps from a cold start; from here on, every call begins at this optimum."""
        self.weights = pd.Series(answer.centre.weights[:n], index=assets, name="weight")
        """Smoothed optimal weights at the values of the problem."""

    def _checked(self, values: Mapping[str, Any] | None) -> dict[str, Array]:
        """The given inputs as arrays of the right shapes."""
        if not jax.config.jax_enable_x64:  # pyright: ignore[reportAttributeAccessIssue]
            raise InputError(
                "gradients work in 64 bits, and JAX is set to 32 here: call inside `with jax.enable_x64(True):`"
            )
        given = dict(values or {})
        unknown = [name for name in given if name not in self.base]
        if unknown:
            raise unknown_names("input", unknown, self.base)
        arrays = {}
        for name, value in given.items():
            array = jnp.asarray(value, dtype=jnp.float64)
            wanted = self.base[name].shape
            if array.shape not in (wanted, ()):
                raise InputError(f"{name} has shape {array.shape}; here it is {wanted}, or one number for all entries")
            arrays[name] = jnp.broadcast_to(array, wanted)
        return arrays

    def __call__(self, values: Mapping[str, ArrayLike] | None = None) -> Array:
        """Smoothed optimal weights (N,), float64, at the given inputs."""
        return self._evaluate(self._checked(values))

    def _weights(self, arrays: dict[str, Array]) -> Array:
        smoothing = implicit.Smoothing(*(jnp.asarray(value) for value in self._smoothing))
        start = jax.tree.map(jnp.asarray, self._start)
        program = jax.tree.map(jnp.asarray, scaling.divide(self._inputs.program(arrays), self._scale))
        return implicit.centre(program, smoothing, start).weights[: len(self.assets)]

    def jacobian(self, name: str, values: Mapping[str, ArrayLike] | None = None) -> pd.DataFrame:
        """Derivative of every weight (rows) in every entry of an input (columns), per unit of it.

        For `returns` that is one column per scenario and asset: better take `jax.grad` of a number that is of interest.
        """
        if name not in self.base:
            raise unknown_names("input", [name], self.base)
        with jax.enable_x64(True):
            given = dict(values or {})
            at = jnp.asarray(given.get(name, self.base[name]), dtype=jnp.float64)
            few = at.size <= len(self.assets)
            derivative = (jax.jacfwd if few else jax.jacrev)(lambda value: self({**given, name: value}))
            table = np.asarray(jax.jit(derivative)(at)).reshape(len(self.assets), -1)
        labels = self._inputs.labels[name]
        return pd.DataFrame(table, index=self.assets, columns=[name] if table.shape[1] == 1 else labels)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {value.shape}" for name, value in self.base.items())
        return f"SolutionMap({shapes} -> weights ({len(self.assets)},), smoothing={self.smoothing:g})"


def solution_map(problem: Problem, wrt: Sequence[str], *, smoothing: float = 1e-3) -> SolutionMap:
    """Optimal weights as a differentiable function of the named inputs.

    ::

        weights = solution_map(problem, ["mean", "CVaR.weight"])
        with jax.enable_x64(True):
            jax.grad(lambda aversion: weights({"CVaR.weight": aversion})[0])(3.0)

    Parameters
    ----------
    problem
        With its scenarios in memory and without measures that are not piecewise linear or constraints that count.
    wrt
        Names of inputs, those of :func:`sweep` where they are numbers: ``"CVaR.weight"``, ``"Turnover.limit"``,
        ``"Budget.total"``, ``"CVaRLimit(0.99).limit"`` and so on (numbers); ``"Bounds.upper"``, ``"TradeLimit.limit"``,
        ``"ProportionalCost.bps"``, ``"ExpectedReturn.mean"``, ``"holdings"`` (one per asset, N);
        ``"GroupLimit.upper"`` (one per label that has a limit); ``"returns"`` (S, N) and ``"probabilities"``
        (S,), which are divided by their sum. ``"mean"`` (N,) stands for all expected returns, in the objective and in
        return targets. Expected returns that the problem takes from its scenarios follow `returns` and `probabilities`.
        Factor loadings and whatever else makes scenarios come in by the chain rule: make `returns` a JAX function of
        them.
    smoothing
        s, the distance from the original problem, relative; about what the objective is worse by, relatively. See the
        module's text for what is rounded.

    Raises
    ------
    InputError
        For unknown names, and for what cannot be differentiated, naming it.
    StalledError
        Where the smooth problem has no optimum: contradicting limits, or limits that leave no room inside them.
    """
    if not (isinstance(smoothing, Real) and 0.0 < smoothing <= 1.0):
        raise InputError(f"smoothing must be a number in (0, 1], was {smoothing!r}; 1e-3 is a good start")
    with jax.enable_x64(True):
        found = inputs.read(problem, wrt)
    return SolutionMap(found, problem.scenarios.assets, float(smoothing))

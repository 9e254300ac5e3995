r"""Fit the dials of a strategy by gradient: risk aversion, robustness radius, shrinkage, confidence in views.

A dial :math:`\theta` decides the portfolio, :math:`w(\theta)`, and the portfolio decides a loss on data that were not
used for it. :func:`fit` lowers the mean loss over windows by following :math:`dw/d\theta` from
:class:`~portfolioopt.gradient.SolutionMap`. :func:`walk_forward` cuts a history into windows that never look ahead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
from jax import Array
from jaxtyping import ArrayLike

from portfolioopt.errors import InputError, StalledError

Parameters = TypeVar("Parameters")
Loss: TypeAlias = Callable[[Any, Any], Array]


class Positive(eqx.Module):
    r"""A positive number or array, kept as its logarithm: :math:`\theta = e^x`."""

    log: Array | np.ndarray

    def __init__(self, value: ArrayLike) -> None:
        array = np.asarray(value, dtype=np.float64)
        if not (array > 0).all() or not np.isfinite(array).all():
            raise InputError(f"a Positive parameter must start at a positive number, was {value!r}")
        self.log = np.log(array)

    @property
    def value(self) -> Array:
        """The number itself."""
        return jnp.exp(self.log)


class Fraction(eqx.Module):
    r"""A number or array between zero and one, kept as its log-odds: :math:`\theta = 1 / (1 + e^{-x})`."""

    logit: Array | np.ndarray

    def __init__(self, value: ArrayLike) -> None:
        array = np.asarray(value, dtype=np.float64)
        if not ((array > 0) & (array < 1)).all():
            raise InputError(f"a Fraction parameter must start strictly between 0 and 1, was {value!r}")
        self.logit = np.log(array) - np.log1p(-array)

    @property
    def value(self) -> Array:
        """The number itself."""
        return jax.nn.sigmoid(self.logit)


class Split(NamedTuple):
    """Rows of one window: weights are made of `train` and judged on `test`, which comes later."""

    train: slice
    test: slice


def walk_forward(rows: int, *, train: int, test: int, step: int | None = None, gap: int = 0) -> list[Split]:
    """Cut `rows` consecutive rows into windows that never look ahead.

    Parameters
    ----------
    rows
        Length of the history.
    train, test
        Rows that weights are made of, and rows after them on which they are judged.
    step
        Rows from one window to the next; `test` where None, so that every row is judged at most once.
    gap
        Rows left out between the two, where returns overlap or arrive late.

    Raises
    ------
    InputError
        For lengths below one, and for a history too short for one window.
    """
    stride = test if step is None else step
    for what, value, least in (("train", train, 1), ("test", test, 1), ("step", stride, 1), ("gap", gap, 0)):
        if value < least:
            raise InputError(f"{what} must be at least {least}, was {value}")
    first = range(0, rows - train - gap - test + 1, stride)
    if not len(first):
        raise InputError(f"a history of {rows} rows is too short for one window of {train} + {gap} + {test} rows")
    return [Split(slice(i, i + train), slice(i + train + gap, i + train + gap + test)) for i in first]


@dataclass(frozen=True, eq=False)
class Fit(Generic[Parameters]):
    """What :func:`fit` returns."""

    parameters: Parameters
    """Those of the step with the least mean loss over the fitting windows."""
    history: pd.DataFrame
    """By step: `loss`, `held_out` (NaN without held-out windows), the length of the gradient, and every parameter."""
    step: int
    """The step the parameters are from; 0 is where they started."""


def fit(
    parameters: Parameters,
    loss: Callable[[Parameters, Any], Array],
    windows: Any,
    *,
    held_out: Any = None,
    optimiser: optax.GradientTransformation | None = None,
    steps: int = 40,
    progress: bool = False,
) -> Fit[Parameters]:
    """Lower the mean of ``loss(parameters, window)`` over windows, by gradient.

    Everything runs in 64 bits, whatever JAX is set to.

    Parameters
    ----------
    parameters
        Where to begin: an equinox module or any tree of :class:`Positive`, :class:`Fraction` and float arrays.
    loss
        A JAX function of parameters and one window to a number that is to be small, typically through a
        :class:`~portfolioopt.gradient.SolutionMap`.
    windows
        Arrays with a leading axis of windows, in any tree: for the returns that weights are made of and those that they
        are judged on, ``(history[train], history[test])`` stacked.
    held_out
        More windows of the same form, later ones. Their loss is recorded; nothing is chosen by it.
    optimiser
        From optax; Adam at a rate of 0.1 where None.
    steps
        Steps to take.
    progress
        Show a progress bar.

    Raises
    ------
    InputError
        For windows of different lengths.
    StalledError
        Where loss or gradient are not numbers, naming the step: a window's limits leave no room, for example.
    """
    rule = optax.adam(0.1) if optimiser is None else optimiser
    for what, tree in (("windows", windows), ("held_out", held_out)):
        lengths = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(tree)}
        if len(lengths) > 1 or () in lengths:
            raise InputError(f"{what} must be arrays with one leading axis of windows; their lengths are {lengths}")
    with jax.enable_x64(True):
        dynamic, static = eqx.partition(jax.tree.map(_float, parameters), eqx.is_inexact_array)
        windows, held_out = jax.tree.map(jnp.asarray, (windows, held_out))

        count = len(jax.tree.leaves(windows)[0])
        # both kinds in one loop, because a solver takes seconds to compile
        together = windows if held_out is None else jax.tree.map(lambda *a: jnp.concatenate(a), windows, held_out)

        def mean_loss(dynamic: Any, windows: Any) -> tuple[Array, Array]:
            whole = eqx.combine(dynamic, static)
            # one window after the other: each solve stops when it is done, not when the slowest is
            losses = jax.lax.map(lambda window: loss(whole, window), windows)
            later = jnp.nan if held_out is None else jnp.mean(losses[count:])
            return jnp.mean(losses[:count]), jnp.asarray(later)

        @jax.jit
        def move(dynamic: Any, state: Any, windows: Any) -> tuple[Any, Any, Array, Array, Array]:
            (value, later), gradient = jax.value_and_grad(mean_loss, has_aux=True)(dynamic, windows)
            updates, state = rule.update(gradient, state, dynamic)
            return optax.apply_updates(dynamic, updates), state, value, later, _length(gradient)

        state = rule.init(dynamic)
        best, best_value, best_step = dynamic, np.inf, 0
        records = []
        for step in _counted(steps + 1, progress):
            ahead, state, value, later, slope = move(dynamic, state, together)
            if not (np.isfinite(float(value)) and np.isfinite(float(slope))):
                raise StalledError(
                    f"loss {float(value):g} and gradient {float(slope):g} at step {step} are not both numbers: in some "
                    "window there is no smoothed optimum (the limits leave no room), or the loss itself is undefined"
                )
            record = {"loss": float(value), "held_out": float(later), "gradient": float(slope)}
            records.append(record | _named(eqx.combine(dynamic, static)))
            if float(value) < best_value:
                best, best_value, best_step = dynamic, float(value), step
            dynamic = ahead
        found = jax.tree.map(np.asarray, best)
    history = pd.DataFrame(records).rename_axis("step")
    return Fit(eqx.combine(found, static), history, best_step)


def _length(tree: Any) -> Array:
    return jnp.sqrt(sum((jnp.sum(leaf * leaf) for leaf in jax.tree.leaves(tree)), start=jnp.zeros(())))


def _float(leaf: Any) -> Any:
    return jnp.asarray(leaf, dtype=jnp.float64) if eqx.is_inexact_array_like(leaf) else leaf


def _counted(steps: int, progress: bool) -> Any:
    if not progress:
        return range(steps)
    from rich.progress import track

    return track(range(steps), description="fitting")


def _named(parameters: Any) -> dict[str, float]:
    """Every number in a tree of parameters by where it is, in its own units."""
    domains = (Positive, Fraction)
    leaves, _ = jax.tree_util.tree_flatten_with_path(parameters, is_leaf=lambda leaf: isinstance(leaf, domains))
    numbers: dict[str, float] = {}
    for path, leaf in leaves:
        if not isinstance(leaf, domains) and not eqx.is_inexact_array(leaf):
            continue
        name = jax.tree_util.keystr(path, simple=True, separator=".") or "parameter"
        values = np.asarray(leaf.value if isinstance(leaf, domains) else leaf)
        for place in np.ndindex(values.shape):
            label = name if not place else f"{name}[{', '.join(map(str, place))}]"
            numbers[label] = float(values[place])
    return numbers

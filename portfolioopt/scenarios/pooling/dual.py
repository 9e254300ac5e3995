r"""The dual of entropy pooling and its minimum; arrays only, for many sets of rows on the same functions at once.

With functions F (k, S) and, for one set of rows, a transform A (k, m) and targets b (m,), the rows are
:math:`c = A'F - b` and the dual is :math:`D(\theta) = \ln \sum_s q_s e^{\theta' c_s}`. A pass over F costs O(S k) per
set and reads F once for all sets; curvature costs O(S k^2), so it is first taken from a sample of the scenarios,
brought up to date by the gradients (BFGS), and computed anew only where that does not converge fast.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.intp]

MET: Final = 1e-10  # violation of a view that is accepted, in standard deviations of what the view is on
_ENOUGH: Final = 3e-13  # violation at which Newton stops at once
_ROUGH: Final = 1e-2  # on a sample of the scenarios, which only gives a start
_STEPS: Final = 300
_BLOCK: Final = 65_536  # numbers of F in a block, which then stays in cache until the gradient is taken as well
_SAMPLE: Final = 8192  # scenarios that give the start where there are several times as many
APART: Final = 1e-9  # margin by which rows have to exclude each other to be called contradictory


@dataclass(frozen=True)
class Rows:
    """One set of rows; ``A'F - b`` has mean zero under the posterior, or one that is not negative."""

    transform: FloatArray  # A (k, m); every row has a prior standard deviation near one
    target: FloatArray  # b (m,)
    inequality: BoolArray  # (m,)


@dataclass(frozen=True)
class Minimum:
    """Where the projected Newton method ended."""

    theta: FloatArray  # (m,)
    dual: float  # D: minus the lower bound of the relative entropy
    violation: float
    hessian: FloatArray | None  # (m, m), as it was last known

    @property
    def met(self) -> bool:
        """Whether all rows are met as well as is asked for."""
        return self.violation <= MET


class _Point(NamedTuple):
    """The dual at some theta."""

    dual: float
    highest: float  # exponent without the prior
    gradient: FloatArray  # (m,)


class _Ask(NamedTuple):
    """What a descent wants to know next: the dual at theta, or its curvature there."""

    theta: FloatArray
    curvature: float | None = None  # D at theta where curvature is wanted


_Descent = Generator[_Ask, _Point | FloatArray, Minimum | None]


def minima(
    functions: FloatArray, q: FloatArray, sets: Sequence[Rows], starts: Sequence[FloatArray | None] | None = None
) -> list[Minimum | None]:
    """Minimise the dual of each set of rows over theta (m,), not negative at inequalities.

    Parameters
    ----------
    functions
        F (k, S).
    q
        Prior probabilities (S,), all positive, summing to one.
    sets
        Rows on these functions.
    starts
        Multipliers to begin at; found on a sample of the scenarios where None.

    Returns
    -------
    list
        None where the multipliers prove that no probabilities meet the rows.
    """
    begin: list[FloatArray | None] = [None] * len(sets) if starts is None else list(starts)
    curvature: list[FloatArray | None] = [None] * len(sets)
    if starts is None and len(q) >= 6 * _SAMPLE:
        begin, curvature = _from_samples(functions, q, sets)
    return _run(functions, q, sets, begin, curvature, enough=_ENOUGH)


def _from_samples(
    functions: FloatArray, q: FloatArray, sets: Sequence[Rows]
) -> tuple[list[FloatArray | None], list[FloatArray | None]]:
    """Multipliers and curvature to begin with, from samples of the scenarios.

    Sets whose rows are on the same functions follow the first of them: it is solved on a sample of the prior, then on
    one that the result guides, and there the others begin where it ended.
    """
    starts: list[FloatArray | None] = [None] * len(sets)
    curvatures: list[FloatArray | None] = [None] * len(sets)
    leader: dict[bytes, int] = {}
    leads = [leader.setdefault((rows.transform != 0.0).tobytes(), i) for i, rows in enumerate(sets)]
    ahead = list(leader.values())
    kept, p = _sample(q, None, _SAMPLE // 2)  # rough, so fewer will do
    none = [None] * len(ahead)
    begun = _run(functions[:, kept], p, [sets[i] for i in ahead], none, none, enough=_ROUGH)
    exponent = np.full(len(q), -np.inf)
    for i, found in zip(ahead, begun, strict=True):
        if found is not None and found.violation <= _ROUGH:
            starts[i] = found.theta
            own = (sets[i].transform @ found.theta) @ functions - sets[i].target @ found.theta
            np.maximum(exponent, own, out=exponent)
    if all(start is None for start in starts):
        return starts, curvatures
    kept, p = _sample(q, exponent, _SAMPLE)
    sample = functions[:, kept]
    followers = [i for i, lead in enumerate(leads) if lead != i]
    for some in (ahead, followers):
        some = [i for i in some if starts[leads[i]] is not None]
        begin, known = [starts[leads[i]] for i in some], [curvatures[leads[i]] for i in some]
        again = _run(sample, p, [sets[i] for i in some], begin, known, enough=0.01 * _ROUGH)
        for i, found in zip(some, again, strict=True):
            if found is not None and found.hessian is not None and found.violation <= _ROUGH:
                seen = bool((found.hessian.diagonal() > 1e-3).all())  # all functions vary within the sample
                starts[i], curvatures[i] = found.theta, found.hessian if seen else None
    return starts, curvatures


def _sample(q: FloatArray, exponent: FloatArray | None, size: int) -> tuple[IntArray, FloatArray]:
    """Every n-th scenario with its share of the probability, and all of those with the largest exponents.

    What a sample lacks where exponents are large moves its multipliers the most.
    """
    count = len(q)
    if exponent is None:
        kept, sure = np.arange(0, count, count // size), 0
    else:
        order = np.argpartition(exponent, count - size)
        sure = size
        kept = np.concatenate(
            [np.sort(order[: count - size])[:: (count - size) // size], np.sort(order[count - size :])]
        )
    p = q[kept]
    rest = len(p) - sure
    p[:rest] *= (1.0 - p[rest:].sum()) / p[:rest].sum()
    return kept, p / p.sum()


def _run(
    functions: FloatArray,
    q: FloatArray,
    sets: Sequence[Rows],
    starts: Sequence[FloatArray | None],
    curvatures: Sequence[FloatArray | None],
    *,
    enough: float,
) -> list[Minimum | None]:
    """Let all descents go on side by side: what they ask for together is one pass over the functions."""
    log_q = np.log(q)
    found: list[Minimum | None] = [None] * len(sets)
    going: dict[int, _Descent] = {}
    asks: dict[int, _Ask] = {}
    for i, (rows, start, hessian) in enumerate(zip(sets, starts, curvatures, strict=True)):
        going[i] = _descent(rows, start, hessian, enough)
        asks[i] = next(going[i])
    while asks:
        points = [i for i, ask in asks.items() if ask.curvature is None]
        answers: dict[int, _Point | FloatArray] = {}
        if points:
            phi = np.stack([sets[i].transform @ asks[i].theta for i in points])
            shift = np.array([sets[i].target @ asks[i].theta for i in points])
            duals, highest, means = _pass(functions, log_q, phi, shift)
            for i, dual, high, mean in zip(points, duals, highest, means, strict=True):
                answers[i] = _Point(float(dual), float(high), mean @ sets[i].transform - sets[i].target)
        for i, ask in asks.items():
            if ask.curvature is not None:
                answers[i] = _hessian(functions, log_q, sets[i], ask.theta, ask.curvature)
        asks = {}
        for i, answer in answers.items():
            try:
                asks[i] = going[i].send(answer)
            except StopIteration as end:
                found[i] = end.value
    return found


def posterior(functions: FloatArray, q: FloatArray, sets: Sequence[Rows], thetas: Sequence[FloatArray]) -> FloatArray:
    """Posterior probabilities (B, S) of sets of rows at their multipliers."""
    out = np.empty((len(sets), len(q)))
    for p, rows, theta in zip(out, sets, thetas, strict=True):
        if not theta.any():
            p[:] = q
            continue
        np.dot(rows.transform @ theta, functions, out=p)
        p += np.log(q)
        p -= p.max()
        np.exp(p, out=p)
        p /= p.sum()
    return out


def _pass(
    functions: FloatArray, log_q: FloatArray, phi: FloatArray, shift: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """D (B,), highest exponents (B,) and posterior means of the functions (B, k) at exponents ``phi F - shift``."""
    sets, k = phi.shape
    width = _width(max(sets, k))
    top = np.full(sets, -np.inf)  # of exponents with the prior, so far
    highest = np.full(sets, -np.inf)
    total, means = np.zeros(sets), np.zeros((sets, k))
    for first in range(0, functions.shape[1], width):
        part = functions[:, first : first + width]
        exponent = phi @ part
        np.maximum(highest, exponent.max(axis=1), out=highest)
        exponent += log_q[first : first + width]
        new = np.maximum(top, exponent.max(axis=1))
        fade = np.exp(top - new)
        top = new
        exponent -= top[:, None]
        np.exp(exponent, out=exponent)
        total = total * fade + exponent.sum(axis=1)
        means = means * fade[:, None] + exponent @ part.T
    return top - shift + np.log(total), highest - shift, means / total[:, None]


def _hessian(functions: FloatArray, log_q: FloatArray, rows: Rows, theta: FloatArray, dual: float) -> FloatArray:
    """Covariance of the rows under the posterior (m, m)."""
    used = np.flatnonzero(rows.transform.any(axis=1))
    every = len(used) == len(functions)
    transform = rows.transform[used]
    phi, shift = transform @ theta, float(rows.target @ theta) + dual
    k, width = len(used), _width(len(used))
    second, first_moment = np.zeros((k, k)), np.zeros(k)
    about = functions[used, :width].mean(axis=1)  # near the mean, so that nothing cancels
    for first in range(0, functions.shape[1], width):
        block = slice(first, first + width)
        part = functions[:, block] if every else functions[used, block]
        root = np.exp(0.5 * (phi @ part + (log_q[block] - shift)))
        part = part - about[:, None]
        part *= root
        second += part @ part.T
        first_moment += part @ root
    second -= np.outer(first_moment, first_moment)
    return transform.T @ second @ transform


def _width(k: int) -> int:
    return max(256, _BLOCK // max(k, 1))


def _descent(rows: Rows, start: FloatArray | None, hessian: FloatArray | None, enough: float) -> _Descent:
    """The projected Newton method for one set of rows; yields what it wants to know."""
    inequality = rows.inequality
    theta = np.zeros(len(inequality)) if start is None else start
    at = yield _Ask(theta)
    assert isinstance(at, _Point)
    if start is not None and not at.dual <= 0.0:  # worse than no multipliers at all
        theta, hessian = np.zeros(len(inequality)), None
        at = yield _Ask(theta)
        assert isinstance(at, _Point)
    fresh = False  # whether the curvature is that of theta
    for _ in range(_STEPS):
        if at.highest < -APART * float(np.abs(theta).sum()):
            return None
        error = _error(theta, at.gradient, inequality)
        if error <= enough:
            break
        if hessian is None:
            answer = yield _Ask(theta, at.dual)
            assert isinstance(answer, np.ndarray)
            hessian, fresh = answer, True
        gradient = at.gradient
        pinned = inequality & (theta <= min(1e-3, error)) & (gradient > 0.0)
        step = np.where(pinned, -theta, 0.0)
        free = np.flatnonzero(~pinned)
        step[free] = _step(hessian[np.ix_(free, free)], theta[free], gradient[free], inequality[free])
        length, short = 1.0, False
        while True:
            trial = theta + length * step
            trial[inequality] = np.maximum(trial[inequality], 0.0)
            new = yield _Ask(trial)
            assert isinstance(new, _Point)
            promised = float(length * -(gradient[free] @ step[free]) + gradient[pinned] @ (theta - trial)[pinned])
            if new.dual <= at.dual - 1e-4 * promised and promised > 1e-13:
                break
            if promised <= 1e-11 and _error(trial, new.gradient, inequality) < 0.9 * error:
                break  # the dual is at its rounding: go by the gradient
            length *= 0.5
            if length < (1e-8 if fresh else 0.2):
                short = True
                break
        if short:
            if fresh:
                break
            hessian = None
            continue
        slow = length < 1.0 or _error(trial, new.gradient, inequality) > 0.2 * error
        hessian = None if slow else _updated(hessian, trial - theta, new.gradient - gradient)
        theta, at, fresh = trial, new, False
    return Minimum(theta, at.dual, _violation(at.gradient, inequality), hessian)


def _updated(hessian: FloatArray, moved: FloatArray, change: FloatArray) -> FloatArray:
    """The BFGS update: curvature that agrees with the change of the gradient."""
    pull = hessian @ moved
    bent, along = float(moved @ pull), float(moved @ change)
    if bent <= 0.0 or along <= 1e-8 * float(np.linalg.norm(moved) * np.linalg.norm(change)):
        return hessian
    return hessian - np.outer(pull, pull) / bent + np.outer(change, change) / along


def _step(hessian: FloatArray, theta: FloatArray, gradient: FloatArray, inequality: BoolArray) -> FloatArray:
    """Newton's step; first, where D is linear along some direction, a step down it to where a multiplier is zero.

    D is linear along combinations of rows that are constant: two limits on the same mean, say.
    """
    k = len(theta)
    moving = np.arange(k)
    step = np.zeros(k)
    while len(moving):
        values, vectors = np.linalg.eigh(hessian[np.ix_(moving, moving)])
        enough = values > 1e-14 * values[-1]
        curved, slope = vectors[:, enough], gradient[moving]
        along = curved.T @ slope
        flat = -(slope - curved @ along)
        size = float(np.abs(flat).max())
        if size <= 0.1 * MET:
            step[moving] = -curved @ (along / values[enough])
            break
        falls = inequality[moving] & (flat < -1e-12 * size)
        room = theta[moving][falls]
        if (room <= 0.0).any():
            stuck = np.flatnonzero(falls)[room <= 0.0]
            moving = np.delete(moving, stuck)
            continue
        length = max(1.0, 10.0 * float(np.abs(theta).max())) / size
        step[moving] = flat * min(length, float((room / -flat[falls]).min(initial=np.inf)))
        break
    return step


def _error(theta: FloatArray, gradient: FloatArray, inequality: BoolArray) -> float:
    """Distance from optimality: violations, and slack at positive multipliers."""
    return float(np.abs(np.where(inequality, np.minimum(theta, gradient), gradient)).max(initial=0.0))


def _violation(gradient: FloatArray, inequality: BoolArray) -> float:
    return float(np.where(inequality, np.maximum(-gradient, 0.0), np.abs(gradient)).max(initial=0.0))


def violation(functions: FloatArray, rows: Rows, p: FloatArray) -> float:
    """Largest violation of rows by probabilities (S,)."""
    return _violation((functions @ p) @ rows.transform - rows.target, rows.inequality)

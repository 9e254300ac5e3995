r"""CVaR views: the value-at-risk levels under which they cost the least relative entropy.

With loss L, :math:`\alpha = 1 - \beta`, and value-at-risk t, a CVaR of c is three linear conditions,

.. math:: E (L - t)_+ = \alpha (c - t), \qquad P(L > t) \le \alpha \le P(L \ge t) ,

and t, one of the losses in the scenarios, is searched for the least relative entropy (Meucci, Ardia & Keel 2011, "Fully
flexible extreme views", J. of Risk 14, there with whole scenarios in the tail).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from ..tail import tail
from .dual import FloatArray, Minimum, Rows, minima
from .posed import TailView

_ROUNDS: Final = 20  # of the search where there are several CVaR views


def tail_rows(view: TailView, t: float, q: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Functions (3, S), values (3,) and scales (3,) of a CVaR view at the value-at-risk t; the last two are >= 0."""
    functions = np.empty((3, len(q)))
    np.maximum(view.losses - t, 0.0, out=functions[0])
    functions[1] = view.losses >= t
    functions[2] = view.losses > t
    values = np.array([view.alpha * (view.value - t), view.alpha, view.alpha])
    mean = functions @ q
    deviation = np.sqrt(((functions - mean[:, None]) ** 2) @ q)
    largest = np.abs(functions).max(axis=1)
    size = np.maximum(largest, np.abs(values))
    scales = np.where(deviation > 1e-13 * size, deviation, size)
    scales[scales == 0.0] = 1.0
    scales[2] *= -1.0
    return functions, values, scales


def labels(view: TailView) -> list[str]:
    """What the three rows of a CVaR view are called."""
    return [view.label, f"{view.label}: in the tail", f"{view.label}: beyond its VaR"]


class Search:
    """The levels of CVaR views with the least relative entropy, one view after the other.

    Parameters
    ----------
    matrix
        Functions of the other views, with three rows for each CVaR view to be filled (k + 3T, S).
    rows
        Rows of the other views on the first k functions.
    """

    def __init__(self, matrix: FloatArray, rows: Rows, tails: Sequence[TailView], q: FloatArray) -> None:
        self.matrix, self.base, self.tails, self.q = matrix, rows, tails, q
        self.rows = rows
        self._seen: dict[tuple[int, ...], Minimum | None] = {}
        self._start: FloatArray | None = None

    def run(self, p: FloatArray, theta: FloatArray) -> tuple[Minimum | None, Rows]:
        """Begin at the posterior (S,) and multipliers under the other views."""
        ranks: list[int] = []
        for view in self.tails:
            worst = tail(view.losses, p, 1.0 - view.alpha)
            level = worst.var + view.value - worst.cvar  # the whole tail shifted
            ranks.append(int(np.clip(np.searchsorted(view.levels, level), 0, len(view.levels) - 1)))
        self._start = np.append(theta, np.zeros(3 * len(self.tails)))
        if not np.isfinite(self._cost(tuple(ranks))):
            ranks = self._reachable(ranks)
        for _ in range(_ROUNDS):
            before = list(ranks)
            for i, view in enumerate(self.tails):

                def along(rank: int, i: int = i) -> float:
                    return self._cost((*ranks[:i], rank, *ranks[i + 1 :]))

                ranks[i] = _valley(along, ranks[i], len(view.levels))
            if ranks == before or len(self.tails) == 1:
                break
        best = self._solved(tuple(ranks))
        self._fill(tuple(ranks))
        return best, self.rows

    def _fill(self, at: tuple[int, ...]) -> None:
        """Write the functions at these levels, and the rows on them."""
        k, m = self.base.transform.shape
        more = 3 * len(self.tails)
        transform = np.zeros((k + more, m + more))
        transform[:k, :m] = self.base.transform
        target = np.append(self.base.target, np.zeros(more))
        for i, (view, rank) in enumerate(zip(self.tails, at, strict=True)):
            functions, values, scales = tail_rows(view, float(view.levels[rank]), self.q)
            self.matrix[k + 3 * i : k + 3 * i + 3] = functions
            for j in range(3):
                transform[k + 3 * i + j, m + 3 * i + j] = 1.0 / scales[j]
                target[m + 3 * i + j] = values[j] / scales[j]
        kinds = np.concatenate([self.base.inequality, np.tile([False, True, True], len(self.tails))])
        self.rows = Rows(transform, target, kinds)

    def _solved(self, at: tuple[int, ...]) -> Minimum | None:
        if at not in self._seen:
            self._fill(at)
            found = minima(self.matrix, self.q, [self.rows], [self._start])[0]
            if found is not None and found.met:
                self._start = found.theta
                self._seen[at] = found
            else:
                self._seen[at] = None
        return self._seen[at]

    def _cost(self, at: tuple[int, ...]) -> float:
        found = self._solved(at)
        return np.inf if found is None else -found.dual

    def _reachable(self, ranks: list[int]) -> list[int]:
        """Levels at which the views can be met, where the first guess is none: view by view, on ever finer grids."""
        for parts in (8, 64):
            for i, view in enumerate(self.tails):
                for rank in np.unique(np.linspace(0, len(view.levels) - 1, parts + 1).astype(int))[::-1]:
                    at = [*ranks[:i], int(rank), *ranks[i + 1 :]]
                    if np.isfinite(self._cost(tuple(at))):
                        return at
        return ranks


def _valley(f: Callable[[int], float], start: int, count: int) -> int:
    """The whole number in [0, count) with the least f, where f falls before it and rises after; f(start) is finite."""
    best = start
    low, high = -1, count
    step = max(count // 64, 1)
    for way in (-1, 1):
        reach = step
        while low < best + way * reach < high:
            probe = best + way * reach
            if f(probe) < f(best):
                if way > 0:
                    low = best
                else:
                    high = best
                best, reach = probe, 2 * reach
            else:
                if way > 0:
                    high = probe
                else:
                    low = probe
                break
    while high - low > 2:
        left, right = best - low, high - best
        probe = best - max(1, int(0.382 * left)) if left > right else best + max(1, int(0.382 * right))
        if f(probe) < f(best):
            low, high = (low, best) if probe < best else (best, high)
            best = probe
        elif probe < best:
            low = probe
        else:
            high = probe
    return best

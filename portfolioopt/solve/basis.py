"""A vertex named by what lies at its kinks, independent of how a kernel numbers things."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

IntArray: TypeAlias = npt.NDArray[np.intp]

SCENARIO, ASSET, ROW, CAP = 0, 1, 2, 3
_PIN = 2
_KINKS = 3  # lower bound, upper bound, pin; then one reference per L1 block


@dataclass(frozen=True)
class Basis:
    """The N + M elements that determine a vertex: for each its family, which one of several, and its item.

    `which` is the CVaR block of a scenario, the kind of kink of an asset, the side of a row, the block of a cap;
    `item` is the scenario, the asset or the row.
    """

    family: IntArray
    which: IntArray
    item: IntArray

    @property
    def scenarios(self) -> IntArray:
        """Scenarios at their kink, sorted, each once."""
        return np.unique(self.item[self.family == SCENARIO])

    def renumbered(self, new: IntArray) -> Basis:
        """The same vertex where scenario s is now called ``new[s]``; -1 for one that is gone (no vertex then)."""
        item = self.item.copy()
        tied = self.family == SCENARIO
        item[tied] = new[item[tied]]
        return Basis(self.family, self.which, item)


@dataclass(frozen=True)
class Numbering:
    """How a padded kernel program numbers its elements (see the `vertex` kernel)."""

    scenarios: int
    assets: int
    blocks: int
    l1_blocks: int
    rows: int

    @property
    def size(self) -> int:
        """Elements in a basis."""
        return self.assets + self.blocks

    def _starts(self) -> tuple[int, int, int]:
        kinks = self.blocks * self.scenarios
        rows = kinks + (_KINKS + self.l1_blocks) * self.assets
        return kinks, rows, rows + 2 * self.rows

    def encode(self, basis: Basis, position: IntArray, assets: int) -> IntArray | None:
        """Kernel numbers (n,) of a basis of a program with `assets` assets, fewer than the padded one.

        position[s] is where scenario s is among the kernel's scenarios, -1 where it is not; a missing one gives way to
        the pin of an asset that nothing holds. None where that is no basis.
        """
        kinks, rows, caps = self._starts()
        item = basis.item
        tied = basis.family == SCENARIO
        where = item.copy()
        where[tied] = np.where(item[tied] >= 0, position[item[tied]], -1)
        gone = np.flatnonzero(tied & (where < 0))
        loose = np.setdiff1d(np.arange(assets), item[basis.family == ASSET])
        if len(gone) > len(loose):
            return None
        code = np.select(
            [tied, basis.family == ASSET, basis.family == ROW],
            [
                basis.which * self.scenarios + where,
                kinks + basis.which * self.assets + where,
                rows + basis.which * self.rows + where,
            ],
            caps + basis.which,
        )
        code[gone] = kinks + _PIN * self.assets + loose[: len(gone)]
        padding = kinks + np.arange(assets, self.assets)  # at their lower bound
        code = np.concatenate([code, padding])
        return code if len(code) == self.size else None

    def decode(self, code: IntArray, scenarios: IntArray, assets: int) -> Basis:
        """The basis behind kernel numbers; scenarios[k] is the name of the kernel's scenario k."""
        kinks, rows, caps = self._starts()
        code = np.asarray(code, dtype=np.intp)
        family = np.select([code < kinks, code < rows, code < caps], [SCENARIO, ASSET, ROW], CAP)
        base = np.choose(family, [0, kinks, rows, caps])
        stride = np.choose(family, [max(self.scenarios, 1), self.assets, max(self.rows, 1), 1])
        which, item = np.divmod(code - base, stride)
        tied = family == SCENARIO
        item[tied] = scenarios[item[tied]]
        real = (family != ASSET) | (item < assets)
        return Basis(family[real], which[real], item[real])

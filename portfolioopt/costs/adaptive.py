r"""A cost model that learns from executions by how much another one is wrong.

The forecast of the base model is multiplied by :math:`\theta_i` for asset i. With realised and forecast costs
:math:`y_k, x_k` of an execution (see `calibrate`) and noise of standard deviation :math:`\nu\sigma_k`, each execution
has the information :math:`u_k = x_k^2 / (\nu\sigma_k)^2` about the multiple. Old information fades by a factor
:math:`\rho = 2^{-1/h}` with every execution,

.. math:: W \leftarrow \rho W + u_k, \qquad A \leftarrow \rho A + u_k\, y_k / x_k ,

for all assets together (pool) and for each asset of its own executions. The prior is a normal law about
:math:`\theta_0` with weight :math:`\kappa = 1/s^2`, and that of an asset one about the pool with :math:`\kappa_a`:

.. math:: \hat\theta = \frac{\kappa\theta_0 + A}{\kappa + W}, \qquad
          \hat\theta_i = \frac{\kappa_a\theta + A_i}{\kappa_a + W_i} .

What is used, :math:`\theta` and :math:`\theta_i`, follows these estimates by steps of at most a factor :math:`1 + b`
per execution and stays between two bounds, so that no single execution moves it by more than that.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.labels import FloatArray, checked_number
from portfolioopt.problem import Expression

from .calibration import outcomes
from .model import CostModel, Parts
from .quotes import Quotes

POOL = "(pool)"  # the row of all assets together
_COLUMNS = ["information", "pull", "multiple", "executions"]


@dataclass(frozen=True, eq=False)
class AdaptiveCostModel(CostModel):
    """The costs of trading of another model, times multiples learned from executions by asset.

    It never changes: `learn` gives the model that knows more. The mathematics is at the head of the module.

    Parameters
    ----------
    base
        What is multiplied: spread and impact. Commissions and holding costs are known, and are added outside.
    prior
        Multiple before anything was seen; that of a `Calibration`, for instance.
    prior_deviation
        s, standard error of it: the prior weight is one over its square.
    asset_deviation
        Standard deviation of the multiples of assets about the pool's.
    noise
        Standard deviation of an execution's cost about its forecast, as a part of the daily volatility. An order
        worked evenly over a day has 0.58, one done in an hour less.
    half_life
        h, number of executions after which information counts half.
    largest_step
        b, largest relative change of a multiple by one execution.
    bounds
        Smallest and largest multiple.
    state
        What was learned, as `state` of another model with the same settings; nothing where None.
    """

    base: CostModel
    prior: float = 1.0
    prior_deviation: float = 0.5
    asset_deviation: float = 0.25
    noise: float = 0.3
    half_life: float = 200.0
    largest_step: float = 0.1
    bounds: tuple[float, float] = (0.1, 10.0)
    state: pd.DataFrame | None = None

    def __post_init__(self) -> None:
        who = "AdaptiveCostModel"
        if not isinstance(self.base, CostModel):
            raise InputError(f"{who}: base must be a cost model, was {type(self.base).__name__}")
        for name in ("prior", "prior_deviation", "asset_deviation", "noise", "half_life", "largest_step"):
            object.__setattr__(self, name, checked_number(getattr(self, name), f"{who}: {name}", above=0.0))
        if not (isinstance(self.bounds, tuple) and len(self.bounds) == 2):
            raise InputError(f"{who}: bounds must be the smallest and the largest multiple, was {self.bounds!r}")
        least = checked_number(self.bounds[0], f"{who}: the smallest multiple", above=0.0)
        checked_number(self.bounds[1], f"{who}: the largest multiple", above=least)
        if not self.bounds[0] <= self.prior <= self.bounds[1]:
            raise InputError(f"{who}: prior={self.prior:g} lies outside bounds={self.bounds!r}")
        object.__setattr__(self, "state", self._checked_state())

    def _checked_state(self) -> pd.DataFrame:
        if self.state is None:
            return pd.DataFrame([[0.0, 0.0, self.prior, 0]], index=pd.Index([POOL], name="asset"), columns=_COLUMNS)
        state = self.state
        sound = (
            isinstance(state, pd.DataFrame)
            and list(state.columns) == _COLUMNS
            and len(state) > 0
            and state.index[0] == POOL
            and not state.index.has_duplicates
            and bool(np.isfinite(state.to_numpy(dtype=float)).all())
            and bool((state[["information", "executions"]] >= 0).all(axis=None))
            and bool(state["multiple"].between(*self.bounds).all())
        )
        if not sound:
            raise InputError(
                "AdaptiveCostModel: state must be that of another model: a frame with one row for the pool and "
                f"one for each asset, columns {', '.join(_COLUMNS)}"
            )
        return state.copy()

    # -- learning ------------------------------------------------------------------------------------------------
    def learn(self, executions: pd.DataFrame) -> AdaptiveCostModel:
        """The model that has seen these executions too, in the order of their rows; columns as for `calibrate`.

        Raises
        ------
        InputError
            Where any of them is missing something or impossible; nothing is learned from the others then either.
        """
        seen = outcomes(executions, self.base, "AdaptiveCostModel.learn")
        if POOL in seen.assets:
            raise InputError(f"AdaptiveCostModel.learn: {POOL!r} is the name of all assets together, not of one")
        fade = 2.0 ** (-1.0 / self.half_life)
        weight = (seen.forecast / (self.noise * seen.volatility)) ** 2
        pull = weight * seen.realised / seen.forecast
        assert self.state is not None
        rows = {asset: list(row) for asset, row in zip(self.state.index, self.state.to_numpy(dtype=float), strict=True)}
        pool = rows[POOL]
        for asset, u, a in zip(seen.assets, weight, pull, strict=True):
            self._update(pool, u, a, fade, self.prior, self.prior_deviation)
            own = rows.setdefault(asset, [0.0, 0.0, pool[2], 0.0])
            self._update(own, u, a, fade, pool[2], self.asset_deviation)
        index = pd.Index(list(rows), name="asset")
        state = pd.DataFrame(list(rows.values()), index=index, columns=_COLUMNS).astype({"executions": int})
        return replace(self, state=state)

    def _update(self, row: list[float], u: float, a: float, fade: float, centre: float, deviation: float) -> None:
        """One execution more for the pool or an asset: information, pull, multiple in use, count."""
        row[0], row[1] = fade * row[0] + u, fade * row[1] + a
        prior = 1.0 / deviation**2
        estimate = (prior * centre + row[1]) / (prior + row[0])
        used = float(np.clip(estimate, row[2] / (1.0 + self.largest_step), row[2] * (1.0 + self.largest_step)))
        row[2], row[3] = float(np.clip(used, *self.bounds)), row[3] + 1

    def multiples(self) -> pd.DataFrame:
        """What was learned: a row ``(pool)`` for all together and one for each asset seen.

        ``multiple`` in use, ``standard_error`` of the estimate it follows (of the pool's, or of the asset's about the
        pool's), and the number of ``executions``.
        """
        assert self.state is not None
        prior = np.full(len(self.state), 1.0 / self.asset_deviation**2)
        prior[0] = 1.0 / self.prior_deviation**2
        error = 1.0 / np.sqrt(prior + self.state["information"])
        return pd.DataFrame(
            {"multiple": self.state["multiple"], "standard_error": error, "executions": self.state["executions"]}
        )

    def multiple(self, assets: pd.Index) -> FloatArray:
        """Multiple in use for each of these assets (N,), the pool's for those never seen."""
        assert self.state is not None
        learned = self.state["multiple"]
        found = learned.iloc[1:].reindex(assets)
        return found.fillna(float(learned.iloc[0])).to_numpy(dtype=np.float64)

    # -- charging ------------------------------------------------------------------------------------------------
    def traded(self, quotes: Quotes, quantity: FloatArray) -> Parts:
        scale = self.multiple(quotes.assets)
        return {name: scale * money for name, money in self.base.traded(quotes, quantity).items()}

    def held(self, quotes: Quotes, quantity: FloatArray, days: float) -> Parts:
        return self.base.held(quotes, quantity, days)

    def planned(self, quotes: Quotes, nav: float, scale: FloatArray) -> list[Expression]:
        return self.base.planned(quotes, nav, scale * self.multiple(quotes.assets))

    def expected(self, quotes: Quotes, days: float) -> list[Expression]:
        return self.base.expected(quotes, days)

    def convex_part(self) -> AdaptiveCostModel:
        return replace(self, base=self.base.convex_part())

    def __repr__(self) -> str:
        assert self.state is not None
        return f"AdaptiveCostModel({self.base!r}, {int(self.state['executions'].iloc[0])} executions)"

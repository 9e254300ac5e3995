"""What a strategy sees when it is asked for a target: the past, its book, and nothing else."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeAlias, TypeVar

import numpy as np
import pandas as pd

from portfolioopt.costs import CostModel
from portfolioopt.data import MarketData
from portfolioopt.data.checks import date_text
from portfolioopt.errors import InputError, unknown_names
from portfolioopt.labels import FloatArray
from portfolioopt.problem import Expression, Problem
from portfolioopt.solve import Result

T = TypeVar("T")
Labelled: TypeAlias = tuple[FloatArray, pd.Index]

Target: TypeAlias = "Problem | Result | pd.Series | None"


class Moment:
    """The close of a session as a strategy sees it.

    Everything here was known at that close; asking for more is an error.
    """

    __slots__ = (
        "_holdings",
        "_market",
        "_memory",
        "_quotes",
        "_targets",
        "_training",
        "cash",
        "costs",
        "date",
        "last",
        "nav",
        "run_seed",
        "sample_seed",
    )

    def __init__(
        self,
        date: pd.Timestamp,
        market: MarketData | None,
        *,
        holdings: pd.Series | Labelled,
        nav: float,
        cash: float,
        sample_seed: int,
        run_seed: int = 0,
        targets: pd.Series | Labelled | None = None,
        last: Result | None = None,
        costs: CostModel | None = None,
        quotes: pd.DataFrame | None = None,
        memory: dict[Hashable, Any] | None = None,
        training: pd.DataFrame | None = None,
    ) -> None:
        self.date = date
        """The session."""
        self._market = market
        self._memory: dict[Hashable, Any] = {} if memory is None else memory
        self._training = training
        self._quotes = quotes
        self._holdings = holdings
        self.nav = nav
        """Net asset value in account currency."""
        self.cash = cash
        """Cash in account currency."""
        self.sample_seed = sample_seed
        """A seed for this session, the same for all runs on the same history: what is drawn with it is repeatable."""
        self.run_seed = run_seed
        """A seed for the whole history, for random numbers that stay the same from session to session."""
        self._targets = targets
        self.last = last
        """Result behind the last targets, for a warm start; None where there was none."""
        self.costs = costs
        """What trades are charged; None where they are free."""

    @property
    def holdings(self) -> pd.Series:
        """Weights after drift, as fractions of NAV, of what is held (zero for other assets that are known)."""
        if not isinstance(self._holdings, pd.Series):
            self._holdings = _series(self._holdings)
        return self._holdings

    @property
    def targets(self) -> pd.Series | None:
        """The strategy's last targets; None the first time."""
        if self._targets is not None and not isinstance(self._targets, pd.Series):
            self._targets = _series(self._targets)
        return self._targets

    @property
    def first(self) -> bool:
        """Whether the strategy has had no target yet."""
        return self._targets is None

    @property
    def market(self) -> MarketData:
        """The market as of this close."""
        if self._market is None:
            raise InputError("a strategy that is cross-validated sees returns only: use moment.returns(...)")
        return self._market

    @property
    def session(self) -> int:
        """Number of sessions that are known, this one included; 0 where the past is a sample of rows."""
        return 0 if self._training is not None else len(self.market.dates)

    def returns(
        self, window: int | None = None, *, assets: pd.Index | list[str] | None = None, complete: bool = True
    ) -> pd.DataFrame:
        """Simple returns of the last `window` sessions (window x N), all that are known where None.

        Parameters
        ----------
        window
            Number of sessions.
        assets
            Columns; the members of the market at this close where None.
        complete
            Leave out assets with a gap in the window (listed too late, halted). With False a gap is refused.

        Raises
        ------
        InputError
            For a window longer than history, and where no asset is left.
        """
        if self._training is not None:
            table = self._training if window is None else self._training.iloc[-window:]
            return table if assets is None else table[list(assets)]
        market = self.market
        chosen = market.members() if assets is None else pd.Index(list(assets))
        if not complete:
            return market.returns(window, assets=chosen)
        rows = len(market.dates) if window is None else window + 1
        if window is not None and rows > len(market.dates):
            raise InputError(
                f"{window} returns need {rows} sessions of prices, but only {len(market.dates)} are known on "
                f"{date_text(self.date)}; shorten the window, or start later"
            )
        columns = market.assets.get_indexer(chosen)
        if (columns < 0).any():
            raise unknown_names("asset", chosen[columns < 0], market.assets)
        there = np.flatnonzero(~np.isnan(market.prices.to_numpy()[-rows:][:, columns]).any(axis=0))
        if not len(there):
            raise InputError(f"no asset has prices throughout the last {rows} sessions up to {date_text(self.date)}")
        return market.returns(window, assets=chosen[there])

    def shared(self, key: Hashable, make: Callable[[], T]) -> T:
        """What `make` returns, made once per session and key for all runs on the same history.

        Estimates and scenarios that do not depend on the book belong here: a hundred parameter sets then share one
        scenario matrix.
        """
        if key not in self._memory:
            self._memory[key] = make()
        return self._memory[key]

    def holdings_of(self, assets: pd.Index) -> pd.Series:
        """Weights after drift of the assets (N,), zero for those not held."""
        values = self.holdings.to_numpy()
        # the index is kept beside what is made for it, so that nothing else gets its identity
        _, places = self.shared(("places", id(assets)), lambda: (assets, self.holdings.index.get_indexer(assets)))
        return pd.Series(np.where(places >= 0, values[places], 0.0), index=assets, name="weight")

    def cost_term(self, assets: pd.Index, *, horizons: float = 1.0) -> Expression | None:
        """The forecast of what trading will be charged, as a term to subtract; None where trades are free.

        Fixed fees and minimums, which no convex problem can plan with, are left out. `horizons` is the number of
        scenario horizons until the next rebalance.
        """
        costs = self.costs
        if costs is None or self._quotes is None:
            return None
        nav = self.nav if costs.grows_with_size else 1.0
        # a term that does not depend on the book is made once for all runs
        _, term = self.shared(
            ("cost term", id(costs), id(assets), horizons, nav),
            lambda: (assets, costs.convex_part().term(self._quotes_of(assets), nav, horizons=horizons)),
        )
        return term

    def _quotes_of(self, assets: pd.Index) -> pd.DataFrame:
        """What a cost model looks at, by asset: what the book would be charged by at this close."""
        assert self._quotes is not None
        # with the very index of the scenarios, which need not be compared with itself
        return self._quotes.iloc[self._quotes.index.get_indexer(assets)].set_axis(assets)


def _series(labelled: Labelled) -> pd.Series:
    return pd.Series(labelled[0], index=labelled[1], name="weight")


class Strategy(ABC):
    """Something that has a target for a book, given what is known."""

    @property
    def warmup(self) -> int:
        """Sessions with prices that it needs before its first target."""
        return 1

    def family(self, moment: Moment) -> tuple[Hashable, Mapping[str, Any]] | None:
        """Whose problem this strategy's resembles, and in what it differs; None where it stands for itself.

        Strategies with the same key have problems that differ in the holdings and in these inputs only, named as in
        :func:`portfolioopt.sweep`; they are solved in one call as arrays, see :func:`portfolioopt.what_ifs`.
        """
        return None

    @abstractmethod
    def target(self, moment: Moment) -> Target:
        """A problem to be solved, a result, target weights, or None to leave the book as it is.

        Weights are fractions of NAV by asset; what they leave of one is cash, and assets that are not among them are
        sold.
        """


class FromFunction(Strategy):
    """A function of a moment as a strategy.

    Parameters
    ----------
    function
        Of a moment; gives a problem, a result, weights or None.
    warmup
        Sessions with prices that it needs before its first target.
    """

    def __init__(self, function: Callable[[Moment], Target], warmup: int = 1) -> None:
        self.function = function
        self._warmup = warmup

    @property
    def warmup(self) -> int:
        """As given."""
        return self._warmup

    def target(self, moment: Moment) -> Target:
        """What the function says."""
        return self.function(moment)

    def __repr__(self) -> str:
        return str(getattr(self.function, "__name__", self.function))


def seed_of(seed: int, history: int, date: pd.Timestamp | None = None) -> int:
    """A seed for one session of one history, or for all of it."""
    entropy = [seed, history] if date is None else [seed, history, date.toordinal()]
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint32)[0])

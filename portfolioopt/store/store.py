"""One door to the database: what is put in is there after a crash, once, and comes back as it was."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

import pandas as pd

from portfolioopt.costs import AdaptiveCostModel, Close, ExecutionFeedback, Fill, Order
from portfolioopt.labels import checked_number
from portfolioopt.rebalance import Decision, OrderPlan

from . import cost_models, decisions, executions
from .database import Database
from .rows import checked_name, in_utc


class Store:
    """Executions, learned costs, decisions and order plans of any number of books, in one database.

    Every method is one transaction: it happens whole or not at all, and what it returned from is on the disk. Saying
    the same thing twice is saying it once; saying otherwise is refused, and nothing is ever overwritten. A store may be
    open in several programs and threads at once.

    Parameters
    ----------
    place
        Path of an SQLite file, made where it is missing; a URL such as ``"postgresql+psycopg://user@host/name"``, whose
        driver has to be installed; or ``":memory:"``, which is gone when it is closed.
    timeout
        Seconds to wait while another program is writing.

    Raises
    ------
    InputError
        For a place that cannot be one.
    StoreError
        Where the database is something else, a store of another version, or cannot be used.
    """

    def __init__(self, place: str | Path = ":memory:", *, timeout: float = 5.0) -> None:
        self._database = Database(place, checked_number(timeout, "Store: timeout", least=0.0))

    # -- executions ------------------------------------------------------------------------------------------------
    def record(
        self, facts: Order | Fill | Close | Iterable[Order | Fill | Close] | ExecutionFeedback, *, book: str = "main"
    ) -> int:
        """Write orders, fills and ends of orders, and say how many of them were new.

        They are judged in their order by the rules of `ExecutionFeedback`, together with what the book knows already.

        Raises
        ------
        UnknownNameError
            For a fill or an end of an order that is not known.
        InputError
            Where one contradicts what is known; none of them is written then.
        """
        if isinstance(facts, ExecutionFeedback):
            given = executions.facts_of(facts)
        else:
            given = [facts] if isinstance(facts, Order | Fill | Close) else list(facts)
        of = checked_name(book, "Store.record: book")
        with self._database.writing() as connection:
            return executions.record(connection, given, of)

    def feedback(self, *, book: str = "main") -> ExecutionFeedback:
        """All orders of a book and what became of them."""
        with self._database.reading() as connection:
            return executions.read(connection, checked_name(book, "Store.feedback: book"))

    # -- cost models -----------------------------------------------------------------------------------------------
    def save_model(self, name: str, model: AdaptiveCostModel) -> int:
        """Write a cost model, its base and what it has learned; the number of its revision, from 1.

        A model that is the last revision already is not written again. All revisions are kept.
        """
        of = checked_name(name, "Store.save_model: name")
        with self._database.writing() as connection:
            return cost_models.save(connection, model, of)

    def model(self, name: str, *, revision: int | None = None) -> AdaptiveCostModel:
        """A cost model as it was saved: its last revision, or an earlier one."""
        with self._database.reading() as connection:
            return cost_models.load(connection, name, revision)

    def models(self) -> pd.DataFrame:
        """Every revision of every model: executions it has learned from, and the multiple of all assets together."""
        with self._database.reading() as connection:
            return cost_models.listed(connection)

    def learn(self, name: str, *, book: str = "main", leave_out: Iterable[str] = ()) -> AdaptiveCostModel:
        """Let a saved model learn from the finished orders of a book, each of them once; the model that knows more.

        Learning and its note are one transaction: after a crash it is either done or to be done. An order is learned as
        it stands then; of fills that are reported later nothing is learned.

        Parameters
        ----------
        name, book
            The model, and whose orders.
        leave_out
            Orders that it is never to learn from, such as one with a wrong price, of which the model says that nothing
            can be learned with it.
        """
        of = checked_name(book, "Store.learn: book")
        with self._database.writing() as connection:
            return cost_models.learn(connection, name, of, leave_out)

    # -- decisions and order plans ---------------------------------------------------------------------------------
    def save_decision(
        self, decision: Decision, time: pd.Timestamp | str, *, plan: OrderPlan | None = None, book: str = "main"
    ) -> bool:
        """Write a decision of a book and, in the same transaction, its order plan; False where both are there.

        Without a zone the time is UTC. Of one time there is one decision and one plan.
        """
        of, at = checked_name(book, "Store.save_decision: book"), in_utc(time, "Store.save_decision: time")
        with self._database.writing() as connection:
            new = decisions.save_decision(connection, decision, of, at)
            return (plan is not None and decisions.save_plan(connection, plan, of, at)) or new

    def decision(self, time: pd.Timestamp | str, *, book: str = "main") -> Decision:
        """The decision of a book at a time."""
        with self._database.reading() as connection:
            return decisions.decision(connection, book, in_utc(time, "Store.decision: time"))

    def decisions(self, *, book: str = "main") -> pd.DataFrame:
        """All decisions of a book by time: ``rebalance``, and the ``reasons`` in one text."""
        with self._database.reading() as connection:
            return decisions.decisions(connection, book)

    def save_plan(self, plan: OrderPlan, time: pd.Timestamp | str, *, book: str = "main") -> bool:
        """Write an order plan that no decision led to, such as one for a cash flow; False where it is there."""
        of, at = checked_name(book, "Store.save_plan: book"), in_utc(time, "Store.save_plan: time")
        with self._database.writing() as connection:
            return decisions.save_plan(connection, plan, of, at)

    def plan(self, time: pd.Timestamp | str, *, book: str = "main") -> OrderPlan:
        """The order plan of a book at a time."""
        with self._database.reading() as connection:
            return decisions.plan(connection, book, in_utc(time, "Store.plan: time"))

    def plans(self, *, book: str = "main") -> pd.DataFrame:
        """All order plans of a book by time: ``orders``, money ``traded``, ``fees``, ``cash``, ``nav``, ``note``."""
        with self._database.reading() as connection:
            return decisions.plans(connection, book)

    # -- open and closed -------------------------------------------------------------------------------------------
    def close(self) -> None:
        """Close all connections; a store in memory is gone."""
        self._database.dispose()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Store({self._database.name!r})"

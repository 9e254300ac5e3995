"""The connection to a database: transactions that are whole or nothing, and errors in words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from portfolioopt.errors import InputError, PortfolioOptError

from . import schema
from .schema import event, exc, sa

_WRITES = "portfolioopt_writes"


class StoreError(PortfolioOptError):
    """The database cannot be used: it is busy, is no store of this version, or failed.

    Nothing of what was asked has been written. Where another program was writing, try again.
    """


class Database:
    """A database with the tables of `schema`, made where there are none.

    SQLite keeps files in write-ahead mode, so that readers never wait, and syncs every commit to the disk. A writer
    takes the write lock before it reads, and waits for it up to `timeout` seconds: what it checks cannot change before
    it writes. Elsewhere transactions are serialisable.
    """

    def __init__(self, place: str | Path, timeout: float) -> None:
        url = _url(place)
        self.name = url.render_as_string(hide_password=True)
        self._timeout = timeout
        self._sqlite = url.get_backend_name() == "sqlite"
        options: dict[str, Any] = {}
        if self._sqlite:
            options["connect_args"] = {"timeout": timeout, "check_same_thread": False}
            if url.database in (None, "", ":memory:"):
                # one connection, which is the database; threads take turns
                options |= {"poolclass": sa.QueuePool, "pool_size": 1, "max_overflow": 0, "pool_timeout": timeout}
        else:
            options["isolation_level"] = "SERIALIZABLE"
        try:
            self._engine = sa.create_engine(url, **options)
        except (exc.SQLAlchemyError, ImportError) as error:
            raise InputError(f"{self.name} cannot be opened: {error}") from error
        if self._sqlite:
            event.listen(self._engine, "connect", _prepare)
            event.listen(self._engine, "begin", _begin)
        try:
            self._open()
        except BaseException:
            self.dispose()
            raise

    def reading(self) -> Any:
        """A transaction that sees one state of the database."""
        return self._transaction(writes=False)

    def writing(self) -> Any:
        """A transaction that is committed at its end, or leaves no trace."""
        return self._transaction(writes=True)

    @contextmanager
    def _transaction(self, *, writes: bool) -> Iterator[sa.Connection]:
        try:
            with self._engine.connect().execution_options(**{_WRITES: writes}) as connection, connection.begin():
                yield connection
        except exc.StatementError as error:
            if isinstance(error.orig, InputError):  # a value that cannot be kept
                raise error.orig from None
            raise self._failure(error) from error
        except exc.SQLAlchemyError as error:
            raise self._failure(error) from error

    def dispose(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def _open(self) -> None:
        with self.reading() as connection:
            found = sa.inspect(connection).get_table_names()
        if not found:
            with self.writing() as connection:
                if not sa.inspect(connection).get_table_names():  # another program may have come first
                    schema.tables.create_all(connection)
                    connection.execute(schema.version.insert(), {"version": schema.VERSION})
        elif schema.version.name not in found:
            raise StoreError(
                f"{self.name} is a database of something else, with the table {found[0]!r}; a store wants a database "
                "of its own"
            )
        with self.reading() as connection:
            versions = list(connection.scalars(sa.select(schema.version.c.version)))
        if versions != [schema.VERSION]:
            raise StoreError(
                f"{self.name} is a store of version {versions[0] if versions else 'unknown'}, and this is portfolioopt "
                f"for version {schema.VERSION}; open it with the portfolioopt that wrote it"
            )

    def _failure(self, error: exc.SQLAlchemyError) -> StoreError:
        text = str(error.orig) if isinstance(error, exc.DBAPIError) else str(error)
        if "locked" in text or isinstance(error, exc.TimeoutError):
            return StoreError(
                f"{self.name} was being written by another program for {self._timeout:g} s; nothing was written, try "
                "again"
            )
        if "serialize" in text or "deadlock" in text:
            return StoreError(f"{self.name} was changed by another program meanwhile; nothing was written, try again")
        return StoreError(f"{self.name}: {text.strip()}; nothing was written")


def _url(place: str | Path) -> sa.URL:
    if isinstance(place, str) and "://" in place:
        try:
            return sa.make_url(place)
        except exc.ArgumentError as error:
            raise InputError(f"{place!r} is no URL of a database: {error}") from error
    if place == ":memory:":
        return sa.URL.create("sqlite")
    if not isinstance(place, str | Path) or not str(place):
        raise InputError(f"a store is opened by the path of a file, a URL, or ':memory:', was {place!r}")
    path = Path(place)
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise InputError(f"{path} cannot be the file of a store: it is a folder, or its folder does not exist")
    return sa.URL.create("sqlite", database=str(path))


def _prepare(connection: Any, record: object) -> None:
    """Settings of a connection; `_begin` begins transactions, as the driver would after what is read."""
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.close()


def _begin(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

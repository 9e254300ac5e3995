"""The database itself: who may open it, several writers at once, and what is there without its package."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pandas as pd
import pytest

from portfolioopt.costs import Fill, Order
from portfolioopt.errors import InputError
from portfolioopt.store import Store, StoreError

START = pd.Timestamp("2024-03-04 14:30", tz="UTC")


def order(name: str, quantity: float = 100.0) -> Order:
    return Order(name, "AAPL", "buy", quantity, 50.0, 50.2, START, 4.0, 1e5, 0.02)


def fill(name: str, parent: str, quantity: float) -> Fill:
    return Fill(name, parent, quantity, 50.5, START)


# -- opening --------------------------------------------------------------------------------------------------


def test_settings_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "book.sqlite"
    with Store(path) as store:
        store.record(order("o1"))
        with store._database.writing() as connection:
            ask = {p: connection.exec_driver_sql(f"PRAGMA {p}").scalar() for p in ("foreign_keys", "synchronous")}
            assert ask == {"foreign_keys": 1, "synchronous": 2}
        with (
            pytest.raises(StoreError, match="FOREIGN KEY constraint failed; nothing was written"),
            store._database.writing() as connection,
        ):
            connection.exec_driver_sql("INSERT INTO fills VALUES ('main', 'f', 0, 'nobody', 1.0, 1.0, 0, 0.0)")
        with (
            pytest.raises(StoreError, match="CHECK constraint failed"),
            store._database.writing() as connection,
        ):
            connection.exec_driver_sql("UPDATE orders SET quantity = -1.0")
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        assert connection.execute("SELECT count(*) FROM fills").fetchone() == (0,)


def test_by_url_and_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "book.sqlite"
    with Store(f"sqlite:///{path}") as store:
        store.record(order("o1"))
        assert repr(store) == f"Store('sqlite:///{path}')"
    with Store(str(path)) as store:
        assert store.record(order("o1")) == 0
    with Store() as one, Store(":memory:") as other:
        one.record(order("o1"))
        assert other.record(order("o1")) == 1


def test_what_is_no_store_is_refused_and_left_alone(tmp_path: Path) -> None:
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
    with pytest.raises(StoreError, match=r"a database of something else, with the table 'bookmarks'"):
        Store(other)
    with sqlite3.connect(other) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("bookmarks",)]
    text = tmp_path / "prices.csv"
    text.write_text("date,AAPL\n" * 100)
    with pytest.raises(StoreError, match="file is not a database"):
        Store(text)
    assert text.read_text() == "date,AAPL\n" * 100
    newer = tmp_path / "newer.sqlite"
    Store(newer).close()
    with sqlite3.connect(newer) as connection:
        connection.execute("UPDATE portfolioopt_store SET version = 99")
    with pytest.raises(StoreError, match=r"is a store of version 99, and this is portfolioopt for version 1"):
        Store(newer)


def test_places_that_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder, or its folder does not exist"):
        Store(tmp_path)
    with pytest.raises(InputError, match="is a folder, or its folder does not exist"):
        Store(tmp_path / "nowhere" / "book.sqlite")
    with pytest.raises(InputError, match="by the path of a file, a URL, or ':memory:'"):
        Store(3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"cannot be opened: .*nosuchdatabase"):
        Store("nosuchdatabase://host/name")
    with pytest.raises(InputError, match="timeout must be at least 0"):
        Store(timeout=-1.0)


def test_without_its_package() -> None:
    """`portfolioopt` does not need it, and the store says what to install."""
    code = """
import sys
import portfolioopt as po
print("sqlalchemy" in sys.modules)
sys.modules["sqlalchemy"] = None
try:
    import portfolioopt.store
except po.InputError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("False\n")
    assert 'pip install "portfolioopt[store]"' in done.stdout


# -- several at once ------------------------------------------------------------------------------------------


def test_a_writer_waits_or_says_that_it_could_not(tmp_path: Path) -> None:
    path = tmp_path / "book.sqlite"
    store, patient = Store(path, timeout=0.1), Store(path, timeout=10.0)
    store.record(order("o1"))
    holder = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN IMMEDIATE")
    begin = time.perf_counter()
    with pytest.raises(StoreError, match=r"was being written by another program for 0\.1 s; nothing was written"):
        store.record(order("o2"))
    assert 0.05 < time.perf_counter() - begin < 5.0
    assert len(store.feedback().to_frames()["orders"]) == 1  # readers do not wait
    timer = threading.Timer(0.3, lambda: holder.execute("COMMIT"))
    timer.start()
    assert patient.record(order("o2")) == 1
    timer.join()
    assert store.record(order("o2")) == 0
    holder.close()


@pytest.mark.parametrize("place", ["file", "memory"])
def test_no_fill_is_lost_or_done_twice_between_writers(tmp_path: Path, place: str) -> None:
    """Each of four offers every fill of an order of 40 units, and some more than it has: 40 are done, once each."""
    shared = Store(timeout=30.0) if place == "memory" else None
    path = tmp_path / "book.sqlite"
    stores = [shared or Store(path, timeout=30.0) for _ in range(4)]
    stores[0].record(order("o1", 40.0))
    new, refused = [0] * 4, [0] * 4

    def offer(k: int) -> None:
        for i in range(45):
            try:
                new[k] += stores[k].record(fill(f"f{(i + 11 * k) % 45}", "o1", 1.0))
            except InputError:
                refused[k] += 1

    threads = [threading.Thread(target=offer, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(new) == 40
    assert sum(refused) == 4 * 5
    fills = stores[0].feedback().to_frames()["fills"]
    assert fills["fill_id"].is_unique
    assert fills["quantity"].sum() == 40.0


def test_two_programs_may_make_it_at_once(tmp_path: Path) -> None:
    path = tmp_path / "book.sqlite"
    errors: list[BaseException] = []
    gate = threading.Barrier(6)

    def open_it(k: int) -> None:
        gate.wait()
        try:
            with Store(path, timeout=30.0) as store:
                store.record(order(f"o{k}"))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=open_it, args=(k,)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with Store(path) as store:
        assert len(store.feedback().to_frames()["orders"]) == 6

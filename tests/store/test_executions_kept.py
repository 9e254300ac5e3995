"""Executions and learned costs in a database: bit for bit, once, whole or not at all, across restarts and crashes."""

from __future__ import annotations

import itertools
import os
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from portfolioopt import costs
from portfolioopt.costs import AdaptiveCostModel, Close, ExecutionFeedback, Fill, Order, SquareRootImpact
from portfolioopt.errors import InputError, UnknownNameError
from portfolioopt.store import Store, cost_models, executions
from portfolioopt.store.rows import insert as rows_insert

START = pd.Timestamp("2024-03-04 14:30:00.123456789", tz="UTC")
ROOT = Path(__file__).resolve().parents[2]


def order(name: str = "o1", **changes: Any) -> Order:
    fields: dict[str, Any] = {
        "asset": "AAPL",
        "side": "buy",
        "quantity": 1_000.0,
        "decision_price": 50.0,
        "arrival_price": 50.2,
        "time": START,
        "spread": 4.0,
        "volume": 1e5,
        "volatility": 0.02,
        "venue": "X",
    }
    return Order(name, **(fields | changes))


def fill(name: str = "f1", parent: str = "o1", quantity: float = 400.0, price: float = 50.5, **changes: Any) -> Fill:
    return Fill(name, parent, quantity, price, **({"time": START + pd.Timedelta("1min"), "commission": 2.0} | changes))


def close(parent: str = "o1", price: float = 52.0, minutes: float = 60.0) -> Close:
    return Close(parent, price, START + pd.Timedelta(minutes, "min"))


def history(seed: int, count: int) -> list[Order | Fill | Close]:
    """Orders, each with its fills and its end, as they come in."""
    rng = np.random.default_rng(seed)
    facts: list[Order | Fill | Close] = []
    for i in range(count):
        time, price = START + pd.Timedelta(i, "h"), rng.uniform(10, 200)
        parent = order(
            f"o{i}",
            asset=f"A{i % 3}",
            side=str(rng.choice(["buy", "sell"])),
            quantity=rng.uniform(1, 1e4),
            decision_price=price,
            arrival_price=price * rng.uniform(0.99, 1.01),
            time=time,
            volume=10.0 ** rng.uniform(4, 6),
        )
        facts.append(parent)
        pieces = int(rng.integers(0, 4))
        for j in range(pieces):
            paid = parent.arrival_price * (1.0 + parent.sign * rng.uniform(0.0, 0.01))
            done = parent.quantity * rng.uniform(0.1, 0.3)
            facts.append(
                fill(f"f{i}.{j}", f"o{i}", done, paid, time=time + pd.Timedelta(j, "min"), commission=rng.uniform(0, 9))
            )
        if rng.random() < 0.8:
            facts.append(Close(f"o{i}", price * rng.uniform(0.98, 1.02), time + pd.Timedelta(30, "min")))
    return facts


def noted(feedback: ExecutionFeedback, fact: Order | Fill | Close) -> bool:
    if isinstance(fact, Order):
        return feedback.submit(fact)
    return feedback.record(fact) if isinstance(fact, Fill) else feedback.close(fact)


def dump(path: Path) -> list[str]:
    """All that is in the file, as SQL."""
    with sqlite3.connect(path) as connection:
        return list(connection.iterdump())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "book.sqlite"


# -- kept as it was -------------------------------------------------------------------------------------------

numbers = st.floats(min_value=5e-324, max_value=1e308, allow_nan=False, allow_infinity=False, allow_subnormal=True)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(quantity=numbers, price=numbers, commission=st.one_of(st.just(0.0), numbers), ns=st.integers(0, 2**62))
def test_numbers_and_times_come_back_bit_for_bit(
    tmp_path: Path, quantity: float, price: float, commission: float, ns: int
) -> None:
    path = tmp_path / "bits.sqlite"
    path.unlink(missing_ok=True)
    time = pd.Timestamp(ns, unit="ns", tz="UTC")
    facts = [
        order(quantity=quantity, decision_price=price, time=time, asset="Ä 'x\"; --"),
        fill(quantity=quantity, price=price, commission=commission, time=time),
    ]
    with Store(path) as store:
        assert store.record(facts) == 2
    with Store(path) as store:
        frames = store.feedback().to_frames()
    for name, column, wanted in [
        ("orders", "quantity", quantity),
        ("orders", "decision_price", price),
        ("fills", "quantity", quantity),
        ("fills", "price", price),
        ("fills", "commission", commission),
    ]:
        assert np.float64(frames[name][column].iloc[0]).tobytes() == np.float64(wanted).tobytes()
    assert frames["fills"]["time"].iloc[0].value == ns
    assert frames["orders"]["asset"].iloc[0] == "Ä 'x\"; --"
    with sqlite3.connect(path) as connection:
        kinds = connection.execute("SELECT typeof(quantity), typeof(price), typeof(time) FROM fills").fetchall()
    assert kinds == [("real", "real", "integer")]


@pytest.mark.parametrize("seed", range(4))
def test_it_knows_what_the_feedback_in_memory_knows(path: Path, seed: int) -> None:
    """Facts in any order that is possible, twice, with impossible ones between, and a restart after each tenth."""
    rng = np.random.default_rng(seed)
    facts = history(seed, 12)
    facts += [facts[i] for i in rng.integers(0, len(facts), 20)]
    bad = [fill("x1", "nobody"), fill("x2", "o1", 1e9), close("nobody"), order("o1", quantity=5.0)]
    facts += [bad[i] for i in rng.integers(0, len(bad), 10)]
    memory, store = ExecutionFeedback(), Store(path)
    for place, i in enumerate(rng.permutation(len(facts))):
        fact = facts[i]
        outcomes = []
        for take in (lambda fact: noted(memory, fact), store.record):
            try:
                outcomes.append(int(take(fact)))
            except InputError as error:
                outcomes.append(str(error))
        assert outcomes[0] == outcomes[1]
        if place % 10 == 9:
            store.close()
            store = Store(path)
    known = store.feedback()
    assert known == memory
    for name, frame in memory.to_frames().items():
        pd.testing.assert_frame_equal(known.to_frames()[name], frame, check_exact=True)
    pd.testing.assert_frame_equal(known.executions(), memory.executions(), check_exact=True)
    pd.testing.assert_frame_equal(known.shortfall(), memory.shortfall(), check_exact=True)
    assert store.record(memory) == 0
    other = Store()
    assert other.record(memory, book="copy") == sum(map(len, memory.to_frames().values()))
    assert other.feedback(book="copy") == memory
    assert other.feedback() == ExecutionFeedback()
    store.close()


def test_what_is_refused_leaves_no_trace(path: Path) -> None:
    store = Store(path)
    store.record([order(), order("o2"), fill(), close("o2")])
    before = dump(path)
    good = [order("o3"), fill("f2", quantity=100.0)]
    for wrong, error, words in [
        (fill("f3", "o9"), UnknownNameError, "unknown order: 'o9'"),
        (fill("f3", quantity=700.0), InputError, "would bring order 'o1' to 1200 of 1000 units"),
        (fill("f1", quantity=401.0), InputError, "fill 'f1' was reported before, and otherwise"),
        (fill("f1", "o2"), InputError, "fill 'f1' was reported before, and otherwise"),
        (order("o1", side="sell"), InputError, "order 'o1' was reported before, and otherwise"),
        (close("o2", 51.0), InputError, "close of order 'o2' was reported before, and otherwise"),
        (fill("f3", "o2", time=START + pd.Timedelta("2h")), InputError, "after order 'o2' was closed"),
        ("a text", InputError, "Store.record takes orders, fills and closes, was given str"),
    ]:
        with pytest.raises(error, match=words):
            store.record([*good, wrong])  # type: ignore[list-item]
        assert dump(path) == before
    with pytest.raises(InputError, match="fill 'f1' was reported before, and otherwise"):
        store.record(fill("f1", "o2"))
    with pytest.raises(InputError, match="quantity must be above 0"):
        store.record(fill(quantity=-1.0))
    with pytest.raises(InputError, match="book must be a name"):
        store.record(good, book="")
    assert dump(path) == before
    assert store.record(good) == 2
    assert store.record([*good, fill()]) == 0
    assert store.record([]) == 0
    store.close()


# -- models that learn ----------------------------------------------------------------------------------------


def same_model(one: AdaptiveCostModel, other: AdaptiveCostModel) -> None:
    assert one.state is not None
    assert other.state is not None
    pd.testing.assert_frame_equal(one.state, other.state, check_exact=True)
    for name in ("prior", "prior_deviation", "asset_deviation", "noise", "half_life", "largest_step", "bounds"):
        assert getattr(one, name) == getattr(other, name)
    trades = pd.DataFrame(
        {"asset": ["A0", "A1", "A9"], "quantity": [1e3, -5e2, 7.0], "price": 50.0, "volume": 1e5, "volatility": 0.02}
    ).assign(spread=3.0)
    pd.testing.assert_frame_equal(one.charges(trades), other.charges(trades), check_exact=True)


@pytest.mark.parametrize("seed", range(3))
def test_a_restart_between_any_two_steps_changes_nothing(path: Path, seed: int) -> None:
    facts = history(seed, 30)
    rng = np.random.default_rng(seed)
    cuts = [0, *sorted(rng.choice(len(facts), 6, replace=False).tolist()), len(facts)]
    memory, seen = ExecutionFeedback(), set()
    model = AdaptiveCostModel(SquareRootImpact(0.7), noise=0.2, half_life=1 / 3 + 20)
    with Store(path) as store:
        assert store.save_model("impact", model) == 1
    for first, last in itertools.pairwise(cuts):
        for fact in facts[first:last]:
            noted(memory, fact)
        done = memory.executions()
        done = done.loc[~done.index.isin(seen)]
        seen |= set(done.index)
        model = model.learn(done) if len(done) else model
        with Store(path) as store:
            store.record(facts[first:last])
        with Store(path) as store:
            same_model(store.learn("impact"), model)
            same_model(store.learn("impact"), model)  # every order once
    with Store(path) as store:
        same_model(store.model("impact"), model)
        listed = store.models().loc["impact"]
        assert listed["executions"].iloc[-1] == len(seen) > 10
        assert listed["executions"].is_monotonic_increasing
        same_model(
            store.model("impact", revision=1), AdaptiveCostModel(SquareRootImpact(0.7), noise=0.2, half_life=1 / 3 + 20)
        )
        assert store.save_model("impact", model) == len(listed)


def test_what_is_on_the_disk_before_a_commit_is_what_was_there(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files are copied after each write of a step, as a killed process would leave them, and are opened again."""
    facts, impact = history(5, 20), AdaptiveCostModel(SquareRootImpact())
    store, copies, steps = Store(path), [], []
    store.save_model("impact", impact)

    def copying(connection: Any, table: Any, rows: Any) -> None:
        rows_insert(connection, table, rows)
        folder = path.parent / f"copy{len(copies)}"
        folder.mkdir()
        for file in path.parent.glob("book.sqlite*"):
            shutil.copy(file, folder)
        copies.append(folder / path.name)

    for module in (cost_models, executions):
        monkeypatch.setattr(module, "insert", copying)
    for step in (lambda s: s.record(facts[:40]), lambda s: s.record(facts), lambda s: s.learn("impact")):
        before, first = dump(path), len(copies)
        step(store)
        steps.append((before, copies[first:], step))
    monkeypatch.undo()
    wanted = store.model("impact")
    assert [len(left) for _, left, _ in steps] == [3, 3, 3]
    for place, (before, left, step) in enumerate(steps):
        for copy in left:
            with Store(copy) as again:
                assert dump(copy) == before
                for later in (step, *(then for _, _, then in steps[place + 1 :])):
                    later(again)
                same_model(again.model("impact"), wanted)


@pytest.mark.slow
def test_a_process_that_dies_while_it_writes_has_written_nothing(path: Path) -> None:
    """The process ends at once after each of the writes of a step but before its commit."""
    facts = history(5, 20)
    with Store(path) as store:
        store.save_model("impact", AdaptiveCostModel(SquareRootImpact()))
        store.record(facts[:40])
    with Store() as other:
        other.save_model("impact", AdaptiveCostModel(SquareRootImpact()))
        other.record(facts)
        wanted = other.learn("impact")
    script = """
        import os, sys
        sys.path.insert(0, {tests!r})
        from test_executions_kept import history
        from portfolioopt.store import Store, cost_models, executions
        left = int(sys.argv[1])
        for module in (cost_models, executions):
            def dying(connection, table, rows, insert=module.insert):
                global left
                insert(connection, table, rows)
                left -= 1
                if left == 0:
                    os._exit(9)
            module.insert = dying
        store = Store({path!r})
        {action}
    """
    for action, writes in (("store.record(history(5, 20))", 3), ("store.learn('impact')", 3)):
        before = dump(path)
        for count in range(1, writes + 1):
            text = textwrap.dedent(script).format(tests=str(Path(__file__).parent), path=str(path), action=action)
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "kernels")])}
            ended = subprocess.run([sys.executable, "-c", text, str(count)], env=environment, check=False)
            assert ended.returncode == 9
            assert dump(path) == before
        with Store(path) as store:
            exec(action, {"store": store, "history": history})
    with Store(path) as store:
        same_model(store.model("impact"), wanted)


def test_an_order_that_cannot_be_learned_from_is_left_out() -> None:
    store = Store()
    store.save_model("impact", AdaptiveCostModel(SquareRootImpact()))
    store.record([order(), fill(quantity=1_000.0), order("o2"), fill("f2", "o2", 1_000.0, price=500.0)])
    with pytest.raises(InputError, match="more than half away"):
        store.learn("impact")
    assert len(store.models()) == 1
    assert store.learn("impact", leave_out=["o2"]).multiples()["executions"].iloc[0] == 1
    assert store.learn("impact").multiples()["executions"].iloc[0] == 1
    with pytest.raises(UnknownNameError, match="order to leave out"):
        store.learn("impact", leave_out=["o2"])
    with pytest.raises(UnknownNameError, match=r"unknown cost model: 'impct' .*'impact'"):
        store.learn("impct")


def test_every_base_comes_back(path: Path) -> None:
    """What the models charge, before and after, to the last bit."""
    assets = ["A0", "A1", "A9"]
    each = pd.Series([0.1, 1 / 3, 2e-17], assets)
    bases = [
        costs.ProportionalCosts(
            bps={"A0": 0.1, "A1": 0.2, "A9": 0.3}, sell=each, per_share=0.005, minimum=1.0, fixed=0.1
        ),
        costs.SpreadCosts() + costs.SquareRootImpact(each, 0.6),
        costs.SpreadCosts(bps=each, fraction=0.3),
        costs.AlmgrenChriss(1e-9, each / 1e9, 0.01, horizon=1 / 7, periods=3) + costs.BorrowCosts(each, year=365.0),
        costs.FinancingCosts(150.0, "A9"),
    ]
    with Store(path) as store:
        for i, base in enumerate(bases):
            store.save_model(f"m{i}", AdaptiveCostModel(base, prior=1 / 3, bounds=(0.1, 3.3)))
    trades = pd.DataFrame({"asset": assets, "quantity": [1e3, -5e2, -7.0], "price": 50.1, "volume": 1e5})
    trades = trades.assign(volatility=0.02, spread=3.0)
    with Store(path) as store:
        for i, base in enumerate(bases):
            kept = store.model(f"m{i}")
            one, other = kept.base.charges(trades), base.charges(trades)
            pd.testing.assert_frame_equal(one, other, check_exact=True)
            held = kept.base.accruals(trades, 3.0), base.accruals(trades, 3.0)
            pd.testing.assert_frame_equal(*held, check_exact=True)
            assert repr(kept) == repr(AdaptiveCostModel(base, prior=1 / 3, bounds=(0.1, 3.3)))
        assert store.save_model("m0", store.model("m0")) == 1
        assert store.save_model("m0", replace(store.model("m0"), noise=0.31)) == 2
        assert store.model("m0").noise == 0.31
        assert store.model("m0", revision=1).noise == 0.3


def test_models_that_are_refused() -> None:
    class Free(costs.CostModel):
        pass

    store = Store()
    with pytest.raises(InputError, match="a cost model of the kind Free cannot be stored"):
        store.save_model("free", AdaptiveCostModel(Free()))
    with pytest.raises(InputError, match="takes an AdaptiveCostModel, was given SquareRootImpact"):
        store.save_model("impact", SquareRootImpact())  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="there are no cost models at all"):
        store.model("free")
    store.save_model("impact", AdaptiveCostModel(SquareRootImpact()))
    with pytest.raises(InputError, match="'impact' has the revisions 1 to 1, and no 2"):
        store.model("impact", revision=2)

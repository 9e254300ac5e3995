"""Execution feedback: shortfall by hand and against the paper portfolio, what is refused, and what is kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portfolioopt.costs import AdaptiveCostModel, Close, ExecutionFeedback, Fill, Order, SquareRootImpact, advise_size
from portfolioopt.errors import InputError, UnknownNameError

START = pd.Timestamp("2024-03-04 14:30", tz="UTC")
PARTS = ["delay", "spread", "impact", "opportunity", "commission"]


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


def history(seed: int, orders: int = 12) -> tuple[list[Order], list[Fill], list[Close]]:
    """Random orders, their fills, and the ends of those not filled."""
    rng = np.random.default_rng(seed)
    sent, done, ended = [], [], []
    for i in range(orders):
        decision = rng.uniform(10, 200)
        sent.append(
            order(
                f"o{i}",
                asset=f"A{i % 3}",
                side=rng.choice(["buy", "sell"]),
                quantity=float(rng.integers(1, 10_000)),
                decision_price=decision,
                arrival_price=decision * rng.uniform(0.98, 1.02),
                spread=rng.uniform(0, 30),
                time=START + pd.Timedelta(i, "h"),
                venue=rng.choice(["X", "Y"]),
                volume=10.0 ** rng.uniform(3, 7),
            )
        )
        pieces = int(rng.integers(0, 5))
        shares = rng.dirichlet(np.ones(pieces + 1)) if pieces else np.ones(1)
        full = rng.random() < 0.5 and pieces > 0
        if full:
            shares = shares[:pieces] / shares[:pieces].sum()
        done.extend(
            fill(
                f"f{i}.{j}",
                f"o{i}",
                sent[-1].quantity * shares[j],
                decision * rng.uniform(0.97, 1.03),
                time=sent[-1].time + pd.Timedelta(int(rng.integers(0, 50)), "min"),
                commission=rng.uniform(0, 9),
            )
            for j in range(pieces)
        )
        if not full:
            ended.append(Close(f"o{i}", decision * rng.uniform(0.9, 1.1), sent[-1].time + pd.Timedelta(1, "h")))
    return sent, done, ended


def collected(sent: list[Order], done: list[Fill], ended: list[Close]) -> ExecutionFeedback:
    feedback = ExecutionFeedback()
    assert all([*map(feedback.submit, sent), *map(feedback.record, done), *map(feedback.close, ended)])
    return feedback


# -- shortfall ------------------------------------------------------------------------------------------------------


def test_by_hand() -> None:
    feedback = collected(
        [order(), order("o2", side="sell", quantity=100.0)],
        [fill(), fill("f2", price=51.0, quantity=200.0), fill("f3", "o2", 100.0, 49.9, commission=0.0)],
        [close()],
    )
    table = feedback.shortfall()
    half = 0.5 * 4e-4 * 50.2
    buy = [600 * 0.2, 600 * half, 400 * 0.3 + 200 * 0.8 - 600 * half, 400 * 2.0, 4.0]
    np.testing.assert_allclose(table.loc["o1", PARTS].to_numpy(float), buy, rtol=1e-12)
    sell = [-100 * 0.2, 100 * half, 100 * 0.3 - 100 * half, 0.0, 0.0]
    np.testing.assert_allclose(table.loc["o2", PARTS].to_numpy(float), sell, rtol=1e-12)
    assert table["total_bps"]["o1"] == pytest.approx(sum(buy) / 50_000 * 1e4)
    assert table["seconds"].tolist() == [60.0, 60.0]
    assert table["participation"].tolist() == [0.01, 0.001]


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1))
def test_it_is_what_the_paper_portfolio_is_ahead(seed: int) -> None:
    """Perold's definition: gain of a portfolio that trades all at the decision price, less that of the real one."""
    sent, done, ended = history(seed)
    table = collected(sent, done, ended).shortfall()
    assert len(table) == len(sent)
    ends = {end.order_id: end.price for end in ended}
    for parent in sent:
        mine = [part for part in done if part.order_id == parent.order_id]
        last = ends.get(parent.order_id, 123.4)  # what it is worth in the end does not matter where all was done
        paper = parent.sign * parent.quantity * (last - parent.decision_price)
        real = sum(parent.sign * part.quantity * (last - part.price) - part.commission for part in mine)
        size = parent.quantity * parent.decision_price
        assert abs(table["total"][parent.order_id] - (paper - real)) < 1e-12 * size
        assert abs(table.loc[parent.order_id, PARTS].sum() - table["total"][parent.order_id]) < 1e-12 * size


@pytest.mark.slow
def test_it_is_what_the_paper_portfolio_is_ahead_often() -> None:
    for seed in range(2_000):
        test_it_is_what_the_paper_portfolio_is_ahead.hypothesis.inner_test(seed)  # type: ignore[attr-defined]


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1))
def test_reports_may_come_in_any_order_and_twice(seed: int) -> None:
    sent, done, ended = history(seed)
    feedback = collected(sent, done, ended)
    rng = np.random.default_rng(seed)
    late = ExecutionFeedback()
    for parent in sent:
        late.submit(parent)
    facts = [*done, *ended, *done, *ended]
    news = []
    for place in rng.permutation(len(facts)):
        fact = facts[place]
        news.append(late.record(fact) if isinstance(fact, Fill) else late.close(fact))
    assert sum(news) == len(done) + len(ended)
    assert late == feedback
    pd.testing.assert_frame_equal(late.shortfall(), feedback.shortfall())
    pd.testing.assert_frame_equal(late.executions(), feedback.executions())
    pd.testing.assert_frame_equal(late.quality("venue"), feedback.quality("venue"))


def test_orders_still_open() -> None:
    feedback = collected([order(), order("o2", asset="BND")], [fill()], [])
    assert feedback.shortfall().empty
    assert feedback.executions().empty
    marked = feedback.shortfall({"AAPL": 52.0, "BND": 50.0, "GLD": 1.0})
    pd.testing.assert_series_equal(
        marked.loc["o1"], collected([order()], [fill()], [close()]).shortfall().loc["o1"], check_dtype=False
    )
    assert marked["opportunity"]["o2"] == 0.0
    assert np.isnan(marked["seconds"]["o2"])
    with pytest.raises(InputError, match="prices says nothing about 'BND'"):
        feedback.shortfall({"AAPL": 52.0})


def test_rounding_leaves_nothing_open() -> None:
    feedback = collected([order(quantity=0.3)], [fill("a", quantity=0.1), fill("b", quantity=0.2)], [])
    assert feedback.shortfall()["opportunity"].tolist() == [0.0]


# -- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda f: f.record(fill("f9", "o7")), "unknown order: 'o7'"),
        (lambda f: f.record(fill("f9", quantity=700.0)), "would bring order 'o1' to 1100 of 1000 units"),
        (lambda f: f.record(fill("f1", price=50.6)), "reported before, and otherwise"),
        (lambda f: f.record(fill("f9", time=START - pd.Timedelta("1s"))), "before order 'o1' went out"),
        (lambda f: f.record(fill("f9", "o2", 1.0, time=START + pd.Timedelta("2h"))), "after order 'o2' was closed"),
        (lambda f: f.record(order()), "takes a Fill"),
        (lambda f: f.submit(order(quantity=5.0)), "reported before, and otherwise"),
        (lambda f: f.submit(fill()), "takes an Order"),
        (lambda f: f.close(close("o7")), "unknown order"),
        (lambda f: f.close(close("o2", price=1.0)), "reported before, and otherwise"),
        (lambda f: f.close(close(minutes=0.5)), "cannot be closed"),
        (lambda f: f.close(order()), "takes a Close"),
        (lambda f: f.quality("sector"), "unknown grouping"),
        (lambda f: f.quality("size", sizes=[0.1, 0.01]), "increasing"),
    ],
)
def test_refused_without_a_trace(act, message: str) -> None:
    feedback = collected([order(), order("o2")], [fill()], [close("o2")])
    before = ExecutionFeedback.from_frames(feedback.to_frames())
    with pytest.raises(InputError, match=message):
        act(feedback)
    assert feedback == before
    assert feedback.record(fill("f2", quantity=600.0))  # and goes on


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fill(quantity=-1.0), "quantity must be above 0"),
        (lambda: fill(quantity=np.nan), "quantity must be a finite number"),
        (lambda: fill(price=0.0), "price must be above 0"),
        (lambda: fill(commission=-1.0), "commission must be at least 0"),
        (lambda: fill(time=pd.NaT), "time is missing"),
        (lambda: fill(time="soon"), "time must be a time"),
        (lambda: fill(name=""), "fill_id must be a name"),
        (lambda: order(side="long"), "side must be 'buy' or 'sell'"),
        (lambda: order(quantity=0.0), "quantity must be above 0"),
        (lambda: order(volume=np.nan), "volume must be a finite number"),
        (lambda: order(spread=1e5), "1000% of the price"),
        (lambda: order(volatility=25.0), "another unit"),
        (lambda: order(venue=None), "venue must be a name"),
        (lambda: close(price=np.inf), "price must be a finite number"),
    ],
)
def test_impossible_facts(make, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_times_are_utc() -> None:
    local = pd.Timestamp("2024-03-04 09:30", tz="America/New_York")
    assert order(time=local) == order() == order(time="2024-03-04 14:30")


# -- quality --------------------------------------------------------------------------------------------------------


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1))
def test_groups_add_up(seed: int) -> None:
    feedback = collected(*history(seed, 20))
    table = feedback.shortfall()
    for by in ("asset", "venue", "side", "size"):
        found = feedback.quality(by)
        size = table["notional"].sum()
        np.testing.assert_allclose(found[[*PARTS, "total"]].sum(), table[[*PARTS, "total"]].sum(), atol=1e-12 * size)
        assert found["orders"].sum() == 20
        np.testing.assert_allclose(
            found[["delay", "spread", "impact", "opportunity", "commission"]].sum(axis=1),
            found["total"],
            atol=1e-12 * size,
        )
        assert found["fill_rate"].between(0.0, 1.0 + 1e-9).all()


def test_quality_by_hand() -> None:
    feedback = collected(
        [order("a", quantity=100.0), order("b", quantity=1_000.0), order("c", quantity=50_000.0)],
        [fill("1", "a", 100.0, 50.2, commission=0.0), fill("2", "b", 1_000.0, 50.7, commission=0.0)],
        [close("c", price=50.0)],
    )
    by_size = feedback.quality("size")
    assert by_size.index.tolist() == ["<= 0.001", "<= 0.01", "> 0.25"]  # 0.1 %, 1 % and 50 % of daily volume
    np.testing.assert_allclose(by_size["total_bps"], [40.0, 140.0, 0.0], atol=1e-10)
    assert by_size["fill_rate"].tolist() == [1.0, 1.0, 0.0]
    whole = feedback.quality("asset").iloc[0]
    bps, amount = np.array([40.0, 140.0, 0.0]), np.array([5e3, 5e4, 2.5e6])
    mean = bps @ amount / amount.sum()
    assert float(whole["total_bps"]) == pytest.approx(mean)
    assert float(whole["standard_error"]) == pytest.approx(
        np.sqrt(((amount * (bps - mean)) ** 2).sum() * 1.5) / amount.sum()
    )
    assert by_size["standard_error"].isna().all()


def test_equal_orders_have_the_textbook_standard_error() -> None:
    paid = [50.2, 50.4, 50.1, 50.9]
    feedback = collected(
        [order(str(i)) for i in range(4)],
        [fill(f"f{i}", str(i), 1_000.0, p, commission=0.0) for i, p in enumerate(paid)],
        [],
    )
    bps = (np.array(paid) - 50.0) / 50.0 * 1e4
    assert feedback.quality()["standard_error"]["AAPL"] == pytest.approx(bps.std(ddof=1) / 2)


# -- sizes ----------------------------------------------------------------------------------------------------------


def worked(cost_bps: list[float], **changes: Any) -> ExecutionFeedback:
    """Full orders of 1 % of daily volume that cost this much above arrival."""
    paid = [50.2 * (1 + bps / 1e4) for bps in cost_bps]
    return collected(
        [order(str(i), **changes) for i in range(len(paid))],
        [fill(f"f{i}", str(i), 1_000.0, price) for i, price in enumerate(paid)],
        [],
    )


def test_sizes_by_hand() -> None:
    dear = worked([38.0, 42.0] * 10)
    advice = advise_size(dear, "AAPL", budget_bps=21.0, bounds=(0.1, 2.0))
    # half a spread of 2 and impact of 38: the size whose impact is 19 is a quarter
    assert advice.multiple == pytest.approx(0.25, rel=1e-9)
    assert advice.participation == pytest.approx(0.0025, rel=1e-9)
    assert advice.cost_bps == pytest.approx(40.0, rel=1e-9)
    assert "above the budget of 21.0 bp: 0.25 times" in advice.reason
    linear = advise_size(dear, "AAPL", budget_bps=21.0, exponent=1.0)
    assert linear.multiple == pytest.approx(0.5, rel=1e-9)
    more = advise_size(dear, "AAPL", budget_bps=2 + 38 * 1.2)
    assert more.multiple == pytest.approx(1.44, rel=1e-9)
    assert "below" in more.reason
    assert advise_size(dear, "AAPL", budget_bps=100.0).multiple == 2.0
    assert advise_size(dear, "AAPL", budget_bps=4.0).multiple == 0.25
    assert "held at 2.00" in advise_size(dear, "AAPL", budget_bps=100.0).reason
    from scipy import stats

    low, high = stats.t.interval(0.95, 19, 40.0, np.std([38.0, 42.0] * 10, ddof=1) / np.sqrt(20))
    assert advice.interval == pytest.approx((low, high), rel=1e-9)


def test_sizes_stay_without_evidence() -> None:
    assert advise_size(worked([400.0] * 3), "AAPL", budget_bps=5.0).multiple == 1.0
    assert "3 of 10 orders needed" in advise_size(worked([400.0] * 3), "AAPL", budget_bps=5.0).reason
    noisy = advise_size(worked([-100.0, 120.0] * 10), "AAPL", budget_bps=20.0)
    assert noisy.multiple == 1.0
    assert "keep the size" in noisy.reason
    assert advise_size(worked([40.0, 41.0] * 10, spread=60.0), "AAPL", budget_bps=20.0).multiple == 0.25
    assert advise_size(worked([-4.0, -5.0] * 10), "AAPL", budget_bps=20.0).multiple == 2.0
    unfilled = collected([order()], [], [close()])
    assert "nothing is known" in advise_size(unfilled, "AAPL", budget_bps=5.0).reason
    with pytest.raises(UnknownNameError, match="AAPL"):
        advise_size(unfilled, "APPL", budget_bps=5.0)
    with pytest.raises(InputError, match="bounds"):
        advise_size(unfilled, "AAPL", budget_bps=5.0, bounds=(1.5, 2.0))


@settings(max_examples=20)
@given(budget=st.floats(3.0, 39.0), factor=st.floats(1.0, 3.0))
def test_a_larger_budget_never_means_smaller_orders(budget: float, factor: float) -> None:
    dear = worked([39.5, 40.5] * 6)
    small, large = (advise_size(dear, "AAPL", budget_bps=b) for b in (budget, budget * factor))
    assert small.multiple <= large.multiple


# -- what is kept, and the loop ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1])
def test_saved_and_loaded(seed: int, tmp_path: Path) -> None:
    feedback = collected(*history(seed))
    feedback.save(tmp_path / "new" / "run")
    again = ExecutionFeedback.load(tmp_path / "new" / "run")
    assert again == feedback
    pd.testing.assert_frame_equal(again.shortfall(), feedback.shortfall())
    again.submit(order("another"))
    assert again != feedback
    again.save(tmp_path / "new" / "run")
    assert ExecutionFeedback.load(tmp_path / "new" / "run") == again
    empty = ExecutionFeedback()
    empty.save(tmp_path / "empty")
    assert ExecutionFeedback.load(tmp_path / "empty") == empty
    with pytest.raises(InputError, match=r"there is no .*closes"):
        ExecutionFeedback.load(tmp_path)


def test_what_is_read_is_checked() -> None:
    frames = collected([order()], [fill()], []).to_frames()
    with pytest.raises(InputError, match="unknown order: 'o1'"):
        ExecutionFeedback.from_frames(frames | {"orders": frames["orders"].iloc[:0]})
    with pytest.raises(InputError, match="quantity must be above 0"):
        ExecutionFeedback.from_frames(frames | {"fills": frames["fills"].assign(quantity=-1.0)})
    with pytest.raises(InputError, match="must have the columns"):
        ExecutionFeedback.from_frames(frames | {"fills": frames["fills"].drop(columns="price")})
    with pytest.raises(InputError, match="needs the frames"):
        ExecutionFeedback.from_frames({"orders": frames["orders"]})


def test_fills_move_the_model() -> None:
    sent = [order(f"o{i}", time=START + pd.Timedelta(i, "h")) for i in range(30)]
    law = 0.02 * 0.01**0.5
    done = [
        fill(f"f{i}.{j}", f"o{i}", 500.0, 50.2 * (1 + 1.8 * law), time=START + pd.Timedelta(i, "h"))
        for i in range(30)
        for j in range(2)
    ]
    feedback = collected(sent, done, [])
    assert feedback.executions()["quantity"].tolist() == [1_000.0] * 30
    model = AdaptiveCostModel(SquareRootImpact(), prior_deviation=10.0).learn(feedback.executions())
    assert model.multiples()["multiple"]["AAPL"] == pytest.approx(1.8, rel=0.02)
    trade = replace(sent[0], quantity=2_000.0)
    before = SquareRootImpact().charge("AAPL", trade.quantity, 50.0, volume=1e5, volatility=0.02)
    after = model.charge("AAPL", trade.quantity, 50.0, volume=1e5, volatility=0.02)
    assert after["impact"] == pytest.approx(1.8 * before["impact"], rel=0.02)

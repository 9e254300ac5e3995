"""Decisions and order plans in a database come back as they were, and are never written over."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from portfolioopt import rebalance as rb
from portfolioopt.errors import InputError
from portfolioopt.store import Store

ASSETS = [f"A{i}" for i in range(8)]


def book(seed: int) -> tuple[rb.Decision, rb.OrderPlan]:
    """A decision and a plan with orders and trades that were left out."""
    rng = np.random.default_rng(seed)
    targets = pd.Series(rng.dirichlet(np.ones(9))[:8], ASSETS)
    prices = pd.Series(rng.uniform(5.0, 500.0, 8), ASSETS)
    units = pd.Series(np.floor(rng.dirichlet(np.ones(8)) * 1e5 / prices), ASSETS)
    rules = rb.OrderRules(lot=1, fees=2.0, minimum_value=3_000.0, no_trade=("A3",))
    trigger = rb.DriftTrigger(rb.DriftBand(0.02)) | rb.CashTrigger(1.0)
    value = rb.value_book(units, prices, cash=8_000.0)
    decision = trigger.judge(rb.Situation(pd.Timestamp("2024-07-10"), value.weights, targets, nav=value.nav))
    return decision, rb.create_orders(targets, units, prices, cash=8_000.0, rules=rules)


def same_plan(one: rb.OrderPlan, other: rb.OrderPlan) -> None:
    assert one.orders == other.orders
    assert (one.cash, one.nav, one.note, one.fees) == (other.cash, other.nav, other.note, other.fees)
    pd.testing.assert_series_equal(one.holdings, other.holdings, check_exact=True, check_names=False)
    pd.testing.assert_frame_equal(one.skipped, other.skipped, check_exact=True, check_dtype=False)
    pd.testing.assert_frame_equal(one.frame, other.frame, check_exact=True)


@pytest.mark.parametrize("seed", range(5))
def test_they_come_back(tmp_path: Path, seed: int) -> None:
    decision, plan = book(seed)
    assert decision.rebalance
    assert len(decision.breaches) > 0
    assert len(plan.orders) > 0
    assert len(plan.skipped) > 0
    path = tmp_path / "book.sqlite"
    with Store(path) as store:
        assert store.save_decision(decision, "2024-07-10", plan=plan)
        assert not store.save_decision(decision, pd.Timestamp("2024-07-10", tz="UTC"), plan=plan)
    with Store(path) as store:
        kept = store.decision("2024-07-10")
        same_plan(store.plan("2024-07-10"), plan)
        assert not store.save_decision(kept, "2024-07-10", plan=store.plan("2024-07-10"))
        listed = store.plans()
        assert listed.loc["2024-07-10", "orders"].item() == len(plan.orders)
        assert listed["fees"].iloc[0] == pytest.approx(plan.fees, rel=1e-14)
        assert listed["traded"].iloc[0] == pytest.approx(sum(o.value for o in plan.orders), rel=1e-14)
        assert store.decisions()["reasons"].iloc[0] == "; ".join(decision.reasons)
    assert kept.rebalance is True
    assert kept.reasons == decision.reasons
    pd.testing.assert_frame_equal(kept.breaches, decision.breaches, check_exact=True)


def test_what_holds_back_and_what_has_no_orders() -> None:
    weights = pd.Series({"A": 0.5, "B": 0.5})
    quiet = rb.DriftTrigger().judge(rb.Situation(pd.Timestamp("2024-07-10"), weights, weights))
    nothing = rb.create_orders(weights, {"A": 50.0, "B": 50.0}, {"A": 1.0, "B": 1.0})
    store = Store()
    store.save_decision(quiet, "2024-07-10 15:30")
    store.save_plan(nothing, "2024-07-11")
    kept = store.decision("2024-07-10 15:30")
    assert kept.rebalance is False
    assert kept.reasons == quiet.reasons
    pd.testing.assert_frame_equal(kept.breaches, quiet.breaches)
    same_plan(store.plan("2024-07-11"), nothing)
    assert store.plans()["orders"].tolist() == [0]
    odd = rb.DriftTrigger(rb.DriftBand(0.0, "relative", zero_target="any"), untargeted="sell").judge(
        rb.Situation(pd.Timestamp("2024-07-10"), pd.Series({"A": 0.5, "Z": 0.1}), pd.Series({"A": 0.5}))
    )
    assert np.isinf(odd.breaches.loc["Z", "relative_drift"])
    store.save_decision(odd, "2024-07-12")
    pd.testing.assert_frame_equal(store.decision("2024-07-12").breaches, odd.breaches, check_exact=True)
    assert list(store.decisions().index) == [pd.Timestamp(t, tz="UTC") for t in ("2024-07-10 15:30", "2024-07-12")]


def test_nothing_is_written_over(tmp_path: Path) -> None:
    path = tmp_path / "book.sqlite"
    decision, plan = book(0)
    store = Store(path)
    store.save_plan(plan, "2024-07-11")
    with sqlite3.connect(path) as connection:
        before = list(connection.iterdump())
    changed = replace(plan, orders=(replace(plan.orders[0], fee=plan.orders[0].fee + 1e-9), *plan.orders[1:]))
    with pytest.raises(InputError, match=r"order plan of 'main' at 2024-07-11 .* otherwise \(table planned_orders\)"):
        store.save_decision(decision, "2024-07-11", plan=changed)  # nor the decision, which is new
    with pytest.raises(InputError, match="NaN cannot be stored"):
        store.save_plan(replace(plan, cash=float("nan")), "2024-07-12")
    with pytest.raises(InputError, match="that of a holding was 7"):
        store.save_plan(replace(plan, holdings=pd.Series({7: 1.0})), "2024-07-12")
    with sqlite3.connect(path) as connection:
        assert list(connection.iterdump()) == before
    store.save_decision(decision, "2024-07-11")
    with pytest.raises(InputError, match=r"a decision of 'main' .* otherwise \(table reasons\)"):
        store.save_decision(replace(decision, reasons=("because",)), "2024-07-11")
    assert store.save_decision(decision, "2024-07-11", book="other")
    store.close()


def test_what_is_not_there() -> None:
    store = Store()
    decision, plan = book(1)
    store.save_decision(decision, "2024-07-10")
    with pytest.raises(
        InputError, match=r"no decision of 'main' at 2024-07-11 .*; the last one before it is of 2024-07-10"
    ):
        store.decision("2024-07-11")
    with pytest.raises(InputError, match=r"no order plan of 'main' .*; there is none before it"):
        store.plan("2024-07-10")
    with pytest.raises(InputError, match="takes a Decision, was given OrderPlan"):
        store.save_decision(plan, "2024-07-10")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="takes an OrderPlan, was given Decision"):
        store.save_plan(decision, "2024-07-10")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="time must be a time, was 'soon'"):
        store.save_decision(decision, "soon")
    with pytest.raises(InputError, match="time is missing"):
        store.save_decision(decision, pd.NaT)  # type: ignore[arg-type]

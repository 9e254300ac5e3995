"""The quick look at many books never overlooks one that a rule would rebalance."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portfolioopt.rebalance import (
    CalendarTrigger,
    CashTrigger,
    Cooldown,
    DriftBand,
    DriftTrigger,
    Panel,
    RebalanceRule,
    Situation,
    Trigger,
    UniverseChange,
)

ASSETS = pd.Index(["A", "B", "C"])
TRIGGERS: list[Trigger] = [
    DriftTrigger(),
    DriftTrigger(DriftBand(0.05, "relative"), cash="CASH"),
    DriftTrigger(DriftBand(0.05, "relative", zero_target="any", inclusive=False)),
    DriftTrigger(DriftBand(0.02, groups={"A": "x", "B": "x", "C": "y"})),
    DriftTrigger(DriftBand({"A": 0.1, "B": 0.02, "C": 0.05})),
    CalendarTrigger("monthly"),
    CalendarTrigger("weekly", day=3, late=False),
    CashTrigger(surplus=0.1) & DriftTrigger(),
    CalendarTrigger("monthly") & DriftTrigger(DriftBand(0.03)),
    CalendarTrigger("quarterly") | DriftTrigger(DriftBand(0.08)),
]
RULES = [
    *(RebalanceRule(trigger, Cooldown(rest)) for trigger in TRIGGERS for rest in (0, 7)),
    RebalanceRule(first_day="judge"),
    RebalanceRule(despite_cooldown=UniverseChange()),
]
GRID = [0.0, 0.05, 0.1, 0.2, 0.25, 0.2625, 0.3, 0.35, -0.1]
ROWS = st.lists(st.tuples(*[st.sampled_from(GRID)] * 6), min_size=1, max_size=6)


def assert_nothing_overlooked(rule: RebalanceRule, rows: list[tuple[float, ...]], day: int, ages: list[int]) -> None:
    """Judge each book by itself; equality where the quick look is as good as the judgement."""
    date = pd.Timestamp("2024-01-02") + pd.Timedelta(days=day)
    table = np.array(rows)
    lasts = tuple(None if age < 0 else date - pd.Timedelta(days=age) for age in ages)
    possible = rule.possible(Panel(date, ASSETS, table[:, :3], table[:, 3:], lasts))
    for k, (row, last) in enumerate(zip(table, lasts, strict=True)):
        weights, targets = pd.Series(row[:3], ASSETS), pd.Series(row[3:], ASSETS)
        judged = rule.decide(Situation(date, weights, targets, last_rebalance=last, previous_targets=targets))
        assert possible[k] or not judged.rebalance
        if isinstance(rule.trigger, DriftTrigger) and rule.trigger is TRIGGERS[0] and rule.despite_cooldown is None:
            assert possible[k] == judged.rebalance


@pytest.mark.parametrize("number", range(len(RULES)))
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_nothing_is_overlooked(number: int, data: st.DataObject) -> None:
    """Over bands, calendars, combinations, cooldowns and first days."""
    rows = data.draw(ROWS)
    ages = data.draw(st.lists(st.integers(-1, 40), min_size=len(rows), max_size=len(rows)))
    assert_nothing_overlooked(RULES[number], rows, data.draw(st.integers(0, 200)), ages)

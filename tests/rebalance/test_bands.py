"""Drift and its bands: the documented table, exact edges, and the rules stated once more in exact fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from portfolioopt.errors import InputError, UnknownNameError
from portfolioopt.rebalance import DriftBand, drift_report, drifted, value_book, weights_to_trade_to

ONE = pd.Series({"A": 0.25})


def breached(weight: float, band: DriftBand, target: float = 0.25) -> bool:
    return bool(drift_report({"A": weight}, {"A": target}, band)["breached"].item())


# -- the documented meaning ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "weight", "out"),
    [
        ("absolute", 0.2999, False),
        ("absolute", 0.30, True),
        ("absolute", 0.20, True),
        ("absolute", 0.2001, False),
        ("relative", 0.2624, False),
        ("relative", 0.2625, True),
        ("relative", 0.2375, True),
        ("relative", 0.2376, False),
    ],
)
def test_a_quarter_with_a_band_of_five_percent(kind, weight, out) -> None:
    assert breached(weight, DriftBand(0.05, kind)) is out


BALANCED = {"SPY": 0.60, "TLT": 0.35}  # and 5 % cash


@pytest.mark.parametrize(
    ("units", "cash", "absolute", "relative"),
    [
        ({"SPY": 60_000, "TLT": 35_000}, 5_000, [], []),
        ({"SPY": 64_900, "TLT": 30_300}, 4_800, [], []),
        ({"SPY": 65_000, "TLT": 30_000}, 5_000, ["SPY", "TLT"], []),
        ({"SPY": 60_000, "TLT": 36_000}, 4_000, [], ["cash"]),
        ({"SPY": 63_000, "TLT": 27_000}, 10_000, ["TLT", "cash"], ["TLT", "cash"]),
    ],
)
def test_a_balanced_account_with_two_conditions(units, cash, absolute, relative) -> None:
    weights = value_book(units, {"SPY": 1.0, "TLT": 1.0}, cash=cash).weights
    for band, expected in ((DriftBand(0.05), absolute), (DriftBand(0.20, "relative"), relative)):
        report = drift_report(weights, BALANCED, band, cash="cash")
        assert report.index[report["breached"]].tolist() == expected


def test_half_and_half_at_fifty_five() -> None:
    report = {"A": 0.55, "B": 0.45}, {"A": 0.5, "B": 0.5}
    assert drift_report(*report, DriftBand(0.05))["breached"].all()
    assert drift_report(*report, DriftBand(0.10, "relative"))["breached"].all()
    assert not drift_report(*report, DriftBand(0.1001, "relative"))["breached"].any()


def test_the_report_by_hand() -> None:
    report = drift_report({"A": 0.5, "S": -0.12}, {"A": 0.4, "S": -0.1, "Z": 0.0}, DriftBand(0.1, "relative"))
    expected = pd.DataFrame(
        {
            "weight": [0.5, -0.12, 0.0],
            "target": [0.4, -0.1, 0.0],
            "drift": [0.1, -0.02, 0.0],
            "relative_drift": [0.25, -0.2, 0.0],
            "band": [0.04, 0.01, 0.1],
            "breached": [True, True, False],
        },
        index=pd.Index(["A", "S", "Z"], name="asset"),
    )
    pd.testing.assert_frame_equal(report, expected, rtol=1e-12)
    sold_short = drift_report({"A": -0.1}, {"A": 0.0}, DriftBand(0.1, "relative"))
    assert sold_short["relative_drift"].item() == -np.inf
    assert sold_short["breached"].item()


# -- edges ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["absolute", "relative"])
@pytest.mark.parametrize("target", [0.25, 0.1, 0.7, -0.3, 1.0 / 3.0])
@pytest.mark.parametrize("side", [1.0, -1.0])
def test_on_the_edge_the_setting_decides_and_rounding_does_not(kind, target, side) -> None:
    edge = 0.05 * (abs(target) if kind == "relative" else 1.0)
    inclusive, exclusive = DriftBand(0.05, kind), DriftBand(0.05, kind, inclusive=False)
    for noise in (-3e-16, 0.0, 3e-16, 5e-11, -5e-11):
        weight = target + side * edge + noise
        assert breached(weight, inclusive, target)
        assert not breached(weight, exclusive, target)
    for off, out in ((-1e-9, False), (1e-9, True)):
        assert breached(target + side * (edge + off), inclusive, target) is out
        assert breached(target + side * (edge + off), exclusive, target) is out


def test_the_edge_of_a_book_of_units() -> None:
    # 0.1 + 0.2 style sums: the weight of A is 0.30 up to rounding, on either side of it.
    for scale in (0.1, 0.3, 0.7, 1.1, 1e-3, 12345.678):
        weights = value_book({"A": 3.0 * scale, "B": 7.0 * scale}, {"A": 1.1, "B": 1.1}).weights
        report = drift_report(weights, {"A": 0.25, "B": 0.75}, DriftBand(0.05))
        assert report["breached"].all()


def test_a_width_of_zero_takes_any_drift_but_none() -> None:
    assert not breached(0.25, DriftBand(0.0))
    assert breached(0.2500001, DriftBand(0.0))
    assert not breached(0.25 + 1e-12, DriftBand(0.0))


@pytest.mark.parametrize(("zero", "at"), [("absolute", 0.05), ("any", 1e-6), ("never", None)])
def test_targets_of_zero_under_a_relative_band(zero, at) -> None:
    band = DriftBand(0.05, "relative", zero_target=zero)
    assert not breached(0.0, band, 0.0)
    if at is None:
        assert not breached(5.0, band, 0.0)
    else:
        assert breached(at, band, 0.0)
        assert breached(-at, band, 0.0)
        assert not breached(at * 0.5 if zero == "absolute" else 1e-11, band, 0.0)


# -- brute force ---------------------------------------------------------------------------------------------


def stated(weight: Fraction, target: Fraction, width: Fraction, kind: str, inclusive: bool, zero: str) -> bool:
    """The rule in words and exact fractions: how far is it, how far may it be."""
    tenth_of_a_billionth = Fraction(1, 10**10)
    far = weight - target if weight > target else target - weight
    if far <= tenth_of_a_billionth:
        return False
    if kind == "absolute":
        allowed = width
    elif abs(target) > tenth_of_a_billionth:
        allowed = width * abs(target)
    elif zero == "never":
        return False
    else:
        allowed = width if zero == "absolute" else Fraction(0)
    if abs(far - allowed) <= tenth_of_a_billionth:
        return inclusive
    return far > allowed


@st.composite
def books(draw) -> tuple[list[int], list[int], int, list[int], str, bool, str]:
    """Units at a price of one, cash, targets and widths in thousandths: edges are hit exactly, and often."""
    n = draw(st.integers(1, 6))
    units = draw(st.lists(st.integers(-300, 1000), min_size=n, max_size=n))
    cash = 1000 - sum(units) if draw(st.booleans()) else draw(st.integers(1, 500)) - min(sum(units), 0)
    targets = draw(st.lists(st.integers(-400, 1000) | st.just(0), min_size=n, max_size=n))
    widths = draw(st.lists(st.sampled_from([0, 10, 50, 100, 200, 250, 500]), min_size=n, max_size=n))
    kind = draw(st.sampled_from(["absolute", "relative"]))
    return units, targets, cash, widths, kind, draw(st.booleans()), draw(st.sampled_from(["absolute", "any", "never"]))


def check_against_the_statement(book) -> None:
    units, targets, cash, widths, kind, inclusive, zero = book
    names = [f"A{i}" for i in range(len(units))]
    nav = sum(units) + cash
    held = pd.Series(units, names, dtype=float)
    if nav <= 0:
        with pytest.raises(InputError, match="net asset value"):
            value_book(held, pd.Series(1.0, names), cash=cash)
        return
    weights = value_book(held, pd.Series(1.0, names), cash=cash).weights
    band = DriftBand(dict(zip(names, (w / 1000 for w in widths), strict=True)), kind, inclusive, zero_target=zero)
    report = drift_report(weights, pd.Series(targets, names) / 1000, band)
    expected = [
        stated(Fraction(u, nav), Fraction(t, 1000), Fraction(w, 1000), kind, inclusive, zero)
        for u, t, w in zip(units, targets, widths, strict=True)
    ]
    assert report["breached"].tolist() == expected


@given(books())
def test_the_band_is_what_its_statement_says(book) -> None:
    check_against_the_statement(book)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_the_band_is_what_its_statement_says_on_a_hundred_thousand_books(seed) -> None:
    # Drawn without hypothesis, whose own work would take ten times as long as the check.
    rng = np.random.default_rng(seed)
    widths = np.array([0, 10, 50, 100, 200, 250, 500])
    for _ in range(25_000):
        n = int(rng.integers(1, 5))
        units = rng.integers(-300, 1000, n)
        cash = 1000 - units.sum() if rng.random() < 0.7 else rng.integers(-100, 1500)
        chosen = rng.choice(widths, n)
        kind = str(rng.choice(["absolute", "relative"]))
        # Half of the targets are put where the weight meets an edge, up to one unit.
        size = chosen if kind == "absolute" else np.abs(units) * chosen // (1000 + chosen)
        targets = np.where(rng.random(n) < 0.5, units - size + rng.integers(-1, 2, n), rng.integers(-400, 1000, n))
        targets[rng.random(n) < 0.1] = 0
        zero = str(rng.choice(["absolute", "any", "never"]))
        lists = [x.tolist() for x in (units, targets, chosen)]
        check_against_the_statement((*lists[:2], int(cash), lists[2], kind, bool(rng.random() < 0.5), zero))


# -- groups --------------------------------------------------------------------------------------------------

SECTORS = pd.Series({"A": "Tech", "B": "Tech", "C": "Energy", "D": "Bonds"})


def test_groups_are_judged_by_their_sums() -> None:
    weights = {"A": 0.4, "B": 0.0, "C": 0.25, "D": 0.35}
    targets = {"A": 0.2, "B": 0.2, "C": 0.3, "D": 0.3}
    report = drift_report(weights, targets, DriftBand({"Tech": 0.05, "Energy": 0.05, "Bonds": 0.06}, groups=SECTORS))
    assert report.index.tolist() == ["Tech", "Energy", "Bonds"]
    np.testing.assert_allclose(report["drift"], [0.0, -0.05, 0.05], atol=1e-15)
    assert report["breached"].tolist() == [False, True, False]


# -- drift ---------------------------------------------------------------------------------------------------


def test_drift_is_what_the_units_say() -> None:
    rng = np.random.default_rng(3)
    names = pd.Index(list("ABCD"))
    units, before = pd.Series([10.0, -3.0, 5.0, 0.0], names), pd.Series([20.0, 30.0, 7.0, 1.0], names)
    returns = pd.DataFrame(rng.normal(0.0, 0.03, (30, 4)), columns=names)
    after = before * (1.0 + returns).prod()
    drift = drifted(value_book(units, before, cash=50.0).weights, returns)
    np.testing.assert_allclose(drift, value_book(units, after, cash=50.0).weights, rtol=1e-12)
    with_interest = drifted(value_book(units, before, cash=50.0).weights, returns, cash_return=0.001)
    expected = value_book(units, after, cash=50.0 * 1.001**30).weights
    np.testing.assert_allclose(with_interest, expected, rtol=1e-12)
    assert drifted({"A": 0.5, "B": 0.5}, {"A": -1.0, "B": 0.0}).tolist() == [0.0, 1.0]


# -- where to trade to ---------------------------------------------------------------------------------------


def test_edge_and_halfway_by_hand() -> None:
    held, wanted = {"A": 0.60, "B": 0.26, "C": 0.14}, {"A": 0.50, "B": 0.25, "C": 0.25}
    exclusive = DriftBand(0.05, inclusive=False)
    # A falls to .55 and C rises to .20, which needs .01 more than there is: A and B, above their targets by .05 and
    # .01, give it in that proportion.
    edge = weights_to_trade_to(held, wanted, exclusive, towards="edge")
    np.testing.assert_allclose(edge, [0.55 - 0.01 * 5 / 6, 0.26 - 0.01 / 6, 0.20], atol=1e-12)
    half = weights_to_trade_to(held, wanted, exclusive, towards="halfway")
    np.testing.assert_allclose(half, [0.525 - 0.01 * 5 / 7, 0.26 - 0.01 * 2 / 7, 0.225], atol=1e-12)
    assert weights_to_trade_to(held, wanted, exclusive).tolist() == [0.5, 0.25, 0.25]


@st.composite
def drifts(draw) -> tuple[np.ndarray, np.ndarray, DriftBand, str]:
    n = draw(st.integers(2, 8))
    parts = st.lists(st.integers(0, 100), min_size=n, max_size=n).filter(lambda x: sum(x) > 0)
    held, wanted = np.array(draw(parts), dtype=float), np.array(draw(parts), dtype=float)
    band = DriftBand(draw(st.sampled_from([0.01, 0.05, 0.2])), draw(st.sampled_from(["absolute", "relative"])))
    return held / held.sum(), wanted / wanted.sum(), band, draw(st.sampled_from(["target", "edge", "halfway"]))


@given(drifts())
def test_trading_keeps_the_sum_ends_in_the_band_and_passes_no_target(case) -> None:
    held, wanted, band, towards = case
    names = [f"A{i}" for i in range(len(held))]
    w, t = pd.Series(held, names), pd.Series(wanted, names)
    result = weights_to_trade_to(w, t, band, towards=towards)
    assert result.sum() == pytest.approx(1.0, abs=1e-9)
    assert not drift_report(result, t, band)["breached"].any()
    moved = result - w
    assert ((moved * (t - w) >= -1e-15) & (moved.abs() <= (t - w).abs() + 1e-12)).all()
    if not drift_report(w, t, band)["breached"].any() and towards != "target":
        np.testing.assert_allclose(result, w, atol=1e-15)


@pytest.mark.parametrize(
    ("towards", "tech", "energy", "bonds"),
    [
        ("target", 0.40, 0.30, 0.30),
        # To the edges .45, .25, .35, and the .05 missing from the two that are above their targets by .05 each.
        ("edge", 0.425, 0.25, 0.325),
        ("halfway", 0.4125, 0.275, 0.3125),
    ],
)
def test_groups_keep_the_proportions_inside(towards, tech, energy, bonds) -> None:
    held = {"A": 0.45, "B": 0.15, "C": 0.0, "D": 0.40, "E": 0.0}
    wanted = {"A": 0.2, "B": 0.2, "C": 0.2, "D": 0.3, "E": 0.1}
    band = DriftBand(0.05, inclusive=False, groups={**SECTORS, "E": "Energy"})
    result = weights_to_trade_to(held, wanted, band, towards=towards)
    # Energy was not held at all: it is bought in the proportions of the targets.
    expected = [tech * 3 / 4, tech / 4, energy * 2 / 3, bonds, energy / 3]
    np.testing.assert_allclose(result, expected, atol=1e-12)


# -- refusals ------------------------------------------------------------------------------------------------


def test_refusals_name_the_culprit() -> None:
    with pytest.raises(InputError, match="'B'"):
        value_book({"A": 1.0, "B": 2.0}, {"A": 1.0})
    with pytest.raises(InputError, match="'B'"):
        value_book({"A": 1.0, "B": 2.0}, {"A": 1.0, "B": np.nan})
    with pytest.raises(InputError, match="not positive for 'B'"):
        value_book({"A": 1.0, "B": 2.0}, {"A": 1.0, "B": 0.0})
    with pytest.raises(InputError, match="net asset value"):
        value_book({"A": 1.0}, {"A": 1.0}, cash=-1.0)
    with pytest.raises(InputError, match="duplicate"):
        value_book(pd.Series([1.0, 2.0], ["A", "A"]), {"A": 1.0})
    with pytest.raises(InputError, match="'B'"):
        drift_report({"A": 0.5, "B": 0.5}, {"A": 1.0})
    assert drift_report({"A": 0.5, "B": 0.5}, {"A": 1.0}, untargeted="sell").loc["B", "target"] == 0.0
    with pytest.raises(InputError, match="finite for 'A'"):
        drift_report({"A": 0.5}, {"A": np.nan})
    with pytest.raises(InputError, match="'A'"):
        drift_report({"A": 0.5}, {"A": 0.5}, DriftBand(groups={"B": "x"}))
    with pytest.raises(UnknownNameError):
        drift_report({"A": 0.5}, {"A": 0.5}, DriftBand({"A": 0.1, "B": 0.1}))
    with pytest.raises(InputError, match="cash"):
        drift_report({"A": 0.5}, {"A": 0.5}, cash="A")
    for wrong in ({"width": -0.1}, {"width": {"A": np.nan}}, {"kind": "both"}, {"zero_target": "some"}):
        with pytest.raises(InputError):
            DriftBand(**wrong)
    with pytest.raises(InputError, match="'B'"):
        drifted({"A": 0.5, "B": 0.5}, {"A": 0.1})
    with pytest.raises(InputError, match="lost"):
        drifted({"A": 2.0}, {"A": -0.6})
    with pytest.raises(UnknownNameError, match="halfway"):
        weights_to_trade_to({"A": 0.5}, {"A": 0.5}, towards="half")


def test_a_position_of_zero_needs_no_price() -> None:
    book = value_book({"A": 1.0, "B": 0.0}, {"A": 2.0})
    assert book.weights.tolist() == [1.0, 0.0]

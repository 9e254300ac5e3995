"""The door to the past: views against slices by hand, futures that change nothing, delistings by hand."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portfolioopt.data import MarketData, Universe, log_returns, sample_prices, simple_returns, synthetic_market
from portfolioopt.errors import InputError, UnknownNameError
from tests.data.lookahead import NEWCOMER, assert_same, futures, unchanged_by_the_future

DAYS = pd.date_range("2024-01-01", periods=8, freq="D", name="date")
NAN = np.nan
SYNTHETIC = synthetic_market(40, 260, seed=3, factors=3, listed_at_start=0.6, listing_years=0.5, delisting_rate=0.4)


def frame(**columns: list[float]) -> pd.DataFrame:
    return pd.DataFrame(columns, index=DAYS[: len(next(iter(columns.values())))])


@pytest.fixture(scope="module")
def by_prices() -> MarketData:
    """A market whose members are those with a price, with all else that a market can hold."""
    drawn = SYNTHETIC.market
    gone = drawn.delistings
    return MarketData(
        drawn.prices,
        volumes=drawn.volumes,
        fields={"book": drawn.field("book_to_market")},
        vintages={"earnings": drawn.publications("earnings")},
        factors=drawn.factors,
        delisting_returns=gone.set_index("asset")["return"],
    )


QUESTIONS = {
    "assets": lambda m: m.assets,
    "dates": lambda m: m.dates,
    "as_of_date": lambda m: m.as_of_date,
    "prices": lambda m: m.prices,
    "volumes": lambda m: m.volumes,
    "factors": lambda m: m.factors,
    "members": lambda m: m.members(),
    "members before": lambda m: m.members(m.dates[len(m.dates) // 2]),
    "spells": lambda m: m.universe.spells if m.universe is not None else "none",
    "mask": lambda m: m.universe.mask(m.dates) if m.universe is not None else "none",
    "delistings": lambda m: m.delistings,
    "fields": lambda m: {name: m.field(name) for name in (*m.fields, *m.vintages)},
    "latest": lambda m: {name: m.latest(name) for name in (*m.fields, *m.vintages)},
    "publications": lambda m: [m.publications(name) for name in m.vintages],
    "returns": lambda m: m.returns(missing="keep"),
    "all returns": lambda m: m.returns(20, missing="keep", assets=m.assets, horizon=3),
    "filled": lambda m: m.returns(15, missing="drop_assets", forward_fill=4, assets=m.assets),
    "walk": lambda m: [(date, view.returns(missing="keep")) for date, view in m.walk(every=50, start=m.dates[5])],
    "repr": repr,
    "pickle": lambda m: pickle.loads(pickle.dumps(m)).prices,
}


@pytest.mark.parametrize("row", [30, 130, 259])
def test_no_answer_depends_on_the_future(row: int, by_prices: MarketData) -> None:
    for market in (SYNTHETIC.market, by_prices):
        unchanged_by_the_future(
            lambda m: {name: question(m) for name, question in QUESTIONS.items()}, market, market.dates[row]
        )


def test_between_two_dates_the_past_is_known_too(by_prices: MarketData) -> None:
    saturday = pd.Timestamp("2000-06-03")
    assert saturday not in by_prices.dates
    unchanged_by_the_future(QUESTIONS["fields"], by_prices, saturday)
    assert by_prices.as_of(saturday).as_of_date == saturday
    assert by_prices.as_of(saturday).dates[-1] == pd.Timestamp("2000-06-02")


def test_the_check_finds_what_looks_ahead(by_prices: MarketData, monkeypatch: pytest.MonkeyPatch) -> None:
    """A door that stands open, and futures that differ in everything that a market holds."""
    t = by_prices.dates[100]
    for name, changed in futures(by_prices, t):
        for question in ("dates", "prices", "volumes", "factors", "fields", "latest", "publications", "members"):
            before, after = QUESTIONS[question](by_prices), QUESTIONS[question](changed)
            with pytest.raises(AssertionError):
                assert_same(after, before, name)
    monkeypatch.setattr(MarketData, "as_of", lambda self, t: self)
    with pytest.raises(AssertionError, match="depends on the future"):
        unchanged_by_the_future(lambda m: m.prices.mean(), by_prices, t)


def test_names_of_later_listings_are_unknown(by_prices: MarketData) -> None:
    _, changed = list(futures(by_prices, DAYS[0].replace(year=2000, month=3)))[1]
    assert NEWCOMER in changed.assets
    assert NEWCOMER not in changed.as_of("2000-03-01").assets
    with pytest.raises(UnknownNameError):
        changed.as_of("2000-03-01").returns(assets=[NEWCOMER])


@settings(max_examples=25)
@given(first=st.integers(1, 259), second=st.integers(0, 259))
def test_a_view_of_a_view_is_the_earlier_view(first: int, second: int) -> None:
    market = SYNTHETIC.market
    later, earlier = max(first, second), min(first, second)
    direct = market.as_of(market.dates[earlier])
    through = market.as_of(market.dates[later]).as_of(market.dates[earlier])
    for question in ("assets", "prices", "spells", "delistings", "fields"):
        one, other = QUESTIONS[question](through), QUESTIONS[question](direct)
        pairs = zip(one.values(), other.values(), strict=True) if isinstance(one, dict) else [(one, other)]
        assert all(left.equals(right) for left, right in pairs)


def test_a_view_is_the_slice_that_one_would_cut_by_hand() -> None:
    market = SYNTHETIC.market
    t = market.dates[150]
    view = market.as_of(t)
    seen = market.prices.loc[:t].notna().any()
    pd.testing.assert_frame_equal(view.prices, market.prices.loc[:t, seen[seen].index])
    assert len(view.assets) < len(market.assets)
    assert set(view.members()) == set(market.universe.members(t))
    pd.testing.assert_frame_equal(view.factors, market.factors.loc[:t])


# -- memory --------------------------------------------------------------------------------------------------------
def test_views_share_the_matrix_and_nobody_can_write_to_it() -> None:
    prices = frame(A=[1.0, 2.0, 3.0], B=[4.0, 5.0, 6.0])
    market = MarketData(prices, volumes=prices * 10, factors=frame(F=[0.1, 0.2, 0.3]), fields={"x": prices})
    view = market.as_of(DAYS[1])
    assert np.shares_memory(view.prices.to_numpy(), market.prices.to_numpy())
    assert np.shares_memory(view.field("x").to_numpy(), market.field("x").to_numpy())
    prices.iloc[0, 0] = 99.0
    for handed in (market.prices, view.prices, view.field("x"), view.volumes, view.factors):
        with pytest.raises(ValueError, match="read-only"):
            handed.to_numpy()[0, 0] = 99.0
        handed.iloc[0, 0] = 99.0
        handed.columns = [*"XY"][: handed.shape[1]]
    assert market.prices.iloc[0, 0] == view.prices.iloc[0, 0] == view.field("x").iloc[0, 0] == 1.0
    assert list(market.assets) == list(view.prices.columns) == ["A", "B"]
    assert view.volumes.iloc[0, 0] == 10.0
    assert view.factors.iloc[0, 0] == 0.1


# -- returns -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("horizon", [1, 5])
@pytest.mark.parametrize(("kind", "function"), [("simple", simple_returns), ("log", log_returns)])
def test_returns_are_those_of_the_prices(horizon: int, kind, function) -> None:
    prices = sample_prices().iloc[:80]
    market = MarketData(prices)
    whole = function(prices, horizon=horizon)
    pd.testing.assert_frame_equal(market.returns(kind=kind, horizon=horizon), whole)
    window = market.as_of(prices.index[60]).returns(20, kind=kind, horizon=horizon)
    pd.testing.assert_frame_equal(window, whole.loc[: prices.index[60]].tail(20))
    assert window.attrs == {"returns": kind}


def test_returns_of_a_synthetic_market_are_those_it_was_made_from() -> None:
    market = SYNTHETIC.market
    found = market.returns(missing="keep", assets=SYNTHETIC.returns.columns)
    assert len(market.delistings) > 5
    np.testing.assert_allclose(found.to_numpy(), SYNTHETIC.returns.to_numpy()[1:], atol=1e-12)
    for event in market.delistings.itertuples():
        assert found.loc[event.date, event.asset] == pytest.approx(event._3)


def test_members_come_from_prices_without_a_universe() -> None:
    market = MarketData(frame(A=[1.0, 2.0, NAN], B=[NAN, 1.0, 1.0], C=[NAN, NAN, NAN]))
    assert list(market.members(DAYS[0])) == ["A"]
    assert list(market.members(DAYS[1])) == ["A", "B"]
    assert list(market.members()) == ["B"]
    assert list(market.members("2023-12-31")) == []
    assert list(market.assets) == ["A", "B", "C"]
    assert list(market.as_of(DAYS[0]).assets) == ["A"]


def test_the_delisting_return_is_earned_on_the_delisting_date() -> None:
    # Traded until the third day, worth 60 % of the last price on the fourth.
    prices = frame(A=[10.0, 20.0, 30.0, NAN, NAN, NAN, NAN], B=[1.0] * 7)
    for market in (
        MarketData(prices, delisting_returns={"A": -0.4}),
        MarketData(prices, universe=universe(("A", 0, 3, -0.4), ("B", 0, None, NAN))),
    ):
        known = market.as_of(DAYS[3])
        assert list(known.members()) == ["B"]
        assert known.returns(missing="keep", assets=["A"])["A"].tolist() == pytest.approx([1.0, 0.5, -0.4])
        assert known.delistings.to_numpy().tolist() == [["A", DAYS[3], -0.4]]
        # The day before nobody knows, and the day after there is nothing to hold.
        assert market.as_of(DAYS[2]).delistings.empty
        assert list(market.as_of(DAYS[2]).members()) == ["A", "B"]
        after = market.returns(missing="keep", assets=["A"])["A"]
        filled = market.returns(missing="keep", forward_fill=3, assets=["A"])["A"]
        assert after.isna().tolist() == filled.isna().tolist() == [False, False, False, True, True, True]
        logs = market.returns(5, kind="log", missing="keep", assets=["A"])["A"]
        assert logs.iloc[1] == pytest.approx(np.log(0.6))


def test_a_delisting_on_a_day_with_a_price_compounds_both() -> None:
    market = MarketData(frame(A=[10.0, 20.0, NAN]), universe=universe(("A", 0, 1, -0.5)))
    assert market.returns(missing="keep", assets=["A"])["A"].iloc[0] == pytest.approx(20 * 0.5 / 10 - 1)


def test_a_halt_ahead_of_a_delisting_loses_nothing() -> None:
    prices = frame(A=[10.0, NAN, NAN, NAN, NAN])
    market = MarketData(prices, universe=universe(("A", 0, 3, -0.9)))
    returns = market.returns(missing="keep", assets=["A"])["A"]
    assert returns.iloc[:3].tolist() == pytest.approx([0.0, 0.0, -0.9])
    assert market.as_of(DAYS[3]).returns(1, missing="keep", assets=["A"]).iloc[0, 0] == pytest.approx(-0.9)
    assert np.isnan(market.as_of(DAYS[2]).returns(1, missing="keep", assets=["A"]).iloc[0, 0])
    longer = market.returns(missing="keep", assets=["A"], horizon=2)["A"]
    np.testing.assert_allclose(longer, [0.0, -0.9, NAN])


def test_no_return_spans_a_delisting_and_a_new_listing() -> None:
    prices = frame(A=[10.0, 10.0, 50.0, 55.0, 55.0])
    market = MarketData(prices, universe=universe(("A", 0, 1, -0.5), ("A", 2, None, NAN)))
    np.testing.assert_allclose(market.returns(missing="keep")["A"], [-0.5, NAN, 0.1, 0.0])
    np.testing.assert_allclose(market.returns(missing="keep", horizon=2)["A"], [NAN, NAN, 0.1])
    with pytest.raises(InputError, match="would span both"):
        market.returns()
    assert len(market.returns(missing="drop_dates")) == 3


def test_a_total_loss_has_no_log_return() -> None:
    market = MarketData(frame(A=[10.0, 10.0, NAN]), delisting_returns=pd.Series({"A": -1.0}))
    assert market.returns(assets=["A"], missing="keep").iloc[1, 0] == -1.0
    with pytest.raises(InputError, match="A lost everything"):
        market.returns(kind="log", assets=["A"], missing="keep")


def test_prices_ahead_of_the_window_fill_its_gaps() -> None:
    market = MarketData(frame(A=[1.0, 2.0, NAN, NAN, 3.0, 3.0]))
    expected = simple_returns(market.prices, forward_fill=2)["A"]
    for window in range(1, 6):
        assert market.returns(window, forward_fill=2)["A"].tolist() == expected.tail(window).tolist()
    with pytest.raises(InputError, match="1 price"):
        market.returns(forward_fill=1)


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[float], list[tuple[int, float]]]:
    """Ten prices with gaps, and delistings (row, return) that each have a price before them."""
    prices = [draw(st.one_of(st.floats(1.0, 2.0), st.just(NAN) if row else st.floats(1.0, 2.0))) for row in range(10)]
    rows = sorted(draw(st.sets(st.integers(1, 9), max_size=3)))
    return prices, [(row, draw(st.floats(-0.9, 0.5))) for row in rows]


def returns_by_hand(prices: list[float], delistings: list[tuple[int, float]], horizon: int, fill: int) -> list[float]:
    """Returns of one asset, cell by cell from their definition."""
    ends = dict(delistings)
    worth = list(prices)
    for row, fraction in delistings:
        last = max(t for t in range(row + 1) if not np.isnan(prices[t]))
        worth[last + 1 : row] = [prices[last]] * (row - last - 1)
        worth[row] = prices[last] * (1 + fraction)
    filled = list(worth)
    for t in range(10):
        source = next((s for s in range(t, -1, -1) if not np.isnan(worth[s])), None)
        if np.isnan(worth[t]) and source is not None and t - source <= fill and source not in ends:
            filled[t] = worth[source]
    return [
        NAN if any(t - horizon <= end < t for end in ends) else filled[t] / filled[t - horizon] - 1.0
        for t in range(horizon, 10)
    ]


@settings(max_examples=40)
@given(one=histories(), other=histories(), horizon=st.integers(1, 3), fill=st.integers(0, 4), window=st.integers(1, 7))
def test_returns_are_what_their_definition_says(one, other, horizon: int, fill: int, window: int) -> None:
    dates = pd.date_range("2024-01-01", periods=10)
    spells = []
    for asset, (_, delistings) in (("A", one), ("B", other)):
        begin = dates[0]
        for row, fraction in delistings:
            spells.append((asset, begin, dates[row], fraction))
            begin = dates[row]
        spells.append((asset, begin, pd.NaT, NAN))
    table = pd.DataFrame(spells, columns=["asset", "start", "end", "delisting_return"])
    prices = pd.DataFrame({"A": one[0], "B": other[0]}, index=dates)
    market = MarketData(prices, universe=Universe(table))
    found = market.returns(window, horizon=horizon, forward_fill=fill, missing="keep", assets=["B", "A"])
    for asset, history in (("A", one), ("B", other)):
        np.testing.assert_allclose(found[asset], returns_by_hand(*history, horizon, fill)[-window:], atol=1e-12)


# -- fields and vintages -------------------------------------------------------------------------------------------
def test_the_value_seen_is_the_last_one_known() -> None:
    """Against a loop over publications."""
    rng = np.random.default_rng(5)
    table = pd.DataFrame(
        {
            "asset": rng.choice(list("ABC"), 60),
            "date": DAYS[rng.integers(0, 4, 60)],
            "known_at": DAYS[rng.integers(0, 8, 60)] + pd.to_timedelta(rng.integers(0, 20, 60), unit="h"),
            "value": rng.normal(size=60),
        }
    ).drop_duplicates(["asset", "date", "known_at"])
    market = MarketData(frame(A=[1.0] * 8, B=[1.0] * 8, C=[1.0] * 8), vintages={"v": table})
    for t in DAYS:
        expected: dict[tuple, float] = {}
        for row in table.sort_values("known_at").itertuples():
            if row.known_at <= t:
                expected[row.date, row.asset] = row.value
        view = market.as_of(t)
        grid = view.field("v")
        found = {(date, asset): grid.loc[date, asset] for date in grid.index for asset in grid.columns}
        assert {cell: value for cell, value in found.items() if not np.isnan(value)} == expected
        latest = {asset: expected[max(k for k in expected if k[1] == asset)] for _, asset in expected}
        assert view.latest("v").dropna().to_dict() == latest


def test_text_can_be_published_and_held_too() -> None:
    sectors = pd.DataFrame({"A": ["Tech", "Energy"], "B": ["Tech", None]}, index=DAYS[[0, 3]])
    ratings = pd.DataFrame({"asset": ["A"], "period": ["2023Q4"], "known_at": [DAYS[2]], "value": ["BBB"]})
    market = MarketData(frame(A=[1.0] * 5, B=[1.0] * 5), fields={"sector": sectors}, vintages={"rating": ratings})
    assert market.as_of(DAYS[2]).latest("sector").tolist() == ["Tech", "Tech"]
    assert market.latest("sector").tolist() == ["Energy", "Tech"]
    assert market.latest("rating").dropna().to_dict() == {"A": "BBB"}
    assert market.as_of(DAYS[1]).latest("rating").isna().all()
    assert market.fields == ("sector",)
    assert market.vintages == ("rating",)


def test_walk_goes_through_dates() -> None:
    market = MarketData(sample_prices().iloc[:100])
    steps = list(market.walk(every=21, start=market.dates[30]))
    assert [date for date, _ in steps] == list(market.dates[30::21])
    assert all(view.as_of_date == date and len(view.dates) == 31 + 21 * k for k, (date, view) in enumerate(steps))
    chosen = market.dates[[5, 50]]
    assert [date for date, _ in market.walk(chosen)] == list(chosen)
    with pytest.raises(InputError, match="not both"):
        market.walk(chosen, start=market.dates[0])
    with pytest.raises(InputError, match="increasing order"):
        market.walk(chosen[::-1])
    with pytest.raises(InputError, match="after the last date"):
        market.walk(start="2030-01-01")


def test_time_zones_are_kept_and_compared() -> None:
    prices = frame(A=[1.0, 2.0, 3.0]).tz_localize("America/New_York")
    table = pd.DataFrame({"asset": ["A"], "period": ["x"], "known_at": prices.index[1:2], "value": [1.0]})
    market = MarketData(prices, vintages={"v": table}, universe=Universe.from_mask(prices.notna()))
    assert market.as_of(prices.index[0]).latest("v").isna().all()
    assert market.as_of(prices.index[1].tz_convert("UTC")).latest("v").tolist() == [1.0]
    assert market.publications("v")["known_at"].tolist() == [prices.index[1]]
    assert market.members().tolist() == ["A"]
    with pytest.raises(InputError, match="without a time zone, the data in America/New_York"):
        market.as_of("2024-01-02")
    with pytest.raises(InputError, match="time zone none, but prices in America"):
        MarketData(prices, fields={"x": frame(A=[1.0])})
    mixed = pd.Index([prices.index[0], prices.index[1].tz_convert("UTC")], dtype=object)
    with pytest.raises(InputError, match="mix time zones"):
        MarketData(prices.iloc[:2].set_axis(mixed))


# -- refusals ------------------------------------------------------------------------------------------------------
def universe(*spells: tuple[str, int, int | None, float]) -> Universe:
    return Universe(
        pd.DataFrame(
            {
                "asset": [spell[0] for spell in spells],
                "start": [DAYS[spell[1]] for spell in spells],
                "end": [pd.NaT if spell[2] is None else DAYS[spell[2]] for spell in spells],
                "delisting_return": [spell[3] for spell in spells],
            }
        )
    )


GOOD = frame(A=[1.0, 2.0, 3.0], B=[1.0, 2.0, NAN])
VINTAGE = pd.DataFrame({"asset": ["A"], "period": [DAYS[0]], "known_at": [DAYS[1]], "value": [1.0]})


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"prices": GOOD.iloc[:0]}, "no rows"),
        ({"prices": GOOD.reset_index(drop=True)}, "indexed by timestamps"),
        ({"prices": GOOD.iloc[[0, 0]]}, "repeated dates"),
        ({"prices": -GOOD}, "not positive"),
        ({"volumes": -GOOD}, "volumes are negative for A, B"),
        ({"volumes": GOOD.iloc[1:]}, "must have the dates of prices"),
        ({"volumes": GOOD.rename(columns={"B": "C"})}, "unknown asset in volumes: 'C'"),
        ({"fields": {"x": GOOD.rename(columns={"B": "C"})}}, "unknown asset in fields"),
        ({"fields": [GOOD]}, "mappings from name to frame"),
        ({"fields": {"x": GOOD}, "vintages": {"x": VINTAGE}}, "share the names x"),
        ({"vintages": {"x": VINTAGE.drop(columns="known_at")}}, "lacks the columns known_at"),
        ({"vintages": {"x": VINTAGE.assign(asset="C")}}, "unknown asset in vintages"),
        ({"vintages": {"x": VINTAGE.assign(known_at="2024")}}, "pd.to_datetime"),
        ({"vintages": {"x": pd.concat([VINTAGE, VINTAGE])}}, "two values at the same time: A for 2024-01-01"),
        ({"vintages": {"x": VINTAGE.assign(known_at=pd.NaT)}}, "1 rows without known_at"),
        ({"universe": GOOD.notna()}, "Universe.from_mask"),
        ({"universe": Universe.from_mask(GOOD.notna().rename(columns={"B": "C"}))}, "unknown asset in universe"),
        ({"factors": GOOD.iloc[::-1]}, "increasing order"),
        ({"delisting_returns": {"A": -0.5}}, "names A, with a price on the last date"),
        ({"delisting_returns": {"B": -1.5}}, "at least -1"),
        ({"delisting_returns": {"C": -0.5}}, "unknown asset in delisting_returns"),
        ({"delisting_returns": 0.5}, "Series or mapping"),
        ({"delisting_returns": {"B": 0.1}, "universe": universe(("B", 0, 2, 0.1))}, "both have a delisting of B"),
    ],
)
def test_what_cannot_be_meant_is_refused(arguments: dict, text: str) -> None:
    with pytest.raises(InputError, match=text):
        MarketData(**{"prices": GOOD, **arguments})


def test_questions_that_cannot_be_answered_are_refused() -> None:
    market = MarketData(GOOD)
    view = market.as_of(DAYS[1])
    for ask in (view.as_of, view.members):
        with pytest.raises(InputError, match="2024-01-03 is its future"):
            ask(DAYS[2])
    with pytest.raises(InputError, match="nothing was known on 2023-12-31"):
        market.as_of("2023-12-31")
    with pytest.raises(InputError, match="t must be a date"):
        market.as_of("yesterday-ish")
    with pytest.raises(InputError, match="t must be a date"):
        market.as_of(None)
    with pytest.raises(InputError, match="5 returns over 1 rows need 6 rows"):
        market.returns(5)
    with pytest.raises(UnknownNameError, match="field"):
        market.field("size")
    with pytest.raises(UnknownNameError, match="vintages"):
        market.publications("size")
    with pytest.raises(InputError, match="duplicates"):
        market.returns(assets=["A", "A"])
    with pytest.raises(InputError, match="no members"):
        MarketData(frame(A=[1.0, NAN])).returns()
    with pytest.raises(InputError, match="kind must be"):
        market.returns(kind="percent")

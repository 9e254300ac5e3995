"""Books through time: what comes in is what goes out, the future does not move the past, runs can be repeated."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

import portfolioopt as po
from portfolioopt.backtest import EqualWeight, FixedWeights, MeanCVaR, Moment
from portfolioopt.costs import BorrowCosts, ProportionalCosts, SpreadCosts
from portfolioopt.data import MarketData
from portfolioopt.rebalance import Cooldown, DriftBand, DriftTrigger, OrderRules, RebalanceRule, drift_report


def market(seed: int = 0, *, sessions: int = 260, assets: int = 4, events: bool = False) -> MarketData:
    """Random prices; with events also dividends, splits, a delisting and missing prices."""
    rng = np.random.default_rng(seed)
    dates = pd.bdate_range("2020-01-02", periods=sessions, name="date")
    names = pd.Index([f"A{i}" for i in range(assets)])
    returns = rng.normal(0.0004, 0.012, (sessions, assets))
    prices = pd.DataFrame(50.0 * np.exp(np.cumsum(returns, axis=0)), dates, names)
    if not events:
        return MarketData(prices)
    close = prices.copy()
    split = pd.DataFrame(1.0, dates, names)
    split.iloc[100, 0], split.iloc[150, 1] = 2.0, 0.1
    close = close / split.cumprod()
    cash = pd.DataFrame(0.0, dates, names)
    cash.iloc[60::63, 2] = 0.4
    close.iloc[120:123, 1] = np.nan
    prices.iloc[120:123, 1] = np.nan
    close.iloc[200:, 3] = np.nan
    prices.iloc[200:, 3] = np.nan
    return MarketData(prices, fields={"close": close, "dividend": cash, "split": split}, delisting_returns={"A3": -0.4})


EVENTS = {"traded": "close", "dividends": "dividend", "splits": "split"}


@dataclass(frozen=True)
class Noise(po.Strategy):
    """Random weights, some of them short; the same for the same day."""

    spread: float = 0.3
    short: float = 0.0
    salt: int = 0

    def target(self, moment: Moment) -> pd.Series:
        """Depends on the session and on what is listed."""
        rng = np.random.default_rng([moment.sample_seed, self.salt])
        names = moment.market.members()
        raw = rng.uniform(-self.short, 1.0, len(names)) ** 3
        return pd.Series(self.spread + raw, names) / (1.1 * np.abs(self.spread + raw).sum())


def assert_conserved(book: po.Backtest) -> None:
    """Cash moves by what was traded, paid and received, and nothing else; and cash and positions are the NAV."""
    nav = book.nav.to_numpy()
    traded = book.trades.groupby("date")["value"].sum().reindex(book.nav.index, fill_value=0.0)
    expected = book.income.sum(axis=1) + book.flows - book.costs.sum(axis=1) - traded
    moved = book.cash.diff().fillna(book.cash.iloc[0] - book.settings["capital"])
    assert np.abs((moved - expected).to_numpy()).max() <= 1e-9 * np.abs(nav).max()
    worth = (book.positions * book.prices.fillna(0.0)).sum(axis=1) + book.cash
    assert np.abs(worth - book.nav).max() <= 1e-9 * np.abs(nav).max()
    assert np.abs(book.weights.sum(axis=1) + book.cash / book.nav - 1.0).max() <= 1e-9


def replayed(book: po.Backtest, splits: pd.DataFrame | None = None) -> np.ndarray:
    """Units by session, from the list of trades alone."""
    bought = book.trades.pivot_table(index="date", columns="asset", values="units", aggfunc="sum")
    bought = bought.reindex(index=book.nav.index, columns=book.positions.columns, fill_value=0.0).fillna(0.0)
    held = np.zeros(bought.shape)
    units = np.zeros(bought.shape[1])
    for t in range(len(held)):
        if splits is not None and t:
            units = units * splits.to_numpy()[t]
        units = units + bought.to_numpy()[t]
        held[t] = units
    return held


@pytest.mark.parametrize("lag", [0, 1, 3])
def test_cash_and_positions_are_conserved_through_all_events(lag: int) -> None:
    """Splits, dividends, a delisting, days without prices, money in and out, short positions and their fees."""
    data = market(3, events=True)
    flows = {data.dates[70]: 5e4, data.dates[180]: -2e4}
    book = po.backtest(
        Noise(spread=0.1, short=0.9),
        data,
        every="weekly",
        lag=lag,
        costs=ProportionalCosts(bps=7, fixed=1.5) + BorrowCosts(bps=80),
        cash_rate=0.03,
        flows=flows,
        **EVENTS,
    )
    assert_conserved(book)
    np.testing.assert_allclose(replayed(book, data.field("split")), book.positions, rtol=1e-9, atol=1e-7)
    assert book.costs["borrow"].sum() > 0
    assert book.income["dividends"].abs().sum() > 0
    assert (book.trades["reason"] == "delisted").sum() == 1
    assert (book.positions["A3"].iloc[200:] == 0.0).all()


def test_a_split_or_a_dividend_makes_nobody_richer() -> None:
    """Traded at unadjusted closes with splits, the book is worth what it is worth at adjusted prices."""
    data = market(5, events=True)
    weights = {"A0": 0.5, "A1": 0.5}
    plain = po.backtest(FixedWeights(weights), data)
    raw = po.backtest(FixedWeights(weights), data, traded="close", splits="split")
    np.testing.assert_allclose(raw.nav, plain.nav, rtol=1e-12)


def test_books_end_up_at_their_targets_after_costs() -> None:
    """On the day of a trade the weights are the targets, however dear the trade was."""
    book = po.backtest(Noise(), market(1), costs=ProportionalCosts(bps=120, fixed=3.0))
    days = book.timeline["traded"].dropna()
    held = book.weights.loc[days].to_numpy()
    np.testing.assert_allclose(held, book.targets.iloc[: len(days)].to_numpy(), atol=1e-12)
    spent = book.costs.sum(axis=1)
    np.testing.assert_allclose(book.timeline["cost"].iloc[: len(days)], spent.loc[days], rtol=1e-12)
    assert (book.cash >= 0).all()


def test_the_future_does_not_move_the_past() -> None:
    """Everything up to a date is the same whatever comes after it."""
    data = market(2)
    changed = data.prices.copy()
    changed.iloc[150:] *= np.random.default_rng(0).uniform(0.5, 1.5, changed.iloc[150:].shape)
    costs = ProportionalCosts(bps=5) + SpreadCosts(bps=3)
    before, after = (po.backtest(Noise(), MarketData(p), costs=costs) for p in (data.prices, changed))
    pd.testing.assert_series_equal(before.nav.iloc[:150], after.nav.iloc[:150])
    rows = before.timeline.index < data.dates[149]
    pd.testing.assert_frame_equal(
        before.timeline[rows].drop(columns="seconds"), after.timeline[rows].drop(columns="seconds")
    )
    assert not np.allclose(before.nav.iloc[160:], after.nav.iloc[160:])


def test_a_strategy_cannot_see_beyond_its_moment() -> None:
    """The market of a moment ends at its close."""
    seen = []

    def look(moment: Moment) -> pd.Series:
        seen.append((moment.date, moment.market.dates[-1], moment.returns().index[-1] if len(seen) else None))
        with pytest.raises(po.InputError, match="future"):
            moment.market.as_of(moment.date + pd.Timedelta(days=1))
        return pd.Series({"A0": 1.0})

    po.backtest(look, market())
    assert all(date == last for date, last, _ in seen)
    assert all(date == end for date, _, end in seen[1:])


def test_money_that_comes_in_is_no_return() -> None:
    """A book that only holds one asset returns what the asset does, whatever is paid in."""
    data = market(4)
    days = data.dates
    flows = pd.Series({days[50]: 1e5, days[90]: -3e5})
    book = po.backtest(FixedWeights({"A0": 1.0}), data, flows=flows, every="daily")
    moves = data.prices["A0"].pct_change()
    inside = book.returns.iloc[2:].drop(days[[51, 91]])  # cash that waits a day for its trade earns nothing
    np.testing.assert_allclose(inside, moves.loc[inside.index], atol=1e-12)
    assert book.flows.sum() == pytest.approx(-2e5)


def test_interest_by_calendar_days() -> None:
    """A book of cash earns simple interest, ACT/365, weekends included."""
    data = market(sessions=30)
    book = po.backtest(lambda moment: None, data, cash_rate=0.05)
    days = np.diff(data.dates.to_numpy()) / np.timedelta64(1, "D")
    np.testing.assert_allclose(book.nav.to_numpy()[1:], 1e6 * np.cumprod(1.0 + 0.05 * days / 365.0), rtol=1e-13)
    assert (book.timeline["status"] == "none").all()
    assert not book.timeline["rebalanced"].any()


def drift_by_hand(data: MarketData, weights: pd.Series, band: DriftBand, rest: int) -> list[pd.Timestamp]:
    """Days on which a rule trades (lag 0, no costs), judged one by one."""
    prices = data.prices[weights.index]
    units, last, days = weights * 1e6 / prices.iloc[0], data.dates[0], [data.dates[0]]
    for day in data.dates[1:]:
        values = units * prices.loc[day]
        held = values / values.sum()
        if (day - last).days >= rest and drift_report(held, weights, band)["breached"].any():
            units, last = weights * values.sum() / prices.loc[day], day
            days.append(day)
    return days


@pytest.mark.parametrize("kind", ["absolute", "relative"])
def test_drift_bands_are_judged_on_the_drifted_book(kind: str) -> None:
    """The rule sees every close, and trades on the same days as a book kept by hand."""
    data = market(7, sessions=500)
    weights = pd.Series(0.25, data.assets)
    band = DriftBand(0.02 if kind == "absolute" else 0.06, kind)  # type: ignore[arg-type]
    rule = RebalanceRule(DriftTrigger(band), Cooldown(7))
    book = po.backtest(FixedWeights(weights), data, every="yearly", rule=rule, lag=0)
    by_hand = drift_by_hand(data, weights, band, 7)
    assert len(by_hand) > 5
    assert list(book.timeline.loc[book.timeline["rebalanced"], "traded"]) == by_hand
    assert book.timeline["reason"].iloc[1:].str.contains("drift: A").any()


def test_trading_to_the_edge_trades_less() -> None:
    """The shorter the way, the less a trade turns over, and the more trades there are."""
    data = market(7, sessions=500)
    rule = RebalanceRule(DriftTrigger(DriftBand(0.02)), Cooldown(0))
    books = [
        po.backtest(EqualWeight(), data, every="yearly", rule=rule, towards=towards)
        for towards in ("target", "halfway", "edge")
    ]
    trades = [book.timeline.iloc[1:].query("rebalanced")["turnover"] for book in books]
    assert trades[0].mean() > trades[1].mean() > trades[2].mean() > 0
    assert len(trades[0]) < len(trades[1]) < len(trades[2])


@pytest.mark.parametrize(
    "costs",
    [
        ProportionalCosts(bps=10),
        ProportionalCosts(bps=10, sell=25) + SpreadCosts(bps=6),
        ProportionalCosts(bps=10, minimum=2.0, fixed=0.5),
    ],
    ids=["plain", "by side", "with a minimum"],
)
def test_whole_shares_and_minimum_orders(costs: po.costs.CostModel) -> None:
    """Units are whole, orders are worth their while, costs are those of the model, and cash is never borrowed."""
    data = market(8)
    book = po.backtest(Noise(), data, capital=20_000.0, orders=OrderRules(lot=1.0, minimum_value=50.0), costs=costs)
    assert_conserved(book)
    by_hand = costs.charges(book.trades.rename(columns={"units": "quantity"})).sum(axis=1)
    np.testing.assert_allclose(book.trades["cost"], by_hand, rtol=1e-10)
    units = book.trades["units"].to_numpy()
    np.testing.assert_array_equal(units, np.round(units))
    assert (book.trades["value"].abs() >= 50.0).all()
    assert (book.cash >= 0.0).all()
    assert book.trades["reason"].str.contains("of NAV").all()


@dataclass(frozen=True)
class Moody(po.Strategy):
    """Has no answer on some days."""

    bad: str = "infeasible"

    def target(self, moment: Moment) -> po.Problem | pd.Series:
        """Fails every third month."""
        if moment.date.month % 3:
            return pd.Series({"A0": 0.5, "A1": 0.5})
        if self.bad == "refused":
            raise po.InputError("not today")
        returns = moment.returns(30)
        return po.Problem(
            po.ScenarioSet(returns), -po.CVaR(0.9), [po.Budget(1.0), po.Bounds(0.0, 0.1)], holdings=moment.holdings
        )


@pytest.mark.parametrize("bad", ["infeasible", "refused"])
@pytest.mark.parametrize("fallback", ["hold", "cash", EqualWeight()])
def test_failures_are_noted_and_fallen_back_from(bad: str, fallback: object) -> None:
    """A day without an answer does not end the run; the timeline says what was done."""
    book = po.backtest(Moody(bad), market(9), start="2020-02-20", fallback=fallback)  # type: ignore[arg-type]
    failed = book.failures
    assert list(failed.index.month) == [3, 6, 9]
    assert (failed["status"] == bad).all()
    assert (failed["message"].str.len() > 5).all()
    after = book.weights.loc[failed["traded"].dropna()]
    if fallback == "hold":
        assert not failed["rebalanced"].any()
        assert failed["traded"].isna().all()
    elif fallback == "cash":
        np.testing.assert_allclose(after, 0.0, atol=1e-15)
    else:
        np.testing.assert_allclose(after, 0.25, rtol=1e-12)


def test_a_mistake_on_the_first_day_is_an_error() -> None:
    """What never worked is a mistake in the input, not a failed decision."""
    with pytest.raises(po.InputError, match="not today"):
        po.backtest(Moody("refused"), market(9), start="2020-03-02")


def test_a_lost_book_is_closed() -> None:
    """A book that owes more than it has is closed, once, and stays as it is."""
    rising = pd.DataFrame({"A0": np.linspace(10.0, 60.0, 60), "A1": 10.0}, pd.bdate_range("2020-01-01", periods=60))
    book = po.backtest(FixedWeights({"A0": -1.0, "A1": 0.5}), MarketData(rising), every="yearly")
    ruined = book.timeline[book.timeline["status"] == "ruined"]
    assert len(ruined) == 1
    after = book.nav.loc[ruined.index[0] :]
    assert (after == after.iloc[0]).all()
    assert after.iloc[0] <= 0.0
    assert_conserved(book)


def test_a_book_that_is_worth_nothing_is_closed() -> None:
    """Everything was in an asset whose holders got nothing."""
    prices = market(sessions=60).prices[["A0", "A1"]].copy()
    prices.iloc[30:, 0] = np.nan
    data = MarketData(prices, delisting_returns={"A0": -1.0})
    for every in ("daily", "monthly"):
        book = po.backtest(
            lambda moment: pd.Series({"A0": 1.0}) if moment.date < data.dates[29] else None,
            data, every=every, costs=ProportionalCosts(bps=5),
        )  # fmt: skip
        assert (book.timeline["status"] == "ruined").sum() == 1
        assert (book.nav.iloc[30:].abs() < 1e-6).all()
        assert book.metrics["total_return"] == pytest.approx(-1.0)


def test_short_runs_and_ends_by_year() -> None:
    """Two sessions have a book and no performance; a year as the end means all of it."""
    data = market(sessions=300)
    book = po.backtest(FixedWeights({"A0": 1.0}), data, end=data.dates[1])
    assert repr(book).endswith("1 decisions)")
    with pytest.raises(po.InputError, match="2 sessions"):
        _ = book.metrics
    assert po.backtest(FixedWeights({"A0": 1.0}), data, end="2020").nav.index[-1] == pd.Timestamp("2020-12-31")
    last = po.backtest(FixedWeights({"A0": 1.0}), data, every=[data.dates[-1]]).timeline.iloc[-1]
    assert not last["rebalanced"]
    assert "ends before" in last["message"]


def policy(**changes: object) -> MeanCVaR:
    """A small optimised strategy."""
    settings = {"window": 120, "scenarios": 100, "horizon": 5, "upper": 0.5, "block_length": 5} | changes
    return MeanCVaR(**settings)  # type: ignore[arg-type]


def test_optimised_decisions_carry_their_certificates() -> None:
    """Every decision is solved, certified, and its prediction noted."""
    book = po.backtest(policy(), market(11), costs=ProportionalCosts(bps=5))
    lines = book.timeline
    assert (lines["status"] == "optimal").all()
    assert (lines["gap"].abs() <= 1e-6).all()
    assert (lines["max_violation"] <= 1e-8).all()
    assert (lines["horizon"] == 5).all()
    assert (lines["cvar"] > lines["var"]).all()
    assert lines["binding"].str.contains("Bounds").to_numpy().any()
    assert book.metrics["volatility"] > 0
    assert "decisions" in repr(book)


def test_runs_do_not_see_each_other() -> None:
    """A run in a grid is what it is alone, whatever runs beside it."""
    data, costs = market(11), ProportionalCosts(bps=5)
    grid = po.backtest(policy(), data, costs=costs, over={"risk_aversion": [0.5, 2.0, 8.0], "upper": [0.4, 0.6]})
    assert isinstance(grid, po.BacktestGrid)
    assert len(grid) == 6
    assert list(grid.runs.columns) == ["strategy", "risk_aversion", "upper"]
    for aversion, upper in ((0.5, 0.6), (8.0, 0.4)):
        alone = po.backtest(policy(risk_aversion=aversion, upper=upper), data, costs=costs)
        beside = grid.run(risk_aversion=aversion, upper=upper)
        np.testing.assert_allclose(beside.nav, alone.nav, rtol=1e-7)
    assert grid.metrics.shape[0] == 6
    assert grid.nav.shape[1] == 6
    single = grid[3].metrics
    pd.testing.assert_series_equal(grid.metrics.loc[3], single, check_names=False, rtol=1e-10)


def test_the_same_seed_gives_the_same_book() -> None:
    """To the last bit; another seed gives another one."""
    one, same, other = (po.backtest(policy(), market(11), seed=seed) for seed in (5, 5, 6))
    pd.testing.assert_series_equal(one.nav, same.nav, check_exact=True)
    assert not np.allclose(one.nav, other.nav)


class PulledError(Exception):
    """Somebody pulled the plug."""


@dataclass(frozen=True)
class Plugged(po.Strategy):
    """A strategy during whose run the plug is pulled, once."""

    inner: MeanCVaR
    alive: list[int]

    @property
    def warmup(self) -> int:
        """That of the strategy."""
        return self.inner.warmup

    def target(self, moment: Moment) -> object:
        """What the strategy says, if it still can."""
        self.alive[0] -= 1
        if self.alive[0] == 0:
            raise PulledError
        return self.inner.target(moment)


def test_a_run_goes_on_from_its_checkpoint(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted and taken up again, a run ends as if nothing had happened, to the last bit."""
    from portfolioopt.backtest import checkpoint

    monkeypatch.setattr(checkpoint.Checkpoint.__init__, "__defaults__", (1,))
    monkeypatch.setattr(checkpoint, "fingerprint", lambda plan, engine: "the same")
    data, costs, file = market(11), ProportionalCosts(bps=5), tmp_path / "run.checkpoint"
    whole = po.backtest(policy(), data, costs=costs)
    with pytest.raises(PulledError):
        po.backtest(Plugged(policy(), [4]), data, costs=costs, checkpoint=file)
    assert file.exists()
    asked = [0]
    rest = po.backtest(Plugged(policy(), asked), data, costs=costs, checkpoint=file)
    assert 0 < -asked[0] < len(whole.timeline)  # the first decisions were not made again
    pd.testing.assert_series_equal(rest.nav, whole.nav, check_exact=True)
    pd.testing.assert_frame_equal(rest.trades, whole.trades, check_exact=True)
    assert not file.exists()


def test_a_checkpoint_of_another_run_is_refused(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other data, another strategy, other settings."""
    from portfolioopt.backtest import checkpoint

    monkeypatch.setattr(checkpoint.Checkpoint.__init__, "__defaults__", (1,))
    file = tmp_path / "run.checkpoint"
    with pytest.raises(PulledError):
        po.backtest(Plugged(policy(), [3]), market(11), checkpoint=file)
    for data, lag in ((market(12), 1), (market(11), 2)):
        with pytest.raises(po.InputError, match="another run"):
            po.backtest(Plugged(policy(), [3]), data, lag=lag, checkpoint=file)


def test_bootstrapped_histories_resample_rows_of_the_past() -> None:
    """Every return of a resampled history is one of the real one, of all assets at once; the seed decides which."""
    data = market(13)
    histories = po.BootstrapHistories(3, block_length=20, seed=4)
    grid = po.backtest({"equal": EqualWeight(), "first": FixedWeights({"A0": 1.0})}, data, histories=histories)
    assert len(grid) == 6
    assert list(grid.runs["history"]) == [0, 0, 1, 1, 2, 2]
    real = {tuple(np.round(row, 12)) for row in data.returns().to_numpy()}
    drawn = histories.market(data, 2).returns().to_numpy()
    assert all(tuple(np.round(row, 12)) in real for row in drawn)
    again = po.backtest(EqualWeight(), data, histories=histories)
    np.testing.assert_array_equal(again.nav[2], grid.nav[4])
    assert not np.allclose(grid.nav[0], grid.nav[2])
    for one in grid:
        assert_conserved(one)


def test_a_benchmark_is_resampled_with_its_market() -> None:
    """Prices given by date go through the same rows as the assets: a book of one asset moves as that asset does."""
    data = market(13)
    for benchmark in ("A0", data.prices["A0"].rename("index")):
        grid = po.backtest(
            FixedWeights({"A0": 1.0}), data, histories=po.BootstrapHistories(2), benchmark=benchmark, every="daily"
        )
        np.testing.assert_allclose(grid.metrics["beta_to_benchmark"], 1.0, atol=0.01)


def test_a_strategy_may_be_the_benchmark() -> None:
    """Everything is judged against one of the strategies, by its name."""
    grid = po.backtest({"equal": EqualWeight(), "first": FixedWeights({"A0": 1.0})}, market(13), benchmark="equal")
    assert grid.metrics.loc[0, "tracking_error"] == pytest.approx(0.0, abs=1e-12)
    np.testing.assert_allclose(grid[1].benchmark, grid.nav[0])  # type: ignore[arg-type]
    with pytest.raises(po.InputError, match="equl"):
        po.backtest({"equal": EqualWeight()}, market(13), benchmark="equl")


def test_scenarios_stay_the_same_from_decision_to_decision() -> None:
    """Only what the oldest sessions were in changes: noise of the draws is not traded on."""
    strategy, prices = policy(scenarios=200), market(14).prices
    seen = []
    for session in (130, 140):
        view = MarketData(prices).as_of(prices.index[session])
        moment = Moment(
            prices.index[session], view, holdings=pd.Series(0.0, prices.columns), nav=1.0, cash=1.0, sample_seed=session
        )
        problem = strategy.target(moment)
        assert isinstance(problem, po.Problem)
        seen.append(problem.scenarios.matrix)
    same = (np.abs(seen[0] - seen[1]) < 1e-15).all(axis=1)
    assert 0.8 < same.mean() < 0.95  # ten sessions of 120 have left, and every scenario looks at five


@pytest.mark.slow
def test_conservation_over_ten_thousand_histories() -> None:
    """Cash and positions are the net asset value in every session of ten thousand random books."""
    data = market(17, sessions=40)
    grid = po.backtest(
        Noise(spread=0.2, short=0.5), data, every="weekly", histories=po.BootstrapHistories(1000, block_length=5),
        over={"salt": range(10)}, costs=ProportionalCosts(bps=7, fixed=1.0) + BorrowCosts(bps=50), cash_rate=0.02,
    )  # fmt: skip
    assert len(grid) == 10_000
    for run in range(len(grid)):
        assert_conserved(grid[run])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"every": "fortnightly"}, "fortnightly"),
        ({"every": [pd.Timestamp("2020-01-04")]}, "no sessions"),
        ({"start": "2020-12-01", "end": "2020-06-01"}, "no two sessions"),
        ({"lag": -1}, "lag"),
        ({"capital": 0.0}, "capital"),
        ({"flows": {"2020-01-04": 1.0}}, "no session"),
        ({"flows": {"2020-01-02": 1.0}}, "capital is for"),
        ({"dividends": "dividend"}, "dividend"),
        ({"benchmark": "A9"}, "A9"),
        ({"over": {"risk": [1]}}, "risk"),
        ({"over": {"weights": []}}, "no values"),
        ({"orders": OrderRules(fees=5.0)}, "costs="),
        ({"costs": 5}, "ProportionalCosts"),
        ({"rule": DriftBand(0.05)}, "DriftTrigger"),
        ({"every": None}, "monthly"),
        ({"benchmark": 3}, "benchmark"),
        ({"histories": 5}, "BootstrapHistories"),
        ({"fallback": "sell"}, "no strategy"),
        ({"cash_rate": pd.Series([0.1], [pd.Timestamp("2020-06-01")])}, "cash_rate"),
    ],
)
def test_bad_input_is_named(arguments: dict[str, object], said: str) -> None:
    """The culprit is in the text."""
    with pytest.raises(po.InputError, match=said):
        po.backtest(FixedWeights({"A0": 1.0}), market(), **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("weights", "said"),
    [({"A7": 1.0}, "A7"), ({"A0": 1.5}, "credit"), ({"A0": np.nan}, "not finite")],
)
def test_bad_targets_are_named(weights: dict[str, float], said: str) -> None:
    """Unknown assets, missing weights, and what would have to be borrowed."""
    with pytest.raises(po.InputError, match=said):
        po.backtest(FixedWeights(weights), market())


def test_a_position_without_prices_stops_the_run() -> None:
    """A holding that ceases to be quoted without a word has no value that anybody could know."""
    prices = market().prices.copy()
    prices.iloc[100:, 0] = np.nan
    with pytest.raises(po.InputError, match=r"A0. is held and has had no price for 6 sessions"):
        po.backtest(FixedWeights({"A0": 1.0}), prices)


def test_credit_is_owed_and_pays_interest() -> None:
    """With credit a book may be larger than its capital; cash is below zero and costs its rate."""
    data = market(3)
    book = po.backtest(FixedWeights({"A0": 1.5}), data, credit=True, cash_rate=0.04)
    assert book.cash.iloc[1] == pytest.approx(-0.5 * book.nav.iloc[1])
    assert book.income["interest"].iloc[2:].max() < 0
    assert_conserved(book)

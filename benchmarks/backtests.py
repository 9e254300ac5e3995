"""Backtests beside those of other libraries: the same optima first, then how long a history takes.

``python -m benchmarks.backtests`` takes some minutes and writes ``results/backtests.json``. The policy is Mean-CVaR
with a risk aversion of 3 at 95 %, on the 20 bundled stocks, between 0 and 20 % each and fully invested, with 5 basis
points of what is traded in the objective and in the book, one decision a month over 29 years. Beside peers the
scenarios are the last 1,000 daily returns, for all alike; every optimum is judged by a linear program that HiGHS
solves, from the holdings that the library itself had.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import optimize, sparse

from portfolioopt.backtest import BacktestGrid, FixedWeights, MeanCVaR, backtest
from portfolioopt.costs import ProportionalCosts
from portfolioopt.data import MarketData, sample_prices

from .machine import machine
from .peers import version

Record = dict[str, Any]
OUTPUT = Path(__file__).resolve().parent / "results" / "backtests.json"
PEERS = ("portfolioopt", "skfolio", "cvxportfolio", "bt", "cvxpy", "clarabel", "highspy", "scikit-learn")
AVERSION, BETA, UPPER, BPS = 3.0, 0.95, 0.2, 5.0
WINDOW, STEP = 1000, 21
CAPITAL = 1_000_000.0
JUDGED = 24
"""Decisions of a history whose optimality is looked at, evenly spaced."""


# -- the policy, and what an answer is worth -----------------------------------------------------------------
def policy(**changed: Any) -> MeanCVaR:
    """The policy on the last daily returns themselves, as peers can have it; costs weigh on one day's return."""
    settings = {"scenarios": None, "horizon": 1, "holding": 1.0, "window": WINDOW}
    return MeanCVaR(risk_aversion=AVERSION, beta=BETA, upper=UPPER, cost_bps=BPS, **(settings | changed))


def objective(returns: np.ndarray, weights: np.ndarray, holdings: np.ndarray) -> float:
    """Mean less aversion times CVaR less costs, from the definition: the mean of the worst twentieth of the rows."""
    outcomes = np.sort(returns @ weights)
    tail = round(len(outcomes) * (1.0 - BETA))
    cost = BPS / 1e4 * np.abs(weights - holdings).sum()
    return float(outcomes.mean() + AVERSION * outcomes[:tail].mean() - cost)


def best(returns: np.ndarray, holdings: np.ndarray) -> float:
    """The largest objective there is, by HiGHS from SciPy, in units in which a return is about one."""
    rows, n = returns.shape
    unit = 100.0
    tail = rows * (1.0 - BETA)
    # variables: weights, trades up, value-at-risk, excess losses
    price = np.concatenate(
        [-unit * returns.mean(axis=0), np.full(n, unit * BPS / 1e4), [AVERSION], np.full(rows, AVERSION / tail)]
    )
    eye, none = sparse.eye_array(n), sparse.csr_array((n, 1 + rows))
    losses = sparse.hstack(
        [-unit * returns, sparse.csr_array((rows, n)), -np.ones((rows, 1)), -sparse.eye_array(rows)], format="csr"
    )
    matrix = sparse.vstack([losses, sparse.hstack([eye, -eye, none]), sparse.hstack([-eye, -eye, none])], format="csr")
    limit = np.concatenate([np.zeros(rows), holdings, -holdings])
    budget = np.concatenate([np.ones(n), np.zeros(n + 1 + rows)])[None, :]
    bounds = [(0.0, UPPER)] * n + [(0.0, None)] * n + [(None, None)] + [(0.0, None)] * rows
    found = optimize.linprog(price, matrix, limit, budget, [1.0], bounds, method="highs-ds")
    assert found.status == 0, found.message
    return -float(found.fun) / unit


def judged(returns: pd.DataFrame, weights: pd.DataFrame, holdings: pd.DataFrame) -> Record:
    """How far decisions (their dates x N) are from the best ones, relative, and what they violate."""
    gaps = []
    for row in np.unique(np.linspace(0, len(weights) - 1, JUDGED).astype(int)):
        window = returns.loc[: weights.index[row]].to_numpy()[-WINDOW:]
        held, chosen = holdings.iloc[row].to_numpy(), weights.iloc[row].to_numpy()
        most = best(window, held)
        gaps.append((most - objective(window, chosen, held)) / abs(most))
    w = weights.to_numpy()
    violation = max(float(np.abs(w.sum(axis=1) - 1.0).max()), float((w - UPPER).max()), float(-w.min()))
    return {"judged_decisions": len(gaps), "gap": max(gaps), "least_gap": min(gaps), "violation": violation}


def timed(call: Callable[[], Any]) -> tuple[Any, Record]:
    """The answer, the first call, and the median of three more where they are short, of one where they are not.

    Processor time of all threads stands beside it: it says what there was to do, also on a machine that others use.
    """
    start = time.perf_counter()
    answer = call()
    first = time.perf_counter() - start
    runs = []
    for _ in range(3 if first < 15.0 else 1):
        start, busy = time.perf_counter(), time.process_time()
        answer = call()
        runs.append((time.perf_counter() - start, time.process_time() - busy))
    seconds, processor = np.median(runs, axis=0).tolist()
    return answer, {
        "first_call_seconds": first,
        "seconds": seconds,
        "processor_seconds": processor,
        "repeats": len(runs),
    }


def attempt(records: list[Record], what: Record, call: Callable[[], Any], judge: Callable[[Any], Record]) -> None:
    """Add a record of what came of a history, an error included."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            answer, times = timed(call)
            found = {"status": "ok"} | times | judge(answer)
    except ImportError as error:
        found = {"status": "not installed", "why": str(error)}
    except Exception as error:
        found = {"status": "failed", "why": f"{type(error).__name__}: {error}"[:300]}
    records.append(what | found)
    if "decisions" in records[-1] and "seconds" in records[-1]:
        records[-1]["milliseconds_per_decision"] = 1e3 * records[-1]["seconds"] / records[-1]["decisions"]
    shown = " ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in records[-1].items())
    print(shown, flush=True)


# -- our histories -------------------------------------------------------------------------------------------
def run_ours(prices: pd.DataFrame, dates: pd.DatetimeIndex, strategy: Any, lag: int = 0, **more: Any) -> Any:
    """One history, traded at the close of the decision as the peers do."""
    costs = ProportionalCosts(bps=BPS)
    return backtest(
        strategy, MarketData(prices), start=dates[0], every=list(dates), lag=lag, costs=costs, capital=CAPITAL, **more
    )


def judge_ours(prices: pd.DataFrame, dates: pd.DatetimeIndex) -> Callable[[Any], Record]:
    """Decisions of a backtest, each from the holdings before its trade."""

    def judge(found: Any) -> Record:
        units, cash = found.positions.shift(1).fillna(0.0), found.cash.shift(1).fillna(CAPITAL)
        worth = units * found.prices
        held = worth.div(worth.sum(axis=1) + cash, axis=0).loc[dates, list(prices.columns)]
        targets = found.targets.loc[dates, list(prices.columns)]
        wealth = {"decisions": len(targets), "final_nav": float(found.nav.iloc[-1])}
        return wealth | judged(prices.pct_change().iloc[1:], targets, held)

    return judge


# -- skfolio -------------------------------------------------------------------------------------------------
def beside_skfolio(records: list[Record], prices: pd.DataFrame) -> None:
    """Every 21 sessions, from the window of 1,000 returns before: `WalkForward` and `cross_val_predict`."""
    returns = prices.pct_change().iloc[1:]
    folds = (len(returns) - WINDOW) // STEP
    dates = pd.DatetimeIndex(returns.index[WINDOW - 1 + STEP * np.arange(folds)])
    what = {"what": "walk-forward Mean-CVaR", "assets": prices.shape[1], "scenarios": WINDOW}
    attempt(
        records,
        what | {"peer": "portfolioopt"},
        lambda: run_ours(prices, dates, policy()),
        judge_ours(prices, dates),
    )

    def judge(found: Any) -> Record:
        weights = pd.DataFrame([p.weights for p in found.portfolios], dates, prices.columns)
        held = pd.DataFrame([np.zeros(len(prices.columns)) + p.previous_weights for p in found.portfolios], dates)
        return {"decisions": len(weights)} | judged(returns, weights, held.set_axis(prices.columns, axis=1))

    def run(solver: str | None) -> Callable[[], Any]:
        def call() -> Any:
            from skfolio import RiskMeasure
            from skfolio.model_selection import WalkForward, cross_val_predict
            from skfolio.optimization import MeanRisk, ObjectiveFunction

            model = MeanRisk(
                objective_function=ObjectiveFunction.MAXIMIZE_UTILITY,
                risk_measure=RiskMeasure.CVAR,
                risk_aversion=AVERSION,
                cvar_beta=BETA,
                max_weights=UPPER,
                # its costs are taken from every return, so that they count in the mean and in the CVaR
                transaction_costs=BPS / 1e4 / (1.0 + AVERSION),
                previous_weights=np.zeros(prices.shape[1]),
                portfolio_params={"weight_drift": True},
                **({} if solver is None else {"solver": solver}),
            )
            splits = WalkForward(train_size=WINDOW, test_size=STEP)
            return cross_val_predict(model, returns, cv=splits, n_jobs=1)

        return call

    for solver in (None, "HIGHS"):
        name = "skfolio" if solver is None else f"skfolio, {solver}"
        attempt(records, what | {"peer": name}, run(solver), judge)


# -- cvxportfolio --------------------------------------------------------------------------------------------
def open_to_open(prices: pd.DataFrame) -> pd.DataFrame:
    """Returns stamped with their begin, and cash that earns nothing, as cvxportfolio wants them."""
    returns = prices.pct_change().shift(-1).set_axis(list(prices.columns), axis=1)
    return returns.assign(cash=0.0).where(returns.notna().all(axis=1), np.nan)


def cvxportfolio_policy(returns: pd.DataFrame, months: pd.DatetimeIndex, solver: str) -> Any:
    """Single-period optimisation with a CVaR of its own making: the sum of the largest losses of the window."""
    import cvxportfolio as cvx  # pyright: ignore[reportMissingImports]
    import cvxpy as cp

    daily = returns.iloc[:, :-1]

    def window(t: pd.Timestamp) -> np.ndarray:
        end = int(daily.index.searchsorted(t))
        return daily.to_numpy()[end - WINDOW : end]

    class CVaR(cvx.costs.Cost):
        """The mean of the largest losses."""

        def initialize_estimator(self, universe: pd.Index, **kwargs: Any) -> None:
            self._outcomes = cp.Parameter((WINDOW, len(universe) - 1))

        def values_in_time(self, t: pd.Timestamp, **kwargs: Any) -> None:
            self._outcomes.value = window(t)

        def compile_to_cvxpy(self, w_plus_minus_w_bm: Any, **kwargs: Any) -> Any:
            tail = round(WINDOW * (1.0 - BETA))
            return cp.sum_largest(-(self._outcomes @ w_plus_minus_w_bm[:-1]), tail) / tail

    means = pd.DataFrame([window(t).mean(axis=0) for t in months], months, daily.columns)
    return cvx.SinglePeriodOptimization(
        cvx.ReturnsForecast(means) - AVERSION * CVaR() - cvx.TransactionCost(a=BPS / 1e4),
        [cvx.NoCash(), cvx.LongOnly(), cvx.MaxWeights(UPPER)],
        include_cash_return=False,
        solver=solver,
    )


def beside_cvxportfolio(records: list[Record], prices: pd.DataFrame) -> None:
    """On the first session of each month, from the window of 1,000 returns before: `MarketSimulator`."""
    firsts = pd.DatetimeIndex(prices.index[1:][np.diff(month_numbers(prices.index)) > 0])
    # the last month has no return, for want of the next; and the window has to be full
    dates = pd.DatetimeIndex(firsts[prices.index.searchsorted(firsts) >= WINDOW][:-1])
    what = {"what": "monthly Mean-CVaR", "assets": prices.shape[1], "scenarios": WINDOW}
    held_until = prices.loc[: firsts[-1]]
    attempt(
        records,
        what | {"peer": "portfolioopt"},
        lambda: run_ours(held_until, dates, policy()),
        judge_ours(held_until, dates),
    )

    def run(solver: str) -> Any:
        import cvxportfolio as cvx  # pyright: ignore[reportMissingImports]

        returns = open_to_open(prices)
        market = cvx.UserProvidedMarketData(
            returns=returns, cash_key="cash", trading_frequency="monthly", min_history=pd.Timedelta("0d")
        )
        simulator = cvx.MarketSimulator(
            market_data=market, costs=[cvx.TransactionCost(a=BPS / 1e4)], round_trades=False
        )
        return simulator.backtest(
            cvxportfolio_policy(returns, dates, solver),
            start_time=dates[0],
            end_time=firsts[-1],
            initial_value=CAPITAL,
        )

    def judge(found: Any) -> Record:
        weights, held = found.w_plus.iloc[:, :-1], found.w.iloc[:, :-1]
        weights = weights.dropna().set_axis(dates[: len(weights.dropna())]).astype(float)
        held = held.iloc[: len(weights)].set_axis(weights.index).astype(float)
        time_of_policy = float(found.policy_times.sum())
        more = {"decisions": len(weights), "policy_seconds": time_of_policy, "final_nav": float(found.v.iloc[-1])}
        return more | judged(prices.pct_change().iloc[1:], weights, held)

    for solver in ("CLARABEL", "HIGHS"):
        attempt(records, what | {"peer": f"cvxportfolio, {solver}"}, lambda solver=solver: run(solver), judge)


# -- fixed weights: agreement to the last digits -------------------------------------------------------------
def month_ends(prices: pd.DataFrame) -> pd.DatetimeIndex:
    """The last session of each month, but for the last month."""
    return pd.DatetimeIndex(prices.index[:-1][np.diff(month_numbers(prices.index)) > 0])


def month_numbers(dates: pd.Index) -> np.ndarray:
    """Months since the year 0."""
    days = pd.DatetimeIndex(dates)
    return 12 * np.asarray(days.year) + np.asarray(days.month)


def run_bt(prices: pd.DataFrame, weights: pd.Series, dates: pd.DatetimeIndex, bps: float) -> pd.Series:
    """NAV of a book that bt brings back to fixed weights at the close of these dates."""
    import bt  # pyright: ignore[reportMissingImports]

    algorithms = [
        bt.algos.RunOnDate(*dates),
        bt.algos.SelectAll(),
        bt.algos.WeighSpecified(**{str(asset): weight for asset, weight in weights.items()}),
        bt.algos.Rebalance(),
    ]
    strategy = bt.Strategy("fixed", algorithms)
    test = bt.Backtest(
        strategy,
        prices,
        initial_capital=CAPITAL,
        commissions=lambda quantity, price: abs(quantity) * price * bps / 1e4,
        integer_positions=False,
        progress_bar=False,
    )
    test.run()
    return test.strategy.values.loc[dates[0] :]  # noqa: PD011


def run_cvxportfolio(prices: pd.DataFrame, weights: pd.Series, dates: pd.DatetimeIndex, bps: float) -> pd.Series:
    """NAV before the trades of each session, of a book that cvxportfolio brings back to fixed weights."""
    import cvxportfolio as cvx  # pyright: ignore[reportMissingImports]

    market = cvx.UserProvidedMarketData(returns=open_to_open(prices), cash_key="cash", min_history=pd.Timedelta("0d"))
    simulator = cvx.MarketSimulator(market_data=market, costs=[cvx.TransactionCost(a=bps / 1e4)], round_trades=False)
    target = pd.Series([*weights, 1.0 - float(weights.sum())], [*weights.index, "cash"])
    found = simulator.backtest(cvx.PeriodicRebalance(target, dates), start_time=dates[0], initial_value=CAPITAL)
    return found.v.drop(dates[1:])  # on these they have not paid yet


def fixed_weights(records: list[Record], prices: pd.DataFrame) -> None:
    """The same weights at every month's end for ten years: net asset values beside those of bt and cvxportfolio."""
    prices = prices.iloc[-2520:]
    dates = month_ends(prices)
    weights = pd.Series(np.linspace(1.0, 3.0, prices.shape[1]), prices.columns)
    weights = 0.9 * weights / weights.sum()
    for bps in (0.0, BPS):
        what = {"what": "fixed weights", "assets": prices.shape[1], "bps": bps, "decisions": len(dates)}

        def ours(bps: float = bps) -> pd.Series:
            costs = ProportionalCosts(bps=bps)
            strategy = FixedWeights(weights)
            found = backtest(
                strategy, MarketData(prices), start=dates[0], every=list(dates), lag=0, costs=costs, capital=CAPITAL
            )
            return found.nav

        nav = ours()

        def difference(found: pd.Series, nav: pd.Series = nav) -> Record:
            # the first session is before the trade for one of them and after it for another
            both = pd.DataFrame({"ours": nav, "theirs": found.astype(float)}).dropna().iloc[1:]
            worst = float((both["theirs"] / both["ours"] - 1.0).abs().max())
            return {"sessions": len(both), "largest_nav_difference": worst, "final_nav": float(found.iloc[-1])}

        attempt(records, what | {"peer": "portfolioopt"}, ours, difference)
        for name, run in {"bt": run_bt, "cvxportfolio": run_cvxportfolio}.items():
            attempt(
                records,
                what | {"peer": name},
                lambda run=run, bps=bps: run(prices, weights, dates, bps),
                difference,
            )


# -- our own policy: bootstrapped scenarios, and many sets of parameters ------------------------------------
def own(records: list[Record], prices: pd.DataFrame) -> None:
    """1,000 bootstrapped scenarios a month on all of history: one set of parameters, then a hundred in one call."""
    market = MarketData(prices)
    strategy = policy(scenarios=1000, horizon=STEP, holding=float(STEP))
    account = {"every": "monthly", "costs": ProportionalCosts(bps=BPS), "capital": CAPITAL}
    what = {"what": "bootstrapped Mean-CVaR", "assets": prices.shape[1], "scenarios": 1000}

    def judge(found: Any) -> Record:
        runs = [found[i] for i in range(len(found))] if isinstance(found, BacktestGrid) else [found]
        lines = pd.concat([one.timeline for one in runs])
        return {
            "decisions": len(lines),
            "solved": int((lines["status"] == "optimal").sum()),
            "gap": float(lines["gap"].max()),
            "violation": float(lines["max_violation"].max()),
        }

    attempt(records, what | {"peer": "portfolioopt", "sets": 1}, lambda: backtest(strategy, market, **account), judge)
    aversions, caps = np.geomspace(0.5, 20.0, 20).tolist(), [0.08, 0.1, 0.15, 0.2, 0.3]
    over = {"risk_aversion": aversions, "upper": caps}
    sets = len(list(product(aversions, caps)))
    attempt(
        records,
        what | {"peer": "portfolioopt", "sets": sets},
        lambda: backtest(strategy, market, over=over, **account),
        judge,
    )


def summary(records: list[Record]) -> None:
    """Ratios of each peer's time, per decision, to ours."""
    for record in records:
        if record["status"] != "ok":
            continue
        mine = [
            r
            for r in records
            if r["peer"] == "portfolioopt" and r["what"] == record["what"] and r.get("bps") == record.get("bps")
        ]
        if record["peer"] != "portfolioopt":
            ratio = record["milliseconds_per_decision"] / mine[0]["milliseconds_per_decision"]
            record["of_ours"] = ratio
            work = (
                record["processor_seconds"] / record["decisions"] * mine[0]["decisions"] / mine[0]["processor_seconds"]
            )
            record["processor_of_ours"] = work
            name = f"{record['what']}: {record['peer']}"
            print(f"{name} takes {ratio:.1f} times as long as portfolioopt, {work:.1f} times the processor time")
        elif record.get("sets", 1) > 1:
            record["of_one_set"] = record["seconds"] / mine[0]["seconds"]
            record["processor_of_one_set"] = record["processor_seconds"] / mine[0]["processor_seconds"]
            print(f"{record['what']}: {record['sets']} sets take {record['of_one_set']:.1f} times as long as one")


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.backtests", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="seven years of history, nothing is written")
    parser.add_argument("--only", help="one of fixed, skfolio, cvxportfolio, own")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    prices = sample_prices()
    if arguments.quick:
        prices = prices.iloc[:1800]
    records: list[Record] = []
    parts = {"fixed": fixed_weights, "skfolio": beside_skfolio, "cvxportfolio": beside_cvxportfolio, "own": own}
    for name, part in parts.items():
        if arguments.only in (None, name):
            part(records, prices)
    summary(records)
    about = machine()
    about["versions"] |= {package: version(package) for package in PEERS}
    if not arguments.quick and arguments.only is None:
        arguments.output.write_text(
            json.dumps({"benchmark": "backtests", "machine": about, "records": records}, indent=1) + "\n"
        )
        print(f"written to {arguments.output}")


if __name__ == "__main__":
    main()

"""What pages and tables say about a backtest, as plain frames: computed once, shown in several places."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from portfolioopt.attribution import realised_contributions
from portfolioopt.backtest import Backtest
from portfolioopt.errors import InputError
from portfolioopt.labels import some

from .figures import HELD, counted, day, money, percent

Labels = pd.Series | Mapping[str, str] | None
_OWN = ("dividends", "interest", "costs")


@dataclass(frozen=True, eq=False)
class Explained:
    """Where the returns of a book came from.

    Parameters
    ----------
    whole
        Contributions to the return of the whole run (linked after Cariño), which they sum to: by asset, and
        ``dividends``, ``interest``, ``costs``. Of a run that lost everything: until the session before.
    by_year
        The same of each calendar year, years x (assets, ...), and ``year``, their sum.
    by_session
        Of each session, not linked.
    """

    whole: pd.Series
    by_year: pd.DataFrame
    by_session: pd.DataFrame


def explained(backtest: Backtest, labels: Labels = None) -> Explained:
    """Contributions to the returns of a book, by asset or label, from its values and trades.

    What an asset earned in a session is the change of its value less what was bought of it. Dividends and interest are
    apart, as the book does not tell them by asset.
    """
    values, nav = backtest.values, backtest.nav  # noqa: PD011  positions in money
    taken = values.columns.intersection(list(_OWN))
    if len(taken):
        raise InputError(f"the assets {some(taken)} have names of rows of the attribution; rename them")
    dates = values.index
    assert isinstance(dates, pd.DatetimeIndex)
    first = float(nav.iloc[0] - backtest.flows.iloc[0]) / (1.0 + float(backtest.returns.iloc[0]))  # the capital
    before = np.vstack([np.zeros(values.shape[1]), values.to_numpy()[:-1]])
    worth = np.append(first, nav.to_numpy()[:-1])
    alive = worth > 0.0
    worth = np.where(alive, worth, np.inf)  # of nothing nothing is earned
    earned = values.to_numpy() - before - _bought(backtest)
    returns = np.divide(earned, before, out=np.zeros_like(earned), where=before != 0.0)
    extra = {name: column.to_numpy() / worth for name, column in backtest.income.items()}
    extra["costs"] = -backtest.costs.sum(axis=1).to_numpy() / worth
    own = pd.DataFrame({str(name): part for name, part in extra.items() if np.any(part != 0.0)}, index=dates)
    held = np.any(before != 0.0, axis=0)
    # dividends, interest and costs take part as positions of weight one
    weights = pd.concat([pd.DataFrame(before[:, held] / worth[:, None], dates, values.columns[held]), own * 0.0 + 1.0],
                        axis=1)  # fmt: skip
    frame = pd.concat([pd.DataFrame(returns[:, held], dates, values.columns[held]), own], axis=1)
    if not len(weights.columns):
        return Explained(pd.Series(dtype=np.float64), pd.DataFrame(), pd.DataFrame(index=dates))
    by_session = weights * frame
    named = None if labels is None else _complete(labels, weights.columns)
    if named is not None:
        by_session = by_session.T.groupby(named.to_numpy(), sort=False).sum().T
    linked = alive & (by_session.sum(axis=1).to_numpy() > -1.0)  # nothing can be linked after a loss of everything
    linked &= np.cumprod(linked).astype(bool)
    if not linked.any():
        return Explained(pd.Series(dtype=np.float64), pd.DataFrame(), by_session)
    years = {}
    for year in dates[linked].year.unique():
        at = linked & (dates.year == year)
        years[int(year)] = _linked(weights[at], frame[at], named)
    by_year = pd.DataFrame(years).T
    by_year["year"] = by_year.sum(axis=1)
    return Explained(_linked(weights[linked], frame[linked], named), by_year, by_session)


def _linked(weights: pd.DataFrame, returns: pd.DataFrame, labels: pd.Series | None) -> pd.Series:
    return realised_contributions(weights, returns, labels=labels, linking="carino").contributions


def _complete(labels: pd.Series | Mapping[str, str], names: pd.Index) -> pd.Series:
    """Labels of the assets, and of what is no asset."""
    known = pd.Series(labels).reindex(names)
    for name in names.intersection(list(_OWN)):
        known[name] = name
    return known.fillna("without label").rename("label")


def _bought(backtest: Backtest) -> np.ndarray:
    """Value bought less value sold by session and asset (T, N)."""
    trades, values = backtest.trades, backtest.values  # noqa: PD011  positions in money
    bought = np.zeros(values.shape)
    rows = values.index.get_indexer(pd.DatetimeIndex(trades["date"]))
    np.add.at(
        bought,
        (rows, values.columns.get_indexer(pd.Index(trades["asset"]))),
        trades["value"].to_numpy(dtype=np.float64),
    )
    return bought


def worst_sessions(backtest: Backtest, by_session: pd.DataFrame, count: int = 10) -> pd.DataFrame:
    """The worst sessions: return, benchmark, and what hurt most in words."""
    returns = backtest.returns.iloc[1:]
    worst = returns.nsmallest(min(count, len(returns)))
    benchmark = backtest.benchmark
    compared = None if benchmark is None else benchmark.pct_change()
    stories = []
    for date in worst.index:
        parts = by_session.loc[date].nsmallest(3)
        stories.append(", ".join(f"{name} {percent(part)}" for name, part in parts.items() if part < -HELD))
    return pd.DataFrame(
        {
            "return": worst,
            "benchmark": np.nan if compared is None else compared.loc[worst.index],
            "what hurt": stories,
        }
    )


@dataclass(frozen=True, eq=False)
class LastRebalance:
    """The last trades of a book, and its targets now against before."""

    date: pd.Timestamp
    decided: pd.Timestamp
    reason: str
    trades: pd.DataFrame
    """Side, weight before and after, value, cost, reason; the largest first."""
    targets: pd.DataFrame
    """Targets before and now by asset, and the change; empty where there was one target only."""
    turnover: float
    cost: float
    nav: float


def last_rebalance(backtest: Backtest) -> LastRebalance | None:
    """The last session with trades of a decision; None where there was none."""
    timeline = backtest.timeline
    done = timeline[timeline["traded"].notna()]
    if done.empty:
        return None
    line, decided = done.iloc[-1], done.index[-1]
    date = pd.Timestamp(line["traded"])
    weights, dates = backtest.weights, backtest.nav.index
    place = int(dates.get_indexer(pd.DatetimeIndex([date]))[0])
    trades = backtest.trades
    trades = trades[trades["date"] == date].groupby("asset", sort=False).agg(
        {"units": "sum", "value": "sum", "cost": "sum", "reason": "last"}
    )  # fmt: skip
    after = weights.iloc[place]
    nav = float(backtest.nav.iloc[place])
    before = after - (trades["value"] / nav).reindex(after.index).fillna(0.0)
    trades["before"], trades["after"] = before.reindex(trades.index), after.reindex(trades.index)
    trades["side"] = np.where(trades["value"] > 0.0, "buy", "sell")
    order = trades["value"].abs().sort_values(ascending=False, kind="stable").index
    goals = backtest.targets
    goals = goals[goals.index <= decided]
    changed = pd.DataFrame(columns=["before", "now", "change"], dtype=np.float64)
    if len(goals) > 1:
        changed = pd.DataFrame({"before": goals.iloc[-2], "now": goals.iloc[-1]})
        changed["change"] = changed["now"] - changed["before"]
        changed = changed[(changed["before"].abs() > HELD) | (changed["now"].abs() > HELD)]
        changed = changed.loc[changed["change"].abs().sort_values(ascending=False, kind="stable").index]
    return LastRebalance(
        date, pd.Timestamp(decided), str(line["reason"]), trades.loc[order], changed, float(line["turnover"]),
        float(line["cost"]), nav,
    )  # fmt: skip


def cost_table(backtest: Backtest) -> pd.DataFrame:
    """Costs by part and calendar year: money, the total in basis points of mean NAV, and one-way turnover."""
    costs, dates = backtest.costs, backtest.nav.index
    assert isinstance(dates, pd.DatetimeIndex)
    by_year = costs.groupby(dates.year).sum()
    nav = backtest.nav.groupby(dates.year).mean()
    by_year["total"] = by_year.sum(axis=1)
    by_year["total_bp"] = 1e4 * by_year["total"] / nav
    by_year["turnover_one_way"] = 0.5 * backtest.turnover.groupby(dates.year).sum()
    return by_year.rename_axis("year")


_EVERY = {
    "daily": "at every close",
    "weekly": "at the last close of every week",
    "monthly": "at the last close of every month",
    "quarterly": "at the last close of every quarter",
    "yearly": "at the last close of every year",
}


def settings_in_words(backtest: Backtest) -> list[str]:
    """What was run, in sentences."""
    s, nav = backtest.settings, backtest.nav
    first, last = pd.Timestamp(nav.index[0]), pd.Timestamp(nav.index[-1])
    years = (last - first).days / 365.25
    said = [
        f"The book began with {money(float(nav.iloc[0]))} on {day(first)} and was valued at every close until "
        f"{day(last)}: {len(nav):,} sessions, {years:.1f} years, {len(backtest.prices.columns)} assets."
    ]
    every = s.get("every")
    when = _EVERY.get(str(every), "on the days of its calendar") if every is not None else "on the days of decision"
    lag = s.get("lag")
    delay = ""
    if isinstance(lag, int):
        delay = (
            "; its trades were done at that same close, at the prices it had seen"
            if lag == 0
            else f"; its trades were done {lag} session{'s' if lag > 1 else ''} later, at the closing prices"
        )
    ruled = int((backtest.timeline["status"] == "rule").sum())
    said.append(f"The strategy was asked {when}, {len(backtest.timeline) - ruled} decisions in all{delay}.")
    if s.get("rule") is not None:
        said.append(
            "Whether to trade was for a rule to say, which judged the book at every close; it called for trades on "
            f"{int(backtest.timeline['rebalanced'].sum())} days, {ruled} of them between decisions."
        )
    if s.get("costs", "") is None:
        said.append("Nothing was charged for trading.")
    elif float(backtest.costs.sum().sum()) > 0.0:
        said.append("Every trade paid its costs out of the book's cash.")
    else:
        said.append("No costs were paid.")
    flows = backtest.flows.iloc[1:]
    if (flows != 0.0).any():
        said.append(
            f"Money was paid in or out on {counted(int((flows != 0.0).sum()), 'day')}, "
            f"{money(float(flows.sum()))} net; it is no return."
        )
    if s.get("fallback") is not None and len(backtest.failures):
        said.append(f"Where the strategy had no answer the fallback was: {s['fallback']}.")
    return said


def setting_text(value: object) -> str:
    """A setting as one line: data are named rather than printed, and long ones cut off."""
    if value is None:
        return "none"
    if isinstance(value, float | int) and not isinstance(value, bool):
        return f"{value:,.10g}"
    words = str(value)
    if "dtype:" in words and "\n" in words and "(" not in words.splitlines()[0]:
        return "a series of its own"
    words = " ".join(words.split())
    return words if len(words) <= _SETTING else f"{words[: _SETTING - 1]}…"


_SETTING = 400  # characters


SETTINGS = {
    "strategy": "strategy",
    "every": "asked for targets",
    "rule": "rule that says when to trade",
    "towards": "where a trade of the rule leads to",
    "lag": "sessions from decision to trade",
    "costs": "costs",
    "orders": "rules of orders",
    "capital": "capital",
    "cash_rate": "interest on cash per year",
    "fallback": "without an answer",
    "benchmark": "benchmark",
    "histories": "resampled histories",
    "seed": "seed",
}
"""What settings are called on a page."""

r"""Was the risk as predicted, and were the limits kept? What a validation unit asks of a run, from its own record.

Every decision predicts volatility, VaR and CVaR of a horizon of h sessions at its target weights. They are set beside
the return of the book over the h sessions after the trade, and, while that forecast stands (until something is traded
again), over each h sessions that follow. Horizons do not share sessions: one that would begin before the last one has
ended is not tested, except that months differ in length, so that `overlap` of a horizon may be shared with the next.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd

from portfolioopt.attribution import CVaRBacktest, VaRBacktest, cvar_backtest, var_backtest
from portfolioopt.estimate import BiasStatistic, bias_statistic
from portfolioopt.estimate.checks import checked_count
from portfolioopt.labels import checked_number
from portfolioopt.scenarios import historical_windows

from .result import Backtest

LEVEL = 0.05
"""p-value below which a test speaks against the forecasts."""
LEAST = 12
"""Horizons below which a test of volatility says nothing."""
VIOLATED = 1e-6
"""Violation from which a limit counts as broken: what the solver certifies is below it."""


_PREDICTED = ["volatility", "var", "cvar", "beta", "horizon"]


@dataclass(frozen=True, eq=False)
class Validation:
    """Findings on one run; see `validate`.

    Parameters
    ----------
    forecasts
        A row for every horizon, by the session at whose close it begins: ``end``, ``decided``, ``age`` (sessions since
        the trade), ``volatility``, ``var``, ``cvar`` and ``beta`` as predicted, ``realised`` return and
        ``realised_volatility`` (of the sessions in it, scaled to the horizon; NaN for a single one), ``exceeded``
        (whether the loss was above the VaR), and ``tested``: False where it shares sessions with one before.
    bias
        Bias statistic of the tested horizons; None below 12.
    var, cvar
        Tests by confidence level; without those that cannot be made.
    adherence
        A row per decision of the strategy: ``status``, ``fallback``, ``max_violation``, ``violated``, ``binding``.
    binding
        How often each limit bound, as a share of the decisions that the solver answered.
    drift
        Half the sum of absolute differences between held and target weights, cash among them, by session: what would
        have to be traded one way to be on target.
    stress
        What happened in windows of history that the run has seen, and in its own worst stretches: ``start``, ``end``,
        ``return``, ``benchmark`` (NaN without one), ``worst_drawdown`` within it, ``description``.
    frame
        One row per test: ``value``, ``expected``, ``low`` and ``high`` (where a right forecast is found 19 times out of
        20, NaN where there is no such range), ``p_value``, ``passed`` (missing where nothing can be said), ``verdict``.
    """

    forecasts: pd.DataFrame
    bias: BiasStatistic | None
    var: dict[float, VaRBacktest]
    cvar: dict[float, CVaRBacktest]
    adherence: pd.DataFrame
    binding: pd.Series
    drift: pd.Series
    stress: pd.DataFrame
    frame: pd.DataFrame

    @property
    def verdicts(self) -> dict[str, str]:
        """The verdicts in words, by test."""
        return {str(name): str(verdict) for name, verdict in self.frame["verdict"].items()}

    def __repr__(self) -> str:
        lines = [f"  {name}: {verdict}" for name, verdict in self.verdicts.items()]
        return "\n".join(["Validation", *lines])


def validate(backtest: Backtest, *, overlap: float = 0.1, seed: int = 0, freedom: float | None = None) -> Validation:
    """Set what a run predicted, promised and aimed at beside what came.

    Parameters
    ----------
    backtest
        A run.
    overlap
        Share of a horizon that may be counted in the one before too, in [0, 1). With 0.1 a horizon of 21 sessions goes
        with a decision every month, of which some have 19.
    seed
        Of the simulated p-values of the CVaR test.
    freedom
        Degrees of freedom of the Student t tail that the CVaR test simulates from; a normal one where None.

    Raises
    ------
    InputError
        For settings out of range.
    """
    share = checked_number(overlap, "validate: overlap", least=0.0, below=1.0)
    draws = checked_count(seed, "validate: seed", least=0)
    forecasts = realised_horizons(backtest, overlap=share)
    tested = forecasts[forecasts["tested"]]
    rows: dict[str, dict[str, object]] = {}
    bias = _volatility(tested, rows)
    var, cvar = _tails(tested, rows, draws, freedom)
    adherence, binding = _adherence(backtest, rows)
    drift = target_drift(backtest)
    if len(drift.dropna()):
        mean, worst = float(drift.mean()), float(drift.max())
        verdict = f"held weights were {mean:.1%} of NAV off target on average, {worst:.1%} at most (one way)"
        rows["distance from target"] = _row(mean, 0.0, None, verdict)
    return Validation(forecasts, bias, var, cvar, adherence, binding, drift, stress_behaviour(backtest), _frame(rows))


# -- horizons ----------------------------------------------------------------------------------------------------
def realised_horizons(backtest: Backtest, *, overlap: float = 0.1) -> pd.DataFrame:
    """Predicted risk beside the return that followed, a row per horizon; see `Validation.forecasts`."""
    dates = backtest.nav.index
    assert isinstance(dates, pd.DatetimeIndex)
    returns = backtest.returns.to_numpy()
    traded = _forecasts_of_trades(backtest)
    usable = traded[traded["volatility"].gt(0.0) & traded["horizon"].ge(1)]
    starts = dates.get_indexer(pd.DatetimeIndex(usable["traded"]))
    # a forecast stands until something else is traded, be it by rule or by fallback
    moved = np.unique(dates.get_indexer(pd.DatetimeIndex(traded["traded"])))
    rows = []
    free = 0  # first session at whose close a tested horizon may begin
    for (_, line), start in zip(usable.iterrows(), starts.tolist(), strict=True):
        length = int(line["horizon"])
        later = moved[moved > start]
        until = int(later[0]) if len(later) else len(dates) - 1
        begin = start
        while begin + length < len(dates) and (begin == start or begin + length <= until):
            period = returns[begin + 1 : begin + length + 1]
            loss = 1.0 - float(np.prod(1.0 + period))
            var = float(line["var"])
            tested = begin >= free - int(overlap * length + 1e-9)
            rows.append(
                {
                    "start": dates[begin],
                    "end": dates[begin + length],
                    "decided": line["decided"],
                    "age": begin - start,
                    "volatility": float(line["volatility"]),
                    "var": var,
                    "cvar": float(line["cvar"]),
                    "beta": float(line["beta"]),
                    "realised": -loss,
                    "realised_volatility": float(period.std(ddof=1) * np.sqrt(length)) if length > 1 else np.nan,
                    "exceeded": bool(loss > var),
                    "tested": bool(tested),
                }
            )
            if tested:
                free = begin + length
            begin += length
    columns = ["start", "end", "decided", "age", "volatility", "var", "cvar", "beta", "realised",
               "realised_volatility", "exceeded", "tested"]  # fmt: skip
    frame = pd.DataFrame(rows, columns=pd.Index(columns))
    return frame.astype({"exceeded": bool, "tested": bool}).set_index("start")


def _forecasts_of_trades(backtest: Backtest) -> pd.DataFrame:
    """The decisions that were traded, in order; those of a rule have the forecasts of the target that they go to."""
    timeline = backtest.timeline.reset_index()
    known = timeline.set_index("decided")[_PREDICTED]
    known = known[~known.index.duplicated()].reindex(backtest.targets.index[~backtest.targets.index.duplicated()])
    ruled = timeline["status"] == "rule"
    if ruled.any() and len(known):
        place = known.index.searchsorted(timeline.loc[ruled, "decided"], side="right") - 1
        timeline.loc[ruled, _PREDICTED] = known.to_numpy(dtype=np.float64)[np.maximum(place, 0)]
    return timeline[timeline["traded"].notna()]


def _volatility(tested: pd.DataFrame, rows: dict[str, dict[str, object]]) -> BiasStatistic | None:
    count = len(tested)
    name = "volatility: bias statistic"
    if count < LEAST:
        few = f"{count} horizons are too few to say anything; {LEAST} are the least"
        rows[name] = _row(np.nan, 1.0, None, few if count else "no decision of the run predicted its risk")
        return None
    index = pd.RangeIndex(count)
    found = bias_statistic(
        tested["volatility"].set_axis(index).rename("book"), tested["realised"].set_axis(index).rename("book"),
        window=LEAST,
    )  # fmt: skip
    b = float(found.statistic.iloc[0])
    if b > found.upper:
        verdict = f"risk was underestimated: realised volatility was {b:.2f} times the predicted one"
    elif b < found.lower:
        verdict = f"risk was overestimated: realised volatility was {b:.2f} times the predicted one"
    else:
        verdict = (
            f"as predicted: realised volatility was {b:.2f} times the predicted one, within the error of estimation"
        )
    passed = found.lower <= b <= found.upper
    rows[name] = _row(b, 1.0, passed, verdict + f" ({count} horizons)", low=found.lower, high=found.upper)
    return found


def _tails(
    tested: pd.DataFrame, rows: dict[str, dict[str, object]], seed: int, freedom: float | None
) -> tuple[dict[float, VaRBacktest], dict[float, CVaRBacktest]]:
    var: dict[float, VaRBacktest] = {}
    cvar: dict[float, CVaRBacktest] = {}
    known = tested[tested["var"].notna() & tested["beta"].between(0.0, 1.0, inclusive="neither")]
    for beta, own in known.groupby("beta"):
        level = float(str(beta))
        name = f"{100.0 * level:g}%"
        if len(own) < 2:
            continue
        losses = -own["realised"]
        v = var[level] = var_backtest(losses, own["var"], beta=level)
        rare = v.expected < 1.0
        counted = f"{v.exceedances} of {v.observations} horizons lost more than the VaR, {v.expected:.1f} were expected"
        passed: bool | None = v.kupiec_p >= LEVEL
        if rare and passed:
            passed, counted = None, f"{counted}: too few to tell"
        elif not passed:
            counted += ": too many, risk was underestimated" if v.exceedances > v.expected else ": too few"
        rows[f"VaR {name}: exceedances (Kupiec)"] = _row(v.exceedances, v.expected, passed, counted, p=v.kupiec_p)
        if v.exceedances > 1:
            alone = v.independence_p >= LEVEL
            verdict = "exceedances come alone, not in clusters" if alone else "exceedances come in clusters"
            rows[f"VaR {name}: independence (Christoffersen)"] = _row(
                v.independence, np.nan, alone, verdict, p=v.independence_p
            )
        fit = own[(own["cvar"] > 0.0) & (own["cvar"] >= own["var"])]
        if len(fit) < 2 or len(fit) < len(own):
            continue
        c = cvar[level] = cvar_backtest(losses, own["var"], own["cvar"], beta=level, seed=seed, freedom=freedom)
        tail = [("size and number", c.z2, c.z2_p)]
        if c.exceedances:
            tail.insert(0, ("size", c.z1, c.z1_p))
        for what, z, p in tail:
            fine = p >= LEVEL
            subject = "losses beyond the VaR" if what == "size" else "losses in the tail"
            verdict = f"{subject} were as the CVaR says" if fine else f"{subject} were above what the CVaR says"
            rows[f"CVaR {name}: {what} (Acerbi-Székely)"] = _row(z, 0.0, fine, verdict, p=p)
    return var, cvar


# -- limits, targets, stress -------------------------------------------------------------------------------------
def _adherence(backtest: Backtest, rows: dict[str, dict[str, object]]) -> tuple[pd.DataFrame, pd.Series]:
    timeline = backtest.timeline
    timeline = timeline[timeline["status"] != "rule"]  # a rule goes to a target that was judged before
    frame = timeline[["status", "fallback", "max_violation", "binding"]].copy()
    frame["violated"] = frame["max_violation"].fillna(0.0) > VIOLATED
    solved = frame[frame["max_violation"].notna()]
    names = [name for line in solved["binding"].fillna("") for name in binding_names(line)]
    counts = pd.Series(names, dtype=object).value_counts(sort=True)
    binding = (counts / max(len(solved), 1)).rename_axis("limit").rename("share").astype(np.float64)
    if len(solved):
        broken, worst = int(frame["violated"].sum()), float(solved["max_violation"].max())
        verdict = f"every limit was kept in all {len(solved)} decisions; the largest violation was {worst:.1e}"
        if broken:
            verdict = f"limits were broken in {broken} of {len(solved)} decisions, by {worst:.2e} at most"
        rows["limits of the targets"] = _row(worst, 0.0, broken == 0, verdict, high=VIOLATED)
    failed = int((timeline["fallback"] != "").sum())
    verdict = f"the strategy had an answer at all {len(timeline)} decisions"
    if failed:
        kinds = timeline.loc[timeline["fallback"] != "", "fallback"].value_counts()
        done = ", ".join(f"{count} x {kind}" for kind, count in kinds.items())
        verdict = f"the strategy had no answer at {failed} of {len(timeline)} decisions; instead: {done}"
    rows["failures and fallbacks"] = _row(failed, 0.0, failed == 0, verdict)
    return frame, binding


def binding_names(line: str) -> list[str]:
    """The limits in a line of the timeline, without how many of their rows bind."""
    return [re.sub(r" \(\d+\)$", "", name) for name in dict.fromkeys(line.split("; ")) if name]


def target_drift(backtest: Backtest) -> pd.Series:
    """Distance of held from target weights by session, one way; NaN before the first target could be traded.

    The target of a session is the latest that was decided at least ``lag`` sessions before.
    """
    weights, targets = backtest.weights, backtest.targets
    drift = pd.Series(np.nan, weights.index, name="drift")
    lag = int(backtest.settings.get("lag", 1))
    dates = weights.index
    assert isinstance(dates, pd.DatetimeIndex)
    if targets.empty:
        return drift
    starts = dates.get_indexer(targets.index) + lag
    place = np.searchsorted(starts, np.arange(len(dates)), side="right") - 1
    seen = place >= 0
    off = weights.to_numpy()[seen] - targets.to_numpy()[place[seen]]
    drift[seen] = 0.5 * (np.abs(off).sum(axis=1) + np.abs(off.sum(axis=1)))
    return drift


def stress_behaviour(backtest: Backtest) -> pd.DataFrame:
    """Returns of book and benchmark in known windows of stress, and in the run's own worst stretches.

    A window counts where the run has seen at least half of it; its dates are cut to those of the run.
    """
    returns = backtest.returns.clip(lower=-1.0)
    dates = returns.index
    assert isinstance(dates, pd.DatetimeIndex)
    worth = np.cumprod(1.0 + returns.to_numpy())
    compared = backtest.benchmark
    other = None if compared is None else compared.to_numpy()
    rows: dict[str, dict[str, object]] = {}

    def note(name: str, first: int, last: int, description: str) -> None:
        if worth[first] <= 0.0:
            return  # everything was lost before
        path = worth[first : last + 1] / worth[first]
        rows[name] = {
            "start": dates[first],
            "end": dates[last],
            "return": path[-1] - 1.0,
            "benchmark": np.nan if other is None else other[last] / other[first] - 1.0,
            "worst_drawdown": float((1.0 - path / np.maximum.accumulate(path)).max()),
            "description": description,
        }

    plain = dates.tz_localize(None) if dates.tz is not None else dates
    for name, window in historical_windows().iterrows():
        start, end = pd.Timestamp(window["start"]), pd.Timestamp(window["end"])
        seen = min(end, plain[-1]) - max(start, plain[0])
        if seen < 0.5 * (end - start):
            continue
        first = max(int(plain.searchsorted(start, side="right")) - 1, 0)
        last = int(plain.searchsorted(end, side="right")) - 1
        cut = "" if plain[0] <= start and end <= plain[-1] else ", as far as the run has seen it"
        note(str(name), first, last, f"{window['description']}{cut}")
    for length, words in ((21, "month"), (63, "quarter"), (252, "year")):
        if len(worth) <= 2 * length:
            continue
        alive = worth[:-length] > 0.0
        stretch = np.divide(worth[length:], worth[:-length], out=np.full(len(alive), np.inf), where=alive)
        last = length + int(np.argmin(stretch))
        note(f"worst {words}", last - length, last, f"The book's worst {length} sessions")
        if other is not None:
            mine, last = last, length + int(np.argmin(other[length:] / other[:-length]))
            if last == mine and f"worst {words}" in rows:
                rows[f"worst {words}"]["description"] = f"The worst {length} sessions of book and benchmark"
                continue
            note(f"benchmark's worst {words}", last - length, last, f"The benchmark's worst {length} sessions")
    columns = ["start", "end", "return", "benchmark", "worst_drawdown", "description"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("window")


# -- rows --------------------------------------------------------------------------------------------------------
def _row(
    value: float, expected: float, passed: bool | None, verdict: str, *, low: float = np.nan, high: float = np.nan,
    p: float = np.nan,
) -> dict[str, object]:  # fmt: skip
    return {"value": float(value), "expected": float(expected), "low": low, "high": high, "p_value": p,
            "passed": passed, "verdict": verdict}  # fmt: skip


def _frame(rows: dict[str, dict[str, object]]) -> pd.DataFrame:
    columns = ["value", "expected", "low", "high", "p_value", "passed", "verdict"]
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("test")
    return frame.astype({"passed": "boolean", **dict.fromkeys(columns[:5], np.float64)})

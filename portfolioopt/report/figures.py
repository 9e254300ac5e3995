"""What tables and pages say about a result, as plain rows: computed once, shown in several places."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.problem import Bounds, TradeLimit
from portfolioopt.rebalance import trade_summary
from portfolioopt.solve import Result

MINUS = "\N{MINUS SIGN}"  # for people; programs and terminals get hyphens
HELD = 1e-8  # a weight below this, as a fraction of NAV, is none


def percent(value: float, digits: int = 2) -> str:
    """A fraction as a percentage, without negative zeros."""
    text = f"{100.0 * value:.{digits}f} %"
    return text.removeprefix("-") if not any(digit in text for digit in "123456789") else text


def plain(value: float, digits: int) -> str:
    """A number for people: a typographic minus sign, and none for zero."""
    text = f"{value:.{digits}f}".replace("-", MINUS)
    return text.removeprefix(MINUS) if not any(digit in text for digit in "123456789") else text


def resolving_digits(values: np.ndarray) -> int:
    """Decimals that tell numbers apart: three digits of what lies between the lowest and the highest."""
    known = values[np.isfinite(values)]
    spread = float(known.max() - known.min()) if len(known) else 0.0
    return int(np.clip(np.ceil(-np.log10(spread)) + 2, 0, 8)) if spread > 0.0 else 3


def counted(number: int, what: str) -> str:
    """A number of things: ``"1 decision"``, ``"3 decisions"``."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def day(date: pd.Timestamp) -> str:
    """A date in words."""
    return f"{date.day} {date:%B %Y}"


def money(value: float) -> str:
    """An amount of account currency: whole units where it is large, more digits where it is small."""
    if abs(value) < 5e-7:
        return "0"
    digits = 0 if abs(value) >= 1000 else 2 if abs(value) >= 1 else 6
    return f"{value:,.{digits}f}"


def percent_digits(limits: pd.Series) -> int:
    """Decimals that show percentages of these fractions exactly, from 2 to 5."""
    for digits in range(2, 5):
        scaled = limits.to_numpy(dtype=float) * 10.0 ** (digits + 2)
        if np.allclose(scaled, np.round(scaled), rtol=0.0, atol=1e-6):
            return digits
    return 5


def certified(result: Result) -> Result:
    """Return the result, or refuse one without a portfolio."""
    if result.weights is None or result.certificate is None:
        raise InputError(f"there is no portfolio to report on: {result.message}")
    return result


def headline(result: Result, trades: pd.DataFrame | None, nav: float) -> dict[str, tuple[str, str]]:
    """The figures a reader wants first: name to value and a remark."""
    certificate = certified(result).certificate
    weights, scenarios = result.weights, result.problem.scenarios
    assert certificate is not None
    assert weights is not None
    per = f"per {scenarios.horizon}" if scenarios.horizon else "per scenario"
    whole = "" if certificate.radius is None else f", over weights up to {certificate.radius:g}"
    # a bound a hair below the objective is rounding, not a portfolio better than the best
    gap = max(certificate.gap, 0.0)
    worst = "every limit is met"
    if certificate.worst_constraint:
        rounding = ", which is rounding" if certificate.max_violation < 1e-12 else ""
        worst = f"of {certificate.worst_constraint}{rounding}"
    rows = {
        "status": (result.status.name, result.message.removeprefix(f"{result.status.name}, ")),
        "objective": (f"{certificate.objective:.8g}", str(result.problem.objective)),
        "proven bound": (f"{certificate.bound:.8g}", f"no allowed portfolio is better{whole}"),
        "relative gap": (f"{gap:.1e}", "distance from the bound: what is left to gain at most"),
        "largest violation": (f"{certificate.max_violation:.1e}", worst),
        "expected return": (percent(result.expected_return, 3), f"{per}, before costs"),
        "volatility": (percent(result.volatility, 3), per),
    }
    for beta, line in result.risk.iterrows():
        level = f"{100.0 * float(str(beta)):g} %"
        rows[f"CVaR {level}"] = (
            percent(line["cvar"], 3),
            f"mean of the worst {tail_share(float(str(beta)))} of losses; VaR {percent(line['var'], 3)}",
        )
    held = int((weights.abs() > HELD).sum())
    rows["positions"] = (f"{held} of {len(weights)}", f"effectively {_effective(weights):.1f}")
    if trades is not None:
        total = trade_summary(trades, nav)
        rows["turnover"] = (
            percent(total["turnover"]),
            f"buys {percent(total['buys'])}, sells {percent(total['sells'])}, {len(trades)} trades",
        )
        rows["cost"] = (f"{total['cost_bps']:.2f} bp", f"{money(total['cost'])} for a NAV of {money(nav)}")
    return rows


def credit_note(trades: pd.DataFrame) -> str | None:
    """What to say where the trades end with less than no cash."""
    if trades.empty or (left := float(trades["cash_after"].iloc[-1])) > -1e-9:
        return None
    return (
        f"After the last trade cash stands at {percent(left, 3)} of NAV: a budget below one by the expected cost would "
        "pay for the trades."
    )


def tail_share(beta: float) -> str:
    """The part of probability beyond a confidence level, in words."""
    return f"{100.0 * (1.0 - beta):.6g} %"


def _effective(weights: pd.Series) -> float:
    """Inverse Herfindahl index: the number of equal positions that is as concentrated."""
    squares = float((weights**2).sum())
    return float(weights.abs().sum()) ** 2 / squares if squares > 0 else 0.0


def measures(contributions: pd.DataFrame) -> list[str]:
    """Names of the risk measures, in order."""
    return [str(name) for name in contributions["measure"].unique()]


def positions(
    result: Result, contributions: pd.DataFrame, labels: pd.Series | Mapping[str, str] | None
) -> pd.DataFrame:
    """One row per asset that is held or was: label, holding, weight, and the contribution and share per measure.

    Sorted by weight, the largest first. Columns of measures are pairs, ``("CVaR 95%", "share")``.
    """
    weights, holdings = certified(result).weights, result.problem.holdings
    assert weights is not None
    frame = pd.DataFrame({"weight": weights})
    frame["holding"] = np.nan if holdings is None else holdings
    frame["label"] = "" if labels is None else pd.Series(labels).reindex(weights.index).fillna("")
    for measure in measures(contributions):
        own = contributions[contributions["measure"] == measure].set_index("asset")
        for what in ("contribution", "share"):
            frame[measure, what] = own[what].reindex(weights.index)
    shown = (frame["weight"].abs() > HELD) | (frame["holding"].abs() > HELD)
    return frame[shown].sort_values("weight", ascending=False, kind="stable")


def constraint_lines(result: Result, top: int) -> tuple[pd.DataFrame, int]:
    """Lines of the constraint report worth reading, and how many binding ones were left out.

    These are all limits on the portfolio or a group, and of those on single assets the `top` most expensive that bind.
    Binding ones come first, the most expensive at the top.
    """
    frame = certified(result).constraints
    names = {c.name for c in result.problem.constraints if isinstance(c, Bounds | TradeLimit)}
    single = frame["constraint"].isin(names)
    frame = frame.assign(size=frame["shadow_price"].abs(), room=frame["slack"].where(~frame["binding"], 0.0))
    binding = frame[single & frame["binding"]].sort_values("size", ascending=False, kind="stable")
    shown = pd.concat([frame[~single], binding.head(top)])
    shown = shown.sort_values(["binding", "size", "room"], ascending=[False, False, True], kind="stable")
    return shown.drop(columns=["size", "room"]), max(len(binding) - top, 0)


def changes(before: pd.Series, now: pd.Series) -> pd.DataFrame:
    """Weights before and now by asset, the largest change first, and what happened in a word."""
    frame = pd.concat([before.rename("before"), now.rename("now")], axis=1).fillna(0.0)
    frame["change"] = frame["now"] - frame["before"]
    held, holds = frame["before"].abs() > HELD, frame["now"].abs() > HELD
    frame["what"] = np.select([~held & holds, held & ~holds], ["new", "sold"], "")
    order = frame["change"].abs().sort_values(ascending=False, kind="stable").index
    return frame.loc[order]


def tail_parts(result: Result, labels: pd.Index) -> pd.DataFrame:
    """What each asset took off NAV in some scenarios of a result: scenarios x assets, losses positive."""
    weights, scenarios = certified(result).weights, result.problem.scenarios
    assert weights is not None
    places = scenarios.index.get_indexer_for(labels)
    rows = scenarios.source.rows(places)
    return pd.DataFrame(-rows * weights.to_numpy(), labels, weights.index)


def largest_parts(result: Result, labels: pd.Index, count: int) -> list[str]:
    """For each scenario the assets that lost most in words: ``"AAPL 1.2 %, AMD 0.8 %"``."""
    stories = []
    for row in tail_parts(result, labels).itertuples(index=False):
        own = pd.Series(list(row), result.problem.scenarios.assets).nlargest(count)
        stories.append(", ".join(f"{asset} {percent(part)}" for asset, part in own.items() if part > HELD))
    return stories

"""The section of a page that says what has changed since the last time."""

from __future__ import annotations

import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.solve import Result

from .figures import HELD, certified, changes, headline, percent
from .page import Cell, number, signed, table, text

_COMPARED = ("expected return", "volatility", "positions")


def changes_section(result: Result, previous: Result | pd.Series, top: int) -> str:
    """Weights, risk and limits now against the last time."""
    assert result.weights is not None
    before = certified(previous).weights if isinstance(previous, Result) else previous
    if not isinstance(before, pd.Series):
        raise InputError(f"previous must be a Result or a Series of weights by asset, was {type(previous).__name__}")
    frame = changes(before, result.weights)
    moved = frame[frame["change"].abs() > HELD]
    words = (
        f"{len(moved)} targets have changed, {percent(0.5 * float(frame['change'].abs().sum()))} of NAV one way; "
        f"{int((frame['now'].abs() > HELD).sum())} positions after {int((frame['before'].abs() > HELD).sum())}."
        if len(moved)
        else "The targets are those of the last time."
    )
    pieces = ["<h2>Changes since the last time</h2>", f"<p>{text(words)}</p>"]
    if len(moved):
        rows = [
            [Cell(str(asset)), number(percent(line["before"])), number(percent(line["now"])),
             number(signed(line["change"])), Cell(str(line["what"]))]
            for asset, line in moved.head(top).iterrows()
        ]  # fmt: skip
        kinds = [""] * len(rows)
        if len(moved) > top:
            rest = moved.iloc[top:][["before", "now", "change"]].sum()
            rows.append([Cell(f"{len(moved) - top} more"), number(percent(rest["before"])),
                         number(percent(rest["now"])), number(signed(rest["change"])), Cell("")])  # fmt: skip
            kinds.append("rest")
        pieces.append(table(["asset", "before", "now", "change", ""], rows, kinds, numbers_from=1, text_columns={4}))
    if isinstance(previous, Result):
        pieces.append(_compared(result, previous))
    return "\n".join(pieces)


def _compared(result: Result, previous: Result) -> str:
    """Figures and binding limits of two results."""
    then = {name: value for name, (value, _) in headline(previous, None, 1.0).items()}
    now = {name: value for name, (value, _) in headline(result, None, 1.0).items()}
    wanted = [name for name in now if name in then and (name.startswith("CVaR") or name in _COMPARED)]
    rows = [[Cell(name), number(then[name]), number(now[name])] for name in wanted]
    prices = [one.constraints.query("binding")["shadow_price"] for one in (previous, result)]
    new, gone = prices[1].index.difference(prices[0].index), prices[0].index.difference(prices[1].index)
    words = [
        f"{what}: {', '.join(map(str, names[:12]))}{f' and {len(names) - 12} more' if len(names) > 12 else ''}."
        for what, names in (("Limits that bind now and did not", new), ("Limits that no longer bind", gone))
        if len(names)
    ]
    found = " ".join(words) or "The same limits bind."
    return f"{table(['', 'before', 'now'], rows, numbers_from=1)}\n<p>{text(found)}</p>"

"""The files of a run: Parquet for programs, HTML for people."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.rebalance import trade_summary
from portfolioopt.solve import Result

from .figures import certified
from .html import write_report

_TABLES: Final = ("weights", "trades", "contributions", "constraints")


def write_run(
    directory: str | Path,
    result: Result,
    *,
    contributions: pd.DataFrame,
    trades: pd.DataFrame | None = None,
    nav: float = 1.0,
    labels: pd.Series | Mapping[str, str] | None = None,
    title: str = "Portfolio",
    facts: Mapping[str, object] | None = None,
    source: str | None = None,
    top: int = 20,
    pictures: bool = True,
    previous: Result | pd.Series | None = None,
) -> list[Path]:
    """Write a result as ``weights``, ``trades``, ``contributions`` and ``constraints`` (Parquet), and ``report.html``.

    ``summary.json`` holds the headline figures, the facts and the timings. Earlier files of these names are replaced,
    and removed where this run has none (trades without holdings), so that a folder never mixes two runs; other files
    are left alone. The same result gives the same bytes of Parquet.

    Parameters
    ----------
    directory
        Folder to write to; made if it is not there.
    result, contributions, trades, nav, labels, title, facts, source, top, pictures, previous
        See `write_report`.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    InputError
        Where the folder cannot be written to.
    """
    weights = certified(result).weights
    assert weights is not None
    frames = {
        "weights": weights.rename_axis("asset").reset_index(),
        "trades": None if trades is None else trades.rename_axis("asset").reset_index(),
        "contributions": contributions,
        "constraints": result.constraints.reset_index(drop=True),
    }
    folder = Path(directory)
    written: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in _TABLES:
            path, frame = folder / f"{name}.parquet", frames[name]
            if frame is None:
                path.unlink(missing_ok=True)
                continue
            draft = folder / f".{name}.part"
            frame.to_parquet(draft, index=False)
            os.replace(draft, path)
            written.append(path)
        written.append(
            write_report(
                folder / "report.html",
                result,
                contributions=contributions,
                trades=trades,
                nav=nav,
                labels=labels,
                title=title,
                facts=facts,
                source=source,
                top=top,
                pictures=pictures,
                previous=previous,
            )
        )
        path = folder / "summary.json"
        summary = _summary(result, trades, nav, title, facts or {})
        path.write_text(json.dumps(summary, indent=2, default=str) + "\n", encoding="utf-8")
        written.append(path)
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror or error}; choose another folder") from error
    return written


def _summary(
    result: Result, trades: pd.DataFrame | None, nav: float, title: str, facts: Mapping[str, object]
) -> dict[str, Any]:
    """Headline figures for programs: fractions, full precision."""
    c, t = result.certificate, result.timings
    assert c is not None
    return {
        "name": title,
        "status": result.status.name,
        "message": result.message,
        "objective": c.objective,
        "bound": c.bound,
        "relative_gap": c.gap,
        "max_violation": c.max_violation,
        "worst_constraint": c.worst_constraint,
        "expected_return": result.expected_return,
        "volatility": result.volatility,
        "risk": [{"beta": beta, "var": line["var"], "cvar": line["cvar"]} for beta, line in result.risk.iterrows()],
        "trading": None if trades is None else {**trade_summary(trades, nav).to_dict(), "nav": nav},
        "facts": dict(facts),
        "iterations": result.iterations,
        "seconds": {"compile": t.compile, "solve": t.solve, "certify": t.certify, "total": t.total},
    }

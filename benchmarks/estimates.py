"""Covariances and factor models over a thousand rolling windows, beside loops in NumPy, cumulative sums and pandas.

``python -m benchmarks.estimates`` takes some minutes and writes ``results/estimates.json``; ``--quick`` takes one and
writes nothing. Every contender is timed in a process of its own and starts from the same frames; what it finds is
held against extended precision on some of the windows. Ratios are of the least of the warm times, which other work on
the machine disturbs less than the median.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from portfolioopt.estimate import RegressionFactors, rolling_covariances, rolling_factor_model

from . import aims, isolate, tables
from .machine import machine
from .options import Options
from .tables import Table
from .timing import LONG, OFTEN, SELDOM, SHORT

Record = dict[str, Any]

OUTPUT = Path(__file__).resolve().parent / "results" / "estimates.json"
OURS = "portfolioopt"
WINDOW = 250
AIM = aims.Aim(10)
"""Times as fast as a loop in NumPy or pandas."""
ACCURACY = 1e-12
SAMPLED = 20
"""Windows that are held against extended precision."""


def history(rows: int, assets: int, factors: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Daily returns of assets and of factors, with volatility that comes in clusters, fat tails and a mean."""
    rng = np.random.default_rng(20)
    log = np.zeros(rows)
    for t in range(1, rows):
        log[t] = 0.98 * log[t - 1] + 0.15 * rng.normal()
    mixed = rng.normal(size=(factors, factors)) / np.sqrt(factors) + np.eye(factors)
    f = 3e-4 + 0.01 * np.exp(log)[:, None] * (rng.standard_t(5, size=(rows, factors)) @ mixed)
    dates = pd.date_range("1980-01-01", periods=rows, freq="B")
    r = f @ rng.normal(size=(factors, assets)) + 0.02 * rng.standard_t(5, size=(rows, assets))
    names = [f"F{k}" for k in range(factors)]
    return pd.DataFrame(r, dates, [f"A{i}" for i in range(assets)]), pd.DataFrame(f, dates, names)


# -- covariances: frame (T, K) to (D, K, K) ----------------------------------------------------------------------
def ours(x: pd.DataFrame, every: int) -> Any:
    return rolling_covariances(x, WINDOW, every=every).matrices


def loop(x: pd.DataFrame, every: int) -> Any:
    values = x.to_numpy()
    out = np.empty(((len(x) - WINDOW) // every + 1, x.shape[1], x.shape[1]))
    for d in range(len(out)):
        rows = values[d * every : d * every + WINDOW]
        rows = rows - rows.mean(axis=0)
        np.matmul(rows.T, rows, out=out[d])
    out /= WINDOW - 1
    return out


def numpy_cov(x: pd.DataFrame, every: int) -> Any:
    values = x.to_numpy()
    starts = range(0, len(x) - WINDOW + 1, every)
    return np.stack([np.cov(values[start : start + WINDOW], rowvar=False) for start in starts])


def cumulative(x: pd.DataFrame, every: int) -> Any:
    """Differences of cumulative sums: no loop, but what has left a window leaves its rounding behind."""
    values = x.to_numpy()
    centred = values - values.mean(axis=0)
    count = x.shape[1]
    products = np.zeros((len(x) + 1, count, count))
    np.cumsum(centred[:, :, None] * centred[:, None, :], axis=0, out=products[1:])
    sums = np.zeros((len(x) + 1, count))
    np.cumsum(centred, axis=0, out=sums[1:])
    whole = products[WINDOW::every] - products[:-WINDOW:every]
    mean = (sums[WINDOW::every] - sums[:-WINDOW:every]) / WINDOW
    return (whole - WINDOW * mean[:, :, None] * mean[:, None, :]) / (WINDOW - 1)


def pandas_cov(x: pd.DataFrame, every: int) -> Any:
    count = x.shape[1]
    return x.rolling(WINDOW).cov().to_numpy().reshape(-1, count, count)[WINDOW - 1 :: every]


COVARIANCES: dict[str, Callable[[pd.DataFrame, int], Any]] = {
    OURS: ours,
    "NumPy loop": loop,
    "numpy.cov loop": numpy_cov,
    "NumPy cumulative sums": cumulative,
    "DataFrame.rolling.cov": pandas_cov,
}


# -- whole models: exposures, factor covariance, specific variances ----------------------------------------------
def our_models(r: pd.DataFrame, f: pd.DataFrame, every: int) -> Any:
    found = rolling_factor_model(r, f, WINDOW, every=every)
    return found.exposures, found.factor_covariance, found.idiosyncratic


def loop_of_models(r: pd.DataFrame, f: pd.DataFrame, every: int) -> Any:
    """Normal equations and residuals of every window."""
    returns, factors = r.to_numpy(), f.to_numpy()
    (rows, n), k = returns.shape, factors.shape[1]
    windows = (rows - WINDOW) // every + 1
    exposures, covariance, variance = np.empty((windows, k, n)), np.empty((windows, k, k)), np.empty((windows, n))
    for d in range(windows):
        part = slice(d * every, d * every + WINDOW)
        x, y = factors[part], returns[part]
        x, y = x - x.mean(axis=0), y - y.mean(axis=0)
        gram = x.T @ x
        exposures[d] = np.linalg.solve(gram, x.T @ y)
        rest = y - x @ exposures[d]
        covariance[d] = gram / (WINDOW - 1)
        variance[d] = np.einsum("tn,tn->n", rest, rest) / (WINDOW - k - 1)
    return exposures, covariance, variance


def loop_of_fits(r: pd.DataFrame, f: pd.DataFrame, every: int) -> Any:
    """The estimator of this library for one window, on each."""
    fits = [
        RegressionFactors().fit(r.iloc[start : start + WINDOW], f) for start in range(0, len(r) - WINDOW + 1, every)
    ]
    return (
        np.stack([fit.exposures.to_numpy().T for fit in fits]),
        np.stack([fit.factor_covariance.to_numpy() for fit in fits]),
        np.stack([fit.idiosyncratic.to_numpy() for fit in fits]),
    )


MODELS: dict[str, Callable[[pd.DataFrame, pd.DataFrame, int], Any]] = {
    OURS: our_models,
    "NumPy loop": loop_of_models,
    "RegressionFactors loop": loop_of_fits,
}


# -- volatilities of portfolios under models that are there ------------------------------------------------------
def our_volatilities(model: Any, weights: pd.DataFrame) -> Any:
    return model.volatility(weights).to_numpy()


def loop_of_volatilities(model: Any, weights: pd.DataFrame) -> Any:
    w = weights.to_numpy()
    out = np.empty((len(model), w.shape[1]))
    for d in range(len(model)):
        met = model.exposures[d] @ w
        out[d] = np.einsum("kp,kp->p", met, model.factor_covariance[d] @ met) + model.idiosyncratic[d] @ (w * w)
    return np.sqrt(out)


def loop_of_matrices(model: Any, weights: pd.DataFrame) -> Any:
    """Forms the matrix by asset on every date."""
    w = weights.to_numpy()
    out = np.empty((len(model), w.shape[1]))
    for d in range(len(model)):
        b = model.exposures[d]
        matrix = b.T @ model.factor_covariance[d] @ b
        matrix[np.diag_indices(len(matrix))] += model.idiosyncratic[d]
        out[d] = np.einsum("np,np->p", w, matrix @ w)
    return np.sqrt(out)


VOLATILITIES: dict[str, Callable[[Any, pd.DataFrame], Any]] = {
    OURS: our_volatilities,
    "NumPy loop, factored": loop_of_volatilities,
    "NumPy loop, N x N": loop_of_matrices,
}
CONTENDERS: dict[str, tuple[str, ...]] = {
    "covariance": tuple(COVARIANCES),
    "model": tuple(MODELS),
    "volatility": tuple(VOLATILITIES),
}


# -- measuring ---------------------------------------------------------------------------------------------------
def measure_one(what: str, contender: str, windows: int, every: int, factors: int, assets: int) -> Iterator[Record]:
    """Time one contender; in a process of its own."""
    returns, f = history(WINDOW + (windows - 1) * every, max(assets, 1), factors)
    if what == "covariance":
        call = lambda: COVARIANCES[contender](f, every)
    elif what == "model":
        call = lambda: MODELS[contender](returns, f, every)
    else:
        model = rolling_factor_model(returns, f, WINDOW, every=every)
        weights = pd.DataFrame(np.random.default_rng(1).dirichlet(np.ones(assets), 100).T, returns.columns)
        call = lambda: VOLATILITIES[contender](model, weights)
    start = time.perf_counter()
    found = call()
    first = time.perf_counter() - start
    taken: list[float] = []
    repeats = OFTEN if first <= SHORT else SELDOM if first <= LONG else 1
    while len(taken) < repeats or (sum(taken) < 0.5 and len(taken) < 200):
        start = time.perf_counter()
        found = call()
        taken.append(time.perf_counter() - start)
    seconds = float(np.median(taken))
    if what == "volatility":
        error = float(np.max(np.abs(found / loop_of_volatilities(model, weights) - 1.0)))
    else:
        error = _error(found if what == "model" else (found,), returns, f, what, every)
    yield {
        "seconds": seconds,
        "least_seconds": min(taken),
        "first_call_seconds": first,
        "compile_seconds": max(first - seconds, 0.0) if contender == OURS else 0.0,
        "repeats": len(taken),
        "error": error,
    }


def _error(found: Any, returns: pd.DataFrame, f: pd.DataFrame, what: str, every: int) -> float:
    """Largest difference from two passes in extended precision, of each matrix relative to its largest number."""
    worst = 0.0
    for d in np.linspace(0, len(found[0]) - 1, SAMPLED).astype(int):
        part = slice(d * every, d * every + WINDOW)
        x = f.to_numpy()[part].astype(np.longdouble)
        x = x - x.mean(axis=0)
        exact = [x.T @ x / (WINDOW - 1)]
        if what == "model":
            y = returns.to_numpy()[part].astype(np.longdouble)
            y = y - y.mean(axis=0)
            slopes = _solved(x.T @ x, x.T @ y)
            rest = y - x @ slopes
            exact = [slopes, exact[0], (rest * rest).sum(axis=0) / (WINDOW - x.shape[1] - 1)]
        for mine, truth in zip(found, exact, strict=True):
            worst = max(worst, float(np.abs(mine[d] - truth).max() / np.abs(truth).max()))
    return worst


def _solved(matrix: Any, right: Any) -> Any:
    """Gauss's elimination in the precision of its arguments; LAPACK has none beyond double."""
    a, b = matrix.copy(), right.copy()
    for i in range(len(a)):
        b[i] = b[i] / a[i, i]
        a[i] = a[i] / a[i, i]
        for j in range(len(a)):
            if j != i:
                b[j] = b[j] - a[j, i] * b[i]
                a[j] = a[j] - a[j, i] * a[i]
    return b


def cases(quick: bool) -> list[Record]:
    """What is measured."""
    windows = 100 if quick else 1000
    found = [
        {"what": "covariance", "windows": windows, "every": every, "factors": factors, "assets": 0}
        for factors, every in ((10, 1), (20, 1), (50, 1), (10, 21), (50, 21))
    ]
    assets = 50 if quick else 500
    rest = {"windows": windows, "every": 1, "factors": 10, "assets": assets}
    return found + [{"what": what} | rest for what in ("model", "volatility")]


def run(options: Options) -> Iterator[Record]:
    """Measure; yields a record for each case and contender."""
    for case in cases(options.quick):
        for contender in CONTENDERS[case["what"]]:
            if contender == "DataFrame.rolling.cov" and case["every"] > 1:
                continue  # it makes every row, twenty times as many as are asked for
            arguments = case | {"contender": contender}
            call = "benchmarks.estimates:measure_one"
            found = isolate.run(call, arguments, seconds=options.seconds, gigabytes=options.gigabytes)
            yield arguments | {"problem": f"{_title(case)}  {contender}", "window": WINDOW} | found


def report(records: list[Record], settings: dict[str, Any]) -> list[Table]:
    """A table for each case."""
    found = []
    for title in dict.fromkeys(map(_title, records)):
        group = [r for r in records if _title(r) == title]
        mine = next((r["least_seconds"] for r in group if r["contender"] == OURS and r["status"] == "ok"), None)
        rows = []
        for r in group:
            seconds = r["least_seconds"] if r["status"] == "ok" else None
            rows.append(
                [
                    r["contender"],
                    tables.seconds(r["seconds"]) if seconds is not None else r["status"],
                    tables.seconds(seconds),
                    tables.ratio(seconds / mine if seconds and mine else None),
                    tables.small(r.get("error")),
                    tables.seconds(r.get("compile_seconds")) if r["contender"] == OURS else "-",
                ]
            )
        found.append(Table(title, ["", "median", "least", "of ours", "error", "compile"], rows))
    return found


def goals(records: list[Record]) -> list[aims.Goal]:
    """Ten times as fast as loops, at full accuracy."""
    found = []
    for title in dict.fromkeys(_title(r) for r in records if r["what"] != "volatility"):
        group = {r["contender"]: r for r in records if _title(r) == title and r["status"] == "ok"}
        mine = group.get(OURS)
        if mine is None or mine["error"] > ACCURACY:
            continue
        others = [name for name in ("NumPy loop", "DataFrame.rolling.cov") if name in group]
        times = {name: group[name]["least_seconds"] / mine["least_seconds"] for name in others}
        found += [aims.at_least(f"{title}: times as fast as {name}", AIM, t, "x") for name, t in times.items()]
    return found


def _title(record: Record) -> str:
    words = {"covariance": "covariances", "model": "factor models", "volatility": "volatilities of 100 portfolios"}
    assets = f", {record['assets']} assets" if record["assets"] else ""
    step = "" if record["every"] == 1 else f", every {record['every']} rows"
    return f"{record['windows']:,} {words[record['what']]} of {record['factors']} factors{assets}{step}"


def main() -> None:
    """Run all, print tables and write the file."""
    from rich.console import Console

    parser = argparse.ArgumentParser(prog="python -m benchmarks.estimates", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a hundred windows, and nothing is written")
    quick = parser.parse_args().quick
    records: list[Record] = []
    settings = {"window": WINDOW, "quick": quick, "threads": "each library's default"}
    payload = {"benchmark": "estimates", "machine": machine(), "settings": settings, "records": records}
    for record in run(Options(quick=quick)):
        records.append(record)
        print(json.dumps(record), flush=True)
        if not quick:
            OUTPUT.write_text(json.dumps(payload, indent=1) + "\n")
    console = Console(width=120)
    for table in report(records, settings):
        console.print(table.rich())
    for goal in goals(records):
        console.print(f"{goal.what}: {goal.reached} (aim {goal.wanted})")


if __name__ == "__main__":
    main()

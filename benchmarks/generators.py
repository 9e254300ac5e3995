"""Scenario generators: time beside what the machine can do, accuracy beside what the law says.

``python -m benchmarks.generators`` takes some minutes and writes ``results/generators.json``. The factor model is the
one of a large book: a million scenarios of 500 assets under 20 factors in single precision. Its roofline is the time
that its product (2 S N K operations) takes at the rate of a large matrix product, or its result (4 S N bytes) at the
rate at which memory is written, whichever is longer, both measured in the same run. Random numbers, half a billion of
them, are not in the roofline and are in the time; the product without them is measured as well. Ratios compare
processor times, of one core against all cores together, since clocks also count what else the machine is doing.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

import portfolioopt as po
from portfolioopt.blas import quiet_blas
from portfolioopt.scenarios import (
    Jumps,
    ScenarioSet,
    SkewedT,
    StudentT,
    VolatilityShock,
    block_bootstrap,
    copula,
    factor_model,
    factor_monte_carlo,
    filtered_historical,
    fit_garch,
)

from .machine import machine

Record = dict[str, Any]
OUTPUT = Path(__file__).resolve().parent / "results" / "generators.json"
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
FACTORS = 20


def _timed(call: Callable[[], Any], repeats: int = 5) -> Record:
    """Seconds of the first call, the median and the least of the warm ones, and the least processor time of all cores.

    On a machine that does other things as well, the last one is closest to what an idle one takes, times the cores.
    """
    start = time.perf_counter()
    call()
    first = time.perf_counter() - start
    taken, used = [], []
    for _ in range(repeats):
        start, cpu = time.perf_counter(), time.process_time()
        call()
        taken.append(time.perf_counter() - start)
        used.append(time.process_time() - cpu)
    return {
        "first_call_seconds": first,
        "seconds": statistics.median(taken),
        "least_seconds": min(taken),
        "least_cpu_seconds": min(used),
    }


def _model(assets: int) -> tuple[pd.DataFrame, pd.DataFrame, pd.Series]:
    """Exposures, factor covariance and idiosyncratic variances of daily returns."""
    rng = np.random.default_rng(0)
    names = pd.Index([f"A{i}" for i in range(assets)])
    factors = pd.Index([f"F{k}" for k in range(FACTORS)])
    exposures = rng.normal(0.0, 0.3, (assets, FACTORS))
    exposures[:, 0] = rng.normal(1.0, 0.2, assets)
    volatility = 0.012 * 0.85 ** np.arange(FACTORS)
    return (
        pd.DataFrame(exposures, names, factors),
        pd.DataFrame(np.diag(volatility**2), factors, factors),
        pd.Series(rng.uniform(0.008, 0.025, assets) ** 2, names),
    )


def rates() -> Record:
    """What a core of the machine does at its best: operations in a product of matrices, bytes written and copied."""
    size = 2000
    a = np.random.default_rng(0).random((size, size), dtype=np.float32)
    out = np.empty_like(a)
    with quiet_blas.hold():
        product = _timed(lambda: np.matmul(a, a, out=out), 20)["least_cpu_seconds"]
    room = np.zeros(1 << 26, np.float32)
    half = len(room) // 2
    fill = _timed(lambda: room.fill(1.0), 20)["least_cpu_seconds"]
    copied = _timed(lambda: np.copyto(room[:half], room[half:]), 20)["least_cpu_seconds"]
    return {
        "what": "rates",
        "gemm_float32_gflops_per_core": 2.0 * size**3 / product / 1e9,
        "written_gb_per_second_per_core": room.nbytes / fill / 1e9,
        "copied_gb_per_second_per_core": room.nbytes / copied / 1e9,
    }


def _roofline(rate: Record, scenarios: int, assets: int, itemsize: int) -> Record:
    """Processor time that the product takes at the machine's best, and what it is bound by."""
    operations = 2.0 * scenarios * assets * FACTORS / (rate["gemm_float32_gflops_per_core"] * 1e9)
    memory = float(itemsize) * scenarios * assets / (rate["written_gb_per_second_per_core"] * 1e9)
    return {
        "roofline_cpu_seconds": max(operations, memory),
        "bound_by": "operations" if operations > memory else "memory",
    }


def _kept(rate: Record) -> Record:
    """:func:`rates`, put where later runs look for them."""
    rate |= rates()
    return dict(rate)


def factor_rows(rate: Record, scenarios: int, assets: int, settings: Record) -> Record:
    """A factor model made in chunks that are let go, and kept, beside its roofline."""
    exposures, covariance, variance = _model(assets)
    std = np.sqrt(variance)

    def streamed(count: int) -> ScenarioSet:
        return factor_model(exposures, covariance, std, n_scenarios=count, seed=1, workers=CORES, **settings)

    def made() -> None:
        source = streamed(scenarios).source
        for _ in source._scan(range(len(source._edges) - 1)):
            pass

    start = time.perf_counter()
    streamed(2).source.rows([0])
    one_chunk = time.perf_counter() - start
    start = time.perf_counter()
    streamed(2).source.rows([0])
    compiled = max(0.0, one_chunk - (time.perf_counter() - start))  # zero for what an earlier record has compiled
    chunks = _timed(made)
    kept = _timed(
        lambda: (
            factor_monte_carlo(
                exposures, covariance, variance, scenarios, seed=1, workers=CORES, **settings
            ).source.shape
        ),
        3,
    )
    roofline = _roofline(rate, scenarios, assets, np.dtype(settings["dtype"]).itemsize)
    best = roofline["roofline_cpu_seconds"]
    return {
        "what": "factor_model",
        "scenarios": scenarios,
        "assets": assets,
        "factors": FACTORS,
        "settings": {name: str(value) for name, value in settings.items()},
        "workers": CORES,
        "compile_seconds": compiled,
        "made": chunks,
        "kept": kept,
        "numbers_per_second": scenarios * assets / chunks["least_seconds"],
        "roofline_over_made": best / chunks["least_cpu_seconds"],
        "roofline_over_kept": best / kept["least_cpu_seconds"],
    } | roofline


def product_alone(rate: Record, scenarios: int, assets: int) -> Record:
    """The same product without random numbers: scores times exposures, in blocks that stay in cache, by NumPy."""
    rng = np.random.default_rng(0)
    exposures = rng.random((FACTORS, assets), dtype=np.float32)
    rows = (1 << 18) // assets
    scores = rng.random((rows, FACTORS), dtype=np.float32)
    blocks = -(-scenarios // rows)

    def part(worker: int) -> None:
        out = np.empty((rows, assets), np.float32)
        for _ in range(worker, blocks, CORES):
            np.matmul(scores, exposures, out=out)

    with quiet_blas.hold(), ThreadPoolExecutor(CORES) as pool:
        figures = _timed(lambda: list(pool.map(part, range(CORES))))
    roofline = _roofline(rate, scenarios, assets, 4)
    over = roofline["roofline_cpu_seconds"] / figures["least_cpu_seconds"]
    sizes: Record = {"what": "product_alone", "scenarios": scenarios, "assets": assets}
    return sizes | figures | roofline | {"roofline_over_seconds": over}


def accuracy(scenarios: int, assets: int, settings: Record) -> Record:
    """Largest deviations of a sample from the law, in standard errors, and the law of a portfolio."""
    exposures, covariance, variance = _model(assets)
    made = factor_model(
        exposures, covariance, np.sqrt(variance), n_scenarios=scenarios, seed=2, workers=CORES, **settings
    )
    exact = (exposures @ covariance @ exposures.T).to_numpy() + np.diag(variance)
    std = np.sqrt(np.diag(exact))
    means = np.abs(made.mean()) / (std / np.sqrt(scenarios))
    sample = made.covariance().to_numpy()
    errors = np.sqrt((np.outer(std, std) ** 2 + exact**2) / scenarios)
    weights = np.full(assets, 1.0 / assets)
    losses = made.source.losses(weights)
    law = stats.norm(0.0, np.sqrt(weights @ exact @ weights))
    return {
        "what": "accuracy",
        "scenarios": scenarios,
        "assets": assets,
        "settings": {name: str(value) for name, value in settings.items()},
        "largest_mean_in_standard_errors": float(means.max()),
        "expected_largest_mean": float(stats.norm.isf(1.0 / assets / 2.0)),
        "largest_covariance_in_standard_errors": float(np.abs((sample - exact) / errors).max()),
        "expected_largest_covariance": float(stats.norm.isf(1.0 / (assets * (assets + 1)))),
        "portfolio_kolmogorov_smirnov_p": float(stats.kstest(losses, law.cdf).pvalue),
    }


def memoryless(scenarios: int, assets: int) -> Record:
    """CVaR of a portfolio over scenarios that are never stored, and the memory that took."""
    exposures, covariance, variance = _model(assets)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    weights = pd.Series(1.0 / assets, exposures.index)
    start = time.perf_counter()
    made = factor_model(
        exposures,
        covariance,
        np.sqrt(variance),
        n_scenarios=scenarios,
        seed=3,
        engine="jax",
        dtype="float32",
        workers=CORES,
    )
    found = made.tail(weights, 0.95)
    seconds = time.perf_counter() - start
    held = weights.to_numpy()
    spread = exposures.to_numpy().T @ held
    volatility = float(np.sqrt(spread @ covariance.to_numpy() @ spread + held**2 @ variance.to_numpy()))
    exact = volatility * float(stats.norm.pdf(stats.norm.ppf(0.95))) / 0.05
    return {
        "what": "memoryless",
        "scenarios": scenarios,
        "assets": assets,
        "seconds": seconds,
        "matrix_gib": 4.0 * scenarios * assets / 2**30,
        "more_memory_gib": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20,
        "cvar": found.cvar,
        "exact_cvar": exact,
        "relative_error": abs(found.cvar / exact - 1.0),
    }


def histories(scenarios: int) -> Record:
    """Generators that start from the bundled prices, and GARCH fits beside those of the package arch."""
    returns = po.data.simple_returns(po.data.sample_prices()).tail(2500)
    logs = returns.apply(np.log1p)
    figures: Record = {
        "block_bootstrap_21_days": _timed(lambda: block_bootstrap(returns, scenarios, seed=1, horizon=21), 3),
        "copula_t_fit_and_draw": _timed(lambda: copula(returns, scenarios, seed=1), 3),
        "filtered_historical_10_days": _timed(
            lambda: filtered_historical(returns, scenarios, seed=1, horizon=10, most_persistence=0.999), 3
        ),
        "garch_fits": _timed(lambda: fit_garch(logs, most_persistence=0.99999), 3),
    }
    from arch import arch_model

    def theirs() -> list[Any]:
        return [arch_model(100.0 * logs[asset], rescale=False).fit(disp="off") for asset in logs]

    figures["arch_fits"] = _timed(theirs, 3)
    ours = fit_garch(logs, most_persistence=0.99999).log_likelihood
    likelihoods = np.array([fit.loglikelihood + len(logs) * np.log(100.0) for fit in theirs()])
    figures["log_likelihood_above_arch"] = {
        "least": float((ours - likelihoods).min()),
        "most": float((ours - likelihoods).max()),
    }
    return {"what": "histories", "rows": len(returns), "assets": returns.shape[1], "scenarios": scenarios} | figures


def main() -> None:
    """Run all, printing and writing each record as it comes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.generators", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, and nothing is written")
    quick = parser.parse_args().quick
    large, small = ((50_000, 100), 20_000) if quick else ((1_000_000, 500), 100_000)
    fast: Record = {"engine": "jax", "dtype": "float32"}
    rate: Record = {}
    # the run that stores nothing comes first, so that the most memory the process has held is its own
    runs: list[Callable[[], Record]] = [partial(memoryless, 10 * large[0], large[1]), partial(_kept, rate)]
    runs += [partial(product_alone, rate, *large)]
    runs += [partial(factor_rows, rate, *large, fast)]
    runs += [
        partial(factor_rows, rate, large[0] // 10, large[1], settings)
        for settings in (
            fast,
            {"engine": "numpy", "dtype": "float32"},
            {"engine": "jax", "dtype": "float64"},
            fast | {"factors": StudentT(5.0)},
            fast | {"factors": SkewedT(8.0, -0.2)},
            fast | {"factors": Jumps(0.05, 0.0, 1e-4)},
            fast | {"idiosyncratic": StudentT(5.0)},
            fast | {"idiosyncratic": VolatilityShock(0.3)},
        )
    ]
    runs += [partial(accuracy, small, large[1], settings) for settings in (fast, fast | {"dtype": "float64"})]
    runs += [partial(histories, small)]
    records: list[Record] = []
    payload = {"benchmark": "generators", "machine": machine(), "records": records}
    for run in runs:
        record = run()
        if hasattr(os, "getloadavg"):
            record["load_average"] = os.getloadavg()[0]
        records.append(record)
        print(json.dumps(record), flush=True)
        if not quick:
            OUTPUT.write_text(json.dumps(payload, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""How often the 95 % interval of CVaR at 95 % holds the true one, in repeated samples of losses.

``python -m benchmarks.coverage`` takes a minute or two and writes ``results/coverage.json``.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import integrate, stats

import portfolioopt as po

from .machine import machine

Record = dict[str, Any]
OUTPUT = Path(__file__).resolve().parent / "results" / "coverage.json"
BETA = 0.95
ONE = pd.Series([1.0], ["book"])
CASES = [
    (np.inf, 500, 500, ("asymptotic", "studentised")),
    (6.0, 1_000, 500, ("asymptotic",)),
    (4.0, 1_000, 500, ("asymptotic",)),
    (np.inf, 10_000, 1_000, ("asymptotic",)),
    (6.0, 10_000, 1_000, ("asymptotic",)),
    (4.0, 10_000, 1_000, ("asymptotic",)),
]


def cover(freedom: float, scenarios: int, repeats: int, method: Any) -> Record:
    """The share of samples whose interval holds the truth, and of those that lie above and below it."""
    law = stats.norm(scale=0.01) if np.isinf(freedom) else stats.t(freedom, scale=0.01)
    truth = integrate.quad(law.ppf, BETA, 1.0)[0] / (1.0 - BETA)
    low, high = np.empty(repeats), np.empty(repeats)
    for i in range(repeats):
        losses = law.rvs(scenarios, random_state=np.random.default_rng([7, i]))
        sample = po.ScenarioSet(pd.DataFrame(-losses[:, None], columns=ONE.index))
        row = po.confidence.sampling_error((sample, ONE), BETA, method=method, seed=i).frame.loc["CVaR 95%"]
        low[i], high[i] = row["lower"], row["upper"]
    return {
        "degrees_of_freedom": None if np.isinf(freedom) else freedom,
        "scenarios": scenarios,
        "method": method,
        "repeats": repeats,
        "covered": float(np.mean((low <= truth) & (truth <= high))),
        "interval_below_truth": float(np.mean(high < truth)),
        "interval_above_truth": float(np.mean(low > truth)),
    }


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coverage", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few repeats, and nothing is written")
    quick = parser.parse_args().quick
    asked = [(*case[:2], 20 if quick else case[2], method) for case in CASES for method in case[3]]
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        records = list(pool.map(cover, *zip(*asked, strict=True)))
    for record in records:
        print(json.dumps(record))
    if not quick:
        OUTPUT.write_text(
            json.dumps({"benchmark": "coverage", "machine": machine(), "records": records}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()

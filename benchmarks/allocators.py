"""Classic allocators beside those of other libraries: the same answer first, then how long it takes.

``python -m benchmarks.allocators`` takes some minutes and writes ``results/allocators.json``. Every peer is handed what
its own interface takes, returns where it estimates the covariance itself; an answer counts with the accuracy that is
recomputed from its weights.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import portfolioopt as po

from .machine import machine
from .peers import version

Record = dict[str, Any]
OUTPUT = Path(__file__).resolve().parent / "results" / "allocators.json"
PEERS = ("skfolio", "Riskfolio-Lib", "pyportfolioopt", "cvxpy", "clarabel", "osqp", "scipy", "arch", "statsmodels")


def draw(n: int, factors: int, seed: int) -> tuple[pd.Series, po.estimate.FactorCovariance]:
    """Expected returns and a factor model per year."""
    g = np.random.default_rng(seed)
    assets, names = pd.Index([f"A{i}" for i in range(n)]), pd.Index([f"F{k}" for k in range(factors)])
    exposures = pd.DataFrame(0.3 * g.normal(size=(n, factors)), assets, names)
    exposures["F0"] = 1.0 + 0.3 * g.normal(size=n)
    covariance = pd.DataFrame(np.diag(0.03 * 0.8 ** np.arange(factors)), names, names)
    idiosyncratic = pd.Series(g.uniform(0.02, 0.15, n), assets)
    return (
        pd.Series(0.06 + 0.03 * g.normal(size=n), assets),
        po.estimate.FactorCovariance(exposures, covariance, idiosyncratic),
    )


def timed(call: Callable[[], Any]) -> tuple[Any, Record]:
    """The answer, the first call, and the median of five warm ones where they are short."""
    start = time.perf_counter()
    answer = call()
    first = time.perf_counter() - start
    runs = []
    for _ in range(5 if first < 20.0 else 0):
        start = time.perf_counter()
        answer = call()
        runs.append(time.perf_counter() - start)
    return answer, {"first_call_seconds": first, "seconds": float(np.median(runs)) if runs else first}


def attempt(records: list[Record], what: Record, call: Callable[[], Any], judge: Callable[[Any], Record]) -> None:
    """Add a record of what came of a call, an error included."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            answer, times = timed(call)
        found = {"status": "ok"} | times | judge(np.asarray(answer, dtype=np.float64))
    except ImportError as error:
        found = {"status": "not installed", "why": str(error)}
    except Exception as error:
        found = {"status": "failed", "why": f"{type(error).__name__}: {error}"[:200]}
    records.append(what | found)
    shown = " ".join(f"{k}={v:.3g}" if isinstance(v, float) else f"{k}={v}" for k, v in records[-1].items())
    print(shown, flush=True)


# -- risk parity -------------------------------------------------------------------------------------------------
def risk_parity(records: list[Record], n: int) -> None:
    """Equal contributions to volatility, from the same covariance of the same returns."""
    g = np.random.default_rng(n)
    _, model = draw(n, 10, n)
    root = np.linalg.cholesky(model.dense().to_numpy() / 252.0)
    returns = pd.DataFrame(g.normal(size=(2 * n + 60, n)) @ root.T, columns=model.assets)
    returns.index = pd.bdate_range("2015-01-01", periods=len(returns))
    covariance = returns.cov()
    sigma = covariance.to_numpy()

    def judge(w: np.ndarray) -> Record:
        w = w / w.sum()
        part = w * (sigma @ w)
        return {"worst_relative_contribution": float(np.abs(len(w) * part / part.sum() - 1.0).max())}

    what = {"what": "risk parity", "assets": n}
    attempt(records, what | {"peer": "portfolioopt"}, lambda: po.allocation.risk_parity(covariance).weights, judge)

    def skfolio() -> Any:
        from skfolio import RiskMeasure
        from skfolio.optimization import RiskBudgeting

        return RiskBudgeting(risk_measure=RiskMeasure.VARIANCE).fit(returns).weights_

    def riskfolio() -> Any:
        import riskfolio as rp  # pyright: ignore[reportMissingImports]

        portfolio = rp.Portfolio(returns=returns)
        portfolio.assets_stats(method_mu="hist", method_cov="hist")
        return portfolio.rp_optimization(model="Classic", rm="MV", b=None).to_numpy()[:, 0]

    def scipy_newton() -> Any:
        from scipy.optimize import minimize

        def value(y: np.ndarray) -> float:
            return 0.5 * float(y @ correlation @ y) - float(np.log(y).mean())

        s = np.sqrt(np.diag(sigma))
        correlation = sigma / np.outer(s, s)
        start = np.full(n, 1.0 / np.sqrt(correlation.sum()))
        found = minimize(
            value,
            start,
            jac=lambda y: correlation @ y - 1.0 / (n * y),
            bounds=[(1e-9, None)] * n,
            method="L-BFGS-B",
            options={"ftol": 1e-16, "gtol": 1e-12, "maxiter": 5000, "maxfun": 10000},
        )
        return found.x / s

    for name, call in {"skfolio": skfolio, "Riskfolio-Lib": riskfolio, "SciPy L-BFGS-B": scipy_newton}.items():
        attempt(records, what | {"peer": name}, call, judge)


# -- mean-variance -----------------------------------------------------------------------------------------------
def mean_variance(records: list[Record], n: int, factors: int) -> None:
    """Utility with a risk aversion of 5, fully invested, at most 5 % in an asset, on a factor model."""
    mean, model = draw(n, factors, n + 1)
    gamma, most = 5.0, 0.05
    loadings = model.exposures.to_numpy() @ model.root
    d, mu = model.idiosyncratic.to_numpy(), mean.to_numpy()

    def utility(w: np.ndarray) -> float:
        return float(mu @ w - 0.5 * gamma * (np.sum((loadings.T @ w) ** 2) + d @ w**2))

    what = {"what": "mean-variance", "assets": n, "factors": factors}
    limits = [po.Budget(1.0), po.Bounds(0.0, most)]
    best = po.allocation.mean_variance(mean, model, risk_aversion=gamma, constraints=limits)

    def judge(w: np.ndarray) -> Record:
        assert best.certificate is not None
        over = max(abs(float(w.sum()) - 1.0), float(-w.min()), float(w.max()) - most, 0.0)
        return {
            "relative_gap": (best.certificate.bound - utility(w)) / abs(best.certificate.bound),
            "largest_violation": over,
        }

    attempt(
        records,
        what | {"peer": "portfolioopt"},
        lambda: po.allocation.mean_variance(mean, model, risk_aversion=gamma, constraints=limits).weights,
        judge,
    )

    def by_cvxpy(solver: str, **options: Any) -> Callable[[], Any]:
        def call() -> Any:
            import cvxpy as cp

            w, f = cp.Variable(n), cp.Variable(factors)
            risk = cp.sum_squares(f) + cp.sum_squares(cp.multiply(np.sqrt(d), w))
            problem = cp.Problem(
                cp.Maximize(mu @ w - 0.5 * gamma * risk), [f == loadings.T @ w, cp.sum(w) == 1, w >= 0, w <= most]
            )
            problem.solve(solver=solver, **options)
            return w.value

        return call

    def pypfopt() -> Any:
        from pypfopt import EfficientFrontier

        found = EfficientFrontier(mean, model.dense(), weight_bounds=(0.0, most)).max_quadratic_utility(gamma)
        return pd.Series(found).reindex(model.assets)

    peers: dict[str, Callable[[], Any]] = {
        "cvxpy, factors, Clarabel": by_cvxpy("CLARABEL"),
        "cvxpy, factors, OSQP": by_cvxpy("OSQP", eps_abs=1e-7, eps_rel=1e-7, max_iter=100_000),
    }
    if n <= 1000:
        peers["PyPortfolioOpt (dense)"] = pypfopt
    for name, call in peers.items():
        attempt(records, what | {"peer": name}, call, judge)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.allocators", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes only, nothing is written")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    records: list[Record] = []
    for n in (50, 200) if arguments.quick else (50, 200, 1000):
        risk_parity(records, n)
    for n in (500,) if arguments.quick else (500, 1000, 5000):
        mean_variance(records, n, 20)
    about = machine()
    about["versions"] |= {package: version(package) for package in PEERS}
    if not arguments.quick:
        arguments.output.write_text(
            json.dumps({"benchmark": "allocators", "machine": about, "records": records}, indent=1) + "\n"
        )
    for record in records:
        if record["peer"] == "portfolioopt" or record["status"] != "ok":
            continue
        same = ("what", "assets")
        ours = next(r for r in records if r["peer"] == "portfolioopt" and all(r[k] == record[k] for k in same))
        ratio = record["seconds"] / ours["seconds"]
        print(f"{record['what']}, {record['assets']} assets: {record['peer']} takes {ratio:.1f} times as long")


if __name__ == "__main__":
    main()

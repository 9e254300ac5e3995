"""Derivatives of optimal weights: accuracy against central differences, and time beside solves and beside DIFFCP.

``python -m benchmarks.gradients`` takes some minutes and writes ``results/gradients.json``. The smooth problem is that
of `portfolioopt.gradient`. It is posed to cvxpylayers as it stands (second-order cones for the rounded losses,
exponential cones for the barriers), so both differentiate the same thing, and central differences are the judge.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

import portfolioopt as po
from portfolioopt.blas import quiet_blas
from portfolioopt.gradient import SolutionMap, solution_map
from portfolioopt_kernels import scaling

from .instances import Instance, make
from .machine import machine
from .peers.ours import problem as pose

Record = dict[str, Any]
OUTPUT = Path(__file__).resolve().parent / "results" / "gradients.json"
BATCH = 256
SMOOTHING = 1e-2


@contextmanager
def _ready() -> Iterator[None]:
    with jax.enable_x64(True), quiet_blas.hold():
        yield


def _timed(call: Callable[[], Any], repeats: int = 5) -> tuple[Any, float, float]:
    """(answer, first call, least of the warm calls)."""
    start = time.perf_counter()
    answer = jax.block_until_ready(call())
    first = time.perf_counter() - start
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        answer = jax.block_until_ready(call())
        taken.append(time.perf_counter() - start)
    return answer, first, min(taken)


def accuracy(problem: str, scenarios: int, assets: int, smoothing: float) -> Record:
    """Largest relative difference from central differences of fourth order, by input, over three directions."""
    instance = make(problem, "factor_t", scenarios, assets)
    names = ["mean", "probabilities", "Bounds.upper", "Budget.total"]
    names += {"P1": ["CVaR.weight"], "P2": ["holdings", "Turnover.limit"], "P3": [], "P4": ["CVaRLimit(0.95).limit"]}[
        problem
    ]
    found: dict[str, float] = {}
    rng = np.random.default_rng(0)
    with _ready():
        for group in ([*names], ["returns"]):
            weights = solution_map(pose(instance), group, smoothing=smoothing)
            look = rng.normal(size=assets)
            number = jax.jit(lambda values, look=look, weights=weights: look @ weights(values))
            gradient = jax.jit(jax.grad(lambda values, look=look, weights=weights: look @ weights(values)))(
                weights.base
            )
            for name in group:
                worst = 0.0
                base, slope = weights.base[name], np.asarray(gradient[name])
                for _ in range(3):
                    direction = rng.normal(size=base.shape)
                    exact = float(np.sum(slope * direction))
                    scale = float(np.linalg.norm(slope) * np.linalg.norm(direction))
                    off = [
                        abs(_central(number, weights, name, direction, h) - exact) / scale for h in (1e-3, 1e-4, 1e-5)
                    ]
                    worst = max(worst, min(off))
                found[name] = worst
    return {
        "what": "accuracy",
        "problem": problem,
        "scenarios": scenarios,
        "assets": assets,
        "smoothing": smoothing,
        "relative_differences": found,
    }


def _central(number: Callable[..., Any], weights: SolutionMap, name: str, direction: Any, size: float) -> float:
    base = weights.base[name]
    step = size * max(float(np.abs(base).max()), 1e-3) / float(np.abs(direction).max())

    def at(k: float) -> float:
        return float(number({name: base + k * step * direction}))

    return (8.0 * (at(1.0) - at(-1.0)) - (at(2.0) - at(-2.0))) / (12.0 * step)


def batch(scenarios: int, assets: int, smoothing: float, spread: float) -> Record:
    """Time of many gradients beside that of as many solves, of the same kernel and certified ones by `sweep`."""
    instance = make("P1", "factor_t", scenarios, assets)
    problem = pose(instance)
    rng = np.random.default_rng(0)
    means = instance.mean * (1.0 + spread * rng.normal(size=(BATCH, assets)))
    aversions = instance.aversion * np.exp(spread * rng.normal(size=BATCH))
    look = rng.normal(size=assets)
    with _ready():
        weights = solution_map(problem, ["mean", "CVaR.weight"], smoothing=smoothing)

        def solve(mean: Any, aversion: Any) -> Any:
            return weights({"mean": mean, "CVaR.weight": aversion})

        gradient = jax.grad(lambda *at: jnp.asarray(look) @ solve(*at), argnums=(0, 1))
        figures: Record = {}
        for how, lift in (("vmap", jax.vmap), ("map", lambda f: lambda *at: jax.lax.map(lambda one: f(*one), at))):
            for what, function in (("solves", solve), ("gradients", gradient)):
                ready = jax.jit(lift(function))
                answer, first, warm = _timed(lambda ready=ready: ready(means, aversions))
                assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(answer))
                figures |= {f"{how}_{what}_seconds": warm, f"{how}_{what}_first_call_seconds": first}
    assets_ = problem.scenarios.assets
    over = {
        "ExpectedReturn.mean": {i: pd.Series(mean, assets_) for i, mean in enumerate(means)},
        "CVaR.weight": aversions.tolist(),
    }
    for what in ("first_call_seconds", "seconds"):
        start = time.perf_counter()
        po.sweep(problem, over, how="zip")
        figures[f"certified_sweep_{what}"] = time.perf_counter() - start
    return {
        "what": "batch",
        "count": BATCH,
        "scenarios": scenarios,
        "assets": assets,
        "smoothing": smoothing,
        "spread": spread,
    } | figures


def layers(scenarios: int, assets: int, smoothing: float, solver: str) -> Record:
    """One gradient through cvxpylayers (DIFFCP) and through this library; central differences of ours judge both."""
    import cvxpy as cp
    from cvxpylayers.jax import CvxpyLayer

    instance: Instance = make("P1", "factor_t", scenarios, assets)
    rng = np.random.default_rng(0)
    look = rng.normal(size=assets)
    problem = pose(instance)
    sizes = scaling.measure(problem.compiled.program)
    size, unit = float(sizes.returns), float(sizes.objective)
    returns = instance.returns / size
    mean, aversion = cp.Parameter(assets), cp.Parameter(nonneg=True)
    w, t, u = cp.Variable(assets), cp.Variable(), cp.Variable(scenarios)
    excess = -returns @ w - t
    barrier = cp.sum(cp.log(w)) + cp.sum(cp.log(instance.cap - w))
    risk = t + cp.sum(u) / (scenarios * (1.0 - instance.beta))
    rounded = cp.norm(cp.vstack([excess, np.full(scenarios, 2.0 * smoothing)]), axis=0) <= 2.0 * u - excess
    posed = cp.Problem(
        cp.Minimize(-mean @ w + aversion * risk - smoothing / assets * barrier), [cp.sum(w) == 1, rounded]
    )
    layer = CvxpyLayer(posed, [mean, aversion], [w])
    arguments: dict[str, Any] = {"solve_method": solver}
    if solver == "SCS":
        arguments |= {"eps": 1e-9, "max_iters": 200_000}
    record: Record = {"what": "layers", "scenarios": scenarios, "assets": assets, "smoothing": smoothing}
    record |= {"solver": solver}
    with _ready():
        at = (jnp.asarray(instance.mean / unit), jnp.asarray(instance.aversion * size / unit))

        def theirs(*parameters: Any) -> Any:
            return jnp.asarray(look) @ layer(*parameters, solver_args=arguments)[0]

        weights = solution_map(problem, ["mean", "CVaR.weight"], smoothing=smoothing)

        def ours(m: Any, a: Any) -> Any:
            return jnp.asarray(look) @ weights({"mean": m * unit, "CVaR.weight": a * unit / size})

        answer, _, solved = _timed(lambda: layer(*at, solver_args=arguments)[0], 1)
        slope, _, differentiated = _timed(lambda: jax.grad(theirs, argnums=(0, 1))(at[0], at[1]), 1)
        number = jax.jit(ours)
        _, _, our_solve = _timed(lambda: number(*at))
        differentiate = jax.jit(jax.grad(ours, argnums=(0, 1)))
        own, our_first, our_gradient = _timed(lambda: differentiate(*at))
        step = 1e-4 * float(at[1])
        judge = [
            (number(at[0], at[1] + k * step) - number(at[0], at[1] - k * step)) / (2 * k * step) for k in (1.0, 2.0)
        ]
        exact = float((4.0 * judge[0] - judge[1]) / 3.0)
        direction = jnp.asarray(rng.normal(size=assets))
        step = 1e-4
        judge = [
            (number(at[0] + k * step * direction, at[1]) - number(at[0] - k * step * direction, at[1])) / (2 * k * step)
            for k in (1.0, 2.0)
        ]
        along = float((4.0 * judge[0] - judge[1]) / 3.0)
    return record | {
        "weights_differ_by": float(np.abs(np.asarray(answer) - weights.weights.to_numpy()).max()),
        "layer_solve_seconds": solved,
        "layer_gradient_seconds": differentiated,
        "solve_seconds": our_solve,
        "gradient_seconds": our_gradient,
        "gradient_first_call_seconds": our_first,
        "layer_error_in_aversion": abs(float(slope[1]) / exact - 1.0),
        "error_in_aversion": abs(float(own[1]) / exact - 1.0),
        "layer_error_in_mean": abs(float(slope[0] @ direction) / along - 1.0),
        "error_in_mean": abs(float(own[0] @ direction) / along - 1.0),
    }


def main() -> None:
    """Run all, printing and writing each record as it comes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gradients", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, and nothing is written")
    quick = parser.parse_args().quick
    # this library does without, but the callback of cvxpylayers does not see a context of this thread
    jax.config.update("jax_enable_x64", True)
    size = (200, 10) if quick else (1_000, 50)
    settings = ((1e-2, 0.05),) if quick else ((1e-2, 0.05), (1e-2, 0.2), (1e-3, 0.05))
    runs: list[Callable[[], Record]] = [partial(batch, *size, s, d) for s, d in settings]
    for small in [(200, 10)] if quick else [(200, 10), size]:
        runs += [partial(layers, *small, SMOOTHING, solver) for solver in ("SCS", "Clarabel")]
    runs += [partial(accuracy, problem, *size, 1e-2) for problem in ("P1", "P2", "P3", "P4")]
    runs += [] if quick else [partial(accuracy, "P1", *size, 1e-3)]
    records = []
    payload = {"benchmark": "gradients", "machine": machine(), "records": records}
    for run in runs:
        records.append(run())
        print(json.dumps(records[-1]), flush=True)
        if not quick:
            OUTPUT.write_text(json.dumps(payload, indent=1) + "\n")


if __name__ == "__main__":
    main()

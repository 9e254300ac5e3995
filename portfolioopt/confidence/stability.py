r"""How much of the weights is the scenarios' doing: the problem solved again on resampled scenarios.

A resample changes probabilities on the same returns: :math:`p^*_s \propto p_s c_s` with c multinomial counts (Efron,
1979), independent exponential variables (the Bayesian bootstrap, Rubin, 1981), or ones for a random part of the
scenarios. For scenarios that follow each other in time the counts are those of circular blocks (Politis & Romano,
1992). The mean of the resampled weights is the portfolio of Michaud & Michaud (1998): less extreme than any one of
them, and within all limits that are convex in the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from portfolioopt.errors import InputError, StalledError
from portfolioopt.labels import checked_number
from portfolioopt.problem import Problem
from portfolioopt.scenarios import ScenarioSet
from portfolioopt.scenarios.scenario_set import whole_number
from portfolioopt.solve import Result, optimize, sweep
from portfolioopt.solve.sweep import progress_bar

from .linear import moves, objective_value
from .subject import check_scenarios, refuse_moments
from .words import basis_points

FloatArray: TypeAlias = npt.NDArray[np.float64]
Method: TypeAlias = Literal["bootstrap", "bayesian", "subsample"]

_NUMBERS = 1 << 25  # probabilities made at once: 256 MiB
_HELD = 1e-6  # weight from which a position counts as held


@dataclass(frozen=True, eq=False)
class WeightStability:
    """Optimal weights on many resamples of the scenarios; prints a summary."""

    weights: pd.DataFrame
    """By repeat and asset, fractions of NAV; NaN where a repeat has no portfolio."""
    points: pd.DataFrame
    """By repeat: `status`, `objective`, `expected_return` and `cvar[...]` as its own resample has them, and
    `shortfall`: what its weights fall short of the original ones in the original problem's objective."""
    original: pd.Series
    """Optimal weights on the scenarios as they are."""
    notes: tuple[str, ...]

    @property
    def average(self) -> pd.Series:
        """The mean of all resampled weights: the resampled-efficient portfolio (Michaud)."""
        return self.weights.mean().rename("weight")

    @property
    def summary(self) -> pd.DataFrame:
        """By asset: `original`, `mean`, `std`, `q05`, `q95`, and `held`: in which share of repeats it is held."""
        found = self.weights.dropna(how="all")
        low, high = found.quantile(0.05), found.quantile(0.95)
        held = (found.abs() > _HELD).mean()
        columns = {"original": self.original, "mean": found.mean(), "std": found.std(), "q05": low, "q95": high}
        return pd.DataFrame(columns | {"held": held})

    @property
    def turnover(self) -> float:
        """Mean full L1 distance between the weights of two repeats: what re-drawing the scenarios trades."""
        found = np.sort(self.weights.dropna(how="all").to_numpy(dtype=np.float64), axis=0)
        count = len(found)
        if count < 2:
            return np.nan
        rank = 2.0 * np.arange(1, count + 1) - count - 1.0
        return float((rank @ found).sum() * 2.0 / (count * (count - 1.0)))

    @property
    def distance(self) -> float:
        """Mean full L1 distance between the weights of a repeat and the original ones."""
        found = self.weights.dropna(how="all")
        return float((found - self.original).abs().sum(axis=1).mean())

    @property
    def spread(self) -> pd.DataFrame:
        """Mean, standard deviation, 5 % and 95 % quantile of objective, expected return, CVaR and shortfall."""
        numbers = self.points.drop(columns="status")
        columns = {"mean": numbers.mean(), "std": numbers.std()}
        return pd.DataFrame(columns | {"q05": numbers.quantile(0.05), "q95": numbers.quantile(0.95)})

    @property
    def title(self) -> str:
        """The outcome in words."""
        good = int((self.points["status"] == "optimal").sum())
        return (
            f"{good} of {len(self.points)} resamples solved; two of them differ by a turnover of {self.turnover:.1%}, "
            f"from the original by {self.distance:.1%}, and fall short of its objective by "
            f"{basis_points(float(self.points['shortfall'].mean()))} on average"
        )

    def __repr__(self) -> str:
        table = self.summary.sort_values("mean", ascending=False, kind="stable").head(15)
        shown = table.to_string(float_format="{:.2%}".format)
        return "\n".join([f"WeightStability: {self.title}", shown, *self.notes])

    def _repr_html_(self) -> str:
        import html

        table = self.summary.sort_values("mean", ascending=False, kind="stable")
        shown = table.to_html(float_format="{:.2%}".format, max_rows=20)
        lines = "".join(f"<p>{html.escape(note)}</p>" for note in self.notes)
        return f"<p><b>{html.escape(self.title)}</b></p>{shown}{lines}"


def weight_stability(
    problem: Problem | Result,
    *,
    repeats: int = 100,
    method: Method | Callable[[int], ScenarioSet] = "bootstrap",
    seed: int = 0,
    block_length: int = 1,
    share: float = 0.5,
    tolerance: float = 1e-6,
    progress: bool = False,
) -> WeightStability:
    """Solve a problem on many resamples of its scenarios, and see what stays of the weights.

    Resamples share the matrix of returns and differ in probabilities; each begins at the vertex of the one before.
    Terms and limits on scenario sets of their own stay as they are.

    Parameters
    ----------
    problem
        The problem, or a result of it.
    repeats
        How many resamples, at least 2.
    method
        ``"bootstrap"`` (multinomial counts), ``"bayesian"`` (exponential ones: no scenario is lost), ``"subsample"``
        (a random part, without replacement); or a function from a seed to a new scenario set over the same assets, for
        scenarios that are drawn.
    seed
        The same seed gives the same resamples.
    block_length
        Consecutive scenarios that the bootstrap draws together.
    share
        Part of the scenarios in a subsample, between 0 and 1. With half of them weights spread as they would between
        samples of half the size, on average.
    tolerance, progress
        As in :func:`sweep`.

    Raises
    ------
    InputError
        For arguments out of range, sets known by moments alone, and functions that make sets over other assets.
    SolveError
        Where the problem itself has no optimum. Resamples without one raise nothing: their status says so.
    StalledError
        Where no resample has an optimum.
    """
    what = "weight_stability"
    if not isinstance(problem, Problem | Result):
        raise InputError(f"{what} takes a Problem or a Result, was given {type(problem).__name__}")
    count, start = whole_number(repeats, "repeats", least=2), whole_number(seed, "seed", least=0)
    block = whole_number(block_length, "block_length", least=1)
    base = problem if isinstance(problem, Problem) else problem.problem
    refuse_moments(base.scenarios, what)
    result = optimize(base, tolerance=tolerance) if isinstance(problem, Problem) else problem
    if result.weights is None:
        raise InputError(f"{what}: there is no portfolio to resample: {result.message}")
    if callable(method):
        frame = _drawn(base, result, method, count, start, tolerance, progress)
    else:
        if method not in ("bootstrap", "bayesian", "subsample"):
            raise InputError(
                f"{what}: method must be 'bootstrap', 'bayesian', 'subsample' or a function from a seed to a "
                f"ScenarioSet, was {method!r}"
            )
        if block > 1 and method != "bootstrap":
            raise InputError(f"{what}: block_length is for the bootstrap, not for {method!r}")
        if block > base.scenarios.n_scenarios:
            raise InputError(f"{what}: block_length is {block} for {base.scenarios.n_scenarios} scenarios")
        part = checked_number(share, f"{what}: share", above=0.0, below=1.0)
        resamples = _resamples(base.scenarios.probabilities, count, method, start, block, part)
        parts = [
            sweep(base, {"probabilities": some}, tolerance=tolerance, progress=progress).frame for some in resamples
        ]
        frame = pd.concat(parts, ignore_index=True)
    assets = base.scenarios.assets
    weights = frame[[f"weight[{asset}]" for asset in assets]].set_axis(assets, axis=1).rename_axis(index="repeat")
    if frame["status"].ne("optimal").all():
        raise StalledError(f"{what}: no resample has an optimum; the first one says: {frame['message'].iloc[0]}")
    weights[frame["status"].ne("optimal").to_numpy()] = np.nan
    kept = ["status", "objective", "expected_return", *(name for name in frame.columns if name.startswith("cvar["))]
    points = frame[kept].rename_axis("repeat")
    best = objective_value(base, base.compiled.view(result.weights.to_numpy(dtype=np.float64)))
    points["shortfall"] = [
        best - objective_value(base, base.compiled.view(row)) if np.isfinite(row).all() else np.nan
        for row in weights.to_numpy(dtype=np.float64)
    ]
    notes = []
    moving = [c.name for c in base.constraints if moves(c)]
    if moving:
        notes.append(f"{', '.join(moving)} move with the resamples, whose weights need not meet them as they are")
    return WeightStability(weights, points, result.weights, tuple(notes))


def _resamples(
    p: FloatArray, count: int, method: Method, seed: int, block: int, share: float
) -> Iterator[dict[int, FloatArray]]:
    """Probabilities of the resamples by number, some at a time."""
    size, chunk = len(p), max(1, _NUMBERS // len(p))
    for first in range(0, count, chunk):
        yield {
            i: _resampled(p, method, np.random.default_rng([seed, i]), size, block, share)
            for i in range(first, min(first + chunk, count))
        }


def _resampled(
    p: FloatArray, method: Method, generator: np.random.Generator, size: int, block: int, share: float
) -> FloatArray:
    """Probabilities of one resample (S,)."""
    while True:  # a draw that leaves fewer than two possible scenarios is no distribution, and is drawn again
        if method == "bootstrap":
            starts = generator.integers(size, size=-(-size // block))
            drawn = ((starts[:, None] + np.arange(block)) % size).ravel()[:size]
            mass = p * np.bincount(drawn, minlength=size)
        elif method == "bayesian":
            mass = p * generator.standard_exponential(size)
        else:
            kept = generator.choice(size, size=max(2, round(share * size)), replace=False)
            mass = np.zeros(size)
            mass[kept] = p[kept]
        if np.count_nonzero(mass) >= 2:
            return mass / mass.sum()


def _drawn(
    problem: Problem,
    result: Result,
    draw: Callable[[int], ScenarioSet],
    count: int,
    seed: int,
    tolerance: float,
    progress: bool,
) -> pd.DataFrame:
    """The problem on sets that a function draws, as a sweep has it, each set forgotten before the next."""
    seeds = np.random.SeedSequence(seed).generate_state(count)
    rows, before = [], result
    with progress_bar(count, progress) as step:
        for number in seeds.tolist():
            scenarios = check_scenarios(draw(number), problem.scenarios.assets, f"weight_stability: method({number})")
            found = optimize(
                problem.replace(scenarios=scenarios), warm_start=before, tolerance=tolerance, raise_on_failure=False
            )
            row: dict[str, object] = {"status": found.status.name, "objective": found.objective}
            row |= {"expected_return": np.nan, "message": found.message}
            if found.weights is not None:
                before = found
                row["expected_return"] = found.expected_return
                row |= {f"cvar[{beta:g}]": found.risk["cvar"][beta] for beta in found.problem.compiled.betas}
            assets = problem.scenarios.assets
            values = np.full(len(assets), np.nan) if found.weights is None else found.weights.to_numpy()
            rows.append(row | dict(zip([f"weight[{asset}]" for asset in assets], values, strict=True)))
            step()
    return pd.DataFrame(rows)

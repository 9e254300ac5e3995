"""Named numbers of a problem as arguments of a JAX function that makes the program.

Every input is a rule that writes itself into the arrays of the compiled program. Whatever no rule touches stays as it
was compiled, so problems may have parts that nothing here knows; those that depend on an input without saying so are
refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import pandas as pd
from jax import Array

from portfolioopt.errors import InputError, unknown_names
from portfolioopt.labels import align, per_asset
from portfolioopt.problem import (
    Bounds,
    Budget,
    CVaR,
    CVaRLimit,
    ExpectedReturn,
    GroupLimit,
    Problem,
    ProportionalCost,
    ReturnTarget,
    TradeLimit,
    Turnover,
)
from portfolioopt.problem.constraints import FactorExposure, LinearLimit, MustHold
from portfolioopt.solve import axes
from portfolioopt_kernels import HingeProgram, exchange

FloatArray: TypeAlias = npt.NDArray[np.float64]
Values: TypeAlias = Mapping[str, Any]
Rule: TypeAlias = Callable[[dict[str, Any], Values], None]  # edits the fields of a program in place

_STEP = 0.01  # relative change of a number with which the slope of the program in it is found; the program is affine
_SAME = 1e-11  # the rules must give back the compiled program to this


@dataclass(frozen=True)
class Inputs:
    """The inputs of a problem that were asked for."""

    base: dict[str, FloatArray]
    """Their values in the problem."""
    labels: dict[str, pd.Index | None]
    """What their entries stand for; None for a number and for the returns."""
    rules: tuple[Rule, ...]
    compiled: HingeProgram

    def program(self, values: Values) -> HingeProgram:
        """The program at the given values; the others are those of the problem."""
        arrays = dict(vars(self.compiled))
        full = {**self.base, **values}
        for rule in self.rules:
            rule(arrays, full)
        return exchange(self.compiled, **arrays)


def read(problem: Problem, names: Sequence[str]) -> Inputs:
    """Find the rules for the named inputs.

    Raises
    ------
    InputError
        For names that do not exist or cannot be differentiated, and for problems with parts that depend on an input in
        a way that is not known here.
    """
    if isinstance(names, str) or not names:
        raise InputError(f"wrt must be a list of names such as ['mean', 'CVaR.weight'], was {names!r}")
    if len(set(names)) < len(names):
        raise InputError(f"wrt names {next(n for n in names if list(names).count(n) > 1)!r} twice")
    reader = _Reader(problem, tuple(names))
    inputs = reader.read()
    again = inputs.program({})
    for field, value in vars(inputs.compiled).items():
        if not np.allclose(np.asarray(getattr(again, field)), value, rtol=_SAME, atol=_SAME, equal_nan=True):
            raise InputError(
                f"the problem depends on {', '.join(map(repr, names))} in a way that gradients do not know ({field} "
                "differs); leave some of them out"
            )
    return inputs


class _Reader:
    def __init__(self, problem: Problem, names: tuple[str, ...]) -> None:
        compiled = problem.compiled
        self.problem = problem
        self.names = names
        self.compiled = compiled
        self.n = compiled.n_assets
        self.assets = problem.scenarios.assets
        self.base: dict[str, FloatArray] = {}
        self.labels: dict[str, pd.Index | None] = {}
        self.rules: list[Rule] = []

    def read(self) -> Inputs:
        self.check_problem()
        moves = [name for name in self.names if name in ("returns", "probabilities")]
        if moves:
            self.check_parts(moves, self.depends_on_scenarios)
            self.scenario_inputs()
        if "holdings" in self.names:
            self.check_parts(["holdings"], self.depends_on_holdings)
            assert self.compiled.holdings is not None
            self.add("holdings", self.compiled.holdings, self.assets)
            self.rules.append(self.holdings_rule())
        self.reward_inputs(bool(moves))
        for name in self.names:
            if name not in self.base:
                self.named(name)
        moving = [c for c in self.problem.constraints if self.bounds_move(c)]
        if moving:
            self.rules.append(self.bounds_rule(moving))
        p = self.compiled.program
        compiled = exchange(p, **{k: np.asarray(v, dtype=np.float64) for k, v in vars(p).items()})
        return Inputs(self.base, self.labels, tuple(self.rules), compiled)

    def add(self, name: str, value: Any, labels: pd.Index | None = None) -> None:
        self.base[name] = np.array(value, dtype=np.float64)
        self.labels[name] = labels

    # -- what can be differentiated at all -----------------------------------------------------------------------
    def check_problem(self) -> None:
        if self.compiled.source.matrix is None:
            raise InputError("gradients need the scenarios in memory, and these are streamed; use a smaller set")
        if self.compiled.curves:
            raise InputError(
                f"{self.compiled.curves[0].measure!r} is not piecewise linear, and gradients through such measures are "
                "not in yet; leave it out"
            )
        if self.compiled.integer:
            raise InputError(
                f"{self.compiled.integer[0].name} counts assets or lots, so the weights jump; leave it out"
            )
        if type(self.problem.objective).__name__ == "Ratio":
            raise InputError("the objective is a ratio; give gradients the risk aversion at its optimum instead")

    def check_parts(self, names: list[str], depends: Callable[[object], bool]) -> None:
        parts = [(repr(term), term) for _, term in self.problem.objective.parts]
        parts += [(c.name, c) for c in self.problem.constraints]
        for label, part in parts:
            if depends(part):
                raise InputError(f"{label} depends on {names[0]} in a way that gradients do not know; leave one out")

    def depends_on_scenarios(self, part: object) -> bool:
        """Whether it is not known how."""
        if isinstance(part, CVaR):
            own = part.scenarios is None and part.benchmark is None
            return not (own and self.compiled.own_rows)
        known = (ExpectedReturn, ProportionalCost, Budget, Bounds, GroupLimit, Turnover, TradeLimit, ReturnTarget)
        return not isinstance(part, (*known, CVaRLimit, LinearLimit, FactorExposure, MustHold))

    def depends_on_holdings(self, part: object) -> bool:
        """Whether it is not known how."""
        if isinstance(part, ProportionalCost):
            return part.sell is not None
        if isinstance(part, Turnover):
            return part.side != "both" or part.limit == 0.0
        known = (ExpectedReturn, CVaR, Budget, Bounds, GroupLimit, TradeLimit, ReturnTarget, CVaRLimit)
        return not isinstance(part, (*known, LinearLimit, FactorExposure, MustHold))

    # -- scenarios -----------------------------------------------------------------------------------------------
    def scenario_inputs(self) -> None:
        scenarios = self.problem.scenarios
        if "returns" in self.names:
            self.add("returns", scenarios.source.matrix)
            n = self.n

            def returns(arrays: dict[str, Any], values: Values) -> None:
                arrays["returns"] = _put(arrays["returns"], (slice(None), slice(n)), values["returns"])

            self.rules.append(returns)
        if "probabilities" in self.names:
            self.add("probabilities", scenarios.probabilities, scenarios.index)
            levels = np.zeros(len(self.compiled.program.cvar_level))
            for beta, block in self.compiled.levels.items():
                levels[block] = 1.0 / (1.0 - beta)

            def density(arrays: dict[str, Any], values: Values) -> None:
                p = _normalised(values["probabilities"])
                arrays["cvar_density"] = levels[:, None] * p[None, :]

            self.rules.append(density)

    def reward_inputs(self, scenarios_move: bool) -> None:
        """Expected returns, their weights, and the rows of return targets: one rule, for they multiply each other."""
        problem, compiled, n = self.problem, self.compiled, self.n
        terms = [(i, c, t) for i, (c, t) in enumerate(problem.objective.parts) if isinstance(t, ExpectedReturn)]
        targets = [c for c in problem.constraints if isinstance(c, ReturnTarget)]
        named: dict[int, tuple[str, ...]] = {}  # inputs that set the mean of a term, or of a target by its name
        weights: dict[int, str] = {}
        if "mean" in self.names:
            if not terms and not targets:
                raise InputError("mean: no part of the problem looks at expected returns")
            first = terms[0][2].mean if terms else targets[0].mean
            self.add("mean", self.mean(first, "mean"), self.assets)
        for name in self.names:
            target, _, field = name.rpartition(".")
            for i, _, term in terms:
                if target in (type(term).__name__, repr(term)) and field in ("mean", "weight"):
                    if len([t for _, _, t in terms if target in (type(t).__name__, repr(t))]) > 1:
                        raise InputError(f"{name}: the objective has several such terms; add them up first")
                    if field == "mean":
                        self.add(name, self.mean(term.mean, name), self.assets)
                        named[i] = (name,)
                    else:
                        self.add(name, problem.objective.parts[i][0])
                        weights[i] = name
        for c in targets:
            if f"{c.name}.mean" in self.names:
                self.add(f"{c.name}.mean", self.mean(c.mean, f"{c.name}.mean"), self.assets)
        base_mean = compiled.mean
        matrix = np.asarray(problem.scenarios.source.matrix, dtype=np.float64)
        probabilities = problem.scenarios.probabilities
        rows = {
            c.name: int(g.index[0])
            for c in targets
            for g in compiled.lines
            if g.constraint == c.name and g.kind == "row"
        }

        def mean_of(own: str | None, given: object, values: Values) -> Any:
            if own is not None:
                return values[own]
            if "mean" in self.base:
                return values["mean"]
            if given is not None:
                return self.mean(given, "mean")
            if not scenarios_move:
                return base_mean
            returns = values.get("returns", matrix)
            p = values.get("probabilities")
            return (probabilities if p is None else _normalised(p)) @ returns

        def rewards(arrays: dict[str, Any], values: Values) -> None:
            linear = jnp.asarray(arrays["linear"])
            for i, coefficient, term in terms:
                before = coefficient * (base_mean if term.mean is None else self.mean(term.mean, "mean"))
                weight = values[weights[i]] if i in weights else coefficient
                after = weight * mean_of(named.get(i, (None,))[0], term.mean, values)
                linear = _put(linear, slice(n), linear[:n] + before - after)
            arrays["linear"] = linear
            for c in targets:
                own = f"{c.name}.mean" if f"{c.name}.mean" in self.base else None
                arrays["rows"] = _put(arrays["rows"], (rows[c.name], slice(n)), mean_of(own, c.mean, values))

        if scenarios_move or weights or any(name.rpartition(".")[2] == "mean" for name in self.base):
            self.rules.append(rewards)

    def mean(self, given: Any, what: str) -> FloatArray:
        return self.compiled.mean if given is None else align(given, self.assets, what=what)

    def holdings_rule(self) -> Rule:
        users = (ProportionalCost, Turnover)
        parts = [t for _, t in self.problem.objective.parts] + list(self.problem.constraints)
        moved = len(self.compiled.program.l1_rate) if any(isinstance(part, users) for part in parts) else 0
        n = self.n

        def holdings(arrays: dict[str, Any], values: Values) -> None:
            if moved:
                arrays["l1_reference"] = _put(arrays["l1_reference"], (slice(None), slice(n)), values["holdings"])

        return holdings

    # -- bounds --------------------------------------------------------------------------------------------------
    def bounds_move(self, c: object) -> bool:
        if isinstance(c, TradeLimit):
            return "holdings" in self.base or f"{c.name}.limit" in self.base
        return isinstance(c, Bounds) and bool({f"{c.name}.lower", f"{c.name}.upper"} & self.base.keys())

    def bounds_rule(self, moving: list[Any]) -> Rule:
        rest = self.problem.replace(constraints=[c for c in self.problem.constraints if c not in moving])
        others = rest.compiled.program
        n, assets, held = self.n, self.assets, self.compiled.holdings

        def sides(c: Any, values: Values) -> tuple[Any, Any]:
            if isinstance(c, Bounds):
                own = (
                    per_asset(c.lower, assets, what="lower", infinite=True),
                    per_asset(c.upper, assets, what="upper", infinite=True),
                )
                return values.get(f"{c.name}.lower", own[0]), values.get(f"{c.name}.upper", own[1])
            limit = values.get(f"{c.name}.limit", per_asset(c.limit, assets, what="limit", infinite=True))
            centre = values.get("holdings", held)
            return centre - limit, centre + limit

        def bounds(arrays: dict[str, Any], values: Values) -> None:
            lower, upper = jnp.asarray(others.lower[:n]), jnp.asarray(others.upper[:n])
            for c in moving:
                low, high = sides(c, values)
                lower, upper = jnp.maximum(lower, low), jnp.minimum(upper, high)
            arrays["lower"] = _put(arrays["lower"], slice(n), lower)
            arrays["upper"] = _put(arrays["upper"], slice(n), upper)

        return bounds

    # -- everything with a name of its own -----------------------------------------------------------------------
    def named(self, name: str) -> None:
        target, _, field = name.rpartition(".")
        for c in self.problem.constraints:
            if (
                c.name == target
                and isinstance(c, (Bounds, TradeLimit))
                and field in _fields(c) - {"name", "unit_check"}
            ):
                self.add(name, per_asset(getattr(c, field), self.assets, what=name, infinite=True), self.assets)
                return
            if c.name == target and isinstance(c, GroupLimit) and field in ("lower", "upper"):
                limits = dict(getattr(c, field) or {})
                if not limits:
                    raise InputError(f"{name}: there are no such limits")
                keys = list(limits)
                slopes = [self.slopes(name, limits, key) for key in keys]
                self.add(name, [limits[key] for key in keys], pd.Index(keys))
                self.rules.append(_affine(name, self.base[name], slopes))
                return
        parts = [
            (coefficient, term)
            for coefficient, term in self.problem.objective.parts
            if target in (type(term).__name__, repr(term))
        ]
        if len(parts) == 1 and isinstance(parts[0][1], ProportionalCost) and field == "bps":
            self.cost_input(name, parts[0][1])
            return
        if name in ("scenarios", "returns", "probabilities", "holdings", "mean") or field in ("mean",):
            raise InputError(f"{name} cannot be differentiated in this problem")
        value = self.number(name, parts, target, field)
        self.add(name, value)
        self.rules.append(_affine(name, self.base[name], [self.slopes(name, value, None)]))

    def number(self, name: str, parts: list[Any], target: str, field: str) -> float:
        """The value of a number that `sweep` could move as well."""
        if field == "weight" and len(parts) == 1:
            coefficient, term = parts[0]
            return -coefficient if term.penalty else coefficient
        owners = [c for c in self.problem.constraints if c.name == target] + [term for _, term in parts]
        found = [getattr(owner, field) for owner in owners if field in _fields(owner)]
        if len(found) != 1 or isinstance(found[0], bool) or not isinstance(found[0], (int, float)):
            raise self.unknown(name)
        if field == "beta":
            raise InputError(f"{name}: the level decides which scenarios count, and is not differentiated")
        return float(found[0])

    def slopes(self, name: str, value: Any, key: object) -> dict[str, FloatArray]:
        """The change of every field of the program per unit of a number it is affine in."""
        size = value if key is None else value[key]
        step = _STEP * (abs(size) if size else 1.0)
        before = self.compiled.program
        found = []
        for factor in (-1.0, -2.0) if size else (1.0, 2.0):
            moved = size + factor * step if key is None else {**value, key: size + factor * step}
            try:
                after = axes.changed(
                    self.problem, [(axes.axis(self.problem, name, {"moved": moved}), 0)]
                ).compiled.program
            except InputError as error:
                raise InputError(f"{name} cannot be differentiated at {size:g}: {error}") from error
            if after.shape != before.shape:
                raise InputError(f"{name} cannot be differentiated at {size:g}: the problem changes its form there")
            with np.errstate(invalid="ignore"):
                found.append(
                    {
                        field: np.nan_to_num(
                            (getattr(after, field) - old) / (factor * step), nan=0.0, posinf=0.0, neginf=0.0
                        )
                        for field, old in vars(before).items()
                        if field not in ("start", "returns")
                    }
                )
        first, second = found
        if any(not np.allclose(first[field], second[field], rtol=1e-6, atol=1e-9) for field in first):
            raise InputError(f"{name} cannot be differentiated: the problem does not depend on it in proportion")
        return {field: slope for field, slope in first.items() if np.abs(slope).max(initial=0.0) > 1e-9}

    def cost_input(self, name: str, term: ProportionalCost) -> None:
        if term.sell is not None:
            raise InputError(
                f"{name}: rates that differ for buying and selling are not differentiated; give one of them"
            )
        bps = per_asset(term.bps, self.assets, what=name)
        program, n = self.compiled.program, self.n
        rows = [
            a
            for a, rate in enumerate(program.l1_rate)
            if np.array_equal(rate[:n], bps / 1e4) and program.l1_weight[a] > 0
        ]
        if len(rows) != 1:
            raise InputError(f"{name} cannot be differentiated where it is zero or shared with another limit")
        self.add(name, bps, self.assets)

        def costs(arrays: dict[str, Any], values: Values) -> None:
            arrays["l1_rate"] = _put(arrays["l1_rate"], (rows[0], slice(n)), values[name] / 1e4)

        self.rules.append(costs)

    def unknown(self, name: str) -> InputError:
        known = ["returns", "probabilities", "mean", "holdings"]
        for _, term in self.problem.objective.parts:
            known.append(f"{type(term).__name__}.weight")
            known += ["ExpectedReturn.mean"] if isinstance(term, ExpectedReturn) else []
            known += ["ProportionalCost.bps"] if isinstance(term, ProportionalCost) else []
        for c in self.problem.constraints:
            numbers = _fields(c) - {"name", "unit_check", "labels", "benchmark", "beta", "gross", "side"}
            known += [f"{c.name}.{field}" for field in sorted(numbers)]
        return unknown_names("input", [name], known)


def _affine(name: str, base: FloatArray, slopes: list[dict[str, FloatArray]]) -> Rule:
    def move(arrays: dict[str, Any], values: Values) -> None:
        change: Array = jnp.atleast_1d(values[name] - base)
        for i, slope in enumerate(slopes):
            for field, direction in slope.items():
                arrays[field] = arrays[field] + change[i] * direction

    return move


def _fields(item: Any) -> set[str]:
    return {field.name for field in fields(item)}


def _put(array: Any, place: Any, value: Any) -> Array:
    """The array with part of it exchanged."""
    return jnp.asarray(array).at[place].set(value)  # noqa: PD008


def _normalised(probabilities: Any) -> Any:
    return probabilities / jnp.sum(probabilities)

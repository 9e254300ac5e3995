"""What comes back from a solve: arrays climb back to names here, and only here."""

from __future__ import annotations

import enum
import html
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.problem import Compiled, Lines, Problem, Ratio
from portfolioopt.problem.lowering import Canvas
from portfolioopt.problem.terms import Expression, View
from portfolioopt.scenarios import Tail, tail

from .basis import Basis
from .certificate import Certificate, Evaluation, Multipliers, line_sizes

BINDING = 1e-6  # relative slack below which a limit counts as binding
_DESK = 100.0  # price per unit of limit -> basis points of objective per percentage point of limit


class Status(enum.Enum):
    """How a solve ended; the value explains the name."""

    optimal = "The answer is proven: certified gap and all violations are within tolerance."
    infeasible = "No portfolio meets all constraints; the message names constraints that contradict each other."
    unbounded = "The objective grows for ever along a direction that no constraint limits."
    stalled = "The solver stopped short of the tolerance; the certificate says how far short."


@dataclass(frozen=True)
class Timings:
    """Wall time of one call in seconds; `compile` is paid once per problem shape and process."""

    compile: float
    solve: float
    certify: float
    total: float


class Result:
    """Outcome of one solve. Every number is recomputed in float64 from `weights`.

    Where the problem is infeasible or unbounded there are no weights: `weights` is None and so is `certificate`.
    """

    __slots__ = (
        "_evaluation",
        "basis",
        "certificate",
        "columns",
        "conflict",
        "details",
        "direction",
        "engine",
        "iterations",
        "message",
        "nearest",
        "passes",
        "problem",
        "ratio",
        "relaxations",
        "status",
        "timings",
        "weights",
    )

    def __init__(
        self,
        problem: Problem,
        status: Status,
        message: str,
        timings: Timings,
        *,
        columns: np.ndarray | None = None,
        evaluation: Evaluation | None = None,
        iterations: int = 0,
        passes: float = 0.0,
        basis: Basis | None = None,
        conflict: tuple[str, ...] = (),
        relaxations: pd.DataFrame | None = None,
        nearest: pd.Series | None = None,
        direction: pd.Series | None = None,
        engine: str = "",
        details: Mapping[str, Any] | None = None,
    ) -> None:
        self.problem = problem
        self.status = status
        self.message = message
        """One sentence on how the solve ended."""
        self.timings = timings
        self.columns = columns
        """The weights, and auxiliary variables of the solver after them, as an array."""
        self.weights: pd.Series | None = None
        """Optimal weights by asset, fractions of NAV."""
        if columns is not None:
            assets = problem.scenarios.assets
            self.weights = pd.Series(columns[: len(assets)], index=assets, name="weight")
        self.certificate: Certificate | None = None if evaluation is None else evaluation.certificate
        self.iterations = iterations
        """Steps taken: pivots, and Newton steps where the interior point was needed."""
        self.passes = passes
        """How often the solver read the whole scenario matrix."""
        self.basis = basis
        """The vertex, for a warm start; None where the interior point answered."""
        self.engine = engine
        """What found the weights and what proved the bound."""
        self.details: dict[str, Any] = dict(details or {})
        """What a method of `portfolioopt.allocation` found on its way, by name: frames, series and numbers."""
        self.ratio: Ratio | None = None
        """The ratio that was maximised, if it was one; the objective and the certificate are about it."""
        self.conflict = conflict
        """Names of constraints that contradict each other, where the problem is infeasible."""
        self.relaxations = relaxations
        """Where the problem is infeasible: for each constraint of the conflict, the least move of its limits with which
        the others hold. A row for each line that moves (index): constraint, sense, limit, needed, change, and whether
        that is enough or other limits clash as well."""
        self.nearest = nearest
        """Where the problem is infeasible: weights with the least total violation, each limit in its own unit."""
        self.direction = direction
        """Where the problem is unbounded: the change of weights that can go on for ever."""
        self._evaluation = evaluation

    # -- numbers -------------------------------------------------------------------------------------------------
    @property
    def objective(self) -> float:
        """Value of the maximised objective at the weights; NaN where there are none."""
        return np.nan if self.certificate is None else self.certificate.objective

    @property
    def terms(self) -> pd.DataFrame:
        """The objective taken apart: term, coefficient, value, and contribution = coefficient * value."""
        evaluation = self._require()
        compiled = self.problem.compiled
        frame = pd.DataFrame(
            {
                "term": [t.label for t in compiled.terms],
                "coefficient": [t.coefficient for t in compiled.terms],
                "value": evaluation.term_values,
            }
        )
        frame["contribution"] = frame["coefficient"] * frame["value"]
        return frame

    @property
    def risk(self) -> pd.DataFrame:
        """Value-at-risk and CVaR of the loss as fractions of NAV, by confidence level; 0.95 if the problem has none.

        Without rows where the problem knows mean and covariance alone: they say nothing about tails.
        """
        tails = self._require().tails
        scenarios = self.problem.scenarios
        if not tails and scenarios.form is None:
            losses = scenarios.source.losses(self._weights_array())
            tails = {0.95: tail(losses, scenarios.probabilities, 0.95)}
        return pd.DataFrame(
            {"var": [t.var for t in tails.values()], "cvar": [t.cvar for t in tails.values()]},
            index=pd.Index(list(tails), name="beta", dtype=float),
        )

    def value(self, measure: Expression) -> float:
        """Any measure, or sum of measures, at the weights: ``result.value(MaxDrawdown())``, in units of the measure."""
        if not isinstance(measure, Expression):
            raise InputError(f"value takes a measure such as CVaR(0.95), was given {measure!r}")
        compiled = self.problem.compiled
        view = compiled.view(self._weights_array())
        for _, term in measure.parts:
            if term.trades and compiled.holdings is None:
                raise InputError(f"{term!r} looks at trades, and the problem has no holdings; pass holdings= to it")
            term.shape(Canvas(compiled.scenarios, compiled.holdings))  # refuses labels and sizes that do not match
        return float(sum(coefficient * term.value(view) for coefficient, term in measure.parts))

    @property
    def expected_return(self) -> float:
        """Scenario mean of the portfolio return per horizon, before costs; NaN where the problem knows no mean."""
        if not self.problem.scenarios.mean_known:
            return np.nan
        losses = self.problem.scenarios.source.losses(self._weights_array())
        return -float(self.problem.scenarios.probabilities @ losses)

    @property
    def volatility(self) -> float:
        """Standard deviation of the portfolio return per horizon under the scenario probabilities."""
        scenarios = self.problem.scenarios
        if scenarios.form is not None:
            return float(np.sqrt(max(scenarios.form(self._weights_array())[0], 0.0)))
        losses = scenarios.source.losses(self._weights_array())
        return float(np.sqrt(scenarios.probabilities @ (losses - scenarios.probabilities @ losses) ** 2))

    @property
    def constraints(self) -> pd.DataFrame:
        """Every constraint line: name, constraint, sense, value, limit, slack, binding, shadow_price.

        `slack` is the distance to the limit (negative: violated). `shadow_price` is what the optimal objective gains,
        in basis points, when the limit is loosened by one percentage point (0.01); for an equality, when its
        right-hand side is raised by that. Only binding limits have a price.
        """
        evaluation = self._require()
        compiled = self.problem.compiled
        view = compiled.view(self._weights_array())
        frames = _line_frames(compiled, view, evaluation)
        columns = ["name", "constraint", "sense", "value", "limit", "slack", "binding", "shadow_price"]
        if not frames:
            return pd.DataFrame(columns=columns).astype({"binding": bool})
        frame = pd.concat(frames, ignore_index=True)[columns]
        return frame.set_index(pd.Index(frame["name"].tolist()))

    @property
    def binding_prices(self) -> dict[str, float]:
        """Shadow price of every binding line, as in `constraints`."""
        return binding_prices(self.problem.compiled, self._require(), self._weights_array())

    @property
    def tails(self) -> dict[float, Tail]:
        """The tail of the losses at each confidence level of the problem."""
        return self._require().tails

    @property
    def binding(self) -> dict[str, int]:
        """The inequality constraints that bind, and how many of their lines do."""
        compiled, evaluation = self.problem.compiled, self._require()
        view = compiled.view(self._weights_array())
        found: dict[str, int] = {}
        for group, value in zip(compiled.lines, evaluation.line_values, strict=True):
            if group.sense == "==":
                continue
            slack = (group.limit - value) if group.sense == "<=" else (value - group.limit)
            count = int(np.count_nonzero(slack <= BINDING * line_sizes(compiled, view, group)))
            if count:
                found[group.constraint] = found.get(group.constraint, 0) + count
        return found

    @property
    def multipliers(self) -> Multipliers:
        """The dual variables of the program, repaired to exact feasibility; for those who know its rows and blocks."""
        return self._require().multipliers

    @property
    def tail_weights(self) -> dict[float, np.ndarray]:
        """The optimal dual tail distribution (S,) at each level with a price: q / (lambda + eta).

        At the optimum the loss is often tied between scenarios and CVaR has a kink; of all tail distributions there,
        this is the one that supports the optimality conditions. Levels without a price are left out.
        """
        m = self._require().multipliers
        compiled = self.problem.compiled
        level = compiled.program.cvar_weight + m.cvar_cap
        first = compiled.first_row
        own = slice(first, first + compiled.scenarios.n_scenarios)
        return {
            beta: m.scenario[block, own] / level[block]
            for beta, block in compiled.levels.items()
            if block >= 0 and level[block] > 1e-9 * max(float(level.max()), 1e-300)
        }

    def tail_scenarios(self, beta: float | None = None, *, n: int = 10) -> pd.DataFrame:
        """The `n` worst scenarios: loss, probability, their share of the tail, and the asset that lost most in each."""
        weights = self._weights_array()
        scenarios = self.problem.scenarios
        if scenarios.form is not None:
            raise InputError("the problem knows mean and covariance alone, so there are no scenarios to list")
        level = beta if beta is not None else next(iter(self.problem.compiled.betas), 0.95)
        losses = scenarios.source.losses(weights)
        tail_probability = tail(losses, scenarios.probabilities, level).weights
        possible = np.flatnonzero(scenarios.probabilities > 0)
        worst = possible[np.argsort(-losses[possible], kind="stable")[:n]]
        parts = -scenarios.source.rows(worst) * weights
        main = parts.argmax(axis=1)
        return pd.DataFrame(
            {
                "loss": losses[worst],
                "probability": scenarios.probabilities[worst],
                "tail_probability": tail_probability[worst],
                "worst_asset": scenarios.assets.take(main),
                "worst_asset_loss": parts[np.arange(len(worst)), main],
            },
            index=pd.Index(scenarios.index.take(worst), name=scenarios.index.name or "scenario"),
        )

    # -- pictures ------------------------------------------------------------------------------------------------
    def summary(self) -> pd.DataFrame:
        """Headline figures as a one-column frame of text."""
        rows: dict[str, str] = {"status": self.status.name}
        if self.certificate is not None:
            c = self.certificate
            rows["objective"] = f"{c.objective:.8g}"
            rows["bound"] = f"{c.bound:.8g}"
            rows["relative gap"] = f"{c.gap:.1e}"
            worst = f" ({c.worst_constraint})" if c.worst_constraint else ""
            rows["largest violation"] = f"{c.max_violation:.1e}{worst}"
            if self.problem.scenarios.mean_known:
                rows["expected return"] = f"{self.expected_return:.4%}"
            rows["volatility"] = f"{self.volatility:.4%}"
            for beta, line in self.risk.iterrows():
                rows[f"VaR / CVaR at {beta:g}"] = f"{line['var']:.4%} / {line['cvar']:.4%}"
            rows["positions"] = f"{int((self.weights.abs() > 1e-8).sum())} of {len(self.weights)}"  # type: ignore[union-attr]
        t = self.timings
        if self.engine:
            rows["engine"] = self.engine
        rows["time"] = f"{t.solve:.3g} s solve ({self.iterations} iterations), {t.compile:.3g} s compile"
        return pd.DataFrame({"value": rows})

    def __repr__(self) -> str:
        lines = [f"Result: {self.message}", self.summary().to_string(header=False)]
        if self.weights is not None:
            held = self.weights[self.weights.abs() > 1e-8].sort_values(ascending=False, kind="stable")
            lines += ["", "weights", held.head(15).to_string(header=False, float_format="{:.4%}".format)]
            if len(held) > 15:
                lines.append(f"... and {len(held) - 15} more")
            binding = self.constraints[self.constraints["binding"]]
            if len(binding):
                shown = binding.drop(columns=["name", "constraint", "binding"])
                lines += [
                    "",
                    "binding constraints (shadow price: bp of objective per 1 % of limit)",
                    shown.head(15).to_string(),
                ]
                if len(binding) > 15:
                    lines.append(f"... and {len(binding) - 15} more")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        pieces = [f"<p><b>{html.escape(self.message)}</b></p>", self.summary().to_html(header=False)]
        if self.weights is not None:
            held = self.weights[self.weights.abs() > 1e-8].sort_values(ascending=False, kind="stable")
            pieces.append(held.to_frame("weight").to_html(float_format="{:.4%}".format, max_rows=20))
            binding = self.constraints[self.constraints["binding"]].drop(columns=["name", "constraint", "binding"])
            if len(binding):
                pieces.append("<p>Binding constraints (shadow price: bp of objective per 1 % of limit)</p>")
                pieces.append(binding.to_html(max_rows=20))
        boxes = "".join(f'<div style="margin-right:2em">{piece}</div>' for piece in pieces[1:])
        return pieces[0] + f'<div style="display:flex;flex-wrap:wrap">{boxes}</div>'

    @property
    def cap_prices(self) -> np.ndarray:
        """Multiplier of the cap of each CVaR block (M,); zeros where there is no portfolio."""
        none = np.zeros(len(self.problem.compiled.program.cvar_cap))
        return none if self._evaluation is None else self._evaluation.multipliers.cvar_cap

    # -- helpers -------------------------------------------------------------------------------------------------
    def _require(self) -> Evaluation:
        if self._evaluation is None:
            raise InputError(f"there is no portfolio to report on: {self.message}")
        return self._evaluation

    def _weights_array(self) -> np.ndarray:
        self._require()
        assert self.weights is not None
        return self.weights.to_numpy(dtype=np.float64)


def _line_frames(compiled: Compiled, view: View, evaluation: Evaluation) -> list[pd.DataFrame]:
    """The report on each group of lines."""
    multipliers = evaluation.multipliers
    frames = []
    for group, value in zip(compiled.lines, evaluation.line_values, strict=True):
        price, multipliers = prices(compiled, group, multipliers)
        frames.append(_line_frame(compiled, view, group, value, price))
    return frames


def _line_frame(compiled: Compiled, view: View, group: Lines, value: np.ndarray, price: np.ndarray) -> pd.DataFrame:
    difference = value - group.limit
    slack = -np.abs(difference) if group.sense == "==" else -difference if group.sense == "<=" else difference
    slack = slack + 0.0  # no negative zeros in a report
    size = line_sizes(compiled, view, group)
    binding = (slack <= BINDING * size) | (group.sense == "==")
    price = np.where(binding, price, 0.0)
    return pd.DataFrame(
        {
            "name": group.names,
            "constraint": group.constraint,
            "sense": group.sense,
            "value": value - group.centre,
            "limit": group.limit - group.centre,
            "slack": slack,
            "binding": binding,
            "shadow_price": _DESK * price,
        }
    )


def binding_prices(compiled: Compiled, evaluation: Evaluation, weights: np.ndarray) -> dict[str, float]:
    """Shadow price of every binding line, in basis points of the objective per percentage point of limit."""
    view = compiled.view(weights)
    found: dict[str, float] = {}
    for frame in _line_frames(compiled, view, evaluation):
        bound = frame["binding"].to_numpy()
        found |= dict(zip(frame["name"][bound], frame["shadow_price"][bound], strict=True))
    return found


def prices(compiled: Compiled, group: Lines, m: Multipliers) -> tuple[np.ndarray, Multipliers]:
    """Gain of the maximised objective per unit of a looser limit; of a higher one for equalities.

    Also the multipliers without what was given to bounds: of two equal bounds on an asset, the first has the price.
    """
    p, i = compiled.program, group.index
    if not group.scale:  # a limit of zero, which is kept as bounds
        return np.zeros(len(i)), m
    match group.kind:
        case "row" if group.measure is not None:
            return group.scale * np.maximum(m.row[i], 0.0), m
        case "row":
            y = m.row[i]
            return (y if group.sense == "==" else np.maximum(y if group.sense == "<=" else -y, 0.0)), m
        case "weight" if group.sense == ">=":
            price, left = _taken(m.lower, i, p.lower[i] == group.limit)
            return price, replace(m, lower=left)
        case "weight":
            price, left = _taken(m.upper, i, p.upper[i] == group.limit)
            return price, replace(m, upper=left)
        case "trade":
            assert compiled.holdings is not None
            held = compiled.holdings[i]
            above, upper = _taken(m.upper, i, p.upper[i] == held + group.limit)
            below, lower = _taken(m.lower, i, p.lower[i] == held - group.limit)
            return above + below, replace(m, lower=lower, upper=upper)
        case "cvar":
            return group.scale * m.cvar_cap[i], m
        case "l1":
            return group.scale * m.l1_cap[i], m
        case "integer":
            return np.zeros(len(i)), m


def _taken(prices: np.ndarray, index: np.ndarray, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Some of the prices of bounds, and what is left of them all."""
    left = prices.copy()
    left[index[which]] = 0.0
    return np.where(which, prices[index], 0.0), left

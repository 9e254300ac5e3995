"""Markov switching: hidden states in which returns have means and covariances of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import jax
import numpy as np
import pandas as pd

from portfolioopt.blas import quiet_blas
from portfolioopt.errors import InputError, StalledError
from portfolioopt.labels import FloatArray, checked_number
from portfolioopt_kernels.hidden_markov import Estimate, HiddenMarkov, infer, maximise
from portfolioopt_kernels.padding import bucket

from .checks import checked_count, checked_returns, checked_variation, dependent

FLOOR = 1e-8
"""Added to variances relative to the sample's in every iteration."""
COLLAPSED = 1e-5
"""Variance of a state relative to the sample's below which it has shrunk onto a few rows that are alike."""


@dataclass(frozen=True, eq=False)
class SwitchingFit:
    """A fitted model of M states, numbered from the calmest, 0, to the one with the largest variance.

    `smoothed` and the parameters know all rows of the fit. `filtered` knows rows up to t only, *given the parameters*,
    which know them all: for states without look-ahead fit on the past and `filter` what comes later, as
    `MarkovSwitching.walk` does.

    Parameters
    ----------
    filtered
        Probability of each state given the rows up to t (T x M).
    smoothed
        Probability of each state given all rows (T x M).
    transition
        Probability of the next state (columns) given the present one (rows), M x M.
    means
        Mean of each state (M x N), per row of the returns.
    covariances
        Covariance of each state (N x N), per row of the returns.
    initial
        Probability of each state on the first row (M,).
    log_likelihood
        Of all rows, in natural logarithms.
    iterations
        Of expectation maximisation, from the start that came out best.
    """

    filtered: pd.DataFrame
    smoothed: pd.DataFrame
    transition: pd.DataFrame
    means: pd.DataFrame
    covariances: dict[int, pd.DataFrame]
    initial: pd.Series
    log_likelihood: float
    iterations: int

    @property
    def stationary(self) -> pd.Series:
        r"""Share of time in each state in the long run, :math:`\pi' A = \pi'` (M,)."""
        chain = self.transition.to_numpy()
        m = len(chain)
        system = np.vstack([chain.T - np.eye(m), np.ones(m)])
        share = np.linalg.lstsq(system, np.append(np.zeros(m), 1.0), rcond=None)[0]
        return pd.Series(np.maximum(share, 0.0) / np.maximum(share, 0.0).sum(), self.transition.index)

    @property
    def durations(self) -> pd.Series:
        r"""Expected rows in each state before it is left, :math:`1 / (1 - A_{ii})` (M,)."""
        with np.errstate(divide="ignore"):
            return pd.Series(1.0 / (1.0 - np.diag(self.transition)), self.transition.index)

    def predict(self, horizon: int = 1) -> pd.Series:
        """Probability of each state `horizon` rows after the last (M,)."""
        steps = checked_count(horizon, "SwitchingFit.predict: horizon", least=0)
        chain = np.linalg.matrix_power(self.transition.to_numpy(), steps)
        return pd.Series(self.filtered.to_numpy()[-1] @ chain, self.transition.index)

    def moments(self, horizon: int = 1) -> tuple[pd.Series, pd.DataFrame]:
        r"""Mean (N,) and covariance (N x N) of the row `horizon` rows after the last, over all states.

        With the probabilities p of `predict`: :math:`\mu = \sum_m p_m \mu_m` and
        :math:`\sum_m p_m (\Sigma_m + (\mu_m - \mu)(\mu_m - \mu)')`.
        """
        p = self.predict(horizon).to_numpy()
        means = self.means.to_numpy()
        mean = p @ means
        spread = means - mean
        matrix = sum(q * c.to_numpy() for q, c in zip(p, self.covariances.values(), strict=True))
        matrix = matrix + (p[:, None] * spread).T @ spread
        assets = self.means.columns
        return pd.Series(mean, assets), pd.DataFrame(matrix, assets, assets)

    def filter(self, returns: pd.DataFrame | pd.Series) -> pd.DataFrame:
        """Probability of each state given the rows up to t (T x M), under the parameters of this fit.

        The chain begins at the first row of `returns`, with the `stationary` probabilities: pass the rows of the fit
        and what came later in one frame. Rows after t do not matter for t.
        """
        frame = _frame(returns, "SwitchingFit.filter")
        values = checked_returns(frame, "SwitchingFit.filter", rows=1)
        if not frame.columns.equals(self.means.columns):
            raise InputError(
                f"SwitchingFit.filter: the model is for {list(self.means.columns)}, but returns has "
                f"{list(frame.columns)}; pass returns[{list(self.means.columns)}]"
            )
        model = HiddenMarkov(
            self.stationary.to_numpy(),
            self.transition.to_numpy(),
            self.means.to_numpy(),
            np.stack([c.to_numpy() for c in self.covariances.values()]),
        )
        return pd.DataFrame(_infer(values, model)[0], frame.index, self.transition.index)


@dataclass(frozen=True)
class MarkovSwitching:
    r"""Normal returns whose mean and covariance depend on a hidden state, a Markov chain (Hamilton, 1989).

    Maximum likelihood by expectation maximisation (Baum et al., 1970) from several random starts, of which the best is
    kept that has no state on fewer rows than it has parameters. Hamilton, "A new approach to the economic analysis of
    nonstationary time series and the business cycle", Econometrica 57.

    Parameters
    ----------
    states
        M, at least 2.
    covariance
        ``"full"``, or ``"diagonal"`` where assets are independent given the state.
    switching_mean
        Whether the mean depends on the state as well.
    starts
        How many random starts.
    seed
        Of the starts.
    tolerance
        Increase of the log likelihood per row at which to stop.
    limit
        Iterations after which to give up.
    """

    states: int = 2
    covariance: Literal["full", "diagonal"] = "full"
    switching_mean: bool = True
    starts: int = 8
    seed: int = 0
    tolerance: float = 1e-9
    limit: int = 2000

    def __post_init__(self) -> None:
        checked_count(self.states, "MarkovSwitching: states", least=2)
        checked_count(self.starts, "MarkovSwitching: starts", least=1)
        checked_count(self.seed, "MarkovSwitching: seed", least=0)
        checked_count(self.limit, "MarkovSwitching: limit", least=1)
        checked_number(self.tolerance, "MarkovSwitching: tolerance", above=0.0)
        if self.covariance not in ("full", "diagonal"):
            raise InputError(f"MarkovSwitching: covariance must be 'full' or 'diagonal', was {self.covariance!r}")

    def fit(self, returns: pd.DataFrame | pd.Series) -> SwitchingFit:
        """The model of returns (T x N, or one series); needs 10 M N rows.

        Raises InputError where every start ends with a state on too few rows, and StalledError where the best has not
        converged within `limit`.
        """
        frame = _frame(returns, "MarkovSwitching")
        assets = frame.columns
        values = checked_returns(frame, "MarkovSwitching", rows=10 * self.states * len(assets))
        checked_variation(values, assets, "MarkovSwitching")
        self._check_rank(values, assets)
        centre, scale = values.mean(axis=0), values.std(axis=0)
        best, found = self._best((values - centre) / scale)
        fit = self._labelled(frame, values, best, centre, scale, found)
        if not found[1]:
            raise StalledError(
                f"MarkovSwitching: the log likelihood still grows after {self.limit} iterations; raise limit, or the "
                "tolerance, or take fewer states",
                result=fit,
            )
        return fit

    def walk(self, returns: pd.DataFrame | pd.Series, *, first: int, every: int) -> pd.DataFrame:
        """Probability of each state on every date from row `first` on, as it was known on that date.

        Parameters are estimated from the rows up to the first such date, and anew after every `every` rows from all
        rows by then. Nothing after a date is looked at; what a state is like may change with the estimate.
        """
        frame = _frame(returns, "MarkovSwitching.walk")
        least = checked_count(first, "MarkovSwitching.walk: first", least=10 * self.states * frame.shape[1])
        step = checked_count(every, "MarkovSwitching.walk: every", least=1)
        checked_returns(frame, "MarkovSwitching.walk", rows=least)
        parts = []
        for known in range(least, len(frame) + 1, step):
            fit = self.fit(frame.iloc[:known])
            parts.append(fit.filter(frame.iloc[: known + step - 1]).iloc[known - 1 :])
        return pd.concat(parts)

    def _check_rank(self, values: FloatArray, assets: pd.Index) -> None:
        if self.covariance == "diagonal" or len(assets) == 1:
            return
        eigenvalues, vectors = np.linalg.eigh(np.corrcoef(values, rowvar=False))
        none = eigenvalues <= 1e-10 * eigenvalues[-1]
        if none.any():
            raise InputError(
                "MarkovSwitching needs assets that are no combinations of others, and there is one among "
                f"{dependent(vectors[:, none], assets)}; leave it out, or pass covariance='diagonal'"
            )

    def _best(self, x: FloatArray) -> tuple[HiddenMarkov, tuple[int, bool]]:
        """The best of the models of scaled rows without a state on too few of them, its iterations and whether done."""
        padded, valid = _padded(x)
        with jax.enable_x64(True), quiet_blas.hold():
            found = maximise(
                padded,
                valid,
                self._starts(x),
                np.float64(self.tolerance * len(x)),
                np.float64(FLOOR),
                np.int64(self.limit),
                diagonal=self.covariance == "diagonal",
                switching_mean=self.switching_mean,
            )
            found: Estimate = jax.tree.map(np.asarray, found)
        width = x.shape[1]
        correlation = np.atleast_2d(np.corrcoef(x, rowvar=False))
        least = np.linalg.eigvalsh(found.model.covariances)[..., 0].min(axis=1)
        spread = np.ones(width) if self.covariance == "diagonal" else np.linalg.eigvalsh(correlation)
        single = -0.5 * len(x) * (width * (np.log(2.0 * np.pi) + 1.0) + float(np.log(spread).sum()))
        sound = (
            (found.occupancy.min(axis=1) > width + 2.0)
            & (least > COLLAPSED * spread.min())
            & (found.log_likelihood > single + 1e-3)  # False for NaN
        )
        if not sound.any():
            raise InputError(
                f"MarkovSwitching: with {self.states} states, every start ends with one on fewer rows than its moments "
                "take, or with states that are all alike; take fewer states, or a longer history"
            )
        place = int(np.argmax(np.where(sound, found.log_likelihood, -np.inf)))
        model = jax.tree.map(lambda a: a[place], found.model)
        return model, (int(found.iterations[place]), bool(found.converged[place]))

    def _starts(self, x: FloatArray) -> HiddenMarkov:
        """Models of rows sorted by how large they and their neighbours are, or how high, and cut at random."""
        rng = np.random.default_rng(self.seed)
        (rows, width), m = x.shape, self.states
        models = []
        for start in range(self.starts):
            span = int(rng.integers(1, max(min(60, rows // (4 * m)), 2)))
            by_level = self.switching_mean and start % 4 == 3
            score = x @ rng.normal(size=width) if by_level else np.einsum("tn,tn->t", x, x)
            score = np.convolve(score, np.ones(span), mode="same")
            cuts = np.sort(rng.dirichlet(np.full(m, 4.0)).cumsum()[:-1])
            edges = np.clip((cuts * rows).astype(int), 0, rows - 1)
            state = np.searchsorted(np.sort(score)[edges], score, side="right")
            stay = rng.uniform(0.8, 0.98)
            means, covariances = np.zeros((m, width)), np.empty((m, width, width))
            for k in range(m):
                own = x[state == k] if np.count_nonzero(state == k) > width + 1 else x
                means[k] = own.mean(axis=0) if self.switching_mean else 0.0
                matrix = np.cov(own, rowvar=False).reshape(width, width)
                if self.covariance == "diagonal":
                    matrix = np.diag(np.diag(matrix))
                covariances[k] = 0.9 * matrix + 0.1 * np.eye(width) * np.trace(matrix) / width
            chain = np.full((m, m), (1.0 - stay) / (m - 1))
            np.fill_diagonal(chain, stay)
            models.append(HiddenMarkov(np.full(m, 1.0 / m), chain, means, covariances))
        return HiddenMarkov(*(np.stack(part) for part in zip(*models, strict=True)))

    def _labelled(
        self,
        frame: pd.DataFrame,
        values: FloatArray,
        scaled: HiddenMarkov,
        centre: FloatArray,
        scale: FloatArray,
        found: tuple[int, bool],
    ) -> SwitchingFit:
        covariances = np.asarray(scaled.covariances) * np.outer(scale, scale)
        order = np.argsort(np.trace(np.asarray(scaled.covariances), axis1=1, axis2=2), kind="stable")
        model = HiddenMarkov(
            np.asarray(scaled.initial)[order],
            np.asarray(scaled.transition)[np.ix_(order, order)],
            (centre + scale * np.asarray(scaled.means))[order],
            covariances[order],
        )
        filtered, smoothed, log_likelihood = _infer(values, model)
        states, assets = pd.RangeIndex(self.states, name="state"), frame.columns
        return SwitchingFit(
            pd.DataFrame(filtered, frame.index, states),
            pd.DataFrame(smoothed, frame.index, states),
            pd.DataFrame(model.transition, states, states),
            pd.DataFrame(model.means, states, assets),
            {int(k): pd.DataFrame(model.covariances[k], assets, assets) for k in states},
            pd.Series(model.initial, states),
            log_likelihood,
            found[0],
        )


def _infer(values: FloatArray, model: HiddenMarkov) -> tuple[FloatArray, FloatArray, float]:
    """Filtered and smoothed probabilities (T, M) and the log likelihood of rows in their own unit."""
    # far from unit size, squares of returns and determinants lose digits
    scale = np.sqrt(np.einsum("mnn->n", np.asarray(model.covariances)) / len(model.initial))
    unit = model._replace(means=model.means / scale, covariances=model.covariances / np.outer(scale, scale))
    padded, valid = _padded(values / scale)
    with jax.enable_x64(True), quiet_blas.hold():
        filtered, smoothed, log_likelihood = map(np.asarray, infer(padded, valid, unit))
    rows = len(values)
    return filtered[:rows], smoothed[:rows], float(log_likelihood) - rows * float(np.log(scale).sum())


def _padded(values: FloatArray) -> tuple[FloatArray, Any]:
    """Rows in one of few lengths, so that a growing history is compiled seldom, and which of them count."""
    rows = len(values)
    room = bucket(rows, steps=4) - rows
    return np.pad(values, ((0, room), (0, 0))), np.arange(rows + room) < rows


def _frame(returns: object, who: str) -> pd.DataFrame:
    if isinstance(returns, pd.Series):
        return returns.to_frame("returns" if returns.name is None else returns.name)
    if not isinstance(returns, pd.DataFrame):
        raise InputError(
            f"{who}: returns must be a frame of periods x assets or a Series, was {type(returns).__name__}"
        )
    return returns

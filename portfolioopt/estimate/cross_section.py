r"""Factor models from characteristics of the assets: returns regressed on what was known before, date by date."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from portfolioopt.errors import InputError
from portfolioopt.labels import FloatArray, checked_number, some

from .characteristics import Panel, Sizes, checked_assets, known_before
from .checks import check_estimator, checked_count, checked_returns, dependent, written
from .covariances import CovarianceEstimator, SampleCovariance
from .factored import FactorCovariance

BoolArray = npt.NDArray[np.bool_]

MARKET = "market"
"""The factor to which every asset has an exposure of one."""
NORMAL = 1.482602218505602
"""Standard deviation of a normal distribution over its median absolute deviation."""


@dataclass(frozen=True, eq=False)
class CrossSectionalFit:
    """A factor model from characteristics, and the regressions it is made of: one on each of T dates.

    Parameters
    ----------
    covariance
        The model for the row after the last: exposures from the characteristics known by the last date.
    factor_returns
        T x K, fractions per row of the returns and unit of exposure.
    t_statistics
        T x K, factor returns over their standard errors in the regression of that date.
    r_squared
        Share of the weighted variance across assets that the regression explains, by date.
    residuals
        T x N, what the regression leaves of each return; NaN where an asset was left out.
    left_out
        Assets that have no place in `covariance`, and why.
    """

    covariance: FactorCovariance
    factor_returns: pd.DataFrame
    t_statistics: pd.DataFrame
    r_squared: pd.Series
    residuals: pd.DataFrame
    left_out: pd.Series

    @property
    def mean(self) -> pd.Series:
        """Expected return by asset per row: exposures times the mean of the factor returns."""
        return self.covariance.exposures @ self.factor_returns.mean()

    @property
    def premia(self) -> pd.DataFrame:
        r"""By factor: mean and volatility of its returns per row, and :math:`\sqrt T` times their ratio.

        The last is the t statistic of a premium (Fama & MacBeth, 1973, Journal of Political Economy 81).
        """
        mean, std = self.factor_returns.mean(), self.factor_returns.std()
        t = np.sqrt(len(self.factor_returns)) * mean / std
        return pd.DataFrame({"mean": mean, "volatility": std, "t_statistic": t})


@dataclass(frozen=True)
class CrossSectionalFactors:
    r"""Factors whose exposures are known and whose returns are estimated, by a regression across assets on every date.

    .. math:: r_{ti} = f_{t,\mathrm{market}} + \sum_k x_{t-1,ik} f_{tk} + \sum_g 1\{i \in g\} f_{tg} + e_{ti},

    weighted least squares over the assets i. Characteristics :math:`x_{t-1}` are those known before t, standardised
    over the assets of that date: mean zero weighted by capitalisation, so that the market has no exposure to them, and
    an equally weighted standard deviation of one. Returns of industries g add up to zero weighted by their
    capitalisation, which is what tells them from the market's. F is estimated from the factor returns, d from the
    residuals, :math:`d_i = (1 - \rho) s_i^2 + \rho\, \overline{s^2}`, with mean squares :math:`s_i^2` and their average
    over assets.

    Rosenberg (1974), "Extra-market components of covariance in security returns", Journal of Financial and Quantitative
    Analysis 9; Menchero, Orr & Wang (2011), "The Barra US equity model (USE4), methodology notes".

    Parameters
    ----------
    covariance
        Estimator of F from the factor returns.
    winsorize
        Characteristics that are further from their median than that many times 1.4826 median absolute deviations (a
        standard deviation under a normal distribution; their own where more than half are the same) are set there,
        before they are standardised. None leaves them.
    shrinkage
        :math:`\rho`, from 0 to 1: how far specific variances go towards their average.
    missing
        ``"error"`` refuses missing returns, characteristics and capitalisations. ``"leave_out"`` leaves an asset out of
        the regression of each date on which one of them is missing (it was not listed); zero is not the same.
    fewest
        Residuals an asset needs for a specific variance; those with fewer are left out of the model, not of the
        regressions.
    """

    covariance: CovarianceEstimator = field(default_factory=SampleCovariance)
    winsorize: float | None = 3.0
    shrinkage: float = 0.0
    missing: Literal["error", "leave_out"] = "error"
    fewest: int = 20

    def __post_init__(self) -> None:
        who = "CrossSectionalFactors"
        check_estimator(self.covariance, who)
        if self.winsorize is not None:
            checked_number(self.winsorize, f"{who}: winsorize", above=0.0)
        if checked_number(self.shrinkage, f"{who}: shrinkage", least=0.0) > 1.0:
            raise InputError(f"{who}: shrinkage must be at most 1, was {self.shrinkage:g}")
        if self.missing not in ("error", "leave_out"):
            raise InputError(f"{who}: missing must be 'error' or 'leave_out', was {self.missing!r}")
        checked_count(self.fewest, f"{who}: fewest", least=2)

    def fit(
        self,
        returns: pd.DataFrame,
        characteristics: Mapping[str, pd.DataFrame] | pd.DataFrame,
        *,
        industries: pd.Series | Mapping[str, str] | None = None,
        capitalisation: pd.DataFrame | pd.Series | None = None,
        weights: pd.DataFrame | pd.Series | None = None,
    ) -> CrossSectionalFit:
        """Factor model per row of `returns` (T x N), and its factor returns.

        Parameters
        ----------
        characteristics
            By name a frame of dates x assets, or one long frame with two levels of rows, date and asset, and a column
            for each. On a date of the returns the last of the dates *before* it counts, so they may be daily, monthly
            or irregular; in `covariance` the last that is not after the returns.
        industries
            Label by asset; None for none.
        capitalisation
            By asset, or dates x assets with the dates read as those of the characteristics; any unit, positive. Alike
            where None.
        weights
            Of the regression, in the same forms; square roots of the capitalisation where None.

        Raises
        ------
        InputError
            For missing numbers (unless `missing` leaves them out), labels that repeat, too few dates or assets, and
            characteristics that are constant or combinations of others on some date.
        UnknownNameError
            For assets that `returns` does not have.
        """
        who = "CrossSectionalFactors"
        values = self._returns(returns)
        panel = Panel.of(characteristics, returns.columns, who)
        caps = Sizes.of(capitalisation, returns.columns, f"{who}: capitalisation")
        given = None if weights is None else Sizes.of(weights, returns.columns, f"{who}: weights")
        groups, names = _industries(industries, returns.columns, who)
        factors = pd.Index([MARKET, *panel.names, *names])
        if factors.has_duplicates:
            raise InputError(
                f"{who}: the factors {some(factors[factors.duplicated()].unique())} have one name; rename the "
                f"characteristic or industry, of which none may be called {MARKET!r}"
            )
        before = known_before(returns.index, panel.dates)
        first = int(np.argmax(before >= 0)) if (before >= 0).any() else len(returns)
        rows = len(returns) - first
        if rows < self.fewest:
            raise InputError(
                f"{who} needs at least {self.fewest} dates of returns with characteristics before them, but there are "
                f"{rows}; pass a longer history, or lower fewest"
            )
        found = np.full((rows, len(factors)), np.nan)
        t_values = np.full_like(found, np.nan)
        explained = np.full(rows, np.nan)
        residuals = np.full((rows, len(returns.columns)), np.nan)
        for row in range(rows):
            t = first + row
            date = returns.index[t]
            design, listed, share = self._design(panel, caps, groups, len(names), int(before[t]), date, strict=True)
            listed = listed & np.isfinite(values[t])
            weight = np.sqrt(caps.before(date)) if given is None else given.before(date)
            if (listed & ~np.isfinite(weight)).any():
                if self.missing == "error":
                    raise InputError(
                        f"{who}: weights is missing for {some(returns.columns[~np.isfinite(weight)])} before "
                        f"{written(date)}; give it, or pass missing='leave_out'"
                    )
                listed &= np.isfinite(weight)
            line = _regression(
                values[t, listed], design[listed], weight[listed], share, factors, f"{who} on {written(date)}"
            )
            found[row], t_values[row], explained[row], residuals[row, listed] = line
        dates = returns.index[first:]
        factor_returns = pd.DataFrame(found, dates, factors)
        covariance, left_out = self._model(panel, caps, groups, names, returns, factor_returns, residuals)
        return CrossSectionalFit(
            covariance,
            factor_returns,
            pd.DataFrame(t_values, dates, factors),
            pd.Series(explained, dates, name="r_squared"),
            pd.DataFrame(residuals, dates, returns.columns),
            left_out,
        )

    def _returns(self, returns: pd.DataFrame) -> FloatArray:
        """Returns (T, N), NaN where an asset is not listed."""
        who = "CrossSectionalFactors"
        if self.missing == "error" or not isinstance(returns, pd.DataFrame):
            return checked_returns(returns, who, rows=2)
        checked_returns(returns.fillna(0.0), who, rows=2)
        return returns.to_numpy(dtype=np.float64, na_value=np.nan)

    def _design(
        self,
        panel: Panel,
        caps: Sizes,
        groups: npt.NDArray[np.intp],
        industries: int,
        place: int,
        date: object,
        *,
        strict: bool,
    ) -> tuple[FloatArray, BoolArray, FloatArray]:
        """Exposures (N, K), which assets have them (N,), and the share of each industry in the capitalisation.

        `strict`: those before the date, not those on it.
        """
        who = "CrossSectionalFactors"
        raw = panel.data[place]
        cap = caps.before(date) if strict else caps.until(date)
        listed = np.isfinite(raw).all(axis=1) & np.isfinite(cap)
        if self.missing == "error" and not listed.all():
            short = panel.names[(~np.isfinite(raw)).any(axis=0)].append(
                pd.Index([] if np.isfinite(cap).all() else ["capitalisation"])
            )
            raise InputError(
                f"{who}: {some(short)} is missing for {some(panel.assets[~listed])} on {written(panel.dates[place])}; "
                "leave these out, or pass missing='leave_out' where they were not listed"
            )
        exposures = np.zeros((len(raw), 1 + len(panel.names) + industries))
        exposures[listed, 0] = 1.0
        cap = np.where(listed, cap, 0.0)
        exposures[listed, 1 : 1 + len(panel.names)] = self._standardised(raw[listed], cap[listed], panel, place)
        share = np.zeros(industries)
        if industries:
            exposures[np.flatnonzero(listed), 1 + len(panel.names) + groups[listed]] = 1.0
            share = np.bincount(groups, weights=cap, minlength=industries) / cap.sum()
        return exposures, listed, share

    def _standardised(self, raw: FloatArray, cap: FloatArray, panel: Panel, place: int) -> FloatArray:
        """Mean zero under the capitalisation, standard deviation one under equal weights."""
        who = "CrossSectionalFactors"
        if not len(raw):
            raise InputError(f"{who}: no asset has all characteristics on {written(panel.dates[place])}")
        flat = raw.std(axis=0) <= 1e-12 * np.abs(raw).max(axis=0)
        if flat.any():
            names = some(panel.names[np.asarray(flat)])
            raise InputError(
                f"{who}: {names} is the same for all assets on {written(panel.dates[place])}; leave it out, the market "
                "is there already"
            )

        if self.winsorize is not None:
            middle = np.median(raw, axis=0)
            width = NORMAL * np.median(np.abs(raw - middle), axis=0)
            reach = self.winsorize * np.where(width > 0.0, width, raw.std(axis=0))
            raw = np.clip(raw, middle - reach, middle + reach)
        return (raw - cap @ raw / cap.sum()) / raw.std(axis=0)

    def _model(
        self,
        panel: Panel,
        caps: Sizes,
        groups: npt.NDArray[np.intp],
        industries: pd.Index,
        returns: pd.DataFrame,
        factor_returns: pd.DataFrame,
        residuals: FloatArray,
    ) -> tuple[FactorCovariance, pd.Series]:
        last = returns.index[-1]
        place = int(panel.dates.searchsorted(last, side="right")) - 1
        exposures, listed, _ = self._design(panel, caps, groups, len(industries), place, last, strict=False)
        count = np.isfinite(residuals).sum(axis=0)
        squares = np.nansum(residuals**2, axis=0) / np.maximum(count, 1)
        enough = count >= self.fewest
        reasons = np.where(~listed, "no characteristics on the last date", f"fewer than {self.fewest} residuals")
        kept = listed & enough
        if not kept.any():
            raise InputError(
                f"CrossSectionalFactors: no asset has {self.fewest} residuals and characteristics on {written(last)}; "
                "lower fewest, or pass a longer history"
            )
        variance = (1.0 - self.shrinkage) * squares[kept] + self.shrinkage * squares[kept].mean()
        fitted = self.covariance.fit(factor_returns)
        model = FactorCovariance(
            pd.DataFrame(exposures[kept], returns.columns[kept], factor_returns.columns),
            fitted.dense() if isinstance(fitted, FactorCovariance) else fitted,
            pd.Series(variance, returns.columns[kept]),
        )
        return model, pd.Series(reasons[~kept], returns.columns[~kept], dtype=object)


def _industries(
    industries: pd.Series | Mapping[str, str] | None, assets: pd.Index, who: str
) -> tuple[npt.NDArray[np.intp], pd.Index]:
    """The place of each asset's industry (N,), and the industries."""
    if industries is None:
        return np.zeros(len(assets), np.intp), pd.Index([])
    if not isinstance(industries, pd.Series | Mapping):
        raise InputError(f"{who}: industries must be a Series or mapping from asset to label")
    series = industries if isinstance(industries, pd.Series) else pd.Series(dict(industries), dtype=object)
    checked_assets(series.index, assets, f"{who}: industries")
    series = series.reindex(assets)
    if series.isna().any():
        raise InputError(f"{who}: industries says nothing about {some(assets[series.isna()])}; give every asset one")
    codes, names = pd.factorize(series, sort=True)
    if len(names) < 2:
        raise InputError(f"{who}: all assets are in {names[0]!r}, which is the market; leave industries out")
    return codes.astype(np.intp), pd.Index(names)


def _regression(
    y: FloatArray, design: FloatArray, weight: FloatArray, share: FloatArray, factors: pd.Index, who: str
) -> tuple[FloatArray, FloatArray, float, FloatArray]:
    """Weighted least squares where the last ``len(share)`` coefficients add up to zero under `share`.

    Returns coefficients (K,), t statistics (K,), the share explained, and residuals (n,).
    """
    held = design.any(axis=0)
    if not held.all():
        raise InputError(
            f"{who}: no asset with a return is in {some(factors[~np.asarray(held)])}; leave it out, or merge it"
        )
    count = design.shape[1]
    free = np.eye(count)[:, : count - 1] if len(share) else np.eye(count)
    if len(share):
        # the return of the last industry is what the restriction makes of the others'
        free[-1, count - len(share) :] = -share[:-1] / share[-1]
    reduced = design @ free
    if len(y) <= reduced.shape[1]:
        raise InputError(
            f"{who} there are {len(y)} assets with returns for {reduced.shape[1]} factors; pass more assets, or fewer "
            "characteristics"
        )
    scale = np.sqrt(weight / weight.mean())
    left, singular, right = np.linalg.svd(scale[:, None] * reduced, full_matrices=False)
    none = singular <= 1e-10 * singular[0]
    if none.any():
        raise InputError(
            f"{who}: one of {dependent(free @ right[none].T, factors)} is a combination of the others; leave it out"
        )
    inverse = free @ (right.T / singular)
    coefficients = inverse @ (left.T @ (scale * y))
    residuals = y - design @ coefficients
    squares = float(weight @ residuals**2)
    mean = weight @ y / weight.sum()
    variance = squares / weight.mean() / (len(y) - reduced.shape[1])
    errors = np.sqrt(variance * np.einsum("kj,kj->k", inverse, inverse))
    total = float(weight @ (y - mean) ** 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        t_values = coefficients / errors
    return coefficients, t_values, 1.0 - squares / total if total > 0.0 else np.nan, residuals

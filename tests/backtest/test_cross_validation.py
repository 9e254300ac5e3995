"""Out-of-sample histories: what is held is what was learned elsewhere, and the paths add up."""

import numpy as np
import pandas as pd
import pytest

import portfolioopt as po
from portfolioopt.backtest import Moment, combinatorial_purged, cross_validate, walk_forward
from portfolioopt.backtest.strategies import FixedWeights, MeanCVaR

RETURNS = pd.DataFrame(
    np.random.default_rng(3).normal(0.0005, 0.01, (240, 3)),
    pd.bdate_range("2021-01-04", periods=240, name="date"),
    pd.Index(["A", "B", "C"]),
)


def momentum(moment: Moment) -> pd.Series:
    """All in what rose most in training."""
    known = moment.returns()
    return pd.Series({known.mean().idxmax(): 1.0})


def by_hand(path: list[tuple[np.ndarray, pd.Series]], bps: float) -> np.ndarray:
    """Returns of a book that is moved to the weights of each stretch, day by day in plain Python."""
    nav, held, cash, found = 1.0, dict.fromkeys(RETURNS.columns, 0.0), 1.0, []
    for rows, weights in path:
        start = nav
        traded = sum(abs(weights.get(name, 0.0) * nav - held[name]) for name in held)
        nav -= traded * bps / 1e4
        held = {name: weights.get(name, 0.0) * nav for name in held}
        cash = nav - sum(held.values())
        for row in rows:
            held = {name: value * (1.0 + RETURNS[name].iloc[row]) for name, value in held.items()}
            now = cash + sum(held.values())
            found.append(now / start - 1.0)
            nav = start = now
    return np.array(found)


@pytest.mark.parametrize("bps", [0.0, 25.0])
def test_a_walk_forward_is_what_a_book_by_hand_earns(bps: float) -> None:
    """Every stretch holds what was learned before it, drifts, and pays for the change."""
    splits = walk_forward(RETURNS.index, train=60, test=30, purge=2)
    found = cross_validate(momentum, RETURNS, splits, cost_bps=bps)
    path = [(s.test, pd.Series({RETURNS.iloc[s.train].mean().idxmax(): 1.0})) for s in splits]
    np.testing.assert_allclose(found.returns[0, 0], by_hand(path, bps), atol=1e-14)
    assert len(found.failures) == 0


def test_combinatorial_paths_are_put_together_from_their_splits() -> None:
    """Each path holds, in each group, the weights of the split that tests on that group."""
    splits = combinatorial_purged(RETURNS.index, groups=6, test_groups=2, purge=1, embargo=2)
    weights = {"A": 0.5, "B": 0.2}
    both = cross_validate({"momentum": momentum, "fixed": FixedWeights(weights)}, RETURNS, splits, cost_bps=10.0)
    assert both.returns.shape == (240, 2 * 5)
    learned = [pd.Series({RETURNS.iloc[s.train].mean().idxmax(): 1.0}) for s in splits.splits]
    for number, path in enumerate(splits.paths):
        rows = [(np.flatnonzero(splits.group == g), learned[s]) for g, s in enumerate(path)]
        np.testing.assert_allclose(both.returns[0, number], by_hand(rows, 10.0), atol=1e-14)
        fixed = [(np.flatnonzero(splits.group == g), pd.Series(weights)) for g in range(6)]
        np.testing.assert_allclose(both.returns[1, number], by_hand(fixed, 10.0), atol=1e-14)
    summary = both.summary("sharpe")
    assert summary.loc[1, "deviation"] == pytest.approx(0.0, abs=1e-12)
    assert list(summary["strategy"]) == ["momentum", "fixed"]


def test_what_is_tested_is_not_learned_from() -> None:
    """Other returns in the rows of a test leave the weights of its split as they are."""
    splits = combinatorial_purged(RETURNS.index, groups=6, test_groups=2, purge=3)
    strategy = MeanCVaR(window=100, scenarios=None, horizon=1, upper=0.6)
    plain = cross_validate(strategy, RETURNS, splits, over={"risk_aversion": [0.5, 5.0]})
    number = 7
    changed = RETURNS.copy()
    changed.iloc[splits.splits[number].test] *= -3.0
    other = cross_validate(strategy, changed, splits, over={"risk_aversion": [0.5, 5.0]})
    np.testing.assert_allclose(other.weights.loc[number], plain.weights.loc[number], atol=1e-9)
    assert not np.allclose(other.weights.loc[0], plain.weights.loc[0])
    assert plain.metrics.shape[0] == 2 * 5


def test_a_split_without_an_answer_is_noted_and_in_cash() -> None:
    """Later failures are noted; a first one is an error."""

    def moody(moment: Moment) -> pd.Series:
        if moment.returns()["A"].iloc[0] == RETURNS["A"].iloc[30]:
            raise po.InputError("not this one")
        return pd.Series({"A": 1.0})

    found = cross_validate(moody, RETURNS, walk_forward(RETURNS.index, train=60, test=30))
    assert list(found.failures["split"]) == [1]
    np.testing.assert_array_equal(found.returns[0, 0].iloc[30:60], 0.0)
    with pytest.raises(po.InputError, match="not this one"):
        cross_validate(moody, RETURNS.iloc[30:], walk_forward(RETURNS.index[30:], train=60, test=30))


def test_bad_input_is_named() -> None:
    """Gaps, splits of other dates, rows tested twice, a strategy that wants prices."""
    splits = walk_forward(RETURNS.index, train=60, test=30)
    with pytest.raises(po.InputError, match="'B'"):
        cross_validate(
            momentum, RETURNS.mask(RETURNS["B"].eq(RETURNS["B"].iloc[3]), np.nan).assign(A=0.0, C=0.0), splits
        )
    with pytest.raises(po.InputError, match="other dates"):
        cross_validate(momentum, RETURNS.iloc[1:], splits)
    with pytest.raises(po.InputError, match="tested by several"):
        cross_validate(momentum, RETURNS, walk_forward(RETURNS.index, train=60, test=30, step=10))
    with pytest.raises(po.InputError, match="sees returns only"):
        cross_validate(lambda moment: pd.Series(1.0, moment.market.assets), RETURNS, splits)

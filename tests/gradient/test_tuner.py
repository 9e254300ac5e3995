"""The tuner: windows that do not look ahead, domains, and a fit whose answer is known."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import portfolioopt as po
from portfolioopt.gradient import Fraction, Positive, fit, solution_map, walk_forward

counts = st.integers(1, 40)


@settings(max_examples=60, derandomize=True, deadline=None)
@given(rows=st.integers(1, 300), train=counts, test=counts, step=counts, gap=st.integers(0, 20))
def test_windows_never_look_ahead(rows: int, train: int, test: int, step: int, gap: int) -> None:
    if rows < train + gap + test:
        with pytest.raises(po.InputError, match="too short"):
            walk_forward(rows, train=train, test=test, step=step, gap=gap)
        return
    windows = walk_forward(rows, train=train, test=test, step=step, gap=gap)
    for window in windows:
        assert window.test.start - window.train.stop == gap
        assert window.train.stop - window.train.start == train
        assert window.test.stop - window.test.start == test
        assert window.train.start >= 0
        assert window.test.stop <= rows
    # what comes later does not move what was cut before
    longer = walk_forward(rows + 17, train=train, test=test, step=step, gap=gap)
    assert longer[: len(windows)] == windows


def test_by_default_every_row_is_judged_once() -> None:
    judged = np.concatenate([np.arange(w.test.start, w.test.stop) for w in walk_forward(107, train=20, test=10)])
    assert len(set(judged)) == len(judged)


def test_bad_windows_are_refused() -> None:
    with pytest.raises(po.InputError, match="train"):
        walk_forward(100, train=0, test=5)
    with pytest.raises(po.InputError, match="gap"):
        walk_forward(100, train=5, test=5, gap=-1)


def test_domains() -> None:
    assert float(Positive(3.0).value) == pytest.approx(3.0)
    assert float(Fraction(0.25).value) == pytest.approx(0.25)
    with pytest.raises(po.InputError, match="Positive"):
        Positive(0.0)
    with pytest.raises(po.InputError, match="Fraction"):
        Fraction(1.0)


class Dials(eqx.Module):
    scale: Positive
    share: Fraction
    label: str = eqx.field(static=True, default="dials")


def test_a_quadratic_is_minimised_in_its_domains() -> None:
    targets = np.array([[2.0, 0.7], [4.0, 0.9]])

    def loss(dials: Dials, target):
        return (dials.scale.value - target[0]) ** 2 + (dials.share.value - target[1]) ** 2

    found = fit(Dials(Positive(1.0), Fraction(0.5)), loss, targets, held_out=targets[:1], steps=300)
    assert float(found.parameters.scale.value) == pytest.approx(3.0, abs=1e-2)
    assert float(found.parameters.share.value) == pytest.approx(0.8, abs=1e-2)
    assert found.parameters.label == "dials"
    history = found.history
    assert history["loss"].iloc[found.step] == history["loss"].min()
    assert history["scale"].iloc[0] == pytest.approx(1.0)
    assert history.notna().all(axis=None)
    assert jnp.zeros(1).dtype == jnp.float32  # JAX is left alone


def test_undefined_losses_and_ragged_windows_are_refused() -> None:
    with pytest.raises(po.StalledError, match="step 0"):
        fit(Positive(1.0), lambda p, w: p.value * jnp.nan * w, np.ones(2))
    with pytest.raises(po.InputError, match="leading axis"):
        fit(Positive(1.0), lambda p, w: p.value, (np.ones(2), np.ones(3)))


@pytest.mark.slow
def test_it_finds_the_risk_aversion_that_made_the_weights() -> None:
    """Weights of a known risk aversion are the data; the fit starts far away and comes back to it."""
    rng = np.random.default_rng(3)
    assets = pd.Index(list("abcd"))
    histories = 0.01 * rng.standard_t(5, (3, 80, 4)) + np.linspace(0.0, 0.003, 4)
    problem = po.Problem(
        po.ScenarioSet(histories[0], assets=assets),
        po.ExpectedReturn() - po.CVaR(0.9),
        [po.Budget(), po.Bounds(0.0, 0.6)],
    )
    weights = solution_map(problem, ["returns", "CVaR.weight"], smoothing=1e-2)
    with jax.enable_x64(True):
        wanted = np.stack([weights({"returns": history, "CVaR.weight": 0.2}) for history in histories])

    def loss(aversion: Positive, window):
        history, target = window
        return jnp.sum((weights({"returns": history, "CVaR.weight": aversion.value}) - target) ** 2)

    found = fit(Positive(1.0), loss, (histories, wanted), steps=80)
    assert float(found.parameters.value) == pytest.approx(0.2, rel=0.02)

"""What a result says: its report adds up, its words are complete, and making it leaves no trace in JAX."""

from __future__ import annotations

import subprocess
import sys
import threading
import weakref
from collections import OrderedDict
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import portfolioopt as po
from portfolioopt.solve import engine
from portfolioopt.solve.engine import compilations
from tests.oracles.references import check_certificate, violations

ASSETS = pd.Index(["Ash", "Elm", "Fir", "Oak", "Yew"])
SECTORS = pd.Series(["leaf", "leaf", "needle", "leaf", "needle"], ASSETS)
PROBABILITIES = np.random.default_rng(5).dirichlet(np.full(20, 4.0))
DAYS = pd.bdate_range("2024-01-01", periods=20, name="date")


def scenarios(seed: int = 0, s: int = 20) -> po.ScenarioSet:
    rng = np.random.default_rng(seed)
    returns = 0.01 * rng.standard_t(4, (s, 5)) + 0.002 * rng.normal(size=5)
    p = PROBABILITIES if s == 20 else None
    return po.ScenarioSet(pd.DataFrame(returns, index=DAYS[:s], columns=ASSETS), p)


HELD = pd.Series([0.3, 0.2, 0.1, 0.2, 0.2], ASSETS)


def problem(seed: int = 0, s: int = 20) -> po.Problem:
    return po.Problem(
        scenarios(seed, s),
        po.ExpectedReturn() - 0.5 * po.CVaR(0.9) - po.ProportionalCost(bps=5),
        [
            po.Budget(),
            po.Bounds(0.0, 0.4),
            po.GroupLimit(SECTORS, lower={"needle": 0.2}, upper={"leaf": 0.7}),
            po.TradeLimit(0.25),
            po.CVaRLimit(0.9, 0.1),
            po.ReturnTarget(-0.01),
        ],
        holdings=HELD,
    )


@pytest.fixture(scope="module")
def result() -> po.Result:
    return po.optimize(problem())


def weights(result: po.Result) -> pd.Series:
    assert result.weights is not None
    return result.weights


# -- numbers ---------------------------------------------------------------------------------------------------------
def test_the_weights(result: po.Result) -> None:
    w = weights(result)
    assert w.index.equals(ASSETS)
    assert w.dtype == np.float64
    assert w.sum() == pytest.approx(1.0, abs=1e-12)
    assert result.status is po.Status.optimal
    assert result.status.name == "optimal"
    assert result.iterations > 0
    check_certificate(result)


def test_the_terms_add_up_to_the_objective(result: po.Result) -> None:
    terms, w = result.terms, weights(result)
    assert terms.columns.tolist() == ["term", "coefficient", "value", "contribution"]
    assert terms["term"].tolist() == ["ExpectedReturn()", "CVaR(beta=0.9)", "ProportionalCost(bps=5)"]
    assert terms["coefficient"].tolist() == [1.0, -0.5, -1.0]
    assert terms["contribution"].sum() == pytest.approx(result.objective, rel=1e-12)
    data = result.problem.scenarios
    values = [data.mean() @ w, data.tail(w, 0.9).cvar, 5e-4 * (w - HELD).abs().sum()]
    np.testing.assert_allclose(terms["value"], values, rtol=1e-12)
    assert result.expected_return == pytest.approx(values[0], rel=1e-12)
    assert result.risk.loc[0.9, "cvar"] == pytest.approx(values[1], rel=1e-12)
    assert result.risk.loc[0.9, "var"] == data.tail(w, 0.9).var
    variance = w @ data.covariance() @ w
    assert result.volatility == pytest.approx(np.sqrt(variance), rel=1e-12)


def test_the_constraint_report(result: po.Result) -> None:
    frame = result.constraints
    assert frame.columns.tolist() == [
        "name", "constraint", "sense", "value", "limit", "slack", "binding", "shadow_price",
    ]  # fmt: skip
    assert frame["name"].tolist() == frame.index.tolist()
    assert list(dict.fromkeys(frame["constraint"])) == [c.name for c in result.problem.constraints]
    assert frame["constraint"].value_counts().to_dict() == {
        "Budget": 1, "Bounds": 10, "GroupLimit": 2, "TradeLimit": 5, "CVaRLimit(0.9)": 1, "ReturnTarget": 1,
    }  # fmt: skip
    w = weights(result)
    assert frame.loc["Budget", "value"] == pytest.approx(1.0, abs=1e-12)
    assert frame.loc["GroupLimit[leaf]", "value"] == pytest.approx(w[SECTORS == "leaf"].sum(), abs=1e-15)
    assert frame.loc["GroupLimit[needle]", "sense"] == ">="
    assert frame.loc["TradeLimit[Fir]", "value"] == pytest.approx(abs(w["Fir"] - HELD["Fir"]), abs=1e-15)
    assert frame.loc["CVaRLimit(0.9)", "value"] == result.risk.loc[0.9, "cvar"]
    assert frame.loc["ReturnTarget", "value"] == pytest.approx(result.expected_return, rel=1e-12)

    room = np.where(frame["sense"] == "<=", frame["limit"] - frame["value"], frame["value"] - frame["limit"])
    room = np.where(frame["sense"] == "==", -np.abs(room), room)
    np.testing.assert_allclose(frame["slack"], room, atol=1e-16)
    assert frame["slack"].min() >= -1e-12
    assert frame["binding"].dtype == bool
    assert frame["binding"].any()
    assert (frame["shadow_price"][~frame["binding"]] == 0.0).all()
    assert (frame["shadow_price"][frame["sense"] != "=="] >= 0.0).all()
    assert frame.notna().all(axis=None)


@pytest.mark.slow
def test_no_constraint_gives_an_empty_report_with_the_same_columns(result: po.Result) -> None:
    data = scenarios()
    bounded = po.Problem(data, -po.CVaR(0.9) - po.ProportionalCost(5), holdings=HELD)
    empty = po.optimize(bounded).constraints
    assert len(empty) == 0
    assert empty.columns.tolist() == result.constraints.columns.tolist()


def test_the_tail_weights_reproduce_the_cvar() -> None:
    base = problem()
    both = base.replace(objective=base.objective - 0.2 * po.CVaR(0.75))
    solved = po.optimize(both)
    tails = solved.tail_weights
    assert set(tails) == {0.9, 0.75}
    losses = solved.problem.scenarios.losses(weights(solved)).to_numpy()
    for beta, q in tails.items():
        assert q.shape == (20,)
        assert q.sum() == pytest.approx(1.0, rel=1e-12)
        assert (q >= 0).all()
        assert (q <= PROBABILITIES / (1 - beta) * (1 + 1e-12)).all()
        assert q @ losses == pytest.approx(float(solved.risk.loc[beta, "cvar"]), rel=1e-8)  # type: ignore[arg-type]


def test_a_level_without_a_price_has_no_tail_weights() -> None:
    base = problem()
    loose = po.CVaRLimit(0.75, 0.2)
    solved = po.optimize(base.replace(constraints=[*base.constraints, loose]))
    assert set(solved.risk.index) == {0.9, 0.75}
    assert set(solved.tail_weights) == {0.9}


def test_the_worst_scenarios(result: po.Result) -> None:
    w, data = weights(result), result.problem.scenarios
    frame = result.tail_scenarios(n=4)
    losses = data.losses(w)
    assert frame.index.tolist() == losses.nlargest(4).index.tolist()
    assert frame.index.name == "date"
    assert frame["loss"].is_monotonic_decreasing
    np.testing.assert_allclose(frame["loss"], losses.nlargest(4))
    shares = pd.Series(data.tail(w, 0.9).weights, index=data.index)
    np.testing.assert_allclose(frame["tail_probability"], shares[frame.index])
    for day, row in frame.iterrows():
        parts = -data.returns.loc[day] * w
        assert row["worst_asset"] == parts.idxmax()
        assert row["worst_asset_loss"] == pytest.approx(parts.max(), rel=1e-12)
        assert row["probability"] == pytest.approx(PROBABILITIES[DAYS.get_loc(day)])
    whole = result.tail_scenarios(0.5, n=100)
    assert len(whole) == 20
    assert whole["tail_probability"].sum() == pytest.approx(1.0)


def test_timings_are_plausible(result: po.Result) -> None:
    again = po.optimize(problem())
    for t in (result.timings, again.timings):
        assert min(t.compile, t.solve, t.certify, t.total) >= 0.0
        assert t.compile + t.solve + t.certify <= t.total
    assert again.timings.compile == 0.0
    assert again.timings.solve > 0.0


# -- words -----------------------------------------------------------------------------------------------------------
def test_the_text_of_a_result(result: po.Result) -> None:
    text = repr(result)
    assert text.startswith("Result: optimal, certified to a relative gap of")
    assert "binding constraints" in text
    assert result.summary().loc["status", "value"] == "optimal"
    w = weights(result)
    for asset in w.index[w.abs() > 1e-8]:
        assert asset in text
    for line in result.constraints.index[result.constraints["binding"]]:
        assert line in text
    assert "VaR / CVaR at 0.9" in text


def test_the_html_of_a_result(result: po.Result) -> None:
    page = result._repr_html_()
    assert page.count("<table") == page.count("</table>") == 3
    assert page.count("<div") == page.count("</div>")
    assert "Binding constraints" in page
    assert "nan" not in page.lower()


def test_long_results_are_cut_and_names_are_escaped() -> None:
    rng = np.random.default_rng(1)
    names = ["<b>bold</b>", *(f"A{i:02d}" for i in range(1, 16))]
    data = po.ScenarioSet(pd.DataFrame(0.01 * rng.normal(size=(256, 16)), columns=names))
    held = pd.Series(1 / 16, index=names)
    net = po.ExpectedReturn() - 0.1 * po.CVaR(0.9) - po.ProportionalCost(1)
    solved = po.optimize(po.Problem(data, net, [po.Budget(), po.Bounds(0.03, 0.2)], holdings=held))
    text = repr(solved)
    assert "... and 1 more" in text
    assert "<b>bold" not in solved._repr_html_()
    assert "&lt;b&gt;bold" in solved._repr_html_()


# -- traces ----------------------------------------------------------------------------------------------------------
def jax_settings() -> dict[str, object]:
    return dict(jax.config.values)


def test_solving_leaves_jax_as_it_was() -> None:
    before = jax_settings()
    assert before["jax_enable_x64"] is False
    po.optimize(problem())
    assert jax_settings() == before
    assert jnp.arange(3.0).dtype == jnp.float32
    assert jnp.asarray(np.ones(3)).dtype == jnp.float32


def test_failing_leaves_jax_as_it_was() -> None:
    before = jax_settings()
    base = problem().replace(constraints=[po.Budget(), po.Bounds()])
    impossible = base.replace(constraints=[po.Budget(), po.Bounds(), po.Budget(2.0, name="Twice")])
    assert po.optimize(impossible, raise_on_failure=False).status is po.Status.infeasible
    with pytest.raises(po.StalledError):
        po.optimize(base, max_iterations=1)
    assert jax_settings() == before


def test_importing_leaves_jax_as_it_is() -> None:
    root = Path(__file__).parents[2]
    script = (
        "import sys; sys.path[:0] = [{!r}, {!r}]\n"
        "import jax; before = dict(jax.config.values)\n"
        "import portfolioopt, portfolioopt_kernels\n"
        "assert dict(jax.config.values) == before\n"
        "assert 'cvxpy' not in sys.modules and 'matplotlib' not in sys.modules\n"
    ).format(str(root), str(root / "kernels"))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr


def test_threads_get_the_same_answer(result: po.Result) -> None:
    found: dict[int, po.Result] = {}
    widths: dict[int, object] = {}

    def work(number: int) -> None:
        found[number] = po.optimize(problem())
        widths[number] = jnp.arange(3.0).dtype

    before = jax_settings()
    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    for number, other in found.items():
        np.testing.assert_array_equal(weights(other), weights(result))
        assert other.certificate == result.certificate
        assert widths[number] == jnp.float32
    assert jax_settings() == before


def test_a_user_who_works_in_double_precision_may_go_on_doing_so(result: po.Result) -> None:
    with jax.enable_x64(True):
        other = po.optimize(problem())
        assert jnp.arange(3.0).dtype == jnp.float64
    np.testing.assert_array_equal(weights(other), weights(result))


def test_one_shape_is_compiled_once() -> None:
    po.optimize(problem())
    before = compilations()
    for seed in range(1, 4):
        po.optimize(problem(seed))
    po.optimize(problem(), tolerance=1e-4, max_iterations=50)
    assert compilations() == before


@pytest.mark.slow
def test_sizes_of_one_bucket_share_an_executable() -> None:
    rng = np.random.default_rng(2)

    def solve(s: int, n: int, rows: int) -> po.Result:
        data = po.ScenarioSet(pd.DataFrame(0.01 * rng.normal(size=(s, n)), columns=[f"A{i}" for i in range(n)]))
        groups = {asset: "first" if i < n // 2 else "second" for i, asset in enumerate(data.assets)}
        limits = po.GroupLimit(groups, upper=dict(list({"first": 0.8, "second": 0.9}.items())[: rows - 1]))
        return po.optimize(po.Problem(data, -po.CVaR(0.9), [po.Budget(), po.Bounds(), limits]))

    solve(248, 34, 2)
    before = compilations()
    for s, n, rows in ((241, 33, 2), (248, 33, 3), (244, 34, 3)):
        check_certificate(solve(s, n, rows))
    assert compilations() == before
    solve(249, 34, 2)
    assert compilations() == before + 1


def test_a_long_process_lets_go_of_the_kernels_it_used_longest_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_executables", OrderedDict())
    monkeypatch.setattr(engine, "_MOST_MAPS", 1.0)

    def double(x: jax.Array) -> jax.Array:
        return 2.0 * x

    alive = []
    for size in (1, 2, 3, 1, 4):
        if size == 4:
            assert engine._maps_used() > 0.0 or sys.platform != "linux"
            monkeypatch.setattr(engine, "_maps_used", lambda: 1.1)
        np.testing.assert_array_equal(engine.call(double, np.ones(size))[0], np.full(size, 2.0))
        alive.append(weakref.ref(list(engine._executables.values())[-1]))
    assert [reference() is not None for reference in alive] == [True, False, False, True, True]
    before = compilations()
    engine.call(double, np.ones(1))
    assert compilations() == before
    engine.call(double, np.ones(2))
    assert compilations() == before + 1


# -- the problem a result belongs to ---------------------------------------------------------------------------------
def test_a_problem_cannot_be_changed_from_outside() -> None:
    base = problem()
    first = po.optimize(base)
    holdings = base.holdings
    assert holdings is not None
    holdings[:] = 99.0
    frame = base.scenarios.returns
    frame[:] = 99.0
    with pytest.raises(ValueError, match="read-only"):
        base.scenarios.matrix[0, 0] = 1.0
    np.testing.assert_array_equal(weights(po.optimize(base)), weights(first))


def test_a_problem_with_one_part_exchanged() -> None:
    base = problem()
    looser = base.replace(constraints=[po.Budget(), po.Bounds(0.0, 0.9)])
    assert po.optimize(looser).objective >= po.optimize(base).objective
    assert [c.name for c in looser.constraints] == ["Budget", "Bounds"]
    assert max(violations(base, weights(po.optimize(base))).values()) <= 1e-12
    with pytest.raises(po.InputError, match="a problem has no 'budget'"):
        base.replace(budget=2.0)

"""Runs end to end at toy sizes, the verdict on records, and the page made from files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import __main__ as command
from benchmarks import aims, isolate, one, report
from benchmarks.options import FULL, QUICK, Options
from benchmarks.peers import OURS, PEERS
from benchmarks.timing import OFTEN, timed

SAME = {"problem": "P1", "data": "factor_t", "scenarios": 1_000, "assets": 50}


def record(peer: str, objective: float, violation: float = 0.0, seconds: float = 1.0, **more: Any) -> dict[str, Any]:
    return {
        "peer": peer,
        "status": "ok",
        **SAME,
        "objective": objective,
        "violation": violation,
        "seconds": seconds,
        "details": {},
        **more,
    }


def test_the_best_known_objective_is_of_a_clean_answer() -> None:
    records = [
        record(OURS, -2.0, seconds=0.1),
        record("clarabel", -2.000001, violation=2e-8, seconds=0.6),
        record("highs-dual", -2.0, seconds=0.7),
        record("cvqp", -1.9, violation=1e-2, seconds=0.05),
        record("mpax", -2.1, seconds=0.01),
        {"peer": "skfolio", "status": "time limit", **SAME},
    ]
    one.judge(records)
    assert [r.get("best_known") for r in records] == [-2.0] * 5 + [None]
    assert [r.get("exact") for r in records] == [True, True, True, False, False, None]
    assert records[4]["gap"] == pytest.approx(0.05)
    assert one.fastest_exact(records) is records[1]
    assert one.cell(records[1]) == "600 ms"
    assert one.cell(records[3]) == "50 ms (gap -5.0e-02, violation 1.0e-02)"
    assert one.cell(records[5]) == "time limit"
    goal = one.goals(records)[0]
    assert (goal.reached, goal.met) == ("6x", True)
    assert one.goals(records)[1].met is None


def test_aims_count_the_right_way_round() -> None:
    assert aims.at_least("x", aims.Aim(5), 4.0).met is False
    assert aims.at_most("x", aims.Aim(5), 4.0).met is True
    assert aims.at_most("x", aims.Aim(5), None).reached == "not measured"
    assert aims.losses(1_000, 50) is None
    assert aims.losses(100_000, 100) == aims.LOSSES[100]
    assert aims.losses(100_000, 500) == aims.LOSSES[500]


def test_options() -> None:
    assert Options().sizes_of("factor_t") == FULL
    assert Options(quick=True).sizes_of("factor_t") == QUICK
    assert Options(sizes=((60, 5),)).sizes_of("bootstrap") == ()
    assert Options().wants("P1", FULL[-1])
    assert not Options().wants("P2", FULL[-1])
    assert Options(full=True).wants("P2", FULL[-1])
    assert Options(sizes=FULL).wants("P2", FULL[-1])
    assert Options(peers=("skfolio", OURS)).chosen() == (OURS, "skfolio")


def test_short_calls_are_repeated() -> None:
    pytest.importorskip("highspy")
    from benchmarks.instances import make

    figures = [timing.figures for timing in timed(PEERS["highs-dual"].prepare(make("P1", "factor_t", 60, 5)))]
    assert len(figures) == 1 + OFTEN
    assert figures[-1]["repeats"] == OFTEN
    assert figures[-1]["least_seconds"] <= figures[-1]["seconds"]


def test_a_measurement_that_hangs_is_ended() -> None:
    arguments = {"peer": "highs-dual", "problem": "P1", "data": "factor_t", "scenarios": 60, "assets": 5}
    found = isolate.run("benchmarks.one:measure", arguments, seconds=0.05, gigabytes=None)
    assert found["status"] == "time limit"
    failed = isolate.run("benchmarks.one:measure", arguments | {"problem": "P9"}, seconds=60, gigabytes=None)
    assert failed["status"] == "failed"
    assert "P9" in failed["why"]


def test_who_runs_out_of_time_is_not_tried_at_larger_sizes() -> None:
    pytest.importorskip("highspy")
    options = Options(
        seconds=0.05, sizes=((80, 5), (60, 5)), problems=("P1",), data=("factor_t",), peers=("highs-dual",)
    )
    found = list(one.run(options))
    assert [(r["scenarios"], r["status"]) for r in found] == [(60, "time limit"), (80, "skipped")]


def test_missing_and_unable_peers_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    monkeypatch.setitem(PEERS, "skfolio", replace(PEERS["skfolio"], packages=("no-such-package",)))
    options = Options(sizes=((60, 5),), problems=("P4",), data=("factor_t",), peers=("skfolio", "fortitudo"))
    found = {r["peer"]: r for r in one.run(options)}
    assert found["skfolio"]["status"] == "not installed"
    assert found["fortitudo"]["status"] == "not supported"
    assert one.report(list(found.values()), {})


def test_command_and_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("highspy")
    pytest.importorskip("matplotlib")
    narrow = ["--sizes", "60x5", "--problems", "P1", "--data", "factor_t", "--peers", "highs-primal,highs-dual"]
    monkeypatch.setattr("sys.argv", ["benchmarks", "one", *narrow, "--output", str(tmp_path)])
    command.main()
    assert "HiGHS simplex, dual LP" in capsys.readouterr().out
    payload = json.loads((tmp_path / "one.json").read_text())
    assert all(r["exact"] for r in payload["records"])
    assert payload["machine"]["versions"]["highspy"]

    scale = [record(OURS, -1.0, seconds=s / 1e5, axis="scenarios") | {"scenarios": s} for s in (10_000, 100_000)]
    growth = {"benchmark": "growth", "machine": payload["machine"], "settings": payload["settings"], "records": scale}
    (tmp_path / "growth.json").write_text(json.dumps(growth))
    written = report.write(tmp_path, tmp_path / "docs")
    assert {path.name for path in written} == {"benchmarks.md", "benchmark_scenarios.png"}
    page = written[0].read_text()
    assert "HiGHS simplex, primal LP" in page
    assert "power of S" in page
    assert "images/benchmark_scenarios.png" in page
    assert (tmp_path / "docs" / "images" / "benchmark_scenarios.png").stat().st_size > 1_000


def test_a_page_without_measurements(tmp_path: Path) -> None:
    assert "Nothing has been measured" in report.write(tmp_path, tmp_path / "docs")[0].read_text()


@pytest.mark.parametrize("argument", ["--sizes=60by5", "--problems=P9", "--peers=nobody"])
def test_unknown_words_are_refused(argument: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["benchmarks", "one", argument])
    with pytest.raises(SystemExit):
        command.main()

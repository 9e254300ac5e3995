"""Every peer that is installed poses the problems rightly: it agrees with HiGHS to the accuracy it promises."""

from __future__ import annotations

from functools import cache

import pytest

from benchmarks.instances import PROBLEMS, Instance, make
from benchmarks.peers import OURS, PEERS

pytest.importorskip("highspy")

QUICK = {"P1", "P4"}


@cache
def reference(problem: str) -> tuple[Instance, float]:
    """The instance and the objective of HiGHS on its dual LP."""
    instance = make(problem, "factor_t", 60, 5)
    answer = PEERS["highs-dual"].prepare(instance)()
    assert instance.violation(answer.weights) <= 1e-9
    return instance, instance.objective(answer.weights)


def test_keys_are_names() -> None:
    assert OURS in PEERS
    assert all(peer.key == key for key, peer in PEERS.items())
    assert len({peer.title for peer in PEERS.values()}) == len(PEERS)
    assert all(problem in PROBLEMS for peer in PEERS.values() for problem in peer.unsupported)


@pytest.mark.filterwarnings("ignore")  # of other people's packages
@pytest.mark.parametrize("key", PEERS)
@pytest.mark.parametrize(
    "problem", [problem if problem in QUICK else pytest.param(problem, marks=pytest.mark.slow) for problem in PROBLEMS]
)
def test_peer_agrees_with_highs(problem: str, key: str) -> None:
    peer = PEERS[key]
    if peer.missing():
        pytest.skip(f"not installed: {', '.join(peer.missing())}")
    if problem in peer.unsupported:
        pytest.skip(peer.unsupported[problem])
    instance, best = reference(problem)
    answer = peer.prepare(instance)()
    assert instance.violation(answer.weights) <= peer.accuracy
    assert instance.objective(answer.weights) == pytest.approx(best, rel=peer.accuracy)

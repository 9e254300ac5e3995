"""The solvers under test."""

from __future__ import annotations

from . import conic, first_order, highs, libraries, ours
from .base import Answer as Answer
from .base import Peer as Peer
from .base import Solve as Solve
from .base import version as version

OURS = "portfolioopt"
TIGHT = 1e-8

_NO_LIMIT = {"P4": "no CVaR limit"}
_NO_TURNOVER = {"P2": "limits the trade in each asset, not their sum"}

_LIST = (
    Peer(OURS, "portfolioopt", ("portfolioopt",), ours.prepare),
    Peer("highs-primal", "HiGHS simplex, primal LP", ("highspy",), highs.primal),
    Peer("highs-dual", "HiGHS simplex, dual LP", ("highspy",), highs.dual),
    Peer("clarabel", "Clarabel", ("clarabel",), conic.clarabel),
    Peer("cvxpy", "Clarabel through cvxpy", ("cvxpy", "clarabel"), conic.cvxpy),
    Peer("moreau", "Moreau", ("moreau",), conic.moreau),
    Peer("fortitudo", "fortitudo.tech", ("fortitudo.tech",), libraries.fortitudo, unsupported=_NO_LIMIT),
    Peer("skfolio", "skfolio", ("skfolio",), libraries.skfolio),
    Peer("riskfolio", "Riskfolio-Lib", ("Riskfolio-Lib",), libraries.riskfolio, unsupported=_NO_TURNOVER),
    Peer("pyportfolioopt", "PyPortfolioOpt", ("pyportfolioopt",), libraries.pyportfolioopt),
    Peer("cvqp", "cvqp, default tolerance", ("cvqp",), first_order.cvqp(), accuracy=2e-2),
    Peer("cvqp-tight", "cvqp, 1e-8", ("cvqp",), first_order.cvqp(TIGHT)),
    Peer("mpax", "MPAX, default tolerance", ("mpax",), first_order.mpax(1e-4), accuracy=1e-3),
    Peer("mpax-tight", "MPAX, 1e-8", ("mpax",), first_order.mpax(TIGHT)),
)
PEERS = {peer.key: peer for peer in _LIST}

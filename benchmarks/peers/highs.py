"""HiGHS simplex on the primal and on the dual linear program; and one model that is solved again and again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..instances import FloatArray, Instance
from . import lp as programs
from .base import Answer, Solve
from .lp import LinearProgram


class Model:
    """A HiGHS model that keeps its basis from one solve to the next."""

    def __init__(self, lp: LinearProgram) -> None:
        import highspy

        data: Any = highspy.HighsLp()
        data.num_row_, data.num_col_ = len(lp.row_lower), len(lp.cost)
        data.col_cost_, data.col_lower_, data.col_upper_ = lp.cost, lp.lower, lp.upper
        data.row_lower_, data.row_upper_ = lp.row_lower, lp.row_upper
        data.a_matrix_.format_ = highspy.MatrixFormat.kColwise
        data.a_matrix_.start_, data.a_matrix_.index_ = lp.matrix.indptr, lp.matrix.indices
        data.a_matrix_.value_ = lp.matrix.data
        self.highs: Any = highspy.Highs()
        self.highs.setOptionValue("output_flag", False)
        self.highs.setOptionValue("solver", "simplex")
        self.highs.setOptionValue("primal_feasibility_tolerance", 1e-9)
        self.highs.setOptionValue("dual_feasibility_tolerance", 1e-9)
        self.highs.passModel(data)

    def run(self) -> Any:
        """Solve, from the basis of the last solve where there is one; returns HiGHS's solution."""
        self.highs.run()
        status = self.highs.getModelStatus()
        if self.highs.modelStatusToString(status) != "Optimal":
            raise RuntimeError(f"HiGHS: {self.highs.modelStatusToString(status)}")
        return self.highs.getSolution()

    @property
    def iterations(self) -> int:
        return int(self.highs.getInfo().simplex_iteration_count)


def _solver(program: Callable[[Instance], LinearProgram], weights: Callable[[Any], Any]) -> Callable[[Instance], Solve]:
    def prepare(instance: Instance) -> Solve:
        lp = program(instance)

        def solve() -> Answer:
            model = Model(lp)
            solution = model.run()
            return Answer(np.array(weights(solution)[: instance.assets]), details={"iterations": model.iterations})

        return solve

    return prepare


def dual_weights(solution: Any) -> FloatArray:
    """Weights from the multipliers of the dual program's rows."""
    return -np.array(solution.row_dual)


primal = _solver(programs.primal, lambda solution: solution.col_value)
dual = _solver(programs.dual, dual_weights)

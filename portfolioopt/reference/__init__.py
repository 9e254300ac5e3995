"""Any problem as a cvxpy one, solved by general solvers: a second opinion, and a place for terms of one's own."""

from .solving import Reference as Reference
from .solving import solve as solve
from .translate import CvxpyProblem as CvxpyProblem
from .translate import as_cvxpy as as_cvxpy

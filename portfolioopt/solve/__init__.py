"""Solving a problem: the door, the result, its certificate."""

from .certificate import Certificate as Certificate
from .optimize import optimize as optimize
from .result import Result as Result
from .result import Status as Status
from .result import Timings as Timings

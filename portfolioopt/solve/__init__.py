"""Solving a problem: the door, the result, its certificate."""

from .cache import compile_cache as compile_cache
from .certificate import Certificate as Certificate
from .optimize import optimize as optimize
from .resolver import Resolver as Resolver
from .result import Result as Result
from .result import Status as Status
from .result import Timings as Timings
from .sweep import Sweep as Sweep
from .sweep import frontier as frontier
from .sweep import sweep as sweep
from .together import optimize_many as optimize_many
from .what_ifs import WhatIfs as WhatIfs
from .what_ifs import what_ifs as what_ifs

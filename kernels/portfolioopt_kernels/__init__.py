"""JAX kernels of portfolioopt: arrays in, arrays out."""

from .interior_point import solve as solve
from .newton import Factored as Factored
from .program import CONVERGED as CONVERGED
from .program import ITERATION_LIMIT as ITERATION_LIMIT
from .program import STALLED as STALLED
from .program import HingeProgram as HingeProgram
from .program import Settings as Settings
from .program import Solution as Solution
from .program import exchange as exchange

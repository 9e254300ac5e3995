"""Derivatives of optimal portfolios, and of what they are worth, with respect to what went in."""

from .prices import Sensitivities as Sensitivities
from .prices import sensitivities as sensitivities
from .solution_map import SolutionMap as SolutionMap
from .solution_map import solution_map as solution_map
from .tuner import Fit as Fit
from .tuner import Fraction as Fraction
from .tuner import Positive as Positive
from .tuner import Split as Split
from .tuner import fit as fit
from .tuner import walk_forward as walk_forward

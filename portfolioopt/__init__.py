"""Certified Mean-CVaR portfolios from scenario matrices, in JAX.

``import portfolioopt as po``; see `optimize`, `Problem` and `ScenarioSet`.
"""

from . import attribution as attribution
from . import data as data
from . import rebalance as rebalance
from . import scenarios as scenarios
from .errors import ConfigError as ConfigError
from .errors import InfeasibleError as InfeasibleError
from .errors import InputError as InputError
from .errors import PortfolioOptError as PortfolioOptError
from .errors import SolveError as SolveError
from .errors import StalledError as StalledError
from .errors import UnboundedError as UnboundedError
from .errors import UnknownNameError as UnknownNameError
from .problem import Bounds as Bounds
from .problem import Budget as Budget
from .problem import CVaR as CVaR
from .problem import CVaRLimit as CVaRLimit
from .problem import ExpectedReturn as ExpectedReturn
from .problem import GroupLimit as GroupLimit
from .problem import Objective as Objective
from .problem import Problem as Problem
from .problem import ProportionalCost as ProportionalCost
from .problem import ReturnTarget as ReturnTarget
from .problem import TradeLimit as TradeLimit
from .problem import Turnover as Turnover
from .scenarios import ScenarioSet as ScenarioSet
from .solve import Certificate as Certificate
from .solve import Resolver as Resolver
from .solve import Result as Result
from .solve import Status as Status
from .solve import Sweep as Sweep
from .solve import Timings as Timings
from .solve import compile_cache as compile_cache
from .solve import frontier as frontier
from .solve import optimize as optimize
from .solve import sweep as sweep

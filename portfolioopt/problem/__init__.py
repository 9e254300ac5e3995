"""The problem language: objective terms, constraints, and a problem made of them."""

from .compile import Compiled as Compiled
from .compile import CompiledTerm as CompiledTerm
from .compile import Lines as Lines
from .constraints import Bounds as Bounds
from .constraints import Budget as Budget
from .constraints import CVaRLimit as CVaRLimit
from .constraints import GroupLimit as GroupLimit
from .constraints import ReturnTarget as ReturnTarget
from .constraints import TradeLimit as TradeLimit
from .constraints import Turnover as Turnover
from .problem import Problem as Problem
from .terms import CVaR as CVaR
from .terms import ExpectedReturn as ExpectedReturn
from .terms import Objective as Objective
from .terms import ProportionalCost as ProportionalCost

"""The same pipeline over history: strategies, books that pay their costs, and what they earned."""

from . import strategies as strategies
from .door import backtest as backtest
from .grid import BacktestGrid as BacktestGrid
from .histories import BootstrapHistories as BootstrapHistories
from .moment import Moment as Moment
from .moment import Strategy as Strategy
from .result import Backtest as Backtest
from .strategies import Allocated as Allocated
from .strategies import BuyAndHold as BuyAndHold
from .strategies import EqualWeight as EqualWeight
from .strategies import FixedWeights as FixedWeights
from .strategies import MeanCVaR as MeanCVaR

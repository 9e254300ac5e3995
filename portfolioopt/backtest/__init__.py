"""The same pipeline over history: strategies, books that pay their costs, and what they earned.

As an attribute ``portfolioopt.backtest`` is the function of that name; names of this package are imported from it, as
in ``from portfolioopt.backtest import performance``.
"""

from . import strategies as strategies
from .comparison import SharpeDifference as SharpeDifference
from .comparison import sharpe_difference as sharpe_difference
from .cross_validation import CrossValidation as CrossValidation
from .cross_validation import cross_validate as cross_validate
from .door import backtest as backtest
from .drawdowns import drawdown as drawdown
from .drawdowns import drawdown_table as drawdown_table
from .grid import BacktestGrid as BacktestGrid
from .histories import BootstrapHistories as BootstrapHistories
from .metric_table import METRICS as METRICS
from .metric_table import metric_table as metric_table
from .metrics import monthly_returns as monthly_returns
from .metrics import performance as performance
from .metrics import rolling_performance as rolling_performance
from .moment import FromFunction as FromFunction
from .moment import Moment as Moment
from .moment import Strategy as Strategy
from .overfitting import BestOfMany as BestOfMany
from .overfitting import Overfitting as Overfitting
from .overfitting import best_of_many as best_of_many
from .overfitting import overfitting_probability as overfitting_probability
from .result import Backtest as Backtest
from .sharpe import deflated_sharpe as deflated_sharpe
from .sharpe import minimum_track_record as minimum_track_record
from .sharpe import probabilistic_sharpe as probabilistic_sharpe
from .sharpe import sharpe_ratio as sharpe_ratio
from .sharpe import sharpe_standard_error as sharpe_standard_error
from .splits import CombinatorialSplits as CombinatorialSplits
from .splits import Split as Split
from .splits import combinatorial_purged as combinatorial_purged
from .splits import walk_forward as walk_forward
from .strategies import Allocated as Allocated
from .strategies import BuyAndHold as BuyAndHold
from .strategies import EqualWeight as EqualWeight
from .strategies import FixedWeights as FixedWeights
from .strategies import MeanCVaR as MeanCVaR
from .validation import Validation as Validation
from .validation import validate as validate

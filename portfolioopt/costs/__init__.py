"""Costs: one object per model, which forecasts in the optimiser and charges in the book, and learns from fills."""

from .adaptive import AdaptiveCostModel as AdaptiveCostModel
from .almgren_chriss import AlmgrenChriss as AlmgrenChriss
from .almgren_chriss import Trajectory as Trajectory
from .almgren_chriss import almgren_chriss_trajectory as almgren_chriss_trajectory
from .calibration import Calibration as Calibration
from .calibration import calibrate as calibrate
from .feedback import ExecutionFeedback as ExecutionFeedback
from .holding import BorrowCosts as BorrowCosts
from .holding import FinancingCosts as FinancingCosts
from .model import CombinedCosts as CombinedCosts
from .model import CostModel as CostModel
from .orders import Close as Close
from .orders import Fill as Fill
from .orders import Order as Order
from .quotes import RefusedTradeError as RefusedTradeError
from .sizing import SizeAdvice as SizeAdvice
from .sizing import advise_size as advise_size
from .trading import ProportionalCosts as ProportionalCosts
from .trading import SpreadCosts as SpreadCosts
from .trading import SquareRootImpact as SquareRootImpact

"""A run in a YAML file: what may stand in it, how it is read, and the problem it describes."""

from .building import Setup as Setup
from .building import build_problem as build_problem
from .model import BoundsConfig as BoundsConfig
from .model import BudgetConfig as BudgetConfig
from .model import Config as Config
from .model import ConstraintsConfig as ConstraintsConfig
from .model import CVaRConfig as CVaRConfig
from .model import CVaRLimitConfig as CVaRLimitConfig
from .model import DataConfig as DataConfig
from .model import GroupConfig as GroupConfig
from .model import LinearConfig as LinearConfig
from .model import MaxHoldingsConfig as MaxHoldingsConfig
from .model import ObjectiveConfig as ObjectiveConfig
from .model import ReportConfig as ReportConfig
from .model import ReturnTargetConfig as ReturnTargetConfig
from .model import RiskConfig as RiskConfig
from .model import RiskLimitConfig as RiskLimitConfig
from .model import ScenariosConfig as ScenariosConfig
from .model import SizeConfig as SizeConfig
from .model import TradeLimitConfig as TradeLimitConfig
from .model import TurnoverConfig as TurnoverConfig
from .reading import load_config as load_config

"""Scenario sets and what makes them."""

from .bootstrap import block_bootstrap as block_bootstrap
from .factor_model import factor_model as factor_model
from .historical import historical as historical
from .scenario_set import ScenarioSet as ScenarioSet
from .source import InMemory as InMemory
from .source import ReturnsSource as ReturnsSource
from .source import widened as widened
from .tail import Tail as Tail
from .tail import quantile as quantile
from .tail import tail as tail

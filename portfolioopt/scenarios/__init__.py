"""Scenario sets and what makes them."""

from .bootstrap import block_bootstrap as block_bootstrap
from .historical import historical as historical
from .scenario_set import ScenarioSet as ScenarioSet
from .tail import Tail as Tail
from .tail import tail as tail

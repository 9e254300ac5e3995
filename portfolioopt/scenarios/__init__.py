"""Scenario sets and what makes them."""

from .scenario_set import ScenarioSet as ScenarioSet
from .tail import Tail as Tail
from .tail import tail as tail

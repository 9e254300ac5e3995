"""Where the risk of a portfolio comes from."""

from .contributions import group_contributions as group_contributions
from .contributions import risk_contributions as risk_contributions

"""Classic allocators, each returning the common `Result`."""

from .black_litterman import black_litterman as black_litterman
from .black_litterman import posterior_scenarios as posterior_scenarios
from .equal_weight import equal_weight as equal_weight
from .herc import herc as herc
from .hrp import hrp as hrp
from .inverse_volatility import inverse_volatility as inverse_volatility
from .kelly import CertaintyEquivalentGrowth as CertaintyEquivalentGrowth
from .kelly import DrawdownCap as DrawdownCap
from .kelly import gaussian_kelly as gaussian_kelly
from .kelly import kelly as kelly
from .kelly import kelly_bet as kelly_bet
from .maximum_diversification import maximum_diversification as maximum_diversification
from .mean_variance import efficient_frontier as efficient_frontier
from .mean_variance import mean_variance as mean_variance
from .mean_variance import minimum_variance as minimum_variance
from .nested_clusters import least_variance as least_variance
from .nested_clusters import nested_clusters as nested_clusters
from .risk_parity import risk_parity as risk_parity
from .risk_parity import risk_parity_batch as risk_parity_batch
from .stack import stack as stack
from .volatility_target import volatility_scaled as volatility_scaled
from .volatility_target import volatility_target as volatility_target

"""Prices and returns, and the bundled sample of real ones."""

from portfolioopt.data.returns import simple_returns
from portfolioopt.data.sample import (
    sample_factor_etfs,
    sample_factors,
    sample_index,
    sample_prices,
    sample_sectors,
)

__all__ = [
    "sample_factor_etfs",
    "sample_factors",
    "sample_index",
    "sample_prices",
    "sample_sectors",
    "simple_returns",
]

"""Markets as they were known, prices and returns, and the bundled sample of real ones."""

from .calendars import align_to_sessions as align_to_sessions
from .calendars import missing_sessions as missing_sessions
from .calendars import month_ends as month_ends
from .calendars import period_ends as period_ends
from .calendars import sessions as sessions
from .market import MarketData as MarketData
from .quality import QualityReport as QualityReport
from .quality import quality_report as quality_report
from .returns import log_returns as log_returns
from .returns import returns_kind as returns_kind
from .returns import simple_returns as simple_returns
from .returns import to_log as to_log
from .returns import to_simple as to_simple
from .sample import sample_factor_etfs as sample_factor_etfs
from .sample import sample_factors as sample_factors
from .sample import sample_index as sample_index
from .sample import sample_prices as sample_prices
from .sample import sample_sectors as sample_sectors
from .synthetic import REGIMES as REGIMES
from .synthetic import Regime as Regime
from .synthetic import SyntheticMarket as SyntheticMarket
from .synthetic import synthetic_market as synthetic_market
from .tables import read_prices as read_prices
from .tables import write_prices as write_prices
from .universe import Universe as Universe
from .vintages import Vintages as Vintages

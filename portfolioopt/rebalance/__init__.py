"""From a target portfolio to trades."""

from .trades import plan_trades as plan_trades
from .trades import trade_summary as trade_summary

"""What has to outlive the process: executions, what cost models learned, decisions and order plans, in a database."""

from .database import StoreError as StoreError
from .store import Store as Store

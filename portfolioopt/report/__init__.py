"""Results for reading: tables for the terminal, pictures, a page of HTML, and the files of a run."""

from .files import write_run as write_run
from .html import write_report as write_report
from .pictures import contribution_bars as contribution_bars
from .pictures import loss_histogram as loss_histogram
from .pictures import save_png as save_png
from .tables import constraints_table as constraints_table
from .tables import groups_table as groups_table
from .tables import summary_table as summary_table
from .tables import trades_table as trades_table
from .tables import weights_table as weights_table

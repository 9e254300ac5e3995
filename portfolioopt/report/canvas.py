"""The fixed style of pictures on paper, and the files and page elements that they become.

They are drawn from fixed settings, so that the same data give the same bytes whatever a user's matplotlibrc says, and
with one ink, which a page of HTML can exchange for its own.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK: Final = "#1f2430"
QUIET: Final = "#6b7280"
GRID: Final = "#dfe3e8"
WIDTH: Final = 9.0  # inches
_STYLE: Final[dict[str, Any]] = {
    "font.family": ["DejaVu Sans"],  # comes with matplotlib, so the picture is the same everywhere
    "font.size": 9.0,
    "text.color": INK,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": QUIET,
    "axes.facecolor": "none",
    "axes.axisbelow": True,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "figure.facecolor": "white",
    "figure.dpi": 100.0,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "svg.hashsalt": "portfolioopt",
    "svg.fonttype": "path",
}

_P = ParamSpec("_P")
_R = TypeVar("_R")


def drawing(draw: Callable[_P, _R]) -> Callable[_P, _R]:
    """Run with our settings instead of the user's, or say what to install."""

    @wraps(draw)
    def drawn(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            import matplotlib as mpl
        except ModuleNotFoundError as error:
            raise ImportError(
                'pictures need matplotlib, which is not installed: pip install "portfolioopt[report]"',
                name="matplotlib",
            ) from error
        settings: dict[Any, Any] = {k: v for k, v in mpl.rcParamsDefault.items() if not k.startswith("backend")}
        settings.update(_STYLE)
        with mpl.rc_context(settings):
            return draw(*args, **kwargs)

    return drawn


@drawing
def save_png(figure: Figure, path: str | Path, *, dpi: int = 150, ground: str = "white") -> Path:
    """Write a picture as PNG; the same picture gives the same bytes.

    Parameters
    ----------
    figure
        What one of the functions here drew.
    path
        File to write.
    dpi
        Pixels per inch; the pictures are 9 inches wide.
    ground
        Colour behind the picture, ``"none"`` for transparency.
    """
    figure.savefig(path, format="png", dpi=dpi, facecolor=ground, metadata={"Software": None})
    return Path(path)


@drawing
def inline_svg(figure: Figure, name: str, description: str) -> str:
    """The picture as an SVG element for a page of HTML, which lends it its colours for ink and grid.

    `name` keeps the identifiers of several pictures on one page apart.
    """
    import html

    buffer = io.StringIO()
    nothing = dict.fromkeys(["Date", "Creator", "Format", "Type"])  # no time, no versions
    figure.savefig(buffer, format="svg", facecolor="none", metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text)  # HTML knows them, and a page without links has no URLs at all
    text = re.sub(r'(<svg [^>]*?) (?:width|height)="[^"]*"', r"\1", text)
    text = re.sub(r'(<svg [^>]*?) (?:width|height)="[^"]*"', r"\1", text)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'href="#', f'href="#{name}-', text)
    text = re.sub(r"url\(#", f"url(#{name}-", text)
    for colour, role in ((INK, "currentColor"), (QUIET, "var(--quiet)"), (GRID, "var(--grid)")):
        text = text.replace(colour, role)
    label = html.escape(description, quote=True)
    return text.replace("<svg", f'<svg role="img" aria-label="{label}"', 1).strip()

"""Tables of estimates in per cent, as text and HTML."""

from __future__ import annotations

import html
from collections.abc import Iterable

import pandas as pd

_PLAIN = ("variance_reduction", "held", "replications")  # columns that are no fractions of NAV


def frame_text(frame: pd.DataFrame) -> str:
    """A table of fractions in per cent of NAV, standard errors with a sign of their own."""
    return _shown(frame).to_string()


def frame_html(title: str, frame: pd.DataFrame, notes: Iterable[str] = ()) -> str:
    """The same for a notebook."""
    lines = "".join(f"<p>{html.escape(note)}</p>" for note in notes)
    return f"<p><b>{html.escape(title)}</b></p>{_shown(frame).to_html()}{lines}"


def basis_points(value: float) -> str:
    """A fraction of NAV in basis points, three digits."""
    return f"{1e4 * value:.3g} bp"


def _shown(frame: pd.DataFrame) -> pd.DataFrame:
    shown = {}
    for name, column in frame.items():
        sign = "±" if str(name) == "standard_error" else ""
        form = "{:.3g}" if name in _PLAIN else sign + "{:.4%}"
        shown[str(name).replace("_", " ")] = [form.format(value) for value in column]
    return pd.DataFrame(shown, index=frame.index.rename(None))

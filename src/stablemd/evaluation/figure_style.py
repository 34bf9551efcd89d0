"""One look for all figures: colours by role, a light matplotlib style, export."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from stablemd.errors import DataError

INK = "#1f262e"
MUTED = "#66707c"
GRID = "#e2e6eb"
WIDTH = 5.4
"""Width of every figure in inches: two stand side by side, one fits a phone."""


@dataclass(frozen=True)
class RoleStyle:
    """How one potential is drawn in every figure.

    Attributes:
        label: name in legends and tables.
        color: hexadecimal; vermilion, blue and grey keep apart for all common
            kinds of colour vision.
        dash: matplotlib dash pattern, so that print in grey keeps them apart too.
        width: line width in points.
    """

    label: str
    color: str
    dash: str | tuple[float, tuple[float, ...]]
    width: float


ROLES: dict[str, RoleStyle] = {
    "before": RoleStyle("before", "#c64f0b", "solid", 1.8),
    "control": RoleStyle("control", "#74717d", (0, (4.0, 1.6)), 1.6),
    "model": RoleStyle("model", "#0b66ab", "solid", 2.2),
    "after": RoleStyle("after", "#0b66ab", "solid", 2.2),
}
"""Styles by role, in drawing order: the trained potential lies on top.

"model" is the potential of an evaluation that compares nothing.
"""


def check_role(role: str) -> None:
    """Raise a DataError unless the role has a style."""
    if role not in ROLES:
        raise DataError(f"there is no role {role!r} in a report; use one of {list(ROLES)}")


_THEME = {
    INK: "ink",
    MUTED: "muted",
    GRID: "grid",
    **{style.color: role for role, style in ROLES.items()},
}

_RC: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 10.0,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "legend.handlelength": 2.2,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "svg.fonttype": "none",
    "svg.hashsalt": "stablemd",
}


@contextmanager
def style() -> Iterator[None]:
    """The settings under which figures are drawn and saved, undone afterwards."""
    with matplotlib.rc_context(_RC):
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of a size in inches, outside of pyplot's global state."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def to_png(figure: Figure, dpi: int = 160) -> bytes:
    """PNG on white, for documents that hold no SVG."""
    buffer = io.BytesIO()
    with style():
        figure.savefig(buffer, format="png", dpi=dpi, facecolor="white")
    return buffer.getvalue()


def to_svg(figure: Figure) -> str:
    """A complete SVG document on white."""
    buffer = io.StringIO()
    with style():
        figure.savefig(buffer, format="svg", facecolor="white", metadata={"Date": None})
    return buffer.getvalue()


def to_inline_svg(figure: Figure, prefix: str, label: str) -> str:
    """An ``<svg>`` element for a page that has several and a dark mode.

    Colours become the page's CSS variables ``--ink``, ``--muted``, ``--grid``,
    ``--before``, ``--after`` and ``--control`` (with the light value as
    fallback), text takes the page's ``--sans`` font, and ids get a prefix, as
    they must be unique on the page.

    Args:
        figure: drawn under ``style``.
        prefix: letters that no other figure of the page uses.
        label: what the figure shows, for screen readers.
    """
    buffer = io.StringIO()
    with style():
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", svg)
    svg = re.sub(r'(xlink:)?href="#([^"]+)"', rf'href="#{prefix}-\2"', svg)
    svg = re.sub(r"""(font: [^;"]*?px) [^;"]*""", r"\1 var(--sans, sans-serif)", svg)
    for color, name in _THEME.items():
        svg = re.sub(color, f"var(--{name}, {color})", svg, flags=re.IGNORECASE)
    width_and_height = re.compile(r'(<svg\b[^>]*?) width="[^"]*"|(<svg\b[^>]*?) height="[^"]*"')
    for _ in range(2):
        svg = width_and_height.sub(lambda m: m.group(1) or m.group(2), svg, count=1)
    accessible = label.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return svg.replace("<svg", f'<svg role="img" aria-label="{accessible}"', 1).strip()

"""Matplotlib figures as inline SVG that takes its colours and its font from the page."""

import contextlib
import io
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Name -> colour on light and on dark ground. Blue and vermilion stay apart under every common colour blindness (Okabe
# and Ito). Figures are drawn in the light colours, which `to_svg` replaces by CSS variables: all must differ.
COLOURS = {
    "ink": ("#1f2328", "#e6edf3"),
    "muted": ("#5f6871", "#9aa4ae"),
    "line": ("#dfe3e8", "#30363d"),
    "reference": ("#8b949e", "#7d8590"),
    "blue": ("#0067a8", "#58b0e8"),
    "vermilion": ("#cc5500", "#f0904c"),
}
INK, MUTED, LINE, REFERENCE, BLUE, VERMILION = (light for light, _ in COLOURS.values())

STYLE = {
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",  # Matplotlib's own: measures alike everywhere; the page's font is narrower
    "font.size": 11,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.major.pad": 6,
    "ytick.major.pad": 6,
}
POINTS_PER_INCH = 72
_CLEAN_UP = tuple(
    (re.compile(pattern, re.DOTALL), replacement)
    for pattern, replacement in (
        (r"<!--.*?-->", ""),
        (r"<metadata>.*?</metadata>", ""),
        (r"<defs>\s*<style.*?</style>\s*</defs>", ""),  # would style the whole page; page.html has it
        (r'<svg[^>]*?(viewBox="[^"]*")[^>]*>', r'<svg \1 aria-hidden="true">'),
        (r'<g id="[^"]*"', "<g"),  # figure_1, axes_1, ...: the same in every figure, and never referred to
        (r"<g/>", ""),
        (r' transform="rotate\(-0 [^"]*"', ""),
    )
)


@contextlib.contextmanager
def drawing(name: str) -> Iterator[None]:
    """The style of all figures, whatever the user's matplotlibrc says; `name` keeps the ids of figures apart."""
    import matplotlib.style

    with matplotlib.style.context({**STYLE, "svg.hashsalt": name}, after_reset=True):
        yield


def new_figure(width: int, height: int) -> "Figure":
    """A figure of `width` by `height` CSS pixels."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width / POINTS_PER_INCH, height / POINTS_PER_INCH))


def add_axes(figure: "Figure", left: int, right: int, top: int, bottom: int) -> "Axes":
    """Axes at these distances (pixels) from the figure's edges: equal in every figure, so that panels align."""
    width, height = (inches * POINTS_PER_INCH for inches in figure.get_size_inches())
    return figure.add_axes(
        (left / width, bottom / height, (width - left - right) / width, (height - top - bottom) / height)
    )


def to_svg(figure: "Figure") -> str:
    """The figure as an `<svg>` element for an HTML page: no metadata, no namespaces, no size; same input, same text."""
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    for pattern, replacement in _CLEAN_UP:
        text = pattern.sub(replacement, text)
    text = re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path[0]).replace("\n", ""), text)
    for colour, (light, _) in COLOURS.items():
        text = text.replace(light, f"var(--{colour})")
    return re.sub(r"\n\s*", "\n", text).strip()

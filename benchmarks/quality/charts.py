"""The figures of the page, as SVG in the page's colours."""

import dataclasses
import math
from collections.abc import Sequence

from keras_dimgrow.report.formats import compact
from keras_dimgrow.report.svg import REFERENCE, add_axes, drawing, new_figure, to_svg

WIDE, NARROW = (1080, 420), (540, 300)  # CSS pixels
# Each method's colour on light and on dark ground (Okabe and Ito, darkened and lightened); a marker of its own keeps
# methods apart where colours do not.
PALETTE = (
    ("#0067a7", "#58b0e9"),
    ("#cc5501", "#f0904d"),
    ("#00805a", "#2fc196"),
    ("#a8447f", "#dd8fbd"),
    ("#7a6a00", "#d8c530"),
    ("#5b4bb5", "#a99cf0"),
    ("#007c89", "#4cc3d0"),
    ("#8a3b2a", "#d98a78"),
)
MARKERS = "osD^vPX*hd<>"


@dataclasses.dataclass(frozen=True)
class Point:
    """x, y, and the standard error of y (0: none is drawn)."""

    x: float
    y: float
    error: float = 0.0


@dataclasses.dataclass(frozen=True)
class Series:
    """One method's points, in the order of x.

    Attributes:
        name: of the method.
        points: one a budget, or one alone.
        is_rule: drawn with a dashed line.
    """

    name: str
    points: Sequence[Point]
    is_rule: bool = False


def colours() -> dict[str, tuple[str, str]]:
    """CSS variable -> colour on light and on dark ground."""
    return {f"method-{index}": pair for index, pair in enumerate(PALETTE)}


def colour_of(index: int) -> str:
    """CSS variable of the colour of the method at this place."""
    return f"method-{index % len(PALETTE)}"


def chart(
    name: str,
    series: Sequence[Series],
    *,
    y_label: str,
    x_limits: tuple[float, float],
    size: tuple[int, int] = NARROW,
    curve: Sequence[Point] = (),
    reference: float | None = None,
    is_log: bool = False,
    budgets: Sequence[float] = (),
) -> str:
    """Something against the number of parameters, which has a logarithmic axis.

    Args:
        name: unique on the page.
        series: the methods, which get colours and markers in their order.
        y_label: what y is.
        x_limits: fewest and most parameters, the same in all charts of a page.
        size: WIDE or NARROW.
        curve: of uniform dimensions, a dashed grey line with its points marked.
        reference: value of uniform 16, a dashed line.
        is_log: whether y is logarithmic as well.
        budgets: in parameters; vertical lines.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    number = FuncFormatter(lambda value, _: compact(value))
    with drawing(name):
        figure = new_figure(*size)
        axes = add_axes(figure, left=64, right=14, top=12, bottom=44)
        axes.set_xscale("log")
        axes.set_xlim(x_limits[0] / 1.2, x_limits[1] * 1.2)
        if is_log:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axes.yaxis.set_minor_locator(NullLocator())
            axes.yaxis.set_major_formatter(number)
        for budget in budgets:
            axes.axvline(budget, color=REFERENCE, linewidth=0.8, alpha=0.5)
        if reference is not None:
            axes.axhline(reference, color=REFERENCE, linewidth=1.4, linestyle=(0, (4, 3)))
        if curve:
            _draw(axes, curve, color=REFERENCE, linestyle=(0, (4, 3)), marker="o", markersize=4)
        for index, each in enumerate(series):
            style = (0, (1.5, 2)) if each.is_rule else "-"
            colour, marker = PALETTE[index % len(PALETTE)][0], MARKERS[index % len(MARKERS)]
            _draw(axes, each.points, color=colour, linestyle=style, marker=marker, markersize=7)
        axes.set_xlabel("embedding parameters")
        axes.set_ylabel(y_label)
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_formatter(number)
        svg = to_svg(figure)
    for index, (light, _) in enumerate(PALETTE):
        svg = svg.replace(light, f"var(--{colour_of(index)})")
    return svg


def marker_svg(index: int) -> str:
    """The marker of the method at this place, for the key."""
    with drawing(f"key-{index}"):
        figure = new_figure(16, 16)
        axes = add_axes(figure, left=0, right=0, top=0, bottom=0)
        axes.set_axis_off()
        axes.set(xlim=(-1, 1), ylim=(-1, 1))
        axes.plot([0], [0], color=PALETTE[index % len(PALETTE)][0], marker=MARKERS[index % len(MARKERS)], markersize=8)
        svg = to_svg(figure)
    return svg.replace(PALETTE[index % len(PALETTE)][0], f"var(--{colour_of(index)})")


def _draw(axes, points: Sequence[Point], **style) -> None:
    axes.errorbar(
        [point.x for point in points],
        [point.y for point in points],
        yerr=[0.0 if math.isnan(point.error) else point.error for point in points],
        elinewidth=1.2,
        capsize=3,
        clip_on=False,
        **style,
    )

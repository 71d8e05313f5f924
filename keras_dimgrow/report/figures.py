"""The figures of the page, one panel each; `drawing` in svg.py gives them their style."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from keras_dimgrow.report.formats import compact
from keras_dimgrow.report.svg import (
    BLUE,
    REFERENCE,
    VERMILION,
    add_axes,
    drawing,
    new_figure,
    to_svg,
)
from keras_dimgrow.report.traces import Trace

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Points = Sequence[tuple[float, float]]

PANEL_SIZE = (520, 240)
CELL_SIZE = (250, 150)
LOW_CELL_SIZE = (250, 86)
MAX_POINTS = 240  # more than a small multiple has pixels; keeps pages of long searches small


def panel(
    name: str,
    points: Points,
    *,
    x_label: str,
    reference: float | None = None,
    is_step: bool = False,
    from_zero: bool = True,
    second: Points = (),
) -> str:
    """A line over the search, as SVG.

    Args:
        name: unique on the page.
        points: (x, y) of the line, in the order of x.
        x_label: what x is, with its unit.
        reference: value of the uniform model, a dashed line.
        is_step: whether y stays the same between two points.
        from_zero: whether y starts at 0 and the area below the line is tinted.
        second: (x, y) of a second line, with a marker at each point.
    """
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    with drawing(name):
        figure = new_figure(*PANEL_SIZE)
        axes = add_axes(figure, left=52, right=12, top=12, bottom=38)
        _line(axes, points, is_step=is_step, is_filled=from_zero)
        if second:
            axes.plot(*_columns(second), color=VERMILION, marker="o", markersize=4)
        if reference is not None:
            axes.axhline(reference, color=REFERENCE, linewidth=1.4, linestyle=(0, (4, 3)))
        axes.set_xlim(0, max([x for x, _ in (*points, *second)], default=0) or 1)
        if from_zero:
            axes.set_ylim(0, 1.08 * max([y for _, y in points] + [reference or 0]) or 1)
            axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: compact(y)))
        else:
            axes.margins(y=0.1)
            axes.ticklabel_format(axis="y", style="plain", useOffset=False)
        axes.set_xlabel(x_label)
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: compact(x)))
        return to_svg(figure)


def field_cell(
    name: str,
    dimensions: Points,
    traces: Sequence[Trace] | None,
    *,
    last_step: int,
    max_dimension: int,
    thresholds: Sequence[float] = (),
    decades: tuple[int, int] | None = None,
) -> str:
    """One field of the small multiples, as SVG: its dimension above, what was measured of its dimensions below.

    Args:
        name: unique on the page.
        dimensions: (step, dimension).
        traces: gate or gain of each embedding dimension; those not kept are drawn in their own colour, below. None: the
            method measured neither, and there is no lower part.
        last_step, max_dimension: ends of the axes, equal in all cells.
        thresholds: gate values at which a field grows and shrinks, dashed.
        decades: powers of ten at which a logarithmic axis of gains begins and ends; smaller gains are drawn at its lower
            end. None: gates, from 0 to 1.
    """
    with drawing(name):
        figure = new_figure(*(LOW_CELL_SIZE if traces is None else CELL_SIZE))
        left = 22 if decades is None else 34
        upper = add_axes(figure, left=left, right=6, top=8, bottom=20 if traces is None else 90)
        _line(upper, _changes(dimensions), is_step=True, is_filled=True)
        upper.set(ylim=(0, 1.12 * max_dimension), yticks=(0, max_dimension), xticks=())
        lowest = upper
        if traces is not None:
            lowest = add_axes(figure, left=left, right=6, top=74, bottom=20)
            if decades is None:
                lowest.set(ylim=(-0.02, 1.04), yticks=(0, 1))
            else:
                _set_decades(lowest, *decades)
            for threshold in thresholds:
                lowest.axhline(threshold, color=REFERENCE, linewidth=0.8, linestyle=(0, (3, 2.5)))
            floor = -math.inf if decades is None else 10.0 ** decades[0]
            for trace in sorted(traces, key=lambda trace: trace.is_kept):
                points = _thin([(x, max(y, floor)) for x, y in zip(trace.steps, trace.values, strict=True)])
                colour, width = (BLUE, 0.9) if trace.is_kept else (VERMILION, 0.8)
                lowest.plot(*_columns(points), color=colour, linewidth=width, alpha=0.85, **_marker(points))
        lowest.set(xticks=(0, last_step))
        lowest.set_xticklabels(("0", compact(last_step)))
        lowest.get_xticklabels()[0].set_horizontalalignment("left")
        lowest.get_xticklabels()[1].set_horizontalalignment("right")
        for axes in (upper, lowest):
            axes.set_xlim(0, last_step)
            axes.tick_params(labelsize=9, pad=4)
        return to_svg(figure)


def _set_decades(axes: "Axes", first: int, last: int) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axes.set_yscale("log")
    axes.set_ylim(0.8 * 10.0**first, 1.25 * 10.0**last)
    axes.yaxis.set_major_locator(FixedLocator([10.0**first, 10.0**last]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"1e{round(math.log10(y))}"))


def _line(axes: "Axes", points: Points, *, is_step: bool, is_filled: bool) -> None:
    x, y = _columns(points)
    axes.plot(x, y, color=BLUE, drawstyle="steps-post" if is_step else "default", **_marker(points))
    if is_filled:
        axes.fill_between(x, y, color=BLUE, alpha=0.12, linewidth=0, step="post" if is_step else None)


def _marker(points: Points) -> dict[str, Any]:
    """A single point has no line to show: a marker does, also where it sits on the edge."""
    return {"marker": "o", "markersize": 3, "clip_on": False} if len(points) == 1 else {}


def _columns(points: Points) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def _changes(points: Points) -> Points:
    """The points of a step line that are needed to draw it: where it changes, and both ends."""
    return [p for i, p in enumerate(points) if i in (0, len(points) - 1) or p[1] != points[i - 1][1]]


def _thin(points: Points) -> Points:
    """At most about MAX_POINTS of the points, evenly, with both ends."""
    stride = math.ceil(len(points) / MAX_POINTS)
    return points if stride <= 1 else [*points[:-1:stride], points[-1]]

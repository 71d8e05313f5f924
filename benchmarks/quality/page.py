"""The HTML page of a comparison: self-contained, light and dark, no script."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2

from benchmarks.harness import middle, spread
from benchmarks.quality import charts
from benchmarks.quality.charts import WIDE, Point, Series
from benchmarks.quality.musts import Measured
from benchmarks.quality.results import ORACLE, Group, Results
from benchmarks.quality.tables import Table
from keras_dimgrow.report.svg import COLOURS

# At this dimension a cell of the plans is at its darkest.
FULL_SHADE = 16


def write_page(
    path: str, results: Results, tables: Sequence[Table], figures: Sequence[Measured], about: Mapping[str, Any]
) -> None:
    """Writes the page; the same results give the same bytes.

    Args:
        path: of the HTML file; written to a temporary name, then renamed.
        results: what was measured.
        tables: the tables that the console shows as well.
        figures: the musts and what was measured of them.
        about: arguments, machine and versions.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(os.path.dirname(__file__)),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    methods = _methods(results)
    html = environment.get_template("page.html").render(
        title=f"Search quality: {about['data']}",
        colours={**COLOURS, **charts.colours()},
        keys=[(name, charts.marker_svg(index)) for index, name in enumerate(methods)],
        charts=_charts(results, methods),
        plans=[_plans(results, budget) for budget in results.budgets],
        tables=tables,
        figures=[
            (figure, f"{middle(figure, values):.3g}", spread(figure, values), middle(figure, values) <= figure.must)
            for figure, values in figures
        ],
        about={**about["machine"], "training": about["training"], "model": about["model"], "rows": about["num_rows"]},
        num_seeds=len({row.seed for row in results.rows}),
        num_retrain_seeds=len({row.retrain_seed for row in results.rows}),
    )
    with open(f"{path}.tmp", "w", encoding="utf-8") as stream:
        stream.write(html)
    os.replace(f"{path}.tmp", path)


def _methods(results: Results) -> list[str]:
    """The methods that get a colour: searches first, then rules and the oracle; the uniform curve is grey."""
    names = dict.fromkeys(
        (group.is_rule, group.method) for group in results.groups if not group.method.startswith("uniform ")
    )
    return [name for _, name in sorted(names, key=lambda pair: pair[0])]


def _charts(results: Results, methods: Sequence[str]) -> list[dict[str, Any]]:
    """AUC, search time and memory against parameters."""
    curve = _uniform_points(results)
    budgets = [budget * results.num_uniform_parameters for budget in results.budgets]
    auc = _series(results, methods, lambda group: (group.auc.mean, group.auc.error))
    searched = _series(results, methods, lambda group: (results.search_ratio(group), 0.0), trained_only=True)
    memory = _series(results, methods, lambda group: (max(row.peak_embedding_bytes for row in group.rows) / 2**20, 0.0))
    sizes = [row.parameters for row in results.rows]
    x_limits = (min(sizes), max(sizes))
    charts_ = [
        {
            "title": "AUC on the test rows",
            "text": "Mean and standard error over searches and trainings. Grey: uniform dimensions 1 to 16. "
            "Vertical lines: the budgets.",
            "svg": charts.chart("auc", auc, y_label="AUC", x_limits=x_limits, size=WIDE, curve=curve, budgets=budgets),
        }
    ]
    if any(series.points for series in searched):
        charts_.append(
            {
                "title": "Search time",
                "text": "Seconds of the search, race included, over those of one training of uniform 16 to convergence "
                "(dashed). Rules search nothing.",
                "svg": charts.chart(
                    "time", searched, y_label="search / uniform 16", x_limits=x_limits, reference=1.0, is_log=True
                ),
            }
        )
    reference = max(row.peak_embedding_bytes for row in results.reference.rows) / 2**20
    charts_.append(
        {
            "title": "Peak memory of the embeddings",
            "text": "Most MiB in tables and optimizer slots, while searching or while training the plan. Dashed: uniform 16.",
            "svg": charts.chart("memory", memory, y_label="MiB", x_limits=x_limits, reference=reference, is_log=True),
        }
    )
    return charts_


def _uniform_points(results: Results) -> list[Point]:
    groups = [group for group in results.at(None) if group.method.startswith("uniform ")]
    return sorted(
        (Point(group.mean("parameters"), group.auc.mean, group.auc.error) for group in groups), key=lambda p: p.x
    )


def _series(results: Results, methods: Sequence[str], value, *, trained_only: bool = False) -> list[Series]:
    """One series a method, empty ones included: colours go by place."""
    series = []
    for method in methods:
        groups = [group for group in results.groups if group.method == method]
        if trained_only:
            groups = [group for group in groups if group.is_trained]
        points = [Point(group.mean("parameters"), *value(group)) for group in groups]
        is_rule = any(group.is_rule for group in groups)
        series.append(Series(method, sorted(points, key=lambda point: point.x), is_rule))
    return series


def _plans(results: Results, budget: float) -> dict[str, Any]:
    """Mean dimensions over the seeds, one row a field, the largest vocabulary first, one column a method."""
    groups = results.at(budget) + [group for group in results.at(None) if not group.method.startswith("uniform ")]
    groups.sort(key=lambda group: (group.method == ORACLE, group.is_rule))
    sizes = sorted(results.vocabulary_sizes.items(), key=lambda item: -item[1])
    rows = [(field, size, [_cell(group, field) for group in groups]) for field, size in sizes]
    return {"budget": budget, "methods": [group.method for group in groups], "rows": rows}


def _cell(group: Group, field: str) -> tuple[str, float]:
    """The mean dimension as text, and its shade from 0 to 1."""
    dimensions = [row.plan[field] for row in group.searches]
    mean = sum(dimensions) / len(dimensions)
    return f"{mean:.1f}".removesuffix(".0"), min(1.0, mean / FULL_SHADE)

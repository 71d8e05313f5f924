"""Composition of the page: facts and figures into the template, the template into a file."""

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from keras_dimgrow.report import facts, formats, panels
from keras_dimgrow.report.facts import Record
from keras_dimgrow.report.svg import COLOURS


def write_report(
    path: str,
    *,
    plan: Sequence[Mapping[str, Any]],
    trajectory: Sequence[Record],
    settings: Mapping[str, Any],
    versions: Mapping[str, Any],
    uniform_dimension: int = 16,
    title: str = "Embedding dimension search",
    race: Sequence[Record] = (),
    race_seconds: float = 0.0,
    note: str | None = None,
) -> None:
    """Writes one self-contained HTML page about a search: the plan, how it came about, and what it cost.

    The page loads nothing and runs no script; the same arguments give the same bytes.

    Args:
        path: of the HTML file; may be remote. Written to a temporary name, then renamed.
        plan: per field "field", "vocabulary_size" and "dimension" (0: removed), in the model's order; "table" for fields
            that share one, "mean_dimension" for those in chunks.
        trajectory: one record a check, as in `SearchResult.trajectory`; may be empty. "gains", "gates", losses, AUC and
            "events" and "pool" are shown where the records have them.
        settings: of the search, name to value. "grow_threshold" and "shrink_threshold" are drawn where gates are.
        versions: of the packages, name to version.
        uniform_dimension: embedding dimension of the model that the plan is compared with.
        title: of the page.
        race, race_seconds, note: of the `SearchResult`; shown if there is any.

    Raises:
        ImportError: without the extra `report`.
    """
    try:
        import jinja2
        import matplotlib  # noqa: F401 - asked for here, so that the error names the extra and not a figure
    except ImportError as error:
        raise ImportError(
            f"The report needs {error.name or 'jinja2 and matplotlib'}, which is not installed. "
            "Install the extra: pip install keras-dimgrow[report]"
        ) from error

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("keras_dimgrow.report", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    rows = facts.plan_rows(plan)
    uniform = facts.uniform_model(rows, uniform_dimension)
    html = environment.get_template("page.html").render(
        title=title,
        colours=COLOURS,
        note=note,
        headline=facts.headline(rows, uniform, trajectory, race_seconds),
        rows=rows,
        tables=facts.tables_of(rows),
        widest=max([uniform_dimension, *(row.dimension for row in rows)]),
        uniform=uniform,
        dimensions_at_end=facts.total_dimensions(rows, trajectory[-1]) if trajectory else None,
        growth=panels.growth_panels(rows, uniform, trajectory) if trajectory else [],
        cells=panels.field_cells(rows, trajectory, settings) if trajectory else [],
        measured=panels.measured_in(trajectory),
        pool=facts.pool_rows(trajectory),
        race=facts.race_rows(race, sum(row.parameters for row in rows)),
        race_seconds=race_seconds,
        quality=panels.quality_panels(trajectory) if trajectory else [],
        memory=panels.memory_panels(uniform, trajectory) if trajectory else [],
        events=facts.event_rows(trajectory),
        has_events=any("events" in record for record in trajectory),
        num_events=sum(len(record.get("events", ())) for record in trajectory),
        count=formats.count,
        settings=settings,
        versions=versions,
        duration=formats.duration,
        percent=formats.percent,
    )
    temporary = f"{path}.tmp"
    with tf.io.gfile.GFile(temporary, "w") as file:
        file.write(html)
    tf.io.gfile.rename(temporary, path, overwrite=True)

"""What each figure of the page shows: series out of the trajectory, titles, keys and the texts read aloud."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from keras_dimgrow.report import figures
from keras_dimgrow.report.facts import PlanRow, Record, Uniform, total_dimensions
from keras_dimgrow.report.formats import bytes_unit, compact, in_bytes, time_unit
from keras_dimgrow.report.traces import Trace, gain_traces, gate_traces

MAX_FIELD_CELLS = 60
NUM_DECADES = 4  # of gains: what is smaller is noise beside the largest


@dataclasses.dataclass(frozen=True)
class Panel:
    """A figure with its title, its keys (colour and meaning of each line) and its label for screen readers."""

    title: str
    keys: list[tuple[str, str]]
    svg: str

    @property
    def label(self) -> str:
        """The panel in one sentence, for those who do not see it."""
        return f"{self.title}: {'; '.join(text for _, text in self.keys)}."


@dataclasses.dataclass(frozen=True)
class FieldCell:
    """A field of the small multiples, with what is drawn of its dimensions: "gates", "gains" or nothing."""

    row: PlanRow
    svg: str
    measured: str | None

    @property
    def label(self) -> str:
        """The cell in one sentence, for those who do not see it."""
        what = "Dimension" if self.measured is None else f"Dimension and {self.measured}"
        return f"{what} of field {self.row.field} over the steps; {self.row.dimension} in the plan."


def growth_panels(rows: Sequence[PlanRow], uniform: Uniform, trajectory: Sequence[Record]) -> list[Panel]:
    """Total dimensions and parameters over the steps, against the uniform model."""
    panels = []
    for title, name, points, reference in (
        ("Total dimensions", "dimensions", _total_dimensions(rows, trajectory), uniform.total_dimensions),
        ("Embedding parameters", "parameters", _series(trajectory, "step", "parameters"), uniform.parameters),
    ):
        keys = [
            ("blue", f"search, {compact(points[-1][1])} at the end"),
            ("reference", f"uniform {uniform.dimension}, {compact(reference)}"),
        ]
        svg = figures.panel(name, points, x_label="step", reference=reference, is_step=True)
        panels.append(Panel(title, keys, svg))
    return panels


def quality_panels(trajectory: Sequence[Record]) -> list[Panel]:
    """Loss, and AUC where it was measured, over the steps."""
    loss = _series(trajectory, "step", "loss")
    validation_loss = _series(trajectory, "step", "validation_loss")
    auc = _series(trajectory, "step", "validation_auc")
    panels = []
    if loss or validation_loss:
        keys = [("blue", f"training, {loss[-1][1]:.4f} at the end")] if loss else []
        if validation_loss:
            keys.append(("vermilion", f"validation, lowest {min(y for _, y in validation_loss):.4f}"))
        svg = figures.panel("loss", loss, second=validation_loss, x_label="step", from_zero=False)
        panels.append(Panel("Loss", keys, svg))
    if auc:
        keys = [("vermilion", f"validation, highest {max(y for _, y in auc):.4f}")]
        svg = figures.panel("auc", (), second=auc, x_label="step", from_zero=False)
        panels.append(Panel("AUC", keys, svg))
    return panels


def memory_panels(uniform: Uniform, trajectory: Sequence[Record]) -> list[Panel]:
    """Bytes of tables and of the process over time; tables against those of the uniform model."""
    seconds, time = time_unit(trajectory[-1]["seconds"])
    panels = []
    for title, key, reference in (
        ("Embedding tables with optimizer slots", "table_bytes", uniform.table_bytes),
        ("Resident memory of the process", "resident_bytes", None),
    ):
        points = _series(trajectory, "seconds", key)
        if not points:
            continue
        size, unit = bytes_unit(max([y for _, y in points] + [reference or 0]))
        keys = [("blue", f"search, at most {in_bytes(max(y for _, y in points))}")]
        if reference is not None:
            keys.append(("reference", f"uniform {uniform.dimension} with Adam, {in_bytes(reference)}"))
        svg = figures.panel(
            key,
            [(x / seconds, y / size) for x, y in points],
            x_label=f"search time ({time})",
            reference=None if reference is None else reference / size,
        )
        panels.append(Panel(f"{title} ({unit})", keys, svg))
    return panels


def field_cells(rows: Sequence[PlanRow], trajectory: Sequence[Record], settings: Mapping[str, Any]) -> list[FieldCell]:
    """Dimension of each field and gates or gains of its dimensions, of the largest MAX_FIELD_CELLS fields if there are more."""
    measured = measured_in(trajectory)
    thresholds = [float(settings[key]) for key in ("grow_threshold", "shrink_threshold") if key in settings]
    shown = rows[:MAX_FIELD_CELLS]
    dimensions = {
        row.field: [(record["step"], record["dimensions"].get(row.field, 0)) for record in trajectory] for row in shown
    }

    def traces(row: PlanRow) -> list[Trace] | None:
        if measured == "gains":
            return gain_traces(trajectory, row.field, row.dimension)
        return gate_traces(trajectory, row.field) if measured == "gates" else None

    return [
        FieldCell(
            row,
            figures.field_cell(
                f"field{i}",
                dimensions[row.field],
                traces(row),
                last_step=max(1, int(trajectory[-1]["step"])),
                max_dimension=max([1, *(d for points in dimensions.values() for _, d in points)]),
                thresholds=thresholds if measured == "gates" else (),
                decades=_decades(trajectory) if measured == "gains" else None,
            ),
            measured,
        )
        for i, row in enumerate(shown)
    ]


def measured_in(trajectory: Sequence[Record]) -> str | None:
    """What all records say of each dimension: "gains", "gates" or nothing."""
    for key in ("gains", "gates"):
        if trajectory and all(key in record for record in trajectory):
            return key
    return None


def _decades(trajectory: Sequence[Record]) -> tuple[int, int]:
    """Powers of ten around the largest gain, and NUM_DECADES below."""
    largest = max((gain for record in trajectory for gains in record["gains"].values() for gain in gains), default=0.0)
    top = math.ceil(math.log10(largest)) if largest > 0 else 0
    return top - NUM_DECADES, top


def _total_dimensions(rows: Sequence[PlanRow], trajectory: Sequence[Record]) -> list[tuple[float, float]]:
    return [(record["step"], total_dimensions(rows, record)) for record in trajectory]


def _series(trajectory: Sequence[Record], x: str, y: str) -> list[tuple[float, float]]:
    """(x, y) of the records that have a finite y."""
    return [(r[x], r[y]) for r in trajectory if r.get(y) is not None and math.isfinite(r[y])]

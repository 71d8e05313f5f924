"""What the page says in numbers: pure functions of the plan and the trajectory."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from keras_dimgrow.report.formats import compact, count, duration, in_bytes, percent

Record = Mapping[str, Any]

ADAM_COPIES = 3  # the value and Adam's two slots
BYTES_PER_VALUE = 4  # float32


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlanRow:
    """One row of the plan table.

    Attributes:
        mean_dimension: dimensions that a row has on average, of a field in chunks; None: all of `dimension`.
        share: of all embedding parameters of the plan.
        shares_with: the earlier field whose table the field uses; its parameters are counted there. None: its own.
    """

    field: str
    vocabulary_size: int
    dimension: int
    parameters: int
    share: float
    shares_with: str | None = None
    mean_dimension: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Uniform:
    """The uniform model of the same fields, against which the search is held."""

    dimension: int
    total_dimensions: int
    parameters: int
    table_bytes: int


def plan_rows(plan: Sequence[Mapping[str, Any]]) -> list[PlanRow]:
    """The plan, largest field first, removed fields last; equal fields stay in the model's order."""
    owners: dict[str, str] = {}
    shares_with = []
    for field in plan:
        name, table = str(field["field"]), field.get("table")
        owner = name if table is None else owners.setdefault(table, name)
        shares_with.append(None if owner == name else owner)
    sizes = [round(int(f["vocabulary_size"]) * f.get("mean_dimension", int(f["dimension"]))) for f in plan]
    parameters = [size if owner is None else 0 for size, owner in zip(sizes, shares_with, strict=True)]
    total = sum(parameters)
    rows = [
        PlanRow(
            field=str(field["field"]),
            vocabulary_size=int(field["vocabulary_size"]),
            dimension=int(field["dimension"]),
            parameters=product,
            share=product / total if total else 0.0,
            shares_with=owner,
            mean_dimension=field.get("mean_dimension"),
        )
        for field, product, owner in zip(plan, parameters, shares_with, strict=True)
    ]
    return sorted(rows, key=lambda row: (-row.vocabulary_size * row.dimension, -row.vocabulary_size))


def tables_of(rows: Sequence[PlanRow]) -> list[PlanRow]:
    """The rows that count where tables are counted: one a table."""
    return [row for row in rows if row.shares_with is None]


def total_dimensions(rows: Sequence[PlanRow], record: Record) -> int:
    """Dimensions of all tables at one check; of those in chunks, what their rows have on average."""
    sharing = {row.field for row in rows if row.shares_with is not None}
    return round(sum(dimension for field, dimension in record["dimensions"].items() if field not in sharing))


def uniform_model(rows: Sequence[PlanRow], dimension: int) -> Uniform:
    """`dimension` for every field, trained with Adam in float32."""
    tables = tables_of(rows)
    parameters = dimension * sum(table.vocabulary_size for table in tables)
    return Uniform(
        dimension=dimension,
        total_dimensions=dimension * len(tables),
        parameters=parameters,
        table_bytes=parameters * BYTES_PER_VALUE * ADAM_COPIES,
    )


def headline(
    rows: Sequence[PlanRow], uniform: Uniform, trajectory: Sequence[Record], race_seconds: float = 0.0
) -> list[dict[str, str]]:
    """The numbers at the top of the page: label, value, and a note that gives it scale."""
    parameters = sum(row.parameters for row in rows)
    removed = sum(row.dimension == 0 for row in rows)
    last = trajectory[-1] if trajectory else None
    ratio = parameters / uniform.parameters if uniform.parameters else None
    saved = uniform.parameters - parameters
    seconds = race_seconds + (last["seconds"] if last else 0.0)
    checks = count(len(trajectory), "check")
    facts = (
        ("Fields", f"{len(rows):,}", f"{removed} removed" if removed else "none removed"),
        (
            "Total dimensions",
            f"{sum(table.dimension for table in tables_of(rows)):,}",
            f"uniform: {uniform.total_dimensions:,}",
        ),
        ("Parameters", compact(parameters), f"{parameters:,}"),
        ("Ratio to uniform", "n/a" if ratio is None else percent(ratio), f"of {uniform.dimension} per field"),
        ("Parameters saved", compact(saved), f"of {compact(uniform.parameters)}"),
        (
            "Search time",
            duration(seconds) if seconds or last else "n/a",
            f"race {duration(race_seconds)}" if race_seconds else checks,
        ),
        ("Steps", "n/a" if last is None else f"{last['step']:,}", "while searching"),
    )
    return [{"label": label, "value": value, "note": note} for label, value, note in facts]


def event_rows(trajectory: Sequence[Record]) -> list[dict[str, Any]]:
    """The checks that changed a dimension: step, seconds, and the fields that grew, dropped or revived, with what they got."""
    rows = []
    for record in trajectory:
        if record.get("events"):
            fields: dict[str, list[str]] = {"grow": [], "drop": [], "revive": []}
            for event in record["events"]:
                fields[event["action"]].append(f"{event['field']} ({record['dimensions'][event['field']]})")
            rows.append({"step": record["step"], "seconds": record["seconds"], **fields})
    return rows


@dataclasses.dataclass(frozen=True, kw_only=True)
class RaceRow:
    """One plan of a race, as it stood when it was last judged.

    Attributes:
        names: the plan's, and those of plans equal to it.
        gain: how much lower its held-out log loss is than the incumbent's; None for the incumbent.
        eliminated_in: the round after which it left, None if it stayed to the end.
        is_chosen: whether it is the plan of the page.
    """

    names: str
    parameters: int
    steps: int
    log_loss: float
    auc: float
    gain: float | None
    standard_error: float
    eliminated_in: int | None
    is_chosen: bool


def pool_rows(trajectory: Sequence[Record]) -> list[dict[str, Any]]:
    """The checks that say what the pool of chunks holds and what happened in it since the search began."""
    keys = ("slots", "used", "evicted", "allocated", "dropped")
    return [
        {"step": record["step"], "bytes": in_bytes(record["pool"]["bytes"])}
        | {key: record["pool"][key] for key in keys}
        for record in trajectory
        if "pool" in record
    ]


def race_rows(race: Sequence[Record], parameters: int) -> list[RaceRow]:
    """The plans of a race (`SearchResult.race`), best first, those that left behind.

    Args:
        race: records, one a round and contestant, the incumbent first in each round.
        parameters: of the plan of the page: what the race's records say of a plan is its size.
    """
    last = {record["name"]: record for record in race}
    finalists = [record for record in last.values() if not record["is_eliminated"]]
    chosen = [record["name"] for record in finalists if record["parameters"] == parameters]
    rows = [
        RaceRow(
            names=" = ".join([record["name"], *record["same_plan_as"]]),
            parameters=record["parameters"],
            steps=record["steps"],
            log_loss=record["log_loss"],
            auc=record["auc"],
            gain=None if record["name"] == race[0]["name"] else record["gain"],
            standard_error=record["standard_error"],
            eliminated_in=record["round"] if record["is_eliminated"] else None,
            is_chosen=chosen == [record["name"]],
        )
        for record in last.values()
    ]
    return sorted(rows, key=lambda row: (-row.steps, row.eliminated_in is not None, row.log_loss))

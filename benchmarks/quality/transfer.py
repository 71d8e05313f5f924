"""Plans found with fm, used in other backbones (papers: AutoDim, section 3.8.1 and Table 3)."""

import dataclasses
from collections.abc import Sequence

import keras_dimgrow as kd
from benchmarks.quality.cases import Laboratory
from benchmarks.quality.results import REFERENCE, Group, Row
from benchmarks.quality.runner import Schedule, train_row, uniform
from benchmarks.quality.specs import MethodSpec
from benchmarks.quality.statistics import difference
from benchmarks.quality.tables import Table, with_error

SOURCE = "fm"
TARGETS = ("nfm", "ipnn", "autoint")
HEADINGS = ("backbone", "method", "budget", "parameters", "AUC", "over uniform 16", "over uniform of the same size")


@dataclasses.dataclass(frozen=True)
class Transferred:
    """The trainings of one method's plans in another backbone, and of what they are held against, seed by seed.

    Attributes:
        backbone: the plans are used in; they were found with fm.
        group: the method's rows.
        reference: rows of uniform 16.
        same_size: rows of the largest uniform model with no more parameters than the plan; empty where there is none.
    """

    backbone: str
    group: Group
    reference: Group
    same_size: Group


def run_transfer(laboratory: Laboratory, specs: Sequence[MethodSpec], schedule: Schedule) -> list[Transferred]:
    """Searches with fm and trains what was found with nfm, ipnn and autoint.

    Args:
        laboratory: where cases run; its model is fm.
        specs: the methods.
        schedule: seeds and budgets.
    """
    results = []
    for backbone in TARGETS:
        model = dataclasses.replace(laboratory.model, backbone=backbone)
        for spec in specs:
            for budget in schedule.budgets if spec.takes_budget else (None,):
                rows = _train(laboratory, spec, budget, schedule, model)
                if rows:
                    plans, references, same_size = zip(*rows, strict=True)
                    results.append(
                        Transferred(
                            backbone,
                            Group(spec.label, budget, plans),
                            Group(REFERENCE, None, references),
                            Group("uniform of the same size", None, tuple(row for row in same_size if row is not None)),
                        )
                    )
    return results


def make_transfer_table(results: Sequence[Transferred]) -> Table:
    """One row for each backbone, method and budget."""
    rows = []
    for each in results:
        same_size = difference(each.group.aucs, each.same_size.aucs) if each.same_size.rows else None
        rows.append(
            [
                each.backbone,
                each.group.method,
                "" if each.group.budget is None else f"{each.group.budget:.3g}",
                f"{each.group.mean('parameters'):,.0f}",
                with_error(each.group.auc),
                with_error(difference(each.group.aucs, each.reference.aucs), "+"),
                "does not fit" if same_size is None else with_error(same_size, "+"),
            ]
        )
    return Table(f"Transfer: plans found with {SOURCE}, trained in other backbones", HEADINGS, rows)


def _train(
    laboratory: Laboratory, spec: MethodSpec, budget: float | None, schedule: Schedule, model: kd.ModelConfig
) -> list[tuple[Row, Row, Row | None]]:
    """For each training: the plan, uniform 16, and the uniform model of the plan's size."""
    rows = []
    for seed in range(schedule.num_seeds):
        found = laboratory.search(spec, budget, seed)
        if found.dimensions is None:
            continue
        dimension = laboratory.plan(found).parameters // laboratory.data.num_table_rows
        for index in range(schedule.num_retrain_seeds):
            place = (budget, seed, index)
            plan = train_row(laboratory, spec.label, *place, found, model)
            reference = train_row(laboratory, REFERENCE, *place, uniform(laboratory, 16), model)
            same_size = None
            if dimension:
                same_size = train_row(laboratory, f"uniform {dimension}", *place, uniform(laboratory, dimension), model)
            rows.append((plan, reference, same_size))
    return rows

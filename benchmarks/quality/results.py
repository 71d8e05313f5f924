"""All rows of a comparison, what they say about each method at each budget, and results.json and results.csv."""

import csv
import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.harness import write_json
from benchmarks.quality.specs import RULES
from benchmarks.quality.statistics import Estimate, difference, estimate, interpolate, mean_correlation

REFERENCE = "uniform 16"
ORACLE = "oracle"
COLUMNS = (
    *("data", "method", "budget", "seed", "retrain_seed", "parameters", "share", "auc", "log_loss"),
    *("search_seconds", "race_seconds", "peak_embedding_bytes", "plan"),
)
# float32 and the two slots of Adam.
BYTES_PER_TRAINED_PARAMETER = 12


@dataclasses.dataclass(frozen=True)
class Row:
    """One training of one plan.

    Attributes:
        method: as it was asked for, or "uniform K" or "oracle".
        budget: share of uniform 16's parameters; None for what was given none.
        seed: of the search; retrain_seed: of the training, counted within the search seed.
        share: parameters / uniform 16's.
        search_seconds: of the search, race included; 0 for rules.
        peak_table_bytes: most bytes in tables and slots while searching; 0 for rules.
        plan: field -> dimension.
    """

    data: str
    method: str
    budget: float | None
    seed: int
    retrain_seed: int
    parameters: int
    share: float
    auc: float
    log_loss: float
    search_seconds: float
    race_seconds: float
    train_seconds: float
    peak_table_bytes: int
    plan: Mapping[str, int]

    @property
    def peak_embedding_bytes(self) -> int:
        """Most bytes in embedding tables and their slots, while searching or while training the plan."""
        return max(self.peak_table_bytes, BYTES_PER_TRAINED_PARAMETER * self.parameters)


@dataclasses.dataclass(frozen=True)
class Unfit:
    """A search that gave no plan, and why."""

    method: str
    budget: float | None
    seed: int
    note: str


@dataclasses.dataclass(frozen=True)
class Group:
    """All rows of one method at one budget."""

    method: str
    budget: float | None
    rows: tuple[Row, ...]

    @property
    def aucs(self) -> dict[tuple[int, int], float]:
        """(seed, retrain_seed) -> AUC."""
        return {(row.seed, row.retrain_seed): row.auc for row in self.rows}

    @property
    def searches(self) -> list[Row]:
        """One row for each search seed."""
        return list({row.seed: row for row in reversed(self.rows)}.values())[::-1]

    def mean(self, attribute: str) -> float:
        """Mean of a number over all rows."""
        return estimate([float(getattr(row, attribute)) for row in self.rows]).mean

    @property
    def auc(self) -> Estimate:
        """Mean AUC over searches and trainings."""
        return estimate([row.auc for row in self.rows])

    @property
    def correlation(self) -> float | None:
        """Mean correlation of the plans of different seeds. A plan read from a file has its fields in another order."""
        return mean_correlation([[row.plan[field] for field in self.rows[0].plan] for row in self.searches])

    @property
    def is_rule(self) -> bool:
        """Whether the plan is a simple rule's, the oracle's or uniform."""
        return self.method.split(":")[0] in RULES or self.method == ORACLE or self.method.startswith("uniform ")

    @property
    def is_trained(self) -> bool:
        """Whether searching meant training something."""
        return any(row.peak_table_bytes for row in self.rows)


@dataclasses.dataclass(frozen=True)
class Results:
    """Everything that was measured on one set of data.

    Attributes:
        rows: one a training.
        unfit: the searches that gave no plan.
        vocabulary_sizes: field -> V.
    """

    rows: Sequence[Row]
    unfit: Sequence[Unfit]
    vocabulary_sizes: Mapping[str, int]

    @property
    def num_uniform_parameters(self) -> int:
        """Parameters of uniform 16: what budgets are shares of."""
        return 16 * sum(self.vocabulary_sizes.values())

    @property
    def budgets(self) -> list[float]:
        """All budgets that were asked for."""
        asked = {row.budget for row in self.rows} | {unfit.budget for unfit in self.unfit}
        return sorted(budget for budget in asked if budget is not None)

    @property
    def groups(self) -> list[Group]:
        """The rows by method and budget, in the order in which they were measured."""
        keys = dict.fromkeys((row.method, row.budget) for row in self.rows)
        return [Group(*key, tuple(row for row in self.rows if (row.method, row.budget) == key)) for key in keys]

    def at(self, budget: float | None) -> list[Group]:
        """The groups of one budget."""
        return [group for group in self.groups if group.budget == budget]

    def find(self, method: str, budget: float | None) -> Group | None:
        """The group of one method at one budget, None if it was not measured."""
        return next((group for group in self.at(budget) if group.method == method), None)

    @property
    def reference(self) -> Group:
        """Uniform 16."""
        group = self.find(REFERENCE, None)
        if group is None:
            raise ValueError("These results lack uniform 16, which every comparison has.")
        return group

    @property
    def uniform_curve(self) -> list[tuple[float, float]]:
        """(parameters, mean AUC) of uniform 1 .. 16."""
        curve = [group for group in self.at(None) if group.method.startswith("uniform ")]
        return sorted((group.mean("parameters"), group.auc.mean) for group in curve)

    def best_rule(self, budget: float | None) -> Group | None:
        """The simple rule with the highest mean AUC of those that fit the budget."""
        rules = [group for group in self.at(budget) if group.method in RULES]
        return max(rules, key=lambda group: group.auc.mean, default=None)

    def over_rule(self, group: Group) -> Estimate | None:
        """AUC of the group minus that of the best simple rule at its budget."""
        rule = self.best_rule(group.budget)
        return None if rule is None else difference(group.aucs, rule.aucs)

    def over_uniform(self, group: Group) -> float | None:
        """AUC of the group minus that of uniform dimensions of the same size, interpolated; None below uniform 1."""
        uniform = interpolate(self.uniform_curve, group.mean("parameters"))
        return None if uniform is None else group.auc.mean - uniform

    def search_ratio(self, group: Group, *, with_race: bool = True) -> float:
        """Search time over the time of one training of uniform 16 to convergence."""
        race = 0.0 if with_race else group.mean("race_seconds")
        return (group.mean("search_seconds") - race) / self.reference.mean("train_seconds")


def write_results(directory: str, results: Results, about: Mapping[str, Any], figures: Mapping[str, Any]) -> None:
    """Writes results.json and results.csv."""
    summary = [
        {
            "method": group.method,
            "budget": group.budget,
            "parameters": group.mean("parameters"),
            "auc": group.auc.mean,
            "auc_error": None if group.auc.num_values < 2 else group.auc.error,
            "log_loss": group.mean("log_loss"),
            "search_ratio": results.search_ratio(group),
            "search_ratio_without_race": results.search_ratio(group, with_race=False),
            "peak_embedding_bytes": max(row.peak_embedding_bytes for row in group.rows),
            "correlation_of_seeds": group.correlation,
        }
        for group in results.groups
    ]
    write_json(
        os.path.join(directory, "results.json"),
        {
            **about,
            "vocabulary_sizes": dict(results.vocabulary_sizes),
            "rows": [dataclasses.asdict(row) for row in results.rows],
            "unfit": [dataclasses.asdict(unfit) for unfit in results.unfit],
            "summary": summary,
            "figures": figures,
        },
    )
    with open(os.path.join(directory, "results.csv"), "w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in results.rows:
            values = [getattr(row, column) for column in COLUMNS[:-1]]
            writer.writerow([*("" if value is None else value for value in values), json.dumps(row.plan)])

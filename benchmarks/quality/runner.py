"""The flow of a comparison: which searches and trainings there are, and the rows that they give."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import keras_dimgrow as kd
from benchmarks.quality.cases import Found, Laboratory
from benchmarks.quality.results import ORACLE, Results, Row, Unfit
from benchmarks.quality.specs import RULES, MethodSpec

CURVE_DIMENSIONS = (1, 2, 3, 4, 6, 8, 12, 16)
# Apart, so that more trainings a search change no seed of those that are done.
SEEDS_APART = 1000


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How often and at which budgets.

    Attributes:
        budgets: shares of uniform 16's parameters.
        num_seeds: searches of each method and budget.
        num_retrain_seeds: trainings of each plan found.
    """

    budgets: Sequence[float]
    num_seeds: int
    num_retrain_seeds: int

    @property
    def seeds(self) -> list[tuple[int, int]]:
        """(search seed, training within it), for all trainings of one method at one budget."""
        return [(seed, index) for seed in range(self.num_seeds) for index in range(self.num_retrain_seeds)]


def training_seed(seed: int, index: int) -> int:
    """The seed of the `index`-th training after the search with `seed`: the same for every method, so that they pair."""
    return SEEDS_APART * seed + index


def add_rules(specs: Sequence[MethodSpec]) -> tuple[list[MethodSpec], list[str]]:
    """The methods with the simple rules before them, and the rules that this version of the library lacks."""
    known = [MethodSpec(name, name, kd.METHODS[name].config()) for name in RULES if name in kd.METHODS]
    asked = [spec for spec in specs if spec.label not in RULES]
    return known + asked, [name for name in RULES if name not in kd.METHODS]


def run(laboratory: Laboratory, specs: Sequence[MethodSpec], schedule: Schedule) -> Results:
    """Runs, or takes from the store, every case of a comparison.

    Args:
        laboratory: where cases run.
        specs: the methods, rules among them.
        schedule: seeds and budgets.
    """
    data = laboratory.data
    rows, unfit = list(_train_references(laboratory, schedule)), []
    for seed in range(schedule.num_seeds):
        # Methods side by side, so that a machine that slows down slows all of them.
        for budget in (*schedule.budgets, None):
            for spec in specs:
                if spec.takes_budget != (budget is not None):
                    continue
                found = laboratory.search(spec, budget, seed)
                if found.dimensions is None:
                    unfit.append(Unfit(spec.label, budget, seed, found.note or ""))
                    continue
                for index in range(schedule.num_retrain_seeds):
                    rows.append(train_row(laboratory, spec.label, budget, seed, index, found))
    return Results(rows, unfit, {field.name: field.vocabulary_size for field in data.fields})


def train_row(
    laboratory: Laboratory,
    method: str,
    budget: float | None,
    seed: int,
    index: int,
    found: Found,
    model: kd.ModelConfig | None = None,
) -> Row:
    """The row of one training of a plan that was found."""
    if found.dimensions is None:
        raise ValueError(f"{method}: there is no plan to train; {found.note}")
    plan = laboratory.plan(found)
    trained = laboratory.train(plan, training_seed(seed, index), model)
    return Row(
        data=laboratory.data.name,
        method=method,
        budget=budget,
        seed=seed,
        retrain_seed=index,
        parameters=plan.parameters,
        share=plan.ratio_to_uniform(),
        auc=trained.auc,
        log_loss=trained.log_loss,
        search_seconds=found.seconds,
        race_seconds=found.race_seconds,
        train_seconds=trained.seconds,
        peak_table_bytes=found.peak_table_bytes,
        plan=found.dimensions,
    )


def uniform(laboratory: Laboratory, dimension: int) -> Found:
    """`dimension` for every field, not searched for."""
    return Found({field.name: dimension for field in laboratory.data.fields})


def _train_references(laboratory: Laboratory, schedule: Schedule) -> Iterator[Row]:
    """Uniform 16 and the oracle as often as every method, the rest of the uniform curve for one search seed."""
    first = [(seed, index) for seed, index in schedule.seeds if seed == 0]
    for dimension in reversed(CURVE_DIMENSIONS):
        for seed, index in schedule.seeds if dimension == CURVE_DIMENSIONS[-1] else first:
            found = uniform(laboratory, dimension)
            yield train_row(laboratory, f"uniform {dimension}", None, seed, index, found)
    truth = laboratory.data.truth
    if truth is not None:
        oracle: Mapping[str, int] = truth.ranks
        for seed, index in schedule.seeds:
            yield train_row(laboratory, ORACLE, None, seed, index, Found(dict(oracle)))

"""DimGrow with a budget: dimensions grow where held-out loss falls most per parameter (docs/decisions/0006).

Fields start with one dimension and grow while the model trains, as in arXiv 2505.12683, section 4.2. What decides is not a
gate but the objective of section 3 itself: every look measures the utility of every dimension (utility.py), the ledger
smooths it over looks, and an exact knapsack chooses what to hold next. The paper's own form is `dimgrow_paper`.
"""

import dataclasses
import gc
import time
from typing import Any

import keras
import numpy as np

from keras_dimgrow.budget import UNIFORM_DIMENSION
from keras_dimgrow.callbacks import resident_bytes
from keras_dimgrow.checkpoint import SearchCheckpoint
from keras_dimgrow.config import Config
from keras_dimgrow.devices import BYTES_PER_TRAINED_PARAMETER, place_tables
from keras_dimgrow.distributed import from_chief, outside_of_strategy
from keras_dimgrow.evaluation import roc_auc
from keras_dimgrow.filling import MIN_USED_SHARE
from keras_dimgrow.interrupts import interrupts_deferred
from keras_dimgrow.layers import GrowableEmbedding
from keras_dimgrow.ledger import SPARE, Ledger
from keras_dimgrow.methods.dimgrow_race import race_plans
from keras_dimgrow.methods.problem import SearchProblem, SearchResult
from keras_dimgrow.models import build_model
from keras_dimgrow.optimizers import LazyAdam
from keras_dimgrow.plan import EmbeddingPlan
from keras_dimgrow.steps import rows_per_pass, steps_per_pass
from keras_dimgrow.utility import HeldOutRows, Look

MIN_STEPS, MAX_STEPS = 300, 4000  # of a search, unless one pass over the data takes more


@dataclasses.dataclass(frozen=True, kw_only=True)
class DimGrowConfig(Config):
    """How a search by utilities trains, looks and stops. The defaults follow from the size of the data.

    Args:
        epochs: passes over the training data; at least 300 steps in all, and beyond 4,000 steps one pass at most.
        max_steps: the search ends after this many training steps at the latest. None: as `epochs` says.
        num_looks: how often dimensions are measured and changed.
        patience_looks: the search ends when held-out loss has not improved for this many looks.
        look_rows: held-out rows of a look, at most about as many.
        learning_rate: of LazyAdam, in the search and in the race.
        kappa: the search itself never holds more than kappa times the budget, at least 1.
        race: whether the plan is raced, before it is returned, against its neighbours and the rules that anyone can type
            (uniform, mixed_dimension, log_vocabulary), and replaced if another is clearly better.
        tolerance: without a budget, the plan is the smallest raced one whose held-out AUC is at least (1 - tolerance) times
            that of uniform 16 (tau of section 3 is 1 - tolerance).

    Example:
        >>> DimGrowConfig(kappa=1.0).num_looks
        20
    """

    epochs: float = 3.0
    max_steps: int | None = None
    num_looks: int = 20
    patience_looks: int = 5
    look_rows: int = 20_000
    learning_rate: float = 3e-3
    kappa: float = 1.5
    race: bool = True
    tolerance: float = 0.001

    def __post_init__(self) -> None:
        for key in ("num_looks", "patience_looks", "look_rows"):
            self._require_int(key, 1)
        self._require_int("max_steps", 1, optional=True)
        self._require_number("epochs", 0.0, above=True)
        self._require_number("learning_rate", 0.0, above=True)
        self._require_number("kappa", 1.0)
        self._require_number("tolerance", 0.0, 1.0)
        self._require("race", isinstance(self.race, bool), "true or false")


def run(problem: SearchProblem, config: DimGrowConfig) -> SearchResult:
    """Searches by utilities, then races what was found."""
    validation = problem.require_validation_data("dimgrow")
    tables = problem.tables
    sizes = np.array([table.vocabulary_size for table in tables])
    budget = problem.max_parameters or UNIFORM_DIMENSION * int(sizes.sum())
    limit = int(config.kappa * budget)
    dims = start_dims(problem, budget, limit)
    per_pass = steps_per_pass(problem.train_data)
    num_steps = int(min(max(config.epochs * per_pass, MIN_STEPS), max(per_pass, MAX_STEPS)))
    num_steps = num_steps if config.max_steps is None else min(num_steps, config.max_steps)
    config = dataclasses.replace(config, num_looks=min(config.num_looks, num_steps))
    steps_per_look = num_steps // config.num_looks
    num_steps = steps_per_look * config.num_looks

    layer = GrowableEmbedding(
        problem.fields,
        dims,
        problem.model_config.adapter_width,
        problem.model_config.adapter,
        seed=problem.seed,
        name="embedding",
    )
    # Which tables grow is to be found: each by its share of what all may take.
    expected = {table.name: int(limit * table.vocabulary_size / sizes.sum()) for table in tables}
    layer.table_devices = place_tables(expected, problem.model_config.max_gpu_table_bytes)
    model = build_model(layer, problem.model_config, problem.seed)
    model.compile(LazyAdam(config.learning_rate), "binary_crossentropy")
    model.optimizer.build(model.trainable_variables)
    ledger = Ledger.at_start(layer.searched_tables, dims, rows_per_pass(problem.train_data))
    rows = HeldOutRows(model, validation, config.look_rows)
    growth = UtilityGrowth(rows, ledger, budget, limit, config, problem.on_check)
    growth.set_model(model)  # `fit` would, but a search that was killed in its race has no step left
    checkpoint = SearchCheckpoint(growth, None, problem.checkpoint_directory)
    step = checkpoint.restore(model)
    if step < num_steps and not growth.has_converged:
        checkpoint.train(model, problem.train_data, step, steps_per_look, num_steps)
    elif config.race:
        # Killed in its race. A shuffle goes on from pass to pass, and the race must get the pass that follows the search's; an
        # order is drawn when a pass begins, so that one batch of each is enough.
        for _ in range(-(-step // per_pass)):
            next(iter(problem.train_data))
    ledger = growth.best
    # Without a budget the smallest plan that is good enough is asked for: nothing is filled.
    plan_dims = ledger.plan_dims if problem.max_parameters else ledger.proven_dims
    found = problem.plan(plan_dims(budget))
    growth.settle(found)
    plan, note, races, race_seconds = found, None, [], 0.0
    if config.race:
        begin = time.monotonic()
        growth.release()
        outcome = outside_of_strategy(lambda: race_plans(problem, config, ledger, found, num_steps))
        # Every worker races by itself; if two plans are hardly apart, the first worker's choice holds.
        dims = from_chief([np.array([outcome.plan.dimensions[table.name] for table in tables])])[0]
        plan, note, races = problem.plan(dims), outcome.note, outcome.records
        race_seconds = time.monotonic() - begin
    if problem.max_parameters and plan.parameters < MIN_USED_SHARE * budget:
        used = _why_less(problem, plan, plan == found)
        note = used if note is None else f"{note} {used}"
    return SearchResult(
        plan,
        growth.trajectory,
        growth.has_converged,
        model if plan == found else None,
        peak_table_bytes=growth.peak_parameters * BYTES_PER_TRAINED_PARAMETER,
        note=note,
        plan_for=lambda smaller: plan if smaller >= plan.parameters else problem.plan(plan_dims(smaller)),
        race=races,
        race_seconds=race_seconds,
    )


def _why_less(problem: SearchProblem, plan: EmbeddingPlan, is_found: bool) -> str:
    """Why a plan takes clearly less than its budget."""
    used = f"The plan takes {plan.parameters / (problem.max_parameters or 1):.0%} of the budget"
    if not is_found:
        return f"{used}: of the plans raced, none that takes more did better."
    kept = [table for table in problem.tables if plan.dimensions[table.name]]
    if all(plan.dimensions[table.name] >= min(table.max_dim, UNIFORM_DIMENSION) for table in kept):
        return f"{used}: its fields have {UNIFORM_DIMENSION} dimensions or their max_dim, other fields would not help."
    if plan.parameters + min(table.vocabulary_size for table in kept) > (problem.max_parameters or 0):
        return f"{used}: no further dimension fits."
    return (
        f"{used}: more than {SPARE} times what is proven to help, or than one parameter a training row, would overfit."
    )


def start_dims(problem: SearchProblem, budget: int, limit: int) -> np.ndarray:
    """One dimension (or min_dim) for each table, smallest first, as far as they fit; the others begin later.

    With `problem.start` a table has the dimensions that it has there; while that is more than `limit`, the table with most
    parameters gives one dimension up.

    Raises:
        ValueError: if the budget allows the smallest table no dimension, or the tables' min_dim take more.
    """
    tables = problem.tables
    sizes = np.array([table.vocabulary_size for table in tables])
    least = np.array([table.min_dim for table in tables])
    needed = max(int(sizes @ least), int(sizes.min()))
    if budget < needed:
        what = "the fields' min_dim take" if least.any() else "one dimension of the smallest field takes"
        raise ValueError(f"dimgrow: {what} {needed} parameters; received a budget of {budget}. Raise parameter_budget.")
    earlier = {} if problem.start is None else problem.start.dimensions
    dims = np.array([np.clip(earlier.get(table.name, 0), table.min_dim, table.max_dim) for table in tables])
    while sizes @ dims > limit:
        dims[np.argmax(np.where(dims > least, sizes * dims, -1))] -= 1
    room = limit - int(sizes @ dims)
    for i in np.argsort(sizes, kind="stable"):
        if not dims[i] and tables[i].name not in earlier and sizes[i] <= min(room, budget):
            dims[i] = 1
            room -= sizes[i]
    return dims


class UtilityGrowth(keras.callbacks.Callback):
    """Looks at the held-out rows at the end of every epoch of `fit`, and changes dimensions.

    Attributes:
        trajectory: a record a look.
        has_converged: whether held-out loss stopped improving.
        ledger: what was measured so far.
        best: the ledger at the look of least held-out loss: click data is soon overfitted, and what its dimensions gain then
            says nothing about a training that stops in time.
        peak_parameters: the most that the tables held.
    """

    def __init__(
        self, rows: HeldOutRows, ledger: Ledger, budget: int, limit: int, config: DimGrowConfig, on_check=None
    ):
        super().__init__()
        self.layer, self.rows, self.budget, self.limit, self.config = rows.layer, rows, budget, limit, config
        self.on_check = on_check
        self.trajectory: list[dict[str, Any]] = []
        self.has_converged = False
        self.ledger = ledger
        self.best = self.ledger.copy()
        self.peak_parameters = int(self.ledger.sizes @ self.layer.allocated_dims)
        self._seconds_before = 0.0

    def on_train_begin(self, logs=None):
        self._seconds_before = self.trajectory[-1]["seconds"] if self.trajectory else 0.0
        self._begin = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        look = self.rows.look()
        before = np.array(self.layer.allocated_dims)
        spectra = look.spectra
        self.ledger.add([s.gains for s in spectra], [s.errors for s in spectra], [s.additivity for s in spectra])
        losses = [record["validation_loss"] for record in self.trajectory]
        if not losses or look.log_loss < min(losses):
            self.best = self.ledger.copy()
        since_best = 0 if not losses else len(losses) - int(np.argmin([*losses, look.log_loss]))
        self.has_converged = since_best >= self.config.patience_looks
        num_looks_left = self.config.num_looks - len(losses) - 1
        after = before
        if num_looks_left and not self.has_converged:
            after = self.ledger.next_dims(before, self.budget, self.limit, num_looks_left > self.config.num_looks // 3)
        self._change(look, before, after)
        self.trajectory.append(self._record(look, logs or {}, before, after))
        if self.on_check is not None:
            self.on_check(self.trajectory[-1])
        if self.has_converged:
            self.model.stop_training = True

    def _change(self, look: Look, before: np.ndarray, after: np.ndarray) -> None:
        optimizer = self.model.optimizer
        with interrupts_deferred():
            for i in np.flatnonzero(after < before):
                self.layer.project(int(i), *look.spectra[i].projection(after[i]), optimizer)
            growing = {int(i): int(after[i] - before[i]) for i in np.flatnonzero(after > before)}
            if growing:
                self.layer.grow(growing, optimizer)
            self.ledger.resize(before, after)
            self.peak_parameters = max(self.peak_parameters, int(self.ledger.sizes @ after))

    def settle(self, plan: EmbeddingPlan) -> None:
        """Brings the model to the dimensions of `plan`."""
        after = np.array([plan.dimensions[table.name] for table in self.layer.searched_tables])
        before = np.array(self.layer.allocated_dims)
        if (after < before).any():
            self._change(self.rows.look(), before, np.minimum(before, after))
        if (after > before).any():
            self._change(self.rows.look(), np.minimum(before, after), after)

    def release(self) -> None:
        """Frees what was traced to train and to look, before a race traces its own."""
        self.model.train_function = None
        del self.rows
        gc.collect()  # what was traced refers to itself

    def _record(self, look: Look, logs, before: np.ndarray, after: np.ndarray) -> dict[str, Any]:
        """One line of the trajectory."""
        layer = self.layer
        names = [table.name for table in layer.searched_tables]
        fields = zip(layer.fields, layer.table_of, strict=True)
        parameters = int(self.ledger.sizes @ after)
        changes = [(i, "drop" if after[i] < before[i] else "grow") for i in np.flatnonzero(after != before)]
        return {
            "step": int(self.model.optimizer.iterations.numpy()),
            "seconds": round(self._seconds_before + time.monotonic() - self._begin, 3),
            "loss": float(logs["loss"]) if "loss" in logs else None,
            "validation_loss": look.log_loss,
            "validation_auc": roc_auc(self.rows.labels, look.probabilities),
            "dimensions": layer.dimensions(),
            "total_dimensions": int(after.sum()),
            "gains": {field.name: [float(f"{g:.4g}") for g in look.spectra[table].gains] for field, table in fields},
            "parameters": parameters,
            "table_bytes": parameters * BYTES_PER_TRAINED_PARAMETER,
            "resident_bytes": resident_bytes(),
            "events": [{"field": names[i], "action": action} for i, action in changes],
        }

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps beside the variables, as plain JSON types."""
        return {
            "ledger": self.ledger.to_dict(),
            "best": self.best.to_dict(),
            "peak_parameters": self.peak_parameters,
        }

    def restore_state(self, state: dict[str, Any]) -> None:
        """The inverse of `state`."""
        tables = self.layer.searched_tables
        self.ledger, self.best = (Ledger.from_dict(tables, state[key]) for key in ("ledger", "best"))
        self.peak_parameters = state["peak_parameters"]

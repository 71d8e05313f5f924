"""DimensionSearch: carries the policy's decisions into the embedding layer and its optimizer during `fit`."""

import logging
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_dimgrow.interrupts import interrupts_deferred
from keras_dimgrow.layers import DimGrowEmbedding
from keras_dimgrow.optimizers import GrowableSlots
from keras_dimgrow.policy import CHECKED, QUIET, Allocation, GrowthConfig, decide, has_converged
from keras_dimgrow.summaries import SummaryWriter

logger = logging.getLogger(__name__)


def resident_bytes() -> int | None:
    """Resident memory of this process in bytes, None where the system has no /proc."""
    try:
        with open("/proc/self/status") as file:
            line = next(line for line in file if line.startswith("VmRSS:"))
    except OSError:
        return None
    return int(line.split()[1]) * 1024


class DimensionSearch(keras.callbacks.Callback):
    """Looks at the gates every `check_every` steps, and grows, drops and revives dimensions.

    All counters live in the layer's variables and in the optimizer's: a restored model, and a second fit, go on where
    the model was. A fit after one that converged searches for at least `patience_checks` checks more.

    Each epoch's logs, and so the progress bar, History and the callbacks that stand after this one, get
    `total_dimensions` and `embedding_parameters` (of the dimensions in use, over the tables) and `embedding_bytes` (of
    all allocated tables with their slots). History alone gets `dimensions/<field>`: a progress bar of all fields would
    fill pages.

    Args:
        layer: the model's DimGrowEmbedding.
        growth: thresholds and budgets.
        check_every: steps between two looks at the gates.
        patience_checks: training stops when no dimension changed for this many checks and the gates are decided.
        max_steps: training stops after this many steps in all, those before a restore included; None for no limit.
        on_check: called with the record of each check (see `record`).
        log_dir: directory for TensorBoard, written at each check (see `SummaryWriter`); None writes nothing.

    Attributes:
        trajectory: the records of all checks so far.
        has_converged: whether the search ended by itself.
    """

    def __init__(
        self,
        layer: DimGrowEmbedding,
        growth: GrowthConfig | None = None,
        check_every: int = 50,
        patience_checks: int = 40,
        max_steps: int | None = None,
        on_check: Callable[[dict[str, Any]], None] | None = None,
        log_dir: str | None = None,
    ):
        super().__init__()
        self.layer = layer
        self.growth = growth or GrowthConfig()
        self.check_every = check_every
        self.patience_checks = patience_checks
        self.max_steps = max_steps
        self.on_check = on_check
        self.trajectory: list[dict[str, Any]] = []
        self.has_converged = False
        self._seconds_before = 0.0
        self._summaries = None if log_dir is None else SummaryWriter(log_dir)

    def on_train_begin(self, logs=None):
        if not isinstance(self._optimizer, GrowableSlots):
            raise ValueError(
                f"DimensionSearch: the slots of {type(self._optimizer).__name__} do not grow with the tables. "
                "Compile the model with keras_dimgrow.growable(optimizer), or with keras_dimgrow.LazyAdam."
            )
        if not self.layer.built:
            raise ValueError(
                f"DimensionSearch: the layer {self.layer.name!r} has no variables yet. "
                "Call the model on one batch before fit, so that the optimizer can prepare its slots."
            )
        # Not built again: a LossScaleOptimizer would begin again with its first scale.
        if not self.model.optimizer.built:
            # In the scope, or the slots would not be replicated as the tables are.
            with self.model.distribute_strategy.scope():
                self.model.optimizer.build(self.model.trainable_variables)
        self.growth.require_room_for(self.layer.searched_tables, self._bytes_per_parameter())
        if self.has_converged:
            # Whoever fits again wants more training; the checks that convergence rests on are to be new ones.
            self.has_converged = False
            self._assign_counter(QUIET, 0)
        self._step = 0
        self._begin = time.monotonic()
        self._seconds_before = self.trajectory[-1]["seconds"] if self.trajectory else 0.0

    def on_epoch_begin(self, epoch, logs=None):
        self._loss_before = (0.0, 0.0)
        self._loss_at_end: tuple[float, float] | None = None
        # Read here and not in on_train_begin, where BackupAndRestore may restore the model after this callback.
        self._epoch_step = self._step = self._steps_so_far()
        self._last_check = int(self.layer.policy_state.numpy()[0, CHECKED])
        if self._last_check > self._step:  # a model compiled anew: its steps are counted from 0 again
            self._last_check = self._step
            self._assign_counter(CHECKED, self._step)

    # Not on_train_batch_end: overriding that makes Keras wait for every step's logs.
    def on_train_batch_begin(self, batch, logs=None):
        self._step = self._epoch_step + batch
        if self._step - self._last_check >= self.check_every:
            self.check()
        if self.max_steps is not None and self._step + self.model.steps_per_execution >= self.max_steps:
            self.model.stop_training = True  # after this batch, or execution of several

    def on_test_begin(self, logs=None):
        # Validation resets the metrics before on_epoch_end.
        self._loss_at_end = self._loss_so_far()

    def on_epoch_end(self, epoch, logs=None):
        self._step = self._steps_so_far()
        if self._step - self._last_check >= self.check_every:
            self.check()
        if logs is not None:
            logs |= {
                "total_dimensions": sum(self.layer.used_dims()),
                "embedding_parameters": self._parameters(),
                "embedding_bytes": self._table_bytes(),
            }
        history = getattr(self.model, "history", None)
        if history is not None:
            for name, dimension in self.layer.dimensions().items():
                history.history.setdefault(f"dimensions/{name}", []).append(dimension)

    def check(self) -> None:
        """Looks at the gates now, and acts."""
        self._last_check = self._step
        layer = self.layer
        gates = layer.gates()
        allocation = Allocation(layer.allocated_dims, self._bytes_per_parameter())
        actions, state = decide(layer.searched_tables, gates, layer.policy_state.numpy(), self.growth, allocation)
        state[:, CHECKED] = self._step
        growing = [action.index for action in actions if action.kind != "drop"]
        with interrupts_deferred():
            for action in actions:
                if action.kind == "drop":
                    layer.drop(action.index)
            if growing:
                layer.grow(growing, self._optimizer)
            layer.policy_state.assign(state)
        self.trajectory.append(self.record(gates, actions))
        if self._summaries is not None:
            self._summaries.write(self.trajectory[-1])
        if self.on_check is not None:
            self.on_check(self.trajectory[-1])
        if not actions and has_converged(
            layer.searched_tables, gates, state, self.patience_checks, self.growth, allocation
        ):
            self.has_converged = True
            self.model.stop_training = True

    def record(self, gates: list[np.ndarray], actions) -> dict[str, Any]:
        """One line of the trajectory: step, seconds, loss since the last check, dimensions, gates, sizes, events."""
        layer = self.layer
        names = [table.name for table in layer.searched_tables]
        fields = zip(layer.fields, layer.table_of, strict=True)
        return {
            "step": self._step,
            "seconds": round(self._seconds_before + time.monotonic() - self._begin, 3),
            "loss": self._loss_since_last_check(),
            "validation_loss": None,
            "validation_auc": None,
            "dimensions": layer.dimensions(),
            "total_dimensions": sum(layer.used_dims()),
            "gates": {field.name: [round(float(g), 4) for g in gates[table]] for field, table in fields},
            "parameters": self._parameters(),
            "table_bytes": self._table_bytes(),
            "resident_bytes": resident_bytes(),
            "events": [{"field": names[action.index], "action": action.kind} for action in actions],
        }

    def _parameters(self) -> int:
        """Parameters of the dimensions in use."""
        tables = zip(self.layer.searched_tables, self.layer.used_dims(), strict=True)
        return sum(table.vocabulary_size * dim for table, dim in tables)

    def _table_bytes(self) -> int:
        """Bytes of all allocated tables with their optimizer slots."""
        return sum(int(np.prod(table.shape)) for table in self.layer.tables) * self._bytes_per_parameter()

    def _bytes_per_parameter(self) -> int:
        """Bytes of one value of a table with its optimizer slots."""
        table = self.layer.tables[0]
        return tf.as_dtype(table.dtype).size * (1 + len(self._optimizer.slots_of(table)))

    def _assign_counter(self, column: int, value: int) -> None:
        """Sets one counter of the policy for all fields."""
        state = self.layer.policy_state.numpy()
        state[:, column] = value
        self.layer.policy_state.assign(state)

    @property
    def _optimizer(self):
        """The optimizer that has the slots: mixed_float16 wraps it into one that scales the loss."""
        return getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)

    def _steps_so_far(self) -> int:
        """Batches trained so far, those before a restore included."""
        # Not `iterations`, which are whole updates under gradient accumulation. Updates that a loss scale skipped are
        # not counted: the steps of a fit do not go back for them.
        return max(self._step, int(self._optimizer._iterations.numpy()))

    def _loss_so_far(self) -> tuple[float, float]:
        """Sum of the losses in this epoch, and their number."""
        tracker = next((metric for metric in self.model.metrics if metric.name == "loss"), None)
        return (0.0, 0.0) if tracker is None else (float(tracker.total.numpy()), float(tracker.count.numpy()))

    def _loss_since_last_check(self) -> float | None:
        total, count = self._loss_at_end or self._loss_so_far()
        total_before, count_before = self._loss_before
        self._loss_before = (total, count)
        return (total - total_before) / (count - count_before) if count > count_before else None

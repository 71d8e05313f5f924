"""DimensionSearch: carries the policy's decisions into the embedding layer and its optimizer during `fit`."""

import logging
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_dimgrow.layers import DimGrowEmbedding
from keras_dimgrow.optimizers import GrowableSlots
from keras_dimgrow.policy import GrowthConfig, decide, has_converged

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

    All counters live in the layer's variables and in `optimizer.iterations`: a restored model goes on where it was.

    Args:
        layer: the model's DimGrowEmbedding.
        growth: thresholds and budgets.
        check_every: steps between two looks at the gates.
        patience_checks: training stops when no dimension changed for this many checks and the gates are decided.
        max_steps: training stops after this many steps in all, those before a restore included; None for no limit.
        on_check: called with the record of each check (see `record`).

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

    def on_train_begin(self, logs=None):
        self.growth.require_room_for(self.layer.fields)
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
        self.model.optimizer.build(self.model.trainable_variables)
        self._step = self._last_check = self._steps_trained()
        self._begin = time.monotonic()
        self._seconds_before = self.trajectory[-1]["seconds"] if self.trajectory else 0.0

    def on_epoch_begin(self, epoch, logs=None):
        self._loss_before = (0.0, 0.0)
        self._loss_at_end: tuple[float, float] | None = None
        self._epoch_step = self._step

    # Not on_train_batch_end: overriding that makes Keras wait for every step's logs.
    def on_train_batch_begin(self, batch, logs=None):
        self._step = self._epoch_step + batch
        if self._step - self._last_check >= self.check_every:
            self.check()
        if self.max_steps is not None and self._step + 1 >= self.max_steps:
            self.model.stop_training = True  # after this batch

    def on_test_begin(self, logs=None):
        # Validation resets the metrics before on_epoch_end.
        self._loss_at_end = self._loss_so_far()

    def on_epoch_end(self, epoch, logs=None):
        self._step = self._steps_trained()
        if self._step - self._last_check >= self.check_every:
            self.check()

    def check(self) -> None:
        """Looks at the gates now, and acts."""
        self._last_check = self._step
        gates = self.layer.gates()
        actions, state = decide(self.layer.fields, gates, self.layer.policy_state.numpy(), self.growth)
        for action in actions:
            if action.kind == "drop":
                self.layer.drop(action.index)
            else:
                self.layer.grow(action.index, self._optimizer)
        self.layer.policy_state.assign(state)
        self.trajectory.append(self.record(gates, actions))
        if self.on_check is not None:
            self.on_check(self.trajectory[-1])
        if not actions and has_converged(self.layer.fields, gates, state, self.patience_checks, self.growth):
            self.has_converged = True
            self.model.stop_training = True

    def record(self, gates: list[np.ndarray], actions) -> dict[str, Any]:
        """One line of the trajectory: step, seconds, loss since the last check, dimensions, gates, sizes, events."""
        layer = self.layer
        names = [field.name for field in layer.fields]
        dims = layer.used_dims()
        return {
            "step": self._step,
            "seconds": round(self._seconds_before + time.monotonic() - self._begin, 3),
            "loss": self._loss_since_last_check(),
            "validation_loss": None,
            "validation_auc": None,
            "dimensions": dict(zip(names, dims, strict=True)),
            "gates": {name: [round(float(g), 4) for g in values] for name, values in zip(names, gates, strict=True)},
            "parameters": sum(f.vocabulary_size * d for f, d in zip(layer.fields, dims, strict=True)),
            "table_bytes": self._table_bytes(),
            "resident_bytes": resident_bytes(),
            "events": [{"field": names[action.index], "action": action.kind} for action in actions],
        }

    def _table_bytes(self) -> int:
        """Bytes of all allocated tables with their optimizer slots."""
        total = 0
        for table in self.layer.tables:
            copies = 1 + len(self._optimizer.slots_of(table))
            total += int(np.prod(table.shape)) * tf.as_dtype(table.dtype).size * copies
        return total

    @property
    def _optimizer(self):
        """The optimizer that has the slots: mixed_float16 wraps it into one that scales the loss."""
        return getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)

    def _steps_trained(self) -> int:
        """Batches trained so far; with gradient accumulation an iteration takes several."""
        return int(self._optimizer.iterations) * (self._optimizer.gradient_accumulation_steps or 1)

    def _loss_so_far(self) -> tuple[float, float]:
        """Sum of the losses in this epoch, and their number."""
        tracker = next((metric for metric in self.model.metrics if metric.name == "loss"), None)
        return (0.0, 0.0) if tracker is None else (float(tracker.total), float(tracker.count))

    def _loss_since_last_check(self) -> float | None:
        total, count = self._loss_at_end or self._loss_so_far()
        total_before, count_before = self._loss_before
        self._loss_before = (total, count)
        return (total - total_before) / (count - count_before) if count > count_before else None

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
        on_check: Callable[[dict[str, Any]], None] | None = None,
    ):
        super().__init__()
        self.layer = layer
        self.growth = growth or GrowthConfig()
        self.check_every = check_every
        self.patience_checks = patience_checks
        self.on_check = on_check
        self.trajectory: list[dict[str, Any]] = []
        self.has_converged = False
        self._seconds_before = 0.0

    def on_train_begin(self, logs=None):
        self.growth.require_room_for(self.layer.fields)
        optimizer = self.model.optimizer
        if not isinstance(getattr(optimizer, "inner_optimizer", optimizer), GrowableSlots):
            raise ValueError(
                f"DimensionSearch: the slots of {type(optimizer).__name__} do not grow with the tables. "
                "Compile the model with keras_dimgrow.LazyAdam or keras_dimgrow.GrowableAdam."
            )
        optimizer.build(self.model.trainable_variables)
        self._step = self._last_check = int(optimizer.iterations.numpy())
        self._begin = time.monotonic()
        self._seconds_before = self.trajectory[-1]["seconds"] if self.trajectory else 0.0
        self._loss_before = (0.0, 0.0)

    def on_epoch_begin(self, epoch, logs=None):
        self._loss_before = (0.0, 0.0)
        self._epoch_step = self._step

    # Not on_train_batch_end: overriding that makes Keras wait for every step's logs.
    def on_train_batch_begin(self, batch, logs=None):
        self._step = self._epoch_step + batch
        if self._step - self._last_check >= self.check_every:
            self.check()

    def on_epoch_end(self, epoch, logs=None):
        self._step = int(self.model.optimizer.iterations.numpy())
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
                self.layer.grow(action.index, self.model.optimizer)
        self.layer.policy_state.assign(state)
        self.trajectory.append(self.record(gates, actions))
        if self.on_check is not None:
            self.on_check(self.trajectory[-1])
        if not actions and has_converged(gates, state, self.patience_checks, self.growth):
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
            copies = 1 + len(self.model.optimizer.slots_of(table))
            total += int(np.prod(table.shape)) * tf.as_dtype(table.dtype).size * copies
        return total

    def _loss_since_last_check(self) -> float | None:
        tracker = self.model.metrics[0]
        total, count = float(tracker.total.numpy()), float(tracker.count.numpy())
        total_before, count_before = self._loss_before
        self._loss_before = (total, count)
        return (total - total_before) / (count - count_before) if count > count_before else None

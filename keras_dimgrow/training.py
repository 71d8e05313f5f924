"""How a model is trained to its end: with checks on held-out rows, and the weights of the best one."""

import dataclasses
from collections.abc import Sequence

import keras
import tensorflow as tf

from keras_dimgrow.config import Config
from keras_dimgrow.distributed import fit
from keras_dimgrow.evaluation import Evaluation, evaluate
from keras_dimgrow.optimizers import LazyAdam
from keras_dimgrow.steps import steps_per_pass


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingConfig(Config):
    """How a model with a given plan is trained.

    Args:
        max_epochs: passes over the training data at most.
        checks_per_epoch: validations in each pass: click data is often learned within one or two.
        patience_epochs: training stops when validation log loss has not improved for this many epochs, and the weights
            of the best check are kept.
        learning_rate: of LazyAdam.

    Example:
        >>> TrainingConfig.from_dict({"max_epochs": 3}).patience_epochs
        2
    """

    max_epochs: int = 20
    checks_per_epoch: int = 4
    patience_epochs: int = 2
    learning_rate: float = 3e-3

    def __post_init__(self) -> None:
        for key in ("max_epochs", "checks_per_epoch", "patience_epochs"):
            self._require_int(key, 1)
        self._require_number("learning_rate", 0.0, above=True)


@dataclasses.dataclass(frozen=True)
class TrainingResult:
    """A trained model, its validation at the best epoch (None without validation data), and the epochs it took."""

    model: keras.Model
    validation: Evaluation | None
    num_epochs: float


def train(
    model: keras.Model,
    train_data: tf.data.Dataset,
    validation_data: tf.data.Dataset | None,
    config: TrainingConfig,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> TrainingResult:
    """Compiles `model` and trains it.

    Args:
        model: from ids of fields to probabilities [B, 1].
        train_data, validation_data: batches of ({field: int [B]}, label [B]).
        config: a TrainingConfig.
        callbacks: for `fit`; what it calls an epoch is the time between two checks.
    """
    # Without XLA: it gained nothing where it was measured, and could not reach tables in the CPU's memory.
    model.compile(LazyAdam(config.learning_rate), "binary_crossentropy", jit_compile=False)
    # What `fit` calls an epoch is the time between two checks.
    num_steps = steps_per_pass(train_data)
    num_checks = 1 if validation_data is None else min(config.checks_per_epoch, num_steps)
    steps_per_check = -(-num_steps // num_checks)
    checks_per_epoch = -(-num_steps // steps_per_check)
    stopping: list[keras.callbacks.Callback] = []
    if validation_data is not None:
        stopping.append(
            keras.callbacks.EarlyStopping(
                "val_loss", patience=config.patience_epochs * checks_per_epoch, restore_best_weights=True
            )
        )
    history = fit(
        model,
        train_data.repeat(),
        steps_per_epoch=steps_per_check,
        epochs=config.max_epochs * checks_per_epoch,
        callbacks=[*callbacks, *stopping],
        validation_data=validation_data,
    )
    validation = None if validation_data is None else evaluate(model, validation_data)
    return TrainingResult(model, validation, len(history.epoch) * steps_per_check / num_steps)

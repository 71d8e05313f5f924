"""How AutoDim's weights and architectural weights learn, in turns or together (section 2.3, Algorithm 1)."""

import itertools
import time
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_dimgrow.methods.problem import SearchProblem
from keras_dimgrow.models import RankingModel
from keras_dimgrow.optimizers import LazyAdam

BYTES_OF_TABLE_PARAMETER = 4 * 3  # float32 value, first and second moment
SHUFFLED_BATCHES = 16  # held in memory


def shuffled_forever(validation_data: tf.data.Dataset, seed: int) -> Iterator:
    """The batches again and again, in an order shuffled over 16 batches; not by tf.data, which reads the global seed.

    Raises:
        ValueError: at once, if there are none.
    """
    batches = _shuffled(validation_data.repeat(), np.random.default_rng(seed))
    first = next(batches, None)
    if first is None:
        raise ValueError("autodim: validation_data has no batches. Pass at least one batch of rows.")
    return itertools.chain([first], batches)


def _shuffled(batches: tf.data.Dataset, rng: np.random.Generator) -> Iterator:
    held: list = []
    for batch in batches:
        held.append(batch)
        if len(held) == SHUFFLED_BATCHES:
            yield held.pop(int(rng.integers(len(held))))


class AutoDimTraining:
    """Trains the search model and keeps its trajectory.

    Args:
        problem: the data's form, and who hears of records.
        model: over an `AutoDimEmbedding`.
        learning_rate: of LazyAdam for the weights.
        alpha_learning_rate: of Adam for alpha.
    """

    def __init__(self, problem: SearchProblem, model: RankingModel, learning_rate: float, alpha_learning_rate: float):
        self.problem = problem
        self.model = model
        self.layer = model.embedding
        self.trajectory: list[dict[str, Any]] = []
        self.table_bytes = self.layer.table_parameters * BYTES_OF_TABLE_PARAMETER
        self._alphas = self.layer.alphas
        is_alpha = {id(variable) for variable in self._alphas}
        self._weights = [variable for variable in model.trainable_variables if id(variable) not in is_alpha]
        self._optimizer = LazyAdam(learning_rate)
        self._optimizer.build(self._weights)
        self._alpha_optimizer = keras.optimizers.Adam(alpha_learning_rate)
        self._alpha_optimizer.build(self._alphas)
        self._losses: list[tf.Tensor] = []
        self._validation_losses: list[tf.Tensor] = []
        self._begin = time.monotonic()
        # By signature: a shorter last batch must not trace the functions again.
        signature = [problem.train_data.element_spec]
        self._weights_step = tf.function(self._step_of(self._weights, []), signature)
        self._joint_step = tf.function(self._step_of(self._weights, self._alphas), signature)
        if problem.validation_data is not None:
            self._alpha_step = tf.function(self._step_of([], self._alphas), [problem.validation_data.element_spec])

    def _step_of(self, weights, alphas):
        """A function from a batch to its loss that updates these variables and no others."""
        variables = [*weights, *alphas]

        def step(batch):
            inputs, labels = batch
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch([variable.value for variable in variables])
                predictions = self.model(inputs, training=True)
                labels = tf.reshape(labels, [-1, 1])
                loss = tf.reduce_mean(keras.losses.binary_crossentropy(labels, predictions))
            gradients = tape.gradient(loss, [variable.value for variable in variables])
            if weights:
                self._optimizer.apply(gradients[: len(weights)], weights)
            if alphas:
                self._alpha_optimizer.apply(gradients[len(weights) :], alphas)
            return loss

        return step

    def train(self, batch, with_alpha: bool) -> None:
        """One step of the weights (Algorithm 1, lines 4 to 6), and of alpha on the same batch if `with_alpha`."""
        self._losses.append((self._joint_step if with_alpha else self._weights_step)(batch))

    def update_alpha(self, batch) -> None:
        """One step of alpha on a validation batch (Algorithm 1, lines 2 and 3) by the gradient at the present weights."""
        self._validation_losses.append(self._alpha_step(batch))

    def check(self, step: int) -> None:
        """Adds a record to the trajectory."""
        layer = self.layer
        plan = self.problem.plan(layer.dimensions())
        by_table = zip(self.problem.tables, layer.architectural_weights(), strict=True)
        alphas = {table.table_key: [round(float(a), 6) for a in alpha] for table, alpha in by_table}
        record = {
            "step": step,
            "seconds": round(time.monotonic() - self._begin, 3),
            "loss": _mean(self._losses),
            "validation_loss": _mean(self._validation_losses),
            "dimensions": plan.dimensions,
            "total_dimensions": plan.total_dimensions,
            "parameters": plan.parameters,
            "table_bytes": self.table_bytes,
            "alpha": {field.name: alphas[field.table_key] for field in layer.fields},
            "temperature": float(layer.temperature.numpy()),
        }
        self._losses, self._validation_losses = [], []
        self.trajectory.append(record)
        if self.problem.on_check is not None:
            self.problem.on_check(record)


def _mean(losses: list[tf.Tensor]) -> float | None:
    return float(tf.reduce_mean(tf.stack(losses))) if losses else None

"""SSEDS: single-shot embedding dimension search (Qu et al., SIGIR 2022, arXiv 2204.03281).

A supernet of uniform dimensions is trained. Its columns are then ranked by how fast the loss changes with a mask that
multiplies them, alpha_ij = 1, in one pass of gradients over held-out rows:

    s_ij = |dL / d alpha_ij| / sum_ij |dL / d alpha_ij|

and those with the highest saliency are kept, as many as the budget kappa of parameters holds.

What its public texts leave open, and what is done here:
- How many rows the saliency is taken over. All of validation_data, in one pass; |dL / d alpha| is taken in each batch and
  averaged over batches by their rows. (Of the whole data the gradient is near 0 for every column of a converged model.)
- What happens to a column whose table is larger than what is left of the budget. It is skipped, cheaper ones are taken.
  The paper ranks by saliency alone, not by saliency per parameter, and so does this.
- Without a budget: `keep_share` of the supernet's parameters; the paper's headline is a reduction by 90%.
- How long the supernet is trained: `epochs` passes.
- Its matrices that bring fields of unequal dimensions to one size are this library's adapters, in search and retraining.
"""

import dataclasses
import time

import keras
import numpy as np
import tensorflow as tf

from keras_dimgrow.methods.problem import SearchProblem, SearchResult
from keras_dimgrow.methods.supernet import SupernetConfig, SupernetEmbedding, prune, train_supernet


@dataclasses.dataclass(frozen=True, kw_only=True)
class SSEDSConfig(SupernetConfig):
    """How the supernet is trained, and how much of it is kept.

    Args:
        dimension, epochs, learning_rate: see SupernetConfig.
        keep_share: share of the supernet's parameters to keep where `search` is given no budget.

    Example:
        >>> SSEDSConfig(dimension=32).keep_share
        0.1
    """

    keep_share: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_number("keep_share", 0.0, 1.0, above=True)

    def budget(self, problem: SearchProblem, layer: SupernetEmbedding) -> int:
        """kappa: the problem's budget, or `keep_share` of the supernet and at least what has to be kept."""
        if problem.max_parameters is not None:
            return problem.max_parameters
        needed = sum(table.vocabulary_size * table.min_dim for table in problem.tables)
        smallest = min(table.vocabulary_size for table in problem.tables)
        return max(int(self.keep_share * layer.plan.parameters), needed, smallest)


def column_saliency(model: keras.Model, layer: SupernetEmbedding, batches: tf.data.Dataset) -> np.ndarray:
    """s_ij of each column, flat over all tables, [columns]; they sum to 1 unless all are 0.

    Args:
        model: a model of probabilities [B, 1] that contains `layer`.
        layer: its supernet, with all gates 1.
        batches: held-out batches of (inputs, labels [B]).
    """

    @tf.function(reduce_retracing=True)
    def magnitudes(inputs, labels):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(layer.gate.value)
            probabilities = model(inputs, training=False)
            labels = tf.reshape(tf.cast(labels, probabilities.dtype), tf.shape(probabilities))
            loss = tf.reduce_mean(keras.losses.binary_crossentropy(labels, probabilities))
        return tf.abs(tape.gradient(loss, layer.gate.value)), tf.size(labels)

    total = np.zeros(sum(layer.num_columns))
    for inputs, labels in batches:
        magnitude, num_rows = magnitudes(inputs, labels)
        total += magnitude.numpy().astype(np.float64) * int(num_rows)
    return total / (total.sum() or 1.0)


def run(problem: SearchProblem, config: SSEDSConfig) -> SearchResult:
    """Trains the supernet, ranks its columns in one pass over the validation data, and prunes it once."""
    validation_data = problem.require_validation_data("sseds")
    layer = SupernetEmbedding(
        problem.fields,
        config.dimension,
        problem.model_config.adapter_width,
        problem.model_config.adapter,
        problem.seed,
        name="embedding",
    )
    model, trajectory = train_supernet(problem, layer, config, lambda: layer.num_columns)
    begin = time.monotonic()
    saliency = layer.by_table(column_saliency(model, layer, validation_data))
    result = prune(problem, layer, saliency, config.budget(problem, layer), 0.0, trajectory)
    by_key = dict(zip((table.table_key for table in problem.tables), saliency, strict=True))
    trajectory.append(
        trajectory[-1]
        | {
            "seconds": round(trajectory[-1]["seconds"] + time.monotonic() - begin, 3),
            "dimensions": result.plan.dimensions,
            "total_dimensions": result.plan.total_dimensions,
            "parameters": result.plan.parameters,
            "saliency": {field.name: by_key[field.table_key].tolist() for field in problem.fields},
        }
    )
    if problem.on_check is not None:
        problem.on_check(trajectory[-1])
    return result

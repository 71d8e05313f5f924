"""DimReg: embedding dimension search via regularisation (Zhao et al., SIAM SDM 2024).

Each column of full-size tables is multiplied by a gate g = sigmoid(15 v), trained with the model; a polarisation penalty
(Zhuang et al., NeurIPS 2020, "Neuron-level structured pruning using polarization regularizer") drives each gate either to
0 or away from the mean gate:

    L = L_task + lambda (t sum_k |g_k| - sum_k |g_k - mean(g)|)

Columns with small gates are pruned. The paper's text is not public. Form, temperature 15 and t = 1.4 follow the public code
under its name (Simpleple/DimReg), read, not copied. That code makes up to 100 passes with early stopping, optionally after
a pretraining without gates; here there are `epochs` passes, gates and model together. Hence, and for other reasons:
- v starts at 0.2 (g = 0.95), there at 1: at 1 the sigmoid is so flat (slope 5e-6) that few passes do not move a gate.
- lambda is 5e-4 by default, there 5e-5, which leaves gates undecided after three passes.
- Without a budget, gates above 0.5 are kept, there above 0.001: after three passes gates have taken sides, but the lower
  ones stand near 0.004.
- A budget is met by keeping the columns with the largest gates, one that does not fit being skipped, rather than by tuning
  lambda.
- The mean is over the gates of all searched columns of all fields, as in that code without its option of learned
  thresholds.
- Left out: a second penalty there on pairs of similar columns of one field. Of 39 fields with 16 columns it weighs about
  1% of the first one per gate, and the code takes the least similar pairs, for which we found no reason.
"""

import dataclasses

import tensorflow as tf

from keras_dimgrow.methods.columns import keep_best_columns
from keras_dimgrow.methods.problem import SearchProblem, SearchResult
from keras_dimgrow.methods.supernet import SupernetConfig, SupernetEmbedding, prune, train_supernet

TEMPERATURE = 15.0
THRESHOLD = 0.0  # of v, where g = 0.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class DimRegConfig(SupernetConfig):
    """How gates are trained and polarised.

    Args:
        dimension, epochs, learning_rate: see SupernetConfig.
        penalty: lambda, weight of the polarisation penalty.
        polarity: t; the larger, the fewer columns stay.

    Example:
        >>> DimRegConfig(penalty=1e-3).polarity
        1.4
    """

    penalty: float = 5e-4
    polarity: float = 1.4

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_number("penalty", 0.0)
        self._require_number("polarity", 0.0)


def polarisation(gates: tf.Tensor, polarity: float) -> tf.Tensor:
    """t sum_k |g_k| - sum_k |g_k - mean(g)|, a scalar; `gates` [columns]."""
    return polarity * tf.reduce_sum(tf.abs(gates)) - tf.reduce_sum(tf.abs(gates - tf.reduce_mean(gates)))


class PolarisedSupernetEmbedding(SupernetEmbedding):
    """A supernet whose gates sigmoid(15 v) are trained under the polarisation penalty.

    Args:
        config: a DimRegConfig.
        fields, adapter_width, adapter, seed: see `SupernetEmbedding`.

    Input shape, output shape: those of `PlannedEmbedding`.
    """

    initial_gate = 0.2  # v, hence g = 0.95
    trains_gates = True

    def __init__(self, config: DimRegConfig, fields, **kwargs):
        super().__init__(fields, config.dimension, **kwargs)
        self.config = config

    def gates(self) -> tf.Tensor:
        """g = sigmoid(15 v), [columns]; 1 where nothing is searched."""
        return tf.where(self.is_searched, tf.sigmoid(TEMPERATURE * self.gate.value), 1.0)

    def call(self, inputs, training=None):
        if training and self.is_searched.any():
            searched = tf.boolean_mask(self.gates(), self.is_searched)
            self.add_loss(self.config.penalty * polarisation(searched, self.config.polarity))
        return super().call(inputs)


def run(problem: SearchProblem, config: DimRegConfig) -> SearchResult:
    """Trains gates and model at once; keeps the columns with gates above 0.5 or, with a budget, the largest gates."""
    layer = PolarisedSupernetEmbedding(
        config,
        problem.fields,
        adapter_width=problem.model_config.adapter_width,
        adapter=problem.model_config.adapter,
        seed=problem.seed,
        name="embedding",
    )

    def scores():
        # v rather than g, which may round to 1: both have the same order.
        return layer.by_table(layer.gate.numpy())

    def dimensions():
        return keep_best_columns(scores(), problem.tables, problem.max_parameters, THRESHOLD)

    _, trajectory = train_supernet(problem, layer, config, dimensions)
    return prune(problem, layer, scores(), problem.max_parameters, THRESHOLD, trajectory)

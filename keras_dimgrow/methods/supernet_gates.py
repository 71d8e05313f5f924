"""Shuffle gates on full-size tables: the paper's gates without its growth, an ablation (arXiv 2505.12683, section 4.1)."""

import dataclasses

import numpy as np
import tensorflow as tf

from keras_dimgrow.methods.columns import keep_best_columns
from keras_dimgrow.methods.problem import SearchProblem, SearchResult
from keras_dimgrow.methods.supernet import SupernetConfig, SupernetEmbedding, prune, train_supernet
from keras_dimgrow.penalty import cost_weights, decay_weights
from keras_dimgrow.shuffle import SHUFFLES, add_shuffle_seed, next_seed
from keras_dimgrow.shuffle_gate import GateConfig, gate_values, mix_with_shuffled

THRESHOLD = 0.0  # of theta, where g = 0.5: d_i* = |{k: g_ik > 0.5}|, section 4.2.2


@dataclasses.dataclass(frozen=True, kw_only=True)
class SupernetGatesConfig(SupernetConfig):
    """How shuffle gates on full-size tables are trained.

    Args:
        dimension, epochs, learning_rate: see SupernetConfig.
        gate: see GateConfig; the default penalty is that of equation (2), blind to vocabulary sizes.
        use_decay: whether the penalty of a table's column k is divided by k + 1 (section 4.2.2). It is there to help new
            columns grow; columns that are all there from the beginning need no help, so that it is off by default.

    Example:
        >>> SupernetGatesConfig(epochs=5, gate=GateConfig(penalty=1e-3)).gate.penalty
        0.001
    """

    gate: GateConfig = dataclasses.field(default_factory=lambda: GateConfig(cost_exponent=0.0))
    use_decay: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require("use_decay", isinstance(self.use_decay, bool), "true or false")


class ShuffledSupernetEmbedding(SupernetEmbedding):
    """A supernet whose columns are mixed with their own shuffle in training, and multiplied by their gate in inference.

    Args:
        config: a SupernetGatesConfig.
        fields, adapter_width, adapter, seed: see `SupernetEmbedding`.

    Input shape, output shape: those of `PlannedEmbedding`.
    """

    initial_gate = 0.0  # theta, hence g = 0.5
    trains_gates = True

    def __init__(self, config: SupernetGatesConfig, fields, **kwargs):
        super().__init__(fields, config.dimension, **kwargs)
        self.config = config

    def build(self, input_shape):
        super().build(input_shape)
        self.shuffle_seed = add_shuffle_seed(self, self.seed)

    def gates(self) -> tf.Tensor:
        """g = sigmoid(tau * theta), [columns]; 1 where nothing is searched."""
        return tf.where(self.is_searched, gate_values(self.gate.value, self.config.gate.temperature), 1.0)

    def penalty_weights(self) -> np.ndarray:
        """Weight of each column's gate in equation (2), [columns]."""
        sizes = [table.vocabulary_size for table in self.searched_tables]
        costs = cost_weights(sizes, self.config.gate.cost_exponent)
        decays = [decay_weights(num) if self.config.use_decay else np.ones(num) for num in self.num_columns]
        weights = np.concatenate([cost * decay for cost, decay in zip(costs, decays, strict=True)])
        return np.where(self.is_searched, weights, 0.0).astype(np.float32)

    def call(self, inputs, training=None):
        if not training:
            return super().call(inputs)
        gates = self.gates()
        self.add_loss(self.config.gate.penalty * tf.reduce_sum(self.penalty_weights() * gates))
        q = self._concatenate(inputs)
        shuffled = SHUFFLES[self.config.gate.shuffle](q, next_seed(self.shuffle_seed))
        gates_of_q = tf.cast(tf.gather(gates, self.column_of_q()), q.dtype)
        return self._adapt(mix_with_shuffled(q, shuffled, gates_of_q), self.kernel.value)


def run(problem: SearchProblem, config: SupernetGatesConfig) -> SearchResult:
    """Trains all gates at once; keeps the columns with g > 0.5 or, with a budget, those with the highest gates."""
    layer = ShuffledSupernetEmbedding(
        config,
        problem.fields,
        adapter_width=problem.model_config.adapter_width,
        adapter=problem.model_config.adapter,
        seed=problem.seed,
        name="embedding",
    )

    def scores():
        # theta rather than g, which may round to 1: both have the same order.
        return layer.by_table(layer.gate.numpy())

    def dimensions():
        return keep_best_columns(scores(), problem.tables, problem.max_parameters, THRESHOLD)

    _, trajectory = train_supernet(problem, layer, config, dimensions)
    return prune(problem, layer, scores(), problem.max_parameters, THRESHOLD, trajectory)

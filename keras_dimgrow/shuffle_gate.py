"""The shuffle gate: how much of a dimension is needed, learned by mixing it with its own shuffle."""

import dataclasses
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from keras_dimgrow.config import Config
from keras_dimgrow.shuffle import SHUFFLES, add_shuffle_seed, next_seed


@keras.saving.register_keras_serializable("keras_dimgrow")
@dataclasses.dataclass(frozen=True, kw_only=True)
class GateConfig(Config):
    """How gates are formed and penalised.

    Args:
        penalty: alpha of equation (2), the weight of the gates' L1 penalty.
        cost_exponent: p; a field's penalty is multiplied by (V_i / mean V)^p, so that a dimension pays for the
            parameters it takes. 0 is the paper's form, which ignores vocabulary sizes.
        temperature: tau of g = sigmoid(tau * theta).
        shuffle: "cyclic" or "permutation" (Algorithm 1).

    Example:
        >>> GateConfig.from_json('{"penalty": 0.001}')
        GateConfig(penalty=0.001, cost_exponent=0.5, temperature=5.0, shuffle='cyclic')
    """

    penalty: float = 3e-4
    cost_exponent: float = 0.5
    temperature: float = 5.0
    shuffle: str = "cyclic"

    def __post_init__(self) -> None:
        self._require_number("penalty", 0.0)
        self._require_number("cost_exponent", 0.0)
        self._require_number("temperature", 0.0, above=True)
        self._require("shuffle", self.shuffle in SHUFFLES, f"one of {sorted(SHUFFLES)}")

    def get_config(self):
        """Keras serialisation, so that layers can hold a GateConfig."""
        return self.to_dict()

    @classmethod
    def from_config(cls, config):
        return cls.from_dict(config)


def gate_values(theta: tf.Tensor, temperature: float) -> tf.Tensor:
    """g = sigmoid(temperature * theta), elementwise (section 4.1.1)."""
    return tf.sigmoid(temperature * theta)


def mix_with_shuffled(s: tf.Tensor, shuffled: tf.Tensor, gates: tf.Tensor) -> tf.Tensor:
    """s* = g * s + (1 - g) * stop_gradient(shuffled): equation (1); s, shuffled [B, D], gates [D]."""
    shuffled = tf.stop_gradient(shuffled)
    return shuffled + gates * (s - shuffled)


@keras.saving.register_keras_serializable("keras_dimgrow")
class ShuffleGate(keras.layers.Layer):
    """Learns the importance of each column of a [B, D] tensor, or of each field (arXiv 2505.12683, equation (1)).

    In training, column k becomes `g_k * s_k + (1 - g_k) * shuffle(s_k)`, and `penalty * sum_k g_k` is added to the loss
    (equation (2)): gates of columns that the loss does not need go to 0, the others towards 1. In inference the input
    is multiplied by its gates. Use it on concatenated embeddings, or on features for feature selection.

    Args:
        penalty: alpha, weight of the L1 penalty on the gates.
        temperature: tau; 5 in the paper.
        shuffle: "cyclic" (default) or "permutation" (Algorithm 1).
        seed: seed of the shuffles.
        field_sizes: columns of each field, in order, D in all: the columns of one field have one gate and are shuffled
            together, as one-hot or embedded features must be. None (the default): every column by itself.

    Input shape: `[B, D]`. Output shape: the same.

    Raises:
        ValueError: for an unknown shuffle, sizes that are not positive, or input that does not have D columns.

    Example:
        >>> gate = ShuffleGate(field_sizes=[1, 3], seed=0)
        >>> gate(np.ones((2, 4), "float32")).shape, gate.gates.shape
        (TensorShape([2, 4]), TensorShape([2]))
    """

    def __init__(
        self,
        penalty: float = 1e-3,
        temperature: float = 5.0,
        shuffle: str = "cyclic",
        seed: int | None = None,
        field_sizes: Sequence[int] | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if shuffle not in SHUFFLES:
            raise ValueError(f"shuffle must be one of {sorted(SHUFFLES)}; received {shuffle!r}.")
        sizes = None if field_sizes is None else tuple(int(size) for size in field_sizes)
        if sizes is not None and min(sizes, default=0) < 1:
            raise ValueError(f"field_sizes must be positive integers; received {field_sizes!r}.")
        self.penalty = penalty
        self.temperature = temperature
        self.shuffle = shuffle
        self.seed = int(np.random.randint(2**31)) if seed is None else seed
        self.field_sizes = sizes
        self.supports_masking = True

    def build(self, input_shape):
        if len(input_shape) != 2 or input_shape[-1] is None:
            raise ValueError(f"ShuffleGate needs input of shape [B, D] with D known; received {tuple(input_shape)}.")
        if self.field_sizes is not None and sum(self.field_sizes) != input_shape[-1]:
            raise ValueError(
                f"ShuffleGate: field_sizes {list(self.field_sizes)} have {sum(self.field_sizes)} columns; received "
                f"input of shape {tuple(input_shape)}."
            )
        num_gates = input_shape[-1] if self.field_sizes is None else len(self.field_sizes)
        self.theta = self.add_weight(shape=(num_gates,), initializer="zeros", autocast=False, name="theta")
        self.shuffle_seed = add_shuffle_seed(self, self.seed)

    @property
    def gates(self):
        """The gate values g, shape [D] or, with `field_sizes`, [F], each in (0, 1)."""
        return gate_values(self.theta.value, self.temperature)

    def call(self, inputs, training=None):
        groups, gates = None, tf.cast(self.gates, inputs.dtype)
        if self.field_sizes is not None:
            groups = tf.constant(np.repeat(np.arange(len(self.field_sizes)), self.field_sizes), tf.int32)
            gates = tf.gather(gates, groups)
        if not training:
            return inputs * gates
        self.add_loss(self.penalty * tf.reduce_sum(self.gates))
        shuffled = SHUFFLES[self.shuffle](inputs, next_seed(self.shuffle_seed), groups)
        return mix_with_shuffled(inputs, shuffled, gates)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        config = {"penalty": self.penalty, "temperature": self.temperature, "shuffle": self.shuffle, "seed": self.seed}
        return super().get_config() | config | {"field_sizes": self.field_sizes}

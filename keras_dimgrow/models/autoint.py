"""AutoInt over adapted embeddings."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from keras_dimgrow.models.backbone import DeepBackbone
from keras_dimgrow.models.interactions import concat_fields
from keras_dimgrow.models.perceptron import attach, glorot, linear_layer, offset_seed


@keras.saving.register_keras_serializable("keras_dimgrow")
class InteractingLayer(keras.layers.Layer):
    """Multi-head self-attention among fields, with a residual: AutoInt's interacting layer.

    Per head `alpha_mn = softmax_n <Q h_m, K h_n>` and `sum_n alpha_mn V h_n`, all linear maps without bias and, as in
    the paper, the scores not divided by the root of the width. The output is `relu(heads side by side + R h_m)`.

    Args:
        num_heads: number of heads.
        head_width: d', width of a head.
        seed: seed of initial values.

    Input shape: `[B, F, k]`. Output shape: `[B, F, num_heads * head_width]`.
    """

    def __init__(self, num_heads: int = 2, head_width: int = 32, seed: int | None = None, **kwargs):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.head_width = head_width
        self.seed = seed

        def dense(index, name):
            return keras.layers.Dense(
                num_heads * head_width,
                use_bias=False,
                kernel_initializer=glorot(seed, index),
                dtype=self.dtype_policy,
                name=name,
            )

        self.query, self.key = dense(0, "query"), dense(1, "key")
        self.value, self.residual = dense(2, "value"), dense(3, "residual")

    def build(self, input_shape):
        for layer in (self.query, self.key, self.value, self.residual):
            layer.build(input_shape)

    def _split_heads(self, x):
        """[B, F, heads * d'] -> [B, heads, F, d']."""
        x = keras.ops.reshape(x, (-1, x.shape[1], self.num_heads, self.head_width))
        return keras.ops.transpose(x, (0, 2, 1, 3))

    def attention(self, inputs):
        """alpha: how much each field m attends to each field n, `[B, num_heads, F, F]`; sums to 1 over n."""
        keys = keras.ops.transpose(self._split_heads(self.key(inputs)), (0, 1, 3, 2))
        scores = keras.ops.matmul(self._split_heads(self.query(inputs)), keys)
        return tf.nn.softmax(scores)  # Keras's own warns where a plan keeps one field.

    def call(self, inputs):
        heads = keras.ops.matmul(self.attention(inputs), self._split_heads(self.value(inputs)))
        heads = keras.ops.reshape(keras.ops.transpose(heads, (0, 2, 1, 3)), (-1, *self._output_axes(inputs.shape)))
        return keras.ops.relu(heads + self.residual(inputs))

    def _output_axes(self, input_shape) -> tuple[int, int]:
        return input_shape[1], self.num_heads * self.head_width

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *self._output_axes(input_shape))

    def get_config(self):
        config = {"num_heads": self.num_heads, "head_width": self.head_width, "seed": self.seed}
        return super().get_config() | config


@keras.saving.register_keras_serializable("keras_dimgrow")
class AutoInt(DeepBackbone):
    """AutoInt+: interacting layers (self-attention among fields) and a perceptron over the embeddings, side by side.

    Args:
        hidden_units: width of each hidden layer of the perceptron.
        dropout: dropout rate after each hidden layer of the perceptron.
        seed: seed of initial values and dropout.
        num_layers: number of interacting layers.
        num_heads, head_width: of each interacting layer.

    Input shape: `[B, F, k]`. Output shape: `[B, 1]`, probabilities.

    Example:
        >>> AutoInt(seed=0)(keras.ops.ones((5, 3, 8))).shape
        TensorShape([5, 1])

    References:
        Song et al., AutoInt: Automatic Feature Interaction Learning via Self-Attentive Neural Networks, CIKM 2019
        (arXiv 1810.11921), equations (5) to (9); AutoInt+ and the default sizes are those of its experiments.
    """

    def __init__(
        self,
        hidden_units: Sequence[int] = (64, 32),
        dropout: float = 0.0,
        seed: int | None = None,
        num_layers: int = 3,
        num_heads: int = 2,
        head_width: int = 32,
        **kwargs,
    ):
        super().__init__(hidden_units, dropout, seed, **kwargs)
        self.num_layers = num_layers
        self.num_heads = num_heads
        self.head_width = head_width

    def build(self, input_shape):
        super().build(input_shape)
        self.interacting = [
            InteractingLayer(
                self.num_heads,
                self.head_width,
                offset_seed(self.seed, self.free_seed_index + 4 * i),
                dtype=self.dtype_policy,
                name=f"interacting_{i + 1}",
            )
            for i in range(self.num_layers)
        ]
        attach(self, self.interacting)
        shape = input_shape
        for layer in self.interacting:
            layer.build(shape)
            shape = layer.compute_output_shape(shape)
        self.linear = linear_layer(self, self.seed, 0)
        self.linear.build((None, shape[1] * shape[2]))
        self.deep.build((None, input_shape[1] * input_shape[2]))

    def terms(self, inputs, training=None):
        x = inputs
        for layer in self.interacting:
            x = layer(x)
        return self.linear(concat_fields(x)), self.deep(concat_fields(inputs), training=training)

    def get_config(self):
        config = {"num_layers": self.num_layers, "num_heads": self.num_heads, "head_width": self.head_width}
        return super().get_config() | config

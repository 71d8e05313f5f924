"""Deep & Cross Network over adapted embeddings."""

from collections.abc import Sequence

import keras

from keras_dimgrow.models.backbone import DeepBackbone
from keras_dimgrow.models.perceptron import attach, glorot, linear_layer


@keras.saving.register_keras_serializable("keras_dimgrow")
class DCN(DeepBackbone):
    """Deep & Cross Network (V2, full matrices): a cross network and a perceptron side by side.

    `x_{l+1} = x_0 * (W_l x_l + b_l) + x_l`, with x_0 the adapted embeddings; the logit is linear in the last x_l and
    the perceptron's last layer.

    Args:
        hidden_units: width of each hidden layer.
        dropout: dropout rate after each hidden layer.
        seed: seed of initial values and dropout.
        num_cross_layers: number of cross layers.

    Input shape: `[B, d_bb]`. Output shape: `[B, 1]`, probabilities.

    Example:
        >>> DCN(seed=0)(keras.ops.ones((5, 16))).shape
        TensorShape([5, 1])

    References:
        Wang et al., DCN V2, WWW 2021 (arXiv 2008.13535), equation (1), parallel structure; after Wang et
        al., Deep & Cross Network for Ad Click Predictions, 2017 (arXiv 1708.05123), whose W_l has rank one.
    """

    adapter = "joint"

    def __init__(
        self,
        hidden_units: Sequence[int] = (64, 32),
        dropout: float = 0.0,
        seed: int | None = None,
        num_cross_layers: int = 3,
        **kwargs,
    ):
        super().__init__(hidden_units, dropout, seed, **kwargs)
        self.num_cross_layers = num_cross_layers

    def build(self, input_shape):
        super().build(input_shape)
        self.crosses = [
            keras.layers.Dense(
                input_shape[1],
                kernel_initializer=glorot(self.seed, self.free_seed_index + i),
                dtype=self.dtype_policy,
                name=f"cross_{i + 1}",
            )
            for i in range(self.num_cross_layers)
        ]
        attach(self, self.crosses)
        self.linear = linear_layer(self, self.seed, 0)
        for layer in (*self.crosses, self.linear, self.deep):
            layer.build(input_shape)

    def cross(self, inputs):
        """The last x_l of the cross network, `[B, d_bb]`."""
        x = inputs
        for dense in self.crosses:
            x = inputs * dense(x) + x
        return x

    def terms(self, inputs, training=None):
        return self.linear(self.cross(inputs)), self.deep(inputs, training=training)

    def get_config(self):
        return super().get_config() | {"num_cross_layers": self.num_cross_layers}

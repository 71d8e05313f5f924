"""The linear layer and the multilayer perceptron that backbones share."""

from collections.abc import Sequence

import keras


def glorot(seed: int | None, index: int) -> keras.initializers.Initializer:
    """Initial values of the kernel number `index` of a layer with this seed."""
    return keras.initializers.GlorotUniform(seed=offset_seed(seed, index))


def offset_seed(seed: int | None, index: int) -> int | None:
    """The seed of part number `index` of a layer; None stays None."""
    return None if seed is None else seed + index


def linear_layer(owner: keras.layers.Layer, seed: int | None, index: int, name: str = "linear") -> keras.layers.Dense:
    """`[B, D] -> [B, 1]` without a bias, for a layer of this dtype policy and seed."""
    return keras.layers.Dense(
        1, use_bias=False, kernel_initializer=glorot(seed, index), dtype=owner.dtype_policy, name=name
    )


def attach(owner: keras.layers.Layer, layers: Sequence[keras.layers.Layer]) -> None:
    """Makes each layer an attribute, under its name: tf.train.Checkpoint does not look into Keras's lists."""
    for layer in layers:
        setattr(owner, layer.name, layer)


@keras.saving.register_keras_serializable("keras_dimgrow")
class Perceptron(keras.layers.Layer):
    """Hidden layers with ReLU and dropout, then one linear output without a bias.

    Args:
        hidden_units: width of each hidden layer.
        dropout: dropout rate after each hidden layer.
        seed: seed of initial values and dropout.

    Input shape: `[B, D]`. Output shape: `[B, 1]`.
    """

    def __init__(self, hidden_units: Sequence[int], dropout: float = 0.0, seed: int | None = None, **kwargs):
        super().__init__(**kwargs)
        self.hidden_units = tuple(hidden_units)
        self.dropout = dropout
        self.seed = seed

        self.hidden = [
            keras.layers.Dense(
                units,
                activation="relu",
                kernel_initializer=glorot(seed, i),
                dtype=self.dtype_policy,
                name=f"hidden_{i + 1}",
            )
            for i, units in enumerate(self.hidden_units)
        ]
        self.dropouts = [
            keras.layers.Dropout(dropout, seed=offset_seed(seed, i), dtype=self.dtype_policy, name=f"dropout_{i + 1}")
            for i in range(len(self.hidden_units))
        ]
        attach(self, (*self.hidden, *self.dropouts))
        self.linear = linear_layer(self, seed, len(self.hidden))

    def build(self, input_shape):
        shape = tuple(input_shape)
        for dense in self.hidden:
            dense.build(shape)
            shape = (*shape[:-1], dense.units)
        self.linear.build(shape)

    def call(self, inputs, training=None):
        x = inputs
        for dense, dropout in zip(self.hidden, self.dropouts, strict=True):
            x = dropout(dense(x), training=training)
        return self.linear(x)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], 1)

    def get_config(self):
        config = {"hidden_units": self.hidden_units, "dropout": self.dropout, "seed": self.seed}
        return super().get_config() | config

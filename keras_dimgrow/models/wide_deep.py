"""Wide & Deep over adapted embeddings."""

from collections.abc import Sequence

import keras


@keras.saving.register_keras_serializable("keras_dimgrow")
class WideDeep(keras.layers.Layer):
    """Wide & Deep: the sum of a linear part and a multilayer perceptron, through a sigmoid.

    The wide part is linear in the adapted embeddings, hence linear in every field's embedding: a field with one
    dimension contributes a weight per id, as in the classic wide part, without a second table.

    Args:
        hidden_units: width of each hidden layer.
        dropout: dropout rate after each hidden layer.
        seed: seed of initial values and dropout.

    Input shape: `[B, d_bb]`. Output shape: `[B, 1]`, probabilities.
    """

    def __init__(self, hidden_units: Sequence[int] = (64, 32), dropout: float = 0.0, seed: int | None = None, **kwargs):
        super().__init__(**kwargs)
        self.hidden_units = tuple(hidden_units)
        self.dropout = dropout
        self.seed = seed

        def init(index):
            return keras.initializers.GlorotUniform(seed=None if seed is None else seed + index)

        self.wide = keras.layers.Dense(1, kernel_initializer=init(0), name="wide")
        self.hidden = [
            keras.layers.Dense(units, activation="relu", kernel_initializer=init(i), name=f"hidden_{i}")
            for i, units in enumerate(self.hidden_units, start=1)
        ]
        self.dropouts = [
            keras.layers.Dropout(dropout, seed=None if seed is None else seed + i, name=f"dropout_{i}")
            for i in range(1, len(self.hidden_units) + 1)
        ]
        for layer in (*self.hidden, *self.dropouts):
            setattr(self, layer.name, layer)  # tf.train.Checkpoint does not look into Keras's lists
        self.deep = keras.layers.Dense(1, use_bias=False, kernel_initializer=init(len(self.hidden) + 1), name="deep")

    def build(self, input_shape):
        self.wide.build(input_shape)
        shape = tuple(input_shape)
        for dense in self.hidden:
            dense.build(shape)
            shape = (*shape[:-1], dense.units)
        self.deep.build(shape)

    def call(self, inputs, training=None):
        x = inputs
        for dense, dropout in zip(self.hidden, self.dropouts, strict=True):
            x = dropout(dense(x), training=training)
        return keras.ops.sigmoid(keras.ops.cast(self.wide(inputs) + self.deep(x), "float32"))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], 1)

    def get_config(self):
        config = {"hidden_units": self.hidden_units, "dropout": self.dropout, "seed": self.seed}
        return super().get_config() | config

"""What all backbones share: the shapes they take, and the sigmoid of a sum of terms that they give."""

from collections.abc import Sequence

import keras

from keras_dimgrow.models.perceptron import Perceptron, offset_seed

INPUTS = {"joint": "[B, d_bb]", "per_field": "[B, F, k]"}


class Backbone(keras.layers.Layer):
    """From adapted embeddings to probabilities: `sigmoid(bias + sum of terms)`, in float32 whatever the dtype policy.

    A subclass says which adapter it takes, makes its layers in `build` and gives `terms`.

    Args:
        seed: seed of initial values and dropout.

    Input shape: `[B, d_bb]` if `adapter` is "joint", `[B, F, k]` if it is "per_field"; all but B are known.
    Output shape: `[B, 1]`, probabilities.
    """

    adapter = "per_field"

    def __init__(self, seed: int | None = None, **kwargs):
        super().__init__(**kwargs)
        self.seed = seed

    def build(self, input_shape):
        shape, expected = tuple(input_shape), INPUTS[self.adapter]
        if len(shape) != expected.count(",") + 1 or None in shape[1:]:
            raise ValueError(
                f"{self.name}: received input of shape {shape}; {type(self).__name__} takes {expected} with all but B "
                f"known, from an embedding with adapter={self.adapter!r}."
            )
        # Without autocast: the bias carries the base rate, to which half precision would give three digits.
        self.bias = self.add_weight(shape=(1,), initializer="zeros", autocast=False, name="bias")

    def terms(self, inputs, training=None):
        """The terms of the logit, each `[B, 1]`."""
        raise NotImplementedError

    def call(self, inputs, training=None):
        logits = sum(keras.ops.cast(term, "float32") for term in self.terms(inputs, training))
        return keras.ops.sigmoid(logits + keras.ops.cast(self.bias, "float32"))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], 1)

    def compute_output_spec(self, inputs, training=None):
        return keras.KerasTensor(self.compute_output_shape(inputs.shape), dtype="float32")

    def get_config(self):
        return super().get_config() | {"seed": self.seed}


class DeepBackbone(Backbone):
    """A backbone with a perceptron, `deep`.

    Args:
        hidden_units: width of each hidden layer.
        dropout: dropout rate after each hidden layer.
        seed: seed of initial values and dropout.
    """

    def __init__(self, hidden_units: Sequence[int] = (64, 32), dropout: float = 0.0, seed: int | None = None, **kwargs):
        super().__init__(seed, **kwargs)
        self.hidden_units = tuple(hidden_units)
        self.dropout = dropout
        self.deep = Perceptron(
            self.hidden_units, dropout, seed=offset_seed(seed, 1), dtype=self.dtype_policy, name="deep"
        )

    @property
    def free_seed_index(self) -> int:
        """The first index for `glorot` that neither the linear term (0) nor the perceptron uses."""
        return len(self.hidden_units) + 2

    def get_config(self):
        return super().get_config() | {"hidden_units": self.hidden_units, "dropout": self.dropout}

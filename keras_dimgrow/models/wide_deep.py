"""Wide & Deep over adapted embeddings."""

import keras

from keras_dimgrow.models.backbone import DeepBackbone
from keras_dimgrow.models.perceptron import linear_layer


@keras.saving.register_keras_serializable("keras_dimgrow")
class WideDeep(DeepBackbone):
    """Wide & Deep: the sum of a linear part and a multilayer perceptron, through a sigmoid.

    The wide part is linear in the adapted embeddings, hence linear in every field's embedding: a field with one
    dimension contributes a weight per id, as in the classic wide part, without a second table.

    Args:
        hidden_units: width of each hidden layer.
        dropout: dropout rate after each hidden layer.
        seed: seed of initial values and dropout.

    Input shape: `[B, d_bb]`. Output shape: `[B, 1]`, probabilities.

    Example:
        >>> WideDeep(seed=0)(keras.ops.ones((5, 16))).shape
        TensorShape([5, 1])

    References:
        Cheng et al., Wide & Deep Learning for Recommender Systems, 2016 (arXiv 1606.07792), equation (3).
    """

    adapter = "joint"

    def build(self, input_shape):
        super().build(input_shape)
        self.wide = linear_layer(self, self.seed, 0, "wide")
        self.wide.build(input_shape)
        self.deep.build(input_shape)

    def terms(self, inputs, training=None):
        return self.wide(inputs), self.deep(inputs, training=training)

"""Factorisation machine over adapted embeddings."""

import keras

from keras_dimgrow.models.backbone import Backbone
from keras_dimgrow.models.interactions import concat_fields, sum_pair_products
from keras_dimgrow.models.perceptron import linear_layer


@keras.saving.register_keras_serializable("keras_dimgrow")
class FM(Backbone):
    """Factorisation machine: `sigmoid(w_0 + sum_i <w_i, h_i> + sum_{i<j} <h_i, h_j>)`.

    The first-order term is linear in the adapted embeddings h_i, hence in every field's embedding: there is no second
    table with a weight per id, as in `WideDeep`.

    Args:
        seed: seed of initial values.

    Input shape: `[B, F, k]`. Output shape: `[B, 1]`, probabilities.

    Example:
        >>> FM(seed=0)(keras.ops.ones((5, 3, 8))).shape
        TensorShape([5, 1])

    References:
        Rendle, Factorization Machines, ICDM 2010, equation (1) and lemma 3.1.
    """

    def build(self, input_shape):
        super().build(input_shape)
        self.linear = linear_layer(self, self.seed, 0)
        self.linear.build((None, input_shape[1] * input_shape[2]))

    def terms(self, inputs, training=None):
        return self.linear(concat_fields(inputs)), sum_pair_products(inputs)
